//! One writer and readers on other threads, with quiescent states, on random schedules.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use super::*;
use crate::table::publish::Publisher;

/// Pairs of leaves a prefix switches between: what is seen must be one of its own two, or of the prefix above.
const ABOVE: u32 = 1_000_000;

/// A prefix under change.
#[derive(Clone, Copy)]
struct Subject {
    network: u128,
    length: u8,
    leaf: u32,
}

/// Prefixes that share nodes of every form; none inside another, so that each address has few right answers.
fn subjects(count: u32) -> Vec<Subject> {
    let mut random = Random(23);
    (0..count)
        .map(|number| {
            let (network, length) = match number % 5 {
                0 => (0x2001_u128 << 112 | u128::from(number) << 96, 32),
                1 => (0x2002_0001_u128 << 96 | u128::from(number) << 80, 48),
                2 => (0x2003_0001_0001_u128 << 80 | u128::from(number) << 64, 64),
                3 => (
                    0x2004_0001_u128 << 96 | u128::from(random.next()) << 16 | u128::from(number),
                    128,
                ),
                _ => (0x3000_u128 << 112 | u128::from(number) << 104, 24),
            };
            // This one and the next: bits of both would be neither.
            let leaf = 4 * number + 1;
            Subject {
                network,
                length,
                leaf,
            }
        })
        .collect()
}

/// Writes for a while; readers look every subject up, by both ways, and judge what they get.
fn run(large: usize, count: u32, rounds: usize) {
    let subjects = subjects(count);
    let mut table = Lpm6::with_large(large);
    table.insert(Ipv6Addr::UNSPECIFIED, 0, ABOVE);
    let before = table.bytes();
    let mut publisher = Publisher::new(table.view());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..2 {
            let mut reader = publisher.reader();
            let (subjects, stop) = (&subjects, &stop);
            scope.spawn(move || {
                let mut random = Random(seed);
                let keys: Vec<[u8; 16]> = subjects
                    .iter()
                    .map(|subject| {
                        let host = random.address() & !mask(subject.length);
                        (subject.network | host).to_be_bytes()
                    })
                    .collect();
                let mut leaves = vec![0; keys.len()];
                while !stop.load(Relaxed) {
                    reader.quiescent();
                    let view = reader.load();
                    let from = random.below(keys.len());
                    let to = from + 1 + random.below(keys.len() - from);
                    view.lookup_bulk(&keys[from..to], &mut leaves[from..to]);
                    let one = random.below(keys.len());
                    leaves[one] = view.lookup(&keys[one]);
                    for at in (from..to).chain([one]) {
                        let (leaf, own) = (leaves[at], subjects[at].leaf);
                        assert!(
                            leaf == own || leaf == own + 1 || leaf == ABOVE,
                            "{leaf} is no leaf of prefix {at}"
                        );
                    }
                }
            });
        }
        let mut random = Random(99);
        for round in 0..rounds {
            let subject = subjects[random.below(subjects.len())];
            let network = Ipv6Addr::from(subject.network);
            match random.below(3) {
                0 => table.remove(network, subject.length),
                other => {
                    let leaf = subject.leaf + u32::try_from(other - 1).expect("0 or 1");
                    table.insert(network, subject.length, leaf)
                }
            };
            if round % 7 == 0 {
                table.reclaim(&mut publisher);
            }
            if round % 5_000 == 0 {
                let all = table.prefixes();
                table.replace(all);
            }
        }
        stop.store(true, Relaxed);
    });
    for subject in subjects {
        table.remove(Ipv6Addr::from(subject.network), subject.length);
    }
    assert_eq!(table.reclaim(&mut publisher), 0, "all readers are gone");
    assert_eq!(table.bytes(), before);
}

/// So many that some of their nodes change between BROAD and DIRECT all the time.
const MANY: u32 = 5_400;

const ROUNDS: usize = if cfg!(debug_assertions) {
    10_000
} else {
    200_000
};

#[test]
fn readers_of_a_small_table_see_old_or_new() {
    run(usize::MAX, MANY, ROUNDS);
}

#[test]
fn readers_of_a_large_table_see_old_or_new() {
    run(8, MANY, ROUNDS);
}

/// The change between the forms of the top, both ways, again and again.
#[test]
fn readers_see_old_or_new_while_the_root_comes_and_goes() {
    run(250, 600, ROUNDS / 10);
}

/// A prefix that comes and goes in a cell that says nothing else: a cell that is loaded twice by one lookup may be a leaf the
/// first time and lead on the second, below the root and in it.
#[test]
fn one_cell_is_the_old_or_the_new() {
    let mut table = Lpm6::with_large(8);
    let all = (0..16_u32).map(|n| (Ipv6Addr::from(u128::from(n) << 120), 8, ABOVE));
    table.load(all);
    // Below one of many /32 of a /20, and in a /20 of its own.
    let many = (0..32_u32).map(|n| {
        (
            Ipv6Addr::from(0x0200_u128 << 112 | u128::from(n) << 96),
            32,
            ABOVE,
        )
    });
    table.load(many);
    let comes = [
        (0x0200_0007_0001_u128 << 80, 48),
        (0x0300_0001_u128 << 96, 32),
    ];
    let mut publisher = Publisher::new(table.view());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (network, _) in comes {
            let mut reader = publisher.reader();
            let stop = &stop;
            scope.spawn(move || {
                let key = (network | 1).to_be_bytes();
                let keys = [key, (network | 2).to_be_bytes(), key, key];
                while !stop.load(Relaxed) {
                    reader.quiescent();
                    let view = reader.load();
                    let mut leaves = [0; 5];
                    leaves[4] = view.lookup(&key);
                    view.lookup_bulk(&keys, &mut leaves[..4]);
                    assert!(
                        leaves.iter().all(|leaf| [1, ABOVE].contains(leaf)),
                        "{leaves:?}"
                    );
                }
            });
        }
        for round in 0..5 * ROUNDS {
            for (network, length) in comes {
                let network = Ipv6Addr::from(network);
                if round % 2 == 0 {
                    table.insert(network, length, 1);
                } else {
                    table.remove(network, length);
                }
            }
            table.reclaim(&mut publisher);
        }
        stop.store(true, Relaxed);
    });
}

/// Hosts that stay, while their leaves change, thousands of others come and go beside them, and the host table is made
/// anew, larger and smaller: they are always found. Those that come and go are found with their own leaf, or not.
#[test]
fn readers_find_hosts_while_others_come_and_go_and_the_table_grows() {
    const NETWORK: u128 = 0x2004_0001_u128 << 96;
    const STAYING: u32 = 100;
    let others: u32 = if cfg!(debug_assertions) { 400 } else { 4_000 };
    let rounds = if cfg!(debug_assertions) { 3 } else { 12 };
    let key = |number: u32| NETWORK | u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let host = |number: u32| Ipv6Addr::from(key(number));
    // Four leaves each: the first two while it is there.
    let leaf = |number: u32| 4 * number + 1;
    let mut table = Lpm6::with_large(8);
    table.insert(Ipv6Addr::UNSPECIFIED, 0, ABOVE);
    for number in 0..20_u128 {
        table.insert(Ipv6Addr::from(number << 96), 32, ABOVE);
    }
    let before = table.bytes();
    for number in 0..STAYING {
        table.insert(host(number), 128, leaf(number));
    }
    let mut publisher = Publisher::new(table.view());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..2 {
            let mut reader = publisher.reader();
            let stop = &stop;
            scope.spawn(move || {
                let mut random = Random(seed);
                let mut leaves = [0; 96];
                while !stop.load(Relaxed) {
                    reader.quiescent();
                    let numbers: [u32; 96] = std::array::from_fn(|at| {
                        let end = if at % 3 == 0 {
                            STAYING
                        } else {
                            STAYING + others
                        };
                        u32::try_from(random.below(end as usize)).expect("a small number") // `as`: u32 to usize
                    });
                    let keys = numbers.map(|number| key(number).to_be_bytes());
                    let view = reader.load();
                    view.lookup_bulk(&keys, &mut leaves);
                    leaves[95] = view.lookup(&keys[95]);
                    for (number, found) in numbers.into_iter().zip(leaves) {
                        let is_own = found == leaf(number) || found == leaf(number) + 1;
                        let may_be_gone = number >= STAYING && found == ABOVE;
                        assert!(is_own || may_be_gone, "{found} for host {number}");
                    }
                }
            });
        }
        let mut random = Random(7);
        let mut numbers: Vec<u32> = (STAYING..STAYING + others).collect();
        for round in 0..rounds {
            random.shuffle(&mut numbers);
            for (step, number) in numbers.iter().enumerate() {
                table.insert(host(*number), 128, leaf(*number));
                if step % 5 == 0 {
                    // Gone and back: in another slot, as nobody may have passed since.
                    table.remove(host(*number), 128);
                    table.insert(host(*number), 128, leaf(*number) + 1);
                }
                let staying = number % STAYING;
                table.insert(host(staying), 128, leaf(staying) + (round + number) % 2);
                if step % 64 == 0 {
                    table.reclaim(&mut publisher);
                }
            }
            random.shuffle(&mut numbers);
            for number in &numbers {
                table.remove(host(*number), 128);
                if number % 64 == 0 {
                    table.reclaim(&mut publisher);
                }
            }
        }
        stop.store(true, Relaxed);
    });
    for number in 0..STAYING {
        assert!(table.remove(host(number), 128).is_some());
    }
    assert_eq!(table.reclaim(&mut publisher), 0, "all readers are gone");
    assert_eq!(table.bytes(), before);
}

/// A slot of the large root becomes a chunk when its passes are half done: the new answers, never those of another node.
#[test]
fn a_chunk_made_between_two_passes_is_gone_through() {
    let mut table = super::Lpm6::with_large(2);
    let prefix = |number: u16| Ipv6Addr::new(0x2001, number, 0, 0, 0, 0, 0, 0);
    table.insert(Ipv6Addr::UNSPECIFIED, 0, 1);
    table.insert(Ipv6Addr::new(0x3000, 0, 0, 0, 0, 0, 0, 0), 32, 2);
    let view = table.view();
    let keys: [[u8; 16]; 32] = std::array::from_fn(|number| {
        let number = u16::try_from(number).expect("few");
        Ipv6Addr::new(0x2001, number, 0xffff, 0, 0, 0, 0, 1).octets()
    });
    let mut at = [0; 32];
    let version = view.version();
    view.root_pass(version, &keys, &mut at);
    for number in 0..32 {
        table.insert(prefix(number), 32, 100 + u32::from(number));
    }
    view.cell_pass(version, &mut at);
    view.node_pass(version, &keys, &mut at);
    let right: [u32; 32] = std::array::from_fn(|number| 100 + u32::try_from(number).expect("few"));
    assert_eq!(at, right);
}
