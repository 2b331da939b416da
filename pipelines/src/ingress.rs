//! The first node: which interface, is it IPv6, is it sane. RFC 8200 3, RFC 4291 2.
//!
//! The common packet (untagged, to our MAC address, unicast between ordinary addresses) is settled by a handful of
//! compares; everything else goes through [`classify`].

use dataplane::frame::Frame;
use dataplane::node::Node;
use dataplane::port::PortId;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::ethernet::ETHERTYPE_IPV6;
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6, vlan};

use crate::meta::{Entry, Meta, Next};
use crate::tables::{Interface, InterfaceId, PortTable, Tables};

/// Frames ahead whose descriptor is fetched, and whose data is.
const DESCRIPTOR_AHEAD: usize = 8;
const DATA_AHEAD: usize = 4;

pub(crate) struct Ingress {
    pub(crate) port: PortId,
}

impl<F: Frame> Node<F> for Ingress {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "ingress";
    const INDEX: usize = 0;

    fn process(&mut self, tables: &Tables, frames: &mut [F], meta: &mut [Meta], next: &mut [Next]) {
        let Some(port) = tables.port(self.port) else {
            next.fill(Next::Drop(DropReason::UnknownVlan));
            return;
        };
        for frame in frames.iter().take(DESCRIPTOR_AHEAD) {
            frame.prefetch_descriptor();
        }
        for frame in frames.iter().take(DATA_AHEAD) {
            frame.prefetch_data();
        }
        for index in 0..frames.len() {
            if let Some(frame) = frames.get(index + DESCRIPTOR_AHEAD) {
                frame.prefetch_descriptor();
            }
            if let Some(frame) = frames.get(index + DATA_AHEAD) {
                frame.prefetch_data();
            }
            next[index] = admit(tables, port, &mut frames[index], &mut meta[index]);
        }
    }
}

/// Check one frame and fill its record.
#[inline]
fn admit<F: Frame>(tables: &Tables, port: &PortTable, frame: &mut F, meta: &mut Meta) -> Next {
    if !frame.is_contiguous() {
        return Next::Drop(DropReason::NotContiguous);
    }
    let bytes = frame.bytes();
    let Ok(l2) = vlan::parse(bytes) else {
        return Next::Drop(DropReason::Truncated);
    };
    if l2.ether_type != ETHERTYPE_IPV6 {
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
    meta.l3 = l2.l3_offset;
    meta.interface = id;
    let interface = tables.interface(id);
    meta.vrf = interface.vrf;
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
fn is_ordinary(first: u8) -> bool {
    first != 0 && first < 0xfe
}

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
