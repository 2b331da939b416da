//! What a registered EID takes in the machine of a Map-Server: everything counted that this process holds.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use control::proto::lisp::mapserver::{Allowed, Machine, Rate, Settings, Site};
use control::proto::lisp::wire::auth::Secret;
use control::proto::lisp::{EidKey, InstanceId};

use super::messages::{self, PREFIX, RECORDS, SECRET};

/// Bytes of a page on the machines this is measured on.
const PAGE: u64 = 4096;

/// Register so many and look how much larger the process is.
///
/// # Errors
/// When not all of them are registered.
pub fn bytes_per_eid(eids: u32) -> Result<f64> {
    let secret = Secret::new(SECRET.as_bytes());
    let mut site = Site::new("all");
    site.keys = vec![(1, secret.clone())];
    let all = EidKey {
        instance: InstanceId::default(),
        eid: PREFIX.parse().context("a constant of this suite")?,
    };
    site.prefixes = vec![Allowed::new(all, true)];
    let settings = Settings {
        sites: vec![site],
        registers: Rate {
            per_second: 10_000_000,
            burst: 10_000_000,
        },
        ..Settings::default()
    };
    let now = Instant::now();
    let mut machine = Machine::new(now, settings, fastrand::Rng::with_seed(1));
    let (from, to) = ("127.77.0.2:4342".parse()?, "127.77.0.1:4342".parse()?);
    let before = resident()?;
    for (nonce, first) in (1..).zip((0..eids).step_by(RECORDS)) {
        let numbers = (first..eids).take(RECORDS);
        let bytes = messages::sealed(nonce, numbers, 0, &secret);
        machine.handle_input(now, from, to, &bytes);
        while machine.poll_output().is_some() {}
    }
    let bytes = resident()?.saturating_sub(before);
    let registered = machine.registrations();
    ensure!(
        u32::try_from(registered) == Ok(eids),
        "{registered} of {eids} EIDs are registered"
    );
    // `as`: far below 2^53.
    Ok(bytes as f64 / f64::from(eids))
}

/// Bytes of this process that are in memory.
///
/// # Errors
/// When the kernel does not say.
pub fn resident() -> Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages = statm.split(' ').nth(1).context("statm has two fields")?;
    Ok(pages.parse::<u64>()? * PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_eid_is_registered() {
        // How much that takes only a process can tell in which nothing else runs.
        assert!(bytes_per_eid(1000).is_ok());
    }
}
