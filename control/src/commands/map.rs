//! `sextant map`: one change or many, and what is in the map-cache.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use super::{Failure, print};
use crate::admin::client::{Client, ClientError};
use crate::admin::map::{MapChange, MapQuery, NewMapping, RlocChange, RlocState};
use crate::admin::protocol::{Command, REQUEST_MAX};
use crate::admin::view::{MapChanged, MappingView, Mappings};
use crate::cli::{Map, MapAddArgs, MapDelArgs, MapDumpArgs, MapLoadArgs, MapRlocArgs, MapShowArgs};
use crate::proto::lisp::{EidKey, InstanceId, Locator};
use crate::show;

/// Changes sent together by `map load`, at most.
const CHUNK_CHANGES: usize = 1000;
/// Bytes of them, at most: what is around them must fit in a question too.
const CHUNK_BYTES: usize = REQUEST_MAX - 4096;

pub(super) fn execute(command: &Map) -> Result<(), Failure> {
    match command {
        Map::Add(args) => add(args),
        Map::Del(args) => delete(args),
        Map::Rloc(args) => rloc(args),
        Map::Show(args) => show_mappings(args),
        Map::Load(args) => load(args),
        Map::Dump(args) => dump(args),
    }
}

fn change(client: &mut Client, changes: Vec<MapChange>) -> Result<MapChanged, ClientError> {
    client.ask_for(Command::MapChange { changes })
}

fn add(args: &MapAddArgs) -> Result<(), Failure> {
    let new = NewMapping {
        instance: args.instance,
        eid: args.eid,
        locators: args.locators.clone(),
        map_version: args.map_version,
        action: args.action,
    };
    let key = new.key();
    let mut client = Client::connect(&args.socket.socket)?;
    change(&mut client, vec![MapChange::Add(new)])?;
    print(format!("{key} is mapped\n").as_bytes())
}

fn delete(args: &MapDelArgs) -> Result<(), Failure> {
    let key = EidKey {
        instance: args.instance,
        eid: args.eid,
    };
    let mut client = Client::connect(&args.socket.socket)?;
    change(&mut client, vec![MapChange::Delete(key)])?;
    print(format!("the mapping of {key} is deleted\n").as_bytes())
}

fn rloc(args: &MapRlocArgs) -> Result<(), Failure> {
    let (address, state) = (args.address, args.state);
    let mut client = Client::connect(&args.socket.socket)?;
    let changes = vec![MapChange::Rloc(RlocChange { address, state })];
    let changed = change(&mut client, changes)?;
    let state = match state {
        RlocState::Up => "in use",
        RlocState::Down => "out of use",
    };
    let concerned = match changed.concerned {
        0 => "no mapping names it".to_owned(),
        1 => "1 mapping names it".to_owned(),
        many => format!("{many} mappings name it"),
    };
    print(format!("{address} is {state}; {concerned}\n").as_bytes())
}

/// Every page of what is asked for, one after the other.
fn pages(
    client: &mut Client,
    mut query: MapQuery,
    mut take: impl FnMut(Vec<MappingView>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    loop {
        let page: Mappings = client.ask_for(Command::MapShow(query))?;
        if !take(page.mappings)? {
            return Ok(());
        }
        match page.more_after {
            Some(_) => query.after = page.more_after,
            None => return Ok(()),
        }
    }
}

fn show_mappings(args: &MapShowArgs) -> Result<(), Failure> {
    let query = MapQuery {
        instance: args.instance,
        prefix: args.prefix,
        ..MapQuery::default()
    };
    let mut client = Client::connect(&args.socket.socket)?;
    let mut all = Vec::new();
    pages(&mut client, query, |page| {
        all.extend(page);
        Ok(true)
    })?;
    let text = if args.json {
        let all = serde_json::json!({ "mappings": all });
        let mut text = serde_json::to_string_pretty(&all).expect("its keys are strings");
        text.push('\n');
        text
    } else {
        show::mappings(&all)
    };
    print(text.as_bytes())
}

fn load(args: &MapLoadArgs) -> Result<(), Failure> {
    let name = args.file.display().to_string();
    let failed = |line: usize, why: String| Failure::Changes {
        file: name.clone(),
        line,
        why,
    };
    let unreadable = |error: io::Error| failed(0, format!("cannot be read: {error}"));
    let input: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.file).map_err(unreadable)?))
    };
    let mut client = Client::connect(&args.socket.socket)?;
    let mut chunk = Chunk::default();
    let mut made = 0;
    let send = |client: &mut Client, chunk: Vec<(usize, MapChange)>, made: &mut usize| {
        let changes = chunk.iter().map(|(_, change)| change.clone());
        match change(client, changes.collect()) {
            Ok(changed) => {
                *made += changed.changes;
                return Ok(());
            }
            Err(ClientError::Refused { .. }) => {}
            Err(error) => return Err(Failure::from(error)),
        }
        // None of them was made. One by one, up to the mistake, so that it has its line.
        for (line, one) in chunk {
            match change(client, vec![one]) {
                Ok(changed) => *made += changed.changes,
                Err(ClientError::Refused { error, .. }) => {
                    return Err(failed(line, format!("{error}; {}", so_far(*made))));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    for (number, line) in (1..).zip(input.lines()) {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        let parsed = match serde_json::from_str::<MapChange>(&line) {
            Ok(parsed) => parsed,
            Err(error) => {
                send(&mut client, chunk.take(), &mut made)?;
                // It is the parser's only line.
                let error = error
                    .to_string()
                    .replace(" at line 1 column ", " at column ");
                return Err(failed(number, format!("{error}; {}", so_far(made))));
            }
        };
        if chunk.is_full(line.len()) {
            send(&mut client, chunk.take(), &mut made)?;
        }
        chunk.add(number, line.len(), parsed);
    }
    send(&mut client, chunk.take(), &mut made)?;
    print(format!("{}\n", so_far(made)).as_bytes())
}

fn so_far(made: usize) -> String {
    match made {
        1 => "1 change is made".to_owned(),
        many => format!("{many} changes are made"),
    }
}

/// Changes that will be sent together, each with its line.
#[derive(Default)]
struct Chunk {
    changes: Vec<(usize, MapChange)>,
    bytes: usize,
}

impl Chunk {
    /// Bytes of a change as it is sent, at most: longer than what was read by the defaults that were left out.
    fn cost(bytes: usize) -> usize {
        2 * bytes + 512
    }

    /// Whether a line of this many bytes has no room.
    fn is_full(&self, bytes: usize) -> bool {
        self.changes.len() >= CHUNK_CHANGES || self.bytes + Self::cost(bytes) > CHUNK_BYTES
    }

    fn add(&mut self, line: usize, bytes: usize, change: MapChange) {
        self.changes.push((line, change));
        self.bytes += Self::cost(bytes);
    }

    fn take(&mut self) -> Vec<(usize, MapChange)> {
        self.bytes = 0;
        std::mem::take(&mut self.changes)
    }
}

fn dump(args: &MapDumpArgs) -> Result<(), Failure> {
    let query = MapQuery {
        added: !args.all,
        ..MapQuery::default()
    };
    let mut client = Client::connect(&args.socket.socket)?;
    let mut output = BufWriter::new(io::stdout().lock());
    pages(&mut client, query, |page| {
        for mapping in page {
            let Some(new) = written(&mapping) else {
                continue;
            };
            let line = serde_json::to_string(&MapChange::Add(new)).expect("its keys are strings");
            match writeln!(output, "{line}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                written => written.map_err(Failure::output("to standard output"))?,
            }
        }
        Ok(true)
    })?;
    match output.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::output("to standard output")(error))
        }
        _ => Ok(()),
    }
}

/// A mapping as `map load` reads it; `None` where an instance of another version says what this one cannot read.
fn written(mapping: &MappingView) -> Option<NewMapping> {
    let locators = mapping.locators.iter().map(|locator| {
        Some(Locator {
            rloc: locator.rloc.parse().ok()?,
            priority: locator.priority,
            weight: locator.weight,
            up: locator.up,
        })
    });
    let action = mapping.action.as_ref();
    Some(NewMapping {
        instance: InstanceId::new(mapping.instance)?,
        eid: mapping.eid.parse().ok()?,
        locators: locators.collect::<Option<_>>()?,
        map_version: mapping.map_version,
        action: match action {
            Some(name) => Some(serde_json::from_value(name.as_str().into()).ok()?),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::LocatorView;

    #[test]
    fn what_is_dumped_is_what_is_loaded() {
        let view = MappingView {
            instance: 7,
            expires_s: None,
            eid: "2001:db8:b::/48".to_owned(),
            source: "admin".to_owned(),
            action: None,
            locators: vec![LocatorView {
                rloc: "192.0.2.3".to_owned(),
                priority: 2,
                weight: 30,
                up: false,
                state: "down".to_owned(),
                share: 0,
            }],
            map_version: 0,
            used_s: None,
        };
        let line = serde_json::to_string(&MapChange::Add(written(&view).unwrap())).unwrap();
        assert_eq!(
            line,
            r#"{"add":{"instance":7,"eid":"2001:db8:b::/48","locators":[{"rloc":"192.0.2.3","priority":2,"weight":30,"up":false}]}}"#
        );
        let view = MappingView {
            action: Some("policy_denied".to_owned()),
            locators: Vec::new(),
            ..view
        };
        let line = serde_json::to_string(&MapChange::Add(written(&view).unwrap())).unwrap();
        assert_eq!(
            line,
            r#"{"add":{"instance":7,"eid":"2001:db8:b::/48","action":"policy_denied"}}"#
        );
    }

    #[test]
    fn chunks_fit_in_a_question() {
        let line = r#"{"add":{"eid":"::/0","locators":[{"rloc":"::2"},{"rloc":"::2"},{"rloc":"::2"},{"rloc":"::2"},{"rloc":"::2"},{"rloc":"::2"},{"rloc":"::2"}]}}"#;
        let mut chunk = Chunk::default();
        for number in 0..2 * CHUNK_CHANGES {
            if chunk.is_full(line.len()) {
                break;
            }
            chunk.add(number, line.len(), serde_json::from_str(line).unwrap());
        }
        assert!(chunk.changes.len() >= 500);
        let changes = chunk.take().into_iter().map(|(_, change)| change);
        let command = Command::MapChange {
            changes: changes.collect(),
        };
        let question = serde_json::to_string(&command).unwrap();
        assert!(question.len() < CHUNK_BYTES, "{}", question.len());
    }
}
