//! One loop from a received frame to a finished one, for a burst that is decapsulated: in one instance, IPv6 packets to the
//! addresses around the first one's that have its answer.
//!
//! It is what comes from the core to a site. As in [`straight`](super::straight) nothing is written to a packet before all
//! is known of it: the first that is not so is as it was received, and so are all behind it.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::port::PortId;
use dataplane::table::lpm::Range;
use dataplane::wire::lisp::{DATA_PORT, HEADER_LEN, Header, flags};
use dataplane::wire::{FromBytes, ipv4, ipv6, udp};

use super::alike::Common;
use super::known::Known;
use super::{L3, destination_of};
use crate::fib::{HOP_LIMIT, NextHop};
use crate::ingress::{self, ORDINARY};
use crate::lisp::decap::class_of;
use crate::lisp::table::LEAF;
use crate::lisp::view::{Lisp, Rules};
use crate::tables::{PortTable, Tables};

/// UDP and LISP header.
const HEADERS: usize = udp::HEADER_LEN + HEADER_LEN;

/// The first frames of a burst, as far as they are decapsulated and go one way. The first [is for us](is_for_us); `None`: it
/// is not common.
#[inline(never)]
pub(super) fn decapsulate<F: Frame>(
    tables: &Tables,
    lisp: &Lisp,
    (ingress, port, known): (PortId, &PortTable, &mut Known),
    frames: &mut [F],
    counters: &WorkerCounters,
) -> Option<Common> {
    if lisp.check_source_rloc || lisp.rules.gpe {
        return None;
    }
    let first = frames.first()?;
    let packet = first.bytes().get(L3..)?;
    let is_v4 = is_v4(packet);
    // All others are to the same address.
    let is_common = match is_v4 {
        true => ingress::is_common_v4(port, first),
        false => ingress::is_common(port, first),
    };
    if !is_common {
        return None;
    }
    let burst = if is_v4 {
        Opening::<{ ipv4::HEADER_LEN }>::of(tables, lisp, (ingress, known), packet)?
            .finish::<F, true>(port, frames)
    } else {
        Opening::<{ ipv6::HEADER_LEN }>::of(tables, lisp, (ingress, known), packet)?
            .finish::<F, false>(port, frames)
    };
    if burst.common.frames > 0 {
        let packets = burst.common.frames as u64; // `as`: at most a burst
        counters.lisp_decap.packets.add(packets);
        counters.lisp_decap.bytes.add(burst.came);
    }
    Some(burst.common)
}

/// Whether a frame without tags is an encapsulated packet for us.
#[inline(always)]
pub(super) fn is_for_us<F: Frame>(lisp: &Lisp, frame: &F) -> bool {
    let packet = frame.bytes().get(L3..).unwrap_or(&[]);
    lisp.is_for_us(packet, is_v4(packet))
}

#[inline(always)]
fn is_v4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
}

/// What was opened.
struct Opened {
    common: Common,
    /// Bytes as they came.
    came: u64,
}

/// What the packets of a burst have in common, whose outer header has so many bytes.
struct Opening<'t, const OUTER: usize> {
    rules: Rules,
    /// Our RLOC, an IPv4 one in the last 4 bytes.
    rloc: [u8; 16],
    /// Of the LISP header, its first octet and the last four but for status bits, as they stand in the packet.
    header: (u8, u32),
    header_mask: u32,
    range: Range,
    next_hop: &'t NextHop,
}

impl<'t, const OUTER: usize> Opening<'t, OUTER> {
    /// Of the first one, which is for us.
    #[inline(always)]
    fn of(
        tables: &'t Tables,
        lisp: &Lisp,
        (ingress, known): (PortId, &mut Known),
        packet: &[u8],
    ) -> Option<Self> {
        let (outer, datagram) = packet.split_first_chunk::<OUTER>()?;
        let (head, inner) = datagram.split_first_chunk::<HEADERS>()?;
        let (header, _) = Header::read_from_prefix(&head[udp::HEADER_LEN..]).ok()?;
        if header.flags & flags::KEY != 0 {
            return None;
        }
        let (_, instance) = lisp.instance(header.instance())?;
        let destination = destination_of(inner.first_chunk()?);
        let range = known.range(ingress, tables.fib(instance.vrf), &destination)?;
        if range.leaf() & LEAF != 0 {
            return None;
        }
        let mut range = range.within(ORDINARY.0, ORDINARY.1)?;
        if !(lisp.roles.petr || lisp.roles.rtr) {
            // D-26.
            let (first, last) = instance.first6.ends()?;
            range = range.within(first, last)?;
        }
        let next_hop = tables.next_hop(range.leaf());
        let mut rloc = [0; 16];
        let address = if OUTER == ipv4::HEADER_LEN { 16 } else { 24 };
        rloc[16 - (OUTER - address)..].copy_from_slice(&outer[address..]);
        let header_mask = if header.flags & flags::INSTANCE != 0 {
            u32::from_ne_bytes([0xff, 0xff, 0xff, 0])
        } else {
            0
        };
        let last = u32::from_ne_bytes(header.last) & header_mask;
        (next_hop.rule_set == 0).then_some(Self {
            rules: lisp.rules,
            rloc,
            header: (header.flags, last),
            header_mask,
            range,
            next_hop,
        })
    }

    /// All that is done to packets that are common.
    #[inline(always)]
    fn finish<F: Frame, const V4: bool>(self, port: &PortTable, frames: &mut [F]) -> Opened {
        let most = usize::from(self.next_hop.express_max);
        let link: [u8; L3] = *self.next_hop.plain_link();
        let (mut common, mut came, mut sum) = (0, 0, 0);
        for frame in frames {
            let is_common = match V4 {
                true => ingress::is_common_v4_but_for_destination(port, frame),
                false => ingress::is_common_but_for_destination(port, frame),
            };
            if !is_common {
                break;
            }
            let bytes = frame.bytes_mut();
            let frame_len = bytes.len();
            let Some(len) = self.open::<V4>(bytes, most, &link) else {
                break;
            };
            if frame.crop(OUTER + HEADERS, len).is_err() {
                break;
            }
            came += frame_len as u64; // `as`: a frame's length
            sum += len as u64; // `as`: as above
            common += 1;
        }
        Opened {
            common: Common::of(self.next_hop, common, sum),
            came,
        }
    }

    /// Write the inner packet's new header, and the link header before it; how long the frame will be. `None`: it is as it was.
    #[inline(always)]
    fn open<const V4: bool>(
        &self,
        bytes: &mut [u8],
        most: usize,
        link: &[u8; L3],
    ) -> Option<usize> {
        let (_, packet) = bytes.split_first_chunk_mut::<L3>()?;
        let (outer, datagram) = packet.split_first_chunk_mut::<OUTER>()?;
        let (head, inner) = datagram.split_first_chunk_mut::<HEADERS>()?;
        let datagram_len = HEADERS + inner.len();
        let inner_len = inner.len();
        let header = inner.first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
        let (outer_class, outer_hop_limit) = if V4 {
            (outer[1], outer[8])
        } else {
            (outer[0] << 4 | outer[1] >> 4, outer[HOP_LIMIT])
        };
        let hop_limit = header[HOP_LIMIT].min(outer_hop_limit);
        let class = header[0] << 4 | header[1] >> 4;
        let prefix = header[24..].first_chunk().expect("8 of 40 bytes");
        let is_common = self.is_to_us::<V4>(outer, head)
            && usize::from(u16::from_be_bytes([head[4], head[5]])) == datagram_len
            && header[0] >> 4 == 6
            && ipv6::HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]))
                == inner_len
            && ingress::is_ordinary(header[8])
            && self.range.contains(u64::from_be_bytes(*prefix))
            && hop_limit > 1
            && L3 + inner_len <= most;
        if !is_common {
            return None;
        }
        if class != outer_class {
            let class = class_of(self.rules, class, outer_class).ok()?;
            header[0] = 0x60 | class >> 4;
            header[1] = header[1] & 0x0f | class << 4;
        }
        // D-15, and one hop here.
        header[HOP_LIMIT] = hop_limit - 1;
        head[HEADERS - L3..].copy_from_slice(link);
        Some(L3 + inner_len)
    }

    /// Whether this is UDP without a checksum to our port and RLOC, with the LISP header of the first packet.
    #[inline(always)]
    fn is_to_us<const V4: bool>(&self, outer: &[u8; OUTER], head: &[u8; HEADERS]) -> bool {
        let is_ours = if V4 {
            outer[9] == ipv6::proto::UDP
                && outer[6] & 0x3f == 0
                && outer[7] == 0
                && outer[16..] == self.rloc[12..]
        } else {
            outer[6] == ipv6::proto::UDP && outer[24..] == self.rloc
        };
        let last = head.last_chunk().expect("4 of 16 bytes");
        is_ours
            && u16::from_be_bytes([head[2], head[3]]) == DATA_PORT
            && [head[6], head[7]] == [0, 0]
            && head[udp::HEADER_LEN] == self.header.0
            && u32::from_ne_bytes(*last) & self.header_mask == self.header.1
    }
}
