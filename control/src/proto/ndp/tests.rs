//! The machine as its users see it: bytes and packets in, bytes and packets out, a clock that tests turn by hand.
//!
//! Messages to the machine are written byte by byte here, and what it sends is read byte by byte, without
//! [`super::wire`], so that a mistake there cannot hide itself.

mod address_steps;
mod answering;
mod arp;
mod arp_conflicts;
mod bytes;
mod detection;
mod gateways;
mod groups;
mod learning;
mod limits;
mod links;
mod nud_steps;
mod random;
mod reload;
mod resolution;
mod validation;
mod watching;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use dataplane::testing::builder::Packet;
use dataplane::wire::checksum;
use dataplane::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Mac};
use dataplane::wire::ipv6::proto;

use super::{
    Counter, Event, Handled, InterfaceConfig, InterfaceIndex, Machine, NeighborState, Output,
    Refused, Settings,
};

const WAN: InterfaceIndex = InterfaceIndex(3);
const ALL_NODES: &str = "ff02::1";
/// Ours.
const MAC: Mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
const LINK_LOCAL: &str = "fe80::1";
const GLOBAL: &str = "2001:db8:a::1";
/// Theirs.
const PEER_MAC: Mac = Mac::from_octets([2, 0, 0, 0, 0, 0x99]);
const OTHER_MAC: Mac = Mac::from_octets([2, 0, 0, 0, 0, 0x77]);
const PEER: &str = "2001:db8:a::99";
const GATEWAY: &str = "fe80::99";

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REPORT: u8 = 143;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// An address of either family.
fn any(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// ff02::1:ffXX:XXXX, written out independently of the code.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let low = u128::from(address) & 0x00ff_ffff;
    Ipv6Addr::from(u128::from(ip("ff02::1:ff00:0")) | low)
}

fn config() -> InterfaceConfig {
    InterfaceConfig {
        mac: MAC,
        link_local: ip(LINK_LOCAL),
        addresses: vec!["2001:db8:a::1/64".parse().unwrap()],
        on_link: Vec::new(),
        proxied: Vec::new(),
        watched: Vec::new(),
        statics: Vec::new(),
    }
}

/// No random factors: what is due is due on the second.
fn settings() -> Settings {
    Settings {
        dad_transmits: 0,
        ..Settings::default()
    }
}

// ---- messages ----

fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.octets()].concat()
}

fn source_mac(mac: Mac) -> Vec<u8> {
    option(1, mac)
}

fn target_mac(mac: Mac) -> Vec<u8> {
    option(2, mac)
}

fn nonce(value: [u8; 6]) -> Vec<u8> {
    [&[14, 1][..], &value].concat()
}

fn icmpv6(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Packet {
    Packet::anywhere()
        .ipv6(source, destination)
        .hop_limit(255)
        .icmpv6(message)
}

fn solicitation_message(target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    [
        &[SOLICITATION, 0, 0, 0, 0, 0, 0, 0],
        &target.octets()[..],
        options,
    ]
    .concat()
}

fn advertisement_message(target: Ipv6Addr, flags: &str, options: &[u8]) -> Vec<u8> {
    let mut bits = 0;
    for flag in flags.bytes() {
        bits |= match flag {
            b'R' => 0x80,
            b'S' => 0x40,
            b'O' => 0x20,
            other => panic!("no flag {}", char::from(other)),
        };
    }
    [
        &[ADVERTISEMENT, 0, 0, 0, bits, 0, 0, 0],
        &target.octets()[..],
        options,
    ]
    .concat()
}

/// A solicitation to the target's group.
fn solicitation(source: &str, target: &str, options: &[u8]) -> Vec<u8> {
    let target = ip(target);
    let message = solicitation_message(target, options);
    icmpv6(ip(source), solicited_node(target), &message).build_ipv6()
}

/// An advertisement from its target.
fn advertisement(target: &str, destination: &str, flags: &str, options: &[u8]) -> Vec<u8> {
    let message = advertisement_message(ip(target), flags, options);
    icmpv6(ip(target), ip(destination), &message).build_ipv6()
}

/// An ARP message: 1 asks, 2 answers.
fn arp_message(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, address) in [sender, target] {
        message.extend(mac.octets());
        message.extend(address.octets());
    }
    message
}

// ---- what comes out ----

/// A transmitted packet, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    interface: InterfaceIndex,
    mac: Mac,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    kind: u8,
    /// From the ICMPv6 header.
    message: Vec<u8>,
    packet: Vec<u8>,
}

impl Sent {
    fn new(interface: InterfaceIndex, mac: Mac, packet: Vec<u8>) -> Self {
        let address = |at: usize| {
            let octets: [u8; 16] = packet[at..at + 16].try_into().unwrap();
            Ipv6Addr::from_octets(octets)
        };
        let (source, destination) = (address(8), address(24));
        assert_eq!(packet[0], 0x60, "version 6, traffic class 0");
        let payload_len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        assert_eq!(payload_len + 40, packet.len());
        let start = match packet[6] {
            proto::HOP_BY_HOP => {
                assert_eq!(packet[40], proto::ICMPV6);
                48
            }
            proto::ICMPV6 => 40,
            other => panic!("next header {other}"),
        };
        let message = packet[start..].to_vec();
        let (from, to) = (source.octets(), destination.octets());
        assert!(
            checksum::is_valid(&from, &to, proto::ICMPV6, &message),
            "checksum"
        );
        if destination.is_multicast() {
            assert_eq!(mac, Mac::multicast_for(destination), "RFC 2464 7");
        } else {
            assert!(!mac.is_multicast());
        }
        Self {
            interface,
            mac,
            source,
            destination,
            hop_limit: packet[7],
            kind: message[0],
            message,
            packet,
        }
    }

    fn target(&self) -> Ipv6Addr {
        let octets: [u8; 16] = self.message[8..24].try_into().unwrap();
        Ipv6Addr::from_octets(octets)
    }

    fn flags(&self) -> String {
        assert_eq!(self.kind, ADVERTISEMENT);
        assert_eq!(self.message[4] & 0x1f, 0, "reserved bits are zero");
        assert_eq!(self.message[5..8], [0; 3], "reserved bits are zero");
        let bits = [(0x80, 'R'), (0x40, 'S'), (0x20, 'O')];
        let set = bits.iter().filter(|(bit, _)| self.message[4] & bit != 0);
        set.map(|(_, name)| *name).collect()
    }

    fn options(&self) -> &[u8] {
        &self.message[24..]
    }
}

/// A transmitted ARP message, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ArpSent {
    interface: InterfaceIndex,
    mac: Mac,
    operation: u8,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
}

impl ArpSent {
    fn new(interface: InterfaceIndex, mac: Mac, message: &[u8]) -> Self {
        assert_eq!(message.len(), 28);
        assert_eq!(
            message[..7],
            [0, 1, 8, 0, 6, 4, 0],
            "Ethernet, IPv4, their lengths"
        );
        let pair = |at: usize| {
            let mac: [u8; 6] = message[at..at + 6].try_into().unwrap();
            let address: [u8; 4] = message[at + 6..at + 10].try_into().unwrap();
            (Mac::from_octets(mac), Ipv4Addr::from(address))
        };
        Self {
            interface,
            mac,
            operation: message[7],
            sender: pair(8),
            target: pair(18),
        }
    }
}

#[derive(Debug, Default)]
struct Drained {
    sent: Vec<Sent>,
    arp: Vec<ArpSent>,
    ready: Vec<u32>,
    failed: Vec<u32>,
    changes: usize,
    /// Watched neighbours: whether they were heard, or fell silent.
    watched: Vec<(IpAddr, bool)>,
    events: Vec<Event>,
}

impl Drained {
    fn kinds(&self) -> Vec<u8> {
        self.sent.iter().map(|sent| sent.kind).collect()
    }

    /// The only packet sent.
    fn only(&self) -> &Sent {
        match &self.sent[..] {
            [one] => one,
            other => panic!("{} packets sent: {:?}", other.len(), self.kinds()),
        }
    }

    fn assert_silent(&self) {
        let nothing = self.sent.is_empty()
            && self.arp.is_empty()
            && self.ready.is_empty()
            && self.failed.is_empty()
            && self.changes == 0
            && self.watched.is_empty()
            && self.events.is_empty();
        assert!(nothing, "{self:?}");
    }
}

/// A machine, its clock and its view of the packet path.
struct Bench {
    machine: Machine<u32>,
    now: Instant,
}

impl Bench {
    /// Nothing configured.
    fn bare(settings: Settings) -> Self {
        Self {
            machine: Machine::new(settings, fastrand::Rng::with_seed(1)),
            now: Instant::now(),
        }
    }

    /// One interface whose start has long been over.
    fn quiet(settings: Settings, config: InterfaceConfig) -> Self {
        let mut bench = Self::bare(settings);
        bench.machine.set_interface(bench.now, WAN, Some(config));
        bench.run(10 * SECOND);
        bench.drain();
        bench
    }

    fn new() -> Self {
        Self::quiet(settings(), config())
    }

    /// Let time pass, serving every deadline when it comes.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
        }
        self.now = end;
        self.machine.assert_consistent();
    }

    /// Let time pass and say what happened.
    fn after(&mut self, duration: Duration) -> Drained {
        self.run(duration);
        self.drain()
    }

    fn drain(&mut self) -> Drained {
        self.machine.assert_consistent();
        let mut drained = Drained::default();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Transmit {
                    interface,
                    destination_mac,
                    ether_type: ETHERTYPE_ARP,
                    packet,
                } => drained
                    .arp
                    .push(ArpSent::new(interface, destination_mac, &packet)),
                Output::Transmit {
                    interface,
                    destination_mac,
                    ether_type,
                    packet,
                } => {
                    assert_eq!(ether_type, ETHERTYPE_IPV6);
                    drained
                        .sent
                        .push(Sent::new(interface, destination_mac, packet));
                }
                Output::NeighborsChanged => drained.changes += 1,
                Output::Ready(packet) => drained.ready.push(packet),
                Output::Failed(packet) => drained.failed.push(packet),
                Output::Heard { address, .. } => drained.watched.push((address, true)),
                Output::Silent { address, .. } => drained.watched.push((address, false)),
                Output::Event(event) => drained.events.push(event),
            }
        }
        drained
    }

    fn input(&mut self, mac: Mac, packet: &[u8]) -> Handled {
        self.machine.handle_input(self.now, WAN, mac, packet)
    }

    /// A valid message from the peer's MAC address, and what it caused.
    fn receive(&mut self, packet: &[u8]) -> Drained {
        assert_eq!(self.input(PEER_MAC, packet), Handled::Consumed);
        self.drain()
    }

    fn resolve(&mut self, target: &str, packet: u32) -> Result<(), Refused<u32>> {
        self.machine.resolve(self.now, WAN, any(target), packet)
    }

    /// Resolve a neighbour with a solicited advertisement.
    fn make_reachable(&mut self, target: &str, mac: Mac) {
        self.resolve(target, 0).unwrap();
        self.input(
            mac,
            &advertisement(target, LINK_LOCAL, "SO", &target_mac(mac)),
        );
        let drained = self.drain();
        assert_eq!(drained.ready, [0]);
        assert_eq!(self.state(target), Some(NeighborState::Reachable));
    }

    fn state(&self, address: &str) -> Option<NeighborState> {
        let address = any(address);
        let mut neighbors = self.machine.neighbors();
        neighbors.find(|n| n.address == address).map(|n| n.state)
    }

    fn mac(&self, address: &str) -> Option<Mac> {
        self.machine.usable(WAN, any(address))
    }

    fn count(&self, counter: Counter) -> u64 {
        self.machine.counters().count(counter)
    }
}
