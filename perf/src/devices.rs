//! The cases of NPT66 and of forwarding on devices, some of them beside Linux too.

use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::appliance::{Forwarded, SINK, SOURCE, head};
use crate::beside;
use crate::cases::{Flows, Point, Sizes, Way};
use crate::internet::Internet;
use crate::network as net;
use crate::setup::Setup;
use crate::traffic::{self, Direction};

/// Linux takes part where there is a goal beside it.
const BESIDE_LINUX: Point = Point {
    sizes: Sizes::Small,
    flows: Flows::Thousand,
};

/// A case on devices. Its [`Display`](fmt::Display) is `npt66-out/64B/1k`, the last being flows.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The way packets go.
    pub way: Way,
    /// The traffic.
    pub point: Point,
    /// The table of [`Way::ForwardFullTable`], which is no case without.
    pub internet: Option<&'a Internet>,
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.way, self.point)
    }
}

impl beside::Case for Case<'_> {
    fn suite(&self) -> &'static str {
        self.way.suite()
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        match (self.way, self.internet) {
            (Way::ForwardFullTable, Some(internet)) => internet.frames(self.point),
            (Way::Npt66In, _) => traffic::frames(Direction::In, self.point),
            _ => traffic::frames(Direction::Out, self.point),
        }
    }

    fn overhead(&self) -> isize {
        0
    }

    fn configuration(&self, setup: &Setup, socket: &Path) -> String {
        let mut text = configuration(self.way, setup, socket);
        if let (Way::ForwardFullTable, Some(internet)) = (self.way, self.internet) {
            text += &internet.configuration(SINK);
        }
        text
    }

    fn check(&self, forwarded: &Forwarded) -> Result<()> {
        all_translated(self.way, forwarded)
    }

    fn beside_linux(&self) -> Option<Point> {
        (self.way.translates() && self.point == BESIDE_LINUX).then_some(self.point)
    }
}

/// Every packet was translated where `way` says so, and none where not.
fn all_translated(way: Way, forwarded: &Forwarded) -> Result<()> {
    let Forwarded {
        sent, translated, ..
    } = *forwarded;
    // The two counters are read while packets go on: a few bursts may be in one and not yet in the other.
    let slack = sent / 100;
    let expected = if way.translates() { sent } else { 0 };
    ensure!(
        translated.abs_diff(expected) <= slack,
        "{translated} packets translated of {sent} sent"
    );
    Ok(())
}

fn configuration(way: Way, setup: &Setup, socket: &Path) -> String {
    let (inside, outside) = match way {
        Way::Forward | Way::ForwardFullTable | Way::Npt66Out => (SOURCE, SINK),
        Way::Npt66In => (SINK, SOURCE),
    };
    let rule = match way {
        Way::Forward | Way::ForwardFullTable => String::new(),
        Way::Npt66Out | Way::Npt66In => format!(
            r#"
[[npt66]]
name = "measured"
interface = "{outside}"
inside = "{}"
outside = "{}"
"#,
            net::INSIDE_PREFIX,
            net::OUTSIDE_PREFIX
        ),
    };
    format!(
        r#"{head}[[interfaces]]
name = "{inside}"
port = "{inside}"
addresses = ["{inside_address}"]
[[interfaces]]
name = "{outside}"
port = "{outside}"
addresses = ["{outside_address}"]
[[routes]]
prefix = "::/0"
next_hops = [ {{ via = "{outside_router}", interface = "{outside}" }} ]
[[routes]]
prefix = "{inside_prefix}"
next_hops = [ {{ via = "{inside_router}", interface = "{inside}" }} ]
[[neighbors]]
interface = "{inside}"
address = "{inside_router}"
mac = "{inside_router_mac}"
[[neighbors]]
interface = "{outside}"
address = "{outside_router}"
mac = "{outside_router_mac}"
{rule}"#,
        head = head(setup, socket),
        inside_address = net::INSIDE_ADDRESS,
        outside_address = net::OUTSIDE_ADDRESS,
        outside_router = net::OUTSIDE_ROUTER,
        inside_prefix = net::INSIDE_PREFIX,
        inside_router = net::INSIDE_ROUTER,
        inside_router_mac = net::INSIDE_ROUTER_MAC,
        outside_router_mac = net::OUTSIDE_ROUTER_MAC,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beside::Case as _;

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
        for way in Way::ALL {
            let case = Case {
                way,
                point: BESIDE_LINUX,
                internet: None,
            };
            let text = case.configuration(&setup, Path::new("/run/perf.sock"));
            let config = control::config::parse("perf.toml", &text).expect("it is valid");
            assert_eq!(config.npt66.len(), usize::from(way.translates()));
            assert_eq!(case.beside_linux().is_some(), way.translates());
        }
    }
}
