//! What `show lisp` and `map show` answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::proto::lisp::EidKey;

/// `show lisp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lisp {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// Whether the configuration has `[lisp]`; if not, everything below is empty.
    pub configured: bool,
    /// `itr`, `etr`, `pitr`, `petr`, `rtr`.
    pub roles: Vec<String>,
    /// Routing table of the underlay.
    pub vrf: String,
    /// `drop`, `hold`, `native` or `petr`.
    pub miss: String,
    /// Own RLOCs.
    pub own_rlocs: Vec<OwnRloc>,
    /// Locators of the mappings, by address; the first ones where there are many.
    pub rlocs: Vec<Rloc>,
    /// How many there are.
    pub rlocs_total: usize,
    /// By number.
    pub instances: Vec<LispInstance>,
    /// Mappings in force.
    pub mappings: usize,
    /// Of them, those added at run time.
    pub mappings_added: usize,
    /// Mappings that were learned, in force or behind others.
    #[serde(default)]
    pub mappings_learned: usize,
    /// Who is asked for mappings.
    #[serde(default)]
    pub map_resolvers: Vec<String>,
    /// EIDs and prefixes that were asked for and not answered yet.
    #[serde(default)]
    pub requests_pending: usize,
    /// Where own EIDs are registered.
    #[serde(default)]
    pub map_servers: Vec<MapServer>,
    /// Control messages by what became of them.
    #[serde(default)]
    pub control_counters: BTreeMap<String, u64>,
    /// EIDs that were missed lately, the latest first; the first ones where there are many.
    pub misses: Vec<RecentMiss>,
    /// EIDs that are remembered as missed.
    pub misses_remembered: usize,
    /// Misses, packets that waited, and limits that were met.
    pub miss_counters: BTreeMap<String, u64>,
}

/// A Map-Server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapServer {
    /// Its address.
    pub address: String,
    /// Whether it confirmed the registration, and keeps it.
    pub registered: bool,
    /// How long ago it last confirmed one, seconds; absent: never.
    pub notified_s: Option<u64>,
    /// Map-Registers that were sent to it.
    pub sent: u64,
}

/// An own RLOC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRloc {
    /// The address.
    pub address: String,
    /// The interface that has it.
    pub interface: String,
    /// State of the address: `tentative`, `preferred`, `duplicate` or `unknown`.
    pub state: String,
    /// Whether it can be used: the address is ours and the link is up.
    pub usable: bool,
}

/// A locator of some mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rloc {
    /// The address.
    pub address: String,
    /// Mappings that name it.
    pub mappings: usize,
    /// `up`; `down`: taken out of use by hand, or silent to probes; `unreachable`: the underlay does not lead to it;
    /// `path_too_small`: the path does not carry what every IPv6 host may send.
    pub state: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// How long its state has been so, milliseconds.
    #[serde(default)]
    pub since_ms: u64,
    /// The last round trip of a probe, microseconds; absent: none was answered.
    #[serde(default)]
    pub round_trip_us: Option<u64>,
    /// Probes that were sent to it.
    #[serde(default)]
    pub probes_sent: u64,
    /// Of them, those that were answered.
    #[serde(default)]
    pub probes_answered: u64,
    /// What was learned of the path, bytes; absent: nothing.
    #[serde(default)]
    pub path_mtu: Option<u16>,
    /// The interface packets to it leave by; absent: the underlay does not lead to it.
    pub interface: Option<String>,
    /// The router on the way to it; absent: it is on the link.
    pub via: Option<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LispInstance {
    /// Its number.
    pub id: u32,
    /// Its routing table.
    pub vrf: String,
    /// Own EID prefixes.
    pub eids: Vec<String>,
    /// Where a destination without a mapping is a miss.
    pub map_request: Vec<String>,
    /// Mappings in force.
    pub mappings: usize,
}

/// An EID that was missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentMiss {
    /// Where it was looked up.
    pub instance: u32,
    /// The EID.
    pub eid: String,
    /// Who asked first.
    pub source: String,
    /// Packets.
    pub packets: u64,
    /// How long ago the last one came, milliseconds.
    pub age_ms: u64,
    /// Packets that wait.
    pub waiting: usize,
}

/// `map show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// By instance, then by prefix.
    pub mappings: Vec<MappingView>,
    /// Where the next page begins, if there is one.
    pub more_after: Option<EidKey>,
}

/// A mapping that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingView {
    /// Its instance.
    pub instance: u32,
    /// Its EID prefix.
    pub eid: String,
    /// `static`: of the configuration; `admin`: added at run time; `learned`: of the mapping system.
    pub source: String,
    /// How long a learned one holds, seconds.
    #[serde(default)]
    pub expires_s: Option<u64>,
    /// What becomes of packets, for a negative mapping.
    pub action: Option<String>,
    /// Where they go otherwise.
    pub locators: Vec<LocatorView>,
    /// Its map-version; 0: none.
    pub map_version: u16,
    /// How long ago a packet was last known to have used it, seconds; absent: never.
    pub used_s: Option<u64>,
}

/// A locator of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocatorView {
    /// The address.
    pub rloc: String,
    /// The lowest is used, 255 never.
    pub priority: u8,
    /// Share among those of the same priority.
    pub weight: u8,
    /// Whether the mapping says that it may be used.
    pub up: bool,
    /// `up`; `down`: taken out of use by hand, here or everywhere, or silent to probes; `unreachable`: the underlay does not lead to it;
    /// `pending`: the packet path does not know it yet.
    pub state: String,
    /// Of 64 flows of the mapping, those that go there now.
    pub share: u8,
}

/// `map add`, `map del`, `map rloc`, `map load`: what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapChanged {
    /// Changes that were made.
    pub changes: usize,
    /// Mappings in force afterwards.
    pub mappings: usize,
    /// Mappings that name a locator whose state was changed.
    pub concerned: usize,
}
