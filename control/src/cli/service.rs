//! `sextant service`: arguments.

use clap::{Args, Subcommand};

use super::{ShowArgs, SocketArgs};

/// What can be done with services.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Services, pools, servers, and what went to each
    ///
    /// A server that is checked, by ICMPv6, TCP, HTTP, HTTPS or UDP, has what the checks came to beside it, and why the last
    /// one failed, such as the status it answered or what is wrong with its certificate.
    Show(ShowArgs),
    /// Let a server keep its flows and give it no new ones, for good or until it is idle or a time is over
    Drain(DrainArgs),
    /// Give a server nothing: its flows go to others, and break
    Down(DownArgs),
    /// Give a server nothing, and reset the TCP connections it has
    Cut(ServerArgs),
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

/// Arguments of `service drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Take it down after this time, such as 90, 90s, 15m or 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub deadline: Option<u32>,
    /// Take it down when it has no flows
    #[arg(long)]
    pub when_idle: bool,
}

/// Arguments of `service down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Who says so: an agent's word stands beside that of checks and of the operator, until it says enable
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Forget the agent's word after this time, unless it says so again
    #[arg(long, value_name = "TIME", value_parser = time, requires = "agent")]
    pub ttl: Option<u32>,
}

/// Seconds: a number of them, or of minutes or hours.
fn time(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('m') => (number, 60),
        Some(number) if text.ends_with('h') => (number, 3600),
        Some(number) => (number, 1),
        None => (text, 1),
    };
    let number: Option<u32> = number.parse().ok();
    let seconds = number.and_then(|number| number.checked_mul(unit));
    let seconds = seconds.filter(|seconds| (1..=604_800).contains(seconds));
    seconds.ok_or_else(|| "expected 1s to 168h".to_owned())
}

/// Arguments of `service enable`.
#[derive(Debug, Args)]
pub struct EnableArgs {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Whatever health checks and agents say
    #[arg(long, conflicts_with = "agent")]
    pub force: bool,
    /// Who says so: an agent takes back its own word, and nobody else's
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
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
