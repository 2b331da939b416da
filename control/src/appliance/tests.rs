//! The whole control thread and real workers over frames in memory, with a clock that the test holds.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataplane::frame::{Burst, Frame as _};
use dataplane::port::{PortId, RxQueue};
use dataplane::reason::PuntReason;
use dataplane::table::publish::Publisher;
use dataplane::testing::builder::Packet;
use dataplane::testing::{HeapFrame, MemoryPort};
use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv6::{self, AdvertisementFlags};
use dataplane::worker::{Crew, CrewConfig, PortQueues, RingSizes, Worker, WorkerConfig};
use pipelines::Edge;
use pipelines::tables::Builder;
use tempfile::TempDir;

use super::{Appliance, Parts};
use crate::admin::protocol::{Answer, Command, Refusal, Subject};
use crate::admin::view::{self, Link};
use crate::config;
use crate::platform::{Platform, PortFacts};
use crate::publish;

const HOST: Mac = Mac::from_octets([0x0a, 0, 0, 0, 0, 0x10]);
const ROUTER: Mac = Mac::from_octets([0x0a, 0, 0, 0, 0, 0x99]);
const INSIDE: usize = 0;
const OUTSIDE: usize = 1;

/// The configuration that most tests start from; `more` is appended.
pub(crate) fn text(more: &str) -> String {
    format!(
        r#"
[[ports]]
name = "inside"
device = "net_null0"
[[ports]]
name = "outside"
device = "net_null1"
[[interfaces]]
port = "inside"
addresses = ["fd01:203:405:1::1/64"]
[[interfaces]]
port = "outside"
addresses = ["2001:db8:ffff::2/64"]
[[routes]]
prefix = "::/0"
next_hops = [{{ via = "2001:db8:ffff::1" }}]
[ndp]
dad_transmits = 0
{more}"#
    )
}

const RULE: &str = r#"
[[npt66]]
name = "isp"
interface = "outside"
inside = "fd01:203:405::/48"
outside = "2001:db8:1::/48"
"#;

/// Ports in memory.
pub(crate) struct Memory {
    facts: Vec<PortFacts>,
    /// Looks at a link that will still panic.
    poison: Arc<AtomicUsize>,
    links: Arc<Mutex<Vec<bool>>>,
}

impl Platform for Memory {
    type Frame = HeapFrame;

    fn engine(&self) -> String {
        "memory".to_owned()
    }

    fn memory(&self) -> String {
        "the heap".to_owned()
    }

    fn allocate(&self, bytes: &[u8]) -> Option<HeapFrame> {
        Some(HeapFrame::new(bytes))
    }

    fn port(&self, port: PortId) -> &PortFacts {
        &self.facts[port.index()]
    }

    fn link(&self, port: PortId) -> Link {
        if self.poison.load(Relaxed) > 0 {
            self.poison.fetch_sub(1, Relaxed);
            panic!("the driver lies about links");
        }
        Link {
            up: self.links.lock().unwrap()[port.index()],
            speed_mbps: None,
            full_duplex: true,
        }
    }

    fn device_counters(&self, _port: PortId, _detailed: bool) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
}

fn own_mac(port: usize) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 0, u8::try_from(port + 1).unwrap()])
}

pub(crate) struct Bench {
    pub(crate) appliance: Appliance<Memory>,
    workers: Vec<Worker<HeapFrame, Edge<HeapFrame>>>,
    ports: Vec<MemoryPort<HeapFrame>>,
    links: Arc<Mutex<Vec<bool>>>,
    poison: Arc<AtomicUsize>,
    now: Instant,
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new(text: &str) -> Self {
        Self::with_workers(text, 1)
    }

    fn with_workers(text: &str, workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config_path = folder.path().join("sextant.toml");
        std::fs::write(&config_path, text).unwrap();
        let config = config::load(&config_path).unwrap_or_else(|errors| panic!("{errors}"));
        let ports: Vec<_> = config.ports.iter().map(|_| MemoryPort::new(1, 1)).collect();
        let links = Arc::new(Mutex::new(vec![true; ports.len()]));
        let poison = Arc::new(AtomicUsize::new(0));
        let facts = (0..ports.len()).map(|port| PortFacts {
            mac: own_mac(port),
            driver: "memory".to_owned(),
            rx_queues: 1,
            tx_queues: 1,
            socket: None,
        });
        let platform = Memory {
            facts: facts.collect(),
            poison: Arc::clone(&poison),
            links: Arc::clone(&links),
        };
        let mut publisher = Publisher::new(Builder::new().build());
        let crew = CrewConfig {
            workers: vec![WorkerConfig::default(); workers],
            punt_rates: [(100_000, 10_000); PuntReason::COUNT],
            rings: RingSizes::default(),
            spread_seed: 1,
        };
        let queues = ports.iter().enumerate();
        let queues = queues.map(|(position, port)| port.queues(publish::port(position)));
        let (workers, handles) =
            Crew::build(&crew, queues.collect(), &mut publisher, |_| Edge::new()).unwrap();
        let now = Instant::now();
        let parts = Parts {
            platform,
            config,
            config_path,
            publisher,
            workers: handles,
            rng: fastrand::Rng::with_seed(7),
        };
        Self {
            appliance: Appliance::new(now, parts).unwrap(),
            workers,
            ports,
            links,
            poison,
            now,
            folder,
        }
    }

    /// Let this many looks at a link panic from now on.
    pub(crate) fn poison_links(&self, looks: usize) {
        self.poison.store(looks, Relaxed);
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("sextant.toml")
    }

    /// Workers and control thread work until nobody has anything left to do at this moment, then time goes on.
    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now += Duration::from_millis(1);
            loop {
                self.appliance.tick(self.now);
                let moved: usize = self.workers.iter_mut().map(Worker::round).sum();
                if moved == 0 {
                    break;
                }
            }
        }
    }

    fn feed(&self, port: usize, frame: &[u8]) {
        self.ports[port].feed(0, HeapFrame::new(frame));
    }

    fn sent(&self, port: usize) -> Vec<Vec<u8>> {
        let frames = self.ports[port].collect();
        frames.iter().map(|frame| frame.bytes().to_vec()).collect()
    }

    fn show<T: serde::de::DeserializeOwned>(&mut self, subject: Subject) -> T {
        let answer = self.appliance.answer(self.now, Command::Show { subject });
        assert!(answer.ok, "{answer:?}");
        serde_json::from_value(answer.data).unwrap()
    }

    fn reload(&mut self, text: &str) -> Answer {
        std::fs::write(self.config_path(), text).unwrap();
        self.appliance.answer(self.now, Command::Reload)
    }

    /// A neighbour says where it is.
    fn advertise(&self, port: usize, address: Ipv6Addr, mac: Mac) {
        let flags = AdvertisementFlags {
            router: false,
            solicited: true,
            override_cached: true,
        };
        let own = if port == INSIDE {
            address_of("fd01:203:405:1::1")
        } else {
            address_of("2001:db8:ffff::2")
        };
        let message = icmpv6::neighbor_advertisement(address, flags, Some(mac));
        let frame = Packet::ethernet(mac, own_mac(port)).ipv6(address, own);
        self.feed(port, &frame.hop_limit(255).icmpv6(&message).build());
    }

    /// rx + injected + generated = tx + drops + punts, as an operator sees it.
    fn assert_conserved(&mut self) {
        let counters: view::Counters = self.show(Subject::Counters);
        let totals = counters.totals;
        assert_eq!(
            totals.rx + totals.injected + totals.generated,
            totals.tx + totals.drops + totals.punts,
            "{totals:?}"
        );
    }
}

fn address_of(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// IPv6 packet of an untagged frame: (type, code) of its ICMPv6 message, if it is one.
fn icmp_type(frame: &[u8]) -> Option<(u8, u8)> {
    (frame[20] == 58).then(|| (frame[54], frame[55]))
}

fn of_type(frames: &[Vec<u8>], kind: u8) -> Vec<&Vec<u8>> {
    frames
        .iter()
        .filter(|frame| icmp_type(frame).is_some_and(|(found, _)| found == kind))
        .collect()
}

fn ping(source: &str, destination: &str, sequence: u16) -> Vec<u8> {
    Packet::ethernet(HOST, own_mac(INSIDE))
        .ipv6(address_of(source), address_of(destination))
        .icmpv6_echo(1, sequence, b"payload")
        .build()
}

const HOST_ADDRESS: &str = "fd01:203:405:1::10";

#[test]
fn echo_request_is_answered_once_the_way_back_is_known() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 1));
    bench.run(5);
    let sent = bench.sent(INSIDE);
    assert_eq!(
        of_type(&sent, icmpv6::types::NEIGHBOR_SOLICITATION).len(),
        1
    );
    assert_eq!(of_type(&sent, icmpv6::types::ECHO_REPLY).len(), 0);
    bench.advertise(INSIDE, address_of(HOST_ADDRESS), HOST);
    bench.run(10);
    let sent = bench.sent(INSIDE);
    let replies = of_type(&sent, icmpv6::types::ECHO_REPLY);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0][..6], HOST.octets());
    assert_eq!(replies[0][6..12], own_mac(INSIDE).octets());
    // The next one needs nothing but the tables.
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 2));
    bench.run(5);
    let sent = bench.sent(INSIDE);
    assert_eq!(of_type(&sent, icmpv6::types::ECHO_REPLY).len(), 1);
    assert_eq!(sent.len(), 1);
    bench.assert_conserved();
}

#[test]
fn link_local_hosts_get_their_echo_replies_too() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping("fe80::10", "fe80::ff:fe00:1", 1));
    bench.run(5);
    bench.advertise(INSIDE, address_of("fe80::10"), HOST);
    bench.run(10);
    let sent = bench.sent(INSIDE);
    let replies = of_type(&sent, icmpv6::types::ECHO_REPLY);
    assert_eq!(replies.len(), 1, "{sent:02x?}");
    assert_eq!(replies[0][..6], HOST.octets());
    bench.assert_conserved();
}

#[test]
fn packets_wait_for_their_next_hop_and_follow_each_other_in_order() {
    let mut bench = Bench::new(&text(RULE));
    bench.run(10);
    for sequence in 1..=3 {
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "2600::1", sequence));
    }
    bench.run(5);
    assert_eq!(
        of_type(&bench.sent(OUTSIDE), icmpv6::types::ECHO_REQUEST).len(),
        0
    );
    bench.advertise(OUTSIDE, address_of("2001:db8:ffff::1"), ROUTER);
    bench.run(10);
    let sent = bench.sent(OUTSIDE);
    let requests = of_type(&sent, icmpv6::types::ECHO_REQUEST);
    let sequences: Vec<u8> = requests.iter().map(|frame| frame[61]).collect();
    assert_eq!(sequences, [1, 2, 3]);
    for request in requests {
        assert_eq!(request[..6], ROUTER.octets());
        assert_eq!(
            request[22..28],
            [0x20, 0x01, 0x0d, 0xb8, 0, 1],
            "translated on its way"
        );
        assert_eq!(request[21], 63);
    }
    bench.assert_conserved();
}

#[test]
fn silent_next_hop_is_answered_with_address_unreachable() {
    let mut bench = Bench::new(&text(""));
    bench.run(10);
    bench.advertise(INSIDE, address_of(HOST_ADDRESS), HOST);
    // The host is known only once something is sent to it.
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 1));
    bench.run(5);
    bench.advertise(INSIDE, address_of(HOST_ADDRESS), HOST);
    bench.run(10);
    bench.sent(INSIDE);
    let frame = Packet::ethernet(HOST, own_mac(INSIDE))
        .ipv6(address_of(HOST_ADDRESS), address_of("2001:db8:ffff::77"))
        .udp(1, 2, b"x")
        .build();
    bench.feed(INSIDE, &frame);
    bench.run(4000);
    let sent = bench.sent(INSIDE);
    let errors = of_type(&sent, icmpv6::types::DESTINATION_UNREACHABLE);
    assert_eq!(errors.len(), 1);
    assert_eq!(icmp_type(errors[0]), Some((1, 3)));
    let drops: view::Drops = bench.show(Subject::Drops);
    let of = |name: &str| {
        drops
            .drops
            .iter()
            .find(|drop| drop.name == name)
            .unwrap()
            .count
    };
    assert_eq!(of("neighbor_unresolved"), 1);
    bench.assert_conserved();
}

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

#[test]
fn probing_an_address_does_not_keep_its_prefix_from_being_routed() {
    let mut bench = Bench::new(&text("").replace("dad_transmits = 0", "dad_transmits = 1"));
    bench.run(5);
    let interfaces: view::Interfaces = bench.show(Subject::Interfaces);
    assert_eq!(
        interfaces.interfaces[INSIDE].addresses[0].state,
        "tentative"
    );
    // Somebody outside to a host inside, before the appliance may speak itself.
    let frame = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of("2600::1"), address_of(HOST_ADDRESS))
        .udp(1, 2, b"x")
        .build();
    bench.feed(OUTSIDE, &frame);
    bench.run(1500);
    let interfaces: view::Interfaces = bench.show(Subject::Interfaces);
    assert_eq!(
        interfaces.interfaces[INSIDE].addresses[0].state,
        "preferred"
    );
    let drops: view::Drops = bench.show(Subject::Drops);
    let no_route = drops
        .drops
        .iter()
        .find(|drop| drop.name == "no_route")
        .unwrap();
    assert_eq!(no_route.count, 0);
    let misses = drops
        .punts
        .iter()
        .find(|punt| punt.name == "neighbor_miss")
        .unwrap();
    assert!(misses.count >= 1);
    bench.assert_conserved();
}

#[test]
fn duplicate_address_is_told_and_not_used() {
    let mut bench = Bench::new(&text("").replace("dad_transmits = 0", "dad_transmits = 1"));
    bench.run(5);
    let own = address_of("fd01:203:405:1::1");
    let flags = AdvertisementFlags {
        router: false,
        solicited: false,
        override_cached: true,
    };
    let message = icmpv6::neighbor_advertisement(own, flags, Some(HOST));
    let frame = Packet::ethernet(HOST, Mac::from_octets([0x33, 0x33, 0, 0, 0, 1]))
        .ipv6(own, address_of("ff02::1"))
        .hop_limit(255)
        .icmpv6(&message)
        .build();
    bench.feed(INSIDE, &frame);
    bench.run(1500);
    let interfaces: view::Interfaces = bench.show(Subject::Interfaces);
    assert_eq!(
        interfaces.interfaces[INSIDE].addresses[0].state,
        "duplicate"
    );
    assert_eq!(
        interfaces.interfaces[OUTSIDE].addresses[0].state,
        "preferred"
    );
    bench.sent(INSIDE);
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", 1));
    bench.run(20);
    assert_eq!(
        of_type(&bench.sent(INSIDE), icmpv6::types::ECHO_REPLY).len(),
        0
    );
}

#[test]
fn trace_follows_as_many_packets_as_asked_for_and_no_more() {
    let mut bench = Bench::with_workers(&text(""), 2);
    bench.run(10);
    let answer = bench
        .appliance
        .answer(bench.now, Command::Trace { packets: 2 });
    assert!(answer.ok);
    for sequence in 1..=5 {
        bench.feed(INSIDE, &ping(HOST_ADDRESS, "fd01:203:405:1::1", sequence));
    }
    bench.run(3);
    let answer = bench.appliance.answer(bench.now, Command::Records);
    let trace: view::Trace = serde_json::from_value(answer.data).unwrap();
    assert_eq!((trace.wanted, trace.seen, trace.lost), (2, 2, 0));
    let steps: Vec<_> = trace
        .steps
        .iter()
        .map(|step| (step.packet, &*step.node))
        .collect();
    let expected = ["ingress", "ip6-lookup", "local"];
    let expected: Vec<_> = [1, 2]
        .iter()
        .flat_map(|packet| expected.map(|node| (*packet, node)))
        .collect();
    assert_eq!(steps, expected);
    assert!(
        trace.steps[0]
            .summary
            .starts_with("fd01:203:405:1::10 > fd01:203:405:1::1")
    );
    let refused = bench
        .appliance
        .answer(bench.now, Command::Trace { packets: 0 });
    assert_eq!(refused.reason, Some(Refusal::Request));
}

#[test]
fn every_subject_has_an_answer_with_a_time() {
    let mut bench = Bench::new(&text(RULE));
    bench.run(50);
    for subject in Subject::ALL {
        let answer = bench
            .appliance
            .answer(bench.now, Command::Show { subject: *subject });
        assert!(answer.ok, "{subject}");
        assert_eq!(answer.data["monotonic_ns"], 50_000_000, "{subject}");
    }
}

#[test]
fn outside_prefix_is_answered_for_on_its_uplink_where_that_is_asked_for() {
    let target = address_of("2001:db8:1:d550::10");
    let mut group = address_of("ff02::1:ff00:0").octets();
    group[13..].copy_from_slice(&target.octets()[13..]);
    let ethernet_group = Mac::multicast_for(Ipv6Addr::from(group));
    let message = icmpv6::neighbor_solicitation(target, Some(ROUTER));
    let solicitation = Packet::ethernet(ROUTER, ethernet_group)
        .ipv6(address_of("2001:db8:ffff::1"), Ipv6Addr::from(group))
        .hop_limit(255)
        .icmpv6(&message)
        .build();
    for (proxied, answers) in [("proxy_nd = true\n", 1), ("", 0)] {
        let mut bench = Bench::new(&text(&(RULE.to_owned() + proxied)));
        bench.run(10);
        bench.sent(OUTSIDE);
        bench.feed(OUTSIDE, &solicitation);
        bench.run(10);
        let sent = bench.sent(OUTSIDE);
        let found = of_type(&sent, icmpv6::types::NEIGHBOR_ADVERTISEMENT);
        assert_eq!(found.len(), answers);
        bench.assert_conserved();
    }
}

/// A receive queue whose driver has a bug.
struct Poisoned;

impl RxQueue for Poisoned {
    type Frame = HeapFrame;

    fn receive(&mut self, _burst: &mut Burst<HeapFrame>, _limit: usize) -> usize {
        panic!("descriptor ring corrupt")
    }
}

#[test]
fn dead_worker_is_told_and_its_packets_are_counted() {
    let mut bench = Bench::new(&text(""));
    let mut publisher = Publisher::new(Builder::new().build());
    let crew = CrewConfig {
        workers: vec![WorkerConfig::default()],
        punt_rates: [(1, 1); PuntReason::COUNT],
        rings: RingSizes::default(),
        spread_seed: 1,
    };
    let queues = PortQueues {
        id: publish::port(INSIDE),
        receive: vec![Box::new(Poisoned) as Box<dyn RxQueue<Frame = HeapFrame>>],
        transmit: Vec::new(),
    };
    let (workers, handles) =
        Crew::build::<HeapFrame, Edge<HeapFrame>>(&crew, vec![queues], &mut publisher, |_| {
            Edge::new()
        })
        .unwrap();
    bench.appliance.workers = handles;
    assert!(!bench.appliance.is_dead());
    let crew = Crew::start(workers, |_| Ok::<(), String>(())).unwrap();
    while !bench.appliance.is_dead() {
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.appliance.tick(bench.now + Duration::from_secs(1));
    assert_eq!(bench.appliance.known_dead, [true]);
    let workers: view::Workers = bench.show(Subject::Workers);
    assert_eq!(workers.workers[0].state, "dead");
    assert_eq!(
        workers.workers[0].cause.as_deref(),
        Some("descriptor ring corrupt")
    );
    // Announcements are still made, and have nowhere to go.
    bench.appliance.tick(bench.now + Duration::from_secs(60));
    let drops: view::Drops = bench.show(Subject::Drops);
    let lost = drops
        .control
        .iter()
        .find(|count| count.name == "worker_dead")
        .unwrap();
    assert!(lost.count > 0);
    drop(crew);
}
