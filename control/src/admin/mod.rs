//! The admin socket: what `sextant show`, `reload` and `trace` ask, and how the running instance answers.

pub mod client;
pub mod map;
pub mod protocol;
pub mod registrations;
pub mod server;
pub mod service;
pub mod view;
