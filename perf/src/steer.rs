//! The graph alone, steering flows to a service address.

use std::fmt;
use std::net::Ipv6Addr;

use anyhow::{Context as _, Result};
use dataplane::port::PortId;
use dataplane::testing::HeapFrame;
use dataplane::wire::ethernet::Mac;
use pipelines::steer::{
    Affinity, FLOWS_DEFAULT, Mode, PoolSpec, Protocol, ServerSpec, ServiceSpec, Settings, State,
};
use pipelines::tables::{Builder, InterfaceSpec, Rib, VrfId};
use pipelines::{Edge, Tables};

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
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::L2, Self::Ip6Ip6, Self::NewFlows];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::L2 => "steer-dsr-l2",
            Self::Ip6Ip6 => "steer-dsr-ip6ip6",
            Self::NewFlows => "steer-dsr-l2-new",
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
    let frames = traffic::frames_to(point, |_| service);
    Ok(Replay::new(Edge::new(), tables(step)?, frames))
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
    interface(INGRESS, net::SOURCE_MAC, net::INSIDE_ADDRESS)?;
    let outside = interface(EGRESS, net::SINK_MAC, net::OUTSIDE_ADDRESS)?;
    let mut servers = Vec::new();
    for number in 0..SERVERS {
        let address: Ipv6Addr = format!("2001:db8:ffff::1:{number:x}").parse()?;
        let mac = Mac::from_octets([2, 0, 0, 0, 1, number]);
        builder.neighbor(outside, address.into(), mac);
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
            Step::L2 | Step::Ip6Ip6 => FLOWS_DEFAULT,
            Step::NewFlows => FORGETFUL,
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
    use dataplane::frame::Frame as _;

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
        }
    }
}
