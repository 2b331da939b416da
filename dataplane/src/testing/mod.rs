//! What tests, fuzzing and the graph benchmarks use in place of a device.

pub mod builder;
pub mod fault;
mod heap_frame;
pub mod pcap;

pub use heap_frame::HeapFrame;
