//! Random calls and random bytes: whatever happens, no packet is lost or doubled, nothing grows beyond its limit, the
//! tables are told of every change before the packets that need it, and nothing panics.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::testing::fault;

use super::*;

const LAN: InterfaceIndex = InterfaceIndex(4);

fn small() -> Settings {
    Settings {
        dad_transmits: 1,
        start_delay: 300 * MS,
        proxy_delay: 200 * MS,
        max_neighbors: 6,
        max_incomplete: 4,
        queue_packets: 2,
        max_queued_packets: 7,
        resolutions_per_second: 20,
        resolutions_burst: 10,
        reachable_time: 3 * SECOND,
        stale_time: 4 * SECOND,
        ..Settings::default()
    }
}

/// The machine beside what its user knows: packets that are out, and the tables as last published.
struct Model {
    machine: Machine<u32>,
    now: Instant,
    rng: fastrand::Rng,
    waiting: BTreeMap<u32, (InterfaceIndex, IpAddr)>,
    made: u32,
    ends: u32,
    tables: BTreeMap<(InterfaceIndex, IpAddr), Mac>,
    /// Everything transmitted, to be heard again, whole or damaged.
    heard: Vec<Vec<u8>>,
    /// The same of ARP.
    heard_arp: Vec<Vec<u8>>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            machine: Machine::new(small(), rng.fork()),
            now: Instant::now(),
            rng,
            waiting: BTreeMap::new(),
            made: 0,
            ends: 0,
            tables: BTreeMap::new(),
            heard: Vec::new(),
            heard_arp: Vec::new(),
        }
    }

    fn published(&self) -> BTreeMap<(InterfaceIndex, IpAddr), Mac> {
        let neighbors = self.machine.neighbors();
        neighbors
            .filter_map(|n| n.mac.map(|mac| ((n.interface, n.address), mac)))
            .collect()
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Transmit {
                    packet,
                    interface,
                    destination_mac,
                    ether_type: ETHERTYPE_ARP,
                } => {
                    ArpSent::new(interface, destination_mac, &packet);
                    self.hear_arp(packet);
                }
                Output::Transmit {
                    packet,
                    interface,
                    destination_mac,
                    ..
                } => {
                    Sent::new(interface, destination_mac, packet.clone());
                    if self.heard.len() < 200 {
                        self.heard.push(packet);
                    } else {
                        let at = self.rng.usize(0..200);
                        self.heard[at] = packet;
                    }
                }
                Output::NeighborsChanged => self.tables = self.published(),
                Output::Ready(packet) => {
                    let (interface, target) = self.end(packet);
                    let known = self.tables.contains_key(&(interface, target));
                    assert!(known, "{packet} for {target} goes before its table");
                }
                Output::Failed(packet) => {
                    self.end(packet);
                }
                Output::Heard { .. } | Output::Silent { .. } | Output::Event(_) => {}
            }
        }
        assert_eq!(self.tables, self.published(), "a change was not told");
        assert!(self.waiting.len() == self.machine.queued_packets());
        self.machine.assert_consistent();
    }

    fn end(&mut self, packet: u32) -> (InterfaceIndex, IpAddr) {
        self.ends += 1;
        let waited = self.waiting.remove(&packet);
        waited.unwrap_or_else(|| panic!("packet {packet} came out twice or from nowhere"))
    }

    fn interface(&mut self) -> InterfaceIndex {
        [WAN, LAN, InterfaceIndex(5)][self.rng.usize(0..3)]
    }

    fn mac(&mut self) -> Mac {
        [
            MAC,
            PEER_MAC,
            OTHER_MAC,
            Mac::from_octets([2, 0, 0, 0, 2, 2]),
        ][self.rng.usize(0..4)]
    }

    fn address(&mut self) -> Ipv6Addr {
        let fixed = [
            GLOBAL,
            LINK_LOCAL,
            PEER,
            GATEWAY,
            "2001:db8:b::1",
            "2001:db8:1:2::3",
            "ff02::1",
            "::",
        ];
        match self.rng.u32(0..3) {
            0 => ip(fixed[self.rng.usize(0..fixed.len())]),
            1 => ip(&format!("fe80::2:{:x}", self.rng.u32(0..10))),
            _ => ip(&format!("2001:db8:a::2:{:x}", self.rng.u32(0..20))),
        }
    }

    fn address_v4(&mut self) -> Ipv4Addr {
        let fixed = [
            "192.0.2.1",
            "192.0.2.99",
            "192.0.2.255",
            "198.51.100.1",
            "0.0.0.0",
            "224.0.0.1",
        ];
        match self.rng.u32(0..3) {
            0 => fixed[self.rng.usize(0..fixed.len())].parse().unwrap(),
            _ => Ipv4Addr::new(192, 0, 2, self.rng.u8(0..20)),
        }
    }

    /// Of either family.
    fn neighbor(&mut self) -> IpAddr {
        if self.rng.bool() {
            self.address_v4().into()
        } else {
            self.address().into()
        }
    }

    fn hear_arp(&mut self, message: Vec<u8>) {
        if self.heard_arp.len() < 50 {
            self.heard_arp.push(message);
        } else {
            let at = self.rng.usize(0..50);
            self.heard_arp[at] = message;
        }
    }

    fn arp_message(&mut self) -> Vec<u8> {
        if self.rng.u32(0..4) == 0 && !self.heard_arp.is_empty() {
            return self.heard_arp[self.rng.usize(0..self.heard_arp.len())].clone();
        }
        let operation = self.rng.u8(1..=2);
        let sender = (self.mac(), self.address_v4());
        let target = (self.mac(), self.address_v4());
        arp_message(operation, sender, target)
    }

    fn random_config(&mut self) -> InterfaceConfig {
        let mut made = config();
        made.mac = if self.rng.u32(0..8) == 0 {
            self.mac()
        } else {
            MAC
        };
        if self.rng.bool() {
            made.addresses.push("2001:db8:b::1/64".parse().unwrap());
        }
        if self.rng.u32(0..4) == 0 {
            made.addresses.remove(0);
        }
        if self.rng.u32(0..4) > 0 {
            made.addresses.push("192.0.2.1/24".parse().unwrap());
        }
        if self.rng.bool() {
            made.addresses.push("198.51.100.1/31".parse().unwrap());
        }
        if self.rng.bool() {
            made.proxied.push("2001:db8:1::/48".parse().unwrap());
        }
        for _ in 0..self.rng.u32(0..3) {
            let neighbor = (self.neighbor(), self.mac());
            made.statics.push(neighbor);
        }
        made
    }

    fn message(&mut self) -> Vec<u8> {
        let (source, target) = (self.address(), self.address());
        let mac = self.mac();
        let option = |kind| option(kind, mac);
        match self.rng.u32(0..6) {
            0 if !self.heard.is_empty() => self.heard[self.rng.usize(0..self.heard.len())].clone(),
            1 | 2 => {
                let with = if self.rng.bool() {
                    option(1)
                } else {
                    Vec::new()
                };
                let message = solicitation_message(target, &with);
                icmpv6(source, solicited_node(target), &message).build_ipv6()
            }
            3 => {
                let message = solicitation_message(target, &nonce([self.rng.u8(..); 6]));
                icmpv6(ip("::"), solicited_node(target), &message).build_ipv6()
            }
            _ => {
                let flags = ["", "R", "S", "O", "SO", "RO", "RSO"][self.rng.usize(0..7)];
                let with = if self.rng.u32(0..4) > 0 {
                    option(2)
                } else {
                    Vec::new()
                };
                let message = advertisement_message(target, flags, &with);
                let destination = if flags.contains('S') {
                    LINK_LOCAL
                } else {
                    ALL_NODES
                };
                icmpv6(source, ip(destination), &message).build_ipv6()
            }
        }
    }

    fn act(&mut self) {
        let (now, interface) = (self.now, self.interface());
        match self.rng.u32(0..100) {
            0 => {
                let config = if self.rng.bool() {
                    Some(self.random_config())
                } else {
                    None
                };
                self.machine.set_interface(now, interface, config);
            }
            1..3 => {
                let up = self.rng.u32(0..3) > 0;
                self.machine.set_link(now, interface, up);
            }
            3..5 => {
                let count = self.rng.u32(0..4);
                let gateways = (0..count).map(|_| self.neighbor()).collect();
                self.machine.set_gateways(now, interface, gateways);
            }
            5 => {
                let mut settings = small();
                settings.retrans_timer = Duration::from_millis(self.rng.u64(0..2000));
                settings.dad_transmits = self.rng.u8(0..3);
                self.machine.set_settings(settings);
            }
            6..30 => {
                let target = self.neighbor();
                let packet = self.made;
                self.made += 1;
                self.waiting.insert(packet, (interface, target));
                if let Err(refused) = self.machine.resolve(now, interface, target, packet) {
                    let (_, refused_target) = self.end(refused.packet);
                    assert_eq!(refused_target, target, "another neighbour's packet");
                }
            }
            30..35 => {
                let address = self.neighbor();
                self.machine.confirm_in_use(now, interface, address);
            }
            35..50 => {
                let (mac, message) = (self.mac(), self.arp_message());
                self.machine.handle_arp(now, interface, mac, &message);
            }
            50..70 => {
                let (mac, packet) = (self.mac(), self.message());
                self.machine.handle_input(now, interface, mac, &packet);
            }
            _ => {
                self.now += Duration::from_millis(self.rng.u64(0..800));
                let late = self.rng.u32(0..4) > 0;
                if late {
                    self.machine.handle_timeout(self.now);
                }
            }
        }
        self.drain();
    }
}

#[test]
fn no_sequence_of_calls_loses_a_packet_or_breaks_a_bound() {
    for seed in 0..60 {
        let mut model = Model::new(seed);
        for interface in [WAN, LAN] {
            let config = model.random_config();
            model
                .machine
                .set_interface(model.now, interface, Some(config));
        }
        for _ in 0..3000 {
            model.act();
        }
        // Left alone, everything comes to its end.
        for interface in [WAN, LAN, InterfaceIndex(5)] {
            model.machine.set_gateways(model.now, interface, Vec::new());
        }
        for _ in 0..2000 {
            model.now += SECOND;
            model.machine.handle_timeout(model.now);
            model.drain();
        }
        assert!(model.waiting.is_empty());
        assert_eq!(model.ends, model.made, "every packet once");
        assert!(model.made > 300);
        let dynamic = model.machine.neighbors().filter(|n| n.since.is_some());
        assert_eq!(dynamic.count(), 0, "nobody answers, nobody stays");
        assert_eq!(model.machine.timers_len(), 0);
    }
}

/// Give a damaged packet the payload length and checksum that it needs to be read at all.
fn repair(packet: &mut [u8]) {
    let Some(payload_len) = packet.len().checked_sub(40) else {
        return;
    };
    packet[0] = 0x60 | (packet[0] & 0xf);
    packet[4..6].copy_from_slice(&u16::try_from(payload_len).unwrap().to_be_bytes());
    let start = match packet[6] {
        58 => 40,
        0 if packet.len() >= 48 && packet[40] == 58 && packet[41] == 0 => 48,
        _ => return,
    };
    let (header, message) = packet.split_at_mut(start);
    let source = header[8..24].try_into().unwrap();
    let destination = header[24..40].try_into().unwrap();
    let _ = dataplane::wire::icmpv6::set_checksum(&source, &destination, message);
}

/// 10^5 damaged messages, most with a right checksum: no panic, and the bounds hold.
#[test]
fn damaged_messages_break_nothing() {
    let mut model = Model::new(1);
    let mut damage = fault::Rng::new(1);
    for interface in [WAN, LAN] {
        let mut config = config();
        config.proxied.push("2001:db8:1::/48".parse().unwrap());
        model
            .machine
            .set_interface(model.now, interface, Some(config));
    }
    let query = [&[130, 0, 0, 0, 3, 232, 0, 0][..], &[0; 20]].concat();
    let query = icmpv6(ip(GATEWAY), ip(ALL_NODES), &query)
        .hop_limit(1)
        .options(proto::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
        .build_ipv6();
    let (mut consumed, mut consumed_arp, mut reasons) = (0, 0, BTreeSet::new());
    for round in 0..100_000 {
        let mut packet = match model.rng.u32(0..10) {
            0 => query.clone(),
            _ => model.message(),
        };
        fault::mutate(&mut damage, &mut packet);
        if model.rng.u32(0..8) > 0 {
            repair(&mut packet);
        }
        let (interface, mac) = (model.interface(), model.mac());
        match model
            .machine
            .handle_input(model.now, interface, mac, &packet)
        {
            Handled::Consumed => consumed += 1,
            Handled::Invalid(reason) => {
                reasons.insert(reason);
            }
        }
        let mut message = model.arp_message();
        fault::mutate(&mut damage, &mut message);
        match model
            .machine
            .handle_arp(model.now, interface, mac, &message)
        {
            Handled::Consumed => consumed_arp += 1,
            Handled::Invalid(reason) => {
                reasons.insert(reason);
            }
        }
        if round % 16 == 0 {
            model.now += Duration::from_millis(model.rng.u64(0..100));
            model.machine.handle_timeout(model.now);
            model.drain();
        }
    }
    // The test reaches what it is meant to reach.
    assert!(consumed > 5_000, "{consumed}");
    assert!(consumed_arp > 5_000, "{consumed_arp}");
    assert!(reasons.len() >= 20, "{} {reasons:?}", reasons.len());
}
