//! What an ITR sends.

use dataplane::reason::DropReason;
use dataplane::wire::icmpv4;
use pipelines::lisp::{Dscp, InstanceSpec, Settings};
use pipelines::tables::VrfId;

use super::site::*;
use crate::bench::{UPLINK, interface, ip_net, mac};

/// An ICMP error about IPv4: type, code, the 32 bits after the checksum, the quote.
pub fn error4(frame: &[u8]) -> (u8, u8, u32, Vec<u8>) {
    let packet = &frame[14..];
    assert_eq!((packet[0], packet[9]), (0x45, 1));
    assert!(icmpv4::is_valid(&packet[20..]));
    let word = u32::from_be_bytes(packet[24..28].try_into().expect("4 bytes"));
    (packet[20], packet[21], word, packet[28..].to_vec())
}

/// An ICMPv6 error.
pub fn error6(frame: &[u8]) -> (u8, u8, u32, Vec<u8>) {
    let (kind, code, word, quote) = crate::error(&frame[14..]);
    (kind, code, word, quote.to_vec())
}

/// Both inner packets as they come, and as they are inside the outer one.
fn inner_packets() -> [(Vec<u8>, Vec<u8>); 2] {
    let six = six().traffic_class(0xb9).udp(1000, 2000, b"inner");
    let four = four().traffic_class(0xb9).udp(1000, 2000, b"inner");
    [
        (six.build(), six.hop_limit(63).build_ipv6()),
        (four.build(), four.ttl(63).build_ipv4()),
    ]
}

/// D-01, D-02, D-12, D-13, D-14, D-18, F-05: all four combinations, byte for byte.
#[test]
fn d01_either_family_in_either_family_is_sent_as_written() {
    for rloc in [RLOC6, RLOC4] {
        let mut site = Site::to_one(rloc);
        for (frame, inside) in inner_packets() {
            let (port, sent) = site.pass(SITE, frame);
            assert_eq!(port, UNDERLAY);
            let outer = Outer::to(rloc).with_entropy_of(&sent);
            let expected = Outer {
                hop_limit: 63,
                class: 0xb9,
                ..outer
            };
            assert_eq!(sent, expected.frame(&inside));
            let (port, label) = entropy(&sent);
            assert!(port >= 49152, "D-22");
            assert_eq!(label != 0, rloc == RLOC6, "D-21");
        }
        let sent = &site.counters().lisp_encap;
        assert_eq!((sent.packets.read(), site.drops()), (2, vec![]));
    }
}

/// D-10, D-11: a checksum where it is asked for, and a right one.
#[test]
fn d10_the_outer_checksum_is_none_or_right() {
    for rloc in [RLOC6, RLOC4] {
        let settings = Settings {
            udp_checksum: true,
            ..settings()
        };
        let mut site = Site::new(&Shape::usual(), settings);
        site.map_far(&Shape::usual(), &[(rloc, 1, 1)]);
        for (frame, inside) in inner_packets() {
            let (_, sent) = site.pass(SITE, frame);
            let outer = Outer::to(rloc).with_entropy_of(&sent);
            let expected = Outer {
                hop_limit: 63,
                class: 0xb9,
                has_checksum: true,
                ..outer
            };
            assert_eq!(sent, expected.frame(&inside));
            let datagram = &sent[if rloc == RLOC6 { 54 } else { 34 }..];
            assert_eq!(expected.udp_sum(datagram), 0xffff);
        }
    }
}

/// D-13, D-14: in the pipe model the code point stays inside, and congestion notification does not.
#[test]
fn d13_the_pipe_model_hides_the_code_point() {
    for rloc in [RLOC6, RLOC4] {
        let settings = Settings {
            dscp: Dscp::Pipe,
            ..settings()
        };
        let mut site = Site::new(&Shape::usual(), settings);
        site.map_far(&Shape::usual(), &[(rloc, 1, 1)]);
        for (frame, inside) in inner_packets() {
            let (_, sent) = site.pass(SITE, frame);
            let outer = Outer::to(rloc).with_entropy_of(&sent);
            let expected = Outer {
                hop_limit: 63,
                class: 0x01,
                ..outer
            };
            assert_eq!(sent, expected.frame(&inside));
        }
    }
}

/// D-04, D-05, D-06, D-09: without an instance the LISP header is zero.
#[test]
fn d09_a_public_header_is_zero() {
    let mut settings = settings();
    settings.instances[0].id = 0;
    let mut site = Site::new(&Shape::usual(), settings);
    site.map_far(&Shape::usual(), &[(RLOC6, 1, 1)]);
    let (_, sent) = site.pass(SITE, six().udp(1, 2, b"x").build());
    assert_eq!(sent[62..70], [0; 8]);
}

/// D-03, D-06, D-08: a closed network's header: nonce by locator, status bits beside the instance.
#[test]
fn d08_nonces_differ_between_locators() {
    let settings = Settings {
        nonce: true,
        status_bits: true,
        ..settings()
    };
    let mut site = Site::new(&Shape::usual(), settings);
    site.map_far(&Shape::usual(), &[(RLOC6, 1, 1)]);
    let mut header_to = |rloc: &str| -> [u8; 8] {
        site.map_far(&Shape::usual(), &[(rloc, 1, 1)]);
        let (_, sent) = site.pass(SITE, six().udp(1, 2, b"x").build());
        sent[62..70].try_into().expect("8 bytes")
    };
    let [a, b] = [RLOC6, "2001:db8:cafe::2"].map(&mut header_to);
    assert_eq!((a[0], &a[4..]), (0xc8, &[0, 0, 7, 3][..]));
    assert_ne!(a[1..4], b[1..4]);
    assert_eq!(a, header_to(RLOC6));
}

/// K-01, K-02: with RFC 9305 the header names what follows, and nothing else.
#[test]
fn k01_the_next_protocol_is_named() {
    let mut settings = Settings {
        gpe: true,
        nonce: true,
        udp_checksum: true,
        ..settings()
    };
    settings.instances[0].id = 0;
    let mut site = Site::new(&Shape::usual(), settings);
    site.map_far(&Shape::usual(), &[(RLOC6, 1, 1)]);
    for ((frame, inside), next) in inner_packets().into_iter().zip([2, 1]) {
        let (_, sent) = site.pass(SITE, frame);
        let outer = Outer::to(RLOC6).with_entropy_of(&sent);
        let lisp = [4, 0, 0, 0, 0, 0, 0, next];
        let expected = Outer {
            hop_limit: 63,
            class: 0xb9,
            lisp,
            has_checksum: true,
            ..outer
        };
        assert_eq!(sent, expected.frame(&inside), "K-03: with a checksum");
    }
}

/// D-18: the box is one hop; it answers where the last one is, and counts it once.
#[test]
fn d18_a_packet_without_a_hop_left_is_answered() {
    let mut site = Site::to_one(RLOC6);
    for hop_limit in [0, 1] {
        let packet = six().hop_limit(hop_limit).udp(1, 2, b"x");
        let (port, answer) = site.pass(SITE, packet.build());
        let (kind, code, _, quote) = error6(&answer);
        assert_eq!((port, kind, code, quote), (SITE, 3, 0, packet.build_ipv6()));
        let packet = four().ttl(hop_limit).udp(1, 2, b"x");
        let (port, answer) = site.pass(SITE, packet.build());
        let (kind, code, _, quote) = error4(&answer);
        assert_eq!(
            (port, kind, code, quote),
            (SITE, 11, 0, packet.build_ipv4())
        );
    }
    assert_eq!(site.drops(), [(DropReason::HopLimit, 4)]);
    let (_, sent) = site.pass(SITE, six().hop_limit(2).udp(1, 2, b"x").build());
    assert_eq!((sent[14 + 7], inner(&sent)[7]), (1, 1));
}

/// D-20: all packets of a flow have one source port and label, whatever stands before their ports.
#[test]
fn d20_extension_headers_do_not_split_a_flow() {
    let mut site = Site::to_one(RLOC6);
    let packets = [
        six().udp(1000, 2000, b"x"),
        six().udp(1000, 2000, &[7; 900]),
        six().hop_by_hop().udp(1000, 2000, b"x"),
        six()
            .hop_by_hop()
            .destination_options()
            .udp(1000, 2000, b"x"),
        six().flow_label(99).udp(1000, 2000, b"x"),
    ];
    let seen = packets.map(|packet| entropy(&site.pass(SITE, packet.build()).1));
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    let packets = [
        four().udp(1000, 2000, b"x"),
        four().options(&[136, 4, 1, 2]).udp(1000, 2000, b"x"),
    ];
    let seen = packets.map(|packet| entropy(&site.pass(SITE, packet.build()).1));
    assert_eq!(seen[0], seen[1]);
    // Without ports: addresses, and the flow label where there is one.
    let esp = |label: u32, byte: u8| six().flow_label(label).raw(50, &[byte; 40]).build();
    let seen = [esp(1, 1), esp(1, 2), esp(2, 1)].map(|frame| entropy(&site.pass(SITE, frame).1));
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
}

/// D-22: all pieces of a packet go one way.
#[test]
fn d22_the_pieces_of_a_packet_have_one_port() {
    let mut site = Site::to_one(RLOC6);
    let pieces = [
        six().fragment(0, true, 9).udp(1000, 2000, &[1; 64]).build(),
        six().fragment(72, false, 9).raw(17, &[2; 40]).build(),
    ];
    let seen = pieces.map(|frame| entropy(&site.pass(SITE, frame).1));
    assert_eq!(seen[0], seen[1]);
    let other = six()
        .fragment(0, true, 10)
        .udp(1000, 2000, &[1; 64])
        .build();
    assert_ne!(seen[0], entropy(&site.pass(SITE, other).1));
    let pieces = [
        four().fragment(0, true).udp(1000, 2000, &[1; 64]).build(),
        four().fragment(72, false).raw(17, &[2; 40]).build(),
    ];
    let seen = pieces.map(|frame| entropy(&site.pass(SITE, frame).1));
    assert_eq!(seen[0], seen[1]);
}

/// D-20, D-21, D-22: flows spread over ports and labels, and otherwise in every box.
#[test]
fn d22_flows_spread_and_every_box_spreads_them_otherwise() {
    let ports = |seed: u64| -> Vec<(u16, u32)> {
        let mut site = Site::new(&Shape::usual(), Settings { seed, ..settings() });
        site.map_far(&Shape::usual(), &[(RLOC6, 1, 1)]);
        let frames: Vec<_> = (0..1000).map(|n| six().udp(n, 443, b"").build()).collect();
        let sent = site.receive(SITE, &frames);
        sent.iter().map(|(_, frame)| entropy(frame)).collect()
    };
    let (a, b) = (ports(1), ports(2));
    let distinct = |seen: &[(u16, u32)]| {
        let ports: std::collections::HashSet<u16> = seen.iter().map(|(port, _)| *port).collect();
        let labels: std::collections::HashSet<u32> = seen.iter().map(|(_, label)| *label).collect();
        (ports.len(), labels.len())
    };
    // 1000 balls in 16,384 boxes: about 30 meet another.
    assert!(
        distinct(&a).0 > 940 && distinct(&a).1 > 980,
        "{:?}",
        distinct(&a)
    );
    let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
    assert!(same < 10, "{same} of 1000 are the same with another seed");
}

/// D-19: a packet with two LISP headers gets no third.
#[test]
fn d19_there_are_at_most_two_lisp_headers() {
    let mut site = Site::to_one(RLOC6);
    let innermost = six().udp(1, 2, b"x").build_ipv6();
    let once = six().udp(50_000, 4341, &[&[0; 8], &innermost[..]].concat());
    let (_, sent) = site.pass(SITE, once.build());
    assert_eq!(inner(&sent), once.clone().hop_limit(63).build_ipv6());
    let twice = six().udp(50_000, 4341, &[&[0; 8], &once.build_ipv6()[..]].concat());
    assert_eq!(site.receive(SITE, &[twice.build()]), []);
    let once = four().udp(50_000, 4341, &[&[0; 8], &innermost[..]].concat());
    let twice = four().udp(50_000, 4341, &[&[0; 8], &once.build_ipv4()[..]].concat());
    site.pass(SITE, once.build());
    assert_eq!(site.receive(SITE, &[twice.build()]), []);
    assert_eq!(site.drops(), [(DropReason::LispTooDeep, 2)]);
}

/// RFC 9300 3: an ITR encapsulates for its own EIDs; who else sends to a mapping is told so.
#[test]
fn an_itr_encapsulates_for_its_own_eids_alone() {
    let mut site = Site::to_one(RLOC6);
    let stranger = between6("2001:db8:e:1::10", FAR6).udp(1, 2, b"x");
    site.pass(SITE, stranger.build());
    // On the link, but no EID.
    let mut shape = Shape::usual();
    shape.interfaces[0]
        .addresses
        .push(ip_net("2001:db8:99::1/64"));
    shape.interfaces[0].addresses.push(ip_net("10.99.0.1/24"));
    shape
        .neighbors
        .extend([(0, "2001:db8:99::9", 0x11), (0, "10.99.0.9", 0x11)]);
    site.rebuild(&shape);
    let stranger = between6("2001:db8:99::9", FAR6).udp(1, 2, b"x");
    let (kind, code, ..) = error6(&site.pass(SITE, stranger.build()).1);
    assert_eq!((kind, code), (1, 5));
    let stranger = between4("10.99.0.9", FAR4).udp(1, 2, b"x");
    let (kind, code, ..) = error4(&site.pass(SITE, stranger.build()).1);
    assert_eq!((kind, code), (3, 13));
    assert_eq!(site.drops(), [(DropReason::LispSourceEid, 2)]);
}

/// RFC 4291 2.5.6, RFC 3927 7: nothing from a link-local address is encapsulated.
#[test]
fn a_link_local_sender_is_not_encapsulated_for() {
    let mut site = Site::to_one(RLOC6);
    let (kind, code, ..) = error6(
        &site
            .pass(SITE, between6("fe80::9", FAR6).udp(1, 2, b"x").build())
            .1,
    );
    assert_eq!((kind, code), (1, 2));
    assert_eq!(
        site.receive(
            SITE,
            &[between4("169.254.7.7", FAR4).udp(1, 2, b"x").build()]
        ),
        []
    );
    assert_eq!(site.drops(), [(DropReason::LinkLocalScope, 2)]);
}

/// D-24: two tenants with the same addresses: the instance id tells them apart, out and in.
#[test]
fn d24_tenants_with_the_same_addresses_stay_apart() {
    let mut shape = Shape::usual();
    let mut other = interface(SECOND, &["2001:db8:e:1::1/64", "10.1.0.1/24"]);
    other.vrf = VrfId(2);
    shape.interfaces[2] = other;
    shape.neighbors.truncate(4);
    shape.neighbors.extend([(2, HOST6, 0x12), (2, HOST4, 0x12)]);
    let mut settings = settings();
    settings.instances.push(InstanceSpec {
        id: 0x00ab_cdef,
        vrf: VrfId(2),
        ..settings.instances[0].clone()
    });
    let mut site = Site::new(&shape, settings);
    site.map_far(&shape, &[(RLOC6, 1, 1)]);
    site.rib.set_mapping(
        VrfId(2),
        ip_net(FAR_NET6),
        to(&[("2001:db8:cafe::2", 1, 1)]),
    );
    site.rebuild(&shape);

    let packet = six().udp(1, 2, b"x");
    let (_, first) = site.pass(SITE, packet.build());
    let mut second = packet.build();
    second[..6].copy_from_slice(&mac(3).octets());
    let (port, second) = site.pass(SECOND, second);
    assert_eq!(
        (port, &second[62..70]),
        (UPLINK, &[8, 0, 0, 0, 0xab, 0xcd, 0xef, 0][..])
    );
    assert_eq!(first[66..69], [0, 0, 7]);
    assert_eq!(inner(&first), inner(&second));
    assert_ne!(rloc(&first), rloc(&second));

    let back = between6(FAR6, HOST6).udp(2, 1, b"x").build_ipv6();
    let (port, _) = site.pass(UNDERLAY, Outer::from(RLOC6).frame(&back));
    assert_eq!(port, SITE);
    let lisp = [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0x55];
    let (port, sent) = site.pass(
        UNDERLAY,
        Outer {
            lisp,
            ..Outer::from(RLOC6)
        }
        .frame(&back),
    );
    assert_eq!((port, &sent[..6]), (SECOND, &mac(0x12).octets()[..]));
}

/// Routed as ever beside it: what goes to no mapping is not touched.
#[test]
fn what_goes_to_no_mapping_is_forwarded_as_ever() {
    let mut shape = Shape::usual();
    shape
        .routes
        .push((EIDS, "2001:db8:77::/48", vec![(0, HOST6)]));
    let mut site = Site::to_one(RLOC6);
    site.map_far(&shape, &[(RLOC6, 1, 1)]);
    let frame = six().ipv6(
        "2001:db8:1::1".parse().expect("an address"),
        "2001:db8:77::1".parse().expect("an address"),
    );
    let (port, sent) = site.pass(SITE, frame.clone().udp(1, 2, b"x").build());
    assert_eq!(
        (port, &sent[14..]),
        (SITE, &frame.hop_limit(63).udp(1, 2, b"x").build_ipv6()[..])
    );
    assert_eq!(site.counters().lisp_encap.packets.read(), 0);
}
