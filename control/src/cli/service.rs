//! `sextant service`: arguments.

use clap::{Args, Subcommand};

use super::{ShowArgs, SocketArgs};

/// What can be done with services.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Services, pools, servers, and what went to each
    Show(ShowArgs),
    /// Let a server keep its flows and give it no new ones
    Drain(ServerArgs),
    /// Give a server nothing: its flows go to others, and break
    Down(ServerArgs),
    /// Give a server new flows, whatever was said before, as long as checks find it healthy
    Enable(EnableArgs),
    /// Change a server's share of new flows
    Weight(WeightArgs),
}

/// Which server.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Name of the pool
    #[arg(value_name = "POOL")]
    pub pool: String,
    /// Name or address of the server
    #[arg(value_name = "SERVER")]
    pub server: String,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Arguments of `service enable`.
#[derive(Debug, Args)]
pub struct EnableArgs {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Whatever health checks say
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `service weight`.
#[derive(Debug, Args)]
pub struct WeightArgs {
    /// Name of the pool
    #[arg(value_name = "POOL")]
    pub pool: String,
    /// Name or address of the server
    #[arg(value_name = "SERVER")]
    pub server: String,
    /// Its share among the servers of the pool, 1 to 256
    #[arg(value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub weight: u16,
    /// Which instance of sextant.
    #[command(flatten)]
    pub socket: SocketArgs,
}
