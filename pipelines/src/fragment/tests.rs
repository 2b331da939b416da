//! What is cut is put together again, as a receiver does it.

use std::net::Ipv4Addr;

use dataplane::testing::HeapFrame;
use dataplane::wire::IntoBytes;
use proptest::prelude::*;

use super::*;

const LINK: [u8; 14] = *b"to____from__\x08\x00";

fn packet(options: &[u8], data_len: usize) -> Vec<u8> {
    let address = |last| Ipv4Addr::new(192, 0, 2, last);
    let options_len = options.len().next_multiple_of(4);
    let payload_len = u16::try_from(options_len + data_len).expect("short");
    let mut header = Header::new(address(1), address(2), 17, 64, payload_len);
    header.version_length += u8::try_from(options_len / 4).expect("at most 10");
    header.identification.set(0x1234);
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(options);
    bytes.resize(20 + options_len, 0);
    ipv4::set_checksum(&mut bytes).expect("a header");
    bytes.extend((0..data_len).map(|at| (at % 251) as u8)); // `as`: below 251
    bytes
}

fn framed(packet: &[u8]) -> HeapFrame {
    HeapFrame::new(&[&LINK[..], packet].concat())
}

fn with(mut packet: Vec<u8>, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let (header, _) = Header::mut_from_prefix(&mut packet).expect("a header");
    change(header);
    let header_len = header.header_len();
    ipv4::set_checksum(&mut packet[..header_len]).expect("a header");
    packet
}

/// Every piece is a good packet with the link header; the data put together, and whether the last piece says it is.
fn reassembled(pieces: &[HeapFrame], base: usize) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    let mut is_last = false;
    for piece in pieces {
        assert!(!is_last, "only the last has MF clear");
        let (link, packet) = piece.bytes().split_at(LINK.len());
        assert_eq!(link, LINK);
        let parsed = ipv4::parse(packet).expect("a good packet");
        assert_eq!(parsed.header.total_len(), packet.len());
        assert_eq!(parsed.header.fragment_offset(), base + data.len());
        assert_eq!(parsed.header.identification.get(), 0x1234);
        data.extend(parsed.payload);
        is_last = !parsed.header.more_fragments();
    }
    (data, is_last)
}

/// LISP F-04: equal pieces.
#[test]
fn a_packet_a_little_too_long_becomes_two_halves() {
    let pieces = split(framed(&packet(&[], 1480)), 14, 1444).expect("can be cut");
    let lens: Vec<usize> = pieces
        .iter()
        .map(|piece| piece.bytes().len() - 14)
        .collect();
    assert_eq!(lens, [764, 756]);
}

#[test]
fn a_packet_that_fits_is_its_only_piece() {
    let whole = packet(&[], 100);
    let padded = [&whole[..], &[0; 6]].concat();
    let pieces = split(framed(&padded), 14, 120).expect("nothing to do");
    assert_eq!(pieces.len(), 1);
    assert_eq!(&pieces[0].bytes()[14..], whole);
}

/// RFC 791 3.1: options with the copied bit stand in every fragment, the others in the first.
#[test]
fn only_copied_options_are_in_later_fragments() {
    // Record route (not copied), a no-operation, stream id (copied).
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 136, 4, 0xab, 0xcd];
    let pieces = split(framed(&packet(&options, 64)), 14, 72).expect("can be cut");
    assert_eq!(pieces.len(), 2);
    let parsed = |index: usize| ipv4::parse(&pieces[index].bytes()[14..]).expect("good");
    assert_eq!(parsed(0).options, options);
    assert_eq!(parsed(1).options, [136, 4, 0xab, 0xcd]);
    assert_eq!(reassembled(&pieces, 0).0.len(), 64);
}

#[test]
fn options_that_cannot_be_read_end_the_list() {
    for options in [
        [136, 0, 1, 1],
        [136, 1, 1, 1],
        [136, 9, 1, 1],
        [0, 136, 2, 0],
    ] {
        let pieces = split(framed(&packet(&options, 64)), 14, 64).expect("can be cut");
        let later = ipv4::parse(&pieces[1].bytes()[14..]).expect("good");
        assert_eq!(later.options, [0; 0]);
    }
}

#[test]
fn what_cannot_be_cut_stays_as_it_was() {
    let good = packet(&[], 1000);
    let cases = [
        (
            with(good.clone(), |h| h.set_dont_fragment(true)),
            576,
            Reason::DontFragment,
        ),
        (good.clone(), 27, Reason::TooMany),
        (good.clone(), 20 + 56, Reason::TooMany),
        (good[..1019].to_vec(), 576, Reason::Malformed),
        (good[..19].to_vec(), 576, Reason::Malformed),
        (
            with(good.clone(), |h| h.set_fragment(65_528, false)),
            576,
            Reason::Malformed,
        ),
        (
            with(good.clone(), |h| h.total_length.set(19)),
            576,
            Reason::Malformed,
        ),
    ];
    for (packet, max, expected) in cases {
        let before = framed(&packet);
        let (reason, frame) = split(before.clone(), 14, max).expect_err("not to be cut");
        assert_eq!((reason, frame.bytes()), (expected, before.bytes()));
    }
    let (reason, _) = split(framed(&good), 9000, 576).expect_err("nothing there");
    assert_eq!(reason.drop_reason(), DropReason::NotFragmentable);
}

proptest! {
    #[test]
    fn pieces_make_the_packet_again(
        data_len in 1_usize..4000,
        // As many pieces as there may be, with all options.
        max in 320_usize..2000,
        base in 0_usize..7000,
        more: bool,
        options in 0_usize..11,
    ) {
        let base = base * 8;
        // Stream ids: copied, 4 bytes each.
        let options = [136, 4, 1, 2].repeat(options);
        let whole = packet(&options, data_len);
        let whole = with(whole, |header| header.set_fragment(base as u16, more)); // `as`: below 56,000
        let pieces = split(framed(&whole), 14, max).expect("can be cut");
        if pieces.len() == 1 {
            prop_assert_eq!(&pieces[0].bytes()[14..], &whole[..]);
            return Ok(());
        }
        let (data, is_last) = reassembled(&pieces, base);
        prop_assert_eq!(&data, &whole[20 + options.len()..]);
        prop_assert_eq!(is_last, !more);
        let lens: Vec<usize> = pieces.iter().map(|piece| piece.bytes().len() - 14).collect();
        prop_assert!(lens.iter().all(|len| *len <= max));
        // Equal, but for the last; and as few as can be.
        prop_assert!(lens[..lens.len() - 1].iter().all(|len| *len == lens[0]));
        prop_assert!(lens[lens.len() - 1] <= lens[0]);
        let room = (max - 20 - options.len()) / 8 * 8;
        prop_assert!(pieces.len() <= data_len.div_ceil(room));
    }
}
