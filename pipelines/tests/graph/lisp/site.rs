//! A LISP site in memory, by both ways through the graph: whatever is done to it is done to a box with the short way and
//! to one without, and nothing that can be seen may differ.
//!
//! ```text
//!   port 0  VRF 1, instance 7   2001:db8:e:1::1/64, 10.1.0.1/24       own EIDs 2001:db8:e::/48, 10.1.0.0/16
//!   port 1  VRF 0, underlay     2001:db8:a::1/64, 192.0.2.1/24        own RLOCs; default routes to a router
//!   port 2  VRF 0, underlay     2001:db8:b::1/64, 198.51.100.1/24     another provider
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use dataplane::counters::WorkerCounters;
use dataplane::frame::Frame;
use dataplane::reason::{DropReason, PuntReason};
use dataplane::ring::Punted;
use dataplane::testing::HeapFrame;
use dataplane::testing::builder::{Packet, Packet4};
use dataplane::wire::ethernet::Mac;
use pipelines::Meta;
use pipelines::lisp::{InstanceSpec, LocatorSpec, MappingSpec, Settings};
use pipelines::tables::{Builder, Hop, InterfaceId, InterfaceSpec, Rib, Route, VrfId};
use pipelines::testing::HeapEdge;

use crate::bench::*;

/// Ports, and their interfaces.
pub const SITE: usize = 0;
pub const UNDERLAY: usize = 1;
pub const SECOND: usize = 2;
/// The VRF of the EIDs.
pub const EIDS: VrfId = VrfId(1);
pub const INSTANCE: u32 = 7;

/// A host of the site and one of the far site, in both families.
pub const HOST6: &str = "2001:db8:e:1::10";
pub const HOST4: &str = "10.1.0.10";
pub const FAR6: &str = "2001:db8:f:1::20";
pub const FAR4: &str = "10.2.0.20";
/// Own RLOCs, and those of the far site.
pub const OWN6: &str = "2001:db8:a::1";
pub const OWN4: &str = "192.0.2.1";
pub const RLOC6: &str = "2001:db8:cafe::1";
pub const RLOC4: &str = "203.0.113.1";
/// The far site's EID prefixes.
pub const FAR_NET6: &str = "2001:db8:f::/48";
pub const FAR_NET4: &str = "10.2.0.0/16";

/// The link to the router and back.
pub const TO_ROUTER: (u8, u8) = (2, 0x22);
pub const FROM_ROUTER: (u8, u8) = (0x22, 2);
pub const TO_SECOND: (u8, u8) = (3, 0x33);

/// Interfaces and routers of a route.
pub type Hops = Vec<(u16, &'static str)>;

/// What the tables are made of, to be changed before or between.
#[derive(Clone)]
pub struct Shape {
    pub interfaces: Vec<InterfaceSpec>,
    pub neighbors: Vec<(u16, &'static str, u8)>,
    pub routes: Vec<(VrfId, &'static str, Hops)>,
    pub rules: Vec<pipelines::npt66::Spec>,
}

impl Shape {
    pub fn usual() -> Self {
        let mut site = interface(SITE, &["2001:db8:e:1::1/64", "10.1.0.1/24"]);
        site.vrf = EIDS;
        Self {
            interfaces: vec![
                site,
                interface(UNDERLAY, &["2001:db8:a::1/64", "192.0.2.1/24"]),
                interface(SECOND, &["2001:db8:b::1/64", "198.51.100.1/24"]),
            ],
            neighbors: vec![
                (0, HOST6, 0x11),
                (0, HOST4, 0x11),
                (1, "2001:db8:a::ff", 0x22),
                (1, "192.0.2.254", 0x22),
                (2, "2001:db8:b::ff", 0x33),
                (2, "198.51.100.254", 0x33),
            ],
            routes: vec![
                (VrfId(0), "::/0", vec![(1, "2001:db8:a::ff")]),
                (VrfId(0), "0.0.0.0/0", vec![(1, "192.0.2.254")]),
            ],
            rules: vec![],
        }
    }

    pub fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        for spec in &self.interfaces {
            builder.interface(spec.clone());
        }
        for (interface, address, last) in &self.neighbors {
            builder.neighbor(InterfaceId(*interface), ip_address(address), mac(*last));
        }
        for (vrf, prefix, hops) in &self.routes {
            let hops = hops.iter().map(|(interface, via)| Hop {
                interface: InterfaceId(*interface),
                via: Some(ip_address(via)),
                weight: 1,
            });
            builder.route(*vrf, ip_net(prefix), Route::Hops(hops.collect()));
        }
        for rule in &self.rules {
            builder.npt66(rule.clone()).expect("a valid rule");
        }
        builder
    }
}

/// One instance, all EIDs of the site in it.
pub fn settings() -> Settings {
    Settings {
        own_rlocs: vec![ip_address(OWN6), ip_address(OWN4)],
        seed: 0x5eed,
        instances: vec![InstanceSpec {
            id: INSTANCE,
            vrf: EIDS,
            eids: vec![ip_net("2001:db8:e::/48"), ip_net("10.1.0.0/16")],
            dynamic: Vec::new(),
            map_request: vec![],
        }],
        ..Settings::default()
    }
}

/// A mapping to locators: address, priority, weight.
pub fn to(locators: &[(&str, u8, u8)]) -> Option<MappingSpec> {
    let locators = locators.iter().map(|(rloc, priority, weight)| LocatorSpec {
        priority: *priority,
        weight: *weight,
        rloc: ip_address(rloc),
        up: true,
    });
    Some(MappingSpec::Locators {
        locators: locators.collect(),
        version: 0,
    })
}

/// What leaves, by port.
type Sent = Vec<(usize, Vec<u8>)>;

/// The boxes and the control thread's side of their tables.
pub struct Site {
    pub rib: Rib,
    short: Bench,
    /// With the short way as any processor goes it, and without.
    others: [Bench; 2],
    punted: Vec<Punted<HeapFrame, Meta>>,
}

impl Site {
    /// Without mappings.
    pub fn new(shape: &Shape, settings: Settings) -> Self {
        let mut rib = Rib::new();
        rib.set_lisp(Some(settings));
        let tables = Arc::new(shape.builder().build_in(&mut rib));
        rib.commit();
        Self {
            rib,
            short: Bench::with(Arc::clone(&tables), HeapEdge::new()),
            others: [HeapEdge::for_any_processor(), HeapEdge::without_express()]
                .map(|edge| Bench::with(Arc::clone(&tables), edge)),
            punted: Vec::new(),
        }
    }

    /// The usual site, its far site at one locator.
    pub fn to_one(rloc: &str) -> Self {
        let mut site = Self::new(&Shape::usual(), settings());
        site.map_far(&Shape::usual(), &[(rloc, 1, 1)]);
        site
    }

    /// Map both EID prefixes of the far site.
    pub fn map_far(&mut self, shape: &Shape, locators: &[(&str, u8, u8)]) {
        for prefix in [FAR_NET6, FAR_NET4] {
            self.rib.set_mapping(EIDS, ip_net(prefix), to(locators));
        }
        self.rebuild(shape);
    }

    /// New tables, in the order of the control thread.
    pub fn rebuild(&mut self, shape: &Shape) {
        self.rebuild_with(shape.builder());
    }

    /// The same from this.
    pub fn rebuild_with(&mut self, builder: Builder) {
        let tables = Arc::new(builder.build_in(&mut self.rib));
        if !self.rib.has_new_targets() {
            self.rib.commit();
        }
        for bench in &mut self.others {
            bench.tables = Arc::clone(&tables);
        }
        self.short.tables = tables;
        self.rib.commit();
    }

    /// Let frames come in; what leaves, by port.
    pub fn receive(&mut self, port: usize, frames: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        let sent = self.short.receive(port, frames);
        let others = self.others.each_mut();
        let others = others.map(|other| other.receive(port, frames));
        self.compare(sent, others)
    }

    /// The only frame that leaves when this one comes in.
    pub fn pass(&mut self, port: usize, frame: Vec<u8>) -> (usize, Vec<u8>) {
        let mut sent = self.receive(port, &[frame]);
        assert_eq!(sent.len(), 1, "drops: {:?}", self.drops());
        sent.remove(0)
    }

    /// Hand a punted packet back.
    pub fn resume(&mut self, punted: Punted<HeapFrame, Meta>) -> Vec<(usize, Vec<u8>)> {
        let (frame, meta) = (punted.frame, punted.meta);
        let sent = self.short.resume(vec![(frame.clone(), meta)]);
        let others = self.others.each_mut();
        let others = others.map(|other| other.resume(vec![(frame.clone(), meta)]));
        self.compare(sent, others)
    }

    /// What was punted since this was last asked.
    pub fn punted(&mut self) -> Vec<Punted<HeapFrame, Meta>> {
        std::mem::take(&mut self.punted)
    }

    /// The reasons only.
    pub fn punts(&mut self) -> Vec<PuntReason> {
        self.punted().iter().map(|punt| punt.reason).collect()
    }

    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        self.short.drops()
    }

    pub fn counters(&self) -> &WorkerCounters {
        &self.short.counters
    }

    pub fn unresolved(&self, punted: &Punted<HeapFrame, Meta>) -> Option<(InterfaceId, IpAddr)> {
        self.short.tables.unresolved(&punted.frame, &punted.meta)
    }

    /// Nothing that can be seen differs.
    fn compare(&mut self, sent: Sent, others: [Sent; 2]) -> Sent {
        let sorted = |mut sent: Sent| {
            sent.sort_unstable();
            sent
        };
        let seen = |punted: &[Punted<HeapFrame, Meta>]| {
            let mut seen: Vec<_> = punted
                .iter()
                .map(|punt| {
                    let bytes = punt.frame.bytes().to_vec();
                    (punt.reason.index(), bytes, format!("{:?}", punt.meta))
                })
                .collect();
            seen.sort_unstable();
            seen
        };
        let counts = |counters: &WorkerCounters| {
            let (encap, decap) = (&counters.lisp_encap, &counters.lisp_decap);
            [
                &encap.packets,
                &encap.bytes,
                &decap.packets,
                &decap.bytes,
                &counters.generated,
            ]
            .map(|count| count.read())
        };
        let punted = self.short.punted();
        let expected = sorted(sent.clone());
        for (bench, other) in self.others.iter_mut().zip(others) {
            assert_eq!(expected, sorted(other));
            assert_eq!(self.short.drops(), bench.drops());
            assert_eq!(seen(&punted), seen(&bench.punted()));
            assert_eq!(counts(&self.short.counters), counts(&bench.counters));
        }
        self.punted.extend(punted);
        sent
    }
}

/// A packet from the site's host to the far one.
pub fn six() -> Packet {
    between6(HOST6, FAR6)
}

/// The same of IPv4.
pub fn four() -> Packet4 {
    between4(HOST4, FAR4)
}

pub fn between6(from: &str, to: &str) -> Packet {
    Packet::ethernet(mac(0x11), mac(1)).ipv6(address(from), address(to))
}

pub fn between4(from: &str, to: &str) -> Packet4 {
    let v4 = |text: &str| text.parse().expect("an address");
    Packet4::ethernet(mac(0x11), mac(1)).ipv4(v4(from), v4(to))
}

/// An outer header, written without any code that is tested.
#[derive(Debug, Clone)]
pub struct Outer {
    pub link: (u8, u8),
    pub from: IpAddr,
    pub to: IpAddr,
    pub hop_limit: u8,
    pub class: u8,
    pub label: u32,
    pub port: u16,
    pub lisp: [u8; 8],
    pub has_checksum: bool,
}

impl Outer {
    /// From an own RLOC to another, of the same family, as our ITR sends it to the router.
    pub fn to(rloc: &str) -> Self {
        let own = if rloc.contains(':') { OWN6 } else { OWN4 };
        Self::between(own, rloc, TO_ROUTER)
    }

    /// From the far site to our RLOC of the same family.
    pub fn from(rloc: &str) -> Self {
        let own = if rloc.contains(':') { OWN6 } else { OWN4 };
        Self::between(rloc, own, FROM_ROUTER)
    }

    pub fn between(from: &str, to: &str, link: (u8, u8)) -> Self {
        Self {
            link,
            from: ip_address(from),
            to: ip_address(to),
            hop_limit: 64,
            class: 0,
            label: 0x12345,
            port: 0xc123,
            lisp: [8, 0, 0, 0, 0, 0, 7, 0],
            has_checksum: false,
        }
    }

    /// With the fields that come from the flow's hash, as they stand in a frame.
    pub fn with_entropy_of(mut self, frame: &[u8]) -> Self {
        let packet = &frame[14..];
        let port = if packet[0] >> 4 == 4 { 20 } else { 40 };
        self.port = u16::from_be_bytes([packet[port], packet[port + 1]]);
        self.label = u32::from_be_bytes([0, packet[1] & 0x0f, packet[2], packet[3]]);
        self
    }

    /// The whole frame round an inner packet.
    pub fn frame(&self, inner: &[u8]) -> Vec<u8> {
        let udp_len = u16::try_from(inner.len() + 16).expect("a small packet");
        let mut datagram = [self.port.to_be_bytes(), 4341_u16.to_be_bytes()].concat();
        datagram.extend(udp_len.to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(self.lisp);
        datagram.extend(inner);
        if self.has_checksum {
            let sum = self.udp_sum(&datagram);
            datagram[6..8].copy_from_slice(&(if sum == 0xffff { sum } else { !sum }).to_be_bytes());
        }
        let mut frame = [mac_of(self.link.1), mac_of(self.link.0)].concat();
        match (self.from, self.to) {
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd]);
                let start = 6 << 28 | u32::from(self.class) << 20 | self.label;
                frame.extend(start.to_be_bytes());
                frame.extend(udp_len.to_be_bytes());
                frame.extend([17, self.hop_limit]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([0x08, 0x00, 0x45, self.class]);
                frame.extend((udp_len + 20).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, self.hop_limit, 17, 0, 0]);
                frame.extend(from.octets());
                frame.extend(to.octets());
                let sum = !ones(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            _ => panic!("one family"),
        }
        frame.extend(datagram);
        frame
    }

    /// The sum that the UDP checksum is made of.
    pub fn udp_sum(&self, datagram: &[u8]) -> u16 {
        let mut bytes = match (self.from, self.to) {
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            _ => panic!("one family"),
        };
        bytes.extend([0, 17]);
        bytes.extend(
            u16::try_from(datagram.len())
                .expect("a small packet")
                .to_be_bytes(),
        );
        bytes.extend(datagram);
        ones(&bytes)
    }
}

fn mac_of(last: u8) -> [u8; 6] {
    Mac::octets(mac(last))
}

/// The ones' complement sum of RFC 1071, the plain way.
pub fn ones(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// The source port and flow label of an encapsulated frame without tags; the label of IPv4 is 0.
pub fn entropy(frame: &[u8]) -> (u16, u32) {
    let outer = Outer::to(RLOC6).with_entropy_of(frame);
    let is_v4 = frame[14] >> 4 == 4;
    (outer.port, if is_v4 { 0 } else { outer.label })
}

/// What is inside an encapsulated frame without tags.
pub fn inner(frame: &[u8]) -> &[u8] {
    let outer = if frame[14] >> 4 == 4 { 36 } else { 56 };
    &frame[14 + outer..]
}

/// Where an encapsulated frame goes.
pub fn rloc(frame: &[u8]) -> IpAddr {
    let packet = &frame[14..];
    if packet[0] >> 4 == 4 {
        IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).expect("4 bytes"))
    } else {
        IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).expect("16 bytes"))
    }
}
