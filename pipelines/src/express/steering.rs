//! The short way for packets to service addresses, and for what comes back translated.
//!
//! Whatever is not common about a packet is left as it is, for the nodes or for what they do one by one: so nothing is
//! chosen or counted twice.

use arrayvec::ArrayVec;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::node::Node;

use super::{Express, L3, plain_mut, send};
use crate::fib::{self, Kind};
use crate::meta::{Meta, NO_RULE, Next};
use crate::steer::memory::Memory;
use crate::steer::node::Steering;
use crate::steer::returns::Common;
use crate::steer::rewrite::{self, Ends};
use crate::steer::sessions::Place;
use crate::steer::spot::{Scout, Spot, Way};
use crate::steer::view::{Server, Steer, count_packet};
use crate::steer::{encap, full};
use crate::tables::{PortTable, Tables, VrfId};
use crate::words::joined;

impl Express {
    /// Lead packets to service addresses to their servers, in steps, so that what is remembered of their flows is waited for
    /// side by side; and what comes back by full NAT to clients. What is not common about a packet, or to be
    /// encapsulated, is left for `finish_odd`.
    #[inline(never)]
    pub(super) fn steer<F: Frame>(
        &mut self,
        tables: &Tables,
        (steer, memory): (&Steer, &Memory),
        vrf: VrfId,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) {
        let scout = Scout::new(steer, memory);
        let apart = self.apart.bits();
        let leaves = &self.leaves[..frames.len()];
        let mut steered = 0;
        let (mut led, mut sealed, mut sessions) = (0, 0, 0);
        let all = frames.iter().zip(leaves).zip(&mut self.spots);
        for (((frame, leaf), spot), index) in all.zip(0..) {
            let this = 1_u64 << index;
            let next_hop = tables.next_hop(*leaf);
            if !next_hop.is_steered() {
                continue;
            }
            steered += 1;
            if apart & this != 0 {
                continue;
            }
            let frame = frame.bytes();
            if next_hop.kind == Kind::Return {
                if wait_for_answer(memory, next_hop.first, frame) {
                    *spot = Spot::NONE;
                    sessions |= this;
                }
            } else if let Some(found) = scout.spot::<L3>(next_hop.first, frame) {
                scout.prefetch(&found);
                *spot = found;
                match found.way {
                    Way::Session => sessions |= this,
                    Way::Encapsulated => sealed |= this,
                    _ => led |= this,
                }
            }
        }
        if steered == 0 {
            return;
        }
        let counter = &counters.nodes[<Steering<'_> as Node<F>>::INDEX];
        counter.calls.add(1);
        counter.frames.add(steered);
        let now = steer.now();
        let looked_at = (steer, memory, now);
        if led != 0 {
            self.lead(tables, looked_at, vrf, led, frames, counters);
        }
        if sealed != 0 {
            self.seal(tables, looked_at, sealed, frames, counters);
        }
        if sessions != 0 {
            self.translate(tables, looked_at, vrf, sessions, frames, counters);
        }
    }

    /// To the servers that are remembered of their flows, the frames with these bits.
    #[inline(never)]
    fn lead<F: Frame>(
        &mut self,
        tables: &Tables,
        (steer, memory, now): (&Steer, &Memory, u16),
        vrf: VrfId,
        bits: u64,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) {
        let flows = steer.goes_on(memory, now);
        let (mut this, mut sealed, mut settled) = (1_u64, 0, self.settled);
        for ((frame, leaf), spot) in frames.iter_mut().zip(&mut self.leaves).zip(&self.spots) {
            let bit = this;
            this <<= 1;
            if bits & bit == 0 {
                continue;
            }
            let (number, next_hop) =
                if let Some(ready) = flows.server_of(spot.sight.hash, spot.sight.role, spot.pool) {
                    count_packet(ready.number(), spot.len(), counters);
                    (ready.number(), ready.next_hop)
                } else {
                    let packet = frame.bytes().get(L3..).unwrap_or(&[]);
                    let address = tables.next_hop(*leaf).first;
                    match steer.choose_for(memory, (address, packet), now, spot.len(), counters) {
                        Ok(server) => (server.number, server.next_hop),
                        Err(_) => continue,
                    }
                };
            *leaf = next_hop;
            let is_translated = spot.way == Way::Translated;
            let ends = |number| Ends {
                source: None,
                destination: steer.server(number).and_then(Server::end),
            };
            let to = tables.next_hop(next_hop);
            let bytes = frame.bytes_mut();
            if let Some((link, packet)) = plain_mut(bytes, to.express_max_untranslated) {
                if is_translated {
                    rewrite::common(packet, &ends(number));
                }
                send(link, packet, to.plain_link());
                settled.add(to, spot.len());
                sealed |= bit;
            } else if is_translated
                && let Some(packet) = bytes.get_mut(L3..)
                && let Some(neighbor) = fib::neighbor_of(tables, vrf, packet, next_hop)
            {
                // Judged before it is translated, so that an error quotes what the client sent.
                rewrite::common(packet, &ends(number));
                *leaf = neighbor;
            }
        }
        self.sealed |= sealed;
        self.settled = settled;
    }

    /// Encapsulate the frames with these bits. Any other than one more packet of a flow is for the nodes.
    #[inline(never)]
    fn seal<F: Frame>(
        &mut self,
        tables: &Tables,
        (steer, memory, now): (&Steer, &Memory, u16),
        bits: u64,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) {
        let flows = steer.goes_on(memory, now);
        for index in ones(bits) {
            let spot = &self.spots[index];
            if let Some(frame) = frames.get_mut(index)
                && let Some(ready) = flows.server_of(spot.sight.hash, spot.sight.role, spot.pool)
                && let Some(tunnel) = steer.tunnel(ready.number())
                && let next_hop = tables.next_hop(ready.next_hop)
                && let Some(len) = encap::seal(tunnel, next_hop, spot.sight.flow, frame)
            {
                count_packet(ready.number(), spot.len(), counters);
                self.settled.add(next_hop, len);
                self.leaves[index] = ready.next_hop;
                self.sealed |= 1 << index;
            }
        }
    }

    /// Full NAT, both ways, of the frames with these bits. An answer is looked up once more when it is translated.
    #[inline(never)]
    fn translate<F: Frame>(
        &mut self,
        tables: &Tables,
        (steer, memory, now): (&Steer, &Memory, u16),
        vrf: VrfId,
        bits: u64,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) {
        let mut places = [0; BURST_MAX];
        let guesses = steer.guesses(memory);
        for index in ones(bits) {
            let spot = &self.spots[index];
            if spot.way == Way::Session {
                places[index] = guesses.place_of(spot.sight.hash);
            }
        }
        let mut answers: ArrayVec<[u8; 16], BURST_MAX> = ArrayVec::new();
        let mut positions: ArrayVec<usize, BURST_MAX> = ArrayVec::new();
        for index in ones(bits) {
            let (Some(frame), leaf) = (frames.get_mut(index), &mut self.leaves[index]) else {
                continue;
            };
            let len = frame.bytes().len();
            let bytes = frame.bytes_mut();
            let packet = bytes.get_mut(L3..).unwrap_or(&mut []);
            let spot = &self.spots[index];
            if spot.way == Way::Session {
                if places[index] == 0 {
                    continue;
                }
                let place = Place::of(places[index]);
                let known = full::known(steer, memory, (spot.sight.role, place), packet, now);
                let Some((session, server)) = known else {
                    continue;
                };
                let Some(ends) = full::outward_whole(steer, &session) else {
                    continue;
                };
                let to = tables.next_hop(server.next_hop);
                if let Some((link, packet)) = plain_mut(bytes, to.express_max_untranslated) {
                    rewrite::whole(packet, &ends);
                    send(link, packet, to.plain_link());
                    self.settled.add(to, len);
                    self.sealed |= 1 << index;
                    *leaf = server.next_hop;
                } else if let Some(packet) = bytes.get_mut(L3..)
                    && let Some(number) = fib::neighbor_of(tables, vrf, packet, server.next_hop)
                {
                    rewrite::whole(packet, &ends);
                    *leaf = number;
                } else {
                    continue;
                }
                count_packet(server.number, len, counters);
            } else if let Some(ends) =
                full::answer(steer, memory, tables.next_hop(*leaf).first, packet, now)
            {
                rewrite::whole(packet, &ends);
                answers.push(joined(ends.destination));
                positions.push(index);
            }
        }
        if answers.is_empty() {
            return;
        }
        let mut found = [0; BURST_MAX];
        tables
            .fib(vrf)
            .v6
            .lookup_bulk(&answers, &mut found[..answers.len()]);
        for (index, leaf) in positions.into_iter().zip(found) {
            self.leaves[index] = leaf;
        }
    }

    /// Turn back what servers answer. What is not common about it, and what is in its way, is for the nodes.
    #[inline(never)]
    pub(super) fn turn_back<F: Frame>(
        &mut self,
        tables: &Tables,
        steer: &Steer,
        (port, start): (&PortTable, &Meta),
        frames: &mut [F],
    ) {
        for (index, frame) in frames.iter_mut().enumerate() {
            let leaf = self.leaves[index];
            if self.apart.has(index) || tables.next_hop(leaf).is_steered() {
                continue;
            }
            let Some(packet) = frame.bytes_mut().get_mut(L3..) else {
                continue;
            };
            match steer.returns.common(start.vrf, packet) {
                Common::Foreign => continue,
                Common::Answer(service) => {
                    let ends = Ends {
                        source: Some(service),
                        destination: None,
                    };
                    let to = tables.next_hop(leaf);
                    let bytes = frame.bytes_mut();
                    let len = bytes.len();
                    if let Some((link, packet)) = plain_mut(bytes, to.express_max_untranslated) {
                        rewrite::common(packet, &ends);
                        send(link, packet, to.plain_link());
                        self.settled.add(to, len);
                        self.sealed |= 1 << index;
                        continue;
                    }
                    if let Some(packet) = bytes.get_mut(L3..)
                        && let Some(number) = fib::neighbor_of(tables, start.vrf, packet, leaf)
                    {
                        rewrite::common(packet, &ends);
                        self.leaves[index] = number;
                        continue;
                    }
                }
                Common::Odd => {}
            }
            let rule_in = port.has_rules.then_some(self.rules_in[index]);
            let meta = Meta {
                rule_in: rule_in.unwrap_or(NO_RULE),
                ..*start
            };
            self.leave(index, Next::Continue, meta);
        }
    }
}

/// What is known of the flow of an answer to source address `source` is waited for; `false`: it is not common.
#[inline(never)] // which leaves the loop's registers to what is sent to servers
fn wait_for_answer(memory: &Memory, source: u32, frame: &[u8]) -> bool {
    let place = frame
        .get(L3..)
        .and_then(|packet| full::place_of(packet, source));
    if let Some(place) = place {
        memory.sessions().prefetch_place(place);
    }
    place.is_some()
}

/// The numbers of the bits that are set.
#[inline(always)]
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = (bits != 0).then_some(bits.trailing_zeros() as usize); // `as`: below 64
        bits &= bits.wrapping_sub(1);
        index
    })
}
