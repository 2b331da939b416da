//! The whole control thread and real workers over frames in memory.

pub(crate) mod bench;
mod ipv4;
mod neighbors;
mod tables;
mod views;
