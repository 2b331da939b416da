//! The loop round steering, and what it does to one packet: choose the server, and lead there.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::reason::DropReason;
use dataplane::wire::ipv6::{self, proto};

use super::flow;
use super::full;
use super::memory::Memory;
use super::rewrite::{self, End, Ends};
use super::spec::Mode;
use super::view::{Server, Steer};
use crate::fib::{self, HOP_LIMIT, Kind};
use crate::icmp_error::IcmpError;
use crate::lisp::flow::label;
use crate::meta::{Entry, Family, Meta, Next};
use crate::tables::Tables;

/// Hop limit of an outer header: it is a packet of ours.
const OUTER_HOP_LIMIT: u8 = 64;
/// Protocol number of IPv6 in IPv6 (RFC 2473).
const IPV6: u8 = 41;

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
        Err(reason) => {
            if reason == DropReason::SteerCut {
                steer.forget(memory, &key, now);
            }
            return refuse(reason, read.protocol);
        }
    };
    meta.next_hop = server.next_hop;
    match steer.mode(server) {
        Some(Mode::Ip6Ip6 { source }) => {
            let to = (server, source.octets());
            encapsulate(tables, to, read.flow(), frame, meta)
        }
        Some(Mode::Dnat { .. }) => translate(tables, server.end(), frame, meta),
        Some(Mode::L2 | Mode::FullNat { .. }) | None => {
            fib::exceptional(tables, frame.bytes(), meta)
        }
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

/// Turn a packet back that can go on, if it is an answer.
fn turn_back<F: Frame>(steer: &Steer, memory: (&Memory, u16), frame: &mut F, meta: &Meta) -> Next {
    let packet = frame.bytes_mut().get_mut(meta.l3_offset()..);
    match steer.turn_back(memory, meta.vrf, packet.unwrap_or(&mut [])) {
        Ok(()) => Next::Continue,
        Err(reason) => Next::Drop(reason),
    }
}

/// How a packet is answered that no server gets.
fn refuse(reason: DropReason, protocol: u8) -> Next {
    match reason {
        // As a host without that service does.
        DropReason::SteerNoService if matches!(protocol, proto::TCP | proto::UDP) => {
            Next::Error(reason, IcmpError::PortUnreachable)
        }
        DropReason::SteerNoServer | DropReason::SteerCut if protocol == proto::TCP => {
            Next::Reset(reason)
        }
        DropReason::SteerNoServer if protocol == proto::UDP => {
            Next::Error(reason, IcmpError::PortUnreachable)
        }
        DropReason::SteerNoServer => Next::Error(reason, IcmpError::AddressUnreachable),
        _ => Next::Drop(reason),
    }
}

/// Put a packet in one of ours to the server (RFC 2473): hop limit and MTU are looked at before, so that an error quotes
/// what the client sent. The outer flow label is made of the inner addresses and ports, so that the server spreads flows
/// over its cores (RFC 6438 3).
fn encapsulate<F: Frame>(
    tables: &Tables,
    (server, source): (&Server, [u8; 16]),
    hash: u64,
    frame: &mut F,
    meta: &mut Meta,
) -> Next {
    let l3 = meta.l3_offset();
    let Some(packet) = frame.bytes_mut().get_mut(l3..) else {
        return Next::Drop(DropReason::Truncated);
    };
    let inner_len = packet.len();
    let Some(header) = packet.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return Next::Drop(DropReason::Truncated);
    };
    let next_hop = tables.next_hop(meta.next_hop);
    let number = match next_hop.kind {
        Kind::Group => fib::member(tables, next_hop, (hash >> 32) as u32), // `as`: the upper half
        _ => meta.next_hop,
    };
    let next_hop = tables.next_hop(number);
    if !matches!(next_hop.kind, Kind::Neighbor | Kind::Glean) {
        return fib::exceptional(tables, frame.bytes(), meta);
    }
    let is_ours = meta.entry == Entry::Originated;
    if !is_ours && header[HOP_LIMIT] <= 1 {
        return Next::Error(DropReason::HopLimit, IcmpError::HopLimitExceeded);
    }
    let room = next_hop.mtu.saturating_sub(40); // ipv6::HEADER_LEN
    if inner_len > usize::from(room) {
        // RFC 2473 7.1 (b), RFC 8200 5: a host is never told less than it may always send.
        return if usize::from(room) < ipv6::MIN_MTU {
            Next::Drop(DropReason::PacketTooBig)
        } else {
            Next::Error(
                DropReason::PacketTooBig,
                IcmpError::PacketTooBig { mtu: room },
            )
        };
    }
    if !is_ours {
        header[HOP_LIMIT] -= 1;
    }
    let class = header[0] << 4 | header[1] >> 4;
    if frame.prepend(ipv6::HEADER_LEN).is_err() {
        return Next::Drop(DropReason::NoHeadroom);
    }
    let Some(outer) = frame.bytes_mut().get_mut(l3..) else {
        return Next::Drop(DropReason::Truncated);
    };
    let Some(outer) = outer.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return Next::Drop(DropReason::Truncated);
    };
    let first = 6 << 28 | u32::from(class) << 20 | label(hash);
    outer[..4].copy_from_slice(&first.to_be_bytes());
    let payload_len = u16::try_from(inner_len).unwrap_or(u16::MAX); // it fits the MTU
    outer[4..6].copy_from_slice(&payload_len.to_be_bytes());
    outer[6] = IPV6;
    outer[7] = OUTER_HOP_LIMIT;
    outer[8..24].copy_from_slice(&source);
    outer[24..].copy_from_slice(&server.address);
    *meta = Meta {
        trace: meta.trace,
        l3: meta.l3,
        next_hop: number,
        vrf: tables.interface(next_hop.interface).vrf,
        family: Family::V6,
        ..Meta::originate(next_hop.interface)
    };
    fib::exceptional(tables, frame.bytes(), meta)
}
