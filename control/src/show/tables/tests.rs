//! What a person reads, for one answer of each kind.

use std::collections::BTreeMap;

use super::*;
use crate::admin::view::{
    Address, AgentView, AnnouncementView, Count, Counters, DrainView, Drops, HealthView, Interface,
    Link, Neighbor, NextHop, Node, OnChangeView, PoolBySourceView, PoolView, Port, Route, Rule,
    ServerCounts, ServerView, ServiceView, Services, Totals, Worker, Workers,
};

fn port(name: &str, packets: u64) -> PortCounters {
    PortCounters {
        name: name.to_owned(),
        rx_packets: packets,
        rx_bytes: packets * 100,
        tx_packets: packets * 2,
        tx_bytes: packets * 200,
        device: BTreeMap::new(),
    }
}

fn ports(packets: u64) -> Ports {
    Ports {
        monotonic_ns: packets * 1_000_000,
        ports: vec![Port {
            device_string: "net_tap0,iface=wan".to_owned(),
            driver: "net_tap".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            link: Link {
                up: true,
                speed_mbps: Some(10_000),
                full_duplex: true,
            },
            mtu: 1500,
            rx_queues: 1,
            tx_queues: 2,
            socket: None,
            counters: port("wan", packets),
        }],
    }
}

#[test]
fn services_show_pools_and_servers() {
    let server = |name: &str, state: &str, by_hand, resolved, packets| ServerView {
        name: name.to_owned(),
        address: "2001:db8:5::11".to_owned(),
        state: state.to_owned(),
        overridden: by_hand,
        weight: 2,
        share: 0.25,
        resolved,
        health: None,
        agents: vec![],
        drain: None,
        flows_now: None,
        counts: ServerCounts {
            packets,
            bytes: packets * 100,
            flows: packets / 10,
        },
    };
    let services = |packets| Services {
        monotonic_ns: 1,
        node: "edge-1".to_owned(),
        on_change: OnChangeView {
            runs: 2,
            failures: 1,
            last_failure: Some("announce failed: exit status: 1".to_owned()),
        },
        services: vec![ServiceView {
            name: "https".to_owned(),
            prefix: "2001:db8:a11::1/128".to_owned(),
            protocol: "tcp".to_owned(),
            ports: vec!["443".to_owned(), "8000-8999".to_owned()],
            pool: "web".to_owned(),
            pools: vec![PoolBySourceView {
                source: "2001:db8:1::/48".to_owned(),
                pool: "near".to_owned(),
            }],
            affinity: "flow".to_owned(),
            new_flows_per_second: None,
            flows_max: None,
            announcement: AnnouncementView {
                state: "announced".to_owned(),
                since_s: 75.0,
                changes: 1,
            },
        }],
        pools: vec![PoolView {
            name: "web".to_owned(),
            vrf: "main".to_owned(),
            mode: "l2".to_owned(),
            when_down: "refuse".to_owned(),
            table_size: 65_537,
            digest: "00ff".to_owned(),
            servers: vec![
                server("web-1", "drained", true, Some(true), packets),
                ServerView {
                    address: "2001:db8:5::12".to_owned(),
                    agents: vec![AgentView {
                        agent: "probe".to_owned(),
                        expires_s: Some(3.0),
                    }],
                    drain: Some(DrainView {
                        deadline_s: Some(59.0),
                        when_idle: true,
                    }),
                    flows_now: Some(12_345),
                    health: Some(HealthView {
                        state: "up".to_owned(),
                        since_s: 200.4,
                        changes: 1,
                        last_s: Some(0.5),
                        answer_ms: Some(0.25),
                        cause: None,
                        checks: 100,
                        failures: 3,
                    }),
                    ..server("web-2", "up", false, Some(false), 0)
                },
            ],
        }],
        flows_max: 1024,
        displaced: 1,
        stateless: 2,
        moved: 3,
    };
    assert_eq!(
        services(1500).render(None, false),
        "\
SERVICE  PREFIX               PROTOCOL  PORTS          POOL                            AFFINITY  ANNOUNCEMENT
https    2001:db8:a11::1/128  tcp       443 8000-8999  web, near from 2001:db8:1::/48  flow      announced for 1 min 15 s

POOL  VRF   MODE  WHEN DOWN   TABLE  DIGEST
web   main  l2    refuse     65,537  00ff

POOL  SERVER  ADDRESS         STATE                                                     HEALTH                     WEIGHT   SHARE  FLOWS NOW  FLOWS  PACKETS    BYTES
web   web-1   2001:db8:5::11  drained, by hand                                          not checked                     2  25.0 %          -    150    1,500  150,000
web   web-2   2001:db8:5::12  up, down says probe, until idle, 59.0 s left, unresolved  up for 3 min 20 s, 0.2 ms       2  25.0 %     12,345      0        0        0

1,024 flows remembered by each worker at most; 1 displaced, 2 without memory, 3 moved
node edge-1; on_change ran 2 times, 1 failed: announce failed: exit status: 1
"
    );
    let (earlier, now) = (services(1500), services(2500));
    let watched = now.render(Some((&earlier, Duration::from_secs(2))), true);
    let row = watched
        .lines()
        .find(|line| line.contains("web-1"))
        .expect("its row");
    assert!(row.ends_with("50        500"), "{row}");
}

#[test]
fn ports_show_device_and_traffic() {
    assert_eq!(
        ports(1500).render(None, false),
        "\
PORT  LINK         SPEED  MAC                 MTU  QUEUES      DRIVER   DEVICE
wan   up    10000 Mbit/s  02:00:00:00:00:01  1500  1 rx, 2 tx  net_tap  net_tap0,iface=wan

PORT  RX PACKETS  RX BYTES  TX PACKETS  TX BYTES
wan        1,500   150,000       3,000   300,000
"
    );
}

#[test]
fn watching_adds_rates_over_the_instances_own_clock() {
    let (earlier, now) = (ports(1000), ports(3000));
    let passed = Duration::from_nanos(now.monotonic_ns - earlier.monotonic_ns);
    let text = now.render(Some((&earlier, passed)), true);
    let line = text.lines().last().unwrap();
    // 2,000 packets of 100 bytes in 2 s.
    let expected =
        "wan        3,000   300,000       6,000   600,000  1,000  800 kbit/s  2,000  1.60 Mbit/s";
    assert_eq!(line, expected);
    let first = now.render(None, true);
    assert!(
        first.lines().last().unwrap().ends_with("-   -     -   -"),
        "{first}"
    );
}

#[test]
fn packets_the_device_lost_are_said_in_a_line_of_their_own() {
    let mut ports = ports(1);
    let device = &mut ports.ports[0].counters.device;
    device.insert("rx_missed".to_owned(), 12_345);
    device.insert("tx_errors".to_owned(), 0);
    let text = ports.render(None, false);
    assert!(
        text.ends_with("wan: the device itself lost rx_missed 12,345\n"),
        "{text}"
    );
}

#[test]
fn interfaces_show_an_address_a_line_and_what_is_wrong_with_it() {
    let address = |address: &str, state: &str| Address {
        address: address.to_owned(),
        state: state.to_owned(),
    };
    let interfaces = Interfaces {
        monotonic_ns: 0,
        interfaces: vec![Interface {
            name: "guests".to_owned(),
            port: "lan".to_owned(),
            vlan: vec![100, 7],
            vrf: "main".to_owned(),
            up: false,
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 1500,
            addresses: vec![
                address("fd00::1/64", "duplicate"),
                address("fe80::1/64", "preferred"),
            ],
            neighbors: 3,
            npt66: Vec::new(),
        }],
    };
    assert_eq!(
        interfaces.render(None, false),
        "\
INTERFACE  STATE  PORT  VLAN   VRF    MTU  MAC                NEIGHBORS  NPT66  ADDRESSES
guests     down   lan   100 7  main  1500  02:00:00:00:00:01          3  -      fd00::1/64 (duplicate)
                                                                                fe80::1/64
"
    );
}

fn worker(packets: u64, cause: Option<&str>) -> Worker {
    Worker {
        index: 0,
        core: Some(1),
        state: "running".to_owned(),
        panics: cause.map_or(0, |_| 3),
        cause: cause.map(str::to_owned),
        polls: packets * 10,
        busy_polls: packets,
        rx: packets,
        tx: packets,
        injected: 0,
        spread_in: 0,
        spread_out: 0,
        nodes: vec![
            Node {
                name: "ingress".to_owned(),
                calls: packets / 2,
                frames: packets,
            },
            Node {
                name: "local".to_owned(),
                calls: 0,
                frames: 0,
            },
        ],
    }
}

#[test]
fn workers_show_load_nodes_and_setbacks() {
    let dead = Worker {
        index: 1,
        state: "dead".to_owned(),
        nodes: vec![],
        ..worker(0, Some("tail above head"))
    };
    let workers = Workers {
        monotonic_ns: 0,
        workers: vec![worker(100, Some("index out of bounds")), dead],
    };
    assert_eq!(
        workers.render(None, false),
        "\
WORKER  CORE  STATE    POLLS    BUSY   RX   TX  INJECTED  SPREAD IN  SPREAD OUT
     0     1  running  1,000  10.0 %  100  100         0          0           0
     1     1  dead         0       -    0    0         0          0           0
worker 0 panicked and went on, 3 times: index out of bounds
worker 1 died: tail above head

WORKER  NODE     CALLS  FRAMES  FRAMES/CALL
     0  ingress     50     100          2.0
"
    );
}

#[test]
fn routes_show_each_next_hop_on_its_line() {
    let hop = |via: &str, weight| NextHop {
        interface: "wan".to_owned(),
        via: Some(via.to_owned()),
        weight,
        state: "unresolved".to_owned(),
        mac: None,
    };
    let route = |prefix: &str, action: &str, next_hops| Route {
        vrf: "main".to_owned(),
        prefix: prefix.to_owned(),
        source: "static".to_owned(),
        action: action.to_owned(),
        next_hops,
    };
    let routes = Routes {
        monotonic_ns: 0,
        routes: vec![
            route(
                "::/0",
                "forward",
                vec![hop("fe80::1", 1), hop("fe80::2", 3)],
            ),
            route("100::/64", "blackhole", Vec::new()),
        ],
    };
    assert_eq!(
        routes.render(None, false),
        "\
VRF   PREFIX    SOURCE  ACTION     VIA      INTERFACE  WEIGHT  STATE       MAC
main  ::/0      static  forward    fe80::1  wan             1  unresolved  -
                                   fe80::2  wan             3  unresolved  -
main  100::/64  static  blackhole  -        -               -  -           -
"
    );
}

#[test]
fn neighbors_show_state_and_role() {
    let neighbors = Neighbors {
        monotonic_ns: 0,
        neighbors: vec![Neighbor {
            interface: "wan".to_owned(),
            address: "fe80::1".to_owned(),
            mac: Some("02:00:00:00:00:99".to_owned()),
            state: "reachable".to_owned(),
            router: true,
            gateway: true,
            age_ms: Some(1500),
            queued: 0,
        }],
        counters: BTreeMap::new(),
        invalid: BTreeMap::new(),
    };
    assert_eq!(
        neighbors.render(None, false),
        "\
INTERFACE  ADDRESS  MAC                STATE      SINCE  FLAGS           WAITING
wan        fe80::1  02:00:00:00:00:99  reachable  1.5 s  router gateway        0
"
    );
}

#[test]
fn rules_show_prefixes_and_both_directions() {
    let npt66 = Npt66 {
        monotonic_ns: 0,
        npt66: vec![Rule {
            interface: "wan".to_owned(),
            inside: "fd01::/48".to_owned(),
            outside: "2001:db8::/48".to_owned(),
            proxy_nd: true,
            zero_iid: "drop".to_owned(),
            counters: RuleCounters {
                name: "isp".to_owned(),
                out_packets: 1,
                out_bytes: 100,
                in_packets: 2,
                in_bytes: 200,
            },
        }],
    };
    assert_eq!(
        npt66.render(None, false),
        "\
RULE  UPLINK  INSIDE     OUTSIDE        PROXY ND  ZERO IID
isp   wan     fd01::/48  2001:db8::/48  yes       drop

RULE  OUT PACKETS  OUT BYTES  IN PACKETS  IN BYTES
isp             1        100           2       200
"
    );
}

fn reason(name: &str, count: u64) -> Count {
    Count {
        name: name.to_owned(),
        text: format!("about {name}"),
        rfc: "RFC 1".to_owned(),
        count,
    }
}

#[test]
fn reasons_that_never_happened_are_left_out() {
    let drops = |count| Drops {
        monotonic_ns: 0,
        drops: vec![reason("no_route", count), reason("blackhole", 0)],
        punts: vec![reason("nd", 3)],
        control: vec![reason("nd_invalid", 1)],
    };
    let second = Duration::from_secs(1);
    assert_eq!(
        drops(15).render(Some((&drops(5), second)), true),
        "         REASON      PACKETS  PER SECOND  CLAUSE  MEANING\n\
         drop     no_route         15          10  RFC 1   about no_route\n\
         punt     nd                3           0  RFC 1   about nd\n\
         control  nd_invalid        1           0  RFC 1   about nd_invalid\n"
    );
    let nothing = Drops {
        monotonic_ns: 0,
        drops: Vec::new(),
        punts: Vec::new(),
        control: Vec::new(),
    };
    assert_eq!(
        nothing.render(None, false),
        "nothing was dropped or punted\n"
    );
}

#[test]
fn counters_begin_with_the_balance() {
    let counters = Counters {
        monotonic_ns: 0,
        totals: Totals {
            rx: 10,
            injected: 1,
            generated: 2,
            tx: 9,
            drops: 3,
            punts: 1,
            errors_limited: 0,
            encapsulated: 4,
            decapsulated: 5,
        },
        ports: vec![port("wan", 10)],
        drops: vec![reason("no_route", 3)],
        punts: vec![reason("nd", 1)],
        control: Vec::new(),
        workers: vec![worker(10, None)],
        npt66: Vec::new(),
        ndp: BTreeMap::from([("probes_sent".to_owned(), 2), ("looped".to_owned(), 0)]),
    };
    let text = counters.render(None, false);
    let expected = "\
TOTAL                 PACKETS
received                   10
injected                    1
generated                   2
sent                        9
dropped                     3
punted                      1
errors over the rate        0
encapsulated                4
decapsulated                5
";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.ends_with("\nNEIGHBOUR DISCOVERY  COUNT\nprobes_sent              2\n"),
        "{text}"
    );
}

#[test]
fn instance_is_a_list_of_facts() {
    let instance = Instance {
        monotonic_ns: 61_000_000_000,
        name: "edge".to_owned(),
        version: "0.1.0".to_owned(),
        engine: "DPDK 22.11.11".to_owned(),
        memory: "huge pages".to_owned(),
        pid: 42,
        config: "/etc/sextant.toml".to_owned(),
        configurations_applied: 1,
        configurations_refused: 0,
        panics: 0,
        publications: 12,
        publications_pending: 0,
        fib_bytes: 2048,
    };
    let text = instance.render(None, false);
    assert!(text.contains("running for     1 min 1 s\n"), "{text}");
    assert!(text.contains("prefix tables   2 KiB\n"), "{text}");
}
