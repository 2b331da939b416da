//! Cases on devices: Sextant beside testpmd `io` and `macswap`, which forward the very same capture.
//!
//! A round runs each of the three once, in an order that rotates from round to round, and ratios are made inside it: the
//! machine is shared and its speed moves.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::appliance::{Sextant, is_length};
use crate::interrupt;
use crate::machine::Machine;
use crate::record::{Metric, Record};
use crate::setup::{Setup, Window, Workspace};
use crate::testpmd::{self, Mode};
use crate::traffic;

/// Packets asked for in one poll, by everybody.
const BURST: usize = 32;
const CONTENDERS: usize = 3;

/// A case: its [`Display`] is its name in records.
pub trait Case: Display {
    /// The suite its records belong to.
    const SUITE: &'static str;

    /// The frames that come in by the source.
    fn frames(&self) -> Vec<Vec<u8>>;

    /// Mean length of the frames that go out when these come in, bytes.
    fn sent_bytes(&self, frames: &[Vec<u8>]) -> f64;

    /// The configuration of `sextant`.
    fn configuration(&self, setup: &Setup, socket: &Path) -> String;

    /// A file for `sextant map load`, once it runs.
    fn changes(&self) -> Option<String> {
        None
    }
}

/// Packets a second of one round.
struct Round {
    ours: f64,
    io: f64,
    macswap: f64,
}

/// Run `cases`; `say` is told what is going on, and which cases do not fit the huge pages there are.
pub fn run<C: Case>(
    cases: &[C],
    rounds: usize,
    window: &Window,
    sextant: &Sextant,
    machine: &Machine,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let workspace = Workspace::new()?;
    let mut records = Vec::new();
    for case in cases {
        let stand = Stand::new(case, sextant, window, &workspace)?;
        if let Some(short) = stand.setup.missing_huge_pages()? {
            say(&format!("{case} is not measured: {short}"));
            continue;
        }
        let mut found = Vec::with_capacity(rounds);
        for number in 0..rounds {
            let round = stand.round(number).with_context(|| case.to_string())?;
            say(&format!(
                "{case}, round {} of {rounds}: {:.1}, testpmd io {:.1}, macswap {:.1} Mpps",
                number + 1,
                round.ours / 1e6,
                round.io / 1e6,
                round.macswap / 1e6
            ));
            found.push(round);
        }
        records.extend(records_of(case, &found, machine));
    }
    Ok(records)
}

/// A case, ready to run.
struct Stand<'a, C> {
    case: &'a C,
    sextant: &'a Sextant,
    window: &'a Window,
    workspace: &'a Workspace,
    setup: Setup,
    sent_bytes: f64,
    /// There is a file of changes.
    is_loaded: bool,
}

impl<'a, C: Case> Stand<'a, C> {
    fn new(
        case: &'a C,
        sextant: &'a Sextant,
        window: &'a Window,
        workspace: &'a Workspace,
    ) -> Result<Self> {
        let frames = case.frames();
        let capture = workspace.file("case.pcap");
        let packets = traffic::write_capture(&capture, &frames)?;
        let changes = case.changes();
        if let Some(changes) = &changes {
            std::fs::write(workspace.file("changes"), changes)
                .context("cannot write the changes")?;
        }
        Ok(Self {
            case,
            sextant,
            window,
            workspace,
            setup: Setup::new(&capture, packets, BURST)?,
            sent_bytes: case.sent_bytes(&frames),
            is_loaded: changes.is_some(),
        })
    }

    fn round(&self, number: usize) -> Result<Round> {
        let mut round = Round {
            ours: 0.0,
            io: 0.0,
            macswap: 0.0,
        };
        for position in 0..CONTENDERS {
            interrupt::check()?;
            match (position + number) % CONTENDERS {
                0 => round.ours = self.ours()?,
                1 => round.io = testpmd::rate(Mode::Io, &self.setup, self.window)?,
                _ => round.macswap = testpmd::rate(Mode::Macswap, &self.setup, self.window)?,
            }
        }
        Ok(round)
    }

    /// Fails when any packet was dropped, punted, or sent as it had come.
    fn ours(&self) -> Result<f64> {
        let socket = Sextant::socket(self.workspace);
        let text = self.case.configuration(&self.setup, &socket);
        let prepare = || {
            if self.is_loaded {
                let file = self.workspace.file("changes");
                self.sextant.load(&file, self.sent_bytes, self.workspace)
            } else {
                Ok(())
            }
        };
        let (window, workspace) = (self.window, self.workspace);
        let reading = self.sextant.read(&text, window, workspace, &prepare)?;
        reading.nothing_stopped()?;
        let mean = reading.mean_sent_bytes()?;
        ensure!(
            is_length(mean, self.sent_bytes),
            "frames of {mean:.1} bytes were sent, expected {:.1}",
            self.sent_bytes
        );
        Ok(reading.rate)
    }
}

fn records_of<C: Case>(case: &C, rounds: &[Round], machine: &Machine) -> Vec<Record> {
    let name = case.to_string();
    let record = |metric, figure: &dyn Fn(&Round) -> f64| {
        let figures: Vec<f64> = rounds.iter().map(figure).collect();
        Record::of(C::SUITE, &name, metric, &figures)
    };
    vec![
        record(Metric::Mpps, &|round| round.ours / 1e6),
        record(Metric::ClkPerPacket, &|round| {
            machine.clocks_per_packet(round.ours)
        }),
        record(Metric::TestpmdIoMpps, &|round| round.io / 1e6),
        record(Metric::TestpmdMacswapMpps, &|round| round.macswap / 1e6),
        record(Metric::RatioToTestpmdIo, &|round| round.ours / round.io),
        record(Metric::RatioToTestpmdMacswap, &|round| {
            round.ours / round.macswap
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::target_of;
    use crate::{lisp, steer};

    fn ratios_have_their_goals<C: Case>(cases: &[C]) {
        let machine = Machine {
            tsc_hertz: 2e9,
            ..Machine::look()
        };
        // The machine halves its speed after the first round: the ratio does not move.
        let rounds = [(6e6, 12e6, 10e6), (3e6, 6e6, 5e6)].map(|(ours, io, macswap)| Round {
            ours,
            io,
            macswap,
        });
        for case in cases {
            let records = records_of(case, &rounds, &machine);
            let ratio = records
                .iter()
                .find(|record| record.metric == Metric::RatioToTestpmdMacswap)
                .expect("it is there");
            assert_eq!((ratio.min, ratio.max), (0.6, 0.6));
            assert!(
                target_of(ratio).is_some_and(|goal| goal.is_met_by(0.6)),
                "{case}"
            );
        }
    }

    #[test]
    fn ratios_are_made_inside_each_round_and_have_their_goals() {
        ratios_have_their_goals(&lisp::cases::Case::quick());
        ratios_have_their_goals(&steer::cases::Case::quick());
    }
}
