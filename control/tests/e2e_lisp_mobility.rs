//! A host that moves from one site to another while packets go to and fro, with real processes: three sites, and
//! `sextant mapserver` on the router between them.
//!
//! ```text
//!   host -- bridge -- site a -+
//!      \                      +-- router, Map-Server -- site c -- peer
//!       +-- bridge -- site b -+
//! ```
//!
//! Needs root.

use std::path::Path;
use std::time::{Duration, Instant};

use control::lab::{Appliance, Namespace, Process, traffic, wait_until};
use tempfile::TempDir;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
const SERVER: &str = "2001:db8:f0::1";
const HOST: [&str; 2] = ["fd00:a:0:1::7", "10.1.1.7"];
const PEER: [&str; 2] = ["fd00:c::7", "10.3.0.7"];
const LIMIT: Duration = Duration::from_secs(30);
/// Between two packets of a flow.
const EVERY_MS: u64 = 1;

/// A site: its name, the addresses of the interface where hosts are, its own EIDs.
fn config(name: &str, number: u8, addresses: &str, eids: &str, proxy_reply: bool) -> String {
    format!(
        r#"[workers]
poll = "adaptive"
[ndp]
dad_transmits = 0
[[ports]]
name = "site"
device = "net_tap0,iface=sxm-site-{name},mac=02:00:00:0b:{number:02}:01"
[[ports]]
name = "core"
device = "net_tap1,iface=sxm-core-{name},mac=02:00:00:0b:{number:02}:02"
[[interfaces]]
port = "site"
vrf = "site"
mtu = 1400
link_local = "fe80::1"
addresses = [{addresses}]
[[interfaces]]
port = "core"
addresses = ["2001:db8:f{number}::2/64"]
[[routes]]
prefix = "::/0"
next_hops = [{{ via = "2001:db8:f{number}::1" }}]
[lisp]
rlocs = ["2001:db8:f{number}::2"]
miss = "hold"
map_resolvers = ["{SERVER}"]
xtr_id = "{number}"
site_id = "1"
[[lisp.map_servers]]
address = "{SERVER}"
key = "of {name}"
proxy_reply = {proxy_reply}
[[lisp.instances]]
vrf = "site"
eids = [{eids}]
dynamic_eids = ["fd00:a:0:1::/64", "10.1.1.0/24"]
map_request = ["fd00::/16", "10.0.0.0/8"]
"#
    )
}

/// Whoever registers one of these hosts.
fn server_config(folder: &Path) -> String {
    let site = |name: &str, eids: &str| {
        format!(
            r#"[[sites]]
name = "{name}"
keys = [{{ id = 1, secret = "of {name}" }}]
prefixes = [
    {eids},
    {{ eid = "fd00:a:0:1::/64", more_specifics = true }},
    {{ eid = "10.1.1.0/24", more_specifics = true }},
]
"#
        )
    };
    let prefixes = |letter: &str, number: u8| {
        format!(r#"{{ eid = "fd00:{letter}::/48" }}, {{ eid = "10.{number}.0.0/16" }}"#)
    };
    format!(
        "[mapserver]\nlisten = [\"{SERVER}\"]\nstate = \"{}\"\n{}{}{}",
        folder.join("nonces").display(),
        site("a", &prefixes("a", 1)),
        site("b", &prefixes("b", 2)),
        site("c", &prefixes("c", 3)),
    )
}

struct Stage {
    boxes: [Appliance; 3],
    host: Namespace,
    lan: Namespace,
    peer: Namespace,
    _core: Namespace,
    _server: Process,
    _folder: TempDir,
}

impl Stage {
    fn set(proxy_reply: bool) -> Self {
        let namespace = |name| Namespace::new(name).expect("a namespace");
        let [core, lan, host, peer] = [
            "sextant-mob-core",
            "sextant-mob-lan",
            "sextant-mob-host",
            "sextant-mob-peer",
        ]
        .map(namespace);
        for key in ["net.ipv6.conf.all.forwarding=1", "net.ipv4.ip_forward=1"] {
            core.run(&["sysctl", "-qw", key]).expect("a router");
        }
        let home = r#""fd00:a:0:1::1/64", "10.1.1.1/24""#;
        // The same router address, but nobody else is on the link by itself.
        let away = r#""fd00:a:0:1::1/128", "10.1.1.1/32""#;
        let configs = [
            config("a", 0, home, r#""fd00:a::/48", "10.1.0.0/16""#, proxy_reply),
            config("b", 1, away, r#""fd00:b::/48", "10.2.0.0/16""#, proxy_reply),
            config(
                "c",
                2,
                r#""fd00:c::1/64", "10.3.0.1/24""#,
                r#""fd00:c::/48", "10.3.0.0/16""#,
                proxy_reply,
            ),
        ];
        let names = [
            "sextant-box-mob-a",
            "sextant-box-mob-b",
            "sextant-box-mob-c",
        ];
        let start = |at: usize| {
            let program = Path::new(SEXTANT);
            Appliance::start(program, names[at], &configs[at]).expect("a box")
        };
        let boxes = std::thread::scope(|scope| {
            let started = [0, 1, 2].map(|at| scope.spawn(move || start(at)));
            started.map(|thread| thread.join().expect("it starts"))
        });
        for (number, (appliance, name)) in (0..).zip(boxes.iter().zip(["a", "b", "c"])) {
            let link = format!("sxm-core-{name}");
            appliance.hand_over(&link, &core).expect("the tap");
            let address = format!("2001:db8:f{number}::1/64");
            core.configure(&link, &[&address], None)
                .expect("the router's address");
        }
        boxes[2].hand_over("sxm-site-c", &peer).expect("the tap");
        let addresses = PEER.map(|address| {
            let length = if address.contains(':') { 64 } else { 24 };
            format!("{address}/{length}")
        });
        let addresses = addresses.each_ref().map(String::as_str);
        peer.configure("sxm-site-c", &addresses, Some("fe80::1"))
            .expect("the peer");
        peer.run(&["ip", "route", "add", "default", "via", "10.3.0.1"])
            .expect("its route");
        for (appliance, name) in boxes.iter().zip(["a", "b"]) {
            let (tap, bridge) = (format!("sxm-site-{name}"), format!("sxm-bridge-{name}"));
            appliance.hand_over(&tap, &lan).expect("the tap");
            lan.run(&["ip", "link", "add", &bridge, "type", "bridge"])
                .expect("a bridge");
            lan.run(&["ip", "link", "set", &bridge, "up"])
                .expect("it is up");
            lan.run(&["ip", "link", "set", &tap, "master", &bridge, "up"])
                .expect("its port");
        }
        let pair = format!(
            "ip link add sxm-wire type veth peer name sxm-host netns {}",
            host.name()
        );
        lan.run(&pair.split(' ').collect::<Vec<_>>())
            .expect("a wire");
        lan.run(&[
            "ip",
            "link",
            "set",
            "sxm-wire",
            "master",
            "sxm-bridge-a",
            "up",
        ])
        .expect("it is plugged");
        let addresses = [format!("{}/64", HOST[0]), format!("{}/24", HOST[1])];
        let addresses = addresses.each_ref().map(String::as_str);
        host.configure("sxm-host", &addresses, Some("fe80::1"))
            .expect("the host");
        host.run(&["ip", "route", "add", "default", "via", "10.1.1.1"])
            .expect("its route");
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("mapserver.toml");
        std::fs::write(&path, server_config(folder.path())).expect("its configuration");
        let path = path.display().to_string();
        let server = core
            .spawn(&[SEXTANT, "mapserver", "-c", &path])
            .expect("the Map-Server");
        let stage = Self {
            boxes,
            host,
            lan,
            peer,
            _core: core,
            _server: server,
            _folder: folder,
        };
        for appliance in &stage.boxes {
            wait_until("the registration", LIMIT, || {
                let shown = appliance.show("lisp");
                shown.is_ok_and(|shown| shown["map_servers"][0]["registered"] == true)
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
        }
        stage
    }

    fn logs(&self) -> String {
        let of = |appliance: &Appliance| {
            let shown = appliance.command(&["show", "lisp"]).unwrap_or_default();
            let mappings = appliance.command(&["map", "show"]).unwrap_or_default();
            format!("{shown}\n{mappings}\n{}\n", appliance.log())
        };
        self.boxes.iter().map(of).collect()
    }

    /// The host's wire goes to the other site. It knows no neighbour there.
    fn move_to(&self, site: &str) {
        let (lan, host) = (self.lan.name(), self.host.name());
        let text = format!(
            "ip -n {lan} link set sxm-wire master sxm-bridge-{site} && ip -n {host} neigh flush dev sxm-host"
        );
        let status = std::process::Command::new("sh")
            .args(["-c", &text])
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// The RLOCs by which site c reaches the host, if it knows any.
    fn locators(&self, host: &str) -> Vec<String> {
        let length = if host.contains(':') { 128 } else { 32 };
        let eid = format!("{host}/{length}");
        let text = self.boxes[2].command(&["map", "show", &eid, "--json"]);
        let Ok(shown) = serde_json::from_str::<serde_json::Value>(&text.unwrap_or_default()) else {
            return Vec::new();
        };
        let rows = shown["mappings"].as_array().into_iter().flatten();
        let row = rows.filter(|row| row["eid"] == eid);
        let locators = row.flat_map(|row| row["locators"].as_array().into_iter().flatten());
        locators
            .filter_map(|locator| locator["rloc"].as_str().map(str::to_owned))
            .collect()
    }
}

/// A flow of pings for so many seconds.
fn flow(from: &Namespace, to: &str, seconds: u64) -> Process {
    let interval = format!("{}", EVERY_MS as f64 / 1000.0);
    let length = seconds.to_string();
    let words = ["ping", "-n", "-q", "-i", &interval, "-w", &length, to];
    from.spawn(&words).expect("a flow")
}

/// Packets that were sent, and lost.
fn losses(flow: Process) -> (u64, u64) {
    let finished = flow.wait(LIMIT).expect("it ends");
    let line = finished
        .stdout
        .lines()
        .find(|line| line.contains("packets transmitted"));
    let words: Vec<&str> = line.expect("a summary").split(' ').collect();
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    (number(0), number(0) - number(3))
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: namespaces and taps need root");
    }
    is_root
}

/// R-15, S-01 to S-05, D-17: to and fro, in both families, with Map-Servers that answer and that do not.
#[test]
fn a_host_moves_while_packets_flow() {
    if !is_root() {
        return;
    }
    for proxy_reply in [true, false] {
        let stage = Stage::set(proxy_reply);
        for (host, peer) in HOST.into_iter().zip(PEER) {
            let ping = ["ping", "-n", "-c1", "-W1", peer];
            wait_until("the first ping", LIMIT, || stage.host.run(&ping).is_ok())
                .unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
            for (site, rloc) in [("b", "2001:db8:f1::2"), ("a", "2001:db8:f0::2")] {
                let to_peer = flow(&stage.host, peer, 3);
                let to_host = flow(&stage.peer, host, 3);
                std::thread::sleep(Duration::from_millis(1000));
                let moved = Instant::now();
                stage.move_to(site);
                wait_until("the peer's map-cache", LIMIT, || {
                    stage.locators(host) == [rloc]
                })
                .unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
                let followed = moved.elapsed();
                for (name, flow) in [("from the host", to_peer), ("to the host", to_host)] {
                    let (sent, lost) = losses(flow);
                    println!(
                        "proxy_reply = {proxy_reply}, {host} to site {site}, {name}: {lost} of {sent} lost, \
                         about {} ms; the peer knew after {} ms at most",
                        lost * 3000 / sent.max(1),
                        followed.as_millis()
                    );
                    assert!(sent > 500, "{sent}");
                    // Its speed is looked at where figures are; here only that it moved.
                    assert!(
                        lost * 3000 / sent < 500,
                        "{lost} of {sent}\n{}",
                        stage.logs()
                    );
                }
                // One that comes soon after another waits for three seconds (RFC 9301 6.1); packets go by way of where the
                // host was.
                assert!(followed < Duration::from_secs(8), "{followed:?}");
            }
        }
        for appliance in &stage.boxes {
            traffic::conservation(appliance).expect("in = out + drops + punts");
        }
    }
}
