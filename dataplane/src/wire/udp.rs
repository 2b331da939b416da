//! The UDP header (RFC 768).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum stands.
pub const CHECKSUM_OFFSET: usize = 6;

/// The header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Source port.
    pub source_port: U16,
    /// Destination port.
    pub destination_port: U16,
    /// Bytes of header and data.
    pub length: U16,
    /// Checksum; zero means none, which IPv6 does not allow (RFC 8200 8.1).
    pub checksum: U16,
}
