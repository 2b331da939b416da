//! IPv4: forwarding, errors, fragments, packets for us, and what must not pass (RFC 791, 792, 1122, 1812).

use std::net::Ipv4Addr;

use crate::bench::*;
use dataplane::frame::Frame;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::HeapFrame;
use dataplane::testing::builder::Packet4;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::{arp, icmpv4, ipv4};
use pipelines::tables::{Builder, Hop, IcmpLimits, Route, VrfId};
use pipelines::{Family, Meta};

const HOST4: &str = "192.0.2.10";
const OURS4: &str = "192.0.2.1";
const UPLINK4: &str = "198.51.100.2";
const ROUTER4: &str = "198.51.100.1";
const PEER4: &str = "203.0.113.9";

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// The usual box with IPv4 beside IPv6: a host inside, a default route to the router; the uplink takes 1400 bytes.
fn dual_stack() -> Builder {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["fd01:203:405:1::1/64", "192.0.2.1/24"]));
    let mut narrow = interface(UPLINK, &["2001:db8:ffff::2/64", "198.51.100.2/24"]);
    narrow.mtu = 1400;
    let uplink = builder.interface(narrow);
    for (interface, address, last) in [
        (inside, HOST, 0x11),
        (inside, HOST4, 0x11),
        (uplink, ROUTER, 0x22),
        (uplink, ROUTER4, 0x22),
    ] {
        builder.neighbor(interface, ip_address(address), mac(last));
    }
    for (prefix, via) in [("::/0", ROUTER), ("0.0.0.0/0", ROUTER4)] {
        let hop = Hop {
            interface: uplink,
            via: Some(ip_address(via)),
            weight: 1,
        };
        builder.route(VrfId(0), ip_net(prefix), Route::Hops(vec![hop]));
    }
    builder
}

fn out() -> Packet4 {
    Packet4::ethernet(mac(0x11), mac(1)).ipv4(v4(HOST4), v4(PEER4))
}

fn between(from: &str, to: &str) -> Packet4 {
    Packet4::ethernet(mac(0x11), mac(1)).ipv4(v4(from), v4(to))
}

/// The IPv4 packet of an untagged frame; it must be a good one, and all of the frame.
fn packet(frame: &[u8]) -> ipv4::Packet<'_> {
    assert_eq!(frame[12..14], [0x08, 0x00]);
    let packet = ipv4::parse(&frame[14..]).expect("a good packet");
    assert_eq!(packet.header.total_len(), frame.len() - 14);
    packet
}

/// An ICMP error: its checksum must hold; type, code, word and quote.
fn error(frame: &[u8]) -> (u8, u8, u32, &[u8]) {
    let packet = packet(frame);
    assert_eq!(packet.header.protocol, ipv4::proto::ICMP);
    assert!(packet.header.total_len() <= 576, "RFC 1812 4.3.2.3");
    assert!(icmpv4::is_valid(packet.payload));
    let [kind, code, _, _, a, b, c, d, quote @ ..] = packet.payload else {
        panic!("shorter than its header");
    };
    (*kind, *code, u32::from_be_bytes([*a, *b, *c, *d]), quote)
}

/// RFC 1812 5.3.1: one hop less, checksum right, everything else as it was.
#[test]
fn a_packet_is_forwarded_with_one_hop_less() {
    let mut bench = Bench::new(dual_stack());
    for packet in [
        out().udp(1, 2, b"data"),
        out().tcp(1, 2, b"data").ttl(2).dont_fragment(),
        out()
            .udp(1, 2, b"data")
            .traffic_class(0xb9)
            .identification(99),
        out().udp(1, 2, b"data").fragment(8, true),
        out().raw(50, &[3; 40]),
        // RFC 1812 4.2.2.1: options are not ours to look at.
        out().options(&[136, 4, 1, 2]).udp(1, 2, b"data"),
        out().udp(1, 2, b"").trailer(&[0; 18]),
        out().udp(1, 2, &[7; 1372]).dont_fragment(),
    ] {
        let sent = bench.receive(INSIDE, &[packet.build()]);
        let before = packet.build_ipv4();
        let mut expected = before;
        expected[8] -= 1;
        let header_len = usize::from(expected[0] & 15) * 4;
        ipv4::set_checksum(&mut expected[..header_len]).expect("a header");
        let link = [mac(0x22).octets(), mac(2).octets()].concat();
        let expected = [&link[..], &[0x08, 0x00], &expected].concat();
        assert_eq!(sent, [(UPLINK, expected)]);
    }
    let back = Packet4::ethernet(mac(0x22), mac(2)).ipv4(v4(PEER4), v4(HOST4));
    let sent = bench.receive(UPLINK, &[back.udp(2, 1, b"back").build()]);
    assert_eq!((sent[0].0, packet(&sent[0].1).header.ttl), (INSIDE, 63));
    assert_eq!(sent[0].1[..6], mac(0x11).octets());
    assert_eq!(bench.drops(), []);
}

/// Tags, and other lengths of the link header on either side.
#[test]
fn tagged_interfaces_forward_ipv4() {
    let mut builder = Builder::new();
    let mut lan = interface(INSIDE, &["192.0.2.1/24"]);
    lan.vlan = vec![100];
    let lan = builder.interface(lan);
    let wan = builder.interface(interface(UPLINK, &["198.51.100.2/24"]));
    builder.neighbor(lan, ip_address(HOST4), mac(0x11));
    builder.neighbor(wan, ip_address(ROUTER4), mac(0x22));
    let mut bench = Bench::new(builder);
    let frame = between(HOST4, ROUTER4).vlan(100, 5).udp(1, 2, b"t").build();
    let sent = bench.receive(INSIDE, &[frame]);
    assert_eq!(packet(&sent[0].1).header.ttl, 63);
    let back = Packet4::ethernet(mac(0x22), mac(2)).ipv4(v4(ROUTER4), v4(HOST4));
    let sent = bench.receive(UPLINK, &[back.udp(2, 1, b"t").build()]);
    let expected = Packet4::ethernet(mac(1), mac(0x11))
        .vlan(100, 0)
        .ipv4(v4(ROUTER4), v4(HOST4))
        .ttl(63);
    assert_eq!(sent, [(INSIDE, expected.udp(2, 1, b"t").build())]);
}

/// Both families in one burst: each by its own table, each in its order.
#[test]
fn a_mixed_burst_keeps_the_order_of_each_family() {
    let mut bench = Bench::new(dual_stack());
    let burst: Vec<_> = (0..64_u16)
        .map(|n| match n % 4 {
            0 | 3 => from_inside()
                .ipv6(address(HOST), address(PEER))
                .udp(n, 2, b"x")
                .build(),
            1 => out().udp(n, 2, b"x").build(),
            _ => out().udp(n, 2, &[0; 1400]).build(), // to be cut
        })
        .collect();
    let sent = bench.receive(INSIDE, &burst);
    let of = |is_v4: bool| {
        let frames = sent.iter().filter(|(_, frame)| (frame[12] == 8) == is_v4);
        frames.map(|(_, frame)| frame).collect::<Vec<_>>()
    };
    let six: Vec<u16> = of(false)
        .iter()
        .map(|frame| u16::from_be_bytes([frame[54], frame[55]]))
        .collect();
    let expected: Vec<u16> = (0..64).filter(|n| matches!(n % 4, 0 | 3)).collect();
    assert_eq!(six, expected);
    let firsts = of(true).into_iter().map(|frame| packet(frame));
    let four: Vec<u16> = firsts
        .filter(|packet| packet.header.is_first())
        .map(|packet| u16::from_be_bytes([packet.payload[0], packet.payload[1]]))
        .collect();
    let expected: Vec<u16> = (0..64).filter(|n| matches!(n % 4, 1 | 2)).collect();
    assert_eq!(four, expected);
    assert_eq!(bench.counters.generated.read(), 16, "second halves");
    assert_eq!(bench.drops(), []);
}

/// RFC 1812 5.2.2, 5.3.5, 5.3.7; RFC 3927 7; RFC 2644 2.
#[test]
fn bad_packets_are_dropped_under_their_own_reason() {
    let plain = || out().udp(1, 2, b"data");
    let from = |source: &str| between(source, PEER4).udp(1, 2, b"").build();
    let to = |destination: &str| between(HOST4, destination).udp(1, 2, b"").build();
    let on = |destination: Mac| {
        let packet = Packet4::ethernet(mac(0x11), destination);
        packet.ipv4(v4(HOST4), v4(PEER4)).udp(1, 2, b"").build()
    };
    let whole = plain().build();
    let cases = [
        (whole[..33].to_vec(), DropReason::Truncated),
        (whole[..45].to_vec(), DropReason::Truncated),
        (plain().total_length(1000).build(), DropReason::Truncated),
        (plain().total_length(19).build(), DropReason::Ipv4Header),
        (plain().version(6).build(), DropReason::BadVersion),
        (
            plain().wrong_header_checksum().build(),
            DropReason::Ipv4Checksum,
        ),
        (on(mac(9)), DropReason::NotForUs),
        (on(Mac::BROADCAST), DropReason::NotForUs),
        (from("224.0.0.1"), DropReason::SourceMulticast),
        (from("127.0.0.1"), DropReason::SourceLoopback),
        (from("0.0.0.0"), DropReason::SourceUnspecified),
        (from("0.1.2.3"), DropReason::SourceUnspecified),
        (from("255.255.255.255"), DropReason::SourceBroadcast),
        (from("240.0.0.1"), DropReason::SourceBroadcast),
        (from("169.254.1.1"), DropReason::LinkLocalScope),
        (to("0.0.0.0"), DropReason::DestinationUnspecified),
        (to("127.0.0.1"), DropReason::DestinationLoopback),
        (to("239.1.1.1"), DropReason::MulticastNotForwarded),
        (to("255.255.255.255"), DropReason::DestinationBroadcast),
        (to("169.254.1.1"), DropReason::LinkLocalScope),
        (to("198.51.100.255"), DropReason::DirectedBroadcast),
        (to("198.51.100.0"), DropReason::DirectedBroadcast),
    ];
    for (frame, reason) in cases {
        let mut bench = Bench::new(dual_stack());
        assert_eq!(bench.receive(INSIDE, &[frame]), [], "{reason:?}");
        assert_eq!(bench.drops(), [(reason, 1)]);
    }
}

/// RFC 3021 2.1: a link of two addresses has no broadcast.
#[test]
fn both_addresses_of_a_point_to_point_link_are_hosts() {
    let mut builder = dual_stack();
    let link = builder.interface(interface(2, &["10.0.0.0/31"]));
    builder.neighbor(link, ip_address("10.0.0.1"), mac(0x33));
    let mut bench = Bench::new(builder);
    let frame = between(HOST4, "10.0.0.1").udp(1, 2, b"").build();
    let sent = bench.receive(INSIDE, &[frame]);
    assert_eq!((sent.len(), sent[0].0), (1, 2));
}

/// RFC 1812 5.3.1, 4.3.2: quote, addresses, precedence.
#[test]
fn ttl_exceeded_is_answered_with_the_packet_as_received() {
    let mut bench = Bench::new(dual_stack());
    for ttl in [0, 1] {
        let probe = out().ttl(ttl).udp(1, 33434, &[5; 700]);
        let sent = bench.receive(INSIDE, &[probe.build()]);
        assert_eq!((sent.len(), sent[0].0), (1, INSIDE));
        assert_eq!(sent[0].1[..6], mac(0x11).octets());
        let (kind, code, word, quote) = error(&sent[0].1);
        assert_eq!((kind, code, word), (11, 0, 0));
        assert_eq!(quote, &probe.build_ipv4()[..548], "as much as fits");
        let header = packet(&sent[0].1).header;
        assert_eq!(
            (header.source(), header.destination()),
            (v4(OURS4), v4(HOST4))
        );
        assert_eq!((header.ttl, header.traffic_class), (64, 0xc0));
    }
    assert_eq!(bench.drops(), [(DropReason::HopLimit, 2)]);
    assert_eq!(bench.counters.generated.read(), 2);
}

/// RFC 1191 4, RFC 1812 5.2.7.1.
#[test]
fn a_packet_that_must_not_be_cut_is_answered_with_the_mtu() {
    let mut bench = Bench::new(dual_stack());
    let big = out().dont_fragment().udp(1, 2, &[0; 1373]);
    let sent = bench.receive(INSIDE, &[big.build()]);
    let (kind, code, word, quote) = error(&sent[0].1);
    assert_eq!((kind, code, word), (3, 4, 1400));
    assert_eq!(quote, &big.build_ipv4()[..548]);
    assert_eq!(bench.drops(), [(DropReason::PacketTooBig, 1)]);
}

/// RFC 791 3.2, RFC 1812 5.2.6: equal pieces, in order, each a good packet.
#[test]
fn a_packet_that_is_too_large_leaves_in_pieces() {
    let mut bench = Bench::new(dual_stack());
    let data: Vec<u8> = (0..3000_u16).map(|n| n.to_le_bytes()[0]).collect();
    let big = out().identification(77).udp(1, 2, &data);
    let sent = bench.receive(INSIDE, &[big.build()]);
    let mut seen: Vec<u8> = Vec::new();
    for (index, (port, frame)) in sent.iter().enumerate() {
        assert_eq!((*port, &frame[..6]), (UPLINK, &mac(0x22).octets()[..]));
        let piece = packet(frame);
        assert!(piece.header.total_len() <= 1400);
        assert_eq!(
            (piece.header.ttl, piece.header.identification.get()),
            (63, 77)
        );
        assert_eq!(piece.header.fragment_offset(), seen.len());
        assert_eq!(piece.header.more_fragments(), index + 1 < sent.len());
        seen.extend(piece.payload);
    }
    assert_eq!(sent.len(), 3);
    assert_eq!(seen, big.build_ipv4()[20..]);
    assert_eq!(
        (bench.counters.generated.read(), bench.drops().len()),
        (2, 0)
    );
}

#[test]
fn a_packet_that_would_make_too_many_pieces_is_dropped() {
    let mut builder = dual_stack();
    let mut tiny = interface(2, &["10.0.0.1/24"]);
    tiny.mtu = 68;
    let tiny = builder.interface(tiny);
    builder.neighbor(tiny, ip_address("10.0.0.2"), mac(0x33));
    let mut bench = Bench::new(builder);
    let frame = between(HOST4, "10.0.0.2").udp(1, 2, &[0; 1400]).build();
    assert_eq!(bench.receive(INSIDE, &[frame]), []);
    assert_eq!(bench.drops(), [(DropReason::NotFragmentable, 1)]);
}

/// RFC 1812 4.3.3.1, 5.2.7.1: routes that lead nowhere.
#[test]
fn routes_blackhole_unreachable_and_missing() {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["192.0.2.1/24"]));
    builder.neighbor(inside, ip_address(HOST4), mac(0x11));
    builder.route(VrfId(0), ip_net("10.0.0.0/8"), Route::Blackhole);
    builder.route(VrfId(0), ip_net("10.1.0.0/16"), Route::Unreachable);
    let mut bench = Bench::new(builder);
    let to = |destination: &str| between(HOST4, destination).udp(1, 2, b"").build();
    assert_eq!(bench.receive(INSIDE, &[to("10.2.0.1")]), []);
    for destination in ["10.1.0.1", "11.0.0.1"] {
        let sent = bench.receive(INSIDE, &[to(destination)]);
        assert_eq!(&error(&sent[0].1).0, &3);
        assert_eq!(error(&sent[0].1).1, 0);
    }
    assert_eq!(
        bench.drops(),
        [(DropReason::NoRoute, 2), (DropReason::Blackhole, 1)]
    );
}

/// RFC 1812 4.3.2.7.
#[test]
fn no_error_about_what_must_not_be_answered() {
    let dying = |packet: Packet4| packet.ttl(1).build();
    let quote = out().udp(1, 2, b"x").build_ipv4();
    let cases = [
        dying(out().icmp_error(11, 0, 0, &quote)),
        dying(out().icmp_error(5, 1, 0, &quote)),
        dying(out().raw(1, b"")),
        dying(out().fragment(8, false).raw(17, b"rest")),
        dying(between("192.0.2.255", PEER4).udp(1, 2, b"")),
    ];
    for frame in cases {
        let mut bench = Bench::new(dual_stack());
        assert_eq!(bench.receive(INSIDE, &[frame]), []);
        assert_eq!(bench.drops(), [(DropReason::HopLimit, 1)]);
    }
    // An echo request, its reply and a first fragment are answered.
    for packet in [
        out().echo(8, 1, 1, b""),
        out().echo(0, 1, 1, b""),
        out().fragment(0, true).raw(17, &[0; 16]),
    ] {
        let mut bench = Bench::new(dual_stack());
        assert_eq!(bench.receive(INSIDE, &[dying(packet)]).len(), 1);
    }
}

/// RFC 1812 4.3.2.8: one rate for the errors of both families.
#[test]
fn errors_are_rate_limited_with_those_of_ipv6() {
    let mut builder = dual_stack();
    builder.icmp(IcmpLimits {
        per_second: 1,
        burst: 2,
    });
    let mut bench = Bench::new(builder);
    let six = from_inside()
        .ipv6(address(HOST), address(PEER))
        .hop_limit(1);
    let six = six.udp(1, 2, b"").build();
    let four = out().ttl(1).udp(1, 2, b"").build();
    let sent = bench.receive(INSIDE, &[four.clone(), six, four.clone(), four]);
    assert_eq!(sent.len(), 2);
    assert_eq!(bench.counters.errors_limited.read(), 2);
}

/// Without an IPv4 address in the VRF there is nobody an error could come from.
#[test]
fn a_box_without_an_address_answers_nothing() {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &[]));
    builder.neighbor(inside, ip_address(HOST4), mac(0x11));
    let mut bench = Bench::new(builder);
    assert_eq!(bench.receive(INSIDE, &[out().udp(1, 2, b"").build()]), []);
    assert_eq!(bench.drops(), [(DropReason::NoRoute, 1)]);
    assert_eq!(bench.counters.generated.read(), 0);
}

/// RFC 1122 3.2.2.1, 3.2.2.6.
#[test]
fn local_packets_are_punted_or_refused() {
    let mut bench = Bench::new(dual_stack());
    let to_us = || between(HOST4, OURS4);
    assert_eq!(
        bench.receive(INSIDE, &[to_us().echo(8, 1, 2, b"ping").build()]),
        []
    );
    let punted = bench.punted();
    assert_eq!(punted[0].reason, PuntReason::Echo);
    assert_eq!(
        (punted[0].meta.family(), punted[0].meta.l3_offset()),
        (Family::V4, 14)
    );
    for (packet, fields) in [
        (to_us().udp(1, 2, b"x"), (3, 3)),
        (to_us().tcp(1, 2, b"x"), (3, 3)),
        (to_us().raw(132, &[0; 12]), (3, 2)),
    ] {
        let sent = bench.receive(INSIDE, &[packet.build()]);
        let (kind, code, _, quote) = error(&sent[0].1);
        assert_eq!((kind, code), fields);
        assert_eq!(quote, packet.build_ipv4());
    }
    // A TTL of 1 is enough to reach us; an address on another interface is ours as well.
    let far = between(HOST4, UPLINK4).ttl(1).echo(8, 1, 2, b"");
    bench.receive(INSIDE, &[far.build()]);
    assert_eq!(bench.punted().len(), 1);
    for packet in [
        to_us().echo(8, 1, 2, b"x").wrong_checksum(),
        to_us().echo(0, 1, 2, b"x"),
        to_us().icmp_error(3, 1, 0, &[0x45; 28]),
        to_us().fragment(0, true).udp(1, 2, b"12345678"),
    ] {
        assert_eq!(bench.receive(INSIDE, &[packet.build()]), []);
    }
    assert_eq!(
        bench.drops(),
        [
            (DropReason::Icmpv4Checksum, 1),
            (DropReason::LocalProtocol, 6)
        ]
    );
}

/// RFC 1812 3.3.2, RFC 1122 2.3.2.2: the packet waits for ARP, goes on, or is answered "host unreachable".
#[test]
fn unresolved_next_hops_are_punted_and_go_on_when_resolved() {
    let mut bench = Bench::new(dual_stack());
    let packet = between(HOST4, "198.51.100.77").udp(1, 2, b"wait");
    assert_eq!(bench.receive(INSIDE, &[packet.build(), packet.build()]), []);
    let mut punted = bench.punted();
    assert_eq!(punted.len(), 2);
    let waiting = punted.pop().expect("two");
    assert_eq!(waiting.reason, PuntReason::NeighborMiss);
    assert_eq!(
        bench.tables.unresolved(&waiting.frame, &waiting.meta),
        Some((interface_id(1), ip_address("198.51.100.77")))
    );
    let mut builder = dual_stack();
    builder.neighbor(interface_id(1), ip_address("198.51.100.77"), mac(0x77));
    bench.tables = builder.build().into();
    assert_eq!(bench.tables.unresolved(&waiting.frame, &waiting.meta), None);
    let sent = bench.resume(vec![(waiting.frame, waiting.meta)]);
    assert_eq!((sent[0].0, packet_ttl(&sent[0].1)), (UPLINK, 63));
    let given_up = punted.pop().expect("one left");
    let sent = bench.resume(vec![(given_up.frame, given_up.meta.unreachable())]);
    let (kind, code, _, quote) = error(&sent[0].1);
    assert_eq!((kind, code), (3, 1));
    assert_eq!(quote, packet.build_ipv4());
}

fn packet_ttl(frame: &[u8]) -> u8 {
    packet(frame).header.ttl
}

/// Our own packets keep their TTL, and are cut where they allow it.
#[test]
fn own_packets_leave_as_they_are() {
    let mut bench = Bench::new(dual_stack());
    let own = |packet: Packet4| {
        let meta = Meta::originate(interface_id(0)).of(Family::V4);
        (HeapFrame::new(&packet.build()), meta)
    };
    let pong = between(OURS4, PEER4).echo(0, 1, 2, b"pong");
    let sent = bench.resume(vec![own(pong.clone())]);
    assert_eq!(sent[0].1[14..], pong.build_ipv4());
    let long = between(OURS4, PEER4).echo(0, 1, 2, &[0; 1400]);
    assert_eq!(bench.resume(vec![own(long.clone())]).len(), 2);
    assert_eq!(bench.resume(vec![own(long.dont_fragment())]), []);
    assert_eq!(bench.drops(), [(DropReason::PacketTooBig, 1)]);
}

/// RFC 826: requests to all and messages to us; nobody else's.
#[test]
fn arp_is_punted() {
    let mut bench = Bench::new(dual_stack());
    let request = arp::Message::request(mac(0x11), v4(HOST4), v4(OURS4));
    let on = |destination| Packet4::ethernet(mac(0x11), destination);
    let frames = [
        on(Mac::BROADCAST).build_arp(&request),
        on(mac(1)).build_arp(&request),
        on(mac(9)).build_arp(&request),
        on(Mac::from_octets([1, 0, 0x5e, 0, 0, 1])).build_arp(&request),
        on(mac(1)).build_arp(&request)[..41].to_vec(),
    ];
    assert_eq!(bench.receive(INSIDE, &frames), []);
    let punted = bench.punted();
    assert_eq!(punted.len(), 2);
    for punted in punted {
        assert_eq!(punted.reason, PuntReason::Arp);
        assert_eq!(punted.meta.interface(), interface_id(0));
        let message = &punted.frame.bytes()[punted.meta.l3_offset()..];
        assert_eq!(arp::parse(message), Ok(&request));
    }
    assert_eq!(
        bench.drops(),
        [(DropReason::Truncated, 1), (DropReason::NotForUs, 2)]
    );
}

/// Flows by addresses, protocol and ports; fragments of one packet stay together.
#[test]
fn ecmp_shares_ipv4_flows_by_weight() {
    let mut builder = dual_stack();
    let other = builder.interface(interface(2, &["10.0.0.1/24"]));
    builder.neighbor(other, ip_address("10.0.0.2"), mac(0x33));
    let hop = |interface, via, weight| Hop {
        interface,
        via: Some(ip_address(via)),
        weight,
    };
    let hops = vec![hop(interface_id(1), ROUTER4, 3), hop(other, "10.0.0.2", 1)];
    builder.route(VrfId(0), ip_net("203.0.113.0/24"), Route::Hops(hops));
    let mut bench = Bench::new(builder);
    let flow = |port: u16| out().udp(port, 53, b"").build();
    let frames: Vec<_> = (0..2000).map(flow).collect();
    let sent = bench.receive(INSIDE, &frames);
    let share = sent.iter().filter(|(port, _)| *port == 2).count();
    assert!((400..600).contains(&share), "{share} of 2000");
    for port in 0..50 {
        let sent = bench.receive(INSIDE, &[flow(port), flow(port)]);
        assert_eq!(sent[0].0, sent[1].0);
        let fragments = [
            out().fragment(0, true).udp(port, 53, b"12345678").build(),
            out().fragment(16, false).raw(17, b"rest").build(),
        ];
        let sent = bench.receive(INSIDE, &fragments);
        assert_eq!(sent[0].0, sent[1].0);
    }
}

/// The host table knows both families: an IPv6 packet to an IPv4-mapped address does not reach the IPv4 neighbour.
#[test]
fn a_mapped_address_is_not_the_ipv4_host() {
    let mut builder = dual_stack();
    builder.interface(interface(2, &["::/0"]));
    let mut bench = Bench::new(builder);
    let frame = from_inside()
        .ipv6(address(HOST), address("::ffff:192.0.2.10"))
        .udp(1, 2, b"");
    assert_eq!(bench.receive(INSIDE, &[frame.build()]), []);
    assert_eq!(bench.drops(), [(DropReason::Ipv4Mapped, 1)]);
}

/// RFC 6296 concerns IPv6 alone: an uplink with rules forwards IPv4 as it is.
#[test]
fn an_uplink_with_rules_does_not_translate_ipv4() {
    let mut builder = usual();
    builder.neighbor(interface_id(1), ip_address(ROUTER4), mac(0x22));
    builder.neighbor(interface_id(0), ip_address(HOST4), mac(0x11));
    for (prefix, interface, via) in [("0.0.0.0/0", 1, ROUTER4), ("192.0.2.0/24", 0, HOST4)] {
        let hop = Hop {
            interface: interface_id(interface),
            via: Some(ip_address(via)),
            weight: 1,
        };
        builder.route(VrfId(0), ip_net(prefix), Route::Hops(vec![hop]));
    }
    let mut bench = Bench::new(builder);
    let sent = bench.receive(INSIDE, &[out().udp(1, 2, b"data").build()]);
    assert_eq!(packet(&sent[0].1).header.source(), v4(HOST4));
    let back = Packet4::ethernet(mac(0x22), mac(2)).ipv4(v4(PEER4), v4(HOST4));
    let sent = bench.receive(UPLINK, &[back.udp(2, 1, b"data").build()]);
    assert_eq!(packet(&sent[0].1).header.destination(), v4(HOST4));
    assert_eq!(bench.counters.rules[0].out.packets.read(), 0);
    assert_eq!(bench.drops(), []);
}
