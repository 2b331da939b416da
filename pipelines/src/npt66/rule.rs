//! One prefix pair and its arithmetic (RFC 6296 3.1 to 3.7): addresses in, addresses out, no packet in sight.

use dataplane::reason::DropReason;
use ipnet::Ipv6Net;

use crate::icmp_error::IcmpError;
use crate::tables::InterfaceId;

/// Longest prefix the algorithm is defined for (RFC 6296 3.1).
const LENGTH_MAX: u8 = 64;
/// Up to this effective length the adjusted word is bits 48 to 63 (RFC 6296 3.4).
const SUBNET_WORD_MAX: u8 = 48;

/// Which way a packet crosses the translator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Inside to outside: the source is translated.
    Out,
    /// Outside to inside: the destination is translated.
    In,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }
}

/// What becomes of an interface identifier of all zeros under prefixes longer than /48. RFC 6296 3.7 as printed says
/// drop; erratum 8757 says that all ones was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroIid {
    /// As printed.
    #[default]
    Drop,
    /// As the erratum reads it.
    Translate,
}

/// A prefix pair as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The uplink: packets that leave by it are translated out, packets that come in by it are translated in.
    pub interface: InterfaceId,
    /// The site's prefix.
    pub inside: Ipv6Net,
    /// The provider's prefix.
    pub outside: Ipv6Net,
    /// The switch of RFC 6296 3.7.
    pub zero_iid: ZeroIid,
}

/// Why a prefix pair is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// RFC 6296 defines nothing above /64.
    #[error("prefix {0} is longer than /64, for which RFC 6296 defines no translation")]
    TooLong(Ipv6Net),
    /// Bits are set after the prefix length.
    #[error("prefix {0} has bits set after its length")]
    HostBits(Ipv6Net),
    /// Not a prefix of unicast addresses that routers forward.
    #[error("prefix {0} is not one of forwardable unicast addresses")]
    NotUnicast(Ipv6Net),
    /// Two pairs of one uplink would both match.
    #[error("prefix {0} overlaps {1} on the same uplink")]
    Overlap(Ipv6Net, Ipv6Net),
    /// There are counters for 1,024 rules.
    #[error("more than {} rules", dataplane::counters::RULES_MAX)]
    TooMany,
}

/// Why an address has no counterpart, or a packet none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Bits between the prefix and the effective length are set, or the subnet is 0xFFFF.
    NoMapping,
    /// All four words of the interface identifier are 0xFFFF.
    NoWord,
    /// The interface identifier is zero, and the rule says drop.
    ZeroIid,
    /// An ICMPv6 error quotes less than an IPv6 header.
    QuoteTruncated,
    /// An ICMPv6 error quotes a packet that this translator did not translate.
    QuoteForeign,
    /// An ICMPv6 error has a wrong checksum.
    Checksum,
    /// The extension header chain that leads to an ICMPv6 header is malformed.
    ExtensionHeaders,
}

impl Reject {
    /// The counter it is dropped under.
    #[must_use]
    pub const fn reason(self) -> DropReason {
        match self {
            Self::NoMapping => DropReason::Npt66NoMapping,
            Self::NoWord => DropReason::Npt66NoWord,
            Self::ZeroIid => DropReason::Npt66ZeroIid,
            Self::QuoteTruncated => DropReason::Npt66QuoteTruncated,
            Self::QuoteForeign => DropReason::Npt66QuoteForeign,
            Self::Checksum => DropReason::Icmpv6Checksum,
            Self::ExtensionHeaders => DropReason::ExtensionHeaders,
        }
    }

    /// The answer RFC 6296 asks for. 3.2 names no code for an address without a mapping: towards the inside it is a
    /// source that fails our policy (1/5), towards the outside an address that does not exist (1/3). 3.7 asks for a
    /// Parameter Problem; the pointer names the address, as Linux does.
    #[must_use]
    pub const fn answer(self, direction: Direction) -> Option<IcmpError> {
        match (self, direction) {
            (Self::NoMapping, Direction::Out) => Some(IcmpError::SourcePolicy),
            (Self::NoMapping, Direction::In) => Some(IcmpError::AddressUnreachable),
            (Self::NoWord | Self::ZeroIid, Direction::Out) => {
                Some(IcmpError::ErroneousHeader { pointer: 8 })
            }
            (Self::NoWord | Self::ZeroIid, Direction::In) => {
                Some(IcmpError::ErroneousHeader { pointer: 24 })
            }
            // These are answers themselves: RFC 4443 2.4(e.1).
            (
                Self::QuoteTruncated | Self::QuoteForeign | Self::Checksum | Self::ExtensionHeaders,
                _,
            ) => None,
        }
    }
}

/// An address as two halves in host order: prefix and subnet, and interface identifier.
pub(crate) type Halves = (u64, u64);

/// A prefix pair, prepared: two lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Rule {
    /// The first L bits.
    mask: u64,
    /// Inside prefix, zero-extended to L.
    inside: u64,
    /// Outside prefix, zero-extended to L.
    outside: u64,
    /// Mask of the inside prefix's own length.
    inside_mask: u64,
    /// Mask of the outside prefix's own length.
    outside_mask: u64,
    /// Added to the chosen word going out.
    adjustment: u16,
    /// Whether L is at most 48.
    subnet_word: bool,
    drop_zero_iid: bool,
    /// Going out, coming in.
    quick: [Quick; 2],
}

impl Rule {
    /// Prepare a pair (N1, N2).
    ///
    /// # Errors
    /// When RFC 6296 defines no translation for it, or it is not one of forwardable unicast prefixes.
    pub fn new(spec: &Spec) -> Result<Self, SpecError> {
        for prefix in [spec.inside, spec.outside] {
            check(prefix)?;
        }
        let length = spec.inside.prefix_len().max(spec.outside.prefix_len());
        let (inside, _) = halves(&spec.inside.network().octets());
        let (outside, _) = halves(&spec.outside.network().octets());
        // Inside minus outside, in one's complement: subtracting is adding the complement.
        let adjustment = add(words_sum(inside), !words_sum(outside));
        let mut rule = Self {
            mask: mask(length),
            inside,
            outside,
            inside_mask: mask(spec.inside.prefix_len()),
            outside_mask: mask(spec.outside.prefix_len()),
            adjustment,
            subnet_word: length <= SUBNET_WORD_MAX,
            drop_zero_iid: spec.zero_iid == ZeroIid::Drop,
            quick: [Quick::NONE; 2],
        };
        if rule.subnet_word {
            rule.quick =
                [Direction::Out, Direction::In].map(|direction| Quick::new(&rule, direction));
        }
        Ok(rule)
    }

    /// [`Rule::map`] made quick; without a counterpart for any address where that is not possible.
    #[inline(always)] // with a constant direction
    pub(crate) fn quick(&self, direction: Direction) -> &Quick {
        match direction {
            Direction::Out => &self.quick[0],
            Direction::In => &self.quick[1],
        }
    }

    /// Added to the chosen word going out (RFC 6296 3.1).
    #[must_use]
    pub fn adjustment(&self) -> u16 {
        self.adjustment
    }

    /// Mask and value by which an address belongs to this rule: the inside prefix going out, the outside coming in.
    pub(crate) fn selector(&self, direction: Direction) -> (u64, u64) {
        match direction {
            Direction::Out => (self.inside_mask, self.inside),
            Direction::In => (self.outside_mask, self.outside),
        }
    }

    /// The prefix that is replaced, the one that replaces it, and what is added to the chosen word.
    #[inline(always)] // with a constant direction
    fn ends(&self, direction: Direction) -> (u64, u64, u16) {
        match direction {
            Direction::Out => (self.inside, self.outside, self.adjustment),
            Direction::In => (self.outside, self.inside, !self.adjustment),
        }
    }

    /// The counterpart of an address that the rule covers (N4 to N9).
    ///
    /// # Errors
    /// When there is none.
    #[inline(always)] // with a constant direction
    pub fn map(&self, direction: Direction, (prefix, iid): Halves) -> Result<Halves, Reject> {
        let (from, to, adjustment) = self.ends(direction);
        // "the bits between the shorter prefix and L must be its zero extension", RFC 6296 3.2 (N4)
        if prefix & self.mask != from {
            return Err(Reject::NoMapping);
        }
        let kept = prefix & !self.mask;
        if self.subnet_word {
            let word = low_word(prefix);
            // 0xFFFF has no counterpart: 0x0000 has it (RFC 6296 3.4, N7). Inbound likewise.
            if word == 0xffff {
                return Err(Reject::NoMapping);
            }
            let subnet = adjust(word, adjustment);
            return Ok((to | (kept & !0xffff) | u64::from(subnet), iid));
        }
        if iid == 0 && self.drop_zero_iid {
            return Err(Reject::ZeroIid);
        }
        // The first word that is not 0xFFFF before translation (RFC 6296 3.5, N8). Leading ones of the identifier,
        // in whole words, tell which.
        let position = iid.leading_ones() / 16;
        if position == 4 {
            return Err(Reject::NoWord);
        }
        let shift = 48 - 16 * position;
        let word = low_word(iid >> shift);
        let adjusted = adjust(word, adjustment);
        let iid = iid & !(0xffff << shift) | u64::from(adjusted) << shift;
        Ok((to | kept, iid))
    }
}

/// [`Rule::map`] in one direction for rules whose adjusted word is the subnet, on an address's first eight bytes as they
/// stand in a packet, read from the lower one: one's complement sums come out right in either order of bytes (RFC 1071 2),
/// so none is reversed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quick {
    mask: u64,
    from: u64,
    to: u64,
    /// Bits that stay: after the prefixes, before the subnet.
    kept: u64,
    adjustment: u16,
}

/// Where the subnet stands: bits 48 to 63 of the address are the last two of eight bytes.
const SUBNET_SHIFT: u32 = 48;

impl Quick {
    /// No address has a counterpart.
    pub(crate) const NONE: Self = Self {
        mask: 0,
        from: 1,
        to: 0,
        kept: 0,
        adjustment: 0,
    };

    /// Of a rule that adjusts the subnet.
    fn new(rule: &Rule, direction: Direction) -> Self {
        let (from, to, adjustment) = rule.ends(direction);
        Self {
            mask: rule.mask.swap_bytes(),
            from: from.swap_bytes(),
            to: to.swap_bytes(),
            kept: (!rule.mask & !0xffff).swap_bytes(),
            adjustment: adjustment.swap_bytes(),
        }
    }

    /// The counterpart; `None` where [`Rule::map`] says why there is none.
    #[inline(always)]
    pub(crate) fn map(&self, prefix: [u8; 8]) -> Option<[u8; 8]> {
        let prefix = u64::from_le_bytes(prefix);
        let subnet = (prefix >> SUBNET_SHIFT) as u16; // `as`: what is left has 16 bits
        if prefix & self.mask != self.from || subnet == 0xffff {
            return None;
        }
        let subnet = adjust(subnet, self.adjustment);
        let mapped = self.to | (prefix & self.kept) | u64::from(subnet) << SUBNET_SHIFT;
        Some(mapped.to_le_bytes())
    }
}

/// An address's two halves.
#[inline]
pub(crate) fn halves(address: &[u8; 16]) -> Halves {
    let [prefix, iid] = [&address[..8], &address[8..]]
        .map(|half| u64::from_be_bytes(*half.first_chunk().expect("8 bytes of 16")));
    (prefix, iid)
}

/// The address of two halves.
#[inline]
pub(crate) fn join((prefix, iid): Halves) -> [u8; 16] {
    let mut address = [0; 16];
    address[..8].copy_from_slice(&prefix.to_be_bytes());
    address[8..].copy_from_slice(&iid.to_be_bytes());
    address
}

/// One's complement addition, with the end-around carry.
#[inline]
fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    if carry { sum + 1 } else { sum }
}

/// A word with the adjustment added; 0xFFFF is written as 0x0000 (RFC 6296 3.2, 3.3).
#[inline]
fn adjust(word: u16, adjustment: u16) -> u16 {
    let sum = add(word, adjustment);
    if sum == 0xffff { 0 } else { sum }
}

/// The last 16 bits.
#[inline]
fn low_word(bits: u64) -> u16 {
    (bits & 0xffff) as u16 // `as`: masked
}

/// One's complement sum of the four words of a /64.
fn words_sum(prefix: u64) -> u16 {
    [48, 32, 16, 0]
        .into_iter()
        .fold(0, |sum, shift| add(sum, low_word(prefix >> shift)))
}

/// The first `length` bits of 64.
fn mask(length: u8) -> u64 {
    u64::MAX.checked_shl(64 - u32::from(length)).unwrap_or(0)
}

/// Whether a prefix may be translated (N2).
fn check(prefix: Ipv6Net) -> Result<(), SpecError> {
    if prefix.prefix_len() > LENGTH_MAX {
        return Err(SpecError::TooLong(prefix));
    }
    if prefix.trunc() != prefix {
        return Err(SpecError::HostBits(prefix));
    }
    let unforwardable = ["ff00::/8", "fe80::/10", "::/64"];
    let overlaps = unforwardable.into_iter().any(|block| {
        let block: Ipv6Net = block.parse().expect("a literal prefix");
        block.contains(&prefix) || prefix.contains(&block)
    });
    if overlaps {
        Err(SpecError::NotUnicast(prefix))
    } else {
        Ok(())
    }
}
