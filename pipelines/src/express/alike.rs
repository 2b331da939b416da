//! The loops for bursts whose packets are alike, as most are: all common, all to one next hop, all by one rule.
//!
//! They call nothing, so that what they need stands in registers, and end at the first packet that is not so; the loop that
//! knows everything goes on from there.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::wire::ipv6;

use super::{Express, Finished, L3, destination_of, header_mut};
use crate::fib::{HOP_LIMIT, NextHop};
use crate::ingress;
use crate::npt66::node;
use crate::npt66::{Direction, Quick, translate_common};
use crate::tables::{PortTable, Tables};
use crate::words::joined;

/// The first frames of a burst, which are finished.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common {
    pub(crate) frames: usize,
    pub(crate) finished: Finished,
}

impl Common {
    pub(super) const NONE: Self = Self {
        frames: 0,
        finished: Finished {
            marks: 0,
            bytes: 0,
            any_oversize: false,
        },
    };

    /// So many, to the same next hop.
    #[inline(always)]
    pub(super) fn of(next_hop: &NextHop, frames: usize, bytes: u64) -> Self {
        let finished = Finished {
            marks: if frames > 0 { next_hop.marks } else { 0 },
            bytes,
            any_oversize: false,
        };
        Self { frames, finished }
    }

    /// And these behind them.
    #[inline(always)]
    pub(super) fn add(&mut self, next: Self) {
        self.frames += next.frames;
        self.finished.marks |= next.finished.marks;
        self.finished.bytes += next.finished.bytes;
        self.finished.any_oversize |= next.finished.any_oversize;
    }
}

impl Express {
    /// First loop: is it common, and where does it go? `IN`: it came in by an uplink, and its destination is translated. This
    /// one ends at the first frame that is not common, and says which; so it calls nothing, and what it needs stands in
    /// registers.
    #[inline(always)]
    pub(super) fn admit_alike<F: Frame, const IN: bool>(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> usize {
        let (mut number, mut quick) = (0, Quick::NONE);
        if IN {
            let set = tables.interface(port.start.interface).rule_set;
            let Some(only) = node::only(tables, set, Direction::In) else {
                return 0;
            };
            (number, quick) = only;
        }
        let (mut common, mut sum) = (0, 0);
        for (frame, destination) in frames.iter_mut().zip(&mut self.destinations) {
            // Whatever a rule covers is an ordinary destination.
            let is_common = match IN {
                true => ingress::is_common_but_for_destination(port, frame),
                false => ingress::is_common(port, frame),
            };
            if !is_common {
                break;
            }
            let bytes = frame.bytes_mut();
            let len = bytes.len();
            let Some(header) = header_mut(bytes) else {
                break;
            };
            if IN {
                let Some(mapped) = translate_common(&quick, Direction::In, header) else {
                    break;
                };
                *destination = joined(mapped);
                sum += len as u64; // `as`: a frame's length
            } else {
                *destination = destination_of(header);
            }
            common += 1;
        }
        if IN && common > 0 {
            self.rules_in[..common].fill(number);
            node::count_all(counters, (Direction::In, number), common, sum);
        }
        common
    }

    /// Whether all of so many frames have the same leaf, as most bursts do.
    #[inline(always)]
    pub(super) fn go_one_way(&self, frames: usize) -> bool {
        let leaves = &self.leaves[..frames];
        leaves.iter().fold(0, |all, leaf| all | (leaf ^ leaves[0])) == 0
    }

    /// Last loop, for frames that all have the leaf of the first: whatever remains to be done to a packet. It ends at the
    /// first frame that is not common, like [`Express::admit_alike`].
    #[inline(always)]
    pub(super) fn finish_alike<F: Frame>(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> Common {
        let next_hop = tables.next_hop(self.leaves[0]);
        if next_hop.rule_set == 0 {
            let (frames, bytes) = send_on(frames, next_hop, |_| true);
            return Common::of(next_hop, frames, bytes);
        }
        let Some((number, quick)) = node::only(tables, next_hop.rule_set, Direction::Out) else {
            return Common::NONE;
        };
        let (frames, bytes) = send_on(frames, next_hop, |header| {
            translate_common(&quick, Direction::Out, header).is_some()
        });
        if frames > 0 {
            node::count_all(counters, (Direction::Out, number), frames, bytes);
        }
        Common::of(next_hop, frames, bytes)
    }
}

/// Link header and hop limit of packets to one next hop, as far as they are common and `translate` does what it has to;
/// how many, and their bytes.
#[inline(always)]
fn send_on<F: Frame>(
    frames: &mut [F],
    next_hop: &NextHop,
    translate: impl Fn(&mut [u8; ipv6::HEADER_LEN]) -> bool,
) -> (usize, u64) {
    let most = usize::from(next_hop.express_max);
    let link: [u8; L3] = *next_hop.plain_link();
    let (mut common, mut sum) = (0, 0);
    for frame in frames {
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let Some((front, rest)) = bytes.split_first_chunk_mut::<L3>() else {
            break;
        };
        let Some(header) = rest.first_chunk_mut() else {
            break;
        };
        if len > most || header[HOP_LIMIT] <= 1 || !translate(header) {
            break;
        }
        *front = link;
        header[HOP_LIMIT] -= 1;
        sum += len as u64; // `as`: a frame's length
        common += 1;
    }
    (common, sum)
}
