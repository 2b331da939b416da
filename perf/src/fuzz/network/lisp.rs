//! LISP's part of the network: mappings of every kind, by IPv6 as 2001:db8:70::/48 and those that follow, by IPv4 as
//! 10.70.0.0/16 and those that follow.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use pipelines::lisp::{Act, Dscp, InstanceSpec, LocatorSpec, MappingSpec, Miss, Roles, Settings};
use pipelines::tables::{Rib, VrfId};

/// VRFs with EIDs: the one of everything, that of the tenant on VLAN 7, and one without an interface.
const VRFS: [u16; 3] = [0, 1, 2];
/// Their instance ids.
pub const INSTANCES: [u32; 3] = [0, 7, 0x00ab_cdef];
/// Own RLOCs.
pub const OWN6: &str = "2001:db8:ffff::2";
pub const OWN4: &str = "198.51.100.2";
/// Locators by the first provider, in both families: what the mappings' sources may come from.
pub const RLOC6: &str = "2001:db8:ffff::1";
pub const RLOC4: &str = "198.51.100.1";

/// What each of the prefixes is mapped to: to these locators, or so.
const LOCATORS: [&[&str]; 7] = [
    &[RLOC6, RLOC4],
    &[RLOC4],
    &["2400:cb00::9", "203.0.113.200"], // by two providers
    &["2001:db8:e::9", "10.14.0.9"],    // by the narrow link
    &["2001:db8:a::9", "10.10.0.9"],    // by a router that never answers
    &["2001:db8:f::9", "10.15.0.9"],    // by a link that is down
    &["2001:db8:e::9"],
];
const ACTS: [Act; 7] = [
    Act::NoAction,
    Act::Native,
    Act::SendMapRequest,
    Act::Drop,
    Act::PolicyDenied,
    Act::AuthFailure,
    Act::Petr,
];

/// An address under the prefix of mapping `number`, of both families.
#[must_use]
pub fn eids(number: usize) -> [String; 2] {
    [
        format!("2001:db8:7{number:x}::{number}"),
        format!("10.{}.0.{number}", 70 + number),
    ]
}

/// How many mappings there are.
pub const MAPPINGS: usize = LOCATORS.len() + ACTS.len();

fn prefixes(number: usize) -> Result<[IpNet; 2]> {
    Ok([
        format!("2001:db8:7{number:x}::/48").parse()?,
        format!("10.{}.0.0/16", 70 + number).parse()?,
    ])
}

/// The tunnel routers of a site that trusts nobody.
pub fn site() -> Result<Settings> {
    Ok(Settings {
        gpe: true,
        check_source_rloc: true,
        miss: Miss::Native,
        ..common()?
    })
}

/// The same of a site whose hosts stay: whose EIDs are told from a packet's first bits.
pub fn fixed_site() -> Result<Settings> {
    let mut settings = site()?;
    for instance in &mut settings.instances {
        instance.dynamic.clear();
    }
    Ok(settings)
}

/// Proxies for everybody.
pub fn proxy() -> Result<Settings> {
    Ok(Settings {
        roles: Roles {
            itr: true,
            etr: true,
            pitr: true,
            petr: true,
            rtr: true,
        },
        dscp: Dscp::Pipe,
        udp_checksum: true,
        nonce: true,
        status_bits: true,
        miss: Miss::Petr,
        ..common()?
    })
}

fn common() -> Result<Settings> {
    let instance = |(id, vrf): (&u32, &u16)| -> Result<InstanceSpec> {
        Ok(InstanceSpec {
            id: *id,
            vrf: VrfId(*vrf),
            eids: vec!["fd01:203:405::/48".parse()?, "192.0.2.0/24".parse()?],
            dynamic: vec!["fd01:203:405:4000::/50".parse()?, "192.0.2.128/26".parse()?],
            map_request: vec!["2001:db8:7f::/48".parse()?, "10.99.0.0/16".parse()?],
        })
    };
    let instances: Result<Vec<_>> = INSTANCES.iter().zip(&VRFS).map(instance).collect();
    Ok(Settings {
        own_rlocs: vec![OWN6.parse()?, OWN4.parse()?],
        petr: vec![RLOC6.parse()?],
        seed: 1,
        instances: instances?,
        ..Settings::default()
    })
}

/// These settings, and all mappings in every instance.
pub fn map(rib: &mut Rib, settings: Settings) -> Result<()> {
    rib.set_lisp(Some(settings));
    for vrf in VRFS.map(VrfId) {
        let positive = LOCATORS.iter().map(|rlocs| locators(rlocs));
        let negative = ACTS.iter().map(|act| Ok(MappingSpec::Negative(*act)));
        for (number, spec) in positive.chain(negative).enumerate() {
            let spec = spec.with_context(|| format!("mapping {number}"))?;
            for prefix in prefixes(number)? {
                rib.set_mapping(vrf, prefix, Some(spec.clone()));
            }
        }
    }
    Ok(())
}

fn locators(rlocs: &[&str]) -> Result<MappingSpec> {
    let locator = |rloc: &&str| -> Result<LocatorSpec> {
        let rloc: IpAddr = rloc.parse()?;
        Ok(LocatorSpec {
            priority: 1,
            weight: 1,
            rloc,
            up: true,
        })
    };
    Ok(MappingSpec::Locators {
        locators: rlocs.iter().map(locator).collect::<Result<_>>()?,
        version: 0,
    })
}
