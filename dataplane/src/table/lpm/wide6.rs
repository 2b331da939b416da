//! Bulk lookups of IPv6 below the large root with AVX-512, 32 addresses at a time.
//!
//! The root's cells and those of chunks are few and near: they are gathered, sixteen at a time. Then registers say of each
//! word which line it begins with, and what it goes through has one loop for each step: BROADs, which are the fewest, over
//! the ones of a mask; INDEXes and LINEs over all 32, where one that is none goes through a line that says nothing
//! (`slot`): there is nothing to guess. Each step asks for the line of the next. What goes on below bit 48 is left to `bulk`.

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx512::{LANES, constant, has_form, is_direct, store};
use super::bulk::GROUP;
use super::cells::follow;
use super::memory::Memory;
use super::node::{Avx512, Compare};
use super::slot::{self, INDEX_CELLS, KEY_MASK, LINE_BOUNDS, NEVER_INDEX, NEVER_LINE};
use super::walk::Key;
use super::word::{BROAD, CELL, INDEX, LINE, LINE_CELLS, SLOT_CELL, Word};
use crate::prefetch;

/// Addresses in a register.
const FOUR: usize = 4;

/// What 32 words go through, by the cells their lines begin with. Aligned: half of an array is one store.
#[repr(align(64))]
struct Way {
    keys: [u32; GROUP],
    /// The first line.
    first: [u32; GROUP],
    /// The INDEX; of a BROAD its first one.
    index: [u32; GROUP],
    /// The LINE; of others the first one.
    line: [u32; GROUP],
    broads: u32,
}

/// The words of 32 addresses after bit 48: leaves, with or without hosts, and nodes of level 3. Tells whether some are not
/// plain leaves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn words6(
    memory: &Memory,
    root: Word,
    keys: &[[u8; 16]; GROUP],
    out: &mut [u32; GROUP],
) -> bool {
    let (key_halves, _) = keys.as_chunks::<LANES>();
    let keys = [parts(&key_halves[0]), parts(&key_halves[1])];
    let root = root.place().wrapping_mul(LINE_CELLS) & CELL;
    let first = constant(root);
    let mut words = [
        words_at(memory, root_cells(first, keys[0].upper)),
        words_at(memory, root_cells(first, keys[1].upper)),
    ];
    words[0] = below_chunk(memory, words[0], keys[0].slot);
    words[1] = below_chunk(memory, words[1], keys[1].slot);
    let mut chunks = 0;
    while is_direct(words[0]) | is_direct(words[1]) != 0 && chunks < slot::CHUNKS_MAX {
        words[0] = below_chunk(memory, words[0], keys[0].slot);
        words[1] = below_chunk(memory, words[1], keys[1].slot);
        chunks += 1;
    }

    let mut way = Way {
        keys: [0; GROUP],
        first: [0; GROUP],
        index: [0; GROUP],
        line: [0; GROUP],
        broads: 0,
    };
    let nodes = [
        way.plan(0, words[0], keys[0].slot, root),
        way.plan(1, words[1], keys[1].slot, root),
    ];
    // HOSTS, and what a reader finds that breaks the rules.
    let marked =
        (_mm512_movepi32_mask(words[0]) & !nodes[0]) | (_mm512_movepi32_mask(words[1]) & !nodes[1]);
    let found = if nodes[0] | nodes[1] == 0 {
        0
    } else {
        way.go(memory, out)
    };
    let (halves, _) = out.as_chunks_mut::<LANES>();
    store_some(&mut halves[0], !nodes[0], words[0]);
    store_some(&mut halves[1], !nodes[1], words[1]);
    marked != 0 || found >> 31 != 0
}

impl Way {
    /// Tell where sixteen words lead; returns which of them lead to nodes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn plan(&mut self, half: usize, words: __m512i, keys: __m512i, root: u32) -> __mmask16 {
        let is_broad = has_form(words, BROAD);
        let has_index = is_broad | has_form(words, INDEX);
        let is_node = has_index | has_form(words, LINE);
        let own = _mm512_slli_epi32::<4>(words);
        let line_cells = constant(LINE_CELLS);
        let index = _mm512_mask_add_epi32(own, is_broad, own, line_cells);
        let line = _mm512_mask_add_epi32(own, has_index, index, line_cells);
        let never = constant(root.wrapping_add(NEVER_INDEX));
        store(half_of(&mut self.keys, half), keys);
        store(
            half_of(&mut self.first, half),
            _mm512_mask_mov_epi32(never, is_node, own),
        );
        store(
            half_of(&mut self.index, half),
            _mm512_mask_mov_epi32(never, has_index, index),
        );
        let line = _mm512_mask_mov_epi32(constant(root.wrapping_add(NEVER_LINE)), is_node, line);
        store(half_of(&mut self.line, half), line);
        self.broads |= u32::from(is_broad) << (LANES * half);
        is_node
    }

    /// The words of the nodes, 0 for the others; returns all of them, one over the other. Not inlined: the compiler would take
    /// each cell out of the register it was stored from.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,popcnt")]
    fn go(&mut self, memory: &Memory, out: &mut [u32; GROUP]) -> u32 {
        let mut i = 0;
        while i < GROUP {
            prefetch::read(memory.cell(self.first[i]));
            i += 1;
        }
        let mut left = self.broads;
        while left != 0 {
            let i = left.trailing_zeros() as usize % GROUP; // `as`: below 32
            let before = INDEX_CELLS * Avx512::sixteen(memory, self.first[i], self.keys[i]);
            self.index[i] = self.index[i].wrapping_add(before);
            self.line[i] = self.line[i].wrapping_add(before);
            prefetch::read(memory.cell(self.index[i]));
            left &= left - 1;
        }
        // Four at a time: what a loop adds to each would be a fourth of it.
        let mut i = 0;
        while i < GROUP {
            self.go_to_line(memory, i);
            self.go_to_line(memory, i + 1);
            self.go_to_line(memory, i + 2);
            self.go_to_line(memory, i + 3);
            i += 4;
        }
        let mut found = 0;
        let mut i = 0;
        while i < GROUP {
            found |= self.word(memory, i, out);
            found |= self.word(memory, i + 1, out);
            found |= self.word(memory, i + 2, out);
            found |= self.word(memory, i + 3, out);
            i += 4;
        }
        found
    }

    /// From an INDEX to its LINE.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,popcnt")]
    fn go_to_line(&mut self, memory: &Memory, i: usize) {
        let i = i % GROUP;
        let before = LINE_CELLS * Avx512::sixteen(memory, self.index[i], self.keys[i]);
        self.line[i] = self.line[i].wrapping_add(before);
        prefetch::read(memory.cell(self.line[i]));
    }

    /// What a LINE says.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,popcnt")]
    fn word(&self, memory: &Memory, i: usize, out: &mut [u32; GROUP]) -> u32 {
        let i = i % GROUP;
        let bounds = self.line[i].wrapping_add(LINE_BOUNDS);
        let cell = self.line[i].wrapping_add(Avx512::eight(memory, bounds, self.keys[i]));
        let word = follow(memory.cell(cell));
        out[i] = word;
        word
    }
}

/// Parts of sixteen addresses, as numbers.
struct Parts {
    /// The first 32 bits.
    upper: __m512i,
    /// The key below the root: see [`slot`].
    slot: __m512i,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn parts(keys: &[[u8; 16]; LANES]) -> Parts {
    let (fours, _) = keys.as_chunks::<FOUR>();
    // SAFETY: the load takes four addresses of sixteen bytes.
    let load = |four: &[[u8; 16]; FOUR]| unsafe { _mm512_loadu_si512(four.as_ptr().cast()) };
    // The first 32 bits of eight addresses, then their second.
    let pick = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    let low = _mm512_permutex2var_epi32(load(&fours[0]), pick, load(&fours[1]));
    let high = _mm512_permutex2var_epi32(load(&fours[2]), pick, load(&fours[3]));
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let upper = _mm512_shuffle_epi8(_mm512_shuffle_i64x2::<0b01_00_01_00>(low, high), order);
    let next = _mm512_shuffle_epi8(_mm512_shuffle_i64x2::<0b11_10_11_10>(low, high), order);
    let bits = _mm512_or_si512(
        _mm512_slli_epi32::<16>(upper),
        _mm512_srli_epi32::<16>(next),
    );
    let slot = _mm512_and_si512(bits, constant(KEY_MASK));
    Parts { upper, slot }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn root_cells(first: __m512i, upper: __m512i) -> __m512i {
    _mm512_add_epi32(
        first,
        _mm512_srli_epi32::<{ 32 - <[u8; 16] as Key>::ROOT_BITS }>(upper),
    )
}

/// The words of sixteen cells.
#[inline]
#[target_feature(enable = "avx512f")]
fn words_at(memory: &Memory, cells: __m512i) -> __m512i {
    gather(memory, _mm512_setzero_si512(), __mmask16::MAX, cells)
}

/// In place of those of sixteen words that are chunks: the words of their cells for these keys.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn below_chunk(memory: &Memory, words: __m512i, keys: __m512i) -> __m512i {
    let halved = _mm512_and_si512(words, constant(15));
    let index = _mm512_srlv_epi32(keys, _mm512_add_epi32(halved, halved));
    let base = _mm512_and_si512(words, constant(SLOT_CELL));
    let cells = _mm512_and_si512(_mm512_add_epi32(base, index), constant(CELL));
    gather(memory, words, is_direct(words), cells)
}

/// The words of those of sixteen cells, all below 2^30, that are ones in a mask; the others as they are given.
#[inline]
#[target_feature(enable = "avx512f")]
fn gather(memory: &Memory, others: __m512i, which: __mmask16, cells: __m512i) -> __m512i {
    let words;
    // SAFETY: every cell is in the region, and the instruction takes them as numbers with a sign. To the processor it is a
    // load of each aligned cell, as of an atomic, and what is loaded from where they lead depends on it; as it stands in
    // assembly it is not a load of the language, which would not allow the writer to store meanwhile.
    unsafe {
        asm!(
            "vpgatherdd {words}{{{which}}}, dword ptr [{first} + 4 * {cells}]",
            words = inout(zmm_reg) others => words,
            which = inout(kreg) which => _,
            first = in(reg) memory.line(0),
            cells = in(zmm_reg) cells,
            options(readonly, nostack, preserves_flags),
        );
    }
    words
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_some(out: &mut [u32; LANES], which: __mmask16, words: __m512i) {
    // SAFETY: the store fills those of the sixteen words that are ones in the mask.
    unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), which, words) };
}

#[inline(always)]
fn half_of(all: &mut [u32; GROUP], half: usize) -> &mut [u32; LANES] {
    &mut all.as_chunks_mut().0[half]
}
