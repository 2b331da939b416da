//! What [`super::publish`] and [`super::lpm`] take from the memory model: atomics, and each ordering with its reason.
//!
//! They stand apart from the algorithms so that `tests/publish_model.rs` can compile the same `publish.rs`, and the core of
//! the prefix table, against loom's atomics, and then against each ordering weakened in turn. Nothing else uses this module.

pub(crate) use std::boxed::Box;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

/// Every ordering of the algorithm that is stronger than relaxed.
pub(crate) mod order {
    use std::sync::atomic::Ordering::{self, Acquire, Release, SeqCst};
    use std::sync::atomic::fence;

    /// Tables are complete before a worker can reach them.
    #[inline]
    pub(crate) const fn store_tables() -> Ordering {
        Release
    }

    /// The other half of [`store_tables`].
    #[inline]
    pub(crate) const fn load_tables() -> Ordering {
        Acquire
    }

    /// The new tables are in place before the new epoch: who has seen the epoch cannot load what it retired.
    #[inline]
    pub(crate) const fn store_epoch() -> Ordering {
        Release
    }

    /// The other half of [`store_epoch`].
    #[inline]
    pub(crate) const fn load_epoch() -> Ordering {
        Acquire
    }

    /// A worker's last use of the old tables comes before its report.
    #[inline]
    pub(crate) const fn report() -> Ordering {
        Release
    }

    /// The other half of [`report`]: what a report allows to be freed is freed after that last use.
    #[inline]
    pub(crate) const fn collect() -> Ordering {
        Acquire
    }

    /// A node is complete before a cell leads there.
    #[inline]
    pub(crate) const fn publish_node() -> Ordering {
        Release
    }

    /// The other half of [`publish_node`].
    #[inline]
    pub(crate) const fn follow_node() -> Ordering {
        Acquire
    }

    /// A worker that comes back, between its report and its next load of the tables. With [`fence_reclaim`] it makes
    /// sure that either the publisher sees the worker present, or the worker sees the newest tables.
    #[inline]
    pub(crate) fn fence_return() {
        fence(SeqCst);
    }

    /// The publisher, between replacing tables and looking who is present.
    #[inline]
    pub(crate) fn fence_reclaim() {
        fence(SeqCst);
    }
}
