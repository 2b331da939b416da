//! A DPDK packet as a [`Frame`]. Fields are read and written here, without a call into C.
//!
//! A frame may be spread over several descriptors (a device that scatters, a capture of jumbo frames) or share its bytes
//! with another owner (a bonding device). Neither is ever parsed or rewritten: [`Frame::is_contiguous`] says no, and the
//! ingress node drops it.

use std::fmt;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::slice;

use dpdk_sys::rte_mbuf;

use crate::frame::{Burst, Frame, NoRoom};
use crate::prefetch;

/// One received or allocated packet, owned: dropping it returns its buffer to the pool it came from.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// `Burst<Mbuf>` is given to drivers as their array of pointers.
const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut rte_mbuf>());
const _: () = assert!(size_of::<Option<Mbuf>>() == size_of::<*mut rte_mbuf>());
const _: () = assert!(offset_of!(rte_mbuf, nb_segs) == offset_of!(rte_mbuf, refcnt) + 2);

// SAFETY: a descriptor has one owner at a time, and mempools take buffers back from any thread.
unsafe impl Send for Mbuf {}

impl Mbuf {
    #[inline]
    fn descriptor(&self) -> &rte_mbuf {
        // SAFETY: this value owns the descriptor, which stays mapped while it is not returned to its pool.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn descriptor_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as above, and `&mut self` is the only way to it.
        unsafe { self.0.as_mut() }
    }

    /// First byte of the packet.
    #[inline]
    fn data(&self) -> *mut u8 {
        let descriptor = self.descriptor();
        let start: *mut u8 = descriptor.buf_addr.cast();
        // SAFETY: `data_off` lies within the buffer: drivers set it so, and `prepend` and `trim_front` keep it so.
        unsafe { start.add(usize::from(descriptor.data_off)) }
    }

    /// Set the front and the length of a frame that is in one buffer of its own. Returns its bytes.
    #[inline]
    fn set_extent(&mut self, data_off: usize, data_len: usize) -> Result<&mut [u8], NoRoom> {
        if !self.is_contiguous() {
            return Err(NoRoom);
        }
        if data_off + data_len > usize::from(self.descriptor().buf_len) {
            return Err(NoRoom);
        }
        // SAFETY: both were just found to lie within the buffer, which is one and this frame's own.
        Ok(unsafe { self.put_extent(data_off, data_len) })
    }

    /// The same without a look at the buffer's length.
    ///
    /// # Safety
    /// The frame is in one buffer of its own, and its new extent within that.
    #[inline]
    unsafe fn put_extent(&mut self, data_off: usize, data_len: usize) -> &mut [u8] {
        let descriptor = self.descriptor_mut();
        let start: *mut u8 = descriptor.buf_addr.cast();
        // `as`: both are at most `buf_len`, which is a u16.
        descriptor.data_off = data_off as u16;
        descriptor.data_len = data_len as u16;
        descriptor.pkt_len = data_len as u32;
        // SAFETY: as in `bytes_mut`, with an extent that the caller knows to be within the buffer. Not by way of it: what was
        // just stored would be loaded again.
        unsafe { slice::from_raw_parts_mut(start.add(data_off), data_len) }
    }

    /// DPDK's number of the port it was received on.
    #[inline]
    #[must_use]
    pub fn port(&self) -> u16 {
        self.descriptor().port
    }

    /// Bytes of the whole packet, also of one that is not contiguous.
    #[inline]
    #[must_use]
    pub fn packet_len(&self) -> u32 {
        self.descriptor().pkt_len
    }
}

impl Frame for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let len = usize::from(self.descriptor().data_len);
        // SAFETY: `data_off + data_len <= buf_len` as set by drivers and `set_extent`; packet memory is mapped zeroed, so
        // its bytes are initialised; nobody else writes them, since frames with another owner come only from drivers
        // that never write to them again.
        unsafe { slice::from_raw_parts(self.data(), len) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        debug_assert!(
            self.is_contiguous(),
            "a shared or scattered frame is dropped at ingress"
        );
        let len = usize::from(self.descriptor().data_len);
        // SAFETY: as in `bytes`; and `&mut self` makes it exclusive.
        unsafe { slice::from_raw_parts_mut(self.data(), len) }
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], NoRoom> {
        let descriptor = self.descriptor();
        let (front, len) = (
            usize::from(descriptor.data_off),
            usize::from(descriptor.data_len),
        );
        if front < n || !self.is_contiguous() {
            return Err(NoRoom);
        }
        // SAFETY: it is in one buffer of its own, and ends where it ended; the front was found to be in the buffer.
        Ok(unsafe { self.put_extent(front - n, len + n) })
    }

    #[inline]
    fn trim_front(&mut self, n: usize) -> Result<(), NoRoom> {
        let descriptor = self.descriptor();
        let (front, len) = (
            usize::from(descriptor.data_off),
            usize::from(descriptor.data_len),
        );
        let len = len.checked_sub(n).ok_or(NoRoom)?;
        self.set_extent(front + n, len).map(|_| ())
    }

    #[inline]
    fn crop(&mut self, front: usize, len: usize) -> Result<&mut [u8], NoRoom> {
        let descriptor = self.descriptor();
        let is_part = front
            .checked_add(len)
            .is_some_and(|end| end <= usize::from(descriptor.data_len));
        let start = usize::from(descriptor.data_off);
        if !is_part {
            return Err(NoRoom);
        }
        self.set_extent(start + front, len)
    }

    #[inline]
    fn resize(&mut self, len: usize) -> Result<(), NoRoom> {
        let front = usize::from(self.descriptor().data_off);
        // Bounded first, so that the sum in `set_extent` cannot overflow.
        if len > usize::from(u16::MAX) {
            return Err(NoRoom);
        }
        self.set_extent(front, len).map(|_| ())
    }

    /// One segment and one owner. Both counters are in one 8-byte word that the driver has just written.
    fn another(&self, len: usize) -> Option<Self> {
        let mut fresh = None::<Self>;
        // SAFETY: the descriptor's pool is alive while one of its buffers is not returned; `Option<Mbuf>` is a pointer that
        // may be null, and on success it is a fresh descriptor owned by nobody else.
        let result = unsafe {
            dpdk_sys::shim_pktmbuf_alloc_bulk(self.descriptor().pool, (&raw mut fresh).cast(), 1)
        };
        if result != 0 {
            return None;
        }
        let mut fresh = fresh?;
        fresh.resize(len).ok()?;
        Some(fresh)
    }

    #[inline]
    fn is_contiguous(&self) -> bool {
        let descriptor: *const rte_mbuf = self.descriptor();
        // SAFETY: the two counters stand side by side in a descriptor of ours.
        let counters = unsafe {
            descriptor
                .byte_add(offset_of!(rte_mbuf, refcnt))
                .cast::<[u16; 2]>()
                .read_unaligned()
        };
        // Compared as one number.
        counters == [1, 1]
    }

    #[inline]
    fn prefetch_data(&self) {
        prefetch::read(self.bytes());
    }

    #[inline]
    fn free_burst(burst: &mut Burst<Self>) {
        let count = burst.len();
        // SAFETY: zero is a length of any array, and what is in it is given away below.
        unsafe { burst.set_len(0) };
        free(burst.as_mut_ptr().cast(), count);
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        let mut descriptor = self.0.as_ptr();
        free(&raw mut descriptor, 1);
    }
}

/// One call a burst: segments, owners and several pools are DPDK's business. It is the exported bulk function; the
/// single one is inline in C and would need a wrapper.
#[inline]
fn free(mbufs: *mut *mut rte_mbuf, count: usize) {
    if count == 0 {
        return;
    }
    // `as`: at most BURST_MAX.
    // SAFETY: both callers pass `count` descriptors that they own and forget.
    unsafe { dpdk_sys::rte_pktmbuf_free_bulk(mbufs, count as u32) };
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes)", self.packet_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::mem::ManuallyDrop;

    const HEADROOM: u16 = 128;

    /// A descriptor and buffer of ours, so that field access is tested without DPDK running. Never dropped as an Mbuf.
    fn with_frame(bytes: &[u8], test: impl FnOnce(&mut Mbuf)) {
        let mut buffer = vec![0_u8; 512];
        let layout = Layout::new::<rte_mbuf>();
        // SAFETY: the layout is not empty.
        let descriptor: *mut rte_mbuf = unsafe { alloc_zeroed(layout) }.cast();
        // SAFETY: just made, and all zeros is a value of each field.
        let fields = unsafe { &mut *descriptor };
        fields.buf_addr = buffer.as_mut_ptr().cast();
        fields.buf_len = 512;
        fields.data_off = HEADROOM;
        (fields.refcnt, fields.nb_segs) = (1, 1);
        let mut frame = ManuallyDrop::new(Mbuf(NonNull::new(descriptor).expect("memory")));
        frame.resize(bytes.len()).expect("fits");
        frame.bytes_mut().copy_from_slice(bytes);
        test(&mut frame);
        // SAFETY: made above with the same layout; the frame is not used any more.
        unsafe { dealloc(descriptor.cast(), layout) };
    }

    #[test]
    fn growing_and_trimming_the_front_are_inverse() {
        with_frame(b"packet", |frame| {
            frame.prepend(4).unwrap();
            frame.bytes_mut()[..4].copy_from_slice(b"tag ");
            assert_eq!(frame.bytes(), b"tag packet");
            assert_eq!(frame.packet_len(), 10);
            frame.trim_front(4).unwrap();
            assert_eq!(frame.bytes(), b"packet");
            assert_eq!(frame.packet_len(), 6);
        });
    }

    #[test]
    fn a_change_without_room_changes_nothing() {
        with_frame(b"packet", |frame| {
            assert_eq!(frame.prepend(usize::from(HEADROOM) + 1), Err(NoRoom));
            assert_eq!(frame.prepend(usize::MAX), Err(NoRoom));
            assert_eq!(frame.trim_front(7), Err(NoRoom));
            assert_eq!(frame.resize(512 - usize::from(HEADROOM) + 1), Err(NoRoom));
            assert_eq!(frame.resize(usize::MAX), Err(NoRoom));
            assert_eq!(frame.bytes(), b"packet");
            frame.prepend(usize::from(HEADROOM)).unwrap();
            frame.trim_front(usize::from(HEADROOM)).unwrap();
            frame.resize(512 - usize::from(HEADROOM)).unwrap();
            assert_eq!(&frame.bytes()[..6], b"packet");
        });
    }

    #[test]
    fn a_frame_with_another_owner_or_segment_is_left_alone() {
        with_frame(b"packet", |frame| {
            assert!(frame.is_contiguous());
            for (refcnt, nb_segs) in [(2, 1), (1, 2)] {
                let descriptor = frame.descriptor_mut();
                (descriptor.refcnt, descriptor.nb_segs) = (refcnt, nb_segs);
                assert!(!frame.is_contiguous());
                assert_eq!(frame.prepend(1), Err(NoRoom));
                assert_eq!(frame.trim_front(1), Err(NoRoom));
                assert_eq!(frame.resize(1), Err(NoRoom));
                assert_eq!(frame.bytes(), b"packet");
            }
        });
    }
}
