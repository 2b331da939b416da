//! The loop round `translate`: which packets, which rule, counters.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};

use super::rule::{Direction, Reject, Rule, halves};
use super::translate::{translate, translate_common, translated_address};
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

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        let set = |meta: &Meta| tables.interface(meta.interface).rule_set;
        walk(tables, Direction::In, set, frames, meta, leaving, self.0);
    }
}

impl<F: Frame> Node<F> for Outbound<'_> {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "npt66-out";
    const INDEX: usize = 3;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        let set = |meta: &Meta| tables.next_hop(meta.next_hop).rule_set;
        walk(tables, Direction::Out, set, frames, meta, leaving, self.0);
    }
}

/// The rule by which the packets before were translated: most often that of the next one as well, since the rules of
/// one uplink never overlap. It counts for all of them at once.
struct Run<'t> {
    set: u16,
    number: u16,
    rule: &'t Rule,
    packets: u64,
    bytes: u64,
}

impl Run<'_> {
    fn count(&self, direction: Direction, counters: &WorkerCounters) {
        let rule = &counters.rules[usize::from(self.number)];
        let traffic = match direction {
            Direction::Out => &rule.out,
            Direction::In => &rule.r#in,
        };
        traffic.packets.add(self.packets);
        traffic.bytes.add(self.bytes);
    }
}

/// Both nodes: every packet by the rule set that `set` finds for it.
#[inline(always)] // with a constant direction
fn walk<F: Frame>(
    tables: &Tables,
    direction: Direction,
    set: impl Fn(&Meta) -> u16,
    frames: &mut [F],
    meta: &mut [Meta],
    leaving: &mut Leaving<Next>,
    counters: &WorkerCounters,
) {
    let mut run: Option<Run> = None;
    for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
        let set = set(meta);
        let bytes = frame.bytes_mut();
        if let Some(run) = run.as_mut()
            && run.set == set
            && translate_common(run.rule, direction, bytes, meta.l3_offset())
        {
            *meta.rule_mut(direction) = run.number;
            run.packets += 1;
            run.bytes += bytes.len() as u64; // `as`: a frame's length
            continue;
        }
        match step(tables, direction, set, frame, meta, counters) {
            Ok(Some(number)) if tables.rule_set(set).is_some_and(|set| !set.holds_own) => {
                let next = Run {
                    set,
                    number,
                    rule: tables.rule(number),
                    packets: 0,
                    bytes: 0,
                };
                if let Some(run) = run.replace(next) {
                    run.count(direction, counters);
                }
            }
            Ok(_) => {}
            Err(next) => leaving.push(index, next),
        }
    }
    if let Some(run) = run {
        run.count(direction, counters);
    }
}

/// Translate one packet by rule set `set`, if any, and if one of its rules covers the packet; says which.
///
/// # Errors
/// Where the packet goes that must not go on.
#[inline(never)]
pub(crate) fn step<F: Frame>(
    tables: &Tables,
    direction: Direction,
    set: u16,
    frame: &mut F,
    meta: &mut Meta,
    counters: &WorkerCounters,
) -> Result<Option<u16>, Next> {
    let Some(set) = tables.rule_set(set) else {
        return Ok(None);
    };
    let bytes = frame.bytes_mut();
    let frame_len = bytes.len();
    let packet = bytes.get_mut(meta.l3_offset()..).unwrap_or(&mut []);
    let Some(address) = translated_address(direction, packet) else {
        return Ok(None);
    };
    let Some(number) = set.find(direction, halves(address).0) else {
        return Ok(None);
    };
    if direction == Direction::In
        && set.holds_own
        && tables.is_own(meta.vrf, u128::from_be_bytes(*address))
    {
        return Ok(None);
    }
    let rule = tables.rule(number);
    let quoted = |prefix_half| {
        set.find(direction, prefix_half)
            .map(|number| tables.rule(number))
    };
    if let Err(reject) = translate(rule, direction, packet, quoted) {
        return Err(refuse(reject, direction));
    }
    *meta.rule_mut(direction) = number;
    let one = Run {
        set: 0,
        number,
        rule,
        packets: 1,
        bytes: frame_len as u64, // `as`: a frame's length
    };
    one.count(direction, counters);
    Ok(Some(number))
}

#[cold]
fn refuse(reject: Reject, direction: Direction) -> Next {
    match reject.answer(direction) {
        Some(error) => Next::Error(reject.reason(), error),
        None => Next::Drop(reject.reason()),
    }
}
