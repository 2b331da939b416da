//! Who has which address in a fleet: prefixes of sites, hosts that move, RLOCs, Map-Servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use control::proto::lisp::{EidKey, InstanceId};
use ipnet::IpNet;

use super::world::PROVIDERS;

/// A prefix of the one instance there is.
pub fn key(eid: IpNet) -> EidKey {
    EidKey {
        instance: InstanceId::default(),
        eid,
    }
}

/// A site's own prefix.
pub fn prefix(site: usize) -> EidKey {
    let bits = (0x2a00 << 112) | ((site as u128) << 80); // `as`: widening
    key(IpNet::new(Ipv6Addr::from(bits).into(), 48).expect("48 is not too long"))
}

/// Its other one.
pub fn prefix_v4(site: usize) -> EidKey {
    let bits = 0x0a00_0000 | (u32::try_from(site).unwrap_or(0) << 8);
    key(IpNet::new(Ipv4Addr::from(bits).into(), 24).expect("24 is not too long"))
}

/// Host `host` of those that are at any site of a group.
pub fn mobile(group: usize, host: usize) -> EidKey {
    let bits = (0x2a01 << 112) | ((group as u128) << 80) | host as u128; // `as`: widening
    key(IpAddr::from(Ipv6Addr::from(bits)).into())
}

/// The prefix of all of them.
pub fn shared(group: usize) -> EidKey {
    let host = mobile(group, 0).eid.addr();
    let prefix = IpNet::new(host, 64).expect("64 is not too long");
    key(prefix.trunc())
}

/// Providers of a site.
pub const fn providers(site: usize) -> [usize; 2] {
    let first = site % PROVIDERS;
    [
        first,
        (first + 1 + site / PROVIDERS % (PROVIDERS - 1)) % PROVIDERS,
    ]
}

/// A site's RLOC by way of a provider.
pub fn rloc(site: usize, provider: usize) -> IpAddr {
    let bits = (0x2a02_0000 << 96) | ((provider as u128) << 80) | (site as u128 + 1); // `as`: widening
    Ipv6Addr::from(bits).into()
}

/// Of a Map-Server.
pub fn server_address(server: usize) -> IpAddr {
    let bits = (0x2a03_0000 << 96) | (server as u128 + 1); // `as`: widening
    Ipv6Addr::from(bits).into()
}

/// Who has an address: a server, or a site by way of a provider.
pub enum Owner {
    /// Which server.
    Server(usize),
    /// Which site, and by which provider.
    Site(usize, usize),
}

/// Who has this one.
pub fn owner(address: IpAddr) -> Option<Owner> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let bits = u128::from(address);
    let number = usize::try_from(bits & 0xffff_ffff).ok()?.checked_sub(1)?;
    match bits >> 112 {
        0x2a02 => Some(Owner::Site(
            number,
            usize::try_from((bits >> 80) & 0xffff).ok()?,
        )),
        0x2a03 => Some(Owner::Server(number)),
        _ => None,
    }
}

/// Whether an EID is one of those that move.
pub fn is_mobile(host: EidKey) -> bool {
    matches!(host.eid.addr(), IpAddr::V6(address) if u128::from(address) >> 112 == 0x2a01)
}
