//! The graph alone, steering established flows to a service address.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use dataplane::port::PortId;
use dataplane::testing::HeapFrame;
use dataplane::wire::ethernet::Mac;
use pipelines::steer::{
    self, Affinity, Limits, PoolSpec, Protocol, ServerSpec, ServiceSpec, Settings, State, WhenDown,
};
use pipelines::tables::{Builder, InterfaceSpec, Rib, VrfId};
use pipelines::{Edge, Tables};

use super::{Mode, SERVERS, SERVICE, remembered, server, server_mac};
use crate::cases::{Flows, Point, Sizes};
use crate::lisp::OUTSIDE_ADDRESS4;
use crate::network as net;
use crate::replay::{EGRESS, INGRESS, Replay};
use crate::traffic;

/// The only VRF.
const VRF: VrfId = VrfId(0);

/// The production graph with so many flows of 64 bytes.
pub fn replay(mode: &Mode, flows: Flows) -> Result<Replay<Edge<HeapFrame>>> {
    let point = Point {
        sizes: Sizes::Small,
        flows,
    };
    let frames = traffic::frames_to(point, |_| SERVICE);
    let up = vec![State::Up; usize::from(SERVERS)];
    let settings = settings(mode.spec, remembered(flows.count()), &up);
    Ok(Replay::new(
        Edge::new(),
        tables(&mut Rib::new(), settings)?,
        frames,
    ))
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
    interface(INGRESS, net::SOURCE_MAC, &[net::INSIDE_ADDRESS])?;
    let outside = [net::OUTSIDE_ADDRESS, OUTSIDE_ADDRESS4];
    let outside = interface(EGRESS, net::SINK_MAC, &outside)?;
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
    use dataplane::frame::Frame as _;

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
}
