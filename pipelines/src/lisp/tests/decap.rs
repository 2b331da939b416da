//! Decapsulation: every check with a packet that fails it, every field that changes.

use dataplane::reason::DropReason;
use dataplane::wire::checksum::{self, Sum};
use proptest::prelude::*;

use super::super::decap::{Opened, open};
use super::super::view::Rules;

const UNIFORM: Rules = Rules {
    class_mask: 0xff,
    gpe: false,
};
const PIPE: Rules = Rules {
    class_mask: 0x03,
    gpe: false,
};

/// An inner IPv6 packet of 48 bytes.
fn inner6() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 59, 64];
    packet.extend([0x20; 16]);
    packet.extend([0x21; 16]);
    packet.extend([7; 8]);
    packet
}

/// An inner IPv4 packet of 28 bytes.
fn inner4() -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    packet.extend([7; 8]);
    sum_up4(&mut packet);
    packet
}

fn sum_up4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let checksum = checksum::sum(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// `inner` behind outer headers of either family, with this LISP header.
fn outer(is_v4: bool, lisp: [u8; 8], inner: &[u8]) -> Vec<u8> {
    let len = (inner.len() + 16) as u16;
    let mut packet = if is_v4 {
        let mut header = vec![
            0x45, 0, 0, 0, 0, 0, 0x40, 0, 60, 17, 0, 0, 192, 0, 2, 9, 192, 0, 2, 1,
        ];
        header[2..4].copy_from_slice(&(len + 20).to_be_bytes());
        sum_up4(&mut header);
        header
    } else {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, 17, 60];
        header[4..6].copy_from_slice(&len.to_be_bytes());
        header.extend([0x22; 16]);
        header.extend([0x23; 16]);
        header
    };
    packet.extend(50000_u16.to_be_bytes());
    packet.extend(4341_u16.to_be_bytes());
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(lisp);
    packet.extend(inner);
    packet
}

fn refused(packet: &[u8], rules: Rules, is_v4: bool) -> DropReason {
    open(rules, &mut packet.to_vec(), is_v4).expect_err("it must be refused")
}

/// D-01: all four combinations of families.
#[test]
fn either_family_in_either_family_is_opened() {
    for is_v4 in [false, true] {
        let offset = if is_v4 { 36 } else { 56 };
        for (inner, inner_is_v4) in [(inner6(), false), (inner4(), true)] {
            let mut packet = outer(is_v4, [8, 0, 0, 0, 1, 2, 3, 0], &inner);
            let opened = Opened {
                offset,
                len: inner.len(),
                is_v4: inner_is_v4,
                instance: 0x010203,
            };
            assert_eq!(open(UNIFORM, &mut packet, is_v4), Ok(opened));
        }
    }
}

/// D-03 to D-06, D-09: flags that mean nothing to us are ignored, and so are reserved bits and fields.
#[test]
fn flags_without_meaning_are_ignored() {
    for flags in (0..=0xff_u8).filter(|flags| flags & 3 == 0) {
        let packet = outer(false, [flags, 9, 9, 9, 0, 0, 5, 0xff], &inner6());
        let opened = open(UNIFORM, &mut packet.clone(), false).expect("it is opened");
        assert_eq!(opened.instance, if flags & 8 == 0 { 0 } else { 5 });
    }
}

/// D-07.
#[test]
fn an_encrypted_payload_is_not_taken_for_a_packet() {
    for key in 1..=3 {
        let packet = outer(false, [key, 0, 0, 0, 0, 0, 0, 0], &inner6());
        assert_eq!(refused(&packet, UNIFORM, false), DropReason::LispEncrypted);
    }
}

/// K-01, K-02: the next protocol must be what follows; without RFC 9305 the bit is ignored.
#[test]
fn the_next_protocol_must_be_what_follows() {
    let gpe = Rules {
        gpe: true,
        ..UNIFORM
    };
    for (next, is_right) in [(2, true), (1, false), (3, false), (0, false)] {
        let packet = outer(false, [4, 0, 0, 0, 0, 0, 0, next], &inner6());
        assert_eq!(open(gpe, &mut packet.clone(), false).is_ok(), is_right);
        assert!(open(UNIFORM, &mut packet.clone(), false).is_ok());
    }
    assert!(open(gpe, &mut outer(false, [0; 8], &inner6()), false).is_ok());
}

/// D-10: 0 is accepted, what is right is accepted, what is wrong is not.
#[test]
fn a_checksum_is_absent_or_right() {
    for is_v4 in [false, true] {
        let mut packet = outer(is_v4, [0; 8], &inner6());
        let at = if is_v4 { 20 } else { 40 };
        let addresses = if is_v4 { 12..20 } else { 8..40 };
        let len = Sum::word((packet.len() - at) as u16);
        let sum =
            checksum::sum(&packet[addresses]) + len + Sum::word(17) + checksum::sum(&packet[at..]);
        packet[at + 6..at + 8].copy_from_slice(&sum.checksum().to_be_bytes());
        assert!(open(UNIFORM, &mut packet.clone(), is_v4).is_ok());
        packet[at + 7] ^= 1;
        assert_eq!(
            refused(&packet, UNIFORM, is_v4),
            DropReason::LispUdpChecksum
        );
    }
}

/// D-14: the table of RFC 6040 4.2, every cell, in both families.
#[test]
fn congestion_is_combined_by_the_table() {
    const DROP: u8 = 9;
    // Row: inner; column: outer Not-ECT, ECT(1), ECT(0), CE as they are coded.
    let table = [[0, 0, 0, DROP], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];
    for (inner, row) in (0_u8..).zip(table) {
        for (outer_bits, expected) in (0_u8..).zip(row) {
            for rules in [UNIFORM, PIPE] {
                let mut packet = outer(false, [0; 8], &inner6());
                packet[1] = outer_bits << 4;
                packet[57] = inner << 4;
                match open(rules, &mut packet, false) {
                    Ok(_) => assert_eq!(packet[57] >> 4, expected),
                    Err(reason) => {
                        assert_eq!((reason, expected), (DropReason::LispEcn, DROP));
                    }
                }
                let mut packet = outer(true, [0; 8], &inner4());
                packet[1] = outer_bits;
                packet[37] = inner;
                sum_up4(&mut packet[36..]);
                match open(rules, &mut packet, true) {
                    Ok(_) => {
                        assert_eq!(packet[37], expected);
                        assert_eq!(checksum::sum(&packet[36..56]).checksum(), 0);
                    }
                    Err(reason) => {
                        assert_eq!((reason, expected), (DropReason::LispEcn, DROP));
                    }
                }
            }
        }
    }
}

/// D-16: the outer code point in the uniform model, the inner one in the pipe model.
#[test]
fn the_code_point_follows_the_model() {
    for (rules, expected) in [(UNIFORM, 0xb8), (PIPE, 0x28)] {
        let mut packet = outer(true, [0; 8], &inner6());
        packet[1] = 0xb8;
        (packet[36], packet[37]) = (0x62, 0x8a);
        assert!(open(rules, &mut packet, true).is_ok());
        assert_eq!(packet[36] << 4 | packet[37] >> 4, expected);
        assert_eq!(packet[37] & 0x0f, 0x0a, "the flow label stays");
    }
}

/// D-15: the smaller hop limit, also across families, with the IPv4 checksum.
#[test]
fn the_smaller_hop_limit_counts() {
    for (outer_limit, expected) in [(60, 60), (255, 64), (64, 64), (1, 1)] {
        let mut packet = outer(false, [0; 8], &inner4());
        packet[7] = outer_limit;
        assert!(open(UNIFORM, &mut packet, false).is_ok());
        assert_eq!(packet[64], expected);
        assert_eq!(checksum::sum(&packet[56..76]).checksum(), 0);
        let mut packet = outer(true, [0; 8], &inner6());
        packet[8] = outer_limit;
        assert!(open(UNIFORM, &mut packet, true).is_ok());
        assert_eq!(packet[43], expected);
    }
}

/// D-28: version, lengths, sources, destinations, hop limit.
#[test]
fn an_inner_packet_must_be_sane() {
    let with = |inner: Vec<u8>, change: &dyn Fn(&mut Vec<u8>)| {
        let mut inner = inner;
        change(&mut inner);
        refused(&outer(false, [0; 8], &inner), UNIFORM, false)
    };
    let v6 = |change: &dyn Fn(&mut Vec<u8>)| with(inner6(), change);
    let v4 = |change: &dyn Fn(&mut Vec<u8>)| {
        with(inner4(), &|inner: &mut Vec<u8>| {
            change(inner);
            sum_up4(inner);
        })
    };
    assert_eq!(v6(&|p| p[0] = 0x50), DropReason::LispInnerVersion);
    assert_eq!(v6(&|p| p[5] = 9), DropReason::LispInnerLength);
    assert_eq!(v6(&|p| p.truncate(39)), DropReason::LispInnerLength);
    assert_eq!(v6(&|p| p[7] = 0), DropReason::LispInnerHopLimit);
    for source in ["::", "::1", "fe80::1", "ff02::1", "::ffff:192.0.2.1"] {
        let octets = source.parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(
            v6(&|p| p[8..24].copy_from_slice(&octets)),
            DropReason::LispInnerSource
        );
        assert_eq!(
            v6(&|p| p[24..40].copy_from_slice(&octets)),
            DropReason::LispInnerDestination
        );
    }
    for source in [
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [169, 254, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
    ] {
        assert_eq!(
            v4(&|p| p[12..16].copy_from_slice(&source)),
            DropReason::LispInnerSource
        );
        assert_eq!(
            v4(&|p| p[16..20].copy_from_slice(&source)),
            DropReason::LispInnerDestination
        );
    }
    assert_eq!(v4(&|p| p[8] = 0), DropReason::LispInnerHopLimit);
    assert_eq!(v4(&|p| p[3] = 29), DropReason::LispInnerLength);
    assert_eq!(v4(&|p| p[3] = 19), DropReason::LispInnerLength);
    assert_eq!(v4(&|p| p[0] = 0x44), DropReason::LispInnerLength);
    assert_eq!(v4(&|p| p[0] = 0x48), DropReason::LispInnerLength);
    assert_eq!(
        with(inner4(), &|p: &mut Vec<u8>| p[10] ^= 1),
        DropReason::LispInnerChecksum
    );
}

/// D-12: what the UDP length leaves out is not part of the inner packet, and padding behind that is cut off.
#[test]
fn padding_is_not_part_of_the_inner_packet() {
    let mut padded = inner6();
    padded.extend([0; 5]);
    let mut packet = outer(false, [0; 8], &padded);
    packet.extend([0; 3]);
    assert_eq!(
        open(UNIFORM, &mut packet, false).map(|opened| opened.len),
        Ok(48)
    );
    for len in [0_u16, 15, 200] {
        let mut packet = outer(false, [0; 8], &inner6());
        packet[44..46].copy_from_slice(&len.to_be_bytes());
        assert_eq!(refused(&packet, UNIFORM, false), DropReason::LispLength);
    }
}

proptest! {
    /// Any bytes, any truncation: a reason or a packet within bounds, never a panic.
    #[test]
    fn whatever_comes_is_opened_or_refused(
        inner in prop_oneof![Just(inner6()), Just(inner4())],
        is_v4: bool,
        changes in prop::collection::vec((0_usize..110, any::<u8>()), 0..6),
        cut in 0_usize..110,
    ) {
        let mut packet = outer(is_v4, [8, 0, 0, 0, 0, 0, 1, 0], &inner);
        for (at, value) in changes {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        packet.truncate(cut.max(8));
        if let Ok(opened) = open(UNIFORM, &mut packet, is_v4) {
            prop_assert!(opened.offset + opened.len <= packet.len());
        }
    }
}
