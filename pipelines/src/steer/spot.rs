//! The short way of steering: what finds the server of one more packet of a flow that goes on, and nothing else.
//!
//! Whatever is not common about a packet, its service or its flow is found out by [`Steer::key`] and [`Steer::choose`].

use dataplane::counters::WorkerCounters;
use dataplane::reason::DropReason;
use dataplane::wire::checksum::{self, Change};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ethernet, tcp, udp};

use super::flow::{self, Role};
use super::memory::{Lines, Memory, Stage};
use super::rewrite::End;
use super::sessions::{Guesses, Sessions};
use super::spec::{Affinity, Mode, SERVERS_MAX};
use super::view::{Entry, Filter, Server, Steer, place_of};
use crate::fib::NextHop;
use crate::lisp::flow::{Hashed, HashedTo};

/// Bytes of the shortest packet that is common: IPv6 and UDP.
pub(crate) const SHORTEST: usize = ipv6::HEADER_LEN + udp::HEADER_LEN;

/// How packets of an entry are steered as long as they are common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By what is remembered, and as they are.
    Plain,
    /// By what is remembered, and to the server's address.
    Translated,
    /// By what is remembered, and in one of ours.
    Encapsulated,
    /// By a session, which says both ends.
    Session,
    /// None is common.
    Odd,
}

impl Way {
    /// That of an entry whose pool has this mode.
    pub(super) fn of(entry: &Entry, mode: Option<Mode>) -> Self {
        let is_common = entry.affinity == Affinity::Flow && entry.split == 0;
        match mode {
            Some(Mode::L2) if is_common => Self::Plain,
            Some(Mode::Dnat { .. }) if is_common => Self::Translated,
            Some(Mode::FullNat { .. }) if is_common => Self::Session,
            Some(Mode::Ip6Ip6 { .. } | Mode::IpIp { .. } | Mode::Gue { .. }) if is_common => {
                Self::Encapsulated
            }
            _ => Self::Odd,
        }
    }
}

/// What a common packet says of its flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// Where it is remembered.
    pub(crate) hash: u64,
    /// Of packets to be encapsulated: the flow's hash, the same on every box.
    pub(crate) flow: u64,
    pub(crate) role: Role,
}

/// Where a common packet's flow is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) sight: Sight,
    len: u32,
    pub(crate) pool: u16,
    pub(crate) way: Way,
}

impl Spot {
    /// No packet's.
    pub(crate) const NONE: Self = Self {
        sight: Sight {
            hash: 0,
            flow: 0,
            role: Role::Later,
        },
        len: 0,
        pool: 0,
        way: Way::Odd,
    };

    /// Bytes of the frame.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len as usize // `as`: u32 to usize
    }
}

/// A server that keeps the flows it has, and all that one more packet of them needs: one cache line, the first half of which
/// does for a packet that is not translated.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Ready {
    /// Its number and, above, its pool; 0: there is none.
    who: u32,
    /// Index of its next hop, of which the rest of this half is a copy.
    pub(crate) next_hop: u32,
    /// [`NextHop::marks`].
    pub(crate) marks: u64,
    /// [`NextHop::plain_link`].
    pub(crate) link: [u8; ethernet::HEADER_LEN],
    /// [`NextHop::express_max_untranslated`].
    pub(crate) most: u16,
    /// Of one that is translated to: what its packets are sent to, and what the address adds to a sum.
    address: [u8; 16],
    change: Change,
    /// 0: the packet's.
    port: u16,
    is_translated: bool,
}

impl Ready {
    const NONE: Self = Self {
        who: 0,
        next_hop: 0,
        marks: 0,
        link: [0; ethernet::HEADER_LEN],
        most: 0,
        address: [0; 16],
        change: Change::NONE,
        port: 0,
        is_translated: false,
    };

    /// No server.
    pub(super) fn none() -> Box<[Self; SERVERS_MAX]> {
        Box::new([Self::NONE; SERVERS_MAX])
    }

    /// Its number.
    #[inline(always)]
    pub(crate) fn number(&self) -> u16 {
        self.who as u16 // `as`: the lower half
    }

    #[inline(always)]
    fn who(number: u16, pool: u16) -> u32 {
        u32::from(number) | u32::from(pool) << 16
    }

    /// By place.
    fn all(servers: &[Option<Server>], next_hops: &[NextHop]) -> Box<[Self; SERVERS_MAX]> {
        let ready = |server: &Option<Server>| {
            let server = server.filter(|server| server.state.keeps_flows())?;
            let next_hop = next_hops.get(server.next_hop as usize)?; // `as`: u32 to index
            Some(Self {
                who: Self::who(server.number, server.pool),
                next_hop: server.next_hop,
                marks: next_hop.marks,
                link: *next_hop.plain_link(),
                most: next_hop.express_max_untranslated,
                address: server.address,
                change: Change::of(checksum::sum(&server.address)),
                port: server.translated.unwrap_or(0),
                is_translated: server.translated.is_some(),
            })
        };
        let mut all = Self::none();
        for (place, server) in all.iter_mut().zip(servers) {
            *place = ready(server).unwrap_or(Self::NONE);
        }
        all
    }

    /// What takes the place of the service, and what its address adds to a sum, if anything does.
    #[inline(always)]
    pub(crate) fn end(&self) -> Option<(End, Change)> {
        let end = End {
            address: self.address,
            port: (self.port != 0).then_some(self.port),
        };
        self.is_translated.then_some((end, self.change))
    }
}

/// How far a flow is that such packets neither begin nor end.
#[inline(always)]
pub(super) fn steady_stage(role: Role) -> Option<Stage> {
    match role {
        Role::Goes => Some(Stage::Connected),
        Role::Datagram => Some(Stage::Datagrams),
        _ => None,
    }
}

/// What is the same for all packets of a burst.
#[derive(Clone, Copy)]
pub(crate) struct Scout<'a> {
    steer: &'a Steer,
    memory: &'a Memory,
    sessions: &'a Sessions,
}

impl<'a> Scout<'a> {
    #[inline(always)]
    pub(crate) fn new(steer: &'a Steer, memory: &'a Memory) -> Self {
        Self {
            steer,
            memory,
            sessions: memory.sessions(),
        }
    }

    /// What is the same for all packets to the first service of an address, which is `service`; `None`: none of them is
    /// common.
    #[inline(always)]
    pub(crate) fn aim(&self, address: u32, service: &[u8; 16]) -> Option<Aim<'a>> {
        let address = self.steer.addresses.get(address as usize)?; // `as`: u32 to index
        let entry = address.first.filter(|entry| entry.way != Way::Odd)?;
        let flows = self.steer.flows;
        let lines = match entry.way {
            Way::Session => self.sessions.lines(flows),
            _ => self.memory.lines(flows),
        };
        Some(Aim {
            entry,
            filter: entry.filter(),
            to: HashedTo::new(flow::SEED, service),
            seed: self.steer.seed,
            lines,
        })
    }

    /// Where to look for the flow of an IPv6 packet to a service address, which is behind `L3` bytes of this frame; `None`:
    /// it is not common.
    #[inline(always)]
    pub(crate) fn spot<const L3: usize>(&self, address: u32, frame: &[u8]) -> Option<Spot> {
        let address = self.steer.addresses.get(address as usize)?; // `as`: u32 to index
        let common = Common::of::<L3>(frame)?;
        let entry = address.entry_of(common.protocol, common.port())?;
        let sight = common.sight(entry, self.steer.seed)?;
        Some(Spot {
            sight,
            len: frame.len() as u32, // `as`: a frame's length
            pool: entry.pool,
            way: entry.way,
        })
    }

    /// What is remembered of it is waited for while others are looked for.
    #[inline(always)]
    pub(crate) fn prefetch(&self, spot: &Spot) {
        let flows = self.steer.flows;
        match spot.way {
            Way::Session => self.sessions.prefetch(spot.sight.hash, flows),
            _ => self.memory.prefetch(spot.sight.hash, flows),
        }
    }
}

/// Where the flows of one service are remembered.
#[derive(Clone, Copy)]
pub(crate) struct Aim<'a> {
    entry: Entry,
    filter: Filter,
    to: HashedTo,
    seed: u64,
    lines: Lines<'a>,
}

impl Aim<'_> {
    /// How all its packets go.
    #[inline(always)]
    pub(crate) fn way(&self) -> Way {
        self.entry.way
    }

    /// Whose servers take them.
    #[inline(always)]
    pub(crate) fn pool(&self) -> u16 {
        self.entry.pool
    }

    /// What is remembered there is waited for.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.lines.prefetch(hash);
    }

    /// What a packet to that service says of its flow;
    /// `None`: it is not common. What is `SEALED` is encapsulated, and needs [`Sight::flow`]; what is `REWRITTEN` is
    /// translated, and needs a checksum.
    #[inline(always)]
    pub(crate) fn sight<const L3: usize, const SEALED: bool, const REWRITTEN: bool>(
        &self,
        frame: &[u8],
    ) -> Option<Sight> {
        let common = Common::of::<L3>(frame)?;
        let is_common = self.filter.takes(common.protocol, common.port())
            && (common.has_checksum || !REWRITTEN);
        if !is_common {
            return None;
        }
        let source = common.header[8..].first_chunk().expect("16 of 48 bytes");
        let addresses = self.to.from(flow::SEED, source);
        let last = flow::last_of(common.protocol, common.ports);
        Some(Sight {
            hash: addresses.scattered(last, self.seed),
            flow: if SEALED { addresses.with(last) } else { 0 },
            role: common.role,
        })
    }
}

/// Flows that go on, of which a packet came in this second: nothing is to be written about one more.
#[derive(Clone, Copy)]
pub(crate) struct GoesOn<'a> {
    lines: Lines<'a>,
    ready: &'a [Ready; SERVERS_MAX],
    now: u16,
}

impl<'a> GoesOn<'a> {
    /// The server of the flow that is remembered there, if it is one of them, and of that pool.
    #[inline(always)]
    pub(crate) fn server_of(&self, hash: u64, role: Role, pool: u16) -> Option<&'a Ready> {
        self.ready(self.recall(hash, role)?, pool)
    }

    /// The number of the server to which the flow went that is remembered there, if it is one of them.
    #[inline(always)]
    pub(crate) fn recall(&self, hash: u64, role: Role) -> Option<u16> {
        let stage = steady_stage(role)?;
        self.lines.steady(hash, stage, self.now)
    }

    /// The next hop to the server with this number, which is [`GoesOn::ready`].
    #[inline(always)]
    pub(crate) fn next_hop_of(&self, number: u16) -> u32 {
        self.ready[place_of(number)].next_hop
    }

    /// The server with this number, of any pool.
    #[inline(always)]
    pub(crate) fn ready_of(&self, number: u16) -> Option<&'a Ready> {
        let ready = &self.ready[place_of(number)];
        (ready.number() == number).then_some(ready)
    }

    /// The server with this number, if it is of that pool.
    #[inline(always)]
    pub(crate) fn ready(&self, number: u16, pool: u16) -> Option<&'a Ready> {
        let ready = &self.ready[place_of(number)];
        (ready.who == Ready::who(number, pool)).then_some(ready)
    }
}

/// What the headers of a common packet say.
struct Common<'f> {
    header: &'f [u8; SHORTEST],
    protocol: u8,
    role: Role,
    /// Both, as they stand there.
    ports: [u8; 4],
    has_checksum: bool,
}

impl<'f> Common<'f> {
    #[inline(always)]
    fn of<const L3: usize>(frame: &'f [u8]) -> Option<Self> {
        let header = frame.get(L3..)?.first_chunk::<SHORTEST>()?;
        let [.., a, b, c, d, _, _, checksum_a, checksum_b] = *header;
        let protocol = header[6];
        let (role, has_checksum) = if protocol == proto::TCP {
            let segment = frame.get(L3 + ipv6::HEADER_LEN..)?;
            let segment = segment.first_chunk::<{ tcp::HEADER_LEN }>()?;
            (flow::role_of_tcp(segment[tcp::FLAGS_OFFSET]), true)
        } else if protocol == proto::UDP {
            (Role::Datagram, [checksum_a, checksum_b] != [0, 0])
        } else {
            return None;
        };
        Some(Self {
            header,
            protocol,
            role,
            ports: [a, b, c, d],
            has_checksum,
        })
    }

    /// The service's.
    #[inline(always)]
    fn port(&self) -> u16 {
        let [.., c, d] = self.ports;
        u16::from_be_bytes([c, d])
    }

    /// What it says of its flow, if packets like it are common by that entry.
    #[inline(always)]
    fn sight(self, entry: &Entry, seed: u64) -> Option<Sight> {
        let way = entry.way;
        if way == Way::Odd || !self.has_checksum && matches!(way, Way::Translated | Way::Session) {
            return None;
        }
        let addresses = Hashed::new(flow::SEED, &self.header[8..]);
        let last = flow::last_of(self.protocol, self.ports);
        let flow = match way {
            Way::Encapsulated => addresses.with(last),
            _ => 0,
        };
        Some(Sight {
            hash: addresses.scattered(last, seed),
            flow,
            role: self.role,
        })
    }
}

impl Steer {
    /// Copy what packets of flows that go on need of next hops.
    pub(crate) fn prepare(&mut self, next_hops: &[NextHop]) {
        self.ready = Ready::all(&self.servers, next_hops);
    }

    /// Where sessions are whose index has come.
    #[inline(always)]
    pub(crate) fn guesses<'a>(&self, memory: &'a Memory) -> Guesses<'a> {
        memory.sessions().guesses(self.flows)
    }

    /// What tells flows that go on.
    #[inline(always)]
    pub(crate) fn goes_on<'a>(&'a self, memory: &'a Memory, now: u16) -> GoesOn<'a> {
        GoesOn {
            lines: memory.lines(self.flows),
            ready: &self.ready,
            now,
        }
    }

    /// The server of any other packet that is common.
    ///
    /// # Errors
    /// Why there is none.
    #[inline(never)]
    pub(crate) fn choose_for(
        &self,
        memory: &Memory,
        (address, packet): (u32, &[u8]),
        now: u16,
        bytes: usize,
        counters: &WorkerCounters,
    ) -> Result<&Server, DropReason> {
        let read = flow::read_common(packet).ok_or(DropReason::SteerHeaders)?;
        let key = self.key(address, &read, packet)?;
        self.choose(memory, &key, now, bytes, counters)
    }
}
