//! Translation in the graph: both ways, hairpin, refusals and their answers.

use crate::bench::*;
use crate::{destination, error, ip, source};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::HeapFrame;
use dataplane::testing::builder::Packet;
use pipelines::Meta;
use pipelines::npt66::{Spec, ZeroIid};
use pipelines::tables::{Builder, Hop, IcmpLimits, Route, VrfId};

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
                via: Some(ip_address(HOST)),
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
    builder.neighbor(interface_id(0), ip_address("fd01:203:405:1::99"), mac(0x33));
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
    builder.neighbor(inside, ip_address("fd00:5::1234"), mac(0x11));
    builder.neighbor(uplink, ip_address("2001:db8:5::1"), mac(0x22));
    let hop = Hop {
        interface: uplink,
        via: Some(ip_address("2001:db8:5::1")),
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

/// Packets of one batch do not influence each other: alone, each leaves as it does in company, and counts the same.
#[test]
fn a_batch_means_what_its_packets_mean_one_by_one() {
    let rules = || {
        let mut builder = usual();
        builder
            .npt66(Spec {
                interface: interface_id(1),
                inside: net("fd00:1:2:3456::/64"),
                outside: net("2001:db8:a:abcd::/64"),
                zero_iid: ZeroIid::Drop,
            })
            .expect("valid");
        // Every refusal is answered, however many come at once.
        let (per_second, burst) = (1_000_000, 1_000_000);
        builder.icmp(IcmpLimits { per_second, burst });
        builder
    };
    let sources = [
        HOST,
        "fd01:203:405:2::9",
        "fd01:203:405:ffff::1",
        "fd00:1:2:3456::77",
        "fd00:1:2:3456::",
        "fd99::1",
        HOST,
    ];
    let destinations = [
        HOST_OUTSIDE,
        "2001:db8:1:d551::9",
        "2001:db8:a:abcd:1::1",
        UPLINK_ADDRESS,
        "2001:db8:77::1",
    ];
    let upper = |packet: Packet, kind: usize| match kind {
        0 => packet.udp(1, 2, b"x").build(),
        1 => packet.tcp(1, 2, b"y").build(),
        2 => packet.hop_limit(1).udp(1, 2, b"z").build(),
        _ => packet.icmpv6(&[128, 0, 0, 0, 0, 1, 0, 2]).build(),
    };
    let mut frames = [Vec::new(), Vec::new()];
    let mut state = 7_usize;
    for _ in 0..600 {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1442);
        // The upper bits: the lower ones of such a generator repeat soon.
        let (source, destination, kind) = (state >> 40, state >> 30 & 0xff, state >> 54 & 3);
        let out = from_inside().ipv6(address(sources[source % sources.len()]), address(PEER));
        frames[INSIDE].push(upper(out, kind));
        let destination = destinations[destination % destinations.len()];
        let back = from_router().ipv6(address(PEER), address(destination));
        frames[UPLINK].push(upper(back, kind));
    }
    let [together, alone] = [64, 1].map(|size| {
        let mut bench = Bench::new(rules());
        let mut sent: Vec<_> = [INSIDE, UPLINK]
            .into_iter()
            .flat_map(|side| {
                let chunks = frames[side].chunks(size);
                chunks
                    .flat_map(|chunk| bench.receive(side, chunk))
                    .collect::<Vec<_>>()
            })
            .collect();
        // Answers leave after the packets of their batch.
        sent.sort();
        let counted: Vec<_> = (0..2)
            .map(|rule| {
                let rule = &bench.counters.rules[rule];
                [&rule.out, &rule.r#in].map(|way| (way.packets.read(), way.bytes.read()))
            })
            .collect();
        assert!(counted.iter().flatten().all(|(packets, _)| *packets > 20));
        (sent, counted, bench.drops(), bench.punted().len())
    });
    assert!(together == alone);
}
