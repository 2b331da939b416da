//! The part about LISP: two sites, and the tunnels that their boxes make between them (RFC 9300).
//!
//! ```text
//!  sextant-lisp-a          sextant-box-lisp-a       sextant-lisp-core        sextant-box-lisp-b          sextant-lisp-b
//!  fd00:a:0:6::10 -- tap -- site        core1 -- tap -- a kernel -- tap -- core1        site -- tap -- fd00:b:0:6::10
//!  10.1.6.10                            core2 -- tap -- routes   -- tap -- core2                       10.2.6.10
//!                                         net -- tap -- 2600:db8::1 (a host without LISP)
//! ```
//!
//! The router in the middle knows the four links of the underlay and none of the sites' addresses. Site A also has
//! a provider, to which it talks natively through NPT66. A site's hosts have an address for every kind of mapping of the
//! other site:
//!
//! | subnet | reached by |
//! |---|---|
//! | `fd00:x:0:6::/64`, `10.x.6.0/24` | the IPv6 locator on `core1` |
//! | `fd00:x:0:4::/64`, `10.x.4.0/24` | the IPv4 locator on `core1` |
//! | `fd00:b:0:2::/64` | both links of site B: 70 % of the flows by `core1`, 30 % by `core2` |
//! | `fd00:b:0:9::/64` | nothing, until somebody adds a mapping |
//!
//! The tap of A's `core2` stays in the box's namespace, behind a bridge, so that its box sees when it goes down.

mod checks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Check, Show};
use crate::lab::traffic::{self, refuse};
use crate::lab::{Appliance, LabError, Namespace, wait_until};

/// Locators of site B: of `core1`, of both families, and the IPv6 one of `core2`.
pub const B1_V6: &str = "2001:db8:b1::2";
/// IPv4 on `core1`.
pub const B1_V4: &str = "192.0.2.34";
/// IPv6 on `core2`.
pub const B2_V6: &str = "2001:db8:b2::2";
/// Host B where two locators share the flows.
pub const HOST_B_SHARED: &str = "fd00:b:0:2::10";
/// Host B where there is no mapping.
pub const HOST_B_UNKNOWN: &str = "fd00:b:0:9::10";
/// The host without LISP.
pub const NATIVE_HOST: &str = "2600:db8::1";
/// What the NPT66 rule of site A makes of its EIDs towards the provider.
pub const OUTSIDE_A: &str = "2001:db8:100::/48";
/// MTU of the sites: what fits into the underlay's 1,500 bytes behind the longest outer headers, 56 bytes.
pub const SITE_MTU: u16 = 1444;

/// A family of EIDs over a family of locators.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// In words.
    pub name: &'static str,
    /// Host A.
    pub a: &'static str,
    /// Host B.
    pub b: &'static str,
    /// Whether the locators are IPv4.
    pub is_outer_v4: bool,
}

/// All four.
pub const PAIRS: [Pair; 4] = [
    Pair {
        name: "IPv6 over IPv6",
        a: "fd00:a:0:6::10",
        b: "fd00:b:0:6::10",
        is_outer_v4: false,
    },
    Pair {
        name: "IPv6 over IPv4",
        a: "fd00:a:0:4::10",
        b: "fd00:b:0:4::10",
        is_outer_v4: true,
    },
    Pair {
        name: "IPv4 over IPv6",
        a: "10.1.6.10",
        b: "10.2.6.10",
        is_outer_v4: false,
    },
    Pair {
        name: "IPv4 over IPv4",
        a: "10.1.4.10",
        b: "10.2.4.10",
        is_outer_v4: true,
    },
];

/// Configuration of box A, without `[system]`.
pub const CONFIG_A: &str = r#"[workers]
poll = "adaptive"

[ndp]
dad_transmits = 0

[[ports]]
name = "site"
device = "net_tap0,iface=sxl-site-a,mac=02:00:00:00:0a:01"

[[ports]]
name = "core1"
device = "net_tap1,iface=sxl-core-a1,mac=02:00:00:00:0a:02"

[[ports]]
name = "core2"
device = "net_tap2,iface=sxl-core-a2,mac=02:00:00:00:0a:03"

[[ports]]
name = "net"
device = "net_tap3,iface=sxl-net-a,mac=02:00:00:00:0a:04"

[[interfaces]]
port = "site"
vrf = "site"
mtu = 1444
addresses = ["fd00:a:0:6::1/64", "fd00:a:0:4::1/64", "10.1.6.1/24", "10.1.4.1/24"]

[[interfaces]]
port = "net"
vrf = "site"
addresses = ["2001:db8:f0::2/64"]

[[interfaces]]
port = "core1"
addresses = ["2001:db8:a1::2/64", "192.0.2.2/28"]

[[interfaces]]
port = "core2"
addresses = ["2001:db8:a2::2/64", "192.0.2.18/28"]

# What is no EID of anybody goes to the provider.
[[routes]]
vrf = "site"
prefix = "::/0"
next_hops = [{ via = "2001:db8:f0::1" }]

[[npt66]]
name = "provider"
interface = "net"
inside = "fd00:a::/48"
outside = "2001:db8:100::/48"

# Each locator of site B by a link of its own.
[[routes]]
prefix = "2001:db8:b1::/64"
next_hops = [{ via = "2001:db8:a1::1" }]

[[routes]]
prefix = "192.0.2.32/28"
next_hops = [{ via = "192.0.2.1" }]

[[routes]]
prefix = "2001:db8:b2::/64"
next_hops = [{ via = "2001:db8:a2::1" }]

[lisp]
rlocs = ["2001:db8:a1::2", "192.0.2.2"]
miss = "hold"

[[lisp.instances]]
id = 7
vrf = "site"
eids = ["fd00:a::/48", "10.1.0.0/16"]
map_request = ["fd00::/8", "10.0.0.0/8", "2600::/16"]

[[lisp.mappings]]
instance = 7
eid = "fd00:b:0:6::/64"
locators = [{ rloc = "2001:db8:b1::2" }]

[[lisp.mappings]]
instance = 7
eid = "fd00:b:0:4::/64"
locators = [{ rloc = "192.0.2.34" }]

[[lisp.mappings]]
instance = 7
eid = "10.2.6.0/24"
locators = [{ rloc = "2001:db8:b1::2" }]

[[lisp.mappings]]
instance = 7
eid = "10.2.4.0/24"
locators = [{ rloc = "192.0.2.34" }]

[[lisp.mappings]]
instance = 7
eid = "fd00:b:0:2::/64"
locators = [
    { rloc = "2001:db8:b1::2", priority = 1, weight = 70 },
    { rloc = "2001:db8:b2::2", priority = 1, weight = 30 },
]
"#;

/// Configuration of box B, without `[system]`.
pub const CONFIG_B: &str = r#"[workers]
poll = "adaptive"

[ndp]
dad_transmits = 0

[[ports]]
name = "site"
device = "net_tap0,iface=sxl-site-b,mac=02:00:00:00:0b:01"

[[ports]]
name = "core1"
device = "net_tap1,iface=sxl-core-b1,mac=02:00:00:00:0b:02"

[[ports]]
name = "core2"
device = "net_tap2,iface=sxl-core-b2,mac=02:00:00:00:0b:03"

[[interfaces]]
port = "site"
vrf = "site"
mtu = 1444
addresses = ["fd00:b:0:6::1/64", "fd00:b:0:4::1/64", "fd00:b:0:2::1/64", "fd00:b:0:9::1/64", "10.2.6.1/24", "10.2.4.1/24"]

[[interfaces]]
port = "core1"
addresses = ["2001:db8:b1::2/64", "192.0.2.34/28"]

[[interfaces]]
port = "core2"
addresses = ["2001:db8:b2::2/64"]

[[routes]]
prefix = "2001:db8:a1::/64"
next_hops = [{ via = "2001:db8:b1::1" }]

[[routes]]
prefix = "192.0.2.0/28"
next_hops = [{ via = "192.0.2.33" }]

[lisp]
rlocs = ["2001:db8:b1::2", "192.0.2.34", "2001:db8:b2::2"]

[[lisp.instances]]
id = 7
vrf = "site"
eids = ["fd00:b::/48", "10.2.0.0/16"]
map_request = ["fd00::/8", "10.0.0.0/8"]

[[lisp.mappings]]
instance = 7
eid = "fd00:a:0:6::/64"
locators = [{ rloc = "2001:db8:a1::2" }]

[[lisp.mappings]]
instance = 7
eid = "fd00:a:0:4::/64"
locators = [{ rloc = "192.0.2.2" }]

[[lisp.mappings]]
instance = 7
eid = "10.1.6.0/24"
locators = [{ rloc = "2001:db8:a1::2" }]

[[lisp.mappings]]
instance = 7
eid = "10.1.4.0/24"
locators = [{ rloc = "192.0.2.2" }]
"#;

/// Two sites and the underlay between them.
pub struct Stage {
    // Dropped in this order: the boxes first.
    /// Box A.
    pub box_a: Appliance,
    /// Box B.
    pub box_b: Appliance,
    /// The host of site A.
    pub host_a: Namespace,
    /// The host of site B.
    pub host_b: Namespace,
    /// The router of the underlay, which is also the provider and the host without LISP.
    pub core: Namespace,
    /// `sextant` itself, which also plays the hosts' programs.
    pub program: PathBuf,
}

impl Stage {
    /// Set the stage with `program` (`sextant` itself) and these configurations.
    ///
    /// # Errors
    /// When something does not start.
    pub fn set(program: &Path, config_a: &str, config_b: &str) -> Result<Self, LabError> {
        let core = router()?;
        let host_a = Namespace::new("sextant-lisp-a")?;
        let host_b = Namespace::new("sextant-lisp-b")?;
        let start = |name, config| Appliance::start(program, name, config);
        let (box_a, box_b) = std::thread::scope(|scope| {
            let box_a = scope.spawn(|| start("sextant-box-lisp-a", config_a));
            let box_b = start("sextant-box-lisp-b", config_b);
            (box_a.join(), box_b)
        });
        let gone = |_| refuse("box A", "its start ended in a panic");
        let stage = Self {
            box_a: box_a.map_err(gone)??,
            box_b: box_b?,
            host_a,
            host_b,
            core,
            program: program.to_owned(),
        };
        // Each in a namespace of its own, so none waits for another.
        let connected = std::thread::scope(|scope| {
            let core = scope.spawn(|| stage.connect_core());
            let site_a = scope.spawn(|| stage.connect_site_a());
            (stage.connect_site_b(), core.join(), site_a.join())
        });
        let gone = |_| refuse("the laboratory", "a thread of it ended in a panic");
        connected.0?;
        connected.1.map_err(gone)??;
        connected.2.map_err(gone)??;
        Ok(stage)
    }

    /// Wait until the hosts reach each other in every way.
    ///
    /// # Errors
    /// When they do not.
    pub fn wait_until_ready(&self) -> Result<(), LabError> {
        let limit = Duration::from_secs(15);
        for pair in PAIRS {
            let what = format!("the first ping to come back, {}", pair.name);
            wait_until(&what, limit, || self.pings(pair.a, pair.b))?;
        }
        // A few flows find both of the ways that others share, with every neighbour on them.
        let at = traffic::socket(HOST_B_SHARED, 7007);
        let _echo = traffic::listen(&self.program, &self.host_b, &["udp-echo", &at], 7007)?;
        let words = ["udp-flows", &at, "32", "1", "1000"];
        wait_until("flows by both locators", limit, || {
            let flows = traffic::peer(&self.program, &self.host_a, &words);
            flows.is_ok_and(|flows| flows["unanswered"] == 0)
        })
    }

    /// Whether host A, at this address of it, gets an answer.
    #[must_use]
    pub fn pings(&self, from: &str, to: &str) -> bool {
        let words = ["ping", "-n", "-c1", "-W1", "-I", from, to];
        self.host_a.run(&words).is_ok()
    }

    /// A row of `map show` of box A.
    ///
    /// # Errors
    /// When there is none.
    pub fn mapping(&self, eid: &str) -> Result<Value, LabError> {
        let text = self.box_a.command(&["map", "show", eid, "--json"])?;
        let shown: Value = serde_json::from_str(&text).map_err(|_| refuse("map show", &*text))?;
        let mut rows = shown["mappings"].as_array().into_iter().flatten();
        rows.find(|row| row["eid"] == eid)
            .cloned()
            .ok_or_else(|| refuse("map show", text))
    }

    /// The state of a locator in a mapping of box A, `up` for instance.
    ///
    /// # Errors
    /// When it is not in it.
    pub fn locator_state(&self, eid: &str, rloc: &str) -> Result<String, LabError> {
        let row = self.mapping(eid)?;
        let mut locators = row["locators"].as_array().into_iter().flatten();
        let found = locators.find(|locator| locator["rloc"] == rloc);
        let state = found.and_then(|locator| locator["state"].as_str());
        state
            .map(str::to_owned)
            .ok_or_else(|| refuse("map show", row.to_string()))
    }

    /// Take the link of A's `core2` down or up again.
    ///
    /// # Errors
    /// When it is not there.
    pub fn set_second_uplink(&self, state: &str) -> Result<(), LabError> {
        let words = ["ip", "link", "set", "sxl-core-a2", state];
        self.box_a.namespace().run(&words).map(drop)
    }

    fn connect_site_a(&self) -> Result<(), LabError> {
        self.box_a.hand_over("sxl-site-a", &self.host_a)?;
        let (own, other) = (["fd00:a:0", "10.1"], ["fd00:b:0", "10.2"]);
        configure_host(&self.host_a, "sxl-site-a", own, other)
    }

    fn connect_site_b(&self) -> Result<(), LabError> {
        self.box_b.hand_over("sxl-site-b", &self.host_b)?;
        let (own, other) = (["fd00:b:0", "10.2"], ["fd00:a:0", "10.1"]);
        configure_host(&self.host_b, "sxl-site-b", own, other)?;
        let more = [HOST_B_SHARED, HOST_B_UNKNOWN].map(|address| format!("{address}/64"));
        let more = more.each_ref().map(String::as_str);
        self.host_b.configure("sxl-site-b", &more, None)
    }

    /// Box A was started anew: its taps are new ones.
    ///
    /// # Errors
    /// When one is not there.
    pub fn reconnect_a(&self) -> Result<(), LabError> {
        self.connect_site_a()?;
        self.connect_core_a()
    }

    /// Give the router its links.
    fn connect_core(&self) -> Result<(), LabError> {
        for (link, addresses) in [
            ("sxl-core-b1", &["2001:db8:b1::1/64", "192.0.2.33/28"][..]),
            ("sxl-core-b2", &["2001:db8:b2::1/64"]),
        ] {
            self.box_b.hand_over(link, &self.core)?;
            self.core.configure(link, addresses, None)?;
        }
        let inside = self.box_a.namespace();
        inside.run(&["ip", "link", "add", "sxl-bridge", "type", "bridge"])?;
        let pair = "ip link add sxl-wire type veth peer name sxl-core-w2 netns";
        let pair: Vec<&str> = pair.split(' ').chain([self.core.name()]).collect();
        inside.run(&pair)?;
        inside.run(&[
            "ip",
            "link",
            "set",
            "sxl-wire",
            "master",
            "sxl-bridge",
            "up",
        ])?;
        inside.run(&["ip", "link", "set", "sxl-bridge", "up"])?;
        let addresses = ["2001:db8:a2::1/64", "192.0.2.17/28"];
        self.core.configure("sxl-core-w2", &addresses, None)?;
        self.connect_core_a()
    }

    fn connect_core_a(&self) -> Result<(), LabError> {
        for (link, addresses) in [
            ("sxl-core-a1", &["2001:db8:a1::1/64", "192.0.2.1/28"][..]),
            ("sxl-net-a", &["2001:db8:f0::1/64"]),
        ] {
            self.box_a.hand_over(link, &self.core)?;
            self.core.configure(link, addresses, None)?;
        }
        let bridged = "ip link set sxl-core-a2 master sxl-bridge up";
        let bridged: Vec<&str> = bridged.split(' ').collect();
        self.box_a.namespace().run(&bridged)?;
        let provider = format!("ip -6 route add {OUTSIDE_A} via 2001:db8:f0::2");
        let provider: Vec<&str> = provider.split(' ').collect();
        self.core.run(&provider).map(drop)
    }
}

/// The router of the underlay, without its links.
fn router() -> Result<Namespace, LabError> {
    let core = Namespace::new("sextant-lisp-core")?;
    core.run(&[
        "sysctl",
        "-qw",
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
    ])?;
    core.run(&[
        "ip",
        "addr",
        "add",
        &format!("{NATIVE_HOST}/128"),
        "dev",
        "lo",
    ])?;
    Ok(core)
}

/// Give a host its addresses, and routes to the other site that make each address talk to its like.
fn configure_host(
    host: &Namespace,
    link: &str,
    [own_v6, own_v4]: [&str; 2],
    [other_v6, other_v4]: [&str; 2],
) -> Result<(), LabError> {
    host.run(&["ip", "link", "set", link, "mtu", &SITE_MTU.to_string()])?;
    for subnet in ["6", "4"] {
        let (v6, v4) = (
            format!("{own_v6}:{subnet}::10"),
            format!("{own_v4}.{subnet}.10"),
        );
        let (full_v6, full_v4) = (format!("{v6}/64"), format!("{v4}/24"));
        host.configure(link, &[&full_v6, &full_v4], None)?;
        for (prefix, gateway, source) in [
            (
                format!("{other_v6}:{subnet}::/64"),
                format!("{own_v6}:{subnet}::1"),
                v6,
            ),
            (
                format!("{other_v4}.{subnet}.0/24"),
                format!("{own_v4}.{subnet}.1"),
                v4,
            ),
        ] {
            host.run(&[
                "ip", "route", "add", &prefix, "via", &gateway, "src", &source,
            ])?;
        }
    }
    // Everything else from the first address.
    for (prefix, gateway, source) in [
        ("::/0", format!("{own_v6}:6::1"), format!("{own_v6}:6::10")),
        (
            "0.0.0.0/0",
            format!("{own_v4}.6.1"),
            format!("{own_v4}.6.10"),
        ),
    ] {
        host.run(&[
            "ip", "route", "add", prefix, "via", &gateway, "src", &source,
        ])?;
    }
    Ok(())
}

impl Show for Stage {
    const WHAT: &'static str =
        "LISP: two sites, each with Sextant on DPDK taps, and a Linux router between them";
    const CHECKS: &'static [Check<Self>] = checks::ALL;

    fn set(program: &Path) -> Result<Self, LabError> {
        let stage = Self::set(program, CONFIG_A, CONFIG_B)?;
        stage.wait_until_ready()?;
        Ok(stage)
    }

    fn appliances(&self) -> Vec<&Appliance> {
        vec![&self.box_a, &self.box_b]
    }

    fn to_explore(&self) -> Vec<String> {
        vec![
            format!("ip netns exec sextant-lisp-a ping {HOST_B_SHARED}"),
            "ip netns exec sextant-lisp-core tcpdump -ni sxl-core-a1".to_owned(),
        ]
    }

    fn subjects(&self) -> &'static [&'static str] {
        &["map show", "show lisp"]
    }
}
