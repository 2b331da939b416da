//! `sextant show lisp` as tables.

use std::time::Duration;

use super::super::grid::Side::{Left, Right};
use super::super::grid::{Grid, count, duration, list, or_dash};
use super::{Earlier, Shown};
use crate::admin::view::Lisp;

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
                    "{}, {} of them added at run time",
                    count(self.mappings),
                    count(self.mappings_added)
                ),
            ),
        ] {
            text.push_str(&format!("{name:<16}{value}\n"));
        }
        text + "\n"
            + &self.own()
            + "\n"
            + &self.instances()
            + "\n"
            + &self.remote()
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

    fn remote(&self) -> String {
        let columns = [
            ("rloc", Left),
            ("state", Left),
            ("mappings", Right),
            ("interface", Left),
            ("via", Left),
        ];
        let mut grid = Grid::new(&columns);
        for rloc in &self.rlocs {
            grid.row([
                rloc.address.clone(),
                rloc.state.clone(),
                count(rloc.mappings),
                or_dash(rloc.interface.as_ref()),
                or_dash(rloc.via.as_ref()),
            ]);
        }
        let text = grid.finish("no locators");
        match self.rlocs_total.saturating_sub(self.rlocs.len()) {
            0 => text,
            more => format!("{text}and {} more\n", count(more)),
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
        let counters = self.miss_counters.iter().filter(|(_, number)| **number > 0);
        let counters = counters.map(|(name, number)| format!("{name} {}", count(*number)));
        let counters: Vec<String> = counters.collect();
        if !counters.is_empty() {
            text.push_str(&format!("{}\n", counters.join(", ")));
        }
        text
    }
}
