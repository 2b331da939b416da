//! The time-stamp counter: reading it, and how fast it runs.
//!
//! Reading costs about 25 clocks in a virtual machine, so it is read twice a burst, never per packet.

use std::arch::x86_64::{_mm_lfence, _rdtsc};
use std::time::{Duration, Instant};

/// How long the counter is held against the clock to learn its rate.
const CALIBRATION: Duration = Duration::from_millis(200);

/// The counter now, after everything before it in program order has finished.
#[inline]
#[must_use]
pub fn now() -> u64 {
    // SAFETY: both instructions exist on every x86-64 processor and touch no memory.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// Counts per second, measured against the monotonic clock.
#[must_use]
pub fn measured_hertz() -> f64 {
    let (start, start_count) = (Instant::now(), now());
    while start.elapsed() < CALIBRATION {
        std::hint::spin_loop();
    }
    let (elapsed, counts) = (start.elapsed(), now() - start_count);
    // `as`: the counts of a fifth of a second are far below 2^53.
    counts as f64 / elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_goes_forward_and_its_rate_is_a_processor_s() {
        let before = now();
        let hertz = measured_hertz();
        assert!(now() > before);
        assert!((0.5e9..10e9).contains(&hertz), "{hertz} counts a second");
    }
}
