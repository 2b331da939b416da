//! Whole texts in, whole models out; what is left out; what a reload may change; that no text makes it panic.

mod families;
mod health;
mod lisp;

use std::path::PathBuf;
use std::time::Duration;

use dataplane::reason::PuntReason;
use ipnet::{IpNet, Ipv6Net};
use pipelines::tables::InterfaceId;

use super::*;

/// Every key of the format, each with another value than its default.
const FULL: &str = r#"
[system]
name = "edge-1"
admin_socket = "/tmp/edge.sock"
huge_pages = "require"
memory_mib = 512
control_core = 0

[workers]
cores = [3, 2]
poll = "busy"
burst = 16
mbufs = 65_536

[[ports]]
name = "lan"
device = "net_tap0,iface=sx-lan,mac=02:00:00:00:00:01"
rx_queues = 2
tx_queues = 3
rx_descriptors = 256
tx_descriptors = 512
promiscuous = true

[[ports]]
name = "wan"
device = "3B:00.1,rxq_cqe_comp_en=0"

[[interfaces]]
name = "office"
port = "lan"
vlan = [300, 100]
mtu = 9000
vrf = "internal"
addresses = ["fd01:203:405::1/64", "2001:db8:5::1/127"]
link_local = "fe80::1"

[[interfaces]]
port = "wan"
addresses = ["2001:db8:ffff::2/64"]

[[routes]]
prefix = "::/0"
next_hops = [
    { via = "2001:db8:ffff::1", weight = 200 },
    { via = "fe80::9", interface = "wan" },
    { interface = "wan" },
]

[[routes]]
prefix = "2001:db8:dead::/48"
vrf = "internal"
blackhole = true

[[routes]]
prefix = "fd00::/8"
vrf = "internal"
unreachable = true

[[neighbors]]
interface = "wan"
address = "2001:db8:ffff::1"
mac = "02:00:00:00:00:99"

[[npt66]]
name = "isp1"
interface = "wan"
inside = "fd01:203:405::/48"
outside = "2001:db8:1::/56"
proxy_nd = true
zero_iid = "translate"

[icmp]
errors_per_second = 5
errors_burst = 6

[punt]
nd = { per_second = 7, burst = 8 }
local = { burst = 9 }

[ndp]
max_neighbors = 100
max_incomplete = 50
queue_packets = 4
retrans_timer_ms = 500
reachable_time_ms = 5000
dad_transmits = 0
"#;

/// The least that is right.
const LEAST: &str = r#"
[[ports]]
name = "wan"
device = "net_tap0"
[[interfaces]]
port = "wan"
"#;

fn host() -> Host {
    Host::new((0..4).collect())
}

fn right(text: &str) -> Config {
    parse_for("test.toml", text, &host()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Lines of the errors that say where and what.
fn wrong(text: &str) -> Vec<String> {
    let errors = parse_for("t", text, &host()).expect_err("something is wrong");
    let line =
        |error: &ConfigError| format!("{} {}: {}", error.line(), error.key(), error.problem());
    errors.as_slice().iter().map(line).collect()
}

fn prefix<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a prefix")
}

#[test]
fn every_value_arrives() {
    let config = right(FULL);
    let expected = System {
        name: "edge-1".to_owned(),
        admin_socket: PathBuf::from("/tmp/edge.sock"),
        huge_pages: HugePages::Require,
        memory_mib: Some(512),
        control_core: Some(0),
    };
    assert_eq!(config.system, expected);
    let expected = Workers {
        cores: vec![3, 2],
        poll: Poll::Busy,
        burst: 16,
        mbufs: 65_536,
    };
    assert_eq!(config.workers, expected);
    let lan = Port {
        name: "lan".to_owned(),
        device: Device::new("net_tap0", Some("iface=sx-lan,mac=02:00:00:00:00:01")),
        rx_queues: Some(2),
        tx_queues: Some(3),
        rx_descriptors: 256,
        tx_descriptors: 512,
        promiscuous: true,
        mtu: 9000,
    };
    let wan = Port {
        name: "wan".to_owned(),
        device: Device::new("0000:3b:00.1", Some("rxq_cqe_comp_en=0")),
        rx_queues: None,
        tx_queues: None,
        rx_descriptors: 1024,
        tx_descriptors: 1024,
        promiscuous: false,
        mtu: 1500,
    };
    assert_eq!(config.ports, [lan, wan]);
    assert_eq!(config.vrfs, ["main", "internal"]);
    let office = Interface {
        name: "office".to_owned(),
        port: 0,
        vlan: vec![300, 100],
        mtu: 9000,
        vrf: 1,
        addresses: vec![prefix("fd01:203:405::1/64"), prefix("2001:db8:5::1/127")],
        link_local: Some("fe80::1".parse().expect("an address")),
    };
    let wan = Interface {
        name: "wan".to_owned(),
        port: 1,
        vlan: vec![],
        mtu: 1500,
        vrf: 0,
        addresses: vec![prefix("2001:db8:ffff::2/64")],
        link_local: None,
    };
    assert_eq!(config.interfaces, [office, wan]);
}

#[test]
fn every_value_of_routes_rules_and_limits_arrives() {
    let config = right(FULL);
    let hop = |via: Option<&str>, weight| NextHop {
        via: via.map(|address| address.parse().expect("an address")),
        interface: 1,
        weight,
    };
    let hops = vec![
        hop(Some("2001:db8:ffff::1"), 200),
        hop(Some("fe80::9"), 1),
        hop(None, 1),
    ];
    let route = |text, vrf, target| Route {
        prefix: prefix(text),
        vrf,
        target,
    };
    let expected = [
        route("::/0", 0, Target::NextHops(hops)),
        route("2001:db8:dead::/48", 1, Target::Blackhole),
        route("fd00::/8", 1, Target::Unreachable),
    ];
    assert_eq!(config.routes, expected);
    let neighbor = Neighbor {
        interface: 1,
        address: "2001:db8:ffff::1".parse().expect("an address"),
        mac: "02:00:00:00:00:99".parse().expect("an address"),
    };
    assert_eq!(config.neighbors, [neighbor]);
    let rule = Npt66 {
        name: "isp1".to_owned(),
        interface: 1,
        inside: prefix("fd01:203:405::/48"),
        outside: prefix("2001:db8:1::/56"),
        proxy_nd: true,
        zero_iid: ZeroIid::Translate,
    };
    assert_eq!(config.npt66, [rule]);
    let icmp = Icmp {
        errors_per_second: 5,
        errors_burst: 6,
    };
    assert_eq!(config.icmp, icmp);
    let rate = |per_second, burst| Rate { per_second, burst };
    assert_eq!(config.punt.rate(PuntReason::NeighborDiscovery), rate(7, 8));
    assert_eq!(config.punt.rate(PuntReason::NeighborMiss), rate(1000, 200));
    assert_eq!(config.punt.rate(PuntReason::Echo), rate(1000, 200));
    assert_eq!(config.punt.rate(PuntReason::Local), rate(100, 9));
    let ndp = Ndp {
        max_neighbors: 100,
        max_incomplete: 50,
        queue_packets: 4,
        retrans_timer: Duration::from_millis(500),
        reachable_time: Duration::from_secs(5),
        dad_transmits: 0,
    };
    assert_eq!(config.ndp, ndp);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = right(LEAST);
    let expected = System {
        name: "sextant".to_owned(),
        admin_socket: PathBuf::from("/run/sextant/sextant.sock"),
        huge_pages: HugePages::Auto,
        memory_mib: None,
        control_core: None,
    };
    assert_eq!(config.system, expected);
    let expected = Workers {
        cores: vec![3],
        poll: Poll::Adaptive,
        burst: 32,
        mbufs: 16_384,
    };
    assert_eq!(config.workers, expected);
    assert_eq!(config.interfaces[0].name, "wan");
    assert_eq!(config.vrfs, ["main"]);
    assert_eq!(
        (config.icmp, config.punt),
        (Icmp::default(), Punt::default())
    );
    assert_eq!(config.ndp, Ndp::default());

    let named = right(&format!(
        "[system]\nname = \"b\"\ncontrol_core = 3\n{LEAST}"
    ));
    assert_eq!(
        named.system.admin_socket,
        PathBuf::from("/run/sextant/b.sock")
    );
    assert_eq!(
        named.workers.cores,
        [2],
        "the control thread has the last core"
    );
    let few = right(&format!("{LEAST}[ndp]\nmax_neighbors = 10\n"));
    assert_eq!(few.ndp.max_incomplete, 10);
}

#[test]
fn buffers_grow_with_the_queues() {
    let port = "[[ports]]\nname = \"wan\"\ndevice = \"net_tap0\"\nrx_descriptors = 4096\ntx_descriptors = 4097\n\
                [[interfaces]]\nport = \"wan\"\n";
    assert_eq!(right(port).workers.mbufs, 16_384);
    let two = right(&format!("[workers]\ncores = [1, 2, 3]\n{port}"));
    assert_eq!(two.workers.mbufs, 32_768);
}

#[test]
fn a_device_shows_its_parts() {
    let device = Device::new("net_tap0", Some("iface=sx-lan,persist,mac=fixed"));
    assert_eq!(device.as_str(), "net_tap0,iface=sx-lan,persist,mac=fixed");
    assert_eq!(device.name(), "net_tap0");
    assert_eq!(device.argument("iface"), Some("sx-lan"));
    assert_eq!(device.argument("mac"), Some("fixed"));
    assert_eq!(device.argument("persist"), None);
    assert!(device.is_virtual());
    let card = Device::new("0000:03:00.0", None);
    assert_eq!((card.argument("iface"), card.is_virtual()), (None, false));
}

#[test]
fn devices_of_every_kind_are_taken() {
    for device in [
        "net_tap0",
        "net_null0,no-rx=1,copy=0",
        "net_ring0",
        "net_pcap0,rx_pcap=/tmp/été.pcap,infinite_rx=1",
        "net_af_packet0,iface=eth0",
        "net_af_xdp1,iface=eth0,start_queue=0",
        "net_memif0,role=client,id=0,socket=/run/memif.sock",
        "0000:03:00.0",
        "0000:3B:1f.7",
        "03:00.0",
        "0000:03:00.0,representor=[0-3]",
        "auxiliary:mlx5_core.sf.1",
        "vmbus:7294ae43-fe10-43d7-8ddd-37c76ba7dbd6",
    ] {
        let text = LEAST.replace("net_tap0", device);
        let config = right(&text);
        assert!(
            config.ports[0]
                .device
                .as_str()
                .to_lowercase()
                .ends_with(&device.to_lowercase())
        );
    }
}

/// As JSON the model has the file's keys, so that a running configuration can be shown.
#[test]
fn json_has_the_keys_of_the_file() {
    let json = serde_json::to_value(right(FULL)).expect("plain values");
    assert_eq!(json["system"]["huge_pages"], "require");
    assert_eq!(json["ports"][1]["device"], "0000:3b:00.1,rxq_cqe_comp_en=0");
    assert_eq!(
        json["routes"][0]["target"]["next_hops"][0]["via"],
        "2001:db8:ffff::1"
    );
    assert_eq!(json["routes"][1]["target"], "blackhole");
    assert_eq!(json["neighbors"][0]["mac"], "02:00:00:00:00:99");
    assert_eq!(json["punt"]["nd"]["per_second"], 7);
    assert_eq!(json["ndp"]["reachable_time_ms"], 5000);
}

/// One mistake is one error: what depends on a wrong part is not judged.
#[test]
fn a_mistake_is_reported_once() {
    let typo = FULL.replace("name = \"wan\"\ndevice", "name = 5\ndevice");
    assert_eq!(
        wrong(&typo),
        ["25 ports[1].name: found the integer 5, expected a string"]
    );
    let address = FULL.replace("\"2001:db8:ffff::2/64\"", "\"2001:db8:ffff::2\"");
    let [error] = &wrong(&address)[..] else {
        panic!("{:?}", wrong(&address))
    };
    assert!(
        error.starts_with("39 interfaces[1].addresses[0]: \"2001:db8:ffff::2\" is not"),
        "{error}"
    );
    let vrf = FULL.replace("vrf = \"internal\"\naddresses", "vrf = 1\naddresses");
    assert_eq!(
        wrong(&vrf),
        ["33 interfaces[0].vrf: found the integer 1, expected a string"]
    );
}

/// RFC 6296 3.1 (N2): the builder of the tables takes exactly the prefixes that are taken here, so a configuration
/// that was judged right can be built.
#[test]
fn prefixes_are_judged_as_the_tables_judge_them() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut taken = 0;
    let blocks = [
        "::",
        "::1",
        "::ffff:c000:201",
        "fe80::",
        "febf::",
        "ff00::",
        "fd00::",
        "2001:db8::",
        "8000::",
    ];
    for _ in 0..2000 {
        let base: std::net::Ipv6Addr = blocks[rng.usize(0..blocks.len())]
            .parse()
            .expect("an address");
        let noise = rng.u128(..) & (u128::MAX >> rng.u32(16..128));
        let address =
            std::net::Ipv6Addr::from(u128::from(base) ^ if rng.bool() { noise } else { 0 });
        let network = Ipv6Net::new_assert(address, rng.u8(0..=128));
        let inside = if rng.bool() { network.trunc() } else { network };
        let rule = format!(
            "{LEAST}[[npt66]]\nname = \"a\"\ninterface = \"wan\"\ninside = \"{inside}\"\noutside = \"4000::/48\"\n"
        );
        let spec = pipelines::npt66::Spec {
            interface: InterfaceId(0),
            inside,
            outside: prefix("4000::/48"),
            zero_iid: pipelines::npt66::ZeroIid::Drop,
        };
        // That the two prefixes of a rule must not overlap is asked here only.
        if inside.contains(&spec.outside) {
            continue;
        }
        let here = parse_for("t", &rule, &host()).map(|_| ());
        let there = pipelines::npt66::Rule::new(&spec);
        assert_eq!(here.is_ok(), there.is_ok(), "{inside}: {here:?}, {there:?}");
        if here.is_ok() {
            taken += 1;
        }
    }
    assert!(taken > 200, "{taken}");
}

/// Beside every pair compared with every other.
#[test]
fn overlapping_subnets_are_found_whatever_their_order() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut counts = [0, 0];
    for _ in 0..1000 {
        let mut text = String::from("[[ports]]\nname = \"p\"\ndevice = \"net_tap0\"\n");
        let mut subnets = Vec::new();
        for interface in 0..rng.u16(2..6) {
            let vrf = rng.u8(0..2);
            let mut addresses = Vec::new();
            for host in 1..rng.u128(1..4) {
                // Few networks, so that some meet; each host once, so that addresses differ.
                let network = u128::from(rng.u16(0..4)) << 76 | u128::from(rng.u16(0..4)) << 64;
                let host = u128::from(interface) << 8 | host;
                let address = std::net::Ipv6Addr::from(0x2001_0db8 << 96 | network | host);
                let length = [48, 52, 64, 128][rng.usize(0..4)];
                addresses.push(format!("\"{address}/{length}\""));
                subnets.push((vrf, interface, Ipv6Net::new_assert(address, length).trunc()));
            }
            text += &format!(
                "[[interfaces]]\nname = \"i{interface}\"\nport = \"p\"\nvlan = [{}]\nvrf = \"v{vrf}\"\n\
                 addresses = [{}]\n",
                interface + 1,
                addresses.join(", ")
            );
        }
        let overlap = |a: &Ipv6Net, b: &Ipv6Net| a.contains(b) || b.contains(a);
        let meets = subnets.iter().any(|(vrf, interface, subnet)| {
            let others = subnets
                .iter()
                .filter(|other| other.0 == *vrf && other.1 != *interface);
            others.into_iter().any(|(.., other)| overlap(subnet, other))
        });
        let found = parse_for("t", &text, &host());
        assert_eq!(found.is_err(), meets, "{text}\n{found:?}");
        counts[usize::from(meets)] += 1;
    }
    assert!(counts[0] > 100 && counts[1] > 100, "{counts:?}");
}

/// RFC 6296 2.4 (N3): the same inside on two uplinks is how a site has two providers.
#[test]
fn two_uplinks_may_share_an_inside_prefix() {
    let rule = |interface: &str, outside: &str| {
        format!(
            "[[npt66]]\nname = \"{interface}\"\ninterface = \"{interface}\"\ninside = \"fd01::/48\"\n\
             outside = \"{outside}\"\n"
        )
    };
    let two = format!("{LEAST}[[interfaces]]\nname = \"b\"\nport = \"wan\"\nvlan = [2]\n");
    let text = format!(
        "{two}{}{}",
        rule("wan", "2001:db8:1::/48"),
        rule("b", "2001:db8:2::/48")
    );
    assert_eq!(right(&text).npt66.len(), 2);
    let text = format!(
        "{two}{}{}",
        rule("wan", "2001:db8:1::/48"),
        rule("b", "2001:db8:1::/48")
    );
    assert_eq!(right(&text).npt66.len(), 2);
}

#[test]
fn a_reload_changes_everything_but_threads_queues_and_devices() {
    let old = right(FULL);
    assert_eq!(reload_plan(&old, &old), Ok(()));
    let (head, _) = FULL.split_once("[[interfaces]]").expect("interfaces");
    let new = right(&format!(
        "{head}[[interfaces]]\nport = \"wan\"\nmtu = 1280\n[icmp]\nerrors_burst = 1\n\
         [punt]\nnd = {{ per_second = 7, burst = 8 }}\nlocal = {{ burst = 9 }}\n"
    ));
    assert_eq!(reload_plan(&old, &new), Ok(()));
}

#[test]
fn what_needs_a_restart_is_named_key_by_key() {
    let old = right(FULL);
    let changes = [
        ("name = \"edge-1\"", "name = \"edge-2\"", "system.name"),
        ("/tmp/edge.sock", "/tmp/edge2.sock", "system.admin_socket"),
        ("\"require\"", "\"off\"", "system.huge_pages"),
        ("memory_mib = 512", "", "system.memory_mib"),
        (
            "control_core = 0",
            "control_core = 1",
            "system.control_core",
        ),
        ("cores = [3, 2]", "cores = [3]", "workers.cores"),
        ("\"busy\"", "\"adaptive\"", "workers.poll"),
        ("burst = 16", "burst = 17", "workers.burst"),
        ("65_536", "65_537", "workers.mbufs"),
        ("local = { burst = 9 }", "", "punt.local"),
        ("iface=sx-lan", "iface=sx-lan2", "ports[0].device"),
        ("rx_queues = 2", "rx_queues = 1", "ports[0].rx_queues"),
        ("tx_queues = 3", "", "ports[0].tx_queues"),
        (
            "rx_descriptors = 256",
            "rx_descriptors = 257",
            "ports[0].rx_descriptors",
        ),
        (
            "tx_descriptors = 512",
            "tx_descriptors = 513",
            "ports[0].tx_descriptors",
        ),
        ("promiscuous = true", "", "ports[0].promiscuous"),
        ("mtu = 9000", "mtu = 9001", "ports[0]"),
    ];
    let mut all = FULL.to_owned();
    let mut keys = Vec::new();
    for (from, to, key) in changes {
        assert!(FULL.contains(from), "{from}");
        let needed = reload_plan(&old, &right(&FULL.replacen(from, to, 1))).expect_err(key);
        assert_eq!(needed.len(), 1, "{needed:?}");
        assert_eq!(needed[0].key, key);
        all = all.replacen(from, to, 1);
        keys.push(key);
    }
    let needed = reload_plan(&old, &right(&all)).expect_err("all of them");
    assert_eq!(
        needed
            .iter()
            .map(|needed| needed.key.as_str())
            .collect::<Vec<_>>(),
        keys
    );
    assert_eq!(
        needed[7].to_string(),
        "workers.burst: 16 would become 17, which needs a restart"
    );

    let two = right(&format!(
        "[[ports]]\nname = \"x\"\ndevice = \"net_null0\"\n{LEAST}"
    ));
    let one = right(
        &LEAST
            .replace("\"wan\"", "\"x\"")
            .replace("net_tap0", "net_null0"),
    );
    let gone = reload_plan(&two, &one).expect_err("a port went");
    assert_eq!(
        gone[0].to_string(),
        "ports[1]: port \"wan\" would go, which needs a restart"
    );
    let came = reload_plan(&one, &two).expect_err("a port came");
    assert_eq!(
        came[0].to_string(),
        "ports[1]: port \"wan\" would come, which needs a restart"
    );
}

/// Damage a right file at random: no panic, and either no error or errors that can be shown.
#[test]
fn damaged_text_is_survived() {
    let mut rng = fastrand::Rng::with_seed(23);
    let tokens = [
        "[",
        "]",
        "=",
        "\"",
        "\n",
        "{",
        "}",
        ",",
        "::/0",
        "-1",
        "[[ports]]\n",
        "\u{0}",
        "é",
        "0x",
        "'''",
    ];
    let mut refused = 0;
    for _ in 0..1000 {
        let mut text: Vec<char> = FULL.chars().collect();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..text.len());
            let end = (at + rng.usize(0..20)).min(text.len());
            let token = tokens[rng.usize(0..tokens.len())].chars();
            text.splice(at..if rng.bool() { end } else { at }, token);
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse_for("t.toml", &text, &host()) {
            assert!(!errors.as_slice().is_empty());
            assert!(errors.render(true).len() > errors.render(false).len());
            refused += 1;
        }
    }
    assert!(refused > 500, "{refused}");
}
