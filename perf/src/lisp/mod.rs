//! LISP: what is measured with. A site's tunnel router, its core side and as many mappings as are asked for.
//!
//! ```text
//!   EIDs of the site --- fd00:a::2 | fd00:a::1  Sextant  2001:db8:ffff::2 | 2001:db8:ffff::1 --- 1,000 routers,
//!                        10.0.0.2  | 10.0.0.1            198.51.100.2     | 198.51.100.1         the sites behind them
//! ```
//!
//! Each mapping has two routers, shared 70 to 30, chosen from a thousand by a fixed seed.

pub mod appliance;
pub mod cases;
pub mod graph;
pub mod loss;
pub mod memory;
pub mod updates;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::testing::builder::{Packet, Packet4};
use dataplane::wire::ethernet::Mac;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pipelines::lisp::{LocatorSpec, MappingSpec};

use crate::network as net;

/// Name of the suite in records.
pub const SUITE: &str = "lisp";
/// EIDs of our own site, and the prefix that is translated elsewhere.
pub const SITE6: &str = net::INSIDE_PREFIX;
/// The same of IPv4.
pub const SITE4: &str = "100.64.0.0/16";
/// Our IPv4 address inside.
pub const INSIDE_ADDRESS4: &str = "10.0.0.1/24";
/// The router inside.
pub const INSIDE_ROUTER4: &str = "10.0.0.2";
/// Our RLOC.
pub const RLOC6: &str = "2001:db8:ffff::2";
/// Our IPv4 RLOC.
pub const RLOC4: &str = "198.51.100.2";
/// Our IPv4 address outside.
pub const OUTSIDE_ADDRESS4: &str = "198.51.100.2/24";
/// The core's router.
pub const OUTSIDE_ROUTER4: &str = "198.51.100.1";
/// Routers of other sites.
pub const ROUTERS: u32 = 1000;
const SEED: u64 = 9300;
/// Hosts that encapsulated packets are for.
const HOSTS: u64 = 1 << 16;

/// Families of the inner and of the outer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Families {
    /// Of the EIDs.
    pub inner_is_v4: bool,
    /// Of the RLOCs.
    pub outer_is_v4: bool,
}

impl Families {
    /// What is put before a packet, bytes: outer header, UDP, LISP.
    #[must_use]
    pub const fn overhead(self) -> usize {
        if self.outer_is_v4 { 20 + 16 } else { 40 + 16 }
    }

    /// All four.
    pub const ALL: [Self; 4] = [
        Self::of(false, false),
        Self::of(false, true),
        Self::of(true, false),
        Self::of(true, true),
    ];

    const fn of(inner_is_v4: bool, outer_is_v4: bool) -> Self {
        Self {
            inner_is_v4,
            outer_is_v4,
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |is_v4| if is_v4 { 4 } else { 6 };
        write!(
            f,
            "{}in{}",
            digit(self.inner_is_v4),
            digit(self.outer_is_v4)
        )
    }
}

/// How many mappings there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mappings(pub u32);

impl Mappings {
    /// What is measured.
    pub const ALL: [Self; 4] = [Self(1), Self(1 << 10), Self(100_000), Self(1_000_000)];
}

impl fmt::Display for Mappings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1_000_000 => f.write_str("1M"),
            100_000 => f.write_str("100k"),
            1024 => f.write_str("1k"),
            count => count.fmt(f),
        }
    }
}

/// The EID prefix of mapping `number`, scattered over the space.
#[must_use]
pub fn eid(number: u32, is_v4: bool) -> IpNet {
    if is_v4 {
        // An odd factor: every number has its own of 2^22 /24 in 32.0.0.0 to 95.255.255.255.
        let index = number.wrapping_mul(0x9e_3779) & 0x3f_ffff;
        let network = Ipv4Addr::from((32 << 24) + (index << 8));
        Ipv4Net::new(network, 24).expect("at most 32").into()
    } else {
        // One of 2^28 /48 in 3fff::/20 (RFC 9637).
        let index = u128::from(number.wrapping_mul(0x9e3_7795) & 0xfff_ffff);
        let network = Ipv6Addr::from(0x3fff << 112 | index << 80);
        Ipv6Net::new(network, 48).expect("at most 128").into()
    }
}

/// A router of another site.
#[must_use]
pub fn router(number: u32, is_v4: bool) -> IpAddr {
    if is_v4 {
        Ipv4Addr::from(0xcb00_0000 + number).into()
    } else {
        Ipv6Addr::from(0x2001_0db8_0bad << 80 | u128::from(number)).into()
    }
}

/// The two routers that mapping `number` names when it has been changed `version` times.
#[must_use]
pub fn routers(number: u32, version: u32) -> [u32; 2] {
    let seed = SEED ^ u64::from(number) ^ u64::from(version) << 32;
    let mut random = fastrand::Rng::with_seed(seed);
    let first = random.u32(..ROUTERS);
    [first, (first + random.u32(1..ROUTERS)) % ROUTERS]
}

/// What mapping `number` says when it has been changed `version` times.
#[must_use]
pub fn mapping(number: u32, version: u32, outer_is_v4: bool) -> MappingSpec {
    let [first, second] = routers(number, version);
    let locators = [(first, 70), (second, 30)].map(|(number, weight)| LocatorSpec {
        priority: 1,
        weight,
        rloc: router(number, outer_is_v4),
        up: true,
    });
    MappingSpec::Locators {
        locators: locators.to_vec(),
        version: 0,
    }
}

/// Frames from the site to hosts behind mappings, each of another flow, with the lengths of a pattern in turn.
#[must_use]
pub fn frames_out(
    families: Families,
    mappings: Mappings,
    flows: usize,
    pattern: &[usize],
) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let sizes = pattern.iter().copied().cycle().take(flows);
    sizes
        .map(|size| {
            let eid = eid(random.u32(..mappings.0), families.inner_is_v4);
            let site = if families.inner_is_v4 { SITE4 } else { SITE6 };
            let site: IpNet = site.parse().expect("a constant of this crate");
            let (source, destination) = (host(site, &mut random), host(eid, &mut random));
            frame(
                source,
                destination,
                net::INSIDE_ROUTER_MAC,
                size,
                &mut random,
            )
        })
        .collect()
}

/// Encapsulated frames from other sites to hosts of ours, whose inner part is that of frames with the lengths of a pattern.
#[must_use]
pub fn frames_in(families: Families, flows: usize, pattern: &[usize]) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let sizes = pattern.iter().copied().cycle().take(flows);
    sizes
        .map(|size| {
            let eid = eid(random.u32(..1024), families.inner_is_v4);
            let site = if families.inner_is_v4 { SITE4 } else { SITE6 };
            let site: IpNet = site.parse().expect("a constant of this crate");
            let (source, destination) = (host(eid, &mut random), host(site, &mut random));
            let inner = frame(
                source,
                destination,
                net::OUTSIDE_ROUTER_MAC,
                size,
                &mut random,
            );
            let rloc = router(random.u32(..ROUTERS), families.outer_is_v4);
            let port = random.u16(49152..);
            encapsulated(rloc, port, &inner[14..])
        })
        .collect()
}

fn encapsulated(rloc: IpAddr, port: u16, inner: &[u8]) -> Vec<u8> {
    let data = [&[0; 8][..], inner].concat();
    let (from, to) = (mac(net::OUTSIDE_ROUTER_MAC), mac(net::SOURCE_MAC));
    match rloc {
        IpAddr::V6(rloc) => {
            let packet = Packet::ethernet(from, to)
                .ipv6(rloc, RLOC6.parse().expect("a constant"))
                .hop_limit(64)
                .udp(port, 4341, &data);
            let mut frame = packet.build();
            frame[14 + 40 + 6..14 + 40 + 8].fill(0);
            frame
        }
        IpAddr::V4(rloc) => {
            let packet = Packet4::ethernet(from, to)
                .ipv4(rloc, RLOC4.parse().expect("a constant"))
                .udp(port, 4341, &data);
            let mut frame = packet.build();
            frame[14 + 20 + 6..14 + 20 + 8].fill(0);
            frame
        }
    }
}

/// A frame of `size` bytes that comes in by the source's port.
fn frame(
    source: IpAddr,
    destination: IpAddr,
    from: &str,
    size: usize,
    random: &mut fastrand::Rng,
) -> Vec<u8> {
    let ports = (random.u16(1024..), random.u16(1024..));
    let (from, to) = (mac(from), mac(net::SOURCE_MAC));
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => Packet::ethernet(from, to)
            .ipv6(source, destination)
            .hop_limit(64)
            .udp(ports.0, ports.1, &vec![0x5a; size - 62])
            .build(),
        (IpAddr::V4(source), IpAddr::V4(destination)) => Packet4::ethernet(from, to)
            .ipv4(source, destination)
            .udp(ports.0, ports.1, &vec![0x5a; size - 42])
            .build(),
        _ => unreachable!("both are EIDs of one family"),
    }
}

fn host(prefix: IpNet, random: &mut fastrand::Rng) -> IpAddr {
    let host = random.u64(1..HOSTS);
    match prefix {
        IpNet::V6(prefix) => {
            Ipv6Addr::from(u128::from(prefix.network()) | u128::from(host) << 64 | 1).into()
        }
        IpNet::V4(prefix) => {
            let mask = u32::from(prefix.hostmask());
            // `as`: below 2^16.
            Ipv4Addr::from(u32::from(prefix.network()) | (host as u32 & mask).max(1)).into()
        }
    }
}

/// A MAC address of [`crate::network`].
fn mac(text: &str) -> Mac {
    text.parse().expect("a constant of this crate")
}
