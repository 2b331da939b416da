//! The part about the mapping system: three sites that know nobody, a proxy to a network without LISP, and the Map-Server
//! they all ask (RFC 9301, RFC 6832).
//!
//! ```text
//!  sextant-map-a --+                                            +-- wire -- sextant-map-server
//!                  +- bridge -- tap -- sextant-box-map-a == tap =+            `sextant mapserver`
//!  sextant-map-b ---- bridge -- tap -- sextant-box-map-b -- tap -+- sextant-map-core, a kernel routes
//!  sextant-map-c --------------- tap -- sextant-box-map-c -- tap -+
//!  sextant-map-net ------------- tap -- sextant-box-map-p -- tap -+
//! ```
//!
//! Site A has two providers, so two locators; the router between all knows the links of the underlay and no EID. Nobody is
//! configured with a mapping. The bridges of the sites A and B are in one namespace, so that a host, `sextant-map-m`, can be
//! plugged from one into the other: its prefix is one whose hosts may be at either.

mod checks;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Check, Show};
use crate::lab::traffic::refuse;
use crate::lab::{Appliance, Folder, LabError, Namespace, Process, wait_until};

/// All EIDs there are.
const EIDS: &str = "2001:db8:e00::/40";
/// The Map-Server.
pub const SERVER: &str = "2001:db8:ff::2";
/// The host without LISP.
pub const NATIVE_HOST: &str = "2600:db8::10";
/// The host that moves.
pub const MOBILE: &str = "2001:db8:e0a:2::10";
/// Its prefix, at home at site A.
const MOBILE_EIDS: &str = "2001:db8:e0a:2::/64";
/// The router that every host has, with this address on the link and one MAC address: hosts that move keep theirs.
const GATEWAY: &str = "fe80::1";
/// MTU of the sites: what fits into the underlay's 1,500 bytes behind the longest outer headers, 56 bytes.
const SITE_MTU: &str = "1444";

/// A box and its place in the underlay.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// One letter.
    pub name: &'static str,
    /// Its EIDs are `2001:db8:e0X::/48`, this is X; none for the proxy.
    site: Option<&'static str>,
    /// Links to the underlay, each with a locator: `2001:db8:LINK::2`, the router has `::1`.
    links: &'static [&'static str],
}

/// Everybody.
pub const MEMBERS: [Member; 4] = [
    Member {
        name: "a",
        site: Some("a"),
        links: &["a1", "a2"],
    },
    Member {
        name: "b",
        site: Some("b"),
        links: &["b1"],
    },
    Member {
        name: "c",
        site: Some("c"),
        links: &["c1"],
    },
    Member {
        name: "p",
        site: None,
        links: &["f1"],
    },
];

impl Member {
    /// Its locators.
    pub fn rlocs(self) -> impl Iterator<Item = String> {
        self.links.iter().map(|link| format!("2001:db8:{link}::2"))
    }

    /// The host of its site.
    #[must_use]
    pub fn host(self) -> String {
        match self.site {
            Some(site) => format!("2001:db8:e0{site}:1::10"),
            None => NATIVE_HOST.to_owned(),
        }
    }

    /// Addresses of the box on the host's side.
    fn addresses(self) -> String {
        match self.site {
            Some("a") => r#""2001:db8:e0a:1::1/64", "2001:db8:e0a:2::1/64""#.to_owned(),
            // The moving host's router is here too, but nobody else of its prefix is by itself.
            Some("b") => r#""2001:db8:e0b:1::1/64", "2001:db8:e0a:2::1/128""#.to_owned(),
            Some(site) => format!("\"2001:db8:e0{site}:1::1/64\""),
            None => "\"2600:db8::1/64\"".to_owned(),
        }
    }

    /// Whether hosts of [`MOBILE_EIDS`] may be here.
    fn takes_mobile(self) -> bool {
        matches!(self.site, Some("a" | "b"))
    }

    /// Name of the tap on the host's side.
    fn inside(self) -> String {
        format!("sxm-{}", self.name)
    }

    /// Name of a tap on the underlay's side.
    fn outside(link: &str) -> String {
        format!("sxm-{link}")
    }

    /// Its configuration, without `[system]`.
    #[must_use]
    pub fn config(self) -> String {
        let Self { name, links, .. } = self;
        let number = name.bytes().next().unwrap_or(b'a');
        let mut text = format!(
            r#"[workers]
poll = "adaptive"

[ndp]
dad_transmits = 0

[[ports]]
name = "inside"
device = "net_tap0,iface={inside},mac=02:00:00:00:00:01"

[[interfaces]]
port = "inside"
vrf = "site"
mtu = {SITE_MTU}
link_local = "{GATEWAY}"
addresses = [{addresses}]
"#,
            inside = self.inside(),
            addresses = self.addresses(),
        );
        for (position, link) in (1..).zip(links) {
            text += &format!(
                r#"
[[ports]]
name = "{link}"
device = "net_tap{position},iface={tap},mac=02:00:00:00:{number:02x}:{position:02x}"

[[interfaces]]
port = "{link}"
addresses = ["2001:db8:{link}::2/64"]
"#,
                tap = Self::outside(link),
            );
        }
        // What fails later is the first link; what the box itself sends goes by the last.
        let last = links.last().copied().unwrap_or_default();
        let rlocs: Vec<String> = self.rlocs().map(|rloc| format!("\"{rloc}\"")).collect();
        text += &format!(
            r#"
[[routes]]
prefix = "2001:db8::/32"
next_hops = [{{ via = "2001:db8:{last}::1" }}]

[lisp]
rlocs = [{rlocs}]
miss = "hold"
probing = "fast"
map_resolvers = ["{SERVER}"]
"#,
            rlocs = rlocs.join(", "),
        );
        let mobile = match self.takes_mobile() {
            true => format!("dynamic_eids = [\"{MOBILE_EIDS}\"]\n"),
            false => String::new(),
        };
        text + &match self.site {
            Some(site) => format!(
                r#"petr = ["2001:db8:f1::2"]

[[lisp.map_servers]]
address = "{SERVER}"
key = "of {name}"

[[lisp.instances]]
id = 7
vrf = "site"
eids = ["2001:db8:e0{site}::/48"]
{mobile}map_request = ["{EIDS}", "2600::/16"]
"#
            ),
            None => format!(
                r#"roles = ["pitr", "petr"]

[[lisp.instances]]
id = 7
vrf = "site"
map_request = ["{EIDS}"]
"#
            ),
        }
    }
}

/// Configuration of the Map-Server, which keeps its state in `folder`.
fn server_config(folder: &Path) -> String {
    let mut text = format!(
        "[mapserver]\nlisten = [\"{SERVER}\"]\nstate = \"{}\"\n",
        folder.join("nonces").display()
    );
    for member @ Member { name, site, .. } in MEMBERS {
        if let Some(site) = site {
            text += &format!(
                r#"
[[sites]]
name = "{name}"
keys = [{{ id = 1, secret = "of {name}" }}]
[[sites.prefixes]]
instance = 7
eid = "2001:db8:e0{site}::/48"
"#
            );
        }
        if member.takes_mobile() {
            text += &format!(
                "[[sites.prefixes]]\ninstance = 7\neid = \"{MOBILE_EIDS}\"\nmore_specifics = true\n"
            );
        }
    }
    text
}

/// Everything there is.
pub struct Stage {
    // Dropped in this order: the boxes first.
    boxes: Vec<Appliance>,
    server: RefCell<Option<Process>>,
    /// One for each of [`MEMBERS`].
    pub hosts: Vec<Namespace>,
    /// The host that moves.
    pub mobile: Namespace,
    /// Where the bridges of the sites are.
    pub switch: Namespace,
    /// The router of the underlay.
    pub core: Namespace,
    /// Where the Map-Server runs.
    server_at: Namespace,
    folder: Folder,
    /// `sextant` itself, which also plays the hosts' programs.
    pub program: PathBuf,
}

impl Stage {
    /// Set the stage with `program` (`sextant` itself).
    ///
    /// # Errors
    /// When something does not start.
    pub fn set(program: &Path) -> Result<Self, LabError> {
        let folder = Folder::new("sextant-map-server")?;
        let core = Namespace::new("sextant-map-core")?;
        core.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"])?;
        let names = MEMBERS.map(|member| match member.site {
            Some(site) => format!("sextant-map-{site}"),
            None => "sextant-map-net".to_owned(),
        });
        let hosts: Result<Vec<Namespace>, LabError> =
            names.iter().map(|name| Namespace::new(name)).collect();
        let boxes: Result<Vec<Appliance>, LabError> = std::thread::scope(|scope| {
            let started = MEMBERS.map(|member| {
                scope.spawn(move || {
                    let name = format!("sextant-box-map-{}", member.name);
                    Appliance::start(program, &name, &member.config())
                })
            });
            let gone = |_| refuse("a box", "its start ended in a panic");
            let started = started.into_iter();
            started
                .map(|one| one.join().map_err(gone).flatten())
                .collect()
        });
        let stage = Self {
            boxes: boxes?,
            server: RefCell::new(None),
            hosts: hosts?,
            mobile: Namespace::new("sextant-map-m")?,
            switch: Namespace::new("sextant-map-switch")?,
            core,
            server_at: Namespace::new("sextant-map-server")?,
            folder,
            program: program.to_owned(),
        };
        stage.connect_server()?;
        for position in 0..MEMBERS.len() {
            stage.connect(position)?;
        }
        stage.plug_in(&stage.mobile, "plug-m", "site-a")?;
        let address = format!("{MOBILE}/64");
        stage.mobile.configure("eth0", &[&address], Some(GATEWAY))?;
        stage.start_server()?;
        Ok(stage)
    }

    /// The box of a member, by its position in [`MEMBERS`].
    ///
    /// # Errors
    /// When there is none.
    pub fn appliance(&self, position: usize) -> Result<&Appliance, LabError> {
        let missing = || refuse("the stage", format!("no box {position}"));
        self.boxes.get(position).ok_or_else(missing)
    }

    /// The host of a member, by its position in [`MEMBERS`].
    ///
    /// # Errors
    /// When there is none.
    pub fn host(&self, position: usize) -> Result<&Namespace, LabError> {
        let missing = || refuse("the stage", format!("no host {position}"));
        self.hosts.get(position).ok_or_else(missing)
    }

    /// Start the Map-Server.
    ///
    /// # Errors
    /// When it cannot be started, or listens to nobody within five seconds.
    pub fn start_server(&self) -> Result<(), LabError> {
        let text = server_config(self.folder.path());
        let path = self.folder.write("mapserver.toml", &text)?;
        let (program, path) = (
            self.program.display().to_string(),
            path.display().to_string(),
        );
        let words = [&*program, "mapserver", "-c", &path];
        self.server.replace(Some(self.server_at.spawn(&words)?));
        let listens = || {
            let sockets = self.server_at.run(&["ss", "-Hlnu"]);
            sockets.is_ok_and(|sockets| sockets.contains(":4342 "))
        };
        wait_until("the Map-Server to listen", Duration::from_secs(5), listens)
    }

    /// End the Map-Server without warning.
    pub fn kill_server(&self) {
        self.server.take();
    }

    /// Wait until every site is registered.
    ///
    /// # Errors
    /// When one is not within a minute.
    pub fn wait_until_registered(&self) -> Result<(), LabError> {
        for (member, appliance) in MEMBERS.iter().zip(&self.boxes) {
            if member.site.is_none() {
                continue;
            }
            let what = format!("site {} to be registered", member.name);
            wait_until(&what, Duration::from_secs(60), || {
                let shown = appliance.show("lisp");
                shown.is_ok_and(|shown| shown["map_servers"][0]["registered"] == true)
            })?;
        }
        Ok(())
    }

    /// Plug the host that moves into the bridge of a site.
    ///
    /// # Errors
    /// When there is no such bridge.
    pub fn move_mobile(&self, site: &str) -> Result<(), LabError> {
        let bridge = format!("site-{site}");
        let words = ["ip", "link", "set", "plug-m", "master", &bridge];
        self.switch.run(&words).map(drop)
    }

    /// Let the router lose all that goes to a locator, without a word to anybody, or no longer.
    ///
    /// # Errors
    /// When it does already, or did not.
    pub fn set_silent(&self, rloc: &str, is_silent: bool) -> Result<(), LabError> {
        let action = if is_silent { "add" } else { "del" };
        let words = ["ip", "-6", "route", action, "blackhole", rloc];
        self.core.run(&words).map(drop)
    }

    /// The state of a locator as a member's box sees it.
    ///
    /// # Errors
    /// When no mapping leads there.
    pub fn rloc_state(&self, position: usize, rloc: &str) -> Result<String, LabError> {
        let words = ["show", "lisp", "rlocs", "--json"];
        let text = self.appliance(position)?.command(&words)?;
        let shown: Value =
            serde_json::from_str(&text).map_err(|_| refuse("show lisp rlocs", &*text))?;
        let mut rows = shown["rlocs"].as_array().into_iter().flatten();
        let found = rows.find(|row| row["address"] == rloc);
        let state = found.and_then(|row| row["state"].as_str());
        state
            .map(str::to_owned)
            .ok_or_else(|| refuse("show lisp rlocs", text))
    }

    /// Join the Map-Server's namespace to the router.
    fn connect_server(&self) -> Result<(), LabError> {
        let there = self.server_at.name();
        let wire = "link add sxm-server type veth peer name sxm-core netns";
        let wire: Vec<&str> = ["ip"].into_iter().chain(wire.split(' ')).collect();
        self.core.run(&[&wire[..], &[there]].concat())?;
        self.core
            .configure("sxm-server", &["2001:db8:ff::1/64"], None)?;
        let address = format!("{SERVER}/64");
        self.server_at
            .configure("sxm-core", &[&address], Some("2001:db8:ff::1"))
    }

    /// Give the taps of a box to the router and to its host or the bridge of its site.
    fn connect(&self, position: usize) -> Result<(), LabError> {
        let (appliance, host) = (self.appliance(position)?, self.host(position)?);
        let member = MEMBERS.into_iter().nth(position);
        let member = member.ok_or_else(|| refuse("the stage", format!("no member {position}")))?;
        for link in member.links {
            let (tap, router) = (Member::outside(link), format!("2001:db8:{link}::1/64"));
            appliance.hand_over(&tap, &self.core)?;
            self.core.configure(&tap, &[&router], None)?;
        }
        let (tap, address) = (member.inside(), member.host() + "/64");
        let Some(site @ ("a" | "b")) = member.site else {
            appliance.hand_over(&tap, host)?;
            host.run(&["ip", "link", "set", &tap, "mtu", SITE_MTU])?;
            return host.configure(&tap, &[&address], Some(GATEWAY));
        };
        appliance.hand_over(&tap, &self.switch)?;
        let bridge = format!("site-{site}");
        self.switch.run(&[
            "ip",
            "link",
            "add",
            &bridge,
            "type",
            "bridge",
            "mcast_snooping",
            "0",
        ])?;
        for link in [&bridge, &tap] {
            self.switch.run(&[
                "sysctl",
                "-qw",
                &format!("net.ipv6.conf.{link}.disable_ipv6=1"),
            ])?;
        }
        self.switch.run(&[
            "ip", "link", "set", &tap, "mtu", SITE_MTU, "master", &bridge, "up",
        ])?;
        self.switch.run(&["ip", "link", "set", &bridge, "up"])?;
        self.plug_in(host, &format!("plug-{site}"), &bridge)?;
        host.configure("eth0", &[&address], Some(GATEWAY))
    }

    /// Give a host a link `eth0` into a bridge.
    fn plug_in(&self, host: &Namespace, plug: &str, bridge: &str) -> Result<(), LabError> {
        self.switch.run(&[
            "ip",
            "link",
            "add",
            plug,
            "mtu",
            SITE_MTU,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "mtu",
            SITE_MTU,
            "netns",
            host.name(),
        ])?;
        self.switch
            .run(&["ip", "link", "set", plug, "master", bridge, "up"])
            .map(drop)
    }
}

impl Show for Stage {
    const WHAT: &'static str = "the mapping system: three LISP sites, a proxy and a Map-Server, none configured with a mapping";
    const CHECKS: &'static [Check<Self>] = checks::ALL;

    fn set(program: &Path) -> Result<Self, LabError> {
        Self::set(program)
    }

    fn appliances(&self) -> Vec<&Appliance> {
        self.boxes.iter().collect()
    }

    fn to_explore(&self) -> Vec<String> {
        let [a, _, c, _] = MEMBERS;
        vec![
            format!("ip netns exec sextant-map-a ping {}", c.host()),
            format!(
                "ip netns exec sextant-map-server {} lig {} --instance 7 --to {SERVER}",
                self.program.display(),
                a.host()
            ),
            "ip netns exec sextant-map-core tcpdump -ni sxm-c1 udp port 4342".to_owned(),
        ]
    }

    fn subjects(&self) -> &'static [&'static str] {
        &["map show", "show lisp rlocs", "show lisp events"]
    }
}
