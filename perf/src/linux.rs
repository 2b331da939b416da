//! What Linux itself does with the same work: stateless NPT (`ip6tables -t mangle -j SNPT`) between two veth pairs, in
//! namespaces of its own, as packets per CPU-second.
//!
//! ```text
//!   gen: tcpreplay -> g0 ===== r0 :router, SNPT: r1 ===== s0 :sink
//! ```
//!
//! The sender is pinned to one core, and what it sends is received, translated and delivered in the same core's
//! interrupt time, so the time it takes is the time of everything. The sender's cost is measured the same way with
//! frames for another MAC address, which the router drops first thing, and is subtracted: that it also takes part of the
//! reception away is in Linux's favour.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane::testing::pcap;

use crate::cases::Point;
use crate::children::Dialogue;
use crate::network as net;
use crate::setup::Workspace;
use crate::traffic::{self, Direction};

/// Packets one measurement sends, each way.
const PACKETS: usize = 1 << 20;
/// How long sending them may take.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// Of a thousand packets sent, how many must arrive.
const ARRIVED_PERMILLE: u64 = 999;

/// The namespaces and the captures; gone when dropped.
pub struct LinuxRouter {
    names: Names,
    core: usize,
    loops: usize,
    /// For the router, and for nobody.
    captures: [String; 2],
}

struct Names {
    generator: String,
    router: String,
    sink: String,
}

impl Drop for Names {
    fn drop(&mut self) {
        for name in [&self.generator, &self.router, &self.sink] {
            // Fails only for one that was not made.
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

impl LinuxRouter {
    /// Build the namespaces; what it sends is the outbound traffic of `point`, from `core`.
    pub fn new(point: Point, core: usize, workspace: &Workspace) -> Result<Self> {
        let mut frames = traffic::frames(Direction::Out, point);
        let loops = PACKETS.div_ceil(frames.len());
        let captures = ["linux.pcap", "linux-elsewhere.pcap"].map(|name| workspace.file(name));
        pcap::write(&captures[0], &frames).context("cannot write a capture")?;
        for frame in &mut frames {
            frame[5] ^= 0xff; // the last byte of the destination
        }
        pcap::write(&captures[1], &frames).context("cannot write a capture")?;
        let name = |role| format!("sextant-perf-{}-{role}", std::process::id());
        let names = Names {
            generator: name("gen"),
            router: name("router"),
            sink: name("sink"),
        };
        names.build()?;
        Ok(Self {
            names,
            core,
            loops,
            captures: captures.map(|path| path.display().to_string()),
        })
    }

    /// Packets per CPU-second that are translated.
    pub fn rate(&self) -> Result<f64> {
        let [for_router, for_nobody] = &self.captures;
        let before = self.arrived()?;
        let (packets, whole) = self.send(for_router)?;
        let arrived = self.arrived()?.saturating_sub(before);
        ensure!(
            arrived * 1000 >= packets * ARRIVED_PERMILLE,
            "Linux delivered {arrived} of {packets} packets"
        );
        let (unwanted, sending) = self.send(for_nobody)?;
        // `as`: both are far below 2^53.
        let per_packet = whole / packets as f64 - sending / unwanted as f64;
        ensure!(
            per_packet > 0.0,
            "Linux took {whole:.2} s to translate and {sending:.2} s to send alone"
        );
        Ok(1.0 / per_packet)
    }

    /// Send a capture [`Self::loops`] times; says how many packets that were and how many seconds it took.
    fn send(&self, capture: &str) -> Result<(u64, f64)> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.names.generator])
            .args(["taskset", "--cpu-list", &self.core.to_string()])
            .args(["tcpreplay", "--quiet", "--preload-pcap", "--topspeed"])
            .args(["--intf1=g0", &format!("--loop={}", self.loops), capture]);
        Dialogue::start("tcpreplay", &mut command)?.listen(SEND_LIMIT, sent_in)
    }

    /// Packets the sink's interface has received.
    fn arrived(&self) -> Result<u64> {
        let path = "/sys/class/net/s0/statistics/rx_packets";
        let text = output(&["ip", "netns", "exec", &self.names.sink, "cat", path])?;
        text.trim().parse().context("a counter is a number")
    }
}

impl Names {
    fn build(&self) -> Result<()> {
        let (generator, router, sink) = (&self.generator, &self.router, &self.sink);
        let rule = format!(
            "ip6tables-legacy -t mangle -A POSTROUTING -o r1 -s {0} -j SNPT --src-pfx {0} --dst-pfx {1}",
            net::INSIDE_PREFIX,
            net::OUTSIDE_PREFIX
        );
        let steps = [
            format!("ip netns add {generator}"),
            format!("ip netns add {router}"),
            format!("ip netns add {sink}"),
            format!("ip link add g0 netns {generator} type veth peer name r0 netns {router}"),
            format!("ip link add r1 netns {router} type veth peer name s0 netns {sink}"),
            format!("ip -n {router} link set r0 address {}", net::SOURCE_MAC),
            format!("ip -n {generator} link set g0 up"),
            format!("ip -n {router} link set r0 up"),
            format!("ip -n {router} link set r1 up"),
            format!("ip -n {sink} link set s0 up"),
            format!("ip netns exec {router} sysctl -qw net.ipv6.conf.all.forwarding=1"),
            format!(
                "ip -n {router} address add {} dev r0 nodad",
                net::INSIDE_ADDRESS
            ),
            format!(
                "ip -n {router} address add {} dev r1 nodad",
                net::OUTSIDE_ADDRESS
            ),
            format!(
                "ip -n {router} neighbor add {} lladdr {} dev r1",
                net::OUTSIDE_ROUTER,
                net::OUTSIDE_ROUTER_MAC
            ),
            format!(
                "ip -n {router} route add default via {}",
                net::OUTSIDE_ROUTER
            ),
            format!("ip netns exec {router} {rule}"),
        ];
        for step in steps {
            output(&step.split_whitespace().collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Run a command to its end; says what it printed.
fn output(words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("a command has a name")?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Packets and seconds in tcpreplay's summary.
fn sent_in(line: &str) -> Option<(u64, f64)> {
    let words: Vec<&str> = line
        .trim()
        .strip_prefix("Actual:")?
        .split_whitespace()
        .collect();
    match words[..] {
        [packets, "packets", .., seconds, "seconds"] => {
            Some((packets.parse().ok()?, seconds.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_seconds_are_read_from_tcpreplay_s_words() {
        assert_eq!(
            sent_in("Actual: 2048000 packets (131072000 bytes) sent in 4.87 seconds"),
            Some((2_048_000, 4.87))
        );
        assert_eq!(
            sent_in("Rated: 26887385.8 Bps, 215.09 Mbps, 420115.40 pps"),
            None
        );
    }
}
