//! LISP's data plane: encapsulation towards a mapping's locators, decapsulation of what comes for our own EIDs (RFC 9300).
//!
//! A mapping is one more kind of leaf of a VRF's prefix table; an instance id is a VRF. `table` is the map-cache as
//! workers read it, `cache` as the control thread writes it, with `buckets` to share flows among locators and `template`
//! for the constant part of outer headers; `encap` and `decap` are the packet steps, pure functions over bytes, with
//! `flow` for the hash that keeps a flow together; `view` is what one batch looks at, `node` the loops round the steps.
//! `spec` is what the control thread says of it all.

mod buckets;
pub(crate) mod cache;
pub(crate) mod decap;
pub(crate) mod encap;
pub(crate) mod flow;
pub(crate) mod node;
mod numbers;
mod spec;
pub(crate) mod table;
mod template;
pub(crate) mod view;

#[cfg(test)]
mod tests;

pub use cache::LocatorState;
pub use spec::{
    Act, Dscp, InstanceSpec, LOCATORS_MAX, LocatorSpec, MappingSpec, Miss, NEVER, RLOCS_MAX, Roles,
    Settings,
};
pub use template::overhead;
