//! ICMPv6: what is answered, with which quote, and what is not; packets addressed to us.

use crate::bench::*;
use crate::{error, ip, source};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::Packet;
use dataplane::wire::ipv6::proto;
use pipelines::tables::{Builder, Hop, IcmpLimits, Route, VrfId};

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
    builder.neighbor(inside, ip_address(HOST), mac(0x11));
    builder.neighbor(uplink, ip_address(ROUTER), mac(0x22));
    let hop = Hop {
        interface: uplink,
        via: Some(ip_address(ROUTER)),
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
