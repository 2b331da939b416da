//! `sextant lisp`: what it does.

use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, count, print};
use crate::admin::client::{Client, ClientError};
use crate::admin::protocol::Command;
use crate::admin::view::{LispCleared, LispRlocs};
use crate::cli::{Lisp, LispClearArgs, LispProbeArgs};
use crate::show;

/// How long answers may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether they are there.
const LOOKS_APART: Duration = Duration::from_millis(10);

pub(super) fn execute(command: &Lisp) -> Result<(), Failure> {
    match command {
        Lisp::Probe(args) => probe(args),
        Lisp::Clear(args) => clear(args),
    }
}

fn probe(args: &LispProbeArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.socket.socket)?;
    let mut ask = |send| -> Result<LispRlocs, ClientError> {
        client.ask_for(Command::LispProbe {
            instance: args.instance,
            target: args.target,
            send,
        })
    };
    let begun = Instant::now();
    let before = ask(true)?;
    let mut now = before.clone();
    let is_answered = |now: &LispRlocs, position: usize| {
        let answered = |rlocs: &LispRlocs| rlocs.rlocs.get(position).map(|r| r.probes_answered);
        answered(now) > answered(&before)
    };
    let all = 0..before.rlocs.len();
    while !all.clone().all(|position| is_answered(&now, position)) && begun.elapsed() < PATIENCE {
        thread::sleep(LOOKS_APART);
        now = ask(false)?;
    }
    let silent = all.filter(|position| !is_answered(&now, *position)).count();
    for (position, rloc) in now.rlocs.iter_mut().enumerate() {
        if before
            .rlocs
            .get(position)
            .is_none_or(|b| b.probes_answered >= rloc.probes_answered)
        {
            // Of an earlier probe.
            rloc.round_trip_us = None;
        }
    }
    let text = if args.json {
        format!("{:#}\n", serde_json::json!({ "rlocs": now.rlocs }))
    } else {
        show::probed(&now.rlocs)
    };
    print(text.as_bytes())?;
    match silent {
        0 => Ok(()),
        silent => Err(Failure::ProbesUnanswered { silent }),
    }
}

fn clear(args: &LispClearArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.socket.socket)?;
    let cleared: LispCleared = client.ask_for(Command::LispClear {
        instance: args.instance,
        prefix: args.prefix,
    })?;
    let forgotten = count(cleared.forgotten, "learned mapping", "learned mappings");
    print(format!("{forgotten} forgotten\n").as_bytes())
}
