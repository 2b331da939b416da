//! The first node: which interface, is it IP, is it sane. RFC 8200 3, RFC 4291 2; of IPv4 see [`v4`].
//!
//! The common packet (untagged, to our MAC address, unicast between ordinary addresses) is settled by a handful of
//! compares; everything else goes through [`classify`].

mod v4;

use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_LEN, Mac};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6, ipv4, vlan};

use crate::meta::{Entry, Meta, Next};
use crate::tables::{Interface, InterfaceId, PortTable, Tables};

pub(crate) struct Ingress<'a> {
    pub(crate) port: &'a PortTable,
}

/// The first 16 bytes of an untagged IPv6 frame to our MAC address: destination, type and version, compared at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    mask: u128,
    value: u128,
}

impl Expected {
    /// IPv6 frames to `mac`.
    pub(crate) fn to(mac: Mac) -> Self {
        Self::of(mac, ETHERTYPE_IPV6, (0xf0, 0x60))
    }

    /// IPv4 frames to `mac`, without options.
    pub(crate) fn to_v4(mac: Mac) -> Self {
        Self::of(mac, ETHERTYPE_IPV4, (0xff, 0x45))
    }

    fn of(mac: Mac, ether_type: u16, version: (u8, u8)) -> Self {
        let word = |mac: [u8; 6], ether_type: u16, version: u8| {
            let mut bytes = [0; 16];
            bytes[..6].copy_from_slice(&mac);
            bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
            bytes[14] = version;
            u128::from_ne_bytes(bytes)
        };
        Self {
            mask: word([0xff; 6], 0xffff, version.0),
            value: word(mac.octets(), ether_type, version.1),
        }
    }

    #[inline]
    fn matches(self, bytes: &[u8; 16]) -> bool {
        u128::from_ne_bytes(*bytes) & self.mask == self.value
    }
}

impl Default for Expected {
    /// No frame at all.
    fn default() -> Self {
        Self { mask: 0, value: 1 }
    }
}

impl<F: Frame> Node<F> for Ingress<'_> {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "ingress";
    const INDEX: usize = 0;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        let port = self.port;
        for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
            if is_common(port, frame) {
                continue;
            }
            let next = admit(tables, port, frame, meta);
            if next != Next::Continue {
                leaving.push(index, next);
            }
        }
    }
}

/// Whether this is the common packet: all that [`admit`] would find is in [`PortTable::start`].
#[inline(always)]
pub(crate) fn is_common<F: Frame>(port: &PortTable, frame: &F) -> bool {
    is_common_but_for_destination(port, frame)
        && frame
            .bytes()
            .get(HEADER_LEN + 24)
            .is_some_and(|first| is_ordinary(*first))
}

/// The same of a packet whose destination is known to be ordinary, as all addresses are of the prefixes of NPT66.
#[inline(always)]
pub(crate) fn is_common_but_for_destination<F: Frame>(port: &PortTable, frame: &F) -> bool {
    is_common_but_for_addresses(port, frame)
        && frame
            .bytes()
            .get(HEADER_LEN + 8)
            .is_some_and(|first| is_ordinary(*first))
}

/// The same of a packet whose addresses are both known to be ordinary.
#[inline(always)]
pub(crate) fn is_common_but_for_addresses<F: Frame>(port: &PortTable, frame: &F) -> bool {
    let bytes = frame.bytes();
    let Some(head) = bytes.first_chunk::<{ HEADER_LEN + ipv6::HEADER_LEN }>() else {
        return false;
    };
    head.first_chunk()
        .is_some_and(|first| port.expected.matches(first))
        && has_common_length(frame)
}

/// The same of a packet whose header is known to be common, but for its length.
#[inline(always)]
pub(crate) fn has_common_length<F: Frame>(frame: &F) -> bool {
    let bytes = frame.bytes();
    let Some(head) = bytes.first_chunk::<{ HEADER_LEN + ipv6::HEADER_LEN }>() else {
        return false;
    };
    // The frame's length is turned round, not the packet's: it is in a register already.
    let payload_len = u16::try_from(bytes.len() - head.len()).map(u16::to_be_bytes);
    frame.is_contiguous() && payload_len == Ok([head[18], head[19]])
}

/// Whether this is an IPv4 packet without options, of which [`admit`] would find nothing but [`PortTable::start`] and its
/// family.
#[inline(always)]
pub(crate) fn is_common_v4<F: Frame>(port: &PortTable, frame: &F) -> bool {
    is_common_v4_but_for_destination(port, frame)
        && frame
            .bytes()
            .get(HEADER_LEN + 16..)
            .and_then(|destination| destination.first_chunk())
            .is_some_and(|destination| v4::is_ordinary(*destination))
}

/// The same of a packet whose destination is known to be ordinary.
#[inline(always)]
pub(crate) fn is_common_v4_but_for_destination<F: Frame>(port: &PortTable, frame: &F) -> bool {
    let bytes = frame.bytes();
    let Some(head) = bytes.first_chunk::<{ HEADER_LEN + ipv4::HEADER_LEN }>() else {
        return false;
    };
    let total_len = u16::from_be_bytes([head[16], head[17]]);
    frame.is_contiguous()
        && head
            .first_chunk()
            .is_some_and(|first| port.expected_v4.matches(first))
        && bytes.len() == HEADER_LEN + usize::from(total_len)
        && v4::is_ordinary([head[26], head[27]])
        && ipv4::is_valid(&head[HEADER_LEN..])
}

/// Check one frame and fill its record.
#[inline(never)]
pub(crate) fn admit<F: Frame>(
    tables: &Tables,
    port: &PortTable,
    frame: &mut F,
    meta: &mut Meta,
) -> Next {
    if !frame.is_contiguous() {
        return Next::Drop(DropReason::NotContiguous);
    }
    let bytes = frame.bytes();
    let Ok(l2) = vlan::parse(bytes) else {
        return Next::Drop(DropReason::Truncated);
    };
    if !matches!(
        l2.ether_type,
        ETHERTYPE_IPV6 | ETHERTYPE_IPV4 | ETHERTYPE_ARP
    ) {
        return Next::Drop(DropReason::UnknownEtherType);
    }
    let interface = if l2.tags == 0 {
        port.untagged
    } else {
        tagged(port, &l2, meta)
    };
    let Some(id) = interface else {
        return Next::Drop(DropReason::UnknownVlan);
    };
    let l3 = usize::from(l2.l3_offset);
    let interface = tables.interface(id);
    meta.l3 = l2.l3_offset;
    meta.interface = id;
    meta.vrf = interface.vrf;
    match l2.ether_type {
        ETHERTYPE_IPV4 => return v4::admit(tables, interface, frame, meta),
        ETHERTYPE_ARP => return v4::arp(interface, bytes, meta),
        _ => {}
    }
    let Some(header) = bytes
        .get(l3..)
        .and_then(|packet| packet.first_chunk::<{ ipv6::HEADER_LEN }>())
    else {
        return Next::Drop(DropReason::Truncated);
    };
    if header[0] >> 4 != 6 {
        return Next::Drop(DropReason::BadVersion);
    }
    let packet_len = ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let available = bytes.len() - l3;
    if packet_len > available {
        return Next::Drop(DropReason::Truncated);
    }
    let to_us = bytes.first_chunk::<6>() == Some(&interface.mac);
    let next = if to_us && is_ordinary(header[8]) && is_ordinary(header[24]) {
        Next::Continue
    } else {
        classify(interface, bytes, header, to_us, meta)
    };
    // Padding of short Ethernet frames does not travel on.
    if packet_len < available && frame.resize(l3 + packet_len).is_err() {
        return Next::Drop(DropReason::Truncated);
    }
    next
}

/// Whether an address with this first byte is neither multicast, link-local nor in `::/8`.
#[inline]
pub(crate) fn is_ordinary(first: u8) -> bool {
    first != 0 && first < 0xfe
}

/// The first 64 bits of the first and of the last address of which [`is_ordinary`] holds.
pub(crate) const ORDINARY: (u64, u64) = (1 << 56, (0xfe << 56) - 1);

/// The interface of a tagged frame. A tag with VLAN 0 carries only a priority (IEEE 802.1Q 6.9).
fn tagged(port: &PortTable, l2: &vlan::L2, meta: &mut Meta) -> Option<InterfaceId> {
    meta.priority = l2.tci[0] & !vlan::ID_MASK;
    let [outer, inner] = l2.vlan_ids();
    if l2.tags == 1 && outer == 0 {
        return port.untagged;
    }
    let entry = port.tagged.iter().find(|(ids, _)| *ids == (outer, inner));
    entry.map(|(_, id)| *id)
}

/// A packet that is not between two ordinary unicast addresses, or not to our MAC address.
#[cold]
fn classify(
    interface: &Interface,
    bytes: &[u8],
    header: &[u8; ipv6::HEADER_LEN],
    to_us: bool,
    meta: &mut Meta,
) -> Next {
    let source =
        std::net::Ipv6Addr::from(*header[8..].first_chunk::<16>().expect("16 of 40 bytes"));
    let destination =
        std::net::Ipv6Addr::from(*header[24..].first_chunk::<16>().expect("16 of 40 bytes"));
    let to_group = bytes[0] & 1 != 0;
    if !to_us && !to_group {
        return Next::Drop(DropReason::NotForUs);
    }
    if source.is_multicast() {
        return Next::Drop(DropReason::SourceMulticast);
    }
    if source.is_loopback() {
        return Next::Drop(DropReason::SourceLoopback);
    }
    if destination.is_unspecified() {
        return Next::Drop(DropReason::DestinationUnspecified);
    }
    if destination.is_loopback() {
        return Next::Drop(DropReason::DestinationLoopback);
    }
    if source.to_ipv4_mapped().is_some() || destination.to_ipv4_mapped().is_some() {
        // The host table knows IPv4 addresses by these: they are not for the wire.
        return Next::Drop(DropReason::Ipv4Mapped);
    }
    if destination.is_multicast() {
        return listen(
            header,
            bytes
                .get(meta.l3_offset() + ipv6::HEADER_LEN..)
                .unwrap_or(&[]),
        );
    }
    if to_group {
        // A unicast packet in a link-layer multicast or broadcast is not ours to forward.
        return Next::Drop(DropReason::NotForUs);
    }
    if source.is_unspecified() {
        return Next::Drop(DropReason::SourceUnspecified);
    }
    if destination.is_unicast_link_local() {
        let ours = destination.octets() == interface.link_local;
        return if ours {
            Next::Local
        } else {
            Next::Drop(DropReason::LinkLocalScope)
        };
    }
    if source.is_unicast_link_local() {
        meta.entry = Entry::Scoped;
    }
    Next::Continue
}

/// A multicast packet: the control thread listens to neighbour discovery, to echo requests for all nodes and to
/// multicast listener queries; nothing is forwarded.
fn listen(header: &[u8; ipv6::HEADER_LEN], payload: &[u8]) -> Next {
    let Ok(upper) = ext::walk(header[6], payload) else {
        return Next::Drop(DropReason::ExtensionHeaders);
    };
    let kind = payload.get(upper.offset);
    match kind {
        Some(&kind) if upper.protocol == proto::ICMPV6 && is_first(&upper) => match kind {
            icmpv6::types::ROUTER_SOLICITATION..=icmpv6::types::REDIRECT => {
                Next::Punt(PuntReason::NeighborDiscovery)
            }
            icmpv6::types::ECHO_REQUEST if header[25] == 2 => Next::Punt(PuntReason::Echo),
            icmpv6::types::MULTICAST_LISTENER_QUERY => Next::Punt(PuntReason::Local),
            _ => Next::Drop(DropReason::MulticastNotForwarded),
        },
        _ => Next::Drop(DropReason::MulticastNotForwarded),
    }
}

/// Whether the upper-layer header is in this packet.
pub(crate) fn is_first(upper: &ext::Upper) -> bool {
    upper
        .fragment
        .is_none_or(|fragment| fragment.offset_bytes == 0)
}

#[cfg(test)]
mod tests {
    use dataplane::port::PortId;
    use dataplane::testing::HeapFrame;
    use dataplane::testing::builder::Packet;
    use proptest::prelude::*;

    use super::*;
    use crate::tables::{Builder, InterfaceSpec, VrfId};

    fn tables() -> Tables {
        let mut builder = Builder::new();
        for vlan in [vec![], vec![7]] {
            builder.interface(InterfaceSpec {
                port: PortId::new(0).expect("the first"),
                vlan,
                mac: Mac::from_octets([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                vrf: VrfId(0),
                addresses: vec![],
                link_local: "fe80::1".parse().expect("an address"),
                up: true,
            });
        }
        builder.build()
    }

    proptest! {
        /// What the handful of compares lets pass, the full check lets pass, with the same record and the same bytes.
        #[test]
        fn the_common_packet_needs_no_full_check(
            changes in prop::collection::vec((0_usize..60, any::<u8>()), 0..3),
            payload in 0_usize..64,
            tail in prop_oneof![Just(0_isize), -70_isize..8],
        ) {
            let tables = tables();
            let port = tables.port(PortId::new(0).expect("the first")).expect("it has interfaces");
            let [ours, theirs] = [1, 2].map(|last| Mac::from_octets([2, 0, 0, 0, 0, last]));
            let mut bytes = Packet::ethernet(theirs, ours)
                .ipv6("2001:db8::1".parse().expect("an address"), "2001:db8::2".parse().expect("an address"))
                .udp(1, 2, &vec![0; payload])
                .build();
            prop_assert!(is_common(port, &HeapFrame::new(&bytes)));
            for (at, value) in changes {
                bytes[at] = value;
            }
            bytes.resize(bytes.len().saturating_add_signed(tail), 0);
            let mut frame = HeapFrame::new(&bytes);
            if is_common(port, &frame) {
                let mut meta = port.start;
                prop_assert_eq!(admit(&tables, port, &mut frame, &mut meta), Next::Continue);
                prop_assert_eq!(format!("{meta:?}"), format!("{:?}", port.start));
                prop_assert_eq!(frame.bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn a_port_without_an_untagged_interface_has_no_common_packet() {
        let frame = HeapFrame::new(&[0; 64]);
        assert!(!is_common(&PortTable::default(), &frame));
    }
}
