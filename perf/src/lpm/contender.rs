//! A table as it is raced: bursts of addresses in, leaves out, the same loop round all.

use std::hint::black_box;

use super::prefix::Address;
use crate::record::median;
use crate::tsc;

/// Addresses a packet program looks up at once.
pub const BURST: usize = 32;
/// Lookups between two readings of the clock.
pub const CHUNK: usize = 512 * BURST;
/// Chunks that a slow contender looks up in a round: the first ones of those that all others look up.
const SLOW_CHUNKS: usize = 16;

/// One way to look addresses up in one table.
pub trait Lookup<K> {
    /// What a lookup leaves behind.
    type Found: Copy + Default;
    /// Whether it is so slow that a quarter of the lookups must do in a round.
    const SLOW: bool = false;

    /// Called before each round, outside the time that counts.
    fn prepare(&self) {}
    /// Look up at most [`BURST`] addresses: the part that is timed.
    fn burst(&self, keys: &[K], found: &mut [Self::Found]);
    /// The leaf in what a lookup left behind; 0: nothing matches.
    fn leaf(found: Self::Found) -> u32;
}

/// A [`Lookup`] of any kind, with its name.
pub trait Contender<K> {
    /// As in the cases of the report.
    fn name(&self) -> &'static str;
    /// See [`Lookup::prepare`].
    fn prepare(&self);
    /// See [`Lookup::SLOW`].
    fn is_slow(&self) -> bool;
    /// Look up `keys` in bursts and forget what was found.
    fn run(&self, keys: &[K]);
    /// Look up `keys` in bursts and tell.
    fn answers(&self, keys: &[K]) -> Vec<u32>;
}

struct Named<L> {
    name: &'static str,
    lookup: L,
}

/// Make a contender of a way to look up.
pub fn contender<'a, K, L: Lookup<K> + 'a>(
    name: &'static str,
    lookup: L,
) -> Box<dyn Contender<K> + 'a> {
    Box::new(Named { name, lookup })
}

impl<K, L: Lookup<K>> Contender<K> for Named<L> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&self) {
        self.lookup.prepare();
    }

    fn is_slow(&self) -> bool {
        L::SLOW
    }

    fn run(&self, keys: &[K]) {
        let mut found = [L::Found::default(); BURST];
        for burst in keys.chunks(BURST) {
            self.lookup.burst(burst, &mut found[..burst.len()]);
            black_box(&mut found);
        }
    }

    fn answers(&self, keys: &[K]) -> Vec<u32> {
        self.lookup.prepare();
        let mut leaves = Vec::with_capacity(keys.len());
        let mut found = [L::Found::default(); BURST];
        for burst in keys.chunks(BURST) {
            let found = &mut found[..burst.len()];
            self.lookup.burst(burst, found);
            leaves.extend(found.iter().map(|found| L::leaf(*found)));
        }
        leaves
    }
}

/// Millions of lookups a second over `keys`: the median of their chunks.
pub fn score<K: Copy>(contender: &dyn Contender<K>, keys: &[K], tsc_hertz: f64) -> f64 {
    contender.prepare();
    let most = if contender.is_slow() {
        SLOW_CHUNKS
    } else {
        usize::MAX
    };
    let chunks: Vec<f64> = keys
        .chunks(CHUNK)
        .take(most)
        .map(|chunk| {
            // A packet's destination has just been read when it is looked up.
            for key in chunk {
                black_box(*key);
            }
            let start = tsc::now();
            contender.run(chunk);
            let clocks = tsc::now() - start;
            // `as`: clocks and lookups of a millisecond.
            chunk.len() as f64 * tsc_hertz / clocks as f64 / 1e6
        })
        .collect();
    median(&chunks)
}

/// How many of `answers` are not the right ones.
#[must_use]
pub fn count_wrong(answers: &[u32], right: &[u32]) -> usize {
    assert_eq!(answers.len(), right.len(), "one answer an address");
    answers
        .iter()
        .zip(right)
        .filter(|(answer, right)| answer != right)
        .count()
}

/// Addresses as a table takes them.
#[must_use]
pub fn keys_of<A: Address>(addresses: &[A]) -> Vec<A::Key> {
    addresses.iter().map(|address| address.key()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Doubling;

    impl Lookup<u32> for Doubling {
        type Found = u64;
        fn burst(&self, keys: &[u32], found: &mut [u64]) {
            assert!(keys.len() <= BURST && keys.len() == found.len());
            for (key, found) in keys.iter().zip(found) {
                *found = u64::from(*key) * 2;
            }
        }
        fn leaf(found: u64) -> u32 {
            u32::try_from(found).expect("small")
        }
    }

    #[test]
    fn answers_stand_in_the_order_of_the_keys_whatever_the_last_burst_holds() {
        let keys: Vec<u32> = (0..77).collect();
        let right: Vec<u32> = keys.iter().map(|key| key * 2).collect();
        let doubling = contender("doubling", Doubling);
        let mut answers = doubling.answers(&keys);
        assert_eq!(count_wrong(&answers, &right), 0);
        answers[76] = 0;
        assert_eq!(count_wrong(&answers, &right), 1);
        assert!(score(&*doubling, &keys, 1e9) > 0.0);
    }
}
