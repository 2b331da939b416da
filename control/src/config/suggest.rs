//! The word that was probably meant.

/// The candidate closest to `found`, if it is close enough to be a slip of the fingers: at most a third of its letters
/// differ, and letters swapped with their neighbour count once.
pub(super) fn nearest<'a>(found: &str, candidates: &'a [String]) -> Option<&'a str> {
    let found = found.to_lowercase();
    let limit = (found.chars().count() / 3).max(1);
    let scored = candidates
        .iter()
        .map(|name| (distance(&found, &name.to_lowercase()), name.as_str()));
    let (best, name) = scored.min_by_key(|(distance, _)| *distance)?;
    (best <= limit).then_some(name)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let substituted = if a == b {
                last[column]
            } else {
                last[column] + 1
            };
            let mut cost = substituted
                .min(last[column + 1] + 1)
                .min(current[column] + 1);
            let swapped = row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b;
            if swapped {
                cost = cost.min(before[column - 1] + 1);
            }
            current.push(cost);
        }
        before = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn distance_counts_each_slip_once() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "mtu", 3),
            ("mtu", "mtu", 0),
            ("mut", "mtu", 1),
            ("devcie", "device", 1),
            ("port", "ports", 1),
            ("rx_queue", "tx_queues", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let keys = names(&["name", "device", "rx_queues", "tx_queues"]);
        assert_eq!(nearest("devcie", &keys), Some("device"));
        assert_eq!(nearest("RX_queues", &keys), Some("rx_queues"));
        assert_eq!(nearest("rxqueues", &keys), Some("rx_queues"));
        assert_eq!(nearest("promiscuous", &keys), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
