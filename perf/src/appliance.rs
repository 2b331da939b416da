//! The real `sextant` as a child process, and its rate, read as an operator reads it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Pid;
use serde::Deserialize;

use crate::children::Running;
use crate::interrupt;
use crate::setup::{Setup, Workspace};
use crate::turns::Forwarder;

/// How long it may take from the start to the first packet sent.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks whether it forwards yet.
const LOOK_STEP: Duration = Duration::from_millis(50);

/// Where the program is.
#[derive(Debug, Clone)]
pub struct Sextant {
    /// The binary.
    pub program: PathBuf,
}

/// The part of `sextant show counters --json` that a rate needs.
#[derive(Debug, Clone, Deserialize)]
pub struct Counters {
    monotonic_ns: u64,
    ports: Vec<Port>,
    drops: Vec<Count>,
    punts: Vec<Count>,
    npt66: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
struct Port {
    name: String,
    tx_packets: u64,
    tx_bytes: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Count {
    name: String,
    count: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Rule {
    out_packets: u64,
    in_packets: u64,
}

/// What became of packets between two readings.
#[derive(Debug)]
pub struct Forwarded {
    /// Packets that were sent on the sink.
    pub sent: u64,
    /// Bytes of them, without FCS.
    bytes: u64,
    /// Packets that a rule of NPT66 translated.
    pub translated: u64,
    /// Kinds of packets that were not sent, why, and how many.
    stopped: Vec<(&'static str, String, u64)>,
}

impl Forwarded {
    /// Mean length of the frames that were sent, bytes without FCS.
    #[must_use]
    pub fn mean_sent_bytes(&self) -> f64 {
        // `as`: both are far below 2^53.
        self.bytes as f64 / self.sent.max(1) as f64
    }

    /// An error if any packet was dropped or punted.
    pub fn nothing_stopped(&self) -> Result<()> {
        match self.stopped.first() {
            None => Ok(()),
            Some((kind, reason, count)) => {
                bail!("{count} packets {kind} ({reason}) while measuring")
            }
        }
    }
}

impl Counters {
    fn sink(&self) -> Result<&Port> {
        let mut ports = self.ports.iter();
        ports
            .find(|port| port.name == SINK)
            .context("the sink's port has no counters")
    }

    fn sent(&self) -> Result<u64> {
        Ok(self.sink()?.tx_packets)
    }

    fn translated(&self) -> u64 {
        self.npt66
            .iter()
            .map(|rule| rule.out_packets + rule.in_packets)
            .sum()
    }

    /// What became of packets since an `earlier` reading.
    pub fn since(&self, earlier: &Self) -> Result<Forwarded> {
        let kinds = [
            ("dropped", &earlier.drops, &self.drops),
            ("punted", &earlier.punts, &self.punts),
        ];
        let mut stopped = Vec::new();
        for (kind, before, after) in kinds {
            for Count { name, count } in after {
                let earlier = before.iter().find(|earlier| earlier.name == *name);
                let more = count.saturating_sub(earlier.map_or(0, |earlier| earlier.count));
                if more > 0 {
                    stopped.push((kind, name.clone(), more));
                }
            }
        }
        let (first, last) = (earlier.sink()?, self.sink()?);
        Ok(Forwarded {
            sent: last.tx_packets.saturating_sub(first.tx_packets),
            bytes: last.tx_bytes.saturating_sub(first.tx_bytes),
            translated: self.translated().saturating_sub(earlier.translated()),
            stopped,
        })
    }
}

/// Name of the port that packets come in by, and of its interface.
pub const SOURCE: &str = "source";
/// Name of the port that they are to leave by, and of its interface.
pub const SINK: &str = "sink";

impl Sextant {
    /// The program at `path`, or beside this executable.
    pub fn find(path: Option<PathBuf>) -> Result<Self> {
        let program = match path {
            Some(path) => path,
            None => std::env::current_exe()
                .context("cannot tell where this program is")?
                .with_file_name("sextant"),
        };
        ensure!(
            program.is_file(),
            "there is no sextant at {}: build it in release mode, or say --sextant PATH",
            program.display()
        );
        Ok(Self { program })
    }

    /// Where it is.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Run it with the configuration that `text` makes of its admin socket's path, until it sends. Files of `workspace` that
    /// are its own begin with `name`.
    pub fn start(
        &self,
        name: &str,
        text: impl FnOnce(&Path) -> String,
        workspace: &Workspace,
    ) -> Result<Instance> {
        let file = |kind| workspace.file(&format!("{name}.{kind}"));
        let (config, socket, log_path) = (file("toml"), file("sock"), file("log"));
        fs::write(&config, text(&socket)).context("cannot write the configuration")?;
        let log = File::create(&log_path).context("cannot make a log file")?;
        let running = Running::start(
            name,
            Command::new(&self.program)
                .arg("run")
                .arg("-c")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(log.try_clone().context("cannot share the log file")?)
                .stderr(log),
        )?;
        let mut instance = Instance {
            program: self.program.clone(),
            running,
            socket,
            log: log_path,
        };
        instance.wait_until_it_sends()?;
        Ok(instance)
    }
}

/// A `sextant` that runs; stopped when dropped.
pub struct Instance {
    program: PathBuf,
    running: Running,
    socket: PathBuf,
    log: PathBuf,
}

impl Instance {
    fn wait_until_it_sends(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            self.running.check(&self.log)?;
            let counters = self.counters();
            let sent = counters.as_ref().map(|counters| counters.sent());
            if sent.is_ok_and(|sent| sent.is_ok_and(|sent| sent > 0)) {
                return Ok(());
            }
            if started.elapsed() > START_LIMIT {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!(
                    "sextant sent nothing within {START_LIMIT:?}; its counters: {counters:?}; its log:\n{log}"
                );
            }
            interrupt::sleep(LOOK_STEP)?;
        }
    }

    /// Give it the changes of `file` (`sextant map load`), and wait until the frames it sends are `expected_bytes` long in the
    /// mean.
    pub fn load(&self, file: &Path, expected_bytes: f64) -> Result<()> {
        let output = Command::new(&self.program)
            .args(["map", "load", "--socket"])
            .arg(&self.socket)
            .arg(file)
            .output()
            .context("cannot run sextant map load")?;
        ensure!(
            output.status.success(),
            "sextant map load: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let started = Instant::now();
        loop {
            let before = self.counters()?;
            interrupt::sleep(LOOK_STEP)?;
            let mean = self.counters()?.since(&before)?.mean_sent_bytes();
            if is_length(mean, expected_bytes) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < START_LIMIT,
                "{START_LIMIT:?} after the mappings came frames are still {mean:.1} bytes instead of {expected_bytes:.1}"
            );
        }
    }

    /// What it counts; an error when it has ended.
    pub fn counters(&self) -> Result<Counters> {
        let output = Command::new(&self.program)
            .args(["show", "counters", "--json", "--socket"])
            .arg(&self.socket)
            .output()
            .context("cannot run sextant show")?;
        ensure!(
            output.status.success(),
            "sextant show counters: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout)
            .context("sextant show counters --json says something else")
    }
}

impl Forwarder for Instance {
    fn process(&self) -> Pid {
        self.running.process()
    }

    fn rate(&mut self, time: Duration) -> Result<f64> {
        self.running.check(&self.log)?;
        let before = self.counters()?;
        interrupt::sleep(time)?;
        let after = self.counters()?;
        let nanoseconds = after.monotonic_ns.saturating_sub(before.monotonic_ns);
        ensure!(
            nanoseconds > 0,
            "the clock of sextant's counters stands still"
        );
        // `as`: both are far below 2^53 within a turn.
        Ok(after.since(&before)?.sent as f64 * 1e9 / nanoseconds as f64)
    }
}

/// What every configuration begins with: how it runs, and its two ports.
#[must_use]
pub fn head(setup: &Setup, socket: &Path) -> String {
    format!(
        r#"[system]
name = "perf"
admin_socket = "{socket}"
huge_pages = "require"
control_core = {control_core}
[workers]
cores = [{worker_core}]
poll = "busy"
burst = {burst}
mbufs = {mbufs}
[[ports]]
name = "{SOURCE}"
device = "{source}"
[[ports]]
name = "{SINK}"
device = "{sink}"
"#,
        socket = socket.display(),
        control_core = setup.control_core,
        worker_core = setup.worker_core,
        burst = setup.burst,
        mbufs = setup.mbufs,
        source = setup.source,
        sink = setup.sink,
    )
}

/// Whether frames that are `mean` bytes long in the mean are those that are `expected` long: a window may end inside the
/// pattern of lengths.
#[must_use]
pub fn is_length(mean: f64, expected: f64) -> bool {
    (mean - expected).abs() < expected / 100.0
}
