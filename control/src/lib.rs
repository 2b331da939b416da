//! The control thread of Sextant, and everything the binary `sextant` does.
//!
//! ```text
//! cli -> commands -+-> run: config -> instance -> privileges -> devices -> workers -> reactor
//!                  |                                                                     |
//!                  |      appliance: punted packets -> proto -> publish -> tables, packets
//!                  |          ^
//!                  +-> show --+ over the admin socket: admin::{client, protocol, server, view}
//! ```
//!
//! `mapserver` and `lig` are on their own: [`proto::lisp`] behind ordinary sockets, without DPDK.
//!
//! One thread owns configuration, protocols and table builders ([`appliance`]); the single-threaded [`reactor`] gives it
//! time, questions and signals. Threads and sharing are described at the top of [`dataplane::worker`].

pub mod admin;
pub mod appliance;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
mod devices;
pub mod durable;
pub mod exit;
pub mod instance;
pub mod lab;
pub mod lig;
pub mod logging;
pub mod mapserver;
mod on_change;
pub mod platform;
pub mod privileges;
pub mod proto;
pub mod publish;
pub mod reactor;
pub mod run;
pub mod show;
mod slots;
mod summary;
