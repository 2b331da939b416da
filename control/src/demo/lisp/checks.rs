//! What the part about LISP proves, one function a claim: `Ok` with what was seen, or why it does not hold.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{B1_V6, B2_V6, HOST_B_SHARED, HOST_B_UNKNOWN, NATIVE_HOST, PAIRS, Pair, Stage};
use crate::demo::Check;
use crate::lab::traffic::{self, ping, refuse};
use crate::lab::{LabError, Namespace, Process, wait_until};

/// Bytes of each TCP transfer.
const TRANSFER: u64 = 10_000_000;
/// EIDs that two locators share.
const SHARED: &str = "fd00:b:0:2::/64";
/// EIDs of site B that nobody has been told of.
const UNKNOWN: &str = "fd00:b:0:9::/64";
const NATIVE: &str = "2600:db8::/32";

/// All of them, in order.
pub(super) const ALL: &[Check<Stage>] = &[
    Check {
        name: "IPv6 over IPv6: ping, TCP 10 MB",
        run: |stage| pair(stage, PAIRS[0]),
    },
    Check {
        name: "IPv6 over IPv4: ping, TCP 10 MB",
        run: |stage| pair(stage, PAIRS[1]),
    },
    Check {
        name: "IPv4 over IPv6: ping, TCP 10 MB",
        run: |stage| pair(stage, PAIRS[2]),
    },
    Check {
        name: "IPv4 over IPv4: ping, TCP 10 MB",
        run: |stage| pair(stage, PAIRS[3]),
    },
    Check {
        name: "UDP, 300 datagrams of all sizes",
        run: udp,
    },
    Check {
        name: "two locators share the flows, 70 to 30",
        run: share,
    },
    Check {
        name: "one is taken away under traffic, and comes back",
        run: locator_down,
    },
    Check {
        name: "an uplink fails under traffic",
        run: uplink_down,
    },
    Check {
        name: "a miss: the packet waits for its mapping",
        run: miss,
    },
    Check {
        name: "a host without LISP, natively through NPT66",
        run: native,
    },
    Check {
        name: "in = out + drops + punts, both boxes",
        run: conservation,
    },
];

/// Packets that the router has forwarded in one family.
fn forwarded(core: &Namespace, is_v4: bool) -> Result<u64, LabError> {
    let counter = if is_v4 {
        "IpForwDatagrams"
    } else {
        "Ip6OutForwDatagrams"
    };
    let text = core.run(&["nstat", "-a", "-z", "-s", "-j", counter])?;
    let counts: Value = serde_json::from_str(&text).map_err(|_| refuse("nstat", text.clone()))?;
    counts["kernel"][counter]
        .as_u64()
        .ok_or_else(|| refuse("nstat", text))
}

fn pair(stage: &Stage, pair: Pair) -> Result<String, LabError> {
    let before = forwarded(&stage.core, pair.is_outer_v4)?;
    ping(&stage.host_a, Some(pair.a), pair.b)?;
    let hosts = (&stage.host_a, &stage.host_b);
    let seen = traffic::transfer(&stage.program, hosts, pair.b, TRANSFER)?;
    let after = forwarded(&stage.core, pair.is_outer_v4)?;
    let packets = after - before;
    // No packet carries more than 1,500 bytes.
    if packets < TRANSFER / 1500 {
        return Err(refuse(
            "the router",
            format!("forwarded only {packets} packets of the family"),
        ));
    }
    let outer = if pair.is_outer_v4 { "IPv4" } else { "IPv6" };
    Ok(format!("{seen}; {packets} {outer} packets in the underlay"))
}

fn udp(stage: &Stage) -> Result<String, LabError> {
    let hosts = (&stage.host_a, &stage.host_b);
    traffic::echo(&stage.program, hosts, PAIRS[2].b, 300, 1400)
}

/// Datagrams in 400 flows to the EIDs that two locators share.
struct Flows<'a> {
    stage: &'a Stage,
    sender: Process,
    _echo: Process,
}

impl<'a> Flows<'a> {
    fn start(stage: &'a Stage, rounds: &str) -> Result<Self, LabError> {
        let at = traffic::socket(HOST_B_SHARED, 7007);
        let echo = traffic::listen(&stage.program, &stage.host_b, &["udp-echo", &at, "1"], 7007)?;
        let words = ["udp-flows", &at, "400", rounds, "2000"];
        let sender = traffic::start(&stage.program, &stage.host_a, &words)?;
        Ok(Self {
            stage,
            sender,
            _echo: echo,
        })
    }

    /// What became of them, and how many went by each link of site B since `before`.
    fn finish(self, before: [u64; 2]) -> Result<(Value, [u64; 2]), LabError> {
        let flows = traffic::report(&self.sender.wait(Duration::from_secs(20))?)?;
        let after = by_link(self.stage)?;
        Ok((flows, [after[0] - before[0], after[1] - before[1]]))
    }
}

/// Packets that went to site B, by link.
fn by_link(stage: &Stage) -> Result<[u64; 2], LabError> {
    Ok([
        traffic::sent_by(&stage.core, "sxl-core-b1")?,
        traffic::sent_by(&stage.core, "sxl-core-b2")?,
    ])
}

fn all_answered(flows: &Value) -> Result<(), LabError> {
    if flows["unanswered"] == 0 {
        Ok(())
    } else {
        Err(refuse("the UDP peer", flows.to_string()))
    }
}

fn share(stage: &Stage) -> Result<String, LabError> {
    let before = by_link(stage)?;
    let (flows, [first, second]) = Flows::start(stage, "3")?.finish(before)?;
    all_answered(&flows)?;
    let percent = 100 * first / (first + second).max(1);
    // 400 flows: three standard deviations are 7 %.
    if !(60..=80).contains(&percent) {
        return Err(refuse("the links", format!("{first} and {second} packets")));
    }
    Ok(format!(
        "400 flows, {first} packets by one link, {second} by the other: {percent} %"
    ))
}

fn locator_down(stage: &Stage) -> Result<String, LabError> {
    let flows = Flows::start(stage, "5")?;
    std::thread::sleep(Duration::from_millis(300));
    stage.box_a.command(&["map", "rloc", B1_V6, "down"])?;
    let before = by_link(stage)?;
    let (report, [first, second]) = flows.finish(before)?;
    stage.box_a.command(&["map", "rloc", B1_V6, "up"])?;
    all_answered(&report)?;
    // What was under way when it was taken away, and the underlay's own neighbour discovery.
    if first > 30 || second < 500 {
        return Err(refuse(
            "the links",
            format!("{first} and {second} packets afterwards"),
        ));
    }
    let state = stage.locator_state(SHARED, B1_V6)?;
    if state != "up" {
        return Err(refuse("map show", format!("the locator is {state}")));
    }
    Ok(format!(
        "all {} datagrams answered; {second} by the other link",
        report["sent"]
    ))
}

fn uplink_down(stage: &Stage) -> Result<String, LabError> {
    let flows = Flows::start(stage, "8")?;
    std::thread::sleep(Duration::from_millis(300));
    stage.set_second_uplink("down")?;
    let begin = Instant::now();
    let waited = wait_until("the locator", Duration::from_secs(3), || {
        let state = stage.locator_state(SHARED, B2_V6);
        state.is_ok_and(|state| state == "unreachable")
    });
    let noticed = begin.elapsed();
    let (report, _) = flows.finish(by_link(stage)?)?;
    stage.set_second_uplink("up")?;
    waited?;
    let back = || {
        let state = stage.locator_state(SHARED, B2_V6);
        state.is_ok_and(|state| state == "up")
    };
    wait_until("the locator's return", Duration::from_secs(5), back)?;
    let outage = report["outage_ms"].as_f64().unwrap_or(f64::INFINITY);
    if outage > 1000.0 {
        return Err(refuse("the UDP peer", report.to_string()));
    }
    Ok(format!(
        "noticed in {} ms; flows of it missed answers for {outage:.0} ms, {} of {} datagrams",
        noticed.as_millis(),
        report["unanswered"],
        report["sent"]
    ))
}

fn miss(stage: &Stage) -> Result<String, LabError> {
    let ping = ["ping", "-n", "-c1", "-W3", "-I", PAIRS[0].a, HOST_B_UNKNOWN];
    let ping = stage.host_a.spawn(&ping)?;
    let is_missed = || {
        let lisp = stage.box_a.show("lisp").unwrap_or_default();
        let mut misses = lisp["misses"].as_array().into_iter().flatten();
        misses.any(|miss| miss["eid"] == HOST_B_UNKNOWN && miss["waiting"] == 1)
    };
    wait_until("the miss", Duration::from_secs(3), is_missed)?;
    let add = ["map", "add", "--instance", "7", UNKNOWN, "--locator", B1_V6];
    stage.box_a.command(&add)?;
    let finished = ping.wait(Duration::from_secs(5))?;
    stage
        .box_a
        .command(&["map", "del", "--instance", "7", UNKNOWN])?;
    if !finished.success {
        return Err(refuse("ping", finished.stdout));
    }
    Ok("shown, mapped, and the very packet that waited was answered".to_owned())
}

fn native(stage: &Stage) -> Result<String, LabError> {
    let add = [
        "map",
        "add",
        "--instance",
        "7",
        NATIVE,
        "--action",
        "native",
    ];
    stage.box_a.command(&add)?;
    let seen = ping(&stage.host_a, Some(PAIRS[0].a), NATIVE_HOST)?;
    let counters = stage.box_a.show("counters")?;
    let translated = counters["npt66"][0]["out_packets"].as_u64().unwrap_or(0);
    if translated < 5 {
        return Err(refuse("show counters", counters["npt66"].to_string()));
    }
    Ok(format!("{seen}; {translated} packets translated"))
}

fn conservation(stage: &Stage) -> Result<String, LabError> {
    let a = traffic::conservation(&stage.box_a)?;
    let b = traffic::conservation(&stage.box_b)?;
    Ok(format!("A: {a}; B: {b}"))
}
