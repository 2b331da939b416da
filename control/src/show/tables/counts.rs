//! What was counted as tables: workers and the graph, drops and punts by reason, and everything at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::grid::Side::{Left, Right};
use super::super::grid::{Grid, count, or_dash, percent, rate};
use super::{Earlier, Shown, field, part, port_traffic, rule_traffic, with_rates};
use crate::admin::view::{
    Count, Counters, Drops, PortCounters, RuleCounters, Totals, Worker, Workers,
};

impl Shown for Workers {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        workers(&self.workers, watch, |index| {
            part(earlier, |workers| {
                workers.workers.iter().find(|worker| worker.index == index)
            })
        })
    }
}

fn workers<'a>(
    workers: &[Worker],
    watch: bool,
    earlier: impl Fn(usize) -> Earlier<'a, Worker>,
) -> String {
    let columns = with_rates(
        &[
            ("worker", Right),
            ("core", Right),
            ("state", Left),
            ("polls", Right),
            ("busy", Right),
            ("rx", Right),
            ("tx", Right),
            ("injected", Right),
            ("spread in", Right),
            ("spread out", Right),
        ],
        &[("busy now", Right), ("rx/s", Right), ("tx/s", Right)],
        watch,
    );
    let mut grid = Grid::new(&columns);
    let mut nodes = Grid::new(&[
        ("worker", Right),
        ("node", Left),
        ("calls", Right),
        ("frames", Right),
        ("frames/call", Right),
    ]);
    let mut setbacks = String::new();
    for worker in workers {
        let earlier = earlier(worker.index);
        let mut row = vec![
            worker.index.to_string(),
            or_dash(worker.core),
            worker.state.clone(),
            count(worker.polls),
            percent(worker.busy_polls, worker.polls),
            count(worker.rx),
            count(worker.tx),
            count(worker.injected),
            count(worker.spread_in),
            count(worker.spread_out),
        ];
        if watch {
            let busy_now = earlier.map(|(earlier, _)| {
                percent(
                    worker.busy_polls.saturating_sub(earlier.busy_polls),
                    worker.polls.saturating_sub(earlier.polls),
                )
            });
            row.extend([
                or_dash(busy_now),
                rate(worker.rx, field(earlier, |worker| worker.rx)),
                rate(worker.tx, field(earlier, |worker| worker.tx)),
            ]);
        }
        grid.row(row);
        if let Some(cause) = &worker.cause {
            let (index, panics) = (worker.index, worker.panics);
            setbacks.push_str(&match worker.state.as_str() {
                "dead" => format!("worker {index} died: {cause}\n"),
                _ => format!("worker {index} panicked and went on, {panics} times: {cause}\n"),
            });
        }
        for node in worker.nodes.iter().filter(|node| node.calls > 0) {
            // `as`: shown with one decimal.
            let per_call = node.frames as f64 / node.calls as f64;
            nodes.row([
                worker.index.to_string(),
                node.name.clone(),
                count(node.calls),
                count(node.frames),
                format!("{per_call:.1}"),
            ]);
        }
    }
    format!(
        "{}{setbacks}\n{}",
        grid.finish("no workers"),
        nodes.finish("no packet yet")
    )
}

impl Shown for Drops {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        let lists = |read: fn(&Self) -> &[Count]| {
            (
                read(self),
                earlier.map(|(earlier, passed)| (read(earlier), passed)),
            )
        };
        reasons(
            [
                lists(|drops| &drops.drops),
                lists(|drops| &drops.punts),
                lists(|drops| &drops.control),
            ],
            watch,
        )
    }
}

/// Reasons now, and earlier.
type Reasons<'a> = (&'a [Count], Option<(&'a [Count], Duration)>);

/// Drops, punts and what the control thread discarded; reasons that never happened are left out.
fn reasons([drops, punts, control]: [Reasons<'_>; 3], watch: bool) -> String {
    let columns = with_rates(
        &[("", Left), ("reason", Left), ("packets", Right)],
        &[("per second", Right)],
        watch,
    );
    let mut columns = columns;
    columns.extend([("clause", Left), ("meaning", Left)]);
    let mut grid = Grid::new(&columns);
    for (kind, (counts, earlier)) in [("drop", drops), ("punt", punts), ("control", control)] {
        for reason in counts.iter().filter(|reason| reason.count > 0) {
            let mut row = vec![kind.to_owned(), reason.name.clone(), count(reason.count)];
            if watch {
                let before = earlier.and_then(|(counts, passed)| {
                    let before = counts.iter().find(|before| before.name == reason.name)?;
                    Some((before.count, passed))
                });
                row.push(rate(reason.count, before));
            }
            row.extend([reason.rfc.clone(), reason.text.clone()]);
            grid.row(row);
        }
    }
    grid.finish("nothing was dropped or punted")
}

impl Shown for Counters {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        let lists = |read: fn(&Self) -> &[Count]| {
            (
                read(self),
                earlier.map(|(earlier, passed)| (read(earlier), passed)),
            )
        };
        let ports: Vec<&PortCounters> = self.ports.iter().collect();
        let rules: Vec<&RuleCounters> = self.npt66.iter().collect();
        let mut text = totals(&self.totals, part(earlier, |all| Some(&all.totals)), watch);
        text.push('\n');
        text.push_str(&port_traffic(&ports, watch, |name| {
            part(earlier, |all| {
                all.ports.iter().find(|port| port.name == name)
            })
        }));
        text.push('\n');
        if !rules.is_empty() {
            text.push_str(&rule_traffic(&rules, watch, |name| {
                part(earlier, |all| {
                    all.npt66.iter().find(|rule| rule.name == name)
                })
            }));
            text.push('\n');
        }
        text.push_str(&reasons(
            [
                lists(|all| &all.drops),
                lists(|all| &all.punts),
                lists(|all| &all.control),
            ],
            watch,
        ));
        text.push('\n');
        text.push_str(&workers(&self.workers, watch, |index| {
            part(earlier, |all| {
                all.workers.iter().find(|worker| worker.index == index)
            })
        }));
        let neighbor_discovery = named(&self.ndp);
        if !neighbor_discovery.is_empty() {
            text.push('\n');
            text.push_str(&neighbor_discovery);
        }
        text
    }
}

fn totals(totals: &Totals, earlier: Earlier<'_, Totals>, watch: bool) -> String {
    type Read = fn(&Totals) -> u64;
    let rows: [(&str, Read); 9] = [
        ("received", |totals| totals.rx),
        ("injected", |totals| totals.injected),
        ("generated", |totals| totals.generated),
        ("sent", |totals| totals.tx),
        ("dropped", |totals| totals.drops),
        ("punted", |totals| totals.punts),
        ("errors over the rate", |totals| totals.errors_limited),
        ("encapsulated", |totals| totals.encapsulated),
        ("decapsulated", |totals| totals.decapsulated),
    ];
    let columns = with_rates(
        &[("total", Left), ("packets", Right)],
        &[("per second", Right)],
        watch,
    );
    let mut grid = Grid::new(&columns);
    for (name, read) in rows {
        let mut row = vec![name.to_owned(), count(read(totals))];
        if watch {
            row.push(rate(read(totals), field(earlier, read)));
        }
        grid.row(row);
    }
    grid.finish("")
}

/// Counters that are not zero.
fn named(counters: &BTreeMap<String, u64>) -> String {
    let mut grid = Grid::new(&[("neighbour discovery", Left), ("count", Right)]);
    for (name, value) in counters.iter().filter(|(_, value)| **value > 0) {
        grid.row([name.clone(), count(*value)]);
    }
    grid.finish("").trim_start_matches('\n').to_owned()
}
