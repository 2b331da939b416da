//! The engine of Sextant: moves packets and knows no protocol policy.
//!
//! A burst of [frames](frame::Frame) enters a [batch](batch::Batch), a [pipeline](worker::Pipeline) of
//! [nodes](node::Node) gives each frame exactly one verdict, and the [`worker`] moves what it decided. Threads
//! and sharing are described once, at the top of [`worker`].

pub mod batch;
pub mod counters;
#[expect(unsafe_code, reason = "instructions that not every processor has")]
pub mod cpu;
pub mod frame;
pub mod node;
pub mod outputs;
pub mod port;
#[expect(unsafe_code, reason = "the processor's prefetch hint")]
pub mod prefetch;
pub mod reason;
pub mod ring;
pub mod table;
pub mod trace;
pub mod wire;
pub mod worker;

#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(feature = "testing")]
pub mod testing;
