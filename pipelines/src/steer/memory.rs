//! Which server a flow went to: the memory of one worker.
//!
//! Key: a hash of 64 bits, of which a slot keeps the upper half and a line's number is made of the lower one. Value: the
//! server's number, how far the flow is, and when its last packet came. A line of the cache is a bucket of eight slots that
//! are looked at in one step, so a lookup costs one line, whatever happens. Two flows of one line whose halves are equal
//! (one pair in 2^32) go to one server; that they are of one pool is checked by whoever asks.
//!
//! Bounded, and never scanned: a new flow takes a free slot of its line, or one whose time is over, or that of the oldest
//! flow of which only one packet came. So a flood of openings displaces other openings, and no flow that goes on. Where
//! all eight go on, the new one is not remembered: it goes by the table, which is right as long as nobody comes or goes.
//!
//! Owned by one worker: nobody else writes. The control thread may count what goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use dataplane::prefetch;
use dataplane::table::region::Region;
use dataplane::table::slots::Slots;

use super::limits::Counts;
use super::sessions::Sessions;

pub(super) const LINES_BITS: u32 = 21;
/// Slots of a line.
pub(super) const SLOTS: u32 = Slots::COUNT as u32; // `as`: 8
/// Most flows of one worker.
pub(crate) const FLOWS_MAX: u32 = SLOTS << LINES_BITS;

const TICK_BITS: u32 = 13;
const TICK_MASK: u16 = (1 << TICK_BITS) - 1;

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// One packet came.
    New = 0,
    /// A TCP connection that goes on.
    Connected = 1,
    /// Datagrams, more than one.
    Datagrams = 2,
    /// A TCP connection that an end, or somebody who pretends to be it, ended.
    Ended = 3,
    /// No flow: fragments of one packet.
    Fragments = 4,
}

impl Stage {
    pub(super) fn of(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::New,
            1 => Self::Connected,
            2 => Self::Datagrams,
            3 => Self::Ended,
            _ => Self::Fragments,
        }
    }

    /// Seconds without a packet after which it is forgotten: two hours and four minutes for a connection, four minutes
    /// when it was ended (RFC 5382 REQ-5), five for datagrams (RFC 4787 REQ-5), a minute for reassembly (RFC 8200 4.5).
    pub(super) fn lifetime(self) -> u16 {
        match self {
            Self::New | Self::Fragments => 60,
            Self::Connected => 7440,
            Self::Datagrams => 300,
            Self::Ended => 240,
        }
    }

    /// Whether another flow may have its slot.
    pub(super) fn is_displaced(self) -> bool {
        matches!(self, Self::New | Self::Fragments)
    }
}

/// What became of a flow that was to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In a slot nobody needed.
    Free,
    /// Instead of one of which one packet came.
    Displaced,
    /// Not at all.
    Full,
}

/// A remembered flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'m> {
    line: &'m Slots,
    index: u32,
    value: u32,
}

impl Found<'_> {
    /// The server's number.
    #[inline(always)]
    pub(crate) fn server(&self) -> u16 {
        server_of(self.value)
    }

    #[inline(always)]
    pub(crate) fn stage(&self) -> Stage {
        Stage::of(self.value >> TICK_BITS)
    }

    /// A packet came `now`, and the flow is this far. Writes only what changes: once a second for a flow that goes on.
    #[inline(always)]
    pub(crate) fn renew(&self, stage: Stage, now: u16) {
        let value = value(self.server(), stage, now);
        if value != self.value {
            self.line.set_value(self.index, value);
        }
    }

    /// Not remembered any more.
    pub(crate) fn forget(&self) {
        self.line.put(self.index, 0, 0);
    }

    /// Another server from now on.
    pub(crate) fn move_to(&self, server: u16, stage: Stage, now: u16) {
        self.line.set_value(self.index, value(server, stage, now));
    }
}

#[inline(always)]
fn value(server: u16, stage: Stage, now: u16) -> u32 {
    u32::from(server) << 16 | u32::from(moment(stage, now))
}

/// How far a flow is, and when its last packet came.
#[inline(always)]
fn moment(stage: Stage, now: u16) -> u16 {
    (stage as u16) << TICK_BITS | now & TICK_MASK // `as`: a fieldless enum
}

#[inline(always)]
fn server_of(value: u32) -> u16 {
    (value >> 16) as u16 // `as`: the upper half
}

/// Lines of eight slots, found by the lower half of a hash.
#[derive(Clone, Copy)]
pub(super) struct Lines<'m> {
    region: &'m Region<Slots, LINES_BITS>,
    mask: u32,
}

impl<'m> Lines<'m> {
    /// Those of the first `flows`, a power of two.
    #[inline(always)]
    pub(super) fn of(region: &'m Region<Slots, LINES_BITS>, flows: u32) -> Self {
        let mask = (flows / SLOTS).wrapping_sub(1);
        Self { region, mask }
    }

    /// That of a hash.
    #[inline(always)]
    pub(super) fn at(self, hash: u64) -> &'m Slots {
        self.region.at(hash as u32 & self.mask) // `as`: the lower half
    }

    #[inline(always)]
    pub(super) fn prefetch(self, hash: u64) {
        prefetch::read(self.at(hash));
    }

    /// The server of the flow with this hash, if it is this far and its last packet came in this second: then nothing is to
    /// be written about one more.
    #[inline(always)]
    pub(super) fn steady(self, hash: u64, stage: Stage, now: u16) -> Option<u16> {
        let line = self.at(hash);
        let index = line.matches(key_of(hash)).trailing_zeros();
        let value = line.value(index);
        let is_steady = index < SLOTS && value as u16 == moment(stage, now); // `as`: the lower half
        is_steady.then_some(server_of(value))
    }
}

/// The memory of one worker: address space from the start, memory as flows come, in huge pages where the system has some.
pub(crate) struct Memory {
    lines: Region<Slots, LINES_BITS>,
    /// What else is known of flows by full NAT, by every worker. Each writes its own and may read the others'.
    all_sessions: Arc<[Sessions]>,
    worker: usize,
    /// Flows that begin, of services with limits.
    pub(super) limits: Counts,
    /// Whether a first fragment came since somebody asked.
    any_first: AtomicBool,
}

impl Memory {
    /// That of worker `worker`, of as many as there are sessions for.
    pub(crate) fn new(all_sessions: Arc<[Sessions]>, worker: usize) -> Self {
        let reserved = "the system gives address space: 130 MiB, and no memory yet";
        Self {
            lines: Region::reserve_huge().expect(reserved),
            all_sessions,
            worker,
            limits: Counts::new(),
            any_first: AtomicBool::new(false),
        }
    }

    /// What this worker knows of flows by full NAT.
    #[inline(always)]
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.all_sessions[self.worker]
    }

    /// What the others know, by their numbers. For reading: what is found there may be gone.
    pub(crate) fn sessions_of_others(&self) -> impl Iterator<Item = (usize, &Sessions)> {
        let all = self.all_sessions.iter().enumerate();
        all.filter(|(worker, _)| *worker != self.worker)
    }

    /// The lines of the first `flows`, a power of two.
    #[inline(always)]
    pub(super) fn lines(&self, flows: u32) -> Lines<'_> {
        Lines::of(&self.lines, flows)
    }

    /// The line of a hash among the first `flows`.
    #[inline(always)]
    fn line(&self, hash: u64, flows: u32) -> &Slots {
        self.lines(flows).at(hash)
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64, flows: u32) {
        self.lines(flows).prefetch(hash);
    }

    /// The flow with this hash, if it is remembered. `now` in seconds, of any beginning.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, flows: u32, now: u16) -> Option<Found<'_>> {
        let line = self.line(hash, flows);
        // A flow is kept in the first slot that is not taken, so what has the same key behind it is over.
        let index = line.matches(key_of(hash)).trailing_zeros();
        let value = line.value(index);
        (index < SLOTS && is_live(value, now)).then_some(Found { line, index, value })
    }

    /// Look at `lines` lines from `first` on, for the server of each flow that goes on; which line is next, or `None` after
    /// the last. For the control thread, while the worker goes on.
    pub(super) fn for_each(
        &self,
        first: u32,
        lines: u32,
        flows: u32,
        now: u16,
        mut visit: impl FnMut(u16),
    ) -> Option<u32> {
        let count = flows / SLOTS;
        let end = first.saturating_add(lines).min(count);
        for line in first..end {
            let slots = self.lines.at(line);
            for value in (0..SLOTS).map(|index| slots.value(index)) {
                let stage = Stage::of(value >> TICK_BITS);
                let is_flow = !matches!(stage, Stage::Fragments | Stage::Ended);
                if is_flow && is_live(value, now) {
                    visit(server_of(value));
                }
            }
            self.sessions().for_each(line, now, &mut visit);
        }
        (end < count).then_some(end)
    }

    /// Remember by the hash of its fragments what the first one of a packet told: `value`, never 0.
    pub(super) fn keep_first(&self, hash: u64, flows: u32, value: u16, now: u16) -> Kept {
        self.any_first.store(true, Relaxed);
        match self.find(hash, flows, now) {
            Some(found) => {
                found.move_to(value, Stage::Fragments, now);
                Kept::Free
            }
            None => self.keep(hash, flows, value, Stage::Fragments, now),
        }
    }

    /// Whether a first fragment came since the last call.
    pub(crate) fn take_any_first(&self) -> bool {
        let came = self.any_first.load(Relaxed);
        if came {
            self.any_first.store(false, Relaxed);
        }
        came
    }

    /// Remember a flow that is not. `server` is never 0.
    pub(crate) fn keep(&self, hash: u64, flows: u32, server: u16, stage: Stage, now: u16) -> Kept {
        let line = self.line(hash, flows);
        let new = value(server, stage, now);
        let mut oldest = None;
        for index in 0..SLOTS {
            let known = line.value(index);
            if !is_live(known, now) {
                line.put(index, key_of(hash), new);
                return Kept::Free;
            }
            if Stage::of(known >> TICK_BITS).is_displaced() {
                let age = age(known, now);
                if oldest.is_none_or(|(oldest, _)| age > oldest) {
                    oldest = Some((age, index));
                }
            }
        }
        match oldest {
            Some((_, index)) => {
                line.put(index, key_of(hash), new);
                Kept::Displaced
            }
            None => Kept::Full,
        }
    }
}

/// What a slot keeps of a hash.
#[inline(always)]
fn key_of(hash: u64) -> u32 {
    (hash >> 32) as u32 // `as`: the upper half
}

/// Seconds since the last packet. After 2 hours and 16 minutes it begins again: a slot that nobody looked at for so long
/// is taken for a young one.
#[inline(always)]
fn age(value: u32, now: u16) -> u16 {
    now.wrapping_sub(value as u16) & TICK_MASK // `as`: the lowest bits
}

/// Whether a slot has a flow whose time is not over. A free slot has server 0.
#[inline(always)]
fn is_live(value: u32, now: u16) -> bool {
    server_of(value) != 0 && age(value, now) <= Stage::of(value >> TICK_BITS).lifetime()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const FLOWS: u32 = 32;

    /// What the memory says it does, in words: eight at most of one line, and who is displaced.
    #[derive(Default)]
    struct Twin(HashMap<(u32, u32), (u16, Stage, u32)>);

    impl Twin {
        fn key(hash: u64) -> (u32, u32) {
            ((hash as u32) % (FLOWS / SLOTS), (hash >> 32) as u32)
        }

        fn forget(&mut self, now: u32) {
            self.0
                .retain(|_, (_, stage, seen)| now - *seen <= u32::from(stage.lifetime()));
        }

        fn find(&self, hash: u64) -> Option<(u16, Stage)> {
            self.0
                .get(&Self::key(hash))
                .map(|(server, stage, _)| (*server, *stage))
        }

        /// Whether it is remembered, and how many may have made room.
        fn keep(
            &mut self,
            hash: u64,
            server: u16,
            stage: Stage,
            now: u32,
        ) -> (Kept, Vec<(u32, u32)>) {
            let key = Self::key(hash);
            let of_line = self.0.iter().filter(|((line, _), _)| *line == key.0);
            let mut kept = Kept::Free;
            let mut displaced = Vec::new();
            if of_line.clone().count() == SLOTS as usize {
                let young = of_line.filter(|(_, (_, stage, _))| stage.is_displaced());
                let Some(oldest) = young.clone().map(|(_, (.., seen))| *seen).min() else {
                    return (Kept::Full, displaced);
                };
                kept = Kept::Displaced;
                displaced = young
                    .filter(|(_, (.., seen))| *seen == oldest)
                    .map(|(key, _)| *key)
                    .collect();
            }
            if let [one] = displaced[..] {
                self.0.remove(&one);
                displaced.clear();
            }
            self.0.insert(key, (server, stage, now));
            (kept, displaced)
        }
    }

    proptest! {
        #[test]
        fn agrees_with_its_twin(
            steps in prop::collection::vec((0_u64..6, 0_u64..5, 1_u16..9, 0_u8..5, prop_oneof![Just(0_u32), 0_u32..25]), 1..300),
        ) {
            let memory = Memory::new(Sessions::of_workers(1), 0);
            let mut twin = Twin::default();
            let mut now = 5000_u32;
            for (line, flow, server, stage, passes) in steps {
                now += passes;
                let tick = now as u16; // `as`: it wraps
                twin.forget(now);
                let hash = (flow << 32) | (flow << 7) | (line % 4);
                let found = memory.find(hash, FLOWS, tick);
                prop_assert_eq!(found.map(|found| (found.server(), found.stage())), twin.find(hash));
                let stage = Stage::of(u32::from(stage));
                if let Some(found) = found {
                    found.renew(stage, tick);
                    let known = twin.0.get_mut(&Twin::key(hash)).expect("it was found");
                    *known = (known.0, stage, now);
                } else {
                    let kept = memory.keep(hash, FLOWS, server, stage, tick);
                    let (expected, candidates) = twin.keep(hash, server, stage, now);
                    prop_assert_eq!(kept, expected);
                    // Of several of one age any may have gone: ask which.
                    for (line, signature) in candidates {
                        let hash = u64::from(signature) << 32 | u64::from(line);
                        if memory.find(hash, FLOWS, tick).is_none() {
                            twin.0.remove(&(line, signature));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_flood_of_openings_displaces_no_flow_that_goes_on() {
        let memory = Memory::new(Sessions::of_workers(1), 0);
        let flow = |number: u64| (number + 1) << 32;
        for number in 0..7 {
            assert_eq!(
                memory.keep(flow(number), FLOWS, 9, Stage::Connected, 0),
                Kept::Free
            );
        }
        assert_eq!(memory.keep(flow(7), FLOWS, 9, Stage::New, 0), Kept::Free);
        for number in 100..10_000 {
            assert_eq!(
                memory.keep(flow(number), FLOWS, 8, Stage::New, 1),
                Kept::Displaced
            );
        }
        for number in 0..7 {
            let found = memory.find(flow(number), FLOWS, 1).expect("it goes on");
            assert_eq!((found.server(), found.stage()), (9, Stage::Connected));
        }
        // The last of the flood goes on as well: now there is no room.
        memory
            .find(flow(9_999), FLOWS, 1)
            .expect("the last")
            .renew(Stage::Connected, 1);
        assert_eq!(memory.keep(flow(7), FLOWS, 9, Stage::New, 2), Kept::Full);
    }

    #[test]
    fn each_stage_has_its_time() {
        for (stage, seconds) in [
            (Stage::New, 60),
            (Stage::Connected, 7440),
            (Stage::Datagrams, 300),
            (Stage::Ended, 240),
            (Stage::Fragments, 60),
        ] {
            let memory = Memory::new(Sessions::of_workers(1), 0);
            let start = 60_000_u16;
            memory.keep(1 << 32, FLOWS, 1, stage, start);
            let at = |after: u16| {
                memory
                    .find(1 << 32, FLOWS, start.wrapping_add(after))
                    .is_some()
            };
            assert!(at(seconds) && !at(seconds + 1), "{stage:?}");
        }
    }
}
