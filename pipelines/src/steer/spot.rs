//! The short way of steering: what finds the server of one more packet of a flow that goes on, and nothing else.
//!
//! Whatever is not common about a packet, its service or its flow is found out by [`Steer::key`] and [`Steer::choose`].

use dataplane::counters::WorkerCounters;
use dataplane::reason::DropReason;
use dataplane::wire::ipv6::proto;
use dataplane::wire::{tcp, udp};

use super::flow::{self, Role};
use super::memory::{Memory, Stage};
use super::sessions::Place;
use super::spec::{Affinity, Mode};
use super::view::{Entry, Server, Steer, place_of};
use crate::lisp::flow::{Hashed, scatter};

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

/// Where a common packet's flow is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    /// The flow's hash, the same on every box.
    pub(crate) flow: u64,
    /// The same as this box remembers it.
    hash: u64,
    pool: u16,
    pub(crate) role: Role,
    pub(crate) way: Way,
}

impl Spot {
    /// No packet's.
    pub(crate) const NONE: Self = Self {
        flow: 0,
        hash: 0,
        pool: 0,
        role: Role::Later,
        way: Way::Odd,
    };
}

/// A server that keeps the flows it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ready {
    /// 0: there is none.
    pub(crate) number: u16,
    pool: u16,
    /// Index of its next hop.
    pub(crate) next_hop: u32,
}

impl Ready {
    /// By place.
    pub(super) fn all(servers: &[Option<Server>]) -> Box<[Self]> {
        let ready = |server: &Option<Server>| {
            let server = server.filter(|server| server.state.keeps_flows());
            server.map_or(Self::default(), |server| Self {
                number: server.number,
                pool: server.pool,
                next_hop: server.next_hop,
            })
        };
        servers.iter().map(ready).collect()
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

impl Steer {
    /// Where to look for the flow of a packet to a service address; `None`: it is not common.
    #[inline(always)]
    pub(crate) fn spot(&self, address: u32, packet: &[u8]) -> Option<Spot> {
        let address = self.addresses.get(address as usize)?; // `as`: u32 to index
        let (head, rest) = packet.split_first_chunk::<44>()?; // as far as the ports
        let protocol = head[6];
        let has_checksum = match protocol {
            proto::UDP => rest.get(udp::CHECKSUM_OFFSET - 4..udp::HEADER_LEN - 4)? != [0, 0],
            proto::TCP => rest.len() >= tcp::HEADER_LEN - 4,
            _ => return None,
        };
        let role = if protocol == proto::TCP {
            flow::role_of_tcp(*rest.get(tcp::FLAGS_OFFSET - 4)?)
        } else {
            Role::Datagram
        };
        let [.., a, b, c, d] = *head;
        let port = u16::from_be_bytes([c, d]);
        let mut entries = address.entries.iter();
        let entry = entries.find(|entry| entry.takes(protocol, Some(port)))?;
        let is_translated = matches!(entry.way, Way::Translated | Way::Session);
        if entry.way == Way::Odd || is_translated && !has_checksum {
            return None;
        }
        let addresses = Hashed::new(flow::SEED, &head[8..]);
        let flow = addresses.with(flow::last_of(protocol, [a, b, c, d]));
        Some(Spot {
            flow,
            hash: scatter(flow, self.seed),
            pool: entry.pool,
            role,
            way: entry.way,
        })
    }

    /// What is remembered of it is waited for while others are looked for.
    #[inline(always)]
    pub(crate) fn prefetch(&self, memory: &Memory, spot: &Spot) {
        match spot.way {
            Way::Session => memory.sessions().prefetch(spot.hash, self.flows),
            _ => memory.prefetch(spot.hash, self.flows),
        }
    }

    /// The place of a session whose index has come, to be waited for.
    #[inline(always)]
    pub(crate) fn guess(&self, memory: &Memory, spot: &Spot) -> Option<Place> {
        let place = memory.sessions().guess(spot.hash, self.flows)?;
        memory.sessions().prefetch_place(place);
        Some(place)
    }

    /// The server of a flow that goes on, of which a packet came in this second. Nothing is to be written about one more.
    #[inline(always)]
    pub(crate) fn steady(&self, memory: &Memory, spot: &Spot, now: u16) -> Option<&Ready> {
        let stage = steady_stage(spot.role)?;
        let number = memory.steady(spot.hash, self.flows, stage, now)?;
        let ready = self.ready.get(place_of(number))?;
        ((ready.number, ready.pool) == (number, spot.pool)).then_some(ready)
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
