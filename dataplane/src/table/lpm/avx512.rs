//! Bulk lookups below the large root with AVX-512: sixteen addresses in a register.
//!
//! Places are computed sixteen at a time; most loads are one by one. The addresses that need a node are packed, so that the
//! loops over nodes have no gaps and hardly a branch to guess, and what they find is unpacked to where it belongs. What
//! goes deeper than bit 48 is left to `bulk`.

use std::arch::x86_64::*;

use super::bulk::GROUP;
use super::cells::follow;
use super::memory::Memory;
use super::node::{Avx512, Compare, FIRST_CELL, line_cell};
use super::walk::{Key, chunk_cell, root_cell};
use super::word::{DIRECT, DIRECT_CELL, DIRECT_FORM, FORM, INDEX, LINE, SPARSE, Word};

/// Lanes of a register.
const LANES: usize = 16;

/// The words of 32 IPv6 addresses after bit 48: leaves, with or without hosts, and nodes of level 3. Tells whether some are
/// not plain leaves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn words6(
    memory: &Memory,
    root: Word,
    keys: &[[u8; 16]; GROUP],
    out: &mut [u32; GROUP],
) -> bool {
    let (halves, _) = keys.as_chunks::<LANES>();
    let (upper_a, lower_a) = first_halves(&halves[0]);
    let (upper_b, lower_b) = first_halves(&halves[1]);
    let mut words = [0; GROUP];
    chunk_words6(memory, root, keys, &mut words);
    let (words, _) = words.as_chunks::<LANES>();
    let words_a = sparse_words(memory, load(&words[0]), upper_a);
    let words_b = sparse_words(memory, load(&words[1]), upper_b);
    let part_a = _mm512_srli_epi32::<16>(lower_a);
    let part_b = _mm512_srli_epi32::<16>(lower_b);
    node_words(memory, [words_a, words_b], [part_a, part_b], out)
}

/// The first and the second 32 bits of sixteen addresses, as numbers.
#[inline]
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
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn swapped(words: __m512i) -> __m512i {
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm512_shuffle_epi8(words, order)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn constant(value: u32) -> __m512i {
    _mm512_set1_epi32(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn has_form(words: __m512i, form: u32) -> __mmask16 {
    _mm512_cmpeq_epi32_mask(_mm512_and_si512(words, constant(FORM)), constant(form))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn is_direct(words: __m512i) -> __mmask16 {
    let form = _mm512_and_si512(words, constant(DIRECT_FORM));
    _mm512_cmpeq_epi32_mask(form, constant(DIRECT))
}

/// The cells of DIRECT nodes at keys; nothing useful for other words.
#[inline]
#[target_feature(enable = "avx512f")]
fn direct_cells(words: __m512i, keys: __m512i) -> __m512i {
    // The count of a shift is taken as a whole: the rest must go.
    let shift = _mm512_and_si512(words, constant(31));
    let base = _mm512_and_si512(words, constant(DIRECT_CELL));
    _mm512_add_epi32(base, _mm512_srlv_epi32(keys, shift))
}

/// What the root and its chunks say of 32 IPv6 addresses, one by one: in the larger table that is quicker than a gather.
#[inline]
#[target_feature(enable = "avx512f,bmi1,bmi2")]
fn chunk_words6(memory: &Memory, root: Word, keys: &[[u8; 16]; GROUP], words: &mut [u32; GROUP]) {
    let mut at = 0;
    while at < GROUP {
        let upper = keys[at].upper();
        let cell = root_cell::<[u8; 16]>(root, upper);
        let word = Word(follow(memory.cell(cell)));
        let below = chunk_cell::<[u8; 16]>(word, upper);
        let cell = std::hint::select_unpredictable(word.is_chunk(), below, cell);
        words[at] = follow(memory.cell(cell));
        at += 1;
    }
}

/// The words of SPARSE lines, which are few.
#[inline]
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
    load(&found)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(out: &mut [u32; LANES], words: __m512i) {
    // SAFETY: the store fills the sixteen words.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u32; LANES]) -> __m512i {
    // SAFETY: the load takes the sixteen words.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
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
    fn new() -> Self {
        Self {
            words: [0; ROOM],
            keys: [0; ROOM],
            len: 0,
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,popcnt")]
    fn push(&mut self, mask: __mmask16, words: __m512i, keys: __m512i) {
        debug_assert!(self.len <= GROUP);
        let at = self.len % (ROOM - LANES + 1);
        // SAFETY: a register's lanes fit behind `at` in both arrays.
        unsafe {
            let words = _mm512_maskz_compress_epi32(mask, words);
            _mm512_storeu_si512(self.words.as_mut_ptr().add(at).cast(), words);
            let keys = _mm512_maskz_compress_epi32(mask, keys);
            _mm512_storeu_si512(self.keys.as_mut_ptr().add(at).cast(), keys);
        }
        self.len += mask.count_ones() as usize; // `as`: at most 16
    }

    /// The words from `at` on, where the mask has ones.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn unpack(&self, at: usize, mask: __mmask16, otherwise: __m512i) -> __m512i {
        let at = at % (ROOM - LANES + 1);
        // SAFETY: a register's lanes fit behind `at`.
        let words = unsafe { _mm512_loadu_si512(self.words.as_ptr().add(at).cast()) };
        _mm512_mask_expand_epi32(otherwise, mask, words)
    }

    /// From `from` to the end, and on to a multiple of a register's lanes: how often the loop runs is then nearly always
    /// the same, and what comes after it can begin before its outcome is known. The zeros behind the end are harmless.
    #[inline(always)]
    fn for_each(&mut self, from: usize, next: impl Fn(u32, u16) -> u32) {
        let mut at = from;
        while at < self.len {
            let start = at % (ROOM - LANES + 1);
            let words = self.words[start..].first_chunk_mut::<LANES>();
            let keys = self.keys[start..].first_chunk::<LANES>();
            if let (Some(words), Some(keys)) = (words, keys) {
                let mut lane = 0;
                while lane < LANES {
                    words[lane] = next(words[lane], keys[lane] as u16); // `as`: has 16 bits
                    lane += 1;
                }
            }
            at += LANES;
        }
    }
}

/// The words where nodes have the keys.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
fn node_words(
    memory: &Memory,
    words: [__m512i; 2],
    keys: [__m512i; 2],
    out: &mut [u32; GROUP],
) -> bool {
    let masks = |form: u32| [has_form(words[0], form), has_form(words[1], form)];
    let (indices, lines) = (masks(INDEX), masks(LINE));
    let directs = [is_direct(words[0]), is_direct(words[1])];
    let places = |half: usize| _mm512_and_si512(words[half], constant(!FORM));
    let mut cells = Packed::new();
    cells.push(directs[0], direct_cells(words[0], keys[0]), keys[0]);
    let second_directs = cells.len;
    cells.push(directs[1], direct_cells(words[1], keys[1]), keys[1]);
    let mut nodes = Packed::new();
    nodes.push(lines[0], places(0), keys[0]);
    let second_lines = nodes.len;
    nodes.push(lines[1], places(1), keys[1]);
    let first_indices = nodes.len;
    nodes.push(indices[0], places(0), keys[0]);
    let second_indices = nodes.len;
    nodes.push(indices[1], places(1), keys[1]);

    // From an INDEX the way goes on in one of its LINEs.
    nodes.for_each(first_indices, |line, key| {
        line.wrapping_add(1 + Avx512::index(memory, line, key))
    });
    cells.for_each(0, |cell, _| follow(memory.cell(cell)));
    nodes.for_each(0, |line, key| {
        follow(memory.cell_of(line, FIRST_CELL + Avx512::line(memory, line, key)))
    });

    let unpacked = |half: usize| {
        let (line, index, direct) = match half {
            0 => (0, first_indices, 0),
            _ => (second_lines, second_indices, second_directs),
        };
        let found = nodes.unpack(line, lines[half], words[half]);
        let found = nodes.unpack(index, indices[half], found);
        cells.unpack(direct, directs[half], found)
    };
    store_all(out, [unpacked(0), unpacked(1)])
}

/// Hand the words out; tells whether some are not leaves.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn store_all(out: &mut [u32; GROUP], words: [__m512i; 2]) -> bool {
    let (halves, _) = out.as_chunks_mut::<LANES>();
    store(&mut halves[0], words[0]);
    store(&mut halves[1], words[1]);
    _mm512_movepi32_mask(_mm512_or_si512(words[0], words[1])) != 0
}
