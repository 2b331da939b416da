//! What stands in a line, and how a 16-bit part of a key finds its cell there.
//!
//! ```text
//!   LINE     10 bounds of 16 bits, 11 cells: cell i answers for the keys after bound i-1, up to and with bound i
//!   INDEX    a line of 32 bounds, beside it up to 33 LINEs: the same, for LINEs instead of cells
//!   BROAD    a line of bounds, beside it up to 4 INDEXes: the same once more, each full but the last
//!   DIRECT   a cell for each key; below the large root, for each 2^k keys in a row
//! ```
//!
//! Unused bounds are 0xffff: no key is larger, so nothing behind them is ever found. Bounds never change while readers may
//! be there; cells may, to a new child's place. The number of bounds below a key is found by one vector compare where
//! the processor has it: [`Compare`] has one implementation for each instruction set, and all give the same numbers.

use std::sync::atomic::Ordering::Relaxed;

use super::bulk::GROUP;
use super::memory::Memory;
use super::ranges;
use super::tags::Tags;
use super::walk::Key;
use super::word::{BROAD, INDEX, LINE, LINE_CELLS, Word};

/// Cells, and with them ranges, of a LINE.
pub(super) const LINE_RANGES: usize = 11;
/// Bounds of a LINE.
const BOUNDS: usize = LINE_RANGES - 1;
/// Where its cells begin: after ten bounds.
pub(super) const FIRST_CELL: u32 = 5;
/// Bounds of an INDEX's first line.
const SEPARATORS: usize = 32;
/// Ranges of the largest INDEX.
pub(super) const INDEX_RANGES: usize = (SEPARATORS + 1) * LINE_RANGES;
/// Lines of the largest INDEX.
pub(super) const INDEX_LINES: u32 = 2 + SEPARATORS as u32; // `as`: a small number
/// Ranges of the largest BROAD. Each change writes all of them, so with more a cell for each key pays: at most 361 bytes for
/// each of prefixes that stand apart.
pub(super) const BROAD_RANGES: usize = 4 * INDEX_RANGES;

/// One range of keys with one answer: its last key and the word. Ranges stand in order and leave no gap.
pub(super) type Range = (u16, Word);

/// Number of bounds that are smaller than a key, by one instruction set.
pub(super) trait Compare: Tags {
    /// Of the ten bounds of a LINE.
    fn line(memory: &Memory, line: u32, key: u16) -> u32;
    /// Of the 32 bounds of an INDEX.
    fn index(memory: &Memory, line: u32, key: u16) -> u32;
    /// Of the sixteen bounds of 28 bits from a cell on: see `slot`.
    fn sixteen(memory: &Memory, first: u32, key: u32) -> u32;
    /// Of the eight from a cell on.
    fn eight(memory: &Memory, first: u32, key: u32) -> u32;
    /// Bit i: whether word i has this form in these upper bits.
    fn form_mask(words: &[u32; 32], upper: u32, form: u32) -> u32;
    /// The words of a group of addresses by the ranges from cell `first` on, of which `count` have a bound: see
    /// [`ranges::words`].
    #[inline(always)]
    fn ranges<K: Key>(
        memory: &Memory,
        first: u32,
        count: u32,
        keys: &[K; GROUP],
        out: &mut [u32; GROUP],
    ) -> bool
    where
        Self: Sized,
    {
        ranges::words_portable::<K, Self>(memory, first, count, keys, out)
    }
    /// Of the 32 cells from `first` on, which begin a line and do not change: cell `which[i]` to `out[i]`.
    #[inline(always)]
    fn pick(memory: &Memory, first: u32, which: &[u32; 32], out: &mut [u32; 32]) {
        for (out, which) in out.iter_mut().zip(which) {
            *out = memory.cell(first.wrapping_add(which % 32)).load(Relaxed);
        }
    }
}

/// The cell of `key` in a LINE.
#[inline(always)]
pub(super) fn line_cell<C: Compare>(memory: &Memory, line: u32, key: u16) -> u32 {
    line.wrapping_mul(LINE_CELLS)
        .wrapping_add(FIRST_CELL + C::line(memory, line, key))
}

/// The LINE of `key` in an INDEX.
#[inline(always)]
pub(super) fn index_line<C: Compare>(memory: &Memory, line: u32, key: u16) -> u32 {
    line.wrapping_add(1 + C::index(memory, line, key))
}

/// The first line of the INDEX of `key` in a BROAD.
#[inline(always)]
pub(super) fn broad_index<C: Compare>(memory: &Memory, line: u32, key: u16) -> u32 {
    line.wrapping_add(1 + INDEX_LINES * C::index(memory, line, key))
}

/// The cell of `key` in a DIRECT node.
#[inline(always)]
pub(super) fn direct_cell(word: Word, key: u16) -> u32 {
    word.direct_cell()
        .wrapping_add(u32::from(key).wrapping_shr(word.shift()))
}

/// The cell of `key` in a node of any form.
#[inline(always)]
pub(super) fn cell_of<C: Compare>(memory: &Memory, word: Word, key: u16) -> u32 {
    if word.is_direct() {
        return direct_cell(word, key);
    }
    let line = match word.form() {
        INDEX => index_line::<C>(memory, word.place(), key),
        BROAD => {
            let index = broad_index::<C>(memory, word.place(), key);
            index_line::<C>(memory, index, key)
        }
        // LINE; a number that is no node is a line as well, and the walk soon ends.
        _ => word.place(),
    };
    line_cell::<C>(memory, line, key)
}

/// Tell from which key to which a node has the cell that it has for `key`: each step that it takes there is told of, and
/// the cell's are those that all of them name.
#[inline(always)]
pub(super) fn bounds<C: Compare>(
    memory: &Memory,
    word: Word,
    key: u16,
    mut tell: impl FnMut(u16, u16),
) {
    if word.is_direct() {
        let below = ((1_u32 << word.shift()) - 1) as u16; // `as`: the lower half
        tell(key & !below, key | below);
        return;
    }
    let mut between = |line: u32, below: u32, bounds: u32| {
        let bound = |number: u32| {
            let cell = line.wrapping_mul(LINE_CELLS).wrapping_add(number / 2);
            (memory.cell(cell).load(Relaxed) >> (number % 2 * 16)) as u16 // `as`: one half
        };
        let first = below
            .checked_sub(1)
            .map_or(0, |before| bound(before).wrapping_add(1));
        tell(
            first,
            if below < bounds {
                bound(below)
            } else {
                u16::MAX
            },
        );
    };
    let mut line = word.place();
    if word.form() == BROAD {
        let below = C::index(memory, line, key);
        between(line, below, SEPARATORS as u32); // `as`: 32
        line = broad_index::<C>(memory, line, key);
    }
    if matches!(word.form(), BROAD | INDEX) {
        let below = C::index(memory, line, key);
        between(line, below, SEPARATORS as u32); // `as`: 32
        line = index_line::<C>(memory, line, key);
    }
    between(line, C::line(memory, line, key), BOUNDS as u32); // `as`: 10
}

/// Lines of a node; 0 for a leaf.
pub(super) fn lines_of(memory: &Memory, word: Word, bits: u32) -> u32 {
    match word.form() {
        _ if word.is_direct() => (1 << (bits - word.shift())) / LINE_CELLS,
        LINE => 1,
        INDEX => 2 + bounds_in_use(memory, word.place()),
        BROAD => {
            let before_last = 1 + INDEX_LINES * bounds_in_use(memory, word.place());
            before_last + 2 + bounds_in_use(memory, word.place() + before_last)
        }
        _ => 0,
    }
}

/// Lines of an INDEX of `ranges`.
pub(super) fn index_lines(ranges: usize) -> u32 {
    u32::try_from(1 + ranges.div_ceil(LINE_RANGES)).expect("an INDEX has at most 34 lines")
}

/// Lines of a BROAD of `ranges`.
pub(super) fn broad_lines(ranges: usize) -> u32 {
    let full = (ranges - 1) / INDEX_RANGES;
    let before_last = u32::try_from(full).expect("a BROAD has few INDEXes") * INDEX_LINES;
    1 + before_last + index_lines(ranges - full * INDEX_RANGES)
}

/// The last line of an INDEX, and the last INDEX of a BROAD, may end with 0xffff, so a separator never does: those are the unused ones.
fn bounds_in_use(memory: &Memory, line: u32) -> u32 {
    (0..16)
        .map(|pair| memory.cell(line * LINE_CELLS + pair).load(Relaxed))
        .flat_map(|pair| [pair & 0xffff, pair >> 16])
        .map(|bound| u32::from(bound != 0xffff))
        .sum()
}

/// Write a LINE of at most [`LINE_RANGES`] ranges.
pub(super) fn write_line(memory: &Memory, line: u32, ranges: &[Range]) {
    debug_assert!((1..=LINE_RANGES).contains(&ranges.len()));
    let first = line * LINE_CELLS;
    let bounds = ranges[..ranges.len() - 1].iter().map(|(end, _)| *end);
    write_bounds(memory, first, bounds, BOUNDS);
    let mut cell = first + FIRST_CELL;
    for (_, word) in ranges {
        memory.cell(cell).store(word.0, Relaxed);
        cell += 1;
    }
    for unused in cell..first + LINE_CELLS {
        memory.cell(unused).store(0, Relaxed);
    }
}

/// Write an INDEX of at most [`INDEX_RANGES`] ranges.
pub(super) fn write_index(memory: &Memory, line: u32, ranges: &[Range]) {
    debug_assert!((1..=INDEX_RANGES).contains(&ranges.len()));
    let chunks = ranges.chunks(LINE_RANGES);
    let ends = chunks.clone().map(|chunk| chunk[chunk.len() - 1].0);
    let separators = chunks.len() - 1;
    write_bounds(memory, line * LINE_CELLS, ends.take(separators), SEPARATORS);
    for (chunk, line) in chunks.zip(line + 1..) {
        write_line(memory, line, chunk);
    }
}

/// Write a BROAD of at most [`BROAD_RANGES`] ranges.
pub(super) fn write_broad(memory: &Memory, line: u32, ranges: &[Range]) {
    debug_assert!((1..=BROAD_RANGES).contains(&ranges.len()));
    let parts = ranges.chunks(INDEX_RANGES);
    let ends = parts.clone().map(|part| part[part.len() - 1].0);
    let separators = parts.len() - 1;
    write_bounds(memory, line * LINE_CELLS, ends.take(separators), SEPARATORS);
    for (part, number) in parts.zip(0..) {
        write_index(memory, line + 1 + INDEX_LINES * number, part);
    }
}

fn write_bounds(
    memory: &Memory,
    first_cell: u32,
    mut bounds: impl Iterator<Item = u16>,
    count: usize,
) {
    let mut bound = || u32::from(bounds.next().unwrap_or(u16::MAX));
    for (_, cell) in (0..count / 2).zip(first_cell..) {
        // Two bounds in a cell, the first in the lower half: the order of bytes on the processors with vectors.
        let pair = bound() | bound() << 16;
        memory.cell(cell).store(pair, Relaxed);
    }
}

/// Without vectors of ours.
pub(super) struct Portable;

impl Portable {
    #[inline(always)]
    fn below(memory: &Memory, line: u32, pairs: u32, key: u16) -> u32 {
        let first = line.wrapping_mul(LINE_CELLS);
        let mut below = 0;
        for pair in 0..pairs {
            let pair = memory.cell(first.wrapping_add(pair)).load(Relaxed);
            // Counted without a comparison's result: the difference is negative when the bound is smaller.
            below += (pair & 0xffff).wrapping_sub(u32::from(key)) >> 31;
            below += (pair >> 16).wrapping_sub(u32::from(key)) >> 31;
        }
        below
    }

    /// Of `count` bounds that are words.
    #[inline(always)]
    fn words_below(memory: &Memory, first: u32, count: u32, key: u32) -> u32 {
        let bounds = (0..count).map(|number| memory.cell(first.wrapping_add(number)).load(Relaxed));
        bounds.map(|bound| bound.wrapping_sub(key) >> 31).sum()
    }
}

impl Compare for Portable {
    #[inline(always)]
    fn line(memory: &Memory, line: u32, key: u16) -> u32 {
        Self::below(memory, line, 5, key)
    }

    #[inline(always)]
    fn index(memory: &Memory, line: u32, key: u16) -> u32 {
        Self::below(memory, line, 16, key)
    }

    #[inline(always)]
    fn sixteen(memory: &Memory, first: u32, key: u32) -> u32 {
        Self::words_below(memory, first, 16, key)
    }

    #[inline(always)]
    fn eight(memory: &Memory, first: u32, key: u32) -> u32 {
        Self::words_below(memory, first, 8, key)
    }

    #[inline(always)]
    fn form_mask(words: &[u32; 32], upper: u32, form: u32) -> u32 {
        let mut mask = 0;
        for (bit, word) in words.iter().enumerate() {
            let differs = (word & upper ^ form) >> 28;
            mask |= (differs.wrapping_sub(1) >> 31) << bit;
        }
        mask
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Sse2};

/// The vector instructions of x86-64. What is called here must only run where the processor has it: `bulk` sees to it by
/// asking at run time, and [`Sse2`] is part of every such processor.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::{Compare, GROUP, Key, Memory, Portable, ranges};

    const LINE_BOUNDS: u32 = (1 << super::BOUNDS) - 1;

    /// Every x86-64 processor.
    pub struct Sse2;

    impl Compare for Sse2 {
        #[inline(always)]
        fn line(memory: &Memory, line: u32, key: u16) -> u32 {
            let bounds = memory.line(line);
            // SAFETY: SSE2 is part of x86-64. The first 20 bytes of a line are bounds, which nobody writes while a
            // reader may be here, and the loads take 16 and 4 of them.
            let mask = unsafe {
                let low = _mm_loadu_si128(bounds.cast());
                let high = _mm_loadu_si32(bounds.add(16));
                let key = _mm_set1_epi16(key.cast_signed());
                // Saturated key - bound is 0 where the key is not larger.
                let zero = _mm_setzero_si128();
                let low = _mm_cmpeq_epi16(_mm_subs_epu16(key, low), zero);
                let high = _mm_cmpeq_epi16(_mm_subs_epu16(key, high), zero);
                _mm_movemask_epi8(_mm_packs_epi16(low, high)).cast_unsigned()
            };
            // Bounds are in order: those before the first that is not smaller.
            (mask | 1 << super::BOUNDS).trailing_zeros()
        }

        #[inline(always)]
        fn index(memory: &Memory, line: u32, key: u16) -> u32 {
            let bounds = memory.line(line);
            let half = |at: usize| {
                // SAFETY: SSE2 is part of x86-64. All 64 bytes of this line are bounds, which nobody writes while a
                // reader may be here; `at` is 0 or 32.
                unsafe {
                    let low = _mm_loadu_si128(bounds.add(at).cast());
                    let high = _mm_loadu_si128(bounds.add(at + 16).cast());
                    let key = _mm_set1_epi16(key.cast_signed());
                    let zero = _mm_setzero_si128();
                    let low = _mm_cmpeq_epi16(_mm_subs_epu16(key, low), zero);
                    let high = _mm_cmpeq_epi16(_mm_subs_epu16(key, high), zero);
                    _mm_movemask_epi8(_mm_packs_epi16(low, high)).cast_unsigned()
                }
            };
            (half(0) | half(32) << 16).trailing_zeros()
        }

        #[inline(always)]
        fn sixteen(memory: &Memory, first: u32, key: u32) -> u32 {
            let low = below_of_eight(memory, first, key);
            let high = below_of_eight(memory, first.wrapping_add(8), key);
            // SAFETY: SSE2 is part of x86-64.
            let mask = unsafe { _mm_movemask_epi8(_mm_packs_epi16(low, high)).cast_unsigned() };
            // Bounds are in order: the smaller ones are the first.
            mask.trailing_ones()
        }

        #[inline(always)]
        fn eight(memory: &Memory, first: u32, key: u32) -> u32 {
            let below = below_of_eight(memory, first, key);
            // SAFETY: SSE2 is part of x86-64.
            let mask = unsafe { _mm_movemask_epi8(_mm_packs_epi16(below, below)).cast_unsigned() };
            (mask & 0xff).trailing_ones()
        }

        #[inline(always)]
        fn form_mask(words: &[u32; 32], upper: u32, form: u32) -> u32 {
            Portable::form_mask(words, upper, form)
        }
    }

    /// Which of eight bounds of 28 bits from a cell on are smaller than the key, a word of 16 ones each.
    #[inline(always)]
    fn below_of_eight(memory: &Memory, first: u32, key: u32) -> __m128i {
        let bounds: *const u32 = memory.cell(first).as_ptr();
        // SAFETY: SSE2 is part of x86-64. The loads take four bounds each, which nobody writes while a reader may be here.
        unsafe {
            let key = _mm_set1_epi32(key.cast_signed());
            let low = _mm_cmpgt_epi32(key, _mm_loadu_si128(bounds.cast()));
            let high = _mm_cmpgt_epi32(key, _mm_loadu_si128(bounds.add(4).cast()));
            _mm_packs_epi32(low, high)
        }
    }

    /// AVX2 with BMI and POPCNT.
    pub struct Avx2;

    impl Compare for Avx2 {
        #[inline(always)]
        fn line(memory: &Memory, line: u32, key: u16) -> u32 {
            Sse2::line(memory, line, key)
        }

        #[inline(always)]
        fn index(memory: &Memory, line: u32, key: u16) -> u32 {
            let bounds = memory.line(line);
            // SAFETY: only run where the processor has AVX2. All 64 bytes of this line are bounds, which nobody writes
            // while a reader may be here.
            let mask = unsafe {
                let low = _mm256_loadu_si256(bounds.cast());
                let high = _mm256_loadu_si256(bounds.add(32).cast());
                let key = _mm256_set1_epi16(key.cast_signed());
                let zero = _mm256_setzero_si256();
                let low = _mm256_cmpeq_epi16(_mm256_subs_epu16(key, low), zero);
                let high = _mm256_cmpeq_epi16(_mm256_subs_epu16(key, high), zero);
                // Packing works within halves of the register; the permutation puts them in order.
                let packed =
                    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
                _mm256_movemask_epi8(packed).cast_unsigned()
            };
            mask.trailing_zeros()
        }

        #[inline(always)]
        fn sixteen(memory: &Memory, first: u32, key: u32) -> u32 {
            Self::eight(memory, first, key) + Self::eight(memory, first.wrapping_add(8), key)
        }

        #[inline(always)]
        fn eight(memory: &Memory, first: u32, key: u32) -> u32 {
            let bounds: *const u32 = memory.cell(first).as_ptr();
            // SAFETY: only run where the processor has AVX2. The load takes eight bounds, which nobody writes while a
            // reader may be here.
            let mask = unsafe {
                let bounds = _mm256_loadu_si256(bounds.cast());
                let below = _mm256_cmpgt_epi32(_mm256_set1_epi32(key.cast_signed()), bounds);
                _mm256_movemask_ps(_mm256_castsi256_ps(below)).cast_unsigned()
            };
            mask.count_ones()
        }

        #[inline(always)]
        fn ranges<K: Key>(
            memory: &Memory,
            first: u32,
            count: u32,
            keys: &[K; GROUP],
            out: &mut [u32; GROUP],
        ) -> bool {
            // SAFETY: only run where the processor has AVX2.
            unsafe { ranges::words_avx2(memory, first, count, keys, out) }
        }

        #[inline(always)]
        fn form_mask(words: &[u32; 32], upper: u32, form: u32) -> u32 {
            let mut mask = 0;
            for (eight, shift) in words.as_chunks::<8>().0.iter().zip([0, 8, 16, 24]) {
                // SAFETY: only run where the processor has AVX2; the load takes the eight words.
                mask |= unsafe {
                    let words = _mm256_loadu_si256(eight.as_ptr().cast());
                    let forms = _mm256_and_si256(words, _mm256_set1_epi32(upper.cast_signed()));
                    let equal = _mm256_cmpeq_epi32(forms, _mm256_set1_epi32(form.cast_signed()));
                    _mm256_movemask_ps(_mm256_castsi256_ps(equal)).cast_unsigned()
                } << shift;
            }
            mask
        }
    }

    /// How many of the bounds of a LINE, which begins here, are smaller than the key.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
    fn bounds_below(line: *const u8, key: u16) -> u32 {
        let mask: __mmask16;
        // SAFETY: the comparison reads 32 bytes of a line: 20 of bounds, which nobody writes while a reader may be here, and
        // three cells. What it finds in those, which the writer may change meanwhile, is thrown away below; as it stands
        // in assembly it is not a load of the language, which would not allow that.
        unsafe {
            asm!(
                "vpcmpnleuw {mask}, {key}, ymmword ptr [{line}]",
                mask = out(kreg) mask,
                key = in(ymm_reg) _mm256_set1_epi16(key.cast_signed()),
                line = in(reg) line,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        (u32::from(mask) & LINE_BOUNDS).count_ones()
    }

    /// AVX-512 with byte, word and vector-length extensions.
    pub struct Avx512;

    impl Compare for Avx512 {
        #[inline(always)]
        fn line(memory: &Memory, line: u32, key: u16) -> u32 {
            // SAFETY: only run where the processor has AVX-512 BW and VL.
            unsafe { bounds_below(memory.line(line), key) }
        }

        #[inline(always)]
        fn index(memory: &Memory, line: u32, key: u16) -> u32 {
            // SAFETY: only run where the processor has AVX-512 BW. All 64 bytes of this line are bounds, which nobody
            // writes while a reader may be here.
            let mask = unsafe {
                let bounds = _mm512_loadu_si512(memory.line(line).cast());
                _mm512_cmplt_epu16_mask(bounds, _mm512_set1_epi16(key.cast_signed()))
            };
            mask.count_ones()
        }

        #[inline(always)]
        fn sixteen(memory: &Memory, first: u32, key: u32) -> u32 {
            let bounds: *const u32 = memory.cell(first).as_ptr();
            // SAFETY: only run where the processor has AVX-512 F. The load takes sixteen bounds, which nobody writes while a
            // reader may be here.
            let mask = unsafe {
                let bounds = _mm512_loadu_si512(bounds.cast());
                _mm512_cmplt_epi32_mask(bounds, _mm512_set1_epi32(key.cast_signed()))
            };
            u32::from(mask).count_ones()
        }

        #[inline(always)]
        fn eight(memory: &Memory, first: u32, key: u32) -> u32 {
            let bounds: *const u32 = memory.cell(first).as_ptr();
            // SAFETY: only run where the processor has AVX-512 VL. The load takes eight bounds, which nobody writes while a
            // reader may be here.
            let mask = unsafe {
                let bounds = _mm256_loadu_si256(bounds.cast());
                _mm256_cmplt_epi32_mask(bounds, _mm256_set1_epi32(key.cast_signed()))
            };
            u32::from(mask).count_ones()
        }

        #[inline(always)]
        fn pick(memory: &Memory, first: u32, which: &[u32; 32], out: &mut [u32; 32]) {
            let line = first / super::LINE_CELLS;
            let lines = [memory.line(line), memory.line(line.wrapping_add(1))];
            // SAFETY: only run where the processor has AVX-512 F; the loads take the two lines, which nobody writes while a
            // reader may be here.
            let cells = unsafe { lines.map(|line| _mm512_loadu_si512(line.cast())) };
            let (which, _) = which.as_chunks::<16>();
            let (out, _) = out.as_chunks_mut::<16>();
            for (which, out) in which.iter().zip(out) {
                // SAFETY: only run where the processor has AVX-512 F; sixteen words are loaded and stored.
                unsafe {
                    let which = _mm512_loadu_si512(which.as_ptr().cast());
                    let picked = _mm512_permutex2var_epi32(cells[0], which, cells[1]);
                    _mm512_storeu_si512(out.as_mut_ptr().cast(), picked);
                }
            }
        }

        #[inline(always)]
        fn form_mask(words: &[u32; 32], upper: u32, form: u32) -> u32 {
            let (halves, _) = words.as_chunks::<16>();
            let mask = |sixteen: &[u32; 16]| {
                // SAFETY: only run where the processor has AVX-512 F; the load takes the sixteen words.
                u32::from(unsafe {
                    let words = _mm512_loadu_si512(sixteen.as_ptr().cast());
                    let forms = _mm512_and_si512(words, _mm512_set1_epi32(upper.cast_signed()));
                    _mm512_cmpeq_epi32_mask(forms, _mm512_set1_epi32(form.cast_signed()))
                })
            };
            mask(&halves[0]) | mask(&halves[1]) << 16
        }
    }
}
