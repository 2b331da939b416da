//! The one walker over IPv6 extension headers (RFC 8200 4), used by everyone who needs the upper layer.
//!
//! Bounded: at most [`HEADERS_MAX`] headers, every read checked against the bytes that are there. It judges only what
//! it must to go on; options are not looked into. The caller passes what follows the IPv6 header, cut to the payload
//! length if the frame is longer (Ethernet padding).

use super::ipv6::proto;

/// Longest chain that is walked.
pub const HEADERS_MAX: usize = 8;

/// What a fragment header says (RFC 8200 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Where this fragment's data belong in the original packet, in bytes; a multiple of 8.
    pub offset_bytes: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl Fragment {
    /// A fragment header on a packet that is whole (RFC 6946).
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        self.offset_bytes == 0 && !self.more
    }
}

/// Where the chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upper {
    /// The upper layer's protocol number; ESP and "no next header" count as upper layers, and so does any number that
    /// is not a known extension header. Of a fragment that is not the first: what its fragment header names, which may
    /// be an extension header.
    pub protocol: u8,
    /// Where it starts, from the start of the payload; may be the payload's end.
    pub offset: usize,
    /// The field that names it, from the start of the payload; `None` when it is the IPv6 header's own.
    pub named_at: Option<usize>,
    /// The fragment header, if there is one. With `offset_bytes > 0` there is no upper-layer header at `offset`.
    pub fragment: Option<Fragment>,
    /// Segments left of the first routing header that has any left: the destination is then not the final one.
    pub routing_segments_left: u8,
}

/// Why a chain cannot be walked. `pointer` counts bytes from the start of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtError {
    /// The payload ends within a header.
    #[error("extension header at byte {pointer} of the payload is cut short")]
    Truncated {
        /// Start of the header that does not fit.
        pointer: usize,
    },
    /// More than [`HEADERS_MAX`] headers.
    #[error(
        "too many extension headers, the first over the limit at byte {pointer} of the payload"
    )]
    TooMany {
        /// Start of the first header over the limit (RFC 8883 2.5).
        pointer: usize,
    },
    /// Hop-by-Hop Options anywhere but directly behind the IPv6 header (RFC 8200 4.1).
    #[error("hop-by-hop options are not the first header, named at byte {pointer} of the payload")]
    HopByHopNotFirst {
        /// The Next Header field with the value 0 (RFC 8200 4).
        pointer: usize,
    },
}

impl ExtError {
    /// Bytes from the start of the payload.
    #[must_use]
    pub const fn pointer(self) -> usize {
        match self {
            Self::Truncated { pointer }
            | Self::TooMany { pointer }
            | Self::HopByHopNotFirst { pointer } => pointer,
        }
    }
}

/// Whether [`walk`] goes on behind a header of this number.
#[must_use]
#[inline]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        proto::HOP_BY_HOP
            | proto::ROUTING
            | proto::FRAGMENT
            | proto::AH
            | proto::DESTINATION_OPTIONS
            | proto::MOBILITY
            | proto::HIP
            | proto::SHIM6
    )
}

/// Find the upper layer. `first` is the IPv6 header's Next Header, `payload` everything behind that header.
///
/// # Errors
/// When a header is cut short, there are too many of them, or Hop-by-Hop Options are misplaced.
#[inline]
pub fn walk(first: u8, payload: &[u8]) -> Result<Upper, ExtError> {
    if is_extension(first) {
        return walk_chain(first, payload);
    }
    Ok(Upper {
        protocol: first,
        offset: 0,
        named_at: None,
        fragment: None,
        routing_segments_left: 0,
    })
}

fn walk_chain(first: u8, payload: &[u8]) -> Result<Upper, ExtError> {
    let mut upper = Upper {
        protocol: first,
        offset: 0,
        named_at: None,
        fragment: None,
        routing_segments_left: 0,
    };
    let mut headers = 0;
    while is_extension(upper.protocol) {
        let pointer = upper.offset;
        if let (proto::HOP_BY_HOP, Some(pointer)) = (upper.protocol, upper.named_at) {
            return Err(ExtError::HopByHopNotFirst { pointer });
        }
        if headers == HEADERS_MAX {
            return Err(ExtError::TooMany { pointer });
        }
        headers += 1;

        // Every kind is at least 8 bytes long and starts with Next Header; its own length field is checked below.
        let truncated = ExtError::Truncated { pointer };
        let rest = payload.get(pointer..).ok_or(truncated)?;
        let head = rest.first_chunk::<8>().ok_or(truncated)?;
        let len = header_len(upper.protocol, head);
        if len > rest.len() {
            return Err(truncated);
        }
        match upper.protocol {
            proto::ROUTING if upper.routing_segments_left == 0 => {
                upper.routing_segments_left = head[3];
            }
            proto::FRAGMENT => {
                let fragment = parse_fragment(head);
                // Of nested fragment headers the one that makes the packet incomplete is kept.
                if fragment.offset_bytes > 0 || upper.fragment.is_none_or(|f| !f.more) {
                    upper.fragment = Some(fragment);
                }
            }
            _ => {}
        }
        upper.protocol = head[0];
        upper.named_at = Some(pointer);
        upper.offset = pointer + len;
        // Behind a fragment header with an offset there is data, not a header (RFC 8200 4.5).
        if upper.fragment.is_some_and(|f| f.offset_bytes > 0) {
            break;
        }
    }
    Ok(upper)
}

/// Whole length of an extension header in bytes, from its first bytes.
fn header_len(kind: u8, head: &[u8; 8]) -> usize {
    let field = usize::from(head[1]);
    match kind {
        proto::FRAGMENT => 8,
        // RFC 4302 2.2: in units of 4 bytes, minus 2, unlike all others.
        proto::AH => (field + 2) * 4,
        // RFC 8200 4.3: in units of 8 bytes, not counting the first 8.
        _ => (field + 1) * 8,
    }
}

/// RFC 8200 4.5: offset in units of 8 bytes (13 bits), 2 reserved bits ignored, M flag.
fn parse_fragment(head: &[u8; 8]) -> Fragment {
    let [_, _, high, low, id @ ..] = *head;
    let offset_and_flags = u16::from_be_bytes([high, low]);
    Fragment {
        offset_bytes: offset_and_flags & 0xfff8,
        more: offset_and_flags & 1 != 0,
        id: u32::from_be_bytes(id),
    }
}

#[cfg(test)]
mod tests;
