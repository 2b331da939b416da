//! Code points, neighbour discovery messages and their options.

use proptest::prelude::*;

use super::*;

const MAC: Mac = Mac::from_octets([2, 0, 0, 0, 0, 7]);

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

#[test]
fn every_number_round_trips_through_both_enums() {
    let mut known_types = Vec::new();
    let mut known_options = Vec::new();
    for value in 0..=255 {
        let kind = Type::from(value);
        assert_eq!(u8::from(kind), value);
        if kind == Type::Unknown(value) {
            assert_eq!(kind.to_string(), format!("type {value}"));
        } else {
            known_types.push(value);
        }
        let option = OptionType::from(value);
        assert_eq!(u8::from(option), value);
        if option != OptionType::Unknown(value) {
            known_options.push(value);
        }
        assert_eq!(is_error(value), value < 128);
    }
    assert_eq!(
        known_types,
        [1, 2, 3, 4, 128, 129, 130, 133, 134, 135, 136, 137]
    );
    assert_eq!(known_options, [1, 2, 3, 4, 5, 14]);
}

#[test]
fn names_stand_at_their_numbers() {
    assert_eq!(Type::from(types::PACKET_TOO_BIG), Type::PacketTooBig);
    assert_eq!(Type::EchoRequest.to_string(), "echo request");
    assert_eq!(
        u8::from(Type::NeighborAdvertisement),
        types::NEIGHBOR_ADVERTISEMENT
    );
    assert_eq!(
        OptionType::from(options::TARGET_LINK_LAYER_ADDRESS),
        OptionType::TargetLinkLayerAddress
    );
}

/// RFC 4861 4.3: a solicitation with a source has its link-layer address, one without has none.
#[test]
fn solicitation_has_known_bytes() {
    let target = address("2001:db8::7");
    let mut expected = vec![135, 0, 0, 0, 0, 0, 0, 0];
    expected.extend(target.octets());
    assert_eq!(neighbor_solicitation(target, None)[..], expected);
    expected.extend([1, 1, 2, 0, 0, 0, 0, 7]);
    let message = neighbor_solicitation(target, Some(MAC));
    assert_eq!(message[..], expected);

    let (parsed, options) = NeighborSolicitation::parse(&message).expect("long enough");
    assert_eq!(parsed.target(), target);
    let source = options.link_layer_address(options::SOURCE_LINK_LAYER_ADDRESS);
    assert_eq!(source, Ok(Some(MAC)));
    let wrong_kind = options.link_layer_address(options::TARGET_LINK_LAYER_ADDRESS);
    assert_eq!(wrong_kind, Ok(None));
}

/// RFC 4861 4.4: R, S and O are the top three bits.
#[test]
fn advertisement_has_known_bytes() {
    let target = address("fe80::1");
    for bits in 0..8_u8 {
        let flags = AdvertisementFlags {
            router: bits & 4 != 0,
            solicited: bits & 2 != 0,
            override_cached: bits & 1 != 0,
        };
        let mut expected = vec![136, 0, 0, 0, bits << 5, 0, 0, 0];
        expected.extend(target.octets());
        assert_eq!(neighbor_advertisement(target, flags, None)[..], expected);
        expected.extend([2, 1, 2, 0, 0, 0, 0, 7]);
        let message = neighbor_advertisement(target, flags, Some(MAC));
        assert_eq!(message[..], expected);

        let (parsed, options) = NeighborAdvertisement::parse(&message).expect("long enough");
        assert_eq!((parsed.target(), parsed.flags()), (target, flags));
        let found = options.link_layer_address(options::TARGET_LINK_LAYER_ADDRESS);
        assert_eq!(found, Ok(Some(MAC)));
    }
}

/// RFC 4861 4.3, 4.4: reserved bits are ignored by the receiver.
#[test]
fn reserved_bits_are_ignored() {
    let mut message = neighbor_advertisement(
        address("fe80::1"),
        AdvertisementFlags {
            solicited: true,
            ..AdvertisementFlags::default()
        },
        None,
    );
    message[4] |= 0x1f;
    message[5..8].fill(0xff);
    let (parsed, _) = NeighborAdvertisement::parse(&message).expect("long enough");
    let flags = parsed.flags();
    assert!(flags.solicited && !flags.router && !flags.override_cached);
}

#[test]
fn every_truncation_of_a_message_is_rejected() {
    let target = address("2001:db8::7");
    let solicitation = neighbor_solicitation(target, Some(MAC));
    let advertisement = neighbor_advertisement(target, AdvertisementFlags::default(), Some(MAC));
    for len in 0..32 {
        let kind = options::SOURCE_LINK_LAYER_ADDRESS;
        let parsed = NeighborSolicitation::parse(&solicitation[..len]);
        check_cut(
            len,
            parsed.map(|(_, options)| options.link_layer_address(kind)),
        );
        let kind = options::TARGET_LINK_LAYER_ADDRESS;
        let parsed = NeighborAdvertisement::parse(&advertisement[..len]);
        check_cut(
            len,
            parsed.map(|(_, options)| options.link_layer_address(kind)),
        );
    }
}

/// Below 24 bytes the fixed part is missing, at 24 there are no options, above there is a broken one.
fn check_cut(len: usize, parsed: Result<Result<Option<Mac>, OptionError>, Truncated>) {
    let expected = match len {
        0..24 => Err(Truncated),
        24 => Ok(Ok(None)),
        _ => Ok(Err(OptionError::Truncated)),
    };
    assert_eq!(parsed, expected, "{len} bytes");
}

fn collect(bytes: &[u8]) -> Vec<Result<NdOption<'_>, OptionError>> {
    Options::new(bytes).collect()
}

#[test]
fn options_come_in_order_unknown_ones_included() {
    let mut bytes = vec![200, 2];
    bytes.extend([9; 14]);
    bytes.extend([1, 1, 2, 0, 0, 0, 0, 7]);
    let found = collect(&bytes);
    assert_eq!(found.len(), 2);
    let unknown = found[0].expect("well-formed");
    assert_eq!((unknown.kind, unknown.body), (200, &[9; 14][..]));
    // Fourteen bytes are no Ethernet address.
    assert_eq!(unknown.link_layer_address(), None);
    assert_eq!(
        found[1].expect("well-formed").link_layer_address(),
        Some(MAC)
    );
    assert_eq!(collect(&[]), []);
}

#[test]
fn first_of_several_link_layer_addresses_counts() {
    let bytes = [1, 1, 2, 0, 0, 0, 0, 7, 1, 1, 2, 0, 0, 0, 0, 8];
    assert_eq!(Options::new(&bytes).link_layer_address(1), Ok(Some(MAC)));
}

/// RFC 4861 4.6: nodes must silently discard a packet with an option of length zero.
#[test]
fn length_zero_ends_the_options_with_an_error() {
    let bytes = [
        1, 1, 2, 0, 0, 0, 0, 7, 5, 0, 0, 0, 0, 0, 5, 0, 1, 1, 0, 0, 0, 0, 0, 0,
    ];
    let found = collect(&bytes);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1], Err(OptionError::ZeroLength));
    // Even when the address looked for stands before it.
    let address = Options::new(&bytes).link_layer_address(1);
    assert_eq!(address, Err(OptionError::ZeroLength));
}

#[test]
fn every_truncation_of_an_option_is_an_error() {
    let mut bytes = vec![3, 4];
    bytes.resize(32, 0);
    for len in 1..32 {
        assert_eq!(
            collect(&bytes[..len]),
            [Err(OptionError::Truncated)],
            "{len}"
        );
    }
    assert!(collect(&bytes)[0].is_ok());
}

#[test]
fn checksum_is_stored_whatever_the_field_held() {
    let source = address("fe80::1").octets();
    let destination = address("ff02::1:ff00:7").octets();
    let mut message = neighbor_solicitation(address("fe80::7"), Some(MAC));
    message[2..4].fill(0xab);
    assert_eq!(set_checksum(&source, &destination, &mut message), Ok(()));
    assert!(checksum::is_valid(
        &source,
        &destination,
        proto::ICMPV6,
        &message
    ));
    let once = message.clone();
    assert_eq!(set_checksum(&source, &destination, &mut message), Ok(()));
    assert_eq!(message, once);
    for len in 0..HEADER_LEN {
        let cut = set_checksum(&source, &destination, &mut message[..len]);
        assert_eq!(cut, Err(Truncated));
    }
}

proptest! {
    #[test]
    fn options_cover_random_bytes_exactly_or_end_in_one_error(
        bytes in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..120),
    ) {
        let found = collect(&bytes);
        let good: usize = found.iter().flatten().map(|option| option.body.len() + 2).sum();
        let bad = found.iter().filter(|option| option.is_err()).count();
        prop_assert!(good <= bytes.len());
        prop_assert_eq!(bad == 0, good == bytes.len());
        prop_assert!(bad <= 1);
        if bad == 1 {
            prop_assert!(found.last().is_some_and(Result::is_err));
        }
        prop_assert!(found.iter().flatten().all(|option| option.body.len() % 8 == 6));
    }
}
