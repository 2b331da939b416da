//! Known bytes in, known bytes out.

use dataplane::testing::builder::Packet;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv6::codes;

use super::*;

const PEER: &str = "2001:db8::99";
const OURS: &str = "2001:db8::1";

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn request(destination: &str) -> Packet {
    let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
    Packet::ethernet(mac, mac)
        .ipv6(ip(PEER), ip(destination))
        .icmpv6_echo(0x1234, 7, b"as it came")
}

/// RFC 4443 4.2: identifier, sequence number and data unchanged; addresses exchanged.
#[test]
fn the_reply_is_these_bytes() {
    let expected = Packet::anywhere()
        .ipv6(ip(OURS), ip(PEER))
        .hop_limit(64)
        .icmpv6_echo_reply(0x1234, 7, b"as it came")
        .build_ipv6();
    assert_eq!(
        reply(&request(OURS).build_ipv6(), ip("fe80::1")),
        Ok(expected.clone())
    );
    assert_eq!(expected[40..44], [129, 0, expected[42], expected[43]]);
    assert_eq!(expected[44..48], [0x12, 0x34, 0, 7]);
    // Extension headers, traffic class, flow label, hop limit and padding of the request are not the reply's.
    let decorated = request(OURS)
        .hop_by_hop()
        .destination_options()
        .routing(0, &[ip(OURS)])
        .traffic_class(0xff)
        .flow_label(0xfffff)
        .hop_limit(1)
        .trailer(&[0xee; 7]);
    assert_eq!(
        reply(&decorated.build_ipv6(), ip("fe80::1")),
        Ok(expected.clone())
    );
    // A fragment header on a whole packet (RFC 6946).
    let atomic = request(OURS).fragment(0, false, 9);
    assert_eq!(reply(&atomic.build_ipv6(), ip("fe80::1")), Ok(expected));
}

/// RFC 4443 4.2: the reply to a request to a group comes from an address of the interface.
#[test]
fn a_request_to_a_group_is_answered_from_an_own_address() {
    let packet = reply(&request("ff02::1").build_ipv6(), ip(OURS)).unwrap();
    let (header, _) = ipv6::Header::ref_from_prefix(&packet).unwrap();
    assert_eq!(
        (header.source(), header.destination()),
        (ip(OURS), ip(PEER))
    );
}

#[test]
fn sizes_from_nothing_to_the_largest() {
    for len in [0, 1, 2, 3, 1232, 8952, 65_527] {
        let data = vec![0xa5; len];
        let asked = request(OURS).icmpv6_echo(1, 2, &data).build_ipv6();
        let packet = reply(&asked, ip(OURS)).unwrap();
        assert_eq!(packet.len(), asked.len());
        let (header, message) = packet.split_at(40);
        let (header, _) = ipv6::Header::ref_from_prefix(header).unwrap();
        let valid = checksum::is_valid(&header.source, &header.destination, proto::ICMPV6, message);
        assert!(valid);
        assert_eq!(message[8..], data);
    }
}

#[test]
fn what_is_no_whole_valid_request_has_no_reply() {
    let own = ip(OURS);
    let refused = |packet: Packet| reply(&packet.build_ipv6(), own).unwrap_err();
    assert_eq!(
        refused(request(OURS).wrong_checksum()),
        Unanswered::Checksum
    );
    assert_eq!(refused(request(OURS).version(5)), Unanswered::Truncated);
    assert_eq!(
        refused(request(OURS).payload_length(19)),
        Unanswered::Truncated
    );
    for not_a_request in [
        request(OURS).icmpv6_echo_reply(1, 2, b""),
        request(OURS).icmpv6(&[128, 1, 0, 0, 0, 1, 0, 1]),
        request(OURS).icmpv6(&[128, 0, 0, 0, 0, 1, 0]),
        request(OURS).icmpv6_error(1, codes::UNREACHABLE_ADDRESS, 0, &[]),
        request(OURS).udp(1, 2, b"x"),
        request(OURS).fragment(0, true, 3),
        request(OURS).fragment(8, false, 3),
        request(OURS).routing(1, &[own]),
    ] {
        assert_eq!(refused(not_a_request), Unanswered::NotARequest);
    }
    // RFC 4443 2.2 speaks of errors; a reply to a group or to nobody would be as bad.
    for source in ["ff02::1", "::"] {
        let from_nobody = Packet::anywhere()
            .ipv6(ip(source), own)
            .icmpv6_echo(1, 2, b"");
        assert_eq!(refused(from_nobody), Unanswered::Source);
    }
}

#[test]
fn every_truncation_is_refused() {
    let whole = request(OURS).hop_by_hop().build_ipv6();
    for len in 0..whole.len() {
        assert_eq!(reply(&whole[..len], ip(OURS)), Err(Unanswered::Truncated));
    }
    // Cut, with a payload length and a checksum that fit the cut: still an echo as long as its header is whole.
    for len in 4..8 {
        let message = &[128, 0, 0, 0, 0, 0, 0, 0][..len];
        let packet = request(OURS).icmpv6(message).build_ipv6();
        assert_eq!(reply(&packet, ip(OURS)), Err(Unanswered::NotARequest));
    }
}
