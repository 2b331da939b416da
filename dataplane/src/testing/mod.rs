//! What tests, fuzzing and the graph benchmarks use in place of a device.

mod heap_frame;

pub use heap_frame::HeapFrame;
