//! The configuration: one TOML file, read and judged whole before anything of it is used.
//!
//! `text -> syntax -> tree -> file (each value by itself) -> validate (how they fit) -> model`. Every stage goes on
//! after an error, so one pass reports all of them, each with file, line, column and key. A configuration with an
//! error is not returned at all. The format is documented at [`Config`]; `control/examples/` has whole files.
//!
//! Called by the control thread at start and on reload, and by `sextant check`, which starts nothing.

mod error;
mod file;
pub mod health;
mod host;
pub mod lisp;
pub mod mapserver;
mod model;
mod problem;
mod reader;
mod reload;
mod scalar;
pub mod steering;
mod suggest;
mod syntax;
mod validate;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use error::{ConfigError, Errors};
pub use host::Host;
pub use model::{
    Config, Device, HugePages, Icmp, Interface, Ndp, Neighbor, NextHop, Npt66, Poll, Port, Punt,
    Rate, Route, System, Target, Workers, ZeroIid,
};
pub use problem::Problem;
pub use reload::{RestartNeeded, reload_plan};
pub(crate) use validate::{unusable_address, unusable_prefix};

/// Longer files are refused: half a million routes fit in it.
const FILE_MAX: u64 = 64 << 20;

/// Read and judge a file for the machine this process runs on.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn load(path: &Path) -> Result<Config, Errors> {
    let name = path.display().to_string();
    let bytes = read(path).map_err(|problem| Errors::of_file(&name, problem))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text),
        Err(error) => Err(not_utf8(&name, &bytes, error.valid_up_to())),
    }
}

/// Judge a text for the machine this process runs on; `name` is what errors call the file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse(name: &str, text: &str) -> Result<Config, Errors> {
    parse_for(name, text, Host::of_this_process())
}

/// Judge a text for any machine.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn parse_for(name: &str, text: &str, host: &Host) -> Result<Config, Errors> {
    let mut sink = error::Sink::new(name, text);
    let readable = syntax::set_broken_statements_aside(text, &mut sink);
    let tree = syntax::parse(&readable, &mut sink);
    let file = file::read(&tree, &mut sink);
    // How the parts fit is only known when all of them are.
    let config = (!sink.has_gaps()).then(|| validate::validate(file, host, &mut sink));
    sink.finish(config)
        .map(|config| config.expect("gaps come with errors"))
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| Problem::Unreadable(error.to_string());
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= FILE_MAX => Ok(bytes),
        _ => Err(Problem::TooLong { maximum: FILE_MAX }),
    }
}

fn not_utf8(name: &str, bytes: &[u8], offset: usize) -> Errors {
    // Up to the bad byte the text is as it was, so the offset still points at it.
    let text = String::from_utf8_lossy(bytes);
    let byte = bytes.get(offset).copied().unwrap_or_default();
    let place = error::Place {
        span: offset..offset + 1,
        key: String::new(),
    };
    let mut sink = error::Sink::new(name, &text);
    sink.push(&place, Problem::NotUtf8 { byte });
    sink.finish(()).expect_err("an error was pushed")
}
