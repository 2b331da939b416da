//! Services and servers as the control thread keeps them: what stays the same from one version of the tables to the next.
//!
//! A flow is remembered by its server's number, so a server keeps its number as long as it is in its pool, whatever
//! else changes; a number is that of another server only after its place was given away 62 times more. Maglev tables are
//! made when members or weights change, and shared by all versions else.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::Ipv6Addr;
use std::sync::Arc;

use dataplane::table::maglev::{Maglev, Member};
use ipnet::Ipv6Net;

use super::encap::Tunnel;
use super::health::Answers;
use super::returns::{Answer, Returns};
use super::rewrite::End;
use super::spec::{
    Affinity, Mode, PoolSpec, Ports, Protocol, SERVERS_MAX, SOURCES_MAX, ServerSpec, ServiceSpec,
    Settings, State,
};
use super::spot::Ready;
use super::spot::Way;
use super::view::{
    Address, Clock, Entry, PLACE_BITS, Pool, Server, Source, Split, Steer, place_of,
};
use crate::tables::VrfId;

/// A service address in its VRF.
pub(crate) type Key = (VrfId, Ipv6Net);

/// How a pool is doing, for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolState {
    /// Equal on boxes that steer alike.
    pub digest: u64,
    /// Of each server, in the order of the specification: its place among the counters, and how many cells of the table
    /// lead to it. `None`: there were more servers than [`SERVERS_MAX`].
    pub servers: Vec<Option<(usize, usize)>>,
}

/// The members a table was made of, and the table.
struct Made {
    members: Vec<Member>,
    size: u32,
    table: Arc<Maglev>,
}

/// Numbers of servers. A place is that of counters, and the lower bits of a number.
struct Numbers {
    given: HashMap<(String, Ipv6Addr), u16>,
    /// Places nobody has, the longest free first, with the number they are given under.
    free: VecDeque<u16>,
}

impl Numbers {
    fn new() -> Self {
        let places = 0..1_u16 << PLACE_BITS;
        debug_assert_eq!(usize::from(places.end), SERVERS_MAX);
        Self {
            given: HashMap::new(),
            free: places.map(|place| place | 1 << PLACE_BITS).collect(),
        }
    }

    /// Servers have numbers if they are among `pools`, as far as there are places.
    fn assign(&mut self, pools: &[PoolSpec]) {
        let of_pool = |pool: &PoolSpec| {
            let name = pool.name.clone();
            let servers = pool.servers.clone().into_iter();
            servers.map(move |server| (name.clone(), server.address))
        };
        let wanted: Vec<_> = pools.iter().flat_map(of_pool).collect();
        let known: HashSet<_> = wanted.iter().collect();
        let free = &mut self.free;
        let mut gone = Vec::new();
        self.given.retain(|server, number| {
            let stays = known.contains(server);
            if !stays {
                gone.push(*number);
            }
            stays
        });
        gone.sort_unstable();
        free.extend(gone.into_iter().map(|number| {
            let place = number & ((1 << PLACE_BITS) - 1);
            match number.checked_add(1 << PLACE_BITS) {
                Some(next) => next,
                None => place | 1 << PLACE_BITS,
            }
        }));
        for server in wanted {
            if !self.given.contains_key(&server)
                && let Some(number) = free.pop_front()
            {
                self.given.insert(server, number);
            }
        }
    }

    fn of(&self, pool: &PoolSpec, server: &ServerSpec) -> Option<u16> {
        self.given
            .get(&(pool.name.clone(), server.address))
            .copied()
    }
}

/// The control thread's side.
pub(crate) struct Registry {
    settings: Settings,
    clock: Clock,
    numbers: Numbers,
    /// Source addresses by number, which flows are remembered by: who stays keeps it.
    sources: Vec<Option<(VrfId, Ipv6Addr)>>,
    made: HashMap<String, Made>,
}

impl Registry {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut registry = Self {
            settings: settings.clone(),
            clock: Clock::default(),
            numbers: Numbers::new(),
            sources: vec![None; SOURCES_MAX],
            made: HashMap::new(),
        };
        registry.configure(settings);
        registry
    }

    /// These settings from now on.
    pub(crate) fn configure(&mut self, settings: Settings) {
        self.numbers.assign(&settings.pools);
        self.number_sources(&settings.pools);
        let mut before = std::mem::take(&mut self.made);
        for pool in &settings.pools {
            let members = self.members(pool);
            let same = before
                .remove(&pool.name)
                .filter(|made| (&made.members, made.size) == (&members, pool.table_size));
            let made = same.unwrap_or_else(|| Made {
                table: Arc::new(Maglev::new(&members, pool.table_size)),
                members,
                size: pool.table_size,
            });
            self.made.insert(pool.name.clone(), made);
        }
        self.settings = settings;
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Seconds since any moment.
    pub(crate) fn set_time(&self, seconds: u32) {
        self.clock.set(seconds);
    }

    fn number_sources(&mut self, pools: &[PoolSpec]) {
        let of_pool = |pool: &PoolSpec| {
            let vrf = pool.vrf;
            let sources = pool.sources.clone().into_iter();
            sources.map(move |source| (vrf, source))
        };
        let wanted: Vec<_> = pools.iter().flat_map(of_pool).collect();
        for known in &mut self.sources {
            *known = known.filter(|source| wanted.contains(source));
        }
        for source in wanted {
            if !self.sources.contains(&Some(source))
                && let Some(free) = self.sources.iter_mut().find(|known| known.is_none())
            {
                *free = Some(source);
            }
        }
    }

    /// Every source address with its number.
    pub(crate) fn sources(&self) -> Vec<(VrfId, Ipv6Addr, u16)> {
        let numbered = self.sources.iter().zip(0..);
        numbered
            .filter_map(|(source, number)| source.map(|(vrf, address)| (vrf, address, number)))
            .collect()
    }

    /// Who takes new flows.
    fn members(&self, pool: &PoolSpec) -> Vec<Member> {
        let takers = pool
            .servers
            .iter()
            .filter(|server| server.state == State::Up);
        let member = |server: &ServerSpec| {
            Some(Member {
                identity: u128::from(server.address),
                weight: server.weight,
                number: self.numbers.of(pool, server)?,
            })
        };
        takers.filter_map(member).collect()
    }

    /// Every service address, in the order of its number.
    pub(crate) fn addresses(&self) -> Vec<Key> {
        self.services().into_keys().collect()
    }

    /// Services of each address, by their positions.
    fn services(&self) -> BTreeMap<Key, Vec<usize>> {
        let mut services: BTreeMap<Key, Vec<_>> = BTreeMap::new();
        for (position, service) in self.settings.services.iter().enumerate() {
            let key = (service.vrf, service.prefix.trunc());
            services.entry(key).or_default().push(position);
        }
        services
    }

    /// Pools by source, each list once: services of one address that have the same are one for fragments.
    fn splits(&self) -> Vec<Split> {
        let mut splits = Vec::new();
        for service in &self.settings.services {
            let split = split(service);
            if !split.0.is_empty() && !splits.contains(&split) {
                splits.push(split);
            }
        }
        splits
    }

    /// What one version of the tables looks at, before [`Steer::prepare`]. `next_hop_of`: the index of the next hop to a server.
    pub(crate) fn view(&self, mut next_hop_of: impl FnMut(VrfId, Mode, Ipv6Addr) -> u32) -> Steer {
        let mut servers: Vec<Option<Server>> = Vec::new();
        let mut tunnels: Vec<Option<Tunnel>> = Vec::new();
        for (pool, position) in self.settings.pools.iter().zip(0..) {
            for server in &pool.servers {
                let Some(number) = self.numbers.of(pool, server) else {
                    continue;
                };
                let place = usize::from(number & ((1 << PLACE_BITS) - 1));
                if servers.len() <= place {
                    servers.resize(place + 1, None);
                    tunnels.resize(place + 1, None);
                }
                servers[place] = Some(Server {
                    number,
                    pool: position,
                    state: server.state,
                    address: server.address.octets(),
                    next_hop: next_hop_of(pool.vrf, pool.mode, server.address),
                    translated: match pool.mode {
                        Mode::Dnat { port } | Mode::FullNat { port } => Some(port.unwrap_or(0)),
                        Mode::L2 | Mode::Ip6Ip6 { .. } | Mode::IpIp { .. } | Mode::Gue { .. } => {
                            None
                        }
                    },
                });
                tunnels[place] = Tunnel::to(server.address, pool.mode);
            }
        }
        let pools = self.settings.pools.iter().map(|pool| Pool {
            table: self.made.get(&pool.name).map_or_else(
                || Arc::new(Maglev::new(&[], pool.table_size)),
                |made| Arc::clone(&made.table),
            ),
            salt: salt(&pool.name),
            mode: pool.mode,
            sources: pool
                .sources
                .iter()
                .filter_map(|source| {
                    let known = Some((pool.vrf, *source));
                    let number = self.sources.iter().position(|other| *other == known)?;
                    u16::try_from(number).ok()
                })
                .collect(),
            when_down: pool.when_down,
        });
        let splits = self.splits();
        let limited: Vec<usize> = self.settings.limited().collect();
        let after = |position: Option<usize>| position.map_or(0, |position| number(position + 1));
        let entries_of = |position: usize| {
            let service = &self.settings.services[position];
            let split = splits.iter().position(|other| *other == split(service));
            let limit = limited.iter().position(|other| *other == position);
            let mode = self.settings.pools.get(service.pool).map(|pool| pool.mode);
            entries(service, after(split), after(limit), mode)
        };
        let services = self.services();
        let addresses = services.values().map(|of_address| {
            let entries = of_address.iter().flat_map(|position| entries_of(*position));
            address(entries.collect())
        });
        let limits = limited
            .iter()
            .map(|position| self.settings.services[*position].limits);
        Steer {
            addresses: addresses.collect(),
            pools: pools.collect(),
            limits: limits.collect(),
            splits: splits.into(),
            ready: Ready::none(),
            servers: servers.into(),
            tunnels: tunnels.into(),
            returns: self.returns(),
            sources: self
                .sources
                .iter()
                .map(|source| source.map(|(_, address)| Source::new(address)))
                .collect(),
            flows: self.settings.flows,
            seed: self.settings.seed,
            clock: self.clock.clone(),
            answers: self.answers(),
        }
    }

    /// What servers answer whose packets are translated.
    fn returns(&self) -> Returns {
        let mut of_servers: BTreeMap<_, Vec<Answer>> = BTreeMap::new();
        for (service, pool) in self.settings.services.iter().flat_map(|service| {
            let pools = self.settings.pools_of(service).into_iter();
            pools.map(move |pool| (service, pool))
        }) {
            let Mode::Dnat { port: mapped } = pool.mode else {
                continue;
            };
            let answers: Vec<_> = ranges(service)
                .iter()
                .map(|ports| Answer {
                    protocol: service.protocol,
                    first: mapped.unwrap_or(*ports.start()),
                    last: mapped.unwrap_or(*ports.end()),
                    service: End {
                        address: service.prefix.network().octets(),
                        port: mapped.map(|_| *ports.start()),
                    },
                })
                .collect();
            for server in &pool.servers {
                let key = (pool.vrf, server.address.octets());
                of_servers.entry(key).or_default().extend(&answers);
            }
        }
        Returns::new(of_servers)
    }

    fn answers(&self) -> Answers {
        let checked = self.settings.checked.iter();
        let mut peers: Vec<_> = checked.map(|(vrf, peer)| (*vrf, peer.octets())).collect();
        peers.sort_unstable();
        peers.dedup();
        Answers {
            seed: self.settings.seed,
            peers: peers.into(),
        }
    }

    /// The place among the counters of each server of a pool, in the order of the specification.
    pub(crate) fn places(&self, name: &str) -> Vec<Option<usize>> {
        let mut pools = self.settings.pools.iter();
        let Some(pool) = pools.find(|pool| pool.name == name) else {
            return Vec::new();
        };
        let place = |server| Some(place_of(self.numbers.of(pool, server)?));
        pool.servers.iter().map(place).collect()
    }

    /// How the pool with this name is doing.
    pub(crate) fn pool(&self, name: &str) -> Option<PoolState> {
        let pool = self.settings.pools.iter().find(|pool| pool.name == name)?;
        let table = &self.made.get(name)?.table;
        let servers = pool.servers.iter().map(|server| {
            let number = self.numbers.of(pool, server)?;
            let cells = table.cells().iter().filter(|cell| **cell == number);
            let place = usize::from(number & ((1 << PLACE_BITS) - 1));
            Some((place, cells.count()))
        });
        Some(PoolState {
            digest: table.digest(),
            servers: servers.collect(),
        })
    }
}

/// The ports of a service: all of them where none is named.
fn ranges(service: &ServiceSpec) -> &[Ports] {
    const ALL: &[Ports] = &[0..=u16::MAX];
    if service.ports.is_empty() {
        ALL
    } else {
        &service.ports
    }
}

/// What a service whose pool has this mode takes: one entry for each range of ports.
fn entries(service: &ServiceSpec, split: u16, limit: u16, mode: Option<Mode>) -> Vec<Entry> {
    let entry = |ports: &Ports| Entry {
        protocol: service.protocol,
        first: *ports.start(),
        last: *ports.end(),
        pool: number(service.pool),
        split,
        limit,
        affinity: service.affinity,
        way: Way::Odd,
    };
    let with_way = |entry: Entry| Entry {
        way: Way::of(&entry, mode),
        ..entry
    };
    ranges(service).iter().map(entry).map(with_way).collect()
}

/// Pools by source of a service, the longest prefix first.
fn split(service: &ServiceSpec) -> Split {
    let pools = service.pools_by_source.iter();
    let mut pools: Vec<_> = pools
        .map(|(prefix, pool)| (*prefix, number(*pool)))
        .collect();
    pools.sort_by_key(|(prefix, _)| (std::cmp::Reverse(prefix.prefix_len()), *prefix));
    Split(pools.into())
}

/// The services of one address: a named protocol before any, fewer ports before more.
fn address(mut entries: Vec<Entry>) -> Address {
    entries.sort_by_key(|entry| (entry.protocol == Protocol::Any, entry.last - entry.first));
    let first = entries.first().copied();
    let is_like = |first: Entry, entry: &Entry| {
        entry.affinity == Affinity::Source && (entry.pool, entry.split) == (first.pool, first.split)
    };
    let by_source = first.filter(|first| entries.iter().all(|entry| is_like(*first, entry)));
    Address {
        entries: entries.into(),
        first,
        by_source,
    }
}

/// A position as tables have it; what is too large leads nowhere.
fn number(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX)
}

/// What a pool's name adds to a hash (FNV-1a), in bits that ports and fragments leave alone.
fn salt(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    (hash | 1 << 62) & !(1 << 63)
}
