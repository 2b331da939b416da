//! Steering by address translation through a real process, with the kernels of clients and servers as judges. Needs root.
//!
//! ```text
//!   client --- router --- up | sextant | one --- web-1
//!        1500        1500          1350 | two --- web-2
//! ```
//!
//! Behind the router the path to the client carries 1300 bytes, and our links to servers carry 1350: what either side
//! sends first is too big, one way for a router that is not us and the other for us. Whoever is told must know the packet
//! that it is told of, or nothing large ever arrives.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use control::lab::{Appliance, Namespace, Process, WRONG_TCP_CHECKSUM, run, wait_until};
use tempfile::TempDir;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
const CLIENT: &str = "2001:db8:cc::10";
/// Bytes of a body: some hundred packets.
const BODY_BYTES: usize = 2_000_000;

const CONFIG: &str = r#"
[workers]
mbufs = 4096

[[ports]]
name = "up"
device = "net_tap0,iface=sx-up,mac=02:00:00:00:0c:01"

[[ports]]
name = "one"
device = "net_tap1,iface=sx-one,mac=02:00:00:00:0c:02"

[[ports]]
name = "two"
device = "net_tap2,iface=sx-two,mac=02:00:00:00:0c:03"

[[interfaces]]
port = "up"
addresses = ["2001:db8:c::1/64"]

[[interfaces]]
port = "one"
mtu = 1350
addresses = ["2001:db8:5:1::1/64"]

[[interfaces]]
port = "two"
mtu = 1350
addresses = ["2001:db8:5:2::1/64"]

[[routes]]
prefix = "2001:db8:cc::/64"
next_hops = [{ via = "2001:db8:c::2" }]

[[pools]]
name = "web"
mode = "dnat"
port = 8080
health = { kind = "http", path = "/name", interval_ms = 300, timeout_ms = 200 }
servers = [
    { name = "web-1", address = "2001:db8:5:1::11" },
    { name = "web-2", address = "2001:db8:5:2::11" },
]

[[pools]]
name = "rest"
mode = "dnat"
servers = [{ address = "2001:db8:5:1::11" }, { address = "2001:db8:5:2::11" }]

[[pools]]
name = "full"
mode = "full-nat"
sources = ["2001:db8:a0::1"]
port = 8080
health = { kind = "tcp", interval_ms = 300, timeout_ms = 200 }
servers = [
    { name = "web-1", address = "2001:db8:5:1::11" },
    { name = "web-2", address = "2001:db8:5:2::11" },
]

[[pools]]
name = "full-rest"
mode = "full-nat"
sources = ["2001:db8:5:1::50"]
servers = [{ address = "2001:db8:5:1::11" }, { address = "2001:db8:5:2::11" }]

[[services]]
name = "full-http"
prefix = "2001:db8:a11::4/128"
protocol = "tcp"
ports = [80]
pool = "full"

[[services]]
name = "full-echo"
prefix = "2001:db8:a11::4/128"
protocol = "udp"
ports = [7]
pool = "full-rest"

[[services]]
name = "full-ping"
prefix = "2001:db8:a11::4/128"
protocol = "icmpv6"
pool = "full-rest"

[[services]]
name = "http"
prefix = "2001:db8:a11::3/128"
protocol = "tcp"
ports = [80]
pool = "web"

[[services]]
name = "echo"
prefix = "2001:db8:a11::3/128"
protocol = "udp"
ports = [7]
pool = "rest"

[[services]]
name = "ping"
prefix = "2001:db8:a11::3/128"
protocol = "icmpv6"
pool = "rest"
"#;

/// Sends a datagram in fragments, the last one first.
const TURNED: &str = r#"
import socket, struct
def send_turned(udp, peer, data):
    source, port = udp.getsockname()[:2]
    ends = [socket.inet_pton(socket.AF_INET6, end) for end in (source, peer[0])]
    def message(checksum):
        return struct.pack("!HHHH", port, peer[1], 8 + len(data), checksum) + data
    summed = b"".join(ends) + struct.pack("!II", 8 + len(data), 17) + message(0) + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed)) % 65535
    whole, pieces = message(65535 - total), []
    for at in range(0, len(whole), 1200):
        piece = whole[at:at + 1200]
        more = at + len(piece) < len(whole)
        header = struct.pack("!IHBB", 6 << 28, 8 + len(piece), 44, 64) + b"".join(ends)
        pieces.append(header + struct.pack("!BBHI", 17, 0, at | more, port) + piece)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for piece in reversed(pieces):
            raw.sendto(piece, (peer[0], 0))
"#;

/// What runs on a server: its name, a body, and what it got; and whatever comes by UDP, back, in turned fragments if it is told
/// so.
const SERVER: &str = r#"
import http.server, socket, sys, threading
name, body = sys.argv[1], int(sys.argv[2])
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        who = f"{name} {self.client_address[0]}\n".encode()
        self.answer(b"x" * body if self.path == "/body" else who)
    def do_POST(self):
        left, sound = int(self.headers["Content-Length"]), True
        while left:
            data = self.rfile.read(min(left, 65536))
            left, sound = left - len(data), sound and data == b"y" * len(data)
        self.answer(b"sound\n" if sound else b"damaged\n")
    def log_message(self, *words):
        pass
def echo():
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp.bind(("::", 7))
        while True:
            data, peer = udp.recvfrom(65536)
            if not data.startswith(b"turned"):
                udp.sendto(data, peer)
                continue
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as answer:
                answer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                answer.bind(("::", 7))
                answer.connect(peer)
                send_turned(answer, peer, data)
threading.Thread(target=echo, daemon=True).start()
Server(("::", 8080), Handler).serve_forever()
"#;

/// What asks by UDP from several ports, with more than fits into a packet: prints how many answers came whole.
const ASK: &str = r#"
import socket, sys
whole = 0
for number in range(20):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.5)
        udp.connect((sys.argv[1], 7))
        question = bytes([number]) * int(sys.argv[2])
        for attempt in range(18):
            try:
                udp.send(question)
                if udp.recv(65536) == question:
                    whole += 1
                    break
            except OSError:
                pass
print(whole)
"#;

/// The same in fragments whose first one comes last, both ways; nothing is sent twice.
const ASK_TURNED: &str = r#"
import sys
whole = 0
for number in range(20):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        peer = (sys.argv[1], 7)
        udp.connect(peer)
        question = b"turned" + bytes([number]) * 4001
        send_turned(udp, peer, question)
        try:
            whole += udp.recv(65536) == question
        except OSError:
            pass
print(whole)
"#;

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: namespaces and taps need root");
    }
    root
}

fn configure(host: &Namespace, link: &str, address: &str, gateway: Option<&str>) {
    host.configure(link, &[address], gateway)
        .expect("an address");
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

/// Everything, in the order in which it is taken down.
struct Stage {
    _running: Vec<Process>,
    appliance: Appliance,
    client: Namespace,
    router: Namespace,
    servers: Vec<Namespace>,
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let appliance = Appliance::start(Path::new(SEXTANT), "sx-nat", CONFIG).expect("it starts");
        let client = Namespace::new("sx-client").expect("a namespace");
        let router = Namespace::new("sx-router").expect("a namespace");
        router
            .run(&words(
                "ip link add eth1 type veth peer name eth0 netns sx-client",
            ))
            .expect("a link");
        router
            .run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])
            .expect("a router");
        appliance.hand_over("sx-up", &router).expect("the tap");
        configure(&router, "sx-up", "2001:db8:c::2/64", Some("2001:db8:c::1"));
        configure(&router, "eth1", "2001:db8:cc::1/64", None);
        let narrow = format!("ip -6 route add {CLIENT}/128 dev eth1 mtu lock 1300");
        router.run(&words(&narrow)).expect("a narrow path");
        let address = format!("{CLIENT}/64");
        configure(&client, "eth0", &address, Some("2001:db8:cc::1"));
        let folder = tempfile::tempdir().expect("a folder");
        let mut servers = Vec::new();
        let mut running = Vec::new();
        for (number, tap) in [(1, "sx-one"), (2, "sx-two")] {
            let name = format!("sx-web-{number}");
            let server = Namespace::new(&name).expect("a namespace");
            appliance.hand_over(tap, &server).expect("the tap");
            let address = format!("2001:db8:5:{number}::11/64");
            let gateway = format!("2001:db8:5:{number}::1");
            configure(&server, tap, &address, Some(&gateway));
            let name = format!("web-{number}");
            let body = BODY_BYTES.to_string();
            let program = [TURNED, SERVER].concat();
            let process = server.spawn(&["python3", "-c", &program, &name, &body]);
            running.push(process.expect("a server"));
            let listens = || {
                let listening = server.run(&["ss", "-ltnH"]);
                listening.is_ok_and(|text| text.contains(":8080 "))
            };
            wait_until("a server that listens", Duration::from_secs(20), listens).expect("listens");
            servers.push(server);
        }
        let stage = Self {
            _running: running,
            appliance,
            client,
            router,
            servers,
            folder,
        };
        let resolved = || {
            let shown = stage.appliance.show("services").expect("services");
            let pools = shown["pools"].as_array().expect("pools").clone();
            let mut servers = pools
                .iter()
                .flat_map(|pool| pool["servers"].as_array())
                .flatten();
            servers.all(|server| server["resolved"] == true)
        };
        wait_until("resolved servers", Duration::from_secs(10), resolved).expect("resolved");
        // What a server answers to a check is for us, and is not turned back.
        for pool in ["web", "full"] {
            let are_up = || stage.health(pool).iter().all(|state| state == "up");
            wait_until("healthy servers", Duration::from_secs(10), are_up).expect("healthy");
        }
        stage
    }

    /// Of each server of a pool.
    fn health(&self, pool: &str) -> Vec<serde_json::Value> {
        let shown = self.appliance.show("services").expect("services");
        let mut pools = shown["pools"].as_array().expect("pools").iter();
        let pool = pools.find(|one| one["name"] == pool).expect("a pool");
        let servers = pool["servers"].as_array().expect("servers").iter();
        servers
            .map(|server| server["health"]["state"].clone())
            .collect()
    }

    fn curl(&self, service: &str, path: &str, more: &[&str]) -> String {
        let url = format!("http://[{service}]/{path}");
        let words = [&["curl", "-s", "-g", "--max-time", "30"], more, &[&url]].concat();
        self.client.run(&words).expect("an answer")
    }

    /// Every way in which a service is used, and that it is answered by more than one server. Says as whom servers know
    /// the client.
    fn use_all(&self, service: &str) -> BTreeSet<String> {
        let mut servers = BTreeSet::new();
        let mut clients = BTreeSet::new();
        for _ in 0..30 {
            let answer = self.curl(service, "name", &[]);
            let (server, client) = answer.trim().split_once(' ').expect("both");
            servers.insert(server.to_owned());
            clients.insert(client.to_owned());
        }
        assert_eq!(servers.len(), 2, "{servers:?}");
        // Larger than any path: down past the router, up past us.
        let got = self.folder.path().join("got").display().to_string();
        let sent = self.folder.path().join("sent");
        std::fs::write(&sent, "y".repeat(BODY_BYTES)).expect("a file");
        for _ in 0..4 {
            self.curl(service, "body", &["-o", &got]);
            let body = std::fs::read(&got).expect("a body");
            assert!(body.len() == BODY_BYTES && body.iter().all(|byte| *byte == b'x'));
            let data = format!("@{}", sent.display());
            let answer = self.curl(service, "", &["-H", "Expect:", "--data-binary", &data]);
            assert_eq!(answer, "sound\n");
        }
        for bytes in ["100", "4000"] {
            let whole = self.client.run(&["python3", "-c", ASK, service, bytes]);
            assert_eq!(whole.expect("it ends").trim(), "20", "{bytes} bytes");
        }
        let program = [TURNED, ASK_TURNED].concat();
        let whole = self.client.run(&["python3", "-c", &program, service]);
        assert_eq!(whole.expect("it ends").trim(), "20", "turned fragments");
        for bytes in ["56", "1200"] {
            let ping = self.client.run(&[
                "ping", "-6", "-c5", "-i", "0.2", "-W2", "-s", bytes, service,
            ]);
            assert!(ping.expect("answers").contains(" 5 received"));
        }
        clients
    }

    /// Nobody got a packet whose checksum was wrong, and nothing was dropped for want of understanding.
    fn check(&self) {
        for host in self.servers.iter().chain([&self.client, &self.router]) {
            for counter in ["TcpInCsumErrors", "Udp6InCsumErrors", "Icmp6InCsumErrors"] {
                assert_eq!(kernel(host, counter), 0, "{counter} of {}", host.name());
            }
        }
        let shown = self.appliance.show("drops").expect("drops");
        let drops = shown["drops"].as_array().expect("drops").iter();
        let steer = drops.filter(|drop| {
            let name = drop["name"].as_str().unwrap_or("");
            // Behind a first fragment that is too big for our links come others that are not; and of errors only those
            // about first ones say whose they are.
            let of_fragments = ["steer_fragment", "steer_quote"].contains(&name);
            name.starts_with("steer") && !of_fragments && drop["count"] != 0
        });
        assert_eq!(steer.collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
    }
}

/// A counter of a host's kernel.
fn kernel(host: &Namespace, counter: &str) -> u64 {
    let text = host.run(&["nstat", "-asz", counter]).expect("nstat");
    let line = text.lines().find(|line| line.starts_with(counter));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    value.unwrap_or_else(|| panic!("{text}"))
}

/// What tshark has to say of a capture that it would not say of sound packets.
fn complaints(capture: &Path) -> String {
    let path = capture.display().to_string();
    // A quote is cut, so its checksum says nothing.
    let strange = format!(
        "_ws.malformed || icmpv6.checksum.status == 0 || \
         (!icmpv6 && ({WRONG_TCP_CHECKSUM} || udp.checksum.status == 0))"
    );
    run(&[
        "tshark",
        "-n",
        "-r",
        &path,
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
        "-Y",
        &strange,
        "-T",
        "fields",
        "-e",
        "frame.number",
    ])
    .expect("tshark")
}

/// Use a service in every way, with captures of what servers and clients get; as whom servers know the client.
fn judge(service: &str) -> BTreeSet<String> {
    let stage = Stage::new();
    let captures: Vec<_> = [(&stage.servers[0], "sx-one"), (&stage.router, "sx-up")]
        .into_iter()
        .map(|(host, link)| {
            let file = stage.folder.path().join(format!("{link}.pcap"));
            let path = file.display().to_string();
            let command = format!("tcpdump -n --immediate-mode -U -Q in -i {link} -w {path} ip6");
            let tcpdump = host.spawn(&words(&command)).expect("tcpdump");
            let listens = || std::fs::metadata(&file).is_ok_and(|file| file.len() >= 24);
            wait_until("tcpdump", Duration::from_secs(5), listens).expect("listens");
            (tcpdump, file)
        })
        .collect();
    let clients = stage.use_all(service);
    for (tcpdump, file) in captures {
        tcpdump.signal(rustix::process::Signal::INT);
        tcpdump.wait(Duration::from_secs(5)).expect("tcpdump ends");
        assert_eq!(complaints(&file), "", "{}", file.display());
    }
    stage.check();
    let told = |host| kernel(host, "Icmp6InPktTooBigs");
    let servers: u64 = stage.servers.iter().map(told).sum();
    assert!(servers > 0, "servers are told of the clients' path");
    assert!(told(&stage.client) > 0, "the client is told of ours");
    clients
}

/// Issue 6, 6.2 to 6.4: TCP both ways past paths that are too narrow, UDP in fragments, in order and turned, echo; and
/// every packet that servers and clients get is sound.
#[test]
fn destination_nat_carries_everything_both_ways() {
    if root() {
        assert_eq!(judge("2001:db8:a11::3"), [CLIENT.to_owned()].into());
    }
}

/// The same where servers are asked from an address of ours: one routed to us, and one on the link of a server, which finds
/// us by neighbour discovery.
#[test]
fn full_nat_carries_everything_both_ways() {
    if root() {
        assert_eq!(
            judge("2001:db8:a11::4"),
            ["2001:db8:a0::1".to_owned()].into()
        );
    }
}
