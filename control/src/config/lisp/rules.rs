//! Which mappings may stand beside a configuration. Asked when a file is judged and when a mapping is added at run time.
//!
//! Each question is about one thing, so that an error of a file can point at it. A lookup or two each: a hundred thousand
//! mappings a second are judged on the side.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Instance, Lisp, Roles};
use crate::config::model::{Interface, Route};
use crate::config::unusable_address;
use crate::proto::lisp::mapping::LOCATORS_MAX;
use crate::proto::lisp::{Action, EidKey, InstanceId, Locator, Mapping};

/// Why a mapping may not stand. Says what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Nothing here encapsulates.
    #[error("mappings are for boxes that encapsulate, expected itr, pitr or rtr among the roles")]
    NobodyEncapsulates,
    /// No such instance.
    #[error("there is no instance {found}, expected {}", one_of(known))]
    UnknownInstance {
        /// Its number.
        found: InstanceId,
        /// Those there are.
        known: Vec<InstanceId>,
    },
    /// Bits are set after the prefix length.
    #[error("{found} has bits set after its length, expected {}", found.trunc())]
    HostBits {
        /// As written.
        found: IpNet,
    },
    /// Not a prefix of addresses that are forwarded.
    #[error("{found} {kind}, expected a prefix of forwardable unicast addresses")]
    NotUnicast {
        /// The prefix.
        found: IpNet,
        /// "holds multicast addresses".
        kind: &'static str,
    },
    /// Own EIDs need no mapping.
    #[error(
        "{found} is inside {own}, an own EID prefix of the instance, expected EIDs of another site"
    )]
    OwnEid {
        /// The prefix.
        found: IpNet,
        /// Of [`Instance::eids`](super::Instance::eids).
        own: IpNet,
    },
    /// A route leads there already.
    #[error("{found} is {kind} of the instance's VRF, expected a prefix that is not")]
    Routed {
        /// The prefix.
        found: IpNet,
        /// "a route", "a connected prefix".
        kind: &'static str,
    },
    /// Locators and an action, or neither.
    #[error("{found}, expected exactly one of locators and action")]
    Content {
        /// What stands there.
        found: &'static str,
    },
    /// Too many locators, or none.
    #[error("{found} locators, expected 1 to {LOCATORS_MAX}")]
    LocatorCount {
        /// How many.
        found: usize,
    },
    /// A locator twice.
    #[error("locator {found} stands twice, expected each once in a mapping")]
    LocatorTwice {
        /// It.
        found: IpAddr,
    },
    /// Not an address packets can be sent to.
    #[error("{found} {kind}, expected the global unicast address of a tunnel router")]
    NotRloc {
        /// The address.
        found: IpAddr,
        /// "is a multicast address".
        kind: &'static str,
    },
    /// Packets would come back.
    #[error("{found} is an own address, expected another box's, or an own RLOC of an RTR")]
    OwnRloc {
        /// The address.
        found: IpAddr,
    },
    /// There is no source for packets to it.
    #[error("{found} is an {} address and no own RLOC is, expected one of the family of an own RLOC", family(*found))]
    NoSourceRloc {
        /// The address.
        found: IpAddr,
    },
    /// More than a share can be.
    #[error("a weight of {found}, expected 0 to {}", Locator::WEIGHT_MAX)]
    Weight {
        /// It.
        found: u8,
    },
    /// Versions that no packet would carry.
    #[error("a map-version where packets carry none, expected it only with map_version in [lisp]")]
    VersionsOff,
    /// More than 12 bits.
    #[error("a map-version of {found}, expected 0 to 4095")]
    Version {
        /// It.
        found: u16,
    },
    /// Nowhere to send it.
    #[error("no proxy ETR is known, expected petr in [lisp]")]
    NoPetr,
}

fn one_of(known: &[InstanceId]) -> String {
    const SHOWN_MAX: usize = 16;
    let shown: Vec<String> = known
        .iter()
        .take(SHOWN_MAX)
        .map(InstanceId::to_string)
        .collect();
    match (&shown[..], known.len().saturating_sub(SHOWN_MAX)) {
        ([], _) => "none".to_owned(),
        ([only], 0) => only.clone(),
        (shown, 0) => format!("one of {}", shown.join(", ")),
        (shown, more) => format!("one of {} (and {more} more)", shown.join(", ")),
    }
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// What is known of an instance.
#[derive(Debug, Default)]
struct Eids {
    vrf: usize,
    own: HashSet<IpNet>,
    /// Lengths that occur in `own`, without repetition.
    lengths: Vec<u8>,
    dynamic: Vec<IpNet>,
}

/// A configuration as far as mappings depend on it.
#[derive(Debug, Default)]
pub struct Rules {
    roles: Roles,
    own_rlocs: Vec<IpAddr>,
    /// All own addresses in the underlay.
    own_addresses: HashSet<IpAddr>,
    has_versions: bool,
    has_petr: bool,
    instances: HashMap<InstanceId, Eids>,
    /// Prefixes of the instances' VRFs that lead somewhere by themselves.
    routed: HashMap<(usize, IpNet), &'static str>,
}

impl Rules {
    /// The rules of a configuration.
    #[must_use]
    pub fn new(lisp: &Lisp, interfaces: &[Interface], routes: &[Route]) -> Self {
        let mut instances = HashMap::<InstanceId, Eids>::new();
        for instance in &lisp.instances {
            let mut lengths: Vec<u8> = instance.eids.iter().map(IpNet::prefix_len).collect();
            lengths.sort_unstable();
            lengths.dedup();
            let eids = Eids {
                vrf: instance.vrf,
                own: instance.eids.iter().copied().collect(),
                lengths,
                dynamic: instance.dynamic_eids.clone(),
            };
            instances.insert(instance.id, eids);
        }
        let vrfs: HashSet<usize> = instances.values().map(|eids| eids.vrf).collect();
        let mut routed = HashMap::new();
        for route in routes.iter().filter(|route| vrfs.contains(&route.vrf)) {
            routed.insert((route.vrf, route.prefix), "a route");
        }
        for interface in interfaces {
            for address in interface
                .addresses
                .iter()
                .filter(|_| vrfs.contains(&interface.vrf))
            {
                routed.insert((interface.vrf, address.trunc()), "a connected prefix");
                routed.insert((interface.vrf, address.addr().into()), "an own address");
            }
        }
        Self {
            roles: lisp.roles,
            own_rlocs: lisp.own_rlocs().collect(),
            own_addresses: own_addresses(lisp.vrf, interfaces).collect(),
            has_versions: lisp.map_version != 0,
            has_petr: !lisp.petr.is_empty(),
            instances,
            routed,
        }
    }

    /// Whether there may be mappings at all.
    ///
    /// # Errors
    /// When nothing is encapsulated here.
    pub fn check_roles(&self) -> Result<(), Misfit> {
        if self.roles.encapsulates() {
            Ok(())
        } else {
            Err(Misfit::NobodyEncapsulates)
        }
    }

    /// The VRF of an instance.
    ///
    /// # Errors
    /// When there is no such instance.
    pub fn vrf(&self, instance: InstanceId) -> Result<usize, Misfit> {
        match self.instances.get(&instance) {
            Some(eids) => Ok(eids.vrf),
            None => {
                let mut known: Vec<InstanceId> = self.instances.keys().copied().collect();
                known.sort_unstable();
                Err(Misfit::UnknownInstance {
                    found: instance,
                    known,
                })
            }
        }
    }

    /// Whether a mapping may be for this prefix.
    ///
    /// # Errors
    /// When it is no prefix of another site's EIDs, or leads somewhere already.
    pub fn check_eid(&self, key: EidKey) -> Result<(), Misfit> {
        let EidKey { instance, eid } = key;
        let vrf = self.vrf(instance)?;
        check_eid_prefix(eid)?;
        // Hosts of some own EIDs may be elsewhere.
        if let Some(own) = self.own_eid(instance, eid)
            && !self.is_dynamic(instance, eid)
        {
            return Err(Misfit::OwnEid { found: eid, own });
        }
        match self.routed.get(&(vrf, eid)) {
            Some(kind) => Err(Misfit::Routed { found: eid, kind }),
            None => Ok(()),
        }
    }

    /// Whether destinations in a prefix can be misses of an instance.
    ///
    /// # Errors
    /// When nothing is encapsulated here, all of them are own EIDs, or a route for exactly this prefix comes first.
    pub fn check_eid_space(&self, instance: &Instance, prefix: IpNet) -> Result<(), Misfit> {
        self.check_roles()?;
        if let Some(own) = self.own_eid(instance.id, prefix) {
            return Err(Misfit::OwnEid { found: prefix, own });
        }
        let vrf = instance.vrf;
        match self.routed.get(&(vrf, prefix)) {
            Some(kind) => Err(Misfit::Routed {
                found: prefix,
                kind,
            }),
            None => Ok(()),
        }
    }

    fn is_dynamic(&self, instance: InstanceId, eid: IpNet) -> bool {
        let eids = self.instances.get(&instance);
        eids.is_some_and(|eids| eids.dynamic.iter().any(|prefix| prefix.contains(&eid)))
    }

    /// The own EID prefix in which a prefix is.
    fn own_eid(&self, instance: InstanceId, eid: IpNet) -> Option<IpNet> {
        let eids = self.instances.get(&instance)?;
        let lengths = eids.lengths.iter();
        let wider = lengths.filter(|length| **length <= eid.prefix_len());
        wider
            .filter_map(|length| IpNet::new(eid.addr(), *length).ok())
            .map(|prefix| prefix.trunc())
            .find(|prefix| eids.own.contains(prefix))
    }

    /// Whether packets can be sent to this address.
    ///
    /// # Errors
    /// When it is no other box's, or there is no source for them.
    pub fn check_rloc(&self, rloc: IpAddr) -> Result<(), Misfit> {
        // RFC 9301 5.4 (D-23).
        if let Some(kind) = unusable_address(rloc) {
            return Err(Misfit::NotRloc { found: rloc, kind });
        }
        if self.own_addresses.contains(&rloc) {
            let is_ok = self.roles.rtr && self.own_rlocs.contains(&rloc);
            return if is_ok {
                Ok(())
            } else {
                Err(Misfit::OwnRloc { found: rloc })
            };
        }
        let mut own = self.own_rlocs.iter();
        // Where no own RLOC is known, that was said.
        let has_source =
            own.any(|own| own.is_ipv4() == rloc.is_ipv4()) || self.own_rlocs.is_empty();
        if has_source {
            Ok(())
        } else {
            Err(Misfit::NoSourceRloc { found: rloc })
        }
    }

    /// Whether mappings may have this version.
    ///
    /// # Errors
    /// When packets carry none, or have no room for it.
    pub fn check_version(&self, version: u16) -> Result<(), Misfit> {
        match version {
            0 => Ok(()),
            _ if !self.has_versions => Err(Misfit::VersionsOff),
            1..=4095 => Ok(()),
            found => Err(Misfit::Version { found }),
        }
    }

    /// Whether mappings may say this.
    ///
    /// # Errors
    /// When it needs a proxy ETR and there is none.
    pub fn check_action(&self, action: Action) -> Result<(), Misfit> {
        if action == Action::Petr && !self.has_petr {
            return Err(Misfit::NoPetr);
        }
        Ok(())
    }

    /// Whether a mapping may stand for a prefix: all of the above.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, key: EidKey, mapping: &Mapping) -> Result<(), Misfit> {
        self.check_roles()?;
        self.check_eid(key)?;
        match mapping {
            Mapping::Negative(action) => self.check_action(*action),
            Mapping::Locators { locators, version } => {
                if !(1..=LOCATORS_MAX).contains(&locators.len()) {
                    let found = locators.len();
                    return Err(Misfit::LocatorCount { found });
                }
                for (position, locator) in locators.iter().enumerate() {
                    self.check_rloc(locator.rloc)?;
                    let found = locator.weight;
                    if found > Locator::WEIGHT_MAX {
                        return Err(Misfit::Weight { found });
                    }
                    let mut earlier = locators.iter().take(position);
                    if earlier.any(|other| other.rloc == locator.rloc) {
                        let found = locator.rloc;
                        return Err(Misfit::LocatorTwice { found });
                    }
                }
                self.check_version(*version)
            }
        }
    }
}

/// Own addresses in a VRF, in the order of the file.
pub(in crate::config) fn own_addresses(
    vrf: usize,
    interfaces: &[Interface],
) -> impl Iterator<Item = IpAddr> + '_ {
    let interfaces = interfaces
        .iter()
        .filter(move |interface| interface.vrf == vrf);
    let addresses = interfaces.flat_map(|interface| &interface.addresses);
    addresses.map(|address| address.addr())
}

/// Whether a prefix can be one of EIDs.
///
/// # Errors
/// When bits are set after its length, or it has no address that is forwarded.
pub(in crate::config) fn check_eid_prefix(eid: IpNet) -> Result<(), Misfit> {
    if eid.trunc() != eid {
        return Err(Misfit::HostBits { found: eid });
    }
    match crate::config::unusable_prefix(eid) {
        Some(kind) => Err(Misfit::NotUnicast { found: eid, kind }),
        None => Ok(()),
    }
}
