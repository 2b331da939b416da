//! DPDK's own tables answer like the oracle, on small tables and after updates: their speed is what ours are compared with.

use perf::lpm::contender::{Contender, contender, count_wrong, keys_of};
use perf::lpm::families::{Family, Peers as _, Wish};
use perf::lpm::oracle::Oracle;
use perf::lpm::peers::Dpdk;
use perf::lpm::peers::hash::{self, Hash};
use perf::lpm::prefix::{Address, Prefix, Route};
use perf::lpm::traces::Trace;
use perf::lpm::updates::{self, Change};

const WISH: Wish = Wish {
    fib6_nodes_percent: 400,
    rte_lpm: true,
};

fn routes<A: Address>(prefixes: &[&str]) -> Vec<Route<A>> {
    prefixes
        .iter()
        .zip(1..)
        .map(|(text, leaf)| Route {
            prefix: Prefix::parse(text).expect("a prefix"),
            leaf,
        })
        .collect()
}

fn agree<A: Family>(
    contenders: &[Box<dyn Contender<A::Key> + '_>],
    routes: &[Route<A>],
    oracle: &Oracle<A>,
) {
    for trace in Trace::ALL {
        let addresses = trace.addresses(routes, 10_001, 4);
        let right = oracle.answers(&addresses);
        for contender in contenders {
            let answers = contender.answers(&keys_of(&addresses));
            let wrong = count_wrong(&answers, &right);
            assert_eq!(wrong, 0, "{} over {trace}", contender.name());
        }
    }
}

fn names<K>(contenders: &[Box<dyn Contender<K> + '_>]) -> Vec<&'static str> {
    contenders
        .iter()
        .map(|contender| contender.name())
        .collect()
}

#[test]
fn tables_of_dpdk_answer_like_the_oracle_before_and_after_updates() {
    let dpdk = Dpdk::start().expect("DPDK starts");
    let _registration = dpdk.register().expect("DPDK takes this thread");
    let never = |said: &str| panic!("{said}");

    let six = routes::<u128>(&[
        "2000::/4",
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2001:db8:1::/49",
        "2a00::/12",
        "2a00:1234:5600::/40",
    ]);
    let mut oracle = Oracle::new(&six);
    let mut peers = u128::peers(&dpdk, &six, WISH, &never);
    agree(&peers.contenders(), &six, &oracle);
    for name in [
        "rte_fib6-scalar",
        "rte_fib6-single",
        "rte_lpm6",
        "rte_lpm6-single",
    ] {
        assert!(
            names(&peers.contenders()).contains(&name),
            "{name} takes part"
        );
    }
    assert!(peers.costs().iter().all(|(_, cost)| cost.bytes > 1 << 20));
    let changes = updates::script(&six, &oracle, &[six[1].prefix.address], 100, 5);
    for (name, peer) in peers.updated() {
        for change in &changes {
            let made = match *change {
                Change::Insert(prefix, leaf) => peer.insert(prefix, leaf),
                Change::Remove(prefix) => peer.remove(prefix),
            };
            made.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    changes.iter().for_each(|change| change.tell(&mut oracle));
    agree(&peers.contenders(), &six, &oracle);

    let four = routes::<u32>(&[
        "8.0.0.0/7",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.1.2.128/25",
    ]);
    let peers = u32::peers(&dpdk, &four, WISH, &never);
    agree(&peers.contenders(), &four, &Oracle::new(&four));
    for name in ["rte_fib-scalar", "rte_lpm", "rte_lpm-single"] {
        assert!(
            names(&peers.contenders()).contains(&name),
            "{name} takes part"
        );
    }

    let hosts = routes::<u128>(&["2001:db8::1/128", "2001:db8::2/128", "2001:db8:1::1/128"]);
    let hash = Hash::build(&dpdk, &hosts).expect("rte_hash");
    let mut addresses: Vec<u128> = hosts.iter().map(|route| route.prefix.address).collect();
    addresses.push(1);
    for found in [
        contender("bulk", hash::Bulk(&hash)).answers(&keys_of(&addresses)),
        contender("single", hash::Single(&hash)).answers(&keys_of(&addresses)),
    ] {
        let leaf = |place: &u32| hash.leaf_at(place.checked_sub(1)?);
        assert_eq!(
            found.iter().map(leaf).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(3), None]
        );
    }
}
