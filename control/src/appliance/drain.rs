//! Servers that are drained until they are idle or a deadline comes, and the census of flows that says when: a piece of each
//! worker's memory in a tick, so that nothing else waits.

use std::time::{Duration, Instant};

use pipelines::steer::{Census, FlowMemory, State};

use super::Appliance;
use crate::config::steering::Service;
use crate::platform::Platform;
use crate::proto::health::ServerKey;
use crate::publish::steering::share;

/// Lines of eight flows that are counted in one tick of one worker.
const LINES: u32 = 4096;
/// From the beginning of a census to that of the next, when something depends on it.
const PERIOD: Duration = Duration::from_secs(1);
/// And when it is only shown.
const PERIOD_IDLE: Duration = Duration::from_secs(10);

/// When a drained server is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    pub(super) began: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) when_idle: bool,
}

/// Counting flows.
#[derive(Debug)]
pub(super) struct Counting {
    memories: Vec<FlowMemory>,
    /// When it began, and how far it is, by worker.
    running: Option<(Instant, Vec<(Census, bool)>)>,
    /// The last one that was finished, and when it began.
    finished: Option<(Instant, Vec<Census>)>,
    due: Instant,
}

impl Counting {
    pub(super) fn new(now: Instant, memories: Vec<FlowMemory>) -> Self {
        Self {
            memories,
            running: None,
            finished: None,
            due: now,
        }
    }

    /// Begin anew: servers, or limits, are others.
    pub(super) fn restart(&mut self, now: Instant) {
        self.running = None;
        self.due = now;
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Flows of the server at a place, as the last census found.
    pub(super) fn flows(&self, place: usize) -> Option<u64> {
        let (_, censuses) = self.finished.as_ref()?;
        Some(
            censuses
                .iter()
                .map(|census| u64::from(census.of(place)))
                .sum(),
        )
    }
}

impl<P: Platform> Appliance<P> {
    /// Count a piece more, and end drains.
    pub(super) fn tick_drains(&mut self, now: Instant) {
        if self.config.steering.pools.is_empty() {
            return;
        }
        if self.count_flows(now) {
            self.allow_flows();
        }
        let ended: Vec<(ServerKey, &str)> = self
            .steering
            .drains
            .iter()
            .filter_map(|(key, drain)| Some((key.clone(), self.end_of(now, key, drain)?)))
            .collect();
        if ended.is_empty() {
            return;
        }
        for (key, why) in ended {
            tracing::info!("pool {}, server {}: drained and down, {why}", key.0, key.1);
            self.steering.drains.remove(&key);
            self.steering.say(&key).set(State::Down, false);
        }
        self.configure_steering(now);
    }

    /// Why a drain is over.
    fn end_of(&self, now: Instant, key: &ServerKey, drain: &Drain) -> Option<&'static str> {
        if drain.deadline.is_some_and(|deadline| now >= deadline) {
            return Some("its time is over");
        }
        let counted = self.steering.counting.finished.as_ref();
        let is_new = counted.is_some_and(|(began, _)| *began >= drain.began);
        let place = self.place(key)?;
        let flows = self.steering.counting.flows(place);
        (drain.when_idle && is_new && flows == Some(0)).then_some("it has no flows")
    }

    /// Whether a census is finished with this.
    fn count_flows(&mut self, now: Instant) -> bool {
        let needs = !self.steering.drains.is_empty()
            || self
                .config
                .steering
                .services
                .iter()
                .any(|one| one.flows_max.is_some());
        let seconds = self.seconds(now);
        let flows = self.config.steering.flows;
        let counting = &mut self.steering.counting;
        if counting.running.is_none() {
            let pause = if needs { PERIOD } else { PERIOD_IDLE };
            if now < counting.due {
                return false;
            }
            counting.due = now + pause;
            let begin = |memory: &FlowMemory| (memory.begin(flows), false);
            counting.running = Some((now, counting.memories.iter().map(begin).collect()));
        }
        let Some((began, censuses)) = &mut counting.running else {
            return false;
        };
        let mut is_finished = true;
        for (memory, (census, is_done)) in counting.memories.iter().zip(censuses.iter_mut()) {
            if !*is_done {
                *is_done = memory.count(census, LINES, seconds);
            }
            is_finished &= *is_done;
        }
        if is_finished {
            let censuses = censuses.drain(..).map(|(census, _)| census);
            counting.finished = Some((*began, censuses.collect()));
            counting.running = None;
        }
        is_finished
    }

    /// Workers may let so many flows begin as their share has room for.
    fn allow_flows(&self) {
        let services = &self.config.steering.services;
        let is_limited = |service: &&Service| {
            service.flows_max.is_some() || service.new_flows_per_second.is_some()
        };
        let Some((_, censuses)) = &self.steering.counting.finished else {
            return;
        };
        for (number, service) in services.iter().filter(is_limited).enumerate() {
            let Some(most) = service.flows_max else {
                continue;
            };
            let places = self.places_of(service);
            for (memory, census) in self.steering.counting.memories.iter().zip(censuses) {
                let live: u32 = places.iter().map(|place| census.of(*place)).sum();
                let more = share(&self.config, most).saturating_sub(live);
                memory.allow(census, number, more);
            }
        }
    }

    fn places_of(&self, service: &Service) -> Vec<usize> {
        let by_source = service.pools.iter().map(|one| one.pool);
        let mut pools: Vec<usize> = by_source.chain([service.pool]).collect();
        pools.sort_unstable();
        pools.dedup();
        let names = pools
            .iter()
            .filter_map(|pool| self.config.steering.pools.get(*pool));
        let places = names.flat_map(|pool| self.rib.places(&pool.name));
        places.flatten().collect()
    }

    /// A server's place among the counters.
    fn place(&self, key: &ServerKey) -> Option<usize> {
        let pools = &self.config.steering.pools;
        let pool = pools.iter().find(|pool| pool.name == key.0)?;
        let position = pool
            .servers
            .iter()
            .position(|server| server.address == key.1)?;
        *self.rib.places(&key.0).get(position)?
    }
}
