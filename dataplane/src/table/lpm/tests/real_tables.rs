//! The public routing tables, against one hash map per prefix length. They lie beside the checkout, in
//! `../shared/data`; without them the test says so and passes.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use super::*;

/// One map for each length, longest first.
struct Maps(Vec<(u8, HashMap<u128, u32>)>);

impl Maps {
    fn new(prefixes: &[(u128, u8, u32)]) -> Self {
        let mut maps: HashMap<u8, HashMap<u128, u32>> = HashMap::new();
        for (network, length, leaf) in prefixes {
            maps.entry(*length).or_default().insert(*network, *leaf);
        }
        let mut maps: Vec<_> = maps.into_iter().collect();
        maps.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        Self(maps)
    }

    fn lookup(&self, key: u128) -> u32 {
        let mut found = self
            .0
            .iter()
            .map(|(length, map)| map.get(&(key & mask(*length))));
        found.find_map(|leaf| leaf.copied()).unwrap_or(0)
    }
}

/// Networks and lengths of a table, or nothing if it is not there.
fn read(name: &str, parse: fn(&str) -> Option<u128>) -> Option<Vec<(u128, u8)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    let unpacked = Command::new("zcat").arg(&path).output().expect("zcat runs");
    assert!(unpacked.status.success(), "zcat: {}", unpacked.status);
    let text = String::from_utf8(unpacked.stdout).expect("addresses are text");
    let line = |line: &str| {
        let prefix = line.split_whitespace().next()?;
        let (network, length) = prefix.split_once('/')?;
        Some((parse(network)?, length.parse().ok()?))
    };
    Some(
        text.lines()
            .map(|text| line(text).expect("prefix/length"))
            .collect(),
    )
}

fn check<T: Family>(prefixes: Vec<(u128, u8)>, leaf_of: impl Fn(usize) -> u32) {
    // Unoptimised, a part of the table has to do.
    let step = if cfg!(debug_assertions) { 20 } else { 1 };
    let numbered = prefixes.iter().enumerate().step_by(step);
    let prefixes: Vec<_> = numbered
        .map(|(number, (network, length))| (*network, *length, leaf_of(number)))
        .collect();
    let oracle = Maps::new(&prefixes);
    let mut random = Random(1);
    let mut keys = Vec::new();
    for _ in 0..prefixes.len().min(200_000) {
        let (network, length, _) = prefixes[random.below(prefixes.len())];
        keys.push((network | random.address() & !mask(length)) & mask(T::BITS));
        keys.push(random.address() >> 3 & mask(T::BITS) | 1 << 125);
    }
    let wanted: Vec<u32> = keys.iter().map(|key| oracle.lookup(*key)).collect();

    let mut table = T::with_large(10_000);
    table.load(prefixes.clone());
    assert!(table.lookups(&keys) == wanted, "after loading");
    let bytes = table.bytes();

    // One in ten withdrawn, another leaf for one in ten; then all as it was.
    let mut changed = prefixes.clone();
    random.shuffle(&mut changed);
    changed.truncate(prefixes.len() / 5);
    let (gone, other) = changed.split_at(prefixes.len() / 10);
    for (network, length, leaf) in gone {
        assert_eq!(table.remove(*network, *length), Some(*leaf));
    }
    for (network, length, leaf) in other {
        assert_eq!(table.insert(*network, *length, leaf + 7), Some(*leaf));
    }
    let mut meanwhile = Maps::new(&prefixes);
    for (network, length, leaf) in other {
        let map = meanwhile.0.iter_mut().find(|(of, _)| of == length);
        map.expect("has this length").1.insert(*network, leaf + 7);
    }
    for (network, length, _) in gone {
        let map = meanwhile.0.iter_mut().find(|(of, _)| of == length);
        map.expect("has this length").1.remove(network);
    }
    let leaves = table.lookups(&keys);
    assert!(
        keys.iter()
            .zip(&leaves)
            .all(|(key, leaf)| meanwhile.lookup(*key) == *leaf)
    );
    for (network, length, leaf) in &changed {
        table.insert(*network, *length, *leaf);
    }
    assert!(
        table.lookups(&keys) == wanted,
        "after all changes were taken back"
    );
    assert_eq!(table.bytes(), bytes);
}

fn check_both<T: Family>(name: &str, parse: fn(&str) -> Option<u128>) {
    let Some(prefixes) = read(name, parse) else {
        return;
    };
    let number = |number: usize| u32::try_from(number + 1).expect("a few million prefixes");
    check::<T>(prefixes.clone(), number);
    // Few leaves: neighbours are joined.
    check::<T>(prefixes, |at| number(at) / 5 % 1000 + 1);
}

fn v6(text: &str) -> Option<u128> {
    text.parse::<Ipv6Addr>().ok().map(u128::from)
}

fn v4(text: &str) -> Option<u128> {
    let address = text.parse::<Ipv4Addr>().ok()?;
    Some(u128::from(u32::from(address)) << 96)
}

#[test]
fn the_ipv6_tables_agree_with_maps() {
    check_both::<Lpm6>("fulltable-2026-06-19-v6.txt.gz", v6);
    check_both::<Lpm6>("fulltable-bart-v6.txt.gz", v6);
}

#[test]
fn the_ipv4_tables_agree_with_maps() {
    check_both::<Lpm4>("fulltable-2026-06-19-v4.txt.gz", v4);
    check_both::<Lpm4>("fulltable-bart-v4.txt.gz", v4);
}
