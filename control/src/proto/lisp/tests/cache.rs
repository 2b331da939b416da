//! The map-cache: what is in force, and what it counts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn native() -> Mapping {
    Mapping::Negative(Action::Native)
}

#[test]
fn added_mapping_comes_before_the_configured_one_until_it_is_deleted() {
    let mut cache = MapCache::new();
    let eid = key(7, "2001:db8:b::/48");
    assert_eq!(cache.configure([(eid, native())]), [eid]);
    assert_eq!(cache.delete(eid), Deleted::OnlyStatic);
    assert!(cache.add(eid, locators(&[(1, 100)])));
    let entry = cache.entry(eid).unwrap();
    assert_eq!(
        (entry.origin, entry.mapping),
        (Origin::Admin, &locators(&[(1, 100)]))
    );
    assert_eq!((cache.len(), cache.added()), (1, 1));
    // A reload changes what is underneath.
    let drop = Mapping::Negative(Action::Drop);
    assert_eq!(cache.configure([(eid, drop.clone())]), []);
    assert_eq!(cache.delete(eid), Deleted::Yes);
    let entry = cache.entry(eid).unwrap();
    assert_eq!((entry.origin, entry.mapping), (Origin::Static, &drop));
    assert_eq!(cache.configure([]), [eid]);
    assert!(cache.is_empty());
    assert_eq!(cache.delete(eid), Deleted::Unknown);
}

#[test]
fn what_was_learned_comes_behind_what_the_operator_says() {
    let mut cache = MapCache::new();
    let eid = key(7, "2001:db8:b::/48");
    let now = Instant::now();
    let origin = |cache: &MapCache| cache.entry(eid).map(|entry| (entry.origin, entry.expires));
    let soon = now + Duration::from_secs(60);
    assert!(cache.learn(eid, locators(&[(1, 100)]), soon));
    assert_eq!(origin(&cache), Some((Origin::Learned, Some(soon))));
    assert_eq!(cache.users(rloc("2001:db8::1")), 1);
    assert_eq!(cache.delete(eid), Deleted::OnlyLearned);
    // The same for longer is nothing new to packets.
    let later = now + Duration::from_secs(120);
    assert!(!cache.learn(eid, locators(&[(1, 100)]), later));
    assert_eq!(origin(&cache), Some((Origin::Learned, Some(later))));
    assert_eq!(cache.configure([(eid, native())]), [eid]);
    assert_eq!(origin(&cache), Some((Origin::Static, None)));
    assert!(cache.add(eid, locators(&[(2, 1)])));
    assert!(!cache.learn(eid, locators(&[(3, 1), (3, 2)]), later));
    assert_eq!(origin(&cache), Some((Origin::Admin, None)));
    assert_eq!(
        cache.users(rloc("2001:db8::2")),
        0,
        "it is in force nowhere"
    );
    assert_eq!(cache.delete(eid), Deleted::Yes);
    assert_eq!(cache.configure([]), [eid]);
    assert_eq!(origin(&cache), Some((Origin::Learned, Some(later))));
    assert_eq!(cache.users(rloc("2001:db8::2")), 1);
    assert_eq!(cache.learned().count(), 1);
    assert!(cache.unlearn(eid));
    assert!(cache.is_empty() && cache.rlocs().next().is_none());
    assert!(!cache.unlearn(eid), "there is nothing");
}

#[test]
fn reload_keeps_what_was_added_and_names_only_what_changed() {
    let mut cache = MapCache::new();
    let (a, b, c, d) = (
        key(0, "2001:db8:a::/48"),
        key(0, "2001:db8:b::/48"),
        key(0, "10.0.0.0/8"),
        key(1, "2001:db8:a::/48"),
    );
    cache.configure([(a, native()), (b, native())]);
    cache.add(d, native());
    let two = locators(&[(1, 1), (1, 2)]);
    let changed = cache.configure([(a, native()), (c, two)]);
    assert_eq!(changed, [b, c]);
    let keys: Vec<EidKey> = cache.entries().map(|entry| entry.key).collect();
    assert_eq!(keys, [c, a, d]);
    let rest: Vec<EidKey> = cache
        .entries_from(Bound::Excluded(c))
        .map(|entry| entry.key)
        .collect();
    assert_eq!(rest, [a, d]);
    let rlocs: Vec<_> = cache.rlocs().collect();
    assert_eq!(rlocs, [(rloc("2001:db8::1"), 1), (rloc("2001:db8::2"), 1)]);
}

#[test]
fn use_is_asked_of_a_few_at_a_time_round_and_round() {
    let mut cache = MapCache::new();
    let eids: Vec<EidKey> = (0..5).map(|n| key(0, &format!("10.{n}.0.0/16"))).collect();
    for eid in &eids {
        cache.add(*eid, native());
    }
    let start = Instant::now();
    let mut asked = Vec::new();
    for round in 0..4 {
        let now = start + Duration::from_secs(round);
        cache.note_use(now, 2, |key, _| {
            asked.push(key);
            key == eids[0]
        });
    }
    let expected: Vec<EidKey> = [0, 1, 2, 3, 4, 0, 1].iter().map(|n| eids[*n]).collect();
    assert_eq!(asked, expected);
    let used = |cache: &MapCache, key| cache.entry(key).unwrap().used;
    assert_eq!(used(&cache, eids[0]), Some(start + Duration::from_secs(3)));
    assert_eq!(used(&cache, eids[1]), None);
    cache.note_use_of(start, eids[1], |_| true);
    assert_eq!(used(&cache, eids[1]), Some(start));
}

#[test]
fn locators_are_out_of_use_until_they_are_back() {
    let mut cache = MapCache::new();
    let address = rloc("2001:db8::1");
    assert!(cache.is_up(address));
    assert!(cache.set_rloc(address, false));
    assert!(!cache.set_rloc(address, false), "nothing new");
    assert!(!cache.is_up(address));
    assert_eq!(cache.down().collect::<Vec<_>>(), [address]);
    assert!(cache.set_rloc(address, true));
    assert!(cache.is_up(address));
}

proptest! {
    /// The cache agrees with two plain maps, whatever happens in whatever order.
    #[test]
    fn agrees_with_two_plain_maps(steps in prop::collection::vec((0_u8..4, 0_u32..4, 1_u8..4), 0..60)) {
        let mut cache = MapCache::new();
        let (mut configured, mut added) = (BTreeMap::new(), BTreeMap::new());
        for (what, number, weight) in steps {
            let eid = key(number % 2, &format!("10.{number}.0.0/16"));
            let mapping = locators(&[(1, weight), (1, 1)][..usize::from(weight).min(2)]);
            let force = |configured: &BTreeMap<EidKey, Mapping>, added: &BTreeMap<EidKey, Mapping>, key: EidKey| {
                added.get(&key).or(configured.get(&key)).cloned()
            };
            let before = force(&configured, &added, eid);
            match what {
                0 => {
                    let changed = cache.add(eid, mapping.clone());
                    added.insert(eid, mapping);
                    prop_assert_eq!(changed, before != force(&configured, &added, eid));
                }
                1 => {
                    let expected = match (added.remove(&eid), configured.get(&eid)) {
                        (Some(_), _) => Deleted::Yes,
                        (None, Some(_)) => Deleted::OnlyStatic,
                        (None, None) => Deleted::Unknown,
                    };
                    prop_assert_eq!(cache.delete(eid), expected);
                }
                2 => {
                    configured.insert(eid, mapping);
                    let _ = cache.configure(configured.clone());
                }
                _ => {
                    configured.remove(&eid);
                    let _ = cache.configure(configured.clone());
                }
            }
            let mut expected = configured.clone();
            expected.extend(added.clone());
            let found: BTreeMap<EidKey, Mapping> =
                cache.entries().map(|entry| (entry.key, entry.mapping.clone())).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(cache.added(), added.len());
            let of_instance = expected.keys().filter(|other| other.instance == eid.instance);
            prop_assert_eq!(cache.len_of(eid.instance), of_instance.count());
            let address = key(number % 2, &format!("10.{number}.0.9/32"));
            let around = expected.keys().rev().find(|around| {
                around.instance == address.instance && around.eid.contains(&address.eid)
            });
            prop_assert_eq!(cache.lookup(address).map(|entry| entry.key), around.copied());
            let mut users = BTreeMap::new();
            for locator in expected.values().flat_map(Mapping::locators) {
                *users.entry(locator.rloc).or_insert(0) += 1;
            }
            prop_assert_eq!(cache.rlocs().collect::<BTreeMap<_, _>>(), users);
        }
    }
}
