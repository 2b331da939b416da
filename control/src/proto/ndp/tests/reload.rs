//! A changed configuration disturbs nothing that it leaves as it was.

use super::super::AddressState;
use super::*;

#[test]
fn the_same_configuration_again_does_nothing() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    let timers = bench.machine.timers_len();
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    bench.drain().assert_silent();
    assert_eq!(bench.machine.timers_len(), timers);
}

#[test]
fn an_added_address_is_probed_and_the_others_stay() {
    let mut bench = Bench::quiet(
        Settings {
            dad_transmits: 1,
            ..settings()
        },
        config(),
    );
    bench.make_reachable(PEER, PEER_MAC);
    let mut more = config();
    more.addresses.push("2001:db8:b::1/64".parse().unwrap());
    bench.machine.set_interface(bench.now, WAN, Some(more));
    let drained = bench.drain();
    let probes: Vec<_> = drained
        .sent
        .iter()
        .filter(|s| s.kind == SOLICITATION)
        .collect();
    assert_eq!(probes.len(), 1);
    assert_eq!(probes[0].target(), ip("2001:db8:b::1"));
    let state = |bench: &Bench, address| bench.machine.address_state(WAN, any(address));
    assert_eq!(state(&bench, GLOBAL), Some(AddressState::Preferred));
    assert_eq!(
        state(&bench, "2001:db8:b::1"),
        Some(AddressState::Tentative)
    );
    assert_eq!(bench.state(PEER), Some(NeighborState::Reachable));
    bench.run(SECOND);
    assert_eq!(
        state(&bench, "2001:db8:b::1"),
        Some(AddressState::Preferred)
    );
}

/// A removed address is not answered for; its prefix is not on-link any more, and who waited there is told.
#[test]
fn a_removed_address_takes_its_neighbours_along() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    bench.make_reachable(GATEWAY, OTHER_MAC);
    bench.resolve("2001:db8:a::31", 3).unwrap();
    bench.drain();
    let mut less = config();
    less.addresses.clear();
    bench.machine.set_interface(bench.now, WAN, Some(less));
    let drained = bench.drain();
    assert_eq!(drained.failed, [3]);
    assert_eq!(drained.changes, 1);
    assert_eq!(bench.mac(PEER), None);
    assert_eq!(bench.mac(GATEWAY), Some(OTHER_MAC));
    assert_eq!(bench.machine.address_state(WAN, any(GLOBAL)), None);
    let question = solicitation(GATEWAY, GLOBAL, &source_mac(OTHER_MAC));
    assert!(bench.receive(&question).sent.is_empty());
}

#[test]
fn static_neighbours_come_and_go() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    let mut with_static = config();
    with_static.statics = vec![(any(PEER), OTHER_MAC)];
    bench
        .machine
        .set_interface(bench.now, WAN, Some(with_static));
    assert_eq!(bench.drain().changes, 1);
    assert_eq!(bench.mac(PEER), Some(OTHER_MAC));
    assert_eq!(bench.machine.neighbors().count(), 1);
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    assert_eq!(bench.drain().changes, 1);
    assert_eq!(bench.mac(PEER), None);
}

/// RFC 4861 7.2.6: another link-layer address is announced for every own address.
#[test]
fn a_changed_mac_is_announced() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    let mut changed = config();
    changed.mac = OTHER_MAC;
    bench.machine.set_interface(bench.now, WAN, Some(changed));
    let drained = bench.drain();
    let targets: Vec<Ipv6Addr> = drained
        .sent
        .iter()
        .filter(|sent| sent.kind == ADVERTISEMENT)
        .inspect(|sent| assert_eq!(sent.options(), target_mac(OTHER_MAC)))
        .map(Sent::target)
        .collect();
    assert_eq!(targets, [ip(GLOBAL), ip(LINK_LOCAL)]);
    assert_eq!(bench.state(PEER), Some(NeighborState::Reachable));
}

#[test]
fn a_removed_interface_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(GATEWAY)]);
    bench.resolve(GATEWAY, 5).unwrap();
    bench.drain();
    bench.machine.set_interface(bench.now, WAN, None);
    let drained = bench.drain();
    assert_eq!(drained.failed, [5]);
    assert_eq!(drained.changes, 1);
    assert!(drained.sent.is_empty());
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.machine.addresses().count(), 0);
    assert_eq!(bench.machine.timers_len(), 0);
    // Calls for an interface that is not there do nothing.
    bench.machine.set_interface(bench.now, WAN, None);
    bench.machine.set_link(bench.now, WAN, true);
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(GATEWAY)]);
    bench.machine.confirm_in_use(bench.now, WAN, any(PEER));
    bench.drain().assert_silent();
}

/// Interfaces do not know each other's neighbours and addresses.
#[test]
fn interfaces_are_apart() {
    let lan = InterfaceIndex(4);
    let mut bench = Bench::new();
    let mut other = config();
    other.mac = OTHER_MAC;
    other.addresses = vec!["2001:db8:b::1/64".parse().unwrap()];
    bench.machine.set_interface(bench.now, lan, Some(other));
    bench.run(10 * SECOND);
    bench.drain();
    bench.make_reachable(GATEWAY, PEER_MAC);
    assert_eq!(bench.machine.usable(lan, any(GATEWAY)), None);
    // The other's address is not ours here.
    let question = solicitation(PEER, "2001:db8:b::1", &source_mac(PEER_MAC));
    assert!(bench.receive(&question).sent.is_empty());
    bench
        .machine
        .resolve(bench.now, lan, any(GATEWAY), 1)
        .unwrap();
    let drained = bench.drain();
    assert_eq!(drained.only().interface, lan);
    assert_eq!(drained.only().options(), source_mac(OTHER_MAC));
    bench.machine.set_link(bench.now, lan, false);
    assert_eq!(bench.drain().failed, [1]);
    assert_eq!(bench.mac(GATEWAY), Some(PEER_MAC));
}

/// Smaller limits take effect at once, as far as neighbours can be spared.
#[test]
fn smaller_limits_evict() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    for index in 0x10..0x20 {
        let host = format!("2001:db8:a::{index:x}");
        bench.receive(&advertisement(
            &host,
            ALL_NODES,
            "O",
            &target_mac(OTHER_MAC),
        ));
    }
    assert_eq!(bench.machine.neighbors().count(), 17);
    let smaller = Settings {
        max_neighbors: 4,
        ..settings()
    };
    bench.machine.set_settings(smaller);
    assert_eq!(bench.drain().changes, 1);
    assert_eq!(bench.machine.neighbors().count(), 4);
    assert_eq!(bench.mac(PEER), Some(PEER_MAC));
}
