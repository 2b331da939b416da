//! Solicitations: who is told, when and of what; and what a solicitation does.

use super::super::soliciting::{INVITED_MAX, PEERS_MAX};
use super::*;
use crate::proto::lisp::wire::{Asked, RequestFlags};

fn solicitation(datagram: &Datagram) -> Option<Request> {
    match parse(&datagram.payload) {
        Ok(Message::Request(request)) if request.flags.solicit => Some(request),
        _ => None,
    }
}

/// Solicitations that leave: millisecond, to whom, of what.
fn told(bench: &mut Bench, duration: Duration) -> Vec<(u128, String, Vec<String>)> {
    let outputs = bench.run(duration).into_iter();
    let told = outputs.filter_map(|(at, output)| {
        let Output::Send(datagram) = output else {
            return None;
        };
        let request = solicitation(&datagram)?;
        assert!(request.flags.no_reply && !request.flags.smr_invoked);
        assert_eq!(datagram.destination.port(), CONTROL_PORT);
        assert_eq!(
            request.source.map(|source| source.address),
            Some(request.asked[0].key.eid.network())
        );
        let eids = request.asked.iter().map(|asked| asked.key.eid.to_string());
        let to = datagram.destination.ip().to_string();
        Some((at.as_millis(), to, eids.collect()))
    });
    told.collect()
}

fn others(eids: &[&str]) -> Settings {
    Settings {
        eids: eids.iter().map(|eid| key(eid)).collect(),
        ..settings()
    }
}

fn a() -> Vec<String> {
    vec!["2001:db8:a::/48".to_owned()]
}

fn with_weight(weight: u8) -> Settings {
    let mut settings = settings();
    settings.rlocs[0].weight = weight;
    settings
}

/// S-01, S-04: those of the last minute, once in three seconds.
#[test]
fn recent_peers_are_told_of_every_change_but_not_more_often_than_every_three_seconds() {
    let mut bench = Bench::new(settings());
    bench.run(seconds(10));
    bench.note_used("2001:db8:c::/48", "2001:db8:ffff::9");
    bench.run(seconds(61));
    bench.note_used("2001:db8:b::/48", PEER);
    bench.note_used("2001:db8:d::/48", "192.0.2.3");
    bench.xtr.set_settings(bench.now, with_weight(7));
    let both = |at| {
        [
            (at, "192.0.2.3".to_owned(), a()),
            (at, PEER.to_owned(), a()),
        ]
    };
    assert_eq!(told(&mut bench, seconds(1)), both(71_000));
    bench.xtr.set_settings(bench.now, with_weight(8));
    bench.xtr.set_settings(bench.now, with_weight(9));
    assert_eq!(told(&mut bench, seconds(10)), both(74_000));
    assert_eq!(bench.count("sent_solicitation"), 4);
}

#[test]
fn what_changes_nothing_of_what_is_said_is_told_to_nobody() {
    let mut bench = Bench::new(settings());
    bench.run(seconds(10));
    bench.note_used("2001:db8:b::/48", PEER);
    let other = Settings {
        map_resolvers: vec![ip(PEER)],
        ..settings()
    };
    bench.xtr.set_settings(bench.now, other);
    assert_eq!(told(&mut bench, seconds(10)), []);
}

/// All that is owed goes at once, as far as it fits.
#[test]
fn several_changes_are_told_together() {
    let mut bench = Bench::new(others(&[]));
    bench.run(seconds(10));
    bench.note_used("2001:db8:b::/48", PEER);
    let eids: Vec<String> = (10..30).map(|n| format!("10.{n}.0.0/16")).collect();
    let eids: Vec<&str> = eids.iter().map(String::as_str).collect();
    bench.xtr.set_settings(bench.now, others(&eids));
    let told = told(&mut bench, seconds(20));
    let times: Vec<u128> = told.iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [10_000, 13_000, 16_000]);
    let all: Vec<&String> = told.iter().flat_map(|(.., eids)| eids).collect();
    assert_eq!(all, eids);
}

/// Nobody asks before the Map-Server knows better; and if it does not answer, not for ever.
#[test]
fn a_change_is_told_when_it_is_registered() {
    let mut bench = Bench::new(Settings {
        map_servers: vec![server(RESOLVER)],
        ..others(&["2001:db8:a::/48"])
    });
    let confirm = |bench: &mut Bench| {
        let sent = bench.sent(Duration::ZERO);
        for (_, datagram) in &sent {
            let Ok(Message::Register(register)) = parse(&datagram.payload) else {
                assert!(solicitation(datagram).is_none());
                continue;
            };
            let body = register.body;
            let mut notify = emit(&Message::Notify(wire::Notify { body }));
            wire::auth::seal(&mut notify, &Secret::new(b"a secret")).unwrap();
            bench
                .xtr
                .handle_input(bench.now, control(RESOLVER), ip(OWN), &notify);
        }
    };
    confirm(&mut bench);
    bench.run(seconds(10));
    bench.note_used("2001:db8:b::/48", PEER);
    let with_server = |eids: &[&str]| Settings {
        map_servers: vec![server(RESOLVER)],
        ..others(eids)
    };
    bench
        .xtr
        .set_settings(bench.now, with_server(&["10.1.0.0/16"]));
    confirm(&mut bench);
    let came = (10_000, PEER.to_owned(), vec!["10.1.0.0/16".to_owned()]);
    let went = (13_000, PEER.to_owned(), a());
    assert_eq!(told(&mut bench, seconds(5)), [came, went]);
    // The next one is not confirmed.
    bench.run(seconds(6));
    bench.note_used("2001:db8:b::/48", PEER);
    let both = ["10.1.0.0/16", "10.2.0.0/16"];
    bench.xtr.set_settings(bench.now, with_server(&both));
    let expected = (24_000, PEER.to_owned(), vec!["10.2.0.0/16".to_owned()]);
    assert_eq!(told(&mut bench, seconds(10)), [expected]);
}

/// The packet that went just before the change is only now known.
#[test]
fn whoever_is_sent_to_just_after_a_change_is_told_too() {
    let mut bench = Bench::new(settings());
    bench.run(seconds(10));
    bench.xtr.set_settings(bench.now, with_weight(7));
    assert_eq!(told(&mut bench, Duration::from_millis(20)), []);
    bench.note_used("2001:db8:b::/48", PEER);
    let expected = (10_020, PEER.to_owned(), a());
    assert_eq!(told(&mut bench, Duration::from_millis(20)), [expected]);
    bench.run(seconds(2));
    bench.note_used("2001:db8:b::/48", "2001:db8:ffff::9");
    assert_eq!(told(&mut bench, seconds(5)), []);
}

#[test]
fn many_peers_are_told_at_a_pace_and_there_is_an_end_to_them() {
    let mut bench = Bench::new(settings());
    bench.run(seconds(10));
    for number in 0..PEERS_MAX + 50 {
        bench.note_used(
            "2001:db8:b::/48",
            &format!("2001:db8:f{:x}::{:x}", number >> 8, number & 0xff),
        );
    }
    assert_eq!(bench.xtr.soliciting.sizes().0, PEERS_MAX);
    bench.xtr.set_settings(bench.now, with_weight(7));
    let told = told(&mut bench, seconds(10));
    assert_eq!(told.len(), PEERS_MAX);
    for window in told.windows(65) {
        assert!(window[0].0 < window[64].0);
    }
}

/// One that asks, and knows 2001:db8:b::/48.
fn knowing() -> Bench {
    let mut bench = Bench::new(settings());
    bench.miss("2001:db8:b::7");
    let sent = bench.sent(Duration::ZERO);
    let nonce = asked(&sent[0].1).request.nonce;
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/48", 1440)]));
    bench.run(seconds(2));
    bench
}

fn solicit(bench: &mut Bench, source: Option<&str>, prefixes: &[&str]) {
    let asked = prefixes.iter().map(|prefix| Asked {
        key: key(prefix),
        subscribe: false,
    });
    let request = Request {
        flags: RequestFlags {
            solicit: true,
            no_reply: true,
            ..RequestFlags::default()
        },
        source: source.map(eid),
        asked: asked.collect(),
        ..Request::new(0, vec![ip(PEER)], key("::/0"))
    };
    bench.receive(PEER, &Message::Request(request));
}

/// Questions because of solicitations: millisecond and prefix.
fn questions(bench: &mut Bench, duration: Duration) -> Vec<(u128, String)> {
    let outputs = bench.run(duration).into_iter();
    let asked = outputs.filter_map(|(at, output)| match output {
        Output::Send(datagram) => {
            assert_eq!(datagram.destination, control(RESOLVER), "S-02");
            let request = asked(&datagram).request;
            assert!(request.flags.smr_invoked && !request.flags.solicit);
            assert_eq!(request.source, None);
            Some((at.as_millis(), request.asked[0].key.eid.to_string()))
        }
        // S-05.
        Output::Learned { .. } | Output::Forgotten(_) => panic!("{output:?}"),
        _ => None,
    });
    asked.collect()
}

/// S-02 to S-05: either field, nonce 0.
#[test]
fn a_solicitation_asks_the_mapping_system_anew_and_changes_nothing() {
    let b = "2001:db8:b::/48";
    for (source, prefixes, expected) in [
        (Some("2001:db8:b::"), &[b][..], vec![b]),
        (None, &[b], vec![b]),
        // As deployed: the record is the receiver's own prefix.
        (
            Some("2001:db8:b::"),
            &["2001:db8:a::/48"],
            vec!["2001:db8:b::/128"],
        ),
        // Both fields say something.
        (
            Some("2001:db8:b::9"),
            &["2001:db8:b:1::/64"],
            vec!["2001:db8:b:1::/64", "2001:db8:b::9/128"],
        ),
        // Around what is known.
        (None, &["2001:db8::/32"], vec!["2001:db8::/32"]),
        (Some("2001:db8:c::"), &["2001:db8:c::/48"], vec![]),
        (None, &["10.0.0.0/8"], vec![]),
    ] {
        let mut bench = knowing();
        solicit(&mut bench, source, prefixes);
        let questions = questions(&mut bench, Duration::from_millis(500));
        let prefixes: Vec<&str> = questions.iter().map(|(_, eid)| eid.as_str()).collect();
        assert_eq!(prefixes, expected, "{source:?} {prefixes:?}");
        assert_eq!(bench.xtr.learned(), 1);
        let unknown = u64::from(expected.is_empty());
        assert_eq!(bench.count("solicitation_unknown"), unknown);
    }
}

/// The whole way: told, asked, answered, and the entry is another.
#[test]
fn the_map_cache_follows() {
    let mut bench = knowing();
    solicit(&mut bench, None, &["2001:db8:b::/48"]);
    let sent = bench.sent(Duration::ZERO);
    let nonce = asked(&sent[0].1).request.nonce;
    let mut record = positive("2001:db8:b::/48", 1440);
    record.locators[0].rloc = ip("2001:db8:ffff::9");
    bench.receive(PEER, &reply(nonce, vec![record]));
    let outputs = bench.outputs();
    let [(_, Output::Learned { mapping, .. })] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(mapping.locators()[0].rloc, ip("2001:db8:ffff::9"));
    assert!(bench.sent(seconds(20)).is_empty());
}

/// S-02: once in three seconds for a prefix; but the last solicitation is never without a question after it.
#[test]
fn a_prefix_is_asked_for_every_three_seconds_at_most() {
    let mut bench = knowing();
    let b = "2001:db8:b::/48".to_owned();
    let mut asked = Vec::new();
    for _ in 0..50 {
        solicit(&mut bench, None, &[&b]);
        let questions = questions(&mut bench, Duration::from_millis(100));
        if let Some((_, last)) = questions.last() {
            assert_eq!(*last, b);
            bench.receive(PEER, &reply(1, Vec::new()));
        }
        asked.extend(questions);
        // Answered at once.
        let pending = bench.xtr.itr.nonce_of(key(&b));
        if let Some(nonce) = pending {
            bench.receive(PEER, &reply(nonce, vec![positive(&b, 1440)]));
            bench.outputs();
        }
    }
    asked.extend(questions(&mut bench, Duration::from_millis(1500)));
    let times: Vec<u128> = asked.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [2000, 5000, 8000]);
}

/// What was asked before says nothing of what changed after.
#[test]
fn a_question_on_its_way_does_not_stand_for_one_that_is_solicited() {
    let mut bench = knowing();
    bench.miss("2001:db8:b::7");
    let sent = bench.sent(Duration::ZERO);
    let old = asked(&sent[0].1).request;
    assert!(!old.flags.smr_invoked);
    solicit(&mut bench, Some("2001:db8:b::7"), &["2001:db8:a::/48"]);
    assert_eq!(questions(&mut bench, Duration::from_millis(500)), []);
    bench.receive(
        PEER,
        &reply(old.nonce, vec![positive("2001:db8:b::/48", 1440)]),
    );
    bench.outputs();
    let expected = (3000, "2001:db8:b::7/128".to_owned());
    assert_eq!(
        questions(&mut bench, Duration::from_millis(600)),
        [expected]
    );
}

#[test]
fn whoever_solicits_is_there_and_asked_in_spite_of_the_silence() {
    let mut bench = knowing();
    bench.miss("2001:db8:b::7");
    bench.run(seconds(15));
    solicit(&mut bench, Some("2001:db8:b::7"), &["2001:db8:a::/48"]);
    assert_eq!(questions(&mut bench, Duration::ZERO).len(), 1);
}

/// S-05: what a flood of them costs is bounded.
#[test]
fn a_flood_of_solicitations_is_bounded() {
    let mut bench = knowing();
    for number in 0..20_000 {
        let source = format!("2001:db8:b::{:x}:{:x}", number >> 12, number & 0xfff);
        solicit(&mut bench, Some(&source), &["2001:db8:a::/48"]);
    }
    assert_eq!(bench.count("solicitation_followed"), 400);
    assert_eq!(bench.count("limit_solicitations"), 19_600);
    assert!(bench.xtr.soliciting.sizes().1 <= INVITED_MAX);
    bench.run(seconds(60));
    assert_eq!(bench.xtr.soliciting.sizes().1, 0);
    assert_eq!(bench.xtr.learned(), 1);
}

#[test]
fn an_encapsulated_solicitation_is_none() {
    let mut bench = knowing();
    let mut request = Request::new(0, vec![ip(PEER)], key("2001:db8:b::/48"));
    request.flags.solicit = true;
    let message = Message::Encapsulated(Encapsulated {
        ddt: false,
        source: control("2001:db8:b::1"),
        destination: control("2001:db8:b::"),
        request,
    });
    bench.receive(PEER, &message);
    assert_eq!(bench.count("solicitation_encapsulated"), 1);
    assert!(bench.sent(seconds(10)).is_empty());
}
