//! Forged, replayed and damaged control messages against a Map-Server and a tunnel router: none of them registers anything,
//! is learned or taken for a confirmation, none makes either panic, each is counted.
//!
//! `SEXTANT_STORM=10000000 cargo test --profile optimized -p control --test lisp_storm` throws that many.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use control::proto::lisp::mapserver::{Allowed, Counter, Machine, Output, Rate, Settings, Site};
use control::proto::lisp::wire::auth::{self, Algorithm, Secret};
use control::proto::lisp::wire::{
    Act, EidAddress, Encapsulated, Identity, LocatorRecord, Message, Notify, Record, Register,
    RegisterFlags, Registration, Reply, ReplyFlags, Request, emit, parse,
};
use control::proto::lisp::xtr::{self, Datagram, Event, MapServer, Xtr};
use control::proto::lisp::{EidKey, InstanceId, Locator};
use dataplane::testing::fault::{self, Rng};

const MESSAGES: u64 = 100_000;

fn key(instance: u32, eid: &str) -> EidKey {
    EidKey {
        instance: InstanceId::new(instance).unwrap(),
        eid: eid.parse().unwrap(),
    }
}

fn record(key: EidKey) -> Record {
    let locator = |rloc: &str| LocatorRecord::new(Locator::new(rloc.parse().unwrap()));
    Record {
        locators: vec![locator("192.0.2.1"), locator("2001:db8:f::1")],
        ..Record::negative(key, Act::default(), 1440)
    }
}

/// A body of the site's, with room for a MAC.
fn body(algorithm: Algorithm, nonce: u64, eid: EidKey) -> Registration {
    Registration {
        nonce,
        key_id: 1,
        algorithm_id: algorithm.id(),
        mac: vec![0; algorithm.mac_len()],
        records: vec![record(eid)],
        identity: Some(Identity {
            xtr_id: 7,
            site_id: 1,
        }),
    }
}

fn register(body: Registration) -> Message {
    let flags = RegisterFlags {
        proxy_reply: true,
        want_notify: true,
        ..RegisterFlags::default()
    };
    Message::Register(Register { flags, body })
}

fn sealed(message: &Message, secret: &Secret) -> Vec<u8> {
    let mut bytes = emit(message);
    auth::seal(&mut bytes, secret).unwrap();
    bytes
}

struct Storm {
    secret: Secret,
    rng: Rng,
    /// Messages that were all right once, to be damaged.
    good: Vec<Vec<u8>>,
}

impl Storm {
    fn new(secret: Secret, last: Vec<u8>) -> Self {
        let own = key(7, "10.1.0.0/16");
        let request = Request::new(5, vec!["192.0.2.9".parse().unwrap()], own);
        let mut good = vec![
            last,
            emit(&Message::Request(request.clone())),
            emit(&Message::Encapsulated(Encapsulated {
                ddt: false,
                source: "192.0.2.9:4342".parse().unwrap(),
                destination: "10.1.2.3:4342".parse().unwrap(),
                request,
            })),
            emit(&Message::Reply(Reply {
                flags: ReplyFlags::default(),
                nonce: 5,
                records: vec![record(own)],
            })),
        ];
        // Of the right secret and greater nonces, and not of their kind's: never to be taken for a Map-Register.
        for algorithm in Algorithm::ALL {
            let body = body(algorithm, 1 << 60, own);
            good.push(sealed(
                &Message::Notify(Notify { body: body.clone() }),
                &secret,
            ));
            good.push(sealed(&Message::NotifyAck(Notify { body }), &secret));
        }
        Self {
            secret,
            rng: Rng::new(1),
            good,
        }
    }

    /// Something that must not be accepted.
    fn next(&mut self) -> Vec<u8> {
        let algorithm = Algorithm::ALL[self.rng.below(3)];
        let own = key(7, "10.1.0.0/16");
        // Anything above what was registered with.
        let nonce = self.rng.next_u64() | 1 << 32;
        match self.rng.below(6) {
            // A secret that is not the site's.
            0 => {
                let wrong = Secret::new(&self.rng.next_u64().to_be_bytes());
                sealed(&register(body(algorithm, nonce, own)), &wrong)
            }
            // The right one over an old nonce.
            1 => {
                let old = self.rng.next_u64() & 0xff;
                sealed(&register(body(algorithm, old, own)), &self.secret)
            }
            // A MAC out of the air.
            2 => {
                let mut body = body(algorithm, nonce, own);
                body.mac = vec![0; self.rng.below(33)];
                self.rng.fill(&mut body.mac);
                emit(&register(body))
            }
            // A prefix that is no site's, whatever the MAC.
            3 => {
                let eid = key(7, "10.2.0.0/16");
                sealed(&register(body(algorithm, nonce, eid)), &self.secret)
            }
            // The right message of another kind, called a Map-Register.
            4 => {
                let at = 4 + self.rng.below(self.good.len() - 4);
                let mut other = self.good[at].clone();
                other[0] = 0x32;
                other
            }
            _ => {
                let at = self.rng.below(self.good.len());
                let mut damaged = self.good[at].clone();
                fault::mutate(&mut self.rng, &mut damaged);
                damaged
            }
        }
    }
}

fn messages() -> u64 {
    std::env::var("SEXTANT_STORM").map_or(MESSAGES, |text| text.parse().unwrap())
}

#[test]
fn nothing_forged_replayed_or_damaged_is_accepted() {
    let messages = messages();
    let secret = Secret::new(b"correct horse");
    let mut site = Site::new("site");
    site.keys = vec![(1, secret.clone())];
    site.algorithms = Algorithm::ALL.to_vec();
    site.prefixes = vec![Allowed::new(key(7, "10.1.0.0/16"), true)];
    let fast = Rate {
        per_second: 10_000_000,
        burst: 10_000_000,
    };
    let settings = Settings {
        sites: vec![site],
        requests: fast,
        registers: fast,
        replies: fast,
        ..Settings::default()
    };
    let mut now = Instant::now();
    let mut machine = Machine::new(now, settings, fastrand::Rng::with_seed(1));
    let from = "192.0.2.1:4342".parse().unwrap();
    let body = body(Algorithm::HmacSha256, 256, key(7, "10.1.0.0/16"));
    let last = sealed(&register(body), &secret);
    machine.handle_input(now, from, from, &last);
    let before: Vec<_> = machine.registered(now).collect();
    assert_eq!(before.len(), 1);
    let nonces: Vec<_> = machine.nonces().collect();
    let mut storm = Storm::new(secret, last);
    for _ in 0..messages {
        let message = storm.next();
        machine.handle_input(now, from, from, &message);
        while let Some(output) = machine.poll_output() {
            if let Output::Send { bytes, .. } = output {
                // Whatever is answered is an answer, or the Map-Notify of the last Map-Register once more.
                assert!(matches!(bytes[0] >> 4, 2 | 4));
            }
        }
        now += Duration::from_nanos(100);
    }
    assert_eq!(machine.registered(now).count(), 1);
    assert_eq!(machine.nonces().collect::<Vec<_>>(), nonces);
    let count = |counter| machine.counters().count(counter);
    assert_eq!(count(Counter::RecordAccepted), 1);
    assert_eq!(count(Counter::RecordWithdrawn), 0);
    // Each message under one cause; the first one was the good one.
    let registers = [
        Counter::RecordAccepted,
        Counter::DropRegisterEmpty,
        Counter::DropRegisterUnknown,
        Counter::DropAuthKey,
        Counter::DropAuthAlgorithm,
        Counter::DropAuthLength,
        Counter::DropAuthMac,
        Counter::DropReplay,
        Counter::RegisterRepeated,
    ];
    let sum: u64 = registers.into_iter().map(count).sum();
    assert_eq!(sum, count(Counter::Registers));
    let all = [
        Counter::Registers,
        Counter::Requests,
        Counter::DropUnexpected,
        Counter::DropAckUnknown,
        Counter::DropMalformed,
    ];
    let sum: u64 = all.into_iter().map(count).sum();
    assert_eq!(sum, messages + 1);
    for counter in [
        Counter::DropAuthMac,
        Counter::DropAuthLength,
        Counter::DropReplay,
        Counter::DropRegisterUnknown,
        Counter::DropMalformed,
    ] {
        assert!(count(counter) > messages / 100, "{}", counter.name());
    }
}

/// What a tunnel router is told by somebody who knows neither its nonces nor its secret, but speaks as its Map-Server.
struct Lies {
    secret: Secret,
    rng: Rng,
    /// Nonce of the question that waits for an answer.
    asked: u64,
    /// Nonce of the registration that waits for a confirmation.
    registered: u64,
    /// Authentic, and seen before.
    seen: Vec<u8>,
}

impl Lies {
    fn next(&mut self) -> Vec<u8> {
        let algorithm = Algorithm::HmacSha256;
        let (own, other) = (key(7, "10.1.0.0/16"), key(7, "10.9.0.0/16"));
        let reply = |nonce, probe, eid| {
            let flags = ReplyFlags {
                probe,
                ..ReplyFlags::default()
            };
            let records = vec![record(eid)];
            emit(&Message::Reply(Reply {
                flags,
                nonce,
                records,
            }))
        };
        let air = self.rng.next_u64();
        match self.rng.below(8) {
            // An answer to no question, or to a probe that nobody sent.
            0 => reply(air, false, other),
            1 => reply(air, true, other),
            // The right nonce, and nothing about what was asked.
            2 => reply(self.asked, false, key(7, "10.8.0.0/16")),
            // The confirmation that is awaited, with a secret that is not ours, and with a MAC out of the air.
            3 => {
                let wrong = Secret::new(&air.to_be_bytes());
                let body = body(algorithm, self.registered, own);
                sealed(&Message::Notify(Notify { body }), &wrong)
            }
            4 => {
                let mut body = body(algorithm, self.registered, own);
                body.mac = vec![0; self.rng.below(33)];
                self.rng.fill(&mut body.mac);
                emit(&Message::Notify(Notify { body }))
            }
            // The right secret, for a message of another kind.
            5 => {
                let body = body(algorithm, self.registered, own);
                let mut ack = sealed(&Message::NotifyAck(Notify { body }), &self.secret);
                ack[0] = 4 << 4;
                ack
            }
            // Somebody's EID is elsewhere, they say (S-05).
            6 => {
                let mut request = Request::new(air, vec!["192.0.2.9".parse().unwrap()], other);
                request.flags.solicit = true;
                emit(&Message::Request(request))
            }
            _ => {
                let mut damaged = self.seen.clone();
                fault::mutate(&mut self.rng, &mut damaged);
                damaged
            }
        }
    }
}

/// Q-03, P-05, R-07, R-16, S-05.
#[test]
fn no_lie_changes_what_a_tunnel_router_knows() {
    let messages = messages();
    let secret = Secret::new(b"correct horse");
    let own = "192.0.2.1".parse().unwrap();
    let server: SocketAddr = "192.0.2.2:4342".parse().unwrap();
    let settings = xtr::Settings {
        map_resolvers: vec![server.ip()],
        is_etr: true,
        eids: vec![key(7, "10.1.0.0/16")],
        rlocs: vec![Locator::new(own)],
        map_servers: vec![MapServer {
            address: server.ip(),
            key: secret.clone(),
            key_id: 1,
            algorithm: Algorithm::HmacSha256,
            proxy_reply: false,
            merge: false,
        }],
        ..xtr::Settings::default()
    };
    let mut now = Instant::now();
    let mut xtr = Xtr::new(now, &[7; 32], 1000);
    xtr.set_settings(now, settings);
    let missed = EidAddress {
        instance: InstanceId::new(7).unwrap(),
        address: "10.9.0.1".parse().unwrap(),
    };
    xtr.miss(now, missed, None);
    xtr.handle_timeout(now);
    let (mut asked, mut registered) = (None, None);
    while let Some(output) = xtr.poll_output() {
        if let xtr::Output::Send(Datagram { payload, .. }) = output {
            match parse(&payload).unwrap() {
                Message::Encapsulated(encapsulated) => asked = Some(encapsulated.request.nonce),
                Message::Register(register) => registered = Some(register.body.nonce),
                other => panic!("{other:?}"),
            }
        }
    }
    let body = body(Algorithm::HmacSha256, 1 << 40, key(7, "10.1.0.0/16"));
    let seen = sealed(&Message::Notify(Notify { body }), &secret);
    xtr.handle_input(now, server, own, &seen);
    assert_eq!(xtr.counters().of("notified_unasked"), 1);
    let mut lies = Lies {
        secret,
        rng: Rng::new(2),
        asked: asked.expect("a question"),
        registered: registered.expect("a registration"),
        seen,
    };
    let counted = |xtr: &Xtr| xtr.counters().iter().map(|(_, count)| count).sum::<u64>();
    for _ in 0..messages {
        while let Some(output) = xtr.poll_output() {
            match output {
                // What was seen once is acknowledged again.
                xtr::Output::Send(Datagram { payload, .. }) => assert_eq!(payload[0] >> 4, 5),
                xtr::Output::Event(Event::NotifiedUnasked { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        let before = counted(&xtr);
        xtr.handle_input(now, server, own, &lies.next());
        assert!(counted(&xtr) > before, "each is counted");
        now += Duration::from_nanos(50);
    }
    assert_eq!((xtr.learned(), xtr.pending()), (0, 1));
    assert!(xtr.servers(now).all(|server| server.notified.is_none()));
    assert_eq!(xtr.counters().of("registered"), 0);
    for cause in [
        "reply_unknown_nonce",
        "reply_other_prefix",
        "probe_reply_unknown_nonce",
        "auth_mac",
    ] {
        let count = xtr.counters().of(cause);
        assert!(count > messages / 20, "{cause}: {count}");
    }
}
