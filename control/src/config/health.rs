//! `health` of `[[pools]]`: how servers are checked.

use std::net::Ipv6Addr;

use serde::Serialize;

use crate::proto::health::{Pace, Probe};

/// A pool's `health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `kind`: `icmpv6`, `tcp`, `http`, `https` or `udp`, and what belongs to it: `port` (default: the first port of the first
    /// service of the pool), `path` (default `/`), `host` (default: the address), `status` (default 200 to 399),
    /// `server_name` (default: that of `host`), `verify` (default `false`; `true`: with the authorities of this machine, or
    /// the file that has them), `send` and `expect` (default: nothing, and any answer).
    pub probe: Probe,
    /// `interval_ms` (default 2,000), `timeout_ms` (default: half the interval, at most 1,000), `rise` (2), `fall` (3),
    /// `hold_down` (0 s), `hold_down_max` (300 s).
    pub pace: Pace,
    /// `target`: which address is asked. Default `server`.
    pub target: Target,
    /// `source`: an own address. Default: the one on the server's link, else that of the tunnel, else any of the VRF.
    pub source: Option<Ipv6Addr>,
    /// Derived: the service address that is asked where `target` is `service`.
    pub service: Option<Ipv6Addr>,
}

/// Which address of a server a check is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Its own.
    #[default]
    Server,
    /// The service address of the first service of the pool, the way clients' packets go: by its MAC address, or in the
    /// tunnel.
    Service,
}
