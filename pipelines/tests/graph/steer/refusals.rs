//! Flows that no server takes, or loses: reset, told, dropped, or led to another pool; and flows that are cut.

use std::time::Duration;

use dataplane::reason::DropReason;
use dataplane::wire::tcp::flags::{ACK, FIN, RST, SYN};
use dataplane::wire::{FromBytes, checksum};

use super::*;
use crate::{error, ip};

fn all_down(site: &mut Site, when_down: WhenDown) {
    site.change(|settings| {
        settings.pools[0].when_down = when_down;
        for server in &mut settings.pools[0].servers {
            server.state = State::Down;
        }
    });
}

/// The segment in a frame to the router, and its addresses.
fn tcp_of(frame: &[u8]) -> (tcp::Header, [u8; 16], [u8; 16]) {
    let packet = ip(frame);
    let (source, destination) = (
        packet[8..24].try_into().unwrap(),
        packet[24..40].try_into().unwrap(),
    );
    assert_eq!((packet[6], packet.len()), (TCP, 60));
    assert!(checksum::is_valid(
        &source,
        &destination,
        TCP,
        &packet[40..]
    ));
    let (header, _) = tcp::Header::ref_from_prefix(&packet[40..]).unwrap();
    (*header, source, destination)
}

/// RFC 9293 3.10.7.1.
#[test]
fn without_a_server_a_connection_is_reset() {
    let mut site = Site::l2(2);
    all_down(&mut site, WhenDown::Refuse);
    let sent = site
        .bench
        .receive(UPLINK, &[segment(3, SYN), segment(4, ACK)]);
    assert_eq!(sent.len(), 2);
    for ((port, frame), (number, flags, numbers)) in
        sent.iter().zip([(3, RST | ACK, (0, 2)), (4, RST, (0, 0))])
    {
        assert_eq!(*port, UPLINK);
        let (header, source, destination) = tcp_of(frame);
        assert_eq!(source, address(SERVICE).octets());
        assert_eq!(destination, address("2600:1::").octets());
        assert_eq!(
            (header.source_port.get(), header.destination_port.get()),
            (443, 1000 + number)
        );
        assert_eq!(header.flags, flags);
        assert_eq!(
            (header.sequence.get(), header.acknowledgement.get()),
            numbers
        );
        assert_eq!(ip(frame)[7], 64);
    }
    assert_eq!(site.bench.drops(), [(DropReason::SteerNoServer, 2)]);
}

/// A reset is never answered by one, nor is what is damaged, or cut off.
#[test]
fn nothing_is_reset_that_is_no_whole_segment() {
    let mut site = Site::l2(2);
    all_down(&mut site, WhenDown::Refuse);
    let mut damaged = segment(3, SYN);
    damaged[60] ^= 1;
    let mut from_group = segment(3, SYN);
    from_group[22] = 0xff;
    let fragments = from_client(3)
        .tcp(1003, 443, &[0; 2000])
        .build_fragments(4, 1200);
    let frames = [
        segment(3, RST),
        segment(3, RST | ACK),
        damaged,
        fragments[0].clone(),
    ];
    assert_eq!(site.bench.receive(UPLINK, &frames), []);
    assert_eq!(site.bench.drops(), [(DropReason::SteerNoServer, 4)]);
}

#[test]
fn without_a_server_others_are_told() {
    let mut site = Site::l2(2);
    all_down(&mut site, WhenDown::Refuse);
    let question = from_client(0).udp(1, 443, b"question").build();
    let sent = site.bench.receive(UPLINK, std::slice::from_ref(&question));
    let (kind, code, _, quote) = error(ip(&sent[0].1));
    assert_eq!((kind, code, quote), (1, 4, ip(&question)));
}

#[test]
fn resets_have_a_rate() {
    let mut site = Site::l2(2);
    all_down(&mut site, WhenDown::Refuse);
    let mut resets = |time| {
        site.bench.pass(time);
        site.bench.receive(UPLINK, &syns(1000)).len()
    };
    assert_eq!(resets(Duration::ZERO), 100);
    assert_eq!(resets(Duration::from_millis(70)), 70);
    assert_eq!(resets(Duration::from_secs(1)), 100);
    assert_eq!(site.bench.drops(), [(DropReason::SteerNoServer, 3000)]);
    assert_eq!(site.bench.counters.errors_limited.read(), 3000 - 270);
}

#[test]
fn a_pool_may_drop_without_a_word() {
    let mut site = Site::l2(2);
    all_down(&mut site, WhenDown::Drop);
    let question = from_client(0).udp(1, 443, b"question").build();
    assert_eq!(site.bench.receive(UPLINK, &[segment(3, SYN), question]), []);
    assert_eq!(site.bench.drops(), [(DropReason::SteerNoServer, 2)]);
}

/// Two pools that step in one after the other; flows that began there stay there, those that went on come back to nobody.
#[test]
fn another_pool_steps_in_and_keeps_what_began_there() {
    let mut site = Site::l2(2);
    site.change(|settings| {
        let all = servers(6);
        let of = |name: &str, from: usize, when_down| PoolSpec {
            name: name.to_owned(),
            when_down,
            ..pool(all[from..from + 2].to_vec(), Mode::L2)
        };
        settings.pools.truncate(1);
        settings.pools[0].when_down = WhenDown::Fallback(1);
        settings.pools.push(of("second", 2, WhenDown::Fallback(2)));
        settings.pools.push(of("last", 4, WhenDown::Drop));
    });
    let down = |pool: usize, state: State| {
        move |settings: &mut Settings| {
            for server in &mut settings.pools[pool].servers {
                server.state = state;
            }
        }
    };
    let first = site.servers_of(&syns(50));
    assert!(first.iter().all(|server| (0x80..0x82).contains(server)));
    site.change(down(0, State::Down));
    let second = site.servers_of(&acks(50));
    assert!(second.iter().all(|server| (0x82..0x84).contains(server)));
    site.change(down(1, State::Down));
    let last = site.servers_of(&acks(50));
    assert!(last.iter().all(|server| (0x84..0x86).contains(server)));
    let moved = site.bench.counters.steer.moved.read();
    assert_eq!(moved, 100);
    site.change(down(0, State::Up));
    assert_eq!(site.servers_of(&acks(50)), last, "what goes on stays");
    assert_eq!(site.bench.counters.steer.moved.read(), moved);
    let anew: Vec<_> = (100..150).map(|number| segment(number, SYN)).collect();
    assert!(
        site.servers_of(&anew)
            .iter()
            .all(|server| (0x80..0x82).contains(server))
    );
    for pool in 0..3 {
        site.change(down(pool, State::Down));
    }
    assert_eq!(
        site.bench.receive(UPLINK, &syns(1)),
        [],
        "the last one says how"
    );
}

/// The next packet of each connection is answered with a reset, and the flow is forgotten; new ones go to others.
#[test]
fn a_server_that_is_cut_has_its_connections_reset() {
    let mut site = Site::l2(4);
    let before = site.servers_of(&acks(80));
    let of_cut: Vec<u16> = (0..80)
        .filter(|number| before[usize::from(*number)] == 0x81)
        .collect();
    assert!(of_cut.len() > 5);
    site.change(|settings| settings.pools[0].servers[1].state = State::Cut);
    let sent = site.bench.receive(UPLINK, &acks(80));
    let resets: Vec<_> = sent.iter().filter(|(port, _)| *port == UPLINK).collect();
    assert_eq!(resets.len(), of_cut.len());
    for ((_, frame), number) in resets.iter().zip(&of_cut) {
        let (header, source, _) = tcp_of(frame);
        assert_eq!(source, address(SERVICE).octets());
        assert_eq!(
            (header.destination_port.get(), header.flags),
            (1000 + number, RST)
        );
    }
    assert_eq!(sent.len(), 80, "everybody else's went on");
    assert_eq!(
        site.bench.drops(),
        [(DropReason::SteerCut, of_cut.len() as u64)]
    );
    // Forgotten: the client begins anew, elsewhere.
    let again: Vec<_> = of_cut.iter().map(|number| segment(*number, SYN)).collect();
    assert!(site.servers_of(&again).iter().all(|server| *server != 0x81));
    site.change(|settings| settings.pools[0].servers[1].state = State::Up);
    let all: Vec<_> = (200..400).map(|number| segment(number, SYN)).collect();
    assert!(site.servers_of(&all).contains(&0x81));
}

/// A connection that ends by itself is let go, datagrams go to others without a word.
#[test]
fn a_cut_is_for_connections() {
    let mut site = Site::l2(1);
    site.change(|settings| settings.pools[0].servers = servers(2));
    let datagrams: Vec<_> = (0..40)
        .map(|number| from_client(number).udp(1000 + number, 443, b"x").build())
        .collect();
    let before = site.servers_of(&datagrams);
    assert!(before.contains(&0x81));
    site.change(|settings| settings.pools[0].servers[1].state = State::Cut);
    assert_eq!(site.servers_of(&datagrams), [0x80; 40]);
    assert_eq!(site.bench.drops(), []);
    site.change(|settings| settings.pools[0].servers[1].state = State::Up);
    let number = (0..100).find(|number| site.servers_of(&[segment(300 + number, SYN)]) == [0x81]);
    let number = 300 + number.expect("one of them");
    site.change(|settings| settings.pools[0].servers[1].state = State::Cut);
    let sent = site.bench.receive(UPLINK, &[segment(number, FIN | ACK)]);
    assert_eq!(tcp_of(&sent[0].1).0.flags, RST);
}

/// By full NAT too, whose flows are remembered otherwise.
#[test]
fn a_cut_resets_what_is_translated() {
    for edge in [HeapEdge::new(), HeapEdge::without_express()] {
        let full = PoolSpec {
            sources: vec![address("2001:db8:5::a0")],
            ..pool(servers(1), Mode::FullNat { port: None })
        };
        let mut site = Site::with(full, services(), edge);
        let sent = site.bench.receive(UPLINK, &[segment(3, SYN)]);
        assert_eq!((sent.len(), sent[0].0), (1, INSIDE));
        site.change(|settings| settings.pools[0].servers[0].state = State::Cut);
        let sent = site.bench.receive(UPLINK, &[segment(3, ACK)]);
        assert_eq!((sent.len(), sent[0].0), (1, UPLINK));
        let (header, source, destination) = tcp_of(&sent[0].1);
        assert_eq!(source, address(SERVICE).octets());
        assert_eq!(destination, address("2600:1::").octets());
        assert_eq!((header.destination_port.get(), header.flags), (1003, RST));
        assert_eq!(site.bench.drops(), [(DropReason::SteerCut, 1)]);
    }
}
