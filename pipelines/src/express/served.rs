//! The short way in three loops for a burst to one service whose flows all go on: where each is remembered, which server it
//! went to, then there.
//!
//! Between the loops memory is waited for side by side. As in [`straight`](super::straight) nothing is written to a packet
//! before all is known of it: the first that is not common, or whose flow does not just go on, is as it was received, and so
//! are all behind it.

use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::node::Node;
use dataplane::port::PortId;
use dataplane::wire::checksum::{self, Change};

use super::alike::Common;
use super::{Express, Finished, L3, destination_of, header_of, plain_mut, send};
use crate::fib::Kind;
use crate::ingress::{self, ORDINARY};
use crate::npt66::Direction;
use crate::steer::flow::Role;
use crate::steer::memory::Memory;
use crate::steer::node::Steering;
use crate::steer::sessions::Place;
use crate::steer::spot::{Aim, SHORTEST, Scout, Way};
use crate::steer::view::{Steer, count_packet, count_packet_in};
use crate::steer::{encap, full, rewrite};
use crate::tables::{PortTable, Tables};

/// Scratch space: what the first loop finds of each packet.
pub(super) struct Sights {
    /// Where its flow is remembered.
    hashes: [u64; BURST_MAX],
    /// Of packets to be encapsulated: the flow's hash, the same on every box.
    flows: [u64; BURST_MAX],
    roles: [Role; BURST_MAX],
    /// The server it went to.
    servers: [u16; BURST_MAX],
    /// Of full NAT: number of the place where most likely its session is; 0: there is none.
    places: [u32; BURST_MAX],
}

impl Sights {
    pub(super) fn new() -> Self {
        Self {
            hashes: [0; BURST_MAX],
            flows: [0; BURST_MAX],
            roles: [Role::Later; BURST_MAX],
            servers: [0; BURST_MAX],
            places: [0; BURST_MAX],
        }
    }
}

impl Express {
    /// The first frames of a burst, as far as they are to the service that the first is to and go the short way to their
    /// servers; [`Express::leaf`] says by which next hop each. `None`: the first is to none.
    #[inline(never)]
    pub(super) fn serve<F: Frame>(
        &mut self,
        tables: &Tables,
        (ingress, port): (PortId, &PortTable),
        memory: &Memory,
        frames: &mut [F],
        counters: &WorkerCounters,
    ) -> Option<Common> {
        let steer = tables.steer.as_ref()?;
        let service = destination_of(header_of(frames.first()?)?);
        let prefix = u64::from_be_bytes(*service.first_chunk()?);
        let (first, last) = ORDINARY;
        if !(first..=last).contains(&prefix) {
            return None;
        }
        if port.has_rules {
            let set = tables.interface(port.start.interface).rule_set;
            if tables.rule_set(set)?.find(Direction::In, prefix).is_some() {
                return None;
            }
        }
        let fib = tables.fib(port.start.vrf);
        let leaf = self.known.leaf(ingress, fib, &service);
        let next_hop = tables.next_hop(leaf);
        if next_hop.kind != Kind::Service {
            return None;
        }
        let aim = Scout::new(steer, memory).aim(next_hop.first, &service)?;
        let look = match aim.way() {
            Way::Plain => look::<F, false, false>,
            Way::Encapsulated => look::<F, true, false>,
            _ => look::<F, false, true>,
        };
        let seen = look(port, &aim, &service, frames, &mut self.sights);
        for hash in &self.sights.hashes[..seen] {
            aim.prefetch(*hash);
        }
        let mut burst = Burst {
            tables,
            looked_at: (steer, memory, steer.now()),
            aim: &aim,
            sights: &mut self.sights,
            counters,
        };
        let known = match aim.way() {
            Way::Session => seen,
            _ => burst.recall(seen),
        };
        let (frames, leaves) = (&mut frames[..known], &mut self.leaves[..known]);
        let common = match aim.way() {
            Way::Plain => burst.lead::<F, false>(&service, frames, leaves),
            Way::Translated => burst.lead::<F, true>(&service, frames, leaves),
            Way::Encapsulated => burst.seal(frames, leaves),
            Way::Session => burst.translate(frames, leaves),
            Way::Odd => Common::NONE,
        };
        if common.frames > 0 {
            let counter = &counters.nodes[<Steering<'_> as Node<F>>::INDEX];
            counter.calls.add(1);
            counter.frames.add(common.frames as u64); // `as`: at most a burst
        }
        Some(common)
    }
}

/// First loop: how many are common and to the service, and where their flows are remembered.
#[inline(never)] // so that what the loop needs stands in registers
fn look<F: Frame, const SEALED: bool, const REWRITTEN: bool>(
    port: &PortTable,
    aim: &Aim<'_>,
    service: &[u8; 16],
    frames: &[F],
    sights: &mut Sights,
) -> usize {
    let aim = *aim;
    let mut seen = 0;
    let sights = sights
        .hashes
        .iter_mut()
        .zip(&mut sights.flows)
        .zip(&mut sights.roles);
    for (frame, ((hash, flow), role)) in frames.iter().zip(sights) {
        // Shorter ones are found out below as well: this is the only length to compare.
        if frame.bytes().len() < L3 + SHORTEST {
            break;
        }
        if !ingress::is_common_but_for_destination(port, frame)
            || header_of(frame).map(destination_of) != Some(*service)
        {
            break;
        }
        let Some(sight) = aim.sight::<L3, SEALED, REWRITTEN>(frame.bytes()) else {
            break;
        };
        (*hash, *role) = (sight.hash, sight.role);
        if SEALED {
            *flow = sight.flow;
        }
        seen += 1;
    }
    seen
}

/// What the second loops have in common. Each ends at the first frame that it leaves as it was.
struct Burst<'a> {
    tables: &'a Tables,
    looked_at: (&'a Steer, &'a Memory, u16),
    aim: &'a Aim<'a>,
    sights: &'a mut Sights,
    counters: &'a WorkerCounters,
}

impl Burst<'_> {
    /// Second loop: the server to which each flow went; of how many one is known. What is ready of them is not asked for: few
    /// servers are near in any case.
    #[inline(always)]
    fn recall(&mut self, seen: usize) -> usize {
        let (steer, memory, now) = self.looked_at;
        let flows = steer.goes_on(memory, now);
        let Sights {
            hashes,
            roles,
            servers,
            ..
        } = &mut *self.sights;
        let mut known = 0;
        for ((server, hash), role) in servers.iter_mut().zip(hashes).zip(roles).take(seen) {
            let Some(number) = flows.recall(*hash, *role) else {
                break;
            };
            *server = number;
            known += 1;
        }
        known
    }

    /// By what is remembered, as they are or (`NAT`) to the server's address.
    #[inline(always)]
    fn lead<F: Frame, const NAT: bool>(
        &self,
        service: &[u8; 16],
        frames: &mut [F],
        leaves: &mut [u32],
    ) -> Common {
        let gone = if NAT {
            -Change::of(checksum::sum(service))
        } else {
            Change::NONE
        };
        let (steer, memory, now) = self.looked_at;
        let flows = steer.goes_on(memory, now);
        let counted = &*self.counters.servers;
        let (mut led, mut finished) = (0, Finished::default());
        let servers = &self.sights.servers;
        for (frame, server) in frames.iter_mut().zip(servers) {
            let Some(ready) = flows.ready(*server, self.aim.pool()) else {
                break;
            };
            let bytes = frame.bytes_mut();
            let len = bytes.len();
            let Some((link, packet)) = plain_mut(bytes, ready.most) else {
                break;
            };
            if NAT {
                let Some((end, come)) = ready.end() else {
                    break;
                };
                rewrite::destination(packet, &end, [gone, come]);
            }
            send(link, packet, &ready.link);
            count_packet_in(*server, len, counted);
            finished.add_marked(ready.marks, len);
            led += 1;
        }
        // Nobody asks by which next hop each of them leaves where all leave by one port.
        if !finished.ports().is_power_of_two() {
            for (leaf, server) in leaves.iter_mut().zip(servers).take(led) {
                *leaf = flows.next_hop_of(*server);
            }
        }
        Common {
            frames: led,
            finished,
        }
    }

    /// In one of our packets.
    #[inline(never)]
    fn seal<F: Frame>(&self, frames: &mut [F], leaves: &mut [u32]) -> Common {
        let (steer, memory, now) = self.looked_at;
        let flows = steer.goes_on(memory, now);
        let mut common = Common::NONE;
        let sights = self.sights.servers.iter().zip(&self.sights.flows);
        for ((frame, leaf), (server, flow)) in frames.iter_mut().zip(leaves).zip(sights) {
            let came = frame.bytes().len();
            let Some(ready) = flows.ready(*server, self.aim.pool()) else {
                break;
            };
            let to = self.tables.next_hop(ready.next_hop);
            let sealed = steer.tunnel(ready.number());
            let sealed = sealed.and_then(|tunnel| encap::seal(tunnel, to, *flow, frame));
            let Some(len) = sealed else {
                break;
            };
            *leaf = ready.next_hop;
            count_packet(ready.number(), came, self.counters);
            common.finished.add(to, len);
            common.frames += 1;
        }
        common
    }

    /// By a session, which says both ends.
    #[inline(never)]
    fn translate<F: Frame>(&mut self, frames: &mut [F], leaves: &mut [u32]) -> Common {
        let (steer, memory, now) = self.looked_at;
        let sights = self.sights.hashes.iter().zip(&mut self.sights.places);
        let (sessions, guesses) = (memory.sessions(), steer.guesses(memory));
        for (hash, place) in sights.take(frames.len()) {
            *place = guesses.place_of(*hash);
        }
        let flows = steer.goes_on(memory, now);
        let counted = &*self.counters.servers;
        let (mut sent, mut finished) = (0, Finished::default());
        let sights = self.sights.places.iter().zip(&self.sights.roles);
        for ((frame, leaf), (place, role)) in frames.iter_mut().zip(leaves).zip(sights) {
            let bytes = frame.bytes_mut();
            let len = bytes.len();
            let Some(packet) = bytes.get(L3..).filter(|_| *place != 0) else {
                break;
            };
            let (looked_at, place) = ((memory, sessions), Place::of(*place));
            let Some(session) = full::kept(steer, looked_at, (*role, place), packet, now) else {
                break;
            };
            let Some(ready) = flows.ready_of(session.number()) else {
                break;
            };
            let Some(ends) = full::outward_whole(steer, &session) else {
                break;
            };
            let Some((link, packet)) = plain_mut(bytes, ready.most) else {
                break;
            };
            rewrite::whole(packet, &ends);
            send(link, packet, &ready.link);
            *leaf = ready.next_hop;
            count_packet_in(ready.number(), len, counted);
            finished.add_marked(ready.marks, len);
            sent += 1;
        }
        Common {
            frames: sent,
            finished,
        }
    }
}
