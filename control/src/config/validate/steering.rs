//! Steering: servers can be reached the way their pool says, services are addresses of nobody else.

mod translation;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use dataplane::table::maglev::{self, is_prime};
use ipnet::{IpNet, Ipv6Net};
use pipelines::steer::{FLOWS_DEFAULT, SERVERS_MAX, SOURCES_MAX};

use super::addresses::{check_host_bits, touches_special};
use super::authorities::Authorities;
use super::health;
use super::interfaces::Interfaces;
use super::names::{Names, Seen};
use super::neighbors::check_other_host;
use super::pools;
use crate::config::error::{Place, Sink};
use crate::config::file::{PoolTable, ServerTable, ServiceTable, SteeringTables};
use crate::config::health::Target;
use crate::config::model::{Npt66, Route};
use crate::config::problem::Problem;
use crate::config::reader::{Field, List};
use crate::config::steering::{Mode, Pool, Ports, Protocol, Server, Service, Steering};

/// Seconds.
const ANNOUNCE_DELAY: u32 = 10;

/// What of pools is judged when all of them, or services, are known.
#[derive(Default)]
struct Open {
    health: Vec<health::Open>,
    authorities: Authorities,
    fallbacks: Vec<Field<String>>,
}

/// What servers and services are judged beside.
struct Around<'a> {
    interfaces: &'a Interfaces,
    routes: &'a [Route],
    npt66: &'a [Npt66],
}

pub(super) fn steering(
    tables: SteeringTables,
    interfaces: &Interfaces,
    routes: &[Route],
    npt66: &[Npt66],
    sink: &mut Sink<'_>,
) -> Steering {
    let around = Around {
        interfaces,
        routes,
        npt66,
    };
    let section = tables.section;
    if let Some((found, place)) = section.flows.given()
        && !found.is_power_of_two()
    {
        sink.push(place, Problem::NotPowerOfTwo { found: *found });
    }
    let mut names = Names::new("pool");
    check_command(&section.on_change, sink);
    let mut open = Open::default();
    let mut pools = pools(tables.pools, &mut names, &around, &mut open, sink);
    pools::resolve(&open.fallbacks, &mut pools, &names, sink);
    let services = services(tables.services, &pools, &names, &around, sink);
    health::complete(open.health, &mut pools, &services, sink);
    let words = section.on_change.optional().into_iter();
    Steering {
        flows: section.flows.or(FLOWS_DEFAULT),
        node: section.node.optional(),
        announce_delay: Duration::from_secs(section.announce_delay.or(ANNOUNCE_DELAY).into()),
        on_change: words
            .flat_map(|list| list.items)
            .map(|(word, _)| word)
            .collect(),
        pools,
        services,
    }
}

fn pools(
    tables: Field<Vec<PoolTable>>,
    names: &mut Names,
    around: &Around<'_>,
    open: &mut Open,
    sink: &mut Sink<'_>,
) -> Vec<Pool> {
    if tables.is_invalid() {
        names.note_incomplete();
    }
    let mut count = 0;
    let mut sources = BTreeSet::new();
    let mut pools = Vec::new();
    for (index, table) in tables.or(Vec::new()).into_iter().enumerate() {
        let name = table.name.given();
        names.add(
            index,
            name.map(|(name, place)| (name.as_str(), place)),
            sink,
        );
        if let Some((list, place)) = table.servers.given() {
            let before = count;
            count += list.items.len();
            if before <= SERVERS_MAX && count > SERVERS_MAX {
                let what = "servers of all pools";
                let problem = Problem::TooMany {
                    found: count,
                    what,
                    maximum: SERVERS_MAX,
                };
                sink.push(place, problem);
            }
        }
        if let Some((list, place)) = table.sources.given() {
            let before = sources.len();
            sources.extend(list.items.iter().map(|(source, _)| *source));
            if before <= SOURCES_MAX && sources.len() > SOURCES_MAX {
                let problem = Problem::TooMany {
                    found: sources.len(),
                    what: "sources of all pools",
                    maximum: SOURCES_MAX,
                };
                sink.push(place, problem);
            }
        }
        pools.push(pool(index, table, around, open, sink));
    }
    pools
}

fn pool(
    index: usize,
    table: PoolTable,
    around: &Around<'_>,
    open: &mut Open,
    sink: &mut Sink<'_>,
) -> Pool {
    let vrf = around.interfaces.resolve_vrf(&table.vrf, sink);
    if let Some((found, place)) = table.table_size.given()
        && !is_prime(*found)
    {
        sink.push(place, Problem::NotPrime { found: *found });
    }
    let mode = (!table.mode.is_invalid()).then(|| table.mode.value().copied().unwrap_or_default());
    check_source(&table, mode, vrf, around.interfaces, sink);
    let is_without_port = matches!(mode, Some(Mode::L2 | Mode::Ip6Ip6 | Mode::Ipip));
    if let (Some((_, place)), true) = (table.port.given(), is_without_port) {
        let (found, other) = ("port", "mode = \"gue\", \"dnat\" or \"full-nat\"");
        sink.push(place, Problem::Without { found, other });
    }
    let is_other = mode.is_some_and(|mode| mode != Mode::Gue);
    if let (Some((_, place)), true) = (table.udp_checksum.given(), is_other) {
        let (found, other) = ("udp_checksum", "mode = \"gue\"");
        sink.push(place, Problem::Without { found, other });
    }
    translation::check_sources(&table, mode, vrf, around, sink);
    let mut servers = Vec::new();
    let (mut names, mut addresses) = (Seen::default(), Seen::default());
    for (table, _) in table
        .servers
        .optional()
        .into_iter()
        .flat_map(|list| list.items)
    {
        let server = server(
            table,
            vrf.zip(mode),
            (&mut names, &mut addresses),
            around,
            sink,
        );
        servers.push(server);
    }
    if let (Some(Mode::Ipip), Some((health, place))) = (mode, table.health.given())
        && !health.target.is_invalid()
        && health.target.value() != Some(&Target::Service)
    {
        // Checks are IPv6 packets.
        let (found, other) = ("health of mode = \"ipip\"", "target = \"service\"");
        sink.push(place, Problem::Without { found, other });
    }
    let health = health::health(
        table.health,
        index,
        vrf,
        around.interfaces,
        (&mut open.health, &mut open.authorities),
        sink,
    );
    let when_down = pools::when_down(&table.when_down, &table.fallback, &table.place, sink);
    open.fallbacks.push(table.fallback);
    Pool {
        name: table.name.or(String::new()),
        vrf: vrf.unwrap_or(0),
        mode: mode.unwrap_or_default(),
        source: table.source.optional(),
        port: table.port.optional(),
        udp_checksum: table.udp_checksum.or(true),
        sources: table
            .sources
            .optional()
            .into_iter()
            .flat_map(|list| list.items)
            .map(|(source, _)| source)
            .collect(),
        table_size: table.table_size.or(maglev::SIZE_DEFAULT),
        servers,
        health,
        when_down,
    }
}

/// The outer source is an own address, and there is one where there is an outer header.
fn check_source(
    table: &PoolTable,
    mode: Option<Mode>,
    vrf: Option<usize>,
    interfaces: &Interfaces,
    sink: &mut Sink<'_>,
) {
    let Some(mode) = mode else {
        return;
    };
    let (source, place) = match (mode, table.source.given()) {
        (Mode::L2 | Mode::Dnat | Mode::FullNat, None) => return,
        (Mode::L2 | Mode::Dnat | Mode::FullNat, Some((_, place))) => {
            let (found, other) = ("source", "mode = \"ip6ip6\", \"ipip\" or \"gue\"");
            return sink.push(place, Problem::Without { found, other });
        }
        (Mode::Ip6Ip6 | Mode::Ipip | Mode::Gue, None) => {
            if table.source.is_absent() {
                let found = match mode {
                    Mode::Ipip => "mode = \"ipip\"",
                    Mode::Gue => "mode = \"gue\"",
                    _ => "mode = \"ip6ip6\"",
                };
                let other = "source";
                sink.push(&table.place, Problem::Without { found, other });
            }
            return;
        }
        (Mode::Ip6Ip6 | Mode::Ipip | Mode::Gue, Some((source, place))) => (*source, place),
    };
    let is_v4 = mode == Mode::Ipip;
    if source.addr().is_ipv4() != is_v4 {
        return refuse_family(source.addr(), place, is_v4, sink);
    }
    if source.prefix_len() < source.max_prefix_len() {
        let wrong = match touches_special(source) {
            Some(kind) => Some((kind, "a prefix of unicast addresses")),
            None if !is_v4 => Some(("is a prefix", "an own address")),
            None => None,
        };
        if let Some((kind, expected)) = wrong {
            let found = source.to_string();
            let problem = Problem::WrongKind {
                found,
                kind,
                expected,
            };
            sink.push(place, problem);
        } else {
            check_host_bits(source, place, sink);
        }
        return;
    }
    if let Some(vrf) = vrf {
        interfaces.check_own(vrf, source.addr(), place, sink);
    }
}

/// A tunnel's two ends are of one family, that of its mode.
fn refuse_family(found: IpAddr, place: &Place, wants_v4: bool, sink: &mut Sink<'_>) {
    let (kind, expected) = if wants_v4 {
        ("is an IPv6 address", "an IPv4 address with mode = \"ipip\"")
    } else {
        ("is an IPv4 address", "an IPv6 address, or mode = \"ipip\"")
    };
    let found = found.to_string();
    let problem = Problem::WrongKind {
        found,
        kind,
        expected,
    };
    sink.push(place, problem);
}

fn server(
    table: ServerTable,
    within: Option<(usize, Mode)>,
    (names, addresses): (&mut Seen<String>, &mut Seen<Ipv6Addr>),
    around: &Around<'_>,
    sink: &mut Sink<'_>,
) -> Server {
    let mut interface = None;
    if let Some((address, place)) = table.address.given() {
        if let Some(first) = addresses.insert(*address, place) {
            let problem = Problem::Duplicate {
                what: "server",
                found: IpAddr::V6(*address).to_canonical().to_string(),
                scope: "address once in a pool",
            };
            sink.push_related(place, problem, first, "first here");
        } else if let Some((vrf, mode)) = within {
            interface = on_link(*address, place, vrf, mode, around, sink);
        }
    }
    if let Some((name, place)) = table.name.given()
        && let Some(first) = names.insert(name.clone(), place)
    {
        let problem = Problem::Duplicate {
            what: "server",
            found: format!("{name:?}"),
            scope: "name once in a pool",
        };
        sink.push_related(place, problem, first, "first here");
    }
    let address = table.address.or(Ipv6Addr::UNSPECIFIED);
    Server {
        name: table
            .name
            .or(IpAddr::V6(address).to_canonical().to_string()),
        address,
        weight: table.weight.or(1),
        drained: table.drained.or(false),
        interface,
    }
}

/// The interface on whose link a server is. By its MAC address only such a one is reached.
fn on_link(
    address: Ipv6Addr,
    place: &Place,
    vrf: usize,
    mode: Mode,
    around: &Around<'_>,
    sink: &mut Sink<'_>,
) -> Option<usize> {
    let interfaces = around.interfaces;
    let expected = "a server's own address";
    let ip = IpAddr::V6(address).to_canonical();
    if ip.is_ipv4() != (mode == Mode::Ipip) {
        refuse_family(ip, place, mode == Mode::Ipip, sink);
        return None;
    }
    if !check_other_host(ip, place, vrf, interfaces, expected, sink) {
        return None;
    }
    // The longest prefix decides: a route may lead straight onto a link, or away from it.
    let covering = around.routes.iter();
    let covering = covering.filter(|route| route.vrf == vrf && route.prefix.contains(&ip));
    let route = covering.max_by_key(|route| route.prefix.prefix_len());
    let connected = interfaces.on_link(vrf, ip);
    let by_route = route.filter(|route| {
        connected.is_none_or(|(prefix, _)| route.prefix.prefix_len() > prefix.prefix_len())
    });
    let found = match by_route {
        Some(route) => (0..interfaces.list().len()).find(|index| route.is_on_link(*index)),
        None => connected.map(|(_, interface)| interface),
    };
    if found.is_none() && mode == Mode::L2 && interfaces.addresses_are_complete() {
        let problem = Problem::OffLink {
            found: ip,
            owner: format!("an interface in VRF {:?}", interfaces.vrf_name(vrf)),
            expected: "a server on a link, or another mode than \"l2\"".to_owned(),
        };
        sink.push(place, problem);
    }
    found
}

fn services(
    tables: Field<Vec<ServiceTable>>,
    pools: &[Pool],
    pool_names: &Names,
    around: &Around<'_>,
    sink: &mut Sink<'_>,
) -> Vec<Service> {
    let mut names = Names::new("service");
    let mut taken: Vec<(usize, Ipv6Net, Protocol, Ports, Place)> = Vec::new();
    let mut translated = translation::Answers::default();
    let mut services = Vec::new();
    let mut counted = Vec::new();
    for (index, table) in tables.or(Vec::new()).into_iter().enumerate() {
        let name = table.name.given();
        names.add(
            index,
            name.map(|(name, place)| (name.as_str(), place)),
            sink,
        );
        let pool = pool_names.resolve(&table.pool, sink);
        let vrf = pool.and_then(|pool| pools.get(pool)).map(|pool| pool.vrf);
        let prefix = table.prefix.given();
        let prefix =
            prefix.filter(|(prefix, place)| check_prefix(**prefix, place, vrf, around, sink));
        if let Some((prefix, place)) = prefix {
            translation::check_apart(*prefix, place, vrf, pools, sink);
        }
        let protocol = table.protocol.value().copied().unwrap_or_default();
        if let Some((_, place)) = table.ports.given()
            && !table.protocol.is_invalid()
            && !protocol.has_ports()
        {
            let (found, other) = (
                "ports",
                "protocol = \"tcp\", \"udp\", \"udp-lite\" or \"sctp\"",
            );
            sink.push(place, Problem::Without { found, other });
        }
        if let (Some((prefix, place)), Some(vrf), false) =
            (prefix, vrf, table.protocol.is_invalid())
        {
            let all = Ports {
                first: 0,
                last: u16::MAX,
            };
            let given = table.ports.value().map(|list| &list.items[..]);
            let whole = [(all, place.clone())];
            for (ports, place) in given.unwrap_or(&whole) {
                let clash = taken
                    .iter()
                    .find(|(other_vrf, other, protocol_of, range, _)| {
                        // All ports of a protocol give way to some of them.
                        let is_same_kind = (*range == all) == (*ports == all);
                        (*other_vrf, *other, *protocol_of) == (vrf, *prefix, protocol)
                            && is_same_kind
                            && range.first <= ports.last
                            && ports.first <= range.last
                    });
                if let Some((.., first)) = clash {
                    let (what, found) = match table.ports.given() {
                        Some(_) => ("port", ports.to_string()),
                        None => ("service address", prefix.to_string()),
                    };
                    let problem = Problem::Duplicate {
                        what,
                        found,
                        scope: "once for an address and protocol",
                    };
                    sink.push_related(place, problem, first, "first here");
                }
                taken.push((vrf, *prefix, protocol, *ports, place.clone()));
            }
        }
        let by_source = pools::by_source(&table.pools, pool, pools, pool_names, sink);
        if let (Some((_, place)), Some(pool)) = (table.flows_max.given(), pool) {
            let of_service = by_source.iter().map(|one| one.pool).chain([pool]);
            counted.push((index, of_service.collect(), place.clone()));
        }
        if let Some(pool) = pool {
            let chosen = by_source.iter().map(|one| one.pool).chain([pool]);
            for pool in pools::with_fallbacks(chosen, pools) {
                translated.check((index, &table), pool, sink);
            }
        }
        let ports = table.ports.optional().into_iter();
        services.push(Service {
            name: table.name.or(String::new()),
            prefix: table.prefix.or(Ipv6Net::default()),
            protocol,
            ports: ports
                .flat_map(|list| list.items)
                .map(|(ports, _)| ports)
                .collect(),
            pool: pool.unwrap_or(0),
            pools: by_source,
            new_flows_per_second: table.new_flows_per_second.optional(),
            flows_max: table.flows_max.optional(),
            affinity: table.affinity.or_default(),
        });
    }
    pools::check_counted(&counted, pools, &services, sink);
    services
}

/// A program is found the same way whatever the directory and the path of the process.
fn check_command(command: &Field<List<String>>, sink: &mut Sink<'_>) {
    let first = command.value().and_then(|list| list.items.first());
    if let Some((program, place)) = first
        && !program.starts_with('/')
    {
        let problem = Problem::Malformed {
            found: program.clone(),
            what: "a program",
            expected: "its absolute path, such as \"/usr/local/bin/announce\"",
        };
        sink.push(place, problem);
    }
}

/// A service address is nobody's: routed to this box, on no link, with no route and no rule of its own.
fn check_prefix(
    prefix: Ipv6Net,
    place: &Place,
    vrf: Option<usize>,
    around: &Around<'_>,
    sink: &mut Sink<'_>,
) -> bool {
    let net = IpNet::V6(prefix);
    if !check_host_bits(net, place, sink) {
        return false;
    }
    if let Some(kind) = touches_special(net) {
        let problem = Problem::WrongKind {
            found: prefix.to_string(),
            kind,
            expected: "a prefix of global or unique local unicast addresses",
        };
        sink.push(place, problem);
        return false;
    }
    let Some(vrf) = vrf else {
        return true;
    };
    let interfaces = around.interfaces;
    let first = IpAddr::V6(prefix.network());
    let connected = interfaces.on_link(vrf, first);
    let connected = connected.filter(|(link, _)| link.contains(&net));
    let route = around
        .routes
        .iter()
        .any(|route| (route.vrf, route.prefix) == (vrf, net));
    let of_vrf = |rule: &&Npt66| interfaces.vrf_of(rule.interface) == vrf;
    let rule = around
        .npt66
        .iter()
        .filter(of_vrf)
        .find(|rule| IpNet::V6(rule.outside) == net);
    let (kind, owner) = if let Some((_, interface)) = connected {
        (
            "on the link",
            format!("interface {:?}", interfaces.name(interface)),
        )
    } else if route {
        ("the prefix", "a route".to_owned())
    } else if let Some(rule) = rule {
        ("the outside prefix", format!("rule {:?}", rule.name))
    } else {
        return true;
    };
    let problem = Problem::RouteConflict {
        found: net,
        kind,
        owner,
    };
    sink.push(place, problem);
    false
}
