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
pub use tables::{own_eids, probed};
pub use trace::{Traced, trace};

use crate::admin::client::{Client, ClientError};
use crate::admin::map::MapQuery;
use crate::admin::protocol::{Command, LispPart, Subject};
use crate::admin::registrations::RegistrationsQuery;
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
    /// What only registrations have was asked of another part.
    #[error("PREFIX, --instance and --site go with `sextant show lisp registrations`")]
    NotRegistrations,
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
    if let Show::Lisp(lisp) = command
        && let Some(part) = lisp.part
    {
        let query = lisp.query();
        if part == LispPart::Registrations {
            let ask = |client: &mut Client| all_registrations(client, &query);
            return run::<view::LispRegistrations>("lisp registrations", args, ask);
        }
        if query != RegistrationsQuery::default() {
            return Err(ShowError::NotRegistrations);
        }
        return show_lisp(part, args);
    }
    self::subject(subject, args)
}

/// Show one subject.
///
/// # Errors
/// As [`show`].
pub fn subject(subject: Subject, args: &ShowArgs) -> Result<(), ShowError> {
    let name = subject.to_string();
    let ask = |client: &mut Client| client.ask(Command::Show { subject });
    match subject {
        Subject::Ports => run::<view::Ports>(&name, args, ask),
        Subject::Interfaces => run::<view::Interfaces>(&name, args, ask),
        Subject::Workers => run::<view::Workers>(&name, args, ask),
        Subject::Routes => run::<view::Routes>(&name, args, ask),
        Subject::Neighbors => run::<view::Neighbors>(&name, args, ask),
        Subject::Npt66 => run::<view::Npt66>(&name, args, ask),
        Subject::Lisp => run::<view::Lisp>(&name, args, ask),
        Subject::Services => run::<view::Services>(&name, args, ask),
        Subject::Counters => run::<view::Counters>(&name, args, ask),
        Subject::Drops => run::<view::Drops>(&name, args, ask),
        Subject::Instance => run::<view::Instance>(&name, args, ask),
    }
}

fn show_lisp(part: LispPart, args: &ShowArgs) -> Result<(), ShowError> {
    let name = format!("lisp {part}");
    let ask = |client: &mut Client| client.ask(Command::ShowLisp { part });
    match part {
        LispPart::MapCache => run::<view::Mappings>(&name, args, all_mappings),
        LispPart::Database => run::<view::LispDatabase>(&name, args, ask),
        LispPart::Registrations => run::<view::LispRegistrations>(&name, args, ask),
        LispPart::Rlocs => run::<view::LispRlocs>(&name, args, ask),
        LispPart::Statistics => run::<view::LispStatistics>(&name, args, ask),
        LispPart::Events => run::<view::LispEvents>(&name, args, ask),
    }
}

/// All pages of what is registered with a Map-Server as one; of a box, where its own EIDs are registered.
fn all_registrations(
    client: &mut Client,
    query: &RegistrationsQuery,
) -> Result<Value, ClientError> {
    let part = LispPart::Registrations;
    let mut query = query.clone();
    let first = match query == RegistrationsQuery::default() {
        true => Command::ShowLisp { part },
        false => Command::RegistrationsShow(query.clone()),
    };
    let mut all: view::LispRegistrations = client.ask_for(first)?;
    if let Some(all) = &mut all.registered {
        while let Some(after) = all.more_after.take() {
            query.after = Some(after);
            let page = Command::RegistrationsShow(query.clone());
            let page: view::LispRegistrations = client.ask_for(page)?;
            let Some(page) = page.registered else {
                break;
            };
            all.registrations.extend(page.registrations);
            all.more_after = page.more_after;
        }
    }
    Ok(serde_json::to_value(all).expect("views have string keys only"))
}

/// All pages of the map-cache as one.
fn all_mappings(client: &mut Client) -> Result<Value, ClientError> {
    let part = LispPart::MapCache;
    let mut all: view::Mappings = client.ask_for(Command::ShowLisp { part })?;
    while let Some(after) = all.more_after {
        let query = MapQuery {
            after: Some(after),
            ..MapQuery::default()
        };
        let page: view::Mappings = client.ask_for(Command::MapShow(query))?;
        all.mappings.extend(page.mappings);
        all.more_after = page.more_after;
    }
    Ok(serde_json::to_value(all).expect("views have string keys only"))
}

fn run<T: Shown + DeserializeOwned>(
    name: &str,
    args: &ShowArgs,
    mut ask: impl FnMut(&mut Client) -> Result<Value, ClientError>,
) -> Result<(), ShowError> {
    let mut client = Client::connect(&args.socket.socket)?;
    let mut earlier: Option<T> = None;
    let clear = args.watch.is_some() && !args.json && io::stdout().is_terminal();
    let mut due = Instant::now();
    loop {
        let data = ask(&mut client)?;
        let text = if args.json {
            as_json(&data, args.watch.is_some())
        } else {
            let data: T = client.read(data)?;
            let rates = earlier
                .as_ref()
                .and_then(|earlier| interval(earlier.monotonic_ns(), data.monotonic_ns()));
            let earlier_and_interval = earlier.as_ref().zip(rates);
            let text = match args.watch {
                Some(period) => watched(name, period, &data.render(earlier_and_interval, true)),
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

fn watched(name: &str, period: Duration, text: &str) -> String {
    format!(
        "sextant {name}, every {} s\n\n{text}\n",
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
