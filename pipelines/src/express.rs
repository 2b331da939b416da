//! The short way through the graph, for what most packets are: untagged, between two ordinary addresses, forwarded.
//!
//! ```text
//! received -> admit [and npt66-in] -> look up -> finish: hop limit, MTU, [npt66-out], link header -> transmit
//!                       |                           |
//!                       +---------------------------+-- everything else: the nodes of the graph, or where they say
//! ```
//!
//! It does what ingress, NPT66, lookup and egress do, with the same functions wherever a packet is not common, in three
//! loops instead of five, and keeps no record beside a frame: that of a common packet is [`PortTable::start`]. A packet
//! leaves the short way with the record it would have on the long one. The graph of nodes stays, for tagged interfaces and
//! for packets that are traced, and as the twin: `tests/graph/express.rs` compares the two.
//!
//! Packets of one flow stay in order: they are all common, or all not, but for those that are dropped or answered.

use arrayvec::ArrayVec;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::node::Node;
use dataplane::port::PortId;
use dataplane::wire::{ethernet, ipv6};

use crate::egress::{self, Egress};
use crate::fib::{self, HOP_LIMIT, Lookup};
use crate::ingress::{self, Ingress};
use crate::meta::{Meta, NO_RULE, Next};
use crate::npt66::node::{Amount, Inbound, Outbound, Walk};
use crate::tables::{PortTable, Tables};

/// Offset of the IPv6 header of an untagged frame.
const L3: usize = ethernet::HEADER_LEN;

/// Where finished frames go.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Finished {
    /// One bit for each port by which some leave.
    pub(crate) ports: u32,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
}

/// Scratch space: what the loops tell each other of frame `i`.
pub(crate) struct Express {
    destinations: [[u8; 16]; BURST_MAX],
    leaves: [u32; BURST_MAX],
    /// NPT66 rule by which the destination was translated.
    rules_in: [u16; BURST_MAX],
    /// One bit for each port whose last burst had packets for an uplink with rules.
    uplinks_behind: u32,
    /// Frames that leave the short way, in their order.
    leaving: ArrayVec<(u8, Next, Meta), BURST_MAX>,
}

impl Express {
    pub(crate) fn new() -> Self {
        Self {
            destinations: [[0; 16]; BURST_MAX],
            leaves: [0; BURST_MAX],
            rules_in: [NO_RULE; BURST_MAX],
            uplinks_behind: 0,
            leaving: ArrayVec::new(),
        }
    }

    /// Take a received burst as far as the short way goes. What stays in `burst` is finished, frame `i` for the port of
    /// [`Express::leaf`]; what does not is in `diverted`, where [`Next::Continue`] means: admitted, and for the nodes after
    /// ingress.
    #[inline(always)] // one caller, and the frame's type is known there
    pub(crate) fn run<F: Frame>(
        &mut self,
        tables: &Tables,
        (ingress, port): (PortId, &PortTable),
        burst: &mut Burst<F>,
        counters: &WorkerCounters,
        diverted: &mut Vec<(Next, F, Meta)>,
    ) -> Finished {
        let count = |node: usize, frames: usize| {
            counters.nodes[node].calls.add(1);
            counters.nodes[node].frames.add(frames as u64); // `as`: at most BURST_MAX
        };
        count(<Ingress<'_> as Node<F>>::INDEX, burst.len());
        if port.has_rules {
            count(<Inbound<'_> as Node<F>>::INDEX, burst.len());
            self.admit::<F, true>(tables, port, burst, counters);
        } else {
            self.admit::<F, false>(tables, port, burst, counters);
        }
        if !self.leaving.is_empty() {
            self.part(burst, diverted);
        }
        if burst.is_empty() {
            return Finished::default();
        }
        count(<Lookup as Node<F>>::INDEX, burst.len());
        let destinations = &self.destinations[..burst.len()];
        let leaves = &mut self.leaves[..burst.len()];
        tables.fib(port.start.vrf).lookup_bulk(destinations, leaves);
        // Most likely this burst is like the one before; either loop does for all.
        let bit = 1 << ingress.index();
        let (finished, translated) = if self.uplinks_behind & bit != 0 {
            self.finish::<F, true>(tables, port, burst, counters)
        } else {
            self.finish::<F, false>(tables, port, burst, counters)
        };
        if translated {
            self.uplinks_behind |= bit;
        } else {
            self.uplinks_behind &= !bit;
        }
        if !self.leaving.is_empty() {
            self.part(burst, diverted);
        }
        if translated {
            count(<Outbound<'_> as Node<F>>::INDEX, burst.len());
        }
        count(<Egress as Node<F>>::INDEX, burst.len());
        finished
    }

    /// The next hop of finished frame `index`.
    #[inline]
    pub(crate) fn leaf(&self, index: usize) -> u32 {
        self.leaves[index]
    }

    /// First loop: is it common, and where does it go? `IN`: translate the destination first.
    #[inline(always)]
    fn admit<F: Frame, const IN: bool>(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) {
        let rule_set = tables.interface(port.start.interface).rule_set;
        let mut walk = Walk::<false>::new(tables, counters);
        let mut so_far = (0, 0);
        let notes = self.destinations.iter_mut().zip(&mut self.rules_in);
        for (index, (frame, (destination, rule_in))) in frames.iter_mut().zip(notes).enumerate() {
            let is_common = ingress::is_common(port, frame);
            let bytes = frame.bytes_mut();
            let len = bytes.len() as u64; // `as`: a frame's length
            if is_common && let Some(header) = header_mut(bytes) {
                if !IN {
                    *destination = destination_of(header);
                    continue;
                }
                if let Some(mapped) = walk.common(rule_set, header, so_far) {
                    for (half, mapped) in destination.chunks_exact_mut(8).zip(mapped) {
                        half.copy_from_slice(&mapped.to_ne_bytes());
                    }
                    *rule_in = walk.number();
                    so_far = (so_far.0 + 1, so_far.1 + len);
                    continue;
                }
            }
            let mut meta = port.start;
            match admit_odd::<F, IN>(tables, port, frame, &mut meta, &mut walk, so_far) {
                Ok(()) => {
                    let header = header_mut(frame.bytes_mut());
                    *destination = header.map_or([0; 16], |header| destination_of(header));
                    *rule_in = meta.rule_in;
                }
                // `as`: below BURST_MAX
                Err(next) => self.leaving.push((index as u8, next, meta)),
            }
        }
        walk.finish(so_far);
    }

    /// Last loop: whatever remains to be done to a packet whose leaf is known. `OUT`: packets for uplinks with rules are
    /// common. Also tells whether there are such.
    #[inline(always)]
    fn finish<F: Frame, const OUT: bool>(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> (Finished, bool) {
        let mut walk = Walk::<true>::new(tables, counters);
        let (mut ports, mut total, mut rule_sets) = (0, 0, 0);
        // What of the packets before `index`, and of `total`, the walk has not translated.
        let mut others = (0, 0);
        // By index: three iterators side by side would take the registers that the loop needs.
        for index in 0..frames.len().min(BURST_MAX) {
            let bytes = frames[index].bytes_mut();
            let len = bytes.len();
            let next_hop = tables.next_hop(self.leaves[index]);
            let translated = |others: Amount| match OUT {
                true => (index as u64 - others.0, total - others.1), // `as`: below BURST_MAX
                false => (0, 0),
            };
            let most = if OUT {
                next_hop.express_max
            } else {
                next_hop.express_max_untranslated
            };
            if len <= usize::from(most)
                && let Some((link, rest)) = bytes.split_first_chunk_mut::<L3>()
                && let Some(header) = rest.first_chunk_mut::<{ ipv6::HEADER_LEN }>()
                && header[HOP_LIMIT] > 1
                && (!OUT
                    || next_hop.rule_set == 0
                    || walk
                        .common(next_hop.rule_set, header, translated(others))
                        .is_some())
            {
                link.copy_from_slice(&next_hop.link[..L3]);
                header[HOP_LIMIT] -= 1;
                if OUT {
                    rule_sets |= next_hop.rule_set;
                    if next_hop.rule_set == 0 {
                        others = (others.0 + 1, others.1 + len as u64);
                    }
                }
                ports |= next_hop.port_bit;
                total += len as u64;
                continue;
            }
            let rule_in = port.has_rules.then_some(self.rules_in[index]);
            let mut meta = Meta {
                next_hop: self.leaves[index],
                rule_in: rule_in.unwrap_or(NO_RULE),
                ..port.start
            };
            let frame = &mut frames[index];
            match finish_odd(tables, frame, &mut meta, &mut walk, translated(others)) {
                Ok(()) => {
                    self.leaves[index] = meta.next_hop;
                    let next_hop = tables.next_hop(meta.next_hop);
                    rule_sets |= next_hop.rule_set;
                    ports |= next_hop.port_bit;
                    let len = frame.bytes().len() as u64;
                    total += len;
                    others = (others.0 + 1, others.1 + len);
                }
                Err(next) => {
                    self.leaving.push((index as u8, next, meta)); // `as`: below BURST_MAX
                    others.0 += 1;
                }
            }
        }
        if OUT {
            walk.finish((frames.len() as u64 - others.0, total - others.1));
        }
        let finished = Finished {
            ports,
            bytes: total,
        };
        (finished, rule_sets != 0)
    }

    /// Move the frames that leave to `diverted`, and close the ranks of the others.
    #[cold]
    #[inline(never)]
    fn part<F: Frame>(&mut self, burst: &mut Burst<F>, diverted: &mut Vec<(Next, F, Meta)>) {
        let mut leaving = self.leaving.drain(..).peekable();
        for (index, frame) in std::mem::take(burst).into_iter().enumerate() {
            if let Some((_, next, meta)) = leaving.next_if(|(left, ..)| usize::from(*left) == index)
            {
                diverted.push((next, frame, meta));
                continue;
            }
            let kept = burst.len();
            self.destinations[kept] = self.destinations[index];
            self.leaves[kept] = self.leaves[index];
            self.rules_in[kept] = self.rules_in[index];
            burst.push(frame);
        }
    }
}

/// What `ingress` and `npt66-in` make of a packet that is not common. An error is where it goes instead: with
/// [`Next::Continue`] to the nodes after ingress, because it is tagged or must not leave its link.
#[cold]
#[inline(never)]
fn admit_odd<F: Frame, const IN: bool>(
    tables: &Tables,
    port: &PortTable,
    frame: &mut F,
    meta: &mut Meta,
    walk: &mut Walk<'_, false>,
    so_far: Amount,
) -> Result<(), Next> {
    let next = ingress::admit(tables, port, frame, meta);
    if next != Next::Continue || !meta.is_like(&port.start) {
        return Err(next);
    }
    if IN {
        let rule_set = tables.interface(meta.interface).rule_set;
        walk.uncommon(rule_set, frame, meta, so_far)?;
    }
    Ok(())
}

/// What `ip6-lookup`, `npt66-out` and `egress` make of a packet that is not common: a group's member, a host on the link,
/// another link header. An error is where it goes instead.
#[cold]
#[inline(never)]
fn finish_odd<F: Frame>(
    tables: &Tables,
    frame: &mut F,
    meta: &mut Meta,
    walk: &mut Walk<'_, true>,
    so_far: Amount,
) -> Result<(), Next> {
    match fib::exceptional(tables, frame.bytes(), meta) {
        Next::Continue => {}
        next => return Err(next),
    }
    let next_hop = tables.next_hop(meta.next_hop);
    if next_hop.rule_set != 0 {
        walk.uncommon(next_hop.rule_set, frame, meta, so_far)?;
    }
    egress::rewrite(next_hop, frame, meta)
}

/// The IPv6 header of an untagged frame.
#[inline(always)]
fn header_mut(bytes: &mut [u8]) -> Option<&mut [u8; ipv6::HEADER_LEN]> {
    bytes.get_mut(L3..)?.first_chunk_mut()
}

#[inline(always)]
fn destination_of(header: &[u8; ipv6::HEADER_LEN]) -> [u8; 16] {
    *header.last_chunk().expect("16 of 40 bytes")
}
