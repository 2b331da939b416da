//! Ethernet II header and MAC addresses (RFC 2464: how IPv6 uses them). VLAN tags are in [`super::vlan`].

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of an untagged header.
pub const HEADER_LEN: usize = 14;

/// IPv6 (RFC 2464 3).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// 802.1Q customer tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// 802.1ad service tag, the outer one of QinQ.
pub const ETHERTYPE_QINQ: u16 = 0x88a8;

/// Destination, source and type; with VLAN tags the type is the first tag's.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// EtherType of what follows.
    pub ether_type: U16,
}

/// A 48-bit MAC address. Ordered as its bytes; written as `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Mac([u8; 6]);

impl Mac {
    /// All ones.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The address with these bytes, in the order of transmission.
    #[must_use]
    pub const fn from_octets(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// Its bytes, in the order of transmission.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether it names a group; the broadcast address does.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The group address a multicast IPv6 destination is sent to: 33:33 and its last four bytes (RFC 2464 7).
    #[must_use]
    pub const fn multicast_for(destination: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = destination.octets();
        Self([0x33, 0x33, a, b, c, d])
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl From<Mac> for [u8; 6] {
    fn from(mac: Mac) -> Self {
        mac.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a MAC address like 02:00:5e:10:00:01")]
pub struct MacError {
    text: String,
}

impl FromStr for Mac {
    type Err = MacError;

    /// Six groups of exactly two hexadecimal digits, separated by colons.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_mac(text.as_bytes()).ok_or_else(|| MacError {
            text: text.to_owned(),
        })
    }
}

fn parse_mac(text: &[u8]) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut groups = text.split(|byte| *byte == b':');
    for octet in &mut octets {
        let [high, low] = groups.next()?.as_array::<2>()?;
        *octet = (hex_digit(*high)? << 4) | hex_digit(*low)?;
    }
    groups.next().is_none().then_some(Mac(octets))
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac(text: &str) -> Mac {
        text.parse().expect("a MAC address")
    }

    #[test]
    fn text_form_is_six_lower_case_pairs() {
        let address = Mac::from_octets([0x02, 0x00, 0x5e, 0x10, 0xab, 0xff]);
        assert_eq!(address.to_string(), "02:00:5e:10:ab:ff");
        assert_eq!(format!("{address:?}"), "02:00:5e:10:ab:ff");
        assert_eq!(mac("02:00:5E:10:aB:Ff"), address);
        assert_eq!(mac("ff:ff:ff:ff:ff:ff"), Mac::BROADCAST);
    }

    #[test]
    fn text_that_is_no_address_is_named_in_the_error() {
        for text in [
            "",
            ":",
            "02:00:5e:10:ab",
            "02:00:5e:10:ab:",
            "02:00:5e:10:ab:ff:",
            "02:00:5e:10:ab:ff:01",
            ":02:00:5e:10:ab:ff",
            "02:00:5e:10:ab:f",
            "02:00:5e:10:ab:0ff",
            "02:00:5e:10:ab:fg",
            "02:00:5e:10:ab:+f",
            "02-00-5e-10-ab-ff",
            "02005e10abff",
            " 02:00:5e:10:ab:ff",
            "02:00:5e:10:ab:ff\n",
            "02:00:5e:10:ab:é",
        ] {
            let error = text.parse::<Mac>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    /// RFC 2464 7: the example there.
    #[test]
    fn multicast_address_maps_to_33_33() {
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().expect("an address");
        assert_eq!(Mac::multicast_for(group), mac("33:33:ff:12:34:56"));
        let all_nodes: Ipv6Addr = "ff02::1".parse().expect("an address");
        assert_eq!(Mac::multicast_for(all_nodes), mac("33:33:00:00:00:01"));
    }

    #[test]
    fn lowest_bit_of_the_first_byte_means_group() {
        assert!(Mac::BROADCAST.is_multicast());
        assert!(mac("33:33:00:00:00:01").is_multicast());
        assert!(mac("01:00:00:00:00:00").is_multicast());
        assert!(!mac("02:00:00:00:00:01").is_multicast());
        assert!(!mac("fe:ff:ff:ff:ff:ff").is_multicast());
    }

    proptest! {
        #[test]
        fn text_form_round_trips(octets: [u8; 6]) {
            let address = Mac::from(octets);
            prop_assert_eq!(mac(&address.to_string()), address);
            prop_assert_eq!(mac(&address.to_string().to_uppercase()), address);
            prop_assert_eq!(<[u8; 6]>::from(address), octets);
            prop_assert_eq!(address.octets(), octets);
        }

        #[test]
        fn order_is_that_of_the_bytes(a: [u8; 6], b: [u8; 6]) {
            prop_assert_eq!(Mac::from(a).cmp(&Mac::from(b)), a.cmp(&b));
        }
    }
}
