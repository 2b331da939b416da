//! Each subject as tables. With `--watch` columns of rates are added.

mod counts;
mod lisp;
mod lisp_parts;
mod service;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use lisp_parts::{own_eids, probed};

use super::grid::Side::{Left, Right};
use super::grid::{Grid, Side, bit_rate, count, duration, list, or_dash, rate};
use crate::admin::view::{
    Instance, Interfaces, Neighbors, Npt66, PortCounters, Ports, Routes, RuleCounters,
};

/// An earlier answer and the time since.
pub(super) type Earlier<'a, T> = Option<(&'a T, Duration)>;

/// An answer that can be shown as tables.
pub(super) trait Shown: Sized {
    /// When it was given, by the instance's clock.
    fn monotonic_ns(&self) -> u64;

    /// As text; `watch`: with rates since `earlier`.
    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String;
}

/// The part of an earlier answer that belongs to a row.
fn part<'a, T, U>(
    earlier: Earlier<'a, T>,
    find: impl FnOnce(&'a T) -> Option<&'a U>,
) -> Earlier<'a, U> {
    let (earlier, passed) = earlier?;
    Some((find(earlier)?, passed))
}

/// One counter of an earlier row.
fn field<T>(earlier: Earlier<'_, T>, read: impl FnOnce(&T) -> u64) -> Option<(u64, Duration)> {
    earlier.map(|(earlier, passed)| (read(earlier), passed))
}

fn with_rates<'a>(
    columns: &[(&'a str, Side)],
    rates: &[(&'a str, Side)],
    watch: bool,
) -> Vec<(&'a str, Side)> {
    let mut all = columns.to_vec();
    if watch {
        all.extend(rates);
    }
    all
}

impl Shown for Ports {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        let mut devices = Grid::new(&[
            ("port", Left),
            ("link", Left),
            ("speed", Right),
            ("mac", Left),
            ("mtu", Right),
            ("queues", Left),
            ("driver", Left),
            ("device", Left),
        ]);
        for port in &self.ports {
            devices.row([
                port.counters.name.clone(),
                if port.link.up { "up" } else { "down" }.to_owned(),
                or_dash(port.link.speed_mbps.map(|speed| format!("{speed} Mbit/s"))),
                port.mac.clone(),
                port.mtu.to_string(),
                format!("{} rx, {} tx", port.rx_queues, port.tx_queues),
                port.driver.clone(),
                port.device_string.clone(),
            ]);
        }
        let counters: Vec<&PortCounters> = self.ports.iter().map(|port| &port.counters).collect();
        let traffic = port_traffic(&counters, watch, |name| {
            part(earlier, |ports| {
                let mut ports = ports.ports.iter().map(|port| &port.counters);
                ports.find(|port| port.name == name)
            })
        });
        format!("{}\n{traffic}", devices.finish("no ports"))
    }
}

fn port_traffic<'a>(
    ports: &[&PortCounters],
    watch: bool,
    earlier: impl Fn(&str) -> Earlier<'a, PortCounters>,
) -> String {
    let columns = with_rates(
        &[
            ("port", Left),
            ("rx packets", Right),
            ("rx bytes", Right),
            ("tx packets", Right),
            ("tx bytes", Right),
        ],
        &[
            ("rx/s", Right),
            ("rx", Right),
            ("tx/s", Right),
            ("tx", Right),
        ],
        watch,
    );
    let mut grid = Grid::new(&columns);
    let mut own = String::new();
    for port in ports {
        let earlier = earlier(&port.name);
        let mut row = vec![
            port.name.clone(),
            count(port.rx_packets),
            count(port.rx_bytes),
            count(port.tx_packets),
            count(port.tx_bytes),
        ];
        if watch {
            row.extend([
                rate(port.rx_packets, field(earlier, |port| port.rx_packets)),
                bit_rate(port.rx_bytes, field(earlier, |port| port.rx_bytes)),
                rate(port.tx_packets, field(earlier, |port| port.tx_packets)),
                bit_rate(port.tx_bytes, field(earlier, |port| port.tx_bytes)),
            ]);
        }
        grid.row(row);
        let lost: Vec<String> = ["rx_missed", "rx_errors", "tx_errors", "rx_no_buffer"]
            .iter()
            .filter_map(|name| Some((name, *port.device.get(*name)?)))
            .filter(|(_, value)| *value > 0)
            .map(|(name, value)| format!("{name} {}", count(value)))
            .collect();
        if !lost.is_empty() {
            own.push_str(&format!(
                "{}: the device itself lost {}\n",
                port.name,
                lost.join(", ")
            ));
        }
    }
    grid.finish("no ports") + &own
}

impl Shown for Interfaces {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        let mut grid = Grid::new(&[
            ("interface", Left),
            ("state", Left),
            ("port", Left),
            ("vlan", Left),
            ("vrf", Left),
            ("mtu", Right),
            ("mac", Left),
            ("neighbors", Right),
            ("npt66", Left),
            ("addresses", Left),
        ]);
        for interface in &self.interfaces {
            let mut addresses = interface
                .addresses
                .iter()
                .map(|address| match &*address.state {
                    "preferred" => address.address.clone(),
                    state => format!("{} ({state})", address.address),
                });
            let first = addresses.next().unwrap_or_else(|| "-".to_owned());
            grid.row([
                interface.name.clone(),
                if interface.up { "up" } else { "down" }.to_owned(),
                interface.port.clone(),
                list(&interface.vlan),
                interface.vrf.clone(),
                interface.mtu.to_string(),
                interface.mac.clone(),
                count(interface.neighbors),
                list(&interface.npt66),
                first,
            ]);
            for address in addresses {
                let mut row = vec![String::new(); 9];
                row.push(address);
                grid.row(row);
            }
        }
        grid.finish("no interfaces")
    }
}

impl Shown for Routes {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        let mut grid = Grid::new(&[
            ("vrf", Left),
            ("prefix", Left),
            ("source", Left),
            ("action", Left),
            ("via", Left),
            ("interface", Left),
            ("weight", Right),
            ("state", Left),
            ("mac", Left),
        ]);
        for route in &self.routes {
            let head = [
                route.vrf.clone(),
                route.prefix.clone(),
                route.source.clone(),
                route.action.clone(),
            ];
            if route.next_hops.is_empty() {
                grid.row(head.iter().cloned().chain(vec!["-".to_owned(); 5]));
            }
            for (position, hop) in route.next_hops.iter().enumerate() {
                let head = head.iter().map(|text| {
                    if position == 0 {
                        text.clone()
                    } else {
                        String::new()
                    }
                });
                let tail = [
                    or_dash(hop.via.as_ref()),
                    hop.interface.clone(),
                    hop.weight.to_string(),
                    hop.state.clone(),
                    or_dash(hop.mac.as_ref()),
                ];
                grid.row(head.chain(tail));
            }
        }
        grid.finish("no routes")
    }
}

impl Shown for Neighbors {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        let mut grid = Grid::new(&[
            ("interface", Left),
            ("address", Left),
            ("mac", Left),
            ("state", Left),
            ("since", Right),
            ("flags", Left),
            ("waiting", Right),
        ]);
        for neighbor in &self.neighbors {
            let flags = [(neighbor.router, "router"), (neighbor.gateway, "gateway")];
            grid.row([
                neighbor.interface.clone(),
                neighbor.address.clone(),
                or_dash(neighbor.mac.as_ref()),
                neighbor.state.clone(),
                or_dash(
                    neighbor
                        .age_ms
                        .map(|age| duration(Duration::from_millis(age))),
                ),
                list(
                    flags
                        .iter()
                        .filter(|(is_set, _)| *is_set)
                        .map(|(_, name)| name),
                ),
                count(neighbor.queued),
            ]);
        }
        grid.finish("no neighbors")
    }
}

impl Shown for Npt66 {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        let mut rules = Grid::new(&[
            ("rule", Left),
            ("uplink", Left),
            ("inside", Left),
            ("outside", Left),
            ("proxy nd", Left),
            ("zero iid", Left),
        ]);
        for rule in &self.npt66 {
            rules.row([
                rule.counters.name.clone(),
                rule.interface.clone(),
                rule.inside.clone(),
                rule.outside.clone(),
                if rule.proxy_nd { "yes" } else { "no" }.to_owned(),
                rule.zero_iid.clone(),
            ]);
        }
        let counters: Vec<&RuleCounters> = self.npt66.iter().map(|rule| &rule.counters).collect();
        let traffic = rule_traffic(&counters, watch, |name| {
            part(earlier, |npt66| {
                let mut rules = npt66.npt66.iter().map(|rule| &rule.counters);
                rules.find(|rule| rule.name == name)
            })
        });
        format!("{}\n{traffic}", rules.finish("no rules"))
    }
}

fn rule_traffic<'a>(
    rules: &[&RuleCounters],
    watch: bool,
    earlier: impl Fn(&str) -> Earlier<'a, RuleCounters>,
) -> String {
    let columns = with_rates(
        &[
            ("rule", Left),
            ("out packets", Right),
            ("out bytes", Right),
            ("in packets", Right),
            ("in bytes", Right),
        ],
        &[
            ("out/s", Right),
            ("out", Right),
            ("in/s", Right),
            ("in", Right),
        ],
        watch,
    );
    let mut grid = Grid::new(&columns);
    for rule in rules {
        let mut row = vec![
            rule.name.clone(),
            count(rule.out_packets),
            count(rule.out_bytes),
            count(rule.in_packets),
            count(rule.in_bytes),
        ];
        if watch {
            let earlier = earlier(&rule.name);
            row.extend([
                rate(rule.out_packets, field(earlier, |rule| rule.out_packets)),
                bit_rate(rule.out_bytes, field(earlier, |rule| rule.out_bytes)),
                rate(rule.in_packets, field(earlier, |rule| rule.in_packets)),
                bit_rate(rule.in_bytes, field(earlier, |rule| rule.in_bytes)),
            ]);
        }
        grid.row(row);
    }
    grid.finish("no rules")
}

impl Shown for Instance {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, _earlier: Earlier<'_, Self>, _watch: bool) -> String {
        let mut rows = vec![
            ("name", self.name.clone()),
            ("version", self.version.clone()),
            ("engine", self.engine.clone()),
            ("memory", self.memory.clone()),
            ("process", self.pid.to_string()),
            (
                "running for",
                duration(Duration::from_nanos(self.monotonic_ns)),
            ),
            ("configuration", self.config.clone()),
            (
                "configurations",
                format!(
                    "{} applied, {} refused",
                    self.configurations_applied, self.configurations_refused
                ),
            ),
        ];
        // A Map-Server has no workers to publish to.
        if self.publications > 0 {
            let publications = count(self.publications);
            let pending = self.publications_pending;
            let tables = count(self.fib_bytes.div_ceil(1024));
            rows.extend([
                (
                    "publications",
                    format!("{publications}, {pending} not yet freed"),
                ),
                ("prefix tables", format!("{tables} KiB")),
            ]);
        }
        let mut text = String::new();
        if self.panics > 0 {
            let times = count(self.panics);
            text.push_str(&format!(
                "{:<16}{times} in the control thread, see the log\n",
                "BUGS"
            ));
        }
        for (name, value) in rows {
            text.push_str(&format!("{name:<16}{value}\n"));
        }
        text
    }
}
