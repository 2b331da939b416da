//! LISP beside NPT66 and plain routing in one box, and in one VRF.

use dataplane::frame::Frame;
use dataplane::reason::PuntReason;
use dataplane::testing::builder::Packet;
use pipelines::lisp::{Miss, Roles, Settings};
use pipelines::npt66::{Spec, ZeroIid};
use pipelines::tables::{InterfaceId, VrfId};

use super::site::*;
use crate::bench::{address, ip_address, ip_net, mac, net};

/// The site's EIDs are translated to the second provider's prefix for whoever has no mapping; all in one VRF.
fn shape() -> Shape {
    let mut shape = Shape::usual();
    shape.interfaces[0].vrf = VrfId(0);
    shape.routes = vec![
        (VrfId(0), "::/0", vec![(2, "2001:db8:b::ff")]),
        (VrfId(0), "2001:db8:cafe::/48", vec![(1, "2001:db8:a::ff")]),
        (VrfId(0), "203.0.113.0/24", vec![(1, "192.0.2.254")]),
    ];
    shape.rules = vec![Spec {
        interface: InterfaceId(2),
        inside: net("2001:db8:e::/48"),
        outside: net("2001:db8:1::/48"),
        zero_iid: ZeroIid::Drop,
    }];
    shape
}

fn one_vrf() -> Settings {
    let mut settings = settings();
    settings.instances[0].vrf = VrfId(0);
    settings
}

fn far(site: &mut Site, shape: &Shape, rloc: &str) {
    site.rib
        .set_mapping(VrfId(0), ip_net(FAR_NET6), to(&[(rloc, 1, 1)]));
    site.rebuild(shape);
}

fn outside_of(frame: &[u8]) -> [u8; 16] {
    crate::source(&frame[14..])
}

/// Issue, point 7: EIDs are encapsulated and not translated, others are translated and not encapsulated, both ways.
#[test]
fn eids_are_encapsulated_and_others_translated() {
    let shape = shape();
    let mut site = Site::new(&shape, one_vrf());
    far(&mut site, &shape, RLOC6);
    let burst: Vec<_> = (0..64)
        .map(|n| {
            between6(HOST6, if n % 2 == 0 { FAR6 } else { "2600::1" })
                .udp(n, 2, b"x")
                .build()
        })
        .collect();
    let sent = site.receive(SITE, &burst);
    for (port, frame) in &sent {
        if *port == UNDERLAY {
            assert_eq!(crate::source(inner(frame)), address(HOST6).octets());
        } else {
            assert_eq!(
                (*port, &outside_of(frame)[..6]),
                (SECOND, &address("2001:db8:1::").octets()[..6])
            );
        }
    }
    assert_eq!(
        sent.iter().filter(|(port, _)| *port == UNDERLAY).count(),
        32
    );
    assert_eq!(sent.len(), 64);
    // The answers of both.
    let translated = sent
        .iter()
        .find(|(port, _)| *port == SECOND)
        .expect("some are");
    let outside = outside_of(&translated.1);
    let answer = Packet::ethernet(mac(0x33), mac(3)).ipv6(address("2600::1"), outside.into());
    let (port, sent) = site.pass(SECOND, answer.udp(2, 1, b"x").build());
    assert_eq!(
        (port, crate::destination(&sent[14..])),
        (SITE, address(HOST6).octets())
    );
    let answer = Outer::from(RLOC6).frame(&between6(FAR6, HOST6).udp(2, 1, b"x").build_ipv6());
    let (port, sent) = site.pass(UNDERLAY, answer);
    assert_eq!(
        (port, crate::destination(&sent[14..])),
        (SITE, address(HOST6).octets())
    );
    assert_eq!(site.drops(), []);
    let rule = &site.counters().rules[0];
    assert_eq!([rule.out.packets.read(), rule.r#in.packets.read()], [32, 1]);
}

/// The RLOCs are behind the very uplink that translates: our own outer packets are not, nor what comes in them.
#[test]
fn by_the_uplink_that_translates_outer_packets_are_not() {
    let mut shape = shape();
    shape.routes.truncate(1);
    shape
        .routes
        .push((VrfId(0), "0.0.0.0/0", vec![(2, "198.51.100.254")]));
    let mut settings = one_vrf();
    settings.own_rlocs = vec![ip_address("2001:db8:b::1"), ip_address("198.51.100.1")];
    for (rloc_now, own) in [(RLOC6, "2001:db8:b::1"), (RLOC4, "198.51.100.1")] {
        let mut site = Site::new(&shape, settings.clone());
        far(&mut site, &shape, rloc_now);
        for _ in 0..2 {
            let (port, sent) = site.pass(SITE, six().udp(1, 2, b"x").build());
            let outer = Outer::between(own, rloc_now, TO_SECOND).with_entropy_of(&sent);
            let outer = Outer {
                hop_limit: 63,
                ..outer
            };
            let inside = six().hop_limit(63).udp(1, 2, b"x").build_ipv6();
            assert_eq!((port, sent), (SECOND, outer.frame(&inside)));
            let (port, _) = site.pass(SITE, between6(HOST6, "2600::1").udp(1, 2, b"x").build());
            assert_eq!(port, SECOND);
        }
        let back = Outer::between(rloc_now, own, (0x33, 3));
        let back = back.frame(&between6(FAR6, HOST6).udp(2, 1, b"x").build_ipv6());
        let (port, sent) = site.pass(SECOND, back);
        assert_eq!(
            (port, crate::destination(&sent[14..])),
            (SITE, address(HOST6).octets())
        );
        assert_eq!(site.drops(), []);
        assert_eq!(site.counters().rules[0].out.packets.read(), 2);
    }
}

/// What a proxy opens goes out translated like any packet of the site, and is not translated on its way in.
#[test]
fn what_was_opened_is_translated_on_its_way_out_alone() {
    let mut shape = shape();
    // The uplink is the first interface of the VRF: what is opened is told of by it.
    shape.interfaces.swap(0, 2);
    shape
        .neighbors
        .iter_mut()
        .for_each(|neighbor| neighbor.0 = 2 - neighbor.0);
    shape.routes[0].2[0].0 = 0;
    shape.rules[0].interface = InterfaceId(0);
    shape.rules[0].inside = net("2001:db8:f::/48");
    let roles = Roles {
        petr: true,
        ..Roles::default()
    };
    let mut site = Site::new(&shape, Settings { roles, ..one_vrf() });
    let frame = Outer::from(RLOC6).frame(&between6(FAR6, "2600::1").udp(1, 2, b"x").build_ipv6());
    let (port, sent) = site.pass(UNDERLAY, frame);
    assert_eq!(
        (port, &outside_of(&sent)[..6]),
        (SECOND, &address("2001:db8:1::").octets()[..6])
    );
    let rule = &site.counters().rules[0];
    assert_eq!([rule.out.packets.read(), rule.r#in.packets.read()], [1, 0]);
}

/// A miss that goes on natively is translated, and told by the EIDs.
#[test]
fn a_miss_is_told_by_its_eids_and_not_by_their_translation() {
    let shape = shape();
    let mut settings = Settings {
        miss: Miss::Native,
        ..one_vrf()
    };
    settings.instances[0].map_request = vec![ip_net(FAR_NET6)];
    let mut site = Site::new(&shape, settings);
    site.rebuild(&shape);
    let (port, sent) = site.pass(SITE, six().udp(1, 2, b"x").build());
    assert_eq!(
        (port, &outside_of(&sent)[..6]),
        (SECOND, &address("2001:db8:1::").octets()[..6])
    );
    let note = site.punted().remove(0);
    assert_eq!(note.reason, PuntReason::MapCacheMiss);
    assert_eq!(outside_of(note.frame.bytes()), address(HOST6).octets());
}
