//! What the last packet of a flow was put behind, for as long as the next one will be: one look instead of five, where flows
//! are few enough to be remembered.
//!
//! Nothing here decides anything. A flow is remembered with what the tables said of its first packet, and that holds until
//! one of them is changed: each table counts its changes ([`Version`]), and the mapping is asked with every packet. Where
//! there are more flows than there is room for, packets go by the tables: to remember has to pay.

mod record;

#[cfg(target_arch = "x86_64")]
use dataplane::cpu::Avx512;
use dataplane::cpu::{Cpu, Job, Plain};
use dataplane::frame::{BURST_MAX, Frame};
use dataplane::port::PortId;
use dataplane::prefetch;
use dataplane::table::lpm::Stamp;
use dataplane::table::region::{self, Pair, Region};

use self::record::{Flow, OVER_V4, Tag, record_of, wrap_anew};
use super::alike::Common;
use super::encapsulated::{is_bound, parts};
use super::image::{self, Head};
use super::{L3, destination_of};
use crate::fib::NextHop;
use crate::ingress::{self, is_ordinary};
use crate::lisp::encap::{self, V4_LEN, V6_LEN};
use crate::lisp::flow;
use crate::lisp::node;
use crate::lisp::table::{LEAF, Shared};
use crate::lisp::view::{First6, Lisp};
use crate::tables::{Fib, PortTable, Tables};

/// Flows of a group move together.
const GROUPS: usize = 1 << 13;
/// Places at which a group looks for room before it takes another flow's.
const TRIES: u8 = 8;
/// Flows that are remembered, at most: two megabytes.
const BITS: u32 = 14;
/// What a packet costs whose flow is not remembered, in packets of flows that are.
const COST: i32 = 12;
/// With so many points it begins: enough to learn as many flows as there is room for.
const POINTS: i32 = COST << BITS;
/// Bursts for which nothing is remembered when all points are lost.
const PAUSE: u32 = 1 << 16;

type Place = region::Place<BITS>;

/// All that a flow's way depends on but its mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    tables: u64,
    prefixes: Stamp,
    /// [`Shared::changes`](crate::lisp::table::Shared::changes).
    locators: u64,
}

/// What a burst is looked up in.
#[derive(Clone, Copy)]
pub(super) struct At<'t> {
    pub(super) tables: &'t Tables,
    pub(super) lisp: &'t Lisp,
    pub(super) port: &'t PortTable,
    pub(super) fib: &'t Fib,
    pub(super) sources: First6,
}

/// Owned by one worker.
pub(super) struct Flows {
    flows: Region<Pair, BITS>,
    /// How far from the place that its hash says each group of flows stands: so that a flow has one place, which another has
    /// seldom.
    moves: Box<[u8; GROUPS]>,
    /// Of each port: the version of its last burst.
    versions: [Option<(Version, Tag)>; PortId::MAX],
    /// Versions so far.
    made: u32,
    /// Where each frame's flow stands, if it is remembered.
    places: [Place; BURST_MAX],
    points: i32,
    pause: u32,
    /// Whether the processor can compare a whole line at once.
    #[cfg(target_arch = "x86_64")]
    avx512: Option<Avx512>,
}

/// What is to be done with a burst.
struct Burst<'b, F> {
    at: At<'b>,
    tag: Tag,
    frames: &'b mut [F],
    leaves: &'b mut [u32],
    flows: &'b mut Flows,
}

impl<F: Frame> Job for Burst<'_, F> {
    type Output = Common;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Common {
        let at = (self.at, self.tag);
        self.flows.encapsulate_by(cpu, at, self.frames, self.leaves)
    }
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            flows: Region::reserve_huge().expect("the system gives address space"),
            moves: Box::new([0; GROUPS]),
            versions: [None; PortId::MAX],
            made: 0,
            places: [Place::default(); BURST_MAX],
            points: POINTS,
            pause: 0,
            #[cfg(target_arch = "x86_64")]
            avx512: Avx512::detect(),
        }
    }

    /// Do without what not every processor can.
    pub(super) fn be_for_any_processor(&mut self) {
        #[cfg(target_arch = "x86_64")]
        {
            self.avx512 = None;
        }
    }

    /// Whether flows are few enough to be remembered, as it seems.
    #[inline(always)]
    pub(super) fn are_few(&mut self) -> bool {
        if self.points > 0 {
            return true;
        }
        self.pause += 1;
        if self.pause > PAUSE {
            (self.pause, self.points) = (0, POINTS);
        }
        false
    }

    /// The first frames of a burst, as far as they are encapsulated and nothing about them is odd. `leaves` will be the next
    /// hop of each.
    #[inline(always)]
    pub(super) fn encapsulate<F: Frame>(
        &mut self,
        at: At<'_>,
        ingress: PortId,
        frames: &mut [F],
        leaves: &mut [u32],
    ) -> Common {
        let burst = Burst {
            at,
            tag: self.tag(&at, ingress),
            frames,
            leaves,
            flows: self,
        };
        #[cfg(target_arch = "x86_64")]
        if let Some(cpu) = burst.flows.avx512 {
            return cpu.run(burst);
        }
        burst.run(Plain)
    }

    /// The same, for any processor.
    #[inline(always)]
    fn encapsulate_by<F: Frame, C: Cpu>(
        &mut self,
        cpu: C,
        (at, tag): (At<'_>, Tag),
        frames: &mut [F],
        leaves: &mut [u32],
    ) -> Common {
        let asked = self.find(at.lisp.seed, frames);
        let mut all = Common::NONE;
        while all.frames < asked {
            let from = all.frames;
            let frames = &mut frames[from..asked];
            let way = Flow(self.flows.elements().at_place(self.places[from])).way();
            let mut number = way & !OVER_V4;
            let next_hop = at.tables.next_hop(number);
            let mut run = if way & OVER_V4 != 0 {
                self.put_behind::<F, C, true>(cpu, &at, (tag, way, next_hop), (from, frames))
            } else {
                self.put_behind::<F, C, false>(cpu, &at, (tag, way, next_hop), (from, frames))
            };
            if run.frames == 0 {
                let place = self.places[from];
                let Some((way, one)) = self.one(&at, tag, place, &mut frames[0]) else {
                    break;
                };
                (number, run) = (way, one);
            }
            leaves[from..from + run.frames].fill(number);
            all.add(run);
        }
        self.points = (self.points + all.frames as i32).min(POINTS); // `as`: at most a burst
        all
    }

    /// What these tables are now.
    #[inline(always)]
    fn tag(&mut self, at: &At<'_>, ingress: PortId) -> Tag {
        let version = Version {
            tables: at.tables.serial,
            prefixes: at.fib.v6.stamp(),
            locators: at.lisp.shared.changes(),
        };
        match self.versions[ingress.index()] {
            Some((last, tag)) if last == version => tag,
            _ => self.next_tag(version, ingress),
        }
    }

    #[cold]
    fn next_tag(&mut self, version: Version, ingress: PortId) -> Tag {
        if self.made == u32::MAX {
            // The numbers are used again, so nothing may have one.
            for place in 0..1 << BITS {
                *self.flows.at_mut(Place::of(place)) = Pair::default();
            }
            self.versions.fill(None);
            self.made = 0;
        }
        self.made += 1;
        let tag = Tag(self.made);
        self.versions[ingress.index()] = Some((version, tag));
        tag
    }

    /// First step: where the flow of each frame stands, if it is remembered; of how many.
    #[inline(always)]
    fn find<F: Frame>(&mut self, seed: u64, frames: &[F]) -> usize {
        let mut asked = 0;
        for (frame, place) in frames.iter().zip(&mut self.places) {
            let Some(head) = frame.bytes().first_chunk() else {
                break;
            };
            let hash = hash_of(seed, head);
            *place = place_of(hash, self.moves[group_of(hash)]);
            // The second line is waited for by nothing but stores.
            prefetch::read(self.flows.elements().at_place(*place));
            asked += 1;
        }
        asked
    }

    /// Second step: frames whose first is frame `from` of the burst, as far as the flow of each is remembered and goes this
    /// way: each behind what was prepared.
    #[inline(always)]
    fn put_behind<F: Frame, C: Cpu, const V4: bool>(
        &mut self,
        cpu: C,
        at: &At<'_>,
        (tag, way, next_hop): (Tag, u32, &NextHop),
        (from, frames): (usize, &mut [F]),
    ) -> Common {
        let link = next_hop.padded_link();
        let rules = at.lisp.rules;
        let mappings = at.lisp.shared.mappings();
        let others = image::others(tag.0, way);
        let (mut sent, mut sum) = (0, 0);
        for (frame, place) in frames.iter_mut().zip(&self.places[from..]) {
            let Some(head) = frame.bytes().first_chunk() else {
                break;
            };
            let pair = self.flows.at_mut(*place);
            let flow = Flow(pair);
            let len = frame.bytes().len();
            if !flow.holds(mappings) || !frame.is_contiguous() {
                break;
            }
            let is_wrapped = if flow.is_as_last(cpu, head, &others) && flow.last_len() == len {
                flow.wrap::<F, V4>(link, frame)
            } else {
                ingress::has_common_length(frame)
                    && flow.is_alike(cpu, head, &others)
                    && wrap_anew(pair, V4, rules, link, frame)
            };
            if !is_wrapped {
                break;
            }
            sum += len;
            sent += 1;
        }
        let overhead = if V4 { V4_LEN } else { V6_LEN };
        Common::of(next_hop, sent, (sum + sent * overhead) as u64) // `as`: the bytes of a burst
    }

    /// The same as [`put_behind`](Flows::put_behind) for a frame whose flow is not remembered yet, or holds no more; with its
    /// next hop.
    #[inline(never)]
    fn one<F: Frame>(
        &mut self,
        at: &At<'_>,
        tag: Tag,
        place: Place,
        frame: &mut F,
    ) -> Option<(u32, Common)> {
        if !ingress::is_common_but_for_addresses(at.port, frame) {
            return None;
        }
        let head = frame.bytes().first_chunk()?;
        let found = Flow(self.flows.elements().at_place(place));
        let others = image::others(tag.0, found.way());
        let place =
            if found.is_alike(Plain, head, &others) && found.holds(at.lisp.shared.mappings()) {
                place
            } else {
                self.points -= COST;
                let flow = learn(at, tag, head)?;
                let place = if found.tag() == tag && !found.is_alike(Plain, head, &others) {
                    self.make_room(tag, hash_of(at.lisp.seed, head))
                } else {
                    place
                };
                *self.flows.at_mut(place) = flow;
                place
            };
        let pair = self.flows.at_mut(place);
        let way = Flow(pair).way();
        let is_v4 = way & OVER_V4 != 0;
        let number = way & !OVER_V4;
        let next_hop = at.tables.next_hop(number);
        let link = next_hop.padded_link();
        let is_wrapped = wrap_anew(pair, is_v4, at.lisp.rules, link, frame);
        let len = frame.bytes().len() as u64; // `as`: a frame's length
        is_wrapped.then(|| (number, Common::of(next_hop, 1, len)))
    }

    /// Where a flow may stand whose place is another's: its group moves on, if it can to where there is room for it. The others
    /// of the group are learned once more.
    #[cold]
    fn make_room(&mut self, tag: Tag, hash: u64) -> Place {
        let by = &mut self.moves[group_of(hash)];
        let mut tries = (1..=TRIES).map(|more| by.wrapping_add(more));
        let free =
            tries.find(|by| Flow(self.flows.elements().at_place(place_of(hash, *by))).tag() != tag);
        *by = free.unwrap_or(by.wrapping_add(TRIES));
        place_of(hash, *by)
    }
}

/// What the tables say of a packet about which nothing is odd.
fn learn(at: &At<'_>, tag: Tag, head: &Head) -> Option<Pair> {
    let (header, ports) = parts(&head[L3..])?;
    let is_ordinary = is_ordinary(header[8]) && is_ordinary(header[24]);
    if !is_ordinary || !is_bound(at.sources, header, ports) {
        return None;
    }
    let lisp = at.lisp;
    let leaf = at.fib.v6.lookup(&destination_of(header));
    if leaf & LEAF == 0 {
        return None;
    }
    let hash = flow::of_parts(lisp.seed, header, ports);
    let set = lisp.shared.set_of(leaf);
    let locator = match lisp.shared.locator_of(set, hash) {
        0 => return None,
        number => lisp.shared.locator(number),
    };
    let (number, next_hop) = node::underlay(at.tables, locator, hash);
    let state = locator.state();
    let (overhead, bit) = if state.is_v4 {
        (V4_LEN, OVER_V4)
    } else {
        (V6_LEN, 0)
    };
    let most = usize::from(next_hop.express_max).min(L3 + usize::from(state.path_mtu));
    let most = most.checked_sub(overhead)?;
    let prepared = encap::prepare(lisp.rules, locator, hash);
    let mapping = (leaf, Shared::used(set));
    record_of((tag, number | bit), most, mapping, prepared, head)
}

/// The four words of both addresses, and the ports.
#[inline(always)]
fn ends_of(head: &Head) -> ([u64; 4], u32) {
    let (words, ports) = head[L3 + 8..].as_chunks();
    let addresses = [0, 1, 2, 3].map(|word: usize| u64::from_ne_bytes(words[word]));
    let ports = ports.first_chunk().expect("4 bytes are left");
    (addresses, u32::from_ne_bytes(*ports))
}

/// The hash of a flow, for its place alone.
#[inline(always)]
fn hash_of(seed: u64, head: &Head) -> u64 {
    let ([a, b, c, d], ports) = ends_of(head);
    flow::fold(
        a ^ b.rotate_left(29) ^ u64::from(ports),
        seed ^ c ^ d.rotate_left(29),
    )
}

/// The group of a flow.
#[inline(always)]
fn group_of(hash: u64) -> usize {
    (hash >> 32) as usize % GROUPS // `as`: its bits are below 32
}

/// The place of a flow whose group has moved so far.
#[inline(always)]
fn place_of(hash: u64, by: u8) -> Place {
    Place::of((hash as u32).wrapping_add(u32::from(by))) // `as`: the lower half
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow made under a version.
    fn flow_of(tag: Tag) -> Pair {
        Pair([image::others(tag.0, 0), [0; 8]])
    }

    #[test]
    fn a_version_whose_number_was_used_has_no_flows() {
        let mut flows = Flows::new();
        let version = Version {
            tables: 1,
            prefixes: dataplane::table::lpm::Lpm6::new().view().stamp(),
            locators: 0,
        };
        let port = PortId::new(3).expect("a port");
        let place = Place::of(9);
        let first = flows.next_tag(version, port);
        *flows.flows.at_mut(place) = flow_of(first);
        assert_eq!(Flow(flows.flows.elements().at_place(place)).tag(), first);
        flows.made = u32::MAX - 1;
        let last = flows.next_tag(version, port);
        assert_ne!(Flow(flows.flows.elements().at_place(place)).tag(), last);
        assert_eq!(flows.next_tag(version, port), first);
        assert_ne!(Flow(flows.flows.elements().at_place(place)).tag(), first);
    }

    #[test]
    fn a_group_moves_to_where_there_is_room() {
        let mut flows = Flows::new();
        let (old, now) = (Tag(1), Tag(2));
        let hash = 7 << 32 | 100;
        for place in 100..103 {
            *flows.flows.at_mut(Place::of(place)) = flow_of(now);
        }
        *flows.flows.at_mut(Place::of(103)) = flow_of(old);
        assert_eq!(flows.make_room(now, hash), Place::of(103));
        assert_eq!(flows.moves[group_of(hash)], 3);
        for place in 103..120 {
            *flows.flows.at_mut(Place::of(place)) = flow_of(now);
        }
        let last = Place::of(103 + u32::from(TRIES));
        assert_eq!(flows.make_room(now, hash), last);
    }

    #[test]
    fn flows_that_are_too_many_are_not_remembered_for_a_while() {
        let mut flows = Flows::new();
        assert!(flows.are_few());
        flows.points = 0;
        let paused = (0..=PAUSE).take_while(|_| !flows.are_few()).count();
        assert_eq!(paused, PAUSE as usize + 1); // `as`: a small constant
        assert!(flows.are_few());
    }
}
