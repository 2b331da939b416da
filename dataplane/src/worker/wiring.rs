//! Which worker owns which queue, and which rings join the workers.
//!
//! Receive queue `q` of a port with at least as many queues as there are workers belongs to worker `q mod workers`. A
//! port with fewer is dealt out from where the port before it ended, so that many small ports do not all meet the first
//! worker, and its owners spread by flow. Transmit queues follow the same rule, except that a worker needs no more than
//! one: a port with enough queues gives each worker its own and leaves the rest unused; otherwise workers without a
//! queue hand finished frames to an owner, always the same one, so that flows stay in order.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::{Consumer, Producer};

use super::idle::Poll;
use super::spread::Spreader;
use super::status::Status;
use super::{Pipeline, Source, Worker};
use crate::counters::WorkerCounters;
use crate::frame::{BURST_MAX, Frame};
use crate::outputs::{Outputs, PuntRates, TxPath, WORKERS_MAX};
use crate::port::{PortId, RxQueue, TxQueue};
use crate::ring::{Handoff, Injected, Punted, ring};
use crate::table::publish::Publisher;
use crate::trace::{TraceControl, Tracer};

/// One worker's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// The core its thread is pinned to; `None`: wherever the system puts it.
    pub core: Option<usize>,
    /// What it does when there is nothing to do.
    pub poll: Poll,
    /// Most frames it takes from a queue at a time, 1 to [`BURST_MAX`].
    pub burst: usize,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            core: None,
            poll: Poll::default(),
            burst: 32,
        }
    }
}

/// How many items each ring holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingSizes {
    /// From each worker to each other one.
    pub handoff: usize,
    /// From each worker to the control thread.
    pub punt: usize,
    /// From the control thread to each worker.
    pub inject: usize,
    /// Trace records from each worker.
    pub trace: usize,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            handoff: 1024,
            punt: 1024,
            inject: 1024,
            trace: 1024,
        }
    }
}

/// All workers of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrewConfig {
    /// One entry for each worker.
    pub workers: Vec<WorkerConfig>,
    /// Rates for the whole process; each worker gets an equal share, rounded up.
    pub punt_rates: PuntRates,
    /// Ring capacities.
    pub rings: RingSizes,
    /// What makes the deal of flows to workers different from process to process.
    pub spread_seed: u64,
}

/// A port's queues, to be given to workers.
pub struct PortQueues<F: Frame> {
    /// The port.
    pub id: PortId,
    /// Its receive queues, which the device fills flow by flow.
    pub receive: Vec<Box<dyn RxQueue<Frame = F>>>,
    /// Its transmit queues.
    pub transmit: Vec<Box<dyn TxQueue<Frame = F>>>,
}

/// The control thread's ends of one worker.
pub struct WorkerHandle<F, M> {
    /// Position among the workers.
    pub index: usize,
    /// Its core.
    pub core: Option<usize>,
    /// Its counters.
    pub counters: Arc<CachePadded<WorkerCounters>>,
    /// Packets it punts.
    pub punts: Consumer<Punted<F, M>>,
    /// Packets for it.
    pub inject: Producer<Injected<F, M>>,
    /// Its tracer.
    pub trace: TraceControl,
    /// Its state.
    pub status: Arc<Status>,
}

/// Workers that are ready to start, and the control thread's end of each, in the same order.
pub type Built<F, P> = (
    Vec<Worker<F, P>>,
    Vec<WorkerHandle<F, <P as Pipeline<F>>::Meta>>,
);

/// Why a crew cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Nobody would poll.
    #[error("there must be at least one worker")]
    NoWorkers,
    /// More than [`WORKERS_MAX`].
    #[error("{0} workers; at most {WORKERS_MAX} are possible")]
    TooManyWorkers(usize),
    /// A burst size out of range.
    #[error("worker {worker}: burst is {burst}; it must be 1 to {BURST_MAX}")]
    Burst {
        /// The worker.
        worker: usize,
        /// The size that was asked for.
        burst: usize,
    },
    /// The same port twice.
    #[error("port {} is given twice", .0.index())]
    PortTwice(PortId),
}

/// Check a configuration before anything is taken apart.
fn check<F: Frame>(config: &CrewConfig, ports: &[PortQueues<F>]) -> Result<(), BuildError> {
    let count = config.workers.len();
    if count == 0 {
        return Err(BuildError::NoWorkers);
    }
    if count > WORKERS_MAX {
        return Err(BuildError::TooManyWorkers(count));
    }
    for (worker, settings) in config.workers.iter().enumerate() {
        let burst = settings.burst;
        if !(1..=BURST_MAX).contains(&burst) {
            return Err(BuildError::Burst { worker, burst });
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if ports[..index].iter().any(|other| other.id == port.id) {
            return Err(BuildError::PortTwice(port.id));
        }
    }
    Ok(())
}

/// The owner of each of `queues` queues; `next` is where a port with few queues begins, and is moved on.
fn owners(queues: usize, workers: usize, next: &mut usize) -> Vec<usize> {
    if queues >= workers {
        return (0..queues).map(|queue| queue % workers).collect();
    }
    let first = *next;
    *next = (first + queues) % workers;
    (0..queues).map(|queue| (first + queue) % workers).collect()
}

/// Build the workers. `pipeline` makes the packet program of each, by worker index.
pub(super) fn build<F: Frame, P: Pipeline<F>>(
    config: &CrewConfig,
    ports: Vec<PortQueues<F>>,
    publisher: &mut Publisher<P::Tables>,
    mut pipeline: impl FnMut(usize) -> P,
) -> Result<Built<F, P>, BuildError> {
    check(config, &ports)?;
    let count = config.workers.len();
    let port_slots = ports.iter().map(|port| port.id.index() + 1).max();
    let port_slots = port_slots.unwrap_or(0);

    let mut sources: Vec<Vec<Source<F>>> = (0..count).map(|_| Vec::new()).collect();
    let mut paths: Vec<Vec<TxPath<F>>> = (0..count)
        .map(|_| (0..port_slots).map(|_| TxPath::Absent).collect())
        .collect();
    let (mut next_receiver, mut next_sender) = (0, 0);
    for port in ports {
        let is_spread = port.receive.len() < count;
        let receivers = owners(port.receive.len(), count, &mut next_receiver);
        for (queue, owner) in port.receive.into_iter().zip(receivers) {
            sources[owner].push(Source {
                port: port.id,
                copies: queue.copies(),
                queue,
                is_spread,
            });
        }
        let mut senders = owners(port.transmit.len(), count, &mut next_sender);
        senders.truncate(count);
        // Those who own one get it below.
        for (paths, owner) in paths.iter_mut().zip(senders.iter().cycle()) {
            paths[port.id.index()] = TxPath::Worker(*owner);
        }
        for (queue, owner) in port.transmit.into_iter().zip(senders) {
            paths[owner][port.id.index()] = TxPath::Queue(queue);
        }
    }

    let (mut to_peers, mut from_peers) = mesh(count, config.rings.handoff);
    let share = |n: u32| n.div_ceil(u32::try_from(count).expect("at most WORKERS_MAX"));
    let punt_rates = config
        .punt_rates
        .map(|(per_second, burst)| (share(per_second), share(burst)));

    let mut workers = Vec::with_capacity(count);
    let mut handles = Vec::with_capacity(count);
    for (index, settings) in config.workers.iter().enumerate() {
        let counters = Arc::new(WorkerCounters::new());
        let status = Arc::new(Status::default());
        let (punt, punts) = ring(config.rings.punt);
        let (inject, injected) = ring(config.rings.inject);
        let (tracer, trace) = Tracer::new(config.rings.trace);
        let out = Outputs::new(
            std::mem::take(&mut paths[index]),
            std::mem::take(&mut to_peers[index]),
            punt,
            punt_rates,
            Arc::clone(&counters),
            tracer,
        );
        workers.push(Worker::new(super::Parts {
            index,
            config: settings.clone(),
            pipeline: pipeline(index),
            reader: publisher.reader(),
            sources: std::mem::take(&mut sources[index]),
            peers: std::mem::take(&mut from_peers[index]),
            injected,
            out,
            spreader: Spreader::new(config.spread_seed, count, index),
            port_slots,
            status: Arc::clone(&status),
        }));
        handles.push(WorkerHandle {
            index,
            core: settings.core,
            counters,
            punts,
            inject,
            trace,
            status,
        });
    }
    Ok((workers, handles))
}

/// Ends of the rings by worker: `to[a][b]` pushes to `b`, `from[b]` pops what others pushed.
type Mesh<F> = (
    Vec<Vec<Option<Producer<Handoff<F>>>>>,
    Vec<Vec<Consumer<Handoff<F>>>>,
);

/// One ring from each worker to each other one.
fn mesh<F>(workers: usize, capacity: usize) -> Mesh<F> {
    let mut to: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for (sender, to) in to.iter_mut().enumerate() {
        for (receiver, from) in from.iter_mut().enumerate() {
            to.push((sender != receiver).then(|| {
                let (producer, consumer) = ring(capacity);
                from.push(consumer);
                producer
            }));
        }
    }
    (to, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_queues_go_round_all_workers() {
        let mut next = 0;
        assert_eq!(owners(5, 2, &mut next), [0, 1, 0, 1, 0]);
        assert_eq!(owners(3, 3, &mut next), [0, 1, 2]);
        assert_eq!(next, 0, "they leave the turn to the others");
    }

    #[test]
    fn few_queues_take_turns() {
        let mut next = 0;
        assert_eq!(owners(1, 3, &mut next), [0]);
        assert_eq!(owners(1, 3, &mut next), [1]);
        assert_eq!(owners(2, 3, &mut next), [2, 0]);
        assert_eq!(owners(0, 3, &mut next), [0; 0]);
        assert_eq!(owners(1, 3, &mut next), [1]);
    }

    #[test]
    fn every_pair_of_workers_has_a_ring_each_way() {
        let (mut to, mut from) = mesh::<u8>(3, 4);
        let port = PortId::new(0).expect("port 0");
        for (sender, row) in to.iter_mut().enumerate() {
            for (receiver, ring) in row.iter_mut().enumerate() {
                assert_eq!(ring.is_none(), sender == receiver);
                if let Some(ring) = ring {
                    let frame = u8::try_from(10 * sender + receiver).expect("small");
                    ring.push(Handoff::Transmit { port, frame }).expect("room");
                }
            }
        }
        for (receiver, rings) in from.iter_mut().enumerate() {
            let mut arrived = Vec::new();
            for ring in rings {
                while let Ok(Handoff::Transmit { frame, .. }) = ring.pop() {
                    arrived.push(usize::from(frame));
                }
            }
            let expected: Vec<usize> = (0..3)
                .filter(|sender| *sender != receiver)
                .map(|sender| 10 * sender + receiver)
                .collect();
            assert_eq!(arrived, expected);
        }
    }
}
