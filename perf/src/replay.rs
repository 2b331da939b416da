//! Frames replayed through a pipeline in process: a source that refills, a transmit queue that hands frames back, and
//! the pipeline between two readings of the time-stamp counter.
//!
//! Nothing here allocates once it is set up. Source and transmit function stand outside the two readings, with one
//! exception: a burst of [`BURST_MAX`] fills the outgoing buffer, which the engine then sends at once.

use std::sync::Arc;

use anyhow::{Result, ensure};
use crossbeam_utils::CachePadded;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame as _};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::{PortId, TxQueue};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::ring::{Punted, ring};
use dataplane::testing::HeapFrame;
use dataplane::trace::Tracer;
use dataplane::worker::Pipeline;
use rtrb::{Consumer, Producer};

use crate::tsc;

/// Frames in circulation: as many as a per-thread buffer cache keeps warm.
const FRAMES: usize = 4 * BURST_MAX;

/// The port frames come in by.
pub const INGRESS: usize = 0;
/// The port they are expected to leave by.
pub const EGRESS: usize = 1;

/// A pipeline with everything round it.
pub struct Replay<P: Pipeline<HeapFrame>> {
    pipeline: P,
    tables: P::Tables,
    out: Outputs<HeapFrame, P::Meta>,
    counters: Arc<CachePadded<WorkerCounters>>,
    ingress: PortId,
    /// What frames are refilled from, again and again.
    templates: Vec<Vec<u8>>,
    next_template: usize,
    returned: Consumer<HeapFrame>,
    burst: Burst<HeapFrame>,
    _punts: Consumer<Punted<HeapFrame, P::Meta>>,
}

/// The transmit function: frames go back to the source.
struct HandBack(Producer<HeapFrame>);

impl TxQueue for HandBack {
    type Frame = HeapFrame;

    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        let count = burst.len();
        // The ring has room for every frame there is.
        self.0
            .write_chunk_uninit(count)
            .map_or(0, |chunk| chunk.fill_from_iter(burst.drain(..)))
    }
}

impl<P: Pipeline<HeapFrame>> Replay<P> {
    /// Replay `templates` through `pipeline` from [`INGRESS`] to [`EGRESS`].
    #[must_use]
    pub fn new(pipeline: P, tables: P::Tables, templates: Vec<Vec<u8>>) -> Self {
        let (mut hand_back, returned) = ring(FRAMES);
        for _ in 0..FRAMES {
            hand_back
                .push(HeapFrame::new(&[]))
                .expect("the ring holds all frames");
        }
        let (punt, punts) = ring(1);
        let counters = Arc::new(WorkerCounters::new());
        let paths = vec![TxPath::Absent, TxPath::Queue(Box::new(HandBack(hand_back)))];
        let rates = [(0, 0); PuntReason::COUNT];
        let out = Outputs::new(
            paths,
            Vec::new(),
            punt,
            rates,
            Arc::clone(&counters),
            Tracer::off(),
        );
        Self {
            pipeline,
            tables,
            out,
            counters,
            ingress: PortId::new(INGRESS).expect("port 0 exists"),
            templates,
            next_template: 0,
            returned,
            burst: Burst::new(),
            _punts: punts,
        }
    }

    /// Run one burst of `size` packets; says how many clocks the pipeline took.
    pub fn burst(&mut self, size: usize) -> u64 {
        self.burst_with(size, |_| {})
    }

    /// The same with each frame as `change` makes it of its template.
    pub fn burst_with(&mut self, size: usize, mut change: impl FnMut(&mut [u8])) -> u64 {
        for _ in 0..size {
            let Ok(mut frame) = self.returned.pop() else {
                break; // lost to a drop: `check` says so
            };
            frame.refill(&self.templates[self.next_template]);
            change(frame.bytes_mut());
            self.burst.push(frame);
            self.next_template += 1;
            if self.next_template == self.templates.len() {
                self.next_template = 0;
            }
        }
        let start = tsc::now();
        self.pipeline
            .process(&self.tables, self.ingress, &mut self.burst, &mut self.out);
        let clocks = tsc::now() - start;
        self.out.flush();
        clocks
    }

    /// Run at least `packets` packets in bursts of `size`; says how many clocks the pipeline took for each.
    pub fn stretch(&mut self, packets: usize, size: usize) -> f64 {
        let bursts = packets.div_ceil(size);
        let clocks: u64 = (0..bursts).map(|_| self.burst(size)).sum();
        // `as`: both are far below 2^53.
        clocks as f64 / (bursts * size) as f64
    }

    /// Look at the last `count` frames that were sent, oldest first, beside all templates.
    pub fn look_at_last(&mut self, count: usize, mut look: impl FnMut(&[u8], &[Vec<u8>])) {
        // All frames are back between two bursts; reading without taking leaves them there.
        let Ok(chunk) = self.returned.read_chunk(self.returned.slots()) else {
            return;
        };
        let (older, newer) = chunk.as_slices();
        let skipped = (older.len() + newer.len()).saturating_sub(count);
        for frame in older.iter().chain(newer).skip(skipped) {
            look(frame.bytes(), &self.templates);
        }
    }

    /// Which of the templates the next burst begins with.
    #[must_use]
    pub fn next_template(&self) -> usize {
        self.next_template
    }

    /// How many templates there are.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.templates.len()
    }

    /// Look the next bursts up in these.
    pub fn set_tables(&mut self, tables: P::Tables) {
        self.tables = tables;
    }

    /// What the pipeline counted.
    #[must_use]
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Packets sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.counters.ports[EGRESS].tx.packets.read()
    }

    /// An error if any of `packets` packets was not sent.
    pub fn check(&self, packets: u64) -> Result<()> {
        let drops: Vec<String> = DropReason::ALL
            .iter()
            .filter(|reason| self.counters.dropped(**reason) > 0)
            .map(|reason| format!("{} {}", self.counters.dropped(*reason), reason.info().name))
            .collect();
        let sent = self.sent();
        ensure!(
            sent == packets,
            "{sent} of {packets} packets were sent; dropped: {}",
            drops.join(", ")
        );
        Ok(())
    }

    /// The last frame that was sent, to look at. Ends the replay.
    #[must_use]
    pub fn into_last_sent(mut self) -> Option<HeapFrame> {
        std::iter::from_fn(|| self.returned.pop().ok()).last()
    }
}
