//! The loop round `translate`: which packets, which rule, counters.

use dataplane::counters::{Traffic, WorkerCounters};
use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::wire::ipv6;

use super::rule::{Direction, Quick, Reject, Rule, halves};
use super::table::RuleSet;
use super::translate::{translate, translate_common, translate_header, translated_address};
use crate::meta::{Family, Meta, NO_RULE, Next};
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
        // What was decapsulated came in by no uplink, whatever interface it is told of by.
        let set = |meta: &Meta| match meta.rule_in {
            NO_RULE if !meta.is_decapsulated => tables.interface(meta.interface).rule_set,
            _ => 0,
        };
        walk(
            Walk::<false>::new(tables, self.0),
            set,
            frames,
            meta,
            leaving,
        );
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
        walk(
            Walk::<true>::new(tables, self.0),
            set,
            frames,
            meta,
            leaving,
        );
    }
}

/// Translates the packets of a batch, one after the other, in one direction.
///
/// It remembers the rule by which the packets before were translated: most often that of the next one as well, since
/// the rules of one uplink never overlap. What that rule has done is counted for all of them at once; [`Walk::finish`] ends
/// it.
pub(crate) struct Walk<'t, const OUT: bool> {
    tables: &'t Tables,
    counters: &'t WorkerCounters,
    /// The rule set; 0: none yet.
    set: u16,
    number: u16,
    quick: &'t Quick,
    /// The rule, if there is one.
    rule: Option<&'t Rule>,
    /// Not counted yet.
    packets: u64,
    bytes: u64,
}

impl<'t, const OUT: bool> Walk<'t, OUT> {
    const DIRECTION: Direction = if OUT { Direction::Out } else { Direction::In };

    #[inline(always)]
    pub(crate) fn new(tables: &'t Tables, counters: &'t WorkerCounters) -> Self {
        Self {
            tables,
            counters,
            set: 0,
            number: 0,
            quick: &Quick::NONE,
            rule: None,
            packets: 0,
            bytes: 0,
        }
    }

    /// Translate the next packet, in a frame of `frame_len` bytes, if it is TCP or UDP and the rule of the one before
    /// translates it: the new address's halves as they stand in the packet. Else it is as it was, and one for [`Walk::uncommon`].
    #[inline(always)]
    pub(crate) fn common(
        &mut self,
        set: u16,
        header: &mut [u8; ipv6::HEADER_LEN],
        frame_len: usize,
    ) -> Option<[u64; 2]> {
        if self.set != set {
            self.begin(set);
        }
        let halves = match translate_common(self.quick, Self::DIRECTION, header) {
            None => translate_header(self.rule?, Self::DIRECTION, header)?,
            Some(halves) => halves,
        };
        self.packets += 1;
        self.bytes += frame_len as u64; // `as`: a frame's length
        Some(halves)
    }

    /// The worker's counters.
    pub(crate) fn counters(&self) -> &'t WorkerCounters {
        self.counters
    }

    /// Number of the rule of the packet before.
    #[inline(always)]
    pub(crate) fn number(&self) -> u16 {
        self.number
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
        let number = step(
            self.tables,
            Self::DIRECTION,
            set,
            frame,
            meta,
            self.counters,
        )?;
        if let Some(number) = number
            && self.tables.rule_set(set).is_some_and(|set| !set.holds_own)
        {
            self.go_on_with(set, Some(number));
        }
        Ok(())
    }

    /// The next packets have this set. If it has one rule, that will be theirs.
    #[cold]
    #[inline(never)]
    fn begin(&mut self, set: u16) {
        let number = self.tables.rule_set(set).and_then(RuleSet::only);
        self.go_on_with(set, number);
    }

    fn go_on_with(&mut self, set: u16, number: Option<u16>) {
        self.finish();
        self.set = set;
        self.rule = number.map(|number| self.tables.rule(number));
        self.quick = self
            .rule
            .map_or(&Quick::NONE, |rule| rule.quick(Self::DIRECTION));
        self.number = number.unwrap_or(0);
    }

    /// Count what is not counted yet.
    #[inline(always)]
    pub(crate) fn finish(&mut self) {
        if self.packets > 0 {
            let traffic = traffic(self.counters, Self::DIRECTION, self.number);
            traffic.packets.add(self.packets);
            traffic.bytes.add(self.bytes);
            (self.packets, self.bytes) = (0, 0);
        }
    }
}

/// The only rule of rule set `set`, if it translates every packet that it covers: its number, and what does it. For a loop
/// over packets that all have that set and are counted at once, by [`count_all`].
#[inline(always)]
pub(crate) fn only(tables: &Tables, set: u16, direction: Direction) -> Option<(u16, Quick)> {
    let number = tables.rule_set(set)?.only()?;
    Some((number, *tables.rule(number).quick(direction)))
}

/// So many packets were translated by rule `number`.
#[inline(always)]
pub(crate) fn count_all(
    counters: &WorkerCounters,
    (direction, number): (Direction, u16),
    packets: usize,
    bytes: u64,
) {
    let traffic = traffic(counters, direction, number);
    traffic.packets.add(packets as u64); // `as`: at most a burst
    traffic.bytes.add(bytes);
}

/// The counters of a rule.
#[inline(always)]
fn traffic(counters: &WorkerCounters, direction: Direction, number: u16) -> &Traffic {
    let rule = &counters.rules[usize::from(number)];
    match direction {
        Direction::Out => &rule.out,
        Direction::In => &rule.r#in,
    }
}

/// Both nodes: every packet by the rule set that `set` finds for it.
#[inline(always)]
fn walk<F: Frame, const OUT: bool>(
    mut walk: Walk<'_, OUT>,
    set: impl Fn(&Meta) -> u16,
    frames: &mut [F],
    meta: &mut [Meta],
    leaving: &mut Leaving<Next>,
) {
    for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
        // RFC 6296 translates IPv6 alone.
        if meta.family == Family::V4 {
            continue;
        }
        let set = set(meta);
        let bytes = frame.bytes_mut();
        let len = bytes.len();
        let header = bytes.get_mut(meta.l3_offset()..);
        let header = header.and_then(<[u8]>::first_chunk_mut);
        if header.is_some_and(|header| walk.common(set, header, len).is_some()) {
            *meta.rule_mut(Walk::<OUT>::DIRECTION) = walk.number();
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
