//! A laboratory on one machine: hosts in network namespaces, and Sextant between them on tap ports.
//!
//! Used by the demo and by the end-to-end tests. Everything made here is removed when its value is dropped, also when a
//! check fails or a signal came: processes first, then namespaces (and with them taps and routes), then files.

mod folder;
mod host;
pub mod peer;
mod process;
pub mod traffic;

pub use folder::Folder;
pub use host::{Appliance, Namespace};
pub use process::{
    Finished, LabError, Process, interrupt_on_signals, interrupted, run, run_for, wait_until,
};

/// A display filter of tshark: TCP checksums that are wrong. Linux writes 0xffff where what it sums comes out as 0; tshark
/// takes that for an error, but no receiver does, for both are zero (RFC 1624 3).
pub const WRONG_TCP_CHECKSUM: &str = "(tcp.checksum.status == 0 && !(tcp.checksum == 0xffff))";
