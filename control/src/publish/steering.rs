//! Steering: from the configuration, and what was said at run time, to what workers' tables are made of.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use pipelines::steer;

use super::vrf;
use crate::config::Config;
use crate::config::steering::{Affinity, Mode, Pool, Server, Service};

/// What was said of a server at run time, instead of what the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Override {
    pub(crate) state: Option<steer::State>,
    pub(crate) weight: Option<u16>,
}

/// By pool and the server's address.
pub(crate) type Overrides = BTreeMap<(String, Ipv6Addr), Override>;

/// The state of a server that is in force.
pub(crate) fn state(pool: &Pool, server: &Server, overrides: &Overrides) -> steer::State {
    let said = overrides.get(&(pool.name.clone(), server.address));
    said.and_then(|said| said.state)
        .unwrap_or(match server.drained {
            true => steer::State::Drained,
            false => steer::State::Up,
        })
}

/// The weight of a server that is in force.
pub(crate) fn weight(pool: &Pool, server: &Server, overrides: &Overrides) -> u16 {
    let said = overrides.get(&(pool.name.clone(), server.address));
    said.and_then(|said| said.weight).unwrap_or(server.weight)
}

/// What there is to steer; `None`: nothing. `seed` stays as long as workers shall remember flows.
pub(crate) fn settings(
    config: &Config,
    overrides: &Overrides,
    seed: u64,
) -> Option<steer::Settings> {
    let steering = &config.steering;
    if steering.pools.is_empty() {
        return None;
    }
    Some(steer::Settings {
        flows: steering.flows,
        seed,
        pools: steering
            .pools
            .iter()
            .map(|one| pool(one, overrides))
            .collect(),
        services: steering
            .services
            .iter()
            .map(|one| service(config, one))
            .collect(),
    })
}

fn pool(pool: &Pool, overrides: &Overrides) -> steer::PoolSpec {
    let servers = pool.servers.iter().map(|server| steer::ServerSpec {
        address: server.address,
        weight: weight(pool, server, overrides),
        state: state(pool, server, overrides),
    });
    steer::PoolSpec {
        name: pool.name.clone(),
        vrf: vrf(pool.vrf),
        mode: match (pool.mode, pool.source) {
            (Mode::Ip6Ip6, Some(source)) => steer::Mode::Ip6Ip6 { source },
            (Mode::Dnat, _) => steer::Mode::Dnat { port: pool.port },
            (Mode::FullNat, _) => steer::Mode::FullNat { port: pool.port },
            (Mode::L2 | Mode::Ip6Ip6, _) => steer::Mode::L2,
        },
        sources: pool.sources.clone(),
        table_size: pool.table_size,
        servers: servers.collect(),
    }
}

fn service(config: &Config, service: &Service) -> steer::ServiceSpec {
    let pool = config.steering.pools.get(service.pool);
    steer::ServiceSpec {
        vrf: vrf(pool.map_or(0, |pool| pool.vrf)),
        prefix: service.prefix,
        protocol: service
            .protocol
            .number()
            .map_or(steer::Protocol::Any, steer::Protocol::Number),
        ports: service
            .ports
            .iter()
            .map(|ports| ports.first..=ports.last)
            .collect(),
        pool: service.pool,
        affinity: match service.affinity {
            Affinity::Flow => steer::Affinity::Flow,
            Affinity::Source => steer::Affinity::Source,
        },
    }
}
