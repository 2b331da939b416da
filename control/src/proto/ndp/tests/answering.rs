//! Answers to solicitations: own addresses (RFC 4861 7.2.3, 7.2.4), proxied prefixes (7.2.7, 7.2.8).

use super::*;

const PROXIED: &str = "2001:db8:1:5::77";

fn uplink(proxied: &str) -> InterfaceConfig {
    InterfaceConfig {
        proxied: vec![proxied.parse().unwrap()],
        ..config()
    }
}

/// 7.2.4: S set, R set (we are a router), O set, target link-layer address always.
#[test]
fn own_addresses_are_answered_to_the_solicitor() {
    let mut bench = Bench::new();
    for (source, target) in [
        (PEER, GLOBAL),
        (GATEWAY, GLOBAL),
        (GATEWAY, LINK_LOCAL),
        (PEER, LINK_LOCAL),
    ] {
        let drained = bench.receive(&solicitation(source, target, &source_mac(PEER_MAC)));
        let answer = drained.only();
        assert_eq!(answer.kind, ADVERTISEMENT);
        assert_eq!(answer.flags(), "RSO");
        assert_eq!(answer.hop_limit, 255);
        assert_eq!(answer.mac, PEER_MAC);
        assert_eq!(answer.destination, ip(source));
        assert_eq!((answer.source, answer.target()), (ip(target), ip(target)));
        assert_eq!(answer.options(), target_mac(MAC));
    }
    assert_eq!(bench.count(Counter::AdvertisementsSent), 4);
}

/// 7.2.4: "If the source of the solicitation is the unspecified address, the node MUST set the Solicited flag to zero
/// and multicast the advertisement to the all-nodes address."
#[test]
fn a_probe_for_an_own_address_is_answered_to_all_nodes() {
    let mut bench = Bench::new();
    let drained = bench.receive(&solicitation("::", GLOBAL, &nonce([9; 6])));
    let answer = drained.only();
    assert_eq!(answer.flags(), "RO");
    assert_eq!(answer.destination, ip(ALL_NODES));
    assert_eq!(answer.target(), ip(GLOBAL));
    assert_eq!(answer.options(), target_mac(MAC));
    assert_eq!(bench.machine.neighbors().count(), 0);
    let state = bench.machine.address_state(WAN, any(GLOBAL));
    assert_eq!(state, Some(super::super::AddressState::Preferred));
}

/// 7.2.3, 7.3.1: a unicast solicitation may come without an address: the cache knows it, or the frame does.
#[test]
fn a_solicitation_without_address_is_answered_where_it_came_from() {
    let mut bench = Bench::new();
    let bare = solicitation(PEER, GLOBAL, &[]);
    assert_eq!(bench.receive(&bare).only().mac, PEER_MAC);
    assert_eq!(bench.machine.neighbors().count(), 0);
    bench.make_reachable(PEER, OTHER_MAC);
    assert_eq!(bench.receive(&bare).only().mac, OTHER_MAC);
}

/// 7.2.3: discarded when the target is none of ours.
#[test]
fn other_targets_are_not_answered_and_nothing_is_learned() {
    let mut bench = Bench::new();
    let message = solicitation(PEER, "2001:db8:a::55", &source_mac(PEER_MAC));
    bench.receive(&message).assert_silent();
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.count(Counter::SolicitationsForOthers), 1);
}

/// Ours: a source that is not on-link here is answered, since it may know us by a route, but does not get into the
/// cache (RFC 5942 4: hearing from an address does not make it a neighbour).
#[test]
fn a_source_that_is_not_on_link_is_answered_and_not_learned() {
    let mut bench = Bench::new();
    let drained = bench.receive(&solicitation(
        "2001:db8:bad::1",
        GLOBAL,
        &source_mac(PEER_MAC),
    ));
    assert_eq!(drained.only().mac, PEER_MAC);
    assert_eq!(drained.only().destination, ip("2001:db8:bad::1"));
    assert_eq!(drained.changes, 0);
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.count(Counter::SourceNotOnLink), 1);
}

/// Ours: what we sent ourselves and get back is not a question.
#[test]
fn own_messages_that_come_back_are_ignored() {
    let mut bench = Bench::new();
    bench.resolve(PEER, 1).unwrap();
    let own = bench.drain().only().packet.clone();
    assert_eq!(bench.input(MAC, &own), Handled::Consumed);
    bench.drain().assert_silent();
    let own = solicitation(LINK_LOCAL, GLOBAL, &source_mac(MAC));
    assert_eq!(bench.input(MAC, &own), Handled::Consumed);
    bench.drain().assert_silent();
    assert_eq!(bench.count(Counter::Looped), 2);
}

/// Ours: somebody who asks in our name is told of.
#[test]
fn a_stranger_with_our_address_is_told_of_and_not_answered() {
    let mut bench = Bench::new();
    let drained = bench.receive(&solicitation(GLOBAL, LINK_LOCAL, &source_mac(PEER_MAC)));
    assert!(drained.sent.is_empty());
    let conflict = Event::AddressConflict {
        interface: WAN,
        address: any(GLOBAL),
        by: PEER_MAC,
    };
    assert_eq!(drained.events, [conflict]);
}

/// 7.2.8: S set, O clear; from an address of ours.
#[test]
fn a_proxied_prefix_is_answered_without_override() {
    let mut bench = Bench::quiet(settings(), uplink("2001:db8:1::/48"));
    let drained = bench.receive(&solicitation(PEER, PROXIED, &source_mac(PEER_MAC)));
    let answer = drained.only();
    assert_eq!(answer.flags(), "RS");
    assert_eq!(answer.source, ip(LINK_LOCAL));
    assert_eq!(answer.target(), ip(PROXIED));
    assert_eq!((answer.destination, answer.mac), (ip(PEER), PEER_MAC));
    assert_eq!(answer.options(), target_mac(MAC));
    assert_eq!(bench.count(Counter::ProxyAdvertisementsSent), 1);
    // One bit outside the prefix.
    let outside = solicitation(PEER, "2001:db8:2::1", &source_mac(PEER_MAC));
    assert!(bench.receive(&outside).sent.is_empty());
}

/// 7.2.8: never for own addresses, which are answered with O.
#[test]
fn own_addresses_inside_a_proxied_prefix_are_answered_as_own() {
    let mut bench = Bench::quiet(settings(), uplink("2001:db8:a::/48"));
    let drained = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    assert_eq!(drained.only().flags(), "RSO");
}

/// Ours: a real node of the prefix speaks for itself: a learned, a static neighbour, a gateway even before it is
/// resolved.
#[test]
fn real_neighbours_inside_a_proxied_prefix_are_left_alone() {
    let mut with_static = uplink("2001:db8:a::/48");
    with_static.statics = vec![(any("2001:db8:a::5"), OTHER_MAC)];
    let mut bench = Bench::quiet(settings(), with_static);
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any("2001:db8:a::6")]);
    // Not on-link for us, but on the link: learned from its announcement.
    let real = "2001:db8:a:9::7";
    let announcement = advertisement(real, ALL_NODES, "O", &target_mac(OTHER_MAC));
    bench.receive(&announcement);
    for target in ["2001:db8:a::5", "2001:db8:a::6", real] {
        let drained = bench.receive(&solicitation(PEER, target, &source_mac(PEER_MAC)));
        assert!(drained.sent.is_empty(), "{target}");
    }
    assert_eq!(bench.count(Counter::ProxyLeftToNeighbor), 3);
}

/// Ours: an answer to a probe would forbid the provider's router its own address in the prefix (RFC 4862 5.4.4).
#[test]
fn probes_inside_a_proxied_prefix_are_not_answered() {
    let mut bench = Bench::quiet(settings(), uplink("2001:db8:1::/48"));
    bench
        .receive(&solicitation("::", PROXIED, &[]))
        .assert_silent();
    assert_eq!(bench.count(Counter::ProxyProbesIgnored), 1);
}

/// 7.2.7, 7.2.8: a random delay between 0 and MAX_ANYCAST_DELAY_TIME, unless sole proxy.
#[test]
fn proxy_answers_can_be_delayed_and_yield_to_the_owner() {
    let delayed = Settings {
        proxy_delay: SECOND,
        ..settings()
    };
    let mut bench = Bench::quiet(delayed, uplink("2001:db8:1::/48"));
    let question = solicitation(PEER, PROXIED, &source_mac(PEER_MAC));
    assert!(bench.receive(&question).sent.is_empty());
    let drained = bench.after(SECOND);
    assert_eq!(drained.only().target(), ip(PROXIED));

    assert!(bench.receive(&question).sent.is_empty());
    bench.receive(&advertisement(
        PROXIED,
        ALL_NODES,
        "O",
        &target_mac(OTHER_MAC),
    ));
    assert!(bench.after(SECOND).sent.is_empty());
    assert_eq!(bench.count(Counter::ProxyLeftToNeighbor), 1);

    // A flood of questions is answered, early at worst; a link that goes down takes the answers along.
    for index in 0..1000 {
        let target = format!("2001:db8:1:6::{index:x}");
        bench.receive(&solicitation(PEER, &target, &source_mac(PEER_MAC)));
    }
    assert!(bench.machine.timers_len() < 300);
    bench.machine.set_link(bench.now, WAN, false);
    bench.drain();
    bench.run(10 * SECOND);
    bench.drain().assert_silent();
}

/// The loop of an answer for a proxied address must not make us our own neighbour.
#[test]
fn own_proxy_answers_that_come_back_are_not_learned() {
    let mut bench = Bench::quiet(settings(), uplink("2001:db8:a::/48"));
    let inside = "2001:db8:a::77";
    let drained = bench.receive(&solicitation(PEER, inside, &source_mac(PEER_MAC)));
    let own = drained.only().packet.clone();
    assert_eq!(bench.input(MAC, &own), Handled::Consumed);
    assert_eq!(bench.mac(inside), None);
    assert_eq!(bench.count(Counter::Looped), 1);
}

/// Ours: who asks about the address it asks from has that address.
#[test]
fn a_node_that_asks_about_itself_is_not_answered_by_proxy() {
    let mut bench = Bench::quiet(settings(), uplink("2001:db8:1::/48"));
    let message = solicitation(PROXIED, PROXIED, &source_mac(PEER_MAC));
    bench.receive(&message).assert_silent();
    assert_eq!(bench.count(Counter::ProxyLeftToNeighbor), 1);
}

/// A delayed answer is not sent when its prefix has been taken away meanwhile.
#[test]
fn delayed_answers_follow_the_configuration() {
    let delayed = Settings {
        proxy_delay: SECOND,
        ..settings()
    };
    let mut bench = Bench::quiet(delayed, uplink("2001:db8:1::/48"));
    bench.receive(&solicitation(PEER, PROXIED, &source_mac(PEER_MAC)));
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    assert!(bench.after(2 * SECOND).sent.is_empty());
}

/// Ours: a message that names our own link-layer address as somebody's is an echo of ours, whoever carries it.
#[test]
fn nobody_else_has_our_link_layer_address() {
    let mut bench = Bench::new();
    bench
        .receive(&solicitation(PEER, GLOBAL, &source_mac(MAC)))
        .assert_silent();
    bench
        .receive(&advertisement(PEER, ALL_NODES, "O", &target_mac(MAC)))
        .assert_silent();
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.count(Counter::Looped), 2);
}
