//! The part of the graph that turns packets round: into ICMP errors about themselves, and segments into resets, both within a
//! rate.

use dataplane::frame::Frame;
use dataplane::outputs::{Outputs, TokenBucket};
use dataplane::reason::DropReason;

use super::Edge;
use crate::icmp_error::{self, IcmpError};
use crate::meta::Meta;
use crate::reset;
use crate::tables::Tables;

impl<F: Frame> Edge<F> {
    /// Drop a packet and, where that is allowed and within the rate, answer it from its own buffer.
    pub(super) fn answer(
        &mut self,
        reason: DropReason,
        error: IcmpError,
        mut frame: F,
        mut meta: Meta,
        tables: &Tables,
        out: &mut Outputs<F, Meta>,
    ) {
        if !icmp_error::may_answer(tables, &frame, &meta) {
            out.discard(reason, frame);
            return;
        }
        self.follow_limits(tables);
        if !self.errors.take(out.now()) {
            out.counters().errors_limited.add(1);
            out.discard(reason, frame);
            return;
        }
        let Ok(is_finished) = icmp_error::turn(tables, error, &mut frame, &mut meta) else {
            out.discard(reason, frame);
            return;
        };
        // The packet is gone under its reason; what its buffer now holds is a packet of ours.
        out.counters().count_drop(reason, 1);
        out.counters().generated.add(1);
        if is_finished {
            out.transmit(tables.interface(meta.interface).port, frame);
        } else {
            self.again.push(frame, meta);
        }
    }

    /// Drop a segment and, where that is allowed and within the rate, reset its connection from its own buffer.
    pub(super) fn reset(
        &mut self,
        reason: DropReason,
        mut frame: F,
        mut meta: Meta,
        tables: &Tables,
        out: &mut Outputs<F, Meta>,
    ) {
        if !reset::may_answer(&frame, &meta) {
            out.discard(reason, frame);
            return;
        }
        self.follow_limits(tables);
        if !self.resets.take(out.now()) {
            out.counters().errors_limited.add(1);
            out.discard(reason, frame);
            return;
        }
        if reset::turn(tables, &mut frame, &mut meta).is_err() {
            out.discard(reason, frame);
            return;
        }
        out.counters().count_drop(reason, 1);
        out.counters().generated.add(1);
        self.again.push(frame, meta);
    }

    /// Errors and resets are made at the rate that the tables say.
    fn follow_limits(&mut self, tables: &Tables) {
        if self.limits != tables.icmp {
            self.limits = tables.icmp;
            let bucket = TokenBucket::new(self.limits.per_second, self.limits.burst);
            self.errors = bucket.clone();
            self.resets = bucket;
        }
    }
}
