//! Asking for mappings (RFC 9301 5.2, 5.3, 5.5).
//!
//! A question is for a host (a miss), for a prefix that was learned (to refresh it), or for what a solicitation named; how
//! often it is asked and when it is given up is in `question`. All its tries have one nonce: an answer to an earlier one is
//! still an answer.
//!
//! A Map-Request goes to the Map-Resolvers in turn, encapsulated (RFC 9301 5.8). A Map-Reply is believed if it has the
//! nonce of a question and a record that covers what was asked. Of its other records those under that one count too: an
//! answer lists all more-specific prefixes (RFC 9301 5.5), so what was learned of others under it does not hold any more,
//! and the prefix around holds no longer than they (C-07, C-08).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

#[cfg(test)]
use super::learned::Standing;
use super::learned::{Due, Learned};
use super::question::{self, Action, Occurrence, State};
use super::settings::{Settings, is_within};
use super::{Context, Event, Output};
use crate::proto::lisp::wire::{
    Act, CONTROL_PORT, EidAddress, Encapsulated, LocatorRecord, Record, Reply, Request,
    RequestFlags,
};
use crate::proto::lisp::{EidKey, Mapping};

/// Most questions.
pub(super) const QUESTIONS_MAX: usize = 4096;
/// Between two Map-Requests for one prefix (RFC 9301 5.3).
const RETRY: Duration = Duration::from_secs(1);
/// How long none is sent after the last try (RFC 9301 5.3).
const SILENCE: Duration = Duration::from_secs(30);
/// How long a mapping holds, most, that a Map-Server told of without being asked.
const TTL_OF_MOVED: Duration = Duration::from_secs(60);
/// When what was learned before a restart is asked for, and how far apart.
const RESTORED: Duration = Duration::from_secs(5);
const RESTORED_APART: Duration = Duration::from_millis(50);
/// How long a mapping holds whose TTL leaves that to us.
const TTL_OF_OURS: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone, Copy)]
struct Question {
    state: State,
    /// Of its Map-Requests.
    nonce: u64,
    /// Whose packet was the reason; none to refresh.
    source: Option<EidAddress>,
    /// A solicitation was the reason.
    is_solicited: bool,
    /// When the last Map-Request left.
    sent: Instant,
    due: Instant,
}

pub(super) struct Itr {
    questions: BTreeMap<EidKey, Question>,
    by_nonce: HashMap<u64, EidKey>,
    by_due: BTreeSet<(Instant, EidKey)>,
    learned: Learned,
    /// Which Map-Resolver is next.
    turn: usize,
}

impl Itr {
    pub(super) fn new() -> Self {
        Self {
            questions: BTreeMap::new(),
            by_nonce: HashMap::new(),
            by_due: BTreeSet::new(),
            learned: Learned::default(),
            turn: 0,
        }
    }

    /// Nobody is asked any more; nothing that was learned holds.
    pub(super) fn clear(&mut self, context: &mut Context) {
        for key in self.learned.keys() {
            context.outputs.push_back(Output::Forgotten(key));
        }
        *self = Self::new();
    }

    pub(super) fn pending(&self) -> usize {
        self.by_nonce.len()
    }

    pub(super) fn learned(&self) -> usize {
        self.learned.len()
    }

    pub(super) fn note_used(&mut self, now: Instant, key: EidKey) {
        self.learned.note_used(now, key);
    }

    pub(super) fn forget(&mut self, key: EidKey) {
        self.learned.remove(key);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let question = self.by_due.first().map(|(due, _)| *due);
        let timeouts = [question, self.learned.poll_timeout()];
        timeouts.into_iter().flatten().min()
    }

    /// Whether something is known of this prefix, or of one around it that is under another.
    pub(super) fn covers_within(&self, key: EidKey, around: EidKey) -> bool {
        self.learned.covers_from(key, around.eid.prefix_len() + 1)
    }

    /// Whether something is known of this prefix, around it or under it.
    pub(super) fn knows(&self, key: EidKey) -> bool {
        self.learned.covers(key) || self.learned.under(key).next().is_some()
    }

    /// How the question for this prefix stands.
    #[cfg(test)]
    pub(super) fn state_of(&self, key: EidKey) -> Option<State> {
        self.questions.get(&key).map(|question| question.state)
    }

    /// When something happens to it by itself.
    #[cfg(test)]
    pub(super) fn due_of(&self, key: EidKey) -> Option<Instant> {
        self.questions.get(&key).map(|question| question.due)
    }

    /// The same of what was learned of this prefix.
    #[cfg(test)]
    pub(super) fn due_of_learned(&self, key: EidKey) -> Option<Instant> {
        self.learned.due(key)
    }

    /// How what was learned of this prefix stands.
    #[cfg(test)]
    pub(super) fn standing_of(&self, now: Instant, key: EidKey) -> Option<Standing> {
        self.learned.standing(now, key)
    }

    /// The nonce of the question that runs for this prefix.
    #[cfg(test)]
    pub(super) fn nonce_of(&self, key: EidKey) -> Option<u64> {
        let mut asked = self.by_nonce.iter();
        let found = asked.find(|(_, asked)| **asked == key);
        found.map(|(nonce, _)| *nonce)
    }

    /// Somebody wants to know where `key` is.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        settings: &Settings,
        key: EidKey,
        source: Option<EidAddress>,
        context: &mut Context,
    ) {
        self.want(now, settings, (key, source), Occurrence::Wanted, context);
    }

    /// What is known of `key` may be old.
    pub(super) fn ask_anew(
        &mut self,
        now: Instant,
        settings: &Settings,
        key: EidKey,
        context: &mut Context,
    ) {
        self.want(now, settings, (key, None), Occurrence::Solicited, context);
    }

    fn want(
        &mut self,
        now: Instant,
        settings: &Settings,
        (key, source): (EidKey, Option<EidAddress>),
        occurrence: Occurrence,
        context: &mut Context,
    ) {
        // What should have happened by now comes first.
        if self
            .questions
            .get(&key)
            .is_some_and(|known| known.due <= now)
        {
            self.step(now, settings, (key, None), Occurrence::Due, context);
        }
        if self.questions.len() >= QUESTIONS_MAX && !self.questions.contains_key(&key) {
            context.count("limit_questions");
            return;
        }
        self.step(now, settings, (key, source), occurrence, context);
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        settings: &Settings,
        context: &mut Context,
    ) {
        while let Some(due) = self.learned.poll_due(now) {
            match due {
                Due::Refresh(key) => self.ask(now, settings, key, None, context),
                Due::Expired(key) => {
                    context.count("mapping_expired");
                    context.outputs.push_back(Output::Forgotten(key));
                }
            }
        }
        while let Some((due, key)) = self.by_due.first().copied()
            && due <= now
        {
            self.step(now, settings, (key, None), Occurrence::Due, context);
        }
    }

    /// One transition of a question, and what follows. `source` is of whoever wants to know.
    fn step(
        &mut self,
        now: Instant,
        settings: &Settings,
        (key, source): (EidKey, Option<EidAddress>),
        occurrence: Occurrence,
        context: &mut Context,
    ) {
        let known = self.questions.remove(&key);
        if let Some(known) = &known {
            self.by_due.remove(&(known.due, key));
        }
        let (state, action) = question::step(known.map(|known| known.state), occurrence);
        let Some(state) = state else {
            return;
        };
        let mut question = known.unwrap_or(Question {
            state,
            nonce: 0,
            source,
            is_solicited: false,
            sent: now,
            due: now,
        });
        question.state = state;
        match action {
            Action::Ask { is_solicited } => {
                question.nonce = context.nonces.make();
                (question.source, question.is_solicited) = (source, is_solicited);
                self.by_nonce.insert(question.nonce, key);
                self.send(now, settings, key, &mut question, context);
            }
            Action::Retry => self.send(now, settings, key, &mut question, context),
            Action::Rest => {
                self.by_nonce.remove(&question.nonce);
                question.due = question.sent + RETRY;
            }
            Action::GiveUp => {
                self.by_nonce.remove(&question.nonce);
                context.count("request_unanswered");
                context.event(Event::Unanswered { key });
                question.due = now + SILENCE;
            }
            Action::Hasten => question.due = question.due.min(now.max(question.sent + RETRY)),
            Action::None | Action::Forget => {}
        }
        self.by_due.insert((question.due, key));
        self.questions.insert(key, question);
    }

    /// A Map-Request to the next Map-Resolver that can be reached; where there is none, a try passes all the same.
    fn send(
        &mut self,
        now: Instant,
        settings: &Settings,
        key: EidKey,
        question: &mut Question,
        context: &mut Context,
    ) {
        question.sent = now;
        question.due = now + RETRY;
        let resolvers = settings.map_resolvers.len().max(1);
        // When all were asked in vain, it may be the way back that fails: the answer shall come to another own RLOC.
        let own_turn = match question.state {
            State::Asking { tries, .. } => usize::from(tries.saturating_sub(1)) / resolvers,
            State::Resting { .. } => 0,
        };
        let turns = (0..resolvers).map(|number| (self.turn + number) % resolvers);
        let mut reachable = turns.filter_map(|turn| {
            let resolver = *settings.map_resolvers.get(turn)?;
            let source = settings.source_of_turn(resolver.is_ipv4(), own_turn)?;
            Some((turn, resolver, source))
        });
        let Some((turn, resolver, source)) = reachable.next() else {
            context.count("request_no_source");
            return;
        };
        self.turn = (turn + 1) % resolvers;
        let own = settings.rlocs.iter().filter(|own| own.up);
        let mut own: Vec<IpAddr> = own.map(|own| own.rloc).collect();
        // Not empty: it has the source.
        let first = own_turn % own.len().max(1);
        own.rotate_left(first);
        let request = Request {
            flags: RequestFlags {
                pitr: settings.is_proxy,
                smr_invoked: question.is_solicited,
                ..RequestFlags::default()
            },
            source: question.source,
            ..Request::new(question.nonce, own, key)
        };
        let eid = key.eid.addr();
        let message = Encapsulated {
            ddt: false,
            source: SocketAddr::new(
                inner_source(settings, eid, question.source, own_turn),
                CONTROL_PORT,
            ),
            destination: SocketAddr::new(eid, CONTROL_PORT),
            request,
        };
        context.count("sent_map_request");
        let destination = SocketAddr::new(resolver, CONTROL_PORT);
        context.send(source, destination, message.emit());
    }

    /// An answer; what it answers, if it is believed.
    pub(super) fn handle_reply(
        &mut self,
        now: Instant,
        settings: &Settings,
        reply: &Reply,
        context: &mut Context,
    ) -> Option<EidKey> {
        let Some(asked) = self.by_nonce.get(&reply.nonce).copied() else {
            context.count("reply_unknown_nonce");
            return None;
        };
        let covering = reply.records.iter().filter(|r| is_within(asked, r.key));
        let Some(covering) = covering.max_by_key(|record| record.key.eid.prefix_len()) else {
            context.count("reply_other_prefix");
            return None;
        };
        let mut records: BTreeMap<EidKey, &Record> = BTreeMap::new();
        for record in &reply.records {
            if !is_within(record.key, covering.key) {
                context.count("record_outside");
            } else if settings.is_own_eid(record) {
                context.count("record_own_eid");
            } else {
                records.insert(record.key, record);
            }
        }
        let answered = self.questions.range(covering.key..);
        let answered = answered.take_while(|(key, _)| is_within(**key, covering.key));
        let answered: Vec<EidKey> = answered.map(|(key, _)| *key).collect();
        for key in answered {
            self.step(now, settings, (key, None), Occurrence::Answered, context);
        }
        let unlisted = self.learned.under(covering.key);
        let unlisted: Vec<EidKey> = unlisted.filter(|key| !records.contains_key(key)).collect();
        for key in unlisted {
            self.learned.remove(key);
            context.outputs.push_back(Output::Forgotten(key));
        }
        // The prefix around comes last: those under it are in force before packets to them could use it.
        for (key, record) in records.iter().filter(|(key, _)| **key != covering.key) {
            self.learn(now, *key, record, lifetime(record), context);
        }
        if let Some(record) = records.get(&covering.key) {
            let lifetimes = records.values().map(|record| lifetime(record));
            let shortest = lifetimes.filter(|lifetime| !lifetime.is_zero()).min();
            let own = lifetime(record);
            let lifetime = shortest.map_or(own, |shortest| own.min(shortest));
            self.learn(now, covering.key, record, lifetime, context);
        }
        Some(asked)
    }

    /// What was learned before a restart holds for the rest of its time, and is asked for soon, one after the other: it may
    /// have changed meanwhile.
    pub(super) fn restore(
        &mut self,
        now: Instant,
        settings: &Settings,
        entries: Vec<(EidKey, Mapping, Duration)>,
        context: &mut Context,
    ) {
        // Not all who start together ask together.
        let mut asked = now + RESTORED.mul_f64(1.0 + context.rng.f64());
        for (key, mapping, lifetime) in entries {
            let locators = mapping.locators().iter();
            let record = Record {
                locators: locators.copied().map(LocatorRecord::new).collect(),
                ..Record::negative(key, Act::default(), 0)
            };
            if settings.is_own_eid(&record) {
                context.count("record_own_eid");
                continue;
            }
            context.count("restored");
            let is_positive = !record.locators.is_empty();
            if let Some(evicted) = self.learned.insert(now, key, is_positive, lifetime) {
                context.count("limit_learned");
                context.outputs.push_back(Output::Forgotten(evicted));
            }
            self.learned.ask_early(key, asked);
            asked += RESTORED_APART;
            context.outputs.push_back(Output::Learned {
                key,
                mapping,
                expires: now + lifetime,
            });
        }
    }

    /// A Map-Server says that this is registered elsewhere now. Believed for a short time; in which the mapping system is
    /// asked.
    pub(super) fn handle_moved(
        &mut self,
        now: Instant,
        settings: &Settings,
        record: &Record,
        context: &mut Context,
    ) {
        let lifetime = lifetime(record).min(TTL_OF_MOVED);
        self.learn(now, record.key, record, lifetime, context);
        if settings.asks() {
            self.ask_anew(now, settings, record.key, context);
        }
    }

    /// A Map-Request of ours came back to us: for what it asks, the mapping system knows nobody else.
    pub(super) fn handle_own_request(
        &mut self,
        now: Instant,
        settings: &Settings,
        nonce: u64,
        context: &mut Context,
    ) -> Option<EidKey> {
        let asked = self.by_nonce.get(&nonce).copied()?;
        self.step(now, settings, (asked, None), Occurrence::Answered, context);
        self.drop_learned(asked, context);
        Some(asked)
    }

    /// What was learned of this prefix, and of all under it, does not hold any more.
    pub(super) fn drop_learned(&mut self, key: EidKey, context: &mut Context) {
        let under: Vec<EidKey> = self.learned.under(key).collect();
        for key in under.into_iter().chain([key]) {
            if self.learned.remove(key) {
                context.outputs.push_back(Output::Forgotten(key));
            }
        }
    }

    /// The answer to a probe for `key`, sent at that time, which says what the ETR knows of the prefix (RFC 9301 7.1). It
    /// counts where it is about that very prefix and nothing else, where that was learned, and not after the probe. What
    /// nobody uses does not hold for longer by it.
    pub(super) fn handle_probed(
        &mut self,
        now: Instant,
        key: EidKey,
        sent: Instant,
        reply: &Reply,
        context: &mut Context,
    ) {
        let [record] = &reply.records[..] else {
            return;
        };
        if record.key != key || !self.learned.is_older(key, sent) {
            return;
        }
        context.count("refreshed_by_probe");
        let lifetime = lifetime(record);
        if lifetime.is_zero() {
            return self.learn(now, key, record, lifetime, context);
        }
        self.learned.renew(now, key, lifetime);
        context.outputs.push_back(Output::Learned {
            key,
            mapping: record.mapping(),
            expires: self.learned.expires(key).unwrap_or(now),
        });
    }

    fn learn(
        &mut self,
        now: Instant,
        key: EidKey,
        record: &Record,
        lifetime: Duration,
        context: &mut Context,
    ) {
        if lifetime.is_zero() {
            context.count("mapping_withdrawn");
            if self.learned.remove(key) {
                context.outputs.push_back(Output::Forgotten(key));
            }
            return;
        }
        let is_positive = !record.locators.is_empty();
        context.count(if is_positive {
            "learned"
        } else {
            "learned_negative"
        });
        if !is_positive && record.act.action().is_none() {
            context.count("act_unassigned");
        }
        if let Some(evicted) = self.learned.insert(now, key, is_positive, lifetime) {
            context.count("limit_learned");
            context.outputs.push_back(Output::Forgotten(evicted));
        }
        context.outputs.push_back(Output::Learned {
            key,
            mapping: record.mapping(),
            expires: self.learned.expires(key).unwrap_or(now),
        });
    }
}

/// RFC 9301 5.4: minutes; 0: no longer; all ones: as we like.
fn lifetime(record: &Record) -> Duration {
    match record.ttl_minutes {
        Record::TTL_UNSAID => TTL_OF_OURS,
        minutes => Duration::from_secs(u64::from(minutes) * 60),
    }
}

/// Of the inner packet, which has the family of the EID: an own RLOC, else the host whose packet was the reason.
pub(super) fn inner_source(
    settings: &Settings,
    eid: IpAddr,
    source: Option<EidAddress>,
    turn: usize,
) -> IpAddr {
    let host = source.map(|source| source.address);
    let host = host.filter(|host| host.is_ipv4() == eid.is_ipv4());
    let own = settings.source_of_turn(eid.is_ipv4(), turn).or(host);
    own.unwrap_or(match eid {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    })
}
