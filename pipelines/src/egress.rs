//! The last node: the link header of the next hop, one hop less.

use dataplane::frame::Frame;
use dataplane::node::Node;
use dataplane::reason::DropReason;

use crate::fib::HOP_LIMIT;
use crate::meta::{Entry, Meta, Next};
use crate::tables::Tables;

const ETHERNET: usize = 14;

pub(crate) struct Egress;

impl<F: Frame> Node<F> for Egress {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "egress";
    const INDEX: usize = 4;

    fn process(&mut self, tables: &Tables, frames: &mut [F], meta: &mut [Meta], next: &mut [Next]) {
        for ((frame, meta), next) in frames.iter_mut().zip(meta).zip(next) {
            let next_hop = tables.next_hop(meta.next_hop);
            let l3 = meta.l3_offset();
            if meta.entry == Entry::Received
                && let Some(hop_limit) = frame.bytes_mut().get_mut(l3 + HOP_LIMIT)
            {
                // The lookup has seen that it is at least 2.
                *hop_limit = hop_limit.wrapping_sub(1);
            }
            let link_len = usize::from(next_hop.link_len);
            if link_len == ETHERNET && l3 == ETHERNET {
                // The common case has a constant length: two stores.
                if let Some(link) = frame.bytes_mut().first_chunk_mut::<ETHERNET>() {
                    link.copy_from_slice(&next_hop.link[..ETHERNET]);
                }
                continue;
            }
            let room = if link_len > l3 {
                frame.prepend(link_len - l3)
            } else {
                frame.trim_front(l3 - link_len)
            };
            if room.is_err() {
                *next = Next::Drop(DropReason::NoHeadroom);
                continue;
            }
            if let Some(link) = frame.bytes_mut().get_mut(..link_len) {
                link.copy_from_slice(&next_hop.link[..link_len]);
                // The priority a frame came with stays with it; the tag is the interface's.
                if let Some(tci) = link.get_mut(ETHERNET).filter(|_| link_len > ETHERNET) {
                    *tci |= meta.priority.to_be_bytes()[0];
                }
            }
            meta.l3 = next_hop.link_len;
        }
    }
}
