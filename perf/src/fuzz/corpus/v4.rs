//! The corpus for IPv4 and ARP: the same combinations, fewer kinds.

use std::net::Ipv4Addr;

use dataplane::testing::builder::Packet4;
use dataplane::wire::arp::Message;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv4::types;

use super::{LINKS, PORTS, mac_of};

const SOURCES: [&str; 9] = [
    "192.0.2.10",
    "192.0.2.2",
    "198.51.100.1",
    "203.0.113.7",
    "192.0.2.255", // a broadcast
    "169.254.1.1",
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.1",
];

const DESTINATIONS: [&str; 17] = [
    "203.0.113.1",
    "192.0.2.2",  // resolved neighbour
    "192.0.2.77", // unresolved neighbour
    "198.51.100.1",
    "10.10.0.1", // through a router that never answers
    "10.12.0.1",
    "10.13.0.1",
    "10.14.0.1", // by the narrow link
    "10.15.0.1", // by a link that is down
    "192.0.2.1", // ours
    "198.51.100.2",
    "192.0.2.255",
    "255.255.255.255",
    "169.254.1.2",
    "239.1.2.3",
    "127.0.0.1",
    "0.0.0.0",
];

/// Every combination, by the port it is meant for.
pub(super) fn received_frames() -> [Vec<Vec<u8>>; PORTS] {
    let mut frames: [Vec<Vec<u8>>; PORTS] = Default::default();
    for (port, tags) in LINKS {
        for source in SOURCES.map(address) {
            for destination in DESTINATIONS.map(address) {
                let packet = Packet4::ethernet(THEIRS, link_destination(port, destination));
                let packet = tags.iter().fold(packet, |packet, id| packet.vlan(*id, 3));
                let packet = packet.ipv4(source, destination);
                frames[port].extend(kinds(&packet, source, destination));
            }
        }
    }
    frames
}

/// Packets as the control thread makes them.
pub(super) fn own_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for source in SOURCES.map(address) {
        for destination in DESTINATIONS.map(address) {
            let packet = || Packet4::ethernet(THEIRS, THEIRS).ipv4(source, destination);
            packets.push(packet().echo(types::ECHO_REPLY, 1, 2, b"pong").build());
            packets.push(packet().echo(types::ECHO_REPLY, 1, 2, &[0; 1400]).build());
        }
    }
    packets
}

const THEIRS: Mac = Mac::from_octets([2, 0, 0, 0, 2, 9]);

fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("a constant")
}

fn link_destination(port: usize, destination: Ipv4Addr) -> Mac {
    if destination.is_broadcast() {
        Mac::BROADCAST
    } else if destination.is_multicast() {
        let [_, a, b, c] = destination.octets();
        Mac::from_octets([1, 0, 0x5e, a & 0x7f, b, c])
    } else {
        mac_of(port)
    }
}

/// Everything that can stand behind an Ethernet header between these two addresses.
fn kinds(packet: &Packet4, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<Vec<u8>> {
    let p = || packet.clone();
    let quote = packet.clone().udp(1, 2, b"x").build_ipv4();
    let arp = Message::request(THEIRS, source, destination);
    vec![
        p().udp(4000, 53, b"question").build(),
        p().tcp(4000, 80, b"GET /").dont_fragment().build(),
        p().echo(types::ECHO_REQUEST, 1, 2, b"ping").build(),
        p().echo(types::ECHO_REPLY, 1, 2, b"pong").build(),
        p().ttl(1).udp(33434, 33434, b"").build(),
        p().ttl(0).udp(1, 2, b"").build(),
        p().udp(1, 2, &[0; 1472]).build(), // 1500 bytes
        p().udp(1, 2, &[0; 1472]).dont_fragment().build(),
        p().udp(1, 2, &[0; 1473]).build(),
        p().options(&[136, 4, 1, 2, 7, 7, 4])
            .udp(1, 2, &[0; 1400])
            .build(),
        p().fragment(0, true).udp(1, 2, b"12345678").build(),
        p().fragment(16, false).raw(17, b"the rest").build(),
        p().fragment(65_528, true).raw(17, &[0; 1480]).build(),
        p().raw(132, &[0x5a; 24]).build(), // SCTP
        p().udp(1, 2, b"x").trailer(&[0; 10]).build(),
        p().udp(1, 2, b"x").wrong_header_checksum().build(),
        p().udp(1, 2, b"x").total_length(19).build(),
        p().udp(1, 2, b"x").total_length(1000).build(),
        p().version(6).udp(1, 2, b"x").build(),
        p().echo(types::ECHO_REQUEST, 1, 2, b"x")
            .wrong_checksum()
            .build(),
        p().icmp_error(types::TIME_EXCEEDED, 0, 0, &quote).build(),
        p().ttl(1).icmp_error(types::REDIRECT, 1, 0, &quote).build(),
        p().build_arp(&arp),
    ]
}
