//! Drains that end, cuts, and what agents say.

use dataplane::testing::builder::Packet;

use super::bench::*;
use super::health::{SERVICE, Site, config, pair};
use crate::admin::protocol::{Answer, Command, Refusal, Subject};
use crate::admin::service::{ServerChange, ServiceChange};
use crate::admin::view::Services;

fn site() -> Site {
    let mut site = Site::new(&config("", "kind = \"icmpv6\""));
    site.run(500);
    site
}

fn flows(site: &mut Site, ports: std::ops::Range<u16>) {
    for port in ports {
        let packet = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
            .ipv6(address_of("2600:1::1"), address_of(SERVICE))
            .udp(port, 443, b"question");
        site.bench.feed(OUTSIDE, &packet.build());
        site.run(1);
    }
}

fn state(site: &mut Site) -> String {
    site.servers()[1].state.clone()
}

fn until(deadline_s: Option<u32>, when_idle: bool) -> ServerChange {
    ServerChange::DrainUntil {
        deadline_s,
        when_idle,
    }
}

fn agent(site: &mut Site, agent: &str, change: ServerChange, ttl_s: Option<u32>) -> Answer {
    let command = Command::ServiceChange(ServiceChange {
        pool: "web".to_owned(),
        server: "s12".to_owned(),
        change,
        agent: Some(agent.to_owned()),
        ttl_s,
    });
    site.bench.appliance.answer(site.bench.now, command)
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let mut site = site();
    flows(&mut site, 1000..1050);
    assert!(site.change(until(Some(3), false)).ok);
    let drain = site.servers()[1]
        .drain
        .clone()
        .expect("it is drained until then");
    assert_eq!((drain.deadline_s, drain.when_idle), (Some(3.0), false));
    site.run(2900);
    assert_eq!(state(&mut site), "drained");
    site.run(200);
    assert_eq!(state(&mut site), "down");
    assert_eq!(site.servers()[1].drain, None);
    assert!(site.change(ServerChange::Enable).ok);
    assert_eq!(state(&mut site), "up");
}

/// Flows of UDP are over a minute after their only packet.
#[test]
fn a_drain_ends_when_the_server_has_no_flows() {
    let mut site = site();
    flows(&mut site, 1000..1050);
    assert!(site.change(until(None, true)).ok);
    site.run(3000);
    assert_eq!(state(&mut site), "drained");
    let shown: Services = site.bench.show(Subject::Services);
    let now: Vec<_> = shown.pools[0]
        .servers
        .iter()
        .map(|server| server.flows_now)
        .collect();
    let begun: Vec<_> = shown.pools[0]
        .servers
        .iter()
        .map(|server| Some(server.counts.flows))
        .collect();
    assert_eq!(now, begun, "a census has counted them");
    assert!(now[1] > Some(5));
    site.run(65_000);
    assert_eq!(state(&mut site), "down");
}

/// What is said later takes the place of a drain that ends.
#[test]
fn a_drain_that_is_taken_back_does_not_end() {
    let mut site = site();
    assert!(site.change(until(Some(2), true)).ok);
    assert!(site.change(ServerChange::Drain).ok);
    site.run(4000);
    assert_eq!(state(&mut site), "drained");
    let answer = site.change(until(None, false));
    assert_eq!(answer.reason, Some(Refusal::Request));
}

#[test]
fn a_server_is_cut_until_it_is_enabled() {
    let mut site = site();
    assert!(site.change(ServerChange::Cut).ok);
    assert_eq!(site.states()[1], pair("cut", "up"));
    site.alive = vec![0x11];
    site.run(1500);
    assert_eq!(site.states()[1], pair("cut", "down"));
    site.alive = vec![0x11, 0x12];
    site.run(1500);
    assert!(site.change(ServerChange::Enable).ok);
    assert_eq!(site.states()[1], pair("up", "up"));
}

/// An agent's word stands beside that of others, and is forgotten in time.
#[test]
fn agents_take_a_server_down_and_back_each_for_itself() {
    let mut site = site();
    assert!(agent(&mut site, "probe", ServerChange::Down, None).ok);
    assert!(agent(&mut site, "mirror", ServerChange::Down, Some(2)).ok);
    assert_eq!(site.states()[1], pair("down", "up"));
    let agents = site.servers()[1].agents.clone();
    let names: Vec<_> = agents
        .iter()
        .map(|agent| (&*agent.agent, agent.expires_s))
        .collect();
    assert_eq!(names, [("mirror", Some(2.0)), ("probe", None)]);
    assert!(agent(&mut site, "probe", ServerChange::Enable, None).ok);
    assert_eq!(
        site.states()[1],
        pair("down", "up"),
        "the other one still says so"
    );
    site.run(2100);
    assert_eq!(
        site.states()[1],
        pair("up", "up"),
        "it did not say so again"
    );
    assert!(agent(&mut site, "probe", ServerChange::Down, None).ok);
    assert!(site.change(ServerChange::Enable).ok);
    assert_eq!(
        site.states()[1],
        pair("down", "up"),
        "the operator does not speak for agents"
    );
    assert!(site.change(ServerChange::Force).ok);
    assert_eq!(site.states()[1], pair("up", "up"));
    for change in [
        ServerChange::Drain,
        ServerChange::Cut,
        ServerChange::Weight(3),
    ] {
        assert_eq!(
            agent(&mut site, "probe", change, None).reason,
            Some(Refusal::Request)
        );
    }
    assert_eq!(
        agent(&mut site, "", ServerChange::Down, None).reason,
        Some(Refusal::Request)
    );
    for number in 0..15 {
        assert!(
            agent(
                &mut site,
                &format!("more-{number}"),
                ServerChange::Down,
                None
            )
            .ok
        );
    }
    assert!(!agent(&mut site, "one-too-many", ServerChange::Down, None).ok);
}

/// The control thread counts, so that workers let no more begin than may go on.
#[test]
fn a_service_has_as_many_flows_as_it_may() {
    let text = config("", "kind = \"icmpv6\"") + "flows_max = 20\n";
    let mut site = Site::new(&text);
    site.run(1500);
    site.sent.clear();
    flows(&mut site, 1000..1050);
    let count = |site: &Site| site.sent.iter().filter(|frame| frame[20] == 17).count();
    assert_eq!(count(&site), 20);
    site.run(62_000);
    site.sent.clear();
    flows(&mut site, 2000..2050);
    assert_eq!(count(&site), 20, "those before are over");
    site.bench.assert_conserved();
}
