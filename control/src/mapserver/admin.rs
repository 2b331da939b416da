//! What the Map-Server answers on its admin socket: the protocol of the box, as much of it as there is here. Each answer is
//! bounded work: registrations come by pages.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Server;
use crate::admin::protocol::{Answer, Command, LispPart, Refusal, Subject};
use crate::admin::registrations::RegistrationsQuery;
use crate::admin::view::{
    Instance, LispRegistrations, LispStatistics, RegisteredEid, RegisteredLocator, RegisteredPage,
    Reloaded,
};
use crate::proto::lisp::mapserver::{Counter, Registered, Settings, Wanted};

impl Server {
    /// The answer to a question.
    pub(super) fn answer(&mut self, now: Instant, command: Command) -> Answer {
        match command {
            Command::Ping
            | Command::Show {
                subject: Subject::Instance,
            } => Answer::done(self.show_instance(now)),
            Command::ShowLisp {
                part: LispPart::Registrations,
            } => Answer::done(self.show_registrations(now, RegistrationsQuery::default())),
            Command::RegistrationsShow(query) => Answer::done(self.show_registrations(now, query)),
            Command::ShowLisp {
                part: LispPart::Statistics,
            } => Answer::done(self.show_statistics(now)),
            Command::Reload => match self.reload() {
                Ok(changes) => Answer::done(Reloaded {
                    config: self.path.display().to_string(),
                    changes,
                }),
                Err(error) => Answer::refused(Refusal::Configuration, error),
            },
            Command::ShowLisp { part } => refused(&format!("`lisp {part}`")),
            Command::Show { subject } => refused(&format!("`{subject}`")),
            Command::Trace { .. } | Command::Records => refused("packets to trace"),
            Command::MapChange { .. } | Command::MapShow(_) | Command::LispClear { .. } => {
                refused("map-cache")
            }
            Command::LispProbe { .. } => refused("locators to probe"),
            Command::LispSelf { .. } => refused("EIDs of its own"),
            Command::ServiceChange(_) => refused("services"),
        }
    }

    fn clock(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.started);
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    fn show_instance(&self, now: Instant) -> Instance {
        Instance {
            monotonic_ns: self.clock(now),
            name: "Map-Server".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: "UDP sockets of the kernel".to_owned(),
            memory: "of the process".to_owned(),
            pid: std::process::id(),
            config: self.path.display().to_string(),
            configurations_applied: self.reloads.applied,
            configurations_refused: self.reloads.refused,
            panics: 0,
            publications: 0,
            publications_pending: 0,
            fib_bytes: 0,
        }
    }

    fn show_registrations(&self, now: Instant, query: RegistrationsQuery) -> LispRegistrations {
        let RegistrationsQuery {
            instance,
            prefix,
            site,
            after,
        } = query;
        let wanted = Wanted {
            instance,
            prefix,
            site,
            after,
        };
        let page = self.machine.page(now, &wanted);
        LispRegistrations {
            monotonic_ns: self.clock(now),
            map_servers: Vec::new(),
            eids: 0,
            registered: Some(RegisteredPage {
                total: self.machine.registrations(),
                registrations: page.registered.into_iter().map(view).collect(),
                more_after: page.more_after,
            }),
        }
    }

    fn show_statistics(&self, now: Instant) -> LispStatistics {
        let counters = self.machine.counters();
        let all = Counter::ALL.iter();
        let all = all.map(|counter| (counter.name().to_owned(), counters.count(*counter)));
        let malformed = counters
            .malformed()
            .map(|(cause, count)| (cause.to_owned(), count));
        let sockets = [("unsent".to_owned(), self.unsent)];
        LispStatistics {
            monotonic_ns: self.clock(now),
            counters: BTreeMap::from([
                ("map-server".to_owned(), all.collect()),
                ("malformed".to_owned(), malformed.collect()),
                ("sockets".to_owned(), BTreeMap::from(sockets)),
            ]),
        }
    }
}

/// What only an edge box has.
fn refused(what: &str) -> Answer {
    let error = format!(
        "this is a Map-Server, which has no {what}; it knows `show lisp registrations`, `show lisp statistics`, \
         `show instance` and `reload`"
    );
    Answer::refused(Refusal::Failed, error)
}

fn view(registered: Registered) -> RegisteredEid {
    let locators = registered.locators.iter().map(|locator| RegisteredLocator {
        rloc: locator.rloc.to_string(),
        priority: locator.priority,
        weight: locator.weight,
        reachable: locator.is_reachable,
    });
    RegisteredEid {
        instance: registered.key.instance.get(),
        eid: registered.key.eid.to_string(),
        site: registered.site,
        etr: registered.etr.to_string(),
        expires_s: registered.expires_s,
        proxy_reply: registered.proxy_reply,
        merge: registered.merge,
        locators: locators.collect(),
    }
}

/// What differs, one line each.
pub(super) fn changes(was: &Settings, wants: &Settings) -> Vec<String> {
    let mut changes = Vec::new();
    let known = |settings: &Settings, name: &str| {
        let mut sites = settings.sites.iter();
        sites.position(|site| site.name == name)
    };
    for site in &wants.sites {
        match known(was, &site.name).and_then(|at| was.sites.get(at)) {
            None => changes.push(format!("site {} is new", site.name)),
            Some(before) if before != site => changes.push(format!("site {} changes", site.name)),
            Some(_) => {}
        }
    }
    let gone = was
        .sites
        .iter()
        .filter(|site| known(wants, &site.name).is_none());
    changes.extend(gone.map(|site| format!("site {} is gone", site.name)));
    let without_sites = |settings: &Settings| Settings {
        sites: Vec::new(),
        ..settings.clone()
    };
    if without_sites(was) != without_sites(wants) {
        changes.push("times, rates or limits change".to_owned());
    }
    changes
}
