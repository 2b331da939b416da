//! A port whose queues are lists in memory, for tests of everything between receive and transmit.
//!
//! The test holds the port, workers hold its queues; both may run in different threads. Each access takes a lock, which
//! is what makes it unfit for measurements.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frame::{Burst, Frame};
use crate::port::{PortId, RxQueue, TxQueue};
use crate::worker::PortQueues;

type Shared<F> = Arc<Mutex<Queue<F>>>;

struct Queue<F> {
    frames: VecDeque<F>,
    /// Most frames it holds; a transmit queue takes no more.
    room: usize,
    /// Most frames one call moves.
    stride: usize,
}

/// A port in memory.
#[derive(Clone)]
pub struct MemoryPort<F> {
    receive: Vec<Shared<F>>,
    transmit: Vec<Shared<F>>,
}

fn lock<F>(queue: &Shared<F>) -> MutexGuard<'_, Queue<F>> {
    // A worker that panicked in the lock left the list whole: every change is one call.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Frame + 'static> MemoryPort<F> {
    /// A port with this many queues, all without bounds.
    #[must_use]
    pub fn new(receive_queues: usize, transmit_queues: usize) -> Self {
        let queues = |count| {
            let queue = || Queue {
                frames: VecDeque::new(),
                room: usize::MAX,
                stride: usize::MAX,
            };
            (0..count).map(|_| Arc::new(Mutex::new(queue()))).collect()
        };
        Self {
            receive: queues(receive_queues),
            transmit: queues(transmit_queues),
        }
    }

    /// Let every transmit queue hold at most `frames` frames that nobody has collected.
    #[must_use]
    pub fn with_transmit_room(self, frames: usize) -> Self {
        for queue in &self.transmit {
            lock(queue).room = frames;
        }
        self
    }

    /// Let every call of a queue move at most `frames` frames, as some devices do.
    #[must_use]
    pub fn with_stride(self, frames: usize) -> Self {
        for queue in self.receive.iter().chain(&self.transmit) {
            lock(queue).stride = frames;
        }
        self
    }

    /// The queues, for a crew. Meant to be called once: a queue has one owner.
    #[must_use]
    pub fn queues(&self, id: PortId) -> PortQueues<F> {
        PortQueues {
            id,
            receive: self
                .receive
                .iter()
                .map(|queue| Box::new(MemoryRx(Arc::clone(queue))) as Box<_>)
                .collect(),
            transmit: (0..self.transmit.len())
                .map(|queue| self.transmit_queue(queue))
                .collect(),
        }
    }

    /// One transmit queue.
    #[must_use]
    pub fn transmit_queue(&self, queue: usize) -> Box<dyn TxQueue<Frame = F>> {
        Box::new(MemoryTx(Arc::clone(&self.transmit[queue])))
    }

    /// Let a frame arrive on a receive queue.
    pub fn feed(&self, queue: usize, frame: F) {
        lock(&self.receive[queue]).frames.push_back(frame);
    }

    /// Frames that nobody has received yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.receive.iter().map(|q| lock(q).frames.len()).sum()
    }

    /// Frames that were sent and not collected yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.transmit.iter().map(|q| lock(q).frames.len()).sum()
    }

    /// Collect what was sent by one transmit queue, in order.
    #[must_use]
    pub fn collect_queue(&self, queue: usize) -> Vec<F> {
        lock(&self.transmit[queue]).frames.drain(..).collect()
    }

    /// Collect what was sent, queue by queue.
    #[must_use]
    pub fn collect(&self) -> Vec<F> {
        (0..self.transmit.len())
            .flat_map(|queue| self.collect_queue(queue))
            .collect()
    }
}

struct MemoryRx<F>(Shared<F>);

impl<F: Frame> RxQueue for MemoryRx<F> {
    type Frame = F;

    fn receive(&mut self, burst: &mut Burst<F>, limit: usize) -> usize {
        let mut queue = lock(&self.0);
        let count = limit
            .min(queue.stride)
            .min(queue.frames.len())
            .min(burst.remaining_capacity());
        burst.extend(queue.frames.drain(..count));
        count
    }
}

struct MemoryTx<F>(Shared<F>);

impl<F: Frame> TxQueue for MemoryTx<F> {
    type Frame = F;

    fn transmit(&mut self, burst: &mut Burst<F>) -> usize {
        let mut queue = lock(&self.0);
        let room = queue.room.saturating_sub(queue.frames.len());
        let count = burst.len().min(queue.stride).min(room);
        queue.frames.extend(burst.drain(..count));
        count
    }
}
