//! The same for IPv4 packets: ICMP errors of RFC 792, by the rules of RFC 1812 4.3.2.

use std::net::Ipv4Addr;

use dataplane::frame::{Frame, NoRoom};
use dataplane::wire::ethernet::{self, ETHERTYPE_IPV4};
use dataplane::wire::ipv4::{self, proto};
use dataplane::wire::{FromBytes, IntoBytes, icmpv4};

use super::{HOP_LIMIT, IcmpError};
use crate::meta::{Family, Meta};
use crate::tables::Tables;

/// What stands before the quote: IPv4 header and ICMP error header.
const HEADERS: usize = ipv4::HEADER_LEN + icmpv4::ERROR_HEADER_LEN;
/// Precedence "internetwork control" (RFC 1812 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 6 << 5;

impl IcmpError {
    /// Type, code and the 32 bits after the checksum, of the error about an IPv4 packet.
    #[must_use]
    pub const fn fields_v4(self) -> (u8, u8, u32) {
        use icmpv4::{codes, types};
        const UNREACHABLE: u8 = types::DESTINATION_UNREACHABLE;
        match self {
            Self::NoRoute | Self::BeyondScope => (UNREACHABLE, codes::UNREACHABLE_NETWORK, 0),
            Self::AddressUnreachable => (UNREACHABLE, codes::UNREACHABLE_HOST, 0),
            Self::PortUnreachable => (UNREACHABLE, codes::UNREACHABLE_PORT, 0),
            Self::SourcePolicy | Self::Prohibited => {
                (UNREACHABLE, codes::UNREACHABLE_PROHIBITED, 0)
            }
            Self::PacketTooBig { mtu } => {
                let code = codes::UNREACHABLE_FRAGMENTATION_NEEDED;
                (UNREACHABLE, code, mtu as u32) // `as`: widening
            }
            Self::HopLimitExceeded => (types::TIME_EXCEEDED, codes::TIME_EXCEEDED_TRANSIT, 0),
            Self::UnknownNextHeader { .. } => (UNREACHABLE, codes::UNREACHABLE_PROTOCOL, 0),
            Self::ErroneousHeader { pointer } => {
                let word = (pointer as u32) << 24; // `as`: widening
                (types::PARAMETER_PROBLEM, codes::PARAMETER_POINTER, word)
            }
        }
    }
}

/// Whether RFC 1812 4.3.2.7 allows an error about this packet. What was link-layer multicast or broadcast is out already.
pub(super) fn may_answer(tables: &Tables, packet: &[u8], meta: &Meta) -> bool {
    let Ok((header, _)) = ipv4::Header::ref_from_prefix(packet) else {
        return false;
    };
    let (source, destination) = (header.source(), header.destination());
    let is_one_host = |address: Ipv4Addr| {
        !matches!(address.octets()[0], 0 | 127 | 224..) && !tables.is_broadcast(meta.vrf, address)
    };
    if !is_one_host(source) || !is_one_host(destination) || !header.is_first() {
        return false;
    }
    if header.protocol != proto::ICMP {
        return true;
    }
    let kind = packet.get(header.header_len());
    kind.is_some_and(|kind| !icmpv4::is_error(*kind))
}

/// Turn a frame that starts with its IPv4 packet into `error` about it: our own packet, which enters at the lookup.
///
/// # Errors
/// When the buffer has no room, or the VRF no IPv4 address to answer from; the frame is then useless.
pub(super) fn turn<F: Frame>(
    tables: &Tables,
    error: IcmpError,
    frame: &mut F,
    meta: &mut Meta,
) -> Result<(), NoRoom> {
    let source = tables
        .interface(meta.interface)
        .error_source_v4
        .ok_or(NoRoom)?;
    // As much of the packet as fits (RFC 1812 4.3.2.3).
    let quote_len = frame.bytes().len().min(icmpv4::ERROR_PACKET_MAX - HEADERS);
    frame.resize(quote_len)?;
    let quoted = ipv4::Header::ref_from_prefix(frame.bytes());
    let receiver = quoted.map_err(|_| NoRoom)?.0.source();

    frame.prepend(HEADERS)?;
    let (header, message) = frame
        .bytes_mut()
        .split_first_chunk_mut::<{ ipv4::HEADER_LEN }>()
        .ok_or(NoRoom)?;
    let payload_len = u16::try_from(message.len()).map_err(|_| NoRoom)?;
    let mut ip = ipv4::Header::new(source.into(), receiver, proto::ICMP, HOP_LIMIT, payload_len);
    ip.traffic_class = INTERNETWORK_CONTROL;
    // Never a fragment, so its identification means nothing (RFC 6864 4.1).
    ip.set_dont_fragment(true);
    header.copy_from_slice(ip.as_bytes());
    ipv4::set_checksum(header).map_err(|_| NoRoom)?;
    let (kind, code, word) = error.fields_v4();
    let error = icmpv4::ErrorHeader::new(kind, code, word);
    let to = message
        .first_chunk_mut::<{ icmpv4::ERROR_HEADER_LEN }>()
        .ok_or(NoRoom)?;
    to.copy_from_slice(error.as_bytes());
    icmpv4::set_checksum(message).map_err(|_| NoRoom)?;

    frame.prepend(ethernet::HEADER_LEN)?;
    let ether_type = frame.bytes_mut().get_mut(12..14).ok_or(NoRoom)?;
    ether_type.copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    *meta = super::own(meta, 14).of(Family::V4); // ethernet::HEADER_LEN
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 792, RFC 1812 5.2.7, RFC 1191 4.
    #[test]
    fn each_error_has_its_type_and_code() {
        let pointer = 9;
        for (error, fields) in [
            (IcmpError::NoRoute, (3, 0, 0)),
            (IcmpError::AddressUnreachable, (3, 1, 0)),
            (IcmpError::UnknownNextHeader { pointer }, (3, 2, 0)),
            (IcmpError::PortUnreachable, (3, 3, 0)),
            (IcmpError::PacketTooBig { mtu: 1400 }, (3, 4, 1400)),
            (IcmpError::SourcePolicy, (3, 13, 0)),
            (IcmpError::HopLimitExceeded, (11, 0, 0)),
            (IcmpError::ErroneousHeader { pointer }, (12, 0, 9 << 24)),
        ] {
            assert_eq!(error.fields_v4(), fields, "{error:?}");
        }
    }
}
