//! Huge pages or ordinary pages: decided before DPDK starts, because a failed start cannot be repeated.

use std::fmt;
use std::fs;

use super::eal::{EalConfig, EalError};

/// Huge pages are taken by [`HugePages::Auto`] when at least this much of them is free, unless the configuration names
/// an amount: two small mempools and what DPDK itself needs.
const LEAST_HUGE_MIB: u64 = 128;

/// Where packet memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HugePages {
    /// Huge pages when enough are free, ordinary pages otherwise.
    Auto,
    /// Huge pages or no start.
    Require,
    /// Ordinary pages.
    Off,
}

/// What packet memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Huge pages.
    HugePages {
        /// Size of one.
        page_bytes: u64,
    },
    /// Ordinary pages.
    Ordinary,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HugePages { page_bytes } if page_bytes >> 30 > 0 => {
                write!(f, "packet memory: huge pages of {} GiB", page_bytes >> 30)
            }
            Self::HugePages { page_bytes } => {
                write!(f, "packet memory: huge pages of {} MiB", page_bytes >> 20)
            }
            Self::Ordinary => write!(
                f,
                "packet memory: ordinary pages, no huge pages (fit for trying out and tests; slower, and refused by most NICs)"
            ),
        }
    }
}

pub(super) fn choose_memory(config: &EalConfig) -> Result<Memory, EalError> {
    if config.huge_pages == HugePages::Off {
        return Ok(Memory::Ordinary);
    }
    let free = free_huge_pages();
    let needed_mib = config.memory_mib.map_or(LEAST_HUGE_MIB, u64::from);
    let free_mib = free
        .iter()
        .map(|(page_bytes, pages)| (page_bytes * pages) >> 20)
        .sum();
    match free
        .iter()
        .max_by_key(|(page_bytes, pages)| page_bytes * pages)
    {
        Some((page_bytes, _)) if free_mib >= needed_mib => Ok(Memory::HugePages {
            page_bytes: *page_bytes,
        }),
        _ if config.huge_pages == HugePages::Require => Err(EalError::TooFewHugePages {
            needed_mib,
            free_mib,
        }),
        _ => Ok(Memory::Ordinary),
    }
}

/// (bytes of a page, free pages) for each size of huge page.
fn free_huge_pages() -> Vec<(u64, u64)> {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    sizes
        .flatten()
        .filter_map(|size| {
            let name = size.file_name().into_string().ok()?;
            let kib: u64 = name
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()?;
            let free = fs::read_to_string(size.path().join("free_hugepages")).ok()?;
            Some((kib * 1024, free.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_huge_pages_than_a_machine_has_are_refused_or_done_without() {
        let config = EalConfig {
            memory_mib: Some(u32::MAX),
            huge_pages: HugePages::Require,
            ..EalConfig::default()
        };
        assert!(matches!(
            choose_memory(&config),
            Err(EalError::TooFewHugePages { .. })
        ));
        let config = EalConfig {
            huge_pages: HugePages::Auto,
            ..config
        };
        assert_eq!(choose_memory(&config).unwrap(), Memory::Ordinary);
    }
}
