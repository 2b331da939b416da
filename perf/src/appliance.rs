//! The real `sextant` as a child process on the devices of a [`Setup`], and its rate, read as an operator reads it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::cases::Way;
use crate::children::Running;
use crate::internet::Internet;
use crate::interrupt;
use crate::network as net;
use crate::record::median;
use crate::setup::{Setup, Window, Workspace};

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
struct Counters {
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
}

/// Name of the port that packets come in by, and of its interface.
pub const SOURCE: &str = "source";
/// Name of the port that they are to leave by, and of its interface.
pub const SINK: &str = "sink";

/// What was read of a running sextant.
#[derive(Debug)]
pub struct Reading {
    /// Packets a second that were sent on the sink.
    pub rate: f64,
    first: Counters,
    last: Counters,
}

impl Reading {
    /// Mean length of the frames that were sent while it was measured, bytes without FCS.
    pub fn mean_sent_bytes(&self) -> Result<f64> {
        mean_sent_bytes(&self.first, &self.last)
    }

    /// An error if any packet was dropped or punted while it was measured.
    pub fn nothing_stopped(&self) -> Result<()> {
        nothing_stopped(&self.first, &self.last)
    }
}

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

    /// Packets a second that are sent on the sink when packets of the source go `way`, over the routes of `internet` where
    /// the way says so. Fails when, while it was
    /// measured, any packet was dropped or punted, or was not translated though it should have been.
    pub fn rate(
        &self,
        way: Way,
        internet: Option<&Internet>,
        setup: &Setup,
        window: &Window,
        workspace: &Workspace,
    ) -> Result<f64> {
        let mut text = configuration(way, setup, &Self::socket(workspace));
        if way == Way::ForwardFullTable {
            text += &internet
                .context("no full table was read")?
                .configuration(SINK);
        }
        let reading = self.read(&text, window, workspace, &|| Ok(()))?;
        reading.nothing_stopped().with_context(|| way.to_string())?;
        all_translated(way, &reading.first, &reading.last)?;
        Ok(reading.rate)
    }

    /// The admin socket that a configuration for [`Sextant::read`] names.
    #[must_use]
    pub fn socket(workspace: &Workspace) -> PathBuf {
        workspace.file("sextant.sock")
    }

    /// Run it with this configuration; once it sends, do what `prepare` says, and then read its rate.
    pub fn read(
        &self,
        text: &str,
        window: &Window,
        workspace: &Workspace,
        prepare: &dyn Fn() -> Result<()>,
    ) -> Result<Reading> {
        let config = workspace.file("sextant.toml");
        let socket = Self::socket(workspace);
        let log_path = workspace.file("sextant.log");
        fs::write(&config, text).context("cannot write the configuration")?;
        let log = File::create(&log_path).context("cannot make a log file")?;
        let mut running = Running::start(
            "sextant",
            Command::new(&self.program)
                .arg("run")
                .arg("-c")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(log.try_clone().context("cannot share the log file")?)
                .stderr(log),
        )?;
        let started = Instant::now();
        loop {
            running.check(&log_path)?;
            if self
                .counters(&socket)
                .and_then(|counters| counters.sent())
                .is_ok_and(|sent| sent > 0)
            {
                break;
            }
            if started.elapsed() > START_LIMIT {
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                let last = self.counters(&socket);
                bail!(
                    "sextant sent nothing within {START_LIMIT:?}; its counters: {last:?}; its log:\n{log}"
                );
            }
            interrupt::sleep(LOOK_STEP)?;
        }
        prepare()?;
        interrupt::sleep(window.warm_up)?;
        let first = self.counters(&socket)?;
        let mut before = first.clone();
        let mut rates = Vec::with_capacity(window.samples);
        for _ in 0..window.samples {
            interrupt::sleep(window.sample)?;
            let after = self.counters(&socket)?;
            let packets = after.sent()?.saturating_sub(before.sent()?);
            let nanoseconds = after.monotonic_ns.saturating_sub(before.monotonic_ns);
            ensure!(
                nanoseconds > 0,
                "the clock of sextant's counters stands still"
            );
            // `as`: both are far below 2^53 within a window.
            rates.push(packets as f64 * 1e9 / nanoseconds as f64);
            before = after;
        }
        running.check(&log_path)?;
        Ok(Reading {
            rate: median(&rates),
            first,
            last: before,
        })
    }

    /// Give the running instance the changes of `file` (`sextant map load`), and wait until the frames it sends are
    /// `expected_bytes` long in the mean.
    pub fn load(&self, file: &Path, expected_bytes: f64, workspace: &Workspace) -> Result<()> {
        let socket = Self::socket(workspace);
        let output = Command::new(&self.program)
            .args(["map", "load", "--socket"])
            .arg(&socket)
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
            let before = self.counters(&socket)?;
            interrupt::sleep(LOOK_STEP)?;
            let mean = mean_sent_bytes(&before, &self.counters(&socket)?)?;
            if is_length(mean, expected_bytes) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < START_LIMIT,
                "{START_LIMIT:?} after the mappings came frames are still {mean:.1} bytes instead of {expected_bytes:.1}"
            );
        }
    }

    fn counters(&self, socket: &Path) -> Result<Counters> {
        let output = Command::new(&self.program)
            .args(["show", "counters", "--json", "--socket"])
            .arg(socket)
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

/// Whether frames that are `mean` bytes long in the mean are those that are `expected` long: a window may end inside the
/// pattern of lengths.
#[must_use]
pub fn is_length(mean: f64, expected: f64) -> bool {
    (mean - expected).abs() < expected / 100.0
}

fn mean_sent_bytes(first: &Counters, last: &Counters) -> Result<f64> {
    let (first, last) = (first.sink()?, last.sink()?);
    let packets = last.tx_packets.saturating_sub(first.tx_packets);
    let bytes = last.tx_bytes.saturating_sub(first.tx_bytes);
    // `as`: both are far below 2^53 within a window.
    Ok(bytes as f64 / packets.max(1) as f64)
}

/// Between `first` and `last` every packet was sent.
fn nothing_stopped(first: &Counters, last: &Counters) -> Result<()> {
    let kinds = [
        ("dropped", &first.drops, &last.drops),
        ("punted", &first.punts, &last.punts),
    ];
    for (kind, before, after) in kinds {
        for count in after {
            let earlier = before
                .iter()
                .find(|c| c.name == count.name)
                .map_or(0, |c| c.count);
            ensure!(
                count.count == earlier,
                "{} packets {kind} ({}) while measuring",
                count.count - earlier,
                count.name
            );
        }
    }
    Ok(())
}

/// Between `first` and `last` every packet was translated where `way` says so, and none where not.
fn all_translated(way: Way, first: &Counters, last: &Counters) -> Result<()> {
    let sent = last.sent()?.saturating_sub(first.sent()?);
    let translated = last.translated().saturating_sub(first.translated());
    // The two counters are read while packets go on: a few bursts may be in one and not yet in the other.
    let slack = sent / 100;
    let expected = if way.translates() { sent } else { 0 };
    ensure!(
        translated.abs_diff(expected) <= slack,
        "{way}: {translated} packets translated of {sent} sent"
    );
    Ok(())
}

/// The source stands inside for packets on their way out, and outside for packets on their way in.
fn configuration(way: Way, setup: &Setup, socket: &Path) -> String {
    let (inside, outside) = match way {
        Way::Forward | Way::ForwardFullTable | Way::Npt66Out => (SOURCE, SINK),
        Way::Npt66In => (SINK, SOURCE),
    };
    let rule = match way {
        Way::Forward | Way::ForwardFullTable => String::new(),
        Way::Npt66Out | Way::Npt66In => format!(
            r#"
[[npt66]]
name = "measured"
interface = "{outside}"
inside = "{}"
outside = "{}"
"#,
            net::INSIDE_PREFIX,
            net::OUTSIDE_PREFIX
        ),
    };
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
[[interfaces]]
name = "{inside}"
port = "{inside}"
addresses = ["{inside_address}"]
[[interfaces]]
name = "{outside}"
port = "{outside}"
addresses = ["{outside_address}"]
[[routes]]
prefix = "::/0"
next_hops = [ {{ via = "{outside_router}", interface = "{outside}" }} ]
[[routes]]
prefix = "{inside_prefix}"
next_hops = [ {{ via = "{inside_router}", interface = "{inside}" }} ]
[[neighbors]]
interface = "{inside}"
address = "{inside_router}"
mac = "{inside_router_mac}"
[[neighbors]]
interface = "{outside}"
address = "{outside_router}"
mac = "{outside_router_mac}"
{rule}"#,
        socket = socket.display(),
        control_core = setup.control_core,
        worker_core = setup.worker_core,
        burst = setup.burst,
        mbufs = setup.mbufs,
        source = setup.source,
        sink = setup.sink,
        inside_address = net::INSIDE_ADDRESS,
        outside_address = net::OUTSIDE_ADDRESS,
        outside_router = net::OUTSIDE_ROUTER,
        inside_prefix = net::INSIDE_PREFIX,
        inside_router = net::INSIDE_ROUTER,
        inside_router_mac = net::INSIDE_ROUTER_MAC,
        outside_router_mac = net::OUTSIDE_ROUTER_MAC,
    )
}
