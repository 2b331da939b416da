//! The whole graph: given frames in, expect frames out, counters, and nothing else.

mod alike;
mod bench;
mod icmp;
mod ingress;
mod ipv4;
mod lisp;
mod npt66;
mod routing;
mod steer;

use dataplane::wire::checksum;
use dataplane::wire::ipv6::proto;

/// The IPv6 packet of a frame without tags.
pub(crate) fn ip(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

/// Its source.
pub(crate) fn source(packet: &[u8]) -> [u8; 16] {
    packet[8..24].try_into().expect("16 bytes")
}

/// Its destination.
pub(crate) fn destination(packet: &[u8]) -> [u8; 16] {
    packet[24..40].try_into().expect("16 bytes")
}

/// An ICMPv6 error: its checksum must hold; type, code, word and quote.
pub(crate) fn error(packet: &[u8]) -> (u8, u8, u32, &[u8]) {
    assert_eq!(packet[6], proto::ICMPV6);
    assert!(packet.len() <= 1280, "RFC 4443 2.4 (c)");
    assert!(checksum::is_valid(
        &source(packet),
        &destination(packet),
        proto::ICMPV6,
        &packet[40..]
    ));
    let word = u32::from_be_bytes(packet[44..48].try_into().expect("4 bytes"));
    (packet[40], packet[41], word, &packet[48..])
}
