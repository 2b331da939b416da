//! What the demo proves, one function a claim: `Ok` with what was seen, or why it does not hold.

use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use serde_json::Value;

use super::{
    INSIDE_GATEWAY, INSIDE_HOST, INSIDE_HOST_SEEN, OUTSIDE_HOST, SECOND_HOST, Stage,
    UPLINK_ADDRESS, UPLINK_MTU,
};
use crate::lab::{Finished, LabError, Namespace, Process, wait_until};

/// Bytes of the TCP transfer.
const TRANSFER: u64 = 100_000_000;
/// How long one transfer may take.
const TRANSFER_LIMIT: Duration = Duration::from_secs(40);

/// A claim.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) run: fn(&Stage) -> Result<String, LabError>,
}

/// All of them, in order.
pub(super) const ALL: &[Check] = &[
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

fn refuse(from: &str, text: impl Into<String>) -> LabError {
    LabError::Answer {
        from: from.to_owned(),
        text: text.into(),
    }
}

/// Five pings, all answered; the average round trip.
fn ping(from: &Namespace, source: Option<&str>, to: &str) -> Result<String, LabError> {
    let mut words = vec!["ping", "-6", "-n", "-c", "5", "-i", "0.05", "-W", "2"];
    if let Some(source) = source {
        words.extend(["-I", source]);
    }
    words.push(to);
    let finished = from.run_for(&words, Duration::from_secs(10))?;
    if !finished.stdout.contains("5 received") {
        return Err(refuse("ping", finished.stdout));
    }
    let average = finished
        .stdout
        .lines()
        .last()
        .and_then(|line| line.split('/').nth(4));
    Ok(format!(
        "5 of 5 answered by {to}, {} ms",
        average.unwrap_or("?")
    ))
}

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

/// The JSON line of a peer that ended well.
fn report(finished: &Finished) -> Result<Value, LabError> {
    let text = format!("{}{}", finished.stdout, finished.stderr);
    if !finished.success {
        return Err(refuse("a peer", text));
    }
    serde_json::from_str(finished.stdout.trim()).map_err(|_| refuse("a peer", text))
}

/// Start a peer and wait until its socket is open.
fn listen(stage: &Stage, on: &Namespace, words: &[&str], port: &str) -> Result<Process, LabError> {
    let program = stage.program();
    let process = on.spawn(&[&[program.as_str(), "lab-peer"], words].concat())?;
    let port = format!(":{port} ");
    let open = || {
        on.run(&["ss", "-Hlntu"])
            .is_ok_and(|sockets| sockets.contains(&port))
    };
    wait_until("a peer to listen", Duration::from_secs(5), open)?;
    Ok(process)
}

fn udp(stage: &Stage) -> Result<String, LabError> {
    let to = format!("[{OUTSIDE_HOST}]:7007");
    let echo = listen(stage, &stage.outside, &["udp-echo", &to, "1"], "7007")?;
    let program = stage.program();
    let words = [program.as_str(), "lab-peer", "udp-ask", &to, "500", "1300"];
    let asked = report(&stage.inside.run_for(&words, TRANSFER_LIMIT)?)?;
    drop(echo);
    if asked["answered"] != 500 || asked["wrong"] != 0 {
        return Err(refuse("the UDP peer", asked.to_string()));
    }
    Ok("500 of 500 answered, every byte the same".to_owned())
}

/// One transfer; both ends' digests must agree.
fn transfer(
    stage: &Stage,
    from: &Namespace,
    to: &Namespace,
    address: &str,
) -> Result<String, LabError> {
    let receiver = listen(stage, to, &["tcp-receive", "8080"], "8080")?;
    let program = stage.program();
    let target = format!("[{address}]:8080");
    let amount = TRANSFER.to_string();
    let sent = from.run_for(
        &[&program, "lab-peer", "tcp-send", &target, &amount],
        TRANSFER_LIMIT,
    )?;
    let sent = report(&sent)?;
    let received = report(&receiver.wait(Duration::from_secs(10))?)?;
    if received["bytes"] != TRANSFER || sent["sha256"] != received["sha256"] {
        return Err(refuse(
            "the TCP peers",
            format!("sent {sent}, received {received}"),
        ));
    }
    let seconds = sent["seconds"].as_f64().unwrap_or(f64::INFINITY);
    // `as`: 100 MB is exact in an f64.
    let rate = TRANSFER as f64 * 8.0 / seconds / 1e6;
    let digest = received["sha256"]
        .as_str()
        .unwrap_or("")
        .get(..12)
        .unwrap_or("");
    Ok(format!(
        "{:.1} s, {rate:.0} Mbit/s, SHA-256 {digest}… at both ends",
        seconds
    ))
}

/// The hosts believe in 1500 bytes; the uplink carries 1400. The path must get shorter, and the stream arrive whole.
fn tcp_out(stage: &Stage) -> Result<String, LabError> {
    let before = dropped(stage, "packet_too_big")?;
    let seen = transfer(stage, &stage.inside, &stage.outside, OUTSIDE_HOST)?;
    let too_big = dropped(stage, "packet_too_big")? - before;
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
    transfer(stage, &stage.outside, &stage.inside, INSIDE_HOST_SEEN)
}

/// A short flood; the rate over the time it takes.
fn rate(stage: &Stage) -> Result<String, LabError> {
    let counter = listen(stage, &stage.outside, &["udp-count", "9009", "1"], "9009")?;
    let program = stage.program();
    let to = format!("[{OUTSIDE_HOST}]:9009");
    let before = (totals(stage)?, rule(stage, "provider-48")?);
    let start = Instant::now();
    let words = [
        program.as_str(),
        "lab-peer",
        "udp-send",
        &to,
        "300000",
        "0",
        "64",
    ];
    let sender = stage.inside.spawn(&words)?;
    report(&sender.wait(TRANSFER_LIMIT)?)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = (totals(stage)?, rule(stage, "provider-48")?);
    report(&counter.wait(Duration::from_secs(10))?)?;
    // `as`: counts far below 2^52.
    let per_second = |count: u64| count as f64 / seconds / 1000.0;
    let (packets, translated) = (after.0.0 - before.0.0, after.1.0 - before.1.0);
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
    let mut last = (0, 0, 0, 0);
    let balanced = || {
        let Ok(now) = totals(stage) else { return false };
        last = now;
        now.0 == now.1 + now.2 + now.3
    };
    // Frames in a ring belong to nobody for a moment.
    let waited = wait_until("in = out + drops + punts", Duration::from_secs(3), balanced);
    let (entered, sent, drops, punts) = last;
    waited.map_err(|_| {
        refuse(
            "show counters",
            format!("{entered} != {sent} + {drops} + {punts}"),
        )
    })?;
    Ok(format!("{entered} = {sent} + {drops} + {punts}"))
}

/// Entered (received, injected, generated), sent, dropped, punted.
fn totals(stage: &Stage) -> Result<(u64, u64, u64, u64), LabError> {
    let counters = stage.appliance.show("counters")?;
    let total = |name: &str| {
        counters["totals"][name]
            .as_u64()
            .ok_or_else(|| refuse("show counters", format!("no total `{name}`")))
    };
    let entered = total("rx")? + total("injected")? + total("generated")?;
    Ok((entered, total("tx")?, total("drops")?, total("punts")?))
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

fn dropped(stage: &Stage, name: &str) -> Result<u64, LabError> {
    let counters = stage.appliance.show("counters")?;
    let reasons = counters["drops"].as_array().map_or(&[][..], Vec::as_slice);
    let reason = reasons.iter().find(|reason| reason["name"] == name);
    Ok(reason
        .and_then(|reason| reason["count"].as_u64())
        .unwrap_or(0))
}

/// Drops by reason, as a table.
pub(super) fn drops_table(stage: &Stage) -> Result<String, LabError> {
    let counters = stage.appliance.show("counters")?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        "dropped because",
        "packets",
        "clause",
    ]);
    let reasons = counters["drops"].as_array().map_or(&[][..], Vec::as_slice);
    for reason in reasons
        .iter()
        .filter(|reason| reason["count"].as_u64().is_some_and(|count| count > 0))
    {
        let text = |field: &str| reason[field].as_str().unwrap_or("").to_owned();
        table.add_row([text("text"), reason["count"].to_string(), text("rfc")]);
    }
    Ok(table.to_string())
}
