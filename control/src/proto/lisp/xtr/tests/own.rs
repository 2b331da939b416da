//! Own EIDs as the mapping system knows them (RFC 6835 4).

use super::*;

const SECOND: &str = "10.1.0.0/16";

fn owning() -> Bench {
    let mut settings = settings();
    settings.eids.push(key(SECOND));
    Bench::new(settings)
}

/// Nonces of questions that leave now, by what they ask for, and whom they go to.
fn questions(bench: &mut Bench) -> Vec<(IpAddr, String, u64)> {
    let sent = bench.sent(Duration::ZERO).into_iter();
    let questions = sent.map(|(_, datagram)| {
        let request = asked(&datagram).request;
        assert_eq!(request.source, None);
        let eid = request.asked[0].key.eid.to_string();
        (datagram.destination.ip(), eid, request.nonce)
    });
    questions.collect()
}

fn said(bench: &Bench) -> Vec<Option<Said>> {
    let own = bench.xtr.own_eids();
    own.map(|own| own.said.map(|(said, _)| said)).collect()
}

/// O-01: each own prefix is asked for; what comes back is a question for us, or an answer in our place.
#[test]
fn own_eids_are_asked_for_and_judged() {
    let mut bench = owning();
    assert_eq!(bench.xtr.ask_for_own(bench.now, None, true), 0);
    let sent = questions(&mut bench);
    let [(one, second, v4), (other, first, v6)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((&**second, &**first), (SECOND, "2001:db8:a::/48"));
    assert_eq!([*one, *other], [ip(RESOLVER); 2]);
    assert_eq!(said(&bench), [None, None]);
    bench.now += Duration::from_millis(7);
    let own = bench.xtr.settings().record(key("2001:db8:a::/48"), None);
    bench.receive(RESOLVER, &reply(*v6, vec![own]));
    bench.receive(
        RESOLVER,
        &Message::Encapsulated(Encapsulated {
            ddt: false,
            source: control(OWN),
            destination: control("10.1.0.0"),
            request: Request::new(*v4, vec![ip(OWN)], key(SECOND)),
        }),
    );
    assert_eq!(
        said(&bench),
        [Some(Said::AskedUs), Some(Said::AsConfigured { others: 0 })]
    );
    assert!(bench.xtr.own_eids().all(|own| {
        own.said
            .is_some_and(|(said, time)| said.is_right() && time == Duration::from_millis(7))
    }));
    // Nothing is learned of own EIDs, nor answered to ourselves.
    assert_eq!(bench.outputs(), []);
    // The first word counts.
    bench.receive(RESOLVER, &reply(*v6, vec![positive("2001:db8:a::/48", 9)]));
    assert_eq!(said(&bench)[1], Some(Said::AsConfigured { others: 0 }));
}

#[test]
fn what_was_not_answered_is_asked_for_again_by_another_resolver() {
    let mut settings = settings();
    settings.eids.push(key(SECOND));
    settings.map_resolvers = vec![ip("192.0.2.100"), ip(RESOLVER)];
    let mut bench = Bench::new(settings);
    bench.xtr.ask_for_own(bench.now, None, true);
    let before = questions(&mut bench);
    assert_eq!(before[0].0, ip("192.0.2.100"));
    let own = bench.xtr.settings().record(key(SECOND), None);
    bench.receive(RESOLVER, &reply(before[0].2, vec![own]));
    bench.xtr.ask_for_own(bench.now, None, false);
    let again = questions(&mut bench);
    let [(to, eid, nonce)] = &again[..] else {
        panic!("{again:?}")
    };
    assert_eq!((*to, &**eid), (ip(RESOLVER), "2001:db8:a::/48"));
    assert_ne!(*nonce, before[1].2);
    // Too late.
    bench.receive(RESOLVER, &reply(before[1].2, vec![]));
    assert_eq!(said(&bench)[1], None);
    bench.xtr.ask_for_own(bench.now, Some(ip(PEER)), true);
    assert!(questions(&mut bench).iter().all(|sent| sent.0 == ip(PEER)));
    assert_eq!(said(&bench), [None, None]);
}

#[test]
fn an_answer_is_compared_with_what_is_configured() {
    let prefix = "2001:db8:a::/48";
    let own = settings().record(key(prefix), None);
    let with = |change: fn(&mut Record)| {
        let mut record = own.clone();
        change(&mut record);
        vec![record]
    };
    let other = ip(PEER);
    let negative = Record::negative(key("2001:db8:a::/47"), Act::from(Action::Native), 1);
    for (answer, expected) in [
        (with(|_| {}), Said::AsConfigured { others: 0 }),
        // What is up is another question.
        (
            with(|record| record.locators[0].is_reachable = false),
            Said::AsConfigured { others: 0 },
        ),
        (
            with(|record| {
                let other = LocatorRecord::new(Locator::new(ip(PEER)));
                record.locators.push(other);
            }),
            Said::AsConfigured { others: 1 },
        ),
        (
            with(|record| record.locators[1].weight = 9),
            Said::Otherwise {
                rlocs: vec![ip(OWN_V4), ip(OWN)],
            },
        ),
        (
            with(|record| record.locators.truncate(1)),
            Said::Otherwise {
                rlocs: vec![ip(OWN_V4)],
            },
        ),
        (
            vec![positive(prefix, 9), positive("2001:db8:a::/128", 9)],
            Said::Otherwise { rlocs: vec![other] },
        ),
        // For the part of it that holds nothing else.
        (
            with(|record| record.key = key("2001:db8:a::/60")),
            Said::AsConfigured { others: 0 },
        ),
        (
            with(|record| record.key = key("2001:db8::/32")),
            Said::Around {
                key: key("2001:db8::/32"),
            },
        ),
        (
            vec![negative],
            Said::Nobody {
                action: Some(Action::Native),
            },
        ),
        (vec![], Said::Nobody { action: None }),
    ] {
        let said = Said::of(&own, &answer);
        assert_eq!(said, expected, "{answer:?}");
        let is_right = matches!(said, Said::AsConfigured { .. });
        assert_eq!(said.is_right(), is_right);
    }
}

#[test]
fn only_so_many_are_asked_for() {
    let eids = (0..100).map(|number| key(&format!("2001:db8:a:{number:x}::/64")));
    let mut bench = Bench::new(Settings {
        eids: eids.collect(),
        ..settings()
    });
    assert_eq!(bench.xtr.ask_for_own(bench.now, None, true), 36);
    assert_eq!(questions(&mut bench).len(), 64);
}
