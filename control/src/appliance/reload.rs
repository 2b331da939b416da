//! A configuration comes into force: the first one, and any later one, as a whole or not at all.

use std::fmt::Write as _;
use std::time::Instant;

use super::Appliance;
use super::changes::changes;
use crate::admin::protocol::{Answer, Refusal};
use crate::admin::view::Reloaded;
use crate::config::{self, Config};
use crate::platform::Platform;
use crate::proto::ndp::{InterfaceIndex, Machine, Settings};
use crate::publish::{self, Network};
use crate::slots::Slots;

/// Timing and limits of neighbour discovery and ARP.
pub(super) fn settings(config: &Config) -> Settings {
    let ndp = &config.ndp;
    Settings {
        retrans_timer: ndp.retrans_timer,
        reachable_time: ndp.reachable_time,
        dad_transmits: u8::try_from(ndp.dad_transmits).unwrap_or(u8::MAX),
        max_neighbors: ndp.max_neighbors,
        max_incomplete: ndp.max_incomplete,
        queue_packets: ndp.queue_packets,
        ..Settings::default()
    }
}

impl<P: Platform> Appliance<P> {
    /// Read the configuration file again and apply it as one publication, or say why not and change nothing.
    pub fn reload(&mut self, now: Instant) -> Answer {
        let outcome = self.try_reload(now);
        match &outcome {
            Ok(reloaded) => {
                self.counts.configurations_applied += 1;
                let changes = match &reloaded.changes[..] {
                    [] => "nothing changed".to_owned(),
                    changes => changes.join("; "),
                };
                tracing::info!("configuration {} applied: {changes}", reloaded.config);
            }
            Err(error) => {
                self.counts.configurations_refused += 1;
                tracing::error!("configuration refused, the old one stays in force:\n{error}");
            }
        }
        match outcome {
            Ok(reloaded) => Answer::done(reloaded),
            Err(error) => Answer::refused(Refusal::Configuration, error),
        }
    }

    fn try_reload(&mut self, now: Instant) -> Result<Reloaded, String> {
        let path = self.config_path.display().to_string();
        let new = config::load(&self.config_path).map_err(|errors| errors.to_string())?;
        config::reload_plan(&self.config, &new).map_err(|needed| {
            let mut text = String::new();
            for change in needed {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{path}: {change}");
            }
            text
        })?;
        // Rules and interfaces are tried against the new tables before anything is touched; neighbours come below.
        let slots = self.slots.assign(&new);
        let links: Vec<bool> = self.links.iter().map(|link| link.up).collect();
        publish::builder(&Network {
            config: &new,
            slots: &slots,
            macs: &self.macs,
            links: &links,
            machine: &Machine::<()>::new(settings(&new), fastrand::Rng::with_seed(0)),
            hosts: &publish::Hosts::new(),
        })
        .map_err(|error| format!("{path}: {error}"))?;

        let mut changes = changes(&self.config, &new);
        let old_slots = std::mem::replace(&mut self.slots, slots);
        let sums = self.rule_sums();
        self.rules.rename(&new, &sums);
        self.config = new;
        self.set_routes();
        changes.extend(self.configure_lisp(now));
        self.configure_health(now);
        self.configure_steering(now);
        self.machine.set_settings(settings(&self.config));
        self.configure_machine(now, &old_slots);
        self.look_at_hosts(now);
        self.look_at_rlocs(now);
        self.publish_anew(now);
        Ok(Reloaded {
            config: path,
            changes,
        })
    }

    /// Tell the prefix tables what the configuration says; in force with the next publication.
    pub(super) fn set_routes(&mut self) {
        self.rib
            .set_routes(publish::routes(&self.config, &self.slots));
    }

    /// Tell neighbour discovery what the configuration says. What it knows already is not disturbed.
    pub(super) fn configure_machine(&mut self, now: Instant, old_slots: &Slots) {
        let Self {
            config,
            slots,
            machine,
            macs,
            links,
            lisp,
            ..
        } = self;
        for (id, position) in old_slots.iter() {
            if position.is_some() && slots.position(id).is_none() {
                machine.set_interface(now, InterfaceIndex(id.0), None);
            }
        }
        for (position, interface) in config.interfaces.iter().enumerate() {
            let index = InterfaceIndex(slots.id(position).0);
            let mac = macs[interface.port];
            let is_new = old_slots.position(slots.id(position)).is_none();
            let away = lisp.away();
            let interface_config = publish::neighbor_discovery(config, position, mac, away);
            machine.set_interface(now, index, Some(interface_config));
            if is_new && !links[interface.port].up {
                machine.set_link(now, index, false);
            }
            machine.set_gateways(now, index, gateways(config, position));
        }
        self.outdated = true;
    }
}

/// Routers that routes name on this interface, and servers on its link: their MAC addresses are known at all times.
fn gateways(config: &Config, interface: usize) -> Vec<std::net::IpAddr> {
    let mut gateways: Vec<_> = config
        .routes
        .iter()
        .filter_map(|route| match &route.target {
            config::Target::NextHops(hops) => Some(hops),
            config::Target::Blackhole | config::Target::Unreachable => None,
        })
        .flatten()
        .filter(|hop| hop.interface == interface)
        .filter_map(|hop| hop.via)
        .collect();
    let servers = config.steering.pools.iter().flat_map(|pool| &pool.servers);
    let servers = servers.filter(|server| server.interface == Some(interface));
    gateways.extend(servers.map(config::steering::Server::ip));
    gateways.sort_unstable();
    gateways.dedup();
    gateways
}
