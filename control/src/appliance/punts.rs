//! Packets from the workers: to neighbour discovery and ARP, to the echo responder, to LISP, or to wait for their next hop; and
//! what the protocols then want.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use dataplane::frame::Frame;
use dataplane::reason::PuntReason;
use dataplane::ring::{Injected, Punted};
use dataplane::wire::ethernet::{self, ETHERTYPE_IPV6, Mac};
use pipelines::tables::InterfaceId;
use pipelines::{Family, Meta};

use super::Appliance;
use super::discard::Discard;
use crate::platform::Platform;
use crate::proto::echo;
use crate::proto::ndp::{Event, Handled, InterfaceIndex, Output, RefusedReason};
use crate::publish;

/// Packets taken from one worker in one tick, so that timers and questions are never kept waiting for long.
const PUNTS_PER_TICK: usize = 256;

/// A packet that waits for its next hop.
pub(super) enum Waiting<F> {
    /// One that a worker handed over.
    Punted {
        /// The worker.
        worker: usize,
        frame: F,
        meta: Meta,
    },
    /// One of our own to a link-local destination, which no prefix table can find.
    Own {
        interface: InterfaceIndex,
        destination: Ipv6Addr,
        /// From the IPv6 header on.
        packet: Vec<u8>,
    },
}

impl<P: Platform> Appliance<P> {
    /// Take what the workers handed over.
    pub(super) fn receive_punts(&mut self, now: Instant) {
        self.more_punts = false;
        for worker in 0..self.workers.len() {
            for _ in 0..PUNTS_PER_TICK {
                let Ok(punted) = self.workers[worker].punts.pop() else {
                    break;
                };
                self.last_packet = now;
                self.receive(now, worker, punted);
            }
            self.more_punts |= !self.workers[worker].punts.is_empty();
        }
    }

    fn receive(&mut self, now: Instant, worker: usize, punted: Punted<P::Frame, Meta>) {
        let Punted {
            frame,
            meta,
            reason,
        } = punted;
        match reason {
            // Local: queries of multicast listener discovery.
            PuntReason::NeighborDiscovery | PuntReason::Local | PuntReason::Arp => {
                self.discover(now, &frame, &meta, reason);
            }
            PuntReason::Echo => self.reply(now, worker, &frame, &meta),
            PuntReason::NeighborMiss => self.resolve(now, worker, frame, meta),
            PuntReason::MapCacheMiss => {
                self.hear(now, &frame, &meta);
                self.handle_miss(now, worker, frame, meta);
            }
            PuntReason::DynamicEid => self.hear(now, &frame, &meta),
            PuntReason::LispControl => self.handle_lisp_control(now, &frame, &meta),
            PuntReason::Health => self.handle_health(now, &frame, &meta),
            PuntReason::PathMtu => self.handle_path_mtu(now, &frame, &meta),
        }
    }

    /// A message of neighbour discovery or ARP.
    fn discover(&mut self, now: Instant, frame: &P::Frame, meta: &Meta, reason: PuntReason) {
        let is_arp = reason == PuntReason::Arp;
        let invalid = if is_arp {
            Discard::ArpInvalid
        } else {
            Discard::NdInvalid
        };
        let source_mac = frame.bytes().get(6..).and_then(<[u8]>::first_chunk);
        let packet = frame.bytes().get(meta.l3_offset()..);
        let (Some(source_mac), Some(packet)) = (source_mac, packet) else {
            self.discards.count(invalid);
            return;
        };
        let interface = InterfaceIndex(meta.interface().0);
        let mac = Mac::from_octets(*source_mac);
        let handled = if is_arp {
            self.machine.handle_arp(now, interface, mac, packet)
        } else {
            self.machine.handle_input(now, interface, mac, packet)
        };
        if let Handled::Invalid(reason) = handled {
            tracing::debug!(
                "neighbour discovery or ARP message from {mac} is invalid: {}",
                reason.text()
            );
            self.discards.count(invalid);
        }
    }

    /// Answer an echo request.
    fn reply(&mut self, now: Instant, worker: usize, frame: &P::Frame, meta: &Meta) {
        let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
        match meta.family() {
            Family::V4 => self.reply_v4(worker, packet, meta.interface()),
            Family::V6 => self.reply_v6(now, worker, packet, meta.interface()),
        }
    }

    fn reply_v4(&mut self, worker: usize, packet: &[u8], id: InterfaceId) {
        match echo::reply_ipv4(packet) {
            Ok(reply) => self.originate(worker, &reply, Meta::originate(id).of(Family::V4)),
            Err(_) => self.discards.count(Discard::EchoUnanswerable),
        }
    }

    fn reply_v6(&mut self, now: Instant, worker: usize, packet: &[u8], id: InterfaceId) {
        let Some(position) = self.slots.position(id) else {
            self.discards.count(Discard::InterfaceGone);
            return;
        };
        let interface = &self.config.interfaces[position];
        let own = publish::link_local(interface, self.macs[interface.port]);
        let Ok(reply) = echo::reply(packet, own) else {
            self.discards.count(Discard::EchoUnanswerable);
            return;
        };
        let destination: [u8; 16] = *reply
            .get(24..)
            .and_then(<[u8]>::first_chunk)
            .expect("a reply has an IPv6 header");
        let destination = Ipv6Addr::from(destination);
        if destination.is_unicast_link_local() {
            let waiting = Waiting::Own {
                interface: InterfaceIndex(id.0),
                destination,
                packet: reply,
            };
            self.wait(now, id, destination.into(), waiting);
            return;
        }
        self.originate(worker, &reply, Meta::originate(id));
    }

    /// Send a packet of our own, from the IP header on, where the prefix table says.
    pub(super) fn originate(&mut self, worker: usize, packet: &[u8], meta: Meta) {
        // A worker overwrites the link header.
        let bytes = [&[0; ethernet::HEADER_LEN], packet].concat();
        match self.platform.allocate(&bytes) {
            Some(frame) => self.inject(worker, Injected::Resume { frame, meta }),
            None => self.discards.count(Discard::NoBuffer),
        }
    }

    /// A packet whose next hop has no MAC address in the tables it met.
    fn resolve(&mut self, now: Instant, worker: usize, frame: P::Frame, meta: Meta) {
        let unresolved = self.publisher.current().unresolved(&frame, &meta);
        let waiting = Waiting::Punted {
            worker,
            frame,
            meta,
        };
        match unresolved {
            Some((id, address)) => self.wait(now, id, address, waiting),
            // Newer tables know what to do with it.
            None => self.resume(waiting),
        }
    }

    fn wait(&mut self, now: Instant, id: InterfaceId, address: IpAddr, packet: Waiting<P::Frame>) {
        let interface = InterfaceIndex(id.0);
        let Err(refused) = self.machine.resolve(now, interface, address, packet) else {
            return;
        };
        self.discards.count(match refused.reason {
            RefusedReason::InterfaceDown => Discard::InterfaceGone,
            RefusedReason::NotOnLink => Discard::NotNeighbor,
            RefusedReason::QueueFull => Discard::NeighborQueueFull,
            RefusedReason::CacheFull
            | RefusedReason::TooManyIncomplete
            | RefusedReason::RateLimited => Discard::ResolutionLimit,
        });
    }

    /// Do what neighbour discovery and ARP want.
    pub(super) fn do_outputs(&mut self, now: Instant) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Transmit {
                    interface,
                    destination_mac,
                    ether_type,
                    packet,
                } => self.transmit(interface, destination_mac, ether_type, &packet),
                Output::NeighborsChanged => self.outdated = true,
                Output::Ready(waiting) if self.outdated => self.ready.push(waiting),
                Output::Ready(waiting) => self.resume(waiting),
                Output::Failed(waiting) => self.fail(waiting),
                Output::Heard { interface, address } => self.host_heard(now, interface, address),
                Output::Silent { interface, address } => self.host_silent(now, interface, address),
                Output::Event(event) => self.log(&event),
            }
        }
    }

    /// The next hop is known, and in the published tables.
    pub(super) fn resume(&mut self, waiting: Waiting<P::Frame>) {
        match waiting {
            Waiting::Punted {
                worker,
                frame,
                meta,
            } => self.inject(worker, Injected::Resume { frame, meta }),
            Waiting::Own {
                interface,
                destination,
                packet,
            } => match self.machine.usable(interface, destination.into()) {
                Some(mac) => self.transmit(interface, mac, ETHERTYPE_IPV6, &packet),
                None => self.discards.count(Discard::NeighborUnresolved),
            },
        }
    }

    /// The next hop does not answer: tell the packet's source (RFC 4861 7.2.2), unless that is us.
    fn fail(&mut self, waiting: Waiting<P::Frame>) {
        match waiting {
            Waiting::Punted {
                worker,
                frame,
                meta,
            } if !meta.is_originated() => {
                let meta = meta.unreachable();
                self.inject(worker, Injected::Resume { frame, meta });
            }
            Waiting::Punted { .. } | Waiting::Own { .. } => {
                self.discards.count(Discard::NeighborUnresolved);
            }
        }
    }

    /// What the operator calls an interface.
    pub(super) fn interface_name(&self, interface: InterfaceIndex) -> &str {
        let position = self.slots.position(InterfaceId(interface.0));
        position.map_or("a removed interface", |position| {
            &self.config.interfaces[position].name
        })
    }

    fn log(&mut self, event: &Event) {
        match event {
            Event::AddressValid { interface, address } => {
                // The address may be used from now on: tables have it.
                self.outdated = true;
                tracing::info!(
                    "{}: address {address} is ours",
                    self.interface_name(*interface)
                );
            }
            Event::AddressDuplicate {
                interface,
                address,
                by,
            } => {
                self.outdated = true;
                tracing::error!(
                    "{}: address {address} is not used: {by} has it already",
                    self.interface_name(*interface)
                );
            }
            Event::AddressConflict {
                interface,
                address,
                by,
            } => tracing::warn!(
                "{}: {by} claims our address {address}",
                self.interface_name(*interface)
            ),
            Event::ProbeLooped { interface, address } => tracing::warn!(
                "{}: our own probe for {address} came back: the link loops frames",
                self.interface_name(*interface)
            ),
            Event::GatewayResolved {
                interface,
                address,
                mac,
            } => tracing::info!(
                "{}: gateway {address} is at {mac}",
                self.interface_name(*interface)
            ),
            Event::GatewayUnreachable { interface, address } => tracing::warn!(
                "{}: gateway {address} does not answer",
                self.interface_name(*interface)
            ),
            Event::NeighborMoved {
                interface,
                address,
                from,
                to,
            } => tracing::info!(
                "{}: neighbour {address} moved from {from} to {to}",
                self.interface_name(*interface)
            ),
            Event::GatewayNotRouter { interface, address } => tracing::warn!(
                "{}: gateway {address} says that it is no router any more",
                self.interface_name(*interface)
            ),
            Event::CacheFull { interface } => tracing::warn!(
                "{}: the neighbour cache is full of neighbours in use",
                self.interface_name(*interface)
            ),
        }
    }
}
