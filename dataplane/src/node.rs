//! A step of the packet's way: batch in, one verdict each; and the engine's part round it.
//!
//! A node looks at every frame once, rewrites in place and writes a verdict. [`run`] is the engine: it calls the node,
//! counts, traces, keeps in the batch the frames that go on along the main arm (in order) and hands each other frame to
//! `divert`, which gives it its only other place. So no frame can be lost between nodes.

use arrayvec::ArrayVec;

use crate::batch::Batch;
use crate::counters::NodeCounters;
use crate::frame::{BURST_MAX, Frame};
use crate::trace::{Traceable, Tracer};

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

    /// Decide and rewrite in place: `next[i]` belongs to `frames[i]` and `meta[i]`. All three have the same length, and
    /// `next` holds [`Node::MAIN`] everywhere on entry.
    fn process(
        &mut self,
        tables: &Self::Tables,
        frames: &mut [F],
        meta: &mut [Self::Meta],
        next: &mut [Self::Next],
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
    mut divert: impl FnMut(N::Next, F, N::Meta),
) {
    if batch.is_empty() {
        return;
    }
    let mut next: ArrayVec<N::Next, BURST_MAX> =
        std::iter::repeat_n(N::MAIN, batch.len()).collect();
    let (frames, meta) = batch.parts();
    counters.calls.add(1);
    counters.frames.add(frames.len() as u64); // `as`: at most BURST_MAX
    node.process(tables, frames, meta, &mut next);
    if tracer.is_armed() {
        for ((frame, meta), next) in frames.iter().zip(meta.iter()).zip(next.iter()) {
            tracer.record(meta.trace_id(), N::NAME, frame.bytes(), next);
        }
    }
    if next.iter().all(|verdict| *verdict == N::MAIN) {
        return;
    }
    let mut kept = Batch::new();
    let mut verdicts = next.into_iter();
    batch.consume(|frame, meta| match verdicts.next() {
        Some(verdict) if verdict != N::MAIN => divert(verdict, frame, meta),
        _ => kept.push(frame, meta),
    });
    *batch = kept;
}
