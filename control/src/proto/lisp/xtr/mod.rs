//! A tunnel router's part in the mapping system (RFC 9301): it asks for mappings (`itr`), answers for its own EIDs
//! (`etr`), registers them (`registration`) and sees whether the locators of mappings can be reached (`probing`).
//!
//! A value without sockets, clocks or randomness, called on the control thread. What arrives is the payload of a UDP
//! datagram that came to an own RLOC, from or to [`CONTROL_PORT`], and whose checksum was found right (RFC 9301 5); what
//! leaves are datagrams and changes of the map-cache. Solicited Map-Requests, LISP-SEC (RFC 9303) and subscriptions
//! (RFC 9437) are not here: such messages are counted and have no effect.

mod etr;
mod itr;
mod learned;
mod liveness;
mod probing;
mod registration;
mod settings;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::wire::{self, CONTROL_PORT, EidAddress, Message};
use super::{EidKey, Mapping};
use etr::Etr;
use itr::Itr;
use probing::Probing;
use registration::Registrar;

pub use liveness::{Liveness, RlocState};
pub use registration::ServerState;
pub use settings::{MapServer, Probing as ProbeSchedule, Settings};

/// What the machine wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A datagram, from an own RLOC.
    Send(Datagram),
    /// A mapping is known until then; it replaces what was learned for the same prefix.
    Learned {
        /// The prefix.
        key: EidKey,
        /// Where its packets go. Whether locators can be used here is for others to judge.
        mapping: Mapping,
        /// When it is no longer to be used.
        expires: Instant,
    },
    /// What was learned for this prefix does not hold any more.
    Forgotten(EidKey),
    /// A locator answers, or does not any more: its traffic comes or goes, mappings stay as they are.
    Liveness {
        /// It.
        rloc: IpAddr,
        /// Whether packets may go there.
        is_up: bool,
    },
    /// Nonces up to this one are used from now on: after a restart they begin behind it (RFC 9301 5.6). To be kept before
    /// what follows is sent.
    KeepNonce(u64),
    /// Something for the log.
    Event(Event),
}

/// A UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// An own RLOC and a port.
    pub source: SocketAddr,
    /// Of the same family.
    pub destination: SocketAddr,
    /// The control message.
    pub payload: Vec<u8>,
}

/// What an operator may want to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A Map-Server said that it has the registration.
    Registered {
        /// It.
        server: IpAddr,
    },
    /// It has said nothing for longer than a registration holds.
    RegistrationLost {
        /// It.
        server: IpAddr,
    },
    /// It said of its own accord that a registration changed (RFC 9301 5.7).
    NotifiedUnasked {
        /// It.
        server: IpAddr,
    },
    /// Nobody answers for an EID.
    Unanswered {
        /// The EID.
        key: EidKey,
    },
}

/// What happened, by cause. All names are in this program, so there are only so many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// How often this happened.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All that happened at all.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(name, count)| (*name, *count))
    }
}

/// What the parts write to.
struct Context {
    counters: Counters,
    outputs: VecDeque<Output>,
    nonces: Nonces,
    rng: fastrand::Rng,
}

impl Context {
    fn count(&mut self, name: &'static str) {
        self.counters.count(name);
    }

    /// From port 4342 of an own RLOC.
    fn send(&mut self, source: IpAddr, destination: SocketAddr, payload: Vec<u8>) {
        self.outputs.push_back(Output::Send(Datagram {
            source: SocketAddr::new(source, CONTROL_PORT),
            destination,
            payload,
        }));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// Nonces of Map-Requests: a peer that was sent some cannot tell the next.
struct Nonces {
    keyed: Hmac<Sha256>,
    made: u64,
}

impl Nonces {
    fn new(seed: &[u8; 32]) -> Self {
        let keyed =
            Hmac::new_from_slice(seed).expect("HMAC takes a key of any length (RFC 2104 3)");
        Self { keyed, made: 0 }
    }

    fn make(&mut self) -> u64 {
        self.made += 1;
        let mut hmac = self.keyed.clone();
        hmac.update(&self.made.to_be_bytes());
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hmac.finalize().into_bytes());
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// A tunnel router.
pub struct Xtr {
    settings: Settings,
    itr: Itr,
    etr: Etr,
    registrar: Registrar,
    probing: Probing,
    context: Context,
}

impl Xtr {
    /// One that does nothing until it is told what. `seed` is from a good source of randomness; the nonces of registrations
    /// begin behind `last_nonce`.
    #[must_use]
    pub fn new(now: Instant, seed: &[u8; 32], last_nonce: u64) -> Self {
        let mut nonces = Nonces::new(seed);
        let rng = fastrand::Rng::with_seed(nonces.make());
        Self {
            settings: Settings::default(),
            itr: Itr::new(),
            etr: Etr::new(now),
            registrar: Registrar::new(last_nonce),
            probing: Probing::new(now),
            context: Context {
                counters: Counters::default(),
                outputs: VecDeque::new(),
                nonces,
                rng,
            },
        }
    }

    /// Other settings. What was learned stays; a registration that says something else now is made at once.
    pub fn set_settings(&mut self, now: Instant, settings: Settings) {
        if settings == self.settings {
            return;
        }
        self.registrar.set(now, &self.settings, &settings);
        if self.settings.probing != settings.probing {
            let schedule = settings.probing.as_ref();
            self.probing.set(now, schedule, &mut self.context);
        }
        self.settings = settings;
        if !self.settings.asks() {
            self.itr.clear(&mut self.context);
        }
    }

    /// Nonces of registrations begin behind this one, if they are not beyond it, and are kept anew.
    pub fn raise_nonce(&mut self, last: u64) {
        self.registrar.raise_nonce(last);
    }

    /// A packet from `source` met no mapping for its destination.
    pub fn miss(&mut self, now: Instant, eid: EidAddress, source: Option<IpAddr>) {
        if self.settings.asks() {
            let source = source.map(|address| EidAddress { address, ..eid });
            let Self {
                settings,
                itr,
                context,
                ..
            } = self;
            itr.ask(now, settings, eid.host(), source, context);
        }
    }

    /// A packet used what was learned for this prefix.
    pub fn note_used(&mut self, now: Instant, key: EidKey) {
        self.itr.note_used(now, key);
    }

    /// What was learned for this prefix is not wanted; nothing is said of it any more.
    pub fn forget(&mut self, key: EidKey) {
        self.itr.forget(key);
    }

    /// A datagram to an own RLOC.
    pub fn handle_input(&mut self, now: Instant, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        let Self {
            settings,
            itr,
            etr,
            registrar,
            probing,
            context,
        } = self;
        let message = match wire::parse(bytes) {
            Ok(message) => message,
            Err(error) => {
                context.count(error.cause());
                return;
            }
        };
        match message {
            Message::Reply(reply) if reply.flags.probe => {
                context.count("received_probe_reply");
                let asked = probing.handle_reply(now, settings, &reply, context);
                if let Some((key, asked)) = asked {
                    itr.handle_probed(now, key, asked, &reply, context);
                }
            }
            Message::Reply(reply) => {
                context.count("received_map_reply");
                itr.handle_reply(now, settings, &reply, context);
            }
            Message::Request(request) => {
                context.count("received_map_request");
                etr.handle_request(now, settings, &request, from, to, context);
            }
            Message::Encapsulated(encapsulated) => {
                context.count("received_encapsulated");
                let from = encapsulated.source;
                etr.handle_request(now, settings, &encapsulated.request, from, to, context);
            }
            Message::Notify(notify) => {
                context.count("received_map_notify");
                registrar.handle_notify(now, from, to, &notify, bytes, context);
            }
            Message::Register(_) | Message::NotifyAck(_) => context.count("not_a_map_server"),
            Message::Other(_) => context.count("not_understood"),
        }
    }

    /// Everything that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Self {
            settings,
            itr,
            registrar,
            probing,
            context,
            ..
        } = self;
        itr.handle_timeout(now, settings, context);
        registrar.handle_timeout(now, settings, context);
        probing.handle_timeout(now, settings, context);
    }

    /// When [`Xtr::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.itr.poll_timeout(),
            self.registrar.poll_timeout(),
            self.probing.poll_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.outputs.pop_front()
    }

    /// EIDs and prefixes that were asked for and not answered yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.itr.pending()
    }

    /// Prefixes of which something was learned.
    #[must_use]
    pub fn learned(&self) -> usize {
        self.itr.learned()
    }

    /// Mappings in force lead to this locator, of these prefixes among others; `is_learned`: one of them was learned.
    pub fn watch(&mut self, now: Instant, rloc: IpAddr, prefixes: Vec<EidKey>, is_learned: bool) {
        let (settings, context) = (&self.settings, &mut self.context);
        let known = (prefixes, is_learned);
        self.probing.watch(now, settings, rloc, known, context);
    }

    /// No mapping leads to this locator any more.
    pub fn unwatch(&mut self, rloc: IpAddr) {
        self.probing.unwatch(rloc);
    }

    /// Whether the underlay leads to a locator: if not, it is not probed, and its silence says nothing.
    pub fn set_way(&mut self, now: Instant, rloc: IpAddr, has_way: bool) {
        let (settings, context) = (&self.settings, &mut self.context);
        self.probing.set_way(now, settings, rloc, has_way, context);
    }

    /// Something that can be forged says that packets do not arrive at a locator: its next probe is due.
    pub fn suspect(&mut self, now: Instant, rloc: IpAddr) {
        self.context.count("rloc_suspected");
        self.probing.suspect(now, &self.settings, rloc);
    }

    /// Probe a locator now, even where none are probed. Whether that can be.
    pub fn probe(&mut self, now: Instant, rloc: IpAddr) -> bool {
        let (settings, context) = (&self.settings, &mut self.context);
        self.probing.probe(now, settings, rloc, context)
    }

    /// Whether packets may go to a locator, as far as probes are concerned.
    #[must_use]
    pub fn is_up(&self, rloc: IpAddr) -> bool {
        self.probing.is_up(rloc)
    }

    /// What probes found of a locator that mappings lead to.
    #[must_use]
    pub fn rloc_state(&self, rloc: IpAddr) -> Option<RlocState> {
        self.probing.state(rloc)
    }

    /// What it was told to do.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How the registrations stand.
    pub fn servers(&self, now: Instant) -> impl Iterator<Item = ServerState> + '_ {
        self.registrar.servers(now)
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }
}

/// Whether something can be sent to this address (RFC 9301 5.4: no group and no broadcast is a locator).
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_multicast()
                || address.is_broadcast()
                || address.is_unspecified()
                || address.is_loopback()
                || address.is_link_local())
        }
        IpAddr::V6(address) => {
            !(address.is_multicast()
                || address.is_unspecified()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some())
        }
    }
}
