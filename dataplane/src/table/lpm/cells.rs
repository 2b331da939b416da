//! The two orderings of the table: how a node is published, and how a reader follows.

use super::atomics::{AtomicU32, order};

/// Let readers reach what was written before.
#[inline]
pub(super) fn publish(cell: &AtomicU32, word: u32) {
    cell.store(word, order::publish_node());
}

/// The word of a cell; what the writer wrote before it published the word is seen.
#[inline(always)]
pub(super) fn follow(cell: &AtomicU32) -> u32 {
    cell.load(order::follow_node())
}
