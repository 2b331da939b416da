//! Bursts whose packets are alike, but for one: the loops made for them beside the graph of nodes.

use dataplane::counters::ServerTotal;
use dataplane::reason::DropReason;
use dataplane::testing::builder::Packet;
use pipelines::Tables;
use pipelines::testing::HeapEdge;

use crate::bench::*;

const FRAMES: usize = 33;

/// What leaves: all of it in any order, ports of those that are usual in theirs; and what is counted: drops, of the first
/// rule, of ports, of servers.
type Seen = (
    Vec<(usize, Vec<u8>)>,
    Vec<(usize, [u8; 4])>,
    Vec<(DropReason, u64)>,
    [u64; 4],
    Vec<[u64; 2]>,
    Vec<ServerTotal>,
);

pub fn seen(bench: &mut Bench, port_index: usize, frames: &[Vec<u8>]) -> Seen {
    let mut sent = bench.receive(port_index, frames);
    // UDP, and not the odd one, whose client's port is 1.
    let is_usual =
        |frame: &[u8]| frame[20] == 17 && frame[54..56] != [0, 1] && frame[56..58] != [0, 1];
    let usual = sent.iter().filter(|(_, frame)| is_usual(frame));
    let in_order = usual.map(|(port, frame)| (*port, *frame[54..].first_chunk().expect("UDP")));
    let in_order = in_order.collect();
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
        in_order,
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
            .ipv6(address(PEER), address(BEHIND_HOST_OUTSIDE))
            .hop_limit(hop_limit)
            .udp(53, port, &data)
    } else {
        from_inside()
            .ipv6(address(HOST), address(PEER))
            .hop_limit(hop_limit)
            .udp(port, 53, &data)
    }
}

fn usual_frames(inbound: bool) -> Vec<Vec<u8>> {
    let frames = (0..FRAMES).map(|number| usual_packet(inbound, number, 64));
    frames.map(|packet| packet.build()).collect()
}

fn tables(way: Way) -> Tables {
    match way {
        Way::Plain => without_rule().build(),
        Way::Both => with_both_rules().build(),
        Way::Out | Way::In => usual().build(),
    }
}

/// By the rule of the usual box outwards, inwards, inwards and by another outwards, and without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
    Both,
    Plain,
}

impl Way {
    fn is_inbound(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }
}

/// Both directions of one rule, and plain forwarding, in bursts after others that were all alike; the odd packet is out of hops, or no UDP or TCP, or has no counterpart, or goes elsewhere, or is
/// multicast, or is cut short.
#[test]
fn one_packet_that_differs_changes_nothing_for_the_others() {
    let odd: [fn(bool) -> Vec<u8>; 6] = [
        |inbound| usual_packet(inbound, 3, 1).build(),
        |inbound| {
            let packet = if inbound {
                // Of another range, and not resolved.
                from_router().ipv6(address(PEER), address("2001:db8:1:d550::99"))
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
                // Of another range, and not resolved.
                from_router().ipv6(address(PEER), address("2001:db8:1:d550::99"))
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
    for way in [Way::Out, Way::In, Way::Both, Way::Plain] {
        let inbound = way.is_inbound();
        let from = if inbound { UPLINK } else { INSIDE };
        for odd in odd.map(|odd| odd(inbound)) {
            for at in [None, Some(0), Some(7), Some(FRAMES - 1)] {
                let mut frames = usual_frames(inbound);
                if let Some(at) = at {
                    frames[at] = odd.clone();
                }
                let usual = usual_frames(inbound);
                let [mut short, mut long] = [HeapEdge::new(), HeapEdge::without_express()]
                    .map(|edge| Bench::with(tables(way).into(), edge));
                for (round, frames) in [&usual, &usual, &frames, &frames, &usual]
                    .iter()
                    .enumerate()
                {
                    let what = format!("{way:?}, odd one at {at:?}, round {round}");
                    let seen = [&mut short, &mut long].map(|bench| seen(bench, from, frames));
                    assert_eq!(seen[0], seen[1], "{what}");
                    let sent = seen[0].1.len();
                    assert!(sent >= FRAMES - 1, "{what}: {sent}");
                    let counted = seen[0].3;
                    let packets = if inbound { counted[2] } else { counted[0] };
                    let least = (FRAMES - 1) * (round + 1) * usize::from(way != Way::Plain);
                    assert!(packets >= least as u64, "{what}: {packets} were translated");
                }
            }
        }
    }
}
