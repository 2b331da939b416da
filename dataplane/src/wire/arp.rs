//! ARP for IPv4 on Ethernet (RFC 826), with the probes and announcements of RFC 5227.
//!
//! [`parse`] says whether a message is one; whom it concerns, and what it changes, is judged by the protocol machine.

use std::net::Ipv4Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use super::ethernet::{ETHERTYPE_IPV4, Mac};

/// Bytes of a message; Ethernet pads it to 46.
pub const MESSAGE_LEN: usize = 28;
/// Hardware type of Ethernet.
pub const HARDWARE_ETHERNET: u16 = 1;

/// What a message wants.
pub mod operations {
    /// Who has this address?
    pub const REQUEST: u16 = 1;
    /// I have.
    pub const REPLY: u16 = 2;
}

/// A whole message.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Message {
    /// [`HARDWARE_ETHERNET`].
    pub hardware_type: U16,
    /// EtherType of the protocol whose addresses these are: IPv4.
    pub protocol_type: U16,
    /// Bytes of a hardware address: 6.
    pub hardware_len: u8,
    /// Bytes of a protocol address: 4.
    pub protocol_len: u8,
    /// One of [`operations`].
    pub operation: U16,
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 address of the sender; 0.0.0.0 in a probe (RFC 5227 2.1.1).
    pub sender_address: [u8; 4],
    /// MAC address of the target; of no meaning in a request.
    pub target_mac: [u8; 6],
    /// IPv4 address of the target.
    pub target_address: [u8; 4],
}

impl Message {
    fn new(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Self {
        Self {
            hardware_type: U16::new(HARDWARE_ETHERNET),
            protocol_type: U16::new(ETHERTYPE_IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac: sender.0.octets(),
            sender_address: sender.1.octets(),
            target_mac: target.0.octets(),
            target_address: target.1.octets(),
        }
    }

    /// "Who has `target`? Tell `sender`." From 0.0.0.0 it is a probe, about the sender's own address an announcement
    /// (RFC 5227 1.1).
    #[must_use]
    pub fn request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        let nobody = Mac::from_octets([0; 6]);
        Self::new(operations::REQUEST, (mac, sender), (nobody, target))
    }

    /// "`sender` is at `mac`", to who asked.
    #[must_use]
    pub fn reply(mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Self {
        Self::new(operations::REPLY, (mac, sender), (target_mac, target))
    }

    /// MAC address of the sender.
    #[must_use]
    pub const fn sender_mac(&self) -> Mac {
        Mac::from_octets(self.sender_mac)
    }

    /// IPv4 address of the sender.
    #[must_use]
    pub const fn sender(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.sender_address)
    }

    /// IPv4 address of the target.
    #[must_use]
    pub const fn target(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.target_address)
    }

    /// Whether somebody asks.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        self.operation.get() == operations::REQUEST
    }
}

/// Why a message is not one for IPv4 on Ethernet: the "?" of RFC 826, "Packet Reception".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer than 28 bytes.
    #[error("ARP message is cut short")]
    Truncated,
    /// Another hardware type or address length.
    #[error("ARP for another hardware than Ethernet")]
    Hardware,
    /// Another protocol or address length.
    #[error("ARP for another protocol than IPv4")]
    Protocol,
    /// Neither request nor reply.
    #[error("ARP operation {0}")]
    Operation(u16),
}

/// The message at the start of `bytes`; Ethernet padding behind it is ignored.
///
/// # Errors
/// When it is not a request or a reply about IPv4 on Ethernet.
pub fn parse(bytes: &[u8]) -> Result<&Message, Error> {
    let (message, _) = Message::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
    if (message.hardware_type.get(), message.hardware_len) != (HARDWARE_ETHERNET, 6) {
        return Err(Error::Hardware);
    }
    if (message.protocol_type.get(), message.protocol_len) != (ETHERTYPE_IPV4, 4) {
        return Err(Error::Protocol);
    }
    match message.operation.get() {
        operations::REQUEST | operations::REPLY => Ok(message),
        other => Err(Error::Operation(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac::from_octets([2, 0, 0, 0, 0, 2]);

    /// RFC 826: a request, as it stands on the wire.
    const REQUEST: [u8; MESSAGE_LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2,
    ];

    #[test]
    fn a_request_has_known_bytes() {
        let (us, them) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let message = Message::request(OURS, us, them);
        assert_eq!(message.as_bytes(), REQUEST);
        assert!(message.is_request());
        let parsed = parse(&REQUEST).expect("a request");
        assert_eq!((parsed.sender_mac(), parsed.sender()), (OURS, us));
        assert_eq!(parsed.target(), them);
    }

    #[test]
    fn a_reply_goes_to_who_asked() {
        let (us, them) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let message = Message::reply(OURS, us, THEIRS, them);
        assert!(!message.is_request());
        assert_eq!(message.as_bytes()[6..8], [0, 2]);
        assert_eq!(message.as_bytes()[18..], [2, 0, 0, 0, 0, 2, 192, 0, 2, 2]);
    }

    #[test]
    fn every_truncation_is_rejected_and_padding_ignored() {
        for len in 0..MESSAGE_LEN {
            assert_eq!(parse(&REQUEST[..len]), Err(Error::Truncated), "{len} bytes");
        }
        let padded = [&REQUEST[..], &[0xee; 18]].concat();
        assert_eq!(parse(&padded), parse(&REQUEST));
    }

    #[test]
    fn other_hardware_protocols_and_operations_are_told_apart() {
        let with = |at: usize, value: u8| {
            let mut bytes = REQUEST;
            bytes[at] = value;
            bytes
        };
        for (at, value, error) in [
            (1, 6, Error::Hardware),
            (4, 8, Error::Hardware),
            (2, 0x86, Error::Protocol),
            (5, 16, Error::Protocol),
            (7, 0, Error::Operation(0)),
            (7, 3, Error::Operation(3)),
        ] {
            assert_eq!(parse(&with(at, value)), Err(error));
        }
    }

    proptest! {
        #[test]
        fn what_is_made_is_parsed(
            mac: [u8; 6],
            other: [u8; 6],
            sender: [u8; 4],
            target: [u8; 4],
            asks: bool,
        ) {
            let message = if asks {
                Message::request(mac.into(), sender.into(), target.into())
            } else {
                Message::reply(mac.into(), sender.into(), other.into(), target.into())
            };
            prop_assert_eq!(parse(message.as_bytes()), Ok(&message));
            prop_assert_eq!(message.is_request(), asks);
        }
    }
}
