//! The hash that keeps a flow together: its locator, its source port and its flow label come from it (RFC 9300 12, RFC
//! 6438; D-20 to D-22).
//!
//! TCP, UDP, UDP-Lite and SCTP go by addresses, protocol and ports, everything else by addresses and flow label. A fragment has no
//! ports: all pieces of an IPv6 packet go by addresses and fragment identification, all IPv4 fragments by addresses. The
//! seed makes every box choose differently, so that boxes in a row do not use the same few paths.

use dataplane::wire::ext;
use dataplane::wire::ipv6::{self, proto};

use crate::words::words;

/// Odd, with about as many ones as zeros.
const MULTIPLIERS: [u64; 3] = [
    0x9e37_79b9_7f4a_7c15,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
];

/// Scatter the bits of `value`.
#[inline]
pub(super) fn mix(value: u64) -> u64 {
    fold(value ^ MULTIPLIERS[0], MULTIPLIERS[1])
}

/// The same in a way that only the seed tells.
#[inline(always)]
pub(crate) fn scatter(value: u64, seed: u64) -> u64 {
    fold(value ^ seed, MULTIPLIERS[1])
}

/// Both halves of the product, into one.
#[inline(always)]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64 // `as`: the two halves
}

/// Whether packets of this protocol begin with two ports.
#[inline(always)]
pub(crate) fn has_ports(protocol: u8) -> bool {
    matches!(
        protocol,
        proto::TCP | proto::UDP | proto::SCTP | proto::UDP_LITE
    )
}

/// The hash of an IPv6 packet.
#[inline(always)]
pub(crate) fn of_v6(seed: u64, packet: &[u8]) -> u64 {
    let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return seed;
    };
    if has_ports(header[6])
        && let Some(ports) = payload.first_chunk()
    {
        return of_parts(seed, header, ports);
    }
    Hashed::new(seed, &header[8..]).with(uncommon_v6(header, payload))
}

/// The hash of an IPv6 packet whose header is followed by ports.
#[inline(always)]
pub(crate) fn of_parts(seed: u64, header: &[u8; ipv6::HEADER_LEN], ports: &[u8; 4]) -> u64 {
    let last = u64::from(u32::from_ne_bytes(*ports)) | u64::from(header[6]) << 32;
    Hashed::new(seed, &header[8..]).with(last)
}

/// The hash of two IPv6 addresses, to which the rest of a flow is added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashed(u64);

impl Hashed {
    /// Of the first 32 bytes.
    #[inline(always)]
    pub(crate) fn new(seed: u64, addresses: &[u8]) -> Self {
        let (source, destination) = addresses.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let destination = destination.first_chunk().unwrap_or(&[0; 16]);
        HashedTo::new(seed, destination).from(seed, source)
    }

    /// With what tells flows between them apart.
    #[inline(always)]
    pub(crate) fn with(self, last: u64) -> u64 {
        fold(self.0 ^ last, MULTIPLIERS[2])
    }

    /// The same in a way that only the seed tells.
    #[inline(always)]
    pub(crate) fn scattered(self, last: u64, seed: u64) -> u64 {
        scatter(self.0 ^ last, seed)
    }
}

/// The part of [`Hashed`] that is the destination's, for many packets to one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashedTo(u64);

impl HashedTo {
    #[inline(always)]
    pub(crate) fn new(seed: u64, destination: &[u8; 16]) -> Self {
        let [c, d] = words(destination);
        Self(fold(c ^ MULTIPLIERS[1], d ^ seed))
    }

    /// With the source.
    #[inline(always)]
    pub(crate) fn from(self, seed: u64, source: &[u8; 16]) -> Hashed {
        let [a, b] = words(source);
        Hashed(fold(a ^ seed, b ^ MULTIPLIERS[0]) ^ self.0)
    }
}

/// What an IPv6 packet adds to its addresses when the header is not followed by ports.
#[cold]
#[inline(never)]
fn uncommon_v6(header: &[u8; ipv6::HEADER_LEN], payload: &[u8]) -> u64 {
    let [_, a, b, c, ..] = *header;
    let label = u64::from(u32::from_be_bytes([0, a & 0x0f, b, c])) << 40;
    let Ok(upper) = ext::walk(header[6], payload) else {
        return label;
    };
    if let Some(fragment) = upper.fragment {
        return u64::from(fragment.id) | 1 << 63;
    }
    let ports = payload
        .get(upper.offset..)
        .and_then(|rest| rest.first_chunk::<4>());
    match ports {
        Some(ports) if has_ports(upper.protocol) => {
            u64::from(u32::from_ne_bytes(*ports)) | u64::from(upper.protocol) << 32
        }
        _ => label,
    }
}

/// The hash of an IPv4 packet.
#[inline(always)]
pub(crate) fn of_v4(seed: u64, packet: &[u8]) -> u64 {
    let Some((header, payload)) = packet.split_first_chunk::<20>() else {
        return seed;
    };
    let [start, _, _, _, _, _, fragment, offset, _, protocol, ..] = *header;
    let is_fragment = fragment & 0x3f != 0 || offset != 0;
    let options = usize::from(start & 0x0f).saturating_sub(5) * 4;
    let ports = payload
        .get(options..)
        .and_then(|rest| rest.first_chunk::<4>());
    let last = match ports {
        Some(ports) if has_ports(protocol) && !is_fragment => {
            u64::from(u32::from_ne_bytes(*ports)) | u64::from(protocol) << 32
        }
        _ => 0,
    };
    hash_v4(seed, header, last)
}

/// The hash that every piece of an IPv4 packet will have.
pub(crate) fn of_v4_pieces(seed: u64, packet: &[u8]) -> u64 {
    let header = packet.first_chunk::<20>();
    header.map_or(seed, |header| hash_v4(seed, header, 0))
}

#[inline(always)]
fn hash_v4(seed: u64, header: &[u8; 20], last: u64) -> u64 {
    let addresses = u64::from_ne_bytes(*header.last_chunk().expect("8 of 20 bytes"));
    fold(
        fold(addresses ^ seed, MULTIPLIERS[0]) ^ last,
        MULTIPLIERS[2],
    )
}

/// The source port of a flow: from the dynamic range 49152 to 65535 (D-22).
#[inline(always)]
pub(crate) fn source_port(hash: u64) -> u16 {
    0xc000 | (hash as u16 & 0x3fff) // `as`: the low bits
}

/// By which of several ways through the underlay a flow goes, for [`crate::fib::member`]: by its source port, so that the
/// outer packet alone tells.
#[inline(always)]
pub(crate) fn member(port: u16) -> u32 {
    u32::from(port) << 18
}

/// The flow label of a flow: 20 bits, never 0, which would mean "none" (D-21).
#[inline(always)]
pub(crate) fn label(hash: u64) -> u32 {
    ((hash >> 14) as u32 & 0xf_ffff) | 1 // `as`: the bits after those of the port
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use dataplane::testing::builder::Packet;
    use dataplane::wire::ethernet::Mac;

    use super::*;

    fn packet(build: impl FnOnce(Packet) -> Vec<u8>) -> Vec<u8> {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
        let packet = Packet::ethernet(mac, mac).ipv6(
            "2001:db8::1".parse().expect("an address"),
            "2001:db8::2".parse().expect("an address"),
        );
        build(packet)[14..].to_vec()
    }

    /// D-20: the same five-tuple, the same hash, whatever the payload; another port, another hash.
    #[test]
    fn a_flow_is_its_five_tuple() {
        let [a, b, c] = [(1, &[1_u8][..]), (1, &[2, 3]), (2, &[1])]
            .map(|(port, payload)| of_v6(7, &packet(|p| p.udp(port, 53, payload).build())));
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_ne!(
            a,
            of_v6(8, &packet(|p| p.udp(1, 53, &[1]).build())),
            "D-22: the seed counts"
        );
    }

    /// D-22: all pieces of one packet go one way, the first, which has ports, too.
    #[test]
    fn the_pieces_of_a_packet_stay_together() {
        let piece = |offset: u16, id: u32, tail: &[u8]| {
            let mut bytes = packet(|p| p.udp(1, 2, &[0; 32]).build());
            bytes[6] = proto::FRAGMENT;
            bytes.truncate(40);
            bytes.extend([proto::UDP, 0]);
            bytes.extend((offset << 3 | 1).to_be_bytes());
            bytes.extend(id.to_be_bytes());
            bytes.extend(tail);
            of_v6(7, &bytes)
        };
        assert_eq!(piece(0, 9, &[1, 2, 3, 4]), piece(181, 9, &[5, 6, 7, 8]));
        assert_ne!(piece(0, 9, &[1, 2, 3, 4]), piece(0, 10, &[1, 2, 3, 4]));

        let v4 = |fragment: u16, ports: [u8; 4]| {
            let mut bytes = [0; 28];
            bytes[0] = 0x45;
            bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
            bytes[9] = proto::UDP;
            bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            bytes[20..24].copy_from_slice(&ports);
            of_v4(7, &bytes)
        };
        assert_eq!(v4(0x2000, [1, 2, 3, 4]), v4(185, [5, 6, 7, 8]));
        assert_ne!(v4(0x4000, [1, 2, 3, 4]), v4(0x4000, [5, 6, 7, 8]));
        let mut whole = [0; 28];
        whole[0] = 0x45;
        whole[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(of_v4_pieces(7, &whole), v4(185, [5, 6, 7, 8]));
    }

    /// D-20: a protocol without ports goes by addresses and flow label.
    #[test]
    fn without_ports_the_flow_label_tells_flows_apart() {
        let of = |label: u8, tail: u8| {
            let mut bytes = packet(|p| p.udp(1, 2, &[0; 8]).build());
            bytes[6] = 50;
            bytes[3] = label;
            bytes[40] = tail;
            of_v6(7, &bytes)
        };
        assert_eq!(of(1, 1), of(1, 2));
        assert_ne!(of(1, 1), of(2, 1));
    }

    /// D-21, D-22: what leaves spreads over ports, labels and buckets.
    #[test]
    fn flows_spread() {
        let hashes: Vec<u64> = (0..20_000_u16)
            .map(|port| of_v6(3, &packet(|p| p.udp(port, 443, &[]).build())))
            .collect();
        let ports: HashSet<u16> = hashes.iter().map(|hash| source_port(*hash)).collect();
        // 20,000 balls in 16,384 boxes hit about 70 % of them.
        assert!((11_000..12_100).contains(&ports.len()), "{}", ports.len());
        assert!(ports.iter().all(|port| *port >= 49152));
        let labels: HashSet<u32> = hashes.iter().map(|hash| label(*hash)).collect();
        assert!(labels.len() > 19_000, "{}", labels.len());
        assert!(labels.iter().all(|label| (1..1 << 20).contains(label)));
        let mut buckets = [0_u32; 64];
        hashes
            .iter()
            .for_each(|hash| buckets[(hash >> 58) as usize] += 1);
        // 312 each, give or take five standard deviations.
        assert!(
            buckets.iter().all(|n| (224..400).contains(n)),
            "{buckets:?}"
        );
    }
}
