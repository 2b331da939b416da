//! IPv4 neighbours: asked for, answered, learned and polled by ARP (RFC 826, RFC 1122 2.3.2).

use super::*;
use crate::proto::ndp::{Invalid, RefusedReason};

pub(super) const OWN: &str = "192.0.2.1";
pub(super) const HOST: &str = "192.0.2.99";
pub(super) const ROUTER: &str = "192.0.2.254";
const NO_MAC: Mac = Mac::from_octets([0; 6]);
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

pub(super) fn ip4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(super) fn config_v4() -> InterfaceConfig {
    let mut made = config();
    made.addresses = vec!["192.0.2.1/24".parse().unwrap()];
    made
}

fn bench() -> Bench {
    Bench::quiet(settings(), config_v4())
}

pub(super) fn request(sender: (Mac, &str), target: &str) -> Vec<u8> {
    let (mac, sender) = sender;
    arp_message(REQUEST, (mac, ip4(sender)), (NO_MAC, ip4(target)))
}

pub(super) fn reply(sender: (Mac, &str), target: &str) -> Vec<u8> {
    let (mac, sender) = sender;
    arp_message(REPLY, (mac, ip4(sender)), (MAC, ip4(target)))
}

impl Bench {
    /// A valid ARP message from its sender, and what it caused.
    pub(super) fn hear(&mut self, message: &[u8]) -> Drained {
        let mac = Mac::from_octets(message[8..14].try_into().unwrap());
        let handled = self.machine.handle_arp(self.now, WAN, mac, message);
        assert_eq!(handled, Handled::Consumed);
        self.drain()
    }

    fn ask_for(&mut self, target: &str, packet: u32) -> Result<(), Refused<u32>> {
        self.machine.resolve(self.now, WAN, any(target), packet)
    }

    fn make_reachable_v4(&mut self, target: &str, mac: Mac) {
        self.ask_for(target, 0).unwrap();
        self.drain();
        assert_eq!(self.hear(&reply((mac, target), OWN)).ready, [0]);
        assert_eq!(self.state(target), Some(NeighborState::Reachable));
    }

    fn mac_v4(&self, address: &str) -> Option<Mac> {
        self.machine.usable(WAN, any(address))
    }
}

impl Drained {
    /// The only ARP message sent, and nothing else.
    pub(super) fn only_arp(&self) -> &ArpSent {
        assert!(self.sent.is_empty());
        match &self.arp[..] {
            [one] => one,
            other => panic!("{} ARP messages sent: {other:?}", other.len()),
        }
    }
}

fn asks(target: &str, mac: Mac) -> ArpSent {
    ArpSent {
        interface: WAN,
        mac,
        operation: REQUEST,
        sender: (MAC, ip4(OWN)),
        target: (NO_MAC, ip4(target)),
    }
}

// ---- answering ----

/// RFC 826 "Packet Reception": the answer goes to who asked, with the pairs swapped, and the asker is remembered.
#[test]
fn a_request_for_an_own_address_is_answered_and_learned_from() {
    let mut bench = bench();
    let drained = bench.hear(&request((PEER_MAC, HOST), OWN));
    let expected = ArpSent {
        interface: WAN,
        mac: PEER_MAC,
        operation: REPLY,
        sender: (MAC, ip4(OWN)),
        target: (PEER_MAC, ip4(HOST)),
    };
    assert_eq!(drained.only_arp(), &expected);
    assert_eq!(drained.changes, 1);
    assert_eq!(bench.state(HOST), Some(NeighborState::Stale));
    assert_eq!(bench.mac_v4(HOST), Some(PEER_MAC));
    assert_eq!(bench.count(Counter::ArpRepliesSent), 1);
}

#[test]
fn a_request_for_another_is_neither_answered_nor_learned_from() {
    let mut bench = bench();
    bench
        .hear(&request((PEER_MAC, HOST), "192.0.2.2"))
        .assert_silent();
    assert_eq!(bench.state(HOST), None);
    assert_eq!(bench.count(Counter::ArpForOthers), 1);
}

/// It is answered, because it knows us, but it is no neighbour whom we could send to directly.
#[test]
fn a_request_from_off_the_link_is_answered_but_not_learned_from() {
    let mut bench = bench();
    let drained = bench.hear(&request((PEER_MAC, "198.51.100.7"), OWN));
    assert_eq!(drained.only_arp().operation, REPLY);
    assert_eq!(bench.state("198.51.100.7"), None);
    assert_eq!(bench.count(Counter::SourceNotOnLink), 1);
}

/// RFC 1122 3.2.1.3: network and broadcast address are nobody's; RFC 3021: of a /31 both addresses are hosts'.
#[test]
fn the_ends_of_a_prefix_are_no_neighbours_unless_it_has_only_two() {
    let mut bench = bench();
    for end in ["192.0.2.0", "192.0.2.255", "255.255.255.255", "224.0.0.5"] {
        let refused = bench.ask_for(end, 1).unwrap_err();
        assert_eq!(refused.reason, RefusedReason::NotOnLink, "{end}");
    }
    bench.hear(&request((PEER_MAC, "192.0.2.0"), OWN));
    assert_eq!(bench.state("192.0.2.0"), None);
    let mut pair = config_v4();
    pair.addresses = vec!["192.0.2.1/31".parse().unwrap()];
    let mut bench = Bench::quiet(settings(), pair);
    bench.ask_for("192.0.2.0", 1).unwrap();
    assert_eq!(bench.drain().only_arp(), &asks("192.0.2.0", Mac::BROADCAST));
}

// ---- resolving ----

#[test]
fn packets_wait_while_everybody_is_asked_and_go_when_the_reply_comes() {
    let mut bench = bench();
    bench.ask_for(HOST, 1).unwrap();
    assert_eq!(bench.drain().only_arp(), &asks(HOST, Mac::BROADCAST));
    bench.ask_for(HOST, 2).unwrap();
    bench.drain().assert_silent();
    let drained = bench.hear(&reply((PEER_MAC, HOST), OWN));
    assert_eq!(drained.ready, [1, 2]);
    assert_eq!(drained.changes, 1);
    assert!(drained.arp.is_empty());
    assert_eq!(bench.state(HOST), Some(NeighborState::Reachable));
    assert_eq!(bench.mac_v4(HOST), Some(PEER_MAC));
}

/// RFC 1122 2.3.2.1: "The recommended maximum rate is 1 per second per destination."
#[test]
fn three_requests_a_second_apart_then_the_packets_fail() {
    let mut bench = bench();
    bench.ask_for(HOST, 1).unwrap();
    let mut requests = bench.drain().arp.len();
    for _ in 0..2 {
        requests += bench.after(SECOND).arp.len();
    }
    assert_eq!(requests, 3);
    let drained = bench.after(SECOND);
    assert!(drained.arp.is_empty());
    assert_eq!(drained.failed, [1]);
    assert_eq!(bench.state(HOST), None);
}

/// RFC 1122 2.3.2.2: "SHOULD save (rather than discard) at least one (the latest) packet".
#[test]
fn a_full_queue_gives_up_its_oldest_packet() {
    let mut bench = bench();
    let limit = u32::try_from(settings().queue_packets).unwrap();
    for packet in 0..limit {
        bench.ask_for(HOST, packet).unwrap();
    }
    let refused = bench.ask_for(HOST, limit).unwrap_err();
    assert_eq!(
        (refused.packet, refused.reason),
        (0, RefusedReason::QueueFull)
    );
    let drained = bench.hear(&reply((PEER_MAC, HOST), OWN));
    assert_eq!(drained.ready, (1..=limit).collect::<Vec<_>>());
}

/// A scan of the prefix costs a bounded number of entries and requests, whatever its rate.
#[test]
fn a_scan_is_bounded() {
    let limits = Settings {
        max_incomplete: 16,
        resolutions_burst: 64,
        ..settings()
    };
    let mut bench = Bench::quiet(limits, config_v4());
    bench.make_reachable_v4(HOST, PEER_MAC);
    let mut refused = 0;
    for host in 2..=98 {
        if bench.ask_for(&format!("192.0.2.{host}"), host).is_err() {
            refused += 1;
        }
    }
    // A quarter stays free for those who are known.
    assert_eq!(refused, 97 - 12);
    assert_eq!(bench.drain().arp.len(), 12);
    bench.ask_for(HOST, 1000).unwrap();
    assert_eq!(bench.drain().ready, [1000]);
}

/// Each address is asked for from the own address in its prefix.
#[test]
fn the_sender_of_a_request_is_in_the_prefix_of_its_target() {
    let mut two = config_v4();
    two.addresses = vec![
        "10.0.0.1/8".parse().unwrap(),
        "192.0.2.1/24".parse().unwrap(),
    ];
    two.on_link = vec!["198.51.100.0/24".parse().unwrap()];
    let mut bench = Bench::quiet(settings(), two);
    bench.ask_for(HOST, 1).unwrap();
    assert_eq!(bench.drain().only_arp().sender.1, ip4("192.0.2.1"));
    bench.ask_for("10.9.9.9", 2).unwrap();
    assert_eq!(bench.drain().only_arp().sender.1, ip4("10.0.0.1"));
    // On the link without an own address in its prefix: any will do.
    bench.ask_for("198.51.100.9", 3).unwrap();
    assert_eq!(bench.drain().only_arp().sender.1, ip4("10.0.0.1"));
}

/// An interface without an IPv4 address has nobody to ask as; what waits fails in time.
#[test]
fn without_an_own_ipv4_address_nothing_is_asked() {
    let mut none = config();
    none.on_link = vec!["198.51.100.0/24".parse().unwrap()];
    let mut bench = Bench::quiet(settings(), none);
    bench.ask_for("198.51.100.9", 3).unwrap();
    let drained = bench.after(10 * SECOND);
    assert!(drained.arp.is_empty());
    assert_eq!(drained.failed, [3]);
    assert_eq!(bench.count(Counter::SolicitationsWithoutSource), 3);
}

// ---- keeping ----

/// RFC 1122 2.3.2.1 (2): "Unicast Poll -- Actively poll the remote host by periodically sending a point-to-point ARP
/// Request to it, and delete the entry if no ARP Reply is received from N successive polls."
#[test]
fn an_entry_in_use_is_polled_and_deleted_when_nobody_answers() {
    let mut bench = bench();
    bench.make_reachable_v4(HOST, PEER_MAC);
    bench.run(60 * SECOND);
    bench.drain();
    let polled = loop {
        bench.machine.confirm_in_use(bench.now, WAN, any(HOST));
        let drained = bench.after(SECOND);
        if !drained.arp.is_empty() {
            break drained;
        }
    };
    assert_eq!(polled.only_arp(), &asks(HOST, PEER_MAC));
    assert_eq!(bench.state(HOST), Some(NeighborState::Probe));
    assert_eq!(
        bench.mac_v4(HOST),
        Some(PEER_MAC),
        "usable while it is asked"
    );
    let drained = bench.hear(&reply((PEER_MAC, HOST), OWN));
    drained.assert_silent();
    assert_eq!(bench.state(HOST), Some(NeighborState::Reachable));
    // And now it is gone.
    let mut polls = 0;
    for _ in 0..300 {
        let drained = bench.after(SECOND);
        polls += drained.arp.len();
        if drained.changes > 0 {
            break;
        }
    }
    assert_eq!(polls, 3);
    assert_eq!(bench.mac_v4(HOST), None);
}

#[test]
fn a_gateway_is_asked_for_at_once_and_for_ever() {
    let mut bench = bench();
    bench
        .machine
        .set_gateways(bench.now, WAN, vec![any(ROUTER), any(GATEWAY)]);
    let drained = bench.drain();
    assert_eq!(drained.arp, [asks(ROUTER, Mac::BROADCAST)]);
    assert_eq!(drained.sent.len(), 1, "the IPv6 one by a solicitation");
    let requests = bench.after(300 * SECOND).arp.len();
    assert!(requests > 30, "{requests}");
    let drained = bench.hear(&reply((PEER_MAC, ROUTER), OWN));
    assert_eq!(
        drained.events,
        [Event::GatewayResolved {
            interface: WAN,
            address: any(ROUTER),
            mac: PEER_MAC
        }]
    );
}

/// RFC 826 merges what every sender says about itself; that is how an address that moves says so.
#[test]
fn a_gratuitous_message_moves_a_known_neighbour_and_makes_no_new_one() {
    for operation in [REQUEST, REPLY] {
        let mut bench = bench();
        bench.make_reachable_v4(HOST, PEER_MAC);
        let gratuitous = |address: &str| {
            let (sender, target) = ((OTHER_MAC, ip4(address)), (NO_MAC, ip4(address)));
            arp_message(operation, sender, target)
        };
        let drained = bench.hear(&gratuitous(HOST));
        assert_eq!(bench.mac_v4(HOST), Some(OTHER_MAC));
        assert_eq!(bench.state(HOST), Some(NeighborState::Stale));
        assert_eq!(drained.changes, 1);
        assert_eq!(
            drained.events,
            [Event::NeighborMoved {
                interface: WAN,
                address: any(HOST),
                from: PEER_MAC,
                to: OTHER_MAC
            }]
        );
        bench.hear(&gratuitous("192.0.2.50")).assert_silent();
        assert_eq!(bench.state("192.0.2.50"), None);
    }
}

/// A reply that nobody asked for proves nothing: a stranger makes no entry, a known one is not confirmed.
#[test]
fn a_reply_that_was_not_asked_for_is_not_believed() {
    let mut bench = bench();
    bench.hear(&reply((PEER_MAC, HOST), OWN)).assert_silent();
    assert_eq!(bench.state(HOST), None);
    bench.hear(&request((PEER_MAC, HOST), OWN));
    assert_eq!(bench.state(HOST), Some(NeighborState::Stale));
    bench.hear(&reply((PEER_MAC, HOST), OWN)).assert_silent();
    assert_eq!(bench.state(HOST), Some(NeighborState::Stale));
}

#[test]
fn nothing_overwrites_a_static_neighbour() {
    let mut fixed = config_v4();
    fixed.statics = vec![(any(HOST), PEER_MAC)];
    let mut bench = Bench::quiet(settings(), fixed);
    for message in [
        request((OTHER_MAC, HOST), OWN),
        request((OTHER_MAC, HOST), HOST),
        reply((OTHER_MAC, HOST), OWN),
    ] {
        bench.hear(&message);
        assert_eq!(bench.mac_v4(HOST), Some(PEER_MAC));
        assert_eq!(bench.state(HOST), Some(NeighborState::Static));
    }
    bench.ask_for(HOST, 7).unwrap();
    let drained = bench.drain();
    assert_eq!(drained.ready, [7]);
    assert!(drained.arp.is_empty());
}

/// A stranger's message never pushes out a neighbour that has answered.
#[test]
fn strangers_do_not_push_out_who_has_answered() {
    let limits = Settings {
        max_neighbors: 4,
        max_incomplete: 4,
        ..settings()
    };
    let mut bench = Bench::quiet(limits, config_v4());
    bench.make_reachable_v4(HOST, PEER_MAC);
    for host in 2..=90 {
        let mac = Mac::from_octets([2, 0, 0, 0, 9, host]);
        bench.hear(&request((mac, &format!("192.0.2.{host}")), OWN));
    }
    assert_eq!(bench.machine.neighbors().count(), 4);
    assert_eq!(bench.mac_v4(HOST), Some(PEER_MAC));
}

// ---- links and reloads ----

#[test]
fn a_link_that_goes_down_forgets_ipv4_neighbours_too() {
    let mut bench = bench();
    bench.make_reachable_v4(HOST, PEER_MAC);
    bench.machine.set_link(bench.now, WAN, false);
    assert_eq!(bench.drain().changes, 1);
    assert_eq!(bench.mac_v4(HOST), None);
    let message = request((PEER_MAC, HOST), OWN);
    let handled = bench.machine.handle_arp(bench.now, WAN, PEER_MAC, &message);
    assert_eq!(handled, Handled::Invalid(Invalid::NoInterface));
}

#[test]
fn neighbours_of_a_prefix_that_is_gone_are_forgotten() {
    let mut bench = bench();
    bench.make_reachable_v4(HOST, PEER_MAC);
    bench.make_reachable(GATEWAY, OTHER_MAC);
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    bench.drain();
    assert_eq!(bench.mac_v4(HOST), None);
    assert_eq!(bench.mac(GATEWAY), Some(OTHER_MAC));
}

// ---- what is no message ----

#[test]
fn messages_that_fail_a_check_change_nothing() {
    let good = request((PEER_MAC, HOST), OWN);
    let with = |at: usize, bytes: &[u8]| {
        let mut message = good.clone();
        message[at..at + bytes.len()].copy_from_slice(bytes);
        message
    };
    let mut bad: Vec<(Vec<u8>, Invalid)> = vec![
        (with(1, &[6]), Invalid::ArpKind),
        (with(2, &[0x86, 0xdd]), Invalid::ArpKind),
        (with(4, &[8]), Invalid::ArpKind),
        (with(5, &[16]), Invalid::ArpKind),
        (with(7, &[0]), Invalid::ArpOperation),
        (with(7, &[3]), Invalid::ArpOperation),
        // RFC 1812 3.3.2: no group and no broadcast address is believed.
        (with(8, &[0xff; 6]), Invalid::ArpSender),
        (with(8, &[1, 0, 0x5e, 0, 0, 1]), Invalid::ArpSender),
        (with(8, &[0; 6]), Invalid::ArpSender),
        (with(14, &[255; 4]), Invalid::ArpSender),
        (with(14, &[224, 0, 0, 1]), Invalid::ArpSender),
        (with(14, &[127, 0, 0, 1]), Invalid::ArpSender),
        // A reply cannot be a probe.
        (
            arp_message(REPLY, (PEER_MAC, ip4("0.0.0.0")), (MAC, ip4(OWN))),
            Invalid::ArpSender,
        ),
    ];
    for len in 0..good.len() {
        bad.push((good[..len].to_vec(), Invalid::Truncated));
    }
    let mut bench = bench();
    for (message, reason) in bad {
        let before = bench.machine.counters().invalid(reason);
        let handled = bench.machine.handle_arp(bench.now, WAN, PEER_MAC, &message);
        assert_eq!(handled, Handled::Invalid(reason), "{message:?}");
        assert_eq!(bench.machine.counters().invalid(reason), before + 1);
        bench.drain().assert_silent();
    }
    // Ethernet pads short frames.
    let padded = [&good[..], &[0; 18]].concat();
    assert_eq!(bench.hear(&padded).arp.len(), 1);
}

/// What the target's hardware address says in a request is of no meaning (RFC 826).
#[test]
fn the_target_hardware_address_of_a_request_is_ignored() {
    let mut bench = bench();
    for mac in [MAC, OTHER_MAC, Mac::BROADCAST] {
        let message = arp_message(REQUEST, (PEER_MAC, ip4(HOST)), (mac, ip4(OWN)));
        assert_eq!(bench.hear(&message).arp.len(), 1);
    }
}

#[test]
fn own_messages_that_come_back_are_ignored() {
    let mut bench = bench();
    bench.hear(&request((MAC, OWN), HOST)).assert_silent();
    bench.hear(&request((MAC, OWN), OWN)).assert_silent();
    assert_eq!(bench.count(Counter::Looped), 2);
}
