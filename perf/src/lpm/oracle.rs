//! What the right answer is: a hash map for each prefix length, asked from the longest down. Slow, and shares nothing with
//! any table it judges.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::prefix::{Address, Prefix, Route};

/// Routes by length.
#[derive(Clone)]
pub struct Oracle<A> {
    by_length: Vec<HashMap<A, u32, BuildHasherDefault<Folding>>>,
}

impl<A: Address> Oracle<A> {
    /// An oracle that knows `routes`.
    #[must_use]
    pub fn new(routes: &[Route<A>]) -> Self {
        let mut oracle = Self {
            by_length: (0..=A::LENGTH).map(|_| HashMap::default()).collect(),
        };
        for route in routes {
            oracle.insert(route.prefix, route.leaf);
        }
        oracle
    }

    /// Insert or replace a route.
    pub fn insert(&mut self, prefix: Prefix<A>, leaf: u32) {
        self.by_length[usize::from(prefix.length)].insert(prefix.address, leaf);
    }

    /// Take a route away.
    pub fn remove(&mut self, prefix: Prefix<A>) {
        self.by_length[usize::from(prefix.length)].remove(&prefix.address);
    }

    /// The route of exactly this prefix.
    #[must_use]
    pub fn leaf_of(&self, prefix: Prefix<A>) -> Option<u32> {
        self.by_length[usize::from(prefix.length)]
            .get(&prefix.address)
            .copied()
    }

    /// The route of the longest prefix that `address` is in.
    #[must_use]
    pub fn lookup(&self, address: A) -> Option<Route<A>> {
        (0..=A::LENGTH)
            .zip(&self.by_length)
            .rev()
            .find_map(|(length, routes)| {
                if routes.is_empty() {
                    return None;
                }
                let prefix = Prefix::of(address, length);
                let leaf = *routes.get(&prefix.address)?;
                Some(Route { prefix, leaf })
            })
    }

    /// What a table has to answer for `address`: the leaf, 0 when nothing matches.
    #[must_use]
    pub fn answer(&self, address: A) -> u32 {
        self.lookup(address).map_or(0, |route| route.leaf)
    }

    /// The answers for all of `addresses`.
    #[must_use]
    pub fn answers(&self, addresses: &[A]) -> Vec<u32> {
        addresses
            .iter()
            .map(|address| self.answer(*address))
            .collect()
    }
}

/// A hash of one number, several times as fast as the standard one: tens of millions of probes are asked for.
#[derive(Default)]
struct Folding(u64);

/// 2^64 over the golden ratio, as multipliers of this kind usually are; odd.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }
    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0 ^ number ^ MULTIPLIER) * u128::from(MULTIPLIER);
        // `as`: both halves of the product, folded.
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
    fn write_u128(&mut self, number: u128) {
        // `as`: both halves of the number.
        self.write_u64((number >> 64) as u64);
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides_and_its_removal_uncovers_the_next() {
        let prefix = |text| Prefix::<u128>::parse(text).expect("a prefix");
        let routes = [
            "::/0",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "2001:db8:1::5/128",
        ];
        let routes: Vec<_> = routes
            .iter()
            .zip(1..)
            .map(|(text, leaf)| Route {
                prefix: prefix(text),
                leaf,
            })
            .collect();
        let mut oracle = Oracle::new(&routes);
        let host = prefix("2001:db8:1::5/128").address;
        assert_eq!(
            oracle.answers(&[host, host + 1, host + (1 << 80), 1]),
            [4, 3, 2, 1]
        );
        oracle.remove(prefix("2001:db8:1::5/128"));
        oracle.insert(prefix("2001:db8:1::/48"), 9);
        assert_eq!(oracle.answers(&[host, host + 1]), [9, 9]);
        oracle.remove(prefix("::/0"));
        assert_eq!(oracle.answer(1), 0);
        assert_eq!(oracle.leaf_of(prefix("2001:db8:1::/48")), Some(9));
        assert_eq!(oracle.leaf_of(prefix("2001:db8::/47")), None);
    }
}
