//! What goes to no server, and errors about what servers sent.

use dataplane::reason::DropReason;
use dataplane::wire::icmpv6::types::PACKET_TOO_BIG;
use dataplane::wire::tcp::flags::RST;
use pipelines::steer::{Affinity, Protocol, State};

use super::*;
use crate::{error, ip, source};

/// RFC 7690 3: an error goes to the server that owns the flow it is about, whatever the table says by now.
#[test]
fn packet_too_big_reaches_the_server_of_the_flow() {
    let mut site = Site::l2(10);
    let flows = 500;
    let before = site.servers_of(&acks(flows));
    site.change(|settings| settings.pools[0].servers = servers(20));
    let errors: Vec<_> = (0..flows)
        .map(|number| {
            let client = address(&format!("2600:1::{:x}", number >> 8));
            let reply = from_router()
                .ipv6(address(SERVICE), client)
                .tcp(443, 1000 + number, &[1; 1300])
                .build_ipv6();
            from_router()
                .ipv6(address("2600:9::9"), address(SERVICE))
                .icmpv6_error(PACKET_TOO_BIG, 0, 1280, &reply[..1200])
                .build()
        })
        .collect();
    assert_eq!(site.servers_of(&errors), before);
    let flows_begun: u64 = (0..10).map(|position| site.counted(position).1).sum();
    assert_eq!(flows_begun, 500, "an error begins none");
}

#[test]
fn an_error_about_a_flow_nobody_remembers_goes_by_the_table() {
    let mut site = Site::l2(10);
    let reply = from_router()
        .ipv6(address(SERVICE), address("2600:1::"))
        .tcp(443, 1000, b"")
        .build_ipv6();
    let error = from_router()
        .ipv6(address("2600:9::9"), address(SERVICE))
        .icmpv6_error(PACKET_TOO_BIG, 0, 1280, &reply)
        .build();
    let by_table = site.servers_of(&[error])[0];
    assert_eq!(site.servers_of(&acks(1)), [by_table]);
}

#[test]
fn an_error_about_nothing_of_ours_is_dropped() {
    let mut site = Site::l2(10);
    let about = |packet: Vec<u8>| {
        from_router()
            .ipv6(address("2600:9::9"), address(SERVICE))
            .icmpv6_error(PACKET_TOO_BIG, 0, 1280, &packet)
            .build()
    };
    let quote = |from: &str| from_router().ipv6(address(from), address(CLIENT));
    let foreign = quote("2600:5::5").tcp(443, 1, b"").build_ipv6();
    let port = quote(SERVICE).tcp(80, 1, b"").build_ipv6();
    let cut = quote(SERVICE).tcp(443, 1, b"").build_ipv6()[..42].to_vec();
    let short = vec![0x60; 39];
    let later = quote(SERVICE)
        .udp(443, 1, &[0; 2000])
        .build_fragments(4, 1200)[1][14..]
        .to_vec();
    let errors = [foreign, port, cut, short, later].map(about);
    assert_eq!(site.bench.receive(UPLINK, &errors), []);
    assert_eq!(
        site.bench.drops(),
        [(DropReason::SteerQuote, 2), (DropReason::SteerHeaders, 3)]
    );
}

/// Of a fragment of a reply only the client is known; that is enough where a client has one server.
#[test]
fn an_error_about_a_fragment_reaches_the_server_of_its_source() {
    let mut site = Site::l2(10);
    site.change(|settings| {
        for service in &mut settings.services {
            service.affinity = Affinity::Source;
        }
    });
    let server = site.servers_of(&[from_client(0).udp(3, 443, b"").build()]);
    let reply = from_router()
        .ipv6(address(SERVICE), address("2600:1::"))
        .udp(443, 3, &[0; 2000])
        .build_fragments(4, 1200);
    let error = from_router()
        .ipv6(address("2600:9::9"), address(SERVICE))
        .icmpv6_error(PACKET_TOO_BIG, 0, 1280, &reply[1][14..])
        .build();
    assert_eq!(site.servers_of(&[error]), server);
}

#[test]
fn a_port_of_no_service_is_refused_as_a_host_does() {
    let mut site = Site::l2(1);
    let packet = from_client(0).udp(1, 80, b"").build();
    let sent = site.bench.receive(UPLINK, std::slice::from_ref(&packet));
    let (kind, code, _, quote) = error(ip(&sent[0].1));
    assert_eq!((kind, code, quote), (1, 4, ip(&packet)));
    assert_eq!(source(ip(&sent[0].1)), address(UPLINK_ADDRESS).octets());
    // TCP has a word for it of its own.
    let packet = from_client(0).tcp(1, 80, b"").build();
    let sent = site.bench.receive(UPLINK, &[packet]);
    let reset = ip(&sent[0].1);
    assert_eq!(
        (reset[6], reset.len(), source(reset)),
        (TCP, 60, address(SERVICE).octets())
    );
    assert_eq!(reset[40 + 13], RST);
    let echo = from_client(0).icmpv6_echo(1, 1, b"").build();
    assert_eq!(site.bench.receive(UPLINK, &[echo]), []);
    assert_eq!(site.bench.drops(), [(DropReason::SteerNoService, 3)]);
}

#[test]
fn a_drained_server_is_no_server_for_new_flows() {
    let mut site = Site::l2(2);
    site.change(|settings| {
        settings.pools[0].servers[0].state = State::Down;
        settings.pools[0].servers[1].state = State::Drained;
        settings.services[0].protocol = Protocol::Any;
        settings.services[0].ports = vec![];
    });
    let echo = from_client(0).icmpv6_echo(1, 1, b"").build();
    let sent = site.bench.receive(UPLINK, &[echo]);
    let (kind, code, ..) = error(ip(&sent[0].1));
    assert_eq!((kind, code), (1, 3));
    assert_eq!(site.bench.drops(), [(DropReason::SteerNoServer, 1)]);
}

#[test]
fn a_server_that_is_not_resolved_gets_nothing_and_nobody_is_told() {
    let mut site = Site::l2(1);
    site.bench.tables = network(0).build_in(&mut site.rib).into();
    assert_eq!(site.bench.receive(UPLINK, &syns(3)), []);
    assert_eq!(site.bench.punted().len(), 0);
    assert_eq!(site.bench.drops(), [(DropReason::SteerUnresolved, 3)]);
}

/// Before a server is chosen nothing differs from forwarding: hop limit and MTU are judged, the quote is what was sent.
#[test]
fn hop_limit_and_mtu_hold_for_servers_too() {
    let mut site = Site::l2(1);
    let expired = from_client(0).hop_limit(1).tcp(1, 443, b"").build();
    let sent = site.bench.receive(UPLINK, std::slice::from_ref(&expired));
    let (kind, code, _, quote) = error(ip(&sent[0].1));
    assert_eq!((kind, code, quote), (3, 0, ip(&expired)));
    let large = from_client(0).tcp(1, 443, &[0; 1441]).build();
    let sent = site.bench.receive(UPLINK, std::slice::from_ref(&large));
    let (kind, _, mtu, _) = error(ip(&sent[0].1));
    assert_eq!((kind, mtu), (2, 1500));
    assert_eq!(
        site.bench.drops(),
        [(DropReason::HopLimit, 1), (DropReason::PacketTooBig, 1)]
    );
}

#[test]
fn headers_nobody_can_follow_are_dropped() {
    let mut site = Site::l2(1);
    site.change(|settings| settings.services[0].protocol = Protocol::Any);
    let cut = from_client(0).raw(TCP, &[0, 1]).build();
    let chain = (0..9).fold(from_client(0), |packet, _| packet.destination_options());
    let packets = [cut, chain.tcp(1, 443, b"").build()];
    assert_eq!(site.bench.receive(UPLINK, &packets), []);
    assert_eq!(site.bench.drops(), [(DropReason::SteerHeaders, 2)]);
}
