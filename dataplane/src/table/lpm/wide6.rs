//! Bulk lookups of IPv6 below the large root with AVX-512, 32 addresses at a time.
//!
//! Two scalar passes, root and cell, which together are quicker than gathers where cells are far: all loads of a pass are
//! on their way at once. Then registers say for 32 words at a time what form each has and where it leads, and one loop for
//! each form goes over the bits of a mask. What a loop finds goes straight to its place, one word at a time: a register
//! loaded from words just stored one by one would wait for all of them. What goes deeper than bit 48 is left to `bulk`.

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx512::{LANES, constant, direct_cells, has_form, is_direct, load, store};
use super::bulk::{GROUP, find_below_late_chunks};
use super::cells::follow;
use super::memory::Memory;
use super::node::{FIRST_CELL, INDEX_LINES};
use super::walk::{Key, chunk_cell, root_cell};
use super::word::{BROAD, DIRECT_FORM, FORM, HOSTS, INDEX, LINE, LINE_CELLS, SPARSE, Word};
use crate::prefetch;

/// Words of a quarter of a register; and addresses of one turn of the root pass.
const FOUR: usize = 4;

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
    let mut cells = [0; GROUP];
    let (fours, _) = keys.as_chunks::<FOUR>();
    let (cell_fours, _) = cells.as_chunks_mut::<FOUR>();
    let mut four = 0;
    while four < GROUP / FOUR {
        let mut at = 0;
        while at < FOUR {
            let upper = fours[four][at].upper();
            let cell = root_cell::<[u8; 16]>(root, upper);
            let word = Word(follow(memory.cell(cell)));
            let below = chunk_cell::<[u8; 16]>(word, upper);
            let cell = std::hint::select_unpredictable(word.is_chunk(), below, cell);
            cell_fours[four][at] = cell;
            prefetch::read(memory.cell(cell));
            at += 1;
        }
        four += 1;
    }
    let (cell_halves, _) = cells.as_chunks::<LANES>();
    let mut words = [
        words_of(memory, &cell_halves[0]),
        words_of(memory, &cell_halves[1]),
    ];
    store_both(out, words);
    if late_chunks(words) {
        find_below_late_chunks(memory, keys, out);
        words = halves(out);
    }
    let sparse = both(has_form(words[0], SPARSE), has_form(words[1], SPARSE));
    if sparse != 0 {
        sparse_words(memory, sparse, keys, out);
        words = halves(out);
    }
    let own = halves(&cells);
    node_words(memory, words, own, keys, out)
}

/// The words of sixteen cells. They are put into the register one by one: loaded from where they were stored one by one,
/// it would wait until all of them are in the cache.
#[inline]
#[target_feature(enable = "avx512f")]
fn words_of(memory: &Memory, cells: &[u32; LANES]) -> __m512i {
    let (fours, _) = cells.as_chunks::<FOUR>();
    let low = _mm256_set_m128i(four_words(memory, &fours[1]), four_words(memory, &fours[0]));
    let high = _mm256_set_m128i(four_words(memory, &fours[3]), four_words(memory, &fours[2]));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn four_words(memory: &Memory, cells: &[u32; FOUR]) -> __m128i {
    let words = _mm_cvtsi32_si128(follow(memory.cell(cells[0])).cast_signed());
    let words = with_word::<1>(memory, words, cells[1]);
    let words = with_word::<2>(memory, words, cells[2]);
    with_word::<3>(memory, words, cells[3])
}

/// Put the word of a cell into a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn with_word<const AT: i32>(memory: &Memory, words: __m128i, cell: u32) -> __m128i {
    let with;
    // SAFETY: every cell is in the region. It is one load of the processor, as of an atomic, and what is loaded from where
    // it leads depends on it; the compiler would load into another register first.
    unsafe {
        asm!(
            "vpinsrd {with}, {words}, dword ptr [{first} + 4 * {cell}], {at}",
            with = lateout(xmm_reg) with,
            words = in(xmm_reg) words,
            first = in(reg) memory.line(0),
            cell = in(reg) u64::from(cell),
            at = const AT,
            options(readonly, nostack, preserves_flags),
        );
    }
    with
}

/// Whether some words are chunks that came between the two passes.
#[inline]
#[target_feature(enable = "avx512f")]
fn late_chunks(words: [__m512i; 2]) -> bool {
    let chunk = Word::chunk(0, 0).0;
    let mask = constant(DIRECT_FORM | chunk);
    let late = |words| _mm512_cmpeq_epi32_mask(_mm512_and_si512(words, mask), constant(chunk));
    late(words[0]) | late(words[1]) != 0
}

/// The words of SPARSE lines, which are few in most tables.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,popcnt")]
fn sparse_words(memory: &Memory, sparse: u32, keys: &[[u8; 16]; GROUP], out: &mut [u32; GROUP]) {
    let mut left = sparse;
    while left != 0 {
        let i = lowest(left);
        prefetch::read(memory.cell(Word(out[i]).place().wrapping_mul(LINE_CELLS)));
        left &= left - 1;
    }
    let mut left = sparse;
    while left != 0 {
        let i = lowest(left);
        let line = Word(out[i]).place().wrapping_mul(LINE_CELLS);
        let key = u32::from(keys[i].part(1)) * 0x1_0001;
        out[i] = line_word(memory, line, key);
        left &= left - 1;
    }
}

/// From the words of the first 32 bits, which stand in these cells, on through the nodes of the next 16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
fn node_words(
    memory: &Memory,
    words: [__m512i; 2],
    own: [__m512i; 2],
    keys: &[[u8; 16]; GROUP],
    out: &mut [u32; GROUP],
) -> bool {
    let form = |form: u32| both(has_form(words[0], form), has_form(words[1], form));
    let (indices, lines, broads) = (form(INDEX), form(LINE), form(BROAD));
    let direct = [is_direct(words[0]), is_direct(words[1])];
    let directs = both(direct[0], direct[1]);
    let nodes = indices | lines | broads | directs;
    let upper_bits = both(
        _mm512_movepi32_mask(words[0]),
        _mm512_movepi32_mask(words[1]),
    );
    let hosted = upper_bits & !nodes != 0;
    if nodes == 0 {
        return hosted;
    }

    // The third part of each key, twice in 32 bits; and the cell where each word leads: the first of a line, one of a DIRECT
    // node, or its own.
    let (mut parts, mut cells) = ([0; GROUP], [0; GROUP]);
    let (key_halves, _) = keys.as_chunks::<LANES>();
    let (part_halves, _) = parts.as_chunks_mut::<LANES>();
    let (cell_halves, _) = cells.as_chunks_mut::<LANES>();
    let mut half = 0;
    while half < 2 {
        let form = _mm512_and_si512(words[half], constant(FORM));
        let is_marked = _mm512_movepi32_mask(words[half]);
        let is_node = _mm512_mask_cmpneq_epi32_mask(is_marked, form, constant(HOSTS));
        let twice = third_parts(&key_halves[half]);
        store(&mut part_halves[half], twice);
        let part = _mm512_srli_epi32::<16>(twice);
        let lines = _mm512_mask_slli_epi32::<4>(own[half], is_node, words[half]);
        let cell = direct_cells(words[half], part);
        store(
            &mut cell_halves[half],
            _mm512_mask_mov_epi32(lines, direct[half], cell),
        );
        half += 1;
    }
    // All of them: a loop over some would end where no processor expects it. Those of leaves are here already.
    let mut i = 0;
    while i < GROUP {
        prefetch::read(memory.cell(cells[i]));
        i += 1;
    }

    let mut found = 0;
    let mut left = directs;
    while left != 0 {
        let i = lowest(left);
        let word = follow(memory.cell(cells[i]));
        out[i] = word;
        found |= word;
        left &= left - 1;
    }
    // From a BROAD the way goes on in one of its INDEXes, from there in one of its LINEs.
    let mut left = broads;
    while left != 0 {
        let i = lowest(left);
        let before = INDEX_LINES * index_below(memory, cells[i], parts[i]);
        cells[i] = cells[i].wrapping_add(LINE_CELLS * (1 + before));
        left &= left - 1;
    }
    let indices = indices | broads;
    let mut left = indices;
    while left != 0 {
        let i = lowest(left);
        let line =
            cells[i].wrapping_add(LINE_CELLS * (1 + index_below(memory, cells[i], parts[i])));
        cells[i] = line;
        prefetch::read(memory.cell(line));
        left &= left - 1;
    }
    let mut left = indices | lines;
    while left != 0 {
        let i = lowest(left);
        let word = line_word(memory, cells[i], parts[i]);
        out[i] = word;
        found |= word;
        left &= left - 1;
    }
    hosted || found >> 31 != 0
}

/// The word in the line that begins with a cell; `twice` is the key, twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
fn line_word(memory: &Memory, first: u32, twice: u32) -> u32 {
    let mask: __mmask16;
    // SAFETY: the comparison reads 32 bytes of a line: 20 of bounds, which nobody writes while a reader may be here, and
    // three cells. What it finds in those, which the writer may change meanwhile, is masked out; as it stands in assembly it
    // is not a load of the language, which would not allow that.
    unsafe {
        asm!(
            "vpcmpnleuw {mask}{{{bounds}}}, {key}, ymmword ptr [{line}]",
            mask = out(kreg) mask,
            bounds = in(kreg) 0x3ff_u16,
            key = in(ymm_reg) _mm256_set1_epi32(twice.cast_signed()),
            line = in(reg) memory.cell(first),
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    follow(memory.cell(first.wrapping_add(FIRST_CELL + u32::from(mask).count_ones())))
}

/// How many of an INDEX's bounds, the first line of which begins with a cell, are below the key, which stands twice in
/// `twice`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,popcnt")]
fn index_below(memory: &Memory, first: u32, twice: u32) -> u32 {
    let bounds: *const u32 = memory.cell(first).as_ptr();
    // SAFETY: all 64 bytes of this line are bounds, which nobody writes while a reader may be here.
    let bounds = unsafe { _mm512_loadu_si512(bounds.cast()) };
    _mm512_cmplt_epu16_mask(bounds, constant(twice)).count_ones()
}

/// The third 16 bits of sixteen addresses, as numbers, each twice.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn third_parts(keys: &[[u8; 16]; LANES]) -> __m512i {
    let (fours, _) = keys.as_chunks::<4>();
    // SAFETY: the load takes four addresses of sixteen bytes.
    let load = |four: &[[u8; 16]; 4]| unsafe { _mm512_loadu_si512(four.as_ptr().cast()) };
    let pick = _mm512_setr_epi32(1, 5, 9, 13, 17, 21, 25, 29, 1, 5, 9, 13, 17, 21, 25, 29);
    let low = _mm512_permutex2var_epi32(load(&fours[0]), pick, load(&fours[1]));
    let high = _mm512_permutex2var_epi32(load(&fours[2]), pick, load(&fours[3]));
    let second = _mm512_shuffle_i64x2::<0b01_00_01_00>(low, high);
    let order = _mm512_set4_epi32(0x0c0d_0c0d, 0x0809_0809, 0x0405_0405, 0x0001_0001);
    _mm512_shuffle_epi8(second, order)
}

/// The two registers of 32 words.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(words: &[u32; GROUP]) -> [__m512i; 2] {
    let (halves, _) = words.as_chunks::<LANES>();
    [load(&halves[0]), load(&halves[1])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_both(out: &mut [u32; GROUP], words: [__m512i; 2]) {
    let (halves, _) = out.as_chunks_mut::<LANES>();
    store(&mut halves[0], words[0]);
    store(&mut halves[1], words[1]);
}

#[inline(always)]
fn both(low: __mmask16, high: __mmask16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// The place of the lowest one of a mask that has one.
#[inline(always)]
fn lowest(mask: u32) -> usize {
    mask.trailing_zeros() as usize % GROUP // `as`: below 32
}
