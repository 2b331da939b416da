//! A box with two ports and the whole graph in it, in memory.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use dataplane::batch::Batch;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::{PortId, TxQueue};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::ring::{Handoff, Punted, ring};
use dataplane::testing::HeapFrame;
use dataplane::testing::builder::Packet;
use dataplane::trace::Tracer;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::Pipeline;
use ipnet::{IpNet, Ipv6Net};
use pipelines::tables::{Builder, Hop, InterfaceId, InterfaceSpec, Route, VrfId};
use pipelines::testing::HeapEdge;
use pipelines::{Meta, Tables, npt66};
use rtrb::Producer;

/// Ports and interfaces of the usual box.
pub const INSIDE: usize = 0;
pub const UPLINK: usize = 1;

/// The usual addresses.
pub const HOST: &str = "fd01:203:405:1::1234";
pub const HOST_OUTSIDE: &str = "2001:db8:1:d550::1234";
/// A link behind that host, and an address there as it is known outside.
pub const BEHIND_HOST: &str = "fd01:203:405:9::/64";
pub const BEHIND_HOST_OUTSIDE: &str = "2001:db8:1:d558::77";
pub const INSIDE_ADDRESS: &str = "fd01:203:405:1::1";
pub const UPLINK_ADDRESS: &str = "2001:db8:ffff::2";
pub const ROUTER: &str = "2001:db8:ffff::1";
pub const PEER: &str = "2600:1::1";

pub fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

/// An address of either family.
pub fn ip_address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn net(text: &str) -> Ipv6Net {
    text.parse().expect("a prefix")
}

/// A prefix of either family.
pub fn ip_net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

pub fn mac(last: u8) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 0, last])
}

pub fn port(index: usize) -> PortId {
    PortId::new(index).expect("a port")
}

/// MAC addresses: ours on port 0 and 1 are 1 and 2, the inside host is 0x11, the router 0x22.
pub fn interface(port_index: usize, addresses: &[&str]) -> InterfaceSpec {
    InterfaceSpec {
        port: port(port_index),
        vlan: vec![],
        mac: mac(1 + u8::try_from(port_index).expect("few ports")),
        mtu: 1500,
        vrf: VrfId(0),
        addresses: addresses.iter().map(|text| ip_net(text)).collect(),
        link_local: address("fe80::1"),
        up: true,
    }
}

/// Inside fd01:203:405:1::/64 with one resolved host, a link behind it, a default route to a resolved router, and the RFC's rule.
pub fn usual() -> Builder {
    let (mut builder, [_, uplink]) = plain();
    let rule = rule(uplink, ["fd01:203:405::/48", "2001:db8:1::/48"]);
    builder.npt66(rule).expect("a valid rule");
    builder
}

/// The same, and the peer's network is translated where it leaves for the inside.
pub fn with_both_rules() -> Builder {
    let (mut builder, [inside, uplink]) = plain();
    for rule in [
        rule(uplink, ["fd01:203:405::/48", "2001:db8:1::/48"]),
        rule(inside, ["2600:1::/48", "fd26:1::/48"]),
    ] {
        builder.npt66(rule).expect("a valid rule");
    }
    builder
}

pub fn rule(interface: InterfaceId, [inside, outside]: [&str; 2]) -> npt66::Spec {
    npt66::Spec {
        interface,
        inside: net(inside),
        outside: net(outside),
        zero_iid: npt66::ZeroIid::Drop,
    }
}

/// The same without the rule.
pub fn without_rule() -> Builder {
    plain().0
}

/// Two ports and their interfaces.
fn plain() -> (Builder, [InterfaceId; 2]) {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["fd01:203:405:1::1/64"]));
    let uplink = builder.interface(interface(UPLINK, &["2001:db8:ffff::2/64"]));
    builder.neighbor(inside, ip_address(HOST), mac(0x11));
    builder.neighbor(uplink, ip_address(ROUTER), mac(0x22));
    let hop = Hop {
        interface: uplink,
        via: Some(ip_address(ROUTER)),
        weight: 1,
    };
    builder.route(VrfId(0), net("::/0"), Route::Hops(vec![hop]));
    let hop = Hop {
        interface: inside,
        via: Some(ip_address(HOST)),
        weight: 1,
    };
    builder.route(VrfId(0), net(BEHIND_HOST), Route::Hops(vec![hop]));
    (builder, [inside, uplink])
}

/// A packet from the inside host to our inside port.
pub fn from_inside() -> Packet {
    Packet::ethernet(mac(0x11), mac(1))
}

/// A packet from the router to our uplink port.
pub fn from_router() -> Packet {
    Packet::ethernet(mac(0x22), mac(2))
}

/// What left, by port, in order.
type Sent = Arc<Mutex<Vec<(usize, Vec<u8>)>>>;

struct Wire(Sent, usize);

impl TxQueue for Wire {
    type Frame = HeapFrame;
    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        let mut wire = self.0.lock().expect("one thread");
        let sent = burst.len();
        wire.extend(
            burst
                .drain(..)
                .map(|frame| (self.1, frame.bytes().to_vec())),
        );
        sent
    }
}

/// The box.
pub struct Bench {
    pub tables: Arc<Tables>,
    pub counters: Arc<CachePadded<WorkerCounters>>,
    edge: HeapEdge,
    out: Outputs<HeapFrame, Meta>,
    wire: Sent,
    punts: rtrb::Consumer<Punted<HeapFrame, Meta>>,
    /// What every burst is told the time is: rates refill when a test says so, and not on a slow day.
    now: Instant,
    received: u64,
    sent: u64,
}

impl Bench {
    pub fn new(builder: Builder) -> Self {
        Self::with(Arc::new(builder.build()), HeapEdge::new())
    }

    /// With tables and graph of one's choice.
    pub fn with(tables: Arc<Tables>, edge: HeapEdge) -> Self {
        Self::beside(tables, edge, vec![None])
    }

    /// The same for one of several workers, with the rings to the others, in their order.
    pub fn beside(
        tables: Arc<Tables>,
        edge: HeapEdge,
        workers: Vec<Option<Producer<Handoff<HeapFrame>>>>,
    ) -> Self {
        let wire = Arc::new(Mutex::new(Vec::new()));
        let counters = Arc::new(WorkerCounters::new());
        let (producer, punts) = ring(4096);
        let ports = (0..3)
            .map(|index| TxPath::Queue(Box::new(Wire(Arc::clone(&wire), index)) as Box<_>))
            .collect();
        let rates = [(1_000_000, 1_000_000); PuntReason::COUNT];
        let out = Outputs::new(
            ports,
            workers,
            producer,
            rates,
            Arc::clone(&counters),
            Tracer::off(),
        );
        Self {
            tables,
            counters,
            edge,
            out,
            wire,
            punts,
            now: Instant::now(),
            received: 0,
            sent: 0,
        }
    }

    /// Let these frames come in by a port; what leaves, by port, in order.
    pub fn receive(&mut self, port_index: usize, frames: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        for chunk in frames.chunks(BURST_MAX) {
            let mut burst: Burst<HeapFrame> =
                chunk.iter().map(|bytes| HeapFrame::new(bytes)).collect();
            self.received += chunk.len() as u64;
            self.out.set_now(self.now);
            self.edge
                .process(&self.tables, port(port_index), &mut burst, &mut self.out);
            assert!(burst.is_empty());
            self.out.flush();
        }
        self.collect()
    }

    /// Hand packets back or in, as the control thread does.
    pub fn resume(&mut self, frames: Vec<(HeapFrame, Meta)>) -> Vec<(usize, Vec<u8>)> {
        let mut batch = Batch::new();
        for (frame, meta) in frames {
            batch.push(frame, meta);
            self.counters.injected.add(1);
        }
        self.out.set_now(self.now);
        self.edge.resume(&self.tables, &mut batch, &mut self.out);
        self.out.flush();
        self.collect()
    }

    /// A round without frames: what leaves of those that waited.
    pub fn idle(&mut self) -> Vec<(usize, Vec<u8>)> {
        let waiting = self.edge.waiting();
        self.out.set_now(self.now);
        let settled = self.edge.idle(&self.tables, &mut self.out);
        assert_eq!(waiting, settled + self.edge.waiting());
        self.out.flush();
        self.collect()
    }

    /// The worker panicked.
    pub fn recover(&mut self) {
        self.edge.recover();
    }

    /// The worker ends.
    pub fn finish(&mut self) {
        self.edge.finish(&mut self.out);
        assert_eq!((self.collect(), self.edge.waiting()), (vec![], 0));
    }

    /// Frames that wait in the graph.
    pub fn waiting(&self) -> usize {
        self.edge.waiting()
    }

    /// Let time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// What was punted since the last call.
    pub fn punted(&mut self) -> Vec<Punted<HeapFrame, Meta>> {
        std::iter::from_fn(|| self.punts.pop().ok()).collect()
    }

    /// The only drop reasons that counted, with their counts.
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        let all = DropReason::ALL
            .iter()
            .map(|reason| (*reason, self.counters.dropped(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    fn collect(&mut self) -> Vec<(usize, Vec<u8>)> {
        let sent = std::mem::take(&mut *self.wire.lock().expect("one thread"));
        self.sent += sent.len() as u64;
        self.assert_conserved();
        sent
    }

    /// Every frame has exactly one fate.
    fn assert_conserved(&self) {
        let drops: u64 = DropReason::ALL
            .iter()
            .map(|reason| self.counters.dropped(*reason))
            .sum();
        let punts: u64 = PuntReason::ALL
            .iter()
            .map(|reason| self.counters.punted(*reason))
            .sum();
        let entered =
            self.received + self.counters.injected.read() + self.counters.generated.read();
        assert_eq!(
            entered,
            self.sent
                + drops
                + punts
                + self.counters.spread_out.read()
                + self.edge.waiting() as u64,
            "in = out + drops + punts + handed over + waiting"
        );
    }
}

/// The one interface id of a port of the usual box.
pub fn interface_id(index: u16) -> InterfaceId {
    InterfaceId(index)
}
