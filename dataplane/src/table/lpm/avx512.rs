//! Bulk lookups below the large root with AVX-512: sixteen addresses in a register.
//!
//! The first two steps are gathers. Then the addresses that need a node are packed, so that the loops over nodes have no
//! gaps and hardly a branch to guess, and what they find is unpacked to where it belongs. What goes deeper than bit 48 is
//! left to `bulk`.

use std::arch::x86_64::*;

use super::bulk::GROUP;
use super::cells::follow;
use super::memory::Memory;
use super::node::{Avx512, Compare, line_cell};
use super::word::{DIRECT, FORM, INDEX, LINE, LINE_CELLS, SPARSE, Word};
use crate::prefetch;

/// Lanes of a register.
const LANES: usize = 16;
/// Nodes are worked on in fours: the last of them may be ones that nobody asked for.
const UNROLL: usize = 4;

/// The words of 32 IPv6 addresses after bit 48: leaves, with or without hosts, and nodes of level 3.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn words6(
    memory: &Memory,
    root: Word,
    keys: &[[u8; 16]; GROUP],
    out: &mut [u32; GROUP],
) {
    let (halves, _) = keys.as_chunks::<LANES>();
    let (upper_a, lower_a) = first_halves(&halves[0]);
    let (upper_b, lower_b) = first_halves(&halves[1]);
    let words_a = chunk_words::<12>(memory, root, upper_a);
    let words_b = chunk_words::<12>(memory, root, upper_b);
    let (words_a, words_b) = (
        sparse_words(memory, words_a, upper_a),
        sparse_words(memory, words_b, upper_b),
    );
    let part_a = _mm512_srli_epi32::<16>(lower_a);
    let part_b = _mm512_srli_epi32::<16>(lower_b);
    node_words(memory, [words_a, words_b], [part_a, part_b], out);
}

/// The leaves of 32 IPv4 addresses.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn words4(memory: &Memory, root: Word, keys: &[[u8; 4]; GROUP], out: &mut [u32; GROUP]) {
    let (halves, _) = keys.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<LANES>();
    for (keys, out) in halves.iter().zip(out) {
        // SAFETY: the load takes the sixteen addresses.
        let upper = swapped(unsafe { _mm512_loadu_si512(keys.as_ptr().cast()) });
        let words = chunk_words::<8>(memory, root, upper);
        store(out, words);
    }
}

/// The first and the second 32 bits of sixteen addresses, as numbers.
#[target_feature(enable = "avx512f,avx512bw")]
fn first_halves(keys: &[[u8; 16]; LANES]) -> (__m512i, __m512i) {
    let (fours, _) = keys.as_chunks::<4>();
    // SAFETY: the load takes four addresses of sixteen bytes.
    let load = |four: &[[u8; 16]; 4]| unsafe { _mm512_loadu_si512(four.as_ptr().cast()) };
    let pick = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    let low = _mm512_permutex2var_epi32(load(&fours[0]), pick, load(&fours[1]));
    let high = _mm512_permutex2var_epi32(load(&fours[2]), pick, load(&fours[3]));
    let upper = _mm512_shuffle_i64x2::<0b01_00_01_00>(low, high);
    let lower = _mm512_shuffle_i64x2::<0b11_10_11_10>(low, high);
    (swapped(upper), swapped(lower))
}

/// Network order to numbers.
#[target_feature(enable = "avx512f,avx512bw")]
fn swapped(words: __m512i) -> __m512i {
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm512_shuffle_epi8(words, order)
}

/// The cells of these numbers where the mask has a one, else `otherwise`.
#[target_feature(enable = "avx512f")]
fn gather(memory: &Memory, otherwise: __m512i, mask: __mmask16, cells: __m512i) -> __m512i {
    // SAFETY: cells of the root and of DIRECT nodes are below 2^31 (24 bits of place and 6 of unit, and a key), where the
    // index is signed and still a cell of the region. Each element is one load of the processor, as of an atomic.
    unsafe { _mm512_mask_i32gather_epi32::<4>(otherwise, mask, cells, memory.line(0).cast()) }
}

#[target_feature(enable = "avx512f")]
fn constant(value: u32) -> __m512i {
    _mm512_set1_epi32(value.cast_signed())
}

#[target_feature(enable = "avx512f")]
fn has_form(words: __m512i, form: u32) -> __mmask16 {
    _mm512_cmpeq_epi32_mask(_mm512_and_si512(words, constant(FORM)), constant(form))
}

/// The words where these DIRECT nodes have the keys, other words as they are.
#[target_feature(enable = "avx512f")]
fn direct_words(memory: &Memory, words: __m512i, keys: __m512i) -> __m512i {
    let mask = has_form(words, DIRECT);
    // The count of a shift is taken as a whole: the form must go.
    let shift = _mm512_and_si512(_mm512_srli_epi32::<24>(words), constant(15));
    let base = _mm512_slli_epi32::<6>(_mm512_and_si512(words, constant((1 << 24) - 1)));
    let cells = _mm512_add_epi32(base, _mm512_srlv_epi32(keys, shift));
    gather(memory, words, mask, cells)
}

/// What the root and its chunks say of sixteen addresses; `BITS` of the first 32 are the chunk's.
#[target_feature(enable = "avx512f")]
fn chunk_words<const BITS: u32>(memory: &Memory, root: Word, upper: __m512i) -> __m512i {
    let first = constant(root.place().wrapping_mul(LINE_CELLS));
    let cells = _mm512_add_epi32(first, _mm512_srli_epi32::<BITS>(upper));
    let words = gather(memory, cells, !0, cells);
    let keys = _mm512_and_si512(upper, constant((1 << BITS) - 1));
    direct_words(memory, words, keys)
}

/// The words of SPARSE lines, which are few.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1")]
fn sparse_words(memory: &Memory, words: __m512i, upper: __m512i) -> __m512i {
    let mut mask = has_form(words, SPARSE);
    if mask == 0 {
        return words;
    }
    let (mut found, mut keys) = ([0; LANES], [0; LANES]);
    store(&mut found, words);
    store(&mut keys, upper);
    while mask != 0 {
        let lane = mask.trailing_zeros() as usize % LANES; // `as`: below 16
        let key = keys[lane] as u16; // `as`: the second 16 bits
        let cell = line_cell::<Avx512>(memory, Word(found[lane]).place(), key);
        found[lane] = follow(memory.cell(cell));
        mask &= mask - 1;
    }
    // SAFETY: the load takes the sixteen words.
    unsafe { _mm512_loadu_si512(found.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn store(out: &mut [u32; LANES], words: __m512i) {
    // SAFETY: the store fills the sixteen words.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) };
}

/// Room for packed nodes: all of a group, and a register stored at the end; a power of two, so that a masked index needs
/// no check.
const ROOM: usize = 64;

/// Nodes packed one after the other, with the parts of their keys; zeros follow.
struct Packed {
    words: [u32; ROOM],
    keys: [u32; ROOM],
    len: usize,
}

impl Packed {
    #[target_feature(enable = "avx512f,popcnt")]
    fn push(&mut self, mask: __mmask16, words: __m512i, keys: __m512i) {
        debug_assert!(self.len <= GROUP);
        let lines = _mm512_and_si512(words, constant(!FORM));
        let at = self.len % (ROOM - LANES + 1);
        // SAFETY: a register's lanes fit behind `at` in both arrays.
        unsafe {
            let lines = _mm512_maskz_compress_epi32(mask, lines);
            _mm512_storeu_si512(self.words.as_mut_ptr().add(at).cast(), lines);
            let keys = _mm512_maskz_compress_epi32(mask, keys);
            _mm512_storeu_si512(self.keys.as_mut_ptr().add(at).cast(), keys);
        }
        self.len += mask.count_ones() as usize; // `as`: at most 16
    }

    /// The words from `at` on, where the mask has ones.
    #[target_feature(enable = "avx512f")]
    fn unpack(&self, at: usize, mask: __mmask16, otherwise: __m512i) -> __m512i {
        let at = at % (ROOM - LANES + 1);
        // SAFETY: a register's lanes fit behind `at`.
        let words = unsafe { _mm512_loadu_si512(self.words.as_ptr().add(at).cast()) };
        _mm512_mask_expand_epi32(otherwise, mask, words)
    }

    #[inline(always)]
    fn step(&mut self, at: usize, next: impl Fn(u32, u16) -> u32) {
        let key = self.keys[at % ROOM] as u16; // `as`: has 16 bits
        let word = &mut self.words[at % ROOM];
        *word = next(*word, key);
    }
}

/// The words where LINE and INDEX nodes have the keys.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
fn node_words(memory: &Memory, words: [__m512i; 2], keys: [__m512i; 2], out: &mut [u32; GROUP]) {
    let indices = [has_form(words[0], INDEX), has_form(words[1], INDEX)];
    let lines = [has_form(words[0], LINE), has_form(words[1], LINE)];
    let mut packed = Packed {
        words: [0; ROOM],
        keys: [0; ROOM],
        len: 0,
    };
    packed.push(indices[0], words[0], keys[0]);
    let second_indices = packed.len;
    packed.push(indices[1], words[1], keys[1]);
    let first_lines = packed.len;
    packed.push(lines[0], words[0], keys[0]);
    let second_lines = packed.len;
    packed.push(lines[1], words[1], keys[1]);

    // All misses of this step at once.
    let mut at = 0;
    while at < packed.len {
        prefetch::read(memory.cell(packed.words[at % ROOM].wrapping_mul(LINE_CELLS)));
        at += 1;
    }
    let words = [
        direct_words(memory, words[0], keys[0]),
        direct_words(memory, words[1], keys[1]),
    ];
    // From an INDEX the way goes on in one of its LINEs.
    let mut at = 0;
    while at < first_lines {
        packed.step(at, |line, key| {
            let line = line.wrapping_add(1 + Avx512::index(memory, line, key));
            prefetch::read(memory.cell(line.wrapping_mul(LINE_CELLS)));
            line
        });
        at += 1;
    }
    let mut at = 0;
    while at < packed.len {
        for next in 0..UNROLL {
            packed.step(at + next, |line, key| {
                follow(memory.cell(line_cell::<Avx512>(memory, line, key)))
            });
        }
        at += UNROLL;
    }

    let (out, _) = out.as_chunks_mut::<LANES>();
    let found = packed.unpack(0, indices[0], words[0]);
    store(&mut out[0], packed.unpack(first_lines, lines[0], found));
    let found = packed.unpack(second_indices, indices[1], words[1]);
    store(&mut out[1], packed.unpack(second_lines, lines[1], found));
}
