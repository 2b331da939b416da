//! The loops round encapsulation and decapsulation, and what they decide about one packet.

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::checksum;
use dataplane::wire::ethernet;
use dataplane::wire::ipv6;

use super::decap::{self, Opened};
use super::encap::{self, Inner, V4_LEN, V6_LEN};
use super::flow;
use super::spec::Miss;
use super::table::{LEAF, Locator};
use super::template::IPV4_LEN;
use super::view::{Instance, Lisp, Way};
use crate::fib::{self, Kind, NextHop};
use crate::icmp_error::IcmpError;
use crate::meta::{Entry, Family, Meta, Next};
use crate::tables::{Tables, VrfId};

/// After ingress: what comes for an own RLOC.
pub(crate) struct Decap<'a>(pub &'a WorkerCounters);
/// After the lookup: what goes to a mapping.
pub(crate) struct Encap<'a>(pub &'a WorkerCounters);

impl<F: Frame> Node<F> for Decap<'_> {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "lisp-decap";
    const INDEX: usize = 7;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        let Some(lisp) = &tables.lisp else {
            return;
        };
        for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
            if let Err(reason) = decapsulate(tables, lisp, frame, meta, self.0) {
                leaving.push(index, Next::Drop(reason));
            }
        }
    }
}

impl<F: Frame> Node<F> for Encap<'_> {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "lisp-encap";
    const INDEX: usize = 8;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        let Some(lisp) = &tables.lisp else {
            return;
        };
        for (index, (frame, meta)) in frames.iter_mut().zip(meta).enumerate() {
            if meta.next_hop & LEAF == 0 {
                continue;
            }
            let next = encapsulate(tables, lisp, frame, meta, self.0);
            if next != Next::Continue {
                leaving.push(index, next);
            }
        }
    }
}

/// Open a packet if it is one for us; leave every other as it is.
///
/// # Errors
/// Why it must be dropped.
pub(crate) fn decapsulate<F: Frame>(
    tables: &Tables,
    lisp: &Lisp,
    frame: &mut F,
    meta: &mut Meta,
    counters: &WorkerCounters,
) -> Result<(), DropReason> {
    let is_v4 = meta.family == Family::V4;
    let l3 = meta.l3_offset();
    let bytes = frame.bytes_mut();
    let frame_len = bytes.len();
    let Some(packet) = bytes.get_mut(l3..) else {
        return Ok(());
    };
    // A link-local address is no RLOC; and what was opened is only opened again by whom it is sent to.
    if meta.entry != Entry::Received
        || meta.is_decapsulated
        || meta.vrf != lisp.underlay
        || !lisp.roles.decapsulates()
        || !lisp.is_for_us(packet, is_v4)
    {
        return Ok(());
    }
    let opened = decap::open(lisp.rules, packet, is_v4)?;
    let position = admit(tables, lisp, packet, is_v4, opened)?;
    strip(frame, l3, opened)?;
    if let Some(instance) = lisp.instance_at(position) {
        let family = if opened.is_v4 { Family::V4 } else { Family::V6 };
        enter(meta, instance, family);
    }
    counters.lisp_decap.packets.add(1);
    counters.lisp_decap.bytes.add(frame_len as u64); // `as`: a frame's length
    Ok(())
}

/// Whether the inner packet may go on; the position of its instance.
#[inline(always)]
pub(crate) fn admit(
    tables: &Tables,
    lisp: &Lisp,
    packet: &[u8],
    is_v4: bool,
    opened: Opened,
) -> Result<u16, DropReason> {
    let Some((position, instance)) = lisp.instance(opened.instance) else {
        return Err(DropReason::LispUnknownInstance);
    };
    let inner = packet.get(opened.offset..).unwrap_or(&[]);
    // D-26: for own EIDs only, unless we are a proxy or pass it on.
    if !(lisp.roles.petr || lisp.roles.rtr) {
        let destination = address(inner, opened.is_v4, 16, 24);
        if !destination.is_some_and(|eid| instance.is_own(&eid, opened.is_v4)) {
            return Err(DropReason::LispNotOurEid);
        }
    }
    if lisp.check_source_rloc && !is_from_its_locator(tables, lisp, instance, packet, is_v4, opened)
    {
        return Err(DropReason::LispSourceRloc);
    }
    Ok(position)
}

/// The address at its place in an IPv4 or IPv6 header, the former in the last 4 of 16 bytes.
#[inline(always)]
fn address(packet: &[u8], is_v4: bool, at_v4: usize, at_v6: usize) -> Option<[u8; 16]> {
    if is_v4 {
        let bytes: [u8; 4] = *packet.get(at_v4..)?.first_chunk()?;
        let mut whole = [0; 16];
        whole[12..].copy_from_slice(&bytes);
        Some(whole)
    } else {
        packet.get(at_v6..)?.first_chunk().copied()
    }
}

/// D-27.
#[cold]
#[inline(never)]
fn is_from_its_locator(
    tables: &Tables,
    lisp: &Lisp,
    instance: &Instance,
    packet: &[u8],
    is_v4: bool,
    opened: Opened,
) -> bool {
    let inner = packet.get(opened.offset..).unwrap_or(&[]);
    let Some(source) = address(inner, opened.is_v4, 12, 8) else {
        return false;
    };
    let fib = tables.fib(instance.vrf);
    let leaf = if opened.is_v4 {
        let [.., a, b, c, d] = source;
        fib.v4.lookup(&u32::from_be_bytes([a, b, c, d]))
    } else {
        fib.v6.lookup(&source)
    };
    lisp.is_from_its_locator(leaf, packet, is_v4)
}

/// Make the inner packet the frame's: behind a link header of zeros, which is nobody's group address.
pub(crate) fn strip<F: Frame>(frame: &mut F, l3: usize, opened: Opened) -> Result<(), DropReason> {
    let front = (l3 + opened.offset).saturating_sub(ethernet::HEADER_LEN);
    let bytes = frame.crop(front, ethernet::HEADER_LEN + opened.len);
    let bytes = bytes.map_err(|_| DropReason::Truncated)?;
    let link = bytes.get_mut(..ethernet::HEADER_LEN);
    let link = link.ok_or(DropReason::Truncated)?;
    link.fill(0);
    Ok(())
}

/// What the graph knows of a packet that was just opened.
#[inline(always)]
pub(crate) fn enter(meta: &mut Meta, instance: &Instance, family: Family) {
    meta.l3 = ethernet::HEADER_LEN as u8; // `as`: 14
    meta.vrf = instance.vrf;
    meta.interface = instance.interface;
    meta.family = family;
    meta.priority = 0;
    meta.is_decapsulated = true;
}

/// What the lookup makes of a packet whose leaf is a mapping: it goes on to be encapsulated ([`Next::Continue`] and the
/// leaf stays), goes on natively (the leaf becomes a next hop), or leaves.
pub(crate) fn judge(tables: &Tables, packet: &[u8], meta: &mut Meta) -> Next {
    let Some(lisp) = &tables.lisp else {
        return Next::Drop(DropReason::NoRoute);
    };
    let is_v4 = meta.family == Family::V4;
    if meta.entry == Entry::Scoped {
        return if is_v4 {
            // RFC 3927 7.
            Next::Drop(DropReason::LinkLocalScope)
        } else {
            Next::Error(DropReason::LinkLocalScope, IcmpError::BeyondScope)
        };
    }
    let hash = lisp.hash(packet, is_v4);
    let way = match lisp.way(meta.vrf, meta.next_hop, hash) {
        Way::Miss(native) => {
            if !is_source_ours(lisp, packet, meta) {
                return Next::Error(DropReason::LispSourceEid, IcmpError::SourcePolicy);
            }
            match lisp.miss {
                Miss::Drop | Miss::Hold => return Next::Punt(PuntReason::MapCacheMiss),
                Miss::Native if tables.next_hop(native).kind != Kind::Drop => {
                    meta.is_missed = true;
                    Way::Native(native)
                }
                Miss::Petr if let Some(petr) = lisp.petr(meta.vrf, hash) => {
                    meta.is_missed = true;
                    Way::Encap(petr)
                }
                // Without a way on, it is still asked for.
                Miss::Native | Miss::Petr => return Next::Punt(PuntReason::MapCacheMiss),
            }
        }
        way => way,
    };
    match way {
        Way::Native(next_hop) => {
            meta.next_hop = next_hop;
            Next::Continue
        }
        Way::Encap(locator) => {
            meta.is_stranger = is_stranger(lisp, packet, meta);
            fits(tables, lisp, locator, hash, packet, meta)
        }
        Way::Miss(_) => Next::Punt(PuntReason::MapCacheMiss),
        Way::Drop(reason) => refuse(reason, meta),
    }
}

/// How a packet is answered that a mapping does not let pass.
fn refuse(reason: DropReason, meta: &Meta) -> Next {
    let error = match reason {
        DropReason::LispNegative => IcmpError::NoRoute,
        DropReason::LispNoLocator => IcmpError::AddressUnreachable,
        DropReason::LispPolicy | DropReason::LispAuthentication => IcmpError::Prohibited,
        _ => return Next::Drop(reason),
    };
    if meta.entry == Entry::Received {
        Next::Error(reason, error)
    } else {
        Next::Drop(reason)
    }
}

/// Whether a packet may be encapsulated, and fits.
fn fits(
    tables: &Tables,
    lisp: &Lisp,
    locator: Locator<'_>,
    hash: u64,
    packet: &[u8],
    meta: &Meta,
) -> Next {
    if !is_source_ours(lisp, packet, meta) {
        return Next::Error(DropReason::LispSourceEid, IcmpError::SourcePolicy);
    }
    let is_v4 = meta.family == Family::V4;
    let hop_limit = packet.get(if is_v4 { 8 } else { 7 }).copied().unwrap_or(0);
    // D-18: one hop, before encapsulation.
    if meta.entry == Entry::Received && hop_limit <= 1 {
        return Next::Error(DropReason::HopLimit, IcmpError::HopLimitExceeded);
    }
    if lisp.is_too_deep(packet, is_v4) {
        return Next::Drop(DropReason::LispTooDeep);
    }
    let (_, next_hop) = underlay(tables, locator, hash);
    let room = lisp.room(locator, next_hop.mtu);
    if packet.len() <= usize::from(room) || next_hop.kind == Kind::Drop {
        return Next::Continue;
    }
    // F-08: an IPv6 host is never told less than it may always send.
    if !is_v4 && usize::from(room) < ipv6::MIN_MTU {
        return Next::Drop(DropReason::LispPathTooSmall);
    }
    // F-04: DF is not set.
    if is_v4 && packet.get(6).is_some_and(|flags| flags & 0x40 == 0) {
        return Next::Cut(room.min(room_of_pieces(tables, lisp, packet, meta)));
    }
    if meta.entry != Entry::Received {
        return Next::Drop(DropReason::PacketTooBig);
    }
    // F-03.
    Next::Error(
        DropReason::PacketTooBig,
        IcmpError::PacketTooBig { mtu: room },
    )
}

/// What fits where the pieces of an IPv4 packet go: they have no ports, so it may be to another locator than the whole.
#[cold]
fn room_of_pieces(tables: &Tables, lisp: &Lisp, packet: &[u8], meta: &Meta) -> u16 {
    let hash = flow::of_v4_pieces(lisp.seed, packet);
    let locator = locator_of(lisp, meta, hash);
    locator.map_or(u16::MAX, |locator| {
        lisp.room(locator, underlay(tables, locator, hash).1.mtu)
    })
}

/// The locator of a packet that was [judged](judge) to have one.
#[inline(always)]
fn locator_of<'t>(lisp: &'t Lisp, meta: &Meta, hash: u64) -> Option<Locator<'t>> {
    match lisp.way(meta.vrf, meta.next_hop, hash) {
        Way::Encap(locator) => Some(locator),
        // By way of the proxy: or the mapping has changed since the lookup.
        _ => lisp.petr(meta.vrf, hash).filter(|_| meta.is_missed),
    }
}

/// The leaf of a packet that is not encapsulated: of a mapping, the next hop its destination has without LISP.
pub(crate) fn native(tables: &Tables, vrf: VrfId, leaf: u32) -> u32 {
    let Some(lisp) = tables.lisp.as_ref().filter(|_| leaf & LEAF != 0) else {
        return leaf;
    };
    match lisp.way(vrf, leaf, 0) {
        Way::Native(next_hop) | Way::Miss(next_hop) => next_hop,
        Way::Encap(_) | Way::Drop(_) => 0,
    }
}

/// Whether the source is an own EID, or need not be: an ITR encapsulates for its own site alone. What came encapsulated for
/// a host that has moved is sent after it.
pub(crate) fn is_source_ours(lisp: &Lisp, packet: &[u8], meta: &Meta) -> bool {
    if lisp.roles.pitr || meta.entry == Entry::Originated {
        return true;
    }
    let is_v4 = meta.family == Family::V4;
    let instance = lisp.instance_of(meta.vrf);
    if meta.is_decapsulated {
        let destination = address(packet, is_v4, 16, 24);
        let may_roam = |eid| instance.is_some_and(|instance| instance.is_roaming(&eid, is_v4));
        return lisp.roles.rtr || destination.is_some_and(may_roam);
    }
    let source = address(packet, is_v4, 12, 8);
    let own = |eid| instance.is_some_and(|instance| instance.is_own(&eid, is_v4));
    lisp.roles.itr && source.is_some_and(own)
}

/// Whether a host sent this packet that may be at any site, and is not known to be here.
#[inline]
pub(crate) fn is_stranger(lisp: &Lisp, packet: &[u8], meta: &Meta) -> bool {
    let is_v4 = meta.family == Family::V4;
    let may_roam = |instance: &Instance| {
        let source = address(packet, is_v4, 12, 8).filter(|_| instance.has_dynamic);
        source.is_some_and(|source| instance.is_roaming(&source, is_v4))
    };
    meta.entry == Entry::Received
        && !meta.is_decapsulated
        && lisp.instance_of(meta.vrf).is_some_and(may_roam)
}

/// The underlay's next hop to a locator: of several with the same cost, one by the flow.
#[inline(always)]
pub(crate) fn underlay<'t>(
    tables: &'t Tables,
    locator: Locator<'_>,
    hash: u64,
) -> (u32, &'t NextHop) {
    let number = locator.state().next_hop;
    let next_hop = tables.next_hop(number);
    if next_hop.kind == Kind::Group {
        let number = fib::member(tables, next_hop, flow::member(flow::source_port(hash)));
        return (number, tables.next_hop(number));
    }
    (number, next_hop)
}

/// What [`underlay`] chose by, of a packet that we encapsulated: whoever resolves a router that does not answer yet sees
/// the packet alone, and must come to the same router.
#[cold]
pub(crate) fn member_of(tables: &Tables, family: Family, packet: &[u8]) -> Option<u32> {
    let lisp = tables.lisp.as_ref()?;
    lisp.outer_port(packet, family == Family::V4)
        .map(flow::member)
}

/// Put a packet that [fits](judge) behind the outer header of its locator, and give it the underlay's next hop. What
/// leaves is one of our own packets: nobody but us is its source.
pub(crate) fn encapsulate<F: Frame>(
    tables: &Tables,
    lisp: &Lisp,
    frame: &mut F,
    meta: &mut Meta,
    counters: &WorkerCounters,
) -> Next {
    let is_v4 = meta.family == Family::V4;
    let l3 = meta.l3_offset();
    let packet = frame.bytes().get(l3..).unwrap_or(&[]);
    let hash = lisp.hash(packet, is_v4);
    let Some(locator) = locator_of(lisp, meta, hash) else {
        return Next::Drop(DropReason::LispNoLocator);
    };
    let hops = u8::from(meta.entry == Entry::Received);
    let Some(inner) = frame
        .bytes_mut()
        .get_mut(l3..)
        .and_then(|packet| count_hop(packet, is_v4, hops, hash))
    else {
        return Next::Drop(DropReason::Truncated);
    };
    if put(lisp, locator, &inner, frame, l3).is_err() {
        return Next::Drop(DropReason::NoHeadroom);
    }
    let (number, next_hop) = underlay(tables, locator, hash);
    *meta = Meta {
        trace: meta.trace,
        l3: meta.l3,
        next_hop: number,
        vrf: lisp.underlay,
        family: if locator.state().is_v4 {
            Family::V4
        } else {
            Family::V6
        },
        ..Meta::originate(next_hop.interface)
    };
    match next_hop.kind {
        Kind::Neighbor => {
            counters.lisp_encap.packets.add(1);
            counters.lisp_encap.bytes.add(frame.bytes().len() as u64); // `as`: a frame's length
            Next::Continue
        }
        Kind::Glean if !next_hop.down => Next::Punt(PuntReason::NeighborMiss),
        _ => Next::Drop(next_hop.reason),
    }
}

/// Count the inner packet's hop; what the outer header takes from it.
#[inline(always)]
pub(crate) fn count_hop(packet: &mut [u8], is_v4: bool, hops: u8, hash: u64) -> Option<Inner> {
    let len = packet.len();
    if is_v4 {
        let header = packet.first_chunk_mut::<IPV4_LEN>()?;
        let old = [header[8], header[9]];
        header[8] = header[8].wrapping_sub(hops);
        let before = u16::from_be_bytes([header[10], header[11]]);
        let after = checksum::update(before, &old, &[header[8], header[9]]);
        header[10..12].copy_from_slice(&after.to_be_bytes());
        Some(Inner {
            len,
            class: header[1],
            hop_limit: header[8],
            hash,
            is_v4,
        })
    } else {
        let header = packet.first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
        let first = u32::from_be_bytes(*header.first_chunk().expect("4 of 40 bytes"));
        let hop_limit = header[7].wrapping_sub(hops);
        header[7] = hop_limit;
        Some(Inner {
            len,
            class: (first >> 20) as u8, // `as`: 8 of its bits
            hop_limit,
            hash,
            is_v4,
        })
    }
}

/// Grow the frame by the outer headers, between link header and inner packet, and write them. The link header is for
/// whoever sends the frame to write.
#[inline(always)]
pub(crate) fn put<F: Frame>(
    lisp: &Lisp,
    locator: Locator<'_>,
    inner: &Inner,
    frame: &mut F,
    l3: usize,
) -> Result<(), ()> {
    if locator.state().is_v4 {
        let bytes = frame.prepend(V4_LEN).map_err(|_| ())?;
        let headers = bytes.get_mut(l3..).and_then(<[u8]>::first_chunk_mut);
        encap::write_v4(lisp.rules, locator, inner, headers.ok_or(())?);
    } else {
        let bytes = frame.prepend(V6_LEN).map_err(|_| ())?;
        let headers = bytes.get_mut(l3..).and_then(<[u8]>::first_chunk_mut);
        encap::write_v6(lisp.rules, locator, inner, headers.ok_or(())?);
    }
    if lisp.udp_checksum {
        sum_up(lisp, locator, inner, frame, l3);
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn sum_up<F: Frame>(lisp: &Lisp, locator: Locator<'_>, inner: &Inner, frame: &mut F, l3: usize) {
    let len = if locator.state().is_v4 {
        V4_LEN
    } else {
        V6_LEN
    };
    let Some((headers, packet)) = frame
        .bytes_mut()
        .get_mut(l3..)
        .and_then(|packet| packet.split_at_mut_checked(len))
    else {
        return;
    };
    let checksum = encap::udp_checksum(lisp.rules, locator, inner, packet);
    // The checksum ends 8 bytes before the inner packet.
    if let Some(field) = headers.get_mut(len - 10..len - 8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}
