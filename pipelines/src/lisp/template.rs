//! What of an outer header does not depend on the packet: made when a locator is.

use std::net::IpAddr;

use dataplane::wire::checksum::{self, Sum};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::lisp::{DATA_PORT, HEADER_LEN, flags};
use dataplane::wire::udp;

use super::cache::LocatorKey;
use super::flow::mix;
use super::spec::Settings;

/// Bytes of an IPv4 header without options.
pub(crate) const IPV4_LEN: usize = 20;
/// UDP and LISP header.
pub(crate) const INNER_OFFSET: usize = udp::HEADER_LEN + HEADER_LEN;

/// Bytes that encapsulation adds to a packet: 36 by IPv4, 56 by IPv6 (F-02).
#[must_use]
pub const fn overhead(is_v4: bool) -> u16 {
    let ip = if is_v4 { IPV4_LEN } else { ipv6::HEADER_LEN };
    (ip + INNER_OFFSET) as u16 // `as`: 36 or 56
}

/// Words 1 to 7 of a locator's line, see [`Locator`](super::table::Locator). Without an own RLOC of its family a locator has
/// no source, and no next hop either.
pub(super) fn words(settings: &Settings, key: &LocatorKey) -> [u64; 7] {
    let own = settings.own_rlocs.iter();
    let source = own.copied().find(|own| own.is_ipv4() == key.rloc.is_ipv4());
    let header = lisp_header(settings, key);
    let mut words = [0; 7];
    words[4] = u64::from_ne_bytes(header);
    match (source, key.rloc) {
        (Some(IpAddr::V6(source)), IpAddr::V6(rloc)) => {
            let (source, rloc) = (source.octets(), rloc.octets());
            let halves = [source, rloc];
            for (word, half) in words.iter_mut().zip(halves.as_flattened().as_chunks().0) {
                *word = u64::from_ne_bytes(*half);
            }
            let pseudo = checksum::pseudo_header(&source, &rloc, 0, proto::UDP);
            words[5] = u64::from((pseudo + udp_constant(header)).fold()) << 16;
        }
        (Some(IpAddr::V4(source)), IpAddr::V4(rloc)) => {
            let addresses = [source.octets(), rloc.octets()];
            let addresses: [u8; 8] = *addresses.as_flattened().first_chunk().expect("8 bytes");
            words[0] = u64::from_ne_bytes(addresses);
            let addresses = checksum::sum(&addresses);
            // Version and length, "don't fragment" (F-05), protocol.
            let constant = Sum::word(0x4500) + Sum::word(0x4000) + Sum::word(u16::from(proto::UDP));
            let pseudo = addresses + Sum::word(u16::from(proto::UDP)) + udp_constant(header);
            words[5] = u64::from((addresses + constant).fold()) | u64::from(pseudo.fold()) << 16;
        }
        _ => {}
    }
    words
}

/// What the UDP checksum covers besides pseudo-header, source port, lengths and the inner packet.
fn udp_constant(header: [u8; HEADER_LEN]) -> Sum {
    Sum::word(DATA_PORT) + checksum::sum(&header)
}

/// The LISP header towards this locator. All fields but the instance are 0 unless the settings of a closed network say
/// otherwise (D-04, D-05, D-09).
fn lisp_header(settings: &Settings, key: &LocatorKey) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    if key.instance != 0 {
        bytes[0] |= flags::INSTANCE;
        bytes[4..].copy_from_slice(&(key.instance << 8).to_be_bytes());
    }
    if settings.gpe {
        // RFC 9305 3.1: the other flags are 0; encapsulation writes what follows into the last octet.
        bytes[0] |= flags::NEXT_PROTOCOL;
        return bytes;
    }
    if settings.map_version != 0 && key.version != 0 {
        bytes[0] |= flags::MAP_VERSION;
        let versions = u32::from(settings.map_version) << 12 | u32::from(key.version);
        bytes[1..4].copy_from_slice(&versions.to_be_bytes()[1..]);
    } else if settings.nonce {
        // D-03: never with map-versions. D-08: another for every locator.
        bytes[0] |= flags::NONCE;
        let bits = match key.rloc {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                (bits >> 64) as u64 ^ bits as u64 // `as`: the two halves
            }
        };
        let nonce = mix(mix(settings.seed ^ u64::from(key.instance)) ^ bits);
        bytes[1..4].copy_from_slice(&nonce.to_be_bytes()[..3]);
    }
    if settings.status_bits {
        bytes[0] |= flags::STATUS_BITS;
        let all = u32::MAX >> (32 - settings.own_rlocs.len().clamp(1, 32) as u32); // `as`: at most 32
        if key.instance == 0 {
            bytes[4..].copy_from_slice(&all.to_be_bytes());
        } else {
            // D-06: an instance leaves room for 8 of them.
            bytes[7] = all as u8; // `as`: the low 8
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lisp::cache::test_key;

    fn settings() -> Settings {
        Settings {
            own_rlocs: vec![
                "2001:db8::1".parse().expect("an address"),
                "192.0.2.1".parse().expect("an address"),
            ],
            seed: 5,
            ..Settings::default()
        }
    }

    fn header(settings: &Settings, rloc: &str, instance: u32, version: u16) -> [u8; 8] {
        let rloc = rloc.parse().expect("an address");
        lisp_header(settings, &test_key(rloc, instance, version))
    }

    /// D-04, D-05, D-09: on the public Internet everything is 0, whatever the mapping says of versions.
    #[test]
    fn a_public_header_is_zero() {
        assert_eq!(header(&settings(), "2001:db8::9", 0, 7), [0; 8]);
    }

    /// D-06: an instance takes 24 bits, and leaves 8 status bits.
    #[test]
    fn an_instance_stands_in_the_upper_24_bits() {
        let mut settings = settings();
        assert_eq!(
            header(&settings, "2001:db8::9", 0x0a0b0c, 0),
            [8, 0, 0, 0, 10, 11, 12, 0]
        );
        settings.status_bits = true;
        assert_eq!(
            header(&settings, "2001:db8::9", 0x0a0b0c, 0),
            [0x48, 0, 0, 0, 10, 11, 12, 3]
        );
        assert_eq!(
            header(&settings, "2001:db8::9", 0, 0),
            [0x40, 0, 0, 0, 0, 0, 0, 3]
        );
    }

    /// D-03: a nonce and map-versions never together.
    #[test]
    fn versions_take_the_place_of_the_nonce() {
        let mut settings = settings();
        settings.nonce = true;
        settings.map_version = 0x123;
        assert_eq!(
            header(&settings, "2001:db8::9", 0, 0xabc),
            [0x10, 0x12, 0x3a, 0xbc, 0, 0, 0, 0]
        );
        assert_eq!(header(&settings, "2001:db8::9", 0, 0)[0], flags::NONCE);
    }

    /// D-08.
    #[test]
    fn nonces_differ_between_locators() {
        let mut settings = settings();
        settings.nonce = true;
        let [a, b] = ["2001:db8::8", "2001:db8::9"].map(|rloc| header(&settings, rloc, 0, 0));
        assert_ne!(a[1..4], b[1..4]);
    }

    /// RFC 9305 3.1: with the P bit, the fields of the others are 0.
    #[test]
    fn the_next_protocol_bit_stands_alone() {
        let mut settings = settings();
        (settings.gpe, settings.nonce, settings.status_bits) = (true, true, true);
        assert_eq!(
            header(&settings, "192.0.2.9", 0, 3),
            [flags::NEXT_PROTOCOL, 0, 0, 0, 0, 0, 0, 0]
        );
    }
}
