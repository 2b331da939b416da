//! The last node: the link header of the next hop, one hop less; in IPv4 the header checksum follows.

use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::reason::DropReason;
use dataplane::wire::ipv4;

use crate::fib::{HOP_LIMIT, NextHop};
use crate::meta::{Entry, Family, Meta, Next};
use crate::tables::Tables;

const ETHERNET: usize = 14;

#[derive(Default)]
pub(crate) struct Egress {
    /// One bit for each port by which frames of the last batch leave.
    pub(crate) ports: u32,
}

impl<F: Frame> Node<F> for Egress {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "egress";
    const INDEX: usize = 4;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        self.ports = 0;
        for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
            let next_hop = tables.next_hop(meta.next_hop);
            self.ports |= next_hop.marks as u32; // `as`: the lower half
            let l3 = meta.l3_offset();
            let bytes = frame.bytes_mut();
            // The lookup has seen that the hop limit is at least 2.
            let hop = u8::from(meta.entry == Entry::Received);
            let link_len = usize::from(next_hop.link_len);
            if meta.family == Family::V6
                && link_len == ETHERNET
                && l3 == ETHERNET
                && let Some(head) = bytes.first_chunk_mut::<{ ETHERNET + HOP_LIMIT + 1 }>()
            {
                // The common case has constant offsets: three stores.
                head[..ETHERNET].copy_from_slice(&next_hop.link[..ETHERNET]);
                head[ETHERNET + HOP_LIMIT] = head[ETHERNET + HOP_LIMIT].wrapping_sub(hop);
                continue;
            }
            if meta.family == Family::V4
                && link_len == ETHERNET
                && l3 == ETHERNET
                && let Some((link, packet)) = bytes.split_first_chunk_mut::<ETHERNET>()
                && let Some(header) = packet.first_chunk_mut()
            {
                link.copy_from_slice(&next_hop.link[..ETHERNET]);
                if hop != 0 {
                    ipv4::decrement_ttl(header);
                }
                continue;
            }
            if let Err(next) = rewrite(next_hop, frame, meta) {
                leaving.push(index, next);
            }
        }
    }
}

/// The same for any link header, and for packets whose hop limit stays.
///
/// # Errors
/// Where the packet goes that cannot have the header.
#[inline(never)]
pub(crate) fn rewrite<F: Frame>(
    next_hop: &NextHop,
    frame: &mut F,
    meta: &mut Meta,
) -> Result<(), Next> {
    let (l3, link_len) = (meta.l3_offset(), usize::from(next_hop.link_len));
    if meta.entry == Entry::Received {
        decrement_hop_limit(frame.bytes_mut(), meta);
    }
    let room = if link_len > l3 {
        frame.prepend(link_len - l3).map(|_| ())
    } else {
        frame.trim_front(l3 - link_len)
    };
    if room.is_err() {
        return Err(Next::Drop(DropReason::NoHeadroom));
    }
    if let Some(link) = frame.bytes_mut().get_mut(..link_len) {
        link.copy_from_slice(&next_hop.link[..link_len]);
        // The priority a frame came with stays with it; the tag is the interface's.
        if let Some(tci) = link.get_mut(ETHERNET).filter(|_| link_len > ETHERNET) {
            *tci |= meta.priority.to_be_bytes()[0];
        }
    }
    meta.l3 = next_hop.link_len;
    Ok(())
}

/// One hop less. In IPv4 the header checksum follows (RFC 1812 5.3.1, RFC 1624).
#[inline]
fn decrement_hop_limit(bytes: &mut [u8], meta: &Meta) {
    let packet = bytes.get_mut(meta.l3_offset()..).unwrap_or(&mut []);
    match meta.family {
        Family::V4 => {
            if let Some(header) = packet.first_chunk_mut() {
                ipv4::decrement_ttl(header);
            }
        }
        Family::V6 => {
            if let Some(hop_limit) = packet.get_mut(HOP_LIMIT) {
                *hop_limit = hop_limit.wrapping_sub(1);
            }
        }
    }
}
