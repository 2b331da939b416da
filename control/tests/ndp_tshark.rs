//! Everything neighbour discovery ever sends, shown to tshark (RFC 4861 4, RFC 7527 4, RFC 3810 5.2).

use std::collections::BTreeSet;
use std::io::Write;
use std::net::Ipv6Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use control::proto::ndp::{Handled, InterfaceConfig, InterfaceIndex, Machine, Output, Settings};
use dataplane::testing::builder::Packet;
use dataplane::testing::pcap;
use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv6;

const WAN: InterfaceIndex = InterfaceIndex(0);
const MAC: Mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
const PEER_MAC: Mac = Mac::from_octets([2, 0, 0, 0, 0, 0x99]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn config() -> InterfaceConfig {
    InterfaceConfig {
        mac: MAC,
        link_local: ip("fe80::1"),
        addresses: vec!["2001:db8:a::1/64".parse().unwrap()],
        on_link: Vec::new(),
        watched: Vec::new(),
        proxied: vec!["2001:db8:1::/48".parse().unwrap()],
        statics: Vec::new(),
    }
}

/// A machine and the frames it has sent.
struct Recorder {
    machine: Machine<()>,
    now: Instant,
    frames: Vec<Vec<u8>>,
}

impl Recorder {
    fn record(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if let Output::Transmit {
                destination_mac,
                packet,
                ..
            } = output
            {
                let (to, from) = (destination_mac.octets(), MAC.octets());
                let frame = [&to[..], &from, &[0x86, 0xdd], &packet].concat();
                self.frames.push(frame);
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.machine.handle_timeout(at);
            self.record();
        }
        self.now = end;
        self.record();
    }

    fn ask(&mut self, source: &str, target: &str, mac: Option<Mac>) {
        let low = u128::from(ip(target)) & 0x00ff_ffff;
        let group = Ipv6Addr::from(u128::from(ip("ff02::1:ff00:0")) | low);
        let packet = Packet::anywhere()
            .ipv6(ip(source), group)
            .hop_limit(255)
            .icmpv6(&icmpv6::neighbor_solicitation(ip(target), mac))
            .build_ipv6();
        let handled = self.machine.handle_input(self.now, WAN, PEER_MAC, &packet);
        assert_eq!(handled, Handled::Consumed);
        self.record();
    }
}

/// Every kind of packet: reports, probes, announcements, questions to groups and to neighbours, answers to questions and
/// to probes, own and proxied, and the report of a group that is left.
fn gallery() -> Vec<Vec<u8>> {
    let mut recorder = Recorder {
        machine: Machine::new(Settings::default(), fastrand::Rng::with_seed(1)),
        now: Instant::now(),
        frames: Vec::new(),
    };
    let now = recorder.now;
    recorder.machine.set_interface(now, WAN, Some(config()));
    recorder
        .machine
        .set_gateways(now, WAN, vec!["fe80::99".parse().unwrap()]);
    recorder.run(Duration::from_secs(10));
    for target in ["2001:db8:a::1", "fe80::1", "2001:db8:1::7"] {
        recorder.ask("2001:db8:a::99", target, Some(PEER_MAC));
    }
    recorder.ask("::", "2001:db8:a::1", None);
    let peer = ip("2001:db8:a::99");
    recorder
        .machine
        .confirm_in_use(recorder.now, WAN, peer.into());
    recorder.run(Duration::from_secs(10));
    let with_another = InterfaceConfig {
        addresses: vec!["2001:db8:a::abcd/64".parse().unwrap()],
        ..config()
    };
    recorder
        .machine
        .set_interface(recorder.now, WAN, Some(with_another));
    recorder.run(Duration::from_secs(10));
    recorder.frames
}

/// Type of an ICMPv6 message behind a plain IPv6 header or one hop-by-hop header of eight bytes.
fn kind(frame: &[u8]) -> u8 {
    match frame[20] {
        0 => frame[62],
        _ => frame[54],
    }
}

#[test]
fn tshark_reads_every_packet_without_complaint() {
    let frames = gallery();
    let kinds: BTreeSet<u8> = frames.iter().map(|frame| kind(frame)).collect();
    assert_eq!(kinds, BTreeSet::from([135, 136, 143]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sent.pcap");
    pcap::write(&path, &frames).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&path).args(["-T", "fields"]);
    // The checksum's status is 1 when it is right.
    for field in [
        "icmpv6.type",
        "icmpv6.checksum.status",
        "_ws.expert.message",
        "_ws.malformed",
    ] {
        tshark.args(["-e", field]);
    }
    let output = match tshark.output() {
        Ok(output) => output,
        Err(error) => {
            // Not `eprintln`, which the test harness would swallow.
            let text = format!("\nSKIPPED: packets are not shown to tshark: {error}\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let expected: String = frames
        .iter()
        .map(|frame| format!("{}\t1\t\t\n", kind(frame)))
        .collect();
    assert_eq!(lines, expected);
}
