//! Destinations without a mapping, and negative mappings.

use dataplane::frame::Frame;
use dataplane::reason::{DropReason, PuntReason};
use ipnet::IpNet;
use pipelines::lisp::{Act, MappingSpec, Miss, Settings};
use pipelines::tables::VrfId;

use super::encap::{error4, error6};
use super::site::*;
use crate::bench::{address, ip_address, ip_net};

/// Everything that is not known is asked for.
fn asking(miss: Miss) -> Settings {
    let mut settings = Settings { miss, ..settings() };
    settings.instances[0].map_request = vec![ip_net("::/0"), ip_net("0.0.0.0/0")];
    settings
}

/// The site with a native way out by the second provider.
fn with_native_way() -> Shape {
    let mut shape = Shape::usual();
    shape.interfaces[SECOND].vrf = EIDS;
    shape
        .routes
        .push((EIDS, "::/0", vec![(2, "2001:db8:b::ff")]));
    shape
        .routes
        .push((EIDS, "0.0.0.0/0", vec![(2, "198.51.100.254")]));
    shape
}

/// Map-Requests for the far site's prefixes, beside the default routes.
fn asking_for_far(miss: Miss) -> Settings {
    let mut settings = asking(miss);
    settings.instances[0].map_request = vec![ip_net(FAR_NET6), ip_net(FAR_NET4)];
    settings
}

/// C-02: dropped or held, the control thread gets the packet itself.
#[test]
fn c02_a_miss_is_handed_over() {
    for miss in [Miss::Drop, Miss::Hold] {
        let mut site = Site::new(&Shape::usual(), asking(miss));
        let frames = [
            six().udp(1, 2, b"x").build(),
            four().udp(1, 2, b"x").build(),
        ];
        assert_eq!(site.receive(SITE, &frames), []);
        let punted = site.punted();
        for (punt, frame) in punted.iter().zip(&frames) {
            assert_eq!(
                (punt.reason, punt.frame.bytes()),
                (PuntReason::MapCacheMiss, &frame[..])
            );
        }
        assert!(punted.iter().all(|punt| !punt.meta.went_on()));
        assert_eq!((punted.len(), site.counters().generated.read()), (2, 0));
        assert_eq!(site.drops(), []);
        // Once the mapping is there, what was held goes on.
        site.map_far(&Shape::usual(), &[(RLOC6, 1, 1)]);
        for punt in punted {
            let sent = site.resume(punt);
            assert_eq!((sent.len(), rloc(&sent[0].1)), (1, ip_address(RLOC6)));
        }
        assert_eq!(site.counters().lisp_encap.packets.read(), 2);
    }
}

/// C-02: forwarded natively, and the control thread is told by the packet's first bytes.
#[test]
fn c02_a_miss_goes_on_natively_and_is_told() {
    let mut site = Site::new(&with_native_way(), asking_for_far(Miss::Native));
    site.rebuild(&with_native_way());
    let frames = [
        six().udp(1, 2, &[7; 500]).build(),
        four().udp(1, 2, &[7; 500]).build(),
    ];
    let sent = site.receive(SITE, &frames);
    assert_eq!(
        sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
        [SECOND; 2]
    );
    let expected = six().hop_limit(63).udp(1, 2, &[7; 500]).build_ipv6();
    assert_eq!(sent[0].1[14..], expected);
    let notes = site.punted();
    assert_eq!((notes.len(), site.counters().generated.read()), (2, 2));
    for (note, frame) in notes.iter().zip(&frames) {
        assert!(note.reason == PuntReason::MapCacheMiss && note.meta.went_on());
        let end = note.frame.bytes().len().min(frame.len());
        assert!(end >= 62, "link header, IP header, ports");
        assert_eq!(note.frame.bytes()[14..], frame[14..end]);
    }
}

/// C-02: a miss that has no native way is asked for all the same.
#[test]
fn c02_a_miss_without_a_native_way_is_handed_over() {
    let mut site = Site::new(&Shape::usual(), asking(Miss::Native));
    site.rebuild(&Shape::usual());
    let frames = [
        six().udp(1, 2, b"x").build(),
        four().udp(1, 2, b"x").build(),
    ];
    assert_eq!(site.receive(SITE, &frames), []);
    assert_eq!(site.punts(), [PuntReason::MapCacheMiss; 2]);
}

/// C-02, X-02: to the proxy ETR, and told; without one that can be used, handed over.
#[test]
fn x02_a_miss_goes_to_the_proxy_and_is_told() {
    let settings = Settings {
        petr: vec![ip_address(RLOC6)],
        ..asking(Miss::Petr)
    };
    let mut site = Site::new(&Shape::usual(), settings);
    site.rebuild(&Shape::usual());
    let frames = [
        six().udp(1, 2, b"x").build(),
        four().udp(1, 2, b"x").build(),
    ];
    let sent = site.receive(SITE, &frames);
    assert_eq!(sent.len(), 2);
    assert!(
        sent.iter()
            .all(|(_, frame)| rloc(frame) == ip_address(RLOC6))
    );
    assert_eq!(site.punts(), [PuntReason::MapCacheMiss; 2]);
    assert_eq!(site.counters().generated.read(), 2);
    // Larger than fits: each piece to the proxy, and told once.
    let sent = site.receive(SITE, &[four().udp(1, 2, &[0; 1472]).build()]);
    assert_eq!(sent.len(), 2);
    assert_eq!(site.punts(), [PuntReason::MapCacheMiss]);

    site.rib.set_locator(ip_address(RLOC6), false);
    assert_eq!(site.receive(SITE, &frames), []);
    assert_eq!(site.punts(), [PuntReason::MapCacheMiss; 2]);
    assert_eq!(site.drops(), []);
}

/// Other proxies from one moment to the next, in one step, and none.
#[test]
fn x02_proxies_change_at_once() {
    let mut settings = Settings {
        petr: vec![ip_address(RLOC6)],
        ..asking(Miss::Petr)
    };
    let mut site = Site::new(&Shape::usual(), settings.clone());
    site.rebuild(&Shape::usual());
    let frame = six().udp(1, 2, b"x").build();
    assert_eq!(rloc(&site.pass(SITE, frame.clone()).1), ip_address(RLOC6));
    settings.petr = vec![ip_address(RLOC4)];
    site.rib.set_lisp(Some(settings.clone()));
    site.rebuild(&Shape::usual());
    assert_eq!(rloc(&site.pass(SITE, frame.clone()).1), ip_address(RLOC4));
    settings.petr = vec![];
    site.rib.set_lisp(Some(settings));
    site.rebuild(&Shape::usual());
    site.punted();
    assert_eq!(site.receive(SITE, &[frame]), []);
    assert_eq!(site.punts(), [PuntReason::MapCacheMiss]);
}

/// A stranger's packet asks for nothing (C-13: the cache is not filled by whoever likes).
#[test]
fn a_stranger_cannot_ask_for_mappings() {
    let mut site = Site::new(&Shape::usual(), asking(Miss::Drop));
    let frames = [
        between6("2001:db8:bad::1", FAR6).udp(1, 2, b"x").build(),
        between6("fe80::9", FAR6).udp(1, 2, b"x").build(),
    ];
    site.receive(SITE, &frames);
    // But for our own answer, which goes to where nobody is known to be.
    let punted = site.punted();
    assert_eq!(punted.len(), 1);
    let asked = crate::destination(&punted[0].frame.bytes()[14..]);
    assert_eq!(asked, address("2001:db8:bad::1").octets());
    let drops = [
        (DropReason::LinkLocalScope, 1),
        (DropReason::LispSourceEid, 1),
    ];
    assert_eq!(site.drops(), drops);
}

/// C-09: every action of a negative mapping.
#[test]
fn c09_negative_mappings_do_what_their_action_says() {
    let shape = with_native_way();
    let settings = Settings {
        petr: vec![ip_address(RLOC4)],
        ..settings()
    };
    let mut site = Site::new(&shape, settings);
    let set = |site: &mut Site, act: Act| {
        for prefix in [FAR_NET6, FAR_NET4] {
            site.rib
                .set_mapping(EIDS, ip_net(prefix), Some(MappingSpec::Negative(act)));
        }
        site.rebuild(&shape);
    };
    let frames = [
        six().udp(1, 2, b"x").build(),
        four().udp(1, 2, b"x").build(),
    ];

    set(&mut site, Act::NoAction);
    assert_eq!(site.receive(SITE, &frames), []);
    assert_eq!(site.drops(), [(DropReason::LispNoAction, 2)]);

    set(&mut site, Act::Native);
    let sent = site.receive(SITE, &frames);
    assert_eq!(
        sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
        [SECOND; 2]
    );

    set(&mut site, Act::SendMapRequest);
    assert_eq!(site.receive(SITE, &frames), []);
    assert_eq!(site.punts(), [PuntReason::MapCacheMiss; 2]);

    for (act, reason, code6, code4) in [
        (Act::Drop, DropReason::LispNegative, 0, 0),
        (Act::PolicyDenied, DropReason::LispPolicy, 1, 13),
        (Act::AuthFailure, DropReason::LispAuthentication, 1, 13),
    ] {
        set(&mut site, act);
        let sent = site.receive(SITE, &frames);
        let (kind, code, ..) = error6(&sent[0].1);
        assert_eq!((kind, code), (1, code6), "{act:?}");
        let (kind, code, ..) = error4(&sent[1].1);
        assert_eq!((kind, code), (3, code4), "{act:?}");
        assert_eq!(site.counters().dropped(reason), 2);
    }

    set(&mut site, Act::Petr);
    let sent = site.receive(SITE, &frames);
    assert!(
        sent.iter()
            .all(|(_, frame)| rloc(frame) == ip_address(RLOC4))
    );
    assert_eq!((sent.len(), site.punts().len()), (2, 0));
}

/// C-09: what is forwarded natively follows its route, without a change of the mapping.
#[test]
fn c09_native_forwarding_follows_the_route() {
    let mut shape = with_native_way();
    let mut site = Site::new(&shape, settings());
    site.rib.set_mapping(
        EIDS,
        ip_net(FAR_NET6),
        Some(MappingSpec::Negative(Act::Native)),
    );
    site.rebuild(&shape);
    let frame = six().udp(1, 2, b"x").build();
    assert_eq!(site.pass(SITE, frame.clone()).0, SECOND);
    // The route of the same prefix comes first, a shorter one is followed.
    shape.routes[2] = (EIDS, "::/0", vec![(0, HOST6)]);
    site.rebuild(&shape);
    assert_eq!(site.pass(SITE, frame.clone()).0, SITE);
    shape.routes[2].2 = vec![(2, "2001:db8:b::ff"), (0, HOST6)];
    site.rebuild(&shape);
    let frames: Vec<_> = (0..200).map(|n| six().udp(n, 2, b"x").build()).collect();
    let sent = site.receive(SITE, &frames);
    let second = sent.iter().filter(|(port, _)| *port == SECOND).count();
    assert!(
        (60..140).contains(&second),
        "{second} of 200 by one of two equal ways"
    );
    shape.routes.remove(2);
    site.rebuild(&shape);
    let (kind, code, ..) = error6(&site.pass(SITE, frame).1);
    assert_eq!((kind, code), (1, 0));
    assert_eq!(site.rib.mappings(), 1);
}

/// A native next hop that is not resolved waits like any other, and is told once it goes on.
#[test]
fn a_native_miss_waits_for_its_neighbour() {
    let mut shape = with_native_way();
    let resolved = shape.neighbors.clone();
    shape.neighbors.retain(|(interface, ..)| *interface != 2);
    let mut site = Site::new(&shape, asking_for_far(Miss::Native));
    site.rebuild(&shape);
    assert_eq!(site.receive(SITE, &[six().udp(1, 2, b"x").build()]), []);
    let waiting = site.punted().remove(0);
    assert_eq!(waiting.reason, PuntReason::NeighborMiss);
    let router = site.unresolved(&waiting).expect("it waits").1;
    assert_eq!(router, ip_address("2001:db8:b::ff"));
    shape.neighbors = resolved;
    site.rebuild(&shape);
    assert_eq!(site.unresolved(&waiting), None);
    let sent = site.resume(waiting);
    assert_eq!((sent.len(), sent[0].0), (1, SECOND));
    assert_eq!(site.punts(), [PuntReason::MapCacheMiss]);
}

/// C-01: the mapping of the longest prefix, by instance; without it the shorter one's.
#[test]
fn c01_the_longest_prefix_counts() {
    let mut site = Site::to_one(RLOC6);
    let frame = six().udp(1, 2, b"x").build();
    let longer = ["2001:db8:f:1::/64", "2001:db8:f:1::20/128"].map(ip_net);
    for (prefix, to_rloc) in longer.iter().zip(["2001:db8:cafe::2", "2001:db8:cafe::3"]) {
        site.rib.set_mapping(EIDS, *prefix, to(&[(to_rloc, 1, 1)]));
        site.rib
            .set_mapping(VrfId(0), *prefix, to(&[("2001:db8:cafe::4", 1, 1)]));
        site.rebuild(&Shape::usual());
        assert_eq!(rloc(&site.pass(SITE, frame.clone()).1), ip_address(to_rloc));
    }
    // Deleted: at once, without new tables.
    let forget = |site: &mut Site, prefix: IpNet| site.rib.set_mapping(EIDS, prefix, None);
    forget(&mut site, longer[1]);
    assert_eq!(
        rloc(&site.pass(SITE, frame.clone()).1),
        ip_address("2001:db8:cafe::2")
    );
    forget(&mut site, longer[0]);
    assert_eq!(rloc(&site.pass(SITE, frame.clone()).1), ip_address(RLOC6));
    forget(&mut site, ip_net(FAR_NET6));
    assert_eq!(error6(&site.pass(SITE, frame).1).0, 1);
    assert_eq!(site.drops(), [(DropReason::NoRoute, 1)]);
}

/// A route for the same prefix comes before a mapping; when it goes, the mapping is there.
#[test]
fn a_route_of_the_same_prefix_comes_first() {
    let mut site = Site::to_one(RLOC6);
    let frame = six().udp(1, 2, b"x").build();
    let mut shape = Shape::usual();
    shape.routes.push((EIDS, FAR_NET6, vec![(0, HOST6)]));
    site.rebuild(&shape);
    assert_eq!(site.pass(SITE, frame.clone()).0, SITE);
    site.rebuild(&Shape::usual());
    assert_eq!(rloc(&site.pass(SITE, frame).1), ip_address(RLOC6));
}
