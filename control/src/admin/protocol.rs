//! The admin protocol: one JSON object a line, a question and its answer, over a unix socket.
//!
//! ```text
//! {"version":1,"command":"show","subject":"ports"}
//! {"ok":true,"data":{"monotonic_ns":1,"ports":[]}}
//! {"version":1,"command":"show","subject":"prots"}
//! {"ok":false,"error":"unknown variant `prots`, expected ..."}
//! ```
//!
//! A connection may ask any number of questions. What `data` holds is in [`super::view`]. Fields may be added within a
//! version; an answer never loses one.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::map::{MapChange, MapQuery};
use super::registrations::RegistrationsQuery;
use super::service::ServiceChange;
use crate::proto::lisp::InstanceId;

/// The version this program speaks.
pub const VERSION: u32 = 1;

/// Longest question, bytes with its newline.
pub const REQUEST_MAX: usize = 1 << 20;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The protocol's version, [`VERSION`].
    pub version: u32,
    /// What is asked.
    #[serde(flatten)]
    pub command: Command,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Are you there, and who are you? Answered as [`Subject::Instance`].
    Ping,
    /// State or counters.
    Show {
        /// Of what.
        subject: Subject,
    },
    /// One part of what is known of LISP; of the map-cache the first page, [`Command::MapShow`] has the others. A Map-Server
    /// without an edge answers those it has.
    ShowLisp {
        /// Which.
        part: LispPart,
    },
    /// Read the configuration file again.
    Reload,
    /// Trace the next packets; what an earlier trace left is forgotten.
    Trace {
        /// How many.
        packets: u32,
    },
    /// The records of the trace since the last question.
    Records,
    /// Change the map-cache, all or nothing.
    MapChange {
        /// In this order.
        changes: Vec<MapChange>,
    },
    /// Probe locators, or see what became of it.
    LispProbe {
        /// Of the EID.
        #[serde(default)]
        instance: InstanceId,
        /// A locator, or an EID, whose locators are meant; all of them where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<IpAddr>,
        /// Whether they are probed now.
        send: bool,
    },
    /// Ask the mapping system for own EIDs, or see what became of it.
    LispSelf {
        /// Which Map-Resolver is asked; those of the configuration where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<IpAddr>,
        /// Whether it is asked now.
        ask: SelfAsk,
    },
    /// Forget what was learned from the mapping system.
    LispClear {
        /// Of this instance; of all where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
        /// For this prefix and those under it; for all where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<IpNet>,
    },
    /// Read the map-cache, page by page.
    MapShow(MapQuery),
    /// Read what is registered with a Map-Server, page by page.
    RegistrationsShow(RegistrationsQuery),
    /// Change a server of a pool.
    ServiceChange(ServiceChange),
}

/// Which own EIDs the mapping system is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfAsk {
    /// All of them.
    Anew,
    /// Those of which nothing was said yet.
    Again,
    /// None.
    No,
}

macro_rules! subjects {
    ($($variant:ident = $name:literal,)*) => {
        /// What can be shown.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Subject {
            $(#[doc = concat!("`sextant show ", $name, "`.")] $variant,)*
        }

        impl Subject {
            /// All of them, in the order of the help.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        impl fmt::Display for Subject {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name,)*
                })
            }
        }
    };
}

subjects! {
    Ports = "ports",
    Interfaces = "interfaces",
    Workers = "workers",
    Routes = "routes",
    Neighbors = "neighbors",
    Npt66 = "npt66",
    Lisp = "lisp",
    Services = "services",
    Counters = "counters",
    Drops = "drops",
    Instance = "instance",
}

/// A part of LISP that can be shown by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LispPart {
    /// Mappings in force and their locators
    MapCache,
    /// Own EID prefixes and the RLOCs that are told of them
    Database,
    /// Registrations: where own EIDs are registered, or who registered with this Map-Server
    Registrations,
    /// Locators: why each can be used or not, since when, and what probes found
    Rlocs,
    /// What was counted: control messages, probes, misses
    Statistics,
    /// What happened lately, and why
    Events,
}

impl fmt::Display for LispPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MapCache => "map-cache",
            Self::Database => "database",
            Self::Registrations => "registrations",
            Self::Rlocs => "rlocs",
            Self::Statistics => "statistics",
            Self::Events => "events",
        })
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it could be done.
    pub ok: bool,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What kind of failure, for the exit code of the program that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
}

/// What kind of failure an answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The question was not understood.
    Request,
    /// The configuration file was refused; the old configuration is in force.
    Configuration,
    /// The instance could not do it.
    Failed,
}

impl Answer {
    /// Done; this is what was asked for.
    ///
    /// # Panics
    /// Never: the views are made of strings, numbers and lists.
    #[must_use]
    pub fn done(data: impl Serialize) -> Self {
        let data = serde_json::to_value(data).expect("views have string keys only");
        Self {
            ok: true,
            data,
            error: None,
            reason: None,
        }
    }

    /// Not done.
    #[must_use]
    pub fn refused(reason: Refusal, error: impl fmt::Display) -> Self {
        Self {
            ok: false,
            data: Value::Null,
            error: Some(error.to_string()),
            reason: Some(reason),
        }
    }

    /// The line that carries it, with its newline.
    ///
    /// # Panics
    /// Never, as for [`Answer::done`].
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("an answer has string keys only");
        line.push('\n');
        line
    }
}

/// Read a question.
///
/// # Errors
/// With the answer that says what was wrong.
pub fn parse_request(line: &[u8]) -> Result<Command, Answer> {
    /// What every version of the protocol has.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let not_understood = |error: serde_json::Error| Answer::refused(Refusal::Request, error);
    let Versioned { version } = serde_json::from_slice(line).map_err(not_understood)?;
    if version != VERSION {
        return Err(Answer::refused(
            Refusal::Request,
            format_args!("protocol version {version} is not known here, only {VERSION}"),
        ));
    }
    // Not as a `Request`: that would copy everything once more, and a question may have thousands of changes.
    serde_json::from_slice(line).map_err(not_understood)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn questions_have_the_documented_form() {
        let line = br#"{"version":1,"command":"show","subject":"ports"}"#;
        let command = Command::Show {
            subject: Subject::Ports,
        };
        assert_eq!(parse_request(line), Ok(command.clone()));
        let request = Request {
            version: VERSION,
            command,
        };
        assert_eq!(serde_json::to_vec(&request).unwrap(), line);
        let line = br#"{"version":1,"command":"trace","packets":3}"#;
        assert_eq!(parse_request(line), Ok(Command::Trace { packets: 3 }));
        let line = br#"{"version":1,"command":"reload"}"#;
        assert_eq!(parse_request(line), Ok(Command::Reload));
    }

    #[test]
    fn names_in_json_and_on_the_command_line_are_the_same() {
        for subject in Subject::ALL {
            assert_eq!(serde_json::to_value(subject).unwrap(), subject.to_string());
        }
        for part in LispPart::value_variants() {
            let argument = part.to_possible_value().expect("none is hidden");
            assert_eq!(argument.get_name(), part.to_string());
            assert_eq!(serde_json::to_value(part).unwrap(), part.to_string());
        }
    }

    #[test]
    fn another_version_is_refused_by_its_number_even_if_the_rest_is_unknown() {
        let answer = parse_request(br#"{"version":2,"command":"dance"}"#).unwrap_err();
        assert_eq!(
            answer.error.as_deref(),
            Some("protocol version 2 is not known here, only 1")
        );
    }

    #[test]
    fn what_is_not_understood_is_answered_with_what_was_expected() {
        for (line, expected) in [
            (&b"hello"[..], "expected value"),
            (b"{}", "missing field `version`"),
            (br#"{"version":1}"#, "missing field `command`"),
            (
                br#"{"version":1,"command":"show","subject":"prots"}"#,
                "expected one of `ports`",
            ),
            (
                br#"{"version":1,"command":"trace"}"#,
                "missing field `packets`",
            ),
            (b"\xff\xfe", "expected value"),
        ] {
            let answer = parse_request(line).unwrap_err();
            assert!(!answer.ok);
            assert_eq!(answer.reason, Some(Refusal::Request));
            let error = answer.error.unwrap();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn answers_have_the_documented_form() {
        assert_eq!(
            Answer::done([1, 2]).to_line(),
            "{\"ok\":true,\"data\":[1,2]}\n"
        );
        let refused = Answer::refused(Refusal::Failed, "no").to_line();
        assert_eq!(
            refused,
            "{\"ok\":false,\"error\":\"no\",\"reason\":\"failed\"}\n"
        );
    }
}
