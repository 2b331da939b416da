//! A locator is taken away: which flows move, and how soon.
//!
//! Flows: 100,000 to one mapping with four locators, each sent before and after. How soon: beside full-rate forwarding to
//! 100,000 mappings, of which some two hundred name the locator.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use core_affinity::CoreId;
use ipnet::IpNet;
use pipelines::lisp::{LocatorSpec, MappingSpec};
use pipelines::tables::Rib;
use pipelines::testing::HeapEdge;

use super::graph::{self, Step};
use super::{Families, Mappings};
use crate::interrupt;
use crate::record::{Metric, Record, median};
use crate::replay::Replay;
use crate::tsc;

/// Flows that are looked at one by one.
const FLOWS: usize = 100_000;
/// Locators of the one mapping.
const LOCATORS: u32 = 4;
/// Mappings beside which the time is taken.
const MAPPINGS: Mappings = Mappings(100_000);
/// Changes in a round.
const CHANGES: usize = 50;
/// Between two changes: some thousand bursts.
const PAUSE: Duration = Duration::from_millis(2);
const BURST: usize = 32;
const CASE: &str = "lisp-loss/6in6/64B";
/// Where in a frame the last word of the outer destination stands, a router's number.
const ROUTER: usize = 14 + 24 + 12;

/// Measure what has `only` in its name.
pub fn run(rounds: usize, only: &str, tsc_hertz: f64, say: &dyn Fn(&str)) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let name = format!("{CASE}/{LOCATORS}");
    if name.contains(only) {
        say(&name);
        let (moved, wrongly) = moved(FLOWS)?;
        // `as`: counts of flows.
        let record = |metric, flows| Record::of(super::SUITE, &name, metric, &[flows as f64]);
        records.push(record(Metric::MovedFlows, moved));
        records.push(record(Metric::WronglyMovedFlows, wrongly));
    }
    let name = format!("{CASE}/{MAPPINGS}");
    if name.contains(only) {
        say(&format!("{name}: {rounds} rounds"));
        let mut stand = Stand::new(MAPPINGS)?;
        let (mut times, mut late) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            interrupt::check()?;
            let round = stand.round(CHANGES, tsc_hertz)?;
            times.push(round.0);
            late.push(round.1);
        }
        records.push(Record::of(super::SUITE, &name, Metric::EffectUs, &times));
        records.push(Record::of(super::SUITE, &name, Metric::LateBursts, &late));
    }
    Ok(records)
}

/// Of `flows` flows, those that went by the first of four locators, and those that its loss moved wrongly.
fn moved(flows: usize) -> Result<(usize, usize)> {
    let families = Families::ALL[0];
    let locators = (0..LOCATORS).map(|number| LocatorSpec {
        priority: 1,
        weight: 25,
        rloc: super::router(number, false),
        up: true,
    });
    let mapping = MappingSpec::Locators {
        locators: locators.collect(),
        version: 0,
    };
    let eid: IpNet = super::eid(0, false);
    let (tables, mut rib) = graph::tables(Step::Encap, [(eid, mapping)])?;
    let frames = super::frames_out(families, Mappings(1), flows, &[64]);
    let mut replay = Replay::new(HeapEdge::new(), tables, frames);
    let before = routers_of_all(&mut replay)?;
    rib.set_locator(super::router(0, false), false);
    let after = routers_of_all(&mut replay)?;
    let of_first = before.iter().filter(|router| **router == 0).count();
    let pairs = before.iter().zip(&after);
    let wrongly = pairs.filter(|(before, after)| match **before {
        0 => **after == 0,
        stays => **after != stays,
    });
    Ok((of_first, wrongly.count()))
}

/// Send every template once; the router that each went to.
fn routers_of_all(replay: &mut Replay<HeapEdge>) -> Result<Vec<u32>> {
    let mut routers = Vec::with_capacity(replay.templates());
    while routers.len() < replay.templates() {
        let count = BURST.min(replay.templates() - routers.len());
        let sent = replay.sent();
        replay.burst(count);
        // `as`: a burst.
        anyhow::ensure!(replay.sent() - sent == count as u64, "a packet was lost");
        replay.look_at_last(count, |frame, _| routers.extend(router_of(frame)));
    }
    Ok(routers)
}

fn router_of(frame: &[u8]) -> Option<u32> {
    let word = frame.get(ROUTER..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// What the two threads know of each other.
struct Progress {
    /// The router that is asked for.
    watched: AtomicU32,
    /// When the last burst with a packet to it began and ended.
    began: AtomicU64,
    ended: AtomicU64,
    over: AtomicBool,
}

/// Tables, traffic and who changes them.
struct Stand {
    replay: Replay<HeapEdge>,
    rib: Rib,
    /// Routers that flows go to.
    used: Vec<u32>,
    random: fastrand::Rng,
}

impl Stand {
    fn new(mappings: Mappings) -> Result<Self> {
        let families = Families::ALL[0];
        let (tables, rib) = graph::tables(Step::Encap, graph::mapped(families, mappings))?;
        let frames = super::frames_out(families, mappings, 1 << 14, &[64]);
        let mut replay = Replay::new(HeapEdge::new(), tables, frames);
        let used: HashSet<u32> = routers_of_all(&mut replay)?.into_iter().collect();
        let mut used: Vec<u32> = used.into_iter().collect();
        used.sort_unstable();
        Ok(Self {
            replay,
            rib,
            used,
            random: fastrand::Rng::with_seed(super::SEED),
        })
    }

    /// Median time of a change to take effect, microseconds, and changes that a burst which began after them did not know.
    fn round(&mut self, changes: usize, tsc_hertz: f64) -> Result<(f64, f64)> {
        let Self {
            replay,
            rib,
            used,
            random,
        } = self;
        let progress = Progress {
            watched: AtomicU32::new(u32::MAX),
            began: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        let last = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1;
        std::thread::scope(|scope| {
            let progress = &progress;
            let forwarding = scope.spawn(move || {
                // Not being allowed to costs precision, nothing else.
                core_affinity::set_for_current(CoreId { id: last });
                forward(replay, progress);
            });
            let changing = scope.spawn(move || {
                core_affinity::set_for_current(CoreId { id: 0 });
                let _end = End(progress);
                let (mut times, mut late) = (Vec::with_capacity(changes), 0_u32);
                for _ in 0..changes {
                    let router = *random.choice(&*used).context("packets go somewhere")?;
                    progress.watched.store(router, Ordering::Release);
                    std::thread::sleep(PAUSE);
                    let start = tsc::now();
                    rib.set_locator(super::router(router, false), false);
                    fence(Ordering::SeqCst);
                    let changed = tsc::now();
                    std::thread::sleep(PAUSE);
                    let ended = progress.ended.load(Ordering::Acquire);
                    if progress.began.load(Ordering::Acquire) > changed {
                        late += 1;
                    }
                    let clocks = ended.max(changed) - start;
                    times.push(clocks as f64 * 1e6 / tsc_hertz); // `as`: below 2^53
                    rib.set_locator(super::router(router, false), true);
                }
                Ok((median(&times), f64::from(late)))
            });
            let found = changing
                .join()
                .map_err(|_| anyhow!("the writer panicked"))?;
            forwarding
                .join()
                .map_err(|_| anyhow!("the graph panicked"))?;
            found
        })
    }
}

/// Ends the forwarding thread, after a panic of the writer's too.
struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

fn forward(replay: &mut Replay<HeapEdge>, progress: &Progress) {
    while !progress.over.load(Ordering::Acquire) {
        let watched = progress.watched.load(Ordering::Acquire);
        let began = tsc::now();
        replay.burst(BURST);
        let ended = tsc::now();
        let mut is_seen = false;
        replay.look_at_last(BURST, |frame, _| {
            is_seen |= router_of(frame) == Some(watched)
        });
        if is_seen {
            progress.began.store(began, Ordering::Release);
            progress.ended.store(ended, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flows_of_a_lost_locator_move() {
        let (moved, wrongly) = moved(10_000).expect("a network");
        assert!((2_000..3_000).contains(&moved), "{moved}");
        assert_eq!(wrongly, 0);
    }

    #[test]
    fn no_burst_after_a_change_goes_by_the_old_locator() {
        let mut stand = Stand::new(Mappings(1000)).expect("a network");
        let (time, late) = stand.round(5, 1e9).expect("two threads");
        assert!(time > 0.0);
        assert_eq!(late, 0.0);
    }
}
