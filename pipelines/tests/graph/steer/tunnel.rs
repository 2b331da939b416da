//! Direct return by tunnels: IP6IP6 (RFC 2473), IPv6 in IPv4 (RFC 4213), GUE.

use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::{Packet, Packet4};
use pipelines::steer::Mode;

use super::*;
use crate::{error, ip};

const SOURCE: &str = "2001:db8:5::1";

fn site(count: u8) -> Site {
    let mode = Mode::Ip6Ip6 {
        source: address(SOURCE),
    };
    Site::new(pool(servers(count), mode), services())
}

/// One more packet of a flow that goes on takes the short way, and leaves like the first, which did not; and one that is
/// too large is told so there too.
fn assert_goes_on_as_it_began(site: &mut Site, room: usize) {
    let packet = from_client(1).traffic_class(0x2b).hop_limit(9);
    for payload in [&b"question"[..], b"odd", b""] {
        let frame = packet.clone().udp(5, 443, payload).build();
        let bursts = (0..4).map(|_| site.bench.receive(UPLINK, std::slice::from_ref(&frame)));
        let sent: Vec<_> = bursts.flatten().collect();
        assert_eq!(sent.len(), 4);
        assert!(sent.iter().all(|other| *other == sent[0]), "{sent:?}");
    }
    assert_eq!(site.counted(0).0, 12);
    let udp = |len: usize| packet.clone().udp(5, 443, &vec![7; len - 48]).build();
    assert_eq!(site.bench.receive(UPLINK, &[udp(room)])[0].0, INSIDE);
    assert_eq!(site.bench.receive(UPLINK, &[udp(room + 1)])[0].0, UPLINK);
    let expired = packet.hop_limit(1).udp(5, 443, b"late").build();
    assert_eq!(site.bench.receive(UPLINK, &[expired])[0].0, UPLINK);
    assert_eq!(
        site.bench.drops(),
        [(DropReason::HopLimit, 1), (DropReason::PacketTooBig, 1)]
    );
}

#[test]
fn every_packet_of_a_flow_leaves_like_its_first() {
    assert_goes_on_as_it_began(&mut site(1), 1460);
    assert_goes_on_as_it_began(&mut site_v4(1, "198.18.0.0/20"), 1480);
    assert_goes_on_as_it_began(&mut site_gue(1, true), 1448);
    assert_goes_on_as_it_began(&mut site_gue(1, false), 1448);
}

#[test]
fn the_packet_travels_inside_one_of_ours() {
    let mut site = site(1);
    let packet = from_client(1)
        .traffic_class(0x2b)
        .hop_limit(9)
        .udp(5, 443, b"question");
    let sent = site.bench.receive(UPLINK, &[packet.build()]);
    let inner = packet.clone().hop_limit(8).build_ipv6();
    let (port, frame) = &sent[0];
    let label = u32::from_be_bytes(frame[14..18].try_into().expect("4 bytes")) & 0xf_ffff;
    let expected = Packet::ethernet(mac(1), mac(0x80))
        .ipv6(address(SOURCE), server_address(0x80))
        .traffic_class(0x2b)
        .flow_label(label)
        .hop_limit(64)
        .raw(41, &inner)
        .build();
    assert_eq!((*port, frame), (INSIDE, &expected));
    assert_ne!(label, 0);
    assert_eq!(site.counted(0).0, 1);
}

/// RFC 6438 3: servers spread by the outer label, which is that of the flow and no other's.
#[test]
fn flows_have_labels_of_their_own() {
    let mut site = site(3);
    let labels = |site: &mut Site| -> Vec<_> {
        let sent = site.bench.receive(UPLINK, &acks(1000));
        sent.iter()
            .map(|(_, frame)| frame[15..18].to_vec())
            .collect()
    };
    let first = labels(&mut site);
    assert_eq!(labels(&mut site), first);
    let distinct: std::collections::HashSet<_> = first.iter().collect();
    assert!(distinct.len() > 950, "{}", distinct.len());
}

#[test]
fn what_does_not_fit_is_told_of_the_room_inside() {
    let mut site = site(1);
    let fits = from_client(0).tcp(1, 443, &[0; 1400]).build();
    assert_eq!(site.bench.receive(UPLINK, &[fits])[0].0, INSIDE);
    let large = from_client(0).tcp(1, 443, &[0; 1401]).build();
    let sent = site.bench.receive(UPLINK, std::slice::from_ref(&large));
    let (kind, _, mtu, quote) = error(ip(&sent[0].1));
    assert_eq!((kind, mtu), (2, 1460));
    assert_eq!(quote, &ip(&large)[..quote.len()]);
    let expired = from_client(0).hop_limit(1).tcp(1, 443, b"").build();
    let sent = site.bench.receive(UPLINK, std::slice::from_ref(&expired));
    assert_eq!(error(ip(&sent[0].1)).3, ip(&expired));
    assert_eq!(
        site.bench.drops(),
        [(DropReason::HopLimit, 1), (DropReason::PacketTooBig, 1)]
    );
}

#[test]
fn a_server_need_not_be_on_a_link_of_ours() {
    let mut site = site(1);
    site.change(|settings| settings.pools[0].servers[0].address = address("2600:7::7"));
    let sent = site.bench.receive(UPLINK, &acks(1));
    let (port, frame) = &sent[0];
    assert_eq!((*port, &frame[..6]), (UPLINK, &mac(0x22).octets()[..]));
    assert_eq!(frame[14 + 24..14 + 40], address("2600:7::7").octets());
}

#[test]
fn the_outer_packet_waits_for_a_server_that_is_not_resolved() {
    let mut site = site(1);
    let resolved = std::mem::replace(
        &mut site.bench.tables,
        network(0).build_in(&mut site.rib).into(),
    );
    assert_eq!(site.bench.receive(UPLINK, &acks(1)), []);
    let waiting = site.bench.punted().pop().expect("one packet");
    assert_eq!(waiting.reason, PuntReason::NeighborMiss);
    let target = site.bench.tables.unresolved(&waiting.frame, &waiting.meta);
    let server = server_address(0x80).into();
    assert_eq!(target, Some((interface_id(0), server)));
    site.bench.tables = resolved;
    let sent = site.bench.resume(vec![(waiting.frame, waiting.meta)]);
    assert_eq!(sent[0].0, INSIDE);
    assert_eq!(sent[0].1[..6], mac(0x80).octets());
    assert_eq!(sent[0].1[14 + 40..].len(), 60, "one outer header");
}

/// A box whose servers have IPv4 addresses: `10.0.5.128` and up, by MAC address of the same number.
fn network_v4(known: u8) -> Builder {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["10.0.5.1/24"]));
    let uplink = builder.interface(interface(UPLINK, &["2001:db8:ffff::2/64"]));
    builder.neighbor(uplink, ip_address(ROUTER), mac(0x22));
    for number in 0x80..0x80 + known {
        builder.neighbor(inside, ip_address(&format!("10.0.5.{number}")), mac(number));
    }
    let hop = Hop {
        interface: uplink,
        via: Some(ip_address(ROUTER)),
        weight: 1,
    };
    builder.route(VrfId(0), net("::/0"), Route::Hops(vec![hop]));
    builder
}

fn site_v4(count: u8, source: &str) -> Site {
    let mode = Mode::IpIp {
        source: source.parse().expect("a prefix"),
    };
    let mut servers = servers(count);
    for (server, number) in servers.iter_mut().zip(0x80_u8..) {
        server.address = std::net::Ipv4Addr::new(10, 0, 5, number).to_ipv6_mapped();
    }
    let mut site = Site::new(pool(servers, mode), services());
    site.bench.tables = Arc::new(network_v4(count).build_in(&mut site.rib));
    site.rib.commit();
    site
}

/// RFC 4213 3.5: IPv6 in IPv4, class and congestion notification those of the packet (RFC 6040 4.1).
#[test]
fn the_packet_travels_inside_one_of_ipv4() {
    let mut site = site_v4(1, "10.0.5.1/32");
    let packet = from_client(1)
        .traffic_class(0x2b)
        .hop_limit(9)
        .udp(5, 443, b"question");
    let sent = site.bench.receive(UPLINK, &[packet.build()]);
    let inner = packet.clone().hop_limit(8).build_ipv6();
    let (port, frame) = &sent[0];
    let expected = Packet4::ethernet(mac(1), mac(0x80))
        .ipv4(
            "10.0.5.1".parse().expect("an address"),
            "10.0.5.128".parse().expect("an address"),
        )
        .traffic_class(0x2b)
        .ttl(64)
        .dont_fragment()
        .raw(41, &inner)
        .build();
    assert_eq!((*port, frame), (INSIDE, &expected));
    assert_eq!(site.counted(0).0, 1);
}

/// Servers' cards look at addresses alone where there are no ports: flows have sources of their own.
#[test]
fn flows_have_ipv4_sources_of_their_own() {
    let mut site = site_v4(3, "198.18.0.0/20");
    let sources = |site: &mut Site| -> Vec<_> {
        let sent = site.bench.receive(UPLINK, &acks(1000));
        sent.iter()
            .map(|(_, frame)| frame[26..30].to_vec())
            .collect()
    };
    let first = sources(&mut site);
    assert_eq!(sources(&mut site), first);
    assert!(
        first
            .iter()
            .all(|source| source[..2] == [198, 18] && source[2] < 16)
    );
    let distinct: std::collections::HashSet<_> = first.iter().collect();
    assert!(distinct.len() > 800, "{}", distinct.len());
}

#[test]
fn by_ipv4_there_is_more_room_and_a_server_is_asked_for_like_any() {
    let mut site = site_v4(1, "10.0.5.1/32");
    let fits = from_client(0).tcp(1, 443, &[0; 1420]).build();
    assert_eq!(site.bench.receive(UPLINK, &[fits])[0].0, INSIDE);
    let large = from_client(0).tcp(1, 443, &[0; 1421]).build();
    let sent = site.bench.receive(UPLINK, &[large]);
    let (kind, _, mtu, _) = error(ip(&sent[0].1));
    assert_eq!((kind, mtu), (2, 1480));
    assert_eq!(site.bench.drops(), [(DropReason::PacketTooBig, 1)]);
    site.bench.tables = Arc::new(network_v4(0).build_in(&mut site.rib));
    assert_eq!(site.bench.receive(UPLINK, &acks(1)), []);
    let waiting = site.bench.punted().pop().expect("one packet");
    assert_eq!(waiting.reason, PuntReason::NeighborMiss);
    let target = site.bench.tables.unresolved(&waiting.frame, &waiting.meta);
    assert_eq!(
        target.map(|(_, server)| server),
        Some(ip_address("10.0.5.128"))
    );
    site.bench.tables = Arc::new(network_v4(1).build_in(&mut site.rib));
    let sent = site.bench.resume(vec![(waiting.frame, waiting.meta)]);
    assert_eq!((sent[0].0, sent[0].1.len()), (INSIDE, 14 + 20 + 60));
}

fn site_gue(count: u8, checksum: bool) -> Site {
    let mode = Mode::Gue {
        source: address(SOURCE),
        port: 6080,
        checksum,
    };
    Site::new(pool(servers(count), mode), services())
}

/// draft-ietf-intarea-gue 3: variant 0 without options before an IPv6 packet; RFC 8200 8.1: the checksum.
#[test]
fn the_packet_travels_in_a_datagram() {
    let mut site = site_gue(1, true);
    let packet = from_client(1)
        .traffic_class(0x2b)
        .hop_limit(9)
        .tcp(5, 443, b"odd");
    let sent = site.bench.receive(UPLINK, &[packet.build()]);
    let inner = packet.clone().hop_limit(8).build_ipv6();
    let (port, frame) = &sent[0];
    let label = u32::from_be_bytes(frame[14..18].try_into().expect("4 bytes")) & 0xf_ffff;
    let from = u16::from_be_bytes(frame[54..56].try_into().expect("2 bytes"));
    let expected = Packet::ethernet(mac(1), mac(0x80))
        .ipv6(address(SOURCE), server_address(0x80))
        .traffic_class(0x2b)
        .flow_label(label)
        .hop_limit(64)
        .udp(from, 6080, &[&[0, 41, 0, 0][..], &inner].concat())
        .build();
    assert_eq!((*port, frame), (INSIDE, &expected));
    assert!(label != 0 && from >= 49152);
    // I7 (RFC 6935 5): the operator may do without the checksum.
    let mut site = site_gue(1, false);
    let sent = site.bench.receive(UPLINK, &[packet.hop_limit(9).build()]);
    assert_eq!(sent[0].1[60..62], [0, 0]);
    assert_eq!(sent[0].1[62..], expected[62..]);
}

#[test]
fn flows_have_udp_ports_of_their_own() {
    let mut site = site_gue(3, true);
    let sent = site.bench.receive(UPLINK, &acks(1000));
    let ports: std::collections::HashSet<_> = sent
        .iter()
        .map(|(_, frame)| frame[54..56].to_vec())
        .collect();
    assert!(ports.len() > 900, "{}", ports.len());
    let large = from_client(0).tcp(1, 443, &[0; 1389]).build();
    let sent = site.bench.receive(UPLINK, &[large]);
    let (kind, _, mtu, _) = error(ip(&sent[0].1));
    assert_eq!((kind, mtu), (2, 1448));
}
