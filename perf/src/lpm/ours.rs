//! Our own tables as this suite uses them: the only file to change when their interface does.
//!
//! A [`Table`] is the single writer's side, a [`Reader`] a worker's. Today the prefix table is built whole and published
//! whole, so one update is one build; the suite then stops after a few updates and says so. There is no IPv4 table yet:
//! [`Lpm4`] is uninhabited, and the suite leaves "ours" out of the IPv4 cases.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv6Addr;

use anyhow::{Result, bail, ensure};
use dataplane::table::lpm::Lpm6 as Trie;
use dataplane::table::publish;

use super::contender::Lookup;
use super::prefix::{Address, Prefix, Route};

/// More routes of full length than this, and today's table would not fit into memory: 14 nodes of 1 KiB each.
const MOST_HOSTS: usize = 100_000;

/// A table of ours, on the writer's thread.
pub trait Table<A: Address>: Sized {
    /// What workers hold.
    type Reader: Reader<A::Key>;

    /// A table of `routes`, by whatever is fastest.
    ///
    /// # Errors
    /// With the reason, when this table cannot hold them.
    fn build(routes: &[Route<A>]) -> Result<Self>;
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

/// The IPv6 table.
pub struct Lpm6 {
    routes: BTreeMap<Prefix<u128>, u32>,
    published: publish::Publisher<Trie>,
}

impl Table<u128> for Lpm6 {
    type Reader = publish::Reader<Trie>;

    fn build(routes: &[Route<u128>]) -> Result<Self> {
        let hosts = routes
            .iter()
            .filter(|route| route.prefix.length == u128::LENGTH)
            .count();
        ensure!(
            hosts <= MOST_HOSTS,
            "today's table needs 14 KiB for a route of full length, and these are {hosts}"
        );
        let trie = trie_of(routes.iter().map(|route| (route.prefix, route.leaf)));
        Ok(Self {
            routes: routes
                .iter()
                .map(|route| (route.prefix, route.leaf))
                .collect(),
            published: publish::Publisher::new(trie),
        })
    }

    fn reader(&mut self) -> Self::Reader {
        self.published.reader()
    }

    fn insert(&mut self, prefix: Prefix<u128>, leaf: u32) {
        self.routes.insert(prefix, leaf);
        self.publish();
    }

    fn remove(&mut self, prefix: Prefix<u128>) {
        self.routes.remove(&prefix);
        self.publish();
    }

    fn bytes(&self) -> usize {
        self.published.current().bytes()
    }
}

impl Lpm6 {
    fn publish(&mut self) {
        let trie = trie_of(self.routes.iter().map(|(prefix, leaf)| (*prefix, *leaf)));
        self.published.publish(trie);
        self.published.reclaim();
    }
}

fn trie_of(routes: impl Iterator<Item = (Prefix<u128>, u32)>) -> Trie {
    let mut trie = Trie::new();
    for (prefix, leaf) in routes {
        trie.insert(Ipv6Addr::from(prefix.address), prefix.length, leaf);
    }
    trie
}

impl Reader<[u8; 16]> for publish::Reader<Trie> {
    #[inline]
    fn lookup(&self, key: &[u8; 16]) -> u32 {
        self.load().lookup(key)
    }

    #[inline]
    fn lookup_bulk(&self, keys: &[[u8; 16]], leaves: &mut [u32]) {
        let trie = self.load();
        for (key, leaf) in keys.iter().zip(leaves) {
            *leaf = trie.lookup(key);
        }
    }

    fn quiescent(&mut self) {
        self.quiescent();
    }
}

/// The IPv4 table, which is not there yet.
pub enum Lpm4 {}

impl Table<u32> for Lpm4 {
    type Reader = NoReader;

    fn build(_routes: &[Route<u32>]) -> Result<Self> {
        bail!("there is no IPv4 table of ours yet")
    }
    fn reader(&mut self) -> NoReader {
        match *self {}
    }
    fn insert(&mut self, _prefix: Prefix<u32>, _leaf: u32) {
        match *self {}
    }
    fn remove(&mut self, _prefix: Prefix<u32>) {
        match *self {}
    }
    fn bytes(&self) -> usize {
        match *self {}
    }
}

/// A reader of a table that is not there.
pub struct NoReader(Infallible);

impl Reader<u32> for NoReader {
    fn lookup(&self, _key: &u32) -> u32 {
        match self.0 {}
    }
    fn lookup_bulk(&self, _keys: &[u32], _leaves: &mut [u32]) {
        match self.0 {}
    }
    fn quiescent(&mut self) {
        match self.0 {}
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
