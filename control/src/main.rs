//! The binary: a table of contents. Arguments are read by [`control::cli`], each command done by
//! [`control::commands`]; `sextant run` is [`control::run`]: configuration, instance, devices, workers, reactor.

use std::process::ExitCode;

use clap::Parser as _;
use control::cli::Cli;
use control::commands;
use control::exit::Exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::execute(&cli.command) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            eprint!("{}", failure.message());
            failure.exit().into()
        }
    }
}
