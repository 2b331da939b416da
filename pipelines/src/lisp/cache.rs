//! The map-cache as the control thread writes it: mappings, their locator sets, their locators.
//!
//! Everything here is counted by its users and made once: a set by all mappings that say the same, a locator by all sets
//! that have it in the same instance. What readers may still be at is kept until they have passed. Prefix tables and
//! next hops belong to the [`Rib`](crate::tables::Rib), which calls this. `sets` has the sets and locators, `routers` the way
//! to each router.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};

use arrayvec::ArrayVec;
use dataplane::table::lpm::Grace;
use dataplane::table::region::Line;
use ipnet::IpNet;

use super::buckets;
use super::numbers::Numbers;
use super::spec::{Act, LOCATORS_MAX, LocatorSpec, MappingSpec, Settings};
use super::table::{self, LEAF, Shared, USED};
use crate::tables::VrfId;

mod routers;
mod sets;

/// An EID prefix in its instance's VRF.
pub(crate) type Eid = (VrfId, IpNet);

/// What makes a locator another one: what its template is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LocatorKey {
    pub(super) rloc: IpAddr,
    pub(super) instance: u32,
    /// Destination map-version.
    pub(super) version: u16,
    /// Which settings it was made under.
    generation: u32,
}

/// What makes a set another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum SetKey {
    Locators {
        instance: u32,
        version: u16,
        generation: u32,
        locators: Vec<LocatorSpec>,
    },
    /// With the number of the next hop for [`Act::Native`].
    Negative(Act, u32),
}

struct Mapping {
    number: u32,
    set: u32,
}

struct Set {
    key: SetKey,
    users: u32,
    slots: ArrayVec<(LocatorSpec, u32), LOCATORS_MAX>,
}

struct LocatorInfo {
    key: LocatorKey,
    /// Sets that have it.
    sets: HashSet<u32>,
}

/// A router that mappings lead to, whatever the instance.
#[derive(Default)]
struct Rloc {
    /// Taken out of use by whoever watches it.
    is_down: bool,
    /// Number of the underlay's next hop; 0: it cannot be reached. `None`: not looked up yet.
    next_hop: Option<u32>,
    path_mtu: Option<u16>,
    locators: Vec<u32>,
}

/// What readers may still be at.
enum Gone {
    Mapping(u32),
    Set(u32),
}

/// The writer.
pub(crate) struct MapCache {
    shared: Arc<Shared>,
    settings: Settings,
    generation: u32,
    instances: BTreeMap<VrfId, u32>,
    mappings: HashMap<Eid, Mapping>,
    numbers: Numbers,
    sets: HashMap<u32, Set>,
    set_numbers: HashMap<SetKey, u32>,
    free_sets: Numbers,
    locators: HashMap<u32, LocatorInfo>,
    locator_numbers: HashMap<LocatorKey, u32>,
    free_locators: Numbers,
    rlocs: BTreeMap<IpAddr, Rloc>,
    /// Mappings that no prefix leads to: the proxy ETRs of each VRF. Tables know their numbers, so they stay for good.
    petrs: BTreeMap<VrfId, Mapping>,
    unmarked: Vec<Gone>,
    waiting: VecDeque<(u64, Gone)>,
    /// Numbers of next hops that nothing leads to any more.
    released: Vec<u32>,
}

/// How a locator of a mapping is doing, for whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocatorState {
    /// What the mapping says of it.
    pub spec: LocatorSpec,
    /// Whether the underlay has a route to it.
    pub is_reachable: bool,
    /// Whether it was taken out of use.
    pub is_down: bool,
    /// How many of 64 flows it carries.
    pub share: u8,
}

impl MapCache {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut cache = Self {
            shared: Arc::new(Shared::new()),
            settings: Settings::default(),
            generation: 0,
            instances: BTreeMap::new(),
            mappings: HashMap::new(),
            numbers: Numbers::from(1),
            sets: HashMap::new(),
            set_numbers: HashMap::new(),
            free_sets: Numbers::from(1),
            locators: HashMap::new(),
            locator_numbers: HashMap::new(),
            free_locators: Numbers::from(1),
            rlocs: BTreeMap::new(),
            petrs: BTreeMap::new(),
            unmarked: Vec::new(),
            waiting: VecDeque::new(),
            released: Vec::new(),
        };
        cache.configure(settings);
        cache
    }

    /// These settings from now on. Returns the mappings that were made under others and have to be made again.
    pub(crate) fn configure(&mut self, settings: Settings) -> Vec<(Eid, MappingSpec)> {
        let is_outdated: fn(&MappingSpec) -> bool = if settings.makes_other_headers(&self.settings)
        {
            self.generation += 1;
            |_| true
        } else if settings.miss != self.settings.miss {
            |spec| *spec == MappingSpec::Negative(Act::SendMapRequest)
        } else {
            |_| false
        };
        let specs = self.mappings.iter();
        let known = specs.filter_map(|(eid, mapping)| Some((*eid, self.spec_of(mapping)?)));
        let outdated = known.filter(|(_, spec)| is_outdated(spec)).collect();
        self.instances = settings
            .instances
            .iter()
            .map(|instance| (instance.vrf, instance.id))
            .collect();
        self.settings = settings;
        outdated
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What a mapping says.
    pub(crate) fn spec(&self, eid: &Eid) -> Option<MappingSpec> {
        self.spec_of(self.mappings.get(eid)?)
    }

    fn spec_of(&self, mapping: &Mapping) -> Option<MappingSpec> {
        Some(match &self.sets.get(&mapping.set)?.key {
            SetKey::Negative(act, _) => MappingSpec::Negative(*act),
            SetKey::Locators {
                locators, version, ..
            } => MappingSpec::Locators {
                locators: locators.clone(),
                version: *version,
            },
        })
    }

    /// The leaf of a mapping.
    pub(crate) fn leaf(&self, eid: &Eid) -> Option<u32> {
        self.mappings.get(eid).map(|mapping| mapping.number | LEAF)
    }

    /// Whether the way to every locator is known. Those that are not are asked for by [`MapCache::unknown`].
    pub(crate) fn is_ready(&mut self, spec: &MappingSpec) -> bool {
        let mut is_ready = true;
        let locators = match spec {
            MappingSpec::Locators { locators, .. } => &locators[..],
            MappingSpec::Negative(_) => &[],
        };
        for locator in locators {
            is_ready &= self
                .rlocs
                .entry(locator.rloc)
                .or_default()
                .next_hop
                .is_some();
        }
        is_ready
    }

    /// Make or change a mapping whose locators are [ready](MapCache::is_ready); returns its leaf. `native`: the number of
    /// the next hop for [`Act::Native`].
    pub(crate) fn install(&mut self, eid: Eid, spec: &MappingSpec, native: u32) -> u32 {
        let set = self.take_set(eid.0, spec, native);
        match self.mappings.entry(eid) {
            Entry::Occupied(mut mapping) => {
                let mapping = mapping.get_mut();
                let before = std::mem::replace(&mut mapping.set, set);
                let leaf = mapping.number | LEAF;
                // "Used" stays: the prefix was.
                let cell = self.shared.mappings.at(mapping.number);
                let used = cell.load(Relaxed) & USED;
                cell.store(set | used, Release);
                self.release_set(before);
                leaf
            }
            Entry::Vacant(vacant) => {
                let number = self.numbers.take();
                self.shared.mappings.at(number).store(set, Release);
                vacant.insert(Mapping { number, set });
                number | LEAF
            }
        }
    }

    /// Forget a mapping that no prefix leads to any more.
    pub(crate) fn remove(&mut self, eid: &Eid) -> bool {
        let Some(mapping) = self.mappings.remove(eid) else {
            return false;
        };
        self.unmarked.push(Gone::Mapping(mapping.number));
        self.release_set(mapping.set);
        true
    }

    /// Whether packets went by this mapping since this was last asked.
    pub(crate) fn was_used(&self, eid: &Eid) -> bool {
        let Some(mapping) = self.mappings.get(eid) else {
            return false;
        };
        let cell = self.shared.mappings.at(mapping.number);
        cell.load(Relaxed) & USED != 0 && cell.fetch_and(!USED, Relaxed) & USED != 0
    }

    /// The next hop of a natively forwarded mapping.
    pub(crate) fn native_of(&self, eid: &Eid) -> Option<u32> {
        match self.sets.get(&self.mappings.get(eid)?.set)?.key {
            SetKey::Negative(_, native) => Some(native),
            SetKey::Locators { .. } => None,
        }
    }

    /// All EID prefixes.
    pub(crate) fn eids(&self) -> impl Iterator<Item = Eid> {
        self.mappings.keys().copied()
    }

    /// Lead every instance to the proxy ETRs of the settings. Takes effect at once.
    pub(crate) fn set_petrs(&mut self) {
        let proxies = self.settings.petr.iter().map(|rloc| LocatorSpec {
            priority: 1,
            weight: 0,
            rloc: *rloc,
            up: true,
        });
        let locators: Vec<LocatorSpec> = proxies.collect();
        let instances = self.instances.keys().copied();
        let wanted: Vec<VrfId> = instances.filter(|_| !locators.is_empty()).collect();
        let spec = MappingSpec::Locators {
            locators,
            version: 0,
        };
        for vrf in &wanted {
            let set = self.take_set(*vrf, &spec, 0);
            let petr = self.petrs.entry(*vrf);
            let petr = petr.or_insert_with(|| Mapping {
                number: self.numbers.take(),
                set: 0,
            });
            let before = std::mem::replace(&mut petr.set, set);
            self.shared.mappings.at(petr.number).store(set, Release);
            self.release_set(before);
        }
        let gone = self
            .petrs
            .iter_mut()
            .filter(|(vrf, _)| !wanted.contains(vrf));
        let sets: Vec<u32> = gone
            .map(|(_, petr)| {
                self.shared.mappings.at(petr.number).store(0, Release);
                std::mem::take(&mut petr.set)
            })
            .collect();
        sets.into_iter().for_each(|set| self.release_set(set));
    }

    /// The mapping that leads a VRF to the proxy ETRs; 0: none ever did.
    pub(crate) fn petr(&self, vrf: VrfId) -> u32 {
        self.petrs.get(&vrf).map_or(0, |petr| petr.number)
    }

    /// Mappings.
    pub(crate) fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Bytes that workers may look at, without the prefix tables.
    pub(crate) fn bytes(&self) -> usize {
        let lines = self.free_sets.made() + self.free_locators.made();
        self.numbers.made() * size_of::<AtomicU32>() + lines * size_of::<Line>()
    }

    /// How the locators of a mapping are doing, in the order of their use.
    pub(crate) fn locator_states(&self, eid: &Eid) -> Vec<LocatorState> {
        let set = self
            .mappings
            .get(eid)
            .and_then(|mapping| self.sets.get(&mapping.set));
        let Some(set) = set else {
            return Vec::new();
        };
        let buckets = buckets::fill(&self.shares(set));
        let slots = (0..).zip(&set.slots).map(|(slot, (spec, _))| {
            let rloc = self.rlocs.get(&spec.rloc);
            let of_slot =
                |buckets: [u8; table::BUCKETS]| buckets.iter().filter(|b| **b == slot).count();
            LocatorState {
                spec: *spec,
                is_reachable: rloc.is_some_and(|rloc| rloc.next_hop.unwrap_or(0) != 0),
                is_down: rloc.is_some_and(|rloc| rloc.is_down),
                share: buckets.map_or(0, |buckets| of_slot(buckets) as u8), // `as`: at most 64
            }
        });
        slots.collect()
    }

    /// Reuse what all readers have let go of. Returns how much still waits.
    pub(crate) fn reclaim(&mut self, grace: &mut impl Grace) -> usize {
        if !self.unmarked.is_empty() {
            // Whoever remembers one of them has to hear of it before its number is used again.
            self.shared.count_change();
            let epoch = grace.mark();
            let marked = self.unmarked.drain(..).map(|gone| (epoch, gone));
            self.waiting.extend(marked);
        }
        if !self.waiting.is_empty() {
            let passed = grace.passed();
            while let Some((_, gone)) = self.waiting.pop_front_if(|(epoch, _)| *epoch <= passed) {
                match gone {
                    Gone::Mapping(number) => self.numbers.give_back(number),
                    Gone::Set(number) => self.free_set(number),
                }
            }
        }
        self.waiting.len()
    }

    /// Next hops that nothing leads to any more, since this was last asked; routers without a user go as well, but for
    /// those that are `wanted`.
    pub(crate) fn take_released(&mut self, wanted: impl Fn(IpAddr) -> bool) -> Vec<u32> {
        let released = &mut self.released;
        self.rlocs.retain(|address, rloc| {
            let stays = !rloc.locators.is_empty() || rloc.is_down || wanted(*address);
            if !stays && let Some(next_hop) = rloc.next_hop.filter(|number| *number != 0) {
                released.push(next_hop);
            }
            stays
        });
        std::mem::take(released)
    }

    /// Every next hop that something leads to or led to: nothing is left of the map-cache.
    pub(crate) fn take_all_released(&mut self) -> Vec<u32> {
        let natives = self.sets.drain().filter_map(|(_, set)| match set.key {
            SetKey::Negative(_, native) => Some(native),
            SetKey::Locators { .. } => None,
        });
        self.released.extend(natives);
        let ways = std::mem::take(&mut self.rlocs).into_values();
        self.released.extend(ways.filter_map(|rloc| rloc.next_hop));
        std::mem::take(&mut self.released)
    }
}

/// A locator of a test.
#[cfg(test)]
pub(super) fn test_key(rloc: IpAddr, instance: u32, version: u16) -> LocatorKey {
    LocatorKey {
        rloc,
        instance,
        version,
        generation: 0,
    }
}
