//! The real binary between two Linux hosts: the demo (all of it), reloads under traffic, and what tshark says of every packet.
//!
//! Needs root. The tests share the demo's namespaces, so they run one after the other (`--test-threads=1`).

use std::path::Path;
use std::time::Duration;

use control::demo::npt66::{CONFIG, INSIDE_HOST_SEEN, OUTSIDE_HOST, Stage};
use control::lab::{Process, WRONG_TCP_CHECKSUM, run, run_for, wait_until};
use serde_json::Value;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: namespaces and taps need root");
    }
    root
}

/// The stage of the demo, once its hosts reach each other.
fn stage() -> Stage {
    let stage = Stage::set(Path::new(SEXTANT)).expect("the stage");
    let ready = || {
        stage
            .inside
            .run(&["ping", "-6", "-c1", "-W1", OUTSIDE_HOST])
            .is_ok()
    };
    wait_until("the first ping", Duration::from_secs(20), ready).expect("a ping");
    stage
}

fn assert_nothing_left() {
    let namespaces = run(&["ip", "netns", "list"]).expect("ip");
    assert!(!namespaces.contains("sextant-"), "left over: {namespaces}");
    let links = run(&["ip", "-o", "link"]).expect("ip");
    assert!(
        !["sx-inside", "sx-outside", "sxl-", "sxm-"]
            .iter()
            .any(|link| links.contains(link)),
        "left over: {links}"
    );
    let files = std::fs::read_dir(std::env::temp_dir()).expect("a folder");
    let left: Vec<_> = files
        .filter_map(Result::ok)
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("sextant-box-") || name.starts_with("sextant-map-"))
        .collect();
    assert_eq!(left, [] as [&str; 0]);
}

/// in = out + drops + punts, exactly, once nothing is under way.
fn assert_conserved(stage: &Stage) {
    let total = |counters: &Value, name: &str| counters["totals"][name].as_u64().expect("a total");
    let balanced = || {
        let counters = stage.appliance.show("counters").expect("counters");
        let entered =
            total(&counters, "rx") + total(&counters, "injected") + total(&counters, "generated");
        entered == total(&counters, "tx") + total(&counters, "drops") + total(&counters, "punts")
    };
    wait_until("conservation", Duration::from_secs(3), balanced).expect("in = out + drops + punts");
}

#[test]
fn the_demo_holds_and_leaves_nothing() {
    if !root() {
        return;
    }
    let finished = run_for(&[SEXTANT, "demo"], Duration::from_secs(150)).expect("the demo ends");
    assert_eq!(
        finished.code,
        Some(0),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    assert!(
        finished.stdout.contains("Every check held"),
        "{}",
        finished.stdout
    );
    assert_nothing_left();
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if !root() {
        return;
    }
    for part in ["npt66", "lisp", "mapping"] {
        let demo = Process::spawn(&[SEXTANT, "demo", part]).expect("the demo");
        std::thread::sleep(Duration::from_secs(3));
        demo.signal(rustix::process::Signal::INT);
        let finished = demo.wait(Duration::from_secs(20)).expect("it ends");
        assert_ne!(finished.code, Some(0), "{}", finished.stdout);
    }
    assert_nothing_left();
}

/// Reloads that change rules, routes and limits while a flow runs through: not one packet of it is lost or reordered.
#[test]
fn reload_under_traffic_loses_nothing() {
    if !root() {
        return;
    }
    const COUNT: u32 = 20_000;
    const RELOADS: usize = 20;
    let stage = stage();
    let counter = stage
        .outside
        .spawn(&[SEXTANT, "lab-peer", "udp-count", "9100"])
        .expect("a peer");
    let open = || {
        stage
            .outside
            .run(&["ss", "-Hlnu"])
            .is_ok_and(|sockets| sockets.contains(":9100 "))
    };
    wait_until("the peer", Duration::from_secs(5), open).expect("listens");
    let to = format!("[{OUTSIDE_HOST}]:9100");
    let count = COUNT.to_string();
    let sender = stage
        .inside
        .spawn(&[SEXTANT, "lab-peer", "udp-send", &to, &count, "3000"])
        .expect("a peer");
    let other = format!(
        "{CONFIG}\n[[npt66]]\nname = \"third\"\ninterface = \"outside\"\ninside = \"fd00:77::/48\"\noutside = \"2001:db8:77::/48\"\n\
         [[routes]]\nprefix = \"2001:db8:7000::/36\"\nblackhole = true\n[icmp]\nerrors_per_second = 50\n\
         # The traffic's own destination moves to a prefix of its own, and back.\n\
         [[routes]]\nprefix = \"{OUTSIDE_HOST}/128\"\nnext_hops = [{{ interface = \"outside\" }}]\n\
         [[neighbors]]\ninterface = \"outside\"\naddress = \"{OUTSIDE_HOST}\"\nmac = \"0a:00:00:00:01:02\"\n"
    );
    for round in 0..RELOADS {
        stage
            .appliance
            .write_config(if round % 2 == 0 { &other } else { CONFIG })
            .expect("written");
        stage.appliance.command(&["reload"]).expect("reloaded");
        std::thread::sleep(Duration::from_millis(200));
    }
    // A bad file is refused whole, and the running configuration goes on.
    stage
        .appliance
        .write_config("[[routes]]\nprefix = \"nonsense\"\n")
        .expect("written");
    let refused = stage
        .appliance
        .command(&["reload"])
        .expect_err("refused")
        .to_string();
    assert!(
        refused.contains("sextant.toml:5"),
        "the place is named: {refused}"
    );
    let sent: Value =
        serde_json::from_str(&sender.wait(Duration::from_secs(40)).expect("ends").stdout)
            .expect("JSON");
    let seen: Value =
        serde_json::from_str(&counter.wait(Duration::from_secs(10)).expect("ends").stdout)
            .expect("JSON");
    assert_eq!(
        (sent["sent"].as_u64(), seen["received"].as_u64()),
        (Some(COUNT.into()), Some(COUNT.into()))
    );
    assert_eq!(seen["out_of_order"], 0);
    assert_conserved(&stage);
}

/// Every packet that Sextant sends, of every kind it makes or changes, is decoded by tshark without a complaint.
#[test]
fn tshark_has_no_complaint() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let stage = stage();
    let mut captures = Vec::new();
    for (host, link) in [(&stage.inside, "sx-inside"), (&stage.outside, "sx-outside")] {
        let file = folder.path().join(format!("{link}.pcap"));
        let path = file.display().to_string();
        // Only what arrives from the appliance.
        let capture = host
            .spawn(&[
                "tcpdump",
                "-ni",
                link,
                "-Q",
                "in",
                "--immediate-mode",
                "-U",
                "-w",
                &path,
            ])
            .expect("tcpdump");
        wait_until("tcpdump", Duration::from_secs(5), || {
            std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24)
        })
        .expect("listens");
        captures.push((capture, path));
    }
    // Echo both ways, fragments, errors of three kinds, address resolution, TCP that meets a small MTU.
    let peer = |words: &[&str]| {
        stage.inside.run_for(
            &[&[SEXTANT, "lab-peer"], words].concat(),
            Duration::from_secs(20),
        )
    };
    stage
        .inside
        .run(&["ping", "-6", "-c3", "-i0.1", "-s", "3000", OUTSIDE_HOST])
        .expect("fragments");
    stage
        .outside
        .run(&["ping", "-6", "-c3", "-i0.1", INSIDE_HOST_SEEN])
        .expect("echo");
    stage
        .outside
        .run(&[
            "traceroute",
            "-6",
            "-n",
            "-q1",
            "-w1",
            "-m3",
            INSIDE_HOST_SEEN,
        ])
        .expect("time exceeded");
    let unanswered = ["ping", "-6", "-c2", "-i0.2", "-W1", "2001:db8:ffff::dead"];
    stage
        .inside
        .run_for(&unanswered, Duration::from_secs(10))
        .expect("unreachable");
    let receiver = stage
        .outside
        .spawn(&[SEXTANT, "lab-peer", "tcp-receive", "40123"])
        .expect("a peer");
    let open = || {
        stage
            .outside
            .run(&["ss", "-Hlnt"])
            .is_ok_and(|sockets| sockets.contains(":40123 "))
    };
    wait_until("the peer", Duration::from_secs(5), open).expect("listens");
    let sent = peer(&["tcp-send", &format!("[{OUTSIDE_HOST}]:40123"), "2000000"]).expect("sent");
    assert!(sent.success, "{}", sent.stderr);
    drop(receiver);
    std::thread::sleep(Duration::from_millis(3500));

    for (capture, path) in captures {
        capture.signal(rustix::process::Signal::INT);
        capture.wait(Duration::from_secs(5)).expect("tcpdump ends");
        // The stream is random bytes: it is shown as echo, not guessed at.
        let strict = [
            "-d",
            "tcp.port==40123,echo",
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
        ];
        let all =
            run(&["tshark", "-r", &path, "-T", "fields", "-e", "frame.number"]).expect("tshark");
        assert!(
            all.lines().count() > 20,
            "{path}: {} packets",
            all.lines().count()
        );
        let filter = format!(
            "_ws.malformed || icmpv6.checksum.status == 0 || {WRONG_TCP_CHECKSUM} || \
             udp.checksum.status == 0 || (_ws.expert.severity == error && !tcp)"
        );
        let complaints =
            run(&[&["tshark", "-r", &path, "-Y", &filter], &strict[..]].concat()).expect("tshark");
        assert_eq!(complaints, "", "{path}");
        let errors = run(&["tshark", "-r", &path, "-Y", "icmpv6.type < 5"]).expect("tshark");
        assert!(!errors.is_empty(), "{path}: the errors are among them");
    }
    assert_conserved(&stage);
}
