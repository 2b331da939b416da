//! Each command of the command line, and what the program then ends with.

mod lig;
mod lisp;
mod map;
mod service;

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use clap::CommandFactory as _;

use crate::admin::client::{Client, ClientError};
use crate::admin::protocol::{self, Refusal};
use crate::admin::view::Reloaded;
use crate::cli::{CheckArgs, Cli, Command, DemoArgs, ManArgs, ReloadArgs};
use crate::config::{self, Config};
use crate::demo::{self, Part};
use crate::exit::Exit;
use crate::lab::{LabError, peer};
use crate::lig::LigError;
use crate::mapserver::{self, MapserverError};
use crate::run::{self, RunError};
use crate::show::{self, ShowError, Traced};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// `run`.
    #[error(transparent)]
    Run(#[from] RunError),
    /// `mapserver`.
    #[error(transparent)]
    Mapserver(#[from] MapserverError),
    /// `lig`.
    #[error(transparent)]
    Lig(#[from] LigError),
    /// `lig` without a Map-Resolver.
    #[error("nobody to ask: expected --to RESOLVER{}", but_for_self(*.is_own))]
    LigNobodyToAsk {
        /// Own EIDs were asked for.
        is_own: bool,
    },
    /// `lig self` found something else than what is configured.
    #[error("{wrong} of {count} own EID prefixes are not known as they are configured")]
    LigSelf {
        /// How many.
        wrong: usize,
        /// Of how many.
        count: usize,
    },
    /// `check` found errors.
    #[error("{0}")]
    Check(config::Errors),
    /// The running instance was asked in vain.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `show` or `trace`.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// `trace` did not see all packets.
    #[error("{missing} of {wanted} packets did not come in time")]
    TraceTimedOut {
        /// Packets that did not come.
        missing: u32,
        /// Packets that were asked for.
        wanted: u32,
    },
    /// `lisp probe` was not answered by all.
    #[error("{silent} of the locators did not answer")]
    ProbesUnanswered {
        /// How many.
        silent: usize,
    },
    /// `demo` could not go on.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A check of the demo did not hold; it has said so.
    #[error("not every check held")]
    Demo,
    /// The demo makes network namespaces.
    #[error(
        "the demo makes network namespaces and taps, for which it needs root: try `sudo sextant demo`"
    )]
    DemoNeedsRoot,
    /// A file of changes cannot be used.
    #[error("{file}{}: {why}", at_line(*.line))]
    Changes {
        /// The file.
        file: String,
        /// Line, counted from 1; 0: the file as a whole.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Something could not be written.
    #[error("cannot write {what}: {error}")]
    Output {
        /// What.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl Failure {
    /// The code the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Run(error) => error.exit(),
            Self::Mapserver(error) => error.exit(),
            Self::Lig(error) => error.exit(),
            Self::Check(_) => Exit::Configuration,
            Self::LigNobodyToAsk { .. } => Exit::Usage,
            Self::Client(error) | Self::Show(ShowError::Client(error)) => error.exit(),
            Self::DemoNeedsRoot => Exit::Unable,
            Self::Show(ShowError::NotRegistrations) => Exit::Usage,
            Self::Show(ShowError::Output(_))
            | Self::TraceTimedOut { .. }
            | Self::ProbesUnanswered { .. }
            | Self::LigSelf { .. }
            | Self::Changes { .. }
            | Self::Lab(_)
            | Self::Demo
            | Self::Output { .. } => Exit::Failed,
        }
    }

    /// What goes to standard error: one clear sentence, or the located errors of a configuration.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Check(errors)
            | Self::Run(RunError::Config(errors))
            | Self::Mapserver(MapserverError::Config(errors)) => {
                errors.render(io::stderr().is_terminal())
            }
            // The instance has located them.
            Self::Client(ClientError::Refused {
                reason: Refusal::Configuration,
                error,
            }) => format!("{}\n", error.trim_end()),
            other => format!("sextant: {other}\n"),
        }
    }

    fn output(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Output { what, error }
    }
}

fn but_for_self(is_own: bool) -> &'static str {
    match is_own {
        true => ", or map_resolvers in the configuration",
        false => " (only `lig self` knows by itself)",
    }
}

fn at_line(line: usize) -> String {
    match line {
        0 => String::new(),
        line => format!(":{line}"),
    }
}

/// Do what the command line says.
///
/// # Errors
/// With what standard error and the exit code should say.
pub fn execute(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => Ok(run::run(args)?),
        Command::Check(args) => check(args),
        Command::Reload(args) => reload(args),
        Command::Map(command) => map::execute(command),
        Command::Lisp(command) => lisp::execute(command),
        Command::Service(command) => service::execute(command),
        Command::Mapserver(args) => Ok(mapserver::run(args)?),
        Command::Lig(args) => lig::execute(args),
        Command::Show(subject) => Ok(show::show(subject)?),
        Command::Trace(args) => match show::trace(args)? {
            Traced::All => Ok(()),
            Traced::TimedOut { missing } => Err(Failure::TraceTimedOut {
                missing,
                wanted: args.packets,
            }),
        },
        Command::Demo(args) => demo(args),
        Command::Man(args) => man(args),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "sextant", &mut script);
            print(&script)
        }
        Command::LabPeer(peer) => {
            let report = peer::run(peer).map_err(Failure::output("to the other peer"))?;
            print(format!("{report}\n").as_bytes())
        }
    }
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    if config::mapserver::is_one(&args.config) {
        return check_mapserver(args);
    }
    let config = config::load(&args.config).map_err(Failure::Check)?;
    if args.json {
        let mut text = serde_json::to_string_pretty(&config).expect("its keys are strings");
        text.push('\n');
        return print(text.as_bytes());
    }
    print(format!("{}: right: {}\n", args.config.display(), contents(&config)).as_bytes())
}

/// The same for the configuration of a Map-Server.
fn check_mapserver(args: &CheckArgs) -> Result<(), Failure> {
    let config = config::mapserver::load(&args.config).map_err(Failure::Check)?;
    if args.json {
        return print(format!("{:#}\n", config.to_json()).as_bytes());
    }
    let sites = &config.settings.sites;
    let prefixes = sites.iter().map(|site| site.prefixes.len()).sum();
    let contents = [
        count(config.listen.len(), "address", "addresses"),
        count(sites.len(), "site", "sites"),
        count(prefixes, "prefix", "prefixes"),
    ];
    let (file, contents) = (args.config.display(), contents.join(", "));
    print(format!("{file}: right: a Map-Server: {contents}\n").as_bytes())
}

fn count(number: usize, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

/// What a configuration has, in words.
fn contents(config: &Config) -> String {
    let (instances, mappings) = config
        .lisp
        .as_ref()
        .map_or((0, 0), |lisp| (lisp.instances.len(), lisp.mappings.len()));
    [
        count(config.ports.len(), "port", "ports"),
        count(config.interfaces.len(), "interface", "interfaces"),
        count(config.routes.len(), "route", "routes"),
        count(
            config.neighbors.len(),
            "static neighbour",
            "static neighbours",
        ),
        count(config.npt66.len(), "NPT66 rule", "NPT66 rules"),
        count(instances, "LISP instance", "LISP instances"),
        count(mappings, "LISP mapping", "LISP mappings"),
        count(config.steering.services.len(), "service", "services"),
        count(config.workers.cores.len(), "worker", "workers"),
    ]
    .join(", ")
}

fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.socket.socket)?;
    let reloaded: Reloaded = client.ask_for(protocol::Command::Reload)?;
    let mut text = format!("{} applied\n", reloaded.config);
    if reloaded.changes.is_empty() {
        text.push_str("  nothing changed\n");
    }
    for change in reloaded.changes {
        text.push_str(&format!("  {change}\n"));
    }
    print(text.as_bytes())
}

fn demo(args: &DemoArgs) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::DemoNeedsRoot);
    }
    let program = std::env::current_exe().map_err(Failure::output("where this program is"))?;
    let parts = match &args.part {
        Some(part) => std::slice::from_ref(part),
        None => &Part::ALL[..],
    };
    if demo::run(&program, parts, args.keep)? {
        Ok(())
    } else {
        Err(Failure::Demo)
    }
}

fn man(args: &ManArgs) -> Result<(), Failure> {
    let command = Cli::command();
    let Some(folder) = &args.directory else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(Failure::output("the manual page"))?;
        return print(&page);
    };
    let write = |folder: &Path| -> io::Result<()> {
        fs::create_dir_all(folder)?;
        clap_mangen::generate_to(command, folder)
    };
    write(folder).map_err(Failure::output(folder.display().to_string()))
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        // `sextant man | head` is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::output("to standard output")(error))
        }
        _ => Ok(()),
    }
}
