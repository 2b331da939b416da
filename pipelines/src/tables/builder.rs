//! From interfaces, neighbours, rules and routes to [`Tables`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dataplane::port::PortId;
use dataplane::reason::DropReason;
use dataplane::table::exact::ExactTable;
use dataplane::wire::ethernet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Mac,
};
use ipnet::{IpNet, Ipv6Net};

use super::rib::{Key, Rib, Target};
use super::{
    Hop, IcmpLimits, Interface, InterfaceId, InterfaceSpec, PortTable, Route, Tables, VrfId,
    host_key,
};
use crate::fib::{HAS_RULES, Kind, NextHop};
use crate::ingress::Expected;
use crate::meta::Meta;
use crate::npt66::{self, Rule, RuleSet, SpecError};
use crate::steer::Mode;

/// Tables built so far in this process.
static BUILT: AtomicU64 = AtomicU64::new(0);

/// Makes [`Tables`]. Later calls win over earlier ones for the same key.
#[derive(Clone, Default)]
pub struct Builder {
    interfaces: Vec<InterfaceSpec>,
    neighbors: BTreeMap<(InterfaceId, IpAddr), Mac>,
    routes: BTreeMap<Key, Route>,
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
    pub fn neighbor(&mut self, interface: InterfaceId, address: IpAddr, mac: Mac) {
        self.neighbors.insert((interface, address), mac);
    }

    /// A route. Hops by a router of the other family are left out (RFC 8950 is not supported).
    pub fn route(&mut self, vrf: VrfId, prefix: impl Into<IpNet>, route: Route) {
        self.routes.insert((vrf, prefix.into().trunc()), route);
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

    /// Make tables with prefixes of their own.
    #[must_use]
    pub fn build(self) -> Tables {
        let mut rib = Rib::new();
        let tables = self.build_in(&mut rib);
        rib.commit();
        tables
    }

    /// Make tables that share the prefixes of `rib` with those made before. The routes of `rib` come before those given
    /// here. What changes about prefixes is for [`Rib::commit`] to do.
    #[must_use]
    pub fn build_in(self, rib: &mut Rib) -> Tables {
        let is_up = |id: InterfaceId| self.spec(id).is_some_and(|spec| spec.up);
        let services = rib.services();
        let mut derived = self.derived();
        derived.extend(services.iter().map(|(vrf, prefix)| {
            let key = (*vrf, IpNet::V6(*prefix));
            (key, Target::Service(*vrf, *prefix))
        }));
        derived.extend(rib.sources().into_iter().map(|(vrf, source, number)| {
            let key = (vrf, IpNet::from(IpAddr::V6(source)));
            (key, Target::Source(number))
        }));
        rib.plan(derived, &self.own_addresses(), is_up);
        let rule_sets = self.rule_sets();
        let mut assembly = Assembly {
            next_hops: vec![NextHop::drop(DropReason::NoRoute); rib.targets().count() + 1],
            members: Vec::new(),
            hosts: Vec::new(),
            via: BTreeMap::new(),
            rule_set_of: rule_sets
                .iter()
                .zip(1..)
                .map(|((interface, _), number)| (*interface, number))
                .collect(),
            builder: &self,
            services: &services,
            server_side: BTreeSet::new(),
        };
        for (number, target) in (1..).zip(rib.targets()) {
            if let Some(target) = target {
                assembly.next_hops[number] = assembly.next_hop(target);
            }
        }
        // Of several entries for one address the last counts.
        assembly.broadcasts();
        assembly.own_and_neighbors();
        let mut steer = rib.steer(|way, mode, server| assembly.way_to_server(way, mode, server));
        let Assembly {
            next_hops,
            members,
            hosts,
            rule_set_of,
            server_side,
            ..
        } = assembly;

        if let Some(steer) = &mut steer {
            steer.prepare(&next_hops);
        }

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
                [] => {
                    port.untagged = Some(id);
                    port.has_servers = server_side.contains(&id);
                    port.expected = Expected::to(spec.mac);
                    port.expected_v4 = Expected::to_v4(spec.mac);
                    port.start = Meta::received(id, spec.vrf);
                }
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
                error_source_v4: self.error_source_v4(spec).map(|address| address.octets()),
                has_servers: server_side.contains(&id),
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
                error_source_v4: None,
                has_servers: false,
            });
        }
        let interface_of = |vrf: VrfId| {
            let mut numbered = (0..).zip(&self.interfaces);
            let found = numbered.find(|(_, spec)| spec.vrf == vrf);
            found.map(|(number, _)| InterfaceId(number))
        };
        // An instance that is only passed on has no interface.
        let of_interfaces = self.interfaces.iter().map(|spec| spec.vrf.0);
        let last_vrf = of_interfaces.chain(rib.lisp_vrfs()).max().unwrap_or(0);
        Tables {
            serial: BUILT.fetch_add(1, Relaxed),
            interfaces: interfaces.into(),
            ports: ports.into(),
            lisp: rib.lisp(interface_of),
            steer,
            turns_back: !server_side.is_empty(),
            vrfs: rib.views(VrfId(last_vrf)),
            hosts: ExactTable::new(hosts),
            next_hops: next_hops.into(),
            members: members.into(),
            rules: self.rules.iter().map(|(_, rule)| *rule).collect(),
            rule_sets: rule_sets.into_iter().map(|(_, set)| set).collect(),
            icmp: self.icmp,
        }
    }

    /// Prefixes that follow from the rest, and the builder's own routes.
    fn derived(&self) -> BTreeMap<Key, Target> {
        let mut derived = BTreeMap::new();
        // Connected prefixes: on-link hosts are found in the host table, or resolved.
        for (spec, number) in self.interfaces.iter().zip(0..) {
            for address in &spec.addresses {
                let target = Target::on_link(InterfaceId(number));
                derived.insert((spec.vrf, address.trunc()), target);
            }
        }
        // Outside prefixes of each uplink's VRF: a packet that the lookup sends there came from inside (N11).
        for (spec, _) in &self.rules {
            if let Some(interface) = self.spec(spec.interface) {
                derived.insert(
                    (interface.vrf, spec.outside.into()),
                    Target::Hairpin(spec.interface),
                );
            }
        }
        for (key, route) in &self.routes {
            derived.insert(*key, Target::route(&key.1, route.clone()));
        }
        derived
    }

    fn own_addresses(&self) -> Vec<(VrfId, IpAddr)> {
        let of = |spec: &InterfaceSpec| {
            let vrf = spec.vrf;
            let own = spec.addresses.iter().map(move |own| (vrf, own.addr()));
            own.collect::<Vec<_>>()
        };
        self.interfaces.iter().flat_map(of).collect()
    }

    fn spec(&self, id: InterfaceId) -> Option<&InterfaceSpec> {
        self.interfaces.get(usize::from(id.0))
    }

    /// An address of this interface, else of its VRF, else link-local: what a receiver can reach (N13).
    fn error_source(&self, spec: &InterfaceSpec) -> Ipv6Addr {
        let mut v6 = self.reachable(spec).filter_map(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        v6.next().unwrap_or(spec.link_local)
    }

    /// The same for errors about IPv4 packets (RFC 1812 4.3.2.4). Without an address there is no error.
    fn error_source_v4(&self, spec: &InterfaceSpec) -> Option<Ipv4Addr> {
        self.reachable(spec).find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    /// Own addresses, those of this interface first, then those of others in its VRF.
    fn reachable<'a>(&'a self, spec: &'a InterfaceSpec) -> impl Iterator<Item = IpAddr> + 'a {
        let same_vrf = self.interfaces.iter();
        let same_vrf = same_vrf.filter(|other| other.vrf == spec.vrf);
        let candidates = std::iter::once(spec).chain(same_vrf);
        candidates.flat_map(|interface| interface.addresses.iter().map(IpNet::addr))
    }

    fn rule_sets(&self) -> Vec<(InterfaceId, RuleSet)> {
        let mut by_interface: BTreeMap<InterfaceId, Vec<_>> = BTreeMap::new();
        for ((spec, rule), number) in self.rules.iter().zip(0..) {
            let rules = by_interface.entry(spec.interface).or_default();
            rules.push((number, *rule, spec.outside));
        }
        let own = self.own_addresses();
        let sets = by_interface.into_iter().map(|(interface, rules)| {
            // Own addresses in an outside prefix that is on the link are not translated (N16).
            let is_inside =
                |own: &IpAddr| rules.iter().any(|(.., outside)| is_within(*own, *outside));
            let holds_own = own.iter().any(|(_, own)| is_inside(own));
            let rules: Vec<_> = rules
                .iter()
                .map(|(number, rule, _)| (*number, *rule))
                .collect();
            (interface, RuleSet::new(&rules, holds_own))
        });
        sets.collect()
    }
}

/// The builder's work in progress.
struct Assembly<'a> {
    builder: &'a Builder,
    /// Service addresses by number.
    services: &'a [(VrfId, Ipv6Net)],
    next_hops: Vec<NextHop>,
    members: Vec<u32>,
    hosts: Vec<((u16, u128), u32)>,
    /// Next hops made so far, so that a neighbour has one.
    via: BTreeMap<(InterfaceId, Option<IpAddr>), u32>,
    rule_set_of: BTreeMap<InterfaceId, u16>,
    /// Interfaces by which servers are reached whose answers are translated.
    server_side: BTreeSet<InterfaceId>,
}

impl Assembly<'_> {
    fn push(&mut self, next_hop: NextHop) -> u32 {
        self.next_hops.push(next_hop);
        u32::try_from(self.next_hops.len() - 1).expect("fewer than 2^31 next hops")
    }

    /// The next hop a prefix with this target has now.
    fn next_hop(&mut self, target: &Target) -> NextHop {
        match target {
            Target::Route(Route::Blackhole) => NextHop::drop(DropReason::Blackhole),
            Target::Route(Route::Unreachable) => NextHop::drop(DropReason::NoRoute),
            Target::Route(Route::Hops(hops)) => self.group(hops),
            Target::Hairpin(interface) => NextHop {
                kind: Kind::Hairpin,
                rule_set: self.rule_set_of.get(interface).copied().unwrap_or(0),
                ..NextHop::drop(DropReason::NoRoute)
            },
            Target::Service(vrf, prefix) => self.service(&(*vrf, *prefix)),
            Target::Source(number) => NextHop {
                kind: Kind::Return,
                first: u32::from(*number),
                ..NextHop::drop(DropReason::SteerNoFlow)
            },
            Target::Own => own(),
        }
    }

    /// What a packet to a service address finds, if it is still one.
    fn service(&self, service: &(VrfId, Ipv6Net)) -> NextHop {
        let number = self.services.iter().position(|other| other == service);
        let none = NextHop::drop(DropReason::NoRoute);
        match number.map(u32::try_from) {
            Some(Ok(number)) => NextHop {
                kind: Kind::Service,
                first: number,
                ..none
            },
            _ => none,
        }
    }

    /// The index of the next hop to a server, by what leads to its address.
    fn way_to_server(&mut self, way: Option<Target>, mode: Mode, server: Ipv6Addr) -> u32 {
        let Some(Target::Route(Route::Hops(hops))) = way else {
            return 0;
        };
        if let Mode::Dnat { .. } = mode {
            self.server_side
                .extend(hops.iter().map(|hop| hop.interface));
        }
        if let [
            Hop {
                interface,
                via: None,
                ..
            },
        ] = &hops[..]
        {
            let number = self.hop(*interface, Some(IpAddr::V6(server).to_canonical()));
            let is_known = self.next_hops[number as usize].kind != Kind::Glean; // `as`: u32 to index
            // Nobody could be told which server a packet to the service address waits for; servers are resolved at all times.
            return match mode {
                Mode::L2 | Mode::Dnat { .. } | Mode::FullNat { .. } if !is_known => {
                    self.push(NextHop::drop(DropReason::SteerUnresolved))
                }
                _ => number,
            };
        }
        match mode {
            // Not on a link of ours.
            Mode::L2 => 0,
            Mode::Ip6Ip6 { .. } | Mode::IpIp { .. } | Mode::Gue { .. } => {
                let next_hop = self.group(&hops);
                self.push(next_hop)
            }
            // By routers that are known: routers are resolved at all times too.
            Mode::Dnat { .. } | Mode::FullNat { .. } => {
                let is_known =
                    |hop: &Hop| self.make_hop(hop.interface, hop.via).kind == Kind::Neighbor;
                let hops: Vec<_> = hops.into_iter().filter(is_known).collect();
                let next_hop = match hops.is_empty() {
                    true => NextHop::drop(DropReason::SteerUnresolved),
                    false => self.group(&hops),
                };
                self.push(next_hop)
            }
        }
    }

    /// One next hop, or a group of those whose interface is up; all of them when none is.
    fn group(&mut self, hops: &[Hop]) -> NextHop {
        let is_up = |hop: &&Hop| self.builder.spec(hop.interface).is_some_and(|spec| spec.up);
        let mut usable: Vec<&Hop> = hops.iter().filter(is_up).collect();
        if usable.is_empty() {
            usable = hops.iter().take(1).collect();
        }
        if let [only] = usable[..] {
            return self.make_hop(only.interface, only.via);
        }
        let first = self.members.len();
        for hop in &usable {
            let leaf = self.hop(hop.interface, hop.via);
            for _ in 0..hop.weight.max(1) {
                self.members.push(leaf);
            }
        }
        NextHop {
            kind: Kind::Group,
            first: u32::try_from(first).expect("fewer than 2^32 members"),
            count: u32::try_from(self.members.len() - first).expect("fewer than 2^32 members"),
            ..NextHop::drop(DropReason::NoRoute)
        }
    }

    /// The index of a next hop that no prefix need lead to.
    fn hop(&mut self, interface: InterfaceId, via: Option<IpAddr>) -> u32 {
        if let Some(known) = self.via.get(&(interface, via)) {
            return *known;
        }
        let next_hop = self.make_hop(interface, via);
        let index = self.push(next_hop);
        self.via.insert((interface, via), index);
        index
    }

    fn make_hop(&self, interface: InterfaceId, via: Option<IpAddr>) -> NextHop {
        let Some(spec) = self.builder.spec(interface) else {
            return NextHop::drop(DropReason::InterfaceDown);
        };
        let rule_set = self.rule_set_of.get(&interface).copied().unwrap_or(0);
        let base = NextHop {
            kind: Kind::Glean,
            interface,
            port: spec.port,
            marks: 1 << spec.port.index() | if rule_set == 0 { 0 } else { HAS_RULES },
            mtu: spec.mtu,
            rule_set,
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

    /// The all-ones and the all-zeros address of each connected IPv4 prefix: nothing is forwarded to them (RFC 1812
    /// 4.2.3.1, RFC 2644 2). Prefixes of two addresses or one have none (RFC 3021 2.1).
    fn broadcasts(&mut self) {
        let drop = self.push(NextHop::drop(DropReason::DirectedBroadcast));
        for spec in &self.builder.interfaces {
            for address in &spec.addresses {
                if let IpNet::V4(net) = address
                    && net.prefix_len() < 31
                {
                    let both = [net.network(), net.broadcast()].map(IpAddr::V4);
                    let keys = both.map(|address| ((spec.vrf.0, host_key(address)), drop));
                    self.hosts.extend(keys);
                }
            }
        }
    }

    fn own_and_neighbors(&mut self) {
        for (interface, address) in self.builder.neighbors.keys() {
            let Some(spec) = self.builder.spec(*interface) else {
                continue;
            };
            let vrf = spec.vrf;
            // A link-local neighbour is reached as a next hop only; its address means nothing in a VRF.
            if !is_link_local(*address) && spec.up {
                let leaf = self.hop(*interface, Some(*address));
                self.hosts.push(((vrf.0, host_key(*address)), leaf));
            }
        }
        let own = self.push(own());
        let addresses = self.builder.own_addresses().into_iter();
        self.hosts
            .extend(addresses.map(|(vrf, address)| ((vrf.0, host_key(address)), own)));
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_within(address: IpAddr, prefix: Ipv6Net) -> bool {
    matches!(address, IpAddr::V6(address) if prefix.contains(&address))
}

/// One of our own addresses.
fn own() -> NextHop {
    NextHop {
        kind: Kind::Local,
        ..NextHop::drop(DropReason::LocalProtocol)
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
    let ether_type = match base.via {
        Some(IpAddr::V4(_)) => ETHERTYPE_IPV4,
        Some(IpAddr::V6(_)) | None => ETHERTYPE_IPV6,
    };
    header.extend(ether_type.to_be_bytes());
    let mut link = [0; 24];
    link[..header.len()].copy_from_slice(&header);
    let link_len = u8::try_from(header.len()).expect("at most 22 bytes");
    let express_max = if spec.vlan.is_empty() {
        base.mtu.saturating_add(u16::from(link_len))
    } else {
        0
    };
    NextHop {
        kind: Kind::Neighbor,
        link,
        link_len,
        express_max,
        express_max_untranslated: if base.rule_set == 0 { express_max } else { 0 },
        ..base
    }
}
