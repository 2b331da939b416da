//! Many locators, and many events.

use super::*;

/// Thousands of locators are probed one after the other, and none of them is judged by the waiting.
#[test]
fn many_locators_take_turns() {
    let mut site = Site::new(fast(), &[]);
    for number in 0..1500 {
        site.watch(&format!("2001:db8:ffff:1::{number:x}"), &[PREFIX], true);
    }
    site.run(seconds(4));
    let sent = site.probes.len();
    assert!(sent <= 50 + 4 * 500, "{sent}");
    assert!(site.bench.count("limit_probes") > 0);
    assert!(site.said.is_empty());
    let asked = (0..1500).filter(|number| {
        site.state(&format!("2001:db8:ffff:1::{number:x}")).liveness == Liveness::Up
    });
    assert_eq!(asked.count(), 1500);
}

#[test]
fn locators_are_bounded() {
    let mut bench = Bench::new(normal());
    for number in 0..20_000_u32 {
        let rloc = IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + number));
        bench.xtr.watch(bench.now, rloc, vec![key(PREFIX)], true);
    }
    assert_eq!(bench.count("limit_rlocs"), 20_000 - 16_384);
}

/// Random losses, delays and changes: what is said of a locator is what is known of it, and what is up answers.
#[test]
fn random_events_keep_the_invariants() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut site = Site::new(fast(), &[]);
        let rlocs = [RLOC, RLOC_V4, "2001:db8:ffff::a"];
        let mut known = [true; 3];
        let mut watched = [false; 3];
        for _ in 0..300 {
            let which = rng.usize(0..3);
            let rloc = ip(rlocs[which]);
            let now = site.bench.now;
            match rng.u8(0..8) {
                0 => {
                    site.watch(rlocs[which], &[PREFIX], rng.bool());
                    watched[which] = true;
                }
                1 => {
                    site.bench.xtr.unwatch(rloc);
                    (watched[which], known[which]) = (false, true);
                }
                2 => site.deaf.push(rloc),
                3 => site.deaf.clear(),
                4 => site.bench.xtr.set_way(now, rloc, rng.bool()),
                5 => site.bench.xtr.suspect(now, rloc),
                6 => drop(site.bench.xtr.probe(now, rloc)),
                _ => site.round_trip = milliseconds(rng.u64(0..200)),
            }
            let said = site.said.len();
            site.run(milliseconds(rng.u64(0..400)));
            for (_, rloc, is_up) in &site.said[said..] {
                let which = rlocs.iter().position(|known| ip(known) == *rloc).unwrap();
                assert_ne!(known[which], *is_up, "nothing is said twice");
                known[which] = *is_up;
            }
            for (which, rloc) in rlocs.iter().enumerate() {
                assert_eq!(site.is_up(rloc), known[which]);
                assert_eq!(
                    site.bench.xtr.rloc_state(ip(rloc)).is_some(),
                    watched[which]
                );
            }
        }
        // Whatever happened, who answers comes back.
        site.deaf.clear();
        site.round_trip = milliseconds(5);
        for rloc in rlocs {
            site.watch(rloc, &[PREFIX], true);
            let now = site.bench.now;
            site.bench.xtr.set_way(now, ip(rloc), true);
        }
        site.run(seconds(5));
        for rloc in rlocs {
            assert_eq!(site.state(rloc).liveness, Liveness::Up, "seed {seed}");
        }
    }
}
