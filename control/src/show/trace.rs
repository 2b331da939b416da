//! `sextant trace N`: arms the instance's tracers and prints what they recorded.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ShowError, write};
use crate::admin::client::Client;
use crate::admin::protocol::Command;
use crate::admin::view::{Step, Trace};
use crate::cli::TraceArgs;

/// Between two looks for records.
const LOOK: Duration = Duration::from_millis(50);

/// What became of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traced {
    /// All packets were seen.
    All,
    /// The time was up before they all came.
    TimedOut {
        /// How many did not.
        missing: u32,
    },
}

/// Trace packets until as many as wanted were seen or the time is up.
///
/// # Errors
/// When the instance cannot be asked, or standard output fails.
pub fn trace(args: &TraceArgs) -> Result<Traced, ShowError> {
    let mut client = Client::connect(&args.socket.socket)?;
    let _: Value = client.ask(Command::Trace {
        packets: args.packets,
    })?;
    let deadline = Instant::now() + args.timeout;
    let mut printed = None;
    let mut lost = 0;
    loop {
        let trace: Trace = client.ask_for(Command::Records)?;
        let mut text = String::new();
        for step in &trace.steps {
            if args.json {
                text.push_str(&serde_json::to_string(step).unwrap_or_default());
                text.push('\n');
            } else {
                text.push_str(&line(step, printed));
                printed = Some(step.packet);
            }
        }
        if trace.lost > lost && !args.json {
            text.push_str(&format!(
                "{} steps were lost: the trace ring was full\n",
                trace.lost - lost
            ));
            lost = trace.lost;
        }
        if !write("", &text)? {
            return Ok(Traced::All);
        }
        // The last packet's last steps come at most one look later.
        if trace.seen >= trace.wanted && trace.steps.is_empty() {
            return Ok(Traced::All);
        }
        if Instant::now() >= deadline {
            let missing = trace.wanted.saturating_sub(trace.seen);
            return Ok(match missing {
                0 => Traced::All,
                missing => Traced::TimedOut { missing },
            });
        }
        thread::sleep(LOOK);
    }
}

/// One step; the first of a packet stands under a line that names it.
fn line(step: &Step, printed: Option<u32>) -> String {
    let mut text = String::new();
    if printed != Some(step.packet) {
        if printed.is_some() {
            text.push('\n');
        }
        text.push_str(&format!(
            "packet {} in worker {}\n",
            step.packet, step.worker
        ));
    }
    text.push_str(&format!(
        "  {:<12} {:<32} {}\n",
        step.node, step.verdict, step.summary
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_packet_stand_together() {
        let step = |packet, node: &str| Step {
            packet,
            worker: 0,
            node: node.to_owned(),
            verdict: "Continue".to_owned(),
            length: 64,
            summary: "a > b".to_owned(),
            bytes: String::new(),
        };
        let text = line(&step(1, "ingress"), None)
            + &line(&step(1, "egress"), Some(1))
            + &line(&step(2, "ingress"), Some(1));
        assert_eq!(
            text,
            "packet 1 in worker 0\n  \
               ingress      Continue                         a > b\n  \
               egress       Continue                         a > b\n\
             \npacket 2 in worker 0\n  \
               ingress      Continue                         a > b\n"
        );
    }
}
