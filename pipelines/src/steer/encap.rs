//! Tunnels to servers: the headers put before a packet, prepared for each server, and what they take from the packet.
//!
//! ```text
//! ip6ip6   IPv6                     40 bytes   RFC 2473
//! ipip     IPv4                     20 bytes   RFC 4213 (protocol 41)
//! gue      IPv6, UDP, GUE           52 bytes   draft-ietf-intarea-gue, variant 0 without options
//! ```
//!
//! A server spreads what it receives over its cores by a hash of the outer headers, so something of these is made of the
//! inner flow: the flow label (RFC 6438 3), with GUE the UDP source port too. IPv4 has neither, and most cards look at
//! addresses alone when there are no ports: there the source is one of many, if the operator gives a prefix of them.
//!
//! Nothing here chooses a server. Called by [`super::node`] for one packet ([`encapsulate`]), and on the short way
//! ([`seal`]); the rest is done when tables are built.

use std::net::{Ipv4Addr, Ipv6Addr};

use dataplane::frame::Frame;
use dataplane::reason::DropReason;
use dataplane::wire::checksum::{self, Sum};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ethernet, ipv4, udp};
use ipnet::Ipv4Net;

use super::flow;
use super::spec::Mode;
use crate::fib::{self, HOP_LIMIT, Kind, NextHop};
use crate::icmp_error::IcmpError;
use crate::lisp::flow::{label, scatter, source_port};
use crate::meta::{Entry, Family, Meta, Next};
use crate::tables::Tables;

/// Offset of the IPv6 header of an untagged frame.
const L3: usize = ethernet::HEADER_LEN;
/// Hop limit of an outer header: it is a packet of ours.
const OUTER_HOP_LIMIT: u8 = 64;
/// Protocol number of an IPv6 packet in another.
const IPV6: u8 = 41;
/// Scatters the few bits of a flow's hash that a source has room for.
const SEED: u64 = 0x8bb8_4b93_962e_acc9;
/// Bytes of a GUE header without options.
const GUE_LEN: usize = 4;
/// Variant 0, no control message, no options, an IPv6 packet, no flags.
const GUE: [u8; GUE_LEN] = [0, IPV6, 0, 0];
const UDP_OFFSET: usize = ipv6::HEADER_LEN;
const GUE_OFFSET: usize = UDP_OFFSET + udp::HEADER_LEN;
/// Most bytes that are put before a packet.
const LEN_MAX: usize = GUE_OFFSET + GUE_LEN;

/// What the headers to a server have in common, whatever the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tunnel {
    /// They, with zeros where the packet has its say.
    headers: [u8; LEN_MAX],
    outer: Outer,
}

/// Which headers they are.
#[derive(Debug, Clone, Copy)]
enum Outer {
    Ipv6,
    /// Which bits of the source are the flow's, and the sum of what is prepared.
    Ipv4 {
        spread: u32,
        sum: Sum,
    },
    /// The sum of what the UDP checksum covers and the packet does not change; `None`: the checksum is 0 (RFC 6935).
    Gue {
        sum: Option<Sum>,
    },
}

impl Tunnel {
    /// To the server with this address, if the mode is one with a tunnel.
    pub(super) fn to(server: Ipv6Addr, mode: Mode) -> Option<Self> {
        let mut headers = [0; LEN_MAX];
        let outer = match mode {
            Mode::L2 | Mode::Dnat { .. } | Mode::FullNat { .. } => return None,
            Mode::Ip6Ip6 { source } => {
                prepare_v6(&mut headers, IPV6, source, server);
                Outer::Ipv6
            }
            Mode::IpIp { source } => {
                let server = server.to_ipv4_mapped()?;
                prepare_v4(&mut headers, source, server);
                Outer::Ipv4 {
                    spread: u32::from(source.hostmask()),
                    sum: checksum::sum(&headers[..ipv4::HEADER_LEN]),
                }
            }
            Mode::Gue {
                source,
                port,
                checksum,
            } => {
                prepare_v6(&mut headers, proto::UDP, source, server);
                headers[UDP_OFFSET + 2..UDP_OFFSET + 4].copy_from_slice(&port.to_be_bytes());
                headers[GUE_OFFSET..].copy_from_slice(&GUE);
                let pseudo =
                    checksum::pseudo_header(&source.octets(), &server.octets(), 0, proto::UDP);
                Outer::Gue {
                    sum: checksum.then(|| pseudo + checksum::sum(&headers[UDP_OFFSET..])),
                }
            }
        };
        Some(Self { headers, outer })
    }

    /// Bytes put before a packet.
    fn len(&self) -> usize {
        match self.outer {
            Outer::Ipv6 => ipv6::HEADER_LEN,
            Outer::Ipv4 { .. } => ipv4::HEADER_LEN,
            Outer::Gue { .. } => LEN_MAX,
        }
    }

    fn family(&self) -> Family {
        match self.outer {
            Outer::Ipv6 | Outer::Gue { .. } => Family::V6,
            Outer::Ipv4 { .. } => Family::V4,
        }
    }

    /// Write the headers before a packet of a flow with this hash: `packet` begins with room for them. Its lengths fit 16
    /// bits.
    #[inline(always)]
    fn write(&self, packet: &mut [u8], class: u8, hash: u64) -> Option<()> {
        let whole = u16::try_from(packet.len()).ok()?;
        match self.outer {
            Outer::Ipv6 => {
                self.write_v6::<{ ipv6::HEADER_LEN }>(packet, whole, class, hash)?;
            }
            Outer::Gue { sum } => {
                let (headers, inner) = self.write_v6::<LEN_MAX>(packet, whole, class, hash)?;
                let udp = headers.get_mut(UDP_OFFSET..GUE_OFFSET)?;
                let (port, len) = (source_port(hash), whole - UDP_OFFSET as u16); // `as`: 40
                udp[..2].copy_from_slice(&port.to_be_bytes());
                udp[4..6].copy_from_slice(&len.to_be_bytes());
                if let Some(sum) = sum {
                    let sum = sum + Sum::word(port) + Sum::word(len) + Sum::word(len);
                    let checksum = match (sum + checksum::sum(inner)).checksum() {
                        0 => 0xffff, // RFC 768: 0 would mean none
                        checksum => checksum,
                    };
                    udp[6..].copy_from_slice(&checksum.to_be_bytes());
                }
            }
            Outer::Ipv4 { spread, sum } => {
                let (headers, _) = self.begin::<{ ipv4::HEADER_LEN }>(packet)?;
                let source = (scatter(hash, SEED) >> 32) as u32 & spread; // `as`: the upper half
                let source = source.to_be_bytes();
                headers[1] = class;
                headers[2..4].copy_from_slice(&whole.to_be_bytes());
                for (byte, bits) in headers[12..16].iter_mut().zip(source) {
                    *byte |= bits;
                }
                let sum =
                    sum + Sum::word(u16::from(class)) + Sum::word(whole) + checksum::sum(&source);
                headers[10..12].copy_from_slice(&sum.checksum().to_be_bytes());
            }
        }
        Some(())
    }

    /// Write what is prepared, of so many bytes: the headers, and what is behind them.
    #[inline(always)]
    fn begin<'p, const N: usize>(
        &self,
        packet: &'p mut [u8],
    ) -> Option<(&'p mut [u8; N], &'p mut [u8])> {
        let (headers, inner) = packet.split_first_chunk_mut()?;
        *headers = *self.headers.first_chunk()?;
        Some((headers, inner))
    }

    /// The same of headers that begin with IPv6's, and what that says of the packet.
    #[inline(always)]
    fn write_v6<'p, const N: usize>(
        &self,
        packet: &'p mut [u8],
        whole: u16,
        class: u8,
        hash: u64,
    ) -> Option<(&'p mut [u8; N], &'p mut [u8])> {
        let (headers, inner) = self.begin::<N>(packet)?;
        let first = 6 << 28 | u32::from(class) << 20 | label(hash);
        let payload = whole - ipv6::HEADER_LEN as u16; // `as`: 40
        headers[..4].copy_from_slice(&first.to_be_bytes());
        headers[4..6].copy_from_slice(&payload.to_be_bytes());
        Some((headers, inner))
    }
}

fn prepare_v6(headers: &mut [u8; LEN_MAX], protocol: u8, source: Ipv6Addr, server: Ipv6Addr) {
    headers[6] = protocol;
    headers[7] = OUTER_HOP_LIMIT;
    headers[8..24].copy_from_slice(&source.octets());
    headers[24..40].copy_from_slice(&server.octets());
}

/// "Don't fragment" is set, so the identification means nothing (RFC 6864 4.1).
fn prepare_v4(headers: &mut [u8; LEN_MAX], source: Ipv4Net, server: Ipv4Addr) {
    headers[0] = 0x45;
    headers[6] = 0x40;
    headers[8] = OUTER_HOP_LIMIT;
    headers[9] = IPV6;
    headers[12..16].copy_from_slice(&source.network().octets());
    headers[16..20].copy_from_slice(&server.octets());
}

/// A packet of the control thread's to a server, as packets of clients reach it, and the outer family; `None`: the mode has
/// no tunnel, or the packet does not fit one.
#[must_use]
pub fn encapsulated(mode: Mode, server: Ipv6Addr, packet: &[u8]) -> Option<(Vec<u8>, Family)> {
    let tunnel = Tunnel::to(server, mode)?;
    let [first, second, ..] = *packet else {
        return None;
    };
    let hash = flow::read(packet).map_or(0, |read| read.flow());
    let mut outer = vec![0; tunnel.len()];
    outer.extend_from_slice(packet);
    tunnel.write(&mut outer, first << 4 | second >> 4, hash)?;
    Some((outer, tunnel.family()))
}

/// Put a packet in one of ours to the server: hop limit and MTU are looked at before, so that an error quotes what the
/// client sent. `meta` names the next hop to the server.
pub(super) fn encapsulate<F: Frame>(
    tables: &Tables,
    tunnel: &Tunnel,
    hash: u64,
    frame: &mut F,
    meta: &mut Meta,
) -> Next {
    let l3 = meta.l3_offset();
    let Some(packet) = frame.bytes_mut().get_mut(l3..) else {
        return Next::Drop(DropReason::Truncated);
    };
    let inner_len = packet.len();
    let Some(header) = packet.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return Next::Drop(DropReason::Truncated);
    };
    let next_hop = tables.next_hop(meta.next_hop);
    let number = match next_hop.kind {
        Kind::Group => fib::member(tables, next_hop, (hash >> 32) as u32), // `as`: the upper half
        _ => meta.next_hop,
    };
    let next_hop = tables.next_hop(number);
    if !matches!(next_hop.kind, Kind::Neighbor | Kind::Glean) {
        return fib::exceptional(tables, frame.bytes(), meta);
    }
    let is_ours = meta.entry == Entry::Originated;
    if !is_ours && header[HOP_LIMIT] <= 1 {
        return Next::Error(DropReason::HopLimit, IcmpError::HopLimitExceeded);
    }
    let len = tunnel.len();
    let room = next_hop.mtu.saturating_sub(len as u16); // `as`: at most 52
    if inner_len > usize::from(room) {
        // RFC 2473 7.1 (b), RFC 8200 5: a host is never told less than it may always send.
        return if usize::from(room) < ipv6::MIN_MTU {
            Next::Drop(DropReason::PacketTooBig)
        } else {
            Next::Error(
                DropReason::PacketTooBig,
                IcmpError::PacketTooBig { mtu: room },
            )
        };
    }
    if !is_ours {
        header[HOP_LIMIT] -= 1;
    }
    // RFC 6040 4.1, RFC 2474: class and congestion notification are the inner ones.
    let class = header[0] << 4 | header[1] >> 4;
    if frame.prepend(len).is_err() {
        return Next::Drop(DropReason::NoHeadroom);
    }
    let packet = frame.bytes_mut().get_mut(l3..);
    if packet
        .and_then(|packet| tunnel.write(packet, class, hash))
        .is_none()
    {
        return Next::Drop(DropReason::Truncated);
    }
    *meta = Meta {
        trace: meta.trace,
        l3: meta.l3,
        next_hop: number,
        vrf: tables.interface(next_hop.interface).vrf,
        family: tunnel.family(),
        ..Meta::originate(next_hop.interface)
    };
    fib::exceptional(tables, frame.bytes(), meta)
}

/// Put a packet in an untagged frame in one of ours to the server, link header and all, if nothing is in its way: how long
/// the frame is then. Else it is as it was, and for [`encapsulate`].
#[inline(always)]
pub(crate) fn seal<F: Frame>(
    tunnel: &Tunnel,
    next_hop: &NextHop,
    hash: u64,
    frame: &mut F,
) -> Option<usize> {
    let header = *frame
        .bytes()
        .get(L3..)?
        .first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let room = tunnel.len();
    let len = frame.bytes().len() + room;
    if header[HOP_LIMIT] <= 1 || len > usize::from(next_hop.express_max_untranslated) {
        return None;
    }
    frame.prepend(room).ok()?;
    let (link, packet) = frame.bytes_mut().split_first_chunk_mut::<L3>()?;
    link.copy_from_slice(&next_hop.link[..L3]);
    *packet.get_mut(room + HOP_LIMIT)? -= 1;
    // RFC 6040 4.1, RFC 2474: class and congestion notification are the inner ones.
    tunnel.write(packet, header[0] << 4 | header[1] >> 4, hash)?;
    Some(len)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn six(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn written(mode: Mode, server: &str, class: u8, hash: u64, inner: &[u8]) -> Vec<u8> {
        let tunnel = Tunnel::to(six(server), mode).expect("a tunnel");
        let mut packet = [vec![0xee; tunnel.len()], inner.to_vec()].concat();
        tunnel.write(&mut packet, class, hash).expect("it fits");
        packet
    }

    #[test]
    fn a_link_is_no_tunnel() {
        assert!(Tunnel::to(six("2001:db8::1"), Mode::L2).is_none());
        // And IPv4 does not lead to a server without an IPv4 address.
        let source = "192.0.2.1/32".parse().expect("a prefix");
        assert!(Tunnel::to(six("2001:db8::1"), Mode::IpIp { source }).is_none());
    }

    #[test]
    fn an_ipv4_header_is_sound_and_its_source_is_the_flow_s() {
        let source: Ipv4Net = "198.18.0.0/20".parse().expect("a prefix");
        let mode = Mode::IpIp { source };
        let mut sources = HashSet::new();
        for flow in 0..1000_u64 {
            let hash = flow.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let packet = written(mode, "::ffff:192.0.2.9", 0xb9, hash, &[0x60; 41]);
            let [a, b, c, d] = *packet[12..].first_chunk().expect("4 bytes");
            let address = Ipv4Addr::new(a, b, c, d);
            assert!(source.contains(&address), "{address}");
            sources.insert(address);
            assert_eq!(checksum::sum(&packet[..20]).checksum(), 0, "{packet:x?}");
            assert_eq!(packet[..10], [0x45, 0xb9, 0, 61, 0, 0, 0x40, 0, 64, 41]);
            assert_eq!(packet[16..20], [192, 0, 2, 9]);
        }
        assert!(sources.len() > 800, "{}", sources.len());
    }

    #[test]
    fn a_gue_header_is_what_the_draft_says_and_its_checksum_covers_all() {
        let (source, server) = (six("2001:db8::1"), "2001:db8::9");
        let mode = |checksum| Mode::Gue {
            source,
            port: 6080,
            checksum,
        };
        for len in [40_usize, 41, 1280] {
            let inner: Vec<u8> = (0..len).map(|byte| (byte % 251) as u8).collect();
            let packet = written(mode(true), server, 0, 77 << 14, &inner);
            assert_eq!(packet[6..8], [17, 64]);
            assert_eq!(packet[42..44], 6080_u16.to_be_bytes());
            assert_eq!(packet[48..52], [0, 41, 0, 0]);
            assert_eq!(packet[52..], inner);
            let udp = len + 12;
            for at in [4, 44] {
                assert_eq!(packet[at..at + 2], (udp as u16).to_be_bytes());
            }
            let pseudo = checksum::pseudo_header(
                &source.octets(),
                &six(server).octets(),
                udp as u32,
                proto::UDP,
            );
            let sum = pseudo + checksum::sum(&packet[40..]);
            assert_eq!(sum.checksum(), 0, "{len}");
            // RFC 6935: without one, where the operator says so.
            let packet = written(mode(false), server, 0, 77 << 14, &inner);
            assert_eq!(packet[46..48], [0, 0]);
        }
    }

    #[test]
    fn ports_and_labels_are_the_flow_s() {
        let mode = Mode::Gue {
            source: six("2001:db8::1"),
            port: 6080,
            checksum: true,
        };
        let spread: HashSet<_> = (0..1000_u64)
            .map(|flow| {
                let hash = flow.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let packet = written(mode, "2001:db8::9", 0, hash, &[0; 40]);
                (packet[40..42].to_vec(), packet[1..4].to_vec())
            })
            .collect();
        assert!(spread.len() > 990, "{}", spread.len());
    }
}
