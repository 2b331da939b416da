//! What a prefix table said for the last burst of a port, for as long as it would say it again.

use dataplane::port::PortId;
use dataplane::table::lpm::{Range, Stamp};

use crate::tables::Fib;

/// Ports that are told apart; others ask once more when they take turns.
const PORTS: usize = 4;

/// Owned by one worker.
#[derive(Default)]
pub(super) struct Known {
    ports: [OfPort; PORTS],
}

/// Of the ports with one remainder.
#[derive(Clone, Copy, Default)]
struct OfPort {
    range: Option<(Stamp, Range)>,
    leaf: Option<(Stamp, [u8; 16], u32)>,
}

impl Known {
    /// [`View6::range`](dataplane::table::lpm::View6::range).
    #[inline(always)]
    pub(super) fn range(&mut self, port: PortId, fib: &Fib, address: &[u8; 16]) -> Option<Range> {
        let stamp = fib.v6.stamp();
        let prefix = u64::from_be_bytes(*address.first_chunk().expect("8 of 16 bytes"));
        let known = &mut self.ports[port.index() % PORTS].range;
        if let Some((of, range)) = known
            && *of == stamp
            && range.contains(prefix)
        {
            return Some(*range);
        }
        let range = fib.v6.range(address)?;
        *known = Some((stamp, range));
        Some(range)
    }

    /// [`View6::lookup`](dataplane::table::lpm::View6::lookup).
    #[inline(always)]
    pub(super) fn leaf(&mut self, port: PortId, fib: &Fib, address: &[u8; 16]) -> u32 {
        let stamp = fib.v6.stamp();
        let known = &mut self.ports[port.index() % PORTS].leaf;
        if let Some((of, key, leaf)) = known
            && (*of, &*key) == (stamp, address)
        {
            return *leaf;
        }
        let leaf = fib.v6.lookup(address);
        *known = Some((stamp, *address, leaf));
        leaf
    }
}
