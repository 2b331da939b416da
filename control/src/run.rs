//! `sextant run`: arguments, configuration, instance, devices, workers, reactor; and everything back in reverse.
//!
//! The order is deliberate. The configuration is judged before anything is touched; the instance lock is taken before a
//! device is; signals are listened to before the slow part begins; the runtime is there before DPDK changes what threads
//! inherit. What fails leaves nothing behind.

use std::fs;
use std::io::{self, Read as _};
use std::time::{Instant, SystemTime};

use dataplane::dpdk::{Mbuf, ThreadRegistration};
use dataplane::reason::PuntReason;
use dataplane::table::publish::Publisher;
use dataplane::worker::{BuildError, Crew, CrewConfig, Poll, RingSizes, StartError, WorkerConfig};
use pipelines::Edge;
use pipelines::npt66::SpecError;
use pipelines::steer::FlowMemory;
use pipelines::tables::Builder;

use crate::appliance::{Appliance, Parts};
use crate::cli::RunArgs;
use crate::config::{self, Config};
use crate::devices::{DeviceError, Devices};
use crate::exit::Exit;
use crate::instance::{Instance, InstanceError};
use crate::logging::{self, LogError};
use crate::privileges;
use crate::reactor::{self, Ended, Signals};

/// Why it did not run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log filter is wrong.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The configuration is.
    #[error("{}", .0.to_string().trim_end())]
    Config(config::Errors),
    /// Another instance runs, or the admin socket cannot be made.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// A capability is missing.
    #[error(transparent)]
    Privileges(#[from] privileges::Missing),
    /// A device cannot be used.
    #[error(transparent)]
    Devices(#[from] DeviceError),
    /// Rules that the configuration's checks should have refused.
    #[error(transparent)]
    Rules(#[from] SpecError),
    /// Workers and queues do not fit together.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A worker did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The kernel refused something for the reactor.
    #[error("cannot {action}: {error}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// Nothing can be forwarded any more.
    #[error("every worker has died; the log says why")]
    WorkersDead,
}

impl RunError {
    /// The code the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Log(_) => Exit::Usage,
            Self::Config(_) => Exit::Configuration,
            Self::Instance(error) => error.exit(),
            Self::Privileges(_) | Self::Devices(_) => Exit::Unable,
            Self::Rules(_) => Exit::Configuration,
            Self::Build(_) | Self::Start(_) | Self::System { .. } | Self::WorkersDead => {
                Exit::Failed
            }
        }
    }

    fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { action, error }
    }
}

/// Run the appliance until a signal ends it.
///
/// # Errors
/// When it cannot start, or all its workers died.
pub fn run(args: &RunArgs) -> Result<(), RunError> {
    logging::start(&args.log)?;
    let config = config::load(&args.config).map_err(RunError::Config)?;
    // A reload must find the same file wherever it is asked for.
    let config_path = fs::canonicalize(&args.config)
        .map_err(RunError::system("find the configuration file again"))?;
    let mut instance = Instance::claim(&config.system.admin_socket)?;
    privileges::check(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::system("make the reactor"))?;
    let listen = async { Signals::install() };
    let mut signals = runtime
        .block_on(listen)
        .map_err(RunError::system("listen to signals"))?;

    let mut devices = Devices::start(&config)?;
    // Never met by a packet: workers start after the first publication.
    let mut publisher = Publisher::new(Builder::new().build());
    let queues = devices.take_queues();
    let memories = FlowMemory::of_workers(config.workers.cores.len());
    let (workers, handles) =
        Crew::build::<Mbuf, Edge<Mbuf>>(&crew_config(&config), queues, &mut publisher, |worker| {
            Edge::remembering(memories[worker].clone())
        })?;
    let control_core = config.system.control_core;
    let mut appliance = Appliance::new(
        Instant::now(),
        Parts {
            platform: devices,
            config,
            config_path,
            publisher,
            workers: handles,
            rng: fastrand::Rng::new(),
            seed: seed().map_err(RunError::system("read random bytes"))?,
            memories,
            hostname: hostname(),
            unix_seconds: unix_seconds(),
        },
    )?;
    let crew = Crew::start(workers, |_| ThreadRegistration::register())?;
    if let Some(core) = control_core {
        pin(core)?;
    }
    tracing::info!(
        "running as process {}, admin socket {}",
        std::process::id(),
        instance.socket().display()
    );

    let listener = instance.take_listener();
    let ended = runtime
        .block_on(reactor::run(&mut appliance, listener, &mut signals))
        .map_err(RunError::system("serve the admin socket"))?;
    if let Ended::Signal(name) = ended {
        tracing::info!("{name}: stopping");
    }
    appliance.shut_down(Instant::now());
    // While packets still go on: whoever follows announcements leads them elsewhere.
    runtime.block_on(reactor::run_last(&mut appliance));
    // Workers first: they send, punt or drop what they have. Then the rings with what is left, the ports, DPDK.
    crew.stop();
    tracing::info!("stopped: {}", appliance.account());
    drop(appliance);
    drop(instance);
    match ended {
        Ended::Signal(_) => Ok(()),
        Ended::WorkersDead => Err(RunError::WorkersDead),
    }
}

fn crew_config(config: &Config) -> CrewConfig {
    let workers = config.workers.cores.iter().map(|core| WorkerConfig {
        core: Some(*core),
        poll: match config.workers.poll {
            config::Poll::Busy => Poll::Busy,
            config::Poll::Adaptive => Poll::Adaptive,
        },
        burst: config.workers.burst,
    });
    let mut punt_rates = [(0, 0); PuntReason::COUNT];
    for reason in PuntReason::ALL {
        let rate = config.punt.rate(*reason);
        punt_rates[reason.index()] = (rate.per_second, rate.burst);
    }
    CrewConfig {
        workers: workers.collect(),
        punt_rates,
        rings: RingSizes::default(),
        spread_seed: fastrand::u64(..),
    }
}

/// Random bytes of the kernel.
fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

/// What the machine is called.
fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// Seconds since 1970; 0 where the clock says an earlier time.
fn unix_seconds() -> u64 {
    let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    passed.map_or(0, |passed| passed.as_secs())
}

/// Keep the calling thread on a core.
fn pin(core: usize) -> Result<(), RunError> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
        .map_err(|errno| RunError::system("pin the control thread")(errno.into()))
}
