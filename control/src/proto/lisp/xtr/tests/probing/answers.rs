//! What an answer to a probe must be, and what it brings.

use super::*;

/// B-02, P-05, Q-03: a nonce that was sent, from an ETR, on the locator that was probed.
#[test]
fn answers_that_are_not_right_change_nothing() {
    let mut site = Site::new(normal(), &[RLOC, RLOC_V4]);
    site.deaf = vec![ip(RLOC), ip(RLOC_V4)];
    site.run(seconds(1));
    let position = site
        .probes
        .iter()
        .position(|(_, d, _)| d.destination.ip() == ip(RLOC));
    let nonce = site.probes[position.unwrap()].2.nonce;
    let right = marked(key(PREFIX), &[ip(RLOC), ip(RLOC_V4)]);
    let mut proxied = right.clone();
    proxied.is_authoritative = false;
    let mut unmarked = right.clone();
    unmarked.locators[0].is_probed = false;
    let other = marked(key(PREFIX), &[ip(RLOC_V4), ip(RLOC)]);
    for (nonce, records, cause) in [
        (nonce ^ 1, vec![right.clone()], "probe_reply_unknown_nonce"),
        (
            nonce,
            vec![proxied.clone()],
            "probe_reply_not_authoritative",
        ),
        (
            nonce,
            vec![right.clone(), proxied],
            "probe_reply_not_authoritative",
        ),
        (nonce, vec![unmarked], "probe_reply_unmarked"),
        (nonce, Vec::new(), "probe_reply_unmarked"),
        (nonce, vec![other], "probe_reply_other_rloc"),
    ] {
        let before = site.bench.count(cause);
        site.bench.receive(PEER, &probe_reply(nonce, records));
        assert_eq!(site.bench.count(cause), before + 1, "{cause}");
        for rloc in [RLOC, RLOC_V4] {
            assert_eq!(site.state(rloc).liveness, Liveness::Unproven, "{cause}");
        }
    }
    // Of several that are marked the first counts.
    let mut twice = right.clone();
    twice.locators[1].is_probed = true;
    site.bench.receive(PEER, &probe_reply(nonce, vec![twice]));
    assert_eq!(site.state(RLOC).liveness, Liveness::Up);
    assert_eq!(site.state(RLOC_V4).liveness, Liveness::Unproven);
    site.bench.receive(PEER, &probe_reply(nonce, vec![right]));
    assert_eq!(site.bench.count("probe_reply_unknown_nonce"), 2, "once");
}

/// B-03: an answer may bring what the ETR knows of the prefix: of that prefix, where it was learned before the probe.
#[test]
fn an_answer_refreshes_the_mapping_it_was_asked_for() {
    let mut site = Site::new(normal(), &[]);
    let learn = |site: &mut Site| {
        site.bench.miss("2001:db8:b::7");
        let sent = site.bench.sent(Duration::ZERO).into_iter();
        let mut requests = sent.filter_map(|(_, datagram)| match parse(&datagram.payload) {
            Ok(Message::Encapsulated(encapsulated)) => Some(encapsulated.request.nonce),
            _ => None,
        });
        let nonce = requests.next().unwrap();
        site.bench
            .receive(PEER, &reply(nonce, vec![positive(PREFIX, 3)]));
        assert_eq!(site.bench.changes(), [(PREFIX.to_owned(), Some(180))]);
    };
    let probe = |site: &mut Site| {
        let now = site.bench.now;
        assert!(site.bench.xtr.probe(now, ip(RLOC)));
        let sent = site.bench.sent(Duration::ZERO).into_iter();
        let mut requests = sent.filter_map(|(_, datagram)| match parse(&datagram.payload) {
            Ok(Message::Request(request)) => Some(request.nonce),
            _ => None,
        });
        requests.next().unwrap()
    };
    let record = |prefix: &str, ttl_minutes| Record {
        ttl_minutes,
        ..marked(key(prefix), &[ip(RLOC), ip(RLOC_V4)])
    };
    site.watch(RLOC, &[PREFIX], true);
    // Not what was never learned.
    let nonce = probe(&mut site);
    site.bench
        .receive(PEER, &probe_reply(nonce, vec![record(PREFIX, 5)]));
    assert_eq!(site.bench.changes(), []);
    learn(&mut site);
    // Unused: the locators are those of the ETR now, its time is what it was.
    site.bench.now += seconds(10);
    let nonce = probe(&mut site);
    site.bench
        .receive(PEER, &probe_reply(nonce, vec![record(PREFIX, 5)]));
    let outputs = site.bench.outputs();
    let [
        (
            _,
            Output::Learned {
                mapping, expires, ..
            },
        ),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(mapping.locators().len(), 2);
    assert_eq!(*expires, site.bench.now + seconds(170));
    // In use: it holds as long as the ETR says.
    site.bench.note_used(PREFIX, RLOC);
    let nonce = probe(&mut site);
    site.bench
        .receive(PEER, &probe_reply(nonce, vec![record(PREFIX, 5)]));
    assert_eq!(site.bench.changes(), [(PREFIX.to_owned(), Some(300))]);
    // Of another prefix, or of several, it says nothing.
    for records in [
        vec![record("2001:db8:b:1::/64", 5)],
        vec![record("2001:db8::/32", 5)],
        vec![record(PREFIX, 5), record("2001:db8:b:1::/64", 5)],
    ] {
        let nonce = probe(&mut site);
        site.bench.receive(PEER, &probe_reply(nonce, records));
        assert_eq!(site.bench.changes(), []);
    }
    // Nor of what was learned meanwhile: the EID may have moved.
    let nonce = probe(&mut site);
    site.bench.now += seconds(2);
    site.bench.xtr.forget(key(PREFIX));
    learn(&mut site);
    site.bench
        .receive(PEER, &probe_reply(nonce, vec![record(PREFIX, 5)]));
    assert_eq!(site.bench.changes(), []);
    // It may withdraw it.
    let nonce = probe(&mut site);
    site.bench
        .receive(PEER, &probe_reply(nonce, vec![record(PREFIX, 0)]));
    assert_eq!(site.bench.changes(), [(PREFIX.to_owned(), None)]);
}

/// Two machines: one's probes are answered by the other.
#[test]
fn our_own_answers_are_right() {
    let mut far = Bench::new(Settings {
        eids: vec![key(PREFIX)],
        rlocs: vec![Locator::new(ip(RLOC)), Locator::new(ip(RLOC_V4))],
        ..settings()
    });
    let mut site = Site::new(normal(), &[RLOC, RLOC_V4]);
    site.deaf = vec![ip(RLOC), ip(RLOC_V4)];
    site.run(seconds(1));
    for (_, probe, _) in site.probes.clone() {
        let to = probe.destination.ip();
        far.xtr
            .handle_input(far.now, probe.source, to, &probe.payload);
        let (_, reply) = far.sent(Duration::ZERO).pop().expect("an answer");
        assert_eq!(reply.destination, probe.source);
        let now = site.bench.now;
        site.bench
            .xtr
            .handle_input(now, reply.source, reply.destination.ip(), &reply.payload);
    }
    for rloc in [RLOC, RLOC_V4] {
        assert_eq!(site.state(rloc).liveness, Liveness::Up);
    }
}
