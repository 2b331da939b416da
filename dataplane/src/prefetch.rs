//! Hints to the cache: pull something near before it is read.
//!
//! A hint changes nothing a program can see, so it is safe to give for any reference. Where a processor has none, the
//! functions do nothing.

/// Bytes that come with one hint.
pub const LINE_BYTES: usize = 64;

/// Pull the first cache line of `value` towards the nearest cache, to read it.
#[inline(always)]
pub fn read<T: ?Sized>(value: &T) {
    let address = std::ptr::from_ref(value).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch does not fault and has no effect on memory, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Pull the first cache line of `value` into the second nearest cache, to read it after other work. The nearest one has
/// room for some twenty lines on their way: more of them, from memory, hold up every other load that misses it.
#[inline(always)]
pub fn read_later<T: ?Sized>(value: &T) {
    let address = std::ptr::from_ref(value).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as in `read`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_reference_may_be_hinted() {
        read(&0_u8);
        read::<[u8]>(&[]);
        read("text");
        read(&());
        read_later(&0_u8);
        read_later::<[u8]>(&[]);
    }
}
