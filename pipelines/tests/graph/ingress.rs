//! What comes in: order, tags, padding, and what must not pass.

use crate::bench::*;
use crate::ip;
use dataplane::reason::DropReason;
use dataplane::testing::builder::Packet;
use pipelines::NODE_NAMES;
use pipelines::tables::{Builder, Hop, Route, VrfId};

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
                .ether_type(0x88cc)
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
    builder.neighbor(lan, ip_address(HOST), mac(0x11));
    builder.neighbor(wan, ip_address(ROUTER), mac(0x22));
    let hop = Hop {
        interface: wan,
        via: Some(ip_address(ROUTER)),
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
            plain().ether_type(0x88cc).build(),
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
        (between(HOST, "::ffff:192.0.2.1"), DropReason::Ipv4Mapped),
        (between("::ffff:192.0.2.1", PEER), DropReason::Ipv4Mapped),
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
            ("lookup", 1),
            ("npt66-out", 1),
            ("egress", 1),
            ("local", 0),
            ("hairpin", 0),
            ("lisp-decap", 0),
            ("lisp-encap", 0),
            ("steer", 0)
        ]
    );
}
