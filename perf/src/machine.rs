//! Where a measurement was made: without it a figure means nothing.

use std::fmt;
use std::fs;
use std::process::Command;

use crate::tsc;

/// What a reader needs to know about the machine; printed with every result.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Model name of the processor.
    pub processor: String,
    /// Cores that can run threads.
    pub cores: usize,
    /// Rate of the time-stamp counter, per second.
    pub tsc_hertz: f64,
    /// DPDK's version, as pkg-config knows it.
    pub dpdk: String,
    /// Huge pages, total and free, and their size.
    pub huge_pages: String,
    /// Kernel release.
    pub kernel: String,
    /// Day and time, UTC.
    pub date: String,
}

const UNKNOWN: &str = "unknown";

impl Machine {
    /// Look at this machine; takes a fifth of a second, to measure the counter's rate.
    #[must_use]
    pub fn look() -> Self {
        Self {
            processor: field_of("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            tsc_hertz: tsc::measured_hertz(),
            dpdk: output_of("pkg-config", &["--modversion", "libdpdk"]),
            huge_pages: format!(
                "{} free of {} huge pages of {}",
                field_of("/proc/meminfo", "HugePages_Free"),
                field_of("/proc/meminfo", "HugePages_Total"),
                field_of("/proc/meminfo", "Hugepagesize"),
            ),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned()),
            date: output_of("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        }
    }

    /// Clocks one packet takes at this rate.
    #[must_use]
    pub fn clocks_per_packet(&self, packets_per_second: f64) -> f64 {
        self.tsc_hertz / packets_per_second
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, TSC {:.3} GHz; DPDK {}; {}; Linux {}; {}",
            self.processor,
            self.cores,
            self.tsc_hertz / 1e9,
            self.dpdk,
            self.huge_pages,
            self.kernel,
            self.date
        )
    }
}

/// The value behind `key` in a file of `key: value` lines.
fn field_of(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map_or_else(|| UNKNOWN.to_owned(), |(_, value)| value.trim().to_owned())
}

fn output_of(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| UNKNOWN.to_owned())
}
