//! Bursts that are all encapsulated, or all decapsulated, but for one packet: the loops made for them beside the nodes.

use dataplane::testing::builder::{Packet, Packet4};
use pipelines::lisp::{LocatorSpec, MappingSpec, Roles, Settings};
use pipelines::tables::{Hop, InterfaceId, Route};

use super::site::*;
use crate::bench::*;

const FRAMES: usize = 33;
/// A host behind a router of the site.
const BEHIND: &str = "2001:db8:e:2::30";
/// Locators of a mapping: address, priority, weight.
type Locators<'a> = &'a [(&'a str, u8, u8)];

/// The client's port of frames that are no usual ones.
const ODD: u16 = 1;

/// The usual site and a prefix behind a router there.
fn shape() -> Shape {
    let mut shape = Shape::usual();
    shape
        .routes
        .push((EIDS, "2001:db8:e:2::/64", vec![(0, HOST6)]));
    shape
}

fn port_of(number: usize) -> u16 {
    1000 + u16::try_from(number).expect("few packets")
}

fn data(number: usize) -> Vec<u8> {
    vec![7; number % 5]
}

/// Where the ports of an inner IPv6 packet stand in a frame that left, if it is one.
fn inner_port(frame: &[u8]) -> Option<u16> {
    let inner = [14, 14 + 36, 14 + 56].into_iter().find(|at| {
        frame.get(*at).is_some_and(|first| first >> 4 == 6)
            && frame.get(*at + 6) == Some(&17)
            && frame.get(*at + 42..*at + 44) == Some(&53_u16.to_be_bytes())
    })?;
    let port = u16::from_be_bytes([frame[inner + 40], frame[inner + 41]]);
    (port != ODD).then_some(port)
}

/// Let `usual` come in, then with `odd` in several places, then as before: both ways through the graph say the same, and
/// the usual ones leave in their order.
fn mix(site: &mut Site, port: usize, usual: &[Vec<u8>], odd: &[u8], what: &str) {
    for at in [0, 7, FRAMES - 1] {
        let mut mixed = usual.to_vec();
        mixed[at] = odd.to_vec();
        for (round, frames) in [usual, usual, &mixed, &mixed, usual]
            .into_iter()
            .enumerate()
        {
            let sent = site.receive(port, frames);
            let usual = sent
                .iter()
                .filter_map(|(to, frame)| Some((to, inner_port(frame)?)));
            let mut ports: Vec<_> = usual.collect();
            // In order by each link.
            ports.sort_by_key(|(to, _)| *to);
            assert!(
                ports.is_sorted() && ports.len() >= FRAMES - 1,
                "{what} at {at}, round {round}: {ports:?}, {:?}",
                site.drops()
            );
        }
    }
}

/// What a host of the site sends.
fn leaving(number: usize) -> Packet {
    six().hop_limit(if number % 7 == 3 { 2 } else { 64 })
}

fn usual_out() -> Vec<Vec<u8>> {
    let frame = |number: usize| {
        let class = [0, 0, 0xb9, 3][number % 4];
        let packet = leaving(number).traffic_class(class);
        packet.udp(port_of(number), 53, &data(number)).build()
    };
    (0..FRAMES).map(frame).collect()
}

fn odd_out() -> Vec<(&'static str, Vec<u8>)> {
    let mut cut = six().udp(ODD, 53, b"data").build();
    cut.truncate(57);
    let inner = six().udp(ODD, 53, b"").build_ipv6();
    let once = six().udp(ODD, 4341, &[&[8, 0, 0, 0, 0, 0, 7, 0], &inner[..]].concat());
    let twice = [&[8, 0, 0, 0, 0, 0, 7, 0], &once.build_ipv6()[..]].concat();
    let mut padded = six().udp(ODD, 53, b"").build();
    padded.extend([0; 6]);
    let mut tagged = six().udp(ODD, 53, b"").build();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    vec![
        ("out of hops", six().hop_limit(1).udp(ODD, 53, b"").build()),
        ("without ports", six().raw(50, &[5; 24]).build()),
        (
            "to nobody",
            between6(HOST6, "2001:db8:dead::1")
                .udp(ODD, 53, b"")
                .build(),
        ),
        (
            "from elsewhere",
            between6("2001:db8:9::1", FAR6).udp(ODD, 53, b"").build(),
        ),
        (
            "within the site",
            between6(HOST6, BEHIND).udp(ODD, 53, b"").build(),
        ),
        (
            "to a group",
            between6(HOST6, "ff0e::1").udp(ODD, 53, b"").build(),
        ),
        (
            "from nobody",
            between6("::", FAR6).udp(ODD, 53, b"").build(),
        ),
        ("encapsulated twice", six().udp(ODD, 4341, &twice).build()),
        (
            "to the port of LISP",
            six().udp(ODD, 4341, &[0x60; 80]).build(),
        ),
        ("too long", six().udp(ODD, 53, &[7; 1440]).build()),
        ("IPv4", four().udp(ODD, 53, b"").build()),
        ("cut", cut),
        ("padded", padded),
        ("tagged", tagged),
        ("empty", vec![]),
    ]
}

/// D-01, D-12 to D-22, C-04: both outer families, several locators, several ways through the underlay, a checksum, and as
/// a proxy.
#[test]
fn one_packet_that_differs_changes_nothing_for_those_that_are_encapsulated() {
    let two = [(RLOC6, 1, 70), ("2001:db8:cafe::2", 1, 30)];
    let both_families = [(RLOC6, 1, 50), (RLOC4, 1, 50)];
    let proxy = Settings {
        roles: Roles {
            pitr: true,
            ..Roles::default()
        },
        ..settings()
    };
    let with_checksum = Settings {
        udp_checksum: true,
        ..settings()
    };
    let gpe = Settings {
        gpe: true,
        ..settings()
    };
    let mut ecmp = shape();
    ecmp.routes[0].2 = vec![(1, "2001:db8:a::ff"), (2, "2001:db8:b::ff")];
    let mut split = shape();
    split.routes.push((
        pipelines::tables::VrfId(0),
        "2001:db8:cafe::2/128",
        vec![(2, "2001:db8:b::ff")],
    ));
    let cases: [(&str, Shape, Settings, Locators); 8] = [
        ("IPv6", shape(), settings(), &[(RLOC6, 1, 1)]),
        ("IPv4", shape(), settings(), &[(RLOC4, 1, 1)]),
        ("two", shape(), settings(), &two),
        ("both families", shape(), settings(), &both_families),
        ("two routers", ecmp, settings(), &two),
        ("two links", split, settings(), &two),
        ("proxy", shape(), proxy, &two),
        ("checksum", shape(), with_checksum, &two),
    ];
    let gpe = ("GPE", shape(), gpe, &two[..]);
    for (name, shape, settings, locators) in cases.into_iter().chain([gpe]) {
        for (what, odd) in odd_out() {
            let mut site = Site::new(&shape, settings.clone());
            // So many that what is no mapping's number would be one's.
            for number in 0..64 {
                let other = ip_net(&format!("2001:db8:ff{number:02x}::/48"));
                site.rib
                    .set_mapping(EIDS, other, to(&[("2001:db8:bad::1", 1, 1)]));
            }
            site.map_far(&shape, locators);
            mix(
                &mut site,
                SITE,
                &usual_out(),
                &odd,
                &format!("{name}, {what}"),
            );
        }
    }
}

/// C-05, C-06: what is changed between two bursts is so for the next one, whatever was known before.
#[test]
fn what_changes_between_bursts_counts() {
    let mut site = Site::new(&shape(), settings());
    site.map_far(&shape(), &[(RLOC6, 1, 1)]);
    let leaves_by = |site: &mut Site, port: usize, frames: &[Vec<u8>]| {
        let sent = site.receive(port, frames);
        let ports: Vec<usize> = sent.iter().map(|(port, _)| *port).collect();
        (ports.len(), ports.first().copied())
    };
    for _ in 0..3 {
        assert_eq!(
            leaves_by(&mut site, SITE, &usual_out()),
            (FRAMES, Some(UNDERLAY))
        );
    }
    let unmapped = |site: &mut Site, spec: Option<MappingSpec>| {
        site.rib.set_mapping(EIDS, ip_net(FAR_NET6), spec);
    };
    unmapped(&mut site, None);
    let sent = site.receive(SITE, &usual_out());
    assert!(sent.iter().all(|(port, _)| *port == SITE), "errors alone");
    let locators = vec![LocatorSpec {
        priority: 1,
        weight: 1,
        rloc: ip_address(RLOC6),
        up: true,
    }];
    unmapped(
        &mut site,
        Some(MappingSpec::Locators {
            locators,
            version: 0,
        }),
    );
    site.rebuild(&shape());
    for _ in 0..3 {
        assert_eq!(
            leaves_by(&mut site, SITE, &usual_out()),
            (FRAMES, Some(UNDERLAY))
        );
        assert_eq!(
            leaves_by(&mut site, UNDERLAY, &usual_in(RLOC6)),
            (FRAMES, Some(SITE))
        );
    }
    // Other settings, one after the other.
    let checksum = Settings {
        udp_checksum: true,
        ..settings()
    };
    let checked = Settings {
        check_source_rloc: true,
        ..settings()
    };
    let gpe = Settings {
        gpe: true,
        ..settings()
    };
    for (settings, passes) in [
        (checksum, true),
        (settings(), true),
        (gpe, true),
        (settings(), true),
        (checked, false),
        (settings(), true),
    ] {
        site.rib.set_lisp(Some(settings));
        site.rebuild(&shape());
        for _ in 0..3 {
            assert_eq!(
                leaves_by(&mut site, SITE, &usual_out()),
                (FRAMES, Some(UNDERLAY))
            );
            let left = if passes { FRAMES } else { 0 };
            assert_eq!(leaves_by(&mut site, UNDERLAY, &usual_in(RLOC4)).0, left);
        }
    }
    // The prefix behind the router is elsewhere now: the table is changed in place.
    let mut builder = shape().builder();
    let hop = Hop {
        interface: InterfaceId(2),
        via: Some(ip_address("2001:db8:b::ff")),
        weight: 1,
    };
    builder.route(EIDS, ip_net("2001:db8:e:2::/65"), Route::Hops(vec![hop]));
    site.rebuild_with(builder);
    assert_eq!(
        leaves_by(&mut site, UNDERLAY, &usual_in(RLOC6)),
        (FRAMES, Some(SECOND))
    );
}

/// What comes from the far site, with fields that differ from packet to packet.
fn coming(rloc: &str, number: usize) -> Outer {
    Outer {
        hop_limit: [64, 2, 200][number % 3],
        class: [0, 0, 3, 0xb9][number % 4],
        port: 0xc000 + port_of(number),
        lisp: [8, 0, 0, 0, 0, 0, 7, [0, 3][number % 2]],
        ..Outer::from(rloc)
    }
}

fn inside(number: usize) -> Packet {
    let class = [0, 0, 2, 0xb9][number % 4];
    let packet = between6(FAR6, BEHIND).traffic_class(class);
    packet.hop_limit([64, 255, 2][number % 3])
}

fn usual_in(rloc: &str) -> Vec<Vec<u8>> {
    let frame = |number: usize| {
        let packet = inside(number).udp(port_of(number), 53, &data(number));
        coming(rloc, number).frame(&packet.build_ipv6())
    };
    (0..FRAMES).map(frame).collect()
}

fn odd_in(rloc: &str) -> Vec<(&'static str, Vec<u8>)> {
    let outer = || Outer::from(rloc);
    let six = || between6(FAR6, BEHIND);
    let usual = || six().udp(ODD, 53, b"").build_ipv6();
    let inner = |packet: Packet| outer().frame(&packet.udp(ODD, 53, b"").build_ipv6());
    let lisp = |lisp: [u8; 8]| Outer { lisp, ..outer() }.frame(&usual());
    let changed = |at: isize, bytes: &[u8]| {
        // From the end of the outer header, where UDP begins.
        let mut frame = outer().frame(&usual());
        let udp = if rloc.contains(':') { 54 } else { 34 };
        let at = usize::try_from(udp + at).expect("in the frame");
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let summed = |mut frame: Vec<u8>| {
        frame[24..26].fill(0);
        let sum = !ones(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let mut longer = usual();
    longer.extend([9; 4]);
    let mut shorter = usual();
    shorter.truncate(44);
    let mut padded = outer().frame(&usual());
    padded.extend([0; 6]);
    let mut cut = outer().frame(&usual());
    cut.truncate(80);
    let four = Packet4::ethernet(mac(1), mac(2)).ipv4(
        FAR4.parse().expect("an address"),
        HOST4.parse().expect("an address"),
    );
    let mut odd = vec![
        (
            "outer out of hops",
            Outer {
                hop_limit: 1,
                ..outer()
            }
            .frame(&usual()),
        ),
        (
            "outer at 0",
            Outer {
                hop_limit: 0,
                ..outer()
            }
            .frame(&usual()),
        ),
        ("inner out of hops", inner(six().hop_limit(1))),
        ("inner at 0", inner(six().hop_limit(0))),
        (
            "congestion untold",
            Outer {
                class: 3,
                ..outer()
            }
            .frame(&usual()),
        ),
        ("congestion told", {
            let packet = six().traffic_class(1).udp(ODD, 53, b"").build_ipv6();
            Outer {
                class: 3,
                ..outer()
            }
            .frame(&packet)
        }),
        ("with a nonce", lisp([0x88, 1, 2, 3, 0, 0, 7, 0])),
        ("with a key", lisp([9, 0, 0, 0, 0, 0, 7, 0])),
        ("another instance", lisp([8, 0, 0, 0, 0, 0, 8, 0])),
        ("no instance", lisp([0, 0, 0, 0, 0, 0, 7, 0])),
        (
            "right checksum",
            Outer {
                has_checksum: true,
                ..outer()
            }
            .frame(&usual()),
        ),
        ("wrong checksum", changed(6, &[1, 2])),
        ("to another port", changed(2, &[0, 53])),
        ("UDP shorter", changed(5, &[40])),
        ("UDP longer", changed(4, &[9, 9])),
        ("inner longer", outer().frame(&longer)),
        ("inner shorter", outer().frame(&shorter)),
        ("no version", changed(16, &[0x50])),
        (
            "IPv4 inside",
            outer().frame(&four.udp(ODD, 53, b"").build_ipv4()),
        ),
        (
            "to nobody of ours",
            inner(between6(FAR6, "2001:db8:dead::1")),
        ),
        ("to another link", inner(between6(FAR6, HOST6))),
        (
            "to nobody on the link",
            inner(between6(FAR6, "2001:db8:e:1::77")),
        ),
        ("to a group", inner(between6(FAR6, "ff0e::1"))),
        ("from a group", inner(between6("ff0e::1", BEHIND))),
        ("from the link", inner(between6("fe80::1", BEHIND))),
        (
            "too long",
            outer().frame(&six().udp(ODD, 53, &[7; 1460]).build_ipv6()),
        ),
        ("padded", padded),
        ("cut", cut),
        ("not for us", {
            let to = if rloc.contains(':') {
                "2001:db8:cafe::7"
            } else {
                "203.0.113.7"
            };
            Outer::between(rloc, to, FROM_ROUTER).frame(&usual())
        }),
        (
            "not encapsulated",
            Packet::ethernet(mac(0x22), mac(2))
                .ipv6(address(FAR6), address(BEHIND))
                .udp(ODD, 53, b"")
                .build(),
        ),
        ("to another RLOC", changed(-1, &[9])),
        ("to another station", {
            let link = (0x22, 0x77);
            Outer { link, ..outer() }.frame(&usual())
        }),
        ("from another RLOC", {
            let other = if rloc.contains(':') {
                "2001:db8:cafe::8"
            } else {
                "203.0.113.8"
            };
            let own = if rloc.contains(':') { OWN6 } else { OWN4 };
            Outer::between(other, own, FROM_ROUTER).frame(&usual())
        }),
        ("from a group outside", {
            let other = if rloc.contains(':') {
                "ff0e::1"
            } else {
                "224.0.0.8"
            };
            let own = if rloc.contains(':') { OWN6 } else { OWN4 };
            Outer::between(other, own, FROM_ROUTER).frame(&usual())
        }),
    ];
    if rloc == RLOC4 {
        odd.push(("fragment", summed(changed(-14, &[0x20, 0]))));
        odd.push(("last fragment", summed(changed(-14, &[0, 9]))));
        odd.push(("not UDP", summed(changed(-11, &[136]))));
        odd.push(("wrong header checksum", changed(-10, &[1, 2])));
        odd.push(("options", changed(-20, &[0x46])));
        odd.push(("from loopback", summed(changed(-8, &[127, 0, 0, 1]))));
    } else {
        odd.push(("not UDP", changed(-34, &[136])));
    }
    odd
}

/// D-01, D-05 to D-07, D-10, D-15, D-16, D-26, D-28: both outer families, as an ETR and as a proxy, in both models.
#[test]
fn one_packet_that_differs_changes_nothing_for_those_that_are_decapsulated() {
    let proxy = Settings {
        roles: Roles {
            etr: true,
            petr: true,
            ..Roles::default()
        },
        ..settings()
    };
    let pipe = Settings {
        dscp: pipelines::lisp::Dscp::Pipe,
        ..settings()
    };
    let checked = Settings {
        check_source_rloc: true,
        ..settings()
    };
    for (name, settings) in [
        ("site", settings()),
        ("proxy", proxy),
        ("pipe", pipe),
        ("checked", checked),
    ] {
        for rloc in [RLOC6, RLOC4] {
            for (what, odd) in odd_in(rloc) {
                let mut site = Site::new(&shape(), settings.clone());
                site.map_far(&shape(), &[(rloc, 1, 1)]);
                let what = format!("{name}, {rloc}, {what}");
                mix(&mut site, UNDERLAY, &usual_in(rloc), &odd, &what);
            }
        }
    }
}

/// D-26: where an own EID prefix is part of a route, others by the same route are no own EIDs.
#[test]
fn a_route_may_be_wider_than_the_own_eids() {
    let mut shape = shape();
    shape
        .routes
        .push((EIDS, "2001:db8:e:2::/63", vec![(0, HOST6)]));
    shape
        .routes
        .retain(|(_, prefix, _)| *prefix != "2001:db8:e:2::/64");
    let mut settings = settings();
    settings.instances[0].eids = vec![ip_net("2001:db8:e:2::/64")];
    for rloc in [RLOC6, RLOC4] {
        let mut site = Site::new(&shape, settings.clone());
        let packet = between6(FAR6, "2001:db8:e:3::1").udp(ODD, 53, b"");
        let odd = Outer::from(rloc).frame(&packet.build_ipv6());
        mix(&mut site, UNDERLAY, &usual_in(rloc), &odd, rloc);
    }
}

/// D-26: an own RLOC is one wherever a route leads.
#[test]
fn what_is_forwarded_past_an_own_rloc_is_not_opened_and_what_is_to_it_is() {
    let mut shape = shape();
    let vrf = pipelines::tables::VrfId(0);
    shape
        .routes
        .push((vrf, "2001:db8:5::/48", vec![(2, "2001:db8:b::ff")]));
    let mut settings = settings();
    settings.own_rlocs.push(ip_address("2001:db8:5::1"));
    let mut site = Site::new(&shape, settings);
    let link = || Packet::ethernet(mac(0x22), mac(2));
    let usual = |number: usize| {
        let packet = link().ipv6(address(FAR6), address("2001:db8:5::99"));
        packet.udp(port_of(number), 53, &data(number)).build()
    };
    let usual: Vec<_> = (0..FRAMES).map(usual).collect();
    let packet = between6(FAR6, BEHIND).udp(ODD, 53, b"");
    let odd = Outer::between(RLOC6, "2001:db8:5::1", FROM_ROUTER).frame(&packet.build_ipv6());
    mix(&mut site, UNDERLAY, &usual, &odd, "an RLOC in a route");
    assert_eq!(site.counters().lisp_decap.packets.read(), 6);
}
