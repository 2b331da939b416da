//! What is looked up in a table, and what must be found: traces with the oracle's answers.

use super::contender::{CHUNK, keys_of};
use super::oracle::Oracle;
use super::prefix::{Address, Route};
use super::traces::{TRACE_ADDRESSES, Trace};

/// Addresses that a reader beside the writer looks up.
const WATCHED_ADDRESSES: usize = 4 * CHUNK;
/// Of everything that is drawn in this suite.
pub const SEED: u64 = 20_260_619;

/// Addresses of one case, and what they must be answered.
pub struct Course<A: Address> {
    /// Last part of the case's name.
    pub name: String,
    /// The addresses.
    pub keys: Vec<A::Key>,
    /// The right answers.
    pub right: Vec<u32>,
}

impl<A: Address> Course<A> {
    /// `addresses`, and what `oracle` answers.
    fn new(name: &str, addresses: &[A], oracle: &Oracle<A>) -> Self {
        Self {
            name: name.to_owned(),
            keys: keys_of(addresses),
            right: oracle.answers(addresses),
        }
    }
}

/// Traces over `routes` and what `oracle` answers.
pub(super) fn courses<A: Address>(
    routes: &[Route<A>],
    oracle: &Oracle<A>,
    traces: &[Trace],
) -> Vec<Course<A>> {
    traces
        .iter()
        .map(|trace| {
            let addresses = trace.addresses(routes, TRACE_ADDRESSES, SEED);
            Course::new(&trace.to_string(), &addresses, oracle)
        })
        .collect()
}

/// Hosts in another order than they were inserted, and addresses of which none is a host.
pub(super) fn host_courses(
    hosts: &[Route<u128>],
    misses: &[u128],
    oracle: &Oracle<u128>,
) -> Vec<Course<u128>> {
    let mut hits: Vec<u128> = hosts.iter().map(|route| route.prefix.address).collect();
    fastrand::Rng::with_seed(SEED).shuffle(&mut hits);
    [("hit", hits.as_slice()), ("miss", misses)]
        .map(|(name, addresses)| Course::new(name, addresses, oracle))
        .into()
}

/// Addresses that are looked up beside updates of a table of `routes`, sorted.
pub(super) fn watched<A: Address>(routes: &[Route<A>]) -> Vec<A> {
    let mut addresses = Trace::Uniform.addresses(routes, WATCHED_ADDRESSES, SEED + 3);
    addresses.sort_unstable();
    addresses
}
