//! Counters of NPT66 rules by name. Workers count by the rule's position; after a reload a position may belong to another
//! rule, and what was counted before must stay with its name.
//!
//! Packets that a worker translates by the old tables in the moment of the change are counted for the new owner of the
//! position: at most one batch for each worker.

use std::collections::BTreeMap;

use crate::admin::view::RuleCounters;
use crate::config::Config;

/// Which name each position has, and what it had counted when it got it.
#[derive(Debug, Default)]
pub(super) struct RuleBook {
    names: Vec<String>,
    /// By position: the workers' sum when the position got its name.
    base: Vec<RuleCounters>,
    /// By name: what it had counted at other positions.
    carried: BTreeMap<String, RuleCounters>,
}

impl RuleBook {
    /// The rules are now those of `config`; `sums` are the workers' sums by position.
    pub(super) fn rename(&mut self, config: &Config, sums: &[RuleCounters]) {
        let names: Vec<String> = config.npt66.iter().map(|rule| rule.name.clone()).collect();
        if names == self.names {
            return;
        }
        let mut carried: BTreeMap<String, RuleCounters> = self
            .counters(sums)
            .into_iter()
            .map(|counters| (counters.name.clone(), counters))
            .collect();
        carried.retain(|name, _| names.contains(name));
        self.carried = carried;
        self.base = (0..names.len())
            .map(|position| at(sums, position))
            .collect();
        self.names = names;
    }

    /// What each rule has counted; `sums` are the workers' sums by position.
    pub(super) fn counters(&self, sums: &[RuleCounters]) -> Vec<RuleCounters> {
        let rules = self.names.iter().zip(&self.base).enumerate();
        let counters = rules.map(|(position, (name, base))| {
            let sum = at(sums, position);
            let carried = self.carried.get(name).cloned().unwrap_or_default();
            RuleCounters {
                name: name.clone(),
                out_packets: carried.out_packets + sum.out_packets.saturating_sub(base.out_packets),
                out_bytes: carried.out_bytes + sum.out_bytes.saturating_sub(base.out_bytes),
                in_packets: carried.in_packets + sum.in_packets.saturating_sub(base.in_packets),
                in_bytes: carried.in_bytes + sum.in_bytes.saturating_sub(base.in_bytes),
            }
        });
        counters.collect()
    }
}

fn at(sums: &[RuleCounters], position: usize) -> RuleCounters {
    sums.get(position).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, parse_for};

    fn config(rules: &[&str]) -> Config {
        let mut text = String::from(
            "[[ports]]\nname = \"p\"\ndevice = \"net_null0\"\n[[interfaces]]\nport = \"p\"\n",
        );
        for rule in rules {
            // Each name stands for prefixes of its own.
            let number = rule.as_bytes()[0];
            text.push_str(&format!(
                "[[npt66]]\nname = \"{rule}\"\ninterface = \"p\"\ninside = \"fd00:{number:x}::/48\"\noutside = \"2001:db8:{number:x}::/48\"\n"
            ));
        }
        parse_for("test.toml", &text, &Host::new(vec![0])).unwrap()
    }

    fn sums(out_packets: &[u64]) -> Vec<RuleCounters> {
        let rules = out_packets.iter().map(|out_packets| RuleCounters {
            out_packets: *out_packets,
            ..RuleCounters::default()
        });
        rules.collect()
    }

    fn shown(book: &RuleBook, out_packets: &[u64]) -> Vec<(String, u64)> {
        let counters = book.counters(&sums(out_packets));
        counters
            .into_iter()
            .map(|rule| (rule.name, rule.out_packets))
            .collect()
    }

    fn named(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn counts_stay_with_their_rule_when_positions_move() {
        let mut book = RuleBook::default();
        book.rename(&config(&["a", "b"]), &[]);
        assert_eq!(shown(&book, &[10, 20]), named(&[("a", 10), ("b", 20)]));
        // c comes in front: positions 0, 1, 2 are now c, a, b.
        book.rename(&config(&["c", "a", "b"]), &sums(&[10, 20]));
        assert_eq!(
            shown(&book, &[10, 20, 0]),
            named(&[("c", 0), ("a", 10), ("b", 20)])
        );
        assert_eq!(
            shown(&book, &[11, 22, 3]),
            named(&[("c", 1), ("a", 12), ("b", 23)])
        );
        // The same rules again change nothing.
        book.rename(&config(&["c", "a", "b"]), &sums(&[11, 22, 3]));
        assert_eq!(
            shown(&book, &[11, 22, 3]),
            named(&[("c", 1), ("a", 12), ("b", 23)])
        );
        // a goes and comes back as a new rule.
        book.rename(&config(&["b"]), &sums(&[11, 22, 3]));
        book.rename(&config(&["b", "a"]), &sums(&[15, 22, 3]));
        assert_eq!(shown(&book, &[15, 22, 3]), named(&[("b", 27), ("a", 0)]));
    }
}
