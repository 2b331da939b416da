//! Rings between threads: worker to control (punted packets), control to worker (injected packets), worker to worker
//! (frames whose flow another worker owns, and frames for a transmit queue another worker owns).
//!
//! Every ring has one producer and one consumer and is bounded; a full ring is a counted drop, never a wait.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::port::PortId;
use crate::reason::PuntReason;

/// A packet the pipeline wants the control thread to see; the thread owns the frame now.
#[derive(Debug)]
pub struct Punted<F, M> {
    /// The frame, as it stood when it was punted.
    pub frame: F,
    /// The pipeline's record of it.
    pub meta: M,
    /// Why.
    pub reason: PuntReason,
}

/// A packet from the control thread; the worker owns the frame now.
#[derive(Debug)]
pub enum Injected<F, M> {
    /// A finished Ethernet frame.
    Transmit {
        /// Where it leaves.
        port: PortId,
        /// The frame.
        frame: F,
    },
    /// A packet to go (on) through the pipeline; the record says where it enters.
    Resume {
        /// The frame.
        frame: F,
        /// The pipeline's record of it.
        meta: M,
    },
}

/// A frame that moves between workers.
#[derive(Debug)]
pub enum Handoff<F> {
    /// Received on `port`; the receiving worker runs the pipeline.
    Received {
        /// Where it came in.
        port: PortId,
        /// The frame.
        frame: F,
    },
    /// Finished; the receiving worker owns a transmit queue of `port`.
    Transmit {
        /// Where it leaves.
        port: PortId,
        /// The frame.
        frame: F,
    },
}

/// A ring for `capacity` items.
#[must_use]
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    RingBuffer::new(capacity)
}
