//! Whether one locator answers, and what follows from it: the values behind `probing`.
//!
//! ```text
//!             answered                  the last of `misses` missed in a row
//!   Unproven ----------> Up ------------------------------------------------> Down <--+
//!      |                 ^                                                    |  ^    |
//!      |                 |    answered RETURNS times in a row      answered   |  |    | missed
//!      |                 +--------------------------- Returning <-------------+  |    |
//!      |                                                  +----------------------|----+
//!      +-------------------------------------------------------------------------+
//!        the same, where PATIENCE is over and a mapping that was learned names it
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::settings::Probing as Schedule;
use crate::proto::lisp::EidKey;

/// The longest wait for an answer, and that for the first.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Before this time is over, silence says nothing of a new locator, or of one that has a way again: neighbours on the way
/// may be unknown yet (RFC 4861 7.2.2: three seconds).
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Answers in a row that bring a locator back.
const RETURNS: u8 = 3;
/// One that is down is probed as often as after this many periods.
const PERIODS_DOWN: u32 = 4;
/// And the first time after this, or after a period.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It has not answered yet, which need not mean anything.
    Unproven,
    /// It answers.
    Up,
    /// It does not answer any more.
    Down,
    /// It was down and answered this many times.
    Returning(u8),
}

impl Liveness {
    /// Whether packets go there.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Unproven | Self::Up)
    }
}

/// How a locator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RlocState {
    /// Whether it answers.
    pub liveness: Liveness,
    /// The last round trip.
    pub round_trip: Option<Duration>,
    /// Probes that were sent to it.
    pub sent: u64,
    /// Of them, those that were answered.
    pub answered: u64,
    /// Probes that were missed since the last answer.
    pub missed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occurrence {
    Answered,
    Missed,
}

/// A probe that may still be answered.
pub(super) struct Probe {
    pub(super) nonce: u64,
    pub(super) asked: EidKey,
    pub(super) sent: Instant,
    /// When it is missed; none: it was.
    pub(super) until: Option<Instant>,
}

/// RFC 6298 2: smoothed, and how much it varies.
#[derive(Clone, Copy)]
pub(super) struct RoundTrip {
    pub(super) last: Duration,
    pub(super) smoothed: Duration,
    pub(super) variation: Duration,
}

pub(super) struct Rloc {
    /// Some of the prefixes that lead there.
    pub(super) prefixes: Vec<EidKey>,
    pub(super) turn: usize,
    /// A mapping was learned that names it.
    pub(super) is_learned: bool,
    /// The underlay leads there.
    pub(super) has_way: bool,
    pub(super) liveness: Liveness,
    pub(super) missed: u32,
    pub(super) patient_until: Instant,
    /// When the next probe is due; none: when something happens.
    pub(super) next: Option<Instant>,
    /// Between probes while it is silent.
    pub(super) pause: Duration,
    pub(super) outstanding: VecDeque<Probe>,
    pub(super) last_sent: Option<Instant>,
    pub(super) round_trip: Option<RoundTrip>,
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Where it stands among those whose probes were too many.
    pub(super) waits: Option<u64>,
    /// Where it stands among those that are due.
    pub(super) due: Option<Instant>,
}

impl Rloc {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            prefixes: Vec::new(),
            turn: 0,
            is_learned: false,
            has_way: true,
            liveness: Liveness::Unproven,
            missed: 0,
            patient_until: now + PATIENCE,
            next: None,
            pause: FIRST_PAUSE,
            outstanding: VecDeque::new(),
            last_sent: None,
            round_trip: None,
            sent: 0,
            answered: 0,
            waits: None,
            due: None,
        }
    }

    /// How long an answer may take.
    pub(super) fn wait(&self, schedule: Option<&Schedule>) -> Duration {
        let least = schedule.map_or(WAIT_MAX, |schedule| schedule.least_wait);
        let plausible = self.round_trip.map_or(WAIT_MAX, |known| {
            known.smoothed.saturating_add(known.variation * 4)
        });
        plausible.clamp(least.min(WAIT_MAX), WAIT_MAX)
    }

    pub(super) fn note_round_trip(&mut self, last: Duration) {
        let known = match self.round_trip {
            None => RoundTrip {
                last,
                smoothed: last,
                variation: last / 2,
            },
            Some(known) => RoundTrip {
                last,
                smoothed: known.smoothed * 7 / 8 + last / 8,
                variation: known.variation * 3 / 4 + known.smoothed.abs_diff(last) / 4,
            },
        };
        self.round_trip = Some(known);
    }

    /// Between two probes, as things are.
    pub(super) fn interval(&self, schedule: &Schedule) -> Duration {
        match self.liveness {
            Liveness::Down => self.pause,
            Liveness::Unproven if self.missed >= schedule.misses => self.pause,
            Liveness::Unproven | Liveness::Up => schedule.period,
            Liveness::Returning(_) => FIRST_PAUSE.min(schedule.period),
        }
    }

    /// One transition of the diagram above.
    pub(super) fn step(&mut self, now: Instant, schedule: &Schedule, occurrence: Occurrence) {
        let first_pause = FIRST_PAUSE.min(schedule.period);
        match occurrence {
            Occurrence::Answered => {
                self.missed = 0;
                self.patient_until = now;
            }
            Occurrence::Missed => self.missed = self.missed.saturating_add(1),
        }
        let is_silent = self.missed >= schedule.misses && now >= self.patient_until;
        self.liveness = match (self.liveness, occurrence) {
            (Liveness::Unproven | Liveness::Up, Occurrence::Answered) => Liveness::Up,
            (Liveness::Unproven, Occurrence::Missed) if is_silent && self.is_learned => {
                Liveness::Down
            }
            (Liveness::Up, Occurrence::Missed) if is_silent => Liveness::Down,
            (Liveness::Unproven, Occurrence::Missed) if is_silent => {
                self.pause = (self.pause * 2).min(schedule.period);
                return;
            }
            (stays @ (Liveness::Unproven | Liveness::Up), Occurrence::Missed) => {
                self.next = Some(now);
                stays
            }
            (Liveness::Down, Occurrence::Answered) => Liveness::Returning(1),
            (Liveness::Returning(times), Occurrence::Answered) if times + 1 < RETURNS => {
                Liveness::Returning(times + 1)
            }
            (Liveness::Returning(_), Occurrence::Answered) => Liveness::Up,
            (Liveness::Down, Occurrence::Missed) => {
                let longest = schedule.period * PERIODS_DOWN;
                self.pause = (self.pause * 2).min(longest);
                return;
            }
            (Liveness::Returning(_), Occurrence::Missed) => Liveness::Down,
        };
        match self.liveness {
            Liveness::Down => {
                self.pause = first_pause;
                self.next = Some(now + first_pause);
            }
            Liveness::Returning(_) => self.next = Some(now + first_pause),
            Liveness::Unproven | Liveness::Up => {}
        }
    }
}
