//! The suite of prefix tables: ours beside DPDK's and those of Rust crates, on the real routing tables, in one process.
//!
//! Everything runs on one pinned thread of its own: a table, the traces over it and its contenders are made, every answer
//! is compared with an oracle's, and then they race in rounds ([`race`]). Updates come last, because they change tables.
//! A score is the median of 64 chunks of 16,384 lookups (of 16 for the crates, which are slow); a ratio is made of two
//! scores of one round.
//!
//! Cases are `lpm6/real/as/U`, that is family, table, profile of leaves and trace; of somebody else, its name follows.

pub mod cold;
pub mod contender;
pub mod courses;
pub mod crates;
pub mod families;
pub mod feed;
pub mod measure;
pub mod oracle;
pub mod ours;
pub mod peers;
pub mod prefix;
pub mod race;
pub mod traces;
pub mod updates;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use core_affinity::CoreId;

use crate::machine::Machine;
use crate::record::Record;
use families::Family;
use feed::{Feed, Profile};
use measure::Measurement;
use peers::Dpdk;
use race::Effort;

/// Name of the suite in records.
const SUITE: &str = "lpm";
/// Our table, a burst at a time: its cases have plain names.
const OURS: &str = "ours";
/// Our table, one address at a time.
const OURS_SINGLE: &str = "single";

/// The tables of record, in the folder of measured data.
pub(crate) const FEED6: &str = "fulltable-2026-06-19-v6.txt.gz";
const FEED4: &str = "fulltable-2026-06-19-v4.txt.gz";

/// What to measure and how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rounds of each case.
    pub rounds: usize,
    /// Fewer updates and cold bursts.
    pub quick: bool,
    /// Folder of the real tables.
    pub data: PathBuf,
    /// Build `rte_lpm` too, which takes minutes.
    pub rte_lpm: bool,
}

impl Options {
    /// Where the real tables are looked for: `shared/data` beside the project's folder.
    #[must_use]
    pub fn default_data() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data")
    }

    fn effort(&self, machine: &Machine) -> Effort {
        Effort {
            rounds: self.rounds,
            cold_bursts: if self.quick { 12 } else { 32 },
            tsc_hertz: machine.tsc_hertz,
        }
    }

    fn updates(&self) -> usize {
        if self.quick { 8_000 } else { 80_000 }
    }

    /// How long one script of updates may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(if self.quick { 4 } else { 20 })
    }
}

/// Measure everything; `say` is told what is going on, and what is left out.
pub fn run(
    options: &Options,
    machine: &Machine,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Record>> {
    let dpdk = Dpdk::start()
        .inspect_err(|error| say(&format!("SKIPPED every table of DPDK's: {error:#}")))
        .ok();
    if let Some(dpdk) = &dpdk {
        say(&format!("DPDK's tables: {}", dpdk.memory()));
    }
    // A thread of its own, so that the pinning ends with it and no child inherits it.
    std::thread::scope(|scope| {
        let measuring = scope.spawn(|| measure_all(options, machine, dpdk.as_ref(), say));
        measuring
            .join()
            .map_err(|_| anyhow!("the suite of prefix tables panicked"))?
    })
}

fn measure_all(
    options: &Options,
    machine: &Machine,
    dpdk: Option<&Dpdk>,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let last = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1;
    // Not being allowed to costs precision, nothing else.
    core_affinity::set_for_current(CoreId { id: last });
    let _registration = dpdk.map(Dpdk::register).transpose()?;
    let mut measurement = Measurement {
        effort: options.effort(machine),
        updates: options.updates(),
        patience: options.patience(),
        rte_lpm: options.rte_lpm,
        dpdk,
        say,
        records: Vec::new(),
    };
    let real6 = open::<u128>(&options.data.join(FEED6), say);
    if let Some(feed) = &real6 {
        both_profiles(&mut measurement, feed)?;
    }
    measurement.edge()?;
    measurement.sites()?;
    measurement.hosts()?;
    if let Some(feed) = &real6 {
        measurement.mixed(&feed.routes(Profile::Uniq))?;
    }
    if let Some(feed) = &open::<u32>(&options.data.join(FEED4), say) {
        both_profiles(&mut measurement, feed)?;
    }
    Ok(measurement.records)
}

fn both_profiles<A: Family>(measurement: &mut Measurement<'_>, feed: &Feed<A>) -> Result<()> {
    for profile in Profile::ALL {
        measurement.real(
            &format!("{}/real/{profile}", A::NAME),
            &feed.routes(profile),
        )?;
    }
    Ok(())
}

/// A real table, and its provenance said; loudly nothing when it is not there.
fn open<A: Family>(file: &Path, say: &dyn Fn(&str)) -> Option<Feed<A>> {
    match Feed::read(file) {
        Ok(feed) => {
            say(&format!("{}: {feed}", A::NAME));
            Some(feed)
        }
        Err(error) => {
            say(&format!(
                "SKIPPED the real {} table, and every goal on it: {error:#} (--data FOLDER says where it is)",
                A::NAME
            ));
            None
        }
    }
}
