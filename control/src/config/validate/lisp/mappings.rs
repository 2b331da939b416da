//! Static mappings: each prefix once, and every part of them as [`Rules`] want it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::error::Sink;
use crate::config::file::{LocatorTable, MappingTable};
use crate::config::lisp::StaticMapping;
use crate::config::lisp::rules::{Misfit, Rules};
use crate::config::problem::Problem;
use crate::config::reader::{Field, List};
use crate::config::validate::names::Seen;
use crate::proto::lisp::{Action, EidKey, Locator, Mapping};

pub(super) fn mappings(
    field: Field<Vec<MappingTable>>,
    rules: &Rules,
    rlocs_are_known: bool,
    sink: &mut Sink<'_>,
) -> Vec<StaticMapping> {
    if let (Field::Given(tables, place), Err(misfit)) = (&field, rules.check_roles())
        && !tables.is_empty()
    {
        sink.push(place, misfit.into());
    }
    let tables = field.or(Vec::new());
    let mut seen = Seen::default();
    let mut mappings = Vec::with_capacity(tables.len());
    for table in tables {
        let key = key(&table, rules, &mut seen, sink);
        let mapping = content(table, rules, rlocs_are_known, sink);
        mappings.push(StaticMapping { key, mapping });
    }
    mappings
}

fn key(
    table: &MappingTable,
    rules: &Rules,
    seen: &mut Seen<EidKey>,
    sink: &mut Sink<'_>,
) -> EidKey {
    let nothing = IpNet::from(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let key = EidKey {
        instance: table.instance.value().copied().unwrap_or_default(),
        eid: table.eid.value().copied().unwrap_or(nothing),
    };
    let (Some((_, place)), false) = (table.eid.given(), table.instance.is_invalid()) else {
        return key;
    };
    if let Err(misfit @ Misfit::UnknownInstance { .. }) = rules.check_eid(key) {
        let place = match table.instance.given() {
            Some((_, place)) => place.clone(),
            None => table.place.child("instance"),
        };
        sink.push(&place, misfit.into());
    } else if let Err(misfit) = rules.check_eid(key) {
        sink.push(place, misfit.into());
    } else if let Some(first) = seen.insert(key, place) {
        let problem = Problem::Duplicate {
            what: "mapping",
            found: key.eid.to_string(),
            scope: "prefix once in an instance",
        };
        sink.push_related(place, problem, first, "first here");
    }
    key
}

fn content(
    table: MappingTable,
    rules: &Rules,
    rlocs_are_known: bool,
    sink: &mut Sink<'_>,
) -> Mapping {
    let found = match (&table.locators, &table.action) {
        (Field::Absent, Field::Absent) => Some("it leads nowhere"),
        (Field::Absent, _) | (_, Field::Absent) => None,
        _ => Some("locators and action stand together"),
    };
    if let Some(found) = found {
        sink.push(&table.place, Misfit::Content { found }.into());
    }
    if let Some((version, place)) = table.map_version.given() {
        let judged = match &table.action {
            Field::Given(..) if *version != 0 => Err(Misfit::Version { found: *version }),
            _ => rules.check_version(*version),
        };
        if let Err(misfit) = judged {
            sink.push(place, misfit.into());
        }
    }
    if let Some((action, place)) = table.action.given()
        && let Err(misfit) = rules.check_action(*action)
    {
        sink.push(place, misfit.into());
    }
    if let Field::Given(list, _) = table.locators {
        let version = table.map_version.or(0);
        let locators = locators(list, rules, rlocs_are_known, sink);
        return Mapping::Locators { locators, version };
    }
    Mapping::Negative(table.action.or(Action::NoAction))
}

fn locators(
    list: List<LocatorTable>,
    rules: &Rules,
    rlocs_are_known: bool,
    sink: &mut Sink<'_>,
) -> Vec<Locator> {
    let mut seen = Seen::default();
    let mut locators = Vec::with_capacity(list.items.len());
    for (table, _) in list.items {
        let Some((rloc, place)) = table.rloc.given() else {
            continue;
        };
        if let Err(misfit) = rules.check_rloc(*rloc)
            && (rlocs_are_known || matches!(misfit, Misfit::NotRloc { .. }))
        {
            sink.push(place, misfit.into());
        }
        if let Some(first) = seen.insert(*rloc, place) {
            let found = *rloc;
            let misfit = Misfit::LocatorTwice { found };
            sink.push_related(place, misfit.into(), first, "first here");
        }
        let default = Locator::new(*rloc);
        locators.push(Locator {
            rloc: *rloc,
            priority: table.priority.or(default.priority),
            weight: table.weight.or(default.weight),
            up: table.up.or(default.up),
        });
    }
    locators
}
