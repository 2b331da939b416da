//! The part about NPT66: two Linux hosts talk through Sextant, which translates their prefixes (RFC 6296).
//!
//! ```text
//!  namespace sextant-inside            namespace sextant-box              namespace sextant-outside
//!  fd01:203:405:1::10  ---- tap ----  inside  [NPT66]  outside  ---- tap ----  2001:db8:ffff::1
//!  fd00:1:2:3456::10                  MTU 1500         MTU 1400                2600:db8::1 (the Internet)
//! ```

mod checks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Check, Show};
use crate::lab::{Appliance, LabError, Namespace, wait_until};

/// The host inside.
pub const INSIDE_HOST: &str = "fd01:203:405:1::10";
/// The appliance, seen from inside.
pub const INSIDE_GATEWAY: &str = "fd01:203:405:1::1";
/// The same host under the second rule.
pub const SECOND_HOST: &str = "fd00:1:2:3456::10";
/// The host outside.
pub const OUTSIDE_HOST: &str = "2600:db8::1";
/// The appliance, seen from outside.
pub const UPLINK_ADDRESS: &str = "2001:db8:ffff::2";
/// What [`INSIDE_HOST`] is outside: fd01:203:405::/48 to 2001:db8:1::/48 adds 0xd54f to subnet 1 (RFC 6296 3.6).
pub const INSIDE_HOST_SEEN: &str = "2001:db8:1:d550::10";
/// MTU of the outgoing interface: smaller than the hosts believe.
pub const UPLINK_MTU: u16 = 1400;

/// The appliance's configuration, without `[system]`.
pub const CONFIG: &str = r#"[workers]
poll = "adaptive"

[[ports]]
name = "inside"
device = "net_tap0,iface=sx-inside,mac=02:00:00:00:01:01"

[[ports]]
name = "outside"
device = "net_tap1,iface=sx-outside,mac=02:00:00:00:01:02"

[[interfaces]]
port = "inside"
addresses = ["fd01:203:405:1::1/64", "fd00:1:2:3456::1/64"]

[[interfaces]]
port = "outside"
mtu = 1400
addresses = ["2001:db8:ffff::2/64"]

[[routes]]
prefix = "::/0"
next_hops = [{ via = "2001:db8:ffff::1", interface = "outside" }]

[[npt66]]
name = "provider-48"
interface = "outside"
inside = "fd01:203:405::/48"
outside = "2001:db8:1::/48"

[[npt66]]
name = "provider-56"
interface = "outside"
inside = "fd00:1:2:3400::/56"
outside = "2001:db8:2:ab00::/56"
"#;

/// The hosts and the appliance between them.
pub struct Stage {
    // Dropped in this order: the appliance first.
    /// Sextant.
    pub appliance: Appliance,
    /// The host inside.
    pub inside: Namespace,
    /// The router and host outside.
    pub outside: Namespace,
    /// `sextant` itself, which also plays the hosts' programs.
    pub program: PathBuf,
}

impl Stage {
    /// Set the stage with `program` (`sextant` itself).
    ///
    /// # Errors
    /// When something does not start.
    pub fn set(program: &Path) -> Result<Self, LabError> {
        let inside = Namespace::new("sextant-inside")?;
        let outside = Namespace::new("sextant-outside")?;
        let appliance = Appliance::start(program, "sextant-box", CONFIG)?;
        appliance.hand_over("sx-inside", &inside)?;
        appliance.hand_over("sx-outside", &outside)?;
        let host = format!("{INSIDE_HOST}/64");
        let second = format!("{SECOND_HOST}/64");
        inside.configure("sx-inside", &[&host], Some(INSIDE_GATEWAY))?;
        // Deprecated: used only when asked for.
        let deprecated = ["nodad", "preferred_lft", "0"];
        inside.run(
            &[
                &["ip", "-6", "addr", "add", &second, "dev", "sx-inside"],
                &deprecated[..],
            ]
            .concat(),
        )?;
        let internet = format!("{OUTSIDE_HOST}/128");
        outside.configure("sx-outside", &["2001:db8:ffff::1/64", &internet], None)?;
        // The host believes in 1500 bytes, so that its TCP peer does too, until it is told otherwise on the way.
        outside.run(&["ip", "link", "set", "sx-outside", "mtu", "1500"])?;
        for prefix in ["2001:db8:1::/48", "2001:db8:2:ab00::/56"] {
            outside.run(&["ip", "-6", "route", "add", prefix, "via", UPLINK_ADDRESS])?;
        }
        Ok(Self {
            appliance,
            inside,
            outside,
            program: program.to_owned(),
        })
    }
}

impl Show for Stage {
    const WHAT: &'static str = "NPT66: namespaces sextant-inside and sextant-outside, Sextant on two DPDK taps between them";
    const CHECKS: &'static [Check<Self>] = checks::ALL;

    fn set(program: &Path) -> Result<Self, LabError> {
        let stage = Self::set(program)?;
        let ready = || {
            stage
                .inside
                .run(&["ping", "-6", "-c1", "-W1", OUTSIDE_HOST])
                .is_ok()
        };
        wait_until(
            "the first ping to come back",
            Duration::from_secs(15),
            ready,
        )?;
        Ok(stage)
    }

    fn appliances(&self) -> Vec<&Appliance> {
        vec![&self.appliance]
    }

    fn to_explore(&self) -> Vec<String> {
        vec![
            "ip netns exec sextant-inside ping 2600:db8::1".to_owned(),
            "ip netns exec sextant-outside tcpdump -ni sx-outside".to_owned(),
        ]
    }

    fn subjects(&self) -> &'static [&'static str] {
        &["show npt66", "show neighbors", "show counters"]
    }
}
