//! Host routes: exact match over whole addresses, asked where the trie says that a prefix has hosts.
//!
//! Key: 16 bytes; value: a leaf, never 0. A bucket is one line of three keys and leaves. A key may stand in one of two
//! buckets, in the emptier one when it comes, and never moves; what finds both full goes to the overflow, a 16th as
//! many buckets, and its first bucket counts it. So a hit costs one or two lines, a miss two, and a third only where a
//! bucket has overflowed. Memory: 64 bytes for 1.0 to 2.0 entries. When an overflow bucket is full or half of all slots
//! are in use the table is rebuilt at 1.4 times its size, aside: that one insertion takes as long as all entries need.
//!
//! ```text
//!   bucket: key 0, key 1, key 2 (four cells each), leaf 0, leaf 1, leaf 2, state
//!   state, the writer's: bits 0-2 slots in use or not yet passed by all readers; from bit 8 keys in the overflow
//! ```
//!
//! A slot is readable while its leaf is not 0. The writer stores the key, then publishes the leaf; to remove, it stores 0
//! and leaves the key alone until every reader has passed. So a reader that sees a leaf sees its key.

use std::hint::select_unpredictable;
use std::sync::atomic::Ordering::Relaxed;

use super::cells::{follow, publish};
use super::memory::Memory;
use super::shared::{Block, Region};
use super::word::LINE_CELLS;

/// Slots of a bucket.
const SLOTS: u32 = 3;
const KEY_CELLS: u32 = 4;
const LEAVES: u32 = SLOTS * KEY_CELLS;
const STATE: u32 = 15;
const OVERFLOW_ONE: u32 = 1 << 8;

/// Where the buckets of one version are. The overflow's follow the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HostArea {
    pub line: u32,
    /// 0: no hosts.
    pub buckets: u32,
    pub overflow: u32,
}

/// The buckets of one key, as lines.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Choice {
    pub first: u32,
    pub second: u32,
    overflow: u32,
}

impl HostArea {
    /// Where a key may stand.
    #[inline(always)]
    pub fn choose(self, seed: u64, key: u128) -> Choice {
        let hash = hash(seed, key);
        // The upper half of the product of a number below 2^32 and the count is below the count.
        let scale =
            |part: u64, count: u32| (((part & 0xffff_ffff) * u64::from(count)) >> 32) as u32; // `as`: below `count`
        let first = scale(hash, self.buckets);
        let second = scale(hash >> 32, self.buckets);
        let overflow = scale(
            hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32,
            self.overflow,
        );
        Choice {
            first: self.line.wrapping_add(first),
            second: self.line.wrapping_add(second),
            overflow: self.line.wrapping_add(self.buckets).wrapping_add(overflow),
        }
    }

    fn block(self) -> Option<Block> {
        (self.buckets > 0).then_some(Block {
            line: self.line,
            lines: self.buckets + self.overflow,
        })
    }
}

/// The leaf of a key at its choice of buckets; `None` when it is not there.
#[inline(always)]
pub(super) fn find(memory: &Memory, choice: Choice, key: u128) -> Option<u32> {
    let state = memory.cell(cell(choice.first, STATE)).load(Relaxed);
    // A key stands in one of the two; which one is not worth a guess.
    let first = find_in(memory, choice.first, key);
    let second = find_in(memory, choice.second, key);
    let leaf = select_unpredictable(first != 0, first, second);
    if leaf != 0 {
        return Some(leaf);
    }
    if state >= OVERFLOW_ONE {
        let leaf = find_in(memory, choice.overflow, key);
        return (leaf != 0).then_some(leaf);
    }
    None
}

/// The leaf of a key in a bucket, or 0.
#[inline(always)]
fn find_in(memory: &Memory, line: u32, key: u128) -> u32 {
    let mut found = 0;
    for slot in 0..SLOTS {
        let leaf = follow(memory.cell(cell(line, LEAVES + slot)));
        // Selected, never mixed: a key that goes and comes back meanwhile may be met in two slots.
        let is_here = (leaf != 0) & (key_of(memory, line, slot) == key);
        found = select_unpredictable(is_here, leaf, found);
    }
    found
}

#[inline(always)]
fn key_of(memory: &Memory, line: u32, slot: u32) -> u128 {
    let at = cell(line, slot * KEY_CELLS);
    let low = memory.pair(at).load(Relaxed);
    let high = memory.pair(at.wrapping_add(2)).load(Relaxed);
    u128::from(high) << 64 | u128::from(low)
}

#[inline(always)]
fn cell(line: u32, cell: u32) -> u32 {
    line.wrapping_mul(LINE_CELLS).wrapping_add(cell)
}

/// Multiply-and-fold of both halves with a seed of this table's own, so that nobody outside can choose keys that collide.
#[inline(always)]
fn hash(seed: u64, key: u128) -> u64 {
    let (high, low) = ((key >> 64) as u64, key as u64); // `as`: the two halves
    let fold = |product: u128| (product >> 64) as u64 ^ product as u64; // `as`: the two halves
    let mixed = fold(u128::from(high ^ seed) * u128::from(low ^ seed.rotate_left(32) | 1));
    fold(u128::from(mixed ^ low) * u128::from(0x9e37_79b9_7f4a_7c15_u64 ^ seed.rotate_left(17) | 1))
}

/// A slot that was emptied and may be used again once all readers have passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct EmptySlot {
    area: HostArea,
    line: u32,
    slot: u32,
}

/// What became of an insertion.
pub(super) enum Inserted {
    Replaced(u32),
    New,
    /// No room: nothing was changed.
    Full,
}

/// The writer's side.
#[derive(Default)]
pub(super) struct Hosts {
    pub area: HostArea,
    pub len: u32,
    /// Slots in use, or emptied and not yet passed.
    busy: u32,
}

impl Hosts {
    /// Room for `entries` at the load an insertion keeps: buckets hold no entry yet and nobody sees them.
    pub fn sized(region: &Region, entries: u32) -> Self {
        let buckets = (entries / 4 * 3).max(entries.min(64)).max(1);
        let area = HostArea {
            line: 0,
            buckets,
            overflow: buckets / 16 + 1,
        };
        let lines = area.buckets + area.overflow;
        let area = HostArea {
            line: region.take(lines),
            ..area
        };
        for index in cell(area.line, 0)..cell(area.line + lines, 0) {
            region.memory.cell(index).store(0, Relaxed);
        }
        Self {
            area,
            len: 0,
            busy: 0,
        }
    }

    pub fn block(&self) -> Option<Block> {
        self.area.block()
    }

    /// Set the leaf of a key.
    pub fn insert(&mut self, memory: &Memory, seed: u64, key: u128, leaf: u32) -> Inserted {
        if self.area.buckets == 0 {
            return Inserted::Full;
        }
        let choice = self.area.choose(seed, key);
        if let Some((line, slot)) = locate(memory, choice, key) {
            let cell = memory.cell(cell(line, LEAVES + slot));
            let old = cell.load(Relaxed);
            publish(cell, leaf);
            return Inserted::Replaced(old);
        }
        if self.busy >= self.area.buckets + self.area.buckets / 2 + 2 {
            return Inserted::Full;
        }
        let used = |line: u32| (state(memory, line) & 7).count_ones();
        let (first, second) = (used(choice.first), used(choice.second));
        let line = match first.min(second) {
            SLOTS => choice.overflow,
            least if least == first => choice.first,
            _ => choice.second,
        };
        let slot = (!state(memory, line)).trailing_zeros();
        if slot >= SLOTS {
            return Inserted::Full;
        }
        change_state(memory, line, |state| state | 1 << slot);
        if line == choice.overflow {
            change_state(memory, choice.first, |state| state + OVERFLOW_ONE);
        }
        let at = cell(line, slot * KEY_CELLS);
        let (high, low) = ((key >> 64) as u64, key as u64); // `as`: the two halves
        memory.pair(at).store(low, Relaxed);
        memory.pair(at + 2).store(high, Relaxed);
        publish(memory.cell(cell(line, LEAVES + slot)), leaf);
        self.len += 1;
        self.busy += 1;
        Inserted::New
    }

    /// Remove a key: its leaf, and the slot to free once all readers have passed.
    pub fn remove(&mut self, memory: &Memory, seed: u64, key: u128) -> Option<(u32, EmptySlot)> {
        if self.area.buckets == 0 {
            return None;
        }
        let choice = self.area.choose(seed, key);
        let (line, slot) = locate(memory, choice, key)?;
        let leaf = memory.cell(cell(line, LEAVES + slot));
        let old = leaf.load(Relaxed);
        publish(leaf, 0);
        if line == choice.overflow {
            change_state(memory, choice.first, |state| state - OVERFLOW_ONE);
        }
        self.len -= 1;
        let area = self.area;
        Some((old, EmptySlot { area, line, slot }))
    }

    /// The leaf of exactly this key.
    pub fn leaf(&self, memory: &Memory, seed: u64, key: u128) -> Option<u32> {
        if self.area.buckets == 0 {
            return None;
        }
        find(memory, self.area.choose(seed, key), key)
    }

    /// All readers have passed since the slot was emptied.
    pub fn free(&mut self, memory: &Memory, slot: EmptySlot) {
        // A table that was rebuilt since left its empty slots behind.
        if slot.area == self.area {
            change_state(memory, slot.line, |state| state & !(1 << slot.slot));
            self.busy -= 1;
        }
    }

    /// Every entry.
    pub fn visit(&self, memory: &Memory, mut tell: impl FnMut(u128, u32)) {
        for line in self.area.line..self.area.line + self.area.buckets + self.area.overflow {
            if self.area.buckets == 0 {
                break;
            }
            for slot in 0..SLOTS {
                let leaf = memory.cell(cell(line, LEAVES + slot)).load(Relaxed);
                if leaf != 0 {
                    tell(key_of(memory, line, slot), leaf);
                }
            }
        }
    }

    /// Whether so little of a large table is in use that a smaller one should take its place.
    pub fn is_sparse(&self) -> bool {
        self.len < self.area.buckets / 4
    }

    /// A table with the same entries, aside, with room for `entries`.
    pub fn rebuilt(&self, region: &Region, seed: u64, mut entries: u32) -> Self {
        loop {
            let mut new = Self::sized(region, entries);
            let mut fits = true;
            self.visit(&region.memory, |key, leaf| {
                fits &= matches!(new.insert(&region.memory, seed, key, leaf), Inserted::New);
            });
            if fits {
                return new;
            }
            if let Some(block) = new.block() {
                region.give_back(block);
            }
            entries += entries / 4 + 1;
        }
    }
}

/// The slot of a key, as bucket line and slot.
fn locate(memory: &Memory, choice: Choice, key: u128) -> Option<(u32, u32)> {
    for line in [choice.first, choice.second, choice.overflow] {
        for slot in 0..SLOTS {
            let leaf = memory.cell(cell(line, LEAVES + slot)).load(Relaxed);
            if leaf != 0 && key_of(memory, line, slot) == key {
                return Some((line, slot));
            }
        }
    }
    None
}

fn state(memory: &Memory, line: u32) -> u32 {
    memory.cell(cell(line, STATE)).load(Relaxed)
}

fn change_state(memory: &Memory, line: u32, change: impl FnOnce(u32) -> u32) {
    memory
        .cell(cell(line, STATE))
        .store(change(state(memory, line)), Relaxed);
}
