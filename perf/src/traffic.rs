//! The packets that are measured with: UDP over IPv6, any number of flows, made from a fixed seed.

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use dataplane::testing::{builder::Packet, pcap};
use dataplane::wire::ethernet::Mac;
use ipnet::Ipv6Net;

use crate::cases::Point;
use crate::network as net;

/// Ethernet, IPv6 and UDP headers.
const HEADERS: usize = 14 + 40 + 8;
const SEED: u64 = 6296;
/// Where the hosts are that nobody translates.
const REMOTE_PREFIX: &str = "2a00:1000::/20";

/// Which way packets go between the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From hosts inside to remote hosts; plain forwarding takes the same.
    Out,
    /// From remote hosts to the outside addresses of hosts inside.
    In,
}

/// Frames of `point`, each flow once; fewer flows than the pattern of lengths has members repeat until it is complete.
#[must_use]
pub fn frames(direction: Direction, point: Point) -> Vec<Vec<u8>> {
    frames_between(direction, point, |random| {
        random_host(REMOTE_PREFIX, random)
    })
}

/// The same from inside to remote hosts of the caller's choice.
#[must_use]
pub fn frames_to(point: Point, remote: impl Fn(&mut fastrand::Rng) -> Ipv6Addr) -> Vec<Vec<u8>> {
    frames_between(Direction::Out, point, remote)
}

fn frames_between(
    direction: Direction,
    point: Point,
    remote: impl Fn(&mut fastrand::Rng) -> Ipv6Addr,
) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let flows: Vec<Flow> = (0..point.flows.count())
        .map(|_| {
            let remote = remote(&mut random);
            Flow::random(direction, remote, &mut random)
        })
        .collect();
    let pattern = point.sizes.pattern();
    let count = flows.len().max(pattern.len());
    flows
        .iter()
        .cycle()
        .zip(pattern.iter().cycle())
        .take(count)
        .map(|(flow, size)| flow.frame(direction, *size))
        .collect()
}

/// Write frames to a capture file; says how many there are.
pub fn write_capture(path: &Path, frames: &[Vec<u8>]) -> Result<usize> {
    pcap::write(path, frames).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(frames.len())
}

struct Flow {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    source_port: u16,
    destination_port: u16,
}

impl Flow {
    fn random(direction: Direction, remote: Ipv6Addr, random: &mut fastrand::Rng) -> Self {
        let (source, destination) = match direction {
            Direction::Out => (random_host(net::INSIDE_PREFIX, random), remote),
            Direction::In => (remote, random_host(net::OUTSIDE_PREFIX, random)),
        };
        Self {
            source,
            destination,
            source_port: random.u16(1024..),
            destination_port: random.u16(1024..),
        }
    }

    fn frame(&self, direction: Direction, size: usize) -> Vec<u8> {
        let router = match direction {
            Direction::Out => net::INSIDE_ROUTER_MAC,
            Direction::In => net::OUTSIDE_ROUTER_MAC,
        };
        Packet::ethernet(mac(router), mac(net::SOURCE_MAC))
            .ipv6(self.source, self.destination)
            .hop_limit(64)
            .udp(
                self.source_port,
                self.destination_port,
                &vec![0x5a; size - HEADERS],
            )
            .build()
    }
}

/// A host under `prefix`. Its subnet is never 0xffff, which RFC 6296 3.4 sets apart, and its interface identifier
/// never 0.
fn random_host(prefix: &str, random: &mut fastrand::Rng) -> Ipv6Addr {
    let prefix: Ipv6Net = prefix.parse().expect("a constant of this crate");
    let mut segments = random.u128(..).to_be_bytes();
    segments[6] &= 0x7f;
    segments[15] |= 1;
    let host = u128::from_be_bytes(segments) & u128::from(prefix.hostmask());
    Ipv6Addr::from(u128::from(prefix.network()) | host)
}

/// A MAC address of [`crate::network`].
fn mac(text: &str) -> Mac {
    text.parse().expect("a constant of this crate")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::cases::{Flows, Sizes};

    fn flows_of(frames: &[Vec<u8>]) -> usize {
        // Addresses and ports.
        frames
            .iter()
            .map(|frame| (frame[22..54].to_vec(), frame[54..58].to_vec()))
            .collect::<HashSet<_>>()
            .len()
    }

    #[test]
    fn every_point_has_its_flows_and_its_lengths() {
        for point in Point::all() {
            let frames = frames(Direction::Out, point);
            assert_eq!(flows_of(&frames), point.flows.count(), "{point}");
            assert!(frames.len() >= point.sizes.pattern().len(), "{point}");
            for (frame, size) in frames.iter().zip(point.sizes.pattern().iter().cycle()) {
                assert_eq!(frame.len(), *size, "{point}");
            }
        }
    }

    #[test]
    fn packets_go_between_the_prefixes_of_the_rule_and_the_world() {
        let point = Point {
            sizes: Sizes::Small,
            flows: Flows::Thousand,
        };
        for (direction, offset, prefix) in [
            (Direction::Out, 22, net::INSIDE_PREFIX),
            (Direction::In, 38, net::OUTSIDE_PREFIX),
        ] {
            let prefix: Ipv6Net = prefix.parse().expect("a prefix");
            for frame in frames(direction, point) {
                let address: [u8; 16] = frame[offset..offset + 16].try_into().expect("16 bytes");
                assert!(prefix.contains(&Ipv6Addr::from(address)));
                assert_ne!(address[6..8], [0xff, 0xff]);
            }
        }
    }

    #[test]
    fn a_capture_holds_the_frames() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("one.pcap");
        let point = Point {
            sizes: Sizes::Imix,
            flows: Flows::One,
        };
        assert_eq!(
            write_capture(&path, &frames(Direction::In, point)).expect("written"),
            12
        );
        assert_eq!(
            pcap::read(&path).expect("read"),
            frames(Direction::In, point)
        );
    }
}
