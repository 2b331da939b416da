//! Bulk lookups of IPv4 below the large root: a cell for each /24, and behind few of them a chunk of longer prefixes.
//!
//! Nothing comes after a chunk, so there is nothing to sort by forms and no instruction set to choose: a lookup is one
//! load, and the processor has as many of them under way as it can by itself. What costs is everything beside the load.
//! So words are joined and stored four at a time, and what leads to a chunk is seen in the upper bit of all words of a
//! group together, and looked after in a second round. A gather does the same loads with more work around them.

use std::sync::atomic::AtomicU32;

use super::bulk::GROUP;
use super::cells::follow;
use super::memory::Memory;
use super::walk::Key;
#[cfg(not(target_arch = "x86_64"))]
use super::word::DIRECT;
use super::word::{LINE_CELLS, Word};

/// Cells of the root.
const ROOT_CELLS: usize = 1 << <u32 as Key>::ROOT_BITS;
/// Words that are stored at once.
const FOUR: usize = 4;

type Root = [AtomicU32; ROOT_CELLS];

/// Addresses to leaves; as many of one as of the other.
#[inline(always)]
pub(super) fn lookup(memory: &Memory, root: Word, keys: &[u32], leaves: &mut [u32]) {
    let root = memory.cells::<ROOT_CELLS>(root.place().wrapping_mul(LINE_CELLS));
    // One group is what a packet program looks up. With calls at the end only, it has nothing to save on the stack.
    match (keys.as_array(), leaves.as_mut_array()) {
        (Some(keys), Some(leaves)) => group(memory, root, keys, leaves),
        _ => groups(memory, root, keys, leaves),
    }
}

#[inline(always)]
fn group(memory: &Memory, root: &Root, keys: &[u32; GROUP], leaves: &mut [u32; GROUP]) {
    let (fours, _) = keys.as_chunks::<FOUR>();
    let (out, _) = leaves.as_chunks_mut::<FOUR>();
    let mut seen = Seen::default();
    let mut four = 0;
    while four < GROUP / FOUR {
        seen.look_up(root, &fours[four], &mut out[four]);
        four += 1;
    }
    if seen.has_chunk() {
        chunks(memory, root, keys, leaves);
    }
}

#[inline(never)]
fn groups(memory: &Memory, root: &Root, keys: &[u32], leaves: &mut [u32]) {
    let (key_groups, keys) = keys.as_chunks::<GROUP>();
    let (leaf_groups, leaves) = leaves.as_chunks_mut::<GROUP>();
    // By index: an iterator over both is a call that is not always inlined.
    let mut at = 0;
    while at < key_groups.len() && at < leaf_groups.len() {
        group(memory, root, &key_groups[at], &mut leaf_groups[at]);
        at += 1;
    }
    chunks(memory, root, keys, leaves);
}

/// The cell of an address.
#[inline(always)]
fn cell(key: u32) -> usize {
    (key >> (32 - u32::ROOT_BITS)) as usize // `as`: u32 to index
}

/// Addresses to leaves one by one, by way of chunks where there are some.
#[inline(never)]
fn chunks(memory: &Memory, root: &Root, keys: &[u32], leaves: &mut [u32]) {
    let mut at = 0;
    while at < keys.len() && at < leaves.len() {
        let mut word = Word(follow(&root[cell(keys[at])]));
        if word.is_direct() {
            word = Word(follow(memory.cell(keys[at].chunk_cell(word))));
        }
        leaves[at] = word.place();
        at += 1;
    }
}

#[cfg(target_arch = "x86_64")]
use x86::Seen;

/// With what every processor of the architecture has.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::{FOUR, Key, ROOT_CELLS, Root};

    /// All the words of a group, one over the other.
    pub struct Seen(__m128i);

    impl Default for Seen {
        #[inline(always)]
        fn default() -> Self {
            // SAFETY: SSE2 is part of x86-64.
            Self(unsafe { _mm_setzero_si128() })
        }
    }

    impl Seen {
        #[inline(always)]
        pub fn look_up(&mut self, root: &Root, keys: &[u32; FOUR], out: &mut [u32; FOUR]) {
            // SAFETY: SSE2 is part of x86-64; the load takes the four keys, the store fills the four words.
            unsafe {
                // One load for four keys: loads that wait for memory fill the processor's queue of loads.
                let cells = _mm_loadu_si128(keys.as_ptr().cast());
                let cells = _mm_srli_epi32::<{ 32 - u32::ROOT_BITS.cast_signed() }>(cells);
                let two = _mm_cvtsi128_si64(cells).cast_unsigned();
                let low =
                    _mm_unpacklo_epi32(word(root, two as u32), word(root, (two >> 32) as u32));
                let two = _mm_cvtsi128_si64(_mm_unpackhi_epi64(cells, cells)).cast_unsigned();
                let high =
                    _mm_unpacklo_epi32(word(root, two as u32), word(root, (two >> 32) as u32));
                let words = _mm_unpacklo_epi64(low, high);
                self.0 = _mm_or_si128(self.0, words);
                _mm_storeu_si128(out.as_mut_ptr().cast(), words);
            }
        }

        #[inline(always)]
        pub fn has_chunk(self) -> bool {
            // SAFETY: SSE2 is part of x86-64.
            unsafe { _mm_movemask_ps(_mm_castsi128_ps(self.0)) != 0 }
        }
    }

    /// The word of a cell, loaded to where words are joined: an atomic's load would go a longer way. No load
    /// of the language, so it orders nothing: a leaf needs no order, and for the way to a chunk the cell is read again.
    #[inline(always)]
    fn word(root: &Root, cell: u32) -> __m128i {
        let cell = cell as usize % ROOT_CELLS; // `as`: u32 to index; it is below anyway
        let word;
        // SAFETY: the cell is one of the root's. To the processor this is the load of an aligned cell, as of an atomic.
        unsafe {
            asm!(
                "movd {word}, dword ptr [{root} + 4 * {cell}]",
                word = lateout(xmm_reg) word,
                root = in(reg) root.as_ptr(),
                cell = in(reg) cell,
                options(readonly, nostack, preserves_flags),
            );
        }
        word
    }
}

/// All the words of a group, one over the other.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Default)]
struct Seen(u32);

#[cfg(not(target_arch = "x86_64"))]
impl Seen {
    #[inline(always)]
    fn look_up(&mut self, root: &Root, keys: &[u32; FOUR], out: &mut [u32; FOUR]) {
        let word = |at: usize| follow(&root[cell(keys[at])]);
        *out = [word(0), word(1), word(2), word(3)];
        self.0 |= out[0] | out[1] | out[2] | out[3];
    }

    #[inline(always)]
    fn has_chunk(self) -> bool {
        self.0 >= DIRECT
    }
}
