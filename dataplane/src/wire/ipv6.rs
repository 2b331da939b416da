//! The IPv6 header (RFC 8200 3). What follows it is found by [`super::ext`].

use std::net::Ipv6Addr;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

/// Bytes of the header.
pub const HEADER_LEN: usize = 40;
/// The MTU every IPv6 link has at least (RFC 8200 5); an ICMPv6 error is never longer (RFC 4443 2.4 c).
pub const MIN_MTU: usize = 1280;

/// Next-header values: extension headers and upper layers.
pub mod proto {
    /// Hop-by-Hop Options (RFC 8200 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// Routing header (RFC 8200 4.4).
    pub const ROUTING: u8 = 43;
    /// Fragment header (RFC 8200 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating Security Payload (RFC 4303); nothing behind it can be read.
    pub const ESP: u8 = 50;
    /// Authentication Header (RFC 4302).
    pub const AH: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// No next header (RFC 8200 4.7).
    pub const NO_NEXT: u8 = 59;
    /// Destination Options (RFC 8200 4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
    /// Mobility header (RFC 6275 6.1).
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: u8 = 136;
    /// Host Identity Protocol (RFC 7401 5.1).
    pub const HIP: u8 = 139;
    /// Shim6 (RFC 5533 5).
    pub const SHIM6: u8 = 140;
}

/// The 40 bytes of the header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_flow: U32,
    /// Bytes after this header, extension headers included, as the sender claims.
    pub payload_length: U16,
    /// What follows: one of [`proto`].
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

impl Header {
    /// A header of version 6, traffic class 0 and flow label 0.
    #[must_use]
    pub fn new(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next_header: u8,
        hop_limit: u8,
        payload_len: u16,
    ) -> Self {
        Self {
            version_class_flow: U32::new(6 << 28),
            payload_length: U16::new(payload_len),
            next_header,
            hop_limit,
            source: source.octets(),
            destination: destination.octets(),
        }
    }

    /// IP version; 6 when this is IPv6.
    #[must_use]
    #[inline]
    pub const fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8 // `as`: four bits
    }

    /// Traffic class: DSCP (6 bits) and ECN (2 bits).
    #[must_use]
    #[inline]
    pub const fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8 // `as`: the low eight bits
    }

    /// Flow label, 20 bits.
    #[must_use]
    #[inline]
    pub const fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0x000f_ffff
    }

    /// Bytes after this header as the sender claims; the frame may hold fewer or more.
    #[must_use]
    #[inline]
    pub const fn payload_len(&self) -> usize {
        self.payload_length.get() as usize // `as`: u16 always fits, and `from` is not const
    }

    /// Source address.
    #[must_use]
    #[inline]
    pub const fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.source)
    }

    /// Destination address.
    #[must_use]
    #[inline]
    pub const fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.destination)
    }

    /// Set traffic class and flow label (its low 20 bits); the version stays.
    #[inline]
    pub const fn set_class_and_flow(&mut self, traffic_class: u8, flow_label: u32) {
        let version = self.version_class_flow.get() & 0xf000_0000;
        let class = (traffic_class as u32) << 20; // `as`: widening, and `from` is not const
        self.version_class_flow = U32::new(version | class | (flow_label & 0x000f_ffff));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One packet's header, field by field.
    #[test]
    fn known_bytes_have_known_fields() {
        let mut bytes = [0; HEADER_LEN + 3];
        bytes[..8].copy_from_slice(&[0x6b, 0x8d, 0xe0, 0xf1, 0x04, 0xd2, 58, 63]);
        bytes[8..24].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes[24..40].copy_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        let (header, rest) = Header::ref_from_prefix(&bytes).expect("long enough");
        assert_eq!(header.version(), 6);
        assert_eq!(header.traffic_class(), 0xb8);
        assert_eq!(header.flow_label(), 0xd_e0f1);
        assert_eq!(header.payload_len(), 1234);
        assert_eq!(header.next_header, proto::ICMPV6);
        assert_eq!(header.hop_limit, 63);
        assert_eq!(header.source().to_string(), "2001:db8::1");
        assert_eq!(header.destination().to_string(), "fe80::2");
        assert_eq!(rest.len(), 3);

        let mut same = Header::new(header.source(), header.destination(), 58, 63, 1234);
        same.set_class_and_flow(0xb8, 0xd_e0f1);
        assert_eq!(same.as_bytes(), &bytes[..HEADER_LEN]);
    }

    proptest! {
        #[test]
        fn fields_of_the_first_word_do_not_touch_each_other(word: u32, class: u8, flow: u32) {
            let mut header = Header::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 0, 0, 0);
            header.version_class_flow = U32::new(word);
            let version = header.version();
            prop_assert_eq!(u32::from(version), word >> 28);
            header.set_class_and_flow(class, flow);
            prop_assert_eq!(header.version(), version);
            prop_assert_eq!(header.traffic_class(), class);
            prop_assert_eq!(header.flow_label(), flow & 0xf_ffff);
        }
    }
}
