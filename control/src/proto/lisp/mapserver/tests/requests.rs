//! Map-Request: what is answered, what is sent on, what is dropped.

use super::*;
use crate::proto::lisp::wire::RequestFlags;

fn with(eids: &[(&str, &[&str])]) -> Bench {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    let records: Vec<Record> = eids
        .iter()
        .map(|(eid, rlocs)| record(key(0, eid), rlocs))
        .collect();
    bench.register(&mut router, &records);
    bench
}

fn keys(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| record.key.eid.to_string())
        .collect()
}

/// P-02 of the requirements, with the RFC's own example (9301 5.5).
#[test]
fn an_answer_has_the_mapping_and_all_below_it() {
    let mut settings = settings();
    settings.sites[0].prefixes = vec![allowed(0, "2001:db8::/32", true)];
    settings.sites.remove(1);
    let mut bench = Bench::new(settings);
    let mut router = Router::new(ETR_A, "first");
    let all = [
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2001:db8:1:1::/64",
        "2001:db8:1:2::/64",
    ];
    let mut records: Vec<Record> = all
        .iter()
        .map(|eid| record(key(0, eid), &["192.0.2.1"]))
        .collect();
    records[3].ttl_minutes = 5;
    bench.register(&mut router, &records);
    assert_eq!(keys(&bench.ask(0, "2001:db8:1:1::1")), all[2..3]);
    let three = bench.ask(0, "2001:db8:1:5::5");
    assert_eq!(keys(&three), all[1..]);
    assert!(
        three.iter().all(|record| record.ttl_minutes == 5),
        "one TTL for all"
    );
    assert_eq!(keys(&bench.ask(0, "2001:db8:2::1")), all);
}

/// P-03, P-04, P-06: a proxy is neither authoritative nor local, locators are in order.
#[test]
fn an_answer_for_an_etr_is_not_authoritative() {
    let mut bench = with(&[("10.1.0.0/16", &["2001:db8:a::1", "192.0.2.9", "192.0.2.1"])]);
    let answer = bench.ask(0, "10.1.2.3");
    let [one] = answer.as_slice() else {
        panic!("one record, not {answer:?}")
    };
    assert!(!one.is_authoritative);
    assert!(
        one.locators
            .iter()
            .all(|l| !l.is_local && !l.is_probed && l.is_reachable)
    );
    let rlocs: Vec<String> = one.locators.iter().map(|l| l.rloc.to_string()).collect();
    assert_eq!(rlocs, ["192.0.2.1", "192.0.2.9", "2001:db8:a::1"]);
    assert_eq!(one.ttl_minutes, 1440);
}

/// P-09, P-10: 15 minutes where there is no EID, 1 where nobody registered, as wide as can be.
#[test]
fn a_negative_answer_is_as_wide_as_it_may_be() {
    let mut bench = with(&[("2001:db8:101::/48", &["192.0.2.1"])]);
    let negative = |bench: &mut Bench, instance, eid: &str| {
        let answer = bench.ask(instance, eid);
        assert_eq!(answer.len(), 1);
        assert_eq!(
            answer[0].act.action(),
            Some(crate::proto::lisp::Action::Native)
        );
        assert!(answer[0].locators.is_empty() && !answer[0].is_authoritative);
        (answer[0].key.eid.to_string(), answer[0].ttl_minutes)
    };
    let said = |prefix: &str, ttl: u32| (prefix.to_owned(), ttl);
    // Sites have 2001:db8:100::/40 and, in it, 2001:db8:120::/48; one /48 is registered.
    assert_eq!(
        negative(&mut bench, 0, "2001:db8:200::1"),
        said("2001:db8:200::/39", 15)
    );
    assert_eq!(
        negative(&mut bench, 0, "2001:db8:1::1"),
        said("2001:db8::/40", 15)
    );
    assert_eq!(
        negative(&mut bench, 0, "2001:db8:100::1"),
        said("2001:db8:100::/48", 1)
    );
    assert_eq!(
        negative(&mut bench, 0, "2001:db8:102::1"),
        said("2001:db8:102::/47", 1)
    );
    assert_eq!(
        negative(&mut bench, 0, "2001:db8:121::1"),
        said("2001:db8:121::/48", 1)
    );
    assert_eq!(
        negative(&mut bench, 0, "2001:db8:120:7::1"),
        said("2001:db8:120::/48", 1)
    );
    assert_eq!(negative(&mut bench, 0, "10.1.9.9"), said("10.1.0.0/16", 1));
    assert_eq!(negative(&mut bench, 0, "10.0.9.9"), said("10.0.0.0/16", 15));
    // P-11: never all there is, not even where nothing is known.
    assert_eq!(
        negative(&mut bench, 9, "2001:db8::1"),
        said("2001::/16", 15)
    );
    assert_eq!(negative(&mut bench, 9, "10.1.2.3"), said("10.0.0.0/8", 15));
    assert_eq!(bench.count(Counter::ReplyNegative), 5);
    assert_eq!(bench.count(Counter::ReplyUnregistered), 5);
}

/// P-10 on a table of 100,000 EIDs: what is said of an EID is right for every EID of the prefix it is said for.
#[test]
fn answers_are_right_for_all_of_their_prefix() {
    let mut settings = settings();
    settings.sites[0].prefixes = vec![
        allowed(0, "10.0.0.0/9", true),
        allowed(0, "10.192.0.0/11", true),
    ];
    let fast = Rate {
        per_second: 1_000_000,
        burst: 1_000_000,
    };
    (settings.requests, settings.registers, settings.replies) = (fast, fast, fast);
    let mut bench = Bench::new(settings.clone());
    let mut rng = fastrand::Rng::with_seed(11);
    let mut router = Router::new(ETR_A, "first");
    let mut known = std::collections::BTreeMap::new();
    while known.len() < 100_000 {
        let records: Vec<Record> = (0..40)
            .map(|_| {
                let address = 0x0a00_0000 | rng.u32(0..1 << 24);
                let eid = ipnet::Ipv4Net::new(address.into(), rng.u8(14..=30))
                    .unwrap()
                    .trunc();
                record(key(0, &eid.to_string()), &["192.0.2.1"])
            })
            .collect();
        for record in &records {
            let is_allowed = settings.sites[0]
                .prefixes
                .iter()
                .any(|allowed| allowed.key.eid.contains(&record.key.eid));
            if is_allowed {
                known.insert(bounds(record.key.eid), record.key);
            }
        }
        // The first decides which site it is for.
        let first = record(key(0, "10.0.0.0/16"), &["192.0.2.1"]);
        known.insert(bounds(first.key.eid), first.key);
        bench.register(&mut router, &[&[first], records.as_slice()].concat());
    }
    assert_eq!(bench.machine.registrations(), known.len());
    for _ in 0..3000 {
        let address = 0x0a00_0000 | rng.u32(0..1 << 24);
        let asked = std::net::Ipv4Addr::from(address).to_string();
        let answer = bench.ask(0, &asked);
        let covers = answer
            .iter()
            .filter(|record| record.key.eid.contains(&ip(&asked)));
        let best = covers.max_by_key(|record| record.key.eid.prefix_len());
        let best = best.expect("P-01: an answer covers what was asked");
        let longest = (0..=32).rev().find_map(|len| {
            let eid = ipnet::Ipv4Net::new(address.into(), len).unwrap().trunc();
            known.get(&bounds(eid.into()))
        });
        assert_eq!(longest.is_some(), !best.locators.is_empty());
        assert!(longest.is_none_or(|known| known.eid.contains(&best.key.eid)));
        // Every registered prefix inside is listed, or, of a narrowed one and a negative one, there is none.
        let (low, high) = bounds(best.key.eid);
        let inside = known.range((low, 0)..=(high, u32::MAX));
        let inside = inside.filter(|((_, end), _)| *end <= high);
        for (_, key) in inside {
            assert!(
                answer.iter().any(|record| record.key == *key),
                "{key} not in {answer:?}"
            );
        }
    }
}

fn bounds(eid: ipnet::IpNet) -> (u32, u32) {
    match eid {
        ipnet::IpNet::V4(eid) => (eid.network().into(), eid.broadcast().into()),
        ipnet::IpNet::V6(_) => panic!("IPv4"),
    }
}

/// G-05: more than fits in 1280 bytes is said for as much as one record can be right for.
#[test]
fn an_answer_that_would_not_fit_is_narrowed() {
    let mut bench = with(&[("2001:db8:100::/40", &["192.0.2.1"])]);
    let mut router = Router {
        nonce: 1000,
        ..Router::new(ETR_A, "first")
    };
    for block in 0..4 {
        let hosts: Vec<Record> = (0..16)
            .map(|host| {
                let eid = format!("2001:db8:100::{block}:{host}/128");
                record(key(0, &eid), &["192.0.2.2"])
            })
            .collect();
        bench.register(&mut router, &hosts);
    }
    assert_eq!(
        keys(&bench.ask(0, "2001:db8:100::1:1")),
        ["2001:db8:100::1:1/128"]
    );
    let narrowed = bench.ask(0, "2001:db8:100::4:1");
    assert_eq!(keys(&narrowed), ["2001:db8:100::4:0/110"]);
    assert_eq!(narrowed[0].locators[0].rloc, ip("192.0.2.1"));
    assert_eq!(bench.count(Counter::ReplyNarrowed), 1);
}

/// G-05 again: more locators than fit; the last choices go.
#[test]
fn an_answer_with_too_many_locators_has_the_best_of_them() {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    let rlocs: Vec<String> = (0..100).map(|at| format!("2001:db8:f::{at}")).collect();
    let rlocs: Vec<&str> = rlocs.iter().map(String::as_str).collect();
    let mut many = record(key(0, "10.1.0.0/16"), &rlocs);
    for (locator, priority) in many.locators.iter_mut().zip((0..100).rev()) {
        locator.priority = priority;
    }
    bench.register(&mut router, &[many]);
    let answer = bench.ask(0, "10.1.2.3");
    let best = answer[0].locators.len();
    assert!((40..60).contains(&best));
    let best = u8::try_from(best).unwrap();
    assert!(
        answer[0]
            .locators
            .iter()
            .all(|locator| locator.priority < best)
    );
}

/// A Map-Server that was made to take itself for an ETR does not ask itself for ever.
#[test]
fn what_comes_from_an_own_socket_is_dropped() {
    let own: SocketAddr = SERVER.parse().unwrap();
    let mut settings = settings();
    settings.own_addresses = vec![own.ip()];
    let mut bench = Bench::new(settings);
    assert_eq!(bench.give(own, &question(0, "10.1.2.3")), []);
    assert_eq!(bench.count(Counter::DropOwn), 1);
    // A program on the same machine has another port.
    let program = SocketAddr::new(own.ip(), 50_000);
    assert_eq!(bench.give(program, &question(0, "10.1.2.3")).len(), 1);
}

/// E-03: without the P-bit the question goes to the ETR, as it came.
#[test]
fn a_request_is_sent_on_to_the_etr() {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    router.flags.proxy_reply = false;
    bench.register(
        &mut router,
        &[record(key(0, "10.1.0.0/16"), &["192.0.2.1"])],
    );
    let asked = question(0, "10.1.2.3");
    let sent = bench.give(ITR.parse().unwrap(), &asked);
    assert_eq!(sent, [(ETR_A.parse().unwrap(), asked.clone())]);
    // One that came as it is goes on encapsulated.
    let plain = emit(&Message::Request(request(0, "10.1.2.3")));
    let sent = bench.give(ITR.parse().unwrap(), &plain);
    let Ok(Message::Encapsulated(encapsulated)) = parse(&sent[0].1) else {
        panic!("an encapsulated Map-Request")
    };
    assert_eq!(encapsulated.request, request(0, "10.1.2.3"));
    assert_eq!(encapsulated.destination.to_string(), "10.1.2.3:4342");
    assert_eq!(bench.count(Counter::Forwarded), 2);
    // There is no way to one of another family.
    let mut without_ipv6 = settings();
    without_ipv6.families = [true, false];
    bench.machine.configure(without_ipv6);
    assert_eq!(bench.give(ITR.parse().unwrap(), &asked), []);
    assert_eq!(bench.count(Counter::DropNoEtr), 1);
    bench.machine.configure(settings());
    // One ETR that lets us answer is enough.
    let mut other = Router::new(ETR_B, "first").with_id(2);
    bench.register(&mut other, &[record(key(0, "10.1.0.0/16"), &["192.0.2.1"])]);
    assert_eq!(bench.ask(0, "10.1.2.3").len(), 1);
}

/// R-15, E-03: where an EID was before it moved nobody is asked, but every router of the site where it is.
#[test]
fn a_request_is_sent_on_to_where_the_eid_is_now() {
    let mut bench = Bench::new(settings());
    let mut routers = [ETR_A, ETR_B].map(|address| Router::new(address, "first"));
    routers[1] = Router::new(ETR_B, "first").with_id(2);
    for router in &mut routers {
        router.flags.proxy_reply = false;
    }
    let asked_of = |bench: &mut Bench| {
        let requests = (0..20).map(|nonce| {
            emit(&Message::Request(Request {
                nonce,
                ..request(0, "10.1.2.3")
            }))
        });
        let mut asked: Vec<std::net::IpAddr> = requests
            .flat_map(|request| bench.give(ITR.parse().unwrap(), &request))
            .map(|(to, _)| to.ip())
            .collect();
        asked.sort_unstable();
        asked.dedup();
        asked
    };
    let [first, second] = &mut routers;
    let at = |rloc: &str| [record(key(0, "10.1.0.0/16"), &[rloc])];
    bench.register(first, &at("192.0.2.1"));
    bench.register(second, &at("192.0.2.2"));
    let address = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().ip();
    assert_eq!(asked_of(&mut bench), [address(ETR_B)]);
    bench.register(first, &at("192.0.2.1"));
    assert_eq!(asked_of(&mut bench), [address(ETR_A)]);
}

/// G-03, Q-01: to an ITR-RLOC of the request, to the port it came from.
#[test]
fn the_answer_goes_to_an_itr_rloc() {
    let mut bench = with(&[("10.1.0.0/16", &["192.0.2.1"])]);
    let plain = |rlocs: &[&str]| {
        let itr_rlocs = rlocs.iter().map(|rloc| ip(rloc)).collect();
        emit(&Message::Request(Request {
            itr_rlocs,
            ..request(0, "10.1.2.3")
        }))
    };
    let mut to = |rlocs: &[&str]| {
        let sent = bench.give(ITR.parse().unwrap(), &plain(rlocs));
        sent.first().map(|(to, _)| to.to_string())
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(
        to(&["192.0.2.8", "2001:db8:c::1"]),
        said("[2001:db8:c::1]:50000")
    );
    assert_eq!(
        to(&["192.0.2.8", "2001:db8:c::2"]),
        said("[2001:db8:c::2]:50000")
    );
    assert_eq!(to(&["192.0.2.8"]), said("192.0.2.8:50000"));
    assert_eq!(to(&["ff02::1", "0.0.0.0", "255.255.255.255"]), None);
    assert_eq!(bench.count(Counter::DropNoItrRloc), 1);
}

/// E-04: what a Map-Server and Map-Resolver does not answer.
#[test]
fn what_must_not_be_answered_is_dropped() {
    let mut bench = with(&[("10.1.0.0/16", &["192.0.2.1"])]);
    let flags = RequestFlags::default();
    let dropped = [
        (
            RequestFlags {
                probe: true,
                ..flags
            },
            Counter::DropProbe,
        ),
        (
            RequestFlags {
                solicit: true,
                ..flags
            },
            Counter::DropSolicit,
        ),
        (
            RequestFlags {
                no_reply: true,
                ..flags
            },
            Counter::DropNoReply,
        ),
    ];
    for (flags, counter) in dropped {
        let message = Message::Request(Request {
            flags,
            ..request(0, "10.1.2.3")
        });
        assert_eq!(bench.give(ITR.parse().unwrap(), &emit(&message)), []);
        assert_eq!(bench.count(counter), 1);
    }
    let reply = Message::Reply(Reply {
        flags: wire::ReplyFlags::default(),
        nonce: 1,
        records: Vec::new(),
    });
    assert_eq!(bench.give(ITR.parse().unwrap(), &emit(&reply)), []);
    assert_eq!(bench.count(Counter::DropUnexpected), 1);
    assert_eq!(bench.give(ITR.parse().unwrap(), &[0x70; 20]), []);
    assert_eq!(bench.count(Counter::DropMalformed), 1);
    let causes: Vec<_> = bench.machine.counters().malformed().collect();
    assert_eq!(causes, [("unknown_type", 1)]);
}

/// G-02.
#[test]
fn one_port_is_the_control_port() {
    let mut bench = with(&[("10.1.0.0/16", &["192.0.2.1"])]);
    let question = question(0, "10.1.2.3");
    let (control, other) = ("[2001:db8::1]:4342", "[2001:db8::1]:4343");
    for (from, to, answers) in [(control, other, 1), (other, control, 1), (other, other, 0)] {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        bench.machine.handle_input(bench.now, from, to, &question);
        assert_eq!(bench.sent().len(), answers);
    }
    assert_eq!(bench.count(Counter::DropPort), 1);
}

/// P-07, E-07: by who asks and by who is answered.
#[test]
fn requests_and_replies_have_their_rates() {
    let mut settings = settings();
    settings.requests = Rate {
        per_second: 10,
        burst: 50,
    };
    settings.replies = Rate {
        per_second: 10,
        burst: 20,
    };
    let mut bench = Bench::new(settings);
    let question = question(0, "10.1.2.3");
    let mut answers = 0;
    for _ in 0..100 {
        answers += bench.give(ITR.parse().unwrap(), &question).len();
    }
    assert_eq!(answers, 20);
    assert_eq!(bench.count(Counter::DropReplyRate), 30);
    assert_eq!(bench.count(Counter::DropRequestRate), 50);
    // The same ITR-RLOC named by somebody else is still not flooded.
    assert_eq!(bench.give(ETR_B.parse().unwrap(), &question).len(), 0);
}

/// several prefixes are several answers, with the nonce that was asked with.
#[test]
fn every_prefix_of_a_request_is_answered() {
    let mut bench = with(&[("10.1.0.0/16", &["192.0.2.1"])]);
    let mut two = request(0, "10.1.2.3");
    two.asked.extend(request(0, "10.9.2.3").asked);
    let sent = bench.give(ITR.parse().unwrap(), &emit(&Message::Request(two)));
    let found: Vec<Vec<String>> = sent
        .iter()
        .map(|(_, bytes)| keys(&reply(bytes).records))
        .collect();
    assert_eq!(found, [["10.1.0.0/16"], ["10.8.0.0/13"]]);
}

/// A question for more than is registered, as a refresh after a mapping was split: what holds its first address.
#[test]
fn a_question_for_more_than_is_registered_is_answered_truly() {
    let mut bench = with(&[("2001:db8:100::/48", &["192.0.2.1"])]);
    assert_eq!(
        keys(&bench.ask(0, "2001:db8:100::/44")),
        ["2001:db8:100::/48"]
    );
    let answer = bench.ask(0, "2001:db8:110::/44");
    assert_eq!(keys(&answer), ["2001:db8:110::/44"]);
    assert!(answer[0].locators.is_empty());
}
