//! A machine's registrations given to another one.

use super::*;

/// Everything, some places at a time.
fn save(machine: &Machine, places: usize) -> Vec<u8> {
    let (mut bytes, mut next) = (Vec::new(), Some(0));
    while let Some(first) = next {
        next = machine.save(first, places, &mut bytes);
    }
    bytes
}

/// Registrations of both sites and families, merged ones and one that is at two ETRs.
fn filled() -> Bench {
    let mut bench = Bench::new(settings());
    let mut first = Router::new(ETR_A, "first").with_id(1);
    bench.register(
        &mut first,
        &[record(key(7, "10.1.2.0/24"), &["192.0.2.1", "2001:db8::1"])],
    );
    bench.pass(50);
    let mut other = Router::new("192.0.2.9:4342", "first");
    other.flags.merge = true;
    other.flags.proxy_reply = false;
    bench.register(&mut other, &[record(key(7, "10.1.2.0/24"), &["192.0.2.9"])]);
    first.flags.use_ttl = true;
    bench.register(
        &mut first,
        &[record(key(0, "2001:db8:100:1::/64"), &["192.0.2.1"])],
    );
    let mut second = Router::new(ETR_B, "second");
    let hosts = (1..=20).map(|host| {
        let eid = format!("2001:db8:120::{host:x}/128");
        record(key(0, &eid), &["192.0.2.2"])
    });
    bench.register(&mut second, &hosts.collect::<Vec<_>>());
    bench
}

fn sorted(bench: &Bench) -> Vec<Registered> {
    let mut all: Vec<Registered> = bench.machine.registered(bench.now).collect();
    // Stable: of one EID, the newest stays in front.
    all.sort_by_key(|one| one.key);
    all
}

#[test]
fn what_is_saved_is_restored_for_the_rest_of_its_time() {
    let before = filled();
    for places in [1, 3, 1000] {
        for passed in [0, 60, 125, 131, 200] {
            let mut after = Bench::new(settings());
            after.now += Duration::from_secs(1000);
            let elapsed = u64::from(before.machine.clock(before.now)) + passed;
            let bytes = save(&before.machine, places);
            let restored = after.machine.restore(after.now, elapsed, &bytes).unwrap();
            let expected: Vec<Registered> = sorted(&before)
                .into_iter()
                .filter(|one| u64::from(one.expires_s) > passed)
                .map(|one| Registered {
                    expires_s: one.expires_s - u32::try_from(passed).unwrap(),
                    ..one
                })
                .collect();
            assert_eq!(sorted(&after), expected, "{passed} s later");
            assert_eq!(restored.restored, expected.len() as u64);
            assert_eq!(restored.expired, (23 - expected.len()) as u64);
            assert_eq!(restored.refused, 0);
        }
    }
}

/// The old ETR is told of a move, with the secret it registered with, by a server that never heard it.
#[test]
fn a_restored_etr_is_known_as_before() {
    let before = filled();
    let mut after = Bench::new(settings());
    let bytes = save(&before.machine, 1000);
    let elapsed = u64::from(before.machine.clock(before.now));
    after.machine.restore(after.now, elapsed, &bytes).unwrap();
    assert_eq!(
        after.ask(0, "2001:db8:100:1::5")[0].locators[0].rloc,
        ip("192.0.2.1")
    );
    // The router's next registration is a refresh and not a move.
    let mut first = Router::new(ETR_A, "first").with_id(1);
    first.nonce = 1000;
    assert!(
        after
            .register(
                &mut first,
                &[record(key(0, "2001:db8:100:1::/64"), &["192.0.2.1"])]
            )
            .is_empty()
    );
    assert_eq!(after.count(Counter::Moves), 0);
    let mut other = Router::new("192.0.2.77:4342", "first").with_id(9);
    let sent = after.register(
        &mut other,
        &[record(key(0, "2001:db8:100:1::/64"), &["192.0.2.77"])],
    );
    let [(to, notify)] = sent.as_slice() else {
        panic!("the old ETR is told: {sent:?}")
    };
    assert_eq!(to.to_string(), ETR_A);
    let Ok(Message::Notify(notify)) = parse(notify) else {
        panic!("a Map-Notify")
    };
    assert_eq!(notify.body.key_id, 1);
}

#[test]
fn what_is_not_allowed_any_more_is_not_restored() {
    let before = filled();
    let mut fewer = settings();
    fewer.sites.truncate(1);
    let mut after = Bench::new(fewer);
    let bytes = save(&before.machine, 1000);
    let restored = after.machine.restore(after.now, 0, &bytes).unwrap();
    assert_eq!((restored.restored, restored.refused), (3, 20));
    let small = Settings {
        registrations_max: 5,
        ..settings()
    };
    let mut after = Bench::new(small);
    let restored = after.machine.restore(after.now, 0, &bytes).unwrap();
    assert_eq!(after.machine.registrations(), 5);
    assert_eq!(restored.restored + restored.refused, 23);
}

/// A clock that was set back gives nobody more time than registering now would.
#[test]
fn no_registration_lasts_longer_than_a_new_one() {
    let mut before = filled();
    before.machine.start -= Duration::from_secs(100_000);
    let mut router = Router::new(ETR_A, "first").with_id(1);
    router.nonce = 500;
    let kept = key(7, "10.1.3.0/24");
    before.register(&mut router, &[record(kept, &["192.0.2.1"])]);
    let mut after = Bench::new(settings());
    let bytes = save(&before.machine, 1000);
    after.machine.restore(after.now, 0, &bytes).unwrap();
    let mut registered = after.machine.registered(after.now);
    let longest = registered.find(|one| one.key == kept).unwrap().expires_s;
    // By its TTL it could be a day.
    assert!(longest <= 86_401, "{longest}");
}

#[test]
fn bytes_that_end_anywhere_or_are_others_do_no_harm() {
    let before = filled();
    let bytes = save(&before.machine, 1000);
    let mut whole = 0;
    for end in 0..=bytes.len() {
        let mut after = Bench::new(settings());
        if let Ok(restored) = after.machine.restore(after.now, 0, &bytes[..end]) {
            // Between two of them.
            assert_eq!(restored.restored, whole);
            whole += 1;
        }
    }
    assert_eq!(whole, 24);
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let mut damaged = bytes.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..damaged.len());
            damaged[at] = rng.u8(..);
        }
        let mut after = Bench::new(settings());
        let _ = after.machine.restore(after.now, rng.u64(..300), &damaged);
        assert!(after.machine.registrations() <= 23);
    }
}
