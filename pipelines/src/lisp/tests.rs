//! Tests of the packet steps and of the map-cache, each beside what it must agree with.

mod cache;
mod decap;
mod encap;

use std::net::IpAddr;

use super::Settings;
use super::cache::MapCache;
use super::spec::{LocatorSpec, MappingSpec};
use crate::tables::VrfId;

const VRF: VrfId = VrfId(0);

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn settings() -> Settings {
    Settings {
        own_rlocs: vec![address("2001:db8:f::1"), address("192.0.2.1")],
        seed: 11,
        instances: vec![super::InstanceSpec {
            id: 0,
            vrf: VRF,
            eids: vec![],
            dynamic: Vec::new(),
            map_request: vec![],
        }],
        ..Settings::default()
    }
}

fn locator(rloc: &str, priority: u8, weight: u8) -> LocatorSpec {
    LocatorSpec {
        priority,
        weight,
        rloc: address(rloc),
        up: true,
    }
}

fn to(locators: &[LocatorSpec]) -> MappingSpec {
    MappingSpec::Locators {
        locators: locators.to_vec(),
        version: 0,
    }
}

/// A cache with one mapping to `rloc`, whose way is next hop 1; and its leaf.
fn cache_to(settings: Settings, rloc: &str) -> (MapCache, u32) {
    let mut cache = MapCache::new(settings);
    let spec = to(&[locator(rloc, 1, 1)]);
    assert!(!cache.is_ready(&spec));
    cache.stack(address(rloc), 1);
    assert!(cache.is_ready(&spec));
    let leaf = cache.install(
        (VRF, "2001:db8:e::/48".parse().expect("a prefix")),
        &spec,
        0,
    );
    (cache, leaf)
}
