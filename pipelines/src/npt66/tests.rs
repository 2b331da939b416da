//! The vectors, the laws as properties, and the packet step on known bytes.

use std::net::Ipv6Addr;
use std::path::Path;

use dataplane::testing::builder::Packet;
use dataplane::wire::checksum;
use dataplane::wire::ipv6::proto;
use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::rule::{halves, join};
use super::*;
use crate::tables::InterfaceId;

fn rule(inside: &str, outside: &str, zero_iid: ZeroIid) -> Rule {
    let parse = |text: &str| text.parse::<Ipv6Net>().expect("a prefix");
    Rule::new(&Spec {
        interface: InterfaceId(0),
        inside: parse(inside),
        outside: parse(outside),
        zero_iid,
    })
    .expect("a valid pair")
}

fn map(rule: &Rule, direction: Direction, address: Ipv6Addr) -> Result<Ipv6Addr, Reject> {
    rule.map(direction, halves(&address.octets()))
        .map(|mapped| Ipv6Addr::from(join(mapped)))
}

/// N1, N4 to N9: every verified vector, both directions, and the ICMPv6 type of each refusal.
#[test]
fn every_vector() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/npt66.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no vectors at {}", path.display());
        return;
    };
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let vectors = document["vectors"].as_array().expect("a list");
    assert_eq!(vectors.len(), 43);
    for vector in vectors {
        let field = |name: &str| vector[name].as_str();
        let address =
            |name: &str| field(name).map(|text| text.parse::<Ipv6Addr>().expect("an address"));
        let expect = field("expect").expect("expect");
        let zero_iid = if expect == "policy" {
            ZeroIid::Translate
        } else {
            ZeroIid::Drop
        };
        let (inside_prefix, outside_prefix) = (
            field("inside_prefix").expect("prefix"),
            field("outside_prefix").expect("prefix"),
        );
        let rule = rule(inside_prefix, outside_prefix, zero_iid);
        let adjustment = field("adjustment").expect("adjustment");
        assert_eq!(
            format!("{:#06x}", rule.adjustment()),
            adjustment,
            "{vector}"
        );
        match (expect, address("inside_addr"), address("outside_addr")) {
            ("translate" | "policy", Some(inside), Some(outside)) => {
                assert_eq!(map(&rule, Direction::Out, inside), Ok(outside), "{vector}");
                assert_eq!(map(&rule, Direction::In, outside), Ok(inside), "{vector}");
                if expect == "policy" {
                    let printed = self::rule(inside_prefix, outside_prefix, ZeroIid::Drop);
                    assert_eq!(
                        map(&printed, Direction::Out, inside),
                        Err(Reject::ZeroIid),
                        "{vector}"
                    );
                }
            }
            ("drop", inside, outside) => {
                let (direction, address) = match (inside, outside) {
                    (Some(inside), None) => (Direction::Out, inside),
                    (None, Some(outside)) => (Direction::In, outside),
                    _ => panic!("one address: {vector}"),
                };
                let reject = map(&rule, direction, address).expect_err(&vector.to_string());
                let (kind, ..) = reject.answer(direction).expect("an answer").fields();
                assert_eq!(
                    u64::from(kind),
                    vector["icmp_type"].as_u64().expect("type"),
                    "{vector}"
                );
            }
            _ => panic!("unknown expectation: {vector}"),
        }
    }
}

/// RFC 6296 3.6, the worked example, for checkouts without the vectors.
#[test]
fn worked_example_of_the_rfc() {
    let rule = rule("fd01:203:405::/48", "2001:db8:1::/48", ZeroIid::Drop);
    assert_eq!(rule.adjustment(), 0xd54f);
    let inside = "fd01:203:405:1::1234".parse().expect("address");
    let outside = "2001:db8:1:d550::1234".parse().expect("address");
    assert_eq!(map(&rule, Direction::Out, inside), Ok(outside));
    assert_eq!(map(&rule, Direction::In, outside), Ok(inside));
}

/// N7: what the kernel aliases.
#[test]
fn subnet_all_ones_has_no_counterpart_either_way() {
    let rule = rule("fd01:203:405::/48", "2001:db8:1::/48", ZeroIid::Drop);
    for (direction, address) in [
        (Direction::Out, "fd01:203:405:ffff::1"),
        (Direction::In, "2001:db8:1:ffff::1"),
    ] {
        assert_eq!(
            map(&rule, direction, address.parse().expect("address")),
            Err(Reject::NoMapping)
        );
    }
}

/// N2.
#[test]
fn refused_prefixes() {
    let spec = |inside: &str, outside: &str| {
        let parse = |text: &str| text.parse::<Ipv6Net>().expect("a prefix");
        let spec = Spec {
            interface: InterfaceId(0),
            inside: parse(inside),
            outside: parse(outside),
            zero_iid: ZeroIid::Drop,
        };
        Rule::new(&spec).map(|_| ()).expect_err("refused")
    };
    let good = "2001:db8:1::/48";
    assert!(matches!(
        spec("fd00:1:2:3::/65", good),
        SpecError::TooLong(_)
    ));
    assert!(matches!(
        spec(good, "fd00:1:2:3::1/64"),
        SpecError::HostBits(_)
    ));
    for bad in [
        "ff02::/16",
        "fe80::/64",
        "::/64",
        "::/0",
        "fe00::/7",
        "::/16",
    ] {
        assert!(matches!(spec(bad, good), SpecError::NotUnicast(_)), "{bad}");
    }
}

/// A prefix with these bits that can be translated: within 2000::/3 or fc00::/7.
fn prefix(bits: u64, length: u8, global: bool) -> Option<Ipv6Net> {
    let lead = if global {
        0x2000_0000_0000_0000
    } else {
        0xfc00_0000_0000_0000
    };
    let keep = if global { u64::MAX >> 3 } else { u64::MAX >> 7 };
    let address = Ipv6Addr::from(u128::from(lead | bits & keep) << 64);
    let net = Ipv6Net::new(address, length).ok()?.trunc();
    // Below the block's own length the prefix would be another block.
    (length >= if global { 3 } else { 7 }).then_some(net)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// For every pair of lengths 1 to 64: out then in is the identity, and the sum over the address (so every checksum
    /// above it) does not change (RFC 6296 2.6, 3.1). 4,096 pairs a case; lengths too short for a unicast block are
    /// refused by N2 and skipped.
    #[test]
    fn out_then_in_is_the_identity_and_checksums_stay(
        inside_bits: u64, outside_bits: u64, subnet: u64, iid: u64, ones in 0_u32..5,
    ) {
        // Some identifiers start with words of ones.
        let iid = iid | u64::MAX.checked_shl(64 - 16 * ones).unwrap_or(if ones == 0 { 0 } else { u64::MAX });
        let mut mapped = 0;
        for inside_len in 1..=64 {
            for outside_len in 1..=64 {
                let (Some(inside), Some(outside)) =
                    (prefix(inside_bits, inside_len, false), prefix(outside_bits, outside_len, true))
                else { continue };
                let spec = Spec { interface: InterfaceId(0), inside, outside, zero_iid: ZeroIid::Translate };
                let rule = Rule::new(&spec).expect("a valid pair");
                let length = inside_len.max(outside_len);
                let host = if length == 64 { 0 } else { subnet & (u64::MAX >> length) };
                let (network, _) = halves(&inside.network().octets());
                let before = (network | host, iid);
                if length <= 48 {
                    let quick = rule.quick(Direction::Out);
                    let mapped = rule.map(Direction::Out, before).ok();
                    let quickly = quick.map(before.0.to_be_bytes()).map(u64::from_be_bytes);
                    prop_assert_eq!(quickly, mapped.map(|(prefix, _)| prefix));
                }
                match rule.map(Direction::Out, before) {
                    Ok(after) => {
                        mapped += 1;
                        prop_assert!(outside.contains(&Ipv6Addr::from(join(after))));
                        prop_assert_eq!(rule.map(Direction::In, after), Ok(before));
                        let (old, new) = (checksum::sum(&join(before)).fold(), checksum::sum(&join(after)).fold());
                        prop_assert_eq!(old % 0xffff, new % 0xffff, "{} -> {}", inside, outside);
                    }
                    Err(Reject::NoMapping) => prop_assert!(length <= 48 && before.0 & 0xffff == 0xffff),
                    Err(Reject::NoWord) => prop_assert!(length > 48 && iid == u64::MAX),
                    Err(other) => prop_assert!(false, "{:?}", other),
                }
            }
        }
        prop_assert!(mapped > 0 || ones == 4);
    }

    /// N10: TCP and UDP checksums of a translated packet are right without having been touched.
    #[test]
    fn transport_checksum_is_right_and_untouched(subnet: u16, iid: u64, payload: Vec<u8>, tcp: bool) {
        prop_assume!(subnet != 0xffff);
        let rule = rule("fd01:203:405::/48", "2001:db8:1::/48", ZeroIid::Drop);
        let source = Ipv6Addr::from(0xfd01_0203_0405 << 80 | u128::from(subnet) << 64 | u128::from(iid));
        let builder = Packet::anywhere().ipv6(source, "2001:db8:99::1".parse().expect("address"));
        let builder = if tcp { builder.tcp(1, 2, &payload) } else { builder.udp(1, 2, &payload) };
        let before = builder.build_ipv6();
        let mut packet = before.clone();
        translate(&rule, Direction::Out, &mut packet, |_| None).expect("translated");
        prop_assert_eq!(&packet[24..], &before[24..], "only the source changes");
        let protocol = if tcp { proto::TCP } else { proto::UDP };
        let (source, destination) = (packet[8..].first_chunk().unwrap(), packet[24..].first_chunk().unwrap());
        prop_assert!(checksum::is_valid(source, destination, protocol, &packet[40..]));
    }
}

const INSIDE_HOST: &str = "fd01:203:405:1::1234";
const OUTSIDE_HOST: &str = "2001:db8:1:d550::1234";
const PEER: &str = "2001:db8:99::1";

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("address")
}

fn quote(source: &str, destination: &str) -> Vec<u8> {
    Packet::anywhere()
        .ipv6(address(source), address(destination))
        .udp(7, 9, b"quoted")
        .build_ipv6()
}

/// N12: errors with their quotes, both ways, plain and behind extension headers.
#[test]
fn icmpv6_error_quotes_are_translated_both_ways() {
    let rule = rule("fd01:203:405::/48", "2001:db8:1::/48", ZeroIid::Drop);
    let cases = [
        // A router outside answers what we translated: outer destination and quoted source.
        (
            Direction::In,
            PEER,
            OUTSIDE_HOST,
            quote(OUTSIDE_HOST, PEER),
            quote(INSIDE_HOST, PEER),
        ),
        // A host inside answers what we translated: outer source and quoted destination.
        (
            Direction::Out,
            INSIDE_HOST,
            PEER,
            quote(PEER, INSIDE_HOST),
            quote(PEER, OUTSIDE_HOST),
        ),
    ];
    for (direction, source, destination, before, after) in cases {
        for kind in 1..=4 {
            for behind in 0..3 {
                let make = |source: &str, destination: &str, quote: &[u8]| {
                    let packet = Packet::anywhere().ipv6(address(source), address(destination));
                    let packet = match behind {
                        0 => packet,
                        1 => packet.hop_by_hop(),
                        _ => packet.destination_options().fragment(0, false, 1),
                    };
                    packet.icmpv6_error(kind, 0, 1400, quote).build_ipv6()
                };
                let mut packet = make(source, destination, &before);
                translate(&rule, direction, &mut packet, |_| Some(&rule)).expect("translated");
                let translated = |text: &str| match text {
                    INSIDE_HOST => OUTSIDE_HOST.to_owned(),
                    OUTSIDE_HOST => INSIDE_HOST.to_owned(),
                    other => other.to_owned(),
                };
                let expected = match direction {
                    Direction::Out => make(&translated(source), destination, &after),
                    Direction::In => make(source, &translated(destination), &after),
                };
                assert_eq!(
                    packet, expected,
                    "{direction:?} type {kind} behind {behind}"
                );
            }
        }
    }
}

/// N12: the four refusals; the packet stays as it was.
#[test]
fn icmpv6_errors_that_must_be_dropped() {
    let rule = rule("fd01:203:405::/48", "2001:db8:1::/48", ZeroIid::Drop);
    let error = |quote: &[u8]| {
        Packet::anywhere()
            .ipv6(address(PEER), address(OUTSIDE_HOST))
            .icmpv6_error(3, 0, 0, quote)
    };
    let good = quote(OUTSIDE_HOST, PEER);
    let cases = [
        (
            "foreign",
            error(&quote("2001:db8:77::1", PEER)).build_ipv6(),
            Reject::QuoteForeign,
        ),
        (
            "39 bytes",
            error(&good[..39]).build_ipv6(),
            Reject::QuoteTruncated,
        ),
        ("no quote", error(&[]).build_ipv6(), Reject::QuoteTruncated),
        (
            "checksum",
            error(&good).wrong_checksum().build_ipv6(),
            Reject::Checksum,
        ),
    ];
    for (name, before, reject) in cases {
        let mut packet = before.clone();
        let find = |half: u64| (half >> 16 == 0x2001_0db8_0001).then_some(&rule);
        assert_eq!(
            translate(&rule, Direction::In, &mut packet, find),
            Err(reject),
            "{name}"
        );
        assert_eq!(packet, before, "{name}");
    }
}

/// N10, N14: other protocols, later fragments and echo messages are translated, and nothing but the address changes.
#[test]
fn everything_else_passes_untouched() {
    let rule = rule("fd01:203:405::/48", "2001:db8:1::/48", ZeroIid::Drop);
    let base = || Packet::anywhere().ipv6(address(INSIDE_HOST), address(PEER));
    let routed = [address(INSIDE_HOST), address(OUTSIDE_HOST)];
    for packet in [
        base().raw(proto::ESP, &[1; 40]),
        base().raw(132, &[2; 40]),
        base().raw(254, &[3; 3]),
        base()
            .fragment(1232, false, 9)
            .raw(proto::ICMPV6, &[1, 4, 0, 0]),
        base().routing(1, &routed).udp(1, 2, b"x"),
        base().icmpv6_echo(1, 2, b"ping"),
        base().raw(proto::NO_NEXT, &[]),
        base().raw(proto::ICMPV6, &[]),
    ] {
        let before = packet.build_ipv6();
        let mut after = before.clone();
        translate(&rule, Direction::Out, &mut after, |_| None).expect("translated");
        assert_eq!(after[8..24], address(OUTSIDE_HOST).octets());
        assert_eq!((&after[..8], &after[24..]), (&before[..8], &before[24..]));
    }
}

/// Rules are found alike by the scan and by halving.
#[test]
fn many_rules_are_found_like_few() {
    let pairs: Vec<_> = (0..40_u16)
        .map(|number| {
            let inside: Ipv6Net = format!("fd00:{number:x}::/48").parse().expect("prefix");
            let outside: Ipv6Net = format!("2001:db8:{number:x}::/48").parse().expect("prefix");
            let spec = Spec {
                interface: InterfaceId(0),
                inside,
                outside,
                zero_iid: ZeroIid::Drop,
            };
            ((number, Rule::new(&spec).expect("valid")), inside, outside)
        })
        .collect();
    for count in [0, 1, 8, 9, 40] {
        let mut rules: Vec<_> = pairs[..count].iter().map(|(rule, ..)| *rule).collect();
        rules.reverse();
        let set = RuleSet::new(&rules, false);
        for ((number, _), inside, outside) in &pairs {
            let expected = (usize::from(*number) < count).then_some(*number);
            let half = |net: &Ipv6Net| halves(&net.network().octets()).0 | 7;
            assert_eq!(set.find(Direction::Out, half(inside)), expected);
            assert_eq!(set.find(Direction::In, half(outside)), expected);
            assert_eq!(set.find(Direction::In, half(inside)), None);
        }
    }
}
