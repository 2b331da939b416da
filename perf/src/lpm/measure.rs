//! One table after the other: made, checked, raced, updated, dropped.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::contender::{Contender, contender, count_wrong};
use super::courses::{Course, SEED, courses, host_courses, watched};
use super::families::{Family, Peers as _, Wish};
use super::oracle::Oracle;
use super::ours::{self, Table};
use super::peers::hash::{self, Hash};
use super::peers::{Cost, Dpdk};
use super::prefix::Route;
use super::race::{self, Effort};
use super::traces::{self, Trace};
use super::updates::{self, Seen, Timeline};
use super::{OURS, OURS_SINGLE, SUITE};
use crate::interrupt;
use crate::record::{Metric, Record, median};

/// How often ours is built.
const BUILDS: usize = 3;
/// CPU of the reader beside updates; the writer has the last one.
const READER_CORE: usize = 0;

/// Nodes that `rte_fib6` of 22.11 sets aside for a hundred routes of the public table, and of random /48.
const FIB6_NODES_PERCENT_REAL: usize = 145;
const FIB6_NODES_PERCENT_SITES: usize = 302;

/// What is measured how, and what was found.
pub struct Measurement<'m> {
    /// Rounds and the clock.
    pub effort: Effort,
    /// Updates in a script.
    pub updates: usize,
    /// How long a script may take.
    pub patience: Duration,
    /// Whether to build `rte_lpm`.
    pub rte_lpm: bool,
    /// DPDK, if it started.
    pub dpdk: Option<&'m Dpdk>,
    /// Told what is going on.
    pub say: &'m dyn Fn(&str),
    /// What was found.
    pub records: Vec<Record>,
}

impl Measurement<'_> {
    /// Everything about a real table: lookups beside all others, cold bursts, memory, build, updates, wrong answers.
    pub fn real<A: Family>(&mut self, table: &str, routes: &[Route<A>]) -> Result<()> {
        (self.say)(&format!("{table}: building"));
        let oracle = Oracle::new(routes);
        let courses = courses(routes, &oracle, &Trace::ALL);
        let mut ours = self.build::<A>(table, routes);
        let wish = self.wish(FIB6_NODES_PERCENT_REAL);
        let mut peers = self.dpdk.map(|dpdk| A::peers(dpdk, routes, wish, self.say));
        let rust = A::contenders(routes);
        {
            let reader = ours.reader();
            let mut beside = Vec::new();
            if let Some(peers) = &peers {
                beside.extend(peers.contenders());
                self.costs(table, &peers.costs());
            }
            let mut contenders = line_up(&reader, beside);
            contenders.extend(rust);
            let wrong = race::check(&contenders, &courses)?;
            self.wrong(&format!("{table}/before"), wrong as u64); // `as`: a count
            (self.say)(&format!("{table}: {} rounds", self.effort.rounds));
            self.records
                .extend(race::race(table, &contenders, &courses, self.effort)?);
            if !A::COLD_REFERENCE.is_empty() {
                let uniform = &courses[0];
                self.records.extend(race::cold(
                    table,
                    &contenders,
                    uniform,
                    A::COLD_REFERENCE,
                    self.effort,
                )?);
            }
        }
        self.update_ours(table, &mut ours, routes, &oracle)?;
        if let Some(peers) = &mut peers {
            let watched = watched(routes);
            let changes = updates::script(routes, &oracle, &watched, self.updates, SEED + 1);
            for (name, peer) in peers.updated() {
                let times = updates::time(
                    &changes,
                    self.patience,
                    self.effort.tsc_hertz,
                    &mut || {},
                    &mut |change| match change {
                        updates::Change::Insert(prefix, leaf) => peer.insert(prefix, leaf),
                        updates::Change::Remove(prefix) => peer.remove(prefix),
                    },
                );
                match times {
                    Ok(times) => self.update_times(&format!("{table}/update/{name}"), &times),
                    Err(error) => (self.say)(&format!("SKIPPED updates of {name}: {error:#}")),
                }
            }
        }
        Ok(())
    }

    /// The few prefixes of an edge beside DPDK's: what a call costs, and an address without a load that has to wait.
    pub fn edge(&mut self) -> Result<()> {
        let table = "lpm6/small";
        let routes = traces::edge();
        self.made(table, &routes, FIB6_NODES_PERCENT_SITES)
    }

    /// A million random /48: U and Z beside DPDK's.
    pub fn sites(&mut self) -> Result<()> {
        let table = "lpm6/random48";
        let routes = traces::sites(SEED);
        self.made(table, &routes, FIB6_NODES_PERCENT_SITES)
    }

    /// A table made by rule: U and Z beside DPDK's.
    fn made(&mut self, table: &str, routes: &[Route<u128>], fib6_nodes: usize) -> Result<()> {
        (self.say)(&format!("{table}: building"));
        let oracle = Oracle::new(routes);
        let courses = courses(routes, &oracle, &[Trace::Uniform, Trace::Zipf]);
        let mut ours = self.build::<u128>(table, routes);
        let wish = self.wish(fib6_nodes);
        let peers = self
            .dpdk
            .map(|dpdk| u128::peers(dpdk, routes, wish, self.say));
        let reader = ours.reader();
        let mut beside = Vec::new();
        if let Some(peers) = &peers {
            beside.extend(peers.contenders());
            self.costs(table, &peers.costs());
        }
        let contenders = line_up(&reader, beside);
        self.check_and_race(table, &contenders, &courses)
    }

    /// A million hosts beside `rte_hash`: addresses that are there, and addresses in the same networks that are not.
    pub fn hosts(&mut self) -> Result<()> {
        let table = "lpm6/hosts";
        (self.say)(&format!("{table}: building"));
        let (routes, misses) = traces::hosts(SEED);
        let oracle = Oracle::new(&routes);
        let courses = host_courses(&routes, &misses, &oracle);
        let mut ours = self.build::<u128>(table, &routes);
        let build = |dpdk| {
            Hash::build(dpdk, &routes)
                .inspect_err(|error| (self.say)(&format!("SKIPPED rte_hash: {error:#}")))
                .ok()
        };
        let hash = self.dpdk.and_then(build);
        let reader = ours.reader();
        // Ours are compared with the right answers; a place in rte_hash has to be looked up first.
        let wrong = race::check(&line_up(&reader, Vec::new()), &courses)?;
        self.wrong(&format!("{table}/before"), wrong as u64); // `as`: a count
        let mut beside = Vec::new();
        if let Some(hash) = &hash {
            check_hash(hash, &courses)?;
            beside.push(contender("rte_hash", hash::Bulk(hash)));
            beside.push(contender("rte_hash-single", hash::Single(hash)));
            self.costs(table, &[("rte_hash", hash.cost())]);
        }
        let contenders = line_up(&reader, beside);
        self.records
            .extend(race::race(table, &contenders, &courses, self.effort)?);
        drop(contenders);
        drop(reader); // one that does not report holds up what is freed
        self.update_ours(table, &mut ours, &routes, &oracle)
    }

    /// The hosts and the real table in one: only ours can hold both.
    pub fn mixed(&mut self, real: &[Route<u128>]) -> Result<()> {
        let table = "lpm6/mixed";
        (self.say)(&format!("{table}: building"));
        let (hosts, misses) = traces::hosts(SEED);
        let mut routes: Vec<_> = real.iter().chain(&hosts).copied().collect();
        routes.sort_unstable_by_key(|route| route.prefix);
        let mut ours = self.build::<u128>(table, &routes);
        let oracle = Oracle::new(&routes);
        let mut courses = courses(real, &oracle, &[Trace::Uniform, Trace::Zipf]);
        courses.extend(host_courses(&hosts, &misses, &oracle));
        {
            let reader = ours.reader();
            self.check_and_race(table, &line_up(&reader, Vec::new()), &courses)?;
        }
        self.update_ours(table, &mut ours, &routes, &oracle)
    }

    fn wish(&self, fib6_nodes_percent: usize) -> Wish {
        Wish {
            fib6_nodes_percent,
            rte_lpm: self.rte_lpm,
        }
    }

    fn check_and_race(
        &mut self,
        table: &str,
        contenders: &[Box<dyn Contender<[u8; 16]> + '_>],
        courses: &[Course<u128>],
    ) -> Result<()> {
        let wrong = race::check(contenders, courses)?;
        self.wrong(&format!("{table}/before"), wrong as u64); // `as`: a count
        self.records
            .extend(race::race(table, contenders, courses, self.effort)?);
        Ok(())
    }

    /// Build ours several times and keep the last.
    fn build<A: Family>(&mut self, table: &str, routes: &[Route<A>]) -> A::Ours {
        let mut last = None;
        let mut milliseconds = Vec::new();
        for _ in 0..BUILDS {
            drop(last.take()); // two at once may not fit
            let start = Instant::now();
            last = Some(A::Ours::build(routes));
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let ours = last.expect("it is built at least once");
        let case = format!("{table}/table");
        self.record(&case, Metric::BuildMs, &milliseconds);
        self.bytes(&case, ours.bytes() as f64, routes.len()); // `as`: far below 2^53
        ours
    }

    fn costs(&mut self, table: &str, costs: &[(&'static str, Cost)]) {
        for (name, cost) in costs {
            let case = format!("{table}/table/{name}");
            self.record(&case, Metric::BuildMs, &[cost.build_ms]);
            self.record(&case, Metric::Bytes, &[cost.bytes as f64]); // `as`: far below 2^53
        }
    }

    fn bytes(&mut self, case: &str, bytes: f64, routes: usize) {
        self.record(case, Metric::Bytes, &[bytes]);
        self.record(case, Metric::BytesPerPrefix, &[bytes / routes as f64]); // `as`: millions
    }

    /// Updates with nobody beside, updates with a reader beside, and every answer afterwards.
    fn update_ours<A: Family>(
        &mut self,
        table: &str,
        ours: &mut A::Ours,
        routes: &[Route<A>],
        before: &Oracle<A>,
    ) -> Result<()> {
        (self.say)(&format!("{table}: updates"));
        let watched = watched(routes);
        let mut oracle = before.clone();
        let tsc_hertz = self.effort.tsc_hertz;

        let changes = updates::script(routes, &oracle, &watched, self.updates, SEED + 1);
        let times = updates::time(
            &changes,
            self.patience,
            tsc_hertz,
            &mut || {},
            &mut |change| {
                updates::apply(ours, change);
                Ok(())
            },
        )?;
        self.all_made(table, times.len());
        self.update_times(&format!("{table}/update"), &times);
        changes[..times.len()]
            .iter()
            .for_each(|change| change.tell(&mut oracle));
        interrupt::check()?;

        let changes = updates::script(routes, &oracle, &watched, self.updates, SEED + 2);
        let timeline = Timeline::new(&watched, &changes, &mut oracle.clone());
        let (times, seen) = updates::beside_a_reader(
            ours,
            &changes,
            (&watched, &timeline),
            self.patience,
            tsc_hertz,
            READER_CORE,
        )?;
        self.all_made(table, times.len());
        self.update_times(&format!("{table}/update-beside-reader"), &times);
        let Seen { wrong, answers } = seen;
        (self.say)(&format!(
            "{table}: {answers} answers while {} updates were made",
            times.len()
        ));
        self.wrong(&format!("{table}/during"), wrong);
        changes[..times.len()]
            .iter()
            .for_each(|change| change.tell(&mut oracle));

        let courses = courses(routes, &oracle, &Trace::ALL);
        let reader = ours.reader();
        let wrong = race::check(&line_up(&reader, Vec::new()), &courses)?;
        self.wrong(&format!("{table}/after"), wrong as u64); // `as`: a count
        Ok(())
    }

    fn all_made(&self, table: &str, made: usize) {
        if made < self.updates {
            (self.say)(&format!(
                "{table}: stopped after {made} of {} updates, at the end of {} s",
                self.updates,
                self.patience.as_secs()
            ));
        }
    }

    /// Records of updates; each round's figure is of its share of them.
    fn update_times(&mut self, case: &str, microseconds: &[f64]) {
        let share = microseconds.len().div_ceil(self.effort.rounds).max(1);
        let shares = || microseconds.chunks(share);
        let medians: Vec<f64> = shares().map(median).collect();
        let late: Vec<f64> = shares()
            .map(|share| updates::percentile(share, 99))
            .collect();
        // `as`: tens of thousands.
        let rates: Vec<f64> = shares()
            .map(|share| share.len() as f64 * 1e6 / share.iter().sum::<f64>())
            .collect();
        self.record(case, Metric::UpdateUsMedian, &medians);
        self.record(case, Metric::UpdateUsP99, &late);
        self.record(case, Metric::UpdatesPerS, &rates);
    }

    fn wrong(&mut self, case: &str, wrong: u64) {
        self.record(case, Metric::WrongAnswers, &[wrong as f64]); // `as`: below 2^53
    }

    fn record(&mut self, case: &str, metric: Metric, rounds: &[f64]) {
        self.records.push(Record::of(SUITE, case, metric, rounds));
    }
}

/// Those beside ours between both ways to look up in ours: in a round, what a ratio is made of shall run soon after one
/// another.
fn line_up<'a, K: 'a, R: ours::Reader<K>>(
    reader: &'a R,
    mut beside: Vec<Box<dyn Contender<K> + 'a>>,
) -> Vec<Box<dyn Contender<K> + 'a>> {
    beside.insert(0, contender(OURS, ours::Bulk(reader)));
    beside.push(contender(OURS_SINGLE, ours::Single(reader)));
    beside
}

/// Whether `rte_hash` finds what it shall: its answers are places plus one.
fn check_hash(hash: &Hash<'_>, courses: &[Course<u128>]) -> Result<()> {
    for course in courses {
        let found = contender("rte_hash", hash::Bulk(hash)).answers(&course.keys);
        let leaf = |place: &u32| {
            place
                .checked_sub(1)
                .map_or(Some(0), |place| hash.leaf_at(place))
        };
        let leaves: Option<Vec<u32>> = found.iter().map(leaf).collect();
        let right = leaves.is_some_and(|leaves| count_wrong(&leaves, &course.right) == 0);
        ensure!(
            right,
            "rte_hash answers addresses of {} wrongly",
            course.name
        );
    }
    Ok(())
}
