//! The short way for packets to service addresses, and for what comes back translated.
//!
//! Whatever is not common about a packet is left as it is, for the nodes or for what they do one by one: so nothing is
//! chosen or counted twice.

use arrayvec::ArrayVec;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::node::Node;

use super::{Express, L3, first_ones, plain_mut, send};
use crate::fib::{self, Kind};
use crate::meta::{Meta, NO_RULE, Next};
use crate::steer::memory::Memory;
use crate::steer::node::Steering;
use crate::steer::returns::Common;
use crate::steer::rewrite::{self, Ends};
use crate::steer::spot::{Aim, Scout, Spot, Way};
use crate::steer::view::{Server, Steer, count_packet};
use crate::steer::{encap, full};
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
        let scout = Scout::new(steer, memory);
        let apart = self.apart.bits();
        let leaves = &self.leaves[..frames.len()];
        let mut steered = 0;
        let (mut led, mut sealed, mut sessions) = (0, 0, 0);
        let mut alike = 0;
        if apart == 0
            && self.go_one_way(frames.len())
            && let Some(next_hop) = leaves.first().map(|leaf| tables.next_hop(*leaf))
            && next_hop.kind == Kind::Service
            && let Some(aim) = scout.aim(next_hop.first)
        {
            alike = spot_alike(&aim, frames, &mut self.spots);
            steered = alike as u64; // `as`: at most a burst
            let bits = first_ones(alike);
            match aim.way() {
                Way::Session => sessions = bits,
                Way::Encapsulated => sealed = bits,
                _ => led = bits,
            }
        }
        let rest = frames[alike..].iter().zip(&leaves[alike..]);
        for (((frame, leaf), spot), index) in rest.zip(&mut self.spots[alike..]).zip(alike..) {
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
        if led & 1 != 0 && alike > 0 {
            let frames = &mut frames[..alike];
            let done = match self.spots[0].way {
                Way::Translated => self.lead_alike::<F, true>(tables, looked_at, frames, counters),
                _ => self.lead_alike::<F, false>(tables, looked_at, frames, counters),
            };
            led &= !first_ones(done);
        }
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

    /// To the servers that are remembered of their flows, frames to one service (`NAT`: translated), up to the first of a
    /// flow that does not just go on, or that is not plainly sent; how many. What it does is what [`Express::lead`] does.
    #[inline(never)]
    fn lead_alike<F: Frame, const NAT: bool>(
        &mut self,
        tables: &Tables,
        (steer, memory, now): (&Steer, &Memory, u16),
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> usize {
        let flows = steer.goes_on(memory, now);
        let mut settled = self.settled;
        let mut done = 0;
        for ((frame, leaf), spot) in frames.iter_mut().zip(&mut self.leaves).zip(&self.spots) {
            let Some(ready) = flows.server_of(spot) else {
                break;
            };
            let to = tables.next_hop(ready.next_hop);
            let Some((link, packet)) = plain_mut(frame.bytes_mut(), to) else {
                break;
            };
            if NAT {
                let ends = Ends {
                    source: None,
                    destination: steer.server(ready.number).and_then(Server::end),
                };
                rewrite::common(packet, &ends);
            }
            send(link, packet, to);
            *leaf = ready.next_hop;
            count_packet(ready.number, spot.len(), counters);
            settled.add(to, spot.len());
            done += 1;
        }
        self.settled = settled;
        self.sealed |= first_ones(done);
        done
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
            let (number, next_hop) = if let Some(ready) = flows.server_of(spot) {
                count_packet(ready.number, spot.len(), counters);
                (ready.number, ready.next_hop)
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
            if let Some((link, packet)) = plain_mut(bytes, to) {
                if is_translated {
                    rewrite::common(packet, &ends(number));
                }
                send(link, packet, to);
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
                && let Some(ready) = flows.server_of(spot)
                && let Some(tunnel) = steer.tunnel(ready.number)
                && let next_hop = tables.next_hop(ready.next_hop)
                && let Some(len) = encap::seal(tunnel, next_hop, spot.flow, frame)
            {
                count_packet(ready.number, spot.len(), counters);
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
        let mut places = [None; BURST_MAX];
        for index in ones(bits) {
            let spot = &self.spots[index];
            if spot.way == Way::Session {
                places[index] = steer.guess(memory, spot);
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
                let Some(place) = places[index] else {
                    continue;
                };
                let known = full::known(steer, memory, (spot.role, place), packet, now);
                let Some((session, server)) = known else {
                    continue;
                };
                let Some(ends) = full::outward_whole(steer, &session) else {
                    continue;
                };
                let to = tables.next_hop(server.next_hop);
                if let Some((link, packet)) = plain_mut(bytes, to) {
                    rewrite::whole(packet, &ends);
                    send(link, packet, to);
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
                answers.push(ends.destination);
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
                    if let Some((link, packet)) = plain_mut(bytes, to) {
                        rewrite::common(packet, &ends);
                        send(link, packet, to);
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

/// Where the flows of frames to one service are remembered, up to the first that is not common; how many.
#[inline(never)] // so that what the loop needs stands in registers
fn spot_alike<F: Frame>(aim: &Aim<'_>, frames: &[F], spots: &mut [Spot; BURST_MAX]) -> usize {
    let aim = *aim;
    let mut alike = 0;
    for (frame, spot) in frames.iter().zip(spots) {
        let Some(found) = aim.spot::<L3>(frame.bytes()) else {
            break;
        };
        *spot = found;
        alike += 1;
    }
    alike
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
