//! The writer: changes the trie of prefixes, and rebuilds and publishes what readers see of the part that changed.
//!
//! One change touches one node of the trie, and all below it that inherit from the prefix. Those are rendered from below
//! upwards, aside; then one store leads readers there. If the node keeps its place in its parent (a node was replaced by
//! a node) that store goes into the parent's cell; else the parent is rendered again, and so on upwards. A DIRECT node,
//! and what stands below the large root (`top`), is changed in place, cell by cell.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::Grace;
use super::cells::publish;
use super::hosts::{EmptySlot, Hosts, Inserted};
use super::memory::Memory;
use super::node::{self, BROAD_RANGES, INDEX_RANGES, LINE_RANGES, Portable, Range, cell_of};
use super::retired::Retired;
use super::rib::{KEYS, Node, Rib, TOP};
use super::shared::{Arena, Block, Head, Region, Shared};
use super::slot;
use super::word::{BROAD, INDEX, LEAF_MAX, LINE, LINE_CELLS, Word};

/// A node with more items is DIRECT without counting its ranges.
const DENSE: usize = 2048;
/// The level at which host routes are marked: below it answers ask the host table.
const HOST_LEVEL: u32 = 2;

/// What differs between the families.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bits of an address. All of it 16 at a time.
    pub address_bits: u32,
    /// Bits of the large root: the first level of a table with many prefixes.
    pub root_bits: u32,
    /// Prefixes from which on the large root pays.
    pub large: usize,
    /// Whether addresses in full stand in the host table.
    pub has_hosts: bool,
}

impl Shape {
    /// Whether the cells of its large root lead to ranges of the next 28 bits (`slot`), or to cells alone.
    pub(super) fn has_slots(self) -> bool {
        self.address_bits > 32
    }

    /// Levels of the trie that are part of the large root: their nodes have none of their own for readers.
    pub(super) fn top_levels(self) -> u32 {
        if self.has_slots() { 3 } else { 2 }
    }
}

/// What was taken out of readers' sight.
pub(super) enum Gone {
    Block(Block),
    HostSlot(EmptySlot),
}

/// The writer's half of a table.
pub(super) struct Table {
    pub(super) shape: Shape,
    pub(super) shared: Arc<Shared>,
    pub(super) rib: Rib,
    pub(super) hosts: Hosts,
    retired: Retired<Gone>,
    /// Prefixes, host routes included.
    pub(super) len: usize,
    /// The first line of the large root.
    pub(super) root: Option<u32>,
    /// Bytes of blocks in use or retired.
    pub(super) bytes: usize,
    pub(super) ranges: Vec<Range>,
    pub(super) slot_ranges: Vec<slot::Range>,
    /// What is published of a small table, and its block.
    pub(super) few: Vec<(u64, Word)>,
    pub(super) few_block: Option<Block>,
}

impl Table {
    pub fn new(arena: &Arena, shape: Shape) -> Self {
        let head = Head {
            top: Word(0),
            hosts: Default::default(),
            staged: false,
        };
        let seed = RandomState::new().hash_one(0);
        Self {
            shape,
            shared: Arc::new(Shared::new(arena, head, seed)),
            rib: Rib::new(shape.has_slots()),
            hosts: Hosts::default(),
            retired: Retired::new(),
            len: 0,
            root: None,
            bytes: LINE_CELLS as usize * size_of::<u32>(), // `as`: u32 to usize
            ranges: Vec::new(),
            slot_ranges: Vec::new(),
            few: Vec::new(),
            few_block: None,
        }
    }

    /// Set a prefix's leaf: `address` starts at the upper bit, bits after `length` are ignored.
    pub fn insert(&mut self, address: u128, length: u32, leaf: u32) -> Option<u32> {
        assert!(
            leaf != 0 && leaf <= LEAF_MAX,
            "a leaf has 28 bits and is not 0"
        );
        assert!(length <= self.shape.address_bits, "longer than an address");
        let old = if length == 128 && self.shape.has_hosts {
            self.insert_host(address, leaf)
        } else {
            self.insert_prefix(address, length, leaf)
        };
        if old.is_none() {
            self.len += 1;
            if self.root.is_none() && self.len >= self.shape.large {
                self.enlarge();
            }
        }
        self.publish_ranges();
        self.settle();
        old
    }

    /// Remove a prefix.
    pub fn remove(&mut self, address: u128, length: u32) -> Option<u32> {
        assert!(length <= self.shape.address_bits, "longer than an address");
        let old = if length == 128 && self.shape.has_hosts {
            self.remove_host(address)
        } else {
            self.remove_prefix(address, length)
        }?;
        self.len -= 1;
        if self.root.is_some() && self.len < self.shape.large.div_ceil(4) {
            self.reduce();
        }
        self.publish_ranges();
        self.settle();
        Some(old)
    }

    /// The leaf of exactly this prefix.
    pub fn leaf(&self, address: u128, length: u32) -> Option<u32> {
        if length == 128 && self.shape.has_hosts {
            return self.hosts.leaf(self.memory(), self.shared.seed, address);
        }
        if length == 0 {
            let leaf = self.rib.node(TOP).inherited;
            return (leaf != 0).then_some(leaf);
        }
        let (node, start, code) = self.place(address, length)?;
        self.rib.leaf(node, start, code)
    }

    fn insert_prefix(&mut self, address: u128, length: u32, leaf: u32) -> Option<u32> {
        if length == 0 {
            let old = self.rib.node(TOP).inherited;
            self.set_default(leaf);
            return (old != 0).then_some(old);
        }
        let level = (length - 1) / 16;
        let node = self.descend(address, level);
        let (start, code) = within(address, length);
        let old = self.rib.set(node, start, code, leaf);
        if old != Some(leaf) {
            self.changed(node, start, code);
        }
        old
    }

    fn remove_prefix(&mut self, address: u128, length: u32) -> Option<u32> {
        if length == 0 {
            let old = self.rib.node(TOP).inherited;
            self.set_default(0);
            return (old != 0).then_some(old);
        }
        let (node, start, code) = self.place(address, length)?;
        let old = self.rib.unset(node, start, code)?;
        self.changed(node, start, code);
        Some(old)
    }

    fn insert_host(&mut self, address: u128, leaf: u32) -> Option<u32> {
        let seed = self.shared.seed;
        loop {
            let memory = self.shared.memory();
            match self.hosts.insert(memory, seed, address, leaf) {
                Inserted::Replaced(old) => return Some(old),
                Inserted::New => break,
                Inserted::Full => self.resize_hosts(self.hosts.len + self.hosts.len / 5 * 2 + 1),
            }
        }
        // Found from now on where its prefix is marked; if it is not, mark it.
        let node = self.host_node(address);
        self.rib.node_mut(node).hosts += 1;
        if self.rib.node(node).hosts == 1 {
            self.mark_hosted(node, true);
        }
        None
    }

    fn remove_host(&mut self, address: u128) -> Option<u32> {
        let memory = self.shared.memory();
        let (old, slot) = self.hosts.remove(memory, self.shared.seed, address)?;
        self.retired.push(Gone::HostSlot(slot));
        let node = self.host_node(address);
        self.rib.node_mut(node).hosts -= 1;
        if self.rib.node(node).hosts == 0 {
            self.mark_hosted(node, false);
        }
        if self.hosts.len == 0 || self.hosts.is_sparse() {
            self.resize_hosts(self.hosts.len);
        }
        Some(old)
    }

    fn resize_hosts(&mut self, entries: u32) {
        let region = self.shared.region();
        let new = if entries == 0 {
            Hosts::default()
        } else {
            self.hosts.rebuilt(region, self.shared.seed, entries)
        };
        self.bytes += new.block().map_or(0, bytes);
        let old = std::mem::replace(&mut self.hosts, new);
        let top = self.shared.version().top(self.memory());
        self.publish_head(top);
        if let Some(block) = old.block() {
            self.retire(block);
        }
    }

    /// Publish a head with this top word and the rest as it is now.
    pub(super) fn publish_head(&mut self, top: Word) {
        let head = Head {
            top,
            hosts: self.hosts.area,
            staged: self.root.is_some(),
        };
        let old = self.shared.publish_head(head);
        self.bytes += bytes(old);
        self.retire(old);
    }

    /// Answers below a node at the host level ask the host table, or no longer do.
    fn mark_hosted(&mut self, node: u32, hosted: bool) {
        let below = self.rib.subtree(node);
        for number in below.iter().rev() {
            self.rib.node_mut(*number).hosted = hosted;
            self.render(*number, 0, KEYS);
        }
        self.announce(node, None);
    }

    fn set_default(&mut self, leaf: u32) {
        self.rib.node_mut(TOP).inherited = leaf;
        self.inherit(TOP, 0, KEYS);
        self.refresh(TOP, 0, KEYS);
    }

    /// A prefix of a node came, changed or went.
    fn changed(&mut self, node: u32, start: u32, code: u32) {
        let end = start + (KEYS >> code);
        self.inherit(node, start, end);
        self.refresh(node, start, end);
    }

    /// Hand what children between these keys inherit down to them, and render those that change.
    fn inherit(&mut self, node: u32, from: u32, to: u32) {
        let mut children = Vec::new();
        self.rib.children(node, from, to, &mut children);
        for (child, leaf) in children {
            if self.rib.node(child).inherited != leaf {
                self.rib.node_mut(child).inherited = leaf;
                self.inherit(child, 0, KEYS);
                // Below the root of IPv6 a node is rendered with the one above it.
                if !(self.is_top(2) && self.rib.node(child).level == 2) {
                    self.render(child, 0, KEYS);
                }
            }
        }
    }

    /// Render a node whose items between these keys changed, and lead readers there.
    fn refresh(&mut self, node: u32, from: u32, to: u32) {
        let before = self.rib.node(node).word;
        self.render(node, from, to);
        self.announce(node, Some(before));
    }

    /// Lead readers to what was rendered for a node; `before` is what they find there now, if the parent has it right.
    fn announce(&mut self, number: u32, before: Option<Word>) {
        let node = self.rib.node(number);
        let Node {
            parent,
            start,
            word,
            level,
            ..
        } = *node;
        if number != TOP && node.item_count() == 0 && node.hosts == 0 {
            self.rib.remove_child(number);
            self.refresh(parent, start, start + 1);
        } else if self.is_top(level) || before == Some(word) {
            // Changed in place, or not at all.
        } else if number == TOP {
            self.shared.publish_top(word);
        } else if word.is_node() && before.is_some_and(Word::is_node) {
            let cell = self.cell_in(parent, start);
            publish(self.memory().cell(cell), word.0);
        } else {
            self.refresh(parent, start, start + 1);
        }
    }

    /// Whether nodes of this level are part of the large root.
    fn is_top(&self, level: u32) -> bool {
        self.root.is_some() && level < self.shape.top_levels()
    }

    /// The cell that leads to the child of a node at a key.
    fn cell_in(&self, node: u32, key: u32) -> u32 {
        let Node { level, word, .. } = *self.rib.node(node);
        match self.root {
            // All others of the large root have no child with a word.
            Some(root) if self.is_top(level) => self.cell_below_slot(root, node, key),
            _ => cell_of::<Portable>(self.memory(), word, low16(key)),
        }
    }

    /// Make what readers see of a node, of whose items those between two keys changed. What it replaces is retired; a
    /// DIRECT node is changed in place where that is possible.
    pub(super) fn render(&mut self, number: u32, from: u32, to: u32) {
        let node = self.rib.node(number);
        let (level, start, old) = (node.level, node.start, node.word);
        if self.is_top(level) {
            let (third, parent) = (0xffff, node.parent);
            match level {
                0 => self.render_root(from, to),
                1 if self.shape.has_slots() => {
                    self.render_slots_between(start, from << 16, (to - 1) << 16 | third);
                }
                1 => self.render_chunks(start, number, from, to),
                _ => {
                    let first = self.rib.node(parent).start;
                    self.render_slots_between(first, start << 16 | from, start << 16 | (to - 1));
                }
            }
            return;
        }
        let mut ranges = std::mem::take(&mut self.ranges);
        let word = self.render_node(number, from, to, &mut ranges);
        self.ranges = ranges;
        if word != old {
            self.rib.node_mut(number).word = word;
            self.retire_node(old, 16);
        }
    }

    fn render_node(&mut self, number: u32, from: u32, to: u32, ranges: &mut Vec<Range>) -> Word {
        let node = self.rib.node(number);
        let items = self.rib.items(number);
        let inherited = node.inherited;
        let is_dense = items.len() > DENSE;
        if !is_dense {
            self.rib.ranges(number, items, (0, KEYS), inherited, ranges);
            let most = if stand_apart(items.len(), ranges.len()) {
                BROAD_RANGES
            } else {
                INDEX_RANGES
            };
            if ranges.len() <= most {
                return self.write_ranges(ranges);
            }
        }
        // A cell for each key, even if fewer would do: a finer prefix then never means another node.
        if node.word.is_direct() {
            let cover = node.covering(from, 16, from);
            let items = node.slice(from, 0, to);
            self.store_cells(node.word, number, items, (from, to), cover);
            return node.word;
        }
        let line = self.take(KEYS / LINE_CELLS);
        let word = Word::direct(line, 0);
        let items = self.rib.items(number);
        self.store_cells(word, number, items, (0, KEYS), inherited);
        word
    }

    /// Store the cells of a DIRECT node, or a part of it that begins and ends at whole cells. Published one by one: each
    /// may be seen at once if the node already is.
    pub(super) fn store_cells(
        &self,
        direct: Word,
        number: u32,
        items: &[super::rib::Item],
        keys: (u32, u32),
        cover: u32,
    ) {
        let (first, shift) = (direct.direct_cell(), direct.shift());
        let memory = self.memory();
        // Below the large root a chunk has cells for its part of the keys only.
        let base = keys.0 & !self.chunk_mask(self.rib.node(number).level);
        self.rib
            .paint(number, items, keys, cover, |from, to, word| {
                for index in (from - base) >> shift..(to - base) >> shift {
                    publish(memory.cell(first + index), word.0);
                }
            });
    }

    /// The bits of a key that count within a DIRECT node of a level.
    fn chunk_mask(&self, level: u32) -> u32 {
        if self.is_top(level) {
            (1 << (32 - self.shape.root_bits)) - 1
        } else {
            KEYS - 1
        }
    }

    /// A LINE, INDEX or BROAD of these ranges; one range alone needs no node.
    fn write_ranges(&mut self, ranges: &[Range]) -> Word {
        if let [(_, word)] = ranges {
            return *word;
        }
        if ranges.len() <= LINE_RANGES {
            let line = self.take(1);
            node::write_line(self.memory(), line, ranges);
            return Word::node(LINE, line);
        }
        if ranges.len() <= INDEX_RANGES {
            let line = self.take(node::index_lines(ranges.len()));
            node::write_index(self.memory(), line, ranges);
            return Word::node(INDEX, line);
        }
        let line = self.take(node::broad_lines(ranges.len()));
        node::write_broad(self.memory(), line, ranges);
        Word::node(BROAD, line)
    }

    /// Put a prefix, not the default, into the trie alone.
    pub(super) fn set(&mut self, address: u128, length: u32, leaf: u32) {
        let node = self.descend(address, (length - 1) / 16);
        let (start, code) = within(address, length);
        self.rib.set(node, start, code, leaf);
    }

    /// The node that counts the hosts of an address.
    pub(super) fn host_node(&mut self, address: u128) -> u32 {
        self.descend(address, HOST_LEVEL)
    }

    /// The node of the trie at a level on an address's way, made with those above it if it is not there.
    fn descend(&mut self, address: u128, level: u32) -> u32 {
        let mut node = TOP;
        for above in 0..level {
            node = self.rib.child_or_new(node, key_at(address, above));
        }
        node
    }

    /// Where a prefix stands, if its node exists: node, first key, length within the node.
    fn place(&self, address: u128, length: u32) -> Option<(u32, u32, u32)> {
        let mut node = TOP;
        for above in 0..(length - 1) / 16 {
            node = self.rib.child(node, key_at(address, above))?;
        }
        let (start, code) = within(address, length);
        Some((node, start, code))
    }

    pub(super) fn memory(&self) -> &Memory {
        self.shared.memory()
    }

    pub(super) fn region(&self) -> &Region {
        self.shared.region()
    }

    pub(super) fn take(&mut self, lines: u32) -> u32 {
        let line = self.region().take(lines);
        self.bytes += bytes(Block { line, lines });
        line
    }

    /// The block of a node, if the word is one; `bits` of the key count in a DIRECT node at its place.
    pub(super) fn block_of(&self, word: Word, bits: u32) -> Option<Block> {
        let lines = node::lines_of(self.memory(), word, bits);
        let line = if word.is_direct() {
            word.direct_cell() / LINE_CELLS
        } else {
            word.place()
        };
        (lines > 0).then_some(Block { line, lines })
    }

    pub(super) fn retire_node(&mut self, word: Word, bits: u32) {
        if let Some(block) = self.block_of(word, bits) {
            self.retire(block);
        }
    }

    pub(super) fn retire(&mut self, block: Block) {
        self.retired.push(Gone::Block(block));
    }

    /// Without readers nothing has to wait.
    pub(super) fn settle(&mut self) {
        if self.retired.len() > 0 && Arc::get_mut(&mut self.shared).is_some() {
            self.retired.seal(0);
            self.free_passed(u64::MAX);
        }
    }

    /// See [`super::Lpm6::reclaim`].
    pub fn reclaim(&mut self, grace: &mut impl Grace) -> usize {
        if self.retired.has_unmarked() {
            self.retired.seal(grace.mark());
        }
        if self.retired.len() > 0 {
            self.free_passed(grace.passed());
        }
        self.retired.len()
    }

    fn free_passed(&mut self, passed: u64) {
        while let Some(gone) = self.retired.pop(passed) {
            match gone {
                Gone::Block(block) => {
                    self.bytes -= bytes(block);
                    self.shared.region().give_back(block);
                }
                Gone::HostSlot(slot) => self.hosts.free(self.shared.memory(), slot),
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut blocks = self.blocks();
        while let Some(gone) = {
            self.retired.seal(0);
            self.retired.pop(u64::MAX)
        } {
            if let Gone::Block(block) = gone {
                blocks.push(block);
            }
        }
        self.shared.leave(blocks);
    }
}

/// Whether most of the items of a node with so many ranges have a gap behind them. Those in rows, as most of a dense node in
/// the Internet's table, are quicker found in a cell for each key.
fn stand_apart(items: usize, ranges: usize) -> bool {
    ranges * 4 > items * 7
}

pub(super) fn bytes(block: Block) -> usize {
    block.lines as usize * super::memory::LINE_BYTES // `as`: u32 to usize
}

/// The 16 bits of an address at a level.
pub(super) fn key_at(address: u128, level: u32) -> u32 {
    u32::from(low16((address >> (112 - 16 * level)) as u32)) // `as`: the lower bits
}

/// First key and length of a prefix, not the default, within its node.
fn within(address: u128, length: u32) -> (u32, u32) {
    let level = (length - 1) / 16;
    let code = length - 16 * level;
    (key_at(address, level) & !((KEYS >> code) - 1), code)
}

pub(super) fn low16(key: u32) -> u16 {
    key as u16 // `as`: the lower 16 bits
}
