//! The whole graph of the edge, as one pipeline.
//!
//! ```text
//! received -> ingress -> [npt66-in] -> lookup -> [steer] -> [npt66-out] -> egress -> [cut] -> transmit
//!                |            |          |            |
//!                |            |          +-- local ---+-- drop / punt / icmp error
//!                |            |          +-- hairpin (both translations) --+
//!                +------------+-------------------------------------------+-> lookup, once more
//! ```
//!
//! The nodes in brackets run only for batches that need them. What leaves the main way is settled at once: dropped,
//! punted, or turned round or translated and put in `again`, which goes through the lookup after the batch. A frame
//! can be there only once more, since an error about an error is never made and a hairpin is taken once.

mod answers;
mod settle;

use std::sync::Arc;

use dataplane::batch::Batch;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::node::{self, Node};
use dataplane::outputs::{Outputs, TokenBucket};
use dataplane::port::PortId;
use dataplane::reason::DropReason;
use dataplane::trace::Tracer;
use dataplane::worker::Pipeline;

use crate::egress::Egress;
use crate::express::{Express, Finished};
use crate::fib::Lookup;
use crate::icmp_error::IcmpError;
use crate::ingress::Ingress;
use crate::lisp::node::{Decap, Encap};
use crate::local::Local;
use crate::meta::{Entry, Meta, Next};
use crate::npt66::node::{Inbound, Outbound};
use crate::steer::FlowMemory;
use crate::steer::early::Early;
use crate::steer::memory::Memory;
use crate::steer::node::Steering;
use crate::tables::{IcmpLimits, PortTable, Tables};

use settle::{transmit_cut, turn_to};

/// Names of the nodes, by their index in the counters.
pub const NODE_NAMES: [&str; 10] = [
    "ingress",
    "npt66-in",
    "lookup",
    "npt66-out",
    "egress",
    "local",
    "hairpin",
    "lisp-decap",
    "lisp-encap",
    "steer",
];
const HAIRPIN: usize = 6;

/// Nodes that count more than frames.
#[derive(Clone, Copy)]
enum Step {
    Decap,
    In,
    Out,
    Encap,
}

/// The pipeline. One per worker: it owns the worker's error rate, its memory of flows and scratch space, nothing else.
pub struct Edge<F> {
    batch: Batch<F, Meta>,
    again: Batch<F, Meta>,
    local: Batch<F, Meta>,
    diverted: Vec<(Next, F, Meta)>,
    lookup: Lookup,
    /// `None`: it is in use, or every packet goes through the nodes.
    express: Option<Box<Express>>,
    is_by_nodes: bool,
    memory: Arc<Memory>,
    /// Fragments of flows that only their first ones tell.
    early: Early<F>,
    limits: IcmpLimits,
    errors: TokenBucket,
    /// Resets have the same rate, and none of the errors'.
    resets: TokenBucket,
}

impl<F: Frame> Edge<F> {
    /// A pipeline with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::remembering(FlowMemory::new())
    }

    /// The same, with a memory of flows that others may count.
    #[must_use]
    pub fn remembering(memory: FlowMemory) -> Self {
        let limits = IcmpLimits::default();
        Self {
            batch: Batch::new(),
            again: Batch::new(),
            local: Batch::new(),
            diverted: Vec::with_capacity(BURST_MAX),
            lookup: Lookup::default(),
            express: Some(Box::new(Express::new())),
            is_by_nodes: false,
            memory: memory.0,
            early: Early::new(),
            limits,
            errors: TokenBucket::new(limits.per_second, limits.burst),
            resets: TokenBucket::new(limits.per_second, limits.burst),
        }
    }

    /// A pipeline without the short way: what [`Edge::new`] is compared with.
    #[must_use]
    pub fn without_express() -> Self {
        Self::new().by_nodes()
    }

    /// Frames that wait in it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.early.len()
    }

    /// The same pipeline without the short way.
    #[must_use]
    pub fn by_nodes(self) -> Self {
        Self {
            express: None,
            is_by_nodes: true,
            ..self
        }
    }

    /// The same pipeline without what not every processor can do; not after [`Pipeline::recover`].
    #[must_use]
    pub fn for_any_processor(mut self) -> Self {
        if let Some(express) = &mut self.express {
            express.be_for_any_processor();
        }
        self
    }

    /// A received burst by the short way, and what leaves it by the nodes.
    fn express(
        &mut self,
        express: &mut Express,
        tables: &Tables,
        (ingress, port): (PortId, &PortTable),
        burst: &mut Burst<F>,
        out: &mut Outputs<F, Meta>,
    ) {
        let straight =
            express.go_straight(tables, (ingress, port), &self.memory, burst, out.counters());
        if straight.frames == burst.len() {
            transmit(express, tables, straight.finished, burst, out);
            if !self.early.is_empty() {
                self.go_on(tables, out);
            }
            return;
        }
        if straight.frames > 0 {
            let mut first = burst.drain(..straight.frames).collect();
            transmit(express, tables, straight.finished, &mut first, out);
        }
        let diverted = &mut self.diverted;
        let finished = express.run(
            tables,
            (ingress, port),
            &self.memory,
            burst,
            out.counters(),
            diverted,
        );
        if finished.any_oversize {
            for (index, frame) in burst.drain(..).enumerate() {
                let next_hop = tables.next_hop(express.leaf(index));
                transmit_cut(next_hop, express.is_oversize(index), frame, out);
            }
        } else {
            transmit(express, tables, finished, burst, out);
        }
        if !self.diverted.is_empty() {
            self.leave(tables, port, out);
        } else if !self.early.is_empty() {
            self.go_on(tables, out);
        }
    }

    /// What left the short way.
    #[cold]
    fn leave(&mut self, tables: &Tables, port: &PortTable, out: &mut Outputs<F, Meta>) {
        let mut diverted = std::mem::take(&mut self.diverted);
        for (next, frame, meta) in diverted.drain(..) {
            match next {
                Next::Continue => self.batch.push(frame, meta),
                _ => self.settle_one(next, frame, meta, tables, out),
            }
        }
        self.diverted = diverted;
        if tables.lisp.is_some() {
            self.run_counting(Step::Decap, tables, out);
        }
        if port.has_rules {
            self.run_counting(Step::In, tables, out);
        }
        self.forward(tables, out);
    }

    /// From the lookup on, for what is in `batch`; then for what comes back in `again`.
    fn forward(&mut self, tables: &Tables, out: &mut Outputs<F, Meta>) {
        self.route(tables, out);
        self.go_on(tables, out);
    }

    /// The trips of what comes back in `again`, and of fragments that need not wait any more.
    fn go_on(&mut self, tables: &Tables, out: &mut Outputs<F, Meta>) {
        loop {
            if !self.early.is_empty() {
                let room = BURST_MAX - self.again.len();
                let (early, again) = (&mut self.early, &mut self.again);
                early.release(tables, &self.memory, room, |frame, meta| {
                    turn_to(again, tables, frame, meta, out);
                });
            }
            if self.again.is_empty() {
                return;
            }
            std::mem::swap(&mut self.batch, &mut self.again);
            self.route(tables, out);
        }
    }

    /// One trip: lookup, outbound translation, egress.
    fn route(&mut self, tables: &Tables, out: &mut Outputs<F, Meta>) {
        let mut lookup = std::mem::take(&mut self.lookup);
        self.run(&mut lookup, tables, out);
        if lookup.any_told {
            // Before anything is translated: it is the EIDs that are told.
            self.tell_all(out);
        }
        if lookup.any_service || tables.turns_back() {
            lookup.any_rules |= self.steer(tables, out);
        }
        if lookup.any_rules {
            self.run_counting(Step::Out, tables, out);
        }
        if lookup.any_mapping {
            self.run_counting(Step::Encap, tables, out);
        }
        let any_oversize = lookup.any_oversize;
        self.lookup = lookup;
        let mut egress = Egress::default();
        self.run(&mut egress, tables, out);
        if any_oversize {
            self.batch.consume(|frame, meta| {
                let next_hop = tables.next_hop(meta.next_hop);
                transmit_cut(next_hop, meta.is_oversize, frame, out);
            });
        } else if egress.ports.is_power_of_two() {
            let port = PortId::new(egress.ports.trailing_zeros() as usize); // `as`: below 32
            out.transmit_all(
                port.expect("it came from a port"),
                self.batch.drain_frames(),
            );
        } else {
            self.batch
                .consume(|frame, meta| out.transmit(tables.next_hop(meta.next_hop).port, frame));
        }
        if !self.local.is_empty() {
            self.receive(tables, out);
        }
    }

    /// Packets to service addresses, and translated ones on their way back; whether some leave by an uplink with rules.
    fn steer(&mut self, tables: &Tables, out: &mut Outputs<F, Meta>) -> bool {
        let (counters, tracer) = out.counters_and_tracer();
        let mut node = Steering {
            counters,
            memory: &self.memory,
            any_rules: false,
        };
        let (batch, diverted) = (&mut self.batch, &mut self.diverted);
        run_one(&mut node, tables, batch, counters, tracer, diverted);
        let any_rules = node.any_rules;
        self.settle(tables, out);
        any_rules
    }

    /// What is addressed to us.
    fn receive(&mut self, tables: &Tables, out: &mut Outputs<F, Meta>) {
        std::mem::swap(&mut self.batch, &mut self.local);
        self.run(&mut Local, tables, out);
        // `Local` never says Continue; a frame that stayed would otherwise be lost.
        self.batch
            .consume(|frame, _| out.discard(DropReason::LocalProtocol, frame));
    }

    /// Run a node over `batch` and settle what leaves the main way.
    #[inline]
    fn run<N>(&mut self, node: &mut N, tables: &Tables, out: &mut Outputs<F, Meta>)
    where
        N: Node<F, Tables = Tables, Meta = Meta, Next = Next>,
    {
        let (counters, tracer) = out.counters_and_tracer();
        let diverted = &mut self.diverted;
        let divert = |next, frame, meta| diverted.push((next, frame, meta));
        node::run(
            node,
            tables,
            &mut self.batch,
            &counters.nodes[N::INDEX],
            tracer,
            divert,
        );
        self.settle(tables, out);
    }

    /// The same for nodes that count more than frames.
    #[inline]
    fn run_counting(&mut self, step: Step, tables: &Tables, out: &mut Outputs<F, Meta>) {
        let (counters, tracer) = out.counters_and_tracer();
        let batch = &mut self.batch;
        let diverted = &mut self.diverted;
        match step {
            Step::Decap => run_one(
                &mut Decap(counters),
                tables,
                batch,
                counters,
                tracer,
                diverted,
            ),
            Step::In => run_one(
                &mut Inbound(counters),
                tables,
                batch,
                counters,
                tracer,
                diverted,
            ),
            Step::Out => run_one(
                &mut Outbound(counters),
                tables,
                batch,
                counters,
                tracer,
                diverted,
            ),
            Step::Encap => run_one(
                &mut Encap(counters),
                tables,
                batch,
                counters,
                tracer,
                diverted,
            ),
        }
        self.settle(tables, out);
    }
}

/// Send what the short way finished, none of which is to be cut.
#[inline(always)]
fn transmit<F: Frame>(
    express: &Express,
    tables: &Tables,
    finished: Finished,
    burst: &mut Burst<F>,
    out: &mut Outputs<F, Meta>,
) {
    if finished.ports().is_power_of_two() {
        out.transmit_burst(finished.port(), burst, finished.bytes);
    } else {
        for (index, frame) in burst.drain(..).enumerate() {
            out.transmit(tables.next_hop(express.leaf(index)).port, frame);
        }
    }
}

/// Run a node that has the worker's counters.
#[inline]
fn run_one<F: Frame, N>(
    node: &mut N,
    tables: &Tables,
    batch: &mut Batch<F, Meta>,
    counters: &WorkerCounters,
    tracer: &mut Tracer,
    diverted: &mut Vec<(Next, F, Meta)>,
) where
    N: Node<F, Tables = Tables, Meta = Meta, Next = Next>,
{
    let divert = |next, frame, meta| diverted.push((next, frame, meta));
    let counters = &counters.nodes[N::INDEX];
    node::run(node, tables, batch, counters, tracer, divert);
}

impl<F: Frame> Default for Edge<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Frame> Pipeline<F> for Edge<F> {
    type Tables = Tables;
    type Meta = Meta;

    fn process(
        &mut self,
        tables: &Tables,
        ingress: PortId,
        burst: &mut Burst<F>,
        out: &mut Outputs<F, Meta>,
    ) {
        let Some(port) = tables.port(ingress) else {
            for frame in burst.drain(..) {
                out.discard(DropReason::UnknownVlan, frame);
            }
            return;
        };
        if port.untagged.is_some()
            && !out.tracer.is_armed()
            && let Some(mut express) = self.express.take()
        {
            self.express(&mut express, tables, (ingress, port), burst, out);
            self.express = Some(express);
            return;
        }
        self.batch.fill(burst, port.start);
        if out.tracer.is_armed() {
            for meta in self.batch.parts().1 {
                meta.trace = out.tracer.begin();
            }
        }
        self.run(&mut Ingress { port }, tables, out);
        if tables.lisp.is_some() {
            self.run_counting(Step::Decap, tables, out);
        }
        if port.has_rules {
            self.run_counting(Step::In, tables, out);
        }
        self.forward(tables, out);
    }

    fn resume(&mut self, tables: &Tables, batch: &mut Batch<F, Meta>, out: &mut Outputs<F, Meta>) {
        batch.consume(|frame, meta| {
            let meta = Meta {
                is_missed: false,
                ..meta
            };
            if meta.entry == Entry::Unreachable {
                let Some(vrf) = tables.vrf_of(&meta) else {
                    out.discard(DropReason::LispUnknownInstance, frame);
                    return;
                };
                let meta = Meta {
                    vrf,
                    entry: Entry::Received,
                    ..meta
                };
                let error = IcmpError::AddressUnreachable;
                self.answer(
                    DropReason::NeighborUnresolved,
                    error,
                    frame,
                    meta,
                    tables,
                    out,
                );
            } else {
                turn_to(&mut self.batch, tables, frame, meta, out);
            }
        });
        self.forward(tables, out);
    }

    fn idle(&mut self, tables: &Tables, out: &mut Outputs<F, Meta>) -> usize {
        let waiting = self.early.len();
        if waiting > 0 {
            self.go_on(tables, out);
        }
        waiting - self.early.len()
    }

    fn finish(&mut self, out: &mut Outputs<F, Meta>) {
        for frame in self.early.drain() {
            out.discard(DropReason::SteerFragment, frame);
        }
    }

    fn recover(&mut self) {
        let fresh = Self::remembering(FlowMemory(Arc::clone(&self.memory)));
        *self = match self.is_by_nodes {
            true => fresh.by_nodes(),
            false => fresh,
        };
    }
}
