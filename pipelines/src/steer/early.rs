//! Fragments that came before the first one of their packet, which alone says where they go (RFC 8200 4.5): they wait for
//! it, at most so many and so long. Then they go through the graph once more, with it or without it.
//!
//! Owned by one worker: all fragments of a packet come to one.

use std::collections::VecDeque;

use dataplane::frame::Frame;

use super::flow::{self, Role};
use super::memory::Memory;
use super::view::Steer;
use super::{full, returns};
use crate::fib::Kind;
use crate::meta::Meta;
use crate::tables::Tables;

/// Fragments that wait at a time: of four of the largest packets that are cut for the least MTU of IPv6 (RFC 8200 5).
pub(crate) const FRAGMENTS_MAX: usize = 256;
/// Seconds of the clock that one waits: two at least (RFC 6146 4).
const PATIENCE: u16 = 3;

/// One that waits.
struct Waiting<F> {
    frame: F,
    meta: Meta,
    /// Where its first one will be remembered.
    spot: u64,
    since: u16,
}

/// All of one worker, in the order in which they came.
pub(crate) struct Early<F> {
    waiting: VecDeque<Waiting<F>>,
    /// Some of them may have their first one now.
    any_first: bool,
}

impl<F: Frame> Early<F> {
    /// None, and room for as many as there may be.
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(FRAGMENTS_MAX),
            any_first: false,
        }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Let a fragment wait. What cannot wait comes back, to go on as it is: this one, or the one that waited longest if there
    /// is no room.
    #[must_use]
    pub(crate) fn hold(&mut self, tables: &Tables, frame: F, meta: Meta) -> Option<(F, Meta)> {
        let meta = Meta {
            has_waited: true,
            ..meta
        };
        let waiting = tables.steer.as_ref().and_then(|steer| {
            let packet = frame.bytes().get(meta.l3_offset()..)?;
            Some((spot_of(tables, steer, &meta, packet)?, steer.now()))
        });
        let Some((spot, since)) = waiting else {
            return Some((frame, meta));
        };
        let displaced = match self.waiting.len() {
            FRAGMENTS_MAX => self.waiting.pop_front(),
            _ => None,
        };
        self.waiting.push_back(Waiting {
            frame,
            meta,
            spot,
            since,
        });
        displaced.map(|waiting| (waiting.frame, waiting.meta))
    }

    /// Give `room` at most away that need not wait any more: whose first one has come, or whose time is over.
    #[cold]
    pub(crate) fn release(
        &mut self,
        tables: &Tables,
        memory: &Memory,
        mut room: usize,
        mut take: impl FnMut(F, Meta),
    ) {
        self.any_first |= memory.take_any_first();
        let steer = tables.steer.as_ref();
        let is_over = |waiting: &Waiting<F>| {
            steer.is_none_or(|steer| steer.now().wrapping_sub(waiting.since) >= PATIENCE)
        };
        if room == 0 || !self.any_first && !self.waiting.front().is_some_and(is_over) {
            return;
        }
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else {
                return;
            };
            let has_first = steer.is_some_and(|steer| steer.has_first(memory, waiting.spot));
            if room > 0 && (has_first || is_over(&waiting)) {
                room -= 1;
                take(waiting.frame, waiting.meta);
            } else {
                self.waiting.push_back(waiting);
            }
        }
        // Without room there may be more, for the next call.
        self.any_first &= room == 0;
    }

    /// Give all of them away.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = F> {
        self.waiting.drain(..).map(|waiting| waiting.frame)
    }
}

/// Where the first one of a fragment will be remembered: of one to a service, or of what a server answers.
fn spot_of(tables: &Tables, steer: &Steer, meta: &Meta, packet: &[u8]) -> Option<u64> {
    let leaf = tables.next_hop(meta.next_hop);
    if leaf.kind == Kind::Return {
        return full::spot_of_answer(steer, packet);
    }
    if !leaf.is_steered() {
        return returns::spot_of_answer(steer, packet);
    }
    let read = flow::read(packet).filter(|read| read.role == Role::Later)?;
    Some(steer.spot_of_fragments(&read, read.fragment?))
}
