//! Health checks in the running instance: sent by way of the workers, as packets of our own, and answered to them.

use std::time::Instant;

use dataplane::frame::Frame as _;
use dataplane::wire::ethernet::ETHERTYPE_IPV6;
use pipelines::{Meta, steer};

use super::Appliance;
use super::discard::Discard;
use super::steering::find;
use crate::admin::view::HealthView;
use crate::config::health::Target;
use crate::config::steering::Mode;
use crate::platform::Platform;
use crate::proto::health::{Handled, Health, Output, ServerKey};
use crate::proto::ndp::InterfaceIndex;
use crate::publish;

/// How a check leaves.
enum Way {
    /// To where the prefix table says, by the VRF of this interface.
    Routed(Meta),
    /// To a server's own address in a packet of ours, likewise.
    Tunnel(Meta, steer::Mode),
    /// By the server's link-layer address.
    Link(InterfaceIndex),
}

impl<P: Platform> Appliance<P> {
    /// Servers are checked as the configuration says.
    pub(super) fn configure_health(&mut self, now: Instant) {
        let targets = publish::health_targets(&self.config, self.steering.seed);
        self.steering.health.configure(now, targets);
    }

    /// An answer to a check.
    pub(super) fn handle_health(&mut self, now: Instant, frame: &P::Frame, meta: &Meta) {
        let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
        let machine = &mut self.steering.health;
        match machine.handle_input(now, meta.vrf().0, packet) {
            Handled::Taken => {}
            Handled::Unexpected => self.discards.count(Discard::HealthUnexpected),
            Handled::Invalid => self.discards.count(Discard::HealthInvalid),
        }
    }

    /// Checks that are due are sent, and servers whose state changed get flows, or none.
    pub(super) fn tick_health(&mut self, now: Instant) {
        self.steering.health.handle_timeout(now);
        let mut is_changed = false;
        while let Some(output) = self.steering.health.poll_output() {
            match output {
                Output::Transmit { key, packet } => self.send_check(now, &key, packet),
                Output::Changed {
                    key,
                    from,
                    to,
                    cause,
                } => {
                    is_changed |= from.takes_flows() != to.takes_flows() || from == Health::Untried;
                    let (pool, server) = (&key.0, self.server_name(&key));
                    match cause {
                        None => tracing::info!("pool {pool}, server {server}: {}", to.name()),
                        Some(cause) => {
                            tracing::warn!("pool {pool}, server {server}: {}: {cause}", to.name());
                        }
                    }
                }
            }
        }
        if is_changed {
            self.configure_steering(now);
        }
    }

    fn send_check(&mut self, now: Instant, key: &ServerKey, packet: Vec<u8>) {
        match self.way_of_check(key) {
            Some(Way::Routed(meta)) => self.originate(self.first_alive(), &packet, meta),
            Some(Way::Tunnel(meta, mode)) => {
                if let Some((packet, family)) = steer::encapsulated(mode, key.1, &packet) {
                    self.originate(self.first_alive(), &packet, meta.of(family));
                }
            }
            Some(Way::Link(interface)) => match self.machine.usable(interface, key.1.into()) {
                Some(mac) => self.transmit(interface, mac, ETHERTYPE_IPV6, &packet),
                None => self.steering.health.fail(now, key),
            },
            // It is checked no longer.
            None => {}
        }
    }

    fn way_of_check(&self, key: &ServerKey) -> Option<Way> {
        let (pool, server) = find(&self.config, key)?;
        let of_vrf = |one: &crate::config::Interface| one.vrf == pool.vrf;
        let any = self.config.interfaces.iter().position(of_vrf);
        let position = server.interface.or(any)?;
        let interface = self.slots.id(position);
        let meta = Meta::originate(interface);
        let target = pool.health.as_ref()?.target;
        Some(match (target, pool.mode) {
            (Target::Server, _) | (_, Mode::Dnat | Mode::FullNat) => Way::Routed(meta),
            (Target::Service, Mode::L2) => Way::Link(InterfaceIndex(interface.0)),
            (Target::Service, Mode::Ip6Ip6 | Mode::Ipip | Mode::Gue) => {
                Way::Tunnel(meta, publish::steering::mode(pool))
            }
        })
    }

    fn server_name(&self, key: &ServerKey) -> String {
        let server = find(&self.config, key);
        server.map_or(key.1.to_string(), |(_, server)| server.name.clone())
    }

    /// How a server is doing; `None`: it is not checked.
    pub(super) fn show_health(&self, now: Instant, key: &ServerKey) -> Option<HealthView> {
        let report = self.steering.health.report(key)?;
        let ago = |moment: Instant| now.saturating_duration_since(moment).as_secs_f64();
        let result = report.last.map(|(_, result)| result);
        Some(HealthView {
            state: report.health.name().to_owned(),
            since_s: ago(report.since),
            changes: report.changes,
            last_s: report.last.map(|(moment, _)| ago(moment)),
            answer_ms: result
                .and_then(Result::ok)
                .map(|took| took.as_secs_f64() * 1e3),
            cause: result.and_then(Result::err).map(|cause| cause.to_string()),
            checks: report.checks.0,
            failures: report.checks.1,
        })
    }
}
