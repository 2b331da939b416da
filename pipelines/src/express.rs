//! The short way through the graph, for what most packets are: untagged, between two ordinary addresses, forwarded.
//!
//! ```text
//! received -> admit [and npt66-in] -> look up -> finish: hop limit, MTU, [npt66-out], link header -> transmit
//!                       |                           |
//!                       +---------------------------+-- everything else: the nodes of the graph, or where they say
//! ```
//!
//! A burst that is alike goes shorter ways still, as far as it is: `straight`, `served`; and in steps that are `alike`.
//!
//! It does what ingress, NPT66, lookup and egress do, with the same functions wherever a packet is not common, in three
//! loops instead of five, and keeps no record beside a frame: that of a common packet is [`PortTable::start`]. A packet
//! leaves the short way with the record it would have on the long one. The graph of nodes stays, for tagged interfaces and
//! for packets that are traced, and as the twin: the fuzzer's tests compare the two.
//!
//! Packets of one flow stay in order: they are all common, or all not, but for those that are dropped or answered.

use arrayvec::ArrayVec;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::node::Node;
use dataplane::port::PortId;
use dataplane::table::lpm::Range;
use dataplane::wire::{ethernet, ipv6};

use crate::egress::{self, Egress};
use crate::fib::{self, HOP_LIMIT, Kind, Lookup, NextHop};
use crate::ingress::{self, Ingress};
use crate::lisp::node::{Decap, Encap};
use crate::lisp::{self, table::LEAF};
use crate::meta::{Family, Meta, NO_RULE, Next};
use crate::npt66::node::{Inbound, Outbound, Walk};
use crate::steer;
use crate::steer::memory::Memory;
use crate::steer::spot::Spot;
use crate::tables::{Fib, PortTable, Tables};
use crate::words::joined;
use alike::Common;

mod alike;
mod apart;
mod decapsulated;
mod encapsulated;
mod flows;
mod image;
mod known;
mod served;
mod steering;
mod straight;

/// Offset of the IPv6 header of an untagged frame.
const L3: usize = ethernet::HEADER_LEN;

/// Who goes one way by addresses far apart most likely does so again: whether a burst is to addresses of one range is asked
/// once more after so many.
const RANGE_PAUSE: u8 = 15;

/// Where finished frames go.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Finished {
    /// All their [`NextHop::marks`].
    marks: u64,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
    /// Some are to be cut as they are sent.
    pub(crate) any_oversize: bool,
}

impl Finished {
    #[inline(always)]
    fn add(&mut self, next_hop: &NextHop, len: usize) {
        self.add_marked(next_hop.marks, len);
    }

    #[inline(always)]
    fn add_marked(&mut self, marks: u64, len: usize) {
        self.marks |= marks;
        self.bytes += len as u64; // `as`: a frame's length
    }

    /// One bit for each port by which some leave.
    #[inline]
    pub(crate) fn ports(self) -> u32 {
        self.marks as u32 // `as`: the lower half
    }

    /// The port by which all of them leave, when [`Finished::ports`] has one bit.
    #[inline]
    pub(crate) fn port(self) -> PortId {
        let port = PortId::new(self.ports().trailing_zeros() as usize); // `as`: below 32
        port.expect("it came from a port")
    }

    /// Whether some leave by an uplink with rules.
    #[inline]
    fn is_translated(self) -> bool {
        self.marks & fib::HAS_RULES != 0
    }
}

/// Scratch space: what the loops tell each other of frame `i`.
pub(crate) struct Express {
    destinations: [[u8; 16]; BURST_MAX],
    leaves: [u32; BURST_MAX],
    /// NPT66 rule by which the destination was translated.
    rules_in: [u16; BURST_MAX],
    /// One bit for each port whose last burst had packets for an uplink with rules.
    uplinks_behind: u32,
    /// One bit for each port whose last burst was alike, and to addresses of one range.
    alike_behind: u32,
    /// Bursts for which that is not asked.
    range_pause: u8,
    /// One bit for each port whose last burst was to one service, and all of it went the short way to servers.
    served_behind: u32,
    /// One bit for each port whose last burst was all encapsulated.
    encapsulated_behind: u32,
    sights: served::Sights,
    bound: encapsulated::Bound,
    flows: flows::Flows,
    known: known::Known,
    /// What is only used for frames that differ from the others of their port.
    apart: apart::Apart,
    /// Of frames to service addresses that are common: where their flows are remembered.
    spots: [Spot; BURST_MAX],
    /// One bit for each frame that is finished: it goes to a server.
    sealed: u64,
    /// Where they go.
    settled: Finished,
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
            alike_behind: 0,
            range_pause: 0,
            served_behind: 0,
            encapsulated_behind: 0,
            sights: served::Sights::new(),
            bound: encapsulated::Bound::new(),
            flows: flows::Flows::new(),
            known: known::Known::default(),
            apart: apart::Apart::new(),
            spots: [Spot::NONE; BURST_MAX],
            sealed: 0,
            settled: Finished::default(),
            leaving: ArrayVec::new(),
        }
    }

    /// Do without what not every processor can.
    pub(crate) fn be_for_any_processor(&mut self) {
        self.flows.be_for_any_processor();
    }

    /// Take a received burst as far as the short way goes. What stays in `burst` is finished, frame `i` for the port of
    /// [`Express::leaf`]; what does not is in `diverted`, where [`Next::Continue`] means: admitted, and for the nodes after
    /// ingress.
    #[inline(always)] // one caller, and the frame's type is known there
    pub(crate) fn run<F: Frame>(
        &mut self,
        tables: &Tables,
        (ingress, port): (PortId, &PortTable),
        memory: &Memory,
        burst: &mut Burst<F>,
        counters: &WorkerCounters,
        diverted: &mut Vec<(Next, F, Meta)>,
    ) -> Finished {
        let count = |node: usize, frames: usize| {
            counters.nodes[node].calls.add(1);
            counters.nodes[node].frames.add(frames as u64); // `as`: at most BURST_MAX
        };
        count(<Ingress<'_> as Node<F>>::INDEX, burst.len());
        self.apart.begin();
        if let Some(lisp) = tables.opens(port) {
            self.open(tables, lisp, port, burst, counters);
            count(<Decap<'_> as Node<F>>::INDEX, burst.len());
            if port.has_rules {
                count(<Inbound<'_> as Node<F>>::INDEX, burst.len());
            }
        } else if port.has_rules {
            let common = self.admit_alike::<F, true>(tables, port, burst, counters);
            self.admit::<F, true>(tables, port, (burst, common), counters);
            count(<Inbound<'_> as Node<F>>::INDEX, burst.len());
        } else {
            let common = self.admit_alike::<F, false>(tables, port, burst, counters);
            self.admit::<F, false>(tables, port, (burst, common), counters);
        }
        self.part(burst, diverted);
        if burst.is_empty() {
            return Finished::default();
        }
        count(<Lookup as Node<F>>::INDEX, burst.len());
        let common;
        let start = if self.apart.is_empty() {
            &port.start
        } else {
            let all = self.apart.take_common(tables, port, burst.len());
            common = all.unwrap_or(port.start);
            &common
        };
        let destinations = &self.destinations[..burst.len()];
        let leaves = &mut self.leaves[..burst.len()];
        let mut mappings = 0;
        if self.apart.is_empty() {
            tables.fib(start.vrf).v6.lookup_bulk(destinations, leaves);
        } else {
            self.apart.look_up(tables, port, destinations, leaves);
        }
        (self.sealed, self.settled) = (0, Finished::default());
        let mut is_one_service = false;
        if let Some(steer) = &tables.steer {
            is_one_service = self.apart.is_empty()
                && self.go_one_way(burst.len())
                && tables.next_hop(self.leaves[0]).kind == Kind::Service;
            if port.has_servers && !start.is_decapsulated {
                self.turn_back(tables, steer, (port, start), burst);
                self.part(burst, diverted);
            }
            self.steer(tables, (steer, memory), start.vrf, burst, counters);
        }
        if tables.lisp.is_some() {
            let leaves = &self.leaves[..burst.len()];
            mappings = leaves.iter().fold(0, |all, leaf| all | leaf) & LEAF;
        }
        // Most likely this burst is like the one before; whatever is not expected is found to be odd, and done all the same.
        let bit = 1 << ingress.index();
        let finished = if self.sealed != 0 && self.sealed == first_ones(burst.len()) {
            self.served_behind |= if is_one_service { bit } else { 0 };
            self.settled
        } else if mappings != 0 || self.sealed != 0 || !self.apart.is_empty() {
            if mappings != 0 {
                count(<Encap<'_> as Node<F>>::INDEX, burst.len());
            }
            if self.apart.is_empty() {
                let (finished, sealed) =
                    self.finish_apart::<F, false>(tables, (port, start), memory, burst, counters);
                if sealed == burst.len() && !start.is_decapsulated {
                    self.encapsulated_behind |= bit;
                }
                finished
            } else {
                let start = (port, start);
                self.finish_apart::<F, true>(tables, start, memory, burst, counters)
                    .0
            }
        } else {
            let common = if self.go_one_way(burst.len()) {
                self.finish_alike(tables, burst, counters)
            } else {
                Common::NONE
            };
            if common.frames == burst.len() {
                if self.range_pause > 0 {
                    self.range_pause -= 1;
                } else if self.is_one_range(tables.fib(start.vrf), burst.len()) {
                    self.alike_behind |= bit;
                } else {
                    self.range_pause = RANGE_PAUSE;
                }
                common.finished
            } else if self.uplinks_behind & bit != 0 {
                self.finish::<F, true>(tables, (port, start), memory, (burst, common), counters)
            } else {
                self.finish::<F, false>(tables, (port, start), memory, (burst, common), counters)
            }
        };
        self.part(burst, diverted);
        self.uplinks_behind &= !bit;
        if finished.is_translated() {
            self.uplinks_behind |= bit;
            count(<Outbound<'_> as Node<F>>::INDEX, burst.len());
        }
        count(<Egress as Node<F>>::INDEX, burst.len());
        finished
    }

    /// Whether so many destinations are all in the range of the first, as those of the next burst may be.
    #[inline(always)]
    fn is_one_range(&self, fib: &Fib, frames: usize) -> bool {
        let destinations = &self.destinations[..frames];
        let range = destinations.first().and_then(|first| fib.v6.range(first));
        let is_in = |range: Range, destination: &[u8; 16]| {
            let prefix = destination.first_chunk().expect("8 bytes of 16");
            range.contains(u64::from_be_bytes(*prefix))
        };
        range.is_some_and(|range| destinations.iter().all(|one| is_in(range, one)))
    }

    /// The next hop of finished frame `index`.
    #[inline]
    pub(crate) fn leaf(&self, index: usize) -> u32 {
        self.leaves[index]
    }

    /// First loop, from that frame on: is it common, and where does it go? `IN`: it came in by an uplink, and its destination is
    /// translated.
    #[inline(always)]
    fn admit<F: Frame, const IN: bool>(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        (frames, from): (&mut [F], usize),
        counters: &WorkerCounters,
    ) {
        let rule_set = tables.interface(port.start.interface).rule_set;
        let mut walk = Walk::<false>::new(tables, counters);
        let destinations = &mut self.destinations[from..];
        for ((frame, destination), index) in frames[from..].iter_mut().zip(destinations).zip(from..)
        {
            let is_common = ingress::is_common(port, frame);
            let bytes = frame.bytes_mut();
            let len = bytes.len();
            if is_common && let Some(header) = header_mut(bytes) {
                if !IN {
                    *destination = destination_of(header);
                    continue;
                }
                if let Some(mapped) = walk.common(rule_set, header, len) {
                    *destination = joined(mapped);
                    self.rules_in[index] = walk.number();
                    continue;
                }
            }
            let mut meta = port.start;
            match admit_odd::<F, IN>(tables, port, frame, &mut meta, &mut walk) {
                Ok(()) if meta.family == Family::V4 => {
                    *destination = self.apart.add_v4(index, frame.bytes());
                }
                Ok(()) => {
                    let header = header_mut(frame.bytes_mut());
                    *destination = header.map_or([0; 16], |header| destination_of(header));
                    self.rules_in[index] = meta.rule_in;
                }
                Err(next) => self.leaving.push((index as u8, next, meta)), // `as`: below BURST_MAX
            }
        }
        walk.finish();
    }

    /// Last loop, for the frames after those that are finished already. `OUT`: packets that leave by an uplink are common
    /// too.
    #[inline(always)]
    fn finish<F: Frame, const OUT: bool>(
        &mut self,
        tables: &Tables,
        (port, start): (&PortTable, &Meta),
        memory: &Memory,
        (frames, common): (&mut [F], Common),
        counters: &WorkerCounters,
    ) -> Finished {
        let mut walk = Walk::<true>::new(tables, counters);
        let mut finished = common.finished;
        let from = common.frames;
        let rest = frames[from..].iter_mut().zip(&mut self.leaves[from..]);
        for ((frame, leaf), index) in rest.zip(from..) {
            let bytes = frame.bytes_mut();
            let len = bytes.len();
            let next_hop = tables.next_hop(*leaf);
            let most = if OUT {
                next_hop.express_max
            } else {
                next_hop.express_max_untranslated
            };
            if let Some((link, rest)) = bytes.split_first_chunk_mut::<L3>()
                && let Some(header) = rest.first_chunk_mut()
                && len <= usize::from(most)
                && header[HOP_LIMIT] > 1
                && (!OUT
                    || next_hop.rule_set == 0
                    || walk.common(next_hop.rule_set, header, len).is_some())
            {
                *link = *next_hop.plain_link();
                header[HOP_LIMIT] -= 1;
                finished.add(next_hop, len);
                continue;
            }
            let rule_in = port.has_rules.then_some(self.rules_in[index]);
            let mut meta = Meta {
                next_hop: *leaf,
                rule_in: rule_in.unwrap_or(NO_RULE),
                ..*start
            };
            match finish_odd(tables, memory, frame, &mut meta, &mut walk) {
                Ok(()) => {
                    debug_assert!(!meta.is_oversize, "IPv4 is apart");
                    *leaf = meta.next_hop;
                    finished.add(tables.next_hop(meta.next_hop), frame.bytes().len());
                }
                Err(next) => self.leaving.push((index as u8, next, meta)), // `as`: below BURST_MAX
            }
        }
        walk.finish();
        finished
    }

    /// Whether finished frame `index` is larger than its next hop's MTU, and to be cut as it is sent.
    #[inline]
    pub(crate) fn is_oversize(&self, index: usize) -> bool {
        self.apart.is_oversize(index)
    }

    /// Frame `index` leaves the short way.
    fn leave(&mut self, index: usize, next: Next, meta: Meta) {
        self.leaving.push((index as u8, next, meta)); // `as`: below BURST_MAX
    }

    /// Move the frames that leave to `diverted`, and close the ranks of the others.
    #[inline(always)]
    fn part<F: Frame>(&mut self, burst: &mut Burst<F>, diverted: &mut Vec<(Next, F, Meta)>) {
        if !self.leaving.is_empty() {
            self.part_from(burst, diverted);
        }
    }

    #[cold]
    #[inline(never)]
    fn part_from<F: Frame>(&mut self, burst: &mut Burst<F>, diverted: &mut Vec<(Next, F, Meta)>) {
        let sealed = std::mem::take(&mut self.sealed);
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
            self.sealed |= (sealed >> index & 1) << kept;
            self.apart.move_to(kept, index);
            burst.push(frame);
        }
        self.apart.truncate(burst.len());
    }
}

/// Link header and IPv6 packet of a frame, if only [`send`] remains to be done; `None`: it is longer than `most`
/// ([`NextHop::express_max_untranslated`]), or out of hops.
#[inline(always)]
fn plain_mut(bytes: &mut [u8], most: u16) -> Option<(&mut [u8; L3], &mut [u8])> {
    // The other lengths asked for follow from this one.
    let is_short = bytes.len() <= usize::from(most);
    if bytes.len() < L3 + ipv6::HEADER_LEN {
        return None;
    }
    let (link, packet) = bytes.split_first_chunk_mut::<L3>()?;
    let has_hops = *packet.get(HOP_LIMIT)? > 1;
    (is_short && has_hops).then_some((link, packet))
}

/// What every packet to a neighbour gets.
#[inline(always)]
fn send(link: &mut [u8; L3], packet: &mut [u8], new: &[u8; L3]) {
    *link = *new;
    if let Some(hop_limit) = packet.get_mut(HOP_LIMIT) {
        *hop_limit -= 1;
    }
}

/// The lowest `count` bits, at most 64.
#[inline(always)]
fn first_ones(count: usize) -> u64 {
    u64::MAX.checked_shr(64 - count as u32).unwrap_or(0) // `as`: at most 64
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
) -> Result<(), Next> {
    let next = ingress::admit(tables, port, frame, meta);
    let start = port.start.of(meta.family);
    if next != Next::Continue || !meta.is_like(&start) {
        return Err(next);
    }
    if IN && meta.family == Family::V6 {
        let rule_set = tables.interface(meta.interface).rule_set;
        walk.uncommon(rule_set, frame, meta)?;
    }
    Ok(())
}

/// What `lookup`, `npt66-out` and `egress` make of a packet that is not common: a group's member, a host on the link,
/// another link header. An error is where it goes instead.
#[cold]
#[inline(never)]
fn finish_odd<F: Frame>(
    tables: &Tables,
    memory: &Memory,
    frame: &mut F,
    meta: &mut Meta,
    walk: &mut Walk<'_, true>,
) -> Result<(), Next> {
    let start = *meta;
    match fib::exceptional(tables, frame.bytes(), meta) {
        Next::Continue => {}
        next => return Err(next),
    }
    if meta.went_on() {
        // The nodes know how the control thread is told.
        *meta = start;
        return Err(Next::Continue);
    }
    if tables.next_hop(meta.next_hop).is_steered()
        && let Some(steer) = &tables.steer
    {
        let now = steer.now();
        match steer::node::step(tables, steer, memory, frame, meta, now, walk.counters()) {
            Next::Continue => {}
            next => return Err(next),
        }
    }
    if meta.next_hop & LEAF != 0
        && let Some(lisp) = &tables.lisp
    {
        match lisp::node::encapsulate(tables, lisp, frame, meta, walk.counters()) {
            Next::Continue => return egress::rewrite(tables.next_hop(meta.next_hop), frame, meta),
            next => return Err(next),
        }
    }
    let next_hop = tables.next_hop(meta.next_hop);
    if next_hop.rule_set != 0 {
        walk.uncommon(next_hop.rule_set, frame, meta)?;
    }
    egress::rewrite(next_hop, frame, meta)
}

/// The IPv6 header of an untagged frame.
#[inline(always)]
fn header_of<F: Frame>(frame: &F) -> Option<&[u8; ipv6::HEADER_LEN]> {
    frame.bytes().get(L3..)?.first_chunk()
}

/// The same to be changed.
#[inline(always)]
fn header_mut(bytes: &mut [u8]) -> Option<&mut [u8; ipv6::HEADER_LEN]> {
    bytes.get_mut(L3..)?.first_chunk_mut()
}

#[inline(always)]
fn destination_of(header: &[u8; ipv6::HEADER_LEN]) -> [u8; 16] {
    *header.last_chunk().expect("16 of 40 bytes")
}
