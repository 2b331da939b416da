//! DPDK's own forwarder on the same devices: the yardstick beside every rate of ours.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::children::Dialogue;
use crate::interrupt;
use crate::record::median;
use crate::setup::{Setup, Window};

/// How long DPDK may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What testpmd does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Moves it, untouched.
    Io,
    /// Exchanges its MAC addresses.
    Macswap,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Macswap => "macswap",
        }
    }
}

/// Packets a second that testpmd sends on the sink.
pub fn rate(mode: Mode, setup: &Setup, window: &Window) -> Result<f64> {
    let name = format!("testpmd {}", mode.name());
    // Into a pipe it would speak only once some 4 KiB have gathered.
    let mut command = Command::new("stdbuf");
    command
        .args(["-oL", "dpdk-testpmd"])
        .args([
            "-l",
            &format!("{},{}", setup.control_core, setup.worker_core),
        ])
        .args(["--in-memory", "--no-pci", "--no-telemetry"])
        .args(["--vdev", &setup.source, "--vdev", &setup.sink])
        .args(["--", "--interactive", "--nb-cores=1"])
        .arg(format!("--forward-mode={}", mode.name()))
        .arg(format!("--burst={}", setup.burst))
        .arg(format!("--total-num-mbufs={}", setup.mbufs));
    let mut testpmd = Dialogue::start(&name, &mut command)?;
    testpmd.say("start")?;
    // Says how many ports it really has: a device that does not probe is missing, and no error of its own.
    let started = format!("{} packet forwarding - ports=", mode.name());
    let ports: String = testpmd
        .listen(START_LIMIT, |line| {
            let (_, rest) = line.split_once(&started)?;
            Some(rest.chars().take_while(char::is_ascii_digit).collect())
        })
        .context("testpmd did not start")?;
    ensure!(
        ports == "2",
        "testpmd has {ports} ports instead of 2: {} or {} did not probe",
        setup.source,
        setup.sink
    );
    interrupt::sleep(window.warm_up)?;
    let mut sample = || -> Result<f64> {
        testpmd.say("show port stats 1")?;
        testpmd.listen(ANSWER_LIMIT, sent_per_second)
    };
    sample()?; // since the start
    let mut rates = Vec::with_capacity(window.samples);
    for _ in 0..window.samples {
        interrupt::sleep(window.sample)?;
        rates.push(sample()?);
    }
    Ok(median(&rates))
}

/// The rate in a line of `show port stats`, which is since the command before.
fn sent_per_second(line: &str) -> Option<f64> {
    let rest = line.trim_start().strip_prefix("Tx-pps:")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sending_rate_is_read_from_testpmd_s_words() {
        assert_eq!(
            sent_per_second("  Tx-pps:     35304526          Tx-bps:            0"),
            Some(35_304_526.0)
        );
        assert_eq!(
            sent_per_second("  Rx-pps:     1          Rx-bps:            0"),
            None
        );
    }
}
