//! `sextant demo`: hosts in namespaces talk through Sextant, with proof.
//!
//! It has parts: [`npt66`], two hosts and a box that translates between them; [`lisp`], two sites whose boxes make
//! tunnels between them; [`mapping`], sites that find each other by a Map-Server; and [`steering`], servers that share one
//! address. Each is a stage and a list of checks, each a function; the demo succeeds only if every one
//! holds. Everything it makes is removed at its end, unless it is asked to keep it.

pub mod lisp;
pub mod mapping;
pub mod npt66;
pub mod steering;

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use crate::lab::{Appliance, LabError, interrupt_on_signals, wait_until};

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Two hosts, and prefixes translated between them
    Npt66,
    /// Two LISP sites, and tunnels between them
    Lisp,
    /// Three LISP sites and a proxy that ask a Map-Server
    Mapping,
    /// A service address, two boxes and four HTTP servers
    Steering,
}

impl Part {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Npt66, Self::Lisp, Self::Mapping, Self::Steering];
}

/// A claim.
struct Check<S> {
    name: &'static str,
    run: fn(&S) -> Result<String, LabError>,
}

/// A part: a stage that is cleared away when it is dropped, and what is claimed of it.
trait Show: Sized + 'static {
    /// What it is, for its first line.
    const WHAT: &'static str;
    /// All claims, in order.
    const CHECKS: &'static [Check<Self>];
    /// Set the stage; its hosts reach each other.
    fn set(program: &Path) -> Result<Self, LabError>;
    /// The boxes.
    fn appliances(&self) -> Vec<&Appliance>;
    /// Commands to look round with.
    fn to_explore(&self) -> Vec<String>;
    /// Commands of `sextant` that are worth a look, without the socket.
    fn subjects(&self) -> &'static [&'static str];
}

/// Run the demo.
///
/// # Errors
/// When a stage cannot be set; a check that does not hold is not an error but `false`.
pub fn run(program: &Path, parts: &[Part], keep: bool) -> Result<bool, LabError> {
    interrupt_on_signals();
    let start = Instant::now();
    let mut all_hold = true;
    let (mut npt66, mut lisp, mut mapping, mut steering) = (None, None, None, None);
    for part in parts {
        all_hold &= match part {
            Part::Npt66 => show::<npt66::Stage>(program, keep, &mut npt66)?,
            Part::Lisp => show::<lisp::Stage>(program, keep, &mut lisp)?,
            Part::Mapping => show::<mapping::Stage>(program, keep, &mut mapping)?,
            Part::Steering => show::<steering::Stage>(program, keep, &mut steering)?,
        };
    }
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
        say("\nIt stays up until Ctrl-C. To look round, from another terminal, as root:");
        if let Some(stage) = &npt66 {
            explore(program, stage);
        }
        if let Some(stage) = &lisp {
            explore(program, stage);
        }
        if let Some(stage) = &mapping {
            explore(program, stage);
        }
        if let Some(stage) = &steering {
            explore(program, stage);
        }
        match wait_until("Ctrl-C", Duration::from_secs(24 * 3600), || false) {
            Ok(()) | Err(LabError::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all_hold)
}

/// Show one part; the stage is left in `kept` if it shall stay. Whether every check held.
fn show<S: Show>(program: &Path, keep: bool, kept: &mut Option<S>) -> Result<bool, LabError> {
    say(&format!("Setting the stage for {}", S::WHAT));
    let stage = S::set(program)?;
    for appliance in stage.appliances() {
        for line in appliance.log().lines().take(6) {
            say(&format!("  | {line}"));
        }
    }
    let mut outcomes = Vec::new();
    for check in S::CHECKS {
        // Without a line's end; a closed terminal does not end the demo here either.
        let mut stdout = std::io::stdout();
        let _ = write!(stdout, "  {:<44} ", check.name).and_then(|()| stdout.flush());
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
    for appliance in stage.appliances() {
        say(&drops_table(appliance)?);
    }
    let all_hold = outcomes.iter().all(|(_, holds, ..)| *holds);
    *kept = keep.then_some(stage);
    Ok(all_hold)
}

/// Say how to look round.
fn explore<S: Show>(program: &Path, stage: &S) {
    for line in stage.to_explore() {
        say(&format!("  {line}"));
    }
    for appliance in stage.appliances() {
        for subject in stage.subjects() {
            say(&format!(
                "  {} {subject} --socket {}",
                program.display(),
                appliance.socket().display()
            ));
        }
        say(&format!(
            "  configuration: {}",
            appliance.config_path().display()
        ));
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

/// Drops by reason, as a table.
fn drops_table(appliance: &Appliance) -> Result<String, LabError> {
    let counters = appliance.show("counters")?;
    let mut table = Table::new();
    let because = format!("dropped by {} because", appliance.namespace().name());
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header([
        because.as_str(),
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

fn say(text: &str) {
    // A closed terminal does not end the demo before it has cleaned up.
    let _ = writeln!(std::io::stdout(), "{text}");
}
