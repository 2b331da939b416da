//! A DPDK port: opened, configured and started by the control thread, used by workers through its queues.
//!
//! What the device can do decides: queues are cut to what it has, receive-side scaling and receive checksums are asked
//! for where it offers them, and nothing later relies on either. Transmit checksums are not asked for: NPT66 is checksum
//! neutral and our own packets are few, while the offload makes several drivers leave their fastest send function.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::device::{Device, DeviceError};
use super::eal::Eal;
use super::mempool::Mempool;
use super::process::{Process, find_port};
use super::queue::{DpdkRxQueue, DpdkTxQueue};
use super::{Errno, kernel, said, setup, take_log};

/// How a port shall be.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// As the operator calls it.
    pub name: String,
    /// As given to [`Eal::start`]; arguments are ignored here.
    pub device: String,
    /// Receive queues; absent: as many as wanted. At most what the device has.
    pub rx_queues: Option<u16>,
    /// Transmit queues; absent: as many as wanted. At most what the device has.
    pub tx_queues: Option<u16>,
    /// Packets a receive queue holds.
    pub rx_descriptors: u16,
    /// Packets a transmit queue holds.
    pub tx_descriptors: u16,
    /// IPv6 MTU. Room for two VLAN tags is added inside.
    pub mtu: u16,
    /// Receive frames for other stations too.
    pub promiscuous: bool,
}

/// A port cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port `{port}`, device `{device}`: {fault}")]
pub struct PortError {
    /// As the operator calls it.
    pub port: String,
    /// Its device.
    pub device: String,
    /// What is wrong.
    pub fault: PortFault,
}

/// Why a port cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortFault {
    /// Not a device at all.
    #[error(transparent)]
    Malformed(DeviceError),
    /// EAL was started without it.
    #[error("the device was not brought up at start")]
    Absent,
    /// Opened twice.
    #[error("another port uses the device")]
    InUse,
    /// No queue in one direction.
    #[error("the device cannot both receive and send")]
    OneWay,
    /// The device cannot send or receive so much.
    #[error("the device takes an MTU of at most {most}, not {mtu}")]
    Mtu {
        /// Asked for.
        mtu: u16,
        /// Possible.
        most: u16,
    },
    /// A frame would not fit in one buffer.
    #[error(
        "frames of MTU {mtu} need packet buffers of {needed} bytes, the mempool has {data_room}"
    )]
    Buffer {
        /// Asked for.
        mtu: u16,
        /// For MTU, Ethernet header, VLAN tags and frame check sequence.
        needed: u32,
        /// Of the mempool.
        data_room: u16,
    },
    /// DPDK refused.
    #[error("cannot {action}: {errno}{}", said(log))]
    Refused {
        /// What was tried.
        action: &'static str,
        /// DPDK's answer.
        errno: Errno,
        /// What DPDK logged meanwhile.
        log: Vec<String>,
    },
}

/// State of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether packets can pass.
    pub up: bool,
    /// Mbit/s, where the device knows.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// What the device counted since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Received packets.
    pub rx_packets: u64,
    /// Received bytes.
    pub rx_bytes: u64,
    /// Packets lost because no descriptor was free: the worker was too slow.
    pub rx_missed: u64,
    /// Broken packets.
    pub rx_errors: u64,
    /// Times that no packet buffer was free.
    pub rx_no_buffer: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Packets that the device failed to send.
    pub tx_errors: u64,
}

/// What the device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortInfo {
    /// DPDK's driver.
    pub driver: String,
    /// NUMA socket, if it sits on one.
    pub socket: Option<u32>,
    /// The network interface of the kernel behind it, such as a tap.
    pub interface: Option<String>,
    /// Receive checksums are verified by the device.
    pub rx_checksums: bool,
    /// The device could compute checksums on sending; not used.
    pub tx_checksums: bool,
    /// The device spreads flows over the receive queues.
    pub rss: bool,
    /// Receive queues of the device.
    pub max_rx_queues: u16,
    /// Transmit queues of the device.
    pub max_tx_queues: u16,
    /// Receive queues set up.
    pub rx_queues: u16,
    /// Transmit queues set up.
    pub tx_queues: u16,
    /// Largest IPv6 MTU the device takes.
    pub max_mtu: u16,
}

/// An open port. Dropped, it is closed as soon as its queues are dropped too; a tap is gone then.
pub struct Port {
    open: Arc<OpenPort>,
    info: PortInfo,
    mac: [u8; 6],
    promiscuous: bool,
    /// A tap with an interface of the kernel behind it, whose address it has.
    has_remote: bool,
    rx_free: Vec<bool>,
    tx_free: Vec<bool>,
}

/// The device, closed on drop.
pub(super) struct OpenPort {
    id: u16,
    name: String,
    device: String,
    started: AtomicBool,
    process: Arc<Process>,
    /// The device's queues take from it.
    _mempool: Mempool,
}

impl OpenPort {
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn device(&self) -> &str {
        &self.device
    }

    pub(super) fn error(&self, fault: PortFault) -> PortError {
        PortError {
            port: self.name.clone(),
            device: self.device.clone(),
            fault,
        }
    }

    pub(super) fn refused(&self, action: &'static str, errno: Errno) -> PortError {
        let log = take_log();
        self.error(PortFault::Refused { action, errno, log })
    }

    /// `result` of a DPDK function that was called to do `action`.
    pub(super) fn check(&self, action: &'static str, result: c_int) -> Result<(), PortError> {
        Errno::check(result).map_err(|errno| self.refused(action, errno))
    }

    /// As `check`, for what not every driver has.
    pub(super) fn check_unless_unsupported(
        &self,
        action: &'static str,
        result: c_int,
    ) -> Result<(), PortError> {
        if result == -libc::ENOTSUP {
            Ok(())
        } else {
            self.check(action, result)
        }
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        if self.started.load(Ordering::Relaxed) {
            // SAFETY: the port is ours, and all its queues are gone, because they hold this value.
            unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
        }
        // SAFETY: as above; closed once, here.
        unsafe { dpdk_sys::rte_eth_dev_close(self.id) };
        self.process.release_port(self.id);
    }
}

impl Port {
    /// Configure a device that [`Eal::start`] brought up. It neither receives nor sends until [`Port::start`].
    ///
    /// `wanted_queues` is how many queues suit the workers; buffers for received frames come from `mempool`.
    ///
    /// # Errors
    /// See [`PortError`]; the device is closed then.
    pub fn open(
        eal: &Eal,
        config: &PortConfig,
        wanted_queues: u16,
        mempool: &Mempool,
    ) -> Result<Self, PortError> {
        let error = |fault| PortError {
            port: config.name.clone(),
            device: config.device.clone(),
            fault,
        };
        let device =
            Device::parse(&config.device).map_err(|cause| error(PortFault::Malformed(cause)))?;
        let id = find_port(&device.name).ok_or_else(|| error(PortFault::Absent))?;
        if !eal.process().claim_port(id) {
            return Err(error(PortFault::InUse));
        }
        let open = OpenPort {
            id,
            name: config.name.clone(),
            device: device.name.clone(),
            started: AtomicBool::new(false),
            process: Arc::clone(eal.process()),
            _mempool: mempool.clone(),
        };
        let info = setup::configure(&open, config, wanted_queues, mempool)?;
        let mac = setup::mac(&open)?;
        Ok(Self {
            rx_free: vec![true; usize::from(info.rx_queues)],
            tx_free: vec![true; usize::from(info.tx_queues)],
            open: Arc::new(open),
            info,
            mac,
            promiscuous: config.promiscuous,
            has_remote: device.argument("remote").is_some(),
        })
    }

    /// Let packets in and out.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn start(&mut self) -> Result<(), PortError> {
        if self.open.started.load(Ordering::Relaxed) {
            return Ok(());
        }
        let id = self.open.id;
        // SAFETY: configured in `open`, and no queue is out yet.
        let result = unsafe { dpdk_sys::rte_eth_dev_start(id) };
        self.open.check("start", result)?;
        self.open.started.store(true, Ordering::Relaxed);
        // Not earlier: starting a tap gives the kernel's end DPDK's address.
        if !self.has_remote {
            setup::separate_tap_ends(&self.open, &self.info, self.mac)?;
        }
        // Neighbour discovery needs solicited-node and all-nodes multicast. Devices without filters lack the function.
        // SAFETY: a started port of ours.
        let result = unsafe { dpdk_sys::rte_eth_allmulticast_enable(id) };
        self.open
            .check_unless_unsupported("receive all multicast", result)?;
        if self.promiscuous {
            // SAFETY: as above.
            let result = unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) };
            self.open
                .check_unless_unsupported("receive promiscuously", result)?;
        }
        Ok(())
    }

    /// Receive queues set up.
    #[must_use]
    pub fn rx_queues(&self) -> u16 {
        self.info.rx_queues
    }

    /// Transmit queues set up.
    #[must_use]
    pub fn tx_queues(&self) -> u16 {
        self.info.tx_queues
    }

    /// A receive queue, to whoever asks first. `None` when it is taken, when there is no such queue, and before
    /// [`Port::start`]: what DPDK's fast path points to changes then.
    pub fn take_rx_queue(&mut self, index: u16) -> Option<DpdkRxQueue> {
        self.take(index, |port| &mut port.rx_free)
            .then(|| DpdkRxQueue::new(Arc::clone(&self.open), index, &self.info.driver))
    }

    /// A transmit queue, to whoever asks first; otherwise as [`Port::take_rx_queue`].
    pub fn take_tx_queue(&mut self, index: u16) -> Option<DpdkTxQueue> {
        self.take(index, |port| &mut port.tx_free)
            .then(|| DpdkTxQueue::new(Arc::clone(&self.open), index))
    }

    fn take(&mut self, index: u16, free: impl Fn(&mut Self) -> &mut Vec<bool>) -> bool {
        if !self.open.started.load(Ordering::Relaxed) {
            return false;
        }
        free(self)
            .get_mut(usize::from(index))
            .is_some_and(std::mem::take)
    }

    /// As the operator calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.open.name
    }

    /// The device's address. Of a tap, the address of DPDK's end; the kernel's end has one of its own.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// What the device is and can do.
    #[must_use]
    pub fn info(&self) -> &PortInfo {
        &self.info
    }

    /// State of the line, now.
    #[must_use]
    pub fn link(&self) -> Link {
        let mut raw = dpdk_sys::shim_link {
            speed_mbps: 0,
            up: false,
            full_duplex: false,
        };
        // SAFETY: a valid port and a place for the answer.
        let result = unsafe { dpdk_sys::shim_link(self.open.id, &raw mut raw) };
        // net_tap asks the kernel by name, in its own network namespace: a tap that was moved to another one (a host of
        // the demonstration) looks dead there and works all the same.
        let moved = self.info.driver == "net_tap"
            && self
                .info
                .interface
                .as_deref()
                .is_some_and(|name| kernel::interface_index(name).is_none());
        Link {
            up: result == 0 && raw.up || moved && self.open.started.load(Ordering::Relaxed),
            speed_mbps: (raw.speed_mbps != 0 && raw.speed_mbps != u32::MAX)
                .then_some(raw.speed_mbps),
            full_duplex: raw.full_duplex,
        }
    }

    /// What the device counted; zeros if it does not count.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        let mut raw = MaybeUninit::<dpdk_sys::rte_eth_stats>::zeroed();
        // SAFETY: a valid port and a place for the counters.
        unsafe { dpdk_sys::rte_eth_stats_get(self.open.id, raw.as_mut_ptr()) };
        // SAFETY: plain numbers, zeroed before the call.
        let raw = unsafe { raw.assume_init() };
        PortStats {
            rx_packets: raw.ipackets,
            rx_bytes: raw.ibytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            rx_no_buffer: raw.rx_nombuf,
            tx_packets: raw.opackets,
            tx_bytes: raw.obytes,
            tx_errors: raw.oerrors,
        }
    }

    /// The driver's own counters by name; empty if it has none.
    #[must_use]
    pub fn xstats(&self) -> Vec<(String, u64)> {
        let id = self.open.id;
        // SAFETY: with no array, the function says how many entries there are.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0) };
        let Ok(count_c) = u32::try_from(count) else {
            return Vec::new();
        };
        let entries = count_c as usize; // `as`: widening
        let mut names = vec![dpdk_sys::rte_eth_xstat_name { name: [0; 64] }; entries];
        let mut values = vec![dpdk_sys::rte_eth_xstat { id: 0, value: 0 }; entries];
        // SAFETY: the array has as many entries as said.
        let named = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count_c) };
        // SAFETY: as above.
        let counted = unsafe { dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), count_c) };
        if named != count || counted != count {
            return Vec::new();
        }
        let names: BTreeMap<usize, String> = names
            .iter()
            .map(|entry| {
                // SAFETY: DPDK terminates names within their array, which was zeroed before.
                let name = unsafe { CStr::from_ptr(entry.name.as_ptr()) };
                name.to_string_lossy().into_owned()
            })
            .enumerate()
            .collect();
        values
            .iter()
            .filter_map(|entry| {
                Some((
                    names.get(&usize::try_from(entry.id).ok()?)?.clone(),
                    entry.value,
                ))
            })
            .collect()
    }

    /// Change the IPv6 MTU of a running port.
    ///
    /// # Errors
    /// When it is more than the device takes, or the device cannot change it while running.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), PortError> {
        if mtu > self.info.max_mtu {
            return Err(self.open.error(PortFault::Mtu {
                mtu,
                most: self.info.max_mtu,
            }));
        }
        let mtu = setup::device_mtu(mtu, &self.info);
        // SAFETY: a valid port of ours.
        let result = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.open.id, mtu) };
        self.open.check_unless_unsupported("set its MTU", result)
    }
}
