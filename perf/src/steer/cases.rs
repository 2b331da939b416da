//! The cases on devices: how packets reach servers, and how many flows.

use std::fmt::{self, Write as _};
use std::path::Path;

use super::{MODES, Mode, SERVERS, SERVICE, remembered, server, server_mac};
use crate::appliance::{SINK, SOURCE, head};
use crate::beside;
use crate::cases::{Flows, Point, Sizes};
use crate::lisp::OUTSIDE_ADDRESS4;
use crate::network as net;
use crate::setup::Setup;
use crate::traffic;

/// A case on devices. Its [`Display`](fmt::Display) is `steer-dsr-l2/64B/1k`, the last being flows; that of the graph alone
/// has the same name, and other figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// How packets reach servers.
    pub mode: &'static Mode,
    /// How many flows.
    pub flows: Flows,
}

impl Case {
    /// Each mode with 1,024 flows, the first with more of them too.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let [first, ..] = &MODES;
        let of = |mode, flows| Self { mode, flows };
        let usual = MODES.iter().map(|mode| of(mode, Flows::Thousand));
        let many = [Flows::SixtyFourThousand, Flows::Million];
        usual.chain(many.map(|flows| of(first, flows))).collect()
    }

    /// Those with a goal.
    #[must_use]
    pub fn quick() -> Vec<Self> {
        let with_goal = |case: &Self| {
            let name = case.mode.name;
            match case.flows {
                Flows::Thousand => ["steer-dsr-l2", "steer-dnat", "steer-fullnat"].contains(&name),
                flows => flows == Flows::Million,
            }
        };
        Self::all().into_iter().filter(with_goal).collect()
    }

    fn point(self) -> Point {
        Point {
            sizes: Sizes::Small,
            flows: self.flows,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mode.name, self.point())
    }
}

impl beside::Case for Case {
    fn suite(&self) -> &'static str {
        super::SUITE
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        traffic::frames_to(self.point(), |_| SERVICE)
    }

    fn overhead(&self) -> isize {
        self.mode.overhead.cast_signed()
    }

    fn configuration(&self, setup: &Setup, socket: &Path) -> String {
        let mut text = format!(
            r#"{head}[[interfaces]]
name = "{SOURCE}"
port = "{SOURCE}"
addresses = ["{inside}"]
[[interfaces]]
name = "{SINK}"
port = "{SINK}"
addresses = ["{outside}", "{OUTSIDE_ADDRESS4}"]
[steering]
flows = {flows}
[[services]]
name = "web"
prefix = "{SERVICE}/128"
protocol = "udp"
pool = "web"
[[pools]]
name = "web"
{mode}
"#,
            head = head(setup, socket),
            inside = net::INSIDE_ADDRESS,
            outside = net::OUTSIDE_ADDRESS,
            flows = remembered(self.flows.count()),
            mode = self.mode.lines,
        );
        text += "servers = [";
        for number in 0..SERVERS {
            let _ = write!(
                text,
                " {{ address = \"{}\" }},",
                server(self.mode.spec, number)
            );
        }
        text += " ]\n";
        for number in 0..SERVERS {
            let mac = server_mac(number)
                .map(|byte| format!("{byte:02x}"))
                .join(":");
            let _ = writeln!(
                text,
                "[[neighbors]]\ninterface = \"{SINK}\"\naddress = \"{}\"\nmac = \"{mac}\"",
                server(self.mode.spec, number)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beside::Case as _;

    #[test]
    fn a_case_is_named_mode_sizes_flows() {
        let names: Vec<String> = Case::all().iter().map(Case::to_string).collect();
        for name in [
            "steer-dsr-l2/64B/1k",
            "steer-dsr-l2/64B/64k",
            "steer-dsr-l2/64B/1M",
            "steer-dsr-ip6ip6/64B/1k",
        ] {
            assert!(names.contains(&name.to_owned()), "{name}");
        }
        let quick = Case::quick();
        assert!(quick.iter().all(|case| Case::all().contains(case)));
    }

    #[test]
    fn every_configuration_is_a_valid_one() {
        let setup = Setup {
            source: "net_null1".to_owned(),
            sink: "net_null0".to_owned(),
            mbufs: 16_384,
            burst: 32,
            control_core: 0,
            worker_core: 1,
        };
        for case in Case::all() {
            let text = case.configuration(&setup, Path::new("/run/perf.sock"));
            let config = control::config::parse("perf.toml", &text).expect("it is valid");
            assert_eq!(config.steering.pools[0].servers.len(), usize::from(SERVERS));
        }
    }
}
