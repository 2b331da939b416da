//! Destination NAT: servers have their own address and port, and answer through us. Issue 6, 6.2 and 6.4.
//!
//! What is expected is built anew each time, checksums too, so every test here is one of checksums.

use std::net::Ipv6Addr;

use dataplane::frame::Frame as _;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::Packet;
use dataplane::wire::checksum;
use dataplane::wire::icmpv6::types::{DESTINATION_UNREACHABLE, PACKET_TOO_BIG};
use dataplane::wire::ipv6::proto;
use pipelines::steer::{Affinity, Mode, Protocol, ServiceSpec, State};

use super::*;
use crate::{error, ip};

/// The server's port, where it is another than the service's.
const PORT: u16 = 8443;
/// A router between us and servers.
const NEAR: &str = "2001:db8:5::fe";

pub(super) fn service(protocol: u8, ports: &[u16]) -> ServiceSpec {
    ServiceSpec {
        protocol: Protocol::Number(protocol),
        ports: ports.iter().map(|port| *port..=*port).collect(),
        ..services()[0].clone()
    }
}

/// `count` servers of all protocols there are. The short way, and the graph of nodes.
fn sites(count: u8, port: Option<u16>) -> [Site; 2] {
    let all = vec![
        service(TCP, &[443]),
        service(UDP, &[443]),
        service(proto::UDP_LITE, &[443]),
        service(proto::SCTP, &[443]),
        service(proto::ICMPV6, &[]),
    ];
    [HeapEdge::new(), HeapEdge::without_express()]
        .map(|edge| Site::with(pool(servers(count), Mode::Dnat { port }), all.clone(), edge))
}

/// From us to server `0x80`.
pub(super) fn to_server() -> Packet {
    Packet::ethernet(mac(1), mac(0x80))
}

/// From server `0x80` to us.
pub(super) fn from_server() -> Packet {
    Packet::ethernet(mac(0x80), mac(1))
}

/// From us to the clients' router.
pub(super) fn to_router() -> Packet {
    Packet::ethernet(mac(2), mac(0x22))
}

/// What a packet is made of: addresses, then ports.
pub(super) type Make = fn(Packet, u16, u16) -> Packet;

fn udp_lite(packet: Packet, source: u16, destination: u16) -> Packet {
    // Eight bytes are covered (RFC 3828 3.1), so the sum over the header and the pseudo-header of the whole is it.
    let data = b"not covered";
    let mut message = [
        source.to_be_bytes(),
        destination.to_be_bytes(),
        [0, 8],
        [0, 0],
    ]
    .concat();
    let built = packet.clone().raw(proto::UDP_LITE, &message).build_ipv6();
    let [from, to] = [8, 24].map(|at| built[at..at + 16].try_into().expect("16 bytes"));
    let len = u32::try_from(message.len() + data.len()).expect("short");
    let sum = checksum::pseudo_header(&from, &to, len, proto::UDP_LITE) + checksum::sum(&message);
    message[6..8].copy_from_slice(&sum.checksum().to_be_bytes());
    message.extend(data);
    packet.raw(proto::UDP_LITE, &message)
}

/// Every protocol with ports whose checksum knows them.
pub(super) const WITH_PORTS: [Make; 4] = [
    |packet, from, to| packet.tcp(from, to, b"segment"),
    |packet, from, to| packet.udp(from, to, b"datagram"),
    |packet, from, to| {
        packet
            .destination_options()
            .udp(from, to, b"behind options")
    },
    udp_lite,
];

fn check_both_ways(site: &mut Site, make: Make, server_port: u16) {
    let [client, service, server] = [address(CLIENT), address(SERVICE), server_address(0x80)];
    let question = make(from_router().ipv6(client, service).hop_limit(9), 5000, 443);
    let expected = make(
        to_server().ipv6(client, server).hop_limit(8),
        5000,
        server_port,
    );
    let sent = site.bench.receive(UPLINK, &[question.build()]);
    assert_eq!(sent, [(INSIDE, expected.build())]);
    let answer = make(
        from_server().ipv6(server, client).hop_limit(9),
        server_port,
        5000,
    );
    let expected = make(to_router().ipv6(service, client).hop_limit(8), 443, 5000);
    let sent = site.bench.receive(INSIDE, &[answer.build()]);
    assert_eq!(sent, [(UPLINK, expected.build())]);
}

/// T1: both directions, every checksum right, ports mapped or not.
#[test]
fn a_packet_has_the_servers_address_and_its_answer_the_services() {
    for (port, server_port) in [(None, 443), (Some(PORT), PORT)] {
        for mut site in sites(1, port) {
            for make in WITH_PORTS {
                check_both_ways(&mut site, make, server_port);
            }
            assert_eq!(site.bench.drops(), []);
            assert_eq!(site.counted(0).0, 4);
        }
    }
}

/// RFC 9260 6.8: no address is in the checksum of SCTP, so it stays; ports are, and are not changed.
#[test]
fn sctp_has_another_address_and_the_same_ports() {
    let make: Make = |packet, from, to| {
        let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
        packet.raw(proto::SCTP, &[&ports[..], &[0x5a; 24]].concat())
    };
    for mut site in sites(1, None) {
        check_both_ways(&mut site, make, 443);
    }
    for mut site in sites(1, Some(PORT)) {
        let packet = make(from_client(0), 1, 443).build();
        assert_eq!(site.bench.receive(UPLINK, &[packet]), []);
        assert_eq!(site.bench.drops(), [(DropReason::SteerProtocol, 1)]);
    }
}

#[test]
fn echo_goes_to_a_server_and_comes_back() {
    let [client, service, server] = [address(CLIENT), address(SERVICE), server_address(0x80)];
    for mut site in sites(1, None) {
        let ask = |packet: Packet, from, to| {
            packet
                .ipv6(from, to)
                .hop_limit(9)
                .icmpv6_echo(7, 1, b"ping")
        };
        let tell = |packet: Packet, from, to| {
            let packet = packet.ipv6(from, to).hop_limit(9);
            packet.icmpv6_echo_reply(7, 1, b"ping")
        };
        let sent = site
            .bench
            .receive(UPLINK, &[ask(from_router(), client, service).build()]);
        let expected = ask(to_server(), client, server).hop_limit(8).build();
        assert_eq!(sent, [(INSIDE, expected)]);
        let sent = site
            .bench
            .receive(INSIDE, &[tell(from_server(), server, client).build()]);
        let expected = tell(to_router(), service, client).hop_limit(8).build();
        assert_eq!(sent, [(UPLINK, expected)]);
    }
}

/// There is no state: a worker that never saw the question, or was started again, turns the answer back.
#[test]
fn any_worker_turns_an_answer_back() {
    for mut site in sites(3, Some(PORT)) {
        for number in 0x80..0x83 {
            let server = server_address(number);
            let answer = from_server()
                .ipv6(server, address(CLIENT))
                .tcp(PORT, 5000, b"");
            let sent = site.bench.receive(INSIDE, &[answer.build()]);
            assert_eq!(source_of(&sent[0].1), address(SERVICE));
        }
    }
}

pub(super) fn source_of(frame: &[u8]) -> Ipv6Addr {
    crate::source(ip(frame)).into()
}

/// What a server does on its own account stays its own.
#[test]
fn what_is_no_answer_keeps_its_source() {
    let [client, server] = [address(CLIENT), server_address(0x80)];
    let own = |packet: Packet| packet.ipv6(server, client).hop_limit(9);
    let packets: [fn(Packet) -> Packet; 5] = [
        |packet| packet.tcp(40_000, 443, b"its own connection"),
        |packet| packet.udp(443 + 1, 53, b"question"),
        |packet| packet.icmpv6_echo(1, 1, b"ping"),
        |packet| packet.raw(proto::ESP, &[7; 32]),
        |packet| packet.destination_options().tcp(40_000, 443, b""),
    ];
    for mut site in sites(1, None) {
        for make in packets {
            let sent = site
                .bench
                .receive(INSIDE, &[make(own(from_server())).build()]);
            assert_eq!(
                sent,
                [(UPLINK, make(own(to_router()).hop_limit(8)).build())]
            );
        }
        // The same ports of somebody else on that link.
        let other = from_server()
            .ipv6(address("2001:db8:5::77"), client)
            .tcp(443, 1, b"");
        let sent = site.bench.receive(INSIDE, &[other.build()]);
        assert_eq!(source_of(&sent[0].1), address("2001:db8:5::77"));
        // And of a server, where none can be.
        let spoofed = from_router().ipv6(server, client).tcp(443, 1, b"");
        let sent = site.bench.receive(UPLINK, &[spoofed.build()]);
        assert_eq!(source_of(&sent[0].1), server);
    }
}

/// N13 holds for services too: an error quotes what its receiver sent.
#[test]
fn errors_of_ours_quote_what_was_sent() {
    let [client, server] = [address(CLIENT), server_address(0x80)];
    for mut site in sites(1, Some(PORT)) {
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
        let answer = from_server().ipv6(server, client);
        let expired = answer.clone().hop_limit(1).tcp(PORT, 1, b"").build();
        let large = answer.tcp(PORT, 1, &[0; 1441]).build();
        for (packet, kind) in [(&expired, 3), (&large, 2)] {
            let sent = site.bench.receive(INSIDE, std::slice::from_ref(packet));
            let (found, _, _, quote) = error(ip(&sent[0].1));
            assert_eq!(
                (sent[0].0, found, quote),
                (INSIDE, kind, &ip(packet)[..quote.len()])
            );
        }
        let drops = [(DropReason::HopLimit, 2), (DropReason::PacketTooBig, 2)];
        assert_eq!(site.bench.drops(), drops);
    }
}

/// I3: an error about an answer reaches the server that sent it, about the packet it sent.
#[test]
fn an_error_about_an_answer_reaches_the_server_with_its_own_packet() {
    let [client, service, server] = [address(CLIENT), address(SERVICE), server_address(0x80)];
    for mut site in sites(1, Some(PORT)) {
        let quotes: [fn(Packet, u16) -> Packet; 4] = [
            |packet, port| packet.tcp(port, 5000, &[1; 1300]),
            |packet, port| packet.udp(port, 5000, &[1; 1300]),
            |packet, port| packet.destination_options().tcp(port, 5000, b"short"),
            |packet, port| udp_lite(packet, port, 5000),
        ];
        for make in quotes {
            for cut in [48, 64, 1200] {
                let told = |from: Packet, to, about: Vec<u8>| {
                    let about = &about[..about.len().min(cut)];
                    let packet = from.ipv6(address("2600:9::9"), to).hop_limit(9);
                    packet.icmpv6_error(PACKET_TOO_BIG, 0, 1280, about)
                };
                let seen = make(Packet::anywhere().ipv6(service, client), 443).build_ipv6();
                let sent_it = make(Packet::anywhere().ipv6(server, client), PORT).build_ipv6();
                if cut < 56 && seen[6] == proto::DESTINATION_OPTIONS {
                    continue; // it ends within the options: nobody can say whose it is
                }
                let error = told(from_router(), service, seen).build();
                let expected = told(to_server(), server, sent_it).hop_limit(8).build();
                assert_eq!(site.bench.receive(UPLINK, &[error]), [(INSIDE, expected)]);
            }
        }
        assert_eq!(site.bench.drops(), []);
    }
}

/// I3, the other way: an error about what a client sent is about the service, whoever says it.
#[test]
fn an_error_about_a_question_reaches_the_client_about_the_service() {
    let [client, service, server] = [address(CLIENT), address(SERVICE), server_address(0x80)];
    for mut site in sites(1, Some(PORT)) {
        for (said_by, seen_as) in [(server, service), (address(NEAR), address(NEAR))] {
            for make in WITH_PORTS {
                let told = |from: Packet, by, to, port| {
                    let quote = make(Packet::anywhere().ipv6(client, to), 5000, port).build_ipv6();
                    let packet = from.ipv6(by, client).hop_limit(9);
                    packet.icmpv6_error(DESTINATION_UNREACHABLE, 4, 0, &quote)
                };
                let error = told(from_server(), said_by, server, PORT).build();
                let expected = told(to_router(), seen_as, service, 443)
                    .hop_limit(8)
                    .build();
                assert_eq!(site.bench.receive(INSIDE, &[error]), [(UPLINK, expected)]);
            }
        }
        // About a packet to no port of a service: as it is.
        let quote = Packet::anywhere()
            .ipv6(client, server)
            .tcp(1, 80, b"")
            .build_ipv6();
        let error = |packet: Packet| packet.icmpv6_error(DESTINATION_UNREACHABLE, 4, 0, &quote);
        let packet = error(from_server().ipv6(server, client).hop_limit(9)).build();
        let expected = error(to_router().ipv6(server, client).hop_limit(8)).build();
        assert_eq!(site.bench.receive(INSIDE, &[packet]), [(UPLINK, expected)]);
    }
}

/// T5, as far as memory goes: what stands behind a first fragment goes where that went, and comes back as that did.
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
            let number = sent[0].1[5];
            let server = server_address(number);
            let expected = Packet::ethernet(mac(1), mac(number))
                .ipv6(client, server)
                .hop_limit(63);
            let expected = expected
                .udp(id, PORT, &data)
                .build_fragments(id.into(), 1200);
            let frames: Vec<_> = sent.into_iter().map(|(_, frame)| frame).collect();
            assert_eq!(frames, expected);

            let answer = Packet::ethernet(mac(number), mac(1)).ipv6(server, client);
            let answer = answer.udp(PORT, id, &data).build_fragments(id.into(), 1200);
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
        site.bench.finish();
        assert_eq!(site.bench.drops(), [(DropReason::SteerFragment, 2)]);
    }
}

/// T5: with affinity by source fragments of a question come in any order.
#[test]
fn fragments_of_a_source_come_in_any_order() {
    for mut site in sites(5, None) {
        site.change(|settings| {
            for service in &mut settings.services {
                service.affinity = Affinity::Source;
            }
        });
        let mut pieces = from_client(0)
            .udp(1, 443, &[3; 3000])
            .build_fragments(9, 1200);
        pieces.reverse();
        let sent = site.bench.receive(UPLINK, &pieces);
        assert_eq!(sent.len(), 3);
        let server = server_address(sent[0].1[5]);
        for (_, frame) in &sent {
            assert_eq!(crate::destination(ip(frame)), server.octets());
        }
    }
}

/// T8, I7: what cannot be translated is dropped under its own reason, and begins nothing.
#[test]
fn what_cannot_be_translated_is_dropped() {
    for mut site in sites(1, None) {
        site.change(|settings| settings.services = vec![service(0, &[])]);
        site.change(|settings| settings.services[0].protocol = Protocol::Any);
        let mut unsummed = from_client(0).udp(1, 443, b"no checksum").build();
        unsummed[14 + 40 + 6..14 + 40 + 8].fill(0);
        let routed = from_client(0)
            .routing(1, &[address("2600:5::5")])
            .udp(1, 443, b"");
        let packets = [
            unsummed.clone(),
            from_client(0).raw(proto::ESP, &[1; 32]).build(),
            from_client(0).icmpv6(&[200, 0, 0, 0, 1, 2, 3, 4]).build(),
            from_client(0).raw(TCP, &[0; 16]).build(),
            routed.build(),
        ];
        assert_eq!(site.bench.receive(UPLINK, &packets), []);
        let mut answer = from_server()
            .ipv6(server_address(0x80), address(CLIENT))
            .udp(443, 1, b"none")
            .build();
        answer[14 + 40 + 6..14 + 40 + 8].fill(0);
        assert_eq!(site.bench.receive(INSIDE, &[answer]), []);
        assert_eq!(
            site.bench.drops(),
            [
                (DropReason::SteerHeaders, 2),
                (DropReason::SteerProtocol, 2),
                (DropReason::SteerChecksum, 2),
            ]
        );
    }
}

/// RFC 1624 3: a packet that was damaged on its way to us is damaged when it leaves.
#[test]
fn a_wrong_checksum_stays_wrong() {
    for mut site in sites(1, Some(PORT)) {
        for make in &WITH_PORTS[..3] {
            let packet = make(from_client(0), 5000, 443).wrong_checksum();
            let sent = site.bench.receive(UPLINK, &[packet.build()]);
            let packet = ip(&sent[0].1);
            let (from, to) = (crate::source(packet), crate::destination(packet));
            let options = if packet[6] == proto::DESTINATION_OPTIONS {
                8
            } else {
                0
            };
            let upper = if options > 0 { packet[40] } else { packet[6] };
            assert!(!checksum::is_valid(
                &from,
                &to,
                upper,
                &packet[40 + options..]
            ));
        }
    }
}

#[test]
fn flows_stay_as_in_any_mode() {
    for mut site in sites(10, Some(PORT)) {
        let before = site.servers_of(&syns(500));
        site.change(|settings| settings.pools[0].servers = servers(20));
        assert_eq!(site.servers_of(&acks(500)), before);
        site.change(|settings| settings.pools[0].servers[3].state = State::Down);
        let after = site.servers_of(&acks(500));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert!(moved.clone().count() > 0 && moved.clone().all(|(before, _)| *before == 0x83));
        assert!(!after.contains(&0x83));
    }
}

/// A server that is not resolved gets nothing; an answer to a router that is not waits for it as it was sent.
#[test]
fn an_answer_waits_for_its_router_and_a_question_for_nobody() {
    for mut site in sites(1, None) {
        let resolved = std::mem::replace(
            &mut site.bench.tables,
            network(0).build_in(&mut site.rib).into(),
        );
        assert_eq!(site.bench.receive(UPLINK, &acks(2)), []);
        assert_eq!(site.bench.drops(), [(DropReason::SteerUnresolved, 2)]);
        assert_eq!(site.bench.punted().len(), 0);
        // To a client on a link, whom nobody knows yet.
        let client = address("2001:db8:ffff::77");
        let answer = from_server()
            .ipv6(server_address(0x80), client)
            .tcp(443, 5000, b"")
            .build();
        assert_eq!(
            site.bench.receive(INSIDE, std::slice::from_ref(&answer)),
            []
        );
        let waiting = site.bench.punted().pop().expect("one packet");
        assert_eq!(waiting.reason, PuntReason::NeighborMiss);
        assert_eq!(ip(&answer), ip(waiting.frame.bytes()));
        let target = site.bench.tables.unresolved(&waiting.frame, &waiting.meta);
        assert_eq!(target, Some((interface_id(1), client.into())));
        let mut known = network(100);
        known.neighbor(interface_id(1), client.into(), mac(0x77));
        site.bench.tables = known.build_in(&mut site.rib).into();
        let sent = site.bench.resume(vec![(waiting.frame, waiting.meta)]);
        let expected = Packet::ethernet(mac(2), mac(0x77))
            .ipv6(address(SERVICE), client)
            .hop_limit(63);
        assert_eq!(sent, [(UPLINK, expected.tcp(443, 5000, b"").build())]);
        drop(resolved);
    }
}

/// Servers behind a router, clients behind two: what is chosen for a flow is chosen before it is translated.
#[test]
fn servers_and_clients_may_be_behind_several_routers() {
    let far = address("2001:db8:77::1");
    for mut site in sites(1, Some(PORT)) {
        site.settings.pools[0].servers[0].address = far;
        site.rib.set_steering(Some(site.settings.clone()));
        let mut builder = network(100);
        let hop = |interface, via: &str| Hop {
            interface: interface_id(interface),
            via: Some(ip_address(via)),
            weight: 1,
        };
        builder.neighbor(interface_id(1), ip_address("2001:db8:ffff::3"), mac(0x33));
        let near = ["2001:db8:5::80", "2001:db8:5::81", "2001:db8:5::dead"];
        builder.route(
            VrfId(0),
            net("2001:db8:77::/48"),
            Route::Hops(near.map(|via| hop(0, via)).to_vec()),
        );
        let out = [ROUTER, "2001:db8:ffff::3"];
        builder.route(
            VrfId(0),
            net("::/0"),
            Route::Hops(out.map(|via| hop(1, via)).to_vec()),
        );
        site.bench.tables = builder.build_in(&mut site.rib).into();
        site.rib.commit();
        let mut routers = std::collections::BTreeSet::new();
        for number in 0..64_u16 {
            let client = address(&format!("2600:1::{number:x}"));
            let question = from_router()
                .ipv6(client, address(SERVICE))
                .tcp(7, 443, b"");
            let sent = site.bench.receive(UPLINK, &[question.build()]);
            routers.insert(sent[0].1[5]);
            assert_eq!(crate::destination(ip(&sent[0].1)), far.octets());
            let answer = from_server().ipv6(far, client).tcp(PORT, 7, b"");
            let sent = site.bench.receive(INSIDE, &[answer.build()]);
            routers.insert(sent[0].1[5]);
            assert_eq!(source_of(&sent[0].1), address(SERVICE));
        }
        assert_eq!(
            routers.into_iter().collect::<Vec<_>>(),
            [0x22, 0x33, 0x80, 0x81]
        );
        assert_eq!(site.bench.drops(), []);
    }
}
