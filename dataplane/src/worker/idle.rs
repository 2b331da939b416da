//! What a worker does after a round that found nothing.

use std::time::Duration;

/// How a worker polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Poll {
    /// Without a pause: lowest latency, one core always in use. For appliances.
    Busy,
    /// Backs off when idle: for laptops, CI and shared machines.
    #[default]
    Adaptive,
}

/// Idle rounds before the worker lets other threads run: a few microseconds, the gap between bursts of one flow.
const SPIN_ROUNDS: u32 = 256;
/// Idle rounds in which it only yields: enough for a peer on the same core to answer.
const YIELD_ROUNDS: u32 = 32;
/// The first sleep, about the kernel's own timer slack; each further one is twice as long.
const SLEEP_FIRST: Duration = Duration::from_micros(50);
/// The longest sleep. It bounds the latency of the first packet after a silence; devices that need polling (`net_tap`)
/// are never left alone for a millisecond, slack included.
const SLEEP_LONGEST: Duration = Duration::from_micros(500);

/// What to do before the next round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Poll again at once.
    None,
    /// Poll again, after a hint to the processor that this is a waiting loop. It costs a hundred clocks on some, so a busy
    /// worker never gives it.
    Spin,
    /// Let other threads run.
    Yield,
    /// Sleep.
    Sleep(Duration),
}

/// Counts idle rounds.
#[derive(Debug)]
pub(super) struct Backoff {
    poll: Poll,
    idle_rounds: u32,
}

impl Backoff {
    pub(super) fn new(poll: Poll) -> Self {
        Self {
            poll,
            idle_rounds: 0,
        }
    }

    /// After a round that moved `frames` frames.
    #[inline]
    pub(super) fn after(&mut self, frames: usize) -> Pause {
        if frames > 0 || self.poll == Poll::Busy {
            self.idle_rounds = 0;
            return Pause::None;
        }
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        match self.idle_rounds.checked_sub(SPIN_ROUNDS) {
            None | Some(0) => Pause::Spin,
            Some(rounds) if rounds <= YIELD_ROUNDS => Pause::Yield,
            Some(rounds) => {
                let doublings = (rounds - YIELD_ROUNDS - 1).min(16);
                Pause::Sleep((SLEEP_FIRST * (1 << doublings)).min(SLEEP_LONGEST))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_never_pauses() {
        let mut backoff = Backoff::new(Poll::Busy);
        assert!((0..100_000).all(|_| backoff.after(0) == Pause::None));
    }

    #[test]
    fn adaptive_spins_then_yields_then_sleeps_longer_and_longer() {
        let mut backoff = Backoff::new(Poll::Adaptive);
        assert_eq!(backoff.after(32), Pause::None);
        for _ in 0..SPIN_ROUNDS {
            assert_eq!(backoff.after(0), Pause::Spin);
        }
        for _ in 0..YIELD_ROUNDS {
            assert_eq!(backoff.after(0), Pause::Yield);
        }
        let sleeps: Vec<Pause> = (0..6).map(|_| backoff.after(0)).collect();
        let micros = [50, 100, 200, 400, 500, 500];
        assert_eq!(
            sleeps,
            micros.map(|micros| Pause::Sleep(Duration::from_micros(micros)))
        );
    }

    #[test]
    fn a_long_silence_keeps_the_longest_sleep() {
        let mut backoff = Backoff::new(Poll::Adaptive);
        backoff.idle_rounds = u32::MAX - 1;
        for _ in 0..3 {
            assert_eq!(backoff.after(0), Pause::Sleep(SLEEP_LONGEST));
        }
    }

    #[test]
    fn one_frame_ends_the_back_off() {
        let mut backoff = Backoff::new(Poll::Adaptive);
        while backoff.after(0) == Pause::Spin {}
        assert_eq!(backoff.after(1), Pause::None);
        assert_eq!(backoff.after(0), Pause::Spin);
    }
}
