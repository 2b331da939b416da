//! `sextant service`: servers drained, cut, enabled and weighed, and how they are doing.

use super::{Failure, print};
use crate::admin::client::Client;
use crate::admin::protocol::{Command, Subject};
use crate::admin::service::{ServerChange, ServiceChange};
use crate::admin::view::ServerView;
use crate::cli::{DownArgs, DrainArgs, EnableArgs, ServerArgs, Service, SocketArgs};
use crate::show;

pub(super) fn execute(command: &Service) -> Result<(), Failure> {
    match command {
        Service::Show(args) => Ok(show::subject(Subject::Services, args)?),
        Service::Drain(args) => drain(args),
        Service::Down(DownArgs { server, agent, ttl }) => {
            let mut change = change(server, ServerChange::Down);
            (change.agent, change.ttl_s) = (agent.clone(), *ttl);
            ask(change, &server.socket)
        }
        Service::Cut(args) => ask(change(args, ServerChange::Cut), &args.socket),
        Service::Enable(EnableArgs {
            server,
            force,
            agent,
        }) => {
            let to = if *force {
                ServerChange::Force
            } else {
                ServerChange::Enable
            };
            let mut change = change(server, to);
            change.agent.clone_from(agent);
            ask(change, &server.socket)
        }
        Service::Weight(args) => {
            let change = ServiceChange {
                pool: args.pool.clone(),
                server: args.server.clone(),
                change: ServerChange::Weight(args.weight),
                agent: None,
                ttl_s: None,
            };
            ask(change, &args.socket)
        }
    }
}

fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let to = match (args.deadline, args.when_idle) {
        (None, false) => ServerChange::Drain,
        (deadline_s, when_idle) => ServerChange::DrainUntil {
            deadline_s,
            when_idle,
        },
    };
    ask(change(&args.server, to), &args.server.socket)
}

fn change(args: &ServerArgs, change: ServerChange) -> ServiceChange {
    ServiceChange {
        pool: args.pool.clone(),
        server: args.server.clone(),
        change,
        agent: None,
        ttl_s: None,
    }
}

fn ask(change: ServiceChange, socket: &SocketArgs) -> Result<(), Failure> {
    let pool = change.pool.clone();
    let mut client = Client::connect(&socket.socket)?;
    let server: ServerView = client.ask_for(Command::ServiceChange(change))?;
    let (name, state, weight) = (&server.name, &server.state, server.weight);
    let share = 100.0 * server.share;
    let mut text =
        format!("{name} of {pool} is {state}, weight {weight}: {share:.1} % of new flows");
    for agent in &server.agents {
        text.push_str(&format!("; agent {} says down", agent.agent));
    }
    text.push('\n');
    print(text.as_bytes())
}
