//! What was learned before a restart.

use super::*;

fn entries(count: u64) -> Vec<(EidKey, Mapping, Duration)> {
    let entries = (0..count).map(|number| {
        let key = key(&format!("2001:db8:b:{number:x}::/64"));
        let mapping = Mapping::Locators {
            locators: vec![Locator::new(ip(PEER))],
            version: 0,
        };
        (key, mapping, seconds(600 + number))
    });
    entries.collect()
}

/// For the rest of its time, and asked for soon, whether it is used or not: not all at once.
#[test]
fn what_was_learned_before_a_restart_holds_and_is_asked_for_soon() {
    let mut bench = Bench::new(settings());
    bench.xtr.restore(bench.now, entries(100));
    assert_eq!(bench.xtr.learned(), 100);
    let changes = bench.changes();
    assert_eq!(changes.len(), 100);
    assert_eq!(changes[7], ("2001:db8:b:7::/64".to_owned(), Some(607)));
    assert!(bench.sent(seconds(4)).is_empty());
    let sent = bench.sent(seconds(12));
    let mut each = std::collections::BTreeMap::<u64, usize>::new();
    let mut known = std::collections::BTreeSet::new();
    for (at, datagram) in &sent {
        let request = asked(datagram).request;
        assert_eq!(request.source, None, "as for a refresh (Q-04)");
        if known.insert(request.asked[0].key) {
            *each.entry(*at).or_default() += 1;
        }
    }
    assert_eq!(known.len(), 100);
    assert!(each.values().all(|count| *count <= 21), "{each:?}");
}

/// The mapping system is away: it holds all the same, and what is used is asked for again before it ends.
#[test]
fn what_nobody_answers_for_holds_until_its_end() {
    let mut bench = Bench::new(settings());
    bench.xtr.restore(bench.now, entries(1));
    bench.outputs();
    bench.run(seconds(300));
    bench.note_used("2001:db8:b::/64", PEER);
    let asked = bench.count("sent_map_request");
    assert_eq!(asked, 10);
    bench.run(seconds(238));
    assert_eq!(bench.count("sent_map_request"), asked);
    bench.run(seconds(3));
    assert!(bench.count("sent_map_request") > asked, "540 s: it is used");
    assert_eq!(bench.xtr.learned(), 1);
    bench.run(seconds(60));
    assert_eq!(bench.xtr.learned(), 0, "600 s");
}

/// What is answered counts as ever.
#[test]
fn what_changed_meanwhile_is_learned_anew() {
    let mut bench = Bench::new(settings());
    bench.xtr.restore(bench.now, entries(1));
    bench.outputs();
    let sent = bench.sent(seconds(11));
    let nonce = asked(&sent[0].1).request.nonce;
    bench.receive(PEER, &reply(nonce, vec![positive("2001:db8:b::/64", 3)]));
    assert_eq!(bench.changes(), [("2001:db8:b::/64".to_owned(), Some(180))]);
}

/// The configuration may be another now.
#[test]
fn own_eids_are_not_restored_and_nothing_is_without_map_resolvers() {
    let mut bench = Bench::new(settings());
    let mut own = entries(2);
    own[0].0 = key("2001:db8:a:1::/64");
    bench.xtr.restore(bench.now, own.clone());
    assert_eq!(bench.xtr.learned(), 1);
    assert_eq!(bench.count("record_own_eid"), 1);
    let mut bench = Bench::new(Settings {
        map_resolvers: Vec::new(),
        ..settings()
    });
    bench.xtr.restore(bench.now, own);
    assert_eq!((bench.xtr.learned(), bench.outputs().len()), (0, 0));
}
