//! Whom the box asks for mappings and where it registers its own EIDs (RFC 9301).

use std::net::IpAddr;
use std::path::PathBuf;

use super::addresses_once;
use crate::config::error::Sink;
use crate::config::file::MapServerTable;
use crate::config::lisp::rules::{Misfit, Rules};
use crate::config::lisp::{MapServer, Roles};
use crate::config::problem::Problem;
use crate::config::reader::{Field, List};
use crate::config::validate::names::Seen;
use crate::proto::lisp::wire::Identity;
use crate::proto::lisp::wire::auth::{Algorithm, Secret};

/// Map-Servers, most.
const SERVERS_MAX: usize = 8;
/// The number of a secret that was given none.
const KEY_ID: u8 = 1;

/// Map-Resolvers: other boxes that can be reached, for boxes that need mappings.
pub(super) fn map_resolvers(
    field: Field<List<IpAddr>>,
    rules: &Rules,
    rlocs_are_known: bool,
    sink: &mut Sink<'_>,
) -> Vec<IpAddr> {
    if let (Some((list, place)), Err(misfit)) = (field.given(), rules.check_roles())
        && !list.items.is_empty()
    {
        sink.push(place, misfit.into());
    }
    for (address, place) in field.value().iter().flat_map(|list| &list.items) {
        if let Err(misfit) = rules.check_rloc(*address)
            && (rlocs_are_known || matches!(misfit, Misfit::NotRloc { .. }))
        {
            sink.push(place, misfit.into());
        }
    }
    addresses_once(field, "Map-Resolver", sink)
}

/// The file of the map-cache: another than that of the nonces, for boxes that learn something.
pub(super) fn map_cache(
    (map_cache, state): (&Field<PathBuf>, &Field<PathBuf>),
    map_resolvers: &Field<List<IpAddr>>,
    sink: &mut Sink<'_>,
) -> Option<PathBuf> {
    let (path, place) = map_cache.given()?;
    if matches!(map_resolvers, Field::Absent) {
        let (found, other) = ("map_cache", "map_resolvers");
        sink.push(place, Problem::Without { found, other });
    }
    if let Some((nonces, first)) = state.given()
        && nonces == path
    {
        let problem = Problem::Duplicate {
            what: "file",
            found: path.display().to_string(),
            scope: "once",
        };
        sink.push_related(place, problem, first, "first here");
    }
    Some(path.clone())
}

/// Map-Servers: each once, for boxes that have EIDs to register.
pub(super) fn map_servers(
    field: Field<Vec<MapServerTable>>,
    roles: Roles,
    rules: &Rules,
    rlocs_are_known: bool,
    sink: &mut Sink<'_>,
) -> Vec<MapServer> {
    if let Some((tables, place)) = field.given()
        && !tables.is_empty()
        && !roles.etr
    {
        let (found, other) = ("map_servers", "etr among the roles");
        sink.push(place, Problem::Without { found, other });
    }
    if let Some((tables, place)) = field.given()
        && tables.len() > SERVERS_MAX
    {
        sink.push(
            place,
            Problem::TooMany {
                found: tables.len(),
                what: "Map-Servers",
                maximum: SERVERS_MAX,
            },
        );
    }
    let mut seen = Seen::default();
    let mut servers = Vec::new();
    for table in field.or(Vec::new()) {
        if let Some((address, place)) = table.address.given() {
            if let Err(misfit) = rules.check_rloc(*address)
                && (rlocs_are_known || matches!(misfit, Misfit::NotRloc { .. }))
            {
                sink.push(place, misfit.into());
            }
            if let Some(first) = seen.insert(*address, place) {
                let problem = Problem::Duplicate {
                    what: "Map-Server",
                    found: address.to_string(),
                    scope: "once",
                };
                sink.push_related(place, problem, first, "first here");
            }
        }
        // What is missing was reported.
        let (Some(address), Some(key)) = (table.address.optional(), table.key.optional()) else {
            continue;
        };
        servers.push(MapServer {
            address,
            key: Secret::new(key.as_bytes()),
            key_id: table.key_id.or(KEY_ID),
            algorithm: table.algorithm.or(Algorithm::HmacSha256),
            proxy_reply: table.proxy_reply.or(false),
            merge: table.merge.or(false),
        });
    }
    servers
}

/// Both parts of it, or none (RFC 9301 5.6).
pub(super) fn identity(
    xtr_id: &Field<u128>,
    site_id: &Field<u64>,
    sink: &mut Sink<'_>,
) -> Option<Identity> {
    let (found, other, place) = match (xtr_id, site_id) {
        (Field::Given(xtr_id, _), Field::Given(site_id, _)) => {
            return Some(Identity {
                xtr_id: *xtr_id,
                site_id: *site_id,
            });
        }
        (Field::Given(_, place), Field::Absent) => ("xtr_id", "site_id", place),
        (Field::Absent, Field::Given(_, place)) => ("site_id", "xtr_id", place),
        _ => return None,
    };
    sink.push(place, Problem::Without { found, other });
    None
}
