//! How servers are checked: what is asked has what it needs, from an address of ours, at a port of the service.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::authorities::Authorities;
use super::interfaces::Interfaces;
use crate::config::error::{Place, Sink};
use crate::config::file::{HealthKind, HealthTable};
use crate::config::health::{Health, Target};
use crate::config::problem::Problem;
use crate::config::reader::Field;
use crate::config::steering::{Mode, Pool, Service};
use crate::proto::health::{Pace, Probe, Tls};

const INTERVAL: u32 = 2000;
const TIMEOUT_MAX: u32 = 1000;
const RISE: u8 = 2;
const FALL: u8 = 3;
const HOLD_DOWN_MAX: u32 = 300;
const STATUS: (u16, u16) = (200, 399);

/// A check whose port is that of a service, which is not known yet; and where to say that there is none.
pub(super) struct Open {
    pool: usize,
    place: Place,
    has_port: bool,
}

/// What a pool's `health` says.
pub(super) fn health(
    table: Field<HealthTable>,
    pool: usize,
    vrf: Option<usize>,
    interfaces: &Interfaces,
    (open, authorities): (&mut Vec<Open>, &mut Authorities),
    sink: &mut Sink<'_>,
) -> Option<Health> {
    let table = table.optional()?;
    if let (Some((source, place)), Some(vrf)) = (table.source.given(), vrf) {
        interfaces.check_own(vrf, IpAddr::V6(*source), place, sink);
    }
    let pace = pace(&table, sink);
    let kind = table.kind.value().copied();
    if let Some(kind) = kind {
        check_keys(&table, kind, sink);
    }
    let kind = kind?;
    open.push(Open {
        pool,
        place: table.place.clone(),
        has_port: kind == HealthKind::Icmpv6 || !table.port.is_absent(),
    });
    let tls = (kind == HealthKind::Https).then(|| tls(&table, authorities, sink));
    let port = table.port.or(0);
    let status = table.status.optional().into_iter();
    let status: Vec<_> = status
        .flat_map(|list| list.items)
        .map(|(one, _)| one)
        .collect();
    Some(Health {
        probe: match kind {
            HealthKind::Icmpv6 => Probe::Icmpv6,
            HealthKind::Tcp => Probe::Tcp { port },
            HealthKind::Http | HealthKind::Https => Probe::Http {
                port,
                path: table.path.or("/".to_owned()),
                host: table.host.or(String::new()),
                status: if status.is_empty() {
                    vec![STATUS]
                } else {
                    status
                },
                tls,
            },
            HealthKind::Udp => Probe::Udp {
                port,
                send: table.send.or(Vec::new()),
                expect: table.expect.or(Vec::new()),
            },
        },
        pace,
        target: table.target.or_default(),
        source: table.source.optional(),
        service: None,
    })
}

/// The name is that of `host`, unless there is one for this.
fn tls(table: &HealthTable, authorities: &mut Authorities, sink: &mut Sink<'_>) -> Tls {
    let mut server_name = table.server_name.value().cloned();
    if let Some((host, place)) = table.host.given()
        && table.server_name.is_absent()
    {
        server_name = name_of(host);
        if server_name.is_none() {
            let (found, other) = ("host that is no name of a server", "server_name");
            sink.push(place, Problem::Without { found, other });
        }
    }
    Tls {
        server_name,
        trust: authorities.trust(&table.verify, sink),
    }
}

/// The name or address of a Host header, without its port (RFC 9110 7.2).
fn name_of(host: &str) -> Option<ServerName<'static>> {
    if let Some(rest) = host.strip_prefix('[') {
        let address: Ipv6Addr = rest.split_once(']')?.0.parse().ok()?;
        return Some(IpAddr::V6(address).into());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    ServerName::try_from(name.to_owned()).ok()
}

fn pace(table: &HealthTable, sink: &mut Sink<'_>) -> Pace {
    let interval = table.interval_ms.value().copied().unwrap_or(INTERVAL);
    let default = (interval / 2).min(TIMEOUT_MAX);
    if let Some((found, place)) = table.timeout_ms.given()
        && !table.interval_ms.is_invalid()
        && *found > interval
    {
        more_than(*found, "interval_ms", interval, place, sink);
    }
    let longest = table
        .hold_down_max
        .value()
        .copied()
        .unwrap_or(HOLD_DOWN_MAX);
    if let Some((found, place)) = table.hold_down.given()
        && !table.hold_down_max.is_invalid()
        && *found > longest
    {
        more_than(*found, "hold_down_max", longest, place, sink);
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let milliseconds = |milliseconds: u32| Duration::from_millis(milliseconds.into());
    Pace {
        interval: milliseconds(interval),
        timeout: milliseconds(table.timeout_ms.value().copied().unwrap_or(default)),
        rise: table.rise.value().copied().unwrap_or(RISE),
        fall: table.fall.value().copied().unwrap_or(FALL),
        hold_down: seconds(table.hold_down.value().copied().unwrap_or(0)),
        hold_down_max: seconds(longest),
    }
}

fn more_than(found: u32, other: &'static str, maximum: u32, place: &Place, sink: &mut Sink<'_>) {
    let problem = Problem::MoreThan {
        found: found as usize, // `as`: u32 to usize
        other,
        maximum: maximum as usize, // `as`: u32 to usize
    };
    sink.push(place, problem);
}

/// Keys that mean nothing beside this kind.
fn check_keys(table: &HealthTable, kind: HealthKind, sink: &mut Sink<'_>) {
    const HTTP: &str = "kind = \"http\" or \"https\"";
    const HTTPS: &str = "kind = \"https\"";
    const UDP: &str = "kind = \"udp\"";
    const PORTS: &str = "kind = \"tcp\", \"http\", \"https\" or \"udp\"";
    fn place<T>(field: &Field<T>) -> Option<Place> {
        field.given().map(|(_, place)| place.clone())
    }
    let is_https = kind == HealthKind::Https;
    let is_http = is_https || kind == HealthKind::Http;
    let is_udp = kind == HealthKind::Udp;
    let keys = [
        (
            "port",
            PORTS,
            kind != HealthKind::Icmpv6,
            place(&table.port),
        ),
        ("path", HTTP, is_http, place(&table.path)),
        ("host", HTTP, is_http, place(&table.host)),
        ("status", HTTP, is_http, place(&table.status)),
        ("server_name", HTTPS, is_https, place(&table.server_name)),
        ("verify", HTTPS, is_https, place(&table.verify)),
        ("send", UDP, is_udp, place(&table.send)),
        ("expect", UDP, is_udp, place(&table.expect)),
    ];
    for (found, other, fits, place) in keys {
        if let (false, Some(place)) = (fits, place) {
            sink.push(&place, Problem::Without { found, other });
        }
    }
}

/// Ports and addresses that are those of services.
pub(super) fn complete(
    open: Vec<Open>,
    pools: &mut [Pool],
    services: &[Service],
    sink: &mut Sink<'_>,
) {
    for Open {
        pool: index,
        place,
        has_port,
    } in open
    {
        let Some(pool) = pools.get_mut(index) else {
            continue;
        };
        let Some(health) = &mut pool.health else {
            continue;
        };
        let mut of_pool = services.iter().filter(|service| service.pool == index);
        let is_translated = matches!(pool.mode, Mode::Dnat | Mode::FullNat);
        if health.target == Target::Service && is_translated {
            // Servers do not have the address.
            let (found, other) = (
                "target = \"service\"",
                "a mode that leaves the service address",
            );
            sink.push(&place, Problem::Without { found, other });
        } else if health.target == Target::Service {
            let address = of_pool.clone().find(|one| one.prefix.prefix_len() == 128);
            health.service = address.map(|service| service.prefix.addr());
            if health.service.is_none() {
                let (found, other) = ("target = \"service\"", "a service of the pool with a /128");
                sink.push(&place, Problem::Without { found, other });
            }
        }
        let own_port = pool.port.filter(|_| is_translated);
        let first = of_pool.find_map(|service| service.ports.first());
        match (&mut health.probe, first) {
            (
                Probe::Tcp { port } | Probe::Http { port, .. } | Probe::Udp { port, .. },
                Some(ports),
            ) if !has_port => *port = own_port.unwrap_or(ports.first),
            (_, None) if !has_port => {
                let (found, other) = ("health", "port, or a service of the pool with ports");
                sink.push(&place, Problem::Without { found, other });
            }
            _ => {}
        }
    }
}
