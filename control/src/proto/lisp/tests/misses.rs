//! Bounds on misses, and packets that wait.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::misses::Limit;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn small() -> Limits {
    Limits {
        entries: 8,
        entries_per_source: 4,
        entries_per_stretch: 6,
        held: 5,
        held_per_eid: 2,
        hold: 2 * SECOND,
        keep: 30 * SECOND,
    }
}

fn miss(source: &str, eid: &str) -> Miss {
    Miss {
        instance: InstanceId::default(),
        source: rloc(source),
        eid: rloc(eid),
    }
}

fn limited(misses: &Misses<u32>, limit: Limit) -> u64 {
    let mut all = misses.counters().limited();
    all.find(|(found, _)| *found == limit)
        .map_or(0, |(_, count)| count)
}

fn eids(misses: &Misses<u32>) -> Vec<String> {
    misses
        .recent()
        .map(|recent| recent.eid.to_string())
        .collect()
}

#[test]
fn packets_wait_and_go_on_in_the_order_they_came() {
    let mut misses = Misses::new(small());
    let now = Instant::now();
    assert!(
        misses
            .note(now, miss("10.0.0.1", "10.9.0.1"), Some(1))
            .is_new
    );
    assert!(
        misses
            .note(now, miss("10.0.0.1", "10.9.0.2"), Some(2))
            .is_new
    );
    let again = misses.note(now, miss("10.0.0.2", "10.9.0.1"), Some(3));
    assert!(!again.is_new && again.refused.is_none());
    misses.note(now, miss("10.0.0.1", "10.8.0.1"), Some(4));
    assert_eq!(misses.held(), 4);
    let mut other = key(0, "10.9.0.0/16");
    other.instance = InstanceId::new(1).unwrap();
    assert_eq!(misses.resolved(other), [0_u32; 0], "of another instance");
    assert_eq!(misses.resolved(key(0, "10.9.0.0/16")), [1, 2, 3]);
    assert_eq!(eids(&misses), ["10.8.0.1"]);
    assert_eq!((misses.held(), misses.counters().released), (1, 3));
}

#[test]
fn packets_wait_two_seconds_at_most() {
    let mut misses = Misses::new(small());
    let start = Instant::now();
    misses.note(start, miss("10.0.0.1", "10.9.0.1"), Some(1));
    misses.note(start + SECOND, miss("10.0.0.1", "10.9.0.1"), Some(2));
    assert_eq!(misses.poll_timeout(), Some(start + 2 * SECOND));
    assert_eq!(
        misses.handle_timeout(start + 2 * SECOND - Duration::from_nanos(1)),
        [0; 0]
    );
    assert_eq!(misses.handle_timeout(start + 2 * SECOND), [1]);
    assert_eq!(misses.poll_timeout(), Some(start + 3 * SECOND));
    assert_eq!(misses.handle_timeout(start + 3 * SECOND), [2]);
    assert_eq!(misses.len(), 1, "the EID is still remembered");
    assert_eq!(misses.poll_timeout(), Some(start + 31 * SECOND));
    assert_eq!(misses.handle_timeout(start + 31 * SECOND), [0; 0]);
    assert!(misses.is_empty());
    assert_eq!(misses.poll_timeout(), None);
    assert_eq!(misses.counters().expired, 2);
}

/// C-02: bounded for each EID and in total.
#[test]
fn no_more_packets_wait_than_may() {
    let mut misses = Misses::new(small());
    let now = Instant::now();
    for packet in 0..2 {
        assert_eq!(
            misses
                .note(now, miss("10.0.0.1", "10.9.0.1"), Some(packet))
                .refused,
            None
        );
    }
    let refused = misses
        .note(now, miss("10.0.0.1", "10.9.0.1"), Some(9))
        .refused;
    assert_eq!(refused, Some((9, Limit::HeldForEid)));
    for packet in 0..3 {
        let eid = format!("10.9.1.{packet}");
        assert_eq!(
            misses
                .note(now, miss("10.0.0.2", &eid), Some(packet))
                .refused,
            None
        );
    }
    let refused = misses
        .note(now, miss("10.0.0.3", "10.9.2.1"), Some(9))
        .refused;
    assert_eq!(refused, Some((9, Limit::Held)));
    assert_eq!(misses.held(), 5);
    // Without a packet there is nothing to refuse.
    assert_eq!(
        misses.note(now, miss("10.0.0.1", "10.9.0.1"), None).refused,
        None
    );
}

/// C-13: whoever scans fills the share of one source, and others are answered as before.
#[test]
fn a_scan_costs_other_sources_nothing() {
    let mut misses = Misses::new(small());
    let now = Instant::now();
    for host in 0..200 {
        misses.note(
            now,
            miss("2001:db8:1::5", &format!("2001:db8:{host:x}::1")),
            Some(host),
        );
    }
    // Another address of the same link is the same source.
    let refused = misses.note(now, miss("2001:db8:1::6", "2001:db8:ffff::1"), Some(7));
    assert_eq!(refused.refused, Some((7, Limit::Source)));
    assert!(!refused.is_new, "nobody is asked for it");
    assert_eq!(misses.len(), 4);
    assert_eq!(limited(&misses, Limit::Source), 197);
    assert!(
        misses
            .note(now, miss("2001:db8:2::5", "2001:db8:9::1"), None)
            .is_new
    );
}

#[test]
fn many_sources_cannot_fill_it_with_one_prefix() {
    let mut misses = Misses::new(small());
    let now = Instant::now();
    for host in 0..20 {
        misses.note(
            now,
            miss(&format!("10.0.0.{host}"), &format!("10.9.0.{host}")),
            None,
        );
    }
    assert_eq!(misses.len(), 6);
    assert_eq!(limited(&misses, Limit::Stretch), 14);
    assert!(misses.note(now, miss("10.0.0.1", "10.9.1.1"), None).is_new);
}

#[test]
fn the_longest_unused_makes_room_and_the_busy_stay() {
    let mut misses = Misses::new(small());
    let start = Instant::now();
    for number in 0..8_u32 {
        let now = start + SECOND * number;
        misses.note(
            now,
            miss(&format!("10.0.0.{number}"), &format!("10.{number}.0.1")),
            None,
        );
    }
    // The first is asked for again, the second has a packet that waits.
    let now = start + 8 * SECOND;
    misses.note(now, miss("10.0.0.0", "10.0.0.1"), None);
    misses.note(start + SECOND, miss("10.0.0.1", "10.1.0.1"), Some(1));
    assert!(misses.note(now, miss("10.0.1.1", "10.9.0.1"), None).is_new);
    let kept = eids(&misses);
    assert_eq!(kept.len(), 8);
    assert!(kept.contains(&"10.0.0.1".to_owned()) && kept.contains(&"10.1.0.1".to_owned()));
    assert!(!kept.contains(&"10.2.0.1".to_owned()), "{kept:?}");
}

#[test]
fn nothing_makes_room_while_packets_wait_everywhere() {
    let limits = Limits {
        entries: 2,
        ..small()
    };
    let mut misses = Misses::new(limits);
    let now = Instant::now();
    misses.note(now, miss("10.0.0.1", "10.1.0.1"), Some(1));
    misses.note(now, miss("10.0.0.2", "10.2.0.1"), Some(2));
    let refused = misses
        .note(now, miss("10.0.0.3", "10.3.0.1"), Some(3))
        .refused;
    assert_eq!(refused, Some((3, Limit::Entries)));
}

#[test]
fn latest_misses_are_shown_first() {
    let mut misses = Misses::new(small());
    let start = Instant::now();
    misses.note(start, miss("10.0.0.1", "10.1.0.1"), None);
    misses.note(start + SECOND, miss("10.0.0.1", "10.2.0.1"), None);
    misses.note(start + 2 * SECOND, miss("10.0.0.9", "10.1.0.1"), Some(1));
    let first = misses.recent().next().unwrap();
    assert_eq!(first.eid, rloc("10.1.0.1"));
    assert_eq!(first.source, rloc("10.0.0.1"), "who asked first");
    assert_eq!((first.count, first.held), (2, 1));
    assert_eq!((first.first, first.last), (start, start + 2 * SECOND));
}

proptest! {
    /// Whatever comes: every bound holds, and every packet comes back exactly once.
    #[test]
    fn bounds_hold_and_no_packet_is_lost(
        steps in prop::collection::vec((0_u8..5, 0_u8..6, 0_u8..4, 0_u8..3, 0_u64..1500), 0..200),
    ) {
        let limits = small();
        let mut misses = Misses::new(limits);
        let mut now = Instant::now();
        let mut given = Vec::new();
        let mut back = Vec::new();
        for (number, (what, source, net, host, pause)) in (0..).zip(steps) {
            now += Duration::from_millis(pause);
            match what {
                0 => back.extend(misses.resolved(key(0, &format!("10.{net}.0.0/16")))),
                1 => back.extend(misses.handle_timeout(now)),
                _ => {
                    let packet = (what > 2).then_some(number);
                    given.extend(packet);
                    let miss = miss(&format!("10.0.0.{source}"), &format!("10.{net}.0.{host}"));
                    back.extend(misses.note(now, miss, packet).refused.map(|(packet, _)| packet));
                }
            }
            prop_assert!(misses.len() <= limits.entries && misses.held() <= limits.held);
            let all: Vec<_> = misses.recent().collect();
            prop_assert_eq!(all.len(), misses.len());
            prop_assert_eq!(all.iter().map(|recent| recent.held).sum::<usize>(), misses.held());
            prop_assert!(all.iter().all(|recent| recent.held <= limits.held_per_eid));
            for source in all.iter().map(|recent| recent.source) {
                let entries = all.iter().filter(|recent| recent.source == source).count();
                prop_assert!(entries <= limits.entries_per_source);
            }
        }
        back.extend(misses.handle_timeout(now + limits.hold));
        back.sort_unstable();
        prop_assert_eq!(back, given);
        let _ = misses.handle_timeout(now + limits.keep);
        prop_assert!(misses.is_empty() && misses.poll_timeout().is_none());
    }
}
