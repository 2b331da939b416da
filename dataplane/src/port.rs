//! What the worker asks of a port: receive a burst, transmit a burst.
//!
//! Implemented by `dpdk::port` (real devices) and `testing::MemoryPort`.

use crate::frame::{Burst, Frame};

/// A port of this process, numbered from 0 in the order of the configuration. Not DPDK's port id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(u8);

impl PortId {
    /// Most ports one process may have.
    pub const MAX: usize = 32;

    /// The `index`-th port; `None` from [`PortId::MAX`] on.
    #[must_use]
    pub const fn new(index: usize) -> Option<Self> {
        // `as`: the value was just checked to be below 32.
        if index < Self::MAX {
            Some(Self(index as u8))
        } else {
            None
        }
    }

    /// Position in tables and counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One receive queue, owned by exactly one worker.
pub trait RxQueue: Send {
    /// What it receives.
    type Frame: Frame;
    /// Append at most `limit` received frames to `burst` and say how many; never blocks.
    fn receive(&mut self, burst: &mut Burst<Self::Frame>, limit: usize) -> usize;

    /// Whether this core itself writes packets while it receives them, so that they need not be waited for afterwards.
    fn copies(&self) -> bool {
        false
    }
}

/// One transmit queue, owned by exactly one worker.
pub trait TxQueue: Send {
    /// What it sends.
    type Frame: Frame;
    /// Send from the front of `burst`, removing what the device took, and say how many; what is left was not taken.
    fn transmit(&mut self, burst: &mut Burst<Self::Frame>) -> usize;
}
