//! Bulk lookups below the large root with AVX-512: sixteen addresses in a register.
//!
//! Places are computed sixteen at a time; most loads are one by one. The addresses that need a node are packed, so that the
//! loops over nodes have no gaps and hardly a branch to guess, and what they find is unpacked to where it belongs. What
//! goes deeper than bit 48 is left to `bulk`.

use std::arch::x86_64::*;

use super::bulk::GROUP;
use super::memory::Memory;
use super::word::{DIRECT, DIRECT_CELL, DIRECT_FORM, FORM, LINE_CELLS, Word};

/// Lanes of a register.
pub(super) const LANES: usize = 16;

/// The leaves of 32 IPv4 addresses; all of them are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn words4(
    memory: &Memory,
    root: Word,
    keys: &[[u8; 4]; GROUP],
    out: &mut [u32; GROUP],
) -> bool {
    let (halves, _) = keys.as_chunks::<LANES>();
    // SAFETY: the load takes sixteen addresses.
    let load = |keys: &[[u8; 4]; LANES]| unsafe { _mm512_loadu_si512(keys.as_ptr().cast()) };
    let upper = [swapped(load(&halves[0])), swapped(load(&halves[1]))];
    let words = [
        chunk_words::<8>(memory, root, upper[0]),
        chunk_words::<8>(memory, root, upper[1]),
    ];
    store_all(out, words)
}

/// Network order to numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn swapped(words: __m512i) -> __m512i {
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm512_shuffle_epi8(words, order)
}

/// The words in sixteen cells.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_cells(memory: &Memory, cells: __m512i) -> __m512i {
    // SAFETY: cells of the root and of chunks are below 2^31 (24 bits of place, 6 of unit, and a key), where the signed
    // index is the cell's number, inside the region. Each element is one load of the processor, as of an atomic.
    unsafe { _mm512_i32gather_epi32::<4>(cells, memory.line(0).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn constant(value: u32) -> __m512i {
    _mm512_set1_epi32(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn has_form(words: __m512i, form: u32) -> __mmask16 {
    _mm512_cmpeq_epi32_mask(_mm512_and_si512(words, constant(FORM)), constant(form))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn is_direct(words: __m512i) -> __mmask16 {
    let form = _mm512_and_si512(words, constant(DIRECT_FORM));
    _mm512_cmpeq_epi32_mask(form, constant(DIRECT))
}

/// The cells of DIRECT nodes at keys; nothing useful for other words.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn direct_cells(words: __m512i, keys: __m512i) -> __m512i {
    // The count of a shift is taken as a whole: the rest must go.
    let shift = _mm512_and_si512(words, constant(31));
    let base = _mm512_and_si512(words, constant(DIRECT_CELL));
    _mm512_add_epi32(base, _mm512_srlv_epi32(keys, shift))
}

/// What the root and its chunks say of sixteen addresses; `BITS` of the first 32 are the chunk's.
#[inline]
#[target_feature(enable = "avx512f")]
fn chunk_words<const BITS: u32>(memory: &Memory, root: Word, upper: __m512i) -> __m512i {
    let first = constant(root.place().wrapping_mul(LINE_CELLS));
    let cells = _mm512_add_epi32(first, _mm512_srli_epi32::<BITS>(upper));
    let words = load_cells(memory, cells);
    let chunks = is_direct(words);
    // In IPv4 there are hardly any.
    if chunks == 0 {
        return words;
    }
    let keys = _mm512_and_si512(upper, constant((1 << BITS) - 1));
    let below = direct_cells(words, keys);
    load_cells(memory, _mm512_mask_mov_epi32(cells, chunks, below))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(out: &mut [u32; LANES], words: __m512i) {
    // SAFETY: the store fills the sixteen words.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) };
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(words: &[u32; LANES]) -> __m512i {
    // SAFETY: the load takes the sixteen words.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
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
