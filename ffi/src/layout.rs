//! The packet descriptor, declared by hand.
//!
//! bindgen would give `rte_mbuf` other field paths for each DPDK version: the same fields are plain members among
//! zero-length marker arrays in 22.11 and 23.11, and members of anonymous unions in 24.11. Their offsets never moved
//! (drivers with vector instructions depend on them), so one declaration serves all versions: `shim.c` compares every
//! offset with the installed headers, and the assertions below compare this declaration with the same numbers.

use core::ffi::c_void;
use core::mem::{align_of, offset_of, size_of};

use crate::rte_mempool;

/// A packet descriptor: first cache line as far as we use it, the rest as bytes.
#[repr(C, align(64))]
pub struct rte_mbuf {
    /// Start of the buffer, headroom included.
    pub buf_addr: *mut c_void,
    iova_or_next: u64,
    /// From `buf_addr` to the first packet byte.
    pub data_off: u16,
    /// Owners of this descriptor. Atomic in C; a value of 1 read by the owner cannot change behind its back.
    pub refcnt: u16,
    /// Descriptors that this packet is spread over; valid in the first.
    pub nb_segs: u16,
    /// DPDK's number of the port it was received on.
    pub port: u16,
    /// What the device found, and what it is asked to do.
    pub ol_flags: u64,
    /// What the device recognised in the packet.
    pub packet_type: u32,
    /// Bytes in all segments.
    pub pkt_len: u32,
    /// Bytes in this segment.
    pub data_len: u16,
    /// Tag that the device took out, if it did.
    pub vlan_tci: u16,
    hash_and_outer_vlan: [u8; 10],
    /// Bytes of the buffer, headroom included.
    pub buf_len: u16,
    /// Where the descriptor returns to.
    pub pool: *mut rte_mempool,
    second_cache_line: [u8; 64],
}

const _: () = {
    assert!(size_of::<rte_mbuf>() == 128 && align_of::<rte_mbuf>() == 64);
    assert!(offset_of!(rte_mbuf, buf_addr) == 0);
    assert!(offset_of!(rte_mbuf, data_off) == 16);
    assert!(offset_of!(rte_mbuf, refcnt) == 18);
    assert!(offset_of!(rte_mbuf, nb_segs) == 20);
    assert!(offset_of!(rte_mbuf, port) == 22);
    assert!(offset_of!(rte_mbuf, ol_flags) == 24);
    assert!(offset_of!(rte_mbuf, packet_type) == 32);
    assert!(offset_of!(rte_mbuf, pkt_len) == 36);
    assert!(offset_of!(rte_mbuf, data_len) == 40);
    assert!(offset_of!(rte_mbuf, vlan_tci) == 42);
    assert!(offset_of!(rte_mbuf, buf_len) == 54);
    assert!(offset_of!(rte_mbuf, pool) == 56);
};
