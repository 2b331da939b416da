//! The lookup: where a packet goes. One prefix table per VRF answers for every destination; on-link hosts and our own
//! addresses are then found exactly.

use std::net::{IpAddr, Ipv6Addr};

use arrayvec::ArrayVec;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::node::{Leaving, Node};
use dataplane::port::PortId;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::ext;
use dataplane::wire::ipv6::{self, proto};

use crate::icmp_error::IcmpError;
use crate::meta::{Entry, Meta, Next};
use crate::tables::{InterfaceId, Tables, VrfId};

/// Offset of the hop limit in the IPv6 header.
pub(crate) const HOP_LIMIT: usize = 7;
/// Offset of the destination address.
const DESTINATION: usize = 24;

/// The bit in [`NextHop::marks`] of an uplink with NPT66 rules, after those of the ports.
pub(crate) const HAS_RULES: u64 = 1 << 32;

/// What a next hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A resolved neighbour: `NextHop::link` is its finished link header.
    Neighbor,
    /// On the link, not resolved: the destination, or `NextHop::via`.
    Glean,
    /// One of our own addresses.
    Local,
    /// Several next hops that share by flow.
    Group,
    /// An outside prefix of ours.
    Hairpin,
    /// Discard, under `NextHop::reason`.
    Drop,
}

/// Where a packet goes: what the lookup's leaf stands for. One cache line and a half.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct NextHop {
    /// Link header: destination, source, tags, type; `NextHop::link_len` bytes of it.
    pub(crate) link: [u8; 24],
    pub(crate) link_len: u8,
    pub(crate) kind: Kind,
    pub(crate) reason: DropReason,
    pub(crate) port: PortId,
    pub(crate) interface: InterfaceId,
    /// IPv6 MTU of the outgoing interface, bytes.
    pub(crate) mtu: u16,
    /// NPT66 rules of the uplink it leaves by; 0: none.
    pub(crate) rule_set: u16,
    /// The longest frame, with a plain link header, that is simply forwarded; 0: none is, ask the other fields.
    pub(crate) express_max: u16,
    /// The same; 0 as well where there are rules.
    pub(crate) express_max_untranslated: u16,
    /// The bit of `port`, and [`HAS_RULES`] where there are.
    pub(crate) marks: u64,
    /// Group: members.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// The interface is down.
    pub(crate) down: bool,
    /// The router to resolve; `None`: the destination itself.
    pub(crate) via: Option<IpAddr>,
}

impl NextHop {
    /// Discard under `reason`.
    pub(crate) fn drop(reason: DropReason) -> Self {
        Self {
            link: [0; 24],
            link_len: 14,
            kind: Kind::Drop,
            reason,
            port: PortId::new(0).expect("0 is below PortId::MAX"),
            interface: InterfaceId(0),
            mtu: 1280, // ipv6::MIN_MTU
            rule_set: 0,
            express_max: 0,
            express_max_untranslated: 0,
            marks: 1,
            first: 0,
            count: 0,
            down: false,
            via: None,
        }
    }
}

/// The node: choose a next hop, check hop limit and MTU before anything is translated outbound (N13).
#[derive(Default)]
pub(crate) struct Lookup {
    /// Some packet of the last batch leaves by an uplink with rules.
    pub(crate) any_rules: bool,
}

impl<F: Frame> Node<F> for Lookup {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "ip6-lookup";
    const INDEX: usize = 2;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        // Keys first, so that the memory of many lookups is waited for at once.
        let mut keys: ArrayVec<[u8; 16], BURST_MAX> = ArrayVec::new();
        for (frame, meta) in frames.iter().zip(meta.iter()) {
            let at = meta.l3_offset() + DESTINATION;
            let key = frame.bytes().get(at..at + 16);
            // Without a whole header it goes nowhere: see `exceptional`.
            keys.push(
                key.and_then(|key| key.first_chunk())
                    .copied()
                    .unwrap_or([0; 16]),
            );
        }
        let mut leaves = [0; BURST_MAX];
        let mut start = 0;
        while let Some(first) = meta.get(start) {
            let vrf = first.vrf;
            let count = meta[start..]
                .iter()
                .take_while(|meta| meta.vrf == vrf)
                .count();
            let run = start..start + count;
            tables
                .fib(vrf)
                .v6
                .lookup_bulk(&keys[run.clone()], &mut leaves[run]);
            start += count;
        }
        let mut rules = 0;
        for (index, ((frame, meta), leaf)) in frames.iter().zip(meta).zip(leaves).enumerate() {
            meta.next_hop = leaf;
            rules |= match forward(tables, frame.bytes(), meta) {
                Some(next_hop) => next_hop.rule_set,
                None => {
                    let next = exceptional(tables, frame.bytes(), meta);
                    if next != Next::Continue {
                        leaving.push(index, next);
                    }
                    tables.next_hop(meta.next_hop).rule_set
                }
            };
        }
        self.any_rules = rules != 0;
    }
}

/// The next hop of the common packet, which is forwarded to a neighbour, alive and small enough.
#[inline]
fn forward<'t>(tables: &'t Tables, bytes: &[u8], meta: &Meta) -> Option<&'t NextHop> {
    let l3 = meta.l3_offset();
    let header: &[u8; ipv6::HEADER_LEN] = bytes.get(l3..l3 + ipv6::HEADER_LEN)?.first_chunk()?;
    let next_hop = tables.next_hop(meta.next_hop);
    let is_common = next_hop.kind == Kind::Neighbor
        && meta.entry == Entry::Received
        && header[HOP_LIMIT] > 1
        && bytes.len() - l3 <= usize::from(next_hop.mtu);
    is_common.then_some(next_hop)
}

/// A packet that is not simply forwarded to the neighbour its leaf names: follow the leaf, then judge.
#[inline(never)]
pub(crate) fn exceptional(tables: &Tables, bytes: &[u8], meta: &mut Meta) -> Next {
    let packet = bytes.get(meta.l3_offset()..).unwrap_or(&[]);
    let Some(header) = packet.first_chunk() else {
        return Next::Drop(DropReason::Truncated);
    };
    meta.next_hop = settle(tables, meta.vrf, packet, meta.next_hop);
    let next_hop = tables.next_hop(meta.next_hop);
    judge(next_hop, header, packet.len(), meta.entry)
}

/// The verdict on a packet whose next hop is known.
fn judge(next_hop: &NextHop, header: &[u8; ipv6::HEADER_LEN], len: usize, entry: Entry) -> Next {
    if next_hop.kind == Kind::Local {
        return Next::Local;
    }
    if entry == Entry::Originated {
        return match next_hop.kind {
            Kind::Neighbor if len > usize::from(next_hop.mtu) => {
                Next::Drop(DropReason::PacketTooBig)
            }
            Kind::Neighbor => Next::Continue,
            Kind::Glean if !next_hop.down => Next::Punt(PuntReason::NeighborMiss),
            // Our own packet to a host behind our own outside prefix: it is translated both ways like any other.
            Kind::Hairpin => Next::Hairpin,
            _ => Next::Drop(next_hop.reason),
        };
    }
    if entry == Entry::Scoped {
        return Next::Error(DropReason::LinkLocalScope, IcmpError::BeyondScope);
    }
    // Before translation, so that the error quotes what the sender sent (N13). RFC 8200 3: a packet that would leave
    // with 0 is discarded.
    if header[HOP_LIMIT] <= 1 && next_hop.kind != Kind::Drop {
        return Next::Error(DropReason::HopLimit, IcmpError::HopLimitExceeded);
    }
    match next_hop.kind {
        Kind::Neighbor => {
            if len > usize::from(next_hop.mtu) {
                return Next::Error(
                    DropReason::PacketTooBig,
                    IcmpError::PacketTooBig { mtu: next_hop.mtu },
                );
            }
            Next::Continue
        }
        Kind::Glean if !next_hop.down => Next::Punt(PuntReason::NeighborMiss),
        Kind::Hairpin => Next::Hairpin,
        Kind::Drop if next_hop.reason == DropReason::Blackhole => Next::Drop(DropReason::Blackhole),
        _ => Next::Error(next_hop.reason, IcmpError::NoRoute),
    }
}

/// Follow a leaf that is not a neighbour: a group to its member, an on-link destination to its host entry.
fn settle(tables: &Tables, vrf: VrfId, packet: &[u8], leaf: u32) -> u32 {
    let mut leaf = leaf;
    let mut next_hop = tables.next_hop(leaf);
    if next_hop.kind == Kind::Group {
        // `as`: both fit a u64; the product's upper half is below `count`.
        let slot = (u64::from(flow_hash(packet)) * u64::from(next_hop.count)) >> 32;
        leaf = tables
            .members
            .get(next_hop.first as usize + slot as usize)
            .copied()
            .unwrap_or(0);
        next_hop = tables.next_hop(leaf);
    }
    // Real hosts and our own addresses come before the translation of an outside prefix that is on the link (N16).
    let asks_hosts = match next_hop.kind {
        Kind::Glean => next_hop.via.is_none(),
        kind => kind == Kind::Hairpin,
    };
    if asks_hosts && let Some(header) = packet.first_chunk() {
        let address = u128::from_be_bytes(*destination(header));
        leaf = tables.hosts.lookup(vrf.0, address).unwrap_or(leaf);
    }
    leaf
}

/// The next hop of a packet and its destination, for the control thread.
pub(crate) fn resolve(tables: &Tables, vrf: VrfId, packet: &[u8]) -> Option<(u32, IpAddr)> {
    let header = packet.first_chunk()?;
    let fib = tables.vrfs.get(usize::from(vrf.0))?;
    let destination = destination(header);
    let leaf = fib.v6.lookup(destination);
    let leaf = settle(tables, vrf, packet, leaf);
    Some((leaf, Ipv6Addr::from(*destination).into()))
}

/// Hash by which the packets of one flow stay together: addresses and flow label where there is one (RFC 6437, RFC
/// 7098), else addresses, protocol and ports; a fragment without ports goes by what every fragment has.
fn flow_hash(packet: &[u8]) -> u32 {
    let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return 0;
    };
    let [_, a, b, c, ..] = *header;
    let label = u64::from(a & 0x0f) << 16 | u64::from(b) << 8 | u64::from(c);
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    for word in header[8..].chunks_exact(8) {
        hash = mix(hash ^ u64::from_be_bytes(word.try_into().expect("chunks of 8")));
    }
    if label != 0 {
        hash = mix(hash ^ label);
    } else if let Ok(upper) = ext::walk(header[6], payload) {
        hash = mix(hash ^ u64::from(upper.protocol));
        let has_ports =
            matches!(upper.protocol, proto::TCP | proto::UDP) && upper.fragment.is_none();
        if let (true, Some(ports)) = (
            has_ports,
            payload
                .get(upper.offset..)
                .and_then(|rest| rest.first_chunk::<4>()),
        ) {
            hash = mix(hash ^ u64::from(u32::from_be_bytes(*ports)));
        }
    }
    (hash >> 32) as u32 // `as`: the upper half
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (value ^ (value >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[inline]
fn destination(header: &[u8; ipv6::HEADER_LEN]) -> &[u8; 16] {
    header.last_chunk().expect("16 of 40 bytes")
}
