//! Servers that fail and are found to: health checks, withdrawal with a real command, drains that end, cuts. The stage is that
//! of `e2e_steer`.
//!
//! Needs root. The tests make namespaces of the same names, so they run one after the other (`--test-threads=1`).

#[path = "e2e_steer/stage.rs"]
mod stage;

use std::path::Path;
use std::time::{Duration, Instant};

use control::lab::{Process, wait_until};
use serde_json::Value;
use stage::*;

/// What is told of services goes to `told`.
fn config(told: &Path) -> String {
    format!(
        r#"
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
addresses = ["2001:db8:5::1/64"]

[steering]
announce_delay = 1
node = "edge-7"
on_change = ["/bin/sh", "-c", "echo $SEXTANT_NODE $SEXTANT_SERVICE $SEXTANT_PREFIX $SEXTANT_STATE >> {}"]

[[pools]]
name = "web"
servers = [
    {{ name = "web-1", address = "2001:db8:5::11" }},
    {{ name = "web-2", address = "2001:db8:5::12" }},
    {{ name = "web-3", address = "2001:db8:5::13" }},
]
health = {{ kind = "http", path = "/name", status = [200], interval_ms = 300, timeout_ms = 200, fall = 2 }}

[[services]]
name = "http"
prefix = "2001:db8:a11::1/128"
protocol = "tcp"
ports = [80]
pool = "web"

# The same servers, asked otherwise; nobody sends it anything.
[[pools]]
name = "ping"
servers = [{{ name = "web-1", address = "2001:db8:5::11" }}]
health = {{ kind = "icmpv6", interval_ms = 300, timeout_ms = 200 }}

[[pools]]
name = "by-service"
servers = [{{ name = "web-1", address = "2001:db8:5::11" }}]
health = {{ kind = "tcp", port = 80, target = "service", interval_ms = 300, timeout_ms = 200 }}

[[services]]
name = "by-service"
prefix = "2001:db8:a11::1/128"
protocol = "tcp"
ports = [81]
pool = "by-service"
"#,
        told.display()
    )
}

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");

/// The servers asked by HTTPS, and verified with a certificate of the tests; and asked so, whatever they show.
fn https(authority: &str) -> String {
    let servers = |name: &str, what: &str| {
        format!(
            r#"
[[pools]]
name = "{name}"
servers = [
    {{ name = "web-1", address = "2001:db8:5::11" }},
    {{ name = "web-2", address = "2001:db8:5::12" }},
    {{ name = "web-3", address = "2001:db8:5::13" }},
]
health = {{ kind = "https", port = 443, status = [200], interval_ms = 500, timeout_ms = 400, fall = 2, {what} }}
"#
        )
    };
    let verify = format!("host = \"www.example.com\", verify = \"{CERTIFICATES}/{authority}.pem\"");
    servers("verified", &verify) + &servers("any", "")
}

/// A server of HTTPS: certificate and key, the highest version, and a file with the status it answers with. It tells
/// the names it was asked for.
const HTTPS: &str = r#"
import http.server, socket, ssl, sys
certificate, version, status = sys.argv[1:]
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(status) as file:
            self.send_response(int(file.read()))
        self.send_header("Content-Length", "0")
        self.end_headers()
        with open(status + "-told", "a") as file:
            print(self.connection.version(), self.connection.asked, self.headers["Host"], file=file)
    def log_message(self, *words):
        pass
def remember(connection, name, context):
    connection.asked = name
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate + ".pem", certificate + ".key")
context.maximum_version = ssl.TLSVersion[version]
context.sni_callback = remember
server = Server(("::", 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"#;

/// A server that takes connections, and says something in clear or nothing.
const NO_TLS: &str = r#"
import socket, sys
server = socket.create_server(("::", 443), family=socket.AF_INET6)
kept = []
while True:
    kept = kept[-50:] + [server.accept()[0]]
    kept[-1].send(sys.argv[1].encode())
"#;

/// What a server runs at port 443, in place of what it ran.
fn listen_443(stage: &Stage, index: usize, words: &[&str]) -> Process {
    let host = &stage.servers[index];
    let listens = || {
        let listening = host.run(&["ss", "-ltnH"]);
        listening.is_ok_and(|text| text.contains(":443 "))
    };
    wait_until("a free port", Duration::from_secs(10), || !listens()).expect("free");
    let process = host
        .spawn(&[&["python3", "-c"], words].concat())
        .expect("a server");
    wait_until("a server that listens", Duration::from_secs(20), listens).expect("listens");
    process
}

fn cause(stage: &Stage, pool: &str, index: usize) -> String {
    let cause = &stage.servers_of(pool)[index]["health"]["cause"];
    cause.as_str().unwrap_or_default().to_owned()
}

/// RFC 8446, RFC 5246 and RFC 5280 6: what a server shows and says decides, by either version.
#[test]
fn checks_by_https_follow_status_and_certificate() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let text = config(&folder.path().join("told"));
    let stage = Stage::new(&(text.clone() + &https("authority")));
    let status = |index: usize| folder.path().join(format!("status-{index}"));
    let answers = |index: usize, status_code: &str| {
        std::fs::write(status(index), status_code).expect("written");
    };
    let serve = |index: usize, certificate: &str, version: &str| {
        answers(index, "200");
        let certificate = format!("{CERTIFICATES}/{certificate}");
        let status = status(index).display().to_string();
        listen_443(&stage, index, &[HTTPS, &certificate, version, &status])
    };
    let first = serve(0, "server", "TLSv1_3");
    let second = serve(1, "alone", "TLSv1_2");
    let third = serve(2, "old", "TLSv1_2");
    wait_for_health(&stage, "any", &["up", "up", "up"]);
    wait_for_health(&stage, "verified", &["up", "down", "down"]);
    const ALONE: &str = "certificate is an authority's, and not one that is believed";
    assert_eq!(cause(&stage, "verified", 1), ALONE);
    assert_eq!(
        cause(&stage, "verified", 2),
        "certificate is not acceptable"
    );
    let told = |index: usize| {
        let told = std::fs::read_to_string(format!("{}-told", status(index).display()));
        told.unwrap_or_default()
    };
    assert!(told(0).contains("TLSv1.3 www.example.com www.example.com\n"));
    assert!(told(0).contains("TLSv1.3 None [2001:db8:5::11]\n"));
    assert!(told(1).contains("TLSv1.2 None [2001:db8:5::12]\n"));

    // Its status changes, and changes back.
    answers(0, "503");
    wait_for_health(&stage, "verified", &["down", "down", "down"]);
    assert_eq!(cause(&stage, "verified", 0), "status 503");
    wait_for_health(&stage, "any", &["down", "up", "up"]);
    answers(0, "200");
    wait_for_health(&stage, "verified", &["up", "down", "down"]);

    // It shows another certificate.
    drop(first);
    let first = serve(0, "alone", "TLSv1_3");
    wait_for_health(&stage, "verified", &["down", "down", "down"]);
    assert_eq!(cause(&stage, "verified", 0), ALONE);
    wait_for_health(&stage, "any", &["up", "up", "up"]);

    // Another is believed from now on: the one that these servers signed themselves.
    let believed = text.clone() + &https("alone");
    stage.appliance.write_config(&believed).expect("written");
    stage.appliance.command(&["reload"]).expect("taken");
    wait_for_health(&stage, "verified", &["up", "up", "down"]);

    // What is no TLS, and what does not answer.
    drop((first, second, third));
    let _clear = listen_443(&stage, 0, &[NO_TLS, "220 mail.example.com\r\n"]);
    let _silent = listen_443(&stage, 1, &[NO_TLS, ""]);
    wait_for_health(&stage, "any", &["down", "down", "down"]);
    wait_until("each cause", Duration::from_secs(5), || {
        let causes = [0, 1, 2].map(|index| cause(&stage, "any", index));
        causes
            == [
                "answer is not TLS",
                "no end of the TLS handshake in time",
                "connection refused",
            ]
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", stage.servers_of("any")));
    let shown = stage.service(&["show"]);
    assert!(shown.contains("answer is not TLS"), "{shown}");
    // Of all this nobody else is the worse.
    wait_for_health(&stage, "web", &["up", "up", "up"]);
    assert!(stage.ask().is_some());
}

fn health(stage: &Stage, pool: &str) -> Vec<String> {
    let servers = stage.servers_of(pool);
    let states = servers
        .iter()
        .map(|server| server["health"]["state"].as_str());
    states
        .map(|state| state.expect("it is checked").to_owned())
        .collect()
}

fn wait_for_health(stage: &Stage, pool: &str, expected: &[&str]) -> Duration {
    let begun = Instant::now();
    let what = format!("{pool} {expected:?}");
    wait_until(&what, Duration::from_secs(10), || {
        health(stage, pool) == expected
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", stage.servers_of(pool)));
    begun.elapsed()
}

fn announcement(stage: &Stage) -> Value {
    let shown = stage.appliance.show("services").expect("services");
    shown["services"][0]["announcement"]["state"].clone()
}

#[test]
fn a_service_follows_the_health_of_its_servers() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    let mut stage = Stage::new(&config(&told));
    wait_for_health(&stage, "web", &["up", "up", "up"]);
    wait_for_health(&stage, "ping", &["up"]);
    wait_for_health(&stage, "by-service", &["up"]);
    assert_eq!(stage.answers(40).len(), 3);
    wait_until("announced", Duration::from_secs(5), || {
        announcement(&stage) == "announced"
    })
    .expect("it is");
    // It was withdrawn before, while its servers were not there yet.
    let text = || std::fs::read_to_string(&told).unwrap_or_default();
    let told = || {
        text()
            .lines()
            .filter(|line| line.contains(" http "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let is_told = |state: &str| told().last().is_some_and(|line| line.ends_with(state));
    let wait_told =
        |state| wait_until(state, Duration::from_secs(5), || is_told(state)).expect("it is told");
    wait_told("announced");
    let before = told().len();

    // One program ends: its host answers that nobody listens.
    drop(stage.http[1].take());
    let took = wait_for_health(&stage, "web", &["up", "down", "up"]);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(
        stage.servers_of("web")[1]["health"]["cause"],
        "connection refused"
    );
    assert!(!stage.answers(30).contains_key("web-2"));

    // All of them: connections are refused at once, and the service is withdrawn.
    drop(stage.http[0].take());
    drop(stage.http[2].take());
    wait_for_health(&stage, "web", &["down", "down", "down"]);
    wait_for_health(&stage, "by-service", &["down"]);
    assert_eq!(health(&stage, "ping"), ["up"], "the host is there");
    assert_eq!(announcement(&stage), "withdrawn");
    wait_told("withdrawn");
    let begun = Instant::now();
    let url = format!("http://[{SERVICE}]/name");
    let refused = stage
        .client
        .run_for(
            &["curl", "-s", "-g", "--max-time", "5", &url],
            Duration::from_secs(8),
        )
        .expect("curl ends");
    // Its code for a connection that was refused.
    assert_eq!(refused.code, Some(7), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));

    stage.restart(0);
    wait_for_health(&stage, "web", &["up", "down", "down"]);
    wait_until("announced", Duration::from_secs(5), || {
        announcement(&stage) == "announced"
    })
    .expect("it is");
    assert_eq!(stage.answers(5).len(), 1);
    let line = |state| format!("edge-7 http {SERVICE}/128 {state}");
    wait_told("announced");
    assert_eq!(
        told()[before - 1..],
        [line("announced"), line("withdrawn"), line("announced")]
    );
    let client = stage
        .client
        .run(&["nstat", "-asz", "TcpInCsumErrors"])
        .expect("nstat");
    assert!(
        client
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some("0")),
        "{client}"
    );

    // At the end it is withdrawn before the packets stop.
    stage.appliance.stop().expect("it stops");
    assert_eq!(told()[before + 2..], [line("withdrawn")]);
}

/// A command that fails is counted and logged, and stops nothing.
#[test]
fn a_command_that_fails_is_counted() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let text = config(&folder.path().join("nowhere/told"));
    let stage = Stage::new(&text);
    wait_for_health(&stage, "web", &["up", "up", "up"]);
    let failed = || {
        let shown = stage.appliance.show("services").expect("services");
        shown["on_change"]["failures"].as_u64() > Some(0)
    };
    wait_until("a failure", Duration::from_secs(5), failed).expect("it failed");
    assert!(
        stage.appliance.log().contains("on_change for service"),
        "{}",
        stage.appliance.log()
    );
    assert!(stage.ask().is_some());
}

/// RFC 9293 3.10.7.1: connections of a server that is cut end at once, nobody else's; and a drain ends when it is told to.
#[test]
fn connections_are_cut_and_drains_end() {
    if !root() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(&config(&folder.path().join("told")));
    wait_for_health(&stage, "web", &["up", "up", "up"]);
    let downloads: Vec<_> = (0..9).map(|number| stage.download(number)).collect();
    std::thread::sleep(UNDER_WAY);
    let said = stage.service(&["cut", "web", "web-2"]);
    assert!(said.starts_with("web-2 of web is cut"), "{said}");
    let (mut cut, mut whole) = (0, 0);
    for (download, number) in downloads.into_iter().zip(0..) {
        let finished = download.wait(Duration::from_secs(60)).expect("it ends");
        let (is_whole, from) = stage.downloaded(number);
        assert_eq!(is_whole, from != "web-2", "from {from}");
        if is_whole {
            whole += 1;
        } else {
            // Its code for a connection that was reset.
            assert_eq!(finished.code, Some(56), "{finished:?}");
            cut += 1;
        }
    }
    assert!(cut > 0 && whole > 0, "{cut} cut, {whole} whole");
    assert!(stage.drops()["steer_cut"] >= cut);
    stage.service(&["enable", "web", "web-2"]);

    let said = stage.service(&["drain", "web", "web-3", "--deadline", "2s"]);
    assert!(said.contains("drained"), "{said}");
    let state = |number: usize| stage.servers_of("web")[number]["state"].clone();
    assert_eq!(state(2), "drained");
    wait_until("its deadline", Duration::from_secs(4), || {
        state(2) == "down"
    })
    .expect("down");
    // Its connections are over, and it has no others.
    stage.service(&["drain", "web", "web-1", "--when-idle", "--deadline", "10m"]);
    wait_until("idleness", Duration::from_secs(10), || state(0) == "down").expect("down");
    stage.service(&["down", "web", "web-2", "--agent", "probe", "--ttl", "1s"]);
    assert_eq!(state(1), "down");
    wait_until("forgotten", Duration::from_secs(4), || state(1) == "up").expect("up");
}
