//! [`Outputs`] without a crew: for tests and benchmarks that call a pipeline themselves.

use std::marker::PhantomData;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::Consumer;

use crate::counters::WorkerCounters;
use crate::frame::{Burst, Frame};
use crate::outputs::{Outputs, TxPath};
use crate::port::TxQueue;
use crate::reason::PuntReason;
use crate::ring::{Punted, ring};
use crate::trace::Tracer;

/// Punted packets [`outputs`] keeps for the test.
const PUNTS: usize = 4096;

/// Outputs of a worker that is alone, and what a test wants to look at.
pub struct TestOutputs<F: Frame, M> {
    /// For the pipeline.
    pub out: Outputs<F, M>,
    /// Their counters.
    pub counters: Arc<CachePadded<WorkerCounters>>,
    /// What was punted.
    pub punts: Consumer<Punted<F, M>>,
}

/// Outputs over these transmit queues, by port; punts are not policed.
#[must_use]
pub fn outputs<F: Frame, M: Copy>(transmit: Vec<Box<dyn TxQueue<Frame = F>>>) -> TestOutputs<F, M> {
    let counters = Arc::new(WorkerCounters::new());
    let (producer, punts) = ring(PUNTS);
    let paths = transmit.into_iter().map(TxPath::Queue).collect();
    let rates = [(u32::MAX, u32::MAX); PuntReason::COUNT];
    let out = Outputs::new(
        paths,
        vec![None],
        producer,
        rates,
        Arc::clone(&counters),
        Tracer::off(),
    );
    TestOutputs {
        out,
        counters,
        punts,
    }
}

/// A transmit queue that takes everything and frees it.
pub struct Sink<F>(PhantomData<fn() -> F>);

impl<F> Sink<F> {
    /// A sink.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<F> Default for Sink<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Frame> TxQueue for Sink<F> {
    type Frame = F;

    fn transmit(&mut self, burst: &mut Burst<F>) -> usize {
        let count = burst.len();
        F::free_burst(burst);
        count
    }
}
