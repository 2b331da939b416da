//! What the part about NPT66 proves, one function a claim: `Ok` with what was seen, or why it does not hold.

use std::time::{Duration, Instant};

use super::{
    INSIDE_GATEWAY, INSIDE_HOST, INSIDE_HOST_SEEN, OUTSIDE_HOST, SECOND_HOST, Stage,
    UPLINK_ADDRESS, UPLINK_MTU,
};
use crate::demo::Check;
use crate::lab::traffic::{self, Totals, ping, refuse};
use crate::lab::{LabError, Namespace};

/// Bytes of the TCP transfer.
const TRANSFER: u64 = 100_000_000;

/// All of them, in order.
pub(super) const ALL: &[Check<Stage>] = &[
    Check {
        name: "ping, inside to outside",
        run: ping_out,
    },
    Check {
        name: "ping, outside to inside",
        run: ping_in,
    },
    Check {
        name: "ping under the /56 rule",
        run: ping_second_rule,
    },
    Check {
        name: "traceroute, inside to outside",
        run: traceroute_out,
    },
    Check {
        name: "traceroute, outside to inside",
        run: traceroute_in,
    },
    Check {
        name: "hairpin: the host's own outside address",
        run: hairpin,
    },
    Check {
        name: "UDP, 500 datagrams of all sizes",
        run: udp,
    },
    Check {
        name: "TCP, 100 MB out, Packet Too Big on the way",
        run: tcp_out,
    },
    Check {
        name: "TCP, 100 MB in",
        run: tcp_in,
    },
    Check {
        name: "packets and translations per second",
        run: rate,
    },
    Check {
        name: "in = out + drops + punts",
        run: conservation,
    },
];

fn ping_out(stage: &Stage) -> Result<String, LabError> {
    ping(&stage.inside, Some(INSIDE_HOST), OUTSIDE_HOST)
}

fn ping_in(stage: &Stage) -> Result<String, LabError> {
    ping(&stage.outside, None, INSIDE_HOST_SEEN)
}

fn ping_second_rule(stage: &Stage) -> Result<String, LabError> {
    let before = rule(stage, "provider-56")?;
    let seen = ping(&stage.inside, Some(SECOND_HOST), OUTSIDE_HOST)?;
    let after = rule(stage, "provider-56")?;
    let translated = after.0 - before.0;
    if translated < 5 || after.1 - before.1 < 5 {
        return Err(refuse(
            "show npt66",
            format!("only {translated} packets translated"),
        ));
    }
    Ok(seen)
}

fn traceroute(from: &Namespace, to: &str, hops: [&str; 2]) -> Result<String, LabError> {
    let words = [
        "traceroute",
        "-6",
        "-n",
        "-q",
        "1",
        "-w",
        "2",
        "-m",
        "4",
        to,
    ];
    let finished = from.run_for(&words, Duration::from_secs(15))?;
    let lines: Vec<&str> = finished.stdout.lines().skip(1).collect();
    let seen: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    if seen != hops {
        return Err(refuse("traceroute", format!("{seen:?}, expected {hops:?}")));
    }
    Ok(seen.join(" then "))
}

fn traceroute_out(stage: &Stage) -> Result<String, LabError> {
    traceroute(&stage.inside, OUTSIDE_HOST, [INSIDE_GATEWAY, OUTSIDE_HOST])
}

fn traceroute_in(stage: &Stage) -> Result<String, LabError> {
    traceroute(
        &stage.outside,
        INSIDE_HOST_SEEN,
        [UPLINK_ADDRESS, INSIDE_HOST_SEEN],
    )
}

fn hairpin(stage: &Stage) -> Result<String, LabError> {
    ping(&stage.inside, Some(SECOND_HOST), INSIDE_HOST_SEEN)
}

fn udp(stage: &Stage) -> Result<String, LabError> {
    let hosts = (&stage.inside, &stage.outside);
    traffic::echo(&stage.program, hosts, OUTSIDE_HOST, 500, 1300)
}

/// The hosts believe in 1500 bytes; the uplink carries 1400. The path must get shorter, and the stream arrive whole.
fn tcp_out(stage: &Stage) -> Result<String, LabError> {
    let before = traffic::dropped(&stage.appliance, "packet_too_big")?;
    let seen = traffic::transfer(
        &stage.program,
        (&stage.inside, &stage.outside),
        OUTSIDE_HOST,
        TRANSFER,
    )?;
    let too_big = traffic::dropped(&stage.appliance, "packet_too_big")? - before;
    let route = stage
        .inside
        .run(&["ip", "-6", "route", "get", OUTSIDE_HOST])?;
    if too_big == 0 || !route.contains(&format!("mtu {UPLINK_MTU}")) {
        return Err(refuse(
            "the path",
            format!("{too_big} packets too big; {route}"),
        ));
    }
    Ok(format!(
        "{seen}; {too_big} too big, path MTU now {UPLINK_MTU}"
    ))
}

fn tcp_in(stage: &Stage) -> Result<String, LabError> {
    traffic::transfer(
        &stage.program,
        (&stage.outside, &stage.inside),
        INSIDE_HOST_SEEN,
        TRANSFER,
    )
}

/// A short flood; the rate over the time it takes.
fn rate(stage: &Stage) -> Result<String, LabError> {
    let (program, appliance) = (&stage.program, &stage.appliance);
    let counter = traffic::listen(program, &stage.outside, &["udp-count", "9009", "1"], 9009)?;
    let to = traffic::socket(OUTSIDE_HOST, 9009);
    let before = (Totals::of(appliance)?, rule(stage, "provider-48")?);
    let start = Instant::now();
    let words = ["udp-send", &to, "100000", "0", "64"];
    traffic::peer(program, &stage.inside, &words)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = (Totals::of(appliance)?, rule(stage, "provider-48")?);
    traffic::report(&counter.wait(Duration::from_secs(10))?)?;
    // `as`: counts far below 2^52.
    let per_second = |count: u64| count as f64 / seconds / 1000.0;
    let packets = after.0.entered - before.0.entered;
    let translated = after.1.0 - before.1.0;
    if translated == 0 {
        return Err(refuse("show npt66", "nothing was translated"));
    }
    Ok(format!(
        "{:.0}k packets/s, {:.0}k translations/s through taps",
        per_second(packets),
        per_second(translated)
    ))
}

fn conservation(stage: &Stage) -> Result<String, LabError> {
    traffic::conservation(&stage.appliance)
}

/// Packets that a rule translated out and in.
fn rule(stage: &Stage, name: &str) -> Result<(u64, u64), LabError> {
    let counters = stage.appliance.show("counters")?;
    let rules = counters["npt66"].as_array().map_or(&[][..], Vec::as_slice);
    let rule = rules.iter().find(|rule| rule["name"] == name);
    let count = |field: &str| rule.and_then(|rule| rule[field].as_u64());
    match (count("out_packets"), count("in_packets")) {
        (Some(out), Some(inbound)) => Ok((out, inbound)),
        _ => Err(refuse("show counters", format!("no rule `{name}`"))),
    }
}
