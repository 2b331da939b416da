//! A worker that panics, and goes on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::{Pipeline, Worker};
use crate::counters::Snapshot;
use crate::frame::Frame;
use crate::outputs::TokenBucket;
use crate::reason::DropReason;

/// So many in a row, without a whole round between, are too many.
const IN_A_ROW: u32 = 10;
/// So many at once, and then so many a second: each is written about.
const AT_ONCE: u32 = 100;
const PER_SECOND: u32 = 10;
/// Between two looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(20);

impl<F: Frame, P: Pipeline<F>> Worker<F, P> {
    /// Poll until told to stop, whatever panics meanwhile.
    ///
    /// # Panics
    /// As the last one of too many did.
    pub(super) fn poll_through_setbacks(&mut self, stop: &AtomicBool) {
        let mut rate = TokenBucket::new(PER_SECOND, AT_ONCE);
        let (mut in_a_row, mut rounds) = (0, self.rounds());
        loop {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.poll(stop))) else {
                return;
            };
            let before = std::mem::replace(&mut rounds, self.rounds());
            in_a_row = if rounds == before { in_a_row + 1 } else { 1 };
            if in_a_row == IN_A_ROW {
                resume_unwind(panic);
            }
            self.recover(&*panic);
            while !rate.take(Instant::now()) && !stop.load(Relaxed) {
                self.reader.while_offline(|| thread::sleep(PAUSE));
            }
        }
    }

    /// Whole rounds so far.
    fn rounds(&self) -> u64 {
        self.out.counters().polls.read()
    }

    /// Let go of what was in work, and count it.
    fn recover(&mut self, panic: &(dyn Any + Send)) {
        self.pipeline.recover();
        self.burst.clear();
        self.arrived.iter_mut().for_each(|burst| burst.clear());
        self.resumed.consume(|_, _| {});
        self.out.flush();
        // Whatever came in and went nowhere: nothing waits anywhere any more.
        let counters = self.out.counters();
        let own = Snapshot::of(counters);
        let (came, went) = (
            own.packets_in() + own.spread_in,
            own.packets_out() + own.spread_out,
        );
        counters.count_drop(DropReason::WorkerPanic, came.saturating_sub(went));
        self.status.set_back(text_of(panic));
    }
}

/// What a panic said.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panicked without a message").to_owned()
}
