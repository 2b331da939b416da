//! NPT66: IPv6-to-IPv6 network prefix translation, RFC 6296.
//!
//! `table` holds the prefix pairs and finds the one for an address, `translate` is the packet step (a pure function
//! over bytes and a rule, one function for both directions), `node` the loop round it.

pub(crate) mod node;
mod rule;
mod table;
mod translate;

#[cfg(test)]
mod tests;

pub(crate) use rule::Quick;
pub use rule::{Direction, Reject, Rule, Spec, SpecError, ZeroIid};
pub use table::RuleSet;
pub use translate::translate;
pub(crate) use translate::{counterpart, put, translate_common, undo};
