//! Sites, Map-Servers, and the network between them, in one thread and by a clock of their own.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use control::proto::lisp::mapserver::{self, Allowed, Machine, SavedNonce};
use control::proto::lisp::wire::auth::{Algorithm, Secret};
use control::proto::lisp::wire::{CONTROL_PORT, EidAddress, Identity, Message, parse};
use control::proto::lisp::xtr::{MapServer, Output, Settings, Xtr};
use control::proto::lisp::{EidKey, Locator, Mapping};
use control::proto::ndp::InterfaceIndex;
use ipnet::IpNet;

use super::Plan;
use super::addresses::{
    Owner, is_mobile, mobile, owner, prefix, prefix_v4, providers, rloc, server_address, shared,
};
use super::story::{self, Happening};
use super::tally::{SECOND, Tally};

/// Map-Servers, each of which knows all sites.
pub const SERVERS: usize = 2;
/// Providers; a site has two of them.
pub const PROVIDERS: usize = 8;
/// Sites that share a prefix whose hosts move between them.
pub const GROUP: usize = 4;
/// Where the hosts of a site are.
const LINK: InterfaceIndex = InterfaceIndex(1);
/// How long a sampled answer is waited for: all tries (RFC 9301 5.3), and a little.
const SAMPLE_WAIT: u64 = 15 * SECOND;
/// Between two Map-Requests of one site for one prefix (RFC 9301 5.3).
const REQUEST_GAP: u64 = SECOND;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// The part of all datagrams that is lost.
    pub loss: f64,
    /// The part that comes twice.
    pub doubling: f64,
    /// The shortest and the longest way, milliseconds: what is sent later may come sooner.
    pub latency_ms: (u64, u64),
}

/// What comes to pass at a moment.
#[derive(Debug)]
enum Event {
    /// A datagram arrives.
    Arrival {
        from: SocketAddr,
        to: IpAddr,
        bytes: Box<[u8]>,
    },
    /// A site's machine has something to do.
    Site(usize),
    /// A Map-Server's has.
    Server(usize),
    /// Somebody does something, or something breaks.
    Happens(Happening),
    /// A sample is given up.
    SampleOver(usize, EidKey),
}

struct Timed(u64, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A site: its tunnel router, what that has said, and what is true of it.
pub struct Site {
    pub xtr: Xtr,
    pub secret: Secret,
    /// Mappings in force; the machine knows which, and for how long.
    pub cache: HashMap<EidKey, Mapping>,
    /// Own EID prefixes, and the hosts that are here.
    pub eids: Vec<EidKey>,
    /// Whether each provider's link is up, as the site knows it.
    pub is_up: [bool; 2],
    /// When its EIDs or links were last others.
    pub changed: u64,
    /// Nonces up to this one were kept.
    pub kept: u64,
    last_nonce: u64,
    woken: Option<u64>,
    /// When a prefix was last asked for, while that matters.
    asked: HashMap<EidKey, u64>,
    samples: HashSet<EidKey>,
}

/// A Map-Server; `None` while it is down.
pub struct Server {
    pub machine: Option<Machine>,
    /// What was on its disk a second before it went down.
    pub saved: Vec<SavedNonce>,
    /// When it came up last.
    pub since: u64,
    woken: Option<u64>,
}

/// Everything.
pub struct World {
    start: Instant,
    pub now: u64,
    pub rng: fastrand::Rng,
    pub sites: Vec<Site>,
    pub servers: Vec<Server>,
    /// Whose each host that moves is.
    pub homes: HashMap<EidKey, (usize, u64)>,
    /// Providers that carry nothing.
    pub is_failed: [bool; PROVIDERS],
    pub tally: Tally,
    pub plan: Plan,
    queue: BinaryHeap<Reverse<Timed>>,
    pushed: u64,
}

impl Site {
    /// What it asked before it started anew.
    pub fn forget_asked(&mut self) {
        self.asked.clear();
        self.samples.clear();
    }
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let sites = plan.sites;
        let start = Instant::now();
        let mut world = Self {
            start,
            now: 0,
            sites: Vec::with_capacity(sites),
            servers: Vec::new(),
            homes: HashMap::new(),
            is_failed: [false; PROVIDERS],
            tally: Tally::default(),
            plan,
            queue: BinaryHeap::new(),
            pushed: 0,
            rng: fastrand::Rng::with_seed(plan.seed),
        };
        for site in 0..sites {
            let host = mobile(site / GROUP, site % GROUP);
            world.homes.insert(host, (site, 0));
            let xtr = world.new_xtr(0);
            world.sites.push(Site {
                xtr,
                secret: Secret::new(format!("secret of site {site}").as_bytes()),
                cache: HashMap::new(),
                eids: vec![prefix(site), prefix_v4(site), host],
                is_up: [true; 2],
                changed: 0,
                kept: 0,
                last_nonce: 0,
                woken: None,
                asked: HashMap::new(),
                samples: HashSet::new(),
            });
        }
        for _ in 0..SERVERS {
            let machine = world.new_server();
            world.servers.push(Server {
                machine: Some(machine),
                saved: Vec::new(),
                since: 0,
                woken: None,
            });
        }
        world
    }

    pub fn instant(&self) -> Instant {
        self.start + Duration::from_nanos(self.now)
    }

    /// A tunnel router that begins behind this nonce.
    pub fn new_xtr(&mut self, last_nonce: u64) -> Xtr {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        Xtr::new(self.instant(), &seed, last_nonce)
    }

    /// A Map-Server that knows who may register what, and nothing else.
    pub fn new_server(&mut self) -> Machine {
        let sites = self.sites.iter().zip(0..).map(|(site, number)| {
            let allowed = |key, more_specifics| Allowed::new(key, more_specifics);
            mapserver::Site {
                keys: vec![(1, site.secret.clone())],
                prefixes: vec![
                    allowed(prefix(number), false),
                    allowed(prefix_v4(number), false),
                    allowed(shared(number / GROUP), true),
                ],
                ..mapserver::Site::new(&format!("site-{number}"))
            }
        });
        let settings = mapserver::Settings {
            sites: sites.collect(),
            ..mapserver::Settings::default()
        };
        let rng = self.rng.fork();
        Machine::new(self.instant(), settings, rng)
    }

    /// Tell a site's machine what is true.
    pub fn configure(&mut self, site: usize) {
        let now = self.instant();
        let Site {
            secret,
            eids,
            is_up,
            ..
        } = &self.sites[site];
        let fixed = eids.iter().filter(|eid| !is_mobile(**eid));
        let links = providers(site).into_iter().zip(is_up);
        let rlocs = links.map(|(provider, is_up)| Locator {
            up: *is_up,
            ..Locator::new(rloc(site, provider))
        });
        let map_servers = (0..SERVERS).map(|server| MapServer {
            address: server_address(server),
            key: secret.clone(),
            key_id: 1,
            algorithm: Algorithm::HmacSha256,
            // The others answer themselves.
            merge: false,
            proxy_reply: site.is_multiple_of(2),
        });
        let settings = Settings {
            // Not all ask the same one first.
            map_resolvers: (0..SERVERS)
                .map(|turn| server_address((site + turn) % SERVERS))
                .collect(),
            is_etr: true,
            eids: fixed.copied().collect(),
            dynamic_eids: vec![shared(site / GROUP)],
            rlocs: rlocs.collect(),
            map_servers: map_servers.collect(),
            identity: Some(Identity {
                xtr_id: site as u128 + 1, // `as`: widening
                site_id: 1,
            }),
            ..Settings::default()
        };
        self.sites[site].xtr.set_settings(now, settings);
    }

    /// A host speaks at a site, or is silent there.
    pub fn host(&mut self, site: usize, host: EidKey, is_heard: bool) {
        let now = self.instant();
        let eid = EidAddress {
            instance: host.instance,
            address: host.eid.addr(),
        };
        let xtr = &mut self.sites[site].xtr;
        match is_heard {
            true => xtr.host_heard(now, eid, LINK),
            false => xtr.host_silent(now, eid, LINK),
        }
    }

    /// All hosts of a site speak.
    pub fn hosts_speak(&mut self, site: usize) {
        let eids = self.sites[site].eids.clone();
        for host in eids.into_iter().filter(|eid| is_mobile(*eid)) {
            self.host(site, host, true);
        }
    }

    /// So many nanoseconds from now.
    pub fn after(&mut self, delay: u64, happening: Happening) {
        self.push(self.now + delay, Event::Happens(happening));
    }

    fn push(&mut self, at: u64, event: Event) {
        self.pushed += 1;
        self.queue.push(Reverse(Timed(at, self.pushed, event)));
    }

    /// Until then.
    ///
    /// # Errors
    /// When something does not hold.
    pub fn run(&mut self, until: u64) -> Result<()> {
        while let Some(Reverse(Timed(at, ..))) = self.queue.peek()
            && *at <= until
        {
            let Some(Reverse(Timed(at, _, event))) = self.queue.pop() else {
                break;
            };
            self.now = at;
            match event {
                Event::Arrival { from, to, bytes } => self.arrive(from, to, &bytes)?,
                Event::Site(site) => {
                    if self.sites[site].woken == Some(at) {
                        self.sites[site].woken = None;
                        let now = self.instant();
                        self.sites[site].xtr.handle_timeout(now);
                        self.site_acts(site)?;
                    }
                }
                Event::Server(server) => {
                    if self.servers[server].woken == Some(at) {
                        self.servers[server].woken = None;
                        let now = self.instant();
                        if let Some(machine) = &mut self.servers[server].machine {
                            machine.handle_timeout(now);
                        }
                        self.server_acts(server);
                    }
                }
                Event::Happens(happening) => story::happen(self, happening)?,
                Event::SampleOver(site, key) => {
                    if self.sites[site].samples.remove(&key) {
                        self.tally.unanswered += 1;
                    }
                }
            }
        }
        self.now = until;
        Ok(())
    }

    fn arrive(&mut self, from: SocketAddr, to: IpAddr, bytes: &[u8]) -> Result<()> {
        let now = self.instant();
        match owner(to) {
            Some(Owner::Site(site, provider)) if !self.is_failed[provider] => {
                self.sites[site].xtr.handle_input(now, from, to, bytes);
                self.site_acts(site)
            }
            Some(Owner::Server(server)) => {
                if let Some(machine) = &mut self.servers[server].machine {
                    machine.handle_input(now, from, SocketAddr::new(to, CONTROL_PORT), bytes);
                    self.server_acts(server);
                } else {
                    self.tally.undeliverable += 1;
                }
                Ok(())
            }
            _ => {
                self.tally.undeliverable += 1;
                Ok(())
            }
        }
    }

    /// Do what a site's machine wants done.
    ///
    /// # Errors
    /// When it wants what it should not.
    pub fn site_acts(&mut self, site: usize) -> Result<()> {
        while let Some(output) = self.sites[site].xtr.poll_output() {
            match output {
                Output::Send(datagram) => {
                    self.check_sent(site, &datagram.payload)?;
                    self.tally.sent(self.now, false, &datagram.payload);
                    let to = datagram.destination.ip();
                    self.transmit(datagram.source, to, datagram.payload);
                }
                Output::Learned { key, mapping, .. } => {
                    self.learned(site, key, &mapping);
                    self.sites[site].cache.insert(key, mapping);
                }
                Output::Forgotten(key) => {
                    self.sites[site].cache.remove(&key);
                }
                Output::KeepNonce(nonce) => self.sites[site].kept = nonce,
                Output::AskHost { key, .. } => {
                    let answers = self.homes.get(&key).is_some_and(|(home, _)| *home == site);
                    self.host(site, key, answers);
                }
                // Nobody is probed, and packets to hosts go nowhere.
                Output::Liveness { .. }
                | Output::HostHere { .. }
                | Output::HostGone(_)
                | Output::Event(_) => {}
            }
        }
        let due = self.sites[site].xtr.poll_timeout();
        let due = due.map(|due| self.moment(due));
        if due != self.sites[site].woken {
            self.sites[site].woken = due;
            if let Some(due) = due {
                self.push(due, Event::Site(site));
            }
        }
        Ok(())
    }

    /// A Map-Server is killed.
    pub fn server_stops(&mut self, server: usize) {
        self.servers[server].machine = None;
        self.servers[server].woken = None;
    }

    /// Do what a Map-Server wants done.
    pub fn server_acts(&mut self, server: usize) {
        let source = SocketAddr::new(server_address(server), CONTROL_PORT);
        loop {
            let machine = self.servers[server].machine.as_mut();
            let Some(output) = machine.and_then(Machine::poll_output) else {
                break;
            };
            if let mapserver::Output::Send { to, bytes, .. } = output {
                self.tally.sent(self.now, true, &bytes);
                self.transmit(source, to.ip(), bytes);
            }
        }
        let machine = self.servers[server].machine.as_ref();
        let due = machine.and_then(Machine::poll_timeout);
        let due = due.map(|due| self.moment(due));
        if due != self.servers[server].woken {
            self.servers[server].woken = due;
            if let Some(due) = due {
                self.push(due, Event::Server(server));
            }
        }
    }

    /// Of a time that may have passed.
    fn moment(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX).max(self.now)
    }

    fn transmit(&mut self, from: SocketAddr, to: IpAddr, bytes: Vec<u8>) {
        if let Some(Owner::Site(_, provider)) = owner(from.ip())
            && self.is_failed[provider]
        {
            self.tally.undeliverable += 1;
            return;
        }
        if self.rng.f64() < self.plan.network.loss {
            self.tally.lost += 1;
            return;
        }
        let bytes: Box<[u8]> = bytes.into();
        if self.rng.f64() < self.plan.network.doubling {
            self.tally.doubled += 1;
            let at = self.now + self.latency();
            let bytes = bytes.clone();
            self.push(at, Event::Arrival { from, to, bytes });
        }
        let at = self.now + self.latency();
        self.push(at, Event::Arrival { from, to, bytes });
    }

    fn latency(&mut self) -> u64 {
        let (least, most) = self.plan.network.latency_ms;
        self.rng.u64(least * 1_000_000..=most * 1_000_000)
    }

    /// Nonces of registrations rise, also over a restart; one prefix is asked for once a second at most.
    fn check_sent(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
        let now = self.now;
        let site = &mut self.sites[number];
        match parse(bytes)? {
            Message::Register(register) => {
                let nonce = register.body.nonce;
                ensure!(
                    nonce > site.last_nonce && nonce <= site.kept,
                    "site {number} registers with nonce {nonce} after {}, kept {}",
                    site.last_nonce,
                    site.kept
                );
                site.last_nonce = nonce;
            }
            Message::Encapsulated(encapsulated) => {
                for asked in &encapsulated.request.asked {
                    let last = site.asked.insert(asked.key, now);
                    ensure!(
                        last.is_none_or(|last| now >= last + REQUEST_GAP),
                        "site {number} asks for {} again before a second has passed",
                        asked.key
                    );
                }
                if site.asked.len() > 64 {
                    site.asked.retain(|_, then| now < *then + REQUEST_GAP);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A site asks for an EID, whatever it knows; what it learns is compared with the truth.
    pub fn sample(&mut self, site: usize, host: EidKey) -> Result<()> {
        if self.sites[site]
            .eids
            .iter()
            .any(|own| own.eid.contains(&host.eid))
        {
            return Ok(());
        }
        while let Some(key) = self.lookup(site, host) {
            self.sites[site].xtr.forget(key);
            self.sites[site].cache.remove(&key);
        }
        if self.sites[site].samples.insert(host) {
            self.push(self.now + SAMPLE_WAIT, Event::SampleOver(site, host));
            self.miss(site, host)?;
        }
        Ok(())
    }

    /// A packet to a host finds no mapping.
    pub fn miss(&mut self, site: usize, host: EidKey) -> Result<()> {
        let eid = EidAddress {
            instance: host.instance,
            address: host.eid.addr(),
        };
        let now = self.instant();
        self.sites[site].xtr.miss(now, eid, None);
        self.site_acts(site)
    }

    /// The mapping a host's packets use.
    pub fn lookup(&self, site: usize, host: EidKey) -> Option<EidKey> {
        let cache = &self.sites[site].cache;
        let mut lengths = (0..=host.eid.max_prefix_len()).rev();
        lengths.find_map(|length| {
            let eid = IpNet::new(host.eid.addr(), length).ok()?.trunc();
            let around = EidKey { eid, ..host };
            cache.contains_key(&around).then_some(around)
        })
    }

    /// Whose a host is, and since when that and his links are so.
    pub fn truth(&self, host: EidKey) -> Option<(usize, u64)> {
        let number = match host.eid.addr() {
            IpAddr::V6(address) => u128::from(address) >> 80,
            IpAddr::V4(address) => u128::from(u32::from(address) >> 8 & 0xffff),
        };
        let number = usize::try_from(number & 0xffff_ffff).ok()?;
        let (site, moved) = match self.homes.get(&host) {
            Some(home) => *home,
            None if number < self.sites.len() && !is_mobile(host) => (number, 0),
            None => return None,
        };
        Some((site, moved.max(self.sites[site].changed)))
    }

    fn learned(&mut self, site: usize, key: EidKey, mapping: &Mapping) {
        let samples = self.sites[site].samples.iter();
        let answered = samples.filter(|host| key.eid.contains(&host.eid));
        let answered: Vec<EidKey> = answered.copied().collect();
        for host in answered {
            self.sites[site].samples.remove(&host);
            let truth = self.truth(host);
            let is_true = match truth {
                Some((owner, _)) => {
                    let links = providers(owner).into_iter().zip(self.sites[owner].is_up);
                    let mut expected: Vec<(IpAddr, bool)> = links
                        .map(|(provider, is_up)| (rloc(owner, provider), is_up))
                        .collect();
                    let locators = mapping.locators().iter();
                    let mut said: Vec<(IpAddr, bool)> =
                        locators.map(|locator| (locator.rloc, locator.up)).collect();
                    expected.sort_unstable();
                    said.sort_unstable();
                    expected == said
                }
                None => mapping.locators().is_empty(),
            };
            let restarted = self.servers.iter().map(|server| server.since).max();
            let changed = truth.map_or(0, |(_, changed)| changed);
            let changed = changed.max(restarted.unwrap_or(0));
            self.tally.answered(is_true, self.now - changed);
        }
    }
}
