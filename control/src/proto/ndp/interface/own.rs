//! Own addresses: probing, announcing, answering for them and for proxied prefixes.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv6::AdvertisementFlags;

use super::{Interface, arp, is_unicast};
use crate::proto::ndp::AddressState;
use crate::proto::ndp::address::{self, Action, Phase, Rules, Wait};
use crate::proto::ndp::report::{Counter, Event};
use crate::proto::ndp::shared::{Shared, TimerKind};
use crate::proto::ndp::wire::{self, Nonce, Solicitation};

/// Answers for proxied prefixes that may be waiting for their delay; beyond it they go at once.
const DELAYED_ANSWERS_MAX: usize = 256;

/// Nonces kept for each own address.
const NONCES_MAX: usize = 16;

/// An address of ours.
#[derive(Debug)]
pub(super) struct OwnAddress {
    phase: Phase,
    /// Of the last probes; how a looped one is known, even when it comes late (RFC 7527 4.1).
    nonces: VecDeque<Nonce>,
    /// When it was last defended; IPv4 only.
    pub(super) defended: Option<Instant>,
}

impl OwnAddress {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Waiting,
            nonces: VecDeque::new(),
            defended: None,
        }
    }

    pub(super) fn state(&self) -> AddressState {
        match self.phase {
            Phase::Waiting | Phase::Probing { .. } => AddressState::Tentative,
            Phase::Announcing { .. } | Phase::Assigned => AddressState::Preferred,
            Phase::Duplicate => AddressState::Duplicate,
        }
    }
}

/// An answer that waits (RFC 4861 7.2.7).
#[derive(Debug)]
pub(super) struct DelayedAnswer {
    target: Ipv6Addr,
    destination_mac: Mac,
    packet: Vec<u8>,
}

impl<P> Interface<P> {
    /// Whether this is an own address that may be used.
    pub(super) fn is_valid(&self, address: IpAddr) -> bool {
        self.addresses
            .get(&address)
            .is_some_and(|own| own.phase.is_valid())
    }

    /// Whether this is an own address or may become one. A duplicate is its other owner's, a neighbour like any.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.addresses
            .get(&address)
            .is_some_and(|own| own.phase != Phase::Duplicate)
    }

    /// The source of solicitations (RFC 4861 7.2.2: any address of the interface): the link-local one when it is ours.
    pub(super) fn solicitation_source(&self) -> Option<Ipv6Addr> {
        if self.is_valid(self.config.link_local.into()) {
            return Some(self.config.link_local);
        }
        self.valid_addresses().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        })
    }

    /// Own addresses that may be used, in order.
    pub(super) fn valid_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let valid = self
            .addresses
            .iter()
            .filter(|(_, own)| own.phase.is_valid());
        valid.map(|(address, _)| *address)
    }

    /// Announce what is ours, probe what is not yet or no longer; a duplicate gets another chance.
    pub(super) fn start_addresses(&mut self, shared: &mut Shared<P>, now: Instant) {
        self.all_own_events(shared, now, address::Event::Start);
        self.drop_impossible_neighbors(shared);
    }

    /// Something that concerns the link and not one stranger happens to all own addresses.
    pub(super) fn all_own_events(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        event: address::Event,
    ) {
        let own: Vec<IpAddr> = self.addresses.keys().copied().collect();
        for address in own {
            self.own_event(shared, now, address, event, self.config.mac);
        }
    }

    /// One step of an own address; `by` is who caused it.
    pub(super) fn own_event(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        address: IpAddr,
        event: address::Event,
        by: Mac,
    ) {
        let had_source = self
            .valid_addresses()
            .any(|valid| valid.is_ipv4() == address.is_ipv4());
        let rules = match address {
            IpAddr::V4(_) => Rules::ipv4(shared.settings.dad_transmits),
            IpAddr::V6(_) => Rules::ipv6(shared.settings.dad_transmits),
        };
        let Some(own) = self.addresses.get_mut(&address) else {
            return;
        };
        let (phase, action, wait) = address::step(own.phase, event, rules);
        own.phase = phase;
        let key = (self.index, TimerKind::Address(address));
        match wait {
            Wait::Keep => {}
            Wait::Cancel => shared.timers.cancel(key),
            Wait::Start => shared.timers.set(key, self.start_at.max(now)),
            Wait::Retransmit => {
                let pause = match address {
                    IpAddr::V4(_) => arp::pause_after(phase, shared),
                    IpAddr::V6(_) => shared.settings.retrans_timer,
                };
                shared.timers.set(key, now + pause);
            }
        }
        let interface = self.index;
        match action {
            Action::None => {}
            Action::Probe => self.send_probe(shared, address),
            Action::Assign => {
                self.tell(shared, Event::AddressValid { interface, address });
                self.announce(shared, address);
                self.report_with_address(shared, now, address);
                if !had_source {
                    self.source_became_valid(shared, now, address);
                }
            }
            Action::Announce => self.announce(shared, address),
            Action::GiveUp => {
                let event = Event::AddressDuplicate {
                    interface,
                    address,
                    by,
                };
                self.tell(shared, event);
                self.update_groups(shared, now);
            }
            Action::Complain => {
                let event = Event::AddressConflict {
                    interface,
                    address,
                    by,
                };
                self.tell_limited(shared, now, event);
                if let IpAddr::V4(address) = address {
                    self.defend(shared, now, address);
                }
            }
        }
    }

    fn send_probe(&mut self, shared: &mut Shared<P>, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.send_arp_probe(shared, address),
            IpAddr::V6(address) => self.send_probe_v6(shared, address),
        }
    }

    fn announce(&mut self, shared: &mut Shared<P>, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.send_arp_announcement(shared, address, Counter::ArpAnnouncementsSent);
            }
            IpAddr::V6(address) => self.announce_v6(shared, address),
        }
    }

    /// RFC 4862 5.4.2: source unspecified, target the tentative address; RFC 7527 4.1: a new nonce each.
    fn send_probe_v6(&mut self, shared: &mut Shared<P>, address: Ipv6Addr) {
        let nonce = shared.nonce();
        if let Some(own) = self.addresses.get_mut(&IpAddr::V6(address)) {
            own.nonces.push_back(nonce);
            if own.nonces.len() > NONCES_MAX {
                own.nonces.pop_front();
            }
        }
        let group = wire::solicited_node(address);
        let packet = wire::solicitation(Ipv6Addr::UNSPECIFIED, group, address, None, Some(nonce));
        let mac = Mac::multicast_for(group);
        shared.transmit(self.index, mac, packet, Counter::ProbesSent);
    }

    /// RFC 4861 7.2.6. Override: a box that was here before us may have had another link-layer address.
    fn announce_v6(&mut self, shared: &mut Shared<P>, address: Ipv6Addr) {
        let flags = AdvertisementFlags {
            router: true,
            solicited: false,
            override_cached: true,
        };
        let packet = wire::advertisement(address, wire::ALL_NODES, address, flags, self.config.mac);
        let mac = Mac::multicast_for(wire::ALL_NODES);
        shared.transmit(self.index, mac, packet, Counter::AnnouncementsSent);
    }

    /// RFC 3810 5.2.13: what was reported without an address has not been heard by routers.
    fn report_with_address(&mut self, shared: &mut Shared<P>, now: Instant, address: IpAddr) {
        if address == self.config.link_local && self.reported_without_address {
            self.reported_without_address = false;
            self.membership.report_all();
            self.schedule(shared, TimerKind::GroupChanges, now);
        }
    }

    /// RFC 4861 7.2.3 and 7.2.4, RFC 4862 5.4.3.
    pub(super) fn handle_solicitation(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        source_mac: Mac,
        solicitation: &Solicitation,
    ) {
        let Solicitation { source, target, .. } = *solicitation;
        let is_probe = source.is_unspecified();
        if !is_probe && (source_mac == self.config.mac || solicitation.mac == Some(self.config.mac))
        {
            shared.counters.add(Counter::Looped);
            return;
        }
        if self.is_own(source.into()) {
            // Somebody asks in our name.
            self.own_event(
                shared,
                now,
                source.into(),
                address::Event::Claimed,
                source_mac,
            );
            return;
        }
        let Some(own) = self.addresses.get(&IpAddr::V6(target)) else {
            self.handle_foreign_solicitation(shared, now, source_mac, solicitation);
            return;
        };
        let valid = own.phase.is_valid();
        if is_probe {
            let looped = solicitation
                .nonce
                .is_some_and(|nonce| own.nonces.contains(&nonce));
            if looped {
                shared.counters.add(Counter::Looped);
                self.own_event(
                    shared,
                    now,
                    target.into(),
                    address::Event::Looped,
                    source_mac,
                );
                let event = Event::ProbeLooped {
                    interface: self.index,
                    address: target.into(),
                };
                self.tell_limited(shared, now, event);
            } else if valid {
                self.answer_probe(shared, target);
            } else {
                self.own_event(
                    shared,
                    now,
                    target.into(),
                    address::Event::Claimed,
                    source_mac,
                );
            }
            return;
        }
        if !valid {
            shared.counters.add(Counter::SolicitationsForTentative);
            return;
        }
        self.learn(shared, now, source.into(), solicitation.mac);
        let flags = AdvertisementFlags {
            router: true,
            solicited: true,
            override_cached: true,
        };
        let packet = wire::advertisement(target, source, target, flags, self.config.mac);
        let destination_mac = self.mac_of_solicitor(source_mac, solicitation);
        shared.transmit(
            self.index,
            destination_mac,
            packet,
            Counter::AdvertisementsSent,
        );
    }

    /// 7.2.4: an unspecified source cannot be answered: to all nodes, without S.
    fn answer_probe(&mut self, shared: &mut Shared<P>, target: Ipv6Addr) {
        let flags = AdvertisementFlags {
            router: true,
            solicited: false,
            override_cached: true,
        };
        let packet = wire::advertisement(target, wire::ALL_NODES, target, flags, self.config.mac);
        let mac = Mac::multicast_for(wire::ALL_NODES);
        shared.transmit(self.index, mac, packet, Counter::AdvertisementsSent);
    }

    /// The cache knows best; a stranger is answered where the question came from.
    fn mac_of_solicitor(&self, source_mac: Mac, solicitation: &Solicitation) -> Mac {
        self.neighbor_mac(solicitation.source.into())
            .or(solicitation.mac)
            .unwrap_or(source_mac)
    }

    pub(super) fn is_proxied(&self, target: IpAddr) -> bool {
        let mut proxied = self.config.proxied.iter();
        proxied.any(|prefix| prefix.contains(&target))
    }

    /// Whether somebody on the link has this address.
    pub(super) fn is_real_neighbor(&self, target: IpAddr) -> bool {
        self.gateways.contains(&target) || self.neighbor_mac(target).is_some()
    }

    /// The target is not ours: answer if it is in a proxied prefix (RFC 4861 7.2.8), and not a real neighbour's.
    fn handle_foreign_solicitation(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        source_mac: Mac,
        solicitation: &Solicitation,
    ) {
        let Solicitation { source, target, .. } = *solicitation;
        if self.is_watched(source.into()) {
            // Whoever is asked: that it is here matters.
            self.learn(shared, now, source.into(), solicitation.mac);
        }
        if !self.is_proxied(target.into()) {
            shared.counters.add(Counter::SolicitationsForOthers);
            return;
        }
        if source.is_unspecified() {
            // An answer would forbid every real node of the prefix, the provider's router among them, its own address.
            shared.counters.add(Counter::ProxyProbesIgnored);
            return;
        }
        if self.is_real_neighbor(target.into()) || source == target {
            shared.counters.add(Counter::ProxyLeftToNeighbor);
            return;
        }
        let Some(own_source) = self.solicitation_source() else {
            shared.counters.add(Counter::SolicitationsForTentative);
            return;
        };
        self.learn(shared, now, source.into(), solicitation.mac);
        // 7.2.8: "MUST have the Override flag set to zero": whoever really has the address wins.
        let flags = AdvertisementFlags {
            router: true,
            solicited: true,
            override_cached: false,
        };
        let answer = DelayedAnswer {
            target,
            destination_mac: self.mac_of_solicitor(source_mac, solicitation),
            packet: wire::advertisement(own_source, source, target, flags, self.config.mac),
        };
        let number = self.answers_made;
        self.answers_made += 1;
        let delay = shared.random_up_to(shared.settings.proxy_delay);
        let wait = !delay.is_zero() && self.answers.len() < DELAYED_ANSWERS_MAX;
        self.answers.insert(number, answer);
        if wait {
            self.schedule(shared, TimerKind::Answer(number), now + delay);
        } else {
            self.send_delayed_answer(shared, number);
        }
    }

    pub(super) fn send_delayed_answer(&mut self, shared: &mut Shared<P>, number: u64) {
        let Some(answer) = self.answers.remove(&number) else {
            return;
        };
        // The real owner may have answered meanwhile, and then is known; the prefix may have been taken away.
        let target = IpAddr::V6(answer.target);
        if self.is_real_neighbor(target) || !self.is_proxied(target) {
            shared.counters.add(Counter::ProxyLeftToNeighbor);
            return;
        }
        shared.transmit(
            self.index,
            answer.destination_mac,
            answer.packet,
            Counter::ProxyAdvertisementsSent,
        );
    }

    pub(super) fn drop_answers(&mut self, shared: &mut Shared<P>) {
        for number in std::mem::take(&mut self.answers).into_keys() {
            let key = (self.index, TimerKind::Answer(number));
            shared.timers.cancel(key);
        }
    }

    /// Whether an address may enter the cache because of somebody's message: a neighbour's (see RFC 5942 4: hearing
    /// from an address does not make it on-link), or a real node of a proxied prefix, which must be known not to be
    /// answered for.
    pub(super) fn may_learn(&self, address: IpAddr) -> bool {
        is_unicast(address) && (self.cache.is_on_link(address) || self.is_proxied(address))
    }
}
