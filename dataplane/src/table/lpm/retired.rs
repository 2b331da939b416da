//! What readers may still be at: blocks and host slots that were taken out of the table, until all have passed.
//!
//! What is taken out is first only noted. [`Retired::seal`] then marks it with an epoch that begins later than that, so
//! who reports the epoch has let go; what was marked so is returned by [`Retired::pop`] once the oldest report says so.

use std::collections::VecDeque;

/// Told apart: what nobody marked yet, and what waits for its epoch.
pub(super) struct Retired<T> {
    unmarked: Vec<T>,
    /// Oldest first.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Retired<T> {
    pub fn new() -> Self {
        Self {
            unmarked: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Note what was taken out: no cell leads there any more.
    pub fn push(&mut self, item: T) {
        self.unmarked.push(item);
    }

    /// Whether something waits for a mark.
    pub fn has_unmarked(&self) -> bool {
        !self.unmarked.is_empty()
    }

    /// Mark all that is not marked: `epoch` begins now.
    pub fn seal(&mut self, epoch: u64) {
        self.waiting
            .extend(self.unmarked.drain(..).map(|item| (epoch, item)));
    }

    /// Something whose epoch every reader has reported, if `passed` is the oldest report.
    pub fn pop(&mut self, passed: u64) -> Option<T> {
        let (_, item) = self.waiting.pop_front_if(|(epoch, _)| *epoch <= passed)?;
        Some(item)
    }

    /// How much is waiting or unmarked.
    pub fn len(&self) -> usize {
        self.unmarked.len() + self.waiting.len()
    }
}
