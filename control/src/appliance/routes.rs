//! The routing tables as `sextant show routes` sees them: what the configuration says, and what its next hops are worth
//! at the moment.

use std::time::Instant;

use ipnet::IpNet;

use super::Appliance;
use crate::admin::view::{NextHop, Route, Routes};
use crate::config::{self, Target};
use crate::platform::Platform;
use crate::proto::ndp::{AddressState, InterfaceIndex};

impl<P: Platform> Appliance<P> {
    pub(super) fn show_routes(&self, now: Instant) -> Routes {
        let mut routes: Vec<((usize, IpNet), Route)> = Vec::new();
        let mut add = |vrf: usize, prefix: IpNet, source: &str, action: &str, next_hops| {
            let route = Route {
                vrf: self.config.vrfs[vrf].clone(),
                prefix: prefix.to_string(),
                source: source.to_owned(),
                action: action.to_owned(),
                next_hops,
            };
            routes.push(((vrf, prefix), route));
        };
        for (position, interface) in self.config.interfaces.iter().enumerate() {
            let index = InterfaceIndex(self.slots.id(position).0);
            for address in &interface.addresses {
                let on_link = config::NextHop {
                    via: None,
                    interface: position,
                    weight: 1,
                };
                let next_hops = vec![self.show_next_hop(&on_link)];
                add(
                    interface.vrf,
                    address.trunc(),
                    "connected",
                    "forward",
                    next_hops,
                );
                let state = self.machine.address_state(index, address.addr());
                if state == Some(AddressState::Preferred) {
                    let host = IpNet::from(address.addr());
                    add(interface.vrf, host, "local", "receive", Vec::new());
                }
            }
        }
        for rule in &self.config.npt66 {
            let vrf = self.config.interfaces[rule.interface].vrf;
            add(
                vrf,
                IpNet::V6(rule.outside),
                "npt66",
                "translate",
                Vec::new(),
            );
        }
        for route in &self.config.routes {
            let (action, next_hops) = match &route.target {
                Target::NextHops(hops) => {
                    let hops = hops.iter().map(|hop| self.show_next_hop(hop));
                    ("forward", hops.collect())
                }
                Target::Blackhole => ("blackhole", Vec::new()),
                Target::Unreachable => ("unreachable", Vec::new()),
            };
            add(route.vrf, route.prefix, "static", action, next_hops);
        }
        routes.sort_by_key(|(key, _)| *key);
        Routes {
            monotonic_ns: self.clock(now),
            routes: routes.into_iter().map(|(_, route)| route).collect(),
        }
    }

    fn show_next_hop(&self, hop: &config::NextHop) -> NextHop {
        let interface = &self.config.interfaces[hop.interface];
        let index = InterfaceIndex(self.slots.id(hop.interface).0);
        let mac = hop.via.and_then(|via| self.machine.usable(index, via));
        let state = match (self.links[interface.port].up, hop.via, mac) {
            (false, _, _) => "down",
            (true, None, _) => "on_link",
            (true, Some(_), Some(_)) => "resolved",
            (true, Some(_), None) => "unresolved",
        };
        NextHop {
            interface: interface.name.clone(),
            via: hop.via.map(|via| via.to_string()),
            weight: hop.weight,
            state: state.to_owned(),
            mac: mac.map(|mac| mac.to_string()),
        }
    }
}
