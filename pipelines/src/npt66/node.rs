//! The loop round `translate`: which packets, which rule, counters.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::node::Node;

use super::rule::{Direction, Reject, halves};
use super::translate::{translate, translated_address};
use crate::meta::{Meta, Next};
use crate::tables::Tables;

/// Inbound: after ingress, packets that came in by an uplink.
pub(crate) struct Inbound<'a>(pub &'a WorkerCounters);
/// Outbound: after the lookup, packets that leave by an uplink.
pub(crate) struct Outbound<'a>(pub &'a WorkerCounters);

impl<F: Frame> Node<F> for Inbound<'_> {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "npt66-in";
    const INDEX: usize = 1;

    fn process(&mut self, tables: &Tables, frames: &mut [F], meta: &mut [Meta], next: &mut [Next]) {
        for ((frame, meta), next) in frames.iter_mut().zip(meta).zip(next) {
            let set = tables.interface(meta.interface).rule_set;
            *next = step(tables, Direction::In, set, frame, meta, self.0);
        }
    }
}

impl<F: Frame> Node<F> for Outbound<'_> {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "npt66-out";
    const INDEX: usize = 3;

    fn process(&mut self, tables: &Tables, frames: &mut [F], meta: &mut [Meta], next: &mut [Next]) {
        for ((frame, meta), next) in frames.iter_mut().zip(meta).zip(next) {
            let set = tables.next_hop(meta.next_hop).rule_set;
            *next = step(tables, Direction::Out, set, frame, meta, self.0);
        }
    }
}

/// Translate one packet by rule set `set`, if any, and if one of its rules covers the packet.
#[inline(always)] // with a constant direction
pub(crate) fn step<F: Frame>(
    tables: &Tables,
    direction: Direction,
    set: u16,
    frame: &mut F,
    meta: &mut Meta,
    counters: &WorkerCounters,
) -> Next {
    let Some(set) = tables.rule_set(set) else {
        return Next::Continue;
    };
    let bytes = frame.bytes_mut();
    let frame_len = bytes.len();
    let packet = bytes.get_mut(meta.l3_offset()..).unwrap_or(&mut []);
    let Some(address) = translated_address(direction, packet) else {
        return Next::Continue;
    };
    let Some(number) = set.find(direction, halves(address).0) else {
        return Next::Continue;
    };
    if direction == Direction::In
        && set.holds_own
        && tables.is_own(meta.vrf, u128::from_be_bytes(*address))
    {
        return Next::Continue;
    }
    let rule = tables.rule(number);
    let quoted = |prefix_half| {
        set.find(direction, prefix_half)
            .map(|number| tables.rule(number))
    };
    if let Err(reject) = translate(rule, direction, packet, quoted) {
        return refuse(reject, direction);
    }
    let traffic = &counters.rules[usize::from(number)];
    let traffic = match direction {
        Direction::Out => {
            meta.rule_out = number;
            &traffic.out
        }
        Direction::In => {
            meta.rule_in = number;
            &traffic.r#in
        }
    };
    traffic.packets.add(1);
    traffic.bytes.add(frame_len as u64); // `as`: a frame's length
    Next::Continue
}

#[cold]
fn refuse(reject: Reject, direction: Direction) -> Next {
    match reject.answer(direction) {
        Some(error) => Next::Error(reject.reason(), error),
        None => Next::Drop(reject.reason()),
    }
}
