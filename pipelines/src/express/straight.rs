//! One loop from a received frame to a finished one, for a burst that goes straight through: every packet common, to the
//! addresses around the first one's that have its answer, and by one rule if by any.
//!
//! It is what most bursts are at a site with few routes. A packet's header is touched once, and its destination is compared
//! with two ends instead of being looked up. Nothing is written to a packet before all is known of it, so the first that is
//! not so is as it was received, and the loops that know more begin there.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::node::Node;
use dataplane::port::PortId;
use dataplane::table::lpm::Range;

use super::alike::Common;
use super::decapsulated::{decapsulate, is_for_us};
use super::known::Known;
use super::{Express, L3, header_of};
use crate::egress::Egress;
use crate::fib::{HOP_LIMIT, Lookup, NextHop};
use crate::ingress::{self, Ingress, ORDINARY};
use crate::lisp::node::Decap;
use crate::lisp::table::LEAF;
use crate::npt66::node::{self, Inbound, Outbound};
use crate::npt66::{self, Direction, Quick};
use crate::steer::memory::Memory;
use crate::tables::{PortTable, Tables};

impl Express {
    /// The first frames of a burst, as far as they go straight through, or to one service; [`Express::leaf`] says by which next
    /// hop each. All others are as they were received. Looks only where the port's last burst was alike.
    #[inline(always)]
    pub(crate) fn go_straight<F: Frame>(
        &mut self,
        tables: &Tables,
        (ingress, port): (PortId, &PortTable),
        memory: &Memory,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> Common {
        let bit = 1 << ingress.index();
        let behind = self.alike_behind | self.served_behind | self.encapsulated_behind;
        if behind & bit == 0 {
            return Common::NONE;
        }
        let (lisp, opens) = (tables.lisp.as_ref(), tables.opens(port));
        let common = if self.encapsulated_behind & bit != 0 {
            lisp.and_then(|lisp| self.encapsulate(tables, lisp, (ingress, port), frames, counters))
        } else if let Some(lisp) = opens
            && frames.first().is_some_and(|first| is_for_us(lisp, first))
        {
            let known = &mut self.known;
            decapsulate(tables, lisp, (ingress, port, known), frames, counters)
        } else if self.served_behind & bit != 0 {
            self.serve(tables, (ingress, port), memory, frames, counters)
        } else if port.has_servers || (port.has_rules && opens.is_some()) {
            None
        } else if port.has_rules {
            straight_in(tables, (ingress, port, &mut self.known), frames, counters)
        } else {
            straight_out(tables, (ingress, port, &mut self.known), frames, counters)
        };
        let common = common.unwrap_or(Common::NONE);
        if common.frames < frames.len() {
            self.alike_behind &= !bit;
            self.served_behind &= !bit;
            self.encapsulated_behind &= !bit;
        }
        if common.frames > 0 {
            let count = |node: usize| {
                counters.nodes[node].calls.add(1);
                counters.nodes[node].frames.add(common.frames as u64); // `as`: at most BURST_MAX
            };
            count(<Ingress<'_> as Node<F>>::INDEX);
            if opens.is_some() {
                count(<Decap<'_> as Node<F>>::INDEX);
            }
            if port.has_rules {
                count(<Inbound<'_> as Node<F>>::INDEX);
            }
            count(<Lookup as Node<F>>::INDEX);
            if common.finished.is_translated() {
                count(<Outbound<'_> as Node<F>>::INDEX);
            }
            count(<Egress as Node<F>>::INDEX);
        }
        common
    }
}

/// From an uplink to an interface without rules.
#[inline(always)]
fn straight_in<F: Frame>(
    tables: &Tables,
    (ingress, port, known): (PortId, &PortTable, &mut Known),
    frames: &mut [F],
    counters: &WorkerCounters,
) -> Option<Common> {
    let set = tables.interface(port.start.interface).rule_set;
    let (number, quick) = node::only(tables, set, Direction::In)?;
    let first = npt66::counterpart(&quick, Direction::In, header_of(frames.first()?)?)?;
    // What follows its first 64 bits does not matter where a range is found.
    let mut destination = [0; 16];
    destination[..8].copy_from_slice(&first);
    let (next_hop, range) = way(tables, (ingress, port, known), &destination)?;
    if next_hop.rule_set != 0 {
        return None;
    }
    let (frames, bytes) = finish::<F, true, false>(port, (next_hop, range), &quick, frames);
    if frames > 0 {
        node::count_all(counters, (Direction::In, number), frames, bytes);
    }
    Some(Common::of(next_hop, frames, bytes))
}

/// To anywhere, by a rule if it leaves by an uplink.
#[inline(always)]
fn straight_out<F: Frame>(
    tables: &Tables,
    (ingress, port, known): (PortId, &PortTable, &mut Known),
    frames: &mut [F],
    counters: &WorkerCounters,
) -> Option<Common> {
    let first = header_of(frames.first()?)?.last_chunk()?;
    let (next_hop, range) = way(tables, (ingress, port, known), first)?;
    let range = range.within(ORDINARY.0, ORDINARY.1)?;
    if tables
        .opens(port)
        .is_some_and(|lisp| lisp.has_rloc_in(&range))
    {
        return None;
    }
    let way = (next_hop, range);
    if next_hop.rule_set == 0 {
        let (frames, bytes) = finish::<F, false, false>(port, way, &Quick::NONE, frames);
        return Some(Common::of(next_hop, frames, bytes));
    }
    let (number, quick) = node::only(tables, next_hop.rule_set, Direction::Out)?;
    let (frames, bytes) = finish::<F, false, true>(port, way, &quick, frames);
    if frames > 0 {
        node::count_all(counters, (Direction::Out, number), frames, bytes);
    }
    Some(Common::of(next_hop, frames, bytes))
}

/// The next hop of an address, and which addresses around it have the same; `None`: it is no neighbour, or who has it is
/// not known by their first 64 bits.
#[inline(always)]
fn way<'t>(
    tables: &'t Tables,
    (ingress, port, known): (PortId, &PortTable, &mut Known),
    destination: &[u8; 16],
) -> Option<(&'t NextHop, Range)> {
    let range = known.range(ingress, tables.fib(port.start.vrf), destination)?;
    if range.leaf() & LEAF != 0 {
        return None;
    }
    Some((tables.next_hop(range.leaf()), range))
}

/// All that is done to packets that are common and to addresses of `range`; how many, and their bytes. `IN`: the destination
/// is translated, before that is asked; `OUT`: the source is.
#[inline(always)]
fn finish<F: Frame, const IN: bool, const OUT: bool>(
    port: &PortTable,
    (next_hop, range): (&NextHop, Range),
    quick: &Quick,
    frames: &mut [F],
) -> (usize, u64) {
    let most = usize::from(next_hop.express_max);
    let link: [u8; L3] = *next_hop.plain_link();
    let (mut common, mut sum) = (0, 0);
    for frame in frames {
        if !ingress::is_common_but_for_destination(port, frame) {
            break;
        }
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let Some((front, rest)) = bytes.split_first_chunk_mut::<L3>() else {
            break;
        };
        let Some(header) = rest.first_chunk_mut() else {
            break;
        };
        if len > most || header[HOP_LIMIT] <= 1 {
            break;
        }
        let direction = if IN { Direction::In } else { Direction::Out };
        let mut mapped = [0; 8];
        if IN || OUT {
            match npt66::counterpart(quick, direction, header) {
                Some(found) => mapped = found,
                None => break,
            }
        }
        let destination = match IN {
            true => mapped,
            false => *header[24..].first_chunk().expect("8 bytes of 16"),
        };
        if !range.contains(u64::from_be_bytes(destination)) {
            break;
        }
        if IN || OUT {
            npt66::put(direction, header, mapped);
        }
        *front = link;
        header[HOP_LIMIT] -= 1;
        sum += len as u64; // `as`: a frame's length
        common += 1;
    }
    (common, sum)
}
