//! The graph alone, steering flows to a service address.

use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame as _};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::{PortId, TxQueue};
use dataplane::reason::PuntReason;
use dataplane::ring::ring;
use dataplane::testing::HeapFrame;
use dataplane::testing::builder::Packet;
use dataplane::trace::Tracer;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::Pipeline as _;
use ipnet::IpNet;
use pipelines::steer::{
    Affinity, FLOWS_DEFAULT, Mode, PoolSpec, Protocol, ServerSpec, ServiceSpec, Settings, State,
};
use pipelines::tables::{Builder, Hop, InterfaceSpec, Rib, Route, VrfId};
use pipelines::{Edge, Tables};
use rtrb::Producer;

use crate::cases::{Flows, Point, Sizes};
use crate::network as net;
use crate::replay::{EGRESS, INGRESS, Replay};
use crate::traffic;

/// The only VRF.
const VRF: VrfId = VrfId(0);
/// The service address.
const SERVICE: &str = "2001:db8:a11::1";
/// Servers of the pool.
const SERVERS: u8 = 64;
/// Source addresses of full NAT: a quarter of their ports is taken.
const OURS: [&str; 4] = [
    "2001:db8:a0::1",
    "2001:db8:a0::2",
    "2001:db8:a0::3",
    "2001:db8:a0::4",
];
/// Memory so short that a flow is forgotten before it has a second packet.
const FORGETFUL: u32 = 1024;

/// What is done to the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Direct return by MAC address.
    L2,
    /// Direct return by IPv6 in IPv6.
    Ip6Ip6,
    /// By MAC address, and every packet is the first of a flow.
    NewFlows,
    /// To servers' own addresses.
    Dnat,
    /// From there to clients.
    DnatBack,
    /// To servers' own addresses, from one of ours.
    FullNat,
    /// From there to clients.
    FullNatBack,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::L2,
        Self::Ip6Ip6,
        Self::NewFlows,
        Self::Dnat,
        Self::DnatBack,
        Self::FullNat,
        Self::FullNatBack,
    ];

    /// Whether it is what servers answer.
    fn is_back(self) -> bool {
        matches!(self, Self::DnatBack | Self::FullNatBack)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::L2 => "steer-dsr-l2",
            Self::Ip6Ip6 => "steer-dsr-ip6ip6",
            Self::NewFlows => "steer-dsr-l2-new",
            Self::Dnat => "steer-dnat",
            Self::DnatBack => "steer-dnat-back",
            Self::FullNat => "steer-fullnat",
            Self::FullNatBack => "steer-fullnat-back",
        })
    }
}

/// The production graph with 65,536 flows of 64 bytes.
pub fn replay(step: Step) -> Result<Replay<Edge<HeapFrame>>> {
    let point = Point {
        sizes: Sizes::Small,
        flows: Flows::SixtyFourThousand,
    };
    let service: Ipv6Addr = SERVICE.parse()?;
    let mut frames = traffic::frames_to(point, |_| service);
    let tables = tables(step)?;
    let mut edge = Edge::new();
    match step {
        Step::DnatBack => {
            for (frame, number) in frames.iter_mut().zip((0..SERVERS).cycle()) {
                *frame = answer(frame, server(step, number)?)?;
            }
        }
        Step::FullNatBack => frames = answers(&mut edge, &tables, &frames)?,
        _ => {}
    }
    Ok(Replay::new(edge, tables, frames))
}

/// What servers answer to these packets, which come in by the other port first: each begins a flow.
fn answers(
    edge: &mut Edge<HeapFrame>,
    tables: &Tables,
    frames: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>> {
    let (sent, mut asked) = ring(frames.len());
    let (punts, _punted) = ring(1);
    let counters = Arc::new(WorkerCounters::new());
    let paths = vec![TxPath::Queue(Box::new(Keep(sent)) as _), TxPath::Absent];
    let rates = [(0, 0); PuntReason::COUNT];
    let mut out = Outputs::new(paths, Vec::new(), punts, rates, counters, Tracer::off());
    let port = PortId::new(EGRESS).context("port 1")?;
    for frames in frames.chunks(BURST_MAX) {
        let mut burst = Burst::new();
        for frame in frames {
            let mut frame = frame.clone();
            frame[..6].copy_from_slice(&net::SINK_MAC.parse::<Mac>()?.octets());
            burst.push(HeapFrame::new(&frame));
        }
        edge.process(tables, port, &mut burst, &mut out);
        out.flush();
    }
    let asked: Vec<_> = std::iter::from_fn(|| asked.pop().ok()).collect();
    ensure!(
        asked.len() == frames.len(),
        "{} of {}",
        asked.len(),
        frames.len()
    );
    let answer = |question: &HeapFrame| {
        // Whoever was asked answers: both ends change places, and the checksum stays.
        let mut frame = question.bytes().to_vec();
        for (one, other, len) in [(0, 6, 6), (22, 38, 16), (54, 56, 2)] {
            let (before, after) = frame.split_at_mut(other);
            before[one..one + len].swap_with_slice(&mut after[..len]);
        }
        frame
    };
    Ok(asked.iter().map(answer).collect())
}

/// The transmit function that keeps what it is given.
struct Keep(Producer<HeapFrame>);

impl TxQueue for Keep {
    type Frame = HeapFrame;

    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        let sent = burst.drain(..).map(|frame| self.0.push(frame));
        sent.filter(Result::is_ok).count()
    }
}

/// What a server answers to the client who sent this UDP packet.
fn answer(frame: &[u8], server: Ipv6Addr) -> Result<Vec<u8>> {
    let client: [u8; 16] = *frame[22..].first_chunk().context("a whole header")?;
    let port = u16::from_be_bytes(*frame[54..].first_chunk().context("a whole header")?);
    let packet = Packet::ethernet(Mac::from_octets([2; 6]), net::SOURCE_MAC.parse()?);
    let packet = packet.ipv6(server, client.into());
    Ok(packet.udp(443, port, &frame[62..]).build())
}

/// The address of a server: on the side that packets leave for, or come from.
fn server(step: Step, number: u8) -> Result<Ipv6Addr> {
    let prefix = match step.is_back() {
        true => "fd00:a:",
        false => "2001:db8:ffff:",
    };
    Ok(format!("{prefix}:1:{number:x}").parse()?)
}

fn tables(step: Step) -> Result<Tables> {
    let mut builder = Builder::new();
    let mut interface = |port: usize, mac: &str, address: &str| -> Result<_> {
        Ok(builder.interface(InterfaceSpec {
            port: PortId::new(port).context("port 0 or 1")?,
            vlan: Vec::new(),
            mac: mac.parse()?,
            mtu: 1500,
            vrf: VRF,
            addresses: vec![address.parse()?],
            link_local: "fe80::1".parse()?,
            up: true,
        }))
    };
    let inside = interface(INGRESS, net::SOURCE_MAC, net::INSIDE_ADDRESS)?;
    let outside = interface(EGRESS, net::SINK_MAC, net::OUTSIDE_ADDRESS)?;
    let router = Mac::from_octets([2, 0, 0, 0, 1, 0]);
    builder.neighbor(outside, net::OUTSIDE_ROUTER.parse()?, router);
    let hop = Hop {
        interface: outside,
        via: Some(net::OUTSIDE_ROUTER.parse()?),
        weight: 1,
    };
    builder.route(VRF, "::/0".parse::<IpNet>()?, Route::Hops(vec![hop]));
    let side = if step.is_back() { inside } else { outside };
    let mut servers = Vec::new();
    for number in 0..SERVERS {
        let address = server(step, number)?;
        let mac = Mac::from_octets([2, 0, 0, 0, 1, number]);
        builder.neighbor(side, address.into(), mac);
        servers.push(ServerSpec {
            address,
            weight: 1,
            state: State::Up,
        });
    }
    let source = "2001:db8:ffff::2".parse()?;
    let pool = PoolSpec {
        name: "web".to_owned(),
        vrf: VRF,
        mode: match step {
            Step::L2 | Step::NewFlows => Mode::L2,
            Step::Ip6Ip6 => Mode::Ip6Ip6 { source },
            Step::Dnat | Step::DnatBack => Mode::Dnat { port: None },
            Step::FullNat | Step::FullNatBack => Mode::FullNat { port: None },
        },
        sources: match step {
            Step::FullNat | Step::FullNatBack => OURS
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        },
        table_size: 65_537,
        servers,
    };
    let service = ServiceSpec {
        vrf: VRF,
        prefix: format!("{SERVICE}/128").parse()?,
        protocol: Protocol::Number(17),
        ports: vec![],
        pool: 0,
        affinity: Affinity::Flow,
    };
    let mut rib = Rib::new();
    rib.set_steering(Some(Settings {
        seed: 7,
        flows: match step {
            Step::NewFlows => FORGETFUL,
            _ => FLOWS_DEFAULT,
        },
        pools: vec![pool],
        services: vec![service],
    }));
    let tables = builder.build_in(&mut rib);
    rib.commit();
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_sends_every_packet_to_a_server() {
        for step in Step::ALL {
            let mut replay = replay(step).expect("a network");
            replay.stretch(4096, 32);
            replay.check(4096).expect("all are sent");
            let frame = replay.into_last_sent().expect("frames come back");
            let overhead = if step == Step::Ip6Ip6 { 40 } else { 0 };
            assert_eq!(frame.bytes().len(), 64 + overhead, "{step}");
            assert_eq!(frame.bytes()[..5], [2, 0, 0, 0, 1], "{step}");
            let (source, destination) = (&frame.bytes()[22..38], &frame.bytes()[38..54]);
            let service: Ipv6Addr = SERVICE.parse().expect("an address");
            let is_service = [source, destination].map(|end| *end == service.octets());
            let expected = match step {
                Step::L2 | Step::NewFlows => [false, true],
                Step::Ip6Ip6 | Step::Dnat | Step::FullNat => [false, false],
                Step::DnatBack | Step::FullNatBack => [true, false],
            };
            assert_eq!(is_service, expected, "{step}");
        }
    }
}
