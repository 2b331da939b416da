//! RTR, proxy ITR and proxy ETR.

use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::Packet;
use pipelines::lisp::{InstanceSpec, Miss, Roles, Settings};
use pipelines::tables::VrfId;

use super::encap::error6;
use super::site::*;
use crate::bench::{address, ip_address, ip_net, mac};

const RTR: Roles = Roles {
    itr: false,
    etr: false,
    pitr: false,
    petr: false,
    rtr: true,
};

/// A box in the middle: its instance's VRF has no interface.
fn middle() -> (Shape, Settings) {
    let mut shape = Shape::usual();
    shape.interfaces[0].vrf = VrfId(0);
    let mut settings = Settings {
        roles: RTR,
        ..settings()
    };
    settings.instances[0].vrf = VrfId(5);
    settings.instances[0].eids.clear();
    (shape, settings)
}

/// D-17, D-14, D-19: opened and encapsulated again, either family by either: one hop less than the old outer one, congestion
/// through both steps.
#[test]
fn d17_an_rtr_encapsulates_again() {
    for (from, onward) in [
        (RLOC6, RLOC6),
        (RLOC6, RLOC4),
        (RLOC4, RLOC6),
        (RLOC4, RLOC4),
    ] {
        let (shape, settings) = middle();
        let mut site = Site::new(&shape, settings);
        for prefix in [FAR_NET6, FAR_NET4] {
            site.rib
                .set_mapping(VrfId(5), ip_net(prefix), to(&[(onward, 1, 1)]));
        }
        site.rebuild(&shape);
        let old = Outer {
            hop_limit: 40,
            class: 0xb8 | 3,
            ..Outer::from(from)
        };
        let (six, four) = (
            six().traffic_class(2).udp(1, 2, b"x"),
            four().traffic_class(2).udp(1, 2, b"x"),
        );
        for (packet, expected) in [
            (
                six.build_ipv6(),
                six.hop_limit(39).traffic_class(0xbb).build_ipv6(),
            ),
            (
                four.build_ipv4(),
                four.ttl(39).traffic_class(0xbb).build_ipv4(),
            ),
        ] {
            let (port, sent) = site.pass(UNDERLAY, old.frame(&packet));
            let new = Outer::to(onward).with_entropy_of(&sent);
            let new = Outer {
                hop_limit: 39,
                class: 0xbb,
                ..new
            };
            assert_eq!((port, sent), (UNDERLAY, new.frame(&expected)));
        }
        let counters = site.counters();
        assert_eq!(counters.lisp_decap.packets.read(), 2);
        assert_eq!(counters.lisp_encap.packets.read(), 2);
        assert_eq!(site.drops(), []);
    }
}

/// D-18: an RTR is a hop too: it answers by way of the tunnel, if it knows one back, and never panics without mappings.
#[test]
fn d18_an_rtr_answers_where_the_hops_end() {
    let (shape, settings) = middle();
    let mut site = Site::new(&shape, settings);
    let packet = six().udp(1, 2, b"x").build_ipv6();
    // Nothing is mapped yet: no route, and none for the answer.
    assert_eq!(
        site.receive(UNDERLAY, &[Outer::from(RLOC6).frame(&packet)]),
        []
    );
    assert_eq!(site.counters().dropped(DropReason::NoRoute), 2);
    for prefix in [FAR_NET6, "2001:db8:e::/48"] {
        site.rib
            .set_mapping(VrfId(5), ip_net(prefix), to(&[(RLOC4, 1, 1)]));
    }
    site.rebuild(&shape);
    let (_, sent) = site.pass(
        UNDERLAY,
        Outer {
            hop_limit: 1,
            ..Outer::from(RLOC6)
        }
        .frame(&packet),
    );
    assert_eq!(crate::error(inner(&sent)).0, 3);
}

/// A miss of an RTR is handed over, and what was held goes on in its instance, which has no interface.
#[test]
fn an_rtr_holds_a_miss_in_its_instance() {
    let (shape, mut settings) = middle();
    settings.miss = Miss::Hold;
    settings.instances[0].map_request = vec![ip_net("::/0")];
    let mut site = Site::new(&shape, settings.clone());
    site.rebuild(&shape);
    let frame = Outer::from(RLOC6).frame(&six().udp(1, 2, b"x").build_ipv6());
    assert_eq!(site.receive(UNDERLAY, &[frame.clone(), frame]), []);
    let mut held = site.punted();
    assert_eq!(held[0].reason, PuntReason::MapCacheMiss);
    site.rib
        .set_mapping(VrfId(5), ip_net(FAR_NET6), to(&[(RLOC4, 1, 1)]));
    site.rebuild(&shape);
    let sent = site.resume(held.remove(0));
    assert_eq!((sent.len(), rloc(&sent[0].1)), (1, ip_address(RLOC4)));
    // The instance goes meanwhile: its packet is nobody's.
    settings.instances[0].vrf = VrfId(6);
    site.rib.set_lisp(Some(settings));
    site.rebuild(&shape);
    assert_eq!(site.resume(held.remove(0)), []);
    assert_eq!(site.drops(), [(DropReason::LispUnknownInstance, 1)]);
}

/// a proxy ITR encapsulates for everybody.
#[test]
fn x01_a_proxy_itr_encapsulates_for_strangers() {
    let roles = Roles {
        pitr: true,
        ..Roles::default()
    };
    let mut site = Site::new(
        &Shape::usual(),
        Settings {
            roles,
            ..settings()
        },
    );
    site.map_far(&Shape::usual(), &[(RLOC6, 1, 1)]);
    for packet in [between6("2600::1", FAR6), six()] {
        let packet = packet.udp(1, 2, b"x");
        let (port, sent) = site.pass(SITE, packet.build());
        assert_eq!(
            (port, inner(&sent)),
            (UNDERLAY, &packet.hop_limit(63).build_ipv6()[..])
        );
    }
    let packet = between4("8.8.8.8", FAR4).udp(1, 2, b"x");
    let (_, sent) = site.pass(SITE, packet.build());
    assert_eq!(inner(&sent), packet.ttl(63).build_ipv4());
    // It opens nothing: that is another role.
    let back = Outer::from(RLOC6).frame(&between6(FAR6, HOST6).udp(1, 2, b"x").build_ipv6());
    assert_eq!(error6(&site.pass(UNDERLAY, back).1).0, 1);
}

/// a proxy ETR forwards what it opens like any packet, and asks who sent it where that is configured.
#[test]
fn x02_a_proxy_etr_checks_the_source() {
    let roles = Roles {
        petr: true,
        ..Roles::default()
    };
    let settings = Settings {
        roles,
        check_source_rloc: true,
        ..settings()
    };
    let mut shape = Shape::usual();
    shape.interfaces[SECOND].vrf = EIDS;
    shape
        .routes
        .push((EIDS, "::/0", vec![(2, "2001:db8:b::ff")]));
    let mut site = Site::new(&shape, settings);
    site.map_far(&shape, &[(RLOC6, 1, 1)]);
    let packet = between6(FAR6, "2600::1").udp(1, 2, b"x");
    let (port, sent) = site.pass(UNDERLAY, Outer::from(RLOC6).frame(&packet.build_ipv6()));
    let expected = Packet::ethernet(mac(3), mac(0x33))
        .ipv6(address(FAR6), address("2600::1"))
        .hop_limit(63)
        .udp(1, 2, b"x");
    assert_eq!((port, sent), (SECOND, expected.build()));
    assert_eq!(
        site.receive(UNDERLAY, &[Outer::from(RLOC4).frame(&packet.build_ipv6())]),
        []
    );
    assert_eq!(site.drops(), [(DropReason::LispSourceRloc, 1)]);
}

/// LISP goes: mappings go with it, and what was encapsulated is not.
#[test]
fn without_settings_there_are_no_mappings() {
    let shape = Shape::usual();
    let mut site = Site::to_one(RLOC6);
    let frame = six().udp(1, 2, b"x").build();
    let back = Outer::from(RLOC6).frame(&between6(FAR6, HOST6).udp(1, 2, b"x").build_ipv6());
    for _ in 0..3 {
        site.map_far(&shape, &[(RLOC6, 1, 1)]);
        assert_eq!(site.pass(SITE, frame.clone()).0, UNDERLAY);
        assert_eq!(site.pass(UNDERLAY, back.clone()).0, SITE);
        site.rib.set_lisp(None);
        site.rebuild(&shape);
        assert_eq!(site.rib.mappings(), 0);
        assert_eq!(error6(&site.pass(SITE, frame.clone()).1).1, 0, "no route");
        assert_eq!(
            error6(&site.pass(UNDERLAY, back.clone()).1).1,
            4,
            "port unreachable"
        );
        site.rib.set_lisp(Some(settings()));
        site.rebuild(&shape);
    }
}

/// A reload that changes the instance's id and our RLOC: mappings stay and say the new ones.
#[test]
fn mappings_outlive_a_change_of_the_settings() {
    let shape = Shape::usual();
    let mut site = Site::to_one(RLOC6);
    let mut settings = settings();
    settings.instances[0] = InstanceSpec {
        id: 9,
        ..settings.instances[0].clone()
    };
    settings.own_rlocs[0] = ip_address("2001:db8:b::1");
    site.rib.set_lisp(Some(settings));
    site.rebuild(&shape);
    let (_, sent) = site.pass(SITE, six().udp(1, 2, b"x").build());
    let new = Outer::between("2001:db8:b::1", RLOC6, TO_ROUTER).with_entropy_of(&sent);
    let new = Outer {
        hop_limit: 63,
        lisp: [8, 0, 0, 0, 0, 0, 9, 0],
        ..new
    };
    assert_eq!(
        sent,
        new.frame(&six().hop_limit(63).udp(1, 2, b"x").build_ipv6())
    );
}
