//! Locator sets and locators: made once for all that say the same, counted by their users, written to the lines that workers
//! read.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::Ordering::{Relaxed, Release};

use arrayvec::ArrayVec;

use super::{Gone, LocatorInfo, LocatorKey, MapCache, Set, SetKey};
use crate::lisp::buckets::{self, Share};
use crate::lisp::flow::mix;
use crate::lisp::spec::{LOCATORS_MAX, LocatorSpec, MappingSpec};
use crate::lisp::table::{self, LAST_SLOT, NO_SLOT, negative, place_of};
use crate::lisp::template;
use crate::tables::VrfId;

impl MapCache {
    pub(super) fn take_set(&mut self, vrf: VrfId, spec: &MappingSpec, native: u32) -> u32 {
        let instance = self.instances.get(&vrf).copied().unwrap_or(0);
        let key = match spec {
            MappingSpec::Negative(act) => SetKey::Negative(*act, native),
            MappingSpec::Locators { locators, version } => {
                let mut locators = locators.clone();
                locators.sort_unstable();
                SetKey::Locators {
                    instance,
                    version: *version,
                    generation: self.generation,
                    locators,
                }
            }
        };
        if let Some(number) = self.set_numbers.get(&key) {
            let number = *number;
            if let Some(set) = self.sets.get_mut(&number) {
                set.users += 1;
            }
            if native != 0 {
                // The set has the next hop already.
                self.released.push(native);
            }
            return number;
        }
        let number = self.free_sets.take();
        self.set_numbers.insert(key.clone(), number);
        let mut slots = ArrayVec::new();
        if let SetKey::Locators {
            locators, version, ..
        } = &key
        {
            // Sorted by priority, heavier ones first where not all have room.
            let mut best: Vec<_> = locators.clone();
            best.sort_by_key(|locator| (locator.priority, std::cmp::Reverse(locator.weight)));
            for locator in best.into_iter().take(LOCATORS_MAX) {
                let key = LocatorKey {
                    rloc: locator.rloc,
                    instance,
                    version: *version,
                    generation: self.generation,
                };
                slots.push((locator, self.take_locator(key, number)));
            }
        }
        let set = Set {
            key,
            users: 1,
            slots,
        };
        self.write_set(number, &set);
        self.sets.insert(number, set);
        number
    }

    pub(super) fn release_set(&mut self, number: u32) {
        let Some(set) = self.sets.get_mut(&number) else {
            return;
        };
        set.users -= 1;
        if set.users == 0 {
            self.set_numbers.remove(&set.key);
            self.unmarked.push(Gone::Set(number));
        }
    }

    /// Nobody is at this set any more, nor by it at its locators.
    pub(super) fn free_set(&mut self, number: u32) {
        let Some(set) = self.sets.remove(&number) else {
            return;
        };
        if let SetKey::Negative(_, native) = set.key
            && native != 0
        {
            self.released.push(native);
        }
        for (_, locator) in set.slots {
            self.release_locator(locator, number);
        }
        self.free_sets.give_back(number);
    }

    pub(super) fn take_locator(&mut self, key: LocatorKey, set: u32) -> u32 {
        if let Some(number) = self.locator_numbers.get(&key) {
            if let Some(locator) = self.locators.get_mut(number) {
                locator.sets.insert(set);
            }
            return *number;
        }
        let number = self.free_locators.take();
        let line = self.shared.locators.at(number);
        let words = template::words(&self.settings, &key);
        for (cell, word) in line.0[1..].iter().zip(words) {
            cell.store(word, Relaxed);
        }
        let rloc = self.rlocs.entry(key.rloc).or_default();
        rloc.locators.push(number);
        self.locator_numbers.insert(key, number);
        self.locators.insert(
            number,
            LocatorInfo {
                key,
                sets: HashSet::from([set]),
            },
        );
        self.write_state(number, &self.rlocs[&key.rloc], key.rloc);
        number
    }

    pub(super) fn release_locator(&mut self, number: u32, set: u32) {
        let Entry::Occupied(mut locator) = self.locators.entry(number) else {
            return;
        };
        let sets = &mut locator.get_mut().sets;
        sets.remove(&set);
        if sets.is_empty() {
            let LocatorInfo { key, .. } = locator.remove();
            self.locator_numbers.remove(&key);
            if let Some(rloc) = self.rlocs.get_mut(&key.rloc) {
                rloc.locators.retain(|user| *user != number);
            }
            self.free_locators.give_back(number);
        }
    }

    /// Write a set that no mapping leads to yet.
    pub(super) fn write_set(&self, number: u32, set: &Set) {
        let mut words = [0_u64; 8];
        let mut place = |slot: u64, value: u32| {
            let (word, shift) = place_of(slot);
            words[word] |= u64::from(value) << shift;
        };
        match &set.key {
            SetKey::Negative(act, native) => {
                place(0, *native);
                place(LAST_SLOT, negative(*act));
            }
            SetKey::Locators { .. } => {
                for (slot, (_, locator)) in (0..).zip(&set.slots) {
                    place(slot, *locator);
                }
            }
        }
        let cells = &self.shared.sets.at(number).0;
        for (cell, word) in cells.iter().zip(words) {
            cell.store(word, Relaxed);
        }
        self.write_buckets(number, set);
    }

    /// Lead every bucket of a set to a locator that can be used now: one store for each 16 buckets.
    pub(super) fn write_buckets(&self, number: u32, set: &Set) {
        let buckets = buckets::fill(&self.shares(set));
        let cells = &self.shared.sets.at(number).0;
        for (index, cell) in cells[1..=table::BUCKETS / 16].iter().enumerate() {
            let mut word = 0;
            for at in 0..16 {
                let slot = buckets.map_or(NO_SLOT, |buckets| u64::from(buckets[index * 16 + at]));
                word |= slot << (at * 4);
            }
            cell.store(word, Release);
        }
    }

    pub(super) fn shares(&self, set: &Set) -> ArrayVec<Share, LOCATORS_MAX> {
        let share = |(spec, _): &(LocatorSpec, u32)| {
            let rloc = self.rlocs.get(&spec.rloc);
            Share {
                priority: spec.priority,
                weight: spec.weight,
                identity: identity(spec.rloc),
                is_usable: spec.up && rloc.is_some_and(|rloc| rloc.is_usable(spec.rloc)),
            }
        };
        set.slots.iter().map(share).collect()
    }
}

/// The same in every box.
fn identity(rloc: IpAddr) -> u64 {
    let bits = match rloc {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    };
    mix(mix((bits >> 64) as u64) ^ bits as u64) // `as`: the two halves
}
