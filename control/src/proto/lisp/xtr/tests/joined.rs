//! Three sites and a Map-Server, joined by a network that loses, doubles and reorders; and a host that moves between them.

use std::collections::HashMap;

use super::*;
use crate::proto::lisp::mapserver::{self, Allowed, Machine, Site};

const SITES: [(&str, &str); 3] = [
    ("2001:db8:ffff::2", "2001:db8:a::/48"),
    ("2001:db8:ffff::3", "2001:db8:b::/48"),
    ("2001:db8:ffff::4", "2001:db8:c::/48"),
];
/// Hosts of a prefix of the first site may be at any.
const DYNAMIC: &str = "2001:db8:a:1::/64";
const HOST: &str = "2001:db8:a:1::7";

fn map_server(now: Instant) -> Machine {
    let sites = SITES
        .iter()
        .zip(["a", "b", "c"])
        .map(|((_, prefix), name)| Site {
            keys: vec![(1, Secret::new(name.as_bytes()))],
            prefixes: [*prefix, DYNAMIC]
                .map(|prefix| Allowed::new(key(prefix), true))
                .to_vec(),
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
    /// Sites at which the host is.
    here: Vec<bool>,
    server: Machine,
    /// By the moment they arrive.
    wire: Vec<(Instant, SocketAddr, IpAddr, Vec<u8>)>,
    rng: fastrand::Rng,
    now: Instant,
    loss: f64,
}

impl World {
    fn new(seed: u64, loss: f64) -> Self {
        Self::of(seed, loss, false)
    }

    /// `proxy_reply`: the Map-Server answers for the sites.
    fn of(seed: u64, loss: f64, proxy_reply: bool) -> Self {
        let names = [b"a", b"b", b"c"];
        let sites = SITES.into_iter().zip(names).zip(1..);
        let sites = sites.map(|(((rloc, prefix), name), seed)| {
            let mut bench = Bench::new(Settings {
                eids: vec![key(prefix)],
                dynamic_eids: vec![key(DYNAMIC)],
                rlocs: vec![Locator::new(ip(rloc))],
                map_servers: vec![MapServer {
                    key: Secret::new(name),
                    proxy_reply,
                    ..server(RESOLVER)
                }],
                ..settings()
            });
            bench.xtr.context.nonces = Nonces::new(&[seed; 32]);
            bench
        });
        let sites: Vec<Bench> = sites.collect();
        let now = sites.iter().map(|site| site.now).max().unwrap();
        Self {
            caches: vec![HashMap::new(); sites.len()],
            here: vec![false; sites.len()],
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
                        Output::HostHere { .. } => self.here[number] = true,
                        Output::HostGone(_) => {
                            let was = std::mem::replace(&mut self.here[number], false);
                            assert!(was, "it was there");
                        }
                        Output::AskHost { .. }
                        | Output::Liveness { .. }
                        | Output::KeepNonce(_)
                        | Output::Event(_) => {}
                    }
                }
                assert_eq!(self.sites[number].xtr.learned(), self.caches[number].len());
            }
        }
    }

    /// The host is at this site, and speaks.
    fn hear(&mut self, site: usize) {
        let now = self.now;
        self.sites[site]
            .xtr
            .host_heard(now, eid(HOST), InterfaceIndex(1));
    }

    /// The site to which one sends packets for the host: by the longest prefix it knows.
    fn next(&self, site: usize) -> Option<usize> {
        let cache = self.caches[site].iter();
        let around = cache.filter(|(prefix, _)| prefix.eid.contains(&ip(HOST)));
        let (_, mapping) = around.max_by_key(|(prefix, _)| prefix.eid.prefix_len())?;
        let rloc = mapping.locators().first()?.rloc;
        SITES.iter().position(|(known, _)| ip(known) == rloc)
    }

    /// The sites a packet for the host passes, the first one excluded, until it is delivered or nobody knows more.
    fn way(&self, from: usize) -> Vec<usize> {
        let mut way = Vec::new();
        let mut at = from;
        while !self.here[at]
            && way.len() < 6
            && let Some(next) = self.next(at)
        {
            way.push(next);
            at = next;
        }
        way
    }

    /// A packet for the host leaves this site, if there is a way, and is answered; else it is asked for.
    fn send(&mut self, site: usize) {
        let now = self.now;
        if self.here[site] {
            return;
        }
        if let Some(at) = self.here.iter().position(|here| *here) {
            let (rloc, prefix) = SITES[site];
            self.sites[at].now = now;
            self.sites[at].note_used(prefix, rloc);
        }
        match self.next(site) {
            Some(other) => {
                let rloc = SITES[other].0;
                self.sites[site].now = now;
                self.sites[site].note_used(&format!("{HOST}/128"), rloc);
            }
            None => self.sites[site].xtr.miss(now, eid(HOST), None),
        }
    }

    /// Where the host is by what its home answers for all of its prefix.
    fn told_at_home(&mut self) -> usize {
        let (now, asker) = (self.now, SITES[1].0);
        let request = Request::new(9, vec![ip(asker)], key(SITES[0].1));
        let bytes = emit(&Message::Request(request));
        self.sites[0]
            .xtr
            .handle_input(now, control(asker), ip(SITES[0].0), &bytes);
        let mut outputs = std::iter::from_fn(|| self.sites[0].xtr.poll_output());
        let records = outputs.find_map(|output| match output {
            Output::Send(datagram) => match parse(&datagram.payload) {
                Ok(Message::Reply(reply)) => Some(reply.records),
                _ => None,
            },
            _ => None,
        });
        let records = records.expect("an answer").into_iter();
        let around = records.filter(|record| record.key.eid.contains(&ip(HOST)));
        let best = around.max_by_key(|record| record.key.eid.prefix_len());
        let rloc = best.expect("of the host").locators[0].rloc;
        let mut sites = SITES.iter();
        sites
            .position(|(known, _)| ip(known) == rloc)
            .expect("a site")
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

/// Wherever a host goes, its packets come after it: at once by way of where it was, and directly in the end.
#[test]
fn packets_follow_a_host_that_moves_whatever_is_lost() {
    for seed in 0..24 {
        let mut world = World::of(seed, 0.3, seed % 2 == 0);
        let mut at = 0;
        for second in 0..500 {
            // The end is quiet.
            if second == 350 {
                world.loss = 0.0;
            }
            if second < 350 && world.rng.u32(0..30) == 0 {
                let before = at;
                at = world.rng.usize(0..SITES.len());
                if before != at && world.rng.bool() {
                    // Sometimes that it left is noticed first.
                    let now = world.now;
                    world.sites[before]
                        .xtr
                        .host_silent(now, eid(HOST), InterfaceIndex(1));
                }
            }
            if world.rng.u32(0..4) > 0 {
                world.hear(at);
            }
            for site in 0..SITES.len() {
                world.send(site);
            }
            world.run(1000);
        }
        let only: Vec<usize> = (0..SITES.len()).filter(|site| world.here[*site]).collect();
        assert_eq!(only, [at], "seed {seed}");
        for site in 0..SITES.len() {
            let way = world.way(site);
            let last = way.last().copied().unwrap_or(site);
            assert_eq!(last, at, "seed {seed}: from {site} by {way:?}");
            let counters = world.sites[site].xtr.counters();
            assert_eq!(counters.of("auth_mac"), 0);
        }
        assert_eq!(world.told_at_home(), at, "seed {seed}");
    }
}

/// Without losses: a move is known everywhere within two round trips to the Map-Server and one solicitation.
#[test]
fn a_move_is_known_everywhere_at_once() {
    for proxy_reply in [false, true] {
        let mut world = World::of(3, 0.0, proxy_reply);
        world.run(2000);
        for at in [0, 1, 2, 1, 0] {
            world.hear(at);
            world.run(1000);
            for _ in 0..4 {
                for site in 0..SITES.len() {
                    world.send(site);
                }
                world.run(1000);
            }
            for site in (0..SITES.len()).filter(|site| *site != at) {
                assert_eq!(world.way(site), [at], "{proxy_reply}, from {site}");
            }
            let here: Vec<usize> = (0..SITES.len()).filter(|site| world.here[*site]).collect();
            assert_eq!(here, [at]);
            let away = world.sites[0].xtr.away().len();
            assert_eq!(away, usize::from(at != 0), "its prefix is the first site's");
        }
    }
}

/// A host that is nowhere any more is nobody's; at home its prefix stands for it again.
#[test]
fn a_host_that_is_gone_is_nowhere() {
    for proxy_reply in [false, true] {
        let mut world = World::of(5, 0.0, proxy_reply);
        world.run(2000);
        world.hear(0);
        world.run(3000);
        world.hear(1);
        world.run(3000);
        assert_eq!(world.way(0), [1]);
        let now = world.now;
        world.sites[1]
            .xtr
            .host_silent(now, eid(HOST), InterfaceIndex(1));
        // What the first site registered once has run out then too.
        world.run(400_000);
        assert!(world.here.iter().all(|here| !here));
        assert_eq!(world.sites[0].xtr.away().len(), 0, "proxy {proxy_reply}");
        assert_eq!(world.way(0), [0; 0]);
    }
}
