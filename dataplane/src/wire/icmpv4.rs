//! ICMP for IPv4 (RFC 792), with the codes of RFC 1812 5.2.7 and the MTU of RFC 1191.
//!
//! Views and builders only; what may be answered, and how often, is the packet programs' to judge. The checksum covers
//! the message alone: there is no pseudo-header.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

use super::code_points::code_points;
use super::{Truncated, checksum};

/// Bytes of type, code and checksum.
pub const HEADER_LEN: usize = 4;
/// Bytes before the quoted packet in an error, and before the data in an echo message.
pub const ERROR_HEADER_LEN: usize = 8;
/// Where the checksum stands.
pub const CHECKSUM_OFFSET: usize = 2;
/// The longest error message, IPv4 header included (RFC 1812 4.3.2.3).
pub const ERROR_PACKET_MAX: usize = super::ipv4::MIN_REASSEMBLY;

code_points! {
    /// A message's type.
    Type,
    /// Message types as numbers.
    types {
        EchoReply, ECHO_REPLY = 0, "echo reply";
        DestinationUnreachable, DESTINATION_UNREACHABLE = 3, "destination unreachable";
        SourceQuench, SOURCE_QUENCH = 4, "source quench";
        Redirect, REDIRECT = 5, "redirect";
        EchoRequest, ECHO_REQUEST = 8, "echo request";
        RouterAdvertisement, ROUTER_ADVERTISEMENT = 9, "router advertisement";
        RouterSolicitation, ROUTER_SOLICITATION = 10, "router solicitation";
        TimeExceeded, TIME_EXCEEDED = 11, "time exceeded";
        ParameterProblem, PARAMETER_PROBLEM = 12, "parameter problem";
        Timestamp, TIMESTAMP = 13, "timestamp";
        TimestampReply, TIMESTAMP_REPLY = 14, "timestamp reply";
    }
}

/// Codes of the error messages.
pub mod codes {
    /// Unreachable: no route to the network.
    pub const UNREACHABLE_NETWORK: u8 = 0;
    /// Unreachable: the host does not answer.
    pub const UNREACHABLE_HOST: u8 = 1;
    /// Unreachable: nothing takes the protocol.
    pub const UNREACHABLE_PROTOCOL: u8 = 2;
    /// Unreachable: nothing takes the port.
    pub const UNREACHABLE_PORT: u8 = 3;
    /// Unreachable: fragmentation needed and DF set; the MTU stands in the message (RFC 1191 4).
    pub const UNREACHABLE_FRAGMENTATION_NEEDED: u8 = 4;
    /// Unreachable: communication administratively prohibited (RFC 1812 5.2.7.1).
    pub const UNREACHABLE_PROHIBITED: u8 = 13;
    /// Time exceeded: in transit.
    pub const TIME_EXCEEDED_TRANSIT: u8 = 0;
    /// Time exceeded: fragment reassembly.
    pub const TIME_EXCEEDED_REASSEMBLY: u8 = 1;
    /// Parameter problem: the pointer says where.
    pub const PARAMETER_POINTER: u8 = 0;
}

/// Whether a message of this type is an error or a redirect, which are never answered by an error; unknown ones are not
/// either (RFC 1812 4.3.2.7: an ICMP error message).
#[must_use]
#[inline]
pub const fn is_error(kind: u8) -> bool {
    !matches!(
        kind,
        types::ECHO_REPLY
            | types::ECHO_REQUEST
            | types::ROUTER_ADVERTISEMENT
            | types::ROUTER_SOLICITATION
            | 13..=18 // timestamp, information and address mask, each with its reply
    )
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
    /// Checksum over the message.
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
    /// Fragmentation needed: the MTU in the lower half (RFC 1191 4); parameter problem: the pointer in the first byte;
    /// otherwise unused.
    pub word: U32,
}

impl ErrorHeader {
    /// An error with a zero checksum.
    #[must_use]
    pub fn new(kind: u8, code: u8, word: u32) -> Self {
        Self {
            header: header(kind, code),
            word: U32::new(word),
        }
    }

    /// Of "fragmentation needed": the MTU of the next hop; 0 from a router older than RFC 1191.
    #[must_use]
    #[inline]
    pub const fn next_hop_mtu(&self) -> u16 {
        self.word.get() as u16 // `as`: the lower half
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
pub fn set_checksum(message: &mut [u8]) -> Result<(), Truncated> {
    let (header, _) = Header::mut_from_prefix(message).map_err(|_| Truncated)?;
    header.checksum = U16::ZERO;
    let checksum = checksum::sum(message).checksum();
    let (header, _) = Header::mut_from_prefix(message).map_err(|_| Truncated)?;
    header.checksum = U16::new(checksum);
    Ok(())
}

/// Whether the checksum of a whole message is right.
#[must_use]
pub fn is_valid(message: &[u8]) -> bool {
    message.len() >= HEADER_LEN && checksum::sum(message).fold() == 0xffff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_number_round_trips() {
        let mut known = Vec::new();
        for value in 0..=255 {
            let kind = Type::from(value);
            assert_eq!(u8::from(kind), value);
            if kind != Type::Unknown(value) {
                known.push(value);
            }
        }
        assert_eq!(known, [0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(Type::TimeExceeded.to_string(), "time exceeded");
        assert_eq!(Type::Unknown(99).to_string(), "type 99");
    }

    /// RFC 1812 4.3.2.7: errors are not answered by errors; queries and their replies are no errors.
    #[test]
    fn errors_are_told_from_queries() {
        for query in [0, 8, 9, 10, 13, 14, 15, 16, 17, 18] {
            assert!(!is_error(query), "{query}");
        }
        for error in [1, 2, 3, 4, 5, 11, 12, 30, 255] {
            assert!(is_error(error), "{error}");
        }
    }

    /// ff ff - (08 00 + 00 01 + 00 02 + 61 62) = 96 9a.
    #[test]
    fn an_echo_request_has_known_bytes() {
        let mut message = EchoHeader::new(types::ECHO_REQUEST, 1, 2)
            .as_bytes()
            .to_vec();
        message.extend(b"ab");
        assert!(!is_valid(&message));
        set_checksum(&mut message).expect("long enough");
        assert_eq!(message, [8, 0, 0x96, 0x9a, 0, 1, 0, 2, 0x61, 0x62]);
        assert!(is_valid(&message));
    }

    #[test]
    fn the_next_hop_mtu_is_the_lower_half() {
        let error = ErrorHeader::new(3, codes::UNREACHABLE_FRAGMENTATION_NEEDED, 1400);
        assert_eq!(error.next_hop_mtu(), 1400);
        assert_eq!(error.as_bytes()[4..], [0, 0, 5, 0x78]);
    }

    #[test]
    fn a_message_without_a_header_has_no_checksum() {
        for len in 0..HEADER_LEN {
            assert_eq!(set_checksum(&mut vec![0xff; len]), Err(Truncated));
            assert!(!is_valid(&vec![0xff; len]));
        }
    }

    proptest! {
        #[test]
        fn a_stored_checksum_is_valid_until_a_bit_flips(
            mut message in prop::collection::vec(any::<u8>(), 4..80),
            at in any::<prop::sample::Index>(),
            bit in 0_u32..8,
        ) {
            set_checksum(&mut message).expect("long enough");
            prop_assert!(is_valid(&message) || message.iter().enumerate().all(|(i, b)| matches!(i, 2 | 3) || *b == 0));
            let at = at.index(message.len());
            let before = is_valid(&message);
            message[at] ^= 1 << bit;
            prop_assert!(!before || !is_valid(&message));
        }
    }
}
