//! Laws of translation: there and back is identity, checksums stay right, and nothing that cannot be done is begun.

use std::net::Ipv6Addr;

use dataplane::testing::builder::Packet;
use dataplane::wire::checksum;
use proptest::prelude::*;

use super::*;

fn addresses() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

fn end() -> impl Strategy<Value = Option<End>> {
    prop::option::of((addresses(), prop::option::of(any::<u16>())))
        .prop_map(|end| end.map(|(address, port)| End { address, port }))
}

/// A packet between these, of some kind, and what its ends are.
fn packet(kind: u8, from: [u8; 16], to: [u8; 16], ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let p = || Packet::anywhere().ipv6(Ipv6Addr::from(from), Ipv6Addr::from(to));
    let back = || Packet::anywhere().ipv6(Ipv6Addr::from(to), Ipv6Addr::from(from));
    let packet = match kind {
        0 => p().tcp(ports.0, ports.1, data),
        1 => p().udp(ports.0, ports.1, data),
        2 => p().icmpv6_echo(ports.0, 1, data),
        3 => p().icmpv6_echo_reply(ports.1, 1, data),
        4 => p().destination_options().tcp(ports.0, ports.1, data),
        5 => p().icmpv6_error(2, 0, 1280, &back().tcp(ports.1, ports.0, data).build_ipv6()),
        6 => p().icmpv6_error(1, 4, 0, &back().udp(ports.1, ports.0, data).build_ipv6()),
        _ => p().icmpv6_error(1, 4, 0, &back().icmpv6_echo(ports.1, 1, data).build_ipv6()),
    };
    packet.build_ipv6()
}

proptest! {
    /// What is expected is built anew, so the checksum, a quote's too, is right; and the old ends make the old packet.
    #[test]
    fn a_packet_is_as_if_its_ends_had_always_been_others(
        kind in 0_u8..8,
        from in addresses(),
        to in addresses(),
        ports in any::<(u16, u16)>(),
        data in prop::collection::vec(any::<u8>(), 0..40),
        ends in (end(), end()),
    ) {
        let before = packet(kind, from, to, ports, &data);
        let ends = Ends { source: ends.0, destination: ends.1 };
        let mut packet_now = before.clone();
        prop_assert_eq!(translate(&mut packet_now, &ends), Ok(()));
        let address = |end: Option<End>, old| end.map_or(old, |end| end.address);
        let port = |end: Option<End>, old| end.and_then(|end| end.port).unwrap_or(old);
        let expected = packet(
            kind,
            address(ends.source, from),
            address(ends.destination, to),
            (port(ends.source, ports.0), port(ends.destination, ports.1)),
            &data,
        );
        prop_assert!(is_same(&packet_now, &expected), "{:x?}\n{:x?}", packet_now, expected);
        let old = Ends {
            source: ends.source.map(|_| End { address: from, port: Some(ports.0) }),
            destination: ends.destination.map(|_| End { address: to, port: Some(ports.1) }),
        };
        prop_assert_eq!(translate(&mut packet_now, &old), Ok(()));
        prop_assert!(is_same(&packet_now, &before), "{:x?}\n{:x?}", packet_now, before);
    }

    /// Whatever bytes: no panic, no other length, and either all is done or nothing.
    #[test]
    fn what_cannot_be_translated_is_as_it_was(bytes in prop::collection::vec(any::<u8>(), 0..160), first in prop::sample::select(vec![0_u8, 6, 17, 43, 44, 58, 60, 132, 136]), ends in (end(), end())) {
        let mut before = bytes;
        if let Some(next_header) = before.get_mut(6) {
            *next_header = first;
        }
        let mut packet = before.clone();
        let ends = Ends { source: ends.0, destination: ends.1 };
        if translate(&mut packet, &ends).is_err() {
            prop_assert_eq!(packet, before);
        } else {
            prop_assert_eq!(packet.len(), before.len());
            prop_assert_eq!(&packet[..8], &before[..8]);
        }
    }
}

/// Equal, or both with a right checksum where one says 0 and the other 0xffff, which are the same number.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differ: Vec<_> = (0..one.len()).filter(|at| one[*at] != other[*at]).collect();
    one.len() == other.len()
        && differ
            .iter()
            .all(|at| matches!((one[*at], other[*at]), (0, 0xff) | (0xff, 0)))
        && differ.len() <= 4
        && is_right(one) == is_right(other)
}

fn is_right(packet: &[u8]) -> bool {
    let upper = ext::walk(packet[6], &packet[40..]).expect("it was built");
    let [from, to] = [8, 24].map(|at| packet[at..at + 16].try_into().expect("16 bytes"));
    checksum::is_valid(&from, &to, upper.protocol, &packet[40 + upper.offset..])
}
