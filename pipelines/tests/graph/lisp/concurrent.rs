//! The map-cache beside its readers: one thread changes mappings, locators, proxies and the underlay, others run bursts
//! through the graph. Each packet must go to a locator that was right at some moment between the last change made before
//! its burst and the last one begun before its end, and none may be lost while its destination has a mapping.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use dataplane::table::publish::Publisher;
use ipnet::IpNet;
use pipelines::Tables;
use pipelines::lisp::{Act, MappingSpec, Settings};
use pipelines::tables::{Rib, VrfId};
use pipelines::testing::HeapEdge;

use super::site::*;
use crate::bench::*;

/// EID prefixes that change, below one that is always mapped.
const PREFIXES: usize = 48;
/// What that one is mapped to.
const ABOVE: usize = 99;
/// Locators that are taken out of use, one at a time, and those that never are.
const FAILING: usize = 3;
const STAYING: usize = 6;
/// Proxy ETRs, one at a time.
const PROXIES: [usize; 2] = [80, 81];
/// The prefix that goes to the proxies.
const BY_PROXY: usize = PREFIXES;

const CHANGES: u64 = if cfg!(debug_assertions) {
    6_000
} else {
    60_000
};

/// Locator `number`: of either family.
fn locator(number: usize) -> IpAddr {
    let text = if number.is_multiple_of(2) {
        format!("2001:db8:cafe::{number}")
    } else {
        format!("203.0.113.{number}")
    };
    ip_address(&text)
}

fn number_of(address: IpAddr) -> usize {
    (0..100)
        .find(|number| locator(*number) == address)
        .expect("a locator")
}

fn prefix(number: usize) -> IpNet {
    ip_net(&format!("2001:db8:f:{number:x}::/64"))
}

/// Scattered bits of these two.
fn scatter(a: u64, b: u64) -> usize {
    let mixed = (a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b).wrapping_mul(0xd6e8_feb8_6659_fd93);
    usize::try_from(mixed >> 40).expect("24 bits")
}

/// The locators of a prefix's `version`; none: it is not mapped. One at least never fails.
fn locators(prefix: usize, version: u64) -> Vec<usize> {
    let bits = scatter(prefix as u64, version); // `as`: usize to u64
    match bits % 5 {
        0 => vec![],
        1 => vec![FAILING + bits / 8 % STAYING],
        2 => vec![bits / 8 % FAILING, FAILING + bits / 64 % STAYING],
        3 => vec![FAILING, FAILING + 1 + bits / 8 % (STAYING - 1)],
        _ => vec![0, 1, FAILING + bits / 8 % STAYING],
    }
}

/// The locator that is out of use.
fn failed(version: u64) -> Option<usize> {
    version
        .checked_rem(4)
        .and_then(|at| usize::try_from(at).ok())
        .filter(|at| *at < FAILING)
}

/// Counts changes of one thing: begun, and made.
#[derive(Default)]
struct Clock {
    begun: AtomicU64,
    made: AtomicU64,
}

impl Clock {
    /// Do the next change.
    fn change(&self, change: impl FnOnce(u64)) {
        let version = self.begun.fetch_add(1, SeqCst) + 1;
        change(version);
        self.made.store(version, SeqCst);
    }
}

struct World {
    prefixes: Vec<Clock>,
    failing: Clock,
    proxies: Clock,
    stop: AtomicBool,
}

impl World {
    fn clocks(&self) -> impl Iterator<Item = &Clock> {
        self.prefixes.iter().chain([&self.failing, &self.proxies])
    }

    /// Whether a packet of a burst may have gone there: `since` is what was made before, clock by clock.
    fn may_go(&self, prefix: usize, to: usize, since: &[u64], until: &[u64]) -> bool {
        if prefix == BY_PROXY {
            let at = PREFIXES + 1;
            return (since[at]..=until[at])
                .any(|version| PROXIES[usize::from(version % 2 == 1)] == to);
        }
        let versions = || since[prefix]..=until[prefix];
        let is_named = versions().any(|version| {
            let locators = locators(prefix, version);
            locators.contains(&to) || (locators.is_empty() && to == ABOVE)
        });
        let was_up = (since[PREFIXES]..=until[PREFIXES]).any(|version| failed(version) != Some(to));
        is_named && was_up
    }
}

/// Bursts through one box until the writer is done; how many packets.
fn read(edge: HeapEdge, world: &World, mut tables: impl FnMut() -> Arc<Tables>) -> u64 {
    let mut bench = Bench::with(tables(), edge);
    let mut packets = 0;
    while !world.stop.load(SeqCst) {
        bench.tables = tables();
        let frames: Vec<_> = (0..64_u64)
            .map(|n| {
                let number = scatter(packets, n) % (PREFIXES + 1);
                let to = format!("2001:db8:f:{number:x}::1");
                let port = u16::try_from(scatter(n, packets) % 60_000).expect("below 60,000");
                between6(HOST6, &to).udp(port, 443, b"").build()
            })
            .collect();
        let since: Vec<u64> = world
            .clocks()
            .map(|clock| clock.made.load(SeqCst))
            .collect();
        let sent = bench.receive(SITE, &frames);
        let until: Vec<u64> = world
            .clocks()
            .map(|clock| clock.begun.load(SeqCst))
            .collect();
        assert_eq!(sent.len(), frames.len(), "lost: {:?}", bench.drops());
        for (_, frame) in &sent {
            let packet = inner(frame);
            let number = usize::from(u16::from_be_bytes([packet[30], packet[31]]));
            let to = number_of(rloc(frame));
            let is_right = world.may_go(number, to, &since, &until);
            assert!(
                is_right,
                "prefix {number} to locator {to}: {since:?}, {until:?}"
            );
        }
        packets += 64;
    }
    packets
}

fn to_numbers(numbers: &[usize]) -> Option<MappingSpec> {
    let names: Vec<String> = numbers
        .iter()
        .map(|number| locator(*number).to_string())
        .collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), 1, 1)).collect();
    to(&all).filter(|_| !numbers.is_empty())
}

/// The underlay, one way and the other.
fn shape(is_moved: bool) -> Shape {
    let mut shape = Shape::usual();
    if is_moved {
        shape
            .routes
            .push((VrfId(0), "2001:db8:cafe::/48", vec![(2, "2001:db8:b::ff")]));
        shape.routes.push((
            VrfId(0),
            "203.0.113.0/28",
            vec![(2, "198.51.100.254"), (1, "192.0.2.254")],
        ));
    }
    shape
}

/// New tables to everybody, in the order of the control thread.
fn publish(rib: &mut Rib, publisher: &mut Publisher<Arc<Tables>>, shape: &Shape) {
    let tables = Arc::new(shape.builder().build_in(rib));
    if rib.has_new_targets() {
        publisher.publish(tables);
        let epoch = publisher.mark();
        while publisher.passed() < epoch {
            thread::yield_now();
        }
        rib.commit();
    } else {
        rib.commit();
        publisher.publish(tables);
    }
    publisher.reclaim();
}

#[test]
fn c15_no_packet_is_lost_or_misdirected_while_the_map_cache_changes() {
    let proxies = |version: u64| Settings {
        petr: vec![locator(PROXIES[usize::from(version % 2 == 1)])],
        ..settings()
    };
    let mut rib = Rib::new();
    rib.set_lisp(Some(proxies(0)));
    // Every locator is known from the start, so that changes take effect at once.
    rib.set_mapping(EIDS, ip_net("2001:db8:f::/48"), to_numbers(&[ABOVE]));
    for known in (0..FAILING + STAYING).chain(PROXIES) {
        let unused = ip_net(&format!("2001:db8:1:{known}::/64"));
        rib.set_mapping(EIDS, unused, to_numbers(&[known]));
    }
    rib.set_mapping(
        EIDS,
        prefix(BY_PROXY),
        Some(MappingSpec::Negative(Act::Petr)),
    );
    let tables = Arc::new(shape(false).builder().build_in(&mut rib));
    rib.commit();
    let mut publisher = Publisher::new(tables);
    let world = World {
        prefixes: (0..PREFIXES).map(|_| Clock::default()).collect(),
        failing: Clock::default(),
        proxies: Clock::default(),
        stop: AtomicBool::new(false),
    };
    for number in 0..PREFIXES {
        rib.set_mapping(EIDS, prefix(number), to_numbers(&locators(number, 0)));
    }
    rib.set_locator(locator(0), false);
    let packets: u64 = thread::scope(|scope| {
        let readers = [
            HeapEdge::new as fn() -> _,
            HeapEdge::without_express as fn() -> _,
        ]
        .map(|edge| {
            let mut reader = publisher.reader();
            let world = &world;
            scope.spawn(move || {
                read(edge(), world, || {
                    reader.quiescent();
                    Arc::clone(reader.load())
                })
            })
        });
        for change in 0..CHANGES {
            match change % 16 {
                15 => world.failing.change(|version| {
                    if let Some(back) = failed(version - 1) {
                        rib.set_locator(locator(back), true);
                    }
                    if let Some(gone) = failed(version) {
                        rib.set_locator(locator(gone), false);
                    }
                }),
                _ => {
                    let number = scatter(change, 5) % PREFIXES;
                    world.prefixes[number].change(|version| {
                        let spec = to_numbers(&locators(number, version));
                        rib.set_mapping(EIDS, prefix(number), spec);
                        assert!(!rib.wants_tables());
                    });
                }
            }
            if change % 7 == 0 {
                rib.reclaim(&mut publisher);
            }
            if change % 400 == 399 {
                publish(&mut rib, &mut publisher, &shape(change % 800 == 799));
            }
            if change % 300 == 299 {
                world.proxies.change(|version| {
                    rib.set_lisp(Some(proxies(version)));
                    rib.reclaim(&mut publisher);
                    publish(&mut rib, &mut publisher, &shape(false));
                });
            }
            if readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
            if change % 64 == 0 {
                thread::yield_now();
            }
        }
        world.stop.store(true, SeqCst);
        readers
            .into_iter()
            .map(|reader| reader.join().expect("no packet was lost"))
            .sum()
    });
    assert!(
        packets > 1_000,
        "{packets} packets are too few to say anything"
    );
    publisher.reclaim();
}
