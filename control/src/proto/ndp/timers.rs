//! Deadlines by key, with the earliest at hand: thousands of neighbours each have a timer, and asking for the next
//! deadline must not look at them all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// At most one deadline a key. Setting and cancelling cost O(log n), the earliest O(log n) at worst.
#[derive(Debug)]
pub(super) struct Timers<K> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord> Timers<K> {
    pub(super) fn new() -> Self {
        Self {
            by_key: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }

    /// Replace the key's deadline.
    pub(super) fn set(&mut self, key: K, at: Instant) {
        if let Some(old) = self.by_key.insert(key, at) {
            self.by_time.remove(&(old, key));
        }
        self.by_time.insert((at, key));
    }

    /// Take the deadline away, if there is one.
    pub(super) fn cancel(&mut self, key: K) {
        if let Some(old) = self.by_key.remove(&key) {
            self.by_time.remove(&(old, key));
        }
    }

    /// Take away the deadlines of all these keys; looks at every key.
    pub(super) fn cancel_all(&mut self, which: impl Fn(&K) -> bool) {
        self.by_key.retain(|key, _| !which(key));
        self.by_time.retain(|(_, key)| !which(key));
    }

    /// The key's deadline.
    pub(super) fn deadline(&self, key: K) -> Option<Instant> {
        self.by_key.get(&key).copied()
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Remove and return the earliest key whose deadline has come; equal deadlines in the order of their keys.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_key.remove(&key);
        Some(key)
    }

    /// How many deadlines are set.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.by_key.len(), self.by_time.len());
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn due_keys_come_out_once_in_order_of_time_then_key() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::new();
        timers.set('b', after(2));
        timers.set('a', after(2));
        timers.set('c', after(1));
        timers.set('d', after(9));
        timers.set('e', after(1));
        timers.cancel('e');
        // Replaced, not added.
        timers.set('c', after(3));
        assert_eq!(timers.next(), Some(after(2)));
        assert_eq!(timers.deadline('c'), Some(after(3)));
        assert_eq!(timers.pop_due(after(1)), None);
        let due: Vec<char> = std::iter::from_fn(|| timers.pop_due(after(3))).collect();
        assert_eq!(due, ['a', 'b', 'c']);
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.next(), Some(after(9)));
    }
}
