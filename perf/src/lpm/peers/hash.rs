//! `rte_hash` over addresses of 16 bytes: what an application would keep a million hosts in. Its answer is the place of a
//! key, which an application uses as an index.

use std::mem::zeroed;
use std::os::raw::c_void;
use std::ptr::{NonNull, null};

use anyhow::{Context as _, Result, ensure};

use super::{ANY_SOCKET, Cost, Dpdk, SPARE_ROUTES, check, costing, unique_name};
use crate::lpm::contender::{BURST, Lookup};
use crate::lpm::prefix::Route;

/// The table.
pub struct Hash<'d> {
    hash: NonNull<dpdk_sys::rte_hash>,
    /// What stands at a place: the leaf.
    leaves: Vec<u32>,
    cost: Cost,
    _dpdk: &'d Dpdk,
}

impl<'d> Hash<'d> {
    /// A table of the hosts in `routes`.
    pub fn build(dpdk: &'d Dpdk, routes: &[Route<u128>]) -> Result<Self> {
        let (mut table, cost) = costing(|| {
            let mut table = Self::empty(dpdk, routes.len())?;
            for Route { prefix, leaf } in routes {
                ensure!(prefix.length == 128, "rte_hash holds hosts only");
                let key = prefix.address.to_be_bytes();
                // SAFETY: the table was just made and is this thread's alone; its keys have 16 bytes.
                let place = unsafe {
                    dpdk_sys::rte_hash_add_key(table.hash.as_ptr(), key.as_ptr().cast::<c_void>())
                };
                check(place, "rte_hash_add_key")?;
                let place = usize::try_from(place)?;
                if place >= table.leaves.len() {
                    table.leaves.resize(place + 1, 0);
                }
                table.leaves[place] = *leaf;
            }
            Ok(table)
        })?;
        table.cost = cost;
        Ok(table)
    }

    fn empty(dpdk: &'d Dpdk, hosts: usize) -> Result<Self> {
        let name = unique_name("hash");
        // SAFETY: numbers and pointers that may be null, for which all zeros is a value.
        let mut parameters: dpdk_sys::rte_hash_parameters = unsafe { zeroed() };
        parameters.name = name.as_ptr();
        // Some room, as its documentation asks for: insertion may fail before the last entry is taken.
        parameters.entries = u32::try_from(hosts + hosts / 4 + SPARE_ROUTES)?;
        parameters.key_len = 16;
        parameters.socket_id = ANY_SOCKET;
        // SAFETY: DPDK is started, name and parameters live through the call; no hash function means DPDK's own.
        let hash = unsafe { dpdk_sys::rte_hash_create(&raw const parameters) };
        Ok(Self {
            hash: NonNull::new(hash).context("rte_hash gets no memory")?,
            leaves: Vec::new(),
            cost: Cost {
                build_ms: 0.0,
                bytes: 0,
            },
            _dpdk: dpdk,
        })
    }

    /// What making it cost.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The leaf of a place that a lookup told.
    #[must_use]
    pub fn leaf_at(&self, place: u32) -> Option<u32> {
        self.leaves.get(usize::try_from(place).ok()?).copied()
    }
}

impl Drop for Hash<'_> {
    fn drop(&mut self) {
        // SAFETY: made by rte_hash_create, freed once, and views borrow `self`.
        unsafe { dpdk_sys::rte_hash_free(self.hash.as_ptr()) };
    }
}

/// A burst at a time. The leaf is a place plus one, 0 for a key that is not there; see [`Hash::leaf_at`].
pub struct Bulk<'a>(pub &'a Hash<'a>);

/// One key at a time.
pub struct Single<'a>(pub &'a Hash<'a>);

impl Lookup<[u8; 16]> for Bulk<'_> {
    type Found = i32;

    #[inline]
    fn burst(&self, keys: &[[u8; 16]], found: &mut [i32]) {
        let mut pointers = [null::<c_void>(); BURST];
        for (pointer, key) in pointers.iter_mut().zip(keys) {
            *pointer = key.as_ptr().cast();
        }
        let count = u32::try_from(keys.len()).expect("a burst is short");
        // SAFETY: the table is alive, `count` pointers to keys of 16 bytes go in, as many places come out.
        unsafe {
            dpdk_sys::rte_hash_lookup_bulk(
                self.0.hash.as_ptr(),
                pointers.as_mut_ptr(),
                count,
                found.as_mut_ptr(),
            );
        }
    }

    fn leaf(found: i32) -> u32 {
        u32::try_from(found).map_or(0, |place| place + 1)
    }
}

impl Lookup<[u8; 16]> for Single<'_> {
    type Found = i32;

    #[inline]
    fn burst(&self, keys: &[[u8; 16]], found: &mut [i32]) {
        for (key, found) in keys.iter().zip(found) {
            // SAFETY: the table is alive and its keys have 16 bytes.
            *found = unsafe {
                dpdk_sys::rte_hash_lookup(self.0.hash.as_ptr(), key.as_ptr().cast::<c_void>())
            };
        }
    }

    fn leaf(found: i32) -> u32 {
        u32::try_from(found).map_or(0, |place| place + 1)
    }
}
