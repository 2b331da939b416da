//! Gateways: the next hops of routes, resolved without waiting for packets and never given up.

use std::net::IpAddr;
use std::time::Instant;

use super::Interface;
use crate::proto::ndp::cache::Entry;
use crate::proto::ndp::nud::{self, State};
use crate::proto::ndp::shared::Shared;

impl<P> Interface<P> {
    /// Replace the next hops of routes.
    pub(in crate::proto::ndp) fn set_gateways(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        gateways: impl IntoIterator<Item = IpAddr>,
    ) {
        self.gateways = gateways.into_iter().collect();
        self.apply_gateways(shared, now);
    }

    /// Make the entries agree with the list of gateways.
    pub(super) fn apply_gateways(&mut self, shared: &mut Shared<P>, now: Instant) {
        let dismissed: Vec<IpAddr> = self
            .cache
            .iter()
            .filter(|(address, entry)| entry.gateway && !self.gateways.contains(address))
            .map(|(address, _)| address)
            .collect();
        for address in dismissed {
            let state = self.cache.update(address, |entry| {
                entry.gateway = false;
                entry.state
            });
            let full = self.cache.is_over(&shared.settings);
            if full || state == Some(State::Failed) || !self.may_learn(address) {
                self.forget(shared, address);
            }
        }
        for address in self.gateways.clone() {
            if self.is_own(address) || self.statics.contains_key(&address) {
                continue;
            }
            let known = self.cache.update(address, |entry| entry.gateway = true);
            if known.is_none() {
                self.cache.insert(address, Entry::new(now, true));
            }
        }
        if self.up {
            self.start_gateways(shared, now);
        }
    }

    /// Begin with every gateway that rests: unknown, silent, or stale.
    pub(super) fn start_gateways(&mut self, shared: &mut Shared<P>, now: Instant) {
        let resting: Vec<IpAddr> = self
            .cache
            .iter()
            .filter(|(_, entry)| {
                entry.gateway && matches!(entry.state, State::Failed | State::Stale(_))
            })
            .map(|(address, _)| address)
            .collect();
        for address in resting {
            self.drive(shared, now, address, nud::Event::Used);
        }
    }
}
