//! Routers that mappings lead to: the way to each through the underlay, whether it may be used, and what that changes in
//! the sets that have it.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Release;

use super::{MapCache, Rloc};
use crate::lisp::table::{NO_MTU, State};
use crate::lisp::template;

impl MapCache {
    /// Routers whose way through the underlay is not known yet.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = IpAddr> {
        let unknown = self
            .rlocs
            .iter()
            .filter(|(_, rloc)| rloc.next_hop.is_none());
        unknown.map(|(address, _)| *address)
    }

    /// All routers.
    pub(crate) fn rlocs(&self) -> impl Iterator<Item = IpAddr> {
        self.rlocs.keys().copied()
    }

    /// The way to a router: its next hop's number, 0 when there is none. Workers use it at once. The number it had
    /// before is returned.
    pub(crate) fn stack(&mut self, address: IpAddr, next_hop: u32) -> Option<u32> {
        let rloc = self.rlocs.get_mut(&address)?;
        let before = rloc.next_hop.replace(next_hop);
        self.refresh(address);
        before
    }

    /// The number of a router's next hop.
    pub(crate) fn next_hop_of(&self, address: IpAddr) -> Option<u32> {
        self.rlocs.get(&address)?.next_hop
    }

    /// Take a router out of use, or back.
    pub(crate) fn set_up(&mut self, address: IpAddr, up: bool) {
        self.rlocs.entry(address).or_default().is_down = !up;
        self.refresh(address);
    }

    /// What was learned of the path to a router; `None`: nothing any more (F-06).
    pub(crate) fn set_path_mtu(&mut self, address: IpAddr, mtu: Option<u16>) {
        if let Some(rloc) = self.rlocs.get_mut(&address) {
            rloc.path_mtu = mtu;
            self.refresh(address);
        }
    }

    /// Write what is known of a router to its locators, and to the sets that have them.
    pub(super) fn refresh(&mut self, address: IpAddr) {
        let Some(rloc) = self.rlocs.get(&address) else {
            return;
        };
        let write_states = || {
            for number in &rloc.locators {
                self.write_state(*number, rloc, address);
            }
        };
        // Nobody shall be led to a router that has lost its way, nor before it has one.
        let is_usable = rloc.is_usable(address);
        if is_usable {
            write_states();
        }
        let sets = rloc
            .locators
            .iter()
            .filter_map(|number| self.locators.get(number));
        for set in sets.flat_map(|locator| &locator.sets) {
            if let Some(set_info) = self.sets.get(set) {
                self.write_buckets(*set, set_info);
            }
        }
        if !is_usable {
            write_states();
        }
        self.shared.count_change();
    }

    pub(super) fn write_state(&self, number: u32, rloc: &Rloc, address: IpAddr) {
        let state = State {
            next_hop: rloc.next_hop.unwrap_or(0),
            path_mtu: rloc.path_mtu.unwrap_or(NO_MTU),
            is_v4: address.is_ipv4(),
        };
        self.shared.locators.at(number).0[0].store(state.word(), Release);
    }
}

impl Rloc {
    /// Whether packets may go there: nobody took it out of use, the underlay leads there, and the path carries what every
    /// IPv6 host may send (F-08).
    pub(super) fn is_usable(&self, address: IpAddr) -> bool {
        let smallest = 1280 + template::overhead(address.is_ipv4()); // ipv6::MIN_MTU
        !self.is_down
            && self.next_hop.is_some_and(|number| number != 0)
            && self.path_mtu.is_none_or(|mtu| mtu >= smallest)
    }
}
