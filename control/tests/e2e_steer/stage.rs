//! Three hosts with the service address on their loopback interface, each with Python's HTTP server, a client, and the
//! appliance between them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use control::lab::{Appliance, Namespace, Process, wait_until};
use serde_json::Value;
use tempfile::TempDir;

pub const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
pub const SERVICE: &str = "2001:db8:a11::1";
/// A download at [`RATE`] takes three seconds, and most of it is still with the server when the test goes on: more than
/// [`RECEIVE_BUFFER`].
pub const FILE_BYTES: usize = 3_000_000;
const RATE: &str = "1M";
/// Downloads are under way after this.
pub const UNDER_WAY: Duration = Duration::from_millis(700);
/// Most bytes the client's kernel keeps for a connection.
const RECEIVE_BUFFER: &str = "net.ipv4.tcp_rmem=4096 131072 500000";
/// The port that download 0 comes from; the next come from the next. Where a flow goes is told by its addresses and ports
/// alone, so the servers that downloads are on are the same in every run. Outside the kernel's own range.
const FIRST_PORT: usize = 20_000;
pub const SERVERS: usize = 3;

pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: namespaces and taps need root");
    }
    root
}

/// Everything, in the order in which it is taken down.
pub struct Stage {
    /// The servers of HTTP.
    pub http: Vec<Option<Process>>,
    pub appliance: Appliance,
    pub client: Namespace,
    pub servers: Vec<Namespace>,
    _switch: Namespace,
    pub folder: TempDir,
}

impl Stage {
    pub fn new(config: &str) -> Self {
        let appliance =
            Appliance::start(Path::new(SEXTANT), "sx-steer", config).expect("it starts");
        let client = Namespace::new("sx-client").expect("a namespace");
        appliance.hand_over("sx-up", &client).expect("the tap");
        client
            .configure("sx-up", &["2001:db8:c::10/64"], Some("2001:db8:c::1"))
            .expect("an address");
        client
            .run(&["sysctl", "-qw", RECEIVE_BUFFER])
            .expect("a limit");
        // The client does not know of it, so servers send it what its link took.
        client
            .run(&["ip", "link", "set", "sx-up", "mtu", "1500"])
            .expect("an MTU");
        let switch = Namespace::new("sx-switch").expect("a namespace");
        appliance.hand_over("sx-servers", &switch).expect("the tap");
        let words = "ip link add br0 type bridge mcast_snooping 0";
        switch
            .run(&words.split(' ').collect::<Vec<_>>())
            .expect("a bridge");
        for link in ["sx-servers", "br0"] {
            if link != "br0" {
                switch
                    .run(&["ip", "link", "set", link, "master", "br0"])
                    .expect("in the bridge");
            }
            switch.run(&["ip", "link", "set", link, "up"]).expect("up");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut servers = Vec::new();
        let mut http = Vec::new();
        for number in 1..=SERVERS {
            let (server, process) = serve(number, &switch, folder.path());
            servers.push(server);
            http.push(Some(process));
        }
        let stage = Self {
            http,
            appliance,
            client,
            servers,
            _switch: switch,
            folder,
        };
        let resolved = || {
            let shown = stage.appliance.show("services").expect("services");
            let servers = shown["pools"][0]["servers"]
                .as_array()
                .expect("servers")
                .clone();
            servers
                .iter()
                .all(|server| server["resolved"] == Value::Bool(true))
        };
        wait_until("resolved servers", Duration::from_secs(10), resolved).expect("resolved");
        stage
    }

    /// Which server answers a request, by its name.
    pub fn ask(&self) -> Option<String> {
        let url = format!("http://[{SERVICE}]/name");
        let words = ["curl", "-s", "-g", "--max-time", "5", &url];
        let answer = self.client.run(&words).ok()?;
        Some(answer.trim().to_owned())
    }

    /// How many of so many requests each server answers. None fails.
    pub fn answers(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for _ in 0..requests {
            *answers.entry(self.ask().expect("an answer")).or_default() += 1;
        }
        answers
    }

    /// A download that takes some seconds; what it says in the end is its length and the server.
    pub fn download(&self, number: usize) -> Process {
        let url = format!("http://[{SERVICE}]/file");
        let to = self
            .folder
            .path()
            .join(format!("got-{number}"))
            .display()
            .to_string();
        let port = (FIRST_PORT + number).to_string();
        let words = [
            "curl",
            "-s",
            "-g",
            "--local-port",
            &port,
            "--max-time",
            "60",
            "--limit-rate",
            RATE,
            "-o",
            &to,
            &url,
        ];
        self.client.spawn(&words).expect("curl")
    }

    /// The server of HTTP on a host, from 0, is there again.
    pub fn restart(&mut self, index: usize) {
        let root = self.folder.path().join(format!("web-{}", index + 1));
        self.http[index] = Some(listen(&self.servers[index], &root));
    }

    /// What `service show` says of the servers of a pool.
    pub fn servers_of(&self, pool: &str) -> Vec<Value> {
        let shown = self.appliance.show("services").expect("services");
        let pools = shown["pools"].as_array().expect("pools");
        let pool = pools
            .iter()
            .find(|one| one["name"] == pool)
            .expect("the pool");
        pool["servers"].as_array().expect("servers").clone()
    }

    /// Whether a download is whole, and from whom.
    pub fn downloaded(&self, number: usize) -> (bool, String) {
        let got =
            std::fs::read(self.folder.path().join(format!("got-{number}"))).unwrap_or_default();
        let from = String::from_utf8_lossy(got.get(..5).unwrap_or(&[])).into_owned();
        let is_whole = got.len() == FILE_BYTES && got.chunks(5).all(|name| *name == got[..5]);
        (is_whole, from)
    }

    pub fn service(&self, words: &[&str]) -> String {
        self.appliance
            .command(&[&["service"], words].concat())
            .expect("it is done")
    }

    pub fn drops(&self) -> BTreeMap<String, u64> {
        let shown = self.appliance.show("drops").expect("drops");
        let drops = shown["drops"].as_array().expect("drops").iter();
        let drops = drops.map(|drop| {
            (
                drop["name"].as_str().expect("a name"),
                drop["count"].as_u64(),
            )
        });
        drops
            .map(|(name, count)| (name.to_owned(), count.expect("a count")))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// A host on the servers' link with the service address on its loopback interface.
fn serve(number: usize, switch: &Namespace, folder: &Path) -> (Namespace, Process) {
    let name = format!("sx-web-{number}");
    let server = Namespace::new(&name).expect("a namespace");
    let port = format!("port-{number}");
    let words = format!("ip link add {port} type veth peer name eth0 netns {name}");
    switch
        .run(&words.split(' ').collect::<Vec<_>>())
        .expect("a link");
    switch
        .run(&["ip", "link", "set", &port, "master", "br0"])
        .expect("in the bridge");
    switch.run(&["ip", "link", "set", &port, "up"]).expect("up");
    // Checksums are the sender's, and the receiver's to check.
    let _ = server.run(&[
        "ethtool", "-K", "eth0", "tx", "off", "rx", "off", "tso", "off", "gso", "off",
    ]);
    let address = format!("2001:db8:5::{}/64", 10 + number);
    server
        .configure("eth0", &[&address], Some("2001:db8:5::1"))
        .expect("an address");
    let on_loopback = format!("{SERVICE}/128");
    server
        .run(&["ip", "addr", "add", &on_loopback, "dev", "lo"])
        .expect("the service address");
    let root = folder.join(format!("web-{number}"));
    std::fs::create_dir_all(&root).expect("a folder");
    std::fs::write(root.join("name"), format!("web-{number}\n")).expect("a file");
    let contents = format!("web-{number}").repeat(FILE_BYTES / 5);
    std::fs::write(root.join("file"), contents).expect("a file");
    let process = listen(&server, &root);
    (server, process)
}

/// A server of HTTP that listens.
fn listen(server: &Namespace, root: &Path) -> Process {
    let root = root.display().to_string();
    let words = [
        "python3",
        "-m",
        "http.server",
        "80",
        "--bind",
        "::",
        "--directory",
        &root,
    ];
    let process = server.spawn(&words).expect("a server");
    let listens = || {
        let listening = server.run(&["ss", "-ltnH"]);
        listening.is_ok_and(|text| text.contains(":80 "))
    };
    wait_until("a server that listens", Duration::from_secs(20), listens).expect("listens");
    process
}
