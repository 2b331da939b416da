//! Resolving neighbours for packets (RFC 4861 7.2.2) and watching them (7.3).

use super::super::RefusedReason;
use super::*;

/// 7.2.2: a multicast solicitation with our address; the answer releases the packets in their order.
#[test]
fn packets_wait_for_the_answer_and_leave_in_order() {
    let mut bench = Bench::new();
    for packet in [1, 2, 3] {
        bench.resolve(PEER, packet).unwrap();
    }
    assert_eq!(bench.machine.queued_packets(), 3);
    let drained = bench.drain();
    let question = drained.only();
    assert_eq!(question.kind, SOLICITATION);
    assert_eq!(question.source, ip(LINK_LOCAL));
    assert_eq!(question.destination, solicited_node(ip(PEER)));
    assert_eq!(question.hop_limit, 255);
    assert_eq!(question.target(), ip(PEER));
    assert_eq!(question.options(), source_mac(MAC));

    let answer = advertisement(PEER, LINK_LOCAL, "SO", &target_mac(PEER_MAC));
    assert_eq!(bench.input(PEER_MAC, &answer), Handled::Consumed);
    // The tables first, the packets after.
    assert_eq!(bench.machine.poll_output(), Some(Output::NeighborsChanged));
    for packet in [1, 2, 3] {
        assert_eq!(bench.machine.poll_output(), Some(Output::Ready(packet)));
    }
    assert_eq!(bench.machine.poll_output(), None);
    assert_eq!(bench.mac(PEER), Some(PEER_MAC));
    assert_eq!(bench.state(PEER), Some(NeighborState::Reachable));
    assert_eq!(bench.machine.queued_packets(), 0);
}

/// 7.2.2: MAX_MULTICAST_SOLICIT solicitations, RetransTimer apart, then the error.
#[test]
fn three_questions_a_second_apart_then_failure() {
    let mut bench = Bench::new();
    bench.resolve(PEER, 1).unwrap();
    assert_eq!(bench.drain().kinds(), [SOLICITATION]);
    for _ in 0..2 {
        assert!(bench.after(999 * MS).sent.is_empty());
        let drained = bench.after(MS);
        assert_eq!(drained.only().destination, solicited_node(ip(PEER)));
    }
    bench.resolve(PEER, 2).unwrap();
    assert!(bench.after(999 * MS).failed.is_empty());
    let drained = bench.after(MS);
    assert_eq!(drained.failed, [1, 2]);
    assert!(drained.sent.is_empty());
    assert_eq!(drained.changes, 0);
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.count(Counter::ResolutionsFailed), 1);
    assert_eq!(bench.machine.poll_timeout(), None);
    // The next packet begins anew.
    bench.resolve(PEER, 3).unwrap();
    assert_eq!(bench.drain().kinds(), [SOLICITATION]);
}

/// 7.2.2: "When a queue overflows, the new arrival SHOULD replace the oldest entry."
#[test]
fn a_full_queue_gives_up_its_oldest() {
    let mut bench = Bench::new();
    for packet in 1..=3 {
        bench.resolve(PEER, packet).unwrap();
    }
    for packet in 4..=6 {
        let refused = bench.resolve(PEER, packet).unwrap_err();
        assert_eq!(refused.packet, packet - 3);
        assert_eq!(refused.reason, RefusedReason::QueueFull);
    }
    assert_eq!(bench.machine.queued_packets(), 3);
    let drained = bench.receive(&advertisement(
        PEER,
        LINK_LOCAL,
        "SO",
        &target_mac(PEER_MAC),
    ));
    assert_eq!(drained.ready, [4, 5, 6]);
}

/// The bound over all queues: a neighbour may renew its own, not push out others'.
#[test]
fn the_sum_of_all_queues_is_bounded() {
    let mut bench = Bench::quiet(
        Settings {
            max_queued_packets: 4,
            ..settings()
        },
        config(),
    );
    for packet in 1..=3 {
        bench.resolve("2001:db8:a::31", packet).unwrap();
    }
    bench.resolve("2001:db8:a::32", 4).unwrap();
    let refused = bench.resolve("2001:db8:a::33", 5).unwrap_err();
    assert_eq!(
        (refused.packet, refused.reason),
        (5, RefusedReason::QueueFull)
    );
    let refused = bench.resolve("2001:db8:a::32", 6).unwrap_err();
    assert_eq!(
        (refused.packet, refused.reason),
        (4, RefusedReason::QueueFull)
    );
    // It is resolved all the same.
    assert_eq!(
        bench.state("2001:db8:a::33"),
        Some(NeighborState::Incomplete)
    );
    let drained = bench.after(3 * SECOND);
    let mut failed = drained.failed;
    failed.sort_unstable();
    assert_eq!(failed, [1, 2, 3, 6]);
}

#[test]
fn addresses_that_are_no_neighbours_are_refused() {
    let mut bench = Bench::new();
    for target in [GLOBAL, LINK_LOCAL, "2001:db8:b::1", "ff02::1", "::", "::1"] {
        let refused = bench.resolve(target, 1).unwrap_err();
        assert_eq!(
            (refused.packet, refused.reason),
            (1, RefusedReason::NotOnLink),
            "{target}"
        );
    }
    let elsewhere = InterfaceIndex(9);
    let refused = bench
        .machine
        .resolve(bench.now, elsewhere, any(PEER), 2)
        .unwrap_err();
    assert_eq!(
        (refused.packet, refused.reason),
        (2, RefusedReason::InterfaceDown)
    );
    bench.drain().assert_silent();
}

/// RFC 5942 4: a prefix is on-link because of an address of ours, or because it was configured so.
#[test]
fn hosts_of_a_route_without_a_router_are_neighbours() {
    let on_link = vec!["2001:db8:b::/64".parse().unwrap()];
    let config = InterfaceConfig {
        on_link,
        ..config()
    };
    let mut bench = Bench::quiet(settings(), config);
    bench.resolve("2001:db8:b::1", 1).unwrap();
    assert_eq!(
        bench.state("2001:db8:b::1"),
        Some(NeighborState::Incomplete)
    );
    assert!(bench.resolve("2001:db8:c::1", 2).is_err());
}

/// 7.2.5: an unsolicited answer resolves as well, to STALE; sending what waited is its first use (7.3.3).
#[test]
fn an_unsolicited_answer_resolves_and_is_then_checked() {
    for message in [
        advertisement(PEER, ALL_NODES, "O", &target_mac(PEER_MAC)),
        solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)),
    ] {
        let mut bench = Bench::new();
        bench.resolve(PEER, 1).unwrap();
        bench.drain();
        assert_eq!(bench.receive(&message).ready, [1]);
        assert_eq!(bench.state(PEER), Some(NeighborState::Delay));
        let drained = bench.after(5 * SECOND);
        assert_eq!(drained.only().mac, PEER_MAC);
        assert_eq!(bench.state(PEER), Some(NeighborState::Probe));
    }
}

/// A packet that asks for what is known goes on at once.
#[test]
fn a_known_neighbour_needs_no_waiting() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    bench.resolve(PEER, 9).unwrap();
    let drained = bench.drain();
    assert_eq!(drained.ready, [9]);
    assert!(drained.sent.is_empty());
}

/// 7.3.3, 10: REACHABLE for a random 0.5 to 1.5 times 30 s, then STALE; used: DELAY for 5 s; PROBE: 3 unicast questions
/// a second apart, each to the address we know; then no entry.
#[test]
fn a_silent_neighbour_is_found_out() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    bench.machine.confirm_in_use(bench.now, WAN, any(PEER));
    assert!(bench.after(15 * SECOND - MS).sent.is_empty());
    assert_eq!(bench.state(PEER), Some(NeighborState::Reachable));
    while bench.state(PEER) == Some(NeighborState::Reachable) {
        bench.run(MS * 100);
    }
    assert_eq!(bench.state(PEER), Some(NeighborState::Stale));
    bench.drain().assert_silent();

    bench.machine.confirm_in_use(bench.now, WAN, any(PEER));
    assert_eq!(bench.state(PEER), Some(NeighborState::Delay));
    bench.machine.confirm_in_use(bench.now, WAN, any(PEER));
    assert!(bench.after(5 * SECOND - MS).sent.is_empty());
    for _ in 0..3 {
        let drained = bench.after(MS);
        let question = drained.only();
        assert_eq!((question.mac, question.destination), (PEER_MAC, ip(PEER)));
        assert_eq!(question.target(), ip(PEER));
        assert_eq!(bench.state(PEER), Some(NeighborState::Probe));
        assert_eq!(bench.mac(PEER), Some(PEER_MAC), "in use while it is asked");
        assert!(bench.after(SECOND - MS).sent.is_empty());
    }
    let drained = bench.after(MS);
    assert_eq!(drained.changes, 1);
    assert_eq!(bench.mac(PEER), None);
    assert_eq!(bench.state(PEER), None);
}

/// 7.3.3: an answer to a probe makes it REACHABLE again, without a change of tables.
#[test]
fn an_answered_probe_changes_nothing_for_traffic() {
    let mut bench = Bench::new();
    bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    bench.machine.confirm_in_use(bench.now, WAN, any(PEER));
    bench.after(5 * SECOND);
    assert_eq!(bench.state(PEER), Some(NeighborState::Probe));
    let drained = bench.receive(&advertisement(PEER, LINK_LOCAL, "S", &[]));
    drained.assert_silent();
    assert_eq!(bench.state(PEER), Some(NeighborState::Reachable));
}

/// 6.3.2, 10: the factor is drawn anew each time and covers 0.5 to 1.5.
#[test]
fn reachable_time_is_random() {
    let mut bench = Bench::new();
    let mut times = Vec::new();
    for _ in 0..300 {
        bench.make_reachable(PEER, PEER_MAC);
        let since = bench.now;
        let until = bench.machine.poll_timeout().unwrap();
        times.push((until - since).as_secs_f64());
        // Forget it.
        bench.machine.set_interface(bench.now, WAN, None);
        bench.machine.set_interface(bench.now, WAN, Some(config()));
        bench.run(10 * SECOND);
        bench.drain();
    }
    let (min, max) = (
        times.iter().copied().fold(f64::MAX, f64::min),
        times.iter().copied().fold(0.0, f64::max),
    );
    assert!(
        (15.0..16.0).contains(&min) && (44.0..=45.0).contains(&max),
        "{min} {max}"
    );
}

/// Use of a neighbour that is not known, or only remembered, resolves nothing: no packet waits for it.
#[test]
fn use_of_an_unknown_neighbour_does_nothing() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    bench.run(300 * SECOND);
    bench.drain();
    for address in [PEER, "2001:db8:a::31"] {
        bench.machine.confirm_in_use(bench.now, WAN, any(address));
        bench.drain().assert_silent();
        assert_eq!(bench.state(address), None);
    }
}

/// Ours: unused neighbours are asked now and then, so that the dead ones leave; the living stay known.
#[test]
fn unused_neighbours_are_asked_before_they_are_dropped() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    let mut asked = 0;
    for _ in 0..600 {
        for sent in bench.after(SECOND).sent {
            assert_eq!((sent.kind, sent.mac), (SOLICITATION, PEER_MAC));
            asked += 1;
            bench.receive(&advertisement(
                PEER,
                LINK_LOCAL,
                "SO",
                &target_mac(PEER_MAC),
            ));
        }
    }
    assert!((4..=16).contains(&asked), "{asked}");
    assert_eq!(bench.mac(PEER), Some(PEER_MAC));
    bench.run(150 * SECOND);
    assert_eq!(bench.mac(PEER), None);
}

/// 7.2.2: no address is valid yet: the packets wait, and the questions begin with the first valid address.
#[test]
fn questions_wait_for_a_source() {
    let mut bench = Bench::bare(Settings {
        dad_transmits: 1,
        ..settings()
    });
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    bench.resolve(PEER, 1).unwrap();
    bench.drain();
    assert_eq!(bench.count(Counter::SolicitationsSent), 0);
    let drained = bench.after(SECOND);
    let question = drained
        .sent
        .iter()
        .find(|sent| sent.kind == SOLICITATION)
        .unwrap();
    assert_eq!(
        (question.source, question.target()),
        (ip(LINK_LOCAL), ip(PEER))
    );
    assert_eq!(bench.count(Counter::SolicitationsSent), 1);
    bench.run(1500 * MS);
    bench.drain();
    assert_eq!(
        bench.count(Counter::SolicitationsSent),
        2,
        "the first of three"
    );
    let drained = bench.receive(&advertisement(
        PEER,
        LINK_LOCAL,
        "SO",
        &target_mac(PEER_MAC),
    ));
    assert_eq!(drained.ready, [1]);

    // Unanswered, all three are sent.
    let mut bench = Bench::bare(Settings {
        dad_transmits: 1,
        ..settings()
    });
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    bench.resolve(PEER, 1).unwrap();
    assert!(bench.after(4 * SECOND - MS).failed.is_empty());
    assert_eq!(bench.after(MS).failed, [1]);
    assert_eq!(bench.count(Counter::SolicitationsSent), 3);
}

/// Ours: what was learned on a link that went down does not hold; what waited is told.
#[test]
fn a_link_that_goes_down_forgets_its_neighbours() {
    let mut bench = Bench::new();
    bench.make_reachable(PEER, PEER_MAC);
    bench.receive(&solicitation(GATEWAY, GLOBAL, &source_mac(OTHER_MAC)));
    bench.resolve("2001:db8:a::31", 8).unwrap();
    bench.drain();
    bench.machine.set_link(bench.now, WAN, false);
    let drained = bench.drain();
    assert_eq!(drained.failed, [8]);
    assert_eq!(drained.changes, 1);
    assert!(drained.sent.is_empty());
    assert_eq!(bench.machine.neighbors().count(), 0);
    let refused = bench.resolve(PEER, 9).unwrap_err();
    assert_eq!(
        (refused.packet, refused.reason),
        (9, RefusedReason::InterfaceDown)
    );
    bench.run(60 * SECOND);
    bench.drain().assert_silent();
    bench.machine.set_link(bench.now, WAN, true);
    bench.drain();
    bench.resolve(PEER, 10).unwrap();
    assert!(
        bench
            .drain()
            .sent
            .iter()
            .any(|sent| sent.kind == SOLICITATION)
    );
}

/// Ours: an address that becomes valid beside others does not begin anew what already runs.
#[test]
fn a_further_source_changes_nothing_for_running_resolutions() {
    let mut bench = Bench::quiet(
        Settings {
            dad_transmits: 1,
            ..settings()
        },
        config(),
    );
    bench.resolve(PEER, 1).unwrap();
    bench.run(1500 * MS);
    let mut more = config();
    more.addresses.push("2001:db8:b::1/64".parse().unwrap());
    bench.machine.set_interface(bench.now, WAN, Some(more));
    assert_eq!(bench.after(1500 * MS).failed, [1]);
    assert_eq!(bench.count(Counter::SolicitationsSent), 3);
}
