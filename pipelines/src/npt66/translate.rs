//! The packet step: one address of the IPv6 header, and the mirrored one in the quote of an ICMPv6 error.
//!
//! Nothing else is touched: RFC 6296 2.6 leaves transport headers, ports and checksums alone (N10), and addresses in
//! routing headers, options and payloads stay as they are (N14). The ICMPv6 checksum stays right by itself, since both
//! changes are neutral.

use dataplane::wire::icmpv6;
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{checksum, ext};

use super::rule::{Direction, Quick, Reject, Rule, halves, join};

const SOURCE: usize = 8;
const DESTINATION: usize = 24;
/// Offset of the quoted packet in an ICMPv6 error (RFC 4443 3).
const QUOTE: usize = 8;

/// The address that is translated in this direction: the source going out, the destination coming in.
#[inline]
pub(crate) fn translated_address(direction: Direction, packet: &[u8]) -> Option<&[u8; 16]> {
    let header = packet.first_chunk::<{ ipv6::HEADER_LEN }>()?;
    Some(address(header, offset(direction)))
}

#[inline]
fn offset(direction: Direction) -> usize {
    match direction {
        Direction::Out => SOURCE,
        Direction::In => DESTINATION,
    }
}

/// Translate `packet`, which starts at its IPv6 header and ends with its last byte, and whose source (out) or
/// destination (in) `rule` covers. `quoted` finds the rule for the address in the quote of an ICMPv6 error.
///
/// # Errors
/// When the packet must be dropped; it is then as it was.
#[inline(always)] // with a constant direction
pub fn translate<'r>(
    rule: &Rule,
    direction: Direction,
    packet: &mut [u8],
    quoted: impl FnOnce(u64) -> Option<&'r Rule>,
) -> Result<(), Reject> {
    let Some((header, payload)) = packet.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return Err(Reject::NoMapping);
    };
    let at = offset(direction);
    let mapped = rule.map(direction, halves(address(header, at)))?;
    let next_header = header[6];
    if next_header != proto::TCP && next_header != proto::UDP {
        translate_quote(header, payload, direction, quoted)?;
    }
    *address_mut(header, at) = join(mapped);
    Ok(())
}

/// The counterpart of the common packet's address, TCP or UDP, by a rule that adjusts the subnet: its first half, as it
/// stands in the packet; the other half is the packet's. `None`: it is not common, or has no counterpart.
#[inline(always)] // with a constant direction
pub(crate) fn counterpart(
    quick: &Quick,
    direction: Direction,
    header: &[u8; ipv6::HEADER_LEN],
) -> Option<[u8; 8]> {
    if !is_transport(header) {
        return None;
    }
    let prefix = address(header, offset(direction)).first_chunk();
    quick.map(*prefix.expect("8 bytes of 16"))
}

/// Put there what [`counterpart`] has found.
#[inline(always)] // with a constant direction
pub(crate) fn put(direction: Direction, header: &mut [u8; ipv6::HEADER_LEN], prefix: [u8; 8]) {
    address_mut(header, offset(direction))[..8].copy_from_slice(&prefix);
}

/// [`translate`] for the common packet, as [`counterpart`] has it: the two halves of the counterpart, as they stand in the
/// packet. A packet that is not common, or has no counterpart, is as it was.
///
/// Halves go through registers: who reads sixteen bytes soon after eight of them were written waits for the store.
#[inline(always)] // with a constant direction
pub(crate) fn translate_common(
    quick: &Quick,
    direction: Direction,
    header: &mut [u8; ipv6::HEADER_LEN],
) -> Option<[u64; 2]> {
    let prefix = counterpart(quick, direction, header)?;
    put(direction, header, prefix);
    let identifier = address(header, offset(direction)).last_chunk();
    let identifier = *identifier.expect("8 bytes of 16");
    Some([prefix, identifier].map(u64::from_ne_bytes))
}

/// The same by any rule.
#[inline(never)] // inline it would take registers from the loop
pub(crate) fn translate_header(
    rule: &Rule,
    direction: Direction,
    header: &mut [u8; ipv6::HEADER_LEN],
) -> Option<[u64; 2]> {
    if !is_transport(header) {
        return None;
    }
    let at = offset(direction);
    let mapped = rule.map(direction, halves(address(header, at))).ok()?;
    *address_mut(header, at) = join(mapped);
    Some([mapped.0.to_be(), mapped.1.to_be()])
}

/// Whether there is no ICMPv6 error in it, nor anything else to look at.
#[inline(always)]
fn is_transport(header: &[u8; ipv6::HEADER_LEN]) -> bool {
    header[6] == proto::TCP || header[6] == proto::UDP
}

/// Translate the quote if the packet is an ICMPv6 error (N12). The mirrored address: an error comes back to who sent
/// the quoted packet, so inbound its source is ours, and outbound its destination is.
fn translate_quote<'r>(
    header: &[u8; ipv6::HEADER_LEN],
    payload: &mut [u8],
    direction: Direction,
    quoted: impl FnOnce(u64) -> Option<&'r Rule>,
) -> Result<(), Reject> {
    // A chain we cannot walk may belong to a protocol we need not understand: only a chain that ends in ICMPv6 counts.
    let Ok(upper) = ext::walk(header[6], payload) else {
        return Err(Reject::ExtensionHeaders);
    };
    let later_fragment = upper
        .fragment
        .is_some_and(|fragment| fragment.offset_bytes > 0);
    if upper.protocol != proto::ICMPV6 || later_fragment {
        return Ok(());
    }
    let Some(message) = payload.get_mut(upper.offset..) else {
        return Ok(());
    };
    if !message.first().is_some_and(|kind| icmpv6::is_error(*kind)) {
        return Ok(());
    }
    // The checksum of a message in fragments cannot be known here; it is neutral all the same.
    if upper.fragment.is_none_or(|fragment| !fragment.more)
        && !checksum::is_valid(
            address(header, SOURCE),
            address(header, DESTINATION),
            proto::ICMPV6,
            message,
        )
    {
        return Err(Reject::Checksum);
    }
    let quote = message
        .get_mut(QUOTE..)
        .and_then(|quote| quote.first_chunk_mut::<{ ipv6::HEADER_LEN }>());
    let Some(quote) = quote else {
        return Err(Reject::QuoteTruncated);
    };
    let at = offset(direction.reverse());
    let original = halves(address(quote, at));
    let rule = quoted(original.0).ok_or(Reject::QuoteForeign)?;
    let mapped = rule
        .map(direction, original)
        .map_err(|_| Reject::QuoteForeign)?;
    *address_mut(quote, at) = join(mapped);
    Ok(())
}

/// Undo the translation of one address of the IPv6 header: `direction` is the one it was translated in. An ICMPv6
/// error of ours quotes the packet as its receiver knows it (N13).
pub(crate) fn undo(rule: &Rule, direction: Direction, packet: &mut [u8]) {
    let Some(header) = packet.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return;
    };
    let at = offset(direction);
    if let Ok(original) = rule.map(direction.reverse(), halves(address(header, at))) {
        *address_mut(header, at) = join(original);
    }
}

#[inline]
fn address(header: &[u8; ipv6::HEADER_LEN], at: usize) -> &[u8; 16] {
    header[at..]
        .first_chunk()
        .expect("16 bytes after offset 8 or 24 of 40")
}

#[inline]
fn address_mut(header: &mut [u8; ipv6::HEADER_LEN], at: usize) -> &mut [u8; 16] {
    header[at..]
        .first_chunk_mut()
        .expect("16 bytes after offset 8 or 24 of 40")
}
