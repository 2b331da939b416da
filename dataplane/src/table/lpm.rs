//! Longest-prefix match over 128-bit keys: a trie of 16 bits, then 8 bits a level, every cell pushed down to a leaf.
//!
//! Key: an IPv6 address. Value: a leaf of 31 bits; 0 means no prefix matches. Built by one thread,
//! then published and only read. Cost: one load for prefixes up to /16, one more per 8 bits; 256 KiB for the root and
//! 1 KiB per node. Insertion order does not matter. Grows without bound while built; never full.

use std::net::Ipv6Addr;

const ROOT_BITS: u8 = 16;
const STRIDE: u8 = 8;
/// A cell with this bit is the number of a node, without it a leaf.
const NODE: u32 = 1 << 31;

/// One node: 256 cells, and for each the length of the prefix that set it, which only building needs.
type Node = [u32; 256];

/// The table.
pub struct Lpm6 {
    root: Box<[u32]>,
    nodes: Vec<Node>,
    /// Length of the prefix that owns each cell, in the same layout: root first, then nodes.
    root_lengths: Box<[u8]>,
    node_lengths: Vec<[u8; 256]>,
}

impl Lpm6 {
    /// A table without a prefix.
    #[must_use]
    pub fn new() -> Self {
        let cells = 1 << ROOT_BITS;
        Self {
            root: vec![0; cells].into_boxed_slice(),
            nodes: Vec::new(),
            root_lengths: vec![0; cells].into_boxed_slice(),
            node_lengths: Vec::new(),
        }
    }

    /// Insert or replace a prefix. Bits of `network` after `length` are ignored.
    ///
    /// # Panics
    /// When `leaf` is 0 or needs more than 31 bits, or `length` is above 128: both come from our own builders.
    pub fn insert(&mut self, network: Ipv6Addr, length: u8, leaf: u32) {
        assert!(leaf != 0 && leaf < NODE, "a leaf has 31 bits and is not 0");
        assert!(length <= 128, "an IPv6 prefix has at most 128 bits");
        let key = u128::from(network);
        let index = root_index(key);
        if length <= ROOT_BITS {
            let span = 1_usize << (ROOT_BITS - length);
            let first = index & !(span - 1);
            for cell in first..first + span {
                self.set_root(cell, length, leaf);
            }
            return;
        }
        let mut node = self.child_of_root(index);
        let mut consumed = ROOT_BITS;
        while length > consumed + STRIDE {
            node = self.child_of_node(node, cell_index(key, consumed));
            consumed += STRIDE;
        }
        let span = 1_usize << (consumed + STRIDE - length);
        let first = cell_index(key, consumed) & !(span - 1);
        for cell in first..first + span {
            self.set_node(node, cell, length, leaf);
        }
    }

    /// The leaf of the longest prefix that matches an address in network order; 0 if none does.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: &[u8; 16]) -> u32 {
        let [high, low, rest @ ..] = address;
        let mut cell = self.root[usize::from(u16::from_be_bytes([*high, *low]))];
        let mut rest = rest.iter();
        while cell & NODE != 0 {
            // A chain of nodes is no longer than the address.
            let (Some(node), Some(byte)) = (self.nodes.get((cell ^ NODE) as usize), rest.next())
            else {
                return 0;
            };
            cell = node[usize::from(*byte)];
        }
        cell
    }

    /// Bytes of memory in use for lookups.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.root.len() * size_of::<u32>() + self.nodes.len() * size_of::<Node>()
    }

    fn set_root(&mut self, cell: usize, length: u8, leaf: u32) {
        if self.root[cell] & NODE != 0 {
            self.push_down(self.root[cell] ^ NODE, length, leaf);
        } else if length >= self.root_lengths[cell] {
            self.root[cell] = leaf;
            self.root_lengths[cell] = length;
        }
    }

    fn set_node(&mut self, node: u32, cell: usize, length: u8, leaf: u32) {
        let index = node as usize; // `as`: u32 to index
        if self.nodes[index][cell] & NODE != 0 {
            self.push_down(self.nodes[index][cell] ^ NODE, length, leaf);
        } else if length >= self.node_lengths[index][cell] {
            self.nodes[index][cell] = leaf;
            self.node_lengths[index][cell] = length;
        }
    }

    fn push_down(&mut self, node: u32, length: u8, leaf: u32) {
        for cell in 0..256 {
            self.set_node(node, cell, length, leaf);
        }
    }

    fn child_of_root(&mut self, cell: usize) -> u32 {
        if self.root[cell] & NODE == 0 {
            self.root[cell] = self.new_node(self.root[cell], self.root_lengths[cell]) | NODE;
        }
        self.root[cell] ^ NODE
    }

    fn child_of_node(&mut self, node: u32, cell: usize) -> u32 {
        let index = node as usize; // `as`: u32 to index
        if self.nodes[index][cell] & NODE == 0 {
            let child = self.new_node(self.nodes[index][cell], self.node_lengths[index][cell]);
            self.nodes[index][cell] = child | NODE;
        }
        self.nodes[index][cell] ^ NODE
    }

    fn new_node(&mut self, leaf: u32, length: u8) -> u32 {
        let number = u32::try_from(self.nodes.len()).expect("memory ends long before 2^31 nodes");
        self.nodes.push([leaf; 256]);
        self.node_lengths.push([length; 256]);
        number
    }
}

impl Default for Lpm6 {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn root_index(key: u128) -> usize {
    (key >> (128 - u32::from(ROOT_BITS))) as usize // `as`: the top 16 bits
}

fn cell_index(key: u128, consumed: u8) -> usize {
    (key << consumed >> 120) as usize // `as`: 8 bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The oracle: every prefix, longest match by scanning.
    #[derive(Default)]
    struct LinearScan(Vec<(u128, u8, u32)>);

    impl LinearScan {
        fn insert(&mut self, network: Ipv6Addr, length: u8, leaf: u32) {
            let key = u128::from(network) & mask(length);
            self.0.retain(|(k, l, _)| (*k, *l) != (key, length));
            self.0.push((key, length, leaf));
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

    proptest! {
        #[test]
        fn agrees_with_the_linear_scan(
            // A few distinct bits, so that prefixes nest and collide.
            prefixes in prop::collection::vec((0_u8..16, 0_u8..=128, 0_u8..8), 0..60),
            probes in prop::collection::vec((0_u8..16, 0_u8..8, 0_u8..128), 40),
        ) {
            let spread = |a: u8, b: u8| {
                (u128::from(a) * 0x1111_0101_0011_0101_1001_0101_0011_0101) ^ (u128::from(b) << 61)
            };
            let mut table = Lpm6::new();
            let mut oracle = LinearScan::default();
            for (leaf, (a, length, b)) in (1..).zip(prefixes) {
                let network = Ipv6Addr::from(spread(a, b));
                table.insert(network, length, leaf);
                oracle.insert(network, length, leaf);
            }
            for (a, b, flip) in probes {
                for key in [spread(a, b), spread(a, b) ^ (1 << flip)] {
                    prop_assert_eq!(table.lookup(&key.to_be_bytes()), oracle.lookup(key));
                }
            }
        }
    }

    #[test]
    fn nested_chain_of_every_length_in_both_orders() {
        let key = 0x2001_0db8_0123_4567_89ab_cdef_0246_8ace_u128;
        for reverse in [false, true] {
            let mut lengths: Vec<u8> = (0..=128).collect();
            if reverse {
                lengths.reverse();
            }
            let mut table = Lpm6::new();
            for length in lengths {
                table.insert(Ipv6Addr::from(key), length, u32::from(length) + 1);
            }
            for length in 0..=128_u32 {
                // A key that leaves the chain right after `length` bits.
                let probe = if length == 128 {
                    key
                } else {
                    key ^ (1 << (127 - length))
                };
                assert_eq!(table.lookup(&probe.to_be_bytes()), length + 1);
            }
        }
    }

    #[test]
    fn an_empty_table_matches_nothing() {
        assert_eq!(Lpm6::new().lookup(&[1; 16]), 0);
    }
}
