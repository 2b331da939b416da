//! Every LISP control message there is, shown to tshark, which must read the fields that were meant (RFC 9301 5).

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use control::proto::lisp::mapserver::{self, Allowed, Machine, Site};
use control::proto::lisp::wire::auth::{self, Algorithm, Secret};
use control::proto::lisp::wire::{
    Act, Asked, CONTROL_PORT, EidAddress, Encapsulated, Identity, LocatorRecord, Message, Notify,
    Record, Register, RegisterFlags, Registration, Reply, ReplyFlags, Request, RequestFlags, emit,
};
use control::proto::lisp::xtr::{self, MapServer, Xtr};
use control::proto::lisp::{Action, EidKey, InstanceId, Locator};
use dataplane::testing::builder::Packet;
use dataplane::testing::pcap;

const YES: &str = "1";
const NO: &str = "0";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(instance: u32, eid: &str) -> EidKey {
    EidKey {
        instance: InstanceId::new(instance).unwrap(),
        eid: eid.parse().unwrap(),
    }
}

fn record(key: EidKey, ttl_minutes: u32) -> Record {
    let locator = |rloc: &str, priority, weight| {
        let locator = Locator {
            rloc: ip(rloc),
            priority,
            weight,
            up: true,
        };
        LocatorRecord {
            is_local: true,
            ..LocatorRecord::new(locator)
        }
    };
    Record {
        is_authoritative: true,
        map_version: 5,
        locators: vec![locator("192.0.2.1", 1, 60), locator("2001:db8:f::2", 2, 40)],
        ..Record::negative(key, Action::NoAction.into(), ttl_minutes)
    }
}

fn registration(algorithm_id: u8, mac_len: usize, identity: Option<Identity>) -> Registration {
    Registration {
        nonce: 0x1122_3344_5566_7788,
        key_id: 0,
        algorithm_id,
        mac: vec![0; mac_len],
        records: vec![
            record(key(0, "2001:db8:1::/48"), 1440),
            record(key(7, "10.1.0.0/16"), 3),
        ],
        identity,
    }
}

fn sealed(message: &Message) -> Vec<u8> {
    let mut bytes = emit(message);
    auth::seal(&mut bytes, &Secret::new(b"secret")).unwrap();
    bytes
}

/// A message and the fields tshark must find in it: type, nonce, EID masks, TTLs, instance ids, priorities, weights,
/// xTR-ID.
type Shown = (Vec<u8>, String);

fn gallery() -> Vec<Shown> {
    let who = Some(Identity {
        xtr_id: 0x0102,
        site_id: 3,
    });
    let request = Request {
        source: Some(EidAddress {
            instance: InstanceId::new(7).unwrap(),
            address: ip("10.0.0.1"),
        }),
        flags: RequestFlags {
            pitr: true,
            ..RequestFlags::default()
        },
        ..Request::new(
            0xaa,
            vec![ip("192.0.2.9"), ip("2001:db8:f::9")],
            key(7, "10.1.2.3/32"),
        )
    };
    let probe = Request {
        flags: RequestFlags {
            probe: true,
            ..RequestFlags::default()
        },
        asked: vec![Asked {
            key: key(0, "2001:db8:1::/48"),
            subscribe: false,
        }],
        ..Request::new(0xbb, vec![ip("2001:db8:f::9")], key(0, "::/0"))
    };
    let solicit = Request {
        flags: RequestFlags {
            solicit: true,
            smr_invoked: true,
            authoritative: true,
            ..RequestFlags::default()
        },
        own: Some(record(key(0, "2001:db8:2::/48"), 60)),
        ..Request::new(0xcc, vec![ip("192.0.2.9")], key(0, "2001:db8:1::1/128"))
    };
    let reply = Reply {
        flags: ReplyFlags {
            probe: true,
            echo_nonce: false,
        },
        nonce: 0xdd,
        records: vec![
            record(key(0, "2001:db8:1::/48"), 1440),
            Record::negative(key(7, "10.128.0.0/9"), Action::Native.into(), 15),
        ],
    };
    let register = |algorithm, mac_len, identity| {
        sealed(&Message::Register(Register {
            flags: RegisterFlags {
                proxy_reply: true,
                want_notify: true,
                ..RegisterFlags::default()
            },
            body: registration(algorithm, mac_len, identity),
        }))
    };
    let notify = |identity| {
        sealed(&Message::Notify(Notify {
            body: registration(2, 16, identity),
        }))
    };
    let ack = sealed(&Message::NotifyAck(Notify {
        body: registration(2, 32, None),
    }));
    let encapsulated = |source: &str, destination: &str, request: Request| {
        emit(&Message::Encapsulated(Encapsulated {
            ddt: false,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            request,
        }))
    };
    let forwarded = Encapsulated::emit_forwarded(&encapsulated(
        "192.0.2.9:4342",
        "10.1.2.3:4342",
        request.clone(),
    ));
    const WHO: &str = "00000000000000000000000000000102";
    const BODY: &str = "|0x1122334455667788|48,16|1440,3|7|1,2,1,2|60,40,60,40|";
    vec![
        (
            emit(&Message::Request(request.clone())),
            "1|0x00000000000000aa|||7,7|||".into(),
        ),
        (
            emit(&Message::Request(probe)),
            "1|0x00000000000000bb||||||".into(),
        ),
        (
            emit(&Message::Request(solicit)),
            "1|0x00000000000000cc|48|60||1,2|60,40|".into(),
        ),
        (
            emit(&Message::Reply(reply)),
            "2|0x00000000000000dd|48,9|1440,15|7|1,2|60,40|".into(),
        ),
        (register(1, 12, None), format!("3{BODY}")),
        (register(1, 20, who), format!("3{BODY}{WHO}")),
        (register(2, 16, None), format!("3{BODY}")),
        (register(2, 32, who), format!("3{BODY}{WHO}")),
        (register(3, 16, who), format!("3{BODY}{WHO}")),
        (notify(None), format!("4{BODY}")),
        (notify(who), format!("4{BODY}{WHO}")),
        // tshark knows a Map-Notify-Ack by name only: its body is shown as that of a Map-Notify.
        (ack.clone(), "5|||||||".into()),
        (as_notify(ack), format!("4{BODY}")),
        (
            encapsulated("192.0.2.9:4342", "10.1.2.3:4342", request.clone()),
            "8,1|0x00000000000000aa|||7,7|||".into(),
        ),
        (forwarded, "8,1|0x00000000000000aa|||7,7|||".into()),
        (
            encapsulated("[2001:db8::9]:5000", "[2001:db8::1]:4342", request),
            "8,1|0x00000000000000aa|||7,7|||".into(),
        ),
    ]
}

/// The type of a Map-Notify in place of that of a Map-Notify-Ack.
fn as_notify(mut ack: Vec<u8>) -> Vec<u8> {
    ack[0] = 0x40;
    ack
}

/// What tshark reads in these messages: a line for each, of these fields. `None`: there is no tshark.
fn read_by_tshark(messages: &[Vec<u8>], fields: &[&str]) -> Option<String> {
    let (source, destination) = ("2001:db8:f::9", "2001:db8:f::1");
    let frames = messages.iter().map(|message| {
        Packet::anywhere()
            .ipv6(source.parse().unwrap(), destination.parse().unwrap())
            .udp(CONTROL_PORT, CONTROL_PORT, message)
            .build()
    });
    let frames: Vec<Vec<u8>> = frames.collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sent.pcap");
    pcap::write(&path, &frames).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&path).args(["-T", "fields"]);
    tshark.args(["-E", "separator=|", "-E", "occurrence=a"]);
    tshark.args([
        "-o",
        "udp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]);
    for field in fields.iter().chain(&COMPLAINTS) {
        tshark.args(["-e", field]);
    }
    let output = match tshark.output() {
        Ok(output) => output,
        Err(error) => {
            // Not `eprintln`, which the test harness would swallow.
            let text = format!("\nSKIPPED: messages are not shown to tshark: {error}\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {errors}");
    let read = String::from_utf8(output.stdout).unwrap();
    // Flags are numbers to some of its versions and words to others.
    Some(read.replace("True", YES).replace("False", NO))
}

/// Fields that are empty if tshark has nothing to say against a message.
const COMPLAINTS: [&str; 3] = ["_ws.expert.message", "_ws.malformed", "lisp.undecoded"];

#[test]
fn tshark_reads_every_message_without_complaint() {
    let gallery = gallery();
    let messages: Vec<Vec<u8>> = gallery.iter().map(|(message, _)| message.clone()).collect();
    let fields = [
        "lisp.type",
        "lisp.nonce",
        "lisp.mapping.eid.masklen",
        "lisp.mapping.ttl",
        "lisp.lcaf.iid",
        "lisp.loc.priority",
        "lisp.loc.weight",
        "lisp.xtrid",
    ];
    let Some(read) = read_by_tshark(&messages, &fields) else {
        return;
    };
    let expected: String = gallery
        .iter()
        .map(|(_, fields)| format!("{fields}|||\n"))
        .collect();
    assert_eq!(read, expected);
}

/// Every action of a negative answer, for EIDs of both families in an instance of its own.
#[test]
fn tshark_reads_every_action() {
    let records = (0..8).map(|act| {
        let eid = ["10.128.0.0/9", "2001:db8:8000::/33"][usize::from(act % 2)];
        Record::negative(key(7, eid), Act::new(act).unwrap(), 15)
    });
    let negative = emit(&Message::Reply(Reply {
        flags: ReplyFlags::default(),
        nonce: 0xee,
        records: records.collect(),
    }));
    let fields = [
        "lisp.mapping.act",
        "lisp.mapping.eid.masklen",
        "lisp.lcaf.iid",
        "lisp.lcaf.iid.ipv4",
        "lisp.lcaf.iid.ipv6",
    ];
    let Some(read) = read_by_tshark(&[negative], &fields) else {
        return;
    };
    let v4 = ["10.128.0.0"; 4].join(",");
    let v6 = ["2001:db8:8000::"; 4].join(",");
    let rest = format!("9,33,9,33,9,33,9,33|7,7,7,7,7,7,7,7|{v4}|{v6}|||\n");
    assert_eq!(read, format!("0,1,2,3,4,5,6,7|{rest}"));
}

/// Two tunnel routers and a Map-Server, and every message they send.
struct Talk {
    now: Instant,
    routers: [Xtr; 2],
    server: Machine,
    sent: Vec<Vec<u8>>,
}

const ROUTERS: [&str; 2] = ["2001:db8:ffff::1", "2001:db8:ffff::2"];
const SERVER: &str = "2001:db8:ffff::9";

impl Talk {
    fn new() -> Self {
        let now = Instant::now();
        let mut site = Site::new("both");
        site.keys = vec![(1, Secret::new(b"secret"))];
        site.prefixes = ["2001:db8:a::/48", "10.1.0.0/16"]
            .map(|eid| Allowed::new(key(7, eid), true))
            .into();
        let settings = mapserver::Settings {
            sites: vec![site],
            ..mapserver::Settings::default()
        };
        let mut talk = Self {
            now,
            routers: [1, 2].map(|seed| Xtr::new(now, &[seed; 32], 1000)),
            server: Machine::new(now, settings, fastrand::Rng::with_seed(1)),
            sent: Vec::new(),
        };
        talk.configure(0, &["2001:db8:a::/48", "10.1.0.0/16", "10.1.1.1/32"], true);
        talk.configure(1, &["2001:db8:a:1::/64"], false);
        talk
    }

    fn configure(&mut self, router: usize, eids: &[&str], proxy_reply: bool) {
        let settings = xtr::Settings {
            map_resolvers: vec![ip(SERVER)],
            is_etr: true,
            eids: eids.iter().map(|eid| key(7, eid)).collect(),
            rlocs: vec![Locator::new(ip(ROUTERS[router]))],
            map_servers: vec![MapServer {
                address: ip(SERVER),
                key: Secret::new(b"secret"),
                key_id: 1,
                algorithm: Algorithm::HmacSha256,
                proxy_reply,
                merge: false,
            }],
            identity: Some(Identity {
                xtr_id: router as u128 + 1,
                site_id: 1,
            }),
            ..xtr::Settings::default()
        };
        self.routers[router].set_settings(self.now, settings);
        self.run(1);
    }

    fn miss(&mut self, router: usize, eid: &str) {
        let eid = EidAddress {
            instance: InstanceId::new(7).unwrap(),
            address: ip(eid),
        };
        self.routers[router].miss(self.now, eid, None);
        self.run(1);
    }

    /// Messages go back and forth until there are none, once each so many seconds.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            loop {
                let before = self.sent.len();
                for (router, address) in ROUTERS.into_iter().enumerate() {
                    self.routers[router].handle_timeout(self.now);
                    while let Some(output) = self.routers[router].poll_output() {
                        if let xtr::Output::Send(datagram) = output {
                            let from = SocketAddr::new(ip(address), CONTROL_PORT);
                            self.deliver(from, datagram.destination, datagram.payload);
                        }
                    }
                }
                self.server.handle_timeout(self.now);
                while let Some(output) = self.server.poll_output() {
                    if let mapserver::Output::Send { to, bytes, .. } = output {
                        let from = SocketAddr::new(ip(SERVER), CONTROL_PORT);
                        self.deliver(from, to, bytes);
                    }
                }
                if self.sent.len() == before {
                    break;
                }
            }
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if to.ip() == ip(SERVER) {
            self.server.handle_input(self.now, from, to, &bytes);
        } else if let Some(at) = ROUTERS.iter().position(|router| ip(router) == to.ip()) {
            self.routers[at].handle_input(self.now, from, to.ip(), &bytes);
        }
        self.sent.push(bytes);
    }
}

/// What the machines send, in place of what a test thinks they do: a registration, questions that are answered, sent on and
/// denied, and a host that moves.
#[test]
fn tshark_reads_what_the_machines_send_without_complaint() {
    let mut talk = Talk::new();
    talk.miss(1, "10.1.2.3");
    talk.miss(0, "2001:db8:a:1::7");
    talk.miss(0, "2001:db8:b::7");
    talk.miss(1, "10.1.1.1");
    // The host is at the other router now, and the first is told.
    talk.configure(1, &["2001:db8:a:1::/64", "10.1.1.1/32"], false);
    talk.configure(0, &["2001:db8:a::/48", "10.1.0.0/16"], true);
    talk.run(70);
    let Some(read) = read_by_tshark(&talk.sent, &["lisp.type"]) else {
        return;
    };
    let mut kinds = BTreeSet::new();
    for (line, message) in read.lines().zip(&talk.sent) {
        let (kind, complaint) = line.split_once('|').unwrap();
        assert_eq!(complaint, "||", "{message:02x?}");
        kinds.insert(kind);
    }
    assert_eq!(read.lines().count(), talk.sent.len());
    assert_eq!(kinds, BTreeSet::from(["2", "3", "4", "5", "8,1"]));
}

/// B-01, B-02, P-05: a probe as the machine sends it, and its answer.
#[test]
fn tshark_reads_a_probe_and_its_answer() {
    let now = Instant::now();
    let (near, far) = (ip("2001:db8:f::1"), ip("2001:db8:f::9"));
    let router = |own: IpAddr, eid: &str| {
        let mut xtr = Xtr::new(now, &[7; 32], 0);
        let settings = xtr::Settings {
            is_etr: true,
            eids: vec![key(7, eid)],
            rlocs: vec![Locator::new(own), Locator::new(ip("192.0.2.1"))],
            ..xtr::Settings::default()
        };
        xtr.set_settings(now, settings);
        xtr
    };
    let mut asks = router(near, "10.1.0.0/16");
    let mut answers = router(far, "10.2.0.0/16");
    asks.watch(now, far, vec![key(7, "10.2.0.0/16")], true);
    assert!(asks.probe(now, far));
    let sent = |xtr: &mut Xtr| match xtr.poll_output() {
        Some(xtr::Output::Send(datagram)) => datagram,
        other => panic!("{other:?}"),
    };
    let probe = sent(&mut asks);
    answers.handle_input(now, probe.source, far, &probe.payload);
    let answer = sent(&mut answers);
    asks.handle_input(now, answer.source, near, &answer.payload);
    assert_eq!(asks.rloc_state(far).map(|state| state.answered), Some(1));
    let messages = [probe, answer].map(|datagram| datagram.payload);
    let fields = [
        "lisp.mreq.flags.probe",
        "lisp.mreq.srceid.afi",
        "lisp.mreq.itr_rloc_ipv6",
        "lisp.mrep.flags.probe",
        "lisp.mapping.auth",
        "lisp.loc.flags.probe",
        "lisp.mapping.eid.masklen",
    ];
    let Some(read) = read_by_tshark(&messages, &fields) else {
        return;
    };
    // Locators are in their order: the probed one is behind the IPv4 one.
    let expected = format!("{YES}|0|2001:db8:f::1|||||||\n|||{YES}|{YES}|{NO},{YES}|16|||\n");
    assert_eq!(read, expected);
}
