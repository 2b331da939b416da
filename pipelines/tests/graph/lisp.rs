//! LISP through the whole graph (RFC 9300). Each test names the requirement it proves, and runs by the short way and
//! without it.

mod alike;
mod choice;
mod concurrent;
mod control;
mod decap;
mod encap;
mod flows;
mod misses;
mod mtu;
mod neighbours;
mod proxies;
mod roaming;
mod site;
mod underlay;
