//! The part of the [`Rib`] that knows LISP: mappings as leaves of the prefix tables, and the way to their locators.
//!
//! A mapping takes effect at once where everything it needs is known, without new tables. What it may need first is the
//! way to a locator, or to natively forwarded destinations: a next hop of the underlay, which workers must have in their
//! tables before anything leads there. Then it waits for [`Rib::commit`], like any new target. When the underlay changes,
//! locators are led to their new next hops in the same step; mappings stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::table::lpm::{Grace, Lpm4, Lpm6};
use ipnet::IpNet;

use super::{Key, Rib, Target};
use crate::lisp::cache::{Eid, MapCache};
use crate::lisp::view::{First6, Instance, Lisp, Role};
use crate::lisp::{Act, InstanceSpec, LocatorState, MappingSpec, Miss, Settings};
use crate::tables::{InterfaceId, Route, VrfId};

/// More changed prefixes than this: every way is looked for anew instead of only those that they cover.
const FEW: usize = 64;

/// What the [`Rib`] keeps of LISP.
pub(super) struct State {
    cache: MapCache,
    /// Mappings that wait for a way.
    waiting: BTreeMap<Eid, MappingSpec>,
    /// What the underlay says of each router.
    ways: BTreeMap<IpAddr, Option<Target>>,
    /// Next hops of routers that [`Rib::commit`] will change.
    planned_ways: BTreeMap<IpAddr, u32>,
    /// Mappings that lead to the next hop they would have without LISP.
    natives: BTreeSet<Eid>,
    /// Their next hops that [`Rib::commit`] will change.
    planned_natives: BTreeMap<Eid, u32>,
    /// Own EID prefixes, those whose hosts may be at any site, and hosts that are here.
    databases: BTreeMap<VrfId, (Lpm6, Lpm4)>,
    hosts: BTreeSet<Eid>,
    /// Mappings that stand for "ask", made from the settings.
    asked: BTreeSet<Eid>,
    /// All workers have tables with LISP.
    is_known: bool,
}

impl Rib {
    /// These settings of LISP from now on, or none. Mappings stay, but where there is no instance any more.
    pub fn set_lisp(&mut self, settings: Option<Settings>) {
        let Some(settings) = settings else {
            let known = self.lisp.as_deref().map(State::eids).unwrap_or_default();
            for eid in known {
                self.drop_mapping(eid);
            }
            let held = self.lisp.take().map(|mut state| state.numbers());
            held.into_iter()
                .flatten()
                .for_each(|number| self.release(number));
            return;
        };
        let mut again = Vec::new();
        match &mut self.lisp {
            Some(state) if *state.cache.settings() == settings => return,
            Some(state) => again = state.cache.configure(settings.clone()),
            None => {
                self.lisp = Some(Box::new(State::new(settings.clone())));
                // Until all workers have tables with LISP, no prefix may lead to a mapping.
                self.targets.has_new = true;
            }
        }
        let has_instance = |vrf: VrfId| settings.instances.iter().any(|one| one.vrf == vrf);
        let asked: BTreeSet<Eid> = settings
            .instances
            .iter()
            .flat_map(|instance| {
                instance
                    .map_request
                    .iter()
                    .map(|eid| (instance.vrf, eid.trunc()))
            })
            .collect();
        if let Some(state) = &mut self.lisp {
            state.databases = settings
                .instances
                .iter()
                .map(|instance| (instance.vrf, database(&self.arena, instance)))
                .collect();
            state.hosts.retain(|(vrf, _)| has_instance(*vrf));
            for host in &state.hosts {
                state.databases.entry(host.0).and_modify(|(v6, v4)| {
                    insert((v6, v4), host.1, Role::Here);
                });
            }
            // Every way may start from another RLOC, or lead through another VRF.
            state.ways.clear();
            let gone: Vec<Eid> = state.asked.difference(&asked).copied().collect();
            state.asked = asked;
            for eid in gone {
                if self.mapping(eid.0, eid.1) == Some(MappingSpec::Negative(Act::SendMapRequest)) {
                    self.drop_mapping(eid);
                }
            }
        }
        for (eid, spec) in again {
            if has_instance(eid.0) {
                self.set_mapping(eid.0, eid.1, Some(spec));
            } else {
                self.drop_mapping(eid);
            }
        }
        let asked = self
            .lisp
            .as_ref()
            .map(|state| state.asked.clone())
            .unwrap_or_default();
        for eid in asked {
            if self.mapping(eid.0, eid.1).is_none() {
                self.set_mapping(eid.0, eid.1, None);
            }
        }
        if let Some(state) = &mut self.lisp {
            state.cache.set_petrs();
        }
    }

    /// Map an EID prefix, or forget its mapping. Takes effect at once where every locator's way is known, else with the
    /// tables that are built next: see [`Rib::wants_tables`].
    pub fn set_mapping(&mut self, vrf: VrfId, eid: IpNet, spec: Option<MappingSpec>) {
        let eid = (vrf, eid.trunc());
        let Some(state) = &mut self.lisp else {
            return;
        };
        let spec = match spec {
            Some(spec) => spec,
            None if state.asked.contains(&eid) => MappingSpec::Negative(Act::SendMapRequest),
            None => return self.drop_mapping(eid),
        };
        if state.cache.is_ready(&spec) && !state.is_native(&spec) && state.is_known {
            state.waiting.remove(&eid);
            self.install(eid, &spec, 0);
        } else {
            state.waiting.insert(eid, spec);
        }
    }

    /// A host of a dynamic prefix is here, or not any more. Takes effect at once: its packets are encapsulated as those of
    /// any EID of the site. What leads to it is for a route to say.
    pub fn set_host(&mut self, vrf: VrfId, host: IpAddr, is_here: bool) {
        let eid = (vrf, IpNet::from(host));
        let Some(state) = &mut self.lisp else {
            return;
        };
        let is_new = match is_here {
            true => state.hosts.insert(eid),
            false => state.hosts.remove(&eid),
        };
        if !is_new {
            return;
        }
        if let Some((v6, v4)) = state.databases.get_mut(&vrf) {
            match (is_here, host) {
                (true, _) => insert((v6, v4), eid.1, Role::Here),
                (false, IpAddr::V6(host)) => drop(v6.remove(host, 128)),
                (false, IpAddr::V4(host)) => drop(v4.remove(host, 32)),
            }
            self.has_retired = true;
        }
    }

    /// Take a locator out of use in every mapping, or back. Takes effect at once.
    pub fn set_locator(&mut self, rloc: IpAddr, up: bool) {
        if let Some(state) = &mut self.lisp {
            state.cache.set_up(rloc, up);
        }
    }

    /// What was learned of the path to a locator, bytes; `None`: forget it. Takes effect at once (F-06).
    pub fn set_path_mtu(&mut self, rloc: IpAddr, mtu: Option<u16>) {
        if let Some(state) = &mut self.lisp {
            state.cache.set_path_mtu(rloc, mtu);
        }
    }

    /// Whether packets went by a mapping since this was last asked.
    #[must_use]
    pub fn was_used(&self, vrf: VrfId, eid: IpNet) -> bool {
        let state = self.lisp.as_ref();
        state.is_some_and(|state| state.cache.was_used(&(vrf, eid.trunc())))
    }

    /// What an EID prefix is mapped to, or will be as soon as its locators' ways are known.
    #[must_use]
    pub fn mapping(&self, vrf: VrfId, eid: IpNet) -> Option<MappingSpec> {
        let state = self.lisp.as_ref()?;
        let eid = (vrf, eid.trunc());
        state
            .waiting
            .get(&eid)
            .cloned()
            .or_else(|| state.cache.spec(&eid))
    }

    /// How the locators of a mapping are doing.
    #[must_use]
    pub fn locator_states(&self, vrf: VrfId, eid: IpNet) -> Vec<LocatorState> {
        let state = self.lisp.as_ref();
        state.map_or(Vec::new(), |state| {
            state.cache.locator_states(&(vrf, eid.trunc()))
        })
    }

    /// Whether the underlay leads to this router, and where: the interface and router of its first hop.
    #[must_use]
    pub fn way_to(&self, rloc: IpAddr) -> Option<(InterfaceId, Option<IpAddr>)> {
        match self.lisp.as_ref()?.ways.get(&rloc)?.as_ref()? {
            Target::Route(Route::Hops(hops)) => hops.first().map(|hop| (hop.interface, hop.via)),
            _ => None,
        }
    }

    /// Whether packets to this router have a next hop: a route, by a link that is up.
    #[must_use]
    pub fn is_reachable(&self, rloc: IpAddr) -> bool {
        let state = self.lisp.as_ref();
        let next_hop = state.and_then(|state| state.cache.next_hop_of(rloc));
        next_hop.is_some_and(|number| number != 0)
    }

    /// Mappings in use.
    #[must_use]
    pub fn mappings(&self) -> usize {
        self.lisp.as_ref().map_or(0, |state| state.cache.len())
    }

    /// Bytes of the map-cache, without the prefix tables.
    #[must_use]
    pub fn map_cache_bytes(&self) -> usize {
        self.lisp.as_ref().map_or(0, |state| state.cache.bytes())
    }

    /// Whether something waits for tables to be built: a mapping whose way is not known yet.
    #[must_use]
    pub fn wants_tables(&self) -> bool {
        let state = self.lisp.as_ref();
        state.is_some_and(|state| {
            !state.waiting.is_empty() || state.cache.unknown().next().is_some()
        })
    }

    /// The leaf of a prefix that no route is for.
    pub(super) fn mapping_leaf(&self, key: &Key) -> u32 {
        let leaf = self.lisp.as_ref().and_then(|state| state.cache.leaf(key));
        leaf.unwrap_or(0)
    }

    /// Whether [`Rib::commit`] has something to do for LISP.
    pub(super) fn is_lisp_pending(&self) -> bool {
        let state = self.lisp.as_ref();
        state.is_some_and(|state| {
            !state.planned_ways.is_empty()
                || !state.planned_natives.is_empty()
                || !state.waiting.is_empty()
        })
    }

    /// Numbers of the VRFs that LISP looks into.
    pub(in crate::tables) fn lisp_vrfs(&self) -> Vec<u16> {
        let settings = self.lisp.as_ref().map(|state| state.cache.settings());
        settings.map_or(Vec::new(), |settings| {
            let instances = settings.instances.iter().map(|instance| instance.vrf.0);
            instances.chain([settings.underlay.0]).collect()
        })
    }

    /// What one version of the tables looks at. `interface_of`: an interface of a VRF.
    pub(in crate::tables) fn lisp(
        &self,
        interface_of: impl Fn(VrfId) -> Option<InterfaceId>,
    ) -> Option<Lisp> {
        let state = self.lisp.as_ref()?;
        let settings = state.cache.settings();
        let underlay = interface_of(settings.underlay).unwrap_or(InterfaceId(0));
        let instances = settings.instances.iter().filter_map(|instance| {
            let (eids6, eids4) = state.databases.get(&instance.vrf)?;
            Some(Instance {
                id: instance.id,
                vrf: instance.vrf,
                interface: interface_of(instance.vrf).unwrap_or(underlay),
                first6: First6::of(&instance.eids, &instance.dynamic),
                has_dynamic: !instance.dynamic.is_empty(),
                eids6: eids6.view(),
                eids4: eids4.view(),
                petr: state.cache.petr(instance.vrf),
            })
        });
        Some(Lisp::new(&state.cache, instances.collect()))
    }

    /// Decide where routers and natively forwarded destinations are reached, now that `touched` changed in the VRFs.
    pub(super) fn plan_lisp(
        &mut self,
        touched: &BTreeSet<Key>,
        is_up: impl Fn(InterfaceId) -> bool,
    ) {
        let Some(mut state) = self.lisp.take() else {
            return;
        };
        let underlay = state.cache.settings().underlay;
        let covers = |vrf: VrfId, prefix: IpNet| {
            touched.len() > FEW
                || touched
                    .iter()
                    .any(|(of, key)| *of == vrf && key.contains(&prefix))
        };
        let rlocs: BTreeSet<IpAddr> = state.cache.rlocs().collect();
        state.ways.retain(|rloc, _| rlocs.contains(rloc));
        for rloc in rlocs {
            if !state.ways.contains_key(&rloc) || covers(underlay, rloc.into()) {
                let way = self
                    .covering(underlay, rloc)
                    .and_then(|target| to_router(target, rloc));
                state.ways.insert(rloc, way);
            }
            let usable = state
                .ways
                .get(&rloc)
                .and_then(Option::as_ref)
                .filter(|way| match way {
                    Target::Route(Route::Hops(hops)) => hops.iter().any(|hop| is_up(hop.interface)),
                    _ => false,
                });
            let number = usable.map_or(0, |way| self.targets.take(way));
            let before = state.planned_ways.remove(&rloc);
            if let Some(before) = before {
                self.release(before);
            }
            if state.cache.next_hop_of(rloc) == Some(number) {
                self.release(number);
            } else {
                state.planned_ways.insert(rloc, number);
            }
        }
        let known = state.natives.iter().filter(|eid| covers(eid.0, eid.1));
        let mut natives: Vec<Eid> = known.copied().collect();
        let waiting = state
            .waiting
            .iter()
            .filter(|(_, spec)| state.is_native(spec));
        natives.extend(waiting.map(|(eid, _)| *eid));
        for eid in natives {
            let target = self.covering_prefix(eid.0, eid.1);
            let number = target.map_or(0, |target| self.targets.take(&target));
            if let Some(before) = state.planned_natives.insert(eid, number) {
                self.release(before);
            }
        }
        self.lisp = Some(state);
    }

    /// Do what [`Rib::plan_lisp`] decided, and install what waited for it.
    pub(super) fn commit_lisp(&mut self) {
        let Some(state) = &mut self.lisp else {
            return;
        };
        state.is_known = true;
        let ways = std::mem::take(&mut state.planned_ways);
        let mut natives = std::mem::take(&mut state.planned_natives);
        let mut released = Vec::new();
        for (rloc, number) in ways {
            released.extend(state.cache.stack(rloc, number));
        }
        let waiting = std::mem::take(&mut state.waiting);
        for (eid, spec) in waiting {
            let Some(state) = &mut self.lisp else { break };
            if state.is_native(&spec) {
                match natives.remove(&eid) {
                    Some(number) => {
                        state.natives.insert(eid);
                        self.install(eid, &spec, number);
                    }
                    None => drop(state.waiting.insert(eid, spec)),
                }
            } else if state.cache.is_ready(&spec) {
                self.install(eid, &spec, 0);
            } else {
                state.waiting.insert(eid, spec);
            }
        }
        for (eid, number) in natives {
            let Some(state) = &self.lisp else { break };
            let spec = state.cache.spec(&eid).filter(|spec| state.is_native(spec));
            match spec {
                Some(spec) if state.cache.native_of(&eid) != Some(number) => {
                    self.install(eid, &spec, number);
                }
                _ => released.push(number),
            }
        }
        released.into_iter().for_each(|number| self.release(number));
        self.release_unused();
    }

    /// Reuse what workers have let go of; returns how much still waits.
    pub(super) fn reclaim_lisp(&mut self, grace: &mut impl Grace) -> usize {
        let Some(state) = &mut self.lisp else {
            return 0;
        };
        let databases = state.databases.values_mut();
        let waiting: usize = databases
            .map(|(v6, v4)| v6.reclaim(grace) + v4.reclaim(grace))
            .sum();
        let waiting = waiting + state.cache.reclaim(grace);
        self.release_unused();
        waiting
    }

    fn release_unused(&mut self) {
        let Some(state) = &mut self.lisp else {
            return;
        };
        let State {
            cache,
            waiting,
            planned_ways,
            ..
        } = &mut **state;
        let is_wanted = |rloc: IpAddr| {
            planned_ways.contains_key(&rloc)
                || waiting.values().any(|spec| match spec {
                    MappingSpec::Locators { locators, .. } => {
                        locators.iter().any(|locator| locator.rloc == rloc)
                    }
                    MappingSpec::Negative(_) => false,
                })
        };
        for number in cache.take_released(is_wanted) {
            self.release(number);
        }
    }

    fn release(&mut self, number: u32) {
        if number != 0 {
            self.targets.release(number);
        }
    }

    /// Make the mapping, and lead its prefix there unless a route does.
    fn install(&mut self, eid: Eid, spec: &MappingSpec, native: u32) {
        let Some(state) = &mut self.lisp else {
            return;
        };
        if !state.is_native(spec) {
            state.natives.remove(&eid);
        }
        let before = state.cache.leaf(&eid);
        let leaf = state.cache.install(eid, spec, native);
        self.has_retired = true;
        if before == Some(leaf) || self.target(&eid).is_some() {
            return;
        }
        if let Some(planned) = self.planned.get_mut(&eid) {
            *planned = leaf;
        } else {
            self.table(eid.0).insert(eid.1, leaf);
        }
    }

    fn drop_mapping(&mut self, eid: Eid) {
        let Some(state) = &mut self.lisp else {
            return;
        };
        state.waiting.remove(&eid);
        state.natives.remove(&eid);
        let Some(leaf) = state.cache.leaf(&eid) else {
            return;
        };
        if let Some(planned) = self.planned.get_mut(&eid)
            && *planned == leaf
        {
            *planned = 0;
        } else if self.table(eid.0).leaf(eid.1) == Some(leaf) {
            self.table(eid.0).remove(eid.1);
        }
        if let Some(state) = &mut self.lisp {
            state.cache.remove(&eid);
        }
        self.has_retired = true;
    }
}

impl State {
    fn new(settings: Settings) -> Self {
        Self {
            cache: MapCache::new(settings),
            waiting: BTreeMap::new(),
            ways: BTreeMap::new(),
            planned_ways: BTreeMap::new(),
            natives: BTreeSet::new(),
            planned_natives: BTreeMap::new(),
            databases: BTreeMap::new(),
            hosts: BTreeSet::new(),
            asked: BTreeSet::new(),
            is_known: false,
        }
    }

    /// Whether a mapping needs the next hop its destinations would have without LISP.
    fn is_native(&self, spec: &MappingSpec) -> bool {
        match spec {
            MappingSpec::Negative(Act::Native) => true,
            MappingSpec::Negative(Act::SendMapRequest) => {
                self.cache.settings().miss == Miss::Native
            }
            _ => false,
        }
    }

    /// Every next hop that is held, to be let go of.
    fn numbers(&mut self) -> Vec<u32> {
        let planned = std::mem::take(&mut self.planned_ways).into_values();
        let planned = planned.chain(std::mem::take(&mut self.planned_natives).into_values());
        planned.chain(self.cache.take_all_released()).collect()
    }

    fn eids(&self) -> Vec<Eid> {
        self.cache
            .eids()
            .chain(self.waiting.keys().copied())
            .collect()
    }
}

/// A table of own EID prefixes, and of those whose hosts may be at any site.
fn database(arena: &super::Arena, instance: &InstanceSpec) -> (Lpm6, Lpm4) {
    let (mut v6, mut v4) = (Lpm6::new_in(arena), Lpm4::new_in(arena));
    let own = instance.eids.iter().map(|eid| (eid, Role::Own));
    // A prefix that is both is one whose hosts may be elsewhere.
    let dynamic = instance.dynamic.iter().map(|eid| (eid, Role::Dynamic));
    for (eid, role) in own.chain(dynamic) {
        insert((&mut v6, &mut v4), *eid, role);
    }
    (v6, v4)
}

fn insert((v6, v4): (&mut Lpm6, &mut Lpm4), eid: IpNet, role: Role) {
    let leaf = role as u32; // `as`: its number
    match eid {
        IpNet::V6(eid) => drop(v6.insert(eid.network(), eid.prefix_len(), leaf)),
        IpNet::V4(eid) => drop(v4.insert(eid.network(), eid.prefix_len(), leaf)),
    }
}

/// What leads to the router itself, by the target of the longest prefix that covers it.
fn to_router(target: Target, rloc: IpAddr) -> Option<Target> {
    let Target::Route(Route::Hops(mut hops)) = target else {
        return None;
    };
    for hop in &mut hops {
        // On the link: the router is its own next hop.
        hop.via = hop.via.or(Some(rloc));
    }
    (!hops.is_empty()).then_some(Target::Route(Route::Hops(hops)))
}
