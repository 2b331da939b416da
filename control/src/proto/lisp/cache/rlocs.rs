//! Which locators the mappings in force name, how often, and some of the prefixes that lead to each: who watches a locator
//! has to ask for one of them.
//!
//! Key: the locator. Some 150 bytes each. All examples of a locator may go while other mappings still name it; then the
//! sweep through the map-cache finds another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{EidKey, Mapping, Origin};

/// Prefixes that are remembered of each locator, most.
const EXAMPLES_MAX: usize = 4;

/// Mappings in force that name a locator.
#[derive(Debug, Default)]
struct Users {
    count: usize,
    /// Of them, those that were learned.
    learned: usize,
    /// Some of them.
    examples: Vec<EidKey>,
}

#[derive(Debug, Default)]
pub(super) struct Rlocs {
    known: BTreeMap<IpAddr, Users>,
    /// Locators of whose users something changed that matters to who watches them.
    touched: BTreeSet<IpAddr>,
    /// Locators that have users and no example.
    lacking: BTreeSet<IpAddr>,
}

impl Rlocs {
    /// This mapping is in force.
    pub(super) fn add(&mut self, key: EidKey, origin: Origin, mapping: &Mapping) {
        for locator in mapping.locators() {
            let users = self.known.entry(locator.rloc).or_default();
            users.count += 1;
            if origin == Origin::Learned {
                users.learned += 1;
                if users.learned == 1 {
                    self.touched.insert(locator.rloc);
                }
            }
            self.note(key, locator.rloc);
        }
    }

    /// This mapping was in force, and `now` is in its place.
    pub(super) fn remove(
        &mut self,
        key: EidKey,
        origin: Origin,
        mapping: &Mapping,
        now: Option<&Mapping>,
    ) {
        let stays = now.map_or(&[][..], Mapping::locators);
        for locator in mapping.locators() {
            let rloc = locator.rloc;
            let Some(users) = self.known.get_mut(&rloc) else {
                continue;
            };
            users.count -= 1;
            if origin == Origin::Learned {
                users.learned -= 1;
                if users.learned == 0 {
                    self.touched.insert(rloc);
                }
            }
            if users.count == 0 {
                self.known.remove(&rloc);
                self.lacking.remove(&rloc);
                self.touched.insert(rloc);
            } else if !stays.iter().any(|stays| stays.rloc == rloc)
                && let Some(position) = users.examples.iter().position(|known| *known == key)
            {
                users.examples.swap_remove(position);
                if users.examples.is_empty() {
                    self.lacking.insert(rloc);
                }
                self.touched.insert(rloc);
            }
        }
    }

    /// The sweep comes by this mapping.
    pub(super) fn pass(&mut self, key: EidKey, mapping: &Mapping) {
        for locator in mapping.locators() {
            if self.lacking.contains(&locator.rloc) {
                self.note(key, locator.rloc);
            }
        }
    }

    /// Whether [`Rlocs::pass`] has something to find.
    pub(super) fn is_lacking(&self) -> bool {
        !self.lacking.is_empty()
    }

    fn note(&mut self, key: EidKey, rloc: IpAddr) {
        if let Some(users) = self.known.get_mut(&rloc)
            && users.examples.len() < EXAMPLES_MAX
            && !users.examples.contains(&key)
        {
            users.examples.push(key);
            self.lacking.remove(&rloc);
            self.touched.insert(rloc);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, usize)> + '_ {
        self.known.iter().map(|(rloc, users)| (*rloc, users.count))
    }

    pub(super) fn users(&self, rloc: IpAddr) -> usize {
        self.known.get(&rloc).map_or(0, |users| users.count)
    }

    /// Some prefixes, and whether any mapping was learned.
    pub(super) fn examples(&self, rloc: IpAddr) -> Option<(&[EidKey], bool)> {
        let users = self.known.get(&rloc)?;
        Some((&users.examples, users.learned > 0))
    }

    pub(super) fn take_touched(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.touched)
    }
}
