//! The machine: all interfaces behind the calls of the control thread. Rules are in [`super::interface`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::wire::ethernet::Mac;

use super::arp;
use super::interface::Interface;
use super::report::{Counters, Invalid};
use super::shared::Shared;
use super::wire;
use super::{
    AddressState, Handled, InterfaceConfig, InterfaceIndex, NeighborView, Output, Refused,
    RefusedReason, Settings,
};

/// Deadlines are never closer together than this, whatever the settings say: a zero would never let a call end.
const SHORTEST: Duration = Duration::from_millis(1);

/// Neighbour discovery on all interfaces. `P` is a packet that waits for its next hop; what it is does not matter here.
///
/// The same calls with the same seed give the same outputs.
pub struct Machine<P> {
    interfaces: BTreeMap<InterfaceIndex, Interface<P>>,
    shared: Shared<P>,
}

impl<P> Machine<P> {
    /// A machine without interfaces.
    #[must_use]
    pub fn new(settings: Settings, rng: fastrand::Rng) -> Self {
        Self {
            interfaces: BTreeMap::new(),
            shared: Shared::new(sane(settings), rng),
        }
    }

    /// Take other settings; what already runs keeps the deadlines it has.
    pub fn set_settings(&mut self, settings: Settings) {
        self.shared.settings = sane(settings);
        for interface in self.interfaces.values_mut() {
            interface.apply_settings(&mut self.shared);
        }
    }

    /// Add, change or (`None`) remove an interface. A new one is taken to be up until [`Machine::set_link`] says that
    /// it is not. Added addresses are probed and then announced; what stays is not disturbed; what waited for an
    /// interface or prefix that is gone comes back as [`Output::Failed`].
    pub fn set_interface(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        config: Option<InterfaceConfig>,
    ) {
        let shared = &mut self.shared;
        match (self.interfaces.get_mut(&interface), config) {
            (Some(known), Some(config)) => known.configure(shared, now, config),
            (None, Some(config)) => {
                let made = Interface::new(shared, now, interface, config);
                self.interfaces.insert(interface, made);
                shared.neighbors_changed();
            }
            (Some(_), None) => {
                if let Some(gone) = self.interfaces.remove(&interface) {
                    gone.close(shared);
                }
            }
            (None, None) => {}
        }
        self.handle_timeout(now);
    }

    /// The link went up or down. Down: learned neighbours are forgotten. Up: own addresses are announced and groups
    /// reported, gateways resolved.
    pub fn set_link(&mut self, now: Instant, interface: InterfaceIndex, up: bool) {
        if let Some(interface) = self.interfaces.get_mut(&interface) {
            interface.set_link(&mut self.shared, now, up);
        }
        self.handle_timeout(now);
    }

    /// The next hops of routes on an interface, all of them: they are resolved now and kept resolved, so that traffic
    /// does not wait. An interface that is not there yet has none.
    pub fn set_gateways(&mut self, now: Instant, interface: InterfaceIndex, gateways: Vec<IpAddr>) {
        if let Some(interface) = self.interfaces.get_mut(&interface) {
            interface.set_gateways(&mut self.shared, now, gateways);
        }
        self.handle_timeout(now);
    }

    /// A neighbour discovery message or MLD query arrived. `packet` starts at the IPv6 header.
    pub fn handle_input(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        source_mac: Mac,
        packet: &[u8],
    ) -> Handled {
        let known = self.interfaces.get_mut(&interface);
        let Some(interface) = known.filter(|interface| interface.is_up()) else {
            return self.discard(Invalid::NoInterface);
        };
        match wire::parse(packet) {
            Ok(message) => {
                interface.handle_message(&mut self.shared, now, source_mac, message);
                Handled::Consumed
            }
            Err(reason) => self.discard(reason),
        }
    }

    /// An ARP message arrived. `message` starts behind the Ethernet header.
    pub fn handle_arp(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        source_mac: Mac,
        message: &[u8],
    ) -> Handled {
        let known = self.interfaces.get_mut(&interface);
        let Some(interface) = known.filter(|interface| interface.is_up()) else {
            return self.discard(Invalid::NoInterface);
        };
        match arp::parse(message) {
            Ok(message) => {
                interface.handle_arp(&mut self.shared, now, source_mac, &message);
                Handled::Consumed
            }
            Err(reason) => self.discard(reason),
        }
    }

    fn discard(&mut self, reason: Invalid) -> Handled {
        self.shared.counters.add_invalid(reason);
        Handled::Invalid(reason)
    }

    /// A packet's next hop has no link-layer address in the tables: find it. The packet comes back once, as
    /// [`Output::Ready`], as [`Output::Failed`], or in a [`Refused`].
    ///
    /// # Errors
    /// A packet that cannot wait: this one, or an older one that this one has replaced in the queue.
    pub fn resolve(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        target: IpAddr,
        packet: P,
    ) -> Result<(), Refused<P>> {
        match self.interfaces.get_mut(&interface) {
            Some(interface) => interface.resolve(&mut self.shared, now, target, packet),
            None => Err(Refused {
                packet,
                reason: RefusedReason::InterfaceDown,
            }),
        }
    }

    /// Traffic goes to this neighbour: make sure that it is still there. Nothing happens if it is not known.
    pub fn confirm_in_use(&mut self, now: Instant, interface: InterfaceIndex, address: IpAddr) {
        if let Some(interface) = self.interfaces.get_mut(&interface) {
            interface.confirm_in_use(&mut self.shared, now, address);
        }
    }

    /// A packet came from this address, with this link-layer address: a watched neighbour is known from then on.
    pub fn hear(&mut self, now: Instant, interface: InterfaceIndex, address: IpAddr, mac: Mac) {
        if let Some(interface) = self.interfaces.get_mut(&interface) {
            interface.hear(&mut self.shared, now, address, mac);
        }
    }

    /// Find out whether an address is a neighbour's, within the limits of resolving. What comes of it is said of watched
    /// addresses.
    pub fn ask(&mut self, now: Instant, interface: InterfaceIndex, address: IpAddr) {
        if let Some(interface) = self.interfaces.get_mut(&interface) {
            interface.ask(&mut self.shared, now, address);
        }
    }

    /// It is known that a neighbour is not on this link any more.
    pub fn give_up(&mut self, interface: InterfaceIndex, address: IpAddr) {
        if let Some(interface) = self.interfaces.get_mut(&interface) {
            interface.give_up(&mut self.shared, address);
        }
    }

    /// Do everything whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((index, kind)) = self.shared.timers.pop_due(now) {
            if let Some(interface) = self.interfaces.get_mut(&index) {
                interface.handle_timer(&mut self.shared, now, kind);
            }
        }
    }

    /// What to do next, in order; `None` when there is nothing left to do.
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.shared.take_output()
    }

    /// When [`Machine::handle_timeout`] wants to be called; it may be in the past.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.shared.timers.next()
    }

    /// All neighbours, by interface; static ones first.
    pub fn neighbors(&self) -> impl Iterator<Item = NeighborView> + '_ {
        self.interfaces.values().flat_map(Interface::neighbors)
    }

    /// Where packets for a neighbour go, if that is known.
    #[must_use]
    pub fn usable(&self, interface: InterfaceIndex, address: IpAddr) -> Option<Mac> {
        self.interfaces.get(&interface)?.neighbor_mac(address)
    }

    /// How an own address stands; `None` if it is not ours there.
    #[must_use]
    pub fn address_state(
        &self,
        interface: InterfaceIndex,
        address: IpAddr,
    ) -> Option<AddressState> {
        self.interfaces.get(&interface)?.address_state(address)
    }

    /// All own addresses, by interface.
    pub fn addresses(&self) -> impl Iterator<Item = (InterfaceIndex, IpAddr, AddressState)> + '_ {
        self.interfaces.iter().flat_map(|(index, interface)| {
            let states = interface.address_states();
            states.map(|(address, state)| (*index, address, state))
        })
    }

    /// What was counted since the machine was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Packets that wait in all queues.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.shared.queued
    }
}

fn sane(settings: Settings) -> Settings {
    Settings {
        retrans_timer: settings.retrans_timer.max(SHORTEST),
        reachable_time: settings.reachable_time.max(SHORTEST * 2),
        stale_time: settings.stale_time.max(SHORTEST * 2),
        ..settings
    }
}

#[cfg(test)]
impl<P> Machine<P> {
    /// Everything kept twice agrees, and nothing is over its limit.
    pub(super) fn assert_consistent(&self) {
        let mut queued = 0;
        for interface in self.interfaces.values() {
            let cache = interface.cache();
            cache.assert_consistent();
            assert!(cache.counted_len() <= self.shared.settings.max_neighbors);
            assert!(cache.incomplete() <= self.shared.settings.max_incomplete);
            for (address, entry) in cache.iter() {
                assert!(
                    entry.queue.len() <= self.shared.settings.queue_packets,
                    "{address}"
                );
                queued += entry.queue.len();
            }
        }
        assert_eq!(queued, self.shared.queued);
        assert!(queued <= self.shared.settings.max_queued_packets);
    }

    pub(super) fn timers_len(&self) -> usize {
        self.shared.timers.len()
    }
}
