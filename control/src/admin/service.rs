//! Changes of servers over the admin socket.
//!
//! ```text
//! {"version":1,"command":"service_change","pool":"web","server":"web-2","change":"drain"}
//! {"version":1,"command":"service_change","pool":"web","server":"2001:db8:5::11","change":{"weight":3}}
//! {"version":1,"command":"service_change","pool":"web","server":"web-2","change":{"drain_until":{"deadline_s":60,"when_idle":true}}}
//! {"version":1,"command":"service_change","pool":"web","server":"web-2","change":"down","agent":"probe","ttl_s":30}
//! ```
//!
//! The answer is the server as it is now.

use serde::{Deserialize, Serialize};

/// Which server, and what it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// Name of the pool.
    pub pool: String,
    /// Name or address of the server.
    pub server: String,
    /// What it shall be.
    pub change: ServerChange,
    /// Who says so, if it is a program that checks servers in its own way: its name. It may say `down` and `enable`, and
    /// undoes nothing that others said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// How long `down` of an agent holds that does not say so again, seconds. Default: until it says `enable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
}

/// What a server shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerChange {
    /// Keep its flows, get no new ones.
    Drain,
    /// The same until it has no flows, if `when_idle`, or `deadline_s` seconds have passed; then `down`.
    DrainUntil {
        /// Seconds.
        deadline_s: Option<u32>,
        /// Whether it ends earlier when there are no flows.
        when_idle: bool,
    },
    /// Get nothing: its flows go to others, and break.
    Down,
    /// The same, and TCP connections it had are reset.
    Cut,
    /// Get new flows, as long as checks find it healthy.
    Enable,
    /// Get new flows, whatever checks say.
    Force,
    /// This share of them, 1 to 256.
    Weight(u16),
}
