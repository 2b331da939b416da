//! LISP: own RLOCs are ours, fields fit the mode, instances have a VRF each.
//!
//! Which mappings may stand is said by [`Rules`]; here every answer gets its place in the file.

mod mapping_system;
mod mappings;
mod probing;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::interfaces::Interfaces;
use super::names::Seen;
use crate::config::error::{Place, Sink};
use crate::config::file::{InstanceTable, LispTable, OwnRlocTable};
use crate::config::lisp::rules::{Rules, check_eid_prefix, own_addresses};
use crate::config::lisp::{Instance, Lisp, Mode, OnMiss, OwnRloc, Roles};
use crate::config::model::Route;
use crate::config::problem::Problem;
use crate::config::reader::{Field, List};
use crate::proto::lisp::Locator;

/// How long a learned path MTU holds (RFC 8201 5.3).
const PATH_MTU_AGE: Duration = Duration::from_secs(600);

pub(super) fn lisp(
    table: Field<LispTable>,
    interfaces: &Interfaces,
    routes: &[Route],
    sink: &mut Sink<'_>,
) -> Option<Lisp> {
    let table = table.optional()?;
    check_header(&table, sink);
    let vrf = interfaces.resolve_vrf(&table.vrf, sink);
    let roles_are_known = !table.roles.is_invalid();
    let roles = roles(&table.roles, sink);
    let rlocs_are_known = all_are_known(&table.rlocs) && interfaces.addresses_are_complete();
    let rlocs = rlocs(&table.rlocs, vrf, interfaces, sink);
    let probing = probing::probing(&table, sink);
    let gpe = table.gpe.or(false);
    let map_cache =
        mapping_system::map_cache((&table.map_cache, &table.state), &table.map_resolvers, sink);
    let mut lisp = Lisp {
        roles,
        mode: table.mode.or_default(),
        vrf: vrf.unwrap_or(0),
        rlocs,
        dscp: table.dscp.or_default(),
        udp_checksum: table.udp_checksum.or(gpe),
        gpe,
        path_mtu: table.path_mtu.or_default(),
        path_mtu_age: table
            .path_mtu_age
            .optional()
            .map_or(PATH_MTU_AGE, |seconds| Duration::from_secs(seconds.into())),
        check_source_rloc: table.check_source_rloc.or(false),
        petr: Vec::new(),
        miss: table.miss.value().copied().unwrap_or_default(),
        nonce: table.nonce.or(false),
        locator_status_bits: table.locator_status_bits.or(false),
        map_version: table.map_version.or(0),
        map_resolvers: Vec::new(),
        map_servers: Vec::new(),
        identity: mapping_system::identity(&table.xtr_id, &table.site_id, sink),
        probing,
        map_cache,
        state: table.state.optional(),
        instances: Vec::new(),
        mappings: Vec::new(),
    };
    let needs_eids = roles_are_known && roles.needs_eids();
    let tables = &table.instances;
    lisp.instances = instances(tables, &table.place, needs_eids, interfaces, sink);
    if roles_are_known {
        check_dynamic_eids(&table.instances, &lisp.instances, roles, sink);
    }
    let rules = Rules::new(&lisp, interfaces.list(), routes);
    // Without all own RLOCs nobody can say which families there are.
    if rlocs_are_known {
        for (address, place) in table.petr.value().iter().flat_map(|list| &list.items) {
            if let Err(misfit) = rules.check_rloc(*address) {
                sink.push(place, misfit.into());
            }
        }
    }
    lisp.petr = addresses_once(table.petr, "proxy ETR", sink);
    if let Some((OnMiss::Petr, place)) = table.miss.given()
        && lisp.petr.is_empty()
    {
        let (found, other) = ("miss = \"petr\"", "petr");
        sink.push(place, Problem::Without { found, other });
    }
    let resolvers = table.map_resolvers;
    lisp.map_resolvers = mapping_system::map_resolvers(resolvers, &rules, rlocs_are_known, sink);
    let servers = table.map_servers;
    lisp.map_servers = mapping_system::map_servers(servers, roles, &rules, rlocs_are_known, sink);
    check_map_requests(&table.instances, &lisp.instances, &rules, sink);
    let rules = Rules::new(&lisp, interfaces.list(), routes);
    lisp.mappings = mappings::mappings(table.mappings, &rules, rlocs_are_known, sink);
    Some(lisp)
}

/// Fields of the header against the mode, and against each other.
fn check_header(table: &LispTable, sink: &mut Sink<'_>) {
    let is_on = |field: &Field<bool>| {
        field
            .given()
            .filter(|(on, _)| **on)
            .map(|(_, place)| place.clone())
    };
    let version = table.map_version.given();
    let version = version
        .filter(|(version, _)| **version != 0)
        .map(|(_, place)| place.clone());
    let gpe = is_on(&table.gpe);
    let nonce = is_on(&table.nonce);
    let status_bits = is_on(&table.locator_status_bits);
    // RFC 9300 4.1 (D-09).
    if !table.mode.is_invalid() && table.mode.value() != Some(&Mode::Closed) {
        for (found, place) in [
            ("gpe", &gpe),
            ("nonce", &nonce),
            ("locator_status_bits", &status_bits),
            ("map_version", &version),
        ] {
            if let Some(place) = place {
                sink.push(place, Problem::ClosedOnly { found });
            }
        }
    }
    let mut exclude =
        |here: (&'static str, &Option<Place>), there: (&'static str, &Option<Place>), rfc| {
            if let ((found, Some(place)), (other, Some(other_place))) = (here, there) {
                let problem = Problem::Together { found, other, rfc };
                sink.push_related(place, problem, other_place, "the other one");
            }
        };
    // They share 24 bits of the header (D-03), which GPE has taken for its next protocol (K-01).
    exclude(("map_version", &version), ("nonce", &nonce), "RFC 9300 5.3");
    exclude(("nonce", &nonce), ("gpe", &gpe), "RFC 9305 3");
    exclude(("map_version", &version), ("gpe", &gpe), "RFC 9305 3");
}

fn roles(field: &Field<List<crate::config::lisp::Role>>, sink: &mut Sink<'_>) -> Roles {
    let Some(list) = field.value() else {
        return Roles::DEFAULT;
    };
    let mut roles = Roles::default();
    let mut seen = Seen::default();
    for (role, place) in &list.items {
        roles.add(*role);
        if let Some(first) = seen.insert(*role, place) {
            let problem = Problem::Duplicate {
                what: "role",
                found: format!("{:?}", role.name()),
                scope: "once",
            };
            sink.push_related(place, problem, first, "first here");
        }
    }
    roles
}

fn all_are_known<T>(field: &Field<List<T>>) -> bool {
    field.value().is_some_and(|list| list.is_complete)
}

/// Own RLOCs: own addresses in the underlay, each once.
fn rlocs(
    field: &Field<List<OwnRlocTable>>,
    vrf: Option<usize>,
    interfaces: &Interfaces,
    sink: &mut Sink<'_>,
) -> Vec<OwnRloc> {
    let mut seen = Seen::default();
    let mut rlocs = Vec::new();
    for (table, _) in field.value().iter().flat_map(|list| &list.items) {
        let OwnRlocTable { rloc, place, .. } = table;
        let default = Locator::new(*rloc);
        rlocs.push(OwnRloc {
            rloc: *rloc,
            priority: table.priority.value().copied().unwrap_or(default.priority),
            weight: table.weight.value().copied().unwrap_or(default.weight),
        });
        if let Some(first) = seen.insert(*rloc, place) {
            let problem = Problem::Duplicate {
                what: "RLOC",
                found: rloc.to_string(),
                scope: "once",
            };
            sink.push_related(place, problem, first, "first here");
        }
        let Some(vrf) = vrf else { continue };
        if interfaces.owner(vrf, *rloc).is_none() && interfaces.addresses_are_complete() {
            let own = own_addresses(vrf, interfaces.list());
            let problem = Problem::NotOwnAddress {
                found: *rloc,
                vrf: interfaces.vrf_name(vrf).to_owned(),
                expected: own.map(|own| own.to_string()).collect(),
            };
            sink.push(place, problem);
        }
    }
    rlocs
}

fn addresses_once(
    field: Field<List<IpAddr>>,
    what: &'static str,
    sink: &mut Sink<'_>,
) -> Vec<IpAddr> {
    let items = field.optional().map_or_else(Vec::new, |list| list.items);
    let mut seen = Seen::default();
    for (address, place) in &items {
        if let Some(first) = seen.insert(*address, place) {
            let found = address.to_string();
            let scope = "once";
            let problem = Problem::Duplicate { what, found, scope };
            sink.push_related(place, problem, first, "first here");
        }
    }
    items.into_iter().map(|(address, _)| address).collect()
}

fn instances(
    field: &Field<Vec<InstanceTable>>,
    lisp: &Place,
    needs_eids: bool,
    interfaces: &Interfaces,
    sink: &mut Sink<'_>,
) -> Vec<Instance> {
    match field {
        Field::Absent => {
            let expected = "at least one instance, written [[lisp.instances]]";
            sink.push(&lisp.child("instances"), Problem::Missing { expected });
        }
        Field::Given(tables, place) if tables.is_empty() => {
            sink.push(place, Problem::Empty { what: "instances" });
        }
        Field::Given(..) | Field::Invalid => {}
    }
    let tables = field.value().map_or(&[][..], Vec::as_slice);
    let (mut ids, mut vrfs) = (Seen::default(), Seen::default());
    let mut instances = Vec::with_capacity(tables.len());
    for table in tables {
        let place_of = |key: &str, given: Option<&Place>| {
            given.cloned().unwrap_or_else(|| table.place.child(key))
        };
        let id = match &table.id {
            Field::Given(id, _) => Some(*id),
            Field::Absent => Some(Default::default()),
            Field::Invalid => None,
        };
        let place = place_of("id", table.id.given().map(|(_, place)| place));
        if let Some(id) = id
            && let Some(first) = ids.insert(id, &place)
        {
            let found = id.to_string();
            let (what, scope) = ("instance", "id once");
            let problem = Problem::Duplicate { what, found, scope };
            sink.push_related(&place, problem, first, "first here");
        }
        let vrf = interfaces.resolve_vrf(&table.vrf, sink);
        let place = place_of("vrf", table.vrf.given().map(|(_, place)| place));
        if let Some(vrf) = vrf
            && let Some(first) = vrfs.insert(vrf, &place)
        {
            let found = format!("{:?}", interfaces.vrf_name(vrf));
            let (what, scope) = ("VRF", "in one instance");
            let problem = Problem::Duplicate { what, found, scope };
            sink.push_related(&place, problem, first, "first here");
        }
        let has_none = |field: &Field<List<IpNet>>| match field {
            Field::Absent => true,
            Field::Given(list, _) => list.items.is_empty() && list.is_complete,
            Field::Invalid => false,
        };
        if needs_eids && has_none(&table.eids) && has_none(&table.dynamic_eids) {
            let expected = "own EID prefixes, or a role pitr, petr or rtr";
            sink.push(
                &place_of("eids", table.eids.given().map(|(_, place)| place)),
                Problem::Missing { expected },
            );
        }
        instances.push(Instance {
            id: id.unwrap_or_default(),
            vrf: vrf.unwrap_or(0),
            eids: prefixes(&table.eids, sink),
            dynamic_eids: prefixes(&table.dynamic_eids, sink),
            map_request: prefixes(&table.map_request, sink),
        });
    }
    instances
}

/// Prefixes of EIDs, each once.
fn prefixes(field: &Field<List<IpNet>>, sink: &mut Sink<'_>) -> Vec<IpNet> {
    let mut seen = Seen::default();
    let mut prefixes = Vec::new();
    for (prefix, place) in field.value().iter().flat_map(|list| &list.items) {
        if let Err(misfit) = check_eid_prefix(*prefix) {
            sink.push(place, misfit.into());
        } else if let Some(first) = seen.insert(*prefix, place) {
            let problem = Problem::Duplicate {
                what: "prefix",
                found: prefix.to_string(),
                scope: "once",
            };
            sink.push_related(place, problem, first, "first here");
        } else {
            prefixes.push(*prefix);
        }
    }
    prefixes
}

/// EIDs of hosts that move are for whoever registers them, and no others are among them.
fn check_dynamic_eids(
    tables: &Field<Vec<InstanceTable>>,
    instances: &[Instance],
    roles: Roles,
    sink: &mut Sink<'_>,
) {
    let tables = tables.value().map_or(&[][..], Vec::as_slice);
    for (table, instance) in tables.iter().zip(instances) {
        if let Some((list, place)) = table.dynamic_eids.given()
            && !list.items.is_empty()
            && !roles.etr
        {
            let (found, other) = ("dynamic_eids", "etr among the roles");
            sink.push(place, Problem::Without { found, other });
        }
        for (found, place) in table.eids.value().iter().flat_map(|list| &list.items) {
            let mut dynamic = instance.dynamic_eids.iter();
            let around = dynamic.find(|prefix| *prefix != found && prefix.contains(found));
            if let Some(dynamic) = around {
                let (found, dynamic) = (*found, *dynamic);
                sink.push(place, Problem::InsideDynamic { found, dynamic });
            }
        }
    }
}

/// EID space is asked for by whoever encapsulates, and where no route comes first.
fn check_map_requests(
    tables: &Field<Vec<InstanceTable>>,
    instances: &[Instance],
    rules: &Rules,
    sink: &mut Sink<'_>,
) {
    let tables = tables.value().map_or(&[][..], Vec::as_slice);
    for (table, instance) in tables.iter().zip(instances) {
        for (prefix, place) in table
            .map_request
            .value()
            .iter()
            .flat_map(|list| &list.items)
        {
            if let Err(misfit) = rules.check_eid_space(instance, *prefix) {
                sink.push(place, misfit.into());
            }
        }
    }
}
