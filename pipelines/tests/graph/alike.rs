//! Bursts whose packets are alike, but for one: the loops made for them beside the graph of nodes.

use dataplane::counters::ServerTotal;
use dataplane::reason::DropReason;
use dataplane::testing::builder::Packet;
use pipelines::testing::HeapEdge;

use crate::bench::*;

const FRAMES: usize = 33;

/// What leaves, in any order, and what is counted: drops, of the first rule, of ports, of servers.
type Seen = (
    Vec<(usize, Vec<u8>)>,
    Vec<(DropReason, u64)>,
    [u64; 4],
    Vec<[u64; 2]>,
    Vec<ServerTotal>,
);

pub fn seen(bench: &mut Bench, port_index: usize, frames: &[Vec<u8>]) -> Seen {
    let mut sent = bench.receive(port_index, frames);
    sent.sort_unstable();
    let counters = &bench.counters;
    let rule = &counters.rules[0];
    let rule = [
        &rule.out.packets,
        &rule.out.bytes,
        &rule.r#in.packets,
        &rule.r#in.bytes,
    ];
    let tx = |port: usize| {
        [
            &counters.ports[port].tx.packets,
            &counters.ports[port].tx.bytes,
        ]
    };
    (
        sent,
        bench.drops(),
        rule.map(|cell| cell.read()),
        (0..2)
            .map(|port| tx(port).map(|cell| cell.read()))
            .collect(),
        counters
            .servers
            .iter()
            .take(8)
            .map(|server| server.read())
            .collect(),
    )
}

/// Packet `number` of a burst, of its own length.
fn usual_packet(inbound: bool, number: usize, hop_limit: u8) -> Packet {
    let data = vec![7; number % 5];
    let port = 1000 + u16::try_from(number).expect("few packets");
    if inbound {
        from_router()
            .ipv6(address(PEER), address(HOST_OUTSIDE))
            .hop_limit(hop_limit)
            .udp(53, port, &data)
    } else {
        from_inside()
            .ipv6(address(HOST), address(PEER))
            .hop_limit(hop_limit)
            .udp(port, 53, &data)
    }
}

/// Both directions of one rule; the odd packet is out of hops, or no UDP or TCP, or has no counterpart, or goes elsewhere, or is
/// multicast, or is cut short.
#[test]
fn one_packet_that_differs_changes_nothing_for_the_others() {
    let odd: [fn(bool) -> Vec<u8>; 6] = [
        |inbound| usual_packet(inbound, 3, 1).build(),
        |inbound| {
            let packet = if inbound {
                from_router().ipv6(address(PEER), address(HOST_OUTSIDE))
            } else {
                from_inside().ipv6(address(HOST), address(PEER))
            };
            packet.raw(59, b"").build()
        },
        |inbound| {
            let packet = if inbound {
                from_router().ipv6(address(PEER), address("2001:db8:1:ffff::1"))
            } else {
                from_inside().ipv6(address("fd01:203:405:ffff::1"), address(PEER))
            };
            packet.udp(1, 2, b"").build()
        },
        |inbound| {
            let packet = if inbound {
                from_router().ipv6(address(PEER), address(UPLINK_ADDRESS))
            } else {
                from_inside().ipv6(address(HOST), address("fd01:203:405:1::7"))
            };
            packet.udp(1, 2, b"").build()
        },
        |inbound| {
            let from = if inbound {
                from_router()
            } else {
                from_inside()
            };
            from.ipv6(address(PEER), address("ff0e::1"))
                .udp(1, 2, b"")
                .build()
        },
        |inbound| {
            let mut frame = usual_packet(inbound, 3, 64).build();
            frame.truncate(56);
            frame
        },
    ];
    for inbound in [false, true] {
        let from = if inbound { UPLINK } else { INSIDE };
        for odd in odd.map(|odd| odd(inbound)) {
            for at in [None, Some(0), Some(7), Some(FRAMES - 1)] {
                let mut frames: Vec<_> = (0..FRAMES)
                    .map(|number| usual_packet(inbound, number, 64).build())
                    .collect();
                if let Some(at) = at {
                    frames[at] = odd.clone();
                }
                let sides = [HeapEdge::new(), HeapEdge::without_express()];
                let [short, long] = sides.map(|edge| {
                    let mut bench = Bench::with(usual().build().into(), edge);
                    seen(&mut bench, from, &frames)
                });
                assert_eq!(short, long, "inbound: {inbound}, odd one: {at:?}");
                let (counted, usual) = (short.2, FRAMES - usize::from(at.is_some()));
                let packets = if inbound { counted[2] } else { counted[0] };
                assert!(packets >= usual as u64, "{packets} were translated");
            }
        }
    }
}
