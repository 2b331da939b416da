//! What differs for IPv4: what an ARP message does to the link, and what is asked, answered and announced by ARP.
//!
//! Whom to believe. RFC 826 takes every sender's pair it already has an entry for, and makes an entry for whoever asks
//! for us; both are kept, because a gratuitous message is how an address that moves says so. What nobody asked for is
//! only STALE, so it is polled before it is trusted for long; a pair of a stranger who does not ask for us makes no
//! entry; static entries are never overwritten.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use dataplane::wire::ethernet::Mac;
use ipnet::IpNet;

use super::Interface;
use crate::proto::ndp::address::{self, Phase};
use crate::proto::ndp::arp::{self, Message, Operation};
use crate::proto::ndp::nud::{self, Advertised, Solicit, State};
use crate::proto::ndp::report::Counter;
use crate::proto::ndp::shared::Shared;

/// PROBE_MIN and PROBE_MAX (RFC 5227 1.1).
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(2);
/// ANNOUNCE_WAIT: from the last probe to the first announcement.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// ANNOUNCE_INTERVAL.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// DEFEND_INTERVAL: an address is defended at most so often.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// How long an own address rests after what it did in this phase (RFC 5227 2.1.1, 2.3).
pub(super) fn pause_after<P>(phase: Phase, shared: &mut Shared<P>) -> Duration {
    match phase {
        Phase::Probing { left: 0, .. } => ANNOUNCE_WAIT,
        Phase::Probing { .. } => PROBE_MIN + shared.random_up_to(PROBE_MAX - PROBE_MIN),
        Phase::Waiting | Phase::Announcing { .. } | Phase::Assigned | Phase::Duplicate => {
            ANNOUNCE_INTERVAL
        }
    }
}

impl<P> Interface<P> {
    /// RFC 826 "Packet Reception", with the conflicts of RFC 5227 2.1.1 and 2.4 looked for first.
    pub(in crate::proto::ndp) fn handle_arp(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        source_mac: Mac,
        message: &Message,
    ) {
        if source_mac == self.config.mac || message.sender_mac == self.config.mac {
            shared.counters.add(Counter::Looped);
            return;
        }
        shared.counters.add(match message.operation {
            Operation::Request => Counter::ArpRequestsReceived,
            Operation::Reply => Counter::ArpRepliesReceived,
        });
        let target = IpAddr::V4(message.target);
        let Some(sender) = message.sender else {
            self.handle_arp_probe(shared, now, message);
            return;
        };
        if self.is_own(sender.into()) {
            let event = address::Event::Claimed;
            self.own_event(shared, now, sender.into(), event, message.sender_mac);
            return;
        }
        if message.operation == Operation::Request && self.is_valid(target) {
            self.learn(shared, now, sender.into(), Some(message.sender_mac));
            self.answer_arp(shared, message, sender);
            return;
        }
        let is_announced = message.target == sender;
        if message.operation == Operation::Request
            && !is_announced
            && self.is_proxied(target)
            && !self.is_real_neighbor(target)
        {
            // RFC 1027, RFC 925: it is at another site, and packets for it shall come here.
            self.learn(shared, now, sender.into(), Some(message.sender_mac));
            self.answer_arp(shared, message, sender);
            return;
        }
        if self.is_watched(sender.into()) {
            // Whoever is asked: that it is here matters.
            self.learn(shared, now, sender.into(), Some(message.sender_mac));
        }
        self.update_known(shared, now, message, sender);
    }

    /// Somebody wants to have an address (RFC 5227 2.1.1). One that is ours is answered for, which defends it.
    fn handle_arp_probe(&mut self, shared: &mut Shared<P>, now: Instant, message: &Message) {
        let target = IpAddr::V4(message.target);
        if self.is_valid(target) {
            self.answer_arp(shared, message, Ipv4Addr::UNSPECIFIED);
        } else if self.is_own(target) {
            // We probe it as well: nobody gets it.
            let event = address::Event::Claimed;
            self.own_event(shared, now, target, event, message.sender_mac);
        } else {
            shared.counters.add(Counter::ArpForOthers);
        }
    }

    /// A message that asks nothing of us tells where its sender is; that matters if we know the sender.
    fn update_known(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        message: &Message,
        sender: Ipv4Addr,
    ) {
        let is_tentative =
            self.is_own(message.target.into()) && !self.is_valid(message.target.into());
        let sender = IpAddr::V4(sender);
        let known = self.cache.get(sender).map(|entry| entry.state);
        let Some(state) = known.filter(|_| !self.statics.contains_key(&sender)) else {
            shared.counters.add(if is_tentative {
                Counter::SolicitationsForTentative
            } else {
                Counter::ArpForOthers
            });
            return;
        };
        let was_asked = matches!(state, State::Incomplete { .. } | State::Probe { .. });
        let answers_us =
            message.operation == Operation::Reply && self.is_valid(message.target.into());
        let event = nud::Event::Advertised(Advertised {
            mac: Some(message.sender_mac),
            solicited: was_asked && answers_us,
            override_cached: true,
            router: false,
        });
        self.drive(shared, now, sender, event);
    }

    /// RFC 826: swap the pairs, put our own address in, to whom it came from.
    fn answer_arp(&mut self, shared: &mut Shared<P>, request: &Message, asker: Ipv4Addr) {
        let mac = request.sender_mac;
        let reply = arp::reply(self.config.mac, request.target, mac, asker);
        shared.transmit_arp(self.index, mac, reply, Counter::ArpRepliesSent);
    }

    /// Ask for a neighbour: everybody, or only it (the unicast poll of RFC 1122 2.3.2.1 (2)).
    pub(super) fn request(&mut self, shared: &mut Shared<P>, target: Ipv4Addr, solicit: Solicit) {
        let Some(source) = self.arp_source(target) else {
            shared.counters.add(Counter::SolicitationsWithoutSource);
            return;
        };
        let mac = match solicit {
            Solicit::Multicast => Mac::BROADCAST,
            Solicit::Unicast(mac) => mac,
        };
        let message = arp::request(self.config.mac, source, target);
        shared.transmit_arp(self.index, mac, message, Counter::ArpRequestsSent);
    }

    /// The sender of requests: our address in the target's prefix when there is one, else any.
    fn arp_source(&self, target: Ipv4Addr) -> Option<Ipv4Addr> {
        let target = IpAddr::V4(target);
        let mut prefixes = self.config.addresses.iter();
        let nearest = prefixes.find(|own| own.contains(&target) && self.is_valid(own.addr()));
        let any = || self.valid_addresses().find(IpAddr::is_ipv4);
        match nearest.map(IpNet::addr).or_else(any)? {
            IpAddr::V4(source) => Some(source),
            IpAddr::V6(_) => None,
        }
    }

    /// RFC 5227 2.1.1: sender address zero, so that nobody's entry is disturbed.
    pub(super) fn send_arp_probe(&mut self, shared: &mut Shared<P>, address: Ipv4Addr) {
        let message = arp::request(self.config.mac, Ipv4Addr::UNSPECIFIED, address);
        shared.transmit_arp(self.index, Mac::BROADCAST, message, Counter::ArpProbesSent);
    }

    /// RFC 5227 2.3: a request for the address itself.
    pub(super) fn send_arp_announcement(
        &mut self,
        shared: &mut Shared<P>,
        address: Ipv4Addr,
        counter: Counter,
    ) {
        let message = arp::request(self.config.mac, address, address);
        shared.transmit_arp(self.index, Mac::BROADCAST, message, counter);
    }

    /// RFC 5227 2.4 (c): an address that others rely on, a router's, is kept, and announced once against each claim,
    /// but not again within DEFEND_INTERVAL: two that both defend must not do it for ever.
    pub(super) fn defend(&mut self, shared: &mut Shared<P>, now: Instant, address: Ipv4Addr) {
        let Some(own) = self.addresses.get_mut(&IpAddr::V4(address)) else {
            return;
        };
        let lately = own
            .defended
            .is_some_and(|at| now.saturating_duration_since(at) < DEFEND_INTERVAL);
        if !lately {
            own.defended = Some(now);
            self.send_arp_announcement(shared, address, Counter::ArpDefencesSent);
        }
    }
}
