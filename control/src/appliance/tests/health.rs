//! Health checks through workers: sent like any packet of ours, and what follows from their answers.

use dataplane::testing::builder::Packet;
use dataplane::wire::icmpv6;

use super::bench::*;
use crate::admin::protocol::{Answer, Command, Subject};
use crate::admin::service::{ServerChange, ServiceChange};
use crate::admin::view::{Drops, ServerView, Services};

pub(super) const SERVICE: &str = "2001:db8:a11::1";
const SERVERS: [u8; 2] = [0x11, 0x12];

pub(super) fn config(mode: &str, health: &str) -> String {
    let servers = SERVERS.map(|number| {
        format!("{{ name = \"s{number:x}\", address = \"fd01:203:405:1::{number:x}\" }}")
    });
    let servers = servers.join(", ");
    text(&format!(
        "[[pools]]\nname = \"web\"\n{mode}\nservers = [{servers}]\nhealth = {{ interval_ms = 200, timeout_ms = 100, {health} }}\n\
         [[services]]\nname = \"web\"\nprefix = \"{SERVICE}/128\"\nprotocol = \"udp\"\nports = [443]\npool = \"web\"\n"
    ))
}

fn server_mac(server: u8) -> dataplane::wire::ethernet::Mac {
    dataplane::wire::ethernet::Mac::from_octets([0x0a, 0, 0, 0, 1, server])
}

pub(super) struct Site {
    pub(super) bench: Bench,
    /// Servers that answer.
    pub(super) alive: Vec<u8>,
    /// Frames to servers, without those of neighbour discovery.
    pub(super) sent: Vec<Vec<u8>>,
}

impl Site {
    pub(super) fn new(text: &str) -> Self {
        Self {
            bench: Bench::new(text),
            alive: SERVERS.to_vec(),
            sent: Vec::new(),
        }
    }

    /// Time passes, and servers answer solicitations, and checks if they are alive.
    pub(super) fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.bench.run(1);
            for frame in self.bench.sent(INSIDE) {
                self.answer(&frame);
            }
        }
    }

    fn answer(&mut self, frame: &[u8]) {
        match icmp_type(frame) {
            Some((icmpv6::types::NEIGHBOR_SOLICITATION, _)) => {
                let target: [u8; 16] = frame[62..78].try_into().unwrap();
                let mac = server_mac(target[15]);
                self.bench.advertise(INSIDE, target.into(), mac);
            }
            Some((icmpv6::types::ECHO_REQUEST, _)) => {
                self.sent.push(frame.to_vec());
                let server = frame[5];
                if self.alive.contains(&server) {
                    let source: [u8; 16] = frame[38..54].try_into().unwrap();
                    let reply = crate::proto::echo::reply(&frame[14..], source.into()).unwrap();
                    let link = [
                        &own_mac(INSIDE).octets()[..],
                        &server_mac(server).octets(),
                        &[0x86, 0xdd],
                    ];
                    self.bench
                        .feed(INSIDE, &[&link.concat()[..], &reply].concat());
                }
            }
            _ => self.sent.push(frame.to_vec()),
        }
    }

    pub(super) fn servers(&mut self) -> Vec<ServerView> {
        let shown: Services = self.bench.show(Subject::Services);
        shown.pools[0].servers.clone()
    }

    pub(super) fn states(&mut self) -> Vec<(String, String)> {
        let servers = self.servers().into_iter();
        let states =
            servers.map(|server| (server.state, server.health.expect("it is checked").state));
        states.collect()
    }

    pub(super) fn change(&mut self, change: ServerChange) -> Answer {
        let command = Command::ServiceChange(ServiceChange {
            pool: "web".to_owned(),
            server: "s12".to_owned(),
            change,
            agent: None,
            ttl_s: None,
        });
        self.bench.appliance.answer(self.bench.now, command)
    }
}

pub(super) fn pair(state: &str, health: &str) -> (String, String) {
    (state.to_owned(), health.to_owned())
}

#[test]
fn a_server_that_does_not_answer_gets_no_flows_until_it_does() {
    let mut site = Site::new(&config("", "kind = \"icmpv6\""));
    site.run(500);
    assert_eq!(site.states(), [pair("up", "up"), pair("up", "up")]);
    site.alive = vec![0x11];
    site.run(1000);
    assert_eq!(site.states(), [pair("up", "up"), pair("down", "down")]);
    let server = &site.servers()[1];
    let health = server.health.as_ref().unwrap();
    assert_eq!(health.cause.as_deref(), Some("no answer in time"));
    assert_eq!((health.changes, server.share), (1, 0.0));
    site.sent.clear();
    for port in 1000..1050 {
        let packet = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
            .ipv6(address_of("2600:1::1"), address_of(SERVICE))
            .udp(port, 443, b"question");
        site.bench.feed(OUTSIDE, &packet.build());
        site.run(1);
    }
    let flows: Vec<u8> = site
        .sent
        .iter()
        .filter(|frame| frame[20] == 17)
        .map(|frame| frame[5])
        .collect();
    assert_eq!(flows, [0x11; 50]);
    site.alive = SERVERS.to_vec();
    site.run(1000);
    assert_eq!(site.states(), [pair("up", "up"), pair("up", "up")]);
    site.bench.assert_conserved();
}

/// What the operator says and what checks find, together.
#[test]
fn the_operator_can_take_down_what_is_healthy_and_must_insist_to_use_what_is_not() {
    let mut site = Site::new(&config("", "kind = \"icmpv6\""));
    site.run(500);
    for (change, expected) in [
        (ServerChange::Drain, "drained"),
        (ServerChange::Down, "down"),
        (ServerChange::Enable, "up"),
        (ServerChange::Force, "up"),
    ] {
        assert!(site.change(change).ok);
        assert_eq!(site.states()[1], pair(expected, "up"), "{change:?}");
    }
    site.alive = vec![0x11];
    site.run(1000);
    for (change, expected) in [
        (ServerChange::Enable, "down"),
        (ServerChange::Drain, "down"),
        (ServerChange::Down, "down"),
        (ServerChange::Force, "up"),
    ] {
        assert!(site.change(change).ok);
        assert_eq!(site.states()[1], pair(expected, "down"), "{change:?}");
    }
}

/// The way of clients' packets: the service address, by the server's MAC address.
#[test]
fn a_service_address_is_asked_by_the_mac_address_of_its_server() {
    let mut site = Site::new(&config("", "kind = \"icmpv6\", target = \"service\""));
    site.run(600);
    assert_eq!(site.states(), [pair("up", "up"), pair("up", "up")]);
    for server in SERVERS {
        let mut of_server = site.sent.iter().filter(|frame| frame[5] == server);
        let frame = of_server.next().expect("it is asked");
        assert_eq!(frame[38..54], address_of(SERVICE).octets());
        assert_eq!(frame[22..38], address_of("fd01:203:405:1::1").octets());
    }
}

/// RFC 2473: where clients' packets go in a tunnel, checks of the service address do.
#[test]
fn a_service_address_is_asked_in_the_tunnel() {
    let mode = "mode = \"ip6ip6\"\nsource = \"fd01:203:405:1::1\"";
    let mut site = Site::new(&config(
        mode,
        "kind = \"udp\", port = 53, target = \"service\"",
    ));
    site.run(600);
    let tunnelled = site
        .sent
        .iter()
        .find(|frame| frame[20] == 41)
        .expect("it is asked");
    assert_eq!(tunnelled[38..54], address_of("fd01:203:405:1::11").octets());
    let inner = &tunnelled[54..];
    assert_eq!(inner[24..40], address_of(SERVICE).octets());
    assert_eq!((inner[6], &inner[42..44]), (17, &[0, 53][..]));
}

#[test]
fn a_server_that_cannot_be_reached_is_down_and_it_says_why() {
    let mut site = Site::new(&config("", "kind = \"icmpv6\", target = \"service\""));
    // Nobody answers solicitations.
    site.bench.run(2000);
    let server = &site.servers()[0];
    let health = server.health.as_ref().unwrap();
    assert_eq!((&*server.state, &*health.state), ("down", "down"));
    assert_eq!(
        health.cause.as_deref(),
        Some("link-layer address not known")
    );
}

/// A flood to our address that does not know where checks come from reaches the control thread with one packet in a
/// thousand, and checks go on.
#[test]
fn a_flood_of_answers_changes_nothing() {
    let mut site = Site::new(&config("", "kind = \"icmpv6\""));
    site.run(500);
    for identifier in 0..=u16::MAX {
        let frame = Packet::ethernet(HOST, own_mac(INSIDE))
            .ipv6(
                address_of("fd01:203:405:1::11"),
                address_of("fd01:203:405:1::1"),
            )
            .icmpv6(&[&[129, 0, 0, 0][..], &identifier.to_be_bytes(), &[0, 1]].concat())
            .build();
        site.bench.feed(INSIDE, &frame);
        if identifier % 256 == 0 {
            site.run(1);
        }
    }
    site.run(300);
    let drops: Drops = site.bench.show(Subject::Drops);
    let count = |name: &str| {
        let mut all = drops.control.iter().chain(&drops.drops);
        all.find(|drop| drop.name == name)
            .map_or(0, |drop| drop.count)
    };
    assert!(
        count("health_unexpected") <= 16,
        "{}",
        count("health_unexpected")
    );
    assert!(count("local_protocol") >= 65_500);
    assert_eq!(site.states(), [pair("up", "up"), pair("up", "up")]);
    site.bench.assert_conserved();
}
