//! Where a frame's way ends: a transmit queue, the control thread, or the free list. Every frame that enters a pipeline
//! leaves it through exactly one call of [`Outputs::transmit`], [`Outputs::discard`] or [`Outputs::punt`], which also
//! count it.

use std::time::Instant;

use crossbeam_utils::CachePadded;
use rtrb::Producer;
use std::sync::Arc;

use crate::counters::WorkerCounters;
use crate::frame::{Burst, Frame};
use crate::port::{PortId, TxQueue};
use crate::reason::{DropReason, PuntReason};
use crate::ring::{Handoff, Punted};
use crate::trace::Tracer;

/// How this worker reaches a port's transmit side.
pub enum TxPath<F> {
    /// It owns a queue.
    Queue(Box<dyn TxQueue<Frame = F>>),
    /// Another worker owns one: the index of the ring to it.
    Worker(usize),
    /// The port does not exist.
    Absent,
}

/// Tokens for events of one kind. Time is read by the caller, and only when there is an event.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: u64,
    burst: u64,
    /// In billionths of a token, so that short intervals are not rounded away.
    nano_tokens: u64,
    last: Option<Instant>,
}

impl TokenBucket {
    /// `per_second` events a second on average, `burst` at once.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst = u64::from(burst) * 1_000_000_000;
        Self {
            per_second: u64::from(per_second),
            burst,
            nano_tokens: burst,
            last: None,
        }
    }

    /// Whether an event at `now` is within the rate; takes a token if it is.
    pub fn take(&mut self, now: Instant) -> bool {
        let last = *self.last.get_or_insert(now);
        let elapsed =
            u64::try_from(now.saturating_duration_since(last).as_nanos()).unwrap_or(u64::MAX);
        self.nano_tokens = self
            .nano_tokens
            .saturating_add(elapsed.saturating_mul(self.per_second))
            .min(self.burst);
        self.last = Some(now);
        if self.nano_tokens < 1_000_000_000 {
            return false;
        }
        self.nano_tokens -= 1_000_000_000;
        true
    }
}

/// Rate of each punt reason, per worker: (packets a second, burst).
pub type PuntRates = [(u32, u32); PuntReason::COUNT];

/// Everything a pipeline may give a frame to. Owned by one worker.
pub struct Outputs<F: Frame, M> {
    ports: Box<[(TxPath<F>, Burst<F>)]>,
    dropped: Burst<F>,
    punts: Producer<Punted<F, M>>,
    punt_buckets: [TokenBucket; PuntReason::COUNT],
    /// To the other workers; by worker index.
    workers: Vec<Option<Producer<Handoff<F>>>>,
    counters: Arc<CachePadded<WorkerCounters>>,
    /// Records what happens to traced packets.
    pub tracer: Tracer,
    now: Option<Instant>,
}

impl<F: Frame, M: Copy> Outputs<F, M> {
    /// Outputs of one worker. `ports` in the order of [`PortId`]; `workers` has `None` for this worker itself.
    #[must_use]
    pub fn new(
        ports: Vec<TxPath<F>>,
        workers: Vec<Option<Producer<Handoff<F>>>>,
        punts: Producer<Punted<F, M>>,
        punt_rates: PuntRates,
        counters: Arc<CachePadded<WorkerCounters>>,
        tracer: Tracer,
    ) -> Self {
        Self {
            ports: ports.into_iter().map(|path| (path, Burst::new())).collect(),
            dropped: Burst::new(),
            punts,
            punt_buckets: punt_rates.map(|(per_second, burst)| TokenBucket::new(per_second, burst)),
            workers,
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

    /// The time, read at most once a batch and only when something asks.
    pub fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Send a finished frame.
    #[inline]
    pub fn transmit(&mut self, port: PortId, frame: F) {
        let Some((_, burst)) = self.ports.get_mut(port.index()) else {
            self.discard(DropReason::InterfaceDown, frame);
            return;
        };
        burst.push(frame);
        if burst.is_full() {
            self.flush_port(port.index());
        }
    }

    /// Drop a frame.
    #[inline]
    pub fn discard(&mut self, reason: DropReason, frame: F) {
        self.counters.count_drop(reason, 1);
        self.free(frame);
    }

    /// Hand a frame to the control thread, within the reason's rate.
    pub fn punt(&mut self, reason: PuntReason, frame: F, meta: M) {
        let now = self.now();
        if !self.punt_buckets[reason.index()].take(now) {
            self.discard(DropReason::PuntPoliced, frame);
            return;
        }
        match self.punts.push(Punted {
            frame,
            meta,
            reason,
        }) {
            Ok(()) => self.counters.count_punt(reason, 1),
            Err(rtrb::PushError::Full(punted)) => {
                self.discard(DropReason::PuntRingFull, punted.frame)
            }
        }
    }

    /// Give a received frame to the worker that owns its flow.
    pub fn spread(&mut self, worker: usize, port: PortId, frame: F) {
        match self.hand_over(worker, Handoff::Received { port, frame }) {
            Ok(()) => self.counters.spread_out.add(1),
            Err(Handoff::Received { frame, .. } | Handoff::Transmit { frame, .. }) => {
                self.discard(DropReason::SpreadRingFull, frame);
            }
        }
    }

    /// Send what is buffered, free what was dropped. Called at the end of each batch.
    #[inline]
    pub fn flush(&mut self) {
        for index in 0..self.ports.len() {
            if !self.ports[index].1.is_empty() {
                self.flush_port(index);
            }
        }
        if !self.dropped.is_empty() {
            F::free_burst(&mut self.dropped);
        }
        self.now = None;
        self.tracer.end_batch();
    }

    fn free(&mut self, frame: F) {
        self.dropped.push(frame);
        if self.dropped.is_full() {
            F::free_burst(&mut self.dropped);
        }
    }

    fn hand_over(&mut self, worker: usize, item: Handoff<F>) -> Result<(), Handoff<F>> {
        match self.workers.get_mut(worker).and_then(Option::as_mut) {
            Some(ring) => ring.push(item).map_err(|rtrb::PushError::Full(item)| item),
            None => Err(item),
        }
    }

    fn flush_port(&mut self, index: usize) {
        let port = PortId::new(index).expect("there are at most PortId::MAX ports");
        let (path, burst) = &mut self.ports[index];
        match path {
            TxPath::Queue(queue) => {
                let bytes: u64 = burst.iter().map(|frame| frame.bytes().len() as u64).sum(); // `as`: a length
                let sent = queue.transmit(burst);
                // Counted before the send, corrected by what the device left.
                let left: u64 = burst.iter().map(|frame| frame.bytes().len() as u64).sum(); // `as`: a length
                let tx = &self.counters.ports[index].tx;
                tx.packets.add(sent as u64); // `as`: at most BURST_MAX
                tx.bytes.add(bytes - left);
                if !burst.is_empty() {
                    self.counters
                        .count_drop(DropReason::TxQueueFull, burst.len() as u64); // `as`: at most BURST_MAX
                    F::free_burst(burst);
                }
            }
            TxPath::Worker(owner) => {
                let owner = *owner;
                for frame in std::mem::take(burst) {
                    if let Err(Handoff::Received { frame, .. } | Handoff::Transmit { frame, .. }) =
                        self.hand_over(owner, Handoff::Transmit { port, frame })
                    {
                        self.discard(DropReason::TxQueueFull, frame);
                    }
                }
            }
            TxPath::Absent => {
                self.counters
                    .count_drop(DropReason::InterfaceDown, burst.len() as u64); // `as`: at most BURST_MAX
                F::free_burst(burst);
            }
        }
    }
}
