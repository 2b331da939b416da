//! A packet in words, for `sextant trace`: addresses, hop limit, protocol, ports. Reads what is there; says so where
//! something is missing.

use std::fmt::Write as _;

use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{FromBytes as _, ext, icmpv6, vlan};

/// `frame` in one line; it may be the front of a frame of `length` bytes.
pub(crate) fn of_frame(frame: &[u8], length: u16) -> String {
    let Ok(link) = vlan::parse(frame) else {
        return format!("{length} bytes, no link header");
    };
    let mut text = String::new();
    let ids = link.vlan_ids();
    for id in ids.iter().take(usize::from(link.tags)) {
        // Writing to a string does not fail, here and below.
        let _ = write!(text, "vlan {id} ");
    }
    let packet = frame.get(usize::from(link.l3_offset)..).unwrap_or(&[]);
    let Ok((header, rest)) = ipv6::Header::ref_from_prefix(packet) else {
        let _ = write!(text, "type {:#06x}, {length} bytes", link.ether_type);
        return text;
    };
    let (source, destination) = (header.source(), header.destination());
    let _ = write!(
        text,
        "{source} > {destination} hop limit {} ",
        header.hop_limit
    );
    match ext::walk(header.next_header, rest) {
        Ok(upper) => {
            let payload = rest.get(upper.offset..).unwrap_or(&[]);
            match upper.fragment {
                Some(fragment) if fragment.offset_bytes > 0 => {
                    let _ = write!(text, "fragment at {} ", fragment.offset_bytes);
                    text.push_str(&protocol(upper.protocol));
                }
                _ => text.push_str(&upper_layer(upper.protocol, payload)),
            }
        }
        Err(_) => text.push_str("extension headers that are malformed or not recorded"),
    }
    let _ = write!(text, ", {length} bytes");
    text
}

fn upper_layer(number: u8, payload: &[u8]) -> String {
    let word = |offset: usize| {
        let bytes = payload.get(offset..)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*bytes))
    };
    match (number, word(0), word(2)) {
        (proto::TCP | proto::UDP, Some(source), Some(destination)) => {
            format!("{} {source} > {destination}", protocol(number))
        }
        (proto::ICMPV6, Some(_), _) => {
            let kind = payload.first().copied().unwrap_or_default();
            let code = payload.get(1).copied().unwrap_or_default();
            match kind {
                icmpv6::types::ECHO_REQUEST => "ICMPv6 echo request".to_owned(),
                icmpv6::types::ECHO_REPLY => "ICMPv6 echo reply".to_owned(),
                _ => format!("ICMPv6 type {kind} code {code}"),
            }
        }
        _ => protocol(number),
    }
}

fn protocol(number: u8) -> String {
    match number {
        proto::TCP => "TCP".to_owned(),
        proto::UDP => "UDP".to_owned(),
        proto::ICMPV6 => "ICMPv6".to_owned(),
        proto::NO_NEXT => "no next header".to_owned(),
        other => format!("protocol {other}"),
    }
}

#[cfg(test)]
mod tests {
    use dataplane::testing::builder::Packet;
    use dataplane::wire::ethernet::Mac;

    use super::*;

    fn packet() -> Packet {
        Packet::ethernet(Mac::from_octets([2; 6]), Mac::from_octets([4; 6]))
    }

    fn summary(frame: &[u8]) -> String {
        of_frame(frame, u16::try_from(frame.len()).unwrap())
    }

    #[test]
    fn says_who_talks_to_whom_about_what() {
        let [a, b] = ["fd01::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        let frame = packet()
            .vlan(7, 0)
            .ipv6(a, b)
            .hop_limit(9)
            .udp(53, 1024, b"x")
            .build();
        assert_eq!(
            summary(&frame),
            "vlan 7 fd01::1 > 2001:db8::2 hop limit 9 UDP 53 > 1024, 67 bytes"
        );
        let frame = packet().ipv6(a, b).raw(89, b"x").build();
        assert!(
            summary(&frame).ends_with("protocol 89, 55 bytes"),
            "{}",
            summary(&frame)
        );
    }

    #[test]
    fn any_beginning_of_a_frame_is_said_without_a_panic() {
        let [a, b] = ["fd01::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        let frame = packet()
            .vlan(7, 0)
            .ipv6(a, b)
            .hop_by_hop()
            .udp(53, 1024, b"x")
            .build();
        for end in 0..=frame.len() {
            assert!(!of_frame(&frame[..end], 999).is_empty());
        }
    }
}
