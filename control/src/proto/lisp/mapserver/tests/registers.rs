//! Map-Register, Map-Notify, Map-Notify-Ack.

use super::*;

fn accepted(bench: &Bench) -> u64 {
    bench.count(Counter::RecordAccepted)
}

/// of the requirements: every algorithm, each length it has, each key.
#[test]
fn every_algorithm_and_key_registers() {
    for algorithm in Algorithm::ALL {
        for mac_len in [algorithm.mac_len(), algorithm.full_mac_len()] {
            for (key_id, name) in [(1, "first"), (2, "first two")] {
                let mut bench = Bench::new(settings());
                let mut router = Router {
                    key_id,
                    algorithm,
                    mac_len,
                    ..Router::new(ETR_A, name)
                };
                bench.register(
                    &mut router,
                    &[record(key(0, "10.1.0.0/16"), &["192.0.2.1"])],
                );
                assert_eq!(accepted(&bench), 1, "{algorithm:?} {mac_len} {key_id}");
            }
        }
    }
}

/// nothing of what is not authentic counts, and each cause has its counter.
#[test]
fn what_is_not_authentic_changes_nothing() {
    let eid = [record(key(0, "2001:db8:120::/48"), &["192.0.2.1"])];
    let good = Router::new(ETR_A, "second");
    let wrong = [
        (
            Router {
                secret: secret("secone"),
                ..good.clone()
            },
            Counter::DropAuthMac,
        ),
        (
            Router {
                key_id: 2,
                ..good.clone()
            },
            Counter::DropAuthKey,
        ),
        // This site does not allow SHA-1.
        (
            Router {
                algorithm: Algorithm::HmacSha1,
                mac_len: 12,
                ..good.clone()
            },
            Counter::DropAuthAlgorithm,
        ),
        (Router::new(ETR_A, "first"), Counter::DropAuthMac),
    ];
    for (mut router, counter) in wrong {
        let mut bench = Bench::new(settings());
        router.flags.want_notify = true;
        assert_eq!(bench.register(&mut router, &eid), []);
        assert_eq!(bench.count(counter), 1);
        assert_eq!(bench.machine.registrations(), 0);
        assert_eq!(bench.machine.nonces().count(), 0);
    }
    let mut bench = Bench::new(settings());
    let mut elsewhere = Router::new(ETR_A, "second");
    bench.register(
        &mut elsewhere,
        &[record(key(0, "2001:db9::/48"), &["192.0.2.1"])],
    );
    assert_eq!(bench.count(Counter::DropRegisterUnknown), 1);
    bench.register(&mut elsewhere, &[]);
    assert_eq!(bench.count(Counter::DropRegisterEmpty), 1);
}

/// nonces rise for each router and key, and those that were saved count.
#[test]
fn an_old_nonce_is_a_replay() {
    let mut bench = Bench::new(settings());
    let eid = [record(key(0, "10.1.0.0/16"), &["192.0.2.1"])];
    let mut one = Router::new(ETR_A, "first").with_id(1);
    let mut two = Router::new(ETR_A, "first").with_id(2);
    let old = one.message(&eid);
    bench.register(&mut one, &eid);
    assert_eq!(accepted(&bench), 1);
    assert_eq!(bench.give(one.from, &old), []);
    assert_eq!(bench.count(Counter::DropReplay), 1);
    // Another router counts for itself, another key too.
    bench.register(&mut two, &eid);
    let mut other_key = Router {
        key_id: 2,
        nonce: 0,
        ..Router::new(ETR_A, "first two").with_id(1)
    };
    bench.register(&mut other_key, &eid);
    assert_eq!(accepted(&bench), 3);

    let saved: Vec<SavedNonce> = bench.machine.nonces().collect();
    assert_eq!(saved.len(), 3);
    let mut restarted = Bench::new(settings());
    for nonce in &saved {
        restarted.machine.restore_nonce(nonce);
    }
    let last = Router {
        nonce: one.nonce - 1,
        ..one.clone()
    }
    .message(&eid);
    restarted.give(one.from, &last);
    assert_eq!(restarted.count(Counter::DropReplay), 1);
    restarted.register(&mut one, &eid);
    assert_eq!(accepted(&restarted), 1);
}

/// loosened by the operator only.
#[test]
fn a_site_may_go_without_rising_nonces() {
    let mut settings = settings();
    settings.sites[0].check_nonce = false;
    let mut bench = Bench::new(settings);
    let mut router = Router::new(ETR_A, "first");
    let bytes = router.message(&[record(key(0, "10.1.0.0/16"), &["192.0.2.1"])]);
    bench.give(router.from, &bytes);
    bench.give(router.from, &bytes);
    assert_eq!(accepted(&bench), 2);
    assert_eq!(bench.machine.nonces().count(), 0);
}

/// an ETR that missed its Map-Notify sends the same Map-Register again.
#[test]
fn the_last_register_again_is_notified_again_and_changes_nothing() {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    router.flags.want_notify = true;
    let bytes = router.message(&[record(key(0, "10.1.0.0/16"), &["192.0.2.1"])]);
    let first = bench.give(router.from, &bytes);
    assert_eq!(first.len(), 1);
    bench.pass(170);
    assert_eq!(bench.give(router.from, &bytes), first);
    assert_eq!(bench.count(Counter::RegisterRepeated), 1);
    assert_eq!(accepted(&bench), 1);
    bench.pass(11);
    assert_eq!(bench.machine.registrations(), 0, "it was not refreshed");
}

/// Whoever overheard the last Map-Register and sends it from elsewhere does not become the ETR.
#[test]
fn the_last_register_again_from_elsewhere_moves_nothing() {
    for identity in [None, Some(5)] {
        let mut bench = Bench::new(settings());
        let mut router = Router::new(ETR_A, "first");
        if let Some(xtr_id) = identity {
            router = router.with_id(xtr_id);
        }
        router.flags.proxy_reply = false;
        let bytes = router.message(&[record(key(0, "10.1.0.0/16"), &["192.0.2.1"])]);
        bench.give(router.from, &bytes);
        bench.give(ETR_B.parse().unwrap(), &bytes);
        assert_eq!(bench.count(Counter::RegisterRepeated), 1);
        let sent = bench.give(ITR.parse().unwrap(), &question(0, "10.1.2.3"));
        assert_eq!(sent[0].0.to_string(), ETR_A);
        assert_eq!(bench.machine.registered(bench.now).count(), 1);
    }
}

/// record by record; what lies in another site's longer prefix is the other's.
#[test]
fn only_what_a_site_may_register_is_taken() {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    let records = [
        ("2001:db8:100::/40", true),
        ("2001:db8:101::/48", true),
        ("2001:db8:120::/48", false),
        ("2001:db8:120:1::/64", false),
        ("2001:db8::/32", false),
        ("10.1.0.0/16", true),
        ("10.1.1.0/24", false),
        ("10.2.0.0/16", false),
    ];
    let all: Vec<Record> = records
        .iter()
        .map(|(eid, _)| record(key(0, eid), &["192.0.2.1"]))
        .collect();
    router.flags.want_notify = true;
    let sent = bench.register(&mut router, &all);
    let taken: Vec<EidKey> = records
        .iter()
        .filter(|(_, taken)| *taken)
        .map(|(eid, _)| key(0, eid))
        .collect();
    let registered = bench.machine.registered(bench.now);
    let mut registered: Vec<EidKey> = registered.map(|one| one.key).collect();
    registered.sort_unstable();
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    assert_eq!(registered, sorted);
    assert_eq!(bench.count(Counter::RecordRefused), 5);
    // The Map-Notify says what was taken.
    let Ok(Message::Notify(notify)) = parse(&sent[0].1) else {
        panic!("a Map-Notify")
    };
    assert_eq!(
        notify
            .body
            .records
            .iter()
            .map(|r| r.key)
            .collect::<Vec<_>>(),
        taken
    );
    // Instances are apart.
    let in_7 = record(key(7, "10.1.2.3/32"), &["192.0.2.1"]);
    bench.register(&mut router, &[all[0].clone(), in_7]);
    assert_eq!(bench.machine.registrations(), 4);
}

/// A router whose message takes back all it has, and registers something else, keeps its name: it was given to the next
/// router once, of whatever site, with the registration.
#[test]
fn a_router_that_withdraws_all_and_registers_more_in_one_message_stays_itself() {
    let mut bench = Bench::new(settings());
    let mut first = Router::new(ETR_A, "first");
    let mut second = Router::new(ETR_B, "second");
    let held = record(key(7, "10.1.2.0/24"), &["192.0.2.1"]);
    let next = record(key(7, "10.1.3.0/24"), &["192.0.2.1"]);
    bench.register(&mut first, std::slice::from_ref(&held));
    let gone = Record {
        ttl_minutes: 0,
        ..held
    };
    bench.register(&mut first, &[gone, next]);
    let other = record(key(0, "2001:db8:120::/48"), &["192.0.2.2"]);
    bench.register(&mut second, &[other]);
    let registered = bench.machine.registered(bench.now);
    let mut sites: Vec<_> = registered
        .map(|one| (one.key.eid.to_string(), one.site))
        .collect();
    sites.sort_unstable();
    let expected = [("10.1.3.0/24", "first"), ("2001:db8:120::/48", "second")];
    assert!(
        sites
            .iter()
            .map(|(eid, site)| (eid.as_str(), site.as_str()))
            .eq(expected)
    );
}

/// 180 s, or the record's TTL with the T-bit.
#[test]
fn registrations_run_out() {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    let eid = record(key(0, "10.1.0.0/16"), &["192.0.2.1"]);
    bench.register(&mut router, std::slice::from_ref(&eid));
    bench.pass(179);
    assert_eq!(bench.machine.registrations(), 1);
    bench.register(&mut router, std::slice::from_ref(&eid));
    bench.pass(179);
    assert_eq!(bench.machine.registrations(), 1);
    bench.pass(2);
    assert_eq!(bench.machine.registrations(), 0);
    assert_eq!(bench.count(Counter::Expired), 1);
    router.flags.use_ttl = true;
    let short = Record {
        ttl_minutes: 1,
        ..eid.clone()
    };
    bench.register(&mut router, &[short]);
    bench.pass(59);
    assert_eq!(bench.machine.registrations(), 1);
    bench.pass(3);
    assert_eq!(bench.machine.registrations(), 0);
    let long = Record {
        ttl_minutes: 10,
        ..eid
    };
    bench.register(&mut router, &[long]);
    bench.pass(590);
    assert_eq!(bench.machine.registrations(), 1);
    bench.pass(12);
    assert_eq!(bench.machine.registrations(), 0);
    assert_eq!(bench.machine.poll_timeout(), None);
}

/// deployed routers withdraw so.
#[test]
fn ttl_0_or_no_locator_withdraws() {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    let eid = record(key(0, "10.1.0.0/16"), &["192.0.2.1"]);
    let gone = [
        Record {
            ttl_minutes: 0,
            ..eid.clone()
        },
        Record {
            locators: Vec::new(),
            ..eid.clone()
        },
    ];
    for gone in gone {
        bench.register(&mut router, std::slice::from_ref(&eid));
        assert_eq!(bench.machine.registrations(), 1);
        bench.register(&mut router, &[gone]);
        assert_eq!(bench.machine.registrations(), 0);
    }
    assert_eq!(bench.count(Counter::RecordWithdrawn), 2);
}

/// the nonce of the register, its fields, a MAC of its own, to the control port.
#[test]
fn a_map_notify_says_what_was_registered() {
    for algorithm in Algorithm::ALL {
        let mut bench = Bench::new(settings());
        let mut router = Router {
            algorithm,
            mac_len: algorithm.full_mac_len(),
            ..Router::new("[2001:db8:a::1]:61000", "first").with_id(5)
        };
        router.flags.want_notify = true;
        let eid = record(key(7, "10.1.2.0/24"), &["192.0.2.1"]);
        let sent = bench.register(&mut router, std::slice::from_ref(&eid));
        let [(to, bytes)] = sent.as_slice() else {
            panic!("one Map-Notify, not {sent:?}")
        };
        assert_eq!(to.to_string(), ETR_A);
        let Ok(Message::Notify(Notify { body })) = parse(bytes) else {
            panic!("a Map-Notify")
        };
        let lax = auth::Acceptance { strict: false };
        assert_eq!(auth::verify(bytes, &body, &router.secret, lax), Ok(()));
        assert_eq!(body.mac.len(), router.mac_len);
        assert_eq!((body.nonce, body.key_id), (router.nonce, 1));
        assert_eq!((&body.records[0], body.identity), (&eid, router.identity));
        router.flags.want_notify = false;
        assert_eq!(bench.register(&mut router, &[eid]), []);
    }
}

/// with the a-bit all locators, without it the newest router's.
#[test]
fn locators_merge_with_the_a_bit_only() {
    for merge in [true, false] {
        let mut bench = Bench::new(settings());
        let mut routers = [
            Router::new(ETR_A, "first").with_id(1),
            Router::new(ETR_B, "first").with_id(2),
        ];
        let rlocs = ["192.0.2.1", "2001:db8:b::1"];
        for (router, rloc) in routers.iter_mut().zip(rlocs) {
            router.flags.merge = merge;
            bench.register(router, &[record(key(0, "10.1.0.0/16"), &[rloc])]);
        }
        let answer = bench.ask(0, "10.1.2.3");
        let found: Vec<IpAddr> = answer[0].locators.iter().map(|l| l.rloc).collect();
        let expected: &[&str] = if merge { &rlocs } else { &rlocs[1..] };
        assert_eq!(
            found,
            expected.iter().map(|rloc| ip(rloc)).collect::<Vec<_>>()
        );
        assert_eq!(bench.count(Counter::Moves), if merge { 0 } else { 1 });
        // Without the second, the first is in force again.
        let gone = Record {
            ttl_minutes: 0,
            ..record(key(0, "10.1.0.0/16"), &[rlocs[1]])
        };
        bench.register(&mut routers[1], &[gone]);
        assert_eq!(bench.ask(0, "10.1.2.3")[0].locators[0].rloc, ip(rlocs[0]));
    }
}

fn moved() -> (Bench, Router, Vec<(SocketAddr, Vec<u8>)>) {
    let mut bench = Bench::new(settings());
    let mut old = Router::new(ETR_A, "first").with_id(1);
    let mut new = Router::new(ETR_B, "first").with_id(2);
    let eid = key(0, "2001:db8:100::7/128");
    bench.register(&mut old, &[record(eid, &["2001:db8:a::1"])]);
    let sent = bench.register(&mut new, &[record(eid, &["2001:db8:b::1"])]);
    (bench, old, sent)
}

/// the old ETR is told where the EID is now.
#[test]
fn an_etr_is_told_that_its_eid_moved() {
    let (mut bench, old, sent) = moved();
    let [(to, bytes)] = sent.as_slice() else {
        panic!("one Map-Notify, not {sent:?}")
    };
    assert_eq!(to.to_string(), ETR_A);
    let Ok(Message::Notify(notify)) = parse(bytes) else {
        panic!("a Map-Notify")
    };
    let lax = auth::Acceptance { strict: false };
    assert_eq!(auth::verify(bytes, &notify.body, &old.secret, lax), Ok(()));
    assert_eq!(notify.body.records[0].locators[0].rloc, ip("2001:db8:b::1"));
    // Again until it is acknowledged, with the right nonce and secret and from there.
    bench.pass(3);
    assert_eq!(bench.sent(), sent);
    let ack = |secret: &Secret, nonce: u64| {
        let body = Registration {
            nonce,
            ..notify.body.clone()
        };
        let mut bytes = emit(&Message::NotifyAck(Notify { body }));
        auth::seal(&mut bytes, secret).unwrap();
        bytes
    };
    let nonce = notify.body.nonce;
    bench.give(*to, &ack(&secret("wrong"), nonce));
    bench.give(*to, &ack(&old.secret, nonce + 1));
    bench.give(ETR_B.parse().unwrap(), &ack(&old.secret, nonce));
    assert_eq!(bench.count(Counter::Acks), 0);
    bench.pass(3);
    assert_eq!(bench.sent(), sent);
    bench.give(*to, &ack(&old.secret, nonce));
    assert_eq!(bench.count(Counter::Acks), 1);
    bench.pass(60);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.count(Counter::NotifyGivenUp), 0);
}

#[test]
fn a_notify_nobody_acknowledges_is_given_up() {
    let (mut bench, _, sent) = moved();
    bench.pass(100);
    let again: Vec<_> = bench.sent();
    assert_eq!(again.len(), 5);
    assert!(again.iter().all(|one| *one == sent[0]));
    assert_eq!(bench.count(Counter::NotifyGivenUp), 1);
}

/// E-07: a flood costs its sender's tokens, nothing else.
#[test]
fn registers_are_policed_before_anything_is_hashed() {
    let mut settings = settings();
    settings.registers = Rate {
        per_second: 10,
        burst: 5,
    };
    let mut bench = Bench::new(settings);
    let mut router = Router::new(ETR_A, "first");
    let eid = [record(key(0, "10.1.0.0/16"), &["192.0.2.1"])];
    let forged = Router {
        secret: secret("x"),
        ..router.clone()
    }
    .message(&eid);
    for _ in 0..1000 {
        bench.give(router.from, &forged);
    }
    assert_eq!(bench.count(Counter::DropAuthMac), 5);
    assert_eq!(bench.count(Counter::DropRegisterRate), 995);
    // Somebody else is not concerned.
    router.from = ETR_B.parse().unwrap();
    bench.register(&mut router, &eid);
    assert_eq!(accepted(&bench), 1);
}

/// Forged in every way there is: nothing of it is taken, all of it is counted.
#[test]
fn nothing_forged_is_accepted() {
    let mut settings = settings();
    settings.registers = Rate {
        per_second: 1_000_000,
        burst: 1_000_000,
    };
    let mut bench = Bench::new(settings);
    let mut router = Router::new(ETR_A, "first");
    let good = router.message(&[record(key(0, "10.1.0.0/16"), &["192.0.2.1"])]);
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let mut forged = good.clone();
        // Nonce, key, algorithm, MAC, EID, locator: any bits of the message.
        for _ in 0..rng.u8(1..4) {
            let at = rng.usize(0..forged.len());
            forged[at] ^= 1 << rng.u8(0..8);
        }
        if forged[4..] != good[4..] || forged[..4] != good[..4] {
            bench.give(router.from, &forged);
        }
    }
    assert_eq!(bench.machine.registrations(), 0);
    assert_eq!(accepted(&bench), 0);
    bench.give(router.from, &good);
    assert_eq!(accepted(&bench), 1);
}

#[test]
fn a_full_server_still_refreshes_what_it_has() {
    let mut settings = settings();
    settings.registrations_max = 1;
    let mut bench = Bench::new(settings);
    let mut router = Router::new(ETR_A, "first");
    let eids = [
        record(key(7, "10.1.1.0/24"), &["192.0.2.1"]),
        record(key(7, "10.1.2.0/24"), &["192.0.2.1"]),
    ];
    bench.register(&mut router, &eids);
    bench.register(&mut router, &eids);
    assert_eq!(bench.count(Counter::RecordNoRoom), 2);
    assert_eq!((accepted(&bench), bench.machine.registrations()), (2, 1));
}

/// A reload lets go of what is no longer allowed, and of nothing else.
#[test]
fn other_settings_keep_what_is_still_allowed() {
    let mut bench = Bench::new(settings());
    let mut router = Router::new(ETR_A, "first");
    let eids = [
        record(key(7, "10.1.1.0/24"), &["192.0.2.1"]),
        record(key(0, "10.1.0.0/16"), &["192.0.2.1"]),
    ];
    bench.register(&mut router, &eids);
    let nonces: Vec<SavedNonce> = bench.machine.nonces().collect();
    let mut changed = settings();
    changed.sites[0].prefixes.remove(2);
    changed.sites.swap(0, 1);
    bench.machine.configure(changed.clone());
    let left: Vec<EidKey> = bench
        .machine
        .registered(bench.now)
        .map(|one| one.key)
        .collect();
    assert_eq!(left, [key(0, "10.1.0.0/16")]);
    assert_eq!(bench.machine.nonces().collect::<Vec<_>>(), nonces);
    changed.sites.remove(1);
    bench.machine.configure(changed);
    assert_eq!(bench.machine.registrations(), 0);
}
