//! Many prefixes at once: a table is built aside and published by one store.

use super::hosts::{Hosts, Inserted};
use super::rib::{KEYS, Rib, TOP};
use super::shared::Block;
use super::table::{Table, bytes};
use super::word::{LEAF_MAX, Word};

/// Bulk loading builds anew when at least a fourth as many prefixes come as there are.
const REBUILD_FROM: usize = 4;

/// A prefix as the writer takes it: the address from its upper bit, the length, the leaf.
pub(super) type Entry = (u128, u32, u32);

impl Table {
    /// Insert or replace many prefixes; of several leaves for one prefix the last counts.
    pub fn load(&mut self, mut entries: Vec<Entry>) {
        if entries.len() * REBUILD_FROM < self.len {
            for (address, length, leaf) in entries {
                self.insert(address, length, leaf);
            }
            return;
        }
        let mut all = self.entries();
        if all.is_empty() {
            all = entries;
        } else {
            all.append(&mut entries);
        }
        self.replace(all);
    }

    /// Make these the only prefixes; of several leaves for one prefix the last counts. Readers see all old or all new
    /// ones.
    pub fn replace(&mut self, entries: Vec<Entry>) {
        let entries = self.in_order(entries);
        let old = self.blocks_in_sight();
        (self.few, self.few_block) = (Vec::new(), None);
        self.build(&entries);
        self.publish_ranges();
        for block in old {
            self.retire(block);
        }
        self.settle();
    }

    /// Sorted by address, shorter first, without bits after the length, one of each.
    fn in_order(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        for (address, length, leaf) in &mut entries {
            assert!(
                *leaf != 0 && *leaf <= LEAF_MAX,
                "a leaf has 28 bits and is not 0"
            );
            assert!(*length <= self.shape.address_bits, "longer than an address");
            *address &= u128::MAX.checked_shl(128 - *length).unwrap_or(0);
        }
        // The sort is stable: of equal prefixes the last stays last.
        if !entries.is_sorted_by_key(|(address, length, _)| (*address, *length)) {
            entries.sort_by_key(|(address, length, _)| (*address, *length));
        }
        entries.dedup_by(|later, kept| {
            let same = (later.0, later.1) == (kept.0, kept.1);
            if same {
                kept.2 = later.2;
            }
            same
        });
        entries
    }

    fn build(&mut self, entries: &[Entry]) {
        let is_host = |length: u32| self.shape.has_hosts && length == 128;
        let hosts = entries.iter().filter(|entry| is_host(entry.1)).count();
        let hosts = u32::try_from(hosts).expect("memory ends before 2^32 hosts");
        let is_large = entries.len() >= self.shape.large;
        self.rib = Rib::new(self.shape.has_slots());
        self.root = None;
        self.hosts = Hosts::default();
        self.len = entries.len();
        if is_large {
            self.region().leave_small_pages();
        }
        if hosts > 0 {
            self.hosts = self.hosts_of(entries, hosts);
            self.bytes += self.hosts.block().map_or(0, bytes);
        }
        for (address, length, leaf) in entries {
            self.note(*address, *length, *leaf);
        }
        // Parents before children: what is inherited goes down, what is rendered goes up.
        let order = self.rib.subtree(TOP);
        let mut children = Vec::new();
        for number in &order {
            let hosted = self.rib.node(*number).hosted || self.rib.node(*number).hosts > 0;
            self.rib.node_mut(*number).hosted = hosted;
            self.rib.children(*number, 0, KEYS, &mut children);
            for (child, leaf) in &children {
                let child = self.rib.node_mut(*child);
                child.inherited = *leaf;
                child.hosted = hosted;
                child.word = Word::leaf(*leaf, hosted);
            }
        }
        for number in order.iter().rev() {
            if !is_large || self.rib.node(*number).level >= self.shape.top_levels() {
                self.render(*number, 0, KEYS);
            }
        }
        if is_large {
            self.enlarge();
        } else {
            self.publish_head(self.rib.node(TOP).word);
        }
    }

    /// Put a prefix, or the mark of a host, into the trie.
    fn note(&mut self, address: u128, length: u32, leaf: u32) {
        if length == 0 {
            self.rib.node_mut(TOP).inherited = leaf;
            self.rib.node_mut(TOP).word = Word::leaf(leaf, false);
        } else if length == 128 && self.shape.has_hosts {
            let node = self.host_node(address);
            self.rib.node_mut(node).hosts += 1;
        } else {
            self.set(address, length, leaf);
        }
    }

    fn hosts_of(&self, entries: &[Entry], count: u32) -> Hosts {
        let (region, seed) = (self.region(), self.shared.seed);
        let mut room = count + count / 16;
        loop {
            let mut hosts = Hosts::sized(region, room);
            let mut addresses = entries.iter().filter(|entry| entry.1 == 128);
            let fits = addresses.all(|(address, _, leaf)| {
                let inserted = hosts.insert(&region.memory, seed, *address, *leaf);
                matches!(inserted, Inserted::New)
            });
            if fits {
                return hosts;
            }
            if let Some(block) = hosts.block() {
                region.give_back(block);
            }
            room += room / 4 + 1;
        }
    }

    /// Every prefix, as they are loaded.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.len);
        let default = self.rib.node(TOP).inherited;
        if default != 0 {
            entries.push((0, 0, default));
        }
        self.rib
            .visit(|address, length, leaf| entries.push((address, length, leaf)));
        self.hosts.visit(self.memory(), |address, leaf| {
            entries.push((address, 128, leaf))
        });
        entries
    }

    /// All blocks of what is published, but not the head.
    fn blocks_in_sight(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = self
            .hosts
            .block()
            .into_iter()
            .chain(self.few_block)
            .collect();
        for number in self.rib.subtree(TOP) {
            blocks.extend(self.block_of(self.rib.node(number).word, 16));
        }
        blocks.extend(self.blocks_of_root());
        blocks
    }

    /// All blocks the table holds, but those retired.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = self.blocks_in_sight();
        blocks.push(self.shared.head_block());
        blocks
    }
}
