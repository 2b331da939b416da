//! Echo replies of IPv4 (RFC 1122 3.2.2.6, RFC 1812 4.3.3.6).

use dataplane::wire::icmpv4::{self, EchoHeader, types};
use dataplane::wire::ipv4::{self, Header, proto};
use dataplane::wire::{FromBytes, IntoBytes};

use super::{HOP_LIMIT, Unanswered};

/// End of the options, and padding between them (RFC 791 3.1): the two that have no length.
const OPTION_END: u8 = 0;
const OPTION_NONE: u8 = 1;
/// Loose and strict source route.
const OPTION_LOOSE_ROUTE: u8 = 131;
const OPTION_STRICT_ROUTE: u8 = 137;

/// The reply to the echo request in `packet`, which starts at the IPv4 header; so does the reply. It comes from where
/// the request went to, with the same TOS and identification and without options; it may be fragmented
/// on its way.
///
/// A request to a group or a broadcast address is discarded, as RFC 1122 3.2.2.6 allows; so is one with a source route,
/// because its reply "MUST" go back along that, and routes of senders are not followed here (RFC 7126 4.3).
///
/// # Errors
/// When there is nothing to answer, or nobody.
pub fn reply(packet: &[u8]) -> Result<Vec<u8>, Unanswered> {
    let packet = ipv4::parse(packet).map_err(|error| match error {
        ipv4::Error::Checksum => Unanswered::Checksum,
        _ => Unanswered::Truncated,
    })?;
    let (header, message) = (packet.header, packet.payload);
    if header.protocol != proto::ICMP || header.is_fragment() {
        return Err(Unanswered::NotARequest);
    }
    let (request, data) =
        EchoHeader::ref_from_prefix(message).map_err(|_| Unanswered::NotARequest)?;
    if request.header.kind != types::ECHO_REQUEST || request.header.code != 0 {
        return Err(Unanswered::NotARequest);
    }
    if !icmpv4::is_valid(message) {
        return Err(Unanswered::Checksum);
    }
    let (to, from) = (header.source(), header.destination());
    if to.is_unspecified() || to.is_multicast() || to.is_broadcast() || to.is_loopback() {
        return Err(Unanswered::Source);
    }
    if from.is_multicast() || from.is_broadcast() {
        return Err(Unanswered::Destination);
    }
    if has_source_route(packet.options) {
        return Err(Unanswered::SourceRoute);
    }
    Ok(build(header, request, data))
}

fn build(asked: &Header, request: &EchoHeader, data: &[u8]) -> Vec<u8> {
    let echo = EchoHeader::new(
        types::ECHO_REPLY,
        request.identifier.get(),
        request.sequence.get(),
    );
    let len = size_of::<EchoHeader>() + data.len();
    let payload_len = u16::try_from(len).expect("no longer than the request's payload, a u16");
    let (from, to) = (asked.destination(), asked.source());
    let mut header = Header::new(from, to, proto::ICMP, HOP_LIMIT, payload_len);
    // RFC 1812 4.3.2.5: the TOS of the request; the identification is as unique as the asker made it.
    header.traffic_class = asked.traffic_class;
    header.identification = asked.identification;
    let mut packet = Vec::with_capacity(ipv4::HEADER_LEN + len);
    packet.extend_from_slice(header.as_bytes());
    packet.extend_from_slice(echo.as_bytes());
    packet.extend_from_slice(data);
    let (header, message) = packet.split_at_mut(ipv4::HEADER_LEN);
    ipv4::set_checksum(header).expect("the header is whole");
    icmpv4::set_checksum(message).expect("the message has its header");
    packet
}

/// Whether a source route is among the options; what is malformed before it hides nothing that could be followed.
fn has_source_route(mut options: &[u8]) -> bool {
    while let Some((kind, rest)) = options.split_first() {
        options = match *kind {
            OPTION_END => return false,
            OPTION_NONE => rest,
            OPTION_LOOSE_ROUTE | OPTION_STRICT_ROUTE => return true,
            _ => {
                let len = rest.first().copied().map_or(0, usize::from);
                // The length counts kind and length.
                match options.get(len..) {
                    Some(next) if len >= 2 => next,
                    _ => return false,
                }
            }
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DATA: &[u8] = b"as it came";

    struct Request {
        source: Ipv4Addr,
        destination: Ipv4Addr,
        options: &'static [u8],
        flags_offset: u16,
        kind: u8,
    }

    impl Default for Request {
        fn default() -> Self {
            Self {
                source: PEER,
                destination: OURS,
                options: &[],
                flags_offset: 0x4000,
                kind: 8,
            }
        }
    }

    impl Request {
        fn build(&self) -> Vec<u8> {
            let len = u16::try_from(8 + DATA.len() + self.options.len()).unwrap();
            let mut header = Header::new(self.source, self.destination, proto::ICMP, 1, len);
            header.version_length += u8::try_from(self.options.len() / 4).unwrap();
            header.traffic_class = 0xb8;
            header.identification = 0x4242.into();
            header.flags_offset = self.flags_offset.into();
            let mut header = [header.as_bytes(), self.options].concat();
            ipv4::set_checksum(&mut header).unwrap();
            let echo = EchoHeader::new(self.kind, 0x1234, 7);
            let mut message = [echo.as_bytes(), DATA].concat();
            icmpv4::set_checksum(&mut message).unwrap();
            [header, message].concat()
        }
    }

    /// RFC 1122 3.2.2.6: "Data received in an ICMP Echo Request MUST be entirely included in the resulting Echo Reply";
    /// "The IP source address in an ICMP Echo Reply MUST be the same as the specific-destination address".
    #[test]
    fn the_reply_is_these_bytes() {
        let found = reply(&Request::default().build()).unwrap();
        let packet = ipv4::parse(&found).unwrap();
        assert_eq!(found.len(), 38);
        assert_eq!(found[..10], [0x45, 0xb8, 0, 38, 0x42, 0x42, 0, 0, 64, 1]);
        assert_eq!(found[12..20], [192, 0, 2, 1, 192, 0, 2, 99]);
        assert!(icmpv4::is_valid(packet.payload));
        assert_eq!(packet.payload[..2], [0, 0]);
        assert_eq!(packet.payload[4..8], [0x12, 0x34, 0, 7]);
        assert_eq!(&packet.payload[8..], DATA);
        // Padding of the frame is not part of the request.
        let padded = [Request::default().build(), vec![0xee; 9]].concat();
        assert_eq!(reply(&padded), Ok(found));
    }

    #[test]
    fn options_are_not_answered_with_options() {
        // Record route with room for one address, and an end.
        let request = Request {
            options: &[7, 7, 4, 0, 0, 0, 0, 0],
            ..Request::default()
        };
        let plain = reply(&Request::default().build());
        assert_eq!(reply(&request.build()), plain);
    }

    #[test]
    fn what_is_no_request_to_us_is_not_answered() {
        let of = |request: Request| reply(&request.build()).unwrap_err();
        for (flags_offset, kind) in [(0x2000, 8), (1, 8), (0, 0), (0, 3), (0, 13)] {
            let request = Request {
                flags_offset,
                kind,
                ..Request::default()
            };
            assert_eq!(of(request), Unanswered::NotARequest);
        }
        for source in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1"] {
            let request = Request {
                source: source.parse().unwrap(),
                ..Request::default()
            };
            assert_eq!(of(request), Unanswered::Source, "{source}");
        }
        for destination in ["224.0.0.1", "255.255.255.255"] {
            let request = Request {
                destination: destination.parse().unwrap(),
                ..Request::default()
            };
            assert_eq!(of(request), Unanswered::Destination, "{destination}");
        }
        for options in [
            &[131, 3, 4, 0][..],
            &[1, 137, 3, 4],
            &[7, 3, 4, 131, 3, 4, 0, 0],
        ] {
            let request = Request {
                options,
                ..Request::default()
            };
            assert_eq!(of(request), Unanswered::SourceRoute, "{options:?}");
        }
    }

    #[test]
    fn damage_and_truncation_are_not_answered() {
        let good = Request::default().build();
        for len in 0..good.len() {
            assert_eq!(reply(&good[..len]), Err(Unanswered::Truncated), "{len}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(reply(&bad).is_err(), "byte {at}");
        }
    }

    /// Options that lie about their length end the search.
    #[test]
    fn malformed_options_are_survived() {
        for options in [
            &[7, 0, 131, 3][..],
            &[7, 1, 131, 3],
            &[7, 200, 131, 3],
            &[1, 1, 1, 7],
        ] {
            let request = Request {
                options,
                ..Request::default()
            };
            assert!(reply(&request.build()).is_ok(), "{options:?}");
        }
    }
}
