//! What the last packet of a flow was put behind, for as long as the next one will be: one look instead of five, where flows
//! are few enough to be remembered.
//!
//! Nothing here decides anything. A flow is remembered with what the tables said of its first packet, and that holds until
//! one of them is changed: each table counts its changes ([`Version`]), and the mapping is asked with every packet. Where
//! there are more flows than there is room for, packets go by the tables: to remember has to pay.

use dataplane::frame::{BURST_MAX, Frame};
use dataplane::port::PortId;
use dataplane::prefetch;
use dataplane::table::lpm::Stamp;
use dataplane::table::region::{Pair, Region};
use dataplane::wire::ipv6;

use super::alike::Common;
use super::encapsulated::{is_bound, parts};
use super::{L3, destination_of};
use crate::fib::NextHop;
use crate::ingress::{self, is_ordinary};
use crate::lisp::encap::{self, Prepared, V4_LEN, V6_LEN};
use crate::lisp::flow;
use crate::lisp::node;
use crate::lisp::table::{LEAF, Shared};
use crate::lisp::view::{First6, Lisp, Rules};
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

/// Link header, IPv6 header and ports.
type Head = [u8; L3 + ipv6::HEADER_LEN + 4];

/// What tells a flow apart, and when it was.
#[derive(Clone, Copy)]
struct Key {
    /// Both, as they stand in a packet.
    addresses: [u64; 4],
    ports: u32,
    /// The version's, with the protocol.
    tag: u32,
}

/// What stands before the packets of a flow, and until when. Two lines:
///
/// ```text
///  0 to 3  addresses                    5  way 32 | longest frame 32     7  what the mapping was
///  4       ports 32 | tag 32            6  the mapping
///  8 to 15 the headers: see Prepared
/// ```
#[derive(Clone, Copy)]
struct Flow<'f>(&'f Pair);

/// The bit of a way that says: the outer header is IPv4.
const OVER_V4: u32 = 1 << 31;

/// All that a flow's way depends on but its mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    tables: u64,
    prefixes: Stamp,
    /// [`Shared::changes`](crate::lisp::table::Shared::changes).
    locators: u64,
}

/// The number of a version, in the upper 24 bits; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag(u32);

impl Tag {
    const LAST: u32 = u32::MAX >> 8;

    fn of(number: u32) -> Self {
        Self(number << 8)
    }

    /// With a protocol.
    #[inline(always)]
    fn with(self, protocol: u8) -> u32 {
        self.0 | u32::from(protocol)
    }

    /// Whether a flow was made under this version.
    fn has(self, flow: Flow<'_>) -> bool {
        flow.key().tag >> 8 == self.0 >> 8
    }
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
    places: [u32; BURST_MAX],
    points: i32,
    pause: u32,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            flows: Region::reserve_huge().expect("the system gives address space"),
            moves: Box::new([0; GROUPS]),
            versions: [None; PortId::MAX],
            made: 0,
            places: [0; BURST_MAX],
            points: POINTS,
            pause: 0,
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
        let tag = self.tag(&at, ingress);
        let asked = self.find(at.lisp.seed, frames);
        let mut all = Common::NONE;
        while all.frames < asked {
            let from = all.frames;
            let frames = &mut frames[from..asked];
            let way = Flow(self.flows.at(self.places[from])).way();
            let mut number = way & !OVER_V4;
            let next_hop = at.tables.next_hop(number);
            let mut run = if way & OVER_V4 != 0 {
                self.put_behind::<F, true>(&at, (way, next_hop), tag, (from, frames))
            } else {
                self.put_behind::<F, false>(&at, (way, next_hop), tag, (from, frames))
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
        if self.made == Tag::LAST {
            // The numbers are used again, so nothing may have one.
            for place in 0..1 << BITS {
                *self.flows.at_mut(place) = Pair::default();
            }
            self.versions.fill(None);
            self.made = 0;
        }
        self.made += 1;
        let tag = Tag::of(self.made);
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
            prefetch::read(self.flows.at(*place));
            asked += 1;
        }
        asked
    }

    /// Second step: frames whose first is frame `from` of the burst, as far as the flow of each is remembered and goes this
    /// way: each behind what was prepared.
    #[inline(always)]
    fn put_behind<F: Frame, const V4: bool>(
        &self,
        at: &At<'_>,
        (way, next_hop): (u32, &NextHop),
        tag: Tag,
        (from, frames): (usize, &mut [F]),
    ) -> Common {
        let link: [u8; L3] = *next_hop.plain_link();
        let rules = at.lisp.rules;
        let (mut sent, mut sum) = (0, 0);
        for (frame, place) in frames.iter_mut().zip(&self.places[from..]) {
            let Some(head) = frame.bytes().first_chunk() else {
                break;
            };
            let flow = Flow(self.flows.at(*place));
            if !ingress::is_common_but_for_addresses(at.port, frame)
                || !flow.is_of(at, &key_of(tag, head))
                || flow.way() != way
            {
                break;
            }
            let first = first_word(head);
            let Some(len) = flow.wrap::<F, V4>(rules, &link, first, frame) else {
                break;
            };
            sum += len as u64; // `as`: a frame's length
            sent += 1;
        }
        Common::of(next_hop, sent, sum)
    }

    /// The same as [`put_behind`](Flows::put_behind) for a frame whose flow is not remembered yet, or holds no more; with its
    /// next hop.
    #[inline(never)]
    fn one<F: Frame>(
        &mut self,
        at: &At<'_>,
        tag: Tag,
        place: u32,
        frame: &mut F,
    ) -> Option<(u32, Common)> {
        if !ingress::is_common_but_for_addresses(at.port, frame) {
            return None;
        }
        let head = frame.bytes().first_chunk()?;
        let key = key_of(tag, head);
        let found = Flow(self.flows.at(place));
        let place = if found.is_of(at, &key) {
            place
        } else {
            self.points -= COST;
            let flow = learn(at, &key, head)?;
            let place = if !found.has(&key) && tag.has(found) {
                self.make_room(tag, hash_of(at.lisp.seed, head))
            } else {
                place
            };
            *self.flows.at_mut(place) = flow;
            place
        };
        let flow = Flow(self.flows.at(place));
        let way = flow.way();
        let number = way & !OVER_V4;
        let next_hop = at.tables.next_hop(number);
        let link = next_hop.plain_link();
        let first = first_word(head);
        let rules = at.lisp.rules;
        let len = if way & OVER_V4 != 0 {
            flow.wrap::<F, true>(rules, link, first, frame)
        } else {
            flow.wrap::<F, false>(rules, link, first, frame)
        };
        Some((number, Common::of(next_hop, 1, len? as u64))) // `as`: a frame's length
    }

    /// Where a flow may stand whose place is another's: its group moves on, if it can to where there is room for it. The others
    /// of the group are learned once more.
    #[cold]
    fn make_room(&mut self, tag: Tag, hash: u64) -> u32 {
        let by = &mut self.moves[group_of(hash)];
        let mut tries = (1..=TRIES).map(|more| by.wrapping_add(more));
        let free = tries.find(|by| !tag.has(Flow(self.flows.at(place_of(hash, *by)))));
        *by = free.unwrap_or(by.wrapping_add(TRIES));
        place_of(hash, *by)
    }
}

impl Flow<'_> {
    #[inline(always)]
    fn key(self) -> Key {
        let [[addresses @ .., last, _, _, _], _] = self.0.0;
        Key {
            addresses,
            ports: last as u32,       // `as`: the lower half
            tag: (last >> 32) as u32, // `as`: the upper half
        }
    }

    /// Number of the underlay's next hop, with [`OVER_V4`].
    #[inline(always)]
    fn way(self) -> u32 {
        self.0.0[0][5] as u32 // `as`: the lower half
    }

    /// Longest frame that fits to the locator.
    #[inline(always)]
    fn most(self) -> usize {
        (self.0.0[0][5] >> 32) as usize // `as`: u32 to usize
    }

    /// Whether this is the flow, what is known of it still holds, and its mapping is marked as used.
    #[inline(always)]
    fn is_of(self, at: &At<'_>, key: &Key) -> bool {
        let [.., leaf, used] = self.0.0[0];
        // `as`: 32 bits each.
        self.has(key) && at.lisp.shared.is_still(leaf as u32, used as u32)
    }

    /// Whether this is its key: word by word, because of arrays the compiler makes copies to compare.
    #[inline(always)]
    fn has(self, key: &Key) -> bool {
        let own = self.key();
        let [[a, b, c, d], [e, f, g, h]] = [own.addresses, key.addresses];
        (a, b, c, d) == (e, f, g, h) && (own.ports, own.tag) == (key.ports, key.tag)
    }

    /// Put a packet of this flow, that begins with these eight bytes, behind what was prepared: the frame is then finished, and
    /// this long. Else it is as it was.
    #[inline(always)]
    fn wrap<F: Frame, const V4: bool>(
        self,
        rules: Rules,
        link: &[u8; L3],
        first: u64,
        frame: &mut F,
    ) -> Option<usize> {
        // The hop limit is the last of them.
        if frame.bytes().len() > self.most() || first >> 57 == 0 {
            return None;
        }
        let first = first - (1 << 56);
        let prepared = Prepared(&self.0.0[1]);
        let bytes = frame.prepend(if V4 { V4_LEN } else { V6_LEN }).ok()?;
        let len = bytes.len();
        let packet_len = len.wrapping_sub(L3 + if V4 { V4_LEN } else { V6_LEN });
        let (front, start) = if V4 {
            let all: &mut [u8; L3 + V4_LEN + 8] = bytes.first_chunk_mut()?;
            let (front, rest) = all.split_first_chunk_mut::<L3>()?;
            let (headers, start) = rest.split_first_chunk_mut()?;
            prepared.write_v4(rules, first, packet_len, headers);
            (front, start)
        } else {
            let all: &mut [u8; L3 + V6_LEN + 8] = bytes.first_chunk_mut()?;
            let (front, rest) = all.split_first_chunk_mut::<L3>()?;
            let (headers, start) = rest.split_first_chunk_mut()?;
            prepared.write_v6(rules, first, packet_len, headers);
            (front, start)
        };
        start.copy_from_slice(&first.to_le_bytes());
        *front = *link;
        Some(len)
    }
}

/// The first eight bytes of the packet, read in little-endian order.
#[inline(always)]
fn first_word(head: &Head) -> u64 {
    u64::from_le_bytes(*head[L3..].first_chunk().expect("8 of 40 bytes"))
}

/// What the tables say of a packet about which nothing is odd.
fn learn(at: &At<'_>, key: &Key, head: &Head) -> Option<Pair> {
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
    let [a, b, c, d] = key.addresses;
    let halves = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let course = [
        halves(key.ports, key.tag),
        halves(number | bit, u32::try_from(most).ok()?),
        u64::from(leaf),
        u64::from(Shared::used(set)),
    ];
    let [e, f, g, h] = course;
    Some(Pair([
        [a, b, c, d, e, f, g, h],
        encap::prepare(lisp.rules, locator, hash),
    ]))
}

/// The key of a packet's flow under these tables.
#[inline(always)]
fn key_of(tag: Tag, head: &Head) -> Key {
    let (addresses, ports) = ends_of(head);
    Key {
        addresses,
        ports,
        tag: tag.with(head[L3 + 6]),
    }
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
fn place_of(hash: u64, by: u8) -> u32 {
    (hash as u32).wrapping_add(u32::from(by)) // `as`: the lower half
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow made under a version.
    fn flow_of(tag: Tag) -> Pair {
        let mut flow = Pair::default();
        flow.0[0][4] = u64::from(tag.with(17)) << 32;
        flow
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
        let first = flows.next_tag(version, port);
        *flows.flows.at_mut(9) = flow_of(first);
        assert!(first.has(Flow(flows.flows.at(9))));
        flows.made = Tag::LAST - 1;
        let last = flows.next_tag(version, port);
        assert!(!last.has(Flow(flows.flows.at(9))));
        assert_eq!(flows.next_tag(version, port), first);
        assert!(!first.has(Flow(flows.flows.at(9))));
    }

    #[test]
    fn a_flow_has_every_part_of_its_key() {
        let words = [1, 2, 3, 4, 5 | 6 << 32];
        let [a, b, c, d, last] = words;
        let flow = Pair([[a, b, c, d, last, 0, 0, 0], [0; 8]]);
        let key = Key {
            addresses: [a, b, c, d],
            ports: 5,
            tag: 6,
        };
        assert!(Flow(&flow).has(&key));
        for word in 0..words.len() {
            for bit in [0, 31, 32, 63] {
                let mut other = flow;
                other.0[0][word] ^= 1 << bit;
                assert!(!Flow(&other).has(&key), "{word}, {bit}");
            }
        }
    }

    #[test]
    fn a_group_moves_to_where_there_is_room() {
        let mut flows = Flows::new();
        let (old, now) = (Tag::of(1), Tag::of(2));
        let hash = 7 << 32 | 100;
        for place in 100..103 {
            *flows.flows.at_mut(place) = flow_of(now);
        }
        *flows.flows.at_mut(103) = flow_of(old);
        assert_eq!(flows.make_room(now, hash), 103);
        assert_eq!(flows.moves[group_of(hash)], 3);
        for place in 103..120 {
            *flows.flows.at_mut(place) = flow_of(now);
        }
        assert_eq!(flows.make_room(now, hash), 103 + u32::from(TRIES));
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
