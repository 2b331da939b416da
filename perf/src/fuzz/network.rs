//! The network frames are thrown at: everything the configuration knows, on three ports.
//!
//! ```text
//!   port 0  lan      untagged   fd01:203:405:1::/64, fe80::/64
//!           lan-100  VLAN 100   fd05:0:0:64::/64
//!   port 1  isp      untagged   2001:db8:ffff::/64, rules /48 -> /48 and /56 -> /60
//!           isp-qinq 200.300    2001:db8:fffe::/64, rule /64 -> /64
//!   port 2  narrow   untagged   2001:db8:2:2::/64, MTU 1280
//!           other    VLAN 7     a VRF of its own with the addresses of lan
//!           down     VLAN 8     2001:db8:8:8::/64, not up
//! ```
//!
//! LISP (`lisp`) has its RLOCs on isp and EIDs on lan, in one VRF with everything else, and an instance of its own for the
//! VRF of other. Services (`steer`) have servers on every link, and some that cannot be reached.

pub mod lisp;
pub mod steer;

use anyhow::{Context as _, Result};
use dataplane::port::PortId;
use dataplane::wire::ethernet::Mac;
use ipnet::IpNet;
use pipelines::Tables;
use pipelines::npt66::{Spec, ZeroIid};
use pipelines::steer::Settings as Steering;
use pipelines::tables::{Builder, Hop, IcmpLimits, InterfaceId, InterfaceSpec, Rib, Route, VrfId};

/// Ports there are; frames also come in by one more, which is not configured.
pub const PORTS: usize = 3;
/// Our link-local address on every interface.
pub const LINK_LOCAL: &str = "fe80::5";
/// Prefix of [`PORTS`] MAC addresses of ours; the last byte is the port.
pub const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];

/// Our MAC address on `port`.
#[must_use]
pub fn mac_of(port: usize) -> Mac {
    let mut octets = OUR_MAC;
    octets[5] = u8::try_from(port).unwrap_or(u8::MAX);
    Mac::from_octets(octets)
}

/// Which tables a burst meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The whole network; of LISP, tunnel routers of a site.
    Site,
    /// The whole network; of LISP, all proxies; and servers that were taken out, each in another way.
    Proxy,
    /// Almost nothing: the same appliance after a reload.
    Reduced,
    /// As [`Network::Site`], without services and hosts that move: what is encapsulated then has ways of its own.
    Unsteered,
}

/// Tables of every network, in its order.
pub fn all_tables() -> Result<[Tables; 4]> {
    let (up, taken_out) = (
        steer::settings(&steer::UP)?,
        steer::settings(&steer::TAKEN_OUT)?,
    );
    Ok([
        build(whole()?, lisp::site()?, Some(up))?,
        build(whole()?, lisp::proxy()?, Some(taken_out))?,
        reduced_tables()?,
        build(whole()?, lisp::fixed_site()?, None)?,
    ])
}

fn build(
    builder: Builder,
    lisp: pipelines::lisp::Settings,
    steering: Option<Steering>,
) -> Result<Tables> {
    let mut rib = Rib::new();
    lisp::map(&mut rib, lisp)?;
    rib.set_steering(steering);
    let tables = builder.build_in(&mut rib);
    rib.commit();
    Ok(tables)
}

fn whole() -> Result<Builder> {
    let mut builder = Builder::new();
    let lan = interface(
        &mut builder,
        0,
        &[],
        1500,
        0,
        &["fd01:203:405:1::1/64", "192.0.2.1/24"],
    )?;
    let lan_100 = interface(&mut builder, 0, &[100], 1500, 0, &["fd05:0:0:64::1/64"])?;
    let isp = interface(
        &mut builder,
        1,
        &[],
        1500,
        0,
        &["2001:db8:ffff::2/64", "198.51.100.2/24"],
    )?;
    let isp_qinq = interface(
        &mut builder,
        1,
        &[200, 300],
        1400,
        0,
        &["2001:db8:fffe::2/64", "198.51.101.2/24"],
    )?;
    let narrow = interface(
        &mut builder,
        2,
        &[],
        1280,
        0,
        &["2001:db8:2:2::1/64", "10.2.2.1/24"],
    )?;
    interface(
        &mut builder,
        2,
        &[7],
        1280,
        1,
        &["fd01:203:405:1::1/64", "192.0.2.1/24"],
    )?;
    let down = builder.interface(InterfaceSpec {
        up: false,
        ..spec(2, &[8], 1500, 0, &["2001:db8:8:8::1/64"])?
    });
    for (interface, address) in [
        (lan, "fd01:203:405:1::2"),
        (lan_100, "fd05:0:0:64::2"),
        (isp, "2001:db8:ffff::1"),
        (isp, "fe80::1"),
        (isp_qinq, "2001:db8:fffe::1"),
        (narrow, "2001:db8:2:2::2"),
        (down, "2001:db8:8:8::2"),
        (lan, "192.0.2.2"),
        (isp, "198.51.100.1"),
        (isp_qinq, "198.51.101.1"),
        (narrow, "10.2.2.2"),
    ] {
        builder.neighbor(
            interface,
            address.parse()?,
            Mac::from_octets([2, 0, 0, 0, 2, 9]),
        );
    }
    let default = [
        hop(isp, "2001:db8:ffff::1", 3)?,
        hop(isp_qinq, "2001:db8:fffe::1", 1)?,
    ];
    route(&mut builder, 0, "::/0", Route::Hops(default.to_vec()))?;
    let default = [
        hop(isp, "198.51.100.1", 3)?,
        hop(isp_qinq, "198.51.101.1", 1)?,
    ];
    route(&mut builder, 0, "0.0.0.0/0", Route::Hops(default.to_vec()))?;
    for (prefix, interface, router) in [
        ("10.10.0.0/16", isp, "198.51.100.99"),
        ("10.14.0.0/16", narrow, "10.2.2.2"),
        ("10.15.0.0/16", down, "10.8.8.8"),
    ] {
        let hops = vec![hop(interface, router, 1)?];
        route(&mut builder, 0, prefix, Route::Hops(hops))?;
    }
    route(&mut builder, 0, "10.12.0.0/16", Route::Blackhole)?;
    route(&mut builder, 0, "10.13.0.0/16", Route::Unreachable)?;
    route(
        &mut builder,
        0,
        "fd01:203:405::/48",
        Route::Hops(vec![hop(lan, "fd01:203:405:1::2", 1)?]),
    )?;
    route(
        &mut builder,
        0,
        "fd05::/48",
        Route::Hops(vec![hop(lan_100, "fd05:0:0:64::2", 1)?]),
    )?;
    // Through a router that never answers, and one that is link-local.
    route(
        &mut builder,
        0,
        "2001:db8:a::/48",
        Route::Hops(vec![hop(isp, "2001:db8:ffff::dead", 1)?]),
    )?;
    route(
        &mut builder,
        0,
        "2001:db8:b::/48",
        Route::Hops(vec![hop(isp, "fe80::1", 1)?]),
    )?;
    route(&mut builder, 0, "2001:db8:c::/48", Route::Blackhole)?;
    route(&mut builder, 0, "2001:db8:d::/48", Route::Unreachable)?;
    route(
        &mut builder,
        0,
        "2001:db8:e::/48",
        Route::Hops(vec![hop(narrow, "2001:db8:2:2::2", 1)?]),
    )?;
    route(
        &mut builder,
        0,
        "2001:db8:f::/48",
        Route::Hops(vec![hop(down, "2001:db8:8:8::2", 1)?]),
    )?;
    for (interface, inside, outside, zero_iid) in [
        (isp, "fd01:203:405::/48", "2001:db8:1::/48", ZeroIid::Drop),
        (isp, "fd05::/56", "2001:db8:5:10::/60", ZeroIid::Translate),
        (
            isp_qinq,
            "fd01:203:405:1::/64",
            "2001:db8:6:6::/64",
            ZeroIid::Drop,
        ),
    ] {
        builder
            .npt66(Spec {
                interface,
                inside: inside.parse()?,
                outside: outside.parse()?,
                zero_iid,
            })
            .with_context(|| format!("{inside} to {outside}"))?;
    }
    // Errors are what is to be seen: practically without limit.
    builder.icmp(IcmpLimits {
        per_second: u32::MAX,
        burst: u32::MAX,
    });
    Ok(builder)
}

/// The same appliance after a reload to almost nothing: what still refers to the whole network meets this.
fn reduced_tables() -> Result<Tables> {
    let mut builder = Builder::new();
    let lan = interface(
        &mut builder,
        0,
        &[],
        1500,
        0,
        &["fd01:203:405:1::1/64", "192.0.2.1/24"],
    )?;
    route(
        &mut builder,
        0,
        "::/0",
        Route::Hops(vec![hop(lan, "fd01:203:405:1::2", 1)?]),
    )?;
    builder.icmp(IcmpLimits {
        per_second: 0,
        burst: 0,
    });
    Ok(builder.build())
}

fn interface(
    builder: &mut Builder,
    port: usize,
    vlan: &[u16],
    mtu: u16,
    vrf: u16,
    addresses: &[&str],
) -> Result<InterfaceId> {
    Ok(builder.interface(spec(port, vlan, mtu, vrf, addresses)?))
}

fn spec(
    port: usize,
    vlan: &[u16],
    mtu: u16,
    vrf: u16,
    addresses: &[&str],
) -> Result<InterfaceSpec> {
    let addresses: Result<Vec<IpNet>, _> = addresses.iter().map(|text| text.parse()).collect();
    Ok(InterfaceSpec {
        port: PortId::new(port).context("three ports are not too many")?,
        vlan: vlan.to_vec(),
        mac: mac_of(port),
        mtu,
        vrf: VrfId(vrf),
        addresses: addresses?,
        link_local: LINK_LOCAL.parse()?,
        up: true,
    })
}

fn hop(interface: InterfaceId, via: &str, weight: u16) -> Result<Hop> {
    Ok(Hop {
        interface,
        via: Some(via.parse()?),
        weight,
    })
}

fn route(builder: &mut Builder, vrf: u16, prefix: &str, route: Route) -> Result<()> {
    builder.route(VrfId(vrf), prefix.parse::<IpNet>()?, route);
    Ok(())
}
