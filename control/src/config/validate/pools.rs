//! Pools beside each other: which one steps in for another, which clients have which, and whose flows are counted.

use ipnet::{IpNet, Ipv6Net};

use super::addresses::check_host_bits;
use super::names::{Names, Seen};
use crate::config::error::{Place, Sink};
use crate::config::file::{PoolBySourceTable, WhenDownWord};
use crate::config::problem::Problem;
use crate::config::reader::{Field, List};
use crate::config::steering::{Pool, PoolBySource, Service, WhenDown};

/// What becomes of new flows; which pool steps in is resolved when all are known.
pub(super) fn when_down(
    word: &Field<WhenDownWord>,
    fallback: &Field<String>,
    pool: &Place,
    sink: &mut Sink<'_>,
) -> WhenDown {
    const FALLBACK: &str = "when_down = \"fallback\"";
    match (word.value(), fallback.given()) {
        (Some(WhenDownWord::Fallback), None) if fallback.is_absent() => {
            let (found, other) = (FALLBACK, "fallback");
            sink.push(pool, Problem::Without { found, other });
        }
        (Some(WhenDownWord::Refuse | WhenDownWord::Drop), Some((_, place))) => {
            let (found, other) = ("fallback", FALLBACK);
            sink.push(place, Problem::Without { found, other });
        }
        (Some(WhenDownWord::Drop), None) => return WhenDown::Drop,
        _ => {}
    }
    WhenDown::Refuse
}

/// Pools that step in: of the same VRF and mode, and never the pool itself, by whatever way.
pub(super) fn resolve(
    fallbacks: &[Field<String>],
    pools: &mut [Pool],
    names: &Names,
    sink: &mut Sink<'_>,
) {
    for (index, fallback) in fallbacks.iter().enumerate() {
        let (Some(found), Some((name, place))) = (names.resolve(fallback, sink), fallback.given())
        else {
            continue;
        };
        let (Some(pool), Some(other)) = (pools.get(index), pools.get(found)) else {
            continue;
        };
        let refused = if (pool.vrf, pool.mode) != (other.vrf, other.mode) {
            Some((
                "is of another VRF or mode",
                "a pool of the same VRF and mode",
            ))
        } else if leads_to(pools, found, index) {
            Some((
                "leads back to this pool",
                "pools that step in one after the other",
            ))
        } else {
            None
        };
        if let Some((kind, expected)) = refused {
            let problem = Problem::WrongKind {
                found: format!("pool {name:?}"),
                kind,
                expected,
            };
            sink.push(place, problem);
        } else if let Some(pool) = pools.get_mut(index) {
            pool.when_down = WhenDown::Fallback(found);
        }
    }
}

/// These pools and those that take their places, each once.
pub(super) fn with_fallbacks(chosen: impl Iterator<Item = usize>, pools: &[Pool]) -> Vec<&Pool> {
    let mut found = Vec::new();
    let mut open: Vec<usize> = chosen.collect();
    while let Some(number) = open.pop() {
        if found.contains(&number) {
            continue;
        }
        found.push(number);
        if let Some(WhenDown::Fallback(next)) = pools.get(number).map(|pool| pool.when_down) {
            open.push(next);
        }
    }
    let pools = found.into_iter().filter_map(|number| pools.get(number));
    pools.collect()
}

/// Whether flows of pool `from` come to pool `to` at last. There is no circle among those before.
fn leads_to(pools: &[Pool], from: usize, to: usize) -> bool {
    let next = |pool: &usize| match pools.get(*pool)?.when_down {
        WhenDown::Fallback(next) => Some(next),
        WhenDown::Refuse | WhenDown::Drop => None,
    };
    let mut way = std::iter::successors(Some(from), next).take(pools.len());
    way.any(|pool| pool == to)
}

/// Pools of some clients: prefixes that differ, pools of the VRF and mode of the service's.
pub(super) fn by_source(
    table: &Field<List<PoolBySourceTable>>,
    default: Option<usize>,
    pools: &[Pool],
    names: &Names,
    sink: &mut Sink<'_>,
) -> Vec<PoolBySource> {
    let mut seen: Seen<Ipv6Net> = Seen::default();
    let mut found = Vec::new();
    for (table, _) in table.value().iter().flat_map(|list| &list.items) {
        let pool = names.resolve(&table.pool, sink);
        let default = default.and_then(|pool| pools.get(pool));
        if let (Some(pool), Some(default), Some((name, place))) = (
            pool.and_then(|pool| pools.get(pool)),
            default,
            table.pool.given(),
        ) && (pool.vrf, pool.mode) != (default.vrf, default.mode)
        {
            let problem = Problem::WrongKind {
                found: format!("pool {name:?}"),
                kind: "is of another VRF or mode",
                expected: "a pool of the same VRF and mode as the service's",
            };
            sink.push(place, problem);
        }
        let Some((source, place)) = table.source.given() else {
            continue;
        };
        if !check_host_bits(IpNet::V6(*source), place, sink) {
            continue;
        }
        if let Some(first) = seen.insert(*source, place) {
            let problem = Problem::Duplicate {
                what: "source",
                found: source.to_string(),
                scope: "once in a service",
            };
            sink.push_related(place, problem, first, "first here");
        }
        found.extend(pool.map(|pool| PoolBySource {
            source: *source,
            pool,
        }));
    }
    found
}

/// Flows are remembered by their server: where those of a service are counted, its pools have no other.
pub(super) fn check_counted(
    counted: &[(usize, Vec<usize>, Place)],
    pools: &[Pool],
    services: &[Service],
    sink: &mut Sink<'_>,
) {
    for (service, of_service, place) in counted {
        let others = services.iter().enumerate();
        let others = others.filter(|(index, _)| index != service);
        let mut used = others.flat_map(|(_, other)| {
            let by_source = other.pools.iter().map(|one| one.pool);
            by_source.chain([other.pool])
        });
        if let Some(shared) = used.find(|pool| of_service.contains(pool)) {
            let problem = Problem::WrongKind {
                found: format!("pool {:?}", pools.get(shared).map_or("", |pool| &pool.name)),
                kind: "has other services",
                expected: "pools of its own where flows_max counts their flows",
            };
            sink.push(place, problem);
        }
    }
}
