//! LISP as `sextant show lisp` and `sextant map show` see it. Reading only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use pipelines::tables::{InterfaceId, VrfId};

use super::super::Appliance;
use super::LispState;
use crate::admin::map::{MapQuery, PAGE_MAX};
use crate::admin::protocol::Answer;
use crate::admin::view::{
    self, LispInstance, LocatorView, MappingView, Mappings, OwnRloc, RecentMiss,
};
use crate::platform::Platform;
use crate::proto::lisp::cache::Entry;
use crate::proto::lisp::{EidKey, Mapping, Origin};
use crate::proto::ndp::{AddressState, InterfaceIndex};

/// Locators and misses that are listed one by one, most.
const LISTED_MAX: usize = 256;
/// Mappings that are looked at for one answer, most, so that nobody is kept waiting.
const LOOKED_AT_MAX: usize = 16 * PAGE_MAX;

impl<P: Platform> Appliance<P> {
    pub(in crate::appliance) fn show_lisp(&self, now: Instant) -> view::Lisp {
        let lisp = self.config.lisp.as_ref();
        let state = &self.lisp;
        let instances = lisp.map_or(&[][..], |lisp| &lisp.instances);
        let instances = instances.iter().map(|instance| LispInstance {
            id: instance.id.get(),
            vrf: self.config.vrfs[instance.vrf].clone(),
            eids: instance.eids.iter().map(IpNet::to_string).collect(),
            map_request: instance.map_request.iter().map(IpNet::to_string).collect(),
            mappings: state.cache.len_of(instance.id),
        });
        let mut instances: Vec<LispInstance> = instances.collect();
        instances.sort_by_key(|instance| instance.id);
        let recent = state.misses.recent().take(LISTED_MAX);
        let misses = recent.map(|miss| RecentMiss {
            instance: miss.instance.get(),
            eid: miss.eid.to_string(),
            source: miss.source.to_string(),
            packets: miss.count,
            age_ms: milliseconds(now, miss.last),
            waiting: miss.held,
        });
        view::Lisp {
            monotonic_ns: self.clock(now),
            configured: lisp.is_some(),
            roles: lisp.map_or_else(Vec::new, |lisp| {
                lisp.roles.names().map(str::to_owned).collect()
            }),
            vrf: lisp.map_or_else(String::new, |lisp| self.config.vrfs[lisp.vrf].clone()),
            miss: lisp.map_or_else(String::new, |lisp| lisp.miss.name().to_owned()),
            own_rlocs: self.own_rlocs(),
            rlocs: self.rlocs(now, LISTED_MAX),
            rlocs_total: state.cache.rlocs().count(),
            instances,
            mappings: state.cache.len(),
            mappings_added: state.cache.added(),
            mappings_learned: state.xtr.learned(),
            map_resolvers: lisp.map_or_else(Vec::new, |lisp| {
                lisp.map_resolvers.iter().map(IpAddr::to_string).collect()
            }),
            requests_pending: state.xtr.pending(),
            map_servers: self.map_servers(now),
            control_counters: self.control_counters(),
            misses: misses.collect(),
            misses_remembered: state.misses.len(),
            miss_counters: self.miss_counters(),
        }
    }

    pub(super) fn map_servers(&self, now: Instant) -> Vec<view::MapServer> {
        let servers = self.lisp.xtr.servers(now).map(|server| view::MapServer {
            address: server.address.to_string(),
            registered: server.is_registered,
            notified_s: server.notified.map(|then| milliseconds(now, then) / 1000),
            sent: server.sent,
        });
        servers.collect()
    }

    pub(super) fn control_counters(&self) -> BTreeMap<String, u64> {
        let counters = self.lisp.xtr.counters().iter();
        counters
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    }

    pub(super) fn miss_counters(&self) -> BTreeMap<String, u64> {
        let counters = self.lisp.misses.counters();
        let named = [
            ("misses", counters.misses),
            ("held", counters.held),
            ("released", counters.released),
            ("expired", counters.expired),
        ];
        let limits = counters
            .limited()
            .map(|(limit, count)| (limit.name(), count));
        let all = named.into_iter().chain(limits);
        all.map(|(name, count)| (name.to_owned(), count)).collect()
    }

    fn own_rlocs(&self) -> Vec<OwnRloc> {
        let lisp = self.config.lisp.iter();
        let own = lisp.flat_map(|lisp| lisp.own_rlocs().map(|rloc| (lisp.vrf, rloc)));
        let own = own.filter_map(|(vrf, rloc)| {
            let (position, id) = self.owner(vrf, rloc)?;
            let interface = self.config.interfaces.get(position)?;
            let index = InterfaceIndex(id.0);
            let state = self.machine.address_state(index, rloc);
            let is_up = self.links[interface.port].up;
            Some(OwnRloc {
                address: rloc.to_string(),
                interface: interface.name.clone(),
                state: state.map_or("unknown", |state| state.name()).to_owned(),
                usable: is_up && state == Some(AddressState::Preferred),
            })
        });
        own.collect()
    }

    pub(super) fn rlocs(&self, now: Instant, most: usize) -> Vec<view::Rloc> {
        let rlocs = self.lisp.cache.rlocs().take(most);
        rlocs.map(|(rloc, _)| self.show_rloc(now, rloc)).collect()
    }

    pub(super) fn show_rloc(&self, now: Instant, rloc: IpAddr) -> view::Rloc {
        let way = self.rib.way_to(rloc);
        let probed = self.lisp.xtr.rloc_state(rloc);
        let verdict = self.lisp.verdict(now, rloc, self.why(rloc));
        let round_trip = probed.and_then(|probed| probed.round_trip);
        view::Rloc {
            address: rloc.to_string(),
            mappings: self.lisp.cache.users(rloc),
            state: verdict.why.state().to_owned(),
            reason: verdict.reason(probed.map(|probed| probed.liveness)),
            since_ms: milliseconds(now, verdict.since),
            round_trip_us: round_trip.map(|time| time.as_micros() as u64), // `as`: at most ten seconds
            probes_sent: probed.map_or(0, |probed| probed.sent),
            probes_answered: probed.map_or(0, |probed| probed.answered),
            path_mtu: self.lisp.paths.mtu(rloc),
            interface: way.map(|(interface, _)| self.name_of(interface)),
            via: way.and_then(|(_, via)| via).map(|via| via.to_string()),
        }
    }

    fn name_of(&self, interface: InterfaceId) -> String {
        self.interface_name(InterfaceIndex(interface.0)).to_owned()
    }

    /// One page of the map-cache.
    pub(in crate::appliance) fn show_mappings(&mut self, now: Instant, query: &MapQuery) -> Answer {
        let (keys, more_after) = self.page(query);
        for key in &keys {
            let vrf = self.lisp.vrfs.get(&key.instance).copied();
            let LispState { cache, xtr, .. } = &mut self.lisp;
            let rib = &self.rib;
            cache.note_use_of(now, *key, |mapping| {
                let is_used = vrf.is_some_and(|vrf| rib.was_used(vrf, key.eid));
                // Whoever asks first is told, and nobody after.
                if is_used {
                    xtr.note_used(now, *key, mapping);
                }
                is_used
            });
        }
        let entries = keys.iter().filter_map(|key| self.lisp.cache.entry(*key));
        Answer::done(Mappings {
            monotonic_ns: self.clock(now),
            mappings: entries
                .map(|entry| self.show_mapping(now, &entry))
                .collect(),
            more_after,
        })
    }

    /// Keys of a page in their order, and where to go on.
    fn page(&self, query: &MapQuery) -> (Vec<EidKey>, Option<EidKey>) {
        let cache = &self.lisp.cache;
        let is_wanted = |entry: &Entry<'_>| !query.added || entry.origin == Origin::Admin;
        let first = IpNet::V4(Ipv4Net::default());
        let known = self.lisp.vrfs.keys().copied();
        let instances = known.filter(|id| query.instance.is_none_or(|wanted| wanted == *id));
        let mut keys = Vec::new();
        let mut looked_at = 0;
        for instance in instances {
            let start = EidKey {
                instance,
                eid: query.prefix.map_or(first, |prefix| prefix.trunc()),
            };
            let from = match query.after {
                Some(after) if after.instance > instance => continue,
                Some(after) if after >= start => Bound::Excluded(after),
                _ => Bound::Included(start),
            };
            if let (Some(_), Bound::Included(start)) = (query.prefix, from) {
                let around = cache.lookup(start).filter(|entry| entry.key != start);
                keys.extend(around.filter(is_wanted).map(|entry| entry.key));
            }
            let is_under = |entry: &Entry<'_>| {
                let prefix = query.prefix.map(|prefix| prefix.trunc());
                entry.key.instance == instance
                    && prefix.is_none_or(|prefix| prefix.contains(&entry.key.eid))
            };
            for entry in cache.entries_from(from).take_while(is_under) {
                looked_at += 1;
                if is_wanted(&entry) {
                    keys.push(entry.key);
                }
                if keys.len() >= PAGE_MAX || looked_at >= LOOKED_AT_MAX {
                    return (keys, Some(entry.key));
                }
            }
        }
        (keys, None)
    }

    fn show_mapping(&self, now: Instant, entry: &Entry<'_>) -> MappingView {
        let vrf = self.lisp.vrfs.get(&entry.key.instance).copied();
        let (action, map_version) = match entry.mapping {
            Mapping::Locators { version, .. } => (None, *version),
            Mapping::Negative(action) => (Some(action.name().to_owned()), 0),
        };
        MappingView {
            instance: entry.key.instance.get(),
            eid: entry.key.eid.to_string(),
            source: entry.origin.name().to_owned(),
            expires_s: entry
                .expires
                .map(|expires| milliseconds(expires, now) / 1000),
            action,
            locators: vrf.map_or_else(Vec::new, |vrf| self.show_locators(vrf, entry)),
            map_version,
            used_s: entry.used.map(|used| milliseconds(now, used) / 1000),
        }
    }

    fn show_locators(&self, vrf: VrfId, entry: &Entry<'_>) -> Vec<LocatorView> {
        let states = self.rib.locator_states(vrf, entry.key.eid);
        let locators = entry.mapping.locators().iter().map(|locator| {
            let mut states = states.iter();
            let found = states.find(|state| state.spec.rloc == locator.rloc);
            let is_up = locator.up && self.lisp.may_use(locator.rloc);
            let state = match (is_up, found.map(|state| state.is_reachable)) {
                (false, _) => "down",
                (true, Some(true)) => "up",
                (true, Some(false)) => "unreachable",
                (true, None) => "pending",
            };
            LocatorView {
                rloc: locator.rloc.to_string(),
                priority: locator.priority,
                weight: locator.weight,
                up: locator.up,
                state: state.to_owned(),
                share: found.map_or(0, |state| state.share),
            }
        });
        locators.collect()
    }
}

pub(super) fn milliseconds(now: Instant, then: Instant) -> u64 {
    let passed = now.saturating_duration_since(then).as_millis();
    u64::try_from(passed).unwrap_or(u64::MAX)
}

/// The smallest path to a locator that carries what every IPv6 host may send (RFC 8200 5): what a locator of its family adds
/// to 1,280 bytes, included.
pub(super) fn smallest(rloc: IpAddr) -> u16 {
    1280 + pipelines::lisp::overhead(rloc.is_ipv4())
}
