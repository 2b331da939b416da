//! `rte_lpm6`.

use std::ptr::NonNull;

use anyhow::{Context as _, Result};

use super::{ANY_SOCKET, Cost, Dpdk, SPARE_ROUTES, check, costing, unique_name};
use crate::lpm::contender::Lookup;
use crate::lpm::prefix::{Prefix, Route};
use crate::lpm::updates::Updated;

/// The table.
pub struct Lpm6<'d> {
    lpm: NonNull<dpdk_sys::rte_lpm6>,
    cost: Cost,
    _dpdk: &'d Dpdk,
}

impl<'d> Lpm6<'d> {
    /// A table of `routes`, with room for `nodes` nodes of 1 KiB.
    pub fn build(dpdk: &'d Dpdk, routes: &[Route<u128>], nodes: usize) -> Result<Self> {
        let (mut table, cost) = costing(|| {
            let mut table =
                Self::empty(dpdk, routes.len() + routes.len() / 8 + SPARE_ROUTES, nodes)?;
            for route in routes {
                table.insert(route.prefix, route.leaf)?;
            }
            Ok(table)
        })?;
        table.cost = cost;
        Ok(table)
    }

    fn empty(dpdk: &'d Dpdk, routes: usize, nodes: usize) -> Result<Self> {
        let configuration = dpdk_sys::rte_lpm6_config {
            max_rules: u32::try_from(routes)?,
            number_tbl8s: u32::try_from(nodes)?,
            flags: 0,
        };
        let name = unique_name("lpm6");
        // SAFETY: DPDK is started, name and configuration live through the call.
        let lpm = unsafe {
            dpdk_sys::rte_lpm6_create(name.as_ptr(), ANY_SOCKET, &raw const configuration)
        };
        Ok(Self {
            lpm: NonNull::new(lpm).context("rte_lpm6 gets no memory")?,
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
}

impl Updated<u128> for Lpm6<'_> {
    fn insert(&mut self, prefix: Prefix<u128>, leaf: u32) -> Result<()> {
        let address = prefix.address.to_be_bytes();
        // SAFETY: the table lives as long as `self`, which nobody else uses meanwhile; the address is 16 bytes.
        let result = unsafe {
            dpdk_sys::rte_lpm6_add(
                self.lpm.as_ptr(),
                (&raw const address).cast(),
                prefix.length,
                leaf,
            )
        };
        check(result, "rte_lpm6_add")
    }

    fn remove(&mut self, prefix: Prefix<u128>) -> Result<()> {
        let address = prefix.address.to_be_bytes();
        // SAFETY: as in `insert`.
        let result = unsafe {
            dpdk_sys::rte_lpm6_delete(
                self.lpm.as_ptr(),
                (&raw const address).cast(),
                prefix.length,
            )
        };
        check(result, "rte_lpm6_delete")
    }
}

impl Drop for Lpm6<'_> {
    fn drop(&mut self) {
        // SAFETY: made by rte_lpm6_create, freed once, and views borrow `self`.
        unsafe { dpdk_sys::rte_lpm6_free(self.lpm.as_ptr()) };
    }
}

/// A burst at a time.
pub struct Bulk<'a>(pub &'a Lpm6<'a>);

/// One address at a time.
pub struct Single<'a>(pub &'a Lpm6<'a>);

impl Lookup<[u8; 16]> for Bulk<'_> {
    type Found = i32;

    #[inline]
    fn burst(&self, keys: &[[u8; 16]], found: &mut [i32]) {
        let count = u32::try_from(keys.len()).expect("a burst is short");
        // SAFETY: the table is alive, both arrays have `count` elements, and the addresses are only read.
        unsafe {
            dpdk_sys::rte_lpm6_lookup_bulk_func(
                self.0.lpm.as_ptr(),
                keys.as_ptr().cast_mut().cast(),
                found.as_mut_ptr(),
                count,
            );
        }
    }

    /// -1: nothing matches.
    fn leaf(found: i32) -> u32 {
        u32::try_from(found).unwrap_or(0)
    }
}

impl Lookup<[u8; 16]> for Single<'_> {
    type Found = u32;

    #[inline]
    fn burst(&self, keys: &[[u8; 16]], found: &mut [u32]) {
        for (key, found) in keys.iter().zip(found) {
            // SAFETY: the table is alive, an address is 16 bytes, and one next hop is written.
            let result = unsafe {
                dpdk_sys::rte_lpm6_lookup(self.0.lpm.as_ptr(), key.as_ptr().cast(), found)
            };
            if result != 0 {
                *found = 0;
            }
        }
    }

    fn leaf(found: u32) -> u32 {
        found
    }
}
