//! The map-cache, kept in step with the packet path: mappings of the configuration, mappings added at run time, those
//! that were learned ([`control`]), and packets that met none.
//!
//! A mapping that was added stays over a reload, unless it does not fit the new configuration. What is in force reaches the
//! packet path at once where the way to its locators is known there, else with the next publication; packets that waited
//! for it follow.

mod control;
mod events;
mod hosts;
mod kept;
mod liveness;
mod nonces;
mod parts;
mod show;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dataplane::frame::Frame;
use ipnet::IpNet;
use pipelines::tables::VrfId;
use pipelines::{Family, Meta};

use super::Appliance;
use super::discard::Discard;
use super::punts::Waiting;
use crate::admin::map::{Ambiguous, CHANGES_MAX, MapChange};
use crate::admin::protocol::{Answer, Refusal};
use crate::admin::view::MapChanged;
use crate::config::lisp::rules::{Misfit, Rules};
use crate::config::lisp::{Lisp, OnMiss, PathMtu};
use crate::config::unusable_address;
use crate::platform::Platform;
use crate::proto::lisp::wire::EidAddress;
use crate::proto::lisp::xtr::Xtr;
use crate::proto::lisp::{
    Action, Deleted, EidKey, InstanceId, Limits, MapCache, Mapping, Miss, Misses, Origin, PathMtus,
    unreachable,
};
use crate::publish::{self, Hosts};
use events::Events;
use kept::Kept;
use liveness::Verdict;

/// Mappings that are asked in one tick whether they were used.
const USE_PER_TICK: usize = 64;

/// Why the map-cache was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("there is no [lisp] in the configuration of this instance")]
    NotConfigured,
    #[error(
        "there are no map_resolvers in the configuration of this instance, expected --to RESOLVER"
    )]
    NobodyToAsk,
    #[error("{found} changes at once, expected at most {CHANGES_MAX}")]
    TooMany { found: usize },
    #[error("{}{what}: {why}", position(.number))]
    Change {
        /// Its number, counted from 1, where there are several.
        number: Option<usize>,
        what: String,
        why: Unfit,
    },
}

fn position(number: &Option<usize>) -> String {
    number.map_or_else(String::new, |number| {
        format!("nothing was changed, because of change {number}: ")
    })
}

/// What is wrong with one change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    #[error(
        "it stands in the configuration file, expected it to be removed there (or add another in its place)"
    )]
    OnlyStatic,
    #[error(
        "it was learned, expected it to end when its time is over (or add another in its place)"
    )]
    OnlyLearned,
    #[error("there is no such mapping")]
    Unknown,
}

/// A change that was judged.
enum Step {
    Add(EidKey, Mapping),
    Delete(EidKey),
    Rloc(IpAddr, bool),
}

/// What the appliance knows of LISP.
pub(super) struct LispState<F> {
    cache: MapCache,
    /// `None`: no `[lisp]`.
    rules: Option<Rules>,
    /// The VRF of each instance.
    vrfs: BTreeMap<InstanceId, VrfId>,
    misses: Misses<Waiting<F>>,
    /// What is known of the paths to locators, with `path_mtu = "stateful"`.
    paths: PathMtus,
    seed: u64,
    /// The mapping system.
    xtr: Xtr,
    /// Which own RLOCs can be used, in the order of the configuration.
    usable: Vec<bool>,
    /// The file that keeps nonces.
    state: Option<PathBuf>,
    /// The file that keeps what was learned.
    kept: Kept,
    /// What happened lately.
    events: Events,
    /// Whether locators can be used, and why not.
    verdicts: BTreeMap<IpAddr, Verdict>,
    /// Where looking at their ways goes on.
    looked_at: Option<IpAddr>,
    /// Control messages that workers dropped as too many.
    unheard: u64,
    /// When it was last told that one is suspected.
    suspected: Option<Instant>,
    /// EID hosts that are here.
    hosts: Hosts,
    /// Those that are away, as neighbour discovery knows it.
    away: BTreeSet<EidKey>,
}

impl<F> LispState<F> {
    pub(super) fn new(seed: u64, xtr: Xtr) -> Self {
        Self {
            cache: MapCache::new(),
            rules: None,
            vrfs: BTreeMap::new(),
            misses: Misses::new(Limits::default()),
            paths: PathMtus::new(Duration::from_secs(600)),
            seed,
            xtr,
            usable: Vec::new(),
            state: None,
            kept: Kept::default(),
            events: Events::default(),
            verdicts: BTreeMap::new(),
            looked_at: None,
            unheard: 0,
            suspected: None,
            hosts: Hosts::new(),
            away: BTreeSet::new(),
        }
    }

    /// When something is due without an event.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timeouts = [
            self.misses.poll_timeout(),
            self.paths.poll_timeout(),
            self.xtr.poll_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Judge changes before any is made.
    fn judge(&self, changes: Vec<MapChange>) -> Result<Vec<Step>, Refused> {
        let rules = self.rules.as_ref().ok_or(Refused::NotConfigured)?;
        let count = changes.len();
        if count > CHANGES_MAX {
            return Err(Refused::TooMany { found: count });
        }
        // Whether keys that were changed by earlier changes have an added mapping then.
        let mut added = HashMap::new();
        let mut steps = Vec::with_capacity(count);
        for (number, change) in (1..).zip(changes) {
            let what = match &change {
                MapChange::Add(new) => new.key().to_string(),
                MapChange::Delete(key) => key.to_string(),
                MapChange::Rloc(change) => format!("locator {}", change.address),
            };
            let step = self.judge_one(rules, change, &mut added);
            steps.push(step.map_err(|why| Refused::Change {
                number: (count > 1).then_some(number),
                what,
                why,
            })?);
        }
        Ok(steps)
    }

    fn judge_one(
        &self,
        rules: &Rules,
        change: MapChange,
        added: &mut HashMap<EidKey, bool>,
    ) -> Result<Step, Unfit> {
        match change {
            MapChange::Add(new) => {
                let key = new.key();
                let mapping = new.into_mapping()?;
                rules.check(key, &mapping)?;
                added.insert(key, true);
                Ok(Step::Add(key, mapping))
            }
            MapChange::Delete(key) => {
                let found = self.cache.entry(key).map(|entry| entry.origin);
                let is_added = match added.insert(key, false) {
                    Some(is_added) => is_added,
                    None => found == Some(Origin::Admin),
                };
                match (is_added, found) {
                    (true, _) => Ok(Step::Delete(key)),
                    (false, Some(Origin::Static)) => Err(Unfit::OnlyStatic),
                    (false, Some(Origin::Learned)) => Err(Unfit::OnlyLearned),
                    (false, Some(Origin::Admin) | None) => Err(Unfit::Unknown),
                }
            }
            MapChange::Rloc(change) => {
                let found = change.address;
                if let Some(kind) = unusable_address(found) {
                    return Err(Misfit::NotRloc { found, kind }.into());
                }
                let is_up = change.state == crate::admin::map::RlocState::Up;
                Ok(Step::Rloc(found, is_up))
            }
        }
    }
}

impl<P: Platform> Appliance<P> {
    /// The configuration is another: what is in force follows. Says what of the added mappings had to go.
    pub(super) fn configure_lisp(&mut self, now: Instant) -> Option<String> {
        let new = self.config.lisp.as_ref();
        let (interfaces, routes) = (&self.config.interfaces, &self.config.routes);
        self.lisp.rules = new.map(|lisp| Rules::new(lisp, interfaces, routes));
        let instances = new.map_or(&[][..], |lisp| &lisp.instances);
        let vrfs = instances
            .iter()
            .map(|instance| (instance.id, publish::vrf(instance.vrf)));
        let old_vrfs = std::mem::replace(&mut self.lisp.vrfs, vrfs.collect());
        // Where an instance is in another VRF, its mappings are removed from the old one.
        let vrfs = &self.lisp.vrfs;
        let is_moved = |id: &InstanceId| old_vrfs.get(id) != vrfs.get(id);
        let mut moved = Vec::new();
        for entry in self.lisp.cache.entries() {
            if is_moved(&entry.key.instance) {
                moved.push(entry.key);
                if let Some(vrf) = old_vrfs.get(&entry.key.instance) {
                    self.rib.set_mapping(*vrf, entry.key.eid, None);
                }
            }
        }
        self.rib
            .set_lisp(new.map(|lisp| publish::lisp::settings(lisp, self.lisp.seed)));
        let rules = self.lisp.rules.as_ref();
        let added = self.lisp.cache.entries();
        let added = added.filter(|entry| entry.origin == Origin::Admin);
        let unfit = added.filter(|entry| {
            rules.is_none_or(|rules| rules.check(entry.key, entry.mapping).is_err())
        });
        let unfit: Vec<EidKey> = unfit.map(|entry| entry.key).collect();
        let mut changed = moved;
        for key in &unfit {
            self.lisp.cache.delete(*key);
            changed.push(*key);
        }
        let learned = self.lisp.cache.learned();
        let misfits = learned
            .filter(|(key, mapping)| rules.is_none_or(|rules| rules.check(*key, mapping).is_err()));
        let misfits: Vec<EidKey> = misfits.map(|(key, _)| key).collect();
        for key in misfits {
            self.lisp.xtr.forget(key);
            if self.lisp.cache.unlearn(key) {
                changed.push(key);
            }
        }
        let configured = new.map_or(&[][..], |lisp| &lisp.mappings);
        let configured = configured
            .iter()
            .map(|entry| (entry.key, entry.mapping.clone()));
        changed.extend(self.lisp.cache.configure(configured));
        changed.sort_unstable();
        changed.dedup();
        for rloc in self.lisp.cache.down() {
            self.rib.set_locator(rloc, false);
        }
        match new.filter(|lisp| lisp.path_mtu == PathMtu::Stateful) {
            Some(lisp) => self.lisp.paths.set_age(lisp.path_mtu_age),
            None => {
                for rloc in self.lisp.paths.clear() {
                    self.rib.set_path_mtu(rloc, None);
                }
            }
        }
        self.outdated = true;
        changed.retain(|key| self.put_in_force(*key));
        self.release(&changed);
        self.configure_mapping_system(now);
        (!unfit.is_empty()).then(|| {
            format!(
                "lisp: {} of the mappings added at run time did not fit any more and went",
                unfit.len()
            )
        })
    }

    /// Change the map-cache, all or nothing.
    pub(super) fn change_mappings(&mut self, now: Instant, changes: Vec<MapChange>) -> Answer {
        let steps = match self.lisp.judge(changes) {
            Ok(steps) => steps,
            Err(refused) => return Answer::refused(Refusal::Failed, refused),
        };
        let mut changed = MapChanged {
            changes: steps.len(),
            mappings: 0,
            concerned: 0,
        };
        let mut answered = Vec::new();
        for step in steps {
            match step {
                Step::Add(key, mapping) => {
                    if self.lisp.cache.add(key, mapping) && self.put_in_force(key) {
                        answered.push(key);
                    }
                }
                Step::Delete(key) => {
                    let deleted = self.lisp.cache.delete(key);
                    debug_assert_eq!(deleted, Deleted::Yes, "it was judged");
                    if self.put_in_force(key) {
                        answered.push(key);
                    }
                }
                Step::Rloc(rloc, up) => {
                    self.lisp.cache.set_rloc(rloc, up);
                    self.set_liveness(now, rloc);
                    changed.concerned += self.lisp.cache.users(rloc);
                }
            }
        }
        changed.mappings = self.lisp.cache.len();
        self.release(&answered);
        Answer::done(changed)
    }

    /// Tell the packet path what is in force for this key; whether packets that waited for it may go on.
    fn put_in_force(&mut self, key: EidKey) -> bool {
        let Some(vrf) = self.lisp.vrfs.get(&key.instance) else {
            return false;
        };
        let in_force = self.lisp.cache.entry(key).map(|entry| entry.mapping);
        let is_answer = in_force.is_some_and(is_answer);
        let spec = in_force.map(publish::lisp::mapping);
        self.rib.set_mapping(*vrf, key.eid, spec);
        // The packet path forgets what is said of locators that no mapping names.
        for locator in in_force.map_or(&[][..], Mapping::locators) {
            if !self.lisp.may_use(locator.rloc) {
                self.rib.set_locator(locator.rloc, false);
            }
            if let Some(mtu) = self.lisp.paths.mtu(locator.rloc) {
                self.rib.set_path_mtu(locator.rloc, Some(mtu));
            }
        }
        is_answer
    }

    /// These keys have mappings now: packets that waited for them follow.
    fn release(&mut self, answered: &[EidKey]) {
        // Asked once for all of them: it may look at every locator.
        self.outdated |= self.rib.wants_tables();
        for key in answered {
            if self.lisp.misses.is_empty() {
                return;
            }
            for waiting in self.lisp.misses.resolved(*key) {
                self.let_go(waiting);
            }
        }
    }

    /// Hand a packet back that waits for what the packet path was told, and has with the next tables at the latest.
    fn let_go(&mut self, waiting: Waiting<P::Frame>) {
        if self.outdated {
            self.ready.push(waiting);
        } else {
            self.resume(waiting);
        }
    }

    /// Timers, and who was used.
    pub(super) fn tick_lisp(&mut self, now: Instant) {
        for waiting in self.lisp.misses.handle_timeout(now) {
            drop(waiting);
            self.discards.count(Discard::MissTimeout);
        }
        for rloc in self.lisp.paths.handle_timeout(now) {
            tracing::debug!("lisp: what was learned of the path to {rloc} is forgotten");
            self.rib.set_path_mtu(rloc, None);
        }
        let LispState {
            cache, vrfs, xtr, ..
        } = &mut self.lisp;
        let rib = &self.rib;
        cache.note_use(now, USE_PER_TICK, |key, mapping| {
            let vrf = vrfs.get(&key.instance);
            let is_used = vrf.is_some_and(|vrf| rib.was_used(*vrf, key.eid));
            if is_used {
                xtr.note_used(now, key, mapping);
            }
            is_used
        });
        self.watch_rlocs(now);
        self.note_unheard(now);
        self.lisp.xtr.handle_timeout(now);
        self.do_lisp_outputs(now);
        self.look_at_away(now);
        let LispState { kept, cache, .. } = &mut self.lisp;
        kept.tick(now, cache);
    }

    /// An ICMP error that may be about a packet we encapsulated.
    pub(super) fn handle_path_mtu(&mut self, now: Instant, frame: &P::Frame, meta: &Meta) {
        let Some(lisp) = self.config.lisp.as_ref() else {
            self.discards.count(Discard::PathMtuUnused);
            return;
        };
        let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
        let LispState { cache, paths, .. } = &mut self.lisp;
        let is_own = |address| lisp.own_rlocs().any(|own| own == address);
        let is_known = |address| cache.users(address) > 0;
        match unreachable::parse(packet, is_own, is_known) {
            None => {}
            Some(Ok(said)) => return self.suspect_rloc(now, said),
            Some(Err(why)) => {
                tracing::debug!("lisp: an ICMP error about a locator is not believed: {why:?}");
                return self.discards.count(Discard::PathMtuDisbelieved);
            }
        }
        if lisp.path_mtu != PathMtu::Stateful {
            return self.discards.count(Discard::PathMtuUnused);
        }
        match paths.handle_input(now, packet, is_own, is_known) {
            Ok((rloc, Some(mtu))) => {
                tracing::info!("lisp: the path to {rloc} carries {mtu} bytes");
                self.rib.set_path_mtu(rloc, Some(mtu));
            }
            Ok((_, None)) => {}
            Err(why) => {
                tracing::debug!("lisp: an ICMP error about a path is not believed: {why:?}");
                self.discards.count(Discard::PathMtuDisbelieved);
            }
        }
    }

    /// A packet whose destination EID has no mapping. What a worker forwards natively or to a proxy it only tells of.
    pub(super) fn handle_miss(&mut self, now: Instant, worker: usize, frame: P::Frame, meta: Meta) {
        let Some(lisp) = &self.config.lisp else {
            self.discards.count(Discard::MapCacheMiss);
            return;
        };
        let on_miss = lisp.miss;
        let Some(miss) = miss_of(lisp, &frame, &meta) else {
            self.discards.count(Discard::InterfaceGone);
            return;
        };
        // The beginning of a packet that went on is nothing to keep.
        let waiting = (on_miss == OnMiss::Hold && !meta.went_on()).then_some(Waiting::Punted {
            worker,
            frame,
            meta,
        });
        let key = EidKey {
            instance: miss.instance,
            eid: IpNet::from(miss.eid),
        };
        let known = self.lisp.cache.lookup(key);
        // It met tables that did not know yet.
        let is_answered = known.is_some_and(|entry| is_answer(entry.mapping));
        if let Some(waiting) = waiting {
            if is_answered {
                self.let_go(waiting);
                return;
            }
            let noted = self.lisp.misses.note(now, miss, Some(waiting));
            if noted.refused.is_some() {
                self.discards.count(Discard::MissLimit);
            }
            if noted.is_noted {
                self.ask_for(now, miss);
            }
            return;
        }
        let noted = self.lisp.misses.note(now, miss, None);
        if noted.is_noted && !is_answered {
            self.ask_for(now, miss);
        }
        if !meta.went_on() {
            self.discards.count(Discard::MapCacheMiss);
        }
    }

    /// Somebody else may know where this EID is. What bounds misses bounds questions too.
    fn ask_for(&mut self, now: Instant, miss: Miss) {
        let eid = EidAddress {
            instance: miss.instance,
            address: miss.eid,
        };
        self.lisp.xtr.miss(now, eid, Some(miss.source));
    }
}

/// Whether a mapping settles what becomes of packets, so that none is a miss.
fn is_answer(mapping: &Mapping) -> bool {
    *mapping != Mapping::Negative(Action::SendMapRequest)
}

/// Who missed what, in the instance whose VRF the packet is in: that of what was decapsulated need not have an interface.
fn miss_of<F: Frame>(lisp: &Lisp, frame: &F, meta: &Meta) -> Option<Miss> {
    let mut instances = lisp.instances.iter();
    let instance = instances
        .find(|instance| instance.vrf == usize::from(meta.vrf().0))?
        .id;
    let packet = frame.bytes().get(meta.l3_offset()..)?;
    let (source, eid) = match meta.family() {
        Family::V4 => (v4_at(packet, 12)?, v4_at(packet, 16)?),
        Family::V6 => (v6_at(packet, 8)?, v6_at(packet, 24)?),
    };
    Some(Miss {
        instance,
        source,
        eid,
    })
}

/// An address of an IPv4 header.
fn v4_at(packet: &[u8], offset: usize) -> Option<IpAddr> {
    let octets: &[u8; 4] = packet.get(offset..)?.first_chunk()?;
    Some(IpAddr::from(*octets))
}

/// An address of an IPv6 header.
fn v6_at(packet: &[u8], offset: usize) -> Option<IpAddr> {
    let octets: &[u8; 16] = packet.get(offset..)?.first_chunk()?;
    Some(IpAddr::from(*octets))
}
