//! How a table looks: a line of titles, then one line for each row, without borders, so that a person can read it and
//! `grep` and `awk` can cut it. Numbers stand at the right of their column.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Which side a column's text stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A table in the making.
pub(super) struct Grid {
    table: Table,
}

impl Grid {
    /// A table with these titles.
    pub(super) fn new(columns: &[(&str, Side)]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(columns.iter().map(|(title, _)| title.to_uppercase()));
        for (column, (_, side)) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            if *side == Side::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table }
    }

    /// Append a row; as many cells as there are titles.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    /// The table, each line without trailing blanks; `empty` where there is no row.
    pub(super) fn finish(self, empty: &str) -> String {
        if self.table.is_empty() {
            return format!("{empty}\n");
        }
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A count with its thousands apart: 1,234,567.
pub(super) fn count(value: impl TryInto<u64>) -> String {
    let Ok(value) = value.try_into() else {
        return "?".to_owned();
    };
    let digits = value.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Events a second between two values of a counter; `-` before there are two.
pub(super) fn rate(now: u64, earlier: Option<(u64, Duration)>) -> String {
    match earlier {
        Some((earlier, passed)) => count(per_second(now, earlier, passed)),
        None => "-".to_owned(),
    }
}

/// Bits a second between two values of a counter of bytes, with a unit.
pub(super) fn bit_rate(now: u64, earlier: Option<(u64, Duration)>) -> String {
    let Some((earlier, passed)) = earlier else {
        return "-".to_owned();
    };
    // `as`: shown with four digits.
    let bits = per_second(now, earlier, passed) as f64 * 8.0;
    let (value, unit) = match bits {
        bits if bits >= 1e9 => (bits / 1e9, "Gbit/s"),
        bits if bits >= 1e6 => (bits / 1e6, "Mbit/s"),
        bits if bits >= 1e3 => (bits / 1e3, "kbit/s"),
        bits => (bits, "bit/s"),
    };
    let digits = if value >= 100.0 || unit == "bit/s" {
        0
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

fn per_second(now: u64, earlier: u64, passed: Duration) -> u64 {
    // A counter that went back belongs to an instance that was started again.
    let difference = u128::from(now.saturating_sub(earlier));
    let rate = (difference * 1_000_000_000 + passed.as_nanos() / 2) / passed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Part of a whole, in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    // `as`: shown with three digits.
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// A time as a person says it: `1.2 s`, `3 min 20 s`, `5 h 12 min`, `3 d 4 h`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Text, or a dash.
pub(super) fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

/// Several texts in one cell.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let mut grid = Grid::new(&[
            ("name", Side::Left),
            ("packets", Side::Right),
            ("x", Side::Left),
        ]);
        grid.row(["wan".to_owned(), count(1_234_567_u64), "-".to_owned()]);
        grid.row(["inside".to_owned(), count(5_u64), "y".to_owned()]);
        assert_eq!(
            grid.finish("nothing"),
            "NAME      PACKETS  X\nwan     1,234,567  -\ninside          5  y\n"
        );
        assert_eq!(
            Grid::new(&[("name", Side::Left)]).finish("nothing"),
            "nothing\n"
        );
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn rates_are_per_second_whatever_the_interval() {
        let half = Duration::from_millis(500);
        assert_eq!(rate(150, None), "-");
        assert_eq!(rate(150, Some((100, half))), "100");
        assert_eq!(
            rate(50, Some((100, half))),
            "0",
            "the instance was restarted"
        );
        assert_eq!(bit_rate(1_000_000, Some((0, half))), "16.00 Mbit/s");
        assert_eq!(
            bit_rate(125, Some((0, Duration::from_secs(1)))),
            "1.00 kbit/s"
        );
        assert_eq!(bit_rate(1, Some((0, Duration::from_secs(1)))), "8 bit/s");
    }

    #[test]
    fn times_are_said_in_two_units() {
        assert_eq!(duration(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(duration(Duration::from_secs(18_720)), "5 h 12 min");
        assert_eq!(duration(Duration::from_secs(273_600)), "3 d 4 h");
    }
}
