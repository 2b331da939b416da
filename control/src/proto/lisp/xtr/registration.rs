//! Registering own EIDs with every Map-Server (RFC 9301 5.6, 5.7, 8.2).
//!
//! Each Map-Register asks for a Map-Notify. Until it comes, the registration is sent again after 1, 2, 4 seconds and so
//! on, 20 apart at most within the first five minutes and 60 later; once it came, a minute later. Each has a nonce above
//! all before it, those that are sent again too: a Map-Server drops what it has seen.
//!
//! A registration that does not fit in one packet goes in several, each with a nonce of its own; it stands when all were
//! confirmed. A Map-Notify that answers nothing was sent because a registration changed, and is acknowledged.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::settings::{MapServer, Settings};
use super::{Context, Event, Output};
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
/// Nonces of the past that are known as own ones.
const SENT_MAX: usize = 256;
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

struct Server {
    settings: MapServer,
    /// When registering began, or what is registered changed.
    since: Instant,
    due: Instant,
    retry: Duration,
    /// Nonces of the last registration that were not confirmed.
    awaited: Vec<u64>,
    /// Nonces of the last registrations.
    recent: VecDeque<u64>,
    notified: Option<Instant>,
    /// It was said that it stands.
    is_told: bool,
    sent: u64,
}

impl Server {
    fn is_registered(&self, now: Instant) -> bool {
        self.notified.is_some_and(|then| now < then + HOLDS)
    }
}

pub(super) struct Registrar {
    servers: Vec<Server>,
    nonce: u64,
    /// Nonces up to here were given out to be kept.
    kept: u64,
}

impl Registrar {
    pub(super) fn new(last_nonce: u64) -> Self {
        Self {
            servers: Vec::new(),
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
        let says_the_same = old.eids == new.eids
            && old.rlocs == new.rlocs
            && old.identity == new.identity
            && old.is_etr == new.is_etr
            && old.map_version == new.map_version;
        let wanted = if new.is_etr && !new.eids.is_empty() {
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
                None => Server {
                    settings: settings.clone(),
                    since: now,
                    due: now,
                    retry: RETRY,
                    awaited: Vec::new(),
                    recent: VecDeque::new(),
                    notified: None,
                    is_told: false,
                    sent: 0,
                },
            };
            if !says_the_same {
                server.since = now;
                server.due = now;
                server.retry = RETRY;
            }
            self.servers.push(server);
        }
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
        self.servers.iter().map(|server| server.due).min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        settings: &Settings,
        context: &mut Context,
    ) {
        for position in 0..self.servers.len() {
            if self
                .servers
                .get(position)
                .is_some_and(|server| server.due <= now)
            {
                self.register(now, position, settings, context);
            }
        }
    }

    fn register(
        &mut self,
        now: Instant,
        position: usize,
        settings: &Settings,
        context: &mut Context,
    ) {
        let Some(server) = self.servers.get_mut(position) else {
            return;
        };
        if server.is_told && !server.is_registered(now) {
            server.is_told = false;
            let server = server.settings.address;
            context.event(Event::RegistrationLost { server });
        }
        let address = server.settings.address;
        let Some(source) = settings.source(address.is_ipv4()) else {
            context.count("register_no_source");
            server.due = now + RETRY;
            return;
        };
        server.awaited.clear();
        for records in parts(settings, &server.settings) {
            self.nonce = self.nonce.saturating_add(1);
            if self.nonce > self.kept {
                self.kept = self.nonce.saturating_add(NONCES_AT_ONCE);
                context.outputs.push_back(Output::KeepNonce(self.kept));
            }
            server.awaited.push(self.nonce);
            server.recent.push_back(self.nonce);
            if server.recent.len() > SENT_MAX {
                server.recent.pop_front();
            }
            let register = Register {
                flags: RegisterFlags {
                    proxy_reply: server.settings.proxy_reply,
                    want_notify: true,
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
        let is_starting = now < server.since + FAST_START;
        let [later, at_first] = RETRY_MAX;
        server.due = now + server.retry;
        server.retry = (server.retry * 2).min(if is_starting { at_first } else { later });
    }

    pub(super) fn handle_notify(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: IpAddr,
        notify: &Notify,
        bytes: &[u8],
        context: &mut Context,
    ) {
        let body = &notify.body;
        let mut servers = self.servers.iter_mut();
        let Some(server) = servers.find(|server| server.settings.address == from.ip()) else {
            context.count("notify_unknown_server");
            return;
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
            return;
        }
        let acceptance = Acceptance { strict: false };
        if let Err(refused) = auth::verify(bytes, body, key, acceptance) {
            context.count(refused.cause());
            return;
        }
        if server.recent.contains(&body.nonce) {
            // Of one that was confirmed, or sent again meanwhile, it says nothing new.
            if !server.awaited.contains(&body.nonce) {
                context.count("notify_repeated");
                return;
            }
            server.awaited.retain(|nonce| *nonce != body.nonce);
            if !server.awaited.is_empty() {
                return;
            }
            context.count("registered");
            server.notified = Some(now);
            server.retry = RETRY;
            // Somewhat earlier than it must be, so that not everybody who started together comes together.
            server.due = now + PERIOD.mul_f64(0.9 + 0.1 * context.rng.f64());
            if !server.is_told {
                server.is_told = true;
                context.event(Event::Registered { server: address });
            }
            return;
        }
        context.count("notified_unasked");
        context.event(Event::NotifiedUnasked { server: address });
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

/// All records, as many in each part as a packet takes (G-05).
fn parts(settings: &Settings, server: &MapServer) -> Vec<Vec<Record>> {
    let head = Registration::MAC_OFFSET + server.algorithm.mac_len() + Identity::LEN;
    let room = message_max(server.address.is_ipv4()) - head;
    let mut parts: Vec<Vec<Record>> = Vec::new();
    let mut left = 0;
    for key in &settings.eids {
        let record = settings.record(*key, None);
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
