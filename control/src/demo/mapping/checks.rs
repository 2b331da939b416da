//! What the part about the mapping system proves, one function a claim: `Ok` with what was seen, or why it does not hold.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{MEMBERS, MOBILE, Member, NATIVE_HOST, Stage};
use crate::demo::Check;
use crate::lab::traffic::{self, ping, refuse};
use crate::lab::{LabError, Namespace, Process, wait_until};

/// Bytes of the TCP transfer.
const TRANSFER: u64 = 10_000_000;
/// Positions in [`MEMBERS`].
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const PROXY: usize = 3;

/// All of them, in order.
pub(super) const ALL: &[Check<Stage>] = &[
    Check {
        name: "three sites register with the Map-Server",
        run: registered,
    },
    Check {
        name: "each finds the others: its first packet waits",
        run: each_finds_the_others,
    },
    Check {
        name: "TCP 10 MB from A to C",
        run: tcp,
    },
    Check {
        name: "a host without LISP, through the proxy",
        run: native,
    },
    Check {
        name: "the Map-Server dies under traffic, and is back",
        run: server_restart,
    },
    Check {
        name: "one of A's providers fails without a word",
        run: provider_fails,
    },
    Check {
        name: "a host moves from A to B under traffic, and back",
        run: host_moves,
    },
    Check {
        name: "in = out + drops + punts, all boxes",
        run: conservation,
    },
];

fn member(position: usize) -> Result<Member, LabError> {
    let missing = || refuse("the stage", format!("no member {position}"));
    MEMBERS.into_iter().nth(position).ok_or_else(missing)
}

fn registered(stage: &Stage) -> Result<String, LabError> {
    let begin = Instant::now();
    stage.wait_until_registered()?;
    Ok(format!(
        "all confirmed within {:.1} s",
        begin.elapsed().as_secs_f64()
    ))
}

fn each_finds_the_others(stage: &Stage) -> Result<String, LabError> {
    let mut first_ms = Vec::new();
    for (from, to) in [(A, B), (A, C), (B, A), (B, C), (C, A), (C, B)] {
        let to = member(to)?.host();
        let words = ["ping", "-n", "-c1", "-W3", &to];
        let finished = stage.host(from)?.run_for(&words, Duration::from_secs(5))?;
        if !finished.success {
            return Err(refuse("ping", finished.stdout));
        }
        let round_trip = finished.stdout.lines().last();
        let round_trip = round_trip.and_then(|line| line.split('/').nth(4)?.parse::<f64>().ok());
        first_ms.push(round_trip.unwrap_or(f64::INFINITY));
    }
    let longest = first_ms.iter().copied().fold(0.0, f64::max);
    let shown = stage.appliance(A)?.show("lisp")?;
    Ok(format!(
        "6 of 6 first packets answered, the slowest after {longest:.0} ms; A has learned {} mappings",
        shown["mappings_learned"]
    ))
}

fn tcp(stage: &Stage) -> Result<String, LabError> {
    let hosts = (stage.host(A)?, stage.host(C)?);
    traffic::transfer(&stage.program, hosts, &member(C)?.host(), TRANSFER)
}

/// Packets a box has put into tunnels and taken out of them.
fn tunnelled(stage: &Stage, position: usize) -> Result<[u64; 2], LabError> {
    let counters = stage.appliance(position)?.show("counters")?;
    let of = |name: &str| counters["totals"][name].as_u64();
    match (of("encapsulated"), of("decapsulated")) {
        (Some(encapsulated), Some(decapsulated)) => Ok([encapsulated, decapsulated]),
        _ => Err(refuse("show counters", counters["totals"].to_string())),
    }
}

fn native(stage: &Stage) -> Result<String, LabError> {
    let before = tunnelled(stage, PROXY)?;
    let out = ping(stage.host(A)?, None, NATIVE_HOST)?;
    let back = ping(stage.host(PROXY)?, None, &member(B)?.host())?;
    let after = tunnelled(stage, PROXY)?;
    let [encapsulated, decapsulated] = [after[0] - before[0], after[1] - before[1]];
    if encapsulated < 10 || decapsulated < 10 {
        return Err(refuse(
            "the proxy",
            format!("{encapsulated} packets into tunnels, {decapsulated} out of them"),
        ));
    }
    Ok(format!("{out}; {back}"))
}

/// Datagrams in flows from one site's host to another's, all to be sent back.
struct Flows {
    sender: Process,
    _echo: Process,
}

impl Flows {
    /// `words`: flows, datagrams in each, datagrams a second in all.
    fn start(
        stage: &Stage,
        from: &Namespace,
        (to, address): (&Namespace, &str),
        words: [&str; 3],
    ) -> Result<Self, LabError> {
        let (program, at) = (&stage.program, traffic::socket(address, 7007));
        let echo = traffic::listen(program, to, &["udp-echo", &at, "3"], 7007)?;
        let words = [&["udp-flows", &at][..], &words].concat();
        let sender = traffic::start(program, from, &words)?;
        Ok(Self {
            sender,
            _echo: echo,
        })
    }

    fn finish(self) -> Result<Value, LabError> {
        traffic::report(&self.sender.wait(Duration::from_secs(30))?)
    }
}

fn server_restart(stage: &Stage) -> Result<String, LabError> {
    // 100 flows, 30 datagrams each, for 3 seconds.
    let address = member(A)?.host();
    let to = (stage.host(A)?, &*address);
    let flows = Flows::start(stage, stage.host(C)?, to, ["100", "30", "1000"])?;
    std::thread::sleep(Duration::from_millis(500));
    stage.kill_server();
    std::thread::sleep(Duration::from_secs(1));
    stage.start_server()?;
    let report = flows.finish()?;
    if report["unanswered"] != 0 {
        return Err(refuse("the UDP peer", report.to_string()));
    }
    Ok(format!("{} datagrams, 0 lost", report["sent"]))
}

/// For how long a flow missed answers, milliseconds.
fn outage(report: &Value) -> f64 {
    report["outage_ms"].as_f64().unwrap_or(f64::INFINITY)
}

fn provider_fails(stage: &Stage) -> Result<String, LabError> {
    let rloc = member(A)?.rlocs().next().unwrap_or_default();
    let wait_for = |state: &str| {
        let what = format!("{rloc} to be {state}");
        let is_so = || stage.rloc_state(C, &rloc).is_ok_and(|seen| seen == state);
        wait_until(&what, Duration::from_secs(10), is_so)
    };
    wait_for("up")?;
    // 200 flows, half of them by each provider.
    let address = member(A)?.host();
    let to = (stage.host(A)?, &*address);
    let flows = Flows::start(stage, stage.host(C)?, to, ["200", "20", "2000"])?;
    std::thread::sleep(Duration::from_millis(700));
    stage.set_silent(&rloc, true)?;
    let report = flows.finish();
    stage.set_silent(&rloc, false)?;
    let report = report?;
    wait_for("up")?;
    let is_noticed = report["unanswered"].as_u64().is_some_and(|count| count > 0);
    if !is_noticed || outage(&report) > 1000.0 {
        return Err(refuse("the UDP peer", report.to_string()));
    }
    Ok(format!(
        "its flows missed answers for {:.0} ms, {} of {} datagrams; it is back in use",
        outage(&report),
        report["unanswered"],
        report["sent"]
    ))
}

fn host_moves(stage: &Stage) -> Result<String, LabError> {
    let (mobile, peer) = (&stage.mobile, stage.host(C)?);
    let address = member(C)?.host();
    ping(mobile, None, &address)?;
    let mut seen = Vec::new();
    for site in ["b", "a"] {
        // For two seconds.
        let words = ["20", "100", "1000"];
        let to_mobile = Flows::start(stage, peer, (mobile, MOBILE), words)?;
        let from_mobile = Flows::start(stage, mobile, (peer, &address), words)?;
        std::thread::sleep(Duration::from_millis(500));
        stage.move_mobile(site)?;
        let reports = [to_mobile.finish()?, from_mobile.finish()?];
        for report in &reports {
            if outage(report) > 1000.0 {
                return Err(refuse("the UDP peer", report.to_string()));
            }
        }
        let [there, back] = reports.map(|report| report["unanswered"].as_u64().unwrap_or(0));
        seen.push(format!("to {}: {there} and {back}", site.to_uppercase()));
    }
    Ok(format!(
        "datagrams lost of 2000 in each direction, one a millisecond: {}",
        seen.join("; ")
    ))
}

fn conservation(stage: &Stage) -> Result<String, LabError> {
    let mut all = Vec::new();
    for (position, member) in MEMBERS.iter().enumerate() {
        let seen = traffic::conservation(stage.appliance(position)?)?;
        all.push(format!("{}: {seen}", member.name.to_uppercase()));
    }
    Ok(all.join("; "))
}
