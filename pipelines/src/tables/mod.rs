//! Everything one batch may look at, and what the control thread makes it with.
//!
//! [`Tables`] are built whole by a [`Builder`], published, then only read. Small by design: what a packet needs is one
//! line of an interface, one of a next hop and the prefix table. The prefix table alone is too large to be made anew for
//! each change: all versions of the tables share it, and the [`Rib`] changes it in place.

mod builder;
mod rib;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::frame::Frame;
use dataplane::port::PortId;
use dataplane::reason::DropReason;
use dataplane::table::exact::ExactTable;
use dataplane::table::lpm::{View4, View6};
use dataplane::wire::ethernet::Mac;
use ipnet::IpNet;

pub use builder::Builder;
pub use rib::Rib;

use crate::fib::{self, Kind, NextHop};
use crate::ingress::Expected;
use crate::lisp::view::Lisp;
use crate::meta::Meta;
use crate::npt66::{Rule, RuleSet};
use crate::steer::view::Steer;

/// A logical interface: a port and the VLAN tags of its frames. Numbered in the order they were given to the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u16);

/// A routing table of its own. VRF 0 is the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VrfId(pub u16);

/// An interface, as the control thread describes it.
#[derive(Debug, Clone)]
pub struct InterfaceSpec {
    /// The port.
    pub port: PortId,
    /// VLAN ids, outer first, at most two; two mean an 802.1ad service tag outside an 802.1Q tag.
    pub vlan: Vec<u16>,
    /// Its MAC address.
    pub mac: Mac,
    /// MTU, bytes: of IPv6 and IPv4 packets.
    pub mtu: u16,
    /// Its VRF.
    pub vrf: VrfId,
    /// Usable own addresses with their prefix lengths; each makes a connected route.
    pub addresses: Vec<IpNet>,
    /// Own link-local address.
    pub link_local: Ipv6Addr,
    /// Whether packets may leave by it.
    pub up: bool,
}

/// One way to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Where it leaves.
    pub interface: InterfaceId,
    /// The router, of the family of the route's prefix; `None`: the destination itself is on the link.
    pub via: Option<IpAddr>,
    /// Share among the hops of one route, 1 to 256.
    pub weight: u16,
}

/// What a route says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// Forward; several hops share by flow.
    Hops(Vec<Hop>),
    /// Discard silently.
    Blackhole,
    /// Discard, and answer "no route".
    Unreachable,
}

/// Rate of ICMPv6 errors, per worker (RFC 4443 2.4 (f)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpLimits {
    /// Errors a second.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Default for IcmpLimits {
    fn default() -> Self {
        Self {
            per_second: 1000,
            burst: 100,
        }
    }
}

/// An interface, as the graph reads it.
pub(crate) struct Interface {
    pub(crate) port: PortId,
    pub(crate) mac: [u8; 6],
    pub(crate) vrf: VrfId,
    /// Its rules when it is an uplink; 0: none.
    pub(crate) rule_set: u16,
    pub(crate) link_local: [u8; 16],
    /// Source of ICMPv6 errors about packets that came in here.
    pub(crate) error_source: [u8; 16],
    /// Source of ICMPv4 errors; `None`: none is sent.
    pub(crate) error_source_v4: Option<[u8; 4]>,
    /// Servers are reached by it whose answers are translated.
    pub(crate) has_servers: bool,
}

/// Which interfaces a port has.
#[derive(Default)]
pub(crate) struct PortTable {
    pub(crate) untagged: Option<InterfaceId>,
    /// What its untagged frames look like.
    pub(crate) expected: Expected,
    /// The same of IPv4.
    pub(crate) expected_v4: Expected,
    /// The record every frame starts with: that of an untagged one.
    pub(crate) start: Meta,
    /// (outer id, inner id or 0) to interface.
    pub(crate) tagged: Vec<((u16, u16), InterfaceId)>,
    /// Some interface of it is an uplink.
    pub(crate) has_rules: bool,
    /// Untagged frames may be answers of servers that are translated.
    pub(crate) has_servers: bool,
}

/// The prefix tables of one VRF, of both families. Their leaves are numbers of the same next hops.
pub(crate) struct Fib {
    pub(crate) v6: View6,
    pub(crate) v4: View4,
}

/// An address as the host table has it: IPv4 as an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2). Such an address is never
/// that of an IPv6 packet: ingress drops those.
#[must_use]
pub(crate) fn host_key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// What is published.
pub struct Tables {
    /// No other tables of this process have it.
    pub(crate) serial: u64,
    interfaces: Box<[Interface]>,
    ports: Box<[PortTable]>,
    /// Prefix tables of each VRF. A leaf is the index of a next hop.
    pub(crate) vrfs: Box<[Fib]>,
    /// Own addresses and resolved neighbours, by VRF; asked where the prefix table says [`Kind::Glean`]. By
    /// [`host_key`].
    pub(crate) hosts: ExactTable,
    next_hops: Box<[NextHop]>,
    /// Next hops of ECMP groups, each as often as its weight.
    pub(crate) members: Box<[u32]>,
    rules: Box<[Rule]>,
    rule_sets: Box<[RuleSet]>,
    /// LISP, if it is configured.
    pub(crate) lisp: Option<Lisp>,
    /// Services, if there are any.
    pub(crate) steer: Option<Steer>,
    /// Some interface has servers whose answers are translated.
    turns_back: bool,
    pub(crate) icmp: IcmpLimits,
}

impl Tables {
    #[inline]
    pub(crate) fn interface(&self, id: InterfaceId) -> &Interface {
        &self.interfaces[usize::from(id.0).min(self.interfaces.len() - 1)]
    }

    #[inline]
    pub(crate) fn port(&self, id: PortId) -> Option<&PortTable> {
        self.ports.get(id.index())
    }

    /// The next hop with this index; an index of tables that were replaced meanwhile reads as "no route".
    #[inline]
    pub(crate) fn next_hop(&self, index: u32) -> &NextHop {
        self.next_hops
            .get(index as usize)
            .unwrap_or(&self.next_hops[0]) // `as`: u32 to index
    }

    #[inline]
    pub(crate) fn rule(&self, number: u16) -> &Rule {
        &self.rules[usize::from(number)]
    }

    /// The prefix tables of a VRF; [`Meta::vrf`] is always one that has them.
    #[inline]
    pub(crate) fn fib(&self, vrf: VrfId) -> &Fib {
        &self.vrfs[usize::from(vrf.0)]
    }

    /// A rule by number, if it (still) exists.
    pub(crate) fn rule_checked(&self, number: u16) -> Option<&Rule> {
        self.rules.get(usize::from(number))
    }

    /// Whether this is one of our own addresses in the VRF.
    #[inline]
    pub(crate) fn is_own(&self, vrf: VrfId, address: u128) -> bool {
        let leaf = self.hosts.lookup(vrf.0, address);
        leaf.is_some_and(|leaf| self.next_hop(leaf).kind == Kind::Local)
    }

    /// Whether this is the broadcast address of a connected prefix in the VRF.
    pub(crate) fn is_broadcast(&self, vrf: VrfId, address: Ipv4Addr) -> bool {
        let leaf = self.hosts.lookup(vrf.0, host_key(address.into()));
        leaf.is_some_and(|leaf| self.next_hop(leaf).reason == DropReason::DirectedBroadcast)
    }

    /// LISP, if untagged frames of this port may be encapsulated packets for us.
    #[inline]
    pub(crate) fn opens(&self, port: &PortTable) -> Option<&Lisp> {
        let opens = |lisp: &&Lisp| lisp.roles.decapsulates() && lisp.underlay == port.start.vrf;
        self.lisp.as_ref().filter(opens)
    }

    /// Whether anything that comes in may be an answer of a server that is translated.
    #[inline]
    pub(crate) fn turns_back(&self) -> bool {
        self.turns_back
    }

    /// The VRF of a packet that was punted under older tables: that of its interface, or of the instance by which it came,
    /// whose VRF need not have an interface. `None`: the instance is gone, and its packet belongs nowhere.
    pub(crate) fn vrf_of(&self, meta: &Meta) -> Option<VrfId> {
        if !meta.is_decapsulated {
            return Some(self.interface(meta.interface).vrf);
        }
        let instance = self.lisp.as_ref()?.instance_of(meta.vrf);
        instance.map(|instance| instance.vrf)
    }

    /// A rule set by the number in an interface or next hop; 0 is none.
    #[inline]
    pub(crate) fn rule_set(&self, number: u16) -> Option<&RuleSet> {
        self.rule_sets.get(usize::from(number).checked_sub(1)?)
    }

    /// What a packet handed over for [`dataplane::reason::PuntReason::NeighborMiss`] waits for, by these tables: the
    /// interface and the address to resolve; `None` if it can go on (or be dropped) now.
    #[must_use]
    pub fn unresolved<F: Frame>(&self, frame: &F, meta: &Meta) -> Option<(InterfaceId, IpAddr)> {
        let packet = frame.bytes().get(meta.l3_offset()..)?;
        let vrf = self.vrf_of(meta)?;
        let (leaf, destination) = fib::resolve(self, (vrf, meta.family), packet)?;
        let next_hop = self.next_hop(leaf);
        match next_hop.kind {
            Kind::Glean => Some((next_hop.interface, next_hop.via.unwrap_or(destination))),
            _ => None,
        }
    }
}
