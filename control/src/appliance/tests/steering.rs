//! Services: in force from the start, over reloads, and as somebody says at run time.

use dataplane::testing::builder::Packet;
use dataplane::wire::icmpv6;

use super::bench::*;
use crate::admin::protocol::{Command, Refusal, Subject};
use crate::admin::service::{ServerChange, ServiceChange};
use crate::admin::view::{ServerView, Services};

const SERVICE: &str = "2001:db8:a11::1";

/// Servers on the inside link, by the last byte of their addresses and MAC addresses.
fn pool(servers: &[u8]) -> String {
    let servers = servers.iter().map(|number| {
        format!("{{ name = \"s{number}\", address = \"fd01:203:405:1::{number:x}\" }}")
    });
    let servers: Vec<_> = servers.collect();
    format!(
        "[[pools]]\nname = \"web\"\nservers = [{}]\n[[services]]\nname = \"web\"\nprefix = \"{SERVICE}/128\"\nprotocol = \"udp\"\nports = [443]\npool = \"web\"\n",
        servers.join(", ")
    )
}

fn mac_of(server: u8) -> dataplane::wire::ethernet::Mac {
    dataplane::wire::ethernet::Mac::from_octets([0x0a, 0, 0, 0, 1, server])
}

/// A bench whose servers have answered the solicitations that ask for them.
fn bench(servers: &[u8]) -> Bench {
    let mut bench = Bench::new(&text(&pool(servers)));
    bench.run(50);
    let asked = of_type(&bench.sent(INSIDE), icmpv6::types::NEIGHBOR_SOLICITATION).len();
    assert!(
        asked >= servers.len(),
        "servers are resolved before anybody needs them"
    );
    for server in servers {
        bench.advertise(
            INSIDE,
            address_of(&format!("fd01:203:405:1::{server:x}")),
            mac_of(*server),
        );
    }
    bench.run(20);
    bench.sent(INSIDE);
    bench
}

/// Which server each flow goes to.
fn servers_of(bench: &mut Bench, flows: std::ops::Range<u16>) -> Vec<u8> {
    for port in flows {
        let packet = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
            .ipv6(address_of("2600:1::1"), address_of(SERVICE))
            .udp(port, 443, b"question");
        bench.feed(OUTSIDE, &packet.build());
        bench.run(1);
    }
    let sent = bench.sent(INSIDE);
    sent.iter()
        .filter(|frame| frame[20] == 17)
        .map(|frame| frame[5])
        .collect()
}

fn change(bench: &mut Bench, server: &str, change: ServerChange) -> crate::admin::protocol::Answer {
    let command = Command::ServiceChange(ServiceChange {
        pool: "web".to_owned(),
        server: server.to_owned(),
        change,
        agent: None,
        ttl_s: None,
    });
    let answer = bench.appliance.answer(bench.now, command);
    bench.run(20);
    answer
}

#[test]
fn flows_reach_servers_and_are_counted_by_name() {
    let mut bench = bench(&[0x11, 0x12]);
    let to = servers_of(&mut bench, 1000..1100);
    assert_eq!(to.len(), 100);
    let shown: Services = bench.show(Subject::Services);
    for server in &shown.pools[0].servers {
        let last = u8::from_str_radix(server.address.rsplit(':').next().unwrap(), 16).unwrap();
        let expected = to.iter().filter(|server| **server == last).count() as u64;
        assert_eq!(
            (server.counts.packets, server.counts.flows),
            (expected, expected)
        );
        assert!((server.share - 0.5).abs() < 0.01);
        assert_eq!((server.resolved, &*server.state), (Some(true), "up"));
    }
    bench.assert_conserved();
}

#[test]
fn drained_at_run_time_a_server_keeps_its_flows_over_a_reload_too() {
    let mut bench = bench(&[0x11, 0x12]);
    let before = servers_of(&mut bench, 1000..1100);
    let answer = change(&mut bench, "s18", ServerChange::Drain);
    let server: ServerView = serde_json::from_value(answer.data).unwrap();
    assert_eq!((&*server.state, server.overridden), ("drained", true));
    assert_eq!(servers_of(&mut bench, 1000..1100), before);
    assert_eq!(servers_of(&mut bench, 3000..3050), [0x11; 50]);
    let answer = bench.reload(&text(&(pool(&[0x11, 0x12]) + "[icmp]\nerrors_burst = 7\n")));
    assert!(answer.ok, "{answer:?}");
    bench.run(20);
    assert_eq!(servers_of(&mut bench, 1000..1100), before);
    assert_eq!(servers_of(&mut bench, 4000..4050), [0x11; 50]);
    // By its address as well.
    assert!(change(&mut bench, "fd01:203:405:1::12", ServerChange::Enable).ok);
    assert!(servers_of(&mut bench, 5000..5100).contains(&0x12));
    assert!(change(&mut bench, "s18", ServerChange::Down).ok);
    assert_eq!(servers_of(&mut bench, 1000..1100), [0x11; 100]);
    bench.assert_conserved();
}

#[test]
fn a_weight_is_a_share() {
    let mut bench = bench(&[0x11, 0x12]);
    assert!(change(&mut bench, "s17", ServerChange::Weight(3)).ok);
    let shown: Services = bench.show(Subject::Services);
    assert!((shown.pools[0].servers[0].share - 0.75).abs() < 0.01);
    for weight in [0, 257] {
        let answer = change(&mut bench, "s17", ServerChange::Weight(weight));
        assert_eq!(answer.reason, Some(Refusal::Request));
    }
    let answer = change(&mut bench, "s19", ServerChange::Drain);
    assert_eq!(
        answer.error.as_deref(),
        Some("there is no server \"s19\", expected one of s17, s18")
    );
}

/// Counters are by place, and a place may get another server.
#[test]
fn a_reload_says_what_changed_and_a_new_server_counts_from_zero() {
    let mut bench = bench(&[0x11, 0x12]);
    servers_of(&mut bench, 1000..1100);
    assert!(change(&mut bench, "s18", ServerChange::Drain).ok);
    let answer = bench.reload(&text(&pool(&[0x11])));
    assert_eq!(answer.data["changes"], serde_json::json!(["pools: ~web"]));
    bench.run(20);
    for _ in 0..3 {
        assert!(bench.reload(&text(&pool(&[0x11, 0x13]))).ok);
        bench.run(20);
        assert!(bench.reload(&text(&pool(&[0x11, 0x12]))).ok);
        bench.run(20);
    }
    let shown: Services = bench.show(Subject::Services);
    let server = &shown.pools[0].servers[1];
    assert_eq!((server.counts.packets, server.counts.flows), (0, 0));
    assert_eq!(
        (&*server.state, server.overridden),
        ("up", false),
        "it was gone in between"
    );
    let answer = bench.reload(&text(""));
    let gone = serde_json::json!(["pools: -web", "services: -web"]);
    assert_eq!(answer.data["changes"], gone);
    bench.run(20);
    assert!(servers_of(&mut bench, 1000..1010).is_empty());
    let shown: Services = bench.show(Subject::Services);
    assert_eq!((shown.pools.len(), shown.services.len()), (0, 0));
    bench.assert_conserved();
}
