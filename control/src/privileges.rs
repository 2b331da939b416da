//! What the configured devices need from the kernel, asked before anything is started: a missing capability is one clear
//! sentence instead of a driver's complaint.

use rustix::thread::{CapabilitySet, capabilities};

use crate::config::{Config, Port};

/// A capability is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {port:?}: device {device} needs root or the capability {capability}")]
pub struct Missing {
    port: String,
    device: String,
    capability: &'static str,
}

/// Whether this process may use every device of the configuration.
///
/// # Errors
/// Names the first port it may not use.
pub fn check(config: &Config) -> Result<(), Missing> {
    // A kernel that does not say lets the driver find out.
    let Ok(sets) = capabilities(None) else {
        return Ok(());
    };
    check_with(config, sets.effective)
}

fn check_with(config: &Config, effective: CapabilitySet) -> Result<(), Missing> {
    for port in &config.ports {
        for (capability, name) in needed(port) {
            if !effective.contains(*capability) {
                return Err(Missing {
                    port: port.name.clone(),
                    device: port.device.name().to_owned(),
                    capability: name,
                });
            }
        }
    }
    Ok(())
}

fn needed(port: &Port) -> &'static [(CapabilitySet, &'static str)] {
    const ADMIN: (CapabilitySet, &str) = (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN");
    const RAW: (CapabilitySet, &str) = (CapabilitySet::NET_RAW, "CAP_NET_RAW");
    let driver = port
        .device
        .name()
        .trim_end_matches(|c: char| c.is_ascii_digit());
    match driver {
        "net_tap" => &[ADMIN],
        "net_af_packet" => &[RAW],
        "net_af_xdp" => &[ADMIN, RAW],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, parse_for};

    fn config(device: &str) -> Config {
        let text = format!(
            "[[ports]]\nname = \"wan\"\ndevice = \"{device}\"\n[[interfaces]]\nport = \"wan\"\n"
        );
        parse_for("test.toml", &text, &Host::new(vec![0])).unwrap()
    }

    #[test]
    fn tap_without_its_capability_is_one_sentence() {
        let error = check_with(&config("net_tap3,iface=x"), CapabilitySet::NET_RAW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "port \"wan\": device net_tap3 needs root or the capability CAP_NET_ADMIN"
        );
    }

    #[test]
    fn devices_that_need_nothing_are_not_asked_for_it() {
        assert_eq!(
            check_with(&config("net_null0"), CapabilitySet::empty()),
            Ok(())
        );
        assert_eq!(
            check_with(&config("net_tap0"), CapabilitySet::NET_ADMIN),
            Ok(())
        );
    }
}
