//! The prefix pairs of one uplink, and which of them an address belongs to.
//!
//! Key: the first half of an address; value: the rule's number in [`crate::Tables`]. Up to eight rules are scanned
//! (one mask and compare each, all in two lines); more are found by a prefix table. Rules of one uplink never overlap.

use dataplane::table::lpm::Lpm6;
use ipnet::Ipv6Net;

use super::rule::{Direction, Rule};

/// From this many rules on a prefix table is quicker than a scan.
const SCAN_MAX: usize = 8;

/// Rules of one uplink, prepared for lookup in both directions.
pub struct RuleSet {
    out: Matcher,
    r#in: Matcher,
    /// Some of our own addresses lie in an outside prefix: the prefix is on the link.
    pub(crate) holds_own: bool,
}

enum Matcher {
    /// Mask, value, rule.
    Scan(Box<[(u64, u64, u16)]>),
    /// Leaf = rule + 1.
    Table(Box<Lpm6>),
}

impl RuleSet {
    /// The set of `(number, rule, inside, outside)`; `holds_own`: some own address lies in an outside prefix.
    #[must_use]
    pub fn new(rules: &[(u16, Rule, Ipv6Net, Ipv6Net)], holds_own: bool) -> Self {
        let matcher = |direction: Direction| {
            if rules.len() <= SCAN_MAX {
                let scan = rules.iter().map(|(number, rule, ..)| {
                    let (mask, value) = rule.selector(direction);
                    (mask, value, *number)
                });
                return Matcher::Scan(scan.collect());
            }
            let mut table = Lpm6::new();
            for (number, _, inside, outside) in rules {
                let prefix = match direction {
                    Direction::Out => inside,
                    Direction::In => outside,
                };
                table.insert(
                    prefix.network(),
                    prefix.prefix_len(),
                    u32::from(*number) + 1,
                );
            }
            Matcher::Table(Box::new(table))
        };
        Self {
            out: matcher(Direction::Out),
            r#in: matcher(Direction::In),
            holds_own,
        }
    }

    /// The number of the rule that covers an address with this first half.
    #[inline]
    #[must_use]
    pub fn find(&self, direction: Direction, prefix_half: u64) -> Option<u16> {
        let matcher = match direction {
            Direction::Out => &self.out,
            Direction::In => &self.r#in,
        };
        match matcher {
            Matcher::Scan(scan) => scan
                .iter()
                .find(|(mask, value, _)| prefix_half & mask == *value)
                .map(|(.., number)| *number),
            Matcher::Table(table) => {
                let leaf = table.lookup(&(u128::from(prefix_half) << 64).to_be_bytes());
                u16::try_from(leaf.checked_sub(1)?).ok()
            }
        }
    }
}
