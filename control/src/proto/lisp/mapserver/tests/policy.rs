//! What is answered whatever is registered, and while nobody who registers is authentic (RFC 9301 8.3).

use super::*;
use crate::proto::lisp::{Action, Mapping};

/// Of the first site a prefix is denied, and one in it is not.
fn denying(action: Action) -> Bench {
    let mut settings = settings();
    settings.sites[0].prefixes = vec![
        allowed(0, "2001:db8:100::/40", true),
        Allowed {
            action: Some(action),
            ..allowed(0, "2001:db8:101:8000::/49", true)
        },
        allowed(0, "2001:db8:101:8080::/64", true),
    ];
    Bench::new(settings)
}

fn registered(bench: &mut Bench, eids: &[&str]) {
    let mut router = Router::new(ETR_A, "first");
    let records = eids.iter().map(|eid| record(key(0, eid), &["192.0.2.1"]));
    bench.register(&mut router, &records.collect::<Vec<_>>());
}

/// EID, action if there are no locators, TTL.
fn told(records: &[Record]) -> Vec<(String, Option<Action>, u32)> {
    let said = records.iter().map(|record| {
        let action = match record.mapping() {
            Mapping::Negative(action) => Some(action),
            Mapping::Locators { .. } => None,
        };
        (record.key.eid.to_string(), action, record.ttl_minutes)
    });
    said.collect()
}

/// P-09, C-09: whether it is registered or not, by itself or around it; with the TTL of what may change soon where it may.
#[test]
fn what_is_denied_is_answered_for_by_policy() {
    for (action, ttl) in [
        (Action::PolicyDenied, 15),
        (Action::AuthFailure, 15),
        (Action::Drop, 15),
        (Action::SendMapRequest, 1),
    ] {
        let mut bench = denying(action);
        let denied = |eid: &str| (eid.to_owned(), Some(action), ttl);
        let mapping = |eid: &str, ttl| (eid.to_owned(), None, ttl);
        let inside = "2001:db8:101:8000::1";
        // Narrow enough to leave out what is in it and not denied.
        let part = "2001:db8:101:8000::/57";
        assert_eq!(told(&bench.ask(0, inside)), [denied(part)]);
        registered(
            &mut bench,
            &[
                "2001:db8:101::/48",
                "2001:db8:101:8000::/64",
                "2001:db8:101:8000::1/128",
                "2001:db8:101:8080::/64",
            ],
        );
        assert_eq!(told(&bench.ask(0, inside)), [denied(part)]);
        assert_eq!(
            told(&bench.ask(0, "2001:db8:101:8000::/64")),
            [denied(part)]
        );
        // An answer around it has it as it is, with one TTL for all (P-02).
        for asked in ["2001:db8:101:1::1", "2001:db8:101::/48"] {
            assert_eq!(
                told(&bench.ask(0, asked)),
                [
                    mapping("2001:db8:101::/48", ttl),
                    mapping("2001:db8:101:8080::/64", ttl),
                    denied("2001:db8:101:8000::/49"),
                ],
                "{asked}"
            );
        }
        assert_eq!(
            told(&bench.ask(0, "2001:db8:101:8080::9")),
            [mapping("2001:db8:101:8080::/64", 1440)]
        );
        assert_eq!(bench.count(Counter::ReplyDenied), 3);
        // Nobody is asked for it either.
        let mut router = Router::new(ETR_A, "first").with_id(5);
        router.flags.proxy_reply = false;
        bench.register(
            &mut router,
            &[record(key(0, "2001:db8:101:9::/64"), &["192.0.2.1"])],
        );
        assert_eq!(told(&bench.ask(0, inside)), [denied(part)]);
    }
}

/// P-02: where all that is under a prefix does not fit, the part of it that is answered has nothing in it that is denied.
#[test]
fn a_part_of_a_prefix_has_nothing_denied_in_it() {
    let mut bench = denying(Action::PolicyDenied);
    let many: Vec<String> = (0x10..0x60)
        .map(|n| format!("2001:db8:101:{n:x}::/64"))
        .collect();
    registered(&mut bench, &["2001:db8:101::/48"]);
    for eids in many.chunks(16) {
        let eids: Vec<&str> = eids.iter().map(String::as_str).collect();
        let mut router = Router::new(ETR_A, "first").with_id(1);
        router.nonce = 1000 + bench.count(Counter::Registers);
        let records = eids.iter().map(|eid| record(key(0, eid), &["192.0.2.1"]));
        bench.register(&mut router, &records.collect::<Vec<_>>());
    }
    assert_eq!(
        told(&bench.ask(0, "2001:db8:101:7f00::1")),
        [("2001:db8:101:4000::/50".to_owned(), None, 1440)]
    );
    assert_eq!(bench.count(Counter::ReplyNarrowed), 1);
}

/// P-09: only where the operator wants it, because anybody can send what is not authentic; until somebody is, or for as
/// long as a registration would hold.
#[test]
fn what_only_others_register_is_not_authentic_where_that_is_wanted() {
    for is_wanted in [false, true] {
        let mut settings = settings();
        settings.sites[0].auth_failure = is_wanted;
        let mut bench = Bench::new(settings);
        let eid = [record(key(0, "10.1.0.0/16"), &["192.0.2.1"])];
        let answer = |bench: &mut Bench| told(&bench.ask(0, "10.1.2.3"));
        let said = |action| [("10.1.0.0/16".to_owned(), Some(action), 1)];
        let failed = match is_wanted {
            true => Action::AuthFailure,
            false => Action::Native,
        };
        assert_eq!(answer(&mut bench), said(Action::Native));
        let mut forger = Router::new(ETR_B, "second");
        bench.register(&mut forger, &eid);
        assert_eq!(answer(&mut bench), said(failed));
        assert_eq!(bench.count(Counter::ReplyAuthFailure), u64::from(is_wanted));
        // Other prefixes are others.
        let other = told(&bench.ask(0, "2001:db8:100::1"));
        assert_eq!(other[0].1, Some(Action::Native));
        bench.pass(179);
        assert_eq!(answer(&mut bench), said(failed));
        bench.pass(1);
        assert_eq!(answer(&mut bench), said(Action::Native));
        // Somebody is: what others do does not matter then, nor right after.
        bench.register(&mut forger, &eid);
        let mut router = Router::new(ETR_A, "first");
        bench.register(&mut router, &eid);
        assert_eq!(answer(&mut bench)[0].1, None);
        bench.register(&mut forger, &eid);
        assert_eq!(answer(&mut bench)[0].1, None);
        let gone = [record(key(0, "10.1.0.0/16"), &[])];
        bench.register(&mut router, &gone);
        assert_eq!(answer(&mut bench), said(Action::Native));
    }
}
