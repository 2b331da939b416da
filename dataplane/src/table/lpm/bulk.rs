//! Lookups of a whole batch: one step for all addresses before the next, so that their waits for memory overlap.
//!
//! Three passes, 32 addresses at a time. *Root*: the large root's cell says where the next cell is. *Cell*: that cell.
//! *Node*: what is left, step by step, and per step one loop for each form of node, over the bits of a mask: a form is
//! a branch that no processor could guess from address to address, a loop over equal ones has nothing to guess. Last, the
//! host table for those that need it. With AVX-512 what is below the root of IPv6 is found in another way (`wide6`).
//!
//! There are two variants of the same code: plain, and staged, where each step prefetches what the next will load. Small
//! tables live in the nearer caches and are quicker without. The instruction set is chosen when the process makes its
//! first table.

use super::cells::follow;
use super::isa::Isa;
use super::lookup::Single;
use super::memory::Memory;
use super::node::{Compare, Portable, broad_index, direct_cell, index_line, line_cell};
use super::ranges;
use super::shared::{Shared, Version};
use super::slot;
use super::suspects::{Suspects, firsts};
use super::walk::{self, Key, root_cell};
use super::word::{BROAD, DIRECT, DIRECT_FORM, FORM, HOSTS, INDEX, LINE, RANGES, ROOT, Word};
use crate::prefetch;

/// Addresses of a group: one bit each in a mask.
pub(super) const GROUP: usize = 32;
/// So few addresses are looked up one by one.
const FEW: usize = 2;

/// Addresses to leaves, in the best way there is.
#[inline]
pub(super) fn lookup<K: Key>(shared: &Shared, keys: &[K], leaves: &mut [u32]) {
    if let [first, second, .., last] = keys
        && first == last
        && first == second
        && keys.iter().all(|key| key == first)
    {
        leaves.fill(lookup_one(shared, first));
        return;
    }
    if K::IS_FLAT {
        let (_, top) = shared.current();
        if top.form() == ROOT {
            K::flat_lookup(shared.memory(), top, keys, leaves);
        } else {
            lookup_by_best(shared, keys, leaves);
        }
    } else {
        lookup_by(shared.isa, shared, keys, leaves);
    }
}

/// One address.
#[inline]
pub(super) fn lookup_one<K: Key>(shared: &Shared, key: &K) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if !K::IS_FLAT && shared.isa == Isa::Avx512 {
        // SAFETY: `Isa::available` says `Avx512` only where the processor has what the function is compiled for.
        return unsafe { lookup_one_wide(shared, key) };
    }
    walk::lookup::<K, Single>(shared, key)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn lookup_one_wide<K: Key>(shared: &Shared, key: &K) -> u32 {
    walk::lookup::<K, super::node::Avx512>(shared, key)
}

/// Apart, so that what it saves on the stack costs nothing where it is not called.
#[inline(never)]
fn lookup_by_best<K: Key>(shared: &Shared, keys: &[K], leaves: &mut [u32]) {
    lookup_by(shared.isa, shared, keys, leaves);
}

/// Addresses to leaves, by an instruction set that the processor must have: [`Isa::available`] has told.
#[inline]
pub(super) fn lookup_by<K: Key>(isa: Isa, shared: &Shared, keys: &[K], leaves: &mut [u32]) {
    let (version, top) = shared.current();
    if top.form() == RANGES {
        small(isa, shared, version, top, keys, leaves);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 && top.form() == ROOT {
        // SAFETY: `Isa::available` says `Avx512` only where the processor has what the function is compiled for.
        unsafe { lookup_wide(shared, version, top, keys, leaves) };
        return;
    }
    let staged = top.form() == ROOT;
    run(isa, shared, version, staged, Work::All(keys, leaves));
}

/// By ranges.
fn small<K: Key>(
    isa: Isa,
    shared: &Shared,
    version: Version,
    top: Word,
    keys: &[K],
    leaves: &mut [u32],
) {
    match isa {
        Isa::Portable => small_with::<K, Portable>(shared, version, top, keys, leaves),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` other than `Portable` comes from `Isa::available` alone.
        Isa::Avx2 => unsafe { small_avx2(shared, version, top, keys, leaves) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { small_avx512(shared, version, top, keys, leaves) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn small_avx2<K: Key>(
    shared: &Shared,
    version: Version,
    top: Word,
    keys: &[K],
    leaves: &mut [u32],
) {
    small_with::<K, super::node::Avx2>(shared, version, top, keys, leaves);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn small_avx512<K: Key>(
    shared: &Shared,
    version: Version,
    top: Word,
    keys: &[K],
    leaves: &mut [u32],
) {
    small_with::<K, super::node::Avx512>(shared, version, top, keys, leaves);
}

#[inline(always)]
fn small_with<K: Key, C: Compare>(
    shared: &Shared,
    version: Version,
    top: Word,
    keys: &[K],
    leaves: &mut [u32],
) {
    let (groups, keys) = keys.as_chunks::<GROUP>();
    let (outs, leaves) = leaves.as_chunks_mut::<GROUP>();
    for (keys, out) in groups.iter().zip(outs) {
        if ranges::words::<K, C>(shared.memory(), top, keys, out) {
            below_ranges::<K, C>(shared, version, keys, out);
        }
    }
    if !keys.is_empty() {
        let (mut group, mut out) = ([K::default(); GROUP], [0; GROUP]);
        group[..keys.len()].copy_from_slice(keys);
        if ranges::words::<K, C>(shared.memory(), top, &group, &mut out) {
            below_ranges::<K, C>(shared, version, &group, &mut out);
        }
        leaves.copy_from_slice(&out[..leaves.len()]);
    }
}

/// Nodes after bit 64, and hosts.
#[inline(always)]
fn below_ranges<K: Key, C: Compare>(
    shared: &Shared,
    version: Version,
    keys: &[K; GROUP],
    out: &mut [u32; GROUP],
) {
    let passes = Passes::<false>::new(shared, version);
    passes.node_pass_from::<K, C>(ranges::BELOW, keys, out);
}

/// Below the large root, a group at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn lookup_wide<K: Key>(
    shared: &Shared,
    version: Version,
    top: Word,
    keys: &[K],
    leaves: &mut [u32],
) {
    let (groups, keys) = keys.as_chunks::<GROUP>();
    let (outs, leaves) = leaves.as_chunks_mut::<GROUP>();
    // By index: an iterator over both would be a call, compiled without these instructions.
    let mut at = 0;
    while at < groups.len() && at < outs.len() {
        wide_group(shared, version, top, &groups[at], &mut outs[at]);
        at += 1;
    }
    if !keys.is_empty() {
        let (mut group, mut out) = ([K::default(); GROUP], [0; GROUP]);
        group[..keys.len()].copy_from_slice(keys);
        wide_group(shared, version, top, &group, &mut out);
        leaves.copy_from_slice(&out[..leaves.len()]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn wide_group<K: Key>(
    shared: &Shared,
    version: Version,
    top: Word,
    keys: &[K; GROUP],
    out: &mut [u32; GROUP],
) {
    let mut early;
    let mut suspects = None;
    if are_suspect::<K, super::node::Avx512>(shared, version, top, &keys[0]) {
        early = Suspects::new();
        early.look::<K, super::node::Avx512>(shared, version, keys, u32::MAX);
        suspects = Some(&early);
    }
    // SAFETY: this function is compiled for the same processors.
    if unsafe { K::wide_words(shared.memory(), top, keys, out) } {
        let passes = Passes::<true> {
            shared,
            version,
            suspects,
        };
        finish(&passes, keys, out);
    }
}

/// Whether to look into the host table before the trie is walked: it is large, and a group's first address has to.
#[inline(always)]
fn are_suspect<K: Key, C: Compare>(
    shared: &Shared,
    version: Version,
    top: Word,
    first: &K,
) -> bool {
    // Asked in this order: the second is in a line that is not needed otherwise.
    shared.may_have_many_hosts()
        && version.hosts(shared.memory()).is_large()
        && walk::word::<K, C>(shared.memory(), top, first).form() == HOSTS
}

/// Nodes below those that a whole group was walked through, and hosts.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")]
#[inline(never)]
fn finish<K: Key>(passes: &Passes<'_, true>, keys: &[K; GROUP], out: &mut [u32; GROUP]) {
    passes.node_pass_from::<K, super::node::Avx512>(K::SLOT_END, keys, out);
}

/// One of the steps of a bulk lookup, or all.
pub(super) enum Work<'a, K> {
    /// Addresses to leaves.
    All(&'a [K], &'a mut [u32]),
    /// Addresses to cells.
    Root(&'a [K], &'a mut [u32]),
    /// Cells to words, in place.
    Cell(&'a mut [u32]),
    /// Words to leaves, in place.
    Node(&'a [K], &'a mut [u32]),
}

/// Run some work with an instruction set, which the processor must have: [`Isa::available`] has told.
#[inline]
pub(super) fn run<K: Key>(
    isa: Isa,
    shared: &Shared,
    version: Version,
    staged: bool,
    work: Work<'_, K>,
) {
    match isa {
        Isa::Portable => run_with::<K, Portable>(shared, version, staged, work),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` other than `Portable` comes from `Isa::available` alone.
        Isa::Avx2 => unsafe { run_avx2(shared, version, staged, work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { run_avx512(shared, version, staged, work) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn run_avx2<K: Key>(shared: &Shared, version: Version, staged: bool, work: Work<'_, K>) {
    run_with::<K, super::node::Avx2>(shared, version, staged, work);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512vl,avx512dq")]
fn run_avx512<K: Key>(shared: &Shared, version: Version, staged: bool, work: Work<'_, K>) {
    run_with::<K, super::node::Avx512>(shared, version, staged, work);
}

#[inline(always)]
fn run_with<K: Key, C: Compare>(
    shared: &Shared,
    version: Version,
    staged: bool,
    work: Work<'_, K>,
) {
    if staged {
        Passes::<true>::new(shared, version).run::<K, C>(work);
    } else {
        Passes::<false>::new(shared, version).run::<K, C>(work);
    }
}

/// The passes over one version of a table.
struct Passes<'a, const STAGED: bool> {
    shared: &'a Shared,
    version: Version,
    /// What was looked for in the host table already, for the group in work.
    suspects: Option<&'a Suspects>,
}

impl<'a, const STAGED: bool> Passes<'a, STAGED> {
    fn new(shared: &'a Shared, version: Version) -> Self {
        Self {
            shared,
            version,
            suspects: None,
        }
    }

    #[inline(always)]
    fn run<K: Key, C: Compare>(&self, work: Work<'_, K>) {
        match work {
            Work::All(keys, leaves) => self.all::<K, C>(keys, leaves),
            Work::Root(keys, cells) => {
                let top = self.version.top(self.memory());
                for (keys, cells) in keys.chunks(GROUP).zip(cells.chunks_mut(GROUP)) {
                    self.root_pass(top, keys, cells);
                }
            }
            Work::Cell(words) => {
                for words in words.chunks_mut(GROUP) {
                    self.cell_pass(words);
                }
            }
            Work::Node(keys, words) => {
                let is_large = self.version.top(self.memory()).form() == ROOT;
                for (keys, words) in keys.chunks(GROUP).zip(words.chunks_mut(GROUP)) {
                    let mut group = [0; GROUP];
                    group[..words.len()].copy_from_slice(words);
                    self.node_pass::<K, C>(is_large, keys, &mut group);
                    words.copy_from_slice(&group[..words.len()]);
                }
            }
        }
    }

    #[inline(always)]
    fn all<K: Key, C: Compare>(&self, keys: &[K], leaves: &mut [u32]) {
        let (groups, rest) = keys.as_chunks::<GROUP>();
        let (out, out_rest) = leaves.as_chunks_mut::<GROUP>();
        let top = self.version.top(self.memory());
        for (keys, out) in groups.iter().zip(out) {
            self.group::<K, C>(top, keys, out);
        }
        if rest.len() <= FEW {
            for (key, leaf) in rest.iter().zip(out_rest) {
                *leaf = walk::lookup::<K, C>(self.shared, key);
            }
        } else {
            let (mut padded, mut group) = ([K::default(); GROUP], [0; GROUP]);
            padded[..rest.len()].copy_from_slice(rest);
            self.group::<K, C>(top, &padded, &mut group);
            out_rest.copy_from_slice(&group[..rest.len()]);
        }
    }

    #[inline(always)]
    fn group<K: Key, C: Compare>(&self, top: Word, keys: &[K; GROUP], out: &mut [u32; GROUP]) {
        let is_large = top.form() == ROOT;
        let mut early;
        let mut suspects = None;
        if are_suspect::<K, C>(self.shared, self.version, top, &keys[0]) {
            early = Suspects::new();
            early.look::<K, C>(self.shared, self.version, keys, u32::MAX);
            suspects = Some(&early);
        }
        self.root_pass(top, keys, out);
        self.cell_pass(out);
        let passes = Passes::<STAGED> {
            shared: self.shared,
            version: self.version,
            suspects,
        };
        passes.node_pass::<K, C>(is_large, keys, out);
    }

    #[inline(always)]
    fn memory(&self) -> &Memory {
        self.shared.memory()
    }

    /// The cell to go on with: of the chunk if the root leads to one, else of the root itself.
    #[inline(always)]
    fn root_pass<K: Key>(&self, top: Word, keys: &[K], cells: &mut [u32]) {
        let memory = self.memory();
        if top.form() != ROOT {
            cells.fill(self.version.top_cell());
            return;
        }
        for (key, cell) in keys.iter().zip(cells) {
            let at = root_cell::<K>(top, key.upper());
            let word = Word(follow(memory.cell(at)));
            let next = key.chunk_cell(word);
            // Both are computed and one is taken: which one is not worth a guess.
            *cell = std::hint::select_unpredictable(word.is_direct(), next, at);
            if STAGED {
                prefetch::read(memory.cell(*cell));
            }
        }
    }

    #[inline(always)]
    fn cell_pass(&self, words: &mut [u32]) {
        let memory = self.memory();
        for word in words {
            *word = follow(memory.cell(*word));
        }
    }

    /// Words of the large root's cells or chunks, or of the top node, to leaves. Words after the last key are 0.
    #[inline(always)]
    fn node_pass<K: Key, C: Compare>(&self, is_large: bool, keys: &[K], words: &mut [u32; GROUP]) {
        if !is_large {
            self.node_pass_from::<K, C>(0, keys, words);
            return;
        }
        let memory = self.memory();
        if K::IS_FLAT {
            // A reader that goes on from the root's cell loads it twice, and finds a chunk when the writer made it in between.
            for i in bits(C::form_mask(words, DIRECT_FORM, DIRECT)) {
                let cell = keys[i].chunk_cell(Word(words[i]));
                words[i] = follow(memory.cell(cell));
            }
        } else {
            self.slot_pass::<K, C>(keys, words);
        }
        self.node_pass_from::<K, C>(K::SLOT_END, keys, words);
    }

    /// Words below the first 20 bits of IPv6 to those after bit 48: see [`slot`].
    #[inline(always)]
    fn slot_pass<K: Key, C: Compare>(&self, keys: &[K], words: &mut [u32; GROUP]) {
        let memory = self.memory();
        let mut parts = [0; GROUP];
        for (part, key) in parts.iter_mut().zip(keys) {
            *part = key.slot();
        }
        for i in bits(C::form_mask(words, DIRECT_FORM, DIRECT)) {
            words[i] = slot::below_chunks(memory, Word(words[i]), parts[i]).0;
        }
        let lines = C::form_mask(words, FORM, LINE);
        let mut indices = C::form_mask(words, FORM, INDEX);
        let broads = C::form_mask(words, FORM, BROAD);
        for i in bits(lines | indices | broads) {
            words[i] = slot::first_cell(Word(words[i]));
            if STAGED {
                prefetch::read(memory.cell(words[i]));
            }
        }
        for i in bits(broads) {
            words[i] = slot::broad_step::<C>(memory, words[i], parts[i]);
            if STAGED {
                prefetch::read(memory.cell(words[i]));
            }
        }
        indices |= broads;
        for i in bits(indices) {
            words[i] = slot::index_step::<C>(memory, words[i], parts[i]);
            if STAGED {
                prefetch::read(memory.cell(words[i]));
            }
        }
        for i in bits(lines | indices) {
            let cell = slot::line_step::<C>(memory, words[i], parts[i]);
            words[i] = follow(memory.cell(cell));
        }
    }

    /// Words of a level to leaves.
    #[inline(always)]
    fn node_pass_from<K: Key, C: Compare>(
        &self,
        first: usize,
        keys: &[K],
        words: &mut [u32; GROUP],
    ) {
        let memory = self.memory();
        for level in first..K::LEVELS {
            let lines = C::form_mask(words, FORM, LINE);
            let mut indices = C::form_mask(words, FORM, INDEX);
            let broads = C::form_mask(words, FORM, BROAD);
            let directs = C::form_mask(words, DIRECT_FORM, DIRECT);
            if lines | indices | broads | directs == 0 {
                break;
            }
            if STAGED {
                for i in bits(lines | indices | broads) {
                    prefetch::read(memory.cell(line_start(words[i])));
                }
            }
            for i in bits(directs) {
                words[i] = direct_cell(Word(words[i]), keys[i].part(level));
                if STAGED {
                    prefetch::read(memory.cell(words[i]));
                }
            }
            // From a BROAD the way goes on in one of its INDEXes, from there in one of its LINEs.
            for i in bits(broads) {
                let line = broad_index::<C>(memory, Word(words[i]).place(), keys[i].part(level));
                words[i] = line;
                if STAGED {
                    prefetch::read(memory.cell(line_start(line)));
                }
            }
            indices |= broads;
            for i in bits(indices) {
                let line = index_line::<C>(memory, Word(words[i]).place(), keys[i].part(level));
                words[i] = line;
                if STAGED {
                    prefetch::read(memory.cell(line_start(line)));
                }
            }
            for i in bits(lines | indices) {
                let cell = line_cell::<C>(memory, Word(words[i]).place(), keys[i].part(level));
                words[i] = follow(memory.cell(cell));
            }
            for i in bits(directs) {
                words[i] = follow(memory.cell(words[i]));
            }
        }
        let hosted = C::form_mask(words, FORM, HOSTS);
        if hosted != 0 {
            self.host_pass::<K, C>(hosted, keys, words);
        }
    }

    /// Words with hosts to leaves.
    #[inline(always)]
    fn host_pass<K: Key, C: Compare>(&self, hosted: u32, keys: &[K], words: &mut [u32; GROUP]) {
        let (shared, version) = (self.shared, self.version);
        if version.hosts(self.memory()).groups == 0 {
            for i in bits(hosted) {
                words[i] = Word(words[i]).place();
            }
        } else if let Some(suspects) = self.suspects {
            suspects.settle::<K, C>(shared, version, keys, words, hosted);
        } else {
            // Many packets may be to few service addresses.
            let (firsts, first_of) = firsts(keys, hosted);
            let mut suspects = Suspects::new();
            suspects.look::<K, C>(shared, version, keys, firsts);
            suspects.settle::<K, C>(shared, version, keys, words, firsts);
            for i in bits(hosted & !firsts) {
                words[i] = words[usize::from(first_of[i]) % GROUP];
            }
        }
    }
}

/// The first cell of the line a word leads to.
#[inline(always)]
fn line_start(word: u32) -> u32 {
    word.wrapping_mul(super::word::LINE_CELLS)
}

/// The places of the ones, from below.
#[inline(always)]
pub(super) fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let bit = mask.trailing_zeros();
        mask &= mask - 1;
        Some((bit as usize) % GROUP) // `as`: u32 to index
    })
}
