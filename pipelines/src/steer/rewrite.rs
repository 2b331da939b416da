//! The packet step of translation: other addresses and ports, and checksums that follow (RFC 1624).
//!
//! One function for every mode and direction: what each end of the packet is from now on. An ICMPv6 error is about a
//! packet that went the other way, so the ends of its quote change places, and so that whoever gets it knows the packet it
//! quotes. Checksums are updated by what changed and never computed anew: a packet that was damaged stays so.

use dataplane::reason::DropReason;
use dataplane::wire::checksum::{self, Change, Sum, sum};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6, tcp, udp};

use crate::words::Words;

const SOURCE: usize = 8;
const DESTINATION: usize = 24;
/// Offset of the identifier in an ICMPv6 echo (RFC 4443 4.1).
const IDENTIFIER: usize = 4;

/// What one end of a packet is from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) address: [u8; 16],
    /// Of an echo, who asks has its identifier here. `None`: as it is.
    pub(crate) port: Option<u16>,
}

/// Both ends; `None`: as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ends {
    pub(crate) source: Option<End>,
    pub(crate) destination: Option<End>,
}

impl Ends {
    /// Those of a packet that goes the other way.
    fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// What both ends of a packet with ports are from now on, and what that changes in a sum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    pub(crate) source: Words,
    pub(crate) destination: Words,
    /// Source, then destination.
    pub(crate) ports: [u16; 2],
    pub(crate) changes: [Change; 3],
}

/// Where things stand in an upper-layer header.
struct Places {
    source_port: Option<usize>,
    destination_port: Option<usize>,
    /// `None`: addresses and ports are in no checksum.
    checksum: Option<usize>,
    /// A checksum of zero means none, which is what one that comes out as zero must not say.
    zero_is_none: bool,
}

/// Whether [`common`] may do it: TCP, or UDP with a checksum, right behind the IPv6 header.
#[inline(always)]
pub(crate) fn is_common(packet: &[u8]) -> bool {
    let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return false;
    };
    match header[6] {
        proto::TCP => payload.len() >= tcp::HEADER_LEN,
        proto::UDP => payload
            .first_chunk::<{ udp::HEADER_LEN }>()
            .is_some_and(|header| header[udp::CHECKSUM_OFFSET..] != [0, 0]),
        _ => false,
    }
}

/// Translate a packet that [`is_common`]; any other is as it was.
#[inline(always)]
pub(crate) fn common(packet: &mut [u8], ends: &Ends) {
    let Some((header, payload)) = packet.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return;
    };
    let is_udp = header[6] == proto::UDP;
    let changed = addresses(header, ends);
    if is_udp {
        if let Some(udp) = payload.first_chunk_mut::<{ udp::HEADER_LEN }>() {
            let changed = changed + ports(udp, ends);
            update(udp, udp::CHECKSUM_OFFSET, changed, true);
        }
    } else if let Some(tcp) = payload.first_chunk_mut::<{ tcp::HEADER_LEN }>() {
        let changed = changed + ports(tcp, ends);
        update(tcp, tcp::CHECKSUM_OFFSET, changed, false);
    }
}

/// The same as [`common`] of the destination, when what its address changes in a sum is known.
#[inline(always)]
pub(crate) fn destination(packet: &mut [u8], end: &End, changes: [Change; 2]) {
    let Some((header, payload, at)) = with_checksum(packet) else {
        return;
    };
    let is_udp = header[6] == proto::UDP;
    header[DESTINATION..].copy_from_slice(&end.address);
    let [gone, come] = changes;
    if let Some(port) = end.port
        && let Some([_, _, place @ ..]) = payload.first_chunk_mut::<4>()
    {
        let before = u16::from_be_bytes(std::mem::replace(place, port.to_be_bytes()));
        let ports = [-Change::word(before), Change::word(port)];
        follow(payload, at, [gone, come, ports[0], ports[1]], is_udp);
    } else {
        follow(payload, at, changes, is_udp);
    }
}

/// The same as [`common`] of both ends.
#[inline(always)]
pub(crate) fn whole(packet: &mut [u8], whole: &Whole) {
    let Some((header, payload, at)) = with_checksum(packet) else {
        return;
    };
    let is_udp = header[6] == proto::UDP;
    let words = whole.source.iter().chain(&whole.destination);
    for (place, word) in header[SOURCE..].as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
    let [source, destination] = whole.ports.map(u16::to_be_bytes);
    if let Some(ports) = payload.first_chunk_mut() {
        *ports = [source[0], source[1], destination[0], destination[1]];
    }
    follow(payload, at, whole.changes, is_udp);
}

/// The header of a packet that [`is_common`], what follows, and where in that its checksum stands.
#[inline(always)]
fn with_checksum(packet: &mut [u8]) -> Option<(&mut [u8; ipv6::HEADER_LEN], &mut [u8], usize)> {
    let (header, payload) = packet.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
    let at = match header[6] {
        proto::UDP => udp::CHECKSUM_OFFSET,
        _ => tcp::CHECKSUM_OFFSET,
    };
    (payload.len() >= at + 2).then_some((header, payload, at))
}

/// Translate any packet.
///
/// # Errors
/// Why it cannot be; it is then as it was.
pub(crate) fn translate(packet: &mut [u8], ends: &Ends) -> Result<(), DropReason> {
    if is_common(packet) {
        common(packet, ends);
        return Ok(());
    }
    let Some((header, payload)) = packet.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return Err(DropReason::SteerHeaders);
    };
    let upper = ext::walk(header[6], payload).map_err(|_| DropReason::SteerHeaders)?;
    if upper.routing_segments_left > 0 {
        // Its destination is not the one in the header, nor is that in its checksum (RFC 8200 8.1).
        return Err(DropReason::SteerHeaders);
    }
    let fragment = upper.fragment.filter(|piece| piece.offset_bytes > 0);
    if fragment.is_some() {
        addresses(header, ends);
        return Ok(());
    }
    let message = payload.get_mut(upper.offset..).unwrap_or(&mut []);
    if upper.protocol == proto::ICMPV6
        && message.first().is_some_and(|kind| icmpv6::is_error(*kind))
    {
        return translate_error(header, message, ends);
    }
    let places = places(upper.protocol, message)?;
    let checksum = places.checksum.map(|at| at..at + 2);
    match checksum.map(|range| message.get(range)) {
        Some(None) => return Err(DropReason::SteerHeaders),
        Some(Some([0, 0])) if places.zero_is_none => return Err(DropReason::SteerChecksum),
        Some(Some(_)) => {}
        // The checksum of SCTP has no addresses in it, but ports (RFC 9260 6.8).
        None if changes_ports(ends) => return Err(DropReason::SteerProtocol),
        None => {}
    }
    let mut changed = addresses(header, ends);
    for (at, port) in ports_at(&places, ends) {
        changed += replace(message, at, &port.to_be_bytes());
    }
    if let Some(at) = places.checksum {
        update(message, at, changed, places.zero_is_none);
    }
    Ok(())
}

/// Both what carries an error and the packet it quotes.
fn translate_error(
    header: &mut [u8; ipv6::HEADER_LEN],
    message: &mut [u8],
    ends: &Ends,
) -> Result<(), DropReason> {
    let quote = message.get_mut(icmpv6::ERROR_HEADER_LEN..);
    let quote = quote.and_then(|quote| quote.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>());
    let (quoted, payload) = quote.ok_or(DropReason::SteerQuote)?;
    let upper = ext::walk(quoted[6], payload).map_err(|_| DropReason::SteerQuote)?;
    let is_first = crate::ingress::is_first(&upper);
    let inner = payload.get_mut(upper.offset..).unwrap_or(&mut []);
    let inner_ends = ends.reversed();
    let places = match is_first {
        true => Some(places(upper.protocol, inner).map_err(|_| DropReason::SteerQuote)?),
        false => None,
    };
    // Who says it: the far end itself, or a router on the way, whose address is its own.
    let is_from_end = header[SOURCE..DESTINATION] == quoted[DESTINATION..];
    let outer = Ends {
        source: ends.source.filter(|_| is_from_end),
        ..*ends
    };
    let mut changed = addresses(quoted, &inner_ends);
    if let Some(places) = places {
        for (at, port) in ports_at(&places, &inner_ends) {
            changed += replace(inner, at, &port.to_be_bytes());
        }
        // A quote may end before its checksum, or be of a packet that had none.
        if let Some(at) = places.checksum
            && let Some(field) = inner.get(at..at + 2)
            && (field != [0, 0] || !places.zero_is_none)
        {
            let before = sum(field);
            update(inner, at, changed, places.zero_is_none);
            changed += -before + sum(inner.get(at..at + 2).unwrap_or(&[]));
        }
    }
    changed += addresses(header, &outer);
    update(message, icmpv6::CHECKSUM_OFFSET, changed, false);
    Ok(())
}

/// Of a packet of this protocol that begins with its header.
fn places(protocol: u8, message: &[u8]) -> Result<Places, DropReason> {
    let transport = |checksum, zero_is_none| Places {
        source_port: Some(0),
        destination_port: Some(2),
        checksum,
        zero_is_none,
    };
    let echo = |is_request| Places {
        source_port: Some(IDENTIFIER).filter(|_| is_request),
        destination_port: Some(IDENTIFIER).filter(|_| !is_request),
        checksum: Some(icmpv6::CHECKSUM_OFFSET),
        zero_is_none: false,
    };
    let least = if protocol == proto::ICMPV6 { 6 } else { 4 }; // ports, or the identifier
    if message.len() < least {
        return Err(DropReason::SteerHeaders);
    }
    match (protocol, message.first()) {
        (proto::TCP, _) => Ok(transport(Some(tcp::CHECKSUM_OFFSET), false)),
        (proto::UDP | proto::UDP_LITE, _) => Ok(transport(Some(udp::CHECKSUM_OFFSET), true)),
        (proto::SCTP, _) => Ok(transport(None, false)),
        (proto::ICMPV6, Some(&icmpv6::types::ECHO_REQUEST)) => Ok(echo(true)),
        (proto::ICMPV6, Some(&icmpv6::types::ECHO_REPLY)) => Ok(echo(false)),
        _ => Err(DropReason::SteerProtocol),
    }
}

fn changes_ports(ends: &Ends) -> bool {
    let mut both = ends.source.iter().chain(&ends.destination);
    both.any(|end| end.port.is_some())
}

/// Which ports change, and where they stand.
fn ports_at(places: &Places, ends: &Ends) -> impl Iterator<Item = (usize, u16)> {
    let pair = |at: Option<usize>, end: Option<End>| at.zip(end.and_then(|end| end.port));
    let source = pair(places.source_port, ends.source);
    source
        .into_iter()
        .chain(pair(places.destination_port, ends.destination))
}

/// Change the addresses of an IPv6 header; what that changes in a sum.
#[inline(always)]
fn addresses(header: &mut [u8; ipv6::HEADER_LEN], ends: &Ends) -> Sum {
    let mut changed = Sum::ZERO;
    for (at, end) in [(SOURCE, &ends.source), (DESTINATION, &ends.destination)] {
        if let Some(end) = end {
            changed += replace(header, at, &end.address);
        }
    }
    changed
}

/// Change the ports at the start of a header; what that changes in a sum.
#[inline(always)]
fn ports(header: &mut [u8], ends: &Ends) -> Sum {
    let mut changed = Sum::ZERO;
    for (at, end) in [(0, &ends.source), (2, &ends.destination)] {
        if let Some(port) = end.and_then(|end| end.port) {
            changed += replace(header, at, &port.to_be_bytes());
        }
    }
    changed
}

/// Put `new` in its place, which is there; what that changes in a sum.
#[inline(always)]
fn replace<const N: usize>(bytes: &mut [u8], at: usize, new: &[u8; N]) -> Sum {
    let place = bytes.get_mut(at..);
    match place.and_then(|place| place.first_chunk_mut::<N>()) {
        Some(place) => {
            let old = std::mem::replace(place, *new);
            -sum(&old) + sum(new)
        }
        None => Sum::ZERO,
    }
}

/// Make the checksum at `at`, if it is there, follow (RFC 1624 3, equation 3).
#[inline(always)]
fn update(bytes: &mut [u8], at: usize, changed: Sum, zero_is_none: bool) {
    let place = bytes.get_mut(at..);
    if let Some(place) = place.and_then(|place| place.first_chunk_mut::<2>()) {
        let checksum = (Sum::word(!u16::from_be_bytes(*place)) + changed).checksum();
        *place = match checksum {
            0 if zero_is_none => [0xff; 2],
            _ => checksum.to_be_bytes(),
        };
    }
}

/// The same as [`update`] by changes, some of which are not none.
#[inline(always)]
fn follow<const N: usize>(bytes: &mut [u8], at: usize, changes: [Change; N], zero_is_none: bool) {
    let place = bytes.get_mut(at..);
    if let Some(place) = place.and_then(|place| place.first_chunk_mut::<2>()) {
        // As a number: two bytes would be compared one by one.
        let checksum = match u16::from_ne_bytes(checksum::changed(*place, changes)) {
            0 if zero_is_none => 0xffff,
            checksum => checksum,
        };
        *place = checksum.to_ne_bytes();
    }
}

#[cfg(test)]
mod tests;
