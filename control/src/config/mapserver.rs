//! The configuration of `sextant mapserver`: a file of its own kind, `[mapserver]` and `[[sites]]`, read and judged
//! whole like every other.

mod model;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

pub use model::MapServer;

use super::error::{Errors, Place, Sink};
use super::lisp::rules::check_eid_prefix;
use super::problem::Problem;
use super::reader::{Field, Table, Value, list, root_place};
use super::scalar::{
    address, boolean, choice, file_path, integer, name, prefix, secret, socket_path,
};
use super::{not_utf8, read, syntax};
use crate::proto::lisp::mapserver::{Allowed, Rate, Settings, Site};
use crate::proto::lisp::wire::auth::{Algorithm, Secret};
use crate::proto::lisp::{Action, EidKey, InstanceId};

/// Own addresses, most.
const LISTEN_MAX: usize = 16;
/// Name of the admin socket where none is given.
const SOCKET: &str = "mapserver.sock";
/// What may be answered for a prefix that nobody is to reach.
const ACTIONS: [(&str, Action); 4] = [
    (Action::PolicyDenied.name(), Action::PolicyDenied),
    (Action::AuthFailure.name(), Action::AuthFailure),
    (Action::Drop.name(), Action::Drop),
    (Action::SendMapRequest.name(), Action::SendMapRequest),
];
/// Keys of a site, most: as many as key ids.
const KEYS_MAX: usize = 256;
/// Prefixes of a site, most.
const PREFIXES_MAX: usize = 1 << 20;

/// Read and judge a file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn load(path: &Path) -> Result<MapServer, Errors> {
    let name = path.display().to_string();
    let bytes = read(path).map_err(|problem| Errors::of_file(&name, problem))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text),
        Err(error) => Err(not_utf8(&name, &bytes, error.valid_up_to())),
    }
}

/// Judge a text; `name` is what errors call the file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse(name: &str, text: &str) -> Result<MapServer, Errors> {
    let mut sink = Sink::new(name, text);
    let readable = syntax::set_broken_statements_aside(text, &mut sink);
    let tree = syntax::parse(&readable, &mut sink);
    let empty = DeTable::new();
    let mut root = Table::new(&tree, root_place());
    let server = server(root.section("mapserver", &empty, &mut sink), &mut sink);
    let sites = root.tables("sites", &mut sink, site);
    root.finish(&mut sink);
    let sites = distinct(sites.or_default(), &mut sink);
    let server = server.map(|mut server| {
        server.settings.sites = sites;
        server
    });
    sink.finish(server)
        .map(|server| server.expect("what is missing was reported"))
}

/// Whether a file is one of this kind: it has a table `[mapserver]`. One that cannot be read is not.
#[must_use]
pub fn is_one(path: &Path) -> bool {
    let Ok(bytes) = read(path) else {
        return false;
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut sink = Sink::new("", &text);
    let readable = syntax::set_broken_statements_aside(&text, &mut sink);
    let tree = syntax::parse(&readable, &mut sink);
    matches!(
        tree.get("mapserver").map(|value| value.get_ref()),
        Some(DeValue::Table(_))
    )
}

fn server(mut table: Table<'_>, sink: &mut Sink<'_>) -> Option<MapServer> {
    let listen = table.required("listen", "own addresses", sink, |value, sink| {
        let (expected, what) = ("an array of addresses", "addresses");
        list(value, expected, 1..=LISTEN_MAX, what, own_address, sink)
    });
    let state = table.required("state", "the file that keeps nonces", sink, file_path);
    let registrations = table.optional("registrations", sink, file_path);
    let admin_socket = table.optional("admin_socket", sink, socket_path);
    let defaults = Settings::default();
    let [v4, v6] = defaults.negative_shortest;
    let timeout = table.optional(
        "registration_timeout",
        sink,
        integer(10..=86_400, "seconds"),
    );
    let maximum = table.optional("registrations_max", sink, integer(1..=100_000_000, ""));
    let shortest_v4 = table.optional("negative_shortest_v4", sink, integer(0..=32, "bits"));
    let shortest_v6 = table.optional("negative_shortest_v6", sink, integer(0..=128, "bits"));
    let requests = rate(&mut table, "requests", defaults.requests, sink);
    let registers = rate(&mut table, "registers", defaults.registers, sink);
    let replies = rate(&mut table, "replies", defaults.replies, sink);
    table.finish(sink);
    let listen = listen.optional()?;
    for (at, (address, place)) in listen.items.iter().enumerate() {
        let before = listen.items.get(..at).unwrap_or_default();
        if let Some((_, first)) = before.iter().find(|(known, _)| known == address) {
            twice("address", address.to_string(), (place, first), sink);
        }
    }
    if let (Some((kept, place)), Some((nonces, first))) = (registrations.given(), state.given())
        && kept == nonces
    {
        twice("file", kept.display().to_string(), (place, first), sink);
    }
    let listen: Vec<IpAddr> = listen.items.into_iter().map(|(item, _)| item).collect();
    let state: PathBuf = state.optional()?;
    Some(MapServer {
        settings: Settings {
            sites: Vec::new(),
            registration_timeout: timeout
                .optional()
                .map_or(defaults.registration_timeout, |seconds: u32| {
                    Duration::from_secs(seconds.into())
                }),
            registrations_max: maximum
                .optional()
                .and_then(|maximum: u32| usize::try_from(maximum).ok())
                .unwrap_or(defaults.registrations_max),
            requests,
            registers,
            replies,
            negative_shortest: [shortest_v4.or(v4), shortest_v6.or(v6)],
            families: [
                listen.iter().any(IpAddr::is_ipv4),
                listen.iter().any(IpAddr::is_ipv6),
            ],
            own_addresses: listen.clone(),
        },
        listen,
        registrations: registrations.optional(),
        admin_socket: admin_socket.or(state.with_file_name(SOCKET)),
        state,
    })
}

/// One that this machine can have: answers must come from where they were asked for, so "any" will not do.
fn own_address(value: Value<'_>, sink: &mut Sink<'_>) -> Option<IpAddr> {
    let place = value.place.clone();
    let address = address(value, sink)?;
    let kind = if address.is_unspecified() {
        "is no address of its own"
    } else if address.is_multicast() {
        "is a multicast address"
    } else {
        return Some(address);
    };
    let problem = Problem::WrongKind {
        found: address.to_string(),
        kind,
        expected: "an address of this machine",
    };
    sink.push(&place, problem);
    None
}

/// `{ per_second = 1000, burst = 1000 }`.
fn rate(table: &mut Table<'_>, key: &'static str, default: Rate, sink: &mut Sink<'_>) -> Rate {
    let field = table.optional(key, sink, |value, sink| {
        let mut table = value.table("a table such as { per_second = 1000, burst = 1000 }", sink)?;
        let messages = || integer(1..=10_000_000, "messages");
        let read = Rate {
            per_second: table
                .optional("per_second", sink, messages())
                .or(default.per_second),
            burst: table.optional("burst", sink, messages()).or(default.burst),
        };
        table.finish(sink);
        Some(read)
    });
    field.or(default)
}

/// A site and where its name stands.
type Placed = (Site, Place);

fn site(mut table: Table<'_>, sink: &mut Sink<'_>) -> Placed {
    let algorithms: Vec<(&str, Algorithm)> = Algorithm::ALL
        .iter()
        .map(|algorithm| (algorithm.name(), *algorithm))
        .collect();
    let place = table.place_of("name");
    let name = table.required("name", "a name for the site", sink, name);
    let keys = table.required("keys", "its secrets", sink, |value, sink| {
        let expected = "an array of tables";
        list(value, expected, 1..=KEYS_MAX, "keys", key, sink)
    });
    let algorithms = table.optional("algorithms", sink, |value, sink| {
        let (expected, choice) = ("an array of algorithms", choice(&algorithms));
        list(value, expected, 1..=3, "algorithms", choice, sink)
    });
    let strict_mac = table.optional("strict_mac", sink, boolean);
    let check_nonce = table.optional("check_nonce", sink, boolean);
    let auth_failure = table.optional("auth_failure", sink, boolean);
    let prefixes = table.required("prefixes", "what it may register", sink, |value, sink| {
        let expected = "an array of tables";
        let maximum = 1..=PREFIXES_MAX;
        list(value, expected, maximum, "prefixes", allowed, sink)
    });
    table.finish(sink);
    let place = name.given().map_or(place, |(_, place)| place.clone());
    let mut site = Site::new(&name.or_default());
    let mut ids: BTreeMap<u8, Place> = BTreeMap::new();
    for ((id, secret), place) in keys.optional().into_iter().flat_map(|list| list.items) {
        if let Some(first) = ids.insert(id, place.clone()) {
            twice("key id", id.to_string(), (&place, &first), sink);
        }
        site.keys.push((id, secret));
    }
    if let Field::Given(algorithms, _) = algorithms {
        site.algorithms = algorithms.items.into_iter().map(|(item, _)| item).collect();
    }
    site.strict_mac = strict_mac.or(site.strict_mac);
    site.check_nonce = check_nonce.or(site.check_nonce);
    site.auth_failure = auth_failure.or(site.auth_failure);
    let mut keys: BTreeMap<EidKey, Place> = BTreeMap::new();
    for (allowed, place) in prefixes.optional().into_iter().flat_map(|list| list.items) {
        if let Some(first) = keys.insert(allowed.key, place.clone()) {
            twice("prefix", allowed.key.to_string(), (&place, &first), sink);
        }
        site.prefixes.push(allowed);
    }
    (site, place)
}

/// `{ id = 1, secret = "..." }`.
fn key(value: Value<'_>, sink: &mut Sink<'_>) -> Option<(u8, Secret)> {
    let mut table = value.table("a table such as { id = 1, secret = \"...\" }", sink)?;
    let id = table.optional("id", sink, integer(0..=255, ""));
    let secret = table.required("secret", "what both sides know", sink, secret);
    table.finish(sink);
    Some((id.or_default(), Secret::new(secret.optional()?.as_bytes())))
}

/// `{ instance = 7, eid = "2001:db8::/32", more_specifics = true }`, or one that nobody is to reach.
fn allowed(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Allowed> {
    let mut table = value.table("a table such as { eid = \"2001:db8::/32\" }", sink)?;
    let instance = table.optional("instance", sink, |value, sink| {
        integer::<u32>(0..=InstanceId::MAX, "")(value, sink).and_then(InstanceId::new)
    });
    let eid = table.required("eid", "an EID prefix", sink, |value, sink| {
        let place = value.place.clone();
        let eid = prefix(value, sink)?;
        match check_eid_prefix(eid) {
            Ok(()) => Some(eid),
            Err(misfit) => {
                sink.push(&place, misfit.into());
                None
            }
        }
    });
    let more_specifics = table.optional("more_specifics", sink, boolean);
    let action = table.optional("action", sink, choice(&ACTIONS));
    table.finish(sink);
    Some(Allowed {
        key: EidKey {
            instance: instance.or_default(),
            eid: eid.optional()?,
        },
        more_specifics: more_specifics.or_default(),
        action: action.optional(),
    })
}

/// Sites, no name twice.
fn distinct(placed: Vec<Placed>, sink: &mut Sink<'_>) -> Vec<Site> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut sites = Vec::with_capacity(placed.len());
    for (site, place) in placed {
        if let Some(first) = names.insert(site.name.clone(), place.clone()) {
            twice("site", format!("{:?}", site.name), (&place, &first), sink);
        }
        sites.push(site);
    }
    sites
}

fn twice(what: &'static str, found: String, places: (&Place, &Place), sink: &mut Sink<'_>) {
    let (place, first) = places;
    let scope = "once";
    let problem = Problem::Duplicate { what, found, scope };
    sink.push_related(place, problem, first, "first here");
}

#[cfg(test)]
mod tests;
