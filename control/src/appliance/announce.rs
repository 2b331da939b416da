//! Services that are announced or withdrawn, and the command that is run for each change (RFC 4786 4.4.1).
//!
//! The command is run by the reactor, one at a time. What happens meanwhile is told when it ended: of each service only the
//! latest state, and none that was told already.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Appliance;
use crate::config::steering::{Pool, Service, WhenDown};
use crate::platform::Platform;
use crate::proto::health::{Announcement, Announcer, Health, Served};

/// The command is run for one service at most this often.
const RUN_PAUSE: Duration = Duration::from_secs(1);

/// One run of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Program and arguments.
    pub command: Vec<String>,
    /// What it is told, beside our own environment.
    pub environment: Vec<(&'static str, String)>,
    /// The service.
    pub service: String,
}

/// What the command was told of a service, and is to be told.
#[derive(Debug, Default)]
struct Told {
    told: Option<Announcement>,
    wanted: Option<Announcement>,
    /// The service's prefix and VRF, also when it is gone.
    prefix: String,
    vrf: String,
    next: Option<Instant>,
}

/// Announcements of a running instance.
#[derive(Debug)]
pub(super) struct Announcements {
    announcer: Announcer,
    told: BTreeMap<String, Told>,
    is_running: bool,
    hostname: String,
    pub(super) runs: u64,
    pub(super) failures: u64,
    pub(super) last_failure: Option<String>,
}

impl Announcements {
    pub(super) fn new(hostname: String) -> Self {
        Self {
            announcer: Announcer::default(),
            told: BTreeMap::new(),
            is_running: false,
            hostname,
            runs: 0,
            failures: 0,
            last_failure: None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.announcer.poll_timeout()
    }

    /// State, seconds in it, and changes of a service.
    pub(super) fn show(&self, now: Instant, service: &str) -> (&'static str, f64, u64) {
        match self.announcer.status(service) {
            Some(status) => {
                let since = now.saturating_duration_since(status.since);
                (status.state.name(), since.as_secs_f64(), status.changes)
            }
            None => (Announcement::Pending.name(), 0.0, 0),
        }
    }
}

impl<P: Platform> Appliance<P> {
    /// The name of this box.
    pub(super) fn node(&self) -> &str {
        let name = self.config.steering.node.as_ref();
        name.unwrap_or(&self.steering.announcements.hostname)
    }

    /// Services are announced as long as they are served.
    pub(super) fn look_at_services(&mut self, now: Instant) {
        let steering = &self.config.steering;
        let news = steering.services.iter().map(|service| {
            let served = self.served(service);
            (service.name.clone(), served)
        });
        let news: Vec<_> = news.collect();
        let names: Vec<_> = news.iter().map(|(name, _)| name.clone()).collect();
        let announcements = &mut self.steering.announcements;
        announcements
            .announcer
            .set_delay(self.config.steering.announce_delay);
        for name in announcements
            .announcer
            .retain(|name| names.iter().any(|known| known == name))
        {
            tracing::info!("service {name}: withdrawn, it is configured no longer");
            want(&mut announcements.told, &name, Announcement::Withdrawn);
        }
        for (name, served) in news {
            let announcements = &mut self.steering.announcements;
            let Some(state) = announcements.announcer.update(now, &name, served) else {
                continue;
            };
            tracing::info!("service {name}: {}", state.name());
            let told = want(&mut announcements.told, &name, state);
            let services = &self.config.steering.services;
            if let Some(service) = services.iter().find(|service| service.name == name) {
                told.prefix = service.prefix.to_string();
                let pool = self.config.steering.pools.get(service.pool);
                told.vrf = self.config.vrfs[pool.map_or(0, |pool| pool.vrf)].clone();
            }
        }
    }

    fn served(&self, service: &Service) -> Served {
        let pools = &self.config.steering.pools;
        let next = |pool: &&Pool| match pool.when_down {
            WhenDown::Fallback(other) => pools.get(other),
            WhenDown::Refuse | WhenDown::Drop => None,
        };
        let in_turn = std::iter::successors(pools.get(service.pool), next);
        let mut found = Served::No;
        for pool in in_turn.take(pools.len()) {
            match self.pool_served(pool) {
                Served::Yes => return Served::Yes,
                Served::Unknown => found = Served::Unknown,
                Served::No => {}
            }
        }
        found
    }

    fn pool_served(&self, pool: &Pool) -> Served {
        let mut found = Served::No;
        for server in &pool.servers {
            if self.state(pool, server) != pipelines::steer::State::Up {
                continue;
            }
            let key = (pool.name.clone(), server.address);
            if self.steering.is_forced(&key)
                || self.steering.health.health(&key) != Some(Health::Untried)
            {
                return Served::Yes;
            }
            found = Served::Unknown;
        }
        found
    }

    /// The command to run next, if there is one and none is running.
    pub fn poll_run(&mut self, now: Instant) -> Option<Run> {
        let command = self.config.steering.on_change.clone();
        let node = self.node().to_owned();
        let announcements = &mut self.steering.announcements;
        if announcements.is_running {
            return None;
        }
        if command.is_empty() {
            announcements.told.clear();
            return None;
        }
        let is_due =
            |told: &Told| told.wanted.is_some() && told.next.is_none_or(|next| now >= next);
        let mut all = announcements.told.iter_mut();
        let (name, told) = all.find(|(_, told)| is_due(told))?;
        let state = told.wanted.take()?;
        told.told = Some(state);
        told.next = Some(now + RUN_PAUSE);
        announcements.is_running = true;
        announcements.runs += 1;
        Some(Run {
            command,
            environment: vec![
                ("SEXTANT_NODE", node),
                ("SEXTANT_SERVICE", name.clone()),
                ("SEXTANT_PREFIX", told.prefix.clone()),
                ("SEXTANT_VRF", told.vrf.clone()),
                ("SEXTANT_STATE", state.name().to_owned()),
            ],
            service: name.clone(),
        })
    }

    /// The command that was run has ended.
    pub fn run_ended(&mut self, service: &str, outcome: Result<(), String>) {
        let announcements = &mut self.steering.announcements;
        announcements.is_running = false;
        if let Err(failure) = outcome {
            announcements.failures += 1;
            tracing::error!("on_change for service {service}: {failure}");
            announcements.last_failure = Some(failure);
        }
    }

    /// Whether the command is to be run once more, now or later.
    #[must_use]
    pub fn has_runs(&self) -> bool {
        let mut told = self.steering.announcements.told.values();
        !self.config.steering.on_change.is_empty() && told.any(|told| told.wanted.is_some())
    }

    /// It ends: nothing is announced any more.
    pub(super) fn withdraw_services(&mut self) {
        let announcements = &mut self.steering.announcements;
        for name in announcements.announcer.retain(|_| false) {
            let told = want(&mut announcements.told, &name, Announcement::Withdrawn);
            told.next = None;
        }
    }
}

/// The command is to be told this, unless it knows.
fn want<'t>(told: &'t mut BTreeMap<String, Told>, name: &str, state: Announcement) -> &'t mut Told {
    let told = told.entry(name.to_owned()).or_default();
    told.wanted = (told.told != Some(state)).then_some(state);
    told
}
