//! The control thread of Sextant, and everything the binary `sextant` does.
//!
//! One thread owns configuration, protocols and table builders ([`appliance`]); a single-threaded reactor gives it time,
//! punted packets, questions and signals. Threads and sharing are described at the top of [`dataplane::worker`].

pub mod admin;
pub mod cli;
pub mod config;
pub mod exit;
pub mod instance;
pub mod proto;
pub mod show;
