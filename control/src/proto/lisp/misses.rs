//! Packets to EIDs for which there is no mapping: who asked for what, and a few packets that wait for the answer
//! (RFC 9300 6; the bounds are ours).
//!
//! An entry is an EID that was missed. Their number is bounded for each source, for each stretch of EID space and in
//! total; where the total is reached, the entry that was missed longest ago makes room, unless packets wait there. So
//! whoever scans the EID space fills the share of one source and no more, and an EID that is asked for again and again
//! keeps its place. Packets wait for a bounded time, in a bounded number for each EID and in total.
//!
//! Memory: some 200 bytes an entry. Every call is logarithmic in the number of entries, but for
//! [`Misses::resolved`], which looks at those under one prefix.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::mapping::{EidKey, InstanceId};

/// How much there may be of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: usize,
    /// Entries that packets of one source made: an IPv4 address, a /64 of IPv6.
    pub entries_per_source: usize,
    /// Entries in one stretch of EID space: a /24 of IPv4, a /48 of IPv6.
    pub entries_per_stretch: usize,
    /// Packets that wait.
    pub held: usize,
    /// Packets that wait for one EID.
    pub held_per_eid: usize,
    /// How long a packet waits.
    pub hold: Duration,
    /// How long an entry is kept after its last miss.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4096,
            entries_per_source: 64,
            entries_per_stretch: 128,
            held: 512,
            held_per_eid: 4,
            hold: Duration::from_secs(2),
            keep: Duration::from_secs(30),
        }
    }
}

/// A packet that met no mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss {
    /// Where it was looked up.
    pub instance: InstanceId,
    /// Its source.
    pub source: IpAddr,
    /// The EID that was looked up.
    pub eid: IpAddr,
}

/// Why a miss left no trace but a count, or why a packet does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The source has all the entries it may have.
    Source,
    /// The stretch of EID space has.
    Stretch,
    /// Packets wait at every entry.
    Entries,
    /// Enough packets wait for this EID.
    HeldForEid,
    /// Enough packets wait.
    Held,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Source,
        Self::Stretch,
        Self::Entries,
        Self::HeldForEid,
        Self::Held,
    ];

    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "limit_source",
            Self::Stretch => "limit_stretch",
            Self::Entries => "limit_entries",
            Self::HeldForEid => "limit_held_for_eid",
            Self::Held => "limit_held",
        }
    }

    const fn index(self) -> usize {
        self as usize // `as`: a fieldless enum
    }
}

/// What [`Misses::note`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Noted<P> {
    /// Nobody had asked for this EID: whoever knows mappings should be asked.
    pub is_new: bool,
    /// It is known now that this EID was missed: no limit stood against it.
    pub is_noted: bool,
    /// The packet, where it does not wait, and why.
    pub refused: Option<(P, Limit)>,
}

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Misses.
    pub misses: u64,
    /// Packets that waited.
    pub held: u64,
    /// Packets that waited and went on.
    pub released: u64,
    /// Packets that waited in vain.
    pub expired: u64,
    limited: [u64; Limit::ALL.len()],
}

impl Counters {
    /// How often each limit was met.
    pub fn limited(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        Limit::ALL
            .iter()
            .map(|limit| (*limit, self.limited[limit.index()]))
    }
}

/// An entry, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// Where it was looked up.
    pub instance: InstanceId,
    /// The EID.
    pub eid: IpAddr,
    /// Who asked first.
    pub source: IpAddr,
    /// Packets.
    pub count: u64,
    /// When the first one came.
    pub first: Instant,
    /// When the last one came.
    pub last: Instant,
    /// Packets that wait.
    pub held: usize,
}

/// By instance, then by EID, so that those under one prefix stand together.
type Key = (InstanceId, IpAddr);
/// What a bound is kept for.
type Group = (InstanceId, IpNet);

struct Entry<P> {
    source: IpAddr,
    count: u64,
    first: Instant,
    last: Instant,
    /// In the order they came, by their number.
    held: Vec<(u64, P)>,
}

/// EIDs that were missed lately. `P` is a packet that waits.
pub struct Misses<P> {
    limits: Limits,
    entries: BTreeMap<Key, Entry<P>>,
    /// Entries by their last miss.
    by_age: BTreeSet<(Instant, Key)>,
    by_source: HashMap<Group, usize>,
    by_stretch: HashMap<Group, usize>,
    /// Packets that wait, by their number, which rises as their deadline does.
    held: BTreeMap<u64, (Instant, Key)>,
    next_number: u64,
    counters: Counters,
}

impl<P> Misses<P> {
    /// No miss.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            by_age: BTreeSet::new(),
            by_source: HashMap::new(),
            by_stretch: HashMap::new(),
            held: BTreeMap::new(),
            next_number: 0,
            counters: Counters::default(),
        }
    }

    /// A packet met no mapping; if it is given, it waits for one.
    pub fn note(&mut self, now: Instant, miss: Miss, packet: Option<P>) -> Noted<P> {
        self.counters.misses += 1;
        let key = (miss.instance, miss.eid);
        let is_new = !self.entries.contains_key(&key);
        if is_new && let Err(limit) = self.make_room(&miss) {
            self.counters.limited[limit.index()] += 1;
            return Noted {
                is_new: false,
                is_noted: false,
                refused: packet.map(|packet| (packet, limit)),
            };
        }
        if is_new {
            *self.by_source.entry(source_group(&miss)).or_default() += 1;
            *self.by_stretch.entry(stretch(key)).or_default() += 1;
        }
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            source: miss.source,
            count: 0,
            first: now,
            last: now,
            held: Vec::new(),
        });
        self.by_age.remove(&(entry.last, key));
        entry.last = now;
        entry.count += 1;
        self.by_age.insert((now, key));
        let refused = packet.and_then(|packet| self.hold(now, key, packet).err());
        Noted {
            is_new,
            is_noted: true,
            refused,
        }
    }

    /// Mappings for this prefix are known: the packets that waited, in the order they came. Its entries are forgotten.
    pub fn resolved(&mut self, prefix: EidKey) -> Vec<P> {
        let (first, last) = (prefix.eid.network(), prefix.eid.broadcast());
        let under = (prefix.instance, first)..=(prefix.instance, last);
        let keys: Vec<Key> = self.entries.range(under).map(|(key, _)| *key).collect();
        let mut packets: Vec<(u64, P)> = Vec::new();
        for key in keys {
            packets.extend(self.forget(key));
        }
        packets.sort_by_key(|(number, _)| *number);
        // `as`: a count
        self.counters.released += packets.len() as u64;
        packets.into_iter().map(|(_, packet)| packet).collect()
    }

    /// Forget what is over: packets that waited in vain.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<P> {
        let mut expired = Vec::new();
        while let Some((number, (deadline, key))) = self.held.first_key_value()
            && *deadline <= now
        {
            let (number, key) = (*number, *key);
            self.held.remove(&number);
            if let Some(entry) = self.entries.get_mut(&key)
                && let Some(position) = entry.held.iter().position(|(held, _)| *held == number)
            {
                expired.push(entry.held.remove(position).1);
            }
        }
        // `as`: a count
        self.counters.expired += expired.len() as u64;
        while let Some((last, key)) = self.by_age.first().copied()
            && last + self.limits.keep <= now
        {
            expired.extend(self.forget(key).into_iter().map(|(_, packet)| packet));
        }
        expired
    }

    /// When [`Misses::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = self
            .held
            .first_key_value()
            .map(|(_, (deadline, _))| *deadline);
        let oldest = self
            .by_age
            .first()
            .map(|(last, _)| *last + self.limits.keep);
        [held, oldest].into_iter().flatten().min()
    }

    /// Entries, the latest miss first.
    pub fn recent(&self) -> impl Iterator<Item = Recent> + '_ {
        let keys = self.by_age.iter().rev();
        keys.filter_map(|(_, key)| {
            let entry = self.entries.get(key)?;
            Some(Recent {
                instance: key.0,
                eid: key.1,
                source: entry.source,
                count: entry.count,
                first: entry.first,
                last: entry.last,
                held: entry.held.len(),
            })
        })
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Packets that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether one more entry may be made, at the price of an old one if need be.
    fn make_room(&mut self, miss: &Miss) -> Result<(), Limit> {
        let count =
            |groups: &HashMap<Group, usize>, group| groups.get(&group).copied().unwrap_or(0);
        if count(&self.by_source, source_group(miss)) >= self.limits.entries_per_source {
            return Err(Limit::Source);
        }
        if count(&self.by_stretch, stretch((miss.instance, miss.eid)))
            >= self.limits.entries_per_stretch
        {
            return Err(Limit::Stretch);
        }
        if self.entries.len() < self.limits.entries {
            return Ok(());
        }
        // At most as many entries have packets as there are packets, so this ends soon.
        let idle = self.by_age.iter().find(|(_, key)| {
            let entry = self.entries.get(key);
            entry.is_some_and(|entry| entry.held.is_empty())
        });
        let (_, key) = *idle.ok_or(Limit::Entries)?;
        self.forget(key);
        Ok(())
    }

    fn hold(&mut self, now: Instant, key: Key, packet: P) -> Result<(), (P, Limit)> {
        let Some(entry) = self.entries.get_mut(&key) else {
            return Err((packet, Limit::Entries));
        };
        let limit = if entry.held.len() >= self.limits.held_per_eid {
            Some(Limit::HeldForEid)
        } else if self.held.len() >= self.limits.held {
            Some(Limit::Held)
        } else {
            None
        };
        if let Some(limit) = limit {
            self.counters.limited[limit.index()] += 1;
            return Err((packet, limit));
        }
        let number = self.next_number;
        self.next_number += 1;
        entry.held.push((number, packet));
        self.held.insert(number, (now + self.limits.hold, key));
        self.counters.held += 1;
        Ok(())
    }

    /// Forget an entry; the packets that waited there.
    fn forget(&mut self, key: Key) -> Vec<(u64, P)> {
        let Some(entry) = self.entries.remove(&key) else {
            return Vec::new();
        };
        self.by_age.remove(&(entry.last, key));
        let miss = Miss {
            instance: key.0,
            source: entry.source,
            eid: key.1,
        };
        release(&mut self.by_source, source_group(&miss));
        release(&mut self.by_stretch, stretch(key));
        for (number, _) in &entry.held {
            self.held.remove(number);
        }
        entry.held
    }
}

fn release(groups: &mut HashMap<Group, usize>, group: Group) {
    if let Some(count) = groups.get_mut(&group) {
        *count -= 1;
        if *count == 0 {
            groups.remove(&group);
        }
    }
}

/// Who a source is: one host of IPv4, one link of IPv6, on which a host may have any number of addresses.
fn source_group(miss: &Miss) -> Group {
    (miss.instance, covering(miss.source, 32, 64))
}

fn stretch((instance, eid): Key) -> Group {
    (instance, covering(eid, 24, 48))
}

fn covering(address: IpAddr, length_v4: u8, length_v6: u8) -> IpNet {
    match address {
        IpAddr::V4(address) => Ipv4Net::new_assert(address, length_v4).trunc().into(),
        IpAddr::V6(address) => Ipv6Net::new_assert(address, length_v6).trunc().into(),
    }
}
