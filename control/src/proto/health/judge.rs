//! From results of checks to the state of a server.
//!
//! ```text
//!             success                    fall failures
//!  Untried ------------> Up <-------.------------------> Down <----.
//!     |                  ^          | success, time over  |  ^     | failure
//!     |                  |         Held <-----------------'  |     |
//!     |                  '-- rise successes, time over ------+-----'
//!     '------------------ fall failures ---------------------'
//! ```
//!
//! A server that goes down again soon stays down longer each time, so that one that comes and goes takes few flows with
//! it: `hold_down`, twice that, four times, to `hold_down_max`. Up for `hold_down_max`, it begins anew.

use std::time::{Duration, Instant};

use super::Pace;

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nothing is known: it counts as up for flows, and not as a reason to announce a service.
    Untried,
    /// It answers.
    Up,
    /// It does not.
    Down,
    /// It answers again, and is held down for having gone down.
    Held,
}

impl Health {
    /// The word for people and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untried => "untried",
            Self::Up => "up",
            Self::Down => "down",
            Self::Held => "held",
        }
    }

    /// Whether it may have flows.
    #[must_use]
    pub const fn takes_flows(self) -> bool {
        matches!(self, Self::Untried | Self::Up)
    }
}

/// The state of one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    state: Health,
    /// Results one after the other that speak against the state.
    streak: u8,
    /// Times it went down without having been up long.
    falls: u32,
    up_since: Option<Instant>,
    held_until: Instant,
}

impl Judge {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: Health::Untried,
            streak: 0,
            falls: 0,
            up_since: None,
            held_until: now,
        }
    }

    pub(super) fn state(&self) -> Health {
        self.state
    }

    /// A check ended.
    pub(super) fn judge(&mut self, now: Instant, passed: bool, pace: &Pace) {
        match (self.state, passed) {
            (Health::Untried, true) => self.rise(now),
            (Health::Untried | Health::Up, false) => {
                self.streak = self.streak.saturating_add(1);
                if self.streak >= pace.fall {
                    self.fall(now, pace);
                }
            }
            (Health::Up, true) | (Health::Down, false) => self.streak = 0,
            (Health::Down, true) => {
                self.streak = self.streak.saturating_add(1);
                if self.streak >= pace.rise {
                    self.state = Health::Held;
                    self.release(now);
                }
            }
            (Health::Held, true) => self.release(now),
            (Health::Held, false) => {
                self.state = Health::Down;
                self.streak = 0;
            }
        }
    }

    /// Up, unless it is too early.
    fn release(&mut self, now: Instant) {
        if now >= self.held_until {
            self.rise(now);
        }
    }

    fn rise(&mut self, now: Instant) {
        self.state = Health::Up;
        self.streak = 0;
        self.up_since = Some(now);
    }

    fn fall(&mut self, now: Instant, pace: &Pace) {
        let was_up_long = self
            .up_since
            .is_some_and(|since| now.saturating_duration_since(since) >= pace.hold_down_max);
        self.falls = if was_up_long { 1 } else { self.falls + 1 };
        self.held_until = now + hold(self.falls, pace);
        self.state = Health::Down;
        self.streak = 0;
    }
}

/// How long a server stays down that went down so many times.
fn hold(falls: u32, pace: &Pace) -> Duration {
    let doublings = falls.saturating_sub(1).min(16);
    let longest = pace.hold_down_max.max(pace.hold_down);
    (pace.hold_down * (1 << doublings)).min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        hold_down: Duration::from_secs(10),
        hold_down_max: Duration::from_secs(60),
    };

    /// Every state and result: what follows, one step before the threshold and at it, early and late.
    #[test]
    fn every_state_and_result_has_its_step() {
        use Health::{Down, Held, Untried, Up};
        let start = Instant::now();
        for (state, streak, is_late, passed, expected) in [
            (Untried, 0, false, true, (Up, 0)),
            (Untried, 0, false, false, (Untried, 1)),
            (Untried, 2, false, false, (Down, 0)),
            (Up, 0, false, true, (Up, 0)),
            (Up, 2, false, true, (Up, 0)),
            (Up, 1, false, false, (Up, 2)),
            (Up, 2, false, false, (Down, 0)),
            (Down, 1, false, false, (Down, 0)),
            (Down, 0, true, true, (Down, 1)),
            (Down, 1, false, true, (Held, 2)),
            (Down, 1, true, true, (Up, 0)),
            (Held, 2, false, true, (Held, 2)),
            (Held, 2, true, true, (Up, 0)),
            (Held, 2, false, false, (Down, 0)),
            (Held, 2, true, false, (Down, 0)),
        ] {
            let mut judge = Judge {
                state,
                streak,
                held_until: start + Duration::from_secs(u64::from(!is_late)),
                ..Judge::new(start)
            };
            judge.judge(start, passed, &PACE);
            let found = (judge.state, judge.streak);
            assert_eq!(found, expected, "{state:?} {streak} {is_late} {passed}");
        }
    }

    #[test]
    fn each_fall_holds_longer_until_it_was_up_for_long() {
        let mut now = Instant::now();
        let mut judge = Judge::new(now);
        let mut held = Vec::new();
        judge.judge(now, true, &PACE);
        for stays in [1, 1, 1, 1, 1, 60, 1] {
            now += Duration::from_secs(stays);
            while judge.state() != Health::Down {
                judge.judge(now, false, &PACE);
            }
            let fell = now;
            while judge.state() != Health::Up {
                now += Duration::from_secs(1);
                judge.judge(now, true, &PACE);
            }
            held.push((now - fell).as_secs());
        }
        assert_eq!(held, [10, 20, 40, 60, 60, 10, 20]);
    }

    proptest! {
        /// Down only after `fall` failures in a row, up only after `rise` successes in a row and not before its time.
        #[test]
        fn no_state_without_its_reason(results in prop::collection::vec(any::<bool>(), 1..200)) {
            let mut now = Instant::now();
            let mut judge = Judge::new(now);
            let (mut successes, mut failures) = (0_u32, 0_u32);
            for passed in results {
                now += Duration::from_secs(3);
                let before = judge.state();
                let until = judge.held_until;
                judge.judge(now, passed, &PACE);
                if passed {
                    (successes, failures) = (successes + 1, 0);
                } else {
                    (successes, failures) = (0, failures + 1);
                }
                match (before.takes_flows(), judge.state().takes_flows()) {
                    (true, false) => prop_assert!(failures >= 3),
                    (false, true) => prop_assert!(successes >= 2 && now >= until),
                    (true, true) => prop_assert!(failures < 3),
                    (false, false) => prop_assert!(successes < 2 || now < until),
                }
            }
        }
    }
}
