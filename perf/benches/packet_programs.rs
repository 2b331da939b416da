//! The steps of a packet's way one by one, over the same frames as the suites: `cargo bench -p perf --features benches`.
//!
//! Every figure is for one packet, or one lookup, out of a run of [`PACKETS`]; the frames stay in the cache, as headers
//! do between two nodes of the graph.

use std::hint::black_box;
use std::net::Ipv6Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataplane::ring::ring;
use dataplane::table::lpm::Lpm6;
use dataplane::testing::builder::Packet;
use dataplane::wire::ipv6::proto;
use dataplane::wire::{checksum, ext};
use perf::cases::{Flows, Point, Sizes};
use perf::network as net;
use perf::traffic::{self, Direction};
use pipelines::npt66::{self, Rule, Spec, ZeroIid, translate};
use pipelines::tables::InterfaceId;

const PACKETS: usize = 256;
const ETHERNET: usize = 14;

/// What `work` does to one of [`PACKETS`] items, by position.
fn per_item(criterion: &mut Criterion, name: &str, mut work: impl FnMut(usize)) {
    let mut group = criterion.benchmark_group("packet");
    group.throughput(Throughput::Elements(PACKETS as u64)); // `as`: a constant
    group.bench_function(name, |bencher| {
        bencher.iter(|| (0..PACKETS).for_each(&mut work))
    });
    group.finish();
}

/// IPv6 packets of 64-byte frames, one flow each.
fn packets(direction: Direction) -> Vec<Vec<u8>> {
    let point = Point {
        sizes: Sizes::Small,
        flows: Flows::Thousand,
    };
    let frames = traffic::frames(direction, point);
    frames
        .iter()
        .take(PACKETS)
        .map(|frame| frame[ETHERNET..].to_vec())
        .collect()
}

fn npt66(criterion: &mut Criterion) {
    let rule = Rule::new(&Spec {
        interface: InterfaceId(0),
        inside: net::INSIDE_PREFIX.parse().expect("a prefix"),
        outside: net::OUTSIDE_PREFIX.parse().expect("a prefix"),
        zero_iid: ZeroIid::Drop,
    })
    .expect("a valid rule");
    for (name, direction, traffic) in [
        ("npt66-out", npt66::Direction::Out, Direction::Out),
        ("npt66-in", npt66::Direction::In, Direction::In),
    ] {
        let templates = packets(traffic);
        let mut packet = templates[0].clone();
        per_item(criterion, name, |position| {
            packet.copy_from_slice(&templates[position]);
            translate(&rule, direction, black_box(&mut packet), |_| None)
                .expect("it has a mapping");
        });
    }
    // An error about a packet that was translated: the quote is translated too.
    let quoted = &packets(Direction::In)[0];
    let (source, destination): ([u8; 16], [u8; 16]) = (
        quoted[24..40].try_into().expect("an address"),
        quoted[8..24].try_into().expect("an address"),
    );
    let mut quote = quoted.clone();
    quote[8..24].copy_from_slice(&source);
    quote[24..40].copy_from_slice(&destination);
    let template = Packet::anywhere()
        .ipv6("2400:cb00::1".parse().expect("an address"), source.into())
        .icmpv6_error(1, 0, 0, &quote)
        .build_ipv6();
    let mut packet = template.clone();
    per_item(criterion, "npt66-in, ICMPv6 error with its quote", |_| {
        packet.copy_from_slice(&template);
        let done = translate(&rule, npt66::Direction::In, black_box(&mut packet), |_| {
            Some(&rule)
        });
        done.expect("it has a mapping");
    });
}

fn extension_headers(criterion: &mut Criterion) {
    let udp = |packet: Packet| packet.udp(1, 2, b"payload").build_ipv6();
    for (name, packet) in [
        ("walk, no extension header", udp(Packet::anywhere())),
        (
            "walk, two extension headers",
            udp(Packet::anywhere().hop_by_hop().destination_options()),
        ),
        (
            "walk, eight extension headers",
            udp((0..8).fold(Packet::anywhere(), |p, _| p.destination_options())),
        ),
    ] {
        per_item(criterion, name, |_| {
            let packet = black_box(&packet);
            black_box(ext::walk(packet[6], &packet[40..])).expect("a valid chain");
        });
    }
}

fn checksums(criterion: &mut Criterion) {
    let addresses = ([0x20; 16], [0xfd; 16]);
    for size in [64, 1280] {
        let bytes = vec![0x5a; size];
        per_item(criterion, &format!("checksum of {size} bytes"), |_| {
            black_box(checksum::upper_layer(
                &addresses.0,
                &addresses.1,
                proto::ICMPV6,
                black_box(&bytes),
            ));
        });
    }
    per_item(criterion, "checksum update for one address", |_| {
        black_box(checksum::update(
            black_box(0x1234),
            &addresses.0,
            &addresses.1,
        ));
    });
}

fn longest_prefix_match(criterion: &mut Criterion) {
    let mut random = fastrand::Rng::with_seed(6296);
    let mut global = || Ipv6Addr::from((0b001 << 125) | (random.u128(..) >> 3));
    for routes in [1, 10_000] {
        let mut table = Lpm6::new();
        table.insert(Ipv6Addr::UNSPECIFIED, 0, 1);
        for leaf in 1..routes {
            table.insert(global(), 48, leaf);
        }
        let addresses: Vec<[u8; 16]> = (0..PACKETS).map(|_| global().octets()).collect();
        per_item(criterion, &format!("lookup, {routes} routes"), |position| {
            black_box(table.lookup(black_box(&addresses[position])));
        });
    }
}

fn rings(criterion: &mut Criterion) {
    let (mut to, mut from) = ring::<[u64; 4]>(1024);
    per_item(criterion, "ring, one in and out", |position| {
        to.push([position as u64; 4]).expect("room"); // `as`: a position
        black_box(from.pop().expect("one item"));
    });
}

criterion_group!(
    benches,
    npt66,
    extension_headers,
    checksums,
    longest_prefix_match,
    rings
);
criterion_main!(benches);
