//! Which prefix leads where, from one version of the tables to the next.
//!
//! A leaf of the prefix table is the index of a next hop, and stands for a [`Target`]: what the prefix leads to whatever
//! is known of links and neighbours at the moment. So a neighbour that is resolved changes a next hop and no prefix, and
//! a route that moves changes one prefix and nothing else.
//!
//! The prefix table is shared by all versions of the tables, and changed in place. So that no worker ever meets a leaf
//! that its tables do not know, a change that brings new targets has two steps: [`Builder`](super::Builder) makes tables
//! in which they have their next hops; once every worker uses them, [`Rib::commit`] changes the prefixes. A target that no
//! prefix leads to any more keeps its next hop until then, and its index is used again only in tables made later. A change
//! without new targets is committed first and published then: what a prefix led to may be gone from the new tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use dataplane::table::lpm::{Arena, Grace, Lpm4, Lpm6};
use ipnet::{IpNet, Ipv6Net};

use crate::lisp::table::LEAF;
use crate::steer::registry::Registry;

use super::{Fib, Hop, InterfaceId, Route, VrfId};

/// A prefix in its routing table.
pub(super) type Key = (VrfId, IpNet);

/// What a prefix leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// What a route says; connected prefixes are a hop without a router.
    Route(Route),
    /// An outside prefix of this uplink (RFC 6296 4.3).
    Hairpin(InterfaceId),
    /// A service address.
    Service(VrfId, Ipv6Net),
    /// A source address of full NAT, by number.
    Source(u16),
    /// One of our own addresses.
    Own,
}

impl Target {
    /// Straight to the destination, on the link of `interface`.
    pub(super) fn on_link(interface: InterfaceId) -> Self {
        Self::Route(Route::Hops(vec![Hop {
            interface,
            via: None,
            weight: 1,
        }]))
    }

    /// What `route` says for `prefix`: a weight means nothing where there is one hop, and a router of the other family
    /// cannot be used.
    pub(super) fn route(prefix: &IpNet, mut route: Route) -> Self {
        if let Route::Hops(hops) = &mut route {
            let is_v4 = matches!(prefix, IpNet::V4(_));
            hops.retain(|hop| hop.via.is_none_or(|via| via.is_ipv4() == is_v4));
            match &mut hops[..] {
                [] => route = Route::Unreachable,
                [hop] => hop.weight = 1,
                _ => {}
            }
        }
        Self::Route(route)
    }

    /// Whether the lookup goes on in the host table.
    pub(super) fn asks_hosts(&self) -> bool {
        match self {
            Self::Route(Route::Hops(hops)) => matches!(&hops[..], [Hop { via: None, .. }]),
            Self::Route(_) | Self::Service(..) | Self::Source(_) | Self::Own => false,
            Self::Hairpin(_) => true,
        }
    }
}

/// Targets by number. Number 0 is "no route".
#[derive(Default)]
struct Targets {
    numbers: HashMap<Target, u32>,
    /// Target `i` has number `i + 1`; `None` is free. With the number of prefixes that shall lead there.
    slots: Vec<(Option<Target>, u32)>,
    free: Vec<u32>,
    /// Some target got its number since the last [`Rib::commit`].
    has_new: bool,
}

impl Targets {
    fn take(&mut self, target: &Target) -> u32 {
        let number = match self.numbers.get(target) {
            Some(number) => *number,
            None => {
                let number = self.free.pop().unwrap_or_else(|| {
                    self.slots.push((None, 0));
                    u32::try_from(self.slots.len()).expect("fewer than 2^28 targets")
                });
                self.has_new = true;
                self.slot(number).0 = Some(target.clone());
                self.numbers.insert(target.clone(), number);
                number
            }
        };
        self.slot(number).1 += 1;
        number
    }

    fn release(&mut self, number: u32) {
        self.slot(number).1 -= 1;
    }

    /// Forget every target that nothing leads to.
    fn sweep(&mut self) {
        for (index, (target, users)) in self.slots.iter_mut().enumerate() {
            if *users == 0
                && let Some(target) = target.take()
                && let Some(number) = self.numbers.remove(&target)
            {
                debug_assert_eq!(number as usize, index + 1, "one target, one number");
                self.free.push(number);
            }
        }
    }

    fn slot(&mut self, number: u32) -> &mut (Option<Target>, u32) {
        &mut self.slots[number as usize - 1] // `as`: u32 to index
    }
}

/// The prefix tables of one VRF.
struct Vrf {
    v6: Lpm6,
    v4: Lpm4,
}

impl Vrf {
    fn insert(&mut self, prefix: IpNet, leaf: u32) {
        match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix.network(), prefix.prefix_len(), leaf),
            IpNet::V6(prefix) => self.v6.insert(prefix.network(), prefix.prefix_len(), leaf),
        };
    }

    fn load(&mut self, prefixes: impl Iterator<Item = (IpNet, u32)>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, leaf) in prefixes {
            match prefix {
                IpNet::V4(prefix) => v4.push((prefix.network(), prefix.prefix_len(), leaf)),
                IpNet::V6(prefix) => v6.push((prefix.network(), prefix.prefix_len(), leaf)),
            }
        }
        self.v4.load(v4);
        self.v6.load(v6);
    }

    fn remove(&mut self, prefix: IpNet) {
        match prefix {
            IpNet::V4(prefix) => self.v4.remove(prefix.network(), prefix.prefix_len()),
            IpNet::V6(prefix) => self.v6.remove(prefix.network(), prefix.prefix_len()),
        };
    }

    fn leaf(&self, prefix: IpNet) -> Option<u32> {
        match prefix {
            IpNet::V4(prefix) => self.v4.leaf(prefix.network(), prefix.prefix_len()),
            IpNet::V6(prefix) => self.v6.leaf(prefix.network(), prefix.prefix_len()),
        }
    }
}

/// The control thread's side of the prefix tables: routes, what they lead to, and the tables of all VRFs.
#[derive(Default)]
pub struct Rib {
    arena: Arena,
    vrfs: Vec<Vrf>,
    targets: Targets,
    routes: BTreeMap<Key, Route>,
    /// Prefixes that follow from interfaces, addresses and rules; a route for the same prefix comes first.
    derived: BTreeMap<Key, Target>,
    /// Own addresses under a longer prefix than that of their link; they come before any route.
    own: BTreeMap<Key, Target>,
    /// Prefixes whose route was changed since the last [`Rib::plan`].
    touched: BTreeSet<Key>,
    /// Leaves that differ from the prefix table; 0: to be removed.
    planned: BTreeMap<Key, u32>,
    /// Some table has memory that waits for the workers to let go of it.
    has_retired: bool,
    lisp: Option<Box<lisp::State>>,
    steering: Option<Box<Registry>>,
}

impl Rib {
    /// No prefix.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Make these the routes; of two for one prefix the later counts. Takes effect with the tables that are built next.
    pub fn set_routes(&mut self, routes: impl IntoIterator<Item = (VrfId, IpNet, Route)>) {
        let routes = routes
            .into_iter()
            .map(|(vrf, prefix, route)| ((vrf, prefix.trunc()), route));
        let routes: BTreeMap<Key, Route> = routes.collect();
        self.touched.extend(differences(&self.routes, &routes));
        self.routes = routes;
    }

    /// Whether prefixes wait for [`Rib::commit`].
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.planned.is_empty() || self.is_lisp_pending()
    }

    /// Whether they must wait until all workers use the tables built last; else they are better changed before.
    #[must_use]
    pub fn has_new_targets(&self) -> bool {
        self.targets.has_new
    }

    /// Change the prefixes. With [new targets](Rib::has_new_targets) to be called when no worker uses tables older than
    /// those built last.
    pub fn commit(&mut self) {
        let planned = std::mem::take(&mut self.planned);
        // Additions first: where a prefix gives way to longer ones, no address is without a route between.
        let (removed, set): (Vec<_>, Vec<_>) =
            planned.into_iter().partition(|(_, leaf)| *leaf == 0);
        let mut set = set.into_iter().peekable();
        while let Some(((vrf, _), _)) = set.peek() {
            let vrf = *vrf;
            let of_this = std::iter::from_fn(|| set.next_if(|((other, _), _)| *other == vrf));
            let prefixes = of_this.map(|((_, prefix), leaf)| (prefix, leaf));
            self.vrfs[usize::from(vrf.0)].load(prefixes);
        }
        for ((vrf, prefix), _) in removed {
            self.vrfs[usize::from(vrf.0)].remove(prefix);
        }
        self.commit_lisp();
        self.targets.sweep();
        self.targets.has_new = false;
        self.has_retired = true;
    }

    /// Reuse the memory of what was replaced, as far as all workers have let go of it. To be called now and then.
    pub fn reclaim(&mut self, grace: &mut impl Grace) {
        if self.has_retired {
            let waiting = self.vrfs.iter_mut();
            let waiting = waiting.map(|vrf| vrf.v6.reclaim(grace) + vrf.v4.reclaim(grace));
            let waiting: usize = waiting.sum();
            self.has_retired = waiting + self.reclaim_lisp(grace) > 0;
        }
    }

    /// Prefixes in all tables, as of the last [`Rib::commit`].
    #[must_use]
    pub fn prefixes(&self) -> usize {
        let lengths = self.vrfs.iter().map(|vrf| vrf.v6.len() + vrf.v4.len());
        lengths.sum()
    }

    /// Bytes of the prefix tables.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = self.vrfs.iter();
        bytes.map(|vrf| vrf.v6.bytes() + vrf.v4.bytes()).sum()
    }

    /// Prefixes and what they lead to become these, routes included: decide what [`Rib::commit`] changes. `own` are own
    /// addresses, which get a prefix of their own where the longest other one does not ask the host table for them.
    /// `is_up` says of each interface whether packets may leave by it.
    pub(super) fn plan(
        &mut self,
        derived: BTreeMap<Key, Target>,
        own: &[(VrfId, IpAddr)],
        is_up: impl Fn(InterfaceId) -> bool,
    ) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(differences(&self.derived, &derived));
        self.derived = derived;
        let own: BTreeMap<Key, Target> = own
            .iter()
            .filter(|(vrf, address)| {
                !self
                    .covering(*vrf, *address)
                    .is_some_and(|t| t.asks_hosts())
            })
            .map(|(vrf, address)| ((*vrf, IpNet::from(*address)), Target::Own))
            .collect();
        touched.extend(differences(&self.own, &own));
        self.own = own;
        self.plan_lisp(&touched, is_up);
        for key in touched {
            let leaf = match self.target(&key) {
                Some(target) => self.targets.take(&target),
                None => self.mapping_leaf(&key),
            };
            let table = self.table(key.0);
            let installed = table.leaf(key.1).unwrap_or(0);
            let before = self.planned.get(&key).copied().unwrap_or(installed);
            if before != 0 && before & LEAF == 0 {
                self.targets.release(before);
            }
            if leaf == installed {
                self.planned.remove(&key);
            } else {
                self.planned.insert(key, leaf);
            }
        }
    }

    /// Every target, by its number from 1 on; `None` where a number is free.
    pub(super) fn targets(&self) -> impl Iterator<Item = Option<&Target>> {
        self.targets.slots.iter().map(|(target, _)| target.as_ref())
    }

    /// The tables of VRFs 0 to `last`, at least.
    pub(super) fn views(&mut self, last: VrfId) -> Box<[Fib]> {
        self.table(last);
        let fib = |vrf: &Vrf| Fib {
            v6: vrf.v6.view(),
            v4: vrf.v4.view(),
        };
        self.vrfs.iter().map(fib).collect()
    }

    fn table(&mut self, vrf: VrfId) -> &mut Vrf {
        let index = usize::from(vrf.0);
        while self.vrfs.len() <= index {
            self.vrfs.push(Vrf {
                v6: Lpm6::new_in(&self.arena),
                v4: Lpm4::new_in(&self.arena),
            });
        }
        &mut self.vrfs[index]
    }

    /// What the prefix shall lead to.
    fn target(&self, key: &Key) -> Option<Target> {
        self.own.get(key).cloned().or_else(|| self.shared(key))
    }

    /// The same without own addresses.
    fn shared(&self, key: &Key) -> Option<Target> {
        let route = self.routes.get(key).cloned();
        let route = route.map(|route| Target::route(&key.1, route));
        route.or_else(|| self.derived.get(key).cloned())
    }

    /// The target of the longest prefix that covers an address, own addresses aside.
    fn covering(&self, vrf: VrfId, address: IpAddr) -> Option<Target> {
        self.covering_prefix(vrf, address.into())
    }

    /// The same for all addresses of a prefix.
    fn covering_prefix(&self, vrf: VrfId, prefix: IpNet) -> Option<Target> {
        (0..=prefix.prefix_len()).rev().find_map(|length| {
            let shorter = IpNet::new(prefix.addr(), length).expect("at most that of the prefix");
            self.shared(&(vrf, shorter.trunc()))
        })
    }
}

/// Keys whose values differ, or that only one of the two has.
fn differences<V: PartialEq>(a: &BTreeMap<Key, V>, b: &BTreeMap<Key, V>) -> Vec<Key> {
    let in_a = a.iter().filter(|(key, value)| b.get(key) != Some(value));
    let only_in_b = b.keys().filter(|key| !a.contains_key(key));
    in_a.map(|(key, _)| *key)
        .chain(only_in_b.copied())
        .collect()
}

mod lisp;
mod steer;
#[cfg(test)]
mod tests;
