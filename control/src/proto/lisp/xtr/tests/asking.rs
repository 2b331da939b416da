//! The ITR: questions, answers, and how long what was learned holds.

use super::*;
use crate::proto::lisp::xtr::itr::QUESTIONS_MAX;

/// A machine that asked for this EID, and the nonce.
fn asking(destination: &str) -> (Bench, u64) {
    let mut bench = Bench::new(settings());
    let nonce = ask(&mut bench, destination);
    (bench, nonce)
}

fn ask(bench: &mut Bench, destination: &str) -> u64 {
    bench.miss(destination);
    let sent = bench.sent(Duration::ZERO);
    assert_eq!(sent.len(), 1, "{sent:?}");
    asked(&sent[0].1).request.nonce
}

/// RFC 9301 5.2, 5.3, 5.8 (Q-02, Q-04, Q-05, E-01).
#[test]
fn a_miss_asks_a_map_resolver_for_the_host() {
    let mut bench = Bench::new(settings());
    bench.miss("2001:db8:b::7");
    let sent = bench.sent(Duration::ZERO);
    let [(0, datagram)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(datagram.source, control(OWN));
    assert_eq!(datagram.destination, control(RESOLVER));
    let message = asked(datagram);
    assert_eq!(message.destination, control("2001:db8:b::7"));
    assert_eq!(message.source, control(OWN));
    let request = message.request;
    let prefixes: Vec<EidKey> = request.asked.iter().map(|asked| asked.key).collect();
    assert_eq!(prefixes, [key("2001:db8:b::7/128")]);
    assert_eq!(request.source, Some(eid("2001:db8:a::10")));
    assert_eq!(request.itr_rlocs, [ip(OWN), ip(OWN_V4)]);
    assert!(!request.flags.probe && !request.flags.pitr && !request.flags.solicit);
    assert_eq!(bench.xtr.pending(), 1);
}

/// C-10: at most one a second; ten, then 30 seconds of silence.
#[test]
fn an_eid_is_asked_for_ten_times_and_then_left_alone_for_a_while() {
    let mut bench = Bench::new(settings());
    let mut times = Vec::new();
    let mut nonces = Vec::new();
    for _ in 0..45 {
        bench.miss("2001:db8:b::7");
        bench.miss("2001:db8:b::7");
        for (at, datagram) in bench.sent(seconds(1)) {
            times.push(at);
            nonces.push(asked(&datagram).request.nonce);
        }
    }
    nonces.dedup();
    times.dedup();
    assert_eq!(times[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(times[10] >= 40, "{times:?}");
    assert_eq!(bench.count("request_unanswered"), 1);
    assert_eq!(
        nonces.len(),
        2,
        "one for all tries, another for the next question"
    );
}

/// C-10, Q-01: an answer may be lost on its way to one of our RLOCs, so that each try wants it at another.
#[test]
fn each_try_wants_its_answer_at_another_own_rloc() {
    const SECOND: &str = "2001:db8:ffff::1:2";
    let mut settings = settings();
    settings.rlocs = vec![Locator::new(ip(OWN)), Locator::new(ip(SECOND))];
    let mut bench = Bench::new(settings);
    bench.miss("2001:db8:b::7");
    let sent = bench.sent(seconds(3));
    let wanted = sent.iter().map(|(_, datagram)| {
        let Encapsulated {
            source, request, ..
        } = asked(datagram);
        assert_eq!(source.ip(), datagram.source.ip());
        assert_eq!(request.itr_rlocs.len(), 2);
        assert_eq!(request.itr_rlocs[0], source.ip());
        source.ip()
    });
    let wanted: Vec<IpAddr> = wanted.collect();
    assert_eq!(wanted[..3], [ip(OWN), ip(SECOND), ip(OWN)]);
}

#[test]
fn an_answer_ends_the_question_and_is_known_until_its_time_is_over() {
    let (mut bench, nonce) = asking("2001:db8:b::7");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/48", 3)]));
    assert_eq!(bench.changes(), [("2001:db8:b::/48".to_owned(), Some(180))]);
    assert_eq!(bench.xtr.pending(), 0);
    assert!(bench.sent(seconds(179)).is_empty(), "nobody uses it");
    let outputs = bench.run(seconds(2));
    assert_eq!(
        outputs,
        [(seconds(180), Output::Forgotten(key("2001:db8:b::/48")))]
    );
    assert_eq!(bench.xtr.poll_timeout(), None, "nothing is left");
}

/// Q-03, P-01: nothing is believed that was not asked for.
#[test]
fn replies_without_a_question_or_for_other_prefixes_change_nothing() {
    let (mut bench, nonce) = asking("2001:db8:b::7");
    let right = || vec![positive("2001:db8:b::/48", 3)];
    bench.receive(PEER, &reply(nonce ^ 1, right()));
    assert_eq!(bench.count("reply_unknown_nonce"), 1);
    for prefix in ["2001:db8:c::/48", "2001:db8:b::8/128", "10.0.0.0/8"] {
        bench.receive(PEER, &reply(nonce, vec![positive(prefix, 3)]));
    }
    bench.receive(PEER, &reply(nonce, Vec::new()));
    assert_eq!(bench.count("reply_other_prefix"), 4);
    let mut probe = reply(nonce, right());
    if let Message::Reply(reply) = &mut probe {
        reply.flags.probe = true;
    }
    bench.receive(PEER, &probe);
    assert_eq!(bench.count("probe_reply_unknown_nonce"), 1);
    assert_eq!(bench.changes(), []);
    assert_eq!(bench.xtr.pending(), 1, "the question stands");
    bench.receive(PEER, &reply(nonce, right()));
    assert_eq!(bench.changes().len(), 1);
    bench.receive(PEER, &reply(nonce, right()));
    assert_eq!(bench.changes(), [], "a question is answered once");
    assert_eq!(bench.count("reply_unknown_nonce"), 2);
}

/// C-01, C-09.
#[test]
fn the_ttl_says_how_long_and_the_action_what_to_do() {
    for (record, expected) in [
        (positive("2001:db8:b::/48", u32::MAX), Some(86_400)),
        (positive("2001:db8:b::/48", 0), None),
        (
            Record::negative(key("2001:db8:8::/45"), Act::from(Action::Native), 15),
            Some(900),
        ),
    ] {
        let (mut bench, nonce) = asking("2001:db8:b::7");
        bench.receive(PEER, &reply(nonce, vec![record.clone()]));
        let changes = bench.outputs();
        match expected {
            None => assert_eq!(changes, []),
            Some(ttl) => assert_eq!(
                changes[..],
                [(
                    Duration::ZERO,
                    Output::Learned {
                        key: record.key,
                        mapping: record.mapping(),
                        expires: bench.now + seconds(ttl),
                    }
                )]
            ),
        }
    }
    // Known, and then withdrawn.
    let (mut bench, nonce) = asking("2001:db8:b::7");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/48", 5)]));
    bench.run(seconds(2));
    let nonce = ask(&mut bench, "2001:db8:b::9");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/48", 0)]));
    assert_eq!(bench.changes(), [("2001:db8:b::/48".to_owned(), None)]);
}

/// C-07, C-08: those it lists stay, those it omits go, and the prefix around holds no longer than they.
#[test]
fn an_answer_with_more_specifics_says_all_there_is_under_it() {
    let (mut bench, nonce) = asking("2001:db8:b:1::7");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b:1::/64", 60)]));
    bench.run(seconds(2));
    let nonce = ask(&mut bench, "2001:db8:b:2::7");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b:2::/64", 60)]));
    bench.run(seconds(2));
    let nonce = ask(&mut bench, "2001:db8:b:9::7");
    let records = vec![
        positive("2001:db8:b::/48", 60),
        positive("2001:db8:b:2::/64", 10),
        positive("2001:db8:c::/48", 60),
        positive("2001:db8:a:7::/64", 60),
    ];
    bench.receive(PEER, &reply(nonce, records));
    assert_eq!(
        bench.changes(),
        [
            ("2001:db8:b:1::/64".to_owned(), None),
            ("2001:db8:b:2::/64".to_owned(), Some(600)),
            ("2001:db8:b::/48".to_owned(), Some(600)),
        ]
    );
    assert_eq!(bench.count("record_outside"), 2);
    // A more specific one that comes later has its own time and removes nothing.
    bench.run(seconds(2));
    let nonce = ask(&mut bench, "2001:db8:b:3::7");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b:3::/64", 99)]));
    assert_eq!(
        bench.changes(),
        [("2001:db8:b:3::/64".to_owned(), Some(5940))]
    );
}

#[test]
fn own_eids_are_learned_from_nobody() {
    let (mut bench, nonce) = asking("2001:db8:b::7");
    let records = vec![
        positive("2001:db8::/32", 9),
        positive("2001:db8:a:1::/64", 9),
    ];
    bench.receive(PEER, &reply(nonce, records));
    assert_eq!(bench.changes(), [("2001:db8::/32".to_owned(), Some(540))]);
    assert_eq!(bench.count("record_own_eid"), 1);
}

/// C-11, Q-04: asked with the cached prefix and no source EID.
#[test]
fn what_is_used_is_asked_for_again_before_it_ends() {
    let (mut bench, nonce) = asking("2001:db8:b::7");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/48", 10)]));
    bench.outputs();
    bench.run(seconds(100));
    bench.note_used("2001:db8:b::/48", PEER);
    assert!(bench.sent(seconds(439)).is_empty());
    let sent = bench.sent(seconds(1));
    let [(540, datagram)] = &sent[..] else {
        panic!("{sent:?}")
    };
    let request = asked(datagram).request;
    assert_eq!(request.asked[0].key, key("2001:db8:b::/48"));
    assert_eq!(request.source, None);
    bench.receive(
        PEER,
        &reply(request.nonce, vec![positive("2001:db8:b::/48", 10)]),
    );
    assert_eq!(bench.changes(), [("2001:db8:b::/48".to_owned(), Some(600))]);
    // Not used since: it ends.
    assert!(bench.sent(seconds(599)).is_empty());
}

/// One answer for all that is under its prefix.
#[test]
fn questions_under_an_answer_end_with_it() {
    let (mut bench, nonce) = asking("2001:db8:b::7");
    let other = ask(&mut bench, "2001:db8:b::8");
    let apart = ask(&mut bench, "2001:db8:c::8");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/48", 10)]));
    assert_eq!(bench.xtr.pending(), 1);
    bench.receive(PEER, &reply(other, vec![positive("2001:db8:b::/48", 10)]));
    assert_eq!(bench.count("reply_unknown_nonce"), 1);
    bench.receive(PEER, &reply(apart, vec![positive("2001:db8:c::/48", 10)]));
    assert_eq!(bench.xtr.pending(), 0);
}

#[test]
fn questions_and_what_is_learned_are_bounded() {
    let mut bench = Bench::new(settings());
    let far = |number: usize| format!("2001:db8:b::{number:x}");
    for number in 1..=QUESTIONS_MAX + 10 {
        bench.miss(&far(number));
    }
    assert_eq!(bench.xtr.pending(), QUESTIONS_MAX);
    assert_eq!(bench.count("limit_questions"), 10);
}

#[test]
fn map_resolvers_are_asked_in_turn_and_those_of_no_family_of_ours_never() {
    let mut settings = settings();
    settings.map_resolvers = vec![ip("192.0.2.100"), ip(RESOLVER), ip("2001:db8:ffff::101")];
    settings.rlocs.truncate(1);
    let mut bench = Bench::new(settings.clone());
    bench.miss("10.9.0.1");
    let sent = bench.sent(seconds(3));
    let asked_of = sent.iter().map(|(_, datagram)| datagram.destination.ip());
    let (one, other) = (ip(RESOLVER), ip("2001:db8:ffff::101"));
    assert_eq!(asked_of.collect::<Vec<_>>(), [one, other, one, other]);
    settings.rlocs[0].up = false;
    let mut bench = Bench::new(settings);
    bench.miss("10.9.0.1");
    assert!(bench.sent(seconds(3)).is_empty());
    assert_eq!(bench.count("request_no_source"), 4);
}

#[test]
fn without_map_resolvers_nothing_is_asked_and_nothing_learned_stays() {
    let (mut bench, nonce) = asking("2001:db8:b::7");
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/48", 10)]));
    bench.outputs();
    bench.xtr.set_settings(
        bench.now,
        Settings {
            map_resolvers: Vec::new(),
            ..settings()
        },
    );
    assert_eq!(bench.changes(), [("2001:db8:b::/48".to_owned(), None)]);
    bench.miss("2001:db8:b::7");
    assert!(bench.sent(seconds(60)).is_empty());
}

#[test]
fn nonces_of_questions_do_not_repeat() {
    let mut nonces = Nonces::new(&[3; 32]);
    let made: std::collections::HashSet<u64> = (0..10_000).map(|_| nonces.make()).collect();
    assert_eq!(made.len(), 10_000);
}

/// Whatever happens in whatever order: nobody is asked twice in a second for the same, what is told of the map-cache fits
/// together, and only what was asked for is in it.
#[test]
fn random_events_keep_the_invariants() {
    let prefixes = [
        "2001:db8:b::/48",
        "2001:db8:b:1::/64",
        "2001:db8:b:2::/64",
        "2001:db8:c::/48",
    ];
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(settings());
        let mut asked_at = std::collections::HashMap::<EidKey, Duration>::new();
        let mut known = std::collections::BTreeMap::<EidKey, Instant>::new();
        let mut nonces: Vec<u64> = Vec::new();
        for _ in 0..2000 {
            match rng.u8(0..4) {
                0 => {
                    let host = format!(
                        "2001:db8:{}:{:x}::1",
                        ["b", "c"][rng.usize(0..2)],
                        rng.u8(0..4)
                    );
                    bench.miss(&host);
                }
                1 if !nonces.is_empty() => {
                    let count = rng.usize(1..4);
                    let records = (0..count).map(|_| {
                        let prefix = prefixes[rng.usize(0..prefixes.len())];
                        let ttl = rng.u32(0..3);
                        if rng.bool() {
                            positive(prefix, ttl)
                        } else {
                            Record::negative(key(prefix), Act::from(Action::Drop), ttl)
                        }
                    });
                    let records: Vec<Record> = records.collect();
                    let nonce = nonces[rng.usize(0..nonces.len())] ^ u64::from(rng.u8(0..2));
                    bench.receive(PEER, &reply(nonce, records));
                }
                2 => {
                    let prefix = prefixes[rng.usize(0..prefixes.len())];
                    bench.note_used(prefix, PEER);
                }
                _ => {}
            }
            let pause = Duration::from_millis(rng.u64(0..2000));
            for (at, output) in bench.run(pause) {
                match output {
                    Output::Send(datagram) => {
                        let request = asked(&datagram).request;
                        let prefix = request.asked[0].key;
                        if let Some(before) = asked_at.insert(prefix, at) {
                            assert!(at - before >= seconds(1), "{prefix} at {at:?}");
                        }
                        nonces.push(request.nonce);
                    }
                    Output::Learned { key, expires, .. } => {
                        assert!(prefixes.contains(&&*key.eid.to_string()));
                        known.insert(key, expires);
                    }
                    Output::Forgotten(key) => {
                        known.remove(&key).expect("it was known");
                    }
                    Output::Liveness { .. }
                    | Output::KeepNonce(_)
                    | Output::Event(_)
                    | Output::HostHere { .. }
                    | Output::HostGone(_)
                    | Output::AskHost { .. } => {}
                }
            }
            assert_eq!(bench.xtr.learned(), known.len());
            assert!(known.values().all(|expires| *expires > bench.now));
            assert!(
                bench.xtr.pending() <= 12,
                "as many as there are EIDs and prefixes"
            );
        }
        assert!(!nonces.is_empty());
        bench.run(seconds(1000));
        assert_eq!((bench.xtr.learned(), bench.xtr.pending()), (0, 0));
    }
}
