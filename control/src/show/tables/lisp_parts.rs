//! `sextant show lisp PART` as tables.

use std::time::Duration;

use super::super::grid::Side::{Left, Right};
use super::super::grid::{Grid, count, duration, or_dash, rate};
use super::super::map;
use super::lisp::map_servers;
use super::{Earlier, Shown, with_rates};
use crate::admin::view::{
    LispDatabase, LispEvents, LispRegistrations, LispRlocs, LispSelf, LispStatistics, Mappings,
    RegisteredPage, Rloc,
};

impl Shown for Mappings {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        map::mappings(&self.mappings)
    }
}

impl Shown for LispDatabase {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        let mut eids = Grid::new(&[("instance", Right), ("own eid", Left)]);
        for own in &self.eids {
            eids.row([own.instance.to_string(), own.eid.clone()]);
        }
        let mut rlocs = Grid::new(&[
            ("own rloc", Left),
            ("priority", Right),
            ("weight", Right),
            ("reachable", Left),
        ]);
        for own in &self.rlocs {
            rlocs.row([
                own.rloc.clone(),
                own.priority.to_string(),
                own.weight.to_string(),
                if own.reachable { "yes" } else { "no" }.to_owned(),
            ]);
        }
        let eids = eids.finish("no own EIDs");
        let rlocs = rlocs.finish("no own RLOCs");
        match self.map_version {
            0 => format!("{eids}\n{rlocs}"),
            version => format!("{eids}\n{rlocs}\nmap-version {version}\n"),
        }
    }
}

impl Shown for LispRegistrations {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        if let Some(page) = &self.registered {
            return registered(page);
        }
        let text = map_servers(&self.map_servers);
        format!(
            "{text}\nown EID prefixes registered: {}\n",
            count(self.eids)
        )
    }
}

/// What is registered with a Map-Server, a line for each locator.
fn registered(page: &RegisteredPage) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let mut grid = Grid::new(&[
        ("instance", Right),
        ("eid", Left),
        ("site", Left),
        ("etr", Left),
        ("expires", Right),
        ("proxy", Left),
        ("merge", Left),
        ("rloc", Left),
        ("priority", Right),
        ("weight", Right),
        ("reachable", Left),
    ]);
    for one in &page.registrations {
        let head = [
            one.instance.to_string(),
            one.eid.clone(),
            one.site.clone(),
            one.etr.clone(),
            format!("in {} s", one.expires_s),
            yes(one.proxy_reply),
            yes(one.merge),
        ];
        for (position, locator) in one.locators.iter().enumerate() {
            let head = head.iter().map(|text| match position {
                0 => text.clone(),
                _ => String::new(),
            });
            grid.row(head.chain([
                locator.rloc.clone(),
                locator.priority.to_string(),
                locator.weight.to_string(),
                yes(locator.reachable),
            ]));
        }
    }
    let text = grid.finish("no such registrations");
    format!("{text}\nEIDs registered: {}\n", count(page.total))
}

impl Shown for LispRlocs {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        let mut grid = Grid::new(&[
            ("rloc", Left),
            ("state", Left),
            ("since", Right),
            ("reason", Left),
            ("round trip", Right),
            ("probes", Right),
            ("answered", Right),
            ("mappings", Right),
            ("path mtu", Right),
            ("interface", Left),
            ("via", Left),
        ]);
        for rloc in &self.rlocs {
            grid.row([
                rloc.address.clone(),
                rloc.state.clone(),
                duration(Duration::from_millis(rloc.since_ms)),
                rloc.reason.clone(),
                or_dash(rloc.round_trip_us.map(milliseconds)),
                count(rloc.probes_sent),
                count(rloc.probes_answered),
                count(rloc.mappings),
                or_dash(rloc.path_mtu),
                or_dash(rloc.interface.as_ref()),
                or_dash(rloc.via.as_ref()),
            ]);
        }
        let text = grid.finish("no locators");
        match self.total.saturating_sub(self.rlocs.len()) {
            0 => text,
            more => format!("{text}and {} more\n", count(more)),
        }
    }
}

/// What became of probes.
#[must_use]
pub fn probed(rlocs: &[Rloc]) -> String {
    let mut grid = Grid::new(&[
        ("rloc", Left),
        ("round trip", Right),
        ("state", Left),
        ("reason", Left),
    ]);
    for rloc in rlocs {
        let round_trip = rloc.round_trip_us.map(milliseconds);
        grid.row([
            rloc.address.clone(),
            round_trip.unwrap_or_else(|| "no answer".to_owned()),
            rloc.state.clone(),
            rloc.reason.clone(),
        ]);
    }
    grid.finish("no locators")
}

/// What the mapping system says of own EIDs.
#[must_use]
pub fn own_eids(found: &LispSelf) -> String {
    let mut grid = Grid::new(&[
        ("instance", Right),
        ("own eid", Left),
        ("known", Left),
        ("mapping system", Left),
        ("round trip", Right),
    ]);
    for own in &found.eids {
        let known = own.known.map(|known| if known { "yes" } else { "no" });
        grid.row([
            own.instance.to_string(),
            own.eid.clone(),
            known.unwrap_or("?").to_owned(),
            own.said.clone().unwrap_or_else(|| "no answer".to_owned()),
            own.round_trip_us.map(milliseconds).unwrap_or_default(),
        ]);
    }
    let grid = grid.finish("no own EIDs");
    match found.unasked {
        0 => grid,
        unasked => format!("{grid}\n{unasked} more were not asked for\n"),
    }
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
}

impl Shown for LispStatistics {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        let columns = [("group", Left), ("counter", Left), ("count", Right)];
        let mut grid = Grid::new(&with_rates(&columns, &[("/s", Right)], watch));
        for (group, counters) in &self.counters {
            for (name, number) in counters {
                let before = earlier.map(|(earlier, passed)| {
                    let group = earlier.counters.get(group);
                    let before = group.and_then(|group| group.get(name));
                    (before.copied().unwrap_or(0), passed)
                });
                let mut row = vec![group.clone(), name.clone(), count(*number)];
                if watch {
                    row.push(rate(*number, before));
                }
                grid.row(row);
            }
        }
        grid.finish("nothing was counted")
    }
}

impl Shown for LispEvents {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        let mut grid = Grid::new(&[("ago", Right), ("event", Left)]);
        for event in &self.events {
            let age = Duration::from_millis(event.age_ms);
            grid.row([duration(age), event.text.clone()]);
        }
        let text = grid.finish("nothing happened");
        match self.forgotten {
            0 => text,
            more => format!("{text}{} before them are forgotten\n", count(more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::admin::view::{DatabaseRloc, LispEvent, OwnEid, RegisteredEid, RegisteredLocator};

    fn words(text: &str) -> Vec<String> {
        let lines = text.lines();
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect()
    }

    #[test]
    fn the_database_has_eids_and_what_is_told_of_them() {
        let database = LispDatabase {
            monotonic_ns: 1,
            eids: vec![OwnEid {
                instance: 7,
                eid: "10.1.0.0/16".to_owned(),
            }],
            rlocs: vec![DatabaseRloc {
                rloc: "192.0.2.2".to_owned(),
                priority: 1,
                weight: 70,
                reachable: false,
            }],
            map_version: 5,
        };
        let expected = [
            "INSTANCE OWN EID",
            "7 10.1.0.0/16",
            "",
            "OWN RLOC PRIORITY WEIGHT REACHABLE",
            "192.0.2.2 1 70 no",
            "",
            "map-version 5",
        ];
        assert_eq!(words(&database.render(None, false)), expected);
    }

    #[test]
    fn locators_have_a_reason_and_a_round_trip() {
        let rloc = |address: &str, round_trip_us| Rloc {
            address: address.to_owned(),
            mappings: 1200,
            state: "up".to_owned(),
            reason: "answers probes".to_owned(),
            since_ms: 61_000,
            round_trip_us,
            probes_sent: 5000,
            probes_answered: 4999,
            path_mtu: None,
            interface: Some("core".to_owned()),
            via: None,
        };
        let rlocs = vec![rloc("192.0.2.3", Some(1234)), rloc("192.0.2.4", None)];
        let lines = words(&probed(&rlocs));
        assert_eq!(lines[1], "192.0.2.3 1.234 ms up answers probes");
        assert_eq!(lines[2], "192.0.2.4 no answer up answers probes");
        let shown = LispRlocs {
            monotonic_ns: 1,
            rlocs,
            total: 4097,
        };
        let lines = words(&shown.render(None, false));
        let expected = "192.0.2.3 up 1 min 1 s answers probes 1.234 ms 5,000 4,999 1,200 - core -";
        assert_eq!(lines[1], expected);
        assert!(lines[2].contains("answers probes - 5,000"), "{lines:?}");
        assert_eq!(lines[3], "and 4,095 more");
    }

    #[test]
    fn registrations_with_a_map_server_have_a_line_for_each_locator() {
        let locator = |rloc: &str, reachable| RegisteredLocator {
            rloc: rloc.to_owned(),
            priority: 1,
            weight: 50,
            reachable,
        };
        let one = RegisteredEid {
            instance: 7,
            eid: "10.1.0.0/16".to_owned(),
            site: "berlin".to_owned(),
            etr: "192.0.2.2".to_owned(),
            expires_s: 120,
            proxy_reply: true,
            merge: false,
            locators: vec![locator("192.0.2.2", true), locator("192.0.2.3", false)],
        };
        let registrations = |registrations| LispRegistrations {
            monotonic_ns: 1,
            map_servers: Vec::new(),
            eids: 0,
            registered: Some(RegisteredPage {
                total: 1234,
                registrations,
                more_after: None,
            }),
        };
        let expected = [
            "INSTANCE EID SITE ETR EXPIRES PROXY MERGE RLOC PRIORITY WEIGHT REACHABLE",
            "7 10.1.0.0/16 berlin 192.0.2.2 in 120 s yes no 192.0.2.2 1 50 yes",
            "192.0.2.3 1 50 no",
            "",
            "EIDs registered: 1,234",
        ];
        assert_eq!(
            words(&registrations(vec![one]).render(None, false)),
            expected
        );
        let none = registrations(Vec::new()).render(None, false);
        assert_eq!(
            words(&none),
            ["no such registrations", "", "EIDs registered: 1,234"]
        );
    }

    #[test]
    fn statistics_have_rates_while_watched() {
        let statistics = |number| LispStatistics {
            monotonic_ns: 1,
            counters: BTreeMap::from([(
                "control".to_owned(),
                BTreeMap::from([("sent_map_request".to_owned(), number)]),
            )]),
        };
        let (earlier, now) = (statistics(1000), statistics(3000));
        let text = now.render(Some((&earlier, Duration::from_secs(1))), true);
        assert_eq!(words(&text)[1], "control sent_map_request 3,000 2,000");
        let text = now.render(None, false);
        assert_eq!(words(&text)[1], "control sent_map_request 3,000");
    }

    #[test]
    fn events_say_how_many_were_forgotten() {
        let events = LispEvents {
            monotonic_ns: 1,
            events: vec![LispEvent {
                age_ms: 1500,
                text: "192.0.2.3 is down: no answer".to_owned(),
            }],
            forgotten: 1200,
        };
        let expected = [
            "AGO EVENT",
            "1.5 s 192.0.2.3 is down: no answer",
            "1,200 before them are forgotten",
        ];
        assert_eq!(words(&events.render(None, false)), expected);
    }
}
