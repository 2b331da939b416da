//! Golden cases: configuration and packets in, packets and counters out, byte for byte.
//!
//! Each folder of `pipelines/tests/golden` is a case: `README.md` says what it shows, `config.toml` is what an operator
//! would write, `in.pcap` what arrives, `out.pcap` what leaves, `counters.txt` every counter that is not zero. By
//! convention hosts on port n have MAC addresses that end in a byte from 16(n+1) on, and port n's own ends in n+1, so the
//! port is known from the frame. With SEXTANT_BLESS=1 the outputs are written anew, and `in.pcap` too where a case of
//! [`inputs`] makes it: review the difference.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use control::config;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{Burst, Frame};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::{PortId, TxQueue};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::{Packet, Packet4};
use dataplane::testing::{HeapFrame, pcap};
use dataplane::trace::Tracer;
use dataplane::wire::arp;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::Pipeline;
use pipelines::testing::HeapEdge;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/tests/golden")
}

fn mac(last: u8) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 0, last])
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

const HOST: &str = "fd01:203:405:1::1234";
const SEEN: &str = "2001:db8:1:d550::1234";
const PEER: &str = "2600:1::1";

/// What arrives in the case of IPv4.
fn ipv4_inputs() -> Vec<Vec<u8>> {
    let v4 = |text: &str| text.parse().expect("an address");
    let between = |from: &str, to: &str| {
        let packet = Packet4::ethernet(mac(0x11), mac(1));
        packet.ipv4(v4(from), v4(to)).identification(7)
    };
    let to = |to: &str| between("192.0.2.10", to);
    let out = || to("203.0.113.9");
    let back = || {
        let packet = Packet4::ethernet(mac(0x22), mac(2));
        packet.ipv4(v4("203.0.113.9"), v4("192.0.2.10"))
    };
    let request = arp::Message::request(mac(0x11), v4("192.0.2.10"), v4("192.0.2.1"));
    let big = out().udp(1, 2, &[9; 1450]);
    vec![
        out().udp(1000, 53, b"question").build(),
        back().dont_fragment().udp(53, 1000, b"answer").build(),
        out().options(&[136, 4, 1, 2]).udp(1, 2, b"options").build(),
        big.build(),
        big.clone().dont_fragment().build(),
        big.options(&[7, 7, 4, 0, 0, 0, 0, 136, 4, 1, 2]).build(),
        out().fragment(80, true).raw(17, &[5; 1440]).build(),
        out().ttl(1).udp(1, 33434, b"expires").build(),
        back().ttl(1).udp(1, 33434, b"expires").build(),
        out().ttl(1).icmp_error(3, 1, 0, &[0x45; 28]).build(),
        to("10.1.0.1").udp(1, 2, b"no way").build(),
        to("10.2.0.1").udp(1, 2, b"hole").build(),
        to("192.0.2.1").udp(1, 2, b"closed").build(),
        to("192.0.2.1").echo(8, 1, 1, b"ping").build(),
        to("192.0.2.77").udp(1, 2, b"not resolved").build(),
        to("198.51.100.255").udp(1, 2, b"directed").build(),
        to("224.0.0.1").udp(1, 2, b"multicast").build(),
        between("127.0.0.1", "203.0.113.9").udp(1, 2, b"").build(),
        out().wrong_header_checksum().udp(1, 2, b"").build(),
        out().udp(1, 2, b"padded").trailer(&[0xee; 9]).build(),
        Packet4::ethernet(mac(0x11), Mac::BROADCAST).build_arp(&request),
    ]
}

/// What arrives in each case, for making `in.pcap`.
fn inputs(case: &str) -> Option<Vec<Vec<u8>>> {
    if case == "ipv4" {
        return Some(ipv4_inputs());
    }
    let out = || Packet::ethernet(mac(0x11), mac(1)).ipv6(address(HOST), address(PEER));
    let back = || Packet::ethernet(mac(0x22), mac(2)).ipv6(address(PEER), address(SEEN));
    let quote = |from: &str, to: &str| {
        Packet::anywhere()
            .ipv6(address(from), address(to))
            .udp(1, 2, b"quoted")
            .build_ipv6()
    };
    let from =
        |source: &str| Packet::ethernet(mac(0x11), mac(1)).ipv6(address(source), address(PEER));
    let to = |destination: &str| {
        Packet::ethernet(mac(0x22), mac(2)).ipv6(address(PEER), address(destination))
    };
    let packets: Vec<Packet> = match case {
        "npt66-48" => vec![
            out().udp(1000, 53, b"question"),
            back().udp(53, 1000, b"answer"),
            out().tcp(1001, 443, b"hello"),
            back().tcp(443, 1001, b"world"),
            out().icmpv6_echo(1, 1, b"ping"),
            back().icmpv6_echo_reply(1, 1, b"ping"),
            out().fragment(0, true, 7).raw(17, &[1; 64]),
            out().fragment(64, false, 7).raw(17, &[2; 9]),
            out().raw(50, &[3; 32]),
            out().destination_options().udp(1, 2, b"behind options"),
            from("fd01:203:405:ffff::1").udp(1, 2, b"no counterpart"),
            to("2001:db8:1:ffff::1").udp(1, 2, b"no counterpart"),
        ],
        "npt66-56" => vec![
            from("fd00:1:2:3456::1").udp(1, 2, b"first word"),
            from("fd00:1:2:3456:ffff::1").udp(1, 2, b"second word"),
            from("fd00:1:2:3456:ffff:ffff:ffff:1").udp(1, 2, b"fourth word"),
            from("fd00:1:2:3456:ffff:ffff:ffff:ffff").udp(1, 2, b"no word"),
            from("fd00:1:2:3456::").udp(1, 2, b"zero identifier"),
            to("2001:db8:2:ab56:5849::1").udp(2, 1, b"back"),
            to("2001:db8:2:ab56:ffff:ffff:ffff:ffff").udp(2, 1, b"no word"),
        ],
        "icmp-quotes" => vec![
            to(SEEN).icmpv6_error(1, 0, 0, &quote(SEEN, PEER)),
            to(SEEN)
                .hop_by_hop()
                .icmpv6_error(2, 0, 1280, &quote(SEEN, PEER)),
            from(HOST).icmpv6_error(1, 4, 0, &quote(PEER, HOST)),
            to(SEEN).icmpv6_error(3, 0, 0, &quote("2600:77::1", PEER)),
            to(SEEN).icmpv6_error(3, 0, 0, &quote(SEEN, PEER)[..39]),
            to(SEEN)
                .icmpv6_error(3, 0, 0, &quote(SEEN, PEER))
                .wrong_checksum(),
        ],
        "icmp-errors" => vec![
            out().hop_limit(1).udp(1, 33434, b"expires"),
            back().hop_limit(1).udp(1, 33434, b"expires"),
            out().udp(1, 2, &[9; 1400]),
            from("fd01:203:405:1::77")
                .hop_limit(1)
                .icmpv6_error(1, 0, 0, &quote(PEER, HOST)),
            Packet::ethernet(mac(0x11), mac(1))
                .ipv6(address(HOST), address("2001:db8:dead::1"))
                .udp(1, 2, b"no way"),
            Packet::ethernet(mac(0x11), mac(1))
                .ipv6(address(HOST), address("2001:db8:b1ac::1"))
                .udp(1, 2, b"hole"),
            Packet::ethernet(mac(0x11), mac(1))
                .ipv6(address(HOST), address("fd01:203:405:1::1"))
                .udp(1, 2, b"closed"),
        ],
        "hairpin" => vec![
            Packet::ethernet(mac(0x11), mac(1))
                .ipv6(address(HOST), address("2001:db8:1:d550::99"))
                .udp(1, 2, b"there"),
            Packet::ethernet(mac(0x12), mac(1))
                .ipv6(address("fd01:203:405:1::99"), address(SEEN))
                .udp(2, 1, b"and back"),
        ],
        "vlan" => vec![
            Packet::ethernet(mac(0x11), mac(1))
                .vlan(100, 5)
                .ipv6(address(HOST), address(PEER))
                .udp(1, 2, b"tagged"),
            Packet::ethernet(mac(0x22), mac(2))
                .tag(0x88a8, 200, 3)
                .tag(0x8100, 300, 0)
                .ipv6(address(PEER), address(SEEN))
                .udp(2, 1, b"back"),
            Packet::ethernet(mac(0x11), mac(1))
                .vlan(101, 0)
                .ipv6(address(HOST), address(PEER))
                .udp(1, 2, b"foreign tag"),
            out().udp(1, 2, b"no tag"),
        ],
        "steering" => {
            let client = |port: u16| {
                let packet = Packet::ethernet(mac(0x22), mac(2));
                (packet.ipv6(address(PEER), address("2001:db8:a11::1")), port)
            };
            let udp = |port| client(port).0.udp(port, 443, b"question");
            let reply = Packet::anywhere()
                .ipv6(address("2001:db8:a11::1"), address(PEER))
                .udp(443, 1, &[7; 1300])
                .build_ipv6();
            let service =
                |to: &str| Packet::ethernet(mac(0x22), mac(2)).ipv6(address(PEER), address(to));
            vec![
                udp(1),
                udp(2),
                udp(3),
                udp(4),
                udp(1),
                client(1).0.icmpv6_error(2, 0, 1280, &reply[..1200]),
                client(1).0.tcp(1, 80, b"no such service"),
                client(1).0.icmpv6_echo(1, 1, b"nor this"),
                udp(1).hop_limit(1),
                client(9)
                    .0
                    .fragment(0, true, 5)
                    .raw(17, &[0, 9, 1, 187, 0, 40, 0, 0]),
                client(9).0.fragment(8, false, 5).raw(17, &[1; 32]),
                client(9).0.fragment(8, false, 6).raw(17, &[1; 32]),
                service("2001:db8:a11::2").tcp(7, 7, b"in a tunnel"),
                service("2001:db8:a11::2").tcp(7, 7, &[0; 1401]),
                service("2001:db8:a11::3").tcp(7, 7, b"nobody takes it"),
            ]
        }
        "bad-packets" => vec![
            out().version(4).udp(1, 2, b""),
            out().ether_type(0x88cc).udp(1, 2, b""),
            out().payload_length(500).udp(1, 2, b"shorter than it says"),
            from("ff02::1").udp(1, 2, b""),
            from("::1").udp(1, 2, b""),
            from("::").udp(1, 2, b""),
            Packet::ethernet(mac(0x11), mac(9))
                .ipv6(address(HOST), address(PEER))
                .udp(1, 2, b"not for us"),
            Packet::ethernet(mac(0x11), mac(1))
                .ipv6(address(HOST), address("ff0e::1"))
                .udp(1, 2, b"multicast"),
            Packet::ethernet(mac(0x11), mac(1))
                .ipv6(address(HOST), address("fe80::9"))
                .udp(1, 2, b"scope"),
            out().udp(1, 2, b"padded").trailer(&[0xee; 9]),
        ],
        _ => return None,
    };
    Some(packets.iter().map(Packet::build).collect())
}

struct Wire(Arc<Mutex<Vec<Vec<u8>>>>);

impl TxQueue for Wire {
    type Frame = HeapFrame;
    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        let sent = burst.len();
        let frames = burst.drain(..).map(|frame| frame.bytes().to_vec());
        self.0.lock().expect("one thread").extend(frames);
        sent
    }
}

/// Run the packets of a case, each by itself so that the order of what leaves is that of what came.
fn play(config: &config::Config, frames: &[Vec<u8>]) -> (Vec<Vec<u8>>, String) {
    let macs: Vec<Mac> = (1..).map(mac).take(config.ports.len()).collect();
    let tables = control::publish::tables_at_rest(config, &macs);
    let counters = Arc::new(WorkerCounters::new());
    let wire = Arc::new(Mutex::new(Vec::new()));
    let (punts, _control) = dataplane::ring::ring(256);
    let ports = config
        .ports
        .iter()
        .map(|_| TxPath::Queue(Box::new(Wire(Arc::clone(&wire))) as Box<_>))
        .collect();
    let rates = [(1000, 1000); PuntReason::COUNT];
    let mut out = Outputs::new(
        ports,
        vec![None],
        punts,
        rates,
        Arc::clone(&counters),
        Tracer::off(),
    );
    let mut edge = HeapEdge::new();
    for frame in frames {
        let port = usize::from(frame[11] >> 4) - 1;
        let mut burst: Burst<HeapFrame> = std::iter::once(HeapFrame::new(frame)).collect();
        edge.process(
            &tables,
            PortId::new(port).expect("a port"),
            &mut burst,
            &mut out,
        );
        out.flush();
    }
    edge.finish(&mut out);
    let sent = std::mem::take(&mut *wire.lock().expect("one thread"));
    let mut text = String::new();
    let mut line = |name: &str, count: u64| {
        if count > 0 {
            writeln!(text, "{name} {count}").expect("a string grows");
        }
    };
    line("received", frames.len() as u64);
    line("generated", counters.generated.read());
    line("sent", sent.len() as u64);
    for reason in DropReason::ALL {
        line(
            &format!("drop.{}", reason.info().name),
            counters.dropped(*reason),
        );
    }
    for reason in PuntReason::ALL {
        line(
            &format!("punt.{}", reason.info().name),
            counters.punted(*reason),
        );
    }
    for (rule, named) in counters.rules.iter().zip(&config.npt66) {
        line(
            &format!("npt66.{}.out", named.name),
            rule.out.packets.read(),
        );
        line(
            &format!("npt66.{}.in", named.name),
            rule.r#in.packets.read(),
        );
    }
    let pools = config.steering.pools.iter();
    let servers = pools.flat_map(|pool| pool.servers.iter().map(|server| (&pool.name, server)));
    for (counters, (pool, server)) in counters.servers.iter().zip(servers) {
        let name = format!("steer.{pool}.{}", server.name);
        line(&name, counters.traffic.packets.read());
    }
    let drops: u64 = DropReason::ALL
        .iter()
        .map(|reason| counters.dropped(*reason))
        .sum();
    let punts: u64 = PuntReason::ALL
        .iter()
        .map(|reason| counters.punted(*reason))
        .sum();
    let entered = frames.len() as u64 + counters.generated.read();
    assert_eq!(
        entered,
        sent.len() as u64 + drops + punts,
        "in = out + drops + punts"
    );
    (sent, text)
}

#[test]
fn every_golden_case() {
    let bless = std::env::var_os("SEXTANT_BLESS").is_some();
    let mut cases: Vec<_> = std::fs::read_dir(folder())
        .expect("the cases")
        .map(|case| case.expect("a folder").path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 8, "{} cases", cases.len());
    for case in cases {
        let name = case
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(case.join("README.md").exists(), "{name} says what it shows");
        let config =
            config::load(&case.join("config.toml")).unwrap_or_else(|errors| panic!("{errors}"));
        if let Some(frames) = inputs(&name).filter(|_| bless) {
            pcap::write(case.join("in.pcap"), &frames).expect("in.pcap");
        }
        let frames = pcap::read(case.join("in.pcap")).expect("in.pcap");
        let (sent, counters) = play(&config, &frames);
        if bless {
            pcap::write(case.join("out.pcap"), &sent).expect("out.pcap");
            std::fs::write(case.join("counters.txt"), &counters).expect("counters.txt");
        }
        assert_eq!(
            sent,
            pcap::read(case.join("out.pcap")).expect("out.pcap"),
            "{name}"
        );
        assert_eq!(
            counters,
            std::fs::read_to_string(case.join("counters.txt")).expect("counters.txt"),
            "{name}"
        );
    }
}
