//! The LISP data header (RFC 9300 5.1, 5.2) and its generic protocol extension (RFC 9305 3).
//!
//! ```text
//!  octet 0          1..3                                   4..7
//!  N L E V I P K K  nonce 24 | source, destination version | I=0: status bits 32   I=1: instance 24, status bits 8
//! ```
//!
//! A view judges nothing: which flags mean something, and to whom, is for encapsulation and decapsulation to say.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// UDP destination port of encapsulated packets.
pub const DATA_PORT: u16 = 4341;
/// UDP port of control messages (RFC 9301).
pub const CONTROL_PORT: u16 = 4342;
/// The largest instance id a data header can carry.
pub const INSTANCE_MAX: u32 = 0x00ff_ffff;

/// Flags of the first octet.
pub mod flags {
    /// The nonce field holds a nonce.
    pub const NONCE: u8 = 0x80;
    /// The locator-status bits mean something.
    pub const STATUS_BITS: u8 = 0x40;
    /// Echo the nonce, please.
    pub const ECHO_NONCE: u8 = 0x20;
    /// The nonce field holds two map-versions.
    pub const MAP_VERSION: u8 = 0x10;
    /// The upper 24 bits of the last word are an instance id.
    pub const INSTANCE: u8 = 0x08;
    /// The last octet names what follows the header (RFC 9305); reserved without it.
    pub const NEXT_PROTOCOL: u8 = 0x04;
    /// Key of an encrypted payload (RFC 8061); 0: not encrypted.
    pub const KEY: u8 = 0x03;
}

/// Values of the last octet with [`flags::NEXT_PROTOCOL`] (RFC 9305 3.1).
pub mod next_protocol {
    /// An IPv4 packet.
    pub const IPV4: u8 = 1;
    /// An IPv6 packet.
    pub const IPV6: u8 = 2;
}

/// The header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// See [`flags`].
    pub flags: u8,
    /// A nonce, or source and destination map-version of 12 bits each.
    pub nonce: [u8; 3],
    /// Status bits, or an instance id and 8 status bits.
    pub last: [u8; 4],
}

impl Header {
    /// The instance: 0 without [`flags::INSTANCE`].
    #[must_use]
    #[inline]
    pub const fn instance(self) -> u32 {
        if self.flags & flags::INSTANCE == 0 {
            return 0;
        }
        let [a, b, c, _] = self.last;
        u32::from_be_bytes([0, a, b, c])
    }

    /// Source and destination map-version; meaningful with [`flags::MAP_VERSION`] and without [`flags::NONCE`]
    /// (RFC 9302 4).
    #[must_use]
    pub const fn map_versions(self) -> (u16, u16) {
        let [a, b, c] = self.nonce;
        let word = u32::from_be_bytes([0, a, b, c]);
        ((word >> 12) as u16, (word & 0xfff) as u16) // `as`: 12 bits each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bytes_are_read() {
        let (header, rest) =
            Header::read_from_prefix(&[0x98, 0x12, 0x3a, 0xbc, 0x01, 0x02, 0x03, 0x81, 0x60])
                .expect("9 bytes");
        assert_eq!(rest, [0x60]);
        assert_eq!(
            header.flags,
            flags::NONCE | flags::MAP_VERSION | flags::INSTANCE
        );
        assert_eq!(header.instance(), 0x01_02_03);
        assert_eq!(header.map_versions(), (0x123, 0xabc));
        assert_eq!(header.last[3], 0x81);
        assert_eq!(header.as_bytes()[..4], [0x98, 0x12, 0x3a, 0xbc]);
    }

    /// D-06: without the flag the last word is all status bits.
    #[test]
    fn without_the_flag_there_is_no_instance() {
        let header = Header {
            flags: flags::STATUS_BITS,
            nonce: [0; 3],
            last: [1, 2, 3, 4],
        };
        assert_eq!(header.instance(), 0);
    }

    #[test]
    fn every_truncation_is_rejected() {
        for len in 0..HEADER_LEN {
            assert!(Header::read_from_prefix(&[0; HEADER_LEN][..len]).is_err());
        }
    }
}
