//! Where the network header starts: Ethernet with no, one or two VLAN tags (802.1Q, 802.1ad, QinQ).
//!
//! Called once per received frame, so the untagged case is one length check and one comparison of the type.

use super::Truncated;
use super::ethernet::{ETHERTYPE_QINQ, ETHERTYPE_VLAN, HEADER_LEN};

/// Bytes of one tag: TPID and TCI.
pub const TAG_LEN: usize = 4;
/// The VLAN identifier within a TCI.
pub const ID_MASK: u16 = 0x0fff;
/// Tags that are understood; a further one is left as the type.
pub const TAGS_MAX: usize = 2;

/// What the link header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L2 {
    /// Where the network header starts: 14, 18 or 22.
    pub l3_offset: u8,
    /// What it is; the TPID of a third tag when there is one.
    pub ether_type: u16,
    /// How many tags there are: 0 to 2.
    pub tags: u8,
    /// Tag control information, outer first: priority (3 bits), drop eligible (1), VLAN identifier (12); zero where
    /// there is no tag.
    pub tci: [u16; 2],
}

impl L2 {
    /// VLAN identifiers, outer first, zero where there is no tag: with [`L2::tags`] the key of an interface.
    #[must_use]
    #[inline]
    pub const fn vlan_ids(&self) -> [u16; 2] {
        [self.tci[0] & ID_MASK, self.tci[1] & ID_MASK]
    }
}

/// Whether this type announces a tag.
#[must_use]
#[inline]
pub const fn is_tag(ether_type: u16) -> bool {
    ether_type == ETHERTYPE_VLAN || ether_type == ETHERTYPE_QINQ
}

/// Read the link header of a frame.
///
/// # Errors
/// When the frame ends before the type of the network header.
#[inline]
pub fn parse(frame: &[u8]) -> Result<L2, Truncated> {
    let Some([.., high, low]) = frame.first_chunk::<HEADER_LEN>() else {
        return Err(Truncated);
    };
    let ether_type = u16::from_be_bytes([*high, *low]);
    if is_tag(ether_type) {
        return parse_tagged(frame);
    }
    Ok(L2 {
        l3_offset: 14, // HEADER_LEN
        ether_type,
        tags: 0,
        tci: [0; 2],
    })
}

/// The frame has at least an Ethernet header, whose type is a tag's.
#[inline]
fn parse_tagged(frame: &[u8]) -> Result<L2, Truncated> {
    let Some([.., a, b, c, d]) = frame.first_chunk::<{ HEADER_LEN + TAG_LEN }>() else {
        return Err(Truncated);
    };
    let outer = u16::from_be_bytes([*a, *b]);
    let ether_type = u16::from_be_bytes([*c, *d]);
    if !is_tag(ether_type) {
        return Ok(L2 {
            l3_offset: 18, // HEADER_LEN + TAG_LEN
            ether_type,
            tags: 1,
            tci: [outer, 0],
        });
    }
    let Some([.., a, b, c, d]) = frame.first_chunk::<{ HEADER_LEN + 2 * TAG_LEN }>() else {
        return Err(Truncated);
    };
    Ok(L2 {
        l3_offset: 22, // HEADER_LEN + 2 * TAG_LEN
        ether_type: u16::from_be_bytes([*c, *d]),
        tags: 2,
        tci: [outer, u16::from_be_bytes([*a, *b])],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6};

    /// Two MAC addresses, then these 16-bit words.
    fn frame(words: &[u16]) -> Vec<u8> {
        let mut bytes = vec![0x5a; 12];
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        bytes
    }

    #[test]
    fn untagged_frame_starts_at_14() {
        let expected = L2 {
            l3_offset: 14,
            ether_type: ETHERTYPE_IPV6,
            tags: 0,
            tci: [0, 0],
        };
        assert_eq!(parse(&frame(&[0x86dd, 0x6000, 0])), Ok(expected));
    }

    #[test]
    fn single_tag_of_either_kind_starts_at_18() {
        for tpid in [ETHERTYPE_VLAN, ETHERTYPE_QINQ] {
            let l2 = parse(&frame(&[tpid, 0xe064, ETHERTYPE_ARP])).expect("long enough");
            let expected = L2 {
                l3_offset: 18,
                ether_type: ETHERTYPE_ARP,
                tags: 1,
                tci: [0xe064, 0],
            };
            assert_eq!(l2, expected);
            assert_eq!(l2.vlan_ids(), [100, 0]);
        }
    }

    #[test]
    fn two_tags_in_any_combination_start_at_22() {
        for outer in [ETHERTYPE_VLAN, ETHERTYPE_QINQ] {
            for inner in [ETHERTYPE_VLAN, ETHERTYPE_QINQ] {
                let l2 = parse(&frame(&[outer, 0x1fff, inner, 0xf001, ETHERTYPE_IPV6]))
                    .expect("long enough");
                let expected = L2 {
                    l3_offset: 22,
                    ether_type: ETHERTYPE_IPV6,
                    tags: 2,
                    tci: [0x1fff, 0xf001],
                };
                assert_eq!(l2, expected);
                assert_eq!(l2.vlan_ids(), [4095, 1]);
            }
        }
    }

    #[test]
    fn third_tag_is_left_as_the_type() {
        let words = [
            ETHERTYPE_QINQ,
            1,
            ETHERTYPE_QINQ,
            2,
            ETHERTYPE_VLAN,
            3,
            ETHERTYPE_IPV6,
        ];
        let l2 = parse(&frame(&words)).expect("long enough");
        assert_eq!((l2.tags, l2.l3_offset), (2, 22));
        assert_eq!(l2.ether_type, ETHERTYPE_VLAN);
    }

    #[test]
    fn every_truncation_is_rejected() {
        for words in [
            &[ETHERTYPE_IPV6][..],
            &[ETHERTYPE_VLAN, 7, ETHERTYPE_IPV6],
            &[ETHERTYPE_QINQ, 7, ETHERTYPE_VLAN, 8, ETHERTYPE_IPV6],
        ] {
            let whole = frame(words);
            assert!(parse(&whole).is_ok());
            for len in 0..whole.len() {
                assert_eq!(parse(&whole[..len]), Err(Truncated), "{len} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_loop(
            words in prop::collection::vec(
                prop_oneof![Just(ETHERTYPE_VLAN), Just(ETHERTYPE_QINQ), any::<u16>()], 0..8),
            odd: bool,
        ) {
            let mut bytes = frame(&words);
            if odd {
                bytes.push(0x81);
            }
            let mut tags = 0;
            while tags < TAGS_MAX && words.get(2 * tags).is_some_and(|word| is_tag(*word)) {
                tags += 1;
            }
            match (parse(&bytes), words.get(2 * tags)) {
                (Ok(l2), Some(ether_type)) => {
                    prop_assert_eq!(usize::from(l2.tags), tags);
                    prop_assert_eq!(usize::from(l2.l3_offset), 14 + 4 * tags);
                    prop_assert_eq!(l2.ether_type, *ether_type);
                    for tag in 0..TAGS_MAX {
                        let tci = if tag < tags { words[2 * tag + 1] } else { 0 };
                        prop_assert_eq!(l2.tci[tag], tci);
                    }
                }
                (Err(Truncated), None) => {}
                (parsed, expected) => prop_assert!(false, "{parsed:?}, type {expected:?}"),
            }
        }
    }
}
