//! Services in the running instance: what is said of servers at run time, and how they are doing.
//!
//! A state or weight that was given at run time stays as long as the server is in its pool, over reloads too.

use std::time::Instant;

use dataplane::counters::WorkerCounters;
use pipelines::steer::State;

use super::Appliance;
use crate::admin::protocol::{Answer, Refusal};
use crate::admin::service::{ServerChange, ServiceChange};
use crate::admin::view::{PoolView, ServerCounts, ServerView, ServiceView, Services};
use crate::config::Config;
use crate::config::steering::{Pool, Server};
use crate::platform::Platform;
use crate::proto::ndp::InterfaceIndex;
use crate::publish::steering::{self, Override, Overrides};

/// What is kept of steering beside the prefix tables.
#[derive(Debug)]
pub(super) struct SteeringState {
    /// What others cannot guess of where workers remember flows.
    seed: u64,
    overrides: Overrides,
    /// By place: what was counted when it got its server.
    bases: Vec<Base>,
}

impl SteeringState {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            overrides: Overrides::new(),
            bases: Vec::new(),
        }
    }
}

/// A place among the counters, and whose it is.
#[derive(Debug, Clone, Default)]
struct Base {
    owner: Option<(String, std::net::Ipv6Addr)>,
    counts: ServerCounts,
}

impl<P: Platform> Appliance<P> {
    /// Services are what the configuration says, and what was said at run time. In force with the next publication.
    pub(super) fn configure_steering(&mut self) {
        let overrides = &mut self.steering.overrides;
        overrides.retain(|key, _| find(&self.config, key).is_some());
        let settings = steering::settings(&self.config, overrides, self.steering.seed);
        self.rib.set_steering(settings);
        self.note_places();
        self.outdated = true;
    }

    /// Counters belong to places: note what a place had counted when another server gets it.
    fn note_places(&mut self) {
        let mut bases = std::mem::take(&mut self.steering.bases);
        for pool in &self.config.steering.pools {
            let Some(state) = self.rib.pool(&pool.name) else {
                continue;
            };
            for (server, place) in pool.servers.iter().zip(&state.servers) {
                let Some((place, _)) = *place else { continue };
                if bases.len() <= place {
                    bases.resize(place + 1, Base::default());
                }
                let owner = Some((pool.name.clone(), server.address));
                if bases[place].owner != owner {
                    let counts = self.server_sum(place);
                    bases[place] = Base { owner, counts };
                }
            }
        }
        self.steering.bases = bases;
    }

    /// Seconds pass for what workers remember of flows.
    pub(super) fn tick_steering(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.started).as_secs();
        self.rib.set_steering_time(seconds as u32); // `as`: it may wrap
    }

    /// Change a server: of a pool, by its name or address.
    pub(super) fn change_service(&mut self, change: &ServiceChange) -> Answer {
        let pools = &self.config.steering.pools;
        let Some(pool) = pools.iter().find(|pool| pool.name == change.pool) else {
            let names = pools.iter().map(|pool| pool.name.as_str());
            return unknown("pool", &change.pool, names.collect());
        };
        let is_meant = |server: &&Server| {
            server.name == change.server
                || change
                    .server
                    .parse()
                    .is_ok_and(|address: std::net::Ipv6Addr| address == server.address)
        };
        let Some(server) = pool.servers.iter().find(is_meant) else {
            let names = pool.servers.iter().map(|server| server.name.as_str());
            return unknown("server", &change.server, names.collect());
        };
        let key = (pool.name.clone(), server.address);
        let mut said = self
            .steering
            .overrides
            .get(&key)
            .copied()
            .unwrap_or_default();
        match change.change {
            ServerChange::Drain => said.state = Some(State::Drained),
            ServerChange::Down => said.state = Some(State::Down),
            ServerChange::Enable => said.state = Some(State::Up),
            ServerChange::Weight(weight) if (1..=256).contains(&weight) => {
                said.weight = Some(weight);
            }
            ServerChange::Weight(weight) => {
                let error = format_args!("weight {weight} is out of range, expected 1 to 256");
                return Answer::refused(Refusal::Request, error);
            }
        }
        tracing::info!(
            "pool {}, server {}: {:?}",
            pool.name,
            server.name,
            change.change
        );
        self.steering.overrides.insert(key.clone(), said);
        self.configure_steering();
        match find(&self.config, &key) {
            Some((pool, server)) => Answer::done(self.show_server(pool, server)),
            None => Answer::refused(Refusal::Failed, "the server is gone"),
        }
    }

    pub(super) fn show_services(&self, now: Instant) -> Services {
        let steering = &self.config.steering;
        let pool_name = |index: usize| {
            let pool = steering.pools.get(index);
            pool.map_or(String::new(), |pool| pool.name.clone())
        };
        let services = steering.services.iter().map(|service| ServiceView {
            name: service.name.clone(),
            prefix: service.prefix.to_string(),
            protocol: service.protocol.name().to_owned(),
            ports: service.ports.iter().map(ToString::to_string).collect(),
            pool: pool_name(service.pool),
            affinity: format!("{:?}", service.affinity).to_lowercase(),
        });
        let pools = steering.pools.iter().map(|pool| PoolView {
            name: pool.name.clone(),
            vrf: self.config.vrfs[pool.vrf].clone(),
            mode: pool.mode.name().to_owned(),
            table_size: pool.table_size,
            digest: self
                .rib
                .pool(&pool.name)
                .map_or(String::new(), |state| format!("{:016x}", state.digest)),
            servers: pool
                .servers
                .iter()
                .map(|server| self.show_server(pool, server))
                .collect(),
        });
        let sum = |read: fn(&WorkerCounters) -> u64| -> u64 {
            self.workers
                .iter()
                .map(|worker| read(&worker.counters))
                .sum()
        };
        Services {
            monotonic_ns: self.clock(now),
            services: services.collect(),
            pools: pools.collect(),
            flows_max: steering.flows,
            displaced: sum(|counters| counters.steer.displaced.read()),
            stateless: sum(|counters| counters.steer.stateless.read()),
            moved: sum(|counters| counters.steer.moved.read()),
        }
    }

    fn show_server(&self, pool: &Pool, server: &Server) -> ServerView {
        let overrides = &self.steering.overrides;
        let state = steering::state(pool, server, overrides);
        let said = overrides.get(&(pool.name.clone(), server.address));
        let known = self.rib.pool(&pool.name);
        let position = pool
            .servers
            .iter()
            .position(|other| other.address == server.address);
        let place = known
            .as_ref()
            .zip(position)
            .and_then(|(known, position)| *known.servers.get(position)?);
        let counts = place.map_or(ServerCounts::default(), |(place, _)| {
            self.server_counts(place)
        });
        ServerView {
            name: server.name.clone(),
            address: server.address.to_string(),
            state: match state {
                State::Up => "up",
                State::Drained => "drained",
                State::Down => "down",
            }
            .to_owned(),
            overridden: said.is_some_and(|said| *said != Override::default()),
            weight: steering::weight(pool, server, overrides),
            share: place.map_or(0.0, |(_, cells)| cells as f64 / f64::from(pool.table_size)),
            resolved: server
                .interface
                .map(|interface| self.is_resolved(interface, server)),
            counts,
        }
    }

    fn is_resolved(&self, interface: usize, server: &Server) -> bool {
        let index = InterfaceIndex(self.slots.id(interface).0);
        let mut neighbors = self.machine.neighbors();
        neighbors.any(|neighbor| {
            (neighbor.interface, neighbor.address) == (index, server.address.into())
                && neighbor.mac.is_some()
        })
    }

    fn server_counts(&self, place: usize) -> ServerCounts {
        let sum = self.server_sum(place);
        let base = self
            .steering
            .bases
            .get(place)
            .map(|base| base.counts)
            .unwrap_or_default();
        ServerCounts {
            packets: sum.packets.saturating_sub(base.packets),
            bytes: sum.bytes.saturating_sub(base.bytes),
            flows: sum.flows.saturating_sub(base.flows),
        }
    }

    fn server_sum(&self, place: usize) -> ServerCounts {
        let mut sum = ServerCounts::default();
        for worker in &self.workers {
            if let Some(server) = worker.counters.servers.get(place) {
                sum.packets += server.traffic.packets.read();
                sum.bytes += server.traffic.bytes.read();
                sum.flows += server.flows.read();
            }
        }
        sum
    }
}

fn find<'c>(
    config: &'c Config,
    (pool, address): &(String, std::net::Ipv6Addr),
) -> Option<(&'c Pool, &'c Server)> {
    let pool = config.steering.pools.iter().find(|one| one.name == *pool)?;
    let server = pool
        .servers
        .iter()
        .find(|server| server.address == *address)?;
    Some((pool, server))
}

fn unknown(what: &str, found: &str, names: Vec<&str>) -> Answer {
    let names = match &names[..] {
        [] => "none is configured".to_owned(),
        names => format!("expected one of {}", names.join(", ")),
    };
    Answer::refused(
        Refusal::Failed,
        format_args!("there is no {what} {found:?}, {names}"),
    )
}
