//! What this appliance does to packets: the packet programs and the graph that joins them.
//!
//! Nothing here knows DPDK: every program runs over any [`dataplane::frame::Frame`], so all of it is tested, fuzzed and
//! measured with frames in ordinary memory. Tables are built by the control thread ([`tables::Builder`]) and published
//! whole; a batch uses one snapshot from start to end.
//!
//! `RFC.md` beside this crate maps each requirement to the code and the test that hold it.

mod edge;
mod egress;
mod express;
mod fib;
pub mod fragment;
mod icmp_error;
mod ingress;
pub mod lisp;
mod local;
mod meta;
pub mod npt66;
mod reset;
pub mod steer;
pub mod tables;
#[cfg(feature = "testing")]
pub mod testing;
mod words;

pub use edge::{Edge, NODE_NAMES};
pub use fib::{Kind, NextHop};
pub use icmp_error::IcmpError;
pub use meta::{Entry, Family, Meta, Next};
pub use tables::Tables;
