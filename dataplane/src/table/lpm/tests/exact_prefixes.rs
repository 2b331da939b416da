//! Cases made by hand.

use super::*;
use crate::table::lpm::word::{BROAD, DIRECT, INDEX, LINE};
use crate::table::lpm::{Arena, Grace, View6};

const CHAIN: u128 = 0x2001_0db8_0123_4567_89ab_cdef_0246_8ace;

fn chain_of_every_length<T: Family>(large: usize) {
    let others: Vec<u128> = (0..T::BITS).map(|bit| CHAIN ^ 1 << (127 - bit)).collect();
    let mut random = Random(7);
    for _ in 0..4 {
        let mut table = T::with_large(large);
        let mut oracle = LinearScan::default();
        let mut lengths: Vec<u8> = (0..=T::BITS).collect();
        random.shuffle(&mut lengths);
        for length in &lengths {
            table.insert(CHAIN, *length, u32::from(*length) + 1);
            oracle.insert(CHAIN & mask(T::BITS), *length, u32::from(*length) + 1);
        }
        assert_agrees(&table, &oracle, &others);
        random.shuffle(&mut lengths);
        for (step, length) in lengths.iter().enumerate() {
            table.remove(CHAIN, *length);
            oracle.remove(CHAIN & mask(T::BITS), *length);
            if step % 10 == 0 {
                assert_agrees(&table, &oracle, &others);
            }
        }
        assert_agrees(&table, &oracle, &others);
    }
}

#[test]
fn nested_chain_of_every_length() {
    chain_of_every_length::<Lpm6>(usize::MAX);
    chain_of_every_length::<Lpm6>(20);
    chain_of_every_length::<Lpm4>(usize::MAX);
    chain_of_every_length::<Lpm4>(20);
}

#[test]
fn an_empty_table_matches_nothing() {
    assert_eq!(Lpm6::new().lookups(&[0, CHAIN, u128::MAX]), [0; 3]);
    assert_eq!(Lpm4::new().lookups(&[0, CHAIN, u128::MAX]), [0; 3]);
}

#[test]
fn a_default_route_alone_matches_all() {
    for large in [1, usize::MAX] {
        let mut table = Lpm6::with_large(large);
        let empty = table.bytes();
        assert_eq!(table.insert(Ipv6Addr::UNSPECIFIED, 0, 9), None);
        assert_eq!(table.lookups(&[0, CHAIN, u128::MAX]), [9; 3]);
        assert_eq!(table.insert(Ipv6Addr::UNSPECIFIED, 0, 8), Some(9));
        assert_eq!(table.leaf(Ipv6Addr::UNSPECIFIED, 0), Some(8));
        assert_eq!(table.lookups(&[0, CHAIN, u128::MAX]), [8; 3]);
        assert_eq!(table.remove(Ipv6Addr::UNSPECIFIED, 0), Some(8));
        assert_eq!(table.lookups(&[0, CHAIN, u128::MAX]), [0; 3]);
        assert_eq!(table.bytes(), empty);
    }
}

/// Siblings fill a node from LINE over INDEX and BROAD to DIRECT, and it goes the same way back.
fn dense_siblings<T: Family>(large: usize, length: u8) {
    let count = if cfg!(debug_assertions) {
        900
    } else {
        3000_u32
    };
    let mut table = T::with_large(large);
    let empty = table.bytes();
    let network =
        |number: u32| CHAIN & mask(length - 16) | u128::from(number * 7 % 65_536) << (128 - length);
    let keys: Vec<u128> = (0..count).map(|number| network(number) | 5).collect();
    let mut random = Random(3);
    let mut numbers: Vec<u32> = (0..count).collect();
    let mut wanted = vec![0; keys.len()];
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    for (seen, is_there) in seen.iter_mut().zip([true, false]) {
        random.shuffle(&mut numbers);
        for (step, number) in numbers.iter().enumerate() {
            let leaf = if is_there { number + 1 } else { 0 };
            wanted[*number as usize] = leaf; // `as`: an index
            let old = if is_there {
                table.insert(network(*number), length, leaf)
            } else {
                table.remove(network(*number), length)
            };
            assert_eq!(old, (!is_there).then_some(number + 1));
            if step % 60 == 0 || step + 4 > keys.len() {
                assert_eq!(table.lookups(&keys), wanted);
                seen.extend(table.forms());
            }
        }
        assert_eq!(table.lookups(&keys), wanted);
    }
    let all = BTreeSet::from([LINE, INDEX, BROAD, DIRECT]);
    assert_eq!(seen, [all.clone(), all]);
    assert_eq!(table.bytes(), empty);
}

#[test]
fn dense_siblings_take_every_form_and_leave_nothing() {
    dense_siblings::<Lpm6>(usize::MAX, 48);
    dense_siblings::<Lpm6>(100, 48);
    dense_siblings::<Lpm6>(100, 96);
    dense_siblings::<Lpm4>(usize::MAX, 32);
    dense_siblings::<Lpm4>(usize::MAX, 16);
}

/// Siblings in rows go from INDEX to DIRECT: cells are quicker, and such nodes are few.
#[test]
fn siblings_in_rows_have_cells() {
    let mut table = Lpm6::new();
    for number in 0..400 {
        let network = CHAIN & mask(32) | u128::from(number) << 80;
        Family::insert(&mut table, network, 48, number + 1);
    }
    assert_eq!(table.forms().first(), Some(&DIRECT));
    let keys: Vec<u128> = (0..400)
        .map(|number: u128| CHAIN & mask(32) | number << 80)
        .collect();
    assert!(table.lookups(&keys).into_iter().eq(1..=400));
}

/// Below the large root, siblings in a row are found below three chunks; however they came there, and whatever came and went,
/// they take the same memory.
#[test]
fn siblings_in_a_row_lie_below_three_chunks() {
    const COUNT: u32 = 3_000;
    let network = |number: u32| CHAIN & mask(32) | u128::from(number) << 80;
    let route = |number: u32| (Ipv6Addr::from(network(number)), 48, number + 1);
    let loaded = |count: u32| {
        let mut table = Lpm6::with_large(8);
        table.load((0..count).map(route));
        table
    };
    let keys: Vec<u128> = (0..COUNT + 100).map(|number| network(number) | 5).collect();
    let answers = |count: u32| (0..COUNT + 100).map(move |n| if n < count { n + 1 } else { 0 });
    let mut table = loaded(COUNT);
    let (all, empty) = (table.bytes(), Lpm6::with_large(8).bytes());
    assert_eq!(table.deepest_chunk(), 3);
    assert!(table.lookups(&keys).into_iter().eq(answers(COUNT)));
    // Below the numbers at which parts of several kinds are divided otherwise.
    for count in [2_998, 1_410, 1_390, 1_300, 125, 110, 9, 8, 1] {
        for number in (count..u32::try_from(table.len()).expect("few")).rev() {
            table.remove(Ipv6Addr::from(network(number)), 48);
        }
        assert!(table.lookups(&keys).into_iter().eq(answers(count)));
        if count >= 8 {
            assert_eq!(table.bytes(), loaded(count).bytes(), "{count}");
        }
    }
    for number in 0..COUNT {
        let (network, length, leaf) = route(number);
        table.insert(network, length, leaf);
    }
    assert!(table.lookups(&keys).into_iter().eq(answers(COUNT)));
    assert_eq!(table.bytes(), all);
    table.replace([]);
    assert_eq!(table.bytes(), empty);
}

/// Below the large root, siblings that stand apart have twice as many ranges: some hundred fewer of them are divided.
#[test]
fn siblings_apart_are_divided_by_their_ranges() {
    let network = |number: u32| CHAIN & mask(32) | u128::from(number * 3) << 80;
    let mut table = Lpm6::with_large(8);
    let mut deepest = BTreeSet::new();
    for count in [1_000, 1_024, 1_025, 1_200, 1_600] {
        table.load((0..count).map(|number| (Ipv6Addr::from(network(number)), 48, number + 1)));
        // One more and gone again: what is there already is changed.
        Family::insert(&mut table, network(count), 48, 1);
        Family::remove(&mut table, network(count), 48);
        let keys: Vec<u128> = (0..count + 9).map(|number| network(number) | 5).collect();
        let answers = (0..count + 9).map(|n| if n < count { n + 1 } else { 0 });
        assert!(table.lookups(&keys).into_iter().eq(answers));
        deepest.insert(table.deepest_chunk());
    }
    assert_eq!(deepest, BTreeSet::from([1, 2, 3]));
}

/// More prefixes than keys: /48 in a row, the /47 above them, some /64 below, and a /34 over many parts. No part becomes so small
/// that the node of a /64 would be taken for one of its own.
#[test]
fn rows_of_several_lengths_agree() {
    const ROW: u32 = 4_096;
    let at = |number: u32| Ipv6Addr::from(CHAIN & mask(32) | u128::from(number) << 80);
    let sites = (0..ROW).map(|number| (at(number), 48, number + 1));
    let pairs = (0..ROW)
        .step_by(2)
        .map(|number| (at(number), 47, ROW + number + 1));
    let links = (0..ROW)
        .step_by(500)
        .map(|number| (at(number), 64, 2 * ROW + number + 1));
    let mut table = Lpm6::with_large(8);
    let above = (at(0), 34, 3 * ROW + 1);
    table.load(sites.chain(pairs).chain(links).chain([above]));
    let behind: Vec<u128> = (ROW..4 * ROW)
        .step_by(50)
        .map(|number| u128::from(at(number)))
        .collect();
    // Parts that are made anew know of what begins before them.
    for number in (ROW..4 * ROW).step_by(500) {
        table.insert(at(number + 7), 48, 1);
        table.remove(at(number + 7), 48);
    }
    let leaves = table.lookups(&behind);
    assert!(leaves.iter().all(|leaf| *leaf == 3 * ROW + 1));
    assert_eq!(table.lookups(&[u128::from(at(4 * ROW))]), [0]);
    let keys: Vec<u128> = (0..ROW).map(|number| u128::from(at(number)) | 5).collect();
    let answer = |number: u32, has_site: bool| match number {
        _ if number.is_multiple_of(500) => 2 * ROW + number + 1,
        _ if has_site => number + 1,
        _ => ROW + (number & !1) + 1,
    };
    let right: Vec<u32> = (0..ROW).map(|number| answer(number, true)).collect();
    assert_eq!(table.lookups(&keys), right);
    for number in (0..ROW).filter(|number| number % 3 == 0) {
        table.remove(at(number), 48);
    }
    let right: Vec<u32> = (0..ROW)
        .map(|number| answer(number, number % 3 != 0))
        .collect();
    assert_eq!(table.lookups(&keys), right);
    let mut loaded = Lpm6::with_large(8);
    loaded.load(table.prefixes());
    assert_eq!(loaded.bytes(), table.bytes());
}

/// What a table takes follows from its prefixes, not from those that came and went: in two /20 that are divided anew all the time.
#[test]
fn what_was_there_before_takes_no_memory() {
    const LENGTHS: [u8; 8] = [21, 28, 32, 33, 40, 44, 48, 64];
    let mut random = Random(20);
    let mut table = Lpm6::with_large(1);
    let mut there = Vec::new();
    for round in 0..24 {
        // Up to some number, then down to another.
        let size = [40, 130, 420, 60, 1_700, 350][round % 6] + random.below(40);
        while there.len() != size {
            if there.len() < size {
                let length = LENGTHS[random.below(LENGTHS.len())];
                let bits = u128::from(random.next() & 0x1_003f_0f0f) << 76;
                let network = (CHAIN & mask(20) ^ bits) & mask(length);
                let leaf = 1 + random.below(3) as u32; // `as`: below 4
                if Family::insert(&mut table, network, length, leaf).is_none() {
                    there.push((network, length));
                }
            } else {
                let (network, length) = there.swap_remove(random.below(there.len()));
                assert!(Family::remove(&mut table, network, length).is_some());
            }
        }
        let mut loaded = Lpm6::with_large(1);
        loaded.load(table.prefixes());
        assert_eq!(table.bytes(), loaded.bytes(), "{size} prefixes");
    }
}

/// Prefixes in a row that lead to the same are one range.
#[test]
fn neighbours_with_one_leaf_take_no_more_than_what_covers_them() {
    let sites = (0..64).map(|number| (CHAIN & mask(42) | number << 80, 48));
    let mut table = Lpm6::with_large(1);
    let mut other = Lpm6::with_large(1);
    for (network, length) in sites {
        Family::insert(&mut table, network, length, 7);
    }
    Family::insert(&mut other, CHAIN & mask(42), 42, 7);
    assert_eq!(table.bytes(), other.bytes());
}

/// Of a dense /28 a chunk's cells are finer than a /32: those of one with a host are marked, and no node is between.
#[test]
fn marks_in_the_cells_of_chunks_are_seen_in_any_half_of_a_batch() {
    let at = |provider: u128, site: u128| CHAIN & mask(28) | provider << 96 | site << 80;
    let (host, other) = (at(15, 3) | 9, at(15, 3) | 8);
    let sites = (0..2_000).map(|n| (Ipv6Addr::from(at(n % 15, n / 15)), 48, 5));
    let mut table = Lpm6::with_large(1);
    table.load(sites.chain([
        (Ipv6Addr::from(at(15, 0)), 32, 6),
        (Ipv6Addr::from(host), 128, 7),
    ]));
    assert_eq!(table.deepest_chunk(), 2);
    let nothing = [0_u128; 16];
    let marked: [u128; 16] = std::array::from_fn(|i| if i % 3 == 0 { host } else { other });
    let leaves: [u32; 16] = std::array::from_fn(|i| if i % 3 == 0 { 7 } else { 6 });
    assert_eq!(
        table.lookups(&[marked, nothing].concat()),
        [leaves, [0; 16]].concat()
    );
    assert_eq!(
        table.lookups(&[nothing, marked].concat()),
        [[0; 16], leaves].concat()
    );
}

/// A million EIDs anywhere in a /20 are found in nodes of some 500 ranges.
#[test]
fn some_hundred_random_siblings_cost_no_more_than_32_bytes_each() {
    const SIBLINGS: u32 = 16 * 244;
    let mut random = Random(17);
    let mut siblings = || u128::from(random.next() & 0xf_ffff) << 80;
    let mut table = Lpm6::with_large(usize::MAX);
    table
        .load((1..=SIBLINGS).map(|leaf| (Ipv6Addr::from(CHAIN & mask(28) | siblings()), 48, leaf)));
    assert_eq!(table.forms().last(), Some(&BROAD));
    assert!(table.bytes() < table.len() * 32, "{} bytes", table.bytes());
}

#[test]
fn hosts_answer_before_their_prefixes_and_memory_comes_back() {
    let count = if cfg!(debug_assertions) {
        3_000
    } else {
        300_000
    };
    let mut table = Lpm6::with_large(1000);
    let empty = table.bytes();
    Family::insert(&mut table, CHAIN, 32, 1);
    Family::insert(&mut table, CHAIN, 56, 2);
    let mut random = Random(11);
    let hosts: Vec<u128> = (0..count)
        .map(|_| CHAIN & mask(40) | random.address() & !mask(40))
        .collect();
    for (host, leaf) in hosts.iter().zip(10..) {
        assert_eq!(Family::insert(&mut table, *host, 128, leaf), None);
    }
    let leaves = table.lookups(&hosts);
    assert!(leaves.into_iter().eq(10..10 + count));
    let others: Vec<u128> = hosts.iter().map(|host| host ^ 1).collect();
    for (other, leaf) in others.iter().zip(table.lookups(&others)) {
        let is_inner = (other ^ CHAIN) & mask(56) == 0;
        assert_eq!(leaf, if is_inner { 2 } else { 1 });
    }
    assert_eq!(table.lookups(&[CHAIN]), [2]);
    for (host, leaf) in hosts.iter().zip(10..) {
        assert_eq!(Family::insert(&mut table, *host, 128, leaf + 1), Some(leaf));
    }
    for host in &hosts[1..] {
        assert!(Family::remove(&mut table, *host, 128).is_some());
    }
    assert_eq!(table.lookups(&[hosts[0], hosts[1]]), [11, 1]);
    Family::remove(&mut table, hosts[0], 128);
    Family::remove(&mut table, CHAIN, 32);
    Family::remove(&mut table, CHAIN, 56);
    assert_eq!(table.bytes(), empty);
    assert!(table.is_empty());
}

/// An Internet of small customers: the fixed cost of a table is what it takes to hold ten prefixes.
#[test]
fn four_thousand_small_tables_share_128_mebibytes() {
    let arena = Arena::new();
    let mut random = Random(5);
    let tables: Vec<Lpm6> = (0..4_000)
        .map(|_| {
            let mut table = Lpm6::new_in(&arena);
            let site = 0x2001_0db8_u128 << 96 | random.address() & !mask(32) & mask(48);
            Family::insert(&mut table, 0, 0, 1);
            Family::insert(&mut table, site, 48, 2);
            Family::insert(&mut table, CHAIN, 128, 3);
            for leaf in 4..=10 {
                let network = site | u128::from(leaf) << 64 | random.address() & !mask(64);
                Family::insert(&mut table, network, 64, leaf);
            }
            assert_eq!(table.len(), 10);
            table
        })
        .collect();
    let writers: usize = tables.iter().map(Lpm6::writer_bytes).sum();
    let shells = tables.len() * size_of::<Lpm6>();
    let all = arena.bytes() + writers + shells;
    assert!(all <= 128 << 20, "{all} bytes");
    assert_eq!(arena.bytes(), tables.iter().map(Lpm6::bytes).sum());
    drop(tables);
    assert_eq!(arena.bytes(), 0, "dropped tables give all back");
}

#[test]
fn a_view_outlives_its_table() {
    let arena = Arena::new();
    let mut table = Lpm6::new_in(&arena);
    table.load((1..=200).map(|leaf| (Ipv6Addr::from(u128::from(leaf) << 100), 32, leaf)));
    let view = table.view();
    drop(table);
    assert_eq!(view.lookup(&(7_u128 << 100).to_be_bytes()), 7);
    drop(view);
    assert_eq!(arena.bytes(), 0);
}

/// A grace period that ends when the test says so.
struct ByHand {
    epoch: u64,
    passed: u64,
}

impl Grace for ByHand {
    fn mark(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    fn passed(&mut self) -> u64 {
        self.passed
    }
}

#[test]
fn nothing_is_reused_before_its_grace_period_ends() {
    let mut table = Lpm6::new();
    let mut grace = ByHand {
        epoch: 0,
        passed: 0,
    };
    let view = table.view();
    let site = Ipv6Addr::from(CHAIN);
    let before = table.bytes();
    for leaf in 1..=50 {
        table.insert(site, 64, leaf);
        table.insert(site, 128, leaf);
    }
    assert_eq!(view.lookup(&CHAIN.to_be_bytes()), 50);
    table.remove(site, 64);
    table.remove(site, 128);
    let waiting = table.reclaim(&mut grace);
    assert!(waiting > 50 && table.bytes() > before);
    assert_eq!(table.reclaim(&mut grace), waiting, "nobody has passed");
    grace.passed = 1;
    assert_eq!(table.reclaim(&mut grace), 0);
    assert_eq!(table.bytes(), before);
}

#[test]
fn of_two_leaves_for_one_prefix_the_last_is_loaded() {
    let mut table = Lpm6::new();
    let site = Ipv6Addr::from(CHAIN);
    table.load([(site, 48, 1), (Ipv6Addr::UNSPECIFIED, 0, 2), (site, 48, 3)]);
    assert_eq!((table.len(), table.leaf(site, 48)), (2, Some(3)));
    let mut prefixes = table.prefixes();
    prefixes.sort_unstable();
    let network = Ipv6Addr::from(CHAIN & mask(48));
    assert_eq!(prefixes, [(Ipv6Addr::UNSPECIFIED, 0, 2), (network, 48, 3)]);
}

#[test]
#[should_panic(expected = "a leaf has 28 bits")]
fn leaf_zero_is_refused() {
    Lpm6::new().insert(Ipv6Addr::UNSPECIFIED, 0, 0);
}

#[test]
fn the_largest_leaf_is_kept() {
    let mut table = Lpm6::new();
    for length in [0, 20, 32, 48, 64, 127, 128] {
        table.insert(Ipv6Addr::from(CHAIN), length, crate::table::lpm::LEAF_MAX);
    }
    assert_eq!(
        table.lookups(&[CHAIN, !CHAIN]),
        [crate::table::lpm::LEAF_MAX; 2]
    );
}

/// Below both roots, in nodes of every form: a range is that of its prefix, no more, and none where hosts are below.
#[test]
fn a_range_reaches_as_far_as_its_prefix() {
    for large in [1, usize::MAX] {
        let mut table = Lpm6::with_large(large);
        let mut forms = BTreeSet::new();
        let site = |number: u128| CHAIN & mask(32) | (number * 40) << 80;
        for number in 0..1000 {
            table.insert(Ipv6Addr::from(site(number)), 48, 1);
            forms.extend(table.forms());
            // The first, one among the others, and the last.
            for number in [0, number / 2, number] {
                let first = site(number);
                let last = first | !mask(48);
                let range = table.range(&first.to_be_bytes()).expect("64 bits tell");
                assert_eq!(range.leaf(), 1);
                let prefix = |address: u128| (address >> 64) as u64; // `as`: the upper half
                assert!(range.contains(prefix(first)) && range.contains(prefix(last)));
                assert!(!range.contains(prefix(first) - 1) && !range.contains(prefix(last) + 1));
            }
        }
        for form in [DIRECT, LINE, INDEX, BROAD] {
            assert!(forms.contains(&form), "no node of form {form:#x}");
        }
        let host = site(7) + 1;
        table.insert(Ipv6Addr::from(host), 128, 2);
        assert_eq!(table.range(&host.to_be_bytes()), None);
    }
}

/// Who keeps an answer by its stamp asks again after every change, and after none of another table.
#[test]
fn a_stamp_lasts_as_long_as_the_table() {
    let (mut table, other) = (Lpm6::new(), Lpm6::new());
    let view = table.view();
    let site = Ipv6Addr::from(CHAIN);
    let mut stamps = vec![other.view().stamp(), view.stamp()];
    let mut changed = |view: &View6| {
        assert_eq!(view.stamp(), view.stamp());
        assert!(!stamps.contains(&view.stamp()));
        stamps.push(view.stamp());
    };
    table.insert(site, 48, 1);
    changed(&view);
    table.insert(site, 48, 2);
    changed(&view);
    table.remove(site, 48);
    changed(&view);
    table.load([(site, 48, 3)]);
    changed(&view);
    table.replace([(site, 64, 4)]);
    changed(&view);
    assert_eq!(other.view().stamp(), stamps[0]);
}
