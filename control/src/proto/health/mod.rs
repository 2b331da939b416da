//! Health checks of servers (RFC 4786 4.4.1: announce a service only while it answers).
//!
//! [`Machine`] says when which packet is to be sent, is given what comes back, and says how each server is: up, down, or
//! up again but held. `judge` is how results become that, `wire` the packets of echo and UDP and the words of HTTP, `tcp`
//! a client for one connection, `exchange` what is said in it, `tls` and `trust` how that is encrypted; `announce` is which
//! services are announced for it. How a packet gets to the server, and what follows from a server that is down, is not said
//! here. Time and randomness are given, but for the keys of TLS; nothing here has a socket.

mod announce;
mod exchange;
mod judge;
mod machine;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod trust;
mod wire;

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use serde::Serialize;

pub use announce::{Announcement, Announcer, Served};
pub use judge::Health;
pub use machine::Machine;
pub use trust::{Tls, Trust, is_readable};

/// Checks of one address under way at a time: a power of two.
pub const TOKENS: u16 = 16;

/// Which server of which pool: the pool's name, the server's own address.
pub type ServerKey = (String, Ipv6Addr);

/// What is asked of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// An echo reply (RFC 4443 4.2).
    Icmpv6,
    /// That a TCP connection opens.
    Tcp {
        /// Destination port.
        port: u16,
    },
    /// The status of an answer to GET, over TCP (RFC 9112), as it is or in TLS.
    Http {
        /// Destination port.
        port: u16,
        /// Path and query.
        path: String,
        /// The Host header.
        host: String,
        /// Each from, to: what is right.
        status: Vec<(u16, u16)>,
        /// HTTPS; `None`: without encryption.
        #[serde(skip_serializing_if = "Option::is_none")]
        tls: Option<Tls>,
    },
    /// A datagram that begins with `expect` in answer to `send`.
    Udp {
        /// Destination port.
        port: u16,
        /// Payload.
        send: Vec<u8>,
        /// The beginning of the answer; nothing: any answer.
        expect: Vec<u8>,
    },
}

/// How often, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// From the beginning of a check to that of the next, on average: a tenth more or less by chance.
    pub interval: Duration,
    /// A check without an answer after this time failed; at most `interval`.
    pub timeout: Duration,
    /// Checks one after the other that must succeed before a server that was down is up.
    pub rise: u8,
    /// Checks one after the other that must fail before one that was up is down.
    pub fall: u8,
    /// A server that went down stays so at least this long; twice as long for each time it goes down again within
    /// `hold_down_max` of coming up.
    pub hold_down: Duration,
    /// The longest time it stays down for that reason.
    pub hold_down_max: Duration,
}

/// One server and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose it is.
    pub key: ServerKey,
    /// The routing table in which it is sent.
    pub vrf: u16,
    /// Address of ours it is sent from.
    pub source: Ipv6Addr,
    /// Address it is sent to, and answered from.
    pub destination: Ipv6Addr,
    /// The lowest of the [`TOKENS`] ports and identifiers it is sent from, a multiple of that number.
    pub token: u16,
    /// What is asked.
    pub probe: Probe,
    /// How often.
    pub pace: Pace,
}

/// Why a check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing came in time.
    #[error("no answer in time")]
    Timeout,
    /// The server has nobody at this port (RFC 9293 3.10.7.1).
    #[error("connection refused")]
    Refused,
    /// The connection ended before there was an answer.
    #[error("connection closed without an answer")]
    Closed,
    /// Something came that is not HTTP.
    #[error("answer is not HTTP")]
    NotHttp,
    /// HTTP, and a status that is not right.
    #[error("status {0}")]
    Status(u16),
    /// Something came that is not TLS.
    #[error("answer is not TLS")]
    NotTls,
    /// The server knows only other versions, ciphers or groups than are known here.
    #[error("no TLS version, cipher or group in common")]
    Incompatible,
    /// The server ended the session, and said why (RFC 8446 6).
    #[error("TLS alert: {}", tls::words(*.0))]
    Alert(AlertDescription),
    /// What came is damaged, or against the rules of TLS.
    #[error("answer breaks the rules of TLS")]
    BrokenTls,
    /// The server's certificate was verified, and is not right.
    #[error("certificate {0}")]
    Certificate(CertificateFault),
    /// Nothing was damaged, and there was no end of it.
    #[error("too many bytes without an answer")]
    TooLong,
    /// The connection opened, and no TLS session in time.
    #[error("no end of the TLS handshake in time")]
    Stalled,
    /// The connection ended before there was a TLS session.
    #[error("connection closed in the TLS handshake")]
    ClosedInHandshake,
    /// A datagram that begins otherwise.
    #[error("unexpected answer")]
    Unexpected,
    /// It could not be sent: the link-layer address is not known.
    #[error("link-layer address not known")]
    Unresolved,
}

/// What is wrong with a certificate (RFC 5280 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// There is none.
    #[error("is missing")]
    Missing,
    /// It is none, or one of a kind that is not known here.
    #[error("cannot be read")]
    Unreadable,
    /// Its last day is over.
    #[error("has expired")]
    Expired,
    /// Its first day is to come.
    #[error("is not valid yet")]
    NotYetValid,
    /// No authority that is believed issued it.
    #[error("is of an unknown issuer")]
    UnknownIssuer,
    /// It does not have the name it was asked for.
    #[error("is for another name")]
    OtherName,
    /// It is for clients, for mail, for code.
    #[error("is not for servers")]
    OtherPurpose,
    /// Its signature, or what the server signed with its key, is not right.
    #[error("is not signed as it should be")]
    BadSignature,
    /// It is an authority's by its own words, as those that sign themselves often are, and is not listed itself.
    #[error("is an authority's, and not one that is believed")]
    Authority,
    /// Anything else, such as an old version.
    #[error("is not acceptable")]
    Unacceptable,
}

/// How a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// In force.
    pub health: Health,
    /// Since when.
    pub since: Instant,
    /// How often it was up and went down, or came up again.
    pub changes: u64,
    /// When the last check ended, and how: the time to its answer, or why it failed.
    pub last: Option<(Instant, Result<Duration, Failure>)>,
    /// Checks that ended, and those of them that failed.
    pub checks: (u64, u64),
}

/// What the machine wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send an IPv6 packet to a server.
    Transmit {
        /// Which.
        key: ServerKey,
        /// From the IPv6 header on.
        packet: Vec<u8>,
    },
    /// A server is as it was not before.
    Changed {
        /// Which.
        key: ServerKey,
        /// How it was.
        from: Health,
        /// How it is.
        to: Health,
        /// Why, if it is down.
        cause: Option<Failure>,
    },
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It belongs to a check that is under way.
    Taken,
    /// No check waits for it: it is late, or a lie.
    Unexpected,
    /// Its headers or checksum are wrong.
    Invalid,
}
