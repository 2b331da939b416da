//! Duplicate address detection and announcing (RFC 4862 5.4, RFC 7527 4, RFC 4861 7.2.6).

use super::super::AddressState;
use super::*;

fn detecting(dad_transmits: u8) -> Bench {
    let mut bench = Bench::bare(Settings {
        dad_transmits,
        ..settings()
    });
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    bench
}

fn address_state(bench: &Bench, address: &str) -> AddressState {
    bench.machine.address_state(WAN, any(address)).unwrap()
}

fn probes(drained: &Drained) -> Vec<&Sent> {
    let all = drained.sent.iter();
    all.filter(|sent| sent.kind == SOLICITATION && sent.source.is_unspecified())
        .collect()
}

fn announcements(drained: &Drained, address: &str) -> usize {
    let all = drained
        .sent
        .iter()
        .filter(|sent| sent.kind == ADVERTISEMENT);
    let about = all.filter(|sent| sent.target() == ip(address));
    about
        .inspect(|sent| {
            // RFC 4861 7.2.6: to all nodes, S clear, with the address; O so that it replaces what a box before us had.
            assert_eq!(sent.flags(), "RO");
            assert_eq!(sent.destination, ip(ALL_NODES));
            assert_eq!(sent.source, ip(address));
            assert_eq!(sent.options(), target_mac(MAC));
        })
        .count()
}

/// RFC 4862 5.4: one probe, RetransTimer of silence, then it is ours; RFC 4861 7.2.6: three announcements a second
/// apart.
#[test]
fn an_address_is_probed_then_announced() {
    let mut bench = detecting(1);
    let drained = bench.drain();
    let sent = probes(&drained);
    assert_eq!(sent.len(), 2);
    for (probe, address) in sent.iter().zip([GLOBAL, LINK_LOCAL]) {
        assert_eq!(probe.target(), ip(address));
        assert_eq!(probe.destination, solicited_node(ip(address)));
        assert_eq!(probe.hop_limit, 255);
        assert_eq!(probe.options()[..2], [14, 1], "a nonce and nothing else");
        assert_eq!(probe.options().len(), 8);
    }
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Tentative);
    let drained = bench.after(SECOND - MS);
    assert_eq!(announcements(&drained, GLOBAL), 0);
    for second in 0..3 {
        let drained = bench.after(MS);
        assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
        assert_eq!(announcements(&drained, GLOBAL), 1);
        assert_eq!(announcements(&drained, LINK_LOCAL), 1);
        let valid = drained.events.len();
        assert_eq!(valid, if second == 0 { 2 } else { 0 });
        let drained = bench.after(SECOND - MS);
        assert_eq!(announcements(&drained, GLOBAL), 0);
    }
    bench.after(60 * SECOND).assert_silent();
    assert_eq!(bench.machine.poll_timeout(), None);
}

/// RFC 4862 5.1: DupAddrDetectTransmits probes, RetransTimer apart, each with a nonce of its own (RFC 7527 4.1).
#[test]
fn more_probes_take_longer_and_differ() {
    let mut bench = detecting(3);
    let mut nonces = Vec::new();
    for _ in 0..3 {
        let drained = bench.drain();
        for probe in probes(&drained) {
            nonces.push(probe.options()[2..].to_vec());
        }
        assert_eq!(address_state(&bench, GLOBAL), AddressState::Tentative);
        bench.run(SECOND);
    }
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
    assert_eq!(nonces.len(), 6);
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 6);
}

/// RFC 4862 5.4.2: a random delay of the first message, if asked for.
#[test]
fn the_start_can_be_delayed() {
    let mut first = Vec::new();
    for seed in 0..50 {
        let settings = Settings {
            start_delay: SECOND,
            ..Settings::default()
        };
        let now = Instant::now();
        let mut machine: Machine<u32> = Machine::new(settings, fastrand::Rng::with_seed(seed));
        machine.set_interface(now, WAN, Some(config()));
        assert_eq!(
            std::iter::from_fn(|| machine.poll_output())
                .filter(|output| matches!(output, Output::Transmit { .. }))
                .count(),
            0
        );
        first.push(machine.poll_timeout().unwrap() - now);
    }
    assert!(first.iter().all(|delay| *delay <= SECOND));
    assert!(first.iter().max().unwrap() > &(900 * MS));
    assert!(first.iter().min().unwrap() < &(100 * MS));
}

/// RFC 4862 5.4.3: somebody else probes the same address, with another nonce (RFC 7527 4.2) or none: nobody gets it.
/// RFC 4862 5.4.4: somebody advertises it, whatever the flags.
#[test]
fn an_address_somebody_else_has_is_not_used() {
    for objection in [
        solicitation("::", GLOBAL, &[]),
        solicitation("::", GLOBAL, &nonce([1, 2, 3, 4, 5, 6])),
        advertisement(GLOBAL, ALL_NODES, "O", &target_mac(PEER_MAC)),
        advertisement(GLOBAL, ALL_NODES, "", &[]),
    ] {
        let mut bench = detecting(1);
        bench.drain();
        let drained = bench.receive(&objection);
        assert!(drained.sent.is_empty() || drained.kinds() == [REPORT]);
        let told = Event::AddressDuplicate {
            interface: WAN,
            address: any(GLOBAL),
            by: PEER_MAC,
        };
        assert_eq!(drained.events, [told]);
        let drained = bench.after(60 * SECOND);
        assert_eq!(address_state(&bench, GLOBAL), AddressState::Duplicate);
        assert_eq!(address_state(&bench, LINK_LOCAL), AddressState::Preferred);
        assert_eq!(announcements(&drained, GLOBAL), 0);
        // It is neither answered for nor used as a source.
        bench
            .receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)))
            .assert_silent();
        bench
            .receive(&solicitation("::", GLOBAL, &[]))
            .assert_silent();
        // It is tried again when the link has been down.
        bench.machine.set_link(bench.now, WAN, false);
        bench.machine.set_link(bench.now, WAN, true);
        bench.run(2 * SECOND);
        assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
    }
}

/// RFC 4862 5.4.3: questions about a tentative address are ignored: neither answered nor an objection.
#[test]
fn questions_about_a_tentative_address_are_ignored() {
    let mut bench = detecting(1);
    bench.drain();
    bench
        .receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)))
        .assert_silent();
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.count(Counter::SolicitationsForTentative), 1);
    bench.run(SECOND);
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
}

/// RFC 7527 4.1 and 4.2: our own probes that come back are no objection; three more follow, and if those come back as
/// well the link simply loops.
#[test]
fn looped_probes_are_not_an_objection() {
    let mut bench = detecting(1);
    let mut sent = 0;
    let mut looped = 0;
    for _ in 0..6 {
        let drained = bench.drain();
        for probe in probes(&drained) {
            sent += 1;
            let echoed = bench.receive(&probe.packet);
            looped += echoed.events.len();
        }
        bench.run(SECOND);
    }
    assert_eq!(sent, 8, "one and three more for each of two addresses");
    assert_eq!(looped, 8);
    assert_eq!(bench.count(Counter::Looped), 8);
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
    assert_eq!(address_state(&bench, LINK_LOCAL), AddressState::Preferred);
}

/// A loop does not hide a real objection.
#[test]
fn an_objection_counts_on_a_looping_link() {
    let mut bench = detecting(1);
    let drained = bench.drain();
    for probe in probes(&drained) {
        bench.receive(&probe.packet);
    }
    bench.run(2 * SECOND);
    bench.receive(&solicitation("::", GLOBAL, &nonce([1; 6])));
    bench.run(10 * SECOND);
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Duplicate);
}

/// RFC 4862 5.4.4, last sentence: an advertisement for a valid own address is worth a word, and nothing more.
#[test]
fn a_claim_on_a_valid_address_is_told_of() {
    let mut bench = Bench::new();
    let drained = bench.receive(&advertisement(
        GLOBAL,
        ALL_NODES,
        "O",
        &target_mac(PEER_MAC),
    ));
    let conflict = Event::AddressConflict {
        interface: WAN,
        address: any(GLOBAL),
        by: PEER_MAC,
    };
    assert_eq!(drained.events, [conflict]);
    assert!(drained.sent.is_empty());
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
    assert_eq!(bench.machine.neighbors().count(), 0);
}

/// Own announcements that a switch gives back are no claim.
#[test]
fn looped_announcements_are_no_claim() {
    let mut bench = detecting(1);
    bench.drain();
    let own = advertisement(GLOBAL, ALL_NODES, "RO", &target_mac(MAC));
    assert_eq!(bench.input(MAC, &own), Handled::Consumed);
    bench.drain().assert_silent();
    bench.run(SECOND);
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
}

/// RFC 4861 7.2.6: announced again when the link returns; the address is ours all the while.
#[test]
fn own_addresses_are_announced_when_the_link_comes_up() {
    let mut bench = Bench::new();
    bench.machine.set_link(bench.now, WAN, false);
    bench.run(60 * SECOND);
    bench.drain().assert_silent();
    bench.machine.set_link(bench.now, WAN, true);
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
    let mut counts = Vec::new();
    let mut drained = bench.drain();
    for _ in 0..5 {
        counts.push(announcements(&drained, GLOBAL));
        assert!(probes(&drained).is_empty());
        drained = bench.after(SECOND);
    }
    assert_eq!(counts, [1, 1, 1, 0, 0]);
    // Said twice, done once.
    bench.machine.set_link(bench.now, WAN, true);
    bench.drain().assert_silent();
}

/// A link that is lost during the detection starts it anew.
#[test]
fn detection_starts_anew_after_a_lost_link() {
    let mut bench = detecting(2);
    bench.run(500 * MS);
    bench.machine.set_link(bench.now, WAN, false);
    bench.run(10 * SECOND);
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Tentative);
    bench.drain();
    bench.machine.set_link(bench.now, WAN, true);
    assert_eq!(probes(&bench.drain()).len(), 2);
    assert_eq!(probes(&bench.after(SECOND)).len(), 2);
    bench.run(SECOND);
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Preferred);
}

/// RFC 7527 4.2: a probe of ours that a slow loop gives back after a flap is still ours.
#[test]
fn late_probes_of_an_earlier_start_are_not_an_objection() {
    let mut bench = detecting(1);
    let drained = bench.drain();
    let old = probes(&drained)[0].packet.clone();
    for _ in 0..5 {
        bench.machine.set_link(bench.now, WAN, false);
        bench.machine.set_link(bench.now, WAN, true);
        bench.drain();
    }
    let drained = bench.receive(&old);
    assert!(matches!(drained.events[..], [Event::ProbeLooped { .. }]));
    assert_eq!(address_state(&bench, GLOBAL), AddressState::Tentative);
}

/// An address that turned out to be somebody else's is a neighbour's: it is answered, learned and resolved, until we
/// try for it again.
#[test]
fn the_owner_of_a_duplicate_is_a_neighbour() {
    let owned = "2001:db8:a::2";
    let mut with_owned = config();
    with_owned
        .addresses
        .push("2001:db8:a::2/64".parse().unwrap());
    let mut bench = Bench::bare(Settings {
        dad_transmits: 1,
        ..settings()
    });
    bench
        .machine
        .set_interface(bench.now, WAN, Some(with_owned));
    bench.drain();
    bench.receive(&advertisement(owned, ALL_NODES, "O", &target_mac(PEER_MAC)));
    assert_eq!(address_state(&bench, owned), AddressState::Duplicate);
    bench.run(10 * SECOND);
    bench.drain();
    let drained = bench.receive(&solicitation(owned, GLOBAL, &source_mac(PEER_MAC)));
    assert_eq!(drained.only().destination, ip(owned));
    assert_eq!(bench.mac(owned), Some(PEER_MAC));
    bench.receive(&advertisement(
        owned,
        ALL_NODES,
        "O",
        &target_mac(OTHER_MAC),
    ));
    assert_eq!(bench.mac(owned), Some(OTHER_MAC));
    bench.resolve(owned, 1).unwrap();
    assert_eq!(bench.drain().ready, [1]);
    // Another link-layer address of ours is another try.
    let mut changed = config();
    changed.mac = Mac::from_octets([2, 0, 0, 0, 0, 2]);
    changed.addresses.push("2001:db8:a::2/64".parse().unwrap());
    bench.machine.set_interface(bench.now, WAN, Some(changed));
    assert_eq!(address_state(&bench, owned), AddressState::Tentative);
    assert_eq!(bench.mac(owned), None);
    assert_eq!(bench.drain().changes, 1);
    bench.run(10 * SECOND);
    assert_eq!(address_state(&bench, owned), AddressState::Preferred);
}
