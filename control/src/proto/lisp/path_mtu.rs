//! What ICMP errors of the underlay say of the paths to locators: the stateful method of RFC 9300 7.2, with RFC 8201 and
//! RFC 1191 on top.
//!
//! An error counts only when what it quotes can be a packet of ours (RFC 6936 4 (10)): from an own RLOC, UDP from a port we
//! use to the LISP port of a router that some mapping names, with an inner packet behind it. What is believed makes a path
//! smaller, never larger; after a while it is forgotten, and the next packet that is too large asks anew. A path so small that
//! it cannot carry what every IPv6 host may send is still noted: the locator is then not used, which the map-cache shows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use dataplane::wire::lisp::DATA_PORT;
use dataplane::wire::{FromBytes, icmpv4, icmpv6, ipv4, ipv6, udp};

/// Most paths that are remembered; more are not believed.
const PATHS_MAX: usize = 4096;
/// Less than this no link of the family has (RFC 8200 5, RFC 791 3.2).
const LEAST_V6: u16 = 1280;
const LEAST_V4: u16 = 68;
/// The first source port we use (D-22).
const FIRST_PORT: u16 = 49152;

/// Why an error was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disbelief {
    /// It is not an error that tells of a path, or it is cut short.
    NotPathMtu,
    /// What it quotes is no packet of ours.
    NotOurs,
    /// It quotes a packet to a router that no mapping names.
    UnknownRloc,
    /// The size is none a link can have, or none that was too small for the packet quoted.
    Implausible,
    /// Enough paths are remembered.
    Full,
}

/// The paths that are smaller than they seem.
#[derive(Debug)]
pub struct PathMtus {
    age: Duration,
    paths: BTreeMap<IpAddr, Path>,
}

#[derive(Debug, Clone, Copy)]
struct Path {
    mtu: u16,
    until: Instant,
}

impl PathMtus {
    /// Nothing is known; what is learned holds for `age`.
    #[must_use]
    pub fn new(age: Duration) -> Self {
        Self {
            age,
            paths: BTreeMap::new(),
        }
    }

    /// What is learned from now on holds for `age`.
    pub fn set_age(&mut self, age: Duration) {
        self.age = age;
    }

    /// Read an ICMP error, from its IP header on. `is_own`: whether an address is an own RLOC; `is_known`: whether one is
    /// a router of some mapping. On success the router, and the path's MTU if it is another than before.
    ///
    /// # Errors
    /// Why it was not believed.
    pub fn handle_input(
        &mut self,
        now: Instant,
        packet: &[u8],
        is_own: impl Fn(IpAddr) -> bool,
        is_known: impl Fn(IpAddr) -> bool,
    ) -> Result<(IpAddr, Option<u16>), Disbelief> {
        let (mtu, quote) = parse(packet).ok_or(Disbelief::NotPathMtu)?;
        let Quote {
            source,
            destination,
            len,
        } = quoted(quote).ok_or(Disbelief::NotOurs)?;
        if !is_own(source) {
            return Err(Disbelief::NotOurs);
        }
        if !is_known(destination) {
            return Err(Disbelief::UnknownRloc);
        }
        let least = if destination.is_ipv4() {
            LEAST_V4
        } else {
            LEAST_V6
        };
        if mtu < least || mtu >= len {
            return Err(Disbelief::Implausible);
        }
        let until = now + self.age;
        if let Some(path) = self.paths.get_mut(&destination) {
            let is_news = mtu < path.mtu;
            path.mtu = path.mtu.min(mtu);
            path.until = until;
            return Ok((destination, is_news.then_some(mtu)));
        }
        if self.paths.len() >= PATHS_MAX {
            return Err(Disbelief::Full);
        }
        self.paths.insert(destination, Path { mtu, until });
        Ok((destination, Some(mtu)))
    }

    /// Routers whose path is to be tried at its full size again.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<IpAddr> {
        let due = self.paths.iter().filter(|(_, path)| path.until <= now);
        let due: Vec<IpAddr> = due.map(|(rloc, _)| *rloc).collect();
        for rloc in &due {
            self.paths.remove(rloc);
        }
        due
    }

    /// When [`PathMtus::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.paths.values().map(|path| path.until).min()
    }

    /// Forget everything; the routers of which something was known.
    pub fn clear(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.paths).into_keys().collect()
    }

    /// What is known of the path to a router, bytes.
    #[must_use]
    pub fn mtu(&self, rloc: IpAddr) -> Option<u16> {
        self.paths.get(&rloc).map(|path| path.mtu)
    }
}

/// What an error quotes.
pub(super) struct Quote {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Bytes of the packet that was too large.
    len: u16,
}

/// The MTU an error tells of, and its quote. The packet path has found the checksum right.
fn parse(packet: &[u8]) -> Option<(u16, &[u8])> {
    match packet.first()? >> 4 {
        6 => {
            let (header, message) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
            let (head, quote) = message.split_first_chunk::<{ icmpv6::ERROR_HEADER_LEN }>()?;
            if header[6] != ipv6::proto::ICMPV6 || head[0] != icmpv6::types::PACKET_TOO_BIG {
                return None;
            }
            let mtu = u32::from_be_bytes(*head.last_chunk()?);
            Some((u16::try_from(mtu).ok()?, quote))
        }
        4 => {
            let packet = ipv4::parse(packet).ok()?;
            let (head, quote) = packet
                .payload
                .split_first_chunk::<{ icmpv4::ERROR_HEADER_LEN }>()?;
            let is_too_large = head[..2]
                == [
                    icmpv4::types::DESTINATION_UNREACHABLE,
                    icmpv4::codes::UNREACHABLE_FRAGMENTATION_NEEDED,
                ];
            let mtu = u16::from_be_bytes([head[6], head[7]]);
            is_too_large.then_some((mtu, quote))
        }
        _ => None,
    }
}

/// The packet in an error, if it can be one that we encapsulated.
pub(super) fn quoted(quote: &[u8]) -> Option<Quote> {
    let (found, datagram) = match quote.first()? >> 4 {
        6 => {
            let (header, datagram) = quote.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
            if header[6] != ipv6::proto::UDP {
                return None;
            }
            let address = |at: usize| {
                let octets: &[u8; 16] = header.get(at..)?.first_chunk()?;
                Some(IpAddr::from(Ipv6Addr::from(*octets)))
            };
            let payload_len = u16::from_be_bytes([header[4], header[5]]);
            let found = Quote {
                source: address(8)?,
                destination: address(24)?,
                len: payload_len.checked_add(40)?, // ipv6::HEADER_LEN
            };
            (found, datagram)
        }
        4 => {
            // Its checksum may have been changed on the way, and its end is cut off: no `ipv4::parse`.
            let (header, datagram) = ipv4::Header::ref_from_prefix(quote).ok()?;
            if header.version_length != 0x45 || header.protocol != ipv4::proto::UDP {
                return None;
            }
            let found = Quote {
                source: Ipv4Addr::from(header.source).into(),
                destination: Ipv4Addr::from(header.destination).into(),
                len: header.total_length.get(),
            };
            (found, datagram)
        }
        _ => return None,
    };
    let (udp, rest) = udp::Header::ref_from_prefix(datagram).ok()?;
    let is_ours = udp.destination_port.get() == DATA_PORT && udp.source_port.get() >= FIRST_PORT;
    // RFC 792 quotes 8 bytes behind the header at least; of more, the inner packet must be one.
    let inner = rest
        .get(dataplane::wire::lisp::HEADER_LEN)
        .map(|first| first >> 4);
    (is_ours && inner.is_none_or(|version| version == 4 || version == 6)).then_some(found)
}

#[cfg(test)]
mod tests {
    use dataplane::testing::builder::{Packet, Packet4};
    use dataplane::wire::ethernet::Mac;

    use super::*;

    const OWN6: &str = "2001:db8:f::1";
    const RLOC6: &str = "2001:db8:f::9";
    const OWN4: &str = "192.0.2.1";
    const RLOC4: &str = "192.0.2.9";

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    fn anywhere4() -> Packet4 {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
        Packet4::ethernet(mac, mac)
    }

    /// An encapsulated packet of 1,516 bytes.
    fn sent6(source: &str, port: u16, to_port: u16, first: u8) -> Vec<u8> {
        let mut data = vec![0; 1516 - 48];
        data[8] = first;
        Packet::anywhere()
            .ipv6(v6(source), v6(RLOC6))
            .udp(port, to_port, &data)
            .build_ipv6()
    }

    fn too_big(mtu: u32, quote: &[u8]) -> Vec<u8> {
        Packet::anywhere()
            .ipv6(v6("2001:db8:c::1"), v6(OWN6))
            .icmpv6_error(2, 0, mtu, quote)
            .build_ipv6()
    }

    fn fragmentation_needed(mtu: u16) -> Vec<u8> {
        let mut data = vec![0; 1500 - 28];
        data[8] = 0x60;
        let quote = anywhere4()
            .ipv4(v4(OWN4), v4(RLOC4))
            .udp(50_000, 4341, &data)
            .build_ipv4();
        anywhere4()
            .ipv4(v4("198.51.100.1"), v4(OWN4))
            .icmp_error(3, 4, u32::from(mtu), &quote[..28])
            .build_ipv4()
    }

    fn learn(
        paths: &mut PathMtus,
        now: Instant,
        packet: &[u8],
    ) -> Result<(IpAddr, Option<u16>), Disbelief> {
        let own = [IpAddr::V6(v6(OWN6)), v4(OWN4).into()];
        let known = [IpAddr::V6(v6(RLOC6)), v4(RLOC4).into()];
        paths.handle_input(
            now,
            packet,
            |address| own.contains(&address),
            |address| known.contains(&address),
        )
    }

    /// F-06: both families; F-07: what is learned ages.
    #[test]
    fn a_path_is_learned_and_forgotten() {
        let start = Instant::now();
        let mut paths = PathMtus::new(Duration::from_secs(600));
        let sent = sent6(OWN6, 50_000, 4341, 0x60);
        assert_eq!(
            learn(&mut paths, start, &too_big(1400, &sent)),
            Ok((v6(RLOC6).into(), Some(1400)))
        );
        assert_eq!(
            learn(&mut paths, start, &fragmentation_needed(1300)),
            Ok((v4(RLOC4).into(), Some(1300)))
        );
        assert_eq!(paths.mtu(v6(RLOC6).into()), Some(1400));
        let later = start + Duration::from_secs(599);
        assert_eq!(paths.handle_timeout(later), [] as [IpAddr; 0]);
        assert_eq!(paths.poll_timeout(), Some(start + Duration::from_secs(600)));
        // Heard again: it holds for longer, and is no news.
        assert_eq!(
            learn(&mut paths, later, &too_big(1400, &sent)),
            Ok((v6(RLOC6).into(), None))
        );
        let due = start + Duration::from_secs(600);
        assert_eq!(paths.handle_timeout(due), [IpAddr::from(v4(RLOC4))]);
        assert_eq!(
            paths.handle_timeout(due + Duration::from_secs(600)),
            [IpAddr::from(v6(RLOC6))]
        );
    }

    #[test]
    fn a_path_only_gets_smaller() {
        let now = Instant::now();
        let mut paths = PathMtus::new(Duration::from_secs(600));
        let sent = sent6(OWN6, 50_000, 4341, 0x45);
        assert_eq!(
            learn(&mut paths, now, &too_big(1400, &sent)).map(|(_, mtu)| mtu),
            Ok(Some(1400))
        );
        assert_eq!(
            learn(&mut paths, now, &too_big(1450, &sent)).map(|(_, mtu)| mtu),
            Ok(None)
        );
        assert_eq!(
            learn(&mut paths, now, &too_big(1350, &sent)).map(|(_, mtu)| mtu),
            Ok(Some(1350))
        );
        assert_eq!(paths.mtu(v6(RLOC6).into()), Some(1350));
    }

    /// F-07, D-11: what is quoted must be a packet of ours, to a router we send to, and too large for what is said.
    #[test]
    fn an_error_about_somebody_elses_packet_is_not_believed() {
        let now = Instant::now();
        let mut paths = PathMtus::new(Duration::from_secs(600));
        for (quote, mtu, why) in [
            (
                sent6("2001:db8:f::2", 50_000, 4341, 0x60),
                1400,
                Disbelief::NotOurs,
            ),
            (sent6(OWN6, 1024, 4341, 0x60), 1400, Disbelief::NotOurs),
            (sent6(OWN6, 50_000, 4342, 0x60), 1400, Disbelief::NotOurs),
            (sent6(OWN6, 50_000, 4341, 0x50), 1400, Disbelief::NotOurs),
            (
                sent6(OWN6, 50_000, 4341, 0x60),
                1279,
                Disbelief::Implausible,
            ),
            (
                sent6(OWN6, 50_000, 4341, 0x60),
                1516,
                Disbelief::Implausible,
            ),
            (
                sent6(OWN6, 50_000, 4341, 0x60),
                0x1_0000,
                Disbelief::NotPathMtu,
            ),
            (vec![0x60; 8], 1400, Disbelief::NotOurs),
        ] {
            assert_eq!(
                learn(&mut paths, now, &too_big(mtu, &quote)),
                Err(why),
                "{mtu}"
            );
        }
        let sent = sent6(OWN6, 50_000, 4341, 0x60);
        let unknown = paths.handle_input(now, &too_big(1400, &sent), |_| true, |_| false);
        assert_eq!(unknown, Err(Disbelief::UnknownRloc));
        assert_eq!(
            learn(&mut paths, now, &fragmentation_needed(0)),
            Err(Disbelief::Implausible)
        );
        assert_eq!(paths.poll_timeout(), None);
    }

    #[test]
    fn every_truncation_is_refused_or_believed_but_never_a_panic() {
        let now = Instant::now();
        let sent = sent6(OWN6, 50_000, 4341, 0x60);
        for packet in [too_big(1400, &sent), fragmentation_needed(1300)] {
            for len in 0..packet.len() {
                let mut paths = PathMtus::new(Duration::from_secs(600));
                let _ = learn(&mut paths, now, &packet[..len]);
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut paths = PathMtus::new(Duration::from_secs(600));
        let mut refused = 0;
        for number in 0..5000_u32 {
            let mut quote = sent6(OWN6, 50_000, 4341, 0x60);
            quote[36..40].copy_from_slice(&number.to_be_bytes());
            let result = paths.handle_input(now, &too_big(1400, &quote), |_| true, |_| true);
            refused += usize::from(result == Err(Disbelief::Full));
        }
        assert_eq!(refused, 5000 - PATHS_MAX);
    }
}
