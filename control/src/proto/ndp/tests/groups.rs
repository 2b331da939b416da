//! Solicited-node groups and their reports (RFC 4861 7.2.1, RFC 3810 5.2, 6, 9).

use super::*;

const JOINED: u8 = 4;
const LEFT: u8 = 3;
const LISTENING: u8 = 2;

/// The records of a report.
fn records(sent: &Sent) -> Vec<(u8, Ipv6Addr)> {
    assert_eq!((sent.kind, sent.hop_limit), (REPORT, 1));
    assert_eq!(sent.destination, ip("ff02::16"));
    assert_eq!(
        sent.packet[40..48],
        [58, 0, 5, 2, 0, 0, 1, 0],
        "Router Alert"
    );
    let count = usize::from(u16::from_be_bytes([sent.message[6], sent.message[7]]));
    let records = sent.message[8..].chunks(20);
    assert_eq!(records.len(), count);
    records
        .map(|record| {
            assert_eq!(record[1..4], [0; 3], "no auxiliary data, no sources");
            let group: [u8; 16] = record[4..].try_into().unwrap();
            (record[0], Ipv6Addr::from_octets(group))
        })
        .collect()
}

fn reports(drained: &Drained) -> Vec<(Ipv6Addr, Vec<(u8, Ipv6Addr)>)> {
    let all = drained.sent.iter().filter(|sent| sent.kind == REPORT);
    all.map(|sent| (sent.source, records(sent))).collect()
}

fn joined() -> Vec<(u8, Ipv6Addr)> {
    // Both addresses end in the same 24 bits: one group.
    vec![(JOINED, ip("ff02::2")), (JOINED, ip("ff02::1:ff00:1"))]
}

/// RFC 4862 5.4.2: joined before the probe; RFC 3810 5.2.13: from `::` while there is no address, again from the
/// link-local one; 9.1 and 9.11: twice, within a second.
#[test]
fn groups_are_reported_before_the_probe_and_again_with_an_address() {
    let mut bench = Bench::bare(Settings {
        dad_transmits: 1,
        ..settings()
    });
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    let drained = bench.drain();
    assert_eq!(drained.kinds(), [REPORT, SOLICITATION, SOLICITATION]);
    assert_eq!(reports(&drained), [(ip("::"), joined())]);
    let drained = bench.after(SECOND - MS);
    assert_eq!(reports(&drained), [(ip("::"), joined())]);
    let drained = bench.after(SECOND + MS);
    let from_link_local = (ip(LINK_LOCAL), joined());
    assert_eq!(
        reports(&drained),
        [from_link_local.clone(), from_link_local]
    );
    assert!(reports(&bench.after(3600 * SECOND)).is_empty());
}

#[test]
fn groups_are_reported_when_the_link_comes_up() {
    let mut bench = Bench::new();
    bench.machine.set_link(bench.now, WAN, false);
    bench.machine.set_link(bench.now, WAN, true);
    let drained = bench.after(10 * SECOND);
    let report = (ip(LINK_LOCAL), joined());
    assert_eq!(reports(&drained), [report.clone(), report]);
}

/// RFC 3810 6.1: changes, and only those, are reported.
#[test]
fn added_and_removed_addresses_are_reported() {
    let mut bench = Bench::new();
    let mut other = config();
    other.addresses = vec!["2001:db8:a::abcd/64".parse().unwrap()];
    bench.machine.set_interface(bench.now, WAN, Some(other));
    let drained = bench.after(10 * SECOND);
    let abcd = ip("ff02::1:ff00:abcd");
    let report = (ip(LINK_LOCAL), vec![(JOINED, abcd)]);
    assert_eq!(reports(&drained), [report.clone(), report]);
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    let drained = bench.after(10 * SECOND);
    let report = (ip(LINK_LOCAL), vec![(LEFT, abcd)]);
    assert_eq!(reports(&drained), [report.clone(), report]);
}

/// A duplicate address has no listener.
#[test]
fn the_group_of_a_duplicate_is_left() {
    let mut bench = Bench::bare(Settings {
        dad_transmits: 1,
        ..settings()
    });
    let mut with_other = config();
    with_other
        .addresses
        .push("2001:db8:a::abcd/64".parse().unwrap());
    bench
        .machine
        .set_interface(bench.now, WAN, Some(with_other));
    bench.drain();
    bench.receive(&solicitation("::", "2001:db8:a::abcd", &[]));
    let drained = bench.after(10 * SECOND);
    let all: Vec<_> = reports(&drained).into_iter().flat_map(|(_, r)| r).collect();
    assert!(all.contains(&(LEFT, ip("ff02::1:ff00:abcd"))));
}

/// RFC 3810 5.1.3, 6.2: an answer within the maximum response delay, one for any number of queries.
#[test]
fn queries_are_answered_within_their_time() {
    let query = |milliseconds: u16, group: &str| {
        let [high, low] = milliseconds.to_be_bytes();
        let message = [
            &[130, 0, 0, 0, high, low, 0, 0][..],
            &ip(group).octets(),
            &[2, 125, 0, 0],
        ]
        .concat();
        icmpv6(ip(GATEWAY), ip(ALL_NODES), &message)
            .hop_limit(1)
            .options(proto::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
            .build_ipv6()
    };
    let mut bench = Bench::new();
    let listening = vec![
        (LISTENING, ip("ff02::2")),
        (LISTENING, ip("ff02::1:ff00:1")),
    ];
    for _ in 0..20 {
        for group in ["::", "ff02::2", "ff02::1:ff00:1"] {
            assert!(bench.receive(&query(10_000, group)).sent.is_empty());
        }
        assert!(bench.receive(&query(500, "::")).sent.is_empty());
        let drained = bench.after(500 * MS);
        assert_eq!(reports(&drained), [(ip(LINK_LOCAL), listening.clone())]);
        assert!(bench.after(20 * SECOND).sent.is_empty());
    }
    // A patient query does not put off the answer to an urgent one.
    for _ in 0..20 {
        bench.receive(&query(500, "::"));
        bench.receive(&query(10_000, "::"));
        assert_eq!(reports(&bench.after(500 * MS)).len(), 1);
        bench.run(20 * SECOND);
    }
    // Somebody else's group; an interface that went down meanwhile.
    bench.receive(&query(500, "ff02::1:ff00:2"));
    assert!(bench.after(20 * SECOND).sent.is_empty());
    bench.receive(&query(500, "::"));
    bench.machine.set_link(bench.now, WAN, false);
    assert!(bench.after(20 * SECOND).sent.is_empty());
}

/// RFC 3810 5.1.3: from 32768 on the code is a floating-point number: 1 | exponent | mantissa.
#[test]
fn long_response_delays_are_floating_point() {
    let message = [&[130, 0, 0, 0, 0x8f, 0xff, 0, 0][..], &[0; 20]].concat();
    let packet = icmpv6(ip(GATEWAY), ip(ALL_NODES), &message)
        .hop_limit(1)
        .options(proto::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
        .build_ipv6();
    let query = match super::super::wire::parse(&packet) {
        Ok(super::super::wire::Message::Query(query)) => query,
        other => panic!("{other:?}"),
    };
    // Mantissa 0x1fff, exponent 0 + 3.
    assert_eq!(query.max_response, Duration::from_millis(0x1fff << 3));
}

/// RFC 3810 5.2: more records than a packet of 1280 bytes holds go into several.
#[test]
fn many_groups_take_several_reports() {
    let mut many = config();
    many.addresses = (1..=150_u16)
        .map(|n| format!("2001:db8:a::{n:x}:{n:x}/64").parse().unwrap())
        .collect();
    let mut bench = Bench::bare(settings());
    bench.machine.set_interface(bench.now, WAN, Some(many));
    let drained = bench.drain();
    let sent: Vec<&Sent> = drained
        .sent
        .iter()
        .filter(|sent| sent.kind == REPORT)
        .collect();
    assert!(sent.iter().all(|sent| sent.packet.len() <= 1280));
    let first: Vec<_> = sent
        .iter()
        .filter(|sent| sent.source.is_unspecified())
        .flat_map(|sent| records(sent))
        .collect();
    // 150 addresses, the link-local one, all routers.
    assert_eq!(first.len(), 152);
    assert_eq!(
        sent.iter()
            .filter(|sent| sent.source.is_unspecified())
            .count(),
        3
    );
}
