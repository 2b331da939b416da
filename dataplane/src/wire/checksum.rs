//! The Internet checksum: RFC 1071 (computing), RFC 1624 (updating), RFC 8200 8.1 (IPv6 pseudo-header), RFC 768 (that of IPv4).
//!
//! A [`Sum`] accumulates 16-bit words in the machine's byte order, which only swaps the bytes of the result (RFC 1071
//! 2 B); [`Sum::fold`] swaps them back. The words are added four and more at a time into 64-bit lanes, without carries
//! to propagate, so that the compiler can use vector instructions.

use std::ops::{Add, AddAssign, Neg};

use super::ipv6::proto;

/// A one's complement sum in the making. Parts may be added in any order, but every part except the last must have an
/// even number of bytes: an odd one is padded with a zero byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// One 16-bit word, in host order.
    #[must_use]
    #[inline]
    pub const fn word(value: u16) -> Self {
        Self(value.to_be() as u64) // `as`: widening, and `from` is not const
    }

    /// The 16-bit one's complement sum. Zero only for the sum of nothing but zeros.
    #[must_use]
    #[inline]
    pub const fn fold(self) -> u16 {
        // 64 bits to 33, 18, 17 and 16: each half is added to the other with its carry.
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16) // `as`: at most 0xffff after the last fold
    }

    /// The value that goes into a checksum field: the complement of the sum.
    #[must_use]
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

impl Add for Sum {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        // End-around carry; cannot overflow again.
        Self(sum + u64::from(carry))
    }
}

impl AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Neg for Sum {
    type Output = Self;

    /// What takes this sum out of another one again.
    #[inline]
    fn neg(self) -> Self {
        Self(!self.0)
    }
}

/// Sum bytes as 16-bit words; an odd last byte is the high byte of a word (RFC 1071 4.1).
#[must_use]
#[inline]
pub fn sum(bytes: &[u8]) -> Sum {
    const LANES: usize = 4;
    // A lane takes two 32-bit values from each block, so it cannot overflow below 64 GiB.
    let mut lanes = [0_u64; LANES];
    let (blocks, rest) = bytes.as_chunks::<{ LANES * 8 }>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += halves(u64::from_ne_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        total += halves(u64::from_ne_bytes(*word));
    }
    // At most seven bytes, in pieces: copying them into a word stalls on store forwarding, three times as slow.
    let mut rest = rest;
    if let Some((piece, after)) = rest.split_first_chunk::<4>() {
        total += u64::from(u32::from_ne_bytes(*piece));
        rest = after;
    }
    if let Some((piece, after)) = rest.split_first_chunk::<2>() {
        total += u64::from(u16::from_ne_bytes(*piece));
        rest = after;
    }
    if let Some(byte) = rest.first() {
        total += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    Sum(total)
}

/// Both 32-bit halves added: congruent to the word, and 31 bits away from overflow.
#[inline]
const fn halves(word: u64) -> u64 {
    (word >> 32) + (word & 0xffff_ffff)
}

/// The pseudo-header of an upper-layer packet of `len` bytes (RFC 8200 8.1). With a routing header the destination is
/// the final one.
#[must_use]
#[inline]
pub fn pseudo_header(source: &[u8; 16], destination: &[u8; 16], len: u32, protocol: u8) -> Sum {
    sum(source) + sum(destination) + Sum(u64::from(len.to_be())) + Sum::word(u16::from(protocol))
}

/// The pseudo-header of an upper-layer packet of `len` bytes in IPv4 (RFC 768, RFC 9293 3.1).
#[must_use]
#[inline]
pub fn pseudo_header_v4(source: &[u8; 4], destination: &[u8; 4], len: u16, protocol: u8) -> Sum {
    sum(source) + sum(destination) + Sum::word(len) + Sum::word(u16::from(protocol))
}

/// The checksum to store in an upper-layer packet whose checksum field is zero now. For UDP a result of zero becomes
/// 0xffff, because zero means "none" there (RFC 8200 8.1).
#[must_use]
pub fn upper_layer(source: &[u8; 16], destination: &[u8; 16], protocol: u8, bytes: &[u8]) -> u16 {
    let checksum = total(source, destination, protocol, bytes).checksum();
    if checksum == 0 && protocol == proto::UDP {
        return 0xffff;
    }
    checksum
}

/// Whether the checksum inside an upper-layer packet is right. Says nothing about UDP without a checksum, which IPv6
/// does not allow (RFC 8200 8.1) and which is almost never right by chance.
#[must_use]
pub fn is_valid(source: &[u8; 16], destination: &[u8; 16], protocol: u8, bytes: &[u8]) -> bool {
    total(source, destination, protocol, bytes).fold() == 0xffff
}

fn total(source: &[u8; 16], destination: &[u8; 16], protocol: u8, bytes: &[u8]) -> Sum {
    // `as`: a packet is far below 4 GiB
    pseudo_header(source, destination, bytes.len() as u32, protocol) + sum(bytes)
}

/// The checksum after `old_bytes` became `new_bytes` (RFC 1624 3, equation 3). Both start at an even offset of what is
/// summed and have an even length, not necessarily the same. The caller decides what a zero means (UDP: none).
#[must_use]
#[inline]
pub fn update(old_checksum: u16, old_bytes: &[u8], new_bytes: &[u8]) -> u16 {
    (Sum::word(!old_checksum) + -sum(old_bytes) + sum(new_bytes)).checksum()
}

/// What changes in a sum, in 16 bits: for many checksums that change alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(u16);

impl Change {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// What comes.
    #[must_use]
    #[inline]
    pub const fn of(sum: Sum) -> Self {
        Self(sum.fold().to_be())
    }

    /// A word that comes, in host order.
    #[must_use]
    #[inline]
    pub const fn word(value: u16) -> Self {
        Self(value.to_be())
    }
}

impl Neg for Change {
    type Output = Self;

    /// What came goes again.
    #[inline]
    fn neg(self) -> Self {
        Self(!self.0)
    }
}

/// A checksum as it stands in a packet, after at most 2^15 changes, some of which are not [`Change::NONE`] (RFC 1624 3,
/// equation 3). The caller decides what a zero means.
#[must_use]
#[inline(always)] // three instructions and one more for each change
pub fn changed<const N: usize>(checksum: [u8; 2], changes: [Change; N]) -> [u8; 2] {
    let start = u32::from(!u16::from_ne_bytes(checksum));
    // Another 0: all ones, so that what sums up to zero is no zero bits.
    let sum = changes
        .iter()
        .fold(start + 0xffff, |sum, change| sum + u32::from(change.0));
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    (!sum as u16).to_ne_bytes() // `as`: at most 0xffff after the last fold
}

#[cfg(test)]
mod tests;
