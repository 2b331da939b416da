//! Static routes: each prefix once, towards routers that are on a link.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::addresses::{check_host_bits, inside_special};
use super::interfaces::Interfaces;
use super::names::Seen;
use super::neighbors::{check_host_on_link, check_is_host, check_other_host};
use crate::config::error::{Place, Sink};
use crate::config::file::{NextHopTable, RouteTable};
use crate::config::model::{NextHop, Npt66, Route, Target};
use crate::config::problem::Problem;
use crate::config::reader::{Field, List};

/// Whose address a next hop is.
const ROUTER: &str = "the address of another router";

pub(super) fn routes(
    tables: Field<Vec<RouteTable>>,
    interfaces: &Interfaces,
    rules: &[Npt66],
    sink: &mut Sink<'_>,
) -> Vec<Route> {
    let tables = tables.or(Vec::new());
    let mut seen = Seen::default();
    let outside = rules.iter().map(|rule| {
        let vrf = interfaces.vrf_of(rule.interface);
        ((vrf, IpNet::V6(rule.outside)), rule.name.as_str())
    });
    let outside: HashMap<(usize, IpNet), &str> = outside.collect();
    let mut routes = Vec::with_capacity(tables.len());
    for table in tables {
        let vrf = interfaces.resolve_vrf(&table.vrf, sink);
        if let (Some(vrf), Some((prefix, place))) = (vrf, table.prefix.given())
            && check_prefix(*prefix, place, sink)
        {
            check_conflicts(vrf, *prefix, place, interfaces, &outside, sink);
            if let Some(first) = seen.insert((vrf, *prefix), place) {
                let found = prefix.to_string();
                let problem = Problem::Duplicate {
                    what: "route",
                    found,
                    scope: "prefix once in a VRF",
                };
                sink.push_related(place, problem, first, "first here");
            }
        }
        check_targets(&table, sink);
        let target = if table.blackhole.value() == Some(&true) {
            Target::Blackhole
        } else if table.unreachable.value() == Some(&true) {
            Target::Unreachable
        } else {
            let prefix = table.prefix.value().copied();
            Target::NextHops(next_hops(table.next_hops, prefix, vrf, interfaces, sink))
        };
        let prefix = table.prefix.or(IpNet::V6(Ipv6Net::default()));
        routes.push(Route {
            prefix,
            vrf: vrf.unwrap_or(0),
            target,
        });
    }
    routes
}

fn check_prefix(prefix: IpNet, place: &Place, sink: &mut Sink<'_>) -> bool {
    if !check_host_bits(prefix, place, sink) {
        return false;
    }
    let special = inside_special(prefix);
    if let Some(kind) = special {
        let expected = "a prefix of forwardable unicast addresses";
        sink.push(
            place,
            Problem::WrongKind {
                found: prefix.to_string(),
                kind,
                expected,
            },
        );
    }
    special.is_none()
}

/// Prefixes that already lead somewhere: a route for exactly one of them would take its packets away.
fn check_conflicts(
    vrf: usize,
    prefix: IpNet,
    place: &Place,
    interfaces: &Interfaces,
    outside: &HashMap<(usize, IpNet), &str>,
    sink: &mut Sink<'_>,
) {
    let interface_text = |index: usize| format!("interface {:?}", interfaces.name(index));
    let own = interfaces
        .owner(vrf, prefix.addr())
        .filter(|_| prefix.prefix_len() == prefix.max_prefix_len());
    if let Some(interface) = own {
        let owner = interface_text(interface);
        sink.push(
            place,
            Problem::RouteConflict {
                found: prefix,
                kind: "the own address",
                owner,
            },
        );
    } else if let Some((interface, connected)) = interfaces.connected_owner(vrf, prefix) {
        let owner = interface_text(interface);
        let problem = Problem::RouteConflict {
            found: prefix,
            kind: "the connected prefix",
            owner,
        };
        sink.push_related(place, problem, connected, "connected here");
    } else if let Some(rule) = outside.get(&(vrf, prefix)) {
        // What a site sends to its own outside prefix is translated back to it (RFC 6296 4.3).
        let owner = format!("NPT66 rule {rule:?}");
        sink.push(
            place,
            Problem::RouteConflict {
                found: prefix,
                kind: "the outside prefix",
                owner,
            },
        );
    }
}

/// A route does exactly one thing.
fn check_targets(table: &RouteTable, sink: &mut Sink<'_>) {
    let is_true = |field: &Field<bool>| field.value() == Some(&true);
    let targets = [
        ("next_hops", !table.next_hops.is_absent()),
        ("blackhole", is_true(&table.blackhole)),
        ("unreachable", is_true(&table.unreachable)),
    ];
    let named: Vec<_> = targets
        .iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(name, _)| *name)
        .collect();
    let unknown = table.blackhole.is_invalid() || table.unreachable.is_invalid();
    let found = match named.as_slice() {
        [_] => return,
        [] if unknown => return,
        [] => "leads nowhere".to_owned(),
        several => format!("{} stand together", several.join(" and ")),
    };
    sink.push(&table.place, Problem::RouteTargets { found });
}

fn next_hops(
    field: Field<List<NextHopTable>>,
    prefix: Option<IpNet>,
    vrf: Option<usize>,
    interfaces: &Interfaces,
    sink: &mut Sink<'_>,
) -> Vec<NextHop> {
    let mut seen = Seen::default();
    let mut hops = Vec::new();
    for (table, place) in field.optional().map_or_else(Vec::new, |list| list.items) {
        if let (Some(prefix), Some((via, via_place))) = (prefix, table.via.given())
            && !check_family(prefix, *via, via_place, sink)
        {
            continue;
        }
        let Some(interface) = outgoing_interface(&table, &place, vrf, interfaces, sink) else {
            continue;
        };
        let via = table.via.value().copied();
        if let Some(first) = seen.insert((interface, via), &place) {
            let name = interfaces.name(interface);
            let found = via.map_or_else(
                || format!("on {name:?}"),
                |via| format!("{via} on {name:?}"),
            );
            let problem = Problem::Duplicate {
                what: "next hop",
                found,
                scope: "once in a route, with a weight",
            };
            sink.push_related(&place, problem, first, "first here");
        }
        hops.push(NextHop {
            via,
            interface,
            weight: table.weight.or(1),
        });
    }
    hops
}

/// Whether a router is of the family of what it shall forward; IPv4 over IPv6 next hops (RFC 8950) is not offered.
fn check_family(prefix: IpNet, via: IpAddr, place: &Place, sink: &mut Sink<'_>) -> bool {
    let example = match (prefix, via) {
        (IpNet::V4(_), IpAddr::V4(_)) | (IpNet::V6(_), IpAddr::V6(_)) => return true,
        (IpNet::V4(_), IpAddr::V6(_)) => "192.0.2.1",
        (IpNet::V6(_), IpAddr::V4(_)) => "fe80::1",
    };
    sink.push(
        place,
        Problem::OtherFamily {
            via,
            prefix,
            example,
        },
    );
    false
}

/// The interface a next hop leaves by, if everything about it is right.
fn outgoing_interface(
    table: &NextHopTable,
    place: &Place,
    vrf: Option<usize>,
    interfaces: &Interfaces,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let named = match &table.interface {
        Field::Absent => None,
        field => Some(interfaces.resolve(field, sink)?),
    };
    if let (Some(index), Some((_, name_place)), Some(vrf)) = (named, table.interface.given(), vrf) {
        let interface = interfaces.interface(index);
        if interface.vrf != vrf {
            let found = interfaces.vrf_name(interface.vrf).to_owned();
            let expected = interfaces.vrf_name(vrf).to_owned();
            let problem = Problem::OtherVrf {
                interface: interface.name.clone(),
                found,
                expected,
            };
            sink.push(name_place, problem);
            return None;
        }
    }
    match (&table.via, named) {
        (Field::Invalid, _) => None,
        (Field::Absent, None) => {
            let expected = "the address of the next router, or an interface";
            sink.push(&place.child("via"), Problem::Missing { expected });
            None
        }
        (Field::Absent, Some(index)) => Some(index),
        (Field::Given(via, place), Some(index)) => {
            check_host_on_link(*via, place, index, interfaces, ROUTER, sink).then_some(index)
        }
        (Field::Given(via, via_place), None) => {
            interface_towards(*via, via_place, place, vrf?, interfaces, sink)
        }
    }
}

/// The interface on whose prefix a router is.
fn interface_towards(
    via: IpAddr,
    place: &Place,
    hop: &Place,
    vrf: usize,
    interfaces: &Interfaces,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    if let IpAddr::V6(via) = via
        && via.is_unicast_link_local()
    {
        sink.push(
            &hop.child("interface"),
            Problem::LinkLocalWithoutInterface { via },
        );
        return None;
    }
    if !check_other_host(via, place, vrf, interfaces, ROUTER, sink) {
        return None;
    }
    match interfaces.on_link(vrf, via) {
        Some((prefix, index)) => check_is_host(via, prefix, place, sink).then_some(index),
        None if interfaces.addresses_are_complete() => {
            let owner = format!("VRF {:?}", interfaces.vrf_name(vrf));
            let expected = "an address in a connected prefix".to_owned();
            sink.push(
                place,
                Problem::OffLink {
                    found: via,
                    owner,
                    expected,
                },
            );
            None
        }
        None => None,
    }
}
