//! What the `eal_*` suites share. DPDK starts once a process, so every test runs its body in a process of its own.

#![allow(dead_code, reason = "each suite uses a part")]

use std::env;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dataplane::dpdk::{
    DpdkRxQueue, DpdkTxQueue, Eal, EalConfig, EalError, HugePages, Mbuf, Mempool, MempoolConfig,
    Port, PortConfig,
};
use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::port::{RxQueue, TxQueue};

/// Set in the process that runs the body.
const CHILD: &str = "SEXTANT_EAL_TEST";

/// Packet buffers of a test: few, so that suites beside each other find room.
pub const MBUFS: u32 = 4095;

/// Run `body` in a process of its own. `test` is the name of the calling test.
pub fn in_own_process(test: &str, body: fn()) {
    run(test, &[], body);
}

/// Run `body` in a process and a network namespace of its own; needs root.
pub fn in_own_namespace(test: &str, body: fn()) {
    if needs_root(test) {
        return;
    }
    run(test, &["unshare", "--net", "--"], body);
}

/// As [`in_own_namespace`], without the right to make network interfaces there.
pub fn without_net_admin(test: &str, body: fn()) {
    if needs_root(test) {
        return;
    }
    let drop_right = [
        "setpriv",
        "--bounding-set=-net_admin",
        "--inh-caps=-net_admin",
        "--",
    ];
    run(
        test,
        &[&["unshare", "--net", "--"][..], &drop_right].concat(),
        body,
    );
}

fn needs_root(test: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !is_root {
        eprintln!("SKIPPED {test}: taps and network namespaces need root");
    }
    !is_root
}

fn run(test: &str, prefix: &[&str], body: fn()) {
    if env::var_os(CHILD).is_some() {
        body();
        return;
    }
    let program = env::current_exe().expect("this test program has a path");
    let child = Command::new("timeout")
        .args(["--kill-after=5", "60"])
        .args(prefix)
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .output()
        .expect("timeout, unshare and setpriv are there (coreutils, util-linux)");
    let (out, err) = (
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr),
    );
    // "1 passed": a name that matches no test would succeed as well.
    let passed = child.status.success() && out.contains("1 passed");
    assert!(
        passed,
        "{test} in its own process: {}\n{out}\n{err}",
        child.status
    );
    // DPDK keeps quiet: what it has to say goes into errors and the log it is asked for.
    assert!(!err.contains("EAL:"), "{err}");
}

/// Start DPDK with these devices.
pub fn start(devices: &[&str]) -> Result<Eal, EalError> {
    start_with(HugePages::Auto, devices)
}

/// Start DPDK with these devices in memory of this kind.
pub fn start_with(huge_pages: HugePages, devices: &[&str]) -> Result<Eal, EalError> {
    Eal::start(&EalConfig {
        huge_pages,
        devices: devices.iter().map(ToString::to_string).collect(),
        ..EalConfig::default()
    })
}

/// A small pool.
pub fn pool(eal: &Eal) -> Mempool {
    Mempool::new(
        eal,
        &MempoolConfig {
            name: "test",
            mbufs: MBUFS,
            cache: 128,
            data_room: 2048,
            socket: None,
        },
    )
    .expect("a small pool fits")
}

/// A port as a test wants it: as many queues as asked for, 1500 bytes.
pub fn config(device: &str) -> PortConfig {
    PortConfig {
        name: format!("port on {device}"),
        device: device.to_owned(),
        rx_queues: None,
        tx_queues: None,
        rx_descriptors: 256,
        tx_descriptors: 256,
        mtu: 1500,
        promiscuous: false,
    }
}

/// An open and started port with one queue each way.
pub fn started(eal: &Eal, device: &str, pool: &Mempool) -> (Port, DpdkRxQueue, DpdkTxQueue) {
    let mut port = Port::open(eal, &config(device), 1, pool).expect("opens");
    port.start().expect("starts");
    let rx = port.take_rx_queue(0).expect("a receive queue");
    let tx = port.take_tx_queue(0).expect("a transmit queue");
    (port, rx, tx)
}

/// Receive once.
pub fn receive(queue: &mut impl RxQueue<Frame = Mbuf>) -> Burst<Mbuf> {
    let mut burst = Burst::new();
    queue.receive(&mut burst, BURST_MAX);
    burst
}

/// Send all of it, or fail.
pub fn send_all(queue: &mut impl TxQueue<Frame = Mbuf>, mut burst: Burst<Mbuf>) {
    let count = burst.len();
    assert_eq!(queue.transmit(&mut burst), count, "the device takes all");
    assert!(burst.is_empty());
}

/// A frame of `len` bytes that no other `number` shares.
pub fn numbered(number: usize, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len)
        .map(|at| (at * 7 + number * 13).to_le_bytes()[0])
        .collect();
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Ask `answer` until it has one, at most for `limit`.
pub fn wait_for<T>(limit: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(start.elapsed() < limit, "no {what} within {limit:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Network interfaces of this thread's namespace.
pub fn interfaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").expect("procfs");
    table
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

/// CPUs this thread may run on.
pub fn cpus_of_thread() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").expect("procfs");
    let line = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list:"));
    line.expect("the kernel says").to_owned()
}

/// Bytes of each frame.
pub fn contents(burst: &Burst<Mbuf>) -> Vec<Vec<u8>> {
    burst.iter().map(|frame| frame.bytes().to_vec()).collect()
}
