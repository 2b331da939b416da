//! Control messages: which packets are handed over as such.

use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::{Packet, Packet4};

use super::site::*;
use crate::bench::{address, mac};

const RESOLVER6: &str = "2001:db8:a::ff";

/// UDP between these ports to these addresses of the box.
fn six(to: &str, ports: (u16, u16)) -> Vec<u8> {
    Packet::ethernet(mac(0x22), mac(2))
        .ipv6(address(RESOLVER6), address(to))
        .udp(ports.0, ports.1, b"a control message")
        .build()
}

fn four(to: &str, ports: (u16, u16)) -> Vec<u8> {
    Packet4::ethernet(mac(0x22), mac(2))
        .ipv4(
            "192.0.2.254".parse().expect("an address"),
            to.parse().expect("an address"),
        )
        .udp(ports.0, ports.1, b"a control message")
        .build()
}

/// G-02: either port.
#[test]
fn g02_either_port_makes_a_control_message() {
    let mut site = Site::to_one(RLOC6);
    for ports in [(4342, 4342), (50_000, 4342), (4342, 50_000)] {
        assert_eq!(
            site.receive(UNDERLAY, &[six(OWN6, ports), four(OWN4, ports)]),
            []
        );
        assert_eq!(site.punts(), [PuntReason::LispControl; 2]);
    }
    assert_eq!(site.drops(), []);
}

#[test]
fn other_ports_and_other_own_addresses_are_refused_as_before() {
    let mut site = Site::to_one(RLOC6);
    site.receive(
        UNDERLAY,
        &[six(OWN6, (4343, 4344)), four(OWN4, (4343, 4344))],
    );
    assert_eq!(site.punts(), []);
    assert_eq!(site.drops(), [(DropReason::LocalProtocol, 2)]);
    // An address of the site is no RLOC.
    let inside = between6(HOST6, "2001:db8:e:1::1")
        .udp(4342, 4342, b"x")
        .build();
    site.receive(SITE, &[inside]);
    assert_eq!(site.punts(), []);
    assert_eq!(site.drops(), [(DropReason::LocalProtocol, 3)]);
}
