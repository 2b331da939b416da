//! The graph alone, steering established flows to a service address.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame as _};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::{PortId, TxQueue};
use dataplane::reason::PuntReason;
use dataplane::ring::ring;
use dataplane::testing::HeapFrame;
use dataplane::trace::Tracer;
use dataplane::wire::ethernet::Mac;
use dataplane::worker::Pipeline as _;
use ipnet::IpNet;
use pipelines::Tables;
use pipelines::steer::{
    self, Affinity, Limits, PoolSpec, Protocol, ServerSpec, ServiceSpec, Settings, State, WhenDown,
};
use pipelines::tables::{Builder, Hop, InterfaceSpec, Rib, Route, VrfId};
use pipelines::testing::HeapEdge;
use rtrb::Producer;

use super::{Mode, SERVERS, SERVICE, remembered, server, server_mac};
use crate::cases::{Flows, Point, Sizes};
use crate::lisp::OUTSIDE_ADDRESS4;
use crate::network as net;
use crate::replay::{EGRESS, INGRESS, Replay};
use crate::traffic;

/// The only VRF.
const VRF: VrfId = VrfId(0);

/// The production graph with so many flows of 64 bytes.
pub fn replay(mode: &Mode, flows: Flows) -> Result<Replay<HeapEdge>> {
    let point = Point {
        sizes: Sizes::Small,
        flows,
    };
    let frames = traffic::frames_to(point, |_| SERVICE);
    let tables = tables(&mut Rib::new(), all_up(mode, flows))?;
    Ok(Replay::new(HeapEdge::new(), tables, frames))
}

/// The same with what servers answer to so many flows.
pub fn replay_back(mode: &Mode, flows: Flows) -> Result<Replay<HeapEdge>> {
    let point = Point {
        sizes: Sizes::Small,
        flows,
    };
    let questions = traffic::frames_to(point, |_| SERVICE);
    let settings = all_up(mode, flows);
    let tables = tables_between(&mut Rib::new(), settings, EGRESS, INGRESS)?;
    let mut edge = HeapEdge::new();
    let answers = answers(&mut edge, &tables, &questions)?;
    Ok(Replay::new(edge, tables, answers))
}

fn all_up(mode: &Mode, flows: Flows) -> Settings {
    let up = vec![State::Up; usize::from(SERVERS)];
    let mut settings = settings(mode.spec, remembered(flows.count()), &up);
    settings.pools[0].sources = mode.sources();
    settings
}

/// What servers answer to packets that come in by the other port first: each begins a flow.
fn answers(edge: &mut HeapEdge, tables: &Tables, questions: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let (sent, mut asked) = ring(questions.len());
    let (punts, _punted) = ring(1);
    let counters = Arc::new(WorkerCounters::new());
    let paths = vec![TxPath::Queue(Box::new(Keep(sent)) as _), TxPath::Absent];
    let rates = [(0, 0); PuntReason::COUNT];
    let mut out = Outputs::new(paths, Vec::new(), punts, rates, counters, Tracer::off());
    let port = PortId::new(EGRESS).context("port 1")?;
    let ours: Mac = net::SINK_MAC.parse()?;
    for questions in questions.chunks(BURST_MAX) {
        let mut burst = Burst::new();
        for question in questions {
            let mut question = question.clone();
            question[..6].copy_from_slice(&ours.octets());
            burst.push(HeapFrame::new(&question));
        }
        edge.process(tables, port, &mut burst, &mut out);
        out.flush();
    }
    let asked: Vec<_> = std::iter::from_fn(|| asked.pop().ok()).collect();
    let (found, expected) = (asked.len(), questions.len());
    ensure!(found == expected, "{found} of {expected} were asked");
    Ok(asked.iter().map(|frame| reflected(frame.bytes())).collect())
}

/// What whoever gets a packet answers: both ends change places, and the checksum stays.
#[must_use]
pub fn reflected(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for (one, other, len) in [(0, 6, 6), (22, 38, 16), (54, 56, 2)] {
        let (before, after) = frame.split_at_mut(other);
        before[one..one + len].swap_with_slice(&mut after[..len]);
    }
    frame
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

/// One service for everything to [`SERVICE`], and a server for each state.
pub fn settings(mode: steer::Mode, flows: u32, states: &[State]) -> Settings {
    let servers = (0..).zip(states).map(|(number, state)| ServerSpec {
        address: match server(mode, number) {
            IpAddr::V6(address) => address,
            IpAddr::V4(address) => address.to_ipv6_mapped(),
        },
        weight: 1,
        state: *state,
    });
    Settings {
        seed: 7,
        flows,
        pools: vec![PoolSpec {
            name: "web".to_owned(),
            vrf: VRF,
            mode,
            sources: vec![],
            table_size: 65_537,
            servers: servers.collect(),
            when_down: WhenDown::Refuse,
        }],
        services: vec![ServiceSpec {
            vrf: VRF,
            prefix: SERVICE.into(),
            protocol: Protocol::Any,
            ports: vec![],
            pool: 0,
            pools_by_source: vec![],
            affinity: Affinity::Flow,
            limits: Limits::default(),
        }],
        checked: vec![],
    }
}

/// Tables in which `settings` are in force.
pub fn tables(rib: &mut Rib, settings: Settings) -> Result<Tables> {
    tables_between(rib, settings, INGRESS, EGRESS)
}

/// The same with clients and servers at ports of one's choice.
fn tables_between(
    rib: &mut Rib,
    settings: Settings,
    clients: usize,
    servers: usize,
) -> Result<Tables> {
    let mut builder = Builder::new();
    let mut interface = |port: usize, mac: &str, addresses: &[&str]| -> Result<_> {
        let addresses = addresses.iter().map(|address| address.parse());
        Ok(builder.interface(InterfaceSpec {
            port: PortId::new(port).context("port 0 or 1")?,
            vlan: Vec::new(),
            mac: mac.parse()?,
            mtu: 1500,
            vrf: VRF,
            addresses: addresses.collect::<Result<_, _>>()?,
            link_local: "fe80::1".parse()?,
            up: true,
        }))
    };
    let macs = [net::SOURCE_MAC, net::SINK_MAC];
    let inside = interface(clients, macs[clients], &[net::INSIDE_ADDRESS])?;
    let outside = [net::OUTSIDE_ADDRESS, OUTSIDE_ADDRESS4];
    let outside = interface(servers, macs[servers], &outside)?;
    let router: IpAddr = net::INSIDE_ROUTER.parse()?;
    builder.neighbor(inside, router, net::INSIDE_ROUTER_MAC.parse()?);
    let hop = Hop {
        interface: inside,
        via: Some(router),
        weight: 1,
    };
    let hosts: IpNet = net::INSIDE_PREFIX.parse()?;
    builder.route(VRF, hosts, Route::Hops(vec![hop]));
    for (number, server) in (0..).zip(&settings.pools[0].servers) {
        let address = IpAddr::V6(server.address).to_canonical();
        builder.neighbor(outside, address, Mac::from_octets(server_mac(number)));
    }
    rib.set_steering(Some(settings));
    let tables = builder.build_in(rib);
    rib.commit();
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::super::MODES;
    use super::*;

    #[test]
    fn every_mode_sends_every_packet_to_a_server() {
        for mode in &MODES {
            let mut replay = replay(mode, Flows::Thousand).expect("a network");
            replay.stretch(4096, 32);
            replay.check(4096).expect("all are sent");
            let frame = replay.into_last_sent().expect("frames come back");
            assert_eq!(frame.bytes().len(), 64 + mode.overhead, "{}", mode.name);
            assert_eq!(frame.bytes()[..5], [2, 0, 0, 1, 0], "{}", mode.name);
        }
    }

    #[test]
    fn every_answer_goes_to_its_client_from_the_service() {
        for mode in MODES.iter().filter(|mode| mode.is_both_ways()) {
            let mut replay = replay_back(mode, Flows::Thousand).expect("a network");
            replay.stretch(4096, 32);
            replay.check(4096).expect("all are sent");
            let frame = replay.into_last_sent().expect("frames come back");
            let router: Mac = net::INSIDE_ROUTER_MAC.parse().expect("a constant");
            assert_eq!(frame.bytes()[..6], router.octets(), "{}", mode.name);
            assert_eq!(frame.bytes()[22..38], SERVICE.octets(), "{}", mode.name);
        }
    }
}
