//! The memory of nodes: a region of address space that never moves, filled with pages as it is used.
//!
//! All of it is cells of 32 bits; 16 cells are a line of 64 bytes, the unit of allocation. A cell is an atomic: the
//! writer stores into cells that readers load. What else a line holds (bounds, separators) is written before a cell that
//! leads there is published, and not again until no reader can be there; so it is read without atomics.
//!
//! Every 32-bit number is a cell inside the region. So even a reader that breaks the rules of reclamation, and follows
//! what it finds in a line that was given to something else, reads our cells and nothing else.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::word::LINE_CELLS;

/// Bytes of a line.
pub(super) const LINE_BYTES: usize = 64;
/// Bytes of a huge page; as many at the beginning of the region are small pages.
pub(super) const HUGE: usize = 2 << 20;
/// Lines of the region.
const LINES: u32 = 1 << 28;
/// Every cell a `u32` can name.
const CELLS: usize = 1 << 32;
const BYTES: usize = CELLS * size_of::<u32>();

/// The address space, given back when this is dropped.
pub struct Mapping {
    mapping: NonNull<u8>,
    memory: Memory,
}

/// The region in it.
pub struct Memory {
    /// The first multiple of [`HUGE`] in the mapping.
    base: NonNull<u8>,
}

// SAFETY: the mapping belongs to this value alone and may be removed on any thread.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}
// SAFETY: the region is cells that are atomics, and bytes that are shared by the rules at the top of this file.
unsafe impl Send for Memory {}
// SAFETY: as for `Send`.
unsafe impl Sync for Memory {}

impl Mapping {
    /// Reserve the address space: 16 GiB of it, and no memory yet.
    ///
    /// # Errors
    /// When the system refuses (a limit on address space).
    pub fn reserve() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new private mapping at a place the kernel chooses touches nothing that exists.
        let mapping = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                BYTES + HUGE,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        let mapping = NonNull::new(mapping.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let offset = mapping.as_ptr().align_offset(HUGE);
        // SAFETY: the mapping has `HUGE` bytes more than are used, and the offset is smaller.
        let base = unsafe { mapping.add(offset) };
        let memory = Memory { base };
        // The first two megabytes stay small pages: most tables never need more, and larger ones begin behind them.
        memory.advise(HUGE, BYTES - HUGE, Advice::LinuxHugepage);
        Ok(Self { mapping, memory })
    }

    /// The region once more, for who keeps it near what else a lookup begins with.
    ///
    /// # Safety
    /// It must not be used when the mapping is gone.
    pub unsafe fn memory(&self) -> Memory {
        let base = self.memory.base;
        Memory { base }
    }
}

impl Memory {
    /// Give pages of lines that hold nothing back to the system; they read as zeros until they are used again.
    pub fn discard(&self, line: u32, lines: u32) {
        let bytes = |lines: u32| lines as usize * LINE_BYTES; // `as`: u32 to usize
        self.advise(bytes(line), bytes(lines), Advice::LinuxDontNeed);
    }

    /// Advice may be refused (no such pages, an older kernel): everything works without.
    fn advise(&self, offset: usize, bytes: usize, advice: Advice) {
        debug_assert!(offset + bytes <= BYTES);
        // SAFETY: the range lies in our mapping. Huge pages keep its content; the allocator discards only what holds
        // nothing.
        let _ = unsafe { madvise(self.base.as_ptr().add(offset).cast(), bytes, advice) };
    }

    /// A cell.
    #[inline(always)]
    pub fn cell(&self, index: u32) -> &AtomicU32 {
        // SAFETY: every `u32` is a cell of the region, which is there as long as `self` may be used (`Mapping::memory`) and is aligned; all writes to it are
        // atomic.
        unsafe { &*self.base.as_ptr().cast::<AtomicU32>().add(index as usize) } // `as`: u32 to usize
    }

    /// Cells in a row: an array of them is reached without checks, from one address.
    #[inline(always)]
    pub fn cells<const COUNT: usize>(&self, first: u32) -> &[AtomicU32; COUNT] {
        const { assert!(COUNT <= CELLS) };
        // As for a cell, whatever the number, this is inside.
        let first = (first as usize).min(CELLS - COUNT); // `as`: u32 to usize
        // SAFETY: as in `cell`; `COUNT` cells from `first` on end inside the region.
        unsafe { &*self.base.as_ptr().cast::<AtomicU32>().add(first).cast() }
    }

    /// Two cells as one; the first has an even number, which is rounded down to.
    #[inline(always)]
    pub fn pair(&self, index: u32) -> &AtomicU64 {
        // SAFETY: as in `cell`; the pair is aligned to eight bytes and inside, since the number of cells is even.
        unsafe {
            &*self
                .base
                .as_ptr()
                .cast::<AtomicU64>()
                .add(index as usize / 2)
        } // `as`: u32 to usize
    }

    /// The address of a line, for loads of what does not change and for prefetching.
    #[inline(always)]
    pub fn line(&self, line: u32) -> *const u8 {
        let cell = self.cell(line.wrapping_mul(LINE_CELLS));
        std::ptr::from_ref(cell).cast()
    }

    /// A cell of a line, by its number in the line.
    #[inline(always)]
    pub fn cell_of(&self, line: u32, number: u32) -> &AtomicU32 {
        // One address of three parts, without wrapping between them.
        let index = (line % LINES) as usize * LINE_CELLS as usize + (number % LINE_CELLS) as usize; // `as`: u32 to usize
        // SAFETY: as in `cell`: this line and this cell in it are in the region.
        unsafe { &*self.base.as_ptr().cast::<AtomicU32>().add(index) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `reserve` with this size, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.mapping.as_ptr().cast(), BYTES + HUGE) };
    }
}
