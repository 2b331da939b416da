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
