//! Own IPv4 addresses: probed before they are used, announced, defended (RFC 5227).

use super::arp::{HOST, OWN, ROUTER, config_v4, ip4, reply, request};
use super::*;
use crate::proto::ndp::AddressState;

const NOBODY: &str = "0.0.0.0";

/// Conflict detection on.
fn careful() -> Settings {
    Settings {
        dad_transmits: 1,
        ..settings()
    }
}

fn starting() -> Bench {
    let mut bench = Bench::bare(careful());
    bench
        .machine
        .set_interface(bench.now, WAN, Some(config_v4()));
    bench
}

fn own_state(bench: &Bench) -> Option<AddressState> {
    bench.machine.address_state(WAN, any(OWN))
}

/// When each ARP message was sent, and its sender, for so long; everybody must have been told what was sent.
fn timeline(bench: &mut Bench, duration: Duration) -> Vec<(Duration, Ipv4Addr)> {
    let (start, end) = (bench.now, bench.now + duration);
    let mut sent = Vec::new();
    loop {
        for message in bench.drain().arp {
            assert_eq!(message.mac, Mac::BROADCAST);
            assert_eq!((message.operation, message.sender.0), (1, MAC));
            assert_eq!(message.target, (Mac::from_octets([0; 6]), ip4(OWN)));
            sent.push((bench.now - start, message.sender.1));
        }
        if bench.now >= end {
            return sent;
        }
        bench.run(10 * MS);
    }
}

/// RFC 5227 2.1.1 and 2.3: three probes from 0.0.0.0, one to two seconds apart, two seconds of waiting, then two
/// announcements two seconds apart.
#[test]
fn an_address_is_probed_then_announced() {
    let mut bench = starting();
    let sent = timeline(&mut bench, 20 * SECOND);
    let senders: Vec<String> = sent.iter().map(|(_, from)| from.to_string()).collect();
    assert_eq!(senders, [NOBODY, NOBODY, NOBODY, OWN, OWN]);
    let gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    for gap in &gaps[..2] {
        assert!((SECOND..=2 * SECOND + 10 * MS).contains(gap), "{gap:?}");
    }
    for gap in &gaps[2..] {
        assert!((2 * SECOND..=2 * SECOND + 10 * MS).contains(gap), "{gap:?}");
    }
    assert_eq!(own_state(&bench), Some(AddressState::Preferred));
    assert_eq!(bench.count(Counter::ArpProbesSent), 3);
    assert_eq!(bench.count(Counter::ArpAnnouncementsSent), 2);
}

#[test]
fn without_detection_an_address_is_ours_at_once() {
    let mut bench = Bench::bare(settings());
    bench
        .machine
        .set_interface(bench.now, WAN, Some(config_v4()));
    assert_eq!(own_state(&bench), Some(AddressState::Preferred));
    let senders = timeline(&mut bench, 20 * SECOND);
    assert_eq!(senders.len(), 2, "announced twice, not probed");
}

/// RFC 5227 2.1: an address is tested before it is used; so it is neither answered for nor asked from.
#[test]
fn a_tentative_address_is_not_used() {
    let mut bench = starting();
    bench.run(SECOND);
    bench.drain();
    bench.hear(&request((PEER_MAC, HOST), OWN)).assert_silent();
    assert_eq!(bench.count(Counter::SolicitationsForTentative), 1);
    // What has to be asked for is asked for as soon as there is somebody to ask as.
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(ROUTER)]);
    loop {
        let arp = bench.after(10 * MS).arp;
        let requests: Vec<_> = arp.iter().filter(|m| m.target.1 == ip4(ROUTER)).collect();
        match own_state(&bench) {
            Some(AddressState::Tentative) => assert!(requests.is_empty()),
            state => {
                assert_eq!(state, Some(AddressState::Preferred));
                assert_eq!(requests[0].sender, (MAC, ip4(OWN)));
                break;
            }
        }
    }
}

/// RFC 5227 2.1.1: any message whose sender has the address, and a probe of another for it, are a conflict.
#[test]
fn a_conflict_while_probing_means_that_it_is_not_ours() {
    for message in [
        reply((PEER_MAC, OWN), HOST),
        request((PEER_MAC, OWN), OWN),
        request((PEER_MAC, OWN), HOST),
        request((PEER_MAC, NOBODY), OWN),
    ] {
        let mut bench = starting();
        bench.run(SECOND);
        bench.drain();
        let drained = bench.hear(&message);
        assert_eq!(
            drained.events,
            [Event::AddressDuplicate {
                interface: WAN,
                address: any(OWN),
                by: PEER_MAC
            }]
        );
        assert_eq!(own_state(&bench), Some(AddressState::Duplicate));
        assert!(bench.after(60 * SECOND).arp.is_empty());
        // It is a neighbour like any, and gets another chance when the link returns.
        bench.hear(&request((OTHER_MAC, HOST), OWN)).assert_silent();
        bench.machine.set_link(bench.now, WAN, false);
        bench.machine.set_link(bench.now, WAN, true);
        bench.run(20 * SECOND);
        assert_eq!(own_state(&bench), Some(AddressState::Preferred));
    }
}

/// RFC 5227 2.1.1: probes of ours that a loop brings back are no conflict, nor are probes for other addresses.
#[test]
fn own_probes_and_probes_for_others_are_no_conflict() {
    let mut bench = starting();
    bench.run(SECOND);
    bench.drain();
    bench.hear(&request((MAC, NOBODY), OWN)).assert_silent();
    bench
        .hear(&request((PEER_MAC, NOBODY), HOST))
        .assert_silent();
    bench.run(20 * SECOND);
    assert_eq!(own_state(&bench), Some(AddressState::Preferred));
}

/// The answer to a probe for an address in use is what keeps another from taking it.
#[test]
fn a_probe_for_an_address_in_use_is_answered() {
    let mut bench = Bench::quiet(settings(), config_v4());
    let drained = bench.hear(&request((PEER_MAC, NOBODY), OWN));
    let sent = drained.only_arp();
    assert_eq!((sent.operation, sent.mac), (2, PEER_MAC));
    assert_eq!(sent.sender, (MAC, ip4(OWN)));
    assert_eq!(sent.target, (PEER_MAC, ip4(NOBODY)));
    assert_eq!(bench.machine.neighbors().count(), 0, "nobody to learn");
    assert_eq!(own_state(&bench), Some(AddressState::Preferred));
}

/// RFC 5227 2.4 (c): one announcement against a claim, none within the next ten seconds, and the address is kept.
#[test]
fn a_claim_is_answered_with_one_announcement_in_ten_seconds() {
    let mut bench = Bench::quiet(settings(), config_v4());
    let claim = request((PEER_MAC, OWN), OWN);
    let drained = bench.hear(&claim);
    let sent = drained.only_arp();
    assert_eq!((sent.operation, sent.mac), (1, Mac::BROADCAST));
    assert_eq!(sent.sender, (MAC, ip4(OWN)));
    assert_eq!(
        drained.events,
        [Event::AddressConflict {
            interface: WAN,
            address: any(OWN),
            by: PEER_MAC
        }]
    );
    let mut defences = 0;
    for _ in 0..100 {
        bench.run(100 * MS);
        defences += bench.hear(&claim).arp.len();
    }
    assert_eq!(defences, 1, "the tenth second, and no other");
    assert_eq!(own_state(&bench), Some(AddressState::Preferred));
    assert_eq!(bench.count(Counter::ArpDefencesSent), 2);
    // Nobody's claim makes them the neighbour of that address.
    assert_eq!(bench.machine.neighbors().count(), 0);
}

/// An address that was ours is announced when the link returns, not probed again.
#[test]
fn an_address_is_announced_when_its_link_returns() {
    let mut bench = Bench::quiet(careful(), config_v4());
    bench.machine.set_link(bench.now, WAN, false);
    bench.machine.set_link(bench.now, WAN, true);
    let sent = timeline(&mut bench, 20 * SECOND);
    assert!(sent.iter().all(|(_, sender)| *sender == ip4(OWN)));
    assert_eq!(sent.len(), 2);
}

/// The IPv6 side of the interface is not held up by the IPv4 one.
#[test]
fn families_are_proven_each_for_itself() {
    let mut bench = starting();
    bench.run(1500 * MS);
    let link_local = bench.machine.address_state(WAN, any(LINK_LOCAL));
    assert_eq!(link_local, Some(AddressState::Preferred));
    assert_eq!(own_state(&bench), Some(AddressState::Tentative));
}
