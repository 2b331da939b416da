//! The real binary as a Map-Server on the loopback, registered to by a router made of the codec, asked by `sextant
//! lig`. Needs neither root nor DPDK.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use control::proto::lisp::wire::auth::{self, Acceptance, Algorithm, Secret};
use control::proto::lisp::wire::{
    Act, Encapsulated, LocatorRecord, Message, Notify, Record, Register, RegisterFlags,
    Registration, emit, parse,
};
use control::proto::lisp::{EidKey, InstanceId, Locator};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SECRET: &[u8] = b"correct horse";

fn sextant(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
    command.args(arguments).env_remove("SEXTANT_LOG");
    command
}

/// A Map-Server in a loopback network of its own, 127.0.N.0/24: it is .1, the router .2, who asks .3.
struct Server {
    network: u8,
    folder: TempDir,
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

fn configuration(network: u8, folder: &Path, prefixes: &str) -> PathBuf {
    let state = folder.join("nonces");
    let registrations = folder.join("registrations");
    let text = format!(
        r#"
[mapserver]
listen = ["127.0.{network}.1"]
state = {state:?}
registrations = {registrations:?}

[[sites]]
name = "berlin"
keys = [{{ id = 1, secret = "correct horse" }}]
prefixes = [{prefixes}]
"#
    );
    let path = folder.join("mapserver.toml");
    fs::write(&path, text).unwrap();
    path
}

const PREFIXES: &str = r#"
    { eid = "2001:db8:1::/48", more_specifics = true },
    { instance = 7, eid = "10.1.0.0/16" },
"#;

impl Server {
    fn start(network: u8) -> Self {
        Self::start_in(network, tempfile::tempdir().unwrap())
    }

    fn start_in(network: u8, folder: TempDir) -> Self {
        let path = configuration(network, folder.path(), PREFIXES);
        let mut child = sextant(&["mapserver", "-c"])
            .arg(path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self {
            network,
            folder,
            child,
            log,
        };
        server.wait_for("ready: 1 sites");
        server
    }

    /// Read the log up to a line with this text.
    fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).unwrap();
            assert!(length > 0, "the log ends without {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Orderly; its folder and its last line.
    fn stop(mut self) -> (TempDir, String) {
        self.signal(Signal::TERM);
        let last = self.wait_for("EIDs registered");
        assert!(self.child.wait().unwrap().success());
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (folder, last)
    }

    fn router(&self) -> Router {
        let address = format!("127.0.{}.2:4342", self.network);
        let socket = UdpSocket::bind(address).unwrap();
        let timeout = Some(Duration::from_secs(5));
        socket.set_read_timeout(timeout).unwrap();
        Router {
            socket,
            server: format!("127.0.{}.1:4342", self.network).parse().unwrap(),
            proxy_reply: true,
        }
    }

    /// A command about this instance.
    fn command(&self, arguments: &[&str]) -> Output {
        let socket = self.folder.path().join("mapserver.sock");
        let mut command = sextant(arguments);
        command.arg("--socket").arg(socket).output().unwrap()
    }

    fn lig(&self, arguments: &[&str]) -> Output {
        let (to, from) = (
            format!("127.0.{}.1", self.network),
            format!("127.0.{}.3", self.network),
        );
        sextant(&["lig", "--to", &to, "--from", &from, "--timeout", "1"])
            .args(arguments)
            .output()
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Of a test that failed; else it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Router {
    socket: UdpSocket,
    server: SocketAddr,
    proxy_reply: bool,
}

impl Router {
    fn register(&self, nonce: u64, secret: &[u8], instance: u32, eid: &str, rloc: &str) {
        let key = EidKey {
            instance: InstanceId::new(instance).unwrap(),
            eid: eid.parse().unwrap(),
        };
        let locator = Locator::new(rloc.parse().unwrap());
        let mut bytes = emit(&Message::Register(Register {
            flags: RegisterFlags {
                proxy_reply: self.proxy_reply,
                want_notify: true,
                ..RegisterFlags::default()
            },
            body: Registration {
                nonce,
                key_id: 1,
                algorithm_id: Algorithm::HmacSha256.id(),
                mac: vec![0; 16],
                records: vec![Record {
                    locators: vec![LocatorRecord::new(locator)],
                    ..Record::negative(key, Act::default(), 1440)
                }],
                identity: None,
            },
        }));
        auth::seal(&mut bytes, &Secret::new(secret)).unwrap();
        self.socket.send_to(&bytes, self.server).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 2000];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("a message");
        assert_eq!(from, self.server);
        buffer.truncate(length);
        buffer
    }

    /// The Map-Notify of this nonce, authentic.
    fn notified(&self, nonce: u64) {
        let bytes = self.receive();
        let Ok(Message::Notify(Notify { body })) = parse(&bytes) else {
            panic!("a Map-Notify")
        };
        let acceptance = Acceptance { strict: true };
        auth::verify(&bytes, &body, &Secret::new(SECRET), acceptance).unwrap();
        assert_eq!(body.nonce, nonce);
    }
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn what_is_registered_is_found_and_what_is_not_is_negative() {
    let server = Server::start(201);
    let router = server.router();
    router.register(1, SECRET, 0, "2001:db8:1:2::/64", "192.0.2.1");
    router.notified(1);
    router.register(2, SECRET, 7, "10.1.0.0/16", "2001:db8:f::1");
    router.notified(2);
    let found = text(&server.lig(&["2001:db8:1:2::9"]));
    assert!(found.starts_with("answer from 127.0.201.1 in "), "{found}");
    let rest = "2001:db8:1:2::/64 of instance 0, TTL 1440 min\n  \
                192.0.2.1                               up   priority 1   weight 100\n";
    assert!(found.ends_with(rest), "{found}");
    let found = server.lig(&["10.1.2.3", "--instance", "7", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&text(&found)).unwrap();
    assert_eq!(found["records"][0]["eid"], "10.1.0.0/16");
    assert_eq!(found["records"][0]["locators"][0]["rloc"], "2001:db8:f::1");
    // Of a site, and nobody registered it: for a minute. Of nobody: for fifteen.
    let unregistered = text(&server.lig(&["2001:db8:1:8000::1"]));
    assert!(
        unregistered.contains("2001:db8:1:8000::/49 of instance 0, TTL 1 min\n  negative: native")
    );
    let unknown = text(&server.lig(&["10.1.2.3"]));
    assert!(
        unknown.contains("10.0.0.0/8 of instance 0, TTL 15 min"),
        "{unknown}"
    );
    let (_, last) = server.stop();
    for counted in [
        "2 EIDs registered",
        "requests 4",
        "reply_proxy 2",
        "notify_sent 2",
    ] {
        assert!(last.contains(counted), "{last}");
    }
}

/// Without the P-bit the question goes to the router, which answers who asked.
#[test]
fn a_router_that_answers_itself_gets_the_question() {
    let server = Server::start(202);
    let router = Router {
        proxy_reply: false,
        ..server.router()
    };
    router.register(1, SECRET, 0, "2001:db8:1::/48", "192.0.2.1");
    router.notified(1);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.lig(&["2001:db8:1::9"]));
        let Ok(Message::Encapsulated(Encapsulated {
            source, request, ..
        })) = parse(&router.receive())
        else {
            panic!("an encapsulated Map-Request")
        };
        let reply = emit(&Message::Reply(control::proto::lisp::wire::Reply {
            flags: Default::default(),
            nonce: request.nonce,
            records: vec![Record {
                is_authoritative: true,
                ..Record::negative(request.asked[0].key, Act::default(), 60)
            }],
        }));
        let to = SocketAddr::new(request.itr_rlocs[0], source.port());
        router.socket.send_to(&reply, to).unwrap();
        let found = text(&asked.join().unwrap());
        assert!(found.starts_with("answer from 127.0.202.2"), "{found}");
        assert!(found.contains("2001:db8:1::9/128 of instance 0, TTL 60 min, authoritative"));
    });
}

#[test]
fn a_wrong_key_is_refused_and_told() {
    let mut server = Server::start(203);
    let router = server.router();
    router.register(1, b"wrong", 0, "2001:db8:1::/48", "192.0.2.1");
    let line = server.wait_for("wrong authentication data");
    assert!(line.contains("127.0.203.2:4342 for site berlin"), "{line}");
    router.register(2, SECRET, 0, "2001:db9:1::/48", "192.0.2.1");
    router.register(3, SECRET, 0, "2001:db8:1::/48", "192.0.2.1");
    router.notified(3);
    let (_, last) = server.stop();
    for counted in [
        "1 EIDs registered",
        "drop_auth_mac 1",
        "drop_register_unknown 1",
    ] {
        assert!(last.contains(counted), "{last}");
    }
}

/// R-05 of the requirements (RFC 9301 5.6): over an orderly end, and over one without warning.
#[test]
fn nonces_are_kept_over_restarts() {
    let server = Server::start(204);
    let router = server.router();
    router.register(100, SECRET, 0, "2001:db8:1::/48", "192.0.2.1");
    router.notified(100);
    let (folder, _) = server.stop();
    let mut server = Server::start_in(204, folder);
    router.register(100, SECRET, 0, "2001:db8:1::/48", "192.0.2.1");
    let line = server.wait_for("is not greater than");
    assert!(line.contains("0x64"), "{line}");
    router.register(101, SECRET, 0, "2001:db8:1::/48", "192.0.2.1");
    router.notified(101);
    // It is on the disk without anybody ending the server.
    let saved = server.folder.path().join("nonces");
    let is_saved = || {
        fs::read_to_string(&saved)
            .unwrap()
            .contains("berlin - 1 0000000000000065")
    };
    for _ in 0..100 {
        if is_saved() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(is_saved());
    server.signal(Signal::KILL);
    server.child.wait().unwrap();
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    let mut server = Server::start_in(204, folder);
    router.register(101, SECRET, 0, "2001:db8:1::/48", "192.0.2.1");
    server.wait_for("is not greater than");
}

#[test]
fn a_reload_is_applied_whole_or_refused_whole() {
    let mut server = Server::start(205);
    let router = server.router();
    router.register(1, SECRET, 7, "10.1.0.0/16", "192.0.2.1");
    router.notified(1);
    let broken = "{ eid = \"10.1.2.3/16\" }";
    configuration(205, server.folder.path(), broken);
    server.signal(Signal::HUP);
    server.wait_for("reload refused, nothing changed");
    assert!(text(&server.lig(&["10.1.2.3", "--instance", "7"])).contains("192.0.2.1"));
    configuration(205, server.folder.path(), "{ eid = \"10.2.0.0/16\" }");
    server.signal(Signal::HUP);
    server.wait_for("reloaded: 1 sites");
    assert!(text(&server.lig(&["10.1.2.3", "--instance", "7"])).contains("negative"));
    router.register(2, SECRET, 0, "10.2.0.0/16", "192.0.2.2");
    router.notified(2);
    assert!(text(&server.lig(&["10.2.2.3"])).contains("192.0.2.2"));
}

#[test]
fn an_operator_sees_what_is_registered_and_what_was_counted() {
    let server = Server::start(209);
    let router = server.router();
    router.register(1, SECRET, 0, "2001:db8:1:2::/64", "192.0.2.1");
    router.notified(1);
    router.register(2, SECRET, 7, "10.1.0.0/16", "2001:db8:f::1");
    router.notified(2);
    let show = |words: &[&str]| {
        let all = ["show", "lisp"].iter().chain(words).copied();
        server.command(&all.collect::<Vec<_>>())
    };
    let table = text(&show(&["registrations"]));
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let (first, second) = (&lines[1], &lines[2]);
    assert_eq!(
        first[..5],
        ["0", "2001:db8:1:2::/64", "berlin", "127.0.209.2", "in"]
    );
    assert_eq!(first[7..], ["yes", "no", "192.0.2.1", "1", "100", "yes"]);
    assert_eq!(second[..2], ["7", "10.1.0.0/16"]);
    assert_eq!(lines[4], ["EIDs", "registered:", "2"]);
    for (words, eids) in [
        (&["2001:db8::/32"][..], &["2001:db8:1:2::/64"][..]),
        (&["2001:db8:1:2::9/128"], &["2001:db8:1:2::/64"]),
        (&["2001:db8:2::/48"], &[]),
        (&["--instance", "7"], &["10.1.0.0/16"]),
        (&["--site", "berlin"], &["2001:db8:1:2::/64", "10.1.0.0/16"]),
        (&["--site", "paris"], &[]),
    ] {
        let all = ["registrations", "--json"].iter().chain(words).copied();
        let shown = text(&show(&all.collect::<Vec<_>>()));
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let rows = shown["registered"]["registrations"].as_array().unwrap();
        let found: Vec<&str> = rows
            .iter()
            .map(|row| row["eid"].as_str().unwrap())
            .collect();
        assert_eq!(found, eids, "{words:?}");
    }
    let shown = text(&show(&["statistics", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["counters"]["map-server"]["registers"], 2);
    assert_eq!(shown["counters"]["map-server"]["drop_auth_mac"], 0);
    assert_eq!(shown["counters"]["sockets"]["unsent"], 0);
    let instance = text(&server.command(&["show", "instance"]));
    assert!(instance.contains("Map-Server"), "{instance}");
    // What a Map-Server does not have is said, with what it has.
    for words in [
        &["show", "lisp", "map-cache"][..],
        &["show", "ports"],
        &["map", "show"],
        &["trace", "1"],
    ] {
        let refused = server.command(words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(errors.contains("this is a Map-Server"), "{errors}");
        assert!(errors.contains("show lisp registrations"), "{errors}");
    }
    let wrong = show(&["rlocs", "2001:db8::/32"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_reload_over_the_admin_socket_says_what_changes() {
    let server = Server::start(210);
    configuration(210, server.folder.path(), "{ eid = \"10.2.0.0/16\" }");
    let reloaded = text(&server.command(&["reload"]));
    assert!(
        reloaded.ends_with("applied\n  site berlin changes\n"),
        "{reloaded}"
    );
    configuration(210, server.folder.path(), "{ eid = \"10.1.2.3/16\" }");
    let refused = server.command(&["reload"]);
    assert_eq!(refused.status.code(), Some(3));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(errors.contains("10.1.2.3/16"), "{errors}");
    let shown = text(&server.command(&["show", "instance", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["configurations_applied"], 2);
    assert_eq!(shown["configurations_refused"], 1);
}

/// Over an end without warning, and over an orderly one.
#[test]
fn registrations_are_kept_over_restarts() {
    let mut server = Server::start(211);
    let router = server.router();
    router.register(1, SECRET, 0, "2001:db8:1:2::/64", "192.0.2.1");
    router.notified(1);
    let saved = server.folder.path().join("registrations");
    for _ in 0..200 {
        if saved.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    server.signal(Signal::KILL);
    server.child.wait().unwrap();
    let folder = std::mem::replace(&mut server.folder, tempfile::tempdir().unwrap());
    let server = Server::start_in(211, folder);
    assert!(text(&server.lig(&["2001:db8:1:2::9"])).contains("192.0.2.1"));
    // What is new within the pause between two files is written at the end.
    router.register(2, SECRET, 7, "10.1.0.0/16", "192.0.2.7");
    router.notified(2);
    let (folder, _) = server.stop();
    let server = Server::start_in(211, folder);
    assert!(text(&server.lig(&["2001:db8:1:2::9"])).contains("192.0.2.1"));
    assert!(text(&server.lig(&["10.1.2.3", "--instance", "7"])).contains("192.0.2.7"));
    // Damaged, it is not used, and nothing else suffers.
    let (folder, _) = server.stop();
    fs::write(
        folder.path().join("registrations"),
        "sextant registrations 1\n...",
    )
    .unwrap();
    let server = Server::start_in(211, folder);
    assert!(text(&server.lig(&["2001:db8:1:2::9"])).contains("negative"));
    router.register(3, SECRET, 0, "2001:db8:1:2::/64", "192.0.2.1");
    router.notified(3);
}

#[test]
fn exit_codes_say_why() {
    let server = Server::start(206);
    let second = sextant(&["mapserver", "-c"])
        .arg(server.folder.path().join("mapserver.toml"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(4), "the address is taken");
    let folder = tempfile::tempdir().unwrap();
    let path = configuration(207, folder.path(), "");
    let wrong = sextant(&["mapserver", "-c"]).arg(&path).output().unwrap();
    assert_eq!(wrong.status.code(), Some(3));
    let path = configuration(207, folder.path(), PREFIXES);
    fs::write(folder.path().join("nonces"), "something else").unwrap();
    let wrong = sextant(&["mapserver", "-c"]).arg(&path).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    let errors = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        errors.contains("nonces:1: not a line of saved nonces"),
        "{errors}"
    );
    // Nobody is there.
    let nobody = sextant(&[
        "lig",
        "10.1.2.3",
        "--to",
        "127.0.208.1",
        "--timeout",
        "1",
        "--count",
        "1",
    ])
    .output()
    .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    let errors = String::from_utf8(nobody.stderr).unwrap();
    assert_eq!(
        errors,
        "sextant: no answer from 127.0.208.1 for 10.1.2.3 after 1 requests\n"
    );
}
