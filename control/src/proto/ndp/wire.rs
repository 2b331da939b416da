//! Messages as bytes: what arrives is judged here, completely, before the machine sees it; what leaves is written here.
//!
//! Covers neighbour discovery (RFC 4861 4, 7.1) and the little of MLDv2 a listener needs (RFC 3810 5). Packets start at
//! the IPv6 header. A message that fails a check changes nothing anywhere and is counted under its [`Invalid`] reason.

use std::net::Ipv6Addr;
use std::time::Duration;

use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv6::{self, AdvertisementFlags, OptionError, Options, options, types};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{FromBytes, IntoBytes, checksum, ext};

use super::report::Invalid;

/// Hop limit of every neighbour discovery message: a router between us would have lowered it (RFC 4861 7.1).
const HOP_LIMIT: u8 = 255;
/// Hop limit of MLD messages: they never leave the link (RFC 3810 5).
const MLD_HOP_LIMIT: u8 = 1;

const MLD_QUERY: u8 = 130;
const MLD_V2_REPORT: u8 = 143;
/// Shortest query: MLDv1's (RFC 2710 3); MLDv2's has 28 bytes.
const MLD_QUERY_LEN: usize = 24;
/// Router Alert option (RFC 2711 2.1) with value 0, "MLD message", then PadN of nothing to fill the 8 bytes.
const HOP_BY_HOP_ROUTER_ALERT: [u8; 8] = [proto::ICMPV6, 0, OPTION_ROUTER_ALERT, 2, 0, 0, 1, 0];
const OPTION_PAD1: u8 = 0;
const OPTION_ROUTER_ALERT: u8 = 5;
/// Records of one report: 20 bytes each behind 56 bytes of headers, in the 1280 bytes every link takes.
const RECORDS_MAX: usize = (ipv6::MIN_MTU - 56) / 20;

/// ff02::1.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// ff02::2.
pub(super) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ff02::16, where MLDv2 reports go (RFC 3810 5.2.14).
pub(super) const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// A Nonce option's body in the smallest size (RFC 7527 4, RFC 3971 5.3.2).
pub(super) type Nonce = [u8; 6];

/// A message that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Solicitation(Solicitation),
    Advertisement(Advertisement),
    RouterSolicitation,
    RouterAdvertisement,
    Redirect,
    Query(Query),
}

/// RFC 4861 4.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Solicitation {
    pub(super) source: Ipv6Addr,
    pub(super) target: Ipv6Addr,
    /// Source Link-Layer Address option.
    pub(super) mac: Option<Mac>,
    /// Nonces of any other size are not ours and need no keeping.
    pub(super) nonce: Option<Nonce>,
}

/// RFC 4861 4.4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advertisement {
    pub(super) target: Ipv6Addr,
    pub(super) flags: AdvertisementFlags,
    /// Target Link-Layer Address option.
    pub(super) mac: Option<Mac>,
}

/// RFC 3810 5.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) max_response: Duration,
    /// Unspecified: a general query.
    pub(super) group: Ipv6Addr,
}

/// ff02::1:ff00:0/104 and the last 24 bits of the address (RFC 4291 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let mut octets = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    octets[13..].copy_from_slice(&[a, b, c]);
    Ipv6Addr::from_octets(octets)
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node(address) == address
}

/// Read and judge a packet.
pub(super) fn parse(packet: &[u8]) -> Result<Message, Invalid> {
    let (header, rest) = ipv6::Header::ref_from_prefix(packet).map_err(|_| Invalid::Truncated)?;
    if header.version() != 6 {
        return Err(Invalid::Truncated);
    }
    // A frame may be longer than its packet (Ethernet padding), never shorter.
    let payload = rest.get(..header.payload_len()).ok_or(Invalid::Truncated)?;
    let upper = ext::walk(header.next_header, payload).map_err(|_| Invalid::ExtensionHeaders)?;
    // RFC 6980 5: "MUST silently ignore", a fragment header on a whole packet included.
    if upper.fragment.is_some() {
        return Err(Invalid::Fragmented);
    }
    if upper.protocol != proto::ICMPV6 || upper.routing_segments_left > 0 {
        return Err(Invalid::NotIcmpv6);
    }
    let message = payload.get(upper.offset..).ok_or(Invalid::Truncated)?;
    let (icmp, _) = icmpv6::Header::ref_from_prefix(message).map_err(|_| Invalid::Length)?;
    let expected_hop_limit = match icmp.kind {
        types::ROUTER_SOLICITATION
        | types::ROUTER_ADVERTISEMENT
        | types::NEIGHBOR_SOLICITATION
        | types::NEIGHBOR_ADVERTISEMENT
        | types::REDIRECT => HOP_LIMIT,
        MLD_QUERY => MLD_HOP_LIMIT,
        _ => return Err(Invalid::UnknownType),
    };
    if header.hop_limit != expected_hop_limit {
        return Err(Invalid::HopLimit);
    }
    if !checksum::is_valid(&header.source, &header.destination, proto::ICMPV6, message) {
        return Err(Invalid::Checksum);
    }
    if icmp.code != 0 && icmp.kind != MLD_QUERY {
        return Err(Invalid::Code);
    }
    if header.source().is_multicast() {
        return Err(Invalid::SourceMulticast);
    }
    match icmp.kind {
        types::NEIGHBOR_SOLICITATION => {
            parse_solicitation(header, message).map(Message::Solicitation)
        }
        types::NEIGHBOR_ADVERTISEMENT => {
            parse_advertisement(header, message).map(Message::Advertisement)
        }
        types::ROUTER_SOLICITATION => {
            parse_router_solicitation(header, message).map(|()| Message::RouterSolicitation)
        }
        types::ROUTER_ADVERTISEMENT => {
            check_options(message, 16).map(|()| Message::RouterAdvertisement)
        }
        types::REDIRECT => check_options(message, 40).map(|()| Message::Redirect),
        _ => parse_query(header, payload, message).map(Message::Query),
    }
}

/// RFC 4861 7.1.1, after what all messages share.
fn parse_solicitation(header: &ipv6::Header, message: &[u8]) -> Result<Solicitation, Invalid> {
    let (fixed, rest) =
        icmpv6::NeighborSolicitation::parse(message).map_err(|_| Invalid::Length)?;
    let (source, target) = (header.source(), fixed.target());
    if target.is_multicast() {
        return Err(Invalid::TargetMulticast);
    }
    let found = read_options(rest, options::SOURCE_LINK_LAYER_ADDRESS)?;
    if source.is_unspecified() {
        if !is_solicited_node(header.destination()) {
            return Err(Invalid::ProbeDestination);
        }
        if found.mac.is_some() {
            return Err(Invalid::ProbeWithSourceAddress);
        }
    }
    Ok(Solicitation {
        source,
        target,
        mac: found.mac,
        nonce: found.nonce,
    })
}

/// RFC 4861 7.1.2, after what all messages share.
fn parse_advertisement(header: &ipv6::Header, message: &[u8]) -> Result<Advertisement, Invalid> {
    let (fixed, rest) =
        icmpv6::NeighborAdvertisement::parse(message).map_err(|_| Invalid::Length)?;
    let (target, flags) = (fixed.target(), fixed.flags());
    if target.is_multicast() {
        return Err(Invalid::TargetMulticast);
    }
    if header.destination().is_multicast() && flags.solicited {
        return Err(Invalid::SolicitedMulticast);
    }
    let found = read_options(rest, options::TARGET_LINK_LAYER_ADDRESS)?;
    Ok(Advertisement {
        target,
        flags,
        mac: found.mac,
    })
}

/// RFC 4861 6.1.1, after what all messages share.
fn parse_router_solicitation(header: &ipv6::Header, message: &[u8]) -> Result<(), Invalid> {
    let rest = message.get(8..).ok_or(Invalid::Length)?;
    let found = read_options(Options::new(rest), options::SOURCE_LINK_LAYER_ADDRESS)?;
    if header.source().is_unspecified() && found.mac.is_some() {
        return Err(Invalid::ProbeWithSourceAddress);
    }
    Ok(())
}

/// Every option of a message with a fixed part of `fixed_len` bytes is whole.
fn check_options(message: &[u8], fixed_len: usize) -> Result<(), Invalid> {
    let rest = message.get(fixed_len..).ok_or(Invalid::Length)?;
    for option in Options::new(rest) {
        option?;
    }
    Ok(())
}

struct Found {
    mac: Option<Mac>,
    nonce: Option<Nonce>,
}

/// Walk all options: unknown ones are skipped, the first of a kind counts, one bad option condemns the message.
fn read_options(all: Options<'_>, link_layer_kind: u8) -> Result<Found, Invalid> {
    let mut found = Found {
        mac: None,
        nonce: None,
    };
    for option in all {
        let option = option?;
        if option.kind == link_layer_kind && found.mac.is_none() {
            let mac = option.link_layer_address().ok_or(Invalid::OptionLength)?;
            // No node has such an address; taking it would turn a neighbour's traffic into a flood or a black hole.
            if mac.is_multicast() || mac.octets() == [0; 6] {
                return Err(Invalid::LinkLayerAddress);
            }
            found.mac = Some(mac);
        }
        if option.kind == options::NONCE && found.nonce.is_none() {
            found.nonce = option.body.as_array().copied();
        }
    }
    Ok(found)
}

impl From<OptionError> for Invalid {
    fn from(_: OptionError) -> Self {
        Self::OptionLength
    }
}

/// RFC 3810 5.1.14 and 6.2: link-local source, hop limit 1 (checked before), Router Alert.
fn parse_query(header: &ipv6::Header, payload: &[u8], message: &[u8]) -> Result<Query, Invalid> {
    let fixed: &[u8; MLD_QUERY_LEN] = message.first_chunk().ok_or(Invalid::Length)?;
    if !header.source().is_unicast_link_local() {
        return Err(Invalid::QuerySource);
    }
    if header.next_header != proto::HOP_BY_HOP || !has_router_alert(payload) {
        return Err(Invalid::QueryRouterAlert);
    }
    let code = u16::from_be_bytes([fixed[4], fixed[5]]);
    let group: [u8; 16] = fixed[8..].try_into().expect("24 less 8 is 16");
    Ok(Query {
        max_response: max_response_delay(code),
        group: Ipv6Addr::from_octets(group),
    })
}

/// RFC 3810 5.1.3: milliseconds below 32768, a floating-point value from there.
fn max_response_delay(code: u16) -> Duration {
    let milliseconds = if code < 0x8000 {
        u64::from(code)
    } else {
        let mantissa = u64::from(code & 0x0fff) | 0x1000;
        let exponent = u32::from((code >> 12) & 7) + 3;
        mantissa << exponent
    };
    Duration::from_millis(milliseconds)
}

/// Whether the hop-by-hop header at the start of the payload has the Router Alert option for MLD.
fn has_router_alert(payload: &[u8]) -> bool {
    let Some(&[_, units]) = payload.first_chunk::<2>() else {
        return false;
    };
    let Some(mut rest) = payload.get(2..(usize::from(units) + 1) * 8) else {
        return false;
    };
    loop {
        rest = match *rest {
            [OPTION_PAD1, ..] => &rest[1..],
            [OPTION_ROUTER_ALERT, 2, 0, 0, ..] => return true,
            [_, len, ..] => match rest.get(2 + usize::from(len)..) {
                Some(rest) => rest,
                None => return false,
            },
            _ => return false,
        };
    }
}

/// A solicitation for `target` (RFC 4861 4.3); a probe of duplicate address detection has an unspecified source, no
/// link-layer address and a nonce.
pub(super) fn solicitation(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: Option<Mac>,
    nonce: Option<Nonce>,
) -> Vec<u8> {
    let message = icmpv6::neighbor_solicitation(target, mac);
    let mut message = message.to_vec();
    if let Some(nonce) = nonce {
        message.extend([options::NONCE, 1]);
        message.extend(nonce);
    }
    packet(source, destination, HOP_LIMIT, &[], &mut message)
}

/// An advertisement of `mac` for `target` (RFC 4861 4.4).
pub(super) fn advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    flags: AdvertisementFlags,
    mac: Mac,
) -> Vec<u8> {
    let mut message = icmpv6::neighbor_advertisement(target, flags, Some(mac)).to_vec();
    packet(source, destination, HOP_LIMIT, &[], &mut message)
}

/// What a multicast address record says (RFC 3810 5.2.12); source lists are always empty here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordType {
    /// MODE_IS_EXCLUDE: an answer to a query, "I listen".
    Listening,
    /// CHANGE_TO_INCLUDE_MODE of nothing: "I stopped listening".
    Left,
    /// CHANGE_TO_EXCLUDE_MODE of nothing: "I started listening".
    Joined,
}

impl RecordType {
    fn code(self) -> u8 {
        match self {
            Self::Listening => 2,
            Self::Left => 3,
            Self::Joined => 4,
        }
    }
}

/// MLDv2 reports (RFC 3810 5.2) with these records, as many packets as it takes.
pub(super) fn reports(source: Ipv6Addr, records: &[(RecordType, Ipv6Addr)]) -> Vec<Vec<u8>> {
    records
        .chunks(RECORDS_MAX)
        .map(|records| {
            let mut message = vec![MLD_V2_REPORT, 0, 0, 0, 0, 0];
            let count = u16::try_from(records.len()).expect("chunks of RECORDS_MAX");
            message.extend(count.to_be_bytes());
            for (kind, group) in records {
                message.extend([kind.code(), 0, 0, 0]);
                message.extend(group.octets());
            }
            packet(
                source,
                ALL_MLDV2_ROUTERS,
                MLD_HOP_LIMIT,
                &HOP_BY_HOP_ROUTER_ALERT,
                &mut message,
            )
        })
        .collect()
}

/// Checksum the message and put it behind its headers.
fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    hop_by_hop: &[u8],
    message: &mut [u8],
) -> Vec<u8> {
    icmpv6::set_checksum(&source.octets(), &destination.octets(), message)
        .expect("a message has its ICMPv6 header");
    let next_header = if hop_by_hop.is_empty() {
        proto::ICMPV6
    } else {
        proto::HOP_BY_HOP
    };
    let payload_len = u16::try_from(hop_by_hop.len() + message.len())
        .expect("a control message is far below 64 KiB");
    let header = ipv6::Header::new(source, destination, next_header, hop_limit, payload_len);
    let mut packet = Vec::with_capacity(ipv6::HEADER_LEN + usize::from(payload_len));
    packet.extend_from_slice(header.as_bytes());
    packet.extend_from_slice(hop_by_hop);
    packet.extend_from_slice(message);
    packet
}
