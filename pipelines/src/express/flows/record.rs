//! One flow as it is remembered, and its packets behind its headers.

use dataplane::cpu::{Cpu, Words};
use dataplane::frame::Frame;
use dataplane::table::region::Pair;

use crate::express::L3;
use crate::express::image::{self, Exact, Head};
use crate::fib::{HOP_LIMIT, PaddedLink};
use crate::lisp::encap::{self, Inherited, Prepared, V4_LEN, V6_LEN};
use crate::lisp::table::Mappings;
use crate::lisp::view::Rules;

/// What tells a flow apart, what stands before its packets, and until when. Two lines:
///
/// ```text
///  0 to 7  the image of its last packet, and where that has room:
///            0  longest frame, upper 16    1  tag, lower 32    7  way, upper 32 | last frame, next 16
///  8 to 14 the headers of the last packet: see Prepared
///  15      the mapping 32 | what it was 32
/// ```
#[derive(Clone, Copy)]
pub(super) struct Flow<'f>(pub(super) &'f Pair);

/// The number of a version; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(pub(super) u32);

/// The bit of a way that says: the outer header is IPv4.
pub(super) const OVER_V4: u32 = 1 << 31;

/// A flow under this version, that goes this way and to this mapping, as its first frame tells; `most`: the longest frame that fits
/// to its locator. Its headers are still to be made anew for that frame. `None`: `most` has more than 16 bits.
pub(super) fn record_of(
    (tag, way): (Tag, u32),
    most: usize,
    (leaf, used): (u32, u32),
    prepared: Prepared,
    head: &Head,
) -> Option<Pair> {
    let mut image = image::of(head);
    image[0] |= u64::try_from(most).ok()?.checked_mul(1 << 48)?;
    for (word, other) in image.iter_mut().zip(image::others(tag.0, way)) {
        *word |= other;
    }
    let [a, b, c, d, e, f, g] = prepared;
    let mapping = u64::from(leaf) | u64::from(used) << 32;
    Some(Pair([image, [a, b, c, d, e, f, g, mapping]]))
}

impl Flow<'_> {
    /// Under which version it was made.
    #[inline(always)]
    pub(super) fn tag(self) -> Tag {
        Tag(self.0.0[0][1] as u32) // `as`: the lower half
    }

    /// Number of the underlay's next hop, with [`OVER_V4`].
    #[inline(always)]
    pub(super) fn way(self) -> u32 {
        (self.0.0[0][7] >> 32) as u32 // `as`: the upper half
    }

    /// Longest frame that fits to the locator.
    #[inline(always)]
    pub(super) fn most(self) -> usize {
        (self.0.0[0][0] >> 48) as usize // `as`: 16 bits
    }

    /// Whether a frame that begins so is of this flow, and version and way are [these](image::others).
    #[inline(always)]
    pub(super) fn is_alike<C: Cpu>(self, cpu: C, head: &Head, others: &Words) -> bool {
        cpu.is_alike::<image::Flow, _>(&self.0.0[0], head, others)
    }

    /// The same, and the first bytes of the packet are those of the last one.
    #[inline(always)]
    pub(super) fn is_as_last<C: Cpu>(self, cpu: C, head: &Head, others: &Words) -> bool {
        cpu.is_alike::<Exact, _>(&self.0.0[0], head, others)
    }

    /// Bytes of the last frame.
    #[inline(always)]
    pub(super) fn last_len(self) -> usize {
        (self.0.0[0][7] >> 16) as u16 as usize // `as`: 16 bits
    }

    /// Whether its mapping is what it was, and marked as used.
    #[inline(always)]
    pub(super) fn holds(self, mappings: Mappings<'_>) -> bool {
        let [.., mapping] = self.0.0[1];
        mappings.has_still(mapping as u32, (mapping >> 32) as u32) // `as`: 32 bits each
    }

    /// Put a packet of this flow that is as the last one behind the same headers: whether the frame is then finished. Else it
    /// is as it was.
    #[inline(always)]
    pub(super) fn wrap<F: Frame, const V4: bool>(self, link: &PaddedLink, frame: &mut F) -> bool {
        let [prepared @ .., _] = &self.0.0[1];
        finish::<F, V4>(prepared, link, frame)
    }
}

/// Put a packet, which is common, behind the headers of its flow, made anew for its length, class and hop limit: whether the frame
/// is then finished. Else it is as it was: it does not fit, or is out of hops.
#[inline(always)]
pub(super) fn wrap_anew<F: Frame>(
    pair: &mut Pair,
    is_v4: bool,
    rules: Rules,
    link: &PaddedLink,
    frame: &mut F,
) -> bool {
    let bytes = frame.bytes();
    let len = bytes.len();
    let Some(head) = bytes.first_chunk::<{ image::LEN }>() else {
        return false;
    };
    let hop_limit = head[L3 + HOP_LIMIT];
    if len > Flow(pair).most() || hop_limit <= 1 {
        return false;
    }
    let inner = Inherited {
        first: [head[L3], head[L3 + 1]],
        hop_limit: hop_limit - 1,
    };
    let [image, [own @ .., _]] = &mut pair.0;
    // What is written is not read again here: memory would make it wait.
    let mut prepared = *own;
    encap::adapt(&mut prepared, is_v4, rules, inner, len - L3);
    *own = prepared;
    image::sharpen(image, head);
    image[7] = image[7] & !0xffff_0000 | (len as u64) << 16; // `as`: at most `most`, which has 16 bits
    if is_v4 {
        finish::<F, true>(&prepared, link, frame)
    } else {
        finish::<F, false>(&prepared, link, frame)
    }
}

/// Put a packet behind link header and headers, and count its hop: whether there was room.
#[inline(always)]
fn finish<F: Frame, const V4: bool>(prepared: &Prepared, link: &PaddedLink, frame: &mut F) -> bool {
    let Ok(bytes) = frame.prepend(if V4 { V4_LEN } else { V6_LEN }) else {
        return false;
    };
    if V4 {
        write::<{ L3 + V4_LEN + 8 }, V4_LEN>(prepared, link, bytes)
    } else {
        write::<{ L3 + V6_LEN + 8 }, V6_LEN>(prepared, link, bytes)
    }
}

/// Write them before a packet. `FRONT`: bytes of all headers and eight of the packet; `HEADERS`: those of the headers but the
/// link's.
#[inline(always)]
fn write<const FRONT: usize, const HEADERS: usize>(
    prepared: &Prepared,
    link: &PaddedLink,
    bytes: &mut [u8],
) -> bool {
    let Some(front) = bytes.first_chunk_mut::<FRONT>() else {
        return false;
    };
    front[..L3 + 2].copy_from_slice(link);
    let (headers, packet) = front[L3..].split_at_mut(HEADERS);
    let headers: &mut [u8; HEADERS] = headers.try_into().expect("it was split there");
    encap::write(prepared, headers);
    packet[HOP_LIMIT] = packet[HOP_LIMIT].wrapping_sub(1);
    true
}

#[cfg(test)]
mod tests {
    use dataplane::cpu::Plain;

    use super::*;

    /// To whom the link takes it, type, version, protocol, addresses and ports; tag and way.
    #[test]
    fn a_flow_has_every_part_of_its_key() {
        let head: Head = std::array::from_fn(|at| (at * 7 + 1) as u8); // `as`: any byte
        let others = image::others(0x0102_0304, 0x0506_0708);
        let mut line = image::of(&head);
        for (word, other) in line.iter_mut().zip(others) {
            *word |= other;
        }
        line[0] |= 1234 << 48;
        let pair = Pair([line, [0; 8]]);
        let flow = Flow(&pair);
        let tag = Tag(0x0102_0304);
        assert_eq!(
            (flow.tag(), flow.way(), flow.most()),
            (tag, 0x0506_0708, 1234)
        );
        assert!(flow.is_alike(Plain, &head, &others));
        for bit in 0..8 * head.len() {
            let mut other = head;
            other[bit / 8] ^= 1 << (bit % 8);
            let is_part = match bit / 8 {
                0..=5 | 12..=13 | 20 | 22.. => true,
                14 => bit % 8 >= 4,
                _ => false,
            };
            assert_eq!(flow.is_alike(Plain, &other, &others), !is_part, "bit {bit}");
        }
        let mut exact = line;
        image::sharpen(&mut exact, &head);
        let pair = Pair([exact, [0; 8]]);
        let flow = Flow(&pair);
        assert!(flow.is_as_last(Plain, &head, &others) && flow.is_alike(Plain, &head, &others));
        for bit in 0..8 * head.len() {
            let mut other = head;
            other[bit / 8] ^= 1 << (bit % 8);
            let is_source = (6..12).contains(&(bit / 8));
            assert_eq!(
                flow.is_as_last(Plain, &other, &others),
                is_source,
                "bit {bit}"
            );
        }
        for bit in 0..32 {
            let [tag, way] = [
                image::others(0x0102_0304 ^ 1 << bit, 0x0506_0708),
                image::others(0x0102_0304, 0x0506_0708 ^ 1 << bit),
            ];
            assert!(!flow.is_alike(Plain, &head, &tag) && !flow.is_alike(Plain, &head, &way));
        }
    }
}
