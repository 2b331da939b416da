//! Fragments that come before their first one. Issue 6, 3.
//!
//! Every test runs by the short way and by the graph of nodes.

use std::net::Ipv6Addr;

use dataplane::reason::DropReason;
use pipelines::steer::Mode;

use super::*;

const SOURCE: &str = "2001:db8:5::a0";
const MODES: usize = 6;

fn mode(number: usize) -> Mode {
    let source = address("2001:db8:5::1");
    match number {
        0 => Mode::L2,
        1 => Mode::Ip6Ip6 { source },
        2 => Mode::Gue {
            source,
            port: 6080,
            checksum: true,
        },
        3 => Mode::Dnat { port: None },
        4 => Mode::Dnat { port: Some(8443) },
        _ => Mode::FullNat { port: Some(8443) },
    }
}

fn site(mode: Mode, edge: HeapEdge) -> Site {
    let pool = PoolSpec {
        sources: match mode {
            Mode::FullNat { .. } => vec![address(SOURCE)],
            _ => vec![],
        },
        ..pool(servers(5), mode)
    };
    let mut site = Site::with(pool, services(), edge);
    site.change(|_| {});
    site.rib.set_steering_time(10);
    site
}

fn sites(number: usize) -> [Site; 2] {
    [HeapEdge::new(), HeapEdge::without_express()].map(|edge| site(mode(number), edge))
}

/// The pieces of a datagram of a client.
fn question(client: u16, id: u32) -> Vec<Vec<u8>> {
    let whole = from_client(client << 8).udp(1000 + client, 443, &[7; 3000]);
    whole.build_fragments(id, 1200)
}

/// Those of what a server answers to what it was sent: its address, and who asked.
fn answer(sent: &[(usize, Vec<u8>)], id: u32) -> Vec<Vec<u8>> {
    let packet = &sent[0].1[14..];
    let at = |offset: usize| -> [u8; 16] { packet[offset..offset + 16].try_into().expect("16") };
    let port = |offset: usize| u16::from_be_bytes([packet[offset], packet[offset + 1]]);
    let (asked, asker) = (Ipv6Addr::from(at(24)), Ipv6Addr::from(at(8)));
    let number = sent[0].1[5];
    let reply = Packet::ethernet(mac(number), mac(1)).ipv6(asked, asker);
    let reply = reply.udp(port(48 + 2), port(48), &[9; 3000]);
    reply.build_fragments(id, 1200)
}

fn sorted(mut sent: Vec<(usize, Vec<u8>)>) -> Vec<(usize, Vec<u8>)> {
    sent.sort_unstable();
    sent
}

const ORDERS: [[usize; 3]; 5] = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// In every mode, both ways, in every order, in one burst and in one each: what leaves is what leaves of fragments in order.
#[test]
fn fragments_in_any_order_leave_as_in_order() {
    for number in 0..MODES {
        let [short, long] = sites(number);
        let mut twins = sites(number).into_iter();
        for mut site in [short, long] {
            let mut twin = twins.next().expect("as many");
            for (id, order) in (1..).zip(ORDERS.repeat(2)) {
                let is_alone = id > ORDERS.len() as u32; // `as`: five
                let client = id as u16; // `as`: ten
                let mut pass = |port, pieces: &[Vec<u8>]| {
                    let expected = twin.bench.receive(port, pieces);
                    let turned: Vec<_> = order.iter().map(|at| pieces[*at].clone()).collect();
                    let sent = if is_alone {
                        let bursts = turned.chunks(1);
                        bursts
                            .flat_map(|burst| site.bench.receive(port, burst))
                            .collect()
                    } else {
                        site.bench.receive(port, &turned)
                    };
                    assert_eq!(sent.len(), 3, "{number} {order:?}");
                    assert_eq!(sorted(sent), sorted(expected.clone()), "{number} {order:?}");
                    expected
                };
                let asked = pass(UPLINK, &question(client, id));
                if matches!(mode(number), Mode::Dnat { .. } | Mode::FullNat { .. }) {
                    let home = pass(INSIDE, &answer(&asked, id));
                    assert!(home.iter().all(|(port, _)| *port == UPLINK));
                }
            }
            assert_eq!(site.bench.drops(), []);
            assert_eq!(site.bench.waiting(), 0);
        }
    }
}

/// Without a first one they are dropped when their time is over, if nothing else comes too; with one that comes in time
/// they go on, and wait for no other.
#[test]
fn who_waits_in_vain_is_dropped() {
    for number in 0..MODES {
        for mut site in sites(number) {
            let pieces = question(1, 5);
            assert_eq!(site.bench.receive(UPLINK, &pieces[1..]), []);
            site.rib.set_steering_time(11);
            assert_eq!(site.bench.idle(), []);
            // Another packet's first one is none of theirs.
            assert_eq!(site.bench.receive(UPLINK, &question(1, 6)).len(), 3);
            assert_eq!(site.bench.receive(UPLINK, &question(2, 5)).len(), 3);
            assert_eq!((site.bench.waiting(), site.bench.drops()), (2, vec![]));
            assert_eq!(site.bench.receive(UPLINK, &pieces[..1]).len(), 3);
            assert_eq!(site.bench.waiting(), 0);

            let pieces = question(1, 7);
            assert_eq!(site.bench.receive(UPLINK, &pieces[1..]), []);
            site.rib.set_steering_time(13);
            assert_eq!((site.bench.idle(), site.bench.waiting()), (vec![], 2));
            site.rib.set_steering_time(14);
            assert_eq!((site.bench.idle(), site.bench.waiting()), (vec![], 0));
            assert_eq!(site.bench.drops(), [(DropReason::SteerFragment, 2)]);
            // Too late, and alone.
            assert_eq!(site.bench.receive(UPLINK, &pieces[..1]).len(), 1);
            // A packet that goes by the short way passes time as well.
            assert_eq!(site.bench.receive(UPLINK, &question(3, 8)[1..]), []);
            site.rib.set_steering_time(17);
            assert_eq!(site.bench.receive(UPLINK, &[segment(1, 0x10)]).len(), 1);
            assert_eq!(site.bench.drops(), [(DropReason::SteerFragment, 4)]);
        }
    }
}

/// As many as there is room for, then the one that waited longest makes room; at the end all are dropped.
#[test]
fn only_so_many_wait() {
    const ROOM: usize = 256;
    for mut site in sites(0) {
        for id in 0..400_u32 {
            assert_eq!(site.bench.receive(UPLINK, &question(1, id)[1..2]), []);
            let waiting = ROOM.min(1 + id as usize); // `as`: 400
            assert_eq!(site.bench.waiting(), waiting);
        }
        let lost = 400 - ROOM as u64; // `as`: 256
        assert_eq!(site.bench.drops(), [(DropReason::SteerFragment, lost)]);
        // Bursts of as many as waited, whose first ones all come at once.
        let firsts: Vec<_> = (0..400).map(|id| question(1, id)[0].clone()).collect();
        assert_eq!(site.bench.receive(UPLINK, &firsts).len(), 400 + ROOM);
        assert_eq!(site.bench.waiting(), 0);
        // A burst full of them when there is no room.
        for id in 1000..1300 {
            site.bench.receive(UPLINK, &question(1, id)[1..2]);
        }
        let many: Vec<_> = (2000..2064).map(|id| question(1, id)[2].clone()).collect();
        assert_eq!(site.bench.receive(UPLINK, &many), []);
        let lost = lost + 300 + 64 - ROOM as u64; // `as`: 256
        assert_eq!(site.bench.drops(), [(DropReason::SteerFragment, lost)]);
        site.bench.finish();
        let lost = lost + ROOM as u64; // `as`: 256
        assert_eq!(site.bench.drops(), [(DropReason::SteerFragment, lost)]);
    }
}

/// What a server says for itself is no answer: it leaves as it is, in any order; what nobody can say anything of too, once it
/// has waited.
#[test]
fn what_a_server_says_for_itself_stays_as_it_is() {
    for number in [3, 4] {
        for mut site in sites(number) {
            let own = |id| {
                let packet = Packet::ethernet(mac(0x80), mac(1));
                let packet = packet.ipv6(server_address(0x80), address("2600:7::7"));
                packet.udp(53, 5353, &[1; 3000]).build_fragments(id, 1200)
            };
            let as_it_is = |piece: &Vec<u8>| {
                let mut frame = piece.clone();
                frame[..12].copy_from_slice(&[mac(0x22).octets(), mac(2).octets()].concat());
                frame[14 + 7] -= 1;
                (UPLINK, frame)
            };
            let mut pieces = own(1);
            pieces.reverse();
            let expected: Vec<_> = pieces.iter().map(as_it_is).collect();
            let sent = site.bench.receive(INSIDE, &pieces);
            assert_eq!(sorted(sent), sorted(expected));
            let late = &own(2)[1..];
            assert_eq!(site.bench.receive(INSIDE, late), []);
            site.rib.set_steering_time(13);
            let expected: Vec<_> = late.iter().map(as_it_is).collect();
            assert_eq!(site.bench.idle(), expected);
            assert_eq!(site.bench.drops(), []);
        }
    }
}

/// They outlive tables: services that go take them along, others leave them.
#[test]
fn a_change_of_tables_loses_none_that_it_does_not_concern() {
    for mut site in sites(0) {
        let pieces = question(1, 5);
        assert_eq!(site.bench.receive(UPLINK, &pieces[1..]), []);
        site.change(|settings| settings.pools[0].servers[0].weight = 3);
        assert_eq!(site.bench.receive(UPLINK, &pieces[..1]).len(), 3);
        assert_eq!(site.bench.receive(UPLINK, &question(1, 6)[1..]), []);
        site.rib.set_steering(None);
        site.bench.tables = Arc::new(network(100).build_in(&mut site.rib));
        site.rib.commit();
        // As any other packet to where there is no service.
        let sent = site.bench.idle();
        assert!(sent.len() == 2 && sent.iter().all(|(port, _)| *port == UPLINK));
        assert_eq!((site.bench.waiting(), site.bench.drops()), (0, vec![]));
    }
}
