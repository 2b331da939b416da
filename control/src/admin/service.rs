//! Changes of servers over the admin socket.
//!
//! ```text
//! {"version":1,"command":"service_change","pool":"web","server":"web-2","change":"drain"}
//! {"version":1,"command":"service_change","pool":"web","server":"2001:db8:5::11","change":{"weight":3}}
//! ```
//!
//! The answer is the server as it is now. Whoever checks the health of servers says `down` and `enable`.

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
}

/// What a server shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerChange {
    /// Keep its flows, get no new ones.
    Drain,
    /// Get nothing: its flows go to others, and break.
    Down,
    /// Get new flows, as long as checks find it healthy.
    Enable,
    /// Get new flows, whatever checks say.
    Force,
    /// This share of them, 1 to 256.
    Weight(u16),
}
