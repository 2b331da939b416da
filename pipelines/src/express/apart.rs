//! The short way for packets that differ from the others of their port: those that were decapsulated, and IPv4.
//!
//! They have a record of their own; a burst that has some is looked up in runs and finished by a loop that reads it. The
//! same loop encapsulates, in steps over the whole burst, so that what a mapping needs is waited for side by side.

use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::node::Node;
use dataplane::testless;
