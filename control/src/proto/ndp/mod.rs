//! Neighbours of a router, of both families: ARP for IPv4 (RFC 826, RFC 1122 2.3.2) with conflict detection (RFC 5227),
//! and neighbour discovery for IPv6 (RFC 4861), with duplicate address detection (RFC 4862 5.4, RFC 7527), early entries
//! (RFC 9131), no fragments (RFC 6980), limits against scans (RFC 6583) and the multicast reports that let
//! solicitations through snooping switches (MLDv2, RFC 3810, listener part).
//!
//! One machine serves both, because what they have to decide is the same: whom to answer, whom to remember, whom to ask
//! again and when, what waits meanwhile, what a scan may cost. An ARP request is the solicitation of an IPv4 neighbour
//! and a reply its advertisement; the states of RFC 4861 7.3 keep IPv4 neighbours fresh too, by the unicast poll of
//! RFC 1122 2.3.2.1 (2). Only `arp`, `wire` and the few places where a family differs know which one it is.
//!
//! The machine answers solicitations for own addresses, for the outside prefixes of NPT66 rules on their uplink, and for
//! EIDs that are at other sites (proxy, RFC 4861 7.2.8, RFC 1027), resolves next hops for packets that wait, keeps
//! gateways resolved, watches reachability, and proves own addresses before it uses them.
//!
//! It is not: an owner of link-local IPv4 addresses (RFC 3927), a sender or reader of router advertisements or redirects (received ones are counted), an MLDv1 listener,
//! a responder for subnet-router anycast addresses. It cannot join the solicited-node groups of a whole proxied prefix,
//! so behind a switch that snoops MLD without flooding unknown groups such a prefix has to be routed to us instead.
//!
//! Called by the control thread only: [`Machine::handle_input`] and [`Machine::handle_arp`] with punted packets, [`Machine::resolve`] with packets
//! whose next hop is unknown, [`Machine::handle_timeout`] at [`Machine::poll_timeout`]; after each call the caller
//! drains [`Machine::poll_output`].
//!
//! ```text
//!   machine    one value for all interfaces: the calls above
//!   interface  one link: what a message or a deadline does to it
//!   nud        one neighbour: state x event -> state, action          (pure)
//!   address    one own address: duplicate address detection, announcing (pure)
//!   cache      the neighbours of a link: admission, eviction, queues
//!   mld        the groups of a link and what was reported of them
//!   wire       bytes <-> messages of IPv6, every validity check
//!   arp        the same of ARP
//! ```

mod address;
mod arp;
pub(in crate::proto) mod bucket;
mod cache;
mod interface;
mod machine;
mod mld;
mod nud;
mod report;
mod shared;
mod timers;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use dataplane::wire::ethernet::Mac;
use ipnet::IpNet;

pub use machine::Machine;
pub use report::{Counter, Counters, Event, Invalid};

/// Which interface; the value of the packet path's interface id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceIndex(pub u16);

impl fmt::Display for InterfaceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Timing and limits, the same for all interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Between solicitations of one resolution, probes of one address, unsolicited advertisements (RFC 4861 10).
    pub retrans_timer: Duration,
    /// How long an answer proves reachability; each time multiplied by a random factor from 0.5 to 1.5.
    pub reachable_time: Duration,
    /// How long an unused neighbour stays unasked, with the same random factor.
    pub stale_time: Duration,
    /// Probes of duplicate address detection; 0 turns it off. An IPv4 address is probed three times whatever number
    /// stands here (RFC 5227 1.1), unless it is 0.
    pub dad_transmits: u8,
    /// Longest random delay before the first message of an interface. RFC 4862 5.4.2 says one second SHOULD be used,
    /// against many machines starting at once; zero by default, because a router forwards nothing meanwhile.
    pub start_delay: Duration,
    /// Longest random delay of an answer for a proxied prefix (RFC 4861 7.2.7). Zero, the default, suits a sole proxy.
    pub proxy_delay: Duration,
    /// Neighbours of one interface; static ones and gateways are not counted.
    pub max_neighbors: usize,
    /// Neighbours of one interface being resolved; gateways are not counted.
    pub max_incomplete: usize,
    /// Packets that wait for one neighbour.
    pub queue_packets: usize,
    /// Packets that wait in all.
    pub max_queued_packets: usize,
    /// Resolutions begun a second for one prefix of an interface.
    pub resolutions_per_second: u32,
    /// And at once.
    pub resolutions_burst: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retrans_timer: Duration::from_secs(1),
            reachable_time: Duration::from_secs(30),
            stale_time: Duration::from_secs(60),
            dad_transmits: 1,
            start_delay: Duration::ZERO,
            proxy_delay: Duration::ZERO,
            max_neighbors: 8192,
            max_incomplete: 512,
            queue_packets: 3,
            max_queued_packets: 1024,
            resolutions_per_second: 1000,
            resolutions_burst: 512,
        }
    }
}

/// One interface as configured. Validated before: the machine takes it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Own link-layer address.
    pub mac: Mac,
    /// Own link-local address.
    pub link_local: Ipv6Addr,
    /// Own other addresses, with the prefix that is on-link.
    pub addresses: Vec<IpNet>,
    /// Further prefixes that are on-link: those of routes without a router.
    pub on_link: Vec<IpNet>,
    /// Prefixes answered for on behalf of others: outside prefixes of NPT66 rules, and EIDs that are at other sites.
    pub proxied: Vec<IpNet>,
    /// Of neighbours in these prefixes the caller wants to know whether they are there: [`Output::Heard`] and
    /// [`Output::Silent`].
    pub watched: Vec<IpNet>,
    /// Neighbours of either family that never expire and that no message changes.
    pub statics: Vec<(IpAddr, Mac)>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// Valid; it may still have been of no interest.
    Consumed,
    /// Discarded unread.
    Invalid(Invalid),
}

/// What the caller shall do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Send this packet, which starts behind the Ethernet header.
    Transmit {
        /// Where.
        interface: InterfaceIndex,
        /// To whom; the source is the interface's own.
        destination_mac: Mac,
        /// What it is: IPv6 or ARP.
        ether_type: u16,
        /// From the IPv6 or ARP header to the end.
        packet: Vec<u8>,
    },
    /// The usable link-layer addresses have changed: build the neighbour tables anew from [`Machine::neighbors`].
    /// Always comes before the packets that this allows to be sent.
    NeighborsChanged,
    /// The packet's neighbour is resolved: send it on.
    Ready(P),
    /// The packet's neighbour does not answer: tell its source (ICMPv6 type 1 code 3, RFC 4861 7.2.2; ICMP type 3
    /// code 1, RFC 1812 5.2.7.1).
    Failed(P),
    /// A watched neighbour spoke, and is known now.
    Heard {
        /// Where.
        interface: InterfaceIndex,
        /// Who.
        address: IpAddr,
    },
    /// A watched neighbour does not answer, or is not known any more.
    Silent {
        /// Where.
        interface: InterfaceIndex,
        /// Who.
        address: IpAddr,
    },
    /// For the log.
    Event(Event),
}

/// A packet that will not wait, and why. With [`RefusedReason::QueueFull`] it may be an older packet for the same
/// neighbour, which the one just given has replaced (RFC 4861 7.2.2).
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<P> {
    /// The packet: drop it.
    pub packet: P,
    /// Why.
    pub reason: RefusedReason,
}

/// Why a packet will not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedReason {
    /// Interface unknown or down.
    InterfaceDown,
    /// The address is not a neighbour's: not on-link there, or our own.
    NotOnLink,
    /// Too many packets wait, for this neighbour or in all.
    QueueFull,
    /// The neighbour cache is full of neighbours in use.
    CacheFull,
    /// Too many resolutions run.
    TooManyIncomplete,
    /// Too many resolutions were begun lately.
    RateLimited,
}

/// How a neighbour stands (RFC 4861 7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeighborState {
    /// Configured; does not change.
    Static,
    /// Being resolved.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Known, not proven lately.
    Stale,
    /// Used while stale; will be asked soon.
    Delay,
    /// Being asked.
    Probe,
    /// A gateway that does not answer.
    Failed,
}

impl NeighborState {
    /// Stable name: what `show neighbors` prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Delay => "delay",
            Self::Probe => "probe",
            Self::Failed => "failed",
        }
    }
}

/// One neighbour, as shown and as written to the packet path's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborView {
    /// Where.
    pub interface: InterfaceIndex,
    /// Who.
    pub address: IpAddr,
    /// Where to send; absent while nothing usable is known.
    pub mac: Option<Mac>,
    /// How it stands.
    pub state: NeighborState,
    /// Its last advertisement said that it is a router.
    pub is_router: bool,
    /// A next hop of a route.
    pub is_gateway: bool,
    /// When it came into this state; `None` for static ones.
    pub since: Option<Instant>,
    /// Packets that wait for it.
    pub queued: usize,
}

/// How an own address stands (RFC 4862 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressState {
    /// Duplicate address detection runs, or the link is down before it could: not used.
    Tentative,
    /// Ours.
    Preferred,
    /// Somebody else's: not used.
    Duplicate,
}

impl AddressState {
    /// Stable name: what `show` prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tentative => "tentative",
            Self::Preferred => "preferred",
            Self::Duplicate => "duplicate",
        }
    }
}
