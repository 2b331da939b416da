//! A tunnel router's part in the mapping system (RFC 9301): it asks for mappings (`itr`), answers for its own EIDs
//! (`etr`), registers them (`registration`), tells others when they are elsewhere (`soliciting`), knows which EID hosts are
//! here (`hosts`), and sees whether the locators of mappings can be reached (`probing`).
//!
//! A value without sockets, clocks or randomness, called on the control thread. What arrives is the payload of a UDP
//! datagram that came to an own RLOC, from or to [`CONTROL_PORT`], and whose checksum was found right (RFC 9301 5); what
//! leaves are datagrams and changes of the map-cache. LISP-SEC (RFC 9303) and subscriptions (RFC 9437) are not here: such
//! messages are counted and have no effect.

mod etr;
mod hosts;
mod itr;
mod learned;
mod liveness;
mod own;
mod probing;
mod question;
mod registration;
mod roaming;
mod settings;
mod soliciting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::mapping::PRIORITY_NEVER;
use super::wire::{self, CONTROL_PORT, EidAddress, Message};
use super::{EidKey, Mapping};
use crate::proto::ndp::InterfaceIndex;
use etr::Etr;
use hosts::{Hosts, Occurrence};
use itr::Itr;
use own::Own;
use probing::Probing;
use registration::Registrar;
use soliciting::Soliciting;

pub use hosts::Place;
pub use liveness::{Liveness, RlocState};
pub use own::{Checked, Said};
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
    /// An EID host is at this interface: its packets go there, whatever was learned.
    HostHere {
        /// The host.
        key: EidKey,
        /// Where.
        at: InterfaceIndex,
    },
    /// An EID host is not here any more.
    HostGone(EidKey),
    /// An EID host that was here is registered at another site: whether it still answers here is to be asked, for the
    /// registration may be older than the host's coming, and a host that says nothing would be lost.
    AskHost {
        /// The host.
        key: EidKey,
        /// Where it was.
        at: InterfaceIndex,
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
    /// An EID host was heard here.
    HostCame {
        /// The host.
        key: EidKey,
    },
    /// It does not answer any more.
    HostLeft {
        /// The host.
        key: EidKey,
    },
    /// It is at another site now.
    HostMoved {
        /// The host.
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
    /// With every host that is here among the own EIDs.
    settings: Settings,
    /// As they were given.
    configured: Settings,
    hosts: Hosts,
    itr: Itr,
    etr: Etr,
    registrar: Registrar,
    probing: Probing,
    soliciting: Soliciting,
    own: Own,
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
            configured: Settings::default(),
            hosts: Hosts::new(now),
            itr: Itr::new(),
            etr: Etr::new(now),
            registrar: Registrar::new(last_nonce),
            probing: Probing::new(now),
            soliciting: Soliciting::new(now),
            own: Own::default(),
            context: Context {
                counters: Counters::default(),
                outputs: VecDeque::new(),
                nonces,
                rng,
            },
        }
    }

    /// Other settings. What was learned stays; a registration that says something else now is made at once.
    pub fn set_settings(&mut self, now: Instant, configured: Settings) {
        if configured == self.configured {
            return;
        }
        let is_dynamic = |key| configured.is_etr && configured.is_dynamic(key);
        let known: Vec<EidKey> = self.hosts.iter().map(|(key, ..)| key).collect();
        for key in known.into_iter().filter(|key| !is_dynamic(*key)) {
            self.note_host(now, key, Occurrence::Fixed);
        }
        let here = self.hosts.iter().filter_map(|(key, place, _)| match place {
            Place::Here(_) => Some(key),
            Place::Away => None,
        });
        let mut settings = configured.clone();
        settings.eids.extend(here);
        settings.eids.sort_unstable();
        settings.eids.dedup();
        self.configured = configured;
        self.registrar.set(now, &self.settings, &settings);
        if self.settings.probing != settings.probing {
            let schedule = settings.probing.as_ref();
            self.probing.set(now, schedule, &mut self.context);
        }
        let changed = match self.settings.says_the_same(&settings) {
            // Nothing was said yet.
            _ if !self.settings.is_etr => Vec::new(),
            true => self.settings.eids_apart(&settings),
            false => [&self.settings.eids[..], &settings.eids[..]].concat(),
        };
        for key in changed {
            self.soliciting.changed(now, key, &mut self.context);
        }
        self.settings = settings;
        self.solicit(now);
        if !self.settings.asks() {
            self.itr.clear(&mut self.context);
        }
    }

    /// Tell others what may be told now.
    fn solicit(&mut self, now: Instant) {
        let Self {
            settings,
            itr,
            registrar,
            soliciting,
            context,
            ..
        } = self;
        let is_confirmed = |key| registrar.is_confirmed(now, key);
        soliciting.handle_timeout(now, settings, itr, is_confirmed, context);
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

    /// A packet used the mapping of this prefix, whoever it is from, and went to one of these RLOCs.
    pub fn note_used(&mut self, now: Instant, key: EidKey, mapping: &Mapping) {
        self.itr.note_used(now, key);
        let locators = mapping.locators().iter();
        let used = locators.filter(|one| one.up && one.priority != PRIORITY_NEVER);
        for locator in used.filter(|_| self.settings.is_etr) {
            self.soliciting.note_sent_to(now, locator.rloc);
        }
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
            soliciting,
            hosts,
            context,
            ..
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
                if self.own.handle_reply(now, settings, &reply) {
                    return;
                }
                if let Some(asked) = itr.handle_reply(now, settings, &reply, context) {
                    self.note_answered(now, asked, &reply.records);
                }
            }
            Message::Request(request) => {
                context.count("received_map_request");
                if request.flags.solicit {
                    soliciting.handle_solicitation(now, settings, &request, itr, context);
                    return;
                }
                let own = (&*settings, &*hosts);
                etr.handle_request(now, own, &request, from, to, context);
            }
            Message::Encapsulated(encapsulated) => {
                context.count("received_encapsulated");
                let (from, request) = (encapsulated.source, encapsulated.request);
                if let Some(asked) = itr.handle_own_request(now, settings, request.nonce, context) {
                    context.count("request_came_back");
                    self.note_answered(now, asked, &[]);
                    return;
                }
                if self.own.handle_own_request(now, request.nonce) {
                    context.count("request_came_back");
                    return;
                }
                let own = (&*settings, &*hosts);
                etr.handle_request(now, own, &request, from, to, context);
            }
            Message::Notify(notify) => {
                context.count("received_map_notify");
                let registered = registrar.handle_notify(now, from, to, &notify, bytes, context);
                for record in registered {
                    self.note_registered(now, record);
                }
                // What changed may be registered now.
                self.solicit(now);
            }
            Message::Register(_) | Message::NotifyAck(_) => context.count("not_a_map_server"),
            Message::Other(_) => context.count("not_understood"),
        }
    }

    /// Ask the mapping system for own EIDs, all of them anew or those of which nothing was said yet; by this Map-Resolver,
    /// or by those that are set. How many are too many to be asked for.
    pub fn ask_for_own(&mut self, now: Instant, to: Option<IpAddr>, is_anew: bool) -> usize {
        let (settings, context) = (&self.settings, &mut self.context);
        self.own.ask(now, settings, (to, is_anew), context)
    }

    /// What it says of them.
    pub fn own_eids(&self) -> impl Iterator<Item = Checked> + '_ {
        self.own.checked()
    }

    /// What was learned before a restart, and how long each of it holds. To be called when it knows whom to ask.
    pub fn restore(&mut self, now: Instant, entries: Vec<(EidKey, Mapping, Duration)>) {
        if self.settings.asks() {
            let (settings, context) = (&self.settings, &mut self.context);
            self.itr.restore(now, settings, entries, context);
        }
    }

    /// Everything that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Self {
            settings,
            itr,
            registrar,
            probing,
            hosts,
            context,
            ..
        } = self;
        itr.handle_timeout(now, settings, context);
        while let Some(key) = hosts.poll_check(now) {
            if settings.asks() {
                itr.ask_anew(now, settings, key, context);
            }
        }
        registrar.handle_timeout(now, settings, context);
        probing.handle_timeout(now, settings, context);
        self.solicit(now);
    }

    /// When [`Xtr::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.itr.poll_timeout(),
            self.registrar.poll_timeout(),
            self.probing.poll_timeout(),
            self.soliciting.poll_timeout(),
            self.hosts.poll_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// It ends: nothing is registered any more.
    pub fn shut_down(&mut self) {
        self.registrar.withdraw(&self.settings, &mut self.context);
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

    /// Messages to us were lost in this box since the last time.
    pub fn note_unheard(&mut self, now: Instant) {
        self.probing.note_unheard(now);
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

    /// What it was told to do, and the hosts that are here among the own EIDs.
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
