//! Packets that are too large once they are encapsulated.

use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::{Packet, Packet4};
use dataplane::wire::ipv4;

use super::encap::{error4, error6};
use super::site::*;
use crate::bench::{address, ip_address, ip_net, mac};

/// The site by MTU 1500 to a locator, and S = 1500 less the headers (F-02).
const CASES: [(&str, usize); 2] = [(RLOC6, 1444), (RLOC4, 1464)];

/// An IPv6 and an IPv4 packet of this length, the latter with DF.
fn of_len(len: usize) -> [(Vec<u8>, Vec<u8>); 2] {
    let six = six().udp(1, 2, &vec![1; len - 48]);
    let four = four().dont_fragment().udp(1, 2, &vec![1; len - 28]);
    [
        (six.build(), six.build_ipv6()),
        (four.build(), four.build_ipv4()),
    ]
}

/// F-02, F-03, F-09: what fits passes; one byte more is answered with S, by an address of the site's, with the inner
/// packet quoted.
#[test]
fn f03_too_large_is_answered_with_what_fits() {
    for (rloc, room) in CASES {
        let mut site = Site::to_one(rloc);
        for (frame, packet) in of_len(room) {
            let (port, sent) = site.pass(SITE, frame);
            assert_eq!(
                (port, sent.len(), inner(&sent).len()),
                (UNDERLAY, 1514, packet.len())
            );
        }
        let [(six, packet6), (four, packet4)] = of_len(room + 1);
        let (port, answer) = site.pass(SITE, six);
        let (kind, code, mtu, quote) = error6(&answer);
        assert_eq!((port, kind, code, mtu as usize), (SITE, 2, 0, room)); // `as`: widening
        assert_eq!(quote, packet6[..quote.len()]);
        assert_eq!(
            crate::source(&answer[14..]),
            address("2001:db8:e:1::1").octets()
        );
        let (port, answer) = site.pass(SITE, four);
        let (kind, code, mtu, quote) = error4(&answer);
        assert_eq!((port, kind, code, mtu as usize), (SITE, 3, 4, room)); // `as`: widening
        assert_eq!(quote, packet4[..quote.len()]);
        assert_eq!(answer[26..30], [10, 1, 0, 1]);
        assert_eq!(site.drops(), [(DropReason::PacketTooBig, 2)]);
    }
}

/// F-04: DF = 0: equal pieces first, then a LISP header on each; the receiver has nothing to put together.
#[test]
fn f04_without_df_equal_pieces_are_encapsulated() {
    for (rloc_now, room) in CASES {
        let mut site = Site::to_one(rloc_now);
        for len in [room + 1, 1500] {
            let data: Vec<u8> = (0..len - 28).map(|n| n.to_le_bytes()[0]).collect();
            let packet = four().identification(77).udp(1, 2, &data);
            let sent = site.receive(SITE, &[packet.build()]);
            assert_eq!(sent.len(), 2);
            let mut whole: Vec<u8> = Vec::new();
            let mut lengths = Vec::new();
            for (port, frame) in &sent {
                assert_eq!((*port, rloc(frame)), (UNDERLAY, ip_address(rloc_now)));
                let outer = Outer::to(rloc_now).with_entropy_of(frame);
                let piece = inner(frame);
                assert_eq!(
                    *frame,
                    Outer {
                        hop_limit: 63,
                        ..outer
                    }
                    .frame(piece)
                );
                let parsed = ipv4::parse(piece).expect("a good packet");
                assert_eq!(parsed.header.ttl, 63);
                assert_eq!(parsed.header.fragment_offset(), whole.len());
                assert_eq!(parsed.header.more_fragments(), lengths.is_empty());
                whole.extend(parsed.payload);
                lengths.push(piece.len());
            }
            // As equal as multiples of 8 bytes can be.
            assert!(
                lengths[0] - lengths[1] < 16 && lengths[0] <= room,
                "{lengths:?}"
            );
            assert_eq!(whole, packet.build_ipv4()[20..]);
            assert_eq!(entropy(&sent[0].1), entropy(&sent[1].1), "D-22");
        }
        assert_eq!(site.drops(), []);
        assert_eq!(site.counters().generated.read(), 2);
    }
}

/// F-04: pieces have no ports, so they may go to another locator than the whole; they fit there as well.
#[test]
fn f04_pieces_fit_where_they_go() {
    let mut site = Site::new(&Shape::usual(), settings());
    let narrow = "203.0.113.9";
    site.map_far(&Shape::usual(), &[(RLOC4, 1, 1), (narrow, 1, 1)]);
    site.rib.set_path_mtu(ip_address(narrow), Some(1316));
    // Pairs of hosts, so that for some the pieces go to the narrow one and the whole does not.
    let mut pieces = [0; 2];
    for host in 1..=100 {
        let frame = between4(HOST4, &format!("10.2.1.{host}"))
            .udp(1, 2, &[0; 1472])
            .build();
        let sent = site.receive(SITE, &[frame]);
        for (_, frame) in &sent {
            let is_narrow = rloc(frame) == ip_address(narrow);
            pieces[usize::from(is_narrow)] += 1;
            assert!(
                !is_narrow || frame.len() <= 14 + 1316,
                "{} bytes",
                frame.len()
            );
        }
    }
    assert!(pieces.iter().all(|count| *count > 40), "{pieces:?}");
}

/// F-06: what was learned of the path counts, for its locator alone, until it is forgotten.
#[test]
fn f06_a_path_mtu_counts_until_it_is_forgotten() {
    for (rloc_now, room) in CASES {
        let overhead = 1500 - room;
        let mut site = Site::to_one(rloc_now);
        for mtu in [1400, 1336] {
            site.rib.set_path_mtu(ip_address(rloc_now), Some(mtu));
            let room = usize::from(mtu) - overhead;
            for (frame, _) in of_len(room) {
                assert_eq!(site.pass(SITE, frame).0, UNDERLAY);
            }
            let [(six, _), (four, _)] = of_len(room + 1);
            assert_eq!(error6(&site.pass(SITE, six).1).2 as usize, room); // `as`: widening
            assert_eq!(error4(&site.pass(SITE, four).1).2 as usize, room); // `as`: widening
            let cut = site.receive(SITE, &[four_of(1450)]);
            assert!(cut.len() == 2 && cut.iter().all(|(_, frame)| inner(frame).len() <= room));
        }
        // More than the link takes is not believed.
        site.rib.set_path_mtu(ip_address(rloc_now), Some(9000));
        let [(six, _), _] = of_len(room + 1);
        assert_eq!(error6(&site.pass(SITE, six).1).2 as usize, room); // `as`: widening
        site.rib.set_path_mtu(ip_address(rloc_now), None);
        for (frame, _) in of_len(room) {
            assert_eq!(site.pass(SITE, frame).0, UNDERLAY);
        }
    }
}

fn four_of(len: usize) -> Vec<u8> {
    four().udp(1, 2, &vec![1; len - 28]).build()
}

/// F-07, F-08: a path that does not carry 1280 bytes of IPv6 is not used: the others are, or it is visible that none is.
#[test]
fn f08_a_path_that_is_too_small_is_refused() {
    for (rloc_now, smallest) in [(RLOC6, 1336), (RLOC4, 1316)] {
        let mut site = Site::to_one(rloc_now);
        site.rib
            .set_path_mtu(ip_address(rloc_now), Some(smallest - 1));
        let (kind, code, ..) = error6(&site.pass(SITE, six().udp(1, 2, b"x").build()).1);
        assert_eq!((kind, code), (1, 3));
        assert_eq!(site.drops(), [(DropReason::LispNoLocator, 1)]);
        site.rib.set_path_mtu(ip_address(rloc_now), Some(smallest));
        let [(frame, _), _] = of_len(1280);
        assert_eq!(site.pass(SITE, frame).0, UNDERLAY);
    }
}

/// F-08: the same of a link: an IPv6 host is never told less than 1280.
#[test]
fn f08_an_ipv6_host_is_never_told_less_than_1280() {
    let mut shape = Shape::usual();
    shape.interfaces[UNDERLAY].mtu = 1330;
    let mut site = Site::to_one(RLOC6);
    site.map_far(&shape, &[(RLOC6, 1, 1)]);
    let [(fits6, _), (fits4, _)] = of_len(1274);
    assert_eq!(site.receive(SITE, &[fits6, fits4]).len(), 2);
    let [(six, _), (four, _)] = of_len(1275);
    assert_eq!(site.receive(SITE, &[six]), []);
    assert_eq!(site.drops(), [(DropReason::LispPathTooSmall, 1)]);
    assert_eq!(error4(&site.pass(SITE, four).1).2, 1274);
}

/// F-03: of several ways through the underlay, each flow's own counts.
#[test]
fn f03_each_flow_is_told_what_fits_by_its_own_way() {
    let mut shape = Shape::usual();
    shape.interfaces[SECOND].mtu = 1400;
    shape.routes[0].2.push((2, "2001:db8:b::ff"));
    let mut site = Site::new(&shape, settings());
    site.rib
        .set_mapping(EIDS, ip_net(FAR_NET6), to(&[(RLOC6, 1, 1)]));
    site.rebuild(&shape);
    let mut ways = [0; 3];
    for n in 0..50 {
        let packet = |len: usize| six().udp(n, 2, &vec![1; len - 48]).build();
        let (way, _) = site.pass(SITE, packet(1344));
        ways[way] += 1;
        let room = if way == SECOND { 1344 } else { 1444 };
        assert_eq!(site.pass(SITE, packet(room)).0, way);
        let answer = site.pass(SITE, packet(room + 1)).1;
        assert_eq!(error6(&answer).2 as usize, room); // `as`: widening
    }
    assert!(ways[UNDERLAY] > 10 && ways[SECOND] > 10, "{ways:?}");
}

/// F-06, D-11, B-04: what routers say of the path to a locator, that it is too small or leads nowhere, is for the control
/// thread to judge; errors of other kinds are not.
#[test]
fn f06_what_routers_say_of_a_path_is_handed_over() {
    let mut site = Site::to_one(RLOC6);
    let quote6 = Outer::to(RLOC6).frame(&six().udp(1, 2, b"x").build_ipv6())[14..].to_vec();
    let quote4 = Outer::to(RLOC4).frame(&six().udp(1, 2, b"x").build_ipv6())[14..].to_vec();
    let six = |kind: u8| {
        Packet::ethernet(mac(0x22), mac(2))
            .ipv6(address("2001:db8:a::ff"), address(OWN6))
            .icmpv6_error(kind, 0, 1400, &quote6)
    };
    let four = |code: u8| {
        Packet4::ethernet(mac(0x22), mac(2))
            .ipv4(
                "192.0.2.254".parse().expect("an address"),
                OWN4.parse().expect("an address"),
            )
            .icmp_error(3, code, 1400, &quote4)
    };
    let paths = [
        six(2).build(),
        four(4).build(),
        six(1).build(),
        four(1).build(),
    ];
    assert_eq!(site.receive(UNDERLAY, &paths), []);
    assert_eq!(site.punts(), [PuntReason::PathMtu; 4]);
    let others = [
        six(3).build(),
        six(4).build(),
        six(2).wrong_checksum().build(),
        four(4).wrong_checksum().build(),
    ];
    assert_eq!(site.receive(UNDERLAY, &others), []);
    assert_eq!(site.punts(), []);
    assert_eq!(
        site.drops(),
        [
            (DropReason::Icmpv4Checksum, 1),
            (DropReason::Icmpv6Checksum, 1),
            (DropReason::LocalProtocol, 2),
        ]
    );
}
