//! Changes of mappings beside full-rate forwarding: one thread forwards, another changes 100,000 mappings a second.
//!
//! Of four changes two lead a mapping that packets use to its other two routers, one adds a prefix and one deletes a
//! prefix that was added. Quiet windows, in which the writer waits without sleeping, and such with changes take turns; the
//! graph's clocks in both make the ratio, so other work on the machine is in both. Every packet that was sent is looked
//! at, outside the readings of the clock: it must have gone to a router that its mapping named at some moment between its
//! coming and its leaving.

use std::collections::HashMap;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use core_affinity::CoreId;
use dataplane::table::publish::{Publisher, Reader};
use ipnet::IpNet;
use pipelines::tables::Rib;
use pipelines::testing::HeapEdge;

use super::graph::{self, Step, VRF};
use super::{Families, Mappings};
use crate::interrupt;
use crate::record::{Metric, Record, median};
use crate::replay::Replay;
use crate::tsc;

/// Mappings that packets use.
const USED: Mappings = Mappings(100_000);
/// Changes a second.
const RATE: f64 = 100_000.0;
/// How long it is quiet, and how long there are changes.
const WINDOW: Duration = Duration::from_millis(200);
/// Of each kind in a round.
const WINDOWS: usize = 4;
/// Changes after which memory is reused.
const RECLAIM: usize = 256;
/// Prefixes that are added and not yet deleted, and those there are in all.
const ADDED: u32 = 10_000;
const ADDABLE: u32 = 1_000_000;
const FLOWS: usize = 1 << 16;
const BURST: usize = 32;
/// Bursts of which one figure is made.
const STRETCH: usize = 64;
const CASE: &str = "lisp-updates/6in6/64B";
/// Where in a frame the outer destination stands, and the inner one.
const OUTER_DESTINATION: usize = 14 + 24;
const INNER_DESTINATION: usize = 14 + 56 + 24;

/// What the two threads know of each other.
struct Progress {
    /// Changes of each mapping that were begun, and that were made.
    begun: Vec<AtomicU32>,
    made: Vec<AtomicU32>,
    /// Even: quiet. Odd: changes. [`OVER`]: the end.
    phase: AtomicUsize,
}

const OVER: usize = usize::MAX;

/// What one round found.
#[derive(Debug, Default)]
struct Round {
    updates_per_s: f64,
    update_us: f64,
    quiet_clocks: f64,
    busy_clocks: f64,
    lost: f64,
    misdirected: f64,
}

/// Run `rounds` rounds, if the case's name has `only` in it.
pub fn run(rounds: usize, only: &str, tsc_hertz: f64, say: &dyn Fn(&str)) -> Result<Vec<Record>> {
    let name = format!("{CASE}/{USED}");
    if !name.contains(only) {
        return Ok(Vec::new());
    }
    say(&format!("{name}: {rounds} rounds"));
    let mut stand = Stand::new(USED, FLOWS)?;
    let mut found = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        interrupt::check()?;
        found.push(stand.round(WINDOW, WINDOWS, tsc_hertz)?);
    }
    let record = |metric, figure: &dyn Fn(&Round) -> f64| {
        let figures: Vec<f64> = found.iter().map(figure).collect();
        Record::of(super::SUITE, &name, metric, &figures)
    };
    Ok(vec![
        record(Metric::UpdatesPerS, &|round| round.updates_per_s),
        record(Metric::UpdateUsMedian, &|round| round.update_us),
        record(Metric::GraphClkPerPacket, &|round| round.busy_clocks),
        record(Metric::RatioToQuiet, &|round| {
            round.quiet_clocks / round.busy_clocks
        }),
        record(Metric::LostPackets, &|round| round.lost),
        record(Metric::MisdirectedPackets, &|round| round.misdirected),
    ])
}

/// Tables, traffic and who changes them.
struct Stand {
    replay: Replay<HeapEdge>,
    rib: Rib,
    publisher: Publisher<()>,
    watch: Watch,
    changes: Changes,
}

impl Stand {
    fn new(used: Mappings, flows: usize) -> Result<Self> {
        let families = Families::ALL[0];
        let (tables, rib) = graph::tables(Step::Encap, graph::mapped(families, used))?;
        let frames = super::frames_out(families, used, flows, &[64]);
        let watch = Watch::new(used, &frames)?;
        Ok(Self {
            replay: Replay::new(HeapEdge::new(), tables, frames),
            rib,
            publisher: Publisher::new(()),
            watch,
            changes: Changes::new(used),
        })
    }

    fn round(&mut self, window: Duration, windows: usize, tsc_hertz: f64) -> Result<Round> {
        let Self {
            replay,
            rib,
            publisher,
            watch,
            changes,
        } = self;
        let progress = Progress {
            begun: changes
                .versions
                .iter()
                .copied()
                .map(AtomicU32::new)
                .collect(),
            made: changes
                .versions
                .iter()
                .copied()
                .map(AtomicU32::new)
                .collect(),
            phase: AtomicUsize::new(0),
        };
        let reader = publisher.reader();
        let last = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1;
        std::thread::scope(|scope| {
            let progress = &progress;
            let forwarding = scope.spawn(move || {
                // Not being allowed to costs precision, nothing else.
                core_affinity::set_for_current(CoreId { id: last });
                forward(replay, reader, watch, progress)
            });
            let changing = scope.spawn(move || {
                core_affinity::set_for_current(CoreId { id: 0 });
                let _end = End(progress);
                let mut made = Made::default();
                for turn in 0..windows {
                    progress.phase.store(2 * turn, Ordering::Release);
                    let quiet = Instant::now();
                    // As busy as it is between two changes: the two processors may be one core's.
                    while quiet.elapsed() < window {
                        spin_loop();
                    }
                    progress.phase.store(2 * turn + 1, Ordering::Release);
                    changes.make(rib, publisher, progress, window, &mut made);
                }
                made
            });
            let made = changing
                .join()
                .map_err(|_| anyhow!("the writer panicked"))?;
            let mut round = forwarding
                .join()
                .map_err(|_| anyhow!("the graph panicked"))?;
            round.updates_per_s = median(&made.rates);
            round.update_us = median(&made.clocks) * 1e6 / tsc_hertz;
            Ok(round)
        })
    }
}

/// Ends the forwarding thread, after a panic of the writer's too.
struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.phase.store(OVER, Ordering::Release);
    }
}

/// Which packets may go where.
struct Watch {
    /// The mapping of each template.
    numbers: Vec<u32>,
    /// The routers of each mapping, as it is in even versions and in odd ones.
    routers: Vec<[[u32; 2]; 2]>,
    /// What stands in front of a router's number in its address.
    network: [u8; 12],
}

impl Watch {
    fn new(used: Mappings, frames: &[Vec<u8>]) -> Result<Self> {
        let mut by_prefix = HashMap::new();
        for number in 0..used.0 {
            if let IpNet::V6(eid) = super::eid(number, false) {
                by_prefix.insert(eid.network().octets().first_chunk::<6>().copied(), number);
            }
        }
        let number = |frame: &Vec<u8>| {
            let destination = frame.get(14 + 24..).and_then(<[u8]>::first_chunk::<6>);
            let number = by_prefix.get(&destination.copied()).copied();
            number.context("every packet is for a mapping")
        };
        let std::net::IpAddr::V6(router) = super::router(0, false) else {
            unreachable!("it was asked for an IPv6 one")
        };
        let versions = |number| [0, 1].map(|version| super::routers(number, version));
        Ok(Self {
            numbers: frames.iter().map(number).collect::<Result<_>>()?,
            routers: (0..used.0).map(versions).collect(),
            network: *router.octets().first_chunk().expect("12 of 16 bytes"),
        })
    }

    /// Whether a frame is what was made of `template`, and on its way to where its mapping led in a version from `first` to
    /// `last`.
    fn allows(
        &self,
        frame: &[u8],
        template: &[u8],
        number: u32,
        (first, last): (u32, u32),
    ) -> bool {
        let bytes = |of: &[u8], at: usize| of.get(at..at + 16).map(<[u8]>::to_vec);
        if bytes(frame, INNER_DESTINATION) != bytes(template, 14 + 24) {
            return false;
        }
        let outer = frame
            .get(OUTER_DESTINATION..)
            .and_then(<[u8]>::first_chunk::<16>);
        let Some((network, router)) = outer.and_then(|outer| outer.split_first_chunk::<12>())
        else {
            return false;
        };
        let router = router
            .first_chunk()
            .map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
        let of_version = |version: u32| {
            let versions = &self.routers[number as usize]; // `as`: u32 to index
            versions[(version % 2) as usize].contains(&router) // `as`: 0 or 1
        };
        *network == self.network && (of_version(first) || (last > first && of_version(first + 1)))
    }
}

/// Forward until it is over.
fn forward(
    replay: &mut Replay<HeapEdge>,
    mut reader: Reader<()>,
    watch: &Watch,
    progress: &Progress,
) -> Round {
    let mut clocks = [Vec::new(), Vec::new()];
    let (sent_before, mut offered, mut misdirected) = (replay.sent(), 0_u64, 0_u64);
    loop {
        let phase = progress.phase.load(Ordering::Acquire);
        if phase == OVER {
            break;
        }
        let mut spent = 0;
        for _ in 0..STRETCH {
            let first_template = replay.next_template();
            let template = |index: usize| (first_template + index) % watch.numbers.len();
            let mut firsts = [0; BURST];
            for (index, first) in firsts.iter_mut().enumerate() {
                let number = watch.numbers[template(index)] as usize; // `as`: u32 to index
                *first = progress.made[number].load(Ordering::Acquire);
            }
            spent += replay.burst(BURST);
            offered += BURST as u64; // `as`: a constant
            // Whatever was seen above, its change was begun.
            fence(Ordering::Acquire);
            let mut index = 0;
            replay.look_at_last(BURST, |frame, templates| {
                let number = watch.numbers[template(index)];
                let last = progress.begun[number as usize].load(Ordering::Relaxed); // `as`: u32 to index
                let versions = (firsts[index], last);
                if !watch.allows(frame, &templates[template(index)], number, versions) {
                    misdirected += 1;
                }
                index += 1;
            });
            reader.quiescent();
        }
        if progress.phase.load(Ordering::Acquire) == phase {
            // `as`: both are far below 2^53.
            clocks[phase % 2].push(spent as f64 / (STRETCH * BURST) as f64);
        }
    }
    Round {
        quiet_clocks: median(&clocks[0]),
        busy_clocks: median(&clocks[1]),
        // `as`: counts of a round.
        lost: (offered - (replay.sent() - sent_before)) as f64,
        misdirected: misdirected as f64,
        ..Round::default()
    }
}

/// How changes went.
#[derive(Default)]
struct Made {
    /// Changes a second, of each window.
    rates: Vec<f64>,
    /// Clocks of each change.
    clocks: Vec<f64>,
}

/// The changes, one after the other, over all rounds.
struct Changes {
    random: fastrand::Rng,
    /// Of each mapping that packets use.
    versions: Vec<u32>,
    turn: u64,
    /// Prefixes from the first to the second number, added and not yet deleted.
    added: (u32, u32),
}

impl Changes {
    fn new(used: Mappings) -> Self {
        Self {
            random: fastrand::Rng::with_seed(super::SEED),
            versions: vec![0; used.0 as usize], // `as`: u32 to usize
            turn: 0,
            added: (0, 0),
        }
    }

    /// Make the changes of one window, each when it is due.
    fn make(
        &mut self,
        rib: &mut Rib,
        publisher: &mut Publisher<()>,
        progress: &Progress,
        window: Duration,
        made: &mut Made,
    ) {
        // `as`: a small count.
        let count = (RATE * window.as_secs_f64()) as usize;
        let start = Instant::now();
        for number in 0..count {
            while start.elapsed().as_secs_f64() * RATE < number as f64 {
                spin_loop();
            }
            let begun = tsc::now();
            self.one(rib, progress);
            made.clocks.push((tsc::now() - begun) as f64); // `as`: far below 2^53
            if number % RECLAIM == 0 {
                rib.reclaim(publisher);
            }
        }
        rib.reclaim(publisher);
        made.rates
            .push(count as f64 / start.elapsed().as_secs_f64());
    }

    fn one(&mut self, rib: &mut Rib, progress: &Progress) {
        let turn = self.turn % 4;
        self.turn += 1;
        let used = self.versions.len();
        let other = |number: u32| super::eid(used as u32 + number % ADDABLE, false); // `as`: 100,000
        let (oldest, next) = self.added;
        match turn {
            2 => {
                rib.set_mapping(VRF, other(next), Some(super::mapping(next, 0, false)));
                self.added.1 += 1;
            }
            3 if next - oldest > ADDED => {
                rib.set_mapping(VRF, other(oldest), None);
                self.added.0 += 1;
            }
            _ => {
                let index = self.random.usize(..used);
                let version = self.versions[index] + 1;
                self.versions[index] = version;
                progress.begun[index].store(version, Ordering::Relaxed);
                // Who sees anything of the change below, sees that it was begun.
                fence(Ordering::Release);
                let number = index as u32; // `as`: below 100,000
                let mapping = super::mapping(number, version % 2, false);
                rib.set_mapping(VRF, super::eid(number, false), Some(mapping));
                progress.made[index].store(version, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_beside_changes_go_where_their_mapping_leads() {
        // So many that no router is ever without a mapping: one that nobody names has to be looked up again.
        let mut stand = Stand::new(Mappings(20_000), 1000).expect("a network");
        for _ in 0..2 {
            let round = stand
                .round(Duration::from_millis(50), 2, 1e9)
                .expect("two threads");
            assert_eq!((round.lost, round.misdirected), (0.0, 0.0));
            assert!(round.updates_per_s > 0.0 && round.busy_clocks > 0.0);
        }
        assert!(stand.changes.versions.iter().any(|version| *version > 0));
        assert!(stand.changes.added.1 > 0 && !stand.rib.wants_tables());
    }

    #[test]
    fn a_packet_to_another_router_is_noticed() {
        let used = Mappings(1);
        let frames = super::super::frames_out(Families::ALL[0], used, 1, &[64]);
        let watch = Watch::new(used, &frames).expect("one mapping");
        let [[old, _], [new, _]] = watch.routers[0];
        let mut frame = vec![0; 120];
        let to = |frame: &mut Vec<u8>, router: u32| {
            frame[38..50].copy_from_slice(&watch.network);
            frame[50..54].copy_from_slice(&router.to_be_bytes());
        };
        frame[94..110].copy_from_slice(&frames[0][38..54]);
        to(&mut frame, old);
        assert!(
            watch.allows(&frame, &frames[0], 0, (0, 0))
                && watch.allows(&frame, &frames[0], 0, (2, 3))
        );
        to(&mut frame, new);
        assert!(
            !watch.allows(&frame, &frames[0], 0, (0, 0))
                && watch.allows(&frame, &frames[0], 0, (0, 1))
        );
        to(&mut frame, 1_000_000);
        assert!(!watch.allows(&frame, &frames[0], 0, (0, 5)));
    }
}
