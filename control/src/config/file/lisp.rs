//! `[lisp]` with its `[[lisp.instances]]` and `[[lisp.mappings]]`.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::de::DeValue;

use super::super::error::{Place, Sink};
use super::super::lisp::{Dscp, Mode, OnMiss, PathMtu, ProbeMode, ROLES, Role};
use super::super::reader::{Field, List, Table, Value, list};
use super::super::scalar::{
    address, boolean, choice, file_path, identifier, integer, prefix, reference, secret,
};
use crate::proto::lisp::mapping::LOCATORS_MAX;
use crate::proto::lisp::wire::auth::Algorithm;
use crate::proto::lisp::{Action, InstanceId, Locator};

/// Own RLOCs, most.
const RLOCS_MAX: usize = 16;
/// Proxy ETRs, most.
const PETR_MAX: usize = 8;
/// Map-Resolvers, most.
const RESOLVERS_MAX: usize = 8;
/// Own EID prefixes of an instance, and prefixes of its EID space, most.
const EIDS_MAX: usize = 4096;

pub(in crate::config) struct LispTable {
    pub(in crate::config) place: Place,
    pub(in crate::config) roles: Field<List<Role>>,
    pub(in crate::config) mode: Field<Mode>,
    pub(in crate::config) vrf: Field<String>,
    pub(in crate::config) rlocs: Field<List<OwnRlocTable>>,
    pub(in crate::config) dscp: Field<Dscp>,
    pub(in crate::config) udp_checksum: Field<bool>,
    pub(in crate::config) gpe: Field<bool>,
    pub(in crate::config) path_mtu: Field<PathMtu>,
    pub(in crate::config) path_mtu_age: Field<u32>,
    pub(in crate::config) check_source_rloc: Field<bool>,
    pub(in crate::config) petr: Field<List<IpAddr>>,
    pub(in crate::config) miss: Field<OnMiss>,
    pub(in crate::config) nonce: Field<bool>,
    pub(in crate::config) locator_status_bits: Field<bool>,
    pub(in crate::config) map_version: Field<u16>,
    pub(in crate::config) map_resolvers: Field<List<IpAddr>>,
    pub(in crate::config) xtr_id: Field<u128>,
    pub(in crate::config) site_id: Field<u64>,
    pub(in crate::config) state: Field<PathBuf>,
    pub(in crate::config) map_cache: Field<PathBuf>,
    pub(in crate::config) probing: Field<ProbeMode>,
    pub(in crate::config) probe_period: Field<u32>,
    pub(in crate::config) probe_misses: Field<u32>,
    pub(in crate::config) fast_probe_period_ms: Field<u32>,
    pub(in crate::config) fast_probe_misses: Field<u32>,
    pub(in crate::config) map_servers: Field<Vec<MapServerTable>>,
    pub(in crate::config) instances: Field<Vec<InstanceTable>>,
    pub(in crate::config) mappings: Field<Vec<MappingTable>>,
}

/// An address alone, or a table.
pub(in crate::config) struct OwnRlocTable {
    pub(in crate::config) rloc: IpAddr,
    /// Of the address.
    pub(in crate::config) place: Place,
    pub(in crate::config) priority: Field<u8>,
    pub(in crate::config) weight: Field<u8>,
}

pub(in crate::config) struct MapServerTable {
    pub(in crate::config) address: Field<IpAddr>,
    pub(in crate::config) key: Field<String>,
    pub(in crate::config) key_id: Field<u8>,
    pub(in crate::config) algorithm: Field<Algorithm>,
    pub(in crate::config) proxy_reply: Field<bool>,
    pub(in crate::config) merge: Field<bool>,
}

pub(in crate::config) struct InstanceTable {
    pub(in crate::config) place: Place,
    pub(in crate::config) id: Field<InstanceId>,
    pub(in crate::config) vrf: Field<String>,
    pub(in crate::config) eids: Field<List<IpNet>>,
    pub(in crate::config) dynamic_eids: Field<List<IpNet>>,
    pub(in crate::config) map_request: Field<List<IpNet>>,
}

pub(in crate::config) struct MappingTable {
    pub(in crate::config) place: Place,
    pub(in crate::config) instance: Field<InstanceId>,
    pub(in crate::config) eid: Field<IpNet>,
    pub(in crate::config) locators: Field<List<LocatorTable>>,
    pub(in crate::config) map_version: Field<u16>,
    pub(in crate::config) action: Field<Action>,
}

pub(in crate::config) struct LocatorTable {
    pub(in crate::config) rloc: Field<IpAddr>,
    pub(in crate::config) priority: Field<u8>,
    pub(in crate::config) weight: Field<u8>,
    pub(in crate::config) up: Field<bool>,
}

pub(super) fn lisp(mut table: Table<'_>, sink: &mut Sink<'_>) -> LispTable {
    const MODE: [(&str, Mode); 2] = [("public", Mode::Public), ("closed", Mode::Closed)];
    const DSCP: [(&str, Dscp); 2] = [("uniform", Dscp::Uniform), ("pipe", Dscp::Pipe)];
    const PATH_MTU: [(&str, PathMtu); 2] = [
        ("stateless", PathMtu::Stateless),
        ("stateful", PathMtu::Stateful),
    ];
    const PROBING: [(&str, ProbeMode); 3] = [
        ("off", ProbeMode::Off),
        ("normal", ProbeMode::Normal),
        ("fast", ProbeMode::Fast),
    ];
    const MISS: [(&str, OnMiss); 4] = [
        (OnMiss::Drop.name(), OnMiss::Drop),
        (OnMiss::Hold.name(), OnMiss::Hold),
        (OnMiss::Native.name(), OnMiss::Native),
        (OnMiss::Petr.name(), OnMiss::Petr),
    ];
    let read = LispTable {
        place: table.place.clone(),
        roles: table.optional("roles", sink, |value, sink| {
            let role = choice(&ROLES);
            list(
                value,
                "an array of roles",
                1..=ROLES.len(),
                "roles",
                role,
                sink,
            )
        }),
        mode: table.optional("mode", sink, choice(&MODE)),
        vrf: table.optional("vrf", sink, reference),
        rlocs: table.required(
            "rlocs",
            "own addresses in the underlay",
            sink,
            |value, sink| {
                let (expected, what) = ("an array of addresses", "RLOCs");
                list(value, expected, 1..=RLOCS_MAX, what, own_rloc, sink)
            },
        ),
        dscp: table.optional("dscp", sink, choice(&DSCP)),
        udp_checksum: table.optional("udp_checksum", sink, boolean),
        gpe: table.optional("gpe", sink, boolean),
        path_mtu: table.optional("path_mtu", sink, choice(&PATH_MTU)),
        // RFC 8201 5.3: not tried again within 5 minutes.
        path_mtu_age: table.optional("path_mtu_age", sink, integer(300..=86_400, "seconds")),
        check_source_rloc: table.optional("check_source_rloc", sink, boolean),
        petr: table.optional("petr", sink, |value, sink| {
            addresses(value, 0, PETR_MAX, "proxy ETRs", sink)
        }),
        miss: table.optional("miss", sink, choice(&MISS)),
        nonce: table.optional("nonce", sink, boolean),
        locator_status_bits: table.optional("locator_status_bits", sink, boolean),
        map_version: table.optional("map_version", sink, map_version),
        map_resolvers: table.optional("map_resolvers", sink, |value, sink| {
            addresses(value, 0, RESOLVERS_MAX, "Map-Resolvers", sink)
        }),
        xtr_id: table.optional("xtr_id", sink, identifier("1 to 32 hexadecimal digits")),
        site_id: table.optional("site_id", sink, identifier("1 to 16 hexadecimal digits")),
        state: table.optional("state", sink, file_path),
        map_cache: table.optional("map_cache", sink, file_path),
        probing: table.optional("probing", sink, choice(&PROBING)),
        probe_period: table.optional("probe_period", sink, integer(10..=3600, "seconds")),
        probe_misses: table.optional("probe_misses", sink, integer(1..=10, "")),
        fast_probe_period_ms: table.optional(
            "fast_probe_period_ms",
            sink,
            integer(100..=5000, "ms"),
        ),
        fast_probe_misses: table.optional("fast_probe_misses", sink, integer(2..=10, "")),
        map_servers: table.tables("map_servers", sink, map_server),
        instances: table.tables("instances", sink, instance),
        mappings: table.tables("mappings", sink, mapping),
    };
    table.finish(sink);
    read
}

fn map_server(mut table: Table<'_>, sink: &mut Sink<'_>) -> MapServerTable {
    let algorithms: Vec<(&str, Algorithm)> = Algorithm::ALL
        .iter()
        .map(|algorithm| (algorithm.name(), *algorithm))
        .collect();
    let read = MapServerTable {
        address: table.required("address", "the Map-Server's address", sink, address),
        key: table.required("key", "the secret that is shared with it", sink, secret),
        key_id: table.optional("key_id", sink, integer(0..=255, "")),
        algorithm: table.optional("algorithm", sink, choice(&algorithms)),
        proxy_reply: table.optional("proxy_reply", sink, boolean),
        merge: table.optional("merge", sink, boolean),
    };
    table.finish(sink);
    read
}

fn instance(mut table: Table<'_>, sink: &mut Sink<'_>) -> InstanceTable {
    let read = InstanceTable {
        place: table.place.clone(),
        id: table.optional("id", sink, instance_id),
        vrf: table.optional("vrf", sink, reference),
        eids: table.optional("eids", sink, prefixes),
        dynamic_eids: table.optional("dynamic_eids", sink, prefixes),
        map_request: table.optional("map_request", sink, prefixes),
    };
    table.finish(sink);
    read
}

fn mapping(mut table: Table<'_>, sink: &mut Sink<'_>) -> MappingTable {
    let actions: Vec<(&str, Action)> = Action::ALL
        .iter()
        .map(|action| (action.name(), *action))
        .collect();
    let read = MappingTable {
        place: table.place.clone(),
        instance: table.optional("instance", sink, instance_id),
        eid: table.required("eid", "the EID prefix it is for", sink, prefix),
        locators: table.optional("locators", sink, |value, sink| {
            let (expected, what) = ("an array of tables", "locators");
            list(value, expected, 1..=LOCATORS_MAX, what, locator, sink)
        }),
        map_version: table.optional("map_version", sink, map_version),
        action: table.optional("action", sink, choice(&actions)),
    };
    table.finish(sink);
    read
}

fn locator(value: Value<'_>, sink: &mut Sink<'_>) -> Option<LocatorTable> {
    const EXAMPLE: &str = "a table such as { rloc = \"2001:db8::1\", priority = 1, weight = 100 }";
    let mut table = value.table(EXAMPLE, sink)?;
    let weight_max = u32::from(Locator::WEIGHT_MAX);
    let read = LocatorTable {
        rloc: table.required("rloc", "the locator's address", sink, address),
        priority: table.optional("priority", sink, integer(0..=255, "")),
        weight: table.optional("weight", sink, integer(0..=weight_max, "")),
        up: table.optional("up", sink, boolean),
    };
    table.finish(sink);
    Some(read)
}

fn own_rloc(value: Value<'_>, sink: &mut Sink<'_>) -> Option<OwnRlocTable> {
    const EXAMPLE: &str = "a table such as { rloc = \"2001:db8::1\", priority = 1, weight = 100 }";
    if !matches!(value.node, DeValue::Table(_)) {
        let place = value.place.clone();
        return address(value, sink).map(|rloc| OwnRlocTable {
            rloc,
            place,
            priority: Field::Absent,
            weight: Field::Absent,
        });
    }
    let mut table = value.table(EXAMPLE, sink)?;
    let rloc = table.required("rloc", "an own address", sink, address);
    let weight_max = u32::from(Locator::WEIGHT_MAX);
    let priority = table.optional("priority", sink, integer(0..=255, ""));
    let weight = table.optional("weight", sink, integer(0..=weight_max, ""));
    table.finish(sink);
    let (rloc, place) = rloc.given()?;
    Some(OwnRlocTable {
        rloc: *rloc,
        place: place.clone(),
        priority,
        weight,
    })
}

fn instance_id(value: Value<'_>, sink: &mut Sink<'_>) -> Option<InstanceId> {
    integer::<u32>(0..=InstanceId::MAX, "")(value, sink).and_then(InstanceId::new)
}

/// 12 bits (RFC 9302 6).
fn map_version(value: Value<'_>, sink: &mut Sink<'_>) -> Option<u16> {
    integer(0..=4095, "")(value, sink)
}

fn addresses(
    value: Value<'_>,
    minimum: usize,
    maximum: usize,
    what: &'static str,
    sink: &mut Sink<'_>,
) -> Option<List<IpAddr>> {
    let expected = "an array of addresses";
    list(value, expected, minimum..=maximum, what, address, sink)
}

fn prefixes(value: Value<'_>, sink: &mut Sink<'_>) -> Option<List<IpNet>> {
    let expected = "an array of prefixes";
    list(value, expected, 0..=EIDS_MAX, "prefixes", prefix, sink)
}
