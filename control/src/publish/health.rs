//! Health checks: from the configuration to what is asked of each server, from where.

use std::net::{IpAddr, Ipv6Addr};

use pipelines::steer;
use pipelines::tables::VrfId;

use super::vrf;
use crate::config::Config;
use crate::config::health::Health;
use crate::config::steering::{Pool, Server};
use crate::proto::health::{Probe, TOKENS, Target};

const _: () = assert!(
    TOKENS == steer::TOKENS,
    "workers and checks tell ports alike"
);

/// Every server that is checked. `seed`: that of the steering settings, by which workers know answers.
pub(crate) fn targets(config: &Config, seed: u64) -> Vec<Target> {
    let pools = config.steering.pools.iter();
    let checked = pools.filter_map(|pool| Some((pool, pool.health.as_ref()?)));
    checked
        .flat_map(|(pool, health)| {
            let servers = pool.servers.iter();
            servers.filter_map(move |server| target(config, pool, health, server, seed))
        })
        .collect()
}

/// From which addresses answers come.
pub(super) fn checked(config: &Config) -> Vec<(VrfId, Ipv6Addr)> {
    let pools = config.steering.pools.iter();
    let checked = pools.filter_map(|pool| Some((pool, pool.health.as_ref()?)));
    let peers = checked.flat_map(|(pool, health)| {
        let servers = pool.servers.iter();
        servers.map(move |server| (vrf(pool.vrf), peer(health, server)))
    });
    peers.collect()
}

fn peer(health: &Health, server: &Server) -> Ipv6Addr {
    health.service.unwrap_or(server.address)
}

/// `None`: the VRF has no address of ours.
fn target(
    config: &Config,
    pool: &Pool,
    health: &Health,
    server: &Server,
    seed: u64,
) -> Option<Target> {
    let source = health.source.or_else(|| source(config, pool, server))?;
    let destination = peer(health, server);
    let mut probe = health.probe.clone();
    if let Probe::Http {
        port, host, tls, ..
    } = &mut probe
        && host.is_empty()
    {
        *host = match (*port, &tls) {
            (80, None) | (443, Some(_)) => format!("[{destination}]"),
            (port, _) => format!("[{destination}]:{port}"),
        };
    }
    Some(Target {
        key: (pool.name.clone(), server.address),
        vrf: vrf(pool.vrf).0,
        source,
        destination,
        token: steer::token(seed, vrf(pool.vrf), source, destination),
        probe,
        pace: health.pace,
    })
}

/// The address on the server's link, else that of the tunnel, else any of the VRF.
fn source(config: &Config, pool: &Pool, server: &Server) -> Option<Ipv6Addr> {
    let on_link = server.interface.and_then(|interface| {
        let addresses = &config.interfaces.get(interface)?.addresses;
        let is_near = |net: &&ipnet::IpNet| net.contains(&IpAddr::V6(server.address));
        let near = addresses.iter().find(is_near);
        first_v6(near.into_iter().chain(addresses))
    });
    let of_vrf = config.interfaces.iter().filter(|one| one.vrf == pool.vrf);
    on_link
        .or_else(|| first_v6(pool.source.iter()))
        .or_else(|| first_v6(of_vrf.flat_map(|one| &one.addresses)))
}

fn first_v6<'a>(mut addresses: impl Iterator<Item = &'a ipnet::IpNet>) -> Option<Ipv6Addr> {
    addresses.find_map(|net| match net.addr() {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    })
}
