//! Encapsulated Control Message: a Map-Request in a datagram in a datagram (RFC 9301 5.8).
//!
//! ```text
//! Type=8 S D rsvd26 | IPv4 or IPv6 header | UDP header | Map-Request
//! ```
//!
//! Bits 6 and 7, which the RFC's table names and its figure does not have, are sent as 0 and ignored.

use std::net::{IpAddr, SocketAddr};

use dataplane::wire::ipv4;
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{FromBytes, IntoBytes, checksum};

use super::error::Error;
use super::reader::Reader;
use super::request::Request;
use super::{DATA_PORT, bit, first_word, kind, types};

/// Of the inner packet, which is never forwarded as a packet.
const HOP_LIMIT: u8 = 64;
const UDP_LEN: usize = 8;
const HEADER_LEN: usize = 4;

/// An encapsulated Map-Request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encapsulated {
    /// D: it goes through a delegated database (RFC 8111).
    pub ddt: bool,
    /// Who asked, as the inner packet says.
    pub source: SocketAddr,
    /// The EID that is asked for, and the control port.
    pub destination: SocketAddr,
    /// The question.
    pub request: Request,
}

impl Encapsulated {
    const SECURITY: u32 = bit(4);
    const DDT: u32 = bit(5);

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let word = reader.u32()?;
        if word & Self::SECURITY != 0 {
            return Err(Error::Security);
        }
        let packet = reader.take(reader.remaining())?;
        let Datagram {
            source,
            destination,
            datagram,
        } = Datagram::parse(packet)?;
        let mut udp = Reader::new(datagram);
        let (source_port, destination_port) = (udp.u16()?, udp.u16()?);
        if source_port == DATA_PORT || destination_port == DATA_PORT {
            return Err(Error::InnerPort);
        }
        let message = datagram.get(UDP_LEN..).ok_or(Error::InnerLength)?;
        match kind(message).ok_or(Error::Truncated)? {
            types::MAP_REQUEST => {}
            other => return Err(Error::InnerType(other)),
        }
        let request = Request::parse(message)?;
        if request.flags.probe {
            return Err(Error::InnerProbe);
        }
        Ok(Self {
            ddt: word & Self::DDT != 0,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            request,
        })
    }

    /// As bytes. Source and destination are of one family; where they are not, the source is written as unspecified.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let flags = if self.ddt { Self::DDT } else { 0 };
        let mut bytes = Vec::with_capacity(192);
        bytes.extend(first_word(types::ENCAPSULATED, flags, 0));
        let message = self.request.emit();
        emit_packet(self.source, self.destination, &message, &mut bytes);
        bytes
    }

    /// A message that was received, to be sent on: what is inside stays as it is, bit for bit (RFC 9301 8.3), flags
    /// that meant something to us only are cleared.
    #[must_use]
    pub fn emit_forwarded(received: &[u8]) -> Vec<u8> {
        let mut bytes = first_word(types::ENCAPSULATED, 0, 0).to_vec();
        bytes.extend(received.get(HEADER_LEN..).unwrap_or_default());
        bytes
    }
}

/// A packet with a datagram in it: where the datagram is from, where it goes, and what is in it. Its length and its checksum
/// are right, and the checksum is there (RFC 9301 5).
///
/// # Errors
/// With the first thing that is wrong.
pub fn open(packet: &[u8]) -> Result<(SocketAddr, SocketAddr, &[u8]), Error> {
    let Datagram {
        source,
        destination,
        datagram,
    } = Datagram::parse(packet)?;
    let mut udp = Reader::new(datagram);
    let (source_port, destination_port) = (udp.u16()?, udp.u16()?);
    let payload = datagram.get(UDP_LEN..).ok_or(Error::InnerLength)?;
    Ok((
        SocketAddr::new(source, source_port),
        SocketAddr::new(destination, destination_port),
        payload,
    ))
}

/// A message as a packet, from the IP header on, with right checksums; both ends are of one family.
#[must_use]
pub fn enclose(source: SocketAddr, destination: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 48);
    emit_packet(source, destination, message, &mut bytes);
    bytes
}

/// The inner packet down to UDP, whose length and checksum are right.
struct Datagram<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// With its header.
    datagram: &'a [u8],
}

impl<'a> Datagram<'a> {
    fn parse(packet: &'a [u8]) -> Result<Self, Error> {
        match packet.first().ok_or(Error::Truncated)? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            other => Err(Error::InnerVersion(other)),
        }
    }

    fn parse_v4(packet: &'a [u8]) -> Result<Self, Error> {
        let ipv4::Packet {
            header, payload, ..
        } = ipv4::parse(packet).map_err(|_| Error::InnerHeader)?;
        if header.is_fragment() {
            return Err(Error::InnerFragment);
        }
        if header.protocol != proto::UDP {
            return Err(Error::InnerProtocol(header.protocol));
        }
        let datagram = whole_datagram(payload)?;
        let length = u16::try_from(datagram.len()).map_err(|_| Error::InnerLength)?;
        let (source, destination) = (header.source(), header.destination());
        let sum =
            checksum::pseudo_header_v4(&source.octets(), &destination.octets(), length, proto::UDP)
                + checksum::sum(datagram);
        if sum.fold() != 0xffff {
            return Err(Error::InnerChecksum);
        }
        Ok(Self {
            source: source.into(),
            destination: destination.into(),
            datagram,
        })
    }

    fn parse_v6(packet: &'a [u8]) -> Result<Self, Error> {
        let (header, rest) =
            ipv6::Header::ref_from_prefix(packet).map_err(|_| Error::InnerHeader)?;
        let payload = rest.get(..header.payload_len()).ok_or(Error::InnerHeader)?;
        if header.next_header == proto::FRAGMENT {
            return Err(Error::InnerFragment);
        }
        // Nobody sends extension headers in here.
        if header.next_header != proto::UDP {
            return Err(Error::InnerProtocol(header.next_header));
        }
        let datagram = whole_datagram(payload)?;
        let (source, destination) = (header.source(), header.destination());
        if !checksum::is_valid(
            &source.octets(),
            &destination.octets(),
            proto::UDP,
            datagram,
        ) {
            return Err(Error::InnerChecksum);
        }
        Ok(Self {
            source: source.into(),
            destination: destination.into(),
            datagram,
        })
    }
}

/// As much of the payload as the UDP header says; its checksum field is not zero (RFC 9301 5.8).
fn whole_datagram(payload: &[u8]) -> Result<&[u8], Error> {
    let header: &[u8; UDP_LEN] = payload.first_chunk().ok_or(Error::InnerLength)?;
    let [.., high, low, check_high, check_low] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let datagram = payload.get(..length).ok_or(Error::InnerLength)?;
    if length < UDP_LEN {
        return Err(Error::InnerLength);
    }
    if [check_high, check_low] == [0, 0] {
        return Err(Error::InnerChecksum);
    }
    Ok(datagram)
}

/// IP and UDP headers with right checksums, and the message.
pub(super) fn emit_packet(
    source: SocketAddr,
    destination: SocketAddr,
    message: &[u8],
    bytes: &mut Vec<u8>,
) {
    let length = u16::try_from(UDP_LEN + message.len())
        .expect("a question with 32 RLOCs, 255 EIDs and one record is far below 64 KiB");
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend(length.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(message);
    let check = match (source.ip(), destination.ip()) {
        (source, IpAddr::V6(destination)) => {
            let source = match source {
                IpAddr::V6(source) => source,
                IpAddr::V4(_) => std::net::Ipv6Addr::UNSPECIFIED,
            };
            let header = ipv6::Header::new(source, destination, proto::UDP, HOP_LIMIT, length);
            bytes.extend(header.as_bytes());
            let (source, destination) = (source.octets(), destination.octets());
            checksum::upper_layer(&source, &destination, proto::UDP, &datagram)
        }
        (source, IpAddr::V4(destination)) => {
            let source = match source {
                IpAddr::V4(source) => source,
                IpAddr::V6(_) => std::net::Ipv4Addr::UNSPECIFIED,
            };
            let header = ipv4::Header::new(source, destination, proto::UDP, HOP_LIMIT, length);
            bytes.extend(header.as_bytes());
            let (source, destination) = (source.octets(), destination.octets());
            let sum = checksum::pseudo_header_v4(&source, &destination, length, proto::UDP)
                + checksum::sum(&datagram);
            match sum.checksum() {
                0 => 0xffff,
                check => check,
            }
        }
    };
    if let Some(field) = datagram.get_mut(6..UDP_LEN) {
        field.copy_from_slice(&check.to_be_bytes());
    }
    bytes.extend(datagram);
}
