//! The part of the [`Rib`] that knows steering: service addresses as leaves, and the way to each server.
//!
//! Nothing here takes effect by itself: services, states and weights come into force with the tables that are built next,
//! all at once.

use std::net::{IpAddr, Ipv6Addr};

use super::{Rib, Target, VrfId};
use crate::steer::registry::{Key, Registry};
use crate::steer::view::Steer;
use crate::steer::{Mode, PoolState, Settings};

impl Rib {
    /// These services from now on, or none. Takes effect with the tables that are built next. Servers that stay keep
    /// their flows.
    pub fn set_steering(&mut self, settings: Option<Settings>) {
        match (&mut self.steering, settings) {
            (Some(registry), Some(settings)) if *registry.settings() != settings => {
                registry.configure(settings);
            }
            (Some(_), Some(_)) => {}
            (registry, settings) => {
                *registry = settings.map(|settings| Box::new(Registry::new(settings)));
            }
        }
    }

    /// Seconds since any moment, for what workers remember of flows. To be called every second, or more often.
    pub fn set_steering_time(&self, seconds: u32) {
        if let Some(registry) = &self.steering {
            registry.set_time(seconds);
        }
    }

    /// How the pool with this name is doing.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<PoolState> {
        self.steering.as_ref()?.pool(name)
    }

    /// The place among the counters of each server of a pool; `None`: there were more than have one.
    #[must_use]
    pub fn places(&self, name: &str) -> Vec<Option<usize>> {
        let registry = self.steering.as_ref();
        registry.map_or(Vec::new(), |registry| registry.places(name))
    }

    /// Service addresses, in the order of their numbers.
    pub(in crate::tables) fn services(&self) -> Vec<Key> {
        let registry = self.steering.as_ref();
        registry.map_or(Vec::new(), |registry| registry.addresses())
    }

    /// Source addresses of full NAT, with their numbers.
    pub(in crate::tables) fn sources(&self) -> Vec<(VrfId, Ipv6Addr, u16)> {
        let registry = self.steering.as_ref();
        registry.map_or(Vec::new(), |registry| registry.sources())
    }

    /// What one version of the tables looks at. `way_to`: from what leads to a server's address to the index of a next hop.
    pub(in crate::tables) fn steer(
        &self,
        mut way_to: impl FnMut(Option<Target>, Mode, Ipv6Addr) -> u32,
    ) -> Option<Steer> {
        let registry = self.steering.as_ref()?;
        Some(registry.view(|vrf, mode, server| {
            let address = IpAddr::V6(server).to_canonical();
            way_to(self.covering(vrf, address), mode, server)
        }))
    }
}
