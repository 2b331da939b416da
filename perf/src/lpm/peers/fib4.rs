//! `rte_fib`, DIR24_8 with next hops of four bytes, the reference of the IPv4 ratios.

use std::mem::zeroed;
use std::ptr::NonNull;

use anyhow::{Context as _, Result};

use super::{ANY_SOCKET, Cost, Dpdk, check, costing, count, unique_name};
use crate::lpm::contender::Lookup;
use crate::lpm::prefix::Route;

/// Nodes for prefixes longer than /24; the public table has none.
const LONG_NODES: u32 = 4_096;

/// The table.
pub struct Fib4<'d> {
    fib: NonNull<dpdk_sys::rte_fib>,
    cost: Cost,
    _dpdk: &'d Dpdk,
}

impl<'d> Fib4<'d> {
    /// A table of `routes`.
    pub fn build(dpdk: &'d Dpdk, routes: &[Route<u32>]) -> Result<Self> {
        let (mut table, cost) = costing(|| {
            let table = Self::empty(dpdk, routes.len())?;
            for Route { prefix, leaf } in routes {
                // SAFETY: the table was just made and is this thread's alone.
                let result = unsafe {
                    dpdk_sys::rte_fib_add(
                        table.fib.as_ptr(),
                        prefix.address,
                        prefix.length,
                        (*leaf).into(),
                    )
                };
                check(result, "rte_fib_add")?;
            }
            Ok(table)
        })?;
        table.cost = cost;
        Ok(table)
    }

    fn empty(dpdk: &'d Dpdk, routes: usize) -> Result<Self> {
        // SAFETY: a structure of numbers, for which all zeros is a value.
        let mut configuration: dpdk_sys::rte_fib_conf = unsafe { zeroed() };
        configuration.type_ = dpdk_sys::RTE_FIB_DIR24_8;
        configuration.max_routes = i32::try_from(routes)?;
        configuration.__bindgen_anon_1.dir24_8.nh_sz = dpdk_sys::RTE_FIB_DIR24_8_4B;
        configuration.__bindgen_anon_1.dir24_8.num_tbl8 = LONG_NODES;
        let name = unique_name("fib4");
        // SAFETY: DPDK is started, name and configuration live through the call.
        let fib =
            unsafe { dpdk_sys::rte_fib_create(name.as_ptr(), ANY_SOCKET, &raw mut configuration) };
        Ok(Self {
            fib: NonNull::new(fib).context("rte_fib gets no memory")?,
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

impl Drop for Fib4<'_> {
    fn drop(&mut self) {
        // SAFETY: made by rte_fib_create, freed once, and views borrow `self`.
        unsafe { dpdk_sys::rte_fib_free(self.fib.as_ptr()) };
    }
}

/// How it looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// A burst, with AVX-512.
    Avx512,
    /// A burst.
    Scalar,
}

/// The table looked up by one function.
pub struct View<'a> {
    table: &'a Fib4<'a>,
    function: Function,
}

impl View<'_> {
    /// Executes CPUID, as in `rte_fib6`.
    fn select(&self) -> bool {
        let function = match self.function {
            Function::Avx512 => dpdk_sys::RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512,
            Function::Scalar => dpdk_sys::RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO,
        };
        // SAFETY: the table is alive; no lookup goes on, as this table is used by one thread.
        unsafe { dpdk_sys::rte_fib_select_lookup(self.table.fib.as_ptr(), function) == 0 }
    }
}

impl Lookup<u32> for View<'_> {
    type Found = u64;

    fn prepare(&self) {
        assert!(self.select(), "it could be selected before");
    }

    #[inline]
    fn burst(&self, keys: &[u32], found: &mut [u64]) {
        // SAFETY: the table is alive, both arrays have `count` elements, and the addresses are only read.
        unsafe {
            dpdk_sys::rte_fib_lookup_bulk(
                self.table.fib.as_ptr(),
                keys.as_ptr().cast_mut(),
                found.as_mut_ptr(),
                count(keys),
            );
        }
    }

    fn leaf(found: u64) -> u32 {
        u32::try_from(found).expect("leaves of 31 bits went in")
    }
}
