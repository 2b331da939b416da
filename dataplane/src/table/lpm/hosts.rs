//! Host routes: exact match over whole addresses, asked where the trie says that a prefix has hosts.
//!
//! Key: 16 bytes; value: a leaf, never 0. A key belongs to a group of thirty slots. A line of 16-bit tags (`tags`) says
//! which of them may hold it. The tags of a million hosts are 3 MB, which a near cache keeps, so a hit costs the line of
//! its slot and a miss hardly anything. A key that finds its group full goes to the next one, and each group it passes
//! counts it: who does not find a key goes on only where that count is not 0, one group in thirty. Memory: 704 bytes for
//! 14 to 22 entries. When three quarters of all slots are in use the table is rebuilt at 1.4 times its size, aside: that
//! one insertion takes as long as all entries need.
//!
//! ```text
//!   groups' tags, a line each: 30 tags, the count          tag: 0 free, 1 given up but not by all readers, else of a key
//!   groups' slots, ten lines each: key 0, key 1, key 2 (four cells each), leaf 0, leaf 1, leaf 2, a cell without use
//! ```
//!
//! The writer stores the key, then publishes the leaf, then the tag. To remove, it stores 0 as the leaf, then gives the
//! tag up, and leaves the slot alone until every reader has passed. So who sees a tag sees its leaf, or that it is gone,
//! and who sees a leaf sees its key; a key never moves.

use std::sync::atomic::Ordering::Relaxed;

use super::cells::{follow, publish};
use super::memory::Memory;
use super::node::Portable;
use super::shared::{Block, Region};
use super::tags::{COUNT, GROUP_CELLS, SLOTS, Tags, tag_place};
use super::word::LINE_CELLS;

/// Slots of a line.
const LINE_SLOTS: u32 = 3;
const KEY_CELLS: u32 = 4;
/// Where a line's leaves are.
const LEAVES: u32 = LINE_SLOTS * KEY_CELLS;
/// Lines of a group's slots.
const SLOT_LINES: u32 = SLOTS / LINE_SLOTS;
/// Groups that a key may be in, from its first one on.
const REACH: u32 = 16;
/// Slots in use of a group, on average, above which a table grows.
const CROWDED: u32 = 22;

/// Groups from which on a table is too large for the nearer caches. Tests have small ones.
const LARGE: u32 = if cfg!(test) { 3 } else { 2048 };

/// Tag of a slot that may be taken.
const FREE: u16 = 0;
/// Tag of a slot that was emptied and which a reader may still be at.
const GIVEN_UP: u16 = 1;

/// Where one version is: the lines of tags, then those of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HostArea {
    pub line: u32,
    /// 0: no hosts.
    pub groups: u32,
}

/// Where to begin for a key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Home {
    /// The first cell of the first group's tags.
    pub group: u32,
    /// 16 bits.
    tag: u32,
}

impl HostArea {
    /// Where to begin for a key.
    #[inline(always)]
    pub fn home(self, seed: u64, key: u128) -> Home {
        let hash = hash(seed, key);
        // The upper half of the product of a number below 2^32 and the count is below the count.
        let number = ((hash & 0xffff_ffff) * u64::from(self.groups)) >> 32;
        Home {
            group: self.group(number as u32), // `as`: below the count
            tag: ((hash >> 48) as u32).max(u32::from(GIVEN_UP) + 1), // `as`: 16 bits
        }
    }

    /// The first cell of a group's tags, by its number.
    #[inline(always)]
    fn group(self, number: u32) -> u32 {
        let first = self.line.wrapping_mul(LINE_CELLS);
        first.wrapping_add(number.wrapping_mul(GROUP_CELLS))
    }

    /// The number of a group.
    #[inline(always)]
    fn number(self, group: u32) -> u32 {
        group.wrapping_sub(self.line.wrapping_mul(LINE_CELLS)) / GROUP_CELLS
    }

    /// The cells of key and leaf in a slot of a group.
    #[inline(always)]
    pub fn slot(self, group: u32, slot: u32) -> [u32; 2] {
        let slots = self.line.wrapping_add(self.groups);
        let line = slots
            .wrapping_add(self.number(group).wrapping_mul(SLOT_LINES))
            .wrapping_add(slot / LINE_SLOTS);
        let (first, slot) = (line.wrapping_mul(LINE_CELLS), slot % LINE_SLOTS);
        [
            first.wrapping_add(slot * KEY_CELLS),
            first.wrapping_add(LEAVES + slot),
        ]
    }

    /// The leaf of a key; `None` when it is not there.
    #[inline(always)]
    pub fn find<T: Tags>(self, memory: &Memory, home: Home, key: u128) -> Option<u32> {
        let mut home = home;
        for _ in 0..REACH {
            let mut having = home.having::<T>(memory);
            while having != 0 {
                let slot = self.slot(home.group, having.trailing_zeros());
                let leaf = leaf_at(memory, slot, key);
                if leaf != 0 {
                    return Some(leaf);
                }
                having &= having - 1;
            }
            if !home.was_passed(memory) {
                return None;
            }
            home.group = self.next(home.group);
        }
        None
    }

    /// Whether a key's line is likely to come from memory.
    #[inline(always)]
    pub fn is_large(self) -> bool {
        self.groups >= LARGE
    }

    /// The group after one.
    #[inline(always)]
    fn next(self, group: u32) -> u32 {
        let next = self.number(group).wrapping_add(1);
        self.group(if next < self.groups { next } else { 0 })
    }

    /// The groups a key may be in.
    fn reach(self, home: Home) -> impl Iterator<Item = u32> {
        let reach = REACH.min(self.groups) as usize; // `as`: a small number
        std::iter::successors(Some(home.group), move |group| Some(self.next(*group))).take(reach)
    }

    fn block(self) -> Option<Block> {
        (self.groups > 0).then_some(Block {
            line: self.line,
            lines: self.lines(),
        })
    }

    fn lines(self) -> u32 {
        self.groups * (1 + SLOT_LINES)
    }
}

impl Home {
    /// The slots of the first group that may hold the key, as bits.
    #[inline(always)]
    pub fn having<T: Tags>(self, memory: &Memory) -> u32 {
        T::having(memory, self.group, self.tag())
    }

    #[inline(always)]
    fn tag(self) -> u16 {
        self.tag as u16 // `as`: 16 bits
    }

    /// Whether keys found the first group full.
    #[inline(always)]
    pub fn was_passed(self, memory: &Memory) -> bool {
        memory.cell(self.group.wrapping_add(COUNT)).load(Relaxed) != 0
    }
}

/// The leaf in a slot, if it has the key; else 0.
#[inline(always)]
pub(super) fn leaf_at(memory: &Memory, [key_cell, leaf_cell]: [u32; 2], key: u128) -> u32 {
    let leaf = follow(memory.cell(leaf_cell));
    if stored_key(memory, key_cell) == key {
        leaf
    } else {
        0
    }
}

/// Keys are stored as they stand in a packet, which is how most are compared.
#[inline(always)]
fn stored_key(memory: &Memory, key_cell: u32) -> u128 {
    let low = memory.pair(key_cell).load(Relaxed);
    let high = memory.pair(key_cell.wrapping_add(2)).load(Relaxed);
    u128::from_be(u128::from(high) << 64 | u128::from(low))
}

fn store_key(memory: &Memory, key_cell: u32, key: u128) {
    let stored = key.to_be();
    let (high, low) = ((stored >> 64) as u64, stored as u64); // `as`: the two halves
    memory.pair(key_cell).store(low, Relaxed);
    memory.pair(key_cell + 2).store(high, Relaxed);
}

/// Multiply-and-fold of both halves with a seed of this table's own, so that nobody outside can choose keys that collide.
#[inline(always)]
fn hash(seed: u64, key: u128) -> u64 {
    let stored = key.to_be();
    let (high, low) = ((stored >> 64) as u64, stored as u64); // `as`: the two halves
    let fold = |product: u128| (product >> 64) as u64 ^ product as u64; // `as`: the two halves
    let mixed = fold(u128::from(high ^ seed) * u128::from(low ^ seed.rotate_left(32) | 1));
    fold(u128::from(mixed ^ low) * u128::from(0x9e37_79b9_7f4a_7c15_u64 ^ seed.rotate_left(17) | 1))
}

/// A slot that was emptied and may be used again once all readers have passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct EmptySlot {
    area: HostArea,
    group: u32,
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
    /// Room for `entries` at the load an insertion keeps: no slot is in use and nobody sees them.
    pub fn sized(region: &Region, entries: u32) -> Self {
        let groups = entries.div_ceil(CROWDED).max(1);
        let area = HostArea { line: 0, groups };
        let line = region.take(area.lines());
        let area = HostArea { line, groups };
        for cell in area.group(0)..area.group(groups) {
            region.memory.cell(cell).store(0, Relaxed);
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
        if self.area.groups == 0 {
            return Inserted::Full;
        }
        let home = self.area.home(seed, key);
        if let Some((group, slot)) = self.locate(memory, home, key) {
            let [_, cell] = self.area.slot(group, slot);
            let old = memory.cell(cell).load(Relaxed);
            publish(memory.cell(cell), leaf);
            return Inserted::Replaced(old);
        }
        // A single group may fill up, many keep room for those that are fuller than others.
        if self.busy >= self.area.groups * CROWDED + (SLOTS - CROWDED) {
            return Inserted::Full;
        }
        let with_room = |group: &u32| Portable::having(memory, *group, FREE) != 0;
        let Some(group) = self.area.reach(home).find(with_room) else {
            return Inserted::Full;
        };
        let slot = Portable::having(memory, group, FREE).trailing_zeros();
        let [key_cell, leaf_cell] = self.area.slot(group, slot);
        store_key(memory, key_cell, key);
        publish(memory.cell(leaf_cell), leaf);
        set_tag(memory, group, slot, home.tag());
        self.count_passed(memory, home, group, |passed| passed + 1);
        self.len += 1;
        self.busy += 1;
        Inserted::New
    }

    /// Remove a key: its leaf, and the slot to free once all readers have passed.
    pub fn remove(&mut self, memory: &Memory, seed: u64, key: u128) -> Option<(u32, EmptySlot)> {
        if self.area.groups == 0 {
            return None;
        }
        let home = self.area.home(seed, key);
        let (group, slot) = self.locate(memory, home, key)?;
        let [_, cell] = self.area.slot(group, slot);
        let old = memory.cell(cell).load(Relaxed);
        publish(memory.cell(cell), 0);
        set_tag(memory, group, slot, GIVEN_UP);
        self.count_passed(memory, home, group, |passed| passed - 1);
        self.len -= 1;
        let area = self.area;
        Some((old, EmptySlot { area, group, slot }))
    }

    /// The leaf of exactly this key.
    pub fn leaf(&self, memory: &Memory, seed: u64, key: u128) -> Option<u32> {
        if self.area.groups == 0 {
            return None;
        }
        let home = self.area.home(seed, key);
        self.area.find::<Portable>(memory, home, key)
    }

    /// All readers have passed since the slot was emptied.
    pub fn free(&mut self, memory: &Memory, slot: EmptySlot) {
        // A table that was rebuilt since left its empty slots behind.
        if slot.area == self.area {
            set_tag(memory, slot.group, slot.slot, FREE);
            self.busy -= 1;
        }
    }

    /// Every entry.
    pub fn visit(&self, memory: &Memory, mut tell: impl FnMut(u128, u32)) {
        for number in 0..self.area.groups {
            let group = self.area.group(number);
            for slot in 0..SLOTS {
                if tag(memory, group, slot) > GIVEN_UP {
                    let [key_cell, leaf_cell] = self.area.slot(group, slot);
                    let leaf = memory.cell(leaf_cell).load(Relaxed);
                    tell(stored_key(memory, key_cell), leaf);
                }
            }
        }
    }

    /// Whether so little of a large table is in use that a smaller one should take its place.
    pub fn is_sparse(&self) -> bool {
        self.area.groups > 1 && self.len < self.area.groups * CROWDED / 6
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

    /// The slot of a key, as group and slot.
    fn locate(&self, memory: &Memory, home: Home, key: u128) -> Option<(u32, u32)> {
        for group in self.area.reach(home) {
            let mut having = Portable::having(memory, group, home.tag());
            while having != 0 {
                let slot = having.trailing_zeros();
                let [key_cell, _] = self.area.slot(group, slot);
                if stored_key(memory, key_cell) == key {
                    return Some((group, slot));
                }
                having &= having - 1;
            }
            if memory.cell(group + COUNT).load(Relaxed) == 0 {
                break;
            }
        }
        None
    }

    /// Count a key in the groups it passes before it finds one.
    fn count_passed(&self, memory: &Memory, home: Home, found: u32, count: impl Fn(u32) -> u32) {
        for group in self.area.reach(home).take_while(|group| *group != found) {
            let passed = memory.cell(group + COUNT);
            publish(passed, count(passed.load(Relaxed)));
        }
    }
}

fn tag(memory: &Memory, group: u32, slot: u32) -> u16 {
    let (cell, shift) = tag_place(group, slot);
    (memory.cell(cell).load(Relaxed) >> shift) as u16 // `as`: one of two tags
}

fn set_tag(memory: &Memory, group: u32, slot: u32, tag: u16) {
    let (cell, shift) = tag_place(group, slot);
    let cell = memory.cell(cell);
    let other = cell.load(Relaxed) & !(u32::from(u16::MAX) << shift);
    publish(cell, other | u32::from(tag) << shift);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::lpm::shared::{Arena, Head, Shared};
    use crate::table::lpm::word::Word;

    const SEED: u64 = 77;

    fn shared() -> Shared {
        let head = Head {
            top: Word(0),
            hosts: HostArea::default(),
            staged: false,
        };
        Shared::new(&Arena::new(), head, SEED)
    }

    /// The first keys whose home is the last group.
    fn keys_of_last_group(hosts: &Hosts, count: usize) -> Vec<u128> {
        let last = hosts.area.group(hosts.area.groups - 1);
        let all = (1_u128..).map(|number| (number << 64) | (number * 7));
        let of_last = all.filter(|key| hosts.area.home(SEED, *key).group == last);
        of_last.take(count).collect()
    }

    fn passed(hosts: &Hosts, memory: &Memory) -> Vec<u32> {
        let groups = (0..hosts.area.groups).map(|number| hosts.area.group(number));
        groups
            .map(|group| memory.cell(group + COUNT).load(Relaxed))
            .collect()
    }

    #[test]
    fn keys_of_a_full_group_stand_in_the_next_ones_and_are_counted() {
        let shared = shared();
        let memory = shared.memory();
        let mut hosts = Hosts::sized(shared.region(), 4 * CROWDED);
        let keys = keys_of_last_group(&hosts, 71);
        let (strangers, keys) = keys.split_at(1);
        let find = |hosts: &Hosts, key: u128| hosts.leaf(memory, SEED, key);
        for (key, leaf) in keys.iter().zip(1..) {
            assert!(matches!(
                hosts.insert(memory, SEED, *key, leaf),
                Inserted::New
            ));
        }
        // The last group is full, the first after it too, and the next has ten.
        assert_eq!(passed(&hosts, memory), [10, 0, 0, 40]);
        for (key, leaf) in keys.iter().zip(1..) {
            assert_eq!(find(&hosts, *key), Some(leaf));
        }
        assert_eq!(find(&hosts, strangers[0]), None);
        // What stands behind stays to be found when those before it go.
        for key in &keys[..65] {
            let (_, slot) = hosts.remove(memory, SEED, *key).expect("it is there");
            assert_eq!(find(&hosts, *key), None);
            hosts.free(memory, slot);
        }
        for (key, leaf) in keys.iter().zip(1..).skip(65) {
            assert_eq!(find(&hosts, *key), Some(leaf));
            let (old, slot) = hosts.remove(memory, SEED, *key).expect("it is there");
            assert_eq!(old, leaf);
            hosts.free(memory, slot);
        }
        assert_eq!(passed(&hosts, memory), [0; 4]);
        assert_eq!((hosts.len, hosts.busy), (0, 0));
    }

    #[test]
    fn a_slot_is_taken_again_only_when_it_is_free() {
        let shared = shared();
        let memory = shared.memory();
        let mut hosts = Hosts::sized(shared.region(), 1);
        let keys: Vec<u128> = (1..=u128::from(SLOTS) + 1).collect();
        let (one_more, keys) = keys.split_last().expect("there are some");
        for key in keys {
            assert!(matches!(hosts.insert(memory, SEED, *key, 5), Inserted::New));
        }
        let full = |hosts: &mut Hosts| {
            let inserted = hosts.insert(memory, SEED, *one_more, 6);
            matches!(inserted, Inserted::Full)
        };
        assert!(full(&mut hosts));
        let (_, slot) = hosts.remove(memory, SEED, keys[3]).expect("it is there");
        assert!(full(&mut hosts), "a reader may still be there");
        // The key that is back meanwhile would need another slot.
        assert_eq!(hosts.leaf(memory, SEED, keys[3]), None);
        hosts.free(memory, slot);
        assert!(!full(&mut hosts));
        assert_eq!(hosts.leaf(memory, SEED, *one_more), Some(6));
    }
}
