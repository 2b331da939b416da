//! The short way through the graph beside its twin, the graph of nodes: the same bursts, the same outcome.

use std::net::Ipv6Addr;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use dataplane::counters::{ServerTotal, WorkerCounters};
use dataplane::frame::{BURST_MAX, Burst, Frame as _};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::PortId;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::ring::{Punted, ring};
use dataplane::testing::HeapFrame;
use dataplane::trace::Tracer;
use dataplane::worker::Pipeline as _;
use pipelines::testing::HeapEdge;
use pipelines::{Meta, Tables};
use rtrb::Consumer;

use super::network::{self, PORTS};
use super::{Collect, PUNT_RATE, Samples, Source};
use crate::steer::graph::reflected;

/// Few enough that the memory of flows is not full: then it depends on their order within a burst which of them is forgotten.
const BURSTS: u64 = 12_000;

/// One of the two, with everything round it.
struct Side {
    edge: HeapEdge,
    out: Outputs<HeapFrame, Meta>,
    counters: Arc<CachePadded<WorkerCounters>>,
    sent: Vec<Consumer<HeapFrame>>,
    punts: Consumer<Punted<HeapFrame, Meta>>,
}

/// All that can be seen of what became of a burst.
#[derive(Debug, PartialEq)]
struct Seen {
    /// By port; frames of different flows may change places.
    sent: Vec<Vec<Vec<u8>>>,
    punted: Vec<(PuntReason, Vec<u8>, String)>,
    dropped: Vec<(DropReason, u64)>,
    generated: u64,
    rules: Vec<[u64; 4]>,
    ports: Vec<[u64; 2]>,
    /// Packets and bytes encapsulated and decapsulated.
    lisp: [u64; 4],
    /// Packets, bytes and flows of each server, and what became of flows.
    servers: Vec<ServerTotal>,
    steer: [u64; 3],
}

impl Side {
    fn new(edge: HeapEdge) -> Self {
        let (queues, sent): (Vec<_>, Vec<_>) = (0..PORTS).map(|_| ring(8 * BURST_MAX)).unzip();
        let paths = queues
            .into_iter()
            .map(|queue| TxPath::Queue(Box::new(Collect(queue)) as _))
            .collect();
        let (punt, punts) = ring(4 * BURST_MAX);
        let counters = Arc::new(WorkerCounters::new());
        let rates = [PUNT_RATE; PuntReason::COUNT];
        let (own, tracer) = (Arc::clone(&counters), Tracer::off());
        Self {
            edge,
            out: Outputs::new(paths, Vec::new(), punt, rates, own, tracer),
            counters,
            sent,
            punts,
        }
    }

    fn run(&mut self, tables: &Tables, port: PortId, frames: &[Vec<u8>]) -> Seen {
        let mut burst: Burst<_> = frames.iter().map(|bytes| HeapFrame::new(bytes)).collect();
        self.edge.process(tables, port, &mut burst, &mut self.out);
        self.out.flush();
        assert!(burst.is_empty(), "frames were left in the burst");
        let sent = self.sent.iter_mut().map(|queue| {
            let frames = std::iter::from_fn(|| queue.pop().ok());
            let mut frames: Vec<_> = frames.map(|frame| frame.bytes().to_vec()).collect();
            frames.sort_unstable();
            frames
        });
        let sent = sent.collect();
        let punted = std::iter::from_fn(|| self.punts.pop().ok());
        let punted = punted.map(|punt| {
            let meta = format!("{:?}", punt.meta);
            (punt.reason, punt.frame.bytes().to_vec(), meta)
        });
        let mut punted: Vec<_> = punted.collect();
        punted.sort_unstable_by_key(|(reason, bytes, meta)| {
            (reason.index(), bytes.clone(), meta.clone())
        });
        let counters = &self.counters;
        let rules = counters.rules.iter().take(16);
        let ports = counters.ports.iter().take(PORTS);
        Seen {
            sent,
            punted,
            dropped: DropReason::ALL
                .iter()
                .map(|reason| (*reason, counters.dropped(*reason)))
                .collect(),
            generated: counters.generated.read(),
            rules: rules
                .map(|rule| {
                    [
                        &rule.out.packets,
                        &rule.out.bytes,
                        &rule.r#in.packets,
                        &rule.r#in.bytes,
                    ]
                    .map(|cell| cell.read())
                })
                .collect(),
            servers: counters
                .servers
                .iter()
                .take(32)
                .map(|server| server.read())
                .collect(),
            steer: {
                let steer = &counters.steer;
                [&steer.displaced, &steer.stateless, &steer.moved].map(|cell| cell.read())
            },
            lisp: {
                let (encap, decap) = (&counters.lisp_encap, &counters.lisp_decap);
                [&encap.packets, &encap.bytes, &decap.packets, &decap.bytes].map(|cell| cell.read())
            },
            ports: ports
                .map(|port| [&port.tx.packets, &port.tx.bytes].map(|cell| cell.read()))
                .collect(),
        }
    }
}

#[test]
fn the_short_way_and_the_graph_of_nodes_do_the_same() {
    let tables = network::all_tables().expect("valid");
    let mut source = Source::new(7, Samples::all());
    let (mut short, mut long) = (
        Side::new(HeapEdge::new()),
        Side::new(HeapEdge::without_express()),
    );
    let mut answers = Answers::default();
    for number in 0..BURSTS {
        let plan = source.plan(number);
        let tables = &tables[plan.network as usize]; // `as`: a fieldless enum
        let port = PortId::new(plan.port).expect("few ports");
        let mut frames = source.frames(number);
        answers.take(plan.port, &mut frames);
        let (short, long) = (
            short.run(tables, port, &frames),
            long.run(tables, port, &frames),
        );
        assert!(short == long, "burst {number}:\n{short:#?}\n{long:#?}");
        answers.note(&short.sent);
    }
    assert!(answers.noted > 50, "{}", answers.noted);
}

/// What servers answer to translated packets: only of these some come back.
#[derive(Default)]
struct Answers {
    waiting: [Vec<Vec<u8>>; PORTS],
    noted: usize,
}

impl Answers {
    /// Of frames that were sent, by port: both ends of those to servers change places.
    fn note(&mut self, sent: &[Vec<Vec<u8>>]) {
        let ours =
            network::steer::SOURCES.map(|text| text.parse::<Ipv6Addr>().expect("a constant"));
        for (port, frames) in sent.iter().enumerate() {
            for frame in frames.iter().filter(|frame| frame.len() > 62) {
                let is_plain = frame[12..14] == [0x86, 0xdd] && [6, 17].contains(&frame[20]);
                let is_ours = ours.iter().any(|ours| frame[22..38] == ours.octets());
                if !is_plain || !is_ours {
                    continue;
                }
                self.noted += 1;
                self.waiting[port].push(reflected(frame));
            }
        }
    }

    /// Put them among the frames that come in by a port.
    fn take(&mut self, port: usize, frames: &mut Vec<Vec<u8>>) {
        let Some(waiting) = self.waiting.get_mut(port) else {
            return;
        };
        while frames.len() < BURST_MAX
            && let Some(answer) = waiting.pop()
        {
            frames.push(answer);
        }
        waiting.truncate(BURST_MAX);
    }
}
