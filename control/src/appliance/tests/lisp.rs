//! The map-cache over the admin socket, over a reload, and beside packets.

use dataplane::testing::builder::Packet;

use super::bench::*;
use crate::admin::map::{MapChange, MapQuery};
use crate::admin::protocol::{Answer, Command, Refusal, Subject};
use crate::admin::view;

/// The site's prefix is EIDs of instance 0 in the one VRF there is.
fn lisp(settings: &str, mappings: &str) -> String {
    text(&format!(
        r#"
[lisp]
rlocs = ["2001:db8:ffff::2"]
{settings}
[[lisp.instances]]
eids = ["fd01:203:405::/48"]
map_request = ["2610::/16"]
{mappings}"#
    ))
}

const STATIC: &str = r#"
[[lisp.mappings]]
eid = "2610:b::/48"
locators = [{ rloc = "2001:db8:ffff::9", weight = 100 }]
"#;

fn change(bench: &mut Bench, lines: &[&str]) -> Answer {
    let changes = lines.iter().map(|line| serde_json::from_str(line));
    let changes: Result<Vec<MapChange>, _> = changes.collect();
    let command = Command::MapChange {
        changes: changes.expect("changes as documented"),
    };
    bench.appliance.answer(bench.now, command)
}

fn mappings(bench: &mut Bench, query: MapQuery) -> view::Mappings {
    let answer = bench.appliance.answer(bench.now, Command::MapShow(query));
    serde_json::from_value(answer.data).unwrap()
}

/// EID prefixes in force with where they come from.
fn all(bench: &mut Bench) -> Vec<(String, String)> {
    let shown = mappings(bench, MapQuery::default()).mappings.into_iter();
    shown.map(|mapping| (mapping.eid, mapping.source)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(eid, source)| ((*eid).to_owned(), (*source).to_owned()))
        .collect()
}

fn refusal(answer: &Answer) -> &str {
    assert_eq!(answer.reason, Some(Refusal::Failed), "{answer:?}");
    answer.error.as_deref().unwrap()
}

const ADD_B: &str = r#"{"add":{"eid":"2610:b::/48","action":"drop"}}"#;
const ADD_C: &str = r#"{"add":{"eid":"2610:c::/48","locators":[{"rloc":"2001:db8:ffff::8"}]}}"#;

#[test]
fn added_mappings_override_and_leave() {
    let mut bench = Bench::new(&lisp("", STATIC));
    bench.run(10);
    assert_eq!(all(&mut bench), pairs(&[("2610:b::/48", "static")]));
    let answer = change(&mut bench, &[ADD_B, ADD_C]);
    assert!(answer.ok, "{answer:?}");
    let changed: view::MapChanged = serde_json::from_value(answer.data).unwrap();
    assert_eq!((changed.changes, changed.mappings), (2, 2));
    assert_eq!(
        all(&mut bench),
        pairs(&[("2610:b::/48", "admin"), ("2610:c::/48", "admin")])
    );
    assert!(change(&mut bench, &[r#"{"delete":{"eid":"2610:b::/48"}}"#]).ok);
    assert_eq!(
        all(&mut bench),
        pairs(&[("2610:b::/48", "static"), ("2610:c::/48", "admin")])
    );
    let answer = change(&mut bench, &[r#"{"delete":{"eid":"2610:b::/48"}}"#]);
    assert!(refusal(&answer).contains("it stands in the configuration file"));
    let answer = change(&mut bench, &[r#"{"delete":{"eid":"2610:d::/48"}}"#]);
    assert_eq!(
        refusal(&answer),
        "2610:d::/48 of instance 0: there is no such mapping"
    );
}

#[test]
fn a_mistake_among_many_changes_nothing() {
    let mut bench = Bench::new(&lisp("", STATIC));
    bench.run(10);
    let own = r#"{"add":{"eid":"fd01:203:405:7::/64","action":"drop"}}"#;
    let answer = change(&mut bench, &[ADD_C, own, ADD_B]);
    assert_eq!(
        refusal(&answer),
        "nothing was changed, because of change 2: fd01:203:405:7::/64 of instance 0: \
         fd01:203:405:7::/64 is inside fd01:203:405::/48, an own EID prefix of the instance, \
         expected EIDs of another site"
    );
    assert_eq!(all(&mut bench), pairs(&[("2610:b::/48", "static")]));
    // One that is deleted twice was there once.
    let delete = r#"{"delete":{"eid":"2610:c::/48"}}"#;
    assert!(!change(&mut bench, &[ADD_C, delete, delete]).ok);
    assert!(change(&mut bench, &[ADD_C, delete, ADD_C]).ok);
    for (line, expected) in [
        (
            r#"{"add":{"instance":5,"eid":"2610::/16","action":"drop"}}"#,
            "there is no instance 5",
        ),
        (
            r#"{"add":{"eid":"2610:e::1/48","action":"drop"}}"#,
            "expected 2610:e::/48",
        ),
        (
            r#"{"add":{"eid":"2610:e::/48","locators":[{"rloc":"192.0.2.1"}]}}"#,
            "no own RLOC is",
        ),
        (
            r#"{"add":{"eid":"2610:e::/48","locators":[{"rloc":"2610::1","weight":101}]}}"#,
            "a weight of 101",
        ),
        (
            r#"{"add":{"eid":"::/0","action":"native"}}"#,
            "is a route of the instance's VRF",
        ),
        (
            r#"{"rloc":{"address":"ff02::1","state":"down"}}"#,
            "is a multicast address",
        ),
    ] {
        let answer = change(&mut bench, &[line]);
        assert!(refusal(&answer).contains(expected), "{answer:?}");
    }
}

#[test]
fn reload_keeps_added_mappings_as_long_as_they_fit() {
    let mut bench = Bench::new(&lisp("", STATIC));
    bench.run(10);
    assert!(change(&mut bench, &[ADD_B, ADD_C]).ok);
    let answer = bench.reload(&lisp("dscp = \"pipe\"", ""));
    assert_eq!(
        answer.data["changes"],
        serde_json::json!(["lisp: changed", "lisp.mappings: -2610:b::/48"])
    );
    assert_eq!(
        all(&mut bench),
        pairs(&[("2610:b::/48", "admin"), ("2610:c::/48", "admin")])
    );
    // Both become own EIDs.
    let own = lisp("", "").replace("405::/48\"]", "405::/48\", \"2610::/17\"]");
    let answer = bench.reload(&own);
    assert!(answer.ok, "{answer:?}");
    let changes = answer.data["changes"].to_string();
    assert!(
        changes.contains("2 of the mappings added at run time did not fit any more and went"),
        "{changes}"
    );
    assert_eq!(all(&mut bench), []);
    // And everything goes with [lisp].
    assert!(bench.reload(&lisp("", STATIC)).ok);
    assert!(bench.reload(&text("")).ok);
    assert_eq!(all(&mut bench), []);
    let answer = change(&mut bench, &[ADD_C]);
    assert_eq!(
        refusal(&answer),
        "there is no [lisp] in the configuration of this instance"
    );
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert!(!shown.configured);
    bench.run(10);
}

#[test]
fn mappings_are_shown_page_by_page_and_by_prefix() {
    let mut bench = Bench::new(&lisp("", ""));
    bench.run(10);
    let lines: Vec<String> = (0..3000)
        .map(|number| format!(r#"{{"add":{{"eid":"2610:{number:x}::/32","action":"drop"}}}}"#))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert!(change(&mut bench, &lines).ok);
    let mut query = MapQuery::default();
    let mut pages = Vec::new();
    loop {
        let page = mappings(&mut bench, query);
        pages.push(page.mappings.len());
        query.after = page.more_after;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [1024, 1024, 952]);
    let shown = |bench: &mut Bench, prefix: &str| {
        let query = MapQuery {
            prefix: Some(prefix.parse().unwrap()),
            ..MapQuery::default()
        };
        let shown = mappings(bench, query).mappings.into_iter();
        shown.map(|mapping| mapping.eid).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&mut bench, "2610:2::/31"),
        ["2610:2::/32", "2610:3::/32"]
    );
    assert_eq!(shown(&mut bench, "2610:7:1::1/128"), ["2610:7::/32"]);
    assert_eq!(shown(&mut bench, "10.0.0.0/8"), [""; 0]);
    // More than may be made at once.
    let many = vec![ADD_B; 4097];
    let answer = change(&mut bench, &many);
    assert_eq!(
        refusal(&answer),
        "4097 changes at once, expected at most 4096"
    );
}

#[test]
fn locators_are_shown_with_their_state_and_share() {
    let mut bench = Bench::new(&lisp("", ""));
    bench.run(10);
    let two = r#"{"add":{"eid":"2610:d::/48","locators":[{"rloc":"2001:db8:ffff::8","weight":75},{"rloc":"2001:db8:ffff::9","weight":25}]}}"#;
    assert!(change(&mut bench, &[two]).ok);
    bench.run(20);
    let states = |bench: &mut Bench| {
        let shown = mappings(bench, MapQuery::default()).mappings.remove(0);
        let locators = shown.locators.into_iter();
        locators
            .map(|locator| (locator.state, locator.share))
            .collect::<Vec<_>>()
    };
    let state = |text: &str, share| (text.to_owned(), share);
    assert_eq!(states(&mut bench), [state("up", 48), state("up", 16)]);
    let answer = change(
        &mut bench,
        &[r#"{"rloc":{"address":"2001:db8:ffff::8","state":"down"}}"#],
    );
    assert_eq!(answer.data["concerned"], 1);
    assert_eq!(states(&mut bench), [state("down", 0), state("up", 64)]);
    let shown: view::Lisp = bench.show(Subject::Lisp);
    let rlocs: Vec<_> = shown
        .rlocs
        .iter()
        .map(|rloc| (&*rloc.address, &*rloc.state))
        .collect();
    assert_eq!(
        rlocs,
        [("2001:db8:ffff::8", "down"), ("2001:db8:ffff::9", "up")]
    );
    assert_eq!(shown.rlocs[1].interface.as_deref(), Some("outside"));
    // It stays so while no mapping names it.
    assert!(change(&mut bench, &[r#"{"delete":{"eid":"2610:d::/48"}}"#]).ok);
    bench.run(50);
    assert!(change(&mut bench, &[two]).ok);
    bench.run(20);
    assert_eq!(states(&mut bench), [state("down", 0), state("up", 64)]);
    // And over a reload that takes [lisp] away and brings it back.
    assert!(bench.reload(&text("")).ok);
    assert!(bench.reload(&lisp("", "")).ok);
    assert!(change(&mut bench, &[two]).ok);
    bench.run(20);
    assert_eq!(states(&mut bench), [state("down", 0), state("up", 64)]);
    assert!(
        change(
            &mut bench,
            &[r#"{"rloc":{"address":"2001:db8:ffff::8","state":"up"}}"#]
        )
        .ok
    );
    assert_eq!(states(&mut bench), [state("up", 48), state("up", 16)]);
}

#[test]
fn lisp_is_shown_with_its_instances_and_own_rlocs() {
    let mut bench = Bench::new(&lisp("miss = \"hold\"", STATIC));
    bench.run(10);
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert_eq!(shown.roles, ["itr", "etr"]);
    assert_eq!((&*shown.vrf, &*shown.miss), ("main", "hold"));
    let [own] = &shown.own_rlocs[..] else {
        panic!("one RLOC")
    };
    assert_eq!(
        (&*own.address, &*own.interface, &*own.state, own.usable),
        ("2001:db8:ffff::2", "outside", "preferred", true)
    );
    let [instance] = &shown.instances[..] else {
        panic!("one instance")
    };
    assert_eq!(instance.eids, ["fd01:203:405::/48"]);
    assert_eq!(instance.map_request, ["2610::/16"]);
    assert_eq!(
        (instance.mappings, shown.mappings, shown.mappings_added),
        (1, 1, 0)
    );
    bench.links.lock().unwrap()[OUTSIDE] = false;
    bench.run(250);
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert!(!shown.own_rlocs[0].usable);
}

/// What a worker hands over when it finds no mapping.
fn missed(bench: &mut Bench, destination: &str) {
    let packet = Packet::ethernet(HOST, own_mac(INSIDE))
        .ipv6(address_of(HOST_ADDRESS), address_of(destination))
        .udp(1, 2, b"x")
        .build();
    let frame = dataplane::testing::HeapFrame::new(&packet);
    let interface = bench.appliance.slots.id(INSIDE);
    let meta = pipelines::Meta::originate(interface);
    bench.appliance.handle_miss(bench.now, 0, frame, meta);
}

fn discarded(bench: &mut Bench, name: &str) -> u64 {
    let drops: view::Drops = bench.show(Subject::Drops);
    let found = drops.control.iter().find(|count| count.name == name);
    found.map_or(0, |count| count.count)
}

#[test]
fn misses_are_remembered_and_their_packets_dropped() {
    let mut bench = Bench::new(&lisp("", ""));
    bench.run(10);
    missed(&mut bench, "2610:5::1");
    missed(&mut bench, "2610:5::1");
    let shown: view::Lisp = bench.show(Subject::Lisp);
    let [miss] = &shown.misses[..] else {
        panic!("one EID")
    };
    assert_eq!(
        (&*miss.eid, &*miss.source, miss.packets),
        ("2610:5::1", HOST_ADDRESS, 2)
    );
    assert_eq!(discarded(&mut bench, "map_cache_miss"), 2);
}

#[test]
fn held_packets_go_on_with_their_mapping_or_are_dropped_in_time() {
    let mut bench = Bench::new(&lisp("miss = \"hold\"", ""));
    bench.run(10);
    missed(&mut bench, "2610:5::1");
    missed(&mut bench, "2610:6::1");
    for _ in 0..5 {
        missed(&mut bench, "2610:7::1");
    }
    assert_eq!(discarded(&mut bench, "miss_limit"), 1);
    let released = |bench: &mut Bench| {
        let shown: view::Lisp = bench.show(Subject::Lisp);
        shown.miss_counters["released"]
    };
    let add = r#"{"add":{"eid":"2610:5::/32","locators":[{"rloc":"2001:db8:ffff::8"}]}}"#;
    assert!(change(&mut bench, &[add]).ok);
    bench.run(20);
    assert_eq!(released(&mut bench), 1, "the one that has a mapping");
    // To ask for a mapping is no mapping.
    let ask = r#"{"add":{"eid":"2610:6::/32","action":"send_map_request"}}"#;
    assert!(change(&mut bench, &[ask]).ok);
    bench.run(20);
    assert_eq!(released(&mut bench), 1);
    bench.run(2000);
    assert_eq!(discarded(&mut bench, "miss_timeout"), 5);
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert_eq!(shown.misses_remembered, 2);
    assert!(shown.misses.iter().all(|miss| miss.waiting == 0));
}

/// A packet that met old tables after its mapping came is handed back at once.
#[test]
fn packets_that_come_after_their_mapping_do_not_wait() {
    let mut bench = Bench::new(&lisp("miss = \"hold\"", STATIC));
    bench.run(10);
    missed(&mut bench, "2610:b::1");
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert_eq!(shown.misses_remembered, 0);
    assert_eq!(discarded(&mut bench, "miss_limit"), 0);
}

/// UDP destination port of what was sent encapsulated over IPv6, with its outer destination.
fn encapsulated(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let to_lisp = |frame: &&Vec<u8>| frame[20] == 17 && frame[56..58] == 4341_u16.to_be_bytes();
    frames
        .iter()
        .filter(to_lisp)
        .map(|frame| frame[38..54].to_vec())
        .collect()
}

/// The whole way: a packet misses and waits, a mapping is added, its locator's neighbour is found, and it leaves
/// encapsulated; then the locator is taken away.
#[test]
fn a_held_packet_leaves_encapsulated_once_it_is_mapped() {
    let mut bench = Bench::new(&lisp("miss = \"hold\"", ""));
    bench.run(10);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 1));
    bench.run(20);
    let shown: view::Lisp = bench.show(Subject::Lisp);
    assert_eq!((shown.misses_remembered, shown.misses[0].waiting), (1, 1));
    let add = r#"{"add":{"eid":"2610:5::/32","locators":[{"rloc":"2001:db8:ffff::8"}]}}"#;
    assert!(change(&mut bench, &[add]).ok);
    bench.run(20);
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::8"), ROUTER);
    bench.run(20);
    let locator = address_of("2001:db8:ffff::8").octets().to_vec();
    assert_eq!(encapsulated(&bench.sent(OUTSIDE)), [locator]);
    let used = |bench: &mut Bench| mappings(bench, MapQuery::default()).mappings[0].used_s;
    assert_eq!(used(&mut bench), Some(0));
    bench.run(3000);
    assert_eq!(used(&mut bench), Some(3));
    let down = r#"{"rloc":{"address":"2001:db8:ffff::8","state":"down"}}"#;
    assert!(change(&mut bench, &[down]).ok);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:5::1", 2));
    bench.run(20);
    assert!(encapsulated(&bench.sent(OUTSIDE)).is_empty());
    bench.assert_conserved();
}

/// F-06, F-07: a router on the way says what fits; from then on, until that is forgotten, hosts are told by us.
#[test]
fn what_a_path_carries_is_learned_told_and_forgotten() {
    let mut bench = Bench::new(&lisp("path_mtu = \"stateful\"\npath_mtu_age = 300", STATIC));
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::9"), ROUTER);
    bench.run(20);
    let large = || {
        Packet::ethernet(HOST, own_mac(INSIDE))
            .ipv6(address_of(HOST_ADDRESS), address_of("2610:b::1"))
            .udp(1, 2, &[0; 1370])
            .build()
    };
    let path_mtu = |bench: &mut Bench| {
        let shown: view::Lisp = bench.show(Subject::Lisp);
        shown.rlocs[0].path_mtu
    };
    bench.feed(INSIDE, &large());
    bench.run(20);
    let sent = bench.sent(OUTSIDE);
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::9"), ROUTER);
    bench.feed(INSIDE, &large());
    bench.run(20);
    let sent = [sent, bench.sent(OUTSIDE)].concat();
    assert!(!encapsulated(&sent).is_empty());
    let quote = sent
        .iter()
        .find(|frame| frame[20] == 17)
        .expect("it was sent");
    let too_big = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of("2001:db8:c::1"), address_of("2001:db8:ffff::2"))
        .icmpv6_error(2, 0, 1400, &quote[14..])
        .build();
    bench.feed(OUTSIDE, &too_big);
    bench.run(20);
    assert_eq!(path_mtu(&mut bench), Some(1400));
    let mut other = too_big;
    // Another router is quoted, one that no mapping names: the ICMPv6 checksum is wrong now, which is seen first.
    other[14 + 48 + 39] ^= 1;
    bench.feed(OUTSIDE, &other);
    bench.feed(INSIDE, &large());
    bench.run(20);
    bench.advertise(INSIDE, address_of(HOST_ADDRESS), HOST);
    bench.run(20);
    let told = bench.sent(INSIDE);
    let told = told.iter().find(|frame| frame[20] == 58 && frame[54] == 2);
    let mtu = told.map(|frame| u32::from_be_bytes(frame[58..62].try_into().unwrap()));
    assert_eq!(mtu, Some(1344), "56 bytes are for the outer headers");
    bench.run(301_000);
    assert_eq!(path_mtu(&mut bench), None);
    bench.assert_conserved();
}
