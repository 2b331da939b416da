//! `sextant map`: arguments.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use ipnet::IpNet;

use super::SocketArgs;
use crate::admin::map::RlocState;
use crate::proto::lisp::{Action, InstanceId, Locator};

/// What can be done with the map-cache.
#[derive(Debug, Subcommand)]
pub enum Map {
    /// Map an EID prefix to locators, or say what becomes of its packets
    ///
    /// Replaces the mapping that was added before for the same prefix, and comes before the one of the configuration file.
    /// Takes effect at once; what does not fit the configuration is refused and nothing is changed.
    Add(MapAddArgs),
    /// Delete a mapping that was added
    ///
    /// If the configuration file has a mapping for the prefix, that is in force again.
    #[command(alias = "delete")]
    Del(MapDelArgs),
    /// Take a locator out of use in all mappings, or back
    ///
    /// Only the flows that went there move; they come back with it.
    Rloc(MapRlocArgs),
    /// Show mappings, their locators, and when they were last used
    Show(MapShowArgs),
    /// Make many changes, one JSON object a line
    ///
    /// Lines are {"add":{"instance":7,"eid":"2001:db8:b::/48","locators":[{"rloc":"2001:db8::3","priority":1,"weight":70}]}},
    /// {"add":{"eid":"2001:db8:c::/48","action":"drop"}}, {"delete":{"instance":7,"eid":"2001:db8:b::/48"}} and
    /// {"rloc":{"address":"2001:db8::3","state":"down"}}; empty ones are skipped. They are made in their order, up to a
    /// thousand at a time; after a mistake those behind it are not made.
    Load(MapLoadArgs),
    /// Write mappings as `sextant map load` reads them
    Dump(MapDumpArgs),
}

/// Arguments of `map add`.
#[derive(Debug, Args)]
pub struct MapAddArgs {
    /// EID prefix
    #[arg(value_name = "PREFIX")]
    pub eid: IpNet,
    /// Instance id
    #[arg(short, long, value_name = "ID", default_value = "0")]
    pub instance: InstanceId,
    /// A locator: its address, then if need be priority (0 to 255, the lowest is used, 255 never; default 1), weight (0
    /// to 100; default 100), and down, with commas between
    #[arg(
        short,
        long = "locator",
        value_name = "RLOC[,priority=P][,weight=W][,down]",
        required_unless_present = "action",
        value_parser = locator
    )]
    pub locators: Vec<Locator>,
    /// What becomes of packets instead: no_action, native, send_map_request, drop, policy_denied, auth_failure or petr
    #[arg(short, long, value_name = "ACTION", conflicts_with = "locators", value_parser = action)]
    pub action: Option<Action>,
    /// Map-version of the locators, where the configuration has map_version
    #[arg(long, value_name = "VERSION", default_value = "0", conflicts_with = "action", value_parser = clap::value_parser!(u16).range(0..=4095))]
    pub map_version: u16,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `map del`.
#[derive(Debug, Args)]
pub struct MapDelArgs {
    /// EID prefix
    #[arg(value_name = "PREFIX")]
    pub eid: IpNet,
    /// Instance id
    #[arg(short, long, value_name = "ID", default_value = "0")]
    pub instance: InstanceId,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `map rloc`.
#[derive(Debug, Args)]
pub struct MapRlocArgs {
    /// The locator's address
    #[arg(value_name = "RLOC")]
    pub address: IpAddr,
    /// What it shall be
    #[arg(value_name = "STATE")]
    pub state: RlocState,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `map show`.
#[derive(Debug, Args)]
pub struct MapShowArgs {
    /// Only this prefix, those under it, and the one a packet to its first address would otherwise use
    #[arg(value_name = "PREFIX")]
    pub prefix: Option<IpNet>,
    /// Only of this instance
    #[arg(short, long, value_name = "ID")]
    pub instance: Option<InstanceId>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `map load`.
#[derive(Debug, Args)]
pub struct MapLoadArgs {
    /// File of changes; - is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `map dump`.
#[derive(Debug, Args)]
pub struct MapDumpArgs {
    /// Those of the configuration file too, not only those that were added
    #[arg(short, long)]
    pub all: bool,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}

fn action(text: &str) -> Result<Action, String> {
    let mut actions = Action::ALL.iter().copied();
    let found = actions.find(|action| action.name() == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// `2001:db8::3,priority=1,weight=70,down`.
fn locator(text: &str) -> Result<Locator, String> {
    let mut pieces = text.split(',');
    let address = pieces.next().unwrap_or_default();
    let address = address
        .parse()
        .map_err(|_| format!("{address:?} is not an IP address such as 2001:db8::3"))?;
    let mut locator = Locator::new(address);
    for piece in pieces {
        let number = |text: &str, maximum: u8| {
            let number = text.parse().ok().filter(|number| *number <= maximum);
            number.ok_or_else(|| format!("expected 0 to {maximum} in {piece:?}"))
        };
        match piece.split_once('=') {
            Some(("priority", value)) => locator.priority = number(value, u8::MAX)?,
            Some(("weight", value)) => locator.weight = number(value, Locator::WEIGHT_MAX)?,
            None if piece == "down" => locator.up = false,
            None if piece == "up" => locator.up = true,
            _ => {
                return Err(format!(
                    "expected priority=, weight=, up or down, not {piece:?}"
                ));
            }
        }
    }
    Ok(locator)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn add(arguments: &[&str]) -> Result<MapAddArgs, String> {
        let all = ["sextant", "map", "add"].iter().chain(arguments);
        match Cli::try_parse_from(all)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Map(Map::Add(args)) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn locators_are_read_with_their_defaults() {
        let args = add(&[
            "--instance",
            "7",
            "2001:db8:b::/48",
            "--locator",
            "2001:db8:ffff::3,priority=2,weight=70",
            "--locator",
            "192.0.2.3,down",
        ])
        .unwrap();
        assert_eq!(args.instance.get(), 7);
        let first = Locator {
            priority: 2,
            weight: 70,
            ..Locator::new("2001:db8:ffff::3".parse().unwrap())
        };
        let second = Locator {
            up: false,
            ..Locator::new("192.0.2.3".parse().unwrap())
        };
        assert_eq!(args.locators, [first, second]);
        assert_eq!(
            add(&["::/0", "--action", "native"]).unwrap().action,
            Some(Action::Native)
        );
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (arguments, expected) in [
            (&["::/0"][..], "--locator"),
            (&["::/0", "--locator", "x"], "\"x\" is not an IP address"),
            (
                &["::/0", "--locator", "::1,weight=101"],
                "expected 0 to 100",
            ),
            (
                &["::/0", "--locator", "::1,wight=1"],
                "expected priority=, weight=, up or down",
            ),
            (
                &["::/0", "--action", "deny"],
                "expected one of no_action, native",
            ),
            (
                &["::/0", "--action", "drop", "--locator", "::1"],
                "cannot be used with",
            ),
            (
                &["--instance", "16777216", "::/0", "--action", "drop"],
                "expected 0 to 16777215",
            ),
            (&["2001:db8::", "--action", "drop"], "invalid"),
        ] {
            let error = add(arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
