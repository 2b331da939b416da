//! IPv4 through the real binary between two Linux hosts: ARP both ways, echo, TCP, fragments, and the errors they cause.
//!
//! ```text
//!   sx4-inside  192.0.2.10 ---- 192.0.2.1  sextant  198.51.100.1 ---- 198.51.100.10  sx4-outside
//!                               MTU 1500             MTU 1400
//! ```
//!
//! Needs root. The tests share the names of their namespaces, so they wait for each other.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::lab::{Appliance, Namespace, Process, WRONG_TCP_CHECKSUM, run, wait_until};
use serde_json::Value;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");

const CONFIG: &str = r#"
[workers]
mbufs = 8192

[[ports]]
name = "inside"
device = "net_tap0,iface=sx4-in,mac=02:00:00:00:04:01"

[[ports]]
name = "outside"
device = "net_tap1,iface=sx4-out,mac=02:00:00:00:04:02"

[[interfaces]]
port = "inside"
addresses = ["192.0.2.1/24"]

[[interfaces]]
port = "outside"
mtu = 1400
addresses = ["198.51.100.1/24"]

# Silence is noticed sooner than in a second.
[ndp]
retrans_timer_ms = 300
dad_transmits = 0
"#;

const INSIDE_HOST: &str = "192.0.2.10";
const OUTSIDE_HOST: &str = "198.51.100.10";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Two hosts with Sextant between them. Fields are dropped in this order: the appliance with its taps, then the hosts.
struct Stage {
    appliance: Appliance,
    inside: Namespace,
    outside: Namespace,
    _turn: MutexGuard<'static, ()>,
}

/// `None` without the privileges it takes.
fn stage(config: &str) -> Option<Stage> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and taps need root");
        return None;
    }
    // A test that failed has cleaned up all the same.
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let appliance = Appliance::start(Path::new(SEXTANT), "sx4-box", config).expect("it starts");
    let inside = Namespace::new("sx4-inside").expect("a namespace");
    let outside = Namespace::new("sx4-outside").expect("a namespace");
    Some(Stage {
        appliance,
        inside,
        outside,
        _turn: turn,
    })
}

impl Stage {
    /// Give a host its link, an address and, if wanted, a default route.
    fn connect(&self, host: &Namespace, tap: &str, address: &str, gateway: Option<&str>) {
        self.appliance.hand_over(tap, host).expect("the tap");
        host.configure(tap, &[address], gateway)
            .expect("an address and a route");
    }

    /// The stage of most tests, once its hosts reach each other.
    fn ready() -> Option<Self> {
        let stage = stage(CONFIG)?;
        let (inside, outside) = (&stage.inside, &stage.outside);
        stage.connect(inside, "sx4-in", "192.0.2.10/24", Some("192.0.2.1"));
        stage.connect(outside, "sx4-out", "198.51.100.10/24", Some("198.51.100.1"));
        let answers = || {
            stage
                .inside
                .run(&["ping", "-c1", "-W1", OUTSIDE_HOST])
                .is_ok()
        };
        wait_until("the first ping", Duration::from_secs(10), answers).expect("a ping");
        Some(stage)
    }

    /// Wait until a TCP or UDP port of a host is open.
    fn wait_for_port(&self, host: &Namespace, port: u16) {
        let open = || {
            host.run(&["ss", "-Hlntu"])
                .is_ok_and(|sockets| sockets.contains(&format!(":{port} ")))
        };
        wait_until("the peer", Duration::from_secs(5), open).expect("listens");
    }

    fn neighbor(&self, address: &str) -> Value {
        let neighbors = self.appliance.show("neighbors").expect("neighbours");
        let all = neighbors["neighbors"].as_array().expect("a list").clone();
        let mut found = all.into_iter().filter(|n| n["address"] == address);
        found.next().unwrap_or_default()
    }

    /// in = out + drops + punts, exactly, once nothing is under way.
    fn assert_conserved(&self) {
        let balanced = || {
            let counters = self.appliance.show("counters").expect("counters");
            let total = |name: &str| counters["totals"][name].as_u64().expect("a total");
            total("rx") + total("injected") + total("generated")
                == total("tx") + total("drops") + total("punts")
        };
        wait_until("conservation", Duration::from_secs(3), balanced)
            .expect("in = out + drops + punts");
    }

    fn finish(self) {
        let Self {
            appliance,
            inside,
            outside,
            _turn,
        } = self;
        drop((appliance, inside, outside));
        let namespaces = run(&["ip", "netns", "list"]).expect("ip");
        assert!(!namespaces.contains("sx4-"), "left over: {namespaces}");
        let links = run(&["ip", "-o", "link"]).expect("ip");
        assert!(!links.contains("sx4-"), "left over: {links}");
    }
}

/// The hosts learn us by our answers, and we them by theirs; then they reach each other and us.
#[test]
fn addresses_are_resolved_both_ways() {
    let Some(stage) = Stage::ready() else { return };
    for (host, tap, own, mac) in [
        (&stage.inside, "sx4-in", "192.0.2.1", "02:00:00:00:04:01"),
        (
            &stage.outside,
            "sx4-out",
            "198.51.100.1",
            "02:00:00:00:04:02",
        ),
    ] {
        let known = host
            .run(&["ip", "-4", "neigh", "show", own, "dev", tap])
            .expect("ip neigh");
        assert!(known.contains(mac), "{own}: {known}");
        host.run(&["ping", "-c2", "-i0.1", "-W1", own])
            .expect("our own address answers");
    }
    for (address, interface, host, tap) in [
        (INSIDE_HOST, "inside", &stage.inside, "sx4-in"),
        (OUTSIDE_HOST, "outside", &stage.outside, "sx4-out"),
    ] {
        let neighbor = stage.neighbor(address);
        assert_eq!(neighbor["interface"], interface, "{neighbor}");
        let link = host.run(&["ip", "-o", "link", "show", tap]).expect("ip");
        let mac = neighbor["mac"].as_str().expect("known");
        assert!(link.contains(mac), "{mac} of {link}");
    }
    let finished = stage
        .outside
        .run(&["ping", "-c20", "-i0.02", "-W1", INSIDE_HOST])
        .expect("echo");
    assert!(finished.contains(" 0% packet loss"), "{finished}");
    let routes = stage.appliance.show("routes").expect("routes");
    let prefixes: Vec<&str> = routes["routes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|route| route["prefix"].as_str())
        .collect();
    let expected = [
        "192.0.2.0/24",
        "192.0.2.1/32",
        "198.51.100.0/24",
        "198.51.100.1/32",
    ];
    assert_eq!(prefixes, expected);
    stage.assert_conserved();
    stage.finish();
}

/// RFC 1812 5.2.7 and 5.3.1, RFC 1191 4: each error comes from the address on the sender's link.
#[test]
fn errors_reach_who_caused_them() {
    let Some(stage) = Stage::ready() else { return };
    // It takes three unanswered requests; the others run meanwhile.
    let silent = stage
        .inside
        .spawn(&["ping", "-c1", "-W5", "198.51.100.77"])
        .expect("ping");
    let path = stage
        .inside
        .run(&["traceroute", "-4", "-n", "-q1", "-w1", "-m3", OUTSIDE_HOST])
        .expect("traceroute");
    let hops: Vec<&str> = path
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(hops, ["192.0.2.1", OUTSIDE_HOST], "{path}");

    // 1472 bytes of data make 1500.
    let whole = ["ping", "-c1", "-W2", "-s1472"];
    let df = stage
        .inside
        .run_for(
            &[&whole[..], &["-Mdo", OUTSIDE_HOST]].concat(),
            Duration::from_secs(5),
        )
        .expect("ping");
    let text = format!("{}{}", df.stdout, df.stderr);
    assert!(
        text.contains("From 192.0.2.1") && text.contains("mtu = 1400"),
        "{text}"
    );
    // Without DF it is cut on its way, and put together by the host.
    stage
        .inside
        .run(&[&whole[..], &["-Mdont", OUTSIDE_HOST]].concat())
        .expect("fragments arrive");

    let silent = silent.wait(Duration::from_secs(8)).expect("ping ends");
    assert!(
        silent.stdout.contains("From 192.0.2.1") && silent.stdout.contains("Host Unreachable"),
        "{}",
        silent.stdout
    );
    let drops = stage.appliance.show("drops").expect("drops").to_string();
    assert!(drops.contains("neighbor_unresolved"));
    stage.assert_conserved();
    stage.finish();
}

/// A stream through the smaller link, every byte as it was sent, and tshark finds nothing wrong in any packet of ours.
#[test]
fn streams_arrive_whole_and_tshark_has_no_complaint() {
    let Some(stage) = Stage::ready() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut captures = Vec::new();
    for (host, tap) in [(&stage.inside, "sx4-in"), (&stage.outside, "sx4-out")] {
        let file = folder.path().join(format!("{tap}.pcap"));
        let path = file.display().to_string();
        let words = [
            "tcpdump",
            "-ni",
            tap,
            "-Q",
            "in",
            "--immediate-mode",
            "-U",
            "-w",
            &path,
        ];
        let capture = host.spawn(&words).expect("tcpdump");
        wait_until("tcpdump", Duration::from_secs(5), || {
            std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24)
        })
        .expect("listens");
        captures.push((capture, path));
    }
    // From nothing: the hosts ask us again.
    for (host, tap) in [(&stage.inside, "sx4-in"), (&stage.outside, "sx4-out")] {
        host.run(&["ip", "neigh", "flush", "dev", tap])
            .expect("flushed");
    }
    let receiver = stage
        .outside
        .spawn(&[SEXTANT, "lab-peer", "tcp-receive", "40124"])
        .expect("a peer");
    stage.wait_for_port(&stage.outside, 40124);
    let to = format!("{OUTSIDE_HOST}:40124");
    let sent = stage
        .inside
        .run(&[SEXTANT, "lab-peer", "tcp-send", &to, "2000000"])
        .expect("sent");
    let sent: Value = serde_json::from_str(&sent).expect("JSON");
    let received = receiver.wait(Duration::from_secs(10)).expect("received");
    let received: Value = serde_json::from_str(&received.stdout).expect("JSON");
    assert_eq!(received["bytes"], 2_000_000);
    assert_eq!(received["sha256"], sent["sha256"]);
    let from = received["from"].as_str().expect("an address");
    assert!(from.contains(INSIDE_HOST), "{from}");
    stage
        .inside
        .run(&[
            "ping",
            "-c2",
            "-i0.1",
            "-W2",
            "-s3000",
            "-Mdont",
            OUTSIDE_HOST,
        ])
        .expect("fragments");
    stage
        .inside
        .run(&["traceroute", "-4", "-n", "-q1", "-w1", "-m2", OUTSIDE_HOST])
        .expect("time exceeded");
    for (capture, path) in captures {
        check_capture(capture, &path);
    }
    stage.assert_conserved();
    stage.finish();
}

fn check_capture(capture: Process, path: &str) {
    capture.signal(rustix::process::Signal::INT);
    capture.wait(Duration::from_secs(5)).expect("tcpdump ends");
    let count = |filter: &str| {
        let packets = run(&["tshark", "-r", path, "-Y", filter]).expect("tshark");
        packets.lines().count()
    };
    assert!(count("tcp") > 20, "{path}");
    assert!(count("arp.opcode == 2") > 0, "{path}: answers");
    let strict = [
        "-d",
        "tcp.port==40124,echo",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.check_checksum:TRUE",
    ];
    let filter = format!(
        "_ws.malformed || ip.checksum.status == 0 || icmp.checksum.status == 0 || \
         {WRONG_TCP_CHECKSUM} || arp.duplicate-address-detected"
    );
    let complaints =
        run(&[&["tshark", "-r", path, "-Y", &filter], &strict[..]].concat()).expect("tshark");
    assert_eq!(complaints, "", "{path}");
}

/// RFC 5227 2.1.1: an address that a host has already is not used, and is told of.
#[test]
fn an_address_somebody_has_is_not_used() {
    let careful = CONFIG.replace("dad_transmits = 0", "dad_transmits = 1");
    let Some(stage) = stage(&careful) else {
        return;
    };
    // The host inside has taken the router's address; the one outside has its own.
    stage.connect(&stage.inside, "sx4-in", "192.0.2.1/24", None);
    stage.connect(&stage.outside, "sx4-out", "198.51.100.10/24", None);
    let states = || {
        let interfaces = stage.appliance.show("interfaces").expect("interfaces");
        [0, 1].map(|at| {
            let address = &interfaces["interfaces"][at]["addresses"][0];
            address["state"].as_str().unwrap_or_default().to_owned()
        })
    };
    // Probing takes up to six seconds where nobody objects.
    wait_until("the conflict", Duration::from_secs(10), || {
        states()[0] == "duplicate"
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", states()));
    assert_ne!(states()[1], "duplicate");
    let log = stage.appliance.log();
    assert!(log.contains("192.0.2.1 is not used"), "{log}");
    stage.finish();
}
