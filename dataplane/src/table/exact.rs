//! Exact match over (VRF, address): own addresses and resolved neighbours. IPv4 addresses are IPv4-mapped IPv6 ones.
//!
//! Key: 16-byte address and a 16-bit scope; value: a leaf of 32 bits, never 0. Open addressing with linear probing, at
//! most half full: 24 bytes a slot, so 48 to 96 bytes an entry; a hit costs one line, a miss one or two. Built by one
//! thread, then published and only read.

/// The table.
#[derive(Debug)]
pub struct ExactTable {
    slots: Box<[Slot]>,
    mask: usize,
    len: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: [u64; 2],
    scope: u16,
    /// 0: empty.
    leaf: u32,
}

impl ExactTable {
    /// A table of these entries; of several with one key the last counts.
    ///
    /// # Panics
    /// When a leaf is 0: leaves come from our own builders.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = ((u16, u128), u32)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        let capacity = (entries.len() * 2).next_power_of_two().max(8);
        let mut table = Self {
            slots: vec![Slot::default(); capacity].into_boxed_slice(),
            mask: capacity - 1,
            len: 0,
        };
        for ((scope, address), leaf) in entries {
            assert!(leaf != 0, "leaf 0 marks an empty slot");
            let key = split(address);
            let mut at = hash(scope, key) & table.mask;
            while table.slots[at].leaf != 0
                && (table.slots[at].scope, table.slots[at].key) != (scope, key)
            {
                at = (at + 1) & table.mask;
            }
            if table.slots[at].leaf == 0 {
                table.len += 1;
            }
            table.slots[at] = Slot { key, scope, leaf };
        }
        table
    }

    /// The leaf of `address` in `scope`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, scope: u16, address: u128) -> Option<u32> {
        let key = split(address);
        let mut at = hash(scope, key) & self.mask;
        loop {
            // Half the slots are empty, so the walk ends.
            let slot = &self.slots[at];
            if slot.leaf == 0 {
                return None;
            }
            if slot.key == key && slot.scope == scope {
                return Some(slot.leaf);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[inline]
fn split(address: u128) -> [u64; 2] {
    [(address >> 64) as u64, address as u64] // `as`: the two halves
}

/// Multiply-and-fold of both halves; the constants are odd and unrelated.
#[inline]
fn hash(scope: u16, [high, low]: [u64; 2]) -> usize {
    let mixed = u128::from(high ^ 0x9e37_79b9_7f4a_7c15 ^ u64::from(scope) << 48)
        .wrapping_mul(u128::from(low ^ 0xd1b5_4a32_d192_ed03) | 1);
    let folded = ((mixed >> 64) as u64 ^ mixed as u64).wrapping_mul(0x94d0_49bb_1331_11eb); // `as`: the two halves
    (folded >> 32) as usize // `as`: 32 bits
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_map(entries in prop::collection::vec(((0_u16..3, 0_u128..400), 1_u32..), 0..300)) {
            let table = ExactTable::new(entries.clone());
            let oracle: HashMap<_, _> = entries.into_iter().collect();
            prop_assert_eq!(table.len(), oracle.len());
            for scope in 0..4 {
                for address in 0..420 {
                    prop_assert_eq!(table.lookup(scope, address), oracle.get(&(scope, address)).copied());
                }
            }
        }
    }

    #[test]
    fn dense_neighbours_of_one_subnet_do_not_cluster() {
        let prefix = 0x2001_0db8_0001_0002_u128 << 64;
        let table =
            ExactTable::new((1..=8192_u32).map(|host| ((0, prefix | u128::from(host)), host)));
        let mut longest = 0;
        let mut run = 0;
        for slot in &table.slots {
            if slot.leaf == 0 {
                run = 0;
            } else {
                run += 1;
                longest = longest.max(run);
            }
        }
        assert!(longest < 64, "a cluster of {longest} slots");
        assert_eq!(table.lookup(0, prefix | 77), Some(77));
    }
}
