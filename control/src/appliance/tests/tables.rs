//! What is published when configuration, neighbours or links change.

use std::net::Ipv6Addr;

use dataplane::testing::builder::Packet;
use dataplane::wire::icmpv6;

use super::bench::*;
use crate::admin::protocol::{Refusal, Subject};
use crate::admin::view;

#[test]
fn changes_within_a_moment_are_published_together() {
    let mut bench = Bench::new(&text(""));
    bench.run(100);
    let before: view::Instance = bench.show(Subject::Instance);
    let addresses = (0x100..0x180_u16).map(|host| format!("fd01:203:405:1::{host:x}"));
    let addresses: Vec<Ipv6Addr> = addresses.map(|text| address_of(&text)).collect();
    for address in &addresses {
        bench.feed(INSIDE, &ping(&address.to_string(), "fd01:203:405:1::1", 1));
    }
    bench.run(3);
    for address in &addresses {
        bench.advertise(INSIDE, *address, HOST);
    }
    bench.run(20);
    let sent = bench.sent(INSIDE);
    assert_eq!(
        of_type(&sent, icmpv6::types::ECHO_REPLY).len(),
        addresses.len()
    );
    let after: view::Instance = bench.show(Subject::Instance);
    let published = after.publications - before.publications;
    assert!(published <= 4, "{published} publications within 20 ms");
    assert!(after.publications_pending <= 1);
    bench.assert_conserved();
}

#[test]
fn packets_of_tagged_interfaces_carry_their_tags() {
    let tagged = text("").replace(
        "port = \"inside\"\n",
        "port = \"inside\"\nvlan = [100, 7]\n",
    );
    let mut bench = Bench::new(&tagged);
    bench.run(10);
    let sent = bench.sent(INSIDE);
    assert!(!sent.is_empty(), "addresses are announced");
    for frame in sent {
        assert_eq!(
            frame[12..22],
            [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 0x86, 0xdd]
        );
    }
}

#[test]
fn reload_keeps_what_it_does_not_concern() {
    let mut bench = Bench::new(&text(RULE));
    bench.run(10);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2600::1", 1));
    bench.run(5);
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::1"), ROUTER);
    bench.run(10);
    bench.sent(OUTSIDE);
    bench.sent(INSIDE);
    // A new interface in front of the others, and a second rule in front of the first.
    let more = r#"
[[npt66]]
name = "another"
interface = "outside"
inside = "fd02::/48"
outside = "2001:db8:2::/48"
"#;
    let changed = text(&(more.to_owned() + RULE)).replacen(
        "[[interfaces]]",
        "[[interfaces]]\nname = \"guests\"\nport = \"inside\"\nvlan = [9]\naddresses = [\"fd03::1/64\"]\n[[interfaces]]",
        1,
    );
    let answer = bench.reload(&changed);
    assert!(answer.ok, "{answer:?}");
    assert_eq!(
        answer.data["changes"],
        serde_json::json!(["interfaces: +guests", "npt66: +another"])
    );
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2600::1", 2));
    bench.run(1);
    let sent = bench.sent(OUTSIDE);
    let requests = of_type(&sent, icmpv6::types::ECHO_REQUEST);
    assert_eq!(requests.len(), 1, "the gateway is still known: {sent:02x?}");
    let npt66: view::Npt66 = bench.show(Subject::Npt66);
    let counted: Vec<_> = npt66
        .npt66
        .iter()
        .map(|rule| (&*rule.counters.name, rule.counters.out_packets))
        .collect();
    assert_eq!(counted, [("another", 0), ("isp", 2)]);
    // And back again.
    assert!(bench.reload(&text(RULE)).ok);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2600::1", 3));
    bench.run(1);
    assert_eq!(
        of_type(&bench.sent(OUTSIDE), icmpv6::types::ECHO_REQUEST).len(),
        1
    );
    bench.assert_conserved();
}

#[test]
fn refused_reload_changes_nothing_and_says_where() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    let routes: view::Routes = bench.show(Subject::Routes);
    let broken = text("[[routes]]\nprefix = \"fd09::/48\"\nblackhole = true\nprefx = 1\n");
    for (refused, expected) in [
        (broken, "unknown key \"prefx\""),
        (
            text("").replace("net_null0", "net_null7"),
            "ports[0].device: net_null0 would become net_null7, which needs a restart",
        ),
        (
            text("[workers]\nburst = 16\n"),
            "workers.burst: 32 would become 16, which needs a restart",
        ),
    ] {
        let answer = bench.reload(&refused);
        assert_eq!(answer.reason, Some(Refusal::Configuration));
        let error = answer.error.unwrap();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("sextant.toml"), "{error}");
    }
    let now: view::Routes = bench.show(Subject::Routes);
    assert_eq!(now.routes, routes.routes);
    let instance: view::Instance = bench.show(Subject::Instance);
    assert_eq!(
        (
            instance.configurations_applied,
            instance.configurations_refused
        ),
        (1, 3)
    );
}

#[test]
fn lost_link_takes_its_routes_away_until_it_is_back() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2600::1", 1));
    bench.run(2);
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::1"), ROUTER);
    bench.run(10);
    let state = |bench: &mut Bench| {
        let routes: view::Routes = bench.show(Subject::Routes);
        let default = routes
            .routes
            .iter()
            .find(|route| route.prefix == "::/0")
            .unwrap();
        default.next_hops[0].state.clone()
    };
    assert_eq!(state(&mut bench), "resolved");
    bench.links.lock().unwrap()[OUTSIDE] = false;
    bench.run(250);
    assert_eq!(state(&mut bench), "down");
    bench.sent(OUTSIDE);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2600::1", 2));
    bench.run(5);
    assert_eq!(bench.sent(OUTSIDE).len(), 0);
    bench.links.lock().unwrap()[OUTSIDE] = true;
    bench.run(250);
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::1"), ROUTER);
    bench.run(10);
    assert_eq!(state(&mut bench), "resolved");
    bench.assert_conserved();
}

/// A prefix changes only when every worker knows where it leads, and at once when all know already.
#[test]
fn prefixes_wait_for_workers_that_do_not_know_their_targets() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    let far = "2001:db8:77::/48";
    let route = |action: &str| {
        text(&format!(
            "[[routes]]\nprefix = \"{far}\"\n{action} = true\n"
        ))
    };
    assert!(bench.reload(&route("blackhole")).ok);
    for _ in 0..3 {
        bench.appliance.tick(bench.now);
        assert!(
            bench.appliance.rib.is_pending(),
            "the worker has not passed"
        );
    }
    bench.run(2);
    assert!(!bench.appliance.rib.is_pending());
    let drop = Packet::ethernet(HOST, own_mac(INSIDE))
        .ipv6(
            address_of("fd01:203:405:1::10"),
            address_of("2001:db8:77::1"),
        )
        .udp(1, 2, b"x")
        .build();
    let dropped = |bench: &mut Bench| {
        bench.feed(INSIDE, &drop);
        bench.run(2);
        let counters: view::Counters = bench.show(Subject::Counters);
        let blackholed = counters.drops.iter().find(|drop| drop.name == "blackhole");
        blackholed.map_or(0, |drop| drop.count)
    };
    assert_eq!(dropped(&mut bench), 1);
    // Gone with the reload: everybody knows where the default route leads.
    assert!(bench.reload(&text("")).ok);
    assert!(!bench.appliance.rib.is_pending());
    assert_eq!(dropped(&mut bench), 1);
    bench.assert_conserved();
}
