//! The whole control thread and real workers over frames in memory.

mod announce;
pub(crate) mod bench;
mod drain;
mod health;
mod ipv4;
mod lisp;
mod mapping_system;
mod neighbors;
mod probing;
mod roaming;
mod steering;
mod tables;
mod views;
