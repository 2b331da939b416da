//! `[lisp]` once it is known to be right (RFC 9300, RFC 9301, RFC 9302, RFC 9305).
//!
//! What a mapping is stands in [`crate::proto::lisp`]; which mappings may stand beside this configuration, whether they
//! come from the file or from the admin socket, in [`rules`].

mod probing;
pub mod rules;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::model::as_seconds;
use crate::proto::lisp::wire::Identity;
use crate::proto::lisp::wire::auth::{Algorithm, Secret};
use crate::proto::lisp::{Action, EidKey, InstanceId, Locator, Mapping};

pub use probing::{Mode as ProbeMode, Probing};

/// `[lisp]`. Every key may change on reload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lisp {
    /// `roles`: what this box does. Default `["itr", "etr"]`.
    pub roles: Roles,
    /// `mode`. Default `public`.
    pub mode: Mode,
    /// `vrf`: of the underlay, index into [`Config::vrfs`](super::Config::vrfs). Default `main`.
    pub vrf: usize,
    /// `rlocs`: own addresses of interfaces in that VRF, 1 to 16.
    pub rlocs: Vec<OwnRloc>,
    /// `dscp`. Default `uniform`.
    pub dscp: Dscp,
    /// `udp_checksum`: whether the outer UDP checksum is computed. Default: as `gpe` (RFC 9305 4.3.1).
    pub udp_checksum: bool,
    /// `gpe`: the header of RFC 9305. Default false; only with `mode = "closed"`.
    pub gpe: bool,
    /// `path_mtu`. Default `stateless`.
    pub path_mtu: PathMtu,
    /// `path_mtu_age`: how long a learned path MTU holds, 300 to 86,400 s (RFC 8201 5.3). Default 600.
    #[serde(serialize_with = "as_seconds")]
    pub path_mtu_age: Duration,
    /// `check_source_rloc`: whether an outer source must be a locator of the inner source's mapping. Default false.
    pub check_source_rloc: bool,
    /// `petr`: proxy ETRs, at most 8. Default: none.
    pub petr: Vec<IpAddr>,
    /// `miss`. Default `drop`.
    pub miss: OnMiss,
    /// `nonce`: whether packets carry one (RFC 9300 10.1). Default false; only with `mode = "closed"`.
    pub nonce: bool,
    /// `locator_status_bits`: whether packets carry them (RFC 9300 10). Default false; only with `mode = "closed"`.
    pub locator_status_bits: bool,
    /// `map_version`: of the own EID prefixes (RFC 9302), 1 to 4,095; 0: packets carry none. Default 0; only with
    /// `mode = "closed"`.
    pub map_version: u16,
    /// `map_resolvers`: who is asked for mappings (RFC 9301 8.1), at most 8. Default: nobody.
    pub map_resolvers: Vec<IpAddr>,
    /// `[[lisp.map_servers]]`: where own EIDs are registered (RFC 9301 8.2), at most 8. Default: nowhere.
    pub map_servers: Vec<MapServer>,
    /// `xtr_id` and `site_id`: who registers (RFC 9301 5.6), both or none. Default: nobody in particular.
    #[serde(serialize_with = "as_identifiers")]
    pub identity: Option<Identity>,
    /// `state`: the file that keeps what must not be forgotten over a restart. Default: none, and the clock serves.
    pub state: Option<PathBuf>,
    /// `map_cache`: the file that keeps what was learned over a restart. Default: none.
    pub map_cache: Option<PathBuf>,
    /// How locators of mappings are probed.
    #[serde(flatten)]
    pub probing: Probing,
    /// `[[lisp.instances]]`, at least one.
    pub instances: Vec<Instance>,
    /// `[[lisp.mappings]]`: static map-cache entries.
    pub mappings: Vec<StaticMapping>,
}

impl Lisp {
    /// Addresses of own RLOCs.
    pub fn own_rlocs(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.rlocs.iter().map(|own| own.rloc)
    }

    /// The instance with this number.
    #[must_use]
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }
}

/// One of `rlocs`: what others are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OwnRloc {
    /// `rloc`: the address.
    pub rloc: IpAddr,
    /// `priority`: others use the lowest, 255 never. Default 1.
    pub priority: u8,
    /// `weight`: share among those of the same priority, 0 to 100. Default 100.
    pub weight: u8,
}

/// One of `[[lisp.map_servers]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MapServer {
    /// `address`: another box's.
    pub address: IpAddr,
    /// `key`: the shared secret. Shown nowhere.
    #[serde(skip)]
    pub key: Secret,
    /// `key_id`: its number, 0 to 255. Default 1.
    pub key_id: u8,
    /// `algorithm`: `hmac-sha1`, `hmac-sha256` or `hkdf-sha256` (RFC 9301 5.6). Default `hmac-sha256`.
    #[serde(serialize_with = "as_name")]
    pub algorithm: Algorithm,
    /// `proxy_reply`: whether it answers for this box. Default false.
    pub proxy_reply: bool,
    /// `merge`: whether it joins this box's RLOCs with those of other boxes that register the same EIDs. Default false.
    pub merge: bool,
}

fn as_name<S: Serializer>(algorithm: &Algorithm, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(algorithm.name())
}

/// As the file has them.
fn as_identifiers<S: Serializer>(
    identity: &Option<Identity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let written = identity.map(|identity| {
        let Identity { xtr_id, site_id } = identity;
        [format!("{xtr_id:x}"), format!("{site_id:x}")]
    });
    written.serialize(serializer)
}

/// What a box does (RFC 9300 3, RFC 6832 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// Encapsulates what its own EIDs send.
    pub itr: bool,
    /// Decapsulates what is sent to its own EIDs.
    pub etr: bool,
    /// Encapsulates what hosts without LISP send.
    pub pitr: bool,
    /// Decapsulates what is sent to hosts without LISP.
    pub petr: bool,
    /// Decapsulates and encapsulates again.
    pub rtr: bool,
}

/// Words for the roles, in the order in which they are shown.
pub(super) const ROLES: [(&str, Role); 5] = [
    ("itr", Role::Itr),
    ("etr", Role::Etr),
    ("pitr", Role::Pitr),
    ("petr", Role::Petr),
    ("rtr", Role::Rtr),
];

/// One role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Itr,
    Etr,
    Pitr,
    Petr,
    Rtr,
}

impl Role {
    /// The word for it in the file.
    pub(super) fn name(self) -> &'static str {
        let mut roles = Roles::default();
        roles.add(self);
        roles.names().next().unwrap_or_default()
    }
}

impl Roles {
    /// `["itr", "etr"]`.
    pub(super) const DEFAULT: Self = Self {
        itr: true,
        etr: true,
        pitr: false,
        petr: false,
        rtr: false,
    };

    pub(super) fn add(&mut self, role: Role) {
        *self.flag_mut(role) = true;
    }

    fn flag_mut(&mut self, role: Role) -> &mut bool {
        match role {
            Role::Itr => &mut self.itr,
            Role::Etr => &mut self.etr,
            Role::Pitr => &mut self.pitr,
            Role::Petr => &mut self.petr,
            Role::Rtr => &mut self.rtr,
        }
    }

    /// Whether packets are encapsulated here, for which mappings are needed.
    #[must_use]
    pub fn encapsulates(self) -> bool {
        self.itr || self.pitr || self.rtr
    }

    /// Whether there must be own EIDs: some role is for them, and none is for others.
    #[must_use]
    pub fn needs_eids(self) -> bool {
        !(self.pitr || self.petr || self.rtr)
    }

    /// Their words.
    pub fn names(mut self) -> impl Iterator<Item = &'static str> {
        let named = ROLES.into_iter();
        named.filter_map(move |(name, role)| self.flag_mut(role).then_some(name))
    }
}

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// Who can read the outer headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Anybody: headers carry nothing that somebody could forge to an effect (RFC 9300 4.1).
    #[default]
    Public,
    /// Only boxes under one administration.
    Closed,
}

/// How the DSCP goes through a tunnel (RFC 2983).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dscp {
    /// Copied out, and in again.
    #[default]
    Uniform,
    /// The outer one is 0, the inner one is left alone.
    Pipe,
}

/// How packets that are too large are found (RFC 9300 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMtu {
    /// By the MTU of the underlay's interface.
    #[default]
    Stateless,
    /// And by what the underlay's routers say, where it can be believed.
    Stateful,
}

/// What becomes of packets for whose EIDs there is no mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMiss {
    /// They are dropped.
    #[default]
    Drop,
    /// A few of them wait for a moment.
    Hold,
    /// They are forwarded as if there were no LISP.
    Native,
    /// They are encapsulated to a proxy ETR.
    Petr,
}

impl OnMiss {
    /// The word for it in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Hold => "hold",
            Self::Native => "native",
            Self::Petr => "petr",
        }
    }
}

/// One of `[[lisp.instances]]`: a VRF whose addresses are EIDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// `id`: 0 to 16,777,215, unique; 0: packets carry no instance id. Default 0.
    pub id: InstanceId,
    /// `vrf`: index into [`Config::vrfs`](super::Config::vrfs), one instance in each. Default `main`.
    pub vrf: usize,
    /// `eids`: own EID prefixes. Default: none, which boxes that are only ITR or ETR cannot have.
    pub eids: Vec<IpNet>,
    /// `dynamic_eids`: prefixes whose hosts may be at any site, and are registered one by one where they are. Default:
    /// none; only with the role `etr`.
    pub dynamic_eids: Vec<IpNet>,
    /// `map_request`: where a destination without a mapping is a miss. Default: nowhere.
    pub map_request: Vec<IpNet>,
}

/// One of `[[lisp.mappings]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticMapping {
    /// `instance`, default 0, and `eid`.
    pub key: EidKey,
    /// `locators` with `map_version`, or `action`.
    pub mapping: Mapping,
}

impl Serialize for StaticMapping {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// As the file has it.
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(flatten)]
            key: EidKey,
            #[serde(skip_serializing_if = "Option::is_none")]
            locators: Option<&'a [Locator]>,
            #[serde(skip_serializing_if = "Option::is_none")]
            map_version: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            action: Option<Action>,
        }
        let key = self.key;
        let written = match &self.mapping {
            Mapping::Locators { locators, version } => Written {
                key,
                locators: Some(locators),
                map_version: Some(*version),
                action: None,
            },
            Mapping::Negative(action) => Written {
                key,
                locators: None,
                map_version: None,
                action: Some(*action),
            },
        };
        written.serialize(serializer)
    }
}
