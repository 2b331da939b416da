//! The short way in steps for a burst that is all encapsulated: where each packet goes, then behind which header.
//!
//! Each step asks memory for what the next one needs, so that a burst waits once for all its mappings, sets and locators.
//! As in [`straight`](super::straight) nothing is written to a packet before all is known of it: the first that is not
//! common, or has no locator, is as it was received, and so are all behind it.

use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::node::Node;
use dataplane::port::PortId;
use dataplane::wire::lisp::DATA_PORT;
use dataplane::wire::{ipv4, ipv6};

use super::alike::Common;
use super::{Express, L3, destination_of, flows};
use crate::fib::{HOP_LIMIT, NextHop};
use crate::ingress;
use crate::lisp::encap::{self, V4_LEN, V6_LEN};
use crate::lisp::flow;
use crate::lisp::node::{self, Encap};
use crate::lisp::table::{LEAF, Locator, State};
use crate::lisp::view::{First6, Lisp, Rules};
use crate::meta::Family;
use crate::tables::{PortTable, Tables};

/// Bytes of the shortest frame with ports.
const SHORTEST: usize = L3 + ipv6::HEADER_LEN + 4;

/// Scratch space: what the steps tell each other of frame `i`.
pub(super) struct Bound {
    /// The flow's hash.
    hashes: [u64; BURST_MAX],
    /// The mapping's set, then the locator.
    numbers: [u32; BURST_MAX],
}

impl Bound {
    pub(super) fn new() -> Self {
        Self {
            hashes: [0; BURST_MAX],
            numbers: [0; BURST_MAX],
        }
    }
}

impl Express {
    /// The first frames of a burst, as far as they are encapsulated and nothing about them is odd; [`Express::leaf`] says by
    /// which next hop each.
    #[inline(never)]
    pub(super) fn encapsulate<F: Frame>(
        &mut self,
        tables: &Tables,
        lisp: &Lisp,
        (ingress, port): (PortId, &PortTable),
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> Option<Common> {
        let vrf = port.start.vrf;
        if lisp.udp_checksum || port.has_rules || port.has_servers {
            return None;
        }
        let sources = lisp.common_sources(lisp.instance_of(vrf)?)?;
        let fib = tables.fib(vrf);
        let common = if self.flows.are_few() {
            let at = flows::At {
                tables,
                lisp,
                port,
                fib,
                sources,
            };
            self.flows
                .encapsulate(at, ingress, frames, &mut self.leaves)
        } else {
            let admitted = self.admit_bound(lisp, (port, sources), frames);
            let leaves = &mut self.leaves[..admitted];
            fib.v6.lookup_bulk(&self.destinations[..admitted], leaves);
            let known = choose(lisp, leaves, &mut self.bound);
            send(tables, lisp, &mut frames[..known], leaves, &self.bound)
        };
        if common.frames > 0 {
            let frames = common.frames as u64; // `as`: at most a burst
            counters.lisp_encap.packets.add(frames);
            counters.lisp_encap.bytes.add(common.finished.bytes);
            let counter = &counters.nodes[<Encap<'_> as Node<F>>::INDEX];
            counter.calls.add(1);
            counter.frames.add(frames);
        }
        Some(common)
    }

    /// First step: how many are common and from an own EID; their destinations and their flows.
    #[inline(always)]
    fn admit_bound<F: Frame>(
        &mut self,
        lisp: &Lisp,
        (port, sources): (&PortTable, First6),
        frames: &[F],
    ) -> usize {
        let seed = lisp.seed;
        let mut admitted = 0;
        let places = self.destinations.iter_mut().zip(&mut self.bound.hashes);
        for (frame, (destination, hash)) in frames.iter().zip(places) {
            // Shorter ones are found out below as well: this is the only length to compare.
            if frame.bytes().len() < SHORTEST {
                break;
            }
            if !ingress::is_common(port, frame) {
                break;
            }
            let packet = frame.bytes().get(L3..).unwrap_or(&[]);
            let Some((header, ports)) = parts(packet) else {
                break;
            };
            if header[HOP_LIMIT] <= 1 || !is_bound(sources, header, ports) {
                break;
            }
            *hash = flow::of_parts(seed, header, ports);
            *destination = destination_of(header);
            admitted += 1;
        }
        admitted
    }
}

/// Header and ports of an IPv6 packet.
#[inline(always)]
pub(super) fn parts(packet: &[u8]) -> Option<(&[u8; ipv6::HEADER_LEN], &[u8; 4])> {
    let (header, payload) = packet.split_first_chunk()?;
    Some((header, payload.first_chunk()?))
}

/// Whether a packet between ordinary addresses is one that may be encapsulated, as far as itself can tell.
#[inline(always)]
pub(super) fn is_bound(
    sources: First6,
    header: &[u8; ipv6::HEADER_LEN],
    [_, _, to_port @ ..]: &[u8; 4],
) -> bool {
    let source = header[8..].first_chunk().expect("16 of 40 bytes");
    flow::has_ports(header[6])
        // Whatever goes to this port may be encapsulated twice already.
        && u16::from_be_bytes(*to_port) != DATA_PORT
        && sources.contains(source)
}

/// Second and third step: their locators; of how many one is known.
#[inline(always)]
fn choose(lisp: &Lisp, leaves: &[u32], bound: &mut Bound) -> usize {
    let shared = &*lisp.shared;
    let mut all = LEAF;
    for leaf in leaves {
        shared.prefetch_mapping(*leaf);
        all &= leaf;
    }
    let leaves = if all == LEAF {
        leaves
    } else {
        let other = leaves.iter().position(|leaf| leaf & LEAF == 0);
        &leaves[..other.unwrap_or(0)]
    };
    for (leaf, number) in leaves.iter().zip(&mut bound.numbers) {
        *number = shared.set_of(*leaf);
        shared.prefetch_set(*number);
    }
    let mut known = 0;
    let chosen = bound.numbers[..leaves.len()].iter_mut().zip(&bound.hashes);
    for (number, hash) in chosen {
        *number = shared.locator_of(*number, *hash);
        if *number == 0 {
            break;
        }
        shared.prefetch_locator(*number);
        known += 1;
    }
    known
}

/// Last step: each behind the header of its locator.
#[inline(always)]
fn send<F: Frame>(
    tables: &Tables,
    lisp: &Lisp,
    frames: &mut [F],
    leaves: &mut [u32],
    bound: &Bound,
) -> Common {
    let mut common = match bound.numbers.first() {
        Some(number) if !frames.is_empty() => {
            let first = lisp.shared.locator(*number).state();
            if first.is_v4 {
                send_one_way::<F, true>(tables, lisp, first, frames, leaves, bound)
            } else {
                send_one_way::<F, false>(tables, lisp, first, frames, leaves, bound)
            }
        }
        _ => Common::NONE,
    };
    let from = common.frames;
    let places = bound.numbers.iter().zip(&bound.hashes).skip(from);
    let rest = frames[from..].iter_mut().zip(&mut leaves[from..]);
    for ((frame, leaf), (number, hash)) in rest.zip(places) {
        let locator = lisp.shared.locator(*number);
        let (number, next_hop) = node::underlay(tables, locator, *hash);
        let Some(len) = wrap(lisp, (locator, next_hop), *hash, false, frame) else {
            break;
        };
        *leaf = number;
        common.finished.add(next_hop, len);
        common.frames += 1;
    }
    common
}

/// The same for the first packets, as far as they go by the next hop of the first, with an outer header of its family.
#[inline(always)]
fn send_one_way<F: Frame, const V4: bool>(
    tables: &Tables,
    lisp: &Lisp,
    first: State,
    frames: &mut [F],
    leaves: &mut [u32],
    bound: &Bound,
) -> Common {
    let next_hop = tables.next_hop(first.next_hop);
    let most = usize::from(next_hop.express_max);
    let link: [u8; L3] = *next_hop.plain_link();
    let rules = lisp.rules;
    let (mut sent, mut sum) = (0, 0);
    let places = bound.numbers.iter().zip(&bound.hashes);
    for (frame, (number, hash)) in frames.iter_mut().zip(places) {
        let locator = lisp.shared.locator(*number);
        let state = locator.state();
        if (state.next_hop, state.is_v4) != (first.next_hop, V4) {
            break;
        }
        let limits = (most, usize::from(state.path_mtu));
        let Some(len) = wrap_in::<F, V4>(rules, locator, limits, &link, *hash, false, frame) else {
            break;
        };
        sum += len as u64; // `as`: a frame's length
        sent += 1;
    }
    leaves[..sent].fill(first.next_hop);
    Common::of(next_hop, sent, sum)
}

/// Encapsulate a packet whose locator and next hop are known, if nothing about it is odd: the frame is then finished, and
/// this long. Else it is as it was.
#[inline(always)]
pub(super) fn seal<F: Frame>(
    lisp: &Lisp,
    locator: Locator<'_>,
    next_hop: &NextHop,
    hash: u64,
    family: Family,
    frame: &mut F,
    is_ours: impl Fn(&[u8]) -> bool,
) -> Option<usize> {
    let is_v4 = family == Family::V4;
    let packet = frame.bytes().get(L3..)?;
    let hop_limit = *packet.get(if is_v4 { ipv4::TTL_OFFSET } else { HOP_LIMIT })?;
    let is_plain =
        hop_limit > 1 && !lisp.is_too_deep(packet, is_v4) && !lisp.udp_checksum && is_ours(packet);
    if !is_plain {
        return None;
    }
    wrap(lisp, (locator, next_hop), hash, is_v4, frame)
}

/// The same for a packet about which nothing is odd, unless it be its length.
#[inline(always)]
fn wrap<F: Frame>(
    lisp: &Lisp,
    (locator, next_hop): (Locator<'_>, &NextHop),
    hash: u64,
    is_v4: bool,
    frame: &mut F,
) -> Option<usize> {
    let state = locator.state();
    // A next hop that takes no frame at all is none to a neighbour.
    let most = usize::from(next_hop.express_max);
    let limits = (most, usize::from(state.path_mtu));
    let link = next_hop.plain_link();
    if state.is_v4 {
        wrap_in::<F, true>(lisp.rules, locator, limits, link, hash, is_v4, frame)
    } else {
        wrap_in::<F, false>(lisp.rules, locator, limits, link, hash, is_v4, frame)
    }
}

/// The same with an outer header that is IPv4 (`V4`) or IPv6, in a frame and a packet that are no longer than this.
#[inline(always)]
fn wrap_in<F: Frame, const V4: bool>(
    rules: Rules,
    locator: Locator<'_>,
    (most, path_mtu): (usize, usize),
    link: &[u8; L3],
    hash: u64,
    is_v4: bool,
    frame: &mut F,
) -> Option<usize> {
    let overhead = if V4 { V4_LEN } else { V6_LEN };
    let len = frame.bytes().len() + overhead;
    if len > most || len > L3 + path_mtu {
        return None;
    }
    let bytes = frame.prepend(overhead).ok()?;
    let (front, rest) = bytes.split_first_chunk_mut::<L3>()?;
    if V4 {
        let (headers, packet) = rest.split_first_chunk_mut()?;
        let inner = node::count_hop(packet, is_v4, 1, hash)?;
        encap::write_v4(rules, locator, &inner, headers);
    } else {
        let (headers, packet) = rest.split_first_chunk_mut()?;
        let inner = node::count_hop(packet, is_v4, 1, hash)?;
        encap::write_v6(rules, locator, &inner, headers);
    }
    *front = *link;
    Some(len)
}
