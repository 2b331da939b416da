//! Two boxes behind one router steer alike: one is killed under downloads, and no flow breaks.
//!
//! Needs root, and the stage of the demo (`sextant demo steering`), whose other claims the demo itself checks.

use std::path::Path;
use std::time::Duration;

use control::demo::steering::{SERVERS, Stage};
use control::lab::wait_until;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
/// That the router gives all of them to one of two boxes happens once in 32,000 times.
const DOWNLOADS: usize = 16;

/// Lessons, "ECMP change above us": only tables that are equal on all boxes survive it. Issue 6: "one is killed; flows
/// survive by equal tables".
#[test]
fn flows_survive_the_death_of_one_of_two_boxes() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and taps need root");
        return;
    }
    let stage = Stage::set(Path::new(SEXTANT)).expect("the stage");
    stage.wait_until_up(SERVERS - 1).expect("servers");
    let [first, second] = stage.pools().expect("pools");
    assert_eq!(first["digest"], second["digest"]);
    assert!(
        first["digest"]
            .as_str()
            .is_some_and(|digest| digest.len() == 16)
    );

    let downloads = stage.downloads("pair", DOWNLOADS).expect("curl");
    let begun = |pool: &serde_json::Value| -> u64 {
        let servers = pool["servers"].as_array().expect("servers").iter();
        servers
            .map(|server| server["flows"].as_u64().expect("a count"))
            .sum()
    };
    let shared = || {
        let pools = stage.pools().expect("pools");
        pools.iter().map(begun).sum::<u64>() >= DOWNLOADS as u64
    };
    wait_until("all flows", Duration::from_secs(10), shared).expect("they begin");
    let shares = stage.pools().expect("pools").map(|pool| begun(&pool));
    assert!(
        shares.iter().all(|share| *share > 0),
        "the router shares flows: {shares:?}"
    );

    // What is sent to the dead box is lost until the router knows, and sent again.
    stage.kill_second();
    std::thread::sleep(Duration::from_millis(500));
    stage.set_next_hops(&[1]).expect("the router");
    let mut from = std::collections::BTreeSet::new();
    for download in downloads {
        let end = download.wait().expect("it ends");
        assert!(end.is_whole, "{end:?}");
        from.insert(end.from);
    }
    assert!(from.len() > 1, "of several servers: {from:?}");

    // The other box has them all, though it remembered only some; all by the same table.
    let shown = stage.ask().expect("an answer");
    assert!(shown.starts_with("web-"), "{shown}");
}
