//! Cutting an IPv4 packet into fragments (RFC 791 3.2, RFC 1812 5.2.6).
//!
//! The pieces are of equal size, but for the last, which is at most as long: a packet that is a little too long becomes
//! two halves, not a long piece and a stub, so the pieces still fit after one more encapsulation. A packet that is itself a
//! fragment is cut further; its pieces count on from its offset, and only the last of the last has MF clear.

use arrayvec::ArrayVec;
use dataplane::frame::Frame;
use dataplane::reason::DropReason;
use dataplane::wire::FromBytes;
use dataplane::wire::ipv4::{self, HEADER_LEN, HEADER_LEN_MAX, Header};

/// Most pieces of one packet. A jumbo frame at the smallest MTU of IPv6 makes eight.
pub const PIECES_MAX: usize = 16;

/// The pieces of a packet, in order.
pub type Pieces<F> = ArrayVec<F, PIECES_MAX>;

/// Options of type "end of list" and "no operation" have no length (RFC 791 3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// The bit of an option's type that says it stands in every fragment.
const COPIED: u8 = 0x80;

/// Why a packet was not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// DF is set.
    #[error("must not be fragmented")]
    DontFragment,
    /// Not a whole IPv4 packet, or its fragments would reach beyond the longest packet there is.
    #[error("not an IPv4 packet that can be cut")]
    Malformed,
    /// More than [`PIECES_MAX`] pieces, or no room for 8 bytes of data.
    #[error("too many pieces")]
    TooMany,
    /// No buffer for another piece.
    #[error("no buffer for another piece")]
    NoBuffer,
}

impl Reason {
    /// What the packet is dropped under.
    #[must_use]
    pub const fn drop_reason(self) -> DropReason {
        match self {
            Self::DontFragment => DropReason::PacketTooBig,
            Self::Malformed | Self::TooMany => DropReason::NotFragmentable,
            Self::NoBuffer => DropReason::NoBuffer,
        }
    }
}

/// Where to cut: decided before anything is changed.
struct Plan {
    header_len: usize,
    /// Bytes of data in all pieces.
    data_len: usize,
    /// Bytes of data in each piece but the last; a multiple of 8.
    piece_len: usize,
    pieces: usize,
    /// Offset of the packet's own data in the packet it is a fragment of.
    base: usize,
    /// MF of the packet itself.
    more: bool,
}

impl Plan {
    fn new(packet: &[u8], max_packet_len: usize) -> Result<Self, Reason> {
        let (header, _) = Header::ref_from_prefix(packet).map_err(|_| Reason::Malformed)?;
        let (header_len, total_len) = (header.header_len(), header.total_len());
        if header_len < HEADER_LEN || total_len < header_len || packet.len() < total_len {
            return Err(Reason::Malformed);
        }
        let data_len = total_len - header_len;
        let (base, more) = (header.fragment_offset(), header.more_fragments());
        if total_len <= max_packet_len {
            return Ok(Self {
                header_len,
                data_len,
                piece_len: data_len,
                pieces: 1,
                base,
                more,
            });
        }
        if header.dont_fragment() {
            return Err(Reason::DontFragment);
        }
        let room = max_packet_len.saturating_sub(header_len) / 8 * 8;
        if room == 0 || data_len.div_ceil(room) > PIECES_MAX {
            return Err(Reason::TooMany);
        }
        // Rounded up to a multiple of 8 it is still at most `room`, which is one.
        let piece_len = data_len
            .div_ceil(data_len.div_ceil(room))
            .next_multiple_of(8);
        let pieces = data_len.div_ceil(piece_len);
        // RFC 791 3.1: the longest packet has 65,535 bytes, so no data can stand behind that.
        if base + data_len > usize::from(u16::MAX) {
            return Err(Reason::Malformed);
        }
        Ok(Self {
            header_len,
            data_len,
            piece_len,
            pieces,
            base,
            more,
        })
    }

    /// Which data piece `index` has.
    fn data(&self, index: usize) -> std::ops::Range<usize> {
        let start = index * self.piece_len;
        start..(start + self.piece_len).min(self.data_len)
    }

    /// Fill in what differs from piece to piece: total length, offset, MF, checksum.
    fn finish(&self, header: &mut [u8], index: usize) -> Option<()> {
        let data = self.data(index);
        let total_len = u16::try_from(header.len() + data.len()).ok()?;
        let offset = u16::try_from(self.base + data.start).ok()?;
        let (fixed, _) = Header::mut_from_prefix(header).ok()?;
        fixed.total_length.set(total_len);
        fixed.set_fragment(offset, self.more || index + 1 < self.pieces);
        ipv4::set_checksum(header).ok()
    }
}

/// Cut the IPv4 packet that starts at `l3_offset` into pieces of at most `max_packet_len` bytes each, link header not
/// counted. What is before `l3_offset` stands before each piece. The first piece is in the packet's own buffer; the others
/// are new frames, to be counted as generated. A packet that fits is its only piece, cut to its total length.
///
/// # Errors
/// With the frame as it was.
pub fn split<F: Frame>(
    mut frame: F,
    l3_offset: usize,
    max_packet_len: usize,
) -> Result<Pieces<F>, (Reason, F)> {
    let packet = frame.bytes().get(l3_offset..).unwrap_or(&[]);
    let plan = match Plan::new(packet, max_packet_len) {
        Ok(plan) => plan,
        Err(reason) => return Err((reason, frame)),
    };
    let mut others = Pieces::new();
    for index in 1..plan.pieces {
        match later_piece(&frame, l3_offset, &plan, index) {
            Some(piece) => others.push(piece),
            None => return Err((Reason::NoBuffer, frame)),
        }
    }
    let header_end = l3_offset + plan.header_len;
    let len = header_end + plan.data(0).len();
    if plan.pieces > 1
        && let Some(header) = frame.bytes_mut().get_mut(l3_offset..header_end)
        && plan.finish(header, 0).is_none()
    {
        return Err((Reason::Malformed, frame));
    }
    if frame.resize(len).is_err() {
        return Err((Reason::Malformed, frame));
    }
    let mut pieces = Pieces::new();
    pieces.push(frame);
    pieces.extend(others);
    Ok(pieces)
}

/// Piece `index`, which is not the first: a frame of its own. The header is shorter where options are not copied.
fn later_piece<F: Frame>(frame: &F, l3_offset: usize, plan: &Plan, index: usize) -> Option<F> {
    let bytes = frame.bytes();
    let (link, packet) = bytes.split_at_checked(l3_offset)?;
    let (header, data) = packet.split_at_checked(plan.header_len)?;
    let data = data.get(plan.data(index))?;
    let mut header = copied_header(header);
    plan.finish(&mut header, index)?;
    let mut piece = frame.another(link.len() + header.len() + data.len())?;
    let (to_link, rest) = piece.bytes_mut().split_at_mut_checked(link.len())?;
    let (to_header, to_data) = rest.split_at_mut_checked(header.len())?;
    to_link.copy_from_slice(link);
    to_header.copy_from_slice(&header);
    to_data.copy_from_slice(data);
    Some(piece)
}

/// The header of a later fragment: the fixed part, and the options that are copied, padded (RFC 791 3.1, 3.2).
fn copied_header(header: &[u8]) -> ArrayVec<u8, HEADER_LEN_MAX> {
    let (fixed, mut options) = header.split_at_checked(HEADER_LEN).unwrap_or((header, &[]));
    let mut copied: ArrayVec<u8, HEADER_LEN_MAX> = fixed.iter().copied().collect();
    while let Some(&kind) = options.first() {
        let len = match kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            // An option that cannot be read ends the list.
            _ => match options.get(1) {
                Some(&len) if len >= 2 => usize::from(len),
                _ => break,
            },
        };
        let Some((option, rest)) = options.split_at_checked(len) else {
            break;
        };
        if kind & COPIED != 0 {
            copied.extend(option.iter().copied());
        }
        options = rest;
    }
    while copied.len() % 4 != 0 {
        copied.push(END_OF_OPTIONS);
    }
    let words = copied.len() / 4;
    if let Some(first) = copied.first_mut() {
        *first = 0x40 | words as u8; // `as`: at most 15
    }
    copied
}

#[cfg(test)]
mod tests;
