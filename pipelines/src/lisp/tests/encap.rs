//! Encapsulation: every field of the outer headers.

use dataplane::wire::FromBytes;
use dataplane::wire::checksum::{self, Sum};
use dataplane::wire::lisp::Header;
use dataplane::wire::{ipv6, udp};
use proptest::prelude::*;

use super::super::encap::{self, Inner, V4_LEN, V6_LEN};
use super::super::view::{Lisp, Way};
use super::super::{Dscp, Settings};
use super::{VRF, cache_to, settings};

/// The headers before a packet to `rloc`.
fn headers(settings: Settings, rloc: &str, inner: Inner, packet: &[u8]) -> Vec<u8> {
    let is_summed = settings.udp_checksum;
    let (cache, leaf) = cache_to(settings, rloc);
    let lisp = Lisp::new(&cache, vec![]);
    let Way::Encap(locator) = lisp.way(VRF, leaf, inner.hash) else {
        panic!("the mapping has a locator")
    };
    let mut headers = if locator.state().is_v4 {
        let mut headers = [0xaa; V4_LEN];
        encap::write_v4(lisp.rules, locator, &inner, &mut headers);
        headers.to_vec()
    } else {
        let mut headers = [0xaa; V6_LEN];
        encap::write_v6(lisp.rules, locator, &inner, &mut headers);
        headers.to_vec()
    };
    if is_summed {
        let checksum = encap::udp_checksum(lisp.rules, locator, &inner, packet);
        let at = headers.len() - 10;
        headers[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    headers
}

fn inner(len: usize, class: u8, is_v4: bool) -> Inner {
    Inner {
        len,
        class,
        hop_limit: 63,
        hash: 0x0123_4567_89ab_cdef,
        is_v4,
    }
}

/// D-02, D-04, D-10, D-12, D-13, D-14, D-21, D-22: every field of the headers over IPv6.
#[test]
fn over_ipv6_every_field_is_as_it_must_be() {
    let bytes = headers(settings(), "2001:db8:f::2", inner(100, 0xba, false), &[]);
    let (header, rest) = ipv6::Header::ref_from_prefix(&bytes).expect("a header");
    assert_eq!(bytes[0] >> 4, 6);
    assert_eq!(header.traffic_class(), 0xba);
    assert_ne!(header.flow_label(), 0);
    assert_eq!(
        bytes[4..6],
        116_u16.to_be_bytes(),
        "UDP, LISP and 100 bytes"
    );
    assert_eq!((bytes[6], bytes[7]), (17, 63));
    assert_eq!(
        bytes[8..24],
        "2001:db8:f::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
    );
    assert_eq!(
        bytes[24..40],
        "2001:db8:f::2"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets()
    );
    let (udp, lisp) = udp::Header::ref_from_prefix(rest).expect("a header");
    assert!(udp.source_port.get() >= 49152);
    assert_eq!(udp.destination_port.get(), 4341);
    assert_eq!(udp.length.get(), 116);
    assert_eq!(udp.checksum.get(), 0);
    assert_eq!(Header::read_from_bytes(lisp).expect("8 bytes").flags, 0);
    assert_eq!(lisp, [0; 8]);
}

/// F-05, D-12: over IPv4, with "don't fragment" and a right checksum.
#[test]
fn over_ipv4_every_field_is_as_it_must_be() {
    let bytes = headers(settings(), "192.0.2.9", inner(100, 3, true), &[]);
    assert_eq!(bytes[..4], [0x45, 3, 0, 136]);
    assert_eq!(bytes[4..8], [0, 0, 0x40, 0]);
    assert_eq!(bytes[8..10], [63, 17]);
    assert_eq!(checksum::sum(&bytes[..20]).checksum(), 0);
    assert_eq!(bytes[12..20], [192, 0, 2, 1, 192, 0, 2, 9]);
    assert_eq!(bytes[22..24], 4341_u16.to_be_bytes());
    assert_eq!(bytes[24..28], [0, 116, 0, 0]);
    assert_eq!(bytes[28..], [0; 8]);
}

/// RFC 2983: in the pipe model the outer code point is our own; congestion is still told (D-14).
#[test]
fn the_pipe_model_hides_the_code_point_but_not_congestion() {
    let mut settings = settings();
    settings.dscp = Dscp::Pipe;
    let bytes = headers(settings, "192.0.2.9", inner(100, 0xbb, false), &[]);
    assert_eq!(bytes[1], 3);
}

/// RFC 9305 3.1: the header names what follows.
#[test]
fn the_next_protocol_is_named() {
    for (is_v4, number) in [(true, 1), (false, 2)] {
        let mut settings = settings();
        settings.gpe = true;
        let bytes = headers(settings, "192.0.2.9", inner(100, 0, is_v4), &[]);
        assert_eq!(bytes[28..], [4, 0, 0, 0, 0, 0, 0, number]);
    }
}

/// What is prepared for a flow is what is made anew for each of its packets, whatever differs between them.
#[test]
fn prepared_headers_are_those_made_anew() {
    let pipe = Settings {
        dscp: Dscp::Pipe,
        ..settings()
    };
    let gpe = Settings {
        gpe: true,
        ..settings()
    };
    for (settings, rloc) in [settings(), pipe, gpe]
        .into_iter()
        .flat_map(|settings| ["2001:db8:f::2", "198.51.100.2"].map(|rloc| (settings.clone(), rloc)))
    {
        let (cache, leaf) = cache_to(settings, rloc);
        let lisp = Lisp::new(&cache, vec![]);
        let hash = 0x0123_4567_89ab_cdef;
        let Way::Encap(locator) = lisp.way(VRF, leaf, hash) else {
            panic!("the mapping has a locator")
        };
        let mut prepared = encap::prepare(lisp.rules, locator, hash);
        let is_v4 = locator.state().is_v4;
        for number in 0..100_000_usize {
            // Each class with each hop limit comes, and a length of its own.
            let [class, hop_limit, ..] = number.to_le_bytes();
            let len = 48 + number * 7 % 1413;
            let inner = Inner {
                len,
                class,
                hop_limit,
                hash,
                is_v4: false,
            };
            let inherited = encap::Inherited {
                first: [0x60 | class >> 4, class << 4 | 5],
                hop_limit,
            };
            encap::adapt(&mut prepared, is_v4, lisp.rules, inherited, len);
            if is_v4 {
                let (mut anew, mut ready) = ([0xaa; V4_LEN], [0xbb; V4_LEN]);
                encap::write_v4(lisp.rules, locator, &inner, &mut anew);
                encap::write(&prepared, &mut ready);
                assert_eq!(anew, ready);
            } else {
                let (mut anew, mut ready) = ([0xaa; V6_LEN], [0xbb; V6_LEN]);
                encap::write_v6(lisp.rules, locator, &inner, &mut anew);
                encap::write(&prepared, &mut ready);
                assert_eq!(anew, ready);
            }
        }
    }
}

/// D-19.
#[test]
fn a_packet_with_two_headers_is_nested() {
    let plain = [&[0x60, 0, 0, 0, 0, 8, 17, 64][..], &[1; 32], &[0; 8]].concat();
    let once = [
        headers(
            settings(),
            "2001:db8:f::2",
            inner(plain.len(), 0, false),
            &[],
        ),
        plain,
    ]
    .concat();
    let twice = [
        headers(settings(), "192.0.2.9", inner(once.len(), 0, false), &[]),
        once.clone(),
    ]
    .concat();
    assert!(!encap::is_nested(&once[56..], false));
    assert!(!encap::is_nested(&once, false));
    assert!(encap::is_nested(&twice, true));
    for len in 0..twice.len() {
        encap::is_nested(&twice[..len], true);
    }
}

proptest! {
    /// D-10: the checksum that is sent is the one the RFC's own sum finds right, whatever the packet.
    #[test]
    fn a_computed_checksum_is_right(
        packet in prop::collection::vec(any::<u8>(), 1..200),
        is_v4_outer: bool,
        gpe: bool,
        instance in 0_u32..1 << 24,
        hash: u64,
    ) {
        let mut settings = settings();
        settings.udp_checksum = true;
        settings.gpe = gpe;
        settings.instances[0].id = instance;
        let rloc = if is_v4_outer { "192.0.2.9" } else { "2001:db8:f::2" };
        let inner = Inner { hash, ..inner(packet.len(), 0, false) };
        let bytes = headers(settings, rloc, inner, &packet);
        let (ip, udp) = bytes.split_at(bytes.len() - 16);
        let addresses = if is_v4_outer { &ip[12..20] } else { &ip[8..40] };
        let len = Sum::word(16 + packet.len() as u16);
        let sum = checksum::sum(addresses) + len + Sum::word(17) + checksum::sum(udp) + checksum::sum(&packet);
        prop_assert_eq!(sum.checksum(), 0);
        prop_assert_ne!(&udp[6..8], &[0, 0]);
    }
}
