//! Chains written down by kind and body, with where each header starts.

use proptest::prelude::*;

use super::*;

/// A chain of `(kind, header)`, ending in `upper`, followed by 4 bytes of upper layer. Returns first kind and payload.
fn chain(headers: &[(u8, Vec<u8>)], upper: u8) -> (u8, Vec<u8>) {
    let kinds: Vec<u8> = headers
        .iter()
        .map(|(kind, _)| *kind)
        .chain([upper])
        .collect();
    let mut payload = Vec::new();
    for ((_, header), next) in headers.iter().zip(&kinds[1..]) {
        payload.push(*next);
        payload.extend(&header[1..]);
    }
    payload.extend([0xee; 4]);
    (kinds[0], payload)
}

/// A header of the common shape, `units` times 8 bytes beyond the first 8; its bytes look like nothing else.
fn common(kind: u8, units: u8) -> (u8, Vec<u8>) {
    let mut header = vec![0xaa; 8 + 8 * usize::from(units)];
    header[1] = units;
    (kind, header)
}

fn routing(units: u8, segments_left: u8) -> (u8, Vec<u8>) {
    let (kind, mut header) = common(proto::ROUTING, units);
    header[3] = segments_left;
    (kind, header)
}

fn authentication(words: u8) -> (u8, Vec<u8>) {
    let mut header = vec![0xaa; 4 * (usize::from(words) + 2)];
    header[1] = words;
    (proto::AH, header)
}

/// The second byte is reserved in a fragment header, and looks like a length here.
fn fragment(offset_bytes: u16, more: bool, id: u32) -> (u8, Vec<u8>) {
    let [high, low] = (offset_bytes | u16::from(more)).to_be_bytes();
    let mut header = vec![0, 0xff, high, low];
    header.extend(id.to_be_bytes());
    (proto::FRAGMENT, header)
}

fn walk_chain_of(headers: &[(u8, Vec<u8>)], upper: u8) -> Result<Upper, ExtError> {
    let (first, payload) = chain(headers, upper);
    walk(first, &payload)
}

fn total(headers: &[(u8, Vec<u8>)]) -> usize {
    headers.iter().map(|(_, header)| header.len()).sum()
}

const COMMON: [u8; 5] = [
    proto::DESTINATION_OPTIONS,
    proto::ROUTING,
    proto::MOBILITY,
    proto::HIP,
    proto::SHIM6,
];

#[test]
fn every_number_that_is_no_extension_header_is_the_upper_layer() {
    for protocol in 0..=255 {
        if is_extension(protocol) {
            continue;
        }
        let expected = Upper {
            protocol,
            offset: 0,
            named_at: None,
            fragment: None,
            routing_segments_left: 0,
        };
        assert_eq!(walk(protocol, &[]), Ok(expected));
        assert_eq!(walk(protocol, &[0; 100]), Ok(expected));
        let behind = walk_chain_of(&[common(proto::DESTINATION_OPTIONS, 0)], protocol)
            .expect("a good chain");
        assert_eq!((behind.protocol, behind.offset), (protocol, 8));
        assert_eq!(behind.named_at, Some(0));
    }
}

#[test]
fn extension_headers_are_those_of_the_registry() {
    let known: Vec<u8> = (0..=255).filter(|kind| is_extension(*kind)).collect();
    assert_eq!(known, [0, 43, 44, 51, 60, 135, 139, 140]);
}

/// RFC 4303, RFC 8200 4.7: nothing behind ESP can be read, nothing behind "no next header" is looked at.
#[test]
fn esp_and_no_next_header_end_the_chain() {
    for upper in [proto::ESP, proto::NO_NEXT] {
        let found = walk_chain_of(&[common(proto::HOP_BY_HOP, 0)], upper).expect("a good chain");
        assert_eq!((found.protocol, found.offset), (upper, 8));
    }
}

#[test]
fn common_headers_are_as_long_as_they_say() {
    for kind in COMMON.into_iter().chain([proto::HOP_BY_HOP]) {
        for units in [0, 1, 7, 255] {
            let found = walk_chain_of(&[common(kind, units)], proto::TCP).expect("a good chain");
            assert_eq!(found.protocol, proto::TCP);
            assert_eq!(found.offset, 8 + 8 * usize::from(units));
            assert_eq!(found.fragment, None);
        }
    }
}

/// RFC 4302 2.2: units of 4 bytes, minus 2.
#[test]
fn authentication_header_counts_in_words() {
    for (words, len) in [(0, 8), (1, 12), (2, 16), (4, 24), (5, 28), (255, 1028)] {
        let found = walk_chain_of(&[authentication(words)], proto::UDP).expect("a good chain");
        assert_eq!((found.protocol, found.offset), (proto::UDP, len));
    }
}

#[test]
fn first_fragment_is_walked_to_its_upper_layer() {
    let headers = [
        fragment(0, true, 0x0102_0304),
        common(proto::DESTINATION_OPTIONS, 1),
    ];
    let found = walk_chain_of(&headers, proto::UDP).expect("a good chain");
    let expected = Fragment {
        offset_bytes: 0,
        more: true,
        id: 0x0102_0304,
    };
    assert_eq!(found.fragment, Some(expected));
    assert!(!expected.is_atomic());
    assert_eq!((found.protocol, found.offset), (proto::UDP, 24));
    assert_eq!(found.named_at, Some(8));
}

/// RFC 6946: processed like a packet that is whole.
#[test]
fn atomic_fragment_is_walked_to_its_upper_layer() {
    let found = walk_chain_of(&[fragment(0, false, 7)], proto::ICMPV6).expect("a good chain");
    assert!(found.fragment.expect("a fragment header").is_atomic());
    assert_eq!((found.protocol, found.offset), (proto::ICMPV6, 8));
}

#[test]
fn walk_stops_behind_the_header_of_a_later_fragment() {
    for (offset, more) in [(8, true), (8, false), (1232, true), (0xfff8, false)] {
        // Even when that header names an extension header: what follows is data.
        for upper in [proto::UDP, proto::DESTINATION_OPTIONS, proto::HOP_BY_HOP] {
            let headers = [common(proto::HOP_BY_HOP, 0), fragment(offset, more, 9)];
            let found = walk_chain_of(&headers, upper).expect("a good chain");
            let expected = Upper {
                protocol: upper,
                offset: 16,
                named_at: Some(8),
                fragment: Some(Fragment {
                    offset_bytes: offset,
                    more,
                    id: 9,
                }),
                routing_segments_left: 0,
            };
            assert_eq!(found, expected);
        }
    }
}

/// RFC 8200 4.5: reserved bits are ignored on reception.
#[test]
fn reserved_bits_of_a_fragment_header_are_ignored() {
    let (kind, mut header) = fragment(16, true, 1);
    header[3] |= 0b110;
    let found = walk_chain_of(&[(kind, header)], proto::UDP).expect("a good chain");
    let fragment = found.fragment.expect("a fragment header");
    assert_eq!((fragment.offset_bytes, fragment.more), (16, true));
}

#[test]
fn of_nested_fragment_headers_the_incomplete_one_is_reported() {
    let whole = fragment(0, false, 1);
    let first = fragment(0, true, 2);
    let later = fragment(64, false, 3);
    for (headers, id) in [
        (vec![whole.clone(), first.clone()], 2),
        (vec![first.clone(), whole.clone()], 2),
        (vec![whole.clone(), later.clone()], 3),
        (vec![first, later], 3),
        (vec![whole.clone(), whole], 1),
    ] {
        let found = walk_chain_of(&headers, proto::UDP).expect("a good chain");
        assert_eq!(found.fragment.map(|f| f.id), Some(id));
        assert_eq!(found.offset, 16);
    }
}

#[test]
fn segments_left_are_those_of_the_first_header_that_has_any() {
    for (first, second, expected) in [(0, 0, 0), (3, 0, 3), (0, 2, 2), (3, 2, 3)] {
        let headers = [routing(2, first), routing(0, second)];
        let found = walk_chain_of(&headers, proto::TCP).expect("a good chain");
        assert_eq!(found.routing_segments_left, expected);
        assert_eq!(found.offset, 32);
    }
}

/// RFC 8200 4.1.
#[test]
fn hop_by_hop_options_stand_only_at_the_front() {
    let found = walk_chain_of(&[common(proto::HOP_BY_HOP, 0)], proto::UDP);
    assert!(found.is_ok());
    for before in COMMON {
        let headers = [
            common(proto::HOP_BY_HOP, 1),
            common(before, 2),
            common(proto::HOP_BY_HOP, 0),
        ];
        // The field that says 0 is the first byte of the second header.
        let error = ExtError::HopByHopNotFirst { pointer: 16 };
        assert_eq!(walk_chain_of(&headers, proto::UDP), Err(error));
        let error = ExtError::HopByHopNotFirst { pointer: 0 };
        assert_eq!(walk_chain_of(&headers[1..], proto::UDP), Err(error));
    }
}

#[test]
fn eight_headers_are_walked_and_nine_are_not() {
    let mut headers = vec![common(proto::DESTINATION_OPTIONS, 0); HEADERS_MAX];
    let found = walk_chain_of(&headers, proto::UDP).expect("at the limit");
    assert_eq!(found.offset, 8 * HEADERS_MAX);
    headers.push(common(proto::DESTINATION_OPTIONS, 0));
    let error = ExtError::TooMany {
        pointer: 8 * HEADERS_MAX,
    };
    assert_eq!(walk_chain_of(&headers, proto::UDP), Err(error));
    assert_eq!(error.pointer(), 64);
}

#[test]
fn every_truncation_is_rejected_at_the_header_it_cuts() {
    let headers = [
        common(proto::HOP_BY_HOP, 1),
        common(proto::DESTINATION_OPTIONS, 0),
        routing(2, 1),
        authentication(4),
        common(proto::MOBILITY, 0),
        common(proto::HIP, 4),
        common(proto::SHIM6, 1),
        fragment(0, true, 5),
    ];
    let (first, payload) = chain(&headers, proto::TCP);
    let whole = total(&headers);
    let found = walk(first, &payload).expect("a good chain");
    assert_eq!((found.protocol, found.offset), (proto::TCP, whole));
    // The upper layer may be empty: that is not the walker's to judge.
    assert_eq!(walk(first, &payload[..whole]), Ok(found));
    let mut start = 0;
    for (_, header) in &headers {
        for len in start..start + header.len() {
            let error = ExtError::Truncated { pointer: start };
            assert_eq!(walk(first, &payload[..len]), Err(error), "{len} bytes");
        }
        start += header.len();
    }
}

fn any_header() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        (prop::sample::select(COMMON.to_vec()), 0..4_u8)
            .prop_map(|(kind, units)| common(kind, units)),
        (0..4_u8, 0..3_u8).prop_map(|(units, left)| routing(units, left)),
        (0..20_u8).prop_map(authentication),
        (any::<bool>(), any::<u32>()).prop_map(|(more, id)| fragment(0, more, id)),
    ]
}

proptest! {
    #[test]
    fn any_chain_leads_to_its_upper_layer(
        headers in prop::collection::vec(any_header(), 0..=HEADERS_MAX),
        upper in any::<u8>().prop_filter("an upper layer", |kind| !is_extension(*kind)),
    ) {
        let found = walk_chain_of(&headers, upper).expect("a good chain");
        prop_assert_eq!(found.protocol, upper);
        prop_assert_eq!(found.offset, total(&headers));
        let last = headers.last().map(|(_, header)| found.offset - header.len());
        prop_assert_eq!(found.named_at, last);
        let fragments: Vec<_> = headers.iter().filter(|(kind, _)| *kind == proto::FRAGMENT).collect();
        prop_assert_eq!(found.fragment.is_some(), !fragments.is_empty());
        let more = fragments.iter().any(|(_, header)| header[3] & 1 == 1);
        prop_assert_eq!(found.fragment.is_some_and(|f| f.more), more);
    }

    #[test]
    fn random_bytes_keep_it_within_the_payload(
        first in prop::sample::select(vec![0_u8, 43, 44, 51, 60, 135, 139, 140]),
        mut payload in prop::collection::vec(any::<u8>(), 0..200),
        links in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0_u8, 1, 43, 44, 51, 60])), 0..40),
    ) {
        // Small numbers make long chains likely.
        for (at, value) in links {
            if !payload.is_empty() {
                let at = at.index(payload.len());
                payload[at] = value;
            }
        }
        match walk(first, &payload) {
            Ok(found) => {
                prop_assert!(found.offset <= payload.len());
                prop_assert!(found.offset >= 8);
                let named = found.named_at.and_then(|at| payload.get(at));
                prop_assert_eq!(named, Some(&found.protocol));
                if found.fragment.is_none_or(|f| f.offset_bytes == 0) {
                    prop_assert!(!is_extension(found.protocol));
                }
            }
            Err(error) => prop_assert!(error.pointer() <= payload.len()),
        }
    }
}
