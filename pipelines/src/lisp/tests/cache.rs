//! The map-cache: who gets which flow, what a change moves, what is used again when.

use std::collections::HashMap;
use std::net::IpAddr;

use dataplane::table::lpm::Grace;
use ipnet::IpNet;

use super::super::cache::MapCache;
use super::super::spec::{Act, MappingSpec};
use super::super::view::{Lisp, Way};
use super::{VRF, address, locator, settings, to};
use dataplane::reason::DropReason;

/// Readers that pass when they are told to.
#[derive(Default)]
struct Readers {
    epoch: u64,
    passed: u64,
}

impl Grace for Readers {
    fn mark(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    fn passed(&mut self) -> u64 {
        self.passed
    }
}

fn eid(number: u16) -> (crate::tables::VrfId, IpNet) {
    let prefix = format!("2001:db8:{number:x}::/48")
        .parse()
        .expect("a prefix");
    (VRF, prefix)
}

/// A cache that knows the way to 2001:db8:f::1 to ::9.
fn cache() -> MapCache {
    let mut cache = MapCache::new(settings());
    for last in 1..=9 {
        let rloc = address(&format!("2001:db8:f::{last}"));
        cache.is_ready(&to(&[locator(&rloc.to_string(), 1, 1)]));
        cache.stack(rloc, last);
    }
    cache
}

/// How many of 64,000 flows go to each router.
fn spread(cache: &MapCache, leaf: u32) -> HashMap<IpAddr, u32> {
    let lisp = Lisp::new(cache, vec![]);
    let mut counts = HashMap::new();
    for flow in 0..64_000_u64 {
        if let Way::Encap(locator) = lisp.way(VRF, leaf, super::super::flow::mix(flow)) {
            let rloc = std::net::Ipv6Addr::from(locator.rloc());
            *counts.entry(IpAddr::V6(rloc)).or_insert(0) += 1;
        }
    }
    counts
}

/// C-03, C-04.
#[test]
fn flows_are_shared_by_weight() {
    let mut cache = cache();
    let spec = to(&[
        locator("2001:db8:f::2", 1, 70),
        locator("2001:db8:f::3", 1, 30),
        locator("2001:db8:f::4", 2, 100),
        locator("2001:db8:f::5", 255, 100),
    ]);
    let leaf = cache.install(eid(1), &spec, 0);
    let counts = spread(&cache, leaf);
    assert_eq!(counts.len(), 2);
    let first = counts[&address("2001:db8:f::2")];
    assert!((44_000..46_000).contains(&first), "{first}");
}

/// C-05, C-06: taken out of use, a router loses its flows at once and in every mapping; nobody else's flows move.
#[test]
fn a_router_taken_out_of_use_loses_its_flows_alone() {
    let mut cache = cache();
    let of = |rlocs: &[&str]| {
        to(&rlocs
            .iter()
            .map(|rloc| locator(rloc, 1, 25))
            .collect::<Vec<_>>())
    };
    let four = [
        "2001:db8:f::2",
        "2001:db8:f::3",
        "2001:db8:f::4",
        "2001:db8:f::5",
    ];
    let leaf = cache.install(eid(1), &of(&four), 0);
    let other = cache.install(eid(2), &of(&four[..2]), 0);
    let way = |cache: &MapCache, leaf, flow| {
        let lisp = Lisp::new(cache, vec![]);
        match lisp.way(VRF, leaf, super::super::flow::mix(flow)) {
            Way::Encap(locator) => locator.rloc(),
            _ => 0,
        }
    };
    let before: Vec<u128> = (0..100_000).map(|flow| way(&cache, leaf, flow)).collect();
    cache.set_up(address(four[1]), false);
    let lost = u128::from(four[1].parse::<std::net::Ipv6Addr>().unwrap());
    let mut moved = 0;
    for (flow, before) in (0..).zip(&before) {
        let after = way(&cache, leaf, flow);
        assert_ne!(after, lost);
        if after != *before {
            assert_eq!(*before, lost);
            moved += 1;
        }
    }
    assert!((23_000..27_000).contains(&moved), "{moved}");
    assert_eq!(spread(&cache, other).len(), 1);
    cache.set_up(address(four[1]), true);
    let again: Vec<u128> = (0..100_000).map(|flow| way(&cache, leaf, flow)).collect();
    assert_eq!(before, again);
}

#[test]
fn without_a_way_through_the_underlay_a_router_is_not_used() {
    let mut cache = cache();
    let spec = to(&[
        locator("2001:db8:f::2", 1, 1),
        locator("2001:db8:f::3", 2, 1),
    ]);
    let leaf = cache.install(eid(1), &spec, 0);
    assert_eq!(cache.stack(address("2001:db8:f::2"), 0), Some(2));
    assert_eq!(
        spread(&cache, leaf),
        HashMap::from([(address("2001:db8:f::3"), 64_000)])
    );
    let states = cache.locator_states(&eid(1));
    assert_eq!([states[0].share, states[1].share], [0, 64]);
    assert!(!states[0].is_reachable && states[1].is_reachable);
    cache.stack(address("2001:db8:f::3"), 0);
    let lisp = Lisp::new(&cache, vec![]);
    assert!(matches!(
        lisp.way(VRF, leaf, 1),
        Way::Drop(DropReason::LispNoLocator)
    ));
}

/// F-08: a path that cannot carry 1280 bytes of IPv6 is no path.
#[test]
fn a_router_behind_a_path_that_is_too_small_is_not_used() {
    let mut cache = cache();
    let spec = to(&[
        locator("2001:db8:f::2", 1, 1),
        locator("2001:db8:f::3", 2, 1),
    ]);
    let leaf = cache.install(eid(1), &spec, 0);
    for (mtu, rloc) in [
        (Some(1336), "2001:db8:f::2"),
        (Some(1335), "2001:db8:f::3"),
        (None, "2001:db8:f::2"),
    ] {
        cache.set_path_mtu(address("2001:db8:f::2"), mtu);
        assert_eq!(
            spread(&cache, leaf),
            HashMap::from([(address(rloc), 64_000)])
        );
    }
}

/// C-09.
#[test]
fn negative_mappings_do_what_their_action_says() {
    let mut cache = cache();
    let cases = [
        (Act::NoAction, DropReason::LispNoAction),
        (Act::Drop, DropReason::LispNegative),
        (Act::PolicyDenied, DropReason::LispPolicy),
        (Act::AuthFailure, DropReason::LispAuthentication),
        (Act::Petr, DropReason::LispNoLocator),
    ];
    for (number, (act, reason)) in (1..).zip(cases) {
        let leaf = cache.install(eid(number), &MappingSpec::Negative(act), 0);
        let lisp = Lisp::new(&cache, vec![]);
        assert!(matches!(lisp.way(VRF, leaf, 1), Way::Drop(found) if found == reason));
    }
    let native = cache.install(eid(20), &MappingSpec::Negative(Act::Native), 77);
    let ask = cache.install(eid(21), &MappingSpec::Negative(Act::SendMapRequest), 0);
    let lisp = Lisp::new(&cache, vec![]);
    assert!(matches!(lisp.way(VRF, native, 1), Way::Native(77)));
    assert!(matches!(lisp.way(VRF, ask, 1), Way::Miss(0)));
}

#[test]
fn mappings_that_say_the_same_share_a_set() {
    let mut cache = cache();
    let spec = |weight| {
        to(&[
            locator("2001:db8:f::2", 1, weight),
            locator("2001:db8:f::3", 1, 30),
        ])
    };
    for number in 0..1000 {
        cache.install(eid(number), &spec(70), 0);
    }
    let bytes = cache.bytes();
    for number in 1000..2000 {
        cache.install(eid(number), &spec(70), 0);
    }
    assert_eq!(cache.bytes(), bytes + 4000, "4 bytes each");
    assert_eq!(cache.len(), 2000);
}

/// What readers may still be at is not used again before they have passed.
#[test]
fn numbers_are_used_again_only_after_the_readers_have_passed() {
    let mut cache = cache();
    let mut readers = Readers::default();
    let spec = to(&[locator("2001:db8:f::2", 1, 1)]);
    let first = cache.install(eid(1), &spec, 0);
    assert!(cache.remove(&eid(1)));
    assert!(!cache.remove(&eid(1)));
    assert!(cache.reclaim(&mut readers) > 0);
    let second = cache.install(eid(2), &spec, 0);
    assert_ne!(first, second);
    readers.passed = readers.epoch;
    assert_eq!(cache.reclaim(&mut readers), 0);
    assert_eq!(cache.install(eid(3), &spec, 0), first);
    // A next hop is let go of with the last set that leads there.
    cache.remove(&eid(2));
    cache.remove(&eid(3));
    cache.reclaim(&mut readers);
    assert!(
        !cache.take_released(|_| false).contains(&2),
        "readers may be there"
    );
    readers.passed = readers.epoch;
    cache.reclaim(&mut readers);
    assert!(cache.take_released(|_| false).contains(&2));
}

/// Issue of its own for each mapping, though sets are shared; marking costs a store only once.
#[test]
fn use_is_known_by_mapping() {
    let mut cache = cache();
    let spec = to(&[locator("2001:db8:f::2", 1, 1)]);
    let used = cache.install(eid(1), &spec, 0);
    cache.install(eid(2), &spec, 0);
    let _ = Lisp::new(&cache, vec![]).way(VRF, used, 1);
    assert_eq!(
        [1, 2].map(|number| cache.was_used(&eid(number))),
        [true, false]
    );
    assert_eq!(
        [1, 2].map(|number| cache.was_used(&eid(number))),
        [false, false]
    );
}

#[test]
fn a_changed_mapping_keeps_its_leaf() {
    let mut cache = cache();
    let leaf = cache.install(eid(1), &to(&[locator("2001:db8:f::2", 1, 1)]), 0);
    assert_eq!(
        cache.install(eid(1), &to(&[locator("2001:db8:f::3", 1, 1)]), 0),
        leaf
    );
    assert_eq!(
        spread(&cache, leaf),
        HashMap::from([(address("2001:db8:f::3"), 64_000)])
    );
    assert_eq!(
        cache.spec(&eid(1)),
        Some(to(&[locator("2001:db8:f::3", 1, 1)]))
    );
}

/// What does not change a header makes no mapping anew: there may be a million.
#[test]
fn mappings_are_made_again_only_when_they_say_something_else() {
    let mut cache = cache();
    cache.install(eid(1), &to(&[locator("2001:db8:f::2", 1, 1)]), 0);
    let ask = MappingSpec::Negative(Act::SendMapRequest);
    cache.install(eid(2), &ask, 0);
    let mut other = settings();
    other.dscp = super::super::Dscp::Pipe;
    other.udp_checksum = true;
    assert_eq!(cache.configure(other.clone()), []);
    other.miss = super::super::Miss::Native;
    assert_eq!(cache.configure(other.clone()), [(eid(2), ask)]);
    other.instances[0].id = 7;
    assert_eq!(cache.configure(other.clone()).len(), 2);
    assert_eq!(cache.configure(other), []);
}
