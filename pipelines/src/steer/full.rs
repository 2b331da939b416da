//! Full NAT: a packet to a service goes on to a server from one of our source addresses, with a port that stands for its
//! client, so that what the server answers comes to us wherever it is.
//!
//! Both directions find the flow in [`super::sessions`]; here is what is read of a packet, and what becomes of it. What
//! clients send is judged before it is translated, so that an error quotes what was sent. What servers answer is looked up
//! once more when it is translated: an error of ours about it is then one about what the service sent, and goes the way of
//! every such error, back through here to its server.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::reason::DropReason;
use dataplane::wire::checksum::Change;
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6, tcp};

use super::flow::{self, Read, Role};
use super::memory::{Memory, Stage};
use super::node;
use super::rewrite::{self, End, Ends, Whole};
use super::sessions::{Place, Session, Sessions, Taken, Target, Tuple};
use super::spec::{Mode, State};
use super::spot::steady_stage;
use super::view::{Key, Server, Steer, count_flow, count_packet, stage};
use crate::fib;
use crate::lisp::flow::{Hashed, has_ports, scatter};
use crate::meta::{Entry, Meta, Next};
use crate::tables::Tables;

mod answer;

/// Tells the hashes of answers' fragments from others.
const SEED: u64 = 0xbb67_ae85_84ca_a73b;
/// Tells what port fragments have from which server they go to.
const PORT_SALT: u64 = 0x3c6e_f372_fe94_f82b;

/// What leads a packet of a client to its server.
#[derive(Clone, Copy)]
pub(super) struct Outward<'a> {
    pub(super) tables: &'a Tables,
    pub(super) steer: &'a Steer,
    pub(super) memory: &'a Memory,
    pub(super) now: u16,
    pub(super) counters: &'a WorkerCounters,
}

impl Outward<'_> {
    /// Lead a packet on and translate it.
    ///
    /// # Errors
    /// Where it goes instead.
    pub(super) fn lead<F: Frame>(
        self,
        key: &Key,
        read: &Read,
        frame: &mut F,
        meta: &mut Meta,
    ) -> Result<(), Next> {
        let (steer, sessions) = (self.steer, &self.memory.sessions());
        let l3 = meta.l3_offset();
        let packet = frame.bytes().get(l3..).unwrap_or(&[]);
        let session = match read.role {
            Role::Later => Some(self.of_fragment(key, read, packet, meta)?),
            _ => {
                let tuple = tuple_of(packet, read)?;
                let spot = (read.spot(steer.seed), steer.flows);
                let found = sessions.find(spot, &tuple, self.now);
                if found.is_none() && (read.role == Role::Error || read.fragment.is_some()) {
                    self.ask_others(spot, &tuple, read, meta)?;
                }
                found.filter(|session| steer.source(session.place.source).is_some())
            }
        };
        if let Some(session) = &session
            && matches!(read.role, Role::Goes | Role::Ends)
            && let Some(server) = steer.server(session.target().number)
            && server.state == State::Cut
        {
            session.forget();
            return Err(match read.protocol {
                proto::TCP => Next::Reset(DropReason::SteerCut),
                _ => Next::Drop(DropReason::SteerCut),
            });
        }
        let kept = session.and_then(|session| {
            let server = steer.server(session.target().number)?;
            steer.keeps(server, read.role).then_some((session, server))
        });
        let (session, server) = match (kept, read.role) {
            (Some(kept), _) => {
                self.judge(kept.1, frame, meta)?;
                kept
            }
            (None, Role::Later) => return Err(Next::Drop(DropReason::SteerFragment)),
            // Nothing says which server it would be.
            (None, Role::Error) => return Err(Next::Drop(DropReason::SteerQuote)),
            (None, _) => self.begin(session, key, read, frame, meta)?,
        };
        if !matches!(read.role, Role::Error | Role::Later) {
            session.renew(stage(session.stage(), read.role), self.now);
        }
        count_packet(server.number, frame.bytes().len(), self.counters);
        self.remember(read, server.number, session.place.port);
        let with_ports = has_ports(session.tuple().protocol);
        let ends =
            outward(steer, &session, with_ports).ok_or(Next::Drop(DropReason::SteerNoFlow))?;
        let packet = frame.bytes_mut().get_mut(l3..).unwrap_or(&mut []);
        rewrite::translate(packet, &ends).map_err(Next::Drop)
    }

    /// What is in the way to this server.
    fn judge<F: Frame>(self, server: &Server, frame: &F, meta: &mut Meta) -> Result<(), Next> {
        meta.next_hop = server.next_hop;
        match fib::exceptional(self.tables, frame.bytes(), meta) {
            Next::Continue => Ok(()),
            next => Err(next),
        }
    }

    /// A flow that nobody knows, or whose server is gone: another server, and a port if it has none.
    fn begin<'a, F: Frame>(
        &'a self,
        known: Option<Session<'a>>,
        key: &Key,
        read: &Read,
        frame: &F,
        meta: &mut Meta,
    ) -> Result<(Session<'a>, &'a Server), Next> {
        let steer = self.steer;
        let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
        let tuple = tuple_of(packet, read)?;
        let is_translated = match read.protocol {
            proto::TCP | proto::UDP | proto::UDP_LITE => true,
            proto::ICMPV6 => is_echo_request(packet),
            _ => false,
        };
        if !is_translated {
            return Err(Next::Drop(DropReason::SteerProtocol));
        }
        // Nobody sends from there but us.
        let mut sources = steer.sources.iter().flatten();
        if sources.any(|source| source.address == tuple.client) {
            return Err(Next::Drop(DropReason::SteerNoFlow));
        }
        let server = steer
            .pick(self.memory, key, read, self.now, self.counters)
            .map_err(Next::Drop)?;
        self.judge(server, frame, meta)?;
        let target = Target {
            number: server.number,
            address: server.address,
            port: match has_ports(tuple.protocol) {
                true => server.port().unwrap_or(tuple.service_port),
                false => 0,
            },
        };
        if known.is_none()
            && let Some(number) = usize::from(key.limit).checked_sub(1)
            && let Some(limits) = steer.limits.get(number)
        {
            let begun = self.memory.limits.begin(number, limits, self.now);
            begun.map_err(Next::Drop)?;
        }
        count_flow(server, self.counters);
        if let Some(session) = known {
            session.move_to(&target, Stage::New, self.now);
            if read.role != Role::Opens {
                self.counters.steer.moved.add(1);
            }
            return Ok((session, server));
        }
        let no_port = Next::Drop(DropReason::SteerNoPort);
        let source = steer.source_for(key.pool, read).ok_or(no_port)?;
        let sessions = &self.memory.sessions();
        let spot = (read.spot(steer.seed), steer.flows);
        let place = match sessions.begin(spot, (&tuple, &target), source, self.now) {
            Taken::Free(place) => place,
            Taken::Displaced(place) => {
                self.counters.steer.displaced.add(1);
                place
            }
            Taken::Full => return Err(no_port),
        };
        let session = sessions.of_place(place, self.now).ok_or(no_port)?;
        Ok((session, server))
    }

    /// Whoever comes behind a first fragment has no ports: which server, and which port of ours, is remembered.
    fn remember(&self, read: &Read, server: u16, port: u16) {
        let steer = self.steer;
        if let Some(id) = read.fragment.filter(|_| read.role != Role::Later) {
            let spot = steer.spot_of_fragments(read, id);
            for (spot, value) in [(spot, server), (scatter(spot, PORT_SALT), port)] {
                steer.remember_fragments(self.memory, spot, value, self.now, self.counters);
            }
        }
    }

    /// Errors and fragments come to a worker by their addresses alone: if the flow is another's, it is handed over.
    #[cold]
    fn ask_others(
        &self,
        spot: (u64, u32),
        tuple: &Tuple,
        read: &Read,
        meta: &Meta,
    ) -> Result<(), Next> {
        let others = self.memory.sessions_of_others();
        let mut found = others.filter_map(|(worker, sessions)| {
            let session = sessions.find(spot, tuple, self.now)?;
            Some((worker, session))
        });
        match found.next() {
            Some((worker, session)) => {
                self.remember(read, session.target().number, session.place.port);
                Err(hand_over(worker, meta, DropReason::SteerQuote))
            }
            None => Ok(()),
        }
    }

    /// The flow of a fragment without ports: what its first one had.
    fn of_fragment(
        &self,
        key: &Key,
        read: &Read,
        packet: &[u8],
        meta: &Meta,
    ) -> Result<Session<'_>, Next> {
        let (steer, memory) = (self.steer, self.memory);
        let unknown = Next::Drop(DropReason::SteerFragment);
        let id = read.fragment.ok_or(Next::Drop(DropReason::SteerQuote))?;
        let spot = steer.spot_of_fragments(read, id);
        let pool = steer.pool_of_fragments(memory, spot, self.now);
        let source = steer
            .source_for(pool.unwrap_or(key.pool), read)
            .ok_or(unknown)?;
        let found = memory.find(scatter(spot, PORT_SALT), steer.flows, self.now);
        let port = found.ok_or(unknown)?.server();
        let shares = memory.sessions().shares();
        if !shares.is_own(port) {
            return Err(hand_over(
                shares.owner(port),
                meta,
                DropReason::SteerFragment,
            ));
        }
        let session = memory.sessions().of_place(Place { source, port }, self.now);
        let session = session.ok_or(unknown)?;
        let tuple = session.tuple();
        let is_same = packet.get(8..24) == Some(&tuple.client[..])
            && packet.get(24..40) == Some(&tuple.service[..]);
        if is_same { Ok(session) } else { Err(unknown) }
    }
}

impl Steer {
    /// Whether a packet with this key goes to its server by full NAT. Of a fragment without ports its first one tells.
    pub(super) fn is_full(&self, memory: &Memory, key: &Key, now: u16) -> bool {
        let pool = match key.role {
            Role::Later => self.pool_of_fragments(memory, key.spot, now),
            _ => Some(key.pool),
        };
        let pool = pool.and_then(|pool| self.pools.get(usize::from(pool)));
        pool.is_some_and(|pool| matches!(pool.mode, Mode::FullNat { .. }))
    }

    fn pool_of_fragments(&self, memory: &Memory, spot: u64, now: u16) -> Option<u16> {
        let number = memory.find(spot, self.flows, now)?.server();
        self.server(number).map(|server| server.pool)
    }

    /// Whether a flow stays with its server when such a packet comes.
    #[inline(always)]
    pub(super) fn keeps(&self, server: &Server, role: Role) -> bool {
        server.state.keeps_flows() && (role != Role::Opens || server.state == State::Up)
    }

    /// The server of a new flow: by the table, or that of its source.
    fn pick(
        &self,
        memory: &Memory,
        key: &Key,
        read: &Read,
        now: u16,
        counters: &WorkerCounters,
    ) -> Result<&Server, DropReason> {
        if key.hash != read.flow()
            && let Some(found) = memory.find(key.spot, self.flows, now)
            && let Some(server) = self.server(found.server())
            && self
                .pools_from(key.pool)
                .any(|(number, _)| number == server.pool)
            && self.keeps(server, Role::Goes)
        {
            found.renew(stage(found.stage(), key.role), now);
            return Ok(server);
        }
        let mut pools = self.pools_from(key.pool);
        let number = pools.find_map(|(_, pool)| pool.table.lookup(key.hash));
        let server = number.and_then(|number| self.server(number));
        let server = server.ok_or(DropReason::SteerNoServer)?;
        if key.hash != read.flow() {
            match memory.find(key.spot, self.flows, now) {
                Some(found) => found.move_to(server.number, Stage::New, now),
                None => {
                    self.keep(memory, key.spot, server.number, Stage::New, now, counters);
                }
            }
        }
        Ok(server)
    }

    /// The source address of everything a client sends to a pool (RFC 4787 REQ-2), by number.
    fn source_for(&self, pool: u16, read: &Read) -> Option<u16> {
        let sources = &self.pools.get(usize::from(pool))?.sources;
        let hash = self.by_source(pool, read) >> 32;
        let position = (hash * sources.len() as u64) >> 32; // `as`: widening; the product's upper half is below the length
        sources.get(position as usize).copied() // `as`: a position
    }
}

/// What both ends of a client's packet become.
fn outward(steer: &Steer, session: &Session<'_>, has_ports: bool) -> Option<Ends> {
    let target = session.target();
    Some(Ends {
        source: Some(End {
            address: steer.source(session.place.source)?.address,
            port: Some(session.place.port),
        }),
        destination: Some(End {
            address: target.address,
            port: has_ports.then_some(target.port),
        }),
    })
}

/// The same of one with ports.
#[inline(always)]
pub(crate) fn outward_whole(steer: &Steer, session: &Session<'_>) -> Option<Whole> {
    let source = steer.source(session.place.source)?;
    let (destination, port) = session.server();
    Some(Whole {
        source: source.words,
        destination,
        ports: [session.place.port, port],
        changes: [
            session.change(),
            source.change,
            Change::word(session.place.port),
        ],
    })
}

/// What both ends of an answer become.
fn homeward(tuple: &Tuple) -> Ends {
    Ends {
        source: Some(End {
            address: tuple.service,
            port: has_ports(tuple.protocol).then_some(tuple.service_port),
        }),
        destination: Some(End {
            address: tuple.client,
            port: Some(tuple.client_port),
        }),
    }
}

/// How far a flow is when its server answers. Only who asks again has a connection: what a server says to an opening is
/// said to floods too.
#[inline(always)]
pub(crate) fn answered(known: Stage, role: Role) -> Stage {
    match (known, role) {
        (Stage::New, Role::Datagram) => Stage::Datagrams,
        (Stage::New, _) => Stage::New,
        (_, Role::Ends) => Stage::Ended,
        (known, _) => known,
    }
}

/// To another worker, if it is still as it came; else it is dropped.
fn hand_over(worker: usize, meta: &Meta, reason: DropReason) -> Next {
    let is_as_it_came = meta.entry == Entry::Received && !meta.is_decapsulated;
    match u8::try_from(worker) {
        Ok(worker) if is_as_it_came => Next::HandOver(worker),
        _ => Next::Drop(reason),
    }
}

/// Where the flow of a common answer to source address `source` is; `None`: it is none.
#[inline(always)]
pub(crate) fn place_of(packet: &[u8], source: u32) -> Option<Place> {
    if !rewrite::is_common(packet) {
        return None;
    }
    let [high, low] = *packet.get(ipv6::HEADER_LEN + 2..)?.first_chunk()?;
    Some(Place {
        source: source as u16, // `as`: it was one
        port: u16::from_be_bytes([high, low]),
    })
}

/// What a common answer to source address `source` becomes, if its flow is known here.
#[inline(always)]
pub(crate) fn answer(
    steer: &Steer,
    memory: &Memory,
    source: u32,
    packet: &[u8],
    now: u16,
) -> Option<Whole> {
    let place = place_of(packet, source)?;
    let session = memory.sessions().of_place(place, now)?;
    let (tuple, target) = (session.tuple(), session.target());
    let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let port = u16::from_be_bytes(*payload.first_chunk()?);
    let is_from_server =
        (header[6], port) == (tuple.protocol, target.port) && header[8..24] == target.address;
    if !is_from_server {
        return None;
    }
    let role = match header[6] {
        proto::TCP => flow::role_of_tcp(*payload.get(tcp::FLAGS_OFFSET)?),
        _ => Role::Datagram,
    };
    let source = steer.source(place.source)?;
    session.renew(answered(session.stage(), role), now);
    let [client, service] = session.client_and_service();
    Some(Whole {
        source: service,
        destination: client,
        ports: [tuple.service_port, tuple.client_port],
        changes: [-session.change(), -source.change, -Change::word(place.port)],
    })
}

/// The flow of a common packet of a client at the place that was guessed, and its server, if it stays with it.
#[inline(always)]
pub(crate) fn known<'s>(
    steer: &'s Steer,
    memory: &'s Memory,
    (role, place): (Role, Place),
    packet: &[u8],
    now: u16,
) -> Option<(Session<'s>, &'s Server)> {
    let session = memory.sessions().guessed(place, packet)?;
    let steady = steady_stage(role).is_some_and(|stage| session.is_steady(stage, now));
    if !steady && !session.is_live(now) {
        return None;
    }
    let server = steer.server(session.number())?;
    if !steer.keeps(server, role) {
        return None;
    }
    if !steady {
        session.renew(stage(session.stage(), role), now);
    }
    Some((session, server))
}

/// The same as [`known`] without the server, for many packets of flows most of which had one in this second.
#[inline(always)]
pub(crate) fn kept<'s>(
    steer: &'s Steer,
    (memory, sessions): (&'s Memory, &'s Sessions),
    (role, place): (Role, Place),
    packet: &[u8],
    now: u16,
) -> Option<Session<'s>> {
    let session = sessions.guessed(place, packet)?;
    let is_steady = steady_stage(role).is_some_and(|stage| session.is_steady(stage, now));
    if is_steady {
        return Some(session);
    }
    kept_anew(steer, memory, (role, place), packet, now)
}

#[cold]
#[inline(never)]
fn kept_anew<'s>(
    steer: &'s Steer,
    memory: &'s Memory,
    (role, place): (Role, Place),
    packet: &[u8],
    now: u16,
) -> Option<Session<'s>> {
    let (session, _) = known(steer, memory, (role, place), packet, now)?;
    Some(session)
}

/// Translate what a server answers to its source address `source`; it is then looked up again.
pub(super) fn back<F: Frame>(
    steer: &Steer,
    (memory, now): (&Memory, u16),
    frame: &mut F,
    meta: &mut Meta,
    source: u32,
    counters: &WorkerCounters,
) -> Next {
    let unknown = Next::Drop(DropReason::SteerNoFlow);
    if meta.is_returned {
        return Next::Drop(DropReason::TranslationLoop);
    }
    let packet = frame.bytes_mut().get_mut(meta.l3_offset()..);
    let packet = packet.unwrap_or(&mut []);
    let answer = match answer::read(packet) {
        Ok(answer) => answer,
        Err(reason) => return Next::Drop(reason),
    };
    let spot = |id: u32| spot_of_fragments(steer, packet, id);
    let port = match (answer.port, answer.fragment) {
        (Some(port), None) => port,
        (Some(port), Some(id)) => {
            // Here too, if the others of it come by here and their flow is another worker's.
            steer.remember_fragments(memory, spot(id), port, now, counters);
            port
        }
        (None, id) => match id.and_then(|id| memory.find(spot(id), steer.flows, now)) {
            Some(found) => found.server(),
            None => return node::early(meta),
        },
    };
    let sessions = &memory.sessions();
    if !sessions.shares().is_own(port) {
        let owner = sessions.shares().owner(port);
        return hand_over(owner, meta, DropReason::SteerNoFlow);
    }
    let Ok(source) = u16::try_from(source) else {
        return unknown;
    };
    let Some(session) = sessions.of_place(Place { source, port }, now) else {
        return unknown;
    };
    let (tuple, target) = (session.tuple(), session.target());
    let is_from_server = (answer.server, answer.protocol) == (target.address, tuple.protocol)
        && (answer.port.is_none() || answer.server_port == target.port);
    if !is_from_server {
        return unknown;
    }
    if !matches!(answer.role, Role::Error | Role::Later) {
        session.renew(answered(session.stage(), answer.role), now);
    }
    if let Err(reason) = rewrite::translate(packet, &homeward(&tuple)) {
        return Next::Drop(reason);
    }
    meta.is_returned = true;
    Next::Again
}

/// Where the fragments of an answer are remembered.
fn spot_of_fragments(steer: &Steer, packet: &[u8], id: u32) -> u64 {
    let addresses = packet.get(8..40).unwrap_or(&[]);
    scatter(Hashed::new(SEED, addresses).with(u64::from(id)), steer.seed)
}

/// The same of one without ports.
pub(super) fn spot_of_answer(steer: &Steer, packet: &[u8]) -> Option<u64> {
    let answer = answer::read(packet).ok()?;
    let id = answer.fragment.filter(|_| answer.port.is_none())?;
    Some(spot_of_fragments(steer, packet, id))
}

fn tuple_of(packet: &[u8], read: &Read) -> Result<Tuple, Next> {
    flow::tuple(packet, read).ok_or(Next::Drop(DropReason::SteerHeaders))
}

fn is_echo_request(packet: &[u8]) -> bool {
    let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return false;
    };
    let upper = ext::walk(header[6], payload);
    upper.is_ok_and(|upper| payload.get(upper.offset) == Some(&icmpv6::types::ECHO_REQUEST))
}
