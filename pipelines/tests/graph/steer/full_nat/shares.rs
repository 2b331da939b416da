//! Ports: whose they are, and what happens when there are none.

use dataplane::ring::{Handoff, ring};

use super::*;

/// Workers, and the rings by which the second of three hands over.
struct Workers {
    benches: Vec<Bench>,
    handed: [rtrb::Consumer<Handoff<HeapFrame>>; 2],
}

impl Workers {
    fn new(site: &Site) -> Self {
        let (to_first, first) = ring(64);
        let (to_third, third) = ring(64);
        let rings = [
            vec![None],
            vec![Some(to_first), None, Some(to_third)],
            vec![None],
        ];
        let memories = FlowMemory::of_workers(3).into_iter().zip(rings);
        let bench = |(memory, rings)| {
            let tables = Arc::clone(&site.bench.tables);
            Bench::beside(tables, HeapEdge::remembering(memory), rings)
        };
        Self {
            benches: memories.map(bench).collect(),
            handed: [first, third],
        }
    }

    /// Frames come to the second worker by a port; what their owner makes of them, whom they get to as they came.
    fn pass(&mut self, owner: usize, by: usize, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut sent = self.benches[1].receive(by, frames);
        if owner != 1 {
            assert_eq!(sent, []);
            let ring = &mut self.handed[owner / 2];
            let handed = std::iter::from_fn(|| ring.pop().ok()).map(|handed| match handed {
                Handoff::Received { port, frame } => {
                    assert_eq!(port.index(), by);
                    frame.bytes().to_vec()
                }
                Handoff::Transmit { .. } => panic!("it was received"),
            });
            let handed: Vec<_> = handed.collect();
            assert_eq!(handed, frames, "as they came");
            sent = self.benches[owner].receive(by, &handed);
        }
        sent.into_iter().map(|(_, frame)| frame).collect()
    }
}

/// T7, T9, I3: the port of an answer says whose it is, and any other worker hands it over as it came. So are errors and
/// fragments, which come to a worker by their addresses alone.
#[test]
fn workers_own_ports_and_hand_over_what_is_not_theirs() {
    let site = Site::new(full(1, None, &SOURCES[..1]), services());
    let mut workers = Workers::new(&site);
    let (server, client) = (server_address(0x80), address("2600:1::"));
    for number in 0..60_u16 {
        let owner = usize::from(number % 3);
        let id = u32::from(number);
        let from = 5000 + number;
        let question = from_client(0).udp(from, 443, b"question").build();
        let sent = workers.benches[owner].receive(UPLINK, &[question]);
        let (ours, port) = asked_from(&sent[0].1);
        assert_eq!((usize::from(port) * 3) >> 16, owner, "its own: {port}");

        let answer = |data: &[u8]| from_server().ipv6(server, ours).udp(443, port, data);
        let home = |data: &[u8]| {
            let packet = to_router().ipv6(address(SERVICE), client).hop_limit(63);
            packet.udp(443, from, data)
        };
        let mut answers = vec![answer(b"answer").build()];
        answers.extend(answer(&[1; 2000]).build_fragments(id, 1200));
        let mut expected = vec![home(b"answer").build()];
        expected.extend(home(&[1; 2000]).build_fragments(id, 1200));
        assert_eq!(workers.pass(owner, INSIDE, &answers), expected);

        let question = from_client(0).udp(from, 443, &[2; 2000]);
        let asked = to_server().ipv6(ours, server).hop_limit(63);
        let asked = asked.udp(port, 443, &[2; 2000]).build_fragments(id, 1200);
        let pieces = question.build_fragments(id, 1200);
        assert_eq!(workers.pass(owner, UPLINK, &pieces), asked);

        let about = |packet: Packet, to, from, client, ports: (u16, u16)| {
            let quote = Packet::anywhere()
                .ipv6(from, client)
                .udp(ports.0, ports.1, b"");
            let packet = packet.ipv6(address("2600:9::9"), to).hop_limit(9);
            packet.icmpv6_error(PACKET_TOO_BIG, 0, 1280, &quote.build_ipv6())
        };
        let service = address(SERVICE);
        let error = about(from_router(), service, service, client, (443, from)).build();
        let expected = about(to_server(), server, server, ours, (443, port));
        let expected = expected.hop_limit(8).build();
        assert_eq!(workers.pass(owner, UPLINK, &[error]), [expected]);
    }
    for worker in &workers.benches {
        assert_eq!(worker.drops(), []);
    }
    let handed = workers.benches[1].counters.spread_out.read();
    assert_eq!(handed, 40 * (3 + 2 + 1));
}

/// A fragment that came before its first one is handed over behind that.
#[test]
fn early_fragments_are_handed_over_behind_the_first_one() {
    let site = Site::new(full(1, None, &SOURCES[..1]), services());
    let mut workers = Workers::new(&site);
    let question = from_client(0).udp(5000, 443, b"question").build();
    let sent = workers.benches[0].receive(UPLINK, &[question]);
    let (ours, port) = asked_from(&sent[0].1);
    let questions = from_client(0).udp(5000, 443, &[2; 3000]);
    let answers = from_server().ipv6(server_address(0x80), ours);
    let answers = answers.udp(443, port, &[1; 3000]);
    for (id, by, packet) in [(1, UPLINK, questions), (2, INSIDE, answers)] {
        let mut pieces = packet.build_fragments(id, 1200);
        assert_eq!(workers.benches[1].receive(by, &pieces[1..]), []);
        assert!(workers.handed[0].pop().is_err());
        // Those that waited stand behind it in their order.
        let rest = pieces.split_off(1);
        assert_eq!(workers.benches[1].receive(by, &pieces), []);
        pieces.extend(rest);
        let handed: Vec<_> = std::iter::from_fn(|| workers.handed[0].pop().ok())
            .map(|handed| match handed {
                Handoff::Received { frame, .. } => frame.bytes().to_vec(),
                Handoff::Transmit { .. } => panic!("it was received"),
            })
            .collect();
        assert_eq!(handed, pieces);
        assert_eq!(workers.benches[0].receive(by, &handed).len(), 3);
    }
    assert!(workers.benches.iter().all(|bench| bench.drops().is_empty()));
}

/// T3, T8: a flood takes no port of a flow that goes on; when all go on, who comes last is refused and counted.
#[test]
fn ports_run_out_for_new_flows_alone() {
    // Of 32 workers the first has 1,024 ports.
    let first = || HeapEdge::remembering(FlowMemory::of_workers(32).remove(0));
    let edges = [first(), first().by_nodes()];
    for edge in edges {
        let mut site = Site::with(full(2, None, &SOURCES[..1]), services(), edge);
        site.rib.set_steering_time(100);
        let first: Vec<_> = (0..50).map(|port| segment_of(0, port, ACK)).collect();
        let asked = |site: &mut Site| -> Vec<_> {
            let sent = site.bench.receive(UPLINK, &first);
            sent.iter().map(|(_, frame)| asked_from(frame)).collect()
        };
        let before = asked(&mut site);
        assert_eq!(asked(&mut site), before);
        // Three times as many openings as there are ports.
        let flood: Vec<_> = (0..3072).map(|port| segment_of(1, port, SYN)).collect();
        assert_eq!(site.bench.receive(UPLINK, &flood).len(), flood.len());
        assert!(site.bench.counters.steer.displaced.read() > 2000);
        assert_eq!(asked(&mut site), before);
        assert_eq!(site.bench.drops(), []);
        // And as many connections that go on, each of them twice before the next comes.
        for port in 0..2048 {
            let segment = segment_of(2, port, ACK);
            site.bench.receive(UPLINK, &[segment.clone(), segment]);
        }
        let drops = site.bench.drops();
        assert!(
            matches!(drops[..], [(DropReason::SteerNoPort, count)] if count > 2000),
            "{drops:?}"
        );
        assert_eq!(asked(&mut site), before);
        // Their time is over: there is room again.
        site.rib.set_steering_time(100 + 7441);
        let sent = site.bench.receive(UPLINK, &[segment_of(60, 1, SYN)]);
        assert_eq!(sent.len(), 1);
    }
}

fn segment_of(client: u16, port: u16, flags: u8) -> Vec<u8> {
    let header = tcp::Header {
        source_port: (1000 + port).into(),
        destination_port: 443.into(),
        sequence: 1.into(),
        acknowledgement: 0.into(),
        data_offset: 5 << 4,
        flags,
        window: 1000.into(),
        checksum: 0.into(),
        urgent: 0.into(),
    };
    from_client(client << 8).tcp_segment(header, b"").build()
}
