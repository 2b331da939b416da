//! The graph alone, encapsulating and decapsulating.

use std::fmt;

use anyhow::{Context as _, Result};
use dataplane::port::PortId;
use ipnet::IpNet;
use pipelines::Tables;
use pipelines::lisp::{InstanceSpec, MappingSpec, Roles, Settings};
use pipelines::tables::{Builder, Hop, InterfaceId, InterfaceSpec, Rib, Route, VrfId};
use pipelines::testing::HeapEdge;

use super::{Families, Mappings};
use crate::network as net;
use crate::replay::{EGRESS, INGRESS, Replay};

/// The only VRF.
pub const VRF: VrfId = VrfId(0);

/// A mapping of each of these numbers.
pub fn mapped(
    families: Families,
    mappings: Mappings,
) -> impl Iterator<Item = (IpNet, MappingSpec)> {
    (0..mappings.0).map(move |number| {
        let eid = super::eid(number, families.inner_is_v4);
        (eid, super::mapping(number, 0, families.outer_is_v4))
    })
}

/// What is done to the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// They come from the site, and are encapsulated.
    Encap,
    /// They come from the core, and are decapsulated.
    Decap,
}

impl Step {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Encap, Self::Decap];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Encap => "lisp-encap",
            Self::Decap => "lisp-decap",
        })
    }
}

/// The production graph with `flows` flows of frames whose inner part is that of a frame of `size` bytes.
pub fn replay(
    step: Step,
    families: Families,
    mappings: Mappings,
    flows: usize,
    size: usize,
) -> Result<Replay<HeapEdge>> {
    let frames = match step {
        Step::Encap => super::frames_out(families, mappings, flows, &[size]),
        Step::Decap => super::frames_in(families, flows, &[size]),
    };
    let (tables, _) = tables(step, mapped(families, mappings))?;
    Ok(Replay::new(HeapEdge::new(), tables, frames))
}

/// Tables with these mappings, and what they are changed by.
pub fn tables(
    step: Step,
    mappings: impl IntoIterator<Item = (IpNet, MappingSpec)>,
) -> Result<(Tables, Rib)> {
    let (inside_port, outside_port) = match step {
        Step::Encap => (INGRESS, EGRESS),
        Step::Decap => (EGRESS, INGRESS),
    };
    let mut builder = Builder::new();
    let inside = interface(
        &mut builder,
        inside_port,
        &[net::INSIDE_ADDRESS, super::INSIDE_ADDRESS4],
    )?;
    let outside = interface(
        &mut builder,
        outside_port,
        &[net::OUTSIDE_ADDRESS, super::OUTSIDE_ADDRESS4],
    )?;
    for (prefix, interface, router, mac) in [
        (
            "::/0",
            outside,
            net::OUTSIDE_ROUTER,
            net::OUTSIDE_ROUTER_MAC,
        ),
        (
            "0.0.0.0/0",
            outside,
            super::OUTSIDE_ROUTER4,
            net::OUTSIDE_ROUTER_MAC,
        ),
        (
            super::SITE6,
            inside,
            net::INSIDE_ROUTER,
            net::INSIDE_ROUTER_MAC,
        ),
        (
            super::SITE4,
            inside,
            super::INSIDE_ROUTER4,
            net::INSIDE_ROUTER_MAC,
        ),
    ] {
        builder.neighbor(interface, router.parse()?, mac.parse()?);
        let hop = Hop {
            interface,
            via: Some(router.parse()?),
            weight: 1,
        };
        builder.route(VRF, prefix.parse::<IpNet>()?, Route::Hops(vec![hop]));
    }
    let mut rib = Rib::new();
    rib.set_lisp(Some(Settings {
        own_rlocs: vec![super::RLOC6.parse()?, super::RLOC4.parse()?],
        roles: Roles {
            itr: true,
            etr: true,
            ..Roles::default()
        },
        seed: 1,
        instances: vec![InstanceSpec {
            id: 0,
            vrf: VRF,
            eids: vec![super::SITE6.parse()?, super::SITE4.parse()?],
            dynamic: Vec::new(),
            map_request: vec![],
        }],
        ..Settings::default()
    }));
    for (eid, mapping) in mappings {
        rib.set_mapping(VRF, eid, Some(mapping));
    }
    let tables = builder.build_in(&mut rib);
    rib.commit();
    Ok((tables, rib))
}

fn interface(builder: &mut Builder, port: usize, addresses: &[&str]) -> Result<InterfaceId> {
    let mac = if port == INGRESS {
        net::SOURCE_MAC
    } else {
        net::SINK_MAC
    };
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
}

#[cfg(test)]
mod tests {
    use dataplane::frame::Frame as _;

    use super::*;

    #[test]
    fn every_case_sends_every_packet_the_way_it_says() {
        for families in Families::ALL {
            let mut replay =
                replay(Step::Encap, families, Mappings(1024), 1024, 64).expect("a network");
            replay.stretch(4096, 32);
            replay.check(4096).expect("all are sent");
            let frame = replay.into_last_sent().expect("frames come back");
            let overhead = families.overhead();
            assert_eq!(frame.bytes().len(), 64 + overhead, "{families}");
            let udp = 14 + overhead - 16;
            assert_eq!(frame.bytes()[udp + 2..udp + 4], 4341_u16.to_be_bytes());

            let mut replay =
                super::replay(Step::Decap, families, Mappings(1), 1024, 64).expect("a network");
            replay.stretch(4096, 32);
            replay.check(4096).expect("all are sent");
            assert_eq!(
                replay
                    .into_last_sent()
                    .expect("frames come back")
                    .bytes()
                    .len(),
                64
            );
        }
    }
}
