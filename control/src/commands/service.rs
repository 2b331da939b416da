//! `sextant service`: servers drained, enabled and weighed, and how they are doing.

use super::{Failure, print};
use crate::admin::client::Client;
use crate::admin::protocol::{Command, Subject};
use crate::admin::service::{ServerChange, ServiceChange};
use crate::admin::view::ServerView;
use crate::cli::{ServerArgs, Service, SocketArgs};
use crate::show;

pub(super) fn execute(command: &Service) -> Result<(), Failure> {
    match command {
        Service::Show(args) => Ok(show::subject(Subject::Services, args)?),
        Service::Drain(args) => server(args, ServerChange::Drain),
        Service::Down(args) => server(args, ServerChange::Down),
        Service::Enable(args) => {
            let to = if args.force {
                ServerChange::Force
            } else {
                ServerChange::Enable
            };
            server(&args.server, to)
        }
        Service::Weight(args) => {
            let weight = ServerChange::Weight(args.weight);
            change(&args.pool, &args.server, weight, &args.socket)
        }
    }
}

fn server(args: &ServerArgs, to: ServerChange) -> Result<(), Failure> {
    change(&args.pool, &args.server, to, &args.socket)
}

fn change(pool: &str, server: &str, to: ServerChange, socket: &SocketArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&socket.socket)?;
    let server: ServerView = client.ask_for(Command::ServiceChange(ServiceChange {
        pool: pool.to_owned(),
        server: server.to_owned(),
        change: to,
    }))?;
    let (name, state, weight) = (&server.name, &server.state, server.weight);
    let share = 100.0 * server.share;
    let text = format!("{name} of {pool} is {state}, weight {weight}: {share:.1} % of new flows\n");
    print(text.as_bytes())
}
