//! IPv4 through control thread and workers: ARP answered and asked, echo, forwarding that waits for its next hop, errors.

use std::net::Ipv4Addr;

use dataplane::testing::builder::Packet4;
use dataplane::wire::arp::{self, Message};
use dataplane::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Mac};
use dataplane::wire::icmpv4::types;
use dataplane::wire::ipv4::{self, proto};

use super::bench::*;
use crate::admin::protocol::Subject;
use crate::admin::view;

const OWN: &str = "192.0.2.1";
const HOST_V4: &str = "192.0.2.10";
const UPLINK: &str = "198.51.100.1";
const GATEWAY: &str = "198.51.100.254";
const FAR: &str = "203.0.113.9";

/// Both families on both links, and a default route for each.
fn text_v4(more: &str) -> String {
    let addresses = [
        ("\"fd01:203:405:1::1/64\"", "\"192.0.2.1/24\""),
        ("\"2001:db8:ffff::2/64\"", "\"198.51.100.1/24\""),
    ];
    let base = addresses.iter().fold(text(more), |text, (v6, v4)| {
        text.replace(v6, &format!("{v6}, {v4}"))
    });
    let route = "[[routes]]\nprefix = \"0.0.0.0/0\"\nnext_hops = [{ via = \"198.51.100.254\" }]\n";
    base.replace("[ndp]", &format!("{route}[ndp]"))
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// An echo request of the host inside.
fn ping_v4(destination: &str, sequence: u16, ttl: u8) -> Vec<u8> {
    Packet4::ethernet(HOST, own_mac(INSIDE))
        .ipv4(ip(HOST_V4), ip(destination))
        .ttl(ttl)
        .echo(types::ECHO_REQUEST, 1, sequence, b"payload")
        .build()
}

impl Bench {
    /// A neighbour answers our request for it.
    fn answer_arp(&self, port: usize, address: &str, mac: Mac) {
        let own = if port == INSIDE { OWN } else { UPLINK };
        let reply = Message::reply(mac, ip(address), own_mac(port), ip(own));
        let frame = Packet4::ethernet(mac, own_mac(port)).build_arp(&reply);
        self.feed(port, &frame);
    }

    fn ask_arp(&self, port: usize, sender: (Mac, &str), target: &str) {
        let request = Message::request(sender.0, ip(sender.1), ip(target));
        let frame = Packet4::ethernet(sender.0, Mac::BROADCAST).build_arp(&request);
        self.feed(port, &frame);
    }

    fn count_of(&mut self, name: &str) -> u64 {
        let drops: view::Drops = self.show(Subject::Drops);
        let all = [drops.drops, drops.punts, drops.control].concat();
        let found = all.iter().find(|count| count.name == name);
        found.unwrap_or_else(|| panic!("no counter {name}")).count
    }

    fn neighbor_state(&mut self, address: &str) -> Option<view::Neighbor> {
        let neighbors: view::Neighbors = self.show(Subject::Neighbors);
        let mut all = neighbors.neighbors.into_iter();
        all.find(|neighbor| neighbor.address == address)
    }
}

fn ether_type(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

fn arps(frames: &[Vec<u8>]) -> Vec<&Message> {
    let of_type = frames
        .iter()
        .filter(|frame| ether_type(frame) == ETHERTYPE_ARP);
    of_type
        .map(|frame| arp::parse(&frame[14..]).expect("a right message"))
        .collect()
}

/// Whole IPv4 frames whose ICMP message is of this type.
fn icmps(frames: &[Vec<u8>], kind: u8) -> Vec<&Vec<u8>> {
    let of_type = frames.iter().filter(|frame| {
        ether_type(frame) == ETHERTYPE_IPV4
            && ipv4::parse(&frame[14..]).is_ok_and(|packet| {
                packet.header.protocol == proto::ICMP && packet.payload.first() == Some(&kind)
            })
    });
    of_type.collect()
}

/// A box that has started; nothing it sent then is looked at.
fn started(more: &str) -> Bench {
    let mut bench = Bench::new(&text_v4(more));
    bench.run(10);
    bench.sent(INSIDE);
    bench.sent(OUTSIDE);
    bench
}

#[test]
fn arp_request_is_answered_and_its_sender_known() {
    let mut bench = started("");
    bench.ask_arp(INSIDE, (HOST, HOST_V4), OWN);
    bench.run(10);
    let sent = bench.sent(INSIDE);
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    assert_eq!(sent[0][..6], HOST.octets());
    assert_eq!(sent[0][6..12], own_mac(INSIDE).octets());
    let expected = Message::reply(own_mac(INSIDE), ip(OWN), HOST, ip(HOST_V4));
    assert_eq!(arps(&sent), [&expected]);
    let neighbor = bench.neighbor_state(HOST_V4).expect("known");
    assert_eq!(neighbor.state, "stale");
    assert_eq!(neighbor.mac, Some(HOST.to_string()));
    assert_eq!(bench.count_of("arp"), 1);
    // Others' questions are none of ours.
    bench.ask_arp(INSIDE, (HOST, HOST_V4), "192.0.2.77");
    bench.run(10);
    assert!(bench.sent(INSIDE).is_empty());
    bench.assert_conserved();
}

#[test]
fn arp_that_fails_its_checks_is_counted() {
    let mut bench = started("");
    let group = Mac::from_octets([1, 0, 0x5e, 0, 0, 1]);
    let message = Message::request(group, ip(HOST_V4), ip(OWN));
    let frame = Packet4::ethernet(HOST, Mac::BROADCAST).build_arp(&message);
    bench.feed(INSIDE, &frame);
    bench.run(10);
    assert!(bench.sent(INSIDE).is_empty());
    assert_eq!(bench.count_of("arp_invalid"), 1);
    let neighbors: view::Neighbors = bench.show(Subject::Neighbors);
    assert_eq!(neighbors.invalid["arp_sender"], 1);
    bench.assert_conserved();
}

#[test]
fn arp_keeps_the_tags_of_its_interface() {
    let config = text_v4("").replace(
        "port = \"inside\"\naddresses",
        "port = \"inside\"\nvlan = [100, 7]\naddresses",
    );
    let mut bench = Bench::new(&config);
    bench.run(10);
    bench.sent(INSIDE);
    let request = Message::request(HOST, ip(HOST_V4), ip(OWN));
    let tagged = Packet4::ethernet(HOST, Mac::BROADCAST)
        .vlan(100, 0)
        .vlan(7, 0);
    bench.feed(INSIDE, &tagged.build_arp(&request));
    bench.run(10);
    let sent = bench.sent(INSIDE);
    assert_eq!(sent.len(), 1, "{sent:02x?}");
    let tags = [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 0x08, 0x06];
    assert_eq!(sent[0][12..22], tags);
    let expected = Message::reply(own_mac(INSIDE), ip(OWN), HOST, ip(HOST_V4));
    assert_eq!(arp::parse(&sent[0][22..]), Ok(&expected));
}

#[test]
fn echo_request_is_answered_once_the_way_back_is_known() {
    let mut bench = started("");
    bench.feed(INSIDE, &ping_v4(OWN, 1, 64));
    bench.run(5);
    let sent = bench.sent(INSIDE);
    let expected = Message::request(own_mac(INSIDE), ip(OWN), ip(HOST_V4));
    assert_eq!(arps(&sent), [&expected]);
    assert_eq!(sent[0][..6], [0xff; 6]);
    assert_eq!(sent.len(), 1);
    bench.answer_arp(INSIDE, HOST_V4, HOST);
    bench.run(10);
    let sent = bench.sent(INSIDE);
    let replies = icmps(&sent, types::ECHO_REPLY);
    assert_eq!(replies.len(), 1, "{sent:02x?}");
    assert_eq!(replies[0][..6], HOST.octets());
    assert_eq!(replies[0][6..12], own_mac(INSIDE).octets());
    assert_eq!(replies[0][22], 64, "our own TTL");
    assert_eq!(replies[0][26..34], [192, 0, 2, 1, 192, 0, 2, 10]);
    // The address of the other interface is ours as well.
    bench.feed(INSIDE, &ping_v4(UPLINK, 2, 64));
    bench.run(5);
    let sent = bench.sent(INSIDE);
    assert_eq!(icmps(&sent, types::ECHO_REPLY).len(), 1);
    assert_eq!(sent.len(), 1);
    bench.assert_conserved();
}

#[test]
fn gateway_is_asked_for_at_the_start_and_packets_wait_for_it_in_order() {
    let mut bench = Bench::new(&text_v4(""));
    bench.run(10);
    let sent = bench.sent(OUTSIDE);
    let asked = Message::request(own_mac(OUTSIDE), ip(UPLINK), ip(GATEWAY));
    assert!(arps(&sent).contains(&&asked));
    for sequence in 1..=3 {
        bench.feed(INSIDE, &ping_v4(FAR, sequence, 64));
    }
    bench.run(5);
    assert!(icmps(&bench.sent(OUTSIDE), types::ECHO_REQUEST).is_empty());
    bench.answer_arp(OUTSIDE, GATEWAY, ROUTER);
    bench.run(10);
    let sent = bench.sent(OUTSIDE);
    let requests = icmps(&sent, types::ECHO_REQUEST);
    let sequences: Vec<u8> = requests.iter().map(|frame| frame[41]).collect();
    assert_eq!(sequences, [1, 2, 3]);
    for request in requests {
        assert_eq!(request[..6], ROUTER.octets());
        assert_eq!(request[6..12], own_mac(OUTSIDE).octets());
        assert_eq!(request[22], 63);
        assert!(ipv4::is_valid(&request[14..34]));
    }
    let routes: view::Routes = bench.show(Subject::Routes);
    let default = routes
        .routes
        .iter()
        .find(|route| route.prefix == "0.0.0.0/0")
        .expect("the route");
    assert_eq!(default.next_hops[0].via.as_deref(), Some(GATEWAY));
    assert_eq!(default.next_hops[0].state, "resolved");
    assert_eq!(default.next_hops[0].mac, Some(ROUTER.to_string()));
    let gateway = bench.neighbor_state(GATEWAY).expect("known");
    assert!(gateway.gateway && !gateway.router);
    bench.assert_conserved();
}

/// RFC 1812 5.2.7.1: host unreachable, code 1.
#[test]
fn silent_next_hop_is_answered_with_host_unreachable() {
    let mut bench = started("");
    bench.ask_arp(INSIDE, (HOST, HOST_V4), OWN);
    bench.run(10);
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping_v4("198.51.100.77", 1, 64));
    bench.run(4000);
    // The host is polled meanwhile; it is still there.
    bench.answer_arp(INSIDE, HOST_V4, HOST);
    bench.run(20);
    let sent = bench.sent(INSIDE);
    let errors = icmps(&sent, types::DESTINATION_UNREACHABLE);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0][35], 1, "host unreachable");
    let asked = bench.sent(OUTSIDE);
    let target = ip("198.51.100.77");
    let requests = arps(&asked).into_iter().filter(|m| m.target() == target);
    assert_eq!(requests.count(), 3);
    assert_eq!(bench.count_of("neighbor_unresolved"), 1);
    bench.assert_conserved();
}

#[test]
fn ttl_that_ends_here_is_told_to_the_sender() {
    let mut bench = started("");
    bench.ask_arp(INSIDE, (HOST, HOST_V4), OWN);
    bench.answer_arp(OUTSIDE, GATEWAY, ROUTER);
    bench.run(10);
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping_v4(FAR, 1, 1));
    bench.run(10);
    let sent = bench.sent(INSIDE);
    let errors = icmps(&sent, types::TIME_EXCEEDED);
    assert_eq!(errors.len(), 1, "{sent:02x?}");
    assert_eq!(errors[0][26..30], [192, 0, 2, 1]);
    assert!(
        bench
            .sent(OUTSIDE)
            .iter()
            .all(|f| ether_type(f) != ETHERTYPE_IPV4)
    );
    bench.assert_conserved();
}

#[test]
fn static_neighbour_is_used_without_being_asked_for() {
    let neighbor = "[[neighbors]]\ninterface = \"outside\"\naddress = \"198.51.100.254\"\n\
                    mac = \"0a:00:00:00:00:99\"\n";
    let mut bench = Bench::new(&text_v4(neighbor));
    bench.run(10);
    let sent = bench.sent(OUTSIDE);
    assert!(arps(&sent).iter().all(|m| m.target() != ip(GATEWAY)));
    // What anybody says of it changes nothing.
    bench.ask_arp(OUTSIDE, (HOST, GATEWAY), UPLINK);
    bench.run(10);
    bench.sent(OUTSIDE);
    bench.feed(INSIDE, &ping_v4(FAR, 1, 64));
    bench.run(10);
    let sent = bench.sent(OUTSIDE);
    assert_eq!(icmps(&sent, types::ECHO_REQUEST)[0][..6], ROUTER.octets());
    let neighbor = bench.neighbor_state(GATEWAY).expect("known");
    assert_eq!(neighbor.state, "static");
}

/// RFC 5227 2.1: probed first; what the prefix says of the link holds meanwhile.
#[test]
fn address_is_probed_before_it_is_used_and_its_prefix_is_routed_meanwhile() {
    let careful = text_v4("").replace("dad_transmits = 0", "dad_transmits = 1");
    let mut bench = Bench::new(&careful);
    bench.run(5);
    let address = |bench: &mut Bench, port: usize| {
        let interfaces: view::Interfaces = bench.show(Subject::Interfaces);
        let addresses = &interfaces.interfaces[port].addresses;
        let mut ipv4 = addresses.iter().filter(|a| !a.address.contains(':'));
        ipv4.next().expect("an IPv4 address").clone()
    };
    assert_eq!(address(&mut bench, INSIDE).address, "192.0.2.1/24");
    assert_eq!(address(&mut bench, INSIDE).state, "tentative");
    let probe = Message::request(own_mac(INSIDE), Ipv4Addr::UNSPECIFIED, ip(OWN));
    assert_eq!(arps(&bench.sent(INSIDE)), [&probe]);
    // Not answered for yet, and packets for the link are not without a route.
    bench.ask_arp(INSIDE, (HOST, HOST_V4), OWN);
    bench.feed(INSIDE, &ping_v4("198.51.100.77", 1, 64));
    bench.run(100);
    assert!(arps(&bench.sent(INSIDE)).is_empty());
    assert_eq!(bench.count_of("no_route"), 0);
    assert_eq!(bench.count_of("neighbor_miss"), 1);
    bench.run(6500);
    assert_eq!(address(&mut bench, INSIDE).state, "preferred");
    let announcement = Message::request(own_mac(INSIDE), ip(OWN), ip(OWN));
    assert!(arps(&bench.sent(INSIDE)).contains(&&announcement));
    bench.assert_conserved();
}

#[test]
fn reload_adds_and_removes_ipv4_without_touching_ipv6() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::1"), ROUTER);
    bench.run(10);
    let answer = bench.reload(&text_v4(""));
    assert!(answer.ok, "{answer:?}");
    let changes = answer.data["changes"].to_string();
    assert!(
        changes.contains("~inside") && changes.contains("+0.0.0.0/0"),
        "{changes}"
    );
    bench.run(10);
    bench.sent(INSIDE);
    bench.ask_arp(INSIDE, (HOST, HOST_V4), OWN);
    bench.run(10);
    assert_eq!(arps(&bench.sent(INSIDE)).len(), 1);
    let gateway = bench
        .neighbor_state("2001:db8:ffff::1")
        .expect("still there");
    assert_eq!(gateway.mac, Some(ROUTER.to_string()));
    assert!(bench.reload(&text("")).ok);
    bench.run(10);
    bench.ask_arp(INSIDE, (HOST, HOST_V4), OWN);
    bench.run(10);
    assert!(arps(&bench.sent(INSIDE)).is_empty());
    assert_eq!(bench.neighbor_state(HOST_V4).map(|n| n.address), None);
    assert!(bench.neighbor_state("2001:db8:ffff::1").is_some());
    bench.assert_conserved();
}

#[test]
fn route_by_a_router_of_the_other_family_is_refused_whole() {
    let mut bench = started("");
    let mixed = text_v4("").replace("via = \"198.51.100.254\"", "via = \"2001:db8:ffff::1\"");
    let answer = bench.reload(&mixed);
    assert!(!answer.ok);
    let text = answer.data.to_string() + &format!("{answer:?}");
    assert!(
        text.contains("is an IPv6 address, expected an IPv4 router"),
        "{text}"
    );
    bench.ask_arp(INSIDE, (HOST, HOST_V4), OWN);
    bench.run(10);
    assert_eq!(
        arps(&bench.sent(INSIDE)).len(),
        1,
        "the old one is in force"
    );
}
