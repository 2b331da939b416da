//! Mappings that move by themselves, with real processes: the demo's two sites without a static mapping, and
//! `sextant mapserver` on the router between them.
//!
//! Needs root.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use control::demo::lisp::{CONFIG_A, CONFIG_B, PAIRS, Stage};
use control::lab::{Process, run, traffic, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
/// An address of the router that both boxes reach.
const SERVER: &str = "2001:db8:a1::1";

/// A site of the demo that knows nobody and asks the Map-Server.
fn asking(config: &str, key: &str, id: &str) -> String {
    let own = config
        .split("[[lisp.mappings]]")
        .next()
        .expect("the part in front");
    let (before, instances) = own
        .split_once("[[lisp.instances]]")
        .expect("there are instances");
    let before = before.replace("miss = \"hold\"\n", "");
    format!(
        r#"{before}miss = "hold"
map_resolvers = ["{SERVER}"]
xtr_id = "{id}"
site_id = "1"
[[lisp.map_servers]]
address = "{SERVER}"
key = "{key}"
[[lisp.instances]]{instances}"#
    )
}

fn server_config(folder: &Path) -> PathBuf {
    let path = folder.join("mapserver.toml");
    let text = format!(
        r#"
[mapserver]
listen = ["{SERVER}"]
state = "{}"
registrations = "{}"

[[sites]]
name = "a"
keys = [{{ id = 1, secret = "of a" }}]
prefixes = [
    {{ instance = 7, eid = "fd00:a::/48" }},
    {{ instance = 7, eid = "10.1.0.0/16" }},
]

[[sites]]
name = "b"
keys = [{{ id = 1, secret = "of b" }}]
prefixes = [
    {{ instance = 7, eid = "fd00:b::/48" }},
    {{ instance = 7, eid = "10.2.0.0/16" }},
]
"#,
        folder.join("nonces").display(),
        folder.join("registrations").display()
    );
    std::fs::write(&path, text).expect("the configuration is written");
    path
}

fn start_server(stage: &Stage, folder: &Path) -> Process {
    let path = server_config(folder).display().to_string();
    let words = [SEXTANT, "mapserver", "-c", &path];
    stage.core.spawn(&words).expect("the Map-Server")
}

/// What `show lisp PART` of the Map-Server says.
fn shown(folder: &Path, part: &str) -> Option<Value> {
    let socket = folder.join("mapserver.sock").display().to_string();
    let words = [SEXTANT, "show", "lisp", part, "--json", "--socket", &socket];
    serde_json::from_str(&run(&words).ok()?).ok()
}

/// Boxes say within a minute that they are registered.
fn wait_for_registrations(stage: &Stage) {
    for appliance in [&stage.box_a, &stage.box_b] {
        wait_until("the registration", Duration::from_secs(60), || {
            let shown = appliance.show("lisp");
            shown.is_ok_and(|shown| shown["map_servers"][0]["registered"] == true)
        })
        .unwrap_or_else(|error| {
            let shown = appliance.command(&["show", "lisp"]).unwrap_or_default();
            panic!("{error}\n{shown}\n{}", appliance.log());
        });
    }
}

fn all_ping(stage: &Stage, what: &str) {
    for pair in PAIRS {
        let what = format!("{what}: {}", pair.name);
        let limit = Duration::from_secs(60);
        wait_until(&what, limit, || stage.pings(pair.a, pair.b)).unwrap_or_else(|error| {
            let shown = stage.box_a.command(&["show", "lisp"]).unwrap_or_default();
            let other = stage.box_b.command(&["show", "lisp"]).unwrap_or_default();
            panic!("{error}\n{shown}\n{other}\n{}", stage.box_a.log());
        });
    }
}

/// What tshark finds strange in what passed the router.
fn complaints(file: &Path) -> String {
    let path = file.display().to_string();
    let strange = "_ws.malformed || udp.checksum.status == 0 || _ws.expert.severity == error || \
        (udp.port == 4342 && !lisp)";
    run(&[
        "tshark",
        "-n",
        "-r",
        &path,
        "-o",
        "udp.check_checksum:TRUE",
        "-Y",
        strange,
    ])
    .expect("tshark")
}

fn kinds(file: &Path) -> Vec<String> {
    let path = file.display().to_string();
    let read = [
        "tshark",
        "-n",
        "-r",
        &path,
        "-Y",
        "lisp",
        "-T",
        "fields",
        "-e",
        "lisp.type",
    ];
    let text = run(&read).expect("tshark");
    let mut kinds: Vec<String> = text.split([',', '\n']).map(str::to_owned).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// O-01: by the box itself, and by another host that has its file; and what others know is not what a changed file says.
fn own_eids_are_known(stage: &Stage, config: &str, folder: &Path) {
    let said = stage
        .box_a
        .command(&["lig", "self"])
        .expect("they are known");
    for eid in ["fd00:a::/48", "10.1.0.0/16"] {
        let line = said.lines().find(|line| line.contains(eid));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(
            line.contains("yes") && line.contains("registered here"),
            "{said}"
        );
    }
    let file = folder.join("a.toml");
    let path = file.display().to_string();
    let words = [SEXTANT, "lig", "self", "-c", &path, "--json"];
    std::fs::write(&file, config).expect("a file");
    let said = stage.core.run(&words).expect("they are known");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["eids"][0]["said"], "as configured", "{said}");
    assert_eq!(said["eids"][1]["known"], true, "{said}");
    let other = config.replace("\"192.0.2.2\"]", "\"192.0.2.3\"]");
    let other = other.replace("\"192.0.2.2/28\"", "\"192.0.2.3/28\"");
    std::fs::write(&file, other).expect("a file");
    let error = stage.core.run(&words).expect_err("something else is known");
    let said = error.to_string();
    assert!(
        said.contains("2 of 2 own EID prefixes are not known"),
        "{said}"
    );
}

#[test]
fn sites_find_each_other_by_a_map_server() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and taps need root");
        return;
    }
    let (a, b) = (asking(CONFIG_A, "of a", "a"), asking(CONFIG_B, "of b", "b"));
    let stage = Stage::set(Path::new(SEXTANT), &a, &b).expect("the stage");
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("pcap");
    let path = file.display().to_string();
    let words = "tcpdump -n --immediate-mode -U -s 2048 -i sxl-core-b1 -w";
    let words: Vec<&str> = words.split(' ').chain([&*path, "udp port 4342"]).collect();
    let capture = stage.core.spawn(&words).expect("tcpdump");
    let server = start_server(&stage, folder.path());
    wait_for_registrations(&stage);
    all_ping(&stage, "by what was asked for");
    let mapping = stage.mapping("fd00:b::/48").expect("it was learned");
    assert_eq!(mapping["source"], "learned");
    assert!(
        mapping["expires_s"]
            .as_u64()
            .is_some_and(|seconds| seconds > 86_000),
        "{mapping}"
    );
    assert_eq!(
        mapping["locators"].as_array().map(Vec::len),
        Some(3),
        "{mapping}"
    );
    own_eids_are_known(&stage, &a, folder.path());
    // What is known needs no Map-Server.
    server.signal(Signal::TERM);
    server
        .wait(Duration::from_secs(5))
        .expect("the Map-Server ends");
    for pair in PAIRS {
        assert!(stage.pings(pair.a, pair.b), "{}", pair.name);
    }
    let asked = ["lig", "self", "--count", "1", "--timeout", "1"];
    let error = stage.box_a.command(&asked).expect_err("nobody answers");
    let said = error.to_string();
    assert!(
        said.contains("2 of 2 own EID prefixes are not known"),
        "{said}"
    );
    capture.signal(Signal::INT);
    capture.wait(Duration::from_secs(5)).expect("tcpdump ends");
    assert_eq!(complaints(&file), "");
    let kinds = kinds(&file);
    for kind in ["1", "2", "3", "4", "8"] {
        assert!(
            kinds.iter().any(|found| found == kind),
            "type {kind}: {kinds:?}"
        );
    }
    traffic::conservation(&stage.box_a).expect("in = out + drops + punts");
}

/// Killed without warning and started again beside flows that are mapped already: none of their packets is lost, what was
/// registered is answered at once, and the next Map-Registers are taken (R-05).
#[test]
fn a_map_server_that_is_killed_and_restarted_costs_known_flows_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and taps need root");
        return;
    }
    let (a, b) = (asking(CONFIG_A, "of a", "a"), asking(CONFIG_B, "of b", "b"));
    let stage = Stage::set(Path::new(SEXTANT), &a, &b).expect("the stage");
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path();
    let server = start_server(&stage, folder);
    wait_for_registrations(&stage);
    let limit = Duration::from_secs(90);
    let is_complete =
        || shown(folder, "registrations").is_some_and(|shown| shown["registered"]["total"] == 4);
    wait_until("registrations of both", limit, is_complete).expect("they come");
    let then = SystemTime::now();
    wait_until("a file with all of them", limit, || {
        let file = std::fs::metadata(folder.join("registrations"));
        let written = file.and_then(|file| file.modified());
        written.is_ok_and(|written| written > then)
    })
    .expect("it is written every half minute");
    all_ping(&stage, "by what was asked for");
    let flows: Vec<Process> = PAIRS
        .iter()
        .map(|pair| {
            let words = [
                "ping", "-n", "-i0.02", "-c500", "-w20", "-I", pair.a, pair.b,
            ];
            stage.host_a.spawn(&words).expect("ping")
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    server.signal(Signal::KILL);
    let ended = server.wait(Duration::from_secs(5));
    ended.expect("nothing survives that");
    std::thread::sleep(Duration::from_secs(2));
    let server = start_server(&stage, folder);
    let at_once = Duration::from_secs(5);
    wait_until("registrations of the disk", at_once, is_complete)
        .expect("they are there before anybody registers");
    let statistics = shown(folder, "statistics").expect("statistics");
    let before = &statistics["counters"]["map-server"];
    for (flow, pair) in flows.into_iter().zip(PAIRS) {
        let finished = flow.wait(Duration::from_secs(30)).expect("ping ends");
        let answered = traffic::answered(&finished.stdout, 1..=500);
        assert_eq!(answered, 500, "{}: {}", pair.name, finished.stdout);
    }
    // Both boxes' next registrations: their nonces are greater than what the server kept.
    wait_until("the next registrations", limit, || {
        let now = shown(folder, "statistics").unwrap_or_default();
        let now = &now["counters"]["map-server"]["record_accepted"];
        now.as_u64() >= before["record_accepted"].as_u64().map(|count| count + 4)
    })
    .expect("nonces rise");
    let statistics = shown(folder, "statistics").expect("statistics");
    assert_eq!(statistics["counters"]["map-server"]["drop_replay"], 0);
    server.signal(Signal::TERM);
    server.wait(Duration::from_secs(5)).expect("it ends");
    traffic::conservation(&stage.box_a).expect("in = out + drops + punts");
}

/// The box is killed beside flows while the Map-Server is gone: when it is back, what it learned is in force at once, and
/// the flows go on. A file that is damaged is said to be, and the box starts without.
#[test]
fn what_was_learned_is_kept_over_a_restart_without_a_map_server() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and taps need root");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("map-cache");
    let keeping = format!("map_cache = \"{}\"\nmap_resolvers", file.display());
    let a = asking(CONFIG_A, "of a", "a").replace("map_resolvers", &keeping);
    let b = asking(CONFIG_B, "of b", "b");
    let mut stage = Stage::set(Path::new(SEXTANT), &a, &b).expect("the stage");
    let server = start_server(&stage, folder.path());
    wait_for_registrations(&stage);
    all_ping(&stage, "by what was asked for");
    wait_until("a file with both", Duration::from_secs(60), || {
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        ["fd00:b::/48", "10.2.0.0/16"]
            .iter()
            .all(|eid| kept.contains(eid))
    })
    .expect("it is written every half minute");
    server.signal(Signal::KILL);
    server.wait(Duration::from_secs(5)).expect("it is gone");
    let flows: Vec<Process> = PAIRS
        .iter()
        .map(|pair| {
            let words = ["ping", "-n", "-i0.1", "-c200", "-W2", "-I", pair.b, pair.a];
            stage.host_b.spawn(&words).expect("ping")
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let killed = stage.box_a.process().expect("it runs");
    killed.signal(Signal::KILL);
    wait_until("its end", Duration::from_secs(5), || {
        !stage.box_a.is_running()
    })
    .expect("nothing survives that");
    stage.box_a.launch().expect("it starts again");
    stage.reconnect_a().expect("it is connected again");
    all_ping(&stage, "by what was kept");
    let log = stage.box_a.log();
    assert!(log.contains("map-cache hold still"), "{log}");
    let mapping = stage.mapping("fd00:b::/48").expect("it is there");
    assert_eq!(mapping["source"], "learned");
    for (flow, pair) in flows.into_iter().zip(PAIRS) {
        let finished = flow.wait(Duration::from_secs(60)).expect("ping ends");
        let went_on = traffic::answered(&finished.stdout, 150..=190);
        assert_eq!(went_on, 41, "{}: {}", pair.name, finished.stdout);
    }
    traffic::conservation(&stage.box_a).expect("in = out + drops + punts");
    assert_eq!(stage.box_a.stop().expect("it stops"), Some(0));
    let mut kept = std::fs::read(&file).expect("it was written at the end");
    kept[60] ^= 1;
    std::fs::write(&file, kept).expect("it is damaged");
    stage.box_a.launch().expect("it starts all the same");
    let log = stage.box_a.log();
    let said = "is not used, the map-cache begins empty: it is damaged";
    assert!(log.contains(said), "{log}");
    let text = stage
        .box_a
        .command(&["map", "show", "--json"])
        .expect("map show");
    assert!(!text.contains("learned"), "{text}");
}
