//! The Rust crates a user could pick instead. None of them looks up more than one address at a time.
//!
//! They are compiled like everything here, for any x86-64 processor, and choose nothing when they run: compiled for one
//! that counts bits in an instruction (`popcnt`, `bmi2`), they were seen to be up to half faster.

use std::net::{Ipv4Addr, Ipv6Addr};

use ip_network_table_deps_treebitmap::IpLookupTable;
use poptrie::Poptrie;
use prefix_trie::PrefixMap;

use super::contender::{Contender, Lookup, contender};
use super::prefix::{Address, Route};

/// Their names in cases, and what the best of them is chosen from.
pub const NAMES: [&str; 3] = ["treebitmap", "prefix-trie", "poptrie"];

/// An address that all of them know.
pub trait Supported: Address {
    /// All of them, built of `routes`, in the order of [`NAMES`].
    fn contenders(routes: &[Route<Self>]) -> Vec<Box<dyn Contender<Self::Key>>>;
}

struct Treebitmap<I>(IpLookupTable<I, u32>);
struct PrefixTrie<A>(PrefixMap<(A, u8), u32>);
struct Pop<A: poptrie::Address>(Poptrie<(A, u8), u32>);

/// The two families differ in types only, which these crates do not let one say generically.
macro_rules! supported {
    ($address:ty, $ip:ty, $number_of:expr) => {
        impl Supported for $address {
            fn contenders(routes: &[Route<Self>]) -> Vec<Box<dyn Contender<Self::Key>>> {
                let mut treebitmap = IpLookupTable::with_capacity(routes.len());
                for Route { prefix, leaf } in routes {
                    treebitmap.insert(<$ip>::from(prefix.address), prefix.length.into(), *leaf);
                }
                let pairs = || {
                    routes
                        .iter()
                        .map(|Route { prefix, leaf }| ((prefix.address, prefix.length), *leaf))
                };
                let [treebitmap_name, prefix_trie_name, poptrie_name] = NAMES;
                vec![
                    contender(treebitmap_name, Treebitmap::<$ip>(treebitmap)),
                    contender(prefix_trie_name, PrefixTrie(pairs().collect())),
                    contender(poptrie_name, Pop(pairs().collect())),
                ]
            }
        }

        impl Lookup<<$address as Address>::Key> for Treebitmap<$ip> {
            type Found = u32;
            const SLOW: bool = true;
            #[inline]
            fn burst(&self, keys: &[<$address as Address>::Key], found: &mut [u32]) {
                for (key, found) in keys.iter().zip(found) {
                    let longest = self.0.longest_match(<$ip>::from(*key));
                    *found = longest.map_or(0, |(_, _, leaf)| *leaf);
                }
            }
            fn leaf(found: u32) -> u32 {
                found
            }
        }

        impl Lookup<<$address as Address>::Key> for PrefixTrie<$address> {
            type Found = u32;
            const SLOW: bool = true;
            #[inline]
            fn burst(&self, keys: &[<$address as Address>::Key], found: &mut [u32]) {
                for (key, found) in keys.iter().zip(found) {
                    let longest = self.0.get_lpm(&($number_of(*key), <$address as Address>::LENGTH));
                    *found = longest.map_or(0, |(_, leaf)| *leaf);
                }
            }
            fn leaf(found: u32) -> u32 {
                found
            }
        }

        impl Lookup<<$address as Address>::Key> for Pop<$address> {
            type Found = u32;
            const SLOW: bool = true;
            #[inline]
            fn burst(&self, keys: &[<$address as Address>::Key], found: &mut [u32]) {
                for (key, found) in keys.iter().zip(found) {
                    *found = self.0.lookup($number_of(*key)).copied().unwrap_or(0);
                }
            }
            fn leaf(found: u32) -> u32 {
                found
            }
        }
    };
}

supported!(u128, Ipv6Addr, u128::from_be_bytes);
supported!(u32, Ipv4Addr, u32::from);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lpm::contender::{count_wrong, keys_of};
    use crate::lpm::oracle::Oracle;
    use crate::lpm::prefix::Prefix;
    use crate::lpm::traces::Trace;

    fn agree<A: Supported>(prefixes: &[&str]) {
        let routes: Vec<Route<A>> = prefixes
            .iter()
            .zip(1..)
            .map(|(text, leaf)| Route {
                prefix: Prefix::parse(text).expect("a prefix"),
                leaf,
            })
            .collect();
        let oracle = Oracle::new(&routes);
        let contenders = A::contenders(&routes);
        assert_eq!(
            contenders
                .iter()
                .map(|contender| contender.name())
                .collect::<Vec<_>>(),
            NAMES
        );
        for trace in Trace::ALL {
            let addresses = trace.addresses(&routes, 5000, 11);
            let right = oracle.answers(&addresses);
            for contender in &contenders {
                let answers = contender.answers(&keys_of(&addresses));
                assert_eq!(
                    count_wrong(&answers, &right),
                    0,
                    "{} {trace}",
                    contender.name()
                );
            }
        }
    }

    #[test]
    fn every_crate_answers_like_the_oracle() {
        agree::<u128>(&[
            "2000::/4",
            "2001:db8::/32",
            "2001:db8:8000::/33",
            "2001:db8:1::/48",
            "2001:db8::1/128",
        ]);
        agree::<u32>(&[
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/23",
            "10.1.2.3/32",
        ]);
    }
}
