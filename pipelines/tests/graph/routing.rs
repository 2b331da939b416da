//! Where packets go: next hops, ECMP, resolution, VRFs.

use crate::bench::*;
use crate::{error, ip};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::Packet;
use pipelines::tables::{Builder, Hop, Route, VrfId};

#[test]
fn unresolved_next_hops_are_punted_and_go_on_when_resolved() {
    let mut bench = Bench::new(usual());
    let packet = from_inside()
        .ipv6(address(HOST), address("2001:db8:ffff::77"))
        .udp(1, 2, b"first")
        .build();
    assert_eq!(bench.receive(INSIDE, std::slice::from_ref(&packet)), []);
    let mut punted = bench.punted();
    let waiting = punted.pop().expect("one packet");
    assert_eq!(waiting.reason, PuntReason::NeighborMiss);
    let target = bench.tables.unresolved(&waiting.frame, &waiting.meta);
    assert_eq!(
        target,
        Some((interface_id(1), ip_address("2001:db8:ffff::77")))
    );

    // Unanswered: RFC 4861 7.2.2, with the quote as sent.
    let unanswered = (waiting.frame.clone(), waiting.meta.unreachable());
    let sent = bench.resume(vec![unanswered]);
    let (kind, code, _, quote) = error(ip(&sent[0].1));
    assert_eq!((kind, code, quote), (1, 3, ip(&packet)));
    assert_eq!(bench.drops(), [(DropReason::NeighborUnresolved, 1)]);

    // Resolved: it goes on, translated, one hop less.
    let mut builder = usual();
    builder.neighbor(interface_id(1), ip_address("2001:db8:ffff::77"), mac(0x77));
    bench.tables = builder.build().into();
    assert_eq!(bench.tables.unresolved(&waiting.frame, &waiting.meta), None);
    let sent = bench.resume(vec![(waiting.frame, waiting.meta)]);
    let expected = Packet::ethernet(mac(2), mac(0x77))
        .ipv6(address(HOST_OUTSIDE), address("2001:db8:ffff::77"))
        .hop_limit(63)
        .udp(1, 2, b"first")
        .build();
    assert_eq!(sent, [(UPLINK, expected)]);
}

#[test]
fn routes_blackhole_unreachable_and_missing() {
    let mut builder = usual();
    builder.route(VrfId(0), net("2600:2::/32"), Route::Blackhole);
    builder.route(VrfId(0), net("2600:3::/32"), Route::Unreachable);
    let mut bench = Bench::new(builder);
    let to = |text: &str| {
        from_inside()
            .ipv6(address(HOST), address(text))
            .udp(1, 2, b"")
            .build()
    };
    assert_eq!(bench.receive(INSIDE, &[to("2600:2::1")]), []);
    let sent = bench.receive(INSIDE, &[to("2600:3::1")]);
    let (kind, code, ..) = error(ip(&sent[0].1));
    assert_eq!((kind, code), (1, 0));
    assert_eq!(
        bench.drops(),
        [(DropReason::NoRoute, 1), (DropReason::Blackhole, 1)]
    );
}

/// ECMP: one flow one way, many flows by weight; by flow label when there is one (RFC 7098).
#[test]
fn ecmp_shares_flows_by_weight_and_keeps_each_on_one_way() {
    let mut builder = usual();
    builder.neighbor(interface_id(1), ip_address("2001:db8:ffff::7"), mac(0x77));
    let hop = |text: &str, weight| Hop {
        interface: interface_id(1),
        via: Some(ip_address(text)),
        weight,
    };
    builder.route(
        VrfId(0),
        net("2600::/16"),
        Route::Hops(vec![hop(ROUTER, 1), hop("2001:db8:ffff::7", 3)]),
    );
    let mut bench = Bench::new(builder);
    let flow = |port: u16, label: u32| {
        from_inside()
            .ipv6(address(HOST), address(PEER))
            .flow_label(label)
            .udp(port, 2, b"")
            .build()
    };
    let way = |frame: &[u8]| frame[5];
    let by_port: Vec<u8> = bench
        .receive(INSIDE, &(0..4000).map(|n| flow(n, 0)).collect::<Vec<_>>())
        .iter()
        .map(|(_, f)| way(f))
        .collect();
    let heavy = by_port.iter().filter(|last| **last == 0x77).count();
    assert!(
        (2800..3200).contains(&heavy),
        "{heavy} of 4000, 3000 expected"
    );
    let again: Vec<u8> = bench
        .receive(INSIDE, &(0..4000).map(|n| flow(n, 0)).collect::<Vec<_>>())
        .iter()
        .map(|(_, f)| way(f))
        .collect();
    assert_eq!(by_port, again);
    // With a label, ports do not count.
    let labelled = bench.receive(INSIDE, &(0..100).map(|n| flow(n, 5)).collect::<Vec<_>>());
    assert!(
        labelled
            .iter()
            .all(|(_, frame)| way(frame) == way(&labelled[0].1))
    );
}

#[test]
fn a_down_interface_is_avoided_by_ecmp_and_answered_alone() {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["fd01:203:405:1::1/64"]));
    let mut down = interface(UPLINK, &["2001:db8:ffff::2/64"]);
    down.up = false;
    let down = builder.interface(down);
    let other = builder.interface(interface(2, &["2001:db8:eeee::2/64"]));
    builder.neighbor(inside, ip_address(HOST), mac(0x11));
    builder.neighbor(down, ip_address(ROUTER), mac(0x22));
    builder.neighbor(other, ip_address("2001:db8:eeee::1"), mac(0x44));
    let via_down = Hop {
        interface: down,
        via: Some(ip_address(ROUTER)),
        weight: 1,
    };
    let via_other = Hop {
        interface: other,
        via: Some(ip_address("2001:db8:eeee::1")),
        weight: 1,
    };
    builder.route(
        VrfId(0),
        net("::/0"),
        Route::Hops(vec![via_down.clone(), via_other]),
    );
    builder.route(VrfId(0), net("2600:9::/32"), Route::Hops(vec![via_down]));
    let mut bench = Bench::new(builder);
    let flows: Vec<_> = (0..64)
        .map(|n| {
            from_inside()
                .ipv6(address(HOST), address(PEER))
                .udp(n, 2, b"")
                .build()
        })
        .collect();
    let sent = bench.receive(INSIDE, &flows);
    assert!(sent.len() == 64 && sent.iter().all(|(port, _)| *port == 2));
    let sent = bench.receive(
        INSIDE,
        &[from_inside()
            .ipv6(address(HOST), address("2600:9::1"))
            .udp(1, 2, b"")
            .build()],
    );
    assert_eq!((sent[0].0, error(ip(&sent[0].1)).0), (INSIDE, 1));
    assert_eq!(bench.drops(), [(DropReason::InterfaceDown, 1)]);
}

/// Packets of one burst that belong to different VRFs, in runs of any length, are each looked up in their own.
#[test]
fn vrfs_of_one_burst_are_kept_apart() {
    let mut builder = usual();
    let mut tenant = interface(INSIDE, &["fd01:203:405:1::1/64"]);
    (tenant.vrf, tenant.vlan) = (VrfId(1), vec![5]);
    builder.interface(tenant);
    let mut abroad = interface(2, &["2001:db8:fffe::2/64"]);
    abroad.vrf = VrfId(1);
    let abroad = builder.interface(abroad);
    builder.neighbor(abroad, ip_address("2001:db8:fffe::1"), mac(0x33));
    let hop = Hop {
        interface: abroad,
        via: Some(ip_address("2001:db8:fffe::1")),
        weight: 1,
    };
    builder.route(VrfId(1), net("::/0"), Route::Hops(vec![hop]));
    let mut bench = Bench::new(builder);
    let packet = |is_tenant: bool, port: u16| {
        let link = if is_tenant {
            from_inside().vlan(5, 0)
        } else {
            from_inside()
        };
        link.ipv6(address(HOST), address(PEER))
            .udp(port, 2, b"")
            .build()
    };
    let pattern = [true, false, false, true, true, true, false, true, false];
    let frames: Vec<_> = (0..60_u16)
        .map(|number| packet(pattern[usize::from(number) % pattern.len()], number))
        .collect();
    let mut sent = bench.receive(INSIDE, &frames);
    // A port's frames leave together; their source ports say which they are.
    sent.sort_by_key(|(_, frame)| u16::from_be_bytes([frame[54], frame[55]]));
    assert_eq!(sent.len(), frames.len());
    for ((port, frame), number) in sent.iter().zip(0_u16..) {
        assert_eq!(frame[54..56], number.to_be_bytes());
        let expected = if pattern[usize::from(number) % pattern.len()] {
            (2, 0x33)
        } else {
            (UPLINK, 0x22)
        };
        assert_eq!((*port, frame[5]), expected);
    }
    assert_eq!(bench.drops(), []);
}

/// Interfaces of two VRFs with overlapping addresses do not see each other.
#[test]
fn vrfs_are_separate() {
    let mut builder = usual();
    let mut tenant = interface(2, &["fd01:203:405:1::1/64"]);
    tenant.vrf = VrfId(1);
    let tenant = builder.interface(tenant);
    builder.neighbor(tenant, ip_address(HOST), mac(0x55));
    let mut bench = Bench::new(builder);
    let packet = Packet::ethernet(mac(0x55), mac(3))
        .ipv6(address("fd01:203:405:1::5"), address(HOST))
        .udp(1, 2, b"");
    let sent = bench.receive(2, &[packet.build()]);
    assert_eq!((sent[0].0, sent[0].1[5]), (2, 0x55));
    let abroad = Packet::ethernet(mac(0x55), mac(3))
        .ipv6(address(HOST), address(PEER))
        .udp(1, 2, b"")
        .build();
    let sent = bench.receive(2, &[abroad]);
    assert_eq!(error(ip(&sent[0].1)).0, 1, "no default route in VRF 1");
}
