//! Registering own EIDs with every Map-Server (RFC 9301 5.6, 5.7, 8.2).
//!
//! Each Map-Register asks for a Map-Notify. Until it comes, the registration is sent again after 1, 2, 4 seconds and so
//! on, 20 apart at most within the first five minutes and 60 later; once it came, a minute later. Each has a nonce above
//! all before it, those that are sent again too: a Map-Server drops what it has seen.
//!
//! A registration that does not fit in one packet goes in several, each with a nonce of its own; it stands when all were
//! confirmed, and only what was not confirmed is sent again. An EID that comes or goes meanwhile is told alone and at
//! once; one that is gone with a TTL of 0, which withdraws it. A Map-Notify that answers nothing was sent because a
//! registration changed, and is acknowledged; what it says counts once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::settings::{MapServer, Settings};
use super::{Context, Event, Output};
use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::auth::{self, Acceptance};
use crate::proto::lisp::wire::{
    CONTROL_PORT, Identity, Message, Notify, Record, Register, RegisterFlags, Registration, emit,
    message_max,
};

/// Between two registrations (RFC 9301 8.2).
const PERIOD: Duration = Duration::from_secs(60);
/// How long a Map-Server keeps one (RFC 9301 8.2).
const HOLDS: Duration = Duration::from_secs(180);
/// The first wait for a Map-Notify (RFC 9301 5.7).
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait, and that of the first minutes (RFC 9301 8.2).
const RETRY_MAX: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(20)];
/// How long those first minutes are.
const FAST_START: Duration = Duration::from_secs(300);
/// Nonces of the past that are known as own ones, or as those of Map-Notifies that were acknowledged.
const NONCES_MAX: usize = 256;
/// Nonces that are kept at once, so that not every message is a write.
const NONCES_AT_ONCE: u64 = 4096;

/// How a registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerState {
    /// The Map-Server.
    pub address: IpAddr,
    /// It confirmed a registration that it still keeps.
    pub is_registered: bool,
    /// When it confirmed the last one.
    pub notified: Option<Instant>,
    /// Map-Registers that were sent.
    pub sent: u64,
}

/// How the registration of an EID stands, as tests see it.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Everything is to be said at once, or was said and is not confirmed.
    pub(super) is_due: bool,
    pub(super) is_said: bool,
    /// What is said of the EID is not confirmed, and was not even said.
    pub(super) is_unconfirmed: bool,
    pub(super) is_news: bool,
    /// The Map-Server has confirmed something, and keeps it.
    pub(super) was_confirmed: bool,
    pub(super) is_registered: bool,
}

struct Server {
    settings: MapServer,
    /// When registering began, or all that is registered changed.
    since: Instant,
    /// When everything is to be registered again; `None` while that is under way.
    refresh: Option<Instant>,
    /// EIDs it has not confirmed to be, or not to be, here.
    unconfirmed: BTreeSet<EidKey>,
    /// Of them, those that were not sent yet.
    news: BTreeSet<EidKey>,
    /// And those that are not here, with when it was told first: a Map-Server may not confirm that, and forgets them anyway.
    gone: BTreeMap<EidKey, Instant>,
    /// When it is told again.
    again: Option<Instant>,
    retry: Duration,
    /// Messages that were not confirmed, by nonce.
    awaited: BTreeMap<u64, Vec<EidKey>>,
    /// Nonces of the last registrations.
    recent: VecDeque<u64>,
    /// And those of the last Map-Notifies nobody asked for.
    unasked: VecDeque<u64>,
    notified: Option<Instant>,
    /// It was said that it stands.
    is_told: bool,
    sent: u64,
}

impl Server {
    fn new(settings: MapServer, now: Instant) -> Self {
        Self {
            settings,
            since: now,
            refresh: Some(now),
            unconfirmed: BTreeSet::new(),
            news: BTreeSet::new(),
            gone: BTreeMap::new(),
            again: None,
            retry: RETRY,
            awaited: BTreeMap::new(),
            recent: VecDeque::new(),
            unasked: VecDeque::new(),
            notified: None,
            is_told: false,
            sent: 0,
        }
    }

    fn is_registered(&self, now: Instant) -> bool {
        self.notified.is_some_and(|then| now < then + HOLDS)
    }

    /// Nothing is registered here any more: what is to be withdrawn.
    fn leave(self, settings: &Settings) -> (Self, Vec<EidKey>) {
        let own = settings.eids.iter().chain(&self.unconfirmed);
        let eids: BTreeSet<EidKey> = own.copied().collect();
        (self, eids.into_iter().collect())
    }

    /// Something else is said of this EID from now on.
    fn restate(&mut self, now: Instant, key: EidKey) {
        for keys in self.awaited.values_mut() {
            keys.retain(|awaited| *awaited != key);
        }
        self.unconfirmed.insert(key);
        self.gone.remove(&key);
        self.news.insert(key);
        self.again = Some(now);
        self.retry = RETRY;
    }
}

/// The last few, so that what comes twice is known.
fn remember(nonces: &mut VecDeque<u64>, nonce: u64) {
    nonces.push_back(nonce);
    if nonces.len() > NONCES_MAX {
        nonces.pop_front();
    }
}

pub(super) struct Registrar {
    servers: Vec<Server>,
    /// Map-Servers that are to be told that nothing is registered there any more.
    left: Vec<(Server, Vec<EidKey>)>,
    nonce: u64,
    /// Nonces up to here were given out to be kept.
    kept: u64,
}

impl Registrar {
    pub(super) fn new(last_nonce: u64) -> Self {
        Self {
            servers: Vec::new(),
            left: Vec::new(),
            nonce: last_nonce,
            kept: last_nonce,
        }
    }

    pub(super) fn raise_nonce(&mut self, last: u64) {
        self.nonce = self.nonce.max(last);
        self.kept = self.nonce;
    }

    /// What is registered, or where, is another.
    pub(super) fn set(&mut self, now: Instant, old: &Settings, new: &Settings) {
        let says_the_same = old.says_the_same(new) && old.is_etr == new.is_etr;
        let differing = old.eids_apart(new);
        let wanted = if new.is_etr {
            &new.map_servers[..]
        } else {
            &[]
        };
        let mut before = std::mem::take(&mut self.servers);
        for settings in wanted {
            let known = before
                .iter()
                .position(|server| server.settings == *settings);
            let mut server = match known {
                Some(position) => before.swap_remove(position),
                None => Server::new(settings.clone(), now),
            };
            if !says_the_same {
                server.since = now;
                server.refresh = Some(now);
            }
            if known.is_some() {
                // Where all is said anew, what went is to be withdrawn.
                let differing = differing.iter();
                let told = differing.filter(|key| says_the_same || !new.eids.contains(key));
                told.for_each(|key| server.restate(now, *key));
            }
            self.servers.push(server);
        }
        // A registration of the same Map-Server with another key goes on there.
        let is_left = |server: &Server| {
            let address = server.settings.address;
            wanted.iter().all(|wanted| wanted.address != address)
        };
        let left = before.into_iter().filter(is_left);
        self.left.extend(left.map(|server| server.leave(old)));
    }

    /// Another site has this EID now, and has said so: nothing more is to be said of it.
    pub(super) fn drop_eid(&mut self, key: EidKey) {
        for server in &mut self.servers {
            server.unconfirmed.remove(&key);
            server.gone.remove(&key);
            server.news.remove(&key);
            server
                .awaited
                .values_mut()
                .for_each(|keys| keys.retain(|k| *k != key));
        }
    }

    /// An EID host came, or went.
    pub(super) fn restate(&mut self, now: Instant, key: EidKey) {
        for server in &mut self.servers {
            server.restate(now, key);
        }
    }

    /// Whether every Map-Server has confirmed what is said of this EID.
    pub(super) fn is_confirmed(&self, now: Instant, key: EidKey) -> bool {
        self.servers.iter().all(|server| {
            let is_due = server.refresh.is_some_and(|due| due <= now);
            !is_due && !server.unconfirmed.contains(&key)
        })
    }

    /// Nothing is registered any more: said once, because nobody waits for an answer.
    pub(super) fn withdraw(&mut self, settings: &Settings, context: &mut Context) {
        let servers = std::mem::take(&mut self.servers);
        let left = servers.into_iter().map(|server| server.leave(settings));
        self.left.extend(left);
        self.take_leave(settings, context);
    }

    fn take_leave(&mut self, settings: &Settings, context: &mut Context) {
        for (mut server, eids) in std::mem::take(&mut self.left) {
            let gone = Settings {
                eids: Vec::new(),
                ..settings.clone()
            };
            self.tell(&mut server, &gone, eids, context);
        }
    }

    #[cfg(test)]
    pub(super) fn standing(&self, now: Instant, key: EidKey) -> Option<Standing> {
        self.servers.first().map(|server| Standing {
            is_due: server.refresh.is_some_and(|due| due <= now),
            is_said: server.refresh.is_none(),
            is_unconfirmed: server.unconfirmed.contains(&key),
            is_news: server.news.contains(&key),
            was_confirmed: server.notified.is_some(),
            is_registered: server.is_registered(now),
        })
    }

    pub(super) fn servers(&self, now: Instant) -> impl Iterator<Item = ServerState> + '_ {
        self.servers.iter().map(move |server| ServerState {
            address: server.settings.address,
            is_registered: server.is_registered(now),
            notified: server.notified,
            sent: server.sent,
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let left = self.left.iter().map(|(server, _)| server.since);
        let servers = self.servers.iter();
        let due = servers.flat_map(|server| [server.refresh, server.again]);
        due.flatten().chain(left).min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        settings: &Settings,
        context: &mut Context,
    ) {
        self.take_leave(settings, context);
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let mut servers = std::mem::take(&mut self.servers);
        for server in &mut servers {
            if is_due(server.refresh) || is_due(server.again) {
                self.register(now, server, settings, context);
            }
        }
        self.servers = servers;
    }

    fn register(
        &mut self,
        now: Instant,
        server: &mut Server,
        settings: &Settings,
        context: &mut Context,
    ) {
        if server.is_told && !server.is_registered(now) {
            server.is_told = false;
            let server = server.settings.address;
            context.event(Event::RegistrationLost { server });
        }
        if server.refresh.is_some_and(|due| due <= now) {
            server.refresh = None;
            server.retry = RETRY;
            server.news.clear();
            server.unconfirmed.extend(&settings.eids);
        }
        for key in &server.unconfirmed {
            if !settings.eids.contains(key) {
                server.gone.entry(*key).or_insert(now);
            }
        }
        let run_out: Vec<EidKey> = server
            .gone
            .extract_if(.., |_, since| now >= *since + HOLDS)
            .map(|(key, _)| key)
            .collect();
        for key in run_out {
            server.unconfirmed.remove(&key);
        }
        if server.unconfirmed.is_empty() {
            // Nothing to say yet, or no more.
            server.refresh.get_or_insert(now + PERIOD);
            server.again = None;
            return;
        }
        let news = std::mem::take(&mut server.news);
        let told = if news.is_empty() {
            server.awaited.clear();
            server.unconfirmed.iter().copied().collect()
        } else {
            news.into_iter().collect()
        };
        self.tell(server, settings, told, context);
        let is_starting = now < server.since + FAST_START;
        let [later, at_first] = RETRY_MAX;
        server.again = Some(now + server.retry);
        server.retry = (server.retry * 2).min(if is_starting { at_first } else { later });
    }

    /// Send what is said of these EIDs, in as many messages as it takes.
    fn tell(
        &mut self,
        server: &mut Server,
        settings: &Settings,
        eids: Vec<EidKey>,
        context: &mut Context,
    ) {
        let address = server.settings.address;
        let Some(source) = settings.source(address.is_ipv4()) else {
            context.count("register_no_source");
            return;
        };
        for records in parts(settings, &server.settings, &eids) {
            self.nonce = self.nonce.saturating_add(1);
            if self.nonce > self.kept {
                self.kept = self.nonce.saturating_add(NONCES_AT_ONCE);
                context.outputs.push_back(Output::KeepNonce(self.kept));
            }
            let keys = records.iter().map(|record| record.key).collect();
            server.awaited.insert(self.nonce, keys);
            remember(&mut server.recent, self.nonce);
            let register = Register {
                flags: RegisterFlags {
                    proxy_reply: server.settings.proxy_reply,
                    want_notify: true,
                    merge: server.settings.merge,
                    ..RegisterFlags::default()
                },
                body: Registration {
                    nonce: self.nonce,
                    key_id: server.settings.key_id,
                    algorithm_id: server.settings.algorithm.id(),
                    mac: vec![0; server.settings.algorithm.mac_len()],
                    records,
                    identity: settings.identity,
                },
            };
            let message = emit(&Message::Register(register));
            server.sent += 1;
            send_sealed(
                source,
                &server.settings,
                message,
                "sent_map_register",
                context,
            );
        }
    }

    /// Records of a Map-Notify that was not asked for, and is believed: what is registered now.
    pub(super) fn handle_notify<'n>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: IpAddr,
        notify: &'n Notify,
        bytes: &[u8],
        context: &mut Context,
    ) -> &'n [Record] {
        let body = &notify.body;
        let mut servers = self.servers.iter_mut();
        let Some(server) = servers.find(|server| server.settings.address == from.ip()) else {
            context.count("notify_unknown_server");
            return &[];
        };
        let MapServer {
            address,
            key_id,
            algorithm,
            ref key,
            ..
        } = server.settings;
        if body.key_id != key_id || body.algorithm_id != algorithm.id() {
            context.count("notify_other_key");
            return &[];
        }
        let acceptance = Acceptance { strict: false };
        if let Err(refused) = auth::verify(bytes, body, key, acceptance) {
            context.count(refused.cause());
            return &[];
        }
        if server.recent.contains(&body.nonce) {
            // Of one that was confirmed, or sent again meanwhile, it says nothing new.
            let Some(confirmed) = server.awaited.remove(&body.nonce) else {
                context.count("notify_repeated");
                return &[];
            };
            for key in confirmed {
                server.unconfirmed.remove(&key);
                server.gone.remove(&key);
            }
            if server.unconfirmed.len() > server.gone.len() {
                return &[];
            }
            if server.unconfirmed.is_empty() {
                server.again = None;
            }
            if server.refresh.is_some() {
                context.count("registered_change");
                return &[];
            }
            context.count("registered");
            server.notified = Some(now);
            // Somewhat earlier than it must be, so that not everybody who started together comes together.
            server.refresh = Some(now + PERIOD.mul_f64(0.9 + 0.1 * context.rng.f64()));
            if !server.is_told {
                server.is_told = true;
                context.event(Event::Registered { server: address });
            }
            return &[];
        }
        // It is sent until it is acknowledged, and somebody may keep it: what it says is old then.
        let is_new = !server.unasked.contains(&body.nonce);
        if is_new {
            remember(&mut server.unasked, body.nonce);
            context.event(Event::NotifiedUnasked { server: address });
        }
        context.count("notified_unasked");
        let ack = Notify {
            body: Registration {
                mac: vec![0; algorithm.mac_len()],
                ..body.clone()
            },
        };
        let message = emit(&Message::NotifyAck(ack));
        send_sealed(
            to,
            &server.settings,
            message,
            "sent_map_notify_ack",
            context,
        );
        if is_new { &body.records } else { &[] }
    }
}

/// Make the message authentic and send it.
fn send_sealed(
    source: IpAddr,
    server: &MapServer,
    mut message: Vec<u8>,
    name: &'static str,
    context: &mut Context,
) {
    if auth::seal(&mut message, &server.key).is_err() {
        context.count("not_sealed");
        return;
    }
    context.count(name);
    context.send(
        source,
        SocketAddr::new(server.address, CONTROL_PORT),
        message,
    );
}

/// What is said of these EIDs, as many in each part as a packet takes (G-05): of those that are not ours, that they are
/// not, in parts of their own.
fn parts(settings: &Settings, server: &MapServer, eids: &[EidKey]) -> Vec<Vec<Record>> {
    let head = Registration::MAC_OFFSET + server.algorithm.mac_len() + Identity::LEN;
    let room = message_max(server.address.is_ipv4()) - head;
    let own: BTreeSet<EidKey> = settings.eids.iter().copied().collect();
    let mut parts: Vec<Vec<Record>> = Vec::new();
    let mut left = 0;
    let (here, gone): (Vec<EidKey>, Vec<EidKey>) = eids.iter().partition(|key| own.contains(key));
    let first_gone = gone.first().copied();
    for key in here.into_iter().chain(gone) {
        let mut record = settings.record(key, None);
        if !own.contains(&key) {
            record.ttl_minutes = 0;
        }
        if first_gone == Some(key) {
            left = 0;
        }
        match parts.last_mut() {
            Some(part) if record.wire_len() <= left && part.len() < 255 => {
                left -= record.wire_len();
                part.push(record);
            }
            _ => {
                left = room.saturating_sub(record.wire_len());
                parts.push(vec![record]);
            }
        }
    }
    parts
}
