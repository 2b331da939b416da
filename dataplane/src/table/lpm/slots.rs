//! The writer's half of `slot`: what stands below the cells of the large IPv6 root, rendered from the trie.
//!
//! A slot is a cell of the root: the prefixes of a /20. One of few items is one node, made anew with each change. Where they
//! are more it is a chunk, and a change makes the nodes of those of its parts anew that it touches. How finely a chunk
//! divides its keys follows from the number of items alone, so that the same prefixes always take the same memory: a
//! change after which they are one too many or too few for it makes the chunk anew.

use std::sync::atomic::Ordering::Relaxed;

use super::cells::publish;
use super::node::Portable;
use super::rib::Answer;
use super::shared::Block;
use super::slot::{self, BROAD_RANGES, KEY_BITS, KEY_MASK, PART_ITEMS, Range};
use super::table::Table;
use super::word::{LINE_CELLS, Word};

/// Bits of a key of the third 16.
const THIRD: u32 = 16;
const THIRD_MASK: u32 = (1 << THIRD) - 1;
/// Items of the largest slot that is one node.
const SLOT_ITEMS: u32 = 120;

/// The keys of a part: those from `start` on that differ in the last `bits`. The upper four bits are the slot's.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u32,
    bits: u32,
}

impl Part {
    fn last(self) -> u32 {
        self.start | ((1 << self.bits) - 1)
    }

    fn is_slot(self) -> bool {
        self.bits == KEY_BITS
    }

    /// Of the parts of so many bits that this one is divided into, the one of a number.
    fn below(self, number: u32, bits: u32) -> Self {
        let start = self.start + (number << bits);
        Self { start, bits }
    }
}

impl Table {
    /// What is below the large root for the addresses that begin with `first`, and go on with 32 bits between two keys.
    pub(super) fn render_slots_between(&mut self, first: u32, from: u32, last: u32) {
        let (Some(root), Some(node)) = (self.root, self.rib.child(super::rib::TOP, first)) else {
            return;
        };
        for number in from >> KEY_BITS..=last >> KEY_BITS {
            let slot = Part {
                start: number << KEY_BITS,
                bits: KEY_BITS,
            };
            let cell = root * LINE_CELLS + (first << (32 - KEY_BITS) | number);
            let keys = (from.max(slot.start), last.min(slot.last()));
            self.render_part(cell, node, slot, keys);
        }
    }

    /// Let the root lead to a leaf alone.
    pub(super) fn set_slot(&mut self, cell: u32, word: Word) {
        let slot = Part {
            start: 0,
            bits: KEY_BITS,
        };
        self.set_part(cell, word, slot);
    }

    /// Lead readers from a cell of the root or of a chunk to another node; the old one is retired.
    fn set_part(&mut self, cell: u32, word: Word, part: Part) {
        let old = self.word_in(cell);
        if old == word {
            return;
        }
        publish(self.memory().cell(cell), word.0);
        let mut blocks = Vec::new();
        slot::blocks(
            self.memory(),
            old,
            part.start & KEY_MASK,
            part.bits,
            &mut blocks,
        );
        for block in blocks {
            self.retire(block);
        }
    }

    /// What a cell leads to for a part, of which some keys changed.
    fn render_part(&mut self, cell: u32, node: u32, part: Part, (from, last): (u32, u32)) {
        let old = self.word_in(cell);
        let below = self.divided(node, part);
        if let Some(bits) = below
            && old.is_direct()
            && old.slot_shift() == bits
        {
            for number in (from - part.start) >> bits..=(last - part.start) >> bits {
                let part = part.below(number, bits);
                let keys = (from.max(part.start), last.min(part.last()));
                let cell = slot::chunk_cell(old, part.start & KEY_MASK);
                self.render_part(cell, node, part, keys);
            }
            return;
        }
        let mut ranges = std::mem::take(&mut self.slot_ranges);
        self.collect(node, part, &mut ranges);
        let word = self.write_part(&ranges, node, part);
        self.slot_ranges = ranges;
        self.set_part(cell, word, part);
    }

    /// Bits of the parts that a part is divided into, if its items are so many.
    fn divided(&self, node: u32, part: Part) -> Option<u32> {
        // Of so few keys there are not more prefixes, of all lengths together.
        if 1 << (part.bits + 1) <= PART_ITEMS {
            return None;
        }
        let items = self.items_in(node, part);
        let most = if part.is_slot() {
            SLOT_ITEMS
        } else {
            PART_ITEMS
        };
        (items > most).then(|| part.bits - slot::chunk_bits(items, part.bits))
    }

    /// Items of a part; a child counts as one, and its own.
    fn items_in(&self, node: u32, part: Part) -> u32 {
        let second = self.rib.node(node);
        if part.is_slot() {
            return second.slot_items(part.start >> KEY_BITS);
        }
        let (from, last) = (part.start >> THIRD, part.last() >> THIRD);
        let items = if part.bits > THIRD {
            let items = second.slice(from, 0, last + 1).iter();
            let below = |child| self.rib.node(child).item_count();
            items.map(|item| 1 + item.child().map_or(0, below)).sum()
        } else if let Some(child) = self.rib.child(node, from) {
            let (from, last) = (part.start & THIRD_MASK, part.last() & THIRD_MASK);
            self.rib.node(child).slice(from, 0, last + 1).len()
        } else {
            0
        };
        u32::try_from(items).expect("memory ends before 2^32 items")
    }

    /// A node of these ranges, or a chunk of nodes; one range alone needs none. The last range may reach beyond the part.
    fn write_part(&mut self, ranges: &[Range], node: u32, part: Part) -> Word {
        let bits = match self.divided(node, part) {
            Some(bits) => bits,
            None if ranges.len() > BROAD_RANGES => {
                part.bits - slot::chunk_bits(PART_ITEMS, part.bits)
            }
            None => {
                if let [(_, word)] = ranges {
                    return *word;
                }
                let line = self.take(slot::lines(ranges.len()));
                return slot::write(self.memory(), line, ranges);
            }
        };
        let count = 1 << (part.bits - bits);
        let line = self.take(count / LINE_CELLS);
        let mut rest = ranges;
        for number in 0..count {
            let below = part.below(number, bits);
            let last = below.last() & KEY_MASK;
            let before_last = rest.partition_point(|range| range.0 < last);
            let word = self.write_part(&rest[..=before_last], node, below);
            let cell = line * LINE_CELLS + number;
            self.memory().cell(cell).store(word.0, Relaxed);
            let is_done = rest[before_last].0 == last;
            rest = &rest[before_last + usize::from(is_done)..];
        }
        Word::slot_chunk(line, (part.start & KEY_MASK) >> bits, bits)
    }

    /// The ranges of a part, from the node of the second 16 bits, and those below it.
    fn collect(&self, node: u32, part: Part, ranges: &mut Vec<Range>) {
        ranges.clear();
        let mut push = |last: u32, word: Word| {
            let last = last & KEY_MASK;
            match ranges.last_mut() {
                Some(range) if range.1 == word => range.0 = last,
                _ => ranges.push((last, word)),
            }
        };
        let (from, last) = (part.start >> THIRD, part.last() >> THIRD);
        let second = self.rib.node(node);
        if part.bits > THIRD {
            let cover = second.covering(from, 16, from);
            let items = second.slice(from, 0, last + 1);
            let keys = (from, last + 1);
            self.rib
                .answers(node, items, keys, cover, |from, to, answer| match answer {
                    Answer::Word(word) => push((to << THIRD).wrapping_sub(1), word),
                    Answer::Child(child) => {
                        let third = self.rib.node(child);
                        let (items, cover) = (self.rib.items(child), third.inherited);
                        self.rib
                            .paint(child, items, (0, 1 << THIRD), cover, |_, to, word| {
                                push(from << THIRD | (to - 1), word);
                            });
                    }
                });
        } else if let Some(child) = self.rib.child(node, from) {
            let third = self.rib.node(child);
            let keys = (part.start & THIRD_MASK, (part.last() & THIRD_MASK) + 1);
            let cover = third.covering(keys.0, 16, keys.0);
            let items = third.slice(keys.0, 0, keys.1);
            self.rib.paint(child, items, keys, cover, |_, to, word| {
                push(from << THIRD | (to - 1), word);
            });
        } else {
            let leaf = second.covering(from, 16, super::rib::KEYS);
            push(part.last(), Word::leaf(leaf, second.hosted));
        }
    }

    /// The cell that leads to the child of a node of the third 16 bits at a key.
    pub(super) fn cell_below_slot(&self, root: u32, node: u32, key: u32) -> u32 {
        let third = self.rib.node(node);
        let first = self.rib.node(third.parent).start;
        let key = third.start << THIRD | key;
        let slot = self.word_in(root * LINE_CELLS + (first << (32 - KEY_BITS) | key >> KEY_BITS));
        slot::cell_of::<Portable>(self.memory(), slot, key & KEY_MASK)
    }

    /// The blocks below a cell of the root.
    pub(super) fn blocks_below_slot(&self, word: Word, found: &mut Vec<Block>) {
        slot::blocks(self.memory(), word, 0, KEY_BITS, found);
    }
}

#[cfg(test)]
impl Table {
    /// The words of all cells of the large root of IPv6 and of the chunks below it; returns how many chunks lie one below the
    /// other.
    pub(super) fn slot_words(&self, words: &mut Vec<Word>) -> usize {
        let Some(root) = self.root.filter(|_| self.shape.has_slots()) else {
            return 0;
        };
        let first = root * LINE_CELLS;
        let slot = Part {
            start: 0,
            bits: KEY_BITS,
        };
        let slots = first..first + (1 << self.shape.root_bits);
        let mut cells: Vec<_> = slots.map(|cell| (cell, slot, 0)).collect();
        let mut deepest = 0;
        while let Some((cell, part, chunks)) = cells.pop() {
            let word = self.word_in(cell);
            words.push(word);
            deepest = deepest.max(chunks);
            if word.is_direct() {
                let bits = word.slot_shift();
                cells.extend((0..1 << (part.bits - bits)).map(|number| {
                    let below = part.below(number, bits);
                    (slot::chunk_cell(word, below.start), below, chunks + 1)
                }));
            }
        }
        deepest
    }
}
