//! A fluent builder of whole frames with right lengths and checksums, for tests, benchmarks and captures.
//!
//! ```
//! use dataplane::{testing::builder::Packet, wire::ethernet::Mac};
//! let mac = |last| Mac::from_octets([2, 0, 0, 0, 0, last]);
//! let frame = Packet::ethernet(mac(1), mac(2))
//!     .vlan(100, 0)
//!     .ipv6("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap())
//!     .hop_by_hop()
//!     .udp(4000, 53, b"question")
//!     .build();
//! assert_eq!(frame.len(), 14 + 4 + 40 + 8 + 8 + 8);
//! ```
//!
//! Extension headers appear in the order of the calls. Checksums use the addresses of the IPv6 header; with a routing
//! header that has segments left a real sender would use the final destination. Frames are not padded to Ethernet's
//! minimum. What a test wants wrong it says: [`Packet::payload_length`], [`Packet::wrong_checksum`], [`Packet::trailer`].

mod v4;

use std::net::Ipv6Addr;

use zerocopy::{
    IntoBytes,
    network_endian::{U16, U32},
};

use crate::wire::ethernet::{self, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Mac};
use crate::wire::ipv6::proto;
use crate::wire::{checksum, icmpv6, ipv6, tcp, udp};

pub use v4::Packet4;

/// A packet in the making.
#[derive(Debug, Clone)]
pub struct Packet {
    ethernet: ethernet::Header,
    /// TPID where it was chosen, and TCI; outer first.
    tags: Vec<(Option<u16>, u16)>,
    ipv6: ipv6::Header,
    payload_length: Option<u16>,
    extensions: Vec<Extension>,
    upper: Upper,
    wrong_checksum: bool,
    trailer: Vec<u8>,
}

/// An extension header; its first byte is filled in when the packet is built.
#[derive(Debug, Clone)]
struct Extension {
    protocol: u8,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Upper {
    protocol: u8,
    bytes: Vec<u8>,
    /// Where the checksum goes, if the protocol is known to have one.
    checksum_offset: Option<usize>,
}

impl Packet {
    /// An untagged frame; until [`Packet::ipv6`] is called, an empty packet from `::` to `::`.
    #[must_use]
    pub fn ethernet(source: Mac, destination: Mac) -> Self {
        Self {
            ethernet: ethernet::Header {
                destination: destination.octets(),
                source: source.octets(),
                ether_type: U16::new(ETHERTYPE_IPV6),
            },
            tags: Vec::new(),
            ipv6: ipv6::Header::new(
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::UNSPECIFIED,
                proto::NO_NEXT,
                64,
                0,
            ),
            payload_length: None,
            extensions: Vec::new(),
            upper: Upper {
                protocol: proto::NO_NEXT,
                bytes: Vec::new(),
                checksum_offset: None,
            },
            wrong_checksum: false,
            trailer: Vec::new(),
        }
    }

    /// A packet whose link header does not matter: locally administered MAC addresses 02:..:01 to 02:..:02.
    #[must_use]
    pub fn anywhere() -> Self {
        Self::ethernet(
            Mac::from_octets([2, 0, 0, 0, 0, 1]),
            Mac::from_octets([2, 0, 0, 0, 0, 2]),
        )
    }

    /// Add a VLAN tag inside those already there. Of several tags the last is 802.1Q, the others 802.1ad.
    #[must_use]
    pub fn vlan(mut self, id: u16, priority: u8) -> Self {
        self.tags.push((None, tci(id, priority)));
        self
    }

    /// Add a VLAN tag with a TPID of one's choice.
    #[must_use]
    pub fn tag(mut self, tpid: u16, id: u16, priority: u8) -> Self {
        self.tags.push((Some(tpid), tci(id, priority)));
        self
    }

    /// Another EtherType than IPv6's, behind the tags.
    #[must_use]
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.ethernet.ether_type = U16::new(ether_type);
        self
    }

    /// The addresses of the IPv6 header.
    #[must_use]
    pub fn ipv6(mut self, source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        self.ipv6.source = source.octets();
        self.ipv6.destination = destination.octets();
        self
    }

    /// The hop limit; 64 otherwise.
    #[must_use]
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.ipv6.hop_limit = hop_limit;
        self
    }

    /// The traffic class; 0 otherwise.
    #[must_use]
    pub fn traffic_class(mut self, traffic_class: u8) -> Self {
        let flow_label = self.ipv6.flow_label();
        self.ipv6.set_class_and_flow(traffic_class, flow_label);
        self
    }

    /// The flow label; 0 otherwise.
    #[must_use]
    pub fn flow_label(mut self, flow_label: u32) -> Self {
        let traffic_class = self.ipv6.traffic_class();
        self.ipv6.set_class_and_flow(traffic_class, flow_label);
        self
    }

    /// Another IP version than 6.
    #[must_use]
    pub fn version(mut self, version: u8) -> Self {
        let rest = self.ipv6.version_class_flow.get() & 0x0fff_ffff;
        self.ipv6.version_class_flow = U32::new((u32::from(version) << 28) | rest);
        self
    }

    /// A payload length that need not be true.
    #[must_use]
    pub fn payload_length(mut self, payload_length: u16) -> Self {
        self.payload_length = Some(payload_length);
        self
    }

    /// Hop-by-Hop Options: 8 bytes, nothing but padding.
    #[must_use]
    pub fn hop_by_hop(self) -> Self {
        self.options(proto::HOP_BY_HOP, &[])
    }

    /// Destination Options: 8 bytes, nothing but padding.
    #[must_use]
    pub fn destination_options(self) -> Self {
        self.options(proto::DESTINATION_OPTIONS, &[])
    }

    /// Hop-by-Hop or Destination Options with these options, padded to a multiple of 8 bytes (RFC 8200 4.2).
    #[must_use]
    pub fn options(self, protocol: u8, options: &[u8]) -> Self {
        let mut body = options.to_vec();
        let missing = (8 - (2 + body.len()) % 8) % 8;
        match missing {
            0 => {}
            1 => body.push(0), // Pad1
            _ => {
                body.extend([1, byte(missing - 2)]); // PadN
                body.resize(body.len() + missing - 2, 0);
            }
        }
        self.extension(protocol, &body)
    }

    /// A segment routing header (type 4, RFC 8754 2) with these segments, the last one to be visited first.
    #[must_use]
    pub fn routing(self, segments_left: u8, segments: &[Ipv6Addr]) -> Self {
        let last_entry = byte(segments.len().saturating_sub(1));
        let mut body = vec![4, segments_left, last_entry, 0, 0, 0];
        body.extend(segments.iter().flat_map(Ipv6Addr::octets));
        self.extension(proto::ROUTING, &body)
    }

    /// A fragment header; `offset_bytes` must be a multiple of 8. What follows is taken as it is, with the checksum of
    /// a packet that is whole: to get real fragments see [`Packet::build_fragments`].
    #[must_use]
    pub fn fragment(mut self, offset_bytes: u16, more: bool, id: u32) -> Self {
        assert_eq!(offset_bytes % 8, 0, "fragment offsets are multiples of 8");
        let [high, low] = (offset_bytes | u16::from(more)).to_be_bytes();
        let mut bytes = vec![0, 0, high, low];
        bytes.extend(id.to_be_bytes());
        self.extensions.push(Extension {
            protocol: proto::FRAGMENT,
            bytes,
        });
        self
    }

    /// An authentication header (RFC 4302 2) with this integrity check value, padded to the 8 bytes IPv6 asks for.
    #[must_use]
    pub fn authentication(mut self, spi: u32, sequence: u32, icv: &[u8]) -> Self {
        let mut bytes = vec![0, 0, 0, 0];
        bytes.extend(spi.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(icv);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes[1] = byte(bytes.len() / 4 - 2);
        self.extensions.push(Extension {
            protocol: proto::AH,
            bytes,
        });
        self
    }

    /// Any extension header of the common shape: `body` is what follows Next Header and length, and makes the header a
    /// multiple of 8 bytes long.
    #[must_use]
    pub fn extension(mut self, protocol: u8, body: &[u8]) -> Self {
        let len = 2 + body.len();
        assert_eq!(len % 8, 0, "extension headers are multiples of 8 bytes");
        let mut bytes = vec![0, byte(len / 8 - 1)];
        bytes.extend(body);
        self.extensions.push(Extension { protocol, bytes });
        self
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(self, source_port: u16, destination_port: u16, data: &[u8]) -> Self {
        let header = udp::Header {
            source_port: U16::new(source_port),
            destination_port: U16::new(destination_port),
            length: U16::new(u16_len(udp::HEADER_LEN + data.len())),
            checksum: U16::ZERO,
        };
        self.upper(
            proto::UDP,
            &[header.as_bytes(), data],
            Some(udp::CHECKSUM_OFFSET),
        )
    }

    /// A TCP segment of an open connection.
    #[must_use]
    pub fn tcp(self, source_port: u16, destination_port: u16, data: &[u8]) -> Self {
        let header = tcp::Header {
            source_port: U16::new(source_port),
            destination_port: U16::new(destination_port),
            sequence: U32::new(1),
            acknowledgement: U32::new(1),
            data_offset: 5 << 4,
            flags: tcp::flags::ACK,
            window: U16::new(0xffff),
            checksum: U16::ZERO,
            urgent: U16::ZERO,
        };
        self.tcp_segment(header, data)
    }

    /// A TCP segment with this header; `rest` is options and data.
    #[must_use]
    pub fn tcp_segment(self, header: tcp::Header, rest: &[u8]) -> Self {
        self.upper(
            proto::TCP,
            &[header.as_bytes(), rest],
            Some(tcp::CHECKSUM_OFFSET),
        )
    }

    /// An echo request.
    #[must_use]
    pub fn icmpv6_echo(self, identifier: u16, sequence: u16, data: &[u8]) -> Self {
        self.echo(icmpv6::types::ECHO_REQUEST, identifier, sequence, data)
    }

    /// An echo reply.
    #[must_use]
    pub fn icmpv6_echo_reply(self, identifier: u16, sequence: u16, data: &[u8]) -> Self {
        self.echo(icmpv6::types::ECHO_REPLY, identifier, sequence, data)
    }

    fn echo(self, kind: u8, identifier: u16, sequence: u16, data: &[u8]) -> Self {
        let header = icmpv6::EchoHeader::new(kind, identifier, sequence);
        self.upper(
            proto::ICMPV6,
            &[header.as_bytes(), data],
            Some(icmpv6::CHECKSUM_OFFSET),
        )
    }

    /// An error message quoting `quote` (from the IPv6 header on), cut so that the packet has at most 1280 bytes
    /// (RFC 4443 2.4 c). Add extension headers first.
    #[must_use]
    pub fn icmpv6_error(self, kind: u8, code: u8, word: u32, quote: &[u8]) -> Self {
        let header = icmpv6::ErrorHeader::new(kind, code, word);
        let before = ipv6::HEADER_LEN + self.extensions_len() + icmpv6::ERROR_HEADER_LEN;
        let room = icmpv6::ERROR_PACKET_MAX.saturating_sub(before);
        let quote = &quote[..quote.len().min(room)];
        self.upper(
            proto::ICMPV6,
            &[header.as_bytes(), quote],
            Some(icmpv6::CHECKSUM_OFFSET),
        )
    }

    /// Any ICMPv6 message, such as [`icmpv6::neighbor_solicitation`]; its checksum is filled in.
    #[must_use]
    pub fn icmpv6(self, message: &[u8]) -> Self {
        self.upper(proto::ICMPV6, &[message], Some(icmpv6::CHECKSUM_OFFSET))
    }

    /// Any upper layer, as it is.
    #[must_use]
    pub fn raw(self, protocol: u8, bytes: &[u8]) -> Self {
        self.upper(protocol, &[bytes], None)
    }

    fn upper(mut self, protocol: u8, parts: &[&[u8]], checksum_offset: Option<usize>) -> Self {
        self.upper = Upper {
            protocol,
            bytes: parts.concat(),
            checksum_offset,
        };
        self
    }

    /// Get the checksum wrong.
    #[must_use]
    pub fn wrong_checksum(mut self) -> Self {
        self.wrong_checksum = true;
        self
    }

    /// Bytes behind the IPv6 packet that its payload length does not count, like Ethernet padding.
    #[must_use]
    pub fn trailer(mut self, bytes: &[u8]) -> Self {
        self.trailer = bytes.to_vec();
        self
    }

    /// The whole frame.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut frame = self.link_header();
        frame.extend(self.build_ipv6());
        frame
    }

    /// The packet from the IPv6 header on, as an ICMPv6 error quotes it.
    #[must_use]
    pub fn build_ipv6(&self) -> Vec<u8> {
        let upper = self.finished_upper();
        let mut packet = self.chain(&self.extensions, self.upper.protocol, upper.len());
        packet.extend(upper);
        packet.extend(&self.trailer);
        packet
    }

    /// The frames of a fragmented packet (RFC 8200 4.5): everything behind the extension headers in pieces of at most
    /// `piece` bytes (rounded down to a multiple of 8), the checksum over the whole in the first one.
    ///
    /// # Panics
    /// When `piece` is below 8 or the packet does not fit in 64 KiB.
    #[must_use]
    pub fn build_fragments(&self, id: u32, piece: usize) -> Vec<Vec<u8>> {
        let piece = piece / 8 * 8;
        assert!(piece > 0, "a fragment holds at least 8 bytes");
        let upper = self.finished_upper();
        let pieces = upper.len().div_ceil(piece);
        let mut frames = Vec::with_capacity(pieces);
        for (index, data) in upper.chunks(piece).enumerate() {
            let with_header = self
                .clone()
                .fragment(u16_len(index * piece), index + 1 < pieces, id);
            let mut frame = self.link_header();
            frame.extend(self.chain(&with_header.extensions, self.upper.protocol, data.len()));
            frame.extend(data);
            frames.push(frame);
        }
        frames
    }

    fn extensions_len(&self) -> usize {
        self.extensions.iter().map(|e| e.bytes.len()).sum()
    }

    fn link_header(&self) -> Vec<u8> {
        let mut bytes = self.ethernet.destination.to_vec();
        bytes.extend(self.ethernet.source);
        for (position, (tpid, tci)) in self.tags.iter().enumerate() {
            let innermost = position + 1 == self.tags.len();
            let usual = if innermost {
                ETHERTYPE_VLAN
            } else {
                ETHERTYPE_QINQ
            };
            bytes.extend(tpid.unwrap_or(usual).to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(self.ethernet.ether_type.as_bytes());
        bytes
    }

    /// The upper layer with its checksum.
    fn finished_upper(&self) -> Vec<u8> {
        let Upper {
            protocol,
            mut bytes,
            checksum_offset,
        } = self.upper.clone();
        let Some(field) = checksum_offset.map(|at| at..at + 2) else {
            return bytes;
        };
        bytes[field.clone()].fill(0);
        let mut checksum =
            checksum::upper_layer(&self.ipv6.source, &self.ipv6.destination, protocol, &bytes);
        if self.wrong_checksum {
            checksum ^= 0x5555;
        }
        bytes[field].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The IPv6 header and these extension headers, chained, before an upper layer of `upper_len` bytes.
    fn chain(&self, extensions: &[Extension], protocol: u8, upper_len: usize) -> Vec<u8> {
        let extensions_len: usize = extensions.iter().map(|e| e.bytes.len()).sum();
        let mut header = self.ipv6;
        header.payload_length = U16::new(
            self.payload_length
                .unwrap_or_else(|| u16_len(extensions_len + upper_len)),
        );
        header.next_header = extensions.first().map_or(protocol, |e| e.protocol);
        let mut bytes = header.as_bytes().to_vec();
        for (position, extension) in extensions.iter().enumerate() {
            let start = bytes.len();
            bytes.extend(&extension.bytes);
            bytes[start] = extensions
                .get(position + 1)
                .map_or(protocol, |next| next.protocol);
        }
        bytes
    }
}

fn tci(id: u16, priority: u8) -> u16 {
    assert!(id < 4096 && priority < 8, "12 bits and 3 bits");
    (u16::from(priority) << 13) | id
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).expect("a header length field has 8 bits")
}

fn u16_len(len: usize) -> u16 {
    u16::try_from(len).expect("a packet is below 64 KiB")
}

#[cfg(test)]
mod tests;
