//! What the control thread says of LISP: settings, instances, mappings.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::tables::VrfId;

/// Most own RLOCs.
pub const RLOCS_MAX: usize = 16;
/// Most locators of one mapping that carry packets at a time: those of the best priorities.
pub const LOCATORS_MAX: usize = 7;
/// The priority of a locator that is never used (RFC 9300 9).
pub const NEVER: u8 = 255;

/// Which parts of LISP this box plays (RFC 9300 3, RFC 6832).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// Ingress tunnel router: encapsulates what comes from its own EIDs.
    pub itr: bool,
    /// Egress tunnel router: decapsulates what goes to its own EIDs.
    pub etr: bool,
    /// Proxy ITR: encapsulates for sources that are no EIDs.
    pub pitr: bool,
    /// Proxy ETR: decapsulates what goes to destinations that are no EIDs.
    pub petr: bool,
    /// Re-encapsulating tunnel router: decapsulates, and encapsulates again.
    pub rtr: bool,
}

impl Roles {
    /// Whether it encapsulates.
    #[must_use]
    pub fn encapsulates(self) -> bool {
        self.itr || self.pitr || self.rtr
    }

    /// Whether it decapsulates.
    #[must_use]
    pub fn decapsulates(self) -> bool {
        self.etr || self.petr || self.rtr
    }
}

/// What becomes of the differentiated services field (RFC 2983).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dscp {
    /// Copied to the outer header, and back to the inner one.
    #[default]
    Uniform,
    /// 0 in the outer header; the inner one stays as it is.
    Pipe,
}

/// What becomes of a packet whose destination has no mapping yet (C-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Miss {
    /// It is dropped.
    #[default]
    Drop,
    /// The control thread keeps a few until the mapping is known.
    Hold,
    /// It is forwarded as if there were no LISP.
    Native,
    /// It is sent to a proxy ETR.
    Petr,
}

/// Settings of the whole box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Own RLOCs, at most [`RLOCS_MAX`]; the first of a family is the source of what is sent.
    pub own_rlocs: Vec<IpAddr>,
    /// The VRF of the RLOCs.
    pub underlay: VrfId,
    /// Roles.
    pub roles: Roles,
    /// DSCP model.
    pub dscp: Dscp,
    /// Compute the outer UDP checksum; otherwise it is 0 (RFC 6935).
    pub udp_checksum: bool,
    /// Send the next-protocol header of RFC 9305, and understand it.
    pub gpe: bool,
    /// Send a nonce, another one to every locator.
    pub nonce: bool,
    /// Send locator-status bits of the own EID prefix: all of it up.
    pub status_bits: bool,
    /// Send this map-version of the own EID prefixes; 0: none.
    pub map_version: u16,
    /// Drop what does not come from a locator of its source's mapping (D-27).
    pub check_source_rloc: bool,
    /// What becomes of a miss.
    pub miss: Miss,
    /// Proxy ETRs, for [`Miss::Petr`] and [`Act::Petr`].
    pub petr: Vec<IpAddr>,
    /// What makes this box's choice of ports and locators its own (D-22).
    pub seed: u64,
    /// The instances.
    pub instances: Vec<InstanceSpec>,
}

impl Settings {
    /// Whether outer headers differ from those made under `other`.
    pub(super) fn makes_other_headers(&self, other: &Self) -> bool {
        let ids = |settings: &Self| -> Vec<_> {
            let instances = settings.instances.iter();
            instances
                .map(|instance| (instance.vrf, instance.id))
                .collect()
        };
        let header = |settings: &Self| {
            (
                settings.gpe,
                settings.nonce,
                settings.status_bits,
                settings.map_version,
                settings.seed,
            )
        };
        self.own_rlocs != other.own_rlocs
            || header(self) != header(other)
            || ids(self) != ids(other)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            own_rlocs: Vec::new(),
            underlay: VrfId(0),
            roles: Roles {
                itr: true,
                etr: true,
                ..Roles::default()
            },
            dscp: Dscp::Uniform,
            udp_checksum: false,
            gpe: false,
            nonce: false,
            status_bits: false,
            map_version: 0,
            check_source_rloc: false,
            miss: Miss::Drop,
            petr: Vec::new(),
            seed: 0,
            instances: Vec::new(),
        }
    }
}

/// One instance: a VRF of EIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    /// Instance id, 24 bits; 0 is sent without the I flag.
    pub id: u32,
    /// Its VRF, which no other instance has.
    pub vrf: VrfId,
    /// Own EID prefixes.
    pub eids: Vec<IpNet>,
    /// Prefixes whose hosts may be at any site: those that are here are told by [`Rib::set_host`](crate::tables::Rib).
    pub dynamic: Vec<IpNet>,
    /// Where destinations without a mapping are asked for.
    pub map_request: Vec<IpNet>,
}

/// One locator of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocatorSpec {
    /// Lower is better; [`NEVER`] is never used.
    pub priority: u8,
    /// Share among those of the same priority; all 0: equal shares.
    pub weight: u8,
    /// Its address.
    pub rloc: IpAddr,
    /// The R bit: whether whoever told us reaches it.
    pub up: bool,
}

/// What an EID prefix is mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappingSpec {
    /// Encapsulate.
    Locators {
        /// To one of these.
        locators: Vec<LocatorSpec>,
        /// Destination map-version (RFC 9302); 0: none.
        version: u16,
    },
    /// A negative mapping.
    Negative(Act),
}

/// What a negative mapping says (RFC 9301 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// 0: keep it, do not encapsulate.
    NoAction,
    /// 1: forward natively.
    Native,
    /// 2: each packet asks for a mapping.
    SendMapRequest,
    /// 3: drop.
    Drop,
    /// 4: drop, policy.
    PolicyDenied,
    /// 5: drop, authentication failed.
    AuthFailure,
    /// To the proxy ETRs; our own, no code of RFC 9301.
    Petr,
}
