//! Measurement: throughput suites on devices and of the graph alone, their traffic, tables and charts.
//!
//! `perf SUITE` is the program (`ci/perf` runs it); benches of single packet programs are in `benches/`, the proof that
//! workers do not allocate in `tests/`, results of record in `results/`. Nothing here is part of the appliance.

#[expect(
    unsafe_code,
    reason = "an allocator can only be written with unsafe code; it forwards to the system's"
)]
pub mod alloc;
pub mod appliance;
pub mod beside;
pub mod cases;
pub mod chart;
pub mod children;
pub mod devices;
pub mod fuzz;
pub mod graph;
pub mod internet;
pub mod interrupt;
pub mod linux;
pub mod lisp;
pub mod lpm;
pub mod machine;
pub mod mapserver;
pub mod network;
pub mod record;
pub mod replay;
pub mod report;
pub mod setup;
pub mod steer;
pub mod targets;
pub mod testpmd;
pub mod traffic;
#[expect(unsafe_code, reason = "reading the time-stamp counter is an intrinsic")]
pub mod tsc;
pub mod turns;
