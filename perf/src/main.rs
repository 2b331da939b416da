//! `perf`: the throughput suites. Prints a table; writes JSON and a chart where it is told to.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use perf::appliance::Sextant;
use perf::cases::{Point, Way};
use perf::devices;
use perf::graph;
use perf::internet::Internet;
use perf::machine::Machine;
use perf::record::Record;
use perf::turns::Turns;
use perf::{beside, chart, interrupt, lisp, lpm, mapserver, report, steer};

const ROUNDS: usize = 7;
/// Prefix tables are compared by ratios that differ by a tenth: more rounds, which are short.
const LPM_ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 3;

/// Measure Sextant: packets per second on devices beside testpmd, clocks per packet of the packet graph alone, flows to
/// service addresses, the prefix tables beside DPDK's and those of Rust crates, and the Map-Server.
///
/// The suites on devices need root, huge pages, two cores and dpdk-testpmd; the graph needs nothing; the prefix tables need
/// a real routing table, and huge pages for DPDK's; the Map-Server needs two cores and an IPv6 loopback.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to measure.
    suite: Suite,
    /// Write the figures to this file, as a JSON array.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a chart to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Fewer rounds and fewer cases.
    #[arg(long)]
    quick: bool,
    /// How often each contender is started [default: 7, lpm: 9, quick: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// NPT66 and forwarding on devices: only this traffic, such as 64B/1k or IMIX/1k. The graph alone, LISP, steering and
    /// the Map-Server: only cases with this in their name.
    #[arg(long, value_name = "TRAFFIC")]
    only: Option<String>,
    /// The sextant to measure [default: beside this program].
    #[arg(long, value_name = "PATH")]
    sextant: Option<PathBuf>,
    /// Another build of sextant, measured in the same turns on devices.
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
    /// The folder of the real routing tables [default: shared/data beside the project].
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Prefix tables: rte_lpm (IPv4) too. Building it of the real table takes five minutes for each profile.
    #[arg(long)]
    rte_lpm: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// NPT66 in both directions, and plain forwarding beside it, on devices.
    Npt66,
    /// Plain IPv6 forwarding on devices, over one route and over a full table; and the packet graph alone.
    Forward,
    /// The packet graph alone, in process.
    Graph,
    /// LISP: encapsulation and decapsulation on devices and in the packet graph alone, changes of mappings beside them,
    /// memory.
    Lisp,
    /// Anycast steering: each mode on devices and in the packet graph alone, with few flows and with many, flows that begin,
    /// a flood of them, a server that is lost, Maglev tables.
    Steer,
    /// Prefix tables beside DPDK's and those of Rust crates, in process.
    Lpm,
    /// The Map-Server over the loopback: Map-Requests and Map-Registers a second on one core, memory.
    Mapserver,
    /// Everything.
    All,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    interrupt::install()?;
    let machine = Machine::look();
    eprintln!("{machine}");
    let say = |text: &str| eprintln!("{text}");
    let rounds_or = |usual: usize| match arguments.rounds {
        Some(rounds) => rounds.into(),
        None if arguments.quick => QUICK_ROUNDS,
        None => usual,
    };
    let rounds = rounds_or(ROUNDS);
    let data = arguments.data.clone();
    let data = data.unwrap_or_else(lpm::Options::default_data);
    let forwards = matches!(arguments.suite, Suite::Forward | Suite::Graph | Suite::All);
    let internet = forwards.then(|| Internet::open(&data, &say)).flatten();
    let mut records: Vec<Record> = Vec::new();
    // First: its memory is what this process grows by.
    if matches!(arguments.suite, Suite::Mapserver | Suite::All) {
        let sextant = Sextant::find(arguments.sextant.clone())?;
        let only = arguments.only.as_deref().unwrap_or("");
        let found = mapserver::run(rounds, arguments.quick, only, &sextant, &say)?;
        ensure!(
            !found.is_empty() || arguments.suite == Suite::All,
            "no case has {only} in its name"
        );
        records.extend(found);
    }
    if matches!(arguments.suite, Suite::Forward | Suite::Graph | Suite::All) {
        records.extend(graph::run(
            rounds,
            arguments.quick,
            arguments.only.as_deref().unwrap_or(""),
            internet.as_ref(),
            &say,
        )?);
    }
    if matches!(arguments.suite, Suite::Lisp | Suite::All) {
        records.extend(measure_lisp(arguments, rounds, &machine, &say)?);
    }
    if matches!(arguments.suite, Suite::Steer | Suite::All) {
        records.extend(measure_steer(arguments, rounds, &machine, &say)?);
    }
    if matches!(arguments.suite, Suite::Lpm | Suite::All) {
        let options = lpm::Options {
            rounds: rounds_or(LPM_ROUNDS),
            quick: arguments.quick,
            data,
            rte_lpm: arguments.rte_lpm,
        };
        records.extend(lpm::run(&options, &machine, &say)?);
    }
    if let Some(mut ways) = ways_of(arguments.suite) {
        if internet.is_some() {
            ways.push(Way::ForwardFullTable);
        }
        let internet = internet.as_ref();
        let cases: Vec<devices::Case> = points(arguments)?
            .into_iter()
            .flat_map(|point| {
                ways.iter().map(move |&way| devices::Case {
                    way,
                    point,
                    internet,
                })
            })
            .collect();
        records.extend(on_devices(&cases, arguments, rounds, &machine, &say)?);
    }
    println!("{}", report::table(&records, &machine));
    if let Some(path) = &arguments.json {
        let text =
            serde_json::to_string_pretty(&records).context("cannot make JSON of the figures")?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, chart::svg(&records, &machine)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Beside testpmd, and beside the other sextant when one was named.
fn on_devices<C: beside::Case>(
    cases: &[C],
    arguments: &Arguments,
    rounds: usize,
    machine: &Machine,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let sextant = Sextant::find(arguments.sextant.clone())?;
    let other = arguments
        .beside
        .clone()
        .map(|path| Sextant::find(Some(path)));
    let other = other.transpose()?;
    let plan = beside::Plan {
        sextant: &sextant,
        other: other.as_ref(),
        rounds,
        turns: if arguments.quick {
            Turns::quick()
        } else {
            Turns::full()
        },
    };
    beside::run(cases, &plan, machine, say)
}

/// Everything about LISP that has what was asked for in its name.
fn measure_lisp(
    arguments: &Arguments,
    rounds: usize,
    machine: &Machine,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let only = arguments.only.as_deref().unwrap_or("");
    let mut records = Vec::new();
    // The graph's suite has them too.
    if arguments.suite == Suite::Lisp {
        records.extend(graph::run_lisp(rounds, arguments.quick, only, say)?);
    }
    records.extend(lisp::updates::run(rounds, only, machine.tsc_hertz, say)?);
    records.extend(lisp::loss::run(rounds, only, machine.tsc_hertz, say)?);
    records.extend(lisp::memory::run(only, say)?);
    let mut cases = if arguments.quick {
        lisp::cases::Case::quick()
    } else {
        lisp::cases::Case::all()
    };
    cases.retain(|case| case.to_string().contains(only));
    if !cases.is_empty() {
        records.extend(on_devices(&cases, arguments, rounds, machine, say)?);
    }
    ensure!(!records.is_empty(), "no case has {only} in its name");
    Ok(records)
}

/// Everything about steering that has what was asked for in its name.
fn measure_steer(
    arguments: &Arguments,
    rounds: usize,
    machine: &Machine,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let only = arguments.only.as_deref().unwrap_or("");
    let quick = arguments.quick;
    let mut records = graph::run_steer(rounds, quick, only, say)?;
    records.extend(steer::flows::run(
        rounds,
        quick,
        only,
        machine.tsc_hertz,
        say,
    )?);
    records.extend(steer::maglev::run(rounds, only, say)?);
    let mut cases = if quick {
        steer::cases::Case::quick()
    } else {
        steer::cases::Case::all()
    };
    cases.retain(|case| case.to_string().contains(only));
    if !cases.is_empty() {
        records.extend(on_devices(&cases, arguments, rounds, machine, say)?);
    }
    ensure!(
        !records.is_empty() || arguments.suite == Suite::All,
        "no case has {only} in its name"
    );
    Ok(records)
}

/// The traffic to measure with on devices.
fn points(arguments: &Arguments) -> Result<Vec<Point>> {
    let mut points = match (&arguments.only, arguments.quick) {
        (None, true) => Point::quick(),
        _ => Point::all(),
    };
    if let Some(only) = &arguments.only {
        let names: Vec<String> = points.iter().map(Point::to_string).collect();
        points.retain(|point| point.to_string() == *only);
        ensure!(
            !points.is_empty(),
            "there is no traffic {only}: there is {}",
            names.join(", ")
        );
    }
    Ok(points)
}

/// The ways a suite measures on devices; `None`: it needs none.
fn ways_of(suite: Suite) -> Option<Vec<Way>> {
    match suite {
        Suite::Npt66 | Suite::All => Some(Way::ALL.to_vec()),
        Suite::Forward => Some(vec![Way::Forward]),
        Suite::Graph | Suite::Lisp | Suite::Steer | Suite::Lpm | Suite::Mapserver => None,
    }
}
