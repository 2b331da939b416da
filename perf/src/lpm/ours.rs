//! Our own tables as this suite uses them: the only file to change when their interface does.
//!
//! A [`Table`] is the single writer's side, a [`Reader`] a worker's.

use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane::table::{lpm, publish};

use super::contender::Lookup;
use super::prefix::{Address, Prefix, Route};

/// A table of ours, on the writer's thread.
pub trait Table<A: Address>: Sized {
    /// What workers hold.
    type Reader: Reader<A::Key>;

    /// A table of `routes`, by whatever is fastest.
    fn build(routes: &[Route<A>]) -> Self;
    /// A worker's end. Nothing is reclaimed while one exists and does not report.
    fn reader(&mut self) -> Self::Reader;
    /// Insert a route or replace its leaf, seen by readers when this returns; what can be reclaimed, is.
    fn insert(&mut self, prefix: Prefix<A>, leaf: u32);
    /// Withdraw a route, likewise.
    fn remove(&mut self, prefix: Prefix<A>);
    /// Bytes that lookups and updates need.
    fn bytes(&self) -> usize;
}

/// A worker's end of a table of ours; sent to its thread, used there only.
pub trait Reader<K>: Send {
    /// One address.
    fn lookup(&self, key: &K) -> u32;
    /// A burst of addresses: `leaves` is as long as `keys`.
    fn lookup_bulk(&self, keys: &[K], leaves: &mut [u32]);
    /// Say that nothing found earlier is in use any more.
    fn quiescent(&mut self);
}

/// A worker: its view of the table, which it looks up in as `rte_fib6_lookup_bulk` does in a table it is given, and its place
/// with the publisher, by which the writer knows how far it is.
pub struct Worker<V: Send + Sync> {
    view: V,
    published: publish::Reader<V>,
}

impl<V: Clone + Send + Sync> Worker<V> {
    fn new(publisher: &mut publish::Publisher<V>) -> Self {
        let published = publisher.reader();
        let view = published.load().clone();
        Self { view, published }
    }
}

/// A table in the product's arrangement: one writer, and views that workers get through the publisher that knows them.
pub struct Ours<T, V: Send + Sync> {
    table: T,
    published: publish::Publisher<V>,
}

/// The IPv6 table.
pub type Lpm6 = Ours<lpm::Lpm6, lpm::View6>;

/// The IPv4 table.
pub type Lpm4 = Ours<lpm::Lpm4, lpm::View4>;

impl Table<u128> for Lpm6 {
    type Reader = Worker<lpm::View6>;

    fn build(routes: &[Route<u128>]) -> Self {
        let mut table = lpm::Lpm6::new();
        table.load(
            routes.iter().map(|Route { prefix, leaf }| {
                (Ipv6Addr::from(prefix.address), prefix.length, *leaf)
            }),
        );
        let published = publish::Publisher::new(table.view());
        Self { table, published }
    }

    fn reader(&mut self) -> Self::Reader {
        Worker::new(&mut self.published)
    }

    fn insert(&mut self, prefix: Prefix<u128>, leaf: u32) {
        let network = Ipv6Addr::from(prefix.address);
        self.table.insert(network, prefix.length, leaf);
        self.table.reclaim(&mut self.published);
    }

    fn remove(&mut self, prefix: Prefix<u128>) {
        let network = Ipv6Addr::from(prefix.address);
        self.table.remove(network, prefix.length);
        self.table.reclaim(&mut self.published);
    }

    fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

impl Reader<[u8; 16]> for Worker<lpm::View6> {
    #[inline]
    fn lookup(&self, key: &[u8; 16]) -> u32 {
        self.view.lookup(key)
    }

    #[inline]
    fn lookup_bulk(&self, keys: &[[u8; 16]], leaves: &mut [u32]) {
        self.view.lookup_bulk(keys, leaves);
    }

    fn quiescent(&mut self) {
        self.published.quiescent();
    }
}

impl Table<u32> for Lpm4 {
    type Reader = Worker<lpm::View4>;

    fn build(routes: &[Route<u32>]) -> Self {
        let mut table = lpm::Lpm4::new();
        table.load(
            routes.iter().map(|Route { prefix, leaf }| {
                (Ipv4Addr::from(prefix.address), prefix.length, *leaf)
            }),
        );
        let published = publish::Publisher::new(table.view());
        Self { table, published }
    }

    fn reader(&mut self) -> Self::Reader {
        Worker::new(&mut self.published)
    }

    fn insert(&mut self, prefix: Prefix<u32>, leaf: u32) {
        let network = Ipv4Addr::from(prefix.address);
        self.table.insert(network, prefix.length, leaf);
        self.table.reclaim(&mut self.published);
    }

    fn remove(&mut self, prefix: Prefix<u32>) {
        let network = Ipv4Addr::from(prefix.address);
        self.table.remove(network, prefix.length);
        self.table.reclaim(&mut self.published);
    }

    fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

impl Reader<u32> for Worker<lpm::View4> {
    #[inline]
    fn lookup(&self, key: &u32) -> u32 {
        self.view.lookup(key)
    }

    #[inline]
    fn lookup_bulk(&self, keys: &[u32], leaves: &mut [u32]) {
        self.view.lookup_bulk(keys, leaves);
    }

    fn quiescent(&mut self) {
        self.published.quiescent();
    }
}

/// A reader in a race, a whole burst at a time.
pub struct Bulk<'a, R>(pub &'a R);

/// A reader in a race, one address at a time.
pub struct Single<'a, R>(pub &'a R);

impl<K, R: Reader<K>> Lookup<K> for Bulk<'_, R> {
    type Found = u32;
    #[inline]
    fn burst(&self, keys: &[K], found: &mut [u32]) {
        self.0.lookup_bulk(keys, found);
    }
    fn leaf(found: u32) -> u32 {
        found
    }
}

impl<K, R: Reader<K>> Lookup<K> for Single<'_, R> {
    type Found = u32;
    #[inline]
    fn burst(&self, keys: &[K], found: &mut [u32]) {
        for (key, found) in keys.iter().zip(found) {
            *found = self.0.lookup(key);
        }
    }
    fn leaf(found: u32) -> u32 {
        found
    }
}
