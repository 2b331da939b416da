//! Header views: borrowed, alignment 1, no allocation, no policy.
//!
//! Used by packet programs on worker threads and by protocol machines on the control thread. A view is a `repr(C)`
//! structure laid over the frame with zerocopy (`Header::ref_from_prefix`); its length is checked once, at the borrow,
//! and it judges nothing. Setters never hide work: changing an address does not fix a checksum. Network byte order
//! exists only inside these structures.

pub mod arp;
pub mod checksum;
mod code_points;
pub mod ethernet;
pub mod ext;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod lisp;
pub mod tcp;
pub mod udp;
pub mod vlan;

/// What users of the views need in scope: `ref_from_prefix`, `mut_from_prefix`, `as_bytes`, and the integer types.
pub use zerocopy::{
    FromBytes, IntoBytes,
    network_endian::{U16, U32},
};

/// The bytes end before the header does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shorter than its headers say")]
pub struct Truncated;

#[cfg(test)]
mod tests;
