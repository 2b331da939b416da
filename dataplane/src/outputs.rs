//! Where a frame's way ends: a transmit queue, the control thread, another worker, or the free list.
//!
//! Every frame that enters a pipeline leaves it through exactly one call of [`Outputs::transmit`] (or one of its relatives
//! for many frames), [`Outputs::discard`] or [`Outputs::punt`], which also count it. Frames are collected by destination and
//! move on when a burst is full or at [`Outputs::flush`], which the worker calls at the end of each round; a burst that is
//! large enough as it comes is sent at once ([`Outputs::transmit_burst`]). Owned by one worker.

mod bucket;

use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use crossbeam_utils::CachePadded;
use rtrb::Producer;
use rtrb::chunks::ChunkError;

pub use bucket::TokenBucket;

use crate::counters::WorkerCounters;
use crate::frame::{BURST_MAX, Burst, Frame};
use crate::port::{PortId, TxQueue};
use crate::reason::{DropReason, PuntReason};
use crate::ring::{Handoff, Punted};
use crate::trace::Tracer;

/// Most workers one process may have: what one word of flags can tell apart.
pub const WORKERS_MAX: usize = 64;

/// From this many frames on, waiting for more of them is not worth moving them.
const WORTH_A_CALL: usize = 16;

/// How this worker reaches a port's transmit side.
pub enum TxPath<F> {
    /// It owns a queue.
    Queue(Box<dyn TxQueue<Frame = F>>),
    /// Another worker owns one: its index.
    Worker(usize),
    /// The port does not exist.
    Absent,
}

/// Rate of each punt reason: (packets a second, burst).
pub type PuntRates = [(u32, u32); PuntReason::COUNT];

/// Frames that leave by one port.
struct PortSlot<F: Frame> {
    path: TxPath<F>,
    burst: Burst<F>,
    /// Bytes in `burst`: added up while each frame is at hand, so that nothing is read twice.
    bytes: u64,
}

/// Frames that go to one other worker.
struct Peer<F> {
    /// `None` for the worker itself.
    ring: Option<Producer<Handoff<F>>>,
    staged: ArrayVec<Handoff<F>, BURST_MAX>,
}

impl<F> Peer<F> {
    /// Push what is staged in one piece and say how many received frames were among it; what the ring does not take
    /// stays staged.
    fn hand_over(&mut self) -> u64 {
        let Some(ring) = self.ring.as_mut() else {
            return 0;
        };
        // A dead worker has dropped its end: nothing pushed would ever be popped or freed.
        if ring.is_abandoned() {
            return 0;
        }
        let room = match ring.write_chunk_uninit(self.staged.len()) {
            Ok(_) => self.staged.len(),
            Err(ChunkError::TooFewSlots(room)) => room,
        };
        let is_received = |item: &&Handoff<F>| matches!(item, Handoff::Received { .. });
        let received = self.staged[..room].iter().filter(is_received).count();
        let chunk = ring
            .write_chunk_uninit(room)
            .expect("only this end takes room away");
        chunk.fill_from_iter(self.staged.drain(..room));
        received as u64 // `as`: at most BURST_MAX
    }
}

/// Everything a pipeline may give a frame to. Owned by one worker.
pub struct Outputs<F: Frame, M> {
    ports: Box<[PortSlot<F>]>,
    /// One bit for each port with frames in its burst.
    dirty_ports: u32,
    peers: Box<[Peer<F>]>,
    /// One bit for each worker with frames staged for it.
    dirty_peers: u64,
    dropped: Burst<F>,
    punts: Producer<Punted<F, M>>,
    punt_buckets: [TokenBucket; PuntReason::COUNT],
    counters: Arc<CachePadded<WorkerCounters>>,
    /// Records what happens to traced packets.
    pub tracer: Tracer,
    now: Option<Instant>,
}

impl<F: Frame, M: Copy> Outputs<F, M> {
    /// Outputs of one worker. `ports` in the order of [`PortId`], at most [`PortId::MAX`]; `workers` in the order of
    /// their indexes, at most [`WORKERS_MAX`], with `None` for this worker itself.
    ///
    /// # Panics
    /// When there are more ports or workers than that.
    #[must_use]
    pub fn new(
        ports: Vec<TxPath<F>>,
        workers: Vec<Option<Producer<Handoff<F>>>>,
        punts: Producer<Punted<F, M>>,
        punt_rates: PuntRates,
        counters: Arc<CachePadded<WorkerCounters>>,
        tracer: Tracer,
    ) -> Self {
        assert!(ports.len() <= PortId::MAX, "at most PortId::MAX ports");
        assert!(workers.len() <= WORKERS_MAX, "at most WORKERS_MAX workers");
        let slot = |path| PortSlot {
            path,
            burst: Burst::new(),
            bytes: 0,
        };
        let peer = |ring| Peer {
            ring,
            staged: ArrayVec::new(),
        };
        Self {
            ports: ports.into_iter().map(slot).collect(),
            dirty_ports: 0,
            peers: workers.into_iter().map(peer).collect(),
            dirty_peers: 0,
            dropped: Burst::new(),
            punts,
            punt_buckets: punt_rates.map(|(per_second, burst)| TokenBucket::new(per_second, burst)),
            counters,
            tracer,
            now: None,
        }
    }

    /// This worker's counters.
    #[inline]
    #[must_use]
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Both counters and tracer, for the engine.
    #[inline]
    pub fn counters_and_tracer(&mut self) -> (&WorkerCounters, &mut Tracer) {
        (&self.counters, &mut self.tracer)
    }

    /// The time, read at most once between two flushes and only when something asks.
    #[inline]
    pub fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Let it be this time until the next flush: for tests, where time passes as they say.
    pub fn set_now(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Send a finished frame.
    #[inline(always)] // a call for each packet would cost as much as what it does
    pub fn transmit(&mut self, port: PortId, frame: F) {
        let index = port.index();
        let Some(slot) = self.ports.get_mut(index) else {
            self.discard(DropReason::InterfaceDown, frame);
            return;
        };
        slot.bytes += frame.bytes().len() as u64; // `as`: a length
        slot.burst.push(frame);
        self.dirty_ports |= 1 << index;
        if slot.burst.is_full() {
            self.flush_port(index);
        }
    }

    /// Send finished frames that all leave by one port; at most [`BURST_MAX`].
    #[inline]
    pub fn transmit_all(&mut self, port: PortId, frames: impl ExactSizeIterator<Item = F>) {
        let index = port.index();
        let Some(slot) = self.ports.get(index) else {
            for frame in frames {
                self.discard(DropReason::InterfaceDown, frame);
            }
            return;
        };
        if slot.burst.remaining_capacity() < frames.len() {
            self.flush_port(index);
        }
        let slot = &mut self.ports[index];
        let mut bytes = 0;
        slot.burst
            .extend(frames.inspect(|frame| bytes += frame.bytes().len() as u64)); // `as`: a length
        slot.bytes += bytes;
        self.dirty_ports |= 1 << index;
        if slot.burst.is_full() {
            self.flush_port(index);
        }
    }

    /// The same for a burst of `bytes` bytes, which is empty afterwards. One that is worth a call of the device's driver is
    /// sent at once, from where it is, unless frames for that port are waiting: then it goes behind them.
    #[inline]
    pub fn transmit_burst(&mut self, port: PortId, burst: &mut Burst<F>, bytes: u64) {
        let index = port.index();
        let is_first = self.dirty_ports & 1 << index == 0;
        if burst.len() >= WORTH_A_CALL
            && is_first
            && let Some(PortSlot {
                path: TxPath::Queue(queue),
                ..
            }) = self.ports.get_mut(index)
        {
            send(index, &mut **queue, burst, bytes, &self.counters);
        } else {
            self.transmit_all(port, burst.drain(..));
        }
    }

    /// Drop a frame.
    #[inline]
    pub fn discard(&mut self, reason: DropReason, frame: F) {
        self.counters.count_drop(reason, 1);
        self.dropped.push(frame);
        if self.dropped.is_full() {
            F::free_burst(&mut self.dropped);
        }
    }

    /// Hand a frame to the control thread, within the reason's rate.
    pub fn punt(&mut self, reason: PuntReason, frame: F, meta: M) {
        let now = self.now();
        if !self.punt_buckets[reason.index()].take(now) {
            self.counters.count_punt_refused(reason);
            self.discard(DropReason::PuntPoliced, frame);
            return;
        }
        let punted = Punted {
            frame,
            meta,
            reason,
        };
        match self.punts.push(punted) {
            Ok(()) => self.counters.count_punt(reason, 1),
            Err(rtrb::PushError::Full(punted)) => {
                self.counters.count_punt_refused(reason);
                self.discard(DropReason::PuntRingFull, punted.frame);
            }
        }
    }

    /// Give a received frame to the worker that owns its flow.
    #[inline]
    pub fn spread(&mut self, worker: usize, port: PortId, frame: F) {
        self.stage(worker, Handoff::Received { port, frame });
    }

    /// Send what is buffered, hand over what is staged, free what was dropped. The worker calls it once a round.
    #[inline]
    pub fn flush(&mut self) {
        while self.dirty_ports != 0 {
            self.flush_port(self.dirty_ports.trailing_zeros() as usize); // `as`: below 32
        }
        // After the ports: a port may have staged its burst for the worker that owns its queue.
        while self.dirty_peers != 0 {
            self.flush_peer(self.dirty_peers.trailing_zeros() as usize); // `as`: below 64
        }
        if !self.dropped.is_empty() {
            F::free_burst(&mut self.dropped);
        }
        self.now = None;
        self.tracer.end_batch();
    }

    fn flush_port(&mut self, index: usize) {
        self.dirty_ports &= !(1 << index);
        let slot = &mut self.ports[index];
        let bytes = std::mem::take(&mut slot.bytes);
        match &mut slot.path {
            TxPath::Queue(queue) => {
                send(index, &mut **queue, &mut slot.burst, bytes, &self.counters);
            }
            TxPath::Worker(owner) => {
                let owner = *owner;
                let port = PortId::new(index).expect("there are at most PortId::MAX ports");
                for frame in std::mem::take(&mut slot.burst) {
                    self.stage(owner, Handoff::Transmit { port, frame });
                }
            }
            TxPath::Absent => {
                let refused = slot.burst.len() as u64; // `as`: at most BURST_MAX
                self.counters.count_drop(DropReason::InterfaceDown, refused);
                F::free_burst(&mut slot.burst);
            }
        }
    }

    #[inline]
    fn stage(&mut self, worker: usize, item: Handoff<F>) {
        match self.peers.get_mut(worker) {
            Some(peer) if peer.ring.is_some() => {
                peer.staged.push(item);
                self.dirty_peers |= 1 << worker;
                if peer.staged.is_full() {
                    self.flush_peer(worker);
                }
            }
            _ => self.refuse(item),
        }
    }

    fn flush_peer(&mut self, worker: usize) {
        self.dirty_peers &= !(1 << worker);
        let peer = &mut self.peers[worker];
        self.counters.spread_out.add(peer.hand_over());
        if !peer.staged.is_empty() {
            for item in std::mem::take(&mut peer.staged) {
                self.refuse(item);
            }
        }
    }

    #[cold]
    fn refuse(&mut self, item: Handoff<F>) {
        match item {
            Handoff::Received { frame, .. } => self.discard(DropReason::SpreadRingFull, frame),
            Handoff::Transmit { frame, .. } => self.discard(DropReason::TxQueueFull, frame),
        }
    }
}

/// Send a burst of `bytes` bytes by a port's queue, as far as the device takes it, and drop the rest.
#[inline]
fn send<F: Frame>(
    port: usize,
    queue: &mut dyn TxQueue<Frame = F>,
    burst: &mut Burst<F>,
    bytes: u64,
    counters: &WorkerCounters,
) {
    let mut sent = 0;
    // A device may take only so many at a time; it is full when it takes none.
    while !burst.is_empty() {
        match queue.transmit(burst) {
            0 => break,
            taken => sent += taken,
        }
    }
    let tx = &counters.ports[port].tx;
    tx.packets.add(sent as u64); // `as`: at most BURST_MAX
    let left: u64 = burst.iter().map(|f| f.bytes().len() as u64).sum(); // `as`: a length
    tx.bytes.add(bytes.saturating_sub(left));
    if !burst.is_empty() {
        let refused = burst.len() as u64; // `as`: at most BURST_MAX
        counters.count_drop(DropReason::TxQueueFull, refused);
        F::free_burst(burst);
    }
}

#[cfg(test)]
mod tests;
