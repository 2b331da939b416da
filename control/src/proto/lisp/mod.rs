//! LISP on the control thread (RFC 9300, RFC 9301): what a mapping is, the map-cache, packets that met no mapping,
//! and the two ends of the mapping system: the tunnel router ([`xtr`]) and the Map-Server ([`mapserver`]).
//!
//! Values without clocks or sockets, as all of [`proto`](super). The packet path has its own, compiled form of the
//! map-cache; the appliance keeps the two in step.

pub mod cache;
pub mod mapping;
pub mod mapserver;
pub mod misses;
pub mod path_mtu;
pub mod unreachable;
pub mod wire;
pub mod xtr;

#[cfg(test)]
mod tests;

pub use cache::{Deleted, MapCache, Origin};
pub use mapping::{Action, EidKey, InstanceId, Locator, Mapping};
pub use misses::{Limits, Miss, Misses};
pub use path_mtu::{Disbelief, PathMtus};
