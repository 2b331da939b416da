//! Configuration and neighbour discovery to tables: pure functions. When they are called and the result published is the
//! business of [`crate::appliance`].

mod health;
pub(crate) mod lisp;
pub(crate) mod steering;

pub(crate) use health::targets as health_targets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::port::PortId;
use dataplane::wire::ethernet::Mac;
use ipnet::IpNet;
use pipelines::Tables;
use pipelines::npt66;
use pipelines::tables::{Builder, Hop, IcmpLimits, InterfaceId, InterfaceSpec, Rib, Route, VrfId};

use crate::config::lisp::Instance;
use crate::config::{Config, Interface, Target, ZeroIid};
use crate::proto::lisp::EidKey;
use crate::proto::ndp::{AddressState, InterfaceConfig, InterfaceIndex, Machine, Settings};
use crate::slots::Slots;

/// A VLAN id that no frame can carry: identifiers have 12 bits.
const NO_VLAN: u16 = u16::MAX;

/// What tables are made of.
pub(crate) struct Network<'a, P> {
    pub(crate) config: &'a Config,
    pub(crate) slots: &'a Slots,
    /// MAC address of each port.
    pub(crate) macs: &'a [Mac],
    /// Whether each port's link is up.
    pub(crate) links: &'a [bool],
    pub(crate) machine: &'a Machine<P>,
    pub(crate) hosts: &'a Hosts,
}

/// EID hosts that may be at any site: those that are here, with their interface.
pub(crate) type Hosts = BTreeMap<EidKey, InterfaceIndex>;

/// The instance whose EID hosts are at this interface. None are where the tunnels are.
pub(crate) fn instance_at<'a>(config: &'a Config, interface: &Interface) -> Option<&'a Instance> {
    let lisp = config.lisp.as_ref()?;
    let is_tunnel = |address: &IpNet| lisp.own_rlocs().any(|own| own == address.addr());
    let mut instances = lisp.instances.iter();
    let found = instances.find(|instance| instance.vrf == interface.vrf)?;
    (!interface.addresses.iter().any(is_tunnel)).then_some(found)
}

/// What neighbour discovery is told of the interface at `position`. `away`: EID hosts of own prefixes that are at other
/// sites.
pub(crate) fn neighbor_discovery(
    config: &Config,
    position: usize,
    mac: Mac,
    away: &BTreeSet<EidKey>,
) -> InterfaceConfig {
    let interface = &config.interfaces[position];
    let rules = config.npt66.iter();
    let outside = rules.filter(|rule| rule.interface == position && rule.proxy_nd);
    let mut proxied: Vec<IpNet> = outside.map(|rule| rule.outside.into()).collect();
    let mut on_link = on_link(config, position);
    let mut watched = Vec::new();
    if let Some(instance) = instance_at(config, interface) {
        watched.clone_from(&instance.dynamic_eids);
        on_link.extend(&watched);
        // Hosts think that their prefix is on the link. Where it is not at home, who is not here is elsewhere.
        let is_at_home = |prefix: &&IpNet| instance.eids.iter().any(|own| own.contains(*prefix));
        proxied.extend(watched.iter().filter(|prefix| !is_at_home(prefix)));
        let away = away.iter().filter(|key| key.instance == instance.id);
        proxied.extend(away.map(|key| key.eid));
    }
    // Source addresses of full NAT on this link: nobody else answers for them.
    let vrf = interface.vrf;
    let pools = config.steering.pools.iter();
    let sources = pools
        .filter(|pool| pool.vrf == vrf)
        .flat_map(|pool| &pool.sources);
    let mut sources: Vec<_> = sources
        .map(|source| IpNet::from(IpAddr::V6(*source)))
        .collect();
    sources.retain(|source| interface.addresses.iter().any(|own| own.contains(source)));
    proxied.extend(sources);
    let neighbors = config.neighbors.iter();
    let statics = neighbors.filter(|neighbor| neighbor.interface == position);
    InterfaceConfig {
        mac,
        link_local: link_local(interface, mac),
        addresses: interface.addresses.clone(),
        on_link,
        proxied,
        watched,
        statics: statics
            .map(|neighbor| (neighbor.address, neighbor.mac))
            .collect(),
    }
}

/// Prefixes of routes that lead straight onto an interface's link.
fn on_link(config: &Config, interface: usize) -> Vec<IpNet> {
    let routes = config.routes.iter();
    let direct = routes.filter(|route| route.is_on_link(interface));
    direct.map(|route| route.prefix).collect()
}

/// The tables of a configuration at rest: every link is up, every address is ours, and the only neighbours are those it
/// names. For golden cases, where nothing else is known; `macs` has a MAC address for each port.
///
/// # Panics
/// When the configuration was not validated.
#[must_use]
pub fn tables_at_rest(config: &Config, macs: &[Mac]) -> Tables {
    let slots = Slots::default().assign(config);
    let settings = Settings {
        dad_transmits: 0,
        ..Settings::default()
    };
    let mut machine = Machine::<()>::new(settings, fastrand::Rng::with_seed(0));
    for (position, interface) in config.interfaces.iter().enumerate() {
        let index = InterfaceIndex(slots.id(position).0);
        let away = BTreeSet::new();
        let known = neighbor_discovery(config, position, macs[interface.port], &away);
        machine.set_interface(std::time::Instant::now(), index, Some(known));
    }
    let links = vec![true; config.ports.len()];
    let network = Network {
        config,
        slots: &slots,
        macs,
        links: &links,
        machine: &machine,
        hosts: &Hosts::new(),
    };
    let mut rib = Rib::new();
    rib.set_routes(routes(config, &slots));
    if let Some(lisp) = &config.lisp {
        rib.set_lisp(Some(lisp::settings(lisp, 0)));
        for entry in &lisp.mappings {
            let instance = lisp.instance(entry.key.instance);
            let vrf = vrf(instance.map_or(0, |instance| instance.vrf));
            rib.set_mapping(vrf, entry.key.eid, Some(lisp::mapping(&entry.mapping)));
        }
    }
    rib.set_steering(steering::settings(
        config,
        &steering::Overrides::new(),
        &|_| true,
        0,
    ));
    let tables = builder(&network)
        .expect("validation refuses rules that cannot stand together")
        .build_in(&mut rib);
    rib.commit();
    tables
}

/// The routes of a configuration.
pub(crate) fn routes(
    config: &Config,
    slots: &Slots,
) -> impl Iterator<Item = (VrfId, IpNet, Route)> {
    let route = |route: &crate::config::Route| {
        let target = target(slots, &route.target);
        (vrf(route.vrf), route.prefix, target)
    };
    config.routes.iter().map(route)
}

/// Everything but routes, for the tables of this network.
///
/// # Errors
/// When two NPT66 rules cannot stand together; the configuration's own checks refuse that before.
pub(crate) fn builder<P>(network: &Network<'_, P>) -> Result<Builder, npt66::SpecError> {
    let Network {
        config,
        slots,
        machine,
        ..
    } = network;
    let mut builder = Builder::new();
    for (id, position) in slots.iter() {
        let spec = match position {
            Some(position) => spec(network, id, &config.interfaces[position]),
            None => nobody(),
        };
        let numbered = builder.interface(spec);
        debug_assert_eq!(
            numbered, id,
            "interfaces are numbered in the order they are given"
        );
    }
    for (position, interface) in config.interfaces.iter().enumerate() {
        let id = slots.id(position);
        // An address that is not (yet) ours still says what is on the link.
        for address in &interface.addresses {
            if !is_usable(network, id, *address) {
                let hop = Hop {
                    interface: id,
                    via: None,
                    weight: 1,
                };
                builder.route(vrf(interface.vrf), *address, Route::Hops(vec![hop]));
            }
        }
    }
    for (key, at) in network.hosts {
        let id = InterfaceId(at.0);
        if let Some(position) = slots.position(id) {
            let hop = Hop {
                interface: id,
                via: None,
                weight: 1,
            };
            let vrf = vrf(config.interfaces[position].vrf);
            builder.route(vrf, key.eid, Route::Hops(vec![hop]));
        }
    }
    for neighbor in machine.neighbors() {
        if let Some(mac) = neighbor.mac {
            builder.neighbor(InterfaceId(neighbor.interface.0), neighbor.address, mac);
        }
    }
    for rule in &config.npt66 {
        builder.npt66(npt66::Spec {
            interface: slots.id(rule.interface),
            inside: rule.inside,
            outside: rule.outside,
            zero_iid: match rule.zero_iid {
                ZeroIid::Drop => npt66::ZeroIid::Drop,
                ZeroIid::Translate => npt66::ZeroIid::Translate,
            },
        })?;
    }
    builder.icmp(IcmpLimits {
        per_second: config.icmp.errors_per_second,
        burst: config.icmp.errors_burst,
    });
    Ok(builder)
}

fn spec<P>(network: &Network<'_, P>, id: InterfaceId, interface: &Interface) -> InterfaceSpec {
    let mac = network.macs[interface.port];
    let usable = |address: &&IpNet| is_usable(network, id, **address);
    InterfaceSpec {
        port: port(interface.port),
        vlan: interface.vlan.clone(),
        mac,
        mtu: interface.mtu,
        vrf: vrf(interface.vrf),
        addresses: interface.addresses.iter().filter(usable).copied().collect(),
        link_local: link_local(interface, mac),
        up: network.links[interface.port],
    }
}

/// Keeps the number of an interface that is gone: nothing reaches it, nothing leaves by it.
fn nobody() -> InterfaceSpec {
    InterfaceSpec {
        port: port(PortId::MAX - 1),
        vlan: vec![NO_VLAN],
        mac: Mac::from_octets([0; 6]),
        mtu: 1280, // ipv6::MIN_MTU
        vrf: VrfId(0),
        addresses: Vec::new(),
        link_local: std::net::Ipv6Addr::UNSPECIFIED,
        up: false,
    }
}

fn is_usable<P>(network: &Network<'_, P>, id: InterfaceId, address: IpNet) -> bool {
    let state = network
        .machine
        .address_state(InterfaceIndex(id.0), address.addr());
    state == Some(AddressState::Preferred)
}

/// The interface's link-local address: as configured, else from its MAC address (RFC 4291 appendix A).
pub(crate) fn link_local(interface: &Interface, mac: Mac) -> std::net::Ipv6Addr {
    interface.link_local.unwrap_or_else(|| {
        let [a, b, c, d, e, f] = mac.octets();
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&[a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
        octets.into()
    })
}

fn target(slots: &Slots, target: &Target) -> Route {
    match target {
        Target::NextHops(hops) => {
            let hops = hops.iter().map(|hop| Hop {
                interface: slots.id(hop.interface),
                via: hop.via,
                weight: hop.weight,
            });
            Route::Hops(hops.collect())
        }
        Target::Blackhole => Route::Blackhole,
        Target::Unreachable => Route::Unreachable,
    }
}

/// The port at this position of the configuration.
pub(crate) fn port(position: usize) -> PortId {
    PortId::new(position).expect("the configuration has at most PortId::MAX ports")
}

/// The VRF at this position of the configuration.
pub(crate) fn vrf(position: usize) -> VrfId {
    VrfId(u16::try_from(position).expect("the configuration has fewer VRFs than interfaces"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, parse_for};

    #[test]
    fn link_local_address_comes_from_the_mac_unless_configured() {
        let text = |link_local: &str| {
            format!(
                "[[ports]]\nname = \"p\"\ndevice = \"net_null0\"\n[[interfaces]]\nport = \"p\"\n{link_local}"
            )
        };
        let mac = Mac::from_octets([0x02, 0, 0, 0, 0x01, 0x02]);
        for (line, expected) in [
            ("", "fe80::ff:fe00:102"),
            ("link_local = \"fe80::1\"\n", "fe80::1"),
        ] {
            let config = parse_for("test.toml", &text(line), &Host::new(vec![0])).unwrap();
            assert_eq!(link_local(&config.interfaces[0], mac).to_string(), expected);
        }
    }
}
