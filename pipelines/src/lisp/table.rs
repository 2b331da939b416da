//! The map-cache as workers read it: which locator a packet goes to, and the outer header that leads there.
//!
//! ```text
//!  leaf of the prefix table --> mapping: 4 bytes --> locator set: one line --> locator: one line
//!                               set, "used"         64 buckets, 7 locators    outer addresses, LISP header, next hop
//! ```
//!
//! Key: a mapping's number, the leaf that the prefix table has for its EID prefix. Value: a locator, chosen by the
//! flow's hash. Sets that say the same are one, and so are locators, so a million prefixes behind a thousand routers cost
//! 4 bytes each here, and at most 68. A lookup costs three dependent loads, which a burst does side by side.
//!
//! One writer changes everything in place, beside the workers (`cache`): no version of the tables has a copy. What a
//! reader sees is right at any moment, because each step is one store: a mapping is led to another set, a bucket to
//! another locator of the same set, a locator to another next hop. A set or locator whose content is to differ is another
//! one, and a number is used again only when no worker can still be at it.

use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use dataplane::prefetch;
use dataplane::table::region::{Elements, Line, Region};

use super::spec::{Act, LOCATORS_MAX};

/// The bit of a prefix table's leaf that is a mapping and no next hop.
pub(crate) const LEAF: u32 = 1 << 27;
/// The bit of a mapping that says it was used.
pub(super) const USED: u32 = 1 << 31;
/// Buckets of a set.
pub(super) const BUCKETS: usize = 64;
/// A bucket without a locator: what the set does is in its kind.
pub(super) const NO_SLOT: u64 = 7;
/// In the place of the last slot's locator: the set is a negative one.
const NEGATIVE: u32 = 1 << 31;
/// Of [`NEGATIVE`]: the act.
const ACT: u32 = 0xff;
/// Path MTU of a locator about which nothing was learned.
pub(super) const NO_MTU: u16 = u16::MAX;

/// What a set does with a packet whose bucket has no locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// It has locators, and none can be used.
    Locators,
    /// As a negative mapping says; the number of the next hop is that of [`Act::Native`].
    Negative(Act, u32),
}

/// Leaves are below two to this.
const MAPPING_BITS: u32 = 27;

/// All mappings of a [`Shared`], for a loop.
#[derive(Clone, Copy)]
pub(crate) struct Mappings<'s>(Elements<'s, AtomicU32, MAPPING_BITS>);

impl Mappings<'_> {
    /// Whether the mapping with this leaf is [this](Shared::used) still. Nothing is followed from here, so nothing has to be seen
    /// with it but [`Shared::changes`] before.
    #[inline(always)]
    pub(crate) fn has_still(self, leaf: u32, used: u32) -> bool {
        self.0.at(leaf).load(Relaxed) == used
    }
}

/// Everything that workers and the writer share.
pub(crate) struct Shared {
    /// Mapping to set, with [`USED`].
    pub(super) mappings: Region<AtomicU32, MAPPING_BITS>,
    pub(super) sets: Region<Line, 27>,
    pub(super) locators: Region<Line, 24>,
    /// How often a set or a locator became another one, or sends elsewhere than before.
    changes: AtomicU64,
}

impl Shared {
    pub(super) fn new() -> Self {
        let reserved = "the system gives address space: 9.5 GiB, and no memory yet";
        Self {
            mappings: Region::reserve().expect(reserved),
            sets: Region::reserve().expect(reserved),
            locators: Region::reserve().expect(reserved),
            changes: AtomicU64::new(0),
        }
    }

    /// As long as this stays what it is, so does the locator of every flow whose mapping has the set it had, and what that
    /// locator says. Who keeps either asks for this before, and again in every burst.
    #[inline(always)]
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Something changed: buckets of a set or the state of a locator, after it was written; what a number stands for, before
    /// readers are waited for.
    pub(super) fn count_change(&self) {
        self.changes.store(self.changes.load(Relaxed) + 1, Release);
    }

    /// The set of the mapping with this leaf, which is marked as used. 0: there is none.
    #[inline(always)]
    pub(crate) fn set_of(&self, leaf: u32) -> u32 {
        let mapping = self.mappings.at(leaf);
        let value = mapping.load(Acquire);
        if value & USED == 0 {
            // Once for each time the control thread asks, so the line stays shared between workers.
            mapping.fetch_or(USED, Relaxed);
        }
        value & !USED
    }

    /// What a mapping is that has this set, and is marked as used.
    pub(crate) fn used(set: u32) -> u32 {
        set | USED
    }

    /// All mappings, for a loop.
    #[inline(always)]
    pub(crate) fn mappings(&self) -> Mappings<'_> {
        Mappings(self.mappings.elements())
    }

    /// Pull a mapping towards the cache.
    #[inline(always)]
    pub(crate) fn prefetch_mapping(&self, leaf: u32) {
        prefetch::read(self.mappings.at(leaf));
    }

    /// Pull a set towards the cache.
    #[inline(always)]
    pub(crate) fn prefetch_set(&self, set: u32) {
        prefetch::read(self.sets.at(set));
    }

    /// The locator of a flow; 0: none, see [`Shared::kind`].
    #[inline(always)]
    pub(crate) fn locator_of(&self, set: u32, hash: u64) -> u32 {
        let Line(words) = self.sets.at(set);
        let bucket = hash >> 58;
        let quarter = &words[1 + (bucket >> 4) as usize]; // `as`: two bits
        let slot = quarter.load(Relaxed) >> ((bucket & 15) * 4) & 15;
        slot_of(words, slot)
    }

    /// Pull a locator towards the cache.
    #[inline(always)]
    pub(crate) fn prefetch_locator(&self, locator: u32) {
        prefetch::read(self.locators.at(locator));
    }

    /// What the set does where it has no locator.
    #[cold]
    pub(crate) fn kind(&self, set: u32) -> Kind {
        let Line(words) = self.sets.at(set);
        let kind = slot_of(words, LAST_SLOT);
        if kind & NEGATIVE == 0 {
            return Kind::Locators;
        }
        let act = match kind & ACT {
            1 => Act::NoAction,
            2 => Act::Native,
            3 => Act::SendMapRequest,
            5 => Act::PolicyDenied,
            6 => Act::AuthFailure,
            7 => Act::Petr,
            _ => Act::Drop,
        };
        Kind::Negative(act, slot_of(words, 0))
    }

    /// A locator by its number, which is not 0.
    #[inline(always)]
    pub(crate) fn locator(&self, number: u32) -> Locator<'_> {
        Locator(self.locators.at(number))
    }

    /// All locators of a set that it may ever send to.
    pub(crate) fn slots(&self, set: u32) -> impl Iterator<Item = Locator<'_>> {
        let Line(words) = self.sets.at(set);
        let is_positive = self.kind(set) == Kind::Locators;
        let slots = 0..LOCATORS_MAX as u64; // `as`: 7
        slots
            .map(|slot| slot_of(words, slot))
            .filter(move |number| is_positive && *number != 0)
            .map(|number| self.locator(number))
    }
}

/// The last slot.
pub(super) const LAST_SLOT: u64 = LOCATORS_MAX as u64 - 1; // `as`: 7

/// Where in a set's line the number of slot `slot` stands: word and shift. The half of [`NO_SLOT`] is 0, as no locator's
/// number is.
#[inline(always)]
pub(super) fn place_of(slot: u64) -> (usize, u64) {
    // Halves: the last slot, none, four words of buckets, the other slots.
    let half = (slot + 10) & 15;
    ((half / 2) as usize, half % 2 * 32) // `as`: below 8
}

#[inline(always)]
fn slot_of(words: &[AtomicU64; 8], slot: u64) -> u32 {
    let (word, shift) = place_of(slot);
    (words[word].load(Relaxed) >> shift) as u32 // `as`: one half
}

/// What stands in the place of [`LAST_SLOT`] of a negative set.
pub(super) fn negative(act: Act) -> u32 {
    let act = match act {
        Act::NoAction => 1,
        Act::Native => 2,
        Act::SendMapRequest => 3,
        Act::Drop => 4,
        Act::PolicyDenied => 5,
        Act::AuthFailure => 6,
        Act::Petr => 7,
    };
    NEGATIVE | act
}

/// A locator's line: what is put before a packet that goes there, but for what the packet itself decides.
///
/// ```text
///  word 0   next hop's number 32 | path MTU 16 | family 8 | -
///  1 to 4   IPv6: source and destination RLOC        1  IPv4: both
///  5        LISP header
///  6        sum of the constant words: of the IPv4 header, and of the UDP pseudo-header and the LISP header
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Locator<'t>(&'t Line);

/// Word 0 of a locator's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Number of the underlay's next hop; 0: none.
    pub(crate) next_hop: u32,
    /// What was learned of the path, bytes.
    pub(crate) path_mtu: u16,
    /// Whether the outer header is IPv4.
    pub(crate) is_v4: bool,
}

impl State {
    pub(super) fn word(self) -> u64 {
        u64::from(self.next_hop) | u64::from(self.path_mtu) << 32 | u64::from(self.is_v4) << 48
    }
}

impl Locator<'_> {
    #[inline(always)]
    pub(crate) fn state(self) -> State {
        let word = self.word(0);
        State {
            next_hop: word as u32,         // `as`: the lower half
            path_mtu: (word >> 32) as u16, // `as`: 16 bits of it
            is_v4: word >> 48 & 1 != 0,
        }
    }

    /// A word of the template, as it stands in the packet.
    #[inline(always)]
    pub(crate) fn word(self, word: usize) -> u64 {
        self.0.0[word & 7].load(Relaxed)
    }

    /// The destination RLOC, as the 128 bits of an IPv6 address.
    pub(crate) fn rloc(self) -> u128 {
        if self.state().is_v4 {
            let [.., a, b, c, d] = self.word(1).to_ne_bytes();
            u128::from(std::net::Ipv4Addr::new(a, b, c, d).to_ipv6_mapped())
        } else {
            let halves = [3, 4].map(|word| self.word(word).to_ne_bytes());
            u128::from_be_bytes(*halves.as_flattened().first_chunk().expect("16 bytes"))
        }
    }
}
