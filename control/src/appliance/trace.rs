//! One trace at a time: arms the workers' tracers, gathers what they recorded until enough packets were seen, and keeps
//! it for whoever asked.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fmt::Write as _;

use dataplane::trace::Record;
use dataplane::worker::WorkerHandle;
use pipelines::Meta;

use super::super::admin::view;
use crate::summary;

/// Steps kept for a client that does not come for them.
const STEPS_MAX: usize = 20_000;

/// The trace that runs, or the last one.
#[derive(Default)]
pub(super) struct TraceSession {
    wanted: u32,
    /// Packets seen, as (worker, id) in it, in the order they were seen first: its position is its number.
    seen: Vec<(usize, u32)>,
    known: BTreeSet<(usize, u32)>,
    steps: VecDeque<view::Step>,
    /// Steps that found no room here.
    lost: u64,
    /// What the workers had lost when the trace began, and since.
    lost_before: u64,
    lost_in_rings: u64,
    is_armed: bool,
}

impl TraceSession {
    /// Begin a trace of the next `packets` packets, of all workers together.
    pub(super) fn arm<F>(&mut self, workers: &mut [WorkerHandle<F, Meta>], packets: u32) {
        let mut lost_before = 0;
        for worker in workers {
            worker.trace.drain();
            lost_before += worker.trace.lost();
            worker.trace.arm(packets);
        }
        *self = Self {
            wanted: packets,
            lost_before,
            is_armed: true,
            ..Self::default()
        };
    }

    /// Whether records are still expected.
    pub(super) fn is_running(&self) -> bool {
        self.is_armed
    }

    /// Gather what the workers recorded since the last time.
    pub(super) fn collect<F>(&mut self, workers: &mut [WorkerHandle<F, Meta>]) {
        if self.wanted == 0 {
            return;
        }
        let mut lost = 0;
        for worker in workers.iter_mut() {
            for record in worker.trace.drain() {
                self.take_record(worker.index, &record);
            }
            lost += worker.trace.lost();
        }
        self.lost_in_rings = lost.saturating_sub(self.lost_before);
        if self.is_armed && self.is_complete() {
            self.is_armed = false;
            for worker in workers {
                worker.trace.arm(0);
            }
        }
    }

    fn is_complete(&self) -> bool {
        u32::try_from(self.seen.len()).is_ok_and(|seen| seen >= self.wanted)
    }

    fn take_record(&mut self, worker: usize, record: &Record) {
        let key = (worker, record.id);
        if !self.known.contains(&key) {
            // Each worker was armed for all of them; what is over was not asked for.
            if self.is_complete() {
                return;
            }
            self.known.insert(key);
            self.seen.push(key);
        }
        if self.steps.len() >= STEPS_MAX {
            self.lost += 1;
            return;
        }
        let position = self.seen.iter().position(|seen| *seen == key);
        let number = position.expect("just inserted, or known") + 1;
        let kept = record
            .bytes
            .get(..usize::from(record.len))
            .unwrap_or(&record.bytes);
        let bytes = kept.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.steps.push_back(view::Step {
            packet: u32::try_from(number).unwrap_or(u32::MAX),
            worker,
            node: record.node.to_owned(),
            verdict: record.verdict.to_string(),
            length: record.len,
            summary: summary::of_frame(kept, record.len),
            bytes,
        });
    }

    /// What was gathered since the last question.
    pub(super) fn take(&mut self) -> view::Trace {
        view::Trace {
            // A packet's steps come from one worker, in order; packets of several workers are put one after the other.
            steps: {
                let mut steps: Vec<_> = std::mem::take(&mut self.steps).into();
                steps.sort_by_key(|step| step.packet);
                steps
            },
            wanted: self.wanted,
            seen: u32::try_from(self.seen.len()).unwrap_or(u32::MAX),
            lost: self.lost + self.lost_in_rings,
        }
    }
}
