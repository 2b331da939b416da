//! Addresses of both families, prefixes and routes, as the suite writes them.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

/// An address as a number, the first bit of the address being the highest.
pub trait Address: Copy + Eq + Ord + Hash + Debug + Send + Sync + 'static {
    /// How tables take it.
    type Key: Copy + Send + Sync + 'static;
    /// Its length in bits.
    const LENGTH: u8;
    /// The longest prefix the public table holds: what a new route of the suite's updates has.
    const USUAL_LENGTH: u8;

    /// The address as tables take it: bytes in network order (IPv6), a number (IPv4).
    fn key(self) -> Self::Key;
    /// The first `length` bits, the others 0.
    #[must_use]
    fn masked(self, length: u8) -> Self;
    /// The first `length` bits, the others random.
    #[must_use]
    fn with_random_host(self, length: u8, random: &mut Rng) -> Self;
    /// Read an address.
    fn parse(text: &str) -> Option<Self>;
}

impl Address for u128 {
    type Key = [u8; 16];
    const LENGTH: u8 = 128;
    const USUAL_LENGTH: u8 = 48;

    fn key(self) -> [u8; 16] {
        self.to_be_bytes()
    }
    fn masked(self, length: u8) -> Self {
        self & Self::MAX
            .checked_shl(u32::from(Self::LENGTH - length))
            .unwrap_or(0)
    }
    fn with_random_host(self, length: u8, random: &mut Rng) -> Self {
        let host = random.u128(..);
        self.masked(length) | (host ^ host.masked(length))
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse::<Ipv6Addr>().ok().map(Self::from)
    }
}

impl Address for u32 {
    type Key = u32;
    const LENGTH: u8 = 32;
    const USUAL_LENGTH: u8 = 24;

    fn key(self) -> u32 {
        self
    }
    fn masked(self, length: u8) -> Self {
        self & Self::MAX
            .checked_shl(u32::from(Self::LENGTH - length))
            .unwrap_or(0)
    }
    fn with_random_host(self, length: u8, random: &mut Rng) -> Self {
        let host = random.u32(..);
        self.masked(length) | (host ^ host.masked(length))
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse::<Ipv4Addr>().ok().map(Self::from)
    }
}

/// A prefix: bits after `length` are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix<A> {
    /// Its first address.
    pub address: A,
    /// How many bits count.
    pub length: u8,
}

impl<A: Address> Prefix<A> {
    /// The prefix of `length` bits that `address` is in.
    #[must_use]
    pub fn of(address: A, length: u8) -> Self {
        Self {
            address: address.masked(length),
            length,
        }
    }

    /// Read `address/length`; `None` too when bits behind the length are set.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (address, length) = (A::parse(address)?, length.parse().ok()?);
        (length <= A::LENGTH && address.masked(length) == address)
            .then_some(Self { address, length })
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(self, address: A) -> bool {
        address.masked(self.length) == self.address
    }
}

/// A prefix and what a lookup of its addresses finds: from 1 on, 0 means that nothing matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<A> {
    /// Where to.
    pub prefix: Prefix<A>,
    /// What is found.
    pub leaf: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_read_only_when_its_host_bits_are_zero() {
        let prefix = Prefix::<u128>::parse("2001:db8::/32").expect("a prefix");
        assert_eq!((prefix.address, prefix.length), (0x2001_0db8 << 96, 32));
        assert_eq!(Prefix::<u128>::parse("2001:db8::1/32"), None);
        assert_eq!(Prefix::<u128>::parse("2001:db8::/129"), None);
        assert_eq!(Prefix::<u128>::parse("2001:db8::"), None);
        assert_eq!(
            Prefix::<u32>::parse("1.0.4.0/24"),
            Some(Prefix {
                address: 0x0100_0400,
                length: 24
            })
        );
        assert_eq!(Prefix::<u32>::parse("2001:db8::/32"), None);
    }

    #[test]
    fn random_hosts_stay_in_their_prefix_and_differ() {
        let mut random = Rng::with_seed(1);
        for length in 0..=128 {
            let prefix = Prefix::of(0x2001_0db8_u128 << 96, length);
            let host = prefix.address.with_random_host(length, &mut random);
            assert!(prefix.contains(host));
            if length < 64 {
                assert_ne!(host, prefix.address);
            }
        }
        assert_eq!(7_u32.with_random_host(32, &mut random), 7);
    }
}
