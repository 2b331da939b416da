//! What was learned, without the mappings themselves: how long each holds, whether it is used, and which one makes room.
//!
//! Key: instance and EID prefix. At most [`LEARNED_MAX`]; where there are as many, a negative one makes room, else the one
//! that was not used for the longest time (C-13). Some 200 bytes each; every call is logarithmic in their number, but for
//! [`Learned::under`], which looks at those under one prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::settings::is_within;
use crate::proto::lisp::EidKey;

/// Most entries.
pub(super) const LEARNED_MAX: usize = 65_536;

/// The longest time before the end at which an entry in use is asked for again.
const REFRESH_BEFORE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct Known {
    /// When it was learned.
    since: Instant,
    expires: Instant,
    /// When it is looked at next: to be refreshed, then to be forgotten.
    due: Instant,
    is_positive: bool,
    /// When a packet was last known to have used it, or it was learned.
    used: Instant,
    /// A packet used it since it was learned.
    is_used: bool,
}

/// How an entry stands, as tests see it.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) is_positive: bool,
    /// A packet used it since it was learned.
    pub(super) is_used: bool,
    /// The time is over at which it is asked for again if it is used.
    pub(super) is_ending: bool,
}

/// What is due for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It is used and will end soon, or is to be asked for early.
    Refresh(EidKey),
    /// It has ended, and is gone.
    Expired(EidKey),
}

#[derive(Debug, Default)]
pub(super) struct Learned {
    known: BTreeMap<EidKey, Known>,
    by_due: BTreeSet<(Instant, EidKey)>,
    /// Negative ones first, then by last use.
    by_worth: BTreeSet<(bool, Instant, EidKey)>,
}

impl Learned {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// An entry is new, or holds anew. Whoever had to make room for it.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        key: EidKey,
        is_positive: bool,
        lifetime: Duration,
    ) -> Option<EidKey> {
        self.remove(key);
        let evicted = if self.known.len() >= LEARNED_MAX {
            self.by_worth.first().map(|(.., key)| *key)
        } else {
            None
        };
        if let Some(key) = evicted {
            self.remove(key);
        }
        let known = Known {
            since: now,
            expires: now + lifetime,
            due: now + until_refresh(lifetime),
            is_positive,
            used: now,
            is_used: false,
        };
        self.known.insert(key, known);
        self.by_due.insert((known.due, key));
        self.by_worth.insert((is_positive, known.used, key));
        evicted
    }

    /// An entry is asked for again then, if that is earlier than it would be, whether it is used or not.
    pub(super) fn ask_early(&mut self, key: EidKey, at: Instant) {
        if let Some(known) = self.known.get_mut(&key)
            && at < known.due
        {
            self.by_due.remove(&(known.due, key));
            known.due = at;
            self.by_due.insert((known.due, key));
        }
    }

    /// Whether there is an entry that was there at that time.
    pub(super) fn is_older(&self, key: EidKey, then: Instant) -> bool {
        self.known
            .get(&key)
            .is_some_and(|known| known.since <= then)
    }

    /// What was learned of this prefix holds for so long from now on, if it was used meanwhile.
    pub(super) fn renew(&mut self, now: Instant, key: EidKey, lifetime: Duration) {
        if let Some(known) = self.known.get_mut(&key)
            && known.is_used
        {
            self.by_due.remove(&(known.due, key));
            known.expires = now + lifetime;
            known.due = now + until_refresh(lifetime);
            known.is_used = false;
            self.by_due.insert((known.due, key));
        }
    }

    pub(super) fn remove(&mut self, key: EidKey) -> bool {
        let Some(known) = self.known.remove(&key) else {
            return false;
        };
        self.by_due.remove(&(known.due, key));
        self.by_worth.remove(&(known.is_positive, known.used, key));
        true
    }

    pub(super) fn note_used(&mut self, now: Instant, key: EidKey) {
        if let Some(known) = self.known.get_mut(&key) {
            self.by_worth.remove(&(known.is_positive, known.used, key));
            known.used = now;
            known.is_used = true;
            self.by_worth.insert((known.is_positive, now, key));
        }
    }

    /// Whether there is an entry for this prefix, or for one around it.
    pub(super) fn covers(&self, key: EidKey) -> bool {
        self.covers_from(key, 0)
    }

    /// The same, of those that are not shorter than that.
    pub(super) fn covers_from(&self, key: EidKey, shortest: u8) -> bool {
        (shortest..=key.eid.prefix_len()).rev().any(|length| {
            IpNet::new(key.eid.addr(), length).is_ok_and(|eid| {
                let eid = eid.trunc();
                self.known.contains_key(&EidKey { eid, ..key })
            })
        })
    }

    /// Entries under a prefix, itself excluded.
    pub(super) fn under(&self, prefix: EidKey) -> impl Iterator<Item = EidKey> + '_ {
        let from = (Bound::Excluded(prefix), Bound::Unbounded);
        let keys = self.known.range(from).map(|(key, _)| *key);
        keys.take_while(move |key| is_within(*key, prefix))
    }

    /// When the entry is looked at next.
    #[cfg(test)]
    pub(super) fn due(&self, key: EidKey) -> Option<Instant> {
        self.known.get(&key).map(|known| known.due)
    }

    /// How an entry stands.
    #[cfg(test)]
    pub(super) fn standing(&self, now: Instant, key: EidKey) -> Option<Standing> {
        let known = self.known.get(&key)?;
        Some(Standing {
            is_positive: known.is_positive,
            is_used: known.is_used,
            is_ending: known.due == known.expires && known.since < now,
        })
    }

    /// When the entry ends.
    pub(super) fn expires(&self, key: EidKey) -> Option<Instant> {
        self.known.get(&key).map(|known| known.expires)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = EidKey> + '_ {
        self.known.keys().copied()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// The next thing that is due.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Due> {
        while let Some((due, key)) = self.by_due.first().copied()
            && due <= now
        {
            let Some(known) = self.known.get_mut(&key) else {
                self.by_due.remove(&(due, key));
                continue;
            };
            if known.expires <= now {
                self.remove(key);
                return Some(Due::Expired(key));
            }
            self.by_due.remove(&(due, key));
            let refresh = known.since + until_refresh(known.expires - known.since);
            let is_early = due < refresh;
            known.due = if is_early { refresh } else { known.expires };
            self.by_due.insert((known.due, key));
            if known.is_used || is_early {
                return Some(Due::Refresh(key));
            }
        }
        None
    }
}

/// When an entry in use is asked for again.
fn until_refresh(lifetime: Duration) -> Duration {
    lifetime - (lifetime / 6).min(REFRESH_BEFORE)
}
