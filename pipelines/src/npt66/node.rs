//! The loop round `translate`: which packets, which rule, counters.

use dataplane::counters::{Traffic, WorkerCounters};
use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::wire::ipv6;

use super::rule::{Direction, Quick, Reject, Rule, halves};
use super::table::RuleSet;
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
        let state = Walk::new(tables, Direction::In, self.0);
        walk(state, set, frames, meta, leaving);
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
        let state = Walk::new(tables, Direction::Out, self.0);
        walk(state, set, frames, meta, leaving);
    }
}

/// The rule by which the packets before were translated: most often that of the next one as well, since the rules of
/// one uplink never overlap. It counts for all of them at once.
struct Run<'t> {
    set: u16,
    number: u16,
    rule: &'t Rule,
    quick: Option<Quick>,
    packets: u64,
    bytes: u64,
}

impl<'t> Run<'t> {
    /// Nothing translated yet by rule `number` of `set`.
    fn new(tables: &'t Tables, direction: Direction, set: u16, number: u16) -> Self {
        let rule = tables.rule(number);
        Self {
            set,
            number,
            rule,
            quick: Quick::new(rule, direction),
            packets: 0,
            bytes: 0,
        }
    }

    fn count(&self, direction: Direction, counters: &WorkerCounters) {
        let traffic = traffic(counters, direction, self.number);
        traffic.packets.add(self.packets);
        traffic.bytes.add(self.bytes);
    }
}

/// The counters of a rule.
fn traffic(counters: &WorkerCounters, direction: Direction, number: u16) -> &Traffic {
    let rule = &counters.rules[usize::from(number)];
    match direction {
        Direction::Out => &rule.out,
        Direction::In => &rule.r#in,
    }
}

/// Translates the packets of a batch, one after the other, in one direction. [`Walk::finish`] ends it.
pub(crate) struct Walk<'t> {
    tables: &'t Tables,
    direction: Direction,
    counters: &'t WorkerCounters,
    run: Option<Run<'t>>,
}

impl<'t> Walk<'t> {
    #[inline(always)] // so that the direction is a constant
    pub(crate) fn new(
        tables: &'t Tables,
        direction: Direction,
        counters: &'t WorkerCounters,
    ) -> Self {
        Self {
            tables,
            direction,
            counters,
            run: None,
        }
    }

    /// Translate the next packet, in a frame of `frame_len` bytes, if it is TCP or UDP and the rule of the one before
    /// translates it: that rule's number, and the new address's halves as
    /// they stand in the packet. Else it is as it was, and one for [`Walk::uncommon`].
    #[inline(always)]
    pub(crate) fn common(
        &mut self,
        set: u16,
        header: &mut [u8; ipv6::HEADER_LEN],
        frame_len: usize,
    ) -> Option<(u16, [u64; 2])> {
        if self.run.as_ref().is_none_or(|run| run.set != set) {
            self.begin(set);
        }
        let run = self.run.as_mut().filter(|run| run.set == set)?;
        let halves = translate_common(run.rule, run.quick.as_ref(), self.direction, header)?;
        run.packets += 1;
        run.bytes += frame_len as u64; // `as`: a frame's length
        Some((run.number, halves))
    }

    /// Translate the next packet by rule set `set`, if any, and if one of its rules covers it.
    ///
    /// # Errors
    /// Where the packet goes that must not go on.
    pub(crate) fn uncommon<F: Frame>(
        &mut self,
        set: u16,
        frame: &mut F,
        meta: &mut Meta,
    ) -> Result<(), Next> {
        let (tables, direction) = (self.tables, self.direction);
        let number = step(tables, direction, set, frame, meta, self.counters)?;
        if let Some(number) = number
            && tables.rule_set(set).is_some_and(|set| !set.holds_own)
        {
            self.go_on_with(set, number);
        }
        Ok(())
    }

    /// The next packets have this set. If it has one rule, that will be theirs.
    #[cold]
    #[inline(never)]
    fn begin(&mut self, set: u16) {
        if let Some(number) = self.tables.rule_set(set).and_then(RuleSet::only) {
            self.go_on_with(set, number);
        }
    }

    fn go_on_with(&mut self, set: u16, number: u16) {
        let next = Run::new(self.tables, self.direction, set, number);
        if let Some(run) = self.run.replace(next) {
            run.count(self.direction, self.counters);
        }
    }

    /// Count what is not counted yet.
    #[inline(always)]
    pub(crate) fn finish(self) {
        if let Some(run) = self.run {
            run.count(self.direction, self.counters);
        }
    }
}

/// Both nodes: every packet by the rule set that `set` finds for it.
#[inline(always)] // with a constant direction
fn walk<F: Frame>(
    mut walk: Walk<'_>,
    set: impl Fn(&Meta) -> u16,
    frames: &mut [F],
    meta: &mut [Meta],
    leaving: &mut Leaving<Next>,
) {
    let direction = walk.direction;
    for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
        let set = set(meta);
        let bytes = frame.bytes_mut();
        let frame_len = bytes.len();
        let header = bytes.get_mut(meta.l3_offset()..);
        let header = header.and_then(<[u8]>::first_chunk_mut);
        if let Some((number, _)) = header.and_then(|header| walk.common(set, header, frame_len)) {
            *meta.rule_mut(direction) = number;
        } else if let Err(next) = walk.uncommon(set, frame, meta) {
            leaving.push(index, next);
        }
    }
    walk.finish();
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
    let traffic = traffic(counters, direction, number);
    traffic.packets.add(1);
    traffic.bytes.add(frame_len as u64); // `as`: a frame's length
    Ok(Some(number))
}

#[cold]
fn refuse(reject: Reject, direction: Direction) -> Next {
    match reject.answer(direction) {
        Some(error) => Next::Error(reject.reason(), error),
        None => Next::Drop(reject.reason()),
    }
}
