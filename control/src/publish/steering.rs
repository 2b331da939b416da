//! Steering: from the configuration, and what was said at run time, to what workers' tables are made of.

use std::collections::BTreeMap;

use ipnet::IpNet;
use pipelines::steer;

use super::vrf;
use crate::config::Config;
use crate::config::steering::{Affinity, GUE_PORT, Mode, Pool, Server, Service, WhenDown};
use crate::proto::health::ServerKey;

/// What was said of a server at run time, instead of what the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Override {
    pub(crate) state: Option<steer::State>,
    pub(crate) weight: Option<u16>,
    /// The state holds whatever checks say.
    pub(crate) is_forced: bool,
}

impl Override {
    /// This state from now on.
    pub(crate) fn set(&mut self, state: steer::State, is_forced: bool) {
        self.state = Some(state);
        self.is_forced = is_forced;
    }
}

/// By server.
pub(crate) type Overrides = BTreeMap<ServerKey, Override>;

/// Whether checks say that a server may have flows, or say nothing.
pub(crate) type IsHealthy<'a> = &'a dyn Fn(&ServerKey) -> bool;

/// The state of a server that is in force: what the operator insists on, else down where checks say so, else what the
/// operator said, else what the configuration says.
pub(crate) fn state(
    pool: &Pool,
    server: &Server,
    overrides: &Overrides,
    is_healthy: IsHealthy<'_>,
) -> steer::State {
    let key = (pool.name.clone(), server.address);
    let said = overrides.get(&key).copied().unwrap_or_default();
    match said.state {
        Some(state @ (steer::State::Down | steer::State::Cut)) => state,
        Some(state) if said.is_forced => state,
        _ if !is_healthy(&key) => steer::State::Down,
        Some(state) => state,
        None if server.drained => steer::State::Drained,
        None => steer::State::Up,
    }
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
    is_healthy: IsHealthy<'_>,
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
            .map(|one| pool(one, overrides, is_healthy))
            .collect(),
        services: steering
            .services
            .iter()
            .map(|one| service(config, one))
            .collect(),
        checked: super::health::checked(config),
    })
}

fn pool(pool: &Pool, overrides: &Overrides, is_healthy: IsHealthy<'_>) -> steer::PoolSpec {
    let servers = pool.servers.iter().map(|server| steer::ServerSpec {
        address: server.address,
        weight: weight(pool, server, overrides),
        state: state(pool, server, overrides, is_healthy),
    });
    steer::PoolSpec {
        name: pool.name.clone(),
        vrf: vrf(pool.vrf),
        mode: mode(pool),
        sources: pool.sources.clone(),
        table_size: pool.table_size,
        servers: servers.collect(),
        when_down: match pool.when_down {
            WhenDown::Refuse => steer::WhenDown::Refuse,
            WhenDown::Drop => steer::WhenDown::Drop,
            WhenDown::Fallback(other) => steer::WhenDown::Fallback(other),
        },
    }
}

/// A tunnel has a source of its family: the configuration was judged.
pub(crate) fn mode(pool: &Pool) -> steer::Mode {
    match (pool.mode, pool.source) {
        (Mode::Ip6Ip6, Some(IpNet::V6(source))) => steer::Mode::Ip6Ip6 {
            source: source.addr(),
        },
        (Mode::Ipip, Some(IpNet::V4(source))) => steer::Mode::IpIp { source },
        (Mode::Gue, Some(IpNet::V6(source))) => steer::Mode::Gue {
            source: source.addr(),
            port: pool.port.unwrap_or(GUE_PORT),
            checksum: pool.udp_checksum,
        },
        (Mode::Dnat, _) => steer::Mode::Dnat { port: pool.port },
        (Mode::FullNat, _) => steer::Mode::FullNat { port: pool.port },
        (Mode::L2 | Mode::Ip6Ip6 | Mode::Ipip | Mode::Gue, _) => steer::Mode::L2,
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
        pools_by_source: service
            .pools
            .iter()
            .map(|one| (one.source, one.pool))
            .collect(),
        limits: steer::Limits {
            new_per_second: service.new_flows_per_second.map(|most| share(config, most)),
            flows: service.flows_max.map(|most| share(config, most)),
        },
        affinity: match service.affinity {
            Affinity::Flow => steer::Affinity::Flow,
            Affinity::Source => steer::Affinity::Source,
        },
    }
}

/// One worker's share of what all may, at least 1.
pub(crate) fn share(config: &Config, all: u32) -> u32 {
    let workers = u32::try_from(config.workers.cores.len()).unwrap_or(u32::MAX);
    all.div_ceil(workers.max(1))
}
