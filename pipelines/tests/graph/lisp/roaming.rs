//! EID hosts that may be at any site: those that are not known to be here are told of, and what comes encapsulated for one
//! that has moved is sent after it.

use dataplane::frame::Frame;
use dataplane::reason::{DropReason, PuntReason};
use pipelines::lisp::{InstanceSpec, Roles, Settings};
use pipelines::tables::{Hop, InterfaceId, Route};

use super::site::*;
use crate::bench::*;

/// Of another site, and at home.
const ROAMING6: [&str; 2] = ["2001:db8:d:1::7", "2001:db8:e:1::7"];
const ROAMING4: [&str; 2] = ["10.9.0.7", "10.1.0.7"];

fn roaming() -> Settings {
    let usual = settings();
    let dynamic = [
        "2001:db8:d:1::/64",
        "10.9.0.0/24",
        "2001:db8:e:1::/64",
        "10.1.0.0/24",
    ];
    Settings {
        instances: vec![InstanceSpec {
            dynamic: dynamic.into_iter().map(ip_net).collect(),
            ..usual.instances[0].clone()
        }],
        ..usual
    }
}

/// With a host route for each of these hosts.
fn with_hosts(hosts: &[&str]) -> Shape {
    let mut shape = Shape::usual();
    for host in hosts {
        shape.neighbors.push((0, leak(host), 0x17));
    }
    shape
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn site_with(settings: Settings) -> Site {
    let mut site = Site::new(&Shape::usual(), settings);
    site.map_far(&Shape::usual(), &[(RLOC6, 1, 1)]);
    site
}

fn from_host(host: &str, far: bool) -> Vec<u8> {
    match (host.contains(':'), far) {
        (true, true) => between6(host, FAR6).udp(1, 2, b"x").build(),
        (true, false) => between6(host, HOST6).udp(1, 2, b"x").build(),
        (false, true) => between4(host, FAR4).udp(1, 2, b"x").build(),
        (false, false) => between4(host, HOST4).udp(1, 2, b"x").build(),
    }
}

/// A packet of a host that is not known to be here goes on, and its first bytes say who sent it; once the host is known,
/// nobody is told.
#[test]
fn a_host_that_came_is_told_of_until_it_is_known() {
    for host in ROAMING6.into_iter().chain(ROAMING4) {
        let mut site = site_with(roaming());
        let frame = from_host(host, true);
        for _ in 0..2 {
            let (port, _) = site.pass(SITE, frame.clone());
            assert_eq!(port, UNDERLAY, "{host}");
            let notes = site.punted();
            let [note] = &notes[..] else {
                panic!("{host}: one note: {}", notes.len())
            };
            assert!(note.reason == PuntReason::DynamicEid && note.meta.went_on());
            assert_eq!(note.meta.interface(), InterfaceId(0));
            let end = note.frame.bytes().len().min(frame.len());
            assert_eq!(
                note.frame.bytes()[..end],
                frame[..end],
                "with its link header"
            );
        }
        site.rib.set_host(EIDS, ip_address(host), true);
        let told = site.pass(SITE, frame.clone());
        assert_eq!((told.0, site.punts()), (UNDERLAY, vec![]), "{host}");
        // Over other settings it stays known; not any more when it left.
        let other = Settings {
            miss: pipelines::lisp::Miss::Hold,
            ..roaming()
        };
        site.rib.set_lisp(Some(other));
        site.rebuild(&Shape::usual());
        site.pass(SITE, frame.clone());
        assert_eq!(site.punts(), []);
        site.rib.set_host(EIDS, ip_address(host), false);
        site.pass(SITE, frame.clone());
        assert_eq!(site.punts(), [PuntReason::DynamicEid]);
    }
}

/// In one burst, with others, in their order.
#[test]
fn a_burst_of_known_and_unknown_hosts_goes_out_whole() {
    let mut site = site_with(roaming());
    site.rib.set_host(EIDS, ip_address(ROAMING6[0]), true);
    let frames: Vec<Vec<u8>> = [ROAMING6[0], ROAMING6[1], ROAMING4[0], HOST6, ROAMING4[1]]
        .map(|host| from_host(host, true))
        .into_iter()
        .cycle()
        .take(30)
        .collect();
    let sent = site.receive(SITE, &frames);
    assert_eq!(sent.len(), 30);
    // HOST6 is of the home prefix too.
    assert_eq!(site.punted().len(), 24);
    assert_eq!(site.counters().lisp_encap.packets.read(), 30);
    assert_eq!(site.drops(), []);
}

/// A proxy encapsulates for everybody, and tells all the same.
#[test]
fn a_proxy_tells_too() {
    let roles = Roles {
        pitr: true,
        ..Settings::default().roles
    };
    let mut site = site_with(Settings { roles, ..roaming() });
    for host in [ROAMING6[0], ROAMING4[0]] {
        site.pass(SITE, from_host(host, true));
        assert_eq!(site.punts(), [PuntReason::DynamicEid]);
    }
    site.pass(
        SITE,
        between6("2001:db8:99::1", FAR6).udp(1, 2, b"x").build(),
    );
    assert_eq!(site.punts(), []);
}

/// Whoever is no EID of the site is none for that.
#[test]
fn others_are_refused_as_ever() {
    let mut site = site_with(roaming());
    let frame = between6("2001:db8:d:2::7", FAR6).udp(1, 2, b"x").build();
    let sent = site.receive(SITE, &[frame]);
    assert!(sent.iter().all(|(port, _)| *port == SITE), "an ICMP error");
    assert!(site.drops().contains(&(DropReason::LispSourceEid, 1)));
    assert_eq!(site.punts(), []);
}

fn to_host(host: &str) -> Vec<u8> {
    let inner = if host.contains(':') {
        between6(FAR6, host)
            .hop_limit(60)
            .udp(1, 2, b"x")
            .build_ipv6()
    } else {
        let frame = between4(FAR4, host).ttl(60).udp(1, 2, b"x").build();
        frame[14..].to_vec()
    };
    Outer::from(RLOC6).frame(&inner)
}

/// The site of a host that is here delivers; D-17: that of one that has moved sends its packets on, with a hop less.
#[test]
fn d17_packets_follow_a_host_that_has_moved() {
    for host in ROAMING6.into_iter().chain(ROAMING4) {
        let mut site = site_with(roaming());
        let mut here = with_hosts(&[host]);
        let length = if host.contains(':') { 128 } else { 32 };
        let eid = leak(&format!("{host}/{length}"));
        site.rib.set_host(EIDS, ip_address(host), true);
        let on_link = |shape: &Shape, site: &mut Site| {
            let mut builder = shape.builder();
            let hop = Hop {
                interface: InterfaceId(0),
                via: None,
                weight: 1,
            };
            builder.route(EIDS, ip_net(eid), Route::Hops(vec![hop]));
            site.rebuild_with(builder);
        };
        on_link(&here, &mut site);
        let (port, delivered) = site.pass(UNDERLAY, to_host(host));
        assert_eq!(port, SITE, "{host}");
        assert_eq!(delivered[..6], mac(0x17).octets());
        // It is gone, and known to be elsewhere.
        here.neighbors.pop();
        site.rib.set_host(EIDS, ip_address(host), false);
        site.rib
            .set_mapping(EIDS, ip_net(eid), to(&[("2001:db8:cafe::2", 1, 1)]));
        site.rebuild(&here);
        let (port, sent) = site.pass(UNDERLAY, to_host(host));
        assert_eq!(port, UNDERLAY, "{host}");
        assert_eq!(sent[38..54], address("2001:db8:cafe::2").octets());
        let hop_limit_at = if host.contains(':') { 77 } else { 78 };
        assert_eq!(sent[hop_limit_at], 59, "one hop less");
        assert_eq!(site.drops(), []);
        assert_eq!(site.punts(), [], "nobody here sent it");
        // At its last hop it ends: two sites that take each other for the host's do not send it for ever.
        let mut last = to_host(host);
        last[21] = 1;
        let sent = site.receive(UNDERLAY, &[last]);
        assert!(sent.len() <= 1, "an ICMP error at most");
        assert_eq!(site.drops(), [(DropReason::HopLimit, 1)]);
    }
}

/// What is not for a host that may move is not sent on (D-26).
#[test]
fn nothing_else_is_sent_on() {
    let mut site = site_with(roaming());
    let fixed = "2001:db8:e:9::1";
    let other = "2001:db8:d:2::7";
    for (destination, reason) in [
        (fixed, DropReason::LispSourceEid),
        (other, DropReason::LispNotOurEid),
    ] {
        let eid = leak(&format!("{destination}/128"));
        site.rib
            .set_mapping(EIDS, ip_net(eid), to(&[("2001:db8:cafe::2", 1, 1)]));
        site.rebuild(&Shape::usual());
        let sent = site.receive(UNDERLAY, &[to_host(destination)]);
        assert!(
            sent.iter()
                .all(|(_, frame)| frame[38..54] != address("2001:db8:cafe::2").octets())
        );
        assert!(
            site.drops().iter().any(|(found, _)| *found == reason),
            "{:?}",
            site.drops()
        );
    }
}

/// One whose place is not known yet is asked for, and waits.
#[test]
fn a_packet_for_a_host_that_is_being_asked_for_is_handed_over() {
    let mut site = site_with(roaming());
    site.rib.set_mapping(
        EIDS,
        ip_net("2001:db8:d:1::/64"),
        Some(pipelines::lisp::MappingSpec::Negative(
            pipelines::lisp::Act::SendMapRequest,
        )),
    );
    site.rebuild(&Shape::usual());
    assert_eq!(site.receive(UNDERLAY, &[to_host(ROAMING6[0])]), []);
    let punted = site.punted();
    assert_eq!(punted[0].reason, PuntReason::MapCacheMiss);
    assert!(punted[0].meta.is_decapsulated());
}
