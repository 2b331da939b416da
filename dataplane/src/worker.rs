//! The poll loop, and what it runs. This is the one description of threads and sharing.
//!
//! ```text
//!                      tables (table::publish): written by control, read by all workers
//!                          |                          |
//!   control thread --------+--------------------------+------------------------------------------+
//!     ^ |   punt ring      v                          v                                          |
//!     | +--inject ring--> worker 0 <--handoff ring--> worker 1 ...   counters, status, trace ----+
//!     +----------------- /    |  \                   /    |  \       (written by the worker, read by anybody)
//!                          rx queues  tx queues   rx queues  tx queues
//! ```
//!
//! - **Threads.** One control thread, and one thread for each worker, pinned to its core. [`Crew`] starts and stops
//!   them; no other thread touches packets.
//! - **Owned.** A receive queue, a transmit queue, a pipeline with its flow state, the outgoing bursts: each belongs to
//!   exactly one worker and is touched by its thread alone. A frame has one owner at any time; it changes hands through a
//!   ring.
//! - **Shared.** Tables: immutable once published, freed by the control thread when every worker has passed a
//!   [quiescent state](crate::table::publish), which it does at the top of each round and while it sleeps. Counters,
//!   [`Status`], trace: single writer, read at any time. Rings: one producer, one consumer, bounded; a full ring is a
//!   counted drop. There is no lock, and nobody waits for anybody, in any direction.
//! - **A round** ([`Worker::round`]): report quiescence; a burst from each owned receive queue through the pipeline; what
//!   other workers handed over; what the control thread injected; flush. A batch sees one version of the tables from
//!   start to end, and an injected packet at least the version that was current when it was injected.
//! - **Spreading.** A port with fewer receive queues than there are workers is polled by the owners of its queues, who
//!   keep the flows that are theirs and hand over the others ([`flow_hash`]). Finished frames for a port on which a
//!   worker owns no transmit queue go to a worker that does. All frames of a flow take one way, so they stay in order.
//! - **Drained.** Frames that wait in rings belong to nobody yet: handed over, they are counted as received by one
//!   worker and not yet settled by the other. So sums are only balanced when the rings are empty, as they are after
//!   [`Crew::stop`]: workers first stop to receive, then empty the rings between them in two steps (received frames,
//!   which may still be handed on for transmission, then finished ones), each step waiting for all workers. What waits in
//!   a pipeline is settled by it, at the latest now.
//! - **Setbacks.** A panic is caught in its worker, never crosses into C, and is told in [`Status`]. What the worker had in
//!   work is dropped and counted, and it goes on at once; after many, at a rate. One that panics time and again without a whole
//!   round between, or while it recovers or stops, is dead. Other workers drop, and count, what would go to it.

mod crew;
mod idle;
mod setback;
mod spread;
mod status;
mod wiring;

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use rtrb::Consumer;

pub use crew::{Crew, StartError};
pub use idle::Poll;
pub use spread::flow_hash;
pub use status::{State, Status};
pub use wiring::{
    BuildError, Built, CrewConfig, PortQueues, RingSizes, WorkerConfig, WorkerHandle,
};

use crate::batch::Batch;
use crate::frame::{BURST_MAX, Burst, Frame};
use crate::outputs::Outputs;
use crate::port::{PortId, RxQueue};
use crate::ring::{Handoff, Injected};
use crate::table::publish::Reader;
use crate::trace::Traceable;
use idle::{Backoff, Pause};
use spread::Spreader;

/// A whole packet program: every frame given to it ends in exactly one call of an [`Outputs`] method, at once or, where a
/// few may have to wait, later.
pub trait Pipeline<F: Frame>: Send {
    /// Everything one batch may look at; published by the control thread.
    type Tables: Send + Sync;
    /// The record kept beside each frame.
    type Meta: Copy + Default + Send + Traceable;

    /// Run a received burst to completion; `burst` is empty afterwards.
    fn process(
        &mut self,
        tables: &Self::Tables,
        ingress: PortId,
        burst: &mut Burst<F>,
        out: &mut Outputs<F, Self::Meta>,
    );

    /// Run packets that the control thread made or handed back; `batch` is empty afterwards.
    fn resume(
        &mut self,
        tables: &Self::Tables,
        batch: &mut Batch<F, Self::Meta>,
        out: &mut Outputs<F, Self::Meta>,
    );

    /// A round brought nothing: what waits in the pipeline may have waited long enough. Says how many frames it settled.
    fn idle(&mut self, tables: &Self::Tables, out: &mut Outputs<F, Self::Meta>) -> usize {
        let (_, _) = (tables, out);
        0
    }

    /// The worker ends: settle what waits in the pipeline.
    fn finish(&mut self, out: &mut Outputs<F, Self::Meta>) {
        let _ = out;
    }

    /// A call panicked: let go of every frame, and be ready for the next burst. What is known of flows stays.
    fn recover(&mut self);
}

/// One receive queue of this worker.
struct Source<F> {
    port: PortId,
    queue: Box<dyn RxQueue<Frame = F>>,
    /// Whether frames are dealt out to all workers.
    is_spread: bool,
    /// [`RxQueue::copies`].
    copies: bool,
}

/// What a worker is made of.
struct Parts<F: Frame, P: Pipeline<F>> {
    index: usize,
    config: WorkerConfig,
    pipeline: P,
    reader: Reader<P::Tables>,
    sources: Vec<Source<F>>,
    peers: Vec<Consumer<Handoff<F>>>,
    injected: Consumer<Injected<F, P::Meta>>,
    out: Outputs<F, P::Meta>,
    spreader: Spreader,
    port_slots: usize,
    status: Arc<Status>,
}

/// One worker: what it owns, and its loop. Made by [`Crew::build`], run by [`Crew::start`] or, one round at a time, by a
/// test.
pub struct Worker<F: Frame, P: Pipeline<F>> {
    index: usize,
    config: WorkerConfig,
    pipeline: P,
    reader: Reader<P::Tables>,
    sources: Vec<Source<F>>,
    /// What each other worker hands over.
    peers: Vec<Consumer<Handoff<F>>>,
    injected: Consumer<Injected<F, P::Meta>>,
    out: Outputs<F, P::Meta>,
    spreader: Spreader,
    status: Arc<Status>,
    /// The burst that is being received.
    burst: Burst<F>,
    /// Frames handed over, by the port they were received on.
    arrived: Box<[Burst<F>]>,
    /// Packets from the control thread.
    resumed: Batch<F, P::Meta>,
}

impl<F: Frame, P: Pipeline<F>> Worker<F, P> {
    fn new(parts: Parts<F, P>) -> Self {
        Self {
            index: parts.index,
            config: parts.config,
            pipeline: parts.pipeline,
            reader: parts.reader,
            sources: parts.sources,
            peers: parts.peers,
            injected: parts.injected,
            out: parts.out,
            spreader: parts.spreader,
            status: parts.status,
            burst: Burst::new(),
            arrived: (0..parts.port_slots).map(|_| Burst::new()).collect(),
            resumed: Batch::new(),
        }
    }

    /// One round over all queues and rings; says how many frames it moved. Never blocks.
    pub fn round(&mut self) -> usize {
        self.reader.quiescent();
        let mut moved = self.receive() + self.take_over() + self.take_injected();
        if moved == 0 {
            moved = self.pipeline.idle(self.reader.load(), &mut self.out);
        }
        self.end_round(moved)
    }

    /// A burst from each queue.
    fn receive(&mut self) -> usize {
        let tables = self.reader.load();
        let mut moved = 0;
        for source in &mut self.sources {
            let received = source.queue.receive(&mut self.burst, self.config.burst);
            if received == 0 {
                continue;
            }
            moved += received;
            // Lengths stand in the descriptors, which the receive function has just written; the packets may still be far.
            if !source.copies {
                self.burst.iter().for_each(Frame::prefetch_data);
            }
            let lengths = self.burst.iter().map(|frame| frame.bytes().len() as u64); // `as`: a length
            let bytes = lengths.sum();
            let rx = &self.out.counters().port(source.port).rx;
            rx.packets.add(received as u64); // `as`: at most BURST_MAX
            rx.bytes.add(bytes);
            if source.is_spread {
                self.spreader
                    .spread(source.port, &mut self.burst, &mut self.out);
                if self.burst.is_empty() {
                    continue;
                }
            }
            self.pipeline
                .process(tables, source.port, &mut self.burst, &mut self.out);
            debug_assert!(self.burst.is_empty(), "a pipeline settles every frame");
        }
        moved
    }

    /// At most a burst from each other worker.
    fn take_over(&mut self) -> usize {
        let mut moved = 0;
        for peer in &mut self.peers {
            let waiting = peer.slots().min(BURST_MAX);
            if waiting == 0 {
                continue;
            }
            let chunk = peer
                .read_chunk(waiting)
                .expect("only this end takes items away");
            moved += waiting;
            let mut ports = 0_u32;
            let mut received = 0;
            for item in chunk {
                match item {
                    Handoff::Received { port, frame } => {
                        self.arrived[port.index()].push(frame);
                        ports |= 1 << port.index();
                        received += 1;
                    }
                    Handoff::Transmit { port, frame } => self.out.transmit(port, frame),
                }
            }
            self.out.counters().spread_in.add(received);
            let tables = self.reader.load();
            while ports != 0 {
                let index = ports.trailing_zeros() as usize; // `as`: below 32
                ports &= ports - 1;
                let port = PortId::new(index).expect("it came from a port");
                let burst = &mut self.arrived[index];
                self.pipeline.process(tables, port, burst, &mut self.out);
                debug_assert!(burst.is_empty(), "a pipeline settles every frame");
            }
        }
        moved
    }

    /// At most a batch from the control thread.
    fn take_injected(&mut self) -> usize {
        let waiting = self.injected.slots().min(BURST_MAX);
        if waiting == 0 {
            return 0;
        }
        let chunk = self
            .injected
            .read_chunk(waiting)
            .expect("only this end takes items away");
        for item in chunk {
            match item {
                Injected::Transmit { port, frame } => self.out.transmit(port, frame),
                Injected::Resume { frame, meta } => self.resumed.push(frame, meta),
            }
        }
        self.out.counters().injected.add(waiting as u64); // `as`: at most BURST_MAX
        if !self.resumed.is_empty() {
            // Loaded after the pop: whatever was published before the push is seen.
            let tables = self.reader.load();
            self.pipeline
                .resume(tables, &mut self.resumed, &mut self.out);
            debug_assert!(self.resumed.is_empty(), "a pipeline settles every packet");
        }
        waiting
    }

    fn end_round(&mut self, moved: usize) -> usize {
        let counters = self.out.counters();
        counters.polls.add(1);
        if moved > 0 {
            counters.busy_polls.add(1);
            self.out.flush();
        }
        moved
    }

    /// Poll until told to stop, then leave nothing in the rings.
    fn run(mut self, stop: &AtomicBool, all: &[Arc<Status>]) {
        self.status.enter(State::Running);
        self.poll_through_setbacks(stop);
        self.drain(all);
    }

    fn poll(&mut self, stop: &AtomicBool) {
        let mut backoff = Backoff::new(self.config.poll);
        while !stop.load(Relaxed) {
            let moved = self.round();
            match backoff.after(moved) {
                Pause::None => {}
                Pause::Spin => hint::spin_loop(),
                Pause::Yield => thread::yield_now(),
                Pause::Sleep(time) => self.reader.while_offline(|| thread::sleep(time)),
            }
        }
    }

    /// Empty the rings to this worker, in step with the others: first until nobody can hand over received frames any
    /// more, then until nobody can hand over anything.
    fn drain(&mut self, all: &[Arc<Status>]) {
        let mut injected = self.injected.slots();
        while injected > 0 {
            injected -= self.take_injected().min(injected);
        }
        for state in [State::Draining, State::Drained] {
            self.out.flush();
            self.status.enter(state);
            loop {
                // Asked before the rings are looked at: what the others did before is in the rings then.
                let all_there = all.iter().all(|status| status.state() >= state);
                self.reader.quiescent();
                let moved = self.take_over();
                self.end_round(moved);
                if moved > 0 {
                    continue;
                }
                if all_there {
                    break;
                }
                thread::yield_now();
            }
        }
        self.pipeline.finish(&mut self.out);
    }
}
