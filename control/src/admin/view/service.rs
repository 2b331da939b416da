//! What `show services` answers.

use serde::{Deserialize, Serialize};

/// `show services`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Services {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// In the order of the configuration.
    pub services: Vec<ServiceView>,
    /// In the order of the configuration.
    pub pools: Vec<PoolView>,
    /// Flows one worker remembers at most.
    pub flows_max: u32,
    /// Flows remembered in the place of others of which only one packet had come.
    pub displaced: u64,
    /// Packets of flows that were not remembered, for want of room.
    pub stateless: u64,
    /// Flows led to another server, because theirs was down or gone.
    pub moved: u64,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// The service address.
    pub prefix: String,
    /// `tcp`, `udp`, `udp-lite`, `sctp`, `icmpv6` or `any`.
    pub protocol: String,
    /// Ports and ranges; none means all.
    pub ports: Vec<String>,
    /// Name of its pool.
    pub pool: String,
    /// `flow` or `source`.
    pub affinity: String,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Its routing table.
    pub vrf: String,
    /// `l2`, `ip6ip6`, `dnat` or `full-nat`.
    pub mode: String,
    /// Cells of the Maglev table.
    pub table_size: u32,
    /// Equal on boxes that steer alike.
    pub digest: String,
    /// In the order of the configuration.
    pub servers: Vec<ServerView>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: String,
    /// `up`, `drained` or `down`.
    pub state: String,
    /// Whether state or weight were given at run time.
    pub overridden: bool,
    /// Its weight.
    pub weight: u16,
    /// Share of new flows, 0 to 1.
    pub share: f64,
    /// Whether its MAC address is known; absent where it is on no link of ours.
    pub resolved: Option<bool>,
    /// What went to it.
    #[serde(flatten)]
    pub counts: ServerCounts,
}

/// What went to a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCounts {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames they came in.
    pub bytes: u64,
    /// Flows that began, or came from another server.
    pub flows: u64,
}
