//! `sextant lig`: what it does.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, print};
use crate::admin::client::{Client, ClientError};
use crate::admin::protocol::{Command, SelfAsk};
use crate::admin::view::{LispSelf, SelfEid};
use crate::cli::{LigArgs, LigTarget};
use crate::config;
use crate::config::lisp::Lisp;
use crate::lig::{self, LigError, Question};
use crate::proto::lisp::wire::{Act, EidAddress, LocatorRecord, Record};
use crate::proto::lisp::xtr::Said;
use crate::proto::lisp::{EidKey, Locator};
use crate::show;

/// Between two looks whether answers are there.
const LOOKS_APART: Duration = Duration::from_millis(10);

pub(super) fn execute(args: &LigArgs) -> Result<(), Failure> {
    let address = match args.eid {
        LigTarget::Eid(address) => address,
        LigTarget::Own => {
            let found = match &args.config {
                Some(file) => ask_for_file(args, file)?,
                None => ask_instance(args)?,
            };
            return tell(args, &found);
        }
    };
    let to = args.to.ok_or(Failure::LigNobodyToAsk { is_own: false })?;
    let eid = EidAddress {
        instance: args.instance,
        address,
    };
    let found = lig::ask(&question(args, to, eid.host()))?;
    if args.json {
        return print(format!("{}\n", lig::json(&found)).as_bytes());
    }
    print(lig::text(&found).as_bytes())
}

fn question(args: &LigArgs, to: IpAddr, key: EidKey) -> Question {
    Question {
        to,
        from: args.from,
        key,
        count: args.count,
        timeout: Duration::from_secs(args.timeout.into()),
    }
}

/// The running instance asks, from its own RLOCs.
fn ask_instance(args: &LigArgs) -> Result<LispSelf, Failure> {
    let mut client = Client::connect(&args.socket.socket)?;
    let mut ask = |ask| -> Result<LispSelf, ClientError> {
        let to = args.to;
        client.ask_for(Command::LispSelf { to, ask })
    };
    let mut found = ask(SelfAsk::Anew)?;
    let unasked = found.unasked;
    for number in 1..=args.count {
        let deadline = Instant::now() + Duration::from_secs(args.timeout.into());
        while found.eids.iter().any(|own| own.known.is_none()) && Instant::now() < deadline {
            thread::sleep(LOOKS_APART);
            found = ask(SelfAsk::No)?;
        }
        if found.eids.iter().all(|own| own.known.is_some()) {
            break;
        }
        if number < args.count {
            found = ask(SelfAsk::Again)?;
        }
    }
    Ok(LispSelf { unasked, ..found })
}

/// This host asks for what a file has.
fn ask_for_file(args: &LigArgs, file: &Path) -> Result<LispSelf, Failure> {
    let config = config::load(file).map_err(Failure::Check)?;
    let mut eids = Vec::new();
    if let Some(lisp) = &config.lisp {
        let to = args.to.or_else(|| lisp.map_resolvers.first().copied());
        let to = to.ok_or(Failure::LigNobodyToAsk { is_own: true })?;
        for instance in &lisp.instances {
            for eid in &instance.eids {
                let key = EidKey {
                    instance: instance.id,
                    eid: *eid,
                };
                let said = match lig::ask(&question(args, to, key)) {
                    Ok(found) => {
                        let said = Said::of(&record(lisp, key), &found.records);
                        Some((said, found.round_trip))
                    }
                    Err(LigError::NoAnswer { .. }) => None,
                    Err(error) => return Err(error.into()),
                };
                eids.push(SelfEid::new(key, said));
            }
        }
    }
    Ok(LispSelf { eids, unasked: 0 })
}

/// What is registered of an own prefix.
fn record(lisp: &Lisp, key: EidKey) -> Record {
    let locators = lisp.rlocs.iter().map(|own| {
        LocatorRecord::new(Locator {
            priority: own.priority,
            weight: own.weight,
            ..Locator::new(own.rloc)
        })
    });
    Record {
        locators: locators.collect(),
        ..Record::negative(key, Act::default(), 0)
    }
}

fn tell(args: &LigArgs, found: &LispSelf) -> Result<(), Failure> {
    let text = match args.json {
        true => format!("{:#}\n", serde_json::json!(found)),
        false => show::own_eids(found),
    };
    print(text.as_bytes())?;
    let wrong = found.eids.iter().filter(|own| own.known != Some(true));
    match wrong.count() {
        0 => Ok(()),
        wrong => Err(Failure::LigSelf {
            wrong,
            count: found.eids.len(),
        }),
    }
}
