//! How many flows of a service may begin: in a second, and while others go on. Each worker counts its own and has its
//! share; which flows still go on the control thread counts ([`Census`](super::Census)), because nobody else looks at flows that
//! are over.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use dataplane::reason::DropReason;

use super::spec::Limits;

/// Services with limits, most.
pub const LIMITED_MAX: usize = 256;

/// What one worker counts for one limited service. Written by the worker, but for `allowed`.
#[derive(Debug, Default)]
struct Count {
    /// The second, and flows that began in it.
    second: AtomicU64,
    /// Flows that began, ever; it wraps.
    begun: AtomicU32,
    /// How far `begun` may go.
    allowed: AtomicU32,
}

/// What one worker counts.
#[derive(Debug)]
pub(crate) struct Counts(Box<[Count]>);

impl Counts {
    pub(super) fn new() -> Self {
        Self((0..LIMITED_MAX).map(|_| Count::default()).collect())
    }

    /// A flow begins, if it may. `number` from 0, `second` of any beginning.
    pub(super) fn begin(
        &self,
        number: usize,
        limits: &Limits,
        second: u16,
    ) -> Result<(), DropReason> {
        let Some(count) = self.0.get(number) else {
            return Ok(());
        };
        let known = count.second.load(Relaxed);
        let now = u64::from(second) << 32;
        let in_second = if known & !u64::from(u32::MAX) == now {
            known as u32 // `as`: the lower half
        } else {
            0
        };
        if limits.new_per_second.is_some_and(|most| in_second >= most) {
            return Err(DropReason::SteerRate);
        }
        let begun = count.begun.load(Relaxed);
        let left = count.allowed.load(Relaxed).wrapping_sub(begun);
        // More than was allowed reads as a huge number.
        if limits.flows.is_some() && (left == 0 || left > u32::MAX / 2) {
            return Err(DropReason::SteerFlows);
        }
        count.second.store(now | u64::from(in_second + 1), Relaxed);
        count.begun.store(begun.wrapping_add(1), Relaxed);
        Ok(())
    }

    /// How many flows of each service began, ever.
    pub(super) fn begun(&self) -> Vec<u32> {
        self.0
            .iter()
            .map(|count| count.begun.load(Relaxed))
            .collect()
    }

    /// Let `more` flows begin, counted from when `begun` was asked for.
    pub(super) fn allow(&self, number: usize, begun: u32, more: u32) {
        if let Some(count) = self.0.get(number) {
            let more = more.min(u32::MAX / 2);
            count.allowed.store(begun.wrapping_add(more), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_begin_in_a_second_and_not_one_more() {
        let counts = Counts::new();
        let limits = Limits {
            new_per_second: Some(3),
            flows: None,
        };
        for second in [7, 8, 65_535, 0] {
            let begun = (0..9).map(|_| counts.begin(4, &limits, second));
            let begun: Vec<_> = begun.collect();
            assert_eq!(begun[..3], [Ok(()); 3]);
            assert_eq!(begun[3..], [Err(DropReason::SteerRate); 6]);
        }
        assert_eq!(counts.begin(5, &limits, 0), Ok(()), "another service");
    }

    #[test]
    fn so_many_go_on_at_a_time_whatever_began_while_they_were_counted() {
        let counts = Counts::new();
        let limits = Limits {
            new_per_second: None,
            flows: Some(10),
        };
        assert_eq!(counts.begin(0, &limits, 0), Err(DropReason::SteerFlows));
        counts.allow(0, counts.begun()[0], 10);
        let begin = |count: usize| (0..count).filter(|_| counts.begin(0, &limits, 0).is_ok());
        assert_eq!(begin(15).count(), 10);
        // Counting begins; of the ten four are over.
        let begun = counts.begun()[0];
        counts.allow(0, begun, 4);
        assert_eq!(begin(3).count(), 3);
        // The counting that began before those three finds six go on: three of four are used.
        counts.allow(0, begun, 4);
        assert_eq!(begin(15).count(), 1);
        counts.allow(0, counts.begun()[0], 0);
        assert_eq!(begin(1).count(), 0);
    }
}
