//! `rte_fib6` with next hops of four bytes, the reference of all IPv6 ratios.

use std::mem::zeroed;
use std::ptr::NonNull;

use anyhow::{Context as _, Result};

use super::{ANY_SOCKET, Cost, Dpdk, SPARE_ROUTES, check, costing, count, unique_name};
use crate::lpm::contender::Lookup;
use crate::lpm::prefix::{Prefix, Route};
use crate::lpm::updates::Updated;

/// The table.
pub struct Fib6<'d> {
    fib: NonNull<dpdk_sys::rte_fib6>,
    cost: Cost,
    _dpdk: &'d Dpdk,
}

impl<'d> Fib6<'d> {
    /// A table of `routes`, with room for `nodes` nodes of 1 KiB. It sets aside up to three nodes for a route longer
    /// than /40, whether it needs them or not, and refuses a route when it has none left.
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
        // SAFETY: a structure of numbers, for which all zeros is a value.
        let mut configuration: dpdk_sys::rte_fib6_conf = unsafe { zeroed() };
        configuration.type_ = dpdk_sys::RTE_FIB6_TRIE;
        configuration.max_routes = i32::try_from(routes)?;
        configuration.__bindgen_anon_1.trie.nh_sz = dpdk_sys::RTE_FIB6_TRIE_4B;
        configuration.__bindgen_anon_1.trie.num_tbl8 = u32::try_from(nodes)?;
        let name = unique_name("fib6");
        // SAFETY: DPDK is started, name and configuration live through the call.
        let fib =
            unsafe { dpdk_sys::rte_fib6_create(name.as_ptr(), ANY_SOCKET, &raw mut configuration) };
        Ok(Self {
            fib: NonNull::new(fib).context("rte_fib6 gets no memory")?,
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

    /// Its lookup by `function`; `None` when this processor or this DPDK has none.
    #[must_use]
    pub fn by(&self, function: Function) -> Option<View<'_>> {
        let view = View {
            table: self,
            function,
        };
        view.select().then_some(view)
    }
}

impl Updated<u128> for Fib6<'_> {
    fn insert(&mut self, prefix: Prefix<u128>, leaf: u32) -> Result<()> {
        let address = prefix.address.to_be_bytes();
        // SAFETY: the table lives as long as `self`, which nobody else uses meanwhile; the address is 16 bytes.
        let result = unsafe {
            dpdk_sys::rte_fib6_add(
                self.fib.as_ptr(),
                (&raw const address).cast(),
                prefix.length,
                leaf.into(),
            )
        };
        check(result, "rte_fib6_add")
    }

    fn remove(&mut self, prefix: Prefix<u128>) -> Result<()> {
        let address = prefix.address.to_be_bytes();
        // SAFETY: as in `insert`.
        let result = unsafe {
            dpdk_sys::rte_fib6_delete(
                self.fib.as_ptr(),
                (&raw const address).cast(),
                prefix.length,
            )
        };
        check(result, "rte_fib6_delete")
    }
}

impl Drop for Fib6<'_> {
    fn drop(&mut self) {
        // SAFETY: made by rte_fib6_create, freed once, and views borrow `self`.
        unsafe { dpdk_sys::rte_fib6_free(self.fib.as_ptr()) };
    }
}

/// How it looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// A burst, with AVX-512.
    Avx512,
    /// A burst.
    Scalar,
    /// One address a call, without vectors.
    Single,
}

/// The table looked up by one function.
pub struct View<'a> {
    table: &'a Fib6<'a>,
    function: Function,
}

impl View<'_> {
    /// Selecting executes CPUID, which a virtual machine traps: 20 microseconds, never in the time that counts.
    fn select(&self) -> bool {
        let function = match self.function {
            Function::Avx512 => dpdk_sys::RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512,
            Function::Scalar | Function::Single => dpdk_sys::RTE_FIB6_LOOKUP_TRIE_SCALAR,
        };
        // SAFETY: the table is alive; no lookup goes on, as this table is used by one thread.
        unsafe { dpdk_sys::rte_fib6_select_lookup(self.table.fib.as_ptr(), function) == 0 }
    }
}

impl Lookup<[u8; 16]> for View<'_> {
    type Found = u64;

    fn prepare(&self) {
        assert!(self.select(), "it could be selected before");
    }

    #[inline]
    fn burst(&self, keys: &[[u8; 16]], found: &mut [u64]) {
        let step = if self.function == Function::Single {
            1
        } else {
            keys.len()
        };
        for (keys, found) in keys.chunks(step).zip(found.chunks_mut(step)) {
            // SAFETY: the table is alive, both arrays have `count` elements, and the addresses are only read.
            unsafe {
                dpdk_sys::rte_fib6_lookup_bulk(
                    self.table.fib.as_ptr(),
                    keys.as_ptr().cast_mut().cast(),
                    found.as_mut_ptr(),
                    count(keys),
                );
            }
        }
    }

    fn leaf(found: u64) -> u32 {
        u32::try_from(found).expect("leaves of 31 bits went in")
    }
}
