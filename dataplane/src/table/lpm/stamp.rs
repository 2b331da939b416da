//! How often a table was changed: who keeps what a lookup said knows by it how long that holds.

use std::sync::atomic::Ordering::Relaxed;

use super::atomics::{AtomicU64, order};

/// Tables made so far in this process, so that no two have a stamp in common.
static TABLES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// A table as it was after so many changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    table: u64,
    changes: u64,
}

/// The changes of a table.
pub(super) struct Changes {
    table: u64,
    count: AtomicU64,
}

impl Changes {
    pub fn new() -> Self {
        Self {
            table: TABLES.fetch_add(1, Relaxed),
            count: AtomicU64::new(0),
        }
    }

    /// A change is complete. It is published like a node: who sees the number sees the change.
    pub fn count(&self) {
        let count = self.count.load(Relaxed);
        self.count.store(count + 1, order::publish_node());
    }

    #[inline(always)]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            table: self.table,
            changes: self.count.load(order::follow_node()),
        }
    }
}
