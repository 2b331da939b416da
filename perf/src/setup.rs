//! What one comparison on devices has in common for everybody who takes part: devices, cores, buffers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// Memory of a buffer: data of 2,048 bytes with headroom, descriptor, the pool's own header, and what does not fill a page.
const MBUF_BYTES: usize = 2560;
/// Packets in flight, caches and rings; beyond these each packet of the source's file holds a buffer of its own.
const SPARE_MBUFS: usize = 16_384;

/// Devices, cores and buffers: the same for every contender of a round.
#[derive(Debug, Clone)]
pub struct Setup {
    /// DPDK device that replays a capture for ever.
    pub source: String,
    /// DPDK device that swallows everything and delivers nothing.
    pub sink: String,
    /// Buffers in the one pool.
    pub mbufs: usize,
    /// Packets asked for in one poll.
    pub burst: usize,
    /// For everything but forwarding.
    pub control_core: usize,
    /// For forwarding.
    pub worker_core: usize,
}

impl Setup {
    /// Replay `capture`, which holds `packets` packets, on the last core of the machine.
    pub fn new(capture: &Path, packets: usize, burst: usize) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ensure!(
            cores >= 2,
            "a measurement on devices needs two cores, one to forward and one for everything else"
        );
        Ok(Self {
            source: format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display()),
            // Without no-rx the device would also deliver packets, as fast as they are asked for.
            sink: "net_null0,copy=0,no-rx=1".to_owned(),
            mbufs: packets + SPARE_MBUFS,
            burst,
            control_core: 0,
            worker_core: cores - 1,
        })
    }

    /// Why the huge pages that are free do not suffice for the buffers of so many contenders; `None`: they do. A kernel without any says so
    /// itself, later.
    pub fn missing_huge_pages(&self, contenders: usize) -> Result<Option<String>> {
        let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let field = |name: &str| -> Option<usize> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        let free = field("HugePages_Free:").unwrap_or(0);
        let page = field("Hugepagesize:").unwrap_or(2048) << 10;
        let needed = contenders * (self.mbufs * MBUF_BYTES).div_ceil(page);
        Ok((free < needed).then(|| {
            format!(
                "{contenders} times {} packet buffers need {needed} huge pages of {} MiB, {free} are free",
                self.mbufs,
                page >> 20
            )
        }))
    }
}

/// A folder for captures, configuration, socket and log; gone when dropped.
pub struct Workspace {
    folder: TempDir,
}

impl Workspace {
    /// Make the folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sextant-perf-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        Ok(Self { folder })
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
