//! Protocol machines, free of input and output.
//!
//! A machine is a value. It is told what happened and when (`handle_input`, `handle_timeout`), and it is asked what to
//! do (`poll_output`) and when it wants to be called next (`poll_timeout`). Nothing here names a socket, a clock, a
//! source of randomness, a thread or a table of the packet path: time and seeds are arguments, packets are bytes. So
//! two machines joined by a queue are an interoperability test, and a seed replays it.
//!
//! Called by the control thread only.

pub mod echo;
pub mod health;
pub mod lisp;
pub mod ndp;
