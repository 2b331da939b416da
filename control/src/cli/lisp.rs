//! `sextant lisp`: arguments.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::SocketArgs;
use crate::proto::lisp::InstanceId;

/// What can be done with what LISP knows of others.
#[derive(Debug, Subcommand)]
pub enum Lisp {
    /// Probe locators now and show how long their answers took (RFC 9301 7.1)
    ///
    /// Also where the configuration has them probed never; then nothing follows from it. Ends with 1 if one of them did not
    /// answer.
    Probe(LispProbeArgs),
    /// Forget mappings that were learned; packets ask for them again
    ///
    /// Mappings of the configuration file and those added at run time stay.
    Clear(LispClearArgs),
}

/// Arguments of `lisp probe`.
#[derive(Debug, Args)]
pub struct LispProbeArgs {
    /// A locator, or an EID, whose locators are probed; all of them where it is left out
    #[arg(value_name = "RLOC|EID")]
    pub target: Option<IpAddr>,
    /// Instance of the EID
    #[arg(short, long, value_name = "ID", default_value = "0")]
    pub instance: InstanceId,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which instance.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `lisp clear`.
#[derive(Debug, Args)]
pub struct LispClearArgs {
    /// This EID prefix and those under it
    #[arg(value_name = "PREFIX", required_unless_present = "all")]
    pub prefix: Option<IpNet>,
    /// Everything that was learned
    #[arg(long, conflicts_with = "prefix")]
    pub all: bool,
    /// Only of this instance; all of them where it is left out
    #[arg(short, long, value_name = "ID")]
    pub instance: Option<InstanceId>,
    /// Which instance.
    #[command(flatten)]
    pub socket: SocketArgs,
}
