//! EID hosts that may be at any site: what is registered, told and answered as they come and go.

use super::super::hosts::{HOSTS_MAX, HOSTS_PER_INTERFACE};
use super::*;
use crate::proto::lisp::wire::{Notify, Registration, auth};
use crate::proto::ndp::InterfaceIndex;

const ONE: InterfaceIndex = InterfaceIndex(1);
const TWO: InterfaceIndex = InterfaceIndex(2);
const HOST: &str = "2001:db8:a:1::7";
const SERVER: &str = "2001:db8:ffff::100";

/// At home: the prefix of the hosts is ours.
fn home() -> Settings {
    Settings {
        map_servers: vec![server(SERVER)],
        dynamic_eids: vec![key("2001:db8:a:1::/64"), key("10.1.0.0/16")],
        ..settings()
    }
}

/// Elsewhere.
fn foreign() -> Settings {
    Settings {
        eids: vec![key("2001:db8:b::/48")],
        ..home()
    }
}

/// A Map-Server that confirms everything at once; what else happened.
fn settle(bench: &mut Bench, duration: Duration) -> Vec<Output> {
    let mut rest = Vec::new();
    let end = bench.now + duration;
    loop {
        let outputs = bench.run(Duration::ZERO);
        if outputs.is_empty() {
            if bench.now >= end {
                return rest;
            }
            bench.now = end;
            continue;
        }
        for (_, output) in outputs {
            let Output::Send(datagram) = &output else {
                rest.push(output);
                continue;
            };
            match parse(&datagram.payload) {
                Ok(Message::Register(register)) => notify(bench, register.body.clone()),
                _ => rest.push(output),
            }
        }
    }
}

fn notify(bench: &mut Bench, body: Registration) {
    let mut bytes = emit(&Message::Notify(Notify { body }));
    auth::seal(&mut bytes, &Secret::new(b"a secret")).unwrap();
    bench
        .xtr
        .handle_input(bench.now, control(SERVER), ip(OWN), &bytes);
}

/// What a Map-Server says of its own accord.
fn moved(bench: &mut Bench, nonce: u64, records: Vec<Record>) {
    let algorithm = Algorithm::HmacSha256;
    notify(
        bench,
        Registration {
            nonce,
            key_id: 1,
            algorithm_id: algorithm.id(),
            mac: vec![0; algorithm.mac_len()],
            records,
            identity: None,
        },
    );
}

fn started(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    settle(&mut bench, seconds(5));
    bench
}

fn hear(bench: &mut Bench, host: &str, at: InterfaceIndex) {
    bench.xtr.host_heard(bench.now, eid(host), at);
}

/// EIDs and TTLs of registrations that leave now.
fn registered(bench: &mut Bench) -> Vec<(String, u32)> {
    let sent = bench.sent(Duration::ZERO);
    let mut registered = Vec::new();
    for (_, datagram) in sent {
        if let Ok(Message::Register(register)) = parse(&datagram.payload) {
            let records = register.body.records.iter();
            registered.extend(records.map(|r| (r.key.eid.to_string(), r.ttl_minutes)));
            notify(bench, register.body);
        }
    }
    registered
}

fn host_outputs(outputs: &[Output]) -> Vec<(bool, String)> {
    let outputs = outputs.iter().filter_map(|output| match output {
        Output::HostHere { key, .. } => Some((true, key.eid.to_string())),
        Output::HostGone(key) => Some((false, key.eid.to_string())),
        _ => None,
    });
    outputs.collect()
}

/// Whether a Map-Request is answered, and for which prefixes.
fn answered(bench: &mut Bench, asked: &str) -> Vec<String> {
    answered_to(bench, Request::new(5, vec![ip(PEER)], key(asked)))
}

fn answered_to(bench: &mut Bench, request: Request) -> Vec<String> {
    let records = replied(bench, request).into_iter();
    records.map(|record| record.key.eid.to_string()).collect()
}

/// The same with what is said of them.
fn records_for(bench: &mut Bench, asked: &str) -> Vec<Record> {
    replied(bench, Request::new(5, vec![ip(PEER)], key(asked)))
}

fn replied(bench: &mut Bench, request: Request) -> Vec<Record> {
    bench.receive(PEER, &Message::Request(request));
    let sent = bench.sent(Duration::ZERO);
    let replies = sent.iter().filter_map(|(_, d)| match parse(&d.payload) {
        Ok(Message::Reply(reply)) => Some(reply),
        _ => None,
    });
    replies.flat_map(|reply| reply.records).collect()
}

#[test]
fn a_host_that_comes_is_registered_alone_and_recent_peers_are_told() {
    for settings in [home(), foreign()] {
        for host in [HOST, "10.1.2.3"] {
            let mut bench = started(settings.clone());
            bench.note_used("2001:db8:c::/48", PEER);
            let prefix = eid(host).host().eid.to_string();
            hear(&mut bench, host, ONE);
            let outputs: Vec<Output> = bench.xtr.context.outputs.iter().cloned().collect();
            assert_eq!(host_outputs(&outputs), [(true, prefix.clone())]);
            assert_eq!(registered(&mut bench), [(prefix.clone(), 1440)]);
            let told = bench.sent(Duration::ZERO);
            let [(_, datagram)] = &told[..] else {
                panic!("one solicitation: {told:?}")
            };
            let Ok(Message::Request(request)) = parse(&datagram.payload) else {
                panic!("a solicitation")
            };
            assert!(request.flags.solicit);
            assert_eq!(request.asked[0].key.eid.to_string(), prefix);
            assert_eq!(request.source, Some(eid(host)));
            assert_eq!(answered(&mut bench, &prefix), [prefix]);
            // That it is still there is nothing new.
            hear(&mut bench, host, ONE);
            assert!(settle(&mut bench, seconds(1)).is_empty());
        }
    }
}

#[test]
fn others_are_no_hosts_of_ours() {
    let mut bench = started(home());
    for other in ["2001:db8:a:2::7", "2001:db8:c::1", "10.2.0.1"] {
        hear(&mut bench, other, ONE);
        bench.xtr.host_silent(bench.now, eid(other), ONE);
    }
    assert!(settle(&mut bench, seconds(5)).is_empty());
    // Whoever registers nothing has no hosts.
    let mut bench = started(Settings {
        is_etr: false,
        ..home()
    });
    hear(&mut bench, HOST, ONE);
    assert!(settle(&mut bench, seconds(5)).is_empty());
}

#[test]
fn a_host_that_falls_silent_is_withdrawn() {
    let mut bench = started(home());
    hear(&mut bench, HOST, ONE);
    settle(&mut bench, seconds(1));
    // That it is not at the other interface says nothing.
    bench.xtr.host_silent(bench.now, eid(HOST), TWO);
    assert!(settle(&mut bench, Duration::ZERO).is_empty());
    bench.xtr.host_silent(bench.now, eid(HOST), ONE);
    let host = format!("{HOST}/128");
    assert_eq!(registered(&mut bench), [(host.clone(), 0)]);
    assert_eq!(bench.count("host_left"), 1);
    // Its prefix is still ours.
    assert_eq!(answered(&mut bench, &host), ["2001:db8:a::/48"]);
}

#[test]
fn a_host_at_another_interface_of_ours_is_not_registered_again() {
    let mut bench = started(home());
    hear(&mut bench, HOST, ONE);
    settle(&mut bench, seconds(1));
    hear(&mut bench, HOST, TWO);
    let outputs = settle(&mut bench, seconds(1));
    let [Output::HostHere { at: TWO, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    bench.xtr.host_silent(bench.now, eid(HOST), ONE);
    assert!(settle(&mut bench, seconds(1)).is_empty());
}

/// R-15, D-17: the Map-Server says that it is elsewhere; its packets are sent there.
#[test]
fn a_host_that_is_registered_elsewhere_is_followed() {
    for (settings, at_home) in [(home(), true), (foreign(), false)] {
        let mut bench = started(settings);
        hear(&mut bench, HOST, ONE);
        settle(&mut bench, seconds(1));
        let host = format!("{HOST}/128");
        bench.note_used("2001:db8:c::/48", "2001:db8:ffff::9");
        moved(&mut bench, 77, vec![positive(&host, 1440)]);
        let outputs = settle(&mut bench, Duration::ZERO);
        assert_eq!(host_outputs(&outputs), [(false, host.clone())]);
        let learned = outputs.iter().any(|output| match output {
            Output::Learned { key, mapping, .. } => {
                key.eid.to_string() == host && mapping.locators()[0].rloc == ip(PEER)
            }
            _ => false,
        });
        assert!(learned, "{outputs:?}");
        let sent = outputs.iter().filter_map(|output| match output {
            Output::Send(datagram) => parse(&datagram.payload).ok(),
            _ => None,
        });
        let sent: Vec<Message> = sent.collect();
        assert!(
            sent.iter()
                .any(|m| matches!(m, Message::Request(r) if r.flags.solicit)),
            "recent peers are told"
        );
        assert!(sent.iter().any(|m| matches!(m, Message::NotifyAck(_))));
        let asks = |m: &Message| matches!(m, Message::Encapsulated(e) if e.request.asked[0].key == key(&host));
        assert!(sent.iter().any(asks), "and the mapping system is asked");
        assert!(answered(&mut bench, &host).is_empty(), "it is not ours");
        assert_eq!(bench.xtr.away().len(), usize::from(at_home));
        // It is not registered any more.
        let (_, eids) = (settle(&mut bench, seconds(200)), &bench.xtr.settings().eids);
        assert!(!eids.contains(&key(&host)));
    }
}

/// A Map-Notify is sent until it is acknowledged, and may be kept by somebody: it counts once.
#[test]
fn an_old_notification_does_not_take_a_host_away_that_is_back() {
    let mut bench = started(home());
    let host = format!("{HOST}/128");
    hear(&mut bench, HOST, ONE);
    settle(&mut bench, seconds(1));
    moved(&mut bench, 77, vec![positive(&host, 1440)]);
    settle(&mut bench, seconds(1));
    hear(&mut bench, HOST, ONE);
    let outputs = settle(&mut bench, seconds(1));
    assert_eq!(host_outputs(&outputs), [(true, host.clone())]);
    let forgotten = Output::Forgotten(key(&host));
    assert!(outputs.contains(&forgotten), "what was learned of it");
    for _ in 0..3 {
        moved(&mut bench, 77, vec![positive(&host, 1440)]);
        assert_eq!(host_outputs(&settle(&mut bench, seconds(1))), []);
    }
    assert_eq!(answered(&mut bench, &host), [host]);
}

/// What is not about a host of ours at RLOCs of others.
#[test]
fn other_notifications_move_nobody() {
    let host = format!("{HOST}/128");
    let mut ours = positive(&host, 1440);
    ours.locators
        .push(LocatorRecord::new(Locator::new(ip(OWN))));
    let none = Record::negative(key(&host), Act::default(), 1440);
    for (nonce, record) in (50..).zip([
        ours,
        none,
        positive(&host, 0),
        positive("2001:db8:a:1::/64", 1440),
        positive("2001:db8:a::/48", 1440),
        positive("2001:db8:a:2::7/128", 1440),
    ]) {
        let mut bench = started(home());
        hear(&mut bench, HOST, ONE);
        settle(&mut bench, seconds(1));
        moved(&mut bench, nonce, vec![record]);
        let outputs = settle(&mut bench, Duration::ZERO);
        assert!(
            outputs.iter().all(|output| matches!(
                output,
                Output::Send(_) | Output::Event(Event::NotifiedUnasked { .. })
            )),
            "{outputs:?}"
        );
        assert_eq!(bench.xtr.away().len(), 0);
    }
}

/// P-02: what is said of a prefix holds for all of it, so that hosts which are away come with it.
#[test]
fn answers_have_hosts_that_are_away_where_they_are() {
    let mut bench = started(home());
    let host = format!("{HOST}/128");
    hear(&mut bench, HOST, ONE);
    settle(&mut bench, seconds(1));
    moved(&mut bench, 77, vec![positive(&host, 60)]);
    settle(&mut bench, Duration::ZERO);
    for asked in [
        "2001:db8:a:2::1/128",
        "2001:db8:a:1::6/128",
        "2001:db8:a::/48",
    ] {
        let records = records_for(&mut bench, asked);
        let [own, elsewhere] = &records[..] else {
            panic!("{asked}: {records:?}")
        };
        assert_eq!(
            (own.key, elsewhere.key),
            (key("2001:db8:a::/48"), key(&host))
        );
        // One TTL for all: the shortest.
        assert_eq!((own.ttl_minutes, elsewhere.ttl_minutes), (60, 60));
        assert!(own.is_authoritative && !elsewhere.is_authoritative);
        let rlocs = elsewhere.locators.iter().map(|locator| locator.rloc);
        assert_eq!(rlocs.collect::<Vec<_>>(), [ip(PEER)]);
        assert!(elsewhere.locators.iter().all(|locator| !locator.is_local));
    }
    assert_eq!(answered(&mut bench, &host), [""; 0], "its site says that");
    // Whether the locator answers is another question (B-01), but not for the host itself.
    let probes = [
        ("2001:db8:a::/48", vec!["2001:db8:a::/48"]),
        (&host, vec![]),
    ];
    for (asked, expected) in probes {
        let mut probe = Request::new(6, vec![ip(PEER)], key(asked));
        probe.flags.probe = true;
        assert_eq!(answered_to(&mut bench, probe), expected);
    }
    // Hosts that are here have an answer of their own.
    hear(&mut bench, "2001:db8:a:1::5", ONE);
    settle(&mut bench, Duration::ZERO);
    assert_eq!(
        answered(&mut bench, "2001:db8:a::/48"),
        ["2001:db8:a::/48", "2001:db8:a:1::5/128", &host]
    );
    // What the mapping system says of it later is what is answered then, and nothing when it is back.
    let mut other = positive(&host, 1440);
    other.locators[0].rloc = ip("192.0.2.9");
    moved(&mut bench, 78, vec![other.clone()]);
    settle(&mut bench, Duration::ZERO);
    let records = records_for(&mut bench, "2001:db8:a::/48");
    assert_eq!(records[2].locators[0].rloc, ip("192.0.2.9"));
    hear(&mut bench, HOST, ONE);
    settle(&mut bench, Duration::ZERO);
    let records = records_for(&mut bench, "2001:db8:a::/48");
    assert!(records.iter().all(|record| record.is_authoritative));
}

/// G-05: where not all of them have room, answers are for the part of a prefix without any, and what is around some is
/// not answered.
#[test]
fn more_hosts_away_than_have_room_are_left_out() {
    let mut bench = started(home());
    let away: Vec<String> = (0..40)
        .map(|n| format!("2001:db8:a:1::{n:x}/128"))
        .collect();
    for (host, nonce) in away.iter().zip(100..) {
        moved(&mut bench, nonce, vec![positive(host, 1440)]);
        settle(&mut bench, Duration::ZERO);
    }
    assert_eq!(bench.xtr.away().len(), 40);
    assert_eq!(answered(&mut bench, "2001:db8:a::/48"), [""; 0]);
    assert_eq!(
        answered(&mut bench, "2001:db8:a:2::1/128"),
        ["2001:db8:a:2::/63"]
    );
    assert_eq!(
        answered(&mut bench, "2001:db8:a:1::30/128"),
        ["2001:db8:a:1::30/124"]
    );
    assert_eq!(
        answered(&mut bench, "2001:db8:a:1::28/128"),
        ["2001:db8:a:1::28/125"]
    );
}

/// A negative answer for a prefix around ours is none about hosts of ours.
#[test]
fn an_answer_around_an_own_prefix_takes_no_host_away() {
    let mut bench = started(home());
    bench.xtr.host_silent(bench.now, eid(HOST), ONE);
    let sent = bench.sent(Duration::ZERO);
    let nonce = asked(&sent[0].1).request.nonce;
    let record = Record::negative(key("2001:db8::/32"), Act::from(Action::Native), 1);
    bench.receive(SERVER, &reply(nonce, vec![record]));
    assert_eq!(bench.xtr.away().len(), 0);
}

/// A host whose prefix is ours, of which nobody else knows: an answer with our own prefix, or our own question.
#[test]
fn a_host_that_is_nowhere_else_is_not_away() {
    for comes_back in [false, true] {
        let mut bench = started(home());
        let host = format!("{HOST}/128");
        moved(&mut bench, 77, vec![positive(&host, 1440)]);
        let outputs = settle(&mut bench, Duration::ZERO);
        assert_eq!(bench.xtr.away().len(), 1);
        let question = outputs.iter().find_map(|output| match output {
            Output::Send(datagram) => match parse(&datagram.payload) {
                Ok(Message::Encapsulated(encapsulated)) => Some((datagram, encapsulated)),
                _ => None,
            },
            _ => None,
        });
        let (datagram, encapsulated) = question.expect("it is asked for");
        if comes_back {
            let payload = &datagram.payload;
            let (from, to) = (control(SERVER), ip(OWN));
            bench.xtr.handle_input(bench.now, from, to, payload);
        } else {
            let own = bench.xtr.settings().record(key("2001:db8:a::/48"), None);
            bench.receive(SERVER, &reply(encapsulated.request.nonce, vec![own]));
        }
        let outputs = settle(&mut bench, Duration::ZERO);
        if comes_back {
            assert!(outputs.contains(&Output::Forgotten(key(&host))));
            assert_eq!(bench.xtr.away().len(), 0);
        } else {
            // What the Map-Server said of its own accord holds for a minute at most.
            settle(&mut bench, seconds(130));
            assert_eq!(bench.count("record_own_eid"), 1);
        }
    }
}

/// C-11 and more: it is asked for, whether it is used or not.
#[test]
fn of_a_host_that_is_away_the_mapping_system_is_asked_every_minute() {
    let mut bench = started(home());
    moved(&mut bench, 77, vec![positive(&format!("{HOST}/128"), 1440)]);
    let mut asked = 0;
    for _ in 0..300 {
        for output in settle(&mut bench, seconds(1)) {
            let Output::Send(datagram) = output else {
                continue;
            };
            if let Ok(Message::Encapsulated(encapsulated)) = parse(&datagram.payload) {
                asked += 1;
                let record = positive(&format!("{HOST}/128"), 1440);
                bench.receive(PEER, &reply(encapsulated.request.nonce, vec![record]));
            }
        }
    }
    // The first one once more after a second, as the answer comes that late here.
    assert!((6..=7).contains(&asked), "{asked}");
    assert_eq!(bench.xtr.away().len(), 1);
}

/// Heard at two sites at a time, it would go to and fro for ever.
#[test]
fn a_host_comes_only_so_often() {
    let mut bench = started(home());
    let host = format!("{HOST}/128");
    let mut came = 0;
    for nonce in 100..200 {
        hear(&mut bench, HOST, ONE);
        moved(&mut bench, nonce, vec![positive(&host, 1440)]);
        let outputs = settle(&mut bench, Duration::from_millis(100));
        came += host_outputs(&outputs)
            .iter()
            .filter(|(here, _)| *here)
            .count();
    }
    // Five at once, and one in five seconds.
    assert!((6..=8).contains(&came), "{came}");
    assert!(bench.count("limit_host_moves") > 80);
}

#[test]
fn hosts_are_bounded_at_an_interface_and_in_all() {
    let mut bench = started(home());
    for number in 0..HOSTS_PER_INTERFACE + 10 {
        hear(&mut bench, &format!("2001:db8:a:1::1:{number:x}"), ONE);
    }
    assert_eq!(bench.xtr.hosts().count(), HOSTS_PER_INTERFACE);
    assert_eq!(bench.count("limit_hosts_of_interface"), 10);
    for interface in 2..10 {
        for number in 0..HOSTS_PER_INTERFACE {
            let host = format!("2001:db8:a:1::{interface:x}:{number:x}");
            hear(&mut bench, &host, InterfaceIndex(interface));
        }
    }
    assert_eq!(bench.xtr.hosts().count(), HOSTS_MAX);
    let messages = bench.sent(Duration::ZERO).len();
    assert!(messages < 300, "{messages} for all of them");
}

#[test]
fn hosts_go_with_the_prefix_and_stay_with_the_rest() {
    let mut bench = started(home());
    hear(&mut bench, HOST, ONE);
    hear(&mut bench, "10.1.2.3", ONE);
    settle(&mut bench, seconds(1));
    let mut other = home();
    other.dynamic_eids.truncate(1);
    bench.xtr.set_settings(bench.now, other);
    let hosts: Vec<String> = bench
        .xtr
        .hosts()
        .map(|(key, ..)| key.eid.to_string())
        .collect();
    assert_eq!(hosts, [format!("{HOST}/128")]);
    let outputs: Vec<Output> = bench.xtr.context.outputs.iter().cloned().collect();
    assert_eq!(host_outputs(&outputs), [(false, "10.1.2.3/32".to_owned())]);
    assert_eq!(registered(&mut bench), [("10.1.2.3/32".to_owned(), 0)]);
    assert!(
        bench
            .xtr
            .settings()
            .eids
            .contains(&key(&format!("{HOST}/128")))
    );
}

#[test]
fn a_scan_of_the_prefix_asks_for_few() {
    let mut bench = started(home());
    for number in 0..5000 {
        let host = format!("2001:db8:a:1::{number:x}");
        bench.xtr.host_silent(bench.now, eid(&host), ONE);
    }
    assert_eq!(bench.xtr.pending(), 50);
}

/// One that was never heard, and does not answer where its prefix says, may be elsewhere.
#[test]
fn a_host_nobody_finds_here_is_asked_for() {
    let mut bench = started(home());
    bench.xtr.host_silent(bench.now, eid(HOST), ONE);
    let outputs = settle(&mut bench, Duration::ZERO);
    let [Output::Send(datagram)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let nonce = asked(datagram).request.nonce;
    bench.receive(
        PEER,
        &reply(nonce, vec![positive(&format!("{HOST}/128"), 5)]),
    );
    assert_eq!(bench.xtr.away().len(), 1);
    assert!(answered(&mut bench, &format!("{HOST}/128")).is_empty());
}

/// A registration of the site a host left may arrive after that of the site it came to. The host is asked for where it is,
/// and if it answers, it is registered again.
#[test]
fn a_host_that_is_registered_elsewhere_and_still_here_is_not_lost() {
    for settings in [home(), foreign()] {
        let mut bench = started(settings);
        hear(&mut bench, HOST, TWO);
        settle(&mut bench, seconds(1));
        let host = format!("{HOST}/128");
        moved(&mut bench, 77, vec![positive(&host, 1440)]);
        let outputs = settle(&mut bench, Duration::ZERO);
        let asked = outputs.iter().filter(|output| match output {
            Output::AskHost { key: asked, at } => (*asked, *at) == (key(&host), TWO),
            _ => false,
        });
        assert_eq!(asked.count(), 1, "{outputs:?}");
        hear(&mut bench, HOST, TWO);
        assert_eq!(registered(&mut bench), [(host.clone(), 1440)]);
        assert!(bench.xtr.away().is_empty());
        // Who was not here is not asked for.
        let other = "2001:db8:a:1::8/128";
        moved(&mut bench, 78, vec![positive(other, 1440)]);
        let outputs = settle(&mut bench, Duration::ZERO);
        let is_ask = |output: &Output| matches!(output, Output::AskHost { .. });
        assert!(!outputs.iter().any(is_ask), "{outputs:?}");
    }
}
