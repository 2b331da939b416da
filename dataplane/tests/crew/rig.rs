//! What the crew's tests share: numbered packets, a pipeline that does a bit of everything, and ports in memory.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use dataplane::batch::Batch;
use dataplane::counters::Snapshot;
use dataplane::frame::{Burst, Frame};
use dataplane::outputs::Outputs;
use dataplane::port::PortId;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::table::publish::Publisher;
use dataplane::testing::builder::Packet;
use dataplane::testing::{HeapFrame, MemoryPort};
use dataplane::trace::Traceable;
use dataplane::worker::{
    Crew, CrewConfig, Pipeline, Poll, RingSizes, StartError, Worker, WorkerConfig, WorkerHandle,
};

pub type Handle = WorkerHandle<HeapFrame, Record>;

/// The record beside each frame: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record;

impl Traceable for Record {
    fn trace_id(&self) -> u32 {
        0
    }
}

/// Tables that know how many of their kind live, and that only the thread that made them drops them.
pub struct Tables {
    pub ports: usize,
    pub version: usize,
    alive: Arc<AtomicUsize>,
    maker: ThreadId,
}

impl Tables {
    pub fn new(ports: usize, version: usize, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self {
            ports,
            version,
            alive: Arc::clone(alive),
            maker: thread::current().id(),
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
        if !thread::panicking() {
            assert_eq!(thread::current().id(), self.maker, "a worker freed tables");
        }
    }
}

/// The sequence number that makes [`Mixed`] panic.
pub const POISON: u32 = u32::MAX;
/// The same, and once more while it recovers.
pub const DEADLY: u32 = u32::MAX - 3;

/// The sequence number of a packet that [`Mixed`] holds until a round brings nothing.
pub const PATIENT: u32 = u32::MAX - 1;
/// That of one it holds until the end.
pub const FORLORN: u32 = u32::MAX - 2;

/// What [`Mixed`] does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Sent,
    Dropped,
    Punted,
    /// Dropped, and answered from its own buffer.
    Answered,
}

pub fn fate(sequence: u32) -> Fate {
    match sequence {
        s if s % 13 == 12 => Fate::Dropped,
        s if s % 17 == 16 => Fate::Punted,
        s if s % 19 == 18 => Fate::Answered,
        _ => Fate::Sent,
    }
}

/// Sends what comes in by a port out by the next one, and drops, punts, answers and holds some.
#[derive(Default)]
pub struct Mixed {
    /// With the port they came in by.
    held: Vec<(usize, HeapFrame)>,
    is_beyond_help: bool,
}

impl Mixed {
    fn settle(
        tables: &Tables,
        port: usize,
        frame: HeapFrame,
        out: &mut Outputs<HeapFrame, Record>,
    ) {
        let (_, sequence) = flow_and_sequence(&frame);
        assert_ne!(sequence, POISON, "met the poisoned packet");
        assert!(tables.version < usize::MAX);
        let egress = port_id((port + 1) % tables.ports);
        match fate(sequence) {
            Fate::Sent => out.transmit(egress, frame),
            Fate::Dropped => out.discard(DropReason::NoRoute, frame),
            Fate::Punted => out.punt(PuntReason::Echo, frame, Record),
            Fate::Answered => {
                out.counters().count_drop(DropReason::HopLimit, 1);
                out.counters().generated.add(1);
                out.transmit(egress, frame);
            }
        }
    }
}

impl Pipeline<HeapFrame> for Mixed {
    type Tables = Tables;
    type Meta = Record;

    fn process(
        &mut self,
        tables: &Tables,
        ingress: PortId,
        burst: &mut Burst<HeapFrame>,
        out: &mut Outputs<HeapFrame, Record>,
    ) {
        for frame in burst.drain(..) {
            match flow_and_sequence(&frame).1 {
                PATIENT | FORLORN => self.held.push((ingress.index(), frame)),
                DEADLY => {
                    self.is_beyond_help = true;
                    panic!("met the deadly packet");
                }
                _ => Self::settle(tables, ingress.index(), frame, out),
            }
        }
    }

    /// What comes back leaves by the first port, marked with the version of the tables it met.
    fn resume(
        &mut self,
        tables: &Tables,
        batch: &mut Batch<HeapFrame, Record>,
        out: &mut Outputs<HeapFrame, Record>,
    ) {
        for mut frame in batch.drain_frames() {
            let version = u32::try_from(tables.version).expect("a small version");
            let end = frame.bytes().len();
            frame.bytes_mut()[end - 4..].copy_from_slice(&version.to_be_bytes());
            out.transmit(port_id(0), frame);
        }
    }

    fn idle(&mut self, tables: &Tables, out: &mut Outputs<HeapFrame, Record>) -> usize {
        let is_patient = |held: &mut (_, HeapFrame)| flow_and_sequence(&held.1).1 == PATIENT;
        let ready: Vec<_> = self.held.extract_if(.., is_patient).collect();
        let settled = ready.len();
        for (port, frame) in ready {
            out.transmit(port_id((port + 1) % tables.ports), frame);
        }
        settled
    }

    fn recover(&mut self) {
        assert!(
            !self.is_beyond_help,
            "met the deadly packet, and is beyond help"
        );
        self.held.clear();
    }

    fn finish(&mut self, out: &mut Outputs<HeapFrame, Record>) {
        for (_, frame) in self.held.drain(..) {
            out.discard(DropReason::NoRoute, frame);
        }
    }
}

pub fn port_id(index: usize) -> PortId {
    PortId::new(index).expect("a port of the test")
}

/// A packet of `flow` that came in by `port`.
pub fn packet(port: usize, flow: u16, sequence: u32) -> HeapFrame {
    let host = u16::try_from(port).expect("few ports");
    let source = Ipv6Addr::new(0x2001, 0xdb8, 0, host, 0, 0, 0, flow);
    let destination = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    let packet = Packet::anywhere().ipv6(source, destination);
    HeapFrame::new(&packet.udp(flow, 53, &sequence.to_be_bytes()).build())
}

/// (receive port, flow) and sequence number of a packet.
pub fn flow_and_sequence(frame: &HeapFrame) -> ((u16, u16), u32) {
    let bytes = frame.bytes();
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let sequence = bytes.last_chunk::<4>().expect("a test packet");
    // Ethernet 14, then the source address at 8: its fourth and its eighth word.
    (
        (word(14 + 8 + 6), word(14 + 8 + 14)),
        u32::from_be_bytes(*sequence),
    )
}

/// A box with ports in memory.
pub struct Rig {
    pub ports: Vec<MemoryPort<HeapFrame>>,
    pub publisher: Publisher<Tables>,
    pub alive: Arc<AtomicUsize>,
    pub handles: Vec<Handle>,
    workers: Vec<Worker<HeapFrame, Mixed>>,
    crew: Option<Crew>,
}

pub fn config(workers: usize, poll: Poll) -> CrewConfig {
    let worker = WorkerConfig {
        core: None,
        poll,
        burst: 32,
    };
    CrewConfig {
        workers: vec![worker; workers],
        punt_rates: [(u32::MAX, u32::MAX); PuntReason::COUNT],
        rings: RingSizes {
            handoff: 16_384,
            punt: 16_384,
            ..RingSizes::default()
        },
        spread_seed: 7,
    }
}

impl Rig {
    /// `queues` are (receive, transmit) for each port.
    pub fn new(config: &CrewConfig, queues: &[(usize, usize)]) -> Self {
        let ports = queues.iter().map(|(rx, tx)| MemoryPort::new(*rx, *tx));
        Self::with_ports(config, ports.collect())
    }

    pub fn with_ports(config: &CrewConfig, ports: Vec<MemoryPort<HeapFrame>>) -> Self {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut publisher = Publisher::new(Tables::new(ports.len(), 0, &alive));
        let queues = ports.iter().enumerate();
        let queues = queues.map(|(index, port)| port.queues(port_id(index)));
        let (workers, handles) = Crew::build(config, queues.collect(), &mut publisher, |_| {
            Mixed::default()
        })
        .expect("a valid crew");
        Self {
            ports,
            publisher,
            alive,
            handles,
            workers,
            crew: None,
        }
    }

    /// Start the threads; the hook does nothing.
    pub fn start(&mut self) {
        self.start_with(|_| Ok::<(), String>(()))
            .expect("nothing stands in the way");
    }

    pub fn start_with<G>(
        &mut self,
        hook: impl Fn(usize) -> Result<G, String> + Send + Sync + 'static,
    ) -> Result<(), StartError> {
        let workers = std::mem::take(&mut self.workers);
        self.crew = Some(Crew::start(workers, hook)?);
        Ok(())
    }

    pub fn stop(&mut self) {
        self.crew.take().expect("a crew was started").stop();
    }

    /// The workers, to be run round by round.
    pub fn workers(&mut self) -> &mut [Worker<HeapFrame, Mixed>] {
        &mut self.workers
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::sum(self.handles.iter().map(|handle| &**handle.counters))
    }

    /// Replace the tables by the next version.
    pub fn publish(&mut self) -> usize {
        let version = self.publisher.current().version + 1;
        let tables = Tables::new(self.ports.len(), version, &self.alive);
        self.publisher.publish(tables);
        version
    }
}

/// Wait until `condition` holds; fail after half a minute, which a loaded machine may well need.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_micros(200));
    }
}
