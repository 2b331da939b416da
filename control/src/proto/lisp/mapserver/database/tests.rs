//! The registrations beside a plain map, through random registrations, withdrawals and time.

use std::collections::BTreeSet;

use super::*;
use crate::proto::lisp::Locator;

fn locators(rng: &mut fastrand::Rng) -> Box<[LocatorRecord]> {
    let count = rng.u8(1..3);
    let rloc = |_| {
        let address = IpAddr::V4([192, 0, 2, rng.u8(1..5)].into());
        LocatorRecord::new(Locator::new(address))
    };
    (0..count).map(rloc).collect()
}

fn key(rng: &mut fastrand::Rng) -> EidKey {
    let address = IpAddr::V4([10, rng.u8(..) & 0x81, rng.u8(..) & 0x80, 0].into());
    let eid = IpNet::new(address, rng.u8(8..25)).unwrap().trunc();
    let instance = InstanceId::new(rng.u32(0..2)).unwrap();
    EidKey { instance, eid }
}

fn etr(number: u32) -> Etr {
    Etr {
        site: number % 2,
        who: Who::Xtr(number.into()),
        address: IpAddr::V4([192, 0, 2, 1].into()),
        key_id: 0,
        algorithm_id: 2,
        mac_len: 16,
        uses: 0,
    }
}

#[test]
fn agrees_with_a_plain_map() {
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut database = Database::new(1);
        // Newest first: ETR number, expiry.
        let mut model: BTreeMap<EidKey, Vec<(u32, Seconds)>> = BTreeMap::new();
        let mut now = 0;
        for _ in 0..1500 {
            let number = rng.u32(0..4);
            let id = database.note_etr(etr(number));
            // What one message says: it may take back all its ETR has, and register the next.
            for _ in 0..rng.u8(1..4) {
                let key = key(&mut rng);
                match rng.u8(0..10) {
                    0 => {
                        let had = model
                            .get(&key)
                            .is_some_and(|known| known.iter().any(|one| one.0 == number));
                        assert_eq!(database.withdraw(key, id), had);
                        if let Some(known) = model.get_mut(&key) {
                            known.retain(|one| one.0 != number);
                        }
                    }
                    1 => {
                        now += rng.u32(0..120);
                        let before: usize = model.values().map(Vec::len).sum();
                        for known in model.values_mut() {
                            known.retain(|one| one.1 > now);
                        }
                        let after: usize = model.values().map(Vec::len).sum();
                        assert_eq!(database.expire(now), (before - after) as u64);
                    }
                    _ => {
                        let expires = now + rng.u32(1..300);
                        let registration = Registration {
                            locators: locators(&mut rng),
                            etr: id,
                            expires,
                            ttl_minutes: 1,
                            map_version: 0,
                            proxy_reply: false,
                            merge: false,
                        };
                        let outcome = database.register(key, registration, 60);
                        if outcome == Outcome::Full {
                            assert!(model.len() >= 60 && !model.contains_key(&key));
                        } else {
                            let known = model.entry(key).or_default();
                            known.retain(|one| one.0 != number);
                            known.insert(0, (number, expires));
                        }
                    }
                }
                model.retain(|_, known| !known.is_empty());
            }
            database.release_etr(id);
            assert_eq!(database.len(), model.len());
            let registered: BTreeSet<EidKey> = database.entries().map(|entry| entry.key).collect();
            assert!(registered.iter().eq(model.keys()));
            for entry in database.entries() {
                let numbers: Vec<(u32, Seconds)> = entry
                    .registrations()
                    .map(|one| {
                        let Who::Xtr(number) = database.etr(one.etr).unwrap().who else {
                            panic!("named by xTR-ID")
                        };
                        (u32::try_from(number).unwrap(), one.expires)
                    })
                    .collect();
                assert_eq!(numbers, model[&entry.key]);
            }
            let earliest = model.values().flatten().map(|one| one.1).min();
            assert!(database.next_expiry() <= earliest || earliest.is_none());
            let asked = host(super::tests::key(&mut rng));
            let longest = model
                .keys()
                .filter(|known| known.instance == asked.instance && known.eid.contains(&asked.eid));
            let longest = longest.max_by_key(|known| known.eid.prefix_len());
            assert_eq!(
                database.lookup(asked).map(|entry| entry.key),
                longest.copied()
            );
        }
        // All of it runs out, and nothing is left behind.
        database.expire(Seconds::MAX);
        assert_eq!(database.len(), 0);
        assert!(database.tries.is_empty() && database.timetable.is_empty());
        assert!(database.etr_ids.is_empty());
    }
}

#[test]
fn a_registration_and_an_entry_stay_small() {
    assert!(size_of::<Registration>() <= 32);
    assert!(size_of::<Option<Entry>>() <= 96);
}
