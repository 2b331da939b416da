//! The IPv4 header (RFC 791 3.1) and what makes one acceptable (RFC 1812 5.2.2).
//!
//! [`parse`] judges a whole packet; the setters of [`Header`] that change a summed field and keep the checksum right are
//! called `update_*` (RFC 1624), the others leave it to the caller. Options are not looked into.

use std::net::Ipv4Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, network_endian::U16};

use super::checksum;

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const HEADER_LEN_MAX: usize = 60;
/// What every host can reassemble, and what an ICMP error is limited to (RFC 1812 4.3.2.3).
pub const MIN_REASSEMBLY: usize = 576;
/// The smallest MTU of an internet link (RFC 791 3.2).
pub const MIN_MTU: usize = 68;
/// Where the TTL stands.
pub const TTL_OFFSET: usize = 8;
/// Where the header checksum stands.
pub const CHECKSUM_OFFSET: usize = 10;

/// Protocol numbers that IPv4 does not share with [`super::ipv6::proto`].
pub mod proto {
    pub use crate::wire::ipv6::proto::{AH, ESP, TCP, UDP};
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The first 20 bytes of the header; options may follow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Version (4 bits), header length in units of 4 bytes (4).
    pub version_length: u8,
    /// DSCP (6 bits, RFC 2474) and ECN (2 bits, RFC 3168).
    pub traffic_class: u8,
    /// Bytes of the whole packet, as the sender claims.
    pub total_length: U16,
    /// What fragments of one packet have in common.
    pub identification: U16,
    /// A reserved bit, DF, MF, and the offset in units of 8 bytes (13 bits).
    pub flags_offset: U16,
    /// Hops left.
    pub ttl: u8,
    /// What follows: one of [`proto`].
    pub protocol: u8,
    /// Checksum of the header.
    pub checksum: U16,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Header {
    /// A header without options for `payload_len` bytes, its checksum filled in: TOS 0, identification 0, DF clear.
    ///
    /// A payload that no packet can hold is cut to what fits.
    #[must_use]
    pub fn new(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: u8,
        ttl: u8,
        payload_len: u16,
    ) -> Self {
        let mut header = Self {
            version_length: 0x45,
            traffic_class: 0,
            total_length: U16::new(payload_len.saturating_add(20)), // HEADER_LEN
            identification: U16::ZERO,
            flags_offset: U16::ZERO,
            ttl,
            protocol,
            checksum: U16::ZERO,
            source: source.octets(),
            destination: destination.octets(),
        };
        header.checksum = U16::new(checksum::sum(header.as_bytes()).checksum());
        header
    }

    /// IP version; 4 when this is IPv4.
    #[must_use]
    #[inline]
    pub const fn version(&self) -> u8 {
        self.version_length >> 4
    }

    /// Bytes of header and options, as the sender claims: 0 to 60.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        (self.version_length & 0x0f) as usize * 4 // `as`: widening, and `from` is not const
    }

    /// Bytes of the whole packet as the sender claims.
    #[must_use]
    #[inline]
    pub const fn total_len(&self) -> usize {
        self.total_length.get() as usize // `as`: widening, and `from` is not const
    }

    /// DF: must not be fragmented.
    #[must_use]
    #[inline]
    pub const fn dont_fragment(&self) -> bool {
        self.flags_offset.get() & DONT_FRAGMENT != 0
    }

    /// MF: more fragments follow.
    #[must_use]
    #[inline]
    pub const fn more_fragments(&self) -> bool {
        self.flags_offset.get() & MORE_FRAGMENTS != 0
    }

    /// Where this fragment's data belong in the original packet, bytes; a multiple of 8.
    #[must_use]
    #[inline]
    pub const fn fragment_offset(&self) -> usize {
        (self.flags_offset.get() & OFFSET_MASK) as usize * 8 // `as`: widening, and `from` is not const
    }

    /// Whether this is a fragment of a larger packet.
    #[must_use]
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.flags_offset.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Whether the upper-layer header, if any, is in this packet.
    #[must_use]
    #[inline]
    pub const fn is_first(&self) -> bool {
        self.flags_offset.get() & OFFSET_MASK == 0
    }

    /// Source address.
    #[must_use]
    #[inline]
    pub const fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.source)
    }

    /// Destination address.
    #[must_use]
    #[inline]
    pub const fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_octets(self.destination)
    }

    /// Set DF and nothing else. The checksum stays as it is.
    #[inline]
    pub const fn set_dont_fragment(&mut self, dont_fragment: bool) {
        let rest = self.flags_offset.get() & !DONT_FRAGMENT;
        let flag = if dont_fragment { DONT_FRAGMENT } else { 0 };
        self.flags_offset = U16::new(rest | flag);
    }

    /// Set MF and the offset, `offset_bytes` in units of 8 bytes rounded down; DF stays. So does the checksum.
    #[inline]
    pub const fn set_fragment(&mut self, offset_bytes: u16, more: bool) {
        let rest = self.flags_offset.get() & !(MORE_FRAGMENTS | OFFSET_MASK);
        let flag = if more { MORE_FRAGMENTS } else { 0 };
        self.flags_offset = U16::new(rest | flag | (offset_bytes / 8));
    }

    /// Set the TTL and update the checksum (RFC 1624 3).
    #[inline]
    pub fn update_ttl(&mut self, ttl: u8) {
        let old = [self.ttl, self.protocol];
        self.ttl = ttl;
        self.update_checksum(old, [ttl, self.protocol]);
    }

    /// Set DSCP and ECN and update the checksum (RFC 1624 3).
    #[inline]
    pub fn update_traffic_class(&mut self, traffic_class: u8) {
        let old = [self.version_length, self.traffic_class];
        self.traffic_class = traffic_class;
        self.update_checksum(old, [self.version_length, traffic_class]);
    }

    /// The checksum after one 16-bit word of the header became another.
    #[inline]
    fn update_checksum(&mut self, old: [u8; 2], new: [u8; 2]) {
        self.checksum = U16::new(checksum::update(self.checksum.get(), &old, &new));
    }
}

/// One hop less, and the checksum updated (RFC 1812 5.3.1, RFC 1624 3). A TTL of 0 becomes 255.
#[inline]
pub fn decrement_ttl(header: &mut [u8; HEADER_LEN]) {
    let [ttl, protocol] = [header[TTL_OFFSET], header[TTL_OFFSET + 1]];
    let less = ttl.wrapping_sub(1);
    let old = u16::from_be_bytes([header[CHECKSUM_OFFSET], header[CHECKSUM_OFFSET + 1]]);
    let new = checksum::update(old, &[ttl, protocol], &[less, protocol]);
    header[TTL_OFFSET] = less;
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&new.to_be_bytes());
}

/// Compute and store the checksum of a header, options included: exactly these bytes.
///
/// # Errors
/// When they are fewer than a header has.
pub fn set_checksum(header: &mut [u8]) -> Result<(), super::Truncated> {
    let (fixed, _) = Header::mut_from_prefix(header).map_err(|_| super::Truncated)?;
    fixed.checksum = U16::ZERO;
    let checksum = checksum::sum(header).checksum();
    let (fixed, _) = Header::mut_from_prefix(header).map_err(|_| super::Truncated)?;
    fixed.checksum = U16::new(checksum);
    Ok(())
}

/// Whether the checksum of a header, options included, is right: exactly these bytes (RFC 1071 1).
#[must_use]
#[inline]
pub fn is_valid(header: &[u8]) -> bool {
    checksum::sum(header).fold() == 0xffff
}

/// Why a packet is not acceptable: RFC 1812 5.2.2, in the order of its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than a header, than the header says the header is, or than it says the packet is (1, 5).
    #[error("shorter than its headers say")]
    Truncated,
    /// The checksum is wrong (2).
    #[error("IPv4 header checksum is wrong")]
    Checksum,
    /// Not version 4 (3).
    #[error("IP version is {0}, not 4")]
    Version(u8),
    /// A header length below 20 bytes (4).
    #[error("IPv4 header length of {0} bytes")]
    HeaderLength(usize),
    /// A total length that does not even hold the header (5).
    #[error("IPv4 total length of {0} bytes is shorter than the header")]
    TotalLength(usize),
}

/// A packet in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The fixed header.
    pub header: &'a Header,
    /// Options with their padding; empty in most packets.
    pub options: &'a [u8],
    /// What follows, up to the total length.
    pub payload: &'a [u8],
}

/// The packet at the start of `bytes`; what lies behind its total length (Ethernet padding) is ignored.
///
/// # Errors
/// When RFC 1812 5.2.2 says that it is to be discarded.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, Error> {
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| Error::Truncated)?;
    if header.version() != 4 {
        return Err(Error::Version(header.version()));
    }
    let (header_len, total_len) = (header.header_len(), header.total_len());
    if header_len < HEADER_LEN {
        return Err(Error::HeaderLength(header_len));
    }
    let summed = bytes.get(..header_len).ok_or(Error::Truncated)?;
    if !is_valid(summed) {
        return Err(Error::Checksum);
    }
    if total_len < header_len {
        return Err(Error::TotalLength(total_len));
    }
    let payload = bytes.get(header_len..total_len).ok_or(Error::Truncated)?;
    let options = summed.get(HEADER_LEN..).unwrap_or(&[]);
    Ok(Packet {
        header,
        options,
        payload,
    })
}

#[cfg(test)]
mod tests;
