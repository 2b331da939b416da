//! The part about steering: one service address, real HTTP servers behind it, two boxes behind a kernel that shares flows
//! among them.
//!
//! ```text
//!                                               +-- tap - sextant-box-st-1 - tap --+
//!  sextant-st-client -- sextant-st-router, ECMP +                                  +- bridge -- web-1 ... web-4
//!                              |                +-- tap - sextant-box-st-2 - tap --+     |     service address on lo
//!                              +---------------------- answers of servers ---------------+
//! ```
//!
//! Both boxes have one configuration but for their addresses, so that they steer alike. The servers answer clients by the
//! router, not by a box. Who runs a routing daemon would let it take away the next hop of a box that dies; here the stage does.

mod checks;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Check, Show};
use crate::lab::traffic::refuse;
use crate::lab::{Appliance, Folder, LabError, Namespace, Process, wait_until};

/// The service address.
pub const SERVICE: &str = "2001:db8:a11::1";
/// Servers there are; the last is not in the configuration at first.
pub const SERVERS: usize = 4;
/// Bytes of a download.
pub const FILE_BYTES: usize = 3_000_000;
/// How fast a client takes it: for three seconds, most of which the file is with the server.
const RATE: &str = "1M";
/// Most bytes a client's kernel keeps of a download.
const RECEIVE_BUFFER: &str = "net.ipv4.tcp_rmem=4096 131072 500000";
/// The port that the first download comes from; the next come from the next. Where a flow goes is told by its addresses and
/// ports alone, so the servers that downloads are on are the same in every run. Outside the kernel's own range.
const FIRST_PORT: u16 = 20_000;
/// `python3 -m http.server`, with room for connections that are opened at once: beyond its usual five the kernel answers by
/// SYN cookies, and resets some of them.
const HTTP_SERVER: &str = "import runpy, socketserver; socketserver.TCPServer.request_queue_size = 128; \
    runpy.run_module('http.server', run_name='__main__')";
/// Between two checks of a server, ms.
const INTERVAL_MS: u32 = 200;

/// Configuration of box 1 or 2, without `[system]`, with so many servers.
#[must_use]
pub fn config(number: usize, servers: usize) -> String {
    let mut text = format!(
        r#"[workers]
mbufs = 4096
poll = "adaptive"

[ndp]
dad_transmits = 0

[[ports]]
name = "up"
device = "net_tap0,iface=sxst-up-{number},mac=02:00:00:00:0{number}:01"

[[ports]]
name = "servers"
device = "net_tap1,iface=sxst-in-{number},mac=02:00:00:00:0{number}:02"

[[interfaces]]
port = "up"
addresses = ["2001:db8:b{number}::2/64"]

[[interfaces]]
port = "servers"
addresses = ["2001:db8:5::{number}/64"]

[[routes]]
prefix = "::/0"
next_hops = [{{ via = "2001:db8:b{number}::1" }}]

[[services]]
name = "http"
prefix = "{SERVICE}/128"
protocol = "tcp"
ports = [80]
pool = "web"

[[pools]]
name = "web"
health = {{ kind = "http", path = "/name", interval_ms = {INTERVAL_MS}, timeout_ms = {INTERVAL_MS} }}
servers = [
"#
    );
    for server in 1..=servers {
        text += &format!(
            "    {{ name = \"web-{server}\", address = \"{}\" }},\n",
            address(server)
        );
    }
    text + "]\n"
}

/// A server's own address.
fn address(server: usize) -> String {
    format!("2001:db8:5::1{server}")
}

/// A download under way.
pub struct Download {
    process: Process,
    path: PathBuf,
}

/// How a download ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Every byte came, and the client is content.
    pub is_whole: bool,
    /// The server that it came from.
    pub from: String,
}

impl Download {
    /// Wait for its end.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait(self) -> Result<Downloaded, LabError> {
        let finished = self.process.wait(Duration::from_secs(60))?;
        let mut end = Downloaded::read(&self.path);
        end.is_whole &= finished.success;
        Ok(end)
    }

    /// The server that it comes from; none while nothing has come.
    #[must_use]
    pub fn from(&self) -> String {
        Downloaded::read(&self.path).from
    }

    /// Wait no longer: how far it came.
    #[must_use]
    pub fn give_up(self) -> Downloaded {
        drop(self.process);
        Downloaded::read(&self.path)
    }
}

impl Downloaded {
    fn read(path: &Path) -> Self {
        let got = std::fs::read(path).unwrap_or_default();
        let from = got.get(..5).unwrap_or_default();
        Self {
            is_whole: got.len() == FILE_BYTES && got.chunks(5).all(|name| name == from),
            from: String::from_utf8_lossy(from).into_owned(),
        }
    }
}

/// Everything there is.
pub struct Stage {
    // Dropped in this order: the programs first.
    http: RefCell<Vec<Option<Process>>>,
    /// The box that stays.
    first: Appliance,
    /// The box that is killed.
    second: RefCell<Appliance>,
    /// The client.
    pub client: Namespace,
    /// The router between the client, the boxes and the servers.
    pub router: Namespace,
    /// One for each server.
    pub servers: Vec<Namespace>,
    switch: Namespace,
    folder: Folder,
    /// Of the next download.
    port: Cell<u16>,
}

impl Stage {
    /// Set the stage with `program` (`sextant` itself).
    ///
    /// # Errors
    /// When something does not start.
    pub fn set(program: &Path) -> Result<Self, LabError> {
        let start = |number: usize| {
            let name = format!("sextant-box-st-{number}");
            Appliance::start(program, &name, &config(number, SERVERS - 1))
        };
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| start(2));
            (start(1), second.join())
        });
        let gone = |_| refuse("a box", "its start ended in a panic");
        let (first, second) = (first?, second.map_err(gone)??);
        let names = (1..=SERVERS).map(|server| format!("sextant-st-web-{server}"));
        let servers: Result<Vec<_>, _> = names.map(|name| Namespace::new(&name)).collect();
        let stage = Self {
            http: RefCell::new((0..SERVERS).map(|_| None).collect()),
            first,
            second: RefCell::new(second),
            client: Namespace::new("sextant-st-client")?,
            router: Namespace::new("sextant-st-router")?,
            servers: servers?,
            switch: Namespace::new("sextant-st-switch")?,
            folder: Folder::new("sextant-steering")?,
            port: Cell::new(FIRST_PORT),
        };
        stage.connect()?;
        for server in 1..=SERVERS {
            stage.connect_server(server)?;
            stage.run_server(server)?;
        }
        for server in 1..=SERVERS {
            stage.wait_for_server(server)?;
        }
        Ok(stage)
    }

    /// Wait until both boxes give flows to so many servers.
    ///
    /// # Errors
    /// When they do not within fifteen seconds.
    pub fn wait_until_up(&self, servers: usize) -> Result<(), LabError> {
        let second = self.second.borrow();
        for appliance in [&self.first, &*second] {
            let what = format!("{servers} servers of {}", appliance.namespace().name());
            wait_until(&what, Duration::from_secs(15), || {
                let pool = pool(appliance);
                let all = pool
                    .ok()
                    .and_then(|pool| pool["servers"].as_array().cloned());
                all.is_some_and(|all| {
                    let up = all.iter().filter(|server| server["state"] == "up");
                    up.filter(|server| server["health"]["state"] == "up")
                        .count()
                        == servers
                })
            })?;
        }
        Ok(())
    }

    fn connect(&self) -> Result<(), LabError> {
        let (client, router, switch) = (&self.client, &self.router, &self.switch);
        for setting in [
            "net.ipv6.conf.all.forwarding=1",
            // By addresses and ports.
            "net.ipv6.fib_multipath_hash_policy=1",
        ] {
            router.run(&["sysctl", "-qw", setting])?;
        }
        client.run(&["sysctl", "-qw", RECEIVE_BUFFER])?;
        join(router, "client", client, "eth0")?;
        router.configure("client", &["2001:db8:c::1/64"], None)?;
        client.configure("eth0", &["2001:db8:c::10/64"], Some("2001:db8:c::1"))?;
        switch.run(&words("ip link add br0 type bridge mcast_snooping 0"))?;
        switch.run(&words("ip link set br0 up"))?;
        for number in [1, 2] {
            self.connect_box(number)?;
        }
        join(switch, "to-router", router, "servers")?;
        self.plug("to-router")?;
        router.configure("servers", &["2001:db8:5::fe/64"], None)?;
        self.set_next_hops(&[1, 2])
    }

    /// Give the taps of a box to the router and to the bridge.
    fn connect_box(&self, number: usize) -> Result<(), LabError> {
        let (up, inside) = (format!("sxst-up-{number}"), format!("sxst-in-{number}"));
        let second = self.second.borrow();
        let appliance = if number == 1 { &self.first } else { &*second };
        appliance.hand_over(&up, &self.router)?;
        appliance.hand_over(&inside, &self.switch)?;
        let address = format!("2001:db8:b{number}::1/64");
        self.router.configure(&up, &[&address], None)?;
        self.plug(&inside)
    }

    /// Put a link of the switch into its bridge.
    fn plug(&self, link: &str) -> Result<(), LabError> {
        self.switch
            .run(&["ip", "link", "set", link, "master", "br0"])?;
        self.switch
            .run(&["ip", "link", "set", link, "up"])
            .map(drop)
    }

    /// The service is behind these boxes, as the router sees it.
    ///
    /// # Errors
    /// When the router refuses.
    pub fn set_next_hops(&self, boxes: &[usize]) -> Result<(), LabError> {
        let mut text = format!("ip -6 route replace {SERVICE}/128");
        for number in boxes {
            text += &format!(" nexthop via 2001:db8:b{number}::2");
        }
        self.router.run(&words(&text)).map(drop)
    }

    /// A host on the servers' link with the service address on its loopback interface.
    fn connect_server(&self, server: usize) -> Result<(), LabError> {
        let host = self.server(server)?;
        let link = format!("web-{server}");
        join(&self.switch, &link, host, "eth0")?;
        self.plug(&link)?;
        let own = format!("{}/64", address(server));
        host.configure("eth0", &[&own], Some("2001:db8:5::fe"))?;
        let service = format!("{SERVICE}/128");
        host.run(&["ip", "addr", "add", &service, "dev", "lo"])?;
        let root = self.folder.path().join(&link);
        let written = std::fs::create_dir_all(&root)
            .and_then(|()| std::fs::write(root.join("name"), format!("{link}\n")))
            .and_then(|()| std::fs::write(root.join("file"), link.repeat(FILE_BYTES / link.len())));
        written.map_err(|source| LabError::Write {
            path: root.display().to_string(),
            source,
        })
    }

    fn server(&self, server: usize) -> Result<&Namespace, LabError> {
        let missing = || refuse("the stage", format!("no server {server}"));
        self.servers.get(server.wrapping_sub(1)).ok_or_else(missing)
    }

    /// Start a server's program, and plug its link in.
    ///
    /// # Errors
    /// When it listens to nobody within twenty seconds.
    pub fn start_server(&self, server: usize) -> Result<(), LabError> {
        self.run_server(server)?;
        self.wait_for_server(server)
    }

    fn run_server(&self, server: usize) -> Result<(), LabError> {
        let host = self.server(server)?;
        self.set_link(server, "up")?;
        let root = self.folder.path().join(format!("web-{server}"));
        let root = root.display().to_string();
        let words = [
            "python3",
            "-c",
            HTTP_SERVER,
            "80",
            "--bind",
            "::",
            "--directory",
            &root,
        ];
        if let Some(place) = self.http.borrow_mut().get_mut(server.wrapping_sub(1)) {
            *place = Some(host.spawn(&words)?);
        }
        Ok(())
    }

    fn wait_for_server(&self, server: usize) -> Result<(), LabError> {
        let host = self.server(server)?;
        let listens = || {
            let sockets = host.run(&["ss", "-Hltn"]);
            sockets.is_ok_and(|sockets| sockets.contains(":80 "))
        };
        wait_until("a server to listen", Duration::from_secs(20), listens)
    }

    /// A server loses its power: its program is killed, and nothing comes from it any more.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_server(&self, server: usize) -> Result<(), LabError> {
        self.set_link(server, "down")?;
        if let Some(place) = self.http.borrow_mut().get_mut(server.wrapping_sub(1)) {
            *place = None;
        }
        Ok(())
    }

    fn set_link(&self, server: usize, state: &str) -> Result<(), LabError> {
        let link = format!("web-{server}");
        self.switch
            .run(&["ip", "link", "set", &link, state])
            .map(drop)
    }

    /// Which server answers a request.
    ///
    /// # Errors
    /// When none does within five seconds.
    pub fn ask(&self) -> Result<String, LabError> {
        let url = format!("http://[{SERVICE}]/name");
        let answer = self
            .client
            .run(&["curl", "-sfg", "--max-time", "5", &url])?;
        Ok(answer.trim().to_owned())
    }

    /// Begin downloads; `what` tells their files from others.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn downloads(&self, what: &str, count: usize) -> Result<Vec<Download>, LabError> {
        let url = format!("http://[{SERVICE}]/file");
        let begin = |number| {
            let path = self.folder.path().join(format!("got-{what}-{number}"));
            let to = path.display().to_string();
            let port = self.port.replace(self.port.get().wrapping_add(1));
            let words = [
                "curl",
                "-sfg",
                "--local-port",
                &port.to_string(),
                "--max-time",
                "50",
                "--limit-rate",
                RATE,
                // A connection that nobody answers any more is given up.
                "--speed-time",
                "8",
                "--speed-limit",
                "1000",
                "-o",
                &to,
                &url,
            ];
            Ok(Download {
                process: self.client.spawn(&words)?,
                path,
            })
        };
        (0..count).map(begin).collect()
    }

    /// Kill the second box, without a word to anybody. The router goes on to send it its share.
    pub fn kill_second(&self) {
        self.second.borrow_mut().kill();
    }

    /// Start the second box anew.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_second(&self) -> Result<(), LabError> {
        self.second.borrow_mut().launch()?;
        self.connect_box(2)
    }

    /// Give both boxes the configuration with so many servers, as SIGHUP does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn reload(&self, servers: usize) -> Result<(), LabError> {
        let second = self.second.borrow();
        for (number, appliance) in [(1, &self.first), (2, &*second)] {
            appliance.write_config(&config(number, servers))?;
            appliance.command(&["reload"])?;
        }
        Ok(())
    }

    /// `sextant service WORDS` on both boxes.
    ///
    /// # Errors
    /// When one refuses.
    pub fn service(&self, words: &[&str]) -> Result<(), LabError> {
        let words = [&["service"], words].concat();
        self.first.command(&words)?;
        self.second.borrow().command(&words).map(drop)
    }

    /// The pool of the first and of the second box, as `sextant show services` has it.
    ///
    /// # Errors
    /// When one does not answer.
    pub fn pools(&self) -> Result<[Value; 2], LabError> {
        Ok([pool(&self.first)?, pool(&self.second.borrow())?])
    }

    /// The state in which the first box has a server.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn state(&self, server: usize) -> Result<String, LabError> {
        let pool = pool(&self.first)?;
        let state = pool["servers"][server.wrapping_sub(1)]["state"].as_str();
        let state = state.map(str::to_owned);
        state.ok_or_else(|| refuse("show services", pool.to_string()))
    }
}

fn pool(appliance: &Appliance) -> Result<Value, LabError> {
    let shown = appliance.show("services")?;
    Ok(shown["pools"][0].clone())
}

/// A wire between two hosts.
fn join(here: &Namespace, name: &str, there: &Namespace, other: &str) -> Result<(), LabError> {
    let text = format!(
        "ip link add {name} type veth peer name {other} netns {}",
        there.name()
    );
    here.run(&words(&text)).map(drop)
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

impl Show for Stage {
    const WHAT: &'static str = "steering: a client, a router that shares flows among two boxes, and four HTTP servers with one address";
    const CHECKS: &'static [Check<Self>] = checks::ALL;

    fn set(program: &Path) -> Result<Self, LabError> {
        let stage = Self::set(program)?;
        stage.wait_until_up(SERVERS - 1)?;
        Ok(stage)
    }

    fn appliances(&self) -> Vec<&Appliance> {
        vec![&self.first]
    }

    fn to_explore(&self) -> Vec<String> {
        vec![
            format!("ip netns exec sextant-st-client curl -g http://[{SERVICE}]/name"),
            format!("ip netns exec sextant-st-router ip -6 route show {SERVICE}"),
        ]
    }

    fn subjects(&self) -> &'static [&'static str] {
        &["service show", "show counters"]
    }
}
