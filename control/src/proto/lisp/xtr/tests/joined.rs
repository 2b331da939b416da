//! Two sites and a Map-Server, joined by a network that loses, doubles and reorders.

use std::collections::HashMap;

use super::*;
use crate::proto::lisp::wire::Notify;
use crate::proto::lisp::wire::auth::{self, Acceptance};

const SITES: [(&str, &str); 2] = [
    ("2001:db8:ffff::2", "2001:db8:a::/48"),
    ("2001:db8:ffff::3", "2001:db8:b::/48"),
];

/// The least that is a Map-Server and Map-Resolver: it keeps registrations, confirms them, and passes questions on.
#[derive(Default)]
struct Server {
    registered: HashMap<EidKey, IpAddr>,
    nonces: HashMap<IpAddr, u64>,
}

impl Server {
    fn handle(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<(IpAddr, Vec<u8>)> {
        match parse(bytes) {
            Ok(Message::Register(register)) => {
                let secret = Secret::new(b"a secret");
                let strict = Acceptance { strict: true };
                auth::verify(bytes, &register.body, &secret, strict).expect("ours are authentic");
                let last = self.nonces.entry(from.ip()).or_default();
                if register.body.nonce <= *last {
                    return None;
                }
                *last = register.body.nonce;
                for record in &register.body.records {
                    self.registered.insert(record.key, from.ip());
                }
                let mut bytes = emit(&Message::Notify(Notify {
                    body: register.body,
                }));
                auth::seal(&mut bytes, &secret).unwrap();
                Some((from.ip(), bytes))
            }
            Ok(Message::Encapsulated(question)) => {
                let asked = question.request.asked[0].key;
                let mut known = self.registered.iter();
                match known.find(|(key, _)| key.eid.contains(&asked.eid)) {
                    Some((_, etr)) => Some((*etr, Encapsulated::emit_forwarded(bytes))),
                    None => {
                        let record = Record::negative(asked, Act::from(Action::Native), 1);
                        let answer = reply(question.request.nonce, vec![record]);
                        Some((question.request.itr_rlocs[0], emit(&answer)))
                    }
                }
            }
            other => panic!("{other:?} to a Map-Server"),
        }
    }
}

struct World {
    sites: Vec<Bench>,
    caches: Vec<HashMap<EidKey, Mapping>>,
    server: Server,
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
            server: Server::default(),
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
                    if let Some((to, bytes)) = self.server.handle(from, &bytes) {
                        self.transmit(control(RESOLVER), to, &bytes);
                    }
                } else if let Some(number) = SITES.iter().position(|(rloc, _)| ip(rloc) == to) {
                    self.sites[number]
                        .xtr
                        .handle_input(self.now, from, to, &bytes);
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
                        Output::KeepNonce(_) | Output::Event(_) => {}
                    }
                }
                assert_eq!(self.sites[number].xtr.learned(), self.caches[number].len());
            }
        }
    }

    fn knows(&self, site: usize, other: usize) -> bool {
        let (rloc, prefix) = SITES[other];
        let mapping = self.caches[site].get(&key(prefix));
        mapping.is_some_and(|mapping| mapping.locators()[0].rloc == ip(rloc))
    }
}

#[test]
fn each_site_finds_the_other_whatever_is_lost() {
    for seed in 0..20 {
        let mut world = World::new(seed, 0.4);
        for _ in 0..180 {
            for (site, destination) in ["2001:db8:b::7", "2001:db8:a::7"].into_iter().enumerate() {
                if !world.knows(site, 1 - site) {
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
    assert_eq!(
        world.caches[0][&key("2001:db8:dead::7/128")],
        Mapping::Negative(Action::Native)
    );
    // The negative one ends after its minute.
    world.run(61_000);
    assert_eq!(world.caches[0].len(), 1);
}
