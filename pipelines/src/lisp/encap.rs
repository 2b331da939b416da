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

/// The headers of a flow's packets without a UDP checksum, in words as they stand in a packet, read in little-endian order: what
/// [`write_v6`] and [`write_v4`] make anew each time. The inner packets are IPv6.
pub(crate) type Prepared = [u64; 7];

/// What of an inner IPv6 header stands in the outer header: its first two bytes, in which the class is, and the hop limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inherited {
    pub(crate) first: [u8; 2],
    pub(crate) hop_limit: u8,
}

/// [`Prepared`] for the flow with this hash to this locator; to be [adapted](adapt) to a packet.
pub(crate) fn prepare(rules: Rules, locator: Locator<'_>, hash: u64) -> Prepared {
    let inner = Inner {
        len: 0,
        class: 0,
        hop_limit: 0,
        hash,
        is_v4: false,
    };
    let mut headers = [0; V6_LEN];
    if locator.state().is_v4 {
        let front = headers.first_chunk_mut().expect("36 of 56 bytes");
        write_v4(rules, locator, &inner, front);
    } else {
        write_v6(rules, locator, &inner, &mut headers);
    }
    words_of(&headers)
}

/// Make them the headers of a packet that is so long, from which they inherit this.
#[inline(always)]
pub(crate) fn adapt(
    prepared: &mut Prepared,
    is_v4: bool,
    rules: Rules,
    inner: Inherited,
    len: usize,
) {
    let [high, low] = inner.first;
    let class = (high << 4 | low >> 4) & rules.class_mask;
    let hop_limit = u64::from(inner.hop_limit);
    let in_order = |len: usize| u64::from((len as u16).swap_bytes()); // `as`: a packet's length, which fits 16 bits
    let udp_len = in_order(len + INNER_OFFSET);
    let [start, middle, end, udp_v4, _, udp_v6, _] = prepared;
    if is_v4 {
        *start = *start & !0xffff_ff00 | u64::from(class) << 8 | in_order(len + V4_LEN) << 16;
        *middle = *middle & !0xffff_00ff | hop_limit;
        // Right in any order of the bytes, and in numbers of any width (RFC 1071 2).
        let halves = |word: u64| (word >> 32) + (word & 0xffff_ffff);
        let sum = halves(*start) + halves(*middle) + (*end & 0xffff_ffff);
        let sum = (sum >> 32) + (sum >> 16 & 0xffff) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        *middle |= (!sum & 0xffff) << 16;
        *udp_v4 = *udp_v4 & !0xffff | udp_len;
    } else {
        let class = u64::from(u16::from_le_bytes([class >> 4, class << 4]));
        *start = *start & !0xff00_ffff_0000_f00f | class | udp_len << 32 | hop_limit << 56;
        *udp_v6 = *udp_v6 & !(0xffff << 32) | udp_len << 32;
    }
}

fn words_of(headers: &[u8; V6_LEN]) -> Prepared {
    let (words, _) = headers.as_chunks();
    std::array::from_fn(|at| u64::from_le_bytes(words[at]))
}

/// Write as much of them as there is room for.
#[inline(always)]
pub(crate) fn write<const LEN: usize>(prepared: &Prepared, headers: &mut [u8; LEN]) {
    let prepared = *prepared;
    let (words, end) = headers.as_chunks_mut();
    for (place, word) in words.iter_mut().zip(prepared) {
        *place = word.to_le_bytes();
    }
    if let Some(word) = prepared.get(LEN / 8) {
        end.copy_from_slice(&word.to_le_bytes()[..LEN % 8]);
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
