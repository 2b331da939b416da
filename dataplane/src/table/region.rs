//! An array in address space that never moves: elements exist from the start, as zeros, and cost memory once they are
//! written.
//!
//! Written by one thread beside others that read. Elements are made of atomics, so every access is defined; what makes a
//! set of them consistent is the user's to say. Or they are plain words, for one owner alone. Every number is one of an
//! element, so reading needs no check.

use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::slots::Slots;

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// One cache line of atomics.
#[derive(Default)]
#[repr(align(64))]
pub struct Line(pub [AtomicU64; 8]);

/// Two cache lines of plain words.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(128))]
pub struct Pair(pub [[u64; 8]; 2]);

/// What can be an element: atomics or numbers alone, for which a page of zeros is a value.
pub trait Element: Sync + sealed::Sealed {}

impl Element for AtomicU32 {}
impl Element for Line {}
impl Element for Pair {}
impl Element for Slots {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::sync::atomic::AtomicU32 {}
    impl Sealed for super::Line {}
    impl Sealed for super::Pair {}
    impl Sealed for super::Slots {}
}

/// Which of 2^`BITS` elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place<const BITS: u32>(u32);

impl<const BITS: u32> Place<BITS> {
    /// The one that the lower bits of a number name.
    #[inline(always)]
    #[must_use]
    pub const fn of(index: u32) -> Self {
        Self(index & ((1 << BITS) - 1))
    }
}

/// The elements of a region, for a loop: where they are, in one word.
pub struct Elements<'r, T, const BITS: u32> {
    base: NonNull<T>,
    region: PhantomData<&'r Region<T, BITS>>,
}

impl<T, const BITS: u32> Clone for Elements<'_, T, BITS> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const BITS: u32> Copy for Elements<'_, T, BITS> {}

impl<'r, T: Element, const BITS: u32> Elements<'r, T, BITS> {
    /// As [`Region::at`].
    #[inline(always)]
    pub fn at(self, index: u32) -> &'r T {
        self.at_place(Place::of(index))
    }

    /// The element at a place.
    #[inline(always)]
    pub fn at_place(self, place: Place<BITS>) -> &'r T {
        // SAFETY: a place is below the region's `COUNT`; its mapping is there as long as it is borrowed, aligned for `T`, and
        // zeros are a value of it (`Element`). All writes are atomic, or by `at_mut`, when it is not borrowed.
        unsafe { &*self.base.as_ptr().add(place.0 as usize) } // `as`: u32 to usize
    }
}

/// An array of 2^`BITS` elements.
pub struct Region<T, const BITS: u32> {
    mapping: NonNull<u8>,
    /// The first multiple of [`HUGE`] in the mapping.
    base: NonNull<T>,
    elements: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone and may be removed on any thread; its elements are atomics or numbers.
unsafe impl<T: Element, const BITS: u32> Send for Region<T, BITS> {}
// SAFETY: as for `Send`: whoever shares it reaches atomics, or numbers that nobody writes meanwhile.
unsafe impl<T: Element, const BITS: u32> Sync for Region<T, BITS> {}

impl<T: Element, const BITS: u32> Region<T, BITS> {
    const COUNT: usize = 1 << BITS;
    const BYTES: usize = Self::COUNT * size_of::<T>();

    /// Reserve the address space, and no memory yet.
    ///
    /// # Errors
    /// When the system refuses (a limit on address space).
    pub fn reserve() -> io::Result<Self> {
        // Most tables never need more than the beginning.
        Self::reserve_with(HUGE)
    }

    /// The same for what is reached everywhere at once: huge pages from the beginning.
    ///
    /// # Errors
    /// When the system refuses (a limit on address space).
    pub fn reserve_huge() -> io::Result<Self> {
        Self::reserve_with(0)
    }

    /// The first `small` bytes are of small pages.
    fn reserve_with(small: usize) -> io::Result<Self> {
        const { assert!(BITS < 32 && align_of::<T>() <= HUGE) };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let bytes = Self::BYTES + HUGE;
        // SAFETY: a new private mapping at a place the kernel chooses touches nothing that exists.
        let mapping = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        let mapping = NonNull::new(mapping.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let offset = mapping.as_ptr().align_offset(HUGE);
        // SAFETY: the mapping has `HUGE` bytes more than are used, and the offset is smaller.
        let base = unsafe { mapping.add(offset) };
        if Self::BYTES > small {
            // Refused by a kernel without huge pages: everything works without.
            // SAFETY: the range lies in our mapping, and huge pages keep its content.
            let _ = unsafe {
                madvise(
                    base.as_ptr().add(small).cast(),
                    Self::BYTES - small,
                    Advice::LinuxHugepage,
                )
            };
        }
        Ok(Self {
            mapping,
            base: base.cast(),
            elements: PhantomData,
        })
    }

    /// An element; of a number that is too large, the one its lower bits name.
    #[inline(always)]
    pub fn at(&self, index: u32) -> &T {
        self.elements().at(index)
    }

    /// All of them.
    #[inline(always)]
    pub fn elements(&self) -> Elements<'_, T, BITS> {
        Elements {
            base: self.base,
            region: PhantomData,
        }
    }

    /// The element at a place for its only owner, to be changed.
    #[inline(always)]
    pub fn at_mut(&mut self, place: Place<BITS>) -> &mut T {
        // SAFETY: as in `Elements::at_place`, and `&mut self` makes it exclusive.
        unsafe { &mut *self.base.as_ptr().add(place.0 as usize) } // `as`: u32 to usize
    }
}

impl<T, const BITS: u32> Drop for Region<T, BITS> {
    fn drop(&mut self) {
        let bytes = (size_of::<T>() << BITS) + HUGE;
        // SAFETY: the mapping was made by `reserve` with this size, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.mapping.as_ptr().cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn an_element_is_zero_until_written_and_stays_where_it_is() {
        let region = Region::<AtomicU32, 24>::reserve().expect("address space");
        assert_eq!(region.at(12_345_678).load(Relaxed), 0);
        region.at(12_345_678).store(7, Relaxed);
        assert_eq!(region.at(12_345_678).load(Relaxed), 7);
        assert_eq!(region.at(12_345_677).load(Relaxed), 0);
        assert_eq!(
            region.at(12_345_678 + (1 << 24)).load(Relaxed),
            7,
            "the lower bits"
        );
    }

    #[test]
    fn the_owner_of_plain_words_changes_them() {
        let mut region = Region::<Pair, 4>::reserve_huge().expect("address space");
        region.at_mut(Place::of(3 + (1 << 4))).0[1][7] = 9;
        assert_eq!((region.at(3).0[1][7], region.at(2).0[1][7]), (9, 0));
        assert_eq!(size_of::<Pair>(), 128);
    }

    #[test]
    fn a_line_is_a_cache_line() {
        let region = Region::<Line, 8>::reserve().expect("address space");
        let [a, b] = [0, 1].map(|index| std::ptr::from_ref(region.at(index)) as usize);
        assert_eq!((a % 64, b - a), (0, 64));
    }
}
