//! The way to a locator: routes, links, neighbours and tags of the underlay.

use dataplane::frame::Frame;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::Packet;
use pipelines::tables::{InterfaceId, VrfId};

use super::encap::error6;
use super::site::*;
use crate::bench::{address, interface, ip_address, ip_net, mac};

/// A route of the underlay moves: mappings stay, and packets follow.
#[test]
fn a_moved_route_moves_packets_and_no_mapping() {
    let mut site = Site::to_one(RLOC6);
    let frame = six().udp(1, 2, b"x").build();
    assert_eq!(site.pass(SITE, frame.clone()).0, UNDERLAY);
    let mut shape = Shape::usual();
    shape
        .routes
        .push((VrfId(0), "2001:db8:cafe::/48", vec![(2, "2001:db8:b::ff")]));
    site.rebuild(&shape);
    let (port, sent) = site.pass(SITE, frame.clone());
    let outer = Outer {
        link: TO_SECOND,
        hop_limit: 63,
        ..Outer::to(RLOC6).with_entropy_of(&sent)
    };
    let inside = six().hop_limit(63).udp(1, 2, b"x").build_ipv6();
    assert_eq!((port, sent), (SECOND, outer.frame(&inside)));
    assert_eq!(
        site.rib.way_to(ip_address(RLOC6)).expect("a way").0,
        InterfaceId(2)
    );
    site.rebuild(&Shape::usual());
    assert_eq!(site.pass(SITE, frame).0, UNDERLAY);
    assert_eq!(site.rib.mappings(), 2);
}

/// A link goes down: its locators are not used, those behind another link are; and back.
#[test]
fn a_link_that_is_down_takes_its_locators_out_of_use() {
    let mut shape = Shape::usual();
    let second = "2001:db8:cafe::2";
    shape.routes.push((
        VrfId(0),
        "2001:db8:cafe::2/128",
        vec![(2, "2001:db8:b::ff")],
    ));
    let mut site = Site::new(&shape, settings());
    site.map_far(&shape, &[(RLOC6, 1, 1), (second, 2, 1)]);
    let frame = six().udp(1, 2, b"x").build();
    assert_eq!(site.pass(SITE, frame.clone()).0, UNDERLAY);
    shape.interfaces[UNDERLAY].up = false;
    site.rebuild(&shape);
    let (port, sent) = site.pass(SITE, frame.clone());
    assert_eq!((port, rloc(&sent)), (SECOND, ip_address(second)));
    shape.interfaces[SECOND].up = false;
    site.rebuild(&shape);
    assert_eq!(
        error6(&site.pass(SITE, frame.clone()).1).1,
        3,
        "address unreachable"
    );
    shape.interfaces[UNDERLAY].up = true;
    site.rebuild(&shape);
    let (port, sent) = site.pass(SITE, frame);
    assert_eq!((port, rloc(&sent)), (UNDERLAY, ip_address(RLOC6)));
    assert_eq!(site.drops(), [(DropReason::LispNoLocator, 1)]);
}

/// Without a route a locator is not used, and is when one comes.
#[test]
fn without_a_route_a_locator_is_not_used() {
    let mut shape = Shape::usual();
    shape.routes.clear();
    let mut site = Site::new(&shape, settings());
    site.map_far(&shape, &[(RLOC6, 1, 1)]);
    let frame = six().udp(1, 2, b"x").build();
    assert_eq!(error6(&site.pass(SITE, frame.clone()).1).1, 3);
    let states = site.rib.locator_states(EIDS, ip_net(FAR_NET6));
    assert!(!states[0].is_reachable && states[0].share == 0);
    site.rebuild(&Shape::usual());
    assert_eq!(site.pass(SITE, frame).0, UNDERLAY);
}

/// A router that is not resolved: the outer packet waits, and it is the router that is asked for.
#[test]
fn an_unresolved_router_holds_the_outer_packet() {
    for (rloc_now, router) in [(RLOC6, "2001:db8:a::ff"), (RLOC4, "192.0.2.254")] {
        let mut shape = Shape::usual();
        shape
            .neighbors
            .retain(|(_, neighbor, _)| *neighbor != router);
        let mut site = Site::new(&shape, settings());
        site.map_far(&shape, &[(rloc_now, 1, 1)]);
        for (frame, inside) in [
            (
                six().udp(1, 2, b"x").build(),
                six().hop_limit(63).udp(1, 2, b"x").build_ipv6(),
            ),
            (
                four().udp(1, 2, b"x").build(),
                four().ttl(63).udp(1, 2, b"x").build_ipv4(),
            ),
        ] {
            site.rebuild(&shape);
            assert_eq!(site.receive(SITE, &[frame]), []);
            let waiting = site.punted().remove(0);
            assert_eq!(waiting.reason, PuntReason::NeighborMiss);
            assert_eq!(inner(waiting.frame.bytes()), inside);
            let expected = (InterfaceId(1), ip_address(router));
            assert_eq!(site.unresolved(&waiting), Some(expected));
            site.rebuild(&Shape::usual());
            assert_eq!(site.unresolved(&waiting), None);
            let sent = site.resume(waiting);
            let outer = Outer::to(rloc_now).with_entropy_of(&sent[0].1);
            let expected = Outer {
                hop_limit: 63,
                ..outer
            }
            .frame(&inside);
            assert_eq!(sent, [(UNDERLAY, expected)], "the hop is counted once");
        }
        assert_eq!(site.drops(), []);
    }
}

/// A router that never answers: what waits for it is our own packet, so the control thread drops it and answers nobody.
#[test]
fn an_outer_packet_that_waits_is_our_own() {
    let mut shape = Shape::usual();
    shape.neighbors.retain(|(interface, ..)| *interface == 0);
    let mut site = Site::new(&shape, settings());
    site.map_far(&shape, &[(RLOC6, 1, 1)]);
    assert_eq!(site.receive(SITE, &[six().udp(1, 2, b"x").build()]), []);
    assert!(site.punted()[0].meta.is_originated());
}

/// A locator on our own link is its own next hop.
#[test]
fn a_locator_on_the_link_is_resolved_itself() {
    let (peer6, peer4) = ("2001:db8:a::77", "192.0.2.77");
    for peer in [peer6, peer4] {
        let mut site = Site::to_one(RLOC6);
        site.map_far(&Shape::usual(), &[(peer, 1, 1)]);
        assert_eq!(site.receive(SITE, &[six().udp(1, 2, b"x").build()]), []);
        let waiting = site.punted().remove(0);
        let expected = (InterfaceId(1), ip_address(peer));
        assert_eq!(site.unresolved(&waiting), Some(expected));
        let mut shape = Shape::usual();
        shape
            .neighbors
            .push((1, if peer == peer6 { peer6 } else { peer4 }, 0x77));
        site.rebuild(&shape);
        assert_eq!(site.unresolved(&waiting), None);
        assert_eq!(site.resume(waiting)[0].1[..6], mac(0x77).octets());
        let (_, sent) = site.pass(SITE, six().udp(1, 2, b"x").build());
        assert_eq!(sent[..6], mac(0x77).octets());
    }
}

/// Several equal ways through the underlay: flows are spread over them, each keeps its own, and one that is not resolved
/// is asked for by its own packets.
#[test]
fn several_ways_through_the_underlay_share_the_flows() {
    for (rloc_now, route, routers) in [
        (RLOC6, 0, [(1, "2001:db8:a::ff"), (2, "2001:db8:b::ff")]),
        (RLOC4, 1, [(1, "192.0.2.254"), (2, "198.51.100.254")]),
    ] {
        let mut shape = Shape::usual();
        shape.routes[route].2 = routers.to_vec();
        let mut site = Site::new(&shape, settings());
        site.map_far(&shape, &[(rloc_now, 1, 1)]);
        let frames: Vec<_> = (0..400).map(|n| six().udp(n, 2, b"x").build()).collect();
        let way = |site: &mut Site, frame: &Vec<u8>| site.pass(SITE, frame.clone()).0;
        let ways: Vec<usize> = frames.iter().map(|frame| way(&mut site, frame)).collect();
        let first = ways.iter().filter(|port| **port == UNDERLAY).count();
        assert!(
            (150..250).contains(&first),
            "{first} of 400 by one of two equal ways"
        );
        let again: Vec<usize> = frames.iter().map(|frame| way(&mut site, frame)).collect();
        assert_eq!(ways, again);

        // The second router is forgotten.
        let known = shape.neighbors.clone();
        shape.neighbors.retain(|(interface, ..)| *interface != 2);
        site.rebuild(&shape);
        let sent = site.receive(SITE, &frames);
        assert_eq!(sent.len(), first);
        let waiting = site.punted();
        assert_eq!(waiting.len(), 400 - first);
        for punt in &waiting {
            let (interface, router) = site.unresolved(punt).expect("it waits");
            assert_eq!(
                (interface, router),
                (InterfaceId(2), ip_address(routers[1].1))
            );
        }
        shape.neighbors = known;
        site.rebuild(&shape);
        for punt in waiting {
            assert_eq!(
                site.resume(punt)[0].0,
                SECOND,
                "by the way it would have gone"
            );
        }
    }
}

/// Tagged interfaces on both sides, alone on their ports and beside untagged ones.
#[test]
fn tagged_interfaces_encapsulate_and_open() {
    for has_untagged in [false, true] {
        let mut shape = Shape::usual();
        shape.interfaces[0].vlan = vec![100];
        shape.interfaces[1].vlan = vec![200, 300];
        if has_untagged {
            for port in [SITE, UNDERLAY] {
                let addresses = format!("2001:db8:77:{port}::1/64");
                shape.interfaces.push(interface(port, &[&addresses]));
            }
        }
        for rloc_now in [RLOC6, RLOC4] {
            let mut site = Site::new(&shape, settings());
            site.map_far(&shape, &[(rloc_now, 1, 1)]);
            let (port, sent) = site.pass(SITE, six().vlan(100, 5).udp(1, 2, b"x").build());
            assert_eq!(port, UNDERLAY);
            let untagged = [&sent[..12], &sent[20..]].concat();
            // Our own packet: the tag's priority was that of another link.
            assert_eq!(sent[12..20], [0x88, 0xa8, 0, 200, 0x81, 0, 1, 44]);
            let outer = Outer {
                hop_limit: 63,
                ..Outer::to(rloc_now).with_entropy_of(&untagged)
            };
            let inside = six().hop_limit(63).udp(1, 2, b"x").build_ipv6();
            assert_eq!(untagged, outer.frame(&inside));

            let back = between6(FAR6, HOST6).udp(2, 1, b"x");
            let frame = Outer::from(rloc_now).frame(&back.build_ipv6());
            let tagged = [
                &frame[..12],
                &[0x88, 0xa8, 0, 200, 0x81, 0, 1, 44],
                &frame[12..],
            ]
            .concat();
            let expected = Packet::ethernet(mac(1), mac(0x11))
                .vlan(100, 0)
                .ipv6(address(FAR6), address(HOST6))
                .hop_limit(63)
                .udp(2, 1, b"x");
            assert_eq!(site.pass(UNDERLAY, tagged), (SITE, expected.build()));
            assert_eq!(site.drops(), []);
        }
    }
}
