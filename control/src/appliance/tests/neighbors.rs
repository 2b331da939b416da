//! Packets to hosts on the links, and our own addresses there.

use std::net::Ipv6Addr;

use dataplane::testing::builder::Packet;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv6;
use dataplane::wire::icmpv6::AdvertisementFlags;

use super::bench::*;
use crate::admin::protocol::Subject;
use crate::admin::view;

#[test]
fn echo_request_is_answered_once_the_way_back_is_known() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 1));
    bench.run(5);
    let sent = bench.sent(INSIDE);
    assert_eq!(
        of_type(&sent, icmpv6::types::NEIGHBOR_SOLICITATION).len(),
        1
    );
    assert_eq!(of_type(&sent, icmpv6::types::ECHO_REPLY).len(), 0);
    bench.advertise(INSIDE, address_of(HOST_ADDRESS), HOST);
    bench.run(10);
    let sent = bench.sent(INSIDE);
    let replies = of_type(&sent, icmpv6::types::ECHO_REPLY);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0][..6], HOST.octets());
    assert_eq!(replies[0][6..12], own_mac(INSIDE).octets());
    // The next one needs nothing but the tables.
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 2));
    bench.run(5);
    let sent = bench.sent(INSIDE);
    assert_eq!(of_type(&sent, icmpv6::types::ECHO_REPLY).len(), 1);
    assert_eq!(sent.len(), 1);
    bench.assert_conserved();
}

#[test]
fn link_local_hosts_get_their_echo_replies_too() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping("fe80::10", "fe80::ff:fe00:1", 1));
    bench.run(5);
    bench.advertise(INSIDE, address_of("fe80::10"), HOST);
    bench.run(10);
    let sent = bench.sent(INSIDE);
    let replies = of_type(&sent, icmpv6::types::ECHO_REPLY);
    assert_eq!(replies.len(), 1, "{sent:02x?}");
    assert_eq!(replies[0][..6], HOST.octets());
    bench.assert_conserved();
}

#[test]
fn packets_wait_for_their_next_hop_and_follow_each_other_in_order() {
    let mut bench = Bench::new(&text(RULE));
    bench.run(10);
    for sequence in 1..=3 {
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "2600::1", sequence));
    }
    bench.run(5);
    assert_eq!(
        of_type(&bench.sent(OUTSIDE), icmpv6::types::ECHO_REQUEST).len(),
        0
    );
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::1"), ROUTER);
    bench.run(10);
    let sent = bench.sent(OUTSIDE);
    let requests = of_type(&sent, icmpv6::types::ECHO_REQUEST);
    let sequences: Vec<u8> = requests.iter().map(|frame| frame[61]).collect();
    assert_eq!(sequences, [1, 2, 3]);
    for request in requests {
        assert_eq!(request[..6], ROUTER.octets());
        assert_eq!(
            request[22..28],
            [0x20, 0x01, 0x0d, 0xb8, 0, 1],
            "translated on its way"
        );
        assert_eq!(request[21], 63);
    }
    bench.assert_conserved();
}

#[test]
fn silent_next_hop_is_answered_with_address_unreachable() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.advertise(INSIDE, address_of(HOST_ADDRESS), HOST);
    // The host is known only once something is sent to it.
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 1));
    bench.run(5);
    bench.advertise(INSIDE, address_of(HOST_ADDRESS), HOST);
    bench.run(10);
    bench.sent(INSIDE);
    let frame = Packet::ethernet(HOST, own_mac(INSIDE))
        .ipv6(address_of(HOST_ADDRESS), address_of("2001:db8:ffff::77"))
        .udp(1, 2, b"x")
        .build();
    bench.feed(INSIDE, &frame);
    bench.run(4000);
    let sent = bench.sent(INSIDE);
    let errors = of_type(&sent, icmpv6::types::DESTINATION_UNREACHABLE);
    assert_eq!(errors.len(), 1);
    assert_eq!(icmp_type(errors[0]), Some((1, 3)));
    let drops: view::Drops = bench.show(Subject::Drops);
    let of = |name: &str| {
        drops
            .drops
            .iter()
            .find(|drop| drop.name == name)
            .unwrap()
            .count
    };
    assert_eq!(of("neighbor_unresolved"), 1);
    bench.assert_conserved();
}

#[test]
fn probing_an_address_does_not_keep_its_prefix_from_being_routed() {
    let mut bench = Bench::new(&text("").replace("dad_transmits = 0", "dad_transmits = 1"));
    bench.run(5);
    let interfaces: view::Interfaces = bench.show(Subject::Interfaces);
    assert_eq!(
        interfaces.interfaces[INSIDE].addresses[0].state,
        "tentative"
    );
    // Somebody outside to a host inside, before the appliance may speak itself.
    let frame = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of("2600::1"), address_of(HOST_ADDRESS))
        .udp(1, 2, b"x")
        .build();
    bench.feed(OUTSIDE, &frame);
    bench.run(1500);
    let interfaces: view::Interfaces = bench.show(Subject::Interfaces);
    assert_eq!(
        interfaces.interfaces[INSIDE].addresses[0].state,
        "preferred"
    );
    let drops: view::Drops = bench.show(Subject::Drops);
    let no_route = drops
        .drops
        .iter()
        .find(|drop| drop.name == "no_route")
        .unwrap();
    assert_eq!(no_route.count, 0);
    let misses = drops
        .punts
        .iter()
        .find(|punt| punt.name == "neighbor_miss")
        .unwrap();
    assert!(misses.count >= 1);
    bench.assert_conserved();
}

#[test]
fn duplicate_address_is_told_and_not_used() {
    let mut bench = Bench::new(&text("").replace("dad_transmits = 0", "dad_transmits = 1"));
    bench.run(5);
    let own = address_of("fd01:203:405:1::1");
    let flags = AdvertisementFlags {
        router: false,
        solicited: false,
        override_cached: true,
    };
    let message = icmpv6::neighbor_advertisement(own, flags, Some(HOST));
    let frame = Packet::ethernet(HOST, Mac::from_octets([0x33, 0x33, 0, 0, 0, 1]))
        .ipv6(own, address_of("ff02::1"))
        .hop_limit(255)
        .icmpv6(&message)
        .build();
    bench.feed(INSIDE, &frame);
    bench.run(1500);
    let interfaces: view::Interfaces = bench.show(Subject::Interfaces);
    assert_eq!(
        interfaces.interfaces[INSIDE].addresses[0].state,
        "duplicate"
    );
    assert_eq!(
        interfaces.interfaces[OUTSIDE].addresses[0].state,
        "preferred"
    );
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 1));
    bench.run(20);
    assert_eq!(
        of_type(&bench.sent(INSIDE), icmpv6::types::ECHO_REPLY).len(),
        0
    );
}

#[test]
fn outside_prefix_is_answered_for_on_its_uplink_where_that_is_asked_for() {
    let target = address_of("2001:db8:1:d550::10");
    let mut group = address_of("ff02::1:ff00:0").octets();
    group[13..].copy_from_slice(&target.octets()[13..]);
    let ethernet_group = Mac::multicast_for(Ipv6Addr::from(group));
    let message = icmpv6::neighbor_solicitation(target, Some(ROUTER));
    let solicitation = Packet::ethernet(ROUTER, ethernet_group)
        .ipv6(address_of("2001:db8:ffff::1"), Ipv6Addr::from(group))
        .hop_limit(255)
        .icmpv6(&message)
        .build();
    for (proxied, answers) in [("proxy_nd = true\n", 1), ("", 0)] {
        let mut bench = Bench::new(&text(&(RULE.to_owned() + proxied)));
        bench.run(10);
        bench.sent(OUTSIDE);
        bench.feed(OUTSIDE, &solicitation);
        bench.run(10);
        let sent = bench.sent(OUTSIDE);
        let found = of_type(&sent, icmpv6::types::NEIGHBOR_ADVERTISEMENT);
        assert_eq!(found.len(), answers);
        bench.assert_conserved();
    }
}
