//! The large root: the first 20 bits of IPv6 in one step, or the 32 of IPv4 in two.
//!
//! A root of 2^20 cells (IPv6) or 2^24 (IPv4), by the upper bits. What is below a cell of IPv6 is for `slots` to render. A cell of
//! IPv4 is a leaf, or a *chunk*, a DIRECT node over the other bits. A chunk that is there and fine enough is changed in
//! place, cell by cell; else a new one is made aside and published by its root cell.
//!
//! It pays from a thousand prefixes on. Below that a table begins with an ordinary node over the first 16 bits; the
//! root is made when the number of prefixes passes [`super::table::Shape::large`], and goes when it falls below a quarter
//! of that. Those two changes take milliseconds: everything above bit 48, or 32, is rendered at once.

use super::cells::publish;
use super::rib::{Item, KEYS, TOP, finest};
use super::shared::Block;
use super::slot;
use super::table::Table;
use super::word::{LINE_CELLS, ROOT, Word};

/// A chunk has at least 64 cells: that is how its place is counted.
const CHUNK_BITS_MIN: u32 = 6;

impl Table {
    /// Bits below a root cell.
    fn slot_bits(&self) -> u32 {
        32 - self.shape.root_bits
    }

    /// The root cell of a key of the second 16 bits below a key of the first.
    fn root_cell(&self, root: u32, first: u32, second: u32) -> u32 {
        root * LINE_CELLS + ((first << 16 | second) >> self.slot_bits())
    }

    fn root_lines(&self) -> u32 {
        let behind = if self.shape.has_slots() {
            slot::NEVER_LINES
        } else {
            0
        };
        (1 << self.shape.root_bits) / LINE_CELLS + behind
    }

    pub(super) fn word_in(&self, cell: u32) -> Word {
        Word(
            self.memory()
                .cell(cell)
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    }

    /// The root cells of keys of the first 16 bits, but those that have a node of their own.
    pub(super) fn render_root(&mut self, from: u32, to: u32) {
        let Some(root) = self.root else { return };
        let top = self.rib.node(TOP);
        let cover = top.covering(from, 16, from);
        let mut keys = Vec::new();
        self.rib.paint(
            TOP,
            top.slice(from, 0, to),
            (from, to),
            cover,
            |from, to, word| {
                keys.push((from, to, word));
            },
        );
        for (from, to, word) in keys {
            if self.rib.child(TOP, from).is_some() {
                continue;
            }
            for cell in self.root_cell(root, from, 0)..=self.root_cell(root, to - 1, KEYS - 1) {
                self.set_root_cell(cell, word);
            }
        }
    }

    fn set_root_cell(&mut self, cell: u32, word: Word) {
        if self.shape.has_slots() {
            self.set_slot(cell, word);
            return;
        }
        let old = self.word_in(cell);
        if old != word {
            publish(self.memory().cell(cell), word.0);
            self.retire_node(old, self.slot_bits());
        }
    }

    /// The root cells of the key `first`, and what is below them, for keys `from..to` of its node.
    pub(super) fn render_chunks(&mut self, first: u32, number: u32, from: u32, to: u32) {
        let Some(root) = self.root else { return };
        let size = 1 << self.slot_bits();
        let (first_key, end) = (from & !(size - 1), to.next_multiple_of(size));
        let node = self.rib.node(number);
        let cover = node.covering(first_key, 16, first_key);
        let mut answers = Vec::new();
        self.rib.paint(
            number,
            node.slice(first_key, 0, end),
            (first_key, end),
            cover,
            |from, to, word| answers.push((from, to, word)),
        );
        let mut base = first_key;
        for (start, end, word) in answers {
            while base < end {
                let cell = self.root_cell(root, first, base);
                if base >= start && base + size <= end {
                    self.set_root_cell(cell, word);
                } else {
                    // Some answer begins or ends within the slot: it has a chunk or a line.
                    let keys = (from.max(base), to.min(base + size));
                    self.render_chunk(cell, number, base, keys);
                }
                base += size;
            }
        }
    }

    fn render_chunk(&mut self, cell: u32, number: u32, base: u32, (from, to): (u32, u32)) {
        let bits = self.slot_bits();
        let above = 16 - bits;
        let node = self.rib.node(number);
        let end = base + (1 << bits);
        let items = node.slice(base, above, end);
        let old = self.word_in(cell);
        let cover = || node.covering(base, above, KEYS);
        let word = if items.is_empty() {
            Word::leaf(cover(), false)
        } else {
            let shift = bits - finest_below(items, above).max(CHUNK_BITS_MIN);
            if old.is_direct() && old.shift() == shift {
                let unit = (1 << shift) - 1;
                let (from, to) = (from & !unit, (to + unit) & !unit);
                let cover = node.covering(from, 16, from);
                let items = node.slice(from, 0, to);
                self.store_cells(old, number, items, (from, to), cover);
                return;
            }
            let cover = cover();
            let line = self.take((1 << (bits - shift)) / LINE_CELLS);
            let word = Word::direct(line, shift);
            let items = self.rib.node(number).slice(base, above, end);
            self.store_cells(word, number, items, (base, end), cover);
            word
        };
        self.set_root_cell(cell, word);
    }

    /// Make the large root aside, with all above bit 32, and publish it.
    pub(super) fn enlarge(&mut self) {
        self.region().leave_small_pages();
        let lines = self.root_lines();
        let root = self.take(lines);
        let memory = self.memory();
        for cell in root * LINE_CELLS..(root + lines) * LINE_CELLS {
            memory
                .cell(cell)
                .store(0, std::sync::atomic::Ordering::Relaxed);
        }
        if self.shape.has_slots() {
            slot::write_never(memory, root * LINE_CELLS);
        }
        // Nodes of the first levels are no longer walked.
        for number in self.top_nodes() {
            let node = self.rib.node_mut(number);
            let old = std::mem::replace(&mut node.word, Word(0));
            self.retire_node(old, 16);
        }
        self.root = Some(root);
        self.render_root(0, KEYS);
        for number in self.level_one() {
            self.render(number, 0, KEYS);
        }
        self.publish_head(Word::node(ROOT, root));
    }

    /// Walk from an ordinary node again, and retire the large root.
    pub(super) fn reduce(&mut self) {
        let Some(root) = self.root.take() else { return };
        for number in self.top_nodes().into_iter().rev() {
            self.render(number, 0, KEYS);
        }
        self.publish_head(self.rib.node(TOP).word);
        self.retire_root(root);
    }

    /// Retire a root that is no longer published, and its chunks.
    pub(super) fn retire_root(&mut self, root: u32) {
        for block in self.blocks_below(root) {
            self.retire(block);
        }
    }

    /// The blocks of the root and its chunks.
    pub(super) fn blocks_of_root(&self) -> Vec<Block> {
        self.root
            .map_or_else(Vec::new, |root| self.blocks_below(root))
    }

    fn blocks_below(&self, root: u32) -> Vec<Block> {
        let lines = self.root_lines();
        let mut blocks = vec![Block { line: root, lines }];
        let first = root * LINE_CELLS;
        for cell in first..first + (1 << self.shape.root_bits) {
            let word = self.word_in(cell);
            if self.shape.has_slots() {
                self.blocks_below_slot(word, &mut blocks);
            } else {
                blocks.extend(self.block_of(word, self.slot_bits()));
            }
        }
        blocks
    }

    /// The nodes of the levels that are part of the large root when there is one, parents before children.
    fn top_nodes(&self) -> Vec<u32> {
        let mut nodes = self.rib.subtree(TOP);
        nodes.retain(|number| self.rib.node(*number).level < self.shape.top_levels());
        nodes
    }

    fn level_one(&self) -> Vec<u32> {
        let children = self.rib.items(TOP).iter();
        children.filter_map(|item| item.child()).collect()
    }
}

/// The finest length of items below a root cell, counted from there.
fn finest_below(items: &[Item], above: u32) -> u32 {
    finest(items) - above
}
