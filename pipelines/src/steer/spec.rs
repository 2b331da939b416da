//! What the control thread says of services, pools and servers.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use dataplane::counters;
use ipnet::{Ipv4Net, Ipv6Net};

use super::limits::LIMITED_MAX;
use crate::tables::VrfId;

/// Most servers of all pools together: each has counters of its own.
pub const SERVERS_MAX: usize = counters::SERVERS_MAX;
/// Flows one worker remembers, unless the operator says otherwise.
pub const FLOWS_DEFAULT: u32 = 1 << 20;
/// Most of them.
pub const FLOWS_MAX: u32 = super::memory::FLOWS_MAX;

/// Most source addresses of all pools together.
pub const SOURCES_MAX: usize = super::sessions::SOURCES_MAX;

/// Everything there is to steer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Flows one worker remembers, a power of two.
    pub flows: u32,
    /// Decides where a flow stands in memory, so that nobody can aim at one place. Boxes that steer alike need not share it;
    /// another one forgets all flows.
    pub seed: u64,
    /// Who answers.
    pub pools: Vec<PoolSpec>,
    /// For which addresses.
    pub services: Vec<ServiceSpec>,
    /// From which addresses answers to health checks come.
    pub checked: Vec<(VrfId, Ipv6Addr)>,
}

/// An address, or a part of its ports, and the pool that answers for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Where clients are.
    pub vrf: VrfId,
    /// The service address, or all of a prefix.
    pub prefix: Ipv6Net,
    /// Which packets to it.
    pub protocol: Protocol,
    /// Which ports; none means all. Only of protocols that have some.
    pub ports: Vec<Ports>,
    /// Index into [`Settings::pools`].
    pub pool: usize,
    /// Other pools for clients of these prefixes, the longest first to match; no prefix stands twice.
    pub pools_by_source: Vec<(Ipv6Net, usize)>,
    /// What stays together.
    pub affinity: Affinity,
    /// How many flows may begin.
    pub limits: Limits,
}

/// How many flows of a service one worker lets begin: its share of what all may. What goes on is never stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// In one second of the clock; `None`: any.
    pub new_per_second: Option<u32>,
    /// Beside others that go on; `None`: any.
    pub flows: Option<u32>,
}

impl Limits {
    fn are_any(self) -> bool {
        self.new_per_second.is_some() || self.flows.is_some()
    }
}

impl Settings {
    /// Services with limits, in the order of their numbers, by their positions.
    pub fn limited(&self) -> impl Iterator<Item = usize> {
        let services = self.services.iter().enumerate();
        let limited = services.filter(|(_, service)| service.limits.are_any());
        limited.map(|(position, _)| position).take(LIMITED_MAX)
    }

    /// Every pool that may answer for a service: its own, those of some clients, and those that take their places.
    pub(super) fn pools_of(&self, service: &ServiceSpec) -> Vec<&PoolSpec> {
        let by_source = service.pools_by_source.iter().map(|(_, pool)| *pool);
        let mut found = Vec::new();
        let mut open: Vec<usize> = by_source.chain([service.pool]).collect();
        while let Some(number) = open.pop() {
            if found.contains(&number) {
                continue;
            }
            found.push(number);
            if let Some(WhenDown::Fallback(other)) =
                self.pools.get(number).map(|pool| pool.when_down)
            {
                open.push(other);
            }
        }
        found
            .into_iter()
            .filter_map(|number| self.pools.get(number))
            .collect()
    }
}

/// Ports from the first to the last.
pub type Ports = RangeInclusive<u16>;

/// An upper-layer protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Any there is.
    Any,
    /// The one with this number.
    Number(u8),
}

/// Which packets must reach one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Affinity {
    /// Those of a flow. Fragments follow their first one; those that come before it wait for it.
    #[default]
    Flow,
    /// Everything from one source address, fragments in any order too.
    Source,
}

/// Servers of one service, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name. Boxes that shall steer alike call it alike.
    pub name: String,
    /// Where its servers are.
    pub vrf: VrfId,
    /// How packets reach them.
    pub mode: Mode,
    /// Of full NAT: addresses from which servers are asked, routed to us. At most [`SOURCES_MAX`] of all pools.
    pub sources: Vec<Ipv6Addr>,
    /// Cells of the Maglev table, a prime.
    pub table_size: u32,
    /// The servers; no address stands twice.
    pub servers: Vec<ServerSpec>,
    /// What becomes of new flows when no server is up.
    pub when_down: WhenDown,
}

/// What becomes of new flows of a pool none of whose servers is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenDown {
    /// TCP is reset, others are told by ICMPv6, within the rate of errors.
    #[default]
    Refuse,
    /// Nothing is said.
    Drop,
    /// They go to this pool, an index into [`Settings::pools`], of the same mode and VRF; from there on likewise.
    Fallback(usize),
}

/// How packets reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By its MAC address, and it answers the client itself: it is on a link of ours, and has the service address without announcing it there.
    L2,
    /// In an IPv6 packet to its own address (RFC 2473), from this address of ours; it answers the client itself.
    Ip6Ip6 {
        /// Outer source.
        source: Ipv6Addr,
    },
    /// In an IPv4 packet to its own address (RFC 4213).
    IpIp {
        /// Outer sources: each flow has one of them, so that the server's card tells flows apart.
        source: Ipv4Net,
    },
    /// In a UDP datagram over IPv6 to its own address, behind a GUE header of variant 0.
    Gue {
        /// Outer source.
        source: Ipv6Addr,
        /// The server's UDP port.
        port: u16,
        /// Whether the UDP checksum is computed, or 0 (RFC 6935).
        checksum: bool,
    },
    /// Its own address, and this port, take the place of the service's. What it answers comes through us, and by an
    /// interface by which it is reached. Services are single addresses; a server's address, protocol and port belong to one.
    Dnat {
        /// The server's port; `None`: the same as the service's. Where it is another, services have one port.
        port: Option<u16>,
    },
    /// The same, and one of [`PoolSpec::sources`] with a port takes the client's place: what the server answers comes to us
    /// from wherever it is. Of TCP, UDP, UDP-Lite and ICMPv6 echo.
    FullNat {
        /// The server's port; `None`: the same as the service's.
        port: Option<u16>,
    },
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its own address; an IPv4 address, of [`Mode::IpIp`], stands as IPv4-mapped (RFC 4291 2.5.5.2).
    pub address: Ipv6Addr,
    /// Its share of new flows among those of the pool, 1 to 256.
    pub weight: u16,
    /// Whether it gets any.
    pub state: State,
}

impl State {
    /// Whether a server keeps the flows it has.
    #[inline(always)]
    pub(crate) fn keeps_flows(self) -> bool {
        matches!(self, Self::Up | Self::Drained)
    }
}

/// What a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// New flows and those it has.
    #[default]
    Up,
    /// Only those it has.
    Drained,
    /// Nothing: the flows it had go to others.
    Down,
    /// Nothing: the TCP connections it had are reset, other flows go to others.
    Cut,
}
