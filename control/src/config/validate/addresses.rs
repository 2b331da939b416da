//! What kind of address or prefix may stand where (RFC 4291 2.4, 2.5, 2.7; RFC 1122 3.2.1.3, RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::config::error::{Place, Sink};
use crate::config::problem::Problem;

/// A block, and what is said of an address and of a prefix in it.
type Block = (IpAddr, u8, &'static str, &'static str);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// Blocks that no router forwards. The first that matches is said, so a part stands before its whole.
const BLOCKS: [Block; 12] = [
    (
        v4(0, 0, 0, 0),
        32,
        "is the unspecified address",
        "holds the unspecified address",
    ),
    (
        v4(0, 0, 0, 0),
        8,
        "is an address of \"this network\"",
        "holds addresses of \"this network\"",
    ),
    (
        v4(127, 0, 0, 0),
        8,
        "is a loopback address",
        "holds loopback addresses",
    ),
    (
        v4(169, 254, 0, 0),
        16,
        "is a link-local address",
        "holds link-local addresses",
    ),
    (
        v4(224, 0, 0, 0),
        4,
        "is a multicast address",
        "holds multicast addresses",
    ),
    (
        v4(255, 255, 255, 255),
        32,
        "is the broadcast address",
        "holds the broadcast address",
    ),
    (
        v4(240, 0, 0, 0),
        4,
        "is a reserved address",
        "holds reserved addresses",
    ),
    (
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        128,
        "is the unspecified address",
        "holds the unspecified address",
    ),
    (
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        128,
        "is the loopback address",
        "holds the loopback address",
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)),
        96,
        "is an IPv4-mapped address",
        "holds IPv4-mapped addresses",
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
        10,
        "is a link-local address",
        "holds link-local addresses",
    ),
    (
        IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)),
        8,
        "is a multicast address",
        "holds multicast addresses",
    ),
];

fn blocks() -> impl Iterator<Item = (IpNet, &'static str, &'static str)> {
    BLOCKS
        .iter()
        .map(|(address, length, one, many)| (IpNet::new_assert(*address, *length), *one, *many))
}

/// Why an address is not one that a single host of a routed network has.
pub(crate) fn not_global(address: IpAddr) -> Option<&'static str> {
    blocks().find_map(|(block, one, _)| block.contains(&address).then_some(one))
}

/// Why a prefix is, whole, not one that a router forwards to.
pub(crate) fn inside_special(prefix: IpNet) -> Option<&'static str> {
    blocks().find_map(|(block, _, many)| block.contains(&prefix).then_some(many))
}

/// Why a prefix is, in part, not one that a router forwards to.
pub(super) fn touches_special(prefix: IpNet) -> Option<&'static str> {
    blocks().find_map(|(block, _, many)| overlap(block, prefix).then_some(many))
}

/// Whether two prefixes share an address.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Why an address of a prefix is not one host's: the one that every router of an IPv6 prefix has (RFC 4291 2.6.1), but
/// for prefixes of 127 and 128 bits (RFC 6164), and the first and the last of an IPv4 prefix (RFC 1122 3.2.1.3), but for
/// those of 31 and 32 bits (RFC 3021).
pub(super) fn not_a_host(address: IpAddr, prefix: IpNet) -> Option<&'static str> {
    if prefix.max_prefix_len() - prefix.prefix_len() < 2 {
        return None;
    }
    let is_first = address == prefix.network();
    match prefix {
        IpNet::V6(_) if is_first => {
            Some("is the anycast address of all routers of its prefix (RFC 4291 2.6.1)")
        }
        IpNet::V4(_) if is_first => {
            Some("is the network's own address in its prefix (RFC 1122 3.2.1.3)")
        }
        IpNet::V4(prefix) if address == prefix.broadcast() => {
            Some("is the broadcast address of its prefix (RFC 1122 3.2.1.3)")
        }
        IpNet::V4(_) | IpNet::V6(_) => None,
    }
}

/// Whether it can be the own or a neighbour's link-local address: in fe80::/64 (RFC 4291 2.5.6), and not all zeros.
pub(super) fn is_link_local_host(address: Ipv6Addr) -> bool {
    let link_local = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64);
    link_local.contains(&address) && address != link_local.network()
}

/// Report bits after the length.
pub(super) fn check_host_bits(prefix: IpNet, place: &Place, sink: &mut Sink<'_>) -> bool {
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

    fn prefix(text: &str) -> IpNet {
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
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.5",
            "240.0.0.1",
            "255.255.255.255",
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
            "10.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "223.255.255.255",
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
        let default = prefix("0.0.0.0/0");
        assert!(touches_special(default).is_some() && inside_special(default).is_none());
        assert_eq!(
            inside_special(prefix("255.255.255.255/32")),
            Some("holds the broadcast address")
        );
    }

    #[test]
    fn a_prefix_has_addresses_that_are_no_hosts() {
        for (address, net, is_host) in [
            ("2001:db8::", "2001:db8::/64", false),
            ("2001:db8::1", "2001:db8::/64", true),
            ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64", true),
            ("2001:db8::", "2001:db8::/127", true),
            ("192.0.2.0", "192.0.2.0/24", false),
            ("192.0.2.255", "192.0.2.0/24", false),
            ("192.0.2.254", "192.0.2.0/24", true),
            ("192.0.2.3", "192.0.2.0/30", false),
            ("192.0.2.0", "192.0.2.0/31", true),
            ("192.0.2.1", "192.0.2.0/31", true),
            ("192.0.2.7", "192.0.2.7/32", true),
        ] {
            let found = not_a_host(address.parse().expect("an address"), prefix(net));
            assert_eq!(found.is_none(), is_host, "{address} in {net}");
        }
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
