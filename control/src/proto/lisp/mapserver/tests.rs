//! A Map-Server asked and told by routers that are made of the codec.

mod convergence;
mod listing;
mod policy;
mod registers;
mod requests;
mod saved;
mod transitions;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::*;
use crate::proto::lisp::wire::{
    Encapsulated, Identity, Message, Notify, Record, Register, RegisterFlags, Registration, Reply,
    Request, auth, emit, parse,
};
use crate::proto::lisp::{InstanceId, Locator};

const SERVER: &str = "[2001:db8:5::1]:4342";
const ETR_A: &str = "[2001:db8:a::1]:4342";
const ETR_B: &str = "[2001:db8:b::1]:4342";
const ITR: &str = "[2001:db8:c::1]:50000";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(instance: u32, eid: &str) -> EidKey {
    EidKey {
        instance: InstanceId::new(instance).unwrap(),
        eid: eid.parse().unwrap(),
    }
}

fn allowed(instance: u32, eid: &str, more_specifics: bool) -> Allowed {
    Allowed::new(key(instance, eid), more_specifics)
}

fn secret(name: &str) -> Secret {
    Secret::new(name.as_bytes())
}

/// Two sites: one with prefixes of both families, exact and not, one with a hole in the other's.
fn settings() -> Settings {
    let mut first = Site::new("first");
    first.keys = vec![(1, secret("first")), (2, secret("first two"))];
    first.algorithms = Algorithm::ALL.to_vec();
    first.prefixes = vec![
        allowed(0, "2001:db8:100::/40", true),
        allowed(0, "10.1.0.0/16", false),
        allowed(7, "10.1.0.0/16", true),
    ];
    let mut second = Site::new("second");
    second.keys = vec![(1, secret("second"))];
    second.prefixes = vec![allowed(0, "2001:db8:120::/48", true)];
    Settings {
        sites: vec![first, second],
        ..Settings::default()
    }
}

/// What a router registers with.
#[derive(Clone)]
struct Router {
    from: SocketAddr,
    secret: Secret,
    key_id: u8,
    algorithm: Algorithm,
    mac_len: usize,
    identity: Option<Identity>,
    flags: RegisterFlags,
    nonce: u64,
}

impl Router {
    fn new(from: &str, secret_name: &str) -> Self {
        Self {
            from: from.parse().unwrap(),
            secret: secret(secret_name),
            key_id: 1,
            algorithm: Algorithm::HmacSha256,
            mac_len: 16,
            identity: None,
            flags: RegisterFlags {
                proxy_reply: true,
                ..RegisterFlags::default()
            },
            nonce: 100,
        }
    }

    fn with_id(mut self, xtr_id: u128) -> Self {
        self.identity = Some(Identity { xtr_id, site_id: 1 });
        self
    }

    /// A Map-Register with the next nonce.
    fn message(&mut self, records: &[Record]) -> Vec<u8> {
        self.nonce += 1;
        let mut bytes = emit(&Message::Register(Register {
            flags: self.flags,
            body: Registration {
                nonce: self.nonce,
                key_id: self.key_id,
                algorithm_id: self.algorithm.id(),
                mac: vec![0; self.mac_len],
                records: records.to_vec(),
                identity: self.identity,
            },
        }));
        auth::seal(&mut bytes, &self.secret).unwrap();
        bytes
    }
}

fn record(key: EidKey, rlocs: &[&str]) -> Record {
    let locators = rlocs.iter().map(|rloc| LocatorRecord {
        is_local: true,
        ..LocatorRecord::new(Locator::new(ip(rloc)))
    });
    Record {
        is_authoritative: true,
        locators: locators.collect(),
        ..Record::negative(key, wire::Act::default(), 1440)
    }
}

struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let machine = Machine::new(now, settings, fastrand::Rng::with_seed(1));
        Self { machine, now }
    }

    /// What is sent because of a message.
    fn give(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let to = SERVER.parse().unwrap();
        self.machine.handle_input(self.now, from, to, bytes);
        self.sent()
    }

    fn sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            if let Output::Send { to, bytes, .. } = output {
                assert!(bytes.len() <= wire::message_max(to.is_ipv4()));
                sent.push((to, bytes));
            }
        }
        sent
    }

    fn register(&mut self, router: &mut Router, records: &[Record]) -> Vec<(SocketAddr, Vec<u8>)> {
        let bytes = router.message(records);
        self.give(router.from, &bytes)
    }

    /// The answer to a question for this EID, asked in a datagram in a datagram.
    fn ask(&mut self, instance: u32, eid: &str) -> Vec<Record> {
        let sent = self.give(ITR.parse().unwrap(), &question(instance, eid));
        let [(to, bytes)] = sent.as_slice() else {
            panic!("one answer, not {sent:?}")
        };
        assert_eq!(to.to_string(), "[2001:db8:c::1]:1234");
        reply(bytes).records
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            self.machine.handle_timeout(due);
            assert!(self.machine.poll_timeout().is_none_or(|next| next > due));
        }
        self.now = end;
    }

    fn count(&self, counter: Counter) -> u64 {
        self.machine.counters().count(counter)
    }
}

fn reply(bytes: &[u8]) -> Reply {
    match parse(bytes) {
        Ok(Message::Reply(reply)) => {
            assert_eq!(reply.nonce, 77);
            reply
        }
        other => panic!("a Map-Reply, not {other:?}"),
    }
}

fn request(instance: u32, eid: &str) -> Request {
    let mut key = key(instance, "::/0");
    key.eid = eid.parse().unwrap_or_else(|_| IpNetOf(eid).into());
    Request::new(77, vec![ip("2001:db8:c::1"), ip("192.0.2.77")], key)
}

/// An address as the prefix that holds nothing else.
struct IpNetOf<'a>(&'a str);

impl From<IpNetOf<'_>> for ipnet::IpNet {
    fn from(text: IpNetOf<'_>) -> Self {
        ip(text.0).into()
    }
}

fn question(instance: u32, eid: &str) -> Vec<u8> {
    let request = request(instance, eid);
    let [asked] = request.asked.as_slice() else {
        panic!("one EID")
    };
    let destination = asked.key.eid.network();
    let source = if destination.is_ipv4() {
        "192.0.2.77:1234"
    } else {
        "[2001:db8:c::1]:1234"
    };
    emit(&Message::Encapsulated(Encapsulated {
        ddt: false,
        source: source.parse().unwrap(),
        destination: SocketAddr::new(destination, 4342),
        request,
    }))
}
