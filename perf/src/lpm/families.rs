//! What differs between IPv6 and IPv4: which table of ours, and which of DPDK's stand beside it.

use std::collections::HashSet;

use super::contender::{Contender, contender};
use super::crates::Supported;
use super::ours::{self, Table};
use super::peers::fib4::{self, Fib4};
use super::peers::fib6::{self, Fib6};
use super::peers::{Cost, Dpdk, lpm4, lpm6};
use super::prefix::Route;
use super::updates::Updated;

/// Nodes that a few routes more than the table's need.
const SPARE_NODES: usize = 4_096;

/// A family of addresses.
pub trait Family: Supported {
    /// First part of its cases' names.
    const NAME: &'static str;
    /// What a cold burst is held against: the first that takes part.
    const COLD_REFERENCE: &'static [&'static str];
    /// Our table.
    type Ours: Table<Self>;
    /// DPDK's tables.
    type Peers<'d>: Peers<Self>;

    /// DPDK's tables of `routes`; `say` is told which there are not, and why.
    fn peers<'d>(
        dpdk: &'d Dpdk,
        routes: &[Route<Self>],
        wish: Wish,
        say: &dyn Fn(&str),
    ) -> Self::Peers<'d>;
}

/// What DPDK's tables need to be told.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Nodes that rte_fib6 sets aside for a hundred routes.
    pub fib6_nodes_percent: usize,
    /// Whether to build rte_lpm, which takes minutes.
    pub rte_lpm: bool,
}

/// DPDK's tables of one family.
pub trait Peers<A: Supported> {
    /// Every way to look something up in them.
    fn contenders(&self) -> Vec<Box<dyn Contender<A::Key> + '_>>;
    /// What making each cost.
    fn costs(&self) -> Vec<(&'static str, Cost)>;
    /// Those whose updates are timed.
    fn updated(&mut self) -> Vec<(&'static str, &mut dyn Updated<A>)>;
}

/// What could not be made is said, and left out.
fn made<T>(what: &str, table: anyhow::Result<T>, say: &dyn Fn(&str)) -> Option<T> {
    table
        .inspect_err(|error| say(&format!("SKIPPED {what}: {error:#}")))
        .ok()
}

impl Family for u128 {
    const NAME: &'static str = "lpm6";
    const COLD_REFERENCE: &'static [&'static str] = &["rte_fib6-avx512", "rte_fib6-scalar"];
    type Ours = ours::Lpm6;
    type Peers<'d> = Peers6<'d>;

    fn peers<'d>(
        dpdk: &'d Dpdk,
        routes: &[Route<Self>],
        wish: Wish,
        say: &dyn Fn(&str),
    ) -> Peers6<'d> {
        let fib6_nodes = routes.len() * wish.fib6_nodes_percent / 100 + SPARE_NODES;
        let lpm6_nodes = nodes_of_8_bits(routes) + SPARE_NODES;
        Peers6 {
            fib: made("rte_fib6", Fib6::build(dpdk, routes, fib6_nodes), say),
            lpm: made("rte_lpm6", lpm6::Lpm6::build(dpdk, routes, lpm6_nodes), say),
        }
    }
}

/// Nodes of a trie of 24 bits, then 8 bits a node.
fn nodes_of_8_bits(routes: &[Route<u128>]) -> usize {
    let nodes: HashSet<(u8, u128)> = routes
        .iter()
        .flat_map(|route| {
            (24..route.prefix.length)
                .step_by(8)
                .map(|depth| (depth, route.prefix.address >> (128 - depth)))
        })
        .collect();
    nodes.len()
}

/// DPDK's IPv6 tables.
pub struct Peers6<'d> {
    fib: Option<Fib6<'d>>,
    lpm: Option<lpm6::Lpm6<'d>>,
}

impl Peers<u128> for Peers6<'_> {
    fn contenders(&self) -> Vec<Box<dyn Contender<[u8; 16]> + '_>> {
        let fib = |name, function| {
            let view = self.fib.as_ref()?.by(function)?;
            Some(contender(name, view))
        };
        // What ratios are made of comes first where ours comes before it, last where ours comes after it.
        let mut contenders = Vec::new();
        contenders.extend(fib("rte_fib6-avx512", fib6::Function::Avx512));
        if let Some(lpm) = &self.lpm {
            contenders.push(contender("rte_lpm6", lpm6::Bulk(lpm)));
            contenders.push(contender("rte_lpm6-single", lpm6::Single(lpm)));
        }
        contenders.extend(fib("rte_fib6-scalar", fib6::Function::Scalar));
        contenders.extend(fib("rte_fib6-single", fib6::Function::Single));
        contenders
    }

    fn costs(&self) -> Vec<(&'static str, Cost)> {
        let fib = self.fib.iter().map(|fib| ("rte_fib6", fib.cost()));
        fib.chain(self.lpm.iter().map(|lpm| ("rte_lpm6", lpm.cost())))
            .collect()
    }

    fn updated(&mut self) -> Vec<(&'static str, &mut dyn Updated<u128>)> {
        let mut updated: Vec<(&'static str, &mut dyn Updated<u128>)> = Vec::new();
        if let Some(fib) = &mut self.fib {
            updated.push(("rte_fib6", fib));
        }
        if let Some(lpm) = &mut self.lpm {
            updated.push(("rte_lpm6", lpm));
        }
        updated
    }
}

impl Family for u32 {
    const NAME: &'static str = "lpm4";
    const COLD_REFERENCE: &'static [&'static str] = &[];
    type Ours = ours::Lpm4;
    type Peers<'d> = Peers4<'d>;

    fn peers<'d>(
        dpdk: &'d Dpdk,
        routes: &[Route<Self>],
        wish: Wish,
        say: &dyn Fn(&str),
    ) -> Peers4<'d> {
        let lpm = || lpm4::Lpm4::build(dpdk, routes);
        Peers4 {
            fib: made("rte_fib", Fib4::build(dpdk, routes), say),
            lpm: wish.rte_lpm.then(|| made("rte_lpm", lpm(), say)).flatten(),
        }
    }
}

/// DPDK's IPv4 tables.
pub struct Peers4<'d> {
    fib: Option<Fib4<'d>>,
    lpm: Option<lpm4::Lpm4<'d>>,
}

impl Peers<u32> for Peers4<'_> {
    fn contenders(&self) -> Vec<Box<dyn Contender<u32> + '_>> {
        let mut contenders = Vec::new();
        for (name, function) in [
            ("rte_fib-avx512", fib4::Function::Avx512),
            ("rte_fib-scalar", fib4::Function::Scalar),
        ] {
            let view = self.fib.as_ref().and_then(|fib| fib.by(function));
            contenders.extend(view.map(|view| contender(name, view)));
        }
        if let Some(lpm) = &self.lpm {
            contenders.push(contender("rte_lpm", lpm4::Bulk(lpm)));
            contenders.push(contender("rte_lpm-single", lpm4::Single(lpm)));
        }
        contenders
    }

    fn costs(&self) -> Vec<(&'static str, Cost)> {
        let fib = self.fib.iter().map(|fib| ("rte_fib", fib.cost()));
        fib.chain(self.lpm.iter().map(|lpm| ("rte_lpm", lpm.cost())))
            .collect()
    }

    fn updated(&mut self) -> Vec<(&'static str, &mut dyn Updated<u32>)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lpm::prefix::Prefix;

    #[test]
    fn nodes_are_counted_once() {
        let routes: Vec<_> = [
            "2001:d00::/24",
            "2001:db8::/32",
            "2001:db8:1::/48",
            "2001:db8:2::/48",
            "2001:db8:300::/40",
        ]
        .iter()
        .map(|text| Route {
            prefix: Prefix::parse(text).expect("a prefix"),
            leaf: 1,
        })
        .collect();
        // Below 2001:d.., below 2001:db8, and below 2001:db8:0..
        assert_eq!(nodes_of_8_bits(&routes), 3);
    }
}
