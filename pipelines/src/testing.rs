//! The graph over frames in memory, as a type of its own: it is compiled here, once, and not anew in every program that
//! tests or measures it.

use dataplane::batch::Batch;
use dataplane::frame::Burst;
use dataplane::outputs::Outputs;
use dataplane::port::PortId;
use dataplane::testing::HeapFrame;
use dataplane::worker::Pipeline;

use crate::steer::FlowMemory;
use crate::{Edge, Meta, Tables};

/// [`Edge`] over [`HeapFrame`].
pub struct HeapEdge(Edge<HeapFrame>);

impl HeapEdge {
    /// [`Edge::new`].
    #[must_use]
    pub fn new() -> Self {
        Self::remembering(FlowMemory::new())
    }

    /// [`Edge::remembering`].
    #[must_use]
    pub fn remembering(memory: FlowMemory) -> Self {
        Self(Edge::remembering(memory))
    }

    /// [`Edge::without_express`].
    #[must_use]
    pub fn without_express() -> Self {
        Self::new().by_nodes()
    }

    /// [`Edge::for_any_processor`].
    #[must_use]
    pub fn for_any_processor() -> Self {
        Self(Edge::new().for_any_processor())
    }

    /// [`Edge::by_nodes`].
    #[must_use]
    pub fn by_nodes(self) -> Self {
        Self(self.0.by_nodes())
    }

    /// [`Edge::waiting`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

impl Default for HeapEdge {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipeline<HeapFrame> for HeapEdge {
    type Tables = Tables;
    type Meta = Meta;

    #[inline(never)]
    fn process(
        &mut self,
        tables: &Tables,
        ingress: PortId,
        burst: &mut Burst<HeapFrame>,
        out: &mut Outputs<HeapFrame, Meta>,
    ) {
        self.0.process(tables, ingress, burst, out);
    }

    #[inline(never)]
    fn resume(
        &mut self,
        tables: &Tables,
        batch: &mut Batch<HeapFrame, Meta>,
        out: &mut Outputs<HeapFrame, Meta>,
    ) {
        self.0.resume(tables, batch, out);
    }

    #[inline(never)]
    fn idle(&mut self, tables: &Tables, out: &mut Outputs<HeapFrame, Meta>) -> usize {
        self.0.idle(tables, out)
    }

    fn finish(&mut self, out: &mut Outputs<HeapFrame, Meta>) {
        self.0.finish(out);
    }

    fn recover(&mut self) {
        self.0.recover();
    }
}
