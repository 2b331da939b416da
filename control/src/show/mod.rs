//! `sextant show`: asks the running instance and prints tables or JSON, once or again and again with rates.

mod grid;
mod map;
mod tables;
mod trace;

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use map::mappings;
pub use trace::{Traced, trace};

use crate::admin::client::{Client, ClientError};
use crate::admin::protocol::{Command, Subject};
use crate::admin::view;
use crate::cli::{Show, ShowArgs};
use tables::Shown;

/// Clears the terminal and starts at its top.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Why nothing could be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The instance has no answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output is broken, and not because a pipe was closed.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Run one `show` command.
///
/// # Errors
/// When the instance cannot be asked, or standard output fails.
pub fn show(command: &Show) -> Result<(), ShowError> {
    let (subject, args) = command.parts();
    self::subject(subject, args)
}

/// Show one subject.
///
/// # Errors
/// As [`show`].
pub fn subject(subject: Subject, args: &ShowArgs) -> Result<(), ShowError> {
    match subject {
        Subject::Ports => run::<view::Ports>(subject, args),
        Subject::Interfaces => run::<view::Interfaces>(subject, args),
        Subject::Workers => run::<view::Workers>(subject, args),
        Subject::Routes => run::<view::Routes>(subject, args),
        Subject::Neighbors => run::<view::Neighbors>(subject, args),
        Subject::Npt66 => run::<view::Npt66>(subject, args),
        Subject::Lisp => run::<view::Lisp>(subject, args),
        Subject::Services => run::<view::Services>(subject, args),
        Subject::Counters => run::<view::Counters>(subject, args),
        Subject::Drops => run::<view::Drops>(subject, args),
        Subject::Instance => run::<view::Instance>(subject, args),
    }
}

fn run<T: Shown + DeserializeOwned>(subject: Subject, args: &ShowArgs) -> Result<(), ShowError> {
    let mut client = Client::connect(&args.socket.socket)?;
    let mut earlier: Option<T> = None;
    let clear = args.watch.is_some() && !args.json && io::stdout().is_terminal();
    let mut due = Instant::now();
    loop {
        let text = if args.json {
            let data = client.ask(Command::Show { subject })?;
            as_json(&data, args.watch.is_some())
        } else {
            let data: T = client.ask_for(Command::Show { subject })?;
            let rates = earlier
                .as_ref()
                .and_then(|earlier| interval(earlier.monotonic_ns(), data.monotonic_ns()));
            let earlier_and_interval = earlier.as_ref().zip(rates);
            let text = match args.watch {
                Some(period) => watched(subject, period, &data.render(earlier_and_interval, true)),
                None => data.render(None, false),
            };
            earlier = Some(data);
            text
        };
        if !write(if clear { CLEAR } else { "" }, &text)? {
            return Ok(());
        }
        let Some(period) = args.watch else {
            return Ok(());
        };
        due += period;
        let now = Instant::now();
        // After a pause of the whole machine, go on from now instead of catching up.
        due = due.max(now);
        thread::sleep(due - now);
    }
}

fn interval(earlier_ns: u64, now_ns: u64) -> Option<Duration> {
    let passed = now_ns.checked_sub(earlier_ns)?;
    (passed > 0).then(|| Duration::from_nanos(passed))
}

fn as_json(data: &Value, one_line: bool) -> String {
    let text = if one_line {
        serde_json::to_string(data)
    } else {
        serde_json::to_string_pretty(data)
    };
    // A value that was parsed can be printed.
    text.unwrap_or_default() + "\n"
}

fn watched(subject: Subject, period: Duration, text: &str) -> String {
    format!(
        "sextant {subject}, every {} s\n\n{text}\n",
        period.as_secs_f64()
    )
}

/// Whether there is still somebody who reads: `sextant show ... | head` is no error.
fn write(before: &str, text: &str) -> Result<bool, ShowError> {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(before.as_bytes())
        .and_then(|()| output.write_all(text.as_bytes()))
        .and_then(|()| output.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(ShowError::Output(error)),
    }
}
