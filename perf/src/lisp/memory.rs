//! What a mapping costs in the data plane: bytes of the map-cache and of the prefix table, over the mappings.

use std::net::Ipv6Addr;

use anyhow::Result;
use ipnet::{IpNet, Ipv6Net};
use pipelines::lisp::MappingSpec;

use super::graph::{self, Step};
use super::{Families, Mappings};
use crate::record::{Metric, Record};

/// Where the EID prefixes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Anywhere in a /20.
    Scattered,
    /// One after the other.
    Dense,
}

/// A million mappings with two locators each, in every layout.
pub fn run(only: &str, say: &dyn Fn(&str)) -> Result<Vec<Record>> {
    let count = Mappings(1_000_000);
    let mut records = Vec::new();
    for (layout, name) in [(Layout::Scattered, "scattered"), (Layout::Dense, "dense")] {
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
    let place = |(number, (eid, mapping)): (u32, (IpNet, MappingSpec))| match layout {
        Layout::Scattered => (eid, mapping),
        Layout::Dense => (dense(number), mapping),
    };
    let bytes = |mappings| -> Result<[usize; 2]> {
        let mapped = (0..).zip(graph::mapped(families, mappings)).map(place);
        let (_tables, rib) = graph::tables(Step::Encap, mapped)?;
        Ok([rib.bytes(), rib.map_cache_bytes()])
    };
    let (none, all) = (bytes(Mappings(0))?, bytes(count)?);
    // `as`: far below 2^53.
    let each = |index: usize| (all[index] - none[index]) as f64 / f64::from(count.0);
    Ok((each(0), each(1)))
}

fn dense(number: u32) -> IpNet {
    let network = Ipv6Addr::from(0x3fff_0 << 108 | u128::from(number) << 80);
    Ipv6Net::new(network, 48).expect("at most 128").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of its own and its number: what the map-cache takes at most, the shared locators aside.
    #[test]
    fn the_map_cache_takes_no_more_than_a_line_and_a_number_for_each_mapping() {
        for layout in [Layout::Scattered, Layout::Dense] {
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
