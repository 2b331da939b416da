//! `fuzz`: seeded random and damaged frames through the whole graph, in process; see [`perf::fuzz`]. With `--messages`,
//! control messages instead; see [`perf::fuzz::messages`].

use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Parser;
use dataplane::frame::BURST_MAX;
use dataplane::testing::pcap;
use perf::alloc::CountingAllocator;
use perf::fuzz::messages::{Target, Thrower};
use perf::fuzz::{Fuzzer, Outcome, Samples, Source};
use perf::interrupt;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Throw random and damaged frames at the packet graph: nothing may panic or allocate, and every frame must be
/// accounted for.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many frames.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    frames: u64,
    /// The same seed throws the same frames.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Only frames to this IPv6 address, damaged or not, and noise.
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Ipv6Addr>,
    /// The same for every address that is steered, one after the other: services of each mode, and sources of full NAT.
    #[arg(long, conflicts_with = "to")]
    services: bool,
    /// Start at this burst or input, to look at one again.
    #[arg(long, value_name = "B", default_value_t = 0)]
    first: u64,
    /// Threads [default: one a core].
    #[arg(long, value_name = "T")]
    threads: Option<u64>,
    /// Control messages instead, so many inputs for each target.
    #[arg(long, value_name = "N", conflicts_with_all = ["frames", "threads", "to", "services"])]
    messages: Option<u64>,
    /// Control messages at this target only.
    #[arg(long, value_name = "TARGET", requires = "messages")]
    target: Option<Target>,
}

/// What the threads share.
struct Shared {
    frames_left: AtomicU64,
    next_burst: AtomicU64,
    is_stopped: AtomicBool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.messages {
        Some(inputs) => throw(&arguments, inputs),
        None if arguments.services => {
            let mut services = perf::fuzz::steered().into_iter();
            services.try_for_each(|to| fuzz(&arguments, Some(to)))
        }
        None => fuzz(&arguments, arguments.to),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fuzz(arguments: &Arguments, to: Option<Ipv6Addr>) -> Result<()> {
    interrupt::install()?;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = match arguments.threads {
        Some(threads) => threads.max(1),
        None => u64::try_from(cores).context("more cores than numbers")?,
    };
    let samples = to.map_or_else(|| Ok(Samples::all()), Samples::to)?;
    let shared = Shared {
        frames_left: AtomicU64::new(arguments.frames),
        next_burst: AtomicU64::new(arguments.first),
        is_stopped: AtomicBool::new(false),
    };
    let start = Instant::now();
    let results: Vec<Result<Outcome>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let again = |number| keep(arguments.seed, number, &samples, to);
                    let source = Source::new(arguments.seed, Arc::clone(&samples));
                    work(&shared, source, again)
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("the fuzzer itself panicked")))
            })
            .collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    let mut total = Outcome::default();
    for result in results {
        total.add(&result?);
    }
    println!("{total}");
    if let Some(to) = to {
        println!("all but noise to {to}:");
    }
    // `as`: far below 2^53.
    let rate = total.received as f64 / elapsed / 1e6;
    println!(
        "{} frames of seed {} in {elapsed:.1} s on {threads} threads: {rate:.2} M/s, no panic, no allocation",
        total.received, arguments.seed
    );
    ensure!(total.is_balanced(), "frames were lost or made up");
    ensure!(
        total.received == arguments.frames,
        "{} of {} frames were thrown",
        total.received,
        arguments.frames
    );
    Ok(())
}

/// Control messages, one target after the other.
fn throw(arguments: &Arguments, inputs: u64) -> Result<()> {
    interrupt::install()?;
    let wanted = |target: &Target| arguments.target.is_none_or(|only| only == *target);
    for target in Target::ALL.into_iter().filter(wanted) {
        let start = Instant::now();
        let mut thrower = Thrower::new(target, arguments.seed);
        for number in arguments.first..arguments.first + inputs {
            interrupt::check()?;
            thrower.throw(number)?;
        }
        for (name, count) in thrower.reached() {
            println!("{:12} {name:24} {count:>12}", target.name());
        }
        println!(
            "{}: {inputs} inputs of seed {} in {:.1} s: every law held",
            target.name(),
            arguments.seed,
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// `again` says how to throw a burst again.
fn work(shared: &Shared, source: Source, again: impl Fn(u64) -> String) -> Result<Outcome> {
    let mut fuzzer = Fuzzer::new(source)?;
    while !shared.is_stopped.load(Relaxed) {
        interrupt::check()?;
        let Some(limit) = take(&shared.frames_left) else {
            break;
        };
        let number = shared.next_burst.fetch_add(1, Relaxed);
        match fuzzer.burst(number, limit) {
            // What the burst did not need goes back.
            Ok(frames) => {
                shared
                    .frames_left
                    .fetch_add((limit - frames) as u64, Relaxed); // `as`: at most BURST_MAX
            }
            Err(error) => {
                shared.is_stopped.store(true, Relaxed);
                return Err(error.context(again(number)));
            }
        }
    }
    Ok(fuzzer.outcome())
}

/// Take a burst's worth of the frames that are left.
fn take(frames_left: &AtomicU64) -> Option<usize> {
    let wanted = BURST_MAX as u64; // `as`: a small constant
    let before = frames_left
        .fetch_update(Relaxed, Relaxed, |left| {
            (left > 0).then(|| left.saturating_sub(wanted))
        })
        .ok()?;
    usize::try_from(before.min(wanted)).ok()
}

/// Write the frames of the burst that failed where they can be looked at; says how to throw them again.
fn keep(seed: u64, number: u64, samples: &Arc<Samples>, to: Option<Ipv6Addr>) -> String {
    let frames = Source::new(seed, Arc::clone(samples)).frames(number);
    let to = to.map_or_else(String::new, |to| format!(" --to {to}"));
    let path = std::env::temp_dir().join(format!("sextant-fuzz-{seed}-{number}.pcap"));
    let again = format!(
        "again: fuzz --threads 1 --seed {seed} --first {number} --frames {}{to}",
        frames.len()
    );
    match pcap::write(&path, &frames) {
        Ok(()) => format!("{again}; its frames: {}", path.display()),
        Err(error) => format!("{again}; its frames could not be kept: {error}"),
    }
}
