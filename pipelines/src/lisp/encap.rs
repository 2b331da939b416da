//! Encapsulation: the outer header of one packet (RFC 9300 5.3, 9), from a locator's template and the packet itself.
//!
//! Pure functions over bytes. Which locator, and whether the packet fits, the caller has decided; it has counted the
//! inner hop as well (D-18).

use dataplane::wire::checksum::{self, Sum};
use dataplane::wire::ipv6::proto;
use dataplane::wire::lisp::{DATA_PORT, next_protocol};

use super::flow;
use super::table::Locator;
use super::template::INNER_OFFSET;
use super::view::Rules;

/// Bytes of the headers over IPv6.
pub(crate) const V6_LEN: usize = 56;
/// Bytes of the headers over IPv4.
pub(crate) const V4_LEN: usize = 36;

/// What the outer header takes from the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inner {
    /// Bytes of the packet.
    pub(crate) len: usize,
    /// Traffic class or type of service.
    pub(crate) class: u8,
    /// Hop limit or TTL, as the packet will have it.
    pub(crate) hop_limit: u8,
    /// [`flow`]'s hash.
    pub(crate) hash: u64,
    /// Whether it is IPv4.
    pub(crate) is_v4: bool,
}

impl Inner {
    /// The outer traffic class: the inner one, or of it the congestion notification alone (D-13, D-14; RFC 6040 4.1).
    #[inline(always)]
    fn outer_class(&self, rules: Rules) -> u8 {
        self.class & rules.class_mask
    }

    /// UDP header without checksum, as a number in network order.
    #[inline(always)]
    fn udp(&self) -> u64 {
        let ports = u64::from(flow::source_port(self.hash)) << 48 | u64::from(DATA_PORT) << 32;
        // D-12. `as`: a packet's length, which fits 16 bits.
        ports | (self.len as u64 + 16) << 16
    }

    /// The LISP header's word, as it stands in the packet.
    #[inline(always)]
    fn lisp(&self, rules: Rules, locator: Locator<'_>) -> u64 {
        let word = locator.word(5);
        if !rules.gpe {
            return word;
        }
        let next = if self.is_v4 {
            next_protocol::IPV4
        } else {
            next_protocol::IPV6
        };
        word | u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, next])
    }
}

/// Write IPv6, UDP and LISP header.
#[inline(always)]
pub(crate) fn write_v6(
    rules: Rules,
    locator: Locator<'_>,
    inner: &Inner,
    headers: &mut [u8; V6_LEN],
) {
    let class = u64::from(inner.outer_class(rules));
    let label = u64::from(flow::label(inner.hash));
    let len = inner.len as u64 + 16; // `as`: a packet's length
    // D-13: the outer hop limit is the inner one.
    let end = u64::from(proto::UDP) << 8 | u64::from(inner.hop_limit);
    let start = 6 << 60 | class << 52 | label << 32 | (len & 0xffff) << 16 | end;
    let words = [
        start.to_be(),
        locator.word(1),
        locator.word(2),
        locator.word(3),
        locator.word(4),
        inner.udp().to_be(),
        inner.lisp(rules, locator),
    ];
    for (place, word) in headers.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
}

/// Write IPv4, UDP and LISP header. F-05: "don't fragment" is set, so the identification means nothing (RFC 6864 4.1).
#[inline(always)]
pub(crate) fn write_v4(
    rules: Rules,
    locator: Locator<'_>,
    inner: &Inner,
    headers: &mut [u8; V4_LEN],
) {
    let class = u64::from(inner.outer_class(rules));
    let len = inner.len as u64 + 36; // `as`: a packet's length
    let start = 0x45 << 56 | class << 48 | (len & 0xffff) << 32 | 0x4000;
    let constant = locator.word(6) as u32 & 0xffff; // `as`: the lower 16 bits
    let hop = u32::from(inner.hop_limit) << 8;
    let sum = constant + class as u32 + (len as u32 & 0xffff) + hop; // `as`: small numbers
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let ttl = (hop | u32::from(proto::UDP)) << 16 | (!sum & 0xffff);
    headers[..8].copy_from_slice(&start.to_be_bytes());
    headers[8..12].copy_from_slice(&ttl.to_be_bytes());
    headers[12..20].copy_from_slice(&locator.word(1).to_ne_bytes());
    headers[20..28].copy_from_slice(&inner.udp().to_be_bytes());
    headers[28..].copy_from_slice(&inner.lisp(rules, locator).to_ne_bytes());
}

/// The headers of a flow without a UDP checksum, as far as they are the same for all its packets: what [`write_v6`] and
/// [`write_v4`] make anew each time. The inner packets are IPv6.
///
/// Words as they stand in a packet, read in little-endian order. What differs is 0 over IPv6, over IPv4 it is written over; and there the
/// upper half of the fifth is the sum of the constant 16-bit words of the IP header, each of them read in that order too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared<'f>(pub(crate) &'f [u64; 7]);

/// What of an inner IPv6 header stands in the outer header: its first two bytes, in which the class is, and the hop limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inherited {
    pub(crate) first: [u8; 2],
    pub(crate) hop_limit: u8,
}

/// A length where both the first word of an IPv6 header and a UDP header have it, of a packet read in little-endian order.
#[inline(always)]
fn at_length(len: usize) -> u64 {
    u64::from((len as u16).swap_bytes()) << 32 // `as`: a packet's length, which fits 16 bits
}

/// [`Prepared`] for the flow with this hash to this locator.
pub(crate) fn prepare(rules: Rules, locator: Locator<'_>, hash: u64) -> [u64; 7] {
    let inner = Inner {
        len: 0,
        class: 0,
        hop_limit: 0,
        hash,
        is_v4: false,
    };
    let lengths = !at_length(0xffff);
    let mut words = [0; 7];
    let mut headers = [0; V6_LEN];
    if locator.state().is_v4 {
        let (front, _) = headers.split_first_chunk_mut().expect("36 of 56 bytes");
        write_v4(rules, locator, &inner, front);
        let constant = (locator.word(6) as u16).swap_bytes(); // `as`: the lower 16 bits
        headers[V4_LEN..V4_LEN + 2].copy_from_slice(&constant.to_le_bytes());
        for (word, bytes) in words.iter_mut().zip(headers.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
    } else {
        write_v6(rules, locator, &inner, &mut headers);
        for (word, bytes) in words.iter_mut().zip(headers.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words[0] &= lengths;
        words[5] &= lengths;
    }
    words
}

impl Prepared<'_> {
    /// IPv6, UDP and LISP header of a packet of so many bytes.
    #[inline(always)]
    pub(crate) fn write_v6(
        &self,
        rules: Rules,
        inner: Inherited,
        len: usize,
        headers: &mut [u8; V6_LEN],
    ) {
        let len = at_length(len + INNER_OFFSET);
        let [start, a, b, c, d, udp, lisp] = *self.0;
        let mask = u16::from_le_bytes([rules.class_mask >> 4, rules.class_mask << 4]);
        let class = u64::from(u16::from_le_bytes(inner.first) & mask);
        let hop_limit = u64::from(inner.hop_limit) << 56;
        let words = [start | class | hop_limit | len, a, b, c, d, udp | len, lisp];
        for (place, word) in headers.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
    }

    /// The same with an IPv4 header.
    #[inline(always)]
    pub(crate) fn write_v4(
        &self,
        rules: Rules,
        inner: Inherited,
        len: usize,
        headers: &mut [u8; V4_LEN],
    ) {
        let [a, b, c, d, last, _, _] = *self.0;
        let (words, end) = headers.as_chunks_mut();
        for (place, word) in words.iter_mut().zip([a, b, c, d]) {
            *place = word.to_le_bytes();
        }
        // `as`: the lower and the upper half.
        end.copy_from_slice(&(last as u32).to_le_bytes());
        let constant = (last >> 32) as u32;

        // The class stands between the version and the flow label.
        let class = (u16::from_be_bytes(inner.first) >> 4) as u8 & rules.class_mask; // `as`: one byte
        let hop_limit = inner.hop_limit;
        let total = ((len + V4_LEN) as u16).swap_bytes(); // `as`: a packet's length, which fits 16 bits
        // A sum is right in either order of the bytes (RFC 1071 2).
        let sum = constant + (u32::from(class) << 8) + u32::from(total) + u32::from(hop_limit);
        let sum = (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16; // `as`: the upper half
        headers[1] = class;
        headers[2..4].copy_from_slice(&total.to_le_bytes());
        headers[8] = hop_limit;
        headers[10..12].copy_from_slice(&(!sum).to_le_bytes());
        let udp_len = (len + INNER_OFFSET) as u16; // `as`: a packet's length
        headers[24..26].copy_from_slice(&udp_len.to_be_bytes());
    }
}

/// The UDP checksum over what [`write_v6`] or [`write_v4`] wrote and the inner packet. Never 0, which means none (RFC 768).
#[inline(never)]
pub(crate) fn udp_checksum(
    rules: Rules,
    locator: Locator<'_>,
    inner: &Inner,
    packet: &[u8],
) -> u16 {
    let len = inner.len as u16 + 16; // `as`: a packet's length, which fits 16 bits
    let constant = Sum::word((locator.word(6) >> 16) as u16); // `as`: 16 bits of it
    let mut sum = constant + Sum::word(flow::source_port(inner.hash));
    sum += Sum::word(len) + Sum::word(len) + checksum::sum(packet);
    if rules.gpe {
        let next = if inner.is_v4 {
            next_protocol::IPV4
        } else {
            next_protocol::IPV6
        };
        sum += Sum::word(u16::from(next));
    }
    match sum.checksum() {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// Whether a packet is encapsulated twice already (D-19).
pub(crate) fn is_nested(packet: &[u8], is_v4: bool) -> bool {
    let inner = |packet: &[u8], is_v4: bool| -> Option<(usize, bool)> {
        let (protocol, header_len) = if is_v4 {
            (*packet.get(9)?, usize::from(*packet.first()? & 0x0f) * 4)
        } else {
            (*packet.get(6)?, 40)
        };
        let port = packet.get(header_len + 2..)?.first_chunk()?;
        let is_lisp = protocol == proto::UDP && u16::from_be_bytes(*port) == DATA_PORT;
        let version = packet.get(header_len + 16)? >> 4;
        (is_lisp && (version == 4 || version == 6)).then_some((header_len + 16, version == 4))
    };
    let Some((offset, next_is_v4)) = inner(packet, is_v4) else {
        return false;
    };
    packet
        .get(offset..)
        .is_some_and(|packet| inner(packet, next_is_v4).is_some())
}
