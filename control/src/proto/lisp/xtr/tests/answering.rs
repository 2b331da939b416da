//! The ETR: what it answers, to whom, and what not.

use super::*;
use crate::proto::lisp::wire::RequestFlags;

/// The answer to a question for `prefix`, sent from `from` to [`OWN`].
fn answer(
    bench: &mut Bench,
    flags: RequestFlags,
    prefix: &str,
    from: SocketAddr,
) -> Option<(Datagram, Reply)> {
    let request = Request {
        flags,
        ..Request::new(77, vec![ip(PEER)], key(prefix))
    };
    bench
        .xtr
        .handle_input(bench.now, from, ip(OWN), &emit(&Message::Request(request)));
    let sent = bench.sent(Duration::ZERO).pop()?.1;
    match parse(&sent.payload) {
        Ok(Message::Reply(reply)) => Some((sent, reply)),
        other => panic!("{other:?} is no Map-Reply"),
    }
}

fn plain() -> RequestFlags {
    RequestFlags::default()
}

/// G-03, P-03, P-04.
#[test]
fn an_own_eid_is_answered_for_with_all_own_rlocs() {
    let mut bench = Bench::new(settings());
    let from = SocketAddr::new(ip(PEER), 61_000);
    let (datagram, reply) = answer(&mut bench, plain(), "2001:db8:a::1/128", from).unwrap();
    assert_eq!(
        (datagram.source, datagram.destination),
        (control(OWN), from)
    );
    assert_eq!((reply.nonce, reply.flags.probe), (77, false));
    let [record] = &reply.records[..] else {
        panic!("{reply:?}")
    };
    assert_eq!(record.key, key("2001:db8:a::/48"));
    assert!(record.is_authoritative);
    assert_eq!(record.ttl_minutes, 1440);
    let rlocs: Vec<IpAddr> = record.locators.iter().map(|locator| locator.rloc).collect();
    assert_eq!(rlocs, [ip(OWN_V4), ip(OWN)], "IPv4 first");
    assert!(
        record
            .locators
            .iter()
            .all(|locator| locator.is_local && locator.is_reachable && !locator.is_probed)
    );
}

/// P-02, with the very prefixes of RFC 9301 5.5.
#[test]
fn the_best_match_comes_with_everything_under_it() {
    let prefixes = [
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2001:db8:1:1::/64",
        "2001:db8:1:2::/64",
    ];
    let mut bench = Bench::new(Settings {
        eids: prefixes.into_iter().map(key).collect(),
        ..settings()
    });
    for (asked, expected) in [
        ("2001:db8:1:1::1/128", &prefixes[2..3]),
        ("2001:db8:1:5::5/128", &prefixes[1..]),
        ("2001:db8:2::/48", &prefixes[..]),
    ] {
        let (_, reply) = answer(&mut bench, plain(), asked, control(PEER)).unwrap();
        let answered: Vec<EidKey> = reply.records.iter().map(|record| record.key).collect();
        let expected: Vec<EidKey> = expected.iter().map(|prefix| key(prefix)).collect();
        assert_eq!(answered, expected, "{asked}");
    }
}

/// G-05: what does not fit is answered for the host alone.
#[test]
fn an_answer_fits_in_a_packet_that_every_path_takes() {
    let mut eids = vec![key("2001:db8:a::/48")];
    eids.extend((1..100).map(|number| key(&format!("2001:db8:a:{number:x}::/64"))));
    let mut bench = Bench::new(Settings { eids, ..settings() });
    let (datagram, reply) =
        answer(&mut bench, plain(), "2001:db8:a:ffff::1/128", control(PEER)).unwrap();
    assert!(datagram.payload.len() <= 1232);
    let [record] = &reply.records[..] else {
        panic!("{reply:?}")
    };
    assert_eq!(record.key, key("2001:db8:a:ffff::1/128"));
}

/// P-05.
#[test]
fn a_probe_is_answered_as_one() {
    let mut bench = Bench::new(settings());
    let flags = RequestFlags {
        probe: true,
        ..plain()
    };
    let (_, reply) = answer(&mut bench, flags, "2001:db8:a::/48", control(PEER)).unwrap();
    assert!(reply.flags.probe && reply.nonce == 77);
    let probed: Vec<IpAddr> = reply
        .records
        .iter()
        .flat_map(|record| &record.locators)
        .filter(|locator| locator.is_probed)
        .map(|locator| locator.rloc)
        .collect();
    assert_eq!(probed, [ip(OWN)]);
    assert!(reply.records.iter().all(|record| record.is_authoritative));
}

/// A request that a Map-Server passed on is answered to where it came from in the first place.
#[test]
fn an_encapsulated_request_is_answered_to_its_sender() {
    let mut bench = Bench::new(settings());
    let message = Message::Encapsulated(Encapsulated {
        ddt: false,
        source: SocketAddr::new(ip("2001:db8:b::1"), 50_000),
        destination: control("2001:db8:a::1"),
        request: Request::new(5, vec![ip("192.0.2.3"), ip(PEER)], key("2001:db8:a::1/128")),
    });
    bench.receive(RESOLVER, &message);
    let sent = bench.sent(Duration::ZERO);
    let [(_, datagram)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(datagram.source, control(OWN_V4));
    assert_eq!(
        datagram.destination,
        SocketAddr::new(ip("192.0.2.3"), 50_000)
    );
}

/// Q-06, S-05, and EIDs of others.
#[test]
fn what_needs_no_answer_gets_none() {
    let mut bench = Bench::new(settings());
    for (flags, prefix, cause) in [
        (
            RequestFlags {
                no_reply: true,
                ..plain()
            },
            "2001:db8:a::/48",
            "request_no_reply",
        ),
        (
            RequestFlags {
                solicit: true,
                ..plain()
            },
            "2001:db8:a::/48",
            "solicitation_unknown",
        ),
        (plain(), "2001:db8:b::1/128", "request_not_own"),
        (plain(), "2001:db8::/32", "request_not_own"),
    ] {
        let before = bench.count(cause);
        assert_eq!(answer(&mut bench, flags, prefix, control(PEER)), None);
        assert_eq!(bench.count(cause), before + 1, "{cause}");
    }
    for rloc in ["ff02::1", "::1", OWN, "0.0.0.0", "255.255.255.255"] {
        let request = Request::new(1, vec![ip(rloc)], key("2001:db8:a::/48"));
        bench.receive(PEER, &Message::Request(request));
    }
    assert_eq!(bench.count("request_no_rloc"), 5);
    assert!(bench.sent(seconds(1)).is_empty());
    bench
        .xtr
        .handle_input(bench.now, control(PEER), ip(OWN), &[0x90, 1, 2]);
    assert_eq!(bench.count("unknown_type"), 1);
}

/// P-07.
#[test]
fn answers_are_limited_for_each_rloc() {
    let mut bench = Bench::new(settings());
    let flood = |bench: &mut Bench| {
        let answers = (0..200)
            .filter(|_| answer(bench, plain(), "2001:db8:a::1/128", control(PEER)).is_some());
        answers.count()
    };
    assert_eq!(flood(&mut bench), 40);
    bench.run(seconds(1));
    assert_eq!(flood(&mut bench), 10);
    assert_eq!(bench.count("limit_answers"), 350);
    let request = Request::new(1, vec![ip("2001:db8:ffff::9")], key("2001:db8:a::/48"));
    bench.receive("2001:db8:ffff::9", &Message::Request(request));
    assert_eq!(bench.sent(Duration::ZERO).len(), 1, "others are answered");
}

/// P-07: who probes every 100 ms is answered, and leaves others their answers.
#[test]
fn answers_to_probes_have_limits_of_their_own() {
    let mut bench = Bench::new(settings());
    let flags = RequestFlags {
        probe: true,
        ..plain()
    };
    let probes = |bench: &mut Bench| {
        let answers =
            (0..500).filter(|_| answer(bench, flags, "2001:db8:a::/48", control(PEER)).is_some());
        answers.count()
    };
    assert_eq!(probes(&mut bench), 100);
    assert!(answer(&mut bench, plain(), "2001:db8:a::1/128", control(PEER)).is_some());
    bench.run(seconds(1));
    assert_eq!(probes(&mut bench), 100);
}
