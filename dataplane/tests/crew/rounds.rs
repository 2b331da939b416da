//! One worker or two, run round by round in the test's own thread: what exactly a round does.

use dataplane::counters::Snapshot;
use dataplane::frame::Frame;
use dataplane::reason::PuntReason;
use dataplane::ring::Injected;
use dataplane::testing::MemoryPort;
use dataplane::worker::{BuildError, Crew, Poll, WorkerConfig};

use crate::rig::{Mixed, PATIENT, Record, Rig, config, flow_and_sequence, packet, port_id};

fn one_worker() -> Rig {
    Rig::new(&config(1, Poll::Busy), &[(2, 1), (1, 1)])
}

#[test]
fn an_idle_round_is_a_poll_and_nothing_else() {
    let mut rig = one_worker();
    let before = rig.snapshot();
    assert_eq!(rig.workers()[0].round(), 0);
    let mut expected = before;
    expected.polls += 1;
    assert_eq!(rig.snapshot(), expected);
}

#[test]
fn a_round_takes_one_burst_from_each_queue() {
    let mut rig = one_worker();
    for sequence in 0..40 {
        rig.ports[0].feed(0, packet(0, 1, sequence));
        rig.ports[0].feed(1, packet(0, 2, sequence));
    }
    assert_eq!(rig.workers()[0].round(), 64, "32 from each");
    assert_eq!(rig.workers()[0].round(), 16);
    assert_eq!(rig.workers()[0].round(), 0);
    let total = rig.snapshot();
    assert_eq!((total.polls, total.busy_polls), (3, 2));
    assert_eq!(total.port(port_id(0)).rx.packets, 80);
    assert_eq!(total.port(port_id(1)).rx.packets, 0);
    assert_eq!(
        total.port(port_id(1)).tx.packets,
        rig.ports[1].unsent() as u64
    ); // `as`: a count
    assert!(total.is_conserved());
}

/// A pipeline may hold frames: it is asked again in rounds that bring nothing, and what it settles then was moved.
#[test]
fn what_a_pipeline_holds_goes_on_when_nothing_comes() {
    let mut rig = one_worker();
    for sequence in [PATIENT, 0, PATIENT] {
        rig.ports[0].feed(0, packet(0, 1, sequence));
    }
    assert_eq!(rig.workers()[0].round(), 3);
    assert_eq!(rig.ports[1].collect().len(), 1);
    assert!(!rig.snapshot().is_conserved());
    assert_eq!(rig.workers()[0].round(), 2);
    assert_eq!(rig.ports[1].collect().len(), 2);
    assert_eq!(rig.workers()[0].round(), 0);
    let total = rig.snapshot();
    assert_eq!((total.polls, total.busy_polls), (3, 2));
    assert!(total.is_conserved());
}

#[test]
fn injected_frames_are_sent_and_injected_packets_resume() {
    let mut rig = one_worker();
    let frame = packet(7, 9, 1234);
    let bytes = frame.bytes().to_vec();
    let port = port_id(1);
    let inject = &mut rig.handles[0].inject;
    inject
        .push(Injected::Transmit { port, frame })
        .expect("room");
    let resumed = Injected::Resume {
        frame: packet(7, 9, 1234),
        meta: Record,
    };
    inject.push(resumed).expect("room");
    let version = rig.publish();
    assert_eq!(rig.workers()[0].round(), 2);
    let sent = rig.ports[1].collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].bytes(), bytes);
    let resumed = rig.ports[0].collect();
    let (flow, met) = flow_and_sequence(&resumed[0]);
    assert_eq!((resumed.len(), flow), (1, (7, 9)));
    assert_eq!(
        met as usize, version,
        "it met the tables published before it"
    ); // `as`: a small version
    let total = rig.snapshot();
    assert_eq!((total.injected, total.tx().packets), (2, 2));
    assert!(total.is_conserved());
}

#[test]
fn handed_over_frames_keep_their_port() {
    let mut rig = Rig::new(&config(2, Poll::Busy), &[(1, 2), (1, 2), (1, 2)]);
    for flow in 0..30 {
        rig.ports[0].feed(0, packet(0, flow, 1));
        rig.ports[1].feed(0, packet(1, flow, 1));
    }
    // Both receive, then both take over.
    for _ in 0..2 {
        for worker in rig.workers() {
            worker.round();
        }
    }
    for (egress, port) in rig.ports.iter().enumerate() {
        let sent = port.collect();
        assert_eq!(sent.len(), [0, 30, 30][egress]);
        let ingress = |frame| usize::from(flow_and_sequence(frame).0.0);
        assert!(sent.iter().all(|frame| ingress(frame) + 1 == egress));
    }
    let total = rig.snapshot();
    assert!(total.spread_out > 10);
    assert!(total.is_conserved());
}

#[test]
fn a_frame_in_a_ring_belongs_to_nobody_yet() {
    let mut rig = Rig::new(&config(2, Poll::Busy), &[(1, 1)]);
    for flow in 0..20 {
        rig.ports[0].feed(0, packet(0, flow, 1));
    }
    rig.workers()[0].round();
    let on_the_way = rig.snapshot();
    assert!(!on_the_way.is_conserved());
    assert_eq!(
        on_the_way.packets_in() - on_the_way.packets_out(),
        on_the_way.spread_out - on_the_way.spread_in
    );
    rig.workers()[1].round();
    // The other worker has no transmit queue: its frames come back finished.
    rig.workers()[0].round();
    let total = rig.snapshot();
    assert!(total.is_conserved());
    assert_eq!(total.tx().packets, 20);
    let first = Snapshot::of(&rig.handles[0].counters);
    assert_eq!(first.tx().packets, 20, "counted where it was sent");
    assert_eq!(first.rx().packets, 20, "counted where it was received");
}

#[test]
fn punts_are_policed_over_the_whole_box() {
    let mut config = config(2, Poll::Busy);
    config.punt_rates[PuntReason::Echo.index()] = (0, 6);
    let mut rig = Rig::new(&config, &[(2, 1)]);
    for flow in 0..40 {
        rig.ports[0].feed(usize::from(flow % 2), packet(0, flow, 16)); // punted
    }
    for worker in rig.workers() {
        worker.round();
    }
    let total = rig.snapshot();
    assert_eq!(
        total.punted(PuntReason::Echo),
        6,
        "half of it for each worker"
    );
    assert_eq!(
        total.dropped(dataplane::reason::DropReason::PuntPoliced),
        34
    );
    assert!(total.is_conserved());
}

#[test]
fn a_port_without_transmit_queues_is_down() {
    let mut rig = Rig::new(&config(1, Poll::Busy), &[(1, 0)]);
    rig.ports[0].feed(0, packet(0, 1, 1));
    rig.workers()[0].round();
    let total = rig.snapshot();
    assert_eq!(
        total.dropped(dataplane::reason::DropReason::InterfaceDown),
        1
    );
    assert!(total.is_conserved());
}

#[test]
fn a_crew_that_makes_no_sense_is_refused() {
    let refusal = |config, ports: Vec<usize>| {
        let alive = Default::default();
        let tables = crate::rig::Tables::new(1, 0, &alive);
        let mut publisher = dataplane::table::publish::Publisher::new(tables);
        let port = MemoryPort::new(1, 1);
        let queues = ports.into_iter().map(|id| port.queues(port_id(id)));
        Crew::build(&config, queues.collect(), &mut publisher, |_| {
            Mixed::default()
        })
        .err()
    };
    let mut greedy = config(2, Poll::Busy);
    greedy.workers[1].burst = 65;
    let mut idle = config(1, Poll::Busy);
    idle.workers[0].burst = 0;
    let error = BuildError::Burst {
        worker: 1,
        burst: 65,
    };
    assert_eq!(refusal(greedy, vec![0]), Some(error));
    let error = BuildError::Burst {
        worker: 0,
        burst: 0,
    };
    assert_eq!(refusal(idle, vec![0]), Some(error));
    assert_eq!(
        refusal(config(0, Poll::Busy), vec![0]),
        Some(BuildError::NoWorkers)
    );
    let mut crowd = config(1, Poll::Busy);
    crowd.workers = vec![WorkerConfig::default(); 65];
    assert_eq!(refusal(crowd, vec![]), Some(BuildError::TooManyWorkers(65)));
    let error = BuildError::PortTwice(port_id(3));
    assert_eq!(refusal(config(1, Poll::Busy), vec![3, 1, 3]), Some(error));
    assert_eq!(refusal(config(1, Poll::Busy), vec![3, 1]), None);
}
