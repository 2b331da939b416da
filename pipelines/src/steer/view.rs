//! What one batch looks at: service addresses, pools, servers.

use std::net::Ipv6Addr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use dataplane::counters::{ServerTable, WorkerCounters};
use dataplane::reason::DropReason;
use dataplane::table::maglev::Maglev;
use dataplane::wire::checksum::{self, Change};
use ipnet::Ipv6Net;

use super::encap::Tunnel;
use super::flow::{self, Read, Role};
use super::health::Answers;
use super::memory::{Kept, Memory, Stage};
use super::returns::Returns;
use super::rewrite::End;
use super::spec::{Affinity, Limits, Mode, Protocol, SERVERS_MAX, State, WhenDown};
use super::spot::{Ready, Way};
use crate::lisp::flow::scatter;
use crate::words::{Words, words};

/// Bits of a server's number that are its place; the others tell it from those who had the place before.
pub(super) const PLACE_BITS: u32 = 10;
const PLACE_MASK: u16 = (1 << PLACE_BITS) - 1;

const _: () = assert!(SERVERS_MAX == 1 << PLACE_BITS);

/// A server's place among the counters.
#[inline(always)]
pub(super) fn place_of(number: u16) -> usize {
    usize::from(number & PLACE_MASK)
}

/// Seconds that pass, given by the control thread, so that nobody reads a clock for a packet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU32>);

impl Clock {
    pub(super) fn set(&self, seconds: u32) {
        self.0.store(seconds, Relaxed);
    }
}

/// A service address: which of its services takes a packet.
#[derive(Debug)]
pub(crate) struct Address {
    /// In the order in which they are asked.
    pub(super) entries: Box<[Entry]>,
    /// The first of them once more, where most packets find it.
    pub(super) first: Option<Entry>,
    /// How its only pool is chosen, if everything from a source goes to one of its servers.
    pub(super) by_source: Option<Entry>,
}

impl Address {
    /// Which of its services takes a packet with ports.
    #[inline(always)]
    pub(super) fn entry_of(&self, protocol: u8, port: u16) -> Option<&Entry> {
        let first = self.first.as_ref()?;
        match first.takes(protocol, Some(port)) {
            true => Some(first),
            false => self.others(protocol, port),
        }
    }

    #[cold]
    #[inline(never)]
    fn others(&self, protocol: u8, port: u16) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.takes(protocol, Some(port)))
    }
}

/// One protocol and range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) protocol: Protocol,
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) pool: u16,
    /// Which of [`Steer::splits`] says of clients that have another pool, from 1; 0: none.
    pub(super) split: u16,
    /// Which of [`Steer::limits`] holds, from 1; 0: none.
    pub(super) limit: u16,
    pub(super) affinity: Affinity,
    pub(super) way: Way,
}

/// Pools of some clients, the longest prefix first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split(pub(super) Box<[(Ipv6Net, u16)]>);

impl Entry {
    /// Whether it takes all ports, and packets without one.
    pub(super) fn takes_all(&self) -> bool {
        (self.first, self.last) == (0, u16::MAX)
    }

    /// The same as [`Entry::takes`] for many packets with ports.
    #[inline(always)]
    pub(super) fn filter(&self) -> Filter {
        let (protocol, protocol_mask) = match self.protocol {
            Protocol::Any => (0, 0),
            Protocol::Number(number) => (number, u8::MAX),
        };
        Filter {
            protocol,
            protocol_mask,
            first: self.first,
            span: self.last.saturating_sub(self.first),
        }
    }

    #[inline(always)]
    pub(super) fn takes(&self, protocol: u8, port: Option<u16>) -> bool {
        let is_protocol = match self.protocol {
            Protocol::Any => true,
            Protocol::Number(number) => number == protocol,
        };
        is_protocol
            && match port {
                Some(port) => self.first <= port && port <= self.last,
                None => self.takes_all(),
            }
    }
}

/// Which packets an entry takes that have ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    protocol: u8,
    protocol_mask: u8,
    first: u16,
    /// Ports after the first.
    span: u16,
}

impl Filter {
    #[inline(always)]
    pub(super) fn takes(self, protocol: u8, port: u16) -> bool {
        (protocol ^ self.protocol) & self.protocol_mask == 0
            && port.wrapping_sub(self.first) <= self.span
    }
}

/// Servers of one mode.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(super) table: Arc<Maglev>,
    /// What its name adds to a hash.
    pub(super) salt: u64,
    pub(super) mode: Mode,
    /// Numbers of its source addresses.
    pub(super) sources: Box<[u16]>,
    pub(super) when_down: WhenDown,
}

/// A server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) number: u16,
    pub(super) pool: u16,
    pub(super) state: State,
    pub(super) address: [u8; 16],
    /// Index of its next hop.
    pub(crate) next_hop: u32,
    /// Packets are sent to its address, and to this port unless it is 0; `None`: they stay as they are.
    pub(super) translated: Option<u16>,
}

impl Server {
    /// Its port, where it is not the service's.
    pub(super) fn port(&self) -> Option<u16> {
        self.translated.filter(|port| *port != 0)
    }

    /// What takes the place of the service, if anything does.
    #[inline(always)]
    pub(crate) fn end(&self) -> Option<End> {
        self.translated.map(|port| End {
            address: self.address,
            port: (port != 0).then_some(port),
        })
    }
}

/// A source address of full NAT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(super) address: [u8; 16],
    pub(super) words: Words,
    pub(super) change: Change,
}

impl Source {
    pub(super) fn new(address: Ipv6Addr) -> Self {
        let address = address.octets();
        Self {
            address,
            words: words(&address),
            change: Change::of(checksum::sum(&address)),
        }
    }
}

/// Everything of steering one version of the tables knows.
#[derive(Debug)]
pub(crate) struct Steer {
    pub(super) addresses: Box<[Address]>,
    pub(super) pools: Box<[Pool]>,
    pub(super) splits: Box<[Split]>,
    pub(super) limits: Box<[Limits]>,
    /// By place.
    pub(super) servers: Box<[Option<Server>]>,
    /// Of those that keep flows what one more packet of these needs, by place.
    pub(super) ready: Box<[Ready; SERVERS_MAX]>,
    /// What is put before packets to each, by place; `None`: nothing.
    pub(super) tunnels: Box<[Option<Tunnel>]>,
    pub(crate) returns: Returns,
    /// Source addresses by number.
    pub(super) sources: Box<[Option<Source>]>,
    pub(super) flows: u32,
    pub(super) seed: u64,
    pub(super) clock: Clock,
    pub(crate) answers: Answers,
}

/// What a packet is remembered by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// The flow's hash, the same on every box.
    pub(super) hash: u64,
    /// Where this box remembers it.
    pub(super) spot: u64,
    /// The hash of its fragments, to remember the server by as well.
    pub(super) fragments: Option<NonZeroU64>,
    pub(super) pool: u16,
    /// Which of [`Steer::limits`] holds if it begins a flow, from 1; 0: none.
    pub(super) limit: u16,
    pub(super) role: Role,
}

impl Steer {
    /// The moment of a batch.
    #[inline(always)]
    pub(crate) fn now(&self) -> u16 {
        self.clock.0.load(Relaxed) as u16 // `as`: it wraps
    }

    /// What is put before packets to the server with this number, if anything is.
    #[inline(always)]
    pub(crate) fn tunnel(&self, number: u16) -> Option<&Tunnel> {
        self.tunnels.get(place_of(number))?.as_ref()
    }

    #[inline(always)]
    pub(crate) fn mode(&self, server: &Server) -> Option<Mode> {
        self.pools
            .get(usize::from(server.pool))
            .map(|pool| pool.mode)
    }

    /// A source address.
    #[inline(always)]
    pub(super) fn source(&self, number: u16) -> Option<&Source> {
        self.sources.get(usize::from(number))?.as_ref()
    }

    /// Which pool a packet to a service address goes to, and what it is remembered by.
    ///
    /// # Errors
    /// Why it goes to none.
    #[inline(always)]
    pub(crate) fn key(&self, address: u32, read: &Read, packet: &[u8]) -> Result<Key, DropReason> {
        let address = self.addresses.get(address as usize); // `as`: u32 to index
        let address = address.ok_or(DropReason::SteerNoService)?;
        if read.role == Role::Later {
            return self.key_of_later(address, read, packet);
        }
        let mut entries = address.entries.iter();
        let entry = entries.find(|entry| entry.takes(read.protocol, read.port));
        let entry = entry.ok_or(match read.role {
            Role::Error => DropReason::SteerQuote,
            _ => DropReason::SteerNoService,
        })?;
        let pool = if entry.split == 0 {
            entry.pool
        } else {
            self.split(entry, read, packet)
        };
        let by_flow = entry.affinity == Affinity::Flow;
        let fragments = read.fragment.filter(|_| by_flow);
        let (hash, spot) = if by_flow {
            (read.flow(), read.spot(self.seed))
        } else {
            let hash = self.by_source(pool, read);
            (hash, scatter(hash, self.seed))
        };
        // What goes on without being remembered began long ago.
        let begins = !by_flow || matches!(read.role, Role::Opens | Role::Datagram);
        Ok(Key {
            hash,
            spot,
            pool,
            limit: if begins { entry.limit } else { 0 },
            // Everything of a source is one flow, which no connection of it ends.
            role: if by_flow || read.role == Role::Error {
                read.role
            } else {
                Role::Goes
            },
            fragments: fragments.and_then(|id| NonZeroU64::new(self.spot_of_fragments(read, id))),
        })
    }

    /// The pool of a client that may have another one than most.
    #[cold]
    fn split(&self, entry: &Entry, read: &Read, packet: &[u8]) -> u16 {
        let split = self.splits.get(usize::from(entry.split).wrapping_sub(1));
        let client = flow::client(read, packet).map(Ipv6Addr::from);
        let chosen = split.zip(client).and_then(|(split, client)| {
            let mut pools = split.0.iter();
            pools.find(|(prefix, _)| prefix.contains(&client))
        });
        chosen.map_or(entry.pool, |(_, pool)| *pool)
    }

    #[cold]
    fn key_of_later(
        &self,
        address: &Address,
        read: &Read,
        packet: &[u8],
    ) -> Result<Key, DropReason> {
        let chosen = address
            .by_source
            .map(|entry| (self.split(&entry, read, packet), entry.limit));
        let mut limit = 0;
        let (hash, pool, role) = match (chosen, read.fragment) {
            (Some((pool, of_service)), Some(_)) => {
                limit = of_service;
                (self.by_source(pool, read), pool, Role::Goes)
            }
            (Some((pool, _)), None) => (self.by_source(pool, read), pool, Role::Error),
            (None, Some(id)) => (read.fragments(id), 0, Role::Later),
            (None, None) => return Err(DropReason::SteerQuote),
        };
        Ok(Key {
            hash,
            spot: scatter(hash, self.seed),
            pool,
            limit,
            role,
            fragments: None,
        })
    }

    #[inline(always)]
    pub(super) fn by_source(&self, pool: u16, read: &Read) -> u64 {
        read.source(
            self.pools
                .get(usize::from(pool))
                .map_or(0, |pool| pool.salt),
        )
    }

    /// The server with this number, if there is still one.
    #[inline(always)]
    pub(crate) fn server(&self, number: u16) -> Option<&Server> {
        let server = self.servers.get(place_of(number))?.as_ref();
        server.filter(|server| server.number == number)
    }

    /// The server of a packet of `bytes`: the one its flow went to, else the one that the table says.
    ///
    /// # Errors
    /// Why there is none.
    #[inline(always)]
    pub(crate) fn choose(
        &self,
        memory: &Memory,
        key: &Key,
        now: u16,
        bytes: usize,
        counters: &WorkerCounters,
    ) -> Result<&Server, DropReason> {
        let found = memory.find(key.spot, self.flows, now);
        let known =
            found.and_then(|found| self.server(found.server()).map(|server| (found, server)));
        let server = match known {
            Some((found, server))
                if (server.pool == key.pool || self.may_have(key, server))
                    && server.state.keeps_flows()
                    && (key.role != Role::Opens || server.state == State::Up) =>
            {
                if key.role != Role::Error {
                    found.renew(stage(found.stage(), key.role), now);
                }
                server
            }
            _ if key.role == Role::Later => return Err(DropReason::SteerFragment),
            _ => self.choose_anew(memory, key, now, counters)?,
        };
        if let Some(fragments) = key.fragments {
            self.remember_fragments(memory, fragments.get(), server.number, now, counters);
        }
        count_packet(server.number, bytes, counters);
        Ok(server)
    }

    /// Whether a packet may belong to a server that is not of its pool.
    #[cold]
    fn may_have(&self, key: &Key, server: &Server) -> bool {
        key.role == Role::Later
            || self
                .pools_from(key.pool)
                .any(|(number, _)| number == server.pool)
    }

    /// A pool, and those that take its place one after the other.
    pub(super) fn pools_from(&self, first: u16) -> impl Iterator<Item = (u16, &Pool)> {
        let mut next = Some(first);
        let pools = std::iter::from_fn(move || {
            let number = next.take()?;
            let pool = self.pools.get(usize::from(number))?;
            if let WhenDown::Fallback(fallback) = pool.when_down {
                next = u16::try_from(fallback).ok();
            }
            Some((number, pool))
        });
        // They are no circle; but if they were, nobody shall wait.
        pools.take(self.pools.len())
    }

    /// Whether clients are told that no server takes their flows.
    pub(crate) fn refuses(&self, key: &Key) -> bool {
        let last = self.pools_from(key.pool).last();
        last.is_none_or(|(_, pool)| pool.when_down != WhenDown::Drop)
    }

    /// The flow is not remembered any more.
    #[cold]
    pub(crate) fn forget(&self, memory: &Memory, key: &Key, now: u16) {
        if let Some(found) = memory.find(key.spot, self.flows, now) {
            found.forget();
        }
    }

    /// By the table, and remembered.
    #[inline(never)]
    fn choose_anew(
        &self,
        memory: &Memory,
        key: &Key,
        now: u16,
        counters: &WorkerCounters,
    ) -> Result<&Server, DropReason> {
        let found = memory.find(key.spot, self.flows, now);
        if let Some(found) = found
            && matches!(key.role, Role::Goes | Role::Ends)
            && let Some(before) = self.server(found.server())
            && before.state == State::Cut
        {
            return Err(DropReason::SteerCut);
        }
        let mut pools = self.pools_from(key.pool);
        let number = pools.find_map(|(_, pool)| pool.table.lookup(key.hash));
        let server = number.and_then(|number| self.server(number));
        let server = server.ok_or(DropReason::SteerNoServer)?;
        if key.role == Role::Error {
            return Ok(server);
        }
        if let Some(found) = found {
            found.move_to(server.number, Stage::New, now);
            if key.role != Role::Opens {
                counters.steer.moved.add(1);
            }
        } else {
            if let Some(number) = usize::from(key.limit).checked_sub(1)
                && let Some(limits) = self.limits.get(number)
            {
                memory.limits.begin(number, limits, now)?;
            }
            let kept = self.keep(memory, key.spot, server.number, Stage::New, now, counters);
            if kept == Kept::Full && key.role != Role::Opens {
                // It may have begun long ago.
                return Ok(server);
            }
        }
        count_flow(server, counters);
        Ok(server)
    }

    #[cold]
    pub(super) fn remember_fragments(
        &self,
        memory: &Memory,
        hash: u64,
        value: u16,
        now: u16,
        counters: &WorkerCounters,
    ) {
        count_kept(memory.keep_first(hash, self.flows, value, now), counters);
    }

    /// Where a packet's fragments are remembered.
    pub(super) fn spot_of_fragments(&self, read: &Read, id: u32) -> u64 {
        scatter(read.fragments(id), self.seed)
    }

    /// Whether the first one of the fragments that are remembered there has come.
    pub(crate) fn has_first(&self, memory: &Memory, spot: u64) -> bool {
        memory.find(spot, self.flows, self.now()).is_some()
    }

    pub(super) fn keep(
        &self,
        memory: &Memory,
        hash: u64,
        value: u16,
        stage: Stage,
        now: u16,
        counters: &WorkerCounters,
    ) -> Kept {
        let kept = memory.keep(hash, self.flows, value, stage, now);
        count_kept(kept, counters);
        kept
    }
}

/// What was to be remembered was, or not.
fn count_kept(kept: Kept, counters: &WorkerCounters) {
    match kept {
        Kept::Free => {}
        Kept::Displaced => counters.steer.displaced.add(1),
        Kept::Full => counters.steer.stateless.add(1),
    }
}

/// A packet goes to the server with this number.
#[inline(always)]
pub(crate) fn count_packet(number: u16, bytes: usize, counters: &WorkerCounters) {
    count_packet_in(number, bytes, &counters.servers);
}

/// The same for a loop that keeps at hand where counters are.
#[inline(always)]
pub(crate) fn count_packet_in(number: u16, bytes: usize, servers: &ServerTable) {
    let of_server = &servers[place_of(number)];
    of_server.traffic.packets.add(1);
    of_server.traffic.bytes.add(bytes as u64); // `as`: a frame's length
}

/// A flow begins with this server, or comes from another.
pub(super) fn count_flow(server: &Server, counters: &WorkerCounters) {
    if let Some(of_server) = counters.servers.get(place_of(server.number)) {
        of_server.flows.add(1);
    }
}

/// How far a remembered flow is when one more packet comes.
#[inline(always)]
pub(super) fn stage(known: Stage, role: Role) -> Stage {
    match (known, role) {
        (_, Role::Ends) => Stage::Ended,
        // A connection that was over begins again.
        (_, Role::Opens) => match known {
            Stage::Connected => Stage::Connected,
            _ => Stage::New,
        },
        (Stage::Ended, Role::Goes) => Stage::Ended,
        (_, Role::Goes) => Stage::Connected,
        (_, Role::Datagram) => Stage::Datagrams,
        (known, Role::Error | Role::Later) => known,
    }
}
