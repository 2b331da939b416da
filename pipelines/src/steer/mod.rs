//! Anycast steering: a service address that many servers answer, each flow by one of them.
//!
//! A service address is one more kind of leaf of a VRF's prefix table. What a packet's flow is says `flow`; which server
//! a flow went to, and goes to, says `memory`, one per worker; who takes new flows says a Maglev table per pool
//! ([`dataplane::table::maglev`]), a pure function of configuration and state, so that two boxes steer alike. `view` is
//! what one batch looks at, `node` the loop and the steps for one packet, `registry` the control thread's side. `spec`
//! is what the control thread says of it all. `spot` is the short way: what one more packet of a flow that goes on needs.
//!
//! `early` holds fragments until the one comes that says where they go. `health` knows the answers to health checks, which go to the control thread.
//!
//! Servers answer clients themselves, and what comes here is one direction of a flow; or the packet is translated: then
//! `rewrite` is what is done to it. Of destination NAT `returns` knows what servers answer; full NAT is `full`, and its flows
//! are in `sessions`.

mod census;
pub(crate) mod early;
pub(crate) mod encap;
pub(crate) mod flow;
pub(crate) mod full;
mod health;
mod limits;
pub(crate) mod memory;
pub(crate) mod node;
pub(crate) mod registry;
pub(crate) mod returns;
pub(crate) mod rewrite;
pub(crate) mod sessions;
mod spec;
pub(crate) mod spot;
pub(crate) mod view;

pub use census::{Census, FlowMemory};
pub use encap::encapsulated;
pub use health::{TOKENS, token};
pub use limits::LIMITED_MAX;
pub use registry::PoolState;
pub use spec::{
    Affinity, FLOWS_DEFAULT, FLOWS_MAX, Limits, Mode, PoolSpec, Ports, Protocol, SERVERS_MAX,
    SOURCES_MAX, ServerSpec, ServiceSpec, Settings, State, WhenDown,
};
