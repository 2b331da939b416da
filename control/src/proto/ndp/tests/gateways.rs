//! Next hops of routes: resolved before traffic needs them, and kept so.

use super::*;

const GATEWAY_2: &str = "2001:db8:a::fe";

fn with_gateways(gateways: &[&str]) -> Bench {
    let mut bench = Bench::new();
    let gateways = gateways.iter().map(|text| any(text)).collect();
    bench.machine.set_gateways(bench.now, WAN, gateways);
    bench
}

fn answer(bench: &mut Bench, gateway: &str, mac: Mac) -> Drained {
    bench.receive(&advertisement(gateway, LINK_LOCAL, "RSO", &target_mac(mac)))
}

fn asked(drained: &Drained) -> Vec<(Ipv6Addr, bool)> {
    let questions = drained.sent.iter().filter(|sent| sent.kind == SOLICITATION);
    questions
        .map(|sent| (sent.target(), sent.destination.is_multicast()))
        .collect()
}

#[test]
fn gateways_are_asked_without_any_packet() {
    let mut bench = with_gateways(&[GATEWAY, GATEWAY_2]);
    let drained = bench.drain();
    assert_eq!(
        asked(&drained),
        [(ip(GATEWAY_2), true), (ip(GATEWAY), true)]
    );
    let drained = answer(&mut bench, GATEWAY, PEER_MAC);
    assert_eq!(drained.changes, 1);
    let resolved = Event::GatewayResolved {
        interface: WAN,
        address: any(GATEWAY),
        mac: PEER_MAC,
    };
    assert_eq!(drained.events, [resolved]);
    let view = bench
        .machine
        .neighbors()
        .find(|n| n.address == ip(GATEWAY))
        .unwrap();
    assert!(view.is_gateway && view.is_router);
}

/// The address is usable at every moment of an hour, though ReachableTime ends some hundred times; a packet never
/// waits.
#[test]
fn a_living_gateway_is_never_a_miss() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.drain();
    answer(&mut bench, GATEWAY, PEER_MAC);
    let mut refreshed = 0;
    for packet in 0..36_000 {
        let drained = bench.after(100 * MS);
        assert_eq!(drained.changes, 0);
        for question in asked(&drained) {
            assert_eq!(
                question,
                (ip(GATEWAY), false),
                "asked at the address we know"
            );
            refreshed += 1;
            answer(&mut bench, GATEWAY, PEER_MAC).assert_silent();
        }
        bench.resolve(GATEWAY, packet).unwrap();
        assert_eq!(bench.drain().ready, [packet]);
    }
    assert!((80..=240).contains(&refreshed), "{refreshed}");
}

/// One lost answer, or two, are not noticed by traffic.
#[test]
fn a_gateway_survives_lost_answers() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.drain();
    answer(&mut bench, GATEWAY, PEER_MAC);
    let mut questions = 0;
    for _ in 0..3600 {
        let drained = bench.after(100 * MS);
        assert_eq!(drained.changes, 0);
        for _ in asked(&drained) {
            questions += 1;
            if questions % 3 == 0 {
                answer(&mut bench, GATEWAY, PEER_MAC);
            }
        }
        assert_eq!(bench.mac(GATEWAY), Some(PEER_MAC));
    }
    assert!(questions > 20);
}

/// RFC 4861 7.3.3, then ours: three unicast questions, three multicast ones, and so on with growing rests, for ever.
#[test]
fn a_silent_gateway_is_asked_for_ever_at_a_falling_rate() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.drain();
    answer(&mut bench, GATEWAY, PEER_MAC);
    let mut lost_at = None;
    let mut times = Vec::new();
    let mut unreachable = 0;
    for tenth in 0..6000 {
        let drained = bench.after(100 * MS);
        if drained.changes > 0 {
            assert_eq!(lost_at.replace(tenth), None);
            assert_eq!(bench.mac(GATEWAY), None);
        }
        times.extend(asked(&drained).into_iter().map(|(_, group)| (tenth, group)));
        unreachable += drained.events.len();
    }
    assert_eq!(unreachable, 1, "told once");
    let lost_at = lost_at.unwrap();
    let unicast: Vec<u32> = times
        .iter()
        .filter(|(_, group)| !group)
        .map(|(t, _)| *t)
        .collect();
    assert_eq!(unicast.len(), 3);
    assert_eq!(lost_at - unicast[0], 30);
    let multicast: Vec<u32> = times
        .iter()
        .filter(|(_, group)| *group)
        .map(|(t, _)| *t - lost_at)
        .collect();
    // Rounds of three; after each round a second, then the rest: 1, 2, 4, 8, 10, 10, ... seconds.
    assert_eq!(
        multicast[..18],
        [
            0, 10, 20, 40, 50, 60, 90, 100, 110, 160, 170, 180, 270, 280, 290, 400, 410, 420
        ]
    );
    let last = multicast.last().unwrap();
    assert!(6000 - lost_at - last < 130, "it goes on");
    // It comes back with another address, and is usable at once.
    let drained = answer(&mut bench, GATEWAY, OTHER_MAC);
    assert_eq!(drained.changes, 1);
    assert_eq!(bench.mac(GATEWAY), Some(OTHER_MAC));
    assert_eq!(drained.events.len(), 1);
}

/// A packet for a gateway that rests starts the next round now.
#[test]
fn a_packet_wakes_a_resting_gateway() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.drain();
    while bench.state(GATEWAY) != Some(NeighborState::Failed) {
        bench.run(100 * MS);
    }
    bench.drain();
    bench.resolve(GATEWAY, 1).unwrap();
    assert_eq!(asked(&bench.drain()), [(ip(GATEWAY), true)]);
    assert_eq!(bench.after(3 * SECOND).failed, [1]);
}

/// RFC 4861 7.2.5: R cleared by a router that is a next hop is told; its route is the operator's.
#[test]
fn a_gateway_that_stops_being_a_router_is_told_of() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.drain();
    answer(&mut bench, GATEWAY, PEER_MAC);
    let drained = bench.receive(&advertisement(
        GATEWAY,
        ALL_NODES,
        "O",
        &target_mac(PEER_MAC),
    ));
    let told = Event::GatewayNotRouter {
        interface: WAN,
        address: any(GATEWAY),
    };
    assert_eq!(drained.events, [told]);
    assert_eq!(bench.mac(GATEWAY), Some(PEER_MAC));
}

/// Known already, the new gateway is checked; no longer one, it ages like anybody.
#[test]
fn neighbours_become_gateways_and_back() {
    let mut bench = Bench::new();
    bench.receive(&solicitation(GATEWAY, GLOBAL, &source_mac(PEER_MAC)));
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(GATEWAY)]);
    assert_eq!(bench.state(GATEWAY), Some(NeighborState::Delay));
    assert_eq!(asked(&bench.after(5 * SECOND)), [(ip(GATEWAY), false)]);
    answer(&mut bench, GATEWAY, PEER_MAC);
    bench.machine.set_gateways(bench.now, WAN, vec![]);
    bench.drain().assert_silent();
    assert_eq!(bench.state(GATEWAY), Some(NeighborState::Reachable));
    bench.run(200 * SECOND);
    assert_eq!(bench.state(GATEWAY), None);
    assert_eq!(
        bench.machine.poll_timeout().map(|at| at > bench.now),
        Some(true),
        "remembered"
    );
    bench.run(600 * SECOND);
    assert_eq!(bench.machine.poll_timeout(), None, "and forgotten");
    // A silent one is dropped with its packets.
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(GATEWAY_2)]);
    bench.resolve(GATEWAY_2, 4).unwrap();
    bench.machine.set_gateways(bench.now, WAN, vec![]);
    assert_eq!(bench.after(3 * SECOND).failed, [4]);
    assert_eq!(bench.machine.neighbors().count(), 0);
}

/// A gateway need not be on-link by a prefix; a static or own one needs no asking.
#[test]
fn gateways_of_every_kind() {
    let mut with_static = config();
    with_static.statics = vec![(any(GATEWAY_2), OTHER_MAC)];
    let mut bench = Bench::quiet(settings(), with_static);
    let gateways = vec![any(GATEWAY_2), any(GLOBAL), any("2001:db8:ffff::1")];
    bench.machine.set_gateways(bench.now, WAN, gateways);
    assert_eq!(asked(&bench.drain()), [(ip("2001:db8:ffff::1"), true)]);
    bench.resolve("2001:db8:ffff::1", 1).unwrap();
    assert_eq!(answer(&mut bench, "2001:db8:ffff::1", PEER_MAC).ready, [1]);
    // Dismissed, it is nobody's neighbour.
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(GATEWAY_2)]);
    assert_eq!(bench.drain().changes, 1);
    assert_eq!(bench.mac("2001:db8:ffff::1"), None);
    // The static neighbour goes: the gateway is asked.
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    let drained = bench.drain();
    assert_eq!(asked(&drained), [(ip(GATEWAY_2), true)]);
    assert_eq!(drained.changes, 1);
}

/// After a flap gateways are asked at once.
#[test]
fn a_link_that_comes_up_asks_its_gateways() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.drain();
    answer(&mut bench, GATEWAY, PEER_MAC);
    bench.machine.set_link(bench.now, WAN, false);
    assert_eq!(bench.drain().changes, 1);
    assert_eq!(bench.state(GATEWAY), Some(NeighborState::Failed));
    assert!(bench.after(60 * SECOND).sent.is_empty());
    let gateways = vec![any(GATEWAY), any(GATEWAY_2)];
    bench.machine.set_gateways(bench.now, WAN, gateways);
    assert!(bench.after(60 * SECOND).sent.is_empty());
    bench.machine.set_link(bench.now, WAN, true);
    assert_eq!(
        asked(&bench.drain()),
        [(ip(GATEWAY_2), true), (ip(GATEWAY), true)]
    );
    answer(&mut bench, GATEWAY, PEER_MAC);
    assert_eq!(bench.mac(GATEWAY), Some(PEER_MAC));
}

/// RFC 4861 7.3.3 lets a STALE entry rest until it is used; a gateway is in use by being one.
#[test]
fn a_gateway_that_announces_itself_is_checked() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.drain();
    bench.receive(&advertisement(
        GATEWAY,
        ALL_NODES,
        "RO",
        &target_mac(PEER_MAC),
    ));
    assert_eq!(bench.state(GATEWAY), Some(NeighborState::Delay));
    assert_eq!(asked(&bench.after(5 * SECOND)), [(ip(GATEWAY), false)]);
}

/// A gateway that has been back begins with the shortest rest again.
#[test]
fn rests_are_short_again_after_an_answer() {
    let mut bench = with_gateways(&[GATEWAY]);
    bench.run(120 * SECOND);
    answer(&mut bench, GATEWAY, PEER_MAC);
    while bench.mac(GATEWAY).is_some() {
        bench.run(100 * MS);
    }
    bench.drain();
    // The first three to the group end 3 s after the loss; one second of rest.
    assert_eq!(asked(&bench.after(3900 * MS)).len(), 2);
    assert_eq!(asked(&bench.after(200 * MS)).len(), 1);
}
