//! The control thread's state, and everything it does at a moment: punted packets in, protocols, tables and packets out.
//!
//! Free of sockets and clocks: [`crate::reactor`] calls [`Appliance::tick`] when a moment has come and
//! [`Appliance::answer`] when somebody asks, and says what time it is. So a test runs it over frames in memory.
//!
//! Order within a tick, which is what makes it right:
//! 1. punted packets reach their protocols, and due timers run;
//! 2. what protocols want is done: packets sent, tables marked as outdated;
//! 3. outdated tables are built anew and published, at most once in `PUBLISH_PAUSE`;
//! 4. only then packets that waited for an entry of those tables go back to their workers.

mod announce;
mod changes;
mod discard;
mod drain;
mod health;
mod lisp;
mod punts;
mod reload;
mod routes;
mod rules;
mod send;
mod steering;
mod trace;
mod views;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dataplane::table::publish::Publisher;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::{State, WorkerHandle};
use pipelines::npt66::SpecError;
use pipelines::steer::FlowMemory;
use pipelines::tables::Rib;
use pipelines::{Meta, Tables};

use crate::admin::protocol::{Answer, Command, Refusal};
use crate::admin::view::Link;
use crate::config::Config;
use crate::platform::Platform;
use crate::proto::lisp::xtr::Xtr;
use crate::proto::ndp::{InterfaceIndex, Machine};
use crate::publish::{self, Network};
use crate::slots::Slots;
use discard::Discards;
use lisp::LispState;
use punts::Waiting;
use rules::RuleBook;
use steering::SteeringState;

pub use announce::Run;
use trace::TraceSession;

/// Tables are published at most this often; changes within it are published together.
const PUBLISH_PAUSE: Duration = Duration::from_millis(5);
/// How often links are looked at.
const LINK_PERIOD: Duration = Duration::from_millis(200);
/// Between two looks at the punt rings while packets come.
const TICK_BUSY: Duration = Duration::from_millis(1);
/// And when none came for [`BUSY_FOR`].
const TICK_IDLE: Duration = Duration::from_millis(4);
/// How long after a packet more are expected.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// What an appliance is made of.
pub struct Parts<P: Platform> {
    /// Frames and ports.
    pub platform: P,
    /// The first configuration.
    pub config: Config,
    /// Where it was read, and is read again on reload.
    pub config_path: PathBuf,
    /// What the workers read their tables from.
    pub publisher: Publisher<Tables>,
    /// The control thread's ends of the workers.
    pub workers: Vec<WorkerHandle<P::Frame, Meta>>,
    /// Jitter of protocol timers.
    pub rng: fastrand::Rng,
    /// From a good source of randomness: what others must not be able to guess is made of it.
    pub seed: [u8; 32],
    /// What workers remember of flows, in the order of the workers.
    pub memories: Vec<FlowMemory>,
    /// What the machine is called.
    pub hostname: String,
    /// Seconds since 1970: what must rise over a restart and is kept nowhere begins with them.
    pub unix_seconds: u64,
}

/// The control thread's state.
pub struct Appliance<P: Platform> {
    platform: P,
    config: Config,
    config_path: PathBuf,
    slots: Slots,
    macs: Vec<Mac>,
    links: Vec<Link>,
    machine: Machine<Waiting<P::Frame>>,
    publisher: Publisher<Tables>,
    /// The prefixes of all published tables.
    rib: Rib,
    /// The epoch in which every worker knows where changed prefixes lead.
    committing: Option<u64>,
    workers: Vec<WorkerHandle<P::Frame, Meta>>,
    /// Workers whose death was logged.
    known_panics: Vec<u64>,
    /// Packets to be handed back once the tables they wait for are published.
    ready: Vec<Waiting<P::Frame>>,
    discards: Discards,
    trace: TraceSession,
    rules: RuleBook,
    lisp: LispState<P::Frame>,
    steering: SteeringState,
    started: Instant,
    /// The tables do not show the latest state.
    outdated: bool,
    published: Instant,
    links_due: Instant,
    last_packet: Instant,
    /// Some punt ring may still hold packets.
    more_punts: bool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    publications: u64,
    configurations_applied: u64,
    configurations_refused: u64,
    panics: u64,
}

impl<P: Platform> Appliance<P> {
    /// An appliance with its first tables published. Workers may start afterwards.
    ///
    /// # Errors
    /// When two NPT66 rules cannot stand together, which the configuration's own checks should have said.
    pub fn new(now: Instant, parts: Parts<P>) -> Result<Self, SpecError> {
        let Parts {
            platform,
            config,
            config_path,
            publisher,
            workers,
            mut rng,
            seed,
            memories,
            hostname,
            unix_seconds,
        } = parts;
        let ports = 0..config.ports.len();
        let macs = ports
            .clone()
            .map(|port| platform.port(publish::port(port)).mac);
        let macs: Vec<Mac> = macs.collect();
        let links = ports
            .map(|port| platform.link(publish::port(port)))
            .collect();
        // Nothing registers four thousand million times a second.
        let xtr = Xtr::new(now, &seed, unix_seconds << 32);
        let lisp = LispState::new(rng.u64(..), xtr);
        let steering = SteeringState::new(now, rng.u64(..), rng.fork(), memories, hostname);
        let mut appliance = Self {
            slots: Slots::default().assign(&config),
            machine: Machine::new(reload::settings(&config), rng),
            known_panics: vec![0; workers.len()],
            platform,
            config,
            config_path,
            macs,
            links,
            publisher,
            rib: Rib::new(),
            committing: None,
            workers,
            ready: Vec::new(),
            discards: Discards::new(),
            trace: TraceSession::default(),
            rules: RuleBook::default(),
            lisp,
            steering,
            started: now,
            outdated: true,
            published: now,
            links_due: now + LINK_PERIOD,
            last_packet: now,
            more_punts: false,
            counts: Counts::default(),
        };
        appliance.rules.rename(&appliance.config, &[]);
        appliance.configure_machine(now, &Slots::default());
        appliance.counts.configurations_applied = 1;
        appliance.set_routes();
        appliance.configure_lisp(now);
        appliance.configure_health(now);
        appliance.configure_steering(now);
        let tables = appliance.build()?;
        // No worker has seen any tables yet.
        appliance.rib.commit();
        appliance.publish(now, tables);
        Ok(appliance)
    }

    /// Everything that is due at `now`.
    pub fn tick(&mut self, now: Instant) {
        self.receive_punts(now);
        self.machine.handle_timeout(now);
        self.tick_lisp(now);
        self.tick_steering(now);
        if now >= self.links_due {
            self.links_due = now + LINK_PERIOD;
            self.look_at_links(now);
            self.look_at_rlocs(now);
        }
        self.do_outputs(now);
        if self.outdated && now >= self.published + PUBLISH_PAUSE {
            self.publish_anew(now);
        }
        self.publisher.reclaim();
        self.commit();
        self.trace.collect(&mut self.workers);
        self.look_at_workers();
    }

    /// When [`Appliance::tick`] is due next, seen from `now`.
    #[must_use]
    pub fn next_tick(&self, now: Instant) -> Instant {
        if self.more_punts {
            return now;
        }
        let is_busy = now < self.last_packet + BUSY_FOR || self.trace.is_running();
        let mut next = now + if is_busy { TICK_BUSY } else { TICK_IDLE };
        if self.outdated {
            next = next.min(self.published + PUBLISH_PAUSE);
        }
        if self.steering.counting.is_running() || self.committing.is_some() {
            next = next.min(now + TICK_BUSY);
        }
        if let Some(timeout) = self.machine.poll_timeout() {
            next = next.min(timeout);
        }
        if let Some(timeout) = self.lisp.poll_timeout() {
            next = next.min(timeout);
        }
        if let Some(timeout) = self.steering.poll_timeout() {
            next = next.min(timeout);
        }
        next.max(now)
    }

    /// The answer to a question from the admin socket.
    pub fn answer(&mut self, now: Instant, command: Command) -> Answer {
        match command {
            Command::Ping => Answer::done(self.show_instance(now)),
            Command::Show { subject } => self.show(now, subject),
            Command::ShowLisp { part } => self.show_lisp_part(now, part),
            Command::Reload => self.reload(now),
            Command::Trace { packets } if (1..=1000).contains(&packets) => {
                self.trace.arm(&mut self.workers, packets);
                Answer::done("armed")
            }
            Command::Trace { .. } => {
                Answer::refused(Refusal::Request, "a trace follows 1 to 1000 packets")
            }
            Command::Records => Answer::done(self.trace.take()),
            Command::MapChange { changes } => self.change_mappings(now, changes),
            Command::LispProbe {
                instance,
                target,
                send,
            } => self.probe_rlocs(now, target.map(|target| (instance, target)), send),
            Command::LispSelf { to, ask } => self.ask_for_own_eids(now, to, ask),
            Command::LispClear { instance, prefix } => self.clear_learned(now, instance, prefix),
            Command::MapShow(query) => self.show_mappings(now, &query),
            Command::RegistrationsShow(_) => Answer::refused(
                Refusal::Failed,
                "nobody registers here: ask a Map-Server, or leave PREFIX, --instance and --site out to see where own \
                 EIDs are registered",
            ),
            Command::ServiceChange(change) => self.change_service(now, &change),
        }
    }

    /// Something in here panicked and was stopped; the rest goes on.
    pub fn survive(&mut self, what: &str) {
        self.counts.panics += 1;
        self.outdated = true;
        tracing::error!("a bug in the control thread was survived: {what}");
    }

    /// It ends: others are told. To be called while the workers still run.
    pub fn shut_down(&mut self, now: Instant) {
        self.end_lisp(now);
        self.withdraw_services();
    }

    /// Whether no worker is left that could forward a packet.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.workers
            .iter()
            .all(|worker| worker.status.state() == State::Dead)
    }

    fn build(&mut self) -> Result<Tables, SpecError> {
        let links: Vec<bool> = self.links.iter().map(|link| link.up).collect();
        let builder = publish::builder(&Network {
            config: &self.config,
            slots: &self.slots,
            macs: &self.macs,
            links: &links,
            machine: &self.machine,
            hosts: self.lisp.hosts(),
        })?;
        Ok(builder.build_in(&mut self.rib))
    }

    fn publish_anew(&mut self, now: Instant) {
        match self.build() {
            Ok(tables) => self.publish(now, tables),
            // The rules were built once when the configuration was applied.
            Err(error) => tracing::error!("the tables cannot be built: {error}"),
        }
    }

    /// Publish, then let packets go on that waited for it.
    fn publish(&mut self, now: Instant, tables: Tables) {
        let waits = self.rib.is_pending() && self.rib.has_new_targets();
        if !waits {
            self.rib.commit();
        }
        self.publisher.publish(tables);
        self.counts.publications += 1;
        self.outdated = false;
        self.published = now;
        self.committing = waits.then(|| self.publisher.mark());
        for waiting in std::mem::take(&mut self.ready) {
            self.resume(waiting);
        }
    }

    /// Change the prefixes once all workers use tables that know where they lead; never waits.
    fn commit(&mut self) {
        if let Some(epoch) = self.committing
            && self.publisher.passed() >= epoch
        {
            self.committing = None;
            self.rib.commit();
        }
        self.rib.reclaim(&mut self.publisher);
    }

    fn look_at_links(&mut self, now: Instant) {
        for port in 0..self.links.len() {
            let link = self.platform.link(publish::port(port));
            let was = std::mem::replace(&mut self.links[port], link);
            if was.up == link.up {
                continue;
            }
            let state = if link.up { "up" } else { "down" };
            tracing::info!("port {}: link is {state}", self.config.ports[port].name);
            self.outdated = true;
            for (position, interface) in self.config.interfaces.iter().enumerate() {
                if interface.port == port {
                    let index = InterfaceIndex(self.slots.id(position).0);
                    self.machine.set_link(now, index, link.up);
                }
            }
        }
    }

    fn look_at_workers(&mut self) {
        for (worker, known) in self.workers.iter().zip(&mut self.known_panics) {
            let panics = worker.status.panics();
            if panics == *known {
                continue;
            }
            let (index, times) = (worker.index, panics - *known);
            *known = panics;
            let cause = worker.status.message().unwrap_or_default();
            if worker.status.state() == State::Dead {
                tracing::error!("worker {index} died: {cause}; its queues are not polled any more");
            } else {
                tracing::error!(
                    "a bug in worker {index} was survived {times} times: {cause}; what it had in work is dropped as worker_panic"
                );
            }
        }
    }
}
