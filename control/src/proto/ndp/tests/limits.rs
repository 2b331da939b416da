//! What a scan, a flood or a full cache may cost (RFC 6583 7).

use super::super::RefusedReason;
use super::*;

fn host(index: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(ip("2001:db8:a:0:1::")) + u128::from(index))
}

fn limited(settings: Settings) -> Bench {
    Bench::quiet(settings, config())
}

fn resolve(bench: &mut Bench, target: Ipv6Addr, packet: u32) -> Option<RefusedReason> {
    bench
        .machine
        .resolve(bench.now, WAN, target.into(), packet)
        .err()
        .inspect(|refused| assert_eq!(refused.packet, packet))
        .map(|refused| refused.reason)
}

fn announce(bench: &mut Bench, address: Ipv6Addr) {
    let message = advertisement_message(address, "O", &target_mac(PEER_MAC));
    let packet = icmpv6(address, ip(ALL_NODES), &message).build_ipv6();
    assert_eq!(bench.input(PEER_MAC, &packet), Handled::Consumed);
}

fn answer(bench: &mut Bench, address: Ipv6Addr) {
    let message = advertisement_message(address, "SO", &target_mac(PEER_MAC));
    let packet = icmpv6(address, ip(LINK_LOCAL), &message).build_ipv6();
    assert_eq!(bench.input(PEER_MAC, &packet), Handled::Consumed);
}

fn make_reachable(bench: &mut Bench, address: Ipv6Addr) {
    assert_eq!(resolve(bench, address, 0), None);
    answer(bench, address);
    bench.drain();
}

/// A scan of 2^64 addresses costs a bounded number of entries, questions and packets, and leaves nothing behind.
#[test]
fn a_scan_is_bounded_and_leaves_nothing() {
    let mut bench = limited(Settings {
        max_incomplete: 64,
        max_neighbors: 256,
        resolutions_per_second: 100,
        resolutions_burst: 40,
        ..settings()
    });
    let mut refused = 0;
    let mut failed = 0;
    let mut asked = 0;
    // 1,000 addresses a second for 10 s.
    for index in 0..10_000 {
        if resolve(&mut bench, host(index), index).is_some() {
            refused += 1;
        }
        let drained = bench.after(MS);
        failed += drained.failed.len();
        asked += drained.sent.len();
        assert!(bench.machine.neighbors().count() <= 48);
    }
    let drained = bench.after(10 * SECOND);
    failed += drained.failed.len();
    assert_eq!(refused + failed, 10_000);
    assert!(asked <= 3 * (30 + 10 * 100), "{asked}");
    assert!(failed > 100, "{failed}");
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.machine.poll_timeout(), None);
    assert_eq!(bench.machine.queued_packets(), 0);
    let counted = bench.count(Counter::RateLimited) + bench.count(Counter::IncompleteLimit);
    assert_eq!(counted, refused as u64); // `as`: usize into u64
}

/// First priority: during a scan own addresses are answered, existing neighbours are checked, gateways resolved.
#[test]
fn a_scan_does_not_disturb_answers_neighbours_and_gateways() {
    let mut bench = limited(Settings {
        max_incomplete: 8,
        resolutions_per_second: 10,
        resolutions_burst: 8,
        ..settings()
    });
    bench.make_reachable(PEER, PEER_MAC);
    for index in 0..1000 {
        resolve(&mut bench, host(index), index);
    }
    bench.drain();
    let drained = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    assert_eq!(drained.only().flags(), "RSO");
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(GATEWAY)]);
    assert!(
        bench
            .drain()
            .sent
            .iter()
            .any(|sent| sent.target() == ip(GATEWAY))
    );
    bench.receive(&advertisement(
        GATEWAY,
        LINK_LOCAL,
        "RSO",
        &target_mac(OTHER_MAC),
    ));
    assert_eq!(bench.mac(GATEWAY), Some(OTHER_MAC));
    let mut probed = 0;
    let mut packet = 10_000;
    for _ in 0..200 {
        for index in 0..20 {
            packet += 1;
            resolve(&mut bench, host(packet + index), packet);
        }
        for sent in bench.after(SECOND).sent {
            if sent.target() == ip(PEER) {
                probed += 1;
                bench.receive(&advertisement(
                    PEER,
                    LINK_LOCAL,
                    "SO",
                    &target_mac(PEER_MAC),
                ));
            }
            if sent.target() == ip(GATEWAY) {
                bench.receive(&advertisement(
                    GATEWAY,
                    LINK_LOCAL,
                    "RSO",
                    &target_mac(OTHER_MAC),
                ));
            }
        }
        assert!(bench.mac(PEER).is_some() && bench.mac(GATEWAY).is_some());
    }
    assert!(probed > 0);
}

/// Who has answered before goes first: a quarter of both limits is kept for them.
#[test]
fn neighbours_seen_before_are_resolved_during_a_scan() {
    let mut bench = limited(Settings {
        max_incomplete: 16,
        resolutions_per_second: 1000,
        resolutions_burst: 1000,
        ..settings()
    });
    make_reachable(&mut bench, ip(PEER));
    // It falls silent and is forgotten by the tables.
    bench.run(300 * SECOND);
    bench.drain();
    assert_eq!(bench.state(PEER), None);
    let reasons: Vec<_> = (0..20).map(|n| resolve(&mut bench, host(n), n)).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.is_none()).count(), 12);
    assert_eq!(reasons[19], Some(RefusedReason::TooManyIncomplete));
    assert_eq!(resolve(&mut bench, ip(PEER), 99), None);
    // The same for the rate.
    let mut bench = limited(Settings {
        resolutions_per_second: 1,
        resolutions_burst: 8,
        ..settings()
    });
    make_reachable(&mut bench, ip(PEER));
    bench.run(300 * SECOND);
    let reasons: Vec<_> = (0..20).map(|n| resolve(&mut bench, host(n), n)).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.is_none()).count(), 6);
    assert_eq!(reasons[19], Some(RefusedReason::RateLimited));
    assert_eq!(resolve(&mut bench, ip(PEER), 99), None);
}

/// Limits are per prefix: a scan of one prefix leaves room for the others.
#[test]
fn a_scan_of_one_prefix_leaves_room_for_another() {
    let mut two = config();
    two.addresses.push("2001:db8:b::1/64".parse().unwrap());
    let mut bench = Bench::quiet(
        Settings {
            max_incomplete: 16,
            resolutions_per_second: 1,
            resolutions_burst: 100,
            ..settings()
        },
        two,
    );
    for index in 0..200 {
        resolve(&mut bench, host(index), index);
    }
    for (packet, target) in ["2001:db8:b::5", "fe80::5"].into_iter().enumerate() {
        assert_eq!(
            resolve(&mut bench, ip(target), packet as u32),
            None,
            "{target}"
        );
    }
}

/// The cache is bounded; remembered and unproven neighbours make room first, and neighbours in use for nobody.
#[test]
fn a_full_cache_gives_up_the_least_useful() {
    let mut bench = limited(Settings {
        max_neighbors: 4,
        ..settings()
    });
    // One that answered, one announced only, later one more; then a proven stale one.
    make_reachable(&mut bench, host(1));
    announce(&mut bench, host(2));
    bench.run(MS);
    announce(&mut bench, host(3));
    make_reachable(&mut bench, host(4));
    bench.drain();
    let known = |bench: &Bench| -> Vec<u32> {
        (1..=9)
            .filter(|n| bench.machine.usable(WAN, host(*n).into()).is_some())
            .collect()
    };
    assert_eq!(known(&bench), [1, 2, 3, 4]);
    // A stranger's announcement may push out the oldest unproven.
    announce(&mut bench, host(5));
    assert_eq!(known(&bench), [1, 3, 4, 5]);
    assert_eq!(bench.drain().changes, 1);
    // So may a packet's need.
    make_reachable(&mut bench, host(6));
    assert_eq!(known(&bench), [1, 4, 5, 6]);
    make_reachable(&mut bench, host(7));
    assert_eq!(known(&bench), [1, 4, 6, 7]);
    // All are in use: nobody goes, nobody comes.
    announce(&mut bench, host(8));
    assert_eq!(
        resolve(&mut bench, host(9), 9),
        Some(RefusedReason::CacheFull)
    );
    assert_eq!(known(&bench), [1, 4, 6, 7]);
    let events = bench.drain().events;
    assert_eq!(events, vec![Event::CacheFull { interface: WAN }; 2]);
    assert_eq!(bench.count(Counter::CacheFull), 2);
    // Stale but proven: only for a packet's need, the longest unused first.
    let state = |bench: &Bench, n| {
        let mut all = bench.machine.neighbors();
        all.find(|neighbor| neighbor.address == host(n))
            .map(|neighbor| neighbor.state)
    };
    while state(&bench, 4) != Some(NeighborState::Stale) {
        bench.run(100 * MS);
    }
    for n in [1, 6, 7] {
        answer(&mut bench, host(n));
    }
    announce(&mut bench, host(8));
    assert_eq!(known(&bench), [1, 4, 6, 7]);
    make_reachable(&mut bench, host(9));
    assert_eq!(known(&bench), [1, 6, 7, 9]);
    // Gateways are over the limit.
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![host(8).into()]);
    answer(&mut bench, host(8));
    assert_eq!(known(&bench), [1, 6, 7, 8, 9]);
    bench.machine.set_gateways(bench.now, WAN, vec![]);
    assert_eq!(known(&bench), [1, 6, 7, 9]);
}

/// Remembered failures take no room from anybody.
#[test]
fn remembered_failures_make_room_first() {
    let mut bench = limited(Settings {
        max_neighbors: 3,
        ..settings()
    });
    for n in 1..=3 {
        make_reachable(&mut bench, host(n));
    }
    bench.run(300 * SECOND);
    bench.drain();
    assert_eq!(bench.machine.neighbors().count(), 0);
    for n in 4..=6 {
        announce(&mut bench, host(n));
    }
    assert_eq!(bench.machine.neighbors().count(), 3);
    assert_eq!(bench.count(Counter::Evicted), 3);
}

/// With every neighbour alive, a full cache stays full: each is asked in its turn, and none is lost. Some hundred
/// thousand deadlines; looking at all 8192 for each of them would take minutes.
#[test]
fn a_full_cache_is_kept_alive() {
    let mut bench = Bench::quiet(settings(), config());
    for index in 0..8192 {
        announce(&mut bench, host(index));
    }
    assert_eq!(bench.machine.neighbors().count(), 8192);
    assert_eq!(bench.machine.timers_len(), 8192);
    bench.drain();
    let end = bench.now + 600 * SECOND;
    let mut deadlines = 0;
    while let Some(at) = bench.machine.poll_timeout().filter(|at| *at <= end) {
        bench.now = at;
        bench.machine.handle_timeout(at);
        while let Some(output) = bench.machine.poll_output() {
            if let Output::Transmit { packet, .. } = output {
                let asked = Sent::new(WAN, PEER_MAC, packet).target();
                answer(&mut bench, asked);
                deadlines += 1;
            }
        }
    }
    assert_eq!(bench.machine.neighbors().count(), 8192);
    assert!(deadlines > 30_000, "{deadlines}");
}

/// Of proven neighbours the one goes that has not answered or been used for longest, not the one known longest.
#[test]
fn the_longest_silent_neighbour_goes_first() {
    let mut bench = limited(Settings {
        max_neighbors: 2,
        reachable_time: SECOND,
        stale_time: 3600 * SECOND,
        ..settings()
    });
    make_reachable(&mut bench, host(1));
    bench.run(SECOND);
    make_reachable(&mut bench, host(2));
    bench.run(SECOND);
    answer(&mut bench, host(1));
    bench.run(10 * SECOND);
    make_reachable(&mut bench, host(3));
    assert!(bench.machine.usable(WAN, host(1).into()).is_some());
    assert!(bench.machine.usable(WAN, host(2).into()).is_none());
}
