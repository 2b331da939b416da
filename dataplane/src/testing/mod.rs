//! What tests, fuzzing and the graph benchmarks use in place of a device.

pub mod builder;
pub mod fault;
mod heap_frame;
mod memory_port;
mod outputs;
pub mod pcap;

pub use heap_frame::HeapFrame;
pub use memory_port::MemoryPort;
pub use outputs::{Sink, TestOutputs, outputs};
