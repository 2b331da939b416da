//! Full NAT: servers are asked from an address of ours and answer it. Issue 6, 6.2 and 6.4.
//!
//! What is expected is built anew each time, checksums too. Every test runs by the short way and by the graph of nodes.

mod shares;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use dataplane::frame::Frame as _;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::icmpv6::types::{DESTINATION_UNREACHABLE, PACKET_TOO_BIG};
use dataplane::wire::ipv6::proto;
use dataplane::wire::tcp::flags::{ACK, FIN, SYN};
use pipelines::steer::{Affinity, Mode, State};

use super::dnat::{Make, WITH_PORTS, from_server, service, source_of, to_router, to_server};
use super::*;
use crate::{destination, error, ip};

/// The server's port, where it is another than the service's.
const PORT: u16 = 8443;
const SOURCES: [&str; 2] = ["2001:db8:5::a0", "2001:db8:a0::1"];

fn full(count: u8, port: Option<u16>, sources: &[&str]) -> PoolSpec {
    PoolSpec {
        sources: sources.iter().map(|text| address(text)).collect(),
        ..pool(servers(count), Mode::FullNat { port })
    }
}

fn sites_of(pool: &PoolSpec) -> [Site; 2] {
    let all = vec![
        service(TCP, &[443]),
        service(UDP, &[443]),
        service(proto::UDP_LITE, &[443]),
        service(proto::ICMPV6, &[]),
    ];
    [HeapEdge::new(), HeapEdge::without_express()]
        .map(|edge| Site::with(pool.clone(), all.clone(), edge))
}

fn sites(count: u8, port: Option<u16>) -> [Site; 2] {
    sites_of(&full(count, port, &SOURCES[..1]))
}

/// The address and port a server is asked from.
fn asked_from(frame: &[u8]) -> (Ipv6Addr, u16) {
    let port = u16::from_be_bytes(frame[14 + 40..14 + 42].try_into().expect("2 bytes"));
    (source_of(frame), port)
}

/// Let a client's packet come in: what the server is asked from.
fn ask(site: &mut Site, packet: &[u8]) -> (Ipv6Addr, u16) {
    let sent = site.bench.receive(UPLINK, &[packet.to_vec()]);
    assert_eq!((sent.len(), sent[0].0), (1, INSIDE));
    asked_from(&sent[0].1)
}

/// T1, T6: both directions, every checksum right; one flow has one port, whether it is new or not.
#[test]
fn a_packet_comes_from_us_and_its_answer_goes_to_the_client() {
    let [client, service, server] = [address(CLIENT), address(SERVICE), server_address(0x80)];
    for (port, server_port) in [(None, 443), (Some(PORT), PORT)] {
        for mut site in sites(1, port) {
            let mut ports = BTreeSet::new();
            for make in WITH_PORTS {
                let mut taken = None;
                for _ in 0..3 {
                    let question =
                        make(from_router().ipv6(client, service).hop_limit(9), 5000, 443);
                    let sent = site.bench.receive(UPLINK, &[question.build()]);
                    let behind = usize::from(sent[0].1[14 + 6] == proto::DESTINATION_OPTIONS) * 8;
                    let port = sent[0].1[14 + 40 + behind..][..2]
                        .try_into()
                        .expect("2 bytes");
                    let port = u16::from_be_bytes(port);
                    assert_eq!(*taken.get_or_insert(port), port, "a flow keeps its port");
                    ports.insert(port);
                    let source = address(SOURCES[0]);
                    let expected = make(
                        to_server().ipv6(source, server).hop_limit(8),
                        port,
                        server_port,
                    );
                    assert_eq!(sent, [(INSIDE, expected.build())]);
                    let answer = make(
                        from_server().ipv6(server, source).hop_limit(9),
                        server_port,
                        port,
                    );
                    let expected = make(to_router().ipv6(service, client).hop_limit(8), 443, 5000);
                    let sent = site.bench.receive(INSIDE, &[answer.build()]);
                    assert_eq!(sent, [(UPLINK, expected.build())]);
                }
            }
            assert!(ports.iter().all(|port| *port >= 1024), "{ports:?}");
            assert_eq!(
                ports.len(),
                3,
                "TCP, UDP and UDP-Lite are flows of their own"
            );
            assert_eq!(site.bench.drops(), []);
            assert_eq!(site.counted(0).0, 12);
            assert_eq!(site.counted(0).1, 3);
        }
    }
}

/// An identifier is mapped as a port is: two clients with one have two.
#[test]
fn echo_goes_to_a_server_and_comes_back() {
    let [service, server] = [address(SERVICE), server_address(0x80)];
    for mut site in sites(1, None) {
        let mut identifiers = BTreeSet::new();
        for client in [address("2600:1::1"), address("2600:1::2")] {
            let question = from_router()
                .ipv6(client, service)
                .hop_limit(9)
                .icmpv6_echo(7, 1, b"ping");
            let sent = site.bench.receive(UPLINK, &[question.build()]);
            let identifier = u16::from_be_bytes([sent[0].1[14 + 44], sent[0].1[14 + 45]]);
            let ours = address(SOURCES[0]);
            let expected = to_server()
                .ipv6(ours, server)
                .hop_limit(8)
                .icmpv6_echo(identifier, 1, b"ping");
            assert_eq!(sent, [(INSIDE, expected.build())]);
            let answer = from_server()
                .ipv6(server, ours)
                .icmpv6_echo_reply(identifier, 1, b"ping");
            let sent = site.bench.receive(INSIDE, &[answer.build()]);
            let expected = to_router()
                .ipv6(service, client)
                .hop_limit(63)
                .icmpv6_echo_reply(7, 1, b"ping");
            assert_eq!(sent, [(UPLINK, expected.build())]);
            identifiers.insert(identifier);
        }
        assert_eq!(identifiers.len(), 2);
    }
}

/// RFC 4787 REQ-2, T6: a client is always seen from one address, and clients are spread over all of them.
#[test]
fn a_client_has_one_source_address() {
    for mut site in sites_of(&full(3, None, &SOURCES)) {
        let mut used = BTreeSet::new();
        for client in 0..40_u16 {
            let of_client: BTreeSet<_> = (1..20)
                .map(|port| {
                    ask(
                        &mut site,
                        &from_client(client << 8).udp(port, 443, b"").build(),
                    )
                    .0
                })
                .collect();
            assert_eq!(of_client.len(), 1);
            used.extend(of_client);
        }
        assert_eq!(used, SOURCES.map(address).into());
    }
}

/// T2: what comes to a source address and is no answer of the server that was asked goes nowhere.
#[test]
fn nobody_else_reaches_a_client() {
    for mut site in sites(2, None) {
        let question = from_client(0).udp(5000, 443, b"").build();
        let sent = site.bench.receive(UPLINK, &[question]);
        let (ours, port) = asked_from(&sent[0].1);
        let asked = server_address(sent[0].1[5]);
        let other = server_address(0x80 + u8::from(sent[0].1[5] == 0x80));
        let from = |by: Ipv6Addr| from_server().ipv6(by, ours);
        let packets = [
            from(other).udp(443, port, b"another server").build(),
            from(asked).udp(444, port, b"another port").build(),
            from(asked).tcp(443, port, b"another protocol").build(),
            from(asked).udp(443, port ^ 1, b"no flow").build(),
            from(asked).udp(443, 80, b"never one").build(),
            from(asked).icmpv6_echo(port, 1, b"asks").build(),
            from(asked).raw(proto::ESP, &[1; 20]).build(),
        ];
        assert_eq!(site.bench.receive(INSIDE, &packets), []);
        assert_eq!(site.bench.drops(), [(DropReason::SteerNoFlow, 7)]);
        let answer = from(asked).udp(443, port, b"answer").build();
        assert_eq!(site.bench.receive(INSIDE, &[answer]).len(), 1);
        // A client cannot be one of our own source addresses.
        let loops = from_router()
            .ipv6(ours, address(SERVICE))
            .udp(1, 443, b"")
            .build();
        assert_eq!(site.bench.receive(UPLINK, &[loops]), []);
        assert_eq!(site.bench.drops(), [(DropReason::SteerNoFlow, 8)]);
    }
}

/// I3: about an answer, to the server, about the packet it sent; and the other way, to the client about the service.
#[test]
fn errors_are_about_what_their_receiver_sent() {
    let [client, service, server] = [address(CLIENT), address(SERVICE), server_address(0x80)];
    let near = address("2001:db8:5::fe");
    for mut site in sites(1, Some(PORT)) {
        for make in &WITH_PORTS[..2] {
            let make: Make = *make;
            let (ours, port) = ask(
                &mut site,
                &make(from_router().ipv6(client, service), 5000, 443).build(),
            );
            let told = |from: Packet, by, to, quote: Vec<u8>| {
                from.ipv6(by, to)
                    .hop_limit(9)
                    .icmpv6_error(PACKET_TOO_BIG, 0, 1280, &quote)
            };
            let quote = |from, to, ports: (u16, u16)| {
                make(Packet::anywhere().ipv6(from, to), ports.0, ports.1).build_ipv6()
            };
            let far = address("2600:9::9");
            let seen = quote(service, client, (443, 5000));
            let sent_it = quote(server, ours, (PORT, port));
            let error = told(from_router(), far, service, seen).build();
            let expected = told(to_server(), far, server, sent_it).hop_limit(8).build();
            assert_eq!(site.bench.receive(UPLINK, &[error]), [(INSIDE, expected)]);
            for (said_by, seen_as) in [(server, service), (near, near)] {
                let seen = quote(ours, server, (port, PORT));
                let sent_it = quote(client, service, (5000, 443));
                let error = told(from_server(), said_by, ours, seen).build();
                let expected = told(to_router(), seen_as, client, sent_it)
                    .hop_limit(8)
                    .build();
                assert_eq!(site.bench.receive(INSIDE, &[error]), [(UPLINK, expected)]);
            }
        }
        // Of no flow, of none of ours, of nothing.
        let about = |from, to, port| {
            let quote = Packet::anywhere()
                .ipv6(from, to)
                .udp(port, PORT, b"")
                .build_ipv6();
            let packet = from_server().ipv6(near, address(SOURCES[0]));
            packet
                .icmpv6_error(DESTINATION_UNREACHABLE, 4, 0, &quote)
                .build()
        };
        let foreign = [
            about(address(SOURCES[0]), server, 2000),
            about(client, server, 2000),
            from_server()
                .ipv6(near, address(SOURCES[0]))
                .icmpv6_error(1, 4, 0, &[0x60; 30])
                .build(),
        ];
        assert_eq!(site.bench.receive(INSIDE, &foreign), []);
        let unknown = Packet::anywhere()
            .ipv6(service, client)
            .tcp(443, 9, b"")
            .build_ipv6();
        let unknown = from_router()
            .ipv6(near, service)
            .icmpv6_error(2, 0, 1280, &unknown)
            .build();
        assert_eq!(site.bench.receive(UPLINK, &[unknown]), []);
        let drops = [(DropReason::SteerQuote, 3), (DropReason::SteerNoFlow, 1)];
        assert_eq!(site.bench.drops(), drops);
    }
}

/// N13: our own errors too. One about an answer goes the way of any such error.
#[test]
fn errors_of_ours_quote_what_was_sent() {
    let server = server_address(0x80);
    for mut site in sites(1, Some(PORT)) {
        let (ours, port) = ask(&mut site, &from_client(0).tcp(1, 443, b"").build());
        let expired = from_client(0).hop_limit(1).tcp(1, 443, b"").build();
        let large = from_client(0).tcp(1, 443, &[0; 1441]).build();
        for (packet, kind) in [(&expired, 3), (&large, 2)] {
            let sent = site.bench.receive(UPLINK, std::slice::from_ref(packet));
            let (found, _, _, quote) = error(ip(&sent[0].1));
            assert_eq!(
                (sent[0].0, found, quote),
                (UPLINK, kind, &ip(packet)[..quote.len()])
            );
        }
        let answer = from_server().ipv6(server, ours);
        let expired = answer.clone().hop_limit(1).tcp(PORT, port, b"").build();
        let large = answer.tcp(PORT, port, &[0; 1441]).build();
        for (packet, kind) in [(&expired, 3), (&large, 2)] {
            let sent = site.bench.receive(INSIDE, std::slice::from_ref(packet));
            let (found, _, _, quote) = error(ip(&sent[0].1));
            assert_eq!(
                (sent[0].0, found, quote),
                (INSIDE, kind, &ip(packet)[..quote.len()])
            );
            assert_eq!(destination(ip(&sent[0].1)), server.octets());
        }
        let drops = [(DropReason::HopLimit, 2), (DropReason::PacketTooBig, 2)];
        assert_eq!(site.bench.drops(), drops);
    }
}

/// T5: fragments behind a first one, both ways; without it, none.
#[test]
fn fragments_are_translated_behind_the_first_one() {
    let client = address(CLIENT);
    for mut site in sites(5, Some(PORT)) {
        for id in 1..40_u16 {
            let data = [9; 3000];
            let question = from_router()
                .ipv6(client, address(SERVICE))
                .udp(id, 443, &data);
            let sent = site
                .bench
                .receive(UPLINK, &question.build_fragments(id.into(), 1200));
            assert_eq!(sent.len(), 3);
            let number = sent[0].1[5];
            let (server, ours) = (server_address(number), address(SOURCES[0]));
            let port = u16::from_be_bytes([sent[0].1[14 + 48], sent[0].1[14 + 49]]);
            let expected = Packet::ethernet(mac(1), mac(number))
                .ipv6(ours, server)
                .hop_limit(63);
            let expected = expected
                .udp(port, PORT, &data)
                .build_fragments(id.into(), 1200);
            let frames: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
            assert_eq!(frames, expected);

            let answer = Packet::ethernet(mac(number), mac(1)).ipv6(server, ours);
            let answer = answer
                .udp(PORT, port, &data)
                .build_fragments(id.into(), 1200);
            let sent = site.bench.receive(INSIDE, &answer);
            let expected = to_router().ipv6(address(SERVICE), client).hop_limit(63);
            let expected = expected
                .udp(443, id, &data)
                .build_fragments(id.into(), 1200);
            let frames: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
            assert_eq!(frames, expected);
        }
        let late = &from_client(1)
            .udp(1, 443, &[0; 3000])
            .build_fragments(999, 1200)[1..];
        assert_eq!(site.bench.receive(UPLINK, late), []);
        let late = from_server()
            .ipv6(server_address(0x80), address(SOURCES[0]))
            .udp(PORT, 2000, &[0; 3000]);
        assert_eq!(
            site.bench
                .receive(INSIDE, &late.build_fragments(999, 1200)[1..]),
            []
        );
        site.bench.finish();
        assert_eq!(site.bench.drops(), [(DropReason::SteerFragment, 4)]);
    }
}

/// T8: what cannot be translated is dropped under its own reason.
#[test]
fn what_cannot_be_translated_is_dropped() {
    for mut site in sites(1, None) {
        let mut unsummed = from_client(0).udp(1, 443, b"no checksum").build();
        unsummed[14 + 40 + 6..14 + 40 + 8].fill(0);
        let routed = from_client(0)
            .routing(1, &[address("2600:5::5")])
            .udp(1, 443, b"");
        let packets = [
            unsummed,
            from_client(0).icmpv6_echo_reply(1, 1, b"").build(),
            routed.build(),
        ];
        assert_eq!(site.bench.receive(UPLINK, &packets), []);
        assert_eq!(
            site.bench.drops(),
            [
                (DropReason::SteerHeaders, 1),
                (DropReason::SteerProtocol, 1),
                (DropReason::SteerChecksum, 1),
            ]
        );
    }
}

/// T3, T4: each side's packets keep a flow; a server that answers an opening makes no connection of it.
#[test]
fn time_ends_flows() {
    let reply = |(ours, port): (Ipv6Addr, u16), flags| {
        let mut bytes = from_server()
            .ipv6(server_address(0x80), ours)
            .tcp(443, port, b"")
            .build();
        bytes[14 + 40 + 13] = flags; // the checksum is nobody's here
        bytes
    };
    for mut site in sites(1, None) {
        let arrives = |site: &mut Site, at: u32, frame: Vec<u8>| {
            site.rib.set_steering_time(at);
            site.bench.receive(INSIDE, &[frame]).len() == 1
        };
        site.rib.set_steering_time(1000);
        let half = ask(&mut site, &segment(1, SYN));
        let open = ask(&mut site, &segment(2, SYN));
        ask(&mut site, &segment(2, ACK));
        let ended = ask(&mut site, &segment(3, SYN));
        ask(&mut site, &segment(3, FIN | ACK));
        let datagrams = ask(&mut site, &from_client(4).udp(4, 443, b"").build());
        assert!(arrives(&mut site, 1060, reply(half, SYN | ACK)));
        assert!(arrives(&mut site, 1120, reply(half, SYN | ACK)));
        assert!(
            !arrives(&mut site, 1181, reply(half, ACK)),
            "half open: a minute"
        );
        assert!(
            arrives(&mut site, 1240, reply(ended, ACK)),
            "ended: four minutes"
        );
        assert!(!arrives(&mut site, 1481, reply(ended, ACK)));
        let answer =
            from_server()
                .ipv6(server_address(0x80), datagrams.0)
                .udp(443, datagrams.1, b"");
        assert!(!arrives(&mut site, 1481, answer.build()), "nobody answered");
        assert!(arrives(&mut site, 1000 + 7440, reply(open, ACK)));
        assert!(arrives(&mut site, 1000 + 2 * 7440, reply(open, ACK)));
        assert!(!arrives(&mut site, 1000 + 3 * 7440 + 1, reply(open, ACK)));
        assert_eq!(site.bench.drops(), [(DropReason::SteerNoFlow, 4)]);
    }
}

#[test]
fn flows_stay_as_in_any_mode() {
    for mut site in sites(10, Some(PORT)) {
        let before = site.servers_of(&syns(500));
        site.change(|settings| settings.pools[0].servers = servers(20));
        assert_eq!(site.servers_of(&acks(500)), before);
        site.change(|settings| settings.pools[0].servers[3].state = State::Drained);
        assert_eq!(site.servers_of(&acks(500)), before);
        site.change(|settings| settings.pools[0].servers[3].state = State::Down);
        let after = site.servers_of(&acks(500));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        let count = moved.clone().count() as u64;
        assert!(count > 0 && moved.clone().all(|(before, _)| *before == 0x83));
        assert!(!after.contains(&0x83));
        assert_eq!(site.bench.counters.steer.moved.read(), count);
        // What stays of two sources keeps its flows.
        site.change(|settings| settings.pools[0].sources.push(address(SOURCES[1])));
        assert_eq!(site.servers_of(&acks(500)), after);
        assert_eq!(site.bench.drops(), []);
    }
}

#[test]
fn everything_of_a_source_goes_to_one_server() {
    for mut site in sites(10, None) {
        site.change(|settings| {
            for service in &mut settings.services {
                service.affinity = Affinity::Source;
            }
        });
        let packets: Vec<_> = (1..40)
            .map(|port| from_client(0).udp(port, 443, b"").build())
            .collect();
        let of: BTreeSet<_> = site.servers_of(&packets).into_iter().collect();
        assert_eq!(of.len(), 1);
        site.change(|settings| settings.pools[0].servers = servers(20));
        let packets: Vec<_> = (41..80)
            .map(|port| from_client(0).udp(port, 443, b"").build())
            .collect();
        assert_eq!(
            site.servers_of(&packets)
                .into_iter()
                .collect::<BTreeSet<_>>(),
            of
        );
    }
}

/// T7: a server may be a client of its own service: it sees it answer, and not another server.
#[test]
fn a_server_can_be_a_client() {
    let [service, server] = [address(SERVICE), server_address(0x80)];
    for mut site in sites(1, None) {
        let question = from_server().ipv6(server, service).tcp(5000, 443, b"");
        let sent = site.bench.receive(INSIDE, &[question.build()]);
        let (ours, port) = asked_from(&sent[0].1);
        assert_eq!((sent[0].0, ours), (INSIDE, address(SOURCES[0])));
        let answer = from_server().ipv6(server, ours).tcp(443, port, b"");
        let sent = site.bench.receive(INSIDE, &[answer.build()]);
        let expected = to_server()
            .ipv6(service, server)
            .hop_limit(63)
            .tcp(443, 5000, b"");
        assert_eq!(sent, [(INSIDE, expected.build())]);
    }
}

#[test]
fn an_answer_waits_for_its_router() {
    let client = address("2001:db8:ffff::77");
    for mut site in sites(1, None) {
        let (ours, port) = ask(
            &mut site,
            &from_router()
                .ipv6(client, address(SERVICE))
                .tcp(5, 443, b"")
                .build(),
        );
        let answer = from_server()
            .ipv6(server_address(0x80), ours)
            .tcp(443, port, b"")
            .build();
        assert_eq!(site.bench.receive(INSIDE, &[answer]), []);
        let waiting = site.bench.punted().pop().expect("one packet");
        assert_eq!(waiting.reason, PuntReason::NeighborMiss);
        let target = site.bench.tables.unresolved(&waiting.frame, &waiting.meta);
        assert_eq!(target, Some((interface_id(1), client.into())));
        let mut known = network(100);
        known.neighbor(interface_id(1), client.into(), mac(0x77));
        site.bench.tables = known.build_in(&mut site.rib).into();
        let sent = site.bench.resume(vec![(waiting.frame, waiting.meta)]);
        let expected = Packet::ethernet(mac(2), mac(0x77))
            .ipv6(address(SERVICE), client)
            .hop_limit(63);
        assert_eq!(sent, [(UPLINK, expected.tcp(443, 5, b"").build())]);
    }
}
