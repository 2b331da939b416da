//! DPDK's one instance in this process: what is open, and the orderly end.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

/// DPDK in this process, kept by everything that needs it; ends DPDK when dropped.
#[derive(Default)]
pub(super) struct Process {
    /// All mempools ever made. They stay until the end, because a device's rings may hold packets of any of them.
    pools: Mutex<Vec<PoolPointer>>,
    open_ports: Mutex<BTreeSet<u16>>,
}

#[derive(Clone, Copy)]
struct PoolPointer(NonNull<dpdk_sys::rte_mempool>);

// SAFETY: an rte_mempool may be used from any thread; this is only its address.
unsafe impl Send for PoolPointer {}

impl Process {
    pub(super) fn keep_pool(&self, pool: NonNull<dpdk_sys::rte_mempool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.push(PoolPointer(pool));
    }

    /// Take a port for oneself; `false` if it is taken.
    pub(super) fn claim_port(&self, port: u16) -> bool {
        let mut open = self
            .open_ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.insert(port)
    }

    pub(super) fn release_port(&self, port: u16) {
        let mut open = self
            .open_ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.remove(&port);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Devices that were brought up and never opened.
        for port in ports() {
            // SAFETY: the port is valid and, as nothing holds this process state any more, used by nobody.
            unsafe { dpdk_sys::rte_eth_dev_close(port) };
        }
        let pools = std::mem::take(&mut *self.pools.lock().unwrap_or_else(PoisonError::into_inner));
        // SAFETY: pools are freed nowhere but below.
        let in_use =
            |pool: &PoolPointer| unsafe { dpdk_sys::rte_mempool_in_use_count(pool.0.as_ptr()) } > 0;
        if pools.iter().any(in_use) {
            // A packet lives on in some ring. Ending DPDK would unmap it; the end of the process takes care.
            return;
        }
        for pool in pools {
            // SAFETY: made by rte_pktmbuf_pool_create, freed once, and no packet of it is alive.
            unsafe { dpdk_sys::rte_mempool_free(pool.0.as_ptr()) };
        }
        // SAFETY: DPDK is started, nothing of it is in use, and this runs once a process.
        unsafe { dpdk_sys::rte_eal_cleanup() };
    }
}

/// DPDK's numbers of all ports there are.
fn ports() -> impl Iterator<Item = u16> {
    let next = |port: u16| {
        // SAFETY: takes any number; returns the next valid port or RTE_MAX_ETHPORTS.
        let port = unsafe { dpdk_sys::rte_eth_find_next(port) };
        (u32::from(port) < dpdk_sys::RTE_MAX_ETHPORTS).then_some(port)
    };
    std::iter::successors(next(0), move |port| next(port + 1))
}

/// DPDK's number of the port on the device called `name`.
pub(super) fn find_port(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut port = 0;
    // SAFETY: a terminated string and a place for the number, both outliving the call.
    let result = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut port) };
    if result == 0 {
        return Some(port);
    }
    // Some PCI drivers name their ports other than their device; then the device's name decides.
    ports().find(|port| {
        let Ok(info) = super::setup::device_info(*port) else {
            return false;
        };
        // SAFETY: the device belongs to a valid port, or is null, which the function checks.
        let device = unsafe { dpdk_sys::shim_device_name(info.device) };
        // SAFETY: a device's name is a terminated string that lives as long as the device.
        !device.is_null() && unsafe { CStr::from_ptr(device) } == name.as_c_str()
    })
}
