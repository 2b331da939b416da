//! The network every suite measures in: an inside and an outside port, one NPT66 rule, one default route.
//!
//! ```text
//!   fd01:203:405::/48 --- fd00:a::2 | fd00:a::1  Sextant  2001:db8:ffff::2 | 2001:db8:ffff::1 --- ::/0
//!                                inside                outside, rule to 2001:db8:1::/48
//! ```

/// Prefix of the hosts inside.
pub const INSIDE_PREFIX: &str = "fd01:203:405::/48";
/// What the rule makes of it outside.
pub const OUTSIDE_PREFIX: &str = "2001:db8:1::/48";
/// Our address inside.
pub const INSIDE_ADDRESS: &str = "fd00:a::1/64";
/// The router inside, behind which all hosts are.
pub const INSIDE_ROUTER: &str = "fd00:a::2";
/// Our address outside.
pub const OUTSIDE_ADDRESS: &str = "2001:db8:ffff::2/64";
/// The provider's router.
pub const OUTSIDE_ROUTER: &str = "2001:db8:ffff::1";
/// MAC of the router inside.
pub const INSIDE_ROUTER_MAC: &str = "02:00:00:00:00:aa";
/// MAC of the router outside.
pub const OUTSIDE_ROUTER_MAC: &str = "02:00:00:00:00:bb";
/// What DPDK calls its first capture device: the source's port, whichever side it stands on.
pub const SOURCE_MAC: &str = "02:70:63:61:70:00";
/// The other port, where we choose.
pub const SINK_MAC: &str = "02:00:00:00:00:02";
