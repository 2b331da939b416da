//! ICMPv6 (RFC 4443) and the neighbour discovery messages and options (RFC 4861 4) that are handled here.
//!
//! Messages are views; what makes them acceptable (hop limit 255, source address, ...) is judged by the protocol
//! machines. Builders return complete messages with the checksum still zero, because it needs the addresses:
//! [`set_checksum`] fills it in.

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

use super::code_points::code_points;
use super::ethernet::Mac;
use super::ipv6::proto;
use super::{Truncated, checksum};

/// Bytes of type, code and checksum.
pub const HEADER_LEN: usize = 4;
/// Bytes before the quoted packet in an error, and before the data in an echo message.
pub const ERROR_HEADER_LEN: usize = 8;
/// Where the checksum stands.
pub const CHECKSUM_OFFSET: usize = 2;
/// The longest error message, IPv6 header included (RFC 4443 2.4 c).
pub const ERROR_PACKET_MAX: usize = super::ipv6::MIN_MTU;

code_points! {
    /// A message's type.
    Type,
    /// Message types as numbers.
    types {
        DestinationUnreachable, DESTINATION_UNREACHABLE = 1, "destination unreachable";
        PacketTooBig, PACKET_TOO_BIG = 2, "packet too big";
        TimeExceeded, TIME_EXCEEDED = 3, "time exceeded";
        ParameterProblem, PARAMETER_PROBLEM = 4, "parameter problem";
        EchoRequest, ECHO_REQUEST = 128, "echo request";
        EchoReply, ECHO_REPLY = 129, "echo reply";
        MulticastListenerQuery, MULTICAST_LISTENER_QUERY = 130, "multicast listener query";
        RouterSolicitation, ROUTER_SOLICITATION = 133, "router solicitation";
        RouterAdvertisement, ROUTER_ADVERTISEMENT = 134, "router advertisement";
        NeighborSolicitation, NEIGHBOR_SOLICITATION = 135, "neighbour solicitation";
        NeighborAdvertisement, NEIGHBOR_ADVERTISEMENT = 136, "neighbour advertisement";
        Redirect, REDIRECT = 137, "redirect";
    }
}

code_points! {
    /// A neighbour discovery option's type.
    OptionType,
    /// Neighbour discovery option types as numbers.
    options {
        SourceLinkLayerAddress, SOURCE_LINK_LAYER_ADDRESS = 1, "source link-layer address";
        TargetLinkLayerAddress, TARGET_LINK_LAYER_ADDRESS = 2, "target link-layer address";
        PrefixInformation, PREFIX_INFORMATION = 3, "prefix information";
        RedirectedHeader, REDIRECTED_HEADER = 4, "redirected header";
        Mtu, MTU = 5, "MTU";
        Nonce, NONCE = 14, "nonce";
    }
}

/// Codes of the error messages.
pub mod codes {
    /// Unreachable: no route to destination.
    pub const UNREACHABLE_NO_ROUTE: u8 = 0;
    /// Unreachable: administratively prohibited.
    pub const UNREACHABLE_PROHIBITED: u8 = 1;
    /// Unreachable: beyond scope of source address.
    pub const UNREACHABLE_SCOPE: u8 = 2;
    /// Unreachable: address unreachable.
    pub const UNREACHABLE_ADDRESS: u8 = 3;
    /// Unreachable: port unreachable.
    pub const UNREACHABLE_PORT: u8 = 4;
    /// Unreachable: source address failed ingress/egress policy.
    pub const UNREACHABLE_POLICY: u8 = 5;
    /// Unreachable: reject route to destination.
    pub const UNREACHABLE_REJECT_ROUTE: u8 = 6;
    /// Time exceeded: hop limit exceeded in transit.
    pub const TIME_EXCEEDED_HOP_LIMIT: u8 = 0;
    /// Time exceeded: fragment reassembly time exceeded.
    pub const TIME_EXCEEDED_REASSEMBLY: u8 = 1;
    /// Parameter problem: erroneous header field.
    pub const PARAMETER_HEADER_FIELD: u8 = 0;
    /// Parameter problem: unrecognised Next Header type.
    pub const PARAMETER_NEXT_HEADER: u8 = 1;
    /// Parameter problem: unrecognised IPv6 option.
    pub const PARAMETER_OPTION: u8 = 2;
    /// Parameter problem: first fragment without the whole header chain (RFC 7112 5).
    pub const PARAMETER_INCOMPLETE_CHAIN: u8 = 3;
    /// Parameter problem: extension header too big (RFC 8883 2.3).
    pub const PARAMETER_HEADER_TOO_BIG: u8 = 6;
    /// Parameter problem: extension header chain too long (RFC 8883 2.4).
    pub const PARAMETER_CHAIN_TOO_LONG: u8 = 7;
    /// Parameter problem: too many extension headers (RFC 8883 2.5).
    pub const PARAMETER_TOO_MANY_HEADERS: u8 = 8;
}

/// Whether a message of this type is an error (RFC 4443 2.1): known or not, it is never answered by an error.
#[must_use]
#[inline]
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// What every message starts with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// The type: one of [`types`].
    pub kind: u8,
    /// The code: of an error one of [`codes`].
    pub code: u8,
    /// Checksum over the pseudo-header and the message.
    pub checksum: U16,
}

/// An error message up to the packet it quotes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ErrorHeader {
    /// Type, code and checksum.
    pub header: Header,
    /// Packet Too Big: the MTU; Parameter Problem: the pointer; otherwise unused.
    pub word: U32,
}

impl ErrorHeader {
    /// An error with a zero checksum; `word` is the MTU, the pointer, or zero.
    #[must_use]
    pub fn new(kind: u8, code: u8, word: u32) -> Self {
        Self {
            header: header(kind, code),
            word: U32::new(word),
        }
    }
}

/// An echo request or reply up to its data.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct EchoHeader {
    /// Type, code and checksum.
    pub header: Header,
    /// Identifier.
    pub identifier: U16,
    /// Sequence number.
    pub sequence: U16,
}

impl EchoHeader {
    /// An echo message ([`types::ECHO_REQUEST`] or [`types::ECHO_REPLY`]) with a zero checksum.
    #[must_use]
    pub fn new(kind: u8, identifier: u16, sequence: u16) -> Self {
        Self {
            header: header(kind, 0),
            identifier: U16::new(identifier),
            sequence: U16::new(sequence),
        }
    }
}

/// A neighbour solicitation up to its options (RFC 4861 4.3).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct NeighborSolicitation {
    /// Type, code and checksum.
    pub header: Header,
    /// Zero when sending, ignored when receiving.
    pub reserved: U32,
    /// Whose link-layer address is asked for.
    pub target: [u8; 16],
}

/// A neighbour advertisement up to its options (RFC 4861 4.4).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct NeighborAdvertisement {
    /// Type, code and checksum.
    pub header: Header,
    /// Router, solicited and override flags; the other 29 bits are reserved.
    pub flags: U32,
    /// Whose link-layer address this is about.
    pub target: [u8; 16],
}

/// The flags of a neighbour advertisement (RFC 4861 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdvertisementFlags {
    /// R: the sender is a router.
    pub router: bool,
    /// S: this answers a solicitation.
    pub solicited: bool,
    /// O: replace the cached link-layer address.
    pub override_cached: bool,
}

const FLAG_ROUTER: u32 = 1 << 31;
const FLAG_SOLICITED: u32 = 1 << 30;
const FLAG_OVERRIDE: u32 = 1 << 29;

impl From<AdvertisementFlags> for U32 {
    fn from(flags: AdvertisementFlags) -> Self {
        let mut bits = 0;
        if flags.router {
            bits |= FLAG_ROUTER;
        }
        if flags.solicited {
            bits |= FLAG_SOLICITED;
        }
        if flags.override_cached {
            bits |= FLAG_OVERRIDE;
        }
        U32::new(bits)
    }
}

impl NeighborSolicitation {
    /// The target address.
    #[must_use]
    pub const fn target(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.target)
    }

    /// The message's fixed part and its options.
    ///
    /// # Errors
    /// When it is shorter than its fixed part (RFC 4861 7.1.1: at least 24 bytes).
    pub fn parse(message: &[u8]) -> Result<(&Self, Options<'_>), Truncated> {
        let (fixed, rest) = Self::ref_from_prefix(message).map_err(|_| Truncated)?;
        Ok((fixed, Options::new(rest)))
    }
}

impl NeighborAdvertisement {
    /// The target address.
    #[must_use]
    pub const fn target(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.target)
    }

    /// The flags; reserved bits are ignored.
    #[must_use]
    pub const fn flags(&self) -> AdvertisementFlags {
        let bits = self.flags.get();
        AdvertisementFlags {
            router: bits & FLAG_ROUTER != 0,
            solicited: bits & FLAG_SOLICITED != 0,
            override_cached: bits & FLAG_OVERRIDE != 0,
        }
    }

    /// The message's fixed part and its options.
    ///
    /// # Errors
    /// When it is shorter than its fixed part (RFC 4861 7.1.2: at least 24 bytes).
    pub fn parse(message: &[u8]) -> Result<(&Self, Options<'_>), Truncated> {
        let (fixed, rest) = Self::ref_from_prefix(message).map_err(|_| Truncated)?;
        Ok((fixed, Options::new(rest)))
    }
}

/// A source or target link-layer address option for Ethernet (RFC 2464 6): always 8 bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct LinkLayerOption {
    /// One of [`options`].
    pub kind: u8,
    /// In units of 8 bytes: 1.
    pub length: u8,
    /// The MAC address.
    pub address: [u8; 6],
}

impl LinkLayerOption {
    /// The option of this type with this address.
    #[must_use]
    pub const fn new(kind: u8, address: Mac) -> Self {
        Self {
            kind,
            length: 1,
            address: address.octets(),
        }
    }
}

/// One neighbour discovery option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NdOption<'a> {
    /// One of [`options`], or any other number.
    pub kind: u8,
    /// What follows type and length; 6 bytes, 14, 22, ...
    pub body: &'a [u8],
}

impl NdOption<'_> {
    /// Of a link-layer address option on Ethernet: the address. `None` when the length is not Ethernet's.
    #[must_use]
    pub fn link_layer_address(&self) -> Option<Mac> {
        self.body.as_array().map(|octets| Mac::from_octets(*octets))
    }
}

/// Why the options cannot be read; the message is then discarded whole (RFC 4861 7.1.1, 7.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// An option of length zero (RFC 4861 4.6).
    #[error("neighbour discovery option of length zero")]
    ZeroLength,
    /// An option longer than the rest of the message.
    #[error("neighbour discovery option is cut short")]
    Truncated,
}

/// The options of a neighbour discovery message, in order. Ends after the first error.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    /// The options in what follows a message's fixed part.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The address in the first link-layer address option of this type; all options are checked.
    ///
    /// # Errors
    /// When any option is malformed.
    pub fn link_layer_address(self, kind: u8) -> Result<Option<Mac>, OptionError> {
        let mut found = None;
        for option in self {
            let option = option?;
            if option.kind == kind && found.is_none() {
                found = option.link_layer_address();
            }
        }
        Ok(found)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<NdOption<'a>, OptionError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let option = split_option(self.rest);
        self.rest = option.map_or(&[], |(_, rest)| rest);
        Some(option.map(|(option, _)| option))
    }
}

/// The first option and what follows it, which is at least 8 bytes shorter: the walk ends.
fn split_option(bytes: &[u8]) -> Result<(NdOption<'_>, &[u8]), OptionError> {
    let [kind, length, ..] = *bytes else {
        return Err(OptionError::Truncated);
    };
    if length == 0 {
        return Err(OptionError::ZeroLength);
    }
    let (option, rest) = bytes
        .split_at_checked(usize::from(length) * 8)
        .ok_or(OptionError::Truncated)?;
    let body = option.get(2..).ok_or(OptionError::Truncated)?;
    Ok((NdOption { kind, body }, rest))
}

/// A neighbour discovery message: fixed part and at most one link-layer address option.
pub type NdMessage = ArrayVec<u8, 32>;

/// A neighbour solicitation for `target`, checksum zero; `source` is absent when the source address is unspecified
/// (RFC 4861 4.3).
#[must_use]
pub fn neighbor_solicitation(target: Ipv6Addr, source: Option<Mac>) -> NdMessage {
    let fixed = NeighborSolicitation {
        header: header(types::NEIGHBOR_SOLICITATION, 0),
        reserved: U32::ZERO,
        target: target.octets(),
    };
    nd_message(fixed.as_bytes(), options::SOURCE_LINK_LAYER_ADDRESS, source)
}

/// A neighbour advertisement for `target`, checksum zero.
#[must_use]
pub fn neighbor_advertisement(
    target: Ipv6Addr,
    flags: AdvertisementFlags,
    link_layer_address: Option<Mac>,
) -> NdMessage {
    let fixed = NeighborAdvertisement {
        header: header(types::NEIGHBOR_ADVERTISEMENT, 0),
        flags: flags.into(),
        target: target.octets(),
    };
    nd_message(
        fixed.as_bytes(),
        options::TARGET_LINK_LAYER_ADDRESS,
        link_layer_address,
    )
}

fn nd_message(fixed: &[u8], option_kind: u8, address: Option<Mac>) -> NdMessage {
    let mut message: NdMessage = fixed.iter().copied().collect();
    if let Some(address) = address {
        message.extend(
            LinkLayerOption::new(option_kind, address)
                .as_bytes()
                .iter()
                .copied(),
        );
    }
    message
}

fn header(kind: u8, code: u8) -> Header {
    Header {
        kind,
        code,
        checksum: U16::ZERO,
    }
}

/// Compute and store the checksum of a whole message.
///
/// # Errors
/// When the message is shorter than its header.
pub fn set_checksum(
    source: &[u8; 16],
    destination: &[u8; 16],
    message: &mut [u8],
) -> Result<(), Truncated> {
    let (header, _) = Header::mut_from_prefix(message).map_err(|_| Truncated)?;
    header.checksum = U16::ZERO;
    let checksum = checksum::upper_layer(source, destination, proto::ICMPV6, message);
    let (header, _) = Header::mut_from_prefix(message).map_err(|_| Truncated)?;
    header.checksum = U16::new(checksum);
    Ok(())
}

#[cfg(test)]
mod tests;
