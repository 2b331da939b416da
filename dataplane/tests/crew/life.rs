//! Threads: how they start, what they hold while they run, how they die and end.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dataplane::counters::Snapshot;
use dataplane::reason::DropReason;
use dataplane::ring::Injected;
use dataplane::worker::{Poll, StartError, State, WorkerConfig};

use crate::rig::{
    DEADLY, FORLORN, PATIENT, POISON, Record, Rig, config, flow_and_sequence, packet, wait_until,
};

fn cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().expect("the system names its cores");
    cores.into_iter().map(|core| core.id).collect()
}

#[test]
fn tables_are_freed_once_all_workers_have_passed_and_by_the_publisher() {
    for poll in [Poll::Busy, Poll::Adaptive] {
        let mut rig = Rig::new(&config(3, poll), &[(1, 1), (2, 2)]);
        rig.start();
        let mut freed = 0;
        for round in 0..200 {
            for flow in 0..4 {
                rig.ports[0].feed(0, packet(0, flow, 1));
            }
            rig.publish();
            freed += rig.publisher.reclaim();
            if round % 20 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(rig.alive.load(SeqCst), 1 + rig.publisher.pending());
        }
        wait_until("all workers have passed", || {
            freed += rig.publisher.reclaim();
            rig.publisher.pending() == 0
        });
        assert_eq!(freed, 200);
        assert_eq!(rig.alive.load(SeqCst), 1, "only the current ones live");
        wait_until("all is received", || rig.ports[0].waiting() == 0);
        rig.stop();
        assert!(rig.snapshot().is_conserved());
    }
}

#[test]
fn a_worker_that_does_not_pass_keeps_tables_alive() {
    let mut rig = Rig::new(&config(2, Poll::Busy), &[(2, 2)]);
    rig.publish();
    rig.workers()[0].round();
    assert_eq!(rig.publisher.reclaim(), 0, "worker 1 has not passed");
    assert_eq!(rig.alive.load(SeqCst), 2);
    rig.workers()[1].round();
    assert_eq!(rig.publisher.reclaim(), 1);
    assert_eq!(rig.alive.load(SeqCst), 1);
}

#[test]
fn running_workers_take_injected_packets() {
    let mut rig = Rig::new(&config(2, Poll::Adaptive), &[(1, 1)]);
    rig.start();
    for sequence in 0..100 {
        let version = rig.publish();
        let handle = &mut rig.handles[1];
        let frame = packet(0, 5, sequence);
        let item = Injected::Resume {
            frame,
            meta: Record,
        };
        handle.inject.push(item).expect("room");
        wait_until("it is sent", || rig.ports[0].unsent() == 1);
        let met = flow_and_sequence(&rig.ports[0].collect()[0]).1 as usize; // `as`: a small version
        assert_eq!(met, version, "published before it was injected");
        rig.publisher.reclaim();
    }
    rig.stop();
    let total = rig.snapshot();
    assert_eq!((total.injected, total.tx().packets), (100, 100));
    assert!(total.is_conserved());
}

#[test]
fn what_was_injected_before_the_stop_is_still_sent() {
    let mut rig = Rig::new(&config(1, Poll::Adaptive), &[(1, 1)]);
    for sequence in 0..300 {
        let item = Injected::Transmit {
            port: crate::rig::port_id(0),
            frame: packet(0, 1, sequence),
        };
        rig.handles[0].inject.push(item).expect("room");
    }
    rig.start();
    rig.stop();
    assert_eq!(rig.ports[0].unsent(), 300);
    assert_eq!(rig.snapshot().injected, 300);
}

#[test]
fn what_a_pipeline_still_holds_at_the_end_is_dropped() {
    let mut rig = Rig::new(&config(2, Poll::Adaptive), &[(1, 2), (1, 2)]);
    rig.start();
    for flow in 0..50 {
        rig.ports[0].feed(0, packet(0, flow, FORLORN));
        rig.ports[1].feed(0, packet(1, flow, 0));
    }
    wait_until("the others are sent", || rig.ports[0].unsent() == 50);
    wait_until("all is received", || rig.ports[0].waiting() == 0);
    rig.stop();
    let total = rig.snapshot();
    assert_eq!(total.dropped(DropReason::NoRoute), 50);
    assert!(total.is_conserved());
}

/// What was in work with the packet that panicked is lost, what waited in the pipeline too, and nothing else: not what was
/// ready to leave, not what waits in queues. All of it is counted.
#[test]
fn a_worker_that_panics_goes_on() {
    let mut rig = Rig::new(&config(2, Poll::Adaptive), &[(2, 2), (2, 2)]);
    rig.start();
    let status = Arc::clone(&rig.handles[1].status);
    for panics in 1..=20 {
        // In one burst, or in several: the worker is as quick as it is.
        rig.ports[0].feed(1, packet(0, 1, PATIENT));
        for sequence in 0..5 {
            rig.ports[0].feed(1, packet(0, 1, sequence));
        }
        rig.ports[0].feed(1, packet(0, 1, POISON));
        wait_until("it is told", || status.panics() == panics);
        for sequence in 0..10 {
            rig.ports[0].feed(1, packet(0, 1, sequence));
        }
        wait_until("it goes on", || rig.ports[0].waiting() == 0);
    }
    let message = status.message().expect("it says why");
    assert!(message.contains("met the poisoned packet"), "{message}");
    assert_eq!(status.state(), State::Running);
    rig.publish();
    wait_until("tables are passed", || {
        rig.publisher.reclaim();
        rig.publisher.pending() == 0
    });
    rig.stop();
    let total = rig.snapshot();
    assert_eq!(total.rx().packets, 20 * 17);
    assert!((20..=20 * 7).contains(&total.dropped(DropReason::WorkerPanic)));
    assert!(total.tx().packets >= 20 * 10, "what comes behind is sent");
    assert!(total.is_conserved());
    assert_eq!(rig.handles[0].status.panics(), 0);
}

/// Each costs the burst it comes in, at whose beginning it stands here, and no other.
#[test]
fn a_flood_of_poison_loses_only_bursts() {
    let mut rig = Rig::new(&config(1, Poll::Busy), &[(1, 1)]);
    for sequence in 0..60 {
        rig.ports[0].feed(0, packet(0, 1, POISON));
        for _ in 0..31 {
            rig.ports[0].feed(0, packet(0, 1, sequence));
        }
        // A burst without one, so that rounds are whole.
        for _ in 0..32 {
            rig.ports[0].feed(0, packet(0, 1, 1));
        }
    }
    rig.start();
    wait_until("all is received", || rig.ports[0].waiting() == 0);
    rig.stop();
    let total = rig.snapshot();
    assert_eq!(total.dropped(DropReason::WorkerPanic), 60 * 32);
    assert_eq!(total.tx().packets, 60 * 32);
    assert!(total.is_conserved());
    assert_eq!(rig.handles[0].status.panics(), 60);
}

/// Without one whole round between them, ten are too many.
#[test]
fn a_worker_that_gets_nowhere_is_dead() {
    for (bursts, is_dead) in [(9, false), (10, true)] {
        let mut rig = Rig::new(&config(1, Poll::Busy), &[(1, 1)]);
        for _ in 0..bursts * 32 {
            rig.ports[0].feed(0, packet(0, 1, POISON));
        }
        rig.ports[0].feed(0, packet(0, 1, 1));
        rig.start();
        let status = Arc::clone(&rig.handles[0].status);
        let settled = || rig.ports[0].unsent() == 1 || status.state() == State::Dead;
        wait_until("it goes on, or does not", settled);
        assert_eq!(status.panics(), bursts);
        assert_eq!(status.state() == State::Dead, is_dead);
        rig.stop();
    }
}

#[test]
fn a_panic_while_it_recovers_ends_one_worker_and_is_told() {
    let mut rig = Rig::new(&config(2, Poll::Adaptive), &[(2, 2), (2, 2)]);
    rig.start();
    let state = |rig: &Rig, worker: usize| rig.handles[worker].status.state();
    wait_until("both run", || {
        (0..2).all(|worker| state(&rig, worker) == State::Running)
    });
    // As many queues as workers: queue 1 is worker 1's, and nothing is spread.
    rig.ports[0].feed(1, packet(0, 1, DEADLY));
    wait_until("worker 1 is dead", || state(&rig, 1) == State::Dead);
    let message = rig.handles[1].status.message().expect("it says why");
    assert!(message.contains("met the deadly packet"), "{message}");

    for sequence in 0..10 {
        rig.ports[0].feed(0, packet(0, 2, sequence));
    }
    wait_until("worker 0 goes on", || rig.ports[1].unsent() == 10);
    assert_eq!(state(&rig, 0), State::Running);
    assert_eq!(rig.handles[0].status.message(), None);
    rig.publish();
    wait_until("the dead delay no reclamation", || {
        rig.publisher.reclaim();
        rig.publisher.pending() == 0
    });
    rig.stop();
    assert_eq!(state(&rig, 0), State::Stopped);
    assert_eq!(state(&rig, 1), State::Dead);
    assert!(Snapshot::of(&rig.handles[0].counters).is_conserved());
}

#[test]
fn what_would_go_to_a_dead_worker_is_dropped_and_counted() {
    let mut rig = Rig::new(&config(2, Poll::Adaptive), &[(1, 1)]);
    rig.start();
    // Queue and transmit queue are worker 0's; find a flow that it gives away.
    let foreign = (0..).find(|flow| {
        rig.ports[0].feed(0, packet(0, *flow, 1));
        wait_until("it is sent", || rig.ports[0].unsent() == 1);
        drop(rig.ports[0].collect());
        rig.snapshot().spread_out == 1
    });
    let foreign = foreign.expect("half of the flows");
    rig.ports[0].feed(0, packet(0, foreign, DEADLY));
    let status = Arc::clone(&rig.handles[1].status);
    wait_until("worker 1 is dead", || status.state() == State::Dead);
    let before = rig.snapshot();
    for sequence in 0..10 {
        rig.ports[0].feed(0, packet(0, foreign, sequence));
    }
    wait_until("all is received", || {
        rig.snapshot().since(&before).rx().packets == 10
    });
    rig.stop();
    let since = rig.snapshot().since(&before);
    assert_eq!(since.dropped(DropReason::SpreadRingFull), 10);
    assert!(since.is_conserved());
}

#[test]
fn each_thread_is_pinned_before_the_hook_and_keeps_its_guard_to_the_end() {
    /// Writes down when it goes, and in which thread.
    struct Guard(Arc<Mutex<Vec<(String, usize)>>>, usize);
    impl Drop for Guard {
        fn drop(&mut self) {
            let name = thread::current()
                .name()
                .expect("workers have names")
                .to_owned();
            self.0.lock().expect("no panic").push((name, self.1));
        }
    }
    let mut config = config(2, Poll::Adaptive);
    let core = *cores().last().expect("at least one core");
    for worker in &mut config.workers {
        worker.core = Some(core);
    }
    let mut rig = Rig::new(&config, &[(2, 2)]);
    assert_eq!(rig.handles[0].core, Some(core));
    let events = Arc::new(Mutex::new(Vec::new()));
    let ends = Arc::clone(&events);
    rig.start_with(move |index| {
        assert_eq!(cores(), [core], "pinned to one core");
        Ok(Guard(Arc::clone(&ends), index))
    })
    .expect("the core exists");
    let dead = Arc::clone(&rig.handles[1].status);
    rig.ports[0].feed(1, packet(0, 1, DEADLY));
    wait_until("worker 1's guard is gone", || {
        events.lock().expect("no panic").len() == 1
    });
    assert_eq!(dead.state(), State::Dead, "the guard outlives the worker");
    rig.stop();
    let events = events.lock().expect("no panic");
    assert_eq!(
        *events,
        [("worker-1".to_owned(), 1), ("worker-0".to_owned(), 0)]
    );
}

#[test]
fn a_core_that_does_not_exist_starts_nothing() {
    for core in [1023, 5000] {
        let mut config = config(2, Poll::Busy);
        config.workers[1].core = Some(core);
        let mut rig = Rig::new(&config, &[(1, 1)]);
        rig.ports[0].feed(0, packet(0, 1, 1));
        let error = rig.start_with(|_| Ok(())).expect_err("no such core");
        assert!(
            matches!(error, StartError::Core { worker: 1, core: c } if c == core),
            "{error}"
        );
        assert_eq!(rig.ports[0].waiting(), 1, "nobody polled");
        assert_eq!(rig.snapshot(), Snapshot::new());
    }
}

#[test]
fn a_hook_that_refuses_or_panics_starts_nothing() {
    let mut rig = Rig::new(&config(2, Poll::Busy), &[(1, 1)]);
    rig.ports[0].feed(0, packet(0, 1, 1));
    let refuse = |index| match index {
        0 => Ok(()),
        _ => Err("no registration left".to_owned()),
    };
    let error = rig.start_with(refuse).expect_err("refused");
    assert_eq!(error.to_string(), "worker 1: no registration left");
    assert_eq!(rig.ports[0].waiting(), 1, "nobody polled");
    assert_eq!(rig.handles[0].status.state(), State::Stopped);

    let mut rig = Rig::new(&config(2, Poll::Busy), &[(1, 1)]);
    let panics = |index| {
        assert_ne!(index, 0, "hook for worker zero");
        Ok(())
    };
    let error = rig.start_with(panics).expect_err("panicked").to_string();
    assert!(
        error.contains("worker 0: ") && error.contains("hook for worker zero"),
        "{error}"
    );
}

#[test]
fn an_idle_adaptive_worker_sleeps_and_wakes() {
    let mut rig = Rig::new(&config(1, Poll::Adaptive), &[(1, 1)]);
    rig.start();
    thread::sleep(Duration::from_millis(50));
    let before = rig.snapshot();
    thread::sleep(Duration::from_millis(500));
    let idle = rig.snapshot().since(&before);
    // Half a second of sleeps of half a millisecond; never fewer than one wake in a hundred milliseconds.
    assert!((5..=1200).contains(&idle.polls), "{} polls", idle.polls);
    assert_eq!(idle.busy_polls, 0);
    let start = Instant::now();
    rig.ports[0].feed(0, packet(0, 1, 1));
    wait_until("it is sent", || rig.ports[0].unsent() == 1);
    assert!(start.elapsed() < Duration::from_secs(1));
    rig.stop();
}

#[test]
fn a_default_worker_is_adaptive_and_free() {
    let default = WorkerConfig::default();
    assert_eq!(
        (default.core, default.poll, default.burst),
        (None, Poll::Adaptive, 32)
    );
}
