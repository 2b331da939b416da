//! Services in the running instance: what is said of servers at run time, and how they are doing.
//!
//! A state or weight that was given at run time stays as long as the server is in its pool, over reloads too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dataplane::counters::WorkerCounters;
use pipelines::steer::{FlowMemory, State};

use super::Appliance;
use super::announce::Announcements;
use super::drain::{Counting, Drain};
use crate::admin::protocol::{Answer, Refusal};
use crate::admin::service::{ServerChange, ServiceChange};
use crate::admin::view::{
    AgentView, AnnouncementView, DrainView, OnChangeView, PoolBySourceView, PoolView, ServerCounts,
    ServerView, ServiceView, Services,
};
use crate::config::Config;
use crate::config::steering::{Pool, Server, WhenDown};
use crate::platform::Platform;
use crate::proto::health::{Health, Machine, ServerKey};
use crate::proto::ndp::InterfaceIndex;
use crate::publish::steering::{self, Override, Overrides};

/// Agents that may say a server is down, most, and bytes of their names.
const AGENTS_MAX: usize = 16;
const AGENT_NAME_MAX: usize = 64;

/// What is kept of steering beside the prefix tables.
#[derive(Debug)]
pub(super) struct SteeringState {
    /// What others cannot guess of where workers remember flows, and of where health checks come from.
    pub(super) seed: u64,
    pub(super) health: Machine,
    pub(super) announcements: Announcements,
    pub(super) counting: Counting,
    /// Servers that go down when they are idle, or in time.
    pub(super) drains: BTreeMap<ServerKey, Drain>,
    overrides: Overrides,
    /// Who else says that a server is down, and until when.
    agents: BTreeMap<ServerKey, BTreeMap<String, Option<Instant>>>,
    /// By place: what was counted when it got its server.
    bases: Vec<Base>,
}

impl SteeringState {
    pub(super) fn new(
        now: Instant,
        seed: u64,
        rng: fastrand::Rng,
        memories: Vec<FlowMemory>,
        hostname: String,
    ) -> Self {
        Self {
            seed,
            health: Machine::new(rng),
            announcements: Announcements::new(hostname),
            counting: Counting::new(now, memories),
            drains: BTreeMap::new(),
            overrides: Overrides::new(),
            agents: BTreeMap::new(),
            bases: Vec::new(),
        }
    }

    /// Whether checks and agents let a server have flows, or say nothing.
    fn is_healthy(&self, key: &ServerKey) -> bool {
        self.health.health(key).is_none_or(Health::takes_flows) && !self.agents.contains_key(key)
    }

    /// Whether a server is up whatever checks say.
    pub(super) fn is_forced(&self, key: &ServerKey) -> bool {
        self.overrides.get(key).is_some_and(|said| said.is_forced)
    }

    /// What is said of a server at run time.
    pub(super) fn say(&mut self, key: &ServerKey) -> &mut Override {
        self.overrides.entry(key.clone()).or_default()
    }

    /// Forget what agents said that holds no longer; whether there was some.
    fn expire_agents(&mut self, now: Instant) -> bool {
        let before = self.agents.len();
        self.agents.retain(|_, agents| {
            agents.retain(|_, until| until.is_none_or(|until| now < until));
            !agents.is_empty()
        });
        self.agents.len() != before
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let drains = self.drains.values().filter_map(|drain| drain.deadline);
        let agents = self.agents.values().flat_map(|agents| agents.values());
        let others = [
            self.health.poll_timeout(),
            self.announcements.poll_timeout(),
        ];
        drains
            .chain(agents.filter_map(|until| *until))
            .chain(others.into_iter().flatten())
            .min()
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
    pub(super) fn configure_steering(&mut self, now: Instant) {
        let config = &self.config;
        let is_there = |key: &ServerKey| find(config, key).is_some();
        let state = &mut self.steering;
        state.overrides.retain(|key, _| is_there(key));
        state.agents.retain(|key, _| is_there(key));
        state.drains.retain(|key, _| is_there(key));
        let is_healthy = |key: &ServerKey| state.is_healthy(key);
        let settings = steering::settings(&self.config, &state.overrides, &is_healthy, state.seed);
        self.rib.set_steering(settings);
        self.note_places();
        self.steering.counting.restart(now);
        self.outdated = true;
        self.look_at_services(now);
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

    /// Seconds since the start.
    pub(super) fn seconds(&self, now: Instant) -> u32 {
        let seconds = now.saturating_duration_since(self.started).as_secs();
        seconds as u32 // `as`: it may wrap
    }

    /// Seconds pass for what workers remember of flows, and for what agents said; drains end, and services are looked at.
    pub(super) fn tick_steering(&mut self, now: Instant) {
        self.rib.set_steering_time(self.seconds(now));
        if self.steering.expire_agents(now) {
            self.configure_steering(now);
        }
        self.tick_health(now);
        self.tick_drains(now);
        let due = self.steering.announcements.poll_timeout();
        if due.is_some_and(|due| now >= due) {
            self.look_at_services(now);
        }
    }

    /// Change a server: of a pool, by its name or address.
    pub(super) fn change_service(&mut self, now: Instant, change: &ServiceChange) -> Answer {
        let key = match self.find_server(&change.pool, &change.server) {
            Ok(key) => key,
            Err(answer) => return answer,
        };
        let outcome = match &change.agent {
            Some(agent) => self.agent_says(now, &key, agent, change),
            None => self.operator_says(now, &key, change.change),
        };
        if let Err(error) = outcome {
            return Answer::refused(Refusal::Request, error);
        }
        let by = change.agent.as_ref();
        let by = by.map_or(String::new(), |agent| format!(", by agent {agent}"));
        tracing::info!(
            "pool {}, server {}: {:?}{by}",
            key.0,
            change.server,
            change.change
        );
        self.configure_steering(now);
        match find(&self.config, &key) {
            Some((pool, server)) => Answer::done(self.show_server(now, pool, server)),
            None => Answer::refused(Refusal::Failed, "the server is gone"),
        }
    }

    fn find_server(&self, pool: &str, server: &str) -> Result<ServerKey, Answer> {
        let pools = &self.config.steering.pools;
        let Some(found) = pools.iter().find(|one| one.name == pool) else {
            let names = pools.iter().map(|pool| pool.name.as_str());
            return Err(unknown("pool", pool, names.collect()));
        };
        let address: Option<std::net::IpAddr> = server.parse().ok();
        let mut servers = found.servers.iter();
        let is_meant = |one: &&Server| one.name == server || Some(one.ip()) == address;
        match servers.find(is_meant) {
            Some(server) => Ok((found.name.clone(), server.address)),
            None => {
                let names = found.servers.iter().map(|server| server.name.as_str());
                Err(unknown("server", server, names.collect()))
            }
        }
    }

    fn operator_says(
        &mut self,
        now: Instant,
        key: &ServerKey,
        change: ServerChange,
    ) -> Result<(), String> {
        let state = &mut self.steering;
        let drains = &mut state.drains;
        let said = state.overrides.entry(key.clone()).or_default();
        if let ServerChange::Weight(weight) = change {
            if !(1..=256).contains(&weight) {
                return Err(format!(
                    "weight {weight} is out of range, expected 1 to 256"
                ));
            }
            said.weight = Some(weight);
            return Ok(());
        }
        drains.remove(key);
        match change {
            ServerChange::Drain => said.set(State::Drained, false),
            ServerChange::DrainUntil {
                deadline_s,
                when_idle,
            } => {
                if deadline_s.is_none() && !when_idle {
                    return Err("a drain that ends needs a deadline, or ends when idle".to_owned());
                }
                let after = |seconds: u32| now + Duration::from_secs(seconds.into());
                let drain = Drain {
                    began: now,
                    deadline: deadline_s.map(after),
                    when_idle,
                };
                drains.insert(key.clone(), drain);
                said.set(State::Drained, false);
            }
            ServerChange::Down => said.set(State::Down, false),
            ServerChange::Cut => said.set(State::Cut, false),
            ServerChange::Enable => said.set(State::Up, false),
            ServerChange::Force => said.set(State::Up, true),
            ServerChange::Weight(_) => {}
        }
        Ok(())
    }

    /// A program that checks servers in its own way says that one is down, or is not any more.
    fn agent_says(
        &mut self,
        now: Instant,
        key: &ServerKey,
        agent: &str,
        change: &ServiceChange,
    ) -> Result<(), String> {
        let is_name = agent.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || !(1..=AGENT_NAME_MAX).contains(&agent.len()) {
            return Err(format!("{agent:?} is no name of an agent"));
        }
        let agents = self.steering.agents.entry(key.clone()).or_default();
        let outcome = match change.change {
            ServerChange::Down if !agents.contains_key(agent) && agents.len() >= AGENTS_MAX => {
                Err(format!("{AGENTS_MAX} agents say so already"))
            }
            ServerChange::Down => {
                let after = |seconds: u32| now + Duration::from_secs(seconds.into());
                agents.insert(agent.to_owned(), change.ttl_s.map(after));
                Ok(())
            }
            ServerChange::Enable => {
                agents.remove(agent);
                Ok(())
            }
            _ => Err("an agent says down, or enable".to_owned()),
        };
        if agents.is_empty() {
            self.steering.agents.remove(key);
        }
        outcome
    }

    pub(super) fn show_services(&self, now: Instant) -> Services {
        let steering = &self.config.steering;
        let pool_name = |index: usize| {
            let pool = steering.pools.get(index);
            pool.map_or(String::new(), |pool| pool.name.clone())
        };
        let announcements = &self.steering.announcements;
        let services = steering.services.iter().map(|service| ServiceView {
            name: service.name.clone(),
            prefix: service.prefix.to_string(),
            protocol: service.protocol.name().to_owned(),
            ports: service.ports.iter().map(ToString::to_string).collect(),
            pool: pool_name(service.pool),
            pools: service
                .pools
                .iter()
                .map(|one| PoolBySourceView {
                    source: one.source.to_string(),
                    pool: pool_name(one.pool),
                })
                .collect(),
            affinity: format!("{:?}", service.affinity).to_lowercase(),
            new_flows_per_second: service.new_flows_per_second,
            flows_max: service.flows_max,
            announcement: {
                let (state, since_s, changes) = announcements.show(now, &service.name);
                AnnouncementView {
                    state: state.to_owned(),
                    since_s,
                    changes,
                }
            },
        });
        let pools = steering.pools.iter().map(|pool| PoolView {
            name: pool.name.clone(),
            vrf: self.config.vrfs[pool.vrf].clone(),
            mode: pool.mode.name().to_owned(),
            when_down: match pool.when_down {
                WhenDown::Refuse => "refuse".to_owned(),
                WhenDown::Drop => "drop".to_owned(),
                WhenDown::Fallback(other) => format!("fallback to {}", pool_name(other)),
            },
            table_size: pool.table_size,
            digest: self
                .rib
                .pool(&pool.name)
                .map_or(String::new(), |state| format!("{:016x}", state.digest)),
            servers: pool
                .servers
                .iter()
                .map(|server| self.show_server(now, pool, server))
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
            node: self.node().to_owned(),
            on_change: OnChangeView {
                runs: announcements.runs,
                failures: announcements.failures,
                last_failure: announcements.last_failure.clone(),
            },
            services: services.collect(),
            pools: pools.collect(),
            flows_max: steering.flows,
            displaced: sum(|counters| counters.steer.displaced.read()),
            stateless: sum(|counters| counters.steer.stateless.read()),
            moved: sum(|counters| counters.steer.moved.read()),
        }
    }

    fn show_server(&self, now: Instant, pool: &Pool, server: &Server) -> ServerView {
        let overrides = &self.steering.overrides;
        let key = (pool.name.clone(), server.address);
        let state = self.state(pool, server);
        let said = overrides.get(&key);
        let agents = self.steering.agents.get(&key).into_iter().flatten();
        let left = |until: &Instant| until.saturating_duration_since(now).as_secs_f64();
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
            address: server.ip().to_string(),
            state: match state {
                State::Up => "up",
                State::Drained => "drained",
                State::Down => "down",
                State::Cut => "cut",
            }
            .to_owned(),
            overridden: said.is_some_and(|said| *said != Override::default()),
            weight: steering::weight(pool, server, overrides),
            share: place.map_or(0.0, |(_, cells)| cells as f64 / f64::from(pool.table_size)),
            resolved: server
                .interface
                .map(|interface| self.is_resolved(interface, server)),
            health: self.show_health(now, &key),
            agents: agents
                .map(|(agent, until)| AgentView {
                    agent: agent.clone(),
                    expires_s: until.map(|until| left(&until)),
                })
                .collect(),
            drain: self.steering.drains.get(&key).map(|drain| DrainView {
                deadline_s: drain.deadline.as_ref().map(left),
                when_idle: drain.when_idle,
            }),
            flows_now: place.and_then(|(place, _)| self.steering.counting.flows(place)),
            counts,
        }
    }

    /// The state in force.
    pub(super) fn state(&self, pool: &Pool, server: &Server) -> State {
        let is_healthy = |key: &ServerKey| self.steering.is_healthy(key);
        steering::state(pool, server, &self.steering.overrides, &is_healthy)
    }

    fn is_resolved(&self, interface: usize, server: &Server) -> bool {
        let index = InterfaceIndex(self.slots.id(interface).0);
        let mut neighbors = self.machine.neighbors();
        neighbors.any(|neighbor| {
            (neighbor.interface, neighbor.address) == (index, server.ip()) && neighbor.mac.is_some()
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

pub(super) fn find<'c>(
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
