//! What all packets of a flow have in common where they begin: link header, IPv6 header and ports, but for what may differ from
//! packet to packet. Whoever is like one that was checked is checked as well.

use dataplane::cpu::{Shape, Words, words_of};
use dataplane::wire::ipv6;

use super::L3;

/// Bytes of link header, IPv6 header and ports.
pub(super) const LEN: usize = L3 + ipv6::HEADER_LEN + 4;

/// Where a frame begins.
pub(super) type Head = [u8; LEN];

/// What frames of one flow have in common: to whom the link takes them, that they are IPv6, protocol, addresses and ports. Of what is
/// not of the frame the lower half of the second word and the upper half of the last are compared as well.
pub(super) struct Flow;

impl Shape for Flow {
    const TAKEN: Words = bits([0xff, 0], 0);
    const COMPARED: Words = bits([0xf0, 0], 0xff);
}

/// The same of frames whose first eight bytes of the packet are the same too: class, label, length and hop limit.
pub(super) struct Exact;

impl Shape for Exact {
    const TAKEN: Words = bits([0xff, 0xff], 0);
    const COMPARED: Words = bits([0xff, 0xff], 0xff);
}

/// The bits of a [`Shape`]: of the byte that the version is in, of those that may differ in a flow, and of those that are not of the
/// frame.
const fn bits([version, differing]: [u8; 2], others: u8) -> Words {
    let mut words = [0; 8];
    let mut at = 0;
    while at < 64 {
        let byte = match at {
            0..=5 | 12..=13 | 20 | 22..LEN => 0xff,
            14 => version,
            15..=19 | 21 => differing,
            8..=11 | 60..=63 => others,
            _ => 0,
        };
        words[at / 8] |= (byte as u64) << (at % 8 * 8); // `as`: widening
        at += 1;
    }
    words
}

/// Make the image of a flow exactly that of this frame of it: in the two words in which its frames may differ.
#[inline(always)]
pub(super) fn sharpen(image: &mut Words, head: &Head) {
    let words = words_of(head);
    for word in [1, 2] {
        let taken = Exact::TAKEN[word];
        image[word] = image[word] & !taken | words[word] & taken;
    }
}

/// The image of a frame's flow, with zeros elsewhere.
pub(super) fn of(head: &Head) -> Words {
    const OF_FRAME: Words = bits([0xf0, 0], 0);
    let words = words_of(head);
    std::array::from_fn(|word| words[word] & OF_FRAME[word])
}

/// What is not of the frame, where it is compared.
pub(super) fn others(second: u32, last: u32) -> Words {
    let [second, last] = [u64::from(second), u64::from(last) << 32];
    [0, second, 0, 0, 0, 0, 0, last]
}
