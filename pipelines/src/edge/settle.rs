//! Where frames go that leave the main way, and what is made of those that are too large.

use dataplane::batch::Batch;
use dataplane::frame::Frame;
use dataplane::outputs::Outputs;
use dataplane::reason::{DropReason, PuntReason};

use super::{Edge, HAIRPIN};
use crate::egress;
use crate::fib::NextHop;
use crate::fragment;
use crate::lisp;
use crate::meta::{Meta, Next};
use crate::npt66::Direction;
use crate::npt66::node::step;
use crate::tables::Tables;

/// Bytes of a packet by which the control thread is told of it: link header with tags, IP header, ports.
const TOLD_BYTES: usize = 128;

impl<F: Frame> Edge<F> {
    /// Give every diverted frame its place.
    #[inline]
    pub(super) fn settle(&mut self, tables: &Tables, out: &mut Outputs<F, Meta>) {
        if self.diverted.is_empty() {
            return;
        }
        let mut diverted = std::mem::take(&mut self.diverted);
        for (next, frame, meta) in diverted.drain(..) {
            self.settle_one(next, frame, meta, tables, out);
        }
        self.diverted = diverted;
    }

    #[cold]
    pub(super) fn settle_one(
        &mut self,
        next: Next,
        frame: F,
        meta: Meta,
        tables: &Tables,
        out: &mut Outputs<F, Meta>,
    ) {
        match next {
            Next::Drop(reason) => out.discard(reason, frame),
            Next::Error(reason, error) => self.answer(reason, error, frame, meta, tables, out),
            Next::Reset(reason) => self.reset(reason, frame, meta, tables, out),
            Next::Punt(reason) => {
                let meta = Meta {
                    is_returned: false,
                    ..meta
                };
                out.punt(reason, frame, meta);
            }
            Next::Local => self.local.push(frame, meta),
            Next::Hairpin => self.hairpin(frame, meta, tables, out),
            Next::Again => self.again.push(frame, meta),
            Next::Wait => {
                if let Some((frame, meta)) = self.early.hold(tables, frame, meta) {
                    turn_to(&mut self.again, tables, frame, meta, out);
                }
            }
            Next::HandOver(worker) => {
                let port = tables.interface(meta.interface).port;
                out.spread(usize::from(worker), port, frame);
            }
            Next::Cut(room) => self.cut(room, frame, meta, tables, out),
            Next::Continue => debug_assert!(false, "a frame that continues stays in the batch"),
        }
    }

    /// From inside to an outside prefix of the site: out by the rule for the source, in by the rule for the
    /// destination, and once more through the lookup (RFC 6296 4.3).
    fn hairpin(
        &mut self,
        mut frame: F,
        mut meta: Meta,
        tables: &Tables,
        out: &mut Outputs<F, Meta>,
    ) {
        if meta.hairpinned {
            out.discard(DropReason::TranslationLoop, frame);
            return;
        }
        meta.hairpinned = true;
        let counters = out.counters();
        counters.nodes[HAIRPIN].calls.add(1);
        counters.nodes[HAIRPIN].frames.add(1);
        let set = tables.next_hop(meta.next_hop).rule_set;
        let turned = [Direction::Out, Direction::In]
            .into_iter()
            .try_for_each(|way| {
                step(tables, way, set, &mut frame, &mut meta, counters).map(|_| ())
            });
        match turned {
            Ok(()) => self.again.push(frame, meta),
            Err(next) => self.settle_one(next, frame, meta, tables, out),
        }
    }

    /// Cut a packet to a mapping into pieces that fit, and encapsulate each: the receiver's tunnel router has nothing to put
    /// together (RFC 9300 7.1).
    #[cold]
    fn cut(
        &mut self,
        room: u16,
        frame: F,
        meta: Meta,
        tables: &Tables,
        out: &mut Outputs<F, Meta>,
    ) {
        let Some(lisp) = &tables.lisp else {
            out.discard(DropReason::LispNoLocator, frame);
            return;
        };
        if meta.went_on() {
            tell(&frame, meta, out);
        }
        let pieces = match fragment::split(frame, meta.l3_offset(), usize::from(room)) {
            Ok(pieces) => pieces,
            Err((reason, frame)) => {
                out.discard(reason.drop_reason(), frame);
                return;
            }
        };
        // The first piece is the packet that came in.
        let made = pieces.len().saturating_sub(1);
        out.counters().generated.add(made as u64); // `as`: at most PIECES_MAX
        for mut piece in pieces {
            let mut meta = meta;
            let next = lisp::node::encapsulate(tables, lisp, &mut piece, &mut meta, out.counters());
            let next_hop = tables.next_hop(meta.next_hop);
            match next {
                Next::Continue => match egress::rewrite(next_hop, &mut piece, &mut meta) {
                    Ok(()) => out.transmit(next_hop.port, piece),
                    Err(next) => self.settle_one(next, piece, meta, tables, out),
                },
                next => self.settle_one(next, piece, meta, tables, out),
            }
        }
    }

    /// Tell the control thread of packets that go on without a mapping, or from a host it does not know: by their first
    /// bytes.
    #[cold]
    pub(super) fn tell_all(&mut self, out: &mut Outputs<F, Meta>) {
        let (frames, meta) = self.batch.parts();
        for (frame, meta) in frames.iter().zip(meta).filter(|(_, meta)| meta.went_on()) {
            tell(frame, *meta, out);
        }
    }
}

/// Put a packet in a batch that met other tables before.
pub(super) fn turn_to<F: Frame>(
    batch: &mut Batch<F, Meta>,
    tables: &Tables,
    frame: F,
    meta: Meta,
    out: &mut Outputs<F, Meta>,
) {
    match tables.vrf_of(&meta) {
        Some(vrf) => batch.push(frame, Meta { vrf, ..meta }),
        None => out.discard(DropReason::LispUnknownInstance, frame),
    }
}

/// Tell the control thread of a packet that goes on.
fn tell<F: Frame>(frame: &F, meta: Meta, out: &mut Outputs<F, Meta>) {
    let head = frame.bytes();
    let head = head.get(..head.len().min(TOLD_BYTES)).unwrap_or(&[]);
    let reason = match meta.is_missed {
        true => PuntReason::MapCacheMiss,
        false => PuntReason::DynamicEid,
    };
    // Without a buffer the next packet tells.
    if let Some(mut note) = frame.another(head.len()) {
        note.bytes_mut().copy_from_slice(head);
        out.counters().generated.add(1);
        out.punt(reason, note, meta);
    }
}

/// Transmit a finished frame, one that is too large in as many pieces as its next hop's MTU asks for (RFC 1812 5.2.6).
/// Here, after everything else, so that the packets of a flow stay in order.
#[cold]
pub(super) fn transmit_cut<F: Frame>(
    next_hop: &NextHop,
    is_oversize: bool,
    frame: F,
    out: &mut Outputs<F, Meta>,
) {
    if !is_oversize {
        out.transmit(next_hop.port, frame);
        return;
    }
    let l3 = usize::from(next_hop.link_len);
    match fragment::split(frame, l3, usize::from(next_hop.mtu)) {
        Ok(pieces) => {
            // The first piece is the packet that came in.
            let made = pieces.len().saturating_sub(1);
            out.counters().generated.add(made as u64); // `as`: at most PIECES_MAX
            for piece in pieces {
                out.transmit(next_hop.port, piece);
            }
        }
        Err((reason, frame)) => out.discard(reason.drop_reason(), frame),
    }
}
