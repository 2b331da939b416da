//! How the flows of an EID prefix are shared among its locators: a table of buckets (C-03 to C-06).
//!
//! The usable locators of the best priority share by weight. Each bucket belongs to a locator of that priority, usable
//! or not, in numbers that follow the weights as closely as 64 buckets can; the buckets of one that cannot be used go to
//! the others, each bucket by a ranking of its own. So what a locator's loss moves is its own flows, and its return
//! brings them back.

use arrayvec::ArrayVec;

use super::spec::{LOCATORS_MAX, NEVER};
use super::table::BUCKETS;

/// A locator of the set, by its slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) priority: u8,
    pub(super) weight: u8,
    /// What ranks it, the same in every box.
    pub(super) identity: u64,
    pub(super) is_usable: bool,
}

/// The slot of each bucket, or `None` when nothing is usable.
pub(super) fn fill(shares: &[Share]) -> Option<[u8; BUCKETS]> {
    let usable = shares.iter().filter(|share| share.is_usable);
    let best = usable.map(|share| share.priority).min()?;
    if best == NEVER {
        return None;
    }
    let group: ArrayVec<(u8, Share), LOCATORS_MAX> = (0..)
        .zip(shares)
        .filter(|(_, share)| share.priority == best)
        .map(|(slot, share)| (slot, *share))
        .take(LOCATORS_MAX)
        .collect();
    // All weights 0: we choose, and choose equal shares.
    let is_equal = group.iter().all(|(_, share)| share.weight == 0);
    let weight = |share: &Share| if is_equal { 1 } else { u32::from(share.weight) };
    let mut buckets = [0; BUCKETS];
    let mut start = 0;
    for ((slot, _), count) in group.iter().zip(quotas(&group, weight)) {
        buckets[start..start + count].fill(*slot);
        start += count;
    }
    let is_usable = |slot: u8| {
        shares
            .get(usize::from(slot))
            .is_some_and(|share| share.is_usable)
    };
    // Of weight 0 beside others that have some, and these are all unusable: better than nothing.
    let has_weight = group
        .iter()
        .any(|(_, share)| share.is_usable && weight(share) > 0);
    for (bucket, slot) in (0..).zip(&mut buckets) {
        if !is_usable(*slot) {
            let heirs = group.iter().filter(|(_, share)| share.is_usable);
            let rank = |share: &Share| {
                let weight = if has_weight { weight(share) } else { 1 };
                rank(share.identity, bucket, weight)
            };
            let heir = heirs.max_by(|(_, a), (_, b)| rank(a).total_cmp(&rank(b)));
            *slot = heir.map_or(0, |(slot, _)| *slot);
        }
    }
    Some(buckets)
}

/// How many buckets each of the group has, by largest remainder; earlier ones first where remainders are equal.
fn quotas(group: &[(u8, Share)], weight: impl Fn(&Share) -> u32) -> ArrayVec<usize, LOCATORS_MAX> {
    let total: u32 = group.iter().map(|(_, share)| weight(share)).sum();
    let parts = group
        .iter()
        .map(|(_, share)| weight(share) * BUCKETS as u32); // `as`: 64
    let mut counts: ArrayVec<usize, LOCATORS_MAX> =
        parts.clone().map(|part| (part / total) as usize).collect(); // `as`: at most 64
    let remainders: ArrayVec<u32, LOCATORS_MAX> = parts.map(|part| part % total).collect();
    let missing = BUCKETS - counts.iter().sum::<usize>();
    let mut order: ArrayVec<usize, LOCATORS_MAX> = (0..group.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(remainders[*index]));
    for index in order.into_iter().take(missing) {
        counts[index] += 1;
    }
    counts
}

/// Weighted rendezvous: the heir is who ranks highest, and who ranks highest does not depend on who else is there.
fn rank(identity: u64, bucket: u64, weight: u32) -> f64 {
    let mixed = super::flow::mix(identity ^ (bucket + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // 53 bits: a number between 0 and 1, both excluded.
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64; // `as`: exact
    f64::from(weight) / -uniform.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(weights: &[u8]) -> Vec<Share> {
        let share = |(index, weight): (u64, &u8)| Share {
            priority: 1,
            weight: *weight,
            identity: super::super::flow::mix(index + 77),
            is_usable: true,
        };
        (0..).zip(weights).map(share).collect()
    }

    fn counts(shares: &[Share]) -> Vec<usize> {
        let buckets = fill(shares).expect("one is usable");
        let count = |slot| buckets.iter().filter(|b| usize::from(**b) == slot).count();
        (0..shares.len()).map(count).collect()
    }

    /// C-04: 30/20/20/10 gives 37.5, 25, 25 and 12.5 %; all equal and all 0 give equal shares.
    #[test]
    fn weights_are_shares() {
        assert_eq!(counts(&shares(&[30, 20, 20, 10])), [24, 16, 16, 8]);
        assert_eq!(counts(&shares(&[70, 30])), [45, 19]);
        for weight in [0, 1, 100] {
            assert_eq!(counts(&shares(&[weight; 4])), [16; 4]);
        }
        assert_eq!(counts(&shares(&[1, 0])), [64, 0]);
    }

    /// C-03: the lowest priority alone, and 255 never.
    #[test]
    fn the_best_priority_is_used_and_255_never() {
        let mut shares = shares(&[1, 1, 1]);
        shares[0].priority = 2;
        assert_eq!(counts(&shares), [0, 32, 32]);
        for share in &mut shares {
            share.priority = NEVER;
        }
        assert_eq!(fill(&shares), None);
    }

    /// C-06: a backup carries packets only when every locator of the better priority is unusable.
    #[test]
    fn a_backup_waits_for_all_better_ones_to_fail() {
        let mut shares = shares(&[1, 1, 1]);
        shares[2].priority = 2;
        shares[0].is_usable = false;
        assert_eq!(counts(&shares), [0, 64, 0]);
        shares[1].is_usable = false;
        assert_eq!(counts(&shares), [0, 0, 64]);
        shares[2].is_usable = false;
        assert_eq!(fill(&shares), None);
    }

    #[test]
    fn weight_zero_carries_packets_when_nothing_else_is_left() {
        let mut shares = shares(&[100, 0]);
        shares[0].is_usable = false;
        assert_eq!(counts(&shares), [0, 64]);
    }

    proptest! {
        /// C-05: who fails loses its buckets, nobody else does; whichever others have failed before.
        #[test]
        fn a_loss_moves_only_the_flows_of_who_is_lost(
            weights in prop::collection::vec(1_u8..=100, 2..=7),
            failed in prop::collection::vec(any::<bool>(), 7),
            lost in 0_usize..7,
        ) {
            let mut shares = shares(&weights);
            let lost = lost % shares.len();
            for (share, failed) in shares.iter_mut().zip(failed) {
                share.is_usable = !failed;
            }
            shares[lost].is_usable = true;
            let before = fill(&shares).expect("the one to be lost is usable");
            shares[lost].is_usable = false;
            if let Some(after) = fill(&shares) {
                for (before, after) in before.iter().zip(after) {
                    prop_assert!(*before == after || usize::from(*before) == lost);
                    prop_assert!(shares[usize::from(after)].is_usable);
                }
            }
            let sum: usize = counts(&{ let mut all = shares.clone(); all[lost].is_usable = true; all }).iter().sum();
            prop_assert_eq!(sum, BUCKETS);
        }
    }
}
