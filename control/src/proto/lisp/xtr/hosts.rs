//! EID hosts that may be at any site: those of `dynamic_eids`.
//!
//! ```text
//!                        heard on an interface
//!        (nowhere) ------------------------------> HERE <-----+
//!         ^  ^  ^                                  |  |  |    | heard on another interface
//!         |  |  +----------------------------------+  |  +----+
//!         |  |     silent, or no longer dynamic       |
//!         |  +----------------------------------------+
//!         |        registered elsewhere, not at home  |
//!         |                                           | registered elsewhere, at home
//!         |        the mapping system                 v
//!         +-------------------------------------- AWAY -- heard --> HERE
//!                  knows no other place
//! ```
//!
//! HERE: its packets are delivered by an interface, it is registered by itself, and others are told. AWAY: its prefix is
//! ours, but it is at another site: packets for it are sent there, nobody is told that it is ours, and the mapping system
//! is asked now and then whether that still holds. Of a host whose prefix is another site's there is nothing to keep when
//! it goes: what was learned of it stands in the map-cache.
//!
//! A host that is heard at two sites at a time would move without end: each may come a few times at once, then one time in
//! some seconds. Bounded in all and for each interface; what is beyond is not a host of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::Record;
use crate::proto::ndp::InterfaceIndex;
use crate::proto::ndp::bucket::TokenBucket;

/// Hosts that are here or away, most.
pub(super) const HOSTS_MAX: usize = 4096;
/// Hosts at one interface, most.
pub(super) const HOSTS_PER_INTERFACE: usize = 1024;
/// How often one host may come: once in so long, and so often at once.
const COMES: (Duration, u32) = (Duration::from_secs(5), 5);
/// Hosts that were not found here and are asked for, a second and at once: whoever scans the prefix finds none.
const ASKED: (u32, u32) = (10, 50);
/// How often the mapping system is asked where a host is that is away.
const CHECK: Duration = Duration::from_secs(60);

/// Where a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At this interface.
    Here(InterfaceIndex),
    /// At another site, though its prefix is ours.
    Away,
}

/// What became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occurrence {
    /// It spoke on an interface.
    Heard(InterfaceIndex),
    /// It does not answer there.
    Silent(InterfaceIndex),
    /// It is registered at another site; whether its prefix is ours.
    Elsewhere { at_home: bool },
    /// It is registered nowhere else.
    Nowhere,
    /// Its prefix is not one of `dynamic_eids` any more.
    Fixed,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// It is ours now: it is registered, and others are told.
    Came,
    /// It is at another interface of ours.
    Shifted,
    /// It is no longer ours, and that is said.
    Left,
    /// It is another site's, which has said so.
    Lost,
    /// It may be where its prefix is.
    Settled,
}

/// One transition of the diagram above.
pub(super) fn step(place: Option<Place>, occurrence: Occurrence) -> (Option<Place>, Change) {
    use Occurrence::{Elsewhere, Fixed, Heard, Nowhere, Silent};
    use Place::{Away, Here};
    match (place, occurrence) {
        (None | Some(Away), Heard(at)) => (Some(Here(at)), Change::Came),
        (Some(Here(before)), Heard(at)) if before != at => (Some(Here(at)), Change::Shifted),
        (Some(Here(before)), Silent(at)) if before == at => (None, Change::Left),
        (Some(Here(_)), Fixed) => (None, Change::Left),
        (Some(Here(_)), Elsewhere { at_home: true }) => (Some(Away), Change::Lost),
        (Some(Here(_)), Elsewhere { at_home: false }) => (None, Change::Lost),
        (None, Elsewhere { at_home: true }) => (Some(Away), Change::Lost),
        (Some(Away), Nowhere | Fixed) => (None, Change::Settled),
        (Some(Here(_)), Heard(_) | Silent(_) | Nowhere)
        | (Some(Away), Silent(_) | Elsewhere { .. })
        | (None, Silent(_) | Elsewhere { .. } | Nowhere | Fixed) => (place, Change::None),
    }
}

#[derive(Debug)]
struct Host {
    /// `None`: it was here, and is remembered for how often it came.
    place: Option<Place>,
    since: Instant,
    comes: TokenBucket,
}

#[derive(Debug)]
pub(super) struct Hosts {
    known: BTreeMap<EidKey, Host>,
    at: BTreeMap<InterfaceIndex, usize>,
    away: BTreeSet<EidKey>,
    /// What the mapping system said of those that are away.
    mappings: BTreeMap<EidKey, Record>,
    checks: BTreeSet<(Instant, EidKey)>,
    asked: TokenBucket,
}

impl Hosts {
    pub(super) fn new(now: Instant) -> Self {
        let (per_second, burst) = ASKED;
        Self {
            known: BTreeMap::new(),
            at: BTreeMap::new(),
            away: BTreeSet::new(),
            mappings: BTreeMap::new(),
            checks: BTreeSet::new(),
            asked: TokenBucket::new(now, per_second, burst),
        }
    }

    /// Whether a host that was not found here may be asked for.
    pub(super) fn may_ask(&mut self, now: Instant) -> bool {
        self.asked.take(now, 0)
    }

    /// Something became known of a host; `Err`: which limit is in the way.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        key: EidKey,
        occurrence: Occurrence,
    ) -> Result<Change, &'static str> {
        let place = self.place(key);
        let (next, change) = step(place, occurrence);
        if next == place {
            return Ok(change);
        }
        if !self.known.contains_key(&key) && self.known.len() >= HOSTS_MAX {
            return Err("limit_hosts");
        }
        if let Some(Place::Here(at)) = next {
            if self
                .at
                .get(&at)
                .is_some_and(|at| *at >= HOSTS_PER_INTERFACE)
            {
                return Err("limit_hosts_of_interface");
            }
            let host = self.known.get_mut(&key);
            if host.is_some_and(|host| !host.comes.take(now, 0)) {
                return Err("limit_host_moves");
            }
            *self.at.entry(at).or_default() += 1;
        }
        if let Some(Place::Here(at)) = place
            && let Some(count) = self.at.get_mut(&at)
        {
            *count -= 1;
            if *count == 0 {
                self.at.remove(&at);
            }
        }
        self.away.remove(&key);
        self.mappings.remove(&key);
        if next == Some(Place::Away) {
            self.away.insert(key);
        }
        if !matches!(next, Some(Place::Here(_))) {
            self.checks.insert((now + CHECK, key));
        }
        let host = self.known.entry(key).or_insert_with(|| {
            let (pause, burst) = COMES;
            Host {
                place: None,
                since: now,
                comes: TokenBucket::every(now, pause, burst),
            }
        });
        (host.place, host.since) = (next, now);
        Ok(change)
    }

    pub(super) fn place(&self, key: EidKey) -> Option<Place> {
        self.known.get(&key).and_then(|host| host.place)
    }

    /// All of them: where they are, and since when.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EidKey, Place, Instant)> + '_ {
        let known = self.known.iter();
        known.filter_map(|(key, host)| Some((*key, host.place?, host.since)))
    }

    /// Those whose prefix is ours, and that are not here.
    pub(super) fn away(&self) -> &BTreeSet<EidKey> {
        &self.away
    }

    /// The mapping system says where a host is that is away.
    pub(super) fn note_mapping(&mut self, key: EidKey, record: &Record) {
        if self.away.contains(&key) {
            let record = Record {
                key,
                ..record.clone()
            };
            self.mappings.insert(key, record);
        }
    }

    /// What it said last.
    pub(super) fn mapping(&self, key: EidKey) -> Option<&Record> {
        self.mappings.get(&key)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.checks.first().map(|(due, _)| *due)
    }

    /// The next host that is away and of which the mapping system is to be asked.
    pub(super) fn poll_check(&mut self, now: Instant) -> Option<EidKey> {
        while let Some((due, key)) = self.checks.first().copied()
            && due <= now
        {
            self.checks.remove(&(due, key));
            match self.known.get(&key) {
                // A later one is there, or none is needed.
                Some(host) if now < host.since + CHECK => {}
                Some(Host {
                    place: Some(Place::Away),
                    ..
                }) => {
                    self.checks.insert((now + CHECK, key));
                    return Some(key);
                }
                Some(Host { place: None, .. }) => drop(self.known.remove(&key)),
                Some(Host {
                    place: Some(Place::Here(_)),
                    ..
                })
                | None => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [Option<Place>; 4] = [
        None,
        Some(Place::Here(InterfaceIndex(1))),
        Some(Place::Here(InterfaceIndex(2))),
        Some(Place::Away),
    ];

    /// Every state and event.
    #[test]
    fn the_whole_transition_table() {
        use Change::{Came, Left, Lost, Settled, Shifted};
        let [nowhere, one, two, away] = PLACES;
        let heard = Occurrence::Heard(InterfaceIndex(1));
        let silent = Occurrence::Silent(InterfaceIndex(1));
        let taken = Occurrence::Elsewhere { at_home: true };
        let gone = Occurrence::Elsewhere { at_home: false };
        let (known_nowhere, fixed) = (Occurrence::Nowhere, Occurrence::Fixed);
        let same = Change::None;
        let table = [
            (
                heard,
                [(one, Came), (one, same), (one, Shifted), (one, Came)],
            ),
            (
                silent,
                [(nowhere, same), (nowhere, Left), (two, same), (away, same)],
            ),
            (
                taken,
                [(away, Lost), (away, Lost), (away, Lost), (away, same)],
            ),
            (
                gone,
                [
                    (nowhere, same),
                    (nowhere, Lost),
                    (nowhere, Lost),
                    (away, same),
                ],
            ),
            (
                known_nowhere,
                [
                    (nowhere, same),
                    (one, same),
                    (two, same),
                    (nowhere, Settled),
                ],
            ),
            (
                fixed,
                [
                    (nowhere, same),
                    (nowhere, Left),
                    (nowhere, Left),
                    (nowhere, Settled),
                ],
            ),
        ];
        for (occurrence, expected) in table {
            for (place, expected) in PLACES.into_iter().zip(expected) {
                assert_eq!(
                    step(place, occurrence),
                    expected,
                    "{place:?} {occurrence:?}"
                );
            }
        }
    }
}
