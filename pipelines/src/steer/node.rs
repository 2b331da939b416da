//! The loop round steering, and what it does to one packet: choose the server, and lead there.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::reason::DropReason;
use dataplane::wire::ipv6::proto;

use super::encap::encapsulate;
use super::flow;
use super::memory::Memory;
use super::view::Steer;
use crate::fib::{self, Kind};
use crate::icmp_error::IcmpError;
use crate::meta::{Entry, Meta, Next};
use crate::tables::Tables;

/// After the lookup: what goes to a service address.
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
            if tables.next_hop(meta.next_hop).kind != Kind::Service {
                continue;
            }
            match step(tables, steer, self.memory, frame, meta, now, self.counters) {
                Next::Continue => self.any_rules |= tables.next_hop(meta.next_hop).rule_set != 0,
                next => leaving.push(index, next),
            }
        }
    }
}

/// Choose the server of a packet whose leaf is a service address; it goes on with the next hop to it, and what is in its
/// way is found as for any packet.
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
    let bytes = frame.bytes();
    let packet = bytes.get(meta.l3_offset()..).unwrap_or(&[]);
    let address = tables.next_hop(meta.next_hop).first;
    let Some(read) = flow::read(packet) else {
        return Next::Drop(DropReason::SteerHeaders);
    };
    let key = match steer.key(address, &read, packet) {
        Ok(key) => key,
        Err(reason) => return refuse(reason, read.protocol),
    };
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
    match steer.tunnel(server) {
        Some(tunnel) => encapsulate(tables, tunnel, read.flow(), frame, meta),
        None => fib::exceptional(tables, frame.bytes(), meta),
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
