//! What the control thread can know of a worker's thread at any time.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Release};

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
    /// Its thread panicked; [`Status::message`] says how. The process goes on, its queues are not polled any more.
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
    message: OnceLock<String>,
}

impl Status {
    /// The state now. Seeing a state means seeing everything its worker did before it.
    #[must_use]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Acquire))]
    }

    /// What a dead worker's panic said.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.get().map(String::as_str)
    }

    pub(super) fn enter(&self, state: State) {
        self.state.store(state as u8, Release); // `as`: a fieldless repr(u8) enum
    }

    pub(super) fn die(&self, message: String) {
        // A second panic cannot be more telling than the first.
        let _ = self.message.set(message);
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
    fn the_first_message_stays() {
        let status = Status::default();
        assert_eq!(status.message(), None);
        status.die("first".to_owned());
        status.die("second".to_owned());
        assert_eq!(
            (status.state(), status.message()),
            (State::Dead, Some("first"))
        );
    }
}
