//! The first node's part for IPv4 and ARP: is it a packet a router may touch (RFC 1812 5.2.2, 5.3.7)?

use std::net::Ipv4Addr;

use dataplane::frame::Frame;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::ethernet::Mac;
use dataplane::wire::{arp, ipv4};

use crate::meta::{Entry, Family, Meta, Next};
use crate::tables::{Interface, Tables, host_key};

/// Check one IPv4 packet, whose interface is known, and complete its record.
pub(super) fn admit<F: Frame>(
    tables: &Tables,
    interface: &Interface,
    frame: &mut F,
    meta: &mut Meta,
) -> Next {
    let bytes = frame.bytes();
    let l3 = meta.l3_offset();
    meta.family = Family::V4;
    let packet = match ipv4::parse(bytes.get(l3..).unwrap_or(&[])) {
        Ok(packet) => packet,
        Err(error) => return Next::Drop(reason(error)),
    };
    let end = l3 + packet.header.total_len();
    let next = classify(tables, interface, bytes, packet.header, meta);
    // Padding of short Ethernet frames does not travel on.
    if end < bytes.len() && frame.resize(end).is_err() {
        return Next::Drop(DropReason::Truncated);
    }
    next
}

fn reason(error: ipv4::Error) -> DropReason {
    match error {
        ipv4::Error::Truncated => DropReason::Truncated,
        ipv4::Error::Checksum => DropReason::Ipv4Checksum,
        ipv4::Error::Version(_) => DropReason::BadVersion,
        ipv4::Error::HeaderLength(_) | ipv4::Error::TotalLength(_) => DropReason::Ipv4Header,
    }
}

/// A whole packet, by its addresses.
fn classify(
    tables: &Tables,
    interface: &Interface,
    bytes: &[u8],
    header: &ipv4::Header,
    meta: &mut Meta,
) -> Next {
    let to_us = bytes.first_chunk::<6>() == Some(&interface.mac);
    let to_group = bytes.first().is_some_and(|first| first & 1 != 0);
    if !to_us && !to_group {
        return Next::Drop(DropReason::NotForUs);
    }
    let (source, destination) = (header.source(), header.destination());
    if let Some(reason) = forbidden_source(source) {
        return Next::Drop(reason);
    }
    if let Some(reason) = forbidden_destination(destination) {
        return Next::Drop(reason);
    }
    if to_group {
        // A unicast packet in a link-layer multicast or broadcast is not ours to forward (RFC 1122 3.3.6).
        return Next::Drop(DropReason::NotForUs);
    }
    // RFC 3927 7: neither from nor to a link-local address is anything forwarded.
    if destination.is_link_local() && !tables.is_own(meta.vrf, host_key(destination.into())) {
        return Next::Drop(DropReason::LinkLocalScope);
    }
    if source.is_link_local() {
        meta.entry = Entry::Scoped;
    }
    Next::Continue
}

/// Whether an address that begins so is neither reserved, loopback, link-local nor multicast.
#[inline]
pub(super) fn is_ordinary([first, second]: [u8; 2]) -> bool {
    !matches!(first, 0 | 127 | 224..) && (first, second) != (169, 254)
}

/// RFC 1812 5.3.7, RFC 1122 3.2.1.3: addresses that no packet on a wire comes from.
fn forbidden_source(source: Ipv4Addr) -> Option<DropReason> {
    match source.octets()[0] {
        0 => Some(DropReason::SourceUnspecified),
        127 => Some(DropReason::SourceLoopback),
        224..=239 => Some(DropReason::SourceMulticast),
        240.. => Some(DropReason::SourceBroadcast),
        _ => None,
    }
}

/// RFC 1812 5.3.7, 5.3.5.1: addresses that no router forwards to. Multicast is not forwarded, and nothing here listens.
fn forbidden_destination(destination: Ipv4Addr) -> Option<DropReason> {
    match destination.octets()[0] {
        0 => Some(DropReason::DestinationUnspecified),
        127 => Some(DropReason::DestinationLoopback),
        224..=239 => Some(DropReason::MulticastNotForwarded),
        240.. => Some(DropReason::DestinationBroadcast),
        _ => None,
    }
}

/// An ARP message, to us or to all: the control thread's to judge (RFC 826).
pub(super) fn arp(interface: &Interface, bytes: &[u8], meta: &Meta) -> Next {
    let destination = bytes.first_chunk::<6>();
    let to_all = destination == Some(&Mac::BROADCAST.octets());
    if !to_all && destination != Some(&interface.mac) {
        return Next::Drop(DropReason::NotForUs);
    }
    if bytes.len() < meta.l3_offset() + arp::MESSAGE_LEN {
        return Next::Drop(DropReason::Truncated);
    }
    Next::Punt(PuntReason::Arp)
}
