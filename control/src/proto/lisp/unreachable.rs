//! What ICMP errors of the underlay say of locators that packets do not arrive at (RFC 9301 7).
//!
//! Believed no further than errors about path MTUs are ([`path_mtu`](super::path_mtu)): an error must quote what can be a
//! packet of ours to a locator of some mapping. Whoever knows that one router tunnels to another can forge such a quote, so
//! it says only that the locator should be probed.

use std::net::IpAddr;

use dataplane::wire::{icmpv4, icmpv6, ipv4, ipv6};

use super::path_mtu::{Disbelief, quoted};

/// What a router said of a locator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    /// The locator.
    pub rloc: IpAddr,
    /// Who said it.
    pub by: IpAddr,
    /// Why packets do not arrive.
    pub why: &'static str,
}

/// Read an ICMP error, from its IP header on, its checksum found right. `None`: it is none that says so. `is_own`: whether
/// an address is an own RLOC; `is_known`: whether one is a locator of some mapping.
#[must_use]
pub fn parse(
    packet: &[u8],
    is_own: impl Fn(IpAddr) -> bool,
    is_known: impl Fn(IpAddr) -> bool,
) -> Option<Result<Unreachable, Disbelief>> {
    let (by, why, quote) = error(packet)?;
    let Some(quote) = quoted(quote).filter(|quote| is_own(quote.source)) else {
        return Some(Err(Disbelief::NotOurs));
    };
    let rloc = quote.destination;
    if !is_known(rloc) {
        return Some(Err(Disbelief::UnknownRloc));
    }
    Some(Ok(Unreachable { rloc, by, why }))
}

/// Who sent the error, what it says, and its quote.
fn error(packet: &[u8]) -> Option<(IpAddr, &'static str, &[u8])> {
    match packet.first()? >> 4 {
        6 => {
            let (header, message) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
            let (head, quote) = message.split_first_chunk::<{ icmpv6::ERROR_HEADER_LEN }>()?;
            let is_one = header[6] == ipv6::proto::ICMPV6
                && head[0] == icmpv6::types::DESTINATION_UNREACHABLE;
            let by: &[u8; 16] = header.get(8..)?.first_chunk()?;
            // RFC 4443 3.1.
            let why = match head[1] {
                icmpv6::codes::UNREACHABLE_NO_ROUTE => "no route",
                icmpv6::codes::UNREACHABLE_ADDRESS => "no such neighbour",
                icmpv6::codes::UNREACHABLE_PORT => "nobody there speaks LISP",
                icmpv6::codes::UNREACHABLE_PROHIBITED | icmpv6::codes::UNREACHABLE_POLICY => {
                    "prohibited"
                }
                _ => "unreachable",
            };
            is_one.then_some((IpAddr::from(*by), why, quote))
        }
        4 => {
            let packet = ipv4::parse(packet).ok()?;
            let (head, quote) = packet
                .payload
                .split_first_chunk::<{ icmpv4::ERROR_HEADER_LEN }>()?;
            let is_one = packet.header.protocol == ipv4::proto::ICMP
                && head[0] == icmpv4::types::DESTINATION_UNREACHABLE
                && head[1] != icmpv4::codes::UNREACHABLE_FRAGMENTATION_NEEDED;
            // RFC 1812 5.2.7.1.
            let why = match head[1] {
                icmpv4::codes::UNREACHABLE_NETWORK => "no route",
                icmpv4::codes::UNREACHABLE_HOST => "no such neighbour",
                icmpv4::codes::UNREACHABLE_PORT => "nobody there speaks LISP",
                icmpv4::codes::UNREACHABLE_PROHIBITED | 9 | 10 => "prohibited",
                _ => "unreachable",
            };
            let by = IpAddr::V4(packet.header.source());
            is_one.then_some((by, why, quote))
        }
        _ => None,
    }
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

    fn sent6(source: &str, to_port: u16) -> Vec<u8> {
        let data = [0, 0, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 0];
        Packet::anywhere()
            .ipv6(source.parse().unwrap(), RLOC6.parse().unwrap())
            .udp(50_000, to_port, &data)
            .build_ipv6()
    }

    fn error6(kind: u8, code: u8, quote: &[u8]) -> Vec<u8> {
        Packet::anywhere()
            .ipv6("2001:db8:c::1".parse().unwrap(), OWN6.parse().unwrap())
            .icmpv6_error(kind, code, 0, quote)
            .build_ipv6()
    }

    fn error4(code: u8) -> Vec<u8> {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
        let data = [0, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0];
        let quote = Packet4::ethernet(mac, mac)
            .ipv4(OWN4.parse().unwrap(), RLOC4.parse().unwrap())
            .udp(50_000, 4341, &data)
            .build_ipv4();
        Packet4::ethernet(mac, mac)
            .ipv4("198.51.100.1".parse().unwrap(), OWN4.parse().unwrap())
            .icmp_error(3, code, 0, &quote[..28])
            .build_ipv4()
    }

    fn read(packet: &[u8]) -> Option<Result<(String, &'static str), Disbelief>> {
        let own: [IpAddr; 2] = [OWN6.parse().unwrap(), OWN4.parse().unwrap()];
        let known: [IpAddr; 2] = [RLOC6.parse().unwrap(), RLOC4.parse().unwrap()];
        let read = parse(
            packet,
            |address| own.contains(&address),
            |address| known.contains(&address),
        )?;
        Some(read.map(|said| (said.rloc.to_string(), said.why)))
    }

    /// B-04.
    #[test]
    fn errors_of_both_families_say_which_locator_and_why() {
        let sent = sent6(OWN6, 4341);
        for (code, why) in [
            (0, "no route"),
            (1, "prohibited"),
            (3, "no such neighbour"),
            (4, "nobody there speaks LISP"),
            (5, "prohibited"),
            (99, "unreachable"),
        ] {
            let expected = Some(Ok((RLOC6.to_owned(), why)));
            assert_eq!(read(&error6(1, code, &sent)), expected, "code {code}");
        }
        for (code, why) in [
            (0, "no route"),
            (1, "no such neighbour"),
            (3, "nobody there speaks LISP"),
            (13, "prohibited"),
            (99, "unreachable"),
        ] {
            let expected = Some(Ok((RLOC4.to_owned(), why)));
            assert_eq!(read(&error4(code)), expected, "code {code}");
        }
    }

    #[test]
    fn other_errors_and_those_about_other_packets_say_nothing() {
        assert_eq!(read(&error6(2, 0, &sent6(OWN6, 4341))), None, "too big");
        assert_eq!(read(&error6(3, 0, &sent6(OWN6, 4341))), None, "hop limit");
        assert_eq!(read(&error4(4)), None, "fragmentation needed");
        let of_another = sent6("2001:db8:f::2", 4341);
        for quote in [of_another, sent6(OWN6, 4342), Vec::new()] {
            assert_eq!(
                read(&error6(1, 0, &quote)),
                Some(Err(Disbelief::NotOurs)),
                "{quote:?}"
            );
        }
        let said = parse(&error6(1, 0, &sent6(OWN6, 4341)), |_| true, |_| false);
        assert_eq!(said, Some(Err(Disbelief::UnknownRloc)));
    }

    #[test]
    fn every_truncation_is_refused_or_believed_but_never_a_panic() {
        for packet in [error6(1, 0, &sent6(OWN6, 4341)), error4(1)] {
            for len in 0..packet.len() {
                let _ = read(&packet[..len]);
            }
        }
    }
}
