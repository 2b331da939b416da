//! A mapping: an EID prefix of an instance, and where its packets go (RFC 9300 6, RFC 9301 5.4).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Most locators of one mapping: as many as locator-status-bits beside an instance id have room for, less one that is
/// left for the box itself.
pub const LOCATORS_MAX: usize = 7;

/// A priority that is never used (RFC 9301 5.4).
pub const PRIORITY_NEVER: u8 = 255;

/// Number of an instance: 24 bits, as the LISP header carries it (RFC 9300 8). 0 stands for "no instance id".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct InstanceId(u32);

impl InstanceId {
    /// The largest one.
    pub const MAX: u32 = 0x00ff_ffff;

    /// `None` where 24 bits are not enough.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that is no instance id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an instance id, expected 0 to 16777215")]
pub struct NotAnInstanceId(String);

impl TryFrom<u32> for InstanceId {
    type Error = NotAnInstanceId;

    fn try_from(number: u32) -> Result<Self, NotAnInstanceId> {
        Self::new(number).ok_or_else(|| NotAnInstanceId(number.to_string()))
    }
}

impl From<InstanceId> for u32 {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

impl FromStr for InstanceId {
    type Err = NotAnInstanceId;

    fn from_str(text: &str) -> Result<Self, NotAnInstanceId> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or_else(|| NotAnInstanceId(text.to_owned()))
    }
}

/// What a mapping is found by: in an order by instance, then by prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EidKey {
    /// The instance.
    #[serde(default)]
    pub instance: InstanceId,
    /// The EID prefix, nothing set after its length.
    pub eid: IpNet,
}

impl fmt::Display for EidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of instance {}", self.eid, self.instance)
    }
}

/// Where a mapping's packets can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locator {
    /// The address.
    pub rloc: IpAddr,
    /// The lowest is used, [`PRIORITY_NEVER`] never.
    #[serde(default = "Locator::default_priority")]
    pub priority: u8,
    /// Share among those of the same priority, 0 to 100.
    #[serde(default = "Locator::default_weight")]
    pub weight: u8,
    /// False: taken out of use in this mapping.
    #[serde(default = "Locator::default_up")]
    pub up: bool,
}

impl Locator {
    /// The largest weight.
    pub const WEIGHT_MAX: u8 = 100;

    /// A locator with the priority and the weight that stand for "nothing was said".
    #[must_use]
    pub const fn new(rloc: IpAddr) -> Self {
        Self {
            rloc,
            priority: Self::default_priority(),
            weight: Self::default_weight(),
            up: true,
        }
    }

    const fn default_priority() -> u8 {
        1
    }

    const fn default_weight() -> u8 {
        Self::WEIGHT_MAX
    }

    const fn default_up() -> bool {
        true
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What becomes of packets to EIDs that have no locators: the ACT of a negative map-reply (RFC 9301 5.4), and one
        /// of our own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            /// All of them, in the order of their code points.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it in files, in JSON and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

actions! {
    /// 0: kept, not encapsulated: dropped.
    NoAction = "no_action",
    /// 1: forwarded as if there were no LISP.
    Native = "native",
    /// 2: dropped, and every packet is a miss.
    SendMapRequest = "send_map_request",
    /// 3: dropped, the source is told.
    Drop = "drop",
    /// 4: dropped, because a policy says so.
    PolicyDenied = "policy_denied",
    /// 5: dropped, because the mapping could not be authenticated.
    AuthFailure = "auth_failure",
    /// Encapsulated to a proxy ETR (RFC 6832 6).
    Petr = "petr",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of an EID prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// Packets are encapsulated.
    Locators {
        /// 1 to [`LOCATORS_MAX`], no address twice.
        locators: Vec<Locator>,
        /// Its map-version (RFC 9302), 0: none.
        version: u16,
    },
    /// A negative mapping.
    Negative(Action),
}

impl Mapping {
    /// Its locators; none of a negative one.
    #[must_use]
    pub fn locators(&self) -> &[Locator] {
        match self {
            Self::Locators { locators, .. } => locators,
            Self::Negative(_) => &[],
        }
    }
}
