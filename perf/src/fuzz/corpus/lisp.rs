//! The corpus for LISP: packets to EIDs of every mapping, and encapsulated ones, valid and with each field wrong in turn.

use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane::testing::builder::{Packet, Packet4};
use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv4;
use dataplane::wire::icmpv6::types;
use dataplane::wire::ipv6::proto;
use dataplane::wire::lisp::{DATA_PORT, flags};

use super::super::network::lisp::{INSTANCES, MAPPINGS, OWN4, OWN6, RLOC4, RLOC6, eids};
use super::{PORTS, mac_of};

const THEIRS: Mac = Mac::from_octets([2, 0, 0, 0, 2, 9]);
/// Hosts of the site, and one that is none of its EIDs.
const SITE: [(&str, &str); 3] = [
    ("fd01:203:405:77::10", "192.0.2.10"),
    ("fd01:203:405:1::2", "192.0.2.2"),
    ("2600::1", "8.8.8.8"),
];
/// Where EIDs are sent from, and where encapsulated packets come in.
const INSIDE: [(usize, &[u16]); 3] = [(0, &[]), (2, &[7]), (2, &[])];
const OUTSIDE: [(usize, &[u16]); 3] = [(1, &[]), (1, &[200, 300]), (0, &[])];

/// By the port they are meant for.
pub(super) fn received_frames() -> [Vec<Vec<u8>>; PORTS] {
    let mut frames: [Vec<Vec<u8>>; PORTS] = Default::default();
    for (port, tags) in INSIDE {
        for (six, four) in SITE {
            // One more: what is asked for.
            for number in 0..=MAPPINGS {
                let [to6, to4] = if number == MAPPINGS {
                    ["2001:db8:7f::1".to_owned(), "10.99.0.1".to_owned()]
                } else {
                    eids(number)
                };
                frames[port].extend(to_eid(
                    &packet6((port, tags), six, &to6),
                    &packet4((port, tags), four, &to4),
                ));
            }
        }
    }
    for link in OUTSIDE {
        for inner in inner_packets() {
            for (from6, from4) in [
                (RLOC6, RLOC4),
                ("2001:db8:ffff::dead", "198.51.100.99"),
                ("fe80::77", "169.254.1.1"),
            ] {
                frames[link.0].extend(encapsulated(
                    &packet6(link, from6, OWN6),
                    &packet4(link, from4, OWN4),
                    &inner,
                ));
            }
        }
        frames[link.0].extend(path_errors(link));
    }
    frames
}

/// Those of them about which nothing is odd, as most are.
pub(super) fn common_frames() -> [Vec<Vec<u8>>; PORTS] {
    let mut frames: [Vec<Vec<u8>>; PORTS] = Default::default();
    for link in INSIDE {
        for (six, four) in SITE {
            for number in 0..MAPPINGS {
                let [to6, to4] = eids(number);
                let all = to_eid(&packet6(link, six, &to6), &packet4(link, four, &to4));
                frames[link.0].extend(all.into_iter().take(2));
            }
        }
    }
    for link in OUTSIDE {
        for inner in inner_packets().iter().take(2 * SITE.len()) {
            let (six, four) = (packet6(link, RLOC6, OWN6), packet4(link, RLOC4, OWN4));
            frames[link.0].extend(encapsulated(&six, &four, inner).into_iter().take(2));
        }
    }
    frames
}

fn packet6((port, tags): (usize, &[u16]), from: &str, to: &str) -> Packet {
    let packet = Packet::ethernet(THEIRS, mac_of(port));
    let packet = tags.iter().fold(packet, |packet, id| packet.vlan(*id, 3));
    let address = |text: &str| -> Ipv6Addr { text.parse().expect("a constant") };
    packet.ipv6(address(from), address(to))
}

fn packet4((port, tags): (usize, &[u16]), from: &str, to: &str) -> Packet4 {
    let packet = Packet4::ethernet(THEIRS, mac_of(port));
    let packet = tags.iter().fold(packet, |packet, id| packet.vlan(*id, 3));
    let address = |text: &str| -> Ipv4Addr { text.parse().expect("a constant") };
    packet.ipv4(address(from), address(to))
}

/// What a host sends to an EID.
fn to_eid(six: &Packet, four: &Packet4) -> Vec<Vec<u8>> {
    let (six, four) = (|| six.clone(), || four.clone());
    let once = six().udp(
        50_000,
        DATA_PORT,
        &datagram([0; 8], &six().udp(1, 2, b"x").build_ipv6()),
    );
    let twice = six().udp(50_000, DATA_PORT, &datagram([0; 8], &once.build_ipv6()));
    vec![
        six().udp(1, 2, b"question").build(),
        six().traffic_class(0xb9).tcp(1, 2, b"GET /").build(),
        six().hop_limit(1).udp(1, 2, b"x").build(),
        six().hop_limit(2).udp(1, 2, b"x").build(),
        six().udp(1, 2, &[0; 1396]).build(), // 1444 bytes: fits by IPv6
        six().udp(1, 2, &[0; 1416]).build(), // 1464: fits by IPv4
        six().udp(1, 2, &[0; 1452]).build(), // 1500
        six().udp(1, 2, &[0; 1184]).build(), // 1232: too large for the narrow link
        six().hop_by_hop().udp(1, 2, b"x").build(),
        six().fragment(0, true, 7).udp(1, 2, b"12345678").build(),
        six()
            .fragment(8, false, 7)
            .raw(proto::UDP, b"the rest")
            .build(),
        six().icmpv6_echo(1, 2, b"ping").build(),
        six().flow_label(77).raw(proto::ESP, &[0x5a; 40]).build(),
        six().udp(1, 2, b"x").trailer(&[0; 9]).build(),
        once.build(),
        twice.build(),
        four().udp(1, 2, b"question").build(),
        four()
            .traffic_class(0xb9)
            .tcp(1, 2, b"GET /")
            .dont_fragment()
            .build(),
        four().ttl(1).udp(1, 2, b"x").build(),
        four().udp(1, 2, &[0; 1436]).dont_fragment().build(), // 1464
        four().udp(1, 2, &[0; 1472]).dont_fragment().build(),
        four().udp(1, 2, &[0; 1472]).build(), // to be cut
        four()
            .options(&[136, 4, 1, 2])
            .udp(1, 2, &[0; 1460])
            .build(),
        four().fragment(0, true).udp(1, 2, &[0; 1472]).build(),
        four().fragment(16, false).raw(17, b"the rest").build(),
        four().raw(132, &[0x5a; 24]).build(),
    ]
}

/// Inner packets: to own EIDs, to mappings, to strangers; sane and not.
fn inner_packets() -> Vec<Vec<u8>> {
    let six = |from: &str, to: &str| packet6((0, &[]), from, to);
    let four = |from: &str, to: &str| packet4((0, &[]), from, to);
    let mut packets = Vec::new();
    let [from6, from4] = eids(0);
    for (to6, to4) in SITE {
        packets.push(
            six(&from6, to6)
                .traffic_class(2)
                .udp(1, 2, b"answer")
                .build_ipv6(),
        );
        packets.push(
            four(&from4, to4)
                .traffic_class(2)
                .udp(1, 2, b"answer")
                .build_ipv4(),
        );
    }
    for number in 0..MAPPINGS {
        let [to6, to4] = eids(number);
        packets.push(six(&from6, &to6).udp(1, 2, b"onward").build_ipv6());
        packets.push(four(&from4, &to4).udp(1, 2, b"onward").build_ipv4());
    }
    let (to6, to4) = SITE[1];
    packets.extend([
        six(&from6, to6).udp(1, 2, b"not ECT").build_ipv6(),
        six(&from6, to6).hop_limit(0).udp(1, 2, b"x").build_ipv6(),
        six(&from6, to6).hop_limit(1).udp(1, 2, b"x").build_ipv6(),
        six(&from6, to6)
            .udp(1, 2, b"x")
            .payload_length(1000)
            .build_ipv6(),
        six(&from6, to6).version(5).udp(1, 2, b"x").build_ipv6(),
        six(&from6, to6).icmpv6_echo(1, 2, b"ping").build_ipv6(),
        six(&from6, "fd01:203:405:1::1")
            .icmpv6_echo(1, 2, b"for us")
            .build_ipv6(),
        six(&from6, "fd01:203:405:1::dead")
            .udp(1, 2, b"x")
            .build_ipv6(),
        six(&from6, OWN6).udp(1, DATA_PORT, &[0; 60]).build_ipv6(),
        six("fe80::1", to6).udp(1, 2, b"x").build_ipv6(),
        six("::ffff:10.70.0.1", to6).udp(1, 2, b"x").build_ipv6(),
        six(&from6, "ff0e::1").udp(1, 2, b"x").build_ipv6(),
        six("2600::99", to6).udp(1, 2, b"of nobody's").build_ipv6(),
        four(&from4, to4).udp(1, 2, b"not ECT").build_ipv4(),
        four(&from4, to4).ttl(0).udp(1, 2, b"x").build_ipv4(),
        four(&from4, to4)
            .wrong_header_checksum()
            .udp(1, 2, b"x")
            .build_ipv4(),
        four(&from4, to4)
            .total_length(1000)
            .udp(1, 2, b"x")
            .build_ipv4(),
        four(&from4, to4)
            .options(&[136, 4, 1, 2])
            .udp(1, 2, b"x")
            .build_ipv4(),
        four(&from4, "192.0.2.1")
            .echo(icmpv4::types::ECHO_REQUEST, 1, 2, b"for us")
            .build_ipv4(),
        four(&from4, "192.0.2.255").udp(1, 2, b"x").build_ipv4(),
        four("127.0.0.1", to4).udp(1, 2, b"x").build_ipv4(),
        four(&from4, "224.0.0.1").udp(1, 2, b"x").build_ipv4(),
    ]);
    packets
}

/// LISP header and inner packet.
fn datagram(header: [u8; 8], inner: &[u8]) -> Vec<u8> {
    [&header, inner].concat()
}

fn header_of(instance: u32, first: u8) -> [u8; 8] {
    let [_, a, b, c] = instance.to_be_bytes();
    let first = if instance == 0 {
        first
    } else {
        first | flags::INSTANCE
    };
    [first, 0, 0, 0, a, b, c, 0]
}

/// An inner packet behind outer headers, good ones and those with something wrong.
fn encapsulated(six: &Packet, four: &Packet4, inner: &[u8]) -> Vec<Vec<u8>> {
    let (six, four) = (|| six.clone(), || four.clone());
    let mut frames = Vec::new();
    let unnamed = datagram(header_of(INSTANCES[0], 0), inner);
    let next = if inner.first().is_some_and(|first| first >> 4 == 4) {
        1
    } else {
        2
    };
    for instance in INSTANCES {
        let data = datagram(header_of(instance, 0), inner);
        // No checksum, as most send it; the builder's is right.
        frames.push(without_checksum(
            six().udp(50_000, DATA_PORT, &data).build(),
            data.len(),
        ));
        frames.push(without_checksum(
            four().udp(50_000, DATA_PORT, &data).build(),
            data.len(),
        ));
    }
    for class in [0x03, 0xb9] {
        frames.push(
            six()
                .traffic_class(class)
                .udp(50_000, DATA_PORT, &unnamed)
                .build(),
        );
        frames.push(
            four()
                .traffic_class(class)
                .udp(50_000, DATA_PORT, &unnamed)
                .build(),
        );
    }
    for header in [
        header_of(0x99, 0),
        header_of(
            0,
            flags::NONCE | flags::MAP_VERSION | flags::STATUS_BITS | flags::ECHO_NONCE,
        ),
        header_of(0, 1),
        [flags::NEXT_PROTOCOL, 0, 0, 0, 0, 0, 0, next],
        [flags::NEXT_PROTOCOL, 0, 0, 0, 0, 0, 0, 3],
    ] {
        let data = datagram(header, inner);
        frames.push(six().udp(50_000, DATA_PORT, &data).build());
        frames.push(four().udp(50_000, DATA_PORT, &data).build());
    }
    frames.extend([
        six().hop_limit(1).udp(50_000, DATA_PORT, &unnamed).build(),
        six().hop_limit(0).udp(50_000, DATA_PORT, &unnamed).build(),
        six()
            .udp(50_000, DATA_PORT, &unnamed)
            .trailer(&[0; 7])
            .build(),
        six()
            .udp(50_000, DATA_PORT, &unnamed)
            .wrong_checksum()
            .build(),
        six().hop_by_hop().udp(50_000, DATA_PORT, &unnamed).build(),
        six()
            .fragment(0, true, 1)
            .udp(50_000, DATA_PORT, &unnamed)
            .build(),
        six()
            .fragment(64, false, 1)
            .raw(proto::UDP, &unnamed)
            .build(),
        six().udp(50_000, DATA_PORT, &[0; 7]).build(),
        six().udp(50_000, DATA_PORT + 1, &unnamed).build(),
        four().ttl(1).udp(50_000, DATA_PORT, &unnamed).build(),
        four()
            .udp(50_000, DATA_PORT, &unnamed)
            .trailer(&[0; 7])
            .build(),
        four()
            .udp(50_000, DATA_PORT, &unnamed)
            .wrong_checksum()
            .build(),
        four()
            .options(&[136, 4, 1, 2])
            .udp(50_000, DATA_PORT, &unnamed)
            .build(),
        four()
            .fragment(0, true)
            .udp(50_000, DATA_PORT, &unnamed)
            .build(),
        four().fragment(64, false).raw(proto::UDP, &unnamed).build(),
        four().udp(50_000, DATA_PORT, &[0; 7]).build(),
    ]);
    frames
}

/// The same frame with a UDP checksum of 0: that of the datagram with `len` bytes of data at its end.
fn without_checksum(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    let end = frame.len() - len;
    frame[end - 2..end].fill(0);
    frame
}

/// What routers of the underlay say of paths to locators.
fn path_errors(link: (usize, &[u16])) -> Vec<Vec<u8>> {
    let inner = packet6((0, &[]), SITE[0].0, &eids(0)[0])
        .udp(1, 2, &[0; 300])
        .build_ipv6();
    let data = datagram([0; 8], &inner);
    let quoted6 = packet6(link, OWN6, RLOC6).udp(50_000, DATA_PORT, &data);
    let quoted4 = packet4(link, OWN4, RLOC4).udp(50_000, DATA_PORT, &data);
    let six = packet6(link, RLOC6, OWN6);
    let four = packet4(link, RLOC4, OWN4);
    vec![
        six.clone()
            .icmpv6_error(types::PACKET_TOO_BIG, 0, 1400, &quoted6.build_ipv6())
            .build(),
        six.clone()
            .icmpv6_error(types::PACKET_TOO_BIG, 0, 1400, &quoted6.build_ipv6())
            .wrong_checksum()
            .build(),
        six.icmpv6_error(types::DESTINATION_UNREACHABLE, 0, 0, &quoted6.build_ipv6())
            .build(),
        four.icmp_error(
            icmpv4::types::DESTINATION_UNREACHABLE,
            4,
            1400,
            &quoted4.build_ipv4(),
        )
        .build(),
    ]
}
