//! Solicited Map-Requests (RFC 9301 6.1): telling those we send to that a mapping of ours is another, and asking anew for
//! what others tell of.
//!
//! ```text
//! sender, for an EID:    changed --> waits until every Map-Server has confirmed it, 3 s at most
//!                                --> owed to every RLOC that packets went to in the last minute
//! for an RLOC:           owed --> one message with all it is owed (as fits) --> 3 s of rest
//!
//! receiver, for a prefix:   told --> asked anew --> 3 s in which it is not; told meanwhile: asked once more after them
//! ```
//!
//! What is said must be true first: whoever is solicited asks the mapping system, and an answer from before the
//! registration would stay with them. An RLOC that packets went to only just after the change is told as well.
//!
//! A solicitation proves nothing, so it only leads to a question, and only where something is known that may be wrong
//! (S-03, S-05). Deployed routers name what changed as the source EID, the RFC as the record: both are sent, and either is
//! understood (S-04).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::itr::Itr;
use super::settings::Settings;
use super::{Context, is_unicast};
use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::{
    Asked, CONTROL_PORT, EidAddress, Message, Request, RequestFlags, emit, message_max,
};
use crate::proto::ndp::bucket::TokenBucket;

/// Whoever was sent packets within this time is told (RFC 9301 6.1).
const RECENT: Duration = Duration::from_secs(60);
/// Between two solicitations to one RLOC, and two questions for one prefix because of some (RFC 9301 6.1).
const REST: Duration = Duration::from_secs(3);
/// How long a change waits to be registered.
const UNREGISTERED_MAX: Duration = Duration::from_secs(3);
/// How long after a change it is news for an RLOC that was not sent anything before.
const NEWS: Duration = Duration::from_secs(1);
/// RLOCs that are known as recent ones, most.
pub(super) const PEERS_MAX: usize = 4096;
/// Prefixes that others told of and that rest, most.
pub(super) const INVITED_MAX: usize = 4096;
/// EIDs that changed and are to be told of, most: of more, nobody is told, and TTLs do the rest.
const CHANGED_MAX: usize = 4096;
/// Records of one message, most.
const RECORDS_MAX: usize = 8;
/// Solicitations that are sent at once, and the pause then.
const PACE: (usize, Duration) = (64, Duration::from_millis(10));
/// Solicitations that are looked at, a second and at once: the lookup costs more than they do.
const RECEIVED: (u32, u32) = (200, 400);
/// Prefixes of one solicitation that are looked at, most.
const ASKED_MAX: usize = 8;

/// An RLOC that packets went to.
#[derive(Debug)]
struct Peer {
    used: Instant,
    /// When it was told last.
    told: Option<Instant>,
    owed: BTreeSet<EidKey>,
}

/// A prefix that somebody told of.
#[derive(Debug, Clone, Copy)]
struct Invited {
    rests_until: Instant,
    /// Told again meanwhile.
    again: bool,
}

pub(super) struct Soliciting {
    peers: BTreeMap<IpAddr, Peer>,
    /// When an RLOC may be told, and is owed something.
    due: BTreeSet<(Instant, IpAddr)>,
    /// Nobody is told before.
    paused_until: Instant,
    /// What changed, and until when it waits to be registered.
    changed: BTreeMap<EidKey, Instant>,
    /// What others were told of, and until when that is news.
    news: BTreeMap<EidKey, Instant>,
    invited: BTreeMap<EidKey, Invited>,
    received: TokenBucket,
}

impl Soliciting {
    pub(super) fn new(now: Instant) -> Self {
        let (per_second, burst) = RECEIVED;
        Self {
            peers: BTreeMap::new(),
            due: BTreeSet::new(),
            paused_until: now,
            changed: BTreeMap::new(),
            news: BTreeMap::new(),
            invited: BTreeMap::new(),
            received: TokenBucket::new(now, per_second, burst),
        }
    }

    /// Packets went to this RLOC.
    pub(super) fn note_sent_to(&mut self, now: Instant, rloc: IpAddr) {
        if !self.peers.contains_key(&rloc) && self.peers.len() >= PEERS_MAX {
            self.peers
                .retain(|_, peer| now < peer.used + RECENT || !peer.owed.is_empty());
            if self.peers.len() >= PEERS_MAX {
                return;
            }
        }
        let peer = self.peers.get_mut(&rloc);
        let is_recent = peer.is_some_and(|peer| {
            let before = std::mem::replace(&mut peer.used, now);
            now < before + RECENT
        });
        self.peers.entry(rloc).or_insert_with(|| Peer {
            used: now,
            told: None,
            owed: BTreeSet::new(),
        });
        if !is_recent {
            let news = self.news.iter().filter(|(_, until)| now < **until);
            let news: Vec<EidKey> = news.map(|(key, _)| *key).collect();
            self.owe(now, rloc, &news);
        }
    }

    /// Something else is said of this EID prefix from now on.
    pub(super) fn changed(&mut self, now: Instant, key: EidKey, context: &mut Context) {
        if self.changed.len() >= CHANGED_MAX {
            context.count("limit_changes");
            return;
        }
        self.changed.insert(key, now + UNREGISTERED_MAX);
    }

    fn owe(&mut self, now: Instant, rloc: IpAddr, keys: &[EidKey]) {
        let Some(peer) = self.peers.get_mut(&rloc) else {
            return;
        };
        if peer.owed.is_empty() && !keys.is_empty() {
            let due = peer.told.map_or(now, |told| now.max(told + REST));
            self.due.insert((due, rloc));
        }
        peer.owed.extend(keys);
    }

    /// A solicitation, which changes nothing by itself.
    pub(super) fn handle_solicitation(
        &mut self,
        now: Instant,
        settings: &Settings,
        request: &Request,
        itr: &mut Itr,
        context: &mut Context,
    ) {
        if !settings.asks() {
            context.count("solicitation_not_itr");
            return;
        }
        if !self.received.take(now, 0) {
            context.count("limit_solicitations");
            return;
        }
        let asked = request.asked.iter().map(|asked| asked.key);
        let mut told: Vec<EidKey> = asked.take(ASKED_MAX).collect();
        if let Some(source) = request.source {
            let is_named = |key: &EidKey| {
                key.instance == source.instance && key.eid.network() == source.address
            };
            if !told.iter().any(is_named) {
                told.push(source.host());
            }
        }
        told.retain(|key| itr.knows(*key));
        if told.is_empty() {
            context.count("solicitation_unknown");
        }
        for key in told {
            self.invite(now, settings, key, itr, context);
        }
    }

    fn invite(
        &mut self,
        now: Instant,
        settings: &Settings,
        key: EidKey,
        itr: &mut Itr,
        context: &mut Context,
    ) {
        if let Some(invited) = self.invited.get_mut(&key) {
            invited.again = true;
            context.count("solicitation_again");
            return;
        }
        if self.invited.len() >= INVITED_MAX {
            context.count("limit_solicitations");
            return;
        }
        let invited = Invited {
            rests_until: now + REST,
            again: false,
        };
        self.invited.insert(key, invited);
        context.count("solicitation_followed");
        itr.ask_anew(now, settings, key, context);
    }

    /// Everything that is due; `is_confirmed`: whether every Map-Server knows what is said of an EID.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        settings: &Settings,
        itr: &mut Itr,
        is_confirmed: impl Fn(EidKey) -> bool,
        context: &mut Context,
    ) {
        self.news.retain(|_, until| now < *until);
        let changed = self.changed.iter();
        let ready = changed.filter(|(key, until)| now >= **until || is_confirmed(**key));
        let ready: Vec<EidKey> = ready.map(|(key, _)| *key).collect();
        if !ready.is_empty() {
            for key in &ready {
                self.changed.remove(key);
                self.news.insert(*key, now + NEWS);
            }
            let recent = self.peers.iter();
            let recent = recent.filter(|(_, peer)| now < peer.used + RECENT);
            let recent: Vec<IpAddr> = recent.map(|(rloc, _)| *rloc).collect();
            for rloc in recent {
                self.owe(now, rloc, &ready);
            }
        }
        self.tell(now, settings, context);
        let over = self.invited.iter();
        let over = over.filter(|(_, invited)| now >= invited.rests_until);
        let over: Vec<(EidKey, bool)> = over.map(|(key, invited)| (*key, invited.again)).collect();
        for (key, again) in over {
            self.invited.remove(&key);
            if again {
                self.invite(now, settings, key, itr, context);
            }
        }
    }

    /// Tell those whose time has come.
    fn tell(&mut self, now: Instant, settings: &Settings, context: &mut Context) {
        let (most, pause) = PACE;
        let mut sent = 0;
        while let Some((due, rloc)) = self.due.first().copied()
            && due.max(self.paused_until) <= now
        {
            if sent == most {
                self.paused_until = now + pause;
                return;
            }
            self.due.remove(&(due, rloc));
            let Some(peer) = self.peers.get_mut(&rloc) else {
                continue;
            };
            let Some(source) = settings.source(rloc.is_ipv4()).filter(|_| is_unicast(rloc)) else {
                context.count("solicitation_no_source");
                peer.owed.clear();
                continue;
            };
            let Some((told, message)) = message(settings, rloc, &peer.owed, context.nonces.make())
            else {
                peer.owed.clear();
                continue;
            };
            for key in told {
                peer.owed.remove(&key);
            }
            peer.told = Some(now);
            if !peer.owed.is_empty() {
                self.due.insert((now + REST, rloc));
            }
            sent += 1;
            context.count("sent_solicitation");
            context.send(source, SocketAddr::new(rloc, CONTROL_PORT), message);
        }
    }

    /// When [`Soliciting::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let changed = self.changed.values().min().copied();
        let told = self.due.first();
        let told = told.map(|(due, _)| self.paused_until.max(*due));
        let invited = self.invited.values();
        let invited = invited.map(|invited| invited.rests_until).min();
        [changed, told, invited].into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.peers.len(), self.invited.len())
    }
}

/// A solicitation with as much of what is owed as fits, and what that is.
fn message(
    settings: &Settings,
    to: IpAddr,
    owed: &BTreeSet<EidKey>,
    nonce: u64,
) -> Option<(Vec<EidKey>, Vec<u8>)> {
    let first = *owed.first()?;
    let own = settings.rlocs.iter().filter(|own| own.up);
    let own: Vec<IpAddr> = own.map(|own| own.rloc).collect();
    (1..=RECORDS_MAX.min(owed.len())).rev().find_map(|count| {
        let told: Vec<EidKey> = owed.iter().take(count).copied().collect();
        let asked = told.iter().map(|key| Asked {
            key: *key,
            subscribe: false,
        });
        let request = Request {
            flags: RequestFlags {
                solicit: true,
                no_reply: true,
                ..RequestFlags::default()
            },
            source: Some(EidAddress {
                instance: first.instance,
                address: first.eid.network(),
            }),
            asked: asked.collect(),
            ..Request::new(nonce, own.clone(), first)
        };
        let message = emit(&Message::Request(request));
        (message.len() <= message_max(to.is_ipv4())).then_some((told, message))
    })
}
