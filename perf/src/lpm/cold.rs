//! A burst after a long pause: nothing that it needs is in a cache.

use std::hint::black_box;

use super::contender::Contender;
use crate::record::median;
use crate::tsc;

/// Three times the greatest last-level cache a tenant of the usual machines sees, and more pages than any TLB holds.
const EVICTING_BYTES: usize = 96 << 20;
const LINE_BYTES: usize = 64;

/// Memory whose reading drives everything else out of the caches.
pub struct Eviction {
    memory: Vec<u8>,
}

impl Eviction {
    /// Take the memory.
    #[must_use]
    pub fn new() -> Self {
        // Not zeros: pages that were never written may all be one page.
        Self {
            memory: vec![1; EVICTING_BYTES],
        }
    }

    /// The median nanoseconds of one burst of `bursts`, each after everything was driven out.
    pub fn time<K>(
        &mut self,
        contender: &dyn Contender<K>,
        bursts: &[&[K]],
        tsc_hertz: f64,
    ) -> f64 {
        contender.prepare();
        let nanoseconds: Vec<f64> = bursts
            .iter()
            .map(|burst| {
                self.evict();
                let start = tsc::now();
                contender.run(burst);
                // `as`: clocks of a few microseconds.
                (tsc::now() - start) as f64 * 1e9 / tsc_hertz
            })
            .collect();
        median(&nanoseconds)
    }

    fn evict(&mut self) {
        for line in self.memory.chunks_mut(LINE_BYTES) {
            line[0] = line[0].wrapping_add(1);
        }
        black_box(&mut self.memory);
    }
}

impl Default for Eviction {
    fn default() -> Self {
        Self::new()
    }
}
