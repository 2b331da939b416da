//! Turning a packet round into an ICMP error about itself, in its own buffer: RFC 4443 2.4, 3; of IPv4 see [`v4`].
//!
//! The quote is the packet as its sender knows it: translations done so far are undone first (N13).

mod v4;

use dataplane::frame::{Frame, NoRoom};
use dataplane::wire::ethernet::{self, ETHERTYPE_IPV6};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6};

use crate::ingress::is_first;
use crate::meta::{Entry, Family, Meta};
use crate::npt66;
use crate::tables::Tables;

/// Hop limit of what we originate.
const HOP_LIMIT: u8 = 64;
/// What stands before the quote: IPv6 header and ICMPv6 error header.
const HEADERS: usize = ipv6::HEADER_LEN + icmpv6::ERROR_HEADER_LEN;

/// The errors this appliance sends, by their meaning in IPv6; [`IcmpError::fields_v4`] says what each is in IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// 1/0.
    NoRoute,
    /// 1/1.
    Prohibited,
    /// 1/2.
    BeyondScope,
    /// 1/3.
    AddressUnreachable,
    /// 1/4.
    PortUnreachable,
    /// 1/5.
    SourcePolicy,
    /// 2/0.
    PacketTooBig {
        /// What fits, bytes.
        mtu: u16,
    },
    /// 3/0.
    HopLimitExceeded,
    /// 4/0.
    ErroneousHeader {
        /// Offset in the packet, bytes.
        pointer: u8,
    },
    /// 4/1.
    UnknownNextHeader {
        /// Offset in the packet, bytes.
        pointer: u8,
    },
}

impl IcmpError {
    /// Type, code and the 32 bits after the checksum, of the error about an IPv6 packet.
    #[must_use]
    pub const fn fields(self) -> (u8, u8, u32) {
        use icmpv6::{codes, types};
        match self {
            Self::NoRoute => (
                types::DESTINATION_UNREACHABLE,
                codes::UNREACHABLE_NO_ROUTE,
                0,
            ),
            Self::Prohibited => (
                types::DESTINATION_UNREACHABLE,
                codes::UNREACHABLE_PROHIBITED,
                0,
            ),
            Self::BeyondScope => (types::DESTINATION_UNREACHABLE, codes::UNREACHABLE_SCOPE, 0),
            Self::AddressUnreachable => (
                types::DESTINATION_UNREACHABLE,
                codes::UNREACHABLE_ADDRESS,
                0,
            ),
            Self::PortUnreachable => (types::DESTINATION_UNREACHABLE, codes::UNREACHABLE_PORT, 0),
            Self::SourcePolicy => (types::DESTINATION_UNREACHABLE, codes::UNREACHABLE_POLICY, 0),
            Self::PacketTooBig { mtu } => (types::PACKET_TOO_BIG, 0, mtu as u32), // `as`: widening
            Self::HopLimitExceeded => (types::TIME_EXCEEDED, codes::TIME_EXCEEDED_HOP_LIMIT, 0),
            Self::ErroneousHeader { pointer } => {
                (
                    types::PARAMETER_PROBLEM,
                    codes::PARAMETER_HEADER_FIELD,
                    pointer as u32,
                ) // `as`: widening
            }
            Self::UnknownNextHeader { pointer } => {
                (
                    types::PARAMETER_PROBLEM,
                    codes::PARAMETER_NEXT_HEADER,
                    pointer as u32,
                ) // `as`: widening
            }
        }
    }
}

/// Whether RFC 4443 2.4 (e) allows an error about this frame (I1). The one that it allows about multicast packets,
/// Packet Too Big, cannot arise: multicast is not forwarded. For IPv4, RFC 1812 4.3.2.7 says.
pub(crate) fn may_answer<F: Frame>(tables: &Tables, frame: &F, meta: &Meta) -> bool {
    let bytes = frame.bytes();
    // A link-layer multicast or broadcast (e.3, e.5).
    if meta.entry == Entry::Originated || bytes.first().is_none_or(|first| first & 1 != 0) {
        return false;
    }
    let packet = bytes.get(meta.l3_offset()..).unwrap_or(&[]);
    if meta.family == Family::V4 {
        return v4::may_answer(tables, packet, meta);
    }
    let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return false;
    };
    let unspecified = header[8..24] == [0; 16];
    // Destination multicast (e.3), source not one node (e.6).
    if header[24] == 0xff || header[8] == 0xff || unspecified {
        return false;
    }
    match ext::walk(header[6], payload) {
        Ok(upper) if upper.protocol == proto::ICMPV6 => {
            // An error or a redirect (e.1, e.2); of a later fragment, or without a type, it cannot be known.
            is_first(&upper)
                && payload.get(upper.offset).is_some_and(|kind| {
                    !icmpv6::is_error(*kind) && *kind != icmpv6::types::REDIRECT
                })
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Turn the frame into `error` about itself. On success `meta` describes our own packet, which enters at the lookup,
/// or, when it answers a link-local address, a finished frame for the interface it came in by (`true`).
///
/// # Errors
/// When the buffer has no room; the frame is then useless.
pub(crate) fn turn<F: Frame>(
    tables: &Tables,
    error: IcmpError,
    frame: &mut F,
    meta: &mut Meta,
) -> Result<bool, NoRoom> {
    let link_len = meta.l3_offset();
    let mut link = [0_u8; 24];
    let mut link_header = frame.bytes().get(..link_len).ok_or(NoRoom)?.iter();
    link.iter_mut()
        .zip(&mut link_header)
        .for_each(|(to, from)| *to = *from);

    frame.trim_front(link_len)?;
    if meta.family == Family::V4 {
        return v4::turn(tables, error, frame, meta).map(|()| false);
    }
    undo_translation(tables, frame, meta);
    let quote_len = frame.bytes().len().min(ipv6::MIN_MTU - HEADERS);
    frame.resize(quote_len)?;
    let quoted = frame
        .bytes()
        .first_chunk::<{ ipv6::HEADER_LEN }>()
        .ok_or(NoRoom)?;
    let receiver: [u8; 16] = *quoted[8..].first_chunk().ok_or(NoRoom)?;

    let interface = tables.interface(meta.interface);
    let is_scoped = receiver[0] == 0xfe && receiver[1] & 0xc0 == 0x80;
    let source = if is_scoped {
        interface.link_local
    } else {
        interface.error_source
    };
    let payload_len = icmpv6::ERROR_HEADER_LEN + quote_len;
    let (kind, code, word) = error.fields();

    frame.prepend(HEADERS)?;
    let bytes = frame.bytes_mut();
    let (header, message) = bytes
        .split_first_chunk_mut::<{ ipv6::HEADER_LEN }>()
        .ok_or(NoRoom)?;
    let payload_len = u16::try_from(payload_len)
        .map_err(|_| NoRoom)?
        .to_be_bytes();
    header[..8].copy_from_slice(&[
        0x60,
        0,
        0,
        0,
        payload_len[0],
        payload_len[1],
        proto::ICMPV6,
        HOP_LIMIT,
    ]);
    header[8..24].copy_from_slice(&source);
    header[24..].copy_from_slice(&receiver);
    let [a, b, c, d] = word.to_be_bytes();
    message[..icmpv6::ERROR_HEADER_LEN].copy_from_slice(&[kind, code, 0, 0, a, b, c, d]);
    icmpv6::set_checksum(&source, &receiver, message).map_err(|_| NoRoom)?;

    if is_scoped {
        // Back to the station it came from, tags kept.
        frame.prepend(link_len)?;
        let (to, rest) = frame.bytes_mut().split_at_mut(6);
        to.copy_from_slice(&link[6..12]);
        rest[..6].copy_from_slice(&interface.mac);
        rest[6..link_len - 6].copy_from_slice(&link[12..link_len]);
    } else {
        frame.prepend(ethernet::HEADER_LEN)?;
        frame.bytes_mut()[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        meta.l3 = 14; // ethernet::HEADER_LEN
    }
    *meta = own(meta, meta.l3);
    Ok(is_scoped)
}

/// The record of the answer to the packet with this one; its IP header is at `l3`.
pub(crate) fn own(meta: &Meta, l3: u8) -> Meta {
    Meta {
        trace: meta.trace,
        l3,
        priority: meta.priority,
        vrf: meta.vrf,
        ..Meta::originate(meta.interface)
    }
}

/// Make the packet what its sender sent.
pub(crate) fn undo_translation<F: Frame>(tables: &Tables, frame: &mut F, meta: &Meta) {
    for (number, direction) in [
        (meta.rule_in, npt66::Direction::In),
        (meta.rule_out, npt66::Direction::Out),
    ] {
        if let Some(rule) = tables.rule_checked(number) {
            npt66::undo(rule, direction, frame.bytes_mut());
        }
    }
}
