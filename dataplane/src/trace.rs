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
        let mut text = Cut(ArrayString::new());
        // The error says that it was cut, which does not matter.
        let _ = write!(text, "{verdict:?}");
        let mut bytes = [0; SNAP];
        let kept = frame.len().min(SNAP);
        bytes[..kept].copy_from_slice(&frame[..kept]);
        let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        if records
            .push(Record {
                id,
                node,
                verdict: text.0,
                len,
                bytes,
            })
            .is_err()
        {
            // Only this worker writes it.
            self.lost.store(self.lost.load(Relaxed) + 1, Relaxed);
        }
    }
}

/// Text that takes what fits and ends there.
struct Cut<const N: usize>(ArrayString<N>);

impl<const N: usize> std::fmt::Write for Cut<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let fits = text.floor_char_boundary(self.0.remaining_capacity());
        self.0.push_str(&text[..fits]);
        if fits == text.len() {
            Ok(())
        } else {
            Err(std::fmt::Error)
        }
    }
}

impl TraceControl {
    /// Trace the next `packets` packets of this worker.
    pub fn arm(&self, packets: u32) {
        self.armed.store(packets, Relaxed);
    }

    /// Packets still wanted.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        self.armed.load(Relaxed)
    }

    /// Records so far, oldest first; at most what the ring holds, however fast the worker adds to it.
    pub fn drain(&mut self) -> Vec<Record> {
        let waiting = self.records.slots();
        (0..waiting)
            .map_while(|_| self.records.pop().ok())
            .collect()
    }

    /// Records lost because the ring was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_packets_asked_for_get_an_id() {
        let (mut tracer, control) = Tracer::new(8);
        assert!(!tracer.is_armed());
        assert_eq!(tracer.begin(), 0);
        control.arm(2);
        assert!(tracer.is_armed());
        assert_eq!(
            [tracer.begin(), tracer.begin(), tracer.begin()],
            [1, 2, 0],
            "two packets, ids from 1"
        );
        assert_eq!(control.wanted(), 0);
        assert!(tracer.is_armed(), "the two are still under way");
        tracer.end_batch();
        assert!(!tracer.is_armed());
    }

    #[test]
    fn a_record_holds_what_the_node_saw() {
        let (mut tracer, mut control) = Tracer::new(8);
        tracer.record(0, "ingress", &[1], &"not traced");
        tracer.record(7, "ingress", &[0xab; 300], &Some(5));
        let records = control.drain();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].id, records[0].node), (7, "ingress"));
        assert_eq!(records[0].verdict.as_str(), "Some(5)");
        assert_eq!(records[0].len, 300);
        assert_eq!(records[0].bytes, [0xab; SNAP]);
        assert_eq!(control.lost(), 0);
    }

    #[test]
    fn a_long_verdict_is_cut() {
        let (mut tracer, mut control) = Tracer::new(8);
        tracer.record(1, "egress", &[], &"\u{e4}".repeat(100));
        let verdict = control.drain()[0].verdict;
        assert_eq!(verdict.len(), 47, "a quote, and characters of two bytes");
        assert!(verdict.starts_with("\"\u{e4}"));
    }

    #[test]
    fn records_that_do_not_fit_are_counted() {
        let (mut tracer, mut control) = Tracer::new(3);
        for id in 1..=10 {
            tracer.record(id, "egress", &[], &());
        }
        let ids: Vec<u32> = control.drain().iter().map(|record| record.id).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(control.lost(), 7);
    }

    #[test]
    fn off_stays_off() {
        let mut tracer = Tracer::off();
        assert_eq!(tracer.begin(), 0);
        tracer.record(1, "egress", &[], &());
        assert!(!tracer.is_armed());
    }
}
