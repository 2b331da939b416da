//! Publication of tables to workers: read-copy-update, reclaimed by quiescent states (QSBR).
//!
//! One control thread holds the [`Publisher`], each worker a [`Reader`]. A worker reads with one plain load and, at the
//! top of each round of its loop, reports that it holds nothing from earlier rounds; that is all it ever does. The
//! control thread frees what was replaced once every worker has reported since, so no worker ever frees a table, waits,
//! or is waited for.
//!
//! What readers may see:
//! - Tables are replaced whole. A reference from [`Reader::load`] is one published value, complete, and does not change
//!   while it is held; the borrow ends before the next [`Reader::quiescent`].
//! - Two loads of one reader never go back in time. Without a `quiescent` between them they may differ: the second may be
//!   newer. Who needs one view for a whole batch loads once for it.
//! - Different workers may use different versions at the same moment, for at most one round of their loops.
//! - Whatever the control thread publishes before it pushes to a ring is seen by a worker that pops from that ring and
//!   loads afterwards: an injected packet meets at least the tables that were current when it was injected.
//! - A reader that is offline ([`Reader::while_offline`]) or dropped holds nothing and delays nothing; coming back it
//!   sees the newest tables.
//!
//! How: the publisher swaps the pointer, then advances the epoch, and marks what it replaced with the new epoch. A reader
//! reports by copying the epoch to its slot. A value marked `e` may go once every slot holds `e` or more, or is away.
//! Every ordering is explained in `super::atomics`. `tests/publish_model.rs` compiles this very file against loom and
//! checks all interleavings of two threads, and that each ordering weakened alone is caught.

use std::cell::Cell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::atomics::{Arc, AtomicPtr, AtomicU64, Box, order};

/// A slot's value while its reader is away: later than any epoch.
const OFFLINE: u64 = u64::MAX;
/// A slot's value once its reader is dropped.
const GONE: u64 = u64::MAX - 1;

/// One reader's report: the epoch it has seen, [`OFFLINE`] or [`GONE`].
type Slot = CachePadded<AtomicU64>;

/// A replaced value, and the epoch every reader must have reported before it is freed.
struct Retired<T> {
    epoch: u64,
    tables: NonNull<T>,
}

struct Shared<T> {
    current: CachePadded<AtomicPtr<T>>,
    epoch: CachePadded<AtomicU64>,
    /// Oldest first. Locked by the publisher alone, so never contended; it stands here so that it outlives the publisher
    /// when readers do.
    retired: Mutex<VecDeque<Retired<T>>>,
}

// SAFETY: `Shared` owns the values behind its pointers. Readers on other threads get `&T` (hence `T: Sync`) and the last
// owner, on whatever thread, drops them (hence `T: Send`); everything else in it is atomic or behind a mutex.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as for `Send`.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let retired = std::mem::take(
            self.retired
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let current = NonNull::new(self.current.load(Relaxed));
        for tables in retired.into_iter().map(|old| old.tables).chain(current) {
            // SAFETY: the pointer came from `Box::into_raw`, is in exactly one of the two places, and the last owner of
            // `Shared` is going: there is no reader and no publisher.
            drop(unsafe { Box::from_raw(tables.as_ptr()) });
        }
    }
}

/// The control thread's end: publishes, and frees what no worker can still use.
pub struct Publisher<T: Send + Sync> {
    shared: Arc<Shared<T>>,
    readers: Vec<Arc<Slot>>,
}

impl<T: Send + Sync> Publisher<T> {
    /// A publisher whose first published value is `tables`.
    #[must_use]
    pub fn new(tables: T) -> Self {
        Self {
            shared: Arc::new(Shared {
                current: CachePadded::new(AtomicPtr::new(Box::into_raw(Box::new(tables)))),
                epoch: CachePadded::new(AtomicU64::new(1)),
                retired: Mutex::new(VecDeque::new()),
            }),
            readers: Vec::new(),
        }
    }

    /// The value published last.
    #[must_use]
    pub fn current(&self) -> &T {
        // SAFETY: the pointer is valid until it is retired and reclaimed, and only `publish`, which needs `&mut self`,
        // retires it; it was stored by this thread or by the one that sent the publisher here.
        unsafe { &*self.shared.current.load(Relaxed) }
    }

    /// Replace what workers see from their next load on. The old value is kept until [`Publisher::reclaim`].
    pub fn publish(&mut self, tables: T) {
        let new = Box::into_raw(Box::new(tables));
        let old = self.shared.current.swap(new, order::store_tables());
        let epoch = self.mark();
        let tables = NonNull::new(old).expect("current is never null");
        self.retired().push_back(Retired { epoch, tables });
    }

    /// Begin a new epoch without replacing the value, for what is changed inside it, and tell its number: a reader that
    /// reports it holds nothing that was taken out before. Pairs with [`Publisher::passed`].
    pub fn mark(&mut self) -> u64 {
        let epoch = self.shared.epoch.load(Relaxed) + 1;
        self.shared.epoch.store(epoch, order::store_epoch());
        epoch
    }

    /// The oldest epoch that a reader who is present has reported; `u64::MAX` if none is.
    pub fn passed(&mut self) -> u64 {
        order::fence_reclaim();
        let mut oldest = u64::MAX;
        self.readers.retain(|slot| {
            let seen = slot.load(order::collect());
            oldest = oldest.min(seen);
            seen != GONE
        });
        if oldest >= GONE { u64::MAX } else { oldest }
    }

    /// Free every replaced value that no worker can still use, and say how many were freed. Never waits; call it again
    /// later for the rest.
    pub fn reclaim(&mut self) -> usize {
        if self.pending() == 0 {
            return 0;
        }
        let oldest = self.passed();
        let mut freed = 0;
        loop {
            // The lock is not held while a value is dropped: a panic there must not poison it.
            let next = {
                let mut retired = self.retired();
                retired.pop_front_if(|old| old.epoch <= oldest)
            };
            let Some(Retired { tables, .. }) = next else {
                return freed;
            };
            // SAFETY: the pointer came from `Box::into_raw` and is in no list any more. Every reader has reported this
            // epoch or a later one, is away or is gone, so its last use came before (`order::collect`) and its next load
            // finds a newer value (`order::load_epoch`, `order::fence_return`).
            drop(unsafe { Box::from_raw(tables.as_ptr()) });
            freed += 1;
        }
    }

    /// Replaced values that are not freed yet. One that stays shows a worker that no longer reports.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.retired().len()
    }

    /// A reader for one worker. It counts as present at once: until its thread runs, nothing replaced is freed.
    pub fn reader(&mut self) -> Reader<T> {
        let epoch = self.shared.epoch.load(Relaxed);
        let slot = Arc::new(CachePadded::new(AtomicU64::new(epoch)));
        self.readers.push(Arc::clone(&slot));
        Reader {
            shared: Arc::clone(&self.shared),
            slot,
            not_sync: PhantomData,
        }
    }

    fn retired(&self) -> std::sync::MutexGuard<'_, VecDeque<Retired<T>>> {
        self.shared
            .retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's end. It may be sent to the worker's thread, not shared between threads.
pub struct Reader<T: Send + Sync> {
    shared: Arc<Shared<T>>,
    slot: Arc<Slot>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Send + Sync> Reader<T> {
    /// Report that nothing loaded earlier is in use: the borrow checker sees to it that this is true.
    #[inline]
    pub fn quiescent(&mut self) {
        let epoch = self.shared.epoch.load(order::load_epoch());
        self.slot.store(epoch, order::report());
    }

    /// The tables now, usable until the next [`Reader::quiescent`].
    #[inline]
    #[must_use]
    pub fn load(&self) -> &T {
        let tables = self.shared.current.load(order::load_tables());
        // SAFETY: `current` always points to a live value. This reader is present and its slot holds an epoch from before
        // this load, so whatever retires the value marks it with a later epoch, which the publisher waits for; the slot
        // changes only through `&mut self`, when the borrow returned here has ended.
        unsafe { &*tables }
    }

    /// Run `pause` (a sleep) while this reader is away: tables may be freed meanwhile without its report.
    pub fn while_offline<R>(&mut self, pause: impl FnOnce() -> R) -> R {
        /// Comes back however `pause` ends, a panic included: `load` must never meet a reader that is away.
        struct Return<'a, T: Send + Sync>(&'a Reader<T>);
        impl<T: Send + Sync> Drop for Return<'_, T> {
            fn drop(&mut self) {
                let epoch = self.0.shared.epoch.load(order::load_epoch());
                self.0.slot.store(epoch, order::report());
                order::fence_return();
            }
        }
        self.slot.store(OFFLINE, order::report());
        let _return = Return(self);
        pause()
    }
}

impl<T: Send + Sync> Drop for Reader<T> {
    fn drop(&mut self) {
        self.slot.store(GONE, order::report());
    }
}
