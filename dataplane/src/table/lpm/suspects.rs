//! Looking up a group of addresses in the host table: which of them may be hosts, and which are.
//!
//! Two rounds find the slot an address may be in: the line of its group's tags, then the slot that has its tag; each is
//! prefetched for all addresses before the next round asks for the first. The third, [`Suspects::settle`], compares keys
//! and waits for memory, once for all. Where the hosts are many and the first address of a group is below a prefix with
//! hosts, its neighbours will be too: then the first two rounds come before the trie is walked, which takes about as long
//! as memory needs.

use super::bulk::{GROUP, bits};
use super::hosts::{self, Home};
use super::node::Compare;
use super::shared::{Shared, Version};
use super::walk::Key;
use super::word::Word;
use crate::prefetch;

/// Runs a block for the place of each one in a mask. Mostly all are ones: then places are counted, not searched. A macro,
/// because a closure would be compiled without the instructions of the function it is in.
macro_rules! for_ones {
    ($mask:expr, $i:ident, $block:block) => {
        let mut left: u32 = $mask;
        if left == u32::MAX {
            let mut $i = 0;
            while $i < GROUP {
                $block
                $i += 1;
            }
        } else {
            while left != 0 {
                let $i = left.trailing_zeros() as usize % GROUP; // `as`: u32 to index
                $block
                left &= left - 1;
            }
        }
    };
}

/// Where the addresses of a group may be.
pub(super) struct Suspects {
    homes: [Home; GROUP],
    /// The cells of key and leaf of the slot that has the tag.
    slots: [[u32; 2]; GROUP],
    /// Those with such a slot.
    likely: u32,
}

impl Suspects {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            homes: [Home::default(); GROUP],
            slots: [[0; 2]; GROUP],
            likely: 0,
        }
    }

    /// The first two rounds, for the addresses that are ones in a mask. Done in place: a copy of what was just stored
    /// would wait for it.
    #[inline(always)]
    pub fn look<K: Key, C: Compare>(
        &mut self,
        shared: &Shared,
        version: Version,
        keys: &[K],
        which: u32,
    ) {
        let memory = shared.memory();
        let (area, seed) = (version.hosts(memory), shared.seed);
        for_ones!(which, i, {
            let home = area.home(seed, keys[i].whole());
            prefetch::read_later(memory.cell(home.group));
            self.homes[i] = home;
        });
        for_ones!(which, i, {
            let having = self.homes[i].having::<C>(memory);
            if having != 0 {
                let slot = area.slot(self.homes[i].group, having.trailing_zeros());
                prefetch::read_later(memory.cell(slot[0]));
                self.slots[i] = slot;
                self.likely |= 1 << i;
            }
        });
    }

    /// The third round: leaves in place of the words that are ones in a mask, of hosts or else of their prefixes.
    #[inline(always)]
    pub fn settle<K: Key, C: Compare>(
        &self,
        shared: &Shared,
        version: Version,
        keys: &[K],
        words: &mut [u32; GROUP],
        which: u32,
    ) {
        let memory = shared.memory();
        let area = version.hosts(memory);
        let mut missing = which;
        for_ones!(which & self.likely, i, {
            let leaf = hosts::leaf_at(memory, self.slots[i], keys[i].whole());
            if leaf != 0 {
                words[i] = leaf;
                missing &= !(1 << i);
            }
        });
        for_ones!(missing, i, {
            let prefix = Word(words[i]).place();
            // Not in that slot does not mean in none: another one may have the same tag, or another group the key.
            let is_sure = self.likely & 1 << i == 0 && !self.homes[i].was_passed(memory);
            words[i] = if is_sure {
                prefix
            } else {
                let found = area.find::<C>(memory, self.homes[i], keys[i].whole());
                found.unwrap_or(prefix)
            };
        });
    }
}

/// Of the addresses that are ones in a mask: those that are not known to stand before, and for each of the others one that
/// is the same and does. Few are remembered, so of many different ones some are told to be the first again.
#[inline(always)]
pub(super) fn firsts<K: Key>(keys: &[K], which: u32) -> (u32, [u8; GROUP]) {
    const SEEN_BITS: u32 = 3;
    let first = which.trailing_zeros() % 32;
    let mut firsts = 1 << first & which;
    let mut first_of = [0; GROUP];
    let mut seen = [first as u8; 1 << SEEN_BITS]; // `as`: below 32
    for i in bits(which & !firsts) {
        let mixed = keys[i].upper() ^ keys[i].whole() as u32; // `as`: the lowest bits
        let slot = (mixed.wrapping_mul(0x9e37_79b1) >> (32 - SEEN_BITS)) as usize; // `as`: u32 to index
        let before = seen[slot];
        if keys[usize::from(before) % GROUP] == keys[i] {
            first_of[i] = before;
        } else {
            seen[slot] = i as u8; // `as`: below 32
            firsts |= 1 << i;
        }
    }
    (firsts, first_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of more addresses than are remembered, of few, and of one: who is not the first leads to one that is, and is the same.
    #[test]
    fn who_stands_before_is_asked_for_once() {
        for different in [1_u8, 2, 7, 40] {
            let mut state = 7_u32;
            let keys: [[u8; 16]; GROUP] = std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut key = [0x20; 16];
                key[15] = (state >> 24) as u8 % different; // `as`: the upper eight bits
                key
            });
            for which in [u32::MAX, 0x8421_0ff0, 1 << 31, 0] {
                let (firsts, first_of) = firsts(&keys, which);
                assert_eq!(firsts & !which, 0);
                assert_eq!(firsts == 0, which == 0);
                for i in bits(which & !firsts) {
                    let first = usize::from(first_of[i]);
                    assert!(first < i && firsts >> first & 1 == 1, "{first} before {i}");
                    assert_eq!(keys[first], keys[i]);
                }
                if different == 1 {
                    assert!(firsts.count_ones() <= 1, "all are the same");
                }
            }
        }
    }
}
