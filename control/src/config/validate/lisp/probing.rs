//! How locators are probed: keys of one mode are of no use in another.

use std::time::Duration;

use crate::config::error::Sink;
use crate::config::file::LispTable;
use crate::config::lisp::{ProbeMode, Probing};
use crate::config::problem::Problem;
use crate::config::reader::Field;

const PERIOD_SECONDS: u32 = 30;
const FAST_PERIOD_MS: u32 = 100;
/// In either mode.
const MISSES: u32 = 3;

pub(super) fn probing(table: &LispTable, sink: &mut Sink<'_>) -> Probing {
    let mode = table.probing.value().copied().unwrap_or_default();
    if !table.probing.is_invalid() {
        let normal = ("probing = \"normal\"", ProbeMode::Normal);
        let fast = ("probing = \"fast\"", ProbeMode::Fast);
        for (found, field, (other, wanted)) in [
            ("probe_period", &table.probe_period, normal),
            ("probe_misses", &table.probe_misses, normal),
            ("fast_probe_period_ms", &table.fast_probe_period_ms, fast),
            ("fast_probe_misses", &table.fast_probe_misses, fast),
        ] {
            if let Field::Given(_, place) = field
                && mode != wanted
            {
                sink.push(place, Problem::Without { found, other });
            }
        }
    }
    let number = |field: &Field<u32>, default| field.value().copied().unwrap_or(default);
    let seconds = number(&table.probe_period, PERIOD_SECONDS);
    let milliseconds = number(&table.fast_probe_period_ms, FAST_PERIOD_MS);
    Probing {
        mode,
        period: Duration::from_secs(seconds.into()),
        misses: number(&table.probe_misses, MISSES),
        fast_period: Duration::from_millis(milliseconds.into()),
        fast_misses: number(&table.fast_probe_misses, MISSES),
    }
}
