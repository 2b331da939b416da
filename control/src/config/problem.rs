//! What can be wrong with a configuration: each kind with what was found and what was expected.
//!
//! Where it was found, and how it is shown, is in [`error`](super::error).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::lisp::rules::Misfit;
use super::suggest::nearest;

/// One thing that is wrong. The text says what was found and what was expected; file, line and key come before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    // --- the file ---
    /// The file cannot be read at all.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// A configuration this long is a mistake, such as a device file.
    #[error("longer than {maximum} bytes, expected a configuration file")]
    TooLong {
        /// The limit.
        maximum: u64,
    },
    /// TOML is UTF-8.
    #[error("byte {byte:#04x} is not valid UTF-8, expected text")]
    NotUtf8 {
        /// The first offending byte.
        byte: u8,
    },
    /// The TOML grammar, in its own words.
    #[error("not valid TOML: {0}")]
    Syntax(String),

    // --- keys and types ---
    /// A key this table does not have.
    #[error("unknown key {found:?}, expected {}", one_of(expected))]
    UnknownKey {
        /// The key.
        found: String,
        /// Keys of the table.
        expected: Vec<String>,
    },
    /// A key the table must have.
    #[error("missing, expected {expected}")]
    Missing {
        /// What the key is for.
        expected: &'static str,
    },
    /// A value of another TOML type.
    #[error("found {found}, expected {expected}")]
    WrongType {
        /// Type and value.
        found: String,
        /// Type.
        expected: String,
    },
    /// A number outside its range.
    #[error(
        "{found} is out of range, expected {minimum} to {maximum}{}",
        unit_after(unit)
    )]
    OutOfRange {
        /// The number as written.
        found: String,
        /// Smallest.
        minimum: u64,
        /// Largest.
        maximum: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A word that is none of the choices.
    #[error("{found:?} is not one of the choices, expected {}", one_of(expected))]
    NotAChoice {
        /// The word.
        found: String,
        /// The choices.
        expected: Vec<String>,
    },
    /// A string that does not read as what it should be.
    #[error("{found:?} is not {what}, expected {expected}")]
    Malformed {
        /// The string.
        found: String,
        /// What it should be.
        what: &'static str,
        /// How that is written.
        expected: &'static str,
    },
    /// An array with nothing in it.
    #[error("no {what}, expected at least one")]
    Empty {
        /// What belongs in it.
        what: &'static str,
    },
    /// An array with too much in it.
    #[error("{found} {what}, expected at most {maximum}")]
    TooMany {
        /// How many there are.
        found: usize,
        /// Of what.
        what: &'static str,
        /// The limit.
        maximum: usize,
    },

    /// A file that a key names.
    #[error("{file:?} {wrong}, expected {expected}")]
    UnusableFile {
        /// Its path.
        file: String,
        /// "cannot be read", "has no certificate".
        wrong: String,
        /// What it should be.
        expected: &'static str,
    },

    // --- references and names ---
    /// No such port, interface or VRF.
    #[error("there is no {what} {found:?}, expected {}", one_of(expected))]
    UnknownReference {
        /// Kind of thing.
        what: &'static str,
        /// The name.
        found: String,
        /// Names that exist.
        expected: Vec<String>,
    },
    /// Two things that must differ.
    #[error("{what} {found} stands twice, expected each {scope}")]
    Duplicate {
        /// Kind of thing.
        what: &'static str,
        /// The value.
        found: String,
        /// "once", "once in a VRF".
        scope: &'static str,
    },

    // --- this machine ---
    /// A core this process cannot run on.
    #[error(
        "this process cannot run on core {found}, expected a core of this machine (`lscpu --extended` lists them)"
    )]
    NoSuchCore {
        /// The core.
        found: usize,
    },
    /// A busy worker and the control thread on one core.
    #[error("core {found} is a worker's, expected a core of its own")]
    CoreTaken {
        /// The core.
        found: usize,
    },
    /// Receive queues alone would hold every buffer.
    #[error("{found} buffers, expected more than the {needed} that the receive queues hold")]
    TooFewBuffers {
        /// How many there are.
        found: u32,
        /// How many are held.
        needed: u64,
    },

    // --- addresses ---
    /// Not an address or prefix that may stand here.
    #[error("{found} {kind}, expected {expected}")]
    WrongKind {
        /// The address or prefix.
        found: String,
        /// What it is: "is a multicast address".
        kind: &'static str,
        /// What may stand here.
        expected: &'static str,
    },
    /// Bits are set after the prefix length.
    #[error("{found} has bits set after its length, expected {network}")]
    HostBits {
        /// As written.
        found: IpNet,
        /// With those bits cleared.
        network: IpNet,
    },
    /// Two prefixes share addresses where they must not.
    #[error("{found} overlaps {other} of {owner}, expected prefixes that share no address {scope}")]
    Overlap {
        /// The prefix here.
        found: IpNet,
        /// The other one.
        other: IpNet,
        /// Whose that is.
        owner: String,
        /// Where they must not: "in a VRF".
        scope: &'static str,
    },
    /// Own address where another's belongs.
    #[error("{found} is this router's own address on interface {interface:?}, expected {expected}")]
    OwnAddress {
        /// The address.
        found: IpAddr,
        /// Where it is ours.
        interface: String,
        /// Whose belongs here.
        expected: &'static str,
    },
    /// On no prefix of the interface or VRF.
    #[error("{found} is on no prefix of {owner}, expected {expected}")]
    OffLink {
        /// The address.
        found: IpAddr,
        /// Interface or VRF.
        owner: String,
        /// What may stand here.
        expected: String,
    },

    // --- routes and rules ---
    /// A link-local next hop says nothing without its link.
    #[error("missing, expected the interface on whose link {via} is")]
    LinkLocalWithoutInterface {
        /// The next hop.
        via: Ipv6Addr,
    },
    /// A router of the other family can be no next hop.
    #[error(
        "{via} is an {} address, expected an {} router such as {example} for {prefix}",
        family(*via),
        family(prefix.addr())
    )]
    OtherFamily {
        /// The next hop.
        via: IpAddr,
        /// The route.
        prefix: IpNet,
        /// An address of the right family.
        example: &'static str,
    },
    /// Interface and route are in two VRFs.
    #[error(
        "interface {interface:?} is in VRF {found:?}, expected one in the route's VRF {expected:?}"
    )]
    OtherVrf {
        /// The interface.
        interface: String,
        /// Its VRF.
        found: String,
        /// The route's.
        expected: String,
    },
    /// A route says several things, or nothing.
    #[error("{found}, expected exactly one of next_hops, blackhole = true and unreachable = true")]
    RouteTargets {
        /// "no target", "next_hops and blackhole".
        found: String,
    },
    /// The prefix already leads somewhere by itself.
    #[error("{found} is {kind} of {owner}, expected a prefix that is not")]
    RouteConflict {
        /// The prefix.
        found: IpNet,
        /// "a connected prefix", "the outside prefix".
        kind: &'static str,
        /// Whose.
        owner: String,
    },
    /// RFC 6296 defines no translation above /64.
    #[error("{found} is longer than 64 bits, expected a length of 1 to 64 (RFC 6296 3.1)")]
    TranslationLength {
        /// The prefix.
        found: Ipv6Net,
    },
    /// One number must not exceed another.
    #[error("{found} is more than {other} = {maximum}, expected at most as many")]
    MoreThan {
        /// The number.
        found: usize,
        /// The other key.
        other: &'static str,
        /// Its value.
        maximum: usize,
    },

    // --- steering ---
    /// Every permutation of cells must reach all of them.
    #[error("{found} is not a prime, expected one such as 65537 or 655373")]
    NotPrime {
        /// The number.
        found: u32,
    },
    /// What is found by some bits of a hash.
    #[error("{found} is not a power of two, expected one such as {}", found.next_power_of_two())]
    NotPowerOfTwo {
        /// The number.
        found: u32,
    },

    // --- LISP ---
    /// An RLOC that is not ours.
    #[error(
        "{found} is no own address in VRF {vrf:?}, expected {}",
        one_of(expected)
    )]
    NotOwnAddress {
        /// The address.
        found: IpAddr,
        /// The underlay.
        vrf: String,
        /// Own addresses there.
        expected: Vec<String>,
    },
    /// Fields that anybody on the Internet could forge.
    #[error("{found} in public mode, expected it only with mode = \"closed\" (RFC 9300 4.1)")]
    ClosedOnly {
        /// The key.
        found: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("{found} together with {other}, expected at most one of them ({rfc})")]
    Together {
        /// The key here.
        found: &'static str,
        /// The other one.
        other: &'static str,
        /// The clause that says so.
        rfc: &'static str,
    },
    /// A key that means nothing by itself.
    #[error("{found} without {other}, expected both")]
    Without {
        /// The key here.
        found: &'static str,
        /// The one that is missing.
        other: &'static str,
    },
    /// What a pool's mode does not allow its services.
    #[error("{found} with a pool of mode = \"{mode}\", expected {expected}")]
    NotInMode {
        /// What there is.
        found: String,
        /// The mode.
        mode: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// EIDs of the site among those of hosts that move.
    #[error(
        "{found} is inside {dynamic}, one of dynamic_eids, expected own EIDs outside of it, or all of it"
    )]
    InsideDynamic {
        /// The own EID prefix.
        found: IpNet,
        /// The one around it.
        dynamic: IpNet,
    },
    /// A mapping that may not stand.
    #[error(transparent)]
    Mapping(#[from] Misfit),
}

impl Problem {
    /// What would probably put it right.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::UnknownKey { found, expected }
            | Self::NotAChoice { found, expected }
            | Self::UnknownReference {
                found, expected, ..
            } => nearest(found, expected).map(|name| format!("did you mean {name:?}?")),
            _ => None,
        }
    }
}

/// `"a"`, `"a" or "b"`, `one of "a", "b", "c"`.
fn one_of(names: &[String]) -> impl fmt::Display {
    const SHOWN_MAX: usize = 16;
    match names {
        [] => "none".to_owned(),
        [only] => format!("{only:?}"),
        [one, other] => format!("{one:?} or {other:?}"),
        many => {
            let shown: Vec<_> = many
                .iter()
                .take(SHOWN_MAX)
                .map(|name| format!("{name:?}"))
                .collect();
            let more = many.len() - shown.len();
            let tail = if more == 0 {
                String::new()
            } else {
                format!(" (and {more} more)")
            };
            format!("one of {}{tail}", shown.join(", "))
        }
    }
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

fn unit_after(unit: &str) -> String {
    if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    }
}
