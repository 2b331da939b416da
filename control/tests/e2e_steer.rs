//! Anycast steering with real servers: HTTP by Python's server on three hosts, curl as the client, direct server return.
//!
//! ```text
//!  client  2001:db8:c::10 -- sx-up [ appliance ] sx-servers -- bridge -- web-1, web-2, web-3
//!                                                                        service address on their lo
//! ```
//!
//! Needs root. The tests make namespaces of the same names, so they run one after the other (`--test-threads=1`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use control::lab::{Appliance, Namespace, Process, run, wait_until};
use serde_json::Value;
use tempfile::TempDir;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
const SERVICE: &str = "2001:db8:a11::1";
/// A download at [`RATE`] takes five seconds, and most of it is still with the server when the test goes on: more than
/// [`RECEIVE_BUFFER`].
const FILE_BYTES: usize = 5_000_000;
const RATE: &str = "1M";
/// Most bytes the client's kernel keeps for a connection.
const RECEIVE_BUFFER: &str = "net.ipv4.tcp_rmem=4096 131072 500000";
const SERVERS: usize = 3;

/// The MTU towards clients is smaller than that of the servers' link: what servers send first is too big.
const CONFIG: &str = r#"
[workers]
mbufs = 4096

[[ports]]
name = "up"
device = "net_tap0,iface=sx-up,mac=02:00:00:00:0a:01"

[[ports]]
name = "servers"
device = "net_tap1,iface=sx-servers,mac=02:00:00:00:0a:02"

[[interfaces]]
port = "up"
mtu = 1400
addresses = ["2001:db8:c::1/64"]

[[interfaces]]
port = "servers"
addresses = ["2001:db8:5::1/64"]

[[pools]]
name = "web"
servers = [
    { name = "web-1", address = "2001:db8:5::11" },
    { name = "web-2", address = "2001:db8:5::12" },
    { name = "web-3", address = "2001:db8:5::13" },
]

[[services]]
name = "http"
prefix = "2001:db8:a11::1/128"
protocol = "tcp"
ports = [80]
pool = "web"

[[pools]]
name = "far"
mode = "ip6ip6"
source = "2001:db8:5::1"
servers = [{ name = "web-1", address = "2001:db8:5::11" }]

[[services]]
name = "far"
prefix = "2001:db8:a11::2/128"
pool = "far"
"#;

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: namespaces and taps need root");
    }
    root
}

/// Everything, in the order in which it is taken down.
struct Stage {
    _http: Vec<Process>,
    appliance: Appliance,
    client: Namespace,
    servers: Vec<Namespace>,
    _switch: Namespace,
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let appliance =
            Appliance::start(Path::new(SEXTANT), "sx-steer", CONFIG).expect("it starts");
        let client = Namespace::new("sx-client").expect("a namespace");
        appliance.hand_over("sx-up", &client).expect("the tap");
        client
            .configure("sx-up", &["2001:db8:c::10/64"], Some("2001:db8:c::1"))
            .expect("an address");
        client
            .run(&["sysctl", "-qw", RECEIVE_BUFFER])
            .expect("a limit");
        // The client does not know of it, so servers send it what its link took.
        client
            .run(&["ip", "link", "set", "sx-up", "mtu", "1500"])
            .expect("an MTU");
        let switch = Namespace::new("sx-switch").expect("a namespace");
        appliance.hand_over("sx-servers", &switch).expect("the tap");
        let words = "ip link add br0 type bridge mcast_snooping 0";
        switch
            .run(&words.split(' ').collect::<Vec<_>>())
            .expect("a bridge");
        for link in ["sx-servers", "br0"] {
            if link != "br0" {
                switch
                    .run(&["ip", "link", "set", link, "master", "br0"])
                    .expect("in the bridge");
            }
            switch.run(&["ip", "link", "set", link, "up"]).expect("up");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut servers = Vec::new();
        let mut http = Vec::new();
        for number in 1..=SERVERS {
            let (server, process) = serve(number, &switch, folder.path());
            servers.push(server);
            http.push(process);
        }
        let stage = Self {
            _http: http,
            appliance,
            client,
            servers,
            _switch: switch,
            folder,
        };
        let resolved = || {
            let shown = stage.appliance.show("services").expect("services");
            let servers = shown["pools"][0]["servers"]
                .as_array()
                .expect("servers")
                .clone();
            servers
                .iter()
                .all(|server| server["resolved"] == Value::Bool(true))
        };
        wait_until("resolved servers", Duration::from_secs(10), resolved).expect("resolved");
        stage
    }

    /// Which server answers a request, by its name.
    fn ask(&self) -> Option<String> {
        let url = format!("http://[{SERVICE}]/name");
        let words = ["curl", "-s", "-g", "--max-time", "5", &url];
        let answer = self.client.run(&words).ok()?;
        Some(answer.trim().to_owned())
    }

    /// How many of so many requests each server answers. None fails.
    fn answers(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for _ in 0..requests {
            *answers.entry(self.ask().expect("an answer")).or_default() += 1;
        }
        answers
    }

    /// A download that takes some seconds; what it says in the end is its length and the server.
    fn download(&self, number: usize) -> Process {
        let url = format!("http://[{SERVICE}]/file");
        let to = self
            .folder
            .path()
            .join(format!("got-{number}"))
            .display()
            .to_string();
        let words = [
            "curl",
            "-s",
            "-g",
            "--max-time",
            "60",
            "--limit-rate",
            RATE,
            "-o",
            &to,
            &url,
        ];
        self.client.spawn(&words).expect("curl")
    }

    /// Whether a download is whole, and from whom.
    fn downloaded(&self, number: usize) -> (bool, String) {
        let got =
            std::fs::read(self.folder.path().join(format!("got-{number}"))).unwrap_or_default();
        let from = String::from_utf8_lossy(got.get(..5).unwrap_or(&[])).into_owned();
        let is_whole = got.len() == FILE_BYTES && got.chunks(5).all(|name| *name == got[..5]);
        (is_whole, from)
    }

    fn service(&self, words: &[&str]) -> String {
        self.appliance
            .command(&[&["service"], words].concat())
            .expect("it is done")
    }

    fn drops(&self) -> BTreeMap<String, u64> {
        let shown = self.appliance.show("drops").expect("drops");
        let drops = shown["drops"].as_array().expect("drops").iter();
        let drops = drops.map(|drop| {
            (
                drop["name"].as_str().expect("a name"),
                drop["count"].as_u64(),
            )
        });
        drops
            .map(|(name, count)| (name.to_owned(), count.expect("a count")))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// A host on the servers' link with the service address on its loopback interface.
fn serve(number: usize, switch: &Namespace, folder: &Path) -> (Namespace, Process) {
    let name = format!("sx-web-{number}");
    let server = Namespace::new(&name).expect("a namespace");
    let port = format!("port-{number}");
    let words = format!("ip link add {port} type veth peer name eth0 netns {name}");
    switch
        .run(&words.split(' ').collect::<Vec<_>>())
        .expect("a link");
    switch
        .run(&["ip", "link", "set", &port, "master", "br0"])
        .expect("in the bridge");
    switch.run(&["ip", "link", "set", &port, "up"]).expect("up");
    // Checksums are the sender's, and the receiver's to check.
    let _ = server.run(&[
        "ethtool", "-K", "eth0", "tx", "off", "rx", "off", "tso", "off", "gso", "off",
    ]);
    let address = format!("2001:db8:5::{}/64", 10 + number);
    server
        .configure("eth0", &[&address], Some("2001:db8:5::1"))
        .expect("an address");
    let on_loopback = format!("{SERVICE}/128");
    server
        .run(&["ip", "addr", "add", &on_loopback, "dev", "lo"])
        .expect("the service address");
    let root = folder.join(format!("web-{number}"));
    std::fs::create_dir_all(&root).expect("a folder");
    std::fs::write(root.join("name"), format!("web-{number}\n")).expect("a file");
    let contents = format!("web-{number}").repeat(FILE_BYTES / 5);
    std::fs::write(root.join("file"), contents).expect("a file");
    let root = root.display().to_string();
    let words = [
        "python3",
        "-m",
        "http.server",
        "80",
        "--bind",
        "::",
        "--directory",
        &root,
    ];
    let process = server.spawn(&words).expect("a server");
    let listens = || {
        let listening = server.run(&["ss", "-ltnH"]);
        listening.is_ok_and(|text| text.contains(":80 "))
    };
    wait_until("a server that listens", Duration::from_secs(20), listens).expect("listens");
    (server, process)
}

/// A counter of a host's kernel.
fn kernel(host: &Namespace, counter: &str) -> u64 {
    let text = host.run(&["nstat", "-asz", counter]).expect("nstat");
    let line = text.lines().find(|line| line.starts_with(counter));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    value.unwrap_or_else(|| panic!("{text}"))
}

/// Servers are drained, taken down and come back under load. Flows of others are never touched, and of a
/// drained one neither.
#[test]
fn servers_come_and_go_under_load() {
    if !root() {
        return;
    }
    let stage = Stage::new();
    let answers = stage.answers(60);
    assert_eq!(answers.len(), SERVERS, "{answers:?}");
    assert!(answers.values().all(|count| *count >= 5), "{answers:?}");

    // Long downloads while their server is drained, and the others weighed anew. It has three fifths of them: that it has
    // none of nine happens once in 4,000 times.
    stage.service(&["weight", "web", "web-2", "3"]);
    let downloads: Vec<_> = (0..9).map(|number| stage.download(number)).collect();
    std::thread::sleep(Duration::from_millis(1500));
    let said = stage.service(&["drain", "web", "web-2"]);
    assert_eq!(
        said,
        "web-2 of web is drained, weight 3: 0.0 % of new flows\n"
    );
    stage.service(&["weight", "web", "web-1", "3"]);
    let answers = stage.answers(40);
    assert!(!answers.contains_key("web-2"), "{answers:?}");
    for download in downloads {
        let finished = download.wait(Duration::from_secs(60)).expect("it ends");
        assert!(finished.success, "{finished:?}");
    }
    let ends: Vec<_> = (0..9).map(|number| stage.downloaded(number)).collect();
    assert!(ends.iter().all(|(is_whole, _)| *is_whole), "{ends:?}");
    assert!(ends.iter().any(|(_, from)| from == "web-2"), "{ends:?}");

    // Down: its flows break, nobody else's.
    stage.service(&["weight", "web", "web-1", "1"]);
    stage.service(&["enable", "web", "web-2"]);
    let downloads: Vec<_> = (10..19).map(|number| stage.download(number)).collect();
    std::thread::sleep(Duration::from_millis(1500));
    stage.service(&["down", "web", "web-2"]);
    let answers = stage.answers(20);
    assert!(!answers.contains_key("web-2"), "{answers:?}");
    let mut broken = 0;
    for (download, number) in downloads.into_iter().zip(10..) {
        let finished = download.wait(Duration::from_secs(60)).expect("it ends");
        let (is_whole, from) = stage.downloaded(number);
        assert_eq!(finished.success, is_whole);
        assert_eq!(is_whole, from != "web-2", "from {from}");
        broken += usize::from(!is_whole);
    }
    assert!(broken > 0, "some were on the server that went down");
    stage.service(&["enable", "web", "web-2"]);
    assert!(stage.answers(40).contains_key("web-2"));

    // What servers sent was too big for the clients' link at first: errors reached those who sent it.
    let told = |server| kernel(server, "Icmp6InPktTooBigs");
    assert!(stage.servers.iter().map(told).sum::<u64>() > 0);
    for server in &stage.servers {
        assert_eq!(kernel(server, "Icmp6InCsumErrors"), 0);
        assert_eq!(kernel(server, "TcpInCsumErrors"), 0);
    }
    let shown = stage
        .appliance
        .command(&["service", "show"])
        .expect("a table");
    assert!(
        shown.contains("web-2") && shown.contains("digest") | shown.contains("DIGEST"),
        "{shown}"
    );
    let drops = stage.drops();
    assert!(
        drops.keys().all(|reason| !reason.starts_with("steer")),
        "{drops:?}"
    );
}

/// RFC 2473: what a server gets in a tunnel is what the client sent, with one hop less, in a sound outer packet.
#[test]
fn a_tunnel_carries_what_the_client_sent() {
    if !root() {
        return;
    }
    let stage = Stage::new();
    let file = stage.folder.path().join("tunnel.pcap");
    let path = file.display().to_string();
    let words = [
        "tcpdump",
        "-n",
        "--immediate-mode",
        "-U",
        "-Q",
        "in",
        "-i",
        "eth0",
        "-w",
        &path,
        "ip6 proto 41",
    ];
    let capture = stage.servers[0].spawn(&words).expect("tcpdump");
    let listens = || std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24);
    wait_until("tcpdump", Duration::from_secs(5), listens).expect("listens");
    // Nobody takes it out of the tunnel: one segment after the other to open a connection, and echo requests.
    for port in ["80", "81"] {
        let url = format!("http://[2001:db8:a11::2]:{port}/");
        let _ = stage
            .client
            .run(&["curl", "-s", "-g", "--max-time", "1", &url]);
    }
    let _ = stage.client.run(&[
        "ping",
        "-6",
        "-c2",
        "-i",
        "0.2",
        "-W1",
        "-s1000",
        "2001:db8:a11::2",
    ]);
    capture.signal(rustix::process::Signal::INT);
    capture.wait(Duration::from_secs(5)).expect("tcpdump ends");
    let read = |filter: &str, fields: &[&str]| {
        let mut words = vec!["tshark", "-n", "-r", &path, "-o", "tcp.check_checksum:TRUE"];
        words.extend(["-Y", filter, "-T", "fields"]);
        words.extend(fields.iter().flat_map(|field| ["-e", field]));
        run(&words).expect("tshark")
    };
    let strange = "_ws.malformed || icmpv6.checksum.status == 0 || tcp.checksum.status == 0";
    assert_eq!(read(strange, &["frame.number"]), "");
    let rows = read("ipv6", &["ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.flow"]);
    assert!(rows.lines().count() >= 4, "{rows}");
    let mut labels = std::collections::BTreeSet::new();
    for row in rows.lines() {
        let fields: Vec<_> = row.split('\t').collect();
        assert_eq!(fields[0], "2001:db8:5::1,2001:db8:c::10", "{row}");
        assert_eq!(fields[1], "2001:db8:5::11,2001:db8:a11::2", "{row}");
        assert_eq!(fields[2], "64,63", "{row}");
        labels.insert(fields[3].split(',').next().expect("a label").to_owned());
    }
    assert!(labels.len() >= 3, "one label for each flow: {labels:?}");
    let shown = stage.appliance.show("services").expect("services");
    let packets = shown["pools"][1]["servers"][0]["packets"]
        .as_u64()
        .expect("a count");
    assert_eq!(packets, rows.lines().count() as u64);
}
