//! Updates: a script of changes, what each one takes, and whether a reader beside the writer ever sees a wrong answer.
//!
//! A script is groups of five: an existing route is withdrawn and inserted again, its leaf is replaced, a new route of the
//! usual length (/48, /24) is inserted and withdrawn. Half of the existing routes, and all places of new ones, are those of
//! addresses that are looked up meanwhile. A [`Timeline`] holds what every such address may answer after each change.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use core_affinity::CoreId;
use crossbeam_utils::CachePadded;
use fastrand::Rng;

use super::contender::{BURST, keys_of};
use super::oracle::Oracle;
use super::ours::{Reader, Table};
use super::prefix::{Address, Prefix, Route};
use crate::tsc;

/// Changes in a group of a script.
const GROUP: usize = 5;
/// How often a place for a new route is looked for.
const TRIES: usize = 64;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<A> {
    /// Insert a route, or replace its leaf.
    Insert(Prefix<A>, u32),
    /// Withdraw a route.
    Remove(Prefix<A>),
}

impl<A: Address> Change<A> {
    const fn prefix(self) -> Prefix<A> {
        match self {
            Self::Insert(prefix, _) | Self::Remove(prefix) => prefix,
        }
    }

    /// Make the oracle know of it.
    pub fn tell(self, oracle: &mut Oracle<A>) {
        match self {
            Self::Insert(prefix, leaf) => oracle.insert(prefix, leaf),
            Self::Remove(prefix) => oracle.remove(prefix),
        }
    }
}

/// A table of somebody else that can be updated.
pub trait Updated<A: Address> {
    /// Insert a route or replace its leaf.
    fn insert(&mut self, prefix: Prefix<A>, leaf: u32) -> Result<()>;
    /// Withdraw a route.
    fn remove(&mut self, prefix: Prefix<A>) -> Result<()>;
}

/// `count` changes of the table of `routes`, in which `oracle` finds the routes of `addresses`. Every prefix is as before
/// after its group; leaves of existing routes change for good.
pub fn script<A: Address>(
    routes: &[Route<A>],
    oracle: &Oracle<A>,
    addresses: &[A],
    count: usize,
    seed: u64,
) -> Vec<Change<A>> {
    let mut random = Rng::with_seed(seed);
    let mut changes = Vec::with_capacity(count + GROUP);
    while changes.len() < count {
        let address = addresses[random.usize(..addresses.len())];
        let of_address = oracle.lookup(address).filter(|_| random.bool());
        let existing = of_address
            .unwrap_or_else(|| routes[random.usize(..routes.len())])
            .prefix;
        let mut leaf = || routes[random.usize(..routes.len())].leaf;
        changes.extend([
            Change::Remove(existing),
            Change::Insert(existing, leaf()),
            Change::Insert(existing, leaf()),
        ]);
        let new_leaf = leaf();
        let place = (0..TRIES).find_map(|_| {
            let address = addresses[random.usize(..addresses.len())];
            let place = Prefix::of(address, A::USUAL_LENGTH);
            let longest = oracle
                .lookup(address)
                .map_or(0, |route| route.prefix.length);
            (longest < A::USUAL_LENGTH && oracle.leaf_of(place).is_none()).then_some(place)
        });
        // A table whose every route is longer has no such place: then another existing one is replaced twice.
        let place = place.unwrap_or(existing);
        changes.push(Change::Insert(place, new_leaf));
        changes.push(if place == existing {
            Change::Insert(place, leaf_of(oracle, existing))
        } else {
            Change::Remove(place)
        });
    }
    changes.truncate(count);
    changes
}

fn leaf_of<A: Address>(oracle: &Oracle<A>, existing: Prefix<A>) -> u32 {
    oracle
        .leaf_of(existing)
        .expect("scripts take existing routes from the oracle's")
}

/// Make changes one after the other until all are made or `patience` is at its end; microseconds of each. Before each
/// group `pause` is called, outside the time that counts.
pub fn time<A: Address>(
    changes: &[Change<A>],
    patience: Duration,
    tsc_hertz: f64,
    pause: &mut dyn FnMut(),
    make: &mut dyn FnMut(Change<A>) -> Result<()>,
) -> Result<Vec<f64>> {
    let end = Instant::now() + patience;
    let mut microseconds = Vec::with_capacity(changes.len());
    for group in changes.chunks(GROUP) {
        pause();
        for change in group {
            let start = tsc::now();
            make(*change)?;
            // `as`: clocks of a second at most.
            microseconds.push((tsc::now() - start) as f64 * 1e6 / tsc_hertz);
        }
        if Instant::now() > end {
            break;
        }
    }
    Ok(microseconds)
}

/// The value that `percent` of a hundred of `figures` do not exceed; 0 of none.
#[must_use]
pub fn percentile(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).copied().unwrap_or(0.0)
}

/// Right answers of some addresses after each change of a script. Version 0 is before the first.
pub struct Timeline {
    /// For each address, from which version on which answer is right, oldest first.
    answers: Vec<Vec<(usize, u32)>>,
    /// For each change, the place of the first address that its prefix does not lie behind.
    places: Vec<usize>,
}

impl Timeline {
    /// What `addresses`, which are sorted, answer while `changes` are made to what `oracle` knows. The oracle knows all
    /// of them afterwards.
    ///
    /// # Panics
    /// When there are no addresses, or they are not sorted.
    #[must_use]
    pub fn new<A: Address>(addresses: &[A], changes: &[Change<A>], oracle: &mut Oracle<A>) -> Self {
        assert!(
            addresses.is_sorted(),
            "addresses of a prefix are found by bisection"
        );
        let mut answers: Vec<Vec<(usize, u32)>> = addresses
            .iter()
            .map(|address| vec![(0, oracle.answer(*address))])
            .collect();
        let mut places = Vec::with_capacity(changes.len());
        for (change, version) in changes.iter().zip(1..) {
            change.tell(oracle);
            let prefix = change.prefix();
            let first = addresses.partition_point(|address| *address < prefix.address);
            places.push(first.min(addresses.len() - 1));
            let inside = addresses[first..]
                .iter()
                .take_while(|address| prefix.contains(**address));
            for (address, history) in inside.zip(&mut answers[first..]) {
                let now = oracle.answer(*address);
                if history.last().is_some_and(|(_, before)| *before != now) {
                    history.push((version, now));
                }
            }
        }
        Self { answers, places }
    }

    /// Whether `answer` of the address at `place` was right at any time from version `first` to version `last`.
    #[must_use]
    pub fn allows(&self, place: usize, answer: u32, first: usize, last: usize) -> bool {
        let history = &self.answers[place];
        let newer = history.partition_point(|(version, _)| *version <= first);
        history[newer - 1..]
            .iter()
            .take_while(|(version, _)| *version <= last)
            .any(|(_, right)| *right == answer)
    }
}

/// What a reader beside the writer saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Answers that were neither right before nor after any change that went on.
    pub wrong: u64,
    /// All answers.
    pub answers: u64,
}

/// What writer and reader know of each other.
#[derive(Default)]
struct Progress {
    /// Changes that were begun.
    begun: AtomicUsize,
    /// Changes that were made.
    made: AtomicUsize,
    /// Bursts that the reader has looked up.
    bursts: AtomicUsize,
    /// Whether the reader shall end.
    over: AtomicBool,
}

/// Ends the reader when dropped, after a panic of the writer's too: its thread is waited for.
struct End<'a>(&'a Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

/// Make `changes` while a reader on the CPU `reader_core` looks up `addresses`, sorted as in `timeline`, in bursts and one
/// by one in turn: all of them again and again, and between them those that the change of the moment is about. Between
/// two groups of changes the writer waits for a burst of the reader's. Microseconds of each change, and what the reader
/// saw.
pub fn beside_a_reader<A: Address, T: Table<A>>(
    table: &mut T,
    changes: &[Change<A>],
    (addresses, timeline): (&[A], &Timeline),
    patience: Duration,
    tsc_hertz: f64,
    reader_core: usize,
) -> Result<(Vec<f64>, Seen)> {
    let keys = keys_of(addresses);
    let progress = CachePadded::new(Progress::default());
    let reader = table.reader();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            core_affinity::set_for_current(CoreId { id: reader_core });
            watch(reader, &keys, timeline, &progress)
        });
        let end = End(&progress);
        // The reader shall be running, on a machine that others use too: one burst at least for each group.
        let mut awaited = 0;
        let mut pause = || {
            while progress.bursts.load(Ordering::Acquire) <= awaited && !looking.is_finished() {
                std::hint::spin_loop();
            }
            awaited = progress.bursts.load(Ordering::Acquire);
        };
        let mut number = 0;
        let times = time(changes, patience, tsc_hertz, &mut pause, &mut |change| {
            number += 1;
            progress.begun.store(number, Ordering::Relaxed);
            // Who sees anything of the change below, sees that it was begun. The fence costs nothing on x86-64.
            fence(Ordering::Release);
            apply(table, change);
            progress.made.store(number, Ordering::Release);
            Ok(())
        });
        drop(end);
        let seen = looking.join().map_err(|_| anyhow!("the reader panicked"))?;
        Ok((times?, seen))
    })
}

/// The reader beside updates, until it is over.
fn watch<K>(
    mut reader: impl Reader<K>,
    keys: &[K],
    timeline: &Timeline,
    progress: &Progress,
) -> Seen {
    let mut seen = Seen::default();
    let mut leaves = [0; BURST];
    let mut next = 0;
    for turn in 0_usize.. {
        if progress.over.load(Ordering::Acquire) {
            break;
        }
        // Everything before `first` is seen below.
        let first = progress.made.load(Ordering::Acquire);
        let place = match timeline.places.get(first) {
            Some(place) if turn.is_multiple_of(2) => *place,
            _ => next,
        };
        let burst = &keys[place..(place + BURST).min(keys.len())];
        let found = &mut leaves[..burst.len()];
        if turn % 4 < 2 {
            reader.lookup_bulk(burst, found);
        } else {
            for (key, found) in burst.iter().zip(&mut *found) {
                *found = reader.lookup(key);
            }
        }
        // Whatever was seen above, its change was begun.
        fence(Ordering::Acquire);
        let last = progress.begun.load(Ordering::Relaxed);
        for (answer, at) in found.iter().zip(place..) {
            if !timeline.allows(at, *answer, first, last) {
                seen.wrong += 1;
            }
            seen.answers += 1;
        }
        reader.quiescent();
        progress.bursts.store(turn + 1, Ordering::Release);
        if place == next {
            next = (next + burst.len()) % keys.len();
        }
    }
    seen
}

/// Make one change to a table of ours.
pub fn apply<A: Address, T: Table<A>>(table: &mut T, change: Change<A>) {
    match change {
        Change::Insert(prefix, leaf) => table.insert(prefix, leaf),
        Change::Remove(prefix) => table.remove(prefix),
    }
}

#[cfg(test)]
mod tests;
