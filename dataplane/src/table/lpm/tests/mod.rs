//! The prefix tables against a linear scan, on every code path.

mod concurrent;
mod exact_prefixes;
mod properties;
mod real_tables;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::isa::Isa;
use super::walk::Key as _;
use super::{Lpm4, Lpm6};

/// The oracle: every prefix, the longest match by scanning. Addresses start at the upper bit.
#[derive(Default, Clone)]
struct LinearScan(Vec<(u128, u8, u32)>);

impl LinearScan {
    fn insert(&mut self, network: u128, length: u8, leaf: u32) -> Option<u32> {
        let old = self.remove(network, length);
        self.0.push((network & mask(length), length, leaf));
        old
    }

    fn remove(&mut self, network: u128, length: u8) -> Option<u32> {
        let wanted = (network & mask(length), length);
        let at = self.0.iter().position(|(k, l, _)| (*k, *l) == wanted)?;
        Some(self.0.swap_remove(at).2)
    }

    fn lookup(&self, key: u128) -> u32 {
        let matching = self
            .0
            .iter()
            .filter(|(network, length, _)| key & mask(*length) == *network);
        matching
            .max_by_key(|(_, length, _)| *length)
            .map_or(0, |(.., leaf)| *leaf)
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// What both families can do, on addresses of 128 bits.
trait Family: Sized {
    const BITS: u8;
    /// A table that changes to its large root at this size.
    fn with_large(large: usize) -> Self;
    fn insert(&mut self, network: u128, length: u8, leaf: u32) -> Option<u32>;
    fn remove(&mut self, network: u128, length: u8) -> Option<u32>;
    fn load(&mut self, prefixes: Vec<(u128, u8, u32)>);
    fn replace(&mut self, prefixes: Vec<(u128, u8, u32)>);
    fn bytes(&self) -> usize;
    /// The forms of its nodes.
    fn forms(&self) -> BTreeSet<u32>;
    /// The leaves by every code path there is, which must agree.
    fn lookups(&self, keys: &[u128]) -> Vec<u32>;
}

macro_rules! family {
    ($table:ident, $bits:literal, $to:expr, $key:expr) => {
        impl Family for $table {
            const BITS: u8 = $bits;

            fn with_large(large: usize) -> Self {
                $table::with_large(large)
            }

            fn insert(&mut self, network: u128, length: u8, leaf: u32) -> Option<u32> {
                self.insert($to(network), length, leaf)
            }

            fn remove(&mut self, network: u128, length: u8) -> Option<u32> {
                self.remove($to(network), length)
            }

            fn load(&mut self, prefixes: Vec<(u128, u8, u32)>) {
                let prefixes = prefixes.into_iter();
                self.load(prefixes.map(|(network, length, leaf)| ($to(network), length, leaf)));
            }

            fn replace(&mut self, prefixes: Vec<(u128, u8, u32)>) {
                let prefixes = prefixes.into_iter();
                self.replace(prefixes.map(|(network, length, leaf)| ($to(network), length, leaf)));
            }

            fn bytes(&self) -> usize {
                self.bytes()
            }

            fn forms(&self) -> BTreeSet<u32> {
                self.forms()
            }

            fn lookups(&self, keys: &[u128]) -> Vec<u32> {
                let keys: Vec<_> = keys.iter().map(|key| $key($to(*key))).collect();
                let single: Vec<u32> = keys.iter().map(|key| self.lookup(key)).collect();
                let mut bulk = vec![u32::MAX; keys.len()];
                for isa in Isa::available() {
                    for staged in [false, true] {
                        bulk.fill(u32::MAX);
                        self.lookup_bulk_by(isa, staged, &keys, &mut bulk);
                        assert_eq!(bulk, single, "{isa:?}, staged: {staged}");
                    }
                }
                let view = self.view();
                let version = view.version();
                view.root_pass(version, &keys, &mut bulk);
                view.cell_pass(version, &mut bulk);
                view.node_pass(version, &keys, &mut bulk);
                assert_eq!(bulk, single, "pass by pass");
                // Some of them, each beside all.
                for (key, leaf) in keys.iter().zip(&single).step_by(keys.len() / 64 + 1) {
                    let Some(range) = self.range(key) else {
                        continue;
                    };
                    assert!(range.contains(key.prefix()));
                    assert_eq!(range.leaf(), *leaf);
                    for (other, leaf) in keys.iter().zip(&single) {
                        let is_in = range.contains(other.prefix());
                        assert!(
                            !is_in || range.leaf() == *leaf,
                            "{other:?} is not in {range:?}"
                        );
                        let alone = range.within(other.prefix(), other.prefix());
                        assert_eq!(alone.is_some(), is_in);
                        assert!(alone.is_none_or(|alone| alone.contains(other.prefix())
                            && !alone.contains(other.prefix().wrapping_add(1))));
                    }
                }
                single
            }
        }
    };
}

family!(Lpm6, 128, Ipv6Addr::from, |address: Ipv6Addr| address
    .octets());
family!(
    Lpm4,
    32,
    |address: u128| Ipv4Addr::from((address >> 96) as u32), // `as`: the upper 32 bits
    u32::from
);

/// Whether the table gives the oracle's leaf for each key, also where one is asked for several times in a row, where a batch
/// asks for few in turns, and where it asks for one alone.
fn assert_agrees<T: Family>(table: &T, oracle: &LinearScan, keys: &[u128]) {
    let leaves = table.lookups(keys);
    for (leaf, key) in leaves.iter().zip(keys) {
        assert_eq!(*leaf, oracle.lookup(*key), "{:?}", Ipv6Addr::from(*key));
    }
    assert_eq!(table.lookups(&in_runs(keys)), in_runs(&leaves));
    for count in [1, 3, 9] {
        for (keys, leaves) in keys.chunks(count).zip(leaves.chunks(count)).take(12) {
            assert_eq!(table.lookups(&in_turns(keys)), in_turns(leaves));
        }
    }
}

/// More than a group of them, one after the other and then from the first again.
fn in_turns<V: Copy>(values: &[V]) -> Vec<V> {
    values.iter().copied().cycle().take(45).collect()
}

/// Each of them up to three times in a row.
fn in_runs<V: Copy>(values: &[V]) -> Vec<V> {
    let numbered = values.iter().enumerate();
    numbered
        .flat_map(|(number, value)| std::iter::repeat_n(*value, 3 - number % 4 % 3))
        .collect()
}

/// The addresses at which something may change: the first and last of each prefix, and their neighbours.
fn edges(oracle: &LinearScan) -> Vec<u128> {
    let of = |(network, length, _): &(u128, u8, u32)| {
        let last = network | !mask(*length);
        [
            *network,
            last,
            network.wrapping_sub(1),
            last.wrapping_add(1),
        ]
    };
    oracle.0.iter().flat_map(of).collect()
}

/// A sequence of numbers that looks random; the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize // `as`: a length, and below one
    }

    fn address(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}
