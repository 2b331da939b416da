//! What `show services` answers.

use serde::{Deserialize, Serialize};

/// `show services`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Services {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// The name of this box.
    pub node: String,
    /// What became of the command that is run when a service is announced or withdrawn.
    pub on_change: OnChangeView,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Pools of some clients.
    pub pools: Vec<PoolBySourceView>,
    /// `flow` or `source`.
    pub affinity: String,
    /// Flows that may begin in a second.
    pub new_flows_per_second: Option<u32>,
    /// Flows that may go on at a time.
    pub flows_max: Option<u32>,
    /// Whether it is to be announced.
    pub announcement: AnnouncementView,
}

/// Whether a service is to be announced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnouncementView {
    /// `pending`: its servers were not checked yet; `announced`; `withdrawn`: none of them takes flows.
    pub state: String,
    /// Seconds since it is so.
    pub since_s: f64,
    /// How often it was announced or withdrawn.
    pub changes: u64,
}

/// The pool of some clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolBySourceView {
    /// Where they are.
    pub source: String,
    /// Its name.
    pub pool: String,
}

/// What became of `on_change`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnChangeView {
    /// How often it was run.
    pub runs: u64,
    /// How often it failed.
    pub failures: u64,
    /// How it failed last.
    pub last_failure: Option<String>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Its routing table.
    pub vrf: String,
    /// `l2`, `ip6ip6`, `ipip`, `gue`, `dnat` or `full-nat`.
    pub mode: String,
    /// What becomes of new flows when no server is up: `refuse`, `drop` or `fallback to` a pool.
    pub when_down: String,
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
    /// `up`, `drained`, `down` or `cut`.
    pub state: String,
    /// Whether state or weight were given at run time.
    pub overridden: bool,
    /// Its weight.
    pub weight: u16,
    /// Share of new flows, 0 to 1.
    pub share: f64,
    /// Whether its MAC address is known; absent where it is on no link of ours.
    pub resolved: Option<bool>,
    /// What checks say; absent where there are none.
    pub health: Option<HealthView>,
    /// Agents that say it is down.
    pub agents: Vec<AgentView>,
    /// When it goes down, if it is drained until then.
    pub drain: Option<DrainView>,
    /// Flows it has, as of the last census; absent before the first.
    pub flows_now: Option<u64>,
    /// What went to it.
    #[serde(flatten)]
    pub counts: ServerCounts,
}

/// An agent that says a server is down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its name.
    pub agent: String,
    /// Seconds for which that still holds; absent: until it says otherwise.
    pub expires_s: Option<f64>,
}

/// When a drained server goes down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainView {
    /// In so many seconds; absent: at no certain time.
    pub deadline_s: Option<f64>,
    /// When it has no flows.
    pub when_idle: bool,
}

/// What health checks say of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthView {
    /// `untried`, `up`, `down`, or `held`: it answers, and is held down for having gone down.
    pub state: String,
    /// Seconds since it is so.
    pub since_s: f64,
    /// How often it went down or came up again.
    pub changes: u64,
    /// Seconds since the last check ended; absent before the first.
    pub last_s: Option<f64>,
    /// Milliseconds to its answer, if it succeeded.
    pub answer_ms: Option<f64>,
    /// Why it failed, if it did.
    pub cause: Option<String>,
    /// Checks that ended.
    pub checks: u64,
    /// Those of them that failed.
    pub failures: u64,
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
