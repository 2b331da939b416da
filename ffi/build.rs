//! Finds libdpdk, compiles `shim.c`, generates the Rust declarations of the allow-list below, and links.
//!
//! Runs on DPDK 22.11 or newer. Everything that differs between versions is in three places: the list of libraries
//! below (`rte_log` left `rte_eal` in 23.11), the "versions" section of `shim.c`, and `src/layout.rs`, which says why
//! one layout serves all.

use std::env;
use std::path::{Path, PathBuf};

use pkg_config::Library;

/// Oldest DPDK this binding is written for: the release of Debian 12.
const OLDEST: &str = "22.11";

/// What we call directly, in link order; of these, those that the installed version has. Nothing else is linked:
/// drivers are plug-ins that EAL loads itself, so shared linking needs no list of drivers and no `--whole-archive`.
/// (Static linking on Debian stops at libraries that exist only shared.)
const LIBRARIES: [&str; 6] = [
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_log",
    "rte_eal",
];

/// Functions of the exported C API, by exact name. An allow-list, because without one bindgen also takes every compiler
/// intrinsic that DPDK's headers pull in. Thread-local variables (`per_lcore__*`) must never stand here: they would bind
/// as plain statics, link without a word, and crash; `shim_errno` and `shim_lcore_is_known` read them in C.
const FUNCTIONS: [&str; 37] = [
    // start and stop
    "rte_eal_init",
    "rte_eal_cleanup",
    "rte_version",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    // memory
    "rte_pktmbuf_pool_create",
    "rte_pktmbuf_free_bulk",
    "rte_mempool_free",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    // devices
    "rte_eth_find_next",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_info_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_get_mtu",
    "rte_eth_promiscuous_enable",
    "rte_eth_allmulticast_enable",
    "rte_eth_macaddr_get",
    "rte_eth_stats_get",
    "rte_eth_xstats_get",
    "rte_eth_xstats_get_names",
    // shim.c
    "shim_errno",
    "shim_lcore_is_known",
    "shim_pktmbuf_alloc_bulk",
    "shim_device_name",
    "shim_link",
    "shim_log_.*",
];

/// The libraries, functions and constants of the feature `tables`: DPDK's own lookup tables, which only `perf` looks at.
const TABLE_LIBRARIES: [&str; 3] = ["rte_fib", "rte_lpm", "rte_hash"];
const TABLE_FUNCTIONS: [&str; 29] = [
    "rte_vect_set_max_simd_bitwidth",
    "rte_fib6_create",
    "rte_fib6_free",
    "rte_fib6_add",
    "rte_fib6_delete",
    "rte_fib6_lookup_bulk",
    "rte_fib6_select_lookup",
    "rte_fib_create",
    "rte_fib_free",
    "rte_fib_add",
    "rte_fib_lookup_bulk",
    "rte_fib_select_lookup",
    "rte_lpm6_create",
    "rte_lpm6_free",
    "rte_lpm6_add",
    "rte_lpm6_delete",
    "rte_lpm6_lookup",
    "rte_lpm6_lookup_bulk_func",
    "rte_lpm_create",
    "rte_lpm_free",
    "rte_lpm_add",
    "rte_hash_create",
    "rte_hash_free",
    "rte_hash_add_key",
    "rte_hash_lookup",
    "rte_hash_lookup_bulk",
    "shim_lpm_lookup_bulk",
    "shim_lpm_lookup_each",
    "shim_heap_bytes",
];

/// Constants. DPDK's offload and RSS bits are function-like macros, which bindgen passes over in silence; `shim.h`
/// repeats those we use as typed constants named `DPDK_*`.
const VARIABLES: [&str; 5] = [
    "rte_eth_fp_ops",
    "RTE_MAX_ETHPORTS",
    "RTE_PKTMBUF_HEADROOM",
    "RTE_ETH_NAME_MAX_LEN",
    "DPDK_.*",
];

fn main() {
    for file in ["build.rs", "shim.h", "shim.c", "tables.h", "tables.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    match find_dpdk() {
        Ok(dpdk) => {
            compile_shim(&dpdk);
            generate_declarations(&dpdk);
            link(&dpdk);
        }
        Err(reason) => println!("cargo::error={reason}"),
    }
}

fn find_dpdk() -> Result<Library, String> {
    let advice = format!(
        "Sextant needs DPDK {OLDEST} or newer with its headers: on Debian, `apt-get install libdpdk-dev pkg-config`"
    );
    let library = pkg_config::Config::new()
        .cargo_metadata(false) // would link all of DPDK's fifty libraries
        .probe("libdpdk")
        .map_err(|_| format!("pkg-config finds no libdpdk. {advice}"))?;
    if version_number(&library.version) < version_number(OLDEST) {
        return Err(format!(
            "the installed libdpdk is {}, too old. {advice}",
            library.version
        ));
    }
    Ok(library)
}

/// `22.11.3` as (22, 11).
fn version_number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Compiler flags that `libdpdk.pc` asks for and the pkg-config crate drops. Without them the compilers stop in
/// `rte_memcpy.h` with hundreds of errors; they are needed by the shim and by bindgen's parser alike.
fn required_flags() -> Vec<&'static str> {
    let mut flags = vec!["-include", "rte_config.h"];
    match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => flags.push("-march=corei7"),
        Ok("aarch64") => flags.push("-march=armv8-a+crc"),
        _ => {}
    }
    flags
}

/// Whether the feature `tables` is asked for.
fn with_tables() -> bool {
    env::var_os("CARGO_FEATURE_TABLES").is_some()
}

fn compile_shim(dpdk: &Library) {
    let mut build = cc::Build::new();
    build
        .file("shim.c")
        .includes(&dpdk.include_paths)
        .flag("-std=gnu11")
        .opt_level(3); // cc would take -O0 in dev builds, and these wrap functions meant to be inlined
    if with_tables() {
        build.file("tables.c");
    }
    for flag in required_flags() {
        build.flag(flag);
    }
    build.compile("dpdk_shim");
}

fn generate_declarations(dpdk: &Library) {
    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(required_flags())
        .clang_args(
            dpdk.include_paths
                .iter()
                .map(|path| format!("-I{}", path.display())),
        )
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_unsafe_ops(true)
        .use_core()
        .generate_comments(false) // DPDK's comments are no rustdoc: their examples fail as doctests
        .prepend_enum_name(false) // RTE_ETH_MQ_RX_RSS, as in C
        .derive_debug(false) // fails on packed types
        .layout_tests(true) // as assertions at compile time
        .blocklist_type("rte_mbuf") // src/layout.rs
        .opaque_type("rte_mempool")
        .opaque_type("rte_device")
        .raw_line("use crate::layout::rte_mbuf;");
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    if with_tables() {
        builder = builder.header("tables.h");
        for function in TABLE_FUNCTIONS {
            builder = builder.allowlist_function(function);
        }
    }
    for variable in VARIABLES {
        builder = builder.allowlist_var(variable);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    builder
        .generate()
        .expect("bindgen parses the headers that the C compiler just accepted")
        .write_to_file(out.join("dpdk.rs"))
        .expect("the build directory can be written");
}

fn link(dpdk: &Library) {
    for path in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", Path::display(path));
    }
    let tables: &[&str] = if with_tables() { &TABLE_LIBRARIES } else { &[] };
    for library in tables.iter().chain(&LIBRARIES) {
        if dpdk.libs.iter().any(|installed| installed == library) {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
}
