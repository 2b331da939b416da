//! What holds for every view: size, alignment, known bytes, round trip, and no byte may be missing.

use std::fmt::Debug;

use proptest::prelude::*;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{U16, U32, arp, ethernet, icmpv4, icmpv6, ipv4, ipv6, tcp, udp};

trait View: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + PartialEq + Debug {}
impl<T> View for T where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + PartialEq + Debug
{
}

/// The structure and the bytes are the same thing, in both directions and at any length.
fn check<T: View>(mut view: T, bytes: &[u8]) {
    assert_eq!(view.as_bytes(), bytes);
    assert_eq!(align_of::<T>(), 1);
    for len in 0..bytes.len() {
        assert!(
            T::ref_from_prefix(&bytes[..len]).is_err(),
            "{len} bytes are not enough for {view:?}"
        );
    }
    // At an odd address, with more behind it.
    let mut longer = [&[0xee], bytes, &[1, 2, 3]].concat();
    let (seen, rest) = T::ref_from_prefix(&longer[1..]).expect("long enough");
    assert_eq!(*seen, view);
    assert_eq!(rest, [1, 2, 3]);
    let (seen, _) = T::mut_from_prefix(&mut longer[1..]).expect("long enough");
    seen.as_mut_bytes().fill(0xff);
    view.as_mut_bytes().fill(0xff);
    assert_eq!(*seen, view);
    assert_eq!(longer[0], 0xee);
    assert_eq!(longer[longer.len() - 3..], [1, 2, 3]);
}

#[test]
fn ethernet_bytes() {
    let view = ethernet::Header {
        destination: [1, 2, 3, 4, 5, 6],
        source: [7, 8, 9, 10, 11, 12],
        ether_type: U16::new(ethernet::ETHERTYPE_IPV6),
    };
    check(view, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd]);
    assert_eq!(size_of_val(&view), ethernet::HEADER_LEN);
}

#[test]
fn ipv6_bytes() {
    let mut bytes = vec![0x60, 0, 0, 0, 0x12, 0x34, 17, 64];
    bytes.extend(0..32);
    let view = ipv6::Header {
        version_class_flow: U32::new(6 << 28),
        payload_length: U16::new(0x1234),
        next_header: 17,
        hop_limit: 64,
        source: std::array::from_fn(|i| bytes[8 + i]),
        destination: std::array::from_fn(|i| bytes[24 + i]),
    };
    check(view, &bytes);
    assert_eq!(size_of_val(&view), ipv6::HEADER_LEN);
}

#[test]
fn ipv4_bytes() {
    let bytes: Vec<u8> = (1..=20).collect();
    let view = ipv4::Header {
        version_length: 1,
        traffic_class: 2,
        total_length: U16::new(0x0304),
        identification: U16::new(0x0506),
        flags_offset: U16::new(0x0708),
        ttl: 9,
        protocol: 10,
        checksum: U16::new(0x0b0c),
        source: [13, 14, 15, 16],
        destination: [17, 18, 19, 20],
    };
    check(view, &bytes);
    assert_eq!(size_of_val(&view), ipv4::HEADER_LEN);
    assert_eq!(bytes[ipv4::TTL_OFFSET], 9);
    assert_eq!(bytes[ipv4::CHECKSUM_OFFSET..][..2], [11, 12]);
}

#[test]
fn arp_bytes() {
    let bytes: Vec<u8> = (1..=28).collect();
    let view = arp::Message {
        hardware_type: U16::new(0x0102),
        protocol_type: U16::new(0x0304),
        hardware_len: 5,
        protocol_len: 6,
        operation: U16::new(0x0708),
        sender_mac: [9, 10, 11, 12, 13, 14],
        sender_address: [15, 16, 17, 18],
        target_mac: [19, 20, 21, 22, 23, 24],
        target_address: [25, 26, 27, 28],
    };
    check(view, &bytes);
    assert_eq!(size_of_val(&view), arp::MESSAGE_LEN);
}

#[test]
fn icmpv4_bytes() {
    let header = icmpv4::Header {
        kind: icmpv4::types::TIME_EXCEEDED,
        code: 3,
        checksum: U16::new(0x0405),
    };
    check(header, &[11, 3, 4, 5]);
    assert_eq!(size_of_val(&header), icmpv4::HEADER_LEN);
    assert_eq!(header.as_bytes()[icmpv4::CHECKSUM_OFFSET..], [4, 5]);

    let error = icmpv4::ErrorHeader::new(3, 4, 1400);
    check(error, &[3, 4, 0, 0, 0, 0, 5, 0x78]);
    assert_eq!(size_of_val(&error), icmpv4::ERROR_HEADER_LEN);

    let echo = icmpv4::EchoHeader::new(icmpv4::types::ECHO_REQUEST, 0x0102, 0x0304);
    check(echo, &[8, 0, 0, 0, 1, 2, 3, 4]);
}

#[test]
fn udp_bytes() {
    let view = udp::Header {
        source_port: U16::new(0x0102),
        destination_port: U16::new(0x0304),
        length: U16::new(0x0506),
        checksum: U16::new(0x0708),
    };
    check(view, &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(size_of_val(&view), udp::HEADER_LEN);
    assert_eq!(view.as_bytes()[udp::CHECKSUM_OFFSET..], [7, 8]);
}

#[test]
fn tcp_bytes() {
    let view = tcp::Header {
        source_port: U16::new(0x0102),
        destination_port: U16::new(0x0304),
        sequence: U32::new(0x0506_0708),
        acknowledgement: U32::new(0x090a_0b0c),
        data_offset: 0x50,
        flags: tcp::flags::SYN | tcp::flags::ACK,
        window: U16::new(0x0f10),
        checksum: U16::new(0x1112),
        urgent: U16::new(0x1314),
    };
    let bytes = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x50, 0x12, 15, 16, 17, 18, 19, 20,
    ];
    check(view, &bytes);
    assert_eq!(size_of_val(&view), tcp::HEADER_LEN);
    assert_eq!(bytes[tcp::CHECKSUM_OFFSET..][..2], [0x11, 0x12]);
}

#[test]
fn icmpv6_bytes() {
    let header = icmpv6::Header {
        kind: icmpv6::types::PACKET_TOO_BIG,
        code: 3,
        checksum: U16::new(0x0405),
    };
    check(header, &[2, 3, 4, 5]);
    assert_eq!(size_of_val(&header), icmpv6::HEADER_LEN);
    assert_eq!(header.as_bytes()[icmpv6::CHECKSUM_OFFSET..], [4, 5]);

    let error = icmpv6::ErrorHeader::new(icmpv6::types::PACKET_TOO_BIG, 0, 1280);
    check(error, &[2, 0, 0, 0, 0, 0, 5, 0]);
    assert_eq!(size_of_val(&error), icmpv6::ERROR_HEADER_LEN);

    let echo = icmpv6::EchoHeader::new(icmpv6::types::ECHO_REPLY, 0x0102, 0x0304);
    check(echo, &[129, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(size_of_val(&echo), icmpv6::ERROR_HEADER_LEN);
}

#[test]
fn neighbour_discovery_bytes() {
    let mut bytes = vec![135, 0, 1, 2, 0, 0, 0, 0];
    bytes.extend(20..36);
    let header = icmpv6::Header {
        kind: icmpv6::types::NEIGHBOR_SOLICITATION,
        code: 0,
        checksum: U16::new(0x0102),
    };
    let target = std::array::from_fn(|i| bytes[8 + i]);
    let solicitation = icmpv6::NeighborSolicitation {
        header,
        reserved: U32::ZERO,
        target,
    };
    check(solicitation, &bytes);

    bytes[0] = 136;
    bytes[4] = 0xa0;
    let flags = icmpv6::AdvertisementFlags {
        router: true,
        solicited: false,
        override_cached: true,
    };
    let advertisement = icmpv6::NeighborAdvertisement {
        header: icmpv6::Header {
            kind: icmpv6::types::NEIGHBOR_ADVERTISEMENT,
            ..header
        },
        flags: flags.into(),
        target,
    };
    check(advertisement, &bytes);

    let option = icmpv6::LinkLayerOption::new(2, [1, 2, 3, 4, 5, 6].into());
    check(option, &[2, 1, 1, 2, 3, 4, 5, 6]);
}

/// Any bytes, seen as a view, are the view's bytes; and never more than its size.
fn round_trip<T: View>(bytes: &[u8]) -> Result<(), TestCaseError> {
    match T::read_from_prefix(bytes) {
        Ok((view, rest)) => {
            prop_assert_eq!([view.as_bytes(), rest].concat(), bytes);
            prop_assert_eq!(bytes.len() - rest.len(), size_of::<T>());
        }
        Err(_) => prop_assert!(bytes.len() < size_of::<T>()),
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        round_trip::<ethernet::Header>(&bytes)?;
        round_trip::<ipv6::Header>(&bytes)?;
        round_trip::<ipv4::Header>(&bytes)?;
        round_trip::<arp::Message>(&bytes)?;
        round_trip::<icmpv4::Header>(&bytes)?;
        round_trip::<icmpv4::ErrorHeader>(&bytes)?;
        round_trip::<icmpv4::EchoHeader>(&bytes)?;
        round_trip::<udp::Header>(&bytes)?;
        round_trip::<tcp::Header>(&bytes)?;
        round_trip::<icmpv6::Header>(&bytes)?;
        round_trip::<icmpv6::ErrorHeader>(&bytes)?;
        round_trip::<icmpv6::EchoHeader>(&bytes)?;
        round_trip::<icmpv6::NeighborSolicitation>(&bytes)?;
        round_trip::<icmpv6::NeighborAdvertisement>(&bytes)?;
        round_trip::<icmpv6::LinkLayerOption>(&bytes)?;
    }
}
