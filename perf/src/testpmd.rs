//! DPDK's own forwarder on the same devices: the yardstick beside every rate of ours.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;

use crate::children::Dialogue;
use crate::interrupt;
use crate::setup::Setup;
use crate::turns::Forwarder;

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

/// One that runs.
pub struct Testpmd {
    dialogue: Dialogue,
}

impl Testpmd {
    /// Start it on the devices of `setup`.
    pub fn start(mode: Mode, setup: &Setup) -> Result<Self> {
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
        let mut dialogue = Dialogue::start(&name, &mut command)?;
        dialogue.say("start")?;
        // Says how many ports it really has: a device that does not probe is missing, and no error of its own.
        let started = format!("{} packet forwarding - ports=", mode.name());
        let ports: String = dialogue
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
        Ok(Self { dialogue })
    }

    /// Packets a second that were sent on the sink since the call before.
    fn sample(&mut self) -> Result<f64> {
        self.dialogue.say("show port stats 1")?;
        self.dialogue.listen(ANSWER_LIMIT, sent_per_second)
    }
}

impl Forwarder for Testpmd {
    fn process(&self) -> Pid {
        self.dialogue.process()
    }

    fn rate(&mut self, time: Duration) -> Result<f64> {
        self.sample()?;
        interrupt::sleep(time)?;
        self.sample()
    }
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
