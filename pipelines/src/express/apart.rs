//! The short way for packets that differ from the others of their port: what was decapsulated, and IPv4.
//!
//! They have a record of their own; a burst that has some is looked up in runs and finished by a loop that reads it. The
//! same loop encapsulates, in steps over the whole burst, so that what a mapping needs is waited for side by side.

use arrayvec::ArrayVec;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::wire::{ipv4, ipv6};

use super::{Express, Finished, HOP_LIMIT, L3, admit_odd, destination_of, finish_odd, header_mut};
use crate::ingress;
use crate::lisp::decap;
use crate::lisp::encap::{V4_LEN, V6_LEN};
use crate::lisp::node as steps;
use crate::lisp::table::LEAF;
use crate::lisp::view::{Lisp, Way};
use crate::meta::{Family, Meta, NO_RULE, Next};
use crate::npt66::node::Walk;
use crate::tables::{PortTable, Tables};

/// Scratch space for such frames.
pub(super) struct Apart {
    /// One bit for each of them.
    bits: u64,
    /// One bit for each that is to be cut as it is sent.
    oversize: u64,
    /// Their records.
    starts: [Meta; BURST_MAX],
    /// Of frames that go to a mapping: the flow's hash.
    hashes: [u64; BURST_MAX],
    /// The mapping's set, then the locator; 0: none.
    locators: [u32; BURST_MAX],
}

impl Apart {
    pub(super) fn new() -> Self {
        Self {
            bits: 0,
            oversize: 0,
            starts: [Meta::default(); BURST_MAX],
            hashes: [0; BURST_MAX],
            locators: [0; BURST_MAX],
        }
    }

    #[inline(always)]
    pub(super) fn begin(&mut self) {
        (self.bits, self.oversize) = (0, 0);
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.bits == 0
    }

    #[inline]
    pub(super) fn is_oversize(&self, index: usize) -> bool {
        self.oversize >> index & 1 != 0
    }

    #[inline(always)]
    fn has(&self, index: usize) -> bool {
        self.bits >> index & 1 != 0
    }

    /// Frame `index` has this record. Returns its destination, an IPv4 one in the last 4 bytes.
    #[inline(always)]
    pub(super) fn add(&mut self, index: usize, meta: Meta, bytes: &[u8]) -> [u8; 16] {
        self.bits |= 1 << index;
        self.starts[index] = meta;
        let packet = bytes.get(L3..).unwrap_or(&[]);
        match meta.family {
            Family::V6 => {
                let header = packet.first_chunk::<{ ipv6::HEADER_LEN }>();
                header.map_or([0; 16], |header| destination_of(header))
            }
            Family::V4 => {
                let mut destination = [0; 16];
                if let Some(header) = packet.first_chunk::<{ ipv4::HEADER_LEN }>() {
                    destination[12..].copy_from_slice(&header[16..]);
                }
                destination
            }
        }
    }

    /// Frame `from` is now frame `to`, which is not behind it.
    pub(super) fn move_to(&mut self, to: usize, from: usize) {
        let moved = |bits: u64| bits & !(1 << to) | (bits >> from & 1) << to;
        (self.bits, self.oversize) = (moved(self.bits), moved(self.oversize));
        self.starts[to] = self.starts[from];
    }

    /// There are only this many frames.
    pub(super) fn truncate(&mut self, len: usize) {
        let kept = u64::MAX.checked_shl(len as u32).map_or(u64::MAX, |mask| !mask); // `as`: at most 64
        (self.bits, self.oversize) = (self.bits & kept, self.oversize & kept);
    }

    /// The record of frame `index`.
    #[inline(always)]
    fn start(&self, port: &PortTable, index: usize) -> Meta {
        if self.has(index) {
            self.starts[index]
        } else {
            port.start
        }
    }

    /// Look up a burst in runs of one VRF and family.
    #[inline(always)]
    pub(super) fn look_up(
        &self,
        tables: &Tables,
        port: &PortTable,
        destinations: &[[u8; 16]],
        leaves: &mut [u32],
    ) {
        let mut start = 0;
        while start < destinations.len() {
            let first = self.start(port, start);
            let is_same = |index: &usize| {
                let meta = self.start(port, *index);
                (meta.vrf, meta.family) == (first.vrf, first.family)
            };
            let count = (start..destinations.len()).take_while(is_same).count();
            let (Some(keys), Some(leaves)) = (
                destinations.get(start..start + count),
                leaves.get_mut(start..start + count),
            ) else {
                return;
            };
            let fib = tables.fib(first.vrf);
            match first.family {
                Family::V6 => fib.v6.lookup_bulk(keys, leaves),
                Family::V4 => {
                    let keys: ArrayVec<u32, BURST_MAX> = keys
                        .iter()
                        .map(|key| u32::from_be_bytes(*key.last_chunk().expect("4 of 16 bytes")))
                        .collect();
                    fib.v4.lookup_bulk(&keys, leaves);
                }
            }
            start += count;
        }
    }
}

impl Express {
    /// First loop of a port by which encapsulated packets come: open them; every other is admitted as on any port.
    #[inline(never)]
    pub(super) fn open<F: Frame>(
        &mut self,
        tables: &Tables,
        lisp: &Lisp,
        port: &PortTable,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) {
        let mut walk = Walk::<false>::new(tables, counters);
        let (mut opened, mut opened_bytes) = (0, 0);
        for (index, frame) in frames.iter_mut().enumerate() {
            let is_v6 = ingress::is_common(port, frame);
            if is_v6 || ingress::is_common_v4(port, frame) {
                let bytes = frame.bytes_mut();
                let frame_len = bytes.len();
                let packet = bytes.get_mut(L3..).unwrap_or(&mut []);
                if lisp.is_for_us(packet, !is_v6) {
                    let mut meta = port.start;
                    match decap::open(lisp.rules, packet, !is_v6)
                        .and_then(|inner| {
                            let instance = steps::admit(tables, lisp, packet, !is_v6, inner)?;
                            steps::enter(&mut meta, instance, inner);
                            Ok(inner)
                        })
                        .and_then(|inner| steps::strip(frame, L3, inner))
                    {
                        Ok(()) => {
                            let destination = self.apart.add(index, meta, frame.bytes());
                            self.destinations[index] = destination;
                            self.rules_in[index] = NO_RULE;
                            opened += 1;
                            opened_bytes += frame_len as u64; // `as`: a frame's length
                        }
                        Err(reason) => self.leave(index, Next::Drop(reason), meta),
                    }
                    continue;
                }
            }
            if is_v6 && self.admit_common(tables, port, index, frame, &mut walk) {
                continue;
            }
            let mut meta = port.start;
            match open_odd(tables, lisp, port, frame, &mut meta, &mut walk) {
                Ok(()) if meta.family == Family::V4 || meta.is_decapsulated => {
                    self.destinations[index] = self.apart.add(index, meta, frame.bytes());
                }
                Ok(()) => {
                    let header = header_mut(frame.bytes_mut());
                    self.destinations[index] =
                        header.map_or([0; 16], |header| destination_of(header));
                    self.rules_in[index] = meta.rule_in;
                }
                Err(next) => self.leave(index, next, meta),
            }
        }
        walk.finish();
        if opened > 0 {
            counters.lisp_decap.packets.add(opened);
            counters.lisp_decap.bytes.add(opened_bytes);
        }
    }

    /// Admit a common IPv6 packet; `false` when it is not common after all.
    #[inline(always)]
    fn admit_common<F: Frame>(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        index: usize,
        frame: &mut F,
        walk: &mut Walk<'_, false>,
    ) -> bool {
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let Some(header) = header_mut(bytes) else {
            return false;
        };
        if port.has_rules {
            let rule_set = tables.interface(port.start.interface).rule_set;
            if walk.common(rule_set, header, len).is_none() {
                return false;
            }
            self.rules_in[index] = walk.number();
        }
        self.destinations[index] = destination_of(header);
        true
    }

    /// Choose the locator of every packet that goes to a mapping, a step at a time.
    #[inline(always)]
    fn choose<F: Frame, const APART: bool>(&mut self, lisp: &Lisp, port: &PortTable, frames: &[F]) {
        let apart = &mut self.apart;
        let leaves = &mut self.leaves[..frames.len()];
        for (index, (frame, leaf)) in frames.iter().zip(&*leaves).enumerate() {
            apart.locators[index] = 0;
            if leaf & LEAF != 0 {
                let set = lisp.shared.set_of(*leaf);
                lisp.shared.prefetch_set(set);
                let is_v4 = APART && apart.start(port, index).family == Family::V4;
                let packet = frame.bytes().get(L3..).unwrap_or(&[]);
                apart.hashes[index] = lisp.hash(packet, is_v4);
                apart.locators[index] = set;
            }
        }
        for (index, leaf) in leaves.iter_mut().enumerate() {
            let set = apart.locators[index];
            if set == 0 {
                continue;
            }
            let hash = apart.hashes[index];
            let locator = lisp.shared.locator_of(set, hash);
            lisp.shared.prefetch_locator(locator);
            apart.locators[index] = locator;
            if locator == 0 {
                let vrf = apart.start(port, index).vrf;
                if let Way::Native(number) = lisp.way_without_locator(vrf, set, hash) {
                    *leaf = number;
                }
            }
        }
    }

    /// Last loop of a burst with packets that go to a mapping, or (`APART`) that differ from others of their port.
    #[inline(always)]
    pub(super) fn finish_apart<F: Frame, const APART: bool>(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> Finished {
        let lisp = tables.lisp.as_ref();
        match lisp {
            Some(lisp) => self.choose::<F, APART>(lisp, port, frames),
            None => self.apart.locators.fill(0),
        }
        let usual = lisp.map(|lisp| lisp.instance_of(port.start.vrf));
        let mut walk = Walk::<true>::new(tables, counters);
        let mut finished = Finished::default();
        let (mut sealed, mut sealed_bytes) = (0, 0);
        for (index, frame) in frames.iter_mut().enumerate() {
            let leaf = self.leaves[index];
            let (family, is_usual) = if APART && self.apart.has(index) {
                (self.apart.starts[index].family, false)
            } else {
                (Family::V6, true)
            };
            if let Some(lisp) = lisp
                && self.apart.locators[index] != 0
            {
                let is_ours = |packet: &[u8]| match usual {
                    Some(instance) if is_usual => lisp.takes(instance, packet),
                    _ => steps::is_source_ours(lisp, packet, &self.apart.starts[index]),
                };
                if let Some(number) = self.seal(tables, lisp, index, family, frame, is_ours) {
                    self.leaves[index] = number;
                    let len = frame.bytes().len();
                    finished.add(tables.next_hop(number), len);
                    sealed += 1;
                    sealed_bytes += len as u64; // `as`: a frame's length
                    continue;
                }
            } else if is_forwarded(tables, leaf, family, frame.bytes_mut(), &mut walk) {
                finished.add(tables.next_hop(leaf), frame.bytes().len());
                continue;
            }
            self.finish_one_odd(tables, port, index, frame, &mut walk, &mut finished);
        }
        walk.finish();
        if sealed > 0 {
            counters.lisp_encap.packets.add(sealed);
            counters.lisp_encap.bytes.add(sealed_bytes);
        }
        finished
    }

    #[cold]
    #[inline(never)]
    fn finish_one_odd<F: Frame>(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        index: usize,
        frame: &mut F,
        walk: &mut Walk<'_, true>,
        finished: &mut Finished,
    ) {
        let rule_in = if port.has_rules && !self.apart.has(index) {
            self.rules_in[index]
        } else {
            NO_RULE
        };
        let mut meta = Meta {
            next_hop: self.leaves[index],
            rule_in,
            ..self.apart.start(port, index)
        };
        match finish_odd(tables, frame, &mut meta, walk) {
            Ok(()) => {
                if meta.is_oversize {
                    self.apart.oversize |= 1 << index;
                    finished.any_oversize = true;
                }
                self.leaves[index] = meta.next_hop;
                finished.add(tables.next_hop(meta.next_hop), frame.bytes().len());
            }
            Err(next) => self.leave(index, next, meta),
        }
    }

    /// Encapsulate a packet whose locator is known, if nothing about it is odd; the number of its next hop. Else it is as
    /// it was.
    #[inline(always)]
    fn seal<F: Frame>(
        &self,
        tables: &Tables,
        lisp: &Lisp,
        index: usize,
        family: Family,
        frame: &mut F,
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Option<u32> {
        let locator = lisp.shared.locator(self.apart.locators[index])?;
        let state = locator.state();
        let next_hop = tables.next_hop(state.next_hop);
        let is_v4 = family == Family::V4;
        let packet = frame.bytes_mut().get_mut(L3..)?;
        let hop_limit = *packet.get(if is_v4 { ipv4::TTL_OFFSET } else { HOP_LIMIT })?;
        let len = packet.len() + if state.is_v4 { V4_LEN } else { V6_LEN };
        let is_plain = next_hop.express_max != 0
            && hop_limit > 1
            && L3 + len <= usize::from(next_hop.express_max)
            && len <= usize::from(state.path_mtu)
            && !lisp.is_too_deep(packet, is_v4)
            && is_ours(packet);
        if !is_plain {
            return None;
        }
        let inner = steps::count_hop(packet, is_v4, 1, self.apart.hashes[index])?;
        if steps::put(lisp, locator, &inner, frame, L3).is_err() {
            // `finish_odd` counts the hop again, and then finds no headroom either.
            return None;
        }
        let link = frame.bytes_mut().first_chunk_mut::<L3>()?;
        link.copy_from_slice(&next_hop.link[..L3]);
        Some(state.next_hop)
    }
}

/// The same as [`admit_odd`] where encapsulated packets come in: one with padding behind it is not common, and opened all
/// the same.
#[cold]
#[inline(never)]
fn open_odd<F: Frame>(
    tables: &Tables,
    lisp: &Lisp,
    port: &PortTable,
    frame: &mut F,
    meta: &mut Meta,
    walk: &mut Walk<'_, false>,
) -> Result<(), Next> {
    admit_odd::<F, false>(tables, port, frame, meta, walk)?;
    steps::decapsulate(tables, lisp, frame, meta, walk.counters()).map_err(Next::Drop)?;
    if port.has_rules && meta.family == Family::V6 && !meta.is_decapsulated {
        let rule_set = tables.interface(meta.interface).rule_set;
        walk.uncommon(rule_set, frame, meta)?;
    }
    Ok(())
}

/// Forward a packet to the neighbour its leaf names, if nothing about it is odd. Else it is as it was.
#[inline(always)]
fn is_forwarded(
    tables: &Tables,
    leaf: u32,
    family: Family,
    bytes: &mut [u8],
    walk: &mut Walk<'_, true>,
) -> bool {
    let len = bytes.len();
    let next_hop = tables.next_hop(leaf);
    let Some((link, packet)) = bytes.split_first_chunk_mut::<L3>() else {
        return false;
    };
    if len > usize::from(next_hop.express_max) {
        return false;
    }
    match family {
        Family::V6 => {
            let Some(header) = packet.first_chunk_mut() else {
                return false;
            };
            let set = next_hop.rule_set;
            if header[HOP_LIMIT] <= 1 || (set != 0 && walk.common(set, header, len).is_none()) {
                return false;
            }
            header[HOP_LIMIT] -= 1;
        }
        Family::V4 => {
            let Some(header) = packet.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
                return false;
            };
            if header[ipv4::TTL_OFFSET] <= 1 {
                return false;
            }
            ipv4::decrement_ttl(header);
        }
    }
    link.copy_from_slice(&next_hop.link[..L3]);
    true
}
