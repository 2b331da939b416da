use std::net::Ipv6Addr;
use std::sync::Arc;

use super::*;
use crate::counters::WorkerCounters;
use crate::outputs::TxPath;
use crate::reason::PuntReason;
use crate::ring::{Handoff, ring};
use crate::testing::HeapFrame;
use crate::testing::builder::{Packet, Packet4};
use crate::trace::Tracer;
use crate::wire::ethernet::Mac;

const SEED: u64 = 42;

fn packet(host: u16) -> Packet {
    Packet::anywhere().ipv6(
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host),
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
    )
}

fn hash(packet: &Packet) -> Option<u32> {
    flow_hash(SEED, &packet.build())
}

#[test]
fn the_payload_and_what_routers_change_do_not_count() {
    let flow = hash(&packet(1).udp(1000, 53, b"one"));
    assert!(flow.is_some());
    assert_eq!(flow, hash(&packet(1).udp(1000, 53, b"another")));
    assert_eq!(flow, hash(&packet(1).hop_limit(3).udp(1000, 53, b"one")));
    assert_eq!(
        flow,
        hash(&packet(1).traffic_class(9).flow_label(8).udp(1000, 53, b""))
    );
}

#[test]
fn tags_do_not_count() {
    let flow = hash(&packet(1).udp(1000, 53, b""));
    assert_eq!(flow, hash(&packet(1).vlan(7, 0).udp(1000, 53, b"")));
    assert_eq!(
        flow,
        hash(&packet(1).vlan(7, 0).vlan(8, 1).udp(1000, 53, b""))
    );
}

#[test]
fn every_part_of_the_flow_counts() {
    let hashes = [
        hash(&packet(1).udp(1000, 53, b"")),
        hash(&packet(2).udp(1000, 53, b"")),
        hash(&packet(1).udp(1001, 53, b"")),
        hash(&packet(1).udp(1000, 54, b"")),
        hash(&packet(1).tcp(1000, 53, b"")),
        hash(&packet(1).icmpv6_echo(1, 1, b"")),
        hash(
            &Packet::anywhere()
                .ipv6(
                    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
                    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
                )
                .udp(1000, 53, b""),
        ),
    ];
    for (index, hash) in hashes.iter().enumerate() {
        assert!(hash.is_some());
        assert!(!hashes[..index].contains(hash), "case {index} repeats one");
    }
    assert_ne!(
        hashes[0],
        flow_hash(43, &packet(1).udp(1000, 53, b"").build())
    );
}

#[test]
fn all_fragments_of_a_packet_stay_together() {
    let fragments = packet(1).udp(1000, 53, &[7; 3000]).build_fragments(5, 1000);
    assert!(fragments.len() > 2);
    let first = flow_hash(SEED, &fragments[0]);
    assert!(first.is_some());
    assert!(fragments.iter().all(|f| flow_hash(SEED, f) == first));
}

#[test]
fn no_flow_without_a_whole_ip_header() {
    let whole = packet(1).udp(1000, 53, b"").build();
    for len in 0..14 + HEADER_LEN {
        assert_eq!(flow_hash(SEED, &whole[..len]), None, "{len} bytes");
    }
    assert!(flow_hash(SEED, &whole[..14 + HEADER_LEN]).is_some());
    assert_eq!(hash(&packet(1).ether_type(0x88cc).udp(1, 2, b"")), None);
    let whole = packet4(1).udp(1000, 53, b"").build();
    for len in 0..14 + ipv4::HEADER_LEN {
        assert_eq!(flow_hash(SEED, &whole[..len]), None, "{len} bytes of IPv4");
    }
}

fn packet4(host: u8) -> Packet4 {
    let address = |last| std::net::Ipv4Addr::new(192, 0, 2, last);
    let mac = |last| Mac::from_octets([2, 0, 0, 0, 0, last]);
    Packet4::ethernet(mac(1), mac(2)).ipv4(address(host), address(200))
}

#[test]
fn an_ipv4_flow_is_addresses_protocol_and_ports() {
    let hash = |packet: &Packet4| flow_hash(SEED, &packet.build());
    let flow = hash(&packet4(1).udp(1000, 53, b"one"));
    let same = packet4(1).ttl(3).traffic_class(9).options(&[1; 4]);
    assert_eq!(flow, hash(&same.udp(1000, 53, b"another")));
    let others = [
        packet4(2).udp(1000, 53, b""),
        packet4(1).udp(1001, 53, b""),
        packet4(1).udp(1000, 54, b""),
        packet4(1).tcp(1000, 53, b""),
    ];
    for other in others {
        assert_ne!(flow, hash(&other));
    }
    // RFC 791: a fragment may have no ports, so none is taken to have any.
    let first = packet4(1).fragment(0, true).udp(1000, 53, b"12345678");
    let last = packet4(1).fragment(16, false).raw(17, b"rest");
    assert_eq!(hash(&first), hash(&last));
}

#[test]
fn flows_are_dealt_out_evenly() {
    for workers in 2..=5 {
        let spreader = Spreader::new(SEED, workers, 0);
        let mut share = vec![0_usize; workers];
        for host in 0..4000 {
            share[spreader.worker_of(&HeapFrame::new(&packet(host).udp(1, 2, b"").build()))] += 1;
        }
        let fair = 4000 / workers;
        assert!(
            share.iter().all(|n| n.abs_diff(fair) < fair / 8),
            "{workers} workers: {share:?}"
        );
    }
}

#[test]
fn what_is_ours_stays_in_order_and_the_rest_goes_to_its_worker() {
    let (producer, mut consumer) = ring(64);
    let (punts, _punted) = ring(1);
    let counters = Arc::new(WorkerCounters::new());
    let mut out: Outputs<HeapFrame, ()> = Outputs::new(
        vec![TxPath::Absent],
        vec![None, Some(producer)],
        punts,
        [(0, 0); PuntReason::COUNT],
        Arc::clone(&counters),
        Tracer::off(),
    );
    let port = PortId::new(3).expect("port 3 exists");
    let spreader = Spreader::new(SEED, 2, 0);
    let mut frames: Vec<Vec<u8>> = (0..40)
        .map(|host| packet(host).udp(1, 2, b"").build())
        .collect();
    frames.push(vec![0; 60]); // no flow: stays
    let mut burst: Burst<HeapFrame> = frames.iter().map(|f| HeapFrame::new(f)).collect();
    spreader.spread(port, &mut burst, &mut out);
    out.flush();

    let is_ours = |f: &&Vec<u8>| spreader.worker_of(&HeapFrame::new(f)) == 0;
    let (ours, theirs): (Vec<&Vec<u8>>, Vec<&Vec<u8>>) = frames.iter().partition(is_ours);
    assert!(ours.len() > 5 && theirs.len() > 5);
    let kept: Vec<&[u8]> = burst.iter().map(Frame::bytes).collect();
    assert_eq!(kept, ours);
    let handed: Vec<Vec<u8>> = std::iter::from_fn(|| consumer.pop().ok())
        .map(|item| match item {
            Handoff::Received { port: from, frame } if from == port => frame.bytes().to_vec(),
            other => panic!("not a received frame of port 3: {other:?}"),
        })
        .collect();
    assert_eq!(handed.iter().collect::<Vec<_>>(), theirs);
    assert_eq!(counters.spread_out.read(), theirs.len() as u64); // `as`: a count
}
