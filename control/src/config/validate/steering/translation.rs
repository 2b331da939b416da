//! Services whose packets are translated: an answer must say which service it is of, and source addresses are nobody's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::super::names::Seen;
use super::super::neighbors::check_other_host;
use super::Around;
use crate::config::error::{Place, Sink};
use crate::config::file::{PoolTable, ServiceTable};
use crate::config::problem::Problem;
use crate::config::steering::{Mode, Pool, Ports, Protocol};

/// All ports there are.
const ALL: Ports = Ports {
    first: 0,
    last: u16::MAX,
};

/// What full NAT translates.
const FULL_NAT: &str = "\"tcp\", \"udp\", \"udp-lite\" or \"icmpv6\"";

/// Source addresses are there where the mode asks for them, and are nobody else's.
pub(super) fn check_sources(
    table: &PoolTable,
    mode: Option<Mode>,
    vrf: Option<usize>,
    around: &Around<'_>,
    sink: &mut Sink<'_>,
) {
    let Some(mode) = mode else { return };
    let Some((list, place)) = table.sources.given() else {
        if mode == Mode::FullNat && table.sources.is_absent() {
            let (found, other) = ("mode = \"full-nat\"", "sources");
            sink.push(&table.place, Problem::Without { found, other });
        }
        return;
    };
    if mode != Mode::FullNat {
        let (found, other) = ("sources", "mode = \"full-nat\"");
        sink.push(place, Problem::Without { found, other });
        return;
    }
    let servers = table.servers.value().map_or(&[][..], |list| &list.items);
    let mut seen = Seen::default();
    for (source, place) in &list.items {
        if let Some(first) = seen.insert(*source, place) {
            let problem = Problem::Duplicate {
                what: "source",
                found: source.to_string(),
                scope: "once in a pool",
            };
            sink.push_related(place, problem, first, "first here");
            continue;
        }
        let Some(vrf) = vrf else { continue };
        let ip = IpAddr::V6(*source);
        let expected = "an address of nobody, routed to this box or on a link of it";
        if !check_other_host(ip, place, vrf, around.interfaces, expected, sink) {
            continue;
        }
        let server = servers.iter().find_map(|(server, _)| {
            let (address, place) = server.address.given()?;
            (address == source).then_some(place)
        });
        let net = IpNet::from(ip);
        let mut routes = around.routes.iter();
        if let Some(server) = server {
            let problem = Problem::Duplicate {
                what: "address",
                found: source.to_string(),
                scope: "as a server or as a source",
            };
            sink.push_related(place, problem, server, "the server");
        } else if routes.any(|route| (route.vrf, route.prefix) == (vrf, net)) {
            let problem = Problem::RouteConflict {
                found: net,
                kind: "the prefix",
                owner: "a route".to_owned(),
            };
            sink.push(place, problem);
        }
    }
}

/// A service address is no source address.
pub(super) fn check_apart(
    prefix: Ipv6Net,
    place: &Place,
    vrf: Option<usize>,
    pools: &[Pool],
    sink: &mut Sink<'_>,
) {
    let of_vrf = pools.iter().filter(|pool| Some(pool.vrf) == vrf);
    let mut of_vrf = of_vrf.filter(|pool| {
        let mut sources = pool.sources.iter();
        sources.any(|source| Ipv6Net::from(*source) == prefix)
    });
    if let Some(pool) = of_vrf.next() {
        let problem = Problem::RouteConflict {
            found: prefix.into(),
            kind: "a source address",
            owner: format!("pool {:?}", pool.name),
        };
        sink.push(place, problem);
    }
}

/// Whose the ports of servers are, by VRF, address and protocol.
#[derive(Default)]
pub(super) struct Answers(BTreeMap<(usize, Ipv6Addr, &'static str), Vec<Claim>>);

/// Ports, the position of a service, and where it says that they are its own.
type Claim = (Ports, usize, Place);

impl Answers {
    /// Judge a service, by its position, of which this is a pool.
    pub(super) fn check(
        &mut self,
        (service, table): (usize, &ServiceTable),
        pool: &Pool,
        sink: &mut Sink<'_>,
    ) {
        let Some((_, at_pool)) = table.pool.given() else {
            return;
        };
        if !matches!(pool.mode, Mode::Dnat | Mode::FullNat) || table.protocol.is_invalid() {
            return;
        }
        let mut refuse = |place: &Place, found: String, expected| {
            let mode = pool.mode.name();
            let problem = Problem::NotInMode {
                found,
                mode,
                expected,
            };
            sink.push(place, problem);
        };
        if let Some((prefix, place)) = table.prefix.given()
            && prefix.prefix_len() < 128
            && pool.mode == Mode::Dnat
        {
            refuse(place, prefix.to_string(), "one address, with /128");
        }
        let protocol = table.protocol.value().copied().unwrap_or_default();
        let at_protocol = table.protocol.given().map_or(at_pool, |(_, place)| place);
        if protocol == Protocol::Any {
            let expected = match pool.mode {
                Mode::FullNat => FULL_NAT,
                _ => "\"tcp\", \"udp\", \"udp-lite\", \"sctp\" or \"icmpv6\"",
            };
            refuse(at_protocol, "protocol \"any\"".to_owned(), expected);
            return;
        }
        if pool.mode == Mode::FullNat {
            // Ports are in the checksum of SCTP, which nothing less than the whole packet tells (RFC 9260 6.8).
            if protocol == Protocol::Sctp {
                refuse(at_protocol, "protocol \"sctp\"".to_owned(), FULL_NAT);
            }
            return;
        }
        if !protocol.has_ports() && table.ports.given().is_some() {
            return; // refused already
        }
        if let Some(port) = pool.port {
            if matches!(protocol, Protocol::Sctp | Protocol::Icmpv6) {
                let found = format!("protocol {:?} and port = {port}", protocol.name());
                let expected = "\"tcp\", \"udp\" or \"udp-lite\", or a pool without port";
                refuse(at_protocol, found, expected);
                return;
            }
            let ports = table.ports.value().map(|list| &list.items[..]);
            if !matches!(ports, Some([(ports, _)]) if ports.first == ports.last) {
                let found = format!("port = {port} for several ports");
                let expected = "one port, or a pool without port";
                let place = table.ports.given().map_or(at_pool, |(_, place)| place);
                refuse(place, found, expected);
                return;
            }
        }
        self.claim((service, table), pool, (protocol, at_pool), sink);
    }

    /// Ports of the pool's servers are this service's, and no other's.
    fn claim(
        &mut self,
        (service, table): (usize, &ServiceTable),
        pool: &Pool,
        (protocol, at_pool): (Protocol, &Place),
        sink: &mut Sink<'_>,
    ) {
        let given = table.ports.value().map(|list| &list.items[..]);
        let whole = [(ALL, at_pool.clone())];
        for (ports, place) in given.unwrap_or(&whole) {
            let ports = pool.port.map_or(*ports, |port| Ports {
                first: port,
                last: port,
            });
            let mut told = false;
            for server in &pool.servers {
                let key = (pool.vrf, server.address, protocol.name());
                let claims = self.0.entry(key).or_default();
                let clash = claims.iter().find(|(other, owner, _)| {
                    *owner != service && other.first <= ports.last && ports.first <= other.last
                });
                if let Some((.., first)) = clash.filter(|_| !told) {
                    let of_ports = match protocol.has_ports() && ports != ALL {
                        true => format!(" {ports}"),
                        false => String::new(),
                    };
                    let problem = Problem::Duplicate {
                        what: "server port",
                        found: format!("{}, {}{of_ports}", server.address, protocol.name()),
                        scope: "with one service, or nobody could tell whose its answers are",
                    };
                    sink.push_related(place, problem, first, "first here");
                    told = true;
                }
                claims.push((ports, service, place.clone()));
            }
        }
    }
}
