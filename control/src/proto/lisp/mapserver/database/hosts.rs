//! Registered hosts by their address: a question for a /128 or a /32 that is registered itself needs no walk down the
//! tree, each step of which waits for memory.
//!
//! Key: instance, family and address. Value: a place in the database. 24 bytes in a table that is between half and
//! seven eighths full, so 27 to 57 a host; a look-up costs one hash and mostly one line of memory. It grows by doubling,
//! which takes as long as hashing all of it. The hash is keyed with a number nobody can guess, as sites choose EIDs.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};

use super::Family;
use crate::proto::lisp::mapserver::trie::Bits;

/// The places of hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    places: HashMap<Host, u32, Keyed>,
}

/// Four words, because a `u128` would take the entry to 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Host {
    family: u32,
    address: [u32; 4],
}

impl Host {
    /// `None` for what is wider than a host.
    fn new((instance, is_v4): Family, prefix: Bits) -> Option<Self> {
        let host_len = if is_v4 { 32 } else { 128 };
        let word = |number: u32| (prefix.bits >> (32 * number)) as u32; // `as`: one word of four
        // An instance has 24 bits.
        let family = u32::from(instance) << 1 | u32::from(is_v4);
        (prefix.len == host_len).then(|| Self {
            family,
            address: [word(3), word(2), word(1), word(0)],
        })
    }
}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.family);
        for word in self.address {
            state.write_u32(word);
        }
    }
}

/// Makes hashers that begin with a secret.
#[derive(Debug)]
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl Hosts {
    /// None yet; `seed` keys the hash.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            places: HashMap::with_hasher(Keyed(seed)),
        }
    }

    /// The place of a host.
    pub(super) fn place(&self, family: Family, prefix: Bits) -> Option<u32> {
        self.places.get(&Host::new(family, prefix)?).copied()
    }

    /// Remember where it is, if it is a host.
    pub(super) fn insert(&mut self, family: Family, prefix: Bits, place: u32) {
        if let Some(host) = Host::new(family, prefix) {
            self.places.insert(host, place);
        }
    }

    /// Forget it.
    pub(super) fn remove(&mut self, family: Family, prefix: Bits) {
        if let Some(host) = Host::new(family, prefix) {
            self.places.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::lisp::InstanceId;

    #[test]
    fn a_host_is_told_apart_by_instance_family_and_address() {
        let [zero, seven] = [0, 7].map(|id| InstanceId::new(id).unwrap());
        let mut hosts = Hosts::new(1);
        let v4 = Bits::new(0x0a00_0001 << 96, 32);
        let v6 = Bits::new(0x0a00_0001 << 96, 128);
        let known = [((zero, true), v4), ((zero, false), v6), ((seven, true), v4)];
        for ((family, prefix), place) in known.into_iter().zip(10..) {
            assert_eq!(hosts.place(family, prefix), None);
            hosts.insert(family, prefix, place);
        }
        for ((family, prefix), place) in known.into_iter().zip(10..) {
            assert_eq!(hosts.place(family, prefix), Some(place));
        }
        hosts.remove((zero, true), v4);
        assert_eq!(hosts.place((zero, true), v4), None);
        assert_eq!(hosts.place((seven, true), v4), Some(12));
    }

    #[test]
    fn a_wider_prefix_is_no_host() {
        let family = (InstanceId::default(), false);
        let mut hosts = Hosts::new(1);
        let wide = Bits::new(0x2001_0db8 << 96, 32);
        hosts.insert(family, wide, 1);
        assert_eq!(hosts.place(family, wide), None);
    }
}
