//! `sextant mapserver`: the machine of [`proto::lisp::mapserver`](crate::proto::lisp::mapserver) behind ordinary UDP
//! sockets. No DPDK, no huge pages, no privileges.
//!
//! One thread. Datagrams are taken in turns from all sockets, so that none is starved; signals come first. Nonces are
//! written at most once a second by a thread that may wait for the disk, and a last time at the end: a power cut
//! forgets at most the last second of them. Registrations are too, where the configuration names a file for them. Questions
//! on the admin socket are answered one a turn.

mod admin;
pub mod nonces;
pub mod registrations;
mod sockets;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::admin::server::{self, Question};

use crate::cli::MapserverArgs;
use crate::config;
use crate::config::mapserver::MapServer;
use crate::exit::Exit;
use crate::instance::{Instance, InstanceError};
use crate::logging::{self, LogError};
use crate::proto::lisp::mapserver::{Machine, Output};
use crate::reactor::{Received, Signals};
use nonces::NonceError;
use registrations::Snapshots;
use sockets::{BATCH, Datagram, Room, Sockets};

/// How long a nonce may wait to be saved.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
/// Questions that wait for the reactor; connections with more wait themselves.
const QUESTIONS: usize = 16;
/// With nothing to do, how long until the next look.
const IDLE: Duration = Duration::from_secs(60);

/// Why it did not run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum MapserverError {
    /// The log filter is wrong.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The configuration is.
    #[error("{}", .0.to_string().trim_end())]
    Config(config::Errors),
    /// Nonces cannot be kept.
    #[error(transparent)]
    Nonces(#[from] NonceError),
    /// An address cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Address and port.
        address: std::net::SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The admin socket cannot be had.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Registrations cannot be kept.
    #[error("cannot write {}: {error}", .path.display())]
    Registrations {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel refused something.
    #[error("cannot {action}: {error}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl MapserverError {
    /// The code the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Log(_) => Exit::Usage,
            Self::Config(_) => Exit::Configuration,
            Self::Listen { error, .. } if error.kind() == io::ErrorKind::AddrInUse => {
                Exit::Instance
            }
            Self::Listen { .. } => Exit::Unable,
            Self::Instance(error) => error.exit(),
            Self::Nonces(_) | Self::Registrations { .. } | Self::System { .. } => Exit::Failed,
        }
    }

    fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { action, error }
    }
}

/// Run a Map-Server until a signal ends it.
///
/// # Errors
/// When it cannot start, or the last nonces cannot be saved.
pub fn run(args: &MapserverArgs) -> Result<(), MapserverError> {
    logging::start(&args.log)?;
    let config = config::mapserver::load(&args.config).map_err(MapserverError::Config)?;
    let path = fs::canonicalize(&args.config)
        .map_err(MapserverError::system("find the configuration file again"))?;
    let seed = random().map_err(MapserverError::system("read /dev/urandom"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(MapserverError::system("make the reactor"))?;
    runtime.block_on(async {
        let mut signals =
            Signals::install().map_err(MapserverError::system("listen to signals"))?;
        let sockets = Sockets::bind(&config.listen)
            .map_err(|(address, error)| MapserverError::Listen { address, error })?;
        // Not before: whoever has the sockets has the files.
        let mut instance = Instance::claim(&config.admin_socket)?;
        let started = Instant::now();
        let rng = fastrand::Rng::with_seed(seed);
        let mut machine = Machine::new(started, config.settings.clone(), rng);
        for nonce in nonces::load(&config.state)? {
            machine.restore_nonce(&nonce);
        }
        // Now, while somebody is there to read why not.
        save_all(&config.state, &machine)?;
        restore_registrations(&config, &mut machine);
        warn_of_loosened_sites(&config);
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let listener = UnixListener::from_std(instance.take_listener());
        let listener = listener.map_err(MapserverError::system("serve the admin socket"))?;
        let asked = tokio::spawn(server::serve(listener, sender));
        tracing::info!("admin socket {}", instance.socket().display());
        for address in &config.listen {
            tracing::info!("listening on {address}");
        }
        tracing::info!("ready: {} sites", config.settings.sites.len());
        let registrations = config.registrations.clone();
        let mut server = Server {
            path,
            started,
            snapshots: Snapshots::new(registrations, &machine),
            reloads: Reloads {
                applied: 1,
                refused: 0,
            },
            saver: Saver::new(config.state.clone(), machine.nonces_revision()),
            config,
            machine,
            sockets,
            outgoing: Vec::new(),
            unsent: 0,
        };
        let ended = server.serve(&mut signals, questions).await;
        asked.abort();
        ended
    })
}

/// Nothing else depends on them: without them, they come back as routers register again.
fn restore_registrations(config: &MapServer, machine: &mut Machine) {
    let Some(path) = &config.registrations else {
        return;
    };
    let (start, path_shown) = (Instant::now(), path.display());
    match registrations::load(path, start, machine) {
        Ok(found) => tracing::info!(
            "{} registrations restored from {path_shown} in {:.2} s; {} had run out, {} are not allowed any more",
            found.restored,
            start.elapsed().as_secs_f64(),
            found.expired,
            found.refused,
        ),
        Err(error) => tracing::error!("registrations of {path_shown} are not used: {error}"),
    }
}

/// 64 bits nobody can guess.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn warn_of_loosened_sites(config: &MapServer) {
    for site in &config.settings.sites {
        if !site.check_nonce {
            tracing::warn!(
                "site {}: nonces are not checked; whoever overhears a Map-Register can send it again",
                site.name
            );
        }
        if site.auth_failure {
            tracing::warn!(
                "site {}: who sends wrong Map-Registers has its unregistered EIDs answered for as not authentic",
                site.name
            );
        }
    }
}

/// Configurations since it started, the first included.
struct Reloads {
    applied: u64,
    refused: u64,
}

/// Whether a configuration asks for what only a start can do.
fn restart_needed(was: &MapServer, wants: &MapServer) -> bool {
    let fixed = |config: &MapServer| {
        let MapServer {
            listen,
            state,
            registrations,
            admin_socket,
            settings: _,
        } = config.clone();
        (listen, state, registrations, admin_socket)
    };
    fixed(was) != fixed(wants)
}

struct Server {
    path: PathBuf,
    started: Instant,
    reloads: Reloads,
    snapshots: Snapshots,
    config: MapServer,
    machine: Machine,
    sockets: Sockets,
    saver: Saver,
    outgoing: Vec<Datagram>,
    /// Messages the kernel did not take.
    unsent: u64,
}

impl Server {
    async fn serve(
        &mut self,
        signals: &mut Signals,
        mut questions: mpsc::Receiver<Question>,
    ) -> Result<(), MapserverError> {
        let mut room = Room::new();
        let ended = loop {
            let is_busy = self.take_turns(&mut room);
            let now = Instant::now();
            if self.machine.poll_timeout().is_some_and(|due| due <= now) {
                self.machine.handle_timeout(now);
                self.flush();
            }
            let save_at = self.saver.step(now, &self.machine);
            let snapshot_at = self.snapshots.step(now, &self.machine);
            let next = self
                .machine
                .poll_timeout()
                .into_iter()
                .chain(save_at)
                .chain(snapshot_at);
            let next = next.min();
            let next = next.map_or(now + IDLE, |next| next.min(now + IDLE));
            tokio::select! {
                biased;
                received = signals.next() => match received {
                    Received::End(name) => break name,
                    Received::Reload => {
                        // What became of it is in the log.
                        let _ = self.reload();
                    }
                },
                Some(question) = questions.recv() => {
                    let answer = self.answer(Instant::now(), question.command);
                    // A client that went away needs no answer.
                    let _ = question.answer.send(answer);
                }
                () = self.sockets.readable(), if !is_busy => {}
                () = sleep_until(next.into()), if !is_busy => {}
                // More may be there: only see whether a signal is.
                () = tokio::task::yield_now(), if is_busy => {}
            }
        };
        tracing::info!("{ended}: ending");
        self.saver.finish(&self.machine).await?;
        let finished = self.snapshots.finish(Instant::now(), &self.machine).await;
        finished.map_err(|error| MapserverError::Registrations {
            path: self.config.registrations.clone().unwrap_or_default(),
            error,
        })?;
        self.tell_counters();
        Ok(())
    }

    /// A turn for each socket; whether any had as much as fits in one.
    fn take_turns(&mut self, room: &mut Room) -> bool {
        let mut is_busy = false;
        for at in 0..self.sockets.len() {
            let now = Instant::now();
            let machine = &mut self.machine;
            let taken = self.sockets.receive(at, room, |inputs| {
                machine.handle_inputs(now, inputs);
            });
            if taken > 0 {
                self.flush();
            }
            is_busy |= taken == BATCH;
        }
        is_busy
    }

    fn flush(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { from, to, bytes } => {
                    self.outgoing.push(Datagram { from, to, bytes });
                }
                Output::Report(report) => tracing::warn!("{report}"),
            }
        }
        self.unsent += self.sockets.send(&mut self.outgoing);
    }

    /// Read the configuration again: what changes, or why nothing does.
    fn reload(&mut self) -> Result<Vec<String>, String> {
        let loaded = config::mapserver::load(&self.path).map_err(|errors| errors.to_string());
        let new = loaded.and_then(|new| match restart_needed(&self.config, &new) {
            true => Err(
                "`listen`, `state`, `registrations` and `admin_socket` need a restart".to_owned(),
            ),
            false => Ok(new),
        });
        let new = new.inspect_err(|error| {
            tracing::error!("reload refused, nothing changed:\n{error}");
            self.reloads.refused += 1;
        })?;
        let changes = admin::changes(&self.config.settings, &new.settings);
        self.machine.configure(new.settings.clone());
        self.config = new;
        self.reloads.applied += 1;
        warn_of_loosened_sites(&self.config);
        tracing::info!("reloaded: {} sites", self.config.settings.sites.len());
        self.tell_counters();
        Ok(changes)
    }

    fn tell_counters(&self) {
        let counters = self.machine.counters();
        let unsent = (self.unsent > 0).then_some(("unsent", self.unsent));
        let all: Vec<String> = counters
            .nonzero()
            .chain(counters.malformed())
            .chain(unsent)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let registrations = self.machine.registrations();
        tracing::info!("{registrations} EIDs registered; {}", all.join(", "));
    }
}

/// Writes nonces to the disk while the reactor goes on.
struct Saver {
    path: PathBuf,
    /// The revision on the disk, or on its way there.
    revision: u64,
    last: Option<Instant>,
    writing: Option<JoinHandle<Result<(), NonceError>>>,
}

impl Saver {
    fn new(path: PathBuf, revision: u64) -> Self {
        Self {
            path,
            revision,
            last: None,
            writing: None,
        }
    }

    /// Begin to write if there is something new and the last time is long enough ago; when to come back.
    fn step(&mut self, now: Instant, machine: &Machine) -> Option<Instant> {
        if machine.nonces_revision() == self.revision {
            return None;
        }
        if let Some(due) = self.last.map(|last| last + SAVE_PAUSE)
            && due > now
        {
            return Some(due);
        }
        if self
            .writing
            .as_ref()
            .is_some_and(|writing| !writing.is_finished())
        {
            return Some(now + SAVE_PAUSE);
        }
        self.revision = machine.nonces_revision();
        self.last = Some(now);
        let (path, text) = (self.path.clone(), nonces::text(machine.nonces()));
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let saved = nonces::save(&path, &text);
            if let Err(error) = &saved {
                tracing::error!("nonces are not kept: {error}");
            }
            saved
        }));
        None
    }

    /// Write what is left, when whatever is being written is.
    async fn finish(&mut self, machine: &Machine) -> Result<(), NonceError> {
        if let Some(writing) = self.writing.take() {
            // What went wrong is in the log, and everything is written once more.
            let _ = writing.await;
        }
        save_all(&self.path, machine)
    }
}

fn save_all(path: &Path, machine: &Machine) -> Result<(), NonceError> {
    nonces::save(path, &nonces::text(machine.nonces()))
}
