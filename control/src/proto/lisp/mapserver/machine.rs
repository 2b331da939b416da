//! The machine: what comes in goes to its kind, what is due is done.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::counters::{Counter, Counters};
use super::database::{Database, Entry, Seconds};
use super::limiter::Limiter;
use super::notices::{Due, Notices};
use super::sites::{SavedNonce, Sites};
use super::{Input, Output, REPORTS_PER_SECOND, Registered, Report, Settings};
use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::auth::{Acceptance, verify};
use crate::proto::lisp::wire::{self, CONTROL_PORT, Message, Notify, types};

/// A Map-Server and Map-Resolver.
#[derive(Debug)]
pub struct Machine {
    pub(super) settings: Settings,
    pub(super) start: Instant,
    pub(super) sites: Sites,
    pub(super) database: Database,
    pub(super) notices: Notices,
    pub(super) counters: Counters,
    pub(super) requests: Limiter,
    pub(super) registers: Limiter,
    pub(super) replies: Limiter,
    /// Nonce of the next Map-Notify nobody asked for.
    pub(super) notify_nonce: u64,
    outputs: VecDeque<Output>,
    /// Reports of this second.
    reports: (Seconds, u32),
}

impl Machine {
    /// A server that knows nothing yet; `rng` makes its nonces and the places of its buckets hard to guess.
    #[must_use]
    pub fn new(now: Instant, settings: Settings, mut rng: fastrand::Rng) -> Self {
        let mut sites = Sites::new();
        sites.configure(&settings);
        Self {
            requests: Limiter::new(now, settings.requests, rng.u64(..)),
            registers: Limiter::new(now, settings.registers, rng.u64(..)),
            replies: Limiter::new(now, settings.replies, rng.u64(..)),
            notify_nonce: rng.u64(..),
            database: Database::new(rng.u64(..)),
            settings,
            start: now,
            sites,
            notices: Notices::default(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            reports: (0, 0),
        }
    }

    /// Other settings. Registrations that are no longer allowed are gone, the others stay, and so do nonces.
    pub fn configure(&mut self, settings: Settings) {
        self.sites.configure(&settings);
        self.requests.set_rate(settings.requests);
        self.registers.set_rate(settings.registers);
        self.replies.set_rate(settings.replies);
        self.settings = settings;
        let sites = &self.sites;
        self.database
            .retain_all(|key, etr| sites.allowed(key).any(|site| site == etr.site));
    }

    /// A datagram came, from and to these addresses; its UDP checksum was right.
    pub fn handle_input(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.handle_inputs(now, &[Input { from, to, bytes }]);
    }

    /// Datagrams that came together; their UDP checksums were right.
    pub fn handle_inputs(&mut self, now: Instant, inputs: &[Input<'_>]) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.handle_timeout(now);
        }
        let mut messages = Vec::with_capacity(inputs.len());
        for input in inputs {
            if let Some(message) = self.read(now, *input) {
                messages.push((*input, message));
            }
        }
        // What is registered for them lies anywhere in memory, and is waited for once for a few of them.
        if messages.len() > 1 {
            let asked = messages.iter().flat_map(|(_, message)| keys(message));
            self.database.fetch(asked);
        }
        for (Input { from, to, bytes }, message) in messages {
            match message {
                Message::Request(request) => self.handle_request(now, from, to, &request),
                Message::Encapsulated(encapsulated) => {
                    self.handle_encapsulated(now, from, to, &encapsulated, bytes);
                }
                Message::Register(register) => {
                    self.handle_register(now, from, to, &register, bytes)
                }
                Message::NotifyAck(ack) => self.handle_ack(from, &ack, bytes),
                Message::Reply(_) | Message::Notify(_) | Message::Other(_) => {
                    self.counters.add(Counter::DropUnexpected);
                }
            }
        }
    }

    /// A message that may be handled: it came by the right ports, not too often, and can be read.
    fn read(&mut self, now: Instant, input: Input<'_>) -> Option<Message> {
        let Input { from, to, bytes } = input;
        // RFC 9301 5: either port.
        if from.port() != CONTROL_PORT && to.port() != CONTROL_PORT {
            self.counters.add(Counter::DropPort);
            return None;
        }
        if from.port() == CONTROL_PORT && self.settings.own_addresses.contains(&from.ip()) {
            self.counters.add(Counter::DropOwn);
            return None;
        }
        // Before anything of the message is believed or computed.
        let is_authenticated = matches!(
            wire::kind(bytes),
            Some(types::MAP_REGISTER | types::MAP_NOTIFY_ACK)
        );
        if is_authenticated {
            if !self.registers.take(now, from.ip()) {
                self.counters.add(Counter::DropRegisterRate);
                return None;
            }
        } else if !self.requests.take(now, from.ip()) {
            self.counters.add(Counter::DropRequestRate);
            return None;
        }
        match wire::parse(bytes) {
            Ok(message) => Some(message),
            Err(error) => {
                self.counters.add_malformed(error.cause());
                self.report(now, Report::Malformed { from, error });
                None
            }
        }
    }

    /// Time has passed: registrations run out, Map-Notifies are sent again.
    pub fn handle_timeout(&mut self, now: Instant) {
        let expired = self.database.expire(self.seconds(now));
        self.counters.add_many(Counter::Expired, expired);
        while let Some(due) = self.notices.due(now) {
            match due {
                Due::Again(to, bytes) => {
                    self.counters.add(Counter::NotifyRepeated);
                    self.send(None, to, bytes);
                }
                Due::GivenUp(to) => {
                    self.counters.add(Counter::NotifyGivenUp);
                    self.report(now, Report::NotAcknowledged { to });
                }
            }
        }
    }

    /// What is to be done next, until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Machine::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.database.next_expiry();
        let expiry = expiry.map(|second| self.start + Duration::from_secs(second.into()));
        let notice = self.notices.next();
        expiry.into_iter().chain(notice).min()
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Registered EIDs.
    #[must_use]
    pub const fn registrations(&self) -> usize {
        self.database.len()
    }

    /// All registrations, for who looks at them, in no order.
    pub fn registered(&self, now: Instant) -> impl Iterator<Item = Registered> + '_ {
        let entries = self.database.entries();
        entries.flat_map(move |entry| self.shown(now, entry))
    }

    /// Registrations of an EID, the newest first.
    pub(super) fn shown<'a>(
        &'a self,
        now: Instant,
        entry: &'a Entry,
    ) -> impl Iterator<Item = Registered> + 'a {
        let now = self.seconds(now);
        entry.registrations().filter_map(move |one| {
            let etr = self.database.etr(one.etr)?;
            let site = self.sites.site(etr.site)?;
            Some(Registered {
                key: entry.key,
                site: site.name.clone(),
                etr: etr.address,
                expires_s: one.expires.saturating_sub(now),
                proxy_reply: one.proxy_reply,
                merge: one.merge,
                locators: one.locators.to_vec(),
            })
        })
    }

    /// The last nonce of every router, to be saved.
    pub fn nonces(&self) -> impl Iterator<Item = SavedNonce> + '_ {
        self.sites.nonces()
    }

    /// Rises whenever a nonce does: what was saved at the same number is still right.
    #[must_use]
    pub const fn nonces_revision(&self) -> u64 {
        self.sites.revision
    }

    /// A nonce that was saved: nothing up to it is accepted.
    pub fn restore_nonce(&mut self, saved: &SavedNonce) {
        self.sites.restore(saved);
    }

    /// the acknowledgement of a Map-Notify nobody asked for, with the same nonce and a right MAC.
    fn handle_ack(&mut self, from: SocketAddr, ack: &Notify, bytes: &[u8]) {
        let nonce = ack.body.nonce;
        let Some(notice) = self.notices.waiting(nonce) else {
            self.counters.add(Counter::DropAckUnknown);
            return;
        };
        let secret = self.sites.secret(notice.site, ack.body.key_id);
        let Some(secret) = secret.filter(|_| ack.body.key_id == notice.key_id) else {
            self.counters.add(Counter::DropAuthKey);
            return;
        };
        let strict = self
            .sites
            .site(notice.site)
            .is_some_and(|site| site.strict_mac);
        if from.ip() != notice.to.ip() {
            self.counters.add(Counter::DropAckUnknown);
            return;
        }
        match verify(bytes, &ack.body, secret, Acceptance { strict }) {
            Ok(()) => {
                self.notices.acknowledge(nonce);
                self.counters.add(Counter::Acks);
            }
            Err(_) => self.counters.add(Counter::DropAuthMac),
        }
    }

    pub(super) fn seconds(&self, now: Instant) -> Seconds {
        let passed = now.saturating_duration_since(self.start).as_secs();
        Seconds::try_from(passed).unwrap_or(Seconds::MAX)
    }

    pub(super) fn send(&mut self, from: Option<IpAddr>, to: SocketAddr, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Send { from, to, bytes });
    }

    pub(super) fn report(&mut self, now: Instant, report: Report) {
        let second = self.seconds(now);
        if self.reports.0 != second {
            self.reports = (second, 0);
        }
        if self.reports.1 < REPORTS_PER_SECOND {
            self.reports.1 += 1;
            self.outputs.push_back(Output::Report(report));
        }
    }
}

/// The EIDs a message is about.
fn keys(message: &Message) -> impl Iterator<Item = EidKey> {
    let (asked, records) = match message {
        Message::Request(request) => (request.asked.as_slice(), [].as_slice()),
        Message::Encapsulated(encapsulated) => {
            (encapsulated.request.asked.as_slice(), [].as_slice())
        }
        Message::Register(register) => ([].as_slice(), register.body.records.as_slice()),
        _ => ([].as_slice(), [].as_slice()),
    };
    let asked = asked.iter().map(|asked| asked.key);
    asked.chain(records.iter().map(|record| record.key))
}
