//! Pools by source, and how many flows of a service may begin.

use dataplane::reason::DropReason;
use dataplane::wire::icmpv6::types::PACKET_TOO_BIG;
use dataplane::wire::tcp::flags::SYN;

use super::*;

/// Pools `web`, `near` and `nearest` of two servers each; clients of 2600:1::/32 are near, those of 2600:1:0:1::/64 nearest.
fn split(affinity: Affinity) -> Site {
    let mut site = Site::l2(2);
    site.change(|settings| {
        let all = servers(6);
        for (name, from) in [("near", 2), ("nearest", 4)] {
            settings.pools.push(PoolSpec {
                name: name.to_owned(),
                ..pool(all[from..from + 2].to_vec(), Mode::L2)
            });
        }
        for service in &mut settings.services {
            service.affinity = affinity;
            service.pools_by_source = vec![(net("2600:1::/32"), 1), (net("2600:1:0:1::/64"), 2)];
        }
    });
    site
}

const CLIENTS: [(&str, std::ops::Range<u8>); 4] = [
    ("2600:2::1", 0x80..0x82),
    ("2600:1::1", 0x82..0x84),
    ("2600:1:0:1::1", 0x84..0x86),
    ("2600:1:0:2::1", 0x82..0x84),
];

#[test]
fn the_longest_prefix_of_a_client_chooses_the_pool() {
    let mut site = split(Affinity::Flow);
    for (client, expected) in CLIENTS {
        let from = |port| {
            from_router()
                .ipv6(address(client), address(SERVICE))
                .udp(port, 443, b"")
        };
        let packets: Vec<_> = (1..40).map(|port| from(port).build()).collect();
        let to = site.servers_of(&packets);
        assert!(
            to.iter().all(|server| expected.contains(server)),
            "{client}: {to:x?}"
        );
        assert_eq!(site.servers_of(&packets), to);
    }
}

/// RFC 7690 3: an error is about what was sent to a client, and goes where that client's packets go, wherever it was made.
#[test]
fn an_error_goes_to_the_pool_of_the_client_it_is_about() {
    for affinity in [Affinity::Flow, Affinity::Source] {
        let mut site = split(affinity);
        for (client, expected) in CLIENTS {
            let reply = from_router()
                .ipv6(address(SERVICE), address(client))
                .udp(443, 7, &[0; 1300])
                .build_ipv6();
            let packet = from_router()
                .ipv6(address("2600:9::9"), address(SERVICE))
                .icmpv6_error(PACKET_TOO_BIG, 0, 1280, &reply[..1000])
                .build();
            let to = site.servers_of(&[packet]);
            assert!(expected.contains(&to[0]), "{client}: {to:x?}");
        }
    }
}

#[test]
fn fragments_of_a_source_go_to_its_pool_in_any_order() {
    let mut site = split(Affinity::Source);
    for (client, expected) in CLIENTS {
        let packet = from_router().ipv6(address(client), address(SERVICE));
        let mut fragments = packet.udp(5, 443, &[0; 3000]).build_fragments(4, 1200);
        fragments.reverse();
        let to = site.servers_of(&fragments);
        assert_eq!(to.len(), fragments.len());
        assert!(
            to.iter()
                .all(|server| *server == to[0] && expected.contains(server)),
            "{client}: {to:x?}"
        );
    }
}

fn limited(limits: Limits) -> Site {
    let mut site = Site::l2(2);
    // TCP alone.
    site.change(|settings| settings.services[0].limits = limits);
    site
}

#[test]
fn new_flows_of_a_second_are_counted_and_what_goes_on_is_not() {
    let mut site = limited(Limits {
        new_per_second: Some(10),
        flows: None,
    });
    let begun = site.bench.receive(UPLINK, &syns(50));
    assert_eq!(begun.len(), 10);
    assert_eq!(site.bench.drops(), [(DropReason::SteerRate, 40)]);
    let known: Vec<_> = acks(10);
    assert_eq!(site.bench.receive(UPLINK, &known).len(), 10);
    // Connections that began before anybody counted go on, and so does the other service.
    let old: Vec<_> = (900..950)
        .map(|number| segment(number, tcp::flags::ACK))
        .collect();
    assert_eq!(site.bench.receive(UPLINK, &old).len(), 50);
    let datagrams: Vec<_> = (0..50)
        .map(|number| from_client(number).udp(number, 443, b"").build())
        .collect();
    assert_eq!(site.bench.receive(UPLINK, &datagrams).len(), 50);
    site.rib.set_steering_time(1);
    let more: Vec<_> = (100..150).map(|number| segment(number, SYN)).collect();
    assert_eq!(site.bench.receive(UPLINK, &more).len(), 10);
}

/// Flows are counted a piece at a time, while others begin; never do more go on than may.
#[test]
fn flows_at_a_time_are_those_that_were_counted_and_those_that_began_since() {
    let mut site = limited(Limits {
        new_per_second: None,
        flows: Some(100),
    });
    let flows = site.settings.flows;
    let mut second = 0;
    let mut count = |site: &mut Site, most: u32| {
        second += 1;
        site.rib.set_steering_time(second);
        let mut census = site.memory.begin(flows);
        while !site.memory.count(&mut census, 1000, second) {}
        let state = site.rib.pool("web").unwrap();
        let live: u32 = state
            .servers
            .iter()
            .map(|server| census.of(server.unwrap().0))
            .sum();
        site.memory.allow(&census, 0, most - live);
        live
    };
    assert_eq!(
        site.bench.receive(UPLINK, &syns(10)).len(),
        0,
        "nobody allowed any yet"
    );
    assert_eq!(count(&mut site, 100), 0);
    assert_eq!(site.bench.receive(UPLINK, &syns(150)).len(), 100);
    assert_eq!(count(&mut site, 100), 100);
    assert_eq!(
        site.bench
            .receive(
                UPLINK,
                &(200..250)
                    .map(|number| segment(number, SYN))
                    .collect::<Vec<_>>()
            )
            .len(),
        0
    );
    // Thirty end.
    let ends: Vec<_> = (0..30)
        .map(|number| segment(number, tcp::flags::RST))
        .collect();
    assert_eq!(site.bench.receive(UPLINK, &ends).len(), 30);
    assert_eq!(count(&mut site, 100), 70);
    assert_eq!(
        site.bench
            .receive(
                UPLINK,
                &(300..400)
                    .map(|number| segment(number, SYN))
                    .collect::<Vec<_>>()
            )
            .len(),
        30
    );
    assert_eq!(count(&mut site, 100), 100);
}
