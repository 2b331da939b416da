//! Against the loop of RFC 1071 4.1, written as it stands there.

use proptest::prelude::*;

use super::*;
use crate::wire::ipv6::proto;

/// RFC 1071 4.1: one 16-bit word after the other, folded at the end; not yet complemented.
fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// RFC 8200 8.1: pseudo-header written out, then the packet.
fn slow_upper_layer(source: &[u8; 16], destination: &[u8; 16], protocol: u8, bytes: &[u8]) -> u16 {
    let mut all = [*source, *destination].concat();
    all.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
    all.extend([0, 0, 0, protocol]);
    all.extend(bytes);
    !slow_sum(&all)
}

/// Zero and 0xffff are the same number in one's complement.
fn same_number(a: u16, b: u16) -> bool {
    a == b || (a ^ b == 0xffff && (a == 0 || b == 0))
}

/// RFC 768: addresses, a zero byte, the protocol and the length.
#[test]
fn pseudo_header_of_ipv4_is_written_out() {
    let all = [192, 0, 2, 1, 198, 51, 100, 7, 0, 17, 0x05, 0xdc];
    let sum = pseudo_header_v4(&[192, 0, 2, 1], &[198, 51, 100, 7], 1500, 17);
    assert_eq!(sum.fold(), slow_sum(&all));
}

/// RFC 1071 3: the example.
#[test]
fn example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes).fold(), 0xddf2);
    assert_eq!(sum(&bytes).checksum(), 0x220d);
}

/// RFC 1624 4: the example on which equation 2 fails.
#[test]
fn example_of_rfc_1624() {
    assert_eq!(update(0xdd2f, &[0x55, 0x55], &[0x32, 0x85]), 0x0000);
}

#[test]
fn every_short_length_agrees_with_the_slow_sum() {
    let bytes: Vec<u8> = (0..200_u8).map(|i| i.wrapping_mul(37) ^ 0x80).collect();
    for start in 0..9 {
        for end in start..bytes.len() {
            let part = &bytes[start..end];
            assert_eq!(sum(part).fold(), slow_sum(part), "{start}..{end}");
        }
    }
}

#[test]
fn extreme_values_do_not_overflow() {
    for len in [0, 1, 2, 7, 8, 31, 32, 33, 1280, 65_535, 65_536, 1 << 20] {
        assert_eq!(sum(&vec![0; len]).fold(), 0);
        let ones = vec![0xff; len];
        assert_eq!(sum(&ones).fold(), slow_sum(&ones), "{len}");
    }
    let full = Sum(u64::MAX);
    assert_eq!((full + full).fold(), 0xffff);
    assert_eq!((full + full + full + Sum::word(1)).fold(), 1);
    assert_eq!(Sum::ZERO.fold(), 0);
    assert_eq!(Sum::default().checksum(), 0xffff);
}

#[test]
fn word_is_its_own_sum() {
    for value in 0..=u16::MAX {
        assert_eq!(Sum::word(value).fold(), value);
        assert_eq!(sum(&value.to_be_bytes()).fold(), value);
    }
}

#[test]
fn pseudo_header_counts_all_32_bits_of_the_length() {
    let zero = [0; 16];
    assert_eq!(
        pseudo_header(&zero, &zero, 0x0012_3456, 0x11).fold(),
        0x12 + 0x3456 + 0x11
    );
}

/// RFC 8200 8.1: a computed zero is sent as 0xffff, for UDP only.
#[test]
fn udp_never_sends_zero() {
    let zero = [0; 16];
    for (protocol, expected) in [
        (proto::UDP, 0xffff),
        (proto::TCP, 0x0000),
        (proto::ICMPV6, 0x0000),
    ] {
        let mut bytes = [0; 8];
        // Whatever the pseudo-header sums to, this word makes it 0xffff, hence the checksum zero.
        let filler = !pseudo_header(&zero, &zero, 8, protocol).fold();
        bytes[..2].copy_from_slice(&filler.to_be_bytes());
        let stored = upper_layer(&zero, &zero, protocol, &bytes);
        assert_eq!(stored, expected);
        bytes[6..].copy_from_slice(&stored.to_be_bytes());
        assert!(is_valid(&zero, &zero, protocol, &bytes));
    }
}

fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), len)
}

/// Bytes where carries are likely.
fn heavy_bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], len)
}

proptest! {
    #[test]
    fn wide_sum_agrees_with_the_slow_one(bytes in heavy_bytes(0..2048)) {
        prop_assert_eq!(sum(&bytes).fold(), slow_sum(&bytes));
    }

    /// RFC 1071 2 A: order and grouping do not matter.
    #[test]
    fn parts_add_up_in_any_order(a in heavy_bytes(0..200), b in heavy_bytes(0..200), c in bytes(0..200)) {
        let even = |mut v: Vec<u8>| { v.truncate(v.len() / 2 * 2); v };
        let (a, b) = (even(a), even(b));
        let whole = [&a[..], &b, &c].concat();
        let mut total = sum(&c);
        total += sum(&b);
        prop_assert_eq!((total + sum(&a)).fold(), slow_sum(&whole));
    }

    #[test]
    fn negation_takes_a_part_out_again(a in heavy_bytes(2..100), b in bytes(0..100)) {
        let both = sum(&a) + sum(&b);
        prop_assert!(same_number((both + -sum(&a)).fold(), slow_sum(&b)));
    }

    #[test]
    fn stored_checksum_is_right_and_any_flipped_bit_makes_it_wrong(
        source: [u8; 16], destination: [u8; 16], protocol: u8,
        mut message in bytes(8..300), flip: prop::sample::Index,
    ) {
        message[2..4].fill(0);
        let stored = upper_layer(&source, &destination, protocol, &message);
        let slow = slow_upper_layer(&source, &destination, protocol, &message);
        if protocol == proto::UDP && slow == 0 {
            prop_assert_eq!(stored, 0xffff);
        } else {
            prop_assert_eq!(stored, slow);
        }
        message[2..4].copy_from_slice(&stored.to_be_bytes());
        prop_assert!(is_valid(&source, &destination, protocol, &message));

        let bit = flip.index(message.len() * 8);
        message[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!is_valid(&source, &destination, protocol, &message));
    }

    /// RFC 1624: updating gives exactly what computing anew gives, zero and 0xffff told apart.
    #[test]
    fn changes_in_16_bits_are_those_of_the_whole_sum(
        before in any::<u16>(),
        old in heavy_bytes(2..40),
        new in heavy_bytes(2..40),
        port in any::<u16>(),
    ) {
        let (old, new) = (&old[..old.len() & !1], &new[..new.len() & !1]);
        let slow = (Sum::word(!before) + -sum(old) + sum(new) + Sum::word(port)).checksum();
        let changes = [-Change::of(sum(old)), Change::of(sum(new)), Change::word(port)];
        prop_assert_eq!(changed(before.to_be_bytes(), changes), slow.to_be_bytes());
        let back = changed(slow.to_be_bytes(), changes.map(|change| -change));
        prop_assert!(same_number(u16::from_be_bytes(back), before));
    }

    #[test]
    fn update_equals_recomputation(
        before in heavy_bytes(0..64), old in heavy_bytes(0..40), new in heavy_bytes(0..40),
        after in heavy_bytes(0..64),
    ) {
        let even = |mut v: Vec<u8>| { v.truncate(v.len() / 2 * 2); v };
        let (before, old, new) = (even(before), even(old), even(new));
        // Something that is never zero is always summed: the protocol in the pseudo-header.
        let anchor = [0, 58];
        let old_checksum = !slow_sum(&[&anchor, &before[..], &old, &after].concat());
        let new_checksum = !slow_sum(&[&anchor, &before[..], &new, &after].concat());
        prop_assert_eq!(update(old_checksum, &old, &new), new_checksum);
        prop_assert_eq!(update(new_checksum, &new, &old), old_checksum);
    }
}
