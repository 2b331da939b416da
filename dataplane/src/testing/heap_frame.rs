//! A frame in ordinary memory, shaped like an mbuf: 128 bytes of headroom, then data.

use std::cell::RefCell;

use crate::frame::{Frame, NoRoom};
use crate::prefetch;

const HEADROOM: usize = 128;
const CAPACITY: usize = 2048 + HEADROOM;

/// A frame on the heap. Like an mbuf's, its handle is one pointer, to a descriptor that points to the data.
#[derive(Clone)]
pub struct HeapFrame(Box<Descriptor>);

#[derive(Clone)]
struct Descriptor {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

thread_local! {
    /// Frames that [`HeapFrame::another`] takes before it allocates.
    static STOCK: RefCell<Vec<HeapFrame>> = const { RefCell::new(Vec::new()) };
}

impl HeapFrame {
    /// Have at least `count` frames ready on this thread for [`Frame::another`], which then allocates nothing.
    pub fn stock(count: usize) {
        STOCK.with_borrow_mut(|stock| {
            while stock.len() < count {
                stock.push(Self::new(&[]));
            }
        });
    }

    /// A frame with these bytes.
    ///
    /// # Panics
    /// When they do not fit in 64 KiB.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        assert!(bytes.len() <= 65_536, "a test frame holds at most 64 KiB");
        let mut buffer = vec![0; CAPACITY.max(HEADROOM + bytes.len() + 128)].into_boxed_slice();
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        Self(Box::new(Descriptor {
            buffer,
            start: HEADROOM,
            end: HEADROOM + bytes.len(),
        }))
    }

    /// Hold other bytes from now on, with full headroom again; no allocation.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn refill(&mut self, bytes: &[u8]) {
        self.0.start = HEADROOM;
        self.0.end = HEADROOM + bytes.len();
        self.0.buffer[self.0.start..self.0.end].copy_from_slice(bytes);
    }
}

impl Frame for HeapFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.0.buffer[self.0.start..self.0.end]
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0.buffer[self.0.start..self.0.end]
    }

    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        self.0.start = self.0.start.checked_sub(n).ok_or(NoRoom)?;
        Ok(self.bytes_mut())
    }

    fn crop(&mut self, front: usize, len: usize) -> Result<&mut [u8], NoRoom> {
        let end = front.checked_add(len).ok_or(NoRoom)?;
        if end > self.bytes().len() {
            return Err(NoRoom);
        }
        self.0.end = self.0.start + end;
        self.0.start += front;
        Ok(self.bytes_mut())
    }

    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let start = self
            .0
            .start
            .checked_add(n)
            .filter(|start| *start <= self.0.end)
            .ok_or(NoRoom)?;
        self.0.start = start;
        Ok(())
    }

    fn resize(&mut self, len: usize) -> Result<(), NoRoom> {
        let end = self
            .0
            .start
            .checked_add(len)
            .filter(|end| *end <= self.0.buffer.len())
            .ok_or(NoRoom)?;
        self.0.end = end;
        Ok(())
    }

    fn another(&self, len: usize) -> Option<Self> {
        let mut frame = STOCK
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| Self::new(&[]));
        frame.resize(len).ok()?;
        Some(frame)
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
