//! Few prefixes: all of a small table as ranges of the first 64 bits, in one block.
//!
//! ```text
//!   block: 4 lines of 32 bounds of 64 bits, 2 lines of 32 cells
//!   cell i answers for the addresses after bound i-1, up to and with bound i; the last cell is the number of bounds
//! ```
//!
//! The number of bounds below an address is its cell, however long the prefixes are: no step waits for another. A bound is
//! compared with 32 addresses at a time, which costs a clock or two an address for the dozen ranges of a usual edge. A cell
//! is a leaf, or the node that goes on at bit 64.
//!
//! The writer makes a block beside the trie after each change, and publishes its word in place of the trie's top word; a
//! block never changes. The trie stays complete: a table that no longer fits goes on with it.

use std::sync::atomic::Ordering::Relaxed;

use super::bulk::GROUP;
use super::memory::Memory;
use super::node::Compare;
use super::rib::{KEYS, TOP};
use super::shared::Block;
use super::table::Table;
use super::walk::Key;
use super::word::{LINE_CELLS, RANGES, Word};

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::{four_prefixes_v4, four_prefixes_v6, words as words_avx2};

/// The level of the nodes that cells lead to.
pub(super) const BELOW: usize = 4;
/// Ranges at most.
const RANGES_MAX: usize = 31;
/// Nodes of the trie from which on nobody looks whether the ranges are few.
const NODES_MAX: usize = 64;
const LINES: u32 = 6;
const BOUND_CELLS: u32 = 2;
const FIRST_CELL: u32 = 4 * LINE_CELLS;
const COUNT: u32 = LINES * LINE_CELLS - 1;

/// The last address of a range, its first 64 bits, and the word.
type Range64 = (u64, Word);

/// Addresses that lie side by side and have one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first 64 bits of the first one.
    first: u64,
    /// The same of the last, less those of the first.
    span: u64,
    leaf: u32,
}

impl Range {
    /// From the first 64 bits of the first address to those of the last.
    #[inline(always)]
    pub(super) fn new(first: u64, last: u64, leaf: u32) -> Self {
        Self {
            first,
            span: last.wrapping_sub(first),
            leaf,
        }
    }

    /// Whether addresses with these first 64 bits are in it.
    #[inline(always)]
    #[must_use]
    pub fn contains(&self, prefix: u64) -> bool {
        prefix.wrapping_sub(self.first) <= self.span
    }

    /// The leaf of all of them; 0: no prefix matches.
    #[inline(always)]
    #[must_use]
    pub fn leaf(&self) -> u32 {
        self.leaf
    }

    /// What of it has first 64 bits from `first` to `last`; `None`: nothing.
    #[inline(always)]
    #[must_use]
    pub fn within(self, first: u64, last: u64) -> Option<Self> {
        let end = last.min(self.first + self.span);
        let first = first.max(self.first);
        let span = end.checked_sub(first)?;
        Some(Self {
            first,
            span,
            ..self
        })
    }
}

/// The words of a group of addresses, leaves or nodes of level [`BELOW`]; tells whether some are not plain leaves.
#[inline(always)]
pub(super) fn words<K: Key, C: Compare>(
    memory: &Memory,
    block: Word,
    keys: &[K; GROUP],
    out: &mut [u32; GROUP],
) -> bool {
    let first = block.place().wrapping_mul(LINE_CELLS);
    let count = memory.cell(first.wrapping_add(COUNT)).load(Relaxed);
    C::ranges(memory, first, count.min(RANGES_MAX as u32), keys, out)
}

/// What [`words`] does with the ranges from cell `first` on, of which `count` have a bound, without vectors of ours.
#[inline(always)]
pub(super) fn words_portable<K: Key, C: Compare>(
    memory: &Memory,
    first: u32,
    count: u32,
    keys: &[K; GROUP],
    out: &mut [u32; GROUP],
) -> bool {
    let prefixes = keys.each_ref().map(Key::prefix);
    let mut below = [0_u32; GROUP];
    for number in 0..count {
        let bound = memory.pair(first.wrapping_add(number * BOUND_CELLS));
        let bound = bound.load(Relaxed);
        for (below, prefix) in below.iter_mut().zip(&prefixes) {
            *below += u32::from(bound < *prefix);
        }
    }
    C::pick(memory, first.wrapping_add(FIRST_CELL), &below, out);
    let all = out.iter().fold(0, |all, word| all | word);
    Word(all).is_marked()
}

/// The word of one address.
#[inline(always)]
pub(super) fn word<K: Key>(memory: &Memory, block: Word, key: &K) -> Word {
    let (first, _, below) = find(memory, block, key);
    Word(
        memory
            .cell(first.wrapping_add(FIRST_CELL + below))
            .load(Relaxed),
    )
}

/// The range of one address; `None`: its first 64 bits do not tell.
#[inline(always)]
pub(super) fn range<K: Key>(memory: &Memory, block: Word, key: &K) -> Option<Range> {
    let (first, count, below) = find(memory, block, key);
    let word = Word(
        memory
            .cell(first.wrapping_add(FIRST_CELL + below))
            .load(Relaxed),
    );
    if word.is_marked() {
        return None;
    }
    let bound = |number: u32| {
        let bound = memory.pair(first.wrapping_add(number * BOUND_CELLS));
        bound.load(Relaxed)
    };
    let start = below
        .checked_sub(1)
        .map_or(0, |before| bound(before).wrapping_add(1));
    let end = if below < count {
        bound(below)
    } else {
        u64::MAX
    };
    Some(Range::new(start, end, word.0))
}

/// The first cell of a block, the number of its bounds, and how many of them are below an address.
#[inline(always)]
fn find<K: Key>(memory: &Memory, block: Word, key: &K) -> (u32, u32, u32) {
    let first = block.place().wrapping_mul(LINE_CELLS);
    let count = memory.cell(first.wrapping_add(COUNT)).load(Relaxed);
    let prefix = key.prefix();
    let mut below = 0;
    while below < count {
        let bound = memory.pair(first.wrapping_add(below * BOUND_CELLS));
        if prefix <= bound.load(Relaxed) {
            break;
        }
        below += 1;
    }
    (first, count, below)
}

impl Table {
    /// Publish ranges of what the table holds now, or stop doing so.
    pub(super) fn publish_ranges(&mut self) {
        let ranges = self.few_ranges();
        if ranges == self.few && (ranges.is_empty() || self.shared.current().1.form() == RANGES) {
            return;
        }
        let old = self.few_block.take();
        if ranges.is_empty() {
            self.shared.publish_trie();
        } else {
            let line = self.take(LINES);
            self.write_ranges_of_64(line, &ranges);
            self.shared.publish_ranges(Word::node(RANGES, line));
            self.few_block = Some(Block { line, lines: LINES });
        }
        self.few = ranges;
        if let Some(block) = old {
            self.retire(block);
        }
    }

    /// The ranges; none when they are too many, or when there is no prefix.
    fn few_ranges(&self) -> Vec<Range64> {
        let mut ranges = Vec::new();
        // Addresses of another length have trees of their own.
        let fits = self.shape.has_hosts
            && self.root.is_none()
            && self.len > 0
            && self.rib.node_count() <= NODES_MAX
            && self.collect_ranges(TOP, 0, &mut ranges);
        if !fits {
            ranges.clear();
        }
        ranges
    }

    /// Append the ranges of a node whose addresses begin with `above`; `false` when they are too many.
    fn collect_ranges(&self, number: u32, above: u64, ranges: &mut Vec<Range64>) -> bool {
        let node = self.rib.node(number);
        let (shift, is_last) = (48 - 16 * node.level, node.level + 1 == BELOW as u32); // `as`: a constant
        let items = self.rib.items(number);
        if items.len() > RANGES_MAX {
            return false;
        }
        let mut answers = Vec::new();
        let keys = (0, KEYS);
        self.rib
            .paint(number, items, keys, node.inherited, |from, to, word| {
                answers.push((from, to, word));
            });
        for (from, to, word) in answers {
            if !is_last && let Some(child) = self.rib.child(number, from) {
                if !self.collect_ranges(child, above | u64::from(from) << shift, ranges) {
                    return false;
                }
                continue;
            }
            let below = (1 << shift) - 1;
            let end = above | u64::from(to - 1) << shift | below;
            match ranges.last_mut() {
                Some(range) if range.1 == word && !word.is_node() => range.0 = end,
                _ => ranges.push((end, word)),
            }
        }
        ranges.len() <= RANGES_MAX
    }

    fn write_ranges_of_64(&self, line: u32, ranges: &[Range64]) {
        let (memory, first) = (self.memory(), line * LINE_CELLS);
        let count = u32::try_from(ranges.len() - 1).expect("few ranges");
        for (number, (end, word)) in (0..).zip(ranges) {
            if number < count {
                memory
                    .pair(first + number * BOUND_CELLS)
                    .store(*end, Relaxed);
            }
            memory
                .cell(first + FIRST_CELL + number)
                .store(word.0, Relaxed);
        }
        for unused in FIRST_CELL + count + 1..COUNT {
            memory.cell(first + unused).store(0, Relaxed);
        }
        memory.cell(first + COUNT).store(count, Relaxed);
    }
}
