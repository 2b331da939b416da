//! One lookup: from the head down to a leaf.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::__m256i;

#[cfg(target_arch = "x86_64")]
use super::bulk::GROUP;
use super::cells::follow;
use super::flat;
use super::lookup::Single;
use super::memory::Memory;
use super::node::{self, Compare, cell_of, line_cell};
use super::ranges::{self, Range};
use super::shared::{Shared, Version};
use super::word::{BROAD, HOSTS, INDEX, LINE_CELLS, RANGES, ROOT, SPARSE, Word};

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
    /// Whether the large root and its chunks are all there is.
    const IS_FLAT: bool = false;
    /// The leaves of a batch below the large root, if that is all.
    #[inline(always)]
    fn flat_lookup(_: &Memory, _root: Word, _: &[Self], _leaves: &mut [u32]) {}
    /// The level of the nodes that [`Key::wide_words`] leaves.
    #[cfg(target_arch = "x86_64")]
    const WIDE_LEVEL: usize;
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

    #[cfg(target_arch = "x86_64")]
    const WIDE_LEVEL: usize = 3;

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

    const IS_FLAT: bool = true;

    #[inline(always)]
    fn flat_lookup(memory: &Memory, root: Word, keys: &[Self], leaves: &mut [u32]) {
        flat::lookup(memory, root, keys, leaves);
    }

    #[cfg(target_arch = "x86_64")]
    const WIDE_LEVEL: usize = 2;

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

/// The cell of a chunk for an address.
#[inline(always)]
pub(super) fn chunk_cell<K: Key>(chunk: Word, upper: u32) -> u32 {
    let below = upper & ((1 << (32 - K::ROOT_BITS)) - 1);
    chunk
        .direct_cell()
        .wrapping_add(below.wrapping_shr(chunk.shift()))
}

/// The leaf of the longest prefix that matches; 0 if none does.
#[inline(always)]
pub(super) fn lookup<K: Key, C: Compare>(shared: &Shared, key: &K) -> u32 {
    let (version, top) = shared.current();
    let (word, level) = begin::<K, C>(shared.memory(), top, key);
    if word.is_marked() {
        // Not inlined, so not compiled for more than every processor has.
        return go_on::<K, Single>(shared, version, word, level, key);
    }
    word.place()
}

/// The same from a word that is no leaf, or one with hosts.
#[inline(never)]
fn go_on<K: Key, C: Compare>(
    shared: &Shared,
    version: Version,
    word: Word,
    level: usize,
    key: &K,
) -> u32 {
    let word = go_down::<K, C>(shared.memory(), word, level, key);
    if word.form() == HOSTS {
        return host_or_prefix::<C>(shared, version, word, key.whole());
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
///
/// Forms differ from address to address, so no branch goes by them that could go either way for many: what each would
/// lead to is computed, one is taken, and the lookups of a loop overlap.
#[inline(always)]
fn below_root<K: Key, C: Compare>(memory: &Memory, root: Word, key: &K) -> (Word, usize) {
    let own = root_cell::<K>(root, key.upper());
    let word = Word(follow(memory.cell(own)));
    let (word, own) = if word.form() == SPARSE {
        let cell = line_cell::<C>(memory, word.place(), key.part(1));
        (Word(follow(memory.cell(cell))), cell)
    } else {
        let is_chunk = word.is_chunk();
        let cell = select(is_chunk, chunk_cell::<K>(word, key.upper()), own);
        let below = follow(memory.cell(cell));
        // A cell that is loaded twice may be another one the second time.
        (Word(select(is_chunk, below, word.0)), cell)
    };
    if K::LEVELS == 2 || word.form() == BROAD {
        return (word, 2);
    }
    let key = key.part(2);
    let (is_line, is_direct) = (word.is_line(), word.is_direct());
    let other = select(is_direct, node::direct_cell(word, key), own);
    let line = select(is_line, word.place(), other / LINE_CELLS);
    let below = node::index_line::<C>(memory, line, key);
    let line = select(word.form() == INDEX, below, line);
    let cell = select(is_line, line_cell::<C>(memory, line, key), other);
    let below = follow(memory.cell(cell));
    (Word(select(is_line | is_direct, below, word.0)), 3)
}

/// One of two, which is not worth a guess.
#[inline(always)]
fn select(is_first: bool, first: u32, second: u32) -> u32 {
    std::hint::select_unpredictable(is_first, first, second)
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
        level = 2;
        if word.is_chunk() {
            let shift = word.shift();
            word = Word(follow(memory.cell(chunk_cell::<K>(word, key.upper()))));
            around.narrow_to(32 + shift);
        } else if word.form() == SPARSE {
            word = around.go_down::<K, C>(memory, word, key, 1);
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
