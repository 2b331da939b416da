//! Which devices the configuration names, and why one did not come up.
//!
//! A device that fails to probe does not fail `rte_eal_init`: it returns success with a port less. `eal.rs` therefore
//! looks for every device by name afterwards, and asks this module for the reason.

use std::fmt;
use std::fs;
use std::path::Path;

use super::{kernel, said};

/// What stands in the configuration is not a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Neither a virtual device nor a PCI address.
    #[error(
        "`{0}` is not a device: expected a DPDK device string such as `net_tap0,iface=wan` or a PCI address such as `0000:03:00.0`"
    )]
    Malformed(String),
    /// Two ports on one device.
    #[error(
        "device `{0}` is named twice: give each virtual device its own number, as in net_tap0, net_tap1"
    )]
    Duplicate(String),
}

/// A device did not come up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device `{device}`: {cause}{}", if *.cause == Cause::Unknown { said(.log) } else { String::new() })]
pub struct ProbeError {
    /// Its name, without arguments.
    pub device: String,
    /// The most likely reason.
    pub cause: Cause,
    /// What DPDK logged meanwhile, on all devices. Shown only where `cause` says nothing.
    pub log: Vec<String>,
}

/// Why a device did not come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The driver's plug-in is not installed.
    NoDriver {
        /// Its library, without folder and version.
        library: String,
        /// Where this DPDK looks for drivers.
        folder: String,
    },
    /// The kernel has no tap support here.
    NoTunDevice,
    /// The process may not make network interfaces.
    NotPermitted,
    /// The tap's name belongs to another interface.
    InterfaceExists(String),
    /// There is no such PCI device.
    NoPciDevice,
    /// The PCI device belongs to a kernel driver, or to none.
    PciNotTaken {
        /// The kernel driver that holds it.
        kernel_driver: Option<String>,
    },
    /// A file named in the arguments cannot be read.
    NoFile(String),
    /// Something else: DPDK's log may say.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver { library, folder } => write!(
                f,
                "its driver is not installed: no {library} in {folder}; on Debian, `apt-get install librte-meta-net`"
            ),
            Self::NoTunDevice => {
                write!(
                    f,
                    "/dev/net/tun is missing: load the kernel's module `tun`, or pass the device into the container"
                )
            }
            Self::NotPermitted => write!(f, "needs root or the capability CAP_NET_ADMIN"),
            Self::InterfaceExists(name) => {
                write!(f, "the network interface `{name}` exists already")
            }
            Self::NoPciDevice => write!(f, "there is no such PCI device"),
            Self::PciNotTaken {
                kernel_driver: Some(driver),
            } => write!(
                f,
                "no DPDK driver took it: the kernel's driver `{driver}` holds it; bind it to vfio-pci (dpdk-devbind.py)"
            ),
            Self::PciNotTaken {
                kernel_driver: None,
            } => write!(
                f,
                "no DPDK driver took it: bind it to vfio-pci (dpdk-devbind.py) and see that its driver is installed"
            ),
            Self::NoFile(path) => write!(f, "cannot read `{path}`"),
            Self::Unknown => write!(f, "did not come up"),
        }
    }
}

/// One configured device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// Its name on its bus; EAL names the port after it.
    pub(super) name: String,
    /// `key=value` pairs.
    arguments: Vec<(String, String)>,
    /// Name and arguments, as EAL wants them.
    pub(super) text: String,
    pub(super) is_pci: bool,
}

impl Device {
    pub(super) fn parse(text: &str) -> Result<Self, DeviceError> {
        let text = text.trim();
        let (name, rest) = match text.split_once(',') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        let pci = pci_address(name);
        let is_word = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        // EAL would read white space or a leading dash as another option's business.
        if text.contains(char::is_whitespace) || text.contains('\0') || (pci.is_none() && !is_word)
        {
            return Err(DeviceError::Malformed(text.to_owned()));
        }
        let is_pci = pci.is_some();
        let name = pci.unwrap_or_else(|| name.to_owned());
        let arguments = rest
            .unwrap_or_default()
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let text = match rest {
            Some(rest) => format!("{name},{rest}"),
            None => name.clone(),
        };
        Ok(Self {
            name,
            arguments,
            text,
            is_pci,
        })
    }

    pub(super) fn argument(&self, key: &str) -> Option<&str> {
        self.arguments
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// `net_tap` of `net_tap0`.
    fn driver(&self) -> &str {
        self.name.trim_end_matches(|c: char| c.is_ascii_digit())
    }

    /// Why EAL did not bring it up, as far as can be told from outside. `folder`: where drivers are.
    pub(super) fn diagnose(&self, folder: &str) -> Cause {
        if self.is_pci {
            return self.diagnose_pci();
        }
        if let Some(cause) = self.missing_driver(folder) {
            return cause;
        }
        if self.driver() == "net_tap" {
            if !Path::new("/dev/net/tun").exists() {
                return Cause::NoTunDevice;
            }
            if !kernel::may_administer_network() {
                return Cause::NotPermitted;
            }
            if let Some(interface) = self.argument("iface")
                && kernel::interface_index(interface).is_some()
            {
                return Cause::InterfaceExists(interface.to_owned());
            }
        }
        if matches!(self.driver(), "net_af_packet" | "net_af_xdp")
            && !kernel::may_administer_network()
        {
            return Cause::NotPermitted;
        }
        if let Some(path) = self.argument("rx_pcap")
            && fs::File::open(path).is_err()
        {
            return Cause::NoFile(path.to_owned());
        }
        Cause::Unknown
    }

    fn diagnose_pci(&self) -> Cause {
        let sysfs = Path::new("/sys/bus/pci/devices").join(&self.name);
        if !sysfs.exists() {
            return Cause::NoPciDevice;
        }
        let kernel_driver = fs::read_link(sysfs.join("driver"))
            .ok()
            .and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()))
            .filter(|driver| driver != "vfio-pci");
        Cause::PciNotTaken { kernel_driver }
    }

    /// Drivers are plug-ins named after the device: `librte_net_tap.so.23`. A DPDK with its drivers linked in has no
    /// folder of plug-ins; then nothing can be said.
    fn missing_driver(&self, folder: &str) -> Option<Cause> {
        let library = format!("librte_{}.so", self.driver());
        let installed = fs::read_dir(folder)
            .ok()?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&library));
        if installed {
            return None;
        }
        Some(Cause::NoDriver {
            library,
            folder: folder.to_owned(),
        })
    }
}

/// A PCI address in full, if it is one: `03:00.0` becomes `0000:03:00.0`.
fn pci_address(text: &str) -> Option<String> {
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.chars().all(|c| c.is_ascii_hexdigit())
    };
    let (bus_and_domain, function) = text.rsplit_once('.')?;
    let mut parts = bus_and_domain.rsplit(':');
    let (slot, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0000");
    let valid = parts.next().is_none()
        && is_hex(domain, 4)
        && is_hex(bus, 2)
        && is_hex(slot, 2)
        && matches!(function.as_bytes(), [b'0'..=b'7']);
    valid.then(|| format!("{domain}:{bus}:{slot}.{function}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arguments_are_told_apart() {
        let tap = Device::parse("net_tap0,iface=sx-wan,mac=02:00:00:00:00:01").unwrap();
        assert_eq!(tap.name, "net_tap0");
        assert_eq!(tap.driver(), "net_tap");
        assert_eq!(tap.argument("iface"), Some("sx-wan"));
        assert_eq!(tap.argument("mac"), Some("02:00:00:00:00:01"));
        assert_eq!(tap.argument("speed"), None);
        assert!(!tap.is_pci);
        assert_eq!(tap.text, "net_tap0,iface=sx-wan,mac=02:00:00:00:00:01");
    }

    #[test]
    fn a_pci_address_gets_its_domain() {
        let device = Device::parse("03:00.0,queues=4").unwrap();
        assert!(device.is_pci);
        assert_eq!(device.name, "0000:03:00.0");
        assert_eq!(device.text, "0000:03:00.0,queues=4");
        assert_eq!(Device::parse("0000:AF:00.1").unwrap().name, "0000:af:00.1");
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in [
            "",
            "eth0 up",
            "--vdev=net_tap0",
            "03:00.8",
            "0000:03:00",
            "0:0:03:00.0",
            "net tap",
            "Net_tap0",
            "net_tap0\0",
        ] {
            assert_eq!(
                Device::parse(text),
                Err(DeviceError::Malformed(text.to_owned())),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_driver_without_plug_in_is_named() {
        let folder = std::env::temp_dir().join(format!("sextant-drivers-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("librte_net_ring.so.23"), "").unwrap();
        let path = folder.to_str().unwrap();
        let ring = Device::parse("net_ring0").unwrap();
        let memif = Device::parse("net_memif0").unwrap();
        let (found, missing) = (ring.diagnose(path), memif.diagnose(path));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Cause::Unknown);
        let Cause::NoDriver { library, .. } = missing else {
            panic!("{missing:?}");
        };
        assert_eq!(library, "librte_net_memif.so");
    }
}
