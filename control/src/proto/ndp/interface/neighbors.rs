//! Neighbours: what a message, a packet or a deadline does to one, and what follows from it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use dataplane::wire::ethernet::Mac;

use super::{Interface, is_unicast};
use crate::proto::ndp::address;
use crate::proto::ndp::cache::{Class, Entry};
use crate::proto::ndp::nud::{self, Advertised, Policy, Solicit, State, Wait};
use crate::proto::ndp::report::{Counter, Event};
use crate::proto::ndp::shared::{Shared, TimerKind};
use crate::proto::ndp::wire::{self, Advertisement};
use crate::proto::ndp::{Output, Refused, RefusedReason};

/// DELAY_FIRST_PROBE_TIME (RFC 4861 10).
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// Longest rest between two attempts at a silent gateway.
const GATEWAY_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long a neighbour that once answered keeps its precedence after it fell silent.
const REMEMBER_FAILED: Duration = Duration::from_secs(600);

impl<P> Interface<P> {
    /// A packet needs this neighbour's link-layer address.
    pub(in crate::proto::ndp) fn resolve(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        target: IpAddr,
        packet: P,
    ) -> Result<(), Refused<P>> {
        let refused = |packet, reason| Err(Refused { packet, reason });
        if !self.up {
            return refused(packet, RefusedReason::InterfaceDown);
        }
        if self.statics.contains_key(&target) {
            shared.output(Output::Ready(packet));
            return Ok(());
        }
        let known = self
            .cache
            .get(target)
            .map(|entry| (entry.state, entry.gateway));
        match known {
            Some((
                State::Reachable(_) | State::Stale(_) | State::Delay(_) | State::Probe { .. },
                _,
            )) => {
                shared.output(Output::Ready(packet));
                self.drive(shared, now, target, nud::Event::Used);
                return Ok(());
            }
            Some((State::Incomplete { .. }, _) | (State::Failed, true)) => {}
            Some((State::Failed, false)) | None => {
                if let Err(reason) = self.admit(shared, now, target) {
                    return refused(packet, reason);
                }
            }
        }
        self.drive(shared, now, target, nud::Event::Used);
        self.enqueue(shared, target, packet)
    }

    /// Whether there is such a neighbour is to be found out, though no packet waits for it.
    pub(in crate::proto::ndp) fn ask(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        target: IpAddr,
    ) {
        let is_known = self
            .cache
            .get(target)
            .is_some_and(|entry| entry.state != State::Failed);
        let may_ask = self.up && !self.statics.contains_key(&target);
        if may_ask && (is_known || self.admit(shared, now, target).is_ok()) {
            self.drive(shared, now, target, nud::Event::Used);
        }
    }

    /// Make room and an entry for an address to be resolved, within the limits.
    fn admit(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        target: IpAddr,
    ) -> Result<(), RefusedReason> {
        if !is_unicast(target) || self.is_own(target) || !self.cache.is_on_link(target) {
            return Err(RefusedReason::NotOnLink);
        }
        let begun = self.cache.admit_resolution(now, target, &shared.settings);
        if let Err(reason) = begun {
            match reason {
                RefusedReason::TooManyIncomplete => shared.counters.add(Counter::IncompleteLimit),
                RefusedReason::RateLimited => shared.counters.add(Counter::RateLimited),
                RefusedReason::InterfaceDown
                | RefusedReason::NotOnLink
                | RefusedReason::QueueFull
                | RefusedReason::CacheFull => {}
            }
            return Err(reason);
        }
        self.make_room(shared, now, target, Class::Proven)?;
        if self.cache.get(target).is_none() {
            self.cache.insert(target, Entry::new(now, false));
        }
        Ok(())
    }

    /// Room for an entry that may not be there yet; `highest` is the dearest that may have to go for it.
    fn make_room(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        address: IpAddr,
        highest: Class,
    ) -> Result<(), RefusedReason> {
        if self.cache.get(address).is_some() {
            return Ok(());
        }
        match self.cache.room(highest, &shared.settings) {
            Ok(None) => Ok(()),
            Ok(Some(victim)) => {
                shared.counters.add(Counter::Evicted);
                self.forget(shared, victim);
                Ok(())
            }
            Err(reason) => {
                shared.counters.add(Counter::CacheFull);
                let event = Event::CacheFull {
                    interface: self.index,
                };
                self.tell_limited(shared, now, event);
                Err(reason)
            }
        }
    }

    /// Remove an entry with everything that hangs on it.
    pub(super) fn forget(&mut self, shared: &mut Shared<P>, address: IpAddr) {
        let key = (self.index, TimerKind::Neighbor(address));
        shared.timers.cancel(key);
        let Some(entry) = self.cache.remove(address) else {
            return;
        };
        if entry.state.mac().is_some() {
            shared.neighbors_changed();
        }
        if entry.state != State::Failed {
            self.silent(shared, address);
        }
        shared.fail(entry.queue);
    }

    /// RFC 4861 7.2.2: a small queue; "When a queue overflows, the new arrival SHOULD replace the oldest entry".
    fn enqueue(
        &mut self,
        shared: &mut Shared<P>,
        target: IpAddr,
        packet: P,
    ) -> Result<(), Refused<P>> {
        let limit = shared.settings.queue_packets;
        let all_full = shared.queued >= shared.settings.max_queued_packets;
        let displaced = self.cache.update(target, |entry| {
            let displaced = if all_full || entry.queue.len() >= limit {
                match entry.queue.pop_front() {
                    Some(oldest) => Some(oldest),
                    // Nothing of its own to give up: others' packets stay.
                    None => return Some(packet),
                }
            } else {
                None
            };
            entry.queue.push_back(packet);
            displaced
        });
        match displaced.expect("`resolve` made the entry, and only a deadline removes one") {
            None => {
                shared.queued += 1;
                Ok(())
            }
            Some(packet) => {
                shared.counters.add(Counter::QueueFull);
                Err(Refused {
                    packet,
                    reason: RefusedReason::QueueFull,
                })
            }
        }
    }

    /// Traffic goes to this neighbour.
    pub(in crate::proto::ndp) fn confirm_in_use(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        address: IpAddr,
    ) {
        if self.cache.mac(address).is_some() {
            self.drive(shared, now, address, nud::Event::Used);
        }
    }

    /// RFC 4861 7.2.5, RFC 4862 5.4.4, RFC 9131 6.1.1.
    pub(super) fn handle_advertisement(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        source_mac: Mac,
        advertisement: &Advertisement,
    ) {
        let target = IpAddr::V6(advertisement.target);
        if source_mac == self.config.mac || advertisement.mac == Some(self.config.mac) {
            // Ours, come back; an answer for a proxied prefix must not make us our own neighbour.
            shared.counters.add(Counter::Looped);
            return;
        }
        if self.is_own(target) {
            self.own_event(shared, now, target, address::Event::Claimed, source_mac);
            return;
        }
        if self.statics.contains_key(&target) {
            return;
        }
        if self.cache.get(target).is_none() {
            let welcome = advertisement.mac.is_some()
                && self.may_learn(target)
                && self.make_room(shared, now, target, Class::Unproven).is_ok();
            if !welcome {
                shared.counters.add(Counter::AdvertisementsUnknown);
                return;
            }
            self.cache.insert(target, Entry::new(now, false));
        }
        let event = nud::Event::Advertised(Advertised {
            mac: advertisement.mac,
            solicited: advertisement.flags.solicited,
            override_cached: advertisement.flags.override_cached,
            router: advertisement.flags.router,
        });
        self.drive(shared, now, target, event);
        // Without the override flag somebody may answer for it (RFC 4861 7.2.8), as another router does for a host that is elsewhere.
        if advertisement.flags.override_cached && self.cache.mac(target).is_some() {
            self.heard(shared, target);
        }
    }

    /// A solicitation told us its sender's link-layer address (RFC 4861 7.2.3).
    pub(super) fn learn(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        source: IpAddr,
        mac: Option<Mac>,
    ) {
        let Some(mac) = mac else {
            return;
        };
        if self.statics.contains_key(&source) {
            return;
        }
        if self.cache.get(source).is_none() {
            if !self.may_learn(source) {
                shared.counters.add(Counter::SourceNotOnLink);
                return;
            }
            if self
                .make_room(shared, now, source, Class::Unproven)
                .is_err()
            {
                return;
            }
            self.cache.insert(source, Entry::new(now, false));
        }
        self.drive(shared, now, source, nud::Event::Learned(mac));
        self.heard(shared, source);
    }

    /// A packet came from a watched neighbour's address, with this link-layer address.
    pub(in crate::proto::ndp) fn hear(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        address: IpAddr,
        mac: Mac,
    ) {
        let is_own = self.is_own(address) || mac == self.config.mac;
        if self.up && !is_own && !mac.is_multicast() && self.is_watched(address) {
            self.learn(shared, now, address, Some(mac));
        }
    }

    /// This neighbour is elsewhere.
    pub(in crate::proto::ndp) fn give_up(&mut self, shared: &mut Shared<P>, address: IpAddr) {
        if self.cache.get(address).is_some_and(|entry| !entry.gateway) {
            self.forget(shared, address);
        }
    }

    /// One event of one neighbour, and what follows from it at once.
    pub(super) fn drive(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        address: IpAddr,
        event: nud::Event,
    ) {
        let mut next = Some(event);
        while let Some(event) = next {
            next = self.drive_once(shared, now, address, event);
        }
    }

    fn drive_once(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        address: IpAddr,
        event: nud::Event,
    ) -> Option<nud::Event> {
        let entry = self.cache.get(address)?;
        let (before, gateway, was_router) = (entry.state, entry.gateway, entry.is_router);
        let policy = Policy {
            gateway,
            proven: entry.proven,
        };
        let step = nud::step(before, event, policy);
        let had_failed = before == State::Failed;
        if matches!(step.next, None | Some(State::Failed)) && !had_failed {
            shared.counters.add(Counter::ResolutionsFailed);
        }
        let Some(after) = step.next else {
            self.forget(shared, address);
            return None;
        };
        self.set_deadline(shared, now, address, step.wait);
        if let Some(solicit) = step.solicit {
            self.solicit(shared, address, solicit);
        }
        let queue = self.cache.update(address, |entry| {
            entry.state = after;
            if std::mem::discriminant(&before) != std::mem::discriminant(&after)
                || before.mac() != after.mac()
            {
                entry.since = now;
            }
            if let Some(router) = step.router {
                entry.is_router = router;
            }
            if let State::Reachable(_) = after {
                entry.proven = true;
            }
            if event == nud::Event::Used || matches!(after, State::Reachable(_)) {
                entry.used = now;
            }
            match after {
                State::Incomplete { .. } => Default::default(),
                _ => std::mem::take(&mut entry.queue),
            }
        })?;
        self.tell_change(shared, now, address, before, after);
        if gateway && was_router && step.router == Some(false) {
            let event = Event::GatewayNotRouter {
                interface: self.index,
                address,
            };
            self.tell_limited(shared, now, event);
        }
        let waited = !queue.is_empty();
        if after == State::Failed {
            if !had_failed {
                self.silent(shared, address);
            }
            shared.fail(queue);
            return None;
        }
        shared.release(queue);
        // 7.3.3: sending what waited, or being a next hop, is a use.
        let stale = matches!(after, State::Stale(_));
        (stale && (waited || gateway)).then_some(nud::Event::Used)
    }

    fn set_deadline(&mut self, shared: &mut Shared<P>, now: Instant, address: IpAddr, wait: Wait) {
        let duration = match wait {
            Wait::Keep => return,
            Wait::Retransmit => shared.settings.retrans_timer,
            Wait::Reachable => shared.jittered(shared.settings.reachable_time),
            Wait::Stale => shared.jittered(shared.settings.stale_time),
            Wait::Delay => DELAY_FIRST_PROBE,
            Wait::Forget => REMEMBER_FAILED,
            Wait::Backoff => {
                let first = shared.settings.retrans_timer;
                let update = self.cache.update(address, |entry| {
                    let backoff = entry.backoff.max(first).min(GATEWAY_BACKOFF_MAX);
                    entry.backoff = backoff * 2;
                    backoff
                });
                update.unwrap_or(first)
            }
        };
        self.schedule(shared, TimerKind::Neighbor(address), now + duration);
    }

    /// Tell of a new, changed or lost link-layer address.
    fn tell_change(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        address: IpAddr,
        before: State,
        after: State,
    ) {
        let interface = self.index;
        if before.mac() != after.mac() {
            shared.neighbors_changed();
        }
        if let (Some(from), Some(to)) = (before.mac(), after.mac())
            && from != to
        {
            let event = Event::NeighborMoved {
                interface,
                address,
                from,
                to,
            };
            self.tell_limited(shared, now, event);
        }
        let told = self.cache.update(address, |entry| {
            if !entry.gateway {
                return None;
            }
            if let Some(mac) = after.mac() {
                entry.backoff = Duration::ZERO;
                entry.told_unreachable = false;
                let resolved = Event::GatewayResolved {
                    interface,
                    address,
                    mac,
                };
                return before.mac().is_none().then_some(resolved);
            }
            let lost = before.mac().is_some();
            let given_up = matches!(before, State::Incomplete { .. }) && after == State::Failed;
            if entry.told_unreachable || !(lost || given_up) {
                return None;
            }
            entry.told_unreachable = true;
            Some(Event::GatewayUnreachable { interface, address })
        });
        if let Some(event) = told.flatten() {
            self.tell(shared, event);
        }
    }

    /// RFC 4861 7.2.2 and 7.3.3, RFC 1122 2.3.2.1.
    fn solicit(&mut self, shared: &mut Shared<P>, target: IpAddr, solicit: Solicit) {
        match target {
            IpAddr::V4(target) => self.request(shared, target, solicit),
            IpAddr::V6(target) => self.solicit_v6(shared, target, solicit),
        }
    }

    fn solicit_v6(&mut self, shared: &mut Shared<P>, target: Ipv6Addr, solicit: Solicit) {
        let Some(source) = self.solicitation_source() else {
            shared.counters.add(Counter::SolicitationsWithoutSource);
            return;
        };
        let (destination, mac) = match solicit {
            Solicit::Multicast => {
                let group = wire::solicited_node(target);
                (group, Mac::multicast_for(group))
            }
            Solicit::Unicast(mac) => (target, mac),
        };
        let own_mac = Some(self.config.mac);
        let packet = wire::solicitation(source, destination, target, own_mac, None);
        shared.transmit(self.index, mac, packet, Counter::SolicitationsSent);
    }

    /// Solicitations can be sent from now on: what was begun without a source begins now, after the other own addresses
    /// whose time has come, so that the best source is used.
    pub(super) fn source_became_valid(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        source: IpAddr,
    ) {
        let waiting: Vec<IpAddr> = self
            .cache
            .iter()
            .filter(|(address, _)| address.is_ipv4() == source.is_ipv4())
            .filter(|(_, entry)| match entry.state {
                State::Incomplete { .. } => true,
                State::Failed => entry.gateway,
                State::Reachable(_) | State::Stale(_) | State::Delay(_) | State::Probe { .. } => {
                    false
                }
            })
            .map(|(address, _)| address)
            .collect();
        for address in waiting {
            self.cache.update(address, |entry| {
                if let State::Incomplete { sent } = &mut entry.state {
                    *sent = 0;
                }
            });
            self.schedule(shared, TimerKind::Neighbor(address), now);
        }
    }

    /// The settings have changed: nobody may be over the limit who can be spared.
    pub(super) fn trim(&mut self, shared: &mut Shared<P>) {
        while self.cache.counted_len() > shared.settings.max_neighbors {
            let Ok(Some(victim)) = self.cache.room(Class::Proven, &shared.settings) else {
                break;
            };
            shared.counters.add(Counter::Evicted);
            self.forget(shared, victim);
        }
    }

    /// The link is down: nothing learned on it holds. Who has answered is remembered by name, not by address.
    pub(super) fn flush(&mut self, shared: &mut Shared<P>, now: Instant) {
        let all: Vec<(IpAddr, bool, bool)> = self
            .cache
            .iter()
            .map(|(address, entry)| (address, entry.gateway, entry.proven))
            .collect();
        for (address, gateway, proven) in all {
            if !gateway && !proven {
                self.forget(shared, address);
                continue;
            }
            let key = (self.index, TimerKind::Neighbor(address));
            shared.timers.cancel(key);
            let flushed = self.cache.update(address, |entry| {
                let had_mac = entry.state.mac().is_some();
                entry.state = State::Failed;
                entry.since = now;
                entry.backoff = Duration::ZERO;
                (had_mac, std::mem::take(&mut entry.queue))
            });
            if let Some((had_mac, queue)) = flushed {
                shared.fail(queue);
                if had_mac {
                    shared.neighbors_changed();
                    self.silent(shared, address);
                }
            }
            if !gateway {
                self.set_deadline(shared, now, address, Wait::Forget);
            }
        }
    }

    /// Remove entries the configuration no longer allows: own or static addresses, and those no longer on-link.
    pub(super) fn drop_impossible_neighbors(&mut self, shared: &mut Shared<P>) {
        let impossible: Vec<IpAddr> = self
            .cache
            .iter()
            .filter(|(address, entry)| {
                self.is_own(*address)
                    || self.statics.contains_key(address)
                    || !(entry.gateway || self.may_learn(*address))
            })
            .map(|(address, _)| address)
            .collect();
        for address in impossible {
            self.forget(shared, address);
        }
    }
}
