use std::sync::Mutex;

use super::*;
use crate::counters::Snapshot;
use crate::ring::ring;
use crate::testing::{HeapFrame, MemoryPort, Sink, outputs};

fn frame(len: usize) -> HeapFrame {
    HeapFrame::new(&vec![0; len])
}

fn port(index: usize) -> PortId {
    PortId::new(index).expect("a port of the test")
}

/// Outputs with these paths and rings, nothing else of interest.
fn over(
    ports: Vec<TxPath<HeapFrame>>,
    workers: Vec<Option<Producer<Handoff<HeapFrame>>>>,
) -> (Outputs<HeapFrame, ()>, Arc<CachePadded<WorkerCounters>>) {
    let counters = Arc::new(WorkerCounters::new());
    let (punts, _) = ring(1);
    let rates = [(0, 0); PuntReason::COUNT];
    let tracer = Tracer::off();
    let out = Outputs::new(ports, workers, punts, rates, Arc::clone(&counters), tracer);
    (out, counters)
}

#[test]
fn frames_wait_for_the_flush_or_a_full_burst() {
    let wire = MemoryPort::new(0, 1);
    let mut test = outputs::<_, ()>(vec![wire.transmit_queue(0)]);
    for _ in 0..BURST_MAX - 1 {
        test.out.transmit(port(0), frame(60));
    }
    assert_eq!(wire.unsent(), 0);
    test.out.transmit(port(0), frame(100));
    assert_eq!(wire.unsent(), BURST_MAX, "a full burst leaves at once");
    test.out.transmit(port(0), frame(60));
    test.out.flush();
    assert_eq!(wire.unsent(), BURST_MAX + 1);
    let tx = Snapshot::of(&test.counters).port(port(0)).tx;
    assert_eq!((tx.packets, tx.bytes), (65, 64 * 60 + 100));
}

#[test]
fn frames_sent_together_keep_their_place_among_the_others() {
    let wire = MemoryPort::new(0, 1);
    let mut test = outputs::<_, ()>(vec![wire.transmit_queue(0)]);
    test.out.transmit(port(0), frame(14));
    test.out.transmit_all(port(0), (15..17).map(frame));
    test.out
        .transmit_all(port(0), (17..17 + BURST_MAX).map(frame));
    assert_eq!(
        wire.unsent(),
        3 + BURST_MAX,
        "no room, then full: both leave at once"
    );
    test.out.transmit(port(0), frame(81));
    test.out.transmit_all(port(7), (0..3).map(frame));
    test.out.flush();
    let lengths: Vec<usize> = wire.collect().iter().map(|f| f.bytes().len()).collect();
    assert_eq!(lengths, (14..82).collect::<Vec<_>>());
    let snapshot = Snapshot::of(&test.counters);
    let tx = snapshot.port(port(0)).tx;
    assert_eq!((tx.packets, tx.bytes), (68, (14..82).sum()));
    assert_eq!(
        test.counters.dropped(DropReason::InterfaceDown),
        3,
        "there is no port 7"
    );
}

#[test]
fn a_large_burst_leaves_at_once_but_never_before_those_that_wait() {
    let wire = MemoryPort::new(0, 1);
    let mut test = outputs::<_, ()>(vec![wire.transmit_queue(0)]);
    let mut send = |lengths: std::ops::Range<usize>, index: usize| {
        let bytes = lengths.clone().sum::<usize>() as u64; // `as`: small
        let mut burst: Burst<_> = lengths.map(frame).collect();
        test.out.transmit_burst(port(index), &mut burst, bytes);
        assert!(burst.is_empty());
        wire.unsent()
    };
    assert_eq!(send(14..30, 0), 16, "large");
    assert_eq!(send(30..40, 0), 16, "small");
    assert_eq!(send(40..60, 0), 16, "large, behind those that wait");
    assert_eq!(send(14..34, 7), 16, "there is no port 7");
    test.out.flush();
    let lengths: Vec<usize> = wire.collect().iter().map(|f| f.bytes().len()).collect();
    assert_eq!(lengths, (14..60).collect::<Vec<_>>());
    let tx = Snapshot::of(&test.counters).port(port(0)).tx;
    assert_eq!((tx.packets, tx.bytes), (46, (14..60).sum()));
    assert_eq!(test.counters.dropped(DropReason::InterfaceDown), 20);
}

/// The same accounting as after a flush.
#[test]
fn what_a_device_refuses_of_a_large_burst_is_dropped() {
    let calls = Arc::new(Mutex::new(0));
    let queue = TxPath::Queue(Box::new(Stubborn(Arc::clone(&calls), 5)) as _);
    let (mut out, counters) = over(vec![queue], vec![]);
    let mut burst: Burst<_> = (0..20).map(|_| frame(60)).collect();
    out.transmit_burst(port(0), &mut burst, 20 * 60);
    assert!(burst.is_empty());
    let tx = Snapshot::of(&counters).port(port(0)).tx;
    assert_eq!((tx.packets, tx.bytes), (5, 5 * 60));
    assert_eq!(counters.dropped(DropReason::TxQueueFull), 15);
    assert_eq!(*calls.lock().expect("one thread"), 2);
}

#[test]
fn each_port_sends_its_own_in_order() {
    let wires: Vec<MemoryPort<HeapFrame>> =
        (0..PortId::MAX).map(|_| MemoryPort::new(0, 1)).collect();
    let queues = wires.iter().map(|wire| wire.transmit_queue(0)).collect();
    let mut test = outputs::<_, ()>(queues);
    for len in 14..24 {
        for index in [31, 0, 17] {
            test.out.transmit(port(index), frame(len + index));
        }
    }
    test.out.flush();
    for (index, wire) in wires.iter().enumerate() {
        let lengths: Vec<usize> = wire.collect().iter().map(|f| f.bytes().len()).collect();
        let expected = if [0, 17, 31].contains(&index) {
            (14 + index..24 + index).collect()
        } else {
            vec![]
        };
        assert_eq!(lengths, expected, "port {index}");
    }
}

/// Takes three frames of each burst and no more, and remembers how often it was asked.
struct Stubborn(Arc<Mutex<usize>>, usize);

impl TxQueue for Stubborn {
    type Frame = HeapFrame;

    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        *self.0.lock().expect("one thread") += 1;
        let taken = burst.len().min(self.1);
        self.1 -= taken;
        burst.drain(..taken);
        taken
    }
}

#[test]
fn what_a_device_refuses_is_dropped_and_its_bytes_do_not_count() {
    let asked = Arc::new(Mutex::new(0));
    let queue = Box::new(Stubborn(Arc::clone(&asked), 3));
    let mut test = outputs::<_, ()>(vec![queue]);
    for len in [100, 200, 300, 400, 500] {
        test.out.transmit(port(0), frame(len));
    }
    test.out.flush();
    let total = Snapshot::of(&test.counters);
    assert_eq!((total.tx().packets, total.tx().bytes), (3, 600));
    assert_eq!(total.dropped(DropReason::TxQueueFull), 2);
    assert_eq!(*asked.lock().expect("one thread"), 2, "until it takes none");
    test.out.flush();
    assert_eq!(Snapshot::of(&test.counters), total, "nothing was left over");
    assert_eq!(*asked.lock().expect("one thread"), 2);
}

#[test]
fn a_port_that_is_not_there_is_down() {
    let (mut out, counters) = over(vec![TxPath::Absent], vec![]);
    out.transmit(port(0), frame(60));
    out.transmit(port(1), frame(60));
    out.transmit(port(31), frame(60));
    out.flush();
    assert_eq!(counters.dropped(DropReason::InterfaceDown), 3);
}

#[test]
fn finished_frames_go_to_the_owner_of_the_queue() {
    let (producer, mut consumer) = ring(8);
    let paths = vec![TxPath::Queue(Box::new(Sink::new())), TxPath::Worker(2)];
    let (mut out, counters) = over(paths, vec![None, None, Some(producer)]);
    out.transmit(port(1), frame(61));
    out.transmit(port(0), frame(62));
    out.transmit(port(1), frame(63));
    assert!(consumer.pop().is_err(), "handed over in one piece");
    out.flush();
    for len in [61, 63] {
        match consumer.pop() {
            Ok(Handoff::Transmit { port: to, frame }) => {
                assert_eq!((to, frame.bytes().len()), (port(1), len));
            }
            other => panic!("not a finished frame: {other:?}"),
        }
    }
    assert!(consumer.pop().is_err());
    let total = Snapshot::of(&counters);
    assert_eq!(total.tx().packets, 1, "its owner counts the others");
    assert_eq!((total.spread_out, total.drops()), (0, 0));
}

#[test]
fn what_the_ring_has_no_room_for_is_dropped_the_rest_arrives() {
    let (producer, mut consumer) = ring(3);
    let (mut out, counters) = over(vec![TxPath::Worker(0)], vec![Some(producer)]);
    for len in 60..62 {
        out.spread(0, port(0), frame(len));
    }
    for len in 70..72 {
        out.transmit(port(0), frame(len));
    }
    out.spread(0, port(0), frame(62));
    out.flush(); // 60 61 62, then what the port held
    let lengths: Vec<usize> = std::iter::from_fn(|| consumer.pop().ok())
        .map(
            |(Handoff::Received { frame, .. } | Handoff::Transmit { frame, .. })| {
                frame.bytes().len()
            },
        )
        .collect();
    assert_eq!(lengths, [60, 61, 62]);
    assert_eq!(counters.spread_out.read(), 3);
    assert_eq!(counters.dropped(DropReason::TxQueueFull), 2);
    assert_eq!(counters.dropped(DropReason::SpreadRingFull), 0);
    for len in 60..65 {
        out.spread(0, port(0), frame(len));
    }
    out.flush();
    assert_eq!(counters.spread_out.read(), 6);
    assert_eq!(counters.dropped(DropReason::SpreadRingFull), 2);
}

#[test]
fn nothing_is_pushed_to_a_worker_that_is_gone() {
    let (producer, consumer) = ring(8);
    let (mut out, counters) = over(vec![], vec![Some(producer), None]);
    drop(consumer);
    out.spread(0, port(0), frame(60));
    out.spread(1, port(0), frame(60));
    out.spread(7, port(0), frame(60));
    out.flush();
    assert_eq!(counters.spread_out.read(), 0);
    assert_eq!(counters.dropped(DropReason::SpreadRingFull), 3);
}

#[test]
fn a_punt_is_counted_once_whatever_becomes_of_it() {
    let counters = Arc::new(WorkerCounters::new());
    let (producer, mut punts) = ring(2);
    let mut rates = [(0, 100); PuntReason::COUNT];
    rates[PuntReason::Echo.index()] = (0, 1);
    let tracer = Tracer::off();
    let mut out = Outputs::new(
        vec![],
        vec![],
        producer,
        rates,
        Arc::clone(&counters),
        tracer,
    );
    out.punt(PuntReason::Echo, frame(60), 1_u8);
    out.punt(PuntReason::Echo, frame(61), 2);
    out.punt(PuntReason::Local, frame(62), 3);
    out.punt(PuntReason::Local, frame(63), 4);
    out.flush();
    assert_eq!(counters.punted(PuntReason::Echo), 1);
    assert_eq!(counters.punted(PuntReason::Local), 1);
    assert_eq!(counters.dropped(DropReason::PuntPoliced), 1);
    assert_eq!(counters.dropped(DropReason::PuntRingFull), 1);
    // Whose they were, whatever they were dropped for.
    assert_eq!(counters.punts_refused(PuntReason::Echo), 1);
    assert_eq!(counters.punts_refused(PuntReason::Local), 1);
    let waiting: Vec<(PuntReason, u8)> = std::iter::from_fn(|| punts.pop().ok())
        .map(|punted| (punted.reason, punted.meta))
        .collect();
    assert_eq!(waiting, [(PuntReason::Echo, 1), (PuntReason::Local, 3)]);
}

#[test]
fn time_stands_still_between_two_flushes() {
    let mut test = outputs::<HeapFrame, ()>(vec![]);
    let first = test.out.now();
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(test.out.now(), first);
    test.out.flush();
    assert!(test.out.now() > first);
}
