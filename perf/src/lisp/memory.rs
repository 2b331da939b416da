//! What a mapping costs in the data plane: bytes of the map-cache and of the prefix table, over the mappings.

use std::net::Ipv6Addr;

use anyhow::Result;
use dataplane::table::publish::Publisher;
use ipnet::{IpNet, Ipv6Net};

use super::graph::{self, Step};
use super::{Families, Mappings};
use crate::record::{Metric, Record};

/// Where the EID prefixes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Anywhere in a /20, as in all other cases: some 244 in each /32.
    Scattered,
    /// Anywhere in a /18: some 61 in each /32, as in the suite of prefix tables.
    Sparse,
    /// One after the other.
    Dense,
}

impl Layout {
    const ALL: [(Self, &str); 3] = [
        (Self::Scattered, "scattered"),
        (Self::Sparse, "sparse"),
        (Self::Dense, "dense"),
    ];

    /// The EID prefix of mapping `number`.
    fn eid(self, number: u32) -> IpNet {
        let (network, index) = match self {
            Self::Scattered => return super::eid(number, false),
            // An odd factor: every number has its own of 2^30.
            Self::Sparse => (0x2800, number.wrapping_mul(0x19e3_7795) & 0x3fff_ffff),
            Self::Dense => (0x3fff, number),
        };
        let network = Ipv6Addr::from((network << 112) + (u128::from(index) << 80));
        Ipv6Net::new(network, 48).expect("at most 128").into()
    }
}

/// A million mappings with two locators each, in every layout.
pub fn run(only: &str, say: &dyn Fn(&str)) -> Result<Vec<Record>> {
    let count = Mappings(1_000_000);
    let mut records = Vec::new();
    for (layout, name) in Layout::ALL {
        let name = format!("lisp-memory/{name}/{count}");
        if name.contains(only) {
            let (prefixes, cache) = bytes_per_mapping(layout, count)?;
            say(&format!(
                "{name}: {prefixes:.1} bytes a mapping in the prefix table, {cache:.1} in the map-cache"
            ));
            let figures = [prefixes + cache];
            records.push(Record::of(
                super::SUITE,
                &name,
                Metric::BytesPerMapping,
                &figures,
            ));
        }
    }
    Ok(records)
}

/// In the prefix table, and in the map-cache.
fn bytes_per_mapping(layout: Layout, count: Mappings) -> Result<(f64, f64)> {
    let families = Families::ALL[0];
    let bytes = |mappings| -> Result<[usize; 2]> {
        let mapped = (0..).zip(graph::mapped(families, mappings));
        let mapped = mapped.map(|(number, (_, mapping))| (layout.eid(number), mapping));
        let (_tables, mut rib) = graph::tables(Step::Encap, mapped)?;
        // Nobody looks at what insertion replaced.
        rib.reclaim(&mut Publisher::new(()));
        Ok([rib.bytes(), rib.map_cache_bytes()])
    };
    let (none, all) = (bytes(Mappings(0))?, bytes(count)?);
    // `as`: far below 2^53.
    let each = |index: usize| (all[index] - none[index]) as f64 / f64::from(count.0);
    Ok((each(0), each(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of its own and its number: what the map-cache takes at most, the shared locators aside.
    #[test]
    fn the_map_cache_takes_no_more_than_a_line_and_a_number_for_each_mapping() {
        for (layout, _) in Layout::ALL {
            let count = Mappings(10_000);
            let (prefixes, cache) = bytes_per_mapping(layout, count).expect("a network");
            let locators = f64::from(super::super::ROUTERS * 64) / f64::from(count.0);
            assert!(
                cache > 4.0 && cache <= 68.0 + locators,
                "{layout:?}: {cache}"
            );
            assert!(prefixes > 0.0, "{layout:?}");
        }
    }
}
