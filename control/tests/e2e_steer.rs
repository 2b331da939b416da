//! Anycast steering with real servers: HTTP by Python's server on three hosts, curl as the client, direct server return.
//!
//! ```text
//!  client  2001:db8:c::10 -- sx-up [ appliance ] sx-servers -- bridge -- web-1, web-2, web-3
//!                                                                        service address on their lo
//! ```
//!
//! Needs root. The tests make namespaces of the same names, so they run one after the other (`--test-threads=1`).

#[path = "e2e_steer/stage.rs"]
#[expect(dead_code, reason = "its servers do not fail here")]
mod stage;

use std::time::Duration;

use control::lab::{Namespace, WRONG_TCP_CHECKSUM, run, wait_until};
use stage::*;

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
    let stage = Stage::new(CONFIG);
    let answers = stage.answers(60);
    assert_eq!(answers.len(), SERVERS, "{answers:?}");
    assert!(answers.values().all(|count| *count >= 5), "{answers:?}");

    // Long downloads while their server is drained, and the others weighed anew.
    stage.service(&["weight", "web", "web-2", "3"]);
    let downloads: Vec<_> = (0..9).map(|number| stage.download(number)).collect();
    std::thread::sleep(UNDER_WAY);
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
    std::thread::sleep(UNDER_WAY);
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
    let stage = Stage::new(CONFIG);
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
    let strange = format!("_ws.malformed || icmpv6.checksum.status == 0 || {WRONG_TCP_CHECKSUM}");
    assert_eq!(read(&strange, &["frame.number"]), "");
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
