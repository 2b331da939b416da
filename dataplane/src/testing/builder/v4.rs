//! The builder's counterpart for IPv4, and ARP frames.
//!
//! ```
//! use dataplane::{testing::builder::Packet4, wire::ethernet::Mac};
//! let mac = |last| Mac::from_octets([2, 0, 0, 0, 0, last]);
//! let frame = Packet4::ethernet(mac(1), mac(2))
//!     .ipv4("192.0.2.1".parse().unwrap(), "198.51.100.2".parse().unwrap())
//!     .udp(4000, 53, b"question")
//!     .build();
//! assert_eq!(frame.len(), 14 + 20 + 8 + 8);
//! ```

use std::net::Ipv4Addr;

use zerocopy::IntoBytes;
use zerocopy::network_endian::U16;

use super::{Upper, tci, u16_len};
use crate::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Mac};
use crate::wire::ipv4::proto;
use crate::wire::{arp, checksum, icmpv4, ipv4, tcp, udp};

/// An IPv4 packet in the making.
#[derive(Debug, Clone)]
pub struct Packet4 {
    source: Mac,
    destination: Mac,
    /// TCI of each tag, outer first.
    tags: Vec<u16>,
    header: ipv4::Header,
    options: Vec<u8>,
    total_length: Option<u16>,
    upper: Upper,
    wrong_checksum: bool,
    wrong_header_checksum: bool,
    trailer: Vec<u8>,
}

impl Packet4 {
    /// An untagged frame; until [`Packet4::ipv4`] is called, an empty packet from 0.0.0.0 to 0.0.0.0.
    #[must_use]
    pub fn ethernet(source: Mac, destination: Mac) -> Self {
        let nobody = Ipv4Addr::UNSPECIFIED;
        Self {
            source,
            destination,
            tags: Vec::new(),
            header: ipv4::Header::new(nobody, nobody, 0, 64, 0),
            options: Vec::new(),
            total_length: None,
            upper: Upper {
                protocol: 253, // for experiments (RFC 3692 2.1)
                bytes: Vec::new(),
                checksum_offset: None,
            },
            wrong_checksum: false,
            wrong_header_checksum: false,
            trailer: Vec::new(),
        }
    }

    /// Add a VLAN tag inside those already there. Of several tags the last is 802.1Q, the others 802.1ad.
    #[must_use]
    pub fn vlan(mut self, id: u16, priority: u8) -> Self {
        self.tags.push(tci(id, priority));
        self
    }

    /// The addresses.
    #[must_use]
    pub fn ipv4(mut self, source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        self.header.source = source.octets();
        self.header.destination = destination.octets();
        self
    }

    /// The TTL; 64 otherwise.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.header.ttl = ttl;
        self
    }

    /// DSCP and ECN; 0 otherwise.
    #[must_use]
    pub fn traffic_class(mut self, traffic_class: u8) -> Self {
        self.header.traffic_class = traffic_class;
        self
    }

    /// The identification; 0 otherwise.
    #[must_use]
    pub fn identification(mut self, identification: u16) -> Self {
        self.header.identification = U16::new(identification);
        self
    }

    /// DF.
    #[must_use]
    pub fn dont_fragment(mut self) -> Self {
        self.header.set_dont_fragment(true);
        self
    }

    /// A fragment: its offset, a multiple of 8, and whether more follow. Its data are taken as they are.
    #[must_use]
    pub fn fragment(mut self, offset_bytes: u16, more: bool) -> Self {
        assert_eq!(offset_bytes % 8, 0, "fragment offsets are multiples of 8");
        self.header.set_fragment(offset_bytes, more);
        self
    }

    /// Another IP version than 4.
    #[must_use]
    pub fn version(mut self, version: u8) -> Self {
        self.header.version_length = version << 4 | 5;
        self
    }

    /// Options, padded to a multiple of 4 bytes; at most 40.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// A total length that need not be true.
    #[must_use]
    pub fn total_length(mut self, total_length: u16) -> Self {
        self.total_length = Some(total_length);
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
        let parts = [header.as_bytes(), data];
        self.upper(proto::UDP, &parts, Some(udp::CHECKSUM_OFFSET))
    }

    /// A TCP segment of an open connection.
    #[must_use]
    pub fn tcp(self, source_port: u16, destination_port: u16, data: &[u8]) -> Self {
        let header = tcp::Header {
            source_port: U16::new(source_port),
            destination_port: U16::new(destination_port),
            sequence: 1.into(),
            acknowledgement: 1.into(),
            data_offset: 5 << 4,
            flags: tcp::flags::ACK,
            window: U16::new(0xffff),
            checksum: U16::ZERO,
            urgent: U16::ZERO,
        };
        let parts = [header.as_bytes(), data];
        self.upper(proto::TCP, &parts, Some(tcp::CHECKSUM_OFFSET))
    }

    /// An echo request or reply: one of [`icmpv4::types`].
    #[must_use]
    pub fn echo(self, kind: u8, identifier: u16, sequence: u16, data: &[u8]) -> Self {
        let header = icmpv4::EchoHeader::new(kind, identifier, sequence);
        self.icmp(&[header.as_bytes(), data].concat())
    }

    /// An error quoting `quote`, from its IPv4 header on.
    #[must_use]
    pub fn icmp_error(self, kind: u8, code: u8, word: u32, quote: &[u8]) -> Self {
        let header = icmpv4::ErrorHeader::new(kind, code, word);
        self.icmp(&[header.as_bytes(), quote].concat())
    }

    /// Any ICMP message; its checksum is filled in.
    #[must_use]
    pub fn icmp(self, message: &[u8]) -> Self {
        self.upper(proto::ICMP, &[message], Some(icmpv4::CHECKSUM_OFFSET))
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

    /// Get the upper layer's checksum wrong.
    #[must_use]
    pub fn wrong_checksum(mut self) -> Self {
        self.wrong_checksum = true;
        self
    }

    /// Get the header's checksum wrong.
    #[must_use]
    pub fn wrong_header_checksum(mut self) -> Self {
        self.wrong_header_checksum = true;
        self
    }

    /// Bytes behind the packet that its total length does not count, like Ethernet padding.
    #[must_use]
    pub fn trailer(mut self, bytes: &[u8]) -> Self {
        self.trailer = bytes.to_vec();
        self
    }

    /// The whole frame.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut frame = self.link_header(ETHERTYPE_IPV4);
        frame.extend(self.build_ipv4());
        frame.extend(&self.trailer);
        frame
    }

    /// The packet without its link header and trailer.
    ///
    /// # Panics
    /// When the options are too long, or the packet.
    #[must_use]
    pub fn build_ipv4(&self) -> Vec<u8> {
        let upper = self.finished_upper();
        let header_len = ipv4::HEADER_LEN + self.options.len();
        assert!(
            header_len <= ipv4::HEADER_LEN_MAX,
            "at most 40 bytes of options"
        );
        let mut header = self.header;
        header.version_length += u8::try_from(self.options.len() / 4).expect("at most 10");
        let total_length = u16_len(header_len + upper.len());
        header.total_length = U16::new(self.total_length.unwrap_or(total_length));
        header.protocol = self.upper.protocol;
        let mut packet = [header.as_bytes(), &self.options].concat();
        ipv4::set_checksum(&mut packet).expect("it has a header");
        if self.wrong_header_checksum {
            packet[ipv4::CHECKSUM_OFFSET] ^= 0x55;
        }
        packet.extend(upper);
        packet
    }

    /// An ARP message between these stations, with these tags.
    #[must_use]
    pub fn build_arp(&self, message: &arp::Message) -> Vec<u8> {
        let mut frame = self.link_header(ETHERTYPE_ARP);
        frame.extend(message.as_bytes());
        frame
    }

    fn link_header(&self, ether_type: u16) -> Vec<u8> {
        let mut bytes = [self.destination.octets(), self.source.octets()].concat();
        for (position, tci) in self.tags.iter().enumerate() {
            let is_innermost = position + 1 == self.tags.len();
            let tpid = if is_innermost {
                ETHERTYPE_VLAN
            } else {
                ETHERTYPE_QINQ
            };
            bytes.extend(tpid.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(ether_type.to_be_bytes());
        bytes
    }

    /// The upper layer with its checksum. ICMP has no pseudo-header.
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
        let mut sum = checksum::sum(&bytes);
        if protocol != proto::ICMP {
            let (source, destination) = (&self.header.source, &self.header.destination);
            let len = u16_len(bytes.len());
            sum += checksum::pseudo_header_v4(source, destination, len, protocol);
        }
        let mut checksum = match sum.checksum() {
            0 if protocol == proto::UDP => 0xffff,
            checksum => checksum,
        };
        if self.wrong_checksum {
            checksum ^= 0x5555;
        }
        bytes[field].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Packet4 {
        let mac = |last| Mac::from_octets([2, 0, 0, 0, 0, last]);
        let address = |last| Ipv4Addr::new(192, 0, 2, last);
        Packet4::ethernet(mac(1), mac(2)).ipv4(address(1), address(2))
    }

    /// Written out by hand: the header's words sum to 0x0833, those of datagram and pseudo-header to 0xd4fc.
    #[test]
    fn smallest_tagged_udp_frame_has_known_bytes() {
        let frame = packet().vlan(100, 7).ttl(63).udp(4000, 53, b"A").build();
        #[rustfmt::skip]
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0xe0, 0x64, 0x08, 0x00,
            0x45, 0, 0, 29, 0, 0, 0, 0, 63, 17, 0xf7, 0xcc, 192, 0, 2, 1, 192, 0, 2, 2,
            0x0f, 0xa0, 0x00, 0x35, 0x00, 0x09, 0x2b, 0x03, b'A',
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn what_is_built_is_a_good_packet() {
        let built = packet()
            .options(&[1, 1, 1])
            .identification(7)
            .dont_fragment()
            .traffic_class(0xb8)
            .echo(icmpv4::types::ECHO_REQUEST, 1, 2, b"abc")
            .trailer(&[0; 9])
            .build();
        let parsed = ipv4::parse(&built[14..]).expect("good");
        assert_eq!(parsed.options, [1, 1, 1, 0]);
        assert!(parsed.header.dont_fragment() && icmpv4::is_valid(parsed.payload));
        assert_eq!(parsed.header.traffic_class, 0xb8);
        let parsed = packet()
            .tcp(1, 2, b"x")
            .wrong_header_checksum()
            .build_ipv4();
        assert_eq!(ipv4::parse(&parsed), Err(ipv4::Error::Checksum));
    }
}
