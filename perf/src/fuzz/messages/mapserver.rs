//! The Map-Server: what is registered was registered by somebody who knows the secret and may, nonces only rise, and an
//! answer says what was registered.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use control::proto::lisp::mapserver::{
    Allowed, Counter, Machine, Output, Rate, SavedNonce, Settings, Site,
};
use control::proto::lisp::wire::auth::{self, Algorithm, Secret};
use control::proto::lisp::wire::{
    CONTROL_PORT, Identity, Message, Notify, Register, RegisterFlags, Registration, emit,
    message_max, parse,
};
use control::proto::lisp::{EidKey, InstanceId};
use ipnet::IpNet;

use super::script::Script;
use super::{Reached, is_authentic};

/// Kinds of steps.
pub const STEPS: u8 = 12;

/// What a run must have reached.
#[cfg(test)]
pub const MATTERS: &[&str] = &[
    "reply_proxy",
    "reply_negative",
    "reply_unregistered",
    "forwarded",
    "drop_probe",
    "drop_solicit",
    "drop_no_reply",
    "drop_no_itr_rloc",
    "record_accepted",
    "record_withdrawn",
    "record_refused",
    "record_no_room",
    "drop_register_unknown",
    "drop_auth_key",
    "drop_auth_algorithm",
    "drop_auth_length",
    "drop_auth_mac",
    "drop_replay",
    "register_repeated",
    "notify_sent",
    "notify_moved",
    "notify_repeated",
    "notify_given_up",
    "acks",
    "drop_ack_unknown",
    "moves",
    "expired",
    "drop_unexpected",
    "drop_port",
    "drop_malformed",
    "drop_register_rate",
    "drop_request_rate",
];

/// Registrations there is room for.
const REGISTRATIONS_MAX: usize = 6;
/// Timers of one pause that are kept; what is due beyond comes late.
const TIMERS_MAX: usize = 24;
/// Datagrams a message may be the reason of: eight answers, or a Map-Notify and one to each ETR of each record.
const SENT_MAX: usize = 64;
/// Counters that say that something was believed.
const BELIEVED: [Counter; 6] = [
    Counter::RecordAccepted,
    Counter::RecordWithdrawn,
    Counter::RegisterRepeated,
    Counter::NotifySent,
    Counter::Moves,
    Counter::Acks,
];
const OWN: [&str; 2] = ["192.0.2.100", "2001:db8:ffff::100"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a constant of this file")
}

/// A prefix a site may register, with what is in it.
fn allowed(text: &str, instance: u32) -> Allowed {
    let key = EidKey {
        instance: InstanceId::new(instance).expect("a small number"),
        eid: text.parse().expect("a constant of this file"),
    };
    Allowed::new(key, true)
}

struct World {
    machine: Machine,
    now: Instant,
    settings: Settings,
    /// What somebody who knows a secret made, and the last of it.
    authentic: HashSet<Vec<u8>>,
    made: Vec<Vec<u8>>,
    nonce: u64,
    nonces: BTreeMap<(String, Option<u128>, u8), u64>,
    /// Map-Notifies nobody asked for that were sent, and to whom.
    notices: Vec<(SocketAddr, Notify)>,
    reached: Reached,
}

pub fn check(input: &[u8]) -> Reached {
    let mut script = Script::new(input);
    let mut world = World::new();
    while !script.is_over() {
        world.step(&mut script);
    }
    world.count();
    world.reached
}

fn settings() -> Settings {
    let all = Algorithm::ALL.to_vec();
    let mut first = Site::new("first");
    first.keys = vec![(1, Secret::new(b"first"))];
    first.algorithms = all.clone();
    first.prefixes = vec![allowed("10.1.0.0/16", 0), allowed("2001:db8:a::/48", 0)];
    let mut strict = Site::new("strict");
    strict.keys = vec![(1, Secret::new(b"strict")), (2, Secret::new(b"other"))];
    strict.strict_mac = true;
    strict.prefixes = vec![allowed("10.1.0.0/16", 7), allowed("2001:db8:b::/48", 0)];
    let mut lax = Site::new("lax");
    lax.keys = vec![(1, Secret::new(b"lax"))];
    lax.algorithms = all;
    lax.check_nonce = false;
    lax.prefixes = vec![allowed("10.2.0.0/16", 0)];
    let rate = Rate {
        per_second: 10,
        burst: 12,
    };
    Settings {
        sites: vec![first, strict, lax],
        registrations_max: REGISTRATIONS_MAX,
        requests: rate,
        registers: rate,
        replies: rate,
        own_addresses: OWN.into_iter().map(ip).collect(),
        ..Settings::default()
    }
}

impl World {
    fn new() -> Self {
        let (now, settings) = (Instant::now(), settings());
        Self {
            machine: Machine::new(now, settings.clone(), fastrand::Rng::with_seed(1)),
            now,
            settings,
            authentic: HashSet::new(),
            made: Vec::new(),
            nonce: 1,
            nonces: BTreeMap::new(),
            notices: Vec::new(),
            reached: Reached::new(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.u8() % STEPS {
            0 => {
                let (bytes, from) = (script.raw(), script.from());
                self.receive(script, from, &bytes);
            }
            1..=4 => self.register(script),
            5..=6 => {
                let registered = self.machine.registered(self.now).map(|one| one.key);
                let registered: Vec<EidKey> = registered.collect();
                let mut bytes = emit(&script.request(&registered));
                script.damage(&mut bytes);
                let from = script.from();
                self.receive(script, from, &bytes);
            }
            7 | 8 => self.acknowledge(script),
            // Overheard, and sent again.
            9 => {
                let at = self.made.len().saturating_sub(1 + script.below(8));
                if let Some(bytes) = self.made.get(at).cloned() {
                    let from = script.from();
                    self.receive(script, from, &bytes);
                }
            }
            10 => self.pass(script.pause()),
            _ => self.change(script),
        }
    }

    /// A Map-Register of some site's, most often as it may be.
    fn register(&mut self, script: &mut Script<'_>) {
        let site = self.settings.sites[script.below(self.settings.sites.len())].clone();
        let (key_id, secret) = site.keys[script.below(site.keys.len())].clone();
        let algorithm = Algorithm::ALL[script.below(3)];
        let length = [algorithm.mac_len(), algorithm.full_mac_len()][script.below(2)];
        let around = site.prefixes[script.below(site.prefixes.len())].key;
        let key = match script.u8() {
            240.. => script.key(),
            0..96 => around,
            other => inside(around, other),
        };
        match script.u8() {
            0..16 => {}
            16..24 => self.nonce = script.u64(),
            other => self.nonce = self.nonce.wrapping_add(u64::from(other)),
        }
        let mut body = Registration {
            nonce: self.nonce,
            key_id,
            algorithm_id: algorithm.id(),
            mac: vec![0; length],
            records: script.records(key),
            identity: script.is().then(|| Identity {
                xtr_id: u128::from(script.u8() % 3),
                site_id: 1,
            }),
        };
        match script.u8() {
            0..4 => body.algorithm_id = 9,
            4..8 => body.mac.truncate(8),
            8..12 => body.key_id = 9,
            _ => {}
        }
        let flags = script.u8();
        let flags = RegisterFlags {
            proxy_reply: flags & 1 != 0,
            want_notify: flags & 2 != 0,
            use_ttl: flags & 12 == 12,
            merge: flags & 16 != 0,
            ..RegisterFlags::default()
        };
        let bytes = emit(&Message::Register(Register { flags, body }));
        let from = script.from();
        self.sealed(script, from, bytes, &secret);
    }

    /// The acknowledgement of a Map-Notify.
    fn acknowledge(&mut self, script: &mut Script<'_>) {
        let at = self.notices.len().saturating_sub(1 + script.below(4));
        let Some((etr, mut ack)) = self.notices.get(at).cloned() else {
            return;
        };
        ack.body.mac.fill(0);
        // Most often the one that was used.
        let key = ack.body.records.first().map(|record| record.key);
        let is_its = |site: &&Site| {
            let mut prefixes = site.prefixes.iter();
            prefixes.any(|allowed| key.is_some_and(|key| is_within(key, allowed.key)))
        };
        let sites = &self.settings.sites;
        let site = match script.u8() {
            240.. => None,
            _ => sites.iter().find(is_its),
        };
        let site = site.unwrap_or(&sites[script.below(sites.len())]);
        let secret = site.keys.iter().find(|(id, _)| *id == ack.body.key_id);
        let (_, secret) = secret.unwrap_or(&site.keys[0]).clone();
        let from = match script.u8() {
            224.. => script.from(),
            _ => etr,
        };
        self.sealed(script, from, emit(&Message::NotifyAck(ack)), &secret);
    }

    fn sealed(
        &mut self,
        script: &mut Script<'_>,
        from: SocketAddr,
        mut bytes: Vec<u8>,
        secret: &Secret,
    ) {
        // What has no room for a MAC is sent as it is.
        if auth::seal(&mut bytes, secret).is_ok() {
            self.authentic.insert(bytes.clone());
            self.made.push(bytes.clone());
        }
        script.damage(&mut bytes);
        self.receive(script, from, &bytes);
    }

    fn receive(&mut self, script: &mut Script<'_>, from: SocketAddr, bytes: &[u8]) {
        let port = match script.u8() {
            port @ 1..16 => u16::from(port) << 12,
            _ => CONTROL_PORT,
        };
        let to = SocketAddr::new(ip(OWN[usize::from(from.is_ipv6())]), port);
        // What is due comes first, and is not the message's doing.
        self.machine.handle_timeout(self.now);
        self.settle(None);
        let before = self.believed();
        self.machine.handle_input(self.now, from, to, bytes);
        if self.believed() != before {
            assert!(
                is_authentic(&self.authentic, bytes),
                "a forged message was believed"
            );
        }
        self.settle(Some(bytes));
    }

    fn believed(&self) -> [u64; BELIEVED.len()] {
        BELIEVED.map(|counter| self.machine.counters().count(counter))
    }

    /// Time passes, from timer to timer.
    fn pass(&mut self, pause: Duration) {
        let end = self.now + pause;
        for _ in 0..TIMERS_MAX {
            match self.machine.poll_timeout() {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.machine.handle_timeout(self.now);
                    self.settle(None);
                }
                _ => break,
            }
        }
        self.now = end;
        self.machine.handle_timeout(self.now);
        self.settle(None);
        let due = self.machine.poll_timeout();
        assert!(
            due.is_none_or(|due| due > self.now),
            "something is due and not done"
        );
    }

    /// Other settings, or another start.
    fn change(&mut self, script: &mut Script<'_>) {
        let mut settings = settings();
        settings.families = [script.u8() >= 32, script.u8() >= 32];
        if script.u8() < 64 {
            settings.sites.truncate(1 + script.below(3));
        }
        let rate = script.u8() & 0x0f;
        settings.requests.per_second = 1 << rate;
        settings.requests.burst = 1 << rate;
        settings.registers = settings.requests;
        settings.replies = settings.requests;
        self.settings = settings;
        if script.u8() < 64 {
            self.count();
            let nonces: Vec<SavedNonce> = self.machine.nonces().collect();
            let rng = fastrand::Rng::with_seed(script.u64());
            self.machine = Machine::new(self.now, self.settings.clone(), rng);
            for nonce in &nonces {
                self.machine.restore_nonce(nonce);
            }
            self.notices.clear();
        } else {
            self.machine.configure(self.settings.clone());
        }
        self.settle(None);
    }

    /// What the machine has counted so far.
    fn count(&mut self) {
        for (name, count) in self.machine.counters().nonzero() {
            *self.reached.entry(name).or_default() += count;
        }
    }

    /// What came of it, and what there is now.
    fn settle(&mut self, cause: Option<&[u8]>) {
        let mut sent = 0;
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { from, to, bytes } => {
                    sent += 1;
                    self.look_at(cause, from, to, &bytes);
                }
                Output::Report(report) => assert!(!report.to_string().is_empty()),
            }
        }
        assert!(
            cause.is_none() || sent <= SENT_MAX,
            "{sent} datagrams for one"
        );
        assert!(self.machine.registrations() <= REGISTRATIONS_MAX);
        let sites = &self.settings.sites;
        for one in self.machine.registered(self.now) {
            let site = sites.iter().find(|site| site.name == one.site);
            let site = site.expect("only sites there are register");
            let is_allowed = |allowed: &Allowed| is_within(one.key, allowed.key);
            assert!(
                site.prefixes.iter().any(is_allowed),
                "{} is not of site {}",
                one.key,
                one.site
            );
            assert!(!one.locators.is_empty());
        }
        for SavedNonce {
            site,
            xtr_id,
            key_id,
            nonce,
        } in self.machine.nonces()
        {
            let last = self.nonces.entry((site, xtr_id, key_id)).or_insert(nonce);
            assert!(*last <= nonce, "nonces rise");
            *last = nonce;
        }
    }

    fn look_at(
        &mut self,
        cause: Option<&[u8]>,
        from: Option<IpAddr>,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        assert!(from.is_none_or(|from| from.is_ipv4() == to.is_ipv4()));
        let ip = to.ip();
        assert!(!ip.is_multicast() && !ip.is_unspecified(), "sent to {ip}");
        let message = parse(bytes).expect("what is sent can be read");
        match message {
            Message::Reply(reply) => {
                assert!(bytes.len() <= message_max(to.is_ipv4()));
                let request = cause.map(parse);
                let request = match request {
                    Some(Ok(Message::Request(request))) => request,
                    Some(Ok(Message::Encapsulated(encapsulated))) => encapsulated.request,
                    other => panic!("an answer to {other:?}"),
                };
                assert_eq!(reply.nonce, request.nonce);
                assert!(request.itr_rlocs.contains(&ip), "answered to {ip}");
                let covers = |asked: &control::proto::lisp::wire::Asked| {
                    let host = EidKey {
                        eid: IpNet::from(asked.key.eid.network()),
                        ..asked.key
                    };
                    reply
                        .records
                        .iter()
                        .any(|record| is_within(host, record.key))
                };
                assert!(request.asked.iter().any(covers), "an answer to none of it");
                for record in &reply.records {
                    assert!(!record.is_authoritative, "it speaks for others");
                    assert!(!record.locators.iter().any(|l| l.is_local || l.is_probed));
                }
            }
            Message::Encapsulated(_) => {
                let received = cause.map_or(0, <[u8]>::len);
                // A plain one gets an IP and a UDP header, and a header in front of them.
                assert!(bytes.len() <= received + 52, "more is sent on than came");
            }
            Message::Notify(notify) => {
                assert!(bytes.len() <= message_max(to.is_ipv4()).max(cause.map_or(0, <[u8]>::len)));
                let asked = match cause.map(parse) {
                    Some(Ok(Message::Register(register))) => Some(register.body.nonce),
                    _ => None,
                };
                if asked != Some(notify.body.nonce) {
                    self.notices.push((to, notify));
                }
            }
            other => panic!("{other:?} is not for a Map-Server to send"),
        }
    }
}

/// A prefix in another.
fn inside(around: EidKey, number: u8) -> EidKey {
    let eid = match around.eid {
        IpNet::V4(net) => {
            let bits = u32::from(net.network()) | u32::from(number) << 4;
            IpNet::new(IpAddr::V4(bits.into()), 24 + number % 9)
        }
        IpNet::V6(net) => {
            let bits = u128::from(net.network()) | u128::from(number) << 60;
            IpNet::new(IpAddr::V6(bits.into()), 56 + number % 73)
        }
    };
    EidKey {
        eid: eid.expect("not longer than the address").trunc(),
        ..around
    }
}

fn is_within(inner: EidKey, outer: EidKey) -> bool {
    inner.instance == outer.instance && outer.eid.contains(&inner.eid)
}
