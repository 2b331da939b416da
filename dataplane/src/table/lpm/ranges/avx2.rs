//! The words of a group of addresses by ranges, with AVX2: four addresses to a register, and the cells in registers as well.

use std::arch::x86_64::*;
use std::sync::atomic::Ordering::Relaxed;

use super::{BOUND_CELLS, FIRST_CELL};
use crate::table::lpm::bulk::GROUP;
use crate::table::lpm::memory::Memory;
use crate::table::lpm::walk::Key;
use crate::table::lpm::word::LINE_CELLS;

/// Addresses of a register.
const FOUR: usize = 4;
/// Registers of addresses at a time: as many again count, and some are left.
const REGISTERS: usize = 4;
/// Cells of a register.
const CELLS: usize = 8;

/// The words of `keys` by the ranges from cell `first` on, of which `count` have a bound; tells whether some are marked.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::table::lpm) fn words<K: Key>(
    memory: &Memory,
    first: u32,
    count: u32,
    keys: &[K; GROUP],
    out: &mut [u32; GROUP],
) -> bool {
    // There is no unsigned comparison: with the upper bit turned over the signed one tells the same.
    let upper_bit = _mm256_set1_epi64x(i64::MIN);
    let (fours, _) = keys.as_chunks::<FOUR>();
    let (outs, _) = out.as_chunks_mut::<CELLS>();
    let mut all = _mm256_setzero_si256();
    let mut half = 0;
    while half < 2 {
        let mut prefixes = [_mm256_setzero_si256(); REGISTERS];
        let mut below = [_mm256_setzero_si256(); REGISTERS];
        let mut at = 0;
        while at < REGISTERS {
            // SAFETY: this function is compiled for processors with AVX2.
            let four = unsafe { K::four_prefixes(&fours[half * REGISTERS + at]) };
            prefixes[at] = _mm256_xor_si256(four, upper_bit);
            at += 1;
        }
        let mut number = 0;
        while number < count {
            let bound = memory.pair(first.wrapping_add(number * BOUND_CELLS));
            let bound = bound.load(Relaxed) ^ 1 << 63;
            let bound = _mm256_set1_epi64x(bound.cast_signed());
            let mut at = 0;
            while at < REGISTERS {
                // All ones where the bound is smaller, which is -1.
                let is_below = _mm256_cmpgt_epi64(prefixes[at], bound);
                below[at] = _mm256_sub_epi64(below[at], is_below);
                at += 1;
            }
            number += 1;
        }
        let mut pair = 0;
        while pair < REGISTERS / 2 {
            let which = in_order(below[2 * pair], below[2 * pair + 1]);
            let cells = pick(memory, first.wrapping_add(FIRST_CELL), count, which);
            all = _mm256_or_si256(all, cells);
            let out = &mut outs[half * REGISTERS / 2 + pair];
            // SAFETY: eight words are stored.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), cells) };
            pair += 1;
        }
        half += 1;
    }
    // The mark is the upper bit.
    _mm256_movemask_ps(_mm256_castsi256_ps(all)) != 0
}

/// Eight numbers of 64 bits as eight of 32, in the order of the addresses that [`Key::four_prefixes`] took.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(low: __m256i, high: __m256i) -> __m256i {
    let (low, high) = (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
    let lower_halves = _mm256_shuffle_ps::<0b10_00_10_00>(low, high);
    _mm256_permutevar8x32_epi32(
        _mm256_castps_si256(lower_halves),
        _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7),
    )
}

/// Of the `count` cells and one more from `first` on, which begin a line: those with these numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn pick(memory: &Memory, first: u32, count: u32, which: __m256i) -> __m256i {
    let eight = |number: u32| {
        let line = first / LINE_CELLS + number / 2;
        let at = number as usize % 2 * CELLS * size_of::<u32>(); // `as`: u32 to usize
        // SAFETY: half of a line of cells; nobody writes them while a reader may be here.
        let cells = unsafe { _mm256_loadu_si256(memory.line(line).add(at).cast()) };
        _mm256_permutevar8x32_epi32(cells, which)
    };
    let either = |bit_to_sign: __m256i, clear: __m256i, set: __m256i| {
        let (clear, set) = (_mm256_castsi256_ps(clear), _mm256_castsi256_ps(set));
        _mm256_castps_si256(_mm256_blendv_ps(
            clear,
            set,
            _mm256_castsi256_ps(bit_to_sign),
        ))
    };
    if count < CELLS as u32 {
        return eight(0);
    }
    let bit_3 = _mm256_slli_epi32::<28>(which);
    let lower = either(bit_3, eight(0), eight(1));
    if count < 2 * CELLS as u32 {
        return lower;
    }
    let upper = either(bit_3, eight(2), eight(3));
    either(_mm256_slli_epi32::<27>(which), lower, upper)
}

/// The first 64 bits of four IPv6 addresses.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::table::lpm) fn four_prefixes_v6(keys: &[[u8; 16]; FOUR]) -> __m256i {
    let (twos, _) = keys.as_chunks::<2>();
    // SAFETY: two addresses each are loaded.
    let [low, high] =
        [&twos[0], &twos[1]].map(|two| unsafe { _mm256_loadu_si256(two.as_ptr().cast()) });
    let turned = _mm256_setr_epi8(
        7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, //
        7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8,
    );
    _mm256_shuffle_epi8(_mm256_unpacklo_epi64(low, high), turned)
}

/// The same of four IPv4 addresses.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::table::lpm) fn four_prefixes_v4(keys: &[u32; FOUR]) -> __m256i {
    // SAFETY: four addresses are loaded.
    let four = unsafe { _mm_loadu_si128(keys.as_ptr().cast()) };
    let wide = _mm256_slli_epi64::<32>(_mm256_cvtepu32_epi64(four));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(wide)
}
