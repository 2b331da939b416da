//! The command line: one tree, from which help, manual pages and completions are made too.

mod lisp;
mod map;
mod service;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use ipnet::IpNet;

use crate::admin::protocol::{LispPart, Subject};
use crate::admin::registrations::RegistrationsQuery;
use crate::demo::Part;
use crate::exit;
use crate::lab::peer::Peer;
use crate::proto::lisp::InstanceId;

pub use lisp::{Lisp, LispClearArgs, LispProbeArgs};
pub use map::{Map, MapAddArgs, MapDelArgs, MapDumpArgs, MapLoadArgs, MapRlocArgs, MapShowArgs};
pub use service::{DownArgs, DrainArgs, EnableArgs, ServerArgs, Service, WeightArgs};

/// Where the admin socket is when nothing else is said: the default of the configuration's `[system]`.
pub const DEFAULT_SOCKET: &str = "/run/sextant/sextant.sock";

/// An IPv6 and IPv4 edge on DPDK: forwarding, neighbour discovery, ARP, NPT66 prefix translation (RFC 6296) and LISP
/// tunnels (RFC 9300).
#[derive(Debug, Parser)]
#[command(name = "sextant", version, propagate_version = true, after_help = exit::HELP, after_long_help = exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the appliance in the foreground
    ///
    /// Reads and judges the configuration, takes its instance lock, opens the ports and forwards packets until SIGINT
    /// or SIGTERM; then ports and taps are gone again. SIGHUP reads the configuration again, as `sextant reload` does.
    Run(RunArgs),
    /// Judge a configuration file without starting anything
    ///
    /// Prints every error with file, line, column and key, and ends with 3; a right file is one line and 0.
    Check(CheckArgs),
    /// Make the running instance read its configuration file again
    ///
    /// The file is judged whole. It is applied as one change, without losing a packet of flows it does not concern, or
    /// it is refused whole: then the errors are shown here and the command ends with 3.
    Reload(ReloadArgs),
    /// Show what the running instance knows
    #[command(subcommand)]
    Show(Show),
    /// Change and show the map-cache of LISP (RFC 9300) in the running instance
    ///
    /// What is added here comes before the mapping of the configuration file for the same EID prefix, and stays until it is
    /// deleted or the instance ends; a reload keeps it.
    #[command(subcommand)]
    Map(Map),
    /// Probe locators of LISP, or forget what was learned from the mapping system, in the running instance
    #[command(subcommand)]
    Lisp(Lisp),
    /// Drain, enable and weigh the servers of services in the running instance
    ///
    /// What is said here comes before what the configuration file says, and stays until something else is said, the server
    /// is no longer in its pool, or the instance ends; a reload keeps it.
    #[command(subcommand)]
    Service(Service),
    /// Run a LISP Map-Server and Map-Resolver (RFC 9301) in the foreground, without DPDK and as an ordinary user
    ///
    /// Listens on UDP port 4342 of the addresses in its configuration, which is a file of its own kind, until SIGINT or
    /// SIGTERM. SIGHUP reads the configuration again and logs the counters.
    Mapserver(MapserverArgs),
    /// Ask a LISP Map-Resolver for the mapping of an EID (RFC 6835)
    ///
    /// Prints the prefix, its TTL, its locators and how long the answer took, and ends with 0 even if the answer is negative;
    /// ends with 1 if there was no answer. `sextant lig self` asks for each own EID prefix, and ends with 1 if one of them is
    /// not known as it is configured.
    Lig(LigArgs),
    /// Follow the next packets through the running instance, step by step
    Trace(TraceArgs),
    /// Show Linux hosts talking through Sextant, with proof
    ///
    /// Makes network namespaces and runs Sextant between them on DPDK taps: first one box that translates prefixes, then
    /// two LISP sites with tunnels between them. Checks echo, traceroute, TCP, UDP, path MTU discovery, locators that
    /// share flows and fail, and removes everything it made. Needs root and less than a minute.
    Demo(DemoArgs),
    /// Write manual pages
    ///
    /// One page to standard output, or the pages of all commands to a folder.
    Man(ManArgs),
    /// Write the completion script of a shell to standard output
    Completions(CompletionsArgs),
    /// Play a host's program in the demo and in tests
    #[command(subcommand, hide = true)]
    LabPeer(Peer),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// What is logged to standard error: error, warn, info, debug or trace, or directives by module
    #[arg(
        long,
        value_name = "LEVEL",
        env = "SEXTANT_LOG",
        default_value = "info"
    )]
    pub log: String,
}

/// Arguments of `mapserver`.
#[derive(Debug, Args)]
pub struct MapserverArgs {
    /// Configuration file, of a Map-Server
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// What is logged to standard error: error, warn, info, debug or trace, or directives by module
    #[arg(
        long,
        value_name = "LEVEL",
        env = "SEXTANT_LOG",
        default_value = "info"
    )]
    pub log: String,
}

/// What `lig` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LigTarget {
    /// An EID.
    Eid(IpAddr),
    /// Own EID prefixes.
    Own,
}

impl FromStr for LigTarget {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "self" => Ok(Self::Own),
            address => match address.parse() {
                Ok(address) => Ok(Self::Eid(address)),
                Err(_) => Err("expected an address, or `self`"),
            },
        }
    }
}

/// Arguments of `lig`.
#[derive(Debug, Args)]
pub struct LigArgs {
    /// The EID, an address; or `self`: the own EID prefixes of the running instance, or of a configuration file
    #[arg(value_name = "EID|self")]
    pub eid: LigTarget,
    /// Address of the Map-Resolver; of own EIDs those of the configuration are asked where it is left out
    #[arg(long, value_name = "RESOLVER")]
    pub to: Option<IpAddr>,
    /// Of own EIDs: those of this configuration file, asked for by this host and not by the running instance
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Of own EIDs: which instance.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Own address, to which the answer comes
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// Instance of the EID
    #[arg(long, value_name = "N", default_value = "0")]
    pub instance: InstanceId,
    /// How often to ask
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=5))]
    pub count: u32,
    /// How long to wait for an answer each time
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=5))]
    pub timeout: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
    /// Print the configuration as it is understood, with every default, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which instance to talk to.
#[derive(Debug, Clone, Args)]
pub struct SocketArgs {
    /// Admin socket of the running instance
    #[arg(short, long, value_name = "PATH", env = "SEXTANT_SOCKET", default_value = DEFAULT_SOCKET, value_hint = ValueHint::FilePath)]
    pub socket: PathBuf,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Which instance.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments that every `show` has.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Which instance.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Print JSON instead of a table; with --watch one object a line
    #[arg(long)]
    pub json: bool,
    /// Show it again and again, with rates, every SECONDS seconds
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    pub watch: Option<Duration>,
}

/// Arguments of `show lisp`.
#[derive(Debug, Args)]
pub struct ShowLispArgs {
    /// Only this part, in full
    #[arg(value_name = "PART")]
    pub part: Option<LispPart>,
    /// Of registrations with a Map-Server: only this prefix, those under it, and the one in force for its first address
    #[arg(value_name = "PREFIX", requires = "part")]
    pub prefix: Option<IpNet>,
    /// Of registrations with a Map-Server: only of this instance
    #[arg(short, long, value_name = "ID", requires = "part")]
    pub instance: Option<InstanceId>,
    /// Of registrations with a Map-Server: only of this site
    #[arg(long, value_name = "NAME", requires = "part")]
    pub site: Option<String>,
    /// How.
    #[command(flatten)]
    pub show: ShowArgs,
}

impl ShowLispArgs {
    /// What is asked of a Map-Server's registrations.
    #[must_use]
    pub fn query(&self) -> RegistrationsQuery {
        RegistrationsQuery {
            instance: self.instance,
            prefix: self.prefix,
            site: self.site.clone(),
            after: None,
        }
    }
}

/// What can be shown.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Ports: device, link, queues, packets and bytes
    Ports(ShowArgs),
    /// Interfaces: port, VLAN tags, addresses and their state
    Interfaces(ShowArgs),
    /// Workers: core, state, load, packets, and what each node of the graph did
    Workers(ShowArgs),
    /// Routes of every VRF and whether their next hops are resolved
    Routes(ShowArgs),
    /// The neighbour cache
    Neighbors(ShowArgs),
    /// NPT66 rules and what they translated
    Npt66(ShowArgs),
    /// LISP: roles, RLOCs and whether they can be used, instances, misses; or one part in full
    Lisp(ShowLispArgs),
    /// Services, pools, servers, and what went to each
    Services(ShowArgs),
    /// All counters: what came in, what went out, and where the difference is
    Counters(ShowArgs),
    /// Drops and punts by reason, with the clause that asks for each
    Drops(ShowArgs),
    /// The instance itself: process, version, memory, configuration file
    Instance(ShowArgs),
}

impl Show {
    /// The subject and how to show it.
    #[must_use]
    pub fn parts(&self) -> (Subject, &ShowArgs) {
        match self {
            Self::Ports(args) => (Subject::Ports, args),
            Self::Interfaces(args) => (Subject::Interfaces, args),
            Self::Workers(args) => (Subject::Workers, args),
            Self::Routes(args) => (Subject::Routes, args),
            Self::Neighbors(args) => (Subject::Neighbors, args),
            Self::Npt66(args) => (Subject::Npt66, args),
            Self::Lisp(args) => (Subject::Lisp, &args.show),
            Self::Services(args) => (Subject::Services, args),
            Self::Counters(args) => (Subject::Counters, args),
            Self::Drops(args) => (Subject::Drops, args),
            Self::Instance(args) => (Subject::Instance, args),
        }
    }
}

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// How many packets
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub packets: u32,
    /// Give up waiting for them after SECONDS seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    /// Print one JSON object for each step instead of text
    #[arg(long)]
    pub json: bool,
    /// Which instance.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Only this part
    #[arg(value_name = "PART")]
    pub part: Option<Part>,
    /// Leave everything up afterwards for exploring, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the pages of all commands to this folder
    #[arg(short, long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// A positive number of seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    if !(0.1..=86_400.0).contains(&seconds) {
        return Err("expected 0.1 to 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn watch_takes_an_optional_period() {
        let watch = |arguments: &[&str]| {
            let cli = Cli::try_parse_from(arguments).unwrap();
            let Command::Show(show) = cli.command else {
                panic!("a show command")
            };
            show.parts().1.watch
        };
        assert_eq!(watch(&["sextant", "show", "ports"]), None);
        assert_eq!(
            watch(&["sextant", "show", "ports", "--watch"]),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            watch(&["sextant", "show", "ports", "--watch", "0.5"]),
            Some(Duration::from_millis(500))
        );
        assert!(Cli::try_parse_from(["sextant", "show", "ports", "--watch", "0"]).is_err());
        assert!(Cli::try_parse_from(["sextant", "show", "ports", "--watch", "NaN"]).is_err());
    }

    #[test]
    fn what_is_cleared_is_said() {
        let clear = |more: &[&str]| {
            let words = [&["sextant", "lisp", "clear"], more].concat();
            Cli::try_parse_from(words).is_ok()
        };
        assert!(clear(&["--all"]) && clear(&["10.0.0.0/8"]));
        assert!(!clear(&[]) && !clear(&["--all", "10.0.0.0/8"]));
        let show = ["sextant", "show", "lisp", "rlocs", "--json"];
        let cli = Cli::try_parse_from(show).unwrap();
        let Command::Show(Show::Lisp(lisp)) = cli.command else {
            panic!("a show command")
        };
        assert!(lisp.part == Some(LispPart::Rlocs) && lisp.show.json);
    }

    #[test]
    fn every_subject_has_a_command() {
        let command = Cli::command();
        let show = command
            .find_subcommand("show")
            .expect("there is a show command");
        let names: Vec<&str> = show
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        let subjects: Vec<String> = Subject::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names, subjects);
    }
}
