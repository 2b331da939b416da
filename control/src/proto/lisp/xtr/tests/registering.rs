//! Registration: when it is sent, what is in it, and what confirms it.

use super::*;
use crate::proto::lisp::wire::auth::{self, Acceptance};
use crate::proto::lisp::wire::{Identity, Notify, Register, Registration};

const SERVER: &str = "2001:db8:ffff::100";

fn registering() -> Settings {
    Settings {
        map_resolvers: Vec::new(),
        map_servers: vec![server(SERVER)],
        ..settings()
    }
}

fn register(datagram: &Datagram) -> Option<Register> {
    match parse(&datagram.payload) {
        Ok(Message::Register(register)) => Some(register),
        _ => None,
    }
}

/// What the Map-Server says to a registration.
fn notify(body: &Registration) -> Vec<u8> {
    let body = body.clone();
    let mut bytes = emit(&Message::Notify(Notify { body }));
    auth::seal(&mut bytes, &Secret::new(b"a secret")).unwrap();
    bytes
}

///
#[test]
fn a_registration_is_authentic_and_asks_for_a_notification() {
    for algorithm in Algorithm::ALL {
        let identity = Some(Identity {
            xtr_id: 9,
            site_id: 4,
        });
        let map_servers = vec![MapServer {
            algorithm,
            ..server(SERVER)
        }];
        let mut bench = Bench::new(Settings {
            identity,
            map_servers,
            ..registering()
        });
        let outputs = bench.run(Duration::ZERO);
        let [(_, Output::KeepNonce(kept)), (_, Output::Send(datagram))] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(
            (datagram.source, datagram.destination),
            (control(OWN), control(SERVER))
        );
        let register = register(datagram).unwrap();
        assert!(register.flags.want_notify && !register.flags.proxy_reply);
        assert_eq!(register.body.nonce, 1001);
        assert!(*kept >= 1001, "kept before it is used");
        assert_eq!(register.body.identity, identity);
        assert_eq!(register.body.records[0].key, key("2001:db8:a::/48"));
        assert!(
            register.body.records[0]
                .locators
                .iter()
                .all(|locator| !locator.is_probed)
        );
        let strict = Acceptance { strict: true };
        let secret = Secret::new(b"a secret");
        assert_eq!(
            auth::verify(&datagram.payload, &register.body, &secret, strict),
            Ok(())
        );
    }
}

///
#[test]
fn without_a_notification_it_is_sent_again_and_later_and_later() {
    let mut bench = Bench::new(registering());
    let sent = bench.sent(seconds(480));
    let times: Vec<u64> = sent.iter().map(|(at, _)| *at).collect();
    assert_eq!(times[..9], [0, 1, 3, 7, 15, 31, 51, 71, 91]);
    let late: Vec<u64> = times.iter().copied().filter(|at| *at > 340).collect();
    assert!(
        late.windows(2).all(|pair| pair[1] - pair[0] == 60),
        "{times:?}"
    );
    let nonces: Vec<u64> = sent
        .iter()
        .map(|(_, d)| register(d).unwrap().body.nonce)
        .collect();
    assert!(
        nonces.windows(2).all(|pair| pair[1] > pair[0]),
        "{nonces:?}"
    );
    assert!(
        bench
            .xtr
            .servers(bench.now)
            .all(|server| !server.is_registered)
    );
}

#[test]
fn a_notification_confirms_it_for_a_minute() {
    let mut bench = Bench::new(registering());
    let sent = bench.sent(Duration::ZERO);
    let body = register(&sent[0].1).unwrap().body;
    bench
        .xtr
        .handle_input(bench.now, control(SERVER), ip(OWN), &notify(&body));
    let server = ip(SERVER);
    assert_eq!(
        bench.outputs(),
        [(Duration::ZERO, Output::Event(Event::Registered { server }))]
    );
    assert!(bench.sent(seconds(53)).is_empty());
    assert!(!bench.sent(seconds(8)).is_empty(), "the next one is due");
    assert!(
        bench
            .xtr
            .servers(bench.now)
            .all(|server| server.is_registered)
    );
    // The same once more says nothing new.
    bench
        .xtr
        .handle_input(bench.now, control(SERVER), ip(OWN), &notify(&body));
    assert_eq!(bench.count("notify_repeated"), 1);
    let lost = bench.run(seconds(200));
    let lost = lost
        .iter()
        .filter(|(_, output)| *output == Output::Event(Event::RegistrationLost { server }));
    assert_eq!(lost.count(), 1);
    assert!(
        bench
            .xtr
            .servers(bench.now)
            .all(|server| !server.is_registered)
    );
}

/// wrong keys, other servers, changed bytes.
#[test]
fn notifications_that_are_not_authentic_change_nothing() {
    let mut bench = Bench::new(registering());
    let sent = bench.sent(Duration::ZERO);
    let body = register(&sent[0].1).unwrap().body;
    let right = notify(&body);
    let from = |bench: &mut Bench, from: &str, bytes: &[u8]| {
        bench
            .xtr
            .handle_input(bench.now, control(from), ip(OWN), bytes);
    };
    from(&mut bench, PEER, &right);
    assert_eq!(bench.count("notify_unknown_server"), 1);
    let other = Registration {
        key_id: 2,
        ..body.clone()
    };
    from(&mut bench, SERVER, &notify(&other));
    assert_eq!(bench.count("notify_other_key"), 1);
    for position in 0..right.len() {
        let mut wrong = right.clone();
        wrong[position] ^= 0x01;
        from(&mut bench, SERVER, &wrong);
    }
    assert_eq!(bench.count("registered"), 0);
    assert!(bench.count("auth_mac") > 50);
    assert!(bench.outputs().is_empty());
    from(&mut bench, SERVER, &right);
    assert_eq!(bench.count("registered"), 1);
}

///
#[test]
fn a_notification_nobody_asked_for_is_acknowledged() {
    let mut bench = Bench::new(registering());
    let sent = bench.sent(Duration::ZERO);
    let body = register(&sent[0].1).unwrap().body;
    let unasked = notify(&Registration { nonce: 5, ..body });
    bench
        .xtr
        .handle_input(bench.now, control(SERVER), ip(OWN), &unasked);
    let sent = bench.sent(Duration::ZERO);
    let [(_, datagram)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(datagram.destination, control(SERVER));
    let Ok(Message::NotifyAck(ack)) = parse(&datagram.payload) else {
        panic!("an acknowledgement")
    };
    assert_eq!(ack.body.nonce, 5);
    let secret = Secret::new(b"a secret");
    let strict = Acceptance { strict: true };
    assert_eq!(
        auth::verify(&datagram.payload, &ack.body, &secret, strict),
        Ok(())
    );
    assert_eq!(bench.count("registered"), 0);
}

/// G-05.
#[test]
fn many_eids_go_in_several_messages_that_are_all_awaited() {
    let eids = (0..200).map(|number| key(&format!("2001:db8:a:{number:x}::/64")));
    let eids: Vec<EidKey> = eids.collect();
    let mut bench = Bench::new(Settings {
        eids: eids.clone(),
        ..registering()
    });
    let sent = bench.sent(Duration::ZERO);
    assert!(sent.len() > 5);
    let mut registered = Vec::new();
    for (_, datagram) in &sent {
        assert!(datagram.payload.len() <= 1232);
        assert!(
            bench
                .xtr
                .servers(bench.now)
                .all(|server| !server.is_registered)
        );
        let body = register(datagram).unwrap().body;
        registered.extend(body.records.iter().map(|record| record.key));
        bench
            .xtr
            .handle_input(bench.now, control(SERVER), ip(OWN), &notify(&body));
    }
    assert_eq!(registered, eids);
    assert!(
        bench
            .xtr
            .servers(bench.now)
            .all(|server| server.is_registered)
    );
}

#[test]
fn what_changes_is_registered_at_once_and_what_does_not_is_left_alone() {
    let mut bench = Bench::new(registering());
    let sent = bench.sent(Duration::ZERO);
    let body = register(&sent[0].1).unwrap().body;
    bench
        .xtr
        .handle_input(bench.now, control(SERVER), ip(OWN), &notify(&body));
    bench.run(seconds(5));
    bench.xtr.set_settings(
        bench.now,
        Settings {
            map_resolvers: vec![ip(PEER)],
            ..registering()
        },
    );
    assert!(bench.sent(seconds(1)).is_empty());
    let mut other = registering();
    other.rlocs[1].up = false;
    bench.xtr.set_settings(bench.now, other);
    let sent = bench.sent(Duration::ZERO);
    let body = register(&sent[0].1).unwrap().body;
    let reachable = body.records[0]
        .locators
        .iter()
        .map(|locator| locator.is_reachable);
    assert_eq!(reachable.collect::<Vec<_>>(), [false, true]);
    bench.xtr.set_settings(bench.now, settings());
    assert_eq!(bench.xtr.servers(bench.now).count(), 0);
    // It is told once.
    let sent = bench.sent(seconds(100));
    assert_eq!(told(&sent), [(6, "2001:db8:a::/48".to_owned(), 0)]);
}

/// What is registered: second, EID, TTL.
fn told(sent: &[(u64, Datagram)]) -> Vec<(u64, String, u32)> {
    let records = sent.iter().flat_map(|(at, datagram)| {
        let records = register(datagram).map(|register| register.body.records);
        let records = records.into_iter().flatten();
        records.map(|record| (*at, record.key.eid.to_string(), record.ttl_minutes))
    });
    records.collect()
}

/// Confirm everything that was sent.
fn confirm(bench: &mut Bench, sent: &[(u64, Datagram)]) {
    for (_, datagram) in sent {
        if let Some(register) = register(datagram) {
            let notify = notify(&register.body);
            bench
                .xtr
                .handle_input(bench.now, control(SERVER), ip(OWN), &notify);
        }
    }
}

/// what goes is withdrawn until that is confirmed, what comes is registered alone.
#[test]
fn an_eid_that_goes_is_withdrawn_and_one_that_comes_is_registered_alone() {
    let mut bench = Bench::new(registering());
    let sent = bench.sent(Duration::ZERO);
    confirm(&mut bench, &sent);
    bench.run(seconds(5));
    let other = Settings {
        eids: vec![key("10.9.0.0/16")],
        ..registering()
    };
    bench.xtr.set_settings(bench.now, other);
    let sent = bench.sent(seconds(2));
    let both = |at| {
        [
            (at, "10.9.0.0/16".to_owned(), 1440),
            (at, "2001:db8:a::/48".to_owned(), 0),
        ]
    };
    assert_eq!(told(&sent), [both(5), both(6)].concat());
    confirm(&mut bench, &sent[2..]);
    assert!(bench.sent(seconds(45)).is_empty(), "both are confirmed");
    let sent = bench.sent(seconds(10));
    let mut eids = told(&sent).into_iter().map(|(_, eid, _)| eid);
    assert!(!sent.is_empty() && eids.all(|eid| eid == "10.9.0.0/16"));
}

/// some Map-Servers do not confirm it, and all forget it.
#[test]
fn a_withdrawal_that_nobody_confirms_ends_and_holds_nothing_up() {
    let mut bench = Bench::new(registering());
    let sent = bench.sent(Duration::ZERO);
    confirm(&mut bench, &sent);
    let other = Settings {
        eids: vec![key("10.9.0.0/16")],
        ..registering()
    };
    bench.xtr.set_settings(bench.now, other);
    let mut withdrawals = Vec::new();
    for second in 0..600 {
        let sent = bench.sent(seconds(1));
        for (_, datagram) in &sent {
            let records = register(datagram).unwrap().body.records;
            let is_gone = |record: &Record| record.ttl_minutes == 0;
            if records.iter().all(is_gone) {
                withdrawals.push(second);
            } else {
                assert!(!records.iter().any(is_gone), "in a message of their own");
                confirm(&mut bench, &[(0, datagram.clone())]);
            }
        }
        if second > 70 {
            assert!(
                bench
                    .xtr
                    .servers(bench.now)
                    .all(|server| server.is_registered),
                "{second}"
            );
        }
    }
    assert!(withdrawals.len() > 3, "{withdrawals:?}");
    assert!(
        withdrawals.iter().all(|second| *second < 200),
        "{withdrawals:?}"
    );
}

/// at the end all of it is withdrawn.
#[test]
fn at_the_end_everything_is_withdrawn() {
    let mut bench = Bench::new(registering());
    bench.sent(Duration::ZERO);
    bench.xtr.shut_down();
    let sent = bench.sent(seconds(100));
    assert_eq!(told(&sent), [(0, "2001:db8:a::/48".to_owned(), 0)]);
    assert!(register(&sent[0].1).unwrap().body.nonce > 1001);
}

///
#[test]
fn the_a_bit_is_sent_where_it_is_wanted() {
    for merge in [false, true] {
        let mut bench = Bench::new(Settings {
            map_servers: vec![MapServer {
                merge,
                ..server(SERVER)
            }],
            ..registering()
        });
        let sent = bench.sent(Duration::ZERO);
        assert_eq!(register(&sent[0].1).unwrap().flags.merge, merge);
    }
}

/// whatever was kept was not used before.
#[test]
fn nonces_rise_over_a_restart() {
    let mut bench = Bench::new(registering());
    let outputs = bench.run(seconds(300));
    let kept = outputs.iter().filter_map(|(_, output)| match output {
        Output::KeepNonce(nonce) => Some(*nonce),
        _ => None,
    });
    let kept = kept.max().unwrap();
    let mut again = Bench::new(registering());
    again.xtr.raise_nonce(kept);
    let first = again.sent(Duration::ZERO);
    assert!(register(&first[0].1).unwrap().body.nonce > kept);
    assert!(kept >= 1000 + bench.xtr.servers(bench.now).next().unwrap().sent);
}
