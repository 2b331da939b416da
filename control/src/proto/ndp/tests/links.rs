//! Machines joined by a link that loses, delays and reorders, under one fake clock.

use std::collections::BTreeMap;

use super::super::AddressState;
use super::*;

const NODES: usize = 2;

fn node_mac(node: usize) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 1, u8::try_from(node).unwrap()])
}

fn node_link_local(node: usize) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(ip("fe80::10")) + node as u128)
}

fn node_global(node: usize) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(ip("2001:db8:a::10")) + node as u128)
}

fn node_config(node: usize) -> InterfaceConfig {
    InterfaceConfig {
        mac: node_mac(node),
        link_local: node_link_local(node),
        addresses: vec![ipnet::IpNet::new_assert(node_global(node).into(), 64)],
        on_link: Vec::new(),
        proxied: Vec::new(),
        watched: Vec::new(),
        statics: Vec::new(),
    }
}

/// What happens to a frame on its way.
#[derive(Clone, Copy)]
struct Link {
    /// Of 100.
    loss: u32,
    /// Of 100: delivered twice.
    duplication: u32,
    /// Uniform up to this, so frames overtake each other.
    delay: Duration,
    /// Frames come back to their sender as well.
    loops: bool,
}

const GOOD: Link = Link {
    loss: 0,
    duplication: 0,
    delay: MS,
    loops: false,
};
const BAD: Link = Link {
    loss: 30,
    duplication: 10,
    delay: Duration::from_millis(1500),
    loops: false,
};

/// A frame on its way from one node to another.
struct Flight {
    from: usize,
    to: usize,
    to_mac: Mac,
    packet: Vec<u8>,
}

struct World {
    nodes: Vec<Machine<u32>>,
    now: Instant,
    link: Link,
    rng: fastrand::Rng,
    /// By time of arrival and a number that makes it unique.
    flying: BTreeMap<(Instant, u64), Flight>,
    frames: u64,
    ready: Vec<Vec<u32>>,
    failed: Vec<Vec<u32>>,
    events: Vec<(usize, Event)>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64, link: Link, settings: &Settings) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let nodes = (0..NODES)
            .map(|_| Machine::new(settings.clone(), rng.fork()))
            .collect();
        Self {
            nodes,
            now: Instant::now(),
            link,
            rng,
            flying: BTreeMap::new(),
            frames: 0,
            ready: vec![Vec::new(); NODES],
            failed: vec![Vec::new(); NODES],
            events: Vec::new(),
            log: Vec::new(),
        }
    }

    fn send(&mut self, from: usize, to_mac: Mac, packet: &[u8]) {
        for to in 0..NODES {
            if (to == from && !self.link.loops) || self.rng.u32(0..100) < self.link.loss {
                continue;
            }
            let copies = if self.rng.u32(0..100) < self.link.duplication {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let at = self.now + self.link.delay.mul_f64(self.rng.f64());
                self.frames += 1;
                let packet = packet.to_vec();
                let flight = Flight {
                    from,
                    to,
                    to_mac,
                    packet,
                };
                self.flying.insert((at, self.frames), flight);
            }
        }
    }

    fn collect(&mut self) {
        for node in 0..NODES {
            while let Some(output) = self.nodes[node].poll_output() {
                match output {
                    Output::Transmit {
                        destination_mac,
                        packet,
                        ..
                    } => {
                        self.log
                            .push(format!("{node} {destination_mac} {packet:?}"));
                        self.send(node, destination_mac, &packet);
                    }
                    Output::NeighborsChanged | Output::Heard { .. } | Output::Silent { .. } => {}
                    Output::Ready(packet) => self.ready[node].push(packet),
                    Output::Failed(packet) => self.failed[node].push(packet),
                    Output::Event(event) => self.events.push((node, event)),
                }
            }
            self.nodes[node].assert_consistent();
        }
    }

    /// Run until everything up to this much later has happened.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.collect();
            let deadlines = self.nodes.iter().filter_map(Machine::poll_timeout);
            let arrivals = self.flying.keys().next().map(|(at, _)| *at);
            let next = deadlines.chain(arrivals).min().filter(|at| *at <= end);
            let Some(next) = next else {
                break;
            };
            self.now = self.now.max(next);
            for node in &mut self.nodes {
                node.handle_timeout(self.now);
            }
            while let Some(first) = self.flying.first_entry() {
                if first.key().0 > self.now {
                    break;
                }
                let Flight {
                    from,
                    to,
                    to_mac,
                    packet,
                } = first.remove();
                // A port takes what is for it and what is for groups.
                if to_mac != node_mac(to) && !to_mac.is_multicast() {
                    continue;
                }
                if self.nodes[to].addresses().next().is_none() {
                    continue; // Not started yet.
                }
                // MLD reports go to nobody here: every message of neighbour discovery has to be valid.
                let handled = self.nodes[to].handle_input(self.now, WAN, node_mac(from), &packet);
                let is_report = packet[6] == proto::HOP_BY_HOP;
                assert!(is_report || handled == Handled::Consumed, "{handled:?}");
            }
        }
        self.now = end;
    }

    fn start(&mut self, node: usize) {
        self.nodes[node].set_interface(self.now, WAN, Some(node_config(node)));
    }

    fn state(&self, node: usize, address: Ipv6Addr) -> AddressState {
        self.nodes[node].address_state(WAN, address.into()).unwrap()
    }
}

/// RFC 4861 7.2.2: each finds the other however bad the link is, and every packet gets an end.
#[test]
fn machines_find_each_other_over_a_bad_link() {
    for seed in 0..40 {
        let mut world = World::new(seed, BAD, &Settings::default());
        for node in 0..NODES {
            world.start(node);
        }
        world.run(5 * SECOND);
        let mut sent = vec![Vec::new(); NODES];
        let mut refused = vec![Vec::new(); NODES];
        for round in 0..60 {
            for node in 0..NODES {
                let packet = round * 10 + u32::try_from(node).unwrap();
                sent[node].push(packet);
                let target = node_global(1 - node);
                let now = world.now;
                if let Err(back) = world.nodes[node].resolve(now, WAN, target.into(), packet) {
                    refused[node].push(back.packet);
                }
            }
            world.run(SECOND);
        }
        world.run(10 * SECOND);
        for node in 0..NODES {
            assert!(
                !world.ready[node].is_empty(),
                "seed {seed}: node {node} never got through"
            );
            let ends = [&world.ready[node][..], &world.failed[node], &refused[node]];
            let mut ends = ends.concat();
            ends.sort_unstable();
            assert_eq!(ends, sent[node], "seed {seed}: every packet once");
            let mac = world.nodes[node].usable(WAN, node_global(1 - node).into());
            assert!(mac.is_none() || mac == Some(node_mac(1 - node)));
        }
    }
}

/// Ours: gateways find each other again and again over a bad link, and are there most of the time.
#[test]
fn gateways_stay_resolved_over_a_bad_link() {
    for seed in 0..20 {
        let mut world = World::new(seed, BAD, &Settings::default());
        for node in 0..NODES {
            world.start(node);
            let gateway = node_link_local(1 - node);
            world.nodes[node].set_gateways(world.now, WAN, vec![gateway.into()]);
        }
        world.run(60 * SECOND);
        let mut usable = 0;
        for _ in 0..600 {
            world.run(SECOND);
            for node in 0..NODES {
                if world.nodes[node]
                    .usable(WAN, node_link_local(1 - node).into())
                    .is_some()
                {
                    usable += 1;
                }
            }
        }
        assert!(usable > 1100, "seed {seed}: {usable} of 1200");
    }
    // Over a good link, always.
    let mut world = World::new(1, GOOD, &Settings::default());
    for node in 0..NODES {
        world.start(node);
        let gateway = node_link_local(1 - node);
        world.nodes[node].set_gateways(world.now, WAN, vec![gateway.into()]);
    }
    world.run(2 * SECOND);
    for _ in 0..36_000 {
        world.run(100 * MS);
        for node in 0..NODES {
            assert!(
                world.nodes[node]
                    .usable(WAN, node_link_local(1 - node).into())
                    .is_some()
            );
        }
    }
}

fn both_want_the_same(world: &mut World, later: Duration) -> Ipv6Addr {
    let wanted = ip("2001:db8:a::cafe");
    for node in 0..NODES {
        let mut config = node_config(node);
        config
            .addresses
            .push(ipnet::IpNet::new_assert(wanted.into(), 64));
        world.nodes[node].set_interface(world.now, WAN, Some(config));
        world.run(later);
    }
    world.run(10 * SECOND);
    wanted
}

/// RFC 4862 5.4.3: probing at the same time, neither gets the address.
#[test]
fn two_that_probe_at_once_both_give_up() {
    for seed in 0..50 {
        let mut world = World::new(seed, GOOD, &Settings::default());
        let wanted = both_want_the_same(&mut world, Duration::ZERO);
        for node in 0..NODES {
            assert_eq!(
                world.state(node, wanted),
                AddressState::Duplicate,
                "seed {seed}"
            );
            assert_eq!(
                world.state(node, node_global(node)),
                AddressState::Preferred
            );
        }
    }
}

/// RFC 4862 5.4.4: who comes later gives up, who was first keeps it.
#[test]
fn the_second_one_gives_up() {
    for seed in 0..50 {
        let mut world = World::new(seed, GOOD, &Settings::default());
        let wanted = both_want_the_same(&mut world, 5 * SECOND);
        assert_eq!(world.state(0, wanted), AddressState::Preferred);
        assert_eq!(world.state(1, wanted), AddressState::Duplicate);
        let given_up = Event::AddressDuplicate {
            interface: WAN,
            address: wanted.into(),
            by: node_mac(0),
        };
        assert!(world.events.contains(&(1, given_up)));
    }
}

/// RFC 7527: on a link that gives everybody's frames back, own addresses come up, collisions are still found, and
/// nobody becomes its own neighbour.
#[test]
fn a_looping_link_confuses_nobody() {
    let looping = Link {
        loops: true,
        ..GOOD
    };
    for seed in 0..50 {
        let mut world = World::new(seed, looping, &Settings::default());
        let wanted = both_want_the_same(&mut world, 20 * SECOND);
        for node in 0..NODES {
            assert_eq!(
                world.state(node, node_global(node)),
                AddressState::Preferred
            );
            assert_eq!(
                world.state(node, node_link_local(node)),
                AddressState::Preferred
            );
        }
        assert_eq!(world.state(0, wanted), AddressState::Preferred);
        assert_eq!(world.state(1, wanted), AddressState::Duplicate);
        let now = world.now;
        world.nodes[0]
            .resolve(now, WAN, node_global(1).into(), 1)
            .unwrap();
        world.run(SECOND);
        assert_eq!(world.ready[0], [1]);
        for (node, machine) in world.nodes.iter().enumerate() {
            let mut neighbors = machine.neighbors();
            assert!(neighbors.all(|neighbor| neighbor.mac != Some(node_mac(node))));
        }
    }
}

/// The same seed, the same bytes on the wire; another seed, others.
#[test]
fn machines_are_deterministic() {
    let log = |seed| {
        let mut world = World::new(seed, BAD, &Settings::default());
        for node in 0..NODES {
            world.start(node);
            let gateway = node_link_local(1 - node);
            world.nodes[node].set_gateways(world.now, WAN, vec![gateway.into()]);
        }
        world.run(300 * SECOND);
        world.log
    };
    assert_eq!(log(7), log(7));
    assert_ne!(log(7), log(8));
}
