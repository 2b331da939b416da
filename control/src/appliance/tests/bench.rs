//! A control thread and real workers over frames in memory, with a clock that the test holds.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataplane::frame::Frame as _;
use dataplane::port::PortId;
use dataplane::reason::PuntReason;
use dataplane::table::publish::Publisher;
use dataplane::testing::builder::Packet;
use dataplane::testing::{HeapFrame, MemoryPort};
use dataplane::wire::ethernet::Mac;
use dataplane::wire::icmpv6::{self, AdvertisementFlags};
use dataplane::worker::{Crew, CrewConfig, RingSizes, Worker, WorkerConfig};
use pipelines::steer::FlowMemory;
use pipelines::tables::Builder;
use pipelines::testing::HeapEdge;
use tempfile::TempDir;

use super::super::{Appliance, Parts};
use crate::admin::protocol::{Answer, Command, LispPart, Subject};
use crate::admin::view::{self, Link};
use crate::platform::{Platform, PortFacts};
use crate::{config, publish};

pub(super) const HOST: Mac = Mac::from_octets([0x0a, 0, 0, 0, 0, 0x10]);
pub(super) const ROUTER: Mac = Mac::from_octets([0x0a, 0, 0, 0, 0, 0x99]);
pub(super) const INSIDE: usize = 0;
pub(super) const OUTSIDE: usize = 1;

/// The configuration that most tests start from; `more` is appended.
pub(crate) fn text(more: &str) -> String {
    format!(
        r#"
[[ports]]
name = "inside"
device = "net_null0"
[[ports]]
name = "outside"
device = "net_null1"
[[interfaces]]
port = "inside"
addresses = ["fd01:203:405:1::1/64"]
[[interfaces]]
port = "outside"
addresses = ["2001:db8:ffff::2/64"]
[[routes]]
prefix = "::/0"
next_hops = [{{ via = "2001:db8:ffff::1" }}]
[ndp]
dad_transmits = 0
{more}"#
    )
}

pub(super) const RULE: &str = r#"
[[npt66]]
name = "isp"
interface = "outside"
inside = "fd01:203:405::/48"
outside = "2001:db8:1::/48"
"#;

/// Ports in memory.
pub(crate) struct Memory {
    facts: Vec<PortFacts>,
    /// Looks at a link that will still panic.
    poison: Arc<AtomicUsize>,
    links: Arc<Mutex<Vec<bool>>>,
}

impl Platform for Memory {
    type Frame = HeapFrame;

    fn engine(&self) -> String {
        "memory".to_owned()
    }

    fn memory(&self) -> String {
        "the heap".to_owned()
    }

    fn allocate(&self, bytes: &[u8]) -> Option<HeapFrame> {
        Some(HeapFrame::new(bytes))
    }

    fn port(&self, port: PortId) -> &PortFacts {
        &self.facts[port.index()]
    }

    fn link(&self, port: PortId) -> Link {
        if self.poison.load(Relaxed) > 0 {
            self.poison.fetch_sub(1, Relaxed);
            panic!("the driver lies about links");
        }
        Link {
            up: self.links.lock().unwrap()[port.index()],
            speed_mbps: None,
            full_duplex: true,
        }
    }

    fn device_counters(&self, _port: PortId, _detailed: bool) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
}

pub(super) fn own_mac(port: usize) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 0, u8::try_from(port + 1).unwrap()])
}

pub(crate) struct Bench {
    pub(crate) appliance: Appliance<Memory>,
    workers: Vec<Worker<HeapFrame, HeapEdge>>,
    ports: Vec<MemoryPort<HeapFrame>>,
    pub(super) links: Arc<Mutex<Vec<bool>>>,
    poison: Arc<AtomicUsize>,
    pub(super) now: Instant,
    folder: TempDir,
}

impl Bench {
    pub(crate) fn new(text: &str) -> Self {
        Self::with_workers(text, 1)
    }

    pub(super) fn with_workers(text: &str, workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config_path = folder.path().join("sextant.toml");
        std::fs::write(&config_path, text).unwrap();
        let config = config::load(&config_path).unwrap_or_else(|errors| panic!("{errors}"));
        let ports: Vec<_> = config.ports.iter().map(|_| MemoryPort::new(1, 1)).collect();
        let links = Arc::new(Mutex::new(vec![true; ports.len()]));
        let poison = Arc::new(AtomicUsize::new(0));
        let facts = (0..ports.len()).map(|port| PortFacts {
            mac: own_mac(port),
            driver: "memory".to_owned(),
            rx_queues: 1,
            tx_queues: 1,
            socket: None,
        });
        let platform = Memory {
            facts: facts.collect(),
            poison: Arc::clone(&poison),
            links: Arc::clone(&links),
        };
        let mut publisher = Publisher::new(Builder::new().build());
        let crew = CrewConfig {
            workers: vec![WorkerConfig::default(); workers],
            punt_rates: [(100_000, 10_000); PuntReason::COUNT],
            rings: RingSizes::default(),
            spread_seed: 1,
        };
        let memories: Vec<_> = (0..workers).map(|_| FlowMemory::new()).collect();
        let queues = ports.iter().enumerate();
        let queues = queues.map(|(position, port)| port.queues(publish::port(position)));
        let (workers, handles) = Crew::build(&crew, queues.collect(), &mut publisher, |worker| {
            HeapEdge::remembering(memories[worker].clone())
        })
        .unwrap();
        let now = Instant::now();
        let parts = Parts {
            platform,
            config,
            config_path,
            publisher,
            workers: handles,
            rng: fastrand::Rng::with_seed(7),
            seed: [7; 32],
            memories,
            hostname: "bench".to_owned(),
            unix_seconds: 1000,
        };
        Self {
            appliance: Appliance::new(now, parts).unwrap(),
            workers,
            ports,
            links,
            poison,
            now,
            folder,
        }
    }

    /// Let this many looks at a link panic from now on.
    pub(crate) fn poison_links(&self, looks: usize) {
        self.poison.store(looks, Relaxed);
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.folder.path().join("sextant.toml")
    }

    /// Workers and control thread work until nobody has anything left to do at this moment, then time goes on.
    pub(super) fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now += Duration::from_millis(1);
            loop {
                self.appliance.tick(self.now);
                let moved: usize = self.workers.iter_mut().map(Worker::round).sum();
                if moved == 0 {
                    break;
                }
            }
        }
    }

    pub(super) fn feed(&self, port: usize, frame: &[u8]) {
        self.ports[port].feed(0, HeapFrame::new(frame));
    }

    pub(super) fn sent(&self, port: usize) -> Vec<Vec<u8>> {
        let frames = self.ports[port].collect();
        frames.iter().map(|frame| frame.bytes().to_vec()).collect()
    }

    pub(super) fn show<T: serde::de::DeserializeOwned>(&mut self, subject: Subject) -> T {
        let answer = self.appliance.answer(self.now, Command::Show { subject });
        assert!(answer.ok, "{answer:?}");
        serde_json::from_value(answer.data).unwrap()
    }

    pub(super) fn show_lisp<T: serde::de::DeserializeOwned>(&mut self, part: LispPart) -> T {
        let answer = self.appliance.answer(self.now, Command::ShowLisp { part });
        assert!(answer.ok, "{answer:?}");
        serde_json::from_value(answer.data).unwrap()
    }

    pub(super) fn reload(&mut self, text: &str) -> Answer {
        std::fs::write(self.config_path(), text).unwrap();
        self.appliance.answer(self.now, Command::Reload)
    }

    /// A neighbour says where it is.
    pub(super) fn advertise(&self, port: usize, address: Ipv6Addr, mac: Mac) {
        let flags = AdvertisementFlags {
            router: false,
            solicited: true,
            override_cached: true,
        };
        let own = if port == INSIDE {
            address_of("fd01:203:405:1::1")
        } else {
            address_of("2001:db8:ffff::2")
        };
        let message = icmpv6::neighbor_advertisement(address, flags, Some(mac));
        let frame = Packet::ethernet(mac, own_mac(port)).ipv6(address, own);
        self.feed(port, &frame.hop_limit(255).icmpv6(&message).build());
    }

    /// rx + injected + generated = tx + drops + punts, as an operator sees it.
    pub(super) fn assert_conserved(&mut self) {
        let counters: view::Counters = self.show(Subject::Counters);
        let totals = counters.totals;
        assert_eq!(
            totals.rx + totals.injected + totals.generated,
            totals.tx + totals.drops + totals.punts,
            "{totals:?}"
        );
    }
}

pub(super) fn address_of(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// IPv6 packet of an untagged frame: (type, code) of its ICMPv6 message, if it is one.
pub(super) fn icmp_type(frame: &[u8]) -> Option<(u8, u8)> {
    (frame[20] == 58).then(|| (frame[54], frame[55]))
}

pub(super) fn of_type(frames: &[Vec<u8>], kind: u8) -> Vec<&Vec<u8>> {
    frames
        .iter()
        .filter(|frame| icmp_type(frame).is_some_and(|(found, _)| found == kind))
        .collect()
}

pub(super) fn ping(source: &str, destination: &str, sequence: u16) -> Vec<u8> {
    Packet::ethernet(HOST, own_mac(INSIDE))
        .ipv6(address_of(source), address_of(destination))
        .icmpv6_echo(1, sequence, b"payload")
        .build()
}

pub(super) const HOST_ADDRESS: &str = "fd01:203:405:1::10";
