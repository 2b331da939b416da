//! `sextant lig`: asks the mapping system for an EID and shows the answer (RFC 6835). Needs nothing but a UDP socket.
//!
//! The question is encapsulated, as an ITR's is (RFC 9301 5.8), and every time it is sent it has another nonce. The
//! answer may come from anywhere: it counts when it has a nonce that was sent and covers the EID.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::json;

use crate::exit::Exit;
use crate::mapserver::random;
use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::{self, CONTROL_PORT, Encapsulated, Message, Record, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LigError {
    /// Nobody answered.
    #[error("no answer from {resolver} for {} after {count} requests", shown(.eid))]
    NoAnswer {
        /// Who was asked.
        resolver: IpAddr,
        /// For what.
        eid: IpNet,
        /// How often.
        count: u32,
    },
    /// The kernel refused something.
    #[error("cannot {action}: {error}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl LigError {
    /// The code the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoAnswer { .. } => Exit::Failed,
            Self::System { .. } => Exit::Unable,
        }
    }

    fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { action, error }
    }
}

/// A host as its address.
fn shown(eid: &IpNet) -> String {
    match eid.prefix_len() == eid.max_prefix_len() {
        true => eid.addr().to_string(),
        false => eid.to_string(),
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who answered.
    pub from: SocketAddr,
    /// What was said.
    pub records: Vec<Record>,
    /// How long it took.
    pub round_trip: Duration,
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The Map-Resolver.
    pub to: IpAddr,
    /// Own address, to which the answer comes; none: the one packets to the resolver leave with.
    pub from: Option<IpAddr>,
    /// What is asked for.
    pub key: EidKey,
    /// How often.
    pub count: u32,
    /// How long an answer may take each time.
    pub timeout: Duration,
}

/// Ask until there is an answer.
///
/// # Errors
/// When there is none.
pub fn ask(question: &Question) -> Result<Found, LigError> {
    let resolver = SocketAddr::new(question.to, CONTROL_PORT);
    let local = match question.from {
        Some(local) => local,
        None => local_address(resolver).map_err(LigError::system("find a way to the resolver"))?,
    };
    // Not connected: the answer may be an ETR's.
    let socket = UdpSocket::bind((local, 0)).map_err(LigError::system("open a socket"))?;
    let own = socket
        .local_addr()
        .map_err(LigError::system("open a socket"))?;
    let eid = question.key;
    let mut sent: BTreeMap<u64, Instant> = BTreeMap::new();
    for _ in 0..question.count {
        let nonce = random().map_err(LigError::system("read /dev/urandom"))?;
        let message = wire::emit(&Message::Encapsulated(Encapsulated {
            ddt: false,
            source: own,
            destination: SocketAddr::new(eid.eid.addr(), CONTROL_PORT),
            request: Request::new(nonce, vec![own.ip()], eid),
        }));
        socket
            .send_to(&message, resolver)
            .map_err(LigError::system("send"))?;
        let now = Instant::now();
        sent.insert(nonce, now);
        if let Some(found) = wait(&socket, &sent, eid, now + question.timeout)? {
            return Ok(found);
        }
    }
    Err(LigError::NoAnswer {
        resolver: question.to,
        eid: question.key.eid,
        count: question.count,
    })
}

/// The address packets to the resolver leave with.
fn local_address(resolver: SocketAddr) -> io::Result<IpAddr> {
    let any = if resolver.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(resolver)?;
    Ok(socket.local_addr()?.ip())
}

/// The first answer before the deadline that is one.
fn wait(
    socket: &UdpSocket,
    sent: &BTreeMap<u64, Instant>,
    eid: EidKey,
    deadline: Instant,
) -> Result<Option<Found>, LigError> {
    let mut buffer = vec![0; 65_535];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket
            .set_read_timeout(Some(left))
            .map_err(LigError::system("wait for an answer"))?;
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionRefused => continue,
                _ => return Err(LigError::system("wait for an answer")(error)),
            },
        };
        let Some(Ok(Message::Reply(reply))) = buffer.get(..length).map(wire::parse) else {
            continue;
        };
        let covers = |record: &Record| {
            record.key.instance == eid.instance && record.key.eid.contains(&eid.eid.addr())
        };
        if let Some(at) = sent.get(&reply.nonce)
            && reply.records.iter().any(covers)
        {
            return Ok(Some(Found {
                from,
                records: reply.records,
                round_trip: at.elapsed(),
            }));
        }
    }
}

/// The answer for a person.
#[must_use]
pub fn text(found: &Found) -> String {
    let milliseconds = found.round_trip.as_secs_f64() * 1000.0;
    let mut text = format!("answer from {} in {milliseconds:.2} ms\n", found.from.ip());
    for record in &found.records {
        let kind = if record.is_authoritative {
            ", authoritative"
        } else {
            ""
        };
        let ttl = match record.ttl_minutes {
            Record::TTL_UNSAID => "no TTL".to_owned(),
            minutes => format!("TTL {minutes} min"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}, {ttl}{kind}", record.key);
        if record.locators.is_empty() {
            let action = record.act.action();
            let action = action.map_or("unknown", |action| action.name());
            let _ = writeln!(text, "  negative: {action}");
        }
        for locator in &record.locators {
            let state = if locator.is_reachable { "up" } else { "down" };
            let _ = writeln!(
                text,
                "  {:<39} {state:<4} priority {:<3} weight {}",
                locator.rloc.to_string(),
                locator.priority,
                locator.weight
            );
        }
    }
    text
}

/// The answer for a program.
#[must_use]
pub fn json(found: &Found) -> serde_json::Value {
    let records = found.records.iter().map(|record| {
        let locators = record.locators.iter().map(|locator| {
            json!({
                "rloc": locator.rloc,
                "priority": locator.priority,
                "weight": locator.weight,
                "up": locator.is_reachable,
            })
        });
        let is_negative = record.locators.is_empty();
        let action = record.act.action().map(|action| action.name());
        json!({
            "instance": record.key.instance,
            "eid": record.key.eid,
            "ttl_minutes": record.ttl_minutes,
            "authoritative": record.is_authoritative,
            "action": action.filter(|_| is_negative),
            "locators": locators.collect::<Vec<_>>(),
        })
    });
    json!({
        "from": found.from.ip(),
        "round_trip_us": u64::try_from(found.round_trip.as_micros()).unwrap_or(u64::MAX),
        "records": records.collect::<Vec<_>>(),
    })
}
