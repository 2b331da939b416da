//! The tables as their users see them, one for each family: see the [module](super) for what they are and do.

use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Grace;
use super::bulk::{self, Work};
#[cfg(test)]
use super::isa::Isa;
use super::load::Entry;
use super::node;
use super::ranges::{self, Range};
use super::shared::{Arena, Shared, Version};
use super::stamp::Stamp;
use super::table::{Shape, Table};
use super::walk::{self, Key};
use super::word::RANGES;

/// Where there is no AVX-512, single lookups compare with what every processor of the architecture has; ranges always.
#[cfg(target_arch = "x86_64")]
pub(super) type Single = node::Sse2;
#[cfg(not(target_arch = "x86_64"))]
pub(super) type Single = node::Portable;

/// An address family, named by its addresses: [`Ipv6Addr`] or [`Ipv4Addr`]. Public, as its users are, but not exported:
/// there are no others.
pub trait Family: Copy {
    /// An address as lookups take it: bytes in network order (IPv6), a number (IPv4).
    type Key: Key;
    /// What differs from the other family.
    const SHAPE: Shape;
    /// The address from the upper bit of 128.
    fn whole(self) -> u128;
    /// The inverse of [`Family::whole`].
    fn of(whole: u128) -> Self;
}

impl Family for Ipv6Addr {
    type Key = [u8; 16];
    const SHAPE: Shape = Shape {
        address_bits: 128,
        root_bits: 20,
        large: 1024,
        has_hosts: true,
    };

    fn whole(self) -> u128 {
        u128::from(self)
    }

    fn of(whole: u128) -> Self {
        Self::from(whole)
    }
}

impl Family for Ipv4Addr {
    type Key = u32;
    const SHAPE: Shape = Shape {
        address_bits: 32,
        root_bits: 24,
        large: 65_536,
        has_hosts: false,
    };

    fn whole(self) -> u128 {
        u128::from(u32::from(self)) << 96
    }

    fn of(whole: u128) -> Self {
        Self::from((whole >> 96) as u32) // `as`: the upper 32 bits
    }
}

/// The writer of a table. Looks up as well.
pub struct Lpm<A> {
    table: Table,
    family: PhantomData<A>,
}

/// A reader's handle: cheap to clone, to be shared and to be sent.
#[derive(Clone)]
pub struct View<A> {
    shared: Arc<Shared>,
    family: PhantomData<A>,
}

/// The writer of an IPv6 table.
pub type Lpm6 = Lpm<Ipv6Addr>;
/// The writer of an IPv4 table.
pub type Lpm4 = Lpm<Ipv4Addr>;
/// A reader's handle of an IPv6 table.
pub type View6 = View<Ipv6Addr>;
/// A reader's handle of an IPv4 table.
pub type View4 = View<Ipv4Addr>;

impl<A: Family> Lpm<A> {
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
            table: Table::new(arena, A::SHAPE),
            family: PhantomData,
        }
    }

    /// A handle for readers. From now on, while one exists, memory is reused only by [`Lpm::reclaim`].
    #[must_use]
    pub fn view(&self) -> View<A> {
        View {
            shared: Arc::clone(&self.table.shared),
            family: PhantomData,
        }
    }

    /// Insert or replace a prefix; returns the leaf it had. Bits of `network` after `length` are ignored.
    ///
    /// # Panics
    /// When `leaf` is 0 or above [`super::LEAF_MAX`], or `length` longer than an address: both come from our own builders. When the
    /// arena is full.
    pub fn insert(&mut self, network: A, length: u8, leaf: u32) -> Option<u32> {
        let old = self.table.insert(network.whole(), u32::from(length), leaf);
        self.table.shared.changes.count();
        old
    }

    /// Remove a prefix; returns the leaf it had.
    ///
    /// # Panics
    /// When `length` is longer than an address.
    pub fn remove(&mut self, network: A, length: u8) -> Option<u32> {
        let old = self.table.remove(network.whole(), u32::from(length));
        self.table.shared.changes.count();
        old
    }

    /// The leaf of exactly this prefix.
    #[must_use]
    pub fn leaf(&self, network: A, length: u8) -> Option<u32> {
        self.table.leaf(network.whole(), u32::from(length))
    }

    /// Insert or replace many prefixes: built aside and published by one store when they are many beside those already
    /// there, else one by one. Quickest in order of address and length. Of several leaves for one prefix the last counts.
    ///
    /// # Panics
    /// As [`Lpm::insert`].
    pub fn load(&mut self, prefixes: impl IntoIterator<Item = (A, u8, u32)>) {
        self.table.load(prefixes.into_iter().map(entry).collect());
        self.table.shared.changes.count();
    }

    /// Make these the only prefixes, published by one store.
    ///
    /// # Panics
    /// As [`Lpm::insert`].
    pub fn replace(&mut self, prefixes: impl IntoIterator<Item = (A, u8, u32)>) {
        self.table
            .replace(prefixes.into_iter().map(entry).collect());
        self.table.shared.changes.count();
    }

    /// Every prefix with its leaf, in no order that is promised.
    #[must_use]
    pub fn prefixes(&self) -> Vec<(A, u8, u32)> {
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

    /// As [`View::lookup`].
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: &A::Key) -> u32 {
        bulk::lookup_one(&self.table.shared, address)
    }

    /// As [`View::lookup_bulk`].
    ///
    /// # Panics
    /// When the lengths differ.
    #[inline]
    pub fn lookup_bulk(&self, addresses: &[A::Key], leaves: &mut [u32]) {
        lookup_bulk(&self.table.shared, addresses, leaves);
    }

    /// As [`View::range`].
    #[inline]
    #[must_use]
    pub fn range(&self, address: &A::Key) -> Option<Range> {
        range(&self.table.shared, address)
    }
}

impl<A: Family> Default for Lpm<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Family> View<A> {
    /// The leaf of the longest prefix that matches an address; 0 if none does.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: &A::Key) -> u32 {
        bulk::lookup_one(&self.shared, address)
    }

    /// The same for a batch of any size: `leaves[i]` belongs to `addresses[i]`.
    ///
    /// # Panics
    /// When the lengths differ.
    #[inline]
    pub fn lookup_bulk(&self, addresses: &[A::Key], leaves: &mut [u32]) {
        lookup_bulk(&self.shared, addresses, leaves);
    }

    /// Addresses around one that have its answer now, not always all of them; `None`: its first 64 bits do not tell. It may be
    /// used until the reader's next quiescent state.
    #[inline]
    #[must_use]
    pub fn range(&self, address: &A::Key) -> Option<Range> {
        range(&self.shared, address)
    }

    /// What a lookup of this thread says after this was read, it would say again while it is the same.
    #[inline(always)]
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.shared.changes.stamp()
    }

    /// The version for a batch whose passes are spread over several nodes of a graph: [`View::root_pass`],
    /// [`View::cell_pass`], [`View::node_pass`], in this order, with the same version.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.shared.version()
    }

    /// First pass: where each address goes on, prefetched.
    #[inline]
    pub fn root_pass(&self, version: Version, addresses: &[A::Key], at: &mut [u32]) {
        self.pass(version, Work::Root(addresses, at));
    }

    /// Second pass: what is found there.
    #[inline]
    pub fn cell_pass(&self, version: Version, at: &mut [u32]) {
        self.pass(version, Work::<A::Key>::Cell(at));
    }

    /// Third pass: leaves.
    #[inline]
    pub fn node_pass(&self, version: Version, addresses: &[A::Key], at: &mut [u32]) {
        self.pass(version, Work::Node(addresses, at));
    }

    #[inline]
    fn pass(&self, version: Version, work: Work<'_, A::Key>) {
        let staged = version.is_staged(self.shared.memory());
        bulk::run(self.shared.isa, &self.shared, version, staged, work);
    }
}

#[inline]
fn lookup_bulk<K: Key>(shared: &Shared, addresses: &[K], leaves: &mut [u32]) {
    // Not `assert_eq!`, which would store both lengths each time, for its message.
    assert!(addresses.len() == leaves.len(), "a leaf for each address");
    bulk::lookup(shared, addresses, leaves);
}

#[inline]
fn range<K: Key>(shared: &Shared, address: &K) -> Option<Range> {
    let (_, top) = shared.current();
    if top.form() == RANGES {
        return ranges::range(shared.memory(), top, address);
    }
    walk::range::<K, Single>(shared.memory(), top, address)
}

fn entry<A: Family>((network, length, leaf): (A, u8, u32)) -> Entry {
    (network.whole(), u32::from(length), leaf)
}

fn prefix<A: Family>((address, length, leaf): Entry) -> (A, u8, u32) {
    let length = u8::try_from(length).expect("a length is at most 128");
    (A::of(address), length, leaf)
}

#[cfg(test)]
impl<A: Family> Lpm<A> {
    /// A table that changes to the large root, and back, at other sizes.
    pub(super) fn with_large(large: usize) -> Self {
        let shape = Shape { large, ..A::SHAPE };
        Self {
            table: Table::new(&Arena::new(), shape),
            family: PhantomData,
        }
    }

    /// The forms of its nodes.
    pub(super) fn forms(&self) -> std::collections::BTreeSet<u32> {
        let rib = &self.table.rib;
        let nodes = rib.subtree(super::rib::TOP).into_iter();
        let mut words: Vec<_> = nodes.map(|number| rib.node(number).word).collect();
        self.table.slot_words(&mut words);
        let form = |word: super::word::Word| match word {
            word if word.is_direct() => super::word::DIRECT,
            word => word.form(),
        };
        let nodes = words.into_iter().filter(|word| word.is_node());
        nodes.map(form).collect()
    }

    /// How many chunks lie one below the other below its large root.
    pub(super) fn deepest_chunk(&self) -> usize {
        self.table.slot_words(&mut Vec::new())
    }

    /// A bulk lookup by one instruction set and variant.
    pub(super) fn lookup_bulk_by(
        &self,
        isa: Isa,
        staged: bool,
        addresses: &[A::Key],
        leaves: &mut [u32],
    ) {
        let version = self.table.shared.version();
        let work = Work::All(addresses, leaves);
        bulk::run(isa, &self.table.shared, version, staged, work);
        let mut whole = vec![0; leaves.len()];
        bulk::lookup_by(isa, &self.table.shared, addresses, &mut whole);
        assert_eq!(whole, leaves, "{isa:?}");
        self.lookup_bulk(addresses, &mut whole);
        assert_eq!(whole, leaves, "the best way");
    }
}
