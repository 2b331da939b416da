//! A token bucket without a clock of its own (the generic cell rate algorithm): it remembers only when it will be full.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub(in crate::proto) struct TokenBucket {
    /// Time in which one token comes back.
    interval: Duration,
    burst: u32,
    full_at: Instant,
}

impl TokenBucket {
    /// A full bucket. A rate or burst of zero counts as one: a bucket that never gives is a configuration error, and
    /// refusing everything would be the worst way to say so.
    pub(in crate::proto) fn new(now: Instant, per_second: u32, burst: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            burst: burst.max(1),
            full_at: now,
        }
    }

    /// A full bucket to which a token comes back only now and then.
    pub(in crate::proto) fn every(now: Instant, interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst: burst.max(1),
            full_at: now,
        }
    }

    /// Another rate and burst; what was taken stays taken.
    pub(in crate::proto) fn set_rate(&mut self, per_second: u32, burst: u32) {
        self.interval = Duration::from_secs(1) / per_second.max(1);
        self.burst = burst.max(1);
    }

    /// Take a token unless fewer than `leave` would remain for those who are more important.
    pub(in crate::proto) fn take(&mut self, now: Instant, leave: u32) -> bool {
        let allowed = self.interval * self.burst.saturating_sub(leave);
        let missing = self.full_at.saturating_duration_since(now) + self.interval;
        if missing > allowed {
            return false;
        }
        self.full_at = self.full_at.max(now) + self.interval;
        true
    }

    /// How many tokens it holds when full.
    pub(in crate::proto) fn burst(&self) -> u32 {
        self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(bucket: &mut TokenBucket, now: Instant, leave: u32) -> u32 {
        let mut taken = 0;
        while bucket.take(now, leave) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn gives_the_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10, 5);
        assert_eq!(take_all(&mut bucket, start, 0), 5);
        assert_eq!(
            take_all(&mut bucket, start + Duration::from_millis(350), 0),
            3
        );
        assert_eq!(take_all(&mut bucket, start + Duration::from_secs(60), 0), 5);
    }

    #[test]
    fn leaves_the_reserve_to_those_who_may_use_it() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10, 8);
        assert_eq!(take_all(&mut bucket, start, 2), 6);
        assert_eq!(take_all(&mut bucket, start, 0), 2);
    }

    #[test]
    fn another_rate_keeps_what_was_taken() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10, 8);
        assert_eq!(take_all(&mut bucket, start, 0), 8);
        bucket.set_rate(100, 4);
        assert_eq!(take_all(&mut bucket, start, 0), 0);
        assert_eq!(take_all(&mut bucket, start + Duration::from_secs(1), 0), 4);
    }

    #[test]
    fn zero_counts_as_one() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 0, 0);
        assert_eq!(take_all(&mut bucket, start, 0), 1);
        assert_eq!(take_all(&mut bucket, start + Duration::from_secs(1), 0), 1);
    }
}
