//! What an ETR accepts.

use dataplane::reason::DropReason;
use dataplane::testing::builder::{Packet, Packet4};
use pipelines::lisp::{Dscp, Roles, Settings};

use super::encap::{error4, error6};
use super::site::*;
use crate::bench::{address, interface, ip_address, ip_net, mac};

/// Packets from the far host to ours.
fn six_back() -> Packet {
    between6(FAR6, HOST6).udp(2000, 1000, b"inner")
}

fn four_back() -> Packet4 {
    between4(FAR4, HOST4).udp(2000, 1000, b"inner")
}

/// The frames our host gets of them, with this hop limit and traffic class.
fn at_host(hop_limit: u8, class: u8) -> [Vec<u8>; 2] {
    let link = || (mac(1), mac(0x11));
    let six = Packet::ethernet(link().0, link().1).ipv6(address(FAR6), address(HOST6));
    let four = Packet4::ethernet(link().0, link().1).ipv4(
        FAR4.parse().expect("an address"),
        HOST4.parse().expect("an address"),
    );
    [
        six.hop_limit(hop_limit)
            .traffic_class(class)
            .udp(2000, 1000, b"inner")
            .build(),
        four.ttl(hop_limit)
            .traffic_class(class)
            .udp(2000, 1000, b"inner")
            .build(),
    ]
}

/// D-01, D-15: all four combinations; the smaller hop limit counts, less one.
#[test]
fn d01_either_family_in_either_family_is_opened() {
    for rloc in [RLOC6, RLOC4] {
        let mut site = Site::to_one(rloc);
        for (outer, inside, left) in [(60, 64, 59), (64, 60, 59), (2, 64, 1), (255, 2, 1)] {
            let outer = Outer {
                hop_limit: outer,
                ..Outer::from(rloc)
            };
            let [six, four] = at_host(left, 0);
            let packet = six_back().hop_limit(inside).build_ipv6();
            assert_eq!(site.pass(UNDERLAY, outer.frame(&packet)), (SITE, six));
            let packet = four_back().ttl(inside).build_ipv4();
            assert_eq!(site.pass(UNDERLAY, outer.frame(&packet)), (SITE, four));
        }
        let opened = &site.counters().lisp_decap;
        assert_eq!((opened.packets.read(), site.drops()), (8, vec![]));
    }
}

/// D-01, D-18: what one box encapsulates another one opens: the same packet, one hop less for each.
#[test]
fn d01_there_and_back_is_the_packet_with_a_hop_less_for_each_box() {
    let mut far_shape = Shape::usual();
    far_shape.interfaces[0] = interface(SITE, &["2001:db8:f:1::1/64", "10.2.0.1/24"]);
    far_shape.interfaces[0].vrf = EIDS;
    far_shape.interfaces[1] = interface(UNDERLAY, &["2001:db8:cafe::1/64", "203.0.113.1/24"]);
    far_shape.neighbors = vec![(0, FAR6, 0x44), (0, FAR4, 0x44)];
    far_shape.routes.clear();
    let mut far_settings = settings();
    far_settings.own_rlocs = vec![ip_address(RLOC6), ip_address(RLOC4)];
    far_settings.instances[0].eids = vec![ip_net(FAR_NET6), ip_net(FAR_NET4)];
    for checksum in [false, true] {
        for rloc in [RLOC6, RLOC4] {
            let mut near = Site::new(
                &Shape::usual(),
                Settings {
                    udp_checksum: checksum,
                    ..settings()
                },
            );
            near.map_far(&Shape::usual(), &[(rloc, 1, 1)]);
            let mut far = Site::new(&far_shape, far_settings.clone());
            for len in [0, 1, 2, 700, 1380] {
                let six = six().udp(1, 2, &vec![9; len]);
                let four = four().udp(1, 2, &vec![9; len]);
                let arrived = [
                    (six.build(), six.hop_limit(62).build_ipv6()),
                    (four.build(), four.ttl(62).build_ipv4()),
                ];
                for (frame, expected) in arrived {
                    let (_, mut between) = near.pass(SITE, frame);
                    between[..6].copy_from_slice(&mac(2).octets());
                    let (port, sent) = far.pass(UNDERLAY, between);
                    assert_eq!((port, &sent[14..]), (SITE, &expected[..]));
                    assert_eq!(sent[..6], mac(0x44).octets());
                }
            }
        }
    }
}

/// D-14: the sixteen cells of RFC 6040 4.2, either family in either.
#[test]
fn d14_congestion_is_combined_by_the_table() {
    const TABLE: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    for rloc in [RLOC6, RLOC4] {
        let mut site = Site::to_one(rloc);
        for inside in 0..4_u8 {
            for outside in 0..4_u8 {
                // ECN 1 is ECT(1), 2 is ECT(0).
                let expected = TABLE[usize::from(inside)][usize::from(outside)];
                let outer = Outer {
                    class: 0xb8 | outside,
                    ..Outer::from(rloc)
                };
                let frames = [
                    outer.frame(&six_back().traffic_class(0x20 | inside).build_ipv6()),
                    outer.frame(&four_back().traffic_class(0x20 | inside).build_ipv4()),
                ];
                let sent = site.receive(UNDERLAY, &frames);
                match expected {
                    // D-16: the outer code point, in the uniform model.
                    Some(ecn) => {
                        let expected = at_host(63, 0xb8 | ecn).map(|frame| (SITE, frame));
                        assert_eq!(sent, expected, "{inside} in {outside}");
                    }
                    None => assert_eq!(sent, []),
                }
            }
        }
        assert_eq!(site.drops(), [(DropReason::LispEcn, 2)]);
    }
}

/// D-16: in the pipe model the inner code point stays.
#[test]
fn d16_the_pipe_model_keeps_the_inner_code_point() {
    let mut site = Site::new(
        &Shape::usual(),
        Settings {
            dscp: Dscp::Pipe,
            ..settings()
        },
    );
    for rloc in [RLOC6, RLOC4] {
        let outer = Outer {
            class: 0x03,
            ..Outer::from(rloc)
        };
        let frames = [
            outer.frame(&six_back().traffic_class(0xb9).build_ipv6()),
            outer.frame(&four_back().traffic_class(0xb9).build_ipv4()),
        ];
        let sent = site.receive(UNDERLAY, &frames);
        assert_eq!(sent, at_host(63, 0xbb).map(|frame| (SITE, frame)));
    }
}

/// D-10, D-11: no checksum, or a right one; a wrong one is dropped in silence. Other ports are not ours to open.
#[test]
fn d10_a_checksum_is_absent_or_right() {
    for rloc in [RLOC6, RLOC4] {
        let mut site = Site::to_one(rloc);
        let outer = Outer {
            has_checksum: true,
            ..Outer::from(rloc)
        };
        for packet in [six_back().build_ipv6(), four_back().build_ipv4()] {
            site.pass(UNDERLAY, Outer::from(rloc).frame(&packet));
            let mut frame = outer.frame(&packet);
            site.pass(UNDERLAY, frame.clone());
            let last = frame.len() - 1;
            frame[last] ^= 1;
            assert_eq!(site.receive(UNDERLAY, &[frame]), []);
        }
        assert_eq!(site.drops(), [(DropReason::LispUdpChecksum, 2)]);
        let mut frame = Outer::from(rloc).frame(&six_back().build_ipv6());
        let port = if rloc == RLOC6 { 57 } else { 37 };
        frame[port] = 0xf7; // 4343
        let (_, answer) = site.pass(UNDERLAY, frame);
        if rloc == RLOC6 {
            assert_eq!(error6(&answer).0, 1);
        } else {
            assert_eq!(error4(&answer).0, 3);
        }
    }
}

/// D-03, D-04, D-05, D-06: what has no meaning is ignored: N with V, E alone, R, a nonce without N, status bits.
#[test]
fn d05_flags_without_meaning_are_ignored() {
    let mut site = Site::to_one(RLOC6);
    for lisp in [
        [0x08, 1, 2, 3, 0, 0, 7, 9],
        [0x98, 1, 2, 3, 0, 0, 7, 0],
        [0x28, 0, 0, 0, 0, 0, 7, 0],
        [0x0c, 0, 0, 0, 0, 0, 7, 0x55],
        [0xf8, 9, 9, 9, 0, 0, 7, 0xff],
    ] {
        let frame = Outer {
            lisp,
            ..Outer::from(RLOC6)
        }
        .frame(&six_back().build_ipv6());
        assert_eq!(site.pass(UNDERLAY, frame).1, at_host(63, 0)[0]);
    }
}

/// D-07, D-24: a key or an instance we do not have.
#[test]
fn d24_an_unknown_instance_is_dropped() {
    let mut site = Site::to_one(RLOC6);
    for (lisp, reason) in [
        ([0x08, 0, 0, 0, 0, 0, 8, 0], DropReason::LispUnknownInstance),
        ([0x00, 0, 0, 0, 0, 0, 7, 0], DropReason::LispUnknownInstance),
        ([0x09, 0, 0, 0, 0, 0, 7, 0], DropReason::LispEncrypted),
        ([0x0a, 0, 0, 0, 0, 0, 7, 0], DropReason::LispEncrypted),
    ] {
        let before: u64 = site.counters().dropped(reason);
        let frame = Outer {
            lisp,
            ..Outer::from(RLOC6)
        }
        .frame(&six_back().build_ipv6());
        assert_eq!(site.receive(UNDERLAY, &[frame]), []);
        assert_eq!(site.counters().dropped(reason), before + 1);
    }
}

/// K-01, K-02: with RFC 9305 what is announced must follow; without it the bit is one of those to ignore.
#[test]
fn k02_the_next_protocol_must_be_what_follows() {
    let mut settings = Settings {
        gpe: true,
        ..settings()
    };
    settings.instances[0].id = 0;
    let mut site = Site::new(&Shape::usual(), settings);
    let with = |last: u8, inside: &[u8]| {
        let lisp = [4, 0, 0, 0, 0, 0, 0, last];
        Outer {
            lisp,
            ..Outer::from(RLOC4)
        }
        .frame(inside)
    };
    let (six, four) = (six_back().build_ipv6(), four_back().build_ipv4());
    let good = [with(2, &six), with(1, &four)];
    assert_eq!(
        site.receive(UNDERLAY, &good),
        at_host(63, 0).map(|frame| (SITE, frame))
    );
    // Another family, Ethernet, a shim.
    let bad = [
        with(1, &six),
        with(2, &four),
        with(3, &six),
        with(0x80, &six),
    ];
    assert_eq!(site.receive(UNDERLAY, &bad), []);
    assert_eq!(site.drops(), [(DropReason::LispNextProtocol, 4)]);
    let plain = Outer {
        lisp: [0; 8],
        ..Outer::from(RLOC4)
    }
    .frame(&six);
    assert_eq!(
        site.pass(UNDERLAY, plain).1,
        at_host(63, 0)[0],
        "P = 0 is plain LISP"
    );
}

/// D-26: for own EIDs only; a proxy passes on what goes elsewhere.
#[test]
fn d26_what_goes_to_no_own_eid_is_dropped_except_by_a_proxy() {
    let to_stranger = [
        Outer::from(RLOC6).frame(&between6(FAR6, "2600::1").udp(1, 2, b"x").build_ipv6()),
        Outer::from(RLOC6).frame(&between4(FAR4, "10.9.0.1").udp(1, 2, b"x").build_ipv4()),
    ];
    let mut site = Site::to_one(RLOC6);
    assert_eq!(site.receive(UNDERLAY, &to_stranger), []);
    assert_eq!(site.drops(), [(DropReason::LispNotOurEid, 2)]);

    let mut shape = Shape::usual();
    shape.routes.push((EIDS, "2600::/16", vec![(0, HOST6)]));
    shape.routes.push((EIDS, "10.9.0.0/16", vec![(0, HOST4)]));
    let roles = Roles {
        petr: true,
        ..Roles::default()
    };
    let mut proxy = Site::new(
        &shape,
        Settings {
            roles,
            ..settings()
        },
    );
    let sent = proxy.receive(UNDERLAY, &to_stranger);
    assert_eq!(
        sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
        [SITE, SITE]
    );
}

/// D-27, X-02: the outer source must be a locator of the inner source, where that is asked for.
#[test]
fn d27_the_source_must_come_from_its_locator() {
    let settings = Settings {
        check_source_rloc: true,
        ..settings()
    };
    let mut site = Site::new(&Shape::usual(), settings);
    let (six, four) = (six_back().build_ipv6(), four_back().build_ipv4());
    for mapped in [RLOC6, RLOC4] {
        site.map_far(
            &Shape::usual(),
            &[("2001:db8:cafe::2", 2, 1), (mapped, 1, 1)],
        );
        // Any locator of the set, whether or not we would choose it.
        for from in [mapped, "2001:db8:cafe::2"] {
            let frames = [&six, &four].map(|packet| Outer::from(from).frame(packet));
            assert_eq!(site.receive(UNDERLAY, &frames).len(), 2, "from {from}");
        }
        let other = if mapped == RLOC6 { RLOC4 } else { RLOC6 };
        let frames = [&six, &four].map(|packet| Outer::from(other).frame(packet));
        assert_eq!(site.receive(UNDERLAY, &frames), []);
    }
    // No mapping, or a negative one: nobody's.
    let stranger = between6("2001:db8:bad::1", HOST6)
        .udp(1, 2, b"x")
        .build_ipv6();
    assert_eq!(
        site.receive(UNDERLAY, &[Outer::from(RLOC6).frame(&stranger)]),
        []
    );
    assert_eq!(site.drops(), [(DropReason::LispSourceRloc, 5)]);
}

/// D-28: each check of the inner packet has its reason.
#[test]
fn d28_an_inner_packet_must_be_sane() {
    let mut site = Site::to_one(RLOC6);
    let six = |source: &str, destination: &str| {
        between6(source, destination).udp(1, 2, b"x").build_ipv6()
    };
    let damaged = |at: usize, value: u8| {
        let mut packet = six_back().build_ipv6();
        packet[at] = value;
        packet
    };
    let cases = [
        (damaged(0, 0x50), DropReason::LispInnerVersion),
        (damaged(4, 9), DropReason::LispInnerLength),
        (damaged(7, 0), DropReason::LispInnerHopLimit),
        (six("fe80::1", HOST6), DropReason::LispInnerSource),
        (six("::", HOST6), DropReason::LispInnerSource),
        (six("::ffff:10.0.0.1", HOST6), DropReason::LispInnerSource),
        (six("ff02::1", HOST6), DropReason::LispInnerSource),
        (six(FAR6, "ff02::1"), DropReason::LispInnerDestination),
        (six(FAR6, "fe80::1"), DropReason::LispInnerDestination),
        (
            four_back().wrong_header_checksum().build_ipv4(),
            DropReason::LispInnerChecksum,
        ),
        (
            between4("127.0.0.1", HOST4).udp(1, 2, b"x").build_ipv4(),
            DropReason::LispInnerSource,
        ),
        (
            between4(FAR4, "224.0.0.1").udp(1, 2, b"x").build_ipv4(),
            DropReason::LispInnerDestination,
        ),
        (
            four_back().ttl(0).build_ipv4(),
            DropReason::LispInnerHopLimit,
        ),
        (vec![], DropReason::LispInnerVersion),
    ];
    for (packet, reason) in cases {
        let before = site.counters().dropped(reason);
        assert_eq!(
            site.receive(UNDERLAY, &[Outer::from(RLOC6).frame(&packet)]),
            []
        );
        assert_eq!(site.counters().dropped(reason), before + 1, "{reason:?}");
    }
    // D-12: a UDP length that does not fit.
    for (at, value) in [(58, 0xff), (59, 15)] {
        let mut frame = Outer::from(RLOC6).frame(&six_back().build_ipv6());
        frame[at] = value;
        assert_eq!(site.receive(UNDERLAY, &[frame]), []);
    }
    assert_eq!(site.counters().dropped(DropReason::LispLength), 2);
}

/// D-29: pieces of outer packets are not put together; they have a reason of their own.
#[test]
fn d29_outer_fragments_are_dropped() {
    let mut site = Site::to_one(RLOC4);
    let inside = six_back().build_ipv6();
    let datagram = [&[0; 8], &inside[..]].concat();
    let from = Packet4::ethernet(mac(0x22), mac(2)).ipv4(
        RLOC4.parse().expect("an address"),
        OWN4.parse().expect("an address"),
    );
    let from6 = Packet::ethernet(mac(0x22), mac(2)).ipv6(address(RLOC6), address(OWN6));
    let frames = [
        from.clone()
            .fragment(0, true)
            .udp(50_000, 4341, &datagram)
            .build(),
        from.clone().fragment(64, false).raw(17, &[1; 40]).build(),
        from6
            .clone()
            .fragment(0, true, 1)
            .udp(50_000, 4341, &datagram)
            .build(),
        from6.fragment(64, false, 1).raw(17, &[1; 40]).build(),
    ];
    assert_eq!(site.receive(UNDERLAY, &frames), []);
    assert_eq!(site.drops(), [(DropReason::LispFragment, 4)]);
    // Those of other protocols are dropped as ever.
    assert_eq!(
        site.receive(
            UNDERLAY,
            &[from.fragment(64, false).raw(6, &[1; 40]).build()]
        ),
        []
    );
    assert_eq!(site.counters().dropped(DropReason::LocalProtocol), 1);
}

/// Padding behind the outer packet, and inside the datagram behind the inner one, does not travel on.
#[test]
fn padding_is_cut_off() {
    for rloc in [RLOC6, RLOC4] {
        let mut site = Site::to_one(rloc);
        let [six, four] = at_host(63, 0);
        for padding in 1..9 {
            let pad = vec![0; padding];
            let mut frame = Outer::from(rloc).frame(&six_back().build_ipv6());
            frame.extend(&pad);
            assert_eq!(site.pass(UNDERLAY, frame).1, six);
            let padded = [&four_back().build_ipv4()[..], &pad].concat();
            assert_eq!(
                site.pass(UNDERLAY, Outer::from(rloc).frame(&padded)).1,
                four
            );
        }
    }
}

/// D-23: a link-local address is no RLOC, and an RLOC is one of the underlay.
#[test]
fn d23_only_an_rloc_is_opened_for_an_rloc() {
    let mut site = Site::to_one(RLOC6);
    let inside = six_back().build_ipv6();
    let frame = Outer::between("fe80::99", OWN6, FROM_ROUTER).frame(&inside);
    assert_eq!(site.receive(UNDERLAY, &[frame]), []);
    // Another own address, one of options, and the RLOC by way of the site's VRF.
    let frame = Outer::between(RLOC6, "2001:db8:b::1", FROM_ROUTER).frame(&inside);
    assert_eq!(site.receive(UNDERLAY, &[frame]), []);
    let datagram = [&[0; 8], &inside[..]].concat();
    let with_options = Packet::ethernet(mac(0x22), mac(2))
        .ipv6(address(RLOC6), address(OWN6))
        .hop_by_hop()
        .udp(50_000, 4341, &datagram);
    assert_eq!(site.receive(UNDERLAY, &[with_options.build()]), []);
    assert_eq!(site.drops(), [(DropReason::LispOuterOptions, 3)]);
    let frame = Outer::between(HOST6, OWN6, (0x11, 1)).frame(&inside);
    assert_eq!(error6(&site.pass(SITE, frame).1).0, 1);
    assert_eq!(site.counters().lisp_decap.packets.read(), 0);
}

/// An inner packet with no hop left is answered through the tunnel it came by.
#[test]
fn an_error_about_what_was_opened_goes_back_encapsulated() {
    let mut site = Site::to_one(RLOC6);
    let packet = six_back().hop_limit(1).build_ipv6();
    let (port, sent) = site.pass(UNDERLAY, Outer::from(RLOC6).frame(&packet));
    assert_eq!((port, rloc(&sent)), (UNDERLAY, ip_address(RLOC6)));
    let answer = inner(&sent);
    let (kind, _, _, quote) = crate::error(answer);
    assert_eq!((kind, quote), (3, &packet[..]));
    assert_eq!(crate::destination(answer), address(FAR6).octets());
    assert_eq!(crate::source(answer), address("2001:db8:e:1::1").octets());
}

/// A burst of everything keeps its accounts, and each its own way.
#[test]
fn a_mixed_burst_is_told_apart() {
    let mut site = Site::to_one(RLOC4);
    let burst: Vec<_> = (0..64_u16)
        .map(|n| match n % 5 {
            0 => Outer::from(RLOC4).frame(&six_back().build_ipv6()),
            1 => Outer::from(RLOC6).frame(&four_back().build_ipv4()),
            2 => Outer {
                lisp: [0; 8],
                ..Outer::from(RLOC6)
            }
            .frame(&six_back().build_ipv6()),
            3 => Packet::ethernet(mac(0x22), mac(2))
                .ipv6(address(RLOC6), address("2001:db8:b::ff"))
                .udp(n, 2, b"x")
                .build(),
            _ => Outer {
                hop_limit: 1,
                ..Outer::from(RLOC4)
            }
            .frame(&four_back().build_ipv4()),
        })
        .collect();
    let sent = site.receive(UNDERLAY, &burst);
    let by_port = |port: usize| sent.iter().filter(|(at, _)| *at == port).count();
    assert_eq!([SITE, UNDERLAY, SECOND].map(by_port), [26, 12, 13]);
    assert_eq!(
        site.drops(),
        [
            (DropReason::HopLimit, 12),
            (DropReason::LispUnknownInstance, 13)
        ]
    );
}
