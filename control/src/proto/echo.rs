//! Echo replies of the appliance (RFC 4443 4.2; for IPv4 `ipv4`): pure functions from request to reply. Which requests
//! are for us, and how many are answered a second, is decided before.

mod ipv4;

use std::net::Ipv6Addr;

use dataplane::wire::icmpv6::{self, EchoHeader, types};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{FromBytes, IntoBytes, checksum, ext};

pub use ipv4::reply as reply_ipv4;

/// Hop limit of a reply; the usual value of hosts and routers.
const HOP_LIMIT: u8 = 64;

/// Why a packet gets no echo reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The headers say more than there is, or it is of another family.
    #[error("shorter than its headers say, or of another family")]
    Truncated,
    /// No echo request is in it, or not all of it: fragments are not put together.
    #[error("not a whole echo request")]
    NotARequest,
    /// The checksum is wrong.
    #[error("checksum is wrong")]
    Checksum,
    /// It is to a group or to everybody, which IPv4 need not answer.
    #[error("destination is not a unicast address")]
    Destination,
    /// The reply would have to go back the way that the request prescribes.
    #[error("request with a source route")]
    SourceRoute,
    /// Its source is no single node's address, so it cannot be answered.
    #[error("source is not a unicast address")]
    Source,
}

/// The reply to the echo request in `packet`, which starts at the IPv6 header; so does the reply. It comes from where
/// the request went to, or from `own` when that is a group ("MUST be a unicast address belonging to the
/// interface", RFC 4443 4.2).
///
/// # Errors
/// When there is nothing to answer, or nobody.
pub fn reply(packet: &[u8], own: Ipv6Addr) -> Result<Vec<u8>, Unanswered> {
    let (header, rest) =
        ipv6::Header::ref_from_prefix(packet).map_err(|_| Unanswered::Truncated)?;
    if header.version() != 6 {
        return Err(Unanswered::Truncated);
    }
    let payload = rest
        .get(..header.payload_len())
        .ok_or(Unanswered::Truncated)?;
    let upper = ext::walk(header.next_header, payload).map_err(|_| Unanswered::NotARequest)?;
    let whole = upper.fragment.is_none_or(|fragment| fragment.is_atomic());
    if upper.protocol != proto::ICMPV6 || !whole || upper.routing_segments_left > 0 {
        return Err(Unanswered::NotARequest);
    }
    let message = payload.get(upper.offset..).ok_or(Unanswered::Truncated)?;
    let (request, data) =
        EchoHeader::ref_from_prefix(message).map_err(|_| Unanswered::NotARequest)?;
    if request.header.kind != types::ECHO_REQUEST || request.header.code != 0 {
        return Err(Unanswered::NotARequest);
    }
    if !checksum::is_valid(&header.source, &header.destination, proto::ICMPV6, message) {
        return Err(Unanswered::Checksum);
    }
    let (to, asked) = (header.source(), header.destination());
    if to.is_multicast() || to.is_unspecified() {
        return Err(Unanswered::Source);
    }
    let from = if asked.is_multicast() { own } else { asked };
    Ok(build(from, to, request, data))
}

fn build(from: Ipv6Addr, to: Ipv6Addr, request: &EchoHeader, data: &[u8]) -> Vec<u8> {
    let (identifier, sequence) = (request.identifier.get(), request.sequence.get());
    let echo = EchoHeader::new(types::ECHO_REPLY, identifier, sequence);
    let len = size_of::<EchoHeader>() + data.len();
    let payload_len = u16::try_from(len).expect("no longer than the request's payload, a u16");
    let header = ipv6::Header::new(from, to, proto::ICMPV6, HOP_LIMIT, payload_len);
    let mut packet = Vec::with_capacity(ipv6::HEADER_LEN + len);
    packet.extend_from_slice(header.as_bytes());
    packet.extend_from_slice(echo.as_bytes());
    packet.extend_from_slice(data);
    let message = packet
        .get_mut(ipv6::HEADER_LEN..)
        .expect("the header was put there");
    icmpv6::set_checksum(&from.octets(), &to.octets(), message)
        .expect("the message has its header");
    packet
}

#[cfg(test)]
mod tests;
