//! Many flows over two locators: their shares, and what happens when one locator goes.

use std::collections::BTreeSet;
use std::time::Duration;

use control::demo::lisp::{B1_V6, B2_V6, HOST_B_SHARED, Stage};
use control::lab::{Process, traffic, wait_until};
use serde_json::Value;

use crate::underlay::Capture;
use crate::{assert_all_answered, finish, ready};

pub(crate) const SHARED: &str = "fd00:b:0:2::/64";
pub(crate) const FLOWS: usize = 400;

/// Flows, by their source ports, that were seen on the way to each locator of site B, and which locator the last
/// datagrams went to, as many as there are flows.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) first: BTreeSet<u16>,
    pub(crate) second: BTreeSet<u16>,
    pub(crate) at_last: BTreeSet<String>,
}

/// Send `rounds` datagrams in each flow, do something meanwhile, and see where they went.
pub(crate) fn flows(stage: &Stage, rounds: &str, meanwhile: impl FnOnce()) -> (Value, Seen) {
    let capture = Capture::start(stage, "any");
    let at = traffic::socket(HOST_B_SHARED, 7007);
    let _echo: Process =
        traffic::listen(&stage.program, &stage.host_b, &["udp-echo", &at], 7007).expect("a peer");
    let words = ["udp-flows", &at, &FLOWS.to_string(), rounds, "2000"];
    let sender = traffic::start(&stage.program, &stage.host_a, &words).expect("a peer");
    meanwhile();
    let finished = sender.wait(Duration::from_secs(20)).expect("it ends");
    let report = traffic::report(&finished).expect("a report");
    let rows = capture
        .stop()
        .rows("udp.dstport == 7007", &["ipv6.dst", "udp.srcport"]);
    let sent: Vec<(&str, u16)> = rows
        .iter()
        .map(|row| (&*row[0][0], row[1][1].parse().expect("a port")))
        .collect();
    let to = |rloc| {
        let to_rloc = sent.iter().filter(|(outer, _)| *outer == rloc);
        to_rloc.map(|(_, port)| *port).collect()
    };
    let last = sent.iter().rev().take(FLOWS);
    let seen = Seen {
        first: to(B1_V6),
        second: to(B2_V6),
        at_last: last.map(|(outer, _)| (*outer).to_owned()).collect(),
    };
    (report, seen)
}

fn wait_for_state(stage: &Stage, rloc: &str, state: &str) {
    let is_so = || {
        stage
            .locator_state(SHARED, rloc)
            .is_ok_and(|found| found == state)
    };
    wait_until(state, Duration::from_secs(5), is_so).expect("the locator's state");
}

fn set(stage: &Stage, rloc: &str, state: &str) {
    stage
        .box_a
        .command(&["map", "rloc", rloc, state])
        .expect("done");
}

/// C-03 to C-06, D-20: the flows go 70 to 30; those of a locator that is taken away or whose link fails move, the others
/// neither move nor lose a packet, and all are where they were when it is back.
#[test]
fn only_the_flows_of_a_lost_locator_move() {
    let Some(turn) = ready() else { return };
    let stage = &turn.stage;
    let (report, shares) = flows(stage, "2", || {});
    assert_all_answered(stage, &report);
    assert!(shares.first.is_disjoint(&shares.second), "{shares:?}");
    assert_eq!(shares.first.len() + shares.second.len(), FLOWS);
    // 45 of 64 buckets are 70.3 %; four standard deviations of 400 flows are 9 %.
    let percent = 100 * shares.first.len() / FLOWS;
    assert!((61..=80).contains(&percent), "{percent} %");

    // Taken away by hand, in the middle of the second of six rounds.
    let (report, seen) = flows(stage, "6", || {
        std::thread::sleep(Duration::from_millis(350));
        set(stage, B1_V6, "down");
    });
    assert_all_answered(stage, &report);
    assert!(seen.first.is_disjoint(&shares.second), "the others stay");
    assert_eq!(seen.second.len(), FLOWS, "its own move");
    assert_eq!(seen.at_last, BTreeSet::from([B2_V6.to_owned()]));
    set(stage, B1_V6, "up");
    let (_, seen) = flows(stage, "1", || {});
    assert_eq!((&seen.first, &seen.second), (&shares.first, &shares.second));

    // The link towards the other one fails.
    let (report, seen) = flows(stage, "6", || {
        std::thread::sleep(Duration::from_millis(350));
        stage.set_second_uplink("down").expect("down");
        wait_for_state(stage, B2_V6, "unreachable");
    });
    let silent: BTreeSet<u16> = serde_json::from_value(report["silent"].clone()).expect("ports");
    assert!(
        silent.is_subset(&shares.second),
        "nothing of the others is lost: {report}"
    );
    assert!(seen.second.is_subset(&shares.second), "the others stay");
    assert_eq!(seen.at_last, BTreeSet::from([B1_V6.to_owned()]));
    stage.set_second_uplink("up").expect("up");
    wait_for_state(stage, B2_V6, "up");
    assert!(stage.pings("fd00:a:0:6::10", HOST_B_SHARED));
    let (_, seen) = flows(stage, "1", || {});
    assert_eq!((&seen.first, &seen.second), (&shares.first, &shares.second));
    finish(turn);
}
