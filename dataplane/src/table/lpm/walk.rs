//! One lookup: from the head down to a leaf.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256i;

#[cfg(target_arch = "x86_64")]
use super::bulk::GROUP;
use super::cells::follow;
use super::flat;
use super::lookup::Single;
use super::memory::Memory;
use super::node::{self, Compare, cell_of};
use super::ranges::{self, Range};
use super::shared::{Shared, Version};
use super::slot;
use super::word::{HOSTS, LINE_CELLS, RANGES, ROOT, Word};

/// An address as lookups take it.
pub trait Key: Copy + Default + Eq {
    /// Parts of 16 bits.
    const LEVELS: usize;
    /// Bits the large root is indexed by.
    const ROOT_BITS: u32;
    /// The first 32 bits.
    fn upper(&self) -> u32;
    /// The 16 bits of a level below [`Key::LEVELS`].
    fn part(&self, level: usize) -> u16;
    /// The first 64 bits; a shorter address ends with zeros.
    fn prefix(&self) -> u64;
    /// Those of four addresses, with AVX2: first, third, second and fourth.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    unsafe fn four_prefixes(keys: &[Self; 4]) -> __m256i;
    /// The address from the upper bit of 128.
    fn whole(&self) -> u128;
    /// The level of the nodes that the large root and its own lead to.
    const SLOT_END: usize = if Self::IS_FLAT { 2 } else { 3 };
    /// The bits after those of the large root, as far as its nodes reach.
    fn slot(&self) -> u32;
    /// The cell of a chunk of the large root.
    fn chunk_cell(&self, chunk: Word) -> u32;
    /// Whether the large root and its chunks are all there is.
    const IS_FLAT: bool = false;
    /// The leaves of a batch below the large root, if that is all.
    #[inline(always)]
    fn flat_lookup(_: &Memory, _root: Word, _: &[Self], _leaves: &mut [u32]) {}
    /// The words of a group of addresses below the large root, by AVX-512, and whether some are not leaves yet.
    ///
    /// # Safety
    /// The processor has AVX-512 F, BW, VL and DQ, BMI, POPCNT and LZCNT.
    #[cfg(target_arch = "x86_64")]
    unsafe fn wide_words(
        memory: &Memory,
        root: Word,
        keys: &[Self; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool;
}

impl Key for [u8; 16] {
    const LEVELS: usize = 8;
    const ROOT_BITS: u32 = 20;

    #[inline(always)]
    fn upper(&self) -> u32 {
        let [a, b, c, d, ..] = *self;
        u32::from_be_bytes([a, b, c, d])
    }

    #[inline(always)]
    fn part(&self, level: usize) -> u16 {
        u16::from_be_bytes(self.as_chunks::<2>().0[level])
    }

    #[inline(always)]
    fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn four_prefixes(keys: &[Self; 4]) -> __m256i {
        // SAFETY: the caller's promise is the same.
        unsafe { ranges::four_prefixes_v6(keys) }
    }

    #[inline(always)]
    fn whole(&self) -> u128 {
        u128::from_be_bytes(*self)
    }

    #[inline(always)]
    fn slot(&self) -> u32 {
        slot::key(self.prefix())
    }

    #[inline(always)]
    fn chunk_cell(&self, chunk: Word) -> u32 {
        slot::chunk_cell(chunk, self.slot())
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn wide_words(
        memory: &Memory,
        root: Word,
        keys: &[Self; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool {
        // SAFETY: the caller's promise is the same.
        unsafe { super::wide6::words6(memory, root, keys, out) }
    }
}

/// An IPv4 address is a number: what comes out of reading it from a header.
impl Key for u32 {
    const LEVELS: usize = 2;
    const ROOT_BITS: u32 = 24;

    #[inline(always)]
    fn upper(&self) -> u32 {
        *self
    }

    #[inline(always)]
    fn part(&self, level: usize) -> u16 {
        (*self >> (16 - 16 * level)) as u16 // `as`: the lower 16 bits
    }

    #[inline(always)]
    fn prefix(&self) -> u64 {
        u64::from(self.upper()) << 32
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn four_prefixes(keys: &[Self; 4]) -> __m256i {
        // SAFETY: the caller's promise is the same.
        unsafe { ranges::four_prefixes_v4(keys) }
    }

    #[inline(always)]
    fn whole(&self) -> u128 {
        u128::from(*self) << 96
    }

    #[inline(always)]
    fn slot(&self) -> u32 {
        self & ((1 << (32 - Self::ROOT_BITS)) - 1)
    }

    #[inline(always)]
    fn chunk_cell(&self, chunk: Word) -> u32 {
        let index = self.slot().wrapping_shr(chunk.shift());
        chunk.direct_cell().wrapping_add(index)
    }

    const IS_FLAT: bool = true;

    #[inline(always)]
    fn flat_lookup(memory: &Memory, root: Word, keys: &[Self], leaves: &mut [u32]) {
        flat::lookup(memory, root, keys, leaves);
    }

    /// Not asked: see [`Key::flat_lookup`], which does all.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn wide_words(
        memory: &Memory,
        root: Word,
        keys: &[Self; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool {
        flat::lookup(memory, root, keys, out);
        false
    }
}

/// The cell of the large root for an address.
#[inline(always)]
pub(super) fn root_cell<K: Key>(root: Word, upper: u32) -> u32 {
    let first = root.place().wrapping_mul(LINE_CELLS);
    first.wrapping_add(upper >> (32 - K::ROOT_BITS))
}

/// The leaf of the longest prefix that matches; 0 if none does.
#[inline(always)]
pub(super) fn lookup<K: Key, C: Compare>(shared: &Shared, key: &K) -> u32 {
    let (_, top) = shared.current();
    if top.form() == ROOT {
        let word = if K::IS_FLAT {
            below_root::<K, C>(shared.memory(), top, key).0
        } else {
            slot::quick::<C>(shared.memory(), slot::first_cell(top), key.prefix())
        };
        if !word.is_marked() {
            return word.place();
        }
        if word.form() == HOSTS {
            return lookup_host(shared, key, word);
        }
    }
    lookup_slowly(shared, key)
}

/// The same where the trie has said that there are hosts.
#[inline(never)]
fn lookup_host<K: Key>(shared: &Shared, key: &K, word: Word) -> u32 {
    let (version, _) = shared.current();
    host_or_prefix::<Single>(shared, version, word, key.whole())
}

/// The same for any address and table. Apart, and from the beginning: what this needs costs nothing where it is not called.
#[inline(never)]
fn lookup_slowly<K: Key>(shared: &Shared, key: &K) -> u32 {
    let (version, top) = shared.current();
    let word = word::<K, Single>(shared.memory(), top, key);
    if word.form() == HOSTS {
        return host_or_prefix::<Single>(shared, version, word, key.whole());
    }
    word.place()
}

/// What the trie says of an address: a leaf, with or without hosts.
#[inline(always)]
pub(super) fn word<K: Key, C: Compare>(memory: &Memory, top: Word, key: &K) -> Word {
    let (word, level) = begin::<K, C>(memory, top, key);
    go_down::<K, C>(memory, word, level, key)
}

/// From a word on through the nodes of this level and those below.
#[inline(always)]
fn go_down<K: Key, C: Compare>(memory: &Memory, mut word: Word, mut level: usize, key: &K) -> Word {
    while word.is_node() && level < K::LEVELS {
        let cell = cell_of::<C>(memory, word, key.part(level));
        word = Word(follow(memory.cell(cell)));
        level += 1;
    }
    word
}

/// The word of an address where a lookup begins, and the level of the nodes it may lead to.
#[inline(always)]
fn begin<K: Key, C: Compare>(memory: &Memory, top: Word, key: &K) -> (Word, usize) {
    match top.form() {
        ROOT => below_root::<K, C>(memory, top, key),
        RANGES => (ranges::word(memory, top, key), ranges::BELOW),
        _ => (top, 0),
    }
}

/// The same below the large root.
#[inline(always)]
fn below_root<K: Key, C: Compare>(memory: &Memory, root: Word, key: &K) -> (Word, usize) {
    let word = Word(follow(memory.cell(root_cell::<K>(root, key.upper()))));
    let word = if !K::IS_FLAT {
        slot::answer::<C>(memory, word, key.slot())
    } else if word.is_direct() {
        Word(follow(memory.cell(key.chunk_cell(word))))
    } else {
        word
    };
    (word, K::SLOT_END)
}

/// The addresses around one that the same cells lead to, as far as the first 64 bits tell them apart.
#[inline(never)]
pub(super) fn range<K: Key, C: Compare>(memory: &Memory, top: Word, key: &K) -> Option<Range> {
    let mut around = Around {
        prefix: key.prefix(),
        first: 0,
        last: u64::MAX,
    };
    let mut word = top;
    let mut level = 0;
    if word.form() == ROOT {
        word = Word(follow(memory.cell(root_cell::<K>(word, key.upper()))));
        around.narrow_to(64 - K::ROOT_BITS);
        if !K::IS_FLAT {
            word = around.go_down_slot::<K, C>(memory, word, key);
            level = 3;
        } else {
            level = 2;
            if word.is_direct() {
                around.narrow_to(32 + word.shift());
                word = Word(follow(memory.cell(key.chunk_cell(word))));
            }
        }
    }
    while word.is_node() && level < K::LEVELS.min(ranges::BELOW) {
        word = around.go_down::<K, C>(memory, word, key, level);
        level += 1;
    }
    if word.is_marked() {
        return None;
    }
    Some(Range::new(around.first, around.last, word.place()))
}

/// First 64 bits of addresses, some of them, and from where to where they may be with the same answer.
struct Around {
    prefix: u64,
    first: u64,
    last: u64,
}

impl Around {
    /// To those that differ in the last `bits` of 64 alone.
    #[inline(always)]
    fn narrow_to(&mut self, bits: u32) {
        let below = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
        self.narrow(self.prefix & !below, self.prefix | below);
    }

    #[inline(always)]
    fn narrow(&mut self, first: u64, last: u64) {
        self.first = self.first.max(first);
        self.last = self.last.min(last);
    }

    /// To those that have the same answer below a cell of the large root; the answer.
    #[inline(always)]
    fn go_down_slot<K: Key, C: Compare>(&mut self, memory: &Memory, word: Word, key: &K) -> Word {
        const BELOW: u32 = 64 - 20 - slot::KEY_BITS;
        let above = self.prefix & !(u64::MAX >> K::ROOT_BITS);
        slot::bounds::<C>(memory, word, key.slot(), |first, last| {
            let end = above | u64::from(last) << BELOW | ((1 << BELOW) - 1);
            self.narrow(above | u64::from(first) << BELOW, end);
        })
    }

    /// To those for which this node has the same cell; what is in it.
    #[inline(always)]
    fn go_down<K: Key, C: Compare>(
        &mut self,
        memory: &Memory,
        word: Word,
        key: &K,
        level: usize,
    ) -> Word {
        let below = 48 - 16 * level as u32; // `as`: below 4
        let above = self.prefix & !(u64::MAX >> (16 * level));
        node::bounds::<C>(memory, word, key.part(level), |first, last| {
            let end = above | u64::from(last) << below | ((1 << below) - 1);
            self.narrow(above | u64::from(first) << below, end);
        });
        let cell = cell_of::<C>(memory, word, key.part(level));
        Word(follow(memory.cell(cell)))
    }
}

#[cold]
#[inline(never)]
fn host_or_prefix<C: Compare>(shared: &Shared, version: Version, word: Word, key: u128) -> u32 {
    let memory = shared.memory();
    let area = version.hosts(memory);
    if area.groups == 0 {
        return word.place();
    }
    let home = area.home(shared.seed, key);
    let found = area.find::<C>(memory, home, key);
    found.unwrap_or(word.place())
}
