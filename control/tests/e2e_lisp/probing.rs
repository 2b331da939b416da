//! A provider fails without a word, or with ICMP: what box A's probes make of it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use control::demo::lisp::{B1_V4, B1_V6, B2_V6, CONFIG_A, CONFIG_B, Stage};
use control::lab::wait_until;
use serde_json::Value;

use crate::locators::{FLOWS, flows};
use crate::underlay::Capture;
use crate::{Turn, assert_all_answered, finish, turn};

fn with(line: &str) -> Option<Turn> {
    let config = CONFIG_A.replace("miss = \"hold\"\n", &format!("miss = \"hold\"\n{line}\n"));
    turn(&config, CONFIG_B)
}

/// A row of `show lisp rlocs` of box A.
fn rloc(stage: &Stage, rloc: &str) -> Value {
    let text = stage.box_a.command(&["show", "lisp", "rlocs", "--json"]);
    let shown: Value = serde_json::from_str(&text.expect("an answer")).expect("JSON");
    let mut rlocs = shown["rlocs"].as_array().into_iter().flatten();
    let found = rlocs.find(|known| known["address"] == rloc);
    found.expect("it is in a mapping").clone()
}

fn wait_for(stage: &Stage, address: &str, reason: &str) {
    let is_so = || rloc(stage, address)["reason"] == reason;
    wait_until(reason, Duration::from_secs(15), is_so).unwrap_or_else(|error| {
        let events = stage.box_a.command(&["show", "lisp", "events"]);
        panic!(
            "{error}\n{}\n{}",
            rloc(stage, address),
            events.unwrap_or_default()
        );
    });
}

/// What the router does with packets to the second locator of site B.
fn route(stage: &Stage, action: &str, kind: &str) {
    let words = ["ip", "-6", "route", action, kind, "2001:db8:b2::2/128"];
    stage.core.run(&words).expect("ip");
}

/// For whoever runs it, not only for whoever sees it fail.
fn say(text: &str) {
    let text = format!("\n{text}\n");
    std::io::stderr().write_all(text.as_bytes()).expect("said");
}

/// B-04, B-08: one of two providers loses everything and says nothing. Its flows move within 400 ms, those of the other
/// lose nothing, and all are where they were when it is back.
#[test]
fn flows_leave_a_provider_that_fails_silently() {
    let Some(turn) = with("probing = \"fast\"") else {
        return;
    };
    let stage = &turn.stage;
    for address in [B1_V6, B2_V6, B1_V4] {
        wait_for(stage, address, "answers probes");
    }
    let (report, shares) = flows(stage, "2", || {});
    assert_all_answered(stage, &report);
    let control = Capture::start_of(stage, "any", 4342);
    let (report, seen) = flows(stage, "12", || {
        std::thread::sleep(Duration::from_millis(750));
        route(stage, "add", "blackhole");
    });
    let silent: BTreeSet<u16> = serde_json::from_value(report["silent"].clone()).expect("ports");
    assert!(
        silent.is_subset(&shares.second),
        "the others lose nothing: {report}"
    );
    assert!(!silent.is_empty(), "it was noticed at all: {report}");
    let outage = report["outage_ms"].as_f64().expect("a number");
    let lost = &report["unanswered"];
    let sent = &report["sent"];
    say(&format!(
        "a provider failed silently: {lost} of {sent} packets lost, all of its flows, within {outage:.0} ms"
    ));
    // How fast is what is said above, and the demo shows; here only that it is not a matter of seconds.
    assert!(outage < 2000.0, "{report}");
    assert_eq!(seen.at_last, BTreeSet::from([B1_V6.to_owned()]));
    assert_eq!(seen.first.len(), FLOWS, "its flows moved");
    let down = rloc(stage, B2_V6);
    assert_eq!(
        (&down["state"], &down["reason"]),
        (&"down".into(), &"no answer to probes".into())
    );
    assert_eq!(rloc(stage, B1_V6)["state"], "up");
    // It is asked whether it is back.
    route(stage, "del", "blackhole");
    wait_for(stage, B2_V6, "answers probes");
    let (report, seen) = flows(stage, "1", || {});
    assert_all_answered(stage, &report);
    assert_eq!((&seen.first, &seen.second), (&shares.first, &shares.second));
    let control = control.stop();
    control.assert_sound_control();
    let probes = control.rows(
        "lisp.mreq.flags.probe == 1",
        &["ipv6.dst", "lisp.mreq.srceid.afi"],
    );
    let to_second = probes.iter().filter(|row| row[0][0] == B2_V6);
    assert!(to_second.count() > 10, "{probes:?}");
    assert!(
        probes.iter().all(|row| row[1][0] == "0"),
        "Q-04: no source EID"
    );
    let answers = control.rows(
        "lisp.mrep.flags.probe == 1 && lisp.mapping.auth == 1",
        &["lisp.loc.flags.probe", "ipv6.src"],
    );
    assert!(answers.len() > 10);
    for row in &answers {
        let marked = row[0].iter().filter(|flag| *flag == "1" || *flag == "True");
        assert_eq!(marked.count(), 1, "P-05: {row:?}");
    }
    let events = stage
        .box_a
        .command(&["show", "lisp", "events"])
        .expect("events");
    for expected in ["is down: no answer to probes", "is up: answers probes"] {
        assert!(
            events.contains(&format!("locator {B2_V6} {expected}")),
            "{events}"
        );
    }
    finish(turn);
}

/// B-04: where a router says that packets do not arrive, nobody waits for the period; and the commands by hand.
#[test]
fn icmp_and_the_operator_bring_probes_forward() {
    let Some(turn) = with("probe_period = 3600") else {
        return;
    };
    let stage = &turn.stage;
    for address in [B1_V6, B2_V6] {
        wait_for(stage, address, "answers probes");
    }
    let command = |words: &[&str]| stage.box_a.command(words);
    let probed = command(&["lisp", "probe", "--json"]).expect("all of them answer");
    let probed: Value = serde_json::from_str(&probed).expect("JSON");
    let times = probed["rlocs"].as_array().into_iter().flatten();
    let times: Vec<u64> = times
        .filter_map(|row| row["round_trip_us"].as_u64())
        .collect();
    assert_eq!(times.len(), 3, "{probed}");
    route(stage, "add", "unreachable");
    // Some of these flows meet it, and the router says so.
    let (report, _) = flows(stage, "6", || {});
    assert_ne!(report["unanswered"], 0);
    wait_for(stage, B2_V6, "no answer to probes, and ICMP says: no route");
    let (report, seen) = flows(stage, "1", || {});
    assert_all_answered(stage, &report);
    assert_eq!(seen.first.len(), FLOWS);
    let silent = command(&["lisp", "probe", B2_V6]).expect_err("it does not answer");
    assert!(
        silent
            .to_string()
            .contains("1 of the locators did not answer"),
        "{silent}"
    );
    route(stage, "del", "unreachable");
    for _ in 0..3 {
        command(&["lisp", "probe", "fd00:b:0:2::10", "-i", "7"]).expect("both answer");
    }
    wait_for(stage, B2_V6, "answers probes");
    let cleared = command(&["lisp", "clear", "--all"]).expect("done");
    assert!(cleared.contains("0 learned mappings"), "{cleared}");
    for part in [
        "map-cache",
        "database",
        "registrations",
        "rlocs",
        "statistics",
        "events",
    ] {
        command(&["show", "lisp", part]).expect(part);
    }
    finish(turn);
}
