//! Static neighbours: on the interface's link, not ourselves, once.

use std::net::{IpAddr, Ipv6Addr};

use dataplane::wire::ethernet::Mac;
use ipnet::IpNet;

use super::addresses::{is_link_local_host, not_a_host, not_global};
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
            address: table.address.or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            mac: table.mac.or(Mac::from_octets([0; 6])),
        });
    }
    neighbors
}

/// Whether an address can be another host's on the link of an interface; reports why not.
pub(super) fn check_host_on_link(
    address: IpAddr,
    place: &Place,
    index: usize,
    interfaces: &Interfaces,
    expected: &'static str,
    sink: &mut Sink<'_>,
) -> bool {
    let interface = interfaces.interface(index);
    if let IpAddr::V6(link_local) = address
        && is_link_local_host(link_local)
    {
        let is_own = interface.link_local == Some(link_local);
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
        Some(prefix) => check_is_host(address, prefix.trunc(), place, sink),
        None if interfaces.addresses_are_complete() => {
            let owner = format!("interface {:?}", interface.name);
            sink.push(
                place,
                Problem::OffLink {
                    found: address,
                    owner,
                    expected: on_link_text(interface, address),
                },
            );
            false
        }
        None => false,
    }
}

/// Whether an address can be one host's, and another's than our own.
pub(super) fn check_other_host(
    address: IpAddr,
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

/// Whether an address of a prefix is one host's. We are a router of our own prefixes, so the anycast address of their
/// routers is ours too.
pub(super) fn check_is_host(
    address: IpAddr,
    prefix: IpNet,
    place: &Place,
    sink: &mut Sink<'_>,
) -> bool {
    let reason = not_a_host(address, prefix);
    if let Some(kind) = reason {
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
    reason.is_none()
}

/// Which addresses of this one's family are on the interface's link.
fn on_link_text(interface: &Interface, address: IpAddr) -> String {
    let own = interface.addresses.iter();
    let same_family = own.filter(|own| own.addr().is_ipv4() == address.is_ipv4());
    let prefixes: Vec<_> = same_family.map(|own| own.trunc().to_string()).collect();
    match (prefixes.as_slice(), address) {
        ([], IpAddr::V6(_)) => {
            "a link-local address, because the interface has no IPv6 addresses".to_owned()
        }
        (prefixes, IpAddr::V6(_)) => {
            format!("an address in {}, or a link-local one", prefixes.join(", "))
        }
        ([], IpAddr::V4(_)) => {
            "one with an IPv4 address such as 192.0.2.1/24 on this link".to_owned()
        }
        (prefixes, IpAddr::V4(_)) => format!("an address in {}", prefixes.join(", ")),
    }
}
