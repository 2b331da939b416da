//! Registered EIDs: found by the longest prefix, by ETR, and when they run out.
//!
//! Key: instance and prefix. Value: one registration of each ETR, the newest in front. With one ETR and two locators an
//! EID takes some 220 bytes: two nodes of the tree, an entry, its locators, a place in the timetable; a host some 15
//! more, by which it is found at once. Other look-ups and changes cost a step per bit at most. Full at a number its owner
//! gives; then new EIDs are refused and known ones still refreshed.

mod hosts;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::listing::last_of;
use super::trie::{Bits, Trie};
use crate::proto::lisp::wire::{Act, LocatorRecord, Record};
use crate::proto::lisp::{EidKey, InstanceId};
use hosts::Hosts;

/// Whole seconds since the machine was made.
pub(super) type Seconds = u32;

/// What has a tree of its own: an instance, and whether IPv4.
type Family = (InstanceId, bool);

/// Which ETR: a place in [`Database::etrs`].
pub(super) type EtrId = u32;

/// What an ETR is told apart by within its site: its xTR-ID, or its address where it says none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Xtr(u128),
    Address(IpAddr),
}

/// An ETR that has registered something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Etr {
    pub(super) site: u32,
    pub(super) who: Who,
    /// Source of its last Map-Register.
    pub(super) address: IpAddr,
    pub(super) key_id: u8,
    pub(super) algorithm_id: u8,
    pub(super) mac_len: u8,
    /// Registrations that are its, and one more for each time it was noted and not released: kept by the database.
    pub(super) uses: u32,
}

/// What one ETR registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) locators: Box<[LocatorRecord]>,
    pub(super) etr: EtrId,
    pub(super) expires: Seconds,
    pub(super) ttl_minutes: u32,
    pub(super) map_version: u16,
    pub(super) proxy_reply: bool,
    pub(super) merge: bool,
}

/// A registered EID: at least one registration.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: EidKey,
    pub(super) newest: Registration,
    /// Newest first. Most have none, which takes no memory of its own.
    pub(super) others: Vec<Registration>,
    /// When the timetable looks at it.
    due: Seconds,
}

impl Entry {
    pub(super) fn registrations(&self) -> impl Iterator<Item = &Registration> {
        std::iter::once(&self.newest).chain(&self.others)
    }

    /// The newest, and those of other routers of its site: they merge with it, or say the same. What else is there was
    /// registered before the EID moved.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Registration> {
        self.registrations().filter(|one| {
            (self.newest.merge && one.merge) || same_rlocs(&self.newest.locators, &one.locators)
        })
    }

    /// Whether any ETR lets us answer (RFC 9301 8.3).
    pub(super) fn proxy_reply(&self) -> bool {
        self.registrations().any(|one| one.proxy_reply)
    }

    /// What is in force: the newest registration, with the locators of the others where all of them merge.
    pub(super) fn record(&self) -> Record {
        let mut record = Record {
            map_version: self.newest.map_version,
            locators: self.newest.locators.to_vec(),
            ..Record::negative(self.key, Act::default(), self.newest.ttl_minutes)
        };
        if self.newest.merge {
            for other in self.others.iter().filter(|other| other.merge) {
                for locator in &other.locators {
                    if record
                        .locators
                        .iter()
                        .all(|known| known.rloc != locator.rloc)
                    {
                        record.locators.push(*locator);
                    }
                }
            }
        }
        record
    }

    fn earliest(&self) -> Seconds {
        let expiries = self.registrations().map(|one| one.expires);
        expiries.min().unwrap_or(self.newest.expires)
    }
}

/// What [`Database::register`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A new EID, or one that stays where it is.
    Stays,
    /// It was at these ETRs, with other locators.
    Moved(Vec<EtrId>),
    /// No room for another EID.
    Full,
}

/// The registrations.
#[derive(Debug)]
pub(super) struct Database {
    tries: BTreeMap<Family, Trie>,
    hosts: Hosts,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    count: usize,
    /// Entries by the second they are looked at. One that was scheduled anew stands there twice and is skipped once.
    timetable: BTreeMap<Seconds, Vec<u32>>,
    etrs: Vec<Option<Etr>>,
    etrs_free: Vec<EtrId>,
    etr_ids: BTreeMap<(u32, Who), EtrId>,
}

impl Database {
    /// Nothing is registered; `seed` makes it hard to choose EIDs that take long to find.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            tries: BTreeMap::new(),
            hosts: Hosts::new(seed),
            entries: Vec::new(),
            free: Vec::new(),
            count: 0,
            timetable: BTreeMap::new(),
            etrs: Vec::new(),
            etrs_free: Vec::new(),
            etr_ids: BTreeMap::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn etr(&self, id: EtrId) -> Option<&Etr> {
        self.etrs.get(index(id))?.as_ref()
    }

    /// The ETR of this name, new or known, as its message says but for what is registered. It stays until it is released,
    /// and while something is registered by it.
    pub(super) fn note_etr(&mut self, etr: Etr) -> EtrId {
        let name = (etr.site, etr.who);
        if let Some(id) = self.etr_ids.get(&name).copied() {
            if let Some(Some(known)) = self.etrs.get_mut(index(id)) {
                let uses = known.uses.saturating_add(1);
                *known = Etr { uses, ..etr };
            }
            return id;
        }
        let id = place(&mut self.etrs, &mut self.etrs_free, Etr { uses: 1, ..etr });
        self.etr_ids.insert(name, id);
        id
    }

    /// One use less of an ETR, which is forgotten with the last.
    pub(super) fn release_etr(&mut self, id: EtrId) {
        let Some(slot) = self.etrs.get_mut(index(id)) else {
            return;
        };
        if let Some(etr) = slot {
            etr.uses = etr.uses.saturating_sub(1);
        }
        if let Some(etr) = slot.take_if(|etr| etr.uses == 0) {
            self.etr_ids.remove(&(etr.site, etr.who));
            self.etrs_free.push(id);
        }
    }

    /// One use more.
    fn use_etr(&mut self, id: EtrId) {
        if let Some(Some(etr)) = self.etrs.get_mut(index(id)) {
            etr.uses = etr.uses.saturating_add(1);
        }
    }

    pub(super) fn register(&mut self, key: EidKey, new: Registration, max: usize) -> Outcome {
        let (family, prefix) = bits(key);
        let etr = new.etr;
        let Some(at) = self.place(key) else {
            if self.count >= max {
                return Outcome::Full;
            }
            let due = new.expires;
            let entry = Entry {
                key,
                newest: new,
                others: Vec::new(),
                due,
            };
            let at = place(&mut self.entries, &mut self.free, entry);
            let trie = self.tries.entry(family).or_insert_with(Trie::new);
            trie.insert(prefix, at);
            if let Some(hash) = self.hosts.hash(family, prefix) {
                self.hosts.insert(hash, at);
            }
            self.count += 1;
            self.timetable.entry(due).or_default().push(at);
            self.use_etr(etr);
            return Outcome::Stays;
        };
        let Some(Some(entry)) = self.entries.get_mut(index(at)) else {
            return Outcome::Full;
        };
        let mut outcome = Outcome::Stays;
        let mut is_added = false;
        if entry.newest.etr == etr {
            entry.newest = new;
        } else {
            let is_elsewhere = !new.merge && !same_rlocs(&entry.newest.locators, &new.locators);
            let known = entry.others.iter().position(|other| other.etr == etr);
            match known {
                Some(known) => {
                    entry.others.remove(known);
                }
                None => is_added = true,
            }
            let before = std::mem::replace(&mut entry.newest, new);
            entry.others.insert(0, before);
            if is_elsewhere {
                outcome = Outcome::Moved(entry.others.iter().map(|other| other.etr).collect());
            }
        }
        let earliest = entry.earliest();
        if earliest < entry.due {
            entry.due = earliest;
            self.timetable.entry(earliest).or_default().push(at);
        }
        if is_added {
            self.use_etr(etr);
        }
        outcome
    }

    /// Take back what an ETR registered; whether there was something.
    pub(super) fn withdraw(&mut self, key: EidKey, etr: EtrId) -> bool {
        let at = self.place(key);
        at.is_some_and(|at| self.retain(at, |one| one.etr != etr) > 0)
    }

    /// Let go of what has run out; how many registrations that were.
    pub(super) fn expire(&mut self, now: Seconds) -> u64 {
        let mut expired = 0;
        while let Some(first) = self.timetable.first_entry()
            && *first.key() <= now
        {
            let (second, due) = first.remove_entry();
            for at in due {
                let entry = self.entries.get(index(at)).and_then(Option::as_ref);
                if entry.is_some_and(|entry| entry.due == second) {
                    expired += self.retain(at, |one| one.expires > now);
                    self.schedule(at);
                }
            }
        }
        expired
    }

    /// When [`Database::expire`] has something to look at.
    pub(super) fn next_expiry(&self) -> Option<Seconds> {
        self.timetable.keys().next().copied()
    }

    /// Keep only registrations that are still allowed.
    pub(super) fn retain_all(&mut self, mut keep: impl FnMut(EidKey, &Etr) -> bool) {
        for at in 0..self.entries.len() {
            let Some(Some(entry)) = self.entries.get(at) else {
                continue;
            };
            let key = entry.key;
            let gone: Vec<EtrId> = entry
                .registrations()
                .map(|one| one.etr)
                .filter(|id| !self.etr(*id).is_some_and(|etr| keep(key, etr)))
                .collect();
            if !gone.is_empty() {
                let at = u32::try_from(at).expect("places are numbered by 32 bits");
                self.retain(at, |one| !gone.contains(&one.etr));
            }
        }
    }

    /// The entry of the longest prefix around all of this one.
    pub(super) fn lookup(&self, key: EidKey) -> Option<&Entry> {
        let at = self.host(key).or_else(|| {
            let (family, prefix) = bits(key);
            let (_, at) = self.tries.get(&family)?.longest(prefix)?;
            Some(at)
        });
        self.entry(at?)
    }

    /// Bring near what [`Database::lookup`] of hosts reads. In rounds, because what one reads is where the next looks, and
    /// within a round none waits for another.
    pub(super) fn fetch(&self, keys: impl Iterator<Item = EidKey>) {
        let hashes = keys.filter_map(|key| {
            let (family, prefix) = bits(key);
            self.hosts.hash(family, prefix)
        });
        let hashes: Vec<u32> = hashes.collect();
        let near = hashes
            .iter()
            .fold(0, |near, hash| near ^ self.hosts.touch(*hash));
        // Not compared yet, which would wait for it.
        let places = hashes
            .iter()
            .filter_map(|hash| self.hosts.find(*hash, |_| true));
        let places: Vec<u32> = places.collect();
        let entries = || places.iter().filter_map(|at| self.entry(*at));
        let near = entries().fold(near, |near, entry| near ^ entry.due ^ entry.newest.expires);
        let locators = entries().filter_map(|entry| entry.newest.locators.first());
        let near = locators.fold(near, |near, locator| near ^ u32::from(locator.priority));
        std::hint::black_box(near);
    }

    /// Where the registrations of a host are, if it is one.
    fn host(&self, key: EidKey) -> Option<u32> {
        let (family, prefix) = bits(key);
        let hash = self.hosts.hash(family, prefix)?;
        let is = |at| self.entry(at).is_some_and(|entry| entry.key == key);
        self.hosts.find(hash, is)
    }

    /// Where the registrations of exactly this prefix are.
    fn place(&self, key: EidKey) -> Option<u32> {
        let (family, prefix) = bits(key);
        self.host(key)
            .or_else(|| self.tries.get(&family)?.value(prefix))
    }

    /// Entries within a prefix, itself included, in order.
    pub(super) fn within(&self, key: EidKey) -> impl Iterator<Item = &Entry> {
        let (family, prefix) = bits(key);
        // Within a host there is nothing else.
        let host = self.host(key);
        let trie = self.tries.get(&family).filter(|_| host.is_none());
        let found = trie.into_iter().flat_map(move |trie| trie.within(prefix));
        let found = host.into_iter().chain(found.map(|(_, at)| at));
        found.filter_map(|at| self.entry(at))
    }

    /// Length of the least specific prefix around an address without a registered one inside but those around it.
    pub(super) fn hole(&self, key: EidKey) -> u8 {
        let (family, prefix) = bits(key);
        self.tries.get(&family).map_or(0, |trie| trie.hole(prefix))
    }

    /// In order, behind one of them: entries of an instance or of all, within a prefix or all. Each with its key; and
    /// between two families a key without an entry, so that whoever counts what he takes counts them too.
    pub(super) fn ordered(
        &self,
        instance: Option<InstanceId>,
        within: Option<IpNet>,
        after: Option<EidKey>,
    ) -> impl Iterator<Item = (EidKey, Option<&Entry>)> {
        let after = after.map(bits);
        let least = (instance.unwrap_or_default(), false);
        let first = after.map_or(least, |(family, _)| family.max(least));
        let tries = self.tries.range(first..);
        let tries = tries.take_while(move |((id, _), _)| instance.is_none_or(|only| *id == only));
        tries.flat_map(move |(family, trie)| {
            let (id, is_v4) = *family;
            let of_family = within.is_none_or(|within| within.addr().is_ipv4() == is_v4);
            let around = within.map(|eid| bits(EidKey { instance: id, eid }).1);
            let around = around.unwrap_or(Bits::new(0, 0));
            let after = after.filter(|(of, _)| of == family);
            let found = of_family.then(|| match after {
                Some((_, after)) => trie.behind(around, after),
                None => trie.within(around),
            });
            let entries = found.into_iter().flatten();
            let entries = entries.filter_map(|(_, at)| self.entry(at));
            let entries = entries.map(|entry| (entry.key, Some(entry)));
            entries.chain(std::iter::once((last_of(id, is_v4), None)))
        })
    }

    /// All entries, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    /// Entries in some places, from the first, and the place behind them, if there is one.
    pub(super) fn places(
        &self,
        first: usize,
        count: usize,
    ) -> (impl Iterator<Item = &Entry>, Option<usize>) {
        let end = first.saturating_add(count).min(self.entries.len());
        let entries = self.entries.get(first..end).unwrap_or_default();
        (
            entries.iter().flatten(),
            (end < self.entries.len()).then_some(end),
        )
    }

    fn entry(&self, at: u32) -> Option<&Entry> {
        self.entries.get(index(at))?.as_ref()
    }

    /// Keep some of an entry's registrations, and the entry if any is kept; how many were not.
    fn retain(&mut self, at: u32, keep: impl Fn(&Registration) -> bool) -> u64 {
        let Some(slot) = self.entries.get_mut(index(at)) else {
            return 0;
        };
        let Some(entry) = slot else {
            return 0;
        };
        let mut gone = Vec::new();
        entry.others.retain(|one| {
            let is_kept = keep(one);
            if !is_kept {
                gone.push(one.etr);
            }
            is_kept
        });
        if !keep(&entry.newest) {
            gone.push(entry.newest.etr);
            if entry.others.is_empty() {
                let (family, prefix) = bits(entry.key);
                *slot = None;
                self.free.push(at);
                self.count -= 1;
                if let Some(hash) = self.hosts.hash(family, prefix) {
                    self.hosts.remove(hash, at);
                }
                if let Some(trie) = self.tries.get_mut(&family) {
                    trie.remove(prefix);
                    if trie.is_empty() {
                        self.tries.remove(&family);
                    }
                }
            } else {
                entry.newest = entry.others.remove(0);
            }
        }
        for etr in &gone {
            self.release_etr(*etr);
        }
        u64::try_from(gone.len()).unwrap_or(0)
    }

    fn schedule(&mut self, at: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(index(at)) {
            entry.due = entry.earliest();
            self.timetable.entry(entry.due).or_default().push(at);
        }
    }
}

/// `as`: widening.
const fn index(at: u32) -> usize {
    at as usize
}

/// Put a value where one was given up, or at the end.
fn place<T>(slots: &mut Vec<Option<T>>, free: &mut Vec<u32>, value: T) -> u32 {
    if let Some(at) = free.pop()
        && let Some(slot) = slots.get_mut(index(at))
    {
        *slot = Some(value);
        return at;
    }
    slots.push(Some(value));
    u32::try_from(slots.len() - 1).expect("memory ends before 2^32 places")
}

fn same_rlocs(left: &[LocatorRecord], right: &[LocatorRecord]) -> bool {
    let within = |these: &[LocatorRecord], those: &[LocatorRecord]| {
        these
            .iter()
            .all(|one| those.iter().any(|other| other.rloc == one.rloc))
    };
    within(left, right) && within(right, left)
}

/// The tree a prefix stands in, and its bits there.
pub(super) fn bits(key: EidKey) -> (Family, Bits) {
    let (bits, is_v4) = match key.eid.network() {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, true),
        IpAddr::V6(address) => (u128::from(address), false),
    };
    ((key.instance, is_v4), Bits::new(bits, key.eid.prefix_len()))
}

/// The first `len` bits of an EID.
pub(super) fn shortened(key: EidKey, len: u8) -> EidKey {
    let len = len.min(key.eid.max_prefix_len());
    let eid = IpNet::new(key.eid.network(), len).map_or(key.eid, |eid| eid.trunc());
    EidKey { eid, ..key }
}

/// The EID all of whose bits are those of the prefix, then zeros.
pub(super) fn host(key: EidKey) -> EidKey {
    let eid = IpNet::from(key.eid.network());
    EidKey { eid, ..key }
}

#[cfg(test)]
mod tests;
