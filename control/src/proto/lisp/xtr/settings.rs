//! What a tunnel router is told to do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::proto::lisp::wire::auth::{Algorithm, Secret};
use crate::proto::lisp::wire::{Identity, LocatorRecord, Record};
use crate::proto::lisp::{EidKey, Locator};

/// How long others may use what is said of own EIDs, minutes: the day that is usual (RFC 9301 5.4).
const TTL_MINUTES: u32 = 1440;

/// All of it. The default does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// It asks for mappings, of those that are given here.
    pub map_resolvers: Vec<IpAddr>,
    /// It asks for hosts that have no EIDs (RFC 6832), and says so.
    pub is_proxy: bool,
    /// It answers for its own EIDs, and registers them.
    pub is_etr: bool,
    /// Own EID prefixes, of every instance.
    pub eids: Vec<EidKey>,
    /// Prefixes whose hosts may be at any site.
    pub dynamic_eids: Vec<EidKey>,
    /// Own RLOCs; those that are not up are told of as unreachable, and nothing is sent from them.
    pub rlocs: Vec<Locator>,
    /// Where own EIDs are registered.
    pub map_servers: Vec<MapServer>,
    /// Who registers.
    pub identity: Option<Identity>,
    /// Map-version of the own EIDs (RFC 9302); 0: none.
    pub map_version: u16,
    /// How locators of mappings are probed; none: not.
    pub probing: Option<Probing>,
}

/// How often locators are probed, and what their silence means (RFC 9301 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    /// Between two probes that are answered.
    pub period: Duration,
    /// Probes without an answer, one after the other, after which a locator is down.
    pub misses: u32,
    /// The shortest wait for an answer: not less than what a busy router may need.
    pub least_wait: Duration,
    /// Probes a second of all locators together, most: not more than answers may come.
    pub per_second: u32,
}

/// A Map-Server, and what is shared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapServer {
    /// Its address.
    pub address: IpAddr,
    /// The secret.
    pub key: Secret,
    /// Its number.
    pub key_id: u8,
    /// How messages are authenticated.
    pub algorithm: Algorithm,
    /// It is asked to answer for us.
    pub proxy_reply: bool,
    /// It is asked to join our RLOCs with those of other routers of the site (the a-bit).
    pub merge: bool,
}

impl Settings {
    /// Whether it asks at all.
    pub(super) fn asks(&self) -> bool {
        !self.map_resolvers.is_empty()
    }

    /// The own RLOC something to an address of this family is sent from.
    pub(super) fn source(&self, is_v4: bool) -> Option<IpAddr> {
        self.source_of_turn(is_v4, 0)
    }

    /// The same where an answer is awaited: another at every turn, for what goes to one of them may be lost.
    pub(super) fn source_of_turn(&self, is_v4: bool, turn: usize) -> Option<IpAddr> {
        let own = self.rlocs.iter();
        let mut own = own.filter(|own| own.up && own.rloc.is_ipv4() == is_v4);
        let turn = turn.checked_rem(own.clone().count())?;
        own.nth(turn).map(|own| own.rloc)
    }

    /// Own RLOCs something to an address of this family can be sent from.
    pub(super) fn sources(&self, is_v4: bool) -> usize {
        let own = self.rlocs.iter();
        own.filter(|own| own.up && own.rloc.is_ipv4() == is_v4)
            .count()
    }

    /// Whether this is an own RLOC.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.rlocs.iter().any(|own| own.rloc == address)
    }

    /// Whether the same is said of every own EID.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.rlocs == other.rlocs
            && self.identity == other.identity
            && self.map_version == other.map_version
    }

    /// Own EIDs that only one of the two has.
    pub(super) fn eids_apart(&self, other: &Self) -> Vec<EidKey> {
        let [here, there] = [self, other].map(|s| s.eids.iter().copied().collect());
        <BTreeSet<EidKey>>::symmetric_difference(&here, &there)
            .copied()
            .collect()
    }

    /// Whether an EID's host may be at any site.
    pub(super) fn is_dynamic(&self, key: EidKey) -> bool {
        let mut prefixes = self.dynamic_eids.iter();
        prefixes.any(|prefix| is_within(key, *prefix))
    }

    /// Whether this is an own EID prefix, or under one.
    pub(super) fn has_eid(&self, key: EidKey) -> bool {
        self.eids.iter().any(|own| is_within(key, *own))
    }

    /// Whether a record is about own EIDs, of which others have nothing to say: but that a host which may be elsewhere is
    /// at RLOCs of others.
    pub(super) fn is_own_eid(&self, record: &Record) -> bool {
        let key = record.key;
        let is_elsewhere =
            self.is_dynamic(key) && !self.eids.contains(&key) && self.is_of_others(record);
        self.has_eid(key) && !is_elsewhere
    }

    /// Whether a record has RLOCs, and none of ours.
    pub(super) fn is_of_others(&self, record: &Record) -> bool {
        let mut rlocs = record.locators.iter().map(|locator| locator.rloc);
        !record.locators.is_empty() && !rlocs.any(|rloc| self.is_own(rloc))
    }

    /// What is said of a prefix of own EIDs. `probed` is the RLOC at which a probe arrived.
    pub(super) fn record(&self, key: EidKey, probed: Option<IpAddr>) -> Record {
        let locators = self.rlocs.iter().map(|own| LocatorRecord {
            is_local: true,
            is_probed: probed == Some(own.rloc),
            ..LocatorRecord::new(*own)
        });
        let mut record = Record {
            key,
            ttl_minutes: TTL_MINUTES,
            act: Default::default(),
            is_authoritative: true,
            map_version: self.map_version,
            locators: locators.collect(),
        };
        record.sort_locators();
        record
    }
}

/// Whether one prefix is the other or under it.
pub(super) fn is_within(inner: EidKey, outer: EidKey) -> bool {
    inner.instance == outer.instance && outer.eid.contains(&inner.eid)
}
