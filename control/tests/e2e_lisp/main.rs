//! LISP through the real binary: the demo's two sites and the kernel's router between them, and what tshark says of every
//! packet in the underlay. Names like D-01 are those of `pipelines/RFC.md`.
//!
//! Needs root. The tests share the names of their namespaces, so they wait for each other.

mod families;
mod locators;
mod mappings;
mod probing;
mod underlay;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use control::demo::lisp::{CONFIG_A, CONFIG_B, Stage};
use control::lab::traffic;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The stage, and the turn to have it. The stage is dropped first.
struct Turn {
    stage: Stage,
    _turn: MutexGuard<'static, ()>,
}

/// `None` without the privileges it takes.
fn turn(config_a: &str, config_b: &str) -> Option<Turn> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and taps need root");
        return None;
    }
    // A test that failed has cleaned up all the same.
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let stage = Stage::set(Path::new(SEXTANT), config_a, config_b).expect("the stage");
    stage.wait_until_ready().expect("pings");
    Some(Turn { stage, _turn: turn })
}

/// The stage of the demo.
fn ready() -> Option<Turn> {
    turn(CONFIG_A, CONFIG_B)
}

/// Nothing of what `udp-flows` reports was lost; if it was, the boxes say what they dropped, and the router whom it found.
fn assert_all_answered(stage: &Stage, flows: &serde_json::Value) {
    if flows["unanswered"] == 0 {
        return;
    }
    let dropped = [&stage.box_a, &stage.box_b].map(|appliance| {
        let said = ["drops", "neighbors"].map(|what| appliance.command(&["show", what]));
        said.map(Result::unwrap_or_default).concat()
    });
    let neighbors = stage.core.run(&["ip", "-s", "neigh"]).unwrap_or_default();
    panic!("{flows}\n{}\n{neighbors}", dropped.concat());
}

/// in = out + drops + punts in both boxes, and nothing is left behind.
fn finish(turn: Turn) {
    let Turn { stage, _turn } = turn;
    for appliance in [&stage.box_a, &stage.box_b] {
        traffic::conservation(appliance).expect("in = out + drops + punts");
    }
    drop(stage);
    let namespaces = control::lab::run(&["ip", "netns", "list"]).expect("ip");
    assert!(!namespaces.contains("-lisp-"), "left over: {namespaces}");
}
