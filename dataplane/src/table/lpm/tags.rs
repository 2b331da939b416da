//! The tags of a group of hosts (`hosts`): which of its slots may hold a key.
//!
//! A line, compared at once: 30 tags of 16 bits, and the group's count. The writer may change them meanwhile, so the vector
//! loads stand in assembly: there they are no loads of the language, which would have to be atomic. To the processor,
//! each tag is loaded as a whole, and before whatever its slot leads to.

use super::cells::follow;
use super::memory::Memory;
use super::node::Portable;

/// Slots of a group, each with a tag.
pub(super) const SLOTS: u32 = 30;
/// Cells of the tags of a group and its count.
pub(super) const GROUP_CELLS: u32 = 16;
/// The cell among them that is the count.
pub(super) const COUNT: u32 = GROUP_CELLS - 1;
/// The tags that count, as bits.
const ALL: u32 = (1 << SLOTS) - 1;
/// Tags of a cell.
const CELL_TAGS: u32 = 2;

/// Comparing the tags of a group, by one instruction set.
pub(super) trait Tags {
    /// Bit i: whether slot i of the group, whose first cell is given, has the tag.
    fn having(memory: &Memory, group: u32, tag: u16) -> u32;
}

impl Tags for Portable {
    #[inline(always)]
    fn having(memory: &Memory, group: u32, tag: u16) -> u32 {
        let mut mask = 0;
        for cell in 0..COUNT {
            let two = follow(memory.cell(group.wrapping_add(cell)));
            let lower = two as u16 == tag; // `as`: the lower of two tags
            let upper = (two >> 16) as u16 == tag; // `as`: the upper
            mask |= (u32::from(lower) | u32::from(upper) << 1) << (CELL_TAGS * cell);
        }
        mask
    }
}

/// The cell of a slot's tag, and the tag's shift in it.
#[inline(always)]
pub(super) fn tag_place(group: u32, slot: u32) -> (u32, u32) {
    (group + slot / CELL_TAGS, slot % CELL_TAGS * u16::BITS)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::super::node::{Avx2, Avx512, Sse2};
    use super::{ALL, Memory, Tags};

    impl Tags for Sse2 {
        #[inline(always)]
        fn having(memory: &Memory, group: u32, tag: u16) -> u32 {
            let first: *const _ = memory.cell(group);
            // SAFETY: SSE2 is part of x86-64; the 64 bytes of a group are read.
            let mask = unsafe {
                let tag = _mm_set1_epi16(tag.cast_signed());
                let (mut a, mut b, mut c, mut d) = (tag, tag, tag, tag);
                asm!(
                    "pcmpeqw {a}, xmmword ptr [{first}]",
                    "pcmpeqw {b}, xmmword ptr [{first} + 16]",
                    "pcmpeqw {c}, xmmword ptr [{first} + 32]",
                    "pcmpeqw {d}, xmmword ptr [{first} + 48]",
                    first = in(reg) first,
                    a = inout(xmm_reg) a,
                    b = inout(xmm_reg) b,
                    c = inout(xmm_reg) c,
                    d = inout(xmm_reg) d,
                    options(pure, readonly, nostack, preserves_flags),
                );
                _mm_movemask_epi8(_mm_packs_epi16(a, b))
                    | _mm_movemask_epi8(_mm_packs_epi16(c, d)) << 16
            };
            mask.cast_unsigned() & ALL
        }
    }

    /// The words of a group that equal a tag, as a mask.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn equal_avx2(memory: &Memory, group: u32, tag: u16) -> u32 {
        let first: *const _ = memory.cell(group);
        let (low, high): (__m256i, __m256i);
        // SAFETY: the 64 bytes of a group are read.
        unsafe {
            asm!(
                "vpcmpeqw {low}, {tag}, ymmword ptr [{first}]",
                "vpcmpeqw {high}, {tag}, ymmword ptr [{first} + 32]",
                first = in(reg) first,
                tag = in(ymm_reg) _mm256_set1_epi16(tag.cast_signed()),
                low = out(ymm_reg) low,
                high = lateout(ymm_reg) high,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        // Packing works within halves of the register; the permutation puts them in order.
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
        _mm256_movemask_epi8(packed).cast_unsigned()
    }

    impl Tags for Avx2 {
        #[inline(always)]
        fn having(memory: &Memory, group: u32, tag: u16) -> u32 {
            // SAFETY: only run where the processor has AVX2.
            unsafe { equal_avx2(memory, group, tag) & ALL }
        }
    }

    /// The words of a group that equal a tag, as a mask.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn equal_avx512(memory: &Memory, group: u32, tag: u16) -> u32 {
        let first: *const _ = memory.cell(group);
        let mask: __mmask32;
        // SAFETY: the 64 bytes of a group are read.
        unsafe {
            asm!(
                "vpcmpeqw {mask}, {tag}, zmmword ptr [{first}]",
                mask = out(kreg) mask,
                tag = in(zmm_reg) _mm512_set1_epi16(tag.cast_signed()),
                first = in(reg) first,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        mask
    }

    impl Tags for Avx512 {
        #[inline(always)]
        fn having(memory: &Memory, group: u32, tag: u16) -> u32 {
            // SAFETY: only run where the processor has AVX-512 BW.
            unsafe { equal_avx512(memory, group, tag) & ALL }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::isa::Isa;
    use super::super::memory::Mapping;
    use super::super::node::{Avx2, Avx512, Sse2};
    use super::*;

    #[test]
    fn all_instruction_sets_see_the_same_tags() {
        let mapping = Mapping::reserve().expect("there is address space");
        // SAFETY: the mapping outlives it.
        let memory = unsafe { mapping.memory() };
        let group = 5 * GROUP_CELLS;
        let mut state = 9_u32;
        for _ in 0..2000 {
            for cell in 0..GROUP_CELLS {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Few different tags, in both halves, and in the count too.
                let value = (state >> 20 & 7) << 16 | state >> 27 & 7;
                memory.cell(group + cell).store(value, Relaxed);
            }
            for tag in 0..9 {
                let right = (0..SLOTS).fold(0, |mask, slot| {
                    let (cell, shift) = tag_place(group, slot);
                    let found = memory.cell(cell).load(Relaxed) >> shift & 0xffff;
                    if found == u32::from(tag) {
                        mask | 1 << slot
                    } else {
                        mask
                    }
                });
                assert_eq!(Portable::having(&memory, group, tag), right);
                assert_eq!(Sse2::having(&memory, group, tag), right);
                for isa in Isa::available() {
                    let having = match isa {
                        Isa::Portable => right,
                        Isa::Avx2 => Avx2::having(&memory, group, tag),
                        Isa::Avx512 => Avx512::having(&memory, group, tag),
                    };
                    assert_eq!(having, right, "{isa:?}");
                }
            }
        }
    }
}
