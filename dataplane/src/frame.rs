//! One packet in one contiguous buffer with headroom.
//!
//! Implemented by `dpdk::Mbuf` (the product) and `testing::HeapFrame` (tests, fuzzing, graph benchmarks), so that every
//! packet program runs without DPDK. A frame is owned: dropping it frees its buffer exactly once.

use arrayvec::ArrayVec;

/// Most frames that travel together; a burst never exceeds it.
pub const BURST_MAX: usize = 64;

/// A burst of frames, in arrival order.
pub type Burst<F> = ArrayVec<F, BURST_MAX>;

/// There is not enough headroom, tailroom or data for the change that was asked for; the frame is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not enough room in the frame's buffer")]
pub struct NoRoom;

/// A whole Ethernet frame, without FCS, starting at the destination MAC address.
pub trait Frame: Sized + Send {
    /// The frame's bytes.
    fn bytes(&self) -> &[u8];

    /// The frame's bytes, to rewrite in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Grow at the front by `n` bytes of headroom; the new bytes hold anything. Returns all bytes.
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom>;

    /// Drop `n` bytes at the front; they become headroom.
    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom>;

    /// Keep `len` bytes from byte `front` on, and return them.
    fn crop(&mut self, front: usize, len: usize) -> Result<&mut [u8], NoRoom>;

    /// Set the length, keeping the front: shorter drops the tail, longer appends bytes that hold anything.
    fn resize(&mut self, len: usize) -> Result<(), NoRoom>;

    /// Another frame of `len` bytes, which hold anything, from where this one came from, with headroom as a received
    /// frame has it. `None` when there is no buffer, or none that large.
    fn another(&self, len: usize) -> Option<Self>;

    /// Whether all bytes are in one buffer. A frame that is not is dropped at ingress, never parsed.
    fn is_contiguous(&self) -> bool {
        true
    }

    /// Pull the first bytes of the packet towards the cache.
    fn prefetch_data(&self) {}

    /// Free all frames of a burst at once.
    fn free_burst(burst: &mut Burst<Self>) {
        burst.clear();
    }
}
