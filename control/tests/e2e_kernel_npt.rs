//! Our translation beside the Linux kernel's own (ip6tables SNPT and DNPT) on the same packets.
//!
//! ```text
//!  namespace sx-npt-in       namespace sx-npt-kernel        namespace sx-npt-out
//!     sxa ------------------  k0   SNPT / DNPT   k1  ------------------ sxb
//! ```
//!
//! Packets are sent into one end and captured at the other; the same packets go through our graph in process. The two
//! must agree to the byte, or the difference must be one of the departures of Linux from RFC 6296 that are listed in
//! [`Departure`] with their reasons. Needs root; each packet is known by its flow label.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use control::lab::{LabError, Namespace, run, wait_until};
use dataplane::frame::{Burst, Frame};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::{PortId, TxQueue};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::testing::builder::Packet;
use dataplane::testing::fault::Rng;
use dataplane::testing::{HeapFrame, pcap};
use dataplane::trace::Tracer;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::Pipeline;
use ipnet::Ipv6Net;
use pipelines::npt66;
use pipelines::tables::{Builder, Hop, InterfaceSpec, Route, VrfId};
use pipelines::testing::HeapEdge;

/// (rule, packet) pairs each way.
const PAIRS: u32 = 1500;
const PEER: &str = "2600:1::1";

/// Where Linux 6.18 departs from RFC 6296 and the ICMPv6 rules of its successor draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Departure {
    /// N7, N4: subnet 0xFFFF, or bits between the prefix and the effective length: RFC 6296 3.2 says discard; Linux
    /// writes an address that another host has, or one with a wrong checksum.
    NoMappingTranslated,
    /// N9: identifier of all zeros: RFC 6296 3.7 as printed says drop; Linux reads it with erratum 8757.
    ZeroIidTranslated,
    /// N12: Linux looks for an ICMPv6 error only right behind the IPv6 header, and leaves every quote alone that is
    /// short or not of its prefix, and does not look at the checksum.
    QuoteLeftAlone,
}

struct Rule {
    inside: Ipv6Net,
    outside: Ipv6Net,
}

/// Pairs of every kind of length, none overlapping: the rule's number is in bits 16 to 31 of the prefix.
fn rules() -> Vec<Rule> {
    let lengths = [
        (48, 48),
        (56, 56),
        (64, 64),
        (32, 32),
        (44, 44),
        (49, 49),
        (60, 60),
        (63, 63),
        (48, 56),
        (56, 48),
        (48, 64),
        (64, 48),
        (40, 52),
        (52, 40),
        (33, 47),
        (57, 61),
    ];
    let net = |lead: u128, number: u128, rest: u128, length: u8| {
        let address = Ipv6Addr::from(lead << 112 | number << 96 | rest << 64);
        Ipv6Net::new(address, length).expect("a length").trunc()
    };
    let mut random = Rng::new(66);
    lengths
        .iter()
        .zip(1_u128..)
        .flat_map(|(lengths, number)| [(lengths, 2 * number), (lengths, 2 * number + 1)])
        .map(|((inside, outside), number)| Rule {
            inside: net(
                0xfd01,
                number,
                u128::from(random.next_u64() as u32),
                *inside,
            ),
            outside: net(
                0x2a00,
                number,
                u128::from(random.next_u64() as u32),
                *outside,
            ),
        })
        .collect()
}

/// A random address of a prefix; now and then with the words the algorithm treats specially.
fn host(random: &mut Rng, net: &Ipv6Net) -> Ipv6Addr {
    let mut bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
    match random.next_u64() % 16 {
        0 => bits |= 0xffff << 64,
        1 => bits |= 0xffff << 48,
        2 => bits |= 0xffff_ffff_ffff << 16,
        3 => bits |= u128::from(u64::MAX),
        4 => bits &= !u128::from(u64::MAX),
        5 => bits &= !(0xffff << 64),
        _ => {}
    }
    // Half of the addresses stay within /64 of the prefix, so that unequal lengths have a counterpart.
    if random.next_u64().is_multiple_of(2) {
        bits &= u128::from(u64::MAX) | 0xff << 64;
    }
    let host_mask = u128::MAX
        .checked_shr(u32::from(net.prefix_len()))
        .unwrap_or(0);
    Ipv6Addr::from(u128::from(net.network()) | bits & host_mask)
}

/// A packet between a host of ours (as it is known on that side) and a peer. Its number is its flow label.
fn packet(
    random: &mut Rng,
    number: u32,
    ours: Ipv6Addr,
    outbound: bool,
    macs: (Mac, Mac),
) -> Vec<u8> {
    let peer: Ipv6Addr = PEER.parse().expect("address");
    let (source, destination) = if outbound { (ours, peer) } else { (peer, ours) };
    let base = Packet::ethernet(macs.0, macs.1)
        .ipv6(source, destination)
        .flow_label(number);
    let mut data = vec![0; (random.next_u64() % 200) as usize];
    random.fill(&mut data);
    // The packet that an error is about went the other way.
    let quote = |ours: Ipv6Addr| {
        let (from, to) = if outbound { (peer, ours) } else { (ours, peer) };
        Packet::anywhere()
            .ipv6(from, to)
            .udp(1, 2, &[0xaa; 40])
            .build_ipv6()
    };
    let kind = 1 + u8::try_from(random.next_u64() % 4).expect("1 to 4");
    let packet = match random.next_u64() % 16 {
        0..4 => base.udp(1000, 2000, &data),
        4..7 => base.tcp(1000, 2000, &data),
        7 => base.icmpv6_echo(7, 9, &data),
        8 => base.raw(50, &data),
        9 => base.raw(132, &data),
        10 => base
            .fragment(1024, true, number)
            .raw(17, &data[..data.len() & !7]),
        11 => base.destination_options().udp(1, 2, &data),
        12..14 => base.icmpv6_error(kind, 0, 0, &quote(ours)),
        14 => base
            .destination_options()
            .icmpv6_error(kind, 0, 0, &quote(ours)),
        _ => match random.next_u64() % 3 {
            0 => base.icmpv6_error(kind, 0, 0, &quote(ours)[..32]),
            1 => base.icmpv6_error(kind, 0, 0, &quote("2600:77::1".parse().expect("address"))),
            _ => base.icmpv6_error(kind, 0, 0, &quote(ours)).wrong_checksum(),
        },
    };
    packet.build()
}

fn mac(last: u8) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 9, last])
}

/// Three namespaces with the kernel's translator in the middle.
struct Rig {
    inside: Namespace,
    kernel: Namespace,
    outside: Namespace,
}

impl Rig {
    fn new(rules: &[Rule]) -> Result<Self, LabError> {
        let rig = Self {
            inside: Namespace::new("sx-npt-in")?,
            kernel: Namespace::new("sx-npt-kernel")?,
            outside: Namespace::new("sx-npt-out")?,
        };
        for (host, end, middle) in [(&rig.inside, "sxa", "k0"), (&rig.outside, "sxb", "k1")] {
            let (here, there) = (host.name(), rig.kernel.name());
            run(&[
                "ip", "link", "add", "name", end, "netns", here, "type", "veth", "peer", "name",
                middle, "netns", there,
            ])?;
            // Nothing but our packets on the wire.
            host.run(&[
                "sysctl",
                "-qw",
                &format!("net.ipv6.conf.{end}.disable_ipv6=1"),
            ])?;
            host.run(&["ip", "link", "set", end, "up"])?;
        }
        let kernel = &rig.kernel;
        kernel.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])?;
        for (link, last, gateway, routed) in [
            ("k0", 1, "fe80::a", "fc00::/7"),
            ("k1", 2, "fe80::b", "::/0"),
        ] {
            kernel.run(&["ip", "link", "set", link, "address", &mac(last).to_string()])?;
            kernel.run(&["ip", "link", "set", link, "up"])?;
            let neighbor = mac(0x10 + last).to_string();
            kernel.run(&[
                "ip", "-6", "neigh", "add", gateway, "lladdr", &neighbor, "dev", link,
            ])?;
            kernel.run(&[
                "ip", "-6", "route", "add", routed, "via", gateway, "dev", link,
            ])?;
        }
        for rule in rules {
            let (inside, outside) = (rule.inside.to_string(), rule.outside.to_string());
            let table = ["ip6tables-legacy", "-t", "mangle", "-A"];
            kernel.run(
                &[
                    &table[..],
                    &[
                        "POSTROUTING",
                        "-o",
                        "k1",
                        "-s",
                        &inside,
                        "-j",
                        "SNPT",
                        "--src-pfx",
                        &inside,
                        "--dst-pfx",
                        &outside,
                    ],
                ]
                .concat(),
            )?;
            kernel.run(
                &[
                    &table[..],
                    &[
                        "PREROUTING",
                        "-i",
                        "k1",
                        "-d",
                        &outside,
                        "-j",
                        "DNPT",
                        "--src-pfx",
                        &outside,
                        "--dst-pfx",
                        &inside,
                    ],
                ]
                .concat(),
            )?;
        }
        Ok(rig)
    }

    /// Send frames into one end; the IPv6 packets that came out at the other, by flow label.
    fn pass(
        &self,
        outbound: bool,
        frames: &[Vec<u8>],
        folder: &Path,
    ) -> Result<BTreeMap<u32, Vec<u8>>, LabError> {
        let (from, from_link, to, to_link) = if outbound {
            (&self.inside, "sxa", &self.outside, "sxb")
        } else {
            (&self.outside, "sxb", &self.inside, "sxa")
        };
        // A file for each direction: its header says that tcpdump listens.
        let sent = folder.join(format!("sent-{from_link}.pcap"));
        let seen = folder.join(format!("seen-{to_link}.pcap"));
        let (sent, seen) = (sent.display().to_string(), seen.display().to_string());
        pcap::write(&sent, frames).expect("a capture file");
        let capture = to.spawn(&[
            "tcpdump",
            "-ni",
            to_link,
            "--immediate-mode",
            "-U",
            "-B",
            "65536",
            "-Q",
            "in",
            "-w",
            &seen,
        ])?;
        wait_until("tcpdump to listen", Duration::from_secs(5), || {
            std::fs::metadata(&seen).is_ok_and(|file| file.len() >= 24)
        })?;
        let finished = from.run_for(
            &["tcpreplay", "-q", "-i", from_link, "-p", "4000", &sent],
            Duration::from_secs(30),
        )?;
        assert!(
            finished.success,
            "tcpreplay: {}{}",
            finished.stdout, finished.stderr
        );
        std::thread::sleep(Duration::from_millis(500));
        capture.signal(rustix::process::Signal::INT);
        capture.wait(Duration::from_secs(5))?;
        let frames = pcap::read(&seen).expect("a capture");
        Ok(frames
            .into_iter()
            .filter(|frame| frame.len() >= 54)
            .map(|frame| (label(&frame[14..]), frame[14..].to_vec()))
            .collect())
    }
}

fn label(packet: &[u8]) -> u32 {
    u32::from_be_bytes([0, packet[1] & 0x0f, packet[2], packet[3]])
}

struct Collect(std::sync::mpsc::Sender<Vec<u8>>);

impl TxQueue for Collect {
    type Frame = HeapFrame;
    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        let sent = burst.len();
        for frame in burst.drain(..) {
            self.0
                .send(frame.bytes().to_vec())
                .expect("the test listens");
        }
        sent
    }
}

/// What our graph makes of each frame: the packet that went on, or the reason it did not.
fn ours(
    rules: &[Rule],
    outbound: bool,
    frames: &[Vec<u8>],
) -> BTreeMap<u32, Result<Vec<u8>, DropReason>> {
    let mut builder = Builder::new();
    let interface = |index: usize, last: u8| InterfaceSpec {
        port: PortId::new(index).expect("a port"),
        vlan: vec![],
        mac: mac(last),
        mtu: 1500,
        vrf: VrfId(0),
        addresses: vec![],
        link_local: "fe80::1".parse().expect("address"),
        up: true,
    };
    let inside = builder.interface(interface(0, 1));
    let uplink = builder.interface(interface(1, 2));
    for (interface, gateway, last, prefix) in [
        (inside, "fe80::a", 0x11, "fc00::/7"),
        (uplink, "fe80::b", 0x12, "::/0"),
    ] {
        let via: Ipv6Addr = gateway.parse().expect("address");
        builder.neighbor(interface, via.into(), mac(last));
        let hop = Hop {
            interface,
            via: Some(via.into()),
            weight: 1,
        };
        builder.route(
            VrfId(0),
            prefix.parse::<Ipv6Net>().expect("prefix"),
            Route::Hops(vec![hop]),
        );
    }
    for rule in rules {
        let spec = npt66::Spec {
            interface: uplink,
            inside: rule.inside,
            outside: rule.outside,
            zero_iid: npt66::ZeroIid::Drop,
        };
        builder.npt66(spec).expect("a valid rule");
    }
    let tables = builder.build();
    let counters = std::sync::Arc::new(dataplane::counters::WorkerCounters::new());
    let (punts, _control) = dataplane::ring::ring(64);
    let forward_port = usize::from(outbound);
    let mut results = BTreeMap::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let ports = (0..2)
        .map(|index| {
            if index == forward_port {
                TxPath::Queue(Box::new(Collect(sender.clone())) as Box<_>)
            } else {
                TxPath::Absent
            }
        })
        .collect();
    let rates = [(1000, 1000); PuntReason::COUNT];
    let mut out = Outputs::new(
        ports,
        vec![None],
        punts,
        rates,
        std::sync::Arc::clone(&counters),
        Tracer::off(),
    );
    let mut edge = HeapEdge::new();
    for frame in frames {
        let before: Vec<u64> = DropReason::ALL
            .iter()
            .map(|reason| counters.dropped(*reason))
            .collect();
        let mut burst: Burst<HeapFrame> = std::iter::once(HeapFrame::new(frame)).collect();
        let ingress = PortId::new(usize::from(!outbound)).expect("a port");
        edge.process(&tables, ingress, &mut burst, &mut out);
        out.flush();
        let dropped = DropReason::ALL.iter().zip(before).find(|(reason, before)| {
            // An answer to the other side has no queue there; it is not what the packet was dropped for.
            **reason != DropReason::InterfaceDown && counters.dropped(**reason) > *before
        });
        let result = match (receiver.try_recv(), dropped) {
            (Ok(packet), None) => Ok(packet[14..].to_vec()),
            (Err(_), Some((reason, _))) => Err(*reason),
            other => panic!("one fate a packet: {other:?}"),
        };
        results.insert(label(&frame[14..]), result);
    }
    results
}

/// Why the kernel may differ here, if it may.
fn explain(ours: &Result<Vec<u8>, DropReason>, kernel: Option<&Vec<u8>>) -> Option<Departure> {
    match (ours, kernel) {
        (Err(DropReason::Npt66NoMapping), Some(_)) => Some(Departure::NoMappingTranslated),
        (Err(DropReason::Npt66ZeroIid), Some(_)) => Some(Departure::ZeroIidTranslated),
        (
            Err(
                DropReason::Npt66QuoteForeign
                | DropReason::Npt66QuoteTruncated
                | DropReason::Icmpv6Checksum,
            ),
            Some(_),
        ) => Some(Departure::QuoteLeftAlone),
        (Ok(ours), Some(kernel)) => {
            // The same header, only the quote of an error behind an extension header differs, by one address.
            let error_behind_header = ours[6] == 60;
            let same_header = ours[..40] == kernel[..40] && ours.len() == kernel.len();
            let differing = ours.iter().zip(kernel).filter(|(a, b)| a != b).count();
            (error_behind_header && same_header && differing <= 16)
                .then_some(Departure::QuoteLeftAlone)
        }
        _ => None,
    }
}

#[test]
fn agrees_with_the_kernel_but_for_the_known_departures() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: namespaces need root");
        return;
    }
    let rules = rules();
    let rig = Rig::new(&rules).expect("the rig");
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Rng::new(6296);
    let (mut agreed, mut departures) = (0, BTreeMap::new());
    let mut unexplained = Vec::new();
    for outbound in [true, false] {
        let macs = if outbound {
            (mac(0x11), mac(1))
        } else {
            (mac(0x12), mac(2))
        };
        let frames: Vec<_> = (1..=PAIRS)
            .map(|number| {
                let rule = &rules[number as usize % rules.len()];
                let ours = host(
                    &mut random,
                    if outbound {
                        &rule.inside
                    } else {
                        &rule.outside
                    },
                );
                packet(&mut random, number, ours, outbound, macs)
            })
            .collect();
        let theirs = rig
            .pass(outbound, &frames, folder.path())
            .expect("the kernel's packets");
        let ours = ours(&rules, outbound, &frames);
        assert_eq!(ours.len(), frames.len());
        for (number, ours) in &ours {
            let kernel = theirs.get(number);
            if ours.as_ref().ok() == kernel {
                agreed += 1;
            } else if let Some(departure) = explain(ours, kernel) {
                *departures.entry(departure).or_insert(0) += 1;
            } else {
                unexplained.push(format!(
                    "outbound {outbound}, packet {number}: ours {ours:02x?}, kernel {kernel:02x?}"
                ));
            }
        }
    }
    println!(
        "{} pairs: {agreed} agree, known departures {departures:?}, unexplained {}",
        2 * PAIRS,
        unexplained.len()
    );
    assert!(
        unexplained.is_empty(),
        "{} unexplained, first: {}",
        unexplained.len(),
        unexplained[0]
    );
    assert!(agreed > 2000, "the rig carried the packets: {agreed} agree");
    assert_eq!(
        departures.len(),
        3,
        "every known departure was seen: {departures:?}"
    );
}
