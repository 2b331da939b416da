//! How many flows each server has: what workers remember, counted by the control thread a piece at a time.

use std::sync::Arc;

use super::memory::Memory;
use super::sessions::Sessions;
use super::spec::SERVERS_MAX;
use super::view::place_of;

/// What one worker remembers of flows: the worker's, and the control thread's to count.
#[derive(Clone)]
pub struct FlowMemory(pub(crate) Arc<Memory>);

/// A counting that has begun.
#[derive(Debug, Clone)]
pub struct Census {
    flows: u32,
    next: u32,
    begun: Vec<u32>,
    counts: Vec<u32>,
}

impl Census {
    /// Flows of the server at a place.
    #[must_use]
    pub fn of(&self, place: usize) -> u32 {
        self.counts.get(place).copied().unwrap_or(0)
    }
}

impl FlowMemory {
    /// Empty. Takes address space and no memory.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Memory::new(Sessions::of_workers(1), 0)))
    }

    /// Those of so many workers, in their order, who share the ports of full NAT among them.
    #[must_use]
    pub fn of_workers(workers: usize) -> Vec<Self> {
        let sessions = Sessions::of_workers(workers);
        let memory = |worker| Self(Arc::new(Memory::new(Arc::clone(&sessions), worker)));
        (0..workers).map(memory).collect()
    }

    /// Begin to count a memory of so many flows.
    #[must_use]
    pub fn begin(&self, flows: u32) -> Census {
        Census {
            flows,
            next: 0,
            begun: self.0.limits.begun(),
            counts: vec![0; SERVERS_MAX],
        }
    }

    /// Count so many lines of eight flows more; whether that was the last of them. `seconds` as given to
    /// [`Rib::set_steering_time`](crate::tables::Rib::set_steering_time).
    pub fn count(&self, census: &mut Census, lines: u32, seconds: u32) -> bool {
        let now = seconds as u16; // `as`: it wraps
        let counts = &mut census.counts;
        let end = self
            .0
            .for_each(census.next, lines, census.flows, now, |server| {
                if let Some(count) = counts.get_mut(place_of(server)) {
                    *count += 1;
                }
            });
        census.next = end.unwrap_or(census.next);
        end.is_none()
    }

    /// The limited service with this number may have `more` flows than there were when the counting began.
    pub fn allow(&self, census: &Census, number: usize, more: u32) {
        let begun = census.begun.get(number).copied().unwrap_or(0);
        self.0.limits.allow(number, begun, more);
    }
}

impl Default for FlowMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for FlowMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FlowMemory").finish_non_exhaustive()
    }
}
