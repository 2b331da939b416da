//! The whole graph: given frames in, expect frames out, counters, and nothing else.

mod common;

use common::*;
use dataplane::frame::Frame;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::HeapFrame;
use dataplane::testing::builder::Packet;
use dataplane::wire::checksum;
use dataplane::wire::ipv6::proto;
use pipelines::npt66::{Spec, ZeroIid};
use pipelines::tables::{Builder, Hop, IcmpLimits, Route, VrfId};
use pipelines::{Meta, NODE_NAMES};

/// The IPv6 packet of a frame without tags.
fn ip(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

fn source(packet: &[u8]) -> [u8; 16] {
    packet[8..24].try_into().expect("16 bytes")
}

fn destination(packet: &[u8]) -> [u8; 16] {
    packet[24..40].try_into().expect("16 bytes")
}

/// An ICMPv6 error: its checksum must hold; type, code, word and quote.
fn error(packet: &[u8]) -> (u8, u8, u32, &[u8]) {
    assert_eq!(packet[6], proto::ICMPV6);
    assert!(packet.len() <= 1280, "RFC 4443 2.4 (c)");
    assert!(checksum::is_valid(
        &source(packet),
        &destination(packet),
        proto::ICMPV6,
        &packet[40..]
    ));
    let word = u32::from_be_bytes(packet[44..48].try_into().expect("4 bytes"));
    (packet[40], packet[41], word, &packet[48..])
}

#[test]
fn outbound_is_translated_and_forwarded() {
    let mut bench = Bench::new(usual());
    let sent = bench.receive(
        INSIDE,
        &[from_inside()
            .ipv6(address(HOST), address(PEER))
            .udp(1, 2, b"x")
            .build()],
    );
    let expected = Packet::ethernet(mac(2), mac(0x22))
        .ipv6(address(HOST_OUTSIDE), address(PEER))
        .hop_limit(63)
        .udp(1, 2, b"x")
        .build();
    assert_eq!(sent, [(UPLINK, expected)]);
    assert_eq!(bench.drops(), []);
    assert_eq!(bench.counters.rules[0].out.packets.read(), 1);
    assert_eq!(bench.counters.rules[0].r#in.packets.read(), 0);
}

#[test]
fn inbound_is_translated_and_delivered_to_the_host_on_the_link() {
    let mut bench = Bench::new(usual());
    let packet = from_router()
        .ipv6(address(PEER), address(HOST_OUTSIDE))
        .tcp(80, 4000, b"hello")
        .build();
    let sent = bench.receive(UPLINK, &[packet]);
    let expected = Packet::ethernet(mac(1), mac(0x11))
        .ipv6(address(PEER), address(HOST))
        .hop_limit(63)
        .tcp(80, 4000, b"hello")
        .build();
    assert_eq!(sent, [(INSIDE, expected)]);
    assert_eq!(bench.counters.rules[0].r#in.packets.read(), 1);
}

#[test]
fn a_mixed_burst_keeps_order_and_loses_nothing() {
    let mut bench = Bench::new(usual());
    let good = |n: u16| {
        from_inside()
            .ipv6(address(HOST), address(PEER))
            .udp(n, 2, b"x")
            .build()
    };
    let burst: Vec<_> = (0..64)
        .map(|n| match n % 4 {
            0 => from_inside()
                .ether_type(0x0800)
                .ipv6(address(HOST), address(PEER))
                .udp(1, 2, b"")
                .build(),
            1 => from_inside()
                .ipv6(address(HOST), address(PEER))
                .hop_limit(1)
                .udp(n, 2, b"")
                .build(),
            _ => good(n),
        })
        .collect();
    let sent = bench.receive(INSIDE, &burst);
    let ports: Vec<u16> = sent
        .iter()
        .filter(|(port, _)| *port == UPLINK)
        .map(|(_, frame)| u16::from_be_bytes(ip(frame)[40..42].try_into().expect("2 bytes")))
        .collect();
    let expected: Vec<u16> = (0..64).filter(|n| n % 4 > 1).collect();
    assert_eq!(ports, expected);
    assert_eq!(
        bench.drops(),
        [
            (DropReason::UnknownEtherType, 16),
            (DropReason::HopLimit, 16)
        ]
    );
    assert_eq!(bench.counters.generated.read(), 16);
}

/// N13: the error quotes what was received, and comes from an address the receiver can reach.
#[test]
fn hop_limit_error_inbound_quotes_the_outside_address() {
    let mut bench = Bench::new(usual());
    let packet = from_router()
        .ipv6(address(PEER), address(HOST_OUTSIDE))
        .hop_limit(1)
        .udp(1, 33434, b"probe");
    let sent = bench.receive(UPLINK, &[packet.build()]);
    assert_eq!(sent.len(), 1);
    let (port, frame) = &sent[0];
    assert_eq!(*port, UPLINK);
    assert_eq!(&frame[..6], &mac(0x22).octets());
    let (kind, code, _, quote) = error(ip(frame));
    assert_eq!((kind, code), (3, 0));
    assert_eq!(
        quote,
        packet.build_ipv6(),
        "the quote is the packet as received"
    );
    assert_eq!(source(ip(frame)), address(UPLINK_ADDRESS).octets());
    assert_eq!(bench.drops(), [(DropReason::HopLimit, 1)]);
}

/// N13, outbound: the check comes before the translation.
#[test]
fn hop_limit_error_outbound_quotes_the_inside_address() {
    let mut bench = Bench::new(usual());
    let packet = from_inside()
        .ipv6(address(HOST), address(PEER))
        .hop_limit(1)
        .udp(1, 33434, b"probe");
    let sent = bench.receive(INSIDE, &[packet.build()]);
    let (_, _, _, quote) = error(ip(&sent[0].1));
    assert_eq!(quote, packet.build_ipv6());
    assert_eq!(
        (sent[0].0, source(ip(&sent[0].1))),
        (INSIDE, address(INSIDE_ADDRESS).octets())
    );
    assert_eq!(bench.counters.rules[0].out.packets.read(), 0);
}

/// RFC 4443 3.2, both ways, with N13; the quote is cut at 1280 bytes in all.
#[test]
fn packet_too_big_says_the_mtu_and_quotes_what_the_sender_sent() {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["fd01:203:405:1::1/64"]));
    let mut narrow = interface(UPLINK, &["2001:db8:ffff::2/64"]);
    narrow.mtu = 1400;
    let uplink = builder.interface(narrow);
    builder.neighbor(inside, address(HOST), mac(0x11));
    builder.neighbor(uplink, address(ROUTER), mac(0x22));
    let hop = Hop {
        interface: uplink,
        via: Some(address(ROUTER)),
        weight: 1,
    };
    builder.route(VrfId(0), net("::/0"), Route::Hops(vec![hop]));
    let mut bench = Bench::new(builder);
    let data = |len: usize| {
        from_inside()
            .ipv6(address(HOST), address(PEER))
            .udp(1, 2, &vec![7; len - 48])
    };
    let sent = bench.receive(INSIDE, &[data(1400).build(), data(1401).build()]);
    assert_eq!(sent.len(), 2);
    let (_, answer) = sent
        .iter()
        .find(|(port, _)| *port == INSIDE)
        .expect("an answer");
    let (kind, code, mtu, quote) = error(ip(answer));
    assert_eq!((kind, code, mtu), (2, 0, 1400));
    assert_eq!(ip(answer).len(), 1280);
    assert_eq!(quote, &data(1401).build_ipv6()[..1232]);
    assert_eq!(bench.drops(), [(DropReason::PacketTooBig, 1)]);
}

/// I1, RFC 4443 2.4 (e): what is never answered.
#[test]
fn no_error_about_what_must_not_be_answered() {
    let quote = Packet::anywhere()
        .ipv6(address(PEER), address(HOST))
        .udp(1, 2, b"")
        .build_ipv6();
    let expiring = |source: &str| {
        from_inside()
            .ipv6(address(source), address(PEER))
            .hop_limit(1)
    };
    let silent = [
        expiring(HOST).icmpv6_error(1, 0, 0, &quote),
        expiring(HOST).hop_by_hop().icmpv6_error(2, 0, 1280, &quote),
        expiring(HOST).icmpv6(&[137, 0, 0, 0]),
        expiring(HOST)
            .fragment(8, false, 1)
            .raw(proto::ICMPV6, &[128, 0, 0, 0]),
        expiring(HOST).raw(proto::ICMPV6, &[]),
    ];
    for packet in silent {
        let mut bench = Bench::new(usual());
        assert_eq!(bench.receive(INSIDE, &[packet.build()]), []);
        assert_eq!(bench.drops(), [(DropReason::HopLimit, 1)]);
    }
    let mut bench = Bench::new(usual());
    assert_eq!(
        bench
            .receive(INSIDE, &[expiring(HOST).icmpv6_echo(1, 1, b"").build()])
            .len(),
        1
    );
}

/// I1, RFC 4443 2.4 (f).
#[test]
fn errors_are_rate_limited() {
    let mut builder = usual();
    builder.icmp(IcmpLimits {
        per_second: 1,
        burst: 3,
    });
    let mut bench = Bench::new(builder);
    let expiring = from_inside()
        .ipv6(address(HOST), address(PEER))
        .hop_limit(1)
        .udp(1, 2, b"")
        .build();
    let sent = bench.receive(INSIDE, &vec![expiring; 50]);
    assert_eq!(sent.len(), 3);
    assert_eq!(bench.counters.errors_limited.read(), 47);
    assert_eq!(bench.drops(), [(DropReason::HopLimit, 50)]);
}

/// N4, N7, N9: each refusal is answered, with the code and pointer it needs.
#[test]
fn addresses_without_a_counterpart_are_answered() {
    let rules = || {
        let mut builder = usual();
        let pair = |inside, outside| Spec {
            interface: interface_id(1),
            inside: net(inside),
            outside: net(outside),
            zero_iid: ZeroIid::Drop,
        };
        builder
            .npt66(pair("fd00:1:2:3456::/64", "2001:db8:a:abcd::/64"))
            .expect("valid");
        builder
            .npt66(pair("fd00:9::/48", "2001:db8:9:ab00::/56"))
            .expect("valid");
        for routed_inside in ["fd00::/16", "fd01:203:405::/48"] {
            let hop = Hop {
                interface: interface_id(0),
                via: Some(address(HOST)),
                weight: 1,
            };
            builder.route(VrfId(0), net(routed_inside), Route::Hops(vec![hop]));
        }
        builder
    };
    let cases = [
        (
            INSIDE,
            "fd01:203:405:ffff::1",
            (1, 5, 0),
            DropReason::Npt66NoMapping,
        ),
        (
            UPLINK,
            "2001:db8:1:ffff::1",
            (1, 3, 0),
            DropReason::Npt66NoMapping,
        ),
        (
            INSIDE,
            "fd00:1:2:3456:ffff:ffff:ffff:ffff",
            (4, 0, 8),
            DropReason::Npt66NoWord,
        ),
        (
            UPLINK,
            "2001:db8:a:abcd:ffff:ffff:ffff:ffff",
            (4, 0, 24),
            DropReason::Npt66NoWord,
        ),
        (
            INSIDE,
            "fd00:1:2:3456::",
            (4, 0, 8),
            DropReason::Npt66ZeroIid,
        ),
        (
            INSIDE,
            "fd00:9:0:134::99",
            (1, 5, 0),
            DropReason::Npt66NoMapping,
        ),
    ];
    for (port, text, answer, reason) in cases {
        let mut bench = Bench::new(rules());
        let packet = if port == INSIDE {
            from_inside()
                .ipv6(address(text), address(PEER))
                .udp(5, 6, b"data")
        } else {
            from_router()
                .ipv6(address(PEER), address(text))
                .udp(5, 6, b"data")
        };
        let sent = bench.receive(port, &[packet.build()]);
        assert_eq!(bench.drops()[0], (reason, 1), "{text}");
        let [(out, frame)] = &sent[..] else {
            panic!("one answer to {text}, not {}", sent.len())
        };
        let (kind, code, word, quote) = error(ip(frame));
        assert_eq!((*out, (kind, code, word)), (port, answer), "{text}");
        assert_eq!(quote, packet.build_ipv6(), "{text}");
    }
}

/// N11: both translations; the peer sees the sender's outside address. RFC 6296 4.3.
#[test]
fn hairpin_translates_both_ways() {
    let mut builder = usual();
    builder.neighbor(interface_id(0), address("fd01:203:405:1::99"), mac(0x33));
    let mut bench = Bench::new(builder);
    let packet = from_inside()
        .ipv6(address(HOST), address("2001:db8:1:d550::99"))
        .udp(1, 2, b"hairpin");
    let sent = bench.receive(INSIDE, &[packet.build()]);
    let expected = Packet::ethernet(mac(1), mac(0x33))
        .ipv6(address(HOST_OUTSIDE), address("fd01:203:405:1::99"))
        .hop_limit(63)
        .udp(1, 2, b"hairpin")
        .build();
    assert_eq!(sent, [(INSIDE, expected)]);
    let rule = &bench.counters.rules[0];
    assert_eq!((rule.out.packets.read(), rule.r#in.packets.read()), (1, 1));

    // N12: the peer's error about it finds its way back with both quotes right.
    let quoted = Packet::anywhere()
        .ipv6(address(HOST_OUTSIDE), address("fd01:203:405:1::99"))
        .hop_limit(63)
        .udp(1, 2, b"hairpin")
        .build_ipv6();
    let error_in = Packet::ethernet(mac(0x33), mac(1))
        .ipv6(address("fd01:203:405:1::99"), address(HOST_OUTSIDE))
        .icmpv6_error(1, 4, 0, &quoted)
        .build();
    let sent = bench.receive(INSIDE, &[error_in]);
    let quoted = Packet::anywhere()
        .ipv6(address(HOST), address("2001:db8:1:d550::99"))
        .hop_limit(63)
        .udp(1, 2, b"hairpin")
        .build_ipv6();
    let expected = Packet::ethernet(mac(1), mac(0x11))
        .ipv6(address("2001:db8:1:d550::99"), address(HOST))
        .hop_limit(63)
        .icmpv6_error(1, 4, 0, &quoted)
        .build();
    assert_eq!(sent, [(INSIDE, expected)]);
}

/// N16: with the outside prefix on the link, our own address and the router in it are not translated.
#[test]
fn on_link_outside_prefix_spares_own_address_and_router() {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["fd00:5::1/64"]));
    let uplink = builder.interface(interface(UPLINK, &["2001:db8:5::2/64"]));
    builder.neighbor(inside, address("fd00:5::1234"), mac(0x11));
    builder.neighbor(uplink, address("2001:db8:5::1"), mac(0x22));
    let hop = Hop {
        interface: uplink,
        via: Some(address("2001:db8:5::1")),
        weight: 1,
    };
    builder.route(VrfId(0), net("::/0"), Route::Hops(vec![hop]));
    let spec = Spec {
        interface: uplink,
        inside: net("fd00:5::/64"),
        outside: net("2001:db8:5::/64"),
        zero_iid: ZeroIid::Drop,
    };
    builder.npt66(spec).expect("valid");
    let mut bench = Bench::new(builder);
    // A ping to our own address on the link is ours.
    let ping = from_router()
        .ipv6(address("2001:db8:5::1"), address("2001:db8:5::2"))
        .icmpv6_echo(1, 1, b"");
    assert_eq!(bench.receive(UPLINK, &[ping.build()]), []);
    assert_eq!(bench.punted()[0].reason, PuntReason::Echo);
    // The inside host reaches the router itself.
    let to_router = from_inside()
        .ipv6(address("fd00:5::1234"), address("2001:db8:5::1"))
        .udp(1, 2, b"");
    let sent = bench.receive(INSIDE, &[to_router.build()]);
    assert_eq!(sent[0].0, UPLINK);
    assert_eq!(
        destination(ip(&sent[0].1)),
        address("2001:db8:5::1").octets()
    );
    assert_eq!(
        source(ip(&sent[0].1))[..8],
        address("2001:db8:5::").octets()[..8]
    );
    // And another address of the prefix is an inside host.
    let outside = source(ip(&sent[0].1));
    let back = from_router()
        .ipv6(address("2001:db8:5::1"), outside.into())
        .udp(2, 1, b"");
    let sent = bench.receive(UPLINK, &[back.build()]);
    assert_eq!(
        (sent[0].0, destination(ip(&sent[0].1))),
        (INSIDE, address("fd00:5::1234").octets())
    );
}

#[test]
fn unresolved_next_hops_are_punted_and_go_on_when_resolved() {
    let mut bench = Bench::new(usual());
    let packet = from_inside()
        .ipv6(address(HOST), address("2001:db8:ffff::77"))
        .udp(1, 2, b"first")
        .build();
    assert_eq!(bench.receive(INSIDE, std::slice::from_ref(&packet)), []);
    let mut punted = bench.punted();
    let waiting = punted.pop().expect("one packet");
    assert_eq!(waiting.reason, PuntReason::NeighborMiss);
    let target = bench.tables.unresolved(&waiting.frame, &waiting.meta);
    assert_eq!(
        target,
        Some((interface_id(1), address("2001:db8:ffff::77")))
    );

    // Unanswered: RFC 4861 7.2.2, with the quote as sent.
    let unanswered = (waiting.frame.clone(), waiting.meta.unreachable());
    let sent = bench.resume(vec![unanswered]);
    let (kind, code, _, quote) = error(ip(&sent[0].1));
    assert_eq!((kind, code, quote), (1, 3, ip(&packet)));
    assert_eq!(bench.drops(), [(DropReason::NeighborUnresolved, 1)]);

    // Resolved: it goes on, translated, one hop less.
    let mut builder = usual();
    builder.neighbor(interface_id(1), address("2001:db8:ffff::77"), mac(0x77));
    bench.tables = builder.build();
    assert_eq!(bench.tables.unresolved(&waiting.frame, &waiting.meta), None);
    let sent = bench.resume(vec![(waiting.frame, waiting.meta)]);
    let expected = Packet::ethernet(mac(2), mac(0x77))
        .ipv6(address(HOST_OUTSIDE), address("2001:db8:ffff::77"))
        .hop_limit(63)
        .udp(1, 2, b"first")
        .build();
    assert_eq!(sent, [(UPLINK, expected)]);
}

#[test]
fn own_packets_are_routed_and_translated_with_their_hop_limit() {
    let mut bench = Bench::new(usual());
    let reply = Packet::anywhere()
        .ipv6(address(INSIDE_ADDRESS), address(PEER))
        .hop_limit(64)
        .icmpv6_echo_reply(1, 1, b"pong");
    let sent = bench.resume(vec![(
        HeapFrame::new(&reply.build()),
        Meta::originate(interface_id(0)),
    )]);
    assert_eq!(sent[0].0, UPLINK);
    assert_eq!(
        (ip(&sent[0].1)[7], &ip(&sent[0].1)[8..14]),
        (64, &address("2001:db8:1::").octets()[..6])
    );
}

/// VLAN: interfaces by tags, 802.1Q and QinQ; the priority a frame came with stays with it.
#[test]
fn tagged_interfaces_keep_tags_and_priority() {
    let mut builder = Builder::new();
    let mut lan = interface(INSIDE, &["fd01:203:405:1::1/64"]);
    lan.vlan = vec![100];
    let mut wan = interface(UPLINK, &["2001:db8:ffff::2/64"]);
    wan.vlan = vec![200, 300];
    let lan = builder.interface(lan);
    let wan = builder.interface(wan);
    builder.neighbor(lan, address(HOST), mac(0x11));
    builder.neighbor(wan, address(ROUTER), mac(0x22));
    let hop = Hop {
        interface: wan,
        via: Some(address(ROUTER)),
        weight: 1,
    };
    builder.route(VrfId(0), net("::/0"), Route::Hops(vec![hop]));
    let mut bench = Bench::new(builder);
    let out = from_inside()
        .vlan(100, 5)
        .ipv6(address(HOST), address(PEER))
        .udp(1, 2, b"t")
        .build();
    let sent = bench.receive(INSIDE, &[out]);
    let expected = Packet::ethernet(mac(2), mac(0x22))
        .tag(0x88a8, 200, 5)
        .tag(0x8100, 300, 0)
        .ipv6(address(HOST), address(PEER))
        .hop_limit(63)
        .udp(1, 2, b"t")
        .build();
    assert_eq!(sent, [(UPLINK, expected.clone())]);
    let back = Packet::ethernet(mac(0x22), mac(2))
        .tag(0x88a8, 200, 3)
        .tag(0x8100, 300, 0)
        .ipv6(address(PEER), address(HOST))
        .udp(2, 1, b"t")
        .build();
    let sent = bench.receive(UPLINK, &[back]);
    let expected = Packet::ethernet(mac(1), mac(0x11))
        .vlan(100, 3)
        .ipv6(address(PEER), address(HOST))
        .hop_limit(63)
        .udp(2, 1, b"t")
        .build();
    assert_eq!(sent, [(INSIDE, expected)]);
    // Another tag, or none, is nobody's.
    let foreign = from_inside()
        .vlan(101, 0)
        .ipv6(address(HOST), address(PEER))
        .udp(1, 2, b"")
        .build();
    let bare = from_inside()
        .ipv6(address(HOST), address(PEER))
        .udp(1, 2, b"")
        .build();
    assert_eq!(bench.receive(INSIDE, &[foreign, bare]), []);
    assert_eq!(bench.drops(), [(DropReason::UnknownVlan, 2)]);
}

/// An error to a link-local sender goes straight back, tags kept.
#[test]
fn link_local_sender_is_answered_on_its_link() {
    let mut bench = Bench::new(usual());
    let packet = from_inside()
        .ipv6(address("fe80::77"), address(PEER))
        .udp(1, 2, b"");
    let sent = bench.receive(INSIDE, &[packet.build()]);
    assert_eq!(sent[0].0, INSIDE);
    assert_eq!(
        sent[0].1[..12],
        [mac(0x11).octets(), mac(1).octets()].concat()
    );
    let (kind, code, _, quote) = error(ip(&sent[0].1));
    assert_eq!((kind, code, quote), (1, 2, &packet.build_ipv6()[..]));
    assert_eq!(source(ip(&sent[0].1)), address("fe80::1").octets());
    assert_eq!(bench.drops(), [(DropReason::LinkLocalScope, 1)]);
}

#[test]
fn bad_packets_are_dropped_under_their_own_reason() {
    let plain = || {
        from_inside()
            .ipv6(address(HOST), address(PEER))
            .udp(1, 2, b"data")
    };
    let between = |from: &str, to: &str| {
        from_inside()
            .ipv6(address(from), address(to))
            .udp(1, 2, b"")
            .build()
    };
    let mut cut = plain().build();
    cut.truncate(60);
    let cases = [
        (vec![0; 13], DropReason::Truncated),
        (plain().build()[..53].to_vec(), DropReason::Truncated),
        (cut, DropReason::Truncated),
        (plain().version(4).build(), DropReason::BadVersion),
        (
            plain().ether_type(0x0806).build(),
            DropReason::UnknownEtherType,
        ),
        (
            Packet::ethernet(mac(0x11), mac(9))
                .ipv6(address(HOST), address(PEER))
                .udp(1, 2, b"")
                .build(),
            DropReason::NotForUs,
        ),
        (
            Packet::ethernet(mac(0x11), dataplane::wire::ethernet::Mac::BROADCAST)
                .ipv6(address(HOST), address(PEER))
                .udp(1, 2, b"")
                .build(),
            DropReason::NotForUs,
        ),
        (between("ff02::1", PEER), DropReason::SourceMulticast),
        (between("::1", PEER), DropReason::SourceLoopback),
        (between("::", PEER), DropReason::SourceUnspecified),
        (between(HOST, "::"), DropReason::DestinationUnspecified),
        (between(HOST, "::1"), DropReason::DestinationLoopback),
        (between(HOST, "fe80::9"), DropReason::LinkLocalScope),
        (between(HOST, "ff0e::1"), DropReason::MulticastNotForwarded),
    ];
    for (frame, reason) in cases {
        let mut bench = Bench::new(usual());
        assert_eq!(bench.receive(INSIDE, &[frame]), []);
        assert_eq!(bench.drops(), [(reason, 1)]);
    }
}

#[test]
fn ethernet_padding_does_not_travel() {
    let mut bench = Bench::new(usual());
    let packet = from_inside()
        .ipv6(address(HOST), address(PEER))
        .udp(1, 2, b"")
        .trailer(&[0xee; 20])
        .build();
    let sent = bench.receive(INSIDE, &[packet]);
    assert_eq!(sent[0].1.len(), 14 + 48);
}

#[test]
fn routes_blackhole_unreachable_and_missing() {
    let mut builder = usual();
    builder.route(VrfId(0), net("2600:2::/32"), Route::Blackhole);
    builder.route(VrfId(0), net("2600:3::/32"), Route::Unreachable);
    let mut bench = Bench::new(builder);
    let to = |text: &str| {
        from_inside()
            .ipv6(address(HOST), address(text))
            .udp(1, 2, b"")
            .build()
    };
    assert_eq!(bench.receive(INSIDE, &[to("2600:2::1")]), []);
    let sent = bench.receive(INSIDE, &[to("2600:3::1")]);
    let (kind, code, ..) = error(ip(&sent[0].1));
    assert_eq!((kind, code), (1, 0));
    assert_eq!(
        bench.drops(),
        [(DropReason::NoRoute, 1), (DropReason::Blackhole, 1)]
    );
}

/// ECMP: one flow one way, many flows by weight; by flow label when there is one (RFC 7098).
#[test]
fn ecmp_shares_flows_by_weight_and_keeps_each_on_one_way() {
    let mut builder = usual();
    builder.neighbor(interface_id(1), address("2001:db8:ffff::7"), mac(0x77));
    let hop = |text: &str, weight| Hop {
        interface: interface_id(1),
        via: Some(address(text)),
        weight,
    };
    builder.route(
        VrfId(0),
        net("2600::/16"),
        Route::Hops(vec![hop(ROUTER, 1), hop("2001:db8:ffff::7", 3)]),
    );
    let mut bench = Bench::new(builder);
    let flow = |port: u16, label: u32| {
        from_inside()
            .ipv6(address(HOST), address(PEER))
            .flow_label(label)
            .udp(port, 2, b"")
            .build()
    };
    let way = |frame: &[u8]| frame[5];
    let by_port: Vec<u8> = bench
        .receive(INSIDE, &(0..4000).map(|n| flow(n, 0)).collect::<Vec<_>>())
        .iter()
        .map(|(_, f)| way(f))
        .collect();
    let heavy = by_port.iter().filter(|last| **last == 0x77).count();
    assert!(
        (2800..3200).contains(&heavy),
        "{heavy} of 4000, 3000 expected"
    );
    let again: Vec<u8> = bench
        .receive(INSIDE, &(0..4000).map(|n| flow(n, 0)).collect::<Vec<_>>())
        .iter()
        .map(|(_, f)| way(f))
        .collect();
    assert_eq!(by_port, again);
    // With a label, ports do not count.
    let labelled = bench.receive(INSIDE, &(0..100).map(|n| flow(n, 5)).collect::<Vec<_>>());
    assert!(
        labelled
            .iter()
            .all(|(_, frame)| way(frame) == way(&labelled[0].1))
    );
}

#[test]
fn a_down_interface_is_avoided_by_ecmp_and_answered_alone() {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["fd01:203:405:1::1/64"]));
    let mut down = interface(UPLINK, &["2001:db8:ffff::2/64"]);
    down.up = false;
    let down = builder.interface(down);
    let other = builder.interface(interface(2, &["2001:db8:eeee::2/64"]));
    builder.neighbor(inside, address(HOST), mac(0x11));
    builder.neighbor(down, address(ROUTER), mac(0x22));
    builder.neighbor(other, address("2001:db8:eeee::1"), mac(0x44));
    let via_down = Hop {
        interface: down,
        via: Some(address(ROUTER)),
        weight: 1,
    };
    let via_other = Hop {
        interface: other,
        via: Some(address("2001:db8:eeee::1")),
        weight: 1,
    };
    builder.route(
        VrfId(0),
        net("::/0"),
        Route::Hops(vec![via_down.clone(), via_other]),
    );
    builder.route(VrfId(0), net("2600:9::/32"), Route::Hops(vec![via_down]));
    let mut bench = Bench::new(builder);
    let flows: Vec<_> = (0..64)
        .map(|n| {
            from_inside()
                .ipv6(address(HOST), address(PEER))
                .udp(n, 2, b"")
                .build()
        })
        .collect();
    let sent = bench.receive(INSIDE, &flows);
    assert!(sent.len() == 64 && sent.iter().all(|(port, _)| *port == 2));
    let sent = bench.receive(
        INSIDE,
        &[from_inside()
            .ipv6(address(HOST), address("2600:9::1"))
            .udp(1, 2, b"")
            .build()],
    );
    assert_eq!((sent[0].0, error(ip(&sent[0].1)).0), (INSIDE, 1));
    assert_eq!(bench.drops(), [(DropReason::InterfaceDown, 1)]);
}

/// What is addressed to us.
#[test]
fn local_packets_are_punted_or_refused() {
    let to_us = || from_inside().ipv6(address(HOST), address(INSIDE_ADDRESS));
    let mut bench = Bench::new(usual());
    assert_eq!(
        bench.receive(INSIDE, &[to_us().icmpv6_echo(1, 1, b"ping").build()]),
        []
    );
    assert_eq!(bench.punted()[0].reason, PuntReason::Echo);
    let sent = bench.receive(INSIDE, &[to_us().udp(1, 33434, b"").build()]);
    assert_eq!(error(ip(&sent[0].1)).0, 1);
    assert_eq!(error(ip(&sent[0].1)).1, 4);
    let sent = bench.receive(INSIDE, &[to_us().raw(254, b"x").build()]);
    let (kind, code, pointer, _) = error(ip(&sent[0].1));
    assert_eq!((kind, code, pointer), (4, 1, 6));
    assert_eq!(
        bench.receive(
            INSIDE,
            &[to_us().icmpv6_echo(1, 1, b"").wrong_checksum().build()]
        ),
        []
    );
    assert_eq!(
        bench.drops(),
        [
            (DropReason::Icmpv6Checksum, 1),
            (DropReason::LocalProtocol, 2)
        ]
    );
}

/// Interfaces of two VRFs with overlapping addresses do not see each other.
#[test]
fn vrfs_are_separate() {
    let mut builder = usual();
    let mut tenant = interface(2, &["fd01:203:405:1::1/64"]);
    tenant.vrf = VrfId(1);
    let tenant = builder.interface(tenant);
    builder.neighbor(tenant, address(HOST), mac(0x55));
    let mut bench = Bench::new(builder);
    let packet = Packet::ethernet(mac(0x55), mac(3))
        .ipv6(address("fd01:203:405:1::5"), address(HOST))
        .udp(1, 2, b"");
    let sent = bench.receive(2, &[packet.build()]);
    assert_eq!((sent[0].0, sent[0].1[5]), (2, 0x55));
    let abroad = Packet::ethernet(mac(0x55), mac(3))
        .ipv6(address(HOST), address(PEER))
        .udp(1, 2, b"")
        .build();
    let sent = bench.receive(2, &[abroad]);
    assert_eq!(error(ip(&sent[0].1)).0, 1, "no default route in VRF 1");
}

#[test]
fn every_node_has_a_name() {
    let mut bench = Bench::new(usual());
    bench.receive(
        INSIDE,
        &[from_inside()
            .ipv6(address(HOST), address(PEER))
            .udp(1, 2, b"x")
            .build()],
    );
    let named: Vec<_> = NODE_NAMES
        .iter()
        .zip(&bench.counters.nodes)
        .map(|(name, node)| (*name, node.frames.read()))
        .collect();
    assert_eq!(
        named,
        [
            ("ingress", 1),
            ("npt66-in", 0),
            ("ip6-lookup", 1),
            ("npt66-out", 1),
            ("egress", 1),
            ("local", 0),
            ("hairpin", 0)
        ]
    );
    assert!(HeapFrame::new(b"x").is_contiguous());
}
