//! The prefix pairs of one uplink, and which of them an address belongs to.
//!
//! Key: the first half of an address; value: the rule's number in [`crate::Tables`]. Up to eight rules are scanned
//! (one mask and compare each, all in two lines); of more, the last that begins at or before the address is the only
//! one that can cover it, since rules of one uplink never overlap.

use super::rule::{Direction, Rule};

/// From this many rules on halving is quicker than a scan.
const SCAN_MAX: usize = 8;

/// Rules of one uplink, prepared for lookup in both directions.
pub struct RuleSet {
    /// Mask, value, rule; in the order of their values.
    out: Box<[(u64, u64, u16)]>,
    r#in: Box<[(u64, u64, u16)]>,
    /// Some of our own addresses lie in an outside prefix: the prefix is on the link.
    pub(crate) holds_own: bool,
}

impl RuleSet {
    /// The set of `(number, rule)`; `holds_own`: some own address lies in an outside prefix.
    #[must_use]
    pub fn new(rules: &[(u16, Rule)], holds_own: bool) -> Self {
        let sorted = |direction: Direction| {
            let selectors = rules.iter().map(|(number, rule)| {
                let (mask, value) = rule.selector(direction);
                (mask, value, *number)
            });
            let mut selectors: Box<[_]> = selectors.collect();
            selectors.sort_unstable_by_key(|(_, value, _)| *value);
            selectors
        };
        Self {
            out: sorted(Direction::Out),
            r#in: sorted(Direction::In),
            holds_own,
        }
    }

    /// The only rule, if every address it covers is translated.
    #[must_use]
    pub(crate) fn only(&self) -> Option<u16> {
        match *self.out {
            [(.., number)] if !self.holds_own => Some(number),
            _ => None,
        }
    }

    /// The number of the rule that covers an address with this first half.
    #[inline]
    #[must_use]
    pub fn find(&self, direction: Direction, prefix_half: u64) -> Option<u16> {
        let selectors = match direction {
            Direction::Out => &self.out,
            Direction::In => &self.r#in,
        };
        let covers = |(mask, value, _): &&(u64, u64, u16)| prefix_half & mask == *value;
        let found = if selectors.len() <= SCAN_MAX {
            selectors.iter().find(covers)
        } else {
            let after = selectors.partition_point(|(_, value, _)| *value <= prefix_half);
            selectors[..after].last().filter(covers)
        };
        found.map(|(.., number)| *number)
    }
}
