use super::*;
use crate::lpm::ours::Lpm6;
use crate::lpm::traces::Trace;

fn prefix(text: &str) -> Prefix<u128> {
    Prefix::parse(text).expect("a prefix")
}

fn routes() -> Vec<Route<u128>> {
    [
        "2001::/16",
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2a00::/12",
        "2a00:1::/32",
    ]
    .iter()
    .zip(1..)
    .map(|(text, leaf)| Route {
        prefix: prefix(text),
        leaf,
    })
    .collect()
}

#[test]
fn a_script_leaves_every_prefix_as_it_found_it() {
    let routes = routes();
    let mut oracle = Oracle::new(&routes);
    let addresses = Trace::Uniform.addresses(&routes, 100, 1);
    let changes = script(&routes, &oracle, &addresses, 500, 2);
    assert_eq!(changes, script(&routes, &oracle, &addresses, 500, 2));
    assert_ne!(changes, script(&routes, &oracle, &addresses, 500, 3));
    assert_eq!(changes.len(), 500);
    for change in &changes {
        match *change {
            Change::Remove(prefix) => assert!(oracle.leaf_of(prefix).is_some(), "it is there"),
            Change::Insert(_, leaf) => assert_ne!(leaf, 0),
        }
        change.tell(&mut oracle);
    }
    assert!(
        routes
            .iter()
            .all(|route| oracle.leaf_of(route.prefix).is_some())
    );
    let new = changes
        .iter()
        .filter(|change| routes.iter().all(|route| route.prefix != change.prefix()));
    assert_eq!(new.clone().count(), 200);
    assert!(new.clone().all(|change| change.prefix().length == 48));
}

#[test]
fn a_timeline_allows_what_was_right_in_between_and_nothing_else() {
    let mut oracle = Oracle::new(&routes());
    let mut addresses =
        ["2001:db8::1/128", "2001:db8:1::1/128", "2a00::1/128"].map(|text| prefix(text).address);
    addresses.sort_unstable();
    let changes = [
        Change::Remove(prefix("2001:db8:1::/48")),
        Change::Insert(prefix("2001:db8:1::/48"), 7),
        Change::Insert(prefix("2001:db8::/32"), 8),
    ];
    let timeline = Timeline::new(&addresses, &changes, &mut oracle);
    // 2001:db8:1::1: 3, then 2 of the /32, then 7 for good.
    for (first, last, right) in [
        (0, 0, &[3][..]),
        (0, 1, &[3, 2]),
        (1, 1, &[2]),
        (1, 3, &[2, 7]),
        (2, 3, &[7]),
    ] {
        for answer in 0..10 {
            assert_eq!(
                timeline.allows(1, answer, first, last),
                right.contains(&answer),
                "{first} to {last}: {answer}"
            );
        }
    }
    assert!(
        timeline.allows(0, 2, 0, 2) && !timeline.allows(0, 8, 0, 2) && timeline.allows(0, 8, 2, 3)
    );
    assert!(timeline.allows(2, 4, 0, 3) && !timeline.allows(2, 0, 0, 3));
    assert_eq!(oracle.answers(&addresses), [8, 7, 4]);
}

#[test]
fn a_reader_beside_the_writer_sees_nothing_wrong_and_would_see_a_wrong_table() {
    let routes = routes();
    let mut addresses = Trace::Uniform.addresses(&routes, 1000, 1);
    addresses.sort_unstable();
    let run = |table: &mut Lpm6| {
        let mut oracle = Oracle::new(&routes);
        let changes = script(&routes, &oracle, &addresses, 50, 2);
        let timeline = Timeline::new(&addresses, &changes, &mut oracle);
        let patience = Duration::from_secs(60);
        beside_a_reader(table, &changes, (&addresses, &timeline), patience, 1e9, 0)
            .expect("it runs")
    };
    let (times, seen) = run(&mut Lpm6::build(&routes));
    assert_eq!((times.len(), seen.wrong), (50, 0));
    let (_, seen) = run(&mut Lpm6::build(&routes[..1]));
    assert!(seen.wrong > 0);
}

#[test]
fn percentiles_of_a_hundred() {
    let figures: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(
        (
            percentile(&figures, 50),
            percentile(&figures, 99),
            percentile(&figures, 100)
        ),
        (50.0, 99.0, 100.0)
    );
    assert_eq!(percentile(&[4.0], 99), 4.0);
    assert_eq!(percentile(&[], 99), 0.0);
}

#[test]
fn impatience_ends_between_two_groups() {
    let changes = script(&routes(), &Oracle::new(&routes()), &[1], 50, 2);
    let times =
        time(&changes, Duration::ZERO, 1e9, &mut || {}, &mut |_| Ok(())).expect("nothing fails");
    assert_eq!(times.len(), GROUP);
}
