//! Static neighbours: on the interface's link, not ourselves, once.

use std::net::Ipv6Addr;

use dataplane::wire::ethernet::Mac;

use super::addresses::{is_link_local_host, is_subnet_router_anycast, not_global};
use super::interfaces::Interfaces;
use super::names::Seen;
use crate::config::error::{Place, Sink};
use crate::config::file::NeighborTable;
use crate::config::model::{Interface, Neighbor, Route};
use crate::config::problem::Problem;
use crate::config::reader::Field;

pub(super) fn neighbors(
    tables: Field<Vec<NeighborTable>>,
    interfaces: &Interfaces,
    routes: &[Route],
    sink: &mut Sink<'_>,
) -> Vec<Neighbor> {
    let tables = tables.or(Vec::new());
    let mut seen = Seen::default();
    let mut neighbors = Vec::with_capacity(tables.len());
    for table in tables {
        let interface = interfaces.resolve(&table.interface, sink);
        if let (Some(interface), Some((address, place))) = (interface, table.address.given()) {
            let expected = "a neighbour's address";
            let direct =
                |route: &Route| route.is_on_link(interface) && route.prefix.contains(address);
            if routes.iter().any(direct) {
                let vrf = interfaces.interface(interface).vrf;
                check_other_host(*address, place, vrf, interfaces, expected, sink);
            } else {
                check_host_on_link(*address, place, interface, interfaces, expected, sink);
            }
            if let Some(first) = seen.insert((interface, *address), place) {
                let found = address.to_string();
                let problem = Problem::Duplicate {
                    what: "neighbour",
                    found,
                    scope: "once on an interface",
                };
                sink.push_related(place, problem, first, "first here");
            }
        }
        neighbors.push(Neighbor {
            interface: interface.unwrap_or(0),
            address: table.address.or(Ipv6Addr::UNSPECIFIED),
            mac: table.mac.or(Mac::from_octets([0; 6])),
        });
    }
    neighbors
}

/// Whether an address can be another host's on the link of an interface; reports why not.
pub(super) fn check_host_on_link(
    address: Ipv6Addr,
    place: &Place,
    index: usize,
    interfaces: &Interfaces,
    expected: &'static str,
    sink: &mut Sink<'_>,
) -> bool {
    let interface = interfaces.interface(index);
    if is_link_local_host(address) {
        let is_own = interface.link_local == Some(address);
        if is_own {
            let interface = interface.name.clone();
            sink.push(
                place,
                Problem::OwnAddress {
                    found: address,
                    interface,
                    expected,
                },
            );
        }
        return !is_own;
    }
    if !check_other_host(address, place, interface.vrf, interfaces, expected, sink) {
        return false;
    }
    let on_link = interface
        .addresses
        .iter()
        .find(|own| own.contains(&address));
    match on_link {
        Some(prefix) => check_not_anycast(address, prefix.trunc(), place, sink),
        None if interfaces.addresses_are_complete() => {
            let owner = format!("interface {:?}", interface.name);
            sink.push(
                place,
                Problem::OffLink {
                    found: address,
                    owner,
                    expected: on_link_text(interface),
                },
            );
            false
        }
        None => false,
    }
}

/// Whether an address can be one host's, and another's than our own.
pub(super) fn check_other_host(
    address: Ipv6Addr,
    place: &Place,
    vrf: usize,
    interfaces: &Interfaces,
    expected: &'static str,
    sink: &mut Sink<'_>,
) -> bool {
    if let Some(kind) = not_global(address) {
        sink.push(
            place,
            Problem::WrongKind {
                found: address.to_string(),
                kind,
                expected,
            },
        );
        return false;
    }
    if let Some(owner) = interfaces.owner(vrf, address) {
        let interface = interfaces.name(owner).to_owned();
        sink.push(
            place,
            Problem::OwnAddress {
                found: address,
                interface,
                expected,
            },
        );
        return false;
    }
    true
}

/// We are a router of our own prefixes, so their routers' anycast address is ours too.
pub(super) fn check_not_anycast(
    address: Ipv6Addr,
    prefix: ipnet::Ipv6Net,
    place: &Place,
    sink: &mut Sink<'_>,
) -> bool {
    let is_anycast = is_subnet_router_anycast(address, prefix);
    if is_anycast {
        let kind =
            "is the anycast address of all routers of its prefix, this one too (RFC 4291 2.6.1)";
        let expected = "the address of one host";
        sink.push(
            place,
            Problem::WrongKind {
                found: address.to_string(),
                kind,
                expected,
            },
        );
    }
    !is_anycast
}

fn on_link_text(interface: &Interface) -> String {
    let prefixes: Vec<_> = interface
        .addresses
        .iter()
        .map(|own| own.trunc().to_string())
        .collect();
    match prefixes.as_slice() {
        [] => "a link-local address, because the interface has no addresses".to_owned(),
        prefixes => format!("an address in {}, or a link-local one", prefixes.join(", ")),
    }
}
