//! Cases on devices: Sextant beside testpmd `io` and `macswap`, which forward the very same capture, and where somebody
//! asks for it beside another build of Sextant, such as that of the commit before.
//!
//! A round starts everybody anew, and everybody has turns ([`turns`](crate::turns)); ratios are made inside a turn, so that
//! those of rounds differ by where a start happened to put its memory, and hardly by what neighbours do meanwhile.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::appliance::{Forwarded, Instance, Sextant, is_length};
use crate::cases::Point;
use crate::interrupt;
use crate::linux::LinuxRouter;
use crate::machine::Machine;
use crate::record::{Metric, Record};
use crate::setup::{Setup, Workspace};
use crate::testpmd::{Mode, Testpmd};
use crate::traffic;
use crate::turns::{Held, Rates, Turn, Turns};

/// Packets asked for in one poll, by everybody.
const BURST: usize = 32;

/// A case: its [`Display`] is its name in records.
pub trait Case: Display {
    /// The suite its records belong to.
    fn suite(&self) -> &'static str;

    /// The frames that come in by the source.
    fn frames(&self) -> Vec<Vec<u8>>;

    /// How much longer a frame is when it goes out, bytes; negative: shorter.
    fn overhead(&self) -> isize;

    /// The configuration of `sextant`.
    fn configuration(&self, setup: &Setup, socket: &Path) -> String;

    /// A file for `sextant map load`, once it runs.
    fn changes(&self) -> Option<String> {
        None
    }

    /// An error unless what was sent had done to it what the case is about; that nothing else became of packets, and how long
    /// frames are, is known already.
    fn check(&self, _forwarded: &Forwarded) -> Result<()> {
        Ok(())
    }

    /// The traffic to give Linux's SNPT, where that does the same.
    fn beside_linux(&self) -> Option<Point> {
        None
    }
}

/// What takes part in every case, and how often.
pub struct Plan<'a> {
    /// The program that is measured.
    pub sextant: &'a Sextant,
    /// Another build of it.
    pub other: Option<&'a Sextant>,
    /// How often everybody is started.
    pub rounds: usize,
    /// What follows each start.
    pub turns: Turns,
}

/// Places in [`Rates`].
const OURS: usize = 0;
const IO: usize = 1;
const MACSWAP: usize = 2;
const OTHER: usize = 3;

struct Round {
    rates: Rates,
    /// Packets per CPU-second; `None`: not measured.
    linux: Option<f64>,
}

/// Run `cases`; `say` is told what is going on, and which cases do not fit the huge pages there are.
pub fn run<C: Case>(
    cases: &[C],
    plan: &Plan,
    machine: &Machine,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let workspace = Workspace::new()?;
    let mut records = Vec::new();
    for case in cases {
        let stand = Stand::new(case, plan, &workspace)?;
        let contenders = if plan.other.is_some() { 4 } else { 3 };
        if let Some(short) = stand.setup.missing_huge_pages(contenders)? {
            say(&format!("{case} is not measured: {short}"));
            continue;
        }
        let linux = stand.linux(say);
        let mut found = Vec::with_capacity(plan.rounds);
        for number in 1..=plan.rounds {
            let rates = stand.round().with_context(|| case.to_string())?;
            let linux = linux.as_ref().map(LinuxRouter::rate).transpose()?;
            let round = Round { rates, linux };
            say(&format!(
                "{case}, round {number} of {}: {}",
                plan.rounds,
                round.describe(plan.other.is_some())
            ));
            found.push(round);
        }
        records.extend(records_of(case, &found, plan.other.is_some(), machine));
    }
    Ok(records)
}

/// A case, ready to run.
struct Stand<'a, C> {
    case: &'a C,
    plan: &'a Plan<'a>,
    workspace: &'a Workspace,
    setup: Setup,
    sent_bytes: f64,
    /// There is a file of changes.
    is_loaded: bool,
}

impl<'a, C: Case> Stand<'a, C> {
    fn new(case: &'a C, plan: &'a Plan, workspace: &'a Workspace) -> Result<Self> {
        let frames = case.frames();
        let capture = workspace.file("case.pcap");
        let packets = traffic::write_capture(&capture, &frames)?;
        let changes = case.changes();
        if let Some(changes) = &changes {
            std::fs::write(workspace.file("changes"), changes)
                .context("cannot write the changes")?;
        }
        let sum: usize = frames.iter().map(Vec::len).sum();
        Ok(Self {
            case,
            plan,
            workspace,
            setup: Setup::new(&capture, packets, BURST)?,
            // `as`: far below 2^53.
            sent_bytes: sum as f64 / frames.len() as f64 + case.overhead() as f64,
            is_loaded: changes.is_some(),
        })
    }

    /// Without Linux a case is not worthless: says why and goes on.
    fn linux(&self, say: &dyn Fn(&str)) -> Option<LinuxRouter> {
        let point = self.case.beside_linux()?;
        match LinuxRouter::new(point, self.setup.worker_core, self.workspace) {
            Ok(router) => Some(router),
            Err(error) => {
                say(&format!("Linux SNPT is not measured: {error:#}"));
                None
            }
        }
    }

    /// Fails when any packet of ours was dropped, punted, or sent otherwise than the case says.
    fn round(&self) -> Result<Rates> {
        let Plan {
            sextant,
            other,
            turns,
            ..
        } = self.plan;
        let mut ours = Held::new(self.start(sextant, "sextant")?)?;
        let mut other = other
            .map(|other| Held::new(self.start(other, "other")?))
            .transpose()?;
        let mut io = Held::new(Testpmd::start(Mode::Io, &self.setup)?)?;
        let mut macswap = Held::new(Testpmd::start(Mode::Macswap, &self.setup)?)?;
        interrupt::check()?;
        let first = ours.release(|instance| instance.counters())?;
        let mut everybody: Vec<&mut dyn Turn> = vec![&mut ours, &mut io, &mut macswap];
        everybody.extend(other.as_mut().map(|other| -> &mut dyn Turn { other }));
        let rates = Rates::measure(&mut everybody, turns)?;
        let last = ours.release(|instance| instance.counters())?;
        let forwarded = last.since(&first)?;
        forwarded.nothing_stopped()?;
        let mean = forwarded.mean_sent_bytes();
        ensure!(
            is_length(mean, self.sent_bytes),
            "frames of {mean:.1} bytes were sent, expected {:.1}",
            self.sent_bytes
        );
        self.case.check(&forwarded)?;
        Ok(rates)
    }

    fn start(&self, sextant: &Sextant, name: &str) -> Result<Instance> {
        let text = |socket: &Path| self.case.configuration(&self.setup, socket);
        let instance = sextant.start(name, text, self.workspace)?;
        if self.is_loaded {
            instance.load(&self.workspace.file("changes"), self.sent_bytes)?;
        }
        Ok(instance)
    }
}

impl Round {
    fn describe(&self, is_other: bool) -> String {
        let rate = |one| self.rates.of(one) / 1e6;
        let mut text = format!(
            "{:.1}, testpmd io {:.1}, macswap {:.1} Mpps, ratio {:.3}",
            rate(OURS),
            rate(IO),
            rate(MACSWAP),
            self.rates.ratio(OURS, MACSWAP)
        );
        if is_other {
            let (rate, ratio) = (rate(OTHER), self.rates.ratio(OURS, OTHER));
            text += &format!("; the other sextant {rate:.1}, ratio {ratio:.3}");
        }
        if let Some(linux) = self.linux {
            text += &format!("; Linux SNPT {:.2}", linux / 1e6);
        }
        text
    }
}

fn records_of<C: Case>(
    case: &C,
    rounds: &[Round],
    is_other: bool,
    machine: &Machine,
) -> Vec<Record> {
    let name = case.to_string();
    let record = |metric, figure: &dyn Fn(&Round) -> f64| {
        let figures: Vec<f64> = rounds.iter().map(figure).collect();
        Record::of(case.suite(), &name, metric, &figures)
    };
    let mpps = |one| move |round: &Round| round.rates.of(one) / 1e6;
    let ratio_to = |one| move |round: &Round| round.rates.ratio(OURS, one);
    let mut records = vec![
        record(Metric::Mpps, &mpps(OURS)),
        record(Metric::ClkPerPacket, &|round| {
            machine.clocks_per_packet(round.rates.of(OURS))
        }),
        record(Metric::TestpmdIoMpps, &mpps(IO)),
        record(Metric::TestpmdMacswapMpps, &mpps(MACSWAP)),
        record(Metric::RatioToTestpmdIo, &ratio_to(IO)),
        record(Metric::RatioToTestpmdMacswap, &ratio_to(MACSWAP)),
    ];
    if is_other {
        records.push(record(Metric::RatioToOtherSextant, &ratio_to(OTHER)));
    }
    if rounds.iter().all(|round| round.linux.is_some()) {
        // One worker is one core, always busy: packets a second are packets per CPU-second.
        let linux = |round: &Round| round.linux.unwrap_or(f64::NAN);
        records.push(record(Metric::LinuxSnptMpps, &|round| linux(round) / 1e6));
        records.push(record(Metric::RatioToLinuxSnpt, &|round| {
            round.rates.of(OURS) / linux(round)
        }));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::target_of;
    use crate::{cases, devices, lisp, steer};

    fn round(ours: f64, io: f64, macswap: f64, other: f64) -> Round {
        Round {
            rates: Rates::from_turns([[ours], [io], [macswap], [other]]),
            linux: Some(ours / 10.0),
        }
    }

    fn ratios_have_their_goals<C: Case>(cases: &[C], ratio: f64) {
        let machine = Machine {
            tsc_hertz: 2e9,
            ..Machine::look()
        };
        // The machine halves its speed after the first round: the ratio does not move.
        let rounds = [1.0, 0.5].map(|speed| {
            round(
                ratio * 10e6 * speed,
                12e6 * speed,
                10e6 * speed,
                5e6 * speed,
            )
        });
        for case in cases {
            let records = records_of(case, &rounds, true, &machine);
            let find = |metric| {
                let mut records = records.iter();
                records
                    .find(|record| record.metric == metric)
                    .expect("it is there")
            };
            let found = find(Metric::RatioToTestpmdMacswap);
            assert_eq!((found.min, found.max), (ratio, ratio));
            assert!(
                target_of(found).is_some_and(|goal| goal.is_met_by(ratio)),
                "{case}"
            );
            for (metric, min, max) in [
                (Metric::Mpps, ratio * 5.0, ratio * 10.0),
                (Metric::ClkPerPacket, 200.0 / ratio, 400.0 / ratio),
                (Metric::RatioToOtherSextant, ratio * 2.0, ratio * 2.0),
                (Metric::RatioToLinuxSnpt, 10.0, 10.0),
            ] {
                let found = find(metric);
                assert_eq!((found.min, found.max), (min, max), "{metric}");
                assert_eq!(found.case, case.to_string());
            }
        }
    }

    #[test]
    fn ratios_are_made_inside_each_round_and_have_their_goals() {
        ratios_have_their_goals(&lisp::cases::Case::quick(), 0.625);
        ratios_have_their_goals(&steer::cases::Case::quick(), 0.625);
        let of = |way| devices::Case {
            way,
            point: cases::Point {
                sizes: cases::Sizes::Small,
                flows: cases::Flows::Thousand,
            },
            internet: None,
        };
        ratios_have_their_goals(&cases::Way::ALL.map(of), 0.8);
    }
}
