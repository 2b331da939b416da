//! What the control thread can know of a worker's thread at any time.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, PoisonError};

/// Where a worker is in its life. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Built, its loop not yet entered.
    Starting,
    /// Polling.
    Running,
    /// Told to stop: it polls no queue any more and hands no received frame to another worker any more.
    Draining,
    /// It hands nothing at all to another worker any more.
    Drained,
    /// Its loop ended as it was told to.
    Stopped,
    /// It panicked too often; [`Status::message`] says how. The process goes on, its queues are not polled any more.
    Dead,
}

impl State {
    const ALL: [Self; 6] = [
        Self::Starting,
        Self::Running,
        Self::Draining,
        Self::Drained,
        Self::Stopped,
        Self::Dead,
    ];

    /// Stable name in JSON and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One worker's state: written by its thread, read by anybody.
#[derive(Debug, Default)]
pub struct Status {
    state: AtomicU8,
    panics: AtomicU64,
    message: Mutex<Option<String>>,
}

impl Status {
    /// The state now. Seeing a state means seeing everything its worker did before it.
    #[must_use]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Acquire))]
    }

    /// How often it panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Acquire)
    }

    /// What its last panic said.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let message = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        message.clone()
    }

    pub(super) fn enter(&self, state: State) {
        self.state.store(state as u8, Release); // `as`: a fieldless repr(u8) enum
    }

    /// It panicked.
    pub(super) fn set_back(&self, message: String) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        self.panics.fetch_add(1, Release);
    }

    /// It panicked for the last time.
    pub(super) fn die(&self, message: String) {
        self.set_back(message);
        self.enter(State::Dead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_read_back() {
        let status = Status::default();
        assert_eq!(status.state(), State::Starting);
        for state in State::ALL {
            status.enter(state);
            assert_eq!(status.state(), state);
        }
        assert!(State::ALL.is_sorted(), "positions are the values");
    }

    #[test]
    fn panics_are_counted_and_the_last_one_is_told() {
        let status = Status::default();
        assert_eq!((status.panics(), status.message()), (0, None));
        status.set_back("first".to_owned());
        let told = (status.state(), status.panics(), status.message());
        assert_eq!(told, (State::Starting, 1, Some("first".to_owned())));
        status.die("second".to_owned());
        let told = (status.state(), status.panics(), status.message());
        assert_eq!(told, (State::Dead, 2, Some("second".to_owned())));
    }
}
