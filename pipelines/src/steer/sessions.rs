//! Which client a port of ours stands for: what one worker knows of flows by full NAT.
//!
//! A source address of a pool has 65,536 ports, and each worker the same share of them, by their upper bits: so a port
//! alone tells who owns its flow ([`Shares`]). A worker that gets what may belong to another's flow and has no port of ours
//! on it, an error or a fragment, looks into theirs, and hands it over. A flow is one cache line, found in two ways:
//! what servers answer names its place, source address and port, without any search; what clients send finds it by the hash
//! of the flow, in an index whose lines have eight slots. An index slot is half of the hash and the place, and only right
//! when that place says the same flow, so nothing has to be tidied up.
//!
//! Bounded, and never scanned: a new flow takes a port that nobody has, or whose time is over, else one of a flow of
//! which only one packet came, and else none: it is refused. So a flood of openings displaces other openings alone.
//!
//! Key: addresses, ports and protocol; 64 bytes a flow, and 16 of the index. Written by one worker alone; whoever else reads
//! may find a flow half written, and only decides by it where a packet is looked at again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use dataplane::prefetch;
use dataplane::table::region::{Line, Region};
use dataplane::table::slots::Slots;
use dataplane::wire::checksum::{self, Change, Sum};

use super::memory::{LINES_BITS, Lines, SLOTS, Stage};
use crate::words::{Words, joined};

/// Most source addresses of all pools together.
pub(crate) const SOURCES_MAX: usize = 1 << SOURCES_BITS;
const SOURCES_BITS: u32 = 5;
/// Places of one worker.
const PLACES_BITS: u32 = 16 + SOURCES_BITS;
/// Ports that are tried for a new flow.
const TRIES: u32 = 16;
/// Ports below this one are never taken (RFC 6056 3.2).
const PORT_MIN: u32 = 1024;

/// Who owns which ports: each worker the same number of them, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    worker: u32,
    workers: u32,
}

impl Shares {
    /// Those of worker `worker` of `workers`.
    pub(crate) fn new(worker: usize, workers: usize) -> Self {
        let number = |count: usize| u32::try_from(count).expect("few workers");
        Self {
            worker: number(worker),
            workers: number(workers.max(1)),
        }
    }

    /// The worker that owns this port.
    #[inline(always)]
    pub(crate) fn owner(self, port: u16) -> usize {
        ((u32::from(port) * self.workers) >> 16) as usize // `as`: below the number of workers
    }

    #[inline(always)]
    pub(crate) fn is_own(self, port: u16) -> bool {
        self.owner(port) == self.worker as usize // `as`: u32 to index
    }

    /// Own ports: the first, and how many.
    fn own(self) -> (u32, u32) {
        let first = |worker: u32| (worker << 16).div_ceil(self.workers);
        let start = first(self.worker).max(PORT_MIN);
        (start, first(self.worker + 1).saturating_sub(start))
    }
}

/// What a client sends by: the key of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) client: [u8; 16],
    pub(crate) service: [u8; 16],
    /// Of an echo the identifier.
    pub(crate) client_port: u16,
    pub(crate) service_port: u16,
    pub(crate) protocol: u8,
}

/// A server by its number, address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) number: u16,
    pub(crate) address: [u8; 16],
    pub(crate) port: u16,
}

/// Where a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the source address.
    pub(crate) source: u16,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn number(self) -> u32 {
        u32::from(self.source) << 16 | u32::from(self.port)
    }

    pub(crate) fn of(number: u32) -> Self {
        Self {
            source: (number >> 16) as u16, // `as`: both halves
            port: number as u16,
        }
    }
}

/// Why a flow gets no port, or whose it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// One that was free.
    Free(Place),
    /// That of a flow of which one packet came.
    Displaced(Place),
    /// None.
    Full,
}

/// A flow, in its place.
#[derive(Clone, Copy)]
pub(crate) struct Session<'s> {
    line: &'s Line,
    pub(crate) place: Place,
}

/// Words of a line: both addresses of the client's side, the server's, ports and number, and state.
const PORTS: usize = 6;
const STATE: usize = 7;

/// Where things stand in a state, above when the last packet came: how far the flow is, its protocol, what translation
/// changes in a checksum, and what is left of the upper half of the flow's hash.
const STAGE_AT: u32 = 16;
const PROTOCOL_AT: u32 = 19;
const CHANGE_AT: u32 = 27;
const SIGNATURE_AT: u32 = 43;
/// What of the upper half of a hash is left.
const SIGNATURE_SHIFT: u32 = SIGNATURE_AT - 32;

impl Session<'_> {
    #[inline(always)]
    fn word(&self, index: usize) -> u64 {
        self.line.0[index].load(Relaxed)
    }

    #[inline(always)]
    fn address(&self, index: usize) -> [u8; 16] {
        joined(self.pair(index))
    }

    /// The address that begins with this word.
    #[inline(always)]
    fn pair(&self, index: usize) -> Words {
        [self.word(index), self.word(index + 1)]
    }

    /// The client's and the service's address.
    #[inline(always)]
    pub(crate) fn client_and_service(&self) -> [Words; 2] {
        [self.pair(0), self.pair(2)]
    }

    /// The server's address and port.
    #[inline(always)]
    pub(crate) fn server(&self) -> (Words, u16) {
        (self.pair(4), (self.word(PORTS) >> 16) as u16) // `as`: 16 bits of it
    }

    #[inline(always)]
    pub(crate) fn tuple(&self) -> Tuple {
        let ports = self.word(PORTS);
        Tuple {
            client: self.address(0),
            service: self.address(2),
            client_port: (ports >> 48) as u16, // `as`: four of 16 bits
            service_port: (ports >> 32) as u16,
            protocol: self.protocol(),
        }
    }

    #[inline(always)]
    pub(crate) fn target(&self) -> Target {
        let ports = self.word(PORTS);
        Target {
            number: ports as u16, // `as`: four of 16 bits
            address: self.address(4),
            port: (ports >> 16) as u16,
        }
    }

    /// Whether a client's TCP or UDP packet, with nothing between the headers, is of this flow.
    #[inline(always)]
    pub(crate) fn is_of(&self, packet: &[u8]) -> bool {
        let Some(head) = packet.first_chunk::<44>() else {
            return false;
        };
        let [high, low] = [head[40..].first_chunk(), head[42..].first_chunk()];
        let ports = high.zip(low).map(|(client, service)| {
            u32::from(u16::from_be_bytes(*client)) << 16 | u32::from(u16::from_be_bytes(*service))
        });
        let known = self.word(PORTS) >> 32;
        let mut words = head[8..].as_chunks::<8>().0.iter().enumerate();
        let is_same = words.all(|(index, bytes)| self.word(index) == u64::from_ne_bytes(*bytes));
        is_same
            && ports.is_some_and(|ports| u64::from(ports) == known)
            && self.protocol() == head[6]
    }

    /// The number of its server.
    #[inline(always)]
    pub(crate) fn number(&self) -> u16 {
        self.word(PORTS) as u16 // `as`: the lowest 16 bits
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        (self.word(STATE) >> PROTOCOL_AT) as u8 // `as`: eight bits of it
    }

    /// What the server in the place of the service, and nothing in the place of the client, change in a sum.
    #[inline(always)]
    pub(crate) fn change(&self) -> Change {
        Change::word((self.word(STATE) >> CHANGE_AT) as u16) // `as`: 16 bits of it
    }

    /// Whether it is the one to which a slot with this key leads.
    fn is_led_to_by(&self, key: u32) -> bool {
        self.word(STATE) >> SIGNATURE_AT == u64::from(key >> SIGNATURE_SHIFT)
    }

    #[inline(always)]
    pub(crate) fn stage(&self) -> Stage {
        Stage::of((self.word(STATE) >> STAGE_AT) as u32) // `as`: it is in the lower half
    }

    /// Seconds since the last packet. After 18 hours it begins again: a place that nobody asked for in all that time may
    /// be taken for a young one, until it is over once more.
    #[inline(always)]
    fn age(&self, now: u16) -> u16 {
        now.wrapping_sub(self.word(STATE) as u16) // `as`: the lowest bits
    }

    /// Whether it is one whose time is not over. A free place has no protocol.
    #[inline(always)]
    pub(super) fn is_live(&self, now: u16) -> bool {
        self.protocol() != 0 && self.age(now) <= self.stage().lifetime()
    }

    /// A packet came `now`, and the flow is this far. Writes only what changes.
    #[inline(always)]
    pub(crate) fn renew(&self, stage: Stage, now: u16) {
        let known = self.word(STATE);
        let state = known >> PROTOCOL_AT << PROTOCOL_AT | state_of(stage, now);
        if state != known {
            self.line.0[STATE].store(state, Relaxed);
        }
    }

    /// Whether it is this far and its last packet came in this second: then nothing is to be written about one more.
    #[inline(always)]
    pub(crate) fn is_steady(&self, stage: Stage, now: u16) -> bool {
        self.word(STATE) & ((1 << PROTOCOL_AT) - 1) == state_of(stage, now)
    }

    /// The flow is over, and its port free.
    pub(crate) fn forget(&self) {
        self.line.0[STATE].store(0, Relaxed);
    }

    /// Another server from now on.
    pub(crate) fn move_to(&self, target: &Target, stage: Stage, now: u16) {
        let signature = self.word(STATE) >> SIGNATURE_AT;
        self.set(&self.tuple(), target, signature, stage, now);
    }

    fn set_address(&self, index: usize, address: &[u8; 16]) {
        for (word, bytes) in self.line.0[index..].iter().zip(address.as_chunks().0) {
            word.store(u64::from_ne_bytes(*bytes), Relaxed);
        }
    }

    fn set(&self, tuple: &Tuple, target: &Target, signature: u64, stage: Stage, now: u16) {
        self.set_address(0, &tuple.client);
        self.set_address(2, &tuple.service);
        self.set_address(4, &target.address);
        let ports = [
            tuple.client_port,
            tuple.service_port,
            target.port,
            target.number,
        ];
        let ports = ports
            .iter()
            .fold(0, |word, port| word << 16 | u64::from(*port));
        self.line.0[PORTS].store(ports, Relaxed);
        let state = signature << SIGNATURE_AT
            | u64::from(change(tuple, target).fold()) << CHANGE_AT
            | u64::from(tuple.protocol) << PROTOCOL_AT
            | state_of(stage, now);
        self.line.0[STATE].store(state, Relaxed);
    }
}

/// What the target in the place of the service, and nothing in the place of the client, change in a sum.
fn change(tuple: &Tuple, target: &Target) -> Sum {
    let before = checksum::sum(&tuple.client)
        + checksum::sum(&tuple.service)
        + Sum::word(tuple.client_port)
        + Sum::word(tuple.service_port);
    -before + checksum::sum(&target.address) + Sum::word(target.port)
}

/// What a slot keeps of a hash.
#[inline(always)]
fn key_of(hash: u64) -> u32 {
    (hash >> 32) as u32 // `as`: the upper half
}

/// The part of a state that changes with packets.
#[inline(always)]
fn state_of(stage: Stage, now: u16) -> u64 {
    (stage as u64) << STAGE_AT | u64::from(now) // `as`: a fieldless enum
}

/// Where flows most likely are, for many packets.
#[derive(Clone, Copy)]
pub(crate) struct Guesses<'s> {
    sessions: &'s Sessions,
    lines: Lines<'s>,
}

impl Guesses<'_> {
    /// Number of the place of the flow with this hash, which is waited for: the first slot with its half of the hash says.
    /// 0: none does.
    #[inline(always)]
    pub(crate) fn place_of(self, hash: u64) -> u32 {
        let slots = self.lines.at(hash);
        let index = slots.matches(key_of(hash)).trailing_zeros();
        let place = slots.value(index);
        let place = if index < SLOTS { place } else { 0 };
        self.sessions.prefetch_place(Place::of(place));
        place
    }
}

/// All flows of one worker: address space from the start, memory as they come.
pub(crate) struct Sessions {
    shares: Shares,
    places: Region<Line, PLACES_BITS>,
    index: Region<Slots, LINES_BITS>,
}

impl Sessions {
    pub(crate) fn new(shares: Shares) -> Self {
        let reserved = "the system gives address space: 256 MiB, and no memory yet";
        Self {
            shares,
            places: Region::reserve_huge().expect(reserved),
            index: Region::reserve_huge().expect(reserved),
        }
    }

    /// Those of so many workers, in their order.
    pub(crate) fn of_workers(workers: usize) -> Arc<[Self]> {
        let all = 0..workers.max(1);
        all.map(|worker| Self::new(Shares::new(worker, workers)))
            .collect()
    }

    pub(crate) fn shares(&self) -> Shares {
        self.shares
    }

    #[inline(always)]
    fn at(&self, place: Place) -> Session<'_> {
        let line = self.places.at(place.number() & ((1 << PLACES_BITS) - 1));
        Session { line, place }
    }

    /// The lines of the index that lead to the first `flows`, a power of two.
    #[inline(always)]
    pub(super) fn lines(&self, flows: u32) -> Lines<'_> {
        Lines::of(&self.index, flows)
    }

    #[inline(always)]
    fn slots(&self, hash: u64, flows: u32) -> &Slots {
        self.lines(flows).at(hash)
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64, flows: u32) {
        self.lines(flows).prefetch(hash);
    }

    #[inline(always)]
    pub(crate) fn prefetch_place(&self, place: Place) {
        prefetch::read(self.at(place).line);
    }

    /// What says where the first `flows` most likely are.
    #[inline(always)]
    pub(crate) fn guesses(&self, flows: u32) -> Guesses<'_> {
        Guesses {
            sessions: self,
            lines: self.lines(flows),
        }
    }

    /// The flow at a place that was guessed, if this common packet of a client is of it. It may be over.
    #[inline(always)]
    pub(crate) fn guessed(&self, place: Place, packet: &[u8]) -> Option<Session<'_>> {
        let session = self.at(place);
        session.is_of(packet).then_some(session)
    }

    /// The flow of what a server answers to this place.
    #[inline(always)]
    pub(crate) fn of_place(&self, place: Place, now: u16) -> Option<Session<'_>> {
        let session = self.at(place);
        (self.shares.is_own(place.port) && session.is_live(now)).then_some(session)
    }

    /// The flow with this hash and key.
    #[inline(always)]
    pub(crate) fn find(
        &self,
        (hash, flows): (u64, u32),
        tuple: &Tuple,
        now: u16,
    ) -> Option<Session<'_>> {
        let slots = self.slots(hash, flows);
        let mut matches = slots.matches(key_of(hash));
        while matches != 0 {
            let place = slots.value(matches.trailing_zeros());
            matches &= matches - 1;
            let session = self.at(Place::of(place));
            if place != 0 && session.tuple() == *tuple && session.is_live(now) {
                return Some(session);
            }
        }
        None
    }

    /// The server of each flow that goes on and has its slot in this line of the index.
    pub(super) fn for_each(&self, line: u32, now: u16, visit: &mut impl FnMut(u16)) {
        let slots = self.index.at(line);
        for index in 0..SLOTS {
            let (key, place) = (slots.key(index), slots.value(index));
            if place == 0 {
                continue;
            }
            let session = self.at(Place::of(place));
            if session.is_led_to_by(key) && session.is_live(now) && session.stage() != Stage::Ended
            {
                visit(session.target().number);
            }
        }
    }

    /// Give a flow that [`Sessions::find`] does not know a port of one source address. Which ports are tried nobody
    /// guesses who does not know the hash's seed (RFC 6056 3.3.3).
    pub(crate) fn begin(
        &self,
        (hash, flows): (u64, u32),
        (tuple, target): (&Tuple, &Target),
        source: u16,
        now: u16,
    ) -> Taken {
        let slots = self.slots(hash, flows);
        let Some((slot, displaced_slot)) = self.free_slot(slots, hash, now) else {
            return Taken::Full;
        };
        let Some((place, displaced_place)) = self.free_place(hash, source, now) else {
            return Taken::Full;
        };
        if displaced_slot {
            // Nobody finds it any more: its port is free too.
            self.at(Place::of(slots.value(slot))).forget();
        }
        let key = key_of(hash);
        slots.put(slot, key, place.number());
        let signature = u64::from(key >> SIGNATURE_SHIFT);
        self.at(place)
            .set(tuple, target, signature, Stage::New, now);
        if displaced_slot || displaced_place {
            Taken::Displaced(place)
        } else {
            Taken::Free(place)
        }
    }

    /// A slot that leads nowhere, else that of the oldest flow of which one packet came; and whether it is one. One that
    /// this flow had before comes first: else it might lead to it again, and take room twice.
    fn free_slot(&self, slots: &Slots, hash: u64, now: u16) -> Option<(u32, bool)> {
        let (mut free, mut oldest) = (None, None);
        for slot in 0..SLOTS {
            let (key, place) = (slots.key(slot), slots.value(slot));
            let had_it = key == key_of(hash);
            if free.is_some() && !had_it {
                continue;
            }
            let session = self.at(Place::of(place));
            let is_taken = place != 0 && session.is_led_to_by(key) && session.is_live(now);
            if !is_taken {
                if had_it {
                    return Some((slot, false));
                }
                free = Some(slot);
                continue;
            }
            let age = session.age(now);
            if session.stage().is_displaced() && oldest.is_none_or(|(oldest, _)| age > oldest) {
                oldest = Some((age, slot));
            }
        }
        free.map(|slot| (slot, false))
            .or(oldest.map(|(_, slot)| (slot, true)))
    }

    /// The same of places.
    fn free_place(&self, hash: u64, source: u16, now: u16) -> Option<(Place, bool)> {
        let (first, count) = self.shares.own();
        let start = (hash >> 32) % u64::from(count.max(1));
        let mut oldest = None;
        for step in 0..TRIES.min(count) {
            let port = first + (start as u32 + step) % count; // `as`: below the count
            let place = Place {
                source,
                port: u16::try_from(port).ok()?,
            };
            let session = self.at(place);
            if !session.is_live(now) {
                return Some((place, false));
            }
            let age = session.age(now);
            if session.stage().is_displaced() && oldest.is_none_or(|(oldest, _)| age > oldest) {
                oldest = Some((age, place));
            }
        }
        oldest.map(|(_, place)| (place, true))
    }
}

#[cfg(test)]
mod tests;
