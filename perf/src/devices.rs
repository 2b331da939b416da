//! The suites on devices: Sextant beside testpmd `io` and `macswap`, on the same devices and the same traffic, and once
//! beside Linux.
//!
//! Machines are shared and their speed moves, so only what ran in one round is compared: a round runs every contender
//! once, in an order that rotates from round to round, and ratios are made inside the round.

use anyhow::{Context as _, Result};

use crate::appliance::Sextant;
use crate::cases::{Flows, Point, Sizes, Way};
use crate::internet::Internet;
use crate::interrupt;
use crate::linux::LinuxRouter;
use crate::machine::Machine;
use crate::record::{Metric, Record};
use crate::setup::{Setup, Window, Workspace};
use crate::testpmd::{self, Mode};
use crate::traffic::{self, Direction};

/// Packets asked for in one poll, by everybody.
const BURST: usize = 32;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The ways packets go.
    pub ways: Vec<Way>,
    /// The traffic.
    pub points: Vec<Point>,
    /// How often each contender runs.
    pub rounds: usize,
    /// How each rate is read.
    pub window: Window,
    /// The table of [`Way::ForwardFullTable`].
    pub internet: Option<Internet>,
}

/// Rates of one round, packets a second.
struct Round {
    ours: Vec<f64>,
    io: f64,
    macswap: f64,
    /// `None`: not measured.
    linux: Option<f64>,
}

#[derive(Clone, Copy)]
enum Contender {
    Ours(usize),
    Testpmd(Mode),
    Linux,
}

/// Run the plan; `say` is told what is going on.
pub fn run(
    plan: &Plan,
    sextant: &Sextant,
    machine: &Machine,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let workspace = Workspace::new()?;
    let mut records = Vec::new();
    for point in &plan.points {
        let rounds = run_point(plan, *point, sextant, &workspace, say)?;
        for (index, way) in plan.ways.iter().enumerate() {
            records.extend(records_of(*way, *point, index, &rounds, machine));
        }
    }
    Ok(records)
}

fn run_point(
    plan: &Plan,
    point: Point,
    sextant: &Sextant,
    workspace: &Workspace,
    say: &dyn Fn(&str),
) -> Result<Vec<Round>> {
    let prepare = |name: &str, frames: &[Vec<u8>]| prepare(name, frames, workspace);
    let outbound = prepare("outbound.pcap", &traffic::frames(Direction::Out, point))?;
    let inbound = prepare("inbound.pcap", &traffic::frames(Direction::In, point))?;
    let everywhere = plan.internet.as_ref();
    let everywhere = everywhere
        .map(|internet| prepare("everywhere.pcap", &internet.frames(point)))
        .transpose()?;
    let mut contenders: Vec<Contender> = (0..plan.ways.len()).map(Contender::Ours).collect();
    contenders.extend([
        Contender::Testpmd(Mode::Io),
        Contender::Testpmd(Mode::Macswap),
    ]);
    let linux = linux_router(plan, point, &outbound, workspace, say);
    contenders.extend(linux.as_ref().map(|_| Contender::Linux));
    let mut rounds = Vec::with_capacity(plan.rounds);
    for number in 0..plan.rounds {
        let mut round = Round {
            ours: vec![0.0; plan.ways.len()],
            io: 0.0,
            macswap: 0.0,
            linux: None,
        };
        let order = contenders.len();
        for contender in (0..order).map(|position| contenders[(position + number) % order]) {
            interrupt::check()?;
            match contender {
                Contender::Ours(index) => {
                    let way = plan.ways[index];
                    let setup = match way {
                        Way::Npt66In => &inbound,
                        Way::ForwardFullTable => everywhere.as_ref().unwrap_or(&outbound),
                        Way::Npt66Out | Way::Forward => &outbound,
                    };
                    let internet = plan.internet.as_ref();
                    round.ours[index] = sextant
                        .rate(way, internet, setup, &plan.window, workspace)
                        .with_context(|| format!("{way}/{point}"))?;
                }
                // testpmd looks at no address: the capture of the outbound ways is everybody's.
                Contender::Testpmd(mode) => {
                    let rate = testpmd::rate(mode, &outbound, &plan.window)?;
                    match mode {
                        Mode::Io => round.io = rate,
                        Mode::Macswap => round.macswap = rate,
                    }
                }
                Contender::Linux => {
                    round.linux = linux.as_ref().map(LinuxRouter::rate).transpose()?;
                }
            }
        }
        say(&describe(plan, point, number, &round));
        rounds.push(round);
    }
    Ok(rounds)
}

/// Linux takes part in one point, the one that has a goal. Without it the suite is not worthless: it says why and
/// goes on.
fn linux_router(
    plan: &Plan,
    point: Point,
    setup: &Setup,
    workspace: &Workspace,
    say: &dyn Fn(&str),
) -> Option<LinuxRouter> {
    let the_point = Point {
        sizes: Sizes::Small,
        flows: Flows::Thousand,
    };
    if point != the_point || !plan.ways.contains(&Way::Npt66Out) {
        return None;
    }
    match LinuxRouter::new(point, setup.worker_core, workspace) {
        Ok(router) => Some(router),
        Err(error) => {
            say(&format!("Linux SNPT is not measured: {error:#}"));
            None
        }
    }
}

fn prepare(name: &str, frames: &[Vec<u8>], workspace: &Workspace) -> Result<Setup> {
    let path = workspace.file(name);
    let packets = traffic::write_capture(&path, frames)?;
    Setup::new(&path, packets, BURST)
}

fn describe(plan: &Plan, point: Point, number: usize, round: &Round) -> String {
    let mut text = format!("{point}, round {} of {}:", number + 1, plan.rounds);
    for (way, rate) in plan.ways.iter().zip(&round.ours) {
        text += &format!(" {way} {:.1},", rate / 1e6);
    }
    text += &format!(
        " testpmd io {:.1}, macswap {:.1} Mpps",
        round.io / 1e6,
        round.macswap / 1e6
    );
    if let Some(linux) = round.linux {
        text += &format!("; Linux SNPT {:.2} Mpps", linux / 1e6);
    }
    text
}

fn records_of(
    way: Way,
    point: Point,
    index: usize,
    rounds: &[Round],
    machine: &Machine,
) -> Vec<Record> {
    let case = format!("{way}/{point}");
    let record = |metric, figure: &dyn Fn(&Round, f64) -> f64| {
        let figures: Vec<f64> = rounds
            .iter()
            .map(|round| figure(round, round.ours[index]))
            .collect();
        Record::of(way.suite(), &case, metric, &figures)
    };
    let mut records = vec![
        record(Metric::Mpps, &|_, ours| ours / 1e6),
        record(Metric::ClkPerPacket, &|_, ours| {
            machine.clocks_per_packet(ours)
        }),
        record(Metric::TestpmdIoMpps, &|round, _| round.io / 1e6),
        record(Metric::TestpmdMacswapMpps, &|round, _| round.macswap / 1e6),
        record(Metric::RatioToTestpmdIo, &|round, ours| ours / round.io),
        record(Metric::RatioToTestpmdMacswap, &|round, ours| {
            ours / round.macswap
        }),
    ];
    if way.translates() && rounds.iter().all(|round| round.linux.is_some()) {
        // One worker is one core, always busy: packets a second are packets per CPU-second.
        let linux = |round: &Round| round.linux.unwrap_or(f64::NAN);
        records.push(record(Metric::LinuxSnptMpps, &|round, _| {
            linux(round) / 1e6
        }));
        records.push(record(Metric::RatioToLinuxSnpt, &|round, ours| {
            ours / linux(round)
        }));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_made_inside_each_round() {
        let machine = Machine {
            tsc_hertz: 2e9,
            ..Machine::look()
        };
        // The machine halves its speed after the first round: the ratio does not move.
        let rounds =
            [(8e6, 16e6, 10e6), (4e6, 8e6, 5e6), (4e6, 8e6, 5e6)].map(|(ours, io, macswap)| {
                Round {
                    ours: vec![ours],
                    io,
                    macswap,
                    linux: Some(ours / 10.0),
                }
            });
        let point = Point {
            sizes: Sizes::Small,
            flows: Flows::Thousand,
        };
        let records = records_of(Way::Npt66Out, point, 0, &rounds, &machine);
        let find = |metric| {
            records
                .iter()
                .find(|record| record.metric == metric)
                .expect("every metric is there")
        };
        for (metric, min, max) in [
            (Metric::Mpps, 4.0, 8.0),
            (Metric::ClkPerPacket, 250.0, 500.0),
            (Metric::RatioToTestpmdIo, 0.5, 0.5),
            (Metric::RatioToTestpmdMacswap, 0.8, 0.8),
            (Metric::RatioToLinuxSnpt, 10.0, 10.0),
        ] {
            assert_eq!((find(metric).min, find(metric).max), (min, max), "{metric}");
            assert_eq!(find(metric).case, "npt66-out/64B/1k");
        }
    }
}
