//! Token buckets by address, in a space that no flood makes larger: what comes too often is dropped before it is read,
//! let alone hashed (E-07 of the requirements).
//!
//! Key: an IPv4 address, or the first 64 bits of an IPv6 address, as a host has all of those. Each has a bucket in two
//! rows, shared with whoever falls on the same place, and may go on if one of them lets it. 8 bytes a bucket, 256 KiB
//! in all; a look-up in each row.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Rate;

/// Buckets of a row, a power of two.
const ROW: usize = 1 << 14;

/// The buckets. Each is the time at which it will be full, in nanoseconds since the start.
#[derive(Debug)]
pub(super) struct Limiter {
    rows: [Box<[u64]>; 2],
    start: Instant,
    seed: u64,
    interval: u64,
    allowed: u64,
}

impl Limiter {
    pub(super) fn new(now: Instant, rate: Rate, seed: u64) -> Self {
        let mut limiter = Self {
            rows: [vec![0; ROW].into(), vec![0; ROW].into()],
            start: now,
            seed,
            interval: 0,
            allowed: 0,
        };
        limiter.set_rate(rate);
        limiter
    }

    /// Another rate; what was taken stays taken. Zero counts as one.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        self.interval = 1_000_000_000 / u64::from(rate.per_second.max(1));
        self.allowed = self.interval * u64::from(rate.burst.max(1));
    }

    /// Take a token for this address.
    pub(super) fn take(&mut self, now: Instant, address: IpAddr) -> bool {
        let now = nanoseconds(now.saturating_duration_since(self.start));
        let mut hash = mixed(key(address) ^ self.seed);
        let mut is_allowed = false;
        for row in &mut self.rows {
            let place = usize::try_from(hash & (ROW as u64 - 1)).unwrap_or(0); // `as`: widening
            if let Some(full_at) = row.get_mut(place) {
                let after = (*full_at).max(now) + self.interval;
                if after - now <= self.allowed {
                    *full_at = after;
                    is_allowed = true;
                }
            }
            hash >>= 32;
        }
        is_allowed
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

fn key(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64, // `as`: the upper half
    }
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the input.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 5,
    };

    fn taken(limiter: &mut Limiter, now: Instant, address: &str) -> usize {
        let address = address.parse().unwrap();
        (0..100).take_while(|_| limiter.take(now, address)).count()
    }

    #[test]
    fn each_address_has_its_burst_and_its_rate() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start, RATE, 1);
        assert_eq!(taken(&mut limiter, start, "192.0.2.1"), 5);
        assert_eq!(taken(&mut limiter, start, "192.0.2.2"), 5);
        assert_eq!(taken(&mut limiter, start, "2001:db8::1"), 5);
        assert_eq!(taken(&mut limiter, start, "2001:db8::2"), 0, "the same /64");
        let later = start + Duration::from_millis(350);
        assert_eq!(taken(&mut limiter, later, "192.0.2.1"), 3);
        let much_later = start + Duration::from_secs(60);
        assert_eq!(taken(&mut limiter, much_later, "192.0.2.1"), 5);
    }

    #[test]
    fn a_flood_from_one_address_leaves_the_others_alone() {
        let start = Instant::now();
        let mut limiter = Limiter::new(start, RATE, 7);
        let flooder: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..100_000 {
            limiter.take(start, flooder);
        }
        for host in 0..1000_u32 {
            let address = IpAddr::V4((0x0a00_0000 + host).into());
            assert!(limiter.take(start, address));
        }
    }
}
