//! `sextant run` as a process: it starts, answers, reloads, refuses and stops, and leaves nothing behind.
//!
//! Needs root. The tests make namespaces of the same names, so they run one after the other (`--test-threads=1`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::lab::{Appliance, Finished, Namespace, Process, run, run_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const SEXTANT: &str = env!("CARGO_BIN_EXE_sextant");
const SUBJECTS: [&str; 9] = [
    "ports",
    "interfaces",
    "workers",
    "routes",
    "neighbors",
    "npt66",
    "counters",
    "drops",
    "instance",
];

/// One tap; the host behind it is [`HOST`].
const ONE_TAP: &str = r#"
[workers]
mbufs = 4096

[[ports]]
name = "lan"
device = "net_tap0,iface=sx-run,mac=02:00:00:00:05:01"

[[interfaces]]
port = "lan"
addresses = ["fd05::1/64"]
"#;
const OWN: &str = "fd05::1";
const OWN_LINK_LOCAL: &str = "fe80::ff:fe00:501%sx-run";
const HOST: &str = "fd05::10/64";

/// Two devices that need neither privileges nor a kernel interface.
const NO_DEVICE: &str = r#"
[workers]
mbufs = 2048

[[ports]]
name = "a"
device = "net_null0,no-rx=1"
rx_descriptors = 256

[[ports]]
name = "b"
device = "net_ring0"
rx_descriptors = 256

[[interfaces]]
port = "a"
addresses = ["fd06::1/64"]

[[interfaces]]
port = "b"
vlan = [7]
addresses = ["fd07::1/64"]
"#;

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: namespaces and taps need root");
    }
    root
}

/// A host behind the appliance's tap.
fn host_of(appliance: &Appliance) -> Namespace {
    let host = Namespace::new("sx-run-host").expect("a namespace");
    appliance.hand_over("sx-run", &host).expect("the tap");
    host.configure("sx-run", &[HOST], None).expect("an address");
    host
}

fn wait_for_ping(host: &Namespace, address: &str) {
    let answers = || host.run(&["ping", "-6", "-c1", "-W1", address]).is_ok();
    wait_until("an echo reply", Duration::from_secs(10), answers).expect("an echo reply");
}

/// A configuration of its own in a folder of its own, for processes that are started by hand.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(config: &str) -> Self {
        Self::with_system("", config)
    }

    fn with_system(system: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Self { folder };
        let text = format!(
            "[system]\nadmin_socket = \"{}\"\n{system}\n{config}",
            files.socket().display()
        );
        std::fs::write(files.config(), text).expect("the configuration");
        files
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("sextant.toml")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Names of what is in the folder beside the configuration.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder");
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name != "sextant.toml")
            .collect()
    }

    /// Run it, `prefix` before the command, and expect it to end by itself.
    fn refused(&self, prefix: &[&str]) -> Finished {
        let config = self.config();
        let words = [prefix, &[SEXTANT, "run", "-c", text(&config)]].concat();
        let finished = run_for(&words, Duration::from_secs(20)).expect("it ends");
        assert!(!finished.success);
        assert_eq!(
            self.left(),
            [""; 0],
            "what was refused leaves nothing behind"
        );
        finished
    }

    fn start(&self, prefix: &[&str]) -> Process {
        let config = self.config();
        let words = [prefix, &[SEXTANT, "run", "-c", text(&config)]].concat();
        let mut process = Process::spawn(&words).expect("it starts");
        let answers = || self.ask(&["show", "instance"]).success;
        let waited = wait_until("an answer", Duration::from_secs(20), || {
            answers() || !process.is_running()
        });
        if waited.is_err() || !process.is_running() {
            panic!(
                "it does not answer: {:?}",
                process.wait(Duration::from_secs(1))
            );
        }
        process
    }

    fn ask(&self, words: &[&str]) -> Finished {
        let socket = self.socket();
        let words = [&[SEXTANT], words, &["--socket", text(&socket)]].concat();
        run_for(&words, Duration::from_secs(20)).expect("it ends")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text")
}

/// The only line of an error.
fn sentence(finished: &Finished) -> &str {
    let lines: Vec<&str> = finished.stderr.lines().collect();
    let last = lines.last().copied().unwrap_or_default();
    assert!(last.starts_with("sextant: "), "{}", finished.stderr);
    // The log may come first, with its times; there is one sentence that says why.
    let sentences = lines.iter().filter(|line| line.starts_with("sextant: "));
    assert_eq!(sentences.count(), 1, "{}", finished.stderr);
    last
}

/// Files that keep huge pages taken after their process has gone. (How many pages are free says nothing: other processes
/// take and return them meanwhile.)
fn huge_page_files() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    let folders = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (folder, kind) = (words.next()?, words.next()?);
        (kind == "hugetlbfs").then_some(folder)
    });
    let entries = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path().display().to_string()));
    paths.collect()
}

#[test]
fn starts_answers_everything_and_leaves_nothing() {
    if !root() {
        return;
    }
    let files = huge_page_files();
    let mut appliance =
        Appliance::start(Path::new(SEXTANT), "sx-run-box", ONE_TAP).expect("it starts");
    let host = host_of(&appliance);
    wait_for_ping(&host, OWN);
    host.run(&["ping", "-6", "-c3", "-i0.2", "-W1", OWN])
        .expect("own address answers");
    host.run(&["ping", "-6", "-c3", "-i0.2", "-W1", OWN_LINK_LOCAL])
        .expect("own link-local address answers");
    // Longer than a packet: fragments are not put together, and that is no reason to fall.
    assert!(
        host.run(&["ping", "-6", "-c1", "-W1", "-s4000", OWN])
            .is_err()
    );

    for subject in SUBJECTS {
        let data = appliance.show(subject).expect("JSON");
        assert!(
            data["monotonic_ns"].as_u64().is_some_and(|time| time > 0),
            "{subject}: {data}"
        );
        let table = appliance.command(&["show", subject]).expect("a table");
        assert!(table.lines().count() >= 1, "{subject}");
        assert!(!table.contains('{'), "{subject}: {table}");
    }
    shapes(&appliance);

    assert_eq!(appliance.stop().expect("it stops"), Some(0));
    let log = appliance.log();
    assert!(log.contains("SIGTERM: stopping"), "{log}");
    assert!(!appliance.socket().exists());
    assert!(!appliance.socket().with_extension("sock.lock").exists());
    let links = host.run(&["ip", "-o", "link"]).expect("ip");
    assert!(!links.contains("sx-run"), "the tap is gone: {links}");
    assert_eq!(huge_page_files(), files);
}

/// The documented fields are there and hold what they should.
fn shapes(appliance: &Appliance) {
    let counters = appliance.show("counters").expect("JSON");
    for total in [
        "rx",
        "injected",
        "generated",
        "tx",
        "drops",
        "punts",
        "errors_limited",
    ] {
        assert!(counters["totals"][total].is_u64(), "{total}: {counters}");
    }
    let echo = counters["punts"].as_array().expect("punts").iter();
    let echo = echo
        .clone()
        .find(|punt| punt["name"] == "echo")
        .expect("echo");
    assert!(echo["count"].as_u64() >= Some(6), "{echo}");
    for drop in counters["drops"].as_array().expect("drops") {
        for field in ["name", "text", "rfc"] {
            assert!(drop[field].is_string(), "{drop}");
        }
    }
    let port = &counters["ports"][0];
    assert_eq!(port["name"], "lan");
    assert!(port["rx_packets"].as_u64() > Some(0) && port["tx_bytes"].as_u64() > Some(0));
    assert!(port["device"]["rx_packets"].is_u64(), "{port}");
    let worker = &counters["workers"][0];
    assert_eq!(worker["state"], "running");
    assert_eq!(worker["nodes"][0]["name"], "ingress");

    let ports = appliance.show("ports").expect("JSON");
    assert_eq!(ports["ports"][0]["driver"], "net_tap");
    assert_eq!(ports["ports"][0]["mac"], "02:00:00:00:05:01");
    assert_eq!(ports["ports"][0]["link"]["up"], true);
    let neighbors = appliance.show("neighbors").expect("JSON");
    let known = neighbors["neighbors"].as_array().expect("neighbours");
    let host = known
        .iter()
        .find(|neighbor| neighbor["address"] == "fd05::10");
    assert_eq!(host.expect("the host")["interface"], "lan");
    let routes = appliance.show("routes").expect("JSON");
    let prefixes: Vec<_> = routes["routes"]
        .as_array()
        .expect("routes")
        .iter()
        .collect();
    let connected = prefixes.iter().find(|route| route["prefix"] == "fd05::/64");
    assert_eq!(connected.expect("a connected route")["source"], "connected");
    let instance = appliance.show("instance").expect("JSON");
    assert!(
        instance["engine"]
            .as_str()
            .is_some_and(|engine| engine.starts_with("DPDK "))
    );
}

#[test]
fn second_instance_is_refused_and_the_first_goes_on() {
    if !root() {
        return;
    }
    let mut appliance =
        Appliance::start(Path::new(SEXTANT), "sx-run-box", ONE_TAP).expect("it starts");
    let host = host_of(&appliance);
    wait_for_ping(&host, OWN);
    let config = appliance.config_path();
    let words = [SEXTANT, "run", "-c", text(&config)];
    let second = run_for(&words, Duration::from_secs(10)).expect("it ends");
    assert_eq!(second.code, Some(4), "{}", second.stderr);
    let pid = appliance.process().expect("it runs").id();
    let expected = format!(
        "sextant: already running as process {pid} with the admin socket {}",
        appliance.socket().display()
    );
    assert_eq!(sentence(&second), expected);
    wait_for_ping(&host, OWN);
    assert_eq!(appliance.stop().expect("it stops"), Some(0));
}

#[test]
fn killed_it_comes_up_again() {
    if !root() {
        return;
    }
    let files = huge_page_files();
    let mut appliance =
        Appliance::start(Path::new(SEXTANT), "sx-run-box", ONE_TAP).expect("it starts");
    for _ in 0..2 {
        appliance.process().expect("it runs").signal(Signal::KILL);
        wait_until("its end", Duration::from_secs(5), || {
            !appliance.is_running()
        })
        .expect("killed");
        assert!(
            appliance.socket().exists(),
            "SIGKILL leaves the socket's name"
        );
        assert_eq!(huge_page_files(), files);
        appliance.launch().expect("it starts again");
    }
    let host = host_of(&appliance);
    wait_for_ping(&host, OWN);
    assert_eq!(appliance.stop().expect("it stops"), Some(0));
    assert!(!appliance.socket().exists());
}

#[test]
fn reload_applies_a_right_file_and_refuses_a_wrong_one() {
    if !root() {
        return;
    }
    let mut appliance =
        Appliance::start(Path::new(SEXTANT), "sx-run-box", ONE_TAP).expect("it starts");
    let host = host_of(&appliance);
    wait_for_ping(&host, OWN);

    let more = ONE_TAP.replace("\"fd05::1/64\"", "\"fd05::1/64\", \"fd08::1/64\"");
    appliance.write_config(&more).expect("a file");
    let said = appliance.command(&["reload"]).expect("it reloads");
    assert!(said.contains("interfaces: ~lan"), "{said}");
    host.run(&[
        "ip",
        "-6",
        "addr",
        "add",
        "fd08::10/64",
        "dev",
        "sx-run",
        "nodad",
    ])
    .expect("ip");
    wait_for_ping(&host, "fd08::1");
    wait_for_ping(&host, OWN);

    // A wrong file: refused whole, with its place.
    let broken = more.replace("\"fd08::1/64\"", "\"fd09::1/64\", \"fd08::1/200\"");
    appliance.write_config(&broken).expect("a file");
    let socket = appliance.socket();
    let words = [SEXTANT, "reload", "--socket", text(&socket)];
    let refused = run_for(&words, Duration::from_secs(10)).expect("it ends");
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("sextant.toml:"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("fd08::1/200"), "{}", refused.stderr);
    wait_for_ping(&host, "fd08::1");

    // What needs a restart says so.
    appliance
        .write_config(&more.replace("mbufs = 4096", "mbufs = 8192"))
        .expect("a file");
    let refused = run_for(&words, Duration::from_secs(10)).expect("it ends");
    assert_eq!(refused.code, Some(3));
    let expected = "workers.mbufs: 4096 would become 8192, which needs a restart";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);

    // SIGHUP is a reload too.
    appliance.write_config(ONE_TAP).expect("a file");
    appliance.process().expect("it runs").signal(Signal::HUP);
    let applied = || {
        let instance = appliance.show("instance").unwrap_or_default();
        instance["configurations_applied"] == 3
    };
    wait_until("the reload", Duration::from_secs(5), applied).expect("the reload");
    let instance = appliance.show("instance").expect("JSON");
    assert_eq!(instance["configurations_refused"], 2);
    wait_for_ping(&host, OWN);
    let interfaces = appliance.show("interfaces").expect("JSON");
    let addresses = interfaces["interfaces"][0]["addresses"]
        .as_array()
        .expect("addresses");
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert_eq!(appliance.stop().expect("it stops"), Some(0));
}

#[test]
fn trace_shows_a_packets_way() {
    if !root() {
        return;
    }
    let appliance = Appliance::start(Path::new(SEXTANT), "sx-run-box", ONE_TAP).expect("it starts");
    let host = host_of(&appliance);
    wait_for_ping(&host, OWN);
    let ping = host
        .spawn(&["ping", "-6", "-i0.05", "-c100", OWN])
        .expect("ping");
    let steps = appliance
        .command(&["trace", "3", "--json"])
        .expect("a trace");
    let steps: Vec<Value> = steps
        .lines()
        .map(|line| serde_json::from_str(line).expect("a step a line"))
        .collect();
    let packets: std::collections::BTreeSet<_> =
        steps.iter().map(|step| step["packet"].as_u64()).collect();
    assert_eq!(packets.len(), 3);
    assert!(
        steps.iter().any(|step| step["node"] == "ingress"),
        "{steps:?}"
    );
    let one = appliance.command(&["trace", "1"]).expect("a trace");
    assert!(one.starts_with("packet 1 in worker 0\n  ingress "), "{one}");
    drop(ping);
    // Nothing comes any more but what neighbour discovery sends; the command ends all the same.
    let socket = appliance.socket();
    let words = [
        SEXTANT,
        "trace",
        "1000",
        "--timeout",
        "0.3",
        "--socket",
        text(&socket),
    ];
    let ended = run_for(&words, Duration::from_secs(5)).expect("it ends");
    assert_eq!(ended.code, Some(1));
    assert!(
        sentence(&ended).ends_with("packets did not come in time"),
        "{}",
        ended.stderr
    );
}

#[test]
fn watch_goes_on_until_the_instance_ends() {
    if !root() {
        return;
    }
    let files = Files::new(NO_DEVICE);
    let instance = files.start(&[]);
    let socket = files.socket();
    let words = [
        SEXTANT,
        "show",
        "counters",
        "--json",
        "--watch",
        "0.1",
        "--socket",
        text(&socket),
    ];
    let watch = Process::spawn(&words).expect("it starts");
    std::thread::sleep(Duration::from_millis(1500));
    instance.signal(Signal::INT);
    assert_eq!(
        instance
            .wait(Duration::from_secs(10))
            .expect("it ends")
            .code,
        Some(0)
    );
    let watch = watch.wait(Duration::from_secs(10)).expect("it ends");
    assert_eq!(watch.code, Some(4), "{}", watch.stderr);
    let times: Vec<u64> = watch
        .stdout
        .lines()
        .map(|line| {
            let counters: Value = serde_json::from_str(line).expect("an object a line");
            counters["monotonic_ns"].as_u64().expect("a time")
        })
        .collect();
    assert!(times.len() >= 5, "{times:?}");
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(files.left(), [""; 0]);
}

#[test]
fn runs_without_privileges_where_the_devices_need_none() {
    if !root() {
        return;
    }
    let files = Files::with_system("huge_pages = \"off\"\nmemory_mib = 64\n", NO_DEVICE);
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ];
    run(&["chmod", "0777", text(files.folder.path())]).expect("chmod");
    let instance = files.start(&nobody);
    let shown = files.ask(&["show", "ports", "--json"]);
    let ports: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(ports["ports"][1]["driver"], "net_ring");
    instance.signal(Signal::TERM);
    assert_eq!(
        instance
            .wait(Duration::from_secs(10))
            .expect("it ends")
            .code,
        Some(0)
    );
    assert_eq!(files.left(), [""; 0]);
}

#[test]
fn missing_privileges_are_one_sentence() {
    if !root() {
        return;
    }
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ];
    let files = Files::new(ONE_TAP);
    run(&["chmod", "0777", text(files.folder.path())]).expect("chmod");
    let refused = files.refused(&nobody);
    assert_eq!(refused.code, Some(5));
    assert_eq!(
        sentence(&refused),
        "sextant: port \"lan\": device net_tap0 needs root or the capability CAP_NET_ADMIN"
    );
    // A folder it may not write.
    run(&["chmod", "0755", text(files.folder.path())]).expect("chmod");
    let refused = files.refused(&nobody);
    assert_eq!(refused.code, Some(5));
    assert!(
        sentence(&refused).contains("Permission denied"),
        "{}",
        refused.stderr
    );
    assert!(
        sentence(&refused).contains("admin_socket"),
        "{}",
        refused.stderr
    );
}

#[test]
fn missing_tap_support_is_one_sentence() {
    if !root() {
        return;
    }
    let files = Files::new(ONE_TAP);
    // A mount namespace in which /dev/net is empty.
    let script = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let refused = files.refused(&["unshare", "-m", "sh", "-c", script, "sh"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(
        sentence(&refused).contains("/dev/net/tun"),
        "{}",
        refused.stderr
    );
}

#[test]
fn missing_huge_pages_are_one_sentence_where_they_are_required() {
    if !root() {
        return;
    }
    let files = Files::with_system("huge_pages = \"require\"\nmemory_mib = 65536\n", NO_DEVICE);
    let refused = files.refused(&[]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(
        sentence(&refused).contains("huge pages are required"),
        "{}",
        refused.stderr
    );
}

#[test]
fn devices_without_a_driver_and_cores_that_do_not_exist_are_named() {
    if !root() {
        return;
    }
    let files = Files::new(&NO_DEVICE.replace("net_ring0", "net_nosuch0"));
    let refused = files.refused(&[]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(
        sentence(&refused).contains("net_nosuch"),
        "{}",
        refused.stderr
    );

    let files = Files::new(&NO_DEVICE.replace("[workers]", "[workers]\ncores = [99]"));
    let refused = files.refused(&[]);
    assert_eq!(refused.code, Some(3));
    assert!(
        refused.stderr.contains("workers.cores[0]: "),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("core 99"), "{}", refused.stderr);
}

#[test]
fn workers_share_a_port_that_has_one_queue() {
    if !root() {
        return;
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("SKIPPED: two workers need two cores");
        return;
    }
    let two = ONE_TAP.replace("[workers]", "[workers]\ncores = [0, 1]");
    let two = two.replace(
        "mac=02:00:00:00:05:01\"",
        "mac=02:00:00:00:05:01\"\nrx_queues = 1\ntx_queues = 1",
    );
    let mut appliance =
        Appliance::start(Path::new(SEXTANT), "sx-run-box", &two).expect("it starts");
    let host = host_of(&appliance);
    wait_for_ping(&host, OWN);
    // Flows are told apart by their addresses.
    for number in 0..16 {
        let address = format!("fd05::1:{number:x}");
        let with_length = format!("{address}/64");
        host.run(&[
            "ip",
            "-6",
            "addr",
            "add",
            &with_length,
            "dev",
            "sx-run",
            "nodad",
        ])
        .expect("ip");
        host.run(&["ping", "-6", "-c2", "-i0.05", "-W2", "-I", &address, OWN])
            .expect("an answer to every request");
    }
    let counters = appliance.show("counters").expect("JSON");
    let workers = counters["workers"].as_array().expect("workers");
    assert_eq!(workers.len(), 2);
    let number = |worker: &Value, field: &str| worker[field].as_u64().expect("a number");
    let spread_out: u64 = workers
        .iter()
        .map(|worker| number(worker, "spread_out"))
        .sum();
    let spread_in: u64 = workers
        .iter()
        .map(|worker| number(worker, "spread_in"))
        .sum();
    assert!(spread_out > 0, "{workers:?}");
    assert_eq!(spread_in, spread_out);
    let balanced = || {
        let totals = appliance.show("counters").expect("JSON")["totals"].take();
        let sum = |names: &[&str]| -> u64 { names.iter().map(|name| number(&totals, name)).sum() };
        sum(&["rx", "injected", "generated"]) == sum(&["tx", "drops", "punts"])
    };
    wait_until("in = out + drops + punts", Duration::from_secs(3), balanced).expect("conservation");
    assert_eq!(appliance.stop().expect("it stops"), Some(0));
}
