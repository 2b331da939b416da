//! What kind of address or prefix may stand where (RFC 4291 2.4, 2.5, 2.7).

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use crate::config::error::{Place, Sink};
use crate::config::problem::Problem;

/// Blocks that no router forwards, and what is said of an address and of a prefix in them.
const BLOCKS: [(Ipv6Addr, u8, &str, &str); 5] = [
    (
        Ipv6Addr::UNSPECIFIED,
        128,
        "is the unspecified address",
        "holds the unspecified address",
    ),
    (
        Ipv6Addr::LOCALHOST,
        128,
        "is the loopback address",
        "holds the loopback address",
    ),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        96,
        "is an IPv4-mapped address",
        "holds IPv4-mapped addresses",
    ),
    (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
        "is a link-local address",
        "holds link-local addresses",
    ),
    (
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
        "is a multicast address",
        "holds multicast addresses",
    ),
];

fn blocks() -> impl Iterator<Item = (Ipv6Net, &'static str, &'static str)> {
    BLOCKS
        .iter()
        .map(|(address, length, one, many)| (Ipv6Net::new_assert(*address, *length), *one, *many))
}

/// Why an address is not one that a single host of a routed network has.
pub(super) fn not_global(address: Ipv6Addr) -> Option<&'static str> {
    blocks().find_map(|(block, one, _)| block.contains(&address).then_some(one))
}

/// Why a prefix is, whole, not one that a router forwards to.
pub(super) fn inside_special(prefix: Ipv6Net) -> Option<&'static str> {
    blocks().find_map(|(block, _, many)| block.contains(&prefix).then_some(many))
}

/// Why a prefix is, in part, not one that a router forwards to.
pub(super) fn touches_special(prefix: Ipv6Net) -> Option<&'static str> {
    blocks().find_map(|(block, _, many)| overlap(block, prefix).then_some(many))
}

/// Whether two prefixes share an address.
pub(super) fn overlap(a: Ipv6Net, b: Ipv6Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Whether the address is the one that every router of the prefix has (RFC 4291 2.6.1); point-to-point prefixes of
/// 127 and 128 bits have none (RFC 6164).
pub(super) fn is_subnet_router_anycast(address: Ipv6Addr, prefix: Ipv6Net) -> bool {
    prefix.prefix_len() < 127 && prefix.network() == address
}

/// Whether it can be the own or a neighbour's link-local address: in fe80::/64 (RFC 4291 2.5.6), and not all zeros.
pub(super) fn is_link_local_host(address: Ipv6Addr) -> bool {
    let link_local = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
    link_local.contains(&address) && address != link_local.network()
}

/// Report bits after the length.
pub(super) fn check_host_bits(prefix: Ipv6Net, place: &Place, sink: &mut Sink<'_>) -> bool {
    let is_network = prefix.trunc() == prefix;
    if !is_network {
        sink.push(
            place,
            Problem::HostBits {
                found: prefix,
                network: prefix.trunc(),
            },
        );
    }
    is_network
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Ipv6Net {
        text.parse().expect("a prefix")
    }

    #[test]
    fn special_addresses_are_known() {
        for special in [
            "::",
            "::1",
            "::ffff:192.0.2.1",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ] {
            assert!(
                not_global(special.parse().expect("an address")).is_some(),
                "{special}"
            );
        }
        for global in [
            "::2",
            "64:ff9b::1",
            "2001:db8::1",
            "fd00::1",
            "fec0::1",
            "fe7f::1",
        ] {
            assert!(
                not_global(global.parse().expect("an address")).is_none(),
                "{global}"
            );
        }
    }

    #[test]
    fn a_prefix_is_special_in_part_or_whole() {
        assert!(
            touches_special(prefix("::/0")).is_some() && inside_special(prefix("::/0")).is_none()
        );
        assert!(
            inside_special(prefix("ff02::/16")).is_some()
                && touches_special(prefix("ff02::/16")).is_some()
        );
        assert!(touches_special(prefix("8000::/1")).is_some());
        assert!(touches_special(prefix("2000::/3")).is_none());
        assert!(touches_special(prefix("fd00::/8")).is_none());
    }

    #[test]
    fn link_local_hosts_are_in_the_first_64_bits() {
        for (address, expected) in [
            ("fe80::1", true),
            ("fe80::", false),
            ("fe80:0:0:1::1", false),
            ("fe90::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(
                is_link_local_host(address.parse().expect("an address")),
                expected,
                "{address}"
            );
        }
    }
}
