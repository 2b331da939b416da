//! The neighbours of one link: who may come in, who has to leave, what waits for them (RFC 4861 5.1, RFC 6583).
//!
//! Key: IP address of either family; value: [`Entry`]. Lookup O(log n). Besides the entries stands an order of eviction. When full:
//! remembered failures go first, then stale entries nobody has proven, then stale ones that once answered, the longest
//! unused first; a stranger's message never pushes out a proven neighbour. If nothing may go, the newcomer stays out.
//! Gateways and static neighbours are outside the limits: the configuration bounds them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dataplane::wire::ethernet::Mac;
use ipnet::IpNet;

use super::bucket::TokenBucket;
use super::nud::State;
use super::{RefusedReason, Settings};

/// One neighbour.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) state: State,
    /// IsRouter (RFC 4861 5.1).
    pub(super) is_router: bool,
    /// Has been REACHABLE at least once.
    pub(super) proven: bool,
    /// A next hop of a route: never given up, never evicted.
    pub(super) gateway: bool,
    /// That it does not answer has been told; gateways only.
    pub(super) told_unreachable: bool,
    /// When it came into this state.
    pub(super) since: Instant,
    /// When it was last known to be used or reachable.
    pub(super) used: Instant,
    /// How long a silent gateway rests next time.
    pub(super) backoff: Duration,
    /// What waits for its address; only while that is unknown.
    pub(super) queue: VecDeque<P>,
    rank: Option<Rank>,
    counted: Option<usize>,
}

impl<P> Entry<P> {
    /// An entry about which nothing is known yet.
    pub(super) fn new(now: Instant, gateway: bool) -> Self {
        Self {
            state: State::Failed,
            is_router: false,
            proven: false,
            gateway,
            told_unreachable: false,
            since: now,
            used: now,
            backoff: Duration::ZERO,
            queue: VecDeque::new(),
            rank: None,
            counted: None,
        }
    }

    fn rank_now(&self) -> Option<Rank> {
        if self.gateway {
            return None;
        }
        let class = match self.state {
            State::Failed => Class::Remembered,
            State::Stale(_) if !self.proven => Class::Unproven,
            State::Stale(_) => Class::Proven,
            State::Incomplete { .. }
            | State::Reachable(_)
            | State::Delay(_)
            | State::Probe { .. } => return None,
        };
        Some((class, self.used))
    }
}

type Rank = (Class, Instant);

/// In the order of eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A failure we remember.
    Remembered,
    /// Stale, and never seen to answer.
    Unproven,
    /// Stale, but it has answered before.
    Proven,
}

/// One prefix whose addresses are neighbours, with its share of the limits (RFC 6583 7).
#[derive(Debug)]
struct OnLink {
    prefix: IpNet,
    bucket: TokenBucket,
    incomplete: usize,
}

impl OnLink {
    /// Whether an address can be a host's here. The first and the last address of an IPv4 prefix are its network's and
    /// its broadcast address (RFC 1122 3.2.1.3), unless it has no more than two (RFC 3021 2.1).
    fn contains(&self, address: IpAddr) -> bool {
        let in_prefix = self.prefix.contains(&address);
        match self.prefix {
            IpNet::V4(prefix) if prefix.prefix_len() < 31 => {
                in_prefix && address != prefix.network() && address != prefix.broadcast()
            }
            IpNet::V4(_) | IpNet::V6(_) => in_prefix,
        }
    }
}

/// All neighbours of one link.
#[derive(Debug)]
pub(super) struct Cache<P> {
    entries: BTreeMap<IpAddr, Entry<P>>,
    evictable: BTreeSet<(Class, Instant, IpAddr)>,
    on_link: Vec<OnLink>,
    /// Entries being resolved, gateways not counted.
    incomplete: usize,
    /// Entries of gateways.
    gateways: usize,
}

impl<P> Cache<P> {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            evictable: BTreeSet::new(),
            on_link: Vec::new(),
            incomplete: 0,
            gateways: 0,
        }
    }

    /// Replace the prefixes that are on-link, each with a full share of the rate.
    pub(super) fn set_on_link(&mut self, now: Instant, prefixes: &[IpNet], settings: &Settings) {
        let addresses: Vec<IpAddr> = self.entries.keys().copied().collect();
        for address in &addresses {
            self.unindex(*address);
        }
        let bucket = TokenBucket::new(
            now,
            settings.resolutions_per_second,
            settings.resolutions_burst,
        );
        let fresh = |prefix: &IpNet| OnLink {
            prefix: *prefix,
            bucket,
            incomplete: 0,
        };
        self.on_link = prefixes.iter().map(fresh).collect();
        for address in addresses {
            self.index(address);
        }
    }

    /// Take another rate of resolutions.
    pub(super) fn set_rate(&mut self, settings: &Settings) {
        for on_link in &mut self.on_link {
            let burst = settings.resolutions_burst;
            on_link
                .bucket
                .set_rate(settings.resolutions_per_second, burst);
        }
    }

    /// Whether an address is a neighbour's (RFC 5942 4).
    pub(super) fn is_on_link(&self, address: IpAddr) -> bool {
        self.prefix_of(address).is_some()
    }

    fn prefix_of(&self, address: IpAddr) -> Option<usize> {
        let mut prefixes = self.on_link.iter();
        prefixes.position(|on_link| on_link.contains(address))
    }

    pub(super) fn get(&self, address: IpAddr) -> Option<&Entry<P>> {
        self.entries.get(&address)
    }

    pub(super) fn mac(&self, address: IpAddr) -> Option<Mac> {
        self.entries.get(&address)?.state.mac()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &Entry<P>)> {
        self.entries
            .iter()
            .map(|(address, entry)| (*address, entry))
    }

    /// Change an entry, keeping limits and order of eviction true.
    pub(super) fn update<R>(
        &mut self,
        address: IpAddr,
        change: impl FnOnce(&mut Entry<P>) -> R,
    ) -> Option<R> {
        self.unindex(address);
        let result = self.entries.get_mut(&address).map(change);
        self.index(address);
        result
    }

    /// Put an entry in; admission is asked for before.
    pub(super) fn insert(&mut self, address: IpAddr, entry: Entry<P>) {
        self.unindex(address);
        self.entries.insert(address, entry);
        self.index(address);
    }

    pub(super) fn remove(&mut self, address: IpAddr) -> Option<Entry<P>> {
        self.unindex(address);
        self.entries.remove(&address)
    }

    fn unindex(&mut self, address: IpAddr) {
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        if let Some((class, used)) = entry.rank.take() {
            self.evictable.remove(&(class, used, address));
        }
        if is_counted(entry) {
            self.incomplete -= 1;
        }
        if let Some(on_link) = entry.counted.take().and_then(|i| self.on_link.get_mut(i)) {
            on_link.incomplete -= 1;
        }
        if entry.gateway {
            self.gateways -= 1;
        }
    }

    fn index(&mut self, address: IpAddr) {
        let prefix = self.prefix_of(address);
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        entry.rank = entry.rank_now();
        if let Some((class, used)) = entry.rank {
            self.evictable.insert((class, used, address));
        }
        if is_counted(entry) {
            self.incomplete += 1;
            entry.counted = prefix;
            if let Some(on_link) = prefix.and_then(|i| self.on_link.get_mut(i)) {
                on_link.incomplete += 1;
            }
        }
        if entry.gateway {
            self.gateways += 1;
        }
    }

    /// Entries that count against the limit.
    pub(super) fn counted_len(&self) -> usize {
        self.entries.len() - self.gateways
    }

    /// Whether there are more entries, or more being resolved, than may be.
    pub(super) fn is_over(&self, settings: &Settings) -> bool {
        self.counted_len() > settings.max_neighbors || self.incomplete > settings.max_incomplete
    }

    /// Who has to go to make room, if anybody of this class or below may.
    fn victim(&self, highest: Class) -> Option<IpAddr> {
        let (class, _, address) = self.evictable.first()?;
        (*class <= highest).then_some(*address)
    }

    /// Room for one more entry: `Ok` with who has to go for it, if anybody; `Err` when nobody of this class may.
    pub(super) fn room(
        &self,
        highest: Class,
        settings: &Settings,
    ) -> Result<Option<IpAddr>, RefusedReason> {
        if self.counted_len() < settings.max_neighbors {
            return Ok(None);
        }
        let victim = self.victim(highest).ok_or(RefusedReason::CacheFull)?;
        Ok(Some(victim))
    }

    /// Whether the resolution of an address may begin now. Takes its token. Those who have answered before may use all
    /// of both limits; addresses nobody has seen leave a quarter to them, and to the other prefixes (RFC 6583 7).
    pub(super) fn admit_resolution(
        &mut self,
        now: Instant,
        address: IpAddr,
        settings: &Settings,
    ) -> Result<(), RefusedReason> {
        let proven = self.get(address).is_some_and(|entry| entry.proven);
        if self.incomplete >= settings.max_incomplete {
            return Err(RefusedReason::TooManyIncomplete);
        }
        let prefix = self.prefix_of(address).ok_or(RefusedReason::NotOnLink)?;
        let on_link = &mut self.on_link[prefix];
        if !proven && on_link.incomplete >= settings.max_incomplete - settings.max_incomplete / 4 {
            return Err(RefusedReason::TooManyIncomplete);
        }
        let reserve = if proven {
            0
        } else {
            on_link.bucket.burst() / 4
        };
        if !on_link.bucket.take(now, reserve) {
            return Err(RefusedReason::RateLimited);
        }
        Ok(())
    }

    /// Check everything kept beside the entries against the entries.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self) {
        let mut evictable = BTreeSet::new();
        let mut by_prefix = vec![0; self.on_link.len()];
        let (mut incomplete, mut gateways) = (0, 0);
        for (address, entry) in &self.entries {
            assert_eq!(entry.rank, entry.rank_now());
            evictable.extend(entry.rank.map(|(class, used)| (class, used, *address)));
            if is_counted(entry) {
                incomplete += 1;
                assert_eq!(entry.counted, self.prefix_of(*address));
                if let Some(prefix) = entry.counted {
                    by_prefix[prefix] += 1;
                }
            }
            if entry.gateway {
                gateways += 1;
            }
            let waits = matches!(entry.state, State::Incomplete { .. });
            assert!(waits || entry.queue.is_empty(), "{address}: packets stuck");
        }
        assert_eq!(self.evictable, evictable);
        assert_eq!(self.incomplete, incomplete);
        assert_eq!(self.gateways, gateways);
        let counted: Vec<usize> = self.on_link.iter().map(|o| o.incomplete).collect();
        assert_eq!(counted, by_prefix);
    }

    #[cfg(test)]
    pub(super) fn incomplete(&self) -> usize {
        self.incomplete
    }
}

fn is_counted<P>(entry: &Entry<P>) -> bool {
    !entry.gateway && matches!(entry.state, State::Incomplete { .. })
}
