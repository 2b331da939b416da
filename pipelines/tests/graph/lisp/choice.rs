//! Which locator a flow goes to.

use std::collections::HashMap;
use std::net::IpAddr;

use dataplane::reason::DropReason;
use pipelines::lisp::{MappingSpec, NEVER};

use super::encap::{error4, error6};
use super::site::*;
use crate::bench::{ip_address, ip_net};

const RLOCS: [&str; 4] = [
    "2001:db8:cafe::1",
    "203.0.113.2",
    "2001:db8:cafe::3",
    "203.0.113.4",
];
/// The issue asks for that many.
const FLOWS: usize = 100_000;

/// One packet for each flow.
fn flows(count: usize) -> Vec<Vec<u8>> {
    let port = |n: usize| u16::try_from(n % 60_000).expect("below 60,000");
    let frame = |n: usize| six().udp(port(n), port(n / 60_000), b"").build();
    (0..count).map(frame).collect()
}

/// Where each flow goes.
fn ways(site: &mut Site, frames: &[Vec<u8>]) -> Vec<IpAddr> {
    let sent = site.receive(SITE, frames);
    assert_eq!(sent.len(), frames.len(), "drops: {:?}", site.drops());
    // In the order of the flows: ports tell which.
    let mut by_flow: Vec<_> = sent
        .iter()
        .map(|(_, frame)| (inner(frame)[40..44].to_vec(), rloc(frame)))
        .collect();
    by_flow.sort_unstable();
    by_flow.into_iter().map(|(_, rloc)| rloc).collect()
}

fn shares(ways: &[IpAddr]) -> HashMap<IpAddr, usize> {
    let mut counts = HashMap::new();
    for way in ways {
        *counts.entry(*way).or_default() += 1;
    }
    counts
}

/// C-04: 30/20/20/10 gives 37.5, 25, 25 and 12.5 %, over both families of locators.
#[test]
fn c04_flows_are_shared_by_weight() {
    let mut site = Site::new(&Shape::usual(), settings());
    let weights = [30, 20, 20, 10];
    let locators: Vec<_> = RLOCS
        .iter()
        .zip(weights)
        .map(|(rloc, weight)| (*rloc, 1, weight))
        .collect();
    site.map_far(&Shape::usual(), &locators);
    let counts = shares(&ways(&mut site, &flows(20_000)));
    for (rloc, weight) in RLOCS.iter().zip(weights) {
        let expected = 20_000 * usize::from(weight) / 80;
        let count = counts[&ip_address(rloc)];
        assert!(
            count.abs_diff(expected) < 400,
            "{rloc}: {count} instead of {expected}"
        );
    }
    let states = site.rib.locator_states(EIDS, ip_net(FAR_NET6));
    let mut seen: Vec<u8> = states.iter().map(|state| state.share).collect();
    seen.sort_unstable();
    assert_eq!(seen, [8, 16, 16, 24]);
}

/// C-05, C-15: one locator of four is lost: its flows move with the next burst, no other one of 100,000 does; and it gets
/// them back.
#[test]
fn c05_a_lost_locator_loses_its_flows_alone() {
    let mut site = Site::new(&Shape::usual(), settings());
    site.map_far(&Shape::usual(), &RLOCS.map(|rloc| (rloc, 1, 1)));
    let frames = flows(FLOWS);
    let before = ways(&mut site, &frames);
    let lost = ip_address(RLOCS[1]);
    site.rib.set_locator(lost, false);
    let after = ways(&mut site, &frames);
    let its = before.iter().filter(|way| **way == lost).count();
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b);
    assert!(its.abs_diff(FLOWS / 4) < 1000, "{its}");
    assert_eq!(moved.clone().count(), its);
    assert!(moved.clone().all(|(from, to)| *from == lost && *to != lost));
    // Its flows are shared by all the others.
    let heirs = shares(&moved.map(|(_, to)| *to).collect::<Vec<_>>());
    assert_eq!(heirs.len(), 3);
    site.rib.set_locator(lost, true);
    assert_eq!(ways(&mut site, &frames), before);
}

/// C-03, C-06: priority 255 never, R = 0 not, a backup only when all better ones are gone; nothing left: unreachable.
#[test]
fn c06_a_backup_waits_for_all_better_ones_to_fail() {
    let mut site = Site::new(&Shape::usual(), settings());
    let locators = [
        (RLOCS[0], 1, 50),
        (RLOCS[1], 1, 50),
        (RLOCS[2], 2, 1),
        (RLOCS[3], NEVER, 100),
    ];
    site.map_far(&Shape::usual(), &locators);
    let frames = flows(500);
    let used = |site: &mut Site| {
        let mut used: Vec<_> = shares(&ways(site, &frames)).into_keys().collect();
        used.sort_unstable();
        used
    };
    let mut best = [RLOCS[1], RLOCS[0]].map(ip_address);
    best.sort_unstable();
    assert_eq!(used(&mut site), best);
    site.rib.set_locator(ip_address(RLOCS[0]), false);
    assert_eq!(used(&mut site), [ip_address(RLOCS[1])]);
    site.rib.set_locator(ip_address(RLOCS[1]), false);
    assert_eq!(used(&mut site), [ip_address(RLOCS[2])]);
    site.rib.set_locator(ip_address(RLOCS[2]), false);
    let sent = site.receive(
        SITE,
        &[
            six().udp(1, 2, b"x").build(),
            four().udp(1, 2, b"x").build(),
        ],
    );
    assert_eq!((error6(&sent[0].1).0, error6(&sent[0].1).1), (1, 3));
    assert_eq!((error4(&sent[1].1).0, error4(&sent[1].1).1), (3, 1));
    assert_eq!(site.drops(), [(DropReason::LispNoLocator, 2)]);
    for rloc in &RLOCS[..3] {
        site.rib.set_locator(ip_address(rloc), true);
    }
    // The R bit: whoever told us of it does not reach it.
    let Some(MappingSpec::Locators {
        mut locators,
        version,
    }) = to(&locators)
    else {
        panic!("it has locators");
    };
    locators[0].up = false;
    let spec = MappingSpec::Locators { locators, version };
    site.rib.set_mapping(EIDS, ip_net(FAR_NET6), Some(spec));
    assert_eq!(used(&mut site), [ip_address(RLOCS[1])]);
}

/// C-15: a mapping changes at once and whole; its use is known, and told once.
#[test]
fn c15_changes_take_effect_with_the_next_burst() {
    let mut site = Site::to_one(RLOCS[0]);
    site.map_far(&Shape::usual(), &RLOCS.map(|rloc| (rloc, 1, 1)));
    let far = ip_net(FAR_NET6);
    assert!(!site.rib.was_used(EIDS, far));
    let frame = six().udp(1, 2, b"x").build();
    for rloc_now in RLOCS.iter().cycle().take(20) {
        site.rib.set_mapping(EIDS, far, to(&[(rloc_now, 1, 1)]));
        assert!(!site.rib.wants_tables(), "every way is known");
        assert_eq!(
            rloc(&site.pass(SITE, frame.clone()).1),
            ip_address(rloc_now)
        );
    }
    assert!(site.rib.was_used(EIDS, far));
    assert!(!site.rib.was_used(EIDS, far), "since it was last asked");
    assert!(!site.rib.was_used(EIDS, ip_net(FAR_NET4)));
}

/// A new locator's mapping waits for its way, and the old one goes on until then.
#[test]
fn a_mapping_to_an_unknown_router_waits_for_new_tables() {
    let mut site = Site::to_one(RLOC6);
    let frame = six().udp(1, 2, b"x").build();
    let new = "2001:db8:cafe::77";
    site.rib
        .set_mapping(EIDS, ip_net(FAR_NET6), to(&[(new, 1, 1)]));
    assert!(site.rib.wants_tables());
    assert_eq!(rloc(&site.pass(SITE, frame.clone()).1), ip_address(RLOC6));
    site.rebuild(&Shape::usual());
    assert!(!site.rib.wants_tables());
    assert_eq!(rloc(&site.pass(SITE, frame).1), ip_address(new));
}
