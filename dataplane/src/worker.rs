//! The poll loop, and what it runs.

use crate::batch::Batch;
use crate::frame::{Burst, Frame};
use crate::outputs::Outputs;
use crate::port::PortId;
use crate::trace::Traceable;

/// A whole packet program: every frame given to it ends in exactly one call of an [`Outputs`] method.
pub trait Pipeline<F: Frame>: Send {
    /// Everything one batch may look at; published by the control thread.
    type Tables: Send + Sync;
    /// The record kept beside each frame.
    type Meta: Copy + Default + Send + Traceable;

    /// Run a received burst to completion; `burst` is empty afterwards.
    fn process(
        &mut self,
        tables: &Self::Tables,
        ingress: PortId,
        burst: &mut Burst<F>,
        out: &mut Outputs<F, Self::Meta>,
    );

    /// Run packets that the control thread made or handed back; `batch` is empty afterwards.
    fn resume(
        &mut self,
        tables: &Self::Tables,
        batch: &mut Batch<F, Self::Meta>,
        out: &mut Outputs<F, Self::Meta>,
    );
}
