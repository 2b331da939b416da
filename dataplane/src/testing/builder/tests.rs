//! Known bytes, what the parsers see, and what tshark thinks of it.

use std::io::Write;
use std::process::Command;

use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::testing::pcap;
use crate::wire::ext::{self, Upper};
use crate::wire::vlan;

const INSIDE: &str = "2001:db8:1::1";
const OUTSIDE: &str = "2001:db8:2::2";

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn packet() -> Packet {
    Packet::anywhere().ipv6(address(INSIDE), address(OUTSIDE))
}

/// The IPv6 header, its payload cut to the payload length, and where the upper layer is.
fn dissect(frame: &[u8]) -> (ipv6::Header, &[u8], Upper) {
    let l2 = vlan::parse(frame).expect("a link header");
    assert_eq!(l2.ether_type, ETHERTYPE_IPV6);
    let (header, rest) =
        ipv6::Header::ref_from_prefix(&frame[usize::from(l2.l3_offset)..]).expect("an IPv6 header");
    let payload = &rest[..header.payload_len()];
    let upper = ext::walk(header.next_header, payload).expect("a good chain");
    (*header, payload, upper)
}

fn has_valid_checksum(frame: &[u8]) -> bool {
    let (header, payload, upper) = dissect(frame);
    let bytes = &payload[upper.offset..];
    checksum::is_valid(&header.source, &header.destination, upper.protocol, bytes)
}

/// Written out by hand; the checksum is the one's complement of
/// 2001+db8+1+1 + 2001+db8+2+2 + 0009 + 0011 + 0fa0+0035+0009+4100.
#[test]
fn smallest_tagged_udp_frame_has_known_bytes() {
    let frame = packet()
        .vlan(100, 7)
        .hop_limit(63)
        .traffic_class(0xb8)
        .flow_label(0x12345)
        .udp(4000, 53, b"A")
        .build();
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0x00, 0xe0, 0x64, 0x86, 0xdd,
        0x6b, 0x81, 0x23, 0x45, 0x00, 0x09, 17, 63,
        0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0x0f, 0xa0, 0x00, 0x35, 0x00, 0x09, 0x53, 0x8f, b'A',
    ];
    assert_eq!(frame, expected);
}

#[test]
fn empty_packet_is_an_ipv6_header() {
    let frame = packet().build();
    assert_eq!(frame.len(), 54);
    let (header, payload, upper) = dissect(&frame);
    assert_eq!((header.next_header, payload.len()), (proto::NO_NEXT, 0));
    assert_eq!((header.version(), header.hop_limit), (6, 64));
    assert_eq!(upper.protocol, proto::NO_NEXT);
}

#[test]
fn last_tag_is_the_customer_tag() {
    let frame = packet().vlan(10, 0).vlan(20, 1).build();
    assert_eq!(
        frame[12..22],
        [0x88, 0xa8, 0, 10, 0x81, 0, 0x20, 20, 0x86, 0xdd]
    );
    let chosen = packet().tag(0x8100, 10, 0).tag(0x9100, 20, 0).build();
    assert_eq!(chosen[12..22], [0x81, 0, 0, 10, 0x91, 0, 0, 20, 0x86, 0xdd]);
}

#[test]
fn extension_headers_have_known_bytes() {
    let packet = packet()
        .options(proto::HOP_BY_HOP, &[5, 2, 0, 0])
        .routing(0, &[address(OUTSIDE)])
        .fragment(0, true, 0x0102_0304)
        .authentication(7, 8, &[9; 12])
        .destination_options()
        .raw(253, b"xy");
    let bytes = packet.build_ipv6();
    assert_eq!(packet.build()[14..], bytes);
    assert_eq!(bytes[6], proto::HOP_BY_HOP);
    let payload = &bytes[40..];
    assert_eq!(payload[..8], [proto::ROUTING, 0, 5, 2, 0, 0, 1, 0]);
    assert_eq!(payload[8..16], [proto::FRAGMENT, 2, 4, 0, 0, 0, 0, 0]);
    assert_eq!(payload[16..32], address(OUTSIDE).octets());
    assert_eq!(payload[32..40], [proto::AH, 0, 0, 1, 1, 2, 3, 4]);
    assert_eq!(payload[40..44], [proto::DESTINATION_OPTIONS, 4, 0, 0]);
    assert_eq!(
        payload[44..64],
        [0, 0, 0, 7, 0, 0, 0, 8, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]
    );
    assert_eq!(payload[64..], [253, 0, 1, 4, 0, 0, 0, 0, b'x', b'y']);
}

/// RFC 8200 4.2: Pad1 for one byte, PadN for more, nothing for none.
#[test]
fn options_are_padded_to_eight_bytes() {
    for len in 0..40 {
        // One option of an experimental type that fills the space.
        let mut options = vec![0x1e; len];
        if len >= 2 {
            options[1] = byte(len - 2);
        }
        let payload = packet()
            .options(proto::DESTINATION_OPTIONS, &options)
            .build_ipv6()[40..]
            .to_vec();
        assert_eq!(payload.len() % 8, 0);
        assert!(payload.len() < 2 + len + 8);
        assert_eq!(usize::from(payload[1]), payload.len() / 8 - 1);
        match &payload[2 + len..] {
            [] | [0] => {}
            [1, rest @ ..] => {
                assert_eq!(usize::from(rest[0]), rest.len() - 1);
                assert!(rest[1..].iter().all(|byte| *byte == 0));
            }
            other => panic!("{other:?} is no padding"),
        }
    }
}

/// RFC 4443 2.4 c: as much of the packet as fits in 1280 bytes.
#[test]
fn error_never_exceeds_the_minimum_mtu() {
    for quoted in [0, 40, 1231, 1232, 1233, 1500] {
        let quote = vec![0x60; quoted];
        let plain = packet().icmpv6_error(2, 0, 1400, &quote);
        assert_eq!(plain.build_ipv6().len(), (48 + quoted).min(1280));
        assert!(has_valid_checksum(&plain.build()));
        let behind = packet().hop_by_hop().icmpv6_error(1, 3, 0, &quote);
        assert_eq!(behind.build_ipv6().len(), (56 + quoted).min(1280));
        assert!(has_valid_checksum(&behind.build()));
    }
}

#[test]
fn what_is_asked_to_be_wrong_is_wrong_and_nothing_else() {
    let good = packet().udp(1, 2, b"data").build();
    assert!(has_valid_checksum(&good));
    let bad = packet().udp(1, 2, b"data").wrong_checksum().build();
    assert!(!has_valid_checksum(&bad));
    assert_eq!((&bad[..60], &bad[62..]), (&good[..60], &good[62..]));

    let lying = packet().udp(1, 2, b"data").payload_length(7).build();
    assert_eq!(lying[18..20], [0, 7]);
    assert_eq!((&lying[..18], &lying[20..]), (&good[..18], &good[20..]));

    let padded = packet().udp(1, 2, b"data").trailer(&[0; 5]).build();
    assert_eq!(padded, [&good[..], &[0; 5]].concat());

    let other = packet().udp(1, 2, b"data").version(4).build();
    assert_eq!(other[14], 0x40);
    assert_eq!((&other[..14], &other[15..]), (&good[..14], &good[15..]));

    let arp = packet().ether_type(0x0806).udp(1, 2, b"data").build();
    assert_eq!(arp[12..14], [8, 6]);
}

#[test]
fn fragments_put_together_are_the_packet() {
    let data: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let whole = packet().destination_options().udp(5, 6, &data);
    let upper = whole.build_ipv6()[48..].to_vec();
    for piece in [8, 100, 1232, 1400, 4000] {
        let mut together: Vec<u8> = Vec::new();
        let frames = whole.build_fragments(77, piece);
        for (index, frame) in frames.iter().enumerate() {
            let (header, payload, found) = dissect(frame);
            assert_eq!(header.destination(), address(OUTSIDE));
            let fragment = found.fragment.expect("a fragment header");
            assert_eq!(usize::from(fragment.offset_bytes), together.len());
            assert_eq!(fragment.more, index + 1 < frames.len());
            assert_eq!(
                (fragment.id, found.protocol, found.offset),
                (77, proto::UDP, 16)
            );
            assert!(payload.len() <= 16 + piece);
            together.extend(&payload[16..]);
        }
        assert_eq!(together, upper);
    }
}

/// What the last call of a random packet adds.
#[derive(Debug, Clone)]
enum Upmost {
    Udp(u16, u16),
    Tcp(u16, u16),
    Echo(u16, u16),
    EchoReply(u16, u16),
    Error(u8, u8, u32),
}

fn with(packet: Packet, upmost: &Upmost, data: &[u8]) -> Packet {
    match *upmost {
        Upmost::Udp(from, to) => packet.udp(from, to, data),
        Upmost::Tcp(from, to) => packet.tcp(from, to, data),
        Upmost::Echo(id, sequence) => packet.icmpv6_echo(id, sequence, data),
        Upmost::EchoReply(id, sequence) => packet.icmpv6_echo_reply(id, sequence, data),
        Upmost::Error(kind, code, word) => packet.icmpv6_error(kind, code, word, data),
    }
}

fn upmost() -> impl Strategy<Value = Upmost> {
    prop_oneof![
        any::<(u16, u16)>().prop_map(|(a, b)| Upmost::Udp(a, b)),
        any::<(u16, u16)>().prop_map(|(a, b)| Upmost::Tcp(a, b)),
        any::<(u16, u16)>().prop_map(|(a, b)| Upmost::Echo(a, b)),
        any::<(u16, u16)>().prop_map(|(a, b)| Upmost::EchoReply(a, b)),
        any::<(u8, u8, u32)>().prop_map(|(a, b, c)| Upmost::Error(a, b, c)),
    ]
}

/// Add the extension header of this number, one of those the builder has a call for.
fn extend(packet: Packet, kind: u8) -> Packet {
    match kind {
        proto::DESTINATION_OPTIONS => packet.destination_options(),
        proto::ROUTING => packet.routing(0, &[address("2001:db8:3::3")]),
        proto::FRAGMENT => packet.fragment(0, false, 9),
        proto::AH => packet.authentication(1, 2, &[0; 12]),
        _ => packet.extension(kind, &[0; 6]),
    }
}

proptest! {
    #[test]
    fn any_packet_is_read_back_as_it_was_written(
        source: [u8; 16], destination: [u8; 16],
        hop_limit: u8, traffic_class: u8, flow_label in 0..1_u32 << 20,
        tags in prop::collection::vec((0..4096_u16, 0..8_u8), 0..=2),
        hop_by_hop: bool,
        extensions in prop::collection::vec(
            prop::sample::select(vec![43_u8, 44, 51, 60, 135, 139, 140]), 0..7),
        upmost in upmost(),
        data in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let mut packet = Packet::anywhere()
            .ipv6(source.into(), destination.into())
            .hop_limit(hop_limit)
            .traffic_class(traffic_class)
            .flow_label(flow_label);
        for (id, priority) in &tags {
            packet = packet.vlan(*id, *priority);
        }
        if hop_by_hop {
            packet = packet.hop_by_hop();
        }
        for kind in &extensions {
            packet = extend(packet, *kind);
        }
        let frame = with(packet, &upmost, &data).build();

        let l2 = vlan::parse(&frame).expect("a link header");
        let ids: Vec<u16> = tags.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(&l2.vlan_ids()[..usize::from(l2.tags)], &ids);
        let (header, payload, upper) = dissect(&frame);
        prop_assert_eq!((header.source, header.destination), (source, destination));
        prop_assert_eq!(header.hop_limit, hop_limit);
        prop_assert_eq!(header.traffic_class(), traffic_class);
        prop_assert_eq!(header.flow_label(), flow_label);
        prop_assert_eq!(payload.len() + 40 + usize::from(l2.l3_offset), frame.len());
        prop_assert!(has_valid_checksum(&frame));
        let bytes = &payload[upper.offset..];
        match upmost {
            Upmost::Udp(from, to) => {
                let (udp, rest) = udp::Header::ref_from_prefix(bytes).expect("a header");
                prop_assert_eq!((udp.source_port.get(), udp.destination_port.get()), (from, to));
                prop_assert_eq!(usize::from(udp.length.get()), bytes.len());
                prop_assert_eq!(rest, data);
            }
            Upmost::Tcp(from, to) => {
                let (tcp, rest) = tcp::Header::ref_from_prefix(bytes).expect("a header");
                prop_assert_eq!((tcp.source_port.get(), tcp.destination_port.get()), (from, to));
                prop_assert_eq!(tcp.header_len(), tcp::HEADER_LEN);
                prop_assert_eq!(rest, data);
            }
            Upmost::Echo(id, sequence) | Upmost::EchoReply(id, sequence) => {
                let (echo, rest) = icmpv6::EchoHeader::ref_from_prefix(bytes).expect("a header");
                prop_assert_eq!((echo.identifier.get(), echo.sequence.get()), (id, sequence));
                let request = matches!(upmost, Upmost::Echo(..));
                let kind = if request { icmpv6::types::ECHO_REQUEST } else { icmpv6::types::ECHO_REPLY };
                prop_assert_eq!((echo.header.kind, echo.header.code), (kind, 0));
                prop_assert_eq!(rest, data);
            }
            Upmost::Error(kind, code, word) => {
                let (error, rest) = icmpv6::ErrorHeader::ref_from_prefix(bytes).expect("a header");
                prop_assert_eq!((error.header.kind, error.header.code), (kind, code));
                prop_assert_eq!(error.word.get(), word);
                prop_assert!(data.starts_with(rest));
                prop_assert!(rest.len() == data.len() || payload.len() + 40 == 1280);
            }
        }
    }
}

/// Every upper layer behind every extension header and tag, and neighbour discovery.
fn gallery() -> Vec<Vec<u8>> {
    let data: Vec<u8> = (0..=255).cycle().take(1300).collect();
    let quote = packet().udp(1000, 2000, &data).build_ipv6();
    let reply = Packet::anywhere().ipv6(address(OUTSIDE), address(INSIDE));
    let mut frames = Vec::new();
    let mut sequence = 0;
    for tags in 0..=2 {
        for kind in [None, Some(0), Some(43), Some(44), Some(51), Some(60)] {
            let dress = |mut packet: Packet| {
                for tag in 0..tags {
                    packet = packet.vlan(100 + tag, 3);
                }
                match kind {
                    None => packet,
                    Some(proto::HOP_BY_HOP) => packet.hop_by_hop(),
                    Some(kind) => extend(packet, kind),
                }
            };
            for len in [0, 1, 13, 1300] {
                sequence += 1;
                let data = &data[..len];
                frames.push(dress(packet()).udp(50_000, 50_001, data).build());
                frames.push(dress(packet()).tcp(50_002, 50_003, data).build());
                frames.push(dress(packet()).icmpv6_echo(1, sequence, data).build());
                frames.push(
                    dress(reply.clone())
                        .icmpv6_echo_reply(1, sequence, data)
                        .build(),
                );
                frames.push(dress(packet()).raw(253, data).build());
            }
            for (kind, code, word) in [(1, 0, 0), (1, 3, 0), (2, 0, 1400), (3, 0, 0), (4, 0, 40)] {
                frames.push(
                    dress(packet())
                        .icmpv6_error(kind, code, word, &quote)
                        .build(),
                );
            }
        }
    }
    let target = address("fe80::7");
    let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
    let group = address("ff02::1:ff00:7");
    let solicitation = icmpv6::neighbor_solicitation(target, Some(mac));
    frames.push(
        Packet::ethernet(mac, Mac::multicast_for(group))
            .ipv6(address("fe80::1"), group)
            .hop_limit(255)
            .icmpv6(&solicitation)
            .build(),
    );
    let flags = icmpv6::AdvertisementFlags {
        router: true,
        solicited: true,
        override_cached: true,
    };
    let advertisement = icmpv6::neighbor_advertisement(target, flags, Some(mac));
    frames.push(
        Packet::anywhere()
            .ipv6(target, address("fe80::1"))
            .hop_limit(255)
            .icmpv6(&advertisement)
            .build(),
    );
    frames.extend(packet().udp(1, 2, &[7; 3000]).build_fragments(5, 1232));
    frames
}

/// tshark's complaints about these frames, or `None` when there is no tshark.
fn complaints(frames: &[Vec<u8>]) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("gallery.pcap");
    pcap::write(&path, frames).expect("a capture");
    let output = Command::new("tshark")
        .arg("-r")
        .arg(&path)
        .args(["-o", "udp.check_checksum:TRUE"])
        .args(["-o", "tcp.check_checksum:TRUE"])
        // The segments are no conversation, and their data belong to no protocol.
        .args(["-o", "tcp.analyze_sequence_numbers:FALSE"])
        // From "note" (0x400000) upwards; a malformed packet is an error. "chat" is what a protocol does normally.
        .args(["-Y", "_ws.expert.severity >= 0x400000 || _ws.malformed"])
        .args([
            "-T",
            "fields",
            "-e",
            "frame.number",
            "-e",
            "_ws.expert.message",
        ])
        .output();
    match output {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "tshark: {errors}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            // Not `eprintln`, which the test harness would swallow.
            let text = format!("\nSKIPPED: frames are not shown to tshark: {error}\n");
            let written = std::io::stderr().write_all(text.as_bytes());
            written.expect("standard error");
            None
        }
    }
}

#[test]
fn tshark_has_no_complaint() {
    let frames = gallery();
    if let Some(complaints) = complaints(&frames) {
        assert_eq!(complaints, "", "of {} frames", frames.len());
    }
}

/// The same question must be able to get another answer.
#[test]
fn tshark_complains_of_wrong_checksums() {
    let frames = [
        packet().udp(1, 2, b"data").wrong_checksum().build(),
        packet().udp(1, 2, b"data").build(),
        packet()
            .hop_by_hop()
            .tcp(1, 2, b"data")
            .wrong_checksum()
            .build(),
        packet().icmpv6_error(1, 0, 0, b"").wrong_checksum().build(),
    ];
    if let Some(complaints) = complaints(&frames) {
        let numbers: Vec<&str> = complaints
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        assert_eq!(numbers, ["1", "3", "4"], "{complaints}");
    }
}
