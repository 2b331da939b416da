//! `rte_lpm`, whose lookups are inline functions: one call of the shim a burst. Building it of the public table takes
//! about five minutes.

use std::ptr::NonNull;

use anyhow::{Context as _, Result};

use super::{ANY_SOCKET, Cost, Dpdk, check, costing, unique_name};
use crate::lpm::contender::Lookup;
use crate::lpm::prefix::Route;

/// Nodes for prefixes longer than /24; the public table has none.
const LONG_NODES: u32 = 4_096;
/// What a found entry holds beside flags.
const LEAF: u32 = (1 << 24) - 1;

/// The table.
pub struct Lpm4<'d> {
    lpm: NonNull<dpdk_sys::rte_lpm>,
    cost: Cost,
    _dpdk: &'d Dpdk,
}

impl<'d> Lpm4<'d> {
    /// A table of `routes`.
    pub fn build(dpdk: &'d Dpdk, routes: &[Route<u32>]) -> Result<Self> {
        let (mut table, cost) = costing(|| {
            let table = Self::empty(dpdk, routes.len())?;
            for Route { prefix, leaf } in routes {
                // SAFETY: the table was just made and is this thread's alone.
                let result = unsafe {
                    dpdk_sys::rte_lpm_add(table.lpm.as_ptr(), prefix.address, prefix.length, *leaf)
                };
                check(result, "rte_lpm_add")?;
            }
            Ok(table)
        })?;
        table.cost = cost;
        Ok(table)
    }

    fn empty(dpdk: &'d Dpdk, routes: usize) -> Result<Self> {
        let configuration = dpdk_sys::rte_lpm_config {
            max_rules: u32::try_from(routes)?,
            number_tbl8s: LONG_NODES,
            flags: 0,
        };
        let name = unique_name("lpm4");
        // SAFETY: DPDK is started, name and configuration live through the call.
        let lpm = unsafe {
            dpdk_sys::rte_lpm_create(name.as_ptr(), ANY_SOCKET, &raw const configuration)
        };
        Ok(Self {
            lpm: NonNull::new(lpm).context("rte_lpm gets no memory")?,
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

impl Drop for Lpm4<'_> {
    fn drop(&mut self) {
        // SAFETY: made by rte_lpm_create, freed once, and views borrow `self`.
        unsafe { dpdk_sys::rte_lpm_free(self.lpm.as_ptr()) };
    }
}

/// A burst at a time.
pub struct Bulk<'a>(pub &'a Lpm4<'a>);

/// One address at a time.
pub struct Single<'a>(pub &'a Lpm4<'a>);

impl Lookup<u32> for Bulk<'_> {
    type Found = u32;

    #[inline]
    fn burst(&self, keys: &[u32], found: &mut [u32]) {
        let count = u32::try_from(keys.len()).expect("a burst is short");
        // SAFETY: the table is alive, and both arrays have `count` elements.
        unsafe {
            dpdk_sys::shim_lpm_lookup_bulk(
                self.0.lpm.as_ptr(),
                keys.as_ptr(),
                found.as_mut_ptr(),
                count,
            );
        }
    }

    fn leaf(found: u32) -> u32 {
        leaf_of(found)
    }
}

impl Lookup<u32> for Single<'_> {
    type Found = u32;

    #[inline]
    fn burst(&self, keys: &[u32], found: &mut [u32]) {
        let count = u32::try_from(keys.len()).expect("a burst is short");
        // SAFETY: the table is alive, and both arrays have `count` elements.
        unsafe {
            dpdk_sys::shim_lpm_lookup_each(
                self.0.lpm.as_ptr(),
                keys.as_ptr(),
                found.as_mut_ptr(),
                count,
            );
        }
    }

    fn leaf(found: u32) -> u32 {
        leaf_of(found)
    }
}

fn leaf_of(entry: u32) -> u32 {
    if entry & dpdk_sys::DPDK_LPM_FOUND == 0 {
        0
    } else {
        entry & LEAF
    }
}
