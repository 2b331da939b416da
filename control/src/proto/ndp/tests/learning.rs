//! Neighbours learned from messages, without asking (RFC 4861 7.2.3, 7.2.5; RFC 9131 6.1.1), and static ones.

use super::*;

/// RFC 4861 7.2.3: an entry for the source of a solicitation is STALE.
#[test]
fn a_solicitor_is_learned_as_stale() {
    let mut bench = Bench::new();
    let drained = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    assert_eq!(drained.changes, 1);
    assert_eq!(bench.state(PEER), Some(NeighborState::Stale));
    assert_eq!(bench.mac(PEER), Some(PEER_MAC));
    // The same again changes nothing; another address does.
    let drained = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    assert_eq!(drained.changes, 0);
    bench.make_reachable(PEER, PEER_MAC);
    let drained = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(OTHER_MAC)));
    assert_eq!(drained.changes, 1);
    assert_eq!(bench.mac(PEER), Some(OTHER_MAC));
    assert_eq!(bench.state(PEER), Some(NeighborState::Stale));
    let moved = Event::NeighborMoved {
        interface: WAN,
        address: any(PEER),
        from: PEER_MAC,
        to: OTHER_MAC,
    };
    assert_eq!(drained.events, [moved]);
}

/// RFC 9131 6.1.1: routers create a STALE entry from an advertisement they did not ask for; hosts discard it.
#[test]
fn an_unsolicited_advertisement_creates_a_stale_entry() {
    for (destination, flags) in [
        (ALL_NODES, "O"),
        (ALL_NODES, ""),
        ("ff02::2", "O"),
        (GLOBAL, "SO"),
    ] {
        let mut bench = Bench::new();
        let message = advertisement(PEER, destination, flags, &target_mac(PEER_MAC));
        let drained = bench.receive(&message);
        assert_eq!(drained.changes, 1);
        assert_eq!(bench.state(PEER), Some(NeighborState::Stale), "{flags}");
        assert_eq!(bench.mac(PEER), Some(PEER_MAC));
    }
}

/// RFC 9131 6.1.1: without the option "the advertisement SHOULD be silently discarded".
#[test]
fn an_advertisement_without_address_creates_nothing() {
    let mut bench = Bench::new();
    bench
        .receive(&advertisement(PEER, ALL_NODES, "O", &[]))
        .assert_silent();
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.count(Counter::AdvertisementsUnknown), 1);
}

/// RFC 5942 4: no message makes an address on-link.
#[test]
fn addresses_that_are_not_on_link_are_not_learned() {
    let mut bench = Bench::new();
    for target in ["2001:db8:b::1", "::1", "::"] {
        let message = advertisement(target, ALL_NODES, "O", &target_mac(PEER_MAC));
        bench.receive(&message).assert_silent();
    }
    assert_eq!(bench.machine.neighbors().count(), 0);
}

/// RFC 4861 7.2.5: the R flag is kept with the entry.
#[test]
fn the_router_flag_follows_the_last_advertisement() {
    let mut bench = Bench::new();
    let router = |bench: &Bench| bench.machine.neighbors().next().unwrap().is_router;
    bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    assert!(!router(&bench));
    bench.receive(&advertisement(PEER, ALL_NODES, "RO", &target_mac(PEER_MAC)));
    assert!(router(&bench));
    bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    assert!(router(&bench), "a solicitation does not say");
    bench.receive(&advertisement(PEER, ALL_NODES, "O", &target_mac(PEER_MAC)));
    assert!(!router(&bench));
}

/// The configuration's word is final: no message, deadline or link state changes a static neighbour.
#[test]
fn static_neighbours_never_change() {
    let mut with_static = config();
    with_static.statics = vec![(any(PEER), OTHER_MAC)];
    let mut bench = Bench::quiet(settings(), with_static);
    let unchanged = |bench: &Bench| {
        assert_eq!(bench.state(PEER), Some(NeighborState::Static));
        assert_eq!(bench.mac(PEER), Some(OTHER_MAC));
    };
    let answered = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    assert_eq!(
        answered.only().mac,
        OTHER_MAC,
        "answered where we know it to be"
    );
    for flags in ["", "O", "S", "SO"] {
        let message = advertisement(PEER, GLOBAL, flags, &target_mac(PEER_MAC));
        bench.receive(&message).assert_silent();
        unchanged(&bench);
    }
    bench.resolve(PEER, 5).unwrap();
    let drained = bench.drain();
    assert_eq!(drained.ready, [5]);
    assert!(drained.sent.is_empty());
    bench.machine.set_link(bench.now, WAN, false);
    bench.machine.set_link(bench.now, WAN, true);
    bench.run(3600 * SECOND);
    unchanged(&bench);
    assert_eq!(bench.machine.neighbors().count(), 1);
}

/// A message can make no more noise than this, however often it comes.
#[test]
fn strangers_cannot_flood_the_log() {
    let mut bench = Bench::new();
    let mut events = 0;
    for index in 0..1000 {
        let mac = if index % 2 == 0 { PEER_MAC } else { OTHER_MAC };
        let drained = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(mac)));
        events += drained.events.len();
    }
    assert_eq!(events, 20);
    assert_eq!(bench.count(Counter::EventsSuppressed), 999 - 20);
    bench.run(SECOND);
    bench.drain();
    for mac in [PEER_MAC, OTHER_MAC] {
        let drained = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(mac)));
        assert_eq!(drained.events.len(), 1);
    }
}
