//! What `show lisp PART` answers, but for the map-cache, which is read page by page ([`super::Mappings`]).
//!
//! A Map-Server without an edge answers with the same types what it has of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MapServer, Rloc};

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
