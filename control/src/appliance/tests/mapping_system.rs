//! The mapping system over packets: questions, answers, registrations, and what the operator sees of them.

use std::net::{IpAddr, SocketAddr};

use dataplane::testing::builder::Packet;

use super::bench::*;
use crate::admin::map::MapQuery;
use crate::admin::protocol::{Command, LispPart, Subject};
use crate::admin::view;
use crate::proto::lisp::wire::auth::{self, Secret};
use crate::proto::lisp::wire::{
    self, Act, LocatorRecord, Message, Notify, Record, Register, Reply, ReplyFlags, Request,
};
use crate::proto::lisp::{Action, EidKey, InstanceId, Locator};

const OWN: &str = "2001:db8:ffff::2";
const SERVER: &str = "2001:db8:ffff::100";
const PEER: &str = "2001:db8:ffff::9";

fn lisp(settings: &str, mappings: &str) -> String {
    text(&format!(
        r#"
[lisp]
rlocs = ["{OWN}"]
miss = "hold"
map_resolvers = ["{SERVER}"]
{settings}
[[lisp.map_servers]]
address = "{SERVER}"
key = "a secret"
[[lisp.instances]]
eids = ["fd01:203:405::/48"]
map_request = ["2610::/16"]
{mappings}"#
    ))
}

fn key(prefix: &str) -> EidKey {
    EidKey {
        instance: InstanceId::default(),
        eid: prefix.parse().unwrap(),
    }
}

/// A box whose neighbours on the underlay are known.
fn started(text: &str) -> Bench {
    let mut bench = Bench::new(text);
    bench.run(5);
    for neighbour in [SERVER, PEER] {
        bench.advertise(OUTSIDE, address_of(neighbour), ROUTER);
    }
    bench.run(5);
    bench
}

/// Time goes on, and the neighbours go on answering.
fn run(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds / 2 {
        for neighbour in [SERVER, PEER] {
            bench.advertise(OUTSIDE, address_of(neighbour), ROUTER);
        }
        bench.run(2000);
    }
}

/// Control messages that left, with where they went.
fn sent(bench: &mut Bench) -> Vec<(SocketAddr, Message)> {
    let frames = bench.sent(OUTSIDE).into_iter();
    let messages = frames.filter_map(|frame| {
        let (from, to, payload) = wire::open(frame.get(14..)?).ok()?;
        if to.port() == wire::DATA_PORT {
            return None;
        }
        assert_eq!(from, SocketAddr::new(OWN.parse().unwrap(), 4342));
        Some((to, wire::parse(payload).expect("ours are right")))
    });
    messages.collect()
}

fn request(bench: &mut Bench) -> Request {
    let messages = sent(bench).into_iter();
    let mut requests = messages.filter_map(|(to, message)| match message {
        Message::Encapsulated(encapsulated) => Some((to, encapsulated.request)),
        _ => None,
    });
    let (to, request) = requests.next().expect("a Map-Request left");
    assert_eq!(to, SocketAddr::new(SERVER.parse().unwrap(), 4342));
    request
}

fn register(bench: &mut Bench) -> Option<Register> {
    let messages = sent(bench).into_iter();
    let mut registers = messages.filter_map(|(_, message)| match message {
        Message::Register(register) => Some(register),
        _ => None,
    });
    registers.next()
}

fn receive(bench: &mut Bench, from: &str, bytes: &[u8]) {
    let frame = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of(from), address_of(OWN))
        .udp(4342, 4342, bytes)
        .build();
    bench.feed(OUTSIDE, &frame);
    bench.run(20);
}

fn answer(bench: &mut Bench, nonce: u64, record: Record) {
    let reply = Reply {
        flags: ReplyFlags::default(),
        nonce,
        records: vec![record],
    };
    receive(bench, PEER, &wire::emit(&Message::Reply(reply)));
}

fn positive(prefix: &str, rlocs: &[&str], ttl_minutes: u32) -> Record {
    let mut record = Record::negative(key(prefix), Act::default(), ttl_minutes);
    let rlocs = rlocs.iter().map(|rloc| rloc.parse::<IpAddr>().unwrap());
    record.locators = rlocs
        .map(|rloc| LocatorRecord::new(Locator::new(rloc)))
        .collect();
    record
}

fn mappings(bench: &mut Bench) -> Vec<view::MappingView> {
    let command = Command::MapShow(MapQuery::default());
    let answer = bench.appliance.answer(bench.now, command);
    let shown: view::Mappings = serde_json::from_value(answer.data).unwrap();
    shown.mappings
}

/// Outer destinations of encapsulated packets that left.
fn encapsulated(bench: &mut Bench) -> Vec<Vec<u8>> {
    let frames = bench.sent(OUTSIDE).into_iter();
    let to_lisp = |frame: &Vec<u8>| frame[20] == 17 && frame[56..58] == 4341_u16.to_be_bytes();
    frames
        .filter(to_lisp)
        .map(|frame| frame[38..54].to_vec())
        .collect()
}

fn discarded(bench: &mut Bench, name: &str) -> u64 {
    let drops: view::Drops = bench.show(Subject::Drops);
    let found = drops.control.iter().find(|count| count.name == name);
    found.map_or(0, |count| count.count)
}

#[test]
fn a_miss_asks_and_its_packet_leaves_encapsulated_with_the_answer() {
    let mut bench = started(&lisp("", ""));
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
    bench.run(20);
    let request = request(&mut bench);
    assert_eq!(request.asked[0].key, key("2610:5::1/128"));
    let source = request.source.unwrap().address;
    assert_eq!(source.to_string(), HOST_ADDRESS);
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert_eq!((shown.requests_pending, shown.misses[0].waiting), (1, 1));
    // Not with another nonce.
    answer(
        &mut bench,
        request.nonce ^ 1,
        positive("2610:5::/32", &[PEER], 2),
    );
    assert!(mappings(&mut bench).is_empty());
    answer(
        &mut bench,
        request.nonce,
        positive("2610:5::/32", &[PEER], 2),
    );
    let locator = address_of(PEER).octets().to_vec();
    assert_eq!(encapsulated(&mut bench), [locator]);
    let [mapping] = &mappings(&mut bench)[..] else {
        panic!("one was learned")
    };
    assert_eq!(
        (&*mapping.eid, &*mapping.source),
        ("2610:5::/32", "learned")
    );
    assert!(
        mapping
            .expires_s
            .is_some_and(|seconds| (100..=120).contains(&seconds))
    );
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert_eq!((shown.mappings_learned, shown.requests_pending), (1, 0));
    assert_eq!(shown.control_counters["learned"], 1);
    assert_eq!(shown.control_counters["reply_unknown_nonce"], 1);
    assert_eq!(shown.map_resolvers, [SERVER]);
    // Unused, it is gone in time; in use, it is asked for again.
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 2));
    run(&mut bench, 2);
    assert!(
        mappings(&mut bench)[0].used_s.is_some(),
        "looking at it does not hide its use"
    );
    run(&mut bench, 100);
    let again = self::request(&mut bench);
    assert_eq!(
        (again.asked[0].key, again.source),
        (key("2610:5::/32"), None)
    );
    run(&mut bench, 26);
    assert!(mappings(&mut bench).is_empty());
    bench.assert_conserved();
}

#[test]
fn what_the_operator_says_comes_before_what_is_learned() {
    let fixed = "[[lisp.mappings]]\neid = \"2610:5::/32\"\naction = \"send_map_request\"\n";
    let mut bench = started(&lisp("", fixed));
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
    bench.run(20);
    let request = request(&mut bench);
    answer(
        &mut bench,
        request.nonce,
        positive("2610:5::/32", &[PEER], 2),
    );
    let source = |bench: &mut Bench| mappings(bench)[0].source.clone();
    assert_eq!(source(&mut bench), "static");
    let without = lisp("", "");
    assert!(bench.reload(&without).ok);
    bench.run(20);
    assert_eq!(source(&mut bench), "learned");
    // It cannot be deleted by hand, but be covered.
    let change = |line: &str| Command::MapChange {
        changes: vec![serde_json::from_str(line).unwrap()],
    };
    let delete = change(r#"{"delete":{"eid":"2610:5::/32"}}"#);
    let refused = bench.appliance.answer(bench.now, delete.clone());
    assert!(refused.error.unwrap().contains("it was learned"));
    let add = change(r#"{"add":{"eid":"2610:5::/32","action":"drop"}}"#);
    assert!(bench.appliance.answer(bench.now, add).ok);
    assert_eq!(source(&mut bench), "admin");
    assert!(bench.appliance.answer(bench.now, delete).ok);
    assert_eq!(source(&mut bench), "learned");
    // Without anybody to ask, nothing that was learned holds.
    let nobody = without.replace(&format!("map_resolvers = [\"{SERVER}\"]"), "");
    assert!(bench.reload(&nobody).ok);
    bench.run(20);
    assert!(mappings(&mut bench).is_empty());
}

#[test]
fn what_is_learned_is_fitted_to_what_the_box_can_do() {
    for (record, expected) in [
        (positive("2610:5::/32", &["192.0.2.9", PEER], 2), (None, 1)),
        (
            positive("2610:5::/32", &["192.0.2.9"], 2),
            (Some("drop"), 0),
        ),
        (
            positive("2610:5::/32", &["ff02::1", OWN], 2),
            (Some("drop"), 0),
        ),
        (
            Record::negative(key("2610:5::/32"), Act::from(Action::PolicyDenied), 2),
            (Some("policy_denied"), 0),
        ),
    ] {
        let mut bench = started(&lisp("", ""));
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
        bench.run(20);
        let request = request(&mut bench);
        answer(&mut bench, request.nonce, record);
        let [mapping] = &mappings(&mut bench)[..] else {
            panic!("one was learned")
        };
        assert_eq!(
            (mapping.action.as_deref(), mapping.locators.len()),
            expected
        );
    }
    // X-02, C-14: natively means to the proxy ETR where there is one, and nowhere from a proxy ITR.
    for (more, expected) in [
        (String::new(), "native"),
        (format!("petr = [\"{PEER}\"]"), "petr"),
        ("roles = [\"itr\", \"etr\", \"pitr\"]".to_owned(), "drop"),
    ] {
        let mut bench = started(&lisp(&more, ""));
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
        bench.run(20);
        let request = request(&mut bench);
        let native = Record::negative(key("2610::/20"), Act::from(Action::Native), 15);
        answer(&mut bench, request.nonce, native);
        assert_eq!(mappings(&mut bench)[0].action.as_deref(), Some(expected));
    }
    // A route of the VRF stands in its place.
    let mut bench = started(&lisp("", ""));
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
    bench.run(20);
    let request = request(&mut bench);
    answer(
        &mut bench,
        request.nonce,
        Record::negative(key("::/0"), Act::from(Action::Drop), 2),
    );
    assert!(mappings(&mut bench).is_empty());
    assert_eq!(discarded(&mut bench, "mapping_unfit"), 1);
}

#[test]
fn own_eids_are_registered_and_the_operator_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonce");
    let text = lisp(&format!("state = \"{}\"", path.display()), "");
    let mut bench = started(&text);
    let server = |bench: &mut Bench| {
        let shown: view::Lisp = bench.show(Subject::Lisp);
        shown.map_servers[0].clone()
    };
    assert!(!server(&mut bench).registered);
    let register = register(&mut bench).expect("it registers at once");
    assert!(register.body.nonce > 1000 << 32);
    assert_eq!(register.body.records[0].key, key("fd01:203:405::/48"));
    let kept: u64 = std::fs::read_to_string(&path)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(kept >= register.body.nonce, "kept before it is sent");
    let mut bytes = wire::emit(&Message::Notify(Notify {
        body: register.body,
    }));
    auth::seal(&mut bytes, &Secret::new(b"another")).unwrap();
    receive(&mut bench, SERVER, &bytes);
    assert!(!server(&mut bench).registered);
    auth::seal(&mut bytes, &Secret::new(b"a secret")).unwrap();
    receive(&mut bench, SERVER, &bytes);
    assert!(server(&mut bench).registered);
    bench.run(3000);
    assert_eq!(server(&mut bench).notified_s, Some(3));
    let shown: view::LispRegistrations = bench.show_lisp(LispPart::Registrations);
    assert!(shown.map_servers[0].registered && shown.eids == 1);
    let shown: view::LispDatabase = bench.show_lisp(LispPart::Database);
    assert_eq!(shown.eids[0].eid, "fd01:203:405::/48");
    assert_eq!(shown.rlocs[0].rloc, OWN);
    assert!(shown.rlocs[0].reachable);
    let shown: view::LispStatistics = bench.show_lisp(LispPart::Statistics);
    assert_eq!(shown.counters["control"]["registered"], 1);
    let shown: view::LispEvents = bench.show_lisp(LispPart::Events);
    let event = shown.events.last().unwrap();
    assert_eq!(
        event.text,
        format!("Map-Server {SERVER} has our registration")
    );
    assert!((3000..3100).contains(&event.age_ms));
    assert!(self::register(&mut bench).is_none());
    // Started again, it goes on where it stopped.
    std::fs::write(&path, format!("{}\n", u64::MAX / 2)).unwrap();
    let mut again = started(&text);
    let register = self::register(&mut again).unwrap();
    assert!(register.body.nonce > u64::MAX / 2);
    bench.assert_conserved();
}

#[test]
fn others_are_told_how_to_use_own_rlocs() {
    let own = format!("rlocs = [{{ rloc = \"{OWN}\", priority = 3, weight = 7 }}]");
    let mut bench = started(&lisp("", "").replace(&format!("rlocs = [\"{OWN}\"]"), &own));
    let register = register(&mut bench).expect("it registers at once");
    let locator = register.body.records[0].locators[0];
    assert_eq!((locator.priority, locator.weight), (3, 7));
    assert!(locator.is_reachable && locator.is_local);
}

/// G-04.
#[test]
fn control_messages_without_a_right_checksum_are_not_read() {
    let mut bench = started(&lisp("", ""));
    let request = Request::new(1, vec![PEER.parse().unwrap()], key("fd01:203:405::1/128"));
    let bytes = wire::emit(&Message::Request(request));
    let frame = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of(PEER), address_of(OWN))
        .udp(4342, 4342, &bytes)
        .build();
    sent(&mut bench);
    for wrong in [[0, 0], [1, 2]] {
        let mut frame = frame.clone();
        frame[60..62].copy_from_slice(&wrong);
        bench.feed(OUTSIDE, &frame);
        bench.run(20);
    }
    assert_eq!(discarded(&mut bench, "lisp_control_invalid"), 2);
    let replies = |bench: &mut Bench| {
        let messages = sent(bench).into_iter();
        messages
            .filter(|(_, message)| matches!(message, Message::Reply(_)))
            .count()
    };
    assert_eq!(replies(&mut bench), 0);
    bench.feed(OUTSIDE, &frame);
    bench.run(20);
    assert_eq!(replies(&mut bench), 1, "and the right one is answered");
}

#[test]
fn nothing_is_sent_from_an_rloc_that_is_not_usable() {
    let mut bench = started(&lisp("", ""));
    bench.links.lock().unwrap()[OUTSIDE] = false;
    bench.run(300);
    sent(&mut bench);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
    bench.run(3000);
    assert!(sent(&mut bench).is_empty());
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert!(shown.control_counters["request_no_source"] > 0);
    bench.links.lock().unwrap()[OUTSIDE] = true;
    bench.run(1300);
    bench.advertise(OUTSIDE, address_of(SERVER), ROUTER);
    bench.run(1000);
    assert!(!sent(&mut bench).is_empty());
}

/// `sextant lisp clear`: what was learned is forgotten, and asked for again.
#[test]
fn what_was_learned_can_be_cleared() {
    let mut bench = started(&lisp("", ""));
    let learn = |bench: &mut Bench| {
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
        bench.run(1100);
        let request = request(bench);
        answer(bench, request.nonce, positive("2610:5::/32", &[PEER], 2));
        assert_eq!(mappings(bench).len(), 1);
    };
    let clear = |bench: &mut Bench, prefix: Option<&str>| {
        let command = Command::LispClear {
            instance: Some(InstanceId::default()),
            prefix: prefix.map(|prefix| prefix.parse().unwrap()),
        };
        let answer = bench.appliance.answer(bench.now, command);
        let cleared: view::LispCleared = serde_json::from_value(answer.data).unwrap();
        cleared.forgotten
    };
    for (other, prefix) in [
        (Some("2610:6::/32"), Some("2610:5::/32")),
        (Some("2610:5::/48"), Some("2610::/16")),
        (None, None),
    ] {
        learn(&mut bench);
        if other.is_some() {
            assert_eq!(clear(&mut bench, other), 0);
            assert_eq!(mappings(&mut bench).len(), 1);
        }
        assert_eq!(clear(&mut bench, prefix), 1);
        assert!(mappings(&mut bench).is_empty());
        bench.run(5);
        encapsulated(&mut bench);
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 2));
        bench.run(2);
        assert!(encapsulated(&mut bench).is_empty());
        bench.run(2500);
        sent(&mut bench);
    }
    bench.assert_conserved();
}
