//! Probing the locators of mappings (RFC 9301 7.1); what follows from answers and from silence is said in `liveness`.
//!
//! One locator is one entry, however many prefixes lead to it. A probe asks for one of them. After a miss the next one goes
//! from another own RLOC, because it may be the way back that fails, and then asks for another prefix. A probe is *missed*
//! when it was not answered within the time that the round trips so far make plausible; an answer that comes later still
//! counts. After a miss the next probe follows at once, so that a period of 30 s need not be waited for three times; and what
//! ICMP says of a locator does no more than that: it can be forged, so it brings the next probe forward. One that is silent
//! is asked less and less often, but never given up.
//!
//! Where more control messages come than the box may spend time on, answers are among those that are dropped. Then a
//! probe that was not answered says nothing: a flood must not take locators down.
//!
//! A locator that never answered is only taken for dead where a mapping was learned that names it: whoever answers for
//! EIDs answers probes. At the other end of a mapping by hand may be a router that knows no probes.
//!
//! The answer is booked on the locator that is flagged in it, which must be the one that was probed (RFC 9301 5.4): with
//! an answer that flags another, one router could speak for any other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::liveness::{FIRST_PAUSE, Liveness, Occurrence, PATIENCE, Probe, Rloc, RlocState};
use super::settings::{Probing as Schedule, Settings};
use super::{Context, Output};
use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::{CONTROL_PORT, Message, Reply, Request, RequestFlags, emit};
use crate::proto::ndp::bucket::TokenBucket;

/// Locators that are probed, most; others are taken for reachable.
pub(super) const RLOCS_MAX: usize = 16_384;
/// Of the probes of a second, those that may be sent at once: one in so many.
const AT_ONCE: u32 = 10;
/// Probes a second by hand where nobody is probed.
const BY_HAND: u32 = 100;
/// Between two looks whether one of those that wait for their turn may be probed.
const TURN: Duration = Duration::from_millis(2);
/// An answer that is later than this says nothing.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Probes of one locator that may still be answered, most.
const OUTSTANDING_MAX: usize = 32;

pub(super) struct Probing {
    rlocs: BTreeMap<IpAddr, Rloc>,
    by_nonce: HashMap<u64, IpAddr>,
    by_due: BTreeSet<(Instant, IpAddr)>,
    probes: TokenBucket,
    /// Locators whose probes were too many, in the order in which they were due.
    waiting: BTreeMap<u64, IpAddr>,
    /// Locators that ever waited.
    waited: u64,
    /// When it is looked whether the first of them may be probed.
    turn: Instant,
    /// When messages to us were last lost in this box.
    unheard: Option<Instant>,
}

impl Probing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rlocs: BTreeMap::new(),
            by_nonce: HashMap::new(),
            by_due: BTreeSet::new(),
            probes: TokenBucket::new(now, BY_HAND, BY_HAND / AT_ONCE),
            waiting: BTreeMap::new(),
            waited: 0,
            turn: now,
            unheard: None,
        }
    }

    /// Other settings: where nobody is probed any more, nobody is down.
    pub(super) fn set(&mut self, now: Instant, new: Option<&Schedule>, context: &mut Context) {
        let per_second = new.map_or(BY_HAND, |schedule| schedule.per_second);
        self.probes.set_rate(per_second, per_second / AT_ONCE);
        self.waiting.clear();
        for (rloc, known) in &mut self.rlocs {
            known.waits = None;
            known.missed = 0;
            known.next = None;
            match new {
                Some(schedule) => {
                    known.pause = FIRST_PAUSE.min(schedule.period);
                    known.next = Some(soon(now, schedule, context));
                }
                None if !known.liveness.is_up() => {
                    known.liveness = Liveness::Unproven;
                    say(*rloc, true, context);
                }
                None => {}
            }
        }
        let all: Vec<IpAddr> = self.rlocs.keys().copied().collect();
        all.into_iter().for_each(|rloc| self.arrange(rloc));
    }

    /// Mappings in force lead to this locator, of these prefixes among others; `is_learned`: one of them was learned.
    pub(super) fn watch(
        &mut self,
        now: Instant,
        settings: &Settings,
        rloc: IpAddr,
        (prefixes, is_learned): (Vec<EidKey>, bool),
        context: &mut Context,
    ) {
        if !self.rlocs.contains_key(&rloc) {
            if self.rlocs.len() >= RLOCS_MAX {
                context.count("limit_rlocs");
                return;
            }
            let mut new = Rloc::new(now);
            let schedule = settings.probing.as_ref();
            new.next = schedule.map(|schedule| soon(now, schedule, context));
            self.rlocs.insert(rloc, new);
        }
        if let Some(known) = self.rlocs.get_mut(&rloc) {
            known.prefixes = prefixes;
            known.is_learned = is_learned;
        }
        self.arrange(rloc);
    }

    /// No mapping leads there any more.
    pub(super) fn unwatch(&mut self, rloc: IpAddr) {
        let Some(known) = self.rlocs.remove(&rloc) else {
            return;
        };
        for probe in known.outstanding {
            self.by_nonce.remove(&probe.nonce);
        }
        if let Some(place) = known.waits {
            self.waiting.remove(&place);
        }
        if let Some(due) = known.due {
            self.by_due.remove(&(due, rloc));
        }
    }

    /// Whether the underlay leads to this locator: if not, nothing is asked and silence says nothing.
    pub(super) fn set_way(
        &mut self,
        now: Instant,
        settings: &Settings,
        rloc: IpAddr,
        has_way: bool,
        context: &mut Context,
    ) {
        let Some(known) = self.rlocs.get_mut(&rloc) else {
            return;
        };
        if known.has_way == has_way {
            return;
        }
        known.has_way = has_way;
        known.missed = 0;
        for probe in known.outstanding.drain(..) {
            self.by_nonce.remove(&probe.nonce);
        }
        known.patient_until = now + PATIENCE;
        let schedule = settings.probing.as_ref().filter(|_| has_way);
        if let Some(schedule) = schedule {
            known.pause = FIRST_PAUSE.min(schedule.period);
        }
        known.next = schedule.map(|schedule| soon(now, schedule, context));
        self.arrange(rloc);
    }

    /// Somebody says that packets do not arrive there, and may be wrong: the next probe is due.
    pub(super) fn suspect(&mut self, now: Instant, settings: &Settings, rloc: IpAddr) {
        let (Some(known), Some(schedule)) = (self.rlocs.get_mut(&rloc), &settings.probing) else {
            return;
        };
        if known.has_way && known.liveness.is_up() {
            let earliest = known.last_sent.map(|sent| sent + schedule.least_wait);
            let soon = earliest.map_or(now, |earliest| earliest.max(now));
            known.next = Some(known.next.map_or(soon, |next| next.min(soon)));
            self.arrange(rloc);
        }
    }

    /// Messages to us were lost in this box since the last time: answers may be among them.
    pub(super) fn note_unheard(&mut self, now: Instant) {
        self.unheard = Some(now);
    }

    /// Probe it now, whatever else is due. Whether that can be.
    pub(super) fn probe(
        &mut self,
        now: Instant,
        settings: &Settings,
        rloc: IpAddr,
        context: &mut Context,
    ) -> bool {
        let before = self.rlocs.get(&rloc).map(|known| known.sent);
        self.send(now, settings, rloc, context);
        self.arrange(rloc);
        self.rlocs.get(&rloc).map(|known| known.sent) != before
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.by_due.first().map(|(due, _)| *due);
        let turn = (!self.waiting.is_empty()).then_some(self.turn);
        due.into_iter().chain(turn).min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        settings: &Settings,
        context: &mut Context,
    ) {
        self.take_turns(now, settings, context);
        while let Some((due, rloc)) = self.by_due.first().copied()
            && due <= now
        {
            self.miss(now, settings, rloc, context);
            let next = self.rlocs.get(&rloc).and_then(|known| known.next);
            if next.is_some_and(|next| next <= now) {
                self.send(now, settings, rloc, context);
            }
            self.arrange(rloc);
        }
    }

    /// Those that were too many, first come, first served.
    fn take_turns(&mut self, now: Instant, settings: &Settings, context: &mut Context) {
        self.turn = now + TURN;
        while let Some((place, rloc)) = self.waiting.pop_first() {
            if let Some(known) = self.rlocs.get_mut(&rloc) {
                known.waits = None;
            }
            if !self.send_at(now, settings, rloc, Some(place), context) {
                return;
            }
            self.arrange(rloc);
        }
    }

    /// Probes whose time for an answer is over.
    fn miss(&mut self, now: Instant, settings: &Settings, rloc: IpAddr, context: &mut Context) {
        let Some(known) = self.rlocs.get_mut(&rloc) else {
            return;
        };
        let outstanding = known.outstanding.iter_mut();
        let overdue = outstanding.filter(|probe| probe.until.is_some_and(|until| until <= now));
        let mut missed = 0;
        for probe in overdue {
            probe.until = None;
            if self.unheard.is_some_and(|unheard| unheard >= probe.sent) {
                context.count("probe_unheard");
            } else {
                missed += 1;
            }
        }
        for _ in 0..missed {
            context.count("probe_missed");
            self.step(now, settings, rloc, Occurrence::Missed, context);
        }
    }

    fn step(
        &mut self,
        now: Instant,
        settings: &Settings,
        rloc: IpAddr,
        occurrence: Occurrence,
        context: &mut Context,
    ) {
        let (Some(known), Some(schedule)) = (self.rlocs.get_mut(&rloc), &settings.probing) else {
            return;
        };
        let was_up = known.liveness.is_up();
        known.step(now, schedule, occurrence);
        let is_up = known.liveness.is_up();
        if is_up != was_up {
            say(rloc, is_up, context);
        }
    }

    fn send(&mut self, now: Instant, settings: &Settings, rloc: IpAddr, context: &mut Context) {
        self.send_at(now, settings, rloc, None, context);
    }

    /// Send a probe, or let it wait at this place or at the end. Whether there may be more.
    fn send_at(
        &mut self,
        now: Instant,
        settings: &Settings,
        rloc: IpAddr,
        place: Option<u64>,
        context: &mut Context,
    ) -> bool {
        let Some(known) = self.rlocs.get_mut(&rloc) else {
            return true;
        };
        let schedule = settings.probing.as_ref();
        let jitter = 0.8 + 0.2 * context.rng.f64();
        known.next = schedule.map(|schedule| now + known.interval(schedule).mul_f64(jitter));
        known.turn = known.turn.wrapping_add(usize::from(known.missed > 0));
        // First from each own RLOC, then for another prefix.
        let is_v4 = rloc.is_ipv4();
        let source = settings.source_of_turn(is_v4, known.turn);
        let turn = known.turn.checked_div(settings.sources(is_v4));
        let turn = turn.and_then(|turn| turn.checked_rem(known.prefixes.len()));
        let asked = turn.and_then(|turn| known.prefixes.get(turn)).copied();
        let (Some(asked), Some(source), true) = (asked, source, known.has_way) else {
            context.count("probe_not_possible");
            return true;
        };
        if !self.probes.take(now, 0) {
            if known.waits.is_none() {
                let place = place.unwrap_or_else(|| {
                    context.count("limit_probes");
                    self.waited += 1;
                    self.waited
                });
                known.waits = Some(place);
                self.waiting.insert(place, rloc);
            }
            known.next = None;
            return false;
        }
        while let Some(oldest) = known.outstanding.front()
            && (known.outstanding.len() >= OUTSTANDING_MAX || now >= oldest.sent + LATE_MAX)
        {
            self.by_nonce.remove(&oldest.nonce);
            known.outstanding.pop_front();
        }
        let nonce = context.nonces.make();
        self.by_nonce.insert(nonce, rloc);
        known.outstanding.push_back(Probe {
            nonce,
            asked,
            sent: now,
            until: Some(now + known.wait(schedule)),
        });
        known.last_sent = Some(now);
        known.sent += 1;
        context.count("sent_probe");
        // Only the one it comes from: the answer shall take the way that is probed.
        let request = Request {
            flags: RequestFlags {
                probe: true,
                pitr: settings.is_proxy,
                ..RequestFlags::default()
            },
            ..Request::new(nonce, vec![source], asked)
        };
        let destination = SocketAddr::new(rloc, CONTROL_PORT);
        context.send(source, destination, emit(&Message::Request(request)));
        true
    }

    /// The answer to a probe. What was asked and when, if the answer is right.
    pub(super) fn handle_reply(
        &mut self,
        now: Instant,
        settings: &Settings,
        reply: &Reply,
        context: &mut Context,
    ) -> Option<(EidKey, Instant)> {
        let Some(rloc) = self.by_nonce.get(&reply.nonce).copied() else {
            context.count("probe_reply_unknown_nonce");
            return None;
        };
        let known = self.rlocs.get_mut(&rloc)?;
        let records = &reply.records;
        if !records.iter().all(|record| record.is_authoritative) {
            context.count("probe_reply_not_authoritative");
            return None;
        }
        let mut locators = records.iter().flat_map(|record| &record.locators);
        let refused = match locators.find(|locator| locator.is_probed) {
            None => Some("probe_reply_unmarked"),
            Some(marked) if marked.rloc != rloc => Some("probe_reply_other_rloc"),
            Some(_) => None,
        };
        if let Some(cause) = refused {
            context.count(cause);
            return None;
        }
        self.by_nonce.remove(&reply.nonce);
        let mut outstanding = known.outstanding.iter();
        let position = outstanding.position(|probe| probe.nonce == reply.nonce)?;
        let probe = known.outstanding.remove(position)?;
        if now > probe.sent + LATE_MAX {
            context.count("probe_reply_late");
            return None;
        }
        known.note_round_trip(now.saturating_duration_since(probe.sent));
        known.answered += 1;
        // It answers: what became of those before says nothing any more.
        for earlier in known.outstanding.iter_mut().take(position) {
            earlier.until = None;
        }
        context.count("probe_answered");
        self.step(now, settings, rloc, Occurrence::Answered, context);
        self.arrange(rloc);
        Some((probe.asked, probe.sent))
    }

    /// When something is due for it next.
    fn arrange(&mut self, rloc: IpAddr) {
        let Some(known) = self.rlocs.get_mut(&rloc) else {
            return;
        };
        let overdue = known.outstanding.iter().filter_map(|probe| probe.until);
        let due = overdue.chain(known.next).min();
        if due == known.due {
            return;
        }
        if let Some(before) = std::mem::replace(&mut known.due, due) {
            self.by_due.remove(&(before, rloc));
        }
        if let Some(due) = due {
            self.by_due.insert((due, rloc));
        }
    }

    /// Whether packets go there, as far as probes are concerned.
    pub(super) fn is_up(&self, rloc: IpAddr) -> bool {
        let known = self.rlocs.get(&rloc);
        known.is_none_or(|known| known.liveness.is_up())
    }

    pub(super) fn state(&self, rloc: IpAddr) -> Option<RlocState> {
        let known = self.rlocs.get(&rloc)?;
        Some(RlocState {
            liveness: known.liveness,
            round_trip: known.round_trip.map(|round_trip| round_trip.last),
            sent: known.sent,
            answered: known.answered,
            missed: known.missed,
        })
    }
}

/// A moment within the first period: not all at once.
fn soon(now: Instant, schedule: &Schedule, context: &mut Context) -> Instant {
    now + FIRST_PAUSE.min(schedule.period).mul_f64(context.rng.f64())
}

fn say(rloc: IpAddr, is_up: bool, context: &mut Context) {
    context.count(if is_up { "rloc_up" } else { "rloc_down" });
    context.outputs.push_back(Output::Liveness { rloc, is_up });
}
