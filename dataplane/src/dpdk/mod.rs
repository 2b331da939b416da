//! DPDK made safe: start-up, packet memory, packets, ports. The only user of `dpdk-sys`, and with `ffi` the only place
//! that knows DPDK is C.
//!
//! ```text
//!            Eal ── Arc ──┐
//!   Mempool ── Arc ───────┤
//!      Port ── Arc ──┐    ├── Process   (last one out closes ports, frees pools, ends EAL)
//!  RxQueue ── Arc ───┼────┘
//!  TxQueue ── Arc ───┘
//! ```
//!
//! Whatever needs DPDK alive holds the process-wide state, so nothing depends on the order in which values are dropped.
//! [`Mbuf`]s alone hold nothing, because that would cost an atomic operation a packet: if one is still alive when the last
//! holder goes, packet memory stays mapped until the process ends.
//!
//! Threads: everything here may be called from any thread; a thread that allocates or frees packets should hold a
//! [`ThreadRegistration`]. Queues belong to one thread at a time. See `crate::worker` for who owns what.

#![expect(
    unsafe_code,
    reason = "DPDK is C; the rest of the product uses it through the safe types of this module"
)]

mod device;
mod eal;
mod kernel;
mod mbuf;
mod memory;
mod mempool;
mod port;
mod process;
mod queue;
mod setup;
mod thread;

pub use device::{Cause, DeviceError, ProbeError};
pub use eal::{Eal, EalConfig, EalError, LogLevel};
pub use mbuf::Mbuf;
pub use memory::{HugePages, Memory};
pub use mempool::{Mempool, MempoolConfig, MempoolError};
pub use port::{Link, Port, PortConfig, PortError, PortFault, PortInfo, PortStats};
pub use queue::{DpdkRxQueue, DpdkTxQueue};
pub use thread::{RegistrationError, ThreadRegistration};

use std::ffi::{CStr, c_int};
use std::fmt;

/// An error number of DPDK or the kernel, shown as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// The calling thread's `rte_errno`.
    fn of_thread() -> Self {
        // SAFETY: reads a thread-local variable of DPDK's library, which is loaded with this program.
        Self(unsafe { dpdk_sys::shim_errno() })
    }

    /// `result` of a DPDK function that says "negative error number" when it fails.
    fn check(result: c_int) -> Result<(), Self> {
        if result < 0 {
            Err(Self(-result))
        } else {
            Ok(())
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 1 {
            // Many drivers say -1 for "no", and few mean EPERM by it.
            return write!(f, "refused, perhaps for lack of permission (error 1)");
        }
        // SAFETY: returns a string of this thread's own buffer, or a constant, for any number.
        let text = unsafe { dpdk_sys::rte_strerror(self.0) };
        if text.is_null() {
            return write!(f, "error {}", self.0);
        }
        // SAFETY: not null, terminated, and valid until this thread's next call of rte_strerror.
        let text = unsafe { CStr::from_ptr(text) };
        write!(f, "{} (error {})", text.to_string_lossy(), self.0)
    }
}

/// What DPDK logged since the last call.
fn take_log() -> Vec<String> {
    let mut text = vec![0_u8; 16_384];
    // SAFETY: the buffer is as long as said.
    let taken = unsafe { dpdk_sys::shim_log_take(text.as_mut_ptr().cast(), text.len()) };
    text.truncate(taken);
    String::from_utf8_lossy(&text)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// DPDK's own last words, to end an error with.
fn said(log: &[String]) -> String {
    match log {
        [] => String::new(),
        [.., _, _, _] => format!("; DPDK says: {}", log[log.len() - 3..].join(" / ")),
        few => format!("; DPDK says: {}", few.join(" / ")),
    }
}
