//! Longest-prefix match: [`Lpm6`] and [`Lpm4`], updated in place beside their readers.
//!
//! Key: an IPv6 address in network order, or an IPv4 address as a number. Value: a leaf of 28 bits, never 0; 0 is the
//! answer where no prefix matches. One thread holds the writer, and changes it; any number of others hold views of it
//! ([`View6`], [`View4`]), and look up, one address or a batch.
//!
//! # What readers see
//!
//! - A lookup gives, for each prefix that matches, the leaf before or the leaf after a change in progress; never one of
//!   something else, and never none between two. A change to a short prefix reaches the addresses below it one after the
//!   other; for each address it is one step.
//! - Once [`Lpm6::insert`] or [`Lpm6::remove`] has returned, and the reader knows it (through a ring, or a published
//!   table), its lookups show it.
//! - [`Lpm6::replace`] and a [`Lpm6::load`] that builds anew are one step for all addresses.
//! - What a lookup or [`View6::range`] said holds while [`View6::stamp`] is what it was before.
//!
//! # Rules of reclamation
//!
//! What a change replaces stays as it is until every worker has passed a quiescent state. A reader must not keep a
//! [`Version`], nor be in the middle of a lookup, across its [`super::publish::Reader::quiescent`]. The writer is told by
//! [`Lpm6::reclaim`], which asks the [`Grace`] of the publisher that knows the workers; who calls it now and then gets
//! memory back. While no view of a table exists, memory is reused at once. A reader that breaks the rule gets wrong
//! answers, but reads no memory that is not the table's (`memory`).
//!
//! # Design
//!
//! ```text
//!   IPv6   root, 2^20 cells [-> chunk] -> a node of ranges up to bit 48 -> a node for each further 16 bits
//!          -> leaf [-> host table]
//!   IPv4   root, 2^24 cells -> chunk, up to 2^8 cells
//!   few prefixes, both:  a node for each 16 bits; IPv6 with a handful: ranges of the first 64 bits
//! ```
//!
//! A cell is a word (`word`): a leaf, or where to go on. Below the large root of IPv6 (`slot`, `slots`) a node holds the
//! ranges with different answers of all prefixes from /21 to /48 that it covers, as bounds of 28 bits: LINE (8 ranges, one
//! cache line), INDEX (128), BROAD (2,048). What has more prefixes is divided by a *chunk* of cells first. So a table takes
//! little more memory than its ranges do, and most of the Internet's is found in one cache line that is not near, out of two
//! megabytes. A node over 16 bits (`node`), elsewhere, has one of four forms: LINE (11), INDEX (363), BROAD (1,452, for
//! prefixes that stand apart), DIRECT, a cell for each key. Addresses of full length, which mobile hosts bring by the
//! million, stand in a hash table (`hosts`) and cost the trie one mark in their /32; batches look there in rounds of their
//! own (`suspects`). IPv4 in bulk is one load for nearly every address (`flat`).
//!
//! The writer keeps all prefixes in a trie (`rib`) of its own, renders from it (`table`) the part that changed, and
//! publishes by one store. Nodes live in a region (`memory`) that never moves; small tables can share one.
//!
//! # Figures
//!
//! Real table of 279,855 prefixes: 6.1 MB with a leaf for each origin, 8.3 MB with one for each prefix, 4.2 MB of it the root. A
//! table of ten prefixes: about 1 KiB, and as much for the writer; one of 1,024 or more has the large root. A host: 32 to 50
//! bytes, the first one 704. A lookup: 3 to 5 loads; a change: one or two microseconds, and a tenth of one more for each
//! prefix below a short one that comes or goes, or in a /20 that is divided anew because it passes a number of prefixes;
//! milliseconds where the large root comes or goes, or the host table grows. A full table is one whose nodes fill 4 GiB: the
//! next insertion panics; the number of prefixes is for the configuration to limit, long before.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod bulk;
mod cells;
mod flat;
mod hosts;
mod isa;
mod load;
mod lookup;
mod memory;
mod node;
mod ranges;
mod retired;
mod rib;
mod shared;
mod slabs;
mod slot;
mod slots;
mod stamp;
mod suspects;
mod table;
mod tags;
#[cfg(test)]
mod tests;
mod top;
mod walk;
#[cfg(target_arch = "x86_64")]
mod wide6;
mod word;

use super::atomics;

pub use lookup::{Lpm, Lpm4, Lpm6, View, View4, View6};
pub use ranges::Range;
pub use shared::{Arena, Version};
pub use stamp::Stamp;
pub use word::LEAF_MAX;

/// What knows how far the readers are. [`super::publish::Publisher`] does.
pub trait Grace {
    /// Begin a new epoch and tell its number: whoever reports it has let go of what was taken out before.
    fn mark(&mut self) -> u64;

    /// The oldest epoch a reader that is present has reported; `u64::MAX` if none is.
    fn passed(&mut self) -> u64;
}

impl<T: Send + Sync> Grace for super::publish::Publisher<T> {
    fn mark(&mut self) -> u64 {
        self.mark()
    }

    fn passed(&mut self) -> u64 {
        self.passed()
    }
}
