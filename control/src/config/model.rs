//! What a configuration says once it is known to be right: typed, complete, every reference an index.
//!
//! Made only by [`parse`](super::parse); never changed afterwards. Fields that the file may leave out hold their
//! default here. Sections and keys have the same names and order as in the file, so this is also the reference of the
//! format; `control/examples/` has files to start from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use dataplane::reason::PuntReason;
use dataplane::wire::ethernet::Mac;
use ipnet::{IpNet, Ipv6Net};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::lisp::Lisp;
use super::steering::Steering;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// `[system]`: this instance.
    pub system: System,
    /// `[workers]`: the threads that move packets.
    pub workers: Workers,
    /// `[[ports]]`, at least one; a port's position is its [`PortId`](dataplane::port::PortId).
    pub ports: Vec<Port>,
    /// Names of the routing tables, in the order in which interfaces first name them, after `main`, which is always 0.
    pub vrfs: Vec<String>,
    /// `[[interfaces]]`, at least one.
    pub interfaces: Vec<Interface>,
    /// `[[routes]]`: static routes.
    pub routes: Vec<Route>,
    /// `[[neighbors]]`: static neighbours.
    pub neighbors: Vec<Neighbor>,
    /// `[[npt66]]`: prefix translation (RFC 6296).
    pub npt66: Vec<Npt66>,
    /// `[icmp]`: how many ICMP errors are sent.
    pub icmp: Icmp,
    /// `[punt]`: how many packets reach the control thread.
    pub punt: Punt,
    /// `[ndp]`: neighbour discovery (RFC 4861) and ARP (RFC 826).
    pub ndp: Ndp,
    /// `[lisp]`: tunnels between EID sites (RFC 9300). Default: none.
    pub lisp: Option<Lisp>,
    /// `[steering]`, `[[pools]]`, `[[services]]`: flows to a service address, each to one of many servers.
    pub steering: Steering,
}

/// `[system]`. A change of any key needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// `name`: of this instance, in the socket's path and in DPDK's run-time files. Default `sextant`.
    pub name: String,
    /// `admin_socket`: absolute path of the unix socket. Default `/run/sextant/<name>.sock`.
    pub admin_socket: PathBuf,
    /// `huge_pages`. Default `auto`.
    pub huge_pages: HugePages,
    /// `memory_mib`: what DPDK may take, MiB. Default: what it needs.
    pub memory_mib: Option<u32>,
    /// `control_core`: core of the control thread. Default: wherever the kernel puts it.
    pub control_core: Option<usize>,
}

/// Where DPDK's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// Huge pages when there are enough, else ordinary memory.
    #[default]
    Auto,
    /// Huge pages, or do not start.
    Require,
    /// Ordinary memory.
    Off,
}

/// `[workers]`. A change of any key needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workers {
    /// `cores`: one worker on each. Default: the last core this process may use.
    pub cores: Vec<usize>,
    /// `poll`. Default `adaptive`.
    pub poll: Poll,
    /// `burst`: most frames taken from a queue at once, 1 to 64. Default 32.
    pub burst: usize,
    /// `mbufs`: packet buffers on each processor socket, 1,024 to 4,194,304. Default 16,384, or as many more as the
    /// descriptors of all queues can hold, to the next power of two.
    pub mbufs: u32,
}

/// What a worker without packets does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Poll {
    /// Asks again at once: lowest latency, the whole core.
    Busy,
    /// Sleeps for longer and longer, up to a bound.
    #[default]
    Adaptive,
}

/// One of `[[ports]]`: a device. A change of any key needs a restart, and so does a larger [`Port::mtu`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// `name`: unique among ports.
    pub name: String,
    /// `device`: what DPDK opens.
    pub device: Device,
    /// `rx_queues`: 1 to 64. Default: one per worker, as far as the device has them.
    pub rx_queues: Option<u16>,
    /// `tx_queues`: 1 to 64. Default: one per worker, as far as the device has them.
    pub tx_queues: Option<u16>,
    /// `rx_descriptors`: of each queue, 32 to 32,768. Default 1,024.
    pub rx_descriptors: u16,
    /// `tx_descriptors`: of each queue, 32 to 32,768. Default 1,024.
    pub tx_descriptors: u16,
    /// `promiscuous`: take frames for other MAC addresses from the device. Default false.
    pub promiscuous: bool,
    /// Derived: the largest MTU of its interfaces, bytes; 1,500 when it has none.
    pub mtu: u16,
}

/// A DPDK device: a PCI address or a virtual device, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    text: String,
    name_len: usize,
}

impl Device {
    /// `name` may stand alone or be followed by a comma and arguments.
    pub(super) fn new(name: &str, arguments: Option<&str>) -> Self {
        let text = match arguments {
            Some(arguments) => format!("{name},{arguments}"),
            None => name.to_owned(),
        };
        Self {
            text,
            name_len: name.len(),
        }
    }

    /// The whole string, as DPDK takes it; a PCI address has its domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the arguments: `0000:03:00.0`, `net_tap0`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(..self.name_len).unwrap_or(&self.text)
    }

    /// Whether DPDK makes the device (`--vdev`) instead of finding it on a bus (`-a`).
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.name().starts_with("net_")
    }

    /// Value of the first argument with this key: `iface`, `mac`.
    #[must_use]
    pub fn argument(&self, key: &str) -> Option<&str> {
        let arguments = self.text.get(self.name_len + 1..)?;
        let mut pairs = arguments.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| (name == key).then_some(value))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// One of `[[interfaces]]`: a port and the VLAN tags of its frames. Its position is its `InterfaceId`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// `name`: unique among interfaces. Default: the port's name.
    pub name: String,
    /// `port`: index into [`Config::ports`].
    pub port: usize,
    /// `vlan`: ids 1 to 4,094, outer first, at most two. Default: untagged.
    pub vlan: Vec<u16>,
    /// `mtu`: MTU of both families, 1,280 (the least of IPv6) to 9,600 bytes. Default 1,500.
    pub mtu: u16,
    /// `vrf`: index into [`Config::vrfs`]. Default `main`.
    pub vrf: usize,
    /// `addresses`: own addresses of both families, each with the length of its on-link prefix. Default: none.
    pub addresses: Vec<IpNet>,
    /// `link_local`: in fe80::/64. Default: made from the port's MAC address (RFC 4291 appendix A).
    pub link_local: Option<Ipv6Addr>,
}

/// One of `[[routes]]`. A prefix stands once in a VRF, and is not a connected one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// `prefix`: where it leads.
    pub prefix: IpNet,
    /// `vrf`: index into [`Config::vrfs`]. Default `main`.
    pub vrf: usize,
    /// `next_hops`, or `blackhole = true`, or `unreachable = true`: exactly one of them.
    pub target: Target,
}

impl Route {
    /// Whether it leads straight onto the link of this interface, to hosts that are neighbours.
    #[must_use]
    pub fn is_on_link(&self, interface: usize) -> bool {
        match &self.target {
            Target::NextHops(hops) => hops
                .iter()
                .any(|hop| hop.interface == interface && hop.via.is_none()),
            Target::Blackhole | Target::Unreachable => false,
        }
    }
}

/// What a route does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Sends it on; several hops share flows by weight. 1 to 64 of them.
    NextHops(Vec<NextHop>),
    /// Discards it silently.
    Blackhole,
    /// Discards it and answers "no route" (RFC 4443 3.1).
    Unreachable,
}

/// One of a route's `next_hops`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct NextHop {
    /// `via`: the router, of the prefix's family; `None`: the destinations themselves are on the link.
    pub via: Option<IpAddr>,
    /// `interface`: index into [`Config::interfaces`]. Default: the one on whose prefix `via` is.
    pub interface: usize,
    /// `weight`: share among the hops, 1 to 256. Default 1.
    pub weight: u16,
}

/// One of `[[neighbors]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Neighbor {
    /// `interface`: index into [`Config::interfaces`].
    pub interface: usize,
    /// `address`: link-local, or in a prefix of the interface; of either family.
    pub address: IpAddr,
    /// `mac`: unicast.
    #[serde(serialize_with = "as_text")]
    pub mac: Mac,
}

/// One of `[[npt66]]`: a prefix pair on an uplink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Npt66 {
    /// `name`: unique among rules.
    pub name: String,
    /// `interface`: the uplink, index into [`Config::interfaces`].
    pub interface: usize,
    /// `inside`: the site's prefix, at most 64 bits long.
    pub inside: Ipv6Net,
    /// `outside`: the provider's prefix, at most 64 bits long.
    pub outside: Ipv6Net,
    /// `proxy_nd`: answer neighbour solicitations for `outside` on the uplink. Default false.
    pub proxy_nd: bool,
    /// `zero_iid`. Default `drop`.
    pub zero_iid: ZeroIid,
}

/// What becomes of an interface identifier of all zeros (RFC 6296 3.7 as printed, or by erratum 8757).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroIid {
    /// As printed.
    #[default]
    Drop,
    /// As the erratum reads it.
    Translate,
}

/// `[icmp]`: limits of the ICMP errors each worker sends (RFC 4443 2.4 (f), RFC 1812 4.3.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Icmp {
    /// `errors_per_second`: 1 to 1,000,000. Default 1,000.
    pub errors_per_second: u32,
    /// `errors_burst`: at once, 1 to 1,000,000. Default 100.
    pub errors_burst: u32,
}

impl Default for Icmp {
    fn default() -> Self {
        Self {
            errors_per_second: 1000,
            errors_burst: 100,
        }
    }
}

/// A rate of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// `per_second`: packets a second, 1 to 10,000,000.
    pub per_second: u32,
    /// `burst`: packets at once, 1 to 1,000,000.
    pub burst: u32,
}

/// `[punt]`: rate of each [`PuntReason`], for the whole box; the keys are the reasons' names. A change needs a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Punt {
    rates: [Rate; PuntReason::COUNT],
}

impl Punt {
    /// The rate of packets handed over for this reason.
    #[must_use]
    pub fn rate(&self, reason: PuntReason) -> Rate {
        self.rates[reason.index()]
    }

    pub(super) fn set(&mut self, reason: PuntReason, rate: Rate) {
        self.rates[reason.index()] = rate;
    }
}

impl Default for Punt {
    /// `nd`, `neighbor_miss`, `echo`, `arp`, `map_cache_miss`, `dynamic_eid`, `lisp_control` and
    /// `path_mtu`: 1,000 a second, 200 at once; `local`: 100 and 50; `health`: 10,000 and 2,000.
    fn default() -> Self {
        let mut rates = [Rate {
            per_second: 1000,
            burst: 200,
        }; PuntReason::COUNT];
        // A check of HTTP is answered in five packets, and there may be a thousand servers.
        rates[PuntReason::Health.index()] = Rate {
            per_second: 10_000,
            burst: 2000,
        };
        rates[PuntReason::Local.index()] = Rate {
            per_second: 100,
            burst: 50,
        };
        Self { rates }
    }
}

impl Serialize for Punt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(PuntReason::COUNT))?;
        for reason in PuntReason::ALL {
            map.serialize_entry(reason.info().name, &self.rate(*reason))?;
        }
        map.end()
    }
}

/// `[ndp]`: neighbour discovery and ARP, the same for every interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ndp {
    /// `max_neighbors`: entries of one interface, 1 to 1,048,576. Default 8,192.
    pub max_neighbors: usize,
    /// `max_incomplete`: of them unresolved, at most `max_neighbors` (RFC 6583 6.2). Default 512, or `max_neighbors`
    /// where that is smaller.
    pub max_incomplete: usize,
    /// `queue_packets`: kept for one unresolved neighbour, 1 to 64 (RFC 4861 7.2.2). Default 3.
    pub queue_packets: usize,
    /// `retrans_timer_ms`: between solicitations, 10 to 60,000 ms. Default 1,000.
    #[serde(rename = "retrans_timer_ms", serialize_with = "as_milliseconds")]
    pub retrans_timer: Duration,
    /// `reachable_time_ms`: how long a confirmation holds, 1,000 to 3,600,000 ms. Default 30,000.
    #[serde(rename = "reachable_time_ms", serialize_with = "as_milliseconds")]
    pub reachable_time: Duration,
    /// `dad_transmits`: solicitations for an own address before it is used, 0 to 10; 0 disables (RFC 4862 5.1), and
    /// with it the three probes of an own IPv4 address, which take four to six seconds (RFC 5227 2.1). Default 1.
    pub dad_transmits: u32,
}

impl Default for Ndp {
    fn default() -> Self {
        Self {
            max_neighbors: 8192,
            max_incomplete: 512,
            queue_packets: 3,
            retrans_timer: Duration::from_millis(1000),
            reachable_time: Duration::from_millis(30_000),
            dad_transmits: 1,
        }
    }
}

fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(super) fn as_milliseconds<S: Serializer>(
    value: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(value.as_millis())
}

pub(super) fn as_seconds<S: Serializer>(
    value: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.as_secs())
}
