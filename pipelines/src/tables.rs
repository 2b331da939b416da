//! Everything one batch may look at, and the builder the control thread makes it with.
//!
//! Built whole on the control thread, published, then only read. Small by design: what a packet needs is one line of an
//! interface, one of a next hop and the prefix table.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use dataplane::frame::Frame;
use dataplane::port::PortId;
use dataplane::reason::DropReason;
use dataplane::table::exact::ExactTable;
use dataplane::table::lpm::{Arena, Lpm6};
use dataplane::wire::ethernet::{ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Mac};
use ipnet::Ipv6Net;

use crate::fib::{self, Kind, NextHop};
use crate::meta::Meta;
use crate::npt66::{self, Rule, RuleSet, SpecError};

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
    /// IPv6 MTU, bytes.
    pub mtu: u16,
    /// Its VRF.
    pub vrf: VrfId,
    /// Usable own addresses with their prefix lengths; each makes a connected route.
    pub addresses: Vec<Ipv6Net>,
    /// Own link-local address.
    pub link_local: Ipv6Addr,
    /// Whether packets may leave by it.
    pub up: bool,
}

/// One way to a destination.
#[derive(Debug, Clone)]
pub struct Hop {
    /// Where it leaves.
    pub interface: InterfaceId,
    /// The router; `None`: the destination itself is on the link.
    pub via: Option<Ipv6Addr>,
    /// Share among the hops of one route, 1 to 256.
    pub weight: u16,
}

/// What a route says.
#[derive(Debug, Clone)]
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
}

/// Which interfaces a port has.
#[derive(Default)]
pub(crate) struct PortTable {
    pub(crate) untagged: Option<InterfaceId>,
    /// (outer id, inner id or 0) to interface.
    pub(crate) tagged: Vec<((u16, u16), InterfaceId)>,
    /// Some interface of it is an uplink.
    pub(crate) has_rules: bool,
}

/// What is published.
pub struct Tables {
    interfaces: Box<[Interface]>,
    ports: Box<[PortTable]>,
    /// Prefix table of each VRF.
    pub(crate) vrfs: Box<[Lpm6]>,
    /// Own addresses and resolved neighbours, by VRF; asked where the prefix table says [`Kind::Glean`].
    pub(crate) hosts: ExactTable,
    next_hops: Box<[NextHop]>,
    /// Next hops of ECMP groups, each as often as its weight.
    pub(crate) members: Box<[u32]>,
    rules: Box<[Rule]>,
    rule_sets: Box<[RuleSet]>,
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

    /// The prefix table of a VRF; [`Meta::vrf`] is always one that has a table.
    #[inline]
    pub(crate) fn fib(&self, vrf: VrfId) -> &Lpm6 {
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

    /// A rule set by the number in an interface or next hop; 0 is none.
    #[inline]
    pub(crate) fn rule_set(&self, number: u16) -> Option<&RuleSet> {
        self.rule_sets.get(usize::from(number).checked_sub(1)?)
    }

    /// What a packet handed over for [`dataplane::reason::PuntReason::NeighborMiss`] waits for, by these tables: the
    /// interface and the address to resolve; `None` if it can go on (or be dropped) now.
    #[must_use]
    pub fn unresolved<F: Frame>(&self, frame: &F, meta: &Meta) -> Option<(InterfaceId, Ipv6Addr)> {
        let packet = frame.bytes().get(meta.l3_offset()..)?;
        let destination = packet.get(24..40)?.first_chunk::<16>()?;
        let vrf = self.interface(meta.interface).vrf;
        let next_hop = self.next_hop(fib::resolve(self, vrf, packet)?);
        match next_hop.kind {
            Kind::Glean => Some((
                next_hop.interface,
                next_hop.via.unwrap_or(Ipv6Addr::from(*destination)),
            )),
            _ => None,
        }
    }

    /// Bytes of the prefix tables.
    #[must_use]
    pub fn fib_bytes(&self) -> usize {
        self.vrfs.iter().map(Lpm6::bytes).sum()
    }
}

/// Makes [`Tables`]. Later calls win over earlier ones for the same key.
#[derive(Default)]
pub struct Builder {
    interfaces: Vec<InterfaceSpec>,
    neighbors: BTreeMap<(InterfaceId, Ipv6Addr), Mac>,
    routes: BTreeMap<(VrfId, Ipv6Net), Route>,
    rules: Vec<(npt66::Spec, Rule)>,
    icmp: IcmpLimits,
}

impl Builder {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Add an interface.
    ///
    /// # Panics
    /// After 65,535 of them; the configuration refuses that earlier.
    pub fn interface(&mut self, spec: InterfaceSpec) -> InterfaceId {
        let id = InterfaceId(
            u16::try_from(self.interfaces.len()).expect("fewer than 65,536 interfaces"),
        );
        self.interfaces.push(spec);
        id
    }

    /// A neighbour whose MAC address is known.
    pub fn neighbor(&mut self, interface: InterfaceId, address: Ipv6Addr, mac: Mac) {
        self.neighbors.insert((interface, address), mac);
    }

    /// A route.
    pub fn route(&mut self, vrf: VrfId, prefix: Ipv6Net, route: Route) {
        self.routes.insert((vrf, prefix.trunc()), route);
    }

    /// An NPT66 rule; its number is also that of its counters.
    ///
    /// # Errors
    /// When RFC 6296 or the rules before it forbid it (N2, N3).
    pub fn npt66(&mut self, spec: npt66::Spec) -> Result<usize, SpecError> {
        let rule = Rule::new(&spec)?;
        let overlap = |a: Ipv6Net, b: Ipv6Net| a.contains(&b) || b.contains(&a);
        for (other, _) in self
            .rules
            .iter()
            .filter(|(other, _)| other.interface == spec.interface)
        {
            for (mine, theirs) in [(spec.inside, other.inside), (spec.outside, other.outside)] {
                if overlap(mine, theirs) {
                    return Err(SpecError::Overlap(mine, theirs));
                }
            }
        }
        if self.rules.len() >= dataplane::counters::RULES_MAX {
            return Err(SpecError::TooMany);
        }
        self.rules.push((spec, rule));
        Ok(self.rules.len() - 1)
    }

    /// Rate of ICMPv6 errors per worker.
    pub fn icmp(&mut self, limits: IcmpLimits) {
        self.icmp = limits;
    }

    /// Make the tables.
    #[must_use]
    pub fn build(self) -> Tables {
        let rule_sets = self.rule_sets();
        let mut assembly = Assembly {
            next_hops: vec![NextHop::drop(DropReason::NoRoute)],
            members: Vec::new(),
            arena: Arena::new(),
            vrfs: Vec::new(),
            hosts: Vec::new(),
            via: BTreeMap::new(),
            rule_set_of: rule_sets
                .iter()
                .zip(1..)
                .map(|((interface, _), number)| (*interface, number))
                .collect(),
            builder: &self,
        };
        assembly.connected();
        assembly.hairpins();
        for ((vrf, prefix), route) in &self.routes {
            let leaf = assembly.route(route);
            assembly.insert(*vrf, *prefix, leaf);
        }
        assembly.own_and_neighbors();
        let Assembly {
            next_hops,
            members,
            arena,
            vrfs,
            hosts,
            rule_set_of,
            ..
        } = assembly;

        let mut ports: Vec<PortTable> = Vec::new();
        let mut interfaces = Vec::new();
        for (spec, number) in self.interfaces.iter().zip(0..) {
            let id = InterfaceId(number);
            let rule_set = rule_set_of.get(&id).copied().unwrap_or(0);
            while ports.len() <= spec.port.index() {
                ports.push(PortTable::default());
            }
            let port = &mut ports[spec.port.index()];
            port.has_rules |= rule_set != 0;
            match spec.vlan[..] {
                [] => port.untagged = Some(id),
                [outer] => port.tagged.push(((outer, 0), id)),
                [outer, inner, ..] => port.tagged.push(((outer, inner), id)),
            }
            interfaces.push(Interface {
                port: spec.port,
                mac: spec.mac.octets(),
                vrf: spec.vrf,
                rule_set,
                link_local: spec.link_local.octets(),
                error_source: self.error_source(spec).octets(),
            });
        }
        if interfaces.is_empty() {
            // So that an interface can be read without a check; no port leads to it.
            let none = [0; 16];
            interfaces.push(Interface {
                port: PortId::new(0).expect("0 is below PortId::MAX"),
                mac: [0; 6],
                vrf: VrfId(0),
                rule_set: 0,
                link_local: none,
                error_source: none,
            });
        }
        let vrf_count = 1 + self
            .interfaces
            .iter()
            .map(|spec| spec.vrf.0)
            .max()
            .unwrap_or(0);
        let mut vrfs = vrfs;
        while vrfs.len() < usize::from(vrf_count) {
            vrfs.push(Lpm6::new_in(&arena));
        }
        Tables {
            interfaces: interfaces.into(),
            ports: ports.into(),
            vrfs: vrfs.into(),
            hosts: ExactTable::new(hosts),
            next_hops: next_hops.into(),
            members: members.into(),
            rules: self.rules.iter().map(|(_, rule)| *rule).collect(),
            rule_sets: rule_sets.into_iter().map(|(_, set)| set).collect(),
            icmp: self.icmp,
        }
    }

    /// An address of this interface, else of its VRF, else link-local: what a receiver can reach (N13).
    fn error_source(&self, spec: &InterfaceSpec) -> Ipv6Addr {
        let same_vrf = self.interfaces.iter().filter(|other| other.vrf == spec.vrf);
        let candidates = std::iter::once(spec).chain(same_vrf);
        let mut addresses = candidates.flat_map(|interface| &interface.addresses);
        addresses.next().map_or(spec.link_local, Ipv6Net::addr)
    }

    fn rule_sets(&self) -> Vec<(InterfaceId, RuleSet)> {
        let mut by_interface: BTreeMap<InterfaceId, Vec<_>> = BTreeMap::new();
        for ((spec, rule), number) in self.rules.iter().zip(0..) {
            by_interface.entry(spec.interface).or_default().push((
                number,
                *rule,
                spec.inside,
                spec.outside,
            ));
        }
        let sets = by_interface.into_iter().map(|(interface, rules)| {
            // Own addresses in an outside prefix that is on the link are not translated (N16).
            let own = self
                .interfaces
                .iter()
                .flat_map(|spec| &spec.addresses)
                .map(Ipv6Net::addr);
            let holds_own = own
                .into_iter()
                .any(|own| rules.iter().any(|(.., outside)| outside.contains(&own)));
            (interface, RuleSet::new(&rules, holds_own))
        });
        sets.collect()
    }
}

/// The builder's work in progress.
struct Assembly<'a> {
    builder: &'a Builder,
    next_hops: Vec<NextHop>,
    members: Vec<u32>,
    /// The memory of all prefix tables: most of them are small.
    arena: Arena,
    vrfs: Vec<Lpm6>,
    hosts: Vec<((u16, u128), u32)>,
    /// Next hops made so far, so that a neighbour has one.
    via: BTreeMap<(InterfaceId, Option<Ipv6Addr>), u32>,
    rule_set_of: BTreeMap<InterfaceId, u16>,
}

impl Assembly<'_> {
    fn push(&mut self, next_hop: NextHop) -> u32 {
        self.next_hops.push(next_hop);
        u32::try_from(self.next_hops.len() - 1).expect("fewer than 2^31 next hops")
    }

    fn insert(&mut self, vrf: VrfId, prefix: Ipv6Net, leaf: u32) {
        while self.vrfs.len() <= usize::from(vrf.0) {
            self.vrfs.push(Lpm6::new_in(&self.arena));
        }
        self.vrfs[usize::from(vrf.0)].insert(prefix.network(), prefix.prefix_len(), leaf);
    }

    fn spec(&self, id: InterfaceId) -> Option<&InterfaceSpec> {
        self.builder.interfaces.get(usize::from(id.0))
    }

    /// Connected prefixes: on-link hosts are found in the host table, or resolved.
    fn connected(&mut self) {
        for (spec, number) in self.builder.interfaces.iter().zip(0..) {
            let leaf = self.hop(InterfaceId(number), None);
            for address in &spec.addresses {
                self.insert(spec.vrf, address.trunc(), leaf);
            }
        }
    }

    /// Outside prefixes of each uplink's VRF: a packet that the lookup sends there came from inside (N11).
    fn hairpins(&mut self) {
        for (spec, _) in &self.builder.rules {
            let Some(interface) = self.spec(spec.interface) else {
                continue;
            };
            let vrf = interface.vrf;
            let rule_set = self.rule_set_of.get(&spec.interface).copied().unwrap_or(0);
            let leaf = self.push(NextHop {
                kind: Kind::Hairpin,
                rule_set,
                ..NextHop::drop(DropReason::NoRoute)
            });
            self.insert(vrf, spec.outside, leaf);
        }
    }

    fn route(&mut self, route: &Route) -> u32 {
        match route {
            Route::Blackhole => self.push(NextHop::drop(DropReason::Blackhole)),
            Route::Unreachable => self.push(NextHop::drop(DropReason::NoRoute)),
            Route::Hops(hops) => self.group(hops),
        }
    }

    /// One next hop, or a group of those whose interface is up; all of them when none is.
    fn group(&mut self, hops: &[Hop]) -> u32 {
        let is_up = |hop: &&Hop| self.spec(hop.interface).is_some_and(|spec| spec.up);
        let mut usable: Vec<&Hop> = hops.iter().filter(is_up).collect();
        if usable.is_empty() {
            usable = hops.iter().take(1).collect();
        }
        if let [only] = usable[..] {
            return self.hop(only.interface, only.via);
        }
        let first = self.members.len();
        for hop in &usable {
            let leaf = self.hop(hop.interface, hop.via);
            for _ in 0..hop.weight.max(1) {
                self.members.push(leaf);
            }
        }
        let group = NextHop {
            kind: Kind::Group,
            first: u32::try_from(first).expect("fewer than 2^32 members"),
            count: u32::try_from(self.members.len() - first).expect("fewer than 2^32 members"),
            ..NextHop::drop(DropReason::NoRoute)
        };
        self.push(group)
    }

    fn hop(&mut self, interface: InterfaceId, via: Option<Ipv6Addr>) -> u32 {
        if let Some(known) = self.via.get(&(interface, via)) {
            return *known;
        }
        let next_hop = self.make_hop(interface, via);
        let index = self.push(next_hop);
        self.via.insert((interface, via), index);
        index
    }

    fn make_hop(&self, interface: InterfaceId, via: Option<Ipv6Addr>) -> NextHop {
        let Some(spec) = self.spec(interface) else {
            return NextHop::drop(DropReason::InterfaceDown);
        };
        let base = NextHop {
            kind: Kind::Glean,
            interface,
            port: spec.port,
            mtu: spec.mtu,
            rule_set: self.rule_set_of.get(&interface).copied().unwrap_or(0),
            via,
            ..NextHop::drop(DropReason::InterfaceDown)
        };
        if !spec.up {
            // The interface's prefix keeps finding its own addresses in the host table.
            return NextHop {
                kind: if via.is_none() {
                    Kind::Glean
                } else {
                    Kind::Drop
                },
                down: true,
                ..base
            };
        }
        match via.and_then(|address| self.builder.neighbors.get(&(interface, address))) {
            Some(mac) => with_link_header(base, spec, *mac),
            None => base,
        }
    }

    fn own_and_neighbors(&mut self) {
        let local = self.push(NextHop {
            kind: Kind::Local,
            ..NextHop::drop(DropReason::LocalProtocol)
        });
        for (interface, address) in self.builder.neighbors.keys() {
            let Some(spec) = self.spec(*interface) else {
                continue;
            };
            let vrf = spec.vrf;
            // A link-local neighbour is reached as a next hop only; its address means nothing in a VRF.
            if !address.is_unicast_link_local() && spec.up {
                let leaf = self.hop(*interface, Some(*address));
                self.hosts.push(((vrf.0, u128::from(*address)), leaf));
            }
        }
        for spec in &self.builder.interfaces {
            for address in &spec.addresses {
                let key = u128::from(address.addr());
                self.hosts.push(((spec.vrf.0, key), local));
                // The host table is asked where the prefix is connected or translated. Where a longer route covers
                // the address, it needs a prefix of its own.
                let leaf = self.vrfs[usize::from(spec.vrf.0)].lookup(&address.addr().octets());
                let covering = &self.next_hops[leaf as usize]; // `as`: u32 to index
                let asked = match covering.kind {
                    Kind::Glean => covering.via.is_none(),
                    kind => kind == Kind::Hairpin,
                };
                if !asked {
                    let host = Ipv6Net::new(address.addr(), 128).expect("128 is a length");
                    self.insert(spec.vrf, host, local);
                }
            }
        }
    }
}

/// The finished link header of a neighbour.
fn with_link_header(base: NextHop, spec: &InterfaceSpec, neighbor: Mac) -> NextHop {
    let mut header = Vec::with_capacity(22);
    header.extend(neighbor.octets());
    header.extend(spec.mac.octets());
    // Two tags: the outer one is a service tag (IEEE 802.1ad).
    let tpids: &[u16] = if spec.vlan.len() > 1 {
        &[ETHERTYPE_QINQ, ETHERTYPE_VLAN]
    } else {
        &[ETHERTYPE_VLAN]
    };
    for (tpid, id) in tpids.iter().zip(&spec.vlan) {
        header.extend(tpid.to_be_bytes());
        header.extend(id.to_be_bytes());
    }
    header.extend(ETHERTYPE_IPV6.to_be_bytes());
    let mut link = [0; 24];
    link[..header.len()].copy_from_slice(&header);
    let link_len = u8::try_from(header.len()).expect("at most 22 bytes");
    NextHop {
        kind: Kind::Neighbor,
        link,
        link_len,
        ..base
    }
}
