//! The IPv6 table: see the [module](super) for what it is and does.

use std::net::Ipv6Addr;
use std::sync::Arc;

use super::bulk::{self, Isa, Work};
use super::load::Entry;
use super::node;
use super::shared::{Arena, Shared, Version};
use super::table::{Shape, Table};
use super::{Grace, walk};

/// Single lookups compare with what every processor of the architecture has.
#[cfg(target_arch = "x86_64")]
type Single = node::Sse2;
#[cfg(not(target_arch = "x86_64"))]
type Single = node::Portable;

const SHAPE: Shape = Shape {
    address_bits: 128,
    root_bits: 20,
    large: 8192,
    has_hosts: true,
};

/// The writer of an IPv6 table. Looks up as well.
pub struct Lpm6 {
    table: Table,
}

/// A reader's handle: cheap to clone, to be shared and to be sent.
#[derive(Clone)]
pub struct View6 {
    shared: Arc<Shared>,
}

impl Lpm6 {
    /// A table without a prefix, in memory of its own.
    ///
    /// # Panics
    /// When the system gives no address space, of which a table reserves 16 GiB.
    #[must_use]
    pub fn new() -> Self {
        Self::new_in(&Arena::new())
    }

    /// A table without a prefix, in memory it has in common with others.
    #[must_use]
    pub fn new_in(arena: &Arena) -> Self {
        Self {
            table: Table::new(arena, SHAPE),
        }
    }

    /// A handle for readers. From now on, while one exists, memory is reused only by [`Lpm6::reclaim`].
    #[must_use]
    pub fn view(&self) -> View6 {
        View6 {
            shared: Arc::clone(&self.table.shared),
        }
    }

    /// Insert or replace a prefix; returns the leaf it had. Bits of `network` after `length` are ignored.
    ///
    /// # Panics
    /// When `leaf` is 0 or above [`super::LEAF_MAX`], or `length` above 128: both come from our own builders. When the
    /// arena is full.
    pub fn insert(&mut self, network: Ipv6Addr, length: u8, leaf: u32) -> Option<u32> {
        self.table.insert(whole(network), u32::from(length), leaf)
    }

    /// Remove a prefix; returns the leaf it had.
    ///
    /// # Panics
    /// When `length` is above 128.
    pub fn remove(&mut self, network: Ipv6Addr, length: u8) -> Option<u32> {
        self.table.remove(whole(network), u32::from(length))
    }

    /// The leaf of exactly this prefix.
    #[must_use]
    pub fn leaf(&self, network: Ipv6Addr, length: u8) -> Option<u32> {
        self.table.leaf(whole(network), u32::from(length))
    }

    /// Insert or replace many prefixes: built aside and published by one store when they are many beside those already
    /// there, else one by one. Quickest in order of address and length. Of several leaves for one prefix the last counts.
    ///
    /// # Panics
    /// As [`Lpm6::insert`].
    pub fn load(&mut self, prefixes: impl IntoIterator<Item = (Ipv6Addr, u8, u32)>) {
        self.table.load(prefixes.into_iter().map(entry).collect());
    }

    /// Make these the only prefixes, published by one store.
    ///
    /// # Panics
    /// As [`Lpm6::insert`].
    pub fn replace(&mut self, prefixes: impl IntoIterator<Item = (Ipv6Addr, u8, u32)>) {
        self.table
            .replace(prefixes.into_iter().map(entry).collect());
    }

    /// Every prefix with its leaf, in no order that is promised.
    #[must_use]
    pub fn prefixes(&self) -> Vec<(Ipv6Addr, u8, u32)> {
        let entries = self.table.entries().into_iter();
        entries.map(prefix).collect()
    }

    /// Reuse what all readers have let go of: mark what was replaced since the last call, ask how far the readers are,
    /// never wait. Returns how many blocks still wait; a number that stays shows a worker that no longer reports.
    pub fn reclaim(&mut self, grace: &mut impl Grace) -> usize {
        self.table.reclaim(grace)
    }

    /// Prefixes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.len == 0
    }

    /// Bytes of memory in use for lookups, what waits to be reused included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.bytes
    }

    /// Bytes of the writer's own memory, which readers never touch.
    #[must_use]
    pub fn writer_bytes(&self) -> usize {
        self.table.rib.bytes()
    }

    /// As [`View6::lookup`].
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: &[u8; 16]) -> u32 {
        walk::lookup::<_, Single>(&self.table.shared, address)
    }

    /// As [`View6::lookup_bulk`].
    ///
    /// # Panics
    /// When the lengths differ.
    #[inline]
    pub fn lookup_bulk(&self, addresses: &[[u8; 16]], leaves: &mut [u32]) {
        lookup_bulk(&self.table.shared, addresses, leaves);
    }
}

impl Default for Lpm6 {
    fn default() -> Self {
        Self::new()
    }
}

impl View6 {
    /// The leaf of the longest prefix that matches an address in network order; 0 if none does.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: &[u8; 16]) -> u32 {
        walk::lookup::<_, Single>(&self.shared, address)
    }

    /// The same for a batch of any size: `leaves[i]` belongs to `addresses[i]`.
    ///
    /// # Panics
    /// When the lengths differ.
    #[inline]
    pub fn lookup_bulk(&self, addresses: &[[u8; 16]], leaves: &mut [u32]) {
        lookup_bulk(&self.shared, addresses, leaves);
    }

    /// The version for a batch whose passes are spread over several nodes of a graph: [`View6::root_pass`],
    /// [`View6::cell_pass`], [`View6::node_pass`], in this order, with the same version.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.shared.version()
    }

    /// First pass: where each address goes on, prefetched.
    #[inline]
    pub fn root_pass(&self, version: Version, addresses: &[[u8; 16]], at: &mut [u32]) {
        self.pass(version, Work::Root(addresses, at));
    }

    /// Second pass: what is found there.
    #[inline]
    pub fn cell_pass(&self, version: Version, at: &mut [u32]) {
        self.pass(version, Work::<[u8; 16]>::Cell(at));
    }

    /// Third pass: leaves.
    #[inline]
    pub fn node_pass(&self, version: Version, addresses: &[[u8; 16]], at: &mut [u32]) {
        self.pass(version, Work::Node(addresses, at));
    }

    #[inline]
    fn pass(&self, version: Version, work: Work<'_, [u8; 16]>) {
        let staged = version.is_staged(self.shared.memory());
        bulk::run(Isa::best(), &self.shared, version, staged, work);
    }
}

#[inline]
fn lookup_bulk(shared: &Shared, addresses: &[[u8; 16]], leaves: &mut [u32]) {
    assert_eq!(addresses.len(), leaves.len(), "a leaf for each address");
    bulk::lookup(Isa::best(), shared, addresses, leaves);
}

fn whole(address: Ipv6Addr) -> u128 {
    u128::from(address)
}

fn entry((network, length, leaf): (Ipv6Addr, u8, u32)) -> Entry {
    (whole(network), u32::from(length), leaf)
}

fn prefix((address, length, leaf): Entry) -> (Ipv6Addr, u8, u32) {
    let length = u8::try_from(length).expect("a length is at most 128");
    (Ipv6Addr::from(address), length, leaf)
}

#[cfg(test)]
impl Lpm6 {
    /// A table that changes to the large root, and back, at other sizes.
    pub(super) fn with_large(large: usize) -> Self {
        let shape = Shape { large, ..SHAPE };
        Self {
            table: Table::new(&Arena::new(), shape),
        }
    }

    /// A bulk lookup by one instruction set and variant.
    pub(super) fn lookup_bulk_by(
        &self,
        isa: Isa,
        staged: bool,
        addresses: &[[u8; 16]],
        leaves: &mut [u32],
    ) {
        let version = self.table.shared.version();
        let work = Work::All(addresses, leaves);
        bulk::run(isa, &self.table.shared, version, staged, work);
        let mut whole = vec![0; leaves.len()];
        bulk::lookup(isa, &self.table.shared, addresses, &mut whole);
        assert_eq!(whole, leaves, "{isa:?}");
    }
}
