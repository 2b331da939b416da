//! The loom model of table publication: `src/table/publish.rs` itself, compiled against loom's atomics; and of updates in
//! place beside it: the publication and reclamation of the prefix table's nodes, `src/table/lpm/{cells,retired}.rs`.
//!
//! Every interleaving of one publisher and one reader is tried, with every value a relaxed load may return. Then each
//! ordering that `table/atomics.rs` lists is weakened alone, and the model must fail: so the model would notice, and none
//! of the orderings is there for nothing.
//!
//! Runs with plain `cargo test -p dataplane --test publish_model`: no feature, no `cfg`, no `RUSTFLAGS` (which would
//! replace the flags of `.cargo/config.toml`).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicUsize};
use loom::thread;

use publish::Publisher;
use retired::Retired;

#[expect(unsafe_code, reason = "compiles the publication under test")]
#[path = "../src/table/publish.rs"]
mod publish;

#[path = "../src/table/lpm/cells.rs"]
mod cells;
#[path = "../src/table/lpm/retired.rs"]
mod retired;

/// What `table/atomics.rs` is to the product: the same names, from loom, each ordering weakened on demand.
mod atomics {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

    pub(crate) use super::quarantine::Box;

    pub(crate) mod order {
        use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

        use loom::sync::atomic::fence;

        use crate::{Role, WEAKENED};

        fn is_weakened(role: Role) -> bool {
            WEAKENED.get() == Some(role)
        }

        fn unless_weakened(role: Role, ordering: Ordering) -> Ordering {
            if is_weakened(role) { Relaxed } else { ordering }
        }

        pub(crate) fn store_tables() -> Ordering {
            unless_weakened(Role::StoreTables, Release)
        }
        pub(crate) fn load_tables() -> Ordering {
            unless_weakened(Role::LoadTables, Acquire)
        }
        pub(crate) fn store_epoch() -> Ordering {
            unless_weakened(Role::StoreEpoch, Release)
        }
        pub(crate) fn load_epoch() -> Ordering {
            unless_weakened(Role::LoadEpoch, Acquire)
        }
        pub(crate) fn report() -> Ordering {
            unless_weakened(Role::Report, Release)
        }
        pub(crate) fn collect() -> Ordering {
            unless_weakened(Role::Collect, Acquire)
        }
        pub(crate) fn publish_node() -> Ordering {
            unless_weakened(Role::PublishNode, Release)
        }
        pub(crate) fn follow_node() -> Ordering {
            unless_weakened(Role::FollowNode, Acquire)
        }
        pub(crate) fn fence_return() {
            if !is_weakened(Role::FenceReturn) {
                fence(SeqCst);
            }
        }
        pub(crate) fn fence_reclaim() {
            if !is_weakened(Role::FenceReclaim) {
                fence(SeqCst);
            }
        }
    }
}

/// A `Box` whose memory is never used again: in a weakened model a reader meets a value that was dropped, which loom
/// reports, instead of memory that was freed, which would crash the model.
#[expect(unsafe_code, reason = "drops in place what stays allocated")]
mod quarantine {
    use std::ptr::NonNull;

    pub(crate) struct Box<T>(NonNull<T>);

    impl<T> Box<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(NonNull::from(std::boxed::Box::leak(std::boxed::Box::new(
                value,
            ))))
        }

        pub(crate) fn into_raw(this: Self) -> *mut T {
            let pointer = this.0.as_ptr();
            std::mem::forget(this);
            pointer
        }

        /// # Safety
        /// As for the box of the standard library.
        pub(crate) unsafe fn from_raw(pointer: *mut T) -> Self {
            Self(NonNull::new(pointer).expect("a box is never null"))
        }
    }

    impl<T> Drop for Box<T> {
        fn drop(&mut self) {
            // SAFETY: the pointer came from `new`, and by the contract of `from_raw` this is its only box.
            unsafe { self.0.drop_in_place() };
        }
    }
}

/// The orderings of `table/atomics.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    StoreTables,
    LoadTables,
    StoreEpoch,
    LoadEpoch,
    Report,
    Collect,
    PublishNode,
    FollowNode,
    FenceReturn,
    FenceReclaim,
}

thread_local! {
    /// Loom runs all threads of a model on the thread that started it.
    static WEAKENED: Cell<Option<Role>> = const { Cell::new(None) };
}

/// A published value. Written after it was made and again when it is dropped, both times as exclusive accesses that loom
/// checks against every read.
struct Probe {
    version: AtomicUsize,
}

const DROPPED: usize = usize::MAX;

impl Probe {
    fn new(version: usize) -> Self {
        let mut probe = Self {
            version: AtomicUsize::new(DROPPED),
        };
        probe.version.with_mut(|inner| *inner = version);
        probe
    }

    fn version(&self) -> usize {
        let version = self.version.load(Relaxed);
        assert_ne!(version, DROPPED, "a reader holds tables that were freed");
        version
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.version.with_mut(|inner| *inner = DROPPED);
    }
}

/// A worker's rounds beside a publisher that replaces tables twice.
fn rounds() {
    let mut publisher = Publisher::new(Probe::new(0));
    let mut reader = publisher.reader();
    let worker = thread::spawn(move || {
        let mut last = 0;
        for _ in 0..2 {
            let version = reader.load().version();
            assert!(version >= last, "tables went back in time");
            last = version;
            reader.quiescent();
        }
        assert!(reader.load().version() >= last, "tables went back in time");
    });
    publisher.publish(Probe::new(1));
    publisher.reclaim();
    publisher.publish(Probe::new(2));
    publisher.reclaim();
    assert_eq!(publisher.current().version(), 2);
    worker.join().unwrap();
    publisher.reclaim();
    assert_eq!(
        publisher.pending(),
        0,
        "the reader is gone, nothing may stay"
    );
}

/// A worker that sleeps while tables are replaced and reclaimed.
fn naps() {
    let mut publisher = Publisher::new(Probe::new(0));
    let mut reader = publisher.reader();
    let worker = thread::spawn(move || {
        let before = reader.load().version();
        reader.while_offline(|| ());
        let after = reader.load().version();
        assert!(after >= before, "tables went back in time");
        reader.quiescent();
        assert!(reader.load().version() >= after, "tables went back in time");
    });
    publisher.publish(Probe::new(1));
    publisher.reclaim();
    worker.join().unwrap();
    publisher.reclaim();
    assert_eq!(
        publisher.pending(),
        0,
        "the reader is gone, nothing may stay"
    );
}

/// The publisher goes first; the reader keeps the last tables, and the last owner frees everything.
fn publisher_leaves() {
    let mut publisher = Publisher::new(Probe::new(0));
    let mut reader = publisher.reader();
    let worker = thread::spawn(move || {
        reader.load().version();
        reader.quiescent();
        reader.load().version();
    });
    publisher.publish(Probe::new(1));
    drop(publisher);
    worker.join().unwrap();
}

/// The memory of a prefix table at its smallest: one cell, and lines that it may lead to. A line is plain memory: loom
/// reports when one is written while a reader may be at it, or read before its content is there.
struct Lines {
    cell: AtomicU32,
    lines: [UnsafeCell<u32>; 3],
}

#[expect(
    unsafe_code,
    reason = "plain memory, as the vectors of the product read it"
)]
impl Lines {
    fn read(&self) -> u32 {
        let line = cells::follow(&self.cell) as usize; // `as`: an index
        // SAFETY: loom checks exactly this.
        self.lines[line].with(|content| unsafe { *content })
    }

    /// Write a line aside, and lead readers there; returns the line they were led to before.
    fn update(&self, line: u32, content: u32) -> u32 {
        // SAFETY: loom checks exactly this.
        self.lines[line as usize].with_mut(|place| unsafe { *place = content }); // `as`: an index
        let old = self.cell.load(Relaxed);
        cells::publish(&self.cell, line);
        old
    }
}

// SAFETY: shared by the rules under test; loom checks them.
#[expect(unsafe_code, reason = "shared between the model's threads")]
unsafe impl Sync for Lines {}

/// A table updated in place, twice and with reuse, and a worker that looks up between its quiescent states.
fn updates_in_place() {
    let lines = Arc::new(Lines {
        cell: AtomicU32::new(0),
        lines: [0, 0, 0].map(UnsafeCell::new),
    });
    let mut publisher = Publisher::new(());
    let mut reader = publisher.reader();
    let seen = Arc::clone(&lines);
    let worker = thread::spawn(move || {
        let mut last = 0;
        for _ in 0..2 {
            let content = seen.read();
            assert!((last..=3).contains(&content), "an answer went back in time");
            last = content;
            reader.quiescent();
        }
        assert!(seen.read() >= last, "an answer went back in time");
    });
    let mut retired = Retired::new();
    let mut free = vec![1];
    for content in 1..=3 {
        // Without a free line an update waits for the next time.
        if let Some(line) = free.pop() {
            retired.push(lines.update(line, content));
        }
        if retired.has_unmarked() {
            retired.seal(publisher.mark());
        }
        let passed = publisher.passed();
        while let Some(line) = retired.pop(passed) {
            free.push(line);
        }
    }
    worker.join().unwrap();
    retired.seal(publisher.mark());
    let passed = publisher.passed();
    while retired.pop(passed).is_some() {}
    assert_eq!(retired.len(), 0, "the reader is gone, nothing may stay");
}

/// A table updated in place while its worker sleeps and comes back.
fn updates_while_away() {
    let lines = Arc::new(Lines {
        cell: AtomicU32::new(0),
        lines: [0, 0, 0].map(UnsafeCell::new),
    });
    let mut publisher = Publisher::new(());
    let mut reader = publisher.reader();
    let seen = Arc::clone(&lines);
    let worker = thread::spawn(move || {
        let before = seen.read();
        reader.while_offline(|| ());
        assert!(seen.read() >= before, "an answer went back in time");
    });
    let old = lines.update(1, 1);
    let epoch = publisher.mark();
    if epoch <= publisher.passed() {
        lines.update(old, 2);
    }
    worker.join().unwrap();
}

/// Whether `model` holds in every interleaving with `weakened` relaxed.
fn holds_without(weakened: Role, model: fn()) -> bool {
    WEAKENED.set(Some(weakened));
    let outcome = catch_unwind(AssertUnwindSafe(|| loom::model(model)));
    WEAKENED.set(None);
    outcome.is_ok()
}

#[test]
fn no_interleaving_frees_tables_in_use() {
    loom::model(rounds);
}

#[test]
fn no_interleaving_of_a_sleeping_worker_frees_tables_in_use() {
    loom::model(naps);
}

#[test]
fn a_reader_may_outlive_the_publisher() {
    loom::model(publisher_leaves);
}

#[test]
fn no_interleaving_shows_a_node_half_written_or_reused() {
    loom::model(updates_in_place);
}

#[test]
fn no_interleaving_reuses_a_node_of_a_worker_that_comes_back() {
    loom::model(updates_while_away);
}

macro_rules! every_ordering_is_needed {
    ($($name:ident: $role:ident in $model:ident;)*) => {$(
        #[test]
        fn $name() {
            assert!(!holds_without(Role::$role, $model), "the model does not notice");
        }
    )*};
}

every_ordering_is_needed! {
    weak_store_of_tables_is_caught: StoreTables in rounds;
    weak_load_of_tables_is_caught: LoadTables in rounds;
    weak_store_of_the_epoch_is_caught: StoreEpoch in rounds;
    weak_load_of_the_epoch_is_caught: LoadEpoch in rounds;
    weak_report_is_caught: Report in rounds;
    weak_collection_is_caught: Collect in rounds;
    weak_publication_of_a_node_is_caught: PublishNode in updates_in_place;
    weak_following_of_a_node_is_caught: FollowNode in updates_in_place;
    weak_epoch_of_an_update_is_caught: StoreEpoch in updates_in_place;
    weak_look_at_the_epoch_of_an_update_is_caught: LoadEpoch in updates_in_place;
    weak_report_of_an_update_is_caught: Report in updates_in_place;
    weak_collection_of_an_update_is_caught: Collect in updates_in_place;
    no_fence_of_an_update_on_return_is_caught: FenceReturn in updates_while_away;
    no_fence_of_an_update_before_reuse_is_caught: FenceReclaim in updates_while_away;
    no_fence_on_return_is_caught: FenceReturn in naps;
    no_fence_before_reclaiming_is_caught: FenceReclaim in naps;
}
