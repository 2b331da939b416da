//! Direct return by tunnels, with a real server: its kernel checks what it takes out of each.
//!
//! ```text
//!  client  2001:db8:c::10 -- sx-up [ appliance ] sx-servers -- web: takes packets out of three tunnels, service addresses on lo
//! ```
//!
//! The outer packet is checked by the server's kernel: it is a raw socket's of protocol 41, or a UDP socket's, that it is
//! delivered to. What is inside goes back to the kernel by a tun device, since not every kernel has `sit`, `ip6_tunnel` and
//! `fou`. Needs root, and the tests run one after the other (`--test-threads=1`).

use std::path::Path;
use std::time::Duration;

use control::lab::{Appliance, Namespace, Process, WRONG_TCP_CHECKSUM, run, traffic, wait_until};
use tempfile::TempDir;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
/// A mode, its service address, and what it puts before a packet, bytes.
const MODES: [(&str, &str, u16); 3] = [
    ("ip6ip6", "2001:db8:a11::6", 40),
    ("ipip", "2001:db8:a11::4", 20),
    ("gue", "2001:db8:a11::e", 52),
];
const POST: u64 = 2_000_000;

/// Takes packets out of a tunnel: the words are the mode and the name of a tun device.
const DECAPSULATE: &str = r#"
import fcntl, os, socket, struct, subprocess, sys
mode, name = sys.argv[1:]
tun = os.open("/dev/net/tun", os.O_RDWR)
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
subprocess.run(["ip", "link", "set", name, "up"], check=True)
if mode == "gue":
    outer, skip = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), 4
    outer.bind(("2001:db8:5::11", 6080))
elif mode == "ip6ip6":
    outer, skip = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 41), 0
else:
    outer, skip = socket.socket(socket.AF_INET, socket.SOCK_RAW, 41), 20
outer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
while True:
    packet = outer.recv(65535)
    if mode == "gue":
        assert packet[:4] == bytes([0, 41, 0, 0]), packet[:4]
    os.write(tun, packet[skip:])
"#;

/// Servers are checked the way clients' packets go: through the tunnel.
fn config() -> String {
    let mut text = r#"
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
addresses = ["2001:db8:c::1/64"]

[[interfaces]]
port = "servers"
addresses = ["2001:db8:5::1/64", "192.0.2.1/24"]
"#
    .to_owned();
    for (mode, service, _) in MODES {
        let (source, server) = match mode {
            "ipip" => ("198.18.0.0/20", "192.0.2.11"),
            _ => ("2001:db8:5::1", "2001:db8:5::11"),
        };
        text += &format!(
            r#"
[[pools]]
name = "{mode}"
mode = "{mode}"
source = "{source}"
health = {{ kind = "http", target = "service", interval_ms = 300 }}
servers = [{{ name = "web", address = "{server}" }}]

[[services]]
name = "{mode}"
prefix = "{service}/128"
protocol = "tcp"
ports = [80, 8080]
pool = "{mode}"
"#
        );
    }
    text
}

/// Everything, in the order in which it is taken down.
struct Stage {
    _programs: Vec<Process>,
    appliance: Appliance,
    client: Namespace,
    server: Namespace,
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let appliance =
            Appliance::start(Path::new(SEXTANT), "sx-steer", &config()).expect("it starts");
        let client = Namespace::new("sx-client").expect("a namespace");
        appliance.hand_over("sx-up", &client).expect("the tap");
        client
            .configure("sx-up", &["2001:db8:c::10/64"], Some("2001:db8:c::1"))
            .expect("an address");
        let server = Namespace::new("sx-web-1").expect("a namespace");
        appliance.hand_over("sx-servers", &server).expect("the tap");
        let own = ["2001:db8:5::11/64", "192.0.2.11/24"];
        server
            .configure("sx-servers", &own, Some("2001:db8:5::1"))
            .expect("addresses");
        let script = folder.path().join("decapsulate.py");
        std::fs::write(&script, DECAPSULATE).expect("a script");
        let script = script.display().to_string();
        let mut programs = Vec::new();
        for (mode, service, _) in MODES {
            let on_loopback = format!("{service}/128");
            server
                .run(&["ip", "addr", "add", &on_loopback, "dev", "lo"])
                .expect("the service address");
            let tun = format!("tun-{mode}");
            let words = ["python3", &script, mode, &tun];
            programs.push(server.spawn(&words).expect("python"));
            let is_up = || server.run(&["ip", "link", "show", "up", "dev", &tun]);
            wait_until("a tunnel", Duration::from_secs(20), || {
                is_up().is_ok_and(|text| text.contains(&tun))
            })
            .expect("its device");
        }
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("a folder");
        std::fs::write(root.join("name"), "web\n").expect("a file");
        let root = root.display().to_string();
        let words = "python3 -m http.server 80 --bind :: --directory";
        let words: Vec<&str> = words.split(' ').chain([&*root]).collect();
        programs.push(server.spawn(&words).expect("python"));
        Self {
            _programs: programs,
            appliance,
            client,
            server,
            folder,
        }
    }

    /// Packets that went to the server of a mode, and what checks say of it.
    fn seen(&self, mode: &str) -> (u64, String) {
        let shown = self.appliance.show("services").expect("services");
        let pools = shown["pools"].as_array().expect("pools");
        let pool = pools.iter().find(|pool| pool["name"] == mode);
        let server = &pool.expect("the pool")["servers"][0];
        let health = server["health"]["state"].as_str().unwrap_or("none");
        let packets = server["packets"].as_u64().expect("a count");
        (packets, health.to_owned())
    }

    fn kernel(&self, counter: &str) -> u64 {
        let text = self.server.run(&["nstat", "-asz", counter]).expect("nstat");
        let line = text.lines().find(|line| line.starts_with(counter));
        let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        value.unwrap_or_else(|| panic!("{text}"))
    }
}

/// Issue 6: "a large POST over a path with a smaller MTU succeeds in every mode": the tunnel is what makes it smaller. RFC
/// 2473, RFC 4213, draft-ietf-intarea-gue; "every packet we emit passes tshark and the receiving kernel's checksum".
#[test]
fn a_real_server_takes_what_clients_send_out_of_every_tunnel() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and taps need root");
        return;
    }
    let stage = Stage::new();
    let file = stage
        .folder
        .path()
        .join("tunnels.pcap")
        .display()
        .to_string();
    let words = [
        "tcpdump",
        "-n",
        "--immediate-mode",
        "-U",
        "-Q",
        "in",
        "-i",
        "sx-servers",
        "-w",
        &file,
        "ip6 proto 41 or ip proto 41 or (ip6 and udp port 6080)",
    ];
    let capture = stage.server.spawn(&words).expect("tcpdump");
    let listens = || std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24);
    wait_until("tcpdump", Duration::from_secs(5), listens).expect("listens");

    for (mode, service, overhead) in MODES {
        let is_up = || stage.seen(mode).1 == "up";
        wait_until(mode, Duration::from_secs(15), is_up).expect("checks pass through the tunnel");
        for _ in 0..5 {
            let url = format!("http://[{service}]/name");
            let words = ["curl", "-sfg", "--max-time", "5", &url];
            assert_eq!(stage.client.run(&words).expect(mode), "web\n", "{mode}");
        }
        let before = stage.seen(mode).0;
        let hosts = (&stage.client, &stage.server);
        traffic::transfer(Path::new(SEXTANT), hosts, service, POST).expect(mode);
        let packets = stage.seen(mode).0 - before;
        // At most what fits: 60 bytes of IPv6 and TCP header, 12 of timestamps.
        let largest = u64::from(1500 - overhead - 72);
        assert!(packets > POST / largest, "{mode}: {packets} packets");
        // The client was told, once for each of its destinations.
        let route = stage.client.run(&["ip", "-6", "route", "get", service]);
        let mtu = format!("mtu {}", 1500 - overhead);
        assert!(route.expect("a route").contains(&mtu), "{mode}: {mtu}");
    }

    capture.signal(rustix::process::Signal::INT);
    capture.wait(Duration::from_secs(5)).expect("tcpdump ends");
    for counter in [
        "TcpInCsumErrors",
        "Udp6InCsumErrors",
        "Icmp6InCsumErrors",
        "IpInHdrErrors",
    ] {
        assert_eq!(stage.kernel(counter), 0, "{counter}");
    }
    assert!(stage.kernel("Udp6InDatagrams") > POST / 1448, "by UDP");
    let read = |filter: &str, field: &str| {
        // What is carried is noise, which would be taken for HTTP by its port.
        let mut words = vec!["tshark", "-n", "-r", &file, "--disable-protocol", "http"];
        for check in [
            "tcp.check_checksum:TRUE",
            "udp.check_checksum:TRUE",
            "ip.check_checksum:TRUE",
        ] {
            words.extend(["-o", check]);
        }
        words.extend(["-Y", filter, "-T", "fields", "-e", field]);
        run(&words).expect("tshark")
    };
    let strange = format!(
        "_ws.malformed || {WRONG_TCP_CHECKSUM} || udp.checksum.status == 0 || ip.checksum.status == 0"
    );
    assert_eq!(read(&strange, "frame.number"), "");
    // Each flow spreads: labels, ports, and sources of IPv4.
    for (filter, field) in [
        ("ipv6.nxt == 41", "ipv6.flow"),
        ("udp.dstport == 6080", "udp.srcport"),
        ("ip.proto == 41", "ip.src"),
    ] {
        let text = read(filter, field);
        let outer = text.lines().filter_map(|line| line.split(',').next());
        let distinct: std::collections::BTreeSet<_> = outer.collect();
        assert!(distinct.len() >= 6, "{field}: {distinct:?}");
    }
    let drops = stage.appliance.show("drops").expect("drops");
    let drops = drops["drops"].as_array().expect("drops").iter();
    let of_steering = drops.filter(|drop| {
        let name = drop["name"].as_str().expect("a name");
        name.starts_with("steer") && drop["count"] != 0
    });
    // Packets that came before the first check passed would be refused; there were none.
    assert_eq!(
        of_steering.collect::<Vec<_>>(),
        [&serde_json::Value::Null; 0]
    );
}
