//! The mapping system and the packet path: control messages come as punted packets and leave as packets of our own, and
//! what is learned goes into force (RFC 9301).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use dataplane::frame::Frame;
use dataplane::reason::PuntReason;
use ipnet::IpNet;
use pipelines::tables::InterfaceId;
use pipelines::{Family, Meta};

use super::super::Appliance;
use super::super::discard::Discard;
use super::{LispState, Refused, is_answer, kept, nonces};
use crate::admin::protocol::{Answer, Refusal};
use crate::admin::view::LispCleared;
use crate::config::lisp::rules::Rules;
use crate::config::lisp::{Instance, Lisp};
use crate::platform::Platform;
use crate::proto::lisp::wire;
use crate::proto::lisp::xtr::{Datagram, MapServer, Output, Settings};
use crate::proto::lisp::{Action, EidKey, InstanceId, Locator, Mapping};
use crate::proto::ndp::{AddressState, InterfaceIndex};

impl<P: Platform> Appliance<P> {
    /// The configuration is another, or own RLOCs came into use or went out of it.
    pub(in crate::appliance) fn configure_mapping_system(&mut self, now: Instant) {
        let lisp = self.config.lisp.as_ref();
        let usable = lisp.map_or_else(Vec::new, |lisp| {
            let rlocs = lisp.own_rlocs();
            rlocs.map(|rloc| self.is_usable(lisp, rloc)).collect()
        });
        let answers = self.config.punt.rate(PuntReason::LispControl);
        let settings = lisp.map_or_else(Settings::default, |lisp| Settings {
            probing: lisp.probing.schedule(answers),
            ..settings(lisp, &usable)
        });
        let state = lisp.and_then(|lisp| lisp.state.clone());
        if state != self.lisp.state {
            match state.as_deref().map(nonces::read) {
                None => {}
                Some(Ok(nonce)) => self.lisp.xtr.raise_nonce(nonce.unwrap_or(0)),
                Some(Err(error)) => {
                    tracing::error!(
                        "lisp: the last nonce cannot be read, the clock serves: {error}"
                    );
                    self.lisp.xtr.raise_nonce(0);
                }
            }
            self.lisp.state = state;
        }
        self.lisp.usable = usable;
        self.lisp.xtr.set_settings(now, settings);
        let kept = lisp.and_then(|lisp| lisp.map_cache.as_deref());
        if self.lisp.kept.set_path(kept) {
            self.restore_learned(now);
        }
        self.do_lisp_outputs(now);
        self.look_at_away(now);
    }

    /// What was learned before a restart.
    fn restore_learned(&mut self, now: Instant) {
        let lisp = self.config.lisp.as_ref();
        let Some(path) = lisp.and_then(|lisp| lisp.map_cache.as_deref()) else {
            return;
        };
        let shown = path.display();
        match kept::read(path) {
            Ok(entries) => {
                if !entries.is_empty() {
                    let count = entries.len();
                    tracing::info!("lisp: {count} mappings of {shown} hold still");
                }
                self.lisp.xtr.restore(now, entries);
            }
            Err(error) => {
                tracing::error!("lisp: {shown} is not used, the map-cache begins empty: {error}");
            }
        }
    }

    /// Whether own RLOCs can be used and those of others reached, seen from time to time.
    pub(in crate::appliance) fn look_at_rlocs(&mut self, now: Instant) {
        let Some(lisp) = &self.config.lisp else {
            return;
        };
        let usable = lisp.own_rlocs().map(|rloc| self.is_usable(lisp, rloc));
        if !usable.eq(self.lisp.usable.iter().copied()) {
            self.configure_mapping_system(now);
        }
        self.look_at_ways(now);
    }

    fn is_usable(&self, lisp: &Lisp, rloc: IpAddr) -> bool {
        let Some((position, interface)) = self.owner(lisp.vrf, rloc) else {
            return false;
        };
        let state = self
            .machine
            .address_state(InterfaceIndex(interface.0), rloc);
        let port = self
            .config
            .interfaces
            .get(position)
            .map(|interface| interface.port);
        let is_up = port
            .and_then(|port| self.links.get(port))
            .is_some_and(|link| link.up);
        is_up && state == Some(AddressState::Preferred)
    }

    /// The interface that has an own address: position in the configuration, and number.
    pub(in crate::appliance) fn owner(
        &self,
        vrf: usize,
        own: IpAddr,
    ) -> Option<(usize, InterfaceId)> {
        let mut interfaces = self.config.interfaces.iter();
        let position = interfaces.position(|interface| {
            let mut addresses = interface.addresses.iter();
            interface.vrf == vrf && addresses.any(|address| address.addr() == own)
        })?;
        Some((position, self.slots.id(position)))
    }

    /// A control message to an own RLOC.
    pub(in crate::appliance) fn handle_lisp_control(
        &mut self,
        now: Instant,
        frame: &P::Frame,
        meta: &Meta,
    ) {
        let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
        match wire::open(packet) {
            Ok((from, to, payload)) => self.lisp.xtr.handle_input(now, from, to.ip(), payload),
            Err(error) => {
                tracing::debug!("lisp: a control message is not used: {error}");
                self.discards.count(Discard::LispControlInvalid);
            }
        }
    }

    /// Do what the machine wants.
    pub(in crate::appliance) fn do_lisp_outputs(&mut self, now: Instant) {
        let mut answered = Vec::new();
        while let Some(output) = self.lisp.xtr.poll_output() {
            match output {
                Output::Send(datagram) => self.send_datagram(&datagram),
                Output::Learned {
                    key,
                    mapping,
                    expires,
                } => {
                    self.lisp.kept.note_change();
                    if self.learn(key, mapping, expires) {
                        answered.push(key);
                    }
                }
                Output::Forgotten(key) => {
                    self.lisp.kept.note_change();
                    if self.lisp.cache.unlearn(key) && self.put_in_force(key) {
                        answered.push(key);
                    }
                }
                Output::Liveness { rloc, .. } => self.set_liveness(now, rloc),
                Output::HostHere { key, at } => self.set_host(key, Some(at)),
                Output::HostGone(key) => self.set_host(key, None),
                Output::AskHost { key, at } => self.machine.ask(now, at, key.eid.addr()),
                Output::KeepNonce(nonce) => self.keep_nonce(nonce),
                Output::Event(event) => self.lisp.events.note(now, event),
            }
        }
        self.release(&answered);
    }

    /// Whether packets that waited may go on.
    fn learn(&mut self, key: EidKey, mapping: Mapping, expires: Instant) -> bool {
        let (Some(lisp), Some(rules)) = (&self.config.lisp, &self.lisp.rules) else {
            return false;
        };
        let mapping = fitting(lisp, rules, mapping);
        if let Err(misfit) = rules.check(key, &mapping) {
            tracing::warn!("lisp: what was learned of {key} cannot be used: {misfit}");
            self.discards.count(Discard::MappingUnfit);
            self.lisp.xtr.forget(key);
            return self.lisp.cache.unlearn(key) && self.put_in_force(key);
        }
        if self.lisp.cache.learn(key, mapping, expires) {
            return self.put_in_force(key);
        }
        let in_force = self.lisp.cache.entry(key);
        in_force.is_some_and(|entry| is_answer(entry.mapping))
    }

    /// What was learned for a prefix and all under it does not hold any more; packets ask anew.
    pub(in crate::appliance) fn clear_learned(
        &mut self,
        now: Instant,
        instance: Option<InstanceId>,
        prefix: Option<IpNet>,
    ) -> Answer {
        if self.config.lisp.is_none() {
            return Answer::refused(Refusal::Failed, Refused::NotConfigured);
        }
        let prefix = prefix.map(|prefix| prefix.trunc());
        let learned = self.lisp.cache.learned().map(|(key, _)| key);
        let wanted = learned.filter(|key| {
            instance.is_none_or(|instance| instance == key.instance)
                && prefix.is_none_or(|prefix| prefix.contains(&key.eid))
        });
        let wanted: Vec<EidKey> = wanted.collect();
        for key in &wanted {
            self.lisp.kept.note_change();
            self.lisp.xtr.forget(*key);
            if self.lisp.cache.unlearn(*key) {
                self.put_in_force(*key);
            }
        }
        self.release(&[]);
        let forgotten = wanted.len();
        if forgotten > 0 {
            let text = format!("learned mappings forgotten by hand: {forgotten}");
            self.lisp.events.note_text(now, true, text);
        }
        Answer::done(LispCleared { forgotten })
    }

    fn send_datagram(&mut self, datagram: &Datagram) {
        let Datagram {
            source,
            destination,
            payload,
        } = datagram;
        let vrf = self.config.lisp.as_ref().map(|lisp| lisp.vrf);
        let owner = vrf.and_then(|vrf| self.owner(vrf, source.ip()));
        let Some((_, interface)) = owner else {
            self.discards.count(Discard::InterfaceGone);
            return;
        };
        let packet = wire::enclose(*source, *destination, payload);
        let family = match destination {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        let worker = self.first_alive();
        self.originate(worker, &packet, Meta::originate(interface).of(family));
    }

    /// It ends: nothing is registered any more, and what was learned is kept.
    pub(in crate::appliance) fn end_lisp(&mut self, now: Instant) {
        self.lisp.xtr.shut_down();
        self.do_lisp_outputs(now);
        let LispState { kept, cache, .. } = &mut self.lisp;
        kept.finish(now, cache);
    }

    fn keep_nonce(&self, nonce: u64) {
        let Some(path) = &self.lisp.state else {
            return;
        };
        if let Err(error) = nonces::keep(path, nonce) {
            tracing::error!("lisp: {} cannot be written: {error}", path.display());
        }
    }
}

/// What the machine is to do by this configuration.
fn settings(lisp: &Lisp, usable: &[bool]) -> Settings {
    let keys = |eids: fn(&Instance) -> &[IpNet]| -> Vec<EidKey> {
        let instances = lisp.instances.iter().flat_map(|instance| {
            let eids = eids(instance).iter();
            eids.map(|eid| EidKey {
                instance: instance.id,
                eid: *eid,
            })
        });
        instances.collect()
    };
    let rlocs = lisp.rlocs.iter().zip(usable).map(|(own, up)| Locator {
        rloc: own.rloc,
        priority: own.priority,
        weight: own.weight,
        up: *up,
    });
    let map_servers = lisp.map_servers.iter().map(|server| MapServer {
        address: server.address,
        key: server.key.clone(),
        key_id: server.key_id,
        algorithm: server.algorithm,
        proxy_reply: server.proxy_reply,
        merge: server.merge,
    });
    Settings {
        map_resolvers: lisp.map_resolvers.clone(),
        is_proxy: lisp.roles.pitr,
        is_etr: lisp.roles.etr,
        eids: keys(|instance| &instance.eids),
        dynamic_eids: keys(|instance| &instance.dynamic_eids),
        rlocs: rlocs.collect(),
        map_servers: map_servers.collect(),
        identity: lisp.identity,
        map_version: lisp.map_version,
        probing: None,
    }
}

/// What was learned, as far as it can be used here: locators of families we have, versions where packets carry them; and
/// what would be forwarded natively goes to a proxy ETR if there is one (RFC 6832 6.1), or nowhere from a proxy ITR, to
/// which it would come back.
fn fitting(lisp: &Lisp, rules: &Rules, mapping: Mapping) -> Mapping {
    match mapping {
        Mapping::Locators {
            mut locators,
            version,
        } => {
            locators.retain(|locator| rules.check_rloc(locator.rloc).is_ok());
            if locators.is_empty() {
                return Mapping::Negative(Action::Drop);
            }
            let version = match rules.check_version(version) {
                Ok(()) => version,
                Err(_) => 0,
            };
            Mapping::Locators { locators, version }
        }
        Mapping::Negative(Action::Native) if !lisp.petr.is_empty() => {
            Mapping::Negative(Action::Petr)
        }
        Mapping::Negative(Action::Native) if lisp.roles.pitr => Mapping::Negative(Action::Drop),
        negative @ Mapping::Negative(_) => negative,
    }
}
