//! Known headers, every cut, and checksums against those computed anew.

use proptest::prelude::*;

use super::*;

/// RFC 1071's rules worked through by hand for 172.16.10.99 to 172.16.10.12: the sum of the other words is 0x4e19.
const KNOWN: [u8; 20] = [
    0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0xb1, 0xe6, 172, 16, 10, 99, 172,
    16, 10, 12,
];

fn packet(header_words: usize, payload: usize) -> Vec<u8> {
    let mut bytes = KNOWN.to_vec();
    bytes.resize(header_words * 4 + payload, 1);
    bytes[0] = 0x40 | u8::try_from(header_words).expect("four bits");
    let total = u16::try_from(bytes.len()).expect("short");
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    set_checksum(&mut bytes[..header_words * 4]).expect("a header");
    bytes
}

#[test]
fn known_bytes_have_known_fields() {
    let mut bytes = KNOWN.to_vec();
    bytes.resize(60 + 6, 0xee);
    let parsed = parse(&bytes).expect("a good packet");
    let header = parsed.header;
    assert_eq!((header.version(), header.header_len()), (4, 20));
    assert_eq!(
        (header.total_len(), header.identification.get()),
        (60, 0x1c46)
    );
    assert!(header.dont_fragment() && !header.more_fragments() && !header.is_fragment());
    assert_eq!((header.fragment_offset(), header.is_first()), (0, true));
    assert_eq!((header.ttl, header.protocol), (64, proto::TCP));
    assert_eq!(header.source(), Ipv4Addr::new(172, 16, 10, 99));
    assert_eq!(header.destination(), Ipv4Addr::new(172, 16, 10, 12));
    assert_eq!((parsed.options.len(), parsed.payload.len()), (0, 40));

    let mut same = Header::new(header.source(), header.destination(), proto::TCP, 64, 40);
    same.identification = U16::new(0x1c46);
    same.set_dont_fragment(true);
    set_checksum(same.as_mut_bytes()).expect("a header");
    assert_eq!(same.as_bytes(), KNOWN);
}

#[test]
fn a_new_header_has_a_right_checksum() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let header = Header::new(address, address, proto::UDP, 1, 0);
    assert!(is_valid(header.as_bytes()));
    assert_eq!(
        parse(header.as_bytes()).map(|packet| packet.payload.len()),
        Ok(0)
    );
    assert_eq!(
        Header::new(address, address, 0, 0, u16::MAX).total_len(),
        65_535
    );
}

#[test]
fn options_are_what_the_header_length_says() {
    let bytes = packet(8, 5);
    let parsed = parse(&bytes).expect("a good packet");
    assert_eq!((parsed.options.len(), parsed.payload.len()), (12, 5));
    let bytes = packet(15, 0);
    assert_eq!(parse(&bytes).expect("a good packet").options.len(), 40);
}

/// RFC 1812 5.2.2 (1) and (5): at every length.
#[test]
fn every_truncation_is_rejected() {
    let bytes = packet(7, 9);
    for len in 0..bytes.len() {
        assert_eq!(parse(&bytes[..len]), Err(Error::Truncated), "{len} bytes");
    }
    assert!(parse(&bytes).is_ok());
}

/// RFC 1812 5.2.2 (2) to (5).
#[test]
fn each_bad_field_has_its_reason() {
    let mut sixth = packet(5, 8);
    sixth[0] = 0x65;
    assert_eq!(parse(&sixth), Err(Error::Version(6)));
    let mut short = packet(5, 8);
    short[0] = 0x44;
    assert_eq!(parse(&short), Err(Error::HeaderLength(16)));
    let mut flipped = packet(5, 8);
    flipped[17] ^= 1;
    assert_eq!(parse(&flipped), Err(Error::Checksum));
    let mut total = packet(6, 8);
    total[2..4].copy_from_slice(&[0, 23]);
    set_checksum(&mut total[..24]).expect("a header");
    assert_eq!(parse(&total), Err(Error::TotalLength(23)));
    assert_eq!(set_checksum(&mut [0; 19]), Err(crate::wire::Truncated));
}

#[test]
fn fragment_fields_do_not_touch_each_other() {
    let mut header = Header::read_from_bytes(&KNOWN).expect("20 bytes");
    header.set_fragment(65_528, true);
    assert!(header.dont_fragment() && header.more_fragments() && header.is_fragment());
    assert_eq!(
        (header.fragment_offset(), header.is_first()),
        (65_528, false)
    );
    header.set_dont_fragment(false);
    header.set_fragment(1480, false);
    assert_eq!(header.flags_offset.get(), 185);
    assert!(header.is_fragment() && !header.more_fragments());
    header.set_fragment(0, true);
    assert!(header.is_fragment() && header.is_first());
}

/// RFC 1624 4: the example there, where equation 2 of RFC 1141 would give 0xffff.
#[test]
fn a_checksum_that_becomes_zero_is_zero() {
    assert_eq!(
        checksum::update(0xdd2f, &[0x55, 0x55], &[0x32, 0x85]),
        0x0000
    );
}

proptest! {
    /// Whatever changes, the updated checksum is the one computed anew.
    #[test]
    fn updates_agree_with_a_new_sum(
        bytes in prop::array::uniform20(any::<u8>()),
        ttl in any::<u8>(),
        class in any::<u8>(),
    ) {
        let mut bytes = bytes;
        bytes[0] = 0x45; // a sum of zero cannot be
        set_checksum(&mut bytes).expect("a header");
        let mut header = Header::read_from_bytes(&bytes).expect("20 bytes");
        header.update_ttl(ttl);
        header.update_traffic_class(class);
        let mut anew = header;
        set_checksum(anew.as_mut_bytes()).expect("a header");
        prop_assert_eq!(header, anew);

        let mut less = bytes;
        decrement_ttl(&mut less);
        prop_assert!(is_valid(&less));
        prop_assert_eq!(less[8], bytes[8].wrapping_sub(1));
        prop_assert_eq!(&less[12..], &bytes[12..]);
    }

    /// A header that was parsed gives the packet back.
    #[test]
    fn parts_make_the_packet(words in 5_usize..16, payload in 0_usize..64, padding in 0_usize..20) {
        let bytes = packet(words, payload);
        let padded = [&bytes[..], &vec![0; padding]].concat();
        let parsed = parse(&padded).expect("a good packet");
        prop_assert_eq!([parsed.header.as_bytes(), parsed.options, parsed.payload].concat(), bytes);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(parsed) = parse(&bytes) {
            prop_assert!(is_valid(&bytes[..parsed.header.header_len()]));
        }
    }
}
