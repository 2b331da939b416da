//! Every shape of box: 1 to 4 workers, 1 to 3 ports, 1 to 4 queues. What goes in comes out, once, and in order.

use std::collections::HashMap;

use dataplane::counters::Snapshot;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::MemoryPort;
use dataplane::worker::Poll;

use crate::rig::{Fate, Rig, config, fate, flow_and_sequence, packet, wait_until};

const FLOWS: u16 = 23;
const PACKETS_PER_FLOW: u32 = 60;

/// Feed every port, half of it before the workers start and half while they run; each flow to one queue, as devices do.
fn feed(rig: &Rig, receive_queues: &[usize], sequences: std::ops::Range<u32>) {
    for sequence in sequences {
        for (index, port) in rig.ports.iter().enumerate() {
            for flow in 0..FLOWS {
                let queue = usize::from(flow) % receive_queues[index];
                port.feed(queue, packet(index, flow, sequence));
            }
        }
    }
}

fn run(workers: usize, queues: &[(usize, usize)]) {
    let shape = format!("{workers} workers, queues {queues:?}");
    let receive_queues: Vec<usize> = queues.iter().map(|(rx, _)| *rx).collect();
    let mut rig = Rig::new(&config(workers, Poll::Adaptive), queues);
    feed(&rig, &receive_queues, 0..PACKETS_PER_FLOW / 2);
    rig.start();
    feed(
        &rig,
        &receive_queues,
        PACKETS_PER_FLOW / 2..PACKETS_PER_FLOW,
    );
    wait_until("all is received", || {
        rig.ports.iter().all(|port| port.waiting() == 0)
    });
    rig.stop();

    let total = rig.snapshot();
    let count = |wanted| {
        let of_one_flow = (0..PACKETS_PER_FLOW).filter(|s| fate(*s) == wanted).count();
        (of_one_flow * usize::from(FLOWS) * queues.len()) as u64 // `as`: a count
    };
    let answered = count(Fate::Answered);
    assert!(total.is_conserved(), "{shape}: {total:?}");
    assert_eq!(total.rx().packets, total.packets_in() - answered, "{shape}");
    assert_eq!(
        total.rx().packets,
        u64::from(PACKETS_PER_FLOW) * u64::from(FLOWS) * queues.len() as u64, // `as`: a count
        "{shape}"
    );
    assert_eq!(total.tx().packets, count(Fate::Sent) + answered, "{shape}");
    assert_eq!(
        total.dropped(DropReason::NoRoute),
        count(Fate::Dropped),
        "{shape}"
    );
    assert_eq!(total.dropped(DropReason::HopLimit), answered, "{shape}");
    assert_eq!(total.generated, answered, "{shape}");
    assert_eq!(total.drops(), count(Fate::Dropped) + answered, "{shape}");
    assert_eq!(
        total.punted(PuntReason::Echo),
        count(Fate::Punted),
        "{shape}"
    );
    assert_eq!(total.tx().bytes, total.tx().packets * 66, "{shape}");
    assert_eq!(total.rx().bytes, total.rx().packets * 66, "{shape}");
    let punted = rig.handles.iter_mut().map(|h| {
        std::iter::from_fn(|| h.punts.pop().ok()).count() as u64 // `as`: a count
    });
    assert_eq!(punted.sum::<u64>(), total.punts(), "{shape}");
    check_work_is_shared(&rig, &receive_queues, &shape);
    check_order(&rig, queues, &shape);
}

/// With several workers and enough flows, each has had some.
fn check_work_is_shared(rig: &Rig, receive_queues: &[usize], shape: &str) {
    let workers = rig.handles.len();
    let each: Vec<Snapshot> = rig
        .handles
        .iter()
        .map(|h| Snapshot::of(&h.counters))
        .collect();
    for (index, worker) in each.iter().enumerate() {
        let settled = worker.rx().packets - worker.spread_out + worker.spread_in;
        assert!(settled > 0, "{shape}: worker {index} had nothing to do");
    }
    let spread: u64 = each.iter().map(|worker| worker.spread_out).sum();
    let must_spread = receive_queues.iter().any(|queues| *queues < workers);
    assert_eq!(spread > 0, must_spread, "{shape}: {spread} frames spread");
}

/// What left by a port is there once, each flow by one queue and in order.
fn check_order(rig: &Rig, queues: &[(usize, usize)], shape: &str) {
    for (egress, (_, transmit_queues)) in queues.iter().enumerate() {
        let ingress = (egress + queues.len() - 1) % queues.len();
        let mut seen: HashMap<u16, (usize, Vec<u32>)> = HashMap::new();
        for queue in 0..*transmit_queues {
            for frame in rig.ports[egress].collect_queue(queue) {
                let ((port, flow), sequence) = flow_and_sequence(&frame);
                assert_eq!(
                    usize::from(port),
                    ingress,
                    "{shape}: left by the wrong port"
                );
                let (first_queue, sequences) = seen.entry(flow).or_insert((queue, Vec::new()));
                assert_eq!(
                    *first_queue, queue,
                    "{shape}: flow {flow} left by two queues"
                );
                sequences.push(sequence);
            }
        }
        let expected: Vec<u32> = (0..PACKETS_PER_FLOW)
            .filter(|s| matches!(fate(*s), Fate::Sent | Fate::Answered))
            .collect();
        assert_eq!(seen.len(), usize::from(FLOWS), "{shape}");
        for (flow, (_, sequences)) in seen {
            assert_eq!(sequences, expected, "{shape}: order of flow {flow}");
        }
    }
}

fn every_shape_with(workers: usize) {
    for ports in 1..=3 {
        for receive in 1..=4 {
            for transmit in 1..=4 {
                run(workers, &vec![(receive, transmit); ports]);
            }
        }
    }
}

#[test]
fn one_worker_over_every_shape() {
    every_shape_with(1);
}

#[test]
fn two_workers_over_every_shape() {
    every_shape_with(2);
}

#[test]
fn three_workers_over_every_shape() {
    every_shape_with(3);
}

#[test]
fn four_workers_over_every_shape() {
    every_shape_with(4);
}

#[test]
fn ports_may_differ() {
    run(3, &[(1, 4), (4, 1), (2, 2)]);
    run(4, &[(3, 1), (1, 3)]);
}

#[test]
fn busy_workers_lose_nothing_either() {
    let mut rig = Rig::new(&config(2, Poll::Busy), &[(1, 1), (1, 1)]);
    rig.start();
    feed(&rig, &[1, 1], 0..PACKETS_PER_FLOW);
    wait_until("all is received", || {
        rig.ports.iter().all(|port| port.waiting() == 0)
    });
    rig.stop();
    assert!(rig.snapshot().is_conserved());
    check_order(&rig, &[(1, 1), (1, 1)], "busy");
}

/// Run two ports until everything is received, and check the sums.
fn run_overloaded(mut rig: Rig) -> (Rig, Snapshot) {
    rig.start();
    feed(&rig, &[1, 1], 0..PACKETS_PER_FLOW);
    wait_until("all is received", || {
        rig.ports.iter().all(|port| port.waiting() == 0)
    });
    rig.stop();
    let total = rig.snapshot();
    assert!(total.is_conserved(), "{total:?}");
    let sent = rig.ports.iter().map(|port| port.unsent() as u64); // `as`: a count
    assert_eq!(sent.sum::<u64>(), total.tx().packets);
    (rig, total)
}

#[test]
fn full_rings_are_counted_drops() {
    let mut config = config(3, Poll::Adaptive);
    config.rings.handoff = 3;
    config.rings.punt = 5;
    let (_, total) = run_overloaded(Rig::new(&config, &[(1, 1), (1, 1)]));
    assert!(total.dropped(DropReason::SpreadRingFull) > 0);
    assert!(total.dropped(DropReason::TxQueueFull) > 0);
    assert!(total.dropped(DropReason::PuntRingFull) > 0);
}

#[test]
fn a_full_device_is_a_counted_drop_and_one_that_takes_few_at_a_time_is_not() {
    let ports = vec![
        MemoryPort::new(1, 1).with_transmit_room(40),
        MemoryPort::new(1, 1).with_stride(5),
    ];
    let (rig, total) = run_overloaded(Rig::with_ports(&config(1, Poll::Adaptive), ports));
    assert_eq!(rig.ports[0].unsent(), 40);
    let settled = |fates: &[Fate]| {
        let of_one_flow = (0..PACKETS_PER_FLOW).filter(|s| fates.contains(&fate(*s)));
        of_one_flow.count() * usize::from(FLOWS)
    };
    let finished = settled(&[Fate::Sent, Fate::Answered]);
    assert_eq!(rig.ports[1].unsent(), finished);
    let refused = finished - 40;
    assert_eq!(total.dropped(DropReason::TxQueueFull), refused as u64); // `as`: a count
    assert_eq!(
        total.tx().bytes,
        total.tx().packets * 66,
        "what was refused has no bytes"
    );
}
