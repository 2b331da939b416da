//! Random and adversarial sets of prefixes, changed step by step.

use proptest::prelude::*;

use super::*;

/// One change.
#[derive(Debug, Clone)]
enum Change {
    Insert(u128, u8, u32),
    Remove(u128, u8),
    /// Remove one of those that are there.
    Withdraw(prop::sample::Index),
    Load(Vec<(u128, u8, u32)>),
    Replace(Vec<(u128, u8, u32)>),
}

/// Addresses that differ in few places, so that prefixes nest, collide, and fill nodes.
fn addresses() -> impl Strategy<Value = u128> {
    let sparse = (0_u8..6, 0_u8..8, any::<u8>()).prop_map(|(a, b, c)| {
        (u128::from(a) * 0x1111_0101_0011_0101_1001_0101_0011_0101)
            ^ (u128::from(b) << 61)
            ^ (u128::from(c) << 90)
    });
    let near = (0_u32..2000, 0_u32..4).prop_map(|(low, at)| {
        0x2001_0db8_u128 << 96 ^ u128::from(low) << [80, 84, 64, 0][at as usize] // `as`: an index
    });
    prop_oneof![sparse, near, any::<u128>()]
}

fn prefixes(bits: u8) -> impl Strategy<Value = (u128, u8, u32)> {
    let lengths = prop_oneof![0..=bits, Just(bits), Just(bits.min(48)), Just(bits.min(32))];
    // Few leaves, so that neighbours often have the same.
    (addresses(), lengths, 1_u32..5)
}

fn changes(bits: u8) -> impl Strategy<Value = Change> {
    let many = move || prop::collection::vec(prefixes(bits), 0..40);
    prop_oneof![
        20 => prefixes(bits).prop_map(|(network, length, leaf)| Change::Insert(network, length, leaf)),
        2 => prefixes(bits).prop_map(|(network, length, _)| Change::Remove(network, length)),
        12 => any::<prop::sample::Index>().prop_map(Change::Withdraw),
        1 => many().prop_map(Change::Load),
        1 => many().prop_map(Change::Replace),
    ]
}

fn apply<T: Family>(table: &mut T, oracle: &mut LinearScan, change: Change) {
    // An oracle of IPv4 knows nothing of later bits.
    let cut = |(network, length, leaf): (u128, u8, u32)| (network & mask(T::BITS), length, leaf);
    match change {
        Change::Insert(network, length, leaf) => {
            let old = table.insert(network, length, leaf);
            assert_eq!(old, oracle.insert(network, length, leaf));
        }
        Change::Remove(network, length) => {
            assert_eq!(
                table.remove(network, length),
                oracle.remove(network, length)
            );
        }
        Change::Withdraw(which) => {
            if !oracle.0.is_empty() {
                let (network, length, leaf) = oracle.0[which.index(oracle.0.len())];
                assert_eq!(table.remove(network, length), Some(leaf));
                oracle.remove(network, length);
            }
        }
        Change::Load(prefixes) => {
            for (network, length, leaf) in prefixes.iter().copied().map(cut) {
                oracle.insert(network, length, leaf);
            }
            table.load(prefixes);
        }
        Change::Replace(prefixes) => {
            *oracle = LinearScan::default();
            for (network, length, leaf) in prefixes.iter().copied().map(cut) {
                oracle.insert(network, length, leaf);
            }
            table.replace(prefixes);
        }
    }
}

fn run<T: Family>(large: usize, changes: Vec<Change>, others: Vec<u128>) {
    let mut table = T::with_large(large);
    let empty = table.bytes();
    let mut oracle = LinearScan::default();
    for (step, change) in changes.into_iter().enumerate() {
        apply(&mut table, &mut oracle, change);
        if step % 8 == 0 {
            assert_agrees(&table, &oracle, &edges(&oracle));
        }
    }
    assert_agrees(&table, &oracle, &edges(&oracle));
    assert_agrees(&table, &oracle, &others);
    // The same prefixes loaded at once take the same nodes.
    let mut loaded = T::with_large(large);
    loaded.load(oracle.0.clone());
    assert_agrees(&loaded, &oracle, &edges(&oracle));
    for (network, length, leaf) in oracle.0.clone() {
        assert_eq!(table.remove(network, length), Some(leaf));
    }
    assert_eq!(table.bytes(), empty, "all memory is given back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 60 } else { 600 }))]

    #[test]
    fn small_ipv6_tables_agree(
        changes in prop::collection::vec(changes(128), 1..120),
        others in prop::collection::vec(addresses(), 0..70),
    ) {
        run::<Lpm6>(usize::MAX, changes, others);
    }

    #[test]
    fn large_ipv4_tables_agree_while_they_grow_and_shrink(
        changes in prop::collection::vec(changes(32), 1..30),
        others in prop::collection::vec(addresses(), 0..70),
    ) {
        // A root of 2^24 cells is made each time: few cases, or it takes minutes.
        if others.len() % 8 == 0 {
            run::<Lpm4>(12, changes, others);
        }
    }

    #[test]
    fn small_ipv4_tables_agree(
        changes in prop::collection::vec(changes(32), 1..120),
        others in prop::collection::vec(addresses(), 0..70),
    ) {
        run::<Lpm4>(usize::MAX, changes, others);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 10 } else { 100 }))]

    #[test]
    fn large_ipv6_tables_agree_while_they_grow_and_shrink(
        changes in prop::collection::vec(changes(128), 1..120),
        others in prop::collection::vec(addresses(), 0..70),
    ) {
        run::<Lpm6>(12, changes, others);
    }
}

/// Prefixes of one node, in rows and apart, and of nodes below it.
fn siblings(bits: u8, length: u8) -> impl Strategy<Value = (u128, u8, u32)> {
    let keys = prop_oneof![4 => any::<u16>(), 1 => 0_u16..700];
    let lengths = prop_oneof![6 => Just(length), 1 => length - 15..=length, 1 => length..=bits];
    let above = 0x2001_0db8_u128 << 96 & mask(length - 16);
    (keys, lengths, 1_u32..5)
        .prop_map(move |(key, of, leaf)| (above | u128::from(key) << (128 - length), of, leaf))
}

/// Some hundred prefixes, then changes among them: as many as the largest BROAD has, or a few more or less.
fn in_one_node(bits: u8, length: u8) -> impl Strategy<Value = Vec<Change>> {
    let many = prop::collection::vec(siblings(bits, length), 100..1100);
    let change = prop_oneof![
        siblings(bits, length)
            .prop_map(|(network, length, leaf)| Change::Insert(network, length, leaf)),
        any::<prop::sample::Index>().prop_map(Change::Withdraw),
    ];
    let later = prop::collection::vec(change, 1..24);
    (many, later).prop_map(|(many, later)| [Change::Load(many)].into_iter().chain(later).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 6 } else { 60 }))]

    #[test]
    fn dense_ipv6_nodes_agree(changes in in_one_node(128, 48)) {
        run::<Lpm6>(usize::MAX, changes.clone(), Vec::new());
        run::<Lpm6>(50, changes, Vec::new());
    }

    #[test]
    fn dense_ipv4_nodes_agree(first in in_one_node(32, 16), second in in_one_node(32, 32)) {
        run::<Lpm4>(usize::MAX, first, Vec::new());
        run::<Lpm4>(usize::MAX, second, Vec::new());
    }
}
