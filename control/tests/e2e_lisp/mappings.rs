//! Mappings that are not there, say no, belong to another tenant, or change.

use std::time::Duration;

use control::demo::lisp::{
    B1_V4, B1_V6, CONFIG_A, CONFIG_B, HOST_B_SHARED, HOST_B_UNKNOWN, NATIVE_HOST, PAIRS, Stage,
};
use control::lab::{Appliance, Namespace, traffic, wait_until};
use serde_json::Value;

use crate::underlay::Capture;
use crate::{assert_all_answered, finish, ready, turn};

fn map(stage: &Stage, words: &[&str]) {
    let all = [&["map"], words, &["--instance", "7"]].concat();
    stage.box_a.command(&all).expect("done");
}

/// What ping says of a destination that does not answer.
fn refused(stage: &Stage, from: &str, to: &str) -> String {
    let words = ["ping", "-n", "-c1", "-W2", "-I", from, to];
    let finished = stage
        .host_a
        .run_for(&words, Duration::from_secs(5))
        .expect("ping");
    assert!(!finished.success, "{}", finished.stdout);
    finished.stdout
}

/// C-02, C-09: a packet without a mapping waits for it; a negative mapping answers, or lets pass without LISP.
#[test]
fn a_miss_waits_and_a_negative_mapping_answers() {
    let Some(turn) = ready() else { return };
    let stage = &turn.stage;
    let [v6, v4] = [PAIRS[0].a, PAIRS[2].a];
    let ping = ["ping", "-n", "-c1", "-W4", "-I", v6, HOST_B_UNKNOWN];
    let ping = stage.host_a.spawn(&ping).expect("ping");
    let missed = || {
        let lisp = stage.box_a.show("lisp").expect("lisp");
        let mut misses = lisp["misses"]
            .as_array()
            .expect("a list")
            .clone()
            .into_iter();
        misses.find(|miss| miss["eid"] == HOST_B_UNKNOWN)
    };
    wait_until("the miss", Duration::from_secs(3), || missed().is_some()).expect("shown");
    let miss = missed().expect("it was there");
    assert_eq!(
        (&miss["instance"], &miss["source"]),
        (&7.into(), &v6.into())
    );
    assert_eq!((&miss["packets"], &miss["waiting"]), (&1.into(), &1.into()));
    map(stage, &["add", "fd00:b:0:9::/64", "--locator", B1_V6]);
    let finished = ping.wait(Duration::from_secs(5)).expect("ping ends");
    assert!(
        finished.success,
        "the held packet arrives: {}",
        finished.stdout
    );
    assert_eq!(missed(), None);
    let lisp = stage.box_a.show("lisp").expect("lisp");
    assert_eq!(lisp["miss_counters"]["released"], 1);

    for (action, answers_v6, answer_v4) in [
        ("drop", "No route", "Net Unreachable"),
        (
            "policy_denied",
            "Administratively prohibited",
            "Packet filtered",
        ),
    ] {
        map(stage, &["add", "fd00:c::/48", "--action", action]);
        map(stage, &["add", "10.3.0.0/16", "--action", action]);
        let said = refused(stage, v6, "fd00:c::1");
        assert!(
            said.contains("From fd00:a:0:6::1") && said.contains(answers_v6),
            "{said}"
        );
        let said = refused(stage, v4, "10.3.0.1");
        assert!(
            said.contains("From 10.1.6.1") && said.contains(answer_v4),
            "{said}"
        );
    }
    finish(turn);
}

/// A host that is no EID, by a route that LISP has nothing to do with and by a negative mapping: both times through
/// NPT66 to the provider, and back.
#[test]
fn what_is_no_eid_goes_natively_through_npt66() {
    let Some(turn) = ready() else { return };
    let stage = &turn.stage;
    map(stage, &["add", "2600:db8::/32", "--action", "native"]);
    for address in [NATIVE_HOST, "2001:db8:f0::1"] {
        let words = ["tcp-receive", "8080"];
        let receiver = traffic::listen(&stage.program, &stage.core, &words, 8080).expect("a peer");
        let to = traffic::socket(address, 8080);
        let sent = traffic::peer(&stage.program, &stage.host_a, &["tcp-send", &to, "1000000"]);
        let sent = sent.expect("sent");
        let received = receiver.wait(Duration::from_secs(10)).expect("received");
        let received = traffic::report(&received).expect("a report");
        assert_eq!(sent["sha256"], received["sha256"]);
        let from = received["from"].as_str().expect("an address");
        assert!(from.starts_with("[2001:db8:100:"), "{from}");
    }
    let lisp = stage.box_a.show("lisp").expect("lisp");
    assert_eq!(lisp["miss_counters"]["misses"], 0);
    finish(turn);
}

/// A second tenant: the first one's addresses, on a link and in an instance of its own, and one mapping less.
const TENANT_A: &str = r#"
[[ports]]
name = "tenant"
device = "net_tap4,iface=sxl-tenant-a,mac=02:00:00:00:0a:08"

[[interfaces]]
port = "tenant"
vrf = "tenant"
addresses = ["fd00:a:0:6::1/64", "10.1.6.1/24"]

[[lisp.instances]]
id = 8
vrf = "tenant"
eids = ["fd00:a::/48", "10.1.0.0/16"]
map_request = ["10.0.0.0/8"]

[[lisp.mappings]]
instance = 8
eid = "fd00:b:0:6::/64"
locators = [{ rloc = "192.0.2.34" }]

[[lisp.mappings]]
instance = 8
eid = "10.2.6.0/24"
locators = [{ rloc = "2001:db8:b1::2" }]
"#;

const TENANT_B: &str = r#"
[[ports]]
name = "tenant"
device = "net_tap3,iface=sxl-tenant-b,mac=02:00:00:00:0b:08"

[[interfaces]]
port = "tenant"
vrf = "tenant"
addresses = ["fd00:b:0:6::1/64", "10.2.6.1/24", "10.2.4.1/24"]

[[lisp.instances]]
id = 8
vrf = "tenant"
eids = ["fd00:b::/48", "10.2.0.0/16"]
map_request = ["10.0.0.0/8"]

[[lisp.mappings]]
instance = 8
eid = "fd00:a:0:6::/64"
locators = [{ rloc = "192.0.2.2" }]

[[lisp.mappings]]
instance = 8
eid = "10.1.6.0/24"
locators = [{ rloc = "2001:db8:a1::2" }]
"#;

/// A host of the second tenant.
fn tenant(name: &str, appliance: &Appliance, link: &str, [v6, v4]: [&str; 2]) -> Namespace {
    let host = Namespace::new(name).expect("a namespace");
    appliance.hand_over(link, &host).expect("the tap");
    host.configure(link, &[&format!("{v6}::10/64")], Some(&format!("{v6}::1")))
        .expect("IPv6");
    host.configure(link, &[&format!("{v4}.10/24")], Some(&format!("{v4}.1")))
        .expect("IPv4");
    host
}

/// D-06, D-24: two tenants with the same addresses do not meet.
#[test]
fn tenants_with_the_same_addresses_do_not_meet() {
    let [config_a, config_b] =
        [(CONFIG_A, TENANT_A), (CONFIG_B, TENANT_B)].map(|(one, two)| format!("{one}{two}"));
    let Some(turn) = turn(&config_a, &config_b) else {
        return;
    };
    let stage = &turn.stage;
    let (a, b) = (&stage.host_a, &stage.host_b);
    let second_a = tenant(
        "sextant-lisp-a2",
        &stage.box_a,
        "sxl-tenant-a",
        ["fd00:a:0:6", "10.1.6"],
    );
    let second_b = tenant(
        "sextant-lisp-b2",
        &stage.box_b,
        "sxl-tenant-b",
        ["fd00:b:0:6", "10.2.6"],
    );
    for to in [PAIRS[0].b, PAIRS[2].b] {
        let ping = || second_a.run(&["ping", "-n", "-c1", "-W1", to]).is_ok();
        wait_until("the second tenant", Duration::from_secs(10), ping).expect("a ping");
    }
    let capture = Capture::start(stage, "sxl-core-a1");
    for to in [PAIRS[0].b, PAIRS[2].b] {
        let counters = [b, &second_b].map(|host| {
            traffic::listen(&stage.program, host, &["udp-count", "9100", "1"], 9100)
                .expect("a peer")
        });
        let to = traffic::socket(to, 9100);
        for (host, count) in [(a, "50"), (&second_a, "30")] {
            traffic::peer(&stage.program, host, &["udp-send", &to, count, "1000"]).expect("sent");
        }
        let received = counters.map(|counter| {
            let finished = counter.wait(Duration::from_secs(10)).expect("it ends");
            traffic::report(&finished).expect("a report")["received"].clone()
        });
        assert_eq!(received, [Value::from(50), Value::from(30)]);
    }
    // What only the first one is told of is not there for the second.
    assert!(stage.pings(PAIRS[3].a, PAIRS[3].b));
    let lost = second_a.run(&["ping", "-n", "-c1", "-W1", PAIRS[3].b]);
    lost.expect_err("no mapping in this instance");
    let packets = capture.stop();
    packets.assert_sound();
    let instances = packets.rows("udp.dstport == 9100", &["lisp-data.iid"]);
    let count = |instance| instances.iter().filter(|row| row[0][0] == instance).count();
    assert_eq!((count("7"), count("8"), instances.len()), (100, 60, 160));
    drop((second_a, second_b));
    finish(turn);
}

/// Reloads that change, add and remove mappings while packets use them: not one is lost.
#[test]
fn reload_of_mappings_under_traffic_loses_nothing() {
    let Some(turn) = ready() else { return };
    let stage = &turn.stage;
    let other = CONFIG_A
        .replace("weight = 70", "weight = 20")
        .replace(
            "eid = \"fd00:b:0:6::/64\"\nlocators = [{ rloc = \"2001:db8:b1::2\" }]",
            "eid = \"fd00:b:0:6::/64\"\nlocators = [{ rloc = \"192.0.2.34\" }]",
        )
        .replace("miss = \"hold\"", "miss = \"drop\"\ndscp = \"pipe\"");
    let more: String = (1..200)
        .map(|site| {
            format!(
                "[[lisp.mappings]]\ninstance = 7\neid = \"fd00:{site:x}00::/32\"\n\
                 locators = [{{ rloc = \"{B1_V4}\" }}]\n"
            )
        })
        .collect();
    let other = format!("{other}\n{more}");
    let at = traffic::socket(PAIRS[0].b, 9100);
    let words = ["udp-count", "9100", "1"];
    let counter = traffic::listen(&stage.program, &stage.host_b, &words, 9100).expect("a peer");
    let words = ["udp-send", &at, "6000", "3000"];
    let sender = traffic::start(&stage.program, &stage.host_a, &words).expect("a peer");
    let at = traffic::socket(HOST_B_SHARED, 7007);
    let _echo = traffic::listen(&stage.program, &stage.host_b, &["udp-echo", &at], 7007);
    let words = ["udp-flows", &at, "100", "20", "1000"];
    let flows = traffic::start(&stage.program, &stage.host_a, &words).expect("a peer");
    for round in 0..8 {
        let text = if round % 2 == 0 { &other } else { CONFIG_A };
        stage.box_a.write_config(text).expect("written");
        let said = stage.box_a.command(&["reload"]).expect("reloaded");
        assert!(said.contains("lisp"), "{said}");
        std::thread::sleep(Duration::from_millis(130));
    }
    let [sent, flows, received] = [sender, flows, counter].map(|process| {
        let finished = process.wait(Duration::from_secs(15)).expect("it ends");
        traffic::report(&finished).expect("a report")
    });
    assert_eq!(
        (&sent["sent"], &received["received"]),
        (&6000.into(), &6000.into())
    );
    assert_all_answered(stage, &flows);
    finish(turn);
}
