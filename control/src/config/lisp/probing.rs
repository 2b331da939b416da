//! How locators of mappings are probed (RFC 9301 7.1).

use std::time::Duration;

use serde::Serialize;

use crate::config::model::{Rate, as_milliseconds, as_seconds};
use crate::proto::lisp::xtr::ProbeSchedule;

/// The shortest wait for an answer where there is no hurry.
const WAIT: Duration = Duration::from_millis(500);

/// The keys of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Probing {
    /// `probing`. Default `normal`: without probes, what goes to a site whose provider failed is lost until somebody
    /// notices; two packets for each locator and 30 s are a small price.
    #[serde(rename = "probing")]
    pub mode: Mode,
    /// `probe_period`: between two probes of a locator that answers, 10 to 3,600 s. Default 30.
    #[serde(rename = "probe_period", serialize_with = "as_seconds")]
    pub period: Duration,
    /// `probe_misses`: probes without an answer, one after the other, after which it is down, 1 to 10. Default 3.
    #[serde(rename = "probe_misses")]
    pub misses: u32,
    /// `fast_probe_period_ms`: the same in fast mode, 100 to 5,000 ms. Default 100.
    #[serde(rename = "fast_probe_period_ms", serialize_with = "as_milliseconds")]
    pub fast_period: Duration,
    /// `fast_probe_misses`: the same in fast mode, 2 to 10. Default 3.
    #[serde(rename = "fast_probe_misses")]
    pub fast_misses: u32,
}

/// Whether, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Not.
    Off,
    /// Now and then; a locator that fails is found out within a period and a few seconds.
    #[default]
    Normal,
    /// So often that it is found out in less than a second.
    Fast,
}

impl Probing {
    /// What the machine is to do where the control thread takes so many control messages.
    #[must_use]
    pub fn schedule(&self, answers: Rate) -> Option<ProbeSchedule> {
        // The other half is for everything else.
        let per_second = (answers.per_second / 2).max(1);
        match self.mode {
            Mode::Off => None,
            Mode::Normal => Some(ProbeSchedule {
                period: self.period,
                misses: self.misses,
                least_wait: WAIT,
                per_second,
            }),
            // A miss brings the next probe forward, so that three of them take one period and three halves.
            Mode::Fast => Some(ProbeSchedule {
                period: self.fast_period,
                misses: self.fast_misses,
                least_wait: self.fast_period / 2,
                per_second,
            }),
        }
    }
}
