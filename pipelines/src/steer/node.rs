//! The loop round steering, and what it does to one packet: choose the server, and lead there.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::reason::DropReason;
use dataplane::wire::ipv6::proto;

use super::encap::encapsulate;
use super::flow;
use super::full;
use super::memory::Memory;
use super::rewrite::{self, End, Ends};
use super::spec::Mode;
use super::view::Steer;
use crate::fib::{self, Kind};
use crate::icmp_error::IcmpError;
use crate::meta::{Entry, Family, Meta, Next};
use crate::tables::Tables;

/// After the lookup: what goes to a service address, and what comes back translated.
pub(crate) struct Steering<'a> {
    pub(crate) counters: &'a WorkerCounters,
    pub(crate) memory: &'a Memory,
    /// Some packet of the last batch leaves by an uplink with NPT66 rules.
    pub(crate) any_rules: bool,
}

impl<F: Frame> Node<F> for Steering<'_> {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "steer";
    const INDEX: usize = 9;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        let Some(steer) = &tables.steer else {
            return;
        };
        let now = steer.now();
        for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
            let next = if tables.next_hop(meta.next_hop).is_steered() {
                step(tables, steer, self.memory, frame, meta, now, self.counters)
            } else if is_from_servers(tables, meta) {
                turn_back(steer, (self.memory, now), frame, meta)
            } else {
                continue;
            };
            match next {
                Next::Continue => self.any_rules |= tables.next_hop(meta.next_hop).rule_set != 0,
                next => leaving.push(index, next),
            }
        }
    }
}

/// Choose the server of a packet whose leaf is a service address; it goes on with the next hop to it, and what is in its
/// way is found as for any packet. What comes to a source address of full NAT is looked up again.
pub(crate) fn step<F: Frame>(
    tables: &Tables,
    steer: &Steer,
    memory: &Memory,
    frame: &mut F,
    meta: &mut Meta,
    now: u16,
    counters: &WorkerCounters,
) -> Next {
    if meta.entry == Entry::Scoped {
        return Next::Error(DropReason::LinkLocalScope, IcmpError::BeyondScope);
    }
    let leaf = tables.next_hop(meta.next_hop);
    if leaf.kind == Kind::Return {
        return full::back(steer, (memory, now), frame, meta, leaf.first, counters);
    }
    let bytes = frame.bytes();
    let packet = bytes.get(meta.l3_offset()..).unwrap_or(&[]);
    let Some(read) = flow::read(packet) else {
        return Next::Drop(DropReason::SteerHeaders);
    };
    let key = match steer.key(leaf.first, &read, packet) {
        Ok(key) => key,
        Err(reason) => return refuse(reason, read.protocol),
    };
    if steer.is_full(memory, &key, now) {
        let flow = full::Outward {
            tables,
            steer,
            memory,
            now,
            counters,
        };
        return match flow.lead(&key, &read, frame, meta) {
            Ok(()) => Next::Continue,
            Err(Next::Drop(DropReason::SteerNoServer)) if !steer.refuses(&key) => {
                Next::Drop(DropReason::SteerNoServer)
            }
            Err(Next::Drop(reason)) => refuse(reason, read.protocol),
            Err(next) => next,
        };
    }
    let server = match steer.choose(memory, &key, now, bytes.len(), counters) {
        Ok(server) => server,
        Err(DropReason::SteerNoServer) if !steer.refuses(&key) => {
            return Next::Drop(DropReason::SteerNoServer);
        }
        Err(DropReason::SteerFragment) => return early(meta),
        Err(reason) => {
            if reason == DropReason::SteerCut {
                steer.forget(memory, &key, now);
            }
            return refuse(reason, read.protocol);
        }
    };
    meta.next_hop = server.next_hop;
    match (steer.tunnel(server.number), steer.mode(server)) {
        (Some(tunnel), _) => encapsulate(tables, tunnel, read.flow(), frame, meta),
        (None, Some(Mode::Dnat { .. })) => translate(tables, server.end(), frame, meta),
        (None, _) => fib::exceptional(tables, frame.bytes(), meta),
    }
}

/// Send a packet to its server's own address. What is in its way is found before, so that an error quotes what the client
/// sent.
fn translate<F: Frame>(
    tables: &Tables,
    destination: Option<End>,
    frame: &mut F,
    meta: &mut Meta,
) -> Next {
    match fib::exceptional(tables, frame.bytes(), meta) {
        Next::Continue => {}
        next => return next,
    }
    let ends = Ends {
        source: None,
        destination,
    };
    let packet = frame.bytes_mut().get_mut(meta.l3_offset()..);
    match rewrite::translate(packet.unwrap_or(&mut []), &ends) {
        Ok(()) => Next::Continue,
        Err(reason) => Next::Drop(reason),
    }
}

/// Whether a packet may be what a server answers that was sent translated packets.
#[inline]
fn is_from_servers(tables: &Tables, meta: &Meta) -> bool {
    tables.interface(meta.interface).has_servers
        && meta.entry == Entry::Received
        && meta.family == Family::V6
        && !meta.is_decapsulated
}

/// A fragment whose first one is not known: it waits for that once.
pub(super) fn early(meta: &Meta) -> Next {
    match meta.has_waited {
        false => Next::Wait,
        true => Next::Drop(DropReason::SteerFragment),
    }
}

/// Turn a packet back that can go on, if it is an answer.
fn turn_back<F: Frame>(steer: &Steer, memory: (&Memory, u16), frame: &mut F, meta: &Meta) -> Next {
    let packet = frame.bytes_mut().get_mut(meta.l3_offset()..);
    match steer.turn_back(memory, meta.vrf, packet.unwrap_or(&mut [])) {
        Ok(()) => Next::Continue,
        // Without its first one nobody knows whether it is an answer: the server may speak for itself.
        Err(DropReason::SteerFragment) if meta.has_waited => Next::Continue,
        Err(DropReason::SteerFragment) => Next::Wait,
        Err(reason) => Next::Drop(reason),
    }
}

/// How a packet is answered that no server gets.
fn refuse(reason: DropReason, protocol: u8) -> Next {
    match reason {
        // As a host without that service does, which has a reset where TCP is refused (RFC 4443 3.1).
        DropReason::SteerNoService | DropReason::SteerNoServer | DropReason::SteerCut
            if protocol == proto::TCP =>
        {
            Next::Reset(reason)
        }
        DropReason::SteerNoService | DropReason::SteerNoServer if protocol == proto::UDP => {
            Next::Error(reason, IcmpError::PortUnreachable)
        }
        DropReason::SteerNoServer => Next::Error(reason, IcmpError::AddressUnreachable),
        _ => Next::Drop(reason),
    }
}
