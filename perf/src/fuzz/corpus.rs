//! Valid frames of every kind this appliance tells apart; what is thrown at it is made from these.

mod lisp;
mod v4;

use std::net::Ipv6Addr;

use dataplane::testing::builder::Packet;
use dataplane::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Mac};
use dataplane::wire::icmpv6::{self, types};
use dataplane::wire::ipv6::proto;

use super::network::steer::{SERVICES, SOURCES as NAT};
use super::network::{LINK_LOCAL, PORTS, mac_of};

/// Where frames come from and how they are tagged.
const LINKS: [(usize, &[u16]); 7] = [
    (0, &[]),
    (0, &[100]),
    (1, &[]),
    (1, &[200, 300]),
    (2, &[]),
    (2, &[7]),
    (2, &[999]), // no such interface
];

const SOURCES: [&str; 14] = [
    "fd01:203:405:77::10",
    "fd01:203:405:1::2",
    "fd01:203:405:ffff::10",              // a subnet RFC 6296 3.4 sets apart
    "fd01:203:405:1::",                   // all-zeros interface identifier
    "fd01:203:405:1:ffff:ffff:ffff:ffff", // no word to adjust under a /64 rule
    "fd05:0:0:64::8",
    "2001:db8:1:d550::1234",
    "2001:db8:ffff::1",
    "2400:cb00::1",
    "2001:db8:2:2::2", // a server
    "fe80::77",
    "::",
    "::1",
    "ff02::1",
];

const DESTINATIONS: [&str; 35] = [
    "2400:cb00::1",
    "2001:db8:1:d550::1234", // outside address of a host inside
    "2001:db8:1:ffff::1",
    "2001:db8:5:17::9",
    "2001:db8:6:6::9",
    "2001:db8:6:6:ffff:ffff:ffff:ffff",
    "fd01:203:405:77::10",
    "fd01:203:405:1::2",    // resolved neighbour
    "fd01:203:405:1::dead", // unresolved neighbour
    "fd05:0:0:64::2",
    "2001:db8:a::1",
    "2001:db8:b::1",
    "2001:db8:c::1",
    "2001:db8:d::1",
    "2001:db8:e::1",
    "2001:db8:f::1",
    "fd01:203:405:1::1", // ours
    "2001:db8:ffff::2",  // ours
    LINK_LOCAL,          // ours
    "ff02::1",
    "ff02::1:ff00:1",
    "ff0e::1234",
    "::1",
    "::",
    SERVICES[0],
    SERVICES[1],
    SERVICES[2],
    SERVICES[3],
    SERVICES[4],
    SERVICES[5],
    SERVICES[6],
    SERVICES[7],
    SERVICES[8],
    NAT[0],
    NAT[1],
];

/// Every combination, by the port it is meant for; more than a hundred thousand in all.
#[must_use]
pub fn received_frames() -> [Vec<Vec<u8>>; PORTS] {
    let mut frames: [Vec<Vec<u8>>; PORTS] = Default::default();
    for (port, tags) in LINKS {
        for source in SOURCES {
            for destination in DESTINATIONS {
                let source: Ipv6Addr = source.parse().expect("a constant");
                let destination: Ipv6Addr = destination.parse().expect("a constant");
                let packet = tags.iter().fold(
                    Packet::ethernet(
                        Mac::from_octets([2, 0, 0, 0, 2, 9]),
                        link_destination(port, destination),
                    ),
                    |packet, id| packet.vlan(*id, 3),
                );
                let packet = packet.ipv6(source, destination);
                frames[port].extend(kinds(&packet, source, destination));
            }
        }
    }
    for (frames, more) in frames.iter_mut().zip(v4::received_frames()) {
        frames.extend(more);
    }
    frames
}

/// What goes to EIDs, and what comes encapsulated, by the port it is meant for.
#[must_use]
pub fn lisp_frames() -> [Vec<Vec<u8>>; PORTS] {
    lisp::received_frames()
}

/// Those of them about which nothing is odd.
#[must_use]
pub fn common_lisp_frames() -> [Vec<Vec<u8>>; PORTS] {
    lisp::common_frames()
}

/// Packets as the control thread makes them, between all the same addresses.
#[must_use]
pub fn own_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for source in SOURCES {
        for destination in DESTINATIONS {
            let packet = Packet::anywhere().ipv6(
                source.parse().expect("a constant"),
                destination.parse().expect("a constant"),
            );
            packets.push(packet.clone().icmpv6_echo_reply(1, 2, b"pong").build());
            packets.push(packet.clone().icmpv6_echo_reply(1, 2, &[0; 1400]).build());
            packets.push(
                packet
                    .icmpv6_error(types::DESTINATION_UNREACHABLE, 3, 0, &[0x60; 48])
                    .build(),
            );
        }
    }
    packets.extend(v4::own_packets());
    packets
}

fn link_destination(port: usize, destination: Ipv6Addr) -> Mac {
    if destination.is_multicast() {
        Mac::multicast_for(destination)
    } else {
        mac_of(port)
    }
}

/// Everything that can stand behind an Ethernet header between these two addresses.
fn kinds(packet: &Packet, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<Vec<u8>> {
    let p = || packet.clone();
    let mut frames = vec![
        p().udp(4000, 53, b"question").build(),
        p().tcp(4000, 80, b"GET /").build(),
        p().icmpv6_echo(1, 2, b"ping").build(),
        p().icmpv6_echo_reply(1, 2, b"pong").build(),
        p().hop_limit(1).udp(33434, 33434, b"").build(),
        p().hop_limit(0).udp(1, 2, b"").build(),
        p().udp(1, 2, &[0; 1452]).build(), // 1500 bytes
        p().udp(1, 2, &[0; 1453]).build(),
        p().tcp(1, 2, &[0; 1240]).build(), // 1300 bytes
        p().hop_by_hop().udp(1, 2, b"x").build(),
        p().destination_options().tcp(1, 2, b"x").build(),
        p().routing(1, &[source]).udp(1, 2, b"x").build(),
        p().routing(0, &[source]).udp(1, 2, b"x").build(),
        p().fragment(0, true, 7).udp(1, 2, b"12345678").build(),
        p().fragment(8, false, 7)
            .raw(proto::UDP, b"the rest")
            .build(),
        p().fragment(0, false, 7)
            .icmpv6_echo(1, 1, b"atomic")
            .build(),
        p().authentication(1, 2, &[3; 12]).udp(1, 2, b"x").build(),
        p().raw(proto::ESP, &[0x5a; 40]).build(),
        p().raw(proto::NO_NEXT, b"").build(),
        p().raw(132, &[0x5a; 24]).build(), // SCTP
        p().udp(1, 2, b"x").trailer(&[0; 10]).build(),
        p().udp(1, 2, b"x").wrong_checksum().build(),
        p().udp(1, 2, b"x").payload_length(0).build(),
        p().udp(1, 2, b"x").payload_length(1000).build(),
        p().version(4).udp(1, 2, b"x").build(),
        p().ether_type(ETHERTYPE_IPV4).udp(1, 2, b"x").build(),
        p().ether_type(ETHERTYPE_ARP).raw(0, &[0; 28]).build(),
        (0..8)
            .fold(p(), |packet, _| packet.destination_options())
            .udp(1, 2, b"x")
            .build(),
        (0..9)
            .fold(p(), |packet, _| packet.destination_options())
            .udp(1, 2, b"x")
            .build(),
        p().destination_options()
            .hop_by_hop()
            .udp(1, 2, b"x")
            .build(),
    ];
    frames.extend(neighbour_discovery(packet, source, destination));
    frames.extend(errors(packet, source, destination));
    frames
}

fn neighbour_discovery(packet: &Packet, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<Vec<u8>> {
    let mac = Mac::from_octets([2, 0, 0, 0, 2, 9]);
    let solicitation = icmpv6::neighbor_solicitation(destination, Some(mac));
    let probe = icmpv6::neighbor_solicitation(destination, None);
    let advertisement =
        icmpv6::neighbor_advertisement(source, icmpv6::AdvertisementFlags::default(), Some(mac));
    let router_advertisement = [
        types::ROUTER_ADVERTISEMENT,
        0,
        0,
        0,
        64,
        0,
        7,
        8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let packet = packet.clone().hop_limit(255);
    vec![
        packet.clone().icmpv6(&solicitation).build(),
        packet.clone().icmpv6(&probe).build(),
        packet.clone().icmpv6(&advertisement).build(),
        packet.clone().icmpv6(&router_advertisement).build(),
        packet
            .clone()
            .icmpv6(&[types::ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0])
            .build(),
        packet.clone().icmpv6(&[types::REDIRECT; 40]).build(),
        packet
            .clone()
            .hop_limit(1)
            .icmpv6(&[types::MULTICAST_LISTENER_QUERY; 24])
            .build(),
        packet.hop_limit(254).icmpv6(&solicitation).build(),
    ]
}

/// ICMPv6 errors that quote a packet which once went the other way.
fn errors(packet: &Packet, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<Vec<u8>> {
    let quoted = Packet::anywhere().ipv6(destination, source).hop_limit(3);
    let quotes = [
        quoted.clone().udp(53, 4000, b"answer").build_ipv6(),
        quoted.clone().tcp(80, 4000, &[0; 1400]).build_ipv6(),
        quoted.clone().icmpv6_echo(1, 2, b"ping").build_ipv6(),
        quoted
            .clone()
            .hop_by_hop()
            .destination_options()
            .udp(1, 2, b"x")
            .build_ipv6(),
        quoted
            .clone()
            .fragment(64, false, 9)
            .raw(proto::UDP, b"rest")
            .build_ipv6(),
        quoted
            .clone()
            .icmpv6_error(
                types::TIME_EXCEEDED,
                0,
                0,
                &quoted.clone().udp(1, 2, b"x").build_ipv6(),
            )
            .build_ipv6(),
        quoted.clone().udp(1, 2, b"x").build_ipv6()[..39].to_vec(),
        Vec::new(),
    ];
    let kinds = [
        (types::DESTINATION_UNREACHABLE, 1, 0),
        (types::PACKET_TOO_BIG, 0, 1280),
        (types::TIME_EXCEEDED, 0, 0),
        (types::PARAMETER_PROBLEM, 0, 6),
    ];
    let mut frames: Vec<Vec<u8>> = quotes
        .iter()
        .zip(kinds.iter().cycle())
        .map(|(quote, (kind, code, word))| {
            packet
                .clone()
                .icmpv6_error(*kind, *code, *word, quote)
                .build()
        })
        .collect();
    frames.push(
        packet
            .clone()
            .hop_by_hop()
            .icmpv6_error(types::PACKET_TOO_BIG, 0, 1300, &quotes[0])
            .build(),
    );
    frames.push(
        packet
            .clone()
            .hop_limit(1)
            .icmpv6_error(types::TIME_EXCEEDED, 0, 0, &quotes[0])
            .build(),
    );
    frames.push(
        packet
            .clone()
            .fragment(0, true, 1)
            .icmpv6_error(types::PACKET_TOO_BIG, 0, 1300, &quotes[1])
            .build(),
    );
    frames.push(
        packet
            .clone()
            .icmpv6_error(types::PACKET_TOO_BIG, 0, 1300, &quotes[0])
            .wrong_checksum()
            .build(),
    );
    frames
}
