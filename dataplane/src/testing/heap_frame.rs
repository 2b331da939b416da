//! A frame in ordinary memory, shaped like an mbuf: 128 bytes of headroom, then data.

use crate::frame::{Frame, NoRoom};
use crate::prefetch;

const HEADROOM: usize = 128;
const CAPACITY: usize = 2048 + HEADROOM;

/// A frame on the heap.
#[derive(Clone)]
pub struct HeapFrame {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl HeapFrame {
    /// A frame with these bytes.
    ///
    /// # Panics
    /// When they do not fit in 64 KiB.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        assert!(bytes.len() <= 65_536, "a test frame holds at most 64 KiB");
        let mut buffer = vec![0; CAPACITY.max(HEADROOM + bytes.len() + 128)].into_boxed_slice();
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        Self {
            buffer,
            start: HEADROOM,
            end: HEADROOM + bytes.len(),
        }
    }

    /// Hold other bytes from now on, with full headroom again; no allocation.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn refill(&mut self, bytes: &[u8]) {
        self.start = HEADROOM;
        self.end = HEADROOM + bytes.len();
        self.buffer[self.start..self.end].copy_from_slice(bytes);
    }
}

impl Frame for HeapFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn prepend(&mut self, n: usize) -> Result<(), NoRoom> {
        self.start = self.start.checked_sub(n).ok_or(NoRoom)?;
        Ok(())
    }

    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let start = self
            .start
            .checked_add(n)
            .filter(|start| *start <= self.end)
            .ok_or(NoRoom)?;
        self.start = start;
        Ok(())
    }

    fn resize(&mut self, len: usize) -> Result<(), NoRoom> {
        let end = self
            .start
            .checked_add(len)
            .filter(|end| *end <= self.buffer.len())
            .ok_or(NoRoom)?;
        self.end = end;
        Ok(())
    }

    #[inline]
    fn prefetch_data(&self) {
        prefetch::read(self.bytes());
    }
}

impl std::fmt::Debug for HeapFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeapFrame({} bytes)", self.bytes().len())
    }
}
