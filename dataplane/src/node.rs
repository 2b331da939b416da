//! A step of the packet's way: batch in, one verdict each; and the engine's part round it.
//!
//! A node looks at every frame once, rewrites in place and says which frames leave the main way, and where to; about the
//! others it says nothing, which is their verdict. [`run`] is the engine: it calls the node, counts, traces, keeps in the
//! batch the frames that go on along the main arm (in order) and hands each other frame to `divert`, which gives it its
//! only other place. So no frame can be lost between nodes.

use arrayvec::ArrayVec;

use crate::batch::Batch;
use crate::counters::NodeCounters;
use crate::frame::{BURST_MAX, Frame};
use crate::trace::{Traceable, Tracer};

/// The frames of one batch that leave the main way, in their order, and where to. A frame is named at most once.
pub struct Leaving<N>(ArrayVec<(u8, N), BURST_MAX>);

impl<N> Leaving<N> {
    /// Frame `index` goes `next` instead of on. Indexes rise from call to call.
    ///
    /// # Panics
    /// When called more often than there are frames.
    #[inline(never)] // rare, and inline it would take registers from the loop of those that stay
    pub fn push(&mut self, index: usize, next: N) {
        debug_assert!(
            self.0
                .last()
                .is_none_or(|(last, _)| usize::from(*last) < index),
            "one verdict for each frame, in order"
        );
        self.0.push((index as u8, next)); // `as`: below BURST_MAX
    }
}

/// One step over a whole batch.
pub trait Node<F: Frame> {
    /// Everything one batch may look at.
    type Tables: ?Sized;
    /// The pipeline's record beside each frame.
    type Meta: Copy + Default + Traceable;
    /// The verdict: a small enum.
    type Next: Copy + Eq + std::fmt::Debug;
    /// The verdict of frames that stay in the batch.
    const MAIN: Self::Next;
    /// Stable name in counters and traces.
    const NAME: &'static str;
    /// Position in [`crate::counters::WorkerCounters::nodes`].
    const INDEX: usize;

    /// Decide and rewrite in place: `meta[i]` belongs to `frames[i]`, both have the same length, and a frame that does
    /// not go on along [`Node::MAIN`] is pushed to `leaving`.
    fn process(
        &mut self,
        tables: &Self::Tables,
        frames: &mut [F],
        meta: &mut [Self::Meta],
        leaving: &mut Leaving<Self::Next>,
    );
}

/// Run `node` over `batch`: frames with the verdict [`Node::MAIN`] stay, in order; each other one goes to `divert`.
#[inline]
pub fn run<F: Frame, N: Node<F>>(
    node: &mut N,
    tables: &N::Tables,
    batch: &mut Batch<F, N::Meta>,
    counters: &NodeCounters,
    tracer: &mut Tracer,
    divert: impl FnMut(N::Next, F, N::Meta),
) {
    if batch.is_empty() {
        return;
    }
    let mut leaving = Leaving(ArrayVec::new());
    let (frames, meta) = batch.parts();
    counters.calls.add(1);
    counters.frames.add(frames.len() as u64); // `as`: at most BURST_MAX
    node.process(tables, frames, meta, &mut leaving);
    if tracer.is_armed() {
        trace::<F, N>(batch, &leaving, tracer);
    }
    if !leaving.0.is_empty() {
        part(batch, leaving, divert);
    }
}

/// Record each frame's verdict.
#[cold]
fn trace<F: Frame, N: Node<F>>(
    batch: &mut Batch<F, N::Meta>,
    leaving: &Leaving<N::Next>,
    tracer: &mut Tracer,
) {
    let mut leaving = leaving.0.iter().peekable();
    let (frames, meta) = batch.parts();
    for (index, (frame, meta)) in frames.iter().zip(meta.iter()).enumerate() {
        let left = leaving.next_if(|(left, _)| usize::from(*left) == index);
        let next = left.map_or(N::MAIN, |(_, next)| *next);
        tracer.record(meta.trace_id(), N::NAME, frame.bytes(), &next);
    }
}

/// Give away the frames that leave, close the ranks of the others.
#[inline(never)]
fn part<F: Frame, M: Copy + Default, N>(
    batch: &mut Batch<F, M>,
    leaving: Leaving<N>,
    mut divert: impl FnMut(N, F, M),
) {
    let mut kept = Batch::new();
    let mut leaving = leaving.0.into_iter().peekable();
    let mut index = 0;
    batch.consume(|frame, meta| {
        match leaving.next_if(|(left, _)| usize::from(*left) == index) {
            Some((_, next)) => divert(next, frame, meta),
            None => kept.push(frame, meta),
        }
        index += 1;
    });
    *batch = kept;
}
