//! The process that is measured.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::messages::{PREFIX, SECRET};
use crate::appliance::Sextant;
use crate::children::Dialogue;
use crate::setup::Workspace;

/// Own addresses: of the loopback, and of nobody else's test.
pub const ADDRESS_V4: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
/// The same of IPv6.
pub const ADDRESS_V6: Ipv6Addr = Ipv6Addr::LOCALHOST;
/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(10);

/// A running `sextant mapserver`; gone when dropped.
pub struct Server {
    dialogue: Dialogue,
    // Its folder goes after it does.
    _workspace: Workspace,
}

impl Server {
    /// Start it on the core of this thread.
    pub fn start(sextant: &Sextant) -> Result<Self> {
        let workspace = Workspace::new()?;
        let path = workspace.file("mapserver.toml");
        let text = configuration(&workspace.file("nonces").display().to_string());
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = Command::new(sextant.program());
        command.args(["mapserver", "-c"]).arg(&path);
        command.env_remove("SEXTANT_LOG");
        let mut dialogue = Dialogue::start("sextant mapserver", &mut command)?;
        dialogue.listen(START, |line| line.contains("ready: ").then_some(()))?;
        Ok(Self {
            dialogue,
            _workspace: workspace,
        })
    }

    /// Its address of the family of `other`.
    #[must_use]
    pub fn address(other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => ADDRESS_V4.into(),
            IpAddr::V6(_) => ADDRESS_V6.into(),
        }
    }

    /// How long its first thread, which does everything but wait for the disk, has run.
    pub fn busy(&self) -> Result<Duration> {
        let path = format!("/proc/{}/schedstat", self.dialogue.process().as_raw_pid());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let nanoseconds = text.split(' ').next().unwrap_or_default();
        let nanoseconds = nanoseconds
            .trim()
            .parse()
            .with_context(|| format!("{path} begins with no number"))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// One site that may register anything; nobody is too fast.
fn configuration(state: &str) -> String {
    let fast = "{ per_second = 10_000_000, burst = 10_000_000 }";
    format!(
        r#"
[mapserver]
listen = ["{ADDRESS_V4}", "{ADDRESS_V6}"]
state = {state:?}
registration_timeout = 86_400
requests = {fast}
registers = {fast}
replies = {fast}

[[sites]]
name = "all"
keys = [{{ id = 1, secret = {SECRET:?} }}]
prefixes = [{{ eid = "{PREFIX}", more_specifics = true }}]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_accepted() {
        let text = configuration("/tmp/nonces");
        let parsed = control::config::mapserver::parse("mapserver.toml", &text);
        let parsed = parsed.expect("nothing is wrong with it");
        assert_eq!(parsed.listen, [IpAddr::from(ADDRESS_V4), ADDRESS_V6.into()]);
        assert_eq!(parsed.settings.sites.len(), 1);
    }
}
