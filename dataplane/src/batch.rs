//! A burst of frames with one metadata record each, in two parallel arrays.
//!
//! The metadata type belongs to the pipeline. Frame `i` and record `i` always belong together; only this module and
//! [`crate::node`] move them.

use arrayvec::ArrayVec;

use crate::frame::{BURST_MAX, Burst, Frame};

/// A burst and its metadata.
pub struct Batch<F, M> {
    frames: Burst<F>,
    meta: ArrayVec<M, BURST_MAX>,
}

impl<F: Frame, M: Copy + Default> Batch<F, M> {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frames: Burst::new(),
            meta: ArrayVec::new(),
        }
    }

    /// Frames in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether no further frame fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.frames.is_full()
    }

    /// Take over a received burst; every frame starts with the record `meta`. The batch must be empty.
    pub fn fill(&mut self, burst: &mut Burst<F>, meta: M) {
        debug_assert!(self.is_empty(), "a batch is filled once");
        // Frame by frame: swapping the arrays would move their whole capacity.
        self.frames.extend(burst.drain(..));
        self.meta.clear();
        for _ in 0..self.frames.len() {
            self.meta.push(meta);
        }
    }

    /// Append one frame.
    ///
    /// # Panics
    /// When the batch is full: callers move frames between batches of the same capacity.
    #[inline]
    pub fn push(&mut self, frame: F, meta: M) {
        self.frames.push(frame);
        self.meta.push(meta);
    }

    /// Both arrays, to work on in place.
    #[inline]
    pub fn parts(&mut self) -> (&mut [F], &mut [M]) {
        (&mut self.frames, &mut self.meta)
    }

    /// Give each frame away, in order.
    #[inline]
    pub fn consume(&mut self, mut take: impl FnMut(F, M)) {
        for (frame, meta) in self.frames.drain(..).zip(self.meta.iter()) {
            take(frame, *meta);
        }
        self.meta.clear();
    }

    /// Give all frames away, in order; metadata is forgotten.
    #[inline]
    pub fn drain_frames(&mut self) -> arrayvec::Drain<'_, F, BURST_MAX> {
        self.meta.clear();
        self.frames.drain(..)
    }
}

impl<F: Frame, M: Copy + Default> Default for Batch<F, M> {
    fn default() -> Self {
        Self::new()
    }
}
