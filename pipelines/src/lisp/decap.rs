//! Decapsulation: every check of an encapsulated packet, and what its outer header changes in the inner one (RFC 9300
//! 5.3, RFC 6040 4.2).
//!
//! A pure function over bytes. The caller has seen that the packet is UDP to the LISP port of one of our own RLOCs.

use dataplane::reason::DropReason;
use dataplane::wire::checksum::{self, Sum};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::lisp::{HEADER_LEN, Header, flags, next_protocol};
use dataplane::wire::{FromBytes, udp};

use super::template::IPV4_LEN;
use super::view::Rules;

/// Congestion experienced.
const CE: u8 = 3;

/// An inner packet that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Where it begins in the outer one, bytes.
    pub(crate) offset: usize,
    /// Its bytes.
    pub(crate) len: usize,
    /// Whether it is IPv4.
    pub(crate) is_v4: bool,
    /// The instance id of its header.
    pub(crate) instance: u32,
}

/// Open a packet whose outer header is sane, and has no options or extension headers. `packet` begins with it.
///
/// # Errors
/// Why it must be dropped.
#[inline(always)]
pub(crate) fn open(rules: Rules, packet: &mut [u8], is_v4: bool) -> Result<Opened, DropReason> {
    let outer_len = if is_v4 { IPV4_LEN } else { ipv6::HEADER_LEN };
    let (outer, datagram) = packet
        .split_at_mut_checked(outer_len)
        .ok_or(DropReason::Truncated)?;
    let (outer_class, outer_hop_limit) = class_and_hop_limit(outer, is_v4)?;
    let Some((head, inner)) = datagram.split_first_chunk_mut::<{ udp::HEADER_LEN + HEADER_LEN }>()
    else {
        return Err(DropReason::LispLength);
    };
    let udp_len = usize::from(u16::from_be_bytes([head[4], head[5]]));
    let Some(inner) = udp_len
        .checked_sub(head.len())
        .and_then(|len| inner.get_mut(..len))
    else {
        return Err(DropReason::LispLength);
    };
    // D-10: none is fine; one that is there must be right.
    if head[6..8] != [0, 0] && !is_checksum_right(outer, head, inner, is_v4) {
        return Err(DropReason::LispUdpChecksum);
    }
    let Ok((header, _)) = Header::read_from_prefix(&head[udp::HEADER_LEN..]) else {
        return Err(DropReason::LispLength);
    };
    // D-07.
    if header.flags & flags::KEY != 0 {
        return Err(DropReason::LispEncrypted);
    }
    let inner_is_v4 = match inner.first().map(|first| first >> 4) {
        Some(6) => false,
        Some(4) => true,
        _ => return Err(DropReason::LispInnerVersion),
    };
    // K-01, K-02: without RFC 9305 the flag is reserved and ignored (D-05).
    if rules.gpe && header.flags & flags::NEXT_PROTOCOL != 0 {
        let expected = if inner_is_v4 {
            next_protocol::IPV4
        } else {
            next_protocol::IPV6
        };
        if header.last[3] != expected {
            return Err(DropReason::LispNextProtocol);
        }
    }
    let len = if inner_is_v4 {
        accept_v4(rules, inner, outer_class, outer_hop_limit)?
    } else {
        accept_v6(rules, inner, outer_class, outer_hop_limit)?
    };
    Ok(Opened {
        offset: outer_len + head.len(),
        len,
        is_v4: inner_is_v4,
        instance: header.instance(),
    })
}

#[inline(always)]
fn class_and_hop_limit(header: &[u8], is_v4: bool) -> Result<(u8, u8), DropReason> {
    match *header {
        [_, class, _, _, _, _, _, _, hop_limit, ..] if is_v4 => Ok((class, hop_limit)),
        [a, b, _, _, _, _, _, hop_limit, ..] => Ok((a << 4 | b >> 4, hop_limit)),
        _ => Err(DropReason::Truncated),
    }
}

#[cold]
#[inline(never)]
fn is_checksum_right(outer: &[u8], head: &[u8], inner: &[u8], is_v4: bool) -> bool {
    // What the UDP length counts, which stands in both the pseudo-header and the UDP header.
    let udp_len = head.get(4..6).unwrap_or(&[]);
    let addresses = if is_v4 {
        outer.get(12..20)
    } else {
        outer.get(8..40)
    };
    let pseudo = checksum::sum(addresses.unwrap_or(&[]))
        + checksum::sum(udp_len)
        + Sum::word(u16::from(proto::UDP));
    (pseudo + checksum::sum(head) + checksum::sum(inner)).checksum() == 0
}

/// The inner traffic class (D-14, D-16), or that the packet must be dropped: congestion that its sender could not be told
/// of (RFC 6040 4.2).
#[inline(always)]
pub(crate) fn class_of(rules: Rules, inner: u8, outer: u8) -> Result<u8, DropReason> {
    let ecn = match (inner & 3, outer & 3) {
        (0, CE) => return Err(DropReason::LispEcn),
        (CE, _) | (1 | 2, CE) => CE,
        (2, 1) => 1,
        (inner, _) => inner,
    };
    // Uniform: the outer code point. Pipe: the inner one.
    let code_point = if rules.class_mask & 0xfc != 0 {
        outer
    } else {
        inner
    };
    Ok(code_point & 0xfc | ecn)
}

/// Check an inner IPv6 packet and write what changes; its length.
#[inline(always)]
fn accept_v6(
    rules: Rules,
    inner: &mut [u8],
    outer_class: u8,
    outer_hop_limit: u8,
) -> Result<usize, DropReason> {
    let available = inner.len();
    let Some(header) = inner.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return Err(DropReason::LispInnerLength);
    };
    let len = header.len() + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if len > available {
        return Err(DropReason::LispInnerLength);
    }
    let is_ordinary = |first: u8| first != 0 && first < 0xfe;
    if !is_ordinary(header[8]) || !is_ordinary(header[24]) {
        judge_v6(header)?;
    }
    if header[7] == 0 {
        return Err(DropReason::LispInnerHopLimit);
    }
    // D-15.
    header[7] = header[7].min(outer_hop_limit);
    let class = header[0] << 4 | header[1] >> 4;
    if class != outer_class {
        let class = class_of(rules, class, outer_class)?;
        header[0] = 0x60 | class >> 4;
        header[1] = header[1] & 0x0f | class << 4;
    }
    Ok(len)
}

/// D-28: no source or destination that must not have travelled.
#[cold]
#[inline(never)]
fn judge_v6(header: &[u8; ipv6::HEADER_LEN]) -> Result<(), DropReason> {
    let address = |at: usize| {
        let bytes = header[at..].first_chunk::<16>().expect("16 of 40 bytes");
        std::net::Ipv6Addr::from(*bytes)
    };
    let (source, destination) = (address(8), address(24));
    // As of a packet that comes on a link: the host table knows IPv4 addresses by these.
    if source.to_ipv4_mapped().is_some() {
        return Err(DropReason::LispInnerSource);
    }
    if destination.to_ipv4_mapped().is_some() {
        return Err(DropReason::LispInnerDestination);
    }
    if source.is_unspecified()
        || source.is_loopback()
        || source.is_multicast()
        || source.is_unicast_link_local()
    {
        return Err(DropReason::LispInnerSource);
    }
    if destination.is_unspecified()
        || destination.is_loopback()
        || destination.is_multicast()
        || destination.is_unicast_link_local()
    {
        return Err(DropReason::LispInnerDestination);
    }
    Ok(())
}

/// Check an inner IPv4 packet and write what changes; its length.
#[inline(always)]
fn accept_v4(
    rules: Rules,
    inner: &mut [u8],
    outer_class: u8,
    outer_hop_limit: u8,
) -> Result<usize, DropReason> {
    let available = inner.len();
    let Some(
        [
            start,
            class,
            a,
            b,
            _,
            _,
            _,
            _,
            ttl,
            _,
            _,
            _,
            source,
            s2,
            _,
            _,
            destination,
            d2,
            ..,
        ],
    ) = inner.first_chunk::<IPV4_LEN>().copied()
    else {
        return Err(DropReason::LispInnerLength);
    };
    let len = usize::from(u16::from_be_bytes([a, b]));
    let header_len = usize::from(start & 0x0f) * 4;
    if len > available || header_len < IPV4_LEN || len < header_len {
        return Err(DropReason::LispInnerLength);
    }
    let Some(header) = inner.get_mut(..header_len) else {
        return Err(DropReason::LispInnerLength);
    };
    if checksum::sum(header).checksum() != 0 {
        return Err(DropReason::LispInnerChecksum);
    }
    if is_martian(source, s2) {
        return Err(DropReason::LispInnerSource);
    }
    if is_martian(destination, d2) {
        return Err(DropReason::LispInnerDestination);
    }
    if ttl == 0 {
        return Err(DropReason::LispInnerHopLimit);
    }
    let new_class = if class == outer_class {
        class
    } else {
        class_of(rules, class, outer_class)?
    };
    let new_ttl = ttl.min(outer_hop_limit);
    if (new_class, new_ttl) != (class, ttl)
        && let [
            start,
            class_at,
            _,
            _,
            _,
            _,
            _,
            _,
            ttl_at,
            protocol,
            c0,
            c1,
            ..,
        ] = header
    {
        let old = [*start, *class_at, *ttl_at, *protocol];
        (*class_at, *ttl_at) = (new_class, new_ttl);
        let new = [*start, *class_at, *ttl_at, *protocol];
        let checksum = checksum::update(u16::from_be_bytes([*c0, *c1]), &old, &new);
        [*c0, *c1] = checksum.to_be_bytes();
    }
    Ok(len)
}

/// This network, loopback, link-local, multicast, reserved, broadcast (RFC 1122 3.2.1.3, RFC 3927).
#[inline(always)]
fn is_martian(first: u8, second: u8) -> bool {
    matches!(first, 0 | 127 | 224..) || (first, second) == (169, 254)
}
