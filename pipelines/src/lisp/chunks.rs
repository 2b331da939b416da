//! An array that only grows, and whose elements never move: written by the control thread beside workers that read.
//!
//! Elements are atomics, so every access is defined; what makes a set of them consistent is the user's to say. A chunk of
//! elements costs memory once the first of them is used.

use std::sync::OnceLock;

/// Elements of a chunk: as few as keep the list of chunks short.
const CHUNK: usize = 1 << 14;
/// Chunks of an array: room for 2^27 elements, as many as a mapping's leaf can tell apart.
const CHUNKS: usize = 1 << 13;

/// The array.
pub(super) struct Chunks<T> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default> Chunks<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Element `index`, if it was ever made.
    #[inline(always)]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize; // `as`: u32 to index
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    /// Element `index`, made if need be.
    ///
    /// # Panics
    /// When `index` is not below 2^27.
    pub(super) fn make(&self, index: u32) -> &T {
        let index = index as usize; // `as`: u32 to index
        let chunk = self.chunks[index / CHUNK]
            .get_or_init(|| (0..CHUNK).map(|_| T::default()).collect());
        &chunk[index % CHUNK]
    }

    /// Bytes of the chunks that are in use.
    pub(super) fn bytes(&self) -> usize {
        let used = self.chunks.iter().filter(|chunk| chunk.get().is_some());
        used.count() * CHUNK * size_of::<T>()
    }
}

/// Numbers of elements: handed out, given back, and handed out again once no reader can be at them.
pub(super) struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    /// Numbers from `first` on.
    pub(super) fn from(first: u32) -> Self {
        Self {
            next: first,
            free: Vec::new(),
        }
    }

    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[test]
    fn an_element_is_there_once_made_and_stays_where_it_is() {
        let array = Chunks::<AtomicU32>::new();
        assert!(array.get(0).is_none());
        assert_eq!(array.bytes(), 0);
        let far = CHUNK as u32 * 3 + 5; // `as`: a small constant
        let first = array.make(far);
        first.store(7, Relaxed);
        array.make(0);
        assert!(std::ptr::eq(first, array.make(far)));
        assert_eq!(array.get(far).expect("made").load(Relaxed), 7);
        assert!(array.get(u32::MAX).is_none());
        assert_eq!(array.bytes(), 2 * CHUNK * 4);
    }

    #[test]
    fn numbers_are_used_again() {
        let mut numbers = Numbers::from(1);
        assert_eq!([numbers.take(), numbers.take()], [1, 2]);
        numbers.give_back(1);
        assert_eq!([numbers.take(), numbers.take()], [1, 3]);
    }
}
