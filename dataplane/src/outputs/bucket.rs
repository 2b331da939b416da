//! A token bucket: how often something may happen, in the long run and at once.

use std::time::Instant;

/// Tokens are kept in billionths, so that short intervals are not rounded away.
const TOKEN: u64 = 1_000_000_000;

/// Tokens for events of one kind. Time is read by the caller, and only when there is an event.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: u64,
    burst_nano_tokens: u64,
    nano_tokens: u64,
    last: Option<Instant>,
}

impl TokenBucket {
    /// `per_second` events a second on average, `burst` at once.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst_nano_tokens = u64::from(burst) * TOKEN;
        Self {
            per_second: u64::from(per_second),
            burst_nano_tokens,
            nano_tokens: burst_nano_tokens,
            last: None,
        }
    }

    /// Whether an event at `now` is within the rate; takes a token if it is.
    pub fn take(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now).unwrap_or(now);
        let elapsed =
            u64::try_from(now.saturating_duration_since(last).as_nanos()).unwrap_or(u64::MAX);
        // Nanoseconds times events a second are billionths of an event.
        self.nano_tokens = self
            .nano_tokens
            .saturating_add(elapsed.saturating_mul(self.per_second))
            .min(self.burst_nano_tokens);
        if self.nano_tokens < TOKEN {
            return false;
        }
        self.nano_tokens -= TOKEN;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(bucket: &mut TokenBucket, now: Instant, attempts: usize) -> usize {
        (0..attempts).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn burst_at_once_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, 5);
        assert_eq!(taken(&mut bucket, start, 50), 5);
        assert_eq!(
            taken(&mut bucket, start + Duration::from_millis(9), 50),
            0,
            "less than one token's time"
        );
        assert_eq!(
            taken(&mut bucket, start + Duration::from_millis(10), 50),
            1,
            "short intervals add up"
        );
        assert_eq!(
            taken(&mut bucket, start + Duration::from_secs(3600), 50),
            5,
            "never more than the burst"
        );
    }

    #[test]
    fn a_zero_burst_lets_nothing_through() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(1000, 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(10), 10), 0);
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_tokens() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(1000, 1);
        assert!(bucket.take(start));
        assert!(!bucket.take(start - Duration::from_secs(5)));
    }
}
