//! A cache line of eight keys and a value beside each: a bucket of a table that is looked at in one step.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Keys and values, each pair written by one thread.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Slots {
    keys: [AtomicU32; Self::COUNT],
    values: [AtomicU32; Self::COUNT],
}

impl Slots {
    /// Slots of a line.
    pub const COUNT: usize = 8;

    /// Which keys equal `key`: one bit each, the first the lowest.
    #[inline(always)]
    pub fn matches(&self, key: u32) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{
                _mm_cmpeq_epi32, _mm_movemask_epi8, _mm_packs_epi16, _mm_packs_epi32,
                _mm_set1_epi32, _mm_setzero_si128,
            };
            let [low, high] = self.keys_as_vectors();
            // SAFETY: SSE2, which these are of, is part of x86-64.
            let found = unsafe {
                let wanted = _mm_set1_epi32(key.cast_signed());
                let [low, high] = [_mm_cmpeq_epi32(low, wanted), _mm_cmpeq_epi32(high, wanted)];
                let found = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128());
                _mm_movemask_epi8(found)
            };
            found.cast_unsigned()
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.matches_one_by_one(key)
    }

    /// All keys, as relaxed loads would see them.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn keys_as_vectors(&self) -> [std::arch::x86_64::__m128i; 2] {
        let (low, high);
        // SAFETY: the instructions read the eight keys, 32 aligned bytes that are there as long as `self`, and write
        // nothing. To the language this is eight relaxed loads: an aligned load of 16 bytes never tears one of 4.
        unsafe {
            std::arch::asm!(
                "movdqa {low}, [{keys}]",
                "movdqa {high}, [{keys} + 16]",
                keys = in(reg) self.keys.as_ptr(),
                low = out(xmm_reg) low,
                high = out(xmm_reg) high,
                options(nostack, preserves_flags, readonly)
            );
        }
        [low, high]
    }

    /// The twin of [`Slots::matches`], and what does it where there are no vectors.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn matches_one_by_one(&self, key: u32) -> u32 {
        let keys = self.keys.iter().enumerate();
        keys.fold(0, |found, (index, known)| {
            found | u32::from(known.load(Relaxed) == key) << index
        })
    }

    /// The key at `index`, of which the lowest three bits count.
    #[inline(always)]
    pub fn key(&self, index: u32) -> u32 {
        self.keys[index as usize % Self::COUNT].load(Relaxed) // `as`: below the count
    }

    /// What stands beside the key at `index`, of which the lowest three bits count.
    #[inline(always)]
    pub fn value(&self, index: u32) -> u32 {
        self.values[index as usize % Self::COUNT].load(Relaxed) // `as`: below the count
    }

    /// Put a pair at `index`, of which the lowest three bits count.
    #[inline]
    pub fn put(&self, index: u32, key: u32, value: u32) {
        let index = index as usize % Self::COUNT; // `as`: below the count
        self.keys[index].store(key, Relaxed);
        self.values[index].store(value, Relaxed);
    }

    /// Another value beside the key at `index`, of which the lowest three bits count.
    #[inline(always)]
    pub fn set_value(&self, index: u32, value: u32) {
        self.values[index as usize % Self::COUNT].store(value, Relaxed); // `as`: below the count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_fill_a_cache_line() {
        assert_eq!((size_of::<Slots>(), align_of::<Slots>()), (64, 64));
    }

    proptest! {
        #[test]
        fn all_at_once_finds_what_one_by_one_does(
            keys in prop::array::uniform8(prop_oneof![0_u32..3, any::<u32>()]),
            other in any::<u32>(),
        ) {
            let slots = Slots::default();
            for (index, key) in (0..).zip(keys) {
                slots.put(index, key, !key);
            }
            for key in keys.into_iter().chain([other]) {
                let found = slots.matches(key);
                prop_assert_eq!(found, slots.matches_one_by_one(key));
                if found != 0 {
                    prop_assert_eq!(slots.value(found.trailing_zeros()), !key);
                }
            }
        }
    }
}
