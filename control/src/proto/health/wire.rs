//! Packets of checks by echo and UDP, what an answer must be, and as much of HTTP as a status needs. Pure functions.

use std::net::Ipv6Addr;

use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{FromBytes, IntoBytes, checksum, ext, icmpv6, tcp, udp};

use super::Failure;

/// Hop limit of checks; the usual value of hosts and routers.
pub(super) const HOP_LIMIT: u8 = 64;
/// Bytes of a status line that are waited for.
const STATUS_LINE_MAX: usize = 1024;

/// An answer whose headers and checksum are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer<'p> {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    /// Port, or identifier of an echo, it came to.
    pub(super) token: u16,
    pub(super) message: Message<'p>,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'p> {
    /// An echo reply.
    Echo { sequence: u16 },
    /// A TCP segment, in a packet without extension headers.
    Tcp { source_port: u16, packet: &'p [u8] },
    /// A datagram.
    Udp { source_port: u16, data: &'p [u8] },
}

/// Read an answer, from the IPv6 header on; there may be padding behind it. `None`: it is none, or damaged.
pub(super) fn read(packet: &[u8]) -> Option<Answer<'_>> {
    let (header, rest) = ipv6::Header::ref_from_prefix(packet).ok()?;
    let payload = rest.get(..header.payload_len())?;
    let upper = ext::walk(header.next_header, payload).ok()?;
    if header.version() != 6 || upper.fragment.is_some() {
        return None;
    }
    let message = payload.get(upper.offset..)?;
    let ends = (&header.source, &header.destination);
    if !checksum::is_valid(ends.0, ends.1, upper.protocol, message) {
        return None;
    }
    let (token, message) = match upper.protocol {
        proto::ICMPV6 => {
            let (echo, _) = icmpv6::EchoHeader::ref_from_prefix(message).ok()?;
            if (echo.header.kind, echo.header.code) != (icmpv6::types::ECHO_REPLY, 0) {
                return None;
            }
            let sequence = echo.sequence.get();
            (echo.identifier.get(), Message::Echo { sequence })
        }
        proto::TCP if upper.offset == 0 => {
            let (segment, _) = tcp::Header::ref_from_prefix(message).ok()?;
            let source_port = segment.source_port.get();
            let packet = packet.get(..ipv6::HEADER_LEN + payload.len())?;
            (
                segment.destination_port.get(),
                Message::Tcp {
                    source_port,
                    packet,
                },
            )
        }
        proto::UDP => {
            let (datagram, data) = udp::Header::ref_from_prefix(message).ok()?;
            let len = usize::from(datagram.length.get()).checked_sub(udp::HEADER_LEN)?;
            // RFC 8200 8.1: without a checksum it is discarded.
            if datagram.checksum.get() == 0 {
                return None;
            }
            let source_port = datagram.source_port.get();
            let data = data.get(..len)?;
            (
                datagram.destination_port.get(),
                Message::Udp { source_port, data },
            )
        }
        _ => return None,
    };
    Some(Answer {
        source: header.source(),
        destination: header.destination(),
        token,
        message,
    })
}

/// An echo request (RFC 4443 4.1).
pub(super) fn echo(from: Ipv6Addr, to: Ipv6Addr, identifier: u16, sequence: u16) -> Vec<u8> {
    let echo = icmpv6::EchoHeader::new(icmpv6::types::ECHO_REQUEST, identifier, sequence);
    let mut packet = packet(from, to, proto::ICMPV6, &[echo.as_bytes()]);
    if let Some(message) = packet.get_mut(ipv6::HEADER_LEN..) {
        icmpv6::set_checksum(&from.octets(), &to.octets(), message)
            .expect("the message has its header");
    }
    packet
}

/// A datagram (RFC 768).
pub(super) fn datagram(
    (from, source_port): (Ipv6Addr, u16),
    (to, destination_port): (Ipv6Addr, u16),
    data: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(udp::HEADER_LEN + data.len()).expect("payloads are short");
    let mut header = udp::Header {
        source_port: source_port.into(),
        destination_port: destination_port.into(),
        length: length.into(),
        checksum: 0.into(),
    };
    let bytes = [header.as_bytes(), data].concat();
    let sum = checksum::upper_layer(&from.octets(), &to.octets(), proto::UDP, &bytes);
    // RFC 8200 8.1: zero would mean none.
    header.checksum = if sum == 0 { 0xffff } else { sum }.into();
    packet(from, to, proto::UDP, &[header.as_bytes(), data])
}

fn packet(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let payload_len = u16::try_from(len).expect("payloads are short");
    let header = ipv6::Header::new(from, to, protocol, HOP_LIMIT, payload_len);
    let mut packet = header.as_bytes().to_vec();
    packet.extend(parts.iter().copied().flatten());
    packet
}

/// A GET that asks for the end of the connection (RFC 9112 3, 9.6).
pub(super) fn get(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sextant\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// The status of an answer of which this much came; `None`: more is needed (RFC 9112 4).
pub(super) fn status(answer: &[u8]) -> Option<Result<u16, Failure>> {
    let begins_right = answer
        .iter()
        .zip(b"HTTP/1.")
        .all(|(found, right)| found == right);
    if !begins_right {
        return Some(Err(Failure::NotHttp));
    }
    let Some(end) = answer.iter().position(|byte| *byte == b'\n') else {
        return (answer.len() > STATUS_LINE_MAX).then_some(Err(Failure::NotHttp));
    };
    let line = answer.get(..end)?;
    let status = match line {
        [_, _, _, _, _, _, _, minor, b' ', a, b, c]
        | [_, _, _, _, _, _, _, minor, b' ', a, b, c, b' ' | b'\r', ..]
            if minor.is_ascii_digit() =>
        {
            let digits = [a, b, c].map(|digit| char::from(*digit).to_digit(10));
            digits.iter().try_fold(0_u16, |sum, digit| {
                Some(sum * 10 + u16::try_from((*digit)?).ok()?)
            })
        }
        _ => None,
    };
    Some(status.ok_or(Failure::NotHttp))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 1);
    const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x11);

    #[test]
    fn a_status_needs_its_line_and_nothing_else() {
        for (answer, expected) in [
            ("", None),
            ("HT", None),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 200 OK\r", None),
            ("HTTP/1.1 200 OK\r\n", Some(Ok(200))),
            ("HTTP/1.0 404 \n", Some(Ok(404))),
            ("HTTP/1.1 503\r\nbody", Some(Ok(503))),
            ("SSH-2.0-x\r\n", Some(Err(Failure::NotHttp))),
            ("HTTP/2 200\r\n", Some(Err(Failure::NotHttp))),
            ("HTTP/1.1 2000\r\n", Some(Err(Failure::NotHttp))),
            ("HTTP/1.1 2x0 OK\r\n", Some(Err(Failure::NotHttp))),
            ("HTTP/1.1  200\r\n", Some(Err(Failure::NotHttp))),
            ("HTTP/1.1 20\r\n", Some(Err(Failure::NotHttp))),
            ("\n", Some(Err(Failure::NotHttp))),
        ] {
            assert_eq!(status(answer.as_bytes()), expected, "{answer:?}");
        }
        let endless = [b"HTTP/1.1 200 ".as_slice(), &[b'x'; 2000]].concat();
        assert_eq!(status(&endless), Some(Err(Failure::NotHttp)));
    }

    #[test]
    fn a_datagram_is_read_as_it_was_made_and_no_damaged_one() {
        let sent = datagram((PEER, 53), (OWN, 0xc010), b"pong");
        let expected = Answer {
            source: PEER,
            destination: OWN,
            token: 0xc010,
            message: Message::Udp {
                source_port: 53,
                data: b"pong",
            },
        };
        assert_eq!(read(&sent), Some(expected));
        let padded = [&sent[..], &[0; 10]].concat();
        assert_eq!(read(&padded), Some(expected));
        for len in 0..sent.len() {
            assert_eq!(read(&sent[..len]), None, "{len} bytes");
        }
        for position in 4..sent.len() {
            let mut damaged = sent.clone();
            damaged[position] ^= 4;
            // The hop limit is no part of any checksum.
            assert_eq!(read(&damaged).is_some(), position == 7, "byte {position}");
        }
    }
}
