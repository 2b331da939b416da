//! Two sites and a Map-Server, joined by a network that loses, doubles and reorders.

use std::collections::HashMap;

use super::*;
use crate::proto::lisp::mapserver::{self, Allowed, Machine, Site};

const SITES: [(&str, &str); 2] = [
    ("2001:db8:ffff::2", "2001:db8:a::/48"),
    ("2001:db8:ffff::3", "2001:db8:b::/48"),
];

fn map_server(now: Instant) -> Machine {
    let sites = SITES
        .iter()
        .zip(["a", "b"])
        .map(|((_, prefix), name)| Site {
            keys: vec![(1, Secret::new(b"a secret"))],
            prefixes: vec![Allowed {
                key: key(prefix),
                more_specifics: true,
            }],
            ..Site::new(name)
        });
    let settings = mapserver::Settings {
        sites: sites.collect(),
        ..mapserver::Settings::default()
    };
    Machine::new(now, settings, fastrand::Rng::with_seed(1))
}

struct World {
    sites: Vec<Bench>,
    caches: Vec<HashMap<EidKey, Mapping>>,
    server: Machine,
    /// By the moment they arrive.
    wire: Vec<(Instant, SocketAddr, IpAddr, Vec<u8>)>,
    rng: fastrand::Rng,
    now: Instant,
    loss: f64,
}

impl World {
    fn new(seed: u64, loss: f64) -> Self {
        let sites = SITES.into_iter().zip(1..).map(|((rloc, prefix), seed)| {
            let mut bench = Bench::new(Settings {
                eids: vec![key(prefix)],
                rlocs: vec![Locator::new(ip(rloc))],
                map_servers: vec![server(RESOLVER)],
                ..settings()
            });
            bench.xtr.context.nonces = Nonces::new(&[seed; 32]);
            bench
        });
        let sites: Vec<Bench> = sites.collect();
        let now = sites.iter().map(|site| site.now).max().unwrap();
        Self {
            caches: vec![HashMap::new(); sites.len()],
            sites,
            server: map_server(now),
            wire: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            now,
            loss,
        }
    }

    fn transmit(&mut self, from: SocketAddr, to: IpAddr, bytes: &[u8]) {
        let copies = if self.rng.f64() < 0.1 { 2 } else { 1 };
        for _ in 0..copies {
            if self.rng.f64() >= self.loss {
                let delay = Duration::from_millis(self.rng.u64(1..200));
                self.wire.push((self.now + delay, from, to, bytes.to_vec()));
            }
        }
    }

    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 20 {
            self.now += Duration::from_millis(20);
            let (arrived, waiting) = std::mem::take(&mut self.wire)
                .into_iter()
                .partition(|(at, ..)| *at <= self.now);
            self.wire = waiting;
            let arrived: Vec<(Instant, SocketAddr, IpAddr, Vec<u8>)> = arrived;
            for (_, from, to, bytes) in arrived {
                if to == ip(RESOLVER) {
                    self.server
                        .handle_input(self.now, from, control(RESOLVER), &bytes);
                } else if let Some(number) = SITES.iter().position(|(rloc, _)| ip(rloc) == to) {
                    self.sites[number]
                        .xtr
                        .handle_input(self.now, from, to, &bytes);
                }
            }
            self.server.handle_timeout(self.now);
            while let Some(output) = self.server.poll_output() {
                if let mapserver::Output::Send { to, bytes, .. } = output {
                    self.transmit(control(RESOLVER), to.ip(), &bytes);
                }
            }
            for number in 0..self.sites.len() {
                self.sites[number].xtr.handle_timeout(self.now);
                while let Some(output) = self.sites[number].xtr.poll_output() {
                    match output {
                        Output::Send(datagram) => {
                            let to = datagram.destination.ip();
                            self.transmit(datagram.source, to, &datagram.payload);
                        }
                        Output::Learned { key, mapping, .. } => {
                            self.caches[number].insert(key, mapping);
                        }
                        Output::Forgotten(key) => {
                            self.caches[number].remove(&key).expect("it was known");
                        }
                        Output::Liveness { .. } | Output::KeepNonce(_) | Output::Event(_) => {}
                    }
                }
                assert_eq!(self.sites[number].xtr.learned(), self.caches[number].len());
            }
        }
    }

    fn knows(&self, site: usize, other: usize) -> bool {
        let (rloc, prefix) = SITES[other];
        let mapping = self.caches[site].get(&key(prefix));
        mapping.is_some_and(|mapping| {
            mapping
                .locators()
                .iter()
                .any(|locator| locator.rloc == ip(rloc))
        })
    }
}

#[test]
fn each_site_finds_the_other_whatever_is_lost() {
    for seed in 0..20 {
        let mut world = World::new(seed, 0.4);
        for second in 0..400 {
            // The end is quiet.
            if second == 270 {
                world.loss = 0.0;
            }
            for (site, destination) in ["2001:db8:b::7", "2001:db8:a::7"].into_iter().enumerate() {
                // Also a negative answer is one, until its minute is over.
                if !world.caches[site].contains_key(&key(SITES[1 - site].1)) {
                    let now = world.now;
                    world.sites[site].xtr.miss(now, eid(destination), None);
                }
            }
            world.run(1000);
        }
        assert!(world.knows(0, 1) && world.knows(1, 0), "seed {seed}");
        for site in &world.sites {
            assert!(
                site.xtr
                    .servers(world.now)
                    .all(|server| server.is_registered),
                "seed {seed}"
            );
            assert_eq!(site.count("auth_mac") + site.count("reply_other_prefix"), 0);
        }
    }
}

#[test]
fn a_network_that_loses_nothing_needs_one_question() {
    let mut world = World::new(1, 0.0);
    world.run(1000);
    let now = world.now;
    world.sites[0]
        .xtr
        .miss(now, eid("2001:db8:b::7"), Some(ip("2001:db8:a::1")));
    world.sites[0]
        .xtr
        .miss(now, eid("2001:db8:dead::7"), Some(ip("2001:db8:a::1")));
    world.run(1000);
    assert!(world.knows(0, 1));
    assert_eq!(world.sites[0].count("sent_map_request"), 2);
    let hole = key("2001:db8:8000::/33");
    assert_eq!(world.caches[0][&hole], Mapping::Negative(Action::Native));
    // The negative one ends after its quarter of an hour.
    world.run(900_000);
    assert_eq!(world.caches[0].len(), 1);
}
