//! What is counted while the fleet lives: messages by kind and hour, how many at once, and what sampled answers were.

use control::proto::lisp::wire::{kind, types};

/// Nanoseconds.
pub const SECOND: u64 = 1_000_000_000;

/// Kinds of messages, in the order in which they are shown.
pub const KINDS: [&str; 7] = [
    "map_register",
    "map_notify",
    "map_notify_ack",
    "map_request_asked",
    "map_request_sent_on",
    "map_request_plain",
    "map_reply",
];

/// Counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages sent, by hour and kind.
    pub hours: Vec<[u64; KINDS.len()]>,
    /// Messages of the current second, and which one it is.
    second: (u64, u64),
    /// Most messages of a second, and which one it was.
    pub peak: (u64, u64),
    /// Bytes of messages, without headers.
    pub bytes: u64,
    /// Messages the network lost, doubled, and had nobody to bring to.
    pub lost: u64,
    /// See [`Tally::lost`].
    pub doubled: u64,
    /// See [`Tally::lost`].
    pub undeliverable: u64,
    /// Answers that were compared with the truth.
    pub sampled: u64,
    /// Samples that were not answered.
    pub unanswered: u64,
    /// Of the answers, those that were not true, by the second after the last change in which they came; all late ones
    /// count for the last.
    pub untrue: Vec<u64>,
}

impl Tally {
    /// Count a message that is sent, whether it arrives or not.
    pub fn sent(&mut self, now: u64, by_server: bool, bytes: &[u8]) {
        let at = match (kind(bytes), by_server) {
            (Some(types::MAP_REGISTER), _) => 0,
            (Some(types::MAP_NOTIFY), _) => 1,
            (Some(types::MAP_NOTIFY_ACK), _) => 2,
            (Some(types::ENCAPSULATED), false) => 3,
            (Some(types::ENCAPSULATED), true) => 4,
            (Some(types::MAP_REQUEST), _) => 5,
            _ => 6,
        };
        let hour = usize::try_from(now / (3600 * SECOND)).unwrap_or(0);
        if self.hours.len() <= hour {
            self.hours.resize(hour + 1, [0; KINDS.len()]);
        }
        self.hours[hour][at] += 1;
        self.bytes += bytes.len() as u64; // `as`: widening
        let second = now / SECOND;
        if self.second.1 != second {
            self.second = (0, second);
        }
        self.second.0 += 1;
        if self.second.0 > self.peak.0 {
            self.peak = self.second;
        }
    }

    /// A sample was answered so long after the last change.
    pub fn answered(&mut self, is_true: bool, age: u64) {
        self.sampled += 1;
        if !is_true {
            let second = usize::try_from(age / SECOND).unwrap_or(usize::MAX);
            let second = second.min(3600);
            if self.untrue.len() <= second {
                self.untrue.resize(second + 1, 0);
            }
            self.untrue[second] += 1;
        }
    }

    /// All messages of a kind.
    pub fn of(&self, kind: usize) -> u64 {
        self.hours.iter().map(|hour| hour[kind]).sum()
    }

    /// All messages.
    pub fn all(&self) -> u64 {
        (0..KINDS.len()).map(|kind| self.of(kind)).sum()
    }

    /// In how many seconds after a change everything was true again, whenever it was looked at.
    pub fn converged_s(&self) -> u64 {
        self.untrue.len() as u64 // `as`: widening
    }

    /// Answers that were not true so many seconds after the last change.
    pub fn untrue_after(&self, seconds: usize) -> u64 {
        self.untrue.iter().skip(seconds).sum()
    }
}
