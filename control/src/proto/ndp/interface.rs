//! One link: its configuration, its own addresses, its neighbours, its groups, and what each call does to them.
//!
//! Neighbours are in [`neighbors`] and [`gateways`], own addresses and answers in [`own`], what ARP says and asks in
//! [`arp`]; here are configuration, link state and
//! dispatch.

mod arp;
mod gateways;
mod neighbors;
mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use dataplane::wire::ethernet::Mac;
use ipnet::{IpNet, Ipv6Net};

use super::address;
use super::bucket::TokenBucket;
use super::cache::Cache;
use super::mld::{self, Membership};
use super::nud;
use super::report::{Counter, Event};
use super::shared::{Shared, TimerKind};
use super::wire::{self, Message};
use super::{AddressState, InterfaceConfig, InterfaceIndex, NeighborState, NeighborView, Output};
use own::{DelayedAnswer, OwnAddress};

/// Events a second that strangers may cause, and at once.
const EVENTS_PER_SECOND: u32 = 5;
const EVENTS_BURST: u32 = 20;

pub(super) struct Interface<P> {
    index: InterfaceIndex,
    config: InterfaceConfig,
    up: bool,
    /// Nothing is sent before (RFC 4862 5.4.2: a random delay of the first message).
    start_at: Instant,
    addresses: BTreeMap<IpAddr, OwnAddress>,
    cache: Cache<P>,
    statics: BTreeMap<IpAddr, Mac>,
    /// As asked for; those that are static or our own need no entry.
    gateways: BTreeSet<IpAddr>,
    membership: Membership,
    /// A report has been sent with an unspecified source.
    reported_without_address: bool,
    answers: BTreeMap<u64, DelayedAnswer>,
    answers_made: u64,
    events: TokenBucket,
}

impl<P> Interface<P> {
    /// An interface whose link is taken to be up until it is said to be down.
    pub(super) fn new(
        shared: &mut Shared<P>,
        now: Instant,
        index: InterfaceIndex,
        config: InterfaceConfig,
    ) -> Self {
        let empty = InterfaceConfig {
            mac: config.mac,
            link_local: config.link_local,
            addresses: Vec::new(),
            on_link: Vec::new(),
            proxied: Vec::new(),
            watched: Vec::new(),
            statics: Vec::new(),
        };
        let mut interface = Self {
            index,
            config: empty,
            up: true,
            start_at: now + shared.random_up_to(shared.settings.start_delay),
            addresses: BTreeMap::new(),
            cache: Cache::new(),
            statics: BTreeMap::new(),
            gateways: BTreeSet::new(),
            membership: Membership::default(),
            reported_without_address: false,
            answers: BTreeMap::new(),
            answers_made: 0,
            events: TokenBucket::new(now, EVENTS_PER_SECOND, EVENTS_BURST),
        };
        interface.configure(shared, now, config);
        interface
    }

    /// Take another configuration, disturbing nothing that it leaves as it was.
    pub(super) fn configure(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        config: InterfaceConfig,
    ) {
        let mac_changed = config.mac != self.config.mac;
        self.config = config;

        let statics: BTreeMap<IpAddr, Mac> = self.config.statics.iter().copied().collect();
        if statics != self.statics {
            self.statics = statics;
            shared.neighbors_changed();
        }
        self.set_on_link(shared, now);

        let own = self.config.addresses.iter().map(IpNet::addr);
        let link_local = IpAddr::V6(self.config.link_local);
        let own: BTreeSet<IpAddr> = own.chain([link_local]).collect();
        self.addresses.retain(|address, _| {
            let stays = own.contains(address);
            if !stays {
                let key = (self.index, TimerKind::Address(*address));
                shared.timers.cancel(key);
            }
            stays
        });
        let mut started = Vec::new();
        for address in own {
            self.addresses.entry(address).or_insert_with(|| {
                started.push(address);
                OwnAddress::new()
            });
        }
        self.drop_impossible_neighbors(shared);
        self.apply_gateways(shared, now);
        if !self.up {
            return;
        }
        if mac_changed {
            // Neighbours have to learn it: announce what is ours, begin anew with what is not yet.
            self.start_addresses(shared, now);
        } else {
            for address in started {
                self.own_event(shared, now, address, address::Event::Start, self.config.mac);
            }
        }
        self.update_groups(shared, now);
    }

    /// The machine's settings have changed.
    pub(super) fn apply_settings(&mut self, shared: &mut Shared<P>) {
        self.cache.set_rate(&shared.settings);
        self.trim(shared);
    }

    fn set_on_link(&mut self, shared: &Shared<P>, now: Instant) {
        let mut on_link = vec![IpNet::V6(link_local_prefix())];
        on_link.extend(self.config.addresses.iter().map(IpNet::trunc));
        on_link.extend(self.config.on_link.iter().map(IpNet::trunc));
        on_link.sort_unstable();
        on_link.dedup();
        self.cache.set_on_link(now, &on_link, &shared.settings);
    }

    /// The link came up or went down.
    pub(super) fn set_link(&mut self, shared: &mut Shared<P>, now: Instant, up: bool) {
        if up == self.up {
            return;
        }
        self.up = up;
        if up {
            self.start_at = now + shared.random_up_to(shared.settings.start_delay);
            self.start_addresses(shared, now);
            self.update_groups(shared, now);
            self.membership.report_all();
            self.schedule(shared, TimerKind::GroupChanges, self.start_at);
            self.start_gateways(shared, now);
            return;
        }
        self.all_own_events(shared, now, address::Event::Stop);
        self.flush(shared, now);
        for kind in [TimerKind::GroupChanges, TimerKind::GroupQuery] {
            shared.timers.cancel((self.index, kind));
        }
        self.drop_answers(shared);
    }

    /// The interface goes away: nothing may wait for it any more.
    pub(super) fn close(mut self, shared: &mut Shared<P>) {
        let index = self.index;
        shared
            .timers
            .cancel_all(|(interface, _)| *interface == index);
        let mut had_neighbors = !self.statics.is_empty();
        let addresses: Vec<IpAddr> = self.cache.iter().map(|(address, _)| address).collect();
        for address in addresses {
            if let Some(entry) = self.cache.remove(address) {
                if entry.state.mac().is_some() {
                    had_neighbors = true;
                }
                shared.fail(entry.queue);
            }
        }
        if had_neighbors {
            shared.neighbors_changed();
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn handle_message(
        &mut self,
        shared: &mut Shared<P>,
        now: Instant,
        source_mac: Mac,
        message: Message,
    ) {
        match message {
            Message::Solicitation(solicitation) => {
                shared.counters.add(Counter::SolicitationsReceived);
                self.handle_solicitation(shared, now, source_mac, &solicitation);
            }
            Message::Advertisement(advertisement) => {
                shared.counters.add(Counter::AdvertisementsReceived);
                self.handle_advertisement(shared, now, source_mac, &advertisement);
            }
            Message::RouterSolicitation => {
                shared.counters.add(Counter::RouterSolicitationsReceived);
            }
            Message::RouterAdvertisement => {
                shared.counters.add(Counter::RouterAdvertisementsReceived);
            }
            Message::Redirect => shared.counters.add(Counter::RedirectsReceived),
            Message::Query(query) => {
                shared.counters.add(Counter::QueriesReceived);
                self.handle_query(shared, now, &query);
            }
        }
    }

    pub(super) fn handle_timer(&mut self, shared: &mut Shared<P>, now: Instant, kind: TimerKind) {
        match kind {
            TimerKind::GroupChanges => self.report_changes(shared, now),
            TimerKind::GroupQuery => {
                let records = self.membership.current();
                self.send_reports(shared, &records);
            }
            TimerKind::Address(address) => {
                self.own_event(
                    shared,
                    now,
                    address,
                    address::Event::Timeout,
                    self.config.mac,
                );
            }
            TimerKind::Neighbor(address) => {
                self.drive(shared, now, address, nud::Event::Timeout);
            }
            TimerKind::Answer(number) => self.send_delayed_answer(shared, number),
        }
    }

    pub(super) fn neighbors(&self) -> impl Iterator<Item = NeighborView> + '_ {
        let statics = self.statics.iter().map(|(address, mac)| NeighborView {
            interface: self.index,
            address: *address,
            mac: Some(*mac),
            state: NeighborState::Static,
            is_router: false,
            is_gateway: self.gateways.contains(address),
            since: None,
            queued: 0,
        });
        // A failure that is only remembered is no neighbour.
        let shown = self
            .cache
            .iter()
            .filter(|(_, entry)| entry.gateway || entry.state != nud::State::Failed);
        let dynamic = shown.map(|(address, entry)| NeighborView {
            interface: self.index,
            address,
            mac: entry.state.mac(),
            state: view_state(entry.state),
            is_router: entry.is_router,
            is_gateway: entry.gateway,
            since: Some(entry.since),
            queued: entry.queue.len(),
        });
        statics.chain(dynamic)
    }

    /// Where packets for this neighbour go.
    pub(super) fn neighbor_mac(&self, address: IpAddr) -> Option<Mac> {
        let fixed = self.statics.get(&address).copied();
        fixed.or_else(|| self.cache.mac(address))
    }

    pub(super) fn address_states(&self) -> impl Iterator<Item = (IpAddr, AddressState)> + '_ {
        let addresses = self.addresses.iter();
        addresses.map(|(address, own)| (*address, own.state()))
    }

    pub(super) fn address_state(&self, address: IpAddr) -> Option<AddressState> {
        self.addresses.get(&address).map(OwnAddress::state)
    }

    fn is_watched(&self, address: IpAddr) -> bool {
        let mut watched = self.config.watched.iter();
        watched.any(|prefix| prefix.contains(&address))
    }

    /// A neighbour spoke, and has an entry.
    fn heard(&self, shared: &mut Shared<P>, address: IpAddr) {
        if self.is_watched(address) {
            let interface = self.index;
            shared.output(Output::Heard { interface, address });
        }
    }

    /// A neighbour has no link-layer address any more.
    fn silent(&self, shared: &mut Shared<P>, address: IpAddr) {
        if self.is_watched(address) {
            let interface = self.index;
            shared.output(Output::Silent { interface, address });
        }
    }

    /// An event that happens at most as often as the configuration or the link changes.
    fn tell(&self, shared: &mut Shared<P>, event: Event) {
        shared.output(Output::Event(event));
    }

    /// An event that a stranger can cause as often as they like.
    fn tell_limited(&mut self, shared: &mut Shared<P>, now: Instant, event: Event) {
        if self.events.take(now, 0) {
            shared.output(Output::Event(event));
        } else {
            shared.counters.add(Counter::EventsSuppressed);
        }
    }

    fn schedule(&self, shared: &mut Shared<P>, kind: TimerKind, at: Instant) {
        shared.timers.set((self.index, kind), at);
    }

    // ---- groups ----

    /// Join what the addresses need: their solicited-node groups (RFC 4861 7.2.1) and, as a router, ff02::2.
    fn update_groups(&mut self, shared: &mut Shared<P>, now: Instant) {
        let in_use = self
            .addresses
            .iter()
            .filter(|(_, own)| own.state() != AddressState::Duplicate);
        let groups = in_use.filter_map(|(address, _)| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(wire::solicited_node(*address)),
        });
        let wanted = groups.chain([wire::ALL_ROUTERS]).collect();
        if self.membership.set(wanted) {
            self.schedule(shared, TimerKind::GroupChanges, self.start_at.max(now));
        }
    }

    fn report_changes(&mut self, shared: &mut Shared<P>, now: Instant) {
        let records = self.membership.take_changes();
        self.send_reports(shared, &records);
        if self.membership.has_changes() {
            let pause = shared.random_up_to(mld::UNSOLICITED_REPORT_INTERVAL);
            self.schedule(shared, TimerKind::GroupChanges, now + pause);
        }
    }

    fn send_reports(&mut self, shared: &mut Shared<P>, records: &[(wire::RecordType, Ipv6Addr)]) {
        let mut source = self.config.link_local;
        if !self.is_valid(source.into()) {
            source = Ipv6Addr::UNSPECIFIED;
            self.reported_without_address = true;
        }
        let mac = Mac::multicast_for(wire::ALL_MLDV2_ROUTERS);
        for packet in wire::reports(source, records) {
            shared.transmit(self.index, mac, packet, Counter::ReportsSent);
        }
    }

    /// RFC 3810 6.2: answer after a random delay; one that is due earlier anyway answers this query too.
    fn handle_query(&mut self, shared: &mut Shared<P>, now: Instant, query: &wire::Query) {
        if !self.membership.concerns(query.group) {
            return;
        }
        let at = now + shared.random_up_to(query.max_response);
        let key = (self.index, TimerKind::GroupQuery);
        if shared.timers.deadline(key).is_none_or(|due| due > at) {
            shared.timers.set(key, at);
        }
    }
}

/// Whether an address can be one host's, as far as it says so itself.
fn is_unicast(address: IpAddr) -> bool {
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let is_group = address.is_multicast() || is_broadcast;
    !(address.is_unspecified() || address.is_loopback() || is_group)
}

/// fe80::/10, on-link everywhere (RFC 4291 2.5.6).
fn link_local_prefix() -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)
}

fn view_state(state: nud::State) -> NeighborState {
    match state {
        nud::State::Incomplete { .. } => NeighborState::Incomplete,
        nud::State::Reachable(_) => NeighborState::Reachable,
        nud::State::Stale(_) => NeighborState::Stale,
        nud::State::Delay(_) => NeighborState::Delay,
        nud::State::Probe { .. } => NeighborState::Probe,
        nud::State::Failed => NeighborState::Failed,
    }
}

#[cfg(test)]
impl<P> Interface<P> {
    pub(super) fn cache(&self) -> &Cache<P> {
        &self.cache
    }
}
