//! What all packets of a flow have in common where they begin: link header, IPv6 header and ports, but for what may differ from
//! packet to packet. Whoever is like one that was checked is checked as well.

use dataplane::cpu::{Shape, Words, words_of};
use dataplane::wire::ipv6;

use super::L3;

/// Bytes of link header, IPv6 header and ports.
pub(super) const LEN: usize = L3 + ipv6::HEADER_LEN + 4;

/// Where a frame begins.
pub(super) type Head = [u8; LEN];

/// Which bytes of a frame are compared: to whom the link takes it, that it is IPv6, protocol, addresses and ports. And which of
/// the others are: in the upper half of the last word, and the lower half of the second.
pub(super) struct Image;

impl Shape for Image {
    const TAKEN: Words = bits(0xff, 0);
    const COMPARED: Words = bits(0xf0, 0xff);
}

/// The bits of a [`Shape`]: of the byte that the version is in, and of those that are not of the frame.
const fn bits(version: u8, others: u8) -> Words {
    let mut words = [0; 8];
    let mut at = 0;
    while at < 64 {
        let byte = match at {
            0..=5 | 12..=13 | 20 | 22..LEN => 0xff,
            14 => version,
            8..=11 | 60..=63 => others,
            _ => 0,
        };
        words[at / 8] |= (byte as u64) << (at % 8 * 8); // `as`: widening
        at += 1;
    }
    words
}

/// The image of a frame, with zeros wherever it is not compared.
pub(super) fn of(head: &Head) -> Words {
    let mut words = words_of(head);
    for (word, bits) in words.iter_mut().zip(bits(0xf0, 0)) {
        *word &= bits;
    }
    words
}

/// What is not of the frame, where it is compared.
pub(super) fn others(second: u32, last: u32) -> Words {
    let [second, last] = [u64::from(second), u64::from(last) << 32];
    [0, second, 0, 0, 0, 0, 0, last]
}
