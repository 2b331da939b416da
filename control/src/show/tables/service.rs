//! `sextant show services` as tables.

use std::time::Duration;

use super::super::grid::Side::{Left, Right};
use super::super::grid::{Grid, count, duration, list, or_dash, rate};
use super::{Earlier, Shown, field, part, with_rates};
use crate::admin::view::{OnChangeView, PoolView, ServerView, ServiceView, Services};

impl Shown for Services {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    fn render(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        let mut services = Grid::new(&[
            ("service", Left),
            ("prefix", Left),
            ("protocol", Left),
            ("ports", Left),
            ("pool", Left),
            ("affinity", Left),
            ("announcement", Left),
        ]);
        for service in &self.services {
            services.row([
                service.name.clone(),
                service.prefix.clone(),
                service.protocol.clone(),
                match service.ports[..] {
                    [] => "all".to_owned(),
                    _ => list(&service.ports),
                },
                pools_of(service),
                service.affinity.clone(),
                announcement(service),
            ]);
        }
        let mut pools = Grid::new(&[
            ("pool", Left),
            ("vrf", Left),
            ("mode", Left),
            ("when down", Left),
            ("table", Right),
            ("digest", Left),
        ]);
        for pool in &self.pools {
            pools.row([
                pool.name.clone(),
                pool.vrf.clone(),
                pool.mode.clone(),
                pool.when_down.clone(),
                count(u64::from(pool.table_size)),
                pool.digest.clone(),
            ]);
        }
        format!(
            "{}\n{}\n{}\n{} flows remembered by each worker at most; {} displaced, {} without memory, {} moved\n{}",
            services.finish("no services"),
            pools.finish("no pools"),
            self.servers(earlier, watch),
            count(u64::from(self.flows_max)),
            count(self.displaced),
            count(self.stateless),
            count(self.moved),
            self.told(),
        )
    }
}

impl Services {
    /// Where this is, and what became of the command that follows announcements.
    fn told(&self) -> String {
        let OnChangeView {
            runs,
            failures,
            last_failure,
        } = &self.on_change;
        let last = last_failure.as_ref();
        let last = last.map_or(String::new(), |last| format!(": {last}"));
        let command = match runs {
            0 => String::new(),
            _ => format!("; on_change ran {runs} times, {failures} failed{last}"),
        };
        format!("node {}{command}\n", self.node)
    }

    fn servers(&self, earlier: Earlier<'_, Self>, watch: bool) -> String {
        let columns = with_rates(
            &[
                ("pool", Left),
                ("server", Left),
                ("address", Left),
                ("state", Left),
                ("health", Left),
                ("weight", Right),
                ("share", Right),
                ("flows now", Right),
                ("flows", Right),
                ("packets", Right),
                ("bytes", Right),
            ],
            &[("flows/s", Right), ("packets/s", Right)],
            watch,
        );
        let mut grid = Grid::new(&columns);
        for pool in &self.pools {
            for server in &pool.servers {
                let before = part(earlier, |all| find(&all.pools, &pool.name, &server.address));
                let mut row = vec![
                    pool.name.clone(),
                    server.name.clone(),
                    server.address.clone(),
                    state(server),
                    health(server),
                    server.weight.to_string(),
                    format!("{:.1} %", 100.0 * server.share),
                    or_dash(server.flows_now.map(count)),
                    count(server.counts.flows),
                    count(server.counts.packets),
                    count(server.counts.bytes),
                ];
                if watch {
                    row.push(rate(
                        server.counts.flows,
                        field(before, |server| server.counts.flows),
                    ));
                    let packets = field(before, |server| server.counts.packets);
                    row.push(rate(server.counts.packets, packets));
                }
                grid.row(row);
            }
        }
        grid.finish("no servers")
    }
}

fn find<'a>(pools: &'a [PoolView], pool: &str, address: &str) -> Option<&'a ServerView> {
    let pool = pools.iter().find(|other| other.name == pool)?;
    pool.servers.iter().find(|server| server.address == address)
}

/// The pool, and those of some clients.
fn pools_of(service: &ServiceView) -> String {
    let by_source = service.pools.iter();
    let by_source = by_source.map(|one| format!("{} from {}", one.pool, one.source));
    let all = [service.pool.clone()].into_iter().chain(by_source);
    all.collect::<Vec<_>>().join(", ")
}

/// Whether it is to be announced, and since when.
fn announcement(service: &ServiceView) -> String {
    let announcement = &service.announcement;
    let since = Duration::from_secs(announcement.since_s as u64); // `as`: whole seconds
    format!("{} for {}", announcement.state, duration(since))
}

/// The state, and what is to be known beside it.
fn state(server: &ServerView) -> String {
    let mut text = server.state.clone();
    if server.overridden {
        text.push_str(", by hand");
    }
    for agent in &server.agents {
        text.push_str(&format!(", down says {}", agent.agent));
    }
    if let Some(drain) = &server.drain {
        if drain.when_idle {
            text.push_str(", until idle");
        }
        if let Some(left) = drain.deadline_s {
            let left = Duration::from_secs(left as u64); // `as`: whole seconds
            text.push_str(&format!(", {} left", duration(left)));
        }
    }
    if server.resolved == Some(false) {
        text.push_str(", unresolved");
    }
    text
}

/// What checks say, since when, and why.
fn health(server: &ServerView) -> String {
    let Some(health) = &server.health else {
        return "not checked".to_owned();
    };
    let mut text = health.state.clone();
    if health.checks > 0 {
        let since = Duration::from_secs(health.since_s as u64); // `as`: whole seconds
        text = format!("{text} for {}", duration(since));
    }
    match (&health.cause, health.answer_ms) {
        (Some(cause), _) => format!("{text}, {cause}"),
        (None, Some(took)) => format!("{text}, {took:.1} ms"),
        (None, None) => text,
    }
}
