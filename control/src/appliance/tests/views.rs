//! What an operator asks for, and sees of a worker that died.

use std::time::Duration;

use dataplane::frame::Burst;
use dataplane::port::RxQueue;
use dataplane::reason::PuntReason;
use dataplane::table::publish::Publisher;
use dataplane::testing::HeapFrame;
use dataplane::worker::{Crew, CrewConfig, PortQueues, RingSizes, WorkerConfig};
use pipelines::tables::Builder;
use pipelines::testing::HeapEdge;

use super::bench::*;
use crate::admin::protocol::{Command, Refusal, Subject};
use crate::admin::view;
use crate::publish;

/// A receive queue whose driver has a bug.
struct Poisoned;

impl RxQueue for Poisoned {
    type Frame = HeapFrame;

    fn receive(&mut self, _burst: &mut Burst<HeapFrame>, _limit: usize) -> usize {
        panic!("descriptor ring corrupt")
    }
}

#[test]
fn trace_follows_as_many_packets_as_asked_for_and_no_more() {
    let mut bench = Bench::with_workers(&text(""), 2);
    bench.run(10);
    let answer = bench
        .appliance
        .answer(bench.now, Command::Trace { packets: 2 });
    assert!(answer.ok);
    for sequence in 1..=5 {
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", sequence));
    }
    bench.run(3);
    let answer = bench.appliance.answer(bench.now, Command::Records);
    let trace: view::Trace = serde_json::from_value(answer.data).unwrap();
    assert_eq!((trace.wanted, trace.seen, trace.lost), (2, 2, 0));
    let steps: Vec<_> = trace
        .steps
        .iter()
        .map(|step| (step.packet, &*step.node))
        .collect();
    let expected = ["ingress", "lookup", "local"];
    let expected: Vec<_> = [1, 2]
        .iter()
        .flat_map(|packet| expected.map(|node| (*packet, node)))
        .collect();
    assert_eq!(steps, expected);
    assert!(
        trace.steps[0]
            .summary
            .starts_with("fd01:203:405:1::10 > fd01:203:405:1::1")
    );
    let refused = bench
        .appliance
        .answer(bench.now, Command::Trace { packets: 0 });
    assert_eq!(refused.reason, Some(Refusal::Request));
}

#[test]
fn every_subject_has_an_answer_with_a_time() {
    let mut bench = Bench::new(&text(RULE));
    bench.run(50);
    for subject in Subject::ALL {
        let answer = bench
            .appliance
            .answer(bench.now, Command::Show { subject: *subject });
        assert!(answer.ok, "{subject}");
        assert_eq!(answer.data["monotonic_ns"], 50_000_000, "{subject}");
    }
}

#[test]
fn dead_worker_is_told_and_its_packets_are_counted() {
    let mut bench = Bench::new(&text(""));
    let mut publisher = Publisher::new(Builder::new().build());
    let crew = CrewConfig {
        workers: vec![WorkerConfig::default()],
        punt_rates: [(1, 1); PuntReason::COUNT],
        rings: RingSizes::default(),
        spread_seed: 1,
    };
    let queues = PortQueues {
        id: publish::port(INSIDE),
        receive: vec![Box::new(Poisoned) as Box<dyn RxQueue<Frame = HeapFrame>>],
        transmit: Vec::new(),
    };
    let (workers, handles) =
        Crew::build::<HeapFrame, HeapEdge>(&crew, vec![queues], &mut publisher, |_| {
            HeapEdge::new()
        })
        .unwrap();
    bench.appliance.workers = handles;
    assert!(!bench.appliance.is_dead());
    let crew = Crew::start(workers, |_| Ok::<(), String>(())).unwrap();
    while !bench.appliance.is_dead() {
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.appliance.tick(bench.now + Duration::from_secs(1));
    assert_eq!(bench.appliance.known_panics, [10]);
    let workers: view::Workers = bench.show(Subject::Workers);
    assert_eq!(workers.workers[0].state, "dead");
    let (panics, cause) = (workers.workers[0].panics, &workers.workers[0].cause);
    assert_eq!(
        (panics, cause.as_deref()),
        (10, Some("descriptor ring corrupt"))
    );
    // Announcements are still made, and have nowhere to go.
    bench.appliance.tick(bench.now + Duration::from_secs(60));
    let drops: view::Drops = bench.show(Subject::Drops);
    let lost = drops
        .control
        .iter()
        .find(|count| count.name == "worker_dead")
        .unwrap();
    assert!(lost.count > 0);
    drop(crew);
}
