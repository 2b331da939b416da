//! What the machine does, message by message and second by second.

mod answering;
mod asking;
mod hosts;
mod joined;
mod liveness;
mod own;
mod probing;
mod questions;
mod registering;
mod registrations;
mod restored;
mod soliciting;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::*;
use crate::proto::lisp::wire::auth::{Algorithm, Secret};
use crate::proto::lisp::wire::{
    Act, Encapsulated, LocatorRecord, Record, Reply, ReplyFlags, Request, emit, parse,
};
use crate::proto::lisp::{Action, InstanceId, Locator};

const OWN: &str = "2001:db8:ffff::2";
const OWN_V4: &str = "192.0.2.2";
const RESOLVER: &str = "2001:db8:ffff::100";
const PEER: &str = "2001:db8:ffff::3";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn control(text: &str) -> SocketAddr {
    SocketAddr::new(ip(text), CONTROL_PORT)
}

fn key(text: &str) -> EidKey {
    EidKey {
        instance: InstanceId::default(),
        eid: text.parse().unwrap(),
    }
}

fn eid(text: &str) -> EidAddress {
    EidAddress {
        instance: InstanceId::default(),
        address: ip(text),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn server(address: &str) -> MapServer {
    MapServer {
        address: ip(address),
        key: Secret::new(b"a secret"),
        key_id: 1,
        algorithm: Algorithm::HmacSha256,
        proxy_reply: false,
        merge: false,
    }
}

fn settings() -> Settings {
    Settings {
        map_resolvers: vec![ip(RESOLVER)],
        is_etr: true,
        eids: vec![key("2001:db8:a::/48")],
        rlocs: vec![Locator::new(ip(OWN)), Locator::new(ip(OWN_V4))],
        ..Settings::default()
    }
}

/// A machine and a clock.
struct Bench {
    xtr: Xtr,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let mut xtr = Xtr::new(now, &[7; 32], 1000);
        xtr.set_settings(now, settings);
        Self {
            xtr,
            start: now,
            now,
        }
    }

    /// Time goes on, from timer to timer.
    fn run(&mut self, duration: Duration) -> Vec<(Duration, Output)> {
        let end = self.now + duration;
        let mut outputs = Vec::new();
        loop {
            outputs.extend(self.outputs());
            match self.xtr.poll_timeout() {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.xtr.handle_timeout(self.now);
                }
                _ => break,
            }
        }
        self.now = end;
        outputs
    }

    fn outputs(&mut self) -> Vec<(Duration, Output)> {
        let passed = self.now - self.start;
        std::iter::from_fn(|| self.xtr.poll_output())
            .map(|output| (passed, output))
            .collect()
    }

    /// Datagrams that leave, with the second in which they do.
    fn sent(&mut self, duration: Duration) -> Vec<(u64, Datagram)> {
        let outputs = self.run(duration).into_iter();
        let sent = outputs.filter_map(|(at, output)| match output {
            Output::Send(datagram) => Some((at.as_secs(), datagram)),
            _ => None,
        });
        sent.collect()
    }

    fn miss(&mut self, destination: &str) {
        self.xtr
            .miss(self.now, eid(destination), Some(ip("2001:db8:a::10")));
    }

    /// Packets to this prefix went to this RLOC.
    fn note_used(&mut self, prefix: &str, rloc: &str) {
        let mapping = Mapping::Locators {
            locators: vec![Locator::new(ip(rloc))],
            version: 0,
        };
        self.xtr.note_used(self.now, key(prefix), &mapping);
    }

    fn receive(&mut self, from: &str, message: &Message) {
        self.xtr
            .handle_input(self.now, control(from), ip(OWN), &emit(message));
    }

    /// What changes in the map-cache now: prefix, and whether it is known and for how long.
    fn changes(&mut self) -> Vec<(String, Option<u64>)> {
        let outputs = self.outputs().into_iter();
        let changes = outputs.filter_map(|(_, output)| match output {
            Output::Learned { key, expires, .. } => {
                Some((key.eid.to_string(), Some((expires - self.now).as_secs())))
            }
            Output::Forgotten(key) => Some((key.eid.to_string(), None)),
            _ => None,
        });
        changes.collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.xtr.counters().of(name)
    }
}

/// The Map-Request in a datagram to a Map-Resolver.
fn asked(datagram: &Datagram) -> Encapsulated {
    match parse(&datagram.payload) {
        Ok(Message::Encapsulated(encapsulated)) => encapsulated,
        other => panic!("{other:?} is no encapsulated Map-Request"),
    }
}

fn positive(prefix: &str, ttl_minutes: u32) -> Record {
    let mut record = Record::negative(key(prefix), Act::default(), ttl_minutes);
    record
        .locators
        .push(LocatorRecord::new(Locator::new(ip(PEER))));
    record
}

fn reply(nonce: u64, records: Vec<Record>) -> Message {
    Message::Reply(Reply {
        flags: ReplyFlags::default(),
        nonce,
        records,
    })
}
