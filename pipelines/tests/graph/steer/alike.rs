//! Bursts to one service, and of answers, whose packets are alike but for one: the loops made for them beside the graph of
//! nodes, for flows that begin and flows that go on.

use dataplane::wire::tcp::flags::SYN;
use pipelines::steer::Mode;
use pipelines::tables::InterfaceId;

use super::*;
use crate::alike::seen;

const FRAMES: usize = 33;

fn question(number: usize, hop_limit: u8) -> Vec<u8> {
    let port = 2000 + u16::try_from(number).expect("few packets");
    from_router()
        .ipv6(address(CLIENT), address(SERVICE))
        .hop_limit(hop_limit)
        .udp(port, 443, &vec![7; number % 5])
        .build()
}

/// What an end that gets this answers.
fn answer(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for (one, other, len) in [(0, 6, 6), (22, 38, 16), (54, 56, 2)] {
        let (before, after) = answer.split_at_mut(other);
        before[one..one + len].swap_with_slice(&mut after[..len]);
    }
    answer[21] = 64;
    answer
}

/// Issue 6, 6.2: by MAC address, by destination NAT, by full NAT and in a tunnel, after bursts that were all alike. The odd packet is out of hops, or for another port, or not
/// for the service's address, or of a protocol that has none there.
#[test]
fn one_packet_that_differs_changes_nothing_for_the_others() {
    let odd = [
        question(3, 1),
        from_router()
            .ipv6(address(CLIENT), address(SERVICE))
            .udp(1, 444, b"")
            .build(),
        from_router()
            .ipv6(address(CLIENT), server_address(0x81))
            .udp(1, 443, b"")
            .build(),
        segment(77, SYN),
        without_checksum(question(3, 64)),
    ];
    let sources = vec![address("2001:db8:a0::1"), address("2001:db8:a0::2")];
    for mode in [
        Mode::L2,
        Mode::Dnat { port: Some(8443) },
        Mode::FullNat { port: None },
        Mode::Ip6Ip6 {
            source: address(INSIDE_ADDRESS),
        },
    ] {
        for odd in &odd {
            for at in [None, Some(0), Some(7), Some(FRAMES - 1)] {
                let usual: Vec<_> = (0..FRAMES).map(|number| question(number, 64)).collect();
                let mut frames = usual.clone();
                if let Some(at) = at {
                    frames[at] = odd.clone();
                }
                let is_tunnel = matches!(mode, Mode::Ip6Ip6 { .. });
                let mut pool = pool(servers(5), mode);
                if matches!(mode, Mode::FullNat { .. }) {
                    pool.sources = sources.clone();
                }
                let [mut short, mut long] = [HeapEdge::new(), HeapEdge::without_express()]
                    .map(|edge| Site::with(pool.clone(), vec![services()[1].clone()], edge));
                let rounds = [
                    &frames, &frames, &usual, &usual, &usual, &frames, &frames, &usual,
                ];
                for (round, frames) in rounds.into_iter().enumerate() {
                    let what = format!("{mode:?}, odd one at {at:?}, round {round}");
                    let asked = seen(&mut short.bench, UPLINK, frames);
                    assert_eq!(asked, seen(&mut long.bench, UPLINK, frames), "{what}");
                    let to_servers = asked.0.iter().filter(|(port, _)| *port == INSIDE);
                    let mut answers: Vec<_> = to_servers.map(|(_, frame)| answer(frame)).collect();
                    assert!(answers.len() >= FRAMES - 1, "{what}");
                    if is_tunnel {
                        continue;
                    }
                    if let Some(at) = at.filter(|at| *at < answers.len()) {
                        answers[at][21] = 1; // out of hops
                    }
                    let answered = seen(&mut short.bench, INSIDE, &answers);
                    assert_eq!(answered, seen(&mut long.bench, INSIDE, &answers), "{what}");
                    assert!(answered.0.len() >= FRAMES - 1, "{what}");
                }
            }
        }
    }
}

/// A UDP frame that says nothing of its checksum.
fn without_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[60..62].fill(0);
    frame
}

/// Servers that come and go, and services that take other packets, between two bursts of flows that went on.
#[test]
fn what_changes_between_bursts_counts() {
    type Change = fn(&mut Settings);
    let changes: [(&str, Change); 6] = [
        ("another server", |settings| {
            settings.pools[0].servers[1].address = server_address(0x90);
        }),
        ("fewer servers", |settings| {
            settings.pools[0].servers.truncate(2)
        }),
        ("a server down", |settings| {
            settings.pools[0].servers[0].state = State::Down;
        }),
        ("other ports", |settings| {
            settings.services[0].ports = vec![80..=80]
        }),
        ("other protocols", |settings| {
            settings.services[0].protocol = Protocol::Number(TCP);
        }),
        ("no service", |settings| settings.services.clear()),
    ];
    let usual: Vec<_> = (0..FRAMES).map(|number| question(number, 64)).collect();
    for mode in [
        Mode::L2,
        Mode::Dnat { port: Some(8443) },
        Mode::FullNat { port: None },
        Mode::Ip6Ip6 {
            source: address(INSIDE_ADDRESS),
        },
    ] {
        for (name, change) in changes {
            let mut pool = pool(servers(5), mode);
            if matches!(mode, Mode::FullNat { .. }) {
                pool.sources = vec![address("2001:db8:a0::1"), address("2001:db8:a0::2")];
            }
            let [mut short, mut long] = [HeapEdge::new(), HeapEdge::without_express()]
                .map(|edge| Site::with(pool.clone(), vec![services()[1].clone()], edge));
            for round in 0..8 {
                if round == 4 {
                    short.change(change);
                    long.change(change);
                }
                let seen =
                    [&mut short, &mut long].map(|site| seen(&mut site.bench, UPLINK, &usual));
                assert_eq!(seen[0], seen[1], "{mode:?}, {name}, round {round}");
            }
        }
    }
}

/// Servers on two links: of a burst to one service each packet leaves by its server's, also when one of them is of a flow to
/// another service that goes on as well.
#[test]
fn packets_leave_by_their_servers_links() {
    for mode in [Mode::L2, Mode::Dnat { port: None }] {
        for has_rule in [false, true] {
            leave_by_their_servers_links(mode, has_rule);
        }
    }
}

/// `has_rule`: the uplink has a rule of NPT66, which does not cover the services.
fn leave_by_their_servers_links(mode: Mode, has_rule: bool) {
    const OTHER: &str = "2001:db8:a11::2";
    let mut pool = pool(servers(2), mode);
    pool.servers.push(ServerSpec {
        address: address(SERVER_OUTSIDE),
        ..pool.servers[0]
    });
    let service = services()[1].clone();
    let other = ServiceSpec {
        prefix: net(&format!("{OTHER}/128")),
        ..service.clone()
    };
    let usual: Vec<_> = (0..FRAMES).map(|number| question(number, 64)).collect();
    let mut mixed = usual.clone();
    mixed[7] = from_router()
        .ipv6(address(CLIENT), address(OTHER))
        .udp(2007, 443, b"")
        .build();
    let alone = vec![mixed[7].clone()];
    let [mut short, mut long] = [HeapEdge::new(), HeapEdge::without_express()].map(|edge| {
        let services = vec![service.clone(), other.clone()];
        let mut site = Site::with(pool.clone(), services, edge);
        if has_rule {
            translate_at_uplink(&mut site, "2001:db8:1::/48");
        }
        site
    });
    let rounds = [&alone, &alone, &usual, &usual, &usual, &mixed, &usual];
    for (round, frames) in rounds.into_iter().enumerate() {
        let seen = [&mut short, &mut long].map(|site| seen(&mut site.bench, UPLINK, frames));
        assert_eq!(seen[0], seen[1], "{mode:?}, {has_rule}, round {round}");
        assert_eq!(
            seen[0].0.len(),
            frames.len(),
            "{mode:?}, {has_rule}, round {round}"
        );
        let ports = seen[0].0.iter().map(|(port, _)| *port);
        let outside = ports.filter(|port| *port == UPLINK).count();
        assert!(
            frames.len() == 1 || (1..FRAMES).contains(&outside),
            "{mode:?}, round {round}: {outside} leave by the uplink"
        );
    } // From now on what is to a service is to a host inside.
    let seen = [&mut short, &mut long].map(|site| {
        translate_at_uplink(site, "2001:db8:a11::/48");
        seen(&mut site.bench, UPLINK, &usual)
    });
    assert_eq!(seen[0], seen[1], "{mode:?}, {has_rule}");
}

fn translate_at_uplink(site: &mut Site, outside: &str) {
    let mut builder = network(100);
    let rule = rule(InterfaceId(1), ["fd01:203:405::/48", outside]);
    builder.npt66(rule).expect("a valid rule");
    site.bench.tables = builder.build_in(&mut site.rib).into();
    site.rib.commit();
}
