//! Every family over every family, with packets of every size.

use std::collections::{HashMap, HashSet};

use control::demo::lisp::{CONFIG_A, CONFIG_B, PAIRS, Pair, Stage};
use control::lab::traffic::{self, ping};

use crate::underlay::{Capture, Packets};
use crate::{finish, ready, turn};

/// D-01, D-09, D-20, D-21: echo, datagrams and streams of all four combinations both ways, and every packet of them in the
/// underlay is as it should be.
#[test]
fn every_family_goes_over_every_family() {
    let Some(turn) = ready() else { return };
    let stage = &turn.stage;
    let capture = Capture::start(stage, "sxl-core-a1");
    let (a, b) = (&stage.host_a, &stage.host_b);
    for pair in PAIRS {
        let expect =
            |what: Result<String, _>| what.unwrap_or_else(|e| panic!("{}: {e}", pair.name));
        expect(ping(a, Some(pair.a), pair.b));
        expect(ping(b, Some(pair.b), pair.a));
        expect(traffic::echo(&stage.program, (a, b), pair.b, 60, 1400));
        expect(traffic::transfer(&stage.program, (a, b), pair.b, 2_000_000));
        expect(traffic::transfer(&stage.program, (b, a), pair.a, 1_000_000));
    }
    for (pair, first_port) in [(PAIRS[0], "21000"), (PAIRS[3], "22000")] {
        send_flows(stage, pair, first_port);
    }
    let packets = capture.stop();
    packets.assert_sound();
    let seen = Seen::all(&packets);
    for pair in PAIRS {
        let of_pair = seen.iter().filter(|packet| packet.concerns(pair.b));
        let outer: Vec<bool> = of_pair.map(|packet| packet.is_outer_v4).collect();
        assert!(outer.len() > 1000, "{}: {}", pair.name, outer.len());
        assert!(
            outer.iter().all(|is_v4| *is_v4 == pair.is_outer_v4),
            "{}",
            pair.name
        );
    }
    // An instance id and nothing else.
    assert!(
        seen.iter()
            .all(|packet| packet.flags == "0x08" && packet.instance == "7")
    );
    assert_flows_spread(&seen);
    finish(turn);
}

/// What tshark says of one packet in the underlay.
struct Seen {
    is_outer_v4: bool,
    flags: String,
    instance: String,
    addresses: Vec<String>,
    source_ports: Vec<String>,
    flow_label: String,
}

impl Seen {
    fn all(packets: &Packets) -> Vec<Self> {
        let fields = [
            "eth.type",
            "lisp-data.flags",
            "lisp-data.iid",
            "ip.addr",
            "ipv6.addr",
            "udp.srcport",
            "ipv6.flow",
        ];
        let rows = packets.rows("lisp-data", &fields).into_iter();
        rows.map(|row| {
            let [kind, flags, instance, v4, v6, ports, labels] =
                <[Vec<String>; 7]>::try_from(row).expect("as many as were asked for");
            let first = |values: &[String]| values.first().cloned().unwrap_or_default();
            Self {
                is_outer_v4: kind[0] == "0x0800",
                flags: first(&flags),
                instance: first(&instance),
                addresses: [v4, v6].concat(),
                source_ports: ports,
                flow_label: first(&labels),
            }
        })
        .collect()
    }

    fn concerns(&self, address: &str) -> bool {
        self.addresses.iter().any(|known| known == address)
    }

    fn port(&self, at: usize) -> Option<u16> {
        self.source_ports.get(at)?.parse().ok()
    }
}

/// 64 flows of three datagrams.
fn send_flows(stage: &Stage, pair: Pair, first_port: &str) {
    let at = traffic::socket(pair.b, 7007);
    let _echo = traffic::listen(&stage.program, &stage.host_b, &["udp-echo", &at], 7007);
    let words = ["udp-flows", &at, "64", "3", "2000", first_port];
    let report = traffic::peer(&stage.program, &stage.host_a, &words).expect("flows");
    assert_eq!(report["unanswered"], 0, "{report}");
}

/// D-20 to D-22: outer ports and labels are constant in a flow and many over the flows.
fn assert_flows_spread(seen: &[Seen]) {
    for (range, is_outer_v4) in [(21_000..21_064, false), (22_000..22_064, true)] {
        let mut flows = HashMap::<u16, HashSet<(u16, &str)>>::new();
        for packet in seen {
            let (Some(outer), Some(inner)) = (packet.port(0), packet.port(1)) else {
                continue;
            };
            if range.contains(&inner) {
                let label = if is_outer_v4 { "" } else { &packet.flow_label };
                flows.entry(inner).or_default().insert((outer, label));
            }
        }
        assert_eq!(flows.len(), 64);
        assert!(
            flows.values().all(|ways| ways.len() == 1),
            "one way for a flow: {flows:?}"
        );
        let ways = || flows.values().flatten();
        let ports: HashSet<u16> = ways().map(|(port, _)| *port).collect();
        assert!(ports.iter().all(|port| *port >= 49_152));
        assert!(ports.len() >= 60, "{} ports", ports.len());
        let labels: HashSet<&str> = ways().map(|(_, label)| *label).collect();
        assert!(!labels.contains("0x000000"));
        assert!(is_outer_v4 || labels.len() >= 60, "{} labels", labels.len());
    }
}

/// The configuration whose site believes in as many bytes as the underlay has.
fn with_large_site(config: &str) -> String {
    let large = config.replace("mtu = 1444\n", "");
    assert_ne!(large, config);
    large
}

/// F-02 to F-07: hosts that believe in 1,500 bytes are told of 1,444 or 1,464, or their packets are cut in two before they
/// are encapsulated; and of 100 bytes less when a router of the underlay says so.
#[test]
fn what_does_not_fit_is_cut_or_its_source_is_told() {
    let stateful = "[lisp]\npath_mtu = \"stateful\"";
    let config_a = with_large_site(CONFIG_A).replace("[lisp]", stateful);
    let Some(turn) = turn(&config_a, &with_large_site(CONFIG_B)) else {
        return;
    };
    let stage = &turn.stage;
    let (a, b) = (&stage.host_a, &stage.host_b);
    for (host, link) in [(a, "sxl-site-a"), (b, "sxl-site-b")] {
        host.run(&["ip", "link", "set", link, "mtu", "1500"])
            .expect("an MTU");
    }
    let capture = Capture::start(stage, "sxl-core-a1");
    for pair in &PAIRS[2..] {
        let whole = [
            "ping", "-n", "-c1", "-W2", "-s1472", "-Mdont", "-I", pair.a, pair.b,
        ];
        a.run(&whole).expect("cut and put together again");
    }
    let packets = capture.stop();
    packets.assert_sound();
    for (pair, is_outer_v4) in [(PAIRS[2], false), (PAIRS[3], true)] {
        let filter = format!("ip.src == {} && ip.dst == {}", pair.a, pair.b);
        let rows = packets.rows(&filter, &["ip.len", "ip.flags.df"]);
        assert_eq!(rows.len(), 2, "{}", pair.name);
        let inner = usize::from(is_outer_v4);
        let lengths = [0, 1].map(|piece: usize| {
            let text = &rows[piece][0][inner];
            text.parse::<usize>().expect("a length")
        });
        assert_eq!(lengths.iter().sum::<usize>(), 1500 + 20);
        assert!(lengths[0].abs_diff(lengths[1]) <= 8, "halves: {lengths:?}");
        assert!(
            !is_outer_v4 || rows.iter().all(|row| row[1][0] == "1"),
            "outer DF"
        );
    }
    for pair in PAIRS {
        let told = if pair.is_outer_v4 { 1464 } else { 1444 };
        assert_source_is_told(stage, pair, told);
    }
    let narrow = ["ip", "link", "set", "sxl-core-b1", "mtu", "1400"];
    stage.core.run(&narrow).expect("an MTU");
    for pair in PAIRS {
        let told = if pair.is_outer_v4 { 1364 } else { 1344 };
        assert_source_is_told(stage, pair, told);
    }
    finish(turn);
}

/// A stream arrives, and the way to get it there was to learn this MTU.
fn assert_source_is_told(stage: &Stage, pair: Pair, mtu: u16) {
    let dropped = || traffic::dropped(&stage.box_a, "packet_too_big").expect("drops");
    let before = dropped();
    let hosts = (&stage.host_a, &stage.host_b);
    traffic::transfer(&stage.program, hosts, pair.b, 2_000_000)
        .unwrap_or_else(|error| panic!("{}, {mtu}: {error}", pair.name));
    assert!(dropped() > before, "{}, {mtu}", pair.name);
    let words = ["ip", "route", "get", pair.b, "from", pair.a];
    let route = stage.host_a.run(&words).expect("a route");
    let expected = format!("mtu {mtu}");
    assert!(route.contains(&expected), "{}, {mtu}: {route}", pair.name);
}
