//! The short way for packets that differ from the others of their port: what was decapsulated, and IPv4.
//!
//! They have a record of their own; a burst that has some is looked up in runs and finished by a loop that reads it. The
//! same loop encapsulates, in steps over the whole burst, so that what a mapping needs is waited for side by side.

use arrayvec::ArrayVec;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::wire::{ipv4, ipv6};

use super::encapsulated::seal;
use super::{Express, Finished, HOP_LIMIT, L3, admit_odd, destination_of, finish_odd, header_mut};
use crate::ingress;
use crate::lisp::decap;
use crate::lisp::node as steps;
use crate::lisp::table::LEAF;
use crate::lisp::view::{Lisp, Way};
use crate::meta::{Family, Meta, NO_RULE, Next};
use crate::npt66::node::Walk;
use crate::steer::memory::Memory;
use crate::tables::{PortTable, Tables};

/// An IPv4 packet as it came.
const PLAIN_V4: u32 = u32::MAX;

/// Scratch space for such frames.
pub(super) struct Apart {
    /// One bit for each of them.
    bits: u64,
    /// One bit for each that is to be cut as it is sent.
    oversize: u64,
    /// What each of them is: the position of the instance it was decapsulated in, twice, and 1 more for IPv4; or
    /// [`PLAIN_V4`].
    kinds: [u32; BURST_MAX],
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
            kinds: [PLAIN_V4; BURST_MAX],
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

    /// One bit for each of them.
    #[inline(always)]
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }

    #[inline]
    pub(super) fn is_oversize(&self, index: usize) -> bool {
        self.oversize >> index & 1 != 0
    }

    #[inline(always)]
    pub(super) fn has(&self, index: usize) -> bool {
        self.bits >> index & 1 != 0
    }

    /// Frame `index` is an IPv4 packet as it came. Returns its destination in the last 4 bytes.
    #[inline(always)]
    pub(super) fn add_v4(&mut self, index: usize, bytes: &[u8]) -> [u8; 16] {
        self.add(index, PLAIN_V4, bytes.get(L3..).unwrap_or(&[]))
    }

    /// Frame `index`, with this packet, is of a kind. Returns its destination, an IPv4 one in the last 4 bytes.
    #[inline(always)]
    fn add(&mut self, index: usize, kind: u32, packet: &[u8]) -> [u8; 16] {
        self.bits |= 1 << index;
        self.kinds[index] = kind;
        if kind & 1 == 0 {
            let header = packet.first_chunk::<{ ipv6::HEADER_LEN }>();
            return header.map_or([0; 16], destination_of);
        }
        let mut destination = [0; 16];
        if let Some(header) = packet.first_chunk::<{ ipv4::HEADER_LEN }>() {
            destination[12..].copy_from_slice(&header[16..]);
        }
        destination
    }

    /// The record of all `len` frames, if they were all decapsulated in one instance and are IPv6: then none is apart any
    /// more.
    #[inline(always)]
    pub(super) fn take_common(
        &mut self,
        tables: &Tables,
        port: &PortTable,
        len: usize,
    ) -> Option<Meta> {
        let all = u64::MAX >> (BURST_MAX - len.clamp(1, BURST_MAX));
        let first = self.kinds[0];
        if self.bits != all || first & 1 != 0 {
            return None;
        }
        let is_common = self.kinds[..len].iter().all(|kind| *kind == first);
        is_common.then(|| {
            let start = self.start(tables, port, 0);
            self.bits = 0;
            start
        })
    }

    /// Frame `from` is now frame `to`, which is not behind it.
    pub(super) fn move_to(&mut self, to: usize, from: usize) {
        let moved = |bits: u64| bits & !(1 << to) | (bits >> from & 1) << to;
        (self.bits, self.oversize) = (moved(self.bits), moved(self.oversize));
        self.kinds[to] = self.kinds[from];
    }

    /// There are only this many frames.
    pub(super) fn truncate(&mut self, len: usize) {
        let kept = u64::MAX
            .checked_shl(len as u32)
            .map_or(u64::MAX, |mask| !mask); // `as`: at most 64
        (self.bits, self.oversize) = (self.bits & kept, self.oversize & kept);
    }

    /// The record of frame `index`.
    #[inline(always)]
    fn start(&self, tables: &Tables, port: &PortTable, index: usize) -> Meta {
        if !self.has(index) {
            return port.start;
        }
        let kind = self.kinds[index];
        let family = if kind & 1 != 0 {
            Family::V4
        } else {
            Family::V6
        };
        if kind == PLAIN_V4 {
            return port.start.of(family);
        }
        let mut meta = port.start;
        let lisp = tables.lisp.as_ref();
        let position = (kind >> 1) as u16; // `as`: it was one
        if let Some(instance) = lisp.and_then(|lisp| lisp.instance_at(position)) {
            steps::enter(&mut meta, instance, family);
        }
        meta
    }

    /// The family of frame `index`, which is apart.
    #[inline(always)]
    fn family(&self, index: usize) -> Family {
        if self.kinds[index] & 1 != 0 {
            Family::V4
        } else {
            Family::V6
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
            let first = self.start(tables, port, start);
            let is_same = |index: &usize| {
                let meta = self.start(tables, port, *index);
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
            let is_common = is_v6 || ingress::is_common_v4(port, frame);
            if is_common {
                let bytes = frame.bytes_mut();
                let frame_len = bytes.len();
                let packet = bytes.get_mut(L3..).unwrap_or(&mut []);
                if lisp.is_for_us(packet, !is_v6) {
                    let inner = decap::open(lisp.rules, packet, !is_v6).and_then(|inner| {
                        let position = steps::admit(tables, lisp, packet, !is_v6, inner)?;
                        let kind = u32::from(position) << 1 | u32::from(inner.is_v4);
                        let packet = packet.get(inner.offset..).unwrap_or(&[]);
                        self.destinations[index] = self.apart.add(index, kind, packet);
                        Ok(inner)
                    });
                    match inner.and_then(|inner| steps::strip(frame, L3, inner)) {
                        Ok(()) => {
                            self.rules_in[index] = NO_RULE;
                            opened += 1;
                            opened_bytes += frame_len as u64; // `as`: a frame's length
                        }
                        Err(reason) => self.leave(index, Next::Drop(reason), port.start),
                    }
                    continue;
                }
            }
            if is_v6 && self.admit_common(tables, port, index, frame, &mut walk) {
                continue;
            }
            if is_common && !is_v6 {
                self.destinations[index] = self.apart.add_v4(index, frame.bytes());
                continue;
            }
            let mut meta = port.start;
            match open_odd(tables, lisp, port, frame, &mut meta, &mut walk) {
                Ok(()) if let Some(position) = lisp.position_of(&meta) => {
                    let kind = u32::from(position) << 1 | u32::from(meta.family == Family::V4);
                    let packet = frame.bytes().get(L3..).unwrap_or(&[]);
                    self.destinations[index] = self.apart.add(index, kind, packet);
                    self.rules_in[index] = NO_RULE;
                }
                Ok(()) if meta.family == Family::V4 => {
                    self.destinations[index] = self.apart.add_v4(index, frame.bytes());
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
    fn choose<F: Frame, const APART: bool>(
        &mut self,
        tables: &Tables,
        lisp: &Lisp,
        (port, start): (&PortTable, &Meta),
        frames: &[F],
    ) {
        let apart = &mut self.apart;
        let leaves = &mut self.leaves[..frames.len()];
        for (index, (frame, leaf)) in frames.iter().zip(&*leaves).enumerate() {
            if leaf & LEAF != 0 {
                lisp.shared.prefetch_mapping(*leaf);
                let is_v4 = APART && apart.has(index) && apart.family(index) == Family::V4;
                let packet = frame.bytes().get(L3..).unwrap_or(&[]);
                apart.hashes[index] = lisp.hash(packet, is_v4);
            }
        }
        for (leaf, set) in leaves.iter().zip(&mut apart.locators) {
            *set = 0;
            if leaf & LEAF != 0 {
                *set = lisp.shared.set_of(*leaf);
                lisp.shared.prefetch_set(*set);
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
                let vrf = if APART {
                    apart.start(tables, port, index).vrf
                } else {
                    start.vrf
                };
                if let Way::Native(number) = lisp.way_without_locator(vrf, set, hash) {
                    *leaf = number;
                }
            }
        }
    }

    /// Last loop of a burst with packets that go to a mapping or are finished, or (`APART`) that differ from others of their
    /// port. Tells how many were encapsulated, and had nothing odd about them.
    #[inline(always)]
    pub(super) fn finish_apart<F: Frame, const APART: bool>(
        &mut self,
        tables: &Tables,
        (port, start): (&PortTable, &Meta),
        memory: &Memory,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> (Finished, usize) {
        let lisp = tables.lisp.as_ref();
        match lisp {
            Some(lisp) => self.choose::<F, APART>(tables, lisp, (port, start), frames),
            None => self.apart.locators.fill(0),
        }
        let usual = lisp.and_then(|lisp| lisp.instance_of(start.vrf));
        let mut walk = Walk::<true>::new(tables, counters);
        let mut finished = self.settled;
        let (mut sealed, mut sealed_bytes) = (0, 0);
        for (index, frame) in frames.iter_mut().enumerate() {
            if self.sealed >> index & 1 != 0 {
                continue;
            }
            let is_apart = APART && self.apart.has(index);
            let family = if is_apart {
                self.apart.family(index)
            } else {
                Family::V6
            };
            let locator = self.apart.locators[index];
            if let Some(lisp) = lisp
                && locator != 0
            {
                let is_ours = |packet: &[u8]| {
                    if is_apart {
                        let meta = self.apart.start(tables, port, index);
                        steps::is_source_ours(lisp, packet, &meta)
                            && !steps::is_stranger(lisp, packet, &meta)
                    } else if start.is_decapsulated {
                        steps::is_source_ours(lisp, packet, start)
                    } else {
                        lisp.takes(usual, packet)
                    }
                };
                let locator = lisp.shared.locator(locator);
                let hash = self.apart.hashes[index];
                let (number, next_hop) = steps::underlay(tables, locator, hash);
                let len = seal(lisp, locator, next_hop, hash, family, frame, is_ours);
                if let Some(len) = len {
                    self.leaves[index] = number;
                    finished.add(next_hop, len);
                    sealed += 1;
                    sealed_bytes += len as u64; // `as`: a frame's length
                    continue;
                }
            } else {
                let leaf = self.leaves[index];
                if is_forwarded(tables, leaf, family, frame.bytes_mut(), &mut walk) {
                    finished.add(tables.next_hop(leaf), frame.bytes().len());
                    continue;
                }
            }
            self.finish_one_odd(
                (tables, memory),
                (port, start),
                index,
                frame,
                &mut walk,
                &mut finished,
            );
        }
        walk.finish();
        if sealed > 0 {
            counters.lisp_encap.packets.add(sealed as u64); // `as`: at most BURST_MAX
            counters.lisp_encap.bytes.add(sealed_bytes);
        }
        (finished, sealed)
    }

    #[cold]
    #[inline(never)]
    fn finish_one_odd<F: Frame>(
        &mut self,
        (tables, memory): (&Tables, &Memory),
        (port, start): (&PortTable, &Meta),
        index: usize,
        frame: &mut F,
        walk: &mut Walk<'_, true>,
        finished: &mut Finished,
    ) {
        let start = if self.apart.has(index) {
            self.apart.start(tables, port, index)
        } else {
            *start
        };
        let rule_in = if port.has_rules && !self.apart.has(index) {
            self.rules_in[index]
        } else {
            NO_RULE
        };
        let mut meta = Meta {
            next_hop: self.leaves[index],
            rule_in,
            ..start
        };
        match finish_odd(tables, memory, frame, &mut meta, walk) {
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
