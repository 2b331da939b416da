//! The addresses that are looked up, and tables made by rule. All are seeded: two runs look up the same addresses.

use std::collections::HashSet;
use std::fmt;

use fastrand::Rng;

use super::prefix::{Address, Prefix, Route};

/// Addresses in a trace: what one round of a contender looks up, 16 MiB of IPv6 addresses.
pub const TRACE_ADDRESSES: usize = 64 * super::contender::CHUNK;
/// Different addresses in [`Trace::Zipf`].
const ZIPF_ADDRESSES: usize = 100_000;
/// Different addresses in [`Trace::Hot`].
const HOT_ADDRESSES: usize = 1_024;
/// Routes of the tables made by rule.
const MADE_ROUTES: usize = 1_000_000;
/// Prefixes their routes are in: /32 for /48, /64 for hosts.
const MADE_PARENTS: usize = 16_384;

/// Which addresses, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// A prefix of the table, each as likely as any other, with random host bits: no address comes twice.
    Uniform,
    /// 100,000 such addresses, the n-th most frequent 1/n as often as the most frequent.
    Zipf,
    /// 1,024 such addresses in random order.
    Hot,
    /// Anything in 2000::/3 (IPv6) or anything (IPv4): mostly misses.
    Random,
}

impl Trace {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Uniform, Self::Zipf, Self::Hot, Self::Random];

    /// `count` addresses over `routes`.
    ///
    /// # Panics
    /// When there are no routes.
    #[must_use]
    pub fn addresses<A: Address>(self, routes: &[Route<A>], count: usize, seed: u64) -> Vec<A> {
        let mut random = Rng::with_seed(seed);
        match self {
            Self::Uniform => uniform(routes, count, &mut random),
            Self::Zipf => zipf(
                &uniform(routes, ZIPF_ADDRESSES, &mut random),
                count,
                &mut random,
            ),
            Self::Hot => {
                let hot = uniform(routes, HOT_ADDRESSES, &mut random);
                (0..count).map(|_| hot[random.usize(..hot.len())]).collect()
            }
            Self::Random => {
                let all = Prefix::<A>::parse("2000::/3")
                    .unwrap_or(Prefix::of(routes[0].prefix.address, 0));
                (0..count)
                    .map(|_| all.address.with_random_host(all.length, &mut random))
                    .collect()
            }
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Uniform => "U",
            Self::Zipf => "Z",
            Self::Hot => "H",
            Self::Random => "R",
        })
    }
}

fn uniform<A: Address>(routes: &[Route<A>], count: usize, random: &mut Rng) -> Vec<A> {
    (0..count)
        .map(|_| {
            let prefix = routes[random.usize(..routes.len())].prefix;
            prefix.address.with_random_host(prefix.length, random)
        })
        .collect()
}

/// `count` of `addresses`, the one at place n with a weight of 1/(n + 1).
fn zipf<A: Copy>(addresses: &[A], count: usize, random: &mut Rng) -> Vec<A> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=addresses.len())
        .map(|rank| {
            // `as`: a hundred thousand.
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    (0..count)
        .map(|_| {
            let drawn = random.f64() * sum;
            let place = sums.partition_point(|upto| *upto <= drawn);
            addresses[place.min(addresses.len() - 1)]
        })
        .collect()
}

/// What an edge with one provider and one customer has: a default route, links, the customer's sites.
#[must_use]
pub fn edge() -> Vec<Route<u128>> {
    const PREFIXES: [&str; 6] = [
        "::/0",
        "2001:db8:1::/48",
        "2001:db8:1:1::/64",
        "2001:db8:1:2::/64",
        "2001:db8:8000::/36",
        "fe80::/10",
    ];
    let prefix = |text: &&str| Prefix::parse(text).expect("a prefix");
    let prefixes = PREFIXES.iter().map(prefix);
    prefixes
        .zip(1..)
        .map(|(prefix, leaf)| Route { prefix, leaf })
        .collect()
}

/// A million random /48 in 16,384 random /32 of 2000::/3, one leaf each, sorted.
#[must_use]
pub fn sites(seed: u64) -> Vec<Route<u128>> {
    made(48, 32, (MADE_ROUTES, 0), &mut Rng::with_seed(seed)).0
}

/// A million random hosts in 16,384 random /64 of 2000::/3, one leaf each, sorted; and as many addresses in the same
/// /64 that are none of them.
#[must_use]
pub fn hosts(seed: u64) -> (Vec<Route<u128>>, Vec<u128>) {
    made(
        128,
        64,
        (MADE_ROUTES, MADE_ROUTES),
        &mut Rng::with_seed(seed),
    )
}

/// So many routes of `length` in prefixes of `parent` bits, and so many others, addresses that are drawn like the routes
/// but in none of them.
fn made(
    length: u8,
    parent: u8,
    (count, others): (usize, usize),
    random: &mut Rng,
) -> (Vec<Route<u128>>, Vec<u128>) {
    let mut parents = HashSet::new();
    while parents.len() < MADE_PARENTS {
        parents.insert((1_u128 << 125).with_random_host(3, random).masked(parent));
    }
    let mut parents: Vec<u128> = parents.into_iter().collect();
    parents.sort_unstable(); // a set has no order of its own
    let mut taken = HashSet::new();
    let mut draw = |count: usize| -> Vec<u128> {
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let of = parents[random.usize(..parents.len())];
            let address = of.with_random_host(parent, random).masked(length);
            if taken.insert(address) {
                drawn.push(address);
            }
        }
        drawn
    };
    let mut addresses = draw(count);
    let others = draw(others);
    addresses.sort_unstable();
    let routes = addresses
        .into_iter()
        .zip(1..)
        .map(|(address, leaf)| Route {
            prefix: Prefix { address, length },
            leaf,
        })
        .collect();
    (routes, others)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn routes() -> Vec<Route<u128>> {
        ["2001:db8::/32", "2001:db8:1::/48", "2a00::/12"]
            .iter()
            .zip(1..)
            .map(|(text, leaf)| Route {
                prefix: Prefix::parse(text).expect("a prefix"),
                leaf,
            })
            .collect()
    }

    #[test]
    fn a_trace_is_the_same_for_the_same_seed_and_another_for_another() {
        for trace in Trace::ALL {
            let addresses = trace.addresses(&routes(), 1000, 7);
            assert_eq!(addresses.len(), 1000);
            assert_eq!(addresses, trace.addresses(&routes(), 1000, 7), "{trace}");
            assert_ne!(addresses, trace.addresses(&routes(), 1000, 8), "{trace}");
        }
    }

    #[test]
    fn traces_over_prefixes_stay_in_them_and_random_ones_in_global_unicast() {
        for trace in [Trace::Uniform, Trace::Zipf, Trace::Hot] {
            for address in trace.addresses(&routes(), 1000, 7) {
                assert!(
                    routes().iter().any(|route| route.prefix.contains(address)),
                    "{trace}"
                );
            }
        }
        let global = Prefix::parse("2000::/3").expect("a prefix");
        assert!(
            Trace::Random
                .addresses(&routes(), 1000, 7)
                .iter()
                .all(|address| global.contains(*address))
        );
        let v4 = [Route {
            prefix: Prefix {
                address: 0x0a00_0000_u32,
                length: 8,
            },
            leaf: 1,
        }];
        assert!(
            Trace::Random
                .addresses(&v4, 1000, 7)
                .iter()
                .any(|address| address >> 24 != 10)
        );
    }

    #[test]
    fn the_second_rank_is_half_as_frequent_and_hot_addresses_are_1024() {
        let drawn = zipf(&[1_u32, 2, 3, 4], 100_000, &mut Rng::with_seed(3));
        let mut counts = HashMap::new();
        for address in drawn {
            *counts.entry(address).or_insert(0_u32) += 1;
        }
        let ratio = f64::from(counts[&1]) / f64::from(counts[&2]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        let hot: HashSet<u128> = Trace::Hot
            .addresses(&routes(), 1 << 16, 7)
            .into_iter()
            .collect();
        assert_eq!(hot.len(), HOT_ADDRESSES);
    }

    #[test]
    fn the_prefixes_of_an_edge_are_in_order() {
        assert!(edge().is_sorted_by_key(|route| route.prefix));
    }

    #[test]
    fn hosts_and_misses_are_different_addresses_in_the_same_networks() {
        const COUNT: usize = 20_000;
        let (routes, misses) = made(128, 64, (COUNT, COUNT), &mut Rng::with_seed(5));
        let network = |address: u128| address >> 64;
        let networks: HashSet<u128> = routes
            .iter()
            .map(|route| network(route.prefix.address))
            .chain(misses.iter().copied().map(network))
            .collect();
        assert!((MADE_PARENTS / 2..=MADE_PARENTS).contains(&networks.len()));
        assert!(routes.is_sorted_by_key(|route| route.prefix));
        let different: HashSet<u128> = routes
            .iter()
            .map(|route| route.prefix.address)
            .chain(misses)
            .collect();
        assert_eq!((routes.len(), different.len()), (COUNT, 2 * COUNT));
    }
}
