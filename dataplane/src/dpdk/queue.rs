//! Receive and transmit bursts: one indirect call into the driver a burst, the way DPDK's inline functions do it.
//!
//! `rte_eth_fp_ops` holds the drivers' functions. DPDK's optional receive and transmit callbacks are left out: only its
//! capture and latency libraries install any, and this process uses neither.

use std::ptr;
use std::sync::Arc;

use dpdk_sys::{rte_eth_fp_ops, rte_mbuf};

use crate::frame::Burst;
use crate::port::{RxQueue, TxQueue};

use super::mbuf::Mbuf;
use super::port::OpenPort;

/// A receive queue of a started port.
pub struct DpdkRxQueue {
    queue: Queue,
    copies: bool,
}

/// A transmit queue of a started port.
pub struct DpdkTxQueue(Queue);

struct Queue {
    fast_path: *const rte_eth_fp_ops,
    index: usize,
    /// Keeps the device open and started.
    port: Arc<OpenPort>,
}

// SAFETY: DPDK's queues may be used from any thread, by one at a time: `Port` gives each away once, and bursts take
// `&mut self`. `fast_path` points to a static.
unsafe impl Send for Queue {}

impl Queue {
    /// `port` is started, and `index` one of its queues that nobody else has.
    fn new(port: Arc<OpenPort>, index: u16) -> Self {
        let all = (&raw const dpdk_sys::rte_eth_fp_ops).cast::<rte_eth_fp_ops>();
        // SAFETY: the array has an entry for each valid port number.
        let fast_path = unsafe { all.add(usize::from(port.id())) };
        Self {
            fast_path,
            index: usize::from(index),
            port,
        }
    }
}

impl DpdkRxQueue {
    pub(super) fn new(port: Arc<OpenPort>, index: u16, driver: &str) -> Self {
        Self {
            queue: Queue::new(port, index),
            // Of net_null nobody writes any, and no other core has its buffers.
            copies: matches!(
                driver,
                "net_pcap" | "net_null" | "net_tap" | "net_af_packet" | "net_memif"
            ),
        }
    }

    /// The device it belongs to.
    #[must_use]
    pub fn device(&self) -> &str {
        self.queue.port.device()
    }
}

impl DpdkTxQueue {
    pub(super) fn new(port: Arc<OpenPort>, index: u16) -> Self {
        Self(Queue::new(port, index))
    }

    /// The device it belongs to.
    #[must_use]
    pub fn device(&self) -> &str {
        self.0.port.device()
    }
}

impl RxQueue for DpdkRxQueue {
    type Frame = Mbuf;

    #[inline]
    fn receive(&mut self, burst: &mut Burst<Mbuf>, limit: usize) -> usize {
        let held = burst.len();
        let room = limit.min(burst.remaining_capacity());
        if room == 0 {
            return 0;
        }
        let Queue {
            fast_path, index, ..
        } = self.queue;
        // Volatile, because a driver that recovers its device swaps these behind our back.
        // SAFETY: an entry of a static array, aligned.
        let receive = unsafe { (&raw const (*fast_path).rx_pkt_burst).read_volatile() };
        // SAFETY: as above; a started port has an array of as many queues as were set up, and `index` is one of them.
        let queue = unsafe {
            *(&raw const (*fast_path).rxq.data)
                .read_volatile()
                .add(index)
        };
        let Some(receive) = receive else { return 0 };
        // SAFETY: `held` is at most the capacity.
        let space = unsafe { burst.as_mut_ptr().add(held) };
        // `as`: at most BURST_MAX.
        // SAFETY: the driver's function for this queue, which only we use; it writes at most `room` pointers to
        // descriptors that are ours from then on, and `Mbuf` is such a pointer.
        let received = unsafe { receive(queue, space.cast::<*mut rte_mbuf>(), room as u16) };
        let received = usize::from(received);
        debug_assert!(
            received <= room,
            "a driver returned more than was asked for"
        );
        // SAFETY: so many more are filled in.
        unsafe { burst.set_len(held + received) };
        received
    }

    fn copies(&self) -> bool {
        self.copies
    }
}

impl TxQueue for DpdkTxQueue {
    type Frame = Mbuf;

    #[inline]
    fn transmit(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        let count = burst.len();
        if count == 0 {
            return 0;
        }
        let Queue {
            fast_path, index, ..
        } = self.0;
        // SAFETY: as in `receive`.
        let transmit = unsafe { (&raw const (*fast_path).tx_pkt_burst).read_volatile() };
        // SAFETY: as in `receive`.
        let queue = unsafe {
            *(&raw const (*fast_path).txq.data)
                .read_volatile()
                .add(index)
        };
        let Some(transmit) = transmit else { return 0 };
        let frames = burst.as_mut_ptr();
        // `as`: at most BURST_MAX.
        // SAFETY: the driver's function for this queue, which only we use; it takes over the first so many
        // descriptors, as its result says.
        let sent = unsafe { transmit(queue, frames.cast::<*mut rte_mbuf>(), count as u16) };
        let sent = usize::from(sent);
        debug_assert!(sent <= count, "a driver sent more than it was given");
        let left = count - sent;
        if left > 0 {
            // SAFETY: within the burst; what is overwritten belongs to the driver now.
            unsafe { ptr::copy(frames.add(sent), frames, left) };
        }
        // SAFETY: the first `left` are the frames not taken.
        unsafe { burst.set_len(left) };
        sent
    }
}
