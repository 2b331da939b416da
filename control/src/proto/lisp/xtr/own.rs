//! Whether the mapping system knows own EIDs as they are configured: `sextant lig self` (RFC 6835 4).
//!
//! The Map-Resolvers are asked for each own prefix, as anybody would ask them. A Map-Server that answers for us says what
//! others are told; else the question comes to us, which says as much.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::Context;
use super::itr::inner_source;
use super::settings::{Settings, is_within};
use crate::proto::lisp::wire::{CONTROL_PORT, Encapsulated, Record, Reply, Request};
use crate::proto::lisp::{Action, EidKey};

/// Prefixes that are asked for, most.
const ASKED_MAX: usize = 64;

/// What the mapping system says of an own EID prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It sent the question on to us.
    AskedUs,
    /// Our RLOCs as they are configured, and so many of others that merge with them.
    AsConfigured {
        /// How many.
        others: usize,
    },
    /// Other RLOCs, or ours with other priorities and weights.
    Otherwise {
        /// All of them.
        rlocs: Vec<IpAddr>,
    },
    /// Something of a prefix around it.
    Around {
        /// That prefix.
        key: EidKey,
    },
    /// That nobody has it.
    Nobody {
        /// What others do with packets to it.
        action: Option<Action>,
    },
}

impl Said {
    /// Whether it is known as it is configured.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        matches!(self, Self::AskedUs | Self::AsConfigured { .. })
    }

    /// What an answer says of what is configured.
    #[must_use]
    pub fn of(own: &Record, answer: &[Record]) -> Self {
        let is_around = |record: &&Record| {
            record.key.instance == own.key.instance && record.key.eid.contains(&own.key.eid.addr())
        };
        let exact = answer.iter().find(|record| record.key == own.key);
        let around = answer.iter().filter(is_around);
        let around = around.max_by_key(|record| record.key.eid.prefix_len());
        let Some(record) = exact.or(around) else {
            return Self::Nobody { action: None };
        };
        if record.locators.is_empty() {
            let action = record.act.action();
            return Self::Nobody { action };
        }
        // A narrower one stands for it where all that is under it would not fit in an answer.
        if !is_within(record.key, own.key) {
            return Self::Around { key: record.key };
        }
        let is_said = own.locators.iter().all(|own| {
            let mut said = record.locators.iter();
            said.any(|said| {
                (said.rloc, said.priority, said.weight) == (own.rloc, own.priority, own.weight)
            })
        });
        match is_said {
            true => Self::AsConfigured {
                others: record.locators.len().saturating_sub(own.locators.len()),
            },
            false => Self::Otherwise {
                rlocs: record.locators.iter().map(|said| said.rloc).collect(),
            },
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AskedUs => f.write_str("registered here: the question came to us"),
            Self::AsConfigured { others: 0 } => f.write_str("as configured"),
            Self::AsConfigured { others } => {
                write!(f, "as configured, merged with {others} RLOCs of others")
            }
            Self::Otherwise { rlocs } => {
                let rlocs = rlocs.iter().map(IpAddr::to_string);
                let rlocs = rlocs.collect::<Vec<_>>().join(", ");
                write!(f, "not as configured, but at {rlocs}")
            }
            Self::Around { key } => write!(f, "not registered; {key} around it is"),
            Self::Nobody { action } => {
                let action = action.map_or("unknown", Action::name);
                write!(f, "not registered: {action}")
            }
        }
    }
}

/// What became of the question for an own prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The prefix.
    pub key: EidKey,
    /// What was said, and how long that took; none: nothing yet.
    pub said: Option<(Said, Duration)>,
}

struct Question {
    nonce: u64,
    sent: Instant,
    said: Option<(Said, Duration)>,
}

#[derive(Default)]
pub(super) struct Own {
    questions: BTreeMap<EidKey, Question>,
    turn: usize,
}

impl Own {
    /// Ask for all own prefixes, or once more for those that were not answered. Who is asked: this one, or the
    /// Map-Resolvers in turn. How many prefixes are too many.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        settings: &Settings,
        (to, is_anew): (Option<IpAddr>, bool),
        context: &mut Context,
    ) -> usize {
        if is_anew {
            self.questions.clear();
        }
        let asked = settings.eids.iter().take(ASKED_MAX);
        let resolver = to.or_else(|| {
            let count = settings.map_resolvers.len().max(1);
            let turns = (0..count).map(|number| (self.turn + number) % count);
            let mut resolvers = turns.filter_map(|turn| settings.map_resolvers.get(turn));
            resolvers
                .find(|resolver| settings.source(resolver.is_ipv4()).is_some())
                .copied()
        });
        self.turn = self.turn.wrapping_add(1);
        for key in asked {
            let question = self.questions.get(key);
            if question.is_some_and(|question| question.said.is_some()) {
                continue;
            }
            let nonce = context.nonces.make();
            let question = Question {
                nonce,
                sent: now,
                said: None,
            };
            self.questions.insert(*key, question);
            let source = resolver.and_then(|resolver| settings.source(resolver.is_ipv4()));
            let (Some(resolver), Some(source)) = (resolver, source) else {
                context.count("request_no_source");
                continue;
            };
            let rlocs = settings.rlocs.iter().filter(|own| own.up);
            let rlocs = rlocs.map(|own| own.rloc).collect();
            let eid = key.eid.addr();
            let inner = inner_source(settings, eid, None, 0);
            let message = Encapsulated {
                ddt: false,
                source: SocketAddr::new(inner, CONTROL_PORT),
                destination: SocketAddr::new(eid, CONTROL_PORT),
                request: Request::new(nonce, rlocs, *key),
            };
            context.count("sent_map_request");
            let destination = SocketAddr::new(resolver, CONTROL_PORT);
            context.send(source, destination, message.emit());
        }
        settings.eids.len().saturating_sub(ASKED_MAX)
    }

    /// A Map-Reply; whether it is an answer to a question of ours.
    pub(super) fn handle_reply(
        &mut self,
        now: Instant,
        settings: &Settings,
        reply: &Reply,
    ) -> bool {
        self.note(now, reply.nonce, |key| {
            Said::of(&settings.record(key, None), &reply.records)
        })
    }

    /// A Map-Request that came through the mapping system; whether it is a question of ours.
    pub(super) fn handle_own_request(&mut self, now: Instant, nonce: u64) -> bool {
        self.note(now, nonce, |_| Said::AskedUs)
    }

    fn note(&mut self, now: Instant, nonce: u64, said: impl FnOnce(EidKey) -> Said) -> bool {
        let mut questions = self.questions.iter_mut();
        let Some((key, question)) = questions.find(|(_, question)| question.nonce == nonce) else {
            return false;
        };
        let round_trip = now.saturating_duration_since(question.sent);
        question
            .said
            .get_or_insert_with(|| (said(*key), round_trip));
        true
    }

    pub(super) fn checked(&self) -> impl Iterator<Item = Checked> + '_ {
        let questions = self.questions.iter();
        questions.map(|(key, question)| Checked {
            key: *key,
            said: question.said.clone(),
        })
    }
}
