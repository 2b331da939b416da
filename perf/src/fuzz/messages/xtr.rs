//! The tunnel router: what it learns was asked for, what it takes for registered was notified with its secret, and what it
//! sends is well formed, its own, and no more than a little for each message.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use control::proto::lisp::wire::auth::{self, Acceptance, Algorithm, Secret};
use control::proto::lisp::wire::{
    CONTROL_PORT, Identity, Message, Notify, Registration, Reply, ReplyFlags, emit, message_max,
    parse,
};
use control::proto::lisp::xtr::{Datagram, MapServer, Output, Settings, Xtr};
use control::proto::lisp::{EidKey, InstanceId, Locator, Mapping};

use super::script::Script;
use super::{Reached, is_authentic};

/// Kinds of steps.
pub const STEPS: u8 = 12;

/// What a run must have reached.
#[cfg(test)]
pub const MATTERS: &[&str] = &[
    "sent_map_request",
    "sent_map_register",
    "sent_map_reply",
    "sent_map_notify_ack",
    "learned",
    "learned_negative",
    "mapping_withdrawn",
    "mapping_expired",
    "record_own_eid",
    "record_outside",
    "reply_unknown_nonce",
    "reply_other_prefix",
    "request_unanswered",
    "registered",
    "notify_repeated",
    "notified_unasked",
    "notify_unknown_server",
    "notify_other_key",
    "auth_mac",
    "request_no_rloc",
    "request_not_own",
    "request_not_etr",
    "register_no_source",
    "truncated",
];

/// Timers of one pause that are kept; what is due beyond comes late.
const TIMERS_MAX: usize = 24;
/// Datagrams a message may be the reason of.
const SENT_MAX: usize = 4;

const OWN: [&str; 2] = ["192.0.2.1", "2001:db8:ffff::1"];
const SERVERS: [&str; 2] = ["192.0.2.9", "2001:db8:ffff::9"];
/// Locators of other sites.
const PEERS: [&str; 2] = ["192.0.2.77", "2001:db8:ffff::77"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a constant of this file")
}

fn key(text: &str, instance: u32) -> EidKey {
    EidKey {
        instance: InstanceId::new(instance).expect("a small number"),
        eid: text.parse().expect("a constant of this file"),
    }
}

/// Who made a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause<'a> {
    Message(&'a [u8]),
    Other,
}

struct World {
    xtr: Xtr,
    now: Instant,
    secret: Secret,
    settings: Settings,
    /// Nonces of Map-Requests that were sent, and what they ask for.
    asked: BTreeMap<u64, Option<EidKey>>,
    registers: Vec<Registration>,
    last_nonce: u64,
    /// What somebody who knows the secret made.
    authentic: HashSet<Vec<u8>>,
    known: BTreeSet<EidKey>,
}

pub fn check(input: &[u8]) -> Reached {
    let mut script = Script::new(input);
    let mut world = World::new();
    world.settle(Cause::Other);
    while !script.is_over() {
        world.step(&mut script);
    }
    world.xtr.counters().iter().collect()
}

impl World {
    fn new() -> Self {
        let secret = Secret::new(b"correct horse");
        let server = |address: &str, algorithm| MapServer {
            address: ip(address),
            key: secret.clone(),
            key_id: 1,
            algorithm,
            proxy_reply: false,
            merge: false,
        };
        let [v4, v6] = SERVERS;
        let settings = Settings {
            map_resolvers: SERVERS.into_iter().map(ip).collect(),
            is_etr: true,
            eids: vec![
                key("10.1.0.0/16", 0),
                key("10.1.0.0/24", 0),
                key("2001:db8:a::/48", 0),
                key("2001:db8:a::/48", 7),
            ],
            rlocs: OWN.into_iter().map(|rloc| Locator::new(ip(rloc))).collect(),
            map_servers: vec![
                server(v4, Algorithm::HmacSha256),
                server(v6, Algorithm::HkdfSha256),
            ],
            identity: Some(Identity {
                xtr_id: 7,
                site_id: 1,
            }),
            ..Settings::default()
        };
        let now = Instant::now();
        let mut xtr = Xtr::new(now, &[7; 32], 1000);
        xtr.set_settings(now, settings.clone());
        Self {
            xtr,
            now,
            secret,
            settings,
            asked: BTreeMap::new(),
            registers: Vec::new(),
            last_nonce: 1000,
            authentic: HashSet::new(),
            known: BTreeSet::new(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.u8() % STEPS {
            0 => {
                let (bytes, from) = (script.raw(), script.from());
                self.receive(from, &bytes);
            }
            1 | 2 => self.answer(script),
            3 => self.confirm(script),
            4 => self.tell(script),
            5 | 6 => {
                let mut bytes = emit(&script.request(&self.settings.eids));
                script.damage(&mut bytes);
                let from = script.from();
                self.receive(from, &bytes);
            }
            7 | 8 => {
                let (eid, source) = (script.eid(), script.eid());
                let source = script.is().then_some(source.address);
                self.xtr.miss(self.now, eid, source);
                self.settle(Cause::Other);
            }
            9 => {
                let key = self.some_known(script);
                if script.is() {
                    let locators = vec![Locator::new(ip(PEERS[script.below(2)]))];
                    let version = 0;
                    let mapping = Mapping::Locators { locators, version };
                    self.xtr.note_used(self.now, key, &mapping);
                } else {
                    self.xtr.forget(key);
                    self.known.remove(&key);
                }
                self.settle(Cause::Other);
            }
            10 => self.pass(script.pause()),
            _ => self.reconfigure(script),
        }
    }

    fn some_known(&self, script: &mut Script<'_>) -> EidKey {
        let at = script.below(self.known.len());
        let known = self.known.iter().nth(at).copied();
        known.unwrap_or_else(|| script.key())
    }

    /// An answer to something that was asked, most often.
    fn answer(&mut self, script: &mut Script<'_>) {
        let at = script.below(self.asked.len());
        let asked = self.asked.iter().nth(at);
        let (mut nonce, key) = asked.map_or((0, None), |(nonce, key)| (*nonce, *key));
        let mut key = key.unwrap_or_else(|| script.key());
        match script.u8() {
            0..16 => nonce = script.u64(),
            16..32 => key = script.key(),
            _ => {}
        }
        let flags = ReplyFlags {
            probe: script.u8() < 16,
            echo_nonce: false,
        };
        let reply = Reply {
            flags,
            nonce,
            records: script.records(key),
        };
        let mut bytes = emit(&Message::Reply(reply));
        script.damage(&mut bytes);
        let from = script.from();
        self.receive(from, &bytes);
    }

    /// The Map-Notify of a registration.
    fn confirm(&mut self, script: &mut Script<'_>) {
        let at = self.registers.len().saturating_sub(1 + script.below(4));
        if let Some(body) = self.registers.get(at).cloned() {
            self.notify(script, body);
        }
    }

    /// A Map-Notify nobody asked for.
    fn tell(&mut self, script: &mut Script<'_>) {
        let algorithm = Algorithm::ALL[script.below(3)];
        let length = [algorithm.mac_len(), algorithm.full_mac_len()][script.below(2)];
        let key = self.settings.eids[script.below(self.settings.eids.len())];
        let body = Registration {
            nonce: script.u64(),
            key_id: 1,
            algorithm_id: algorithm.id(),
            mac: vec![0; length],
            records: script.records(key),
            identity: None,
        };
        self.notify(script, body);
    }

    fn notify(&mut self, script: &mut Script<'_>, mut body: Registration) {
        body.mac.fill(0);
        let mut bytes = emit(&Message::Notify(Notify { body }));
        let wrong = Secret::new(b"wrong horse");
        let is_authentic = script.u8() < 240;
        let secret = if is_authentic { &self.secret } else { &wrong };
        auth::seal(&mut bytes, secret).expect("it has the room");
        if is_authentic {
            self.authentic.insert(bytes.clone());
        }
        script.damage(&mut bytes);
        let from = match script.u8() {
            0..16 => script.from(),
            other => SocketAddr::new(ip(SERVERS[usize::from(other) % 2]), CONTROL_PORT),
        };
        self.receive(from, &bytes);
    }

    fn receive(&mut self, from: SocketAddr, bytes: &[u8]) {
        // To an own RLOC, or it would not have come here.
        let to = ip(OWN[usize::from(from.is_ipv6())]);
        let before = self.notified();
        self.xtr.handle_input(self.now, from, to, bytes);
        if self.notified() != before {
            assert!(
                is_authentic(&self.authentic, bytes),
                "registered by a forged message"
            );
        }
        self.settle(Cause::Message(bytes));
    }

    fn notified(&self) -> Vec<Option<Instant>> {
        let servers = self.xtr.servers(self.now);
        servers.map(|server| server.notified).collect()
    }

    /// Time passes, from timer to timer.
    fn pass(&mut self, pause: Duration) {
        let end = self.now + pause;
        for _ in 0..TIMERS_MAX {
            match self.xtr.poll_timeout() {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.xtr.handle_timeout(self.now);
                    self.settle(Cause::Other);
                }
                _ => break,
            }
        }
        self.now = end;
        self.xtr.handle_timeout(self.now);
        self.settle(Cause::Other);
        let due = self.xtr.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now),
            "something is due and not done"
        );
    }

    fn reconfigure(&mut self, script: &mut Script<'_>) {
        let mut settings = self.settings.clone();
        for rloc in &mut settings.rlocs {
            rloc.up = script.u8() >= 64;
            rloc.weight = script.u8() % 101;
        }
        settings.is_etr = script.u8() >= 32;
        settings.is_proxy = script.is();
        settings.eids.truncate(1 + script.below(4));
        if script.u8() < 32 {
            settings.map_resolvers.clear();
        }
        self.xtr.set_settings(self.now, settings);
        self.settle(Cause::Other);
    }

    /// What came of it.
    fn settle(&mut self, cause: Cause<'_>) {
        let mut sent = 0;
        while let Some(output) = self.xtr.poll_output() {
            match output {
                Output::Send(datagram) => {
                    sent += 1;
                    self.look_at(cause, &datagram);
                }
                Output::Learned { key, expires, .. } => {
                    assert!(self.was_asked(cause), "learned {key} without having asked");
                    assert!(expires > self.now, "{key} ends before it begins");
                    let own = &self.xtr.settings().eids;
                    assert!(!own.contains(&key), "{key} is our own");
                    self.known.insert(key);
                }
                Output::Forgotten(key) => {
                    assert!(self.known.remove(&key), "{key} was not known");
                }
                Output::KeepNonce(nonce) => {
                    assert!(nonce > self.last_nonce, "kept after it was used");
                }
                Output::Event(_) => {}
                other @ (Output::Liveness { .. }
                | Output::HostHere { .. }
                | Output::HostGone(_)
                | Output::AskHost { .. }) => {
                    panic!("{other:?} where nobody is probed and no host moves")
                }
            }
        }
        if matches!(cause, Cause::Message(_)) {
            assert!(sent <= SENT_MAX, "{sent} datagrams for one");
        }
        assert_eq!(self.xtr.learned(), self.known.len());
    }

    fn was_asked(&self, cause: Cause<'_>) -> bool {
        let Cause::Message(bytes) = cause else {
            return false;
        };
        matches!(parse(bytes), Ok(Message::Reply(reply)) if self.asked.contains_key(&reply.nonce))
    }

    fn look_at(&mut self, cause: Cause<'_>, datagram: &Datagram) {
        let Datagram {
            source,
            destination,
            payload,
        } = datagram;
        let own = &self.xtr.settings().rlocs;
        let is_own = own.iter().any(|own| own.rloc == source.ip());
        assert!(is_own, "sent from {source}");
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
        assert_eq!(source.port(), CONTROL_PORT);
        let ip = destination.ip();
        assert!(!ip.is_multicast() && !ip.is_unspecified(), "sent to {ip}");
        // An acknowledgement repeats what came, which may be longer.
        let received = match cause {
            Cause::Message(bytes) => bytes.len(),
            Cause::Other => 0,
        };
        assert!(payload.len() <= message_max(ip.is_ipv4()).max(received));
        let message = parse(payload).expect("what is sent can be read");
        match message {
            Message::Encapsulated(encapsulated) => {
                let request = encapsulated.request;
                let key = request.asked.first().map(|asked| asked.key);
                self.asked.insert(request.nonce, key);
            }
            Message::Request(request) => {
                let key = request.asked.first().map(|asked| asked.key);
                self.asked.insert(request.nonce, key);
            }
            Message::Reply(_) => {
                let Cause::Message(bytes) = cause else {
                    panic!("an answer to nothing")
                };
                let asked = parse(bytes);
                let is_question =
                    matches!(asked, Ok(Message::Request(_) | Message::Encapsulated(_)));
                assert!(is_question, "an answer to no question");
            }
            Message::Register(register) => {
                let body = register.body;
                let strict = Acceptance { strict: true };
                assert_eq!(auth::verify(payload, &body, &self.secret, strict), Ok(()));
                assert!(body.nonce > self.last_nonce, "nonces rise");
                self.last_nonce = body.nonce;
                self.registers.push(body);
            }
            Message::NotifyAck(ack) => {
                let strict = Acceptance { strict: false };
                let judged = auth::verify(payload, &ack.body, &self.secret, strict);
                assert_eq!(judged, Ok(()));
                let Cause::Message(bytes) = cause else {
                    panic!("an acknowledgement of nothing")
                };
                assert!(
                    is_authentic(&self.authentic, bytes),
                    "a forged message acknowledged"
                );
            }
            other => panic!("{other:?} is not for a tunnel router to send"),
        }
    }
}
