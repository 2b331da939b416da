//! Direct return by IP6IP6 (RFC 2473).

use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::Packet;
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

#[test]
fn the_packet_travels_inside_one_of_ours() {
    let mut site = site(1);
    let packet = from_client(1)
        .traffic_class(0x2b)
        .hop_limit(9)
        .udp(5, 443, b"question");
    let sent = site.bench.receive(UPLINK, &[packet.build()]);
    let inner = packet.hop_limit(8).build_ipv6();
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
