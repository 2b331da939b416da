//! Publication of tables between real threads. The orderings are the business of `publish_model`; here: what is freed,
//! when, and what readers see while the machine is busy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use dataplane::table::publish::Publisher;

/// Tables whose parts must agree, and that are counted while they live.
struct Tables {
    parts: Vec<usize>,
    alive: Arc<AtomicUsize>,
}

impl Tables {
    fn new(version: usize, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self {
            parts: vec![version; 64],
            alive: Arc::clone(alive),
        }
    }

    fn version(&self) -> usize {
        assert!(self.parts.iter().all(|part| *part == self.parts[0]));
        self.parts[0]
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.parts.fill(usize::MAX);
        self.alive.fetch_sub(1, SeqCst);
    }
}

#[test]
fn readers_see_whole_tables_that_never_go_back() {
    const VERSIONS: usize = 20_000;
    let alive = Arc::new(AtomicUsize::new(0));
    let mut publisher = Publisher::new(Tables::new(0, &alive));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|number| {
            let mut reader = publisher.reader();
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let mut last = 0;
                let mut rounds = 0_usize;
                while !done.load(SeqCst) || last < VERSIONS {
                    let tables = reader.load();
                    let version = tables.version();
                    assert!(version >= last && version <= VERSIONS);
                    last = version;
                    thread::yield_now();
                    assert_eq!(tables.version(), version, "held, so unchanged");
                    rounds += 1;
                    // Each reader has its own habits.
                    match number {
                        0 => reader.quiescent(),
                        1 if rounds.is_multiple_of(7) => reader.quiescent(),
                        2 => reader.while_offline(thread::yield_now),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    let mut freed = 0;
    for version in 1..=VERSIONS {
        publisher.publish(Tables::new(version, &alive));
        freed += publisher.reclaim();
        assert_eq!(alive.load(SeqCst), 1 + publisher.pending());
    }
    done.store(true, SeqCst);
    for reader in readers {
        reader.join().expect("a reader saw something wrong");
    }
    freed += publisher.reclaim();
    assert_eq!((freed, publisher.pending()), (VERSIONS, 0));
    assert_eq!(publisher.current().version(), VERSIONS);
    drop(publisher);
    assert_eq!(alive.load(SeqCst), 0);
}

#[test]
fn tables_wait_for_the_slowest_reader_only_while_it_is_there() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut publisher = Publisher::new(Tables::new(0, &alive));
    let mut quick = publisher.reader();
    let mut slow = publisher.reader();
    for version in 1..=3 {
        publisher.publish(Tables::new(version, &alive));
        quick.quiescent();
        assert_eq!(publisher.reclaim(), 0, "the slow one may hold version 0");
    }
    assert_eq!((publisher.pending(), alive.load(SeqCst)), (3, 4));
    slow.while_offline(|| assert_eq!(publisher.reclaim(), 3));
    assert_eq!(slow.load().version(), 3);
    publisher.publish(Tables::new(4, &alive));
    quick.quiescent();
    assert_eq!(publisher.reclaim(), 0, "the slow one is back");
    drop(slow);
    assert_eq!(publisher.reclaim(), 1);
    assert_eq!(alive.load(SeqCst), 1);
}

#[test]
fn only_what_everybody_passed_is_freed() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut publisher = Publisher::new(Tables::new(0, &alive));
    let mut reader = publisher.reader();
    publisher.publish(Tables::new(1, &alive));
    reader.quiescent();
    let held = reader.load();
    publisher.publish(Tables::new(2, &alive));
    assert_eq!(publisher.reclaim(), 1, "version 0 may go");
    assert_eq!(held.version(), 1, "version 1 may not");
    reader.quiescent();
    assert_eq!(publisher.reclaim(), 1);
}

#[test]
fn a_panic_while_offline_brings_the_reader_back() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut publisher = Publisher::new(Tables::new(0, &alive));
    let mut reader = publisher.reader();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        reader.while_offline(|| panic!("the pause failed"));
    }));
    assert!(outcome.is_err());
    publisher.publish(Tables::new(1, &alive));
    assert_eq!(publisher.reclaim(), 0, "the reader is present");
    assert_eq!(reader.load().version(), 1);
}

#[test]
fn readers_keep_the_last_tables_when_the_publisher_is_gone() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut publisher = Publisher::new(Tables::new(0, &alive));
    let mut reader = publisher.reader();
    publisher.publish(Tables::new(1, &alive));
    drop(publisher);
    assert_eq!(reader.load().version(), 1);
    reader.quiescent();
    assert_eq!(reader.load().version(), 1);
    assert_eq!(alive.load(SeqCst), 2, "nobody is left to reclaim version 0");
    drop(reader);
    assert_eq!(alive.load(SeqCst), 0);
}
