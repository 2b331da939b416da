//! What `show lisp PART` answers, but for the map-cache, which is read page by page ([`super::Mappings`]).
//!
//! A Map-Server without an edge answers with the same types what it has of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MapServer, Rloc};
use crate::proto::lisp::EidKey;
use crate::proto::lisp::xtr::Said;

/// `show lisp database`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispDatabase {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// Own EID prefixes, by instance, then by prefix.
    pub eids: Vec<OwnEid>,
    /// What is told of each of them: own RLOCs.
    pub rlocs: Vec<DatabaseRloc>,
    /// Its map-version (RFC 9302); 0: none.
    pub map_version: u16,
}

/// An own EID prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnEid {
    /// Its instance.
    pub instance: u32,
    /// The prefix.
    pub eid: String,
}

/// An own RLOC as others are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseRloc {
    /// The address.
    pub rloc: String,
    /// The lowest is used, 255 never.
    pub priority: u8,
    /// Share among those of the same priority.
    pub weight: u8,
    /// Whether it can be used; if not, others are told so (RFC 9301 5.4, R-bit).
    pub reachable: bool,
}

/// `show lisp registrations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispRegistrations {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// Map-Servers at which own EIDs are registered.
    #[serde(default)]
    pub map_servers: Vec<MapServer>,
    /// How many EID prefixes are registered at each.
    #[serde(default)]
    pub eids: usize,
    /// Of a Map-Server: what is registered with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<RegisteredPage>,
}

/// A page of what is registered with a Map-Server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredPage {
    /// EIDs that are registered at all.
    pub total: usize,
    /// What was asked for: by instance, IPv6 before IPv4, then by prefix; of one EID the newest first.
    pub registrations: Vec<RegisteredEid>,
    /// There may be more, behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_after: Option<EidKey>,
}

/// What an ETR registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredEid {
    /// Its instance.
    pub instance: u32,
    /// The EID prefix.
    pub eid: String,
    /// The site whose secret it was registered with.
    pub site: String,
    /// The ETR, as the source of its Map-Register.
    pub etr: String,
    /// When it runs out, seconds from now.
    pub expires_s: u32,
    /// Whether the Map-Server answers for the ETR.
    pub proxy_reply: bool,
    /// Whether its locators are merged with those of other ETRs.
    pub merge: bool,
    /// Where its packets go.
    pub locators: Vec<RegisteredLocator>,
}

/// A locator as it was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredLocator {
    /// The address.
    pub rloc: String,
    /// The lowest is used, 255 never.
    pub priority: u8,
    /// Share among those of the same priority.
    pub weight: u8,
    /// Whether its ETR can be reached by it (R-bit).
    pub reachable: bool,
}

/// `show lisp rlocs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispRlocs {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// Locators of the mappings in force, by address; the first ones where there are many.
    pub rlocs: Vec<Rloc>,
    /// How many there are.
    pub total: usize,
}

/// `lisp clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispCleared {
    /// Mappings that are forgotten.
    pub forgotten: usize,
}

/// `lig self`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispSelf {
    /// Own EID prefixes that were asked for, by instance, then by prefix.
    pub eids: Vec<SelfEid>,
    /// Further ones, which were not: there are too many.
    pub unasked: usize,
}

/// What the mapping system says of an own EID prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfEid {
    /// Its instance.
    pub instance: u32,
    /// The prefix.
    pub eid: String,
    /// Whether it is known as it is configured; absent: nobody answered.
    pub known: Option<bool>,
    /// What was said.
    pub said: Option<String>,
    /// How long the answer took, microseconds.
    pub round_trip_us: Option<u64>,
}

impl SelfEid {
    /// Of what was said.
    #[must_use]
    pub fn new(key: EidKey, said: Option<(Said, Duration)>) -> Self {
        let known = said.as_ref().map(|(said, _)| said.is_right());
        let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            instance: key.instance.get(),
            eid: key.eid.to_string(),
            known,
            round_trip_us: said.as_ref().map(|(_, time)| microseconds(*time)),
            said: said.map(|(said, _)| said.to_string()),
        }
    }
}

/// `show lisp statistics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispStatistics {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// Counters by name, in groups.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
}

/// `show lisp events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispEvents {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// The last ones, the latest last.
    pub events: Vec<LispEvent>,
    /// Older ones that were forgotten.
    pub forgotten: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispEvent {
    /// How long ago, milliseconds.
    pub age_ms: u64,
    /// What, and why.
    pub text: String,
}
