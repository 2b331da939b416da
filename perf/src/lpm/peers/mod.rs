//! DPDK's own tables in this process: its start, its memory, and what all of them have in common.
//!
//! They are called the way an application calls them, on huge pages where there are any, from a thread DPDK knows. The
//! vector functions are asked for explicitly: DPDK does not use AVX-512 unless it is told to. These files alone name
//! `dpdk_sys` outside `dataplane::dpdk`: the product has no use for safe wrappers of tables it never looks at.

#![expect(
    unsafe_code,
    reason = "calls of DPDK's tables, which only the measuring program compares with"
)]

pub mod fib4;
pub mod fib6;
pub mod hash;
pub mod lpm4;
pub mod lpm6;

use std::ffi::CString;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use dataplane::dpdk::{Eal, EalConfig, HugePages, ThreadRegistration};

/// Any NUMA socket.
const ANY_SOCKET: i32 = -1;
/// Routes that a table which is updated has room for, beyond an eighth more than it holds.
const SPARE_ROUTES: usize = 1_024;
/// Width of vectors that lookups may use, in bits.
const SIMD_BITS: u16 = 512;
/// Huge pages of 2 MiB that tables may need beyond those reserved: rte_fib6 sets 3 KiB aside for each of a million /48.
const EXTRA_HUGE_PAGES: u64 = 2_048;
/// With fewer free bytes of huge pages than this, DPDK gets ordinary memory.
const LEAST_HUGE_BYTES: u64 = 256 << 20;
/// Ordinary memory that it may then take, MiB; what no table touches is not really taken.
const ORDINARY_MIB: u32 = 6_144;
const FREE_HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const OVERCOMMIT: &str = "/proc/sys/vm/nr_overcommit_hugepages";

/// DPDK, started for its tables.
pub struct Dpdk {
    // Order of drop: DPDK gives its pages back, then the kernel's limit is as before.
    eal: Eal,
    _extra_pages: Option<ExtraPages>,
}

impl Dpdk {
    /// Start DPDK, once a process. It leaves no file behind, whatever happens to the process.
    pub fn start() -> Result<Self> {
        let (configuration, extra_pages) = if huge_bytes() >= LEAST_HUGE_BYTES {
            (EalConfig::default(), ExtraPages::allow())
        } else {
            let ordinary = EalConfig {
                huge_pages: HugePages::Off,
                memory_mib: Some(ORDINARY_MIB),
                ..EalConfig::default()
            };
            (ordinary, None)
        };
        let eal = Eal::start(&configuration).context("DPDK does not start")?;
        // SAFETY: DPDK is started; takes any number.
        unsafe { dpdk_sys::rte_vect_set_max_simd_bitwidth(SIMD_BITS) };
        Ok(Self {
            eal,
            _extra_pages: extra_pages,
        })
    }

    /// What its tables are made of, in a line.
    #[must_use]
    pub fn memory(&self) -> String {
        self.eal.memory().to_string()
    }

    /// Make DPDK know the calling thread, so that its updates are as fast as they can be.
    pub fn register(&self) -> Result<ThreadRegistration> {
        Ok(ThreadRegistration::register()?)
    }
}

/// Bytes of free huge pages of 2 MiB.
fn huge_bytes() -> u64 {
    let free = fs::read_to_string(FREE_HUGE_PAGES).ok();
    let pages: Option<u64> = free.and_then(|text| text.trim().parse().ok());
    pages.map_or(0, |pages| pages << 21)
}

/// The kernel's limit of huge pages beyond the reserved ones, raised; as before when dropped. They are taken only while a
/// table needs them.
struct ExtraPages {
    before: String,
}

impl ExtraPages {
    /// `None` when there are enough, no huge pages at all, or no right to ask for more.
    fn allow() -> Option<Self> {
        let before = fs::read_to_string(OVERCOMMIT).ok()?;
        let allowed: u64 = before.trim().parse().ok()?;
        (allowed < EXTRA_HUGE_PAGES).then_some(())?;
        fs::write(OVERCOMMIT, EXTRA_HUGE_PAGES.to_string()).ok()?;
        Some(Self { before })
    }
}

impl Drop for ExtraPages {
    fn drop(&mut self) {
        // It could be written before.
        let _ = fs::write(OVERCOMMIT, &self.before);
    }
}

/// What making a table cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Milliseconds, all routes inserted one by one.
    pub build_ms: f64,
    /// Bytes of DPDK's heap, those set aside for later routes included.
    pub bytes: u64,
}

/// Make and fill a table with `build`, and say what it cost.
fn costing<T>(build: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    let before = heap_bytes();
    let start = Instant::now();
    let table = build()?;
    let cost = Cost {
        build_ms: start.elapsed().as_secs_f64() * 1e3,
        bytes: heap_bytes().saturating_sub(before),
    };
    Ok((table, cost))
}

fn heap_bytes() -> u64 {
    // SAFETY: reads counters of DPDK, which any table here needs started.
    unsafe { dpdk_sys::shim_heap_bytes() }
}

/// A name no other table of this process has.
fn unique_name(kind: &str) -> CString {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    CString::new(format!("{kind}-{number}")).expect("no NUL in it")
}

/// A result of DPDK's that is not negative.
fn check(result: i32, what: &str) -> Result<()> {
    ensure!(
        result >= 0,
        "{what}: {}",
        std::io::Error::from_raw_os_error(-result)
    );
    Ok(())
}

/// Length of a burst as DPDK wants it.
fn count<T>(keys: &[T]) -> i32 {
    i32::try_from(keys.len()).expect("a burst is short")
}
