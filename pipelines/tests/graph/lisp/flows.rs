//! Flows that are remembered: whatever is changed between two bursts, the next one goes as the tables say.

use dataplane::table::publish::Publisher;
use dataplane::testing::builder::Packet;
use pipelines::lisp::{Dscp, Roles, Settings};
use pipelines::tables::VrfId;

use super::site::*;
use crate::bench::*;

/// Another router of the far site, in each family, and an unrelated one.
const SECOND6: &str = "2001:db8:cafe::2";
const SECOND4: &str = "203.0.113.2";
const THIRD6: &str = "2001:db8:cafe::3";
/// Flows of a burst.
const FLOWS: u16 = 29;

/// One packet of each flow, with fields that differ from one to the next and from round to round.
fn burst(round: usize) -> Vec<Vec<u8>> {
    let frame = |flow: u16| {
        let number = usize::from(flow) + round;
        let (from, to) = (
            format!("2001:db8:e:1::{flow:x}"),
            format!("2001:db8:f:{}::20", flow % 3),
        );
        let packet = between6(&from, &to)
            .traffic_class([0, 0xb9, 3, 0x40, 0xff][number % 5])
            .hop_limit([64, 2, 255, 65][number % 4]);
        let data = vec![7; [0, 1240, 3, 1240, 700][number % 5]];
        packet.udp(1000 + flow % 5, 53, &data).build()
    };
    (1..=FLOWS).map(frame).collect()
}

/// A few bursts, so that the last ones are of flows that are known.
fn pass(site: &mut Site, what: &str) {
    let _: Vec<_> = (0..4)
        .map(|round| {
            let sent = site.receive(SITE, &burst(round));
            assert!(!sent.is_empty(), "{what}: {:?}", site.drops());
        })
        .collect();
}

/// Where the packets of a burst went: the outer destinations, and by which port.
fn gone(site: &mut Site, round: usize) -> Vec<(usize, Vec<u8>)> {
    let sent = site.receive(SITE, &burst(round));
    let place = |frame: &[u8]| match frame[14] >> 4 {
        4 => frame[30..34].to_vec(),
        _ => frame[38..54].to_vec(),
    };
    let mut places: Vec<_> = sent
        .iter()
        .map(|(port, frame)| (*port, place(frame)))
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// D-12 to D-22, C-02 to C-06, F-02, F-06: the settings one after the other, with every change that is made in place.
#[test]
fn what_is_remembered_holds_until_something_changes() {
    let pipe = Settings {
        dscp: Dscp::Pipe,
        ..settings()
    };
    let gpe = Settings {
        gpe: true,
        ..settings()
    };
    let closed = Settings {
        nonce: true,
        status_bits: true,
        ..settings()
    };
    let proxy = Settings {
        roles: Roles {
            pitr: true,
            ..Roles::default()
        },
        ..settings()
    };
    let other_seed = Settings {
        seed: 0xfeed,
        ..settings()
    };
    let one_family: [&[(&str, u8, u8)]; 3] = [
        &[(RLOC6, 1, 70), (SECOND6, 1, 30)],
        &[(RLOC4, 1, 70), (SECOND4, 1, 30)],
        &[(RLOC6, 1, 50), (SECOND4, 1, 50)],
    ];
    for locators in one_family {
        let shape = Shape::usual();
        let mut site = Site::new(&shape, settings());
        site.map_far(&shape, locators);
        narrow(&mut site, locators[1].0);
        for settings in [&pipe, &gpe, &closed, &proxy, &other_seed, &settings()] {
            site.rib.set_lisp(Some(settings.clone()));
            site.rebuild(&shape);
            pass(&mut site, "other settings");
            change(&mut site, &shape, locators);
        }
    }
}

/// What is learned of a path: the longest packets are answered. Once for a site, whose errors are rationed.
fn narrow(site: &mut Site, router: &str) {
    let router = ip_address(router);
    pass(site, "a wide path");
    let all = site.receive(SITE, &burst(3)).len();
    assert_eq!(all, usize::from(FLOWS));
    let mtu = if router.is_ipv4() { 1316 } else { 1336 };
    site.rib.set_path_mtu(router, Some(mtu));
    let sent = site.receive(SITE, &burst(3));
    let through = sent.iter().filter(|(port, _)| *port != SITE).count();
    assert!(through < all, "the others are answered");
    site.rib.set_path_mtu(router, None);
    pass(site, "a wide path again");
}

/// Whatever can be changed of a site with two locators.
fn change(site: &mut Site, shape: &Shape, locators: &[(&str, u8, u8)]) {
    let first = ip_address(locators[0].0);
    let both = gone(site, 0);
    assert_eq!(both.len(), 2, "some to each");
    // A router that is taken out of use, and comes back.
    site.rib.set_locator(first, false);
    let rest = gone(site, 1);
    assert_eq!(rest.len(), 1);
    assert!(both.contains(&rest[0]));
    site.rib.set_locator(first, true);
    assert_eq!(gone(site, 2), both);
    // The underlay's router has another address on its link, and the next moment another link.
    let mut other = shape.clone();
    other.neighbors[2].2 = 0x23;
    other.neighbors[3].2 = 0x24;
    site.rebuild(&other);
    pass(site, "another router");
    let mut other = shape.clone();
    other.routes = vec![
        (VrfId(0), "::/0", vec![(2, "2001:db8:b::ff")]),
        (VrfId(0), "0.0.0.0/0", vec![(2, "198.51.100.254")]),
    ];
    site.rebuild(&other);
    assert!(gone(site, 0).iter().all(|(port, _)| *port == SECOND));
    site.rebuild(shape);
    assert_eq!(gone(site, 0), both);
    // The mapping leads elsewhere, then to a set with the number that the first one had. Another mapping has all routers, so
    // that the way to each is known.
    let mut publisher = Publisher::new(());
    let far = ip_net(FAR_NET6);
    let all = [locators[0], (locators[1].0, 1, 99), (THIRD6, 1, 3)];
    site.rib
        .set_mapping(EIDS, ip_net("2001:db8:fd::/48"), to(&all));
    site.rib.set_mapping(EIDS, far, to(&[(THIRD6, 1, 1)]));
    site.rebuild(shape);
    assert_eq!(gone(site, 0).len(), 1);
    site.rib.set_mapping(EIDS, far, to(locators));
    pass(site, "as before");
    // Its other family has the set as well.
    site.rib
        .set_mapping(EIDS, ip_net(FAR_NET4), to(&[(THIRD6, 1, 1)]));
    site.rib.set_mapping(EIDS, far, to(&[(THIRD6, 1, 1)]));
    for _ in 0..2 {
        site.rib.reclaim(&mut publisher);
    }
    site.rib.set_mapping(EIDS, far, to(&locators[1..]));
    let alone = gone(site, 1);
    assert_eq!(alone.len(), 1, "the other router alone");
    assert!(both.contains(&alone[0]));
    site.rib.set_mapping(EIDS, far, to(locators));
    site.rib.set_mapping(EIDS, ip_net(FAR_NET4), to(locators));
    assert_eq!(gone(site, 0), both);
    // A longer prefix, and none.
    let longer = ip_net("2001:db8:f:1::/64");
    site.rib.set_mapping(EIDS, longer, to(&[(THIRD6, 1, 1)]));
    site.rebuild(shape);
    assert_eq!(gone(site, 0).len(), 3);
    site.rib.set_mapping(EIDS, longer, None);
    site.rebuild(shape);
    assert_eq!(gone(site, 1), both);
    // Whoever asks whether it was used hears of every packet.
    assert!(site.rib.was_used(EIDS, far));
    assert!(!site.rib.was_used(EIDS, far));
    pass(site, "to a mapping that was not used");
    assert!(site.rib.was_used(EIDS, far));
}

/// More flows than there is room for, again and again.
#[test]
fn flows_without_number_go_as_the_tables_say() {
    let shape = Shape::usual();
    let mut site = Site::new(&shape, settings());
    site.map_far(&shape, &[(RLOC6, 1, 70), (SECOND6, 1, 30)]);
    let frames: Vec<Vec<u8>> = (0..18_000_u16)
        .map(|flow| six().udp(flow, 53, b"").build())
        .collect();
    for _ in 0..3 {
        for burst in frames.chunks(30) {
            assert_eq!(site.receive(SITE, burst).len(), burst.len());
        }
    }
}

/// Packets that only look as if they were of a known flow: of another protocol, or not for us.
#[test]
fn a_flow_is_known_by_all_that_tells_it_apart() {
    let shape = Shape::usual();
    let mut site = Site::to_one(RLOC6);
    let same = |packet: Packet| packet.udp(5, 53, b"data").build();
    for _ in 0..3 {
        assert_eq!(site.receive(SITE, &[same(six()), same(six())]).len(), 2);
    }
    let mut others = vec![same(between6(HOST6, "2001:db8:f:1::21"))];
    others.push(same(between6("2001:db8:e:1::11", FAR6)));
    // Within the first and the last bytes of each field.
    for at in [
        0, 12, 14, 18, 19, 20, 21, 22, 29, 37, 38, 45, 53, 54, 55, 56, 57,
    ] {
        let mut other = same(six());
        other[at] ^= 1;
        others.push(other);
    }
    // Even where everything is mapped, a group and nobody are not.
    site.rib
        .set_mapping(EIDS, ip_net("::/0"), to(&[(RLOC6, 1, 1)]));
    site.rebuild(&shape);
    others.push(same(between6(HOST6, "ff0e::1")));
    others.push(same(between6(HOST6, "::")));
    for other in others {
        site.receive(SITE, &[same(six()), other.clone(), other, same(six())]);
        for _ in 0..3 {
            assert_eq!(site.receive(SITE, &[same(six()), same(six())]).len(), 2);
        }
    }
}

/// A frame that is longer than its packet, or shorter, is not what its flow's last one was, whatever it begins with.
#[test]
fn a_frame_of_another_length_is_not_as_the_last_one() {
    for rloc in ["2001:db8:cafe::1", "203.0.113.1"] {
        let mut site = Site::to_one(rloc);
        let usual = burst(0);
        let _: Vec<_> = (0..3).map(|_| site.receive(SITE, &usual)).collect();
        for odd in [1, 46] {
            let mut frames = usual.clone();
            frames[4].extend(vec![0; odd]);
            assert_eq!(site.receive(SITE, &frames).len(), frames.len());
        }
        let mut frames = usual.clone();
        frames[4].pop();
        assert_eq!(site.receive(SITE, &frames).len(), frames.len() - 1);
    }
}
