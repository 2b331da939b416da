//! What the answers hold: one type for each subject, written by the instance and read by `sextant show`.
//!
//! Names of fields are the documented JSON. Times are of the instance's monotonic clock, in nanoseconds since it
//! started, so that a rate is the difference of two answers divided by the difference of their times. `Option` is absent
//! or unknown, and stands in JSON as null.

mod lisp;
mod lisp_parts;
mod service;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use lisp::{
    Lisp, LispInstance, LocatorView, MapChanged, MapServer, MappingView, Mappings, OwnRloc,
    RecentMiss, Rloc,
};
pub use lisp_parts::{
    DatabaseRloc, LispCleared, LispDatabase, LispEvent, LispEvents, LispRegistrations, LispRlocs,
    LispSelf, LispStatistics, OwnEid, RegisteredEid, RegisteredLocator, RegisteredPage, SelfEid,
};
pub use service::{
    AgentView, AnnouncementView, DrainView, HealthView, OnChangeView, PoolBySourceView, PoolView,
    ServerCounts, ServerView, ServiceView, Services,
};

/// `show instance`, and the answer to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Nanoseconds since it started.
    pub monotonic_ns: u64,
    /// Its name.
    pub name: String,
    /// Version of Sextant.
    pub version: String,
    /// What moves the packets: DPDK and its version.
    pub engine: String,
    /// Where packet memory comes from.
    pub memory: String,
    /// Process id.
    pub pid: u32,
    /// Its configuration file.
    pub config: String,
    /// Configurations applied since it started, the first included.
    pub configurations_applied: u64,
    /// Configurations refused since it started.
    pub configurations_refused: u64,
    /// Bugs of the control thread that were survived.
    pub panics: u64,
    /// Table sets published to the workers.
    pub publications: u64,
    /// Replaced table sets that some worker may still use.
    pub publications_pending: u64,
    /// Bytes of the prefix tables.
    pub fib_bytes: u64,
}

/// `show ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// In the order of the configuration.
    pub ports: Vec<Port>,
}

/// A port: the device, and what went through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The device.
    pub device_string: String,
    /// The driver that runs it.
    pub driver: String,
    /// Its MAC address.
    pub mac: String,
    /// Its link.
    pub link: Link,
    /// IP MTU it was opened for, bytes.
    pub mtu: u16,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// Processor socket; unknown for virtual devices.
    pub socket: Option<u32>,
    /// What went through it.
    #[serde(flatten)]
    pub counters: PortCounters,
}

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Whether it carries frames.
    pub up: bool,
    /// Speed, Mbit/s.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// What went through a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCounters {
    /// Its name.
    pub name: String,
    /// Packets the workers received.
    pub rx_packets: u64,
    /// Bytes of them, without FCS.
    pub rx_bytes: u64,
    /// Packets the device took from the workers.
    pub tx_packets: u64,
    /// Bytes of them, without FCS.
    pub tx_bytes: u64,
    /// The device's own counters.
    pub device: BTreeMap<String, u64>,
}

/// `show interfaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// In the order of the configuration.
    pub interfaces: Vec<Interface>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: String,
    /// VLAN ids, outer first.
    pub vlan: Vec<u16>,
    /// Its routing table.
    pub vrf: String,
    /// Whether packets may leave by it.
    pub up: bool,
    /// Its MAC address.
    pub mac: String,
    /// IP MTU, bytes.
    pub mtu: u16,
    /// Own addresses with their prefix lengths, the link-local one last.
    pub addresses: Vec<Address>,
    /// Neighbours known.
    pub neighbors: usize,
    /// NPT66 rules that have it as their uplink.
    pub npt66: Vec<String>,
}

/// An own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Address and prefix length.
    pub address: String,
    /// `tentative`, `preferred` or `duplicate`.
    pub state: String,
}

/// `show workers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workers {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// By index.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// Its core; absent: wherever the kernel puts it.
    pub core: Option<usize>,
    /// `running`, `stopped` or `dead`.
    pub state: String,
    /// How often it panicked, and went on or died.
    #[serde(default)]
    pub panics: u64,
    /// What the last panic said.
    #[serde(default)]
    pub cause: Option<String>,
    /// Rounds over all its queues.
    pub polls: u64,
    /// Rounds that found a frame.
    pub busy_polls: u64,
    /// Received from devices.
    pub rx: u64,
    /// Taken by devices.
    pub tx: u64,
    /// From the control thread.
    pub injected: u64,
    /// Taken over from other workers.
    pub spread_in: u64,
    /// Handed to other workers.
    pub spread_out: u64,
    /// The graph, in the order of a packet's way.
    pub nodes: Vec<Node>,
}

/// What one node of the graph did in one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Batches.
    pub calls: u64,
    /// Frames in them.
    pub frames: u64,
}

/// `show routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// By VRF, then by prefix.
    pub routes: Vec<Route>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its routing table.
    pub vrf: String,
    /// Where it leads.
    pub prefix: String,
    /// Where it comes from: `static`, `connected`, `local` or `npt66`.
    pub source: String,
    /// What it does: `forward`, `receive`, `translate`, `blackhole` or `unreachable`.
    pub action: String,
    /// Where it forwards to.
    pub next_hops: Vec<NextHop>,
}

/// One way of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// The interface it leaves by.
    pub interface: String,
    /// The router; absent: the destinations are on the link.
    pub via: Option<String>,
    /// Share among the route's hops.
    pub weight: u16,
    /// `resolved`, `unresolved`, `on_link` or `down`.
    pub state: String,
    /// MAC address of the router.
    pub mac: Option<String>,
}

/// `show neighbors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbors {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// By interface, then by address.
    pub neighbors: Vec<Neighbor>,
    /// What neighbour discovery and ARP did.
    pub counters: BTreeMap<String, u64>,
    /// Messages discarded as invalid, by reason.
    pub invalid: BTreeMap<String, u64>,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Where.
    pub interface: String,
    /// Who.
    pub address: String,
    /// Its MAC address, when known.
    pub mac: Option<String>,
    /// `static`, `incomplete`, `reachable`, `stale`, `delay`, `probe` or `failed`.
    pub state: String,
    /// It says that it is a router.
    pub router: bool,
    /// A route goes through it.
    pub gateway: bool,
    /// How long it has been in this state, milliseconds.
    pub age_ms: Option<u64>,
    /// Packets that wait for it.
    pub queued: usize,
}

/// `show npt66`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Npt66 {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// In the order of the configuration.
    pub npt66: Vec<Rule>,
}

/// An NPT66 rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its uplink.
    pub interface: String,
    /// The site's prefix.
    pub inside: String,
    /// The provider's prefix.
    pub outside: String,
    /// Whether solicitations for the outside prefix are answered.
    pub proxy_nd: bool,
    /// `drop` or `translate`.
    pub zero_iid: String,
    /// What it translated.
    #[serde(flatten)]
    pub counters: RuleCounters,
}

/// What an NPT66 rule translated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounters {
    /// Its name.
    pub name: String,
    /// Packets from inside to outside.
    pub out_packets: u64,
    /// Bytes of them.
    pub out_bytes: u64,
    /// Packets from outside to inside.
    pub in_packets: u64,
    /// Bytes of them.
    pub in_bytes: u64,
}

/// `show drops`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// Every reason, those that never happened too.
    pub drops: Vec<Count>,
    /// Packets handed to the control thread.
    pub punts: Vec<Count>,
    /// What the control thread then did not use.
    pub control: Vec<Count>,
}

/// One reason and how often it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Stable name.
    pub name: String,
    /// One line for a person.
    pub text: String,
    /// The clause that asks for it, or `-`.
    pub rfc: String,
    /// Packets.
    pub count: u64,
}

/// `show counters`: everything that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Nanoseconds since the instance started.
    pub monotonic_ns: u64,
    /// Sums over all workers: `rx + injected + generated = tx + drops + punts` once nothing moves.
    pub totals: Totals,
    /// By port.
    pub ports: Vec<PortCounters>,
    /// By reason.
    pub drops: Vec<Count>,
    /// By reason.
    pub punts: Vec<Count>,
    /// Punted packets the control thread had no use for, by reason.
    pub control: Vec<Count>,
    /// By worker.
    pub workers: Vec<Worker>,
    /// By rule.
    pub npt66: Vec<RuleCounters>,
    /// What neighbour discovery and ARP did.
    pub ndp: BTreeMap<String, u64>,
}

/// Sums over all workers, packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Received.
    pub rx: u64,
    /// From the control thread: its own packets, and those it handed back.
    pub injected: u64,
    /// ICMP errors, further fragments of a packet, and notes of misses made.
    pub generated: u64,
    /// Taken by devices.
    pub tx: u64,
    /// Dropped.
    pub drops: u64,
    /// Handed to the control thread.
    pub punts: u64,
    /// ICMP errors not made because of their rate limit.
    pub errors_limited: u64,
    /// Encapsulated by LISP; they are counted as sent, too.
    #[serde(default)]
    pub encapsulated: u64,
    /// Decapsulated by LISP.
    #[serde(default)]
    pub decapsulated: u64,
}

/// `reload`: what was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file.
    pub config: String,
    /// What differs, one line each; empty: nothing.
    pub changes: Vec<String>,
}

/// Answer to `records`: steps of traced packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Steps, in order within each packet.
    pub steps: Vec<Step>,
    /// Packets wanted.
    pub wanted: u32,
    /// Packets seen so far.
    pub seen: u32,
    /// Steps lost because the client did not keep up.
    pub lost: u64,
}

/// What one node did with one traced packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Number of the packet, from 1.
    pub packet: u32,
    /// The worker it went through.
    pub worker: usize,
    /// The node.
    pub node: String,
    /// What the node decided.
    pub verdict: String,
    /// Length of the frame after the node, bytes.
    pub length: u16,
    /// The packet after the node, in words.
    pub summary: String,
    /// The first bytes of the frame, hexadecimal.
    pub bytes: String,
}
