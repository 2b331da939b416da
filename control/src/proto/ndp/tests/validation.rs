//! What is discarded unread, and why (RFC 4861 6.1.1, 7.1; RFC 6980 5; RFC 3810 5.1.14, 6.2), and what is not.

use super::super::Invalid;
use super::*;

/// Feed a packet that has to be discarded for this reason and to change nothing.
fn assert_invalid(packet: &[u8], reason: Invalid) {
    let mut bench = Bench::new();
    let timers = bench.machine.timers_len();
    assert_eq!(bench.input(PEER_MAC, packet), Handled::Invalid(reason));
    bench.drain().assert_silent();
    assert_eq!(bench.machine.neighbors().count(), 0);
    assert_eq!(bench.machine.timers_len(), timers);
    assert_eq!(bench.machine.counters().invalid(reason), 1);
    let all: u64 = bench
        .machine
        .counters()
        .invalid_counts()
        .map(|(_, n)| n)
        .sum();
    assert_eq!(all, 1);
}

fn ns(message: &[u8]) -> Packet {
    icmpv6(ip(PEER), solicited_node(ip(GLOBAL)), message)
}

fn good_ns() -> Vec<u8> {
    solicitation_message(ip(GLOBAL), &source_mac(PEER_MAC))
}

fn good_na() -> Vec<u8> {
    advertisement_message(ip(PEER), "SO", &target_mac(PEER_MAC))
}

fn na(message: &[u8]) -> Packet {
    icmpv6(ip(PEER), ip(GLOBAL), message)
}

/// RFC 4861 7.1.1 and 7.1.2, "the IP Hop Limit field has a value of 255".
#[test]
fn a_message_that_may_have_been_forwarded_is_discarded() {
    for hop_limit in [0, 1, 64, 254] {
        let packet = ns(&good_ns()).hop_limit(hop_limit).build_ipv6();
        assert_invalid(&packet, Invalid::HopLimit);
        let packet = na(&good_na()).hop_limit(hop_limit).build_ipv6();
        assert_invalid(&packet, Invalid::HopLimit);
    }
}

/// RFC 4861 7.1.1 and 7.1.2, "ICMP Checksum is valid".
#[test]
fn a_wrong_checksum_is_discarded() {
    assert_invalid(
        &ns(&good_ns()).wrong_checksum().build_ipv6(),
        Invalid::Checksum,
    );
    assert_invalid(
        &na(&good_na()).wrong_checksum().build_ipv6(),
        Invalid::Checksum,
    );
}

/// RFC 4861 7.1.1 and 7.1.2, "ICMP Code is 0".
#[test]
fn another_code_is_discarded() {
    for mut message in [good_ns(), good_na()] {
        message[1] = 1;
        assert_invalid(&ns(&message).build_ipv6(), Invalid::Code);
    }
}

/// RFC 4861 7.1.1 and 7.1.2, "ICMP length ... is 24 or more octets"; 6.1.1: 8 or more.
#[test]
fn a_short_message_is_discarded() {
    for good in [good_ns(), good_na()] {
        for len in 4..24 {
            assert_invalid(&ns(&good[..len]).build_ipv6(), Invalid::Length);
        }
    }
    for len in 4..8 {
        let message = &[133, 0, 0, 0, 0, 0, 0, 0][..len];
        assert_invalid(&ns(message).build_ipv6(), Invalid::Length);
    }
}

/// RFC 4861 7.1.1 and 7.1.2, "Target Address is not a multicast address".
#[test]
fn a_multicast_target_is_discarded() {
    let message = solicitation_message(ip("ff02::1"), &source_mac(PEER_MAC));
    assert_invalid(&ns(&message).build_ipv6(), Invalid::TargetMulticast);
    let message = advertisement_message(ip("ff02::1"), "O", &target_mac(PEER_MAC));
    assert_invalid(&na(&message).build_ipv6(), Invalid::TargetMulticast);
}

/// RFC 4861 7.1.1 and 7.1.2, "All included options have a length that is greater than zero"; RFC 2464 6 for Ethernet's.
#[test]
fn a_malformed_option_condemns_the_message() {
    let bad_options: [&[u8]; 5] = [
        // Zero length, first and after a good one.
        &[1, 0, 2, 0, 0, 0, 0, 9],
        &[14, 1, 1, 2, 3, 4, 5, 6, 99, 0, 0, 0, 0, 0, 0, 0],
        // Longer than the message.
        &[1, 2, 2, 0, 0, 0, 0, 9],
        // Less than a header.
        &[1],
        // A link-layer address that is not Ethernet's.
        &[1, 2, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for options in bad_options {
        let message = solicitation_message(ip(GLOBAL), options);
        assert_invalid(&ns(&message).build_ipv6(), Invalid::OptionLength);
        let mut options = options.to_vec();
        if options[0] == 1 {
            options[0] = 2;
        }
        let message = advertisement_message(ip(PEER), "O", &options);
        assert_invalid(&na(&message).build_ipv6(), Invalid::OptionLength);
    }
}

/// Ours: no node has a group or zero address, and one taken would black-hole or flood its traffic.
#[test]
fn a_group_as_link_layer_address_is_discarded() {
    for mac in [
        Mac::BROADCAST,
        Mac::from_octets([0x33, 0x33, 0, 0, 0, 1]),
        Mac::from_octets([0; 6]),
    ] {
        let message = solicitation_message(ip(GLOBAL), &source_mac(mac));
        assert_invalid(&ns(&message).build_ipv6(), Invalid::LinkLayerAddress);
        let message = advertisement_message(ip(PEER), "O", &target_mac(mac));
        assert_invalid(&na(&message).build_ipv6(), Invalid::LinkLayerAddress);
    }
}

/// RFC 4861 7.1.1, "If the IP source address is the unspecified address, the IP destination address is a solicited-node
/// multicast address", and there is no source link-layer address.
#[test]
fn a_probe_goes_to_the_group_and_has_no_source_address() {
    let message = solicitation_message(ip(GLOBAL), &[]);
    for destination in [GLOBAL, ALL_NODES, "ff02::1:fe00:1"] {
        let packet = icmpv6(ip("::"), ip(destination), &message).build_ipv6();
        assert_invalid(&packet, Invalid::ProbeDestination);
    }
    assert_invalid(
        &solicitation("::", GLOBAL, &source_mac(PEER_MAC)),
        Invalid::ProbeWithSourceAddress,
    );
    // RFC 4861 6.1.1 says the same of router solicitations.
    let message = [&[133, 0, 0, 0, 0, 0, 0, 0][..], &source_mac(PEER_MAC)].concat();
    let packet = icmpv6(ip("::"), ip("ff02::2"), &message).build_ipv6();
    assert_invalid(&packet, Invalid::ProbeWithSourceAddress);
}

/// RFC 4861 7.1.2, "If the IP Destination Address is a multicast address the Solicited flag is zero".
#[test]
fn a_solicited_advertisement_to_a_group_is_discarded() {
    for flags in ["S", "SO", "RSO"] {
        let packet = advertisement(PEER, ALL_NODES, flags, &target_mac(PEER_MAC));
        assert_invalid(&packet, Invalid::SolicitedMulticast);
    }
}

/// RFC 6980 5: fragments are ignored, a fragment header on a whole packet included.
#[test]
fn fragments_are_discarded() {
    assert_invalid(
        &ns(&good_ns()).fragment(0, false, 7).build_ipv6(),
        Invalid::Fragmented,
    );
    assert_invalid(
        &ns(&good_ns()).fragment(0, true, 7).build_ipv6(),
        Invalid::Fragmented,
    );
    let behind = ns(&good_ns()).destination_options().fragment(0, false, 7);
    assert_invalid(&behind.build_ipv6(), Invalid::Fragmented);
}

#[test]
fn what_is_not_neighbour_discovery_is_discarded() {
    let packet = ns(&good_ns());
    assert_invalid(&packet.clone().version(4).build_ipv6(), Invalid::Truncated);
    assert_invalid(
        &packet.clone().payload_length(33).build_ipv6(),
        Invalid::Truncated,
    );
    let udp = packet.clone().udp(1, 2, b"x").build_ipv6();
    assert_invalid(&udp, Invalid::NotIcmpv6);
    let echo = packet.clone().icmpv6_echo(1, 2, b"x").build_ipv6();
    assert_invalid(&echo, Invalid::UnknownType);
    let routed = packet.routing(1, &[ip(GLOBAL)]).build_ipv6();
    assert_invalid(&routed, Invalid::NotIcmpv6);
    let group = icmpv6(ip("ff02::1"), solicited_node(ip(GLOBAL)), &good_ns()).build_ipv6();
    assert_invalid(&group, Invalid::SourceMulticast);
}

/// Ours: a message from an interface that is not there, or down, is counted and nothing else.
#[test]
fn messages_of_unknown_and_dead_interfaces_are_discarded() {
    let mut bench = Bench::new();
    let message = ns(&good_ns()).build_ipv6();
    let elsewhere = InterfaceIndex(99);
    let handled = bench
        .machine
        .handle_input(bench.now, elsewhere, PEER_MAC, &message);
    assert_eq!(handled, Handled::Invalid(Invalid::NoInterface));
    bench.machine.set_link(bench.now, WAN, false);
    bench.drain();
    assert_eq!(
        bench.input(PEER_MAC, &message),
        Handled::Invalid(Invalid::NoInterface)
    );
    bench.drain().assert_silent();
}

/// RFC 4861 7.1.1: "The contents of the Reserved field, and of any unrecognized options, MUST be ignored"; RFC 7527 4:
/// a nonce may come first; a frame may be padded.
#[test]
fn unknown_options_reserved_bits_and_padding_do_not_matter() {
    let options = [
        nonce([1, 2, 3, 4, 5, 6]),
        vec![200, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
        // Prefix information has no business here, and is well-formed.
        [&[3, 4][..], &[0; 30]].concat(),
        source_mac(PEER_MAC),
        // Of two the first counts.
        source_mac(OTHER_MAC),
    ]
    .concat();
    let mut message = solicitation_message(ip(GLOBAL), &options);
    message[4..8].copy_from_slice(&[0xff; 4]);
    let packet = ns(&message)
        .destination_options()
        .trailer(&[0xee; 9])
        .build_ipv6();
    let mut bench = Bench::new();
    let drained = bench.receive(&packet);
    assert_eq!(drained.only().kind, ADVERTISEMENT);
    assert_eq!(bench.mac(PEER), Some(PEER_MAC));

    // The same for an advertisement: the other 29 bits are not flags.
    let mut message = good_na();
    message[4] |= 0x1f;
    message[5..8].copy_from_slice(&[0xff; 3]);
    let mut bench = Bench::new();
    bench.resolve(PEER, 1).unwrap();
    bench.drain();
    assert_eq!(bench.receive(&na(&message).build_ipv6()).ready, [1]);
}

/// RFC 4861 8: a router takes no redirect; advertisements of other routers are not used either, and solicitations for
/// ours have no answer here.
#[test]
fn router_messages_are_counted_and_nothing_else() {
    let mut bench = Bench::new();
    let solicitation = [&[133, 0, 0, 0, 0, 0, 0, 0][..], &source_mac(PEER_MAC)].concat();
    let advertisement = [&[134][..], &[0; 15], &source_mac(PEER_MAC)].concat();
    let redirect = [&[137][..], &[0; 39]].concat();
    for message in [&solicitation, &advertisement, &redirect] {
        let packet = icmpv6(ip(GATEWAY), ip(ALL_NODES), message).build_ipv6();
        bench.receive(&packet).assert_silent();
    }
    assert_eq!(bench.count(Counter::RouterSolicitationsReceived), 1);
    assert_eq!(bench.count(Counter::RouterAdvertisementsReceived), 1);
    assert_eq!(bench.count(Counter::RedirectsReceived), 1);
    assert_eq!(bench.machine.neighbors().count(), 0);
}

fn query(source: &str, options: &[u8]) -> Packet {
    let message = [&[130, 0, 0, 0, 0, 100, 0, 0][..], &[0; 20]].concat();
    icmpv6(ip(source), ip(ALL_NODES), &message)
        .hop_limit(1)
        .options(proto::HOP_BY_HOP, options)
}

/// RFC 3810 5.1.14 and 6.2.
#[test]
fn queries_are_link_local_and_carry_router_alert() {
    const ALERT: [u8; 6] = [5, 2, 0, 0, 1, 0];
    assert_invalid(&query(PEER, &ALERT).build_ipv6(), Invalid::QuerySource);
    let forwarded = query(GATEWAY, &ALERT).hop_limit(255);
    assert_invalid(&forwarded.build_ipv6(), Invalid::HopLimit);
    for not_alert in [
        [1, 4, 0, 0, 0, 0],
        // RSVP's alert; an option cut short; one that runs past the header.
        [5, 2, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 5],
        [1, 200, 0, 0, 0, 0],
    ] {
        let packet = query(GATEWAY, &not_alert).build_ipv6();
        assert_invalid(&packet, Invalid::QueryRouterAlert);
    }
    let mut bench = Bench::new();
    // Padding before the option.
    bench.receive(&query(GATEWAY, &[0, 0, 5, 2, 0, 0]).build_ipv6());
    assert_eq!(bench.count(Counter::QueriesReceived), 1);
}

/// Every message kind, cut at every length: discarded, whether or not the header admits the cut.
#[test]
fn truncated_messages_change_nothing() {
    let probe = solicitation("::", GLOBAL, &nonce([1, 2, 3, 4, 5, 6]));
    let messages = [
        ns(&good_ns()).build_ipv6(),
        ns(&good_ns()).destination_options().build_ipv6(),
        na(&good_na()).build_ipv6(),
        probe,
        query(GATEWAY, &[5, 2, 0, 0, 1, 0]).build_ipv6(),
    ];
    for whole in &messages {
        for len in 0..whole.len() {
            assert_invalid(&whole[..len], Invalid::Truncated);
        }
    }
    // With a payload length and checksum that fit the cut, only the fixed part and whole options remain valid.
    let destination = solicited_node(ip(GLOBAL));
    for good in [good_ns(), good_na()] {
        for len in 4..good.len() {
            let packet = icmpv6(ip(PEER), destination, &good[..len]).build_ipv6();
            let mut bench = Bench::new();
            let handled = bench.input(PEER_MAC, &packet);
            let multicast_na = good[0] == ADVERTISEMENT;
            if len == 24 && !multicast_na {
                assert_eq!(handled, Handled::Consumed, "{len}");
            } else {
                assert!(matches!(handled, Handled::Invalid(_)), "{len}");
                bench.drain().assert_silent();
            }
        }
    }
}
