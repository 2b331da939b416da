//! Watched neighbours: EID hosts that may be at any site. And those that are elsewhere, who are answered for.

use super::arp::{HOST, OWN, config_v4, reply, request};
use super::*;
use ipnet::IpNet;

const ROAMING: &str = "2001:db8:5::7";

fn watching() -> InterfaceConfig {
    let prefixes = ["2001:db8:5::/64", "192.0.2.0/24"];
    let prefixes: Vec<IpNet> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    InterfaceConfig {
        on_link: prefixes.clone(),
        watched: prefixes,
        addresses: [config().addresses, config_v4().addresses].concat(),
        ..config()
    }
}

fn heard(address: &str) -> Vec<(IpAddr, bool)> {
    vec![(any(address), true)]
}

fn silent(address: &str) -> Vec<(IpAddr, bool)> {
    vec![(any(address), false)]
}

#[test]
fn whatever_a_watched_neighbour_says_shows_that_it_is_there() {
    let option = source_mac(PEER_MAC);
    for message in [
        solicitation(ROAMING, GLOBAL, &option),
        solicitation(ROAMING, LINK_LOCAL, &option),
        // It asks for somebody else.
        solicitation(ROAMING, "2001:db8:5::99", &option),
        advertisement(ROAMING, ALL_NODES, "O", &target_mac(PEER_MAC)),
    ] {
        let mut bench = Bench::quiet(settings(), watching());
        let drained = bench.receive(&message);
        assert_eq!(drained.watched, heard(ROAMING));
        assert_eq!(bench.mac(ROAMING), Some(PEER_MAC), "and how to reach it");
    }
    for message in [
        request((PEER_MAC, HOST), OWN),
        request((PEER_MAC, HOST), "192.0.2.77"),
        // It announces itself.
        request((PEER_MAC, HOST), HOST),
        reply((PEER_MAC, HOST), OWN),
    ] {
        let mut bench = Bench::quiet(settings(), watching());
        let drained = bench.hear(&message);
        assert_eq!(drained.watched, heard(HOST));
        assert_eq!(bench.mac(HOST), Some(PEER_MAC));
    }
}

#[test]
fn a_packet_shows_it_too_but_not_of_others() {
    let mut bench = Bench::quiet(settings(), watching());
    let said = |bench: &mut Bench, address: &str, mac: Mac| {
        bench.machine.hear(bench.now, WAN, any(address), mac);
        bench.drain().watched
    };
    assert_eq!(said(&mut bench, ROAMING, PEER_MAC), heard(ROAMING));
    assert_eq!(bench.mac(ROAMING), Some(PEER_MAC));
    // Not watched, our own, our own MAC address, a group.
    for (address, mac) in [
        (PEER, PEER_MAC),
        (OWN, PEER_MAC),
        ("2001:db8:5::8", MAC),
        ("2001:db8:5::8", Mac::BROADCAST),
        ("ff02::1", PEER_MAC),
    ] {
        assert_eq!(said(&mut bench, address, mac), []);
    }
    assert_eq!(bench.machine.neighbors().count(), 1);
    bench.machine.set_link(bench.now, WAN, false);
    bench.drain();
    assert_eq!(said(&mut bench, ROAMING, PEER_MAC), [], "nobody is there");
}

#[test]
fn static_neighbours_are_no_hosts_that_move() {
    let statics = vec![(any(ROAMING), PEER_MAC), (any(HOST), PEER_MAC)];
    let mut bench = Bench::quiet(
        settings(),
        InterfaceConfig {
            statics,
            ..watching()
        },
    );
    let message = solicitation(ROAMING, GLOBAL, &source_mac(PEER_MAC));
    assert_eq!(bench.receive(&message).watched, []);
    let drained = bench.hear(&request((PEER_MAC, HOST), OWN));
    assert_eq!(drained.watched, []);
    bench.machine.hear(bench.now, WAN, any(ROAMING), OTHER_MAC);
    assert_eq!(bench.drain().watched, []);
}

/// It is asked by itself after a while, and does not answer.
#[test]
fn a_watched_neighbour_that_does_not_answer_falls_silent() {
    let mut bench = Bench::quiet(settings(), watching());
    bench.receive(&solicitation(ROAMING, GLOBAL, &source_mac(PEER_MAC)));
    let drained = bench.after(200 * SECOND);
    assert_eq!(drained.watched, silent(ROAMING));
    assert_eq!(bench.mac(ROAMING), None);
    // Nor does one that nobody ever heard.
    bench.resolve("2001:db8:5::9", 1).unwrap();
    let drained = bench.after(10 * SECOND);
    assert_eq!(drained.watched, silent("2001:db8:5::9"));
}

#[test]
fn a_link_that_goes_down_makes_its_hosts_silent() {
    let mut bench = Bench::quiet(settings(), watching());
    bench.make_reachable(ROAMING, PEER_MAC);
    bench.receive(&solicitation(
        "2001:db8:5::8",
        GLOBAL,
        &source_mac(PEER_MAC),
    ));
    bench.machine.set_link(bench.now, WAN, false);
    let mut gone = bench.drain().watched;
    gone.sort_unstable();
    assert_eq!(gone, [silent(ROAMING), silent("2001:db8:5::8")].concat());
}

#[test]
fn one_that_is_known_to_be_elsewhere_is_forgotten() {
    let mut bench = Bench::quiet(settings(), watching());
    bench.make_reachable(ROAMING, PEER_MAC);
    bench.machine.give_up(WAN, any(ROAMING));
    assert_eq!(bench.drain().watched, silent(ROAMING));
    assert_eq!(bench.mac(ROAMING), None);
}

/// RFC 4861 7.2.2: no packet has to wait for the answer.
#[test]
fn one_that_is_asked_for_says_whether_it_is_there() {
    for address in [ROAMING, HOST] {
        let mut bench = Bench::quiet(settings(), watching());
        bench.machine.ask(bench.now, WAN, any(address));
        let drained = bench.drain();
        assert_eq!(drained.kinds().len() + drained.arp.len(), 1, "one question");
        let drained = match address {
            ROAMING => bench.receive(&advertisement(
                ROAMING,
                GLOBAL,
                "SO",
                &target_mac(OTHER_MAC),
            )),
            _ => bench.hear(&reply((OTHER_MAC, HOST), OWN)),
        };
        assert_eq!(drained.watched, heard(address));
        assert_eq!(bench.mac(address), Some(OTHER_MAC));
        // And who does not answer is not there.
        bench.machine.give_up(WAN, any(address));
        bench.drain();
        bench.machine.ask(bench.now, WAN, any(address));
        assert_eq!(bench.after(10 * SECOND).watched, silent(address));
    }
    let mut bench = Bench::quiet(settings(), watching());
    for nobody in [GLOBAL, "2001:db8:77::1"] {
        bench.machine.ask(bench.now, WAN, any(nobody));
        assert!(bench.drain().kinds().is_empty(), "{nobody}");
    }
}

/// RFC 4861 7.2.8: another router of the link answers for who is elsewhere, and that does not bring it here.
#[test]
fn whoever_answers_for_it_does_not_show_that_it_is_there() {
    let mut bench = Bench::quiet(settings(), watching());
    bench.machine.ask(bench.now, WAN, any(ROAMING));
    bench.drain();
    let proxy = advertisement(ROAMING, GLOBAL, "S", &target_mac(OTHER_MAC));
    assert_eq!(bench.receive(&proxy).watched, []);
    assert_eq!(bench.mac(ROAMING), Some(OTHER_MAC), "how to reach it");
    let itself = advertisement(ROAMING, GLOBAL, "SO", &target_mac(PEER_MAC));
    assert_eq!(bench.receive(&itself).watched, heard(ROAMING));
}

/// RFC 4861 7.2.8, RFC 1027: who is elsewhere is answered for, but not its own questions, and not when it is back.
#[test]
fn who_is_elsewhere_is_answered_for() {
    let proxied = [ROAMING, HOST].map(|host| IpNet::from(any(host)));
    let mut bench = Bench::quiet(
        settings(),
        InterfaceConfig {
            proxied: proxied.to_vec(),
            ..watching()
        },
    );
    let asker = "2001:db8:5::8";
    let ask = solicitation(asker, ROAMING, &source_mac(PEER_MAC));
    let drained = bench.receive(&ask);
    assert_eq!(drained.kinds(), [ADVERTISEMENT]);
    // Its own probe, as it comes back.
    let probe = solicitation("::", ROAMING, &[]);
    assert!(bench.receive(&probe).kinds().is_empty());
    bench.receive(&solicitation(ROAMING, GLOBAL, &source_mac(OTHER_MAC)));
    assert!(
        bench.receive(&ask).kinds().is_empty(),
        "it answers for itself"
    );

    let ask = request((PEER_MAC, "192.0.2.8"), HOST);
    let [answer] = &bench.hear(&ask).arp[..] else {
        panic!("one answer")
    };
    assert_eq!(answer.mac, PEER_MAC);
    let announced = request((OTHER_MAC, HOST), HOST);
    assert!(bench.hear(&announced).arp.is_empty());
    assert!(bench.hear(&ask).arp.is_empty(), "it answers for itself");
}
