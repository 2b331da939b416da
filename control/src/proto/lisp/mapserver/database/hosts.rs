//! Registered hosts by their address: a question for a /128 or a /32 that is registered itself needs no walk down the
//! tree, each step of which waits for memory.
//!
//! Key: 32 bits of a hash of instance, family and address; whoever asks compares the whole key where the place says the
//! EID is. Value: a place in the database. 8 bytes in a table that is between three eighths and three quarters full, so
//! 11 to 22 a host; a look-up costs one hash and mostly one line of memory. It grows by doubling, which takes as long as
//! reading all of it. The hash is keyed with a number nobody can guess, as sites choose EIDs.

use std::hash::{DefaultHasher, Hasher as _};

use super::Family;
use crate::proto::lisp::mapserver::trie::Bits;

/// No host's place: memory ends before.
const FREE: u32 = u32::MAX;
/// Slots of the smallest table.
const SLOTS_MIN: usize = 16;

/// A host's hash, and where it is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    place: u32,
}

impl Slot {
    const FREE: Self = Self {
        hash: 0,
        place: FREE,
    };
}

/// The places of hosts: a host is in the slot its hash names, or in one behind it, with no free one between.
#[derive(Debug)]
pub(super) struct Hosts {
    seed: u64,
    /// A power of two.
    slots: Vec<Slot>,
    taken: usize,
}

impl Hosts {
    /// None yet; `seed` keys the hash.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            slots: vec![Slot::FREE; SLOTS_MIN],
            taken: 0,
        }
    }

    /// What a host is found by; `None` for what is wider than one.
    pub(super) fn hash(&self, (instance, is_v4): Family, prefix: Bits) -> Option<u32> {
        let host_len = if is_v4 { 32 } else { 128 };
        (prefix.len == host_len).then(|| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.seed);
            // An instance has 24 bits.
            hasher.write_u64(u64::from(u32::from(instance)) << 1 | u64::from(is_v4));
            hasher.write_u64((prefix.bits >> 64) as u64); // `as`: the upper half
            hasher.write_u64(prefix.bits as u64); // `as`: the lower half
            hasher.finish() as u32 // `as`: some bits are as good as others
        })
    }

    /// Something of the slot a hash names, so that it is near when it is looked for.
    pub(super) fn touch(&self, hash: u32) -> u32 {
        self.slot(self.home(hash)).place
    }

    /// The place with this hash that `is` the host's.
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = self.slot(at);
            if slot.place == FREE {
                return None;
            }
            if slot.hash == hash && is(slot.place) {
                return Some(slot.place);
            }
            at = self.next(at);
        }
    }

    /// Remember where a host is that is not known.
    pub(super) fn insert(&mut self, hash: u32, place: u32) {
        if (self.taken + 1) * 4 > self.slots.len() * 3 {
            let doubled = vec![Slot::FREE; self.slots.len() * 2];
            let before = std::mem::replace(&mut self.slots, doubled);
            for slot in before.into_iter().filter(|slot| slot.place != FREE) {
                self.put(slot);
            }
        }
        self.put(Slot { hash, place });
        self.taken += 1;
    }

    /// Forget the host in this place.
    pub(super) fn remove(&mut self, hash: u32, place: u32) {
        let mut hole = self.home(hash);
        while self.slot(hole).place != place {
            if self.slot(hole).place == FREE {
                return;
            }
            hole = self.next(hole);
        }
        // Whoever would not be found past the hole moves into it.
        let mut at = hole;
        loop {
            at = self.next(at);
            let slot = self.slot(at);
            if slot.place == FREE {
                break;
            }
            if self.distance(self.home(slot.hash), at) >= self.distance(hole, at) {
                self.set(hole, slot);
                hole = at;
            }
        }
        self.set(hole, Slot::FREE);
        self.taken -= 1;
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while self.slot(at).place != FREE {
            at = self.next(at);
        }
        self.set(at, slot);
    }

    /// `as`: widening.
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// Steps from one slot to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }

    fn slot(&self, at: usize) -> Slot {
        self.slots.get(at).copied().unwrap_or(Slot::FREE)
    }

    fn set(&mut self, at: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(at) {
            *place = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::proto::lisp::InstanceId;

    #[test]
    fn a_host_is_told_apart_by_instance_family_and_address() {
        let [zero, seven] = [0, 7].map(|id| InstanceId::new(id).unwrap());
        let hosts = Hosts::new(1);
        let v4 = Bits::new(0x0a00_0001 << 96, 32);
        let v6 = Bits::new(0x0a00_0001 << 96, 128);
        let hashes = [
            hosts.hash((zero, true), v4),
            hosts.hash((zero, false), v6),
            hosts.hash((seven, true), v4),
            Hosts::new(2).hash((zero, true), v4),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(hash.is_some() && !hashes[..index].contains(hash));
        }
    }

    #[test]
    fn a_wider_prefix_is_no_host() {
        let wide = Bits::new(0x2001_0db8 << 96, 32);
        assert_eq!(
            Hosts::new(1).hash((InstanceId::default(), false), wide),
            None
        );
    }

    /// Hashes that fall together, so that holes are closed over hosts of other slots, and round the end of the table.
    #[test]
    fn agrees_with_a_plain_map() {
        for seed in 0..10 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut hosts = Hosts::new(1);
            // By place: its hash.
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            for place in 0..800 {
                let hash = match rng.u8(0..4) {
                    0 => rng.u32(..),
                    _ => rng.u32(0..3).wrapping_sub(2),
                };
                hosts.insert(hash, place);
                model.insert(place, hash);
                while model.len() > usize::from(rng.u8(..)) {
                    let victim = *model.keys().nth(rng.usize(0..model.len())).unwrap();
                    hosts.remove(model.remove(&victim).unwrap(), victim);
                }
                assert_eq!(hosts.taken, model.len());
                for (place, hash) in &model {
                    assert_eq!(hosts.find(*hash, |found| found == *place), Some(*place));
                }
                let gone = rng.u32(0..=place);
                if !model.contains_key(&gone) {
                    assert_eq!(hosts.find(hash, |found| found == gone), None);
                }
            }
        }
    }
}
