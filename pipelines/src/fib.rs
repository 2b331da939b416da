//! The lookup: where a packet goes. One prefix table per VRF and family answers for every destination; on-link hosts and our own
//! addresses are then found exactly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::node::{Leaving, Node};
use dataplane::port::PortId;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{FromBytes, ethernet, ext, ipv4};

use crate::icmp_error::IcmpError;
use crate::lisp::{self, table::LEAF};
use crate::meta::{Entry, Family, Meta, Next};
use crate::tables::{InterfaceId, Tables, VrfId, host_key};

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
    /// A service address: `NextHop::first` is its number.
    Service,
    /// A source address of full NAT: `NextHop::first` is its number.
    Return,
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
    /// MTU of the outgoing interface, bytes.
    pub(crate) mtu: u16,
    /// NPT66 rules of the uplink it leaves by; 0: none.
    pub(crate) rule_set: u16,
    /// The longest frame, with a plain link header, that is simply forwarded; 0: none is, ask the other fields.
    pub(crate) express_max: u16,
    /// The same; 0 as well where there are rules.
    pub(crate) express_max_untranslated: u16,
    /// The bit of `port`, and [`HAS_RULES`] where there are.
    pub(crate) marks: u64,
    /// Group: members. Service, return: its number, in `first`.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// The interface is down.
    pub(crate) down: bool,
    /// The router to resolve; `None`: the destination itself.
    pub(crate) via: Option<IpAddr>,
}

/// A link header, and what is behind it up to a size that is copied at once.
pub(crate) type PaddedLink = [u8; ethernet::HEADER_LEN + 2];

impl NextHop {
    /// Whether steering says where it goes: it is to a service address, or an answer by full NAT.
    #[inline(always)]
    pub(crate) fn is_steered(&self) -> bool {
        matches!(self.kind, Kind::Service | Kind::Return)
    }

    /// The link header of untagged frames.
    #[inline(always)]
    pub(crate) fn plain_link(&self) -> &[u8; ethernet::HEADER_LEN] {
        self.link.first_chunk().expect("14 bytes of 24")
    }

    /// The same with two bytes more, that are to be written over.
    #[inline(always)]
    pub(crate) fn padded_link(&self) -> &PaddedLink {
        self.link.first_chunk().expect("16 bytes of 24")
    }

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
    /// Some packet of the last batch is larger than the MTU of its next hop, and to be cut.
    pub(crate) any_oversize: bool,
    /// Some packet of the last batch goes to a mapping.
    pub(crate) any_mapping: bool,
    /// Some packet of the last batch goes to a service address.
    pub(crate) any_service: bool,
    /// Of some packet of the last batch the control thread is to be told.
    pub(crate) any_told: bool,
}

impl<F: Frame> Node<F> for Lookup {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "lookup";
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
            let (vrf, family) = (first.vrf, first.family);
            let count = meta[start..]
                .iter()
                .take_while(|meta| (meta.vrf, meta.family) == (vrf, family))
                .count();
            let run = start..start + count;
            let fib = tables.fib(vrf);
            match family {
                Family::V6 => fib
                    .v6
                    .lookup_bulk(&keys[run.clone()], &mut leaves[run.clone()]),
                Family::V4 => {
                    let run_of = frames[run.clone()].iter().zip(&meta[run.clone()]);
                    let keys: ArrayVec<u32, BURST_MAX> = run_of
                        .map(|(frame, meta)| {
                            let packet = frame.bytes().get(meta.l3_offset()..);
                            packet.and_then(destination_v4).map_or(0, u32::from)
                        })
                        .collect();
                    fib.v4.lookup_bulk(&keys, &mut leaves[run.clone()]);
                }
            }
            start = run.end;
        }
        let mut rules = 0;
        self.any_oversize = false;
        self.any_told = false;
        self.any_service = false;
        let mut all = 0;
        for (index, ((frame, meta), leaf)) in frames.iter().zip(meta).zip(leaves).enumerate() {
            meta.next_hop = leaf;
            rules |= match forward(tables, frame.bytes(), meta) {
                Some(next_hop) => next_hop.rule_set,
                None => {
                    let next = exceptional(tables, frame.bytes(), meta);
                    if next != Next::Continue {
                        leaving.push(index, next);
                    } else if meta.is_oversize {
                        self.any_oversize = true;
                    }
                    self.any_told |= meta.went_on();
                    let next_hop = tables.next_hop(meta.next_hop);
                    self.any_service |= next_hop.is_steered();
                    next_hop.rule_set
                }
            };
            all |= meta.next_hop;
        }
        self.any_rules = rules != 0;
        self.any_mapping = all & LEAF != 0;
    }
}

/// The next hop of the common packet, which is forwarded to a neighbour, alive and small enough.
#[inline]
fn forward<'t>(tables: &'t Tables, bytes: &[u8], meta: &Meta) -> Option<&'t NextHop> {
    let packet = bytes.get(meta.l3_offset()..)?;
    let next_hop = tables.next_hop(meta.next_hop);
    let is_common = next_hop.kind == Kind::Neighbor
        && meta.entry == Entry::Received
        && hop_limit(packet, meta.family)? > 1
        && packet.len() <= usize::from(next_hop.mtu);
    is_common.then_some(next_hop)
}

/// The hop limit, or TTL, of a packet that has a whole header.
#[inline]
fn hop_limit(packet: &[u8], family: Family) -> Option<u8> {
    match family {
        Family::V6 => Some(packet.first_chunk::<{ ipv6::HEADER_LEN }>()?[HOP_LIMIT]),
        Family::V4 => Some(packet.first_chunk::<{ ipv4::HEADER_LEN }>()?[ipv4::TTL_OFFSET]),
    }
}

/// A packet that is not simply forwarded to the neighbour its leaf names: follow the leaf, then judge. One that is
/// steered goes on as it is, for [`crate::steer::node::step`].
#[inline(never)]
pub(crate) fn exceptional(tables: &Tables, bytes: &[u8], meta: &mut Meta) -> Next {
    let packet = bytes.get(meta.l3_offset()..).unwrap_or(&[]);
    let Some(hop_limit) = hop_limit(packet, meta.family) else {
        return Next::Drop(DropReason::Truncated);
    };
    if meta.next_hop & LEAF != 0 {
        let next = lisp::node::judge(tables, packet, meta);
        if next != Next::Continue || meta.next_hop & LEAF != 0 {
            return next;
        }
    }
    meta.next_hop = settle(tables, (meta.vrf, meta.family), packet, meta.next_hop);
    let next_hop = tables.next_hop(meta.next_hop);
    if next_hop.is_steered() && tables.steer.is_some() {
        return Next::Continue;
    }
    judge(next_hop, hop_limit, packet, meta)
}

/// The verdict on a packet whose next hop is known.
fn judge(next_hop: &NextHop, hop_limit: u8, packet: &[u8], meta: &mut Meta) -> Next {
    if next_hop.kind == Kind::Local {
        return Next::Local;
    }
    let is_oversize = packet.len() > usize::from(next_hop.mtu);
    // RFC 791 3.2, RFC 1812 5.2.6: only IPv4 packets are cut on their way, and only those that allow it.
    meta.is_oversize = is_oversize && may_be_cut(packet, meta.family);
    if meta.entry == Entry::Originated {
        return match next_hop.kind {
            Kind::Neighbor if is_oversize && !meta.is_oversize => {
                Next::Drop(DropReason::PacketTooBig)
            }
            Kind::Neighbor => Next::Continue,
            Kind::Glean if !next_hop.down => Next::Punt(PuntReason::NeighborMiss),
            // Our own packet to a host behind our own outside prefix: it is translated both ways like any other.
            Kind::Hairpin => Next::Hairpin,
            _ => Next::Drop(next_hop.reason),
        };
    }
    if meta.entry == Entry::Scoped {
        return match meta.family {
            Family::V6 => Next::Error(DropReason::LinkLocalScope, IcmpError::BeyondScope),
            // RFC 3927 7: not forwarded; nobody beyond the link is told of it.
            Family::V4 => Next::Drop(DropReason::LinkLocalScope),
        };
    }
    // Before translation, so that the error quotes what the sender sent (N13). RFC 8200 3, RFC 1812 5.3.1: a packet that
    // would leave with 0 is discarded.
    if hop_limit <= 1 && next_hop.kind != Kind::Drop {
        return Next::Error(DropReason::HopLimit, IcmpError::HopLimitExceeded);
    }
    match next_hop.kind {
        Kind::Neighbor if is_oversize && !meta.is_oversize => {
            let mtu = next_hop.mtu;
            Next::Error(DropReason::PacketTooBig, IcmpError::PacketTooBig { mtu })
        }
        Kind::Neighbor => Next::Continue,
        Kind::Glean if !next_hop.down => Next::Punt(PuntReason::NeighborMiss),
        Kind::Hairpin => Next::Hairpin,
        Kind::Drop => match next_hop.reason {
            silent @ (DropReason::Blackhole
            | DropReason::DirectedBroadcast
            | DropReason::SteerUnresolved) => Next::Drop(silent),
            reason => Next::Error(reason, IcmpError::NoRoute),
        },
        _ => Next::Error(next_hop.reason, IcmpError::NoRoute),
    }
}

/// The neighbour that a received IPv6 packet is forwarded to, following its leaf, if nothing is in its way. `None`:
/// whatever is, [`exceptional`] finds it.
#[inline]
pub(crate) fn neighbor_of(tables: &Tables, vrf: VrfId, packet: &[u8], leaf: u32) -> Option<u32> {
    if leaf & LEAF != 0 {
        return None;
    }
    let mut leaf = leaf;
    let mut next_hop = tables.next_hop(leaf);
    if next_hop.kind != Kind::Neighbor {
        leaf = settle(tables, (vrf, Family::V6), packet, leaf);
        next_hop = tables.next_hop(leaf);
    }
    let is_free = next_hop.kind == Kind::Neighbor
        && hop_limit(packet, Family::V6)? > 1
        && packet.len() <= usize::from(next_hop.mtu);
    is_free.then_some(leaf)
}

fn may_be_cut(packet: &[u8], family: Family) -> bool {
    let header = ipv4::Header::ref_from_prefix(packet);
    family == Family::V4 && header.is_ok_and(|(header, _)| !header.dont_fragment())
}

/// Follow a leaf that is not a neighbour: a group to its member, an on-link destination to its host entry.
fn settle(tables: &Tables, (vrf, family): (VrfId, Family), packet: &[u8], leaf: u32) -> u32 {
    let mut leaf = leaf;
    let mut next_hop = tables.next_hop(leaf);
    if next_hop.kind == Kind::Group {
        let hash = lisp::node::member_of(tables, family, packet).unwrap_or_else(|| match family {
            Family::V6 => flow_hash(packet),
            Family::V4 => flow_hash_v4(packet),
        });
        leaf = member(tables, next_hop, hash);
        next_hop = tables.next_hop(leaf);
    }
    // Real hosts and our own addresses come before the translation of an outside prefix that is on the link (N16).
    let asks_hosts = match next_hop.kind {
        Kind::Glean => next_hop.via.is_none(),
        kind => kind == Kind::Hairpin,
    };
    if asks_hosts && let Some(address) = destination_of(packet, family) {
        leaf = tables
            .hosts
            .lookup(vrf.0, host_key(address))
            .unwrap_or(leaf);
    }
    leaf
}

/// A group's member for a flow.
#[inline]
pub(crate) fn member(tables: &Tables, group: &NextHop, hash: u32) -> u32 {
    // `as`: both fit a u64; the product's upper half is below `count`.
    let slot = (u64::from(hash) * u64::from(group.count)) >> 32;
    let member = tables.members.get(group.first as usize + slot as usize);
    member.copied().unwrap_or(0)
}

/// The next hop of a packet and its destination, for the control thread.
pub(crate) fn resolve(
    tables: &Tables,
    (vrf, family): (VrfId, Family),
    packet: &[u8],
) -> Option<(u32, IpAddr)> {
    let fib = tables.vrfs.get(usize::from(vrf.0))?;
    let destination = destination_of(packet, family)?;
    let leaf = match destination {
        IpAddr::V6(address) => fib.v6.lookup(&address.octets()),
        IpAddr::V4(address) => fib.v4.lookup(&address.into()),
    };
    // A packet that waits for a neighbour is not one to encapsulate: that of the underlay is beyond it.
    let leaf = lisp::node::native(tables, vrf, leaf);
    Some((settle(tables, (vrf, family), packet, leaf), destination))
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

/// The same for IPv4: addresses, protocol, and ports where there are some; no fragment is taken to have any.
fn flow_hash_v4(packet: &[u8]) -> u32 {
    let Ok((header, rest)) = ipv4::Header::ref_from_prefix(packet) else {
        return 0;
    };
    let [source, destination] = [header.source, header.destination].map(u32::from_be_bytes);
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    hash = mix(hash ^ u64::from(source) << 32 ^ u64::from(destination));
    hash = mix(hash ^ u64::from(header.protocol));
    let has_ports = matches!(header.protocol, proto::TCP | proto::UDP) && !header.is_fragment();
    let ports = rest.get(header.header_len().saturating_sub(ipv4::HEADER_LEN)..);
    if let (true, Some(ports)) = (has_ports, ports.and_then(|ports| ports.first_chunk())) {
        hash = mix(hash ^ u64::from(u32::from_be_bytes(*ports)));
    }
    (hash >> 32) as u32 // `as`: the upper half
}

fn destination_of(packet: &[u8], family: Family) -> Option<IpAddr> {
    match family {
        Family::V6 => {
            let header = packet.first_chunk::<{ ipv6::HEADER_LEN }>()?;
            let octets = header.last_chunk::<16>()?;
            Some(Ipv6Addr::from(*octets).into())
        }
        Family::V4 => destination_v4(packet).map(IpAddr::V4),
    }
}

#[inline]
fn destination_v4(packet: &[u8]) -> Option<Ipv4Addr> {
    let header = packet.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    header.last_chunk::<4>().copied().map(Ipv4Addr::from)
}
