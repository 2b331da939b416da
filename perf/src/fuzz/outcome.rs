//! What became of all frames, and its histogram.

use std::fmt;

use dataplane::counters::WorkerCounters;
use dataplane::reason::{DropReason, PuntReason};

/// Columns of the longest bar.
const BAR: usize = 40;

/// What became of all frames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Frames that came in.
    pub received: u64,
    /// Frames from the control thread: punted ones handed back, and its own.
    pub handed_back: u64,
    /// ICMP errors made, and pieces of fragmented packets but for the first of each.
    pub generated: u64,
    /// Frames sent.
    pub sent: u64,
    /// ICMP errors that the rate forbade.
    pub limited: u64,
    /// Frames dropped, by reason.
    pub dropped: Vec<(DropReason, u64)>,
    /// Frames punted, by reason.
    pub punted: Vec<(PuntReason, u64)>,
}

/// Sums at one moment.
#[derive(Clone, Copy)]
pub(super) struct Totals {
    pub(super) generated: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
    pub(super) punted: u64,
}

impl Totals {
    pub(super) fn of(counters: &WorkerCounters) -> Self {
        Self {
            generated: counters.generated.read(),
            sent: counters
                .ports
                .iter()
                .map(|port| port.tx.packets.read())
                .sum(),
            dropped: DropReason::ALL
                .iter()
                .map(|reason| counters.dropped(*reason))
                .sum(),
            punted: PuntReason::ALL
                .iter()
                .map(|reason| counters.punted(*reason))
                .sum(),
        }
    }
}

impl Outcome {
    pub(super) fn of(counters: &WorkerCounters, received: u64, handed_back: u64) -> Self {
        Self {
            received,
            handed_back,
            generated: counters.generated.read(),
            sent: Totals::of(counters).sent,
            limited: counters.errors_limited.read(),
            dropped: DropReason::ALL
                .iter()
                .map(|reason| (*reason, counters.dropped(*reason)))
                .collect(),
            punted: PuntReason::ALL
                .iter()
                .map(|reason| (*reason, counters.punted(*reason)))
                .collect(),
        }
    }

    /// Add another thread's frames.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.handed_back += other.handed_back;
        self.generated += other.generated;
        self.sent += other.sent;
        self.limited += other.limited;
        add_counts(&mut self.dropped, &other.dropped);
        add_counts(&mut self.punted, &other.punted);
    }

    /// Whether every frame went to exactly one place.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let dropped: u64 = self.dropped.iter().map(|(_, count)| count).sum();
        let punted: u64 = self.punted.iter().map(|(_, count)| count).sum();
        self.received + self.handed_back + self.generated == self.sent + dropped + punted
    }
}

fn add_counts<R: Copy + PartialEq>(counts: &mut Vec<(R, u64)>, more: &[(R, u64)]) {
    for (reason, count) in more {
        match counts.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sum)) => *sum += count,
            None => counts.push((*reason, *count)),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self
            .dropped
            .iter()
            .map(|(reason, count)| (format!("drop {}", reason.info().name), *count));
        let punted = self
            .punted
            .iter()
            .map(|(reason, count)| (format!("punt {}", reason.info().name), *count));
        let mut lines: Vec<(String, u64)> = [("sent".to_owned(), self.sent)]
            .into_iter()
            .chain(punted)
            .chain(dropped)
            .collect();
        lines[1..].sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let most = lines
            .iter()
            .map(|(_, count)| *count)
            .max()
            .unwrap_or(0)
            .max(1);
        writeln!(
            f,
            "in {} + from control {} + errors and fragments made {} (and {} errors over their rate)",
            self.received, self.handed_back, self.generated, self.limited
        )?;
        for (name, count) in &lines {
            // `as`: a bar needs no precision, and is at most BAR columns.
            let bar = "#".repeat((*count as f64 / most as f64 * BAR as f64).ceil() as usize);
            writeln!(f, "{name:<34} {count:>12} {bar}")?;
        }
        let verdict = if self.is_balanced() {
            "in = out"
        } else {
            "IN IS NOT OUT"
        };
        write!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_frame_is_noticed() {
        let mut outcome = Outcome {
            received: 5,
            generated: 1,
            sent: 3,
            dropped: vec![(DropReason::HopLimit, 2)],
            punted: vec![(PuntReason::Echo, 1)],
            ..Outcome::default()
        };
        assert!(outcome.is_balanced());
        outcome.add(&outcome.clone());
        assert!(outcome.is_balanced());
        assert_eq!((outcome.received, outcome.dropped[0].1), (10, 4));
        outcome.received += 1;
        assert!(!outcome.is_balanced());
        assert!(outcome.to_string().contains("IN IS NOT OUT"));
    }
}
