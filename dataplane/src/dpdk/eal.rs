//! Starting DPDK, once a process, and ending it when nothing needs it any more.
//!
//! Called by `control`'s main thread before the ports; workers meet it only through [`super::ThreadRegistration`].

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::device::{Cause, Device, DeviceError, ProbeError};
use super::memory::{HugePages, Memory, choose_memory};
use super::process::{Process, find_port};
use super::thread::Affinity;
use super::{Errno, said, take_log};

/// Heap without huge pages, unless configured. Only what is touched is really taken.
const ORDINARY_MIB: u32 = 512;

/// DPDK can be started once a process, not even again after its end.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Least severe of the DPDK messages that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What went wrong.
    #[default]
    Error,
    /// What may go wrong.
    Warning,
    /// What is unusual.
    Notice,
    /// What is going on.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    /// `RTE_LOG_*`, the numbers of syslog plus one.
    const fn number(self) -> u32 {
        match self {
            Self::Error => 4,
            Self::Warning => 5,
            Self::Notice => 6,
            Self::Info => 7,
            Self::Debug => 8,
        }
    }
}

/// How DPDK shall start.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// Where packet memory comes from.
    pub huge_pages: HugePages,
    /// Devices to bring up: DPDK device strings (`net_tap0,iface=wan`) and PCI addresses (`0000:03:00.0`).
    pub devices: Vec<String>,
    /// CPU that DPDK regards as the control thread's; the first one this process may use if absent. The calling thread is
    /// not pinned to it.
    pub control_core: Option<usize>,
    /// Packet memory to set aside. Absent: huge pages as needed, or 512 MiB of ordinary pages.
    pub memory_mib: Option<u32>,
    /// Which of DPDK's messages [`Eal::take_log`] and errors show.
    pub log_level: LogLevel,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            huge_pages: HugePages::Auto,
            devices: Vec::new(),
            control_core: None,
            memory_mib: None,
            log_level: LogLevel::Error,
        }
    }
}

/// DPDK did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// One start a process.
    #[error("DPDK was started in this process before, and can be started only once")]
    AlreadyStarted,
    /// The list of devices is wrong; nothing was started.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The CPU is none that this process may use.
    #[error("control core {core} is not among the CPUs this process may use: {allowed:?}")]
    ControlCore {
        /// As configured.
        core: usize,
        /// As the kernel says.
        allowed: Vec<usize>,
    },
    /// Huge pages are required and too few.
    #[error(
        "huge pages are required: {needed_mib} MiB, and {free_mib} MiB are free (see /sys/kernel/mm/hugepages)"
    )]
    TooFewHugePages {
        /// As configured, or the least that makes sense.
        needed_mib: u64,
        /// At the moment.
        free_mib: u64,
    },
    /// A device did not come up.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The kernel refused to say or set the CPUs of this thread.
    #[error("cannot read or restore this thread's CPU affinity: {0}")]
    Affinity(std::io::Error),
    /// DPDK refused for another reason.
    #[error("DPDK did not start: {errno}{}", said(log))]
    Init {
        /// Its error number.
        errno: Errno,
        /// What it logged.
        log: Vec<String>,
    },
    /// An argument holds a NUL byte.
    #[error("DPDK cannot be given the argument {0:?}")]
    Argument(String),
}

/// DPDK, started. Dropped, it ends DPDK as soon as no port, queue or mempool is left.
pub struct Eal {
    process: Arc<Process>,
    memory: Memory,
}

impl Eal {
    /// Start DPDK and bring up all devices, or none.
    ///
    /// The calling thread becomes the one DPDK knows as main; its CPU affinity is as before afterwards.
    ///
    /// # Errors
    /// See [`EalError`]. After an error that DPDK itself gave, it cannot be started again in this process.
    pub fn start(config: &EalConfig) -> Result<Self, EalError> {
        let devices = parse_devices(&config.devices)?;
        let memory = choose_memory(config)?;
        let affinity = Affinity::of_thread().map_err(EalError::Affinity)?;
        let allowed = affinity.cores();
        let core = match config.control_core {
            Some(core) if !allowed.contains(&core) => {
                return Err(EalError::ControlCore { core, allowed });
            }
            Some(core) => core,
            None => *allowed.first().expect("a running thread may use a CPU"),
        };
        let arguments = arguments(config, &devices, memory, core)
            .into_iter()
            .map(|argument| {
                CString::new(argument.clone()).map_err(|_| EalError::Argument(argument))
            })
            .collect::<Result<Vec<_>, _>>()?;
        // A second rte_eal_init in a process fails, and says so on stderr.
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(EalError::AlreadyStarted);
        }
        // SAFETY: made to be called before rte_eal_init; only this thread passes the flag above.
        let capturing = unsafe { dpdk_sys::shim_log_capture(config.log_level.number()) } == 0;
        debug_assert!(capturing, "the log goes to stderr instead");

        let result = init(&arguments);
        // rte_eal_init pinned this thread to `core`, and every thread started from here on would inherit that.
        affinity.restore().map_err(EalError::Affinity)?;
        if let Err(errno) = result {
            // Not ended again: rte_eal_cleanup is for what rte_eal_init finished.
            return Err(explain_failed_init(errno, &devices));
        }
        let process = Arc::new(Process::default());
        for device in &devices {
            if find_port(&device.name).is_none() {
                let cause = device.diagnose(plugin_folder());
                let error = ProbeError {
                    device: device.name.clone(),
                    cause,
                    log: take_log(),
                };
                drop(process); // closes the devices that did come up: no tap is left behind
                return Err(error.into());
            }
        }
        Ok(Self { process, memory })
    }

    /// What packet memory is made of; shown, it is one clear line for the operator.
    #[must_use]
    pub const fn memory(&self) -> Memory {
        self.memory
    }

    /// Version of the DPDK in use, such as `DPDK 22.11.11`.
    #[must_use]
    pub fn dpdk_version() -> String {
        // SAFETY: takes nothing and returns a constant string of the library.
        let version = unsafe { CStr::from_ptr(dpdk_sys::rte_version()) };
        version.to_string_lossy().into_owned()
    }

    /// What DPDK logged since the last call. Nothing of it goes to stderr or syslog.
    #[must_use]
    pub fn take_log(&self) -> Vec<String> {
        take_log()
    }

    /// The NUMA socket a configured device sits on; `None` for devices that sit nowhere, and for unknown ones.
    #[must_use]
    pub fn socket_of(&self, device: &str) -> Option<u32> {
        let port = find_port(&Device::parse(device).ok()?.name)?;
        // SAFETY: takes any port number.
        u32::try_from(unsafe { dpdk_sys::rte_eth_dev_socket_id(port) }).ok()
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        &self.process
    }
}

fn parse_devices(texts: &[String]) -> Result<Vec<Device>, DeviceError> {
    let mut devices: Vec<Device> = Vec::with_capacity(texts.len());
    for text in texts {
        let device = Device::parse(text)?;
        if devices.iter().any(|other| other.name == device.name) {
            return Err(DeviceError::Duplicate(device.name));
        }
        devices.push(device);
    }
    Ok(devices)
}

fn arguments(config: &EalConfig, devices: &[Device], memory: Memory, core: usize) -> Vec<String> {
    let mut arguments: Vec<String> = vec![
        "sextant".into(),
        // One lcore, this thread: workers are threads of ours, which register themselves.
        format!("--lcores=0@{core}"),
        "--no-telemetry".into(),
    ];
    match memory {
        // Leaves no file behind, even when killed. Excludes secondary processes, of which we have none.
        Memory::HugePages { .. } => arguments.push("--in-memory".into()),
        // --no-huge means legacy memory, which --in-memory refuses.
        Memory::Ordinary => arguments.extend(["--no-huge".into(), "--no-shconf".into()]),
    }
    let mib = match memory {
        Memory::Ordinary => Some(config.memory_mib.unwrap_or(ORDINARY_MIB)),
        Memory::HugePages { .. } => config.memory_mib,
    };
    arguments.extend(mib.map(|mib| format!("-m{mib}")));
    if devices.iter().all(|device| !device.is_pci) {
        // Without a device that needs them, physical addresses are not asked for: root would not be needed for them.
        arguments.extend(["--no-pci".into(), "--iova-mode=va".into()]);
    }
    arguments.extend(devices.iter().map(|device| {
        let option = if device.is_pci { "allow" } else { "vdev" };
        format!("--{option}={}", device.text)
    }));
    arguments
}

fn init(arguments: &[CString]) -> Result<(), Errno> {
    // rte_eal_init permutes this array, and keeps pointers into the strings: they stay for good.
    let mut pointers: Vec<*mut c_char> = arguments
        .iter()
        .map(|argument| argument.clone().into_raw())
        .collect();
    let count = c_int::try_from(pointers.len()).expect("a few arguments a device");
    pointers.push(std::ptr::null_mut());
    let pointers = Box::leak(pointers.into_boxed_slice());
    // SAFETY: `pointers` holds `count` terminated strings and a null, all never freed; called once a process.
    let result = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
    if result < 0 {
        Err(Errno::of_thread())
    } else {
        Ok(())
    }
}

fn explain_failed_init(errno: Errno, devices: &[Device]) -> EalError {
    let log = take_log();
    let culprit = devices
        .iter()
        .find_map(|device| match device.diagnose(plugin_folder()) {
            // Only a device whose driver is unknown fails the whole start.
            cause @ Cause::NoDriver { .. } => Some((device.name.clone(), cause)),
            _ => None,
        });
    match culprit {
        Some((device, cause)) => ProbeError { device, cause, log }.into(),
        None => EalError::Init { errno, log },
    }
}

fn plugin_folder() -> &'static str {
    CStr::from_bytes_with_nul(dpdk_sys::DPDK_PLUGIN_FOLDER)
        .ok()
        .and_then(|folder| folder.to_str().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(devices: &[&str]) -> EalConfig {
        EalConfig {
            devices: devices.iter().map(ToString::to_string).collect(),
            ..EalConfig::default()
        }
    }

    #[test]
    fn a_device_named_twice_is_refused_before_the_start() {
        let error = parse_devices(&with(&["net_tap0", "net_tap0,iface=x"]).devices).unwrap_err();
        assert_eq!(error, DeviceError::Duplicate("net_tap0".into()));
    }

    #[test]
    fn virtual_devices_need_no_pci_bus() {
        let config = with(&["net_null0"]);
        let devices = parse_devices(&config.devices).unwrap();
        let arguments = arguments(
            &config,
            &devices,
            Memory::HugePages {
                page_bytes: 2 << 20,
            },
            3,
        );
        assert_eq!(
            arguments,
            [
                "sextant",
                "--lcores=0@3",
                "--no-telemetry",
                "--in-memory",
                "--no-pci",
                "--iova-mode=va",
                "--vdev=net_null0"
            ]
        );
    }

    #[test]
    fn only_the_configured_pci_device_is_allowed() {
        let config = EalConfig {
            memory_mib: Some(64),
            ..with(&["03:00.0,x=1"])
        };
        let devices = parse_devices(&config.devices).unwrap();
        let arguments = arguments(&config, &devices, Memory::Ordinary, 0);
        assert_eq!(
            arguments,
            [
                "sextant",
                "--lcores=0@0",
                "--no-telemetry",
                "--no-huge",
                "--no-shconf",
                "-m64",
                "--allow=0000:03:00.0,x=1"
            ]
        );
    }
}
