//! The map-cache as the operator sees it (RFC 9300 6): mappings added at run time, those of the configuration, and those
//! that were learned from the mapping system; for one prefix they come in this order.
//!
//! Key: instance and EID prefix. Value: up to three mappings, the one in force in front. A million of them take some
//! 200 MB here; the packet path has a smaller form of its own. Every change is logarithmic in their number. Nothing is
//! ever refused here: what may stand in it was judged before.

mod rlocs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Instant;

use ipnet::IpNet;

use super::mapping::{EidKey, InstanceId, Mapping};
use rlocs::Rlocs;

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    Static,
    /// Somebody at the admin socket.
    Admin,
    /// The mapping system (RFC 9301), for a time.
    Learned,
}

impl Origin {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Admin => "admin",
            Self::Learned => "learned",
        }
    }
}

/// What [`MapCache::delete`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone; the one of the configuration, if there is one, is in force again.
    Yes,
    /// There is only the configuration's, which stays.
    OnlyStatic,
    /// There is only one that was learned, which goes when its time is over.
    OnlyLearned,
    /// There is none.
    Unknown,
}

/// What is known of one key: one of the three mappings at least.
#[derive(Debug, Clone, Default)]
struct Slot {
    configured: Option<Mapping>,
    added: Option<Mapping>,
    /// On the heap: most slots of a large map-cache have none.
    learned: Option<Box<Learned>>,
    /// When a packet was last known to have used it.
    used: Option<Instant>,
}

/// What was learned, and until when it holds.
#[derive(Debug, Clone)]
struct Learned {
    mapping: Mapping,
    expires: Instant,
}

impl Slot {
    fn in_force(&self) -> Option<(Origin, &Mapping)> {
        let added = self.added.as_ref().map(|mapping| (Origin::Admin, mapping));
        let configured = self.configured.as_ref();
        let configured = configured.map(|mapping| (Origin::Static, mapping));
        let learned = self.learned.as_ref();
        let learned = learned.map(|learned| (Origin::Learned, &learned.mapping));
        added.or(configured).or(learned)
    }
}

/// A mapping that is in force.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// What it is for.
    pub key: EidKey,
    /// Who said it.
    pub origin: Origin,
    /// What is said.
    pub mapping: &'a Mapping,
    /// When a packet was last known to have used it.
    pub used: Option<Instant>,
    /// Until when it holds, if it was learned.
    pub expires: Option<Instant>,
}

/// Instance, whether it is IPv4, prefix length.
type Length = (InstanceId, bool, u8);

/// The map-cache.
#[derive(Debug, Default)]
pub struct MapCache {
    slots: BTreeMap<EidKey, Slot>,
    /// Locators of mappings in force.
    rlocs: Rlocs,
    /// Locators taken out of use everywhere.
    down: BTreeSet<IpAddr>,
    /// Slots of each instance, family and prefix length.
    lengths: BTreeMap<Length, usize>,
    added: usize,
    /// Where [`MapCache::note_use`] goes on.
    sweep: Option<EidKey>,
}

impl MapCache {
    /// Nothing known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Mappings in force.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no mapping.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Of them, those of an instance.
    #[must_use]
    pub fn len_of(&self, instance: InstanceId) -> usize {
        let lengths = (instance, false, 0)..=(instance, true, u8::MAX);
        self.lengths.range(lengths).map(|(_, slots)| slots).sum()
    }

    /// Of them, those added at run time.
    #[must_use]
    pub fn added(&self) -> usize {
        self.added
    }

    /// The mapping in force for exactly this prefix.
    #[must_use]
    pub fn entry(&self, key: EidKey) -> Option<Entry<'_>> {
        self.slots.get(&key).and_then(|slot| entry(key, slot))
    }

    /// The mapping for the longest prefix around this one, itself included, that has one.
    #[must_use]
    pub fn lookup(&self, key: EidKey) -> Option<Entry<'_>> {
        let (instance, is_v4, longest) = length(key);
        let lengths = (instance, is_v4, 0)..=(instance, is_v4, longest);
        let lengths = self.lengths.range(lengths);
        lengths.rev().find_map(|((_, _, length), _)| {
            let eid = IpNet::new(key.eid.addr(), *length).ok()?.trunc();
            self.entry(EidKey { eid, ..key })
        })
    }

    /// All mappings in force from `start` on, in order.
    pub fn entries_from(&self, start: Bound<EidKey>) -> impl Iterator<Item = Entry<'_>> {
        let slots = self.slots.range((start, Bound::Unbounded));
        slots.filter_map(|(key, slot)| entry(*key, slot))
    }

    /// All mappings in force, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries_from(Bound::Unbounded)
    }

    /// Every locator of a mapping in force, and of how many.
    pub fn rlocs(&self) -> impl Iterator<Item = (IpAddr, usize)> + '_ {
        self.rlocs.iter()
    }

    /// How many mappings in force name a locator.
    #[must_use]
    pub fn users(&self, rloc: IpAddr) -> usize {
        self.rlocs.users(rloc)
    }

    /// Some prefixes that lead to a locator, and whether any of them was learned; `None`: no mapping names it.
    #[must_use]
    pub fn examples(&self, rloc: IpAddr) -> Option<(&[EidKey], bool)> {
        self.rlocs.examples(rloc)
    }

    /// Locators for which [`MapCache::examples`] says something else than when this was last asked.
    pub fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        self.rlocs.take_touched()
    }

    /// Add a mapping, or replace the one that was added before. Whether another is in force now.
    pub fn add(&mut self, key: EidKey, mapping: Mapping) -> bool {
        let mut added_one = false;
        let changed = self.change(key, |slot| {
            added_one = slot.added.is_none();
            slot.added = Some(mapping);
        });
        if added_one {
            self.added += 1;
        }
        changed
    }

    /// Delete a mapping that was added.
    pub fn delete(&mut self, key: EidKey) -> Deleted {
        match self.slots.get(&key) {
            None => return Deleted::Unknown,
            Some(Slot {
                added: None,
                configured: None,
                ..
            }) => return Deleted::OnlyLearned,
            Some(Slot { added: None, .. }) => return Deleted::OnlyStatic,
            Some(_) => {}
        }
        self.added -= 1;
        self.change(key, |slot| slot.added = None);
        Deleted::Yes
    }

    /// The mapping system says this until then. Whether another mapping is in force now.
    pub fn learn(&mut self, key: EidKey, mapping: Mapping, expires: Instant) -> bool {
        self.change(key, |slot| {
            slot.learned = Some(Box::new(Learned { mapping, expires }));
        })
    }

    /// What was learned does not hold any more. Whether another mapping, or none, is in force now.
    pub fn unlearn(&mut self, key: EidKey) -> bool {
        self.slots.contains_key(&key) && self.change(key, |slot| slot.learned = None)
    }

    /// Keys for which something was learned, in force or not.
    pub fn learned(&self) -> impl Iterator<Item = (EidKey, &Mapping)> + '_ {
        self.slots.iter().filter_map(|(key, slot)| {
            let learned = slot.learned.as_ref()?;
            Some((*key, &learned.mapping))
        })
    }

    /// The same behind one of them, with when it ends.
    pub fn learned_behind(
        &self,
        after: Option<EidKey>,
    ) -> impl Iterator<Item = (EidKey, &Mapping, Instant)> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.slots.range((from, Bound::Unbounded));
        slots.filter_map(|(key, slot)| {
            let learned = slot.learned.as_ref()?;
            Some((*key, &learned.mapping, learned.expires))
        })
    }

    /// The configuration has these mappings now. Keys for which another mapping, or none, is in force afterwards.
    pub fn configure(
        &mut self,
        mappings: impl IntoIterator<Item = (EidKey, Mapping)>,
    ) -> Vec<EidKey> {
        let mut new: BTreeMap<EidKey, Mapping> = mappings.into_iter().collect();
        let old = self.slots.iter();
        let old = old.filter(|(_, slot)| slot.configured.is_some());
        let gone: Vec<EidKey> = old
            .filter(|(key, _)| !new.contains_key(*key))
            .map(|(key, _)| *key)
            .collect();
        let mut changed = Vec::new();
        for key in gone {
            if self.change(key, |slot| slot.configured = None) {
                changed.push(key);
            }
        }
        while let Some((key, mapping)) = new.pop_first() {
            if self.change(key, |slot| slot.configured = Some(mapping)) {
                changed.push(key);
            }
        }
        changed
    }

    /// Take a locator out of use in every mapping, those that come later too, or back. Whether that is new.
    pub fn set_rloc(&mut self, rloc: IpAddr, up: bool) -> bool {
        if up {
            self.down.remove(&rloc)
        } else {
            self.down.insert(rloc)
        }
    }

    /// Whether the locator is in use as far as [`MapCache::set_rloc`] was told.
    #[must_use]
    pub fn is_up(&self, rloc: IpAddr) -> bool {
        !self.down.contains(&rloc)
    }

    /// Locators taken out of use.
    pub fn down(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.down.iter().copied()
    }

    /// Ask of the next `count` mappings whether a packet used them since they were asked last, round and round.
    pub fn note_use(
        &mut self,
        now: Instant,
        count: usize,
        mut was_used: impl FnMut(EidKey, &Mapping) -> bool,
    ) {
        let start = self.sweep.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let slots = self.slots.range_mut((start, Bound::Unbounded));
        let mut asked = 0;
        for (key, slot) in slots.take(count) {
            asked += 1;
            last = Some(*key);
            let in_force = slot.in_force().map(|(_, mapping)| mapping);
            if in_force.is_some_and(|mapping| was_used(*key, mapping)) {
                slot.used = Some(now);
            }
            if self.rlocs.is_lacking()
                && let Some((_, mapping)) = slot.in_force()
            {
                self.rlocs.pass(*key, mapping);
            }
        }
        // At the end: from the beginning next time.
        self.sweep = if asked == count { last } else { None };
    }

    /// Ask of this one.
    pub fn note_use_of(
        &mut self,
        now: Instant,
        key: EidKey,
        was_used: impl FnOnce(&Mapping) -> bool,
    ) {
        if let Some(slot) = self.slots.get_mut(&key)
            && let Some((_, mapping)) = slot.in_force()
            && was_used(mapping)
        {
            slot.used = Some(now);
        }
    }

    /// Change a slot and whatever follows from it; whether another mapping, or none, is in force then.
    fn change(&mut self, key: EidKey, edit: impl FnOnce(&mut Slot)) -> bool {
        let slot = self.slots.entry(key).or_insert_with(|| {
            *self.lengths.entry(length(key)).or_default() += 1;
            Slot::default()
        });
        let before = slot.in_force();
        let before = before.map(|(origin, mapping)| (origin, mapping.clone()));
        edit(slot);
        let after = slot.in_force();
        if before.as_ref().map(|(origin, mapping)| (*origin, mapping)) == after {
            return false;
        }
        if let Some((origin, mapping)) = after {
            self.rlocs.add(key, origin, mapping);
        }
        let after = after.map(|(_, mapping)| mapping);
        if let Some((origin, mapping)) = &before {
            self.rlocs.remove(key, *origin, mapping, after);
        }
        let is_other = before.as_ref().map(|(_, mapping)| mapping) != after;
        let is_gone = after.is_none();
        if is_gone {
            self.slots.remove(&key);
            if let Some(slots) = self.lengths.get_mut(&length(key)) {
                *slots -= 1;
                if *slots == 0 {
                    self.lengths.remove(&length(key));
                }
            }
        }
        is_other
    }
}

fn length(key: EidKey) -> Length {
    let is_v4 = key.eid.addr().is_ipv4();
    (key.instance, is_v4, key.eid.prefix_len())
}

fn entry(key: EidKey, slot: &Slot) -> Option<Entry<'_>> {
    let (origin, mapping) = slot.in_force()?;
    Some(Entry {
        key,
        origin,
        mapping,
        used: slot.used,
        expires: match (origin, &slot.learned) {
            (Origin::Learned, Some(learned)) => Some(learned.expires),
            _ => None,
        },
    })
}
