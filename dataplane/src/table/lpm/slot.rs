//! What a cell of the large IPv6 root leads to: how the 28 bits of an address after the first 20 find their answer.
//!
//! ```text
//!   LINE     8 cells, then 7 bounds: cell i answers for the keys after bound i-1, up to and with bound i
//!   INDEX    a line of 15 bounds, beside it up to 16 LINEs: the same, for LINEs instead of cells
//!   BROAD    a line of 15 bounds, beside it up to 16 INDEXes: the same once more, each full but the last
//!   DIRECT   a *chunk*: 2^k cells for 2^k parts of its keys, each of at least 16 keys; each leads on as the root's cell does
//! ```
//!
//! A bound is a word of 28 bits, so one node answers for prefixes of all lengths from /21 to /48, wherever they lie: what
//! the Internet's table needs of memory is little more than its ranges with different answers, which is why most of it
//! stays in the nearer caches. Unused bounds are larger than every key. Bounds never change while readers may be there;
//! cells may, to a new child's place.
//!
//! Readers without a branch for each form go through the two lines behind the root where a form has no line to compare with
//! ([`NEVER_INDEX`], [`NEVER_LINE`]): nothing there is smaller than a key.

use std::sync::atomic::Ordering::Relaxed;

use super::cells::follow;
use super::memory::Memory;
use super::node::Compare;
use super::shared::Block;
use super::word::{BROAD, HOSTS, INDEX, LINE, LINE_CELLS, Word};

/// Bits of a key.
pub(super) const KEY_BITS: u32 = 28;
/// All of them.
pub(super) const KEY_MASK: u32 = (1 << KEY_BITS) - 1;
/// An unused bound.
const UNUSED: u32 = i32::MAX as u32; // `as`: it is positive

/// What a line of bounds leads to, at most.
const FANOUT: usize = 16;
/// Ranges of a LINE.
const LINE_RANGES: usize = 8;
/// Of an INDEX.
const INDEX_RANGES: usize = FANOUT * LINE_RANGES;
/// Of a BROAD.
pub(super) const BROAD_RANGES: usize = FANOUT * INDEX_RANGES;
/// Where the bounds of a LINE begin.
pub(super) const LINE_BOUNDS: u32 = LINE_RANGES as u32; // `as`: a small number
/// Cells of a full INDEX, which is how far apart those of a BROAD are.
pub(super) const INDEX_CELLS: u32 = LINE_CELLS * (1 + FANOUT as u32); // `as`: a small number

/// From the root's first cell to that of a line of which no bound is in use: behind its own cells.
pub(super) const NEVER_INDEX: u32 = 1 << (48 - KEY_BITS);
/// The same to a LINE whose only answer is 0.
pub(super) const NEVER_LINE: u32 = NEVER_INDEX + LINE_CELLS;
/// Lines of both.
pub(super) const NEVER_LINES: u32 = 2;

/// The fewest bits a chunk divides its keys by: its cells fill lines.
const CHUNK_BITS_MIN: u32 = 4;
/// The most.
const CHUNK_BITS_MAX: u32 = 12;
/// Items of a part of a chunk, on average, or some fewer. Not a power of two: a network often has as many prefixes as one says,
/// and at that number each one that comes or goes would make all anew.
const PART_ITEMS_MEAN: u32 = 24;
/// Items of the largest part that may be a node. If none of them touch, their ranges are twice as many and it is none; with
/// more than these, changes would take too long.
pub(super) const PART_ITEMS: u32 = 1400;
/// Bits of a key below which no chunk divides further: so many keys fit an INDEX.
const PART_BITS_MIN: u32 = 4;
/// More than the chunks on any way.
pub(super) const CHUNKS_MAX: usize = 6;

/// One range of keys with one answer: its last key and the word. Ranges stand in order and leave no gap.
pub(super) type Range = (u32, Word);

/// The first 20 bits of 64, and the key after them.
#[inline(always)]
fn split(prefix: u64) -> (u32, u32) {
    // `as`: 20 bits, and the lower 28
    ((prefix >> 44) as u32, (prefix >> 16) as u32 & KEY_MASK)
}

/// The key of an address with these first 64 bits.
#[inline(always)]
pub(super) fn key(prefix: u64) -> u32 {
    split(prefix).1
}

/// The cell of a key in a chunk.
#[inline(always)]
pub(super) fn chunk_cell(chunk: Word, key: u32) -> u32 {
    chunk.slot_cell(key.wrapping_shr(chunk.slot_shift()))
}

/// The first cell of a node.
#[inline(always)]
pub(super) fn first_cell(word: Word) -> u32 {
    word.place().wrapping_mul(LINE_CELLS)
}

/// From a BROAD that begins with cell `first` to the first cell of its INDEX for a key.
#[inline(always)]
pub(super) fn broad_step<C: Compare>(memory: &Memory, first: u32, key: u32) -> u32 {
    first.wrapping_add(LINE_CELLS + INDEX_CELLS * C::sixteen(memory, first, key))
}

/// From an INDEX to the first cell of its LINE for a key.
#[inline(always)]
pub(super) fn index_step<C: Compare>(memory: &Memory, first: u32, key: u32) -> u32 {
    first.wrapping_add(LINE_CELLS * (1 + C::sixteen(memory, first, key)))
}

/// The cell of a key in a LINE.
#[inline(always)]
pub(super) fn line_step<C: Compare>(memory: &Memory, first: u32, key: u32) -> u32 {
    first.wrapping_add(C::eight(memory, first.wrapping_add(LINE_BOUNDS), key))
}

/// The cell of a key in a node that is no chunk.
#[inline(always)]
fn cell_in<C: Compare>(memory: &Memory, word: Word, key: u32) -> u32 {
    let mut first = first_cell(word);
    if word.form() == BROAD {
        first = broad_step::<C>(memory, first, key);
    }
    if word.form() != LINE {
        first = index_step::<C>(memory, first, key);
    }
    line_step::<C>(memory, first, key)
}

/// Through all chunks.
#[inline(always)]
pub(super) fn below_chunks(memory: &Memory, mut word: Word, key: u32) -> Word {
    for _ in 0..CHUNKS_MAX {
        if !word.is_direct() {
            break;
        }
        word = Word(follow(memory.cell(chunk_cell(word, key))));
    }
    word
}

/// The answer for addresses with these first 64 bits below the root that begins with cell `root`: a leaf, if it is found as
/// most are, else any word that is marked.
///
/// Forms differ from address to address, so no branch goes by them: each address goes through the lines of all, or through
/// those that say nothing, and the lookups of a loop overlap, the more of them the fewer instructions each has. The second
/// chunk is an exception, as few go through one.
#[inline(always)]
pub(super) fn quick<C: Compare>(memory: &Memory, root: u32, prefix: u64) -> Word {
    let (slot, key) = split(prefix);
    let own = root.wrapping_add(slot);
    let word = Word(follow(memory.cell(own)));
    // Where it is no chunk its own cell is loaded again. It may be one by then, as what is found may be in any case.
    let below = word.slot_cell_of_first(key.wrapping_shr(word.slot_shift()));
    let mut word = Word(follow(memory.cell(select(word.is_direct(), below, own))));
    if word.is_direct() {
        word = Word(follow(memory.cell(chunk_cell(word, key))));
        if word.is_direct() {
            return word;
        }
    }
    let form = word.form();
    if form == HOSTS {
        return word;
    }
    // The forms, but for HOSTS, are numbered so that each of two bits stands for a line before the LINE.
    let own = first_cell(word);
    let is_broad = word.0 >> 25 & LINE_CELLS;
    let has_index = word.0 >> 24 & LINE_CELLS;
    let never_index = root.wrapping_add(NEVER_INDEX);
    let broad = select(is_broad != 0, own, never_index);
    let index = select(has_index != 0, own.wrapping_add(is_broad), never_index);
    let line = own.wrapping_add(is_broad).wrapping_add(has_index);
    let line = select(word.is_marked(), line, root.wrapping_add(NEVER_LINE));
    let before = INDEX_CELLS * C::sixteen(memory, broad, key);
    let index = index.wrapping_add(before);
    let line = line
        .wrapping_add(before)
        .wrapping_add(LINE_CELLS * C::sixteen(memory, index, key));
    let below = follow(memory.cell(line_step::<C>(memory, line, key)));
    Word(select(word.is_marked(), below, word.0))
}

/// The answer for a key below a cell of the root that has this word: a leaf, with or without hosts, or a node after bit 48.
#[inline(always)]
pub(super) fn answer<C: Compare>(memory: &Memory, word: Word, key: u32) -> Word {
    let word = below_chunks(memory, word, key);
    if !word.is_node() {
        return word;
    }
    Word(follow(memory.cell(cell_in::<C>(memory, word, key))))
}

/// One of two, which is not worth a guess.
#[inline(always)]
fn select(is_first: bool, first: u32, second: u32) -> u32 {
    std::hint::select_unpredictable(is_first, first, second)
}

/// The cell of a key's answer, where a chunk has none of its own.
pub(super) fn cell_of<C: Compare>(memory: &Memory, word: Word, key: u32) -> u32 {
    cell_in::<C>(memory, below_chunks(memory, word, key), key)
}

/// As [`answer`]; each step tells from which key to which it is the same, and those of the answer are what all of them name.
#[inline(always)]
pub(super) fn bounds<C: Compare>(
    memory: &Memory,
    mut word: Word,
    key: u32,
    mut tell: impl FnMut(u32, u32),
) -> Word {
    for _ in 0..CHUNKS_MAX {
        if !word.is_direct() {
            break;
        }
        let below = (1 << word.slot_shift()) - 1;
        tell(key & !below, key | below);
        word = Word(follow(memory.cell(chunk_cell(word, key))));
    }
    if !word.is_node() {
        return word;
    }
    let mut between = |first: u32, below: u32, bounds: u32| {
        let bound = |number: u32| memory.cell(first.wrapping_add(number)).load(Relaxed);
        let start = below
            .checked_sub(1)
            .map_or(0, |before| bound(before).wrapping_add(1));
        let end = if below < bounds { bound(below) } else { UNUSED };
        tell(start, end.min(KEY_MASK));
    };
    let sixteen = FANOUT as u32; // `as`: a small number
    let mut first = first_cell(word);
    if word.form() == BROAD {
        between(first, C::sixteen(memory, first, key), sixteen);
        first = broad_step::<C>(memory, first, key);
    }
    if word.form() != LINE {
        between(first, C::sixteen(memory, first, key), sixteen);
        first = index_step::<C>(memory, first, key);
    }
    let cells = first.wrapping_add(LINE_BOUNDS);
    between(cells, C::eight(memory, cells, key), LINE_BOUNDS);
    Word(follow(memory.cell(line_step::<C>(memory, first, key))))
}

/// By how many bits a chunk divides the last `bits` of its keys, of so many items: an even number, as a chunk's word counts.
pub(super) fn chunk_bits(items: u32, bits: u32) -> u32 {
    let parts = items.div_ceil(PART_ITEMS_MEAN).next_power_of_two().ilog2();
    let most = CHUNK_BITS_MAX.min(bits - PART_BITS_MIN);
    parts.next_multiple_of(2).clamp(CHUNK_BITS_MIN, most)
}

/// Lines of a LINE, INDEX or BROAD of so many ranges.
pub(super) fn lines(ranges: usize) -> u32 {
    let lines = if ranges <= LINE_RANGES {
        1
    } else if ranges <= INDEX_RANGES {
        index_lines(ranges)
    } else {
        let full = (ranges - 1) / INDEX_RANGES;
        1 + full * (1 + FANOUT) + index_lines(ranges - full * INDEX_RANGES)
    };
    u32::try_from(lines).expect("a BROAD has at most 273 lines")
}

fn index_lines(ranges: usize) -> usize {
    1 + ranges.div_ceil(LINE_RANGES)
}

/// Write a LINE, INDEX or BROAD of at most [`BROAD_RANGES`] ranges, more than one.
pub(super) fn write(memory: &Memory, line: u32, ranges: &[Range]) -> Word {
    let form = if ranges.len() <= LINE_RANGES {
        write_line(memory, line, ranges);
        LINE
    } else if ranges.len() <= INDEX_RANGES {
        write_index(memory, line, ranges);
        INDEX
    } else {
        let parts = ranges.chunks(INDEX_RANGES);
        write_separators(memory, line, parts.clone());
        for (part, number) in parts.zip(0..) {
            write_index(memory, line + 1 + INDEX_CELLS / LINE_CELLS * number, part);
        }
        BROAD
    };
    Word::node(form, line)
}

fn write_index(memory: &Memory, line: u32, ranges: &[Range]) {
    let parts = ranges.chunks(LINE_RANGES);
    write_separators(memory, line, parts.clone());
    for (part, line) in parts.zip(line + 1..) {
        write_line(memory, line, part);
    }
}

/// The last key of each part but the last.
fn write_separators<'a>(
    memory: &Memory,
    line: u32,
    parts: impl ExactSizeIterator<Item = &'a [Range]>,
) {
    debug_assert!(parts.len() <= FANOUT);
    let count = parts.len() - 1;
    let ends = parts.take(count).map(|part| part[part.len() - 1].0);
    write_bounds(memory, line * LINE_CELLS..(line + 1) * LINE_CELLS, ends);
}

fn write_line(memory: &Memory, line: u32, ranges: &[Range]) {
    debug_assert!((1..=LINE_RANGES).contains(&ranges.len()));
    let first = line * LINE_CELLS;
    let mut words = ranges.iter().map(|(_, word)| word.0);
    for cell in first..first + LINE_BOUNDS {
        memory.cell(cell).store(words.next().unwrap_or(0), Relaxed);
    }
    let bounds = ranges[..ranges.len() - 1].iter().map(|(end, _)| *end);
    write_bounds(memory, first + LINE_BOUNDS..first + LINE_CELLS, bounds);
}

fn write_bounds(
    memory: &Memory,
    cells: std::ops::Range<u32>,
    mut bounds: impl Iterator<Item = u32>,
) {
    for cell in cells {
        let bound = bounds.next().unwrap_or(UNUSED);
        memory.cell(cell).store(bound, Relaxed);
    }
}

/// Write the two lines behind a root that begins with cell `root`.
pub(super) fn write_never(memory: &Memory, root: u32) {
    let index = root + NEVER_INDEX;
    write_bounds(memory, index..index + LINE_CELLS, [].into_iter());
    let line = (root + NEVER_LINE) / LINE_CELLS;
    write_line(memory, line, &[(KEY_MASK, Word(0))]);
}

/// The blocks of a node for the keys from `start` on that differ in the last `bits`, and of all below it down to bit 48.
pub(super) fn blocks(memory: &Memory, word: Word, start: u32, bits: u32, found: &mut Vec<Block>) {
    let in_use = |line: u32| {
        let cells = line * LINE_CELLS..(line + 1) * LINE_CELLS;
        let bounds = cells.map(|cell| memory.cell(cell).load(Relaxed));
        bounds.map(|bound| u32::from(bound != UNUSED)).sum::<u32>()
    };
    let (line, lines) = match word.form() {
        _ if word.is_direct() => {
            let shift = word.slot_shift();
            let first = chunk_cell(word, start);
            let count = 1 << (bits - shift);
            for part in 0..count {
                let below = Word(memory.cell(first + part).load(Relaxed));
                blocks(memory, below, start + (part << shift), shift, found);
            }
            (first / LINE_CELLS, count / LINE_CELLS)
        }
        LINE => (word.place(), 1),
        INDEX => (word.place(), 2 + in_use(word.place())),
        BROAD => {
            let line = word.place();
            let before_last = 1 + INDEX_CELLS / LINE_CELLS * in_use(line);
            (line, before_last + 2 + in_use(line + before_last))
        }
        _ => return,
    };
    found.push(Block { line, lines });
}
