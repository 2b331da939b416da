//! Services, pools and servers, as the configuration says.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::Serialize;

use super::health::Health;

/// The UDP port for GUE that IANA has assigned.
pub const GUE_PORT: u16 = 6080;

/// `[steering]`, `[[pools]]` and `[[services]]`: anycast steering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Steering {
    /// `flows`: flows one worker remembers, a power of two from 1,024 to 16,777,216; 8 bytes each, taken as flows come.
    /// Default 1,048,576. A change forgets flows.
    pub flows: u32,
    /// `node`: the name of this box that is shown, and given to `on_change` (RFC 4786 4.9). Default: that of the machine.
    pub node: Option<String>,
    /// `announce_delay`: seconds for which a service that was withdrawn has servers before it is announced again. Default
    /// 10.
    pub announce_delay: Duration,
    /// `on_change`: program, with an absolute path, and its arguments; run when a service is announced or withdrawn.
    /// Default: none.
    pub on_change: Vec<String>,
    /// `[[pools]]`.
    pub pools: Vec<Pool>,
    /// `[[services]]`.
    pub services: Vec<Service>,
}

/// One of `[[pools]]`: who answers for services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// `name`: unique among pools, and the same on all boxes that shall steer alike.
    pub name: String,
    /// `vrf`: where its servers and its services are, index into [`Config::vrfs`](super::Config::vrfs). Default `main`.
    pub vrf: usize,
    /// `mode`: how packets reach the servers, and whether these answer clients themselves. Default `l2`.
    pub mode: Mode,
    /// `source`: outer source of `ip6ip6` and `gue`, an own address; of `ipip` an own address, or a prefix: each flow has one
    /// of its addresses then, so that servers' cards tell flows apart.
    pub source: Option<IpNet>,
    /// `port`: of `gue`, the servers' UDP port, 6080 unless given. Of `dnat` and `full-nat`, the servers' port, where it is
    /// another than the service's; services by `dnat` have one port then.
    pub port: Option<u16>,
    /// `udp_checksum`: of `gue`, whether the outer UDP checksum is computed, or 0 (RFC 6935). Default true.
    pub udp_checksum: bool,
    /// `sources`: of `full-nat`, addresses from which servers are asked, 1 to 32 of all pools together; routed to this box,
    /// or on a link of it.
    pub sources: Vec<Ipv6Addr>,
    /// `table_size`: cells of the Maglev table, a prime from 251 to 655,373. Default 65,537.
    pub table_size: u32,
    /// `servers`: 1 to 1,024, of all pools together.
    pub servers: Vec<Server>,
    /// `health`: how they are checked. Default: not at all.
    pub health: Option<Health>,
    /// `when_down`: what becomes of new flows when no server is up. Default `refuse`.
    pub when_down: WhenDown,
}

/// What becomes of new flows of a pool without a server that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// TCP is reset, others are told by ICMPv6.
    #[default]
    Refuse,
    /// They are dropped without a word.
    Drop,
    /// `fallback`: they go to this pool, index into [`Steering::pools`].
    Fallback(usize),
}

/// How packets reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By its MAC address; the service address is on the server, where nobody answers solicitations for it.
    #[default]
    L2,
    /// In an IPv6 packet to its own address (RFC 2473).
    Ip6Ip6,
    /// In an IPv4 packet to its own address (RFC 4213).
    Ipip,
    /// In a UDP datagram over IPv6 to its own address, behind a GUE header of variant 0.
    Gue,
    /// Translated to its own address, and to `port`; it answers through this box.
    Dnat,
    /// The same, and from one of `sources`: it answers to this box, wherever it is.
    #[serde(rename = "full-nat")]
    FullNat,
}

impl Mode {
    /// The word of the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Ip6Ip6 => "ip6ip6",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Dnat => "dnat",
            Self::FullNat => "full-nat",
        }
    }
}

/// One of a pool's `servers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// `name`: unique in the pool. Default: the address.
    pub name: String,
    /// `address`: its own, on a link of the VRF where the mode is `l2`, IPv4 where it is `ipip`; once in a pool. IPv4 stands
    /// as IPv4-mapped here (RFC 4291 2.5.5.2).
    #[serde(serialize_with = "plain")]
    pub address: Ipv6Addr,
    /// `weight`: share of new flows among those of the pool, 1 to 256. Default 1.
    pub weight: u16,
    /// `drained`: keeps its flows, gets no new ones. Default false.
    pub drained: bool,
    /// Derived: the interface on whose link it is, index into [`Config::interfaces`](super::Config::interfaces).
    pub interface: Option<usize>,
}

impl Server {
    /// Its address as others write it.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        IpAddr::V6(self.address).to_canonical()
    }
}

fn plain<S: serde::Serializer>(address: &Ipv6Addr, serializer: S) -> Result<S::Ok, S::Error> {
    IpAddr::V6(*address).to_canonical().serialize(serializer)
}

/// One of `[[services]]`: packets that a pool answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// `name`: unique among services.
    pub name: String,
    /// `prefix`: the service address with /128, or a prefix; routed to this box, on no link of it.
    pub prefix: Ipv6Net,
    /// `protocol`: `tcp`, `udp`, `udp-lite`, `sctp`, `icmpv6` or `any`. Default `any`.
    pub protocol: Protocol,
    /// `ports`: numbers such as 443 and ranges such as "8000-8999", at most 64. Default: all.
    pub ports: Vec<Ports>,
    /// `pool`: index into [`Steering::pools`].
    pub pool: usize,
    /// `pools`: other pools for clients of some prefixes, of which the longest decides. Default: none.
    pub pools: Vec<PoolBySource>,
    /// `new_flows_per_second`: of all workers together, each of which has its share. Default: any.
    pub new_flows_per_second: Option<u32>,
    /// `flows_max`: flows that go on at a time, likewise. Default: any.
    pub flows_max: Option<u32>,
    /// `affinity`: what stays together. Default `flow`.
    pub affinity: Affinity,
}

/// One of a service's `pools`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PoolBySource {
    /// `source`: where clients are.
    pub source: Ipv6Net,
    /// `pool`: index into [`Steering::pools`].
    pub pool: usize,
}

/// Which packets of a service address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
    /// SCTP.
    Sctp,
    /// ICMPv6: echo; errors belong to the flows they are about.
    Icmpv6,
    /// All there are.
    #[default]
    Any,
}

impl Protocol {
    /// Its number; `None`: any.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::Tcp => Some(6),
            Self::Udp => Some(17),
            Self::UdpLite => Some(136),
            Self::Sctp => Some(132),
            Self::Icmpv6 => Some(58),
            Self::Any => None,
        }
    }

    /// Whether its packets have ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::UdpLite | Self::Sctp)
    }

    /// The word of the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udp-lite",
            Self::Sctp => "sctp",
            Self::Icmpv6 => "icmpv6",
            Self::Any => "any",
        }
    }
}

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl Serialize for Ports {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What goes to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// A flow: addresses, protocol and ports. Fragments follow their first one.
    #[default]
    Flow,
    /// All flows of a source address, and fragments in any order.
    Source,
}
