//! Workers never allocate: not for a packet that is forwarded or translated, not for one that is dropped, punted or
//! answered, and not in the loop round the graph. Frames come from rings that were filled before.
//!
//! Counts are those of the thread that asks, so the workers here are run round by round in the test's own thread.

use std::sync::Arc;

use dataplane::frame::{BURST_MAX, Burst};
use dataplane::outputs::PuntRates;
use dataplane::port::{PortId, RxQueue, TxQueue};
use dataplane::reason::PuntReason;
use dataplane::ring::ring;
use dataplane::table::publish::Publisher;
use dataplane::testing::HeapFrame;
use dataplane::worker::{Crew, CrewConfig, PortQueues, RingSizes, WorkerConfig};
use perf::alloc::{CountingAllocator, allocations_of_this_thread};
use perf::cases::{Flows, Point, Sizes, Way};
use perf::fuzz::{Fuzzer, Samples, Source};
use perf::graph;
use perf::replay::{EGRESS, INGRESS};
use perf::traffic::{self, Direction};
use pipelines::testing::HeapEdge;
use rtrb::{Consumer, Producer};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const IMIX: Point = Point {
    sizes: Sizes::Imix,
    flows: Flows::Thousand,
};
const NO_PUNTS: PuntRates = [(0, 0); PuntReason::COUNT];

/// Receives what was sent before, filled with the next frame of a list.
struct Refill {
    returned: Consumer<HeapFrame>,
    templates: Arc<[Vec<u8>]>,
    next: usize,
}

impl RxQueue for Refill {
    type Frame = HeapFrame;

    fn receive(&mut self, burst: &mut Burst<HeapFrame>, limit: usize) -> usize {
        for received in 0..limit {
            let Ok(mut frame) = self.returned.pop() else {
                return received;
            };
            frame.refill(&self.templates[self.next % self.templates.len()]);
            self.next += 1;
            burst.push(frame);
        }
        limit
    }
}

struct HandBack(Producer<HeapFrame>);

impl TxQueue for HandBack {
    type Frame = HeapFrame;

    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        let count = burst.len();
        for frame in burst.drain(..) {
            self.0.push(frame).expect("room for all frames");
        }
        count
    }
}

#[test]
fn the_allocator_counts_the_allocations_of_its_thread() {
    let before = allocations_of_this_thread();
    let mut list = std::hint::black_box(vec![1_u8; 10]);
    list.reserve(10_000);
    assert_eq!(std::hint::black_box(list).len(), 10);
    assert_eq!(allocations_of_this_thread() - before, 2);
    let elsewhere = std::thread::spawn(|| drop(std::hint::black_box(vec![1_u8; 10])));
    let before = allocations_of_this_thread();
    elsewhere.join().expect("it ends");
    assert_eq!(allocations_of_this_thread(), before);
}

#[test]
fn the_graph_does_not_allocate_for_forwarded_and_translated_packets() {
    for way in Way::ALL {
        let mut replay = graph::edge(way, IMIX).expect("the network is valid");
        let before = allocations_of_this_thread();
        replay.stretch(100_000, 32);
        assert_eq!(allocations_of_this_thread() - before, 0, "{way}");
        replay.check(100_000).expect("every packet was sent");
    }
}

#[test]
fn the_graph_does_not_allocate_for_dropped_punted_and_answered_packets() {
    let mut fuzzer = Fuzzer::new(Source::new(3, Samples::all())).expect("the network is valid");
    for number in 0..2_000 {
        // Fails when the graph allocates, as it does when a frame is lost.
        fuzzer.burst(number, BURST_MAX).expect("no allocation");
    }
    let outcome = fuzzer.outcome();
    assert!(outcome.sent > 0 && outcome.generated > 0 && outcome.handed_back > 0);
}

#[test]
fn one_worker_s_loop_does_not_allocate() {
    workers_do_not_allocate(1);
}

#[test]
fn two_workers_that_share_one_queue_do_not_allocate() {
    workers_do_not_allocate(2);
}

fn workers_do_not_allocate(count: usize) {
    const FRAMES: usize = 512;
    const PACKETS: u64 = 200_000;
    let (mut hand_back, returned) = ring(FRAMES);
    for _ in 0..FRAMES {
        hand_back.push(HeapFrame::new(&[])).expect("room for all");
    }
    let receive = Refill {
        returned,
        templates: traffic::frames(Direction::Out, IMIX).into(),
        next: 0,
    };
    let port = |index| PortId::new(index).expect("port 0 or 1");
    let ports = vec![
        PortQueues {
            id: port(INGRESS),
            receive: vec![Box::new(receive)],
            transmit: Vec::new(),
        },
        PortQueues {
            id: port(EGRESS),
            receive: Vec::new(),
            transmit: vec![Box::new(HandBack(hand_back))],
        },
    ];
    let config = CrewConfig {
        workers: vec![WorkerConfig::default(); count],
        punt_rates: NO_PUNTS,
        rings: RingSizes::default(),
        spread_seed: 1,
    };
    let tables = graph::tables(Way::Npt66Out, None).expect("the network is valid");
    let mut publisher = Publisher::new(tables);
    let (mut workers, handles) =
        Crew::build(&config, ports, &mut publisher, |_| HeapEdge::new()).expect("a valid crew");

    let sent = || -> u64 {
        let per_worker = handles
            .iter()
            .map(|handle| &handle.counters.ports[EGRESS].tx);
        per_worker.map(|tx| tx.packets.read()).sum()
    };
    let before = allocations_of_this_thread();
    while sent() < PACKETS {
        for worker in &mut workers {
            worker.round();
        }
    }
    assert_eq!(allocations_of_this_thread() - before, 0);
    if count > 1 {
        let spread: u64 = handles
            .iter()
            .map(|handle| handle.counters.spread_in.read())
            .sum();
        assert!(
            spread > PACKETS / 4,
            "only {spread} packets changed the worker"
        );
    }
}
