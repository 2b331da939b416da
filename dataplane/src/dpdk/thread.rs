//! Threads as DPDK and the kernel's scheduler know them.

use std::io;
use std::marker::PhantomData;

use super::Errno;

/// The CPUs a thread may run on.
pub(super) struct Affinity(libc::cpu_set_t);

impl Affinity {
    pub(super) fn of_thread() -> io::Result<Self> {
        // SAFETY: `cpu_set_t` is a bit set for which all zeros is a value.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: 0 is the calling thread, and the size is that of the set.
        let result =
            unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(set))
    }

    pub(super) fn cores(&self) -> Vec<usize> {
        (0..8 * size_of::<libc::cpu_set_t>())
            // SAFETY: the number is below the bits of the set.
            .filter(|core| unsafe { libc::CPU_ISSET(*core, &self.0) })
            .collect()
    }

    pub(super) fn restore(&self) -> io::Result<()> {
        // SAFETY: as in `of_thread`.
        let result =
            unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.0) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// DPDK knows the calling thread: packets it allocates and frees go through a cache of its own, twice as fast. Not for
/// another thread, therefore not `Send`.
pub struct ThreadRegistration {
    /// The thread that started DPDK is known already, and stays known.
    registered_here: bool,
    of_this_thread: PhantomData<*const ()>,
}

/// DPDK took no further thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("DPDK does not take this thread: {0}")]
pub struct RegistrationError(Errno);

impl ThreadRegistration {
    /// Register the calling thread. Set its CPU affinity first. It must not block the signal SIGIO for good: `net_tap`
    /// learns from it that packets arrived.
    ///
    /// # Errors
    /// When DPDK is not started, or knows as many threads as it can (128).
    pub fn register() -> Result<Self, RegistrationError> {
        // SAFETY: reads a thread-local variable of DPDK.
        let known = unsafe { dpdk_sys::shim_lcore_is_known() };
        if !known {
            // SAFETY: a thread that DPDK does not know; fails when DPDK is not started.
            let result = unsafe { dpdk_sys::rte_thread_register() };
            if result < 0 {
                return Err(RegistrationError(Errno::of_thread()));
            }
        }
        Ok(Self {
            registered_here: !known,
            of_this_thread: PhantomData,
        })
    }
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        if self.registered_here {
            // SAFETY: this thread, since the value is not `Send`, registered itself.
            unsafe { dpdk_sys::rte_thread_unregister() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_cannot_register_before_the_start() {
        assert!(ThreadRegistration::register().is_err());
    }
}
