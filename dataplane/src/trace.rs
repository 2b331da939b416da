//! Bounded per-packet trace records: what each node saw of a traced packet and what it decided.
//!
//! Off, it costs one branch per node and batch. Armed from the control thread with a number of packets, the pipeline
//! asks for an id for each packet it takes in ([`Tracer::begin`]), and the engine records every step of packets that
//! have one. Records are fixed in size and travel over a bounded ring; when that is full, records are lost and counted.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use arrayvec::ArrayString;
use rtrb::{Consumer, Producer, RingBuffer};

/// Bytes of the packet kept in a record.
pub const SNAP: usize = 128;

/// Metadata that can carry a trace id.
pub trait Traceable {
    /// The packet's trace id; 0: not traced.
    fn trace_id(&self) -> u32;
}

/// What one node did with one packet.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which packet, from 1.
    pub id: u32,
    /// The node.
    pub node: &'static str,
    /// Its verdict, as text.
    pub verdict: ArrayString<48>,
    /// Frame length after the node, bytes.
    pub len: u16,
    /// The first bytes of the frame after the node, `len` or [`SNAP`] of them.
    pub bytes: [u8; SNAP],
}

/// The control thread's end of one worker's tracer.
pub struct TraceControl {
    armed: Arc<AtomicU32>,
    lost: Arc<AtomicU64>,
    records: Consumer<Record>,
}

/// The worker's end.
pub struct Tracer {
    armed: Arc<AtomicU32>,
    lost: Arc<AtomicU64>,
    records: Option<Producer<Record>>,
    last_id: u32,
    /// Packets still under way that have an id; kept until the end of the batch.
    active: bool,
}

impl Tracer {
    /// A tracer that can hold `capacity` records, and its control end.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, TraceControl) {
        let (producer, consumer) = RingBuffer::new(capacity);
        let armed = Arc::new(AtomicU32::new(0));
        let lost = Arc::new(AtomicU64::new(0));
        let tracer = Self {
            armed: Arc::clone(&armed),
            lost: Arc::clone(&lost),
            records: Some(producer),
            last_id: 0,
            active: false,
        };
        (
            tracer,
            TraceControl {
                armed,
                lost,
                records: consumer,
            },
        )
    }

    /// A tracer that is never armed.
    #[must_use]
    pub fn off() -> Self {
        Self {
            armed: Arc::new(AtomicU32::new(0)),
            lost: Arc::new(AtomicU64::new(0)),
            records: None,
            last_id: 0,
            active: false,
        }
    }

    /// Whether any packet is traced or is to be.
    #[inline]
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.active || self.armed.load(Relaxed) != 0
    }

    /// An id for a new packet while packets are wanted, else 0.
    pub fn begin(&mut self) -> u32 {
        let wanted = self.armed.load(Relaxed);
        if wanted == 0 {
            return 0;
        }
        // Only this worker counts down; a new arming in between is at worst one packet short.
        self.armed.store(wanted - 1, Relaxed);
        self.active = true;
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.last_id
    }

    /// The batch is done: packets that were handed on are not followed further.
    #[inline]
    pub fn end_batch(&mut self) {
        self.active = false;
    }

    /// Record a step of packet `id`; nothing for id 0.
    pub fn record(
        &mut self,
        id: u32,
        node: &'static str,
        frame: &[u8],
        verdict: &dyn std::fmt::Debug,
    ) {
        let Some(records) = self.records.as_mut() else {
            return;
        };
        if id == 0 {
            return;
        }
        let mut text = ArrayString::new();
        // A verdict longer than the field is cut; the error only says that it was.
        let _ = write!(text, "{verdict:?}");
        let mut bytes = [0; SNAP];
        let kept = frame.len().min(SNAP);
        bytes[..kept].copy_from_slice(&frame[..kept]);
        let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        if records
            .push(Record {
                id,
                node,
                verdict: text,
                len,
                bytes,
            })
            .is_err()
        {
            self.lost.store(self.lost.load(Relaxed) + 1, Relaxed);
        }
    }
}

impl TraceControl {
    /// Trace the next `packets` packets of this worker.
    pub fn arm(&self, packets: u32) {
        self.armed.store(packets, Relaxed);
    }

    /// Records so far, oldest first.
    pub fn drain(&mut self) -> Vec<Record> {
        std::iter::from_fn(|| self.records.pop().ok()).collect()
    }

    /// Records lost because the ring was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}
