//! `sextant show lisp` as tables.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::grid::Side::{Left, Right};
use super::super::grid::{Grid, count, duration, list, or_dash};
use super::{Earlier, Shown};
use crate::admin::view::{Lisp, MapServer, Rloc};

impl Shown for Lisp {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        if !self.configured {
            return "no [lisp] in the configuration\n".to_owned();
        }
        let mut text = String::new();
        for (name, value) in [
            ("roles", self.roles.join(", ")),
            ("underlay", self.vrf.clone()),
            ("misses", self.miss.clone()),
            (
                "mappings",
                format!(
                    "{}, {} of them added at run time, {} learned",
                    count(self.mappings),
                    count(self.mappings_added),
                    count(self.mappings_learned)
                ),
            ),
            ("resolvers", list(&self.map_resolvers)),
            ("pending", count(self.requests_pending)),
        ] {
            text.push_str(&format!("{name:<16}{value}\n"));
        }
        text + "\n"
            + &self.own()
            + "\n"
            + &self.instances()
            + "\n"
            + &self.registrations()
            + "\n"
            + &rlocs(&self.rlocs, self.rlocs_total)
            + "\n"
            + &self.missed()
    }
}

impl Lisp {
    fn own(&self) -> String {
        let columns = [
            ("own rloc", Left),
            ("interface", Left),
            ("address", Left),
            ("usable", Left),
        ];
        let mut grid = Grid::new(&columns);
        for rloc in &self.own_rlocs {
            grid.row([
                rloc.address.clone(),
                rloc.interface.clone(),
                rloc.state.clone(),
                if rloc.usable { "yes" } else { "no" }.to_owned(),
            ]);
        }
        grid.finish("no own RLOCs")
    }

    fn instances(&self) -> String {
        let columns = [
            ("instance", Right),
            ("vrf", Left),
            ("mappings", Right),
            ("own eids", Left),
            ("eid space", Left),
        ];
        let mut grid = Grid::new(&columns);
        for instance in &self.instances {
            grid.row([
                instance.id.to_string(),
                instance.vrf.clone(),
                count(instance.mappings),
                list(&instance.eids),
                list(&instance.map_request),
            ]);
        }
        grid.finish("no instances")
    }

    fn registrations(&self) -> String {
        let text = map_servers(&self.map_servers);
        match counters(&self.control_counters) {
            Some(line) => text + &line,
            None => text,
        }
    }

    fn missed(&self) -> String {
        let columns = [
            ("instance", Right),
            ("missed eid", Left),
            ("first asked by", Left),
            ("packets", Right),
            ("last", Right),
            ("waiting", Right),
        ];
        let mut grid = Grid::new(&columns);
        for miss in &self.misses {
            grid.row([
                miss.instance.to_string(),
                miss.eid.clone(),
                miss.source.clone(),
                count(miss.packets),
                duration(Duration::from_millis(miss.age_ms)),
                count(miss.waiting),
            ]);
        }
        let mut text = grid.finish("no misses lately");
        let more = self.misses_remembered.saturating_sub(self.misses.len());
        if more > 0 {
            text.push_str(&format!("and {} more\n", count(more)));
        }
        if let Some(line) = counters(&self.miss_counters) {
            text.push_str(&line);
        }
        text
    }
}

/// Where own EIDs are registered.
pub(super) fn map_servers(servers: &[MapServer]) -> String {
    let mut grid = Grid::new(&[
        ("map-server", Left),
        ("registered", Left),
        ("last notify", Right),
        ("sent", Right),
    ]);
    for server in servers {
        let ago = |seconds| duration(Duration::from_secs(seconds));
        grid.row([
            server.address.clone(),
            if server.registered { "yes" } else { "no" }.to_owned(),
            or_dash(server.notified_s.map(ago).as_ref()),
            count(server.sent),
        ]);
    }
    grid.finish("no Map-Servers")
}

/// Locators of mappings, of which there are `total`.
fn rlocs(rlocs: &[Rloc], total: usize) -> String {
    let mut grid = Grid::new(&[
        ("rloc", Left),
        ("state", Left),
        ("mappings", Right),
        ("path mtu", Right),
        ("interface", Left),
        ("via", Left),
    ]);
    for rloc in rlocs {
        grid.row([
            rloc.address.clone(),
            rloc.state.clone(),
            count(rloc.mappings),
            or_dash(rloc.path_mtu.map(|mtu| mtu.to_string()).as_ref()),
            or_dash(rloc.interface.as_ref()),
            or_dash(rloc.via.as_ref()),
        ]);
    }
    let text = grid.finish("no locators");
    match total.saturating_sub(rlocs.len()) {
        0 => text,
        more => format!("{text}and {} more\n", count(more)),
    }
}

/// What happened at all, in a line.
fn counters(counters: &BTreeMap<String, u64>) -> Option<String> {
    let counters = counters.iter().filter(|(_, number)| **number > 0);
    let counters = counters.map(|(name, number)| format!("{name} {}", count(*number)));
    let counters: Vec<String> = counters.collect();
    (!counters.is_empty()).then(|| format!("{}\n", counters.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::{LispInstance, OwnRloc, RecentMiss};

    fn shown() -> Lisp {
        Lisp {
            monotonic_ns: 1,
            configured: true,
            roles: vec!["itr".to_owned(), "etr".to_owned()],
            vrf: "main".to_owned(),
            miss: "hold".to_owned(),
            own_rlocs: vec![OwnRloc {
                address: "192.0.2.2".to_owned(),
                interface: "core".to_owned(),
                state: "tentative".to_owned(),
                usable: false,
            }],
            rlocs: vec![Rloc {
                address: "192.0.2.3".to_owned(),
                mappings: 1200,
                state: "up".to_owned(),
                reason: "answers probes".to_owned(),
                since_ms: 1000,
                round_trip_us: Some(1234),
                probes_sent: 5,
                probes_answered: 4,
                path_mtu: Some(1400),
                interface: Some("core".to_owned()),
                via: None,
            }],
            rlocs_total: 300,
            instances: vec![LispInstance {
                id: 7,
                vrf: "site".to_owned(),
                eids: vec!["10.1.0.0/16".to_owned()],
                map_request: Vec::new(),
                mappings: 1200,
            }],
            mappings: 1200,
            mappings_added: 3,
            mappings_learned: 4,
            map_resolvers: vec!["192.0.2.100".to_owned()],
            requests_pending: 2,
            map_servers: vec![MapServer {
                address: "192.0.2.101".to_owned(),
                registered: true,
                notified_s: Some(5),
                sent: 9,
            }],
            control_counters: BTreeMap::from([("registered".to_owned(), 8)]),
            misses: vec![RecentMiss {
                instance: 7,
                eid: "10.9.0.1".to_owned(),
                source: "10.1.0.10".to_owned(),
                packets: 2,
                age_ms: 1500,
                waiting: 1,
            }],
            misses_remembered: 1,
            miss_counters: BTreeMap::from([("misses".to_owned(), 2), ("expired".to_owned(), 0)]),
        }
    }

    #[test]
    fn every_part_is_a_table_and_long_ones_say_that_they_were_cut() {
        let text = shown().render(None, false);
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for expected in [
            "roles itr, etr",
            "mappings 1,200, 3 of them added at run time, 4 learned",
            "resolvers 192.0.2.100",
            "pending 2",
            "registered 8",
            "192.0.2.2 core tentative no",
            "7 site 1,200 10.1.0.0/16 -",
            "192.0.2.3 up 1,200 1400 core -",
            "and 299 more",
            "misses 2",
        ] {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected}: {lines:#?}"
            );
        }
        let server = lines.iter().find(|line| line.starts_with("192.0.2.101"));
        assert!(
            server.is_some_and(|line| line.starts_with("192.0.2.101 yes 5")),
            "{server:?}"
        );
        let missed = lines.iter().find(|line| line.starts_with("7 10.9.0.1"));
        assert!(
            missed.is_some_and(|line| line.contains("10.1.0.10 2 ")),
            "{missed:?}"
        );
        assert!(
            !text.contains("expired"),
            "what never happened is not shown"
        );
    }

    #[test]
    fn without_lisp_there_is_one_line() {
        let none = Lisp {
            configured: false,
            ..shown()
        };
        assert_eq!(none.render(None, false), "no [lisp] in the configuration\n");
    }
}
