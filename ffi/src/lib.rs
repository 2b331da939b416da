//! DPDK's C API as Rust declarations: what bindgen's allow-list in `build.rs` names, and `shim.c` for the rest.
//!
//! No policy and no safe wrapper is here; those are `dataplane::dpdk`, the product's only user. Receiving and sending go through
//! `rte_eth_fp_ops` and [`rte_mbuf`] from Rust, so no C function is called once a packet; every other call is cold.
//!
//! With the feature `tables` also DPDK's own lookup tables (`tables.h`), for the suite in `perf` that compares with them.
//!
//! Written for DPDK 22.11 (Debian 12, where the tests run), 23.11 and 24.11 (Debian 13). Where those differ: `LIBRARIES`
//! in `build.rs`, the "versions" section of `shim.c`, and [`layout`].

#![allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    missing_docs
)]

pub mod layout;

pub use declarations::*;
pub use layout::rte_mbuf;

#[allow(
    unsafe_op_in_unsafe_fn,
    dead_code,
    unused_imports,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod declarations {
    include!(concat!(env!("OUT_DIR"), "/dpdk.rs"));
}

/// Shapes that the packet path relies on; a DPDK that changes them stops the build here.
const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    // One cache line for each direction. The places inside differ between 22.11 and 24.11, which is why these two
    // structures come from the installed headers.
    assert!(size_of::<rte_eth_fp_ops>() == 128 && align_of::<rte_eth_fp_ops>() == 64);
    assert!(offset_of!(rte_eth_fp_ops, rx_pkt_burst) < 64 && offset_of!(rte_eth_fp_ops, rxq) < 64);
    assert!(
        offset_of!(rte_eth_fp_ops, tx_pkt_burst) >= 64 && offset_of!(rte_eth_fp_ops, txq) >= 64
    );
    assert!(size_of::<rte_ethdev_qdata>() == 16);
    assert!(offset_of!(rte_ethdev_qdata, data) == 0);
    // An uncalled function pointer is null, and `Option` of one is as large as one.
    assert!(size_of::<eth_rx_burst_t>() == size_of::<*const ()>());
    assert!(size_of::<rte_ether_addr>() == 6);
};
