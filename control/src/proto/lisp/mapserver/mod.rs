//! Map-Server and Map-Resolver (RFC 9301 8): who may register what, who did, and the answers that follow from it.
//!
//! ```text
//! Map-Register -> rate -> parse -> site -> MAC -> nonce -> each record: allowed? -> database -> Map-Notify
//!                                                                                            -> old ETRs, if it moved
//! Map-Request  -> rate -> parse -> longest registered prefix --> an ETR wants us to answer: Map-Reply
//!    plain or                      |                        \-> else: on to one of its ETRs
//!  encapsulated                    none: negative Map-Reply for the least-specific prefix that holds no EID of a site
//! ```
//!
//! One machine is both, so a Map-Request needs no second hop. It has neither sockets nor a clock:
//! [`Machine::handle_inputs`] takes what came over UDP port 4342, [`Machine::poll_output`] says what to send. Nonces
//! outlive it: who runs it saves [`Machine::nonces`] and gives them back with [`Machine::restore_nonce`]; registrations may,
//! by [`Machine::save`] and [`Machine::restore`].

mod counters;
mod database;
mod limiter;
mod listing;
mod machine;
mod notices;
mod registers;
mod requests;
mod saved;
mod sites;
mod trie;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::wire::auth::{Algorithm, Refused, Secret};
use super::wire::{self, LocatorRecord};
use super::{Action, EidKey};

pub use counters::{Counter, Counters};
pub use listing::{Page, Wanted};
pub use machine::Machine;
pub use saved::Restored;
pub use sites::SavedNonce;

/// A rate and how much may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages per second.
    pub per_second: u32,
    /// Messages at once.
    pub burst: u32,
}

/// How it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who may register.
    pub sites: Vec<Site>,
    /// How long a registration holds without the T-bit (RFC 9301 8.2).
    pub registration_timeout: Duration,
    /// Most EIDs registered at a time.
    pub registrations_max: usize,
    /// Map-Requests of one source.
    pub requests: Rate,
    /// Map-Registers of one source.
    pub registers: Rate,
    /// Map-Replies to one RLOC.
    pub replies: Rate,
    /// The widest negative answer for IPv4 and for IPv6, as a prefix length: no table is the authority for everything.
    pub negative_shortest: [u8; 2],
    /// Whether there are sockets of IPv4 and of IPv6.
    pub families: [bool; 2],
    /// Own addresses: what seems to come from one of our own sockets would go round in circles.
    pub own_addresses: Vec<IpAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        let rate = Rate {
            per_second: 1000,
            burst: 1000,
        };
        Self {
            sites: Vec::new(),
            registration_timeout: Duration::from_secs(180),
            registrations_max: 4_000_000,
            requests: rate,
            registers: rate,
            replies: rate,
            negative_shortest: [8, 16],
            families: [true, true],
            own_addresses: Vec::new(),
        }
    }
}

/// Who registers with the same secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its name, by which nonces are kept.
    pub name: String,
    /// Its secrets by key id.
    pub keys: Vec<(u8, Secret)>,
    /// Methods it may use.
    pub algorithms: Vec<Algorithm>,
    /// Only MACs as the RFC has them: truncated, over the whole message.
    pub strict_mac: bool,
    /// Whether nonces must rise. Without that, a Map-Register that was overheard can be sent again by anybody.
    pub check_nonce: bool,
    /// Whether an EID of it that nobody registered is answered for as not authentic while somebody tries to register it in
    /// vain (RFC 9301 8.3). Anybody can bring that about.
    pub auth_failure: bool,
    /// What it may register.
    pub prefixes: Vec<Allowed>,
}

impl Site {
    /// A site that is strict and has nothing yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            keys: Vec::new(),
            algorithms: vec![Algorithm::HmacSha256, Algorithm::HkdfSha256],
            strict_mac: false,
            check_nonce: true,
            auth_failure: false,
            prefixes: Vec::new(),
        }
    }
}

/// A prefix a site may register. What lies within that of another site, if that is longer, is the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The prefix.
    pub key: EidKey,
    /// Whether prefixes within it may be registered too.
    pub more_specifics: bool,
    /// What is answered in place of what is registered of it (RFC 9301 8.3): of several sites, one is enough. Where an ETR
    /// answers itself for a prefix around it, that is what it says.
    pub action: Option<Action>,
}

impl Allowed {
    /// Of which what is registered is answered.
    #[must_use]
    pub const fn new(key: EidKey, more_specifics: bool) -> Self {
        Self {
            key,
            more_specifics,
            action: None,
        }
    }
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input<'a> {
    /// Source address and port.
    pub from: SocketAddr,
    /// Own address and port.
    pub to: SocketAddr,
    /// The message.
    pub bytes: &'a [u8],
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message from the control port.
    Send {
        /// The own address it should come from; none: whichever fits.
        from: Option<IpAddr>,
        /// Where to.
        to: SocketAddr,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Something for the log. At most [`REPORTS_PER_SECOND`] of them.
    Report(Report),
}

/// Reports of one second; a flood is counted, not told.
pub const REPORTS_PER_SECOND: u32 = 20;

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Report {
    /// A message that cannot be read.
    #[error("dropped a message from {from}: {error}")]
    Malformed {
        /// Its source.
        from: SocketAddr,
        /// What is wrong with it.
        error: wire::Error,
    },
    /// A message that is not authentic.
    #[error("dropped a message from {from} for site {site}: {why}")]
    NotAuthentic {
        /// Its source.
        from: SocketAddr,
        /// The site it was for.
        site: String,
        /// What is wrong with it.
        why: Refused,
    },
    /// A Map-Register with an old nonce.
    #[error(
        "dropped a Map-Register from {from} for site {site}: its nonce {nonce:#x} is not greater than {last:#x}"
    )]
    Replay {
        /// Its source.
        from: SocketAddr,
        /// The site it was for.
        site: String,
        /// Its nonce.
        nonce: u64,
        /// The last one.
        last: u64,
    },
    /// A record of what the site may not register.
    #[error("site {site} may not register {key}")]
    Refused {
        /// The site.
        site: String,
        /// What it wanted.
        key: EidKey,
    },
    /// An EID is at another ETR now.
    #[error("{key} moved to {to}")]
    Moved {
        /// The EID.
        key: EidKey,
        /// Its new ETR.
        to: IpAddr,
    },
    /// A Map-Notify nobody acknowledged.
    #[error("{to} did not acknowledge that EIDs moved away")]
    NotAcknowledged {
        /// The old ETR.
        to: SocketAddr,
    },
}

/// A registration, for who looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The EID prefix.
    pub key: EidKey,
    /// The site that registered it.
    pub site: String,
    /// The ETR, as the source of its Map-Register.
    pub etr: IpAddr,
    /// In how many seconds it runs out.
    pub expires_s: u32,
    /// Whether its ETR lets us answer.
    pub proxy_reply: bool,
    /// Whether its locators are merged with those of other ETRs.
    pub merge: bool,
    /// Where its packets go.
    pub locators: Vec<LocatorRecord>,
}
