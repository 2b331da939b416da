//! What hosts try with each other, and what an appliance counts meanwhile: `Ok` with what was seen, or why it is wrong.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Appliance, Finished, LabError, Namespace, Process, wait_until};

/// How long one program of a host may take.
const LIMIT: Duration = Duration::from_secs(40);

/// An error that says what `from` should not have said.
pub fn refuse(from: &str, text: impl Into<String>) -> LabError {
    LabError::Answer {
        from: from.to_owned(),
        text: text.into(),
    }
}

/// How many of the echo requests with these numbers were answered, as `ping` tells.
///
/// For the last answer `ping -c` waits two round trips, whatever `-W` says. With a deadline too (`-w`) it waits for as many
/// answers as `-c` says, and sends more requests until then: so the first ones are asked for, and not how many were sent.
#[must_use]
pub fn answered(said: &str, numbers: RangeInclusive<u32>) -> usize {
    let answers = said.lines().filter(|line| line.contains(" bytes from "));
    let numbered = answers.filter_map(|line| {
        let (_, rest) = line.split_once("icmp_seq=")?;
        rest.split(' ').next()?.parse().ok()
    });
    let numbers: BTreeSet<u32> = numbered.filter(|number| numbers.contains(number)).collect();
    numbers.len()
}

/// Pings, of which the first five are answered; the average round trip.
///
/// # Errors
/// When one of them is not within five seconds.
pub fn ping(from: &Namespace, source: Option<&str>, to: &str) -> Result<String, LabError> {
    let mut words = vec!["ping", "-n", "-c", "5", "-i", "0.05", "-w", "5"];
    if let Some(source) = source {
        words.extend(["-I", source]);
    }
    words.push(to);
    let finished = from.run_for(&words, Duration::from_secs(10))?;
    if answered(&finished.stdout, 1..=5) < 5 {
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

/// The JSON line of a peer that ended well.
///
/// # Errors
/// When it did not end well, or said something else.
pub fn report(finished: &Finished) -> Result<Value, LabError> {
    let text = format!("{}{}", finished.stdout, finished.stderr);
    if !finished.success {
        return Err(refuse("a peer", text));
    }
    serde_json::from_str(finished.stdout.trim()).map_err(|_| refuse("a peer", text))
}

/// Run a [peer](super::peer) on a host to its end; what it reports.
///
/// # Errors
/// When it does not end well.
pub fn peer(program: &Path, on: &Namespace, words: &[&str]) -> Result<Value, LabError> {
    let program = program.display().to_string();
    let words = [&[program.as_str(), "lab-peer"], words].concat();
    report(&on.run_for(&words, LIMIT)?)
}

/// Start a [peer](super::peer) on a host and leave it alone.
///
/// # Errors
/// When it cannot be started.
pub fn start(program: &Path, on: &Namespace, words: &[&str]) -> Result<Process, LabError> {
    let program = program.display().to_string();
    on.spawn(&[&[program.as_str(), "lab-peer"], words].concat())
}

/// Start a [peer](super::peer) on a host and wait until its socket is open.
///
/// # Errors
/// When it is not open in five seconds.
pub fn listen(
    program: &Path,
    on: &Namespace,
    words: &[&str],
    port: u16,
) -> Result<Process, LabError> {
    let process = start(program, on, words)?;
    let port = format!(":{port} ");
    let open = || {
        on.run(&["ss", "-Hlntu"])
            .is_ok_and(|sockets| sockets.contains(&port))
    };
    wait_until("a peer to listen", Duration::from_secs(5), open)?;
    Ok(process)
}

/// An address and a port as a command line has them.
#[must_use]
pub fn socket(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

/// `count` datagrams of all sizes up to `largest`, all sent back as they were.
///
/// # Errors
/// When one is not.
pub fn echo(
    program: &Path,
    (from, to): (&Namespace, &Namespace),
    address: &str,
    count: u32,
    largest: usize,
) -> Result<String, LabError> {
    let at = socket(address, 7007);
    let echo = listen(program, to, &["udp-echo", &at, "1"], 7007)?;
    let (number, largest) = (count.to_string(), largest.to_string());
    let asked = peer(program, from, &["udp-ask", &at, &number, &largest])?;
    drop(echo);
    if asked["answered"] != count || asked["wrong"] != 0 {
        return Err(refuse("the UDP peer", asked.to_string()));
    }
    Ok(format!("{count} of {count} answered, every byte the same"))
}

/// One TCP stream; both ends' digests must agree.
///
/// # Errors
/// When it does not arrive, or not as it was.
pub fn transfer(
    program: &Path,
    (from, to): (&Namespace, &Namespace),
    address: &str,
    bytes: u64,
) -> Result<String, LabError> {
    let receiver = listen(program, to, &["tcp-receive", "8080"], 8080)?;
    let (target, amount) = (socket(address, 8080), bytes.to_string());
    let sent = peer(program, from, &["tcp-send", &target, &amount])?;
    let received = report(&receiver.wait(Duration::from_secs(10))?)?;
    if received["bytes"] != bytes || sent["sha256"] != received["sha256"] {
        return Err(refuse(
            "the TCP peers",
            format!("sent {sent}, received {received}"),
        ));
    }
    let seconds = sent["seconds"].as_f64().unwrap_or(f64::INFINITY);
    // `as`: exact in an f64 up to 2^53.
    let rate = bytes as f64 * 8.0 / seconds / 1e6;
    let digest = received["sha256"]
        .as_str()
        .unwrap_or("")
        .get(..12)
        .unwrap_or("");
    Ok(format!(
        "{seconds:.1} s, {rate:.0} Mbit/s, SHA-256 {digest}… at both ends"
    ))
}

/// in = out + drops + punts, exactly, once nothing is under way.
///
/// # Errors
/// When it is not so within six seconds.
pub fn conservation(appliance: &Appliance) -> Result<String, LabError> {
    let mut last = Totals::default();
    let balanced = || {
        let Ok(now) = Totals::of(appliance) else {
            return false;
        };
        last = now;
        now.entered == now.sent + now.drops + now.punts
    };
    // Frames in a ring belong to nobody for a moment, and fragments wait three seconds for their first one.
    let waited = wait_until("in = out + drops + punts", Duration::from_secs(6), balanced);
    let Totals {
        entered,
        sent,
        drops,
        punts,
    } = last;
    waited.map_err(|_| {
        refuse(
            "show counters",
            format!("{entered} != {sent} + {drops} + {punts}"),
        )
    })?;
    Ok(format!("{entered} = {sent} + {drops} + {punts}"))
}

/// What became of all packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Received, injected and generated.
    pub entered: u64,
    /// Sent.
    pub sent: u64,
    /// Dropped.
    pub drops: u64,
    /// Handed to the control thread.
    pub punts: u64,
}

impl Totals {
    /// Those of an appliance, now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn of(appliance: &Appliance) -> Result<Self, LabError> {
        let counters = appliance.show("counters")?;
        let total = |name: &str| {
            counters["totals"][name]
                .as_u64()
                .ok_or_else(|| refuse("show counters", format!("no total `{name}`")))
        };
        Ok(Self {
            entered: total("rx")? + total("injected")? + total("generated")?,
            sent: total("tx")?,
            drops: total("drops")?,
            punts: total("punts")?,
        })
    }
}

/// How many packets an appliance dropped for a reason.
///
/// # Errors
/// When it does not answer.
pub fn dropped(appliance: &Appliance, reason: &str) -> Result<u64, LabError> {
    let counters = appliance.show("counters")?;
    let reasons = counters["drops"].as_array().map_or(&[][..], Vec::as_slice);
    let found = reasons.iter().find(|known| known["name"] == reason);
    Ok(found.and_then(|found| found["count"].as_u64()).unwrap_or(0))
}

/// Packets that a host's kernel has sent by a link.
///
/// # Errors
/// When there is no such link.
pub fn sent_by(host: &Namespace, link: &str) -> Result<u64, LabError> {
    let text = host.run(&["ip", "-j", "-s", "link", "show", "dev", link])?;
    let links: Value = serde_json::from_str(&text).map_err(|_| refuse("ip link", text.clone()))?;
    links[0]["stats64"]["tx"]["packets"]
        .as_u64()
        .ok_or_else(|| refuse("ip link", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_by_number() {
        let said = "PING ::1 (::1) 56 data bytes\n64 bytes from ::1: icmp_seq=1 ttl=64 time=0.1 ms\n\
            From ::2 icmp_seq=2 Destination unreachable: Address unreachable\n\
            64 bytes from ::1: icmp_seq=3 ttl=64 time=0.1 ms\n\
            64 bytes from ::1: icmp_seq=3 ttl=64 time=0.1 ms (DUP!)\n\
            64 bytes from ::1: icmp_seq=6 ttl=64 time=0.1 ms\n\n6 packets transmitted, 3 received\n";
        assert_eq!(answered(said, 1..=5), 2);
        assert_eq!(answered(said, 1..=6), 3);
        assert_eq!(answered("", 1..=5), 0);
    }
}
