//! The readable table.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::machine::Machine;
use crate::record::Record;
use crate::targets::{Bound, TARGETS, VPP_GRAPH_CLOCKS, target_of};

/// Columns that hold text; the others hold figures and stand to the right.
const TEXT_COLUMNS: usize = 2;

/// Everything that was found, one line a figure, and below it each goal that was measured.
#[must_use]
pub fn table(records: &[Record], machine: &Machine) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "case", "metric", "min", "median", "max", "rounds", "goal", "VPP",
    ]);
    let mut case = "";
    for record in records {
        let shown = if record.case == case {
            ""
        } else {
            &record.case
        };
        case = &record.case;
        let row = [
            shown.to_owned(),
            record.metric.to_string(),
            figure(record.min),
            figure(record.median),
            figure(record.max),
            record.rounds.to_string(),
            target_of(record).map_or_else(String::new, |bound| verdict(bound, record.median)),
            vpp(record).map_or_else(String::new, figure),
        ];
        table.add_row(row.into_iter().enumerate().map(|(column, text)| {
            let alignment = if column < TEXT_COLUMNS {
                CellAlignment::Left
            } else {
                CellAlignment::Right
            };
            Cell::new(text).set_alignment(alignment)
        }));
    }
    format!("{machine}\n{table}\n{}", summary(records))
}

/// How many of the goals that were measured are met.
fn summary(records: &[Record]) -> String {
    let measured: Vec<bool> = records
        .iter()
        .filter_map(|record| Some(target_of(record)?.is_met_by(record.median)))
        .collect();
    let met = measured.iter().filter(|met| **met).count();
    format!(
        "{met} of {} goals met ({} in all)",
        measured.len(),
        TARGETS.len()
    )
}

fn verdict(bound: Bound, median: f64) -> String {
    let relation = match bound {
        Bound::AtLeast(_) => "≥",
        Bound::AtMost(_) => "≤",
    };
    let word = if bound.is_met_by(median) {
        "met"
    } else {
        "MISSED"
    };
    format!("{relation} {}: {word}", bound.figure())
}

fn vpp(record: &Record) -> Option<f64> {
    use crate::record::Metric;
    VPP_GRAPH_CLOCKS
        .iter()
        .find(|(case, _)| *case == record.case && record.metric == Metric::GraphClkPerPacket)
        .map(|(_, clocks)| *clocks)
}

/// Three significant digits are what these measurements can tell.
fn figure(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Metric;

    #[test]
    fn a_missed_goal_is_said_in_the_table() {
        let records = [
            Record::of(
                "npt66",
                "npt66-out/64B/1k",
                Metric::RatioToTestpmdMacswap,
                &[0.71, 0.69, 0.73],
            ),
            Record::of(
                "graph",
                "forward/64B/64k",
                Metric::GraphClkPerPacket,
                &[70.0],
            ),
        ];
        let text = table(&records, &Machine::look());
        assert!(text.contains("≥ 0.7: met"), "{text}");
        assert!(text.contains("≤ 65: MISSED"), "{text}");
        assert!(text.contains("1 of 2 goals met"), "{text}");
    }
}
