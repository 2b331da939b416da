//! What `sextant mapserver` runs with.

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::proto::lisp::Action;
use crate::proto::lisp::mapserver::{Rate, Settings, Site};

/// The configuration of a Map-Server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapServer {
    /// Own addresses: a socket on UDP port 4342 of each.
    pub listen: Vec<IpAddr>,
    /// The file that keeps nonces over restarts.
    pub state: PathBuf,
    /// The file that keeps registrations over restarts, if any does.
    pub registrations: Option<PathBuf>,
    /// Path of the admin socket. Default: `mapserver.sock` beside `state`.
    pub admin_socket: PathBuf,
    /// The machine's.
    pub settings: Settings,
}

impl MapServer {
    /// All of it but the secrets, as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rate = |rate: Rate| json!({ "per_second": rate.per_second, "burst": rate.burst });
        let Settings {
            sites,
            registration_timeout,
            registrations_max,
            requests,
            registers,
            replies,
            negative_shortest: [shortest_v4, shortest_v6],
            families: _,
            own_addresses: _,
        } = &self.settings;
        json!({
            "mapserver": {
                "listen": self.listen,
                "state": self.state,
                "registrations": self.registrations,
                "admin_socket": self.admin_socket,
                "registration_timeout": registration_timeout.as_secs(),
                "registrations_max": registrations_max,
                "negative_shortest_v4": shortest_v4,
                "negative_shortest_v6": shortest_v6,
                "requests": rate(*requests),
                "registers": rate(*registers),
                "replies": rate(*replies),
            },
            "sites": sites.iter().map(site).collect::<Vec<_>>(),
        })
    }
}

fn site(site: &Site) -> Value {
    let algorithms = site.algorithms.iter().map(|algorithm| algorithm.name());
    let prefixes = site.prefixes.iter().map(|allowed| {
        json!({
            "instance": allowed.key.instance,
            "eid": allowed.key.eid,
            "more_specifics": allowed.more_specifics,
            "action": allowed.action.map(Action::name),
        })
    });
    json!({
        "name": site.name,
        "keys": site.keys.iter().map(|(id, _)| json!({ "id": id })).collect::<Vec<_>>(),
        "algorithms": algorithms.collect::<Vec<_>>(),
        "strict_mac": site.strict_mac,
        "check_nonce": site.check_nonce,
        "auth_failure": site.auth_failure,
        "prefixes": prefixes.collect::<Vec<_>>(),
    })
}
