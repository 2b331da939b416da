//! The short way for packets to service addresses, and for what comes back translated.
//!
//! Whatever is not common about a packet is left as it is, for the nodes or for what they do one by one: so nothing is
//! chosen or counted twice.

use arrayvec::ArrayVec;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::node::Node;

use super::{Express, L3};
use crate::fib::{self, Kind};
use crate::meta::{Meta, NO_RULE, Next};
use crate::steer::memory::Memory;
use crate::steer::node::Steering;
use crate::steer::returns::Common;
use crate::steer::rewrite::{self, Ends};
use crate::steer::view::{Steer, Way};
use crate::steer::{flow, full};
use crate::tables::{PortTable, Tables, VrfId};

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
        let leaves = &mut self.leaves[..frames.len()];
        let mut steered = 0;
        let mut sessions = 0_u64;
        for (index, (frame, leaf)) in frames.iter().zip(&*leaves).enumerate() {
            let key = &mut self.keys[index];
            *key = None;
            let next_hop = tables.next_hop(*leaf);
            if !next_hop.is_steered() {
                continue;
            }
            steered += 1;
            if self.apart.has(index) {
                continue;
            }
            let packet = frame.bytes().get(L3..).unwrap_or(&[]);
            if next_hop.kind == Kind::Return {
                if let Some(place) = full::place_of(packet, next_hop.first) {
                    memory.sessions().prefetch_place(place);
                    sessions |= 1 << index;
                }
                continue;
            }
            if let Some(read) = flow::read_common(packet)
                && let Ok(found) = steer.key(next_hop.first, &read, packet)
            {
                match steer.way(&found, &read, packet) {
                    Way::Memory => {
                        steer.prefetch(memory, &found);
                        *key = Some(found);
                    }
                    Way::Session => {
                        steer.prefetch_session(memory, &found);
                        *key = Some(found);
                        sessions |= 1 << index;
                    }
                    Way::Odd => {}
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
        if sessions != 0 {
            self.translate(
                tables,
                (steer, memory, now),
                vrf,
                sessions,
                frames,
                counters,
            );
        }
        let leaves = &mut self.leaves[..frames.len()];
        for (index, ((frame, leaf), key)) in
            frames.iter_mut().zip(leaves).zip(&self.keys).enumerate()
        {
            if sessions >> index & 1 == 0
                && let Some(key) = key
                && let Ok(server) = steer.choose(memory, key, now, frame.bytes().len(), counters)
            {
                *leaf = server.next_hop;
                if let Some(end) = server.end()
                    && let Some(packet) = frame.bytes_mut().get_mut(L3..)
                    && let Some(number) = fib::neighbor_of(tables, vrf, packet, *leaf)
                {
                    // Judged before it is translated, so that an error quotes what the client sent.
                    let ends = Ends {
                        source: None,
                        destination: Some(end),
                    };
                    rewrite::common(packet, &ends);
                    *leaf = number;
                }
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
        let chosen = |index: usize| bits >> index & 1 != 0;
        let mut places = [None; BURST_MAX];
        for (index, (key, place)) in self.keys[..frames.len()]
            .iter()
            .zip(&mut places)
            .enumerate()
        {
            if chosen(index)
                && let Some(key) = key
            {
                *place = steer.guess(memory, key);
            }
        }
        let mut answers: ArrayVec<[u8; 16], BURST_MAX> = ArrayVec::new();
        let mut positions: ArrayVec<usize, BURST_MAX> = ArrayVec::new();
        for (index, frame) in frames.iter_mut().enumerate() {
            if !chosen(index) {
                continue;
            }
            let leaf = &mut self.leaves[index];
            let len = frame.bytes().len();
            let packet = frame.bytes_mut().get_mut(L3..).unwrap_or(&mut []);
            if let Some(key) = &self.keys[index] {
                if let Some(place) = places[index]
                    && let Some((session, server)) =
                        full::known(steer, memory, (key, place), packet, now)
                    && let Some(number) = fib::neighbor_of(tables, vrf, packet, server.next_hop)
                    && let Some(ends) = full::outward(steer, &session, true)
                {
                    full::go_on(&session, key, server, (now, len), counters);
                    rewrite::common(packet, &ends);
                    *leaf = number;
                }
            } else if let Some(ends) =
                full::answer(memory, tables.next_hop(*leaf).first, packet, now)
            {
                rewrite::common(packet, &ends);
                if let Some(client) = ends.destination {
                    answers.push(client.address);
                    positions.push(index);
                }
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
                    if let Some(number) = fib::neighbor_of(tables, start.vrf, packet, leaf) {
                        let ends = Ends {
                            source: Some(service),
                            destination: None,
                        };
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
