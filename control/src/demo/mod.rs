//! `sextant demo`: two Linux hosts talk through Sextant, with proof.
//!
//! ```text
//!  namespace sextant-inside            namespace sextant-box              namespace sextant-outside
//!  fd01:203:405:1::10  ---- tap ----  inside  [NPT66]  outside  ---- tap ----  2001:db8:ffff::1
//!  fd00:1:2:3456::10                  MTU 1500         MTU 1400                2600:db8::1 (the Internet)
//! ```
//!
//! A list of checks, each a function; the demo succeeds only if every one holds. Everything it makes is removed at its
//! end, unless it is asked to keep it.

mod checks;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use crate::lab::{Appliance, LabError, Namespace, interrupt_on_signals, wait_until};

/// The host inside.
pub const INSIDE_HOST: &str = "fd01:203:405:1::10";
/// The appliance, seen from inside.
pub const INSIDE_GATEWAY: &str = "fd01:203:405:1::1";
/// The same host under the second rule.
pub const SECOND_HOST: &str = "fd00:1:2:3456::10";
/// The host outside.
pub const OUTSIDE_HOST: &str = "2600:db8::1";
/// The appliance, seen from outside.
pub const UPLINK_ADDRESS: &str = "2001:db8:ffff::2";
/// What [`INSIDE_HOST`] is outside: fd01:203:405::/48 to 2001:db8:1::/48 adds 0xd54f to subnet 1 (RFC 6296 3.6).
pub const INSIDE_HOST_SEEN: &str = "2001:db8:1:d550::10";
/// MTU of the outgoing interface: smaller than the hosts believe.
pub const UPLINK_MTU: u16 = 1400;

/// The appliance's configuration, without `[system]`.
pub const CONFIG: &str = r#"[workers]
poll = "adaptive"

[[ports]]
name = "inside"
device = "net_tap0,iface=sx-inside,mac=02:00:00:00:01:01"

[[ports]]
name = "outside"
device = "net_tap1,iface=sx-outside,mac=02:00:00:00:01:02"

[[interfaces]]
port = "inside"
addresses = ["fd01:203:405:1::1/64", "fd00:1:2:3456::1/64"]

[[interfaces]]
port = "outside"
mtu = 1400
addresses = ["2001:db8:ffff::2/64"]

[[routes]]
prefix = "::/0"
next_hops = [{ via = "2001:db8:ffff::1", interface = "outside" }]

[[npt66]]
name = "provider-48"
interface = "outside"
inside = "fd01:203:405::/48"
outside = "2001:db8:1::/48"

[[npt66]]
name = "provider-56"
interface = "outside"
inside = "fd00:1:2:3400::/56"
outside = "2001:db8:2:ab00::/56"
"#;

/// The hosts and the appliance between them.
pub struct Stage {
    // Dropped in this order: the appliance first.
    /// Sextant.
    pub appliance: Appliance,
    /// The host inside.
    pub inside: Namespace,
    /// The router and host outside.
    pub outside: Namespace,
    /// `sextant` itself, which also plays the hosts' programs.
    pub program: PathBuf,
}

impl Stage {
    /// Set the stage with `program` (`sextant` itself).
    ///
    /// # Errors
    /// When something does not start.
    pub fn set(program: &Path) -> Result<Self, LabError> {
        let inside = Namespace::new("sextant-inside")?;
        let outside = Namespace::new("sextant-outside")?;
        let appliance = Appliance::start(program, "sextant-box", CONFIG)?;
        appliance.hand_over("sx-inside", &inside)?;
        appliance.hand_over("sx-outside", &outside)?;
        let host = format!("{INSIDE_HOST}/64");
        let second = format!("{SECOND_HOST}/64");
        inside.configure("sx-inside", &[&host], Some(INSIDE_GATEWAY))?;
        // Deprecated: used only when asked for.
        let deprecated = ["nodad", "preferred_lft", "0"];
        inside.run(
            &[
                &["ip", "-6", "addr", "add", &second, "dev", "sx-inside"],
                &deprecated[..],
            ]
            .concat(),
        )?;
        let internet = format!("{OUTSIDE_HOST}/128");
        outside.configure("sx-outside", &["2001:db8:ffff::1/64", &internet], None)?;
        // The host believes in 1500 bytes, so that its TCP peer does too, until it is told otherwise on the way.
        outside.run(&["ip", "link", "set", "sx-outside", "mtu", "1500"])?;
        for prefix in ["2001:db8:1::/48", "2001:db8:2:ab00::/56"] {
            outside.run(&["ip", "-6", "route", "add", prefix, "via", UPLINK_ADDRESS])?;
        }
        Ok(Self {
            appliance,
            inside,
            outside,
            program: program.to_owned(),
        })
    }

    /// The program, as text for a command line.
    #[must_use]
    pub fn program(&self) -> String {
        self.program.display().to_string()
    }
}

/// Run the demo.
///
/// # Errors
/// When the stage cannot be set; a check that does not hold is not an error but `false`.
pub fn run(program: &Path, keep: bool) -> Result<bool, LabError> {
    interrupt_on_signals();
    let start = Instant::now();
    say(
        "Setting the stage: namespaces sextant-inside and sextant-outside, Sextant on two DPDK taps between them",
    );
    let stage = Stage::set(program)?;
    for line in stage.appliance.log().lines().take(6) {
        say(&format!("  | {line}"));
    }
    let ready = || {
        stage
            .inside
            .run(&["ping", "-6", "-c1", "-W1", OUTSIDE_HOST])
            .is_ok()
    };
    wait_until(
        "the first ping to come back",
        Duration::from_secs(15),
        ready,
    )?;

    let mut outcomes = Vec::new();
    for check in checks::ALL {
        print!("  {:<44} ", check.name);
        // The terminal is only slower to show it when this fails.
        let _ = std::io::stdout().flush();
        let begin = Instant::now();
        let outcome = (check.run)(&stage);
        if matches!(outcome, Err(LabError::Interrupted)) {
            say("interrupted; cleaning up");
            return Err(LabError::Interrupted);
        }
        let (holds, text) = match outcome {
            Ok(text) => (true, text),
            Err(error) => (false, error.to_string()),
        };
        say(&format!("{} {text}", if holds { "ok  " } else { "FAIL" }));
        outcomes.push((check.name, holds, text, begin.elapsed()));
    }
    say("");
    say(&summary(&outcomes));
    say(&checks::drops_table(&stage)?);
    let all_hold = outcomes.iter().all(|(_, holds, ..)| *holds);
    let verdict = if all_hold {
        "Every check held"
    } else {
        "A check did NOT hold"
    };
    say(&format!(
        "{verdict}, {:.0} s in all.",
        start.elapsed().as_secs_f64()
    ));
    if keep {
        explore(&stage)?;
    }
    Ok(all_hold)
}

/// Say how to look round, and wait for Ctrl-C.
fn explore(stage: &Stage) -> Result<(), LabError> {
    let (program, socket) = (stage.program(), stage.appliance.socket());
    say("\nIt stays up until Ctrl-C. To look round, from another terminal, as root:");
    say("  ip netns exec sextant-inside ping 2600:db8::1");
    say("  ip netns exec sextant-outside tcpdump -ni sx-outside");
    for subject in ["npt66", "neighbors", "counters"] {
        say(&format!(
            "  {program} show {subject} --socket {}",
            socket.display()
        ));
    }
    say(&format!(
        "  configuration: {}",
        stage.appliance.config_path().display()
    ));
    match wait_until("Ctrl-C", Duration::from_secs(24 * 3600), || false) {
        Err(LabError::Interrupted) => Ok(()),
        other => other,
    }
}

fn summary(outcomes: &[(&str, bool, String, Duration)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(118);
    table.set_header(["check", "", "what was seen", "seconds"]);
    for (name, holds, text, took) in outcomes {
        let mark = if *holds {
            Cell::new("ok").fg(Color::Green)
        } else {
            Cell::new("FAIL").fg(Color::Red)
        };
        table.add_row([
            Cell::new(name),
            mark,
            Cell::new(text),
            Cell::new(format!("{:.1}", took.as_secs_f64())),
        ]);
    }
    table.to_string()
}

fn say(text: &str) {
    // A closed terminal does not end the demo before it has cleaned up.
    let _ = writeln!(std::io::stdout(), "{text}");
}
