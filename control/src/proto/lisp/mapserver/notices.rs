//! Map-Notifies nobody asked for, sent until they are acknowledged (RFC 9301 5.7): three times at three seconds, then
//! three more, each after twice the time. What one says of an EID ends with the next thing that is to be said of it to the
//! same ETR, or that this one says: who has an EID back must not be told late that it is elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::Record;

/// Most that wait.
const WAITING_MAX: usize = 100_000;
/// Pauses after each time one is sent; after the last it is given up.
const PAUSES_S: [u64; 6] = [3, 3, 3, 6, 12, 24];

/// A Map-Notify that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) to: SocketAddr,
    pub(super) site: u32,
    pub(super) key_id: u8,
    pub(super) bytes: Vec<u8>,
    records: Vec<Record>,
    sent: usize,
    due: Instant,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send it again.
    Again(SocketAddr, Vec<u8>),
    /// Nobody acknowledged it.
    GivenUp(SocketAddr),
}

/// All that wait, by nonce.
#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: BTreeMap<u64, Notice>,
    timetable: BTreeMap<(Instant, u64), ()>,
    /// Which one is about an EID, by whom it goes to.
    about: BTreeMap<(IpAddr, EidKey), u64>,
}

impl Notices {
    /// One was sent; false: there is no room to wait for its acknowledgement.
    pub(super) fn add(
        &mut self,
        now: Instant,
        nonce: u64,
        (to, site, key_id): (SocketAddr, u32, u8),
        records: &[Record],
        bytes: Vec<u8>,
    ) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        let [pause, ..] = PAUSES_S;
        let due = now + Duration::from_secs(pause);
        let notice = Notice {
            to,
            site,
            key_id,
            bytes,
            records: records.to_vec(),
            sent: 1,
            due,
        };
        for record in records {
            self.about.insert((to.ip(), record.key), nonce);
        }
        self.waiting.insert(nonce, notice);
        self.timetable.insert((due, nonce), ());
        true
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn waiting(&self, nonce: u64) -> Option<&Notice> {
        self.waiting.get(&nonce)
    }

    pub(super) fn acknowledge(&mut self, nonce: u64) {
        self.remove(nonce);
    }

    /// What was to be said of this EID to this ETR does not hold any more: the notice ends, and this is the rest of it.
    pub(super) fn withdraw(&mut self, to: IpAddr, key: EidKey) -> Vec<Record> {
        let nonce = self.about.get(&(to, key)).copied();
        let notice = nonce.and_then(|nonce| self.remove(nonce));
        let mut rest = notice.map_or_else(Vec::new, |notice| notice.records);
        rest.retain(|record| record.key != key);
        rest
    }

    fn remove(&mut self, nonce: u64) -> Option<Notice> {
        let notice = self.waiting.remove(&nonce)?;
        self.timetable.remove(&(notice.due, nonce));
        for record in &notice.records {
            self.about.remove(&(notice.to.ip(), record.key));
        }
        Some(notice)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.timetable.keys().next().map(|(due, _)| *due)
    }

    /// The next that is due at `now`.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        let first = self.timetable.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let ((_, nonce), ()) = first.remove_entry();
        let notice = self.waiting.get_mut(&nonce)?;
        let Some(pause) = PAUSES_S.get(notice.sent) else {
            let to = notice.to;
            self.remove(nonce);
            return Some(Due::GivenUp(to));
        };
        notice.sent += 1;
        notice.due = now + Duration::from_secs(*pause);
        self.timetable.insert((notice.due, nonce), ());
        Some(Due::Again(notice.to, notice.bytes.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(notices: &mut Notices, now: Instant, nonce: u64) {
        let to = "192.0.2.1:4342".parse().unwrap();
        assert!(notices.add(now, nonce, (to, 0, 1), &[], vec![1]));
    }

    /// R-15 of the requirements.
    #[test]
    fn sent_six_times_then_given_up() {
        let start = Instant::now();
        let mut notices = Notices::default();
        add(&mut notices, start, 5);
        let mut at = Vec::new();
        while let Some(next) = notices.next() {
            at.push((next - start).as_secs());
            let due = notices.due(next).unwrap();
            assert_eq!(notices.due(next), None);
            assert_eq!(matches!(due, Due::GivenUp(_)), at.len() == PAUSES_S.len());
        }
        assert_eq!(at, [3, 6, 9, 15, 27, 51]);
    }

    #[test]
    fn an_acknowledged_one_is_not_sent_again() {
        let start = Instant::now();
        let mut notices = Notices::default();
        add(&mut notices, start, 5);
        add(&mut notices, start, 6);
        notices.acknowledge(5);
        notices.acknowledge(7);
        assert_eq!(notices.waiting(5), None);
        let next = notices.next().unwrap();
        assert!(matches!(notices.due(next), Some(Due::Again(..))));
        assert_eq!(notices.due(next), None);
    }
}
