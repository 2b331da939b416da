//! The tree beside a plain list, and the law of holes on random tables of 100,000 prefixes.

use std::collections::BTreeMap;

use super::*;

/// The slow twin.
#[derive(Default)]
struct List(BTreeMap<Bits, u32>);

fn holds(outer: Bits, inner: Bits) -> bool {
    outer.len <= inner.len && Bits::new(inner.bits, outer.len) == outer
}

impl List {
    fn longest(&self, prefix: Bits) -> Option<(u8, u32)> {
        let around = self.0.iter().filter(|(known, _)| holds(**known, prefix));
        let longest = around.max_by_key(|(known, _)| known.len);
        longest.map(|(known, value)| (known.len, *value))
    }

    fn within(&self, prefix: Bits) -> Vec<(Bits, u32)> {
        let within = self.0.iter().filter(|(known, _)| holds(prefix, **known));
        within.map(|(known, value)| (*known, *value)).collect()
    }
}

/// Prefixes that meet each other: few distinct bits at the top, any length.
fn prefix(rng: &mut fastrand::Rng, width: u8) -> Bits {
    let len = rng.u8(0..=width);
    let bits = rng.u128(..) & rng.u128(..) & rng.u128(..);
    Bits::new(bits, len)
}

#[test]
fn agrees_with_a_plain_list() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut trie, mut list) = (Trie::new(), List::default());
        let width = rng.u8(4..=128);
        for step in 0..800 {
            let changed = prefix(&mut rng, width);
            if rng.u8(..) < 150 {
                assert_eq!(trie.insert(changed, step), list.0.insert(changed, step));
            } else {
                let known = list.0.keys().nth(rng.usize(0..=list.0.len()));
                let gone = known.copied().unwrap_or(changed);
                assert_eq!(trie.remove(gone), list.0.remove(&gone));
            }
            let asked = prefix(&mut rng, 128);
            assert_eq!(trie.longest(asked), list.longest(asked));
            assert_eq!(trie.value(changed), list.0.get(&changed).copied());
            assert_eq!(trie.within(asked).collect::<Vec<_>>(), list.within(asked));
            let after = prefix(&mut rng, 128);
            let behind = list
                .within(asked)
                .into_iter()
                .filter(|(known, _)| *known > after);
            assert!(trie.behind(asked, after).eq(behind));
            assert!(
                trie.behind(asked, changed)
                    .eq(trie.within(asked).filter(|(known, _)| *known > changed))
            );
            assert_eq!(trie.is_empty(), list.0.is_empty());
        }
        for gone in list.0.keys() {
            assert!(trie.remove(*gone).is_some());
        }
        assert_eq!(trie.root, NONE);
        let mut free = 0;
        let mut at = trie.free;
        while at != NONE {
            free += 1;
            at = trie.node(at).children[0];
        }
        assert_eq!(free, trie.nodes.len(), "a node was lost");
    }
}

/// P-10 of the requirements (RFC 9301 8.4): the prefix covers the address, holds no known prefix, and its parent does.
#[test]
fn a_hole_is_the_least_specific_prefix_without_a_known_one() {
    for (seed, width) in [(1, 32), (2, 128), (3, 24)] {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut trie = Trie::new();
        for value in 0..100_000 {
            let len = rng.u8(8..=width);
            trie.insert(Bits::new(rng.u128(..), len), value);
        }
        let mut holes = 0;
        while holes < 20_000 {
            let address = Bits::new(rng.u128(..), width);
            if trie.longest(address).is_some() {
                // A known one: the hole lies inside it.
                let (known, _) = trie.longest(address).unwrap();
                let hole = trie.hole(address);
                assert!(hole >= known);
                let others = trie.within(Bits::new(address.bits, hole));
                assert_eq!(others.filter(|(other, _)| other.len > known).count(), 0);
                holes += 1;
                continue;
            }
            holes += 1;
            let hole = trie.hole(address);
            let prefix = Bits::new(address.bits, hole);
            assert_eq!(trie.within(prefix).count(), 0);
            assert_eq!(trie.longest(prefix), None);
            if let Some(parent) = hole.checked_sub(1) {
                let parent = Bits::new(address.bits, parent);
                assert!(trie.within(parent).next().is_some());
            }
        }
    }
}

#[test]
fn an_empty_tree_has_one_hole() {
    assert_eq!(Trie::new().hole(Bits::new(5, 128)), 0);
}

#[test]
fn a_node_has_32_bytes() {
    assert_eq!(size_of::<Node>(), 32);
}
